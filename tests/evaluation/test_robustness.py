"""The attack where its best is known, and what its gap must be.

For a linear encoder with one latent dimension, mean a.x + c and a standard deviation s that does not depend on x,
SKL[q(.|x + eps) || q(.|x)] = (a.eps)^2 / (2 s^2): its largest value over a box is at the corner eps = +-radius sign(a),
cut where the image would leave [0, 1].
"""

import math
from itertools import pairwise

import pytest
import torch

from vaegen_ray.data.catalog import load
from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation import robustness
from vaegen_ray.evaluation.ms_ssim import ms_ssim
from vaegen_ray.evaluation.robustness import attack, robustness_gap, symmetric_kl
from vaegen_ray.models.vae import VAE, Posterior
from vaegen_ray.spec.evaluation import Attack
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.trainer import Trainer

D, STD, OFFSET = 16, 0.3, 16.0
A = torch.linspace(-1, 1, D) * torch.tensor([1.0, -0.6]).repeat(D // 2)
SMALL = Attack(images=6, restarts=3, steps=20)
GREY = {"levels": 17, "likelihood": "gaussian", "sigma": 0.1, "nc": 32}


def linear_vae(matrix: torch.Tensor) -> VAE:
    """A VAE of 4x4 images whose encoder has the mean ``matrix @ x`` [Z, D] and the standard deviation STD."""
    latent = len(matrix)
    vae = VAE([TrialSpec(image_shape=(1, 4, 4), levels=256, likelihood="gaussian", nc=D, latent_per_mz=latent)])
    layers = vae.encoder.layers
    with torch.no_grad():
        for name in ("in", "hidden", "posterior"):
            layers[name].weight.zero_()
            layers[name].bias.zero_()
        layers["in"].weight[0] = torch.eye(D)
        layers["in"].bias[0] = OFFSET
        layers["hidden"].weight[0] = torch.eye(D)
        layers["posterior"].weight[0, :, :latent] = matrix.T
        layers["posterior"].bias[0, 0, :latent] = -OFFSET * matrix.sum(1)
        layers["posterior"].bias[0, 0, latent:] = math.log(math.expm1(STD))
    return vae


def pixels(n: int, levels: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, levels, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def trained() -> tuple[VAE, list[TrialSpec], torch.Tensor]:
    """Three small VAEs after 60 epochs on grey digits, and the test set."""
    data = load("digits", levels=17, n_train=500)
    specs = [TrialSpec(seed=seed, mz=2, epochs=60, evaluate_at=(60,), **GREY) for seed in range(3)]
    trainer = Trainer(specs, torch.as_tensor(data.train.images))
    trainer.train(specs[0].steps)
    return trainer.vae, specs, torch.as_tensor(data.test.images)


def of_member(vae: VAE, specs: list[TrialSpec], member: int) -> VAE:
    alone = VAE([specs[member]])
    alone.load_state_dict({name: value[member : member + 1] for name, value in vae.state_dict().items()})
    return alone


def assert_same(rows: list[dict], expected: list[dict], relative: float = 1e-4) -> None:
    """Equal up to ``relative``; a gap up to that part of the similarities it is the difference of."""
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row == {name: pytest.approx(value, rel=relative, abs=relative) for name, value in other.items()}


def test_symmetric_kl_is_half_of_both_directions():
    draw = torch.Generator().manual_seed(0)
    q, p = (Posterior(torch.randn(2, 5, 3, generator=draw), torch.rand(2, 5, 3, generator=draw) + 0.1) for _ in "qp")
    a, b = (torch.distributions.Normal(each.mean, each.std) for each in (q, p))
    expected = 0.5 * (torch.distributions.kl_divergence(a, b) + torch.distributions.kl_divergence(b, a)).sum(-1)
    torch.testing.assert_close(symmetric_kl(q, p), expected)
    assert (symmetric_kl(q, q) == 0).all()


@pytest.mark.parametrize("step_size", [1.0, 1e-2])
def test_finds_the_best_corner_of_a_linear_encoder(step_size):
    """Both corners are maxima of a convex function; of many starts each image finds the better one."""
    radius, vae = 0.1, linear_vae(A[None])
    x = torch.rand(1, 5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    x[0, 0], x[0, 1] = 0, 1
    corners = torch.stack([(x + sign * radius * A.sign().view(4, 4)).clamp(0, 1) for sign in (1, -1)])
    values = ((corners - x).flatten(3) @ A).square() / (2 * STD**2)  # [2, 1, 5]
    starts = (2 * torch.rand(1, 40, 1, 4, 4, generator=torch.Generator().manual_seed(2)) - 1) * radius
    many = x.repeat_interleave(8, 1)
    found = attack(vae, many, starts, Attack(steps=400, step_size=step_size, radius=radius))
    kl = symmetric_kl(vae.encode(found), vae.encode(many)).view(5, 8)
    torch.testing.assert_close(kl.amax(1), values.amax(0)[0], rtol=1e-3, atol=0)
    for image in range(5):
        for value in kl[image]:
            assert any(value.item() == pytest.approx(each.item(), rel=1e-3) for each in values[:, 0, image])


def test_each_attack_halves_its_own_step_where_it_jumps_over_the_peak():
    """The mean is v up to a pixel value of v = 0.06 and falls by v / 4 from there, and q(z|x) depends on nothing else.

    Image 0 (v = 0.02) has its best inside the box, at 0.06, over which a step of size 1 jumps for ever: from 0.12, the
    edge of the box, to 0.051 and back. Image 1 (v = 0.5) must keep that step size to reach its edge.
    """
    vae = linear_vae(torch.zeros(1, D))
    layers = vae.encoder.layers
    with torch.no_grad():
        layers["in"].weight.zero_()
        layers["in"].bias.zero_()
        layers["in"].weight[0, 0, :2] = 1
        layers["in"].bias[0, 0, 1] = -0.06
        layers["posterior"].weight[0, :2, 0] = torch.tensor([1, -1.25])
    x, start = torch.zeros(1, 2, 1, 4, 4), torch.zeros(1, 2, 1, 4, 4)
    x[0, :, 0, 0, 0], start[0, :, 0, 0, 0] = torch.tensor([0.02, 0.5]), torch.tensor([0.02, 1e-4])
    found = attack(vae, x, start, Attack(steps=100, radius=0.1))[0, :, 0, 0, 0]
    assert found.tolist() == [pytest.approx(0.06, abs=1e-4), pytest.approx(0.6)]


def test_attack_kl_is_the_closed_form_mean_over_images_and_restarts():
    """Images far from black and white, where both corners are equally good."""
    data = 100 + pixels(6, 50, 1, 4, 4)
    (row,) = robustness_gap(vae := linear_vae(A[None]), [vae.spec], data, Attack(images=4, restarts=5, radius=0.2))
    assert row["attack_kl"] == pytest.approx((0.2 * A.abs().sum().item()) ** 2 / (2 * STD**2), rel=1e-3)
    assert row["robustness_gap"] == row["ms_ssim_input"] - row["ms_ssim_reconstruction"]


@pytest.mark.parametrize("step_size", [1e-3, 1.0, 1e6])
def test_no_step_leaves_the_radius_or_the_range(trained, step_size):
    vae, _, test = trained
    settings = Attack(steps=15, step_size=step_size, radius=0.15)
    x = (test[:20].float() / 16).expand(3, -1, -1, -1, -1)
    seen = []
    hook = vae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    draw = torch.Generator().manual_seed(0)
    start = (2 * torch.rand(x.shape, generator=draw) - 1) * settings.radius
    found = attack(vae, x, start, settings)
    hook.remove()
    assert len(seen) == 1 + 16  # the clean images; the start and what each step made of it
    assert torch.equal(seen[0], x)
    torch.testing.assert_close(seen[1], (x + start).clamp(0, 1))
    for images in (*seen, found):
        assert images.min() >= 0 and images.max() <= 1
        assert (images - x).abs().max() <= settings.radius + 1e-6
    with torch.no_grad():
        clean = vae.encode(x)
        values = torch.stack([symmetric_kl(vae.encode(each), clean) for each in seen[1:]])
        torch.testing.assert_close(symmetric_kl(vae.encode(found), clean), values.amax(0))
    assert (values[-1] > values[0]).float().mean() > 0.95


def test_an_encoder_that_ignores_its_input_has_the_gap_of_random_noise(trained):
    """No gradient, so x_a is the random start; reconstructions are equal, the same noise being used for both."""
    _, specs, test = trained
    vae = VAE(specs)
    with torch.no_grad():
        vae.encoder.layers["in"].weight.zero_()
    settings = Attack(images=40, restarts=100, steps=3)
    x = (test[:40].float() / 16).repeat(100, 1, 1, 1)
    noise = 2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1
    expected = ms_ssim(x, (x + settings.radius * noise).clamp(0, 1)).mean().item()
    rows = robustness_gap(vae, specs, test, settings)
    for row in rows:
        assert row["attack_kl"] == 0
        assert row["ms_ssim_reconstruction"] == pytest.approx(1, abs=1e-6)
        assert 1 - row["ms_ssim_input"] == pytest.approx(1 - expected, rel=0.05)
    assert len({row["ms_ssim_input"] for row in rows}) == 3  # each from its own stream


def test_more_steps_reach_at_least_the_same_kl(trained):
    vae, specs, test = trained
    kls = [
        [row["attack_kl"] for row in robustness_gap(vae, specs, test, Attack(images=6, restarts=3, steps=steps))]
        for steps in (1, 3, 10, 40)
    ]
    for few, more in pairwise(kls):
        assert all(b >= a * (1 - 1e-6) for a, b in zip(few, more, strict=True))
    assert all(b > 1.01 * a for a, b in zip(kls[0], kls[-1], strict=True))


def test_alone_as_among_others(trained):
    vae, specs, test = trained
    rows = robustness_gap(vae, specs, test, SMALL)
    for member in range(3):
        assert_same(robustness_gap(of_member(vae, specs, member), [specs[member]], test, SMALL), [rows[member]])
    assert robustness_gap(vae, specs, test, SMALL) == rows
    assert len({row["attack_kl"] for row in rows}) == 3


def test_how_many_attacks_are_computed_at_once_does_not_matter(trained, monkeypatch):
    vae, specs, test = trained
    monkeypatch.setattr(robustness, "NOISE_BLOCK", 10)
    whole = robustness_gap(vae, specs, test, SMALL)
    sizes = []
    original = VAE.encode
    monkeypatch.setattr(VAE, "encode", lambda self, x: sizes.append(x.shape[1]) or original(self, x))
    for chunk, expected in ((4, {4, 2}), (1, {1})):
        monkeypatch.setattr(robustness, "CHUNK_BYTES", chunk * 3 * robustness.activation_bytes(specs[0]))
        sizes.clear()
        assert_same(robustness_gap(vae, specs, test, SMALL), whole)
        assert set(sizes) == expected


def test_memory_of_a_chunk_is_bounded_where_one_image_has_many_restarts(trained, monkeypatch):
    vae, specs, test = trained
    sizes = []
    original = VAE.encode
    monkeypatch.setattr(VAE, "encode", lambda self, x: sizes.append(x.shape[1]) or original(self, x))
    robustness_gap(vae, specs, test, Attack(images=1, restarts=1200, steps=1))
    assert set(sizes) == {500, 200}


def test_every_attack_has_a_start_and_noise_of_its_own(trained, monkeypatch):
    vae, specs, test = trained
    starts, noises = [], []
    attack_, encode = robustness.attack, Posterior.sample
    monkeypatch.setattr(robustness, "attack", lambda v, x, start, s: starts.append(start) or attack_(v, x, start, s))
    monkeypatch.setattr(Posterior, "sample", lambda self, noise: noises.append(noise) or encode(self, noise))
    monkeypatch.setattr(robustness, "NOISE_BLOCK", 10)
    robustness_gap(vae, specs, test, Attack(images=6, restarts=3, steps=1, radius=0.2))
    start = torch.cat(starts, 1)
    assert start.shape == (3, 18, 1, 8, 8)
    assert 0.19 < start.abs().max() <= 0.2 and abs(start.mean()) < 0.01
    assert len(start[..., 0, 0, 0].unique()) == 3 * 18
    assert all(torch.equal(a, b) for a, b in zip(noises[::2], noises[1::2], strict=True))  # clean and attacked
    assert len(torch.cat(noises[::2], 1)[..., 0].unique()) == 3 * 18


def test_the_first_images_are_attacked_and_all_where_there_are_fewer(trained):
    vae, specs, test = trained
    rows = robustness_gap(vae, specs, test, SMALL)
    assert robustness_gap(vae, specs, test[:6], SMALL) == rows
    assert robustness_gap(vae, specs, test[6:], SMALL) != rows
    fewer = Attack(images=100, restarts=3, steps=20)
    assert robustness_gap(vae, specs, test[:6], fewer) == rows


def test_radius_zero_is_refused_and_a_tiny_one_opens_no_gap(trained):
    with pytest.raises(SpecError, match="radius"):
        Attack(radius=0)
    vae, specs, test = trained
    for row in robustness_gap(vae, specs, test, Attack(images=6, restarts=3, steps=20, radius=1e-5)):
        assert abs(row["robustness_gap"]) < 1e-5
        assert 0 < row["attack_kl"] < 1e-3


def test_a_trained_vae_is_attacked_with_success(trained):
    """The gap is positive, and larger than where the same radius is filled with random noise."""
    vae, specs, test = trained
    settings = Attack(images=30, restarts=3)
    rows = robustness_gap(vae, specs, test, settings)
    random = robustness_gap(vae, specs, test, Attack(images=30, restarts=3, steps=1, step_size=1e-9))
    for row, noise in zip(rows, random, strict=True):
        print(row, noise)
        assert row["robustness_gap"] > 0.005 and noise["robustness_gap"] < 0
        assert row["ms_ssim_reconstruction"] < noise["ms_ssim_reconstruction"] - 0.02
        assert row["attack_kl"] > 5 * noise["attack_kl"]


def test_the_mode_of_ms_ssim_is_the_one_asked_for(trained):
    vae, specs, test = trained
    kuzina = robustness_gap(vae, specs, test, SMALL)
    standard = robustness_gap(vae, specs, test, Attack(images=6, restarts=3, steps=20, ms_ssim="standard"))
    for a, b in zip(kuzina, standard, strict=True):
        assert a["attack_kl"] == b["attack_kl"]
        assert abs(a["ms_ssim_reconstruction"] - b["ms_ssim_reconstruction"]) > 1e-4


def test_logistic_mixture_on_colour_images_with_the_residual_network():
    options = {"image_shape": (3, 8, 8), "levels": 256, "likelihood": "logistic_mixture", "mixture_components": 2}
    specs = [TrialSpec(seed=s, architecture="residual", nc=4, latent_per_mz=4, **options) for s in (0, 1)]
    vae, data = VAE(specs), pixels(5, 256, 3, 8, 8)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    settings = Attack(images=4, restarts=2, steps=10, radius=0.05)
    seen = []
    vae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    rows = robustness_gap(vae, specs, data, settings)
    torch.testing.assert_close(seen[0][0], vae.likelihood.scale(data[:4]).repeat_interleave(2, 0))  # as in training
    for images in seen:
        assert (images - seen[0]).abs().max() <= 2 * 0.05 + 1e-6  # x in [-1, 1], twice the intensities
    random = robustness_gap(vae, specs, data, Attack(images=4, restarts=2, steps=1, step_size=1e-9, radius=0.05))
    for member, row in enumerate(rows):
        assert row["attack_kl"] > 2 * random[member]["attack_kl"] > 0
        assert 0 < row["ms_ssim_reconstruction"] < 1 and 0.9 < row["ms_ssim_input"] < 1
        assert_same(robustness_gap(of_member(vae, specs, member), [specs[member]], data, settings), [row])
    assert all(torch.equal(before[name], value) for name, value in vae.state_dict().items())


def test_a_gradient_that_is_not_finite_stays_with_its_own_image(trained):
    vae, _, test = trained
    x = (test[:6].float() / 16).expand(3, -1, -1, -1, -1)
    start = 0.1 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1)
    healthy = attack(vae, x, start, SMALL)

    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            gradient = gradient.clone()
            gradient[1, 2, 0, 3, 3] = torch.nan
            gradient[0, 4, 0, 1, 1] = torch.inf
            return gradient

    hook = vae.encoder.register_forward_pre_hook(lambda _, inputs: (Poisoned.apply(inputs[0]),))
    found = attack(vae, x, start, SMALL)
    hook.remove()
    for member, image in ((1, 2), (0, 4)):
        torch.testing.assert_close(found[member, image], (x + start)[member, image].clamp(0, 1))
        assert not torch.allclose(healthy[member, image], found[member, image], atol=1e-3)
        healthy[member, image] = found[member, image]
    assert torch.equal(found, healthy)


def test_a_member_of_broken_weights_gets_numbers_that_are_not_finite_and_the_others_their_own(trained):
    vae, specs, test = trained
    rows = robustness_gap(vae, specs, test, SMALL)
    broken = VAE(specs)
    broken.load_state_dict(vae.state_dict())
    with torch.no_grad():
        broken.encoder.layers["in"].weight[1] = torch.nan
    got = robustness_gap(broken, specs, test, SMALL)
    assert [got[0], got[2]] == [rows[0], rows[2]]
    assert math.isnan(got[1]["robustness_gap"]) and math.isnan(got[1]["attack_kl"])


def test_weights_keep_their_values_and_ask_for_gradients_as_before(trained):
    vae, specs, test = trained
    fresh = VAE(specs)
    fresh.load_state_dict(vae.state_dict())
    fresh.encoder.layers["hidden"].bias.requires_grad_(False)
    asked = {name: parameter.requires_grad for name, parameter in fresh.named_parameters()}
    assert len(set(asked.values())) == 2
    during = []
    fresh.encoder.register_forward_pre_hook(
        lambda *_: during.extend(p.requires_grad for p in fresh.encoder.parameters())
    )
    attack(fresh, (test[:2].float() / 16).expand(3, -1, -1, -1, -1), torch.zeros(3, 2, 1, 8, 8), SMALL)
    assert not any(during)
    assert asked == {name: parameter.requires_grad for name, parameter in fresh.named_parameters()}
    assert all(parameter.grad is None for parameter in fresh.parameters())
    with pytest.raises(RuntimeError):
        attack(fresh, torch.zeros(3, 2, 1, 9, 9), torch.zeros(3, 2, 1, 9, 9), SMALL)
    assert asked == {name: parameter.requires_grad for name, parameter in fresh.named_parameters()}
