"""How single claims read their numbers: what is compared, what counts, what is missing."""

import pandas as pd
import pytest

from vaegen_ray.analysis.statistics import FAILS, HOLDS, TOO_FEW, NotEnoughRuns
from vaegen_ray.claims.axes import find_turn
from vaegen_ray.claims.mixtures import select_mixtures
from vaegen_ray.claims.report import report
from vaegen_ray.claims.subsets import select_subsets
from vaegen_ray.claims.xiao2024 import CLAIMS

CLAIM = {claim.id: claim for claim in CLAIMS}


def row_of(name, frames):
    """The row of the claim with this id."""
    (row,) = report(frames, (CLAIM[name],))
    return row


def setting(which, **values):
    """A change that sets columns of the rows that a query finds."""

    def change(last):
        last = last.copy()
        last.loc[last.query(which).index, list(values)] = list(values.values())
        return last

    return change


def test_seeds_pair(with_last):
    """Seeds far apart, methods a little: only paired differences tell."""
    frames = with_last(
        "generalization_gaps", lambda last: last.assign(elbo_test=last["elbo_test"] + 100 * last["seed"])
    )
    row = row_of("generalization_gaps/elbo_test/dmaapx-normal", frames)
    assert row.verdict == HOLDS
    assert row.interval.mean == pytest.approx(2.0, abs=0.01)


def test_gaps_are_also_shown_apart_with_their_overlap(sweeps, with_last):
    claim = "generalization_gaps/generalization_gap/dmaapx-normal"
    apart = row_of(claim, sweeps("true")).statistic.note
    together = row_of(claim, with_last("generalization_gaps", close)).statistic.note
    assert apart.startswith("DMaaPx 0.27") and "normal training 4.07" in apart and apart.endswith("do not overlap")
    assert together.endswith("the intervals overlap")


def close(last):
    """Normal training has gaps just above those of DMaaPx."""
    dmaapx = last[last["method"] == "dmaapx"]
    moved = dmaapx.assign(method="normal", generalization_gap=dmaapx["generalization_gap"] + 0.01)
    return pd.concat([dmaapx, moved])


def test_the_paper_is_quoted_by_data_set():
    assert CLAIM["generalization_gaps/generalization_gap/dmaapx-normal"].paper == (
        "CIFAR-10 841.54 -> 5.44; BinaryMNIST 25.76 -> 0.78; FashionMNIST 1234.5 -> 136.57"
    )
    assert "BinaryMNIST 0.79 -> 0.5" in CLAIM["generalization_gaps/robustness_gap/dmaapx-aug_tuned"].paper


def test_a_margin_is_a_tenth_of_the_gap_of_normal_training(sweeps):
    row = row_of("synthetic_budget/one", sweeps("true"))
    gap = sweeps("true")["synthetic_budget"].last.query("method == 'normal'")["generalization_gap"].mean()
    assert row.statistic.claimed[:2] == pytest.approx((-gap / 10, gap / 10))
    assert "a tenth of normal training's generalization gap" in row.reason


def test_without_a_gap_above_zero_there_is_no_margin(with_last):
    frames = with_last("synthetic_budget", lambda last: last.assign(generalization_gap=-1.0))
    row = row_of("synthetic_budget/one", frames)
    assert row.verdict == TOO_FEW and "not above 0: -1" in row.reason


def test_margins_on_axes_are_from_the_turn_at_the_smallest_mz(sweeps):
    row = row_of("complexity_axes/u_shape/gone", sweeps("true"))
    assert row.statistic.claimed.high == pytest.approx(0.4, abs=0.02)  # a tenth of 4, the gap at nc 256, mz 1


def test_the_largest_budget_is_endless_where_there_is_one(sweeps, with_last):
    claim = "synthetic_budget/plateau"
    assert row_of(claim, sweeps("true")).statistic.note == "largest: endless"
    finite = with_last("synthetic_budget", lambda last: last.query("method == 'normal' or budget > 0"))
    assert row_of(claim, finite).statistic.note == "largest: k = 50"
    row = row_of(
        claim, with_last("synthetic_budget", lambda last: last.query("method == 'normal' or 0 < budget <= 10"))
    )
    assert (row.verdict, row.reason) == (TOO_FEW, "no budget above k = 10")


def test_the_ends_of_a_mixture_go_by_their_methods_and_not_by_the_neutral_percent(sweeps):
    found = select_mixtures(sweeps("true")["real_synthetic_mix"].last)
    by_name = {(row.method, row.real_percent): (row.percent, row.augmented) for row in found.itertuples()}
    assert by_name[("dmaapx", 50)] == (0, False) and by_name[("normal", 50)] == (100, False)
    assert by_name[("dmaapx+aug_tuned", 50)] == (0, True) and by_name[("aug_tuned", 50)] == (100, True)
    assert by_name[("mix", 20)] == (20, False) and by_name[("mix+aug_tuned", 80)] == (80, True)


def test_the_part_of_the_data_is_read_from_the_stream(sweeps):
    found = select_subsets(sweeps("true")["diffusion_subsets"].last)
    assert sorted(found["percent"].unique()) == [10, 30, 50, 70, 90, 100]
    assert select_subsets(found.assign(stream="no JSON"))["percent"].isna().all()
    with pytest.raises(NotEnoughRuns, match="stream"):
        select_subsets(found.drop(columns="stream"))


def test_a_missing_part_of_the_data_is_said(with_last):
    fewer = with_last("diffusion_subsets", lambda last: last[~last["stream"].astype(str).str.contains(": 300")])
    row = row_of("diffusion_subsets/elbo_test/30", fewer)
    assert row.reason == "no diffusion model of 30 % of D_train; there are 10, 50, 70, 90, 100 %"


def test_highest_means_higher_than_each(with_last):
    """One mixture above DMaaPx is enough."""
    frames = with_last(
        "real_synthetic_mix", setting("method == 'mix+aug_tuned' and real_percent == 40", elbo_test=-10.0)
    )
    row = row_of("real_synthetic_mix/elbo_test/dmaapx", frames)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(-9, abs=0.1)


def test_always_means_at_every_mz(with_last):
    frames = with_last("complexity_axes", setting("method == 'dmaapx' and mz == 4", generalization_gap=7.0))
    row = row_of("complexity_axes/generalization_gap/always", frames)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(-4, abs=0.1)


def test_the_path_ends_its_first_stretch_at_the_turn(with_last):
    """A width beyond the turn at the smallest mz is not on the path, however good it is."""
    frames = with_last("double_descent", setting("nc == 512 and mz == 1", elbo_test=0.0))
    row = row_of("double_descent/up", frames)
    assert row.interval.mean == pytest.approx(1.0, abs=0.02)


def test_without_pairs_in_common_real_and_synthetic_data_are_not_compared(with_last):
    apart = with_last("more_real_data", lambda last: last.query("method == 'more_real' or budget < 2"))
    row = row_of("more_real_data/elbo_test", apart)
    assert row.verdict == TOO_FEW and "share no seed and budget" in row.reason


def test_real_and_synthetic_data_are_compared_beyond_the_training_set_alone(with_last):
    frames = with_last("more_real_data", lambda last: pd.concat([last, last[last["budget"] == 2].assign(budget=1)]))
    frames["more_real_data"] = frames["more_real_data"]._replace(
        last=frames["more_real_data"].last.drop_duplicates(["method", "budget", "seed"])
    )
    assert row_of("more_real_data/elbo_test", frames).statistic.note.split(":")[0] == "k = 2"


def test_no_better_also_means_far_worse(with_last):
    frames = with_last("reverse_half_asleep", setting("method == 'dmaapx+rha'", elbo_test=-90.0))
    assert row_of("reverse_half_asleep/elbo_test/dmaapx+rha-dmaapx", frames).verdict == HOLDS


def test_a_gap_far_below_zero_is_not_near_zero(with_last):
    frames = with_last("complexity_axes", setting("method == 'dmaapx' and nc == 64", generalization_gap=-3.0))
    row = row_of("complexity_axes/generalization_gap/dmaapx", frames)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(3.0)


def test_best_means_better_than_the_best_other_method(sweeps):
    frames = sweeps("true")["representation"]
    better = frames.last.loc[frames.last["method"] == "aug_tuned", "trial_id"]
    values = [[0.9] if trial in set(better) else at for trial, at in frames.details[["trial_id", "values"]].to_numpy()]
    changed_details = frames._replace(details=frames.details.assign(values=values))
    row = row_of("representation/linear/dmaapx", {"representation": changed_details})
    assert row.verdict == FAILS and row.interval.mean < -10


def test_the_turn_of_a_full_grid_leaves_a_larger_width():
    grid = pd.DataFrame([(nc, mz) for nc in (4, 8, 16) for mz in (1, 2)], columns=["nc", "mz"])
    rows = grid.assign(method="normal", seed=0, elbo_test=-1.0)
    assert find_turn(rows) == 8
    assert find_turn(rows[rows["nc"] == 16]) == 16
    with pytest.raises(NotEnoughRuns, match="no nc has two values of mz"):
        find_turn(rows[rows["mz"] == 1])
