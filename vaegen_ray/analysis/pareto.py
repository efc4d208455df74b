"""Points of a search: means over seeds, the Pareto front, and the importance of each column."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaegen_ray.results.groups import mixed
from vaegen_ray.search.space import NAMES

POINT_COLUMNS = tuple("method" if name == "augmentation" else name for name in NAMES)
"""Columns of trials in which the points of a search may differ."""
FEWEST = 10
"""The least number of points for which importances are computed."""
TREES = 300


def find_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Average trials over seeds: one row per point, in the order in which the points ended.

    A row has the columns of its point, ``params_total``, the mean ``elbo_validation`` and ``elbo_test`` over its seeds,
    and the number of ``seeds``.

    Trials of a point differ in the seed alone.

    Args:
        rows: one row a trial, of one search, with its last metrics.
    """
    grouped = rows.groupby([*POINT_COLUMNS, *mixed(rows, POINT_COLUMNS)], sort=False, dropna=False)
    points = grouped.agg(
        params_total=("params_total", "first"),
        elbo_validation=("elbo_validation", "mean"),
        elbo_test=("elbo_test", "mean"),
        seeds=("seed", "count"),
        finished_at=("finished_at", "max"),
    )
    return points.reset_index().sort_values("finished_at", kind="stable").reset_index(drop=True)


def find_searched_columns(points: pd.DataFrame) -> list[str]:
    """Find the columns in which the points differ."""
    return [name for name in POINT_COLUMNS if points[name].nunique() > 1]


def find_pareto_front(points: pd.DataFrame) -> NDArray[np.bool_]:
    """Find the Pareto front, [points]: no other point has a larger ``elbo_validation`` with as few parameters, or fewer
    parameters with as large a one. Equal points are on it together; a point without a finite ELBO
    never is."""
    elbo, size = (points[name].to_numpy(dtype=float) for name in ("elbo_validation", "params_total"))
    no_worse = (elbo[:, None] >= elbo) & (size[:, None] <= size)  # [by, of]
    better = (elbo[:, None] > elbo) | (size[:, None] < size)
    return np.isfinite(elbo) & ~(no_worse & better).any(0)


def compute_importances(points: pd.DataFrame) -> dict[str, float]:
    """Compute the share of the differences in ``elbo_validation`` that each searched column explains, largest first.
    The shares sum to 1. Empty with fewer than ``FEWEST`` points.

    The mean decrease in impurity of extremely randomised trees (Geurts et al. 2006). It describes the points
    in the search history: a search that soon leaves a region carries little information about it.
    """
    columns = find_searched_columns(points)
    if len(points) < FEWEST or not columns:
        return {}
    from sklearn.ensemble import ExtraTreesRegressor

    features = points[columns].assign(**{name: points[name].rank(method="dense") for name in columns})
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0)
    forest.fit(features.to_numpy(dtype=float), points["elbo_validation"].to_numpy(dtype=float))
    pairs = zip(columns, forest.feature_importances_, strict=True)
    return {name: float(part) for name, part in sorted(pairs, key=lambda pair: -pair[1])}
