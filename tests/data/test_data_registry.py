"""Data sets of your own: what is taken, what is refused in plain words, and what makes their identity."""

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest

from vaegen_ray.data import catalog
from vaegen_ray.data.registry import register_dataset
from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec, base_stream
from vaegen_ray.sweep.sweep import Sweep


@pytest.fixture(autouse=True)
def _catalog_as_before() -> Iterator[None]:
    with patch.dict(catalog.CATALOG):
        yield


def images(n: int, seed: int = 0, *, channels: int = 1, side: int = 8, levels: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, levels, (n, channels, side, side), dtype=np.uint8)


def two_sets() -> tuple[np.ndarray, np.ndarray]:
    return images(60), images(20, 1)


def test_a_registered_data_set_is_loaded_like_any_other():
    entry = register_dataset("mine", two_sets, title="noise")
    assert (entry.n_train, entry.n_test, entry.image_shape) == (60, 20, (1, 8, 8))
    assert (entry.levels, entry.default_levels, entry.likelihood) == ((2, 256), 256, "logistic")
    split = catalog.load("mine", n_train=30)
    whole = catalog.load("mine")
    train, test = two_sets()
    np.testing.assert_array_equal(split.train.images, whole.train.images[:30])
    assert sorted(image.tobytes() for image in whole.train.images) == sorted(image.tobytes() for image in train)
    assert not np.array_equal(whole.train.images, train)  # in the one shuffled order: files are often sorted by class
    np.testing.assert_array_equal(split.test.images, test)
    bits = catalog.load("mine", levels=2)
    np.testing.assert_array_equal(bits.test.images, test >= 128)
    assert catalog.presence("mine").present
    assert [row["name"] for row in catalog.table()][-1] == "mine"


@pytest.mark.parametrize(
    ("given", "options", "likelihood", "levels", "side"),
    [
        ({"levels": 2}, {"levels": 2}, "bernoulli", (2,), 8),
        ({"levels": 17}, {"levels": 17, "default_levels": 2}, "bernoulli", (2, 17), 8),
        ({"channels": 3}, {}, "logistic_mixture", (2, 256), 8),
        ({"side": 9}, {"likelihood": "gaussian"}, "gaussian", (2, 256), 12),
        ({"side": 9}, {"image_size": 10}, "logistic", (2, 256), 10),
    ],
)
def test_what_is_usual_follows_from_the_images(given, options, likelihood, levels, side):
    entry = register_dataset("mine", lambda: (images(6, **given), images(4, 1, **given)), **options)
    assert (entry.likelihood, entry.levels, entry.image_size) == (likelihood, levels, side)
    assert catalog.load("mine").train.shape == entry.image_shape
    base = base_spec("mine", n_train=6, batch_size=2)
    assert TrialSpec(**base).data_digest == entry.digest


def test_labels_come_with_the_test_images():
    register_dataset("mine", lambda: (*two_sets(), np.arange(20, dtype=np.int32) % 3))
    assert catalog.load("mine").test_labels.tolist() == [i % 3 for i in range(20)]


@pytest.mark.parametrize(
    ("loaded", "said"),
    [
        (
            images(5),
            "must return \\(train, test\\) or \\(train, test, test_labels\\); got uint8 of shape \\(5, 1, 8, 8\\)",
        ),
        ((images(5),), "must return .*; got tuple of 1"),
        (
            (images(5) / 255.0, images(5)),
            "training images of mine must be a uint8 array; got float64 of shape .*, from 0.* to 1.* "
            "\\(scale to 0 .. 255, round, .astype\\(np.uint8\\)\\)",
        ),
        ((images(5), [1, 2]), "test images of mine must be a uint8 array; got list of 2"),
        (
            (images(5)[:, 0], images(5)),
            "training images of mine must have the shape \\[N, C, H, W\\] .*; got \\(5, 8, 8\\)",
        ),
        ((images(5, channels=2), images(5)), "with C 1 or 3; got \\(5, 2, 8, 8\\)"),
        ((images(5), images(5)[:0]), "test images of mine .*; got \\(0, 1, 8, 8\\)"),
        ((images(5), images(5, side=10)), "must have one shape .*; got \\(1, 8, 8\\) and \\(1, 10, 10\\)"),
        (
            (images(5), images(5), np.zeros(4, int)),
            "test_labels of mine must be 5 whole numbers .*; got int64 of shape",
        ),
        ((images(5), images(5), np.full(5, -1)), "classes from 0 on; got -1"),
    ],
)
def test_images_that_cannot_be_are_refused_in_one_line(loaded, said):
    with pytest.raises(DataFormatError, match=said) as error:
        register_dataset("mine", lambda: loaded)
    assert "\n" not in str(error.value) and "mine" not in catalog.CATALOG


def test_pixels_beyond_the_levels_are_refused():
    with pytest.raises(DataFormatError, match=r"pixel values 0 \.\. 16; got 25\d"):
        register_dataset("mine", two_sets, levels=17)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"levels": 1}, "levels of mine must be a whole number from 2 to 256; got 1"),
        ({"default_levels": 17}, "default_levels of mine must be one of 2, 256; got 17"),
        ({"likelihood": "poisson"}, "likelihood of mine must be one of .*; got 'poisson'"),
        ({"image_size": 7}, "image_size of mine must be a whole number >= 8, the side of the images; got 7"),
        ({"image_size": 9.5}, "image_size of mine must be a whole number >= 8, the side of the images; got 9.5"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(SpecError, match=said):
        register_dataset("mine", two_sets, **options)


@pytest.mark.parametrize("name", ["", "Mine", "my-data", "../mine", "1st", "x" * 41, None])
def test_a_name_must_be_a_name(name):
    with pytest.raises(SpecError, match="the name of a data set must be a small letter, then"):
        register_dataset(name, two_sets)


def test_a_name_belongs_to_one_data_set():
    register_dataset("mine", two_sets)
    register_dataset("mine", two_sets)  # the same again, as when a cell of a notebook runs twice

    def imported() -> tuple[np.ndarray, ...]:
        return two_sets()

    imported.__module__ = "my_sweep"  # as when `python my_sweep.py` imports my_sweep.py once more
    register_dataset("mine", imported)
    with pytest.raises(SpecError, match="the name of a data set must be new; got 'mine', which is your own, 8x8"):
        register_dataset("mine", lambda: (images(60), images(20, 2)))
    with pytest.raises(SpecError, match="got 'digits', which is handwritten digits"):
        register_dataset("digits", two_sets)


def test_files_that_are_not_there_are_named():
    def absent() -> tuple[np.ndarray, ...]:
        return np.load("/no/such/file.npy"), images(5)

    with pytest.raises(DataMissingError, match="the loader of mine could not read its images: .*/no/such/file.npy"):
        register_dataset("mine", absent)


def test_a_loader_that_gives_others_each_time_is_found_out():
    calls = iter(range(9))
    register_dataset("mine", lambda: (images(60, next(calls)), images(20, 99)))
    with pytest.raises(DataFormatError, match="the loader of mine must give the same images each time; got others"):
        catalog.load("mine")


def test_other_images_make_other_trials_and_other_diffusion_models():
    entry = register_dataset("mine", two_sets)
    spec = TrialSpec(**base_spec("mine", n_train=50))
    stream = base_stream("mine", "smoke")
    dmaapx = TrialSpec(**base_spec("mine", n_train=50), method="dmaapx", stream=stream)
    Sweep(name="s", trials=(spec, dmaapx))
    changed = images(60)
    changed[-1, 0, 0, 0] ^= 1  # one pixel of an image that n_train 50 may not even read
    del catalog.CATALOG["mine"]
    other = register_dataset("mine", lambda: (changed, images(20, 1)))
    assert other.digest != entry.digest
    assert TrialSpec(**base_spec("mine", n_train=50)).trial_id != spec.trial_id
    assert base_stream("mine", "smoke").diffusion.diffusion_id != stream.diffusion.diffusion_id
    with pytest.raises(SpecError, match=f"must have its data_digest, '{other.digest}'; got '{entry.digest}'"):
        Sweep(name="s", trials=(spec,))
    with pytest.raises(SpecError, match="samples must be of a model of the same images of mine"):
        TrialSpec(**base_spec("mine", n_train=50), method="dmaapx", stream=stream)


def test_labels_and_levels_are_part_of_the_identity():
    digests = set()
    for load, levels in (
        (lambda: (images(6, levels=2), images(4, levels=2)), 256),
        (lambda: (images(6, levels=2), images(4, levels=2)), 2),
        (lambda: (images(6, levels=2), images(4, levels=2), np.zeros(4, int)), 2),
        (lambda: (images(6, levels=2), images(4, levels=2), np.ones(4, int)), 2),
    ):
        digests.add(register_dataset(f"set{len(digests)}", load, levels=levels).digest)
    assert len(digests) == 4


def test_data_sets_of_the_package_have_no_digest_and_keep_their_trials():
    """Ids of before there were data sets of users."""
    spec, stream = TrialSpec(**base_spec("digits")), base_stream("digits", "laptop")
    assert spec.trial_id == "7a5cf1c7520cf687ed24" and stream.diffusion.diffusion_id == "d20a18972f5007371bdf"
    assert TrialSpec(**base_spec("digits"), method="dmaapx", stream=stream).trial_id == "4f4922a848d8d209f9ba"
    assert {entry.digest for entry in catalog.CATALOG.values()} == {""}
