"""Labels beside points that cover neither each other nor the curves.

Letters: N labels, C places tried for a label, P dots of ink, D dots of a leader (the thin line to a label). Boxes are
left, bottom, right, top. Everything is in pixels unless the name or the text says otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray

from vaegen_ray.figures.style import FAINT, SMALL_SIZE, words

Array = NDArray[np.float64]

DISTANCES = (6.0, 11.0, 18.0, 27.0, 38.0)
"""Tried gaps between a point and its label, in typographic points; beyond the first a leader is drawn."""
ANGLES = np.deg2rad(np.arange(90, 450, 15))
"""Tried directions, the one straight up first."""
PAD = 1.5
"""Free space around a label, in typographic points."""
LEADER_DOTS = 12
ROUNDS = 6
"""Each round places every label again, given all others; few rounds settle a few dozen labels."""

COVERS_LABEL, COVERS_INK, CROSSES = 2000.0, 30.0, 3.0
"""Cost of covering a label or leaving the panel; of each dot of ink covered; of each dot that a leader touches. A place
that offends nobody costs its distance."""


@dataclass(frozen=True)
class Places:
    """Where one label could go."""

    boxes: Array
    """(C, 4), padded."""
    leaders: Array
    """(C, D, 2), up to the box, from the first distance on: nearer the point its marker and lines are in the way."""
    distances: Array
    """(C,) in typographic points."""


def place_labels(axes: Axes, points: Array, texts: Sequence[str], lines: Sequence[Array]) -> list[Annotation]:
    """Write ``texts`` beside ``points``, (N, 2) in data units, each at the cheapest of a ring of places.

    Args:
        axes: the panel; the layout of its figure and its limits are final.
        points: what is labelled.
        texts: one label a point.
        lines: polylines, each (K, 2) in data units, that labels should not cover.
    """
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    scale = axes.figure.dpi / 72
    centres = axes.transData.transform(points)
    ink = np.concatenate([centres, *(_dotted(axes.transData.transform(line), step=2 * scale) for line in lines)])
    panel = np.array(axes.get_window_extent().extents)
    legend = axes.get_legend()
    fixed = np.array([legend.get_window_extent(renderer).extents]) if legend else np.empty((0, 4))

    notes = [
        axes.annotate(
            text, (x, y), (0, 0), textcoords="offset points", ha="center", va="center", **words(SMALL_SIZE),
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2.5},
        )
        for (x, y), text in zip(points, texts, strict=True)
    ]  # fmt: skip
    sizes = [np.array(Text.get_window_extent(note, renderer).size) for note in notes]  # without the leader
    places = [_places(at, size, scale) for at, size in zip(centres, sizes, strict=True)]
    alone = [_cost_alone(tried, ink, fixed, panel, scale) for tried in places]
    chosen = _settle(places, alone, scale)

    for note, at, tried, i in zip(notes, centres, places, chosen, strict=True):
        middle = (tried.boxes[i, :2] + tried.boxes[i, 2:]) / 2
        note.set_position(tuple((middle - at) / scale))
        note.arrow_patch.set_visible(bool(tried.distances[i] > DISTANCES[0]))  # type: ignore[union-attr]
        note.set_in_layout(False)
    return notes


def _places(at: Array, size: Array, scale: float) -> Places:
    """The ring of places for a label of ``size`` (2,) around its point ``at`` (2,)."""
    angles, distances = (grid.ravel() for grid in np.meshgrid(ANGLES, np.array(DISTANCES)))
    towards = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (C, 2)
    middle, half = at + towards * (distances[:, None] * scale + size / 2), size / 2 + PAD * scale
    along = np.linspace(DISTANCES[0], distances, LEADER_DOTS, axis=1) * scale  # (C, D)
    leaders = at + towards[:, None] * along[..., None]
    return Places(np.concatenate([middle - half, middle + half], axis=1), leaders, distances)


def _cost_alone(places: Places, ink: Array, fixed: Array, panel: Array, scale: float) -> Array:
    """Cost (C,) of each place if there were no other labels."""
    boxes = places.boxes
    outside = np.any(boxes[:, :2] < panel[:2], axis=1) | np.any(boxes[:, 2:] > panel[2:], axis=1)
    return (
        places.distances
        + COVERS_INK * _inside(ink, boxes).sum(axis=1)
        + CROSSES * _touching(places.leaders, ink, scale)
        + COVERS_LABEL * (_overlap(boxes, fixed).sum(axis=1) + outside)
    )


def _settle(places: list[Places], alone: list[Array], scale: float) -> list[int]:
    """Choose a place for each label: in turn the cheapest given all others, until nothing moves."""
    chosen = [0] * len(places)
    for _ in range(ROUNDS):
        before = list(chosen)
        for i, tried in enumerate(places):
            others = [(places[k].boxes[chosen[k]], places[k].leaders[chosen[k]]) for k in range(len(places)) if k != i]
            if not others:
                return [int(np.argmin(alone[i]))]
            boxes, leaders = np.stack([box for box, _ in others]), np.concatenate([leader for _, leader in others])
            dots = tried.leaders.reshape(-1, 2)
            covered = _inside(dots, boxes).any(axis=0).reshape(len(tried.boxes), -1).sum(axis=1)
            cost = (
                alone[i]
                + COVERS_LABEL * _overlap(tried.boxes, boxes).sum(axis=1)
                + COVERS_INK * (_inside(leaders, tried.boxes).sum(axis=1) + covered)
                + COVERS_INK * _touching(tried.leaders, leaders, scale)
            )
            chosen[i] = int(np.argmin(cost))
        if chosen == before:
            break
    return chosen


def _dotted(line: Array, step: float) -> Array:
    """Dots at most ``step`` apart along a polyline (K, 2)."""
    dots = [line[:1]]
    for start, end in pairwise(line):
        count = max(1, int(np.ceil(np.hypot(*(end - start)) / step)))
        dots.append(start + (end - start) * np.linspace(0, 1, count + 1)[1:, None])
    return np.concatenate(dots)


def _inside(dots: Array, boxes: Array) -> NDArray[np.bool_]:
    """Which dots (P, 2) lie in which boxes (C, 4), as (C, P)."""
    return np.all((dots >= boxes[:, None, :2]) & (dots <= boxes[:, None, 2:]), axis=-1)


def _touching(leaders: Array, dots: Array, scale: float) -> Array:
    """How many dots of each leader (C, D, 2) lie within a line's width of any of ``dots`` (P, 2), as (C,)."""
    width = 1.5 * scale
    around = np.concatenate([leaders.min(axis=(0, 1)) - width, leaders.max(axis=(0, 1)) + width])
    dots = dots[_inside(dots, around[None])[0]]  # most are far away
    close = [np.abs(leaders[..., None, axis] - dots[:, axis]) < width for axis in (0, 1)]  # (C, D, P) each
    touches: Array = (close[0] & close[1]).any(axis=-1).sum(axis=1)
    return touches


def _overlap(boxes: Array, others: Array) -> NDArray[np.bool_]:
    """Which boxes (C, 4) share area with which others (N, 4), as (C, N)."""
    return np.all((boxes[:, None, :2] < others[:, 2:]) & (others[:, :2] < boxes[:, None, 2:]), axis=-1)
