"""The space of an adaptive search: its dimensions, each a finite row of values, and the points between them.

    nc=4:256:log         a logarithmic grid, so many values a factor of ten (``A_DECADE``), the ends among them
    mz=1:8               whole numbers
    augment_strength=0.5:2:0.25
    augmentation=none|tuned
    beta=1               fixed

Finite rows make a point one specification, so that its trials have ids like all others and none is trained twice. The
logarithmic grids stand at fixed places: two spaces that overlap share the points of the overlap.
"""

import math
import random
from dataclasses import dataclass
from typing import Any

from vaegen_ray.errors import SpecError, not_one_of

Point = dict[str, Any]
"""A value for each dimension that has a meaning there, in the order of the space."""

WHOLE = ("nc", "mz", "batch_size", "hidden_layers")
NUMBERS = ("beta", "learning_rate", "augment_probability", "augment_strength")
AUGMENTATIONS = ("none", "naive", "tuned")
NAMES = (*WHOLE, *NUMBERS, "augmentation")
"""What can be searched: fields of a trial, and ``augmentation``, which becomes its method."""
OF_AUGMENTATION = ("augment_probability", "augment_strength")
"""Dimensions that have no meaning without augmentation."""
A_DECADE = 12
"""Values of a logarithmic grid in a factor of ten: steps of 21 %."""
MOST_VALUES = 1000
"""Values of a dimension at most."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that is searched over."""

    name: str
    values: tuple[Any, ...]
    """What it can be, in order; of ``augmentation`` in no order."""
    log: bool = False
    """The values are evenly spaced in the logarithm."""

    @property
    def ordered(self) -> bool:
        """Neighbouring values are like each other."""
        return self.name != "augmentation"

    def __str__(self) -> str:
        if not self.ordered or len(self.values) < 3:
            return f"{self.name} {' | '.join(f'{value:g}' if self.ordered else value for value in self.values)}"
        scale = ", logarithmic" if self.log else ""
        return f"{self.name} {self.values[0]:g} to {self.values[-1]:g} ({len(self.values)} values{scale})"


@dataclass(frozen=True)
class Space:
    """All dimensions, by rising place in ``NAMES``."""

    dimensions: tuple[Dimension, ...]

    def __getitem__(self, name: str) -> Dimension:
        return next(dimension for dimension in self.dimensions if dimension.name == name)

    @property
    def searched(self) -> tuple[Dimension, ...]:
        """The dimensions that are not fixed."""
        return tuple(dimension for dimension in self.dimensions if len(dimension.values) > 1)

    def active(self, point: Point) -> tuple[Dimension, ...]:
        """The dimensions that have a meaning at a point whose augmentation, at least, is known."""
        plain = point.get("augmentation", "none") == "none"
        return tuple(each for each in self.dimensions if not (plain and each.name in OF_AUGMENTATION))

    @property
    def size(self) -> int:
        """How many points there are."""
        return sum(math.prod(len(each.values) for each in self.active(kind) if each.ordered) for kind in self._kinds)

    @property
    def corners(self) -> list[Point]:
        """The points with all dimensions at their first values, and at their last, with every augmentation."""
        return [
            {each.name: each.values[end] if each.ordered else kind[each.name] for each in self.active(kind)}
            for kind in self._kinds
            for end in (0, -1)
        ]

    @property
    def _kinds(self) -> list[Point]:
        """What there is of dimensions without an order, which decide which others have a meaning."""
        kinds = next((each.values for each in self.dimensions if not each.ordered), None)
        return [{}] if kinds is None else [{"augmentation": kind} for kind in kinds]

    def at_random(self, generator: random.Random) -> Point:
        """A point: every value of a dimension is as likely as the others."""
        kind = {each.name: generator.choice(each.values) for each in self.dimensions if not each.ordered}
        return {
            each.name: kind[each.name] if each.name in kind else generator.choice(each.values)
            for each in self.active(kind)
        }

    def holds(self, point: Point) -> bool:
        """Whether a point is one of this space."""
        names = [dimension.name for dimension in self.active(point)]
        return set(point) == set(names) and all(point[name] in self[name].values for name in names)


def parse_space(usual: str, changes: str = "") -> Space:
    """The space of two texts, such as ``nc=4:64:log,beta=1``; a dimension of the second replaces one of the first.

    Raises:
        SpecError: a text is no space, or nothing is left to search.
    """
    own = _dimensions(changes) if changes else {}
    dimensions = {**_dimensions(usual), **own}
    if "augmentation" not in dimensions or dimensions["augmentation"].values == ("none",):
        for name in OF_AUGMENTATION:
            if name in (own or dimensions):
                raise SpecError(
                    f"{name} needs an augmentation, such as augmentation=none|tuned; got {changes or usual!r}"
                )
            dimensions.pop(name, None)
    space = Space(tuple(dimensions[name] for name in NAMES if name in dimensions))
    if space.size < 2:
        raise SpecError(f"a space must have at least 2 points; got {space.size} with {changes or usual!r}")
    return space


def point_text(point: Point) -> str:
    """``nc 64, mz 2, beta 0.68``."""
    return ", ".join(
        f"{name} {value:g}" if name != "augmentation" else f"{name} {value}" for name, value in point.items()
    )


def _dimensions(text: str) -> dict[str, Dimension]:
    found: dict[str, Dimension] = {}
    for part in text.split(","):
        name, equals, values = part.strip().partition("=")
        if not equals or not values:
            raise SpecError(
                f"a dimension of a space is NAME=LOW:HIGH, NAME=LOW:HIGH:log, NAME=LOW:HIGH:STEP or NAME=A|B, such as "
                f"nc=4:64:log; got {part!r}"
            )
        if name not in NAMES:
            raise SpecError(not_one_of("a dimension of a space", name, NAMES))
        if name in found:
            raise SpecError(f"a space must name each dimension once; got {name} twice")
        found[name] = _dimension(name, values)
    return found


def _dimension(name: str, text: str) -> Dimension:
    log = text.endswith(":log")
    if name == "augmentation":
        values: tuple[Any, ...] = tuple(text.split("|"))
        if not set(values) <= set(AUGMENTATIONS):
            raise SpecError(not_one_of("augmentation of a space", text, AUGMENTATIONS))
    elif ":" in text:
        values = _grid(name, text)
    else:
        values = tuple(sorted(_number(name, value) for value in text.split("|")))
    if len(set(values)) < len(values):
        raise SpecError(f"{name} of a space must have each value once; got {text!r}")
    return Dimension(name=name, values=values, log=log)


def _grid(name: str, text: str) -> tuple[Any, ...]:
    low_text, high_text, *more = text.split(":")
    low, high = _number(name, low_text), _number(name, high_text)
    how = more[0] if more else "1" if name in WHOLE else ""
    if len(more) > 1 or not how or low >= high:
        step = "" if name in WHOLE else " with the step, or log,"
        raise SpecError(f"{name} of a space must be LOW:HIGH{step} and LOW < HIGH; got {text!r}")
    if how == "log":
        if low <= 0:
            raise SpecError(f"{name} of a space must begin above 0 to be logarithmic; got {text!r}")
        first, last = (round(A_DECADE * math.log10(value)) for value in (low, high))
        inner = (_rounded(name, 10 ** (place / A_DECADE)) for place in range(first, last + 1))
    else:
        step_size = _number(name, how)
        if step_size <= 0 or (high - low) / step_size > MOST_VALUES:
            raise SpecError(f"{name} of a space must have from 2 to {MOST_VALUES} values; got {text!r}")
        inner = (_rounded(name, low + i * step_size, 6) for i in range(int((high - low) / step_size + 1e-9) + 1))
    inside = (value for value in inner if low < value < high and not (how == "log" and _near(value, low, high)))
    values = tuple(sorted({low, *inside, high}))
    if len(values) > MOST_VALUES:
        raise SpecError(f"{name} of a space must have from 2 to {MOST_VALUES} values; got {len(values)} with {text!r}")
    return values


def _near(value: float, low: float, high: float) -> bool:
    """A value of a grid stands less than half a step from an end."""
    half = 10 ** (0.5 / A_DECADE)
    return value < low * half or value > high / half


def _rounded(name: str, value: float, digits: int = 2) -> Any:
    return round(value) if name in WHOLE else float(f"{value:.{digits}g}")


def _number(name: str, text: str) -> Any:
    value: Any = math.nan
    try:
        value = int(text) if name in WHOLE else float(text)
        finite = math.isfinite(value)
    except (ValueError, OverflowError):
        finite = False
    if not finite:
        kind = "whole numbers" if name in WHOLE else "numbers"
        raise SpecError(f"{name} of a space must be of {kind}; got {text!r}")
    return value
