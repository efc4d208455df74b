"""Which rows a figure may use, and the words that say so."""

import shlex
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.results.groups import SETTINGS, find_values, mixed, with_versions

EVALUATION_COLUMNS = ("evaluate_at", "measures")
"""Settings that say when and what is measured and do not change a training; the points of a line may differ in them."""

NOTE_LENGTH = 125
"""Letters in a line of a footnote."""


def usable(rows: pd.DataFrame, values: Sequence[str], keys: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """The completed trials of ``rows`` whose ``values`` are all finite, and a footnote that counts the others.

    Args:
        rows: one row a trial, with ``status``, the ``values`` and the ``keys``.
        values: columns of numbers that the figure averages.
        keys: further columns that the figure reads.

    Raises:
        VaegenError: no such trial.
        SpecError: a column is missing.
    """
    if rows.empty:
        raise VaegenError("a figure needs at least one completed trial; got no rows (has a bundle finished yet?)")
    needed = ("status", *values, *keys)
    if not set(needed) <= set(rows.columns):
        raise SpecError(f"rows of this figure must have the columns {', '.join(needed)}; got {', '.join(rows.columns)}")
    completed = (rows["status"] == "completed").to_numpy(dtype=bool, na_value=False)
    finite = np.all([np.isfinite(rows[value].to_numpy(dtype=float, na_value=np.nan)) for value in values], axis=0)
    failed = (rows["status"] == "failed").to_numpy(dtype=bool, na_value=False)
    reasons = {
        "failed": failed,
        "not completed": ~completed & ~failed,
        "completed without a finite ELBO": completed & ~finite,
    }
    why = ", ".join(f"{which.sum()} {reason}" for reason, which in reasons.items() if which.any())
    kept = rows[completed & finite]
    if kept.empty:
        raise VaegenError(f"a figure needs at least one completed trial with a finite ELBO; got {len(rows)}: {why}")
    return kept, f"Left out of {len(rows)} trials: {why}" if why else ""


def require_one(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse rows of different experiments, whose mean would mean nothing.

    Raises:
        SpecError: one of ``columns`` has several values.
    """
    for column in columns:
        if rows[column].nunique(dropna=False) > 1:
            raise SpecError(
                f"rows of one figure must share one {column}; got {find_values(rows, column)} {_choose(rows, column)}"
            )


def require_alike(
    rows: pd.DataFrame,
    by: Sequence[str],
    along: Sequence[str] = (),
    everywhere: Sequence[str] = (),
    *,
    follow: Sequence[str] = (),
) -> str:
    """Refuse rows whose mean would not be one over seeds.

    Args:
        rows: one row a trial.
        by: columns that tell lines, colours and panels apart.
        along: columns in which the points of a line differ.
        everywhere: columns that all rows must share, since the figure says them once.
        follow: columns that follow from ``along``, such as the method from the part of real images.

    Returns:
        A footnote where the points of a line differ in more than ``along``, such as a step size for each width; empty
        where they don't.

    Raises:
        SpecError: one of ``everywhere`` has several values; or the trials of a point differ in another field of the
            specification than the seed.
    """
    require_one(rows, everywhere)
    rows = with_versions(rows)
    if fields := mixed(rows, (*by, *along)):
        raise SpecError(
            f"a point of this figure must be a mean over trials that differ in the seed alone; got trials that also "
            f"differ in {_listed(rows, fields)} {_choose(rows, fields[0])}"
        )
    point = [*by, *along, "seed"]
    if set(point) <= set(rows) and (again := rows[rows.duplicated(point, keep=False)]).size:
        got = ", ".join(f"{name} {again[name].iloc[0]}" for name in point)
        raise SpecError(f"a point of this figure must have one trial a seed; got several with {got}")
    beside = [name for name in mixed(rows, by) if name not in (*along, *follow, *EVALUATION_COLUMNS)]
    return f"The points of a line also differ in {_listed(rows, beside)}" if beside else ""


def require_one_stream(rows: pd.DataFrame) -> None:
    """Refuse DMaaPx trials that were trained on the samples of different diffusion models.

    Raises:
        SpecError: there are several ``samples_digest``.
    """
    if "samples_digest" in rows:
        require_one(rows[rows["samples_digest"].notna()], ("samples_digest",))


def _listed(rows: pd.DataFrame, fields: Sequence[str]) -> str:
    return " and ".join(f"{name} ({find_values(rows, name)})" for name in fields)


def _choose(rows: pd.DataFrame, column: str) -> str:
    """How to draw one of several values."""
    if column not in SETTINGS:
        return "(the samples of one diffusion model are needed)"
    value = rows[column].dropna().min()
    return f"(choose one: vaegen figure NAME --where {column}={shlex.quote(str(value))})"


def facts(rows: pd.DataFrame, seeds: pd.Series) -> str:
    """Data set, training images, epochs, and how many ``seeds`` a point has: the line below a title."""
    first, low, high = rows.iloc[0], seeds.min(), seeds.max()
    span = str(high) if low == high else f"{low} to {high}"
    spread = "1 seed" if high == 1 else f"mean of {span} seeds, bars from lowest to highest"
    return f"{first['dataset']}, {first['n_train']:,} training images, {first['epochs']:,} epochs; {spread}"


def footnote(*notes: str) -> str:
    """Those of ``notes`` that are not empty, in lines that fit below a figure."""
    return textwrap.fill(". ".join(filter(None, notes)), NOTE_LENGTH)
