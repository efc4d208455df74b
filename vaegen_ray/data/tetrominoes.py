"""Tetrominoes: pictures of one J-shaped piece that differ in five factors (bozkurt2021, Section 4.1 and Figure 1).

A J is four squares, concave and without rotational symmetry, so that every factor moves many pixels. The factors:

- angle, 0 to 360 degrees;
- hue, 0 to 0.875 of the colour circle, at full saturation and value, on black ground;
- scale, the side of a square: 2 to 5 pixels of a 32x32 image, and in proportion in other sizes;
- x and y, the place, over the range in which the turned piece lies wholly inside the image (the paper's "adaptive
  range"): at 0 it touches the left or upper border, at 1 the right or lower one.

The sample is stratified: each factor is cut into bins, every combination of bins has one image, and the image's factors
are uniform inside its bins. Factors are given as numbers in [0, 1), the part of their range.

Images are a pure function of bins, size and seed: the same bytes from one run to the next, however they are cut into
chunks. Only sines and cosines may differ between machines, by one unit in the last place of a double, which could move
a pixel value by 1.

Letters: N images, S their side in pixels.
"""

import contextlib
import hashlib
import math
import os
import uuid
import warnings
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from vaegen_ray.checks import check_int
from vaegen_ray.seeds import stream_seed

LARGEST_HUE = 0.875
SCALES = (2.0, 5.0)
"""Side of a square in pixels of an image of ``USUAL_SIZE``."""
USUAL_SIZE = 32
SMALLEST_SIZE = 16
"""Below it, squares would be smaller than a pixel."""

CORNERS = np.array([(-0.5, -2.5), (0.5, -2.5), (0.5, 0.5), (-1.5, 0.5), (-1.5, -0.5)])
"""The corners of the J that can touch a border: (x, y) from the centre of the square at the bend, in sides of a square.
y goes down."""

CHUNK_PIXELS = 65_536
"""Pixels that are drawn at a time: a few float32 arrays of them fit into a core's cache."""
RENDERING_VERSION = 1
"""Raised whenever a change of the code moves a pixel, so that old files are not taken for new ones."""


@dataclass(frozen=True, kw_only=True)
class Bins:
    """How many bins each factor is cut into; the defaults are the paper's 163,840 images.

    Raises:
        SpecError: a number is not a whole number from 1 on.
    """

    angle: int = 16
    hue: int = 8
    scale: int = 5
    x: int = 16
    y: int = 16

    def __post_init__(self) -> None:
        for name, count in vars(self).items():
            check_int(f"bins of {name}", count, 1)

    @property
    def counts(self) -> tuple[int, ...]:
        """The bins of angle, hue, scale, x and y."""
        return astuple(self)

    @property
    def images(self) -> int:
        """N: one image for every combination of bins."""
        return math.prod(self.counts)

    def numbers(self) -> np.ndarray:
        """The bins of each image from 0 on, int64 [N, 5]: a column each for angle, hue, scale, x, y; y runs fastest."""
        return np.indices(self.counts).reshape(len(self.counts), -1).T


def factors(bins: Bins, seed: int = 0) -> np.ndarray:
    """The factors of all images: float64 [N, 5] in [0, 1), uniform inside of the bins ``bins.numbers()``."""
    generator = np.random.Generator(np.random.PCG64(stream_seed(seed, "tetrominoes")))
    return (bins.numbers() + generator.random((bins.images, len(bins.counts)))) / bins.counts


def render(values: np.ndarray, size: int = USUAL_SIZE) -> np.ndarray:
    """The pictures of given factors.

    A pixel's intensity is the part of it that the piece covers, found along the two axes of the turned piece: along
    one, a rectangle of half-width h covers clip(1/2 + h - |u|, 0, 1) of a pixel whose centre is u from the rectangle's.
    The product over both axes is exact for upright pieces, and keeps a rectangle's area at every angle. The J is two
    rectangles, 1x3 and 2x1, that share the square at the bend; where both cover a pixel, the larger part counts.

    Args:
        values: float [N, 5] in [0, 1]: angle, hue, scale, x, y.
        size: S.

    Returns:
        uint8 [N, 3, S, S], red, green and blue.

    Raises:
        SpecError: the size is too small.
    """
    check_int("image_size", size, SMALLEST_SIZE)
    angle, hue, scale = values[:, 0], values[:, 1], values[:, 2]
    turn = 2 * np.pi * angle
    cos, sin = np.cos(turn), np.sin(turn)
    side = (SCALES[0] + (SCALES[1] - SCALES[0]) * scale) * size / USUAL_SIZE
    x, y = CORNERS.T
    turned = np.stack([np.outer(cos, x) - np.outer(sin, y), np.outer(sin, x) + np.outer(cos, y)], axis=1)
    corners = side[:, None, None] * turned  # [N, 2, 5]
    first, last = corners.min(axis=2), corners.max(axis=2)  # [N, 2]
    centre = values[:, 3:] * (size - (last - first)) - first  # of the square at the bend, [N, 2]
    images = np.empty((len(values), 3, size, size), np.uint8)
    chunk = max(1, CHUNK_PIXELS // size**2)
    for start in range(0, len(values), chunk):
        part = slice(start, start + chunk)
        covered = _coverage(cos[part], sin[part], side[part], centre[part], size)
        shade = covered[:, None] * _colours(hue[part])[:, :, None, None]
        images[part] = np.rint(shade, out=shade)
    return images


def _coverage(cos: np.ndarray, sin: np.ndarray, side: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """The part of each pixel that lies inside the J, float32 [N, S, S]."""
    x, y = (np.arange(size) + 0.5 - centre[:, axis, None] for axis in (0, 1))  # of pixel centres, [N, S]
    cos, sin = cos[:, None], sin[:, None]
    u, v = (  # the same along the axes of the piece, [N, S, S]
        along_x.astype(np.float32)[:, None, :] + along_y.astype(np.float32)[:, :, None]
        for along_x, along_y in ((x * cos, y * sin), (-x * sin, y * cos))
    )
    one = side.astype(np.float32)[:, None, None]

    def inside(position: np.ndarray, half_width: np.ndarray) -> np.ndarray:
        distance = np.abs(position)
        return np.clip(np.subtract(half_width + np.float32(0.5), distance, out=distance), 0, 1, out=distance)

    bar = inside(u, one / 2) * inside(v + one, 1.5 * one)
    leg = inside(u + one / 2, one) * inside(v, one / 2)
    return np.maximum(bar, leg, out=bar)


def _colours(hue: np.ndarray) -> np.ndarray:
    """Red, green and blue from 0 to 255 of hues given in [0, 1), float32 [N, 3]: HSV with S = V = 1."""
    sixths = 6 * LARGEST_HUE * hue
    rgb = np.stack([np.abs(sixths - 3) - 1, 2 - np.abs(sixths - 2), 2 - np.abs(sixths - 4)], axis=1)
    return (255 * rgb.clip(0, 1)).astype(np.float32)


def generate(bins: Bins, size: int = USUAL_SIZE, seed: int = 0) -> np.ndarray:
    """All images of these bins, drawn now: uint8 [N, 3, S, S]."""
    return render(factors(bins, seed), size)


def cached(bins: Bins, size: int, folder: Path, seed: int = 0) -> np.ndarray:
    """The same as ``generate``, read from a file in ``folder``, which is written where it is absent or damaged.

    The file is named by everything that its images depend on, and appears whole or not at all. Where none can be
    written, the images are drawn each time.

    Returns:
        uint8 [N, 3, S, S], read-only, since splits share it.

    Raises:
        SpecError: the size is too small.
    """
    name = f"{'x'.join(map(str, bins.counts))}-{size}px-seed{seed}-v{RENDERING_VERSION}"
    path = folder / f"{name}.npz"
    images = _read(path, (bins.images, 3, size, size))
    if images is None:
        images = generate(bins, size, seed)
        with contextlib.suppress(OSError):
            _write(path, images)
    images.setflags(write=False)
    return images


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The images of a file; None where it is absent, or not what was written."""
    if not os.path.isfile(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            images, digest = file["images"], str(file["digest"])
    except Exception:  # a damaged archive can fail in any way
        images, digest = np.empty(0, np.uint8), ""
    if images.shape == shape and images.dtype == np.uint8 and _digest(path.name, images) == digest:
        return images
    warnings.warn(f"{path} is damaged or cannot be read; its images are drawn again", stacklevel=3)
    return None


def _write(path: Path, images: np.ndarray) -> None:
    """Makes the file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, images=images, digest=np.array(_digest(path.name, images)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _digest(name: str, images: np.ndarray) -> str:
    """SHA-256 of a file's name and bytes, so that a renamed file is not taken for another."""
    digest = hashlib.sha256(name.encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()
