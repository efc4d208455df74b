"""Images in files of users: what NumPy wrote, or a folder of pictures. No pickle is opened.

What they hold has names: ``train``, ``val`` and ``test``, or ``images`` alone; and classes, ``test_labels`` and
``val_labels``, or ``labels`` of ``images``. ``divided`` makes a training and a test set of them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaegen_ray.data.loaders import Arrays
from vaegen_ray.data.memory import check_memory
from vaegen_ray.data.picture_folders import read_folder
from vaegen_ray.data.splits import fixed_order
from vaegen_ray.errors import DataFormatError, DataMissingError, VaegenError, in_one_line

NAMES = ("images", "labels", "train", "val", "test", "val_labels", "test_labels")
"""Arrays that are read; classes of training images are used nowhere."""
BLOCK = 1000
"""Images that are looked at or converted at a time."""


class Source(NamedTuple):
    """What a file or a folder holds."""

    arrays: dict[str, np.ndarray]
    """By name, one of ``NAMES``."""
    notes: list[str]
    """A line for each thing that a user should know, such as what was left out."""


def read_source(source: Path) -> Source:
    """The arrays of a file, or the pictures of a folder.

    Raises:
        DataMissingError: there is no such file, or it cannot be read.
        DataFormatError: it is not what NumPy writes, or has an array of Python objects; see also ``read_folder``.
        VaegenError: it does not fit into the memory.
    """
    if not source.exists():
        raise DataMissingError(f"there is no file or folder {source}; give an .npz, an .npy, or a folder of pictures")
    if source.is_dir():
        return Source(*read_folder(source))
    try:
        return _read_arrays(source)
    except VaegenError:
        raise
    except PermissionError as error:
        raise DataMissingError(f"{source} must be a file that can be read; got: {in_one_line(error)}") from None
    except Exception as error:  # of a damaged file NumPy, zipfile and zlib raise almost anything
        raise DataFormatError(
            f"{source} must be an .npz or .npy that NumPy wrote, or a folder; got something else, a damaged file, or "
            f"an array of Python objects, which is a pickle and is not opened ({in_one_line(error)})"
        ) from None


def _read_arrays(source: Path) -> Source:
    opened = np.load(source, allow_pickle=False, mmap_mode="r")  # an .npy is mapped: nothing is read yet
    if isinstance(opened, np.ndarray):
        check_memory(source, opened.nbytes)
        return Source({"images": opened}, [])
    with opened:
        names = [name for name in opened.files if name in NAMES]
        members = [info for info in opened.zip.infolist() if info.filename.removesuffix(".npy") in names]
        check_memory(source, sum(info.file_size for info in members))
        others = sorted(set(opened.files) - set(names))
        notes = [f"left out: the arrays {', '.join(others)}, which are none of {', '.join(NAMES)}"] if others else []
        arrays = {name: opened[name] for name in names}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} is not an array")
    return Source(arrays, notes)


def divided(source: Path, found: Source, test_percent: int) -> tuple[Arrays, list[str]]:
    """Training and test set, and what is to be said of them.

    ``val`` becomes the test set where there is no other one, otherwise a part of the training set. Images alone are
    shuffled in one fixed order, and the last of them are the test set.

    Raises:
        DataFormatError: names are missing, or there are so many that they can be understood in two ways.
    """
    parts = {name: array if name.endswith("labels") else channels_first(array) for name, array in found.arrays.items()}
    names = set(parts)
    if "images" in names and names <= {"images", "labels"}:
        return _apart(source, parts["images"], parts.get("labels"), test_percent), found.notes
    if "train" not in names or not names & {"val", "test"} or names & {"images", "labels"}:
        listed = _listed(names) + "".join(f"; {note}" for note in found.notes)
        raise DataFormatError(
            f"{source} must hold the arrays train and test or val, or images alone (with their classes as test_labels, "
            f"val_labels or labels); got {listed}"
        )
    for part in ("val", "test"):
        if f"{part}_labels" in names and part not in names:
            raise DataFormatError(f"{source} must hold {part}, whose classes are {part}_labels; got {_listed(names)}")
    if "test" not in names:
        note = f"val is the test set ({len(parts['val']):,} images), since there is no test"
        return Arrays(parts["train"], parts["val"], _flat(parts.get("val_labels"))), [*found.notes, note]
    notes, train = list(found.notes), parts["train"]
    if "val" in names:
        train = _joined(source, train, parts["val"])
        notes.append(f"val is a part of the training set ({len(parts['val']):,} images), since there is a test")
    return Arrays(train, parts["test"], _flat(parts.get("test_labels"))), notes


def _apart(source: Path, images: np.ndarray, labels: np.ndarray | None, test_percent: int) -> Arrays:
    labels = _flat(labels)
    n = images.shape[0] if images.ndim else 0
    if n < 2 or (labels is not None and labels.shape != (n,)):
        got = f"{n} images" + ("" if labels is None else f" and {labels.size} labels")
        raise DataFormatError(f"{source} must hold at least 2 images, and as many labels or none; got {got}")
    order = fixed_order(n)
    kept = n - max(1, n * test_percent // 100)
    return Arrays(images[order[:kept]], images[order[kept:]], None if labels is None else labels[order[kept:]])


def _joined(source: Path, train: np.ndarray, val: np.ndarray) -> np.ndarray:
    if train.ndim != 4 or train.shape[1:] != val.shape[1:] or train.dtype != val.dtype:
        got = " and ".join(f"{each.dtype} {each.shape}" for each in (train, val))
        raise DataFormatError(f"{source} must hold train and val of one kind and shape; got {got}")
    return np.concatenate([train, val])


def _flat(labels: np.ndarray | None) -> np.ndarray | None:
    """[N, 1], as some files have them, as [N]."""
    return labels[:, 0] if labels is not None and labels.ndim == 2 and labels.shape[1] == 1 else labels


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def channels_first(images: np.ndarray) -> np.ndarray:
    """[N, H, W] and [N, H, W, C] as [N, C, H, W]; truth values as 0 and 1."""
    if images.dtype == np.bool_:
        images = images.astype(np.uint8)
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images


def as_bytes(arrays: Arrays, levels: int) -> tuple[Arrays, list[str]]:
    """Images of 16 bits as uint8: as they are where no pixel exceeds ``levels - 1``, otherwise all scaled by one
    factor, so that the largest pixel becomes ``levels - 1``; and what is to be said of it. Others are left alone."""
    images = {"train": arrays.train, "test": arrays.test}
    if not all(each.dtype == np.uint16 and each.size for each in images.values()):
        return arrays, []
    largest, top = max(int(each.max()) for each in images.values()), levels - 1
    made = {}
    for name, each in images.items():
        made[name] = np.empty(each.shape, np.uint8)
        for i in range(0, len(each), BLOCK):
            block = each[i : i + BLOCK]
            made[name][i : i + BLOCK] = block if largest <= top else np.rint(block * (top / largest))
    said = f"16 bits a colour, pixels up to {largest}: " + (
        "they are kept as they are"
        if largest <= top
        else f"they are scaled to 0 .. {top} by {top} / {largest}, rounded"
    )
    return arrays._replace(**made), [said]


def black_and_white(arrays: Arrays) -> bool:
    """Whether all pixels are 0 or 255."""
    return all(
        np.isin(images[i : i + BLOCK], (0, 255)).all()
        for images in (arrays.train, arrays.test)
        for i in range(0, len(images), BLOCK)
    )
