"""A VAE whose ELBO is known: the linear-Gaussian model p(z) = N(0, I), p(x|z) = N(Wz + b, sigma^2 I).

The fully-connected network is made linear: identity weights with a bias so large that every ReLU passes, and the bias
taken off again in the last layer. The columns of W are orthogonal, so the exact posterior
N(S W^T (x - b) / sigma^2, S) with S = (I + W^T W / sigma^2)^-1 is factorised and the encoder can be it. There

    ELBO(x) = log N(x; b, W W^T + sigma^2 I),          and for any other q it is less by KL(q || posterior).
"""

import math

import pytest
import torch

from vaegen_ray.evaluation.elbo import evaluate_elbo, rate_and_distortion
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec

D, Z, SIGMA, OFFSET = 6, 2, 0.4, 16.0
W = torch.tensor([[0.6, 0.1], [0.6, -0.1], [-0.3, 0.2], [-0.3, -0.2], [0.0, 0.5], [0.0, -0.5]], dtype=torch.float64)
B = torch.tensor([0.5, 0.3, 0.4, 0.6, 0.1, 0.9], dtype=torch.float64)
S = torch.linalg.inv(torch.eye(Z, dtype=torch.float64) + W.T @ W / SIGMA**2)
A = S @ W.T / SIGMA**2  # the exact posterior's mean is A (x - b)
OTHER_A, OTHER_STD = 0.5 * A + 0.1, torch.tensor([0.9, 0.2], dtype=torch.float64)


def spec_of(seed: int = 0, **changes: object) -> TrialSpec:
    values = {"image_shape": (1, 2, 3), "levels": 256, "likelihood": "gaussian", "sigma": SIGMA, "nc": 8, **changes}
    return TrialSpec(mz=1, latent_per_mz=Z, seed=seed, **values)


def linear_vae(specs: list[TrialSpec]) -> VAE:
    """Even members encode with the exact posterior, odd ones with another; all decode with W and b."""
    vae = VAE(specs)
    log_std = specs[0].posterior_scale == "log_std"
    for member in range(len(specs)):
        matrix, std = (A, S.diagonal().sqrt()) if member % 2 == 0 else (OTHER_A, OTHER_STD)
        half = std.log() if log_std else torch.expm1(std).log()
        encoder = torch.cat((matrix, torch.zeros(Z, D, dtype=torch.float64)))  # [2Z, D]
        bias = torch.cat((-matrix @ B, half))
        for network, first, weight, offset in (
            (vae.encoder, "in", encoder, bias),
            (vae.decoder, "latent", W, B),
        ):
            inputs = weight.shape[1]
            last = "posterior" if first == "in" else "out"
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter[member] = 0.0
                network.layers[first].weight[member, :, :inputs] = torch.eye(inputs)
                network.layers[first].bias[member] = OFFSET
                network.layers["hidden"].weight[member] = torch.eye(8)
                network.layers[last].weight[member, :inputs] = weight.T.float()
                network.layers[last].bias[member] = (offset - OFFSET * weight.sum(1)).float()
    return vae


def closed_form(x: torch.Tensor, matrix: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rate and expected distortion of images x [N, D] under q = N(matrix (x - b), std^2): two [N]."""
    mean = (x - B) @ matrix.T
    rate = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(1)
    squares = (x - mean @ W.T - B).square().sum(1) + (W.square() * std.square()).sum()
    return rate, squares / (2 * SIGMA**2) + D / 2 * math.log(2 * math.pi * SIGMA**2)


def log_evidence(x: torch.Tensor) -> torch.Tensor:
    covariance = W @ W.T + SIGMA**2 * torch.eye(D, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(B, covariance).log_prob(x)


def images(n: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 2, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("scale", ["softplus", "log_std"])
def test_rate_and_expected_distortion_are_the_closed_form(scale):
    """The distortion is quadratic in the noise, so its mean over +-sqrt(Z) e_i is its expectation exactly."""
    vae = linear_vae([spec_of(posterior_scale=scale), spec_of(1, posterior_scale=scale)])
    x = vae.likelihood.scale(images(20, 0)).expand(2, -1, -1, -1, -1)
    points = math.sqrt(Z) * torch.cat((torch.eye(Z), -torch.eye(Z)))
    results = [vae.rate_and_distortion(x, point.expand(2, 20, Z)) for point in points]
    rate = results[0][0].double()
    distortion = torch.stack([each[1] for each in results]).double().mean(0)
    flat = x[0].flatten(1).double()
    for member, (matrix, std) in enumerate([(A, S.diagonal().sqrt()), (OTHER_A, OTHER_STD)]):
        expected_rate, expected_distortion = closed_form(flat, matrix, std)
        torch.testing.assert_close(rate[member], expected_rate, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(distortion[member], expected_distortion, rtol=1e-4, atol=1e-4)
    evidence = log_evidence(flat)
    torch.testing.assert_close(-(rate + distortion)[0], evidence, rtol=1e-4, atol=2e-4)
    gap = evidence + (rate + distortion)[1]
    posterior = torch.distributions.MultivariateNormal((flat - B) @ A.T, S)
    q = torch.distributions.MultivariateNormal((flat - B) @ OTHER_A.T, OTHER_STD.square().diag())
    torch.testing.assert_close(gap, torch.distributions.kl_divergence(q, posterior), rtol=1e-3, atol=1e-3)


def test_evaluation_finds_the_evidence_within_its_standard_error():
    samples, specs = 100, [spec_of(seed, elbo_samples=100) for seed in (0, 1)]
    vae = linear_vae(specs)
    train, test = images(700, 1), images(300, 2)
    rows = evaluate_elbo(vae, specs, train, test)
    for data, part in ((train, "train"), (test, "test")):
        flat = vae.likelihood.scale(data).flatten(1).double()
        for member, (matrix, std) in enumerate([(A, S.diagonal().sqrt()), (OTHER_A, OTHER_STD)]):
            rate, distortion = closed_form(flat, matrix, std)
            # Sum over images of the variance of the one-sample distortion: linear and quadratic part in the noise.
            residual = flat - (flat - B) @ matrix.T @ W.T - B
            slope = residual @ (W * std) / SIGMA**2
            curvature = (W * std).square().sum(0) / SIGMA**2
            variance = (slope.square().sum(1) + 0.5 * curvature.square().sum()).mean().item()
            error = math.sqrt(variance / (len(data) * samples))
            assert error < 0.02
            assert rows[member][f"rate_{part}"] == pytest.approx(rate.mean().item(), rel=1e-4)
            assert abs(rows[member][f"distortion_{part}"] - distortion.mean().item()) < 4 * error
        exact = log_evidence(flat).mean().item()
        assert rows[0][f"elbo_{part}"] == pytest.approx(exact, abs=0.05)
        assert rows[1][f"elbo_{part}"] < exact - 0.5


def test_more_samples_have_less_variance():
    """Over 40 seeds, the spread of the estimate with 5 samples is about 1/sqrt(5) = 0.45 of that with one."""
    data, spreads = images(50, 3), []
    for samples in (1, 5):
        specs = [spec_of(seed, elbo_samples=samples) for seed in range(0, 80, 2)]
        vae = linear_vae([spec_of(seed, elbo_samples=samples) for seed in range(0, 40)])
        for parameter in vae.parameters():
            parameter.data[1::2] = parameter.data[0::2]  # the exact posterior in every member
        _, distortion = rate_and_distortion(vae, specs, data, stream=0)
        spreads.append(distortion.std().item())
    assert 0.25 < spreads[1] / spreads[0] < 0.75
