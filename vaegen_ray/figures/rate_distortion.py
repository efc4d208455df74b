"""Distortion against rate: what beta trades for what (bozkurt2021, Sections 4.4 and 4.5, Figures 3 to 7).

A curve joins the VAEs of one data set, split, size and network that differ in beta alone. R is the rate, D the
distortion, in nats an image; along a thin grey line -D - R, the ELBO, is the same everywhere.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from vaegen_ray.figures import style
from vaegen_ray.figures.information import variants
from vaegen_ray.figures.labels import place_labels
from vaegen_ray.figures.neighbours import CELL, distances, draw_strip, hard_images, size_colours
from vaegen_ray.figures.over_beta import (
    COLUMNS,
    CURVE,
    DASHED,
    NETWORK,
    PLACE,
    REGULARISERS,
    SOLID,
    SPLITS,
    Scale,
    build_panels,
    comparable,
    finish,
    in_order,
    network_name,
    place_name,
    split_note,
    statistics,
    with_bars,
)
from vaegen_ray.figures.rows import footnote

VALUES = tuple(f"{value}_{part}" for value in ("rate", "distortion", "elbo") for part in ("train", "test"))
"""What every trial must have, in nats an image."""
HEADINGS = ("Train rate", "Test rate", "Train distortion", "Test distortion", "Train ELBO", "Test ELBO")
TEST, TRAIN = style.OKABE_ITO["blue"], style.OKABE_ITO["orange"]
"""Colours of the image sets, where no other thing has one."""
DOTTED = (0, (1, 1.5))

STAR: dict[str, Any] = {"marker": "*", "markersize": 10, "markerfacecolor": "white", "markeredgewidth": 1.1}
EQUAL = "equal ELBO"
LABELLED = 5
"""Values of beta that are written beside a curve, and whose reconstructions are shown."""
MOST_PLACES, MOST_COLUMNS = 8, 3
"""Rows and columns of Figure 3: of more places it shows the ends of each split; more networks go into further rows."""
ENDS = "Of each split, the smallest and the largest training set"
FINE_STEPS = (1, 1.5, 2, 3, 5, 7)
LEVELS = 6
"""Lines of equal ELBO in a panel, roughly."""
AXES = ("Rate R (nats)", "Distortion D (nats)")
IMAGES = "Images: a test image that is far from all training images, the nearest of these, and its reconstructions by β"
PANEL_HEIGHT, STRIP_HEIGHT = 2.6, 0.75
"""Of a row, and of the images above it, in inches."""
BESIDE = 0.55
"""Width of what is beside a panel, roughly, in inches."""


class Lines(NamedTuple):
    """What colours mean where curves are compared."""

    by: tuple[str, ...]
    names: Mapping[tuple[Any, ...], str]
    colours: Mapping[tuple[Any, ...], Any]


def draw(last: pd.DataFrame, details: pd.DataFrame) -> dict[str, Figure | str]:
    """Figure 3 as ``rate_distortion``, the numbers as ``rate_distortion_table``; where there is something to compare,
    Figures 4 to 7 as ``rate_distortion_by_size``, ``_by_split``, ``_by_network`` and ``_by_dataset``; where it was
    tried, a regulariser other than the rate (``objective_variants``); and where they were measured, the distances of
    test images from training images (``neighbour_distances``).

    Args:
        last: a row a completed trial, with ``trial_id, seed, beta, status``, ``CURVE``, ``ONE_CURVE`` and ``VALUES``.
        details: ``trial_id, quantity, item, values``, with quantities as in ``neighbours``; may be empty.

    Raises:
        VaegenError: no completed trial with finite numbers.
        SpecError: a column is missing, or the trials of a curve differ in more than beta and seed.
    """
    rows, left_out = comparable(last, VALUES)
    points = statistics(rows, VALUES)
    note = footnote(split_note(points), left_out)
    plain = points[points["regulariser"] == "rate"]
    normal = plain[plain["method"] == "normal"]
    made: dict[str, Figure | str | None] = {
        "rate_distortion": _both_parts(plain, rows, details, note),
        "rate_distortion_by_size": _by_size(normal, note),
        "rate_distortion_by_split": _by_split(normal, note),
        "rate_distortion_by_network": _by_network(normal, note),
        "rate_distortion_by_dataset": _by_dataset(normal, note),
        "objective_variants": variants(points[points["method"] == "normal"], note),
        "neighbour_distances": distances(rows, details, note),
        "rate_distortion_table": _table(rows, left_out),
    }
    return {stem: part for stem, part in made.items() if part is not None}


def _both_parts(points: pd.DataFrame, rows: pd.DataFrame, details: pd.DataFrame, note: str) -> Figure | None:
    """Figure 3: a row a place, a column a network; test and training set, below images of one seed. Dotted curves are
    the test set after other methods than normal training."""
    if points.empty:
        return None
    if len(in_order(points, PLACE)) > MOST_PLACES:
        points, note = _ends(points), footnote(ENDS, note)
    networks = len(in_order(points, NETWORK))
    down, across = (PLACE, NETWORK) if networks <= MOST_COLUMNS else ((*PLACE, *NETWORK), ())
    width = style.WIDTH / (networks if across else COLUMNS) - BESIDE
    strips = {
        key: hard_images(_trials(rows, key), details, _few(own["beta"], min(LABELLED, int(width / CELL) - 2)))
        for key, own in in_order(points, (*PLACE, *NETWORK)).items()
    }
    pictured = any(strips.values())
    figure, panels = build_panels(points, down, across, AXES, PANEL_HEIGHT + pictured * STRIP_HEIGHT)
    for axes, own in panels:
        _frame(axes, points, own, ("test", "train"))
        for (method,), curve in in_order(own, ("method",)).items():
            if method == "normal":
                _draw_curve(axes, curve, "train", TRAIN, DASHED, "normal train")
                _draw_curve(axes, curve, "test", TEST, SOLID, "normal test")
            else:
                _draw_curve(axes, curve, "test", style.method_colour(method), DOTTED, f"{method} test")
        if images := strips[tuple(own[[*PLACE, *NETWORK]].iloc[0])]:
            draw_strip(axes, images, width)
    handles = [style.handle("test set", TEST), style.handle("training set", TRAIN, linestyle=DASHED)]
    for method in style.methods_in(points[points["method"] != "normal"]):
        name = f"test set, {style.method_name(method)}"
        handles.append(style.handle(name, style.method_colour(method), linestyle=DOTTED))
    _close(figure, points, "Rate and distortion over β", handles, IMAGES if pictured else "", note)
    for axes, own in panels:
        _name_betas(axes, own[own["method"] == "normal"])
    return figure


def _trials(rows: pd.DataFrame, key: tuple[Any, ...]) -> pd.DataFrame:
    """The trials of normal training of one place and network, with the rate as regulariser."""
    same = (rows[[*PLACE, *NETWORK, "method", "regulariser"]] == [*key, "normal", "rate"]).all(axis=1)
    return rows[same]


def _few(betas: pd.Series, most: int) -> list[float]:
    """Up to ``most`` of ``betas``, spread evenly over their decades with the 1 of a VAE among them, and 0."""
    known = np.unique(betas[betas > 0])
    if len(known) <= most:
        return sorted(set(betas))
    aims = np.geomspace(known[0], known[-1], most)
    if 1 in known[1:-1] and most > 2:
        aims[1 + np.abs(np.log(aims[1:-1])).argmin()] = 1
    return sorted({float(known[np.abs(np.log(known / aim)).argmin()]) for aim in aims} | set(betas[betas == 0]))


def _ends(points: pd.DataFrame) -> pd.DataFrame:
    """The points of the smallest and of the largest size of each split."""
    sizes = points.groupby(["dataset", "split"])["n_train"]
    return points[(points["n_train"] == sizes.transform("min")) | (points["n_train"] == sizes.transform("max"))]


def _by_size(points: pd.DataFrame, note: str) -> Figure | None:
    """Figure 4: a row a split, a column a network, a colour a size, where a split has several sizes."""
    some = _with_several(points, ("dataset", "split"), ("n_train",))
    colours = {(size,): colour for size, colour in size_colours(set(some["n_train"])).items()}
    lines = Lines(("n_train",), {key: f"{key[0]:,} images" for key in colours}, colours)
    return _compared(
        some, ("dataset", "split"), NETWORK, lines, "Test rate and distortion by size of the training set", note
    )


def _by_split(points: pd.DataFrame, note: str) -> Figure | None:
    """Figure 5: a panel a network, a colour a split with its smallest and its largest size, where there are several."""
    some = _ends(_with_several(points, ("dataset",), ("split",)))
    by = ("split", "n_train")
    lines = _in_turn(by, {key: place_name(*key) for key in in_order(some, by)})
    return _compared(some, ("dataset",), NETWORK, lines, "Test rate and distortion by split", note)


def _by_network(points: pd.DataFrame, note: str) -> Figure | None:
    """Figure 6: a panel a place, a colour a network, test and training set, where a place has several networks."""
    some = _with_several(points, PLACE, NETWORK)
    return _compared(some, PLACE, (), _networks(some), "Rate and distortion by network", note, ("test", "train"))


def _by_dataset(points: pd.DataFrame, note: str) -> Figure | None:
    """Figure 7: a panel a data set, each with the smallest size of its first split, a colour a network."""
    if points["dataset"].nunique() < 2:
        return None
    first: dict[str, pd.DataFrame] = {}
    for (dataset, *_), own in in_order(points, PLACE).items():
        first.setdefault(dataset, own)
    some = pd.concat(first.values())
    return _compared(some, PLACE, (), _networks(some), "Test rate and distortion by data set", note)


def _with_several(points: pd.DataFrame, within: Sequence[str], of: Sequence[str]) -> pd.DataFrame:
    """The points of those values of the columns ``within`` that have at least two values of the columns ``of``."""
    groups = in_order(points, within).values()
    return pd.concat([points.iloc[:0], *(own for own in groups if len(own.drop_duplicates([*of])) > 1)])


def _networks(points: pd.DataFrame) -> Lines:
    return _in_turn(NETWORK, {key: network_name(*key) for key in in_order(points, NETWORK)})


def _in_turn(by: tuple[str, ...], names: Mapping[tuple[Any, ...], str]) -> Lines:
    """Lines that have no order: the usual colours in turn."""
    return Lines(by, names, dict(zip(names, cycle(style.LINE_COLOURS), strict=False)))


def _compared(
    points: pd.DataFrame,
    down: Sequence[str],
    across: Sequence[str],
    lines: Lines,
    title: str,
    note: str,
    parts: Sequence[str] = ("test",),
) -> Figure | None:
    """The panels of ``build_panels``, with a curve a value of ``lines.by`` and image set; None without points."""
    if points.empty:
        return None
    figure, panels = build_panels(points, down, across, AXES, PANEL_HEIGHT)
    for axes, own in panels:
        _frame(axes, points, own, parts)
        for key, curve in in_order(own, lines.by).items():
            for part in parts:
                dashes = SOLID if part == "test" else DASHED
                _draw_curve(axes, curve, part, lines.colours[key], dashes, f"{lines.names[key]} {part}")
    handles = [style.handle(name, lines.colours[key]) for key, name in lines.names.items()]
    if len(parts) > 1:
        handles += [style.handle("test set", style.FAINT), style.handle("training set", style.FAINT, linestyle=DASHED)]
    _close(figure, points, title, handles, note)
    return figure


def _frame(axes: Axes, points: pd.DataFrame, own: pd.DataFrame, parts: Sequence[str]) -> None:
    """Give a panel the ranges of all ``points`` of the data set of its ``own``, and lines of equal ELBO."""
    same = points[points["dataset"] == own["dataset"].iloc[0]]
    x, y = (Scale.of(with_bars(same, [f"{value}_{part}" for part in parts])) for value in ("rate", "distortion"))
    x.dress(axes, "x")
    y.dress(axes, "y")
    positive = (x.log or y.log) and y.low > 0
    levels = Scale(max(x.low, 0) + y.low if positive else x.low + y.low, x.high + y.high, positive).ticks(FINE_STEPS)
    for level in levels[:: max(1, round(len(levels) / LEVELS))]:
        rate = np.sort(np.concatenate([x.grid(200), level - y.grid(200)]))
        rate = rate[(rate >= x.low) & (rate <= x.high) & (level - rate >= y.low) & (level - rate <= y.high)]
        if not len(rate):
            continue
        axes.plot(rate, level - rate, color=style.FAINT, linewidth=0.6, alpha=0.55, zorder=1.5, gid=EQUAL)
        where: dict[str, Any] = {"ha": "left", "va": "center", "zorder": 1.6, "gid": EQUAL}
        where |= style.words(style.SMALL_SIZE - 0.5, style.FAINT)
        text = axes.text(rate[0], level - rate[0], f" {-level:,g}".replace("-", "−"), **where)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})


def _thin(axes: Axes) -> None:
    """Take away lines of equal ELBO whose words would cover those of another; the layout is final."""
    lines = [line for line in axes.lines if line.get_gid() == EQUAL]
    texts = [text for text in axes.texts if text.get_gid() == EQUAL]
    kept: list[Bbox] = []
    for line, text in zip(lines, texts, strict=True):
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in kept):
            line.remove()
            text.remove()
        else:
            kept.append(box)


def _draw_curve(axes: Axes, curve: pd.DataFrame, part: str, colour: Any, dashes: Any, gid: str) -> None:
    """A dot a beta, joined by rising beta, bars of one standard deviation both ways, and a white star at beta = 1."""
    x, y = curve[f"rate_{part}"], curve[f"distortion_{part}"]
    axes.plot(x, y, "o", color=colour, linestyle=dashes, linewidth=1.5, markersize=3.5, zorder=3, gid=gid)
    bars = {"xerr": curve[f"rate_{part}_std"], "yerr": curve[f"distortion_{part}_std"]}
    axes.errorbar(x, y, **bars, fmt="none", ecolor=colour, elinewidth=0.9, zorder=2.5)
    one = curve["beta"] == 1
    axes.plot(x[one], y[one], color=colour, linestyle="none", zorder=4, gid=f"{gid} star", **STAR)


def _name_betas(axes: Axes, curve: pd.DataFrame) -> None:
    """Write a few values of beta beside the curve of the test set; the layout is final."""
    named = curve[curve["beta"].isin(_few(curve["beta"], LABELLED))]
    if named.empty:
        return
    curves = [line for line in axes.lines if line.get_gid() != EQUAL]
    ink = [points for line in curves if len(points := np.asarray(line.get_xydata(), dtype=float))]
    for text in axes.texts:
        (left, low), (right, high) = axes.transData.inverted().transform(text.get_window_extent().get_points())
        ink.append(np.array([[left, low], [right, low], [right, high], [left, high]]))
    texts = [f"β = {beta:g}" for beta in named["beta"]]
    place_labels(axes, named[["rate_test", "distortion_test"]].to_numpy(), texts, ink)


def _close(figure: Figure, points: pd.DataFrame, title: str, handles: Sequence[Line2D], *notes: str) -> None:
    """Heading, legend and footnote; fixes the layout."""
    star = Line2D([], [], color=style.FAINT, linestyle="none", label="β = 1", **STAR)
    equal = Line2D([], [], color=style.FAINT, linewidth=0.6, label="equal ELBO, −D − R")
    finish(figure, points, title, [*handles, star, equal], footnote(*notes))
    for axes in figure.axes:
        _thin(axes)


def _table(rows: pd.DataFrame, left_out: str) -> str:
    """A row a curve and beta: means and standard deviations over the seeds."""
    lines = []
    for (*place, architecture, layers, method, regulariser), curve in in_order(rows, CURVE).items():
        dataset, split, n_train = place
        trained = [
            style.method_name(method),
            *([f"β weighs {REGULARISERS[regulariser].replace('$', '')}"] * (regulariser != "rate")),
        ]
        names = [dataset, SPLITS[split], f"{n_train:,}", network_name(architecture, layers), ", ".join(trained)]
        for beta, trials in curve.groupby("beta"):
            numbers = [style.plus_minus(trials[value]) for value in VALUES]
            lines.append([*names, f"{beta:g}", *numbers, str(len(trials))])
    heading = ["Data set", "Split", "Training images", "Network", "Trained", "β", *HEADINGS, "Seeds"]
    note = "In nats an image; mean ± standard deviation over the seeds"
    return f"{style.markdown(heading, lines)}\n{'. '.join(filter(None, [note, split_note(rows), left_out]))}.\n"
