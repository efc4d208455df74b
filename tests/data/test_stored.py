"""Images of a file under a name: ``vaegen datasets --add``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from vaegen_ray.cli import main
from vaegen_ray.data import catalog, stored
from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError


@pytest.fixture(autouse=True)
def _catalog_as_before() -> Iterator[None]:
    with patch.dict(catalog.CATALOG), patch.object(stored, "_discovered", set()):
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.npz"
    np.savez(path, train=images(30), test=images(10, 1), test_labels=np.arange(10))
    return path


def images(n: int, seed: int = 0, shape: tuple[int, ...] = (1, 8, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def test_what_was_added_is_there_in_the_next_process(file, tmp_path):
    entry = stored.add("mine", file, tmp_path / "data")
    file.unlink()  # the images were copied
    del catalog.CATALOG["mine"]
    assert stored.discover(tmp_path / "data") == []
    assert catalog.info("mine").digest == entry.digest
    split = catalog.load("mine", data_dir=tmp_path / "data")
    assert (len(split.train), len(split.test)) == (30, 10) and split.test_labels.tolist() == list(range(10))
    np.testing.assert_array_equal(split.test.images, images(10, 1))
    assert catalog.presence("mine", tmp_path / "data").present
    assert stored.discover(tmp_path / "elsewhere") == [] and "mine" not in catalog.CATALOG


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (1, 8, 8), (8, 8, 3), (3, 8, 8)], ids=str)
def test_images_alone_are_divided_and_come_in_any_usual_shape(shape, tmp_path):
    np.savez(tmp_path / "a.npz", images=images(50, shape=shape), labels=np.arange(50))
    entry = stored.add("mine", tmp_path / "a.npz", tmp_path / "data", test_percent=10)
    assert (entry.n_train, entry.n_test) == (45, 5)
    assert entry.shape == ((3, 8, 8) if 3 in shape else (1, 8, 8))
    split = catalog.load("mine", data_dir=tmp_path / "data")
    assert stored.shared_images(entry) == 0
    together = np.concatenate([split.train.images, split.test.images])
    wanted = images(50, shape=shape).reshape(50, *entry.shape) if shape[-1] == 8 else None
    for label, image in zip(split.test_labels, split.test.images, strict=True):
        original = images(50, shape=shape)[label]
        flat = original if shape[-1] == 8 else original.transpose(2, 0, 1)
        np.testing.assert_array_equal(image, flat.reshape(entry.shape))
    if wanted is not None:
        assert sorted(i.tobytes() for i in together) == sorted(i.tobytes() for i in wanted)


@pytest.mark.parametrize(
    ("given", "train", "test", "labels", "said"),
    [
        ({"train": 9, "val": 3, "test": 2, "val_labels": 3, "test_labels": 2}, (0, 1), 2, [2] * 2, "val is a part of"),
        ({"train": 9, "val": 3, "val_labels": 3}, (0,), 1, [1] * 3, "val is the test set (3 images), since"),
        (
            {"train": 9, "test": 2, "train_labels": 9, "ids": 9},
            (0,),
            2,
            None,
            "left out: the arrays ids, train_labels,",
        ),
        ({"train": 9, "test": 2}, (0,), 2, None, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_division_into_arrays_is_kept(given, train, test, labels, said, tmp_path, capsys):
    parts = {"train": images(9), "val": images(3, 1), "test": images(2, 2)}
    arrays = {
        name: parts.get(name, np.full((n, 1), ["train", "val", "test"].index(name.split("_")[0]) if "_" in name else 0))
        for name, n in given.items()
    }
    np.savez(tmp_path / "a.npz", **arrays)
    stored.add("mine", tmp_path / "a.npz", tmp_path / "data")
    assert capsys.readouterr().out.startswith(said)
    split = catalog.load("mine", data_dir=tmp_path / "data")
    every = list(parts.values())
    assert as_set(split.train.images) == as_set(np.concatenate([every[i] for i in train]))
    np.testing.assert_array_equal(split.test.images, every[test])
    assert (split.test_labels if labels is None else split.test_labels.tolist()) == labels


def as_set(given: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in given}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("images", "train"), "got images, train$"),
        (("images", "train", "test"), "got images, test, train$"),
        (("images", "val"), "got images, val$"),
        (("images", "test_labels"), "got images, test_labels$"),
        (("train", "test", "labels"), "got labels, test, train$"),
        (
            ("train", "val", "test_labels"),
            "test, whose classes are test_labels; got test_labels, train, val$",
        ),
        (("test", "val"), "got test, val$"),
        (("x_train",), "got nothing; left out: the arrays x_train, which are none of images"),
    ],
    ids=str,
)
def test_arrays_that_can_be_understood_in_two_ways_are_refused(given, said, tmp_path):
    np.savez(tmp_path / "a.npz", **{name: np.arange(9) if "labels" in name else images(9) for name in given})
    with pytest.raises(DataFormatError, match=rf"a\.npz must hold .*{said}") as error:
        stored.add("mine", tmp_path / "a.npz", tmp_path / "data")
    assert "\n" not in str(error.value) and not (tmp_path / "data").exists()


def test_train_and_val_of_two_shapes_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", train=images(9), val=images(9, shape=(1, 9, 9)), test=images(9))
    with pytest.raises(DataFormatError, match="train and val of one kind and shape; got uint8 .* and uint8 .*9, 9"):
        stored.add("mine", tmp_path / "a.npz", tmp_path / "data")


@pytest.mark.parametrize(
    ("top", "levels", "factor", "said"),
    [
        (255, None, 1, "16 bits a colour, pixels up to 255: they are kept as they are"),
        (4095, None, 255 / 4095, "16 bits a colour, pixels up to 4095: they are scaled to 0 .. 255 by 255 / 4095"),
        (65535, 17, 16 / 65535, "16 bits a colour, pixels up to 65535: they are scaled to 0 .. 16 by 16 / 65535"),
    ],
)
def test_16_bits_are_scaled_by_one_factor_and_said(top, levels, factor, said, tmp_path, capsys):
    wide = np.random.default_rng(0).integers(0, top + 1, (50, 8, 8)).astype(np.uint16)
    wide[3, 0, 0] = top
    np.savez(tmp_path / "a.npz", train=wide[:40], test=wide[40:] // 2)  # the test set is darker, and stays so
    stored.add("mine", tmp_path / "a.npz", tmp_path / "data", levels=levels)
    assert capsys.readouterr().out.startswith(said)
    split = catalog.load("mine", data_dir=tmp_path / "data")
    np.testing.assert_array_equal(split.test.images[:, 0], np.rint(wide[40:] // 2 * factor).astype(np.uint8))
    assert as_set(split.train.images) == as_set(np.rint(wide[:40] * factor).astype(np.uint8))


@pytest.mark.parametrize(
    ("pixels", "options", "said"),
    [((0, 255), [], True), ((0, 255), ["--binarise"], False), ((0, 254, 255), [], False), ((0, 1), [], False)],
    ids=str,
)
def test_black_and_white_images_get_a_hint_to_binarise(pixels, options, said, tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).choice(np.array(pixels, np.uint8), (50, 8, 8)))
    where = ["--data-dir", str(tmp_path / "data")]
    assert main(["datasets", "--add", "mine", str(tmp_path / "a.npy"), *options, *where]) == 0
    assert ("all pixels are 0 or 255: for binary images, add them with --binarise" in capsys.readouterr().out) == said


def test_truth_values_and_zeros_and_ones_are_binary(tmp_path):
    np.save(tmp_path / "a.npy", images(50) > 128)
    entry = stored.add("mine", tmp_path / "a.npy", tmp_path / "data")
    assert (entry.native_levels, entry.levels, entry.likelihood) == (2, (2,), "bernoulli")


@pytest.mark.parametrize("parts", [("train", "test"), (".",)], ids=["divided", "flat"])
def test_a_folder_of_pictures(parts, tmp_path):
    folder = tmp_path / "pictures"
    for part in parts:
        (folder / part).mkdir(parents=True)
        for i, image in enumerate(images(10, len(part), (8, 10))):
            Image.fromarray(image).save(folder / part / f"{i}.png")
    entry = stored.add("mine", folder, tmp_path / "data")
    assert entry.shape == (1, 8, 10) and entry.image_shape == (1, 12, 12)
    assert (entry.n_train, entry.n_test) == ((10, 10) if len(parts) == 2 else (8, 2))


def test_pictures_of_several_sizes_or_none_are_refused(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with pytest.raises(DataFormatError, match="must hold pictures .*; got none"):
        stored.add("mine", folder, tmp_path / "data")
    for name, side in (("a", 8), ("b", 9)):
        Image.fromarray(images(1, shape=(side, side))[0]).save(folder / f"{name}.png")
    with pytest.raises(DataFormatError, match=r"must have one size; got a.png of 8x8 and b.png of 9x9"):
        stored.add("mine", folder, tmp_path / "data")
    (folder / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataFormatError, match=r"b.png must be a picture .BMP, .* WEBP.; got none, or a damaged one$"):
        stored.add("mine", folder, tmp_path / "data")


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    np.savez(tmp_path / "objects.npz", train=np.array([{}], dtype=object), test=images(5))
    np.savez(tmp_path / "half.npz", train=images(5))
    np.savez(tmp_path / "one.npz", images=images(1))
    np.savez(tmp_path / "labels.npz", images=images(5), labels=np.arange(4))
    np.savez(tmp_path / "float.npz", images=images(5) / 255)
    (tmp_path / "text.npz").write_text("no arrays")
    np.save(tmp_path / "scalar.npy", np.uint8(5))
    np.savez(tmp_path / "scalar.npz", images=images(5), labels=3)
    np.savez_compressed(tmp_path / "damaged.npz", train=images(30), test=images(5))
    damaged = bytearray((tmp_path / "damaged.npz").read_bytes())
    damaged[100:102] = b"\xff\xff"
    (tmp_path / "damaged.npz").write_bytes(damaged)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 8, 8), }" % 10**13
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + bytes([118, 0]) + header.ljust(117) + b"\n")
    for name, kind, said in (
        ("objects.npz", DataFormatError, "a pickle and is not opened"),
        ("text.npz", DataFormatError, "must be an .npz or .npy that NumPy wrote"),
        ("half.npz", DataFormatError, "must hold the arrays train and test or val, or images alone .*; got train$"),
        ("one.npz", DataFormatError, "at least 2 images, and as many labels or none; got 1 images"),
        ("labels.npz", DataFormatError, "got 5 images and 4 labels"),
        ("scalar.npy", DataFormatError, "at least 2 images, and as many labels or none; got 0 images"),
        ("scalar.npz", DataFormatError, "got 5 images and 1 labels"),
        ("damaged.npz", DataFormatError, "got something else, a damaged file, or .*while decompressing"),
        ("huge.npy", DataFormatError, "got something else, a damaged file, or"),
        ("float.npz", DataFormatError, "must be a uint8 array; got float64 .*scale to 0 .. 255"),
        ("absent.npz", DataMissingError, "there is no file or folder .*absent.npz"),
    ):
        with pytest.raises(kind, match=said) as error:
            stored.add("mine", tmp_path / name, tmp_path / "data")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (Image.fromarray(np.ones((8, 8), np.float32)), "must have 8 bits a colour, or be .*; got TIFF .* mode F"),
        (Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "must have no transparent pixels; got some"),
        (Image.new("LA", (8, 8), (9, 254)), "must have no transparent pixels; got some"),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_pictures_that_would_lose_something_are_refused(picture, said, tmp_path):
    """Pillow shows what transparent pixels hide, and cuts numbers off."""
    picture.save(tmp_path / ("a.tif" if picture.mode == "F" else "a.png"))
    Image.new("L", (8, 8)).save(tmp_path / "b.png")
    with pytest.raises(DataFormatError, match=rf"a\.\w+ {said}"):
        stored.add("mine", tmp_path, tmp_path / "data")


def test_opaque_pictures_keep_their_pixels(tmp_path):
    grey = images(2, shape=(8, 8))
    for i, each in enumerate(grey):
        alpha = np.full_like(each, 255)
        Image.fromarray(np.stack([each, alpha], axis=-1), "LA").save(tmp_path / f"{i}.png")
    stored.add("mine", tmp_path, tmp_path / "data", test_percent=50)
    split = catalog.load("mine", data_dir=tmp_path / "data")
    kept = {image.tobytes() for part in (split.train, split.test) for image in part.images}
    assert kept == {image.tobytes() for image in grey}


def test_what_another_process_added_is_neither_replaced_nor_left_behind(file, tmp_path):
    """Without having looked into the data directory before, as from Python."""
    stored.add("mine", file, tmp_path / "data")
    there = (tmp_path / "data" / "own" / "mine.npz").read_bytes()
    stored.discover(tmp_path / "elsewhere")
    np.savez(tmp_path / "other.npz", train=images(30, 7), test=images(10, 8))
    with pytest.raises(SpecError, match="the name of a data set must be new; got 'mine'"):
        stored.add("mine", tmp_path / "other.npz", tmp_path / "data")
    assert (tmp_path / "data" / "own" / "mine.npz").read_bytes() == there
    stored.discover(tmp_path / "data")
    with pytest.raises(SpecError, match="must have been added to .*elsewhere.*, which has none; got 'mine'"):
        stored.remove("mine", tmp_path / "elsewhere")
    stored.remove("mine", tmp_path / "data")
    assert list((tmp_path / "data" / "own").iterdir()) == []


def test_a_full_disk_leaves_nothing_half_written(file, tmp_path, monkeypatch):
    def full(file: object, **arrays: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(SpecError, match="must be a folder that can be written, with room; got .*No space left"):
        stored.add("mine", file, tmp_path / "data")
    assert list((tmp_path / "data" / "own").iterdir()) == [] and "mine" not in catalog.CATALOG


def test_a_name_that_is_taken_says_how_to_free_it(file, tmp_path):
    stored.add("mine", file, tmp_path / "data")
    with pytest.raises(SpecError, match=r"'mine', which is your own, from file.npz \(to replace it: vaegen .*--remove"):
        stored.add("mine", file, tmp_path / "data")
    with pytest.raises(SpecError, match="got 'digits', which is handwritten digits"):
        stored.add("digits", file, tmp_path / "data")
    stored.remove("mine", tmp_path / "data")
    assert "mine" not in catalog.CATALOG and list((tmp_path / "data" / "own").iterdir()) == []
    with pytest.raises(SpecError, match="must have been added to .*, which has none; got 'mine'"):
        stored.remove("mine", tmp_path / "data")


def test_images_that_changed_since_are_found_out(file, tmp_path):
    stored.add("mine", file, tmp_path / "data")
    np.savez(tmp_path / "data" / "own" / "mine.npz", train=images(30), test=images(10, 5))
    with pytest.raises(DataFormatError, match="must hold the images that were added as mine, digest .*; got"):
        catalog.load("mine", data_dir=tmp_path / "data")
    (tmp_path / "data" / "own" / "mine.npz").unlink()
    assert not catalog.presence("mine", tmp_path / "data").present
    with pytest.raises(DataMissingError, match="there is no file"):
        catalog.load("mine", data_dir=tmp_path / "data")


def test_descriptions_that_are_none_are_skipped_and_said(file, tmp_path):
    stored.add("mine", file, tmp_path / "data")
    folder = tmp_path / "data" / "own"
    (folder / "broken.json").write_text("{")
    (folder / "list.json").write_text("[]")
    (folder / "digits.json").write_text((folder / "mine.json").read_text())
    (folder / "less.json").write_text(json.dumps({"title": "less"}))
    facts = json.loads((folder / "mine.json").read_text())
    for name, wrong in (("type", {"n_train": "30"}), ("shape", {"shape": None}), ("version", {"digest": "../x"})):
        (folder / f"wrong_{name}.json").write_text(json.dumps(facts | wrong))
    notes = stored.discover(tmp_path / "data")
    skipped = ["broken", "digits", "less", "list", "wrong_shape", "wrong_type", "wrong_version"]
    assert [Path(note.split()[0]).stem for note in notes] == skipped
    assert "mine" in catalog.CATALOG


def test_the_command_line_adds_lists_and_removes(file, tmp_path, capsys):
    where = ["--data-dir", str(tmp_path / "data")]
    assert main(["datasets", "--add", "mine", str(file), *where]) == 0
    assert "mine: 30 training and 10 test images, 1x8x8, 256 levels, likelihood logistic" in capsys.readouterr().out
    assert main(["datasets", *where]) == 0
    assert "mine " in capsys.readouterr().out
    assert main(["datasets", "--add", "mine", str(file), *where]) == 2
    assert capsys.readouterr().err.startswith("error: the name of a data set must be new; got 'mine'")
    assert main(["datasets", "--remove", "mine", *where]) == 0
    assert main(["datasets", "--get", "mine", *where]) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--add", "mine", "FILE", "--get", "digits"], "only one of --get, --add and --remove .*; got --get and --add"),
        (["--remove", "mine", "--add", "mine", "FILE"], "got --add and --remove"),
        (["--test-percent", "30"], "--test-percent goes with --add NAME PATH alone"),
        (["--remove", "mine", "--binarise"], "--binarise goes with --add"),
    ],
)
def test_options_that_would_be_ignored_are_refused(options, said, file, tmp_path, capsys):
    given = [str(file) if option == "FILE" else option for option in options]
    assert main(["datasets", *given, "--data-dir", str(tmp_path / "data")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(said, line) and not (tmp_path / "data").exists()


def test_test_images_that_are_trained_on_are_told(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", train=images(30), test=images(30)[:7])
    assert main(["datasets", "--add", "mine", str(tmp_path / "a.npz"), "--data-dir", str(tmp_path / "data")]) == 0
    assert "beware: 7 test images are also training images" in capsys.readouterr().out
