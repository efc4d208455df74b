"""Points out of rows: means over seeds, the Pareto front of known rows, which column mattered."""

import numpy as np
import pandas as pd
import pytest

from vaegen_ray.analysis.pareto import compute_importances, find_pareto_front, find_points, find_searched_columns
from vaegen_ray.search.space import NAMES


def rows(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    usual = {"nc": 8, "mz": 1, "batch_size": 50, "hidden_layers": 2, "beta": 1.0, "learning_rate": 1e-3}
    usual |= {"method": "normal", "augment_probability": 0.1, "augment_strength": 1.0, "seed": 0}
    usual |= {"params_total": 100, "elbo_test": -1.0, "finished_at": pd.date_range("2026-01-01", periods=n, tz="UTC")}
    return pd.DataFrame(
        {**{name: value if name == "finished_at" else [value] * n for name, value in usual.items()}, **columns}
    )


def test_a_point_is_the_mean_of_its_seeds_in_the_order_in_which_they_ended():
    points = find_points(rows(nc=[8, 16, 8, 16], seed=[0, 0, 1, 1], elbo_validation=[-1.0, -5.0, -3.0, -6.0])[::-1])
    assert list(points["nc"]) == [8, 16] and list(points["elbo_validation"]) == [-2.0, -5.5]
    assert list(points["seeds"]) == [2, 2] and find_searched_columns(points) == ["nc"]


def test_the_front_of_known_points():
    points = pd.DataFrame(
        {"params_total": [10, 20, 20, 30, 5, 40, 10], "elbo_validation": [-5.0, -4.0, -4.5, -4.0, -9.0, -3.0, -5.0]}
    )
    assert list(find_pareto_front(points)) == [True, True, False, False, True, True, True]


def test_a_point_without_an_elbo_is_on_no_front():
    points = pd.DataFrame({"params_total": [1, 10, 20], "elbo_validation": [np.nan, -5.0, -4.0]})
    assert list(find_pareto_front(points)) == [False, True, True]


def test_every_dimension_of_a_space_tells_points_apart():
    for name in NAMES:
        changed = {"method": ["normal", "aug_tuned"]} if name == "augmentation" else {name: [0.25, 0.5]}
        assert len(find_points(rows(**changed, elbo_validation=[-1.0, -2.0]))) == 2


def test_nothing_dominates_a_point_of_the_front_and_something_every_other():
    generator = np.random.default_rng(0)
    points = pd.DataFrame(
        {"params_total": generator.integers(1, 20, 60), "elbo_validation": generator.integers(-20, 0, 60).astype(float)}
    )
    pairs = points[["elbo_validation", "params_total"]].to_numpy()
    for (elbo, size), on in zip(pairs, find_pareto_front(points), strict=True):
        beaten = any((e >= elbo and s <= size) and (e > elbo or s < size) for e, s in pairs)
        assert on != beaten


@pytest.mark.parametrize("matters", ["nc", "learning_rate", "method"])
def test_the_column_that_makes_the_difference_comes_first(matters):
    generator = np.random.default_rng(1)
    chosen = {
        "nc": generator.choice([4, 8, 16, 32, 64], 40),
        "learning_rate": generator.choice([1e-4, 1e-3, 1e-2], 40),
        "method": generator.choice(["normal", "aug_tuned"], 40),
    }
    codes = np.unique(chosen[matters], return_inverse=True)[1].astype(float)
    weights = compute_importances(find_points(rows(**chosen, elbo_validation=codes + 0.1 * generator.normal(size=40))))
    assert next(iter(weights)) == matters and weights[matters] > 0.7 and sum(weights.values()) == pytest.approx(1)


def test_a_few_points_say_nothing():
    assert compute_importances(find_points(rows(nc=[4, 8], elbo_validation=[-2.0, -1.0]))) == {}


def test_trials_with_other_settings_are_another_point():
    apart = rows(nc=[8, 8, 8, 8], seed=[0, 1, 2, 3], elbo_validation=[-1.0, -3.0, -7.0, -9.0])
    points = find_points(apart.assign(epochs=[10, 10, 20, 20]))
    assert list(points["elbo_validation"]) == [-2.0, -8.0] and list(points["seeds"]) == [2, 2]
