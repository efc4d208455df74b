"""Tables for a terminal."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from vaegen_ray.errors import printable

GAP = "  "
"""Between two columns."""


def print_rows(rows: list[list[str]], empty: str) -> int:
    """Prints a table, or what to say of an empty one; returns exit code 0."""
    print(fitted(rows) if len(rows) > 1 else empty)
    return 0


def fitted(rows: Sequence[Sequence[str]]) -> str:
    """``aligned``, and in a terminal that is too narrow the words of the head below each other, cut at ``_`` and
    spaces."""
    text = aligned(rows)
    if not sys.stdout.isatty() or max(map(len, text.splitlines())) <= shutil.get_terminal_size().columns:
        return text
    heads = [name.replace(" ", "_").split("_") for name in rows[0]]
    height = max(map(len, heads))
    low = [[""] * (height - len(words)) + words for words in heads]  # so that the last word stands above the numbers
    return aligned([*zip(*low, strict=True), *rows[1:]], heads=height)


def aligned(rows: Iterable[Sequence[str]], width: int | None = None, *, heads: int = 1) -> str:
    """Rows of words as columns, the first ones being the head; numbers stand to the right. Words may come from files of
    others.

    Args:
        width: wrap the last column so that lines are no longer than this; None for lines as long as they are.
        heads: rows of the head.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(map(_is_number, column[heads:])) and len(column) > heads for column in columns]
    indent = sum(widths[:-1]) + len(GAP) * (len(widths) - 1)
    lines = []
    for row in rows:
        *cells, last = (
            cell.rjust(w) if to_right else cell.ljust(w) for cell, w, to_right in zip(row, widths, right, strict=True)
        )
        first, *more = (textwrap.wrap(last, width - indent) if width else None) or [last]
        lines.append(GAP.join([*cells, first]).rstrip())
        lines += [" " * indent + part for part in more]
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    """Also of an interval, ``-20.14 ± 0.58``, with how many seeds it is of, ``(2)``, and where there is none, ``-``."""
    try:
        float(text.partition(" ±")[0].partition(" (")[0].replace(",", ""))
    except ValueError:
        return text in ("", "-")
    return True
