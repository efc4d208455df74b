"""Figures for plotly, as plain dictionaries: rows in, picture out.

Colours are those of the papers' figures; marks differ in shape too, so that nobody needs to tell colours apart.
"""

import html
import math
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd

from vaegen_ray.dashboard.columns import SIZES, is_number, label, plain, settings
from vaegen_ray.dashboard.sweeps import UNDER_WAY
from vaegen_ray.figures.path import path_order, path_runs
from vaegen_ray.figures.style import FAINT, GRID, INK, LINE_COLOURS, mean_and_spread, method_colour, method_name
from vaegen_ray.results.groups import SETTINGS, differing
from vaegen_ray.results.schema import TrialStatus

Figure = dict[str, Any]

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "star", "pentagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot")
SCALE = ("#440154", "#443983", "#31688E", "#21908C", "#35B779", "#8FD744")
"""Viridis without its pale end: dark to bright for everybody."""
MOST_POINTS = 1000
"""A browser draws so many at once. Of more, those are left out that lie behind others."""
ALONG = ("nc", "mz")
"""The axes along which the path of the paper's Figure 8 grows."""
WORDS: dict[str, dict[Any, str]] = {"budget": {0: "none twice"}}
"""Numbers that are no scale, with the values that stand for something else."""
LOG_RATIO = 20
"""An axis whose values span a larger factor is logarithmic."""
MOST_TICKS = 10
"""An axis of so many whole numbers or fewer has a tick at each of them."""
SHADE = 0.45
"""The darkest and the lightest shade of a colour hold so much of black and of white."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def over_axis(rows: pd.DataFrame, varied: list[str], x: str, y: str, colour: str) -> tuple[Figure, str]:
    """Every trial as a point, means over seeds as lines; and the figure in a sentence.

    Args:
        rows: a row a trial, with its last metrics.
        varied: the fields in which the trials of the sweep differ.
        x, y, colour: columns.
    """
    needed = {"trial_id", "status", *SETTINGS, "seed", *varied, x, y, colour}
    usable = rows.loc[
        rows["status"].isin([TrialStatus.COMPLETED, UNDER_WAY]), [name for name in rows if name in needed]
    ]
    usable = usable[np.isfinite(usable[y].astype(float))] if {y, colour} <= set(usable) else usable[:0]
    with_y = len(usable)
    usable = usable[usable[x].notna()] if x in usable else usable[:0]
    without_x = with_y - len(usable)
    numeric = not usable.empty and is_number(usable[x]) and x not in WORDS
    usable = usable.sort_values(x, kind="stable") if numeric else usable.assign(**{x: _words(usable, x)})
    drawn = _thinned(usable, x, y, colour)
    rest = [name for name in varied if name not in (x, colour)]
    hidden = [name for name in differing(usable) if name not in (*varied, x, colour)]
    traces: list[Figure] = []
    looks = _looks(usable, colour)
    apart = [name for name in rest if x not in SIZES or name not in ALONG]
    parts = _parts(usable, apart, colour) if numeric else [("", usable.index)]
    for value, (hue, symbol) in looks.items():
        for (words, members), dash in zip(parts, cycle(DASHES)):
            in_colour = usable[colour].isna() if value is None else usable[colour] == value
            group = usable[in_colour & usable.index.isin(members)]
            if group.empty:
                continue
            name = method_name(str(value)) if colour == "method" else f"{colour} {plain(value)}"
            name = html.escape(f"{name} · {words}" if words else name)
            same = {"legendgroup": name, "name": name}
            traces.append(_means(group, x, y, rest, hidden, hue, symbol, numeric, dash) | same)
            for status, suffix in ((TrialStatus.COMPLETED, ""), (UNDER_WAY, "-open")):
                part = drawn[drawn.index.isin(group.index) & (drawn["status"] == status)]
                if not part.empty:
                    traces.append(_points(part, varied, x, y, hue, symbol + suffix) | same)
    figure: Figure = {"data": traces, "layout": _layout(label(x), label(y), len(looks) > 1, f"{x} {y} {colour}")}
    figure["layout"]["xaxis"] |= _scale(usable[x], x in SIZES) if numeric else _categories(usable, x, rows)
    if not len(usable):
        figure["layout"]["annotations"] = [_nothing("no VAE has numbers for these axes yet")]
    parts_said = [f"{label(y)} against {label(x)}, colour by {label(colour)}: {len(usable):,} VAEs as points"]
    if under_way := int((usable["status"] == UNDER_WAY).sum()):
        parts_said.append(f"{under_way:,} of them under way (open marks)")
    if behind := len(usable) - len(drawn):
        parts_said.append(f"{behind:,} of them behind others")
    if without_x:
        parts_said.append(f"{without_x:,} more have no {label(x)}")
    if not numeric:
        within = [name for name in rest if len(usable) and usable.groupby(x)[name].nunique(dropna=False).max() > 1]
        each = f", one for each {', '.join(label(name) for name in within)}" if within else ""
        said = f"bars are means over seeds{each}"
    else:
        joined = "sizes where nc or mz alone grows" if x in SIZES else f"settings that differ in {label(x)} alone"
        said = f"large marks are means over seeds, with bars from lowest to highest; lines join {joined}"
    return figure, f"{', '.join(parts_said)}; {said}."


def _thinned(rows: pd.DataFrame, x: str, y: str, colour: str) -> pd.DataFrame:
    """At most ``MOST_POINTS`` rows: one of those that lie in the same place, which is as small as that allows."""
    if len(rows) <= MOST_POINTS:
        return rows
    values = rows[y].astype(float)
    height = (values - values.min()) / max(values.max() - values.min(), 1e-300)
    for levels in (256, 128, 64, 32, 16, 8, 4):
        places = pd.DataFrame({"x": rows[x], "colour": rows[colour], "y": (height * levels).round()})
        kept = rows[~places.duplicated()]
        if len(kept) <= MOST_POINTS:
            return kept
    return kept[:: -(-len(kept) // MOST_POINTS)]


def _words(rows: pd.DataFrame, x: str) -> pd.Series:
    """The values of a column that is no scale, as they stand below the axis."""
    return rows[x].map(lambda value: WORDS.get(x, {}).get(value) or plain(value))


def _categories(rows: pd.DataFrame, x: str, all_rows: pd.DataFrame) -> Figure:
    """An axis of words: numbers in their order, those that mean something else last."""
    if x == "method" and not rows.empty:
        methods = rows[x].unique().tolist()
        names = [html.escape(method_name(method)) for method in methods]
        return {"type": "category", "tickvals": methods, "ticktext": names}
    if x not in WORDS or rows.empty:
        return {"type": "category"}
    values = sorted(all_rows[x].dropna().unique(), key=lambda value: (value in WORDS[x], value))
    order = [WORDS[x].get(value) or plain(value) for value in values]
    return {"type": "category", "categoryorder": "array", "categoryarray": order}


def _parts(rows: pd.DataFrame, rest: list[str], colour: str) -> list[tuple[str, pd.Index]]:
    """The rows by what else they differ in, with its words, where that are few parts; else all in one."""
    if not rest:
        return [("", rows.index)]
    groups = [(key, part.index) for key, part in rows.groupby(rest, dropna=False)]
    by_colour = rows[[colour, *rest]].drop_duplicates()[colour].value_counts(dropna=False)
    if len(groups) > len(DASHES) or by_colour.max() <= 1:
        return [("", rows.index)]
    return [(", ".join(f"{n} {plain(v)}" for n, v in zip(rest, key, strict=True)), index) for key, index in groups]


def _looks(rows: pd.DataFrame, colour: str) -> dict[Any, tuple[str, str]]:
    """The colour and the mark of each group, in the order of the legend; None stands for those without a value."""
    if rows.empty:
        return {}
    values = sorted(rows[colour].dropna().unique(), key=lambda v: (v != "normal", v))
    values += [None] * bool(rows[colour].isna().any())
    if colour == "method":
        hues = [method_colour(str(value)) for value in values]
    elif len(values) <= len(LINE_COLOURS):
        hues = list(LINE_COLOURS)
    else:
        hues = [SCALE[round(i * (len(SCALE) - 1) / (len(values) - 1))] for i in range(len(values))]
    return {value: (hues[i], SYMBOLS[i % len(SYMBOLS)]) for i, value in enumerate(values)}


def _lines(done: pd.DataFrame, x: str, y: str, rest: list[str], hidden: list[str]) -> list[pd.DataFrame]:
    """The statistics over seeds (``style.mean_and_spread``), in pieces that a line joins: settings that differ in ``x``
    alone; over sizes, the stretches of the path of the paper's Figure 8, and each point off it by itself.

    Args:
        rest: the fields that tell lines apart.
        hidden: further settings in which trials differ: these are points of their own on one line.
    """
    along = [name for name in ALONG if x in SIZES and name in done]
    apart = [name for name in rest if name not in along]
    setting = done.groupby(apart, dropna=False, sort=False).ngroup() if apart else 0
    unseen = done.groupby(hidden, dropna=False, sort=False).ngroup() if hidden else 0
    points = mean_and_spread(done.assign(setting=setting, unseen=unseen), ["setting", *along, x, "unseen"], y)
    pieces: list[pd.DataFrame] = []
    for _, line in points.groupby("setting"):
        if len(along) < 2:
            pieces.append(line)
            continue
        runs = [run for _, run in path_runs(path_order(line))]
        joined = {point for run in runs for point in zip(*(run[name] for name in along), strict=True)}
        off = [i for i, point in enumerate(zip(*(line[name] for name in along), strict=True)) if point not in joined]
        pieces += [*runs, *(line.iloc[[i]] for i in off)]
    return pieces


def _means(
    rows: pd.DataFrame,
    x: str,
    y: str,
    rest: list[str],
    hidden: list[str],
    hue: str,
    symbol: str,
    numeric: bool,
    dash: str,
) -> Figure:
    """One trace of the means over seeds: lines over numbers (``_lines``), over words a bar for each setting."""
    done = rows[rows["status"] == TrialStatus.COMPLETED]
    done = done.assign(**{y: done[y].astype(float)})
    pieces = _lines(done, x, y, rest, hidden)
    gap = pd.DataFrame([dict.fromkeys((x, "mean", "min", "max"))])
    points = pd.concat([part for piece in pieces for part in (piece[list(gap)].astype(object), gap)], ignore_index=True)
    look = {"symbol": symbol, "size": 9, "line": {"width": 1, "color": "white"}}
    if not numeric:
        look = {"symbol": "line-ew", "size": 34, "line": {"width": 3, "color": hue}}
    return {
        "type": "scatter",
        "x": points[x].tolist(),
        "y": points["mean"].tolist(),
        "error_y": {
            "visible": numeric,
            "type": "data",
            "array": [None if high is None else high - mean for high, mean in points[["max", "mean"]].to_numpy()],
            "arrayminus": [None if low is None else mean - low for low, mean in points[["min", "mean"]].to_numpy()],
            "color": hue,
            "thickness": 1,
            "width": 0,
        },
        "mode": "lines+markers" if numeric else "markers",
        "line": {"color": hue, "width": 2, "dash": dash},
        "marker": {"color": hue, **look},
        "hoverinfo": "skip",
    }


def _points(rows: pd.DataFrame, varied: list[str], x: str, y: str, hue: str, symbol: str) -> Figure:
    return {
        "type": "scatter",
        "x": rows[x].tolist(),
        "y": rows[y].astype(float).tolist(),
        "mode": "markers",
        "marker": {
            "color": hue,
            "symbol": symbol,
            "size": 7,
            "opacity": 0.9 if symbol.endswith("-open") else 0.55,
        },
        "customdata": rows["trial_id"].tolist(),
        "text": [html.escape(words) for words in settings(rows, varied)],
        "hovertemplate": f"%{{text}}<br>{label(y)} <b>%{{y:.4~f}}</b><br>trial %{{customdata}}<extra></extra>",
        "showlegend": False,
    }


def _shades(methods: list[str]) -> list[str]:
    """The colour of each method; of trials with the same method shades of it, from dark to light."""
    hues = []
    for number, method in enumerate(methods):
        place, count = methods[:number].count(method), methods.count(method)
        mixed = 0.0 if count == 1 else SHADE * (2 * place / (count - 1) - 1)
        parts = (int(method_colour(method)[at : at + 2], 16) for at in (1, 3, 5))
        mix = [part * (1 - abs(mixed)) + (255 * mixed if mixed > 0 else 0) for part in parts]
        hues.append("#" + "".join(f"{round(part):02x}" for part in mix))
    return hues


def curves(metrics: pd.DataFrame, names: dict[str, str], quantity: str, methods: dict[str, str]) -> tuple[Figure, str]:
    """Learning curves of a few trials: of the test set drawn through, of the training set dashed; the colour is that of
    the method.

    Args:
        metrics: rows of evaluations.
        names: trial id -> what the trial is called, in the order of the legend.
        quantity: ``elbo`` for the columns ``elbo_train`` and ``elbo_test``, or the name of one column.
        methods: trial id -> its method.
    """
    sides = [(f"{quantity}_test", "test", "solid"), (f"{quantity}_train", "training", "dash")]
    sides = [side for side in sides if side[0] in metrics] or [(quantity, "", "solid")]
    traces = []
    shades = _shades([methods[trial] for trial in names])
    for number, (trial, name) in enumerate(names.items()):
        mine = metrics[metrics["trial_id"] == trial]
        hue, symbol = shades[number], SYMBOLS[number % len(SYMBOLS)]
        for column, side, dash in sides:
            known = mine[mine[column].notna()]
            said = html.escape(f"{name}{', ' if side else ''}{side}")
            traces.append(
                {
                    "type": "scatter",
                    "x": known["effective_epoch"].tolist(),
                    "y": known[column].tolist(),
                    "mode": "lines+markers",
                    "line": {"color": hue, "dash": dash, "width": 2},
                    "marker": {"symbol": symbol + ("" if dash == "solid" else "-open"), "size": 7},
                    "name": said,
                    "legendgroup": trial,
                    "hovertemplate": f"{said}<br>epoch %{{x}}: <b>%{{y:.4~f}}</b><extra></extra>",
                }
            )
    figure: Figure = {"data": traces, "layout": _layout("effective epochs", label(quantity), True, quantity)}
    figure["layout"]["xaxis"] |= _scale(metrics["effective_epoch"])
    if metrics.empty:
        figure["layout"]["annotations"] = [_nothing("no VAE has an evaluation yet")]
    many = "1 VAE" if len(names) == 1 else f"{len(names)} VAEs"
    lines = ": test set drawn through, training set dashed" if len(sides) == 2 else ""
    return figure, f"{label(quantity)} of {many} over effective epochs{lines}."


def _scale(values: pd.Series, always: bool = False) -> Figure:
    """A logarithmic axis where the values span much, or ``always`` where that can be; else a linear one."""
    known = values.dropna().astype(float)
    if known.empty:
        return {"type": "linear"}
    low, high = known.min(), known.max()
    is_log = low > 0 and (always or high / low > LOG_RATIO)
    scale: Figure = {"type": "log" if is_log else "linear"}
    if not (is_whole := bool((known % 1 == 0).all())) and not is_log:
        return scale
    if is_whole and known.nunique() <= MOST_TICKS and not always:
        ticks = sorted(known.unique())
        return scale | {"tickvals": ticks, "ticktext": [plain(tick) for tick in ticks]}
    if is_log:  # D2: also 2 and 5 of every decade
        return scale | {"dtick": 1 if high / low >= 200 else "D2", "tickformat": "~s" if is_whole else "~r"}
    step = (high - low) / MOST_TICKS
    decade = 10 ** math.floor(math.log10(step))
    return scale | {"tick0": 0, "dtick": max(1, decade * next(n for n in (1, 2, 5, 10) if n * decade >= step))}


def _layout(x: str, y: str, legend: bool, revision: str) -> Figure:
    axis = {"gridcolor": GRID, "linecolor": FAINT, "zeroline": False, "automargin": True, "ticks": "outside"}
    return {
        "template": None,
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
        "xaxis": {**axis, "title": {"text": x}},
        "yaxis": {**axis, "title": {"text": y}},
        "showlegend": legend,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "white", "bordercolor": FAINT, "font": {"color": INK}, "align": "left"},
        "dragmode": False,
        "modebar": {"orientation": "v", "bgcolor": "rgba(255,255,255,0.8)", "color": FAINT},
        "uirevision": revision,
    }


def _nothing(why: str) -> Figure:
    where = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
    return {"text": why, "showarrow": False, "font": {"size": 15, "color": FAINT}, **where}
