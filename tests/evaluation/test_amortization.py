"""The amortization gap where it is known: in a linear-Gaussian model it is KL(q(z|x) || p(z|x)), averaged over x.

p(z) = N(0, I), p(x|z) = N(Wz + b, sigma^2 I) with orthogonal columns of W, so the exact posterior is factorised. The
network is made linear by identity weights and a bias so large that every ReLU passes (see ``test_linear_gaussian``).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from vaegen_ray.data import catalog
from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation import amortization
from vaegen_ray.evaluation.amortization import GAP, LOOKS, STEPS, STRATA, Members, Search, amortization_gap
from vaegen_ray.evaluation.elbo import rate_and_distortion
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Amortization
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.training.trainer import Trainer

D, Z, SIGMA, OFFSET = 6, 2, 0.4, 16.0
W = torch.tensor([[0.6, 0.1], [0.6, -0.1], [-0.3, 0.2], [-0.3, -0.2], [0.0, 0.5], [0.0, -0.5]], dtype=torch.float64)
B = torch.tensor([0.5, 0.3, 0.4, 0.6, 0.1, 0.9], dtype=torch.float64)
S = torch.linalg.inv(torch.eye(Z, dtype=torch.float64) + W.T @ W / SIGMA**2)
A = S @ W.T / SIGMA**2
EXACT = (A, S.diagonal().sqrt())
WRONG = (0.5 * A + 0.1, torch.tensor([0.9, 0.2], dtype=torch.float64))
NARROW = (A, torch.tensor([0.2, 0.2], dtype=torch.float64))
QUICK = Amortization(images=60, steps=230, learning_rate=0.02, check_every=25, check_samples=4, tolerance=0.05)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def linear_vae(
    encoders: list[tuple[torch.Tensor, torch.Tensor]], first_seed: int = 0, **changes: object
) -> tuple[VAE, list[TrialSpec]]:
    """Members that decode with W and b, and encode with mean M (x - b) and a deviation, one pair of these each."""
    values = {"image_shape": (1, 2, 3), "levels": 256, "likelihood": "gaussian", "sigma": SIGMA, "nc": 8, **changes}
    specs = [TrialSpec(mz=1, latent_per_mz=Z, seed=first_seed + i, **values) for i in range(len(encoders))]
    vae = VAE(specs)
    for parameter in vae.parameters():
        parameter.data.zero_()
    for member, (matrix, std) in enumerate(encoders):
        h = std.log() if specs[0].posterior_scale == "log_std" else torch.expm1(std).log()
        both = torch.cat((matrix, torch.zeros_like(matrix)))
        for network, first, last, weight, bias in (
            (vae.encoder, "in", "posterior", both, torch.cat((-matrix @ B, h))),
            (vae.decoder, "latent", "out", W, B),
        ):
            inputs, layers = weight.shape[1], network.layers
            layers[first].weight.data[member, :, :inputs] = torch.eye(inputs)
            layers[first].bias.data[member] = OFFSET
            layers["hidden"].weight.data[member] = torch.eye(8)
            layers[last].weight.data[member, :inputs] = weight.T.float()
            layers[last].bias.data[member] = (bias - OFFSET * weight.sum(1)).float()
    return vae, specs


def pixels(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 2, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)


def residual_vae(members: int) -> tuple[VAE, list[TrialSpec]]:
    specs = [TrialSpec(architecture="residual", nc=3, latent_per_mz=4, seed=seed) for seed in range(members)]
    return VAE(specs), specs


def binary_images(n: int) -> torch.Tensor:
    return torch.randint(0, 2, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def trained(
    members: int, n_train: int, epochs: int, **fields: object
) -> tuple[VAE, list[TrialSpec], torch.Tensor, torch.Tensor]:
    """A bundle of VAEs trained on digits, and the training and the test images."""
    base = base_spec("digits", levels=2, n_train=n_train, epochs=epochs)
    specs = [TrialSpec(**base, mz=4, seed=seed, evaluate_at=(epochs,), **fields) for seed in range(members)]
    split = catalog.load("digits", levels=2, n_train=n_train)
    train, test = (torch.from_numpy(part.images) for part in (split.train, split.test))
    trainer = Trainer(specs, train)
    trainer.train(trainer.spec.steps)
    return trainer.vae, specs, train, test


def divergence(vae: VAE, images: torch.Tensor, encoder: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Mean KL(q || exact posterior) over the images."""
    x = vae.likelihood.scale(images).flatten(1).double() - B
    posterior = torch.distributions.MultivariateNormal(x @ A.T, S)
    q = torch.distributions.MultivariateNormal(x @ encoder[0].T, encoder[1].square().diag())
    return torch.distributions.kl_divergence(q, posterior).mean().item()


@pytest.mark.parametrize("scale", ["softplus", "log_std"])
def test_the_gap_is_the_divergence_from_the_exact_posterior(scale):
    vae, specs = linear_vae([EXACT, WRONG, NARROW], posterior_scale=scale)
    images = pixels(500)
    settings = Amortization(check_samples=64, tolerance=0.002)
    exact, wrong, narrow = amortization_gap(vae, specs, images, settings)
    assert 0 <= exact["amortization_gap"] < 0.003
    x = vae.likelihood.scale(images).flatten(1).double()
    covariance = W @ W.T + SIGMA**2 * torch.eye(D, dtype=torch.float64)
    evidence = torch.distributions.MultivariateNormal(B, covariance).log_prob(x).mean().item()
    for row, encoder in ((wrong, WRONG), (narrow, NARROW)):
        assert row["amortization_gap"] == pytest.approx(divergence(vae, images, encoder), rel=0.02)
        assert row["elbo_optimal"] == pytest.approx(evidence, abs=0.02)


def test_the_gap_of_an_exact_encoder_is_never_negative_though_the_search_is_misled():
    """One sample and three images choose parameters that are no better; the encoder's answer then wins, by zero."""
    vae, specs = linear_vae([EXACT] * 40)
    settings = Amortization(steps=4, learning_rate=0.1, check_every=1, check_samples=1)
    members = Members(vae, specs, vae.likelihood.scale(pixels(3)), list(range(40)))
    with torch.no_grad():
        start = members.encode()
        found, _ = amortization._search(members, start, settings)
        gains = (members.elbo(found, GAP, 1) - members.elbo(start, GAP, 1)).double().mean(1)
    assert gains.min() < -1e-3 and gains.max() > 1e-3
    gaps = [row["amortization_gap"] for row in amortization_gap(vae, specs, pixels(3), settings)]
    assert gaps == pytest.approx(gains.clamp_min(0).tolist(), abs=1e-6) and min(gaps) == 0


def test_the_search_finds_nothing_worse_under_the_noise_that_chooses():
    vae, specs = linear_vae([EXACT, WRONG, NARROW])
    members = Members(vae, specs, vae.likelihood.scale(pixels(20)), [0, 1, 2])
    with torch.no_grad():
        start = members.encode()
        for rate in (1e-3, 3.0):
            settings = Amortization(steps=20, learning_rate=rate, check_every=5, check_samples=2)
            found, _ = amortization._search(members, start, settings)
            rise = (members.elbo(found, LOOKS, 2) - members.elbo(start, LOOKS, 2)).double().mean(1)
            assert (rise >= 0).all()
            assert rate > 1 or (rise[1:] > 0).all()


def test_a_member_that_falls_first_goes_on_while_it_rises_again():
    """Wild steps take the ELBO from -5 to -20, then -14, then -16: only the third look finds no rise."""
    vae, specs = linear_vae([WRONG])
    rates = {"learning_rate": 2.0, "last_learning_rate": 2.0}
    settings = Amortization(steps=60, **rates, check_every=2, check_samples=16, tolerance=0.0)
    (row,) = amortization_gap(vae, specs, pixels(50), settings)
    assert row["amortization_steps"] == 6 and row["amortization_gap"] == 0


@pytest.mark.parametrize("network", ["linear", "residual"])
def test_members_alone_equal_the_members_among_others(network):
    vae, specs = linear_vae([EXACT, WRONG, NARROW, WRONG]) if network == "linear" else residual_vae(3)
    images = pixels(60) if network == "linear" else binary_images(20)
    together = amortization_gap(vae, specs, images, QUICK)
    if network == "linear":  # some were done while others went on
        assert len({row["amortization_steps"] for row in together}) > 1
        assert together[1]["amortization_gap"] != together[3]["amortization_gap"]  # noise of their own
    for member, spec in enumerate(specs):
        single = VAE([spec])
        single.load_state_dict({name: tensor[member : member + 1] for name, tensor in vae.state_dict().items()})
        (row,) = amortization_gap(single, [spec], images, QUICK)
        assert row == pytest.approx(together[member], rel=1e-4, abs=1e-5)


def test_a_member_that_is_done_stays_as_it_is_while_another_goes_on():
    """More steps than the first one to be done needs change nothing for it, and something for the others."""
    vae, specs = linear_vae([WRONG, NARROW, EXACT])
    late = amortization_gap(vae, specs, pixels(60), QUICK)
    first = min(range(3), key=lambda member: late[member]["amortization_steps"])
    stop = int(late[first]["amortization_steps"])
    early = amortization_gap(vae, specs, pixels(60), replace(QUICK, steps=stop))
    assert early[first] == pytest.approx(late[first], rel=1e-6)
    going = [m for m in range(3) if late[m]["amortization_steps"] > stop]
    assert going and all(early[m]["amortization_steps"] == stop for m in going)
    assert any(late[m]["amortization_gap"] > early[m]["amortization_gap"] for m in going)


def test_a_candidate_is_the_mean_of_the_parameters_after_each_step(monkeypatch):
    vae, specs = linear_vae([WRONG, NARROW])
    members = Members(vae, specs, vae.likelihood.scale(pixels(8)), [0, 1])
    seen, gradient = [], Members.gradient
    monkeypatch.setattr(Members, "gradient", lambda self, q, noise: seen.append(q.clone()) or gradient(self, q, noise))
    with torch.no_grad():
        start = members.encode()
        search = Search(members, start)
        candidate = search.climb(4, 0.05)
        search.climb(1, 0.05)
    assert torch.equal(seen[0], start) and len(seen) == 5
    torch.testing.assert_close(candidate, torch.stack(seen[1:]).mean(0))
    assert all(0.01 < (b - a).abs().max() < 0.11 for a, b in pairwise(seen))


def test_the_last_steps_are_taken_and_counted_though_they_are_fewer(monkeypatch):
    vae, specs = linear_vae([WRONG])
    taken, gradient = [], Members.gradient
    monkeypatch.setattr(Members, "gradient", lambda self, q, noise: taken.append(1) or gradient(self, q, noise))
    settings = Amortization(steps=13, learning_rate=1e-3, check_every=5, check_samples=8, tolerance=0.0)
    (row,) = amortization_gap(vae, specs, pixels(30), settings)
    assert row["amortization_steps"] == len(taken) == 13 and row["amortization_gap"] > 0


def test_a_larger_tolerance_ends_the_search_sooner():
    vae, specs = linear_vae([WRONG])
    patient, hasty = (
        amortization_gap(vae, specs, pixels(60), replace(QUICK, steps=2000, tolerance=tolerance))[0]
        for tolerance in (0.01, 0.3)
    )
    assert 2 * QUICK.check_every <= hasty["amortization_steps"] < patient["amortization_steps"] < 2000
    assert hasty["amortization_gap"] < patient["amortization_gap"]


def test_every_look_halves_the_step_size_down_to_the_last(monkeypatch):
    vae, specs = linear_vae([WRONG, EXACT])  # the exact one leaves early, which changes nothing for the other
    taken, climb = [], Search.climb
    monkeypatch.setattr(Search, "climb", lambda self, n, rate: taken.append((n, rate)) or climb(self, n, rate))
    settings = Amortization(steps=55, learning_rate=0.02, last_learning_rate=0.004, check_every=10, tolerance=0.0)
    wrong, exact = amortization_gap(vae, specs, pixels(30), settings)
    assert taken == [(10, 0.02), (10, 0.01), (10, 0.005), (10, 0.004), (10, 0.004), (5, 0.004)]
    assert exact["amortization_steps"] < wrong["amortization_steps"] == 55


def test_the_search_misses_little_of_what_a_long_one_with_small_steps_finds():
    """And a fixed step size misses more. Of four VAEs, whose gaps are 0.17 to 0.29 nats."""
    vae, specs, _, images = trained(members=4, n_train=300, epochs=100, nc=64)
    members = Members(vae.eval(), specs, vae.likelihood.scale(images[:120]), [0, 1, 2, 3])
    with torch.no_grad():
        start = members.encode()
        search = Search(members, start)
        search.climb(300, 0.01)
        long = search.climb(1500, 0.003)
        halved, _ = amortization._search(members, start, Amortization())
        fixed, _ = amortization._search(members, start, Amortization(last_learning_rate=0.02))
        at_start, *found = (members.elbo(q, GAP, 128).double().mean(1) for q in (start, long, halved, fixed))
    most, *gains = (elbo - at_start for elbo in found)
    missed, missed_by_fixed = (1 - (gain / most).mean().item() for gain in gains)
    assert most.min() > 0.1 and missed < 0.027
    assert missed_by_fixed > 1.3 * missed


def test_a_deviation_of_nothing_has_the_elbo_of_the_vae():
    """h = -200, whose softplus is zero; ``VAE.posterior`` has a least deviation."""
    vae, specs = linear_vae([WRONG])
    members = Members(vae, specs, vae.likelihood.scale(pixels(4)), [0])
    q = torch.stack((torch.zeros(1, 4, Z), torch.full((1, 4, Z), -200.0)))
    with torch.no_grad():
        elbo = members.elbo(q, LOOKS, 1)
        posterior = vae.posterior(torch.cat((q[0], q[1]), dim=-1))
        decoded = vae.decode(posterior.mean)
        expected = vae.likelihood.log_prob(decoded, members.images.expand(1, -1, -1, -1, -1)) - posterior.rate()
        assert members.gradient(q, torch.zeros(1, 4, Z)).isfinite().all()
    torch.testing.assert_close(elbo, expected, rtol=1e-4, atol=1e-3)


def test_the_images_asked_for_are_the_first_or_all_that_there_are():
    vae, specs = linear_vae([WRONG])
    (few,) = amortization_gap(vae, specs, pixels(300), QUICK)
    (same,) = amortization_gap(vae, specs, pixels(300)[:60], QUICK)
    (fewer,) = amortization_gap(vae, specs, pixels(300)[:20], QUICK)
    assert few == same and few["amortization_images"] == 60 and fewer["amortization_images"] == 20


def test_how_many_images_are_computed_at_once_does_not_matter(monkeypatch):
    vae, specs = linear_vae([EXACT, WRONG])
    expected = amortization_gap(vae, specs, pixels(60), QUICK)
    monkeypatch.setattr(amortization, "CHUNK_BYTES", 2 * 7 * activation_bytes(specs[0]))
    assert [len(range(*chunk.indices(60))) for chunk in Members(vae, specs, pixels(60), [0, 1]).chunks] == [7] * 8 + [4]
    for row, other in zip(amortization_gap(vae, specs, pixels(60), QUICK), expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_the_three_sets_of_noise_are_others_and_are_drawn_anew():
    vae, specs = linear_vae([EXACT, EXACT])
    members = Members(vae, specs, vae.likelihood.scale(pixels(5)), [0, 1])
    draws = [members.draw(members.generators(noise)) for noise in (STEPS, LOOKS, GAP)]
    numbers = torch.stack(draws).flatten().tolist()
    assert draws[0].shape == (2, 5, Z) and len(set(numbers)) == len(numbers) == 3 * 2 * 5 * Z
    assert torch.equal(draws[1], members.draw(members.generators(LOOKS)))


def test_the_noise_of_the_steps_is_a_latin_hypercube_of_normal_numbers():
    vae, specs = linear_vae([EXACT, EXACT])
    members = Members(vae, specs, vae.likelihood.scale(pixels(2000)), [0, 1])
    noise = members.draw_strata(members.generators(STEPS)).double()
    assert noise.shape == (STRATA, 2, 2000, Z)
    intervals = (torch.special.ndtr(noise) * STRATA).long()
    each_once = torch.arange(STRATA).view(-1, 1, 1, 1)
    assert torch.equal(intervals.sort(0).values, each_once.expand_as(intervals))
    for step in noise:  # by itself normal, and independent across members, images and dimensions; five standard errors
        assert step.mean().abs() < 5 / step.numel() ** 0.5
        assert (step.square().mean() - 1).abs() < 5 * (2 / step.numel()) ** 0.5
        assert (step.pow(4).mean() - 3).abs() < 5 * (96 / step.numel()) ** 0.5
        for a, b in ((step[0], step[1]), (step[:, 1:], step[:, :-1]), (step[..., 0], step[..., 1])):
            assert (a * b).mean().abs() < 5 / a.numel() ** 0.5
    alone = Members(vae, specs, members.images, [1])
    assert torch.equal(alone.draw_strata(alone.generators(STEPS))[:, 0].double(), noise[:, 1])


@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-24], ids=["least", "most"])
def test_no_number_of_the_noise_is_infinite(monkeypatch, uniform):
    vae, specs = linear_vae([EXACT])
    members = Members(vae, specs, vae.likelihood.scale(pixels(3)), [0])
    monkeypatch.setattr(torch, "rand", lambda *shape, generator, device: torch.full(shape, uniform))
    noise = members.draw_strata(members.generators(STEPS))
    assert noise.isfinite().all() and 5 < noise.abs().max() < 6


@pytest.mark.parametrize("scale", ["softplus", "log_std"])
@pytest.mark.parametrize(
    "fields",
    [
        {"image_shape": (1, 8, 8), "nc": 5},
        {"image_shape": (1, 8, 8), "nc": 5, "levels": 256, "likelihood": "gaussian", "sigma": 0.3},
        {"image_shape": (1, 8, 8), "nc": 5, "levels": 17, "likelihood": "logistic"},
        {"image_shape": (3, 4, 4), "nc": 5, "levels": 256, "likelihood": "logistic_mixture", "mixture_components": 2},
        {"image_shape": (1, 8, 8), "nc": 3, "latent_per_mz": 4, "architecture": "residual"},
    ],
    ids=["bernoulli", "gaussian", "logistic", "mixture", "residual"],
)
def test_the_gradient_is_that_of_the_elbo_of_the_vae(fields, scale):
    """Against backpropagation through the VAE's own posterior, rate and log-probability, member 1 left out."""
    specs = [TrialSpec(seed=seed, posterior_scale=scale, **fields) for seed in range(3)]
    vae = VAE(specs).eval()
    generator = torch.Generator().manual_seed(0)
    levels = specs[0].levels
    x = vae.likelihood.scale(torch.randint(0, levels, (4, *specs[0].image_shape), generator=generator).byte())
    q = torch.randn(2, 2, 4, specs[0].latent_dim, generator=generator)
    noise = torch.randn(3, 4, specs[0].latent_dim, generator=generator)
    with torch.no_grad():
        members = Members(vae, specs, x, [0, 2])
        got = members.gradient(q, noise[[0, 2]])
    parameters = torch.zeros(3, 4, 2 * specs[0].latent_dim)
    parameters[[0, 2]] = torch.cat((q[0], q[1]), dim=-1)
    parameters.requires_grad_()
    posterior = vae.posterior(parameters)
    decoded = vae.decode(posterior.sample(noise))
    elbo = vae.likelihood.log_prob(decoded, x.expand(3, *x.shape)) - posterior.rate()
    (expected,) = torch.autograd.grad(-elbo.sum(), parameters)
    expected = torch.stack(expected[[0, 2]].chunk(2, dim=-1))
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * expected.abs().max().item())


@pytest.mark.parametrize("network", ["linear", "residual"])
def test_the_vae_is_left_as_it_was(network):
    """Statistics of BatchNorm included, though it comes from training."""
    vae, specs = linear_vae([EXACT, WRONG]) if network == "linear" else residual_vae(2)
    vae.train()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    images = pixels(30) if network == "linear" else binary_images(30)
    amortization_gap(vae, specs, images, replace(QUICK, steps=5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in vae.parameters())


@pytest.mark.parametrize("where", ["encoder", "decoder"])
def test_a_member_that_failed_neither_disturbs_the_others_nor_goes_on_for_ever(where):
    vae, specs = linear_vae([WRONG, WRONG, NARROW])
    expected = amortization_gap(vae, specs, pixels(60), QUICK)
    for parameter in getattr(vae, where).parameters():
        parameter.data[1] = float("nan")
    rows = amortization_gap(vae, specs, pixels(60), QUICK)
    for member in (0, 2):
        assert rows[member] == pytest.approx(expected[member], rel=1e-4)
    assert math.isnan(rows[1]["amortization_gap"]) and math.isnan(rows[1]["elbo_optimal"])
    assert rows[1]["amortization_steps"] == QUICK.check_every


def test_a_frozen_member_has_the_gap_of_its_weights():
    """Weights of zero: the decoder ignores z, so the best q is the prior; its distance is known."""
    vae, specs = linear_vae([WRONG, NARROW])
    for parameter in vae.parameters():
        parameter.data[0] = 0.0
    settings = Amortization(images=60, learning_rate=0.01, check_every=100, check_samples=4, tolerance=0.001)
    row = amortization_gap(vae, specs, pixels(60), settings)[0]
    std = math.log(2)  # softplus(0)
    assert row["amortization_gap"] == pytest.approx(Z * (0.5 * (std**2 - 1) - math.log(std)), rel=0.01)


def test_a_trained_vae_loses_something_by_amortization():
    vae, specs, train, test = trained(members=2, n_train=200, epochs=200, nc=128, elbo_samples=16)
    settings = Amortization(images=200, steps=300)
    rows = amortization_gap(vae, specs, test, settings)
    on_train, on_test = (-sum(rate_and_distortion(vae, specs, part, stream=1)) for part in (train, test[:200]))
    for row, elbo, best in zip(rows, on_test.tolist(), on_train.tolist(), strict=True):
        assert 0.2 < row["amortization_gap"] < best - elbo  # the encoder is a part of what does not generalise
        assert row["elbo_optimal"] - row["amortization_gap"] == pytest.approx(elbo, abs=0.15)  # other noise
        assert row["elbo_optimal"] > elbo


def test_the_step_size_never_rises():
    message = "last_learning_rate of the amortization gap must be <= learning_rate; got 0.03 with 0.02"
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$"):
        Amortization(last_learning_rate=0.03)
    assert Amortization(learning_rate=1, last_learning_rate=1).last_learning_rate == 1.0
