"""The trials of a search as one row a point, and what can be read from them: the best, the front, what mattered."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaegen_ray.results.groups import mixed
from vaegen_ray.search.space import NAMES

OF_A_POINT = tuple("method" if name == "augmentation" else name for name in NAMES)
"""Columns of trials in which the points of a search may differ."""
FEWEST = 10
"""Points from which on it is said which columns mattered."""
TREES = 300


def find_points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a point, in the order in which they ended: its columns, ``params_total``, the means over its seeds of
    ``elbo_validation`` and ``elbo_test``, and how many ``seeds`` it has.

    Trials of a point differ in the seed alone.

    Args:
        rows: one row a trial, of one search, with its last metrics.
    """
    grouped = rows.groupby([*OF_A_POINT, *mixed(rows, OF_A_POINT)], sort=False, dropna=False)
    points = grouped.agg(
        params_total=("params_total", "first"),
        elbo_validation=("elbo_validation", "mean"),
        elbo_test=("elbo_test", "mean"),
        seeds=("seed", "count"),
        finished_at=("finished_at", "max"),
    )
    return points.reset_index().sort_values("finished_at", kind="stable").reset_index(drop=True)


def searched(points: pd.DataFrame) -> list[str]:
    """The columns in which the points differ."""
    return [name for name in OF_A_POINT if points[name].nunique() > 1]


def front(points: pd.DataFrame) -> NDArray[np.bool_]:
    """The Pareto front, [points]: no other point has a larger ``elbo_validation`` with as few parameters, or fewer
    parameters with as large a one. Equal points stand on it together, one without an ELBO never."""
    elbo, size = (points[name].to_numpy(dtype=float) for name in ("elbo_validation", "params_total"))
    no_worse = (elbo[:, None] >= elbo) & (size[:, None] <= size)  # [by, of]
    better = (elbo[:, None] > elbo) | (size[:, None] < size)
    return np.isfinite(elbo) & ~(no_worse & better).any(0)


def importances(points: pd.DataFrame) -> dict[str, float]:
    """How much of the differences in ``elbo_validation`` each searched column explains, largest first; they sum to 1.
    Empty with fewer than ``FEWEST`` points.

    The mean decrease in impurity of extremely randomised trees (Geurts et al. 2006), which, like Optuna's own measures,
    ask what a forest that was fitted to the points looks at. They describe the points that were tried: a search that
    soon leaves a region says little about it.
    """
    columns = searched(points)
    if len(points) < FEWEST or not columns:
        return {}
    from sklearn.ensemble import ExtraTreesRegressor

    features = points[columns].assign(**{name: points[name].rank(method="dense") for name in columns})
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0)
    forest.fit(features.to_numpy(dtype=float), points["elbo_validation"].to_numpy(dtype=float))
    pairs = zip(columns, forest.feature_importances_, strict=True)
    return {name: float(part) for name, part in sorted(pairs, key=lambda pair: -pair[1])}
