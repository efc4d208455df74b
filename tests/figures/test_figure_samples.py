"""The grid of images: every pixel in its place with its intensity, and what it does with images it cannot show."""

import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from vaegen_ray.errors import SpecError
from vaegen_ray.figures import style
from vaegen_ray.figures.samples import MOST_IMAGES, draw

GROUND = np.array(to_rgb(style.GRID))


def images_of(count, channels=1, high=8, wide=8, levels=256):
    values = np.random.default_rng(0).integers(0, levels, (count, channels, high, wide))
    return values.astype(np.uint8)


def grid_of(figure):
    (axes,) = figure.axes
    (shown,) = axes.images
    return shown.get_array()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (12, 3, 4), (100, 10, 10)])
def test_every_image_stands_in_its_cell_with_its_intensities(channels, levels, count, rows, columns):
    images = images_of(count, channels, 4, 6, levels)
    grid = grid_of(draw(images, levels, title="samples"))
    assert grid.shape == (rows * 5 - 1, columns * 7 - 1, 3)
    for i in range(rows * columns):
        top, left = i // columns * 5, i % columns * 7
        cell = grid[top : top + 4, left : left + 6]
        expected = np.broadcast_to(np.moveaxis(images[i], 0, 2) / (levels - 1), cell.shape) if i < count else GROUND
        np.testing.assert_allclose(cell, np.broadcast_to(expected, cell.shape))
    between = np.concatenate([grid[4::5].reshape(-1, 3), grid[:, 6::7].reshape(-1, 3)])
    assert np.all(between == GROUND)


def test_only_the_first_hundred_are_shown():
    images = images_of(MOST_IMAGES + 20)
    first, all_of_them = (grid_of(draw(some, 256, title="samples")) for some in (images[:MOST_IMAGES], images))
    assert np.array_equal(first, all_of_them)


@pytest.mark.parametrize(("count", "channels", "size"), [(1, 1, 8), (7, 1, 8), (100, 3, 32), (100, 1, 28)])
def test_in_a_png_all_pixels_are_equal_squares_of_the_exact_colour(count, channels, size):
    figure = draw(images_of(count, channels, size, size), 256, title="samples", facts="500 images")
    grid, (axes,) = grid_of(figure), figure.axes
    png = matplotlib.image.imread(io.BytesIO(style.to_bytes(figure, "png")))[..., :3]
    box = axes.get_window_extent()
    left, right, top, bottom = (round(edge) for edge in (box.x0, box.x1, len(png) - box.y1, len(png) - box.y0))
    scale = (right - left) // grid.shape[1]
    assert scale > 1 and (bottom - top, right - left) == (scale * grid.shape[0], scale * grid.shape[1])
    expected = np.kron(grid, np.ones((scale, scale, 1)))
    np.testing.assert_allclose(png[top:bottom, left:right], expected, atol=1 / 255)


def test_images_too_large_for_the_page_are_shrunk_to_it():
    figure = draw(images_of(100, 3, 40, 300), 256, title="samples")
    box = figure.axes[0].get_window_extent()
    assert box.x0 > 0 and box.x1 < figure.bbox.x1 and box.width > 0.9 * figure.bbox.width
    assert box.height / box.width == pytest.approx(409 / 3009, rel=0.01)


def test_title_and_facts_stand_above_the_grid_and_are_not_clipped():
    figure = draw(images_of(9), 256, title="Samples of the diffusion model", facts="digits, 18 steps")
    figure.canvas.draw()
    texts = {text.get_text(): text for text in figure.findobj(Text)}
    for words in ("Samples of the diffusion model", "digits, 18 steps"):
        box = texts[words].get_window_extent(figure.canvas.get_renderer())
        assert box.y0 > figure.axes[0].get_window_extent().y1
        assert figure.bbox.contains(*box.min) and figure.bbox.contains(*box.max)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (images_of(4).astype(np.float32), r"images must be uint8 of shape .*; got float32 of \(4, 1, 8, 8\)"),
        (images_of(4)[:, 0], r"1 or 3 channels, H, W\); got uint8 of \(4, 8, 8\)"),
        (images_of(4, 2), r"1 or 3 channels, H, W\); got uint8 of \(4, 2, 8, 8\)"),
        (images_of(0), r"N >= 1.*; got uint8 of \(0, 1, 8, 8\)"),
        ([[0]], "images must be a NumPy array of uint8.*; got list"),
        (np.full((2, 1, 8, 8), 17, np.uint8), "images must have values from 0 to levels - 1, 16; got 17"),
    ],
)
def test_images_that_cannot_be_shown_are_refused(images, message):
    with pytest.raises(SpecError, match=message):
        draw(images, 17, title="samples")


@pytest.mark.parametrize("levels", [1, 257, 2.0, True, None])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(SpecError, match=f"levels must be a whole number from 2 to 256; got {levels}"):
        draw(images_of(4, levels=2), levels, title="samples")


def test_equal_images_give_equal_bytes():
    first, again, other = (draw(images_of(n), 256, title="samples") for n in (9, 9, 8))
    assert style.to_bytes(first, "png") == style.to_bytes(again, "png") != style.to_bytes(other, "png")
