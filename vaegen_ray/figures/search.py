"""An adaptive search: how it went, what mattered, where the good points lie, and the ELBO against the size."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from vaegen_ray.analysis.pareto import (
    POINT_COLUMNS,
    compute_importances,
    find_pareto_front,
    find_points,
    find_searched_columns,
)
from vaegen_ray.figures import style
from vaegen_ray.figures.rows import require_alike, usable

NAMES = {
    "nc": r"$n_c$",
    "mz": r"$m_z$",
    "beta": r"$\beta$",
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "hidden_layers": "hidden layers",
    "method": "augmentation",
    "augment_probability": "probability of a transform",
    "augment_strength": "strength of transforms",
}
"""Columns as the axes call them."""
LOGARITHMIC = ("nc", "mz", "beta", "learning_rate", "batch_size")
SAME = ("dataset", "n_train", "validation", "architecture", "levels", "likelihood", "epochs", "precision")
"""Columns that all trials of a search share."""
VALUE = "Validation ELBO (nats an image)"
LISTED = 10
"""Points of the table."""
SHOWN_BELOW = 3.0
"""Points whose ELBO lies farther below the median than this many times the median lies below the best stand at the
lower edge, so that the best ones can be told apart."""


def draw(rows: pd.DataFrame, pruned: pd.DataFrame | None = None) -> "dict[str, Figure | str]":
    """The picture ``search`` and the table ``search_table``, of the points all of whose seeds are completed.

    Args:
        rows: a row a completed trial of one search.
        pruned: a row a trial that was pruned.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, or the rows mix searches.
    """
    rows, left_out = usable(rows, ("elbo_validation", "elbo_test"), (*SAME, "params_total", *POINT_COLUMNS))
    require_alike(rows, POINT_COLUMNS, (), SAME)
    points = find_points(rows)
    seeds = int(points["seeds"].max())
    if parts := int((points["seeds"] < seeds).sum()):  # a seed failed, or is still to come: no mean to compare
        points = points[points["seeds"] == seeds].reset_index(drop=True)
        left_out = "; ".join(filter(None, (left_out, f"Left out: points without {seeds} completed seeds, {parts}")))
    halted = find_points(pruned) if pruned is not None and len(pruned) else points.iloc[:0]
    weights = compute_importances(points)
    figure, panels = style.new_figure(height=6.2, panels=2, rows=2)
    _history(panels[0], points, halted)
    _importances(panels[1], weights)
    _best_two(figure, panels[2], points, list(weights) or find_searched_columns(points))
    _front(panels[3], points)
    first = rows.iloc[0]
    style.head(
        figure,
        "Adaptive search for the ELBO on images that no trial is trained on",
        f"{first['dataset']}, {first['n_train']:,} training images, {first['validation']:,} of them for validation, "
        f"{first['epochs']:,} epochs; a point is the mean of {seeds} seed{'s' * (seeds > 1)}",
    )
    style.foot(figure, left_out)
    return {"search": figure, "search_table": _table(points)}


def _floor(values: pd.Series) -> float:
    best, middle = values.max(), values.median()
    return float(max(values.min(), middle - SHOWN_BELOW * max(best - middle, 1e-9)))


def _history(axes: Axes, points: pd.DataFrame, halted: pd.DataFrame) -> None:
    both = pd.concat([points.assign(halted=False), halted.assign(halted=True)]).sort_values("finished_at")
    number = np.arange(1, len(both) + 1)
    off = both["halted"].to_numpy(dtype=bool)
    floor = _floor(points["elbo_validation"])
    values = both["elbo_validation"].clip(lower=floor).to_numpy(dtype=float)
    best = np.maximum.accumulate(np.where(off, -np.inf, values))
    axes.plot(number[~off], values[~off], "o", color=style.OKABE_ITO["sky_blue"], markersize=3.5, gid="points")
    axes.plot(number[off], values[off], "x", color=style.FAINT, markersize=3.5, gid="pruned")
    axes.step(number, best, where="post", color=style.OKABE_ITO["blue"], linewidth=style.LINE_WIDTH, gid="best")
    handles = [style.handle("best so far", style.OKABE_ITO["blue"])]
    if off.any():
        handles.append(style.handle("pruned, at its last epoch", style.FAINT, linestyle="", marker="x"))
    style.legend(axes, handles)
    style.name_axes(axes, "Points, in the order in which they ended", VALUE)


def _importances(axes: Axes, weights: dict[str, float]) -> None:
    if not weights:
        style.nothing_yet(axes, "too few points to say what mattered")
        return
    names = list(weights)[::-1]
    axes.barh(range(len(names)), [weights[name] for name in names], color=style.OKABE_ITO["blue"], height=0.6)
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.grid(False, axis="y")
    style.name_axes(axes, "Part of the differences", "")


def _best_two(figure: Figure, axes: Axes, points: pd.DataFrame, columns: list[str]) -> None:
    """All points over the two columns that mattered most, the best ones on top."""
    if len(columns) < 2:
        style.nothing_yet(axes, "one dimension was searched")
        return
    ordered = points.sort_values("elbo_validation")
    x, y = columns[:2]
    low = _floor(points["elbo_validation"])
    spots = axes.scatter(
        ordered[x], ordered[y], c=ordered["elbo_validation"].clip(lower=low), cmap="viridis", s=22, edgecolors="white",
        linewidths=0.4, zorder=3,
    )  # fmt: skip
    axes.plot(ordered[x].iloc[-1:], ordered[y].iloc[-1:], "o", markersize=11, markerfacecolor="none",
              markeredgecolor=style.OKABE_ITO["vermillion"], markeredgewidth=1.5, gid="best point")  # fmt: skip
    for name, set_scale, axis in ((x, axes.set_xscale, axes.xaxis), (y, axes.set_yscale, axes.yaxis)):
        if name in LOGARITHMIC and points[name].min() > 0:
            set_scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    style.name_axes(axes, NAMES[x], NAMES[y])
    bar = figure.colorbar(spots, ax=axes)
    bar.ax.tick_params(labelsize=style.TICK_SIZE, labelfontfamily=style.FONT, labelcolor=style.INK)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _front(axes: Axes, points: pd.DataFrame) -> None:
    best = points[find_pareto_front(points)].sort_values("params_total")
    values = points["elbo_validation"].clip(lower=_floor(points["elbo_validation"]))
    axes.plot(points["params_total"], values, "o", color=style.OKABE_ITO["sky_blue"], markersize=3.5)
    axes.plot(best["params_total"], best["elbo_validation"], "o-", color=style.OKABE_ITO["vermillion"],
              linewidth=style.LINE_WIDTH, markersize=4.5, drawstyle="steps-post", gid="front")  # fmt: skip
    axes.set_ylim(bottom=values.min() - 0.05 * (values.max() - values.min()) - 1e-9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    style.legend(axes, [style.handle("Pareto front", style.OKABE_ITO["vermillion"])], loc="lower right")
    style.name_axes(axes, r"Number of parameters $|\Theta|$", VALUE)


def _table(points: pd.DataFrame) -> str:
    """The best points on validation, and those of the front, as Markdown."""
    columns = find_searched_columns(points)
    on_front = find_pareto_front(points)
    ranked = points.assign(front=on_front).sort_values("elbo_validation", ascending=False)
    chosen = ranked[(np.arange(len(ranked)) < LISTED) | ranked["front"]]
    heading = ["validation ELBO", "test ELBO", "parameters", "front", *columns]
    rows = []
    for row in chosen.to_dict("records"):
        values = [str(row[name]) if name == "method" else f"{row[name]:g}" for name in columns]
        elbos = [f"{row['elbo_validation']:.2f}", f"{row['elbo_test']:.2f}"]
        rows.append([*elbos, f"{row['params_total']:,}", "yes" if row["front"] else "", *values])
    return style.markdown(heading, rows)
