"""Classification of codes where the answer is known: codes that tell the class, nothing, or are broken."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from vaegen_ray.evaluation import representation
from vaegen_ray.evaluation.representation import CLASSIFIERS, codes
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Representation
from vaegen_ray.spec.trial import TrialSpec

Z = 10
COLUMNS = {f"accuracy_{name}" for name in CLASSIFIERS}
LABELS = np.random.default_rng(0).integers(10, size=400)


class CopyEncoder(nn.Module):
    """The mean of q(z|x) is the first pixels of the image, times a factor for each member."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.factors = torch.tensor(factors).view(-1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.flatten(2)[..., :Z] * self.factors
        return torch.cat((mean, torch.zeros_like(mean)), dim=-1)


def copying(*factors: float) -> tuple[VAE, list[TrialSpec]]:
    """VAEs whose codes are the first ten pixels, in levels 0 .. 16 of intensities, one for each factor."""
    specs = [TrialSpec(nc=2, latent_per_mz=Z, levels=17, seed=seed) for seed in range(len(factors))]
    vae = VAE(specs)
    vae.encoder = CopyEncoder(*factors)
    return vae, specs


def with_codes(code: np.ndarray) -> torch.Tensor:
    """Images whose first pixels are these numbers [N, Z] from 0 to 16."""
    images = np.zeros((len(code), 64), np.uint8)
    images[:, :Z] = code
    return torch.from_numpy(images).view(-1, 1, 8, 8)


def telling(labels: np.ndarray) -> torch.Tensor:
    return with_codes(16 * np.eye(Z)[labels])


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return with_codes(np.random.default_rng(seed).integers(17, size=(n, Z)))


def measure(vae, specs, test, labels, corrupted=None, **settings):
    return representation.representation(
        vae,
        specs,
        test,
        labels,
        Representation(**settings),
        {name: images.numpy() for name, images in (corrupted or {}).items()},
    )


def accuracies(measured, item):
    """By classifier, out of the details."""
    return {d.item.split("/")[1]: d.values[0] for d in measured.details if d.item.split("/")[0] == item}


def test_codes_are_the_means_of_the_posterior():
    vae, _ = copying(1.0, 2.0)
    code = codes(vae, noise(30))
    assert code.shape == (2, 30, Z)
    np.testing.assert_allclose(code[0], noise(30).view(30, 64)[:, :Z] / 16, rtol=1e-6)
    np.testing.assert_allclose(code[1], 2 * code[0])


def test_codes_that_are_the_label_are_always_right():
    (measured,) = measure(*copying(1.0), telling(LABELS), LABELS)
    assert measured.row == dict.fromkeys(COLUMNS, 1.0)
    assert measured.details == []


def test_codes_that_tell_nothing_are_right_by_chance():
    """Also: what is classified was not trained on, or an RBF machine would know it by heart."""
    labels = np.random.default_rng(1).integers(10, size=4000)
    (measured,) = measure(*copying(1.0), noise(4000), labels)
    assert set(measured.row) == COLUMNS
    for accuracy in measured.row.values():
        assert accuracy == pytest.approx(0.1, abs=0.03)  # 2,000 answers: standard deviation 0.007


def test_each_classifier_has_its_column():
    """The class is whether two binary numbers differ: linear machines cannot tell it, the others can."""
    code = np.zeros((400, Z))
    code[:, :2] = 16 * np.random.default_rng(0).integers(2, size=(400, 2))
    labels = (code[:, 0] != code[:, 1]).astype(int)
    (measured,) = measure(*copying(1.0), with_codes(code), labels)
    assert measured.row["accuracy_svm_rbf"] == measured.row["accuracy_knn"] == 1
    assert measured.row["accuracy_logistic_regression"] < 0.9
    assert measured.row["accuracy_svm_linear"] < 0.9


def test_codes_are_standardised():
    """A class in the smallest numbers of a code, and noise in others that are 16 times larger."""
    code = np.random.default_rng(0).integers(17, size=(400, Z))
    code[:, 0] = LABELS % 2
    code[:, 4:] = 0
    (measured,) = measure(*copying(1.0), with_codes(code), LABELS % 2)
    assert min(measured.row.values()) > 0.9


def test_the_number_of_neighbours_is_that_of_the_settings():
    rare = np.zeros(400, int)
    rare[::40] = 1
    of_neighbours = {k: measure(*copying(1.0), telling(rare), rare, neighbours=k)[0].row for k in (1, 199)}
    assert of_neighbours[1]["accuracy_knn"] == 1
    assert 0.9 < of_neighbours[199]["accuracy_knn"] < 1
    few = measure(*copying(1.0), telling(LABELS[:40]), LABELS[:40], neighbours=50)
    assert few[0].row["accuracy_knn"] < 0.5


def test_only_the_first_images_count():
    labels = LABELS % 2
    images = telling(np.concatenate([labels[:100], 1 - labels[100:]]))
    (measured,) = measure(*copying(1.0), images, labels, {"blur": images}, images=100)
    assert measured.row == dict.fromkeys(COLUMNS, 1.0)
    assert accuracies(measured, "blur") == dict.fromkeys(CLASSIFIERS, 1.0)


def test_corrupted_images_train_their_own_classifiers():
    """Another code of the class is as good; a code of nothing is nothing, however good the clean codes are."""
    corrupted = {"moved": telling((LABELS + 1) % 10), "gone": noise(400)}
    (measured,) = measure(*copying(1.0), telling(LABELS), LABELS, corrupted)
    assert {d.quantity for d in measured.details} == {"accuracy"}
    assert [d.item for d in measured.details] == [
        f"{item}/{name}" for item in ("gone", "moved", "overall") for name in CLASSIFIERS
    ]
    assert accuracies(measured, "moved") == dict.fromkeys(CLASSIFIERS, 1.0)
    assert max(accuracies(measured, "gone").values()) < 0.25


def test_overall_gives_every_image_one_corruption_at_random():
    """Three of four corruptions keep the code: three quarters of the images are right, the others by chance."""
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=4000)
    plain = telling(labels)
    corrupted = {"a": plain, "b": plain, "c": plain, "gone": with_codes(np.full((4000, Z), 8))}
    (measured,) = measure(*copying(1.0), plain, labels, corrupted)
    for accuracy in accuracies(measured, "overall").values():
        assert accuracy == pytest.approx(0.875, abs=0.03)
    backwards = dict(reversed(corrupted.items()))
    assert measure(*copying(1.0), plain, labels, backwards) == [measured]


def test_halves_and_corruptions_are_the_same_for_all_seeds():
    labels, images, corrupted = LABELS % 3, noise(400), {"x": noise(400, 1), "y": noise(400, 2)}
    first, second = measure(*copying(1.0, 1.0), images, labels, corrupted)
    assert first == second


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_member_that_is_not_finite_is_not_a_number_alone(factor):
    corrupted = {"blur": telling(LABELS)}
    broken, sound = measure(*copying(factor, 1.0), telling(LABELS), LABELS, corrupted)
    assert set(broken.row) == COLUMNS
    assert all(np.isnan(value) for value in broken.row.values())
    assert len(broken.details) == 8
    assert all(np.isnan(detail.values).all() for detail in broken.details)
    assert [sound] == measure(*copying(1.0), telling(LABELS), LABELS, corrupted)


@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30])
def test_collapsed_and_huge_codes_have_accuracies(factor, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (measured,) = measure(*copying(factor), telling(LABELS), LABELS)
    assert capfd.readouterr() == ("", "")
    for accuracy in measured.row.values():
        assert accuracy < 0.2 if factor == 0 else accuracy == 1


def test_no_convergence_is_no_news(monkeypatch, capfd):
    original = representation._classifiers
    stopped = {"logistic_regression": {"max_iter": 1}, "svm_linear": {"max_iter": 1}}
    made = []

    def impatient(*args):
        made.append({name: part.set_params(**stopped.get(name, {})) for name, part in original(*args).items()})
        return made[-1]

    monkeypatch.setattr(representation, "_classifiers", impatient)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(*copying(1.0), noise(400), LABELS)
    assert capfd.readouterr() == ("", "")
    assert made[0]["logistic_regression"].n_iter_ == 1


def test_one_class_alone_is_learned():
    (measured,) = measure(*copying(1.0), noise(40), np.zeros(40, int))
    assert measured.row == dict.fromkeys(COLUMNS, 1.0)


@pytest.mark.parametrize("options", [{}, {"architecture": "residual", "nc": 4, "latent_per_mz": 4}])
def test_neither_neighbours_nor_chunks_matter(options, monkeypatch):
    specs = [TrialSpec(levels=17, likelihood="logistic", seed=seed, **{"nc": 8, **options}) for seed in (0, 1, 2)]
    images = torch.randint(0, 17, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    together = codes(VAE(specs), images)
    for spec, of_member in zip(specs, together, strict=True):
        np.testing.assert_allclose(codes(VAE([spec]), images)[0], of_member, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("vaegen_ray.evaluation.reconstruction.CHUNK_BYTES", 1)
    np.testing.assert_allclose(codes(VAE(specs), images), together, rtol=1e-5, atol=1e-6)


def test_batch_norm_uses_its_running_statistics():
    spec = TrialSpec(levels=17, architecture="residual", nc=4, latent_per_mz=4, likelihood="logistic")
    images = torch.randint(0, 17, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    vae = VAE([spec]).train()
    np.testing.assert_allclose(codes(vae, images[:5]), codes(vae.train(), images)[:, :5], rtol=1e-5, atol=1e-6)
