"""Corrupted test sets: the published CIFAR-10-C, and six corruptions of our own for every other data set.

xiao2024 (Appendix G) measures on CIFAR-10-C (Hendrycks & Dietterich 2019), which is read from its files. Other data
sets have no such files, so their test sets are corrupted here by rules of the same kind. A corrupted image is a pure
function of the image, its index in the test set, the corruption and the severity, the same for all trials.

The rules work on intensities in [0, 1] in native grey levels, before padding and binarisation; a binarised test set is
binarised again after the corruption. Letters: N images, C channels, H height, W width.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]

from vaegen_ray.checks import check_int
from vaegen_ray.data import catalog
from vaegen_ray.data.images import ImageSet
from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError, not_one_of
from vaegen_ray.paths import expanded
from vaegen_ray.seeds import stream_seed

CIFAR10_C = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    *("snow", "frost", "fog", "brightness", "contrast"),
    *("elastic_transform", "pixelate", "jpeg_compression", "spatter", "saturate"),
)
"""The 19 corruptions of CIFAR-10-C, one file each."""
CIFAR10_C_FOLDER = "CIFAR-10-C"
CIFAR10_C_HOME = "https://zenodo.org/records/2535967"
SEVERITIES = 5


def gaussian_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Normal noise of standard deviation 0.08 to 0.38."""
    return x + (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1] * generator.standard_normal(x.shape)


def impulse_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """3 % to 27 % of the values become black or white, half of them each."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    drawn = generator.random(x.shape)
    return np.where(drawn < share / 2, 0.0, np.where(drawn > 1 - share / 2, 1.0, x))


def gaussian_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A Gaussian of standard deviation 5 % to 12 % of the image's height."""
    pixels = (0.05, 0.065, 0.08, 0.1, 0.12)[severity - 1] * x.shape[-2]
    return gaussian_filter(x, sigma=(0, 0, pixels, pixels), mode="nearest")


def contrast(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Differences from the mean of an image's channel shrink to 86 % to 50 %.

    White stays above half just so: with less, nothing would be left of a picture that is binarised afterwards.
    """
    mean = x.mean((-2, -1), keepdims=True)
    return mean + (0.86, 0.77, 0.68, 0.59, 0.5)[severity - 1] * (x - mean)


def brightness(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """0.06 to 0.3 is added to every intensity."""
    return x + (0.06, 0.12, 0.18, 0.24, 0.3)[severity - 1]


def occlusion(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A black square somewhere inside the image, 12.5 % to 62.5 % as high as the image."""
    height, width = x.shape[-2:]
    side = max(1, round(severity * height / 8))
    corners = np.floor(generator.random((len(x), 2)) * (height - side + 1, width - side + 1))
    (top, left), rows, columns = corners.T[:, :, None, None], np.arange(height)[:, None], np.arange(width)
    hidden = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)  # [N, H, W]
    return np.where(hidden[:, None], 0.0, x)


OWN: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "gaussian_noise": gaussian_noise,
    "impulse_noise": impulse_noise,
    "gaussian_blur": gaussian_blur,
    "contrast": contrast,
    "brightness": brightness,
    "occlusion": occlusion,
}
"""Our own: intensities [N, C, H, W] of the first N images, severity 1 to 5 and random numbers -> the same, corrupted.
A rule draws the numbers of image i after those of image i - 1. The order is part of the random streams: add at the
end."""


def corrupted(images: ImageSet, name: str, severity: int) -> ImageSet:
    """The images of a test set, from its first on, under one of our own corruptions, in the levels that they have.

    Raises:
        SpecError: there is no such corruption, or the severity is not 1 to 5.
    """
    if name not in OWN:
        raise SpecError(not_one_of("corruption", name, OWN))
    check_int("severity of a corruption", severity, 1, SEVERITIES)
    stream = SEVERITIES * list(OWN).index(name) + severity
    generator = np.random.Generator(np.random.PCG64(stream_seed(0, "corruption", stream)))
    top = images.levels - 1
    changed = OWN[name](images.images / top, severity, generator)
    return ImageSet(np.rint(changed.clip(0, 1) * top).astype(np.uint8), images.levels)


def load_corrupted(
    dataset: str, test: ImageSet, *, severity: int, image_size: int, data_dir: str | Path | None = None
) -> dict[str, np.ndarray]:
    """The corrupted versions of a test set by the names of the corruptions: uint8 [N, C, H, W], in test order.

    Args:
        dataset: an entry of the catalog.
        test: its whole test set as the networks see it: gives N and the grey levels.
        severity: 1 to 5.
        image_size: height and width after zero padding, those of ``test``.
        data_dir: where files lie; ``catalog.data_dir()`` when None.

    Raises:
        SpecError: the data set or the severity cannot be.
        DataMissingError: CIFAR-10-C or the data set is absent; says how to get it.
        DataFormatError: a file is not what it should be.
    """
    entry = catalog.info(dataset)
    check_int("severity of a corruption", severity, 1, SEVERITIES)
    sets: dict[str, ImageSet]
    if dataset == "cifar10":
        folder = (catalog.data_dir() if data_dir is None else expanded(data_dir)) / CIFAR10_C_FOLDER
        sets = {name: _published(folder / f"{name}.npy", len(test), severity) for name in CIFAR10_C}
    elif entry.bins is not None:  # which images are the test set depends on the split
        sets = {name: corrupted(test, name, severity) for name in OWN}
    else:
        side = entry.shape[1]
        plain = catalog.load(dataset, native=True, image_size=side, data_dir=data_dir, download=False).test.owned()
        if len(plain) != len(test):
            raise SpecError(f"test must be the whole test set of {dataset}, {len(plain)} images; got {len(test)}")
        sets = {name: corrupted(plain, name, severity) for name in OWN}
    return {name: images.requantised(test.levels).padded(image_size).images for name, images in sets.items()}


def _published(path: Path, images: int, severity: int) -> ImageSet:
    """One severity of a file of CIFAR-10-C: uint8 [5 N, 32, 32, 3], the test set once for each severity, rising."""
    if not path.is_file():
        raise DataMissingError(
            f"{CIFAR10_C_FOLDER} is not on this machine: no {path.name} in {path.parent}; get {CIFAR10_C_FOLDER}.tar "
            f"from {CIFAR10_C_HOME} and unpack it in {path.parent.parent}"
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataFormatError(f"{path} must be an array that NumPy wrote; got: {why} (get it again)") from error
    wanted = (SEVERITIES * images, 32, 32, 3)
    if array.shape != wanted or array.dtype != np.uint8:
        raise DataFormatError(f"{path} must be uint8 {wanted}; got {array.dtype} {array.shape} (get it again)")
    part = array[(severity - 1) * images : severity * images]
    return ImageSet(np.ascontiguousarray(part.transpose(0, 3, 1, 2)), 256)
