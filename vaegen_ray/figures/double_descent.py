"""Double descent along two axes of complexity (xiao2024, Section 5.7, Figure 8, and Sections 5.5 and 5.6, Figure 7).

The path of Figure 8: nc grows at the smallest mz, then mz grows at that nc, then nc grows at the largest mz. The
negative test ELBO along it goes down, up and down again, though along neither axis alone does it descend twice.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from vaegen_ray.figures import style
from vaegen_ray.figures.labels import place_labels
from vaegen_ray.figures.rows import facts, require_one, require_one_stream, usable

AXIS_COLOURS = {"nc": style.OKABE_ITO["sky_blue"], "mz": style.OKABE_ITO["vermillion"]}
"""Colour of a stretch of the path by the axis that grows along it."""
AXIS_NAMES = {"nc": r"$n_c$ grows, $m_z$ fixed ($\Theta_{\neg z}$)", "mz": r"$m_z$ grows, $n_c$ fixed ($\Theta_z$)"}
WIDE_RANGE = 50
"""Parameters are drawn on a log axis where the largest count is more than this many times the smallest."""

SYMBOLS = {"nc": "$n_c$", "mz": "$m_z$"}
VALUES = {"elbo_test": "Test ELBO", "generalization_gap": "Generalization gap"}
ONE_EXPERIMENT = ("dataset", "architecture", "likelihood", "n_train", "epochs")
"""What all rows of one figure must share."""


def draw(rows: pd.DataFrame) -> dict[str, Figure]:
    """Figure 8 as ``double_descent`` and Figure 7 as ``complexity_axes``.

    Args:
        rows: one row a finished trial at its last evaluation, with ``dataset, architecture, likelihood, method, nc, mz,
            params_total, status, elbo_test, generalization_gap, epochs, n_train``. ELBO and gap in nats an image.
            Trials that failed or have no finite ELBO are left out, and counted in a footnote.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, or the rows mix experiments.
    """
    kept, left_out = usable(rows, list(VALUES), (*ONE_EXPERIMENT, "method", "nc", "mz", "params_total"))
    require_one(kept, ONE_EXPERIMENT)
    require_one_stream(kept)
    return {"double_descent": _double_descent(kept, left_out), "complexity_axes": _complexity_axes(kept, left_out)}


def path_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``frame`` that lie on the path of Figure 8, in the order of the path.

    The path is read from the points (nc, mz) that are there. It turns at the nc with the most values of mz; among
    equals (a full grid, say) at the largest that leaves a larger nc for the last stretch. Points of a grid off the
    path are dropped. Rows with the same point keep their order.
    """
    points = frame[["nc", "mz"]].drop_duplicates()
    low, high = points["mz"].min(), points["mz"].max()
    heights = points[points["mz"] > low].groupby("nc").size()
    if heights.empty:
        return frame.sort_values("nc", kind="stable").reset_index(drop=True)
    turns = heights.index[heights == heights.max()]
    last = points.loc[points["mz"] == high, "nc"].max()
    turn = max(turns[turns < last], default=turns.max())

    first = (frame["mz"] == low) & (frame["nc"] <= turn)
    second = (frame["mz"] > low) & (frame["nc"] == turn)
    third = (frame["mz"] == high) & (frame["nc"] > turn)
    return frame[first | second | third].sort_values(["mz", "nc"], kind="stable").reset_index(drop=True)


def path_runs(points: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Cut an ordered path, one row a point, into stretches along which one axis grows: (``nc`` or ``mz``, its points).

    Neighbouring stretches share the point where the path turns. Where both axes change between neighbours, the point
    between them is still missing, and nothing links them.
    """
    runs: list[tuple[str, list[int]]] = []
    for i in range(1, len(points)):
        changed = [axis for axis in ("nc", "mz") if points[axis].iloc[i] != points[axis].iloc[i - 1]]
        if len(changed) != 1:
            continue
        if runs and runs[-1][0] == changed[0] and runs[-1][1][-1] == i - 1:
            runs[-1][1].append(i)
        else:
            runs.append((changed[0], [i - 1, i]))
    return [(axis, points.iloc[places]) for axis, places in runs]


def _double_descent(rows: pd.DataFrame, left_out: str) -> Figure:
    """Figure 8: negative test ELBO against all parameters along the path, a curve a method."""
    figure, (axes,) = style.new_figure(height=4.6)
    negative = rows.assign(neg_elbo_test=-rows["elbo_test"])
    path = path_order(style.mean_and_spread(negative, ["method", "nc", "mz", "params_total"], "neg_elbo_test"))
    methods, grown, lines = style.methods_in(path), set(), []
    for method, (dashes, marker) in style.method_lines(methods):
        curve = path[path["method"] == method]
        for axis, run in path_runs(curve):
            line = run[["params_total", "mean"]].to_numpy(dtype=float)
            look = {"color": AXIS_COLOURS[axis], "linestyle": dashes, "linewidth": style.LINE_WIDTH}
            axes.plot(*line.T, **look, gid=f"{method} {axis} grows")
            grown.add(axis)
            lines.append(line)
        lines += style.mark_spread(axes, curve, "params_total", marker, style.INK)

    if path["params_total"].max() > WIDE_RANGE * path["params_total"].min():
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    handles = [style.handle(AXIS_NAMES[axis], AXIS_COLOURS[axis]) for axis in AXIS_NAMES if axis in grown]
    style.legend(axes, [*handles, *style.method_handles(methods)], r"Points are labelled ($n_c$, $m_z$)")
    style.name_axes(axes, r"Number of parameters $|\Theta|$", "Negative test ELBO (nats an image)")
    style.head(figure, "Test loss against model size, grown along two axes in turn", facts(rows, path["count"]))
    style.foot(figure, left_out)
    style.settle(figure)

    # Methods share the parameters of a point: its label stands at the first method that has it.
    ranked = path.sort_values("method", key=lambda names: names.map(methods.index), kind="stable")
    labelled = path.loc[ranked.drop_duplicates(["nc", "mz"]).index.sort_values()]
    texts = [f"({nc}, {mz})" for nc, mz in zip(labelled["nc"], labelled["mz"], strict=True)]
    place_labels(axes, labelled[["params_total", "mean"]].to_numpy(dtype=float), texts, lines)
    return figure


def _complexity_axes(rows: pd.DataFrame, left_out: str) -> Figure:
    """Figure 7: test ELBO and generalization gap, (a, b) against mz and (c, d) against nc.

    (a, b) have the nc at which the path turns, once it has two mz; (c, d) a line for each mz that has at least two nc.
    """
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
