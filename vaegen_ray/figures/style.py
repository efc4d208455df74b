"""The look that all figures share, the statistics they show, and pictures as bytes.

Everything is set on the objects themselves, never through matplotlib's global settings, so that drawing leaves no trace
in the process. Lengths are inches, font sizes and line widths are points.
"""

import io
import math
import zlib
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.spec.method import method_name as method_name

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky_blue": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
"""Eight colours that people with any common colour blindness can tell apart (Okabe and Ito, 2008)."""

LINE_COLOURS = tuple(OKABE_ITO[name] for name in ("blue", "orange", "green", "vermillion", "purple", "sky_blue"))
"""Colours for the lines of one panel, in this order; yellow is too pale for a line on white."""

INK, FAINT, GRID = "#222222", "#666666", "#E6E6E6"
"""Text, secondary text, grid lines."""

FONT = "DejaVu Sans"
"""Ships with matplotlib, so that a picture does not depend on the fonts of the machine."""
TITLE_SIZE, LABEL_SIZE, TICK_SIZE, SMALL_SIZE = 10.5, 9.0, 8.0, 7.5

HEAD_HEIGHT = 40.0
"""Of title and facts, in points."""

LINE_WIDTH = 2.0

WIDTH = 7.2
"""Width of every figure."""
DPI = 200
"""Pixels an inch of a PNG: 1440 pixels wide, sharp where it is shown 720 to 1440 wide."""

METHOD_COLOURS = {
    "normal": OKABE_ITO["blue"],
    "dmaapx": OKABE_ITO["green"],
    "aug_naive": OKABE_ITO["purple"],
    "aug_tuned": OKABE_ITO["orange"],
    "rha": OKABE_ITO["sky_blue"],
    "dmaapx+rha": OKABE_ITO["vermillion"],
    "mollify": OKABE_ITO["black"],
    "dmaapx+mollify": "#882255",
    "mix": "#8C510A",
    "mix+aug_tuned": "#E6007E",
    "dmaapx+aug_tuned": "#999933",
    "more_real": "#332288",
    "early_stopping": "#888888",
}
"""The colour of a method wherever colour means the method; ``method_colour`` knows the other methods too."""
METHOD_LINES = (("-", "o"), ((0, (4, 2)), "s"), ((0, (1, 1.5)), "^"), ((0, (5, 1.5, 1, 1.5)), "D"))
"""Line style and marker of the first, second, ... method of a figure."""


def methods_in(frame: pd.DataFrame) -> list[str]:
    """The methods of ``frame``, ``normal`` first, the others in alphabetical order."""
    return sorted(frame["method"].unique(), key=lambda method: (method != "normal", method))


def mean_and_spread(frame: pd.DataFrame, by: str | Sequence[str], value: str) -> pd.DataFrame:
    """Statistics of ``value`` over the seeds: one row for each group ``by``, with mean, min, max, std and count.

    ``std`` divides by count - 1 and is NaN for a single seed.
    """
    keys = [by] if isinstance(by, str) else list(by)
    return frame.groupby(keys)[value].agg(["mean", "min", "max", "std", "count"]).reset_index()


def new_figure(height: float, panels: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure ``height`` inches high with ``rows`` rows of ``panels`` dressed panels, listed row by row."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, panels, i + 1) for i in range(rows * panels)]
    for panel in axes:
        panel.set_axisbelow(True)
        panel.grid(True, color=GRID, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(FAINT)
        panel.tick_params(which="both", labelsize=TICK_SIZE, labelfontfamily=FONT, color=FAINT, labelcolor=INK)
        panel.margins(x=0.06, y=0.09)
    return figure, axes


def words(size: float, colour: str = INK) -> dict[str, Any]:
    """Keyword arguments of a text in ``size`` points."""
    return {"fontsize": size, "fontfamily": FONT, "color": colour}


def method_colour(method: str) -> str:
    """The one colour of ``method``; outside of ``METHOD_COLOURS`` a hue that its name alone decides."""
    hue = zlib.crc32(method.encode()) / 2**32
    return METHOD_COLOURS.get(method) or to_hex(tuple(hsv_to_rgb((hue, 0.7, 0.6))))


def method_lines(methods: Sequence[str]) -> Iterable[tuple[str, tuple[Any, str]]]:
    """Pairs of a method and its (line style, marker)."""
    return zip(methods, cycle(METHOD_LINES), strict=False)


def handle(label: str, colour: str, **look: Any) -> Line2D:
    """A legend entry: a line in ``colour``."""
    return Line2D([], [], color=colour, linewidth=LINE_WIDTH, label=label, **look)


def method_handles(methods: Sequence[str]) -> list[Line2D]:
    """Legend entries for the ``methods``, in grey since colour means something else; none for normal training alone."""
    if list(methods) == ["normal"]:
        return []
    return [
        handle(method_name(method), FAINT, linestyle=dashes, marker=marker, markersize=4)
        for method, (dashes, marker) in method_lines(methods)
    ]


def legend(axes: Axes, handles: Sequence[Line2D], title: str | None = None, **place: Any) -> None:
    """A quiet legend where it hides least, or at ``place`` (as matplotlib takes it); none without handles."""
    if handles:
        font = {"family": FONT, "size": SMALL_SIZE}
        look: dict[str, Any] = {"labelcolor": INK, "edgecolor": GRID, "framealpha": 0.9, "handlelength": 3.2}
        look |= {"alignment": "left", "loc": "best", **place}
        box = axes.legend(handles=handles, prop=font, title=title, title_fontproperties=font, **look)
        box.get_frame().set_linewidth(0.6)


def legend_below_head(figure: Figure, handles: Sequence[Line2D]) -> None:
    """One legend for all panels, between the heading (``head`` comes first) and the panels, in as few rows as fit."""
    look: dict[str, Any] = {"labelcolor": INK, "frameon": False, "handlelength": 2.6, "columnspacing": 1.4}
    look |= {"prop": {"family": FONT, "size": SMALL_SIZE}, "borderaxespad": 0, "borderpad": 0}
    top = 1 - HEAD_HEIGHT / 72 / figure.get_figheight()
    for rows in range(1, len(handles) + 1):
        columns = math.ceil(len(handles) / rows)
        box = figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(8 / 72 / WIDTH, top), ncols=columns, **look
        )
        box.set_in_layout(False)
        if columns == 1 or box.get_window_extent().x1 <= 0.99 * figure.bbox.width:
            break
        box.remove()
    figure.suptitle(" \n " + "\n " * rows, fontsize=TITLE_SIZE)


def mark_spread(axes: Axes, points: pd.DataFrame, x: str, marker: str, colour: str) -> list[NDArray[np.float64]]:
    """Draw each mean as a marker and its min to max as a bar; returns the bars as polylines (2, 2) in data units.

    Args:
        points: rows of ``mean_and_spread``.
        x: the column along the horizontal axis.
    """
    axes.vlines(points[x], points["min"], points["max"], color=colour, linewidth=1, zorder=3, gid="spread")
    look: dict[str, Any] = {"color": colour, "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.5}
    axes.plot(points[x], points["mean"], marker, zorder=4, **look)
    return [np.array([[at, low], [at, high]]) for at, low, high in points[[x, "min", "max"]].to_numpy(dtype=float)]


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Write the axis labels."""
    axes.set_xlabel(x, **words(LABEL_SIZE))
    axes.set_ylabel(y, **words(LABEL_SIZE))


def nothing_yet(axes: Axes, why: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", **words(LABEL_SIZE, FAINT))


def head(figure: Figure, title: str, facts: str) -> None:
    """Write the title and, in a smaller line below it, what was measured on what, flush with the left edge."""
    # An empty heading of two lines keeps the room free; the layout ignores the texts themselves.
    figure.suptitle(" \n ", fontsize=TITLE_SIZE)
    where: dict[str, Any] = {"xycoords": "figure fraction", "textcoords": "offset points", "ha": "left", "va": "top"}
    look: dict[str, Any] = {"fontweight": "bold", **words(TITLE_SIZE)}
    figure.axes[0].annotate(title, (0, 1), (8, -8), **where, **look).set_in_layout(False)
    figure.axes[0].annotate(facts, (0, 1), (8, -24), **where, **words(SMALL_SIZE, FAINT)).set_in_layout(False)


def foot(figure: Figure, note: str) -> None:
    """Write a footnote at the lower left; an empty note leaves no gap."""
    if note:
        figure.supxlabel(note, x=0.015, ha="left", **words(SMALL_SIZE, FAINT))


def settle(figure: Figure) -> None:
    """Fix the layout, after which data coordinates have their final place in pixels."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def plus_minus(values: pd.Series, decimals: int = 2) -> str:
    """``mean ± std`` of the finite ``values`` over the seeds: no ± for one seed, a dash for none."""
    known = values[np.isfinite(values.astype(float))].astype(float)
    if known.empty:
        return "–"
    mean = f"{round(known.mean(), decimals) + 0.0:,.{decimals}f}"  # never a minus before zero
    return mean if len(known) == 1 else f"{mean} ± {known.std():,.{decimals}f}"


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column flush left, the others flush right."""
    rules = [":--", *["--:"] * (len(heading) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heading, rules, *rows))


def to_bytes(figure: Figure, kind: str) -> bytes:
    """The picture as a ``png`` or ``pdf`` file, without dates: equal figures give equal bytes.

    Raises:
        SpecError: another kind of file.
    """
    metadata: dict[str, dict[str, None]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    if kind not in metadata:
        raise SpecError(not_one_of("kind of picture", kind, metadata))
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=DPI, metadata=metadata[kind])
    return file.getvalue()
