"""Statistics over the seeds of trials that share everything else, or what the reader names."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vaegen_ray.analysis.statistics import half_width
from vaegen_ray.results.groups import mixed

POINT = ("dataset", "method", "nc", "mz")
"""What is always said of a group of trials, beside what else differs between them."""
METRICS = ("elbo_test", "generalization_gap")
"""What is shown of a trial unless somebody asks for more."""


def default_keys(rows: pd.DataFrame) -> list[str]:
    """``POINT``, then each further field of the specification in which trials of one point differ; not the seed."""
    return [*POINT, *mixed(rows, POINT)]


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
    by_group = of_seeds.groupby(keys, dropna=False, observed=True)
    for name in metrics:
        values = by_group[f"number {name}"].agg(["mean", "var", "count"]).reset_index(drop=True)
        half = half_width(values["var"], values["count"])
        ends = {f"{name}_low": values["mean"] - half, f"{name}_high": values["mean"] + half}
        found = found.assign(**{name: values["mean"], **ends, f"{name}_seeds": values["count"]})
    return found
