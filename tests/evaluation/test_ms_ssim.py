import math

import numpy as np
import pytest
import pytorch_msssim
import torch

from vaegen_ray.evaluation.ms_ssim import _ms_ssim, ms_ssim
from vaegen_ray.spec.evaluation import MS_SSIM_MODES

modes = pytest.mark.parametrize("mode", MS_SSIM_MODES)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures in [0, 1], so that neighbours are alike as in photographs."""
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    smooth = (noise + noise.roll(1, -1) + noise.roll(1, -2) + noise.roll((1, 1), (-1, -2))) / 4
    return (2 * smooth - 0.5).clamp(0, 1)


def noisy(x: torch.Tensor, strength: float, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + strength * noise).clamp(0, 1)


def slow(x: np.ndarray, y: np.ndarray, mode: str) -> float:
    """One pair of images [C, H, W] by the definition, place by place, in double precision."""
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][: 1 + math.floor(math.log2(min(x.shape[1:])))])
    contrasts, similarities = [], []  # a map [C, places] for each scale
    for scale in range(len(weights)):
        if scale:
            x, y = pooled(x, mode), pooled(y, mode)
        n = min(14 if mode == "kuzina" else 11, *x.shape[1:])
        window = np.array(
            [[math.exp(-((i - n // 2) ** 2 + (j - n // 2) ** 2) / 4.5) for j in range(n)] for i in range(n)]
        )
        window /= window.sum()
        contrast = np.zeros((x.shape[0], x.shape[1] - n + 1, x.shape[2] - n + 1))
        similarity = contrast.copy()
        for c, i, j in np.ndindex(contrast.shape):
            a, b = x[c, i : i + n, j : j + n], y[c, i : i + n, j : j + n]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variances = (window * ((a - mean_a) ** 2 + (b - mean_b) ** 2)).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            contrast[c, i, j] = (2 * covariance + 0.0009) / (variances + 0.0009)
            luminance = (2 * mean_a * mean_b + 0.0001) / (mean_a**2 + mean_b**2 + 0.0001)
            similarity[c, i, j] = contrast[c, i, j] * luminance
        contrasts.append(contrast)
        similarities.append(similarity)
    if len(weights) < 5:
        weights /= weights.sum()

    def product(colours: slice) -> float:
        value = 1.0
        last = max(0.0, similarities[-1][colours].mean()) ** weights[-1]
        for contrast, weight in zip(contrasts[:-1], weights[:-1], strict=True):
            value *= max(0.0, contrast[colours].mean()) ** weight
            if mode == "kuzina":
                value *= last
        return value if mode == "kuzina" else value * last

    if mode == "kuzina":
        return product(slice(None))
    return float(np.mean([product(slice(c, c + 1)) for c in range(len(x))]))


def pooled(x: np.ndarray, mode: str) -> np.ndarray:
    """Means of 2x2 pixels; the standard mode puts zeros before odd sides, the other leaves their last pixel out."""
    if mode == "standard":
        x = np.pad(x, ((0, 0), (x.shape[1] % 2, 0), (x.shape[2] % 2, 0)))
    small = np.zeros((x.shape[0], x.shape[1] // 2, x.shape[2] // 2))
    for c, i, j in np.ndindex(small.shape):
        small[c, i, j] = x[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
    return small


@modes
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 28, 28), (3, 12, 21), (1, 2, 5)], ids=str)
def test_is_the_definition_taken_literally(mode, shape):
    x = images(4, *shape)
    y = torch.stack([noisy(x[0], 0.05), noisy(x[1], 0.3), images(*shape, seed=5), 1 - x[3]])
    expected = [slow(a, b, mode) for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)]
    assert max(expected) > 0.3
    torch.testing.assert_close(ms_ssim(x, y, mode).tolist(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 176, 176), (3, 181, 199)], ids=str)
@pytest.mark.parametrize("strength", [0.05, 0.3])
def test_our_own_standard_is_that_of_pytorch_msssim(shape, strength):
    x = images(2, *shape)
    y = noisy(x, strength)
    expected = pytorch_msssim.ms_ssim(x.double(), y.double(), data_range=1.0, size_average=False)
    assert (expected < 0.9999).all()
    torch.testing.assert_close(_ms_ssim(x.double(), y.double(), "standard"), expected, rtol=1e-6, atol=1e-8)


def test_pytorch_msssim_is_called_where_it_applies(monkeypatch):
    calls = []
    original = pytorch_msssim.ms_ssim
    monkeypatch.setattr(pytorch_msssim, "ms_ssim", lambda x, *a, **k: calls.append(x.shape) or original(x, *a, **k))
    for side in (160, 161):
        x = images(2, 3, 1, side, side + 2)
        y = noisy(x, 0.1)
        values = ms_ssim(x, y, "standard")
        assert values.shape == (2, 3)
        torch.testing.assert_close(
            values.flatten(), _ms_ssim(*(each.double().flatten(0, 1) for each in (x, y)), "standard"), rtol=1e-6, atol=0
        )
        ms_ssim(x, y, "kuzina")
    assert calls == [(6, 1, 161, 163)]


@modes
@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 8, 8), (3, 32, 32), (1, 170, 170)], ids=str)
def test_one_for_equal_images_and_only_for_them(mode, shape):
    x = images(3, *shape)
    torch.testing.assert_close(ms_ssim(x, x, mode), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (ms_ssim(x, noisy(x, 0.1), mode) < 0.9999).all()


@modes
@pytest.mark.parametrize("colours", [1, 3])
def test_symmetric(mode, colours):
    x, y = images(5, colours, 28, 28), images(5, colours, 28, 28, seed=9)
    torch.testing.assert_close(ms_ssim(x, y, mode), ms_ssim(y, x, mode))


@modes
@pytest.mark.parametrize("side", [8, 28])
def test_falls_with_the_strength_of_noise(mode, side):
    x = images(200, 1, side, side)
    means = [ms_ssim(x, noisy(x, strength), mode).mean().item() for strength in (0, 0.03, 0.1, 0.2, 0.4, 0.8)]
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(1) and means[-1] < 0.6


@modes
def test_leading_dimensions_and_neighbours_do_not_matter(mode):
    x, y = images(2, 3, 3, 16, 16), images(2, 3, 3, 16, 16, seed=7)
    together = ms_ssim(x, y, mode)
    assert together.shape == (2, 3)
    for member in range(2):
        for image in range(3):
            alone = ms_ssim(x[member, image], y[member, image], mode)
            assert alone.shape == ()
            torch.testing.assert_close(alone, together[member, image])
    torch.testing.assert_close(ms_ssim(x[0].expand(2, 3, 3, 16, 16), y, mode), ms_ssim(x[0], y, mode))


def test_grey_images_painted_in_three_equal_colours_stay_as_alike():
    x = images(4, 1, 28, 28)
    y = noisy(x, 0.2)
    for mode in MS_SSIM_MODES:
        colours = ms_ssim(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1), mode)
        torch.testing.assert_close(colours, ms_ssim(x, y, mode))


def test_the_last_similarity_counts_once_for_every_other_scale_in_the_mode_kuzina():
    """Between images of one even colour each all contrasts are 1, so luminance alone is left."""
    x, y = torch.full((1, 32, 32), 0.2), torch.full((1, 32, 32), 0.6)
    luminance = (2 * 0.2 * 0.6 + 0.0001) / (0.2**2 + 0.6**2 + 0.0001)
    assert ms_ssim(x, y, "kuzina").item() == pytest.approx(luminance ** (4 * 0.1333), rel=1e-6)
    assert ms_ssim(x, y, "standard").item() == pytest.approx(luminance**0.1333, rel=1e-6)
    x, y = x[:, :8, :8], y[:, :8, :8]
    weight = 0.2363 / (0.0448 + 0.2856 + 0.3001 + 0.2363)
    assert ms_ssim(x, y, "kuzina").item() == pytest.approx(luminance ** (3 * weight), rel=1e-6)
    assert ms_ssim(x, y, "standard").item() == pytest.approx(luminance**weight, rel=1e-6)


@modes
def test_zero_where_the_coarsest_structure_is_inverted_and_the_rest_alike(mode):
    """Checks of 8 pixels, equal in both, vanish at the fifth scale of 32x32; those of 16 pixels remain."""
    places = torch.arange(32)
    fine, coarse = (1 - 2 * ((places[:, None] // n + places // n) % 2) for n in (8, 16))
    x, y = 0.5 + 0.3 * fine[None] + 0.05 * coarse, 0.5 + 0.3 * fine[None] - 0.05 * coarse
    assert ms_ssim(x, y, mode) == 0
    assert ms_ssim(x, 0.5 + 0.3 * fine[None], mode) > 0.4
