"""Double descent along two axes of complexity (xiao2024, Section 5.7, Figure 8).

Along a path on which nc grows, then mz, then nc again (``path``), the negative test ELBO goes down, up and down again,
though along neither axis alone does it descend twice.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from vaegen_ray.figures import complexity, style
from vaegen_ray.figures.labels import place_labels
from vaegen_ray.figures.path import path_order, path_runs
from vaegen_ray.figures.rows import facts, footnote, require_alike, usable

AXIS_COLOURS = {"nc": style.OKABE_ITO["sky_blue"], "mz": style.OKABE_ITO["vermillion"]}
"""Colour of a stretch of the path by the axis that grows along it."""
AXIS_NAMES = {"nc": r"$n_c$ grows, $m_z$ fixed ($\Theta_{\neg z}$)", "mz": r"$m_z$ grows, $n_c$ fixed ($\Theta_z$)"}
WIDE_RANGE = 50
"""Parameters are drawn on a log axis where the largest count is more than this many times the smallest."""


def draw(rows: pd.DataFrame) -> dict[str, Figure]:
    """Figure 8 as ``double_descent``, and Figure 7 as ``complexity_axes`` beside it.

    Args:
        rows: as for ``complexity.draw``, and with ``params_total``.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, or the rows mix experiments.
    """
    beside = complexity.draw(rows)
    kept, left_out = usable(rows, list(complexity.VALUES), (*complexity.KEYS, "params_total"))
    note = require_alike(kept, ("method",), ("nc", "mz"))
    return {"double_descent": _double_descent(kept, footnote(note, left_out)), **beside}


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
