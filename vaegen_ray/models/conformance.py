"""What a network must hold to train in bundles, tried on numbers before a sweep starts.

M members are built together and alone, and see the same images and noise. Shapes are those that ``VAE`` expects; all
weights belong to declared layers; twice the same input gives twice the same output; and a member's output and gradient
are, together and alone, the same. In evaluation an image's output does not depend on the images beside it. The networks
of the package hold all of it, and so must yours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from vaegen_ray.errors import SpecError, VaegenError, in_one_line
from vaegen_ray.models.layout import decoder_layers, encoder_layers, likelihood_channels, params_total
from vaegen_ray.models.networks import NetworkPart
from vaegen_ray.models.registry import find_network
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec

MEMBERS, IMAGES = 3, 4
TOLERANCE = 1e-3
"""Largest difference that rounding may make, relative to the largest number of a tensor."""


def check_network(spec: TrialSpec) -> None:
    """Tries the network of your own that a trial names, in the sizes of the trial.

    Raises:
        SpecError: what it does not hold, in one line.
    """
    network, name = find_network(spec), spec.architecture
    check_size(spec)
    for part, kind in (("encoder", network.encoder), ("decoder", network.decoder)):
        if not issubclass(kind, NetworkPart):
            raise SpecError(f"the {part} of {name} must be a subclass of NetworkPart; got {kind.__name__}")
    specs = [replace(spec, seed=seed) for seed in range(MEMBERS)]
    with _one_line(f"{name} must be built by NetworkPart's constructor from build_layers"):
        together, alone = VAE(specs), [VAE([each]) for each in specs]
    _check_weights(together, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.rand(MEMBERS, IMAGES, *spec.image_shape)
        z = torch.randn(MEMBERS, IMAGES, spec.latent_dim)
        _check_shapes(together.eval(), x, z, name)
        with _one_line(f"{name} must work alone and in a bundle, forwards and backwards"):
            for training in (False, True):  # statistics of a BatchNorm are as they began while evaluation is tried
                for vae in (together, *alone):
                    vae.train(training)
                for part, given in (("encoder", x), ("decoder", z)):
                    _check_members(together, alone, part, given, name)
            _check_images(together.eval(), x, z, name)


def check_size(spec: TrialSpec) -> None:
    """Asks the network of your own that a trial names whether it can be built for the trial.

    Raises:
        SpecError: it cannot.
    """
    network = find_network(spec)
    with _one_line(f"check of {spec.architecture} must raise a SpecError or nothing"):
        if network.check is not None:
            network.check(spec)
    with _one_line(f"build_layers of {spec.architecture} must return a tuple of Layers"):
        params_total(spec)


@contextmanager
def _one_line(rule: str) -> Iterator[None]:
    """What code of yours raises, in one line."""
    try:
        yield
    except VaegenError:
        raise
    except Exception as error:
        raise SpecError(f"{rule}; got an error: {in_one_line(error)}") from error


def _check_weights(vae: VAE, name: str) -> None:
    spec = vae.spec
    for what, tensors in (("parameter", vae.named_parameters()), ("buffer", vae.named_buffers())):
        for label, tensor in tensors:
            if tensor.dim() == 0 or len(tensor) != vae.members:
                raise SpecError(
                    f"every {what} of {name} must have the members as its first dimension, here {vae.members}; got "
                    f"{tuple(tensor.shape)} of {label}"
                )
    counted = sum(parameter[0].numel() for parameter in vae.parameters())
    if counted != params_total(spec):
        raise SpecError(
            f"all weights of {name} must belong to the layers of build_layers, which have {params_total(spec):,} "
            f"parameters a member; got modules with {counted:,}"
        )
    if not all(any(layer.in_theta_z for layer in part) for part in (encoder_layers(spec), decoder_layers(spec))):
        raise SpecError(
            f"the last encoder layer of {name} and the first of its decoder must have in_theta_z=True; got others"
        )


def _check_shapes(vae: VAE, x: Tensor, z: Tensor, name: str) -> None:
    spec = vae.spec
    wanted = {
        "encoder": (x, (MEMBERS, IMAGES, 2 * spec.latent_dim), "[M, B, 2Z]"),
        "decoder": (z, (MEMBERS, IMAGES, likelihood_channels(spec), *spec.image_shape[1:]), "[M, B, K, H, W]"),
    }
    for part, (given, shape, letters) in wanted.items():
        with _one_line(f"the {part} of {name} must take {tuple(given.shape)}"):
            got = _part(vae, part)(given)
        if not isinstance(got, Tensor) or tuple(got.shape) != shape:
            what = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
            raise SpecError(f"the {part} of {name} must give {letters}, here {shape}; got {what}")
        if not torch.isfinite(got).all():
            raise SpecError(f"the {part} of {name} must give finite numbers at the start; got some that are not")


def _check_members(together: VAE, alone: list[VAE], part: str, given: Tensor, name: str) -> None:
    """A member among others against the same member alone: output, and gradient of every weight."""
    mode = "training" if together.training else "evaluation"
    network = _part(together, part)
    output = network(given)
    if not _close(output, network(given)):
        raise SpecError(
            f"the {part} of {name} must give the same output for the same input in {mode}; got two that differ (no "
            f"dropout, and no random numbers of its own)"
        )
    if not output.requires_grad:
        raise SpecError(f"the {part} of {name} must let gradients reach its weights; got an output without any")
    together.zero_grad()
    output.square().mean(dim=tuple(range(1, output.dim()))).sum().backward()
    ours = dict(network.named_parameters())
    for member, single in enumerate(alone):
        single.zero_grad()
        own = _part(single, part)
        own_output = own(given[member : member + 1])
        own_output.square().mean().backward()
        for label, parameter in own.named_parameters():
            if not torch.equal(parameter[0], ours[label][member]):
                raise SpecError(
                    f"weights of a member of {name} must be drawn from its own seed alone; got others in a bundle, "
                    f"{label} of the {part} (see Network.initialise)"
                )
        if not _close(output[member], own_output[0]):
            raise SpecError(
                f"members of a bundle of {name} must not influence each other; got a member whose {part} gives other "
                f"numbers beside {MEMBERS - 1} others than alone, in {mode} (is something summed or normalised over "
                f"the first dimension?)"
            )
        largest = max(float(_gradient(parameter).abs().max()) for parameter in own.parameters())
        for label, parameter in own.named_parameters():  # some may be zero but for rounding
            if not _close(_gradient(ours[label])[member], _gradient(parameter)[0], largest):
                raise SpecError(
                    f"members of a bundle of {name} must not influence each other; got a gradient of {label} of the "
                    f"{part} that is another beside {MEMBERS - 1} others than alone, in {mode}"
                )


def _check_images(vae: VAE, x: Tensor, z: Tensor, name: str) -> None:
    for part, given in (("encoder", x), ("decoder", z)):
        network = _part(vae, part)
        if not _close(network(given)[:, :1], network(given[:, :1])):
            raise SpecError(
                f"in evaluation an image's output of {name} must not depend on the images beside it; got a {part} "
                f"whose first image gives other numbers in a batch of {IMAGES} than alone"
            )


def _part(vae: VAE, part: str) -> nn.Module:
    return vae.encoder if part == "encoder" else vae.decoder


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _close(a: Tensor, b: Tensor, scale: float = 0.0) -> bool:
    """Whether two tensors are the same but for rounding, relative to their largest number, or to ``scale``."""
    if a.shape != b.shape:
        return False
    scale = max(scale, float(a.detach().abs().max()), float(b.detach().abs().max()), 1e-12)
    return float((a - b).detach().abs().max()) <= TOLERANCE * scale
