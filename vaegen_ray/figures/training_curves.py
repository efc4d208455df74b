"""ELBO over the course of the training, a colour a method (xiao2024, Figures 5 and 14)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaegen_ray.figures import style
from vaegen_ray.figures.over_epochs import comparable, draw_line, mean_line, outside, setting, show_late
from vaegen_ray.figures.rows import footnote
from vaegen_ray.figures.tables import HIGHEST, NEAREST, Column, methods_table
from vaegen_ray.spec.method import recipe

SOLID, DASHED = "-", (0, (3, 1.5))
LINES = {"elbo_test": ("Evaluated on $D_{test}$", SOLID), "elbo_train": ("Evaluated on $D_{train}$", DASHED)}
"""The ELBOs by column: name and line style."""

FINAL = {
    "elbo_test": Column("Test ELBO", HIGHEST),
    "elbo_train": Column("Train ELBO"),
    "generalization_gap": Column("Generalization gap", NEAREST),
}
"""The columns of the table."""


def draw(last: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Figure | str]:
    """The curves as ``training_curves``, and what they end with as the table ``final_elbos``.

    Args:
        last: a row a trial at its last evaluation, with the columns that ``comparable`` names. ELBOs in nats an image.
            Trials that failed or have no finite ELBO are left out, and counted in a footnote.
        curves: a row a trial and evaluation.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, or the rows mix experiments.
    """
    kept, kept_curves, left_out = comparable(last, curves, "method")
    return {
        "training_curves": elbo_figure(kept, kept_curves, LINES, "ELBO over the course of the training", left_out),
        "final_elbos": methods_table(kept, FINAL, left_out),
    }


def elbo_figure(
    rows: pd.DataFrame, curves: pd.DataFrame, values: Mapping[str, tuple[str, Any]], title: str, *notes: str
) -> Figure:
    """One panel with a line a method and ELBO, and dotted lines where methods turn.

    Args:
        rows, curves: of ``comparable``.
        values: the ELBOs by column: name and line style.
        title, notes: above and below the panel.
    """
    figure, (axes,) = style.new_figure(height=4.6)
    methods, epochs = style.methods_in(rows), int(rows["epochs"].iloc[0])
    for method in methods:
        for value, (_, dashes) in values.items():
            points = mean_line(curves[curves["method"] == method], value)
            draw_line(axes, points, style.method_colour(method), dashes, f"{method} {value}")
    cut = show_late(axes, curves, values)
    axes.set_xlim(-0.02 * epochs, 1.02 * epochs)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _mark_turns(axes, methods, epochs)
    style.name_axes(axes, "Effective epoch", "ELBO (nats an image)")
    style.head(figure, title, setting(rows, "method"))
    handles = [style.handle(style.method_name(method), style.method_colour(method)) for method in methods]
    handles += [style.handle(name, style.FAINT, linestyle=dashes) for name, dashes in values.values()]
    style.legend_below_head(figure, handles)
    style.foot(figure, footnote(outside(curves) if cut else "", *notes))
    style.settle(figure)
    return figure


def _mark_turns(axes: Axes, methods: list[str], epochs: int) -> None:
    """A dotted line where the decoder is frozen (``rha``), and one where the noise has faded (``mollify``)."""
    turns: dict[float, list[str]] = {}
    if any(recipe(method).reverse_half_asleep for method in methods):
        turns.setdefault(epochs // 2, []).append("RHA: decoder frozen")
    if any(recipe(method).mollify for method in methods):
        turns.setdefault(epochs / 2, []).append("Aug.Mollify: noise has faded")
    where: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
    for line, (epoch, words) in enumerate(turns.items()):
        axes.axvline(epoch, color=style.FAINT, linewidth=1, linestyle=":", zorder=1.5, gid="turn")
        at = {"xycoords": ("data", "axes fraction"), **where}
        axes.annotate(
            "; ".join(words), (epoch, 1), (0, 3 + 10 * line), **at, **style.words(style.SMALL_SIZE, style.FAINT)
        )
