"""Every claim of zhang2021 in a world where it is true, in one where it is false, and in results that do not say."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from vaegen_ray.analysis.statistics import FAILS, HOLDS, TOO_FEW
from vaegen_ray.claims.claim import Results
from vaegen_ray.claims.report import report
from vaegen_ray.claims.zhang2021 import CLAIMS

SWEEP = "inference_gap"
EACH = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
CLAIM = {claim.id: claim for claim in CLAIMS}
TRUE, FALSE = "true", "false"
EPOCHS = (10, 100, 300, 1000)
AT_EPOCHS = {
    TRUE: {
        "elbo_train": (-26, -20, -17, -15),
        "elbo_test": (-27, -22, -23, -25),
        "elbo_optimal_inference": (-26, -20, -19.1, -19.2),
        "elbo_self_consistent_0": (-26.9, -22.2, -23.1, -25),
        "elbo_self_consistent_50": (-26.5, -21, -21, -21.5),
        "elbo_self_consistent_100": (-26.8, -21.5, -21.5, -22),
    },
    FALSE: {
        "elbo_train": (-26, -15, -17, -20),
        "elbo_test": (-27, -22, -21, -20),
        "elbo_optimal_inference": (-27.5, -18, -19, -21),
        "elbo_self_consistent_0": (-26, -19, -19, -20),
        "elbo_self_consistent_50": (-26.5, -21, -21, -20.5),
        "elbo_self_consistent_100": (-26, -19, -19, -20),
    },
}


def curves_of(world, seeds=4, **fixed):
    """A row a trial and epoch, with a little chance, which is the larger from seed to seed."""
    chance, rows = np.random.default_rng(1), []
    for seed in range(seeds):
        for index, epoch in enumerate(EPOCHS):
            noise = {name: 0.05 * seed + chance.uniform(-0.004, 0.004) for name in AT_EPOCHS[world]}
            values = {name: at[index] + noise[name] for name, at in AT_EPOCHS[world].items()}
            rows.append({"trial_id": f"trial-{seed}", "seed": seed, "effective_epoch": float(epoch), **values})
    frame = pd.DataFrame(rows).assign(method="normal", dataset="digits", levels=2, likelihood="bernoulli")
    frame = frame.assign(n_train=1000, epochs=1000, nc=500, mz=10, status="completed", **fixed)
    return frame.assign(generalization_gap=frame["elbo_train"] - frame["elbo_test"])


def results(curves):
    return Results(curves.drop_duplicates("trial_id", keep="last"), curves, pd.DataFrame())


def judge(curves, claims=CLAIMS):
    return report({SWEEP: results(curves)}, claims)


@cache
def judged(world, seeds=4):
    """Id -> row of all claims in a world."""
    return {row.claim.id: row for row in judge(curves_of(world, seeds))}


def row_of(name, curves):
    (row,) = judge(curves, (CLAIM[f"{SWEEP}/{name}"],))
    return row


@EACH
def test_a_claim_holds_where_it_is_true(claim):
    row = judged(TRUE)[claim.id]
    assert row.verdict == HOLDS, f"{row.reason}; {row.measured}"
    assert len(row.statistic.values) == 4 and row.statistic.against is None


@EACH
def test_a_claim_does_not_hold_where_it_is_false(claim):
    row = judged(FALSE)[claim.id]
    assert row.verdict == FAILS, f"{row.reason}; {row.measured}"


@EACH
def test_one_seed_is_not_enough(claim):
    assert judged(TRUE, 1)[claim.id].verdict == TOO_FEW


@EACH
def test_without_any_of_its_columns_a_claim_is_judged_or_lacks_runs_but_never_breaks(claim):
    curves = curves_of(TRUE)
    lacking = set()
    for column in curves.columns.drop("trial_id"):
        frames = results(curves)
        frames = Results(*(frame.drop(columns=column, errors="ignore") for frame in frames))
        (row,) = report({SWEEP: frames}, (claim,))
        lacking |= {column} if row.verdict == TOO_FEW else set()
    assert {"seed", "method"} <= lacking and lacking & set(AT_EPOCHS[TRUE])


@EACH
@pytest.mark.parametrize("value", [np.nan, None, np.inf])
def test_values_that_are_no_numbers_are_not_enough(claim, value):
    (row,) = judge(curves_of(TRUE).assign(**dict.fromkeys(AT_EPOCHS[TRUE], value)), (claim,))
    assert row.verdict == TOO_FEW


MEANS = {  # by hand, from the numbers of the true world
    "train/throughout": -2,  # its least rise, of a number that always rises
    "train/late": -15 + 20,
    "amortized/overfits": -22 + 25,
    "optimal/end": -19.2 + 25,
    "optimal/always": 1,
    "optimal/stable": 0.1 - 0.3,
    "optimal/dominates": 0.1 - 1.5,
    "self_consistent/end": -21.5 + 25,
    "self_consistent/always": 0.5,
    "self_consistent/gap": -19.2 + 21.5,
    "alpha/data": -21.5 + 25,
    "alpha/samples": -21.5 + 22,
}


@pytest.mark.parametrize("name", MEANS)
def test_what_is_measured(name):
    assert judged(TRUE)[f"{SWEEP}/{name}"].interval.mean == pytest.approx(MEANS[name], abs=0.02)


def test_every_claim_has_its_number_checked():
    assert {f"{SWEEP}/{name}" for name in MEANS} == set(CLAIM)


def test_binary_and_grey_images_are_judged_apart():
    grey = curves_of(FALSE, levels=17, likelihood="logistic")
    grey = grey.assign(trial_id="grey-" + grey["trial_id"])
    rows = judge(pd.concat([curves_of(TRUE), grey], ignore_index=True))
    assert {row.verdict for row in rows if "bernoulli" in row.settings and row.settings.endswith("levels 2")} == {HOLDS}
    assert {row.verdict for row in rows if "logistic" in row.settings and row.settings.endswith("levels 17")} == {FAILS}
    assert len(rows) == 2 * len(CLAIMS)


def test_falls_are_compared_at_the_epochs_that_both_have():
    """Amortized inference is measured more often, and best where no encoder was trained on."""
    curves = curves_of(TRUE)
    between = curves[curves["effective_epoch"] == 100].assign(
        effective_epoch=200.0, elbo_test=-10.0, elbo_optimal_inference=np.nan
    )
    curves = pd.concat([curves, between]).sort_values(["trial_id", "effective_epoch"])
    assert row_of("amortized/overfits", curves).interval.mean == pytest.approx(-10 + 25 - 0.075, abs=0.02)
    assert row_of("optimal/dominates", curves).interval.mean == pytest.approx(MEANS["optimal/dominates"], abs=0.02)


def test_one_measured_epoch_is_no_curve():
    curves = curves_of(TRUE)
    curves.loc[curves["effective_epoch"] < 1000, "elbo_optimal_inference"] = np.nan
    assert row_of("optimal/end", curves).verdict == HOLDS
    row = row_of("optimal/always", curves)
    assert row.verdict == TOO_FEW and "for one effective_epoch alone, 1000" in row.reason


def test_a_mixture_that_was_not_trained_on_is_said():
    row = row_of("alpha/samples", curves_of(TRUE).assign(elbo_self_consistent_100=np.nan))
    assert (row.verdict, row.reason) == (TOO_FEW, "no finite elbo_self_consistent_100 of method normal")
    bare = curves_of(TRUE).drop(columns="elbo_optimal_inference")
    row = row_of("optimal/stable", bare)
    assert (row.verdict, row.reason) == (TOO_FEW, "the results have no column elbo_optimal_inference")


def test_one_epoch_without_gain_is_not_always():
    curves = curves_of(TRUE)
    curves.loc[curves["effective_epoch"] == 10, "elbo_self_consistent_50"] -= 2
    assert row_of("self_consistent/always", curves).verdict == FAILS
    assert row_of("self_consistent/end", curves).verdict == HOLDS


def test_the_margin_of_the_training_is_a_tenth_of_the_generalization_gap():
    row = judged(TRUE)[f"{SWEEP}/train/throughout"]
    assert row.statistic.claimed.high == pytest.approx(1.0, abs=0.01)  # -15 + 25 at the end
