"""Test ELBO and generalization gap along each axis of complexity alone (xiao2024, Sections 5.5 and 5.6, Figure 7)."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from vaegen_ray.figures import style
from vaegen_ray.figures.path import path_order
from vaegen_ray.figures.rows import facts, footnote, require_alike, require_one_stream, usable

SYMBOLS = {"nc": "$n_c$", "mz": "$m_z$"}
VALUES = {"elbo_test": "Test ELBO", "generalization_gap": "Generalization gap"}
ONE_EXPERIMENT = ("dataset", "architecture", "likelihood", "n_train", "epochs")
"""What all rows of one figure must share."""
KEYS = (*ONE_EXPERIMENT, "method", "nc", "mz")
"""Columns that are read beside the values."""


def draw(rows: pd.DataFrame) -> dict[str, Figure]:
    """Figure 7 as ``complexity_axes``: (a, b) against mz, (c, d) against nc.

    Args:
        rows: one row a finished trial at its last evaluation, with ``dataset, architecture, likelihood, method, nc, mz,
            status, elbo_test, generalization_gap, epochs, n_train``. ELBO and gap in nats an image. Trials that failed
            or have no finite ELBO are left out, and counted in a footnote.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, or the rows mix experiments.
    """
    kept, left_out = usable(rows, list(VALUES), KEYS)
    require_one_stream(kept)
    note = require_alike(kept, ("method",), ("nc", "mz"), ONE_EXPERIMENT)
    return {"complexity_axes": _complexity_axes(kept, footnote(note, left_out))}


def _complexity_axes(rows: pd.DataFrame, left_out: str) -> Figure:
    """(a, b) have the nc at which the path turns, once it has two mz; (c, d) a line for each mz that has two nc."""
    figure, panels = style.new_figure(height=6.6, panels=2, rows=2)
    turn = dict.fromkeys(_with_two("mz", path_order(rows), "nc"), style.INK)  # elsewhere the path has one mz an nc
    widened = dict(zip(_with_two("nc", rows, "mz"), cycle(style.LINE_COLOURS), strict=False))
    drawn = rows[rows["nc"].isin(list(turn)) | rows["mz"].isin(list(widened))]
    methods = style.methods_in(drawn)
    _grow("mz", panels[:2], drawn, turn, methods, "No $n_c$ on the path has two values of $m_z$ yet")
    _grow("nc", panels[2:], drawn, widened, methods, "No $m_z$ has two values of $n_c$ yet")
    seeds = style.mean_and_spread(rows if drawn.empty else drawn, ["method", "mz", "nc"], "elbo_test")["count"]
    title = r"Growing $\mathbf{m_z}$ or $\mathbf{n_c}$ alone: test ELBO and generalization gap"
    style.head(figure, title, facts(rows, seeds))
    style.foot(figure, left_out)
    figure.align_ylabels()
    style.settle(figure)
    return figure


def _with_two(grown: str, rows: pd.DataFrame, fixed: str) -> list[int]:
    """The values of the axis ``fixed`` that have at least two values of the axis ``grown``."""
    counts = rows.groupby(fixed)[grown].nunique()
    return counts.index[counts >= 2].tolist()


def _grow(
    grown: str, panels: Sequence[Axes], rows: pd.DataFrame, colours: Mapping[int, str], methods: list[str], nothing: str
) -> None:
    """Draw test ELBO and generalization gap against one axis, a line for each method and value of the other axis.

    A single value of the other axis is named below the panels, several in the legend.

    Args:
        grown: the axis that grows along a line, ``mz`` or ``nc``.
        panels: one for each of ``VALUES``.
        rows: at least the trials of all lines.
        colours: the fixed values of the other axis and the colours of their lines.
        methods: all methods of the figure.
        nothing: what the panels say without any line.
    """
    fixed = "nc" if grown == "mz" else "mz"
    lines = rows[rows[fixed].isin(list(colours))]
    names = {f"{SYMBOLS[fixed]} = {at}": colour for at, colour in colours.items()}
    alone = f"  ({next(iter(names))})" if len(names) == 1 else ""
    for axes, (value, name) in zip(panels, VALUES.items(), strict=True):
        points = style.mean_and_spread(lines, ["method", fixed, grown], value)
        for method, (dashes, marker) in style.method_lines(methods):
            for at, colour in colours.items():
                line = points[(points["method"] == method) & (points[fixed] == at)]
                look = {"color": colour, "linestyle": dashes, "linewidth": style.LINE_WIDTH}
                axes.plot(line[grown], line["mean"], **look, gid=f"{method} {fixed}={at}")
                style.mark_spread(axes, line, grown, marker, colour)
        style.name_axes(axes, SYMBOLS[grown] + alone, f"{name} (nats an image)")
        if colours:
            axes.set_xscale("log", base=2)
            values = sorted(lines[grown].unique())
            axes.xaxis.set_major_locator(FixedLocator(values) if grown == "mz" else LogLocator(base=2, numticks=12))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            style.nothing_yet(axes, nothing)
    if colours:
        handles = [] if alone else [style.handle(name, colour) for name, colour in names.items()]
        style.legend(panels[0], [*handles, *style.method_handles(methods)])
