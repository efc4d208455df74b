"""Over beta: the two parts of the rate, log p(x), and what happens where beta weighs one part alone.

The rate is R = I_q[x; z] + KL(q(z) || p(z)) (bozkurt2021, Eq. 5, Section 4.5, Figure 8).
"""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from vaegen_ray.errors import VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.by_method import find_column
from vaegen_ray.figures.over_beta import (
    DASHED,
    DECADE,
    NETWORK,
    PLACE,
    REGULARISERS,
    SOLID,
    Scale,
    build_panels,
    comparable,
    draw_means,
    finish,
    in_order,
    panel_name,
    split_note,
    statistics,
    with_bars,
)
from vaegen_ray.figures.rows import footnote


class Line(NamedTuple):
    """How a column is drawn."""

    name: str
    colour: str
    dashes: Any = SOLID


RATE_PARTS = {
    "mutual_information": Line("$I_q$[x; z]", style.OKABE_ITO["blue"]),
    "marginal_kl": Line("KL(q(z) ‖ p(z))", style.OKABE_ITO["vermillion"]),
}
MINIBATCH = "_minibatch"
"""Ends the columns of the estimates that take q(z) from a minibatch."""
INFORMATION = RATE_PARTS | {name + MINIBATCH: line._replace(dashes=DASHED) for name, line in RATE_PARTS.items()}
LIKELIHOODS = {
    "log_likelihood_test": Line("log p(x) on $D_{test}$", style.OKABE_ITO["green"]),
    "elbo_test": Line("ELBO on $D_{test}$", style.OKABE_ITO["purple"], DASHED),
}
VARIANT_VALUES = {"distortion_test": "Distortion on $D_{test}$ (nats)", "elbo_test": "ELBO on $D_{test}$ (nats)"}
VARIANT_COLOURS = dict(zip(REGULARISERS, style.LINE_COLOURS, strict=False))

PANEL_HEIGHT = 2.3
LINEAR_NATS = 1.0
"""Below this, an axis of information that spans decades is linear: a marginal KL falls to 0."""


def draw(last: pd.DataFrame) -> dict[str, Figure | str]:
    """Figure 8 as ``information``, log p(x) and ELBO as ``log_likelihood``; what nobody measured is left out.

    Args:
        last: a row a completed trial, with ``trial_id, seed, beta, status, elbo_test``, ``CURVE`` and ``ONE_CURVE``,
            and what was measured of ``INFORMATION``, ``information_images`` and ``LIKELIHOODS``, in nats an image.
            Drawn is normal training with the rate as regulariser.

    Raises:
        VaegenError: no completed trial with a finite ELBO, or nothing of this was measured.
        SpecError: a column is missing, or the trials of a curve differ in more than beta and seed.
    """
    rows, left_out = comparable(last, ("elbo_test",))
    rows = rows[(rows["method"] == "normal") & (rows["regulariser"] == "rate")]
    rows = rows.assign(**{name: find_column(rows, name) for name in (*INFORMATION, *LIKELIHOODS, "information_images")})
    made: dict[str, Figure | str] = {}
    informed = rows[np.isfinite(rows[list(INFORMATION)]).any(axis=1)]
    if not informed.empty:
        made["information"] = _information(informed, left_out)
    likely = rows[np.isfinite(rows["log_likelihood_test"])]
    if not likely.empty:
        made["log_likelihood"] = _log_likelihood(likely, left_out)
    if not made:
        raise VaegenError(
            f"this figure needs trials of normal training with the information measured; got {len(rows)} without it"
        )
    return made


def _information(rows: pd.DataFrame, left_out: str) -> Figure:
    """Figure 8: a panel a network and place, both parts of the rate over beta, below the line of ln N."""
    measured = [name for name in INFORMATION if np.isfinite(rows[name]).any()]
    points = statistics(rows, [*measured, "information_images"])
    figure, panels = build_panels(points, PLACE, NETWORK, ("β", "Nats"), PANEL_HEIGHT)
    values = np.append(with_bars(points, measured), np.log(points["information_images"].max()))
    scale, spans = Scale.of(values, log=False), np.nanmax(values) > DECADE * LINEAR_NATS
    for axes, frame in panels:
        for name in measured:
            draw_means(axes, frame, name, INFORMATION[name].colour, INFORMATION[name].dashes, name)
        if spans:
            axes.set_yscale("symlog", linthresh=LINEAR_NATS, linscale=0.5)
            axes.set_ylim(min(0.0, np.nanmin(values)) - 0.1 * LINEAR_NATS, np.nanmax(values) * 1.5)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
        else:
            scale.dress(axes, "y")
        images = frame["information_images"].max()
        if np.isfinite(images):
            axes.axhline(math.log(images), color=style.INK, linewidth=1, linestyle=":", zorder=1.5, gid="ln N")
            where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            text = f"ln {images:,.0f} = {math.log(images):.2f}"
            axes.annotate(text, (0.01, math.log(images)), (0, 2), ha="left", **where, **style.words(style.SMALL_SIZE))
    handles = [style.handle(RATE_PARTS[name].name, RATE_PARTS[name].colour) for name in RATE_PARTS]
    if any(name.endswith(MINIBATCH) for name in measured):
        handles += [style.handle("q(z): the mixture of N training images", style.FAINT)]
        handles += [style.handle("q(z): that of a minibatch", style.FAINT, linestyle=DASHED)]
    axis = f"The axis is linear below {LINEAR_NATS:g} nat" if spans else ""
    note = footnote(axis, split_note(points), left_out)
    finish(figure, points, "Mutual information and marginal KL over β", handles, note)
    return figure


def _log_likelihood(rows: pd.DataFrame, left_out: str) -> Figure:
    """A panel a network and place: the importance-weighted bound of log p(x), and the ELBO, over beta."""
    points = statistics(rows, list(LIKELIHOODS))
    figure, panels = build_panels(points, PLACE, NETWORK, ("β", "Nats an image"), PANEL_HEIGHT)
    for axes, frame in panels:
        for name, line in LIKELIHOODS.items():
            draw_means(axes, frame, name, line.colour, line.dashes, name)
        same = points[points["dataset"] == frame["dataset"].iloc[0]]
        Scale.of(with_bars(same, LIKELIHOODS)).dress(axes, "y")
    handles = [style.handle(line.name, line.colour, linestyle=line.dashes) for line in LIKELIHOODS.values()]
    note = "log p(x): importance sampling, on the first images of the test set; ELBO: on all of it"
    finish(figure, points, "Log-likelihood and ELBO over β", handles, footnote(note, split_note(points), left_out))
    return figure


def variants(points: pd.DataFrame, left_out: str) -> Figure | None:
    """Test distortion and ELBO over beta, a colour a regulariser, where there is another one than the rate.

    Args:
        points: ``statistics`` of ``VARIANT_VALUES``, of one method.
        left_out: a footnote.
    """
    places = in_order(points, (*PLACE, *NETWORK))
    places = {key: frame for key, frame in places.items() if set(frame["regulariser"]) - {"rate"}}
    if not places:
        return None
    drawn = pd.concat(places.values())
    figure, axes = style.new_figure(height=1.1 + PANEL_HEIGHT * len(places), panels=2, rows=len(places))
    shared = (*PLACE, *NETWORK) if drawn["dataset"].nunique() > 1 else (*PLACE[1:], *NETWORK)
    for i, frame in enumerate(places.values()):
        for j, (value, name) in enumerate(VARIANT_VALUES.items()):
            panel = axes[2 * i + j]
            for (regulariser,), curve in in_order(frame, ("regulariser",)).items():
                draw_means(panel, curve, value, VARIANT_COLOURS[regulariser], SOLID, f"{regulariser} {value}")
            same = drawn[drawn["dataset"] == frame["dataset"].iloc[0]]
            Scale.of(with_bars(same, [value])).dress(panel, "y")
            style.name_axes(panel, "β" if i == len(places) - 1 else "", name)
            panel.set_title(panel_name(frame, shared), **style.words(style.TICK_SIZE))
    found = [name for name in REGULARISERS if name in set(drawn["regulariser"])]
    handles = [style.handle(f"β weighs {REGULARISERS[name]}", VARIANT_COLOURS[name]) for name in found]
    finish(figure, drawn, "What β weighs: the rate, or a part of it", handles, left_out)
    return figure
