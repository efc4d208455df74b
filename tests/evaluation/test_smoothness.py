"""log q along lines where it is known: a linear VAE whose encoder undoes the decoder, but for a factor.

The decoder gives the image b + W z with orthonormal columns W, the encoder the mean c W^T (x - b) and a fixed standard
deviation. The code of x is z = c W^T (x - b); the code of its reconstruction is c z. So

    log q(z | x~) = -1/2 sum ((1 - c) z / std)^2 - sum log std - Z/2 log 2 pi,

a parabola along a line, and a constant where c = 1.
"""

import math

import pytest
import torch

from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation import smoothness as module
from vaegen_ray.evaluation.smoothness import smoothness
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Smoothness
from vaegen_ray.spec.trial import TrialSpec

D, Z, OFFSET = 6, 2, 4.0
W = torch.linalg.qr(torch.arange(1.0, 1 + D * Z, dtype=torch.float64).reshape(D, Z).sin())[0]
STD = torch.tensor([0.02, 0.1], dtype=torch.float64)
PEAK = -STD.log().sum().item() - Z / 2 * math.log(2 * math.pi)
GAUSSIAN = {"likelihood": "gaussian", "levels": 256}
LOGISTIC = {"likelihood": "logistic", "levels": 256}
BASE = {"gaussian": 0.5, "logistic": 0.0}
"""b: the middle of the range of intensities, in the units of the likelihood."""


def linear_vae(factors: list[float], **likelihood: object) -> tuple[VAE, list[TrialSpec]]:
    """One member for each c. Every ReLU passes its input, since a bias of ``OFFSET`` goes in and comes off again."""
    shared = {"image_shape": (1, 2, 3), "nc": 8, "mz": 1, "latent_per_mz": Z, "posterior_scale": "log_std"}
    specs = [TrialSpec(seed=seed, **shared, **likelihood) for seed in range(len(factors))]
    vae, b = VAE(specs), torch.full((D,), BASE[specs[0].likelihood], dtype=torch.float64)
    for member, c in enumerate(factors):
        encoder = torch.cat((c * W.T, torch.zeros(Z, D, dtype=torch.float64)))
        for network, first, last, weight, bias in (
            (vae.encoder, "in", "posterior", encoder, torch.cat((-c * W.T @ b, STD.log()))),
            (vae.decoder, "latent", "out", W, b),
        ):
            outputs, inputs = weight.shape
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter[member] = 0.0
                network.layers[first].weight[member, :, :inputs] = torch.eye(inputs)
                network.layers[first].bias[member] = OFFSET
                network.layers["hidden"].weight[member] = torch.eye(8)
                network.layers[last].weight[member, :inputs, :outputs] = weight.T.float()
                network.layers[last].bias[member, ..., :outputs] = (bias - OFFSET * weight.sum(1)).float()
    return vae, specs


def images(n: int, seed: int = 0) -> torch.Tensor:
    """Greys near the middle, so that no reconstruction leaves the range of intensities."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(100, 156, (n, 1, 2, 3), generator=generator, dtype=torch.uint8)


def parabola(x_0: torch.Tensor, x_1: torch.Tensor, c: float, points: int, scale: float) -> torch.Tensor:
    """The closed form at every alpha; ``scale`` is the width of the range of intensities."""
    z_0, z_1 = (c * W.T @ ((x.flatten().double() / 255 - 0.5) * scale) for x in (x_0, x_1))
    alpha = torch.linspace(0, 1, points, dtype=torch.float64)[:, None]
    z = alpha * z_0 + (1 - alpha) * z_1
    return PEAK - 0.5 * ((1 - c) * z / STD).square().sum(-1)


@pytest.mark.parametrize("likelihood", [GAUSSIAN, LOGISTIC], ids=lambda each: each["likelihood"])
def test_log_q_is_constant_where_the_encoder_undoes_the_decoder(likelihood):
    """Also says that reconstructions are not rounded: half a level is a tenth of the smaller standard deviation."""
    vae, specs = linear_vae([1.0], **likelihood)
    (measured,) = smoothness(vae, specs, images(10), Smoothness(pairs=5, points=11))
    assert measured.row["latent_log_q"] == pytest.approx(PEAK, abs=1e-4)
    assert measured.row["latent_variation"] < 1e-3
    for detail in measured.details:
        assert detail.values == pytest.approx([PEAK] * 11, abs=1e-4)


@pytest.mark.parametrize(("likelihood", "scale"), [(GAUSSIAN, 1), (LOGISTIC, 2)], ids=["gaussian", "logistic"])
def test_an_encoder_of_the_wrong_slope_gives_the_parabola(likelihood, scale):
    factors, test, points = [0.5, 1.3], images(6, seed=1), 21
    vae, specs = linear_vae(factors, **likelihood)
    results = smoothness(vae, specs, test, Smoothness(pairs=3, points=points))
    for c, measured in zip(factors, results, strict=True):
        lines = torch.stack([parabola(test[2 * i], test[2 * i + 1], c, points, scale) for i in range(3)])
        assert [(d.quantity, d.item) for d in measured.details] == [("log_q", f"pair-{i}") for i in range(3)]
        for detail, line in zip(measured.details, lines, strict=True):
            assert detail.values == pytest.approx(line.tolist(), rel=1e-4, abs=1e-3)
            assert detail.values[0] != pytest.approx(detail.values[-1], abs=0.01)  # the ends are told apart
        assert measured.row["latent_log_q"] == pytest.approx(lines.mean().item(), rel=1e-4)
        steps = (lines[:, 1:] - lines[:, :-1]).abs().sum(1)
        assert measured.row["latent_variation"] == pytest.approx(steps.mean().item(), rel=1e-3)


@pytest.mark.parametrize("points", [3, 11, 101])
def test_variation_is_up_and_down_whatever_the_points(points):
    """Between an image and its negative f rises from the lower end to the peak in the middle, and falls again."""
    x = images(1, seed=2)
    test = torch.cat((x, 255 - x))
    vae, specs = linear_vae([0.5], **GAUSSIAN)
    (measured,) = smoothness(vae, specs, test, Smoothness(pairs=1, points=points))
    end = parabola(test[0], test[1], 0.5, points, 1)[0].item()
    assert PEAK - end > 0.5
    assert measured.row["latent_variation"] == pytest.approx(2 * (PEAK - end), rel=1e-3)


def random_bundle(seeds: list[int]) -> tuple[VAE, list[TrialSpec]]:
    shared = {"image_shape": (3, 8, 8), "levels": 256, "likelihood": "logistic_mixture", "mixture_components": 2}
    specs = [
        TrialSpec(architecture="residual", nc=4, mz=2, latent_per_mz=4, seed=seed, **shared)  # type: ignore[arg-type]
        for seed in seeds
    ]
    return VAE(specs), specs


def colour_images(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def test_it_is_the_density_of_q_at_the_codes_of_colour_images():
    (vae, specs), test = random_bundle([5]), colour_images(4)
    (measured,) = smoothness(vae, specs, test, Smoothness(pairs=2, points=3))
    with torch.no_grad():
        for pair, detail in enumerate(measured.details):
            codes = [vae.encode(vae.likelihood.scale(test[None, None, 2 * pair + i])).mean for i in (1, 0)]
            expected = []
            for z in (codes[0], (codes[0] + codes[1]) / 2, codes[1]):
                q = vae.encode(2 * vae.likelihood.mean(vae.decode(z)) - 1)
                expected.append(torch.distributions.Normal(q.mean, q.std).log_prob(z).sum().item())
            assert detail.values == pytest.approx(expected, rel=1e-4)


def test_a_member_alone_is_as_among_others(monkeypatch):
    """Members have their own weights; how many points are computed at once does not matter."""
    test, settings = colour_images(5), Smoothness(pairs=4, points=7)
    among = smoothness(*random_bundle([0, 1, 2]), test, settings)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    for seed, member in enumerate(among):
        (alone,) = smoothness(*random_bundle([seed]), test, settings)
        assert alone.row == pytest.approx(member.row, rel=1e-4)
        assert [d.item for d in alone.details] == ["pair-0", "pair-1"]  # five images make two lines
        for one, other in zip(alone.details, member.details, strict=True):
            assert one.values == pytest.approx(other.values, rel=1e-4)
    assert len({round(member.row["latent_variation"], 4) for member in among}) == 3


def test_batch_norm_uses_its_running_statistics():
    """A bundle that comes out of training is measured as it is, and does not learn from it."""
    (vae, specs), test, settings = random_bundle([0]), colour_images(4), Smoothness(pairs=2, points=5)
    expected = smoothness(vae, specs, test, settings)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    assert smoothness(vae.train(), specs, test, settings) == expected
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_one_image_has_no_line():
    vae, specs = linear_vae([1.0], **GAUSSIAN)
    with pytest.raises(SpecError, match="smoothness joins the codes of two test images; got 1"):
        smoothness(vae, specs, images(1), Smoothness())
