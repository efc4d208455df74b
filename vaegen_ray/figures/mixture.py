"""Real and synthetic images together: mixtures, smaller training sets of the diffusion model, and more real images.

Three figures: the part of real images in a mixture (xiao2024, Appendix B.7, Figure 15), the part of D_train that the
diffusion model has seen (Appendices B.8 and D.3, Figures 16 and 18), and a control of our own: what k times as many
real images would do. ELBOs and gaps are nats an image, measured on real images.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from vaegen_ray.errors import SpecError
from vaegen_ray.figures import style
from vaegen_ray.figures.rows import facts, footnote, require_alike, require_one, require_one_stream, usable
from vaegen_ray.figures.synthetic_budget import ENDLESS, budget_places
from vaegen_ray.spec.method import recipe


class Look(NamedTuple):
    """How the values of one column are drawn, whatever their colour."""

    name: str
    dashes: Any
    marker: str


LOOKS = {
    "elbo_test": Look("ELBO on $D_{test}$", "-", "o"),
    "elbo_train": Look("ELBO on $D_{train}$", (0, (4, 2)), "s"),
    "generalization_gap": Look("Generalization gap", "-", "o"),
    "two_sample_accuracy": Look("Accuracy", "-", "o"),
}
ELBOS = ("elbo_test", "elbo_train")
VALUES = (*ELBOS, "generalization_gap")
ONE_EXPERIMENT = ("dataset", "architecture", "likelihood", "n_train", "epochs", "nc", "mz")
"""What all rows of a figure must share."""

MIXTURES = ("normal", "mix", "dmaapx", "aug_tuned", "mix+aug_tuned", "dmaapx+aug_tuned")
ENDS = {"dmaapx": 0, "normal": 100}
"""Per cent of real images where they are no mixture."""
WITHOUT, WITH = "mix", "mix+aug_tuned"
"""Name the curves of Figure 15, and give them their colours."""
AXIS = "Real images in the mixture (per cent)"

CHANCE = 0.5
"""Accuracy of a classifier that cannot tell samples from real images."""
DEVIATIONS = 1.96
"""Half the length of the bars of Figure 18, in standard deviations."""

EDGE, TICK_ROOM = 0.06, 0.085
"""Free room at either end of the axis of k, and the least distance of two labels there, as parts of the axis."""


def draw_mix(last: pd.DataFrame) -> dict[str, Figure]:
    """Figure 15 as ``real_synthetic_mix``: last ELBO and generalization gap against the per cent of real images.

    Args:
        last: a row a completed trial, with the columns of ``ONE_EXPERIMENT``, ``method, real_percent, budget,
            augment_probability, status`` and ``VALUES``. 0 per cent is dmaapx, 100 per cent normal training, each
            without augmentation and with Aug.Tuned.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, the rows mix experiments, or have another method.
    """
    rows, left_out = _kept(last, MIXTURES, ("real_percent", "augment_probability"))
    require_one_stream(rows)
    recipes = rows["method"].map(recipe)
    rows = rows.assign(
        curve=[WITH if made.augmentation else WITHOUT for made in recipes],
        percent=[ENDS.get(made.images, percent) for made, percent in zip(recipes, rows["real_percent"], strict=True)],
    )
    require_one(rows[[made.synthetic for made in recipes]], ("budget",))
    require_one(rows[rows["curve"] == WITH], ("augment_probability",))
    follow = ("method", "real_percent", "budget", "stream", "stream_version")
    left_out = footnote(require_alike(rows, ("curve",), ("percent",), follow=follow), left_out)

    figure, (elbos, gaps) = style.new_figure(height=3.9, panels=2)
    curves = [curve for curve in (WITHOUT, WITH) if curve in set(rows["curve"])]
    for curve in curves:
        colour, mine = style.method_colour(curve), rows[rows["curve"] == curve]
        for value in ELBOS:
            _draw_curve(elbos, mine, "percent", value, colour, curve)
        _draw_curve(gaps, mine, "percent", "generalization_gap", colour, curve)
    handles = _elbo_handles()
    dmaapx = rows[rows["method"] == "dmaapx"]
    if not dmaapx.empty:
        look: dict[str, Any] = {"color": style.method_colour("dmaapx"), "linestyle": ":"}
        elbos.axhline(dmaapx["elbo_test"].mean(), linewidth=1.2, zorder=1.5, gid="dmaapx", **look)
        handles.append(style.handle("DMaaPx on $D_{test}$", look["color"], linestyle=":"))
    _zero_line(gaps)
    for axes, name in ((elbos, "ELBO (nats an image)"), (gaps, "Generalization gap (nats an image)")):
        axes.set_xlim(-5, 105)
        axes.set_xticks(range(0, 101, 20))
        style.name_axes(axes, AXIS, name)
    names = {WITHOUT: "without augmentation", WITH: "with Aug.Tuned"}
    handles = [*(style.handle(names[curve], style.method_colour(curve)) for curve in curves), *handles]
    ends = "0 %: DMaaPx, diffusion samples alone; 100 %: normal training, or Aug.Tuned"
    title = "Mixing real images with diffusion samples"
    _finish(figure, title, rows, rows.groupby(["curve", "percent"]).size(), handles, (ends, left_out))
    return {"real_synthetic_mix": figure}


def draw_subsets(last: pd.DataFrame) -> dict[str, Figure]:
    """Figures 16 and 18 as ``diffusion_subsets``: DMaaPx against the part of D_train that its diffusion model has seen.

    Normal training, which has seen all of it, is a pair of horizontal lines. The second panel has the accuracy of a
    classifier between samples and real images; its bars are +-1.96 standard deviations, as in the paper.

    Args:
        last: a row a completed trial, with the columns of ``ONE_EXPERIMENT``, ``method, budget, stream, status,
            two_sample_accuracy`` (0 to 1) and ``VALUES``.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, the rows mix experiments, or have another method.
    """
    rows, left_out = _kept(last, ("normal", "dmaapx"), ("stream", "two_sample_accuracy"))
    normal, dmaapx = rows[rows["method"] == "normal"], rows[rows["method"] == "dmaapx"]
    require_one(dmaapx, ("budget",))
    require_alike(normal, ())
    seen = [json.loads(stream)["diffusion"]["n_train"] for stream in dmaapx["stream"]]
    dmaapx = dmaapx.assign(part=100 * np.array(seen, dtype=float) / dmaapx["n_train"].to_numpy(dtype=float))
    left_out = footnote(require_alike(dmaapx, (), ("part",), follow=("stream",)), left_out)
    for _, of_one_model in dmaapx.groupby("part"):
        require_one_stream(of_one_model)

    figure, (elbos, accuracies) = style.new_figure(height=3.9, panels=2)
    axis = "$D_{train}$ seen by the diffusion model (per cent)"
    right = max(100.0, dmaapx["part"].max()) if len(dmaapx) else 100.0
    for axes in (elbos, accuracies):
        axes.set_xlim(0, 1.05 * right)
    for value in ELBOS:
        _draw_level(elbos, normal, value, "normal", LOOKS[value].dashes)
        if not dmaapx.empty:
            _draw_curve(elbos, dmaapx, "part", value, style.method_colour("dmaapx"), "dmaapx")
    bars, chance = _draw_accuracies(accuracies, dmaapx)
    style.name_axes(elbos, axis, "ELBO (nats an image)")
    if accuracies.get_xticks().size:
        style.name_axes(accuracies, axis, "Accuracy, samples or real")
    methods = [style.handle(style.method_name(m), style.method_colour(m)) for m in style.methods_in(rows)]
    parts = dmaapx.groupby("part").size()
    seeds = pd.Series([*parts, *([len(normal)] if len(normal) else [])])
    title = "How much data must the diffusion model have seen?"
    missing = "" if len(dmaapx) else "No DMaaPx trials yet"
    _finish(figure, title, rows, seeds, [*methods, *_elbo_handles(), *chance], (bars, missing, left_out))
    return {"diffusion_subsets": figure}


def draw_more_real(last: pd.DataFrame) -> dict[str, Figure]:
    """``more_real_data``: test ELBO and generalization gap against k, with k |D_train| distinct images to train on.

    The images are real in one curve (k = 1 is normal training), diffusion samples in the other; the model of these has
    seen D_train alone. Endless samples stand apart. Early stopping on D_train is a horizontal line.

    Args:
        last: a row a completed trial, with the columns of ``ONE_EXPERIMENT``, ``method, status, budget`` (k) and
            ``VALUES``.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, the rows mix experiments, or have another method.
    """
    rows, left_out = _kept(last, ("normal", "more_real", "dmaapx", "early_stopping"), ())
    require_one_stream(rows)
    rows = rows.assign(k=np.where(rows["method"] == "normal", 1, rows["budget"]).astype(int))
    rows = rows.assign(curve=rows["method"].replace("more_real", "normal"))
    left_out = footnote(require_alike(rows, ("curve",), ("k",), follow=("method", "budget")), left_out)
    real, dmaapx = rows[rows["method"].isin(("normal", "more_real"))], rows[rows["method"] == "dmaapx"]
    stopped = rows[rows["method"] == "early_stopping"]
    places = budget_places([*real["k"], *dmaapx["k"]]) or {1: 1.0}

    figure, panels = style.new_figure(height=3.9, panels=2)
    curves = {"real images": ("normal", real), "diffusion samples (DMaaPx)": ("dmaapx", dmaapx)}
    for axes, value in zip(panels, ("elbo_test", "generalization_gap"), strict=True):
        for method, mine in curves.values():
            finite, endless = mine[mine["k"] != ENDLESS], mine[mine["k"] == ENDLESS]
            _draw_curve(axes, finite, "k", value, style.method_colour(method), method)
            apart = style.mean_and_spread(endless.assign(k=places.get(ENDLESS)), "k", value)
            style.mark_spread(axes, apart, "k", LOOKS[value].marker, style.method_colour(method))
        _draw_level(axes, stopped, value, "early_stopping", (0, (5, 2)))
        _name_ks(axes, places)
        name = "Test ELBO" if value == "elbo_test" else LOOKS[value].name
        style.name_axes(axes, "Distinct images $k$, in units of $|D_{train}|$", f"{name} (nats an image)")
    _zero_line(panels[1])
    drawn = {name: style.method_colour(method) for name, (method, mine) in curves.items() if len(mine)}
    handles = [style.handle(name, colour, marker="o") for name, colour in drawn.items()]
    if len(stopped):
        name, colour = style.method_name("early_stopping"), style.method_colour("early_stopping")
        handles.append(style.handle(name, colour, linestyle=(0, (5, 2))))
    title = "What are diffusion samples worth in real images?"
    _finish(figure, title, rows, rows.groupby(["method", "k"]).size(), handles, (_worth(real, dmaapx), left_out))
    return {"more_real_data": figure}


def real_worth(ks: Sequence[float], elbos: Sequence[float], elbo: float) -> float:
    """The smallest k at which the curve through (ks, elbos), straight between points over log k, reaches ``elbo``.

    0 where the first point already lies above, infinity where no point does.
    """
    if elbo < elbos[0]:
        return 0.0
    for i, reached in enumerate(elbos):
        if reached >= elbo:
            before = max(0, i - 1)
            part = 0.0 if i == 0 else (elbo - elbos[before]) / (reached - elbos[before])
            return math.exp(math.log(ks[before]) + part * (math.log(ks[i]) - math.log(ks[before])))
    return math.inf


def _kept(last: pd.DataFrame, methods: Sequence[str], keys: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """The usable rows of one experiment with ``methods`` alone, and the footnote on the others."""
    rows, left_out = usable(last, VALUES, (*ONE_EXPERIMENT, "method", "budget", *keys))
    other = sorted(set(rows["method"]) - set(methods))
    if other:
        raise SpecError(f"rows of this figure must have method {', '.join(methods)}; got {', '.join(other)}")
    require_one(rows, ONE_EXPERIMENT)
    return rows, left_out


def _draw_curve(axes: Axes, rows: pd.DataFrame, x: str, value: str, colour: str, gid: str) -> None:
    """A line through the means over the seeds of each ``x``, with bars from lowest to highest."""
    look, points = LOOKS[value], style.mean_and_spread(rows, x, value)
    axes.plot(points[x], points["mean"], color=colour, linestyle=look.dashes, linewidth=1.6, gid=f"{gid} {value}")
    style.mark_spread(axes, points, x, look.marker, colour)


def _draw_level(axes: Axes, rows: pd.DataFrame, value: str, method: str, dashes: Any) -> None:
    """A horizontal line at the mean of a method, in a band from lowest to highest seed."""
    if not rows.empty:
        look: dict[str, Any] = {"color": style.method_colour(method), "gid": f"{method} {value}"}
        axes.axhspan(rows[value].min(), rows[value].max(), alpha=0.12, linewidth=0, zorder=1, **look)
        axes.axhline(rows[value].mean(), linestyle=dashes, linewidth=1.4, **look)


def _draw_accuracies(axes: Axes, dmaapx: pd.DataFrame) -> tuple[str, list[Line2D]]:
    """Figure 18: mean accuracy of the two-sample tests, bars of +-1.96 standard deviations, and chance.

    Returns what the bars are, in words, and the legend entries; both empty where there is nothing to draw.
    """
    measured = dmaapx[np.isfinite(dmaapx["two_sample_accuracy"].to_numpy(dtype=float, na_value=np.nan))]
    if measured.empty:
        style.nothing_yet(axes, "No two-sample tests yet")
        return "", []
    points, colour = style.mean_and_spread(measured, "part", "two_sample_accuracy"), style.method_colour("dmaapx")
    reach = DEVIATIONS * points["std"]
    points = points.assign(min=points["mean"] - reach, max=points["mean"] + reach)
    axes.plot(points["part"], points["mean"], color=colour, linewidth=1.6, gid="accuracy")
    style.mark_spread(axes, points, "part", "o", colour)
    axes.axhline(CHANCE, color=style.FAINT, linewidth=1.2, linestyle=":", gid="chance")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    bars = f"Bars of the accuracy: ±{DEVIATIONS} standard deviations of the seeds"
    return bars if points["std"].notna().any() else "", [style.handle("chance", style.FAINT, linestyle=":")]


def _name_ks(axes: Axes, places: dict[int, float]) -> None:
    """A log axis of k with a label at each place where there is room, endless behind a dotted line."""
    low, high = min(places.values()), max(places.values())
    margin = (high / low) ** EDGE if high > low else 2.0
    axes.set(xscale="log", xlim=(low / margin, high * margin))
    ends, names, last = np.log(axes.get_xlim()), [], -math.inf
    for k, place in places.items():
        at = float((math.log(place) - ends[0]) / (ends[1] - ends[0]))
        room = at - last >= TICK_ROOM
        last = at if room else last
        names.append(("∞" if k == ENDLESS else f"{k:,}") if room else "")
    axes.set_xticks(list(places.values()), names)
    axes.xaxis.set_minor_locator(NullLocator())
    if ENDLESS in places and len(places) > 1:
        *_, before, endless = places.values()
        axes.axvline(math.sqrt(before * endless), color=style.FAINT, linewidth=0.8, linestyle=":", gid="separator")


def _worth(real: pd.DataFrame, dmaapx: pd.DataFrame) -> str:
    """In words, what the largest budget of DMaaPx is worth in real images, by test ELBO; empty before it is known."""
    curve = real.groupby("k")["elbo_test"].mean()
    if dmaapx.empty or len(curve) < 2:
        return ""
    budget = ENDLESS if ENDLESS in set(dmaapx["k"]) else dmaapx["k"].max()
    k = real_worth(curve.index.tolist(), curve.tolist(), dmaapx.loc[dmaapx["k"] == budget, "elbo_test"].mean())
    first, last = curve.index[0], curve.index[-1]
    worth = f"less than {first}" if k < first else f"more than {last}" if k == math.inf else f"{k:.1f}"
    images = "endless samples" if budget == ENDLESS else f"{budget:,} $|D_{{train}}|$ samples"
    return f"By test ELBO, {images} are worth {worth} $|D_{{train}}|$ of real images (interpolated over log $k$)"


def _elbo_handles() -> list[Line2D]:
    """Legend entries of the two ELBOs, grey since colour means something else."""
    return [style.handle(LOOKS[value].name, style.FAINT, linestyle=LOOKS[value].dashes) for value in ELBOS]


def _zero_line(axes: Axes) -> None:
    axes.axhline(0, color=style.FAINT, linewidth=0.8, zorder=1.5)


def _finish(
    figure: Figure, title: str, rows: pd.DataFrame, seeds: pd.Series, handles: Sequence[Line2D], notes: Sequence[str]
) -> None:
    """Write title, facts, legend and footnotes, and fix the layout."""
    first = rows.iloc[0]
    for axes in figure.axes:
        if isinstance(axes.yaxis.get_major_formatter(), ScalarFormatter):
            axes.ticklabel_format(axis="y", useOffset=False)
    style.head(figure, title, f"$n_c$ = {first['nc']}, $m_z$ = {first['mz']}; {facts(rows, seeds)}")
    style.legend_below_head(figure, handles)
    style.foot(figure, "\n".join(filter(None, notes)))
    style.settle(figure)
