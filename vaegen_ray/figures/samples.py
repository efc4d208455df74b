"""Images in a grid: samples of a diffusion model or a VAE, or real ones to hold against them."""

import math

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaegen_ray.errors import SpecError
from vaegen_ray.figures import style

MOST_IMAGES = 100
CELL = 1.2
"""Largest width of an image, in inches."""
MARGIN, HEAD = 22, 120
"""Pixels of a PNG around the grid (as far as the title stands from the edge), and above it for the title."""


def draw(images: NDArray[np.uint8], levels: int, *, title: str, facts: str = "") -> Figure:
    """The first 100 of ``images`` in a grid about as wide as high, row by row, one pixel apart.

    Args:
        images: (N, C, H, W) uint8, C = 1 for grey and 3 for red, green and blue, values 0 .. levels - 1.
        levels: the intensity of a pixel is its value / (levels - 1).
        title: what the images are.
        facts: a smaller line below the title: how they were made.

    Raises:
        SpecError: the images have another type, shape or range, or levels is not a whole number from 2 to 256.
    """
    _check(images, levels)
    grid = _grid(images[:MOST_IMAGES] / (levels - 1))
    high, wide = grid.shape[:2]
    room = round(min(style.WIDTH * style.DPI - 2 * MARGIN, CELL * style.DPI * wide / images.shape[3]))
    scale = room // wide if room >= wide else room / wide  # whole, so that all pixels are equally large
    height = round(high * scale) + HEAD + MARGIN

    figure, (axes,) = style.new_figure(height=height / style.DPI)
    figure.set_layout_engine("none")
    pixels = style.WIDTH * style.DPI
    axes.set_position((MARGIN / pixels, MARGIN / height, wide * scale / pixels, high * scale / height))
    axes.set_axis_off()
    axes.imshow(grid, interpolation="nearest", aspect="auto")
    style.head(figure, title, facts)
    return figure


def _check(images: NDArray[np.uint8], levels: int) -> None:
    if type(levels) is not int or not 2 <= levels <= 256:
        raise SpecError(f"levels must be a whole number from 2 to 256; got {levels!r}")
    if not isinstance(images, np.ndarray):
        raise SpecError(f"images must be a NumPy array of uint8, (N, C, H, W); got {type(images).__name__}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise SpecError(
            f"images must be uint8 of shape (N >= 1, 1 or 3 channels, H, W); got {images.dtype} of {images.shape}"
        )
    if images.max() >= levels:
        raise SpecError(f"images must have values from 0 to levels - 1, {levels - 1}; got {images.max()}")


def _grid(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """One picture (rows * (H + 1) - 1, columns * (W + 1) - 1, 3) of ``images`` (N, C, H, W), on a pale ground."""
    count, _, high, wide = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.empty((rows * (high + 1) - 1, columns * (wide + 1) - 1, 3))
    grid[:] = to_rgb(style.GRID)
    for i, image in enumerate(images):
        top, left = i // columns * (high + 1), i % columns * (wide + 1)
        grid[top : top + high, left : left + wide] = np.moveaxis(image, 0, 2)
    return grid
