"""How smooth the latent space is along straight lines between the codes of two test images (xiao2024, Section 5.3).

Figure 3: log q(z_alpha | x~_alpha) against alpha, where z_alpha lies on the line and x~_alpha is its reconstruction. An
encoder that undoes the decoder has a high and flat curve.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from vaegen_ray.errors import VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.by_method import (
    Measure,
    comparable,
    first_seeds,
    number,
    seed_words,
    select_details,
    table,
    trained,
)

MOST_PAIRS, COLUMNS = 6, 3
"""Panels of Figure 3, one a pair of test images, and how many of them side by side."""
PANEL_HEIGHT = 1.6
WIDE_RANGE = 100
"""The scale is logarithmic far from zero where the farthest value is more than this many times as far as the median."""
LOG_Q = r"$\log q(z_\alpha | \tilde{x}_\alpha)$ (nats)"
MEASURES = {
    "latent_log_q": Measure("mean log q along a line (nats)", 2),
    "latent_variation": Measure("total variation of log q along a line (nats)", 2, up=False),
}


def draw(last: pd.DataFrame, details: pd.DataFrame) -> dict[str, Figure | str]:
    """Figure 3 as ``latent_smoothness``, and means over all lines and seeds as the table ``smoothness``.

    What was not measured is left out.

    Args:
        last: a row a completed trial, with the columns of ``downstream.ONE_EXPERIMENT``, ``trial_id, method, seed,
            status, elbo_test`` and those of ``MEASURES`` that were measured; one trial a method and seed.
        details: ``trial_id, quantity, item, values``: ``log_q`` of ``pair-<i>``, in nats, evenly from alpha 0 to 1.

    Raises:
        VaegenError: no completed trial with a finite ELBO, or smoothness was not measured.
        SpecError: a column is missing, or the rows mix experiments.
    """
    rows, left_out = comparable(last)
    lines = select_details(rows, details, ("log_q",))
    made: dict[str, Figure | str] = {}
    if not lines.empty:
        made["latent_smoothness"] = _latent_smoothness(rows, lines, left_out)
    if any(name in rows and np.isfinite(rows[name].to_numpy(dtype=float, na_value=np.nan)).any() for name in MEASURES):
        made["smoothness"] = table(rows, MEASURES, left_out)
    if not made:
        raise VaegenError(f"this figure needs trials with smoothness measured; got {len(rows)} trials without")
    return made


def _latent_smoothness(rows: pd.DataFrame, lines: pd.DataFrame, left_out: str) -> Figure:
    """A panel a pair and a line a method, of one seed each: a mean over seeds would smooth what is jagged."""
    seeds = first_seeds(lines)
    lines = lines[lines["seed"] == lines["method"].map(seeds)]
    methods, pairs = style.methods_in(lines), sorted(set(lines["item"]), key=number)[:MOST_PAIRS]
    columns = min(COLUMNS, len(pairs))
    in_all = -(-len(pairs) // columns)
    figure, panels = style.new_figure(1.5 + PANEL_HEIGHT * in_all, columns, in_all)
    far = _far_scale(lines[lines["item"].isin(pairs)])
    for i, (axes, pair) in enumerate(zip(panels, pairs, strict=False)):
        if far:
            axes.set_yscale("symlog", linthresh=min(tick for tick in far if tick > 0))
            axes.yaxis.set_major_locator(FixedLocator(far))
        for method in methods:
            for log_q in lines[(lines["item"] == pair) & (lines["method"] == method)]["values"]:
                values, gid = np.asarray(log_q, dtype=float), f"{method} {pair}"
                axes.plot(
                    np.linspace(0, 1, len(values)), values, color=style.method_colour(method), linewidth=1.3, gid=gid
                )
        image = 2 * number(pair)
        axes.set_title(f"test images {image + 1} to {image}", pad=3, **style.words(style.SMALL_SIZE))
        below, left = i + columns >= len(pairs), i % columns == 0
        style.name_axes(axes, r"$\alpha$" if below else "", LOG_Q if left else "")
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "0.5", "1"))
    for axes in panels[len(pairs) :]:
        figure.delaxes(axes)

    facts = f"{trained(rows)}; {seed_words(seeds)}"
    style.head(figure, "log q on straight lines between the codes of two test images", facts)
    style.legend_below_head(figure, [style.handle(style.method_name(m), style.method_colour(m)) for m in methods])
    style.foot(figure, left_out)
    style.settle(figure)
    return figure


def _far_scale(lines: pd.DataFrame) -> list[float]:
    """Ticks of a scale that is linear from minus to plus the smallest tick above 0 and logarithmic farther away.

    Empty where a linear scale shows all: unless some value is ``WIDE_RANGE`` times as far from zero as the median.
    """
    far = np.abs(np.concatenate([np.asarray(values, dtype=float) for values in lines["values"]]))
    far = far[np.isfinite(far)]
    if not far.size or not far.max() > WIDE_RANGE * np.median(far) > 0:
        return []
    first, last = math.ceil(math.log10(np.median(far))), math.ceil(math.log10(far.max()))
    powers = [10.0**power for power in range(first, last + 1)]
    return [*(-power for power in reversed(powers)), 0.0, *powers]
