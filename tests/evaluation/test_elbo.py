import math

import pytest
import torch

from vaegen_ray.evaluation import elbo
from vaegen_ray.evaluation.elbo import evaluate_elbo, rate_and_distortion
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec

DENSE = {"nc": 8, "levels": 17, "likelihood": "logistic"}
RESIDUAL = {**DENSE, "architecture": "residual", "nc": 4, "latent_per_mz": 4}
ARCHITECTURES = [pytest.param(DENSE, id="dense"), pytest.param(RESIDUAL, id="residual")]


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 17, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def close(a: dict, b: dict, relative: float) -> bool:
    """Equal up to ``relative``; differences of two ELBOs up to that part of an ELBO."""
    return a == {name: pytest.approx(value, rel=relative, abs=relative * -b["elbo_test"]) for name, value in b.items()}


@pytest.mark.parametrize("options", ARCHITECTURES)
def test_how_many_images_are_computed_at_once_does_not_matter(options, monkeypatch):
    specs = [TrialSpec(seed=seed, elbo_samples=2, **options) for seed in (0, 1)]
    vae = VAE(specs)
    train, test = images(520), images(33, 1)
    whole = evaluate_elbo(vae, specs, train, test)
    sizes = []
    original = VAE.rate_and_distortion
    monkeypatch.setattr(VAE, "rate_and_distortion", lambda *a: sizes.append(a[1].shape[1]) or original(*a))
    monkeypatch.setattr(elbo, "CHUNK_BYTES", 2**19)
    chunks = evaluate_elbo(vae, specs, train, test)
    assert 1 < max(sizes) < 100
    for a, b in zip(whole, chunks, strict=True):
        assert close(a, b, 1e-6)
    monkeypatch.setattr(elbo, "CHUNK_BYTES", 1)
    sizes.clear()
    one = rate_and_distortion(vae, specs, test, stream=1)
    assert set(sizes) == {1}
    torch.testing.assert_close(one[0], torch.tensor([r["rate_test"] for r in whole]).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("options", ARCHITECTURES)
def test_what_follows_from_rate_and_distortion(options):
    spec = TrialSpec(**options)
    (row,) = evaluate_elbo(VAE([spec]), [spec], images(30), images(20, 1))
    for part in ("train", "test"):
        assert row[f"elbo_{part}"] == -row[f"rate_{part}"] - row[f"distortion_{part}"]
    assert row["generalization_gap"] == row["elbo_train"] - row["elbo_test"]
    assert row["bits_per_dim_test"] == pytest.approx(-row["elbo_test"] / math.log(2) / 64)
    assert row["elbo_source"] == row["elbo_train"]
    assert row["elbo_samples"] == 1


def test_a_uniform_model_needs_log2_of_the_levels_bits_a_dimension():
    """Bernoulli logits of zero and a posterior equal to the prior: one bit a pixel, exactly, and no rate."""
    spec = TrialSpec(nc=4, posterior_scale="log_std")
    vae = VAE([spec])
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
    data = images(20) % 2
    (row,) = evaluate_elbo(vae, [spec], data, data)
    assert row["rate_test"] == 0
    assert row["bits_per_dim_test"] == pytest.approx(1, rel=1e-6)


def test_the_noise_is_the_same_at_each_call_and_differs_by_seed_and_data_set():
    specs = [TrialSpec(seed=seed, **DENSE) for seed in (0, 1)]
    vae = VAE([specs[0], TrialSpec(seed=0, beta=2.0, **DENSE)])  # two members of equal weights
    data = images(40)
    first, again = evaluate_elbo(vae, specs, data, data), evaluate_elbo(vae, specs, data, data)
    assert first == again
    assert first[0]["rate_train"] == first[1]["rate_train"]
    assert first[0]["distortion_train"] != first[1]["distortion_train"]
    assert first[0]["distortion_train"] != first[0]["distortion_test"]


def test_every_block_of_images_has_noise_of_its_own(monkeypatch):
    drawn = []
    original = elbo._noise
    monkeypatch.setattr(elbo, "_noise", lambda *a: drawn.append(original(*a)) or drawn[-1])
    spec = TrialSpec(**DENSE)
    evaluate_elbo(VAE([spec]), [spec], images(1200), images(600, 1))
    assert [tuple(noise.shape) for noise in drawn] == [(1, n, 2) for n in (500, 500, 200, 500, 100)]
    assert len({noise[0, 0, 0].item() for noise in drawn}) == 5


def test_reported_at_beta_one():
    specs = [TrialSpec(beta=beta, **DENSE) for beta in (0.0, 1.0, 10.0)]
    rows = evaluate_elbo(VAE(specs), specs, images(20), images(20, 1))
    for row in rows:
        assert close(row, rows[1], 1e-6)


def test_evaluation_uses_running_statistics_and_leaves_them_alone():
    spec = TrialSpec(**RESIDUAL)
    vae = VAE([spec])
    vae.train()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    whole = rate_and_distortion(vae, [spec], images(20), stream=0)[0]
    parts = [rate_and_distortion(vae, [spec], images(20)[i : i + 1], stream=0)[0] for i in range(20)]
    torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-6, atol=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in vae.state_dict().items())
