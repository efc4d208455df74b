"""Data sets of your own: a function outside of the package that gives images, registered under a name.

    def patches() -> tuple[np.ndarray, np.ndarray]:
        return train, test                       # uint8 [N, C, H, W] and [N_test, C, H, W]

    register_dataset("patches", patches)         # from now on: --dataset patches, TrialSpec(dataset="patches", ...)

What the images are, as a digest, becomes part of the identity of every trial on them: change the images, and the VAEs
are trained anew; rows of before stay what they were. The function is called when it is registered, and again when the
images are needed; both times it must give the same. Only the process that starts a sweep calls it: workers get the
images from there. Images in a file need no function (``added``).
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from vaegen_ray.data.catalog import CATALOG, DatasetInfo
from vaegen_ray.data.loaders import Arrays
from vaegen_ray.data.splits import fixed_order
from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError, VaegenError, not_one_of
from vaegen_ray.spec.architecture import check_name
from vaegen_ray.spec.trial import LIKELIHOODS

Load = Callable[[], Arrays | tuple[np.ndarray, ...]]
"""Gives training images, test images and, where there are any, the classes of the test images."""


def register_dataset(
    name: str,
    load: Load,
    *,
    title: str = "",
    levels: int = 256,
    default_levels: int | None = None,
    likelihood: str | None = None,
    image_size: int | None = None,
) -> DatasetInfo:
    """Makes a data set known by its name; the same one may be registered again.

    Args:
        name: small letters, digits and _.
        load: gives ``(train, test)`` or ``(train, test, test_labels)``: uint8 [N, C, H, W] with 1 or 3 channels, pixel
            values 0 .. levels - 1; classes as whole numbers from 0 on, [N_test]. The training images come into one
            fixed shuffled order, so that those of a smaller ``n_train`` are a random part of them.
        title: what it is, in a few words.
        levels: grey levels of a pixel.
        default_levels: 2, where images are usually binarised at half intensity; ``levels`` when None.
        likelihood: the usual p(x|z); by levels and channels when None.
        image_size: height and width after zero padding; the larger side, up to the next multiple of 4, when None.

    Raises:
        SpecError: the name is taken, or an option cannot be.
        DataFormatError: the images are not what they should be.
        DataMissingError: ``load`` did not find its files.
    """
    check_name("a data set", name)
    arrays = _load(name, load, levels)
    entry = build_entry(name, arrays, levels, title, default_levels, likelihood, image_size)
    entry = replace(
        entry,
        read=partial(_same_again, name, load, levels, entry.digest),
        where=getattr(load, "__module__", None) or "",
    )
    known = CATALOG.get(name)
    if known is not None and replace(known, read=None, where="") != replace(entry, read=None, where=""):
        raise SpecError(f"the name of a data set must be new; got {name!r}, which is {known.title}")
    CATALOG[name] = entry
    return entry


def build_entry(
    name: str,
    arrays: Arrays,
    levels: int,
    title: str,
    default_levels: int | None,
    likelihood: str | None,
    image_size: int | None,
) -> DatasetInfo:
    """The entry of checked images in the catalog; its arguments are those of ``register_dataset``.

    Raises:
        SpecError: an option cannot be.
    """
    _, channels, height, width = arrays.train.shape
    usual = levels if default_levels is None else default_levels
    if usual not in (2, levels):
        raise SpecError(not_one_of(f"default_levels of {name}", usual, (2, levels)))
    if likelihood is None:
        likelihood = "bernoulli" if usual == 2 else "logistic" if channels == 1 else "logistic_mixture"
    if likelihood not in LIKELIHOODS:
        raise SpecError(not_one_of(f"likelihood of {name}", likelihood, LIKELIHOODS))
    size = -(-max(height, width) // 4) * 4 if image_size is None else image_size
    if type(size) is not int or size < max(height, width):
        raise SpecError(
            f"image_size of {name} must be a whole number >= {max(height, width)}, the side of the images; got {size!r}"
        )
    return DatasetInfo(
        name=name,
        title=title or f"your own, {height}x{width}",
        n_train=len(arrays.train),
        n_test=len(arrays.test),
        shape=(channels, height, width),
        native_levels=levels,
        levels=(levels,) if levels == 2 else (2, levels),
        default_levels=usual,
        image_size=size,
        likelihood=likelihood,
        needs="what its loader reads",
        how_to_get="what its loader reads is yours to get",
        files=(),
        digest=digest(arrays, levels),
    )


def digest(arrays: Arrays, levels: int) -> str:
    """20 hexadecimal digits that name images, levels and classes."""
    made = hashlib.blake2b(f"{levels}".encode(), digest_size=10)
    for array in arrays:
        if array is not None:
            made.update(f"/{array.dtype}{array.shape}/".encode())
            made.update(np.ascontiguousarray(array).data)
    return made.hexdigest()


def checked(name: str, loaded: object, levels: int) -> Arrays:
    """Images as a loader gave them, if they are what they should be.

    Raises:
        DataFormatError: they are not.
    """
    if not isinstance(loaded, tuple) or len(loaded) not in (2, 3):
        raise DataFormatError(
            f"the loader of {name} must return (train, test) or (train, test, test_labels); got {_what(loaded)}"
        )
    if type(levels) is not int or not 2 <= levels <= 256:
        raise SpecError(f"levels of {name} must be a whole number from 2 to 256; got {levels!r}")
    arrays = Arrays(*loaded)
    for part, images in (("training", arrays.train), ("test", arrays.test)):
        _check_images(f"{part} images of {name}", images, levels)
    if arrays.train.shape[1:] != arrays.test.shape[1:]:
        raise DataFormatError(
            f"training and test images of {name} must have one shape [C, H, W]; got {arrays.train.shape[1:]} and "
            f"{arrays.test.shape[1:]}"
        )
    return arrays._replace(test_labels=_checked_labels(name, arrays.test_labels, len(arrays.test)))


def in_order(arrays: Arrays) -> Arrays:
    """The same with the training images in the one fixed shuffled order."""
    return arrays._replace(train=arrays.train[fixed_order(len(arrays.train))])


def _load(name: str, load: Load, levels: int) -> Arrays:
    try:
        loaded = load()
    except VaegenError:
        raise
    except OSError as error:
        raise DataMissingError(f"the loader of {name} could not read its images: {error}") from error
    return checked(name, loaded, levels)


def _same_again(name: str, load: Load, levels: int, before: str) -> Arrays:
    """The images, if they still are those that were registered.

    Raises:
        DataFormatError: they are others.
    """
    arrays = _load(name, load, levels)
    if (now := digest(arrays, levels)) != before:
        raise DataFormatError(
            f"the loader of {name} must give the same images each time; got others at its second call, digest {now} "
            f"after {before} (give its random numbers a fixed seed, and leave its files alone while a sweep starts)"
        )
    return in_order(arrays)


def _check_images(what: str, images: object, levels: int) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        advice = ""
        if isinstance(images, np.ndarray) and images.size and images.dtype.kind in "fiu":
            advice = (
                f", from {images.min():g} to {images.max():g} (scale to 0 .. {levels - 1}, round, .astype(np.uint8))"
            )
        raise DataFormatError(f"{what} must be a uint8 array; got {_what(images)}{advice}")
    if images.ndim != 4 or 0 in images.shape or images.shape[1] not in (1, 3):
        raise DataFormatError(f"{what} must have the shape [N, C, H, W] with C 1 or 3; got {images.shape}")
    if (largest := int(images.max())) >= levels:
        raise DataFormatError(f"{what} must have pixel values 0 .. {levels - 1}; got {largest}")


def _checked_labels(name: str, labels: object, count: int) -> np.ndarray | None:
    if labels is None:
        return None
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise DataFormatError(f"test_labels of {name} must be {count} whole numbers [N_test]; got {_what(labels)}")
    if labels.min() < 0:
        raise DataFormatError(f"test_labels of {name} must be classes from 0 on; got {labels.min()}")
    return labels.astype(np.int64)


def _what(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__
