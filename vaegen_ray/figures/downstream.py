"""What trained VAEs are good for: classes told from codes, reconstructions, samples (xiao2024, Appendices F and G).

Figure 4 (left) and Figure 19 are the accuracies of classifiers on codes of corrupted test images, Figure 9 is
reconstructions, Table 11 is everything on the clean test set. Letters: R rows, C columns of a grid of images.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vaegen_ray.errors import VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.by_method import (
    Measure,
    comparable,
    find_column,
    first_seeds,
    number,
    seed_words,
    seeds_in,
    select_details,
    table,
    trained,
)

CLASSIFIERS = {"logistic_regression": "LR", "svm_linear": "SVM-L", "svm_rbf": "SVM-RBF", "knn": "kNN"}
"""In the order of Figure 4, with its names."""
OVERALL = "overall"
"""Stands for a corruption: every image under one of them, chosen at random."""
MEASURES = {
    "accuracy_logistic_regression": Measure("log. reg.", 3),
    "accuracy_svm_rbf": Measure("SVM-RBF", 3),
    "accuracy_svm_linear": Measure("SVM-L", 3),
    "accuracy_knn": Measure("kNN", 3),
    "psnr_test": Measure("PSNR (dB)", 2),
    "fid": Measure("FID", 2, up=False),
    "inception_score": Measure("IS", 3),
}
"""Table 11 by column."""

SPREAD = 0.8
"""Part of a classifier's room that its methods fill together."""
GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, whole parts left out, are spread evenly however many there are: the sideways places of points."""
COLUMNS = 4
"""Panels side by side, as in Figure 19."""
PANEL_HEIGHT = 1.3

MOST_IMAGES = 12
LABEL_ROOM, MARGIN, HEAD, CELL = 230, 22, 120, 160
"""Pixels of a PNG: left of the reconstructions for the names of their rows, around them, above them for the title, and
the widest that an image may be."""


def draw(last: pd.DataFrame, details: pd.DataFrame) -> dict[str, Figure | str]:
    """Figure 4 left (``representation``), 19 (``corruptions``), 9 (``reconstructions``), Table 11 (``downstream``).

    What was not measured is left out.

    Args:
        last: a row a completed trial, with the columns of ``ONE_EXPERIMENT``, ``trial_id, method, seed, status,
            elbo_test`` and those of ``MEASURES`` that were measured; one trial a method and seed.
        details: ``trial_id, quantity, item, values``: ``accuracy`` of ``<corruption>/<classifier>``, ``original`` and
            ``reconstruction`` of ``image-<i>`` (intensities in [0, 1], channels, height, width flattened).

    Raises:
        VaegenError: no completed trial with a finite ELBO, or nothing of all this was measured.
        SpecError: a column is missing, or the rows mix experiments.
    """
    rows, left_out = comparable(last)
    accuracies = _accuracies(rows, details)
    made: dict[str, Figure | str] = {}
    gains = _gains(accuracies)
    if not gains.empty:
        made["representation"] = _representation(rows, gains, left_out)
    if not accuracies.empty:
        made["corruptions"] = _corruptions(rows, accuracies, left_out)
    pictures = select_details(rows, details, ("original", "reconstruction"))
    if not pictures.empty:
        made["reconstructions"] = _reconstructions(rows, pictures)
    if any(np.isfinite(find_column(rows, name)).any() for name in MEASURES):
        made["downstream"] = table(rows, MEASURES, left_out)
    if not made:
        wanted = "representation, reconstruction or sample quality"
        raise VaegenError(f"this figure needs trials with {wanted} measured; got {len(rows)} trials without")
    return made


def _accuracies(rows: pd.DataFrame, details: pd.DataFrame) -> pd.DataFrame:
    """``method, seed, corruption, classifier, accuracy``, finite ones alone."""
    mine = select_details(rows, details, ("accuracy",))
    names = [item.rpartition("/") for item in mine["item"]]
    accuracy = np.array([values[0] for values in mine["values"]], dtype=float)
    mine = mine.assign(
        corruption=[name[0] for name in names], classifier=[name[2] for name in names], accuracy=accuracy
    )
    return mine[np.isfinite(accuracy)]


def _gains(accuracies: pd.DataFrame) -> pd.DataFrame:
    """``gain``: accuracy minus that of normal training with the same seed, corruption and classifier."""
    single = accuracies[accuracies["corruption"] != OVERALL]
    keys = ["seed", "corruption", "classifier"]
    normal = single[single["method"] == "normal"][[*keys, "accuracy"]]
    others = single[single["method"] != "normal"].merge(normal, on=keys, suffixes=("", "_normal"))
    return others.assign(gain=others["accuracy"] - others["accuracy_normal"]).sort_values(["method", *keys])


def _representation(rows: pd.DataFrame, gains: pd.DataFrame, left_out: str) -> Figure:
    """Figure 4 left: a strip of points a classifier and method, a point a corruption and seed, their mean as a line."""
    figure, (axes,) = style.new_figure(height=4.0)
    methods = style.methods_in(gains)
    axes.axhline(0, color=style.INK, linewidth=0.9, zorder=1.5)
    for centre, classifier in enumerate(CLASSIFIERS):
        for method, (middle, width) in _shares(methods, centre).items():
            strip = gains[(gains["classifier"] == classifier) & (gains["method"] == method)]["gain"]
            if strip.empty:
                continue
            aside = middle + 0.7 * width * (np.arange(1, len(strip) + 1) * GOLDEN % 1 - 0.5)
            colour, gid = style.method_colour(method), f"{method} {classifier}"
            axes.plot(aside, strip, "o", color=colour, markersize=3, alpha=0.55, markeredgewidth=0, gid=gid)
            ends = (middle - 0.45 * width, middle + 0.45 * width)
            axes.hlines(strip.mean(), *ends, color=style.INK, linewidth=2, zorder=4, gid=f"{gid} mean")
    axes.set_xlim(-0.5, len(CLASSIFIERS) - 0.5)
    axes.set_xticks(range(len(CLASSIFIERS)), list(CLASSIFIERS.values()))
    axes.grid(False, axis="x")
    style.name_axes(axes, "Classifier", "Improvement in accuracy\nover normal training")
    corruptions = gains["corruption"].nunique()
    points = f"a point a corruption ({corruptions}) and seed ({gains['seed'].nunique()}), paired"
    style.head(figure, "Classification of codes: improvement over normal training", f"{trained(rows)}; {points}")
    style.legend_below_head(figure, [*(_mark(method, "o") for method in methods), style.handle("mean", style.INK)])
    style.foot(figure, left_out)
    style.settle(figure)
    return figure


def _corruptions(rows: pd.DataFrame, accuracies: pd.DataFrame, left_out: str) -> Figure:
    """Figure 19: a panel a corruption and one for all of them, bars of mean accuracy by classifier and method."""
    names = sorted(set(accuracies["corruption"]), key=lambda name: (name == OVERALL, name))
    methods = style.methods_in(accuracies)
    columns = min(COLUMNS, len(names))
    lines = -(-len(names) // columns)
    figure, panels = style.new_figure(height=1.35 + PANEL_HEIGHT * lines, panels=columns, rows=lines)
    top = 1.06 * accuracies["accuracy"].max() or 1.0
    for i, (axes, name) in enumerate(zip(panels, names, strict=False)):
        _bars(axes, accuracies[accuracies["corruption"] == name], methods)
        axes.set(xlim=(-0.5, len(CLASSIFIERS) - 0.5), ylim=(0, top))
        below = i + columns >= len(names)
        labels = [label.replace("-", "\n") for label in CLASSIFIERS.values()] if below else []
        axes.set_xticks(range(len(CLASSIFIERS)), labels or [""] * len(CLASSIFIERS))
        axes.tick_params(axis="x", length=0, labelsize=style.SMALL_SIZE - 1)
        axes.tick_params(axis="y", labelleft=i % columns == 0)
        axes.grid(False, axis="x")
        weight = "bold" if name == OVERALL else "normal"
        axes.set_title(name.replace("_", " "), fontweight=weight, pad=3, **style.words(style.SMALL_SIZE + 0.5))
        if i % columns == 0:
            axes.set_ylabel("Accuracy", **style.words(style.TICK_SIZE))
    for axes in panels[len(names) :]:
        figure.delaxes(axes)
    seeds = seeds_in(accuracies)
    spread = seeds if seeds == "1 seed" else f"mean of {seeds}, lines from lowest to highest"
    style.head(figure, "Classes told from the codes of corrupted test images", f"{trained(rows)}; {spread}")
    style.legend_below_head(figure, [_mark(method, "s") for method in methods])
    style.foot(figure, left_out)
    style.settle(figure)
    return figure


def _bars(axes: Axes, accuracies: pd.DataFrame, methods: Sequence[str]) -> None:
    """Bars of mean accuracy, grouped by classifier, with a line from lowest to highest seed."""
    points, spreads = style.mean_and_spread(accuracies, ["classifier", "method"], "accuracy"), []
    for centre, classifier in enumerate(CLASSIFIERS):
        for method, (middle, width) in _shares(methods, centre).items():
            for point in points[(points["classifier"] == classifier) & (points["method"] == method)].itertuples():
                axes.bar(middle, point.mean, width, color=style.method_colour(method), gid=f"{method} {classifier}")
                spreads.append((middle, point.min, point.max))
    axes.vlines(*np.transpose(spreads), color=style.INK, linewidth=0.9, zorder=3, gid="spread")


def _shares(methods: Sequence[str], centre: float) -> dict[str, tuple[float, float]]:
    """The room that each method has around ``centre``: its middle and its width."""
    width = SPREAD / len(methods)
    return {method: (centre + width * (i + 0.5) - SPREAD / 2, width) for i, method in enumerate(methods)}


def _reconstructions(rows: pd.DataFrame, pictures: pd.DataFrame) -> Figure:
    """Figure 9: a column an image, the originals above and below them a row a method, each of its first seed."""
    shape = tuple(json.loads(rows["image_shape"].iloc[0]))
    methods = style.methods_in(pictures)
    seeds = first_seeds(pictures)
    shown = sorted(set(pictures["item"]), key=number)[:MOST_IMAGES]
    first = pictures[pictures["seed"] == pictures["method"].map(seeds)]
    originals = first[first["quantity"] == "original"].drop_duplicates("item")
    again = first[first["quantity"] == "reconstruction"]
    lines = {"original": originals} | {method: again[again["method"] == method] for method in methods}
    grid = _grid([_images(line, shown, shape) for line in lines.values()])

    names = {method: style.method_name(method).replace(" + ", " +\n") for method in methods}
    if seeds.nunique() > 1:
        names = {method: f"{name}\n(seed {seeds[method]})" for method, name in names.items()}
    figure = _framed(grid, ["original", *names.values()], len(shown))
    what = "mean images at the means of codes"
    style.head(figure, "Reconstructions of test images", f"{trained(rows)}; {what}, {seed_words(seeds)}")
    return figure


def _images(line: pd.DataFrame, shown: Sequence[str], shape: tuple[int, ...]) -> list[NDArray[np.float64] | None]:
    """The images (C, H, W) of a row of the grid; None where one is missing."""
    by_item = dict(zip(line["item"], line["values"], strict=True))
    return [np.reshape(np.asarray(by_item[i], dtype=float), shape).clip(0, 1) if i in by_item else None for i in shown]


def _grid(lines: Sequence[Sequence[NDArray[np.float64] | None]]) -> NDArray[np.float64]:
    """One picture (R (H + 1) - 1, C (W + 1) - 1, 3) of lines of images, one pixel apart on a pale ground."""
    _, high, wide = next(image.shape for line in lines for image in line if image is not None)
    grid = np.empty((len(lines) * (high + 1) - 1, len(lines[0]) * (wide + 1) - 1, 3))
    grid[:] = to_rgb(style.GRID)
    for i, line in enumerate(lines):
        for j, image in enumerate(line):
            if image is not None:
                top, left = i * (high + 1), j * (wide + 1)
                grid[top : top + high, left : left + wide] = np.moveaxis(image, 0, 2)
    return grid


def _framed(grid: NDArray[np.float64], names: Sequence[str], columns: int) -> Figure:
    """A figure of ``grid`` with the ``names`` of its rows at the left, all pixels equally large."""
    high, wide = grid.shape[:2]
    pixels = round(style.WIDTH * style.DPI)
    room = min(pixels - LABEL_ROOM - MARGIN, CELL * columns)
    scale = room // wide if room >= wide else room / wide
    height = round(high * scale) + HEAD + MARGIN
    figure, (axes,) = style.new_figure(height=height / style.DPI)
    figure.set_layout_engine("none")
    axes.set_position((LABEL_ROOM / pixels, MARGIN / height, wide * scale / pixels, high * scale / height))
    axes.imshow(grid, interpolation="nearest", aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    step = (high + 1) / len(names)
    axes.set_xticks([])
    axes.set_yticks([step * (i + 0.5) - 1 for i in range(len(names))], names)
    axes.tick_params(axis="y", length=0)
    return figure


def _mark(method: str, marker: str) -> Line2D:
    """A legend entry: a ``marker`` in the colour of a method."""
    look: dict[str, Any] = {"marker": marker, "linestyle": "none", "markersize": 5.5}
    return Line2D([], [], label=style.method_name(method), color=style.method_colour(method), **look)
