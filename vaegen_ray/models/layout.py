"""The networks as data: a list of layers with their sizes, from which parameters, FLOPs and bytes are counted.

The modules in ``networks.py`` are built from the same list, so what a plan counts is what is trained. Needs no torch.
Sources: xiao2024, Tables 3-6 and Appendix B.1; bozkurt2021, Section 4.3. The residual decoder has two transposed
convolutions, since the encoder halves the image twice, and its last convolution has as many channels as the likelihood
needs.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from vaegen_ray.errors import SpecError
from vaegen_ray.models import registry
from vaegen_ray.models.layer import Kind, Layer
from vaegen_ray.spec.trial import TrialSpec


def likelihood_channels(spec: TrialSpec) -> int:
    """Channels that the decoder must give for a pixel (all colours together)."""
    colours = spec.image_shape[0]
    per_component = 1 + 2 * colours + (3 if colours == 3 else 0)  # logit, means and log-scales, colour coefficients
    return {
        "bernoulli": colours,
        "gaussian": colours,
        "logistic": 2 * colours,
        "logistic_mixture": spec.mixture_components * per_component,
    }[spec.likelihood]


def encoder_layers(spec: TrialSpec) -> tuple[Layer, ...]:
    """Layers from the image to the parameters of q(z|x), in order of use."""
    colours, height, width = spec.image_shape
    if spec.network_version:
        return _own_layers(registry.find_network(spec).encoder, spec)
    if spec.architecture == "fully_connected":
        widths = [spec.pixels, *[spec.nc] * spec.hidden_layers, 2 * spec.latent_dim]
        return _chain(widths, (*_numbered("in", spec.hidden_layers), "posterior"), in_theta_z="posterior")
    if spec.architecture == "convolutional":
        posterior = Layer(
            name="posterior", kind="linear", n_in=_features(spec), n_out=2 * spec.latent_dim, in_theta_z=True
        )
        return (*_strided("down", "conv", spec, colours, spec.nc), posterior)
    half, grid = height * width // 4, height * width // 16
    return (
        Layer(
            name="down1",
            kind="conv",
            n_in=colours,
            n_out=spec.nc,
            kernel=4,
            stride=2,
            cells=half,
            bias=False,
            norm=True,
        ),
        Layer(
            name="down2",
            kind="conv",
            n_in=spec.nc,
            n_out=spec.nc,
            kernel=4,
            stride=2,
            cells=grid,
            bias=False,
            norm=True,
        ),
        *_residual_block("block1", spec, grid),
        *_residual_block("block2", spec, grid),
        Layer(name="posterior", kind="conv", n_in=spec.nc, n_out=2 * spec.mz, cells=grid, in_theta_z=True),
    )


def decoder_layers(spec: TrialSpec) -> tuple[Layer, ...]:
    """Layers from z to the parameters of p(x|z), in order of use."""
    _, height, width = spec.image_shape
    channels = likelihood_channels(spec)
    if spec.network_version:
        return _own_layers(registry.find_network(spec).decoder, spec)
    if spec.architecture == "fully_connected":
        widths = [spec.latent_dim, *[spec.nc] * spec.hidden_layers, channels * height * width]
        return _chain(widths, (*_numbered("latent", spec.hidden_layers), "out"), in_theta_z="latent")
    if spec.architecture == "convolutional":
        latent = Layer(name="latent", kind="linear", n_in=spec.latent_dim, n_out=_features(spec), in_theta_z=True)
        return (latent, *_strided("up", "transposed", spec, spec.nc, channels))
    half, grid = height * width // 4, height * width // 16
    return (
        Layer(
            name="latent", kind="conv", n_in=spec.mz, n_out=spec.nc, cells=grid, bias=False, norm=True, in_theta_z=True
        ),
        *_residual_block("block1", spec, grid),
        *_residual_block("block2", spec, grid),
        _upsampling("up1", spec, grid),
        _upsampling("up2", spec, half),
        Layer(name="out", kind="conv", n_in=spec.nc, n_out=channels, cells=height * width),
    )


def _own_layers(part: Any, spec: TrialSpec) -> tuple[Layer, ...]:
    """What a part of a network of your own says."""
    said = part.build_layers(spec)
    names = [getattr(layer, "name", None) for layer in said] if isinstance(said, tuple) else []
    if not names or not all(isinstance(layer, Layer) for layer in said) or len(set(names)) < len(names):
        raise SpecError(
            f"build_layers of {spec.architecture} must return a tuple of Layers with different names; got {said!r}"
        )
    return said


def _numbered(first: str, layers: int) -> tuple[str, ...]:
    """Names of the hidden layers of a fully-connected network."""
    return (first, "hidden", *(f"hidden{i}" for i in range(2, layers)))[:layers]


def _chain(widths: list[int], names: tuple[str, ...], in_theta_z: str) -> tuple[Layer, ...]:
    """Fully-connected layers from each width to the next; with one layer alone it is the one that touches z."""
    return tuple(
        Layer(name=name, kind="linear", n_in=n_in, n_out=n_out, in_theta_z=name == in_theta_z or len(names) == 1)
        for name, (n_in, n_out) in zip(names, pairwise(widths), strict=True)
    )


def latent_grid(spec: TrialSpec) -> tuple[int, int]:
    """Height and width, in cells, of what the strided convolutions leave of an image."""
    _, height, width = spec.image_shape
    return height >> spec.hidden_layers, width >> spec.hidden_layers


def _features(spec: TrialSpec) -> int:
    """Numbers behind the last convolution of the convolutional encoder."""
    height, width = latent_grid(spec)
    return spec.nc * height * width


def _strided(name: str, kind: Kind, spec: TrialSpec, n_in: int, n_out: int) -> Iterator[Layer]:
    """``hidden_layers`` convolutions with kernel 4 and stride 2, ``nc`` channels between them (bozkurt2021, Section
    4.3)."""
    height, width = latent_grid(spec)
    channels = [n_in, *[spec.nc] * (spec.hidden_layers - 1), n_out]
    for i, ends in enumerate(pairwise(channels)):
        scale = spec.hidden_layers - 1 - i if kind == "conv" else i  # the grid has grown so many times
        cells = height * width * 4**scale
        yield Layer(name=f"{name}{i + 1}", kind=kind, n_in=ends[0], n_out=ends[1], kernel=4, stride=2, cells=cells)


def _upsampling(name: str, spec: TrialSpec, cells: int) -> Layer:
    return Layer(
        name=name,
        kind="transposed",
        n_in=spec.nc,
        n_out=spec.nc,
        kernel=4,
        stride=2,
        cells=cells,
        bias=False,
        norm=True,
    )


def _residual_block(name: str, spec: TrialSpec, cells: int) -> Iterator[Layer]:
    for part, kernel in (("first", 3), ("second", spec.residual_kernel)):
        yield Layer(
            name=f"{name}_{part}",
            kind="conv",
            n_in=spec.nc,
            n_out=spec.nc,
            kernel=kernel,
            cells=cells,
            bias=False,
            norm=True,
        )


def layers(spec: TrialSpec) -> tuple[Layer, ...]:
    """All layers of one VAE."""
    return encoder_layers(spec) + decoder_layers(spec)


def params_z(spec: TrialSpec) -> int:
    """|Theta_z|: weights and biases of the last encoder layer and the first decoder layer."""
    return sum(layer.affine_params for layer in layers(spec) if layer.in_theta_z)


def params_total(spec: TrialSpec) -> int:
    """|Theta|: all trainable numbers of one VAE."""
    return sum(layer.params for layer in layers(spec))


def flops_per_image(spec: TrialSpec) -> int:
    """Floating point operations of a forward pass for one image: two for each multiplication with a weight."""
    return sum(2 * layer.cells * math.prod(layer.weight_shape) for layer in layers(spec))


LIKELIHOOD_COST = {"bernoulli": 3, "gaussian": 1, "logistic": 8, "logistic_mixture": 9}
"""How often as long as an activation a number of the decoder's output takes in the likelihood."""


def numbers_per_image(spec: TrialSpec) -> int:
    """Numbers that a forward pass computes one by one for an image, in activations and in the likelihood."""
    every = layers(spec)
    return sum(layer.outputs for layer in every) + LIKELIHOOD_COST[spec.likelihood] * every[-1].outputs


def training_flops(spec: TrialSpec) -> int:
    """Floating point operations of a whole training; the backward pass counts twice the forward pass."""
    return 3 * flops_per_image(spec) * spec.steps * spec.batch_size


NOISE_BLOCK = 500
"""Images whose noise is drawn together in an evaluation."""
CHUNK_BYTES = 2**28
"""Memory that the activations of a chunk of images may take in an evaluation."""


def state_bytes(spec: TrialSpec) -> int:
    """Bytes of the weights, their gradients and Adam's two moments, in float32."""
    return 4 * 4 * params_total(spec)


def activation_bytes(spec: TrialSpec) -> int:
    """Bytes kept for one image between the forward and the backward pass, in float32.

    Every layer keeps its output, a layer with BatchNorm and ReLU about three of them; the likelihood keeps a few more
    of the decoder's output.
    """
    kept = sum(layer.outputs * (3 if layer.norm else 2) for layer in layers(spec))
    return 4 * (kept + 6 * layers(spec)[-1].outputs + 12 * spec.latent_dim)


def member_bytes(spec: TrialSpec) -> int:
    """Bytes that a member of a bundle takes while it trains."""
    return state_bytes(spec) + activation_bytes(spec) * spec.batch_size
