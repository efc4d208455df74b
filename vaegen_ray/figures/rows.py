"""Which rows a figure may use, and the words that say so."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vaegen_ray.errors import SpecError, VaegenError


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
        found = sorted(rows[column].unique())
        if len(found) > 1:
            listed = ", ".join(map(str, found))
            raise SpecError(f"rows of one figure must share one {column}; got {listed} (select one)")


def require_one_stream(rows: pd.DataFrame) -> None:
    """Refuse DMaaPx trials that were trained on the samples of different diffusion models.

    Raises:
        SpecError: there are several ``samples_digest``.
    """
    if "samples_digest" in rows:
        require_one(rows[rows["samples_digest"].notna()], ("samples_digest",))


def facts(rows: pd.DataFrame, seeds: pd.Series) -> str:
    """Data set, training images, epochs, and how many ``seeds`` a point has: the line below a title."""
    first, low, high = rows.iloc[0], seeds.min(), seeds.max()
    span = str(high) if low == high else f"{low} to {high}"
    spread = "1 seed" if high == 1 else f"mean of {span} seeds, bars from lowest to highest"
    return f"{first['dataset']}, {first['n_train']:,} training images, {first['epochs']:,} epochs; {spread}"
