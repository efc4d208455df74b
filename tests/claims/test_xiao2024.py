"""Every claim in a world where it is true, in one where it is false, and in results that do not say."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from vaegen_ray.analysis.statistics import FAILS, HOLDS, TOO_FEW
from vaegen_ray.claims.claim import Results
from vaegen_ray.claims.report import report
from vaegen_ray.claims.xiao2024 import CLAIMS

EACH = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
READ = ("trial_id", "seed", "method", "nc", "mz", "budget", "real_percent", "stream", "n_train", "effective_epoch")
METRICS = ("elbo_test", "generalization_gap", "amortization_gap", "robustness_gap", "accuracy_knn", "psnr_test", "fid")
METRICS += ("inception_score", "latent_log_q", "latent_variation", "two_sample_accuracy")
DETAILS = ("quantity", "item", "values")


def judged(sweep, *frames):
    """Id -> row of the claims of a sweep, of which there is one experiment."""
    claims = [claim for claim in CLAIMS if claim.sweep == sweep]
    rows = report({sweep: Results(*frames)}, claims)
    assert [row.claim for row in rows] == claims
    return {row.claim.id: row for row in rows}


@pytest.fixture(scope="module")
def rows(sweeps):
    """Makes all rows of a world, by id: judged once, for many tests."""
    return cache(lambda world, seeds=4: {row.claim.id: row for row in report(sweeps(world, seeds))})


@pytest.fixture(scope="module")
def rows_without(sweeps):
    """Makes the rows of a sweep of the true world without a column."""
    return cache(
        lambda sweep, column: judged(
            sweep, *(frame.drop(columns=column, errors="ignore") for frame in sweeps("true")[sweep])
        )
    )


@pytest.fixture(scope="module")
def rows_with(sweeps):
    """Makes the rows of a sweep of the true world with one value in place of all that was measured."""

    @cache
    def make(sweep, value):
        last, curves, details = sweeps("true")[sweep]
        measured = [name for name in last if name.startswith(("elbo", "latent", "accuracy")) or name in METRICS]
        last, curves = (frame.assign(**dict.fromkeys(measured, value)) for frame in (last, curves))
        return judged(sweep, last, curves, details.assign(values=[[value]] * len(details)))

    return make


def test_ids_are_unique_and_every_sweep_is_known(sweeps):
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.sweep for claim in CLAIMS} == set(sweeps("true"))


@EACH
def test_a_claim_holds_where_it_is_true(claim, rows):
    row = rows("true")[claim.id]
    assert row.verdict == HOLDS, f"{row.reason}; {row.measured}"
    assert len(row.statistic.values) == 4


@EACH
def test_a_claim_does_not_hold_where_it_is_false(claim, rows):
    row = rows("false")[claim.id]
    assert row.verdict == FAILS, f"{row.reason}; {row.measured}"


@EACH
def test_one_seed_is_not_enough(claim, rows):
    assert rows("true", 1)[claim.id].verdict == TOO_FEW


@EACH
def test_a_missing_sweep_is_not_enough(claim, sweeps):
    (row,) = report({name: frames for name, frames in sweeps("true").items() if name != claim.sweep}, (claim,))
    assert (row.verdict, row.reason) == (TOO_FEW, f"no results of the sweep {claim.sweep}")


@EACH
def test_a_sweep_without_completed_trials_is_not_enough(claim, sweeps):
    for change in (lambda rows: rows.iloc[:0], lambda rows: rows.assign(status="failed")):
        (row,) = report({claim.sweep: Results(*map(change, sweeps("true")[claim.sweep]))}, (claim,))
        assert (row.verdict, row.reason) == (TOO_FEW, f"no completed trials of the sweep {claim.sweep}")


@EACH
def test_without_any_of_its_columns_a_claim_is_judged_or_lacks_runs_but_never_breaks(claim, sweeps, rows_without):
    there = {column for frame in sweeps("true")[claim.sweep] for column in frame}
    columns = there & {*READ, *METRICS, *DETAILS}
    lacking = {column for column in columns if rows_without(claim.sweep, column)[claim.id].verdict == TOO_FEW}
    assert "seed" in lacking and lacking & {*METRICS, "values"}
    bare = Results(pd.DataFrame({"status": ["completed"]}), pd.DataFrame(), pd.DataFrame())
    assert report({claim.sweep: bare}, (claim,))[0].verdict == TOO_FEW


@EACH
def test_values_that_are_no_numbers_are_not_enough(claim, rows_with):
    assert {rows_with(claim.sweep, value)[claim.id].verdict for value in (np.nan, None, np.inf)} == {TOO_FEW}


@pytest.mark.parametrize("world", ["true", "false"])
def test_the_order_of_rows_changes_nothing(world, sweeps, rows):
    shuffled = {
        name: Results(*(frame.sample(frac=1, random_state=3) for frame in frames))
        for name, frames in sweeps(world).items()
    }
    for row, other in zip(rows(world).values(), report(shuffled), strict=True):
        assert (row.claim.id, row.verdict, row.reason) == (other.claim.id, other.verdict, other.reason)
        assert row.interval == other.interval
