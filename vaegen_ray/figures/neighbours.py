"""How far test images are from their nearest training images, and what becomes of one that is far (bozkurt2021,
Section 4.4): the images of Figure 3, and the distances in which its splits differ.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from vaegen_ray.figures import style
from vaegen_ray.figures.over_beta import PLACE, SPLITS, in_order, place_name

ORIGINAL, NEIGHBOUR, RECONSTRUCTION = "hard_original", "hard_neighbour", "hard_reconstruction"
"""Quantities of the details: a test image that is far from all training images, the nearest of these, and what a VAE
makes of the former; intensities in [0, 1], channels, height, width flattened."""
PERCENTILES = "neighbour_distance"
"""Quantity of the details: distances that 0, 1, ... 100 percent of the test images do not exceed."""

Image = NDArray[np.float64]
"""(H, W, 3), intensities in [0, 1]."""
CELL = 0.37
"""Width of an image with the gap beside it, in inches: room for the name below."""
NAMES = 0.22
"""Height of the names below the images, in inches."""
GAP = 0.06
"""Between two images, as a part of one."""
SPLIT_LINES = dict(zip(SPLITS, ("-", (0, (4, 2)), (0, (1, 1.5))), strict=True))


def hard_images(rows: pd.DataFrame, details: pd.DataFrame, betas: Sequence[float]) -> dict[str, Image]:
    """Names and images of a strip: the hard test image, its neighbour, and its reconstructions by beta.

    Args:
        rows: the trials of one curve; their lowest seed with reconstructions stands for all.
        details: ``trial_id, quantity, item, values``.
        betas: whose reconstructions are shown, as far as there are any.

    Returns:
        Nothing without reconstructions.
    """
    if details.empty:
        return {}
    mine = details.merge(rows[["trial_id", "seed", "beta", "image_shape"]], on="trial_id").sort_values("beta")
    wanted = (mine["quantity"] == RECONSTRUCTION) & mine["beta"].isin(list(betas))
    seed = mine["seed"] == mine.loc[wanted, "seed"].min()
    made: dict[str, Image] = {}
    for quantity, name in ((ORIGINAL, "test"), (NEIGHBOUR, "train")):
        for row in mine[seed & (mine["quantity"] == quantity)].head(1).to_dict("records"):
            made[name] = _image(row["values"], row["image_shape"])
    for row in mine[seed & wanted].to_dict("records"):
        made[f"{row['beta']:g}"] = _image(row["values"], row["image_shape"])
    return made


def _image(values: Sequence[float], shape: str) -> Image:
    channels, height, width = json.loads(shape)
    image: Image = np.moveaxis(np.reshape(np.asarray(values, dtype=float), (channels, height, width)), 0, 2).clip(0, 1)
    return np.broadcast_to(image, (height, width, 3))


def draw_strip(axes: Axes, images: Mapping[str, Image], width: float) -> Axes:
    """Draw ``images`` in a row between a panel and its title, each with its name below; returns the axes of the row.

    Args:
        axes: the panel, with its title.
        images: names and images of one size.
        width: of the row at most, in inches.
    """
    count, (high, wide) = len(images), next(iter(images.values())).shape[:2]
    size = min(width / count, CELL)
    height = size * high / wide
    # Inches from the upper left corner, and the title keeps the room free: the layout does not see the images.
    inches = axes.figure.dpi_scale_trans + ScaledTranslation(0, 1, axes.transAxes)  # type: ignore[arg-type]
    strip = axes.inset_axes((0, NAMES, size * count, height), transform=inches)
    strip.set_in_layout(False)
    axes.set_title(axes.get_title(), y=1, pad=72 * (NAMES + height) + 4, **style.words(style.TICK_SIZE))
    for i, image in enumerate(images.values()):
        left = i * (1 + GAP)
        strip.imshow(image, extent=(left, left + 1, 0, high / wide), interpolation="nearest", aspect="auto")
    strip.set(xlim=(0, count * (1 + GAP) - GAP), ylim=(0, high / wide))
    strip.set_xticks([i * (1 + GAP) + 0.5 for i in range(count)], list(images))
    strip.tick_params(length=0, pad=1.5, labelsize=style.SMALL_SIZE, labelfontfamily=style.FONT, labelcolor=style.INK)
    strip.set_yticks([])
    strip.spines[:].set_visible(False)
    return strip


def distances(rows: pd.DataFrame, details: pd.DataFrame, left_out: str) -> Figure | None:
    """The part of test images whose nearest training image is no farther, over the distance; a panel a data set.

    Args:
        rows: trials of any method; the distances depend on the images alone, so any trial stands for its place.
        details: ``trial_id, quantity, item, values``.
        left_out: a footnote.

    Returns:
        None, where nobody measured them.
    """
    found = details[details["quantity"] == PERCENTILES] if not details.empty else details
    if found.empty or (mine := found.merge(rows[["trial_id", *PLACE]], on="trial_id")).empty:
        return None
    places = in_order(mine.drop_duplicates(list(PLACE)), PLACE)
    names = sorted({place[0] for place in places})
    colours = size_colours(set(mine["n_train"]))
    figure, panels = style.new_figure(height=3.9, panels=len(names))
    for i, (axes, dataset) in enumerate(zip(panels, names, strict=True)):
        for (of, split, n_train), frame in places.items():
            if of == dataset:
                values = np.asarray(frame["values"].iloc[0], dtype=float)
                look = {"color": colours[n_train], "linestyle": SPLIT_LINES[split], "gid": f"{split} {n_train}"}
                axes.plot(values, np.linspace(0, 1, len(values)), linewidth=1.8, **look)
        axes.set(xlim=(0, None), ylim=(0, 1.01))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_title(dataset, **style.words(style.TICK_SIZE))
        style.name_axes(axes, "Distance to the nearest training image", "" if i else "Test images that are no farther")
    facts = "Euclidean norm of intensities: 1 is a pixel of one colour that goes from black to white"
    style.head(figure, "How far test images are from their nearest training images", facts)
    handles = [
        style.handle(place_name(split, n_train), colours[n_train], linestyle=SPLIT_LINES[split])
        for split, n_train in in_order(mine, PLACE[1:])
    ]
    style.legend_below_head(figure, handles)
    style.foot(figure, left_out)
    style.settle(figure)
    return figure


def size_colours(sizes: set[int]) -> dict[int, Any]:
    """A colour a size of the training set, from dark to light as it grows."""
    shades = np.linspace(0, 0.85, len(sizes)) if len(sizes) != 1 else np.array([0.3])
    return {size: colormaps["viridis"](shade) for size, shade in zip(sorted(sizes), shades, strict=True)}
