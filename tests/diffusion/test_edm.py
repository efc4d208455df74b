"""EDM where the answer is known: exact denoisers of Gaussians, mixtures and a point mass."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from vaegen_ray.diffusion.edm import Noise, Preconditioned, compute_loss, sample
from vaegen_ray.spec.diffusion import Sampler

SHAPE = (1, 2, 2)
NOISE = Noise()


def gaussian(mean: float, std: float):
    """The exact denoiser of data N(mean, std^2): E[y | x] in closed form."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        s = sigma.view(-1, 1, 1, 1)
        return (std**2 * x + s.square() * mean) / (std**2 + s.square())

    return denoise


def mixture(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of independent pixels that are -0.6 +- 0.1 (weight 0.25) or 0.5 +- 0.2 (weight 0.75)."""
    s = sigma.view(-1, 1, 1, 1).double()
    means, stds, weights = (torch.tensor(v, dtype=torch.float64) for v in ((-0.6, 0.5), (0.1, 0.2), (0.25, 0.75)))
    total = (stds.square() + s.square().unsqueeze(-1)).expand(*x.shape, 2)
    value = x.double().unsqueeze(-1)
    log_weight = weights.log() - 0.5 * total.log() - 0.5 * (value - means).square() / total
    each = (stds.square() * value + s.square().unsqueeze(-1) * means) / total
    return (log_weight.softmax(-1) * each).sum(-1).to(x.dtype)


@pytest.mark.parametrize("churn", [0.0, 20.0])
def test_samples_of_a_gaussian_have_its_moments(churn: float) -> None:
    x = sample(gaussian(0.3, 0.4), range(100), (1, 16, 16), Sampler(steps=100, churn=churn))
    assert x.mean().item() == pytest.approx(0.3, abs=4 * 0.4 / math.sqrt(x.numel()) + 0.003)
    assert x.std().item() == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize("churn", [0.0, 10.0])
def test_samples_of_a_mixture_have_its_moments(churn: float) -> None:
    x = sample(mixture, range(100), (1, 16, 16), Sampler(steps=60, churn=churn))
    low = x[x < -0.15]
    assert len(low) / x.numel() == pytest.approx(0.25, abs=0.015)
    assert low.mean().item() == pytest.approx(-0.6, abs=0.015)
    assert low.std().item() == pytest.approx(0.1, abs=0.015)
    assert x[x > -0.15].std().item() == pytest.approx(0.2, abs=0.015)


def test_heun_converges_with_the_second_order() -> None:
    """Along the flow of a Gaussian x(sigma) is proportional to sqrt(std^2 + sigma^2), so the end is known exactly."""
    std, largest = 0.5, 10.0
    start = sample(lambda x, sigma: x * 0 + x, range(3), SHAPE, Sampler(steps=2, sigma_max=largest))  # D(x) = x: stays
    exact = start * std / math.sqrt(std**2 + largest**2)

    def error(steps: int) -> float:
        settings = Sampler(steps=steps, sigma_max=largest, sigma_min=1e-4, rho=3.0)
        got = sample(lambda x, sigma: gaussian(0.0, std)(x.double(), sigma.double()), range(3), SHAPE, settings)
        return (got - exact).abs().max().item() / exact.abs().max().item()

    errors = [error(steps) for steps in (10, 20, 40)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(1.8 < order < 2.4 for order in orders), (errors, orders)


def test_an_image_depends_on_its_seed_alone() -> None:
    settings = Sampler(steps=6, churn=3.0)
    together = sample(mixture, [5, 6, 7], SHAPE, settings)
    for i, seed in enumerate((5, 6, 7)):
        assert torch.equal(sample(mixture, [seed], SHAPE, settings)[0], together[i])
    assert not torch.equal(together[0], together[1])


def test_churn_changes_the_sample_and_no_churn_is_deterministic() -> None:
    plain = sample(mixture, range(4), SHAPE, Sampler(steps=6))
    assert torch.equal(plain, sample(mixture, range(4), SHAPE, Sampler(steps=6)))
    assert not torch.equal(plain, sample(mixture, range(4), SHAPE, Sampler(steps=6, churn=5.0)))
    outside = Sampler(steps=6, churn=5.0, churn_min=90.0)
    assert torch.equal(plain, sample(mixture, range(4), SHAPE, outside))


def test_the_network_is_evaluated_as_often_as_said() -> None:
    calls = []

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(sigma[0].item())
        return gaussian(0.0, 0.5)(x, sigma)

    settings = Sampler()
    sample(counting, [0], SHAPE, settings)
    assert len(calls) == settings.evaluations == 35
    assert calls[0] == pytest.approx(80.0)
    assert min(calls) == pytest.approx(0.002)


def test_the_loss_of_a_point_mass_is_zero_at_its_point_and_one_without_a_network() -> None:
    """For y = m the best denoiser says m. One that says m + c_out has the loss 1 at every noise level, since the weight
    is 1 / c_out^2."""
    y = torch.full((6, *SHAPE), 0.7)
    sigma = torch.logspace(-2, 1.5, 6)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    assert compute_loss(lambda x, s: x * 0 + 0.7, y, sigma, noise, NOISE).max() < 1e-9

    def off(x: Tensor, s: Tensor) -> Tensor:
        return 0.7 + (s * 0.5 / (s.square() + 0.25).sqrt()).view(-1, 1, 1, 1) + x * 0

    torch.testing.assert_close(compute_loss(off, y, sigma, noise, NOISE), torch.ones(6))


def test_the_loss_of_a_gaussian_is_its_posterior_variance() -> None:
    std = 0.5
    draw = torch.Generator().manual_seed(0)
    y = std * torch.randn(40000, *SHAPE, generator=draw)
    noise = torch.randn(y.shape, generator=draw)
    for level in (0.05, 0.5, 5.0):
        sigma = torch.full((len(y),), level)
        expected = NOISE.compute_weight(sigma[:1]).item() * std**2 * level**2 / (std**2 + level**2)
        assert expected == pytest.approx(1.0)  # with std = sigma_data every level weighs alike
        assert compute_loss(gaussian(0.0, std), y, sigma, noise, NOISE).mean().item() == pytest.approx(
            expected, rel=0.02
        )


class Fixed(nn.Module):
    """A raw network that gives what it was told, and keeps what it was given."""

    def __init__(self, output: float) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        self.x, self.c_noise = x, c_noise
        return torch.full_like(x, self.output)


@pytest.mark.parametrize("level", [0.01, 0.5, 30.0])
def test_preconditioning_keeps_inputs_at_unit_variance_and_is_the_gaussian_denoiser_at_zero(level: float) -> None:
    draw = torch.Generator().manual_seed(0)
    y = 0.5 * torch.randn(20000, *SHAPE, generator=draw)
    x = y + level * torch.randn(y.shape, generator=draw)
    sigma = torch.full((len(x),), level)
    network = Fixed(0.0)
    denoised = Preconditioned(network, NOISE)(x, sigma)
    assert network.x.std().item() == pytest.approx(1.0, rel=0.01)
    assert network.c_noise[0].item() == pytest.approx(math.log(level) / 4)
    torch.testing.assert_close(denoised, gaussian(0.0, 0.5)(x, sigma))
    target = (y - denoised) / (level * 0.5 / math.sqrt(level**2 + 0.25))  # what F has to say for D = y
    assert target.std().item() == pytest.approx(1.0, rel=0.01)


def test_training_levels_are_log_normal() -> None:
    levels = NOISE.draw(50000, torch.Generator().manual_seed(0)).log()
    assert levels.mean().item() == pytest.approx(-1.2, abs=0.02)
    assert levels.std().item() == pytest.approx(1.2, abs=0.02)
