"""Intervals against numbers known from tables, verdicts, and the reading of values by seed."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vaegen_ray.analysis.statistics import (
    FAILS,
    HOLDS,
    NEGATIVE,
    POSITIVE,
    Interval,
    NotEnoughRuns,
    Range,
    Statistic,
    at_places,
    best,
    best_minus,
    best_places,
    by_seed,
    difference,
    difference_interval,
    half_width,
    judge,
    largest_rise,
    mean_interval,
    minus,
    slope,
    table,
)


def statistic(values, claimed=POSITIVE, against=None):
    def numbered(numbers):
        return dict(enumerate(numbers))

    other = None if against is None else numbered(against)
    return Statistic(name="n", unit="u", values=numbered(values), against=other, claimed=claimed)


COLUMNS = ("method", "seed", "elbo_test")


def rows(*cells, columns=COLUMNS):
    return pd.DataFrame(list(cells), columns=list(columns))


def test_interval_of_a_mean_has_the_quantile_of_the_table_of_student():
    found = mean_interval([1.0, 2.0, 3.0])  # s = 1, n = 3, t(0.975, 2) = 4.303
    assert found.mean == pytest.approx(2.0)
    assert found.high - found.mean == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_interval_of_two_values_is_as_wide_as_it_must_be():
    found = mean_interval([0.0, 1.0])  # t(0.975, 1) = 12.706, s / sqrt(2) = 0.5
    assert (found.low, found.high) == pytest.approx((0.5 - 6.353, 0.5 + 6.353), abs=1e-3)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(2000, 4))
    covered = np.mean([low <= 3.0 <= high for _, low, high in map(mean_interval, draws)])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_equal_values_have_an_interval_without_width():
    assert mean_interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0)
    assert difference_interval([2.0, 2.0], [1.0, 1.0]) == Interval(1.0, 1.0, 1.0)


def test_difference_of_two_samples_is_that_of_welch():
    x, y = [1.0, 2.0, 4.0, 3.0], [0.0, 5.0, 1.0]
    known = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    found = difference_interval(x, y)
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_seeds_have_no_interval(values):
    for make in (mean_interval, lambda few: difference_interval([1.0, 2.0], few), lambda few: judge(statistic(few))):
        with pytest.raises(NotEnoughRuns, match=f"{len(values)} seed"):
            make(values)


@pytest.mark.parametrize(
    ("values", "claimed", "verdict", "reason"),
    [
        ([2.0, 2.1, 1.9], POSITIVE, HOLDS, "the whole interval is > 0"),
        ([-2.0, -2.1, -1.9], POSITIVE, FAILS, "opposite"),
        ([2.0, -2.1, 1.9], POSITIVE, FAILS, "undecided: the interval includes 0"),
        ([0.0, 0.0, 0.0], POSITIVE, FAILS, "undecided: the interval includes 0"),
        ([-2.0, -2.1, -1.9], NEGATIVE, HOLDS, "the whole interval is < 0"),
        ([2.0, 2.1, 1.9], NEGATIVE, FAILS, "opposite"),
        ([0.1, -0.1, 0.0], Range(-1, 1, "of x"), HOLDS, r"from -1 to 1 \(of x\)"),
        ([0.1, -0.1, 0.0], Range(-0.2, 0.2), FAILS, "undecided: the interval includes -0.2"),
        ([2.0, 2.1, 1.9], Range(-1, 1), FAILS, "opposite"),
        ([-9.0, -9.1], Range(-math.inf, 1), HOLDS, "< 1"),
    ],
)
def test_a_claim_holds_when_its_whole_interval_is_where_it_is_claimed(values, claimed, verdict, reason):
    found = judge(statistic(values, claimed))
    assert found.verdict == verdict
    assert pd.Series([found.reason]).str.contains(reason).all()


def test_a_difference_is_paired_where_seeds_are_the_same():
    ours, theirs = pd.Series({0: 1.1, 1: 5.0, 2: 9.1}), pd.Series({2: 9.0, 0: 1.0, 1: 4.8, 7: 0.0})
    made = difference("n", "u", ours, theirs, POSITIVE)
    assert made.against is None
    assert made.values == pytest.approx({0: 0.1, 1: 0.2, 2: 0.1})
    assert made.seeds == "3 seeds"


def test_a_difference_is_of_two_samples_where_fewer_than_two_seeds_are_the_same():
    ours, theirs = pd.Series({0: 1.0, 1: 2.0}), pd.Series({1: 0.0, 2: 0.5, 3: 0.1})
    made = difference("n", "u", ours, theirs, POSITIVE)
    assert made.seeds == "2 and 3 seeds, not paired"
    assert judge(made).interval == difference_interval([1.0, 2.0], [0.0, 0.5, 0.1])


def test_values_by_seed_are_finite_and_sorted():
    frame = rows(("a", 2, 3.0), ("b", 0, 9.0), ("a", 1, np.nan), ("a", 0, 1.0), ("a", 3, -np.inf), ("a", 4, None))
    found = by_seed(frame, "elbo_test", method="a")
    assert found.index.tolist() == [0, 2]
    assert found.tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("column", "where", "said"),
    [
        ("fid", {"method": "a"}, "no column fid"),
        ("elbo_test", {"budget": 1}, "no column budget"),
        ("elbo_test", {"method": "c"}, "no completed trial with method c"),
        ("elbo_test", {"method": "b"}, "no finite elbo_test of method b"),
    ],
)
def test_what_is_missing_is_said(column, where, said):
    with pytest.raises(NotEnoughRuns, match=said):
        by_seed(rows(("a", 0, 1.0), ("b", 0, np.nan)), column, **where)


def test_two_trials_of_one_seed_are_refused_with_what_they_differ_in():
    frame = rows(("a", 0, 1.0, 1), ("a", 0, 2.0, 5), columns=("method", "seed", "elbo_test", "budget"))
    with pytest.raises(NotEnoughRuns, match=r"trials with method a differ in budget \(1, 5\)"):
        by_seed(frame, "elbo_test", method="a")
    assert by_seed(frame, "elbo_test", method="a", budget=5).tolist() == [2.0]


def test_seeds_of_other_settings_are_no_further_seeds():
    cells = [("a", seed, 1.0 + seed, 0.1 if seed < 2 else 0.3) for seed in range(4)]
    frame = rows(*cells, columns=("method", "seed", "elbo_test", "augment_probability"))
    with pytest.raises(NotEnoughRuns, match=r"trials with method a differ in augment_probability \(0.1, 0.3\)"):
        by_seed(frame, "elbo_test", method="a")
    assert by_seed(frame, "elbo_test", "augment_probability", method="a").tolist() == [1.0, 2.0, 3.0, 4.0]
    assert by_seed(frame[frame["seed"] < 2], "elbo_test", method="a").tolist() == [1.0, 2.0]


def test_many_intervals_are_those_of_one():
    values = [[1.0, 2.0, 4.0], [0.5, 0.5], [3.0], []]
    found = half_width(pd.Series([pd.Series(v).var() for v in values]), pd.Series([len(v) for v in values]))
    assert found[0] == pytest.approx(mean_interval(values[0]).high - 7 / 3, rel=1e-12)
    assert found[1] == 0 and found[2:].isna().all()


def test_a_table_keeps_the_seeds_that_have_every_column():
    cells = [(seed, mz, seed + mz) for seed in (0, 1) for mz in (4, 1)]
    found = table(rows(*cells, (2, 4, 0.0), columns=("seed", "mz", "gap")), "gap", "mz")
    assert found.columns.tolist() == [1, 4]
    assert found.to_numpy().tolist() == [[1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("cells", "said"),
    [([(0, 1, 1.0), (1, 1, 1.0)], "for one mz alone, 1"), ([(0, 1, 1.0), (1, 2, 1.0)], "no seed has")],
)
def test_a_table_needs_two_columns_and_a_seed_with_both(cells, said):
    with pytest.raises(NotEnoughRuns, match=said):
        table(rows(*cells, columns=("seed", "mz", "gap")), "gap", "mz")


def test_the_best_place_of_a_seed_is_chosen_by_the_others():
    values = pd.DataFrame([[0.0, 5.0, 9.0], [0.0, 7.0, 2.0], [0.0, 6.0, 3.0]], columns=pd.Index([1, 2, 4], name="nc"))
    # Means without seed 0: 6.5 and 2.5 at nc 2 and 4; without seed 1: 5.5 and 6; without seed 2: 6 and 5.5.
    assert best_minus(values, 1).tolist() == [5.0, 2.0, 6.0]
    assert best_minus(values, 4).tolist() == [-4.0, 0.0, 3.0]


def test_noise_alone_has_no_best_place():
    values = pd.DataFrame(np.random.default_rng(1).normal(size=(400, 12)), columns=pd.Index(range(12), name="nc"))
    assert abs(best_minus(values, 11).mean()) < 0.2
    assert (values.max(axis=1) - values[11]).mean() > 1.5


def test_the_best_value_is_that_at_the_best_place():
    values = pd.DataFrame([[0.0, 5.0, 9.0], [0.0, 7.0, 2.0], [0.0, 6.0, 3.0]], columns=pd.Index([1, 2, 4], name="nc"))
    assert best_places(values).to_dict() == {0: 2, 1: 4, 2: 2}
    assert best(values).tolist() == [5.0, 2.0, 6.0]
    assert at_places(-values, best_places(values)).tolist() == [-5.0, -2.0, -6.0]


def test_the_largest_rise_is_from_any_place_to_a_later_one():
    values = pd.DataFrame(
        [[5.0, 3.0, 4.0, 2.0, 2.5], [5.0, 4.0, 3.0, 2.0, 0.0], [9.0, 1.0, 2.0, 3.0, 0.5], [1.0, 1.0, 1.0, 0.0, 0.0]]
    )
    assert largest_rise(values).tolist() == [1.0, -1.0, 2.0, 0.0]


def test_the_best_place_needs_two_seeds():
    with pytest.raises(NotEnoughRuns, match="1 seed"):
        best_minus(pd.DataFrame([[0.0, 1.0]], columns=pd.Index([1, 2], name="nc")), 2)


def test_a_slope_is_that_of_the_line_of_least_squares():
    places = pd.Index([1, 2, 4, 8, 100], name="x")
    values = pd.DataFrame(np.random.default_rng(2).normal(size=(5, 5)), columns=places, index=[3, 1, 4, 15, 9])
    assert slope(values).to_dict() == pytest.approx(
        {s: stats.linregress(places, row).slope for s, row in values.iterrows()}
    )
    steady = pd.DataFrame([[1.0, 3.0, 5.0]], columns=pd.Index([1, 2, 4], name="nc"))
    assert slope(steady, [0, 1, 2]).tolist() == pytest.approx([2.0])


def test_two_places_are_no_trend():
    with pytest.raises(NotEnoughRuns, match="2 values of x; at least three"):
        slope(pd.DataFrame([[2.0, 3.0]], columns=pd.Index([1, 2], name="x")))


@pytest.mark.parametrize(
    ("low", "high", "shared"), [(3.0, 4.0, True), (2.0, 2.5, True), (3.1, 4.0, False), (-1, 0.5, False)]
)
def test_intervals_overlap_where_they_share_a_number(low, high, shared):
    one, other = Interval(2.0, 1.0, 3.0), Interval((low + high) / 2, low, high)
    assert one.overlaps(other) is other.overlaps(one) is shared


def test_tables_are_subtracted_where_both_have_numbers():
    def places(columns, seeds):
        return pd.DataFrame(1.0, index=seeds, columns=pd.Index(columns, name="mz")).mul(columns)

    found = minus(places([8, 1, 4], [0, 1, 2]), 3 * places([1, 2, 8], [1, 2, 5]))
    assert found.to_dict() == {1: {1: -2.0, 2: -2.0}, 8: {1: -16.0, 2: -16.0}} and list(found) == [1, 8]
    with pytest.raises(NotEnoughRuns, match="two values of mz that both sides have are needed; there are 1"):
        minus(places([1, 2], [0]), places([2, 4], [0]))


def test_trials_without_a_seed_or_a_place_are_left_out():
    found = rows(("a", 0, -1.0, 30), ("a", 1, -2.0, None), ("a", None, -3.0, 30), columns=(*COLUMNS, "percent"))
    assert by_seed(found, "elbo_test", "percent", method="a").to_dict() == {(0, 30): -1.0}
