"""Every claim of bozkurt2021 in a world where it is true, in one where it is false, and in results that do not say."""

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest

from vaegen_ray.analysis.statistics import FAILS, HOLDS, TOO_FEW
from vaegen_ray.claims.bozkurt2021 import CLAIMS
from vaegen_ray.claims.claim import Results
from vaegen_ray.claims.report import experiments, report

SWEEP = "rate_distortion"
EACH = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
CLAIM = {claim.id: claim for claim in CLAIMS}
TRUE, FALSE = "true", "false"
BETAS = (0.001, 0.01, 0.1, 0.3, 1, 2, 5)
DENSE, MIDDLE, SPARSE = 1000, 400, 200
IMAGES = {"information_images": 250}


def plus(values, number):
    return tuple(value + number for value in values)


def curve(test, train=None, **columns):
    """Test and training distortion over beta, and what else there is."""
    halved = tuple(value / 2 for value in test)
    return {"distortion_test": test, "distortion_train": halved if train is None else train, **columns}


def uneven(values, number):
    """Adds a number, in the mean over beta."""
    return tuple(value + weight * number for value, weight in zip(values, (0, 1, 1, 1, 1, 1, 2), strict=True))


def world_of(sparse1, sparse3, dense1, dense3, crop1, crop3, checkerboard, moved, variants, **others):
    """(split, images, layers, architecture, method, regulariser) -> column -> values over beta.

    Args:
        checkerboard: test distortions of 1 and 3 layers.
        moved: what 1 layer has more, in the mean, with 400 images than with 200; then 1 and 3 of constant density.
        variants: test and training distortion at beta 1 with the mutual information, and with the marginal KL.
        others: test distortion of 1 and 3 convolutions, and with early stopping.
    """
    plain = ("fully_connected", "normal", "rate")
    made = {
        ("random", SPARSE, 1, *plain): sparse1,
        ("random", SPARSE, 3, *plain): sparse3,
        ("random", DENSE, 1, *plain): dense1,
        ("random", DENSE, 3, *plain): dense3,
        ("random", MIDDLE, 1, *plain): curve(uneven(sparse1["distortion_test"], moved[0])),
        ("constant_density", SPARSE, 1, *plain): curve(crop1),
        ("constant_density", SPARSE, 3, *plain): curve(crop3),
        ("constant_density", MIDDLE, 1, *plain): curve(uneven(crop1, moved[1])),
        ("constant_density", MIDDLE, 3, *plain): curve(uneven(crop3, moved[2])),
        ("checkerboard", DENSE, 1, *plain): curve(checkerboard[0]),
        ("checkerboard", DENSE, 3, *plain): curve(checkerboard[1]),
        ("random", SPARSE, 1, "convolutional", "normal", "rate"): curve(others["convolution1"]),
        ("random", SPARSE, 3, "convolutional", "normal", "rate"): curve(others["convolution3"]),
        ("random", SPARSE, 1, "fully_connected", "early_stopping", "rate"): curve(others["stopped"]),
    }
    for regulariser, (test, train) in variants.items():
        key = ("random", SPARSE, 3, "fully_connected", "normal", regulariser)
        made[key] = curve((test,) * 7, (train,) * 7)
    return made


TRUE_SPARSE = (19, 17, 15, 16, 22, 31, 50.5), (8, 8, 7.5, 12, 22, 28, 49)
TRUE_DENSE = (6.3, 7.3, 8.3, 10.3, 14.3, 22.3, 40.3)
TRUE_CODES = {"mutual_information": (5.29, 5.28, 5.2, 5.0, 4.5, 2, 0.5), "marginal_kl": (40, 25, 12, 8, 5, 2, 1)}
FALSE_SPARSE = (20,) * 7, (30, 28, 26, 22, 20, 19, 18)
FALSE_DENSE = (20, 18, 17, 16, 12, 13, 14)
FALSE_CODES = {"mutual_information": (2, 5.2, 5.2, 5.2, 4, 4.5, 5), "marginal_kl": (5, 6, 7, 8, 10, 11, 12)}
RATE = (60, 40, 25, 20, 15, 8, 3)
WORLDS = {
    TRUE: world_of(
        sparse1=curve(TRUE_SPARSE[0], (10, 11, 12, 14, 20, 30, 50), **TRUE_CODES),
        sparse3=curve(
            TRUE_SPARSE[1],
            (5, 5.5, 6, 8, 12, 20, 45),  # gap 3, 2.5, 1.5, 4, 10, 8, 4
            elbo_test=(-60, -50, -30, -35, -40, -45, -60),
            log_likelihood_test=(-55, -45, -25, -30, -35, -40, -55),
            log_likelihood_train=(-50, -41, -23, -26, -27, -33, -49),  # gap 5, 4, 2, 4, 8, 7, 6
            **TRUE_CODES,
        ),
        dense1=curve(TRUE_DENSE, (6.2, 7.2, 8.1, 10.1, 14, 22.1, 40.2), rate_test=RATE),  # gap at most 0.3, at beta 1
        dense3=curve(plus(TRUE_DENSE, -1.5), plus(TRUE_DENSE, -1.7), rate_test=plus(RATE, -2)),
        crop1=plus(TRUE_SPARSE[0], -6),
        crop3=(11, 10, 8, 9, 15, 24, 43.5),
        checkerboard=(plus(TRUE_SPARSE[0], 0.3), plus(TRUE_SPARSE[1], -0.3)),
        moved=(-4, 0.5, 0.2),
        variants={"mutual_information": (18, 12), "marginal_kl": (23, 12)},
        convolution1=(15.5, 15, 16, 17, 22, 31, 50),
        convolution3=(7, 7.5, 8, 12, 22, 28, 49),
        stopped=(14, 14.5, 15, 16, 22, 31, 50.5),
    ),
    FALSE: world_of(
        sparse1=curve(FALSE_SPARSE[0], (19, 18, 17, 16, 15, 14.5, 14), **FALSE_CODES),
        sparse3=curve(
            FALSE_SPARSE[1],
            (22, 21, 20, 18, 19, 18.5, 17.6),  # gap 8, 7, 6, 4, 1, 0.5, 0.4
            elbo_test=(-60, -50, -45, -40, -35, -30, -31),
            log_likelihood_test=(-55, -45, -40, -35, -30, -25, -26),
            log_likelihood_train=(-47, -38, -34, -31, -29, -24.5, -25.6),
            **FALSE_CODES,
        ),
        dense1=curve(FALSE_DENSE, plus(FALSE_DENSE, -8), rate_test=RATE),
        dense3=curve(plus(FALSE_DENSE, 5), plus(FALSE_DENSE, 2), rate_test=plus(RATE, 2)),
        crop1=(22, 23, 24, 25, 26, 27, 28),
        crop3=(32, 33, 34, 35, 36, 37, 38),
        checkerboard=(plus(FALSE_DENSE, 0.1), plus(FALSE_DENSE, 5.1)),
        moved=(-1, -6, -5),
        variants={"mutual_information": (25, 22), "marginal_kl": (15, 14)},
        convolution1=(25, 22, 20, 20, 20, 20, 20),
        convolution3=(30, 28, 26, 22, 20, 19, 18),
        stopped=(30, 25, 22, 20, 18, 17, 16),
    ),
}
DISTANCES = {
    TRUE: {("random", DENSE): 1, ("random", SPARSE): 3, ("random", MIDDLE): 2.8, "checkerboard": 2.9, "crop": 2},
    FALSE: {("random", DENSE): 1, ("random", SPARSE): 3, ("random", MIDDLE): 2.8, "checkerboard": 1.1, "crop": 4},
}
KEY = ("split", "n_train", "hidden_layers", "architecture", "method", "regulariser")


def build_rows(world, seeds=4, **fixed):
    """The rows of a world with a little chance, which is the larger from seed to seed."""
    chance, rows = np.random.default_rng(0), []
    for key, columns in WORLDS[world].items():
        distance = DISTANCES[world].get(key[:2], DISTANCES[world].get({"constant_density": "crop"}.get(key[0], key[0])))
        for index, beta in enumerate(BETAS):
            for seed in range(seeds):
                noise = {name: 0.05 * seed + chance.uniform(-0.004, 0.004) for name in columns}
                values = {name: column[index] + noise[name] for name, column in columns.items()}
                rows.append({**dict(zip(KEY, key, strict=True)), "beta": beta, "seed": seed, **values})
                rows[-1] |= {"neighbour_distance": distance + 0.01 * seed} | IMAGES
    frame = pd.DataFrame(rows).assign(dataset="tetrominoes", likelihood="bernoulli", mz=10, status="completed")
    frame["epochs"] = 20_000 // frame["n_train"]  # equal steps
    frame["nc"] = frame["architecture"].map({"fully_connected": 512, "convolutional": 64})
    return frame.assign(trial_id=[f"trial-{i}" for i in range(len(frame))], **fixed)


@cache
def world(name, seeds=4):
    """The rows of a world; change copies only."""
    return build_rows(name, seeds)


@cache
def judged(name, seeds=4):
    """Id -> row of all claims in a world."""
    return {row.claim.id: row for row in judge(world(name, seeds))}


def judge(last, claims=CLAIMS):
    return report({SWEEP: Results(last, pd.DataFrame(), pd.DataFrame())}, claims)


def row_of(name, last):
    (row,) = judge(last, (CLAIM[name],))
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


NEEDED = ("seed", *KEY, "beta", "distortion_test")


@cache
def judged_without(column):
    return {row.claim.id: row for row in judge(world(TRUE, 2).drop(columns=column))}


@EACH
def test_without_its_columns_a_claim_lacks_runs(claim):
    for column in NEEDED:
        row = judged_without(column)[claim.id]
        assert row.verdict == TOO_FEW and f"no column {column}" in row.reason


NEEDING = {
    "neighbour_distance": 3, "mutual_information": 5, "information_images": 3, "marginal_kl": 4, "elbo_test": 1,
    "log_likelihood_test": 3, "log_likelihood_train": 2, "rate_test": 2,
}  # fmt: skip
"""How many claims read a measure."""


@pytest.mark.parametrize("column", NEEDING)
def test_a_missing_measure_leaves_all_other_claims(column):
    lacking = [row for row in judged_without(column).values() if f"no column {column}" in row.reason]
    assert len(lacking) == NEEDING[column]
    whole = {claim.id for claim in CLAIMS} - {row.claim.id for row in lacking}
    assert all(judged_without(column)[name].verdict == judged(TRUE, 2)[name].verdict for name in whole)


@pytest.mark.parametrize("value", [np.nan, None, np.inf])
def test_values_that_are_no_numbers_are_not_enough(value):
    measured = [
        name for name in world(TRUE) if name.startswith(("dist", "rate", "elbo", "log", "mut", "marg", "neigh"))
    ]
    rows = judge(world(TRUE).assign(**dict.fromkeys(measured, value)))
    assert [row.verdict for row in rows] == [TOO_FEW] * len(CLAIMS)


@pytest.mark.parametrize("name", [TRUE, FALSE])
def test_the_order_of_rows_changes_nothing(name):
    for row in judge(world(name).sample(frac=1, random_state=3)):
        assert row.interval == pytest.approx(judged(name)[row.claim.id].interval)


LN_N, SEED_MEAN = math.log(250), 0.075
# By hand, from the numbers of the true world:
MEANS = {
    "dense/memorisation/1": 0.3, "dense/memorisation/3": 0.2, "dense/layers/distortion": -1.5,
    "dense/layers/rate/uniform": -2, "dense/smaller_beta/1": 14.3 - 6.3, "sparse/gap/1": 2 - 0.3,
    "sparse/gap/3": 10 - 0.2, "sparse/memorisation": 10 - 2, "sparse/u_shape/fall": 50.5 - 15,
    "sparse/u_shape/rise": 19 - 15, "sparse/early_stopping": -0.5, "sparse/smaller_beta/3": 22 - 7.5,
    "sparse/elbo_test/below_one": -30 + 40,
    "sparse/log_likelihood_test/below_one": -25 + 35, "sparse/gap/distortion/below_one": 4 - 1.5,
    "sparse/gap/log_likelihood/below_one": 6 - 2, "sparse/gap/distortion/tenth": 1.5 - 10,
    "sparse/gap/log_likelihood/tenth": 2 - 8, "sparse/u_shape/layers": 4 - 0.5, "volume/discrepancy": 36 / 7 - 1.5,
    "density/discrepancy": 8 / 7 - 36 / 7, "density/distortion/1": -6, "density/neighbours": -1,
    "density/u_shape": 4, "density/size/3": -0.2, "density/size/1": 0.5 - 4, "density/size/improves": -0.5,
    "checkerboard/similar/1": 0.3, "checkerboard/similar/3": -0.3, "checkerboard/closer/1": (170.5 - 109.1) / 7,
    "checkerboard/neighbours/similar": -0.1, "checkerboard/neighbours/closer": 1.9 - 0.1, "convolutional/3": -0.5,
    "convolutional/1": 4 - 0.5, "information/saturates/3": 5.29 / LN_N, "information/falls/1": 0.5 - 4.5,
    "marginal_kl/small/1": 1 - 4 + 0.9 * SEED_MEAN, "marginal_kl/grows/3": 40 - 5, "underfits/1": 50 - 20,
    "information/beyond": 12 - 7.5, "variants/mutual_information/distortion": 18 - 22,
    "variants/mutual_information/gap": 6 - 10, "variants/marginal_kl/distortion": 23 - 22,
}  # fmt: skip


@pytest.mark.parametrize("name", MEANS)
def test_what_is_measured(name):
    assert judged(TRUE)[f"{SWEEP}/{name}"].interval.mean == pytest.approx(MEANS[name], abs=0.03)


def test_margins_are_a_tenth_of_the_gap_that_memorisation_makes():
    ends = {"dense/memorisation/1": (-math.inf, 1), "checkerboard/similar/3": (-1, 1)}
    for name, (low, high) in {**ends, "variants/marginal_kl/distortion": (-1, math.inf)}.items():
        assert judged(TRUE)[f"{SWEEP}/{name}"].statistic.claimed[:2] == pytest.approx((low, high), abs=1e-3)
    near = judged(TRUE)[f"{SWEEP}/checkerboard/neighbours/similar"].statistic.claimed
    assert near[:2] == pytest.approx((-0.3, 0.3), abs=0.01)


def test_without_memorisation_there_is_no_margin():
    flat = world(TRUE).assign(distortion_train=world(TRUE)["distortion_test"] + 1)
    row = row_of("rate_distortion/sparse/train/1", flat)
    assert row.verdict == TOO_FEW and "gap in distortion, not above 0: -1" in row.reason


def test_sizes_networks_and_betas_are_one_experiment_and_data_sets_are_not():
    other = build_rows(FALSE, dataset="mnist").assign(trial_id=lambda rows: "mnist-" + rows["trial_id"])
    frames = Results(pd.concat([world(TRUE), other]), pd.DataFrame(), pd.DataFrame())
    found = experiments(frames, CLAIMS[0].axes)
    assert list(found) == [
        f"{name}, 200 to 1,000 training images, 20 to 100 epochs, bernoulli likelihood, nc 64 to 512, mz 10"
        for name in ("mnist", "tetrominoes")
    ]
    verdicts = [row.verdict for row in judge(frames.last)]
    assert verdicts == [FAILS, HOLDS] * len(CLAIMS)


def without(which):
    return world(TRUE).query(f"not ({which})")


@pytest.mark.parametrize(
    ("name", "which", "said"),
    [
        ("dense/memorisation/1", "split == 'random' and n_train > 200", "two sizes of the random split are needed"),
        ("sparse/train/1", "hidden_layers == 1", "no completed trial with .*hidden_layers 1"),
        ("sparse/train/1", "hidden_layers == 3", "no completed trial with .*hidden_layers 3"),
        ("sparse/early_stopping", "method == 'early_stopping'", "no completed trial with .*method early_stopping"),
        ("sparse/gap/distortion/tenth", "beta == 0.1", "beta 0.1 is needed; there are 0.001, 0.01, 0.3, 1, 2, 5"),
        ("sparse/smaller_beta/3", "beta < 1", "a beta < 1 is needed; there are 1, 2, 5"),
        ("sparse/elbo_test/below_one", "beta >= 1", "a beta >= 1 is needed; there are 0.001, 0.01, 0.1, 0.3"),
        ("sparse/u_shape/fall", "beta > 1", "a beta > 1 is needed; the largest is 1"),
        ("sparse/u_shape/rise", "beta != 1", "for one beta alone, 1.0"),
        ("density/discrepancy", "split == 'constant_density'", "no completed trial with split constant_density"),
        (
            "density/distortion/1",
            "split == 'random' and n_train < 1000",
            "no random split has as many images as the constant density split with 200 images; there are 1,000",
        ),
        (
            "density/size/3",
            "split == 'constant_density' and n_train == 400",
            "two sizes of the constant density split .* there is one, constant density split with 200 images",
        ),
        ("checkerboard/closer/1", "split == 'checkerboard'", "no completed trial with split checkerboard"),
        ("convolutional/3", "architecture == 'convolutional'", "no completed trial with .*architecture convolutional"),
        ("information/beyond", "0.001 < beta < 1", "two betas < 1 .* are needed; there are 1"),
        ("variants/marginal_kl/distortion", "regulariser == 'marginal_kl'", "no completed .*regulariser marginal_kl"),
    ],
)
def test_what_is_missing_is_said(name, which, said):
    row = row_of(f"{SWEEP}/{name}", without(which))
    assert row.verdict == TOO_FEW
    assert pd.Series([row.reason]).str.contains(said).all(), row.reason


def test_variants_are_needed_at_beta_1_alone():
    row = row_of("rate_distortion/variants/marginal_kl/distortion", without("regulariser != 'rate' and beta != 1"))
    assert row.verdict == HOLDS
    row = row_of("rate_distortion/variants/marginal_kl/distortion", without("regulariser != 'rate' and beta == 1"))
    assert row.verdict == TOO_FEW


def test_what_one_claim_lacks_the_others_keep():
    fewer = judge(without("split != 'random' or architecture == 'convolutional' or regulariser != 'rate'"))
    lacking = {row.claim.id.split("/")[1] for row in fewer if row.verdict == TOO_FEW}
    assert lacking == {"density", "checkerboard", "convolutional", "variants"}
    assert {row.verdict for row in fewer} == {HOLDS, TOO_FEW}


def test_a_single_size_counts_as_sparse():
    small = without("split != 'random' or n_train > 200")
    row = row_of("rate_distortion/sparse/u_shape/rise", small)
    assert row.verdict == HOLDS and row.interval == judged(TRUE)[row.claim.id].interval


def test_dense_is_the_largest_random_size_and_sparse_about_a_fifth_of_it():
    plain = "split == 'random' and n_train == 200 and method == 'normal' and regulariser == 'rate'"
    other = world(TRUE).query(plain).assign(distortion_test=7.0, distortion_train=4.0)
    name = "rate_distortion/sparse/gap/3"
    largest = row_of(name, pd.concat([world(TRUE), other.assign(n_train=5000)]))
    assert largest.interval.mean == pytest.approx(0.2 - 3, abs=0.01)
    assert largest.statistic.note == "random split with 1,000 images and random split with 5,000 images"
    for added in (other.assign(n_train=50), other.assign(n_train=5000, split="constant_density")):
        row = row_of(name, pd.concat([world(TRUE), added]))
        assert row.interval.mean == pytest.approx(10 - 0.2, abs=0.01)


def test_sizes_are_compared_from_end_to_end():
    smallest = world(TRUE).query("split == 'random' and n_train == 200").assign(n_train=50)
    row = row_of("rate_distortion/volume/discrepancy", pd.concat([world(TRUE), smallest]))
    assert row.statistic.note == "random split with 50 images and random split with 1,000 images"


def test_trials_of_other_lengths_are_not_mixed():
    again = world(TRUE).assign(epochs=7)
    row = row_of("rate_distortion/sparse/u_shape/rise", pd.concat([world(TRUE), again]))
    assert row.verdict == TOO_FEW and "differ in epochs (7, " in row.reason


def test_one_beta_out_of_order_is_not_monotonic():
    last = world(TRUE).copy()
    stopped = (last["method"] == "early_stopping") & (last["beta"] == 0.1)
    last.loc[stopped, "distortion_test"] += 3.0
    row = row_of("rate_distortion/sparse/early_stopping", last)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(2, abs=0.02)
    assert "lowest mean at 0.001" in row.statistic.note


def test_a_gap_far_below_zero_is_no_memorisation():
    last = world(TRUE).copy()
    last.loc[last["n_train"] == DENSE, "distortion_train"] += 50
    assert row_of("rate_distortion/dense/memorisation/1", last).verdict == HOLDS


def test_at_every_beta_means_at_each():
    """One beta at which more layers are worse is enough, and does not change the mean."""
    last = world(TRUE).copy()
    worse = (
        (last["n_train"] == DENSE) & (last["hidden_layers"] == 3) & (last["beta"] == 5) & (last["split"] == "random")
    )
    last.loc[worse, "distortion_test"] += 4
    assert row_of("rate_distortion/dense/layers/distortion", last).verdict == HOLDS
    row = row_of("rate_distortion/dense/layers/distortion/uniform", last)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(2.5, abs=0.02)


def test_the_checkerboard_may_be_on_the_other_side():
    """Closeness has no sign: far below the dense split is far from it."""
    last = world(TRUE).copy()
    last.loc[last["split"] == "checkerboard", "distortion_test"] -= 40
    row = row_of("rate_distortion/checkerboard/closer/1", last)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(-61.4 / 7, abs=0.02)
