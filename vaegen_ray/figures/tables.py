"""Markdown tables with a row a method: means over the seeds, the best of a column in bold."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from vaegen_ray.figures import style

HIGHEST, NEAREST = operator.neg, abs
"""How bad a mean is: where the highest is best, and where the one nearest to 0 is. A gap may be negative."""

FEWER = "In brackets: how many seeds have the number, where not all do"


class Column(NamedTuple):
    """What a column shows."""

    heading: str
    badness: Callable[[float], float] | None = None
    """None: no mean is better than another."""


def methods_table(rows: pd.DataFrame, columns: Mapping[str, Column], left_out: str) -> str:
    """Mean ± standard deviation over the seeds, then what the numbers are.

    Args:
        rows: a row a trial of one experiment, at its last evaluation; a value may be NaN.
        columns: what is shown of each value.
        left_out: a footnote.
    """
    methods = style.methods_in(rows)
    trials = [rows[rows["method"] == method] for method in methods]
    cells = [[style.method_name(method) for method in methods]]
    for value, column in columns.items():
        shown = [_mean(of_method[value].astype(float)) for of_method in trials]
        means = [float(of_method[value].astype(float).mean()) for of_method in trials]
        cells.append(shown if column.badness is None else _bold_best(shown, [column.badness(mean) for mean in means]))
    cells.append([str(len(of_method)) for of_method in trials])
    table = style.markdown(["", *(column.heading for column in columns.values()), "Seeds"], zip(*cells, strict=True))

    first = rows.iloc[0]
    notes = [
        f"{first['dataset']}, {first['n_train']:,} training images, {first['epochs']:,} epochs, nc = {first['nc']}, "
        f"mz = {first['mz']}",
        "ELBOs and their gaps in nats an image; mean ± standard deviation over the seeds",
        "Bold: the highest ELBO and the gap nearest to 0",
        FEWER if any("(" in cell for cell in chain(*cells[1:])) else "",
        left_out,
    ]
    return f"{table}\n{'. '.join(filter(None, notes))}.\n"


def _mean(values: pd.Series) -> str:
    """``style.plus_minus``, and how many seeds have the number where not all have it."""
    known = int(np.isfinite(values).sum())
    return style.plus_minus(values) + (f" ({known})" if 0 < known < len(values) else "")


def _bold_best(cells: Sequence[str], badness: Sequence[float]) -> list[str]:
    """``cells`` with the least bad in bold; as they are where there is no other to be better than."""
    known = [number for number in badness if math.isfinite(number)]
    best = min(known) if len(known) > 1 else math.nan
    return [f"**{cell}**" if number == best else cell for cell, number in zip(cells, badness, strict=True)]
