"""Statistics over the seeds of trials that share everything else, or what the reader names."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from vaegen_ray.claims.statistics import LEAST_SEEDS, mean_interval
from vaegen_ray.trial import TrialSpec

POINT = ("dataset", "method", "nc", "mz")
"""What is always said of a group of trials, beside what else differs between them."""
METRICS = ("elbo_test", "generalization_gap")
"""What is shown of a trial unless somebody asks for more."""
VERSIONS = ("numerics_version", "stream_version")
"""What ``spec_json`` holds beside the specification: trials of two versions are no repetitions of each other."""


def with_versions(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with columns for those ``VERSIONS`` in which they differ."""
    specs = {text: _object(text) for text in rows["spec_json"].unique()}
    versions = {name: {text: spec.get(name) for text, spec in specs.items()} for name in VERSIONS}
    columns = {name: rows["spec_json"].map(of_text) for name, of_text in versions.items()}
    return rows.assign(**{name: column for name, column in columns.items() if column.nunique() > 1})


def differing(rows: pd.DataFrame) -> list[str]:
    """``POINT``, then each further field of the specification in which trials of one point differ; not the seed."""
    return [*POINT, *mixed(rows, POINT)]


def mixed(rows: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """The fields of the specification, beside the seed, in which rows differ that are equal in ``keys``."""
    names = [*(field.name for field in fields(TrialSpec)), *VERSIONS]
    trials = rows.drop_duplicates("trial_id")  # of many evaluations each
    others = [name for name in names if name in rows and name not in (*keys, "seed")]
    others = [name for name in others if trials[name].nunique(dropna=False) > 1]
    differs = rows.groupby(list(keys), dropna=False, observed=True)[others].nunique(dropna=False).max() > 1
    return [name for name in others if differs[name]]


def unbalanced(rows: pd.DataFrame, keys: Sequence[str], others: Sequence[str]) -> int:
    """How many groups there are in which not every seed has the same trials, so that means over seeds are of unlike
    things: where a sweep is under way, or seeds were added to a part of it.

    Args:
        others: the fields in which rows of a group differ (``mixed``).
    """

    def sizes(*columns: str) -> pd.Series:
        distinct = rows[[*keys, *columns]].drop_duplicates()
        return distinct.groupby(list(keys), dropna=False, observed=True).size()

    return int((sizes("seed", *others) < sizes("seed") * sizes(*others)).sum())


def extremes(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Mean and range over the rows of each group, sorted by ``keys``.

    Args:
        rows: one row a trial, with its specification and its metrics, nats an image.
        keys: columns that tell groups apart.

    Returns:
        A row a group: the keys, ``seeds``, ``params_total``, ``elbo_test`` (mean, ``_min``, ``_max``) and the mean
        ``generalization_gap``.
    """
    return (
        rows.groupby(list(keys), dropna=False)
        .agg(
            seeds=("seed", "nunique"),
            params_total=("params_total", "first"),
            elbo_test=("elbo_test", "mean"),
            elbo_test_min=("elbo_test", "min"),
            elbo_test_max=("elbo_test", "max"),
            generalization_gap=("generalization_gap", "mean"),
        )
        .reset_index()
    )


def intervals(rows: pd.DataFrame, keys: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Means with their 95 % intervals over seeds, sorted by ``keys``.

    Several trials of one seed in a group are averaged first, so that a seed counts once.

    Args:
        rows: one row a trial or evaluation.
        keys: columns that tell groups apart.
        metrics: columns of numbers; what is not finite is left out.

    Returns:
        A row a group: the keys, ``trials``, ``seeds``, and of each metric the mean, ``_low`` and ``_high`` (NaN for one
        seed, which has no interval) and ``_seeds``, the seeds that have a finite value.
    """
    keys, seeds = list(keys), list(dict.fromkeys([*keys, "seed"]))
    numbers = rows[list(metrics)].astype(float).replace([np.inf, -np.inf], np.nan).add_prefix("number ")
    finite = rows[list(dict.fromkeys([*seeds, "trial_id"]))].join(numbers)
    groups = finite.groupby(keys, dropna=False, observed=True)
    found = groups.agg(trials=("trial_id", "nunique"), seeds=("seed", "nunique")).reset_index()
    of_seeds = finite.groupby(seeds, dropna=False, observed=True)[list(numbers)].mean().reset_index()
    for name in metrics:
        by_group = of_seeds.groupby(keys, dropna=False, observed=True)[f"number {name}"]
        intervals = [_interval(values.dropna().to_numpy()) for _, values in by_group]
        columns = [name, f"{name}_low", f"{name}_high", f"{name}_seeds"]
        found = found.join(pd.DataFrame(intervals, columns=columns))
    return found


def _interval(values: np.ndarray) -> tuple[float, float, float, int]:
    """Mean, lower and upper end, and how many values there are."""
    if len(values) >= LEAST_SEEDS:
        return *mean_interval(values.tolist()), len(values)
    return (float(values[0]) if len(values) else np.nan), np.nan, np.nan, len(values)


def _object(text: str) -> dict[str, Any]:
    """An object of JSON; empty where the text is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
