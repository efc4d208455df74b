"""Encoders that are trained on, where the best one is known, and on digits.

Without hidden layers and with a Gaussian likelihood the VAE is p(z) = N(0, I), p(x|z) = N(Wz + b, sigma^2 I) with an
affine encoder. The columns of W are orthogonal, so the exact posterior, which is the best q for every image and hence
for every mixture of images, is one of those encoders. Its ELBO is log N(x; b, W W^T + sigma^2 I).
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from vaegen_ray.data import catalog
from vaegen_ray.evaluation import encoder_training as module
from vaegen_ray.evaluation.elbo import evaluate_elbo
from vaegen_ray.evaluation.encoder_training import OPTIMAL, SELF_CONSISTENT, Mixture, inference, train_encoder
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Inference
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.training.adam import Adam
from vaegen_ray.training.trainer import Trainer

D, Z, SIGMA = 6, 2, 0.4
W = torch.tensor([[0.6, 0.1], [0.6, -0.1], [-0.3, 0.2], [-0.3, -0.2], [0.0, 0.5], [0.0, -0.5]], dtype=torch.float64)
B = torch.tensor([0.5, 0.3, 0.4, 0.6, 0.1, 0.9], dtype=torch.float64)
COLUMNS = ["elbo_optimal_inference", "elbo_self_consistent_0", "elbo_self_consistent_50", "elbo_self_consistent_100"]
QUICK = Inference(epochs=3, optimal_epochs=3, learning_rate=1e-2)
DENSE = {"nc": 8, "batch_size": 10, "n_train": 30}
RESIDUAL = {**DENSE, "architecture": "residual", "nc": 3, "latent_per_mz": 4}
ARCHITECTURES = [pytest.param(DENSE, id="dense"), pytest.param(RESIDUAL, id="residual")]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def affine_vae(members: int, w: torch.Tensor = W, **changes: object) -> tuple[VAE, list[TrialSpec]]:
    """Members that decode with w and b, and whose encoder says N(0, softplus(0)^2) of every image."""
    values = {"image_shape": (1, 2, 3), "levels": 256, "likelihood": "gaussian", "sigma": SIGMA, **changes}
    specs = [TrialSpec(hidden_layers=0, latent_per_mz=Z, seed=seed, **values) for seed in range(members)]
    vae = VAE(specs)
    for parameter in vae.parameters():
        parameter.data.zero_()
    vae.decoder.layers["out"].weight.data[:] = w.T.float()
    vae.decoder.layers["out"].bias.data[:] = B.float()
    return vae, specs


def some_pixels(n: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 2, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def binary(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 2, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def bundle(options: dict, seeds: tuple[int, ...] = (0, 1)) -> tuple[VAE, list[TrialSpec]]:
    specs = [TrialSpec(seed=seed, **options) for seed in seeds]
    return VAE(specs), specs


def point_key(vae: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())


def state(vae: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in vae.state_dict().items()}


def test_in_an_affine_gaussian_vae_every_training_finds_the_exact_posterior():
    vae, specs = affine_vae(2, elbo_samples=64, batch_size=25)
    train, test = some_pixels(300, 1), some_pixels(200, 2)
    rows = inference(vae, specs, train, test, Inference(epochs=60, optimal_epochs=60, learning_rate=0.03))
    covariance = W @ W.T + SIGMA**2 * torch.eye(D, dtype=torch.float64)
    x = vae.likelihood.scale(test).flatten(1).double()
    evidence = torch.distributions.MultivariateNormal(B, covariance).log_prob(x).mean().item()
    for before, row in zip(evaluate_elbo(vae, specs, train, test), rows, strict=True):
        assert before["elbo_test"] < evidence - 1
        assert list(row) == COLUMNS
        for value in row.values():
            assert value == pytest.approx(evidence, abs=0.02)


def test_it_helps_an_encoder_that_knows_few_images():
    base = base_spec("digits", levels=2, n_train=100, epochs=300, batch_size=20)
    specs = [TrialSpec(**base, nc=128, mz=4, seed=seed, evaluate_at=(300,)) for seed in (0, 1)]
    split = catalog.load("digits", levels=2, n_train=100)
    train, test = torch.from_numpy(split.train.images), torch.from_numpy(split.test.images[:200])
    trainer = Trainer(specs, train)
    trainer.train(trainer.spec.steps)
    elbos = evaluate_elbo(trainer.vae, specs, train, test)
    rows = inference(trainer.vae, specs, train, test, Inference(epochs=60, optimal_epochs=60, self_consistent=(0, 50)))
    for elbo, row in zip(elbos, rows, strict=True):
        mixed = row["elbo_self_consistent_50"]
        assert mixed > elbo["elbo_test"] + 0.3
        assert mixed > row["elbo_self_consistent_0"] + 0.3
        assert mixed + 0.3 < row["elbo_optimal_inference"] < elbo["elbo_train"]


def test_samples_alone_teach_the_encoder_the_samples_of_its_model():
    """D_test is samples of the model, which an encoder that has overfitted a few digits knows badly."""
    base = base_spec("digits", levels=2, n_train=50, epochs=300, batch_size=25)
    specs = [TrialSpec(**base, nc=64, mz=2, evaluate_at=(300,))]
    train = torch.from_numpy(catalog.load("digits", levels=2, n_train=50).train.images)
    trainer = Trainer(specs, train)
    trainer.train(trainer.spec.steps)
    trainer.vae.eval()
    drawn = Mixture(specs, train, 100, OPTIMAL).batches(trainer.vae, 8)  # noise that the training does not see
    test = torch.cat([pixels[0] for pixels, _ in drawn])
    before = evaluate_elbo(trainer.vae, specs, train, test)[0]["elbo_test"]
    (row,) = inference(trainer.vae, specs, train, test, Inference(epochs=100, optimal_epochs=1))
    assert row["elbo_self_consistent_100"] > before + 0.2
    assert row["elbo_self_consistent_100"] > row["elbo_self_consistent_0"] + 0.2


@pytest.mark.parametrize("alpha", [0, 50, 100])
def test_steps_of_almost_no_size_leave_the_elbo_of_the_test_set(alpha):
    vae, specs = bundle({**DENSE, "elbo_samples": 2})
    train, test = binary(30), binary(25, 1)
    settings = Inference(epochs=2, optimal_epochs=2, learning_rate=1e-12, self_consistent=(alpha,))
    rows = inference(vae, specs, train, test, settings)
    for row, elbo in zip(rows, evaluate_elbo(vae, specs, train, test), strict=True):
        assert list(row) == ["elbo_optimal_inference", f"elbo_self_consistent_{alpha}"]
        assert list(row.values()) == [pytest.approx(elbo["elbo_test"], rel=1e-9)] * 2


@pytest.mark.parametrize("options", ARCHITECTURES)
@pytest.mark.parametrize("training", [True, False])
def test_the_vae_is_left_as_it_was(options, training):
    vae, specs = bundle(options)
    vae.train(training)
    before, numbers = state(vae), torch.get_rng_state()
    with torch.no_grad():
        inference(vae, specs, binary(30), binary(25, 1), QUICK)
    assert point_key(vae, before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in vae.parameters())
    assert all(part.training is training for part in vae.modules())
    assert torch.equal(torch.get_rng_state(), numbers)


@pytest.mark.parametrize("options", ARCHITECTURES)
def test_only_the_encoder_is_trained(options):
    vae, specs = bundle(options)
    trained = train_encoder(vae, Mixture(specs, binary(30), 50, SELF_CONSISTENT), 3, 1e-2)
    assert point_key(trained.decoder, state(vae.decoder))
    assert all(parameter.grad is None for parameter in trained.decoder.parameters())  # costs no time either
    for name, tensor in trained.encoder.state_dict().items():
        assert not torch.equal(tensor, vae.encoder.state_dict()[name]), name


@pytest.mark.parametrize("options", ARCHITECTURES)
def test_a_member_is_the_same_alone_and_among_others_and_at_each_call(options):
    vae, specs = bundle(options, (5, 6, 7))
    train, test = binary(30), binary(25, 1)
    rows = inference(vae, specs, train, test, QUICK)
    assert rows == inference(vae, specs, train, test, QUICK)
    for member, row in enumerate(rows):
        alone = inference(VAE([specs[member]]), [specs[member]], train, test, QUICK)
        assert alone == [{name: pytest.approx(value, rel=1e-5) for name, value in row.items()}]
    assert len({round(value, 6) for row in rows for value in row.values()}) == 3 * 4


@pytest.mark.parametrize("where", ["encoder", "decoder"])
def test_a_member_that_is_not_finite_does_not_disturb_the_others(where):
    vae, specs = bundle(DENSE, (0, 1, 2))
    expected = inference(vae, specs, binary(30), binary(25, 1), QUICK)
    for parameter in getattr(vae, where).parameters():
        parameter.data[1] = math.nan
    rows = inference(vae, specs, binary(30), binary(25, 1), QUICK)
    assert (rows[0], rows[2]) == (expected[0], expected[2])
    assert all(math.isnan(value) for value in rows[1].values()) and list(rows[1]) == COLUMNS


def test_beta_is_one_whatever_the_trial_was_trained_at():
    specs = [TrialSpec(beta=beta, **DENSE) for beta in (0.0, 1.0, 4.0)]
    rows = inference(VAE(specs), specs, binary(30), binary(25, 1), QUICK)
    assert rows[0] == rows[1] == rows[2]


@pytest.mark.parametrize("batch, percent, samples", [(10, 0, 0), (10, 50, 5), (10, 100, 10), (5, 50, 3), (40, 50, 20)])
def test_a_fixed_part_of_every_batch_is_samples(batch, percent, samples):
    """The decoder's samples are white, the images black."""
    specs = [TrialSpec(nc=4, batch_size=batch, n_train=40, seed=seed) for seed in (0, 1)]
    vae = VAE(specs)
    vae.decoder.layers["out"].bias.data.fill_(1e4)
    mixture = Mixture(specs, torch.zeros(40, 1, 8, 8, dtype=torch.uint8), percent, SELF_CONSISTENT)
    for pixels, noise in mixture.batches(vae, 7):
        assert pixels.shape == (2, batch, 1, 8, 8) and pixels.dtype == torch.uint8
        assert noise.shape == (2, batch, 2)
        white = pixels.flatten(2).float().mean(2)
        assert white.tolist() == [[1.0] * samples + [0.0] * (batch - samples)] * 2


@pytest.mark.parametrize("percent, real", [(0, 4), (50, 2)])
def test_a_pass_has_every_image_once_in_an_order_of_its_own(percent, real, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 1000)  # blocks of a few steps
    specs = [TrialSpec(nc=4, batch_size=4, n_train=8, levels=256, seed=seed) for seed in (0, 1)]
    images = torch.arange(1, 9, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 8, 8)  # image i has grey level i + 1
    batches = Mixture(specs, images, percent, SELF_CONSISTENT).batches(VAE(specs), 3 * 8 // real)
    levels = torch.cat([pixels[:, -real:, 0, 0, 0] for pixels, _ in batches], dim=1)  # [M, 3 passes * 8]
    orders = levels.unflatten(1, (3, 8)).flatten(0, 1).tolist()
    assert all(sorted(order) == list(range(1, 9)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6


def test_noise_and_samples_are_new_at_every_step_and_the_two_trainings_have_their_own(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 2000)
    vae, specs = bundle({**DENSE, "batch_size": 4})
    drawn = [
        batch
        for number in (OPTIMAL, SELF_CONSISTENT)
        for batch in Mixture(specs, binary(30), 100, number).batches(vae, 9)
    ]
    samples, noise = (torch.cat(part).flatten(2) for part in zip(*drawn, strict=True))
    assert len(samples.flatten(0, 1).unique(dim=0)) == 2 * 9 * 2 * 4
    assert len(noise.flatten(0, 1).unique(dim=0)) == 2 * 9 * 2 * 4


def test_samples_are_those_of_the_model():
    """x ~ N(b, w w^T + sigma^2 I), narrow enough to be in range and not to be cut."""
    w = 0.1 * W
    vae, specs = affine_vae(1, w, sigma=0.02, batch_size=500)
    vae.decoder.layers["out"].bias.data.fill_(0.5)
    batches = Mixture(specs, some_pixels(500, 0), 100, SELF_CONSISTENT).batches(vae, 8)
    x = torch.cat([pixels[0] for pixels, _ in batches]).flatten(1).double() / 255
    covariance = w @ w.T + 0.02**2 * torch.eye(D, dtype=torch.float64)
    torch.testing.assert_close(x.mean(0), torch.full((D,), 0.5, dtype=torch.float64), rtol=0, atol=0.004)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0, atol=4e-4)


def test_as_many_images_as_there_are_times_the_passes_with_steps_that_stay_and_then_fall(monkeypatch):
    sizes = []
    step = Adam.step
    monkeypatch.setattr(Adam, "step", lambda adam: sizes.append(adam.learning_rate) or step(adam))
    vae, specs = bundle({**DENSE, "batch_size": 20})
    settings = replace(QUICK, learning_rate=0.06, self_consistent=(50,))
    inference(vae, specs, binary(40), binary(8, 1), settings)  # the test set is smaller than a batch
    optimal, self_consistent = [0.06, 0.06, 0.04], [0.06, 0.06, 0.06, 0.06, 0.04, 0.02]
    assert sizes == pytest.approx(optimal + self_consistent)
