"""What an evaluation hands back for one member: numbers for its row, and further series of numbers."""

from typing import NamedTuple


class Detail(NamedTuple):
    """A named series of numbers that is no column of its own: a line, an image, an accuracy on a corruption."""

    quantity: str
    """What the numbers are, such as ``log_q``."""
    item: str
    """Which of them, such as ``pair-3``."""
    values: list[float]


class EvaluationResult(NamedTuple):
    """One member's part of an evaluation."""

    row: dict[str, float]
    """Column of ``metrics/`` -> value."""
    details: list[Detail]
