"""The three gaps over the course of the training (xiao2024, Section 5.2, Figures 2, 6 and 10-13, and Table 7).

A panel a gap: a dashed line above a solid one, and their distance at the end as a bracket at the right and as a number
below, where the names of the lines are too.
"""

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaegen_ray.figures import style
from vaegen_ray.figures.over_epochs import comparable, draw_line, mean_line, outside, setting, show_late
from vaegen_ray.figures.rows import footnote
from vaegen_ray.figures.tables import HIGHEST, NEAREST, Column, methods_table
from vaegen_ray.figures.training_curves import DASHED, SOLID, elbo_figure


class Panel(NamedTuple):
    """What a panel shows: the dashed value minus the solid one is the gap."""

    title: str
    gap: str
    solid: tuple[str, str]
    """Column and name."""
    dashed: tuple[str, str]
    unit: str
    nothing: str


PANELS = (
    Panel(
        "Generalization gap",
        "generalization_gap",
        ("elbo_test", "$D_{test}$"),
        ("elbo_train", "$D_{train}$"),
        "ELBO (nats an image)",
        "",
    ),
    Panel(
        "Amortization gap",
        "amortization_gap",
        ("elbo_encoder", "encoder"),
        ("elbo_optimal", "best $q$"),
        "ELBO on $D_{test}$ (nats)",
        "No amortization gap\nwas measured",
    ),
    Panel(
        "Robustness gap",
        "robustness_gap",
        ("ms_ssim_reconstruction", "outputs"),
        ("ms_ssim_input", "inputs"),
        "MS-SSIM under attack",
        "No robustness gap\nwas measured",
    ),
)
MEASURED = (
    *("elbo_source", "amortization_gap", "elbo_optimal"),
    *("robustness_gap", "ms_ssim_input", "ms_ssim_reconstruction"),
)
"""Columns that are read beside the ELBOs of all trials."""
TABLE = {
    "generalization_gap": Column("Generalization gap", NEAREST),
    "amortization_gap": Column("Amortization gap", NEAREST),
    "robustness_gap": Column("Robustness gap (MS-SSIM)", NEAREST),
    "elbo_test": Column("Test ELBO", HIGHEST),
}
"""The columns of Table 7, and what the gaps are gaps of."""

STEP = 0.05
"""Distance of two brackets, as a part of the epochs."""
LEFT = 0.015
"""Where names begin, as a part of the width."""
LINE_HEIGHT = 12.5
"""Of a line of the numbers below the panels, in points."""
MZ_COLOURS = (*style.LINE_COLOURS, style.INK, "#882255")
"""Of the first, second, ... mz of a figure."""

SOURCE = {"elbo_test": ("Evaluated on $D_{test}$", SOLID), "elbo_source": ("On what is trained on", (0, (1, 1.5)))}
"""The ELBOs of Figure 13: name and line style."""
NO_GAP = (
    "The two ELBOs of a method belong to images of different distributions, and images of lower entropy can have "
    "higher ELBOs: their distance is no generalization gap"
)


class Lines(NamedTuple):
    """What the lines of a figure differ in."""

    by: str
    """``method`` or ``mz``."""
    names: dict[Any, str]
    colours: dict[Any, str]


def draw(last: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Figure | str]:
    """The gaps by method as ``generalization_gaps`` and as the table ``gaps``, and Figure 13 as ``elbo_source``.

    Args:
        last: a row a trial at its last evaluation, with the columns that ``comparable`` names and ``MEASURED``, which
            may be NaN. ELBOs and their gaps in nats an image. Trials that failed or have no finite ELBO are left out,
            and counted in a footnote.
        curves: a row a trial and evaluation.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, or the rows mix experiments.
    """
    kept, kept_curves, left_out = comparable(last, curves, "method", MEASURED)
    methods = style.methods_in(kept)
    names, colours = map(style.method_name, methods), map(style.method_colour, methods)
    lines = Lines("method", dict(zip(methods, names, strict=True)), dict(zip(methods, colours, strict=True)))
    title = "Generalization, amortized inference and robustness"
    return {
        "generalization_gaps": _three_gaps(kept, kept_curves, lines, title, left_out),
        "elbo_source": elbo_figure(kept, kept_curves, SOURCE, "ELBO on what a VAE is trained on", NO_GAP, left_out),
        "gaps": methods_table(kept, TABLE, left_out),
    }


def draw_by_mz(last: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Figure]:
    """The gaps of one method by mz as ``gaps_by_mz`` (Figure 6); tables and errors as for ``draw``.

    Where some trials have an amortization or a robustness gap, the others belong to other figures and are not drawn.
    """
    kept, kept_curves, left_out = comparable(*_with_gaps(last, curves), "mz", MEASURED)
    sizes = sorted(kept["mz"].unique())
    lines = Lines("mz", {mz: f"$m_z$ = {mz}" for mz in sizes}, dict(zip(sizes, cycle(MZ_COLOURS), strict=False)))
    title = rf"The three gaps with growing $\mathbf{{m_z}}$ ({style.method_name(kept['method'].iloc[0])})"
    return {"gaps_by_mz": _three_gaps(kept, kept_curves, lines, title, left_out)}


def _with_gaps(last: pd.DataFrame, curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the trials that have a gap beside the generalization gap; all where none has."""
    gaps = [name for name in ("amortization_gap", "robustness_gap") if name in last]
    measured = last[gaps].notna().any(axis=1)
    if not measured.any():
        return last, curves
    return last[measured], curves[curves["trial_id"].isin(last.loc[measured, "trial_id"])]


def _three_gaps(rows: pd.DataFrame, curves: pd.DataFrame, lines: Lines, title: str, left_out: str) -> Figure:
    height = (len(lines.names) + 1) * LINE_HEIGHT / 72  # of the numbers
    figure, panels = style.new_figure(height=3.2 + height, panels=len(PANELS))
    curves = curves.assign(elbo_encoder=curves["elbo_optimal"] - curves["amortization_gap"])
    cut, ends = False, []
    for axes, panel in zip(panels, PANELS, strict=True):
        values = curves[[panel.gap, panel.solid[0], panel.dashed[0]]].to_numpy(dtype=float, na_value=np.nan)
        measured = curves[np.isfinite(values).all(axis=1)]
        ends.append(measured.sort_values("effective_epoch").drop_duplicates("trial_id", keep="last"))
        axes.set_title(panel.title, pad=16, **style.words(style.LABEL_SIZE))
        if measured.empty:
            style.nothing_yet(axes, panel.nothing)
            continue
        if measured["effective_epoch"].nunique() == 1:
            _draw_ends(axes, ends[-1], lines, panel)
        else:
            cut |= _draw_course(axes, measured, ends[-1], lines, panel)
        axes.set_ylabel(panel.unit, **style.words(style.LABEL_SIZE))
    style.head(figure, title, setting(rows, lines.by))
    style.foot(figure, footnote(outside(curves) if cut else "", left_out))
    share = height / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, share, 1, 1 - share))  # type: ignore[union-attr,call-arg]
    style.settle(figure)
    _write_gaps(figure, panels, ends, lines)
    return figure


def _draw_course(axes: Axes, curves: pd.DataFrame, ends: pd.DataFrame, lines: Lines, panel: Panel) -> bool:
    """Two lines over the epochs and a bracket for each of ``lines``; returns whether something lies outside."""
    epochs = int(curves["epochs"].iloc[0])
    values = {panel.solid: SOLID, panel.dashed: DASHED}
    for place, (key, colour) in enumerate(lines.colours.items()):
        for (value, _), dashes in values.items():
            draw_line(axes, mean_line(curves[curves[lines.by] == key], value), colour, dashes, f"{key} {value}")
        end = ends.loc[ends[lines.by] == key, [panel.solid[0], panel.dashed[0]]].mean()
        look: dict[str, Any] = {"color": colour, "linewidth": 1.2, "marker": "_", "markersize": 5}
        axes.plot([epochs * (1 + STEP * (place + 1.2))] * 2, end, **look, gid=f"{key} gap")
    axes.axvline(epochs, color=style.GRID, linewidth=1, zorder=1)
    axes.set_xlim(-STEP * epochs / 2, epochs * (1 + STEP * (len(lines.names) + 1)))
    axes.set_xticks([0, epochs / 2, epochs], ["0", f"{epochs / 2:g}", f"{epochs:g}"])
    axes.set_xlabel("Effective epoch", **style.words(style.LABEL_SIZE))
    _name_ends(axes, [style.handle(name, style.FAINT, linestyle=dashes) for (_, name), dashes in values.items()])
    return show_late(axes, curves, [value for value, _ in values])


def _draw_ends(axes: Axes, ends: pd.DataFrame, lines: Lines, panel: Panel) -> None:
    """What was measured at a single epoch: a bracket for each of ``lines``, and its ends with their seeds."""
    fills = {panel.solid: style.FAINT, panel.dashed: "white"}
    for place, (key, colour) in enumerate(lines.colours.items()):
        mine = ends[ends[lines.by] == key]
        end = mine[[panel.solid[0], panel.dashed[0]]].mean()
        axes.plot([place, place], end, color=colour, linewidth=1.2, gid=f"{key} gap")
        for (value, _), fill in fills.items():
            axes.vlines(
                place, mine[value].min(), mine[value].max(), color=colour, linewidth=3, alpha=0.35, gid="spread"
            )
            face = "white" if fill == "white" else colour
            look: dict[str, Any] = {"color": colour, "markersize": 5, "markerfacecolor": face}
            axes.plot(place, end[value], "o", **look, gid=f"{key} {value}")
    axes.set(xlim=(-0.8, len(lines.names) - 0.2), xticks=[])
    axes.set_xlabel(f"At epoch {ends['effective_epoch'].iloc[0]:g}", **style.words(style.LABEL_SIZE))
    look = {"linestyle": "none", "marker": "o", "markersize": 5}
    _name_ends(
        axes, [style.handle(name, style.FAINT, markerfacecolor=fill, **look) for (_, name), fill in fills.items()]
    )


def _name_ends(axes: Axes, handles: list[Line2D]) -> None:
    """A legend of the two values of a panel, between it and its title."""
    look: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "ncols": 2, "borderaxespad": 0}
    style.legend(axes, handles, frameon=False, columnspacing=1, handlelength=2, handletextpad=0.5, **look)


def _write_gaps(figure: Figure, panels: Sequence[Axes], ends: Sequence[pd.DataFrame], lines: Lines) -> None:
    """Names of the lines at the left, and below each panel the gaps with the one nearest to 0 in bold."""
    unit = 1 / 72 / figure.get_figheight()
    boxes = [axes.get_tightbbox() for axes in panels]
    panels_end = min(box.y0 for box in boxes if box is not None) / figure.bbox.height
    heights = {key: panels_end - (place + 1.8) * LINE_HEIGHT * unit for place, key in enumerate(lines.names)}

    def write(x: float, y: float, text: str, **look: Any) -> None:
        figure.text(x, y, text, va="center", **{**style.words(style.SMALL_SIZE), **look}).set_in_layout(False)

    write(LEFT, panels_end - 0.8 * LINE_HEIGHT * unit, "Gap at the last measurement", color=style.FAINT)
    for key, name in lines.names.items():
        look: dict[str, Any] = {"color": lines.colours[key], "linewidth": style.LINE_WIDTH}
        figure.add_artist(Line2D([LEFT, LEFT + 0.03], [heights[key]] * 2, **look))
        write(LEFT + 0.04, heights[key], name)
    for axes, panel, end in zip(panels, PANELS, ends, strict=True):
        gaps = {key: end.loc[end[lines.by] == key, panel.gap] for key in lines.names}
        sizes = {key: abs(of_line.mean()) for key, of_line in gaps.items() if len(of_line)}
        decimals = 2 - min(2, int(math.log10(max(1.0, *sizes.values(), 1.0))))
        smallest = min(sizes.values(), default=math.nan) if len(sizes) > 1 else math.nan
        for key in gaps if sizes else ():
            weight = "bold" if sizes.get(key) == smallest else "normal"
            text = style.plus_minus(gaps[key], decimals)
            write(axes.get_position().x1, heights[key], text, ha="right", fontweight=weight)
