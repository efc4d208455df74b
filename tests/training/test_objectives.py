"""The two parts of the rate from a batch, against sums written out, bounds that always hold, and finite differences."""

import math
from collections.abc import Iterator
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from vaegen_ray.models.likelihoods import Gaussian
from vaegen_ray.models.vae import VAE, Posterior
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic
from vaegen_ray.training.objectives import (
    Objective,
    build_objective,
    log_densities,
    marginal_kl,
    mutual_information,
    negative_beta_elbo,
    overlap,
)
from vaegen_ray.training.trainer import Trainer

PARTS = ("mutual_information", "marginal_kl")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def codes_of(*shape: int, spread: float = 1.0, std: float = 0.7, seed: int = 0) -> tuple[Tensor, Posterior]:
    """Codes and the posteriors that they are from, [..., B, Z]; means within ``spread``, deviations around ``std``."""
    posterior = Posterior(spread * normal(*shape, seed=seed), std * (0.3 * normal(*shape, seed=seed + 1)).exp())
    return posterior.sample(normal(*shape, seed=seed + 2)), posterior


def direct(z: Tensor, posterior: Posterior) -> Tensor:
    """log q(z_i|x_j) by differences of codes and means, [..., R, B]."""
    q = Normal(posterior.mean.unsqueeze(-3), posterior.std.unsqueeze(-3))
    return q.log_prob(z.unsqueeze(-2)).sum(-1)


def log_weighted(z: Tensor, posterior: Posterior, total: int) -> Tensor:
    """log q^(z_i) with the sum over the others written out: [B]."""
    density, size = direct(z, posterior).exp(), len(z)
    others = [sum(density[i, j] for j in range(size) if j != i) for i in range(size)]
    weight = (total - 1) / (total * (size - 1))
    return torch.stack([(density[i, i] / total + weight * others[i]).log() for i in range(size)])


@pytest.mark.parametrize("total", [7, 8, 1000])
def test_both_parts_are_the_weighted_sums(total):
    z, posterior = codes_of(7, 3)
    log_q = log_weighted(z, posterior, total)
    own, log_p = Normal(*posterior).log_prob(z).sum(-1), Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(mutual_information(z, posterior, total), (own - log_q).mean())
    torch.testing.assert_close(marginal_kl(z, posterior, total), (log_q - log_p).mean())


def test_a_batch_of_the_whole_data_set_has_the_mixture_itself():
    z, posterior = codes_of(9, 2)
    mixture = direct(z, posterior).logsumexp(1) - math.log(9)
    expected = (direct(z, posterior).diagonal() - mixture).mean()
    torch.testing.assert_close(mutual_information(z, posterior, 9), expected)


def test_the_parts_sum_to_the_rate_of_the_codes():
    z, posterior = codes_of(4, 6, 3)
    rate = (Normal(*posterior).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1).mean(-1)
    for total in (6, 500):
        both = mutual_information(z, posterior, total) + marginal_kl(z, posterior, total)
        torch.testing.assert_close(both, rate)


def test_over_all_batches_the_estimate_of_q_is_right_and_the_information_too_large():
    """Every batch of 3 that holds image i, out of 6: the mean of q^(z_i) is q(z_i), that of log q^(z_i) is less."""
    z, posterior = codes_of(6, 2)
    exact = direct(z, posterior).logsumexp(1) - math.log(6)
    too_small = []
    for i in range(6):
        estimates = []
        for others in combinations([j for j in range(6) if j != i], 2):
            batch = [i, *others]
            pairs = log_densities(z[batch], Posterior(posterior.mean[batch], posterior.std[batch]))
            estimates.append(pairs[0, 0] - math.log(6) + overlap(pairs, 6)[0])
        torch.testing.assert_close(torch.stack(estimates).exp().mean(), exact[i].exp())
        too_small.append(exact[i] - torch.stack(estimates).mean())
    assert min(too_small) > 0
    assert max(too_small) > 0.01


@pytest.mark.parametrize("batch", [2, 5, 40])
def test_posteriors_that_do_not_look_at_the_image_hold_no_information(batch):
    posterior = Posterior(normal(1, 3).expand(batch, 3), torch.full((batch, 3), 0.4).double())
    z = posterior.sample(normal(batch, 3, seed=1))
    assert mutual_information(z, posterior, 40).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("total", [37, 1000])
def test_posteriors_far_apart_hold_the_logarithm_of_the_data_set_not_of_the_batch(total):
    z, posterior = codes_of(37, 3, spread=1e3, std=1e-3)
    assert mutual_information(z, posterior, total).item() == math.log(total)


@pytest.mark.parametrize("std", [1e-6, 1e-3, 0.3, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_code_has_more_than_the_logarithm_of_the_data_set(std, dtype):
    """Also where codes are not from their posteriors at all."""
    for seed in range(20):
        z, posterior = codes_of(11, 2, std=std, seed=seed)
        posterior = Posterior(*(part.to(dtype) for part in posterior))
        for codes in (z.to(dtype), 10 * normal(11, 2, seed=seed).to(dtype)):
            assert overlap(log_densities(codes, posterior), 50).min() >= 0
            for total in (11, 50):
                assert mutual_information(codes, posterior, total).item() <= math.log(total)


@pytest.mark.parametrize("std, error", [(0.5, 1e-12), (1e-3, 1e-7), (1e-5, 1e-3)])
def test_the_product_of_matrices_is_precise_at_small_deviations(std, error):
    """Pairs of posteriors a deviation apart, so that what is left of large terms decides."""
    z, posterior = codes_of(12, 4, std=std)
    posterior.mean[6:] = posterior.mean[:6] + std
    z = posterior.sample(normal(12, 4, seed=5))
    near = direct(z, posterior) > -1e3
    assert near.sum() >= 24
    found = log_densities(z, posterior)
    assert (found - direct(z, posterior))[near].abs().max() < error


def test_in_float32_the_same_product_would_be_off_by_tenths_of_a_nat():
    z, posterior = codes_of(12, 4, std=1e-3)
    mean, std, code = posterior.mean.float(), posterior.std.float(), z.float()
    precision = std.square().reciprocal()
    constant = 0.5 * (mean.square() * precision).sum(-1) + (std.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
    product = -0.5 * code.square() @ precision.T + code @ (mean * precision).T - constant
    own = direct(z, posterior).diagonal()
    assert (product.diagonal() - own).abs().max() > 0.1
    torch.testing.assert_close(log_densities(z, posterior).diagonal(), own, rtol=0, atol=1e-8)


@pytest.mark.parametrize("part", [mutual_information, marginal_kl])
@pytest.mark.parametrize("std", [0.6, 0.02])
def test_gradients_are_those_of_finite_differences(part, std):
    _, posterior = codes_of(2, 5, 2, spread=std, std=std)
    noise = normal(2, 5, 2, seed=9)

    def value(mean: Tensor, deviation: Tensor) -> Tensor:
        posterior = Posterior(mean, deviation)
        return part(posterior.sample(noise), posterior, 30)

    inputs = tuple(parameter.clone().requires_grad_() for parameter in posterior)
    assert torch.autograd.gradcheck(value, inputs, eps=1e-6 * std, atol=1e-5 / std, rtol=1e-5)


@pytest.mark.parametrize("part", [mutual_information, marginal_kl])
def test_float32_codes_of_small_deviation_have_the_gradients_of_float64(part):
    _, posterior = codes_of(8, 3, spread=2e-3, std=1e-3)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        inputs = [parameter.float().to(dtype).requires_grad_() for parameter in posterior]
        noise = normal(8, 3, seed=9).float().to(dtype)
        value = part(Posterior(*inputs).sample(noise), Posterior(*inputs), 30)
        gradients.append(torch.cat(torch.autograd.grad(value, inputs)).double())
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[1].abs().max()


class Affine(torch.nn.Module):
    """Two members in float64 whose encoder and decoder are affine maps of 3 pixels and 2 latent dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.likelihood = Gaussian(levels=256, sigma=0.5)
        self.encoder = torch.nn.Parameter(0.5 * normal(2, 3, 4))
        self.decoder = torch.nn.Parameter(0.5 * normal(2, 2, 3, seed=1))

    def encode(self, x: Tensor) -> Posterior:
        mean, log_std = (x.flatten(2) @ self.encoder).chunk(2, dim=-1)
        return Posterior(mean, log_std.exp())

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.decoder).unflatten(-1, (1, 1, 3))


class ByWeights(torch.nn.Module):
    """An objective with its VAE, so that weights can be put in."""

    def __init__(self, vae: Affine, objective: Objective) -> None:
        super().__init__()
        self.vae, self.objective = vae, objective

    def forward(self, x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        return self.objective(self.vae, x, noise, beta)


@pytest.mark.parametrize("regulariser", PARTS)
def test_gradients_of_a_whole_objective_are_those_of_finite_differences(regulariser):
    """With respect to encoder and decoder; so nothing between the two is held constant."""
    objective = build_objective(TrialSpec(regulariser=regulariser, n_train=60, batch_size=6))
    module = ByWeights(Affine(), objective)
    x, noise, beta = normal(2, 6, 1, 1, 3, seed=2), normal(2, 6, 2, seed=3), torch.tensor([0.5, 3.0]).double()

    def value(encoder: Tensor, decoder: Tensor) -> Tensor:
        weights = {"vae.encoder": encoder, "vae.decoder": decoder}
        return torch.func.functional_call(module, weights, (x, noise, beta))

    assert torch.autograd.gradcheck(value, (module.vae.encoder, module.vae.decoder))


def bundle(regulariser: str, betas: tuple[float, ...] = (0.1, 4.0)) -> tuple[VAE, list[TrialSpec], Tensor, Tensor]:
    specs = [
        TrialSpec(nc=8, latent_per_mz=3, n_train=400, batch_size=20, seed=seed, beta=beta, regulariser=regulariser)
        for seed, beta in enumerate(betas)
    ]
    x = (normal(len(specs), 20, 1, 8, 8, seed=4) > 0).float()
    return VAE(specs), specs, x, normal(len(specs), 20, 3, seed=5).float()


def test_the_rate_is_weighed_as_ever():
    assert build_objective(TrialSpec()) is negative_beta_elbo
    assert build_objective(TrialSpec(beta=0.1, regulariser="rate")) is negative_beta_elbo


@pytest.mark.parametrize("regulariser", PARTS)
def test_an_objective_is_the_distortion_and_beta_times_its_part(regulariser):
    vae, specs, x, noise = bundle(regulariser)
    objective, beta = build_objective(specs[0]), torch.tensor([spec.beta for spec in specs])
    _, distortion = vae.rate_and_distortion(x, noise)
    posterior = vae.encode(x)
    z = posterior.sample(noise)
    members = [[each[m].double() for each in (z, *posterior)] for m in (0, 1)]
    log_q = torch.stack([log_weighted(code, Posterior(mean, std), 400) for code, mean, std in members])
    part = {
        "mutual_information": Normal(*posterior).log_prob(z).sum(-1) - log_q,
        "marginal_kl": log_q - Normal(0.0, 1.0).log_prob(z).sum(-1),
    }[regulariser]
    found = objective(vae, x, noise, beta)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, distortion.mean(1) + beta * part.mean(1).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("regulariser", PARTS)
def test_a_member_is_trained_by_its_own_images_alone(regulariser):
    vae, specs, x, noise = bundle(regulariser)
    objective, beta = build_objective(specs[0]), torch.tensor([spec.beta for spec in specs])
    together = objective(vae, x, noise, beta)
    for gradient in torch.autograd.grad(together[0], list(vae.parameters()), retain_graph=True):
        assert not gradient[1].any()
    alone = objective(VAE(specs[1:]), x[1:], noise[1:], beta[1:])
    torch.testing.assert_close(alone, together[1:], rtol=1e-6, atol=0)
    x[0] = float("nan")
    assert torch.equal(objective(vae, x, noise, beta)[1], together[1])


@pytest.mark.parametrize("regulariser", PARTS)
def test_faster_arithmetic_leaves_the_estimate_as_it_is(regulariser):
    part = mutual_information if regulariser == "mutual_information" else marginal_kl
    z, posterior = codes_of(2, 9, 3, std=1e-3)
    with arithmetic("bf16", torch.device("cpu")):
        found = part(z.float(), Posterior(*(p.float() for p in posterior)), 90)
    torch.testing.assert_close(found, part(z.float(), Posterior(*(p.float() for p in posterior)), 90), rtol=0, atol=0)


def test_the_part_that_is_removed_grows(train_images):
    """After 300 steps with the same seeds, on the whole training set: what weighs one part has much less of it."""
    left = {}
    for regulariser in PARTS:
        shape = {"nc": 16, "latent_per_mz": 4, "n_train": 90, "batch_size": 45, "learning_rate": 1e-2}
        specs = [TrialSpec(seed=s, epochs=150, evaluate_at=(150,), regulariser=regulariser, **shape) for s in (0, 1)]
        trainer = Trainer(specs, train_images, objective=build_objective(specs[0]))
        trainer.train(trainer.spec.steps)
        assert not trainer.failed
        with torch.no_grad():
            posterior = trainer.vae.encode(trainer.vae.likelihood.scale(train_images).expand(2, -1, -1, -1, -1))
            z = posterior.sample(normal(2, 90, 4).float())
            left[regulariser] = mutual_information(z, posterior, 90), marginal_kl(z, posterior, 90)
    (information, far), (much_information, near) = (left[regulariser] for regulariser in PARTS)
    assert (1.5 * information < much_information).all()
    assert (10 * near < far).all()
