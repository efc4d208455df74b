"""Checks of numbers in specifications."""

import math
from typing import Any

from vaegen_ray.errors import SpecError

LARGEST = 1e300
"""Larger numbers count as infinite."""
MOST = 1_000_000_000
"""The largest integer by default."""


def check_int(name: str, value: Any, at_least: int, at_most: int = MOST) -> None:
    """Checks an integer, by default from ``at_least`` to ``MOST``.

    Raises:
        SpecError: it is not an integer, or out of range.
    """
    if type(value) is not int or not at_least <= value <= at_most:
        upto = f" and <= {at_most}" if at_most != MOST or (type(value) is int and value > MOST) else ""
        raise SpecError(f"{name} must be a whole number >= {at_least}{upto}; got {value!r}")


def check_floats(
    owner: Any, of: str, names: tuple[str, ...], low: float, high: float = math.inf, *, low_included: bool = False
) -> None:
    """Checks numbers in fields of a frozen dataclass and converts them to float: 1 and 1.0, -0.0 and 0 are the same.

    Raises:
        SpecError: one is not a number, or out of range.
    """
    for name in names:
        value = getattr(owner, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
        if not is_number or not (low <= value if low_included else low < value) or not value < high:
            sign = ">=" if low_included else ">"
            raise SpecError(f"{name} of the {of} must be a number {sign} {low:g} and < {high:g}; got {value!r}")
        object.__setattr__(owner, name, float(value) + 0.0)


def check_ints(name: str, value: Any) -> tuple[int, ...]:
    """A tuple of integers from 1 on.

    Raises:
        SpecError: it is not.
    """
    if not isinstance(value, (list, tuple)) or not all(type(number) is int and number >= 1 for number in value):
        raise SpecError(f"{name} must be a tuple of whole numbers >= 1; got {value!r}")
    return tuple(value)
