"""How many diffusion samples does a VAE need? (xiao2024, Section 5.4, Figure 4 right.)

DMaaPx trains on k * |D_train| distinct samples of a diffusion model, which repeat after k effective epochs. Test and
train ELBO are both measured on real images; the distance between them is the generalization gap.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, NullLocator

from vaegen_ray.errors import SpecError
from vaegen_ray.figures import style
from vaegen_ray.figures.rows import facts, footnote, require_alike, require_one_stream, usable


class Curve(NamedTuple):
    """How an ELBO is drawn."""

    name: str
    colour: str
    marker: str
    dashes: Any = "-"
    width: float = style.LINE_WIDTH


CURVES = {
    "elbo_test": Curve("ELBO on $D_{test}$", style.OKABE_ITO["blue"], "o"),
    "elbo_train": Curve("ELBO on $D_{train}$", style.OKABE_ITO["vermillion"], "s"),
    "elbo_source": Curve("ELBO on fresh diffusion samples", style.OKABE_ITO["green"], "^", (0, (1, 1.5)), 1.2),
}
"""The ELBOs by column. Diffusion samples have another entropy than real images, so that the distance of the last curve
to the others is no generalization gap (xiao2024, Figure 13 and the remark above it)."""
REAL = ("elbo_test", "elbo_train")
"""The ELBOs on real images."""

NORMAL, DMAAPX = "normal", "dmaapx"
ENDLESS = 0
"""The budget of trials that never see a sample twice."""
ENDLESS_REACH, ENDLESS_FACTOR = 0.2, 2.0
"""Endless stands behind the largest k by this part of the span of the finite k on the log axis, or by this factor."""

NORMAL_DASHES = (0, (5, 2))
GAP_WIDTH, GAP_COLOUR = 9.0, "#DDDDDD"
"""Of the bars from test to train ELBO; the width is in points."""
MARGIN = 0.06
"""Free room at either end of the horizontal axis, as a part of its ticks' span."""
LABEL_ROOM = 0.065
"""A tick nearer to the labelled one before it than this part of the axis goes without a label."""

ONE_EXPERIMENT = ("dataset", "architecture", "likelihood", "n_train", "epochs", "nc", "mz")
"""What all rows of the figure must share."""


def draw(rows: pd.DataFrame) -> dict[str, Figure]:
    """Figure 4 (right) as ``synthetic_budget``: ELBO against the number of distinct diffusion samples.

    Args:
        rows: one row a finished trial at its last evaluation, with ``dataset, architecture, likelihood, method, budget,
            nc, mz, status, elbo_test, elbo_train, elbo_source, generalization_gap, epochs, n_train``. ``method`` is
            ``normal`` or ``dmaapx``; ``budget`` is k, 0 for endless; ELBOs and gap in nats an image. ``elbo_source`` is
            drawn for DMaaPx where it is finite. Trials that failed or have no finite ELBO are left out, and counted
            in a footnote.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, the rows mix experiments, or have another method or an impossible budget.
    """
    kept, left_out = usable(rows, (*REAL, "generalization_gap"), (*ONE_EXPERIMENT, "method", "budget", "elbo_source"))
    note = require_alike(kept, ("method",), ("budget",), ONE_EXPERIMENT)
    require_one_stream(kept)
    return {"synthetic_budget": _synthetic_budget(_with_budgets(kept), footnote(note, left_out))}


def budget_places(budgets: list[int]) -> dict[int, float]:
    """Where each of ``budgets`` stands on the log axis: k at k, then ``ENDLESS`` behind them after a gap."""
    finite = sorted(set(budgets) - {ENDLESS})
    places = {k: float(k) for k in finite}
    if ENDLESS in budgets:
        low, high = (finite[0], finite[-1]) if finite else (1, 1)
        places[ENDLESS] = high * max(ENDLESS_FACTOR, (high / low) ** ENDLESS_REACH)
    return places


def _with_budgets(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with whole budgets, 0 for normal training; refuses what this figure cannot show."""
    other = sorted(set(rows["method"]) - {NORMAL, DMAAPX})
    if other:
        raise SpecError(f"rows of this figure must have method {NORMAL} or {DMAAPX}; got {', '.join(other)}")
    budgets = rows["budget"].to_numpy(dtype=float, na_value=np.nan)
    budgets = np.where(rows["method"] == DMAAPX, budgets, ENDLESS)
    wrong = budgets[~((budgets >= 0) & np.isfinite(budgets) & (budgets == np.floor(budgets)))]
    if wrong.size:
        raise SpecError(f"budget of {DMAAPX} must be a whole number >= 1, or 0 for endless; got {wrong[0]:g}")
    return rows.assign(budget=budgets.astype(int))


def _synthetic_budget(rows: pd.DataFrame, left_out: str) -> Figure:
    """DMaaPx as curves over the budget, normal training as horizontal lines."""
    figure, (axes,) = style.new_figure(height=4.8)
    normal, dmaapx = rows[rows["method"] == NORMAL], rows[rows["method"] == DMAAPX]
    decimals = 2 - min(2, int(math.log10(max(1.0, rows["generalization_gap"].abs().max()))))
    if dmaapx.empty:
        style.nothing_yet(axes, "No DMaaPx trials yet")
        axes.yaxis.set_major_locator(AutoLocator())
        handles = [style.handle(CURVES[value].name, CURVES[value].colour) for value in REAL]
    else:
        handles = _draw_dmaapx(axes, dmaapx, decimals)
    if not normal.empty:
        handles.append(_draw_normal(axes, normal, decimals))
    style.legend(axes, handles, loc="lower center", bbox_to_anchor=(0.5, 1.02 if dmaapx.empty else 1.16), ncols=2)
    x = "Distinct diffusion samples $k$, in units of $|D_{train}|$ (∞: none comes twice)"
    style.name_axes(axes, x, "ELBO (nats an image)")

    first, seeds = rows.iloc[0], rows.groupby(["method", "budget"]).size()
    size = f"$n_c$ = {first['nc']}, $m_z$ = {first['mz']}"
    style.head(figure, "How many diffusion samples does a VAE need?", f"{size}; {facts(rows, seeds)}")
    unrepeated = f"From k = {first['epochs']:,} (the epochs) on no sample comes twice either"
    reached = dmaapx["budget"].max() >= first["epochs"]
    style.foot(figure, ". ".join(filter(None, [unrepeated if reached else "", left_out])))
    style.settle(figure)
    return figure


def _draw_dmaapx(axes: Axes, rows: pd.DataFrame, decimals: int) -> list[Line2D]:
    """A curve for each ELBO over pale bars as long as the gaps, endless apart; returns the legend entries."""
    places = budget_places(rows["budget"].tolist())
    rows = rows.assign(place=rows["budget"].map(places))
    low, high = min(places.values()), max(places.values())
    margin = (high / low) ** MARGIN if high > low else ENDLESS_FACTOR
    axes.set(xscale="log", xlim=(low / margin, high * margin))
    handles = []
    for value, look in CURVES.items():
        points = style.mean_and_spread(rows[np.isfinite(rows[value].astype(float))], ["place", "budget"], value)
        if points.empty:
            continue
        finite = points[points["budget"] != ENDLESS]
        shown = {"color": look.colour, "linestyle": look.dashes, "linewidth": look.width, "gid": f"{DMAAPX} {value}"}
        axes.plot(finite["place"], finite["mean"], **shown)
        style.mark_spread(axes, points, "place", look.marker, look.colour)
        handles.append(style.handle(look.name, look.colour, linestyle=look.dashes, marker=look.marker, markersize=4))

    means = rows.groupby("budget")[[*REAL, "generalization_gap", "place"]].mean().loc[list(places)]
    bars: dict[str, Any] = {"color": GAP_COLOUR, "linewidth": GAP_WIDTH, "zorder": 1.5, "gid": "gap"}
    axes.vlines(means["place"], means["elbo_test"], means["elbo_train"], **bars)
    if ENDLESS in places and len(places) > 1:
        *_, last, endless = places.values()
        axes.axvline(math.sqrt(last * endless), color=style.FAINT, linewidth=0.8, linestyle=":", gid="separator")
    gaps = [_number(gap, decimals) for gap in means["generalization_gap"]]
    _name_ticks(axes, places, gaps)
    return [*handles, style.handle("DMaaPx", style.FAINT)]


def _name_ticks(axes: Axes, places: dict[int, float], gaps: list[str]) -> None:
    """Name each place by its k below the panel and by its gap above, where there is room."""
    top = axes.secondary_xaxis("top")
    top.spines["top"].set_visible(False)
    top.tick_params(which="both", length=0, labelsize=style.TICK_SIZE, labelfontfamily=style.FONT, labelcolor=style.INK)
    ends = np.log(axes.get_xlim())
    ks, shown_gaps, last = [], [], -math.inf
    for (budget, place), gap in zip(places.items(), gaps, strict=True):
        at = float((math.log(place) - ends[0]) / (ends[1] - ends[0]))
        room = at - last >= LABEL_ROOM
        last = at if room else last
        ks.append(("∞" if budget == ENDLESS else f"{budget:,}") if room else "")
        shown_gaps.append(gap if room else "")
    for axis, names in ((axes, ks), (top, shown_gaps)):
        axis.set_xticks(list(places.values()), names)
        axis.xaxis.set_minor_locator(NullLocator())
    top.set_xlabel(
        "Generalization gap of DMaaPx (grey bars), nats an image", **style.words(style.SMALL_SIZE, style.FAINT)
    )


def _draw_normal(axes: Axes, rows: pd.DataFrame, decimals: int) -> Line2D:
    """A dashed line at the mean of each ELBO, a band from lowest to highest seed; returns the legend entry."""
    for value in REAL:
        seeds = rows[value]
        look: dict[str, Any] = {"color": CURVES[value].colour, "gid": f"{NORMAL} {value}"}
        axes.axhspan(seeds.min(), seeds.max(), alpha=0.12, linewidth=0, zorder=1, **look)
        axes.axhline(seeds.mean(), linestyle=NORMAL_DASHES, linewidth=1.4, **look)
    gap = _number(rows["generalization_gap"].mean(), decimals)
    return style.handle(f"normal training (gap {gap})", style.FAINT, linestyle=NORMAL_DASHES)


def _number(value: float, decimals: int) -> str:
    """``value`` with a comma at the thousands and never a minus before zero."""
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"
