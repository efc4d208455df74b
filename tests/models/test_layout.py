"""Counts of parameters, FLOPs and bytes against arithmetic by hand, the real modules, and PyTorch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vaegen_ray.models.layout import (
    activation_bytes,
    flops_per_image,
    likelihood_channels,
    member_bytes,
    params_total,
    params_z,
    state_bytes,
    training_flops,
)
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec

DENSE_SMALL = TrialSpec(nc=16, mz=3)  # binary 8x8: 64 pixels, Z = 6
DENSE_COLOUR = TrialSpec(
    image_shape=(3, 4, 5), levels=256, likelihood="logistic_mixture", mixture_components=2, nc=7, mz=5, latent_per_mz=1
)
RESIDUAL_SMALL = TrialSpec(architecture="residual", nc=4, mz=3, latent_per_mz=4)  # grid 2x2
RESIDUAL_COLOUR = TrialSpec(
    architecture="residual",
    image_shape=(3, 8, 16),
    levels=256,
    likelihood="logistic_mixture",
    mixture_components=2,
    nc=6,
    mz=2,
    latent_per_mz=8,
    residual_kernel=1,
)
DENSE_DEEP, DENSE_SHALLOW = (TrialSpec(nc=16, mz=3, hidden_layers=layers) for layers in (3, 1))
STRIDED = TrialSpec(architecture="convolutional", hidden_layers=1, image_shape=(3, 8, 16), nc=6, mz=5)
STRIDED_DEEP = TrialSpec(architecture="convolutional", hidden_layers=3, image_shape=(3, 8, 16), nc=6, mz=5)
SPECS = [
    pytest.param(DENSE_DEEP, id="dense, 3 layers"),
    pytest.param(DENSE_SHALLOW, id="dense, 1 layer"),
    pytest.param(STRIDED, id="strided"),
    pytest.param(STRIDED_DEEP, id="strided, 3 layers"),
    pytest.param(DENSE_SMALL, id="dense"),
    pytest.param(DENSE_COLOUR, id="dense, colour"),
    pytest.param(RESIDUAL_SMALL, id="residual"),
    pytest.param(RESIDUAL_COLOUR, id="residual, colour"),
]


def block(nc: int, kernel: int) -> int:
    """A residual block: two convolutions without bias, each with the scale and shift of a BatchNorm."""
    return 9 * nc * nc + kernel * kernel * nc * nc + 2 * (2 * nc)


def test_parameters_of_fully_connected_by_hand():
    # 64-16-16-12 and 6-16-16-64, weights and biases.
    encoder = 64 * 16 + 16 + 16 * 16 + 16 + 16 * 12 + 12
    decoder = 6 * 16 + 16 + 16 * 16 + 16 + 16 * 64 + 64
    assert params_total(DENSE_SMALL) == encoder + decoder == 2988
    assert params_z(DENSE_SMALL) == 16 * 12 + 12 + 6 * 16 + 16 == 316
    # 60-7-7-10 and 5-7-7-K*20; a pixel needs K = 2 * (1 + 3 + 3 + 3) = 20 channels.
    encoder = 60 * 7 + 7 + 7 * 7 + 7 + 7 * 10 + 10
    decoder = 5 * 7 + 7 + 7 * 7 + 7 + 7 * 400 + 400
    assert params_total(DENSE_COLOUR) == encoder + decoder == 3861
    assert params_z(DENSE_COLOUR) == 7 * 10 + 10 + 5 * 7 + 7 == 122


def test_parameters_of_other_depths_by_hand():
    # 64-16-16-16-12 and 6-16-16-16-64; then 64-16-12 and 6-16-64; then the affine maps 64-12 and 6-64.
    ends = 64 * 16 + 16 + 16 * 12 + 12 + 6 * 16 + 16 + 16 * 64 + 64
    assert params_total(DENSE_DEEP) == ends + 4 * (16 * 16 + 16)
    assert params_total(DENSE_SHALLOW) == ends
    assert params_z(DENSE_DEEP) == params_z(DENSE_SHALLOW) == 316
    affine = TrialSpec(nc=16, mz=3, hidden_layers=0)
    assert params_total(affine) == params_z(affine) == 64 * 12 + 12 + 6 * 64 + 64
    assert sum(p.numel() for p in VAE([affine]).parameters()) == params_total(affine)


def test_parameters_of_strided_by_hand():
    # 3x8x16 -> 6x4x8 -> 20 and 10 -> 6x4x8 -> 3x8x16; kernels of 4x4, with biases.
    assert params_total(STRIDED) == 3 * 6 * 16 + 6 + 192 * 20 + 20 + 10 * 192 + 192 + 6 * 3 * 16 + 3
    assert params_z(STRIDED) == 192 * 20 + 20 + 10 * 192 + 192
    # Three of them leave a grid of 1x2.
    between = 6 * 6 * 16 + 6
    expected = 3 * 6 * 16 + 6 + 2 * between + 12 * 20 + 20 + 10 * 12 + 12 + 2 * between + 6 * 3 * 16 + 3
    assert params_total(STRIDED_DEEP) == expected


def test_parameters_of_residual_by_hand():
    # Kernels 4x4 = 16 and 3x3 = 9; every convolution but the last of each half is followed by a BatchNorm.
    encoder = (1 * 4 * 16 + 8) + (4 * 4 * 16 + 8) + 2 * block(4, 3) + (4 * 6 + 6)
    decoder = (3 * 4 + 8) + 2 * block(4, 3) + 2 * (4 * 4 * 16 + 8) + (4 * 1 + 1)
    assert params_total(RESIDUAL_SMALL) == encoder + decoder == 2135
    assert params_z(RESIDUAL_SMALL) == (4 * 6 + 6) + 3 * 4 == 42
    encoder = (3 * 6 * 16 + 12) + (6 * 6 * 16 + 12) + 2 * block(6, 1) + (6 * 4 + 4)
    decoder = (2 * 6 + 12) + 2 * block(6, 1) + 2 * (6 * 6 * 16 + 12) + (6 * 20 + 20)
    assert params_total(RESIDUAL_COLOUR) == encoder + decoder == 3792
    assert params_z(RESIDUAL_COLOUR) == (6 * 4 + 4) + 2 * 6 == 40


@pytest.mark.parametrize(("kernel", "millions"), [(1, 23.3), (3, 31.6)])
def test_the_residual_network_of_the_paper(kernel, millions):
    spec = TrialSpec(
        architecture="residual",
        image_shape=(3, 32, 32),
        levels=256,
        likelihood="logistic_mixture",
        nc=512,
        mz=64,
        latent_per_mz=64,
        residual_kernel=kernel,
    )
    nc, mz = 512, 64
    encoder = (3 * nc * 16 + 2 * nc) + (nc * nc * 16 + 2 * nc) + 2 * block(nc, kernel) + (nc * 2 * mz + 2 * mz)
    decoder = (mz * nc + 2 * nc) + 2 * block(nc, kernel) + 2 * (nc * nc * 16 + 2 * nc) + (nc * 100 + 100)
    assert params_total(spec) == encoder + decoder
    assert params_total(spec) / 1e6 == pytest.approx(millions, abs=0.05)
    assert spec.latent_dim == 4096


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("spec", SPECS)
def test_the_module_has_the_parameters_that_are_counted(spec, members):
    vae = VAE([spec] * members)
    assert sum(p.numel() for p in vae.parameters()) == members * params_total(spec)
    assert state_bytes(spec) == 16 * params_total(spec)


@pytest.mark.parametrize("spec", SPECS)
def test_theta_z_is_what_meets_z(spec):
    vae = VAE([spec])
    meets_z = (vae.encoder.layers["posterior"], vae.decoder.layers["latent"])
    affine = [p for layer in meets_z for name, p in layer.named_parameters() if name in ("weight", "bias")]
    assert params_z(spec) == sum(p.numel() for p in affine)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("spec", SPECS)
def test_flops_equal_those_that_pytorch_counts(spec, members):
    images = 5
    vae = VAE([spec] * members)
    x, noise = torch.zeros(members, images, *spec.image_shape), torch.zeros(members, images, spec.latent_dim)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        vae.rate_and_distortion(x, noise)
    assert counter.get_total_flops() == members * images * flops_per_image(spec)
    assert training_flops(spec) == 3 * flops_per_image(spec) * spec.steps * spec.batch_size


@pytest.mark.parametrize("spec", SPECS)
def test_kept_activations_are_at_least_what_autograd_saves_for_an_image(spec):
    """A bundle packed by this estimate fits: autograd's saved tensors, weights left out, each storage once."""
    batch = 16
    vae = VAE([spec])
    weights = {p.untyped_storage().data_ptr() for p in [*vae.parameters(), *vae.buffers()]}
    saved: dict[int, int] = {}
    kept: list[torch.Tensor] = []  # alive, so that no storage's address is used twice

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)
        return tensor

    x = vae.likelihood.scale(torch.ones(1, batch, *spec.image_shape))
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        rate, distortion = vae.rate_and_distortion(x, torch.zeros(1, batch, spec.latent_dim))
    assert rate.requires_grad and distortion.requires_grad
    measured, estimate = sum(saved.values()) / batch, activation_bytes(spec)
    assert estimate / 4 < measured <= estimate
    assert member_bytes(spec) == state_bytes(spec) + spec.batch_size * estimate


@pytest.mark.parametrize(
    ("likelihood", "grey", "colour"),
    [("bernoulli", 1, 3), ("gaussian", 1, 3), ("logistic", 2, None), ("logistic_mixture", 10 * 3, 10 * 10)],
)
def test_likelihood_channels(likelihood, grey, colour):
    assert likelihood_channels(TrialSpec(likelihood=likelihood, levels=256)) == grey
    if colour is not None:
        spec = TrialSpec(likelihood=likelihood, levels=256, image_shape=(3, 8, 8))
        assert likelihood_channels(spec) == colour
