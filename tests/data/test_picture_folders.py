"""Folders of pictures: their division and classes are kept, what is left out is said, two meanings are refused."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from vaegen_ray.data import catalog, stored
from vaegen_ray.data.picture_folders import find_pictures, read_folder
from vaegen_ray.errors import DataFormatError


@pytest.fixture(autouse=True)
def _catalog_as_before() -> Iterator[None]:
    with patch.dict(catalog.CATALOG), patch.object(stored, "_discovered", set()):
        yield


def write(folder: Path, *names: str, size: int = 4) -> Path:
    """Pictures whose pixels are all their number, from 1 on."""
    for i, name in enumerate(names, 1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        options = {"lossless": True} if name.endswith(".webp") else {}
        Image.fromarray(np.full((size, size), i, np.uint8)).save(folder / name, **options)
    return folder


def numbers(images: np.ndarray) -> list[int]:
    return sorted(images[:, 0, 0, 0].tolist())


DIVIDED = ("train/a.png", "train/b.png", "val/c.png", "test/d.png")


@pytest.mark.parametrize(
    ("files", "train", "test", "said"),
    [
        (DIVIDED, [1, 2, 3], [4], "val is a part of the training set (1 images), since there is a test\n"),
        (DIVIDED[:3], [1, 2], [3], "val is the test set (1 images), since there is no test\n"),
        ((*DIVIDED[:2], DIVIDED[3]), [1, 2], [3], ""),
        (("Training/a.png", "VALID/b.png", "Test/c.png"), [1, 2], [3], "val is a part of"),
    ],
    ids=str,
)
def test_a_division_into_folders_is_kept(files, train, test, said, tmp_path, capsys):
    stored.add("mine", write(tmp_path / "p", *files), tmp_path / "data")
    assert capsys.readouterr().out.startswith(said)
    split = catalog.load("mine", data_dir=tmp_path / "data")
    assert (numbers(split.train.images), numbers(split.test.images)) == (train, test)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((*DIVIDED, "e.png"), r"or none; got test, train, val, and 1 pictures beside them \(such as e.png\)"),
        ((*DIVIDED, "cat/e.png"), r"and 1 pictures beside them \(such as cat/e.png\)"),
        (("cat/train/a.png", "cat/test/b.png"), "must lie in .*p itself; got cat/test"),
        (("data/train/a.png", "data/test/b.png"), "must lie in .*; got data/test .give the path of the folder"),
        (("train/a.png", "train/test/b.png"), "must lie in .*; got train/test"),
        (("train/a.png", "Training/b.png", "test/c.png"), "must have one folder a part; got Training and train"),
        (("train/a.png",), "must have pictures in train and in test or val; got them in train"),
        (("val/a.png", "test/a.png"), "must have pictures in train and in test or val; got them in"),
        ((), "must hold pictures .*; got none"),
    ],
    ids=str,
)
def test_what_can_be_understood_in_two_ways_is_refused(files, said, tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(DataFormatError, match=said) as error:
        stored.add("mine", write(tmp_path / "p", *files), tmp_path / "data")
    assert "\n" not in str(error.value) and not (tmp_path / "data").exists()


@pytest.mark.parametrize("parts", [("",), ("train", "test"), ("train", "val")], ids=str)
def test_a_folder_is_a_class(parts, tmp_path, capsys):
    classes = [
        f"{part}/{name}/deeper/{i}.png".lstrip("/") for part in parts for name in ("dog", "cat") for i in range(10)
    ]
    stored.add("mine", write(tmp_path / "p", *classes), tmp_path / "data")
    assert "classes by folder: 0 cat, 1 dog\n" in capsys.readouterr().out
    split = catalog.load("mine", data_dir=tmp_path / "data")
    assert len(split.test_labels) == (4 if parts == ("",) else 20)
    for image, label in zip(split.test.images, split.test_labels, strict=True):
        assert (label == 1) == ("dog/" in classes[image[0, 0, 0] - 1])


def test_numbers_are_classes_in_their_order_and_many_are_cut_short(tmp_path):
    found = find_pictures(write(tmp_path, *(f"{n}/a.png" for n in range(12))))
    assert found.labels["images"].tolist() == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert found.notes == ["classes by folder: 0 0, 1 1, 2 2, 3 3, 4 4, 5 5, 6 6, 7 7, 8 8, 9 9, and 2 more"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ("cat/a.png", "dog/b.png", "c.png"),
            "left out: the classes of images, because 1 of 3 pictures lie in no folder",
        ),
        (
            ("train/cat/a.png", "train/dog/b.png", "test/c.png"),
            "left out: the classes of test, because 1 of 1 pictures",
        ),
    ],
    ids=str,
)
def test_pictures_without_a_class_beside_others_are_said(files, said, tmp_path):
    arrays, notes = read_folder(write(tmp_path, *files))
    assert any(note.startswith(said) for note in notes) and not {"labels", "test_labels"} & set(arrays)


def test_hidden_and_system_files_are_left_out_in_one_line(tmp_path, capsys):
    folder = write(
        tmp_path / "p",
        *("a.png", "b.png", ".hidden.png", "._a.png", ".ipynb_checkpoints/a-checkpoint.png", "__MACOSX/a.png"),
    )
    (folder / "Thumbs.db").write_bytes(b"")
    (folder / "labels.csv").write_text("a,1\n")
    (folder / "c.heic").write_bytes(b"")
    (folder / "gone.png").symlink_to(tmp_path / "nothing.png")
    entry = stored.add("mine", folder, tmp_path / "data", test_percent=50)
    assert entry.n_train + entry.n_test == 2
    assert capsys.readouterr().out.splitlines() == [
        "left out: 5 hidden or system files and folders (such as ._a.png), 2 files that are not pictures (such as "
        "c.heic), 1 links that lead nowhere (such as gone.png)"
    ]


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(DataFormatError, match=r"got none; left out: 1 files that are not pictures \(such as a.heic\)"):
        find_pictures(tmp_path)


def test_linked_folders_and_files_are_followed_and_none_is_read_twice(tmp_path):
    far = write(tmp_path / "far", "cat/a.png", "cat/b.png", "dog/c.png", "d.png")
    folder = tmp_path / "p"
    folder.mkdir()
    for name in ("cat", "dog"):
        (folder / name).symlink_to(far / name)
    (folder / "dog_again").symlink_to(far / "dog")
    (far / "cat" / "up").symlink_to(folder)
    (far / "dog" / "d.png").symlink_to(far / "d.png")
    arrays, notes = read_folder(folder)
    assert numbers(arrays["images"]) == [1, 2, 3, 4] and arrays["labels"].tolist() == [0, 0, 1, 1]
    assert notes[0] == "left out: 2 folders that were read already through another name (such as cat/up)"


def test_suffixes_of_all_cases_and_formats_are_pictures(tmp_path):
    names = ("a.PNG", "b.tif", "c.TIFF", "d.webp", "e.bmp", "f.gif", "g.pgm", "h.jpg", "i.jpeg", "j.tga", "k.pcx")
    arrays, notes = read_folder(write(tmp_path, *names))
    assert notes == [] and arrays["images"].shape == (len(names), 3, 4, 4)
    assert len(set(numbers(arrays["images"]))) == len(names)
