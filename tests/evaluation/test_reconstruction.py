"""PSNR of errors that are known, and the images that are kept to look at."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vaegen_ray.evaluation import reconstruction as module
from vaegen_ray.evaluation.reconstruction import psnr, reconstruction
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Reconstruction
from vaegen_ray.spec.trial import TrialSpec


class Copy(nn.Module):
    """An encoder whose mean is the image, with a wide posterior."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((x.flatten(2), torch.full_like(x.flatten(2), 5.0)), dim=-1)


class Shift(nn.Module):
    """A decoder whose mean is the code plus a number for each member; a second channel of zeros where asked for."""

    def __init__(self, *shifts: float, channels: int = 1) -> None:
        super().__init__()
        self.shifts, self.channels = torch.tensor(shifts).view(-1, 1, 1, 1, 1), channels

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        mean = z.unflatten(-1, (1, 8, 8)) + self.shifts
        return torch.cat((mean, torch.zeros_like(mean)), dim=2)[:, :, : self.channels]


def shifting(*shifts: float, likelihood: str = "gaussian") -> tuple[VAE, list[TrialSpec]]:
    specs = [
        TrialSpec(nc=2, latent_per_mz=64, levels=17, likelihood=likelihood, seed=seed) for seed in range(len(shifts))
    ]
    vae = VAE(specs)
    vae.encoder, vae.decoder = Copy(), Shift(*shifts, channels=2 if likelihood == "logistic" else 1)
    return vae, specs


def images(n: int, low: int = 0, high: int = 17) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(low, high, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)


def test_decibels_of_known_errors():
    x = torch.zeros(4, 3, 5, 5)
    others = x + torch.tensor([1.0, 0.1, 0.01, 0.0]).view(-1, 1, 1, 1)
    assert psnr(x, others).tolist() == pytest.approx([0, 20, 40, 100], abs=1e-5)
    half = torch.zeros(1, 2, 2)
    half[0, 0] = 0.1  # half of the pixels are wrong
    assert psnr(half, torch.zeros(1, 2, 2)).item() == pytest.approx(20 + 10 * math.log10(2))


def test_each_member_has_its_own_error():
    measured = reconstruction(*shifting(0.1, 0.01, -0.1, 0.0), images(600, low=4, high=13), Reconstruction(shown=0))
    assert [list(m.row) for m in measured] == [["psnr_test"]] * 4
    assert [m.row["psnr_test"] for m in measured] == pytest.approx([20, 40, 20, 100], abs=1e-3)
    assert [m.details for m in measured] == [[]] * 4


def test_the_mean_is_of_decibels_over_all_images():
    """A shift of 0.1 is cut away at white: those images are perfect, the black ones have 20 dB."""
    test = torch.zeros(800, 1, 8, 8, dtype=torch.uint8)
    test[:600] = 16
    (measured,) = reconstruction(*shifting(0.1), test, Reconstruction())
    assert measured.row["psnr_test"] == pytest.approx(0.75 * 100 + 0.25 * 20)


def test_intensities_are_compared_whatever_the_likelihood_reads():
    """Its images go from -1 to 1; a shift of 0.2 there is 0.1 of the intensities."""
    vae, specs = shifting(0.0, 0.2, likelihood="logistic")
    exact, shifted = reconstruction(vae, specs, images(30, low=4, high=13), Reconstruction(shown=1))
    assert exact.row["psnr_test"] == 100
    assert shifted.row["psnr_test"] == pytest.approx(20, abs=1e-3)
    assert exact.details[0].values == exact.details[1].values


def test_shown_images_are_spread_evenly_and_kept_as_intensities():
    test = images(101, low=0, high=13)
    first, second = reconstruction(*shifting(0.0, 0.25), test, Reconstruction(shown=5))
    assert [detail.item for detail in first.details] == [f"image-{i}" for i in range(5) for _ in range(2)]
    assert [detail.quantity for detail in first.details] == ["original", "reconstruction"] * 5
    for rank, index in enumerate((0, 25, 50, 75, 100)):
        pixels = test[index].flatten().numpy() / 16
        for member, shift in ((first, 0.0), (second, 0.25)):
            original, again = member.details[2 * rank : 2 * rank + 2]
            np.testing.assert_allclose(original.values, pixels, atol=5.1e-4)
            np.testing.assert_allclose(again.values, pixels + shift, atol=5.1e-4)
            assert all(value == round(value, 3) for value in original.values + again.values)


def test_a_small_test_set_is_shown_whole():
    (measured,) = reconstruction(*shifting(0.0), images(3), Reconstruction(shown=9))
    assert [detail.item for detail in measured.details if detail.quantity == "original"] == [
        "image-0",
        "image-1",
        "image-2",
    ]


def test_a_member_that_is_not_finite_is_not_a_number_alone():
    broken, sound = reconstruction(*shifting(float("nan"), 0.0), images(30), Reconstruction())
    assert math.isnan(broken.row["psnr_test"])
    assert sound.row["psnr_test"] == 100


@pytest.mark.parametrize("options", [{}, {"architecture": "residual", "nc": 4, "latent_per_mz": 4}])
def test_neither_neighbours_nor_chunks_matter(options, monkeypatch):
    specs = [TrialSpec(levels=17, likelihood="logistic", seed=seed, **{"nc": 8, **options}) for seed in (0, 1)]
    test = images(20)
    together = reconstruction(VAE(specs), specs, test, Reconstruction(shown=2))
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    for spec, measured in zip(specs, together, strict=True):
        (alone,) = reconstruction(VAE([spec]), [spec], test, Reconstruction(shown=2))
        assert alone.row == pytest.approx(measured.row, rel=1e-6)
        for one, other in zip(alone.details, measured.details, strict=True):
            assert one[:2] == other[:2]
            np.testing.assert_allclose(one.values, other.values, atol=1.1e-3)


def test_batch_norm_uses_its_running_statistics():
    spec = TrialSpec(levels=17, architecture="residual", nc=4, latent_per_mz=4, likelihood="logistic")
    vae = VAE([spec]).train()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    (whole,) = reconstruction(vae, [spec], images(20), Reconstruction(shown=0))
    each = [reconstruction(vae, [spec], images(20)[i : i + 1], Reconstruction(shown=0))[0] for i in range(20)]
    assert np.mean([one.row["psnr_test"] for one in each]) == pytest.approx(whole.row["psnr_test"], rel=1e-6)
    assert all(torch.equal(before[name], tensor) for name, tensor in vae.state_dict().items())
