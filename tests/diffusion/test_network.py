"""The raw networks: the published size, the start, gradients everywhere, one image at a time."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaegen_ray.diffusion.edm import Preconditioned, compute_loss
from vaegen_ray.diffusion.network import Attention, UNet, build_denoiser
from vaegen_ray.spec.diffusion import DiffusionSpec

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"channels": 16, "blocks": 2},
    "unet": {"network": "unet", "channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)},
    "colour": {"network": "unet", "channels": 8, "multipliers": (2,), "blocks": 2, "image_shape": (3, 4, 6)},
}


@pytest.fixture(params=list(NETWORKS))
def spec(request: pytest.FixtureRequest) -> DiffusionSpec:
    return DiffusionSpec(**NETWORKS[request.param])


def batch(spec: DiffusionSpec, count: int = 5) -> tuple[Tensor, Tensor]:
    """Noisy images at different noise levels."""
    sigma = torch.logspace(-2, 1.5, count)
    noise = torch.randn(count, *spec.image_shape, generator=torch.Generator().manual_seed(1))
    return noise * (0.25 + sigma.square()).sqrt().view(-1, 1, 1, 1), sigma


def stirred(spec: DiffusionSpec) -> Preconditioned:
    """The model with noise on all weights, so that no branch of it is zero."""
    denoiser = build_denoiser(spec).eval()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return denoiser


def test_the_unet_of_cifar10_has_the_published_size() -> None:
    """Karras et al. (2022) train a DDPM++ of 55.7 million parameters."""
    spec = DiffusionSpec(
        network="unet", image_shape=(3, 32, 32), channels=128, multipliers=(2, 2, 2), blocks=4, attention=(16,)
    )
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in UNet(spec).parameters())
    assert round(parameters / 1e6, 1) == 55.7


def test_an_untrained_model_predicts_c_skip_x(spec: DiffusionSpec) -> None:
    x, sigma = batch(spec)
    skip = 0.25 / (sigma.square() + 0.25)
    torch.testing.assert_close(build_denoiser(spec)(x, sigma), skip.view(-1, 1, 1, 1) * x)


def test_from_the_third_step_on_every_parameter_has_a_gradient(spec: DiffusionSpec) -> None:
    """The first update can move the last layer alone, since that starts at zero; the second the last layers of the
    branches, which do too; then all the rest hears of the loss."""
    x, sigma = batch(spec)
    denoiser = build_denoiser(spec).eval()
    optimiser = torch.optim.Adam(denoiser.parameters(), 1e-2)
    dead = []
    for _ in range(3):
        optimiser.zero_grad()
        compute_loss(denoiser, torch.sin(x), sigma, x, denoiser.noise).mean().backward()
        gradients = {name: p.grad for name, p in denoiser.named_parameters() if p.grad is not None}
        assert len(gradients) == len(list(denoiser.parameters()))
        dead.append({name for name, gradient in gradients.items() if not gradient.any()})
        optimiser.step()
    assert dead[0] == {name for name in gradients if not name.startswith("network.last")}
    assert dead[0] > dead[1] > dead[2] == set()


def test_an_image_does_not_depend_on_those_beside_it(spec: DiffusionSpec) -> None:
    denoiser = stirred(spec)
    x, sigma = batch(spec)
    with torch.no_grad():
        together = denoiser(x, sigma)
        alone = torch.cat([denoiser(x[i : i + 1], sigma[i : i + 1]) for i in range(len(x))])
        order = torch.tensor([3, 0, 4, 1, 2])
        shuffled = denoiser(x[order], sigma[order])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[order], shuffled, rtol=1e-4, atol=1e-5)


def test_the_network_hears_of_image_and_noise_level(spec: DiffusionSpec) -> None:
    network = stirred(spec).network
    x, c_noise = torch.randn(2, *spec.image_shape, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    with torch.no_grad():
        plain = network(x, c_noise)
        assert plain.shape == x.shape
        one_level = network(x, torch.tensor([0.0, 0.3]))
        one_pixel = network(x + torch.eye(x[0].numel())[0].view_as(x[0]), c_noise)
    torch.testing.assert_close(one_level[0], plain[0], rtol=1e-4, atol=1e-5)
    assert (one_level[1] - plain[1]).abs().max() > 1e-3
    assert (one_pixel - plain).flatten(1).abs().amax(1).min() > 1e-3


def test_equal_specifications_start_alike_whatever_the_global_generator_says(spec: DiffusionSpec) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = dict(build_denoiser(spec).named_parameters())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = dict(build_denoiser(spec).named_parameters())
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_starts_elsewhere(spec: DiffusionSpec) -> None:
    first = dict(build_denoiser(spec).named_parameters())
    other = dict(build_denoiser(replace(spec, seed=1)).named_parameters())
    constant = {name for name, parameter in first.items() if parameter.min() == parameter.max()}
    assert {name for name in first if torch.equal(first[name], other[name])} == constant
    assert all(first[name].min() in (0, 1) for name in constant)


@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 5, 5), (1, 4, 8)])
@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_one_resolution_takes_any_size(network: str, shape: tuple[int, int, int]) -> None:
    spec = DiffusionSpec(network=network, image_shape=shape, channels=8, blocks=1)
    x, sigma = batch(spec)
    assert stirred(spec)(x, sigma).shape == x.shape


def test_units_drop_out_in_training_only(spec: DiffusionSpec) -> None:
    denoiser = stirred(spec)
    x, sigma = batch(spec)

    def output(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return denoiser(x, sigma)

    evaluated = output(0)
    assert torch.equal(evaluated, output(1))
    denoiser.train()
    assert torch.equal(output(0), output(0))
    assert not torch.allclose(output(0), output(1), atol=1e-3)
    denoiser.eval()
    assert torch.equal(evaluated, output(2))


def test_without_dropout_training_and_evaluation_agree(spec: DiffusionSpec) -> None:
    plain = replace(spec, dropout=0.0)
    x, sigma = batch(plain)
    denoiser = stirred(plain)
    with torch.no_grad():
        torch.testing.assert_close(denoiser.train()(x, sigma), denoiser.eval()(x, sigma))


def test_attention_is_its_equation() -> None:
    """(x + out(softmax(q k / sqrt(C)) v)) / sqrt(2), with one head over all pixels."""
    torch.manual_seed(0)
    channels = 8
    attention = Attention(channels)
    nn.init.normal_(attention.out.weight, std=0.5)
    nn.init.normal_(attention.qkv.weight, std=0.5)
    x = torch.randn(2, channels, 3, 5)
    with torch.no_grad():
        q, k, v = attention.qkv(attention.norm(x)).reshape(2, 3, channels, 15).unbind(1)
        mix = torch.einsum("bcp,bcq->bpq", q, k).div(math.sqrt(channels)).softmax(-1)
        read = torch.einsum("bpq,bcq->bcp", mix, v).reshape(2, channels, 3, 5)
        torch.testing.assert_close(attention(x), (x + attention.out(read)) / math.sqrt(2), rtol=1e-4, atol=1e-5)
