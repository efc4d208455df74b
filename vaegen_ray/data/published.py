"""Data sets in the formats that their authors published them in: SmallNORB and 3dShapes (bozkurt2021, Section 4.4).

Both are made smaller on the way, by the mean over squares of pixels, since the networks look at 32x32 images. So the
loaders take two arguments more than those in ``loaders``: how many training images are wanted, which spares memory, and
the side of the images.

SmallNORB (LeCun et al. 2004): 50 toys of 5 kinds, photographed from 9 heights and 18 directions under 6 lights by two
cameras that stand next to each other; 25 of the toys are for training, the others for testing. Only the first camera is
read. The two pictures of a pair show the same thing at the same moment, a few pixels apart, so a training set with both
would be one of near-duplicates, twice as large and hardly richer. With one, each of the 24,300 states of the factors is
there once, as in Tetrominoes and in 3dShapes. bozkurt2021 does not say which they took.

3dShapes (Burgess and Kim 2018): 480,000 rendered rooms, each state of six factors once. It has no test set of its own:
the last 10,000 of the fixed shuffled order are the test set, the others can be trained on.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vaegen_ray.data.loaders import Arrays, _damaged, _files, _length, _read, _short, find
from vaegen_ray.data.splits import fixed_order
from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError, not_one_of

NORB_PAIRS = 24_300
"""Pairs of images in each of the two sets."""
NORB_SIDE = 96
NORB_SIZES = (32, 48, 96)
"""Sides that SmallNORB can be asked for."""
NORB_KINDS = 5
"""Animals, people, aeroplanes, lorries and cars, in this order."""
NORB_FILES = (
    "smallnorb/smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat",
    "smallnorb/smallnorb-5x01235x9x18x6x2x96x96-testing-dat.mat",
)
NORB_LABELS = "smallnorb/smallnorb-5x01235x9x18x6x2x96x96-testing-cat.mat"
"""A download brings it; models can be trained without it."""
NORB_ADDRESS = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small"
NORB_MD5 = {
    NORB_FILES[0]: "66054832f9accfe74a0f4c36a75bc0a2",
    NORB_FILES[1]: "e4ad715691ed5a3a5f138751a4ceb071",
    NORB_LABELS: "5aa791cd7e6016cf957ce9bdb93b8603",
}
"""MD5 sums of the gzipped files, as the library disent lists them; the authors' page gives none."""
BYTES, INTEGERS = 0x1E3D4C55, 0x1E3D4C54
"""What a binary matrix of uint8, and one of int32, begins with."""

SHAPES_SHAPE = (480_000, 64, 64, 3)
"""Of ``images`` in the file."""
SHAPES_SIZES = (32, 64)
"""Sides that 3dShapes can be asked for."""
SHAPES_TEST = 10_000
"""Images of the test set."""
SHAPES_FACTOR, SHAPES_KINDS = 4, 4
"""The factor that counts as the class, and its values: cube, cylinder, sphere, pill."""
SHAPES_FILES = ("3dshapes/3dshapes.h5",)
SHAPES_ADDRESS = "https://storage.googleapis.com/3d-shapes/3dshapes.h5"
SHAPES_MD5 = "099a2078d58cec4daad0702c55d06868"
"""MD5 sum of the file, as the library disent lists it; the authors' page gives none."""
BLOCK_BYTES = 2**26
"""Images that are read at once take no more, unless those that lie in one compressed chunk of the file do."""


def smallnorb(root: Path, download: bool, n_train: int | None, image_size: int) -> Arrays:
    """The official training and test images of SmallNORB's first camera, in ``root/smallnorb``, and the kinds of the
    test images where their file is there.

    Args:
        root: the data directory.
        download: whether absent files may be downloaded.
        n_train: training images, the first of the fixed shuffled order; all when None.
        image_size: one of ``NORB_SIZES``.

    Raises:
        SpecError: another image size.
        DataMissingError: the files are absent and could not be downloaded.
        DataFormatError: a file is damaged.
    """
    _check_size("smallnorb", image_size, NORB_SIZES)

    def fetch(temporary: str) -> None:
        from torchvision.datasets.utils import download_url  # type: ignore[import-untyped]

        for file, md5 in NORB_MD5.items():
            folder, name = file.split("/")
            download_url(f"{NORB_ADDRESS}/{name}.gz", f"{temporary}/{folder}", md5=md5)

    train, test = _files("smallnorb", root, NORB_FILES, fetch if download else None)
    labels = find(root, NORB_LABELS)
    order = fixed_order(NORB_PAIRS)[:n_train]
    return Arrays(
        _averaged(_first_camera(train)[order], image_size),
        _averaged(_first_camera(test), image_size),
        _kinds(labels) if labels else None,
    )


def shapes3d(root: Path, download: bool, n_train: int | None, image_size: int) -> Arrays:
    """Images of 3dShapes, and the shapes of the things in the test images, in ``root/3dshapes/3dshapes.h5``.

    All 480,000 images take 5.9 GB, so only those that are asked for are kept.

    Args:
        root: the data directory.
        download: whether the file may be downloaded.
        n_train: training images, the first of the fixed shuffled order; all but the test set when None.
        image_size: one of ``SHAPES_SIZES``.

    Raises:
        SpecError: another image size.
        DataMissingError: h5py is absent, or the file is and could not be downloaded.
        DataFormatError: the file is damaged.
    """
    _check_size("shapes3d", image_size, SHAPES_SIZES)
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataMissingError(
            f"shapes3d needs the Python package h5py ({_short(error)}); run `pip install 'vaegen-ray[shapes]'`"
        ) from error

    def fetch(temporary: str) -> None:
        from torchvision.datasets.utils import download_url

        download_url(SHAPES_ADDRESS, f"{temporary}/3dshapes", md5=SHAPES_MD5)

    (path,) = _files("shapes3d", root, SHAPES_FILES, fetch if download else None)
    if path.suffix == ".gz":
        raise DataFormatError(f"{path}: HDF5 cannot read a gzipped file; gunzip it")
    order = fixed_order(SHAPES_SHAPE[0])
    train, test = order[:-SHAPES_TEST][:n_train], order[-SHAPES_TEST:]
    try:
        with h5py.File(path, "r") as file:
            images = _dataset(path, file, "images", np.uint8, SHAPES_SHAPE)
            factors = _dataset(path, file, "labels", np.float64, (SHAPES_SHAPE[0], 6))
            read = _read_images(images, np.concatenate((train, test)), image_size)
            kinds = factors[:, SHAPES_FACTOR][test]
    except (OSError, RuntimeError) as error:  # what h5py raises for all that HDF5 complains of
        raise _damaged(path, f"it cannot be read: {_short(error)}") from error
    if not np.isin(kinds, np.arange(SHAPES_KINDS)).all():
        raise _damaged(path, f"shapes are 0 to {SHAPES_KINDS - 1}; got numbers from {kinds.min()} to {kinds.max()}")
    return Arrays(read[: len(train)], read[len(train) :], kinds.astype(np.int64))


def _check_size(name: str, image_size: int, sizes: tuple[int, ...]) -> None:
    if image_size not in sizes:
        raise SpecError(not_one_of(f"image_size of {name}", image_size, sizes))


def _averaged(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [..., H, H] -> [..., size, size]: the mean over squares of pixels, halves rounded up."""
    side = images.shape[-1] // size
    squares = images.reshape(*images.shape[:-2], size, side, size, side)
    sums = squares.sum(axis=(-3, -1), dtype=np.uint16)  # 9 * 255 at most
    return ((sums + side**2 // 2) // side**2).astype(np.uint8)


def _first_camera(path: Path) -> np.ndarray:
    """uint8 [N, 1, 96, 96], a view of the pairs in a file."""
    return _matrix(path, BYTES, "u1", (NORB_PAIRS, 2, NORB_SIDE, NORB_SIDE))[:, :1]


def _kinds(path: Path) -> np.ndarray:
    """The kinds of the toys in the test images, int64 [N]."""
    kinds = _matrix(path, INTEGERS, "<i4", (NORB_PAIRS,)).astype(np.int64)
    if kinds.min() < 0 or kinds.max() >= NORB_KINDS:
        raise _damaged(path, f"kinds are 0 to {NORB_KINDS - 1}; got numbers from {kinds.min()} to {kinds.max()}")
    return kinds


def _matrix(path: Path, magic: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """A binary matrix of SmallNORB: a number for its type, how many dimensions it has, their sizes, three at least, all
    as little-endian 32-bit integers; then the elements, the last dimension fastest."""
    ndim = len(shape)
    start = 4 * (2 + max(ndim, 3))
    size = start + math.prod(shape) * np.dtype(dtype).itemsize
    content = _read(path, size)
    head = np.frombuffer(content[:start].ljust(start, b"\0"), dtype="<u4").tolist()
    if head[0] != magic:
        raise _damaged(path, f"a matrix of type {dtype} must begin with the number {magic:#x}; got {head[0]:#x}")
    if head[1] != ndim or tuple(head[2 : 2 + ndim]) != shape:
        raise _damaged(path, f"the matrix must have {ndim} dimensions, {shape}; got {head[1]}, {tuple(head[2:])}")
    if len(content) != size:
        raise _damaged(path, f"a matrix of {shape} takes {size} bytes; got {_length(content, size)}")
    return np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)


def _dataset(path: Path, file: Any, name: str, dtype: type, shape: tuple[int, ...]) -> Any:
    """The HDF5 data set ``name`` of an open file; nothing of it has been read."""
    found = file.get(name)
    got = "nothing" if found is None else f"{found.dtype} {found.shape}" if hasattr(found, "shape") else "a group"
    if got != f"{np.dtype(dtype)} {shape}":
        raise _damaged(path, f"{name} must be {np.dtype(dtype)} {shape}; got {got}")
    return found


def _read_images(images: Any, wanted: np.ndarray, size: int) -> np.ndarray:
    """The images at the rows ``wanted`` of an HDF5 data set [N, H, H, C], in that order: uint8 [n, C, size, size]."""
    order = np.argsort(wanted)
    rows = wanted[order]
    result = np.empty((len(rows), images.shape[-1], size, size), dtype=np.uint8)
    step, most = images.chunks[0] if images.chunks else 1, BLOCK_BYTES // math.prod(images.shape[1:])
    for run in _runs(rows, step, most):
        first, last = rows[run][[0, -1]]
        block = images[first : last + 1][rows[run] - first]
        result[order[run]] = _averaged(np.moveaxis(block, -1, 1), size)
    return result


def _runs(rows: np.ndarray, step: int, most: int) -> Iterator[slice]:
    """Rising row numbers in runs that are read at once: those in one chunk of ``step`` rows, or in neighbouring chunks
    that have at most ``most`` rows together. No chunk is in two runs, so each is unpacked once; one without any of the
    rows is in none."""
    chunks = (rows // step).tolist()
    start = 0
    for i in range(1, len(chunks)):
        fits = (chunks[i] - chunks[start] + 1) * step <= most
        if chunks[i] > chunks[i - 1] + fits:  # another chunk: it may be the next one, where that fits
            yield slice(start, i)
            start = i
    yield slice(start, len(chunks))
