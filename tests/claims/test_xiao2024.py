"""Every claim in a world where it is true, in one where it is false, and in results that do not say.

A world is made of fake sweeps: numbers as in the paper (``TRUE``) or clearly against it (``FALSE``), with a little of
chance. Worlds are tables of numbers by method; the frames around them are as the results have them.
"""

import json
import random
from functools import cache

import numpy as np
import pandas as pd
import pytest

from vaegen_ray.claims.report import report
from vaegen_ray.claims.statistics import FAILS, HOLDS, TOO_FEW, NotEnoughRuns
from vaegen_ray.claims.xiao2024 import CLAIMS, Results, of_mixtures, of_subsets, turn_of

SEEDS = 4
TRUE, FALSE = "true", "false"
BY_ID = {claim.id: claim for claim in CLAIMS}
EACH = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
CLASSIFIERS = ("logistic_regression", "svm_linear", "svm_rbf", "knn")
CORRUPTIONS = ("contrast", "gaussian_blur")

GENERALIZATION = {  # test ELBO, generalization, amortization and robustness gap
    TRUE: {
        "normal": (-20, 4, 1.5, 0.5),
        "dmaapx": (-18, 0.2, 0.2, 0.2),
        "aug_naive": (-19.2, 2, 0.8, 0.4),
        "aug_tuned": (-19, 1.5, 0.6, 0.35),
        "early_stopping": (-19.5, 1, 1, 0.45),
    },
    FALSE: {
        "normal": (-18, 1, 0.2, 0.2),
        "dmaapx": (-20, 4, 1.5, 0.5),
        "aug_naive": (-19.2, 2, 0.8, 0.4),
        "aug_tuned": (-19, 1.5, 0.6, 0.35),
        "early_stopping": (-18.5, 1, 0.3, 0.3),
    },
}
OVER_EPOCHS = {  # test ELBO at epochs 1, 10, 100
    TRUE: {"normal": (-25, -19, -20), "dmaapx": (-25, -20, -18)},
    FALSE: {"normal": (-25, -20, -18), "dmaapx": (-25, -15, -20)},
}
DOWNSTREAM = {  # accuracy, PSNR, FID, Inception Score
    TRUE: {
        "normal": (0.6, 16, 219, 1.8),
        "dmaapx": (0.7, 16.4, 219.5, 1.6),
        "aug_naive": (0.5, 16, 237, 1.6),
        "aug_tuned": (0.55, 16, 241, 1.6),
    },
    FALSE: {
        "normal": (0.6, 16, 219, 1.8),
        "dmaapx": (0.5, 15, 300, 1.9),
        "aug_naive": (0.7, 16, 200, 1.6),
        "aug_tuned": (0.65, 16, 180, 1.6),
    },
}
ASLEEP = {  # test ELBO, generalization gap
    TRUE: {"normal": (-20, 4), "rha": (-19, 2), "dmaapx": (-18, 0.2), "dmaapx+rha": (-18.1, 0.2)},
    FALSE: {"normal": (-18, 1), "rha": (-19, 1), "dmaapx": (-20, 1), "dmaapx+rha": (-15, 1)},
}
MOLLIFIED = {
    TRUE: {"normal": (-20, 4), "mollify": (-20.1, 0.4), "dmaapx": (-18, 0.3), "dmaapx+mollify": (-18.1, 0.3)},
    FALSE: {"normal": (-20, 1), "mollify": (-15, 3), "dmaapx": (-18, 0.1), "dmaapx+mollify": (-10, 0.1)},
}
SMOOTH = {  # log q, variation
    TRUE: {"normal": (-10, 5), "dmaapx": (-5, 2)},
    FALSE: {"normal": (-5, 2), "dmaapx": (-10, 5)},
}
BUDGETS = {  # test ELBO by k
    TRUE: {1: -20.1, 2: -19.5, 5: -19, 10: -18.1, 50: -18, 0: -18},
    FALSE: {1: -22, 2: -22, 5: -22, 10: -23, 50: -25, 0: -25},
}
MORE_REAL = {  # test ELBO by method and k
    TRUE: {"more_real": {2: -18, 3: -17}, "dmaapx": {1: -19.5, 2: -19, 3: -18.8, 0: -18.5}},
    FALSE: {"more_real": {2: -19, 3: -18.9}, "dmaapx": {1: -19.5, 2: -18, 3: -17, 0: -16}},
}
SUBSETS = {  # test ELBO and two-sample accuracy by percent, generalization gap
    TRUE: ({10: -22, 30: -20.1, 50: -19.5, 70: -19.1, 90: -19.05, 100: -19}, (0.9, 0.8, 0.75, 0.7, 0.67, 0.64), 0.3),
    FALSE: ({10: -21, 30: -22, 50: -22.5, 70: -23, 90: -23.1, 100: -23.2}, (0.3, 0.4, 0.45, 0.5, 0.6, 0.7), 2.0),
}
NC, MZ, TURN = (4, 16, 64, 256, 512), (1, 2, 4, 8, 16, 32), 256
AXES = {
    # normal training: test ELBO and gap over nc at mz 1; over mz at the turn; over nc at mz 32
    TRUE: {
        "narrow": ((-25, -22, -20, -21, -22), (0.1, 0.5, 1, 4, 5)),
        "turn": ((-21, -20.5, -20, -19.6, -19.2, -19.2), (4, 3.5, 3, 2.5, 2, 2)),
        "wide": ((-24, -22, -20, -19.2, -18.9), (0.1, 0.4, 1, 2, 2.5)),
        "benefit": (1.5, 1.2, 1, 0.6, 0.3, 0.1),
        "gap of dmaapx": 0.05,
        "compared": ((1.5, 0.5), (0.4, 0.2)),
    },
    FALSE: {
        "narrow": ((-19, -19, -19, -19, -19), (5, 4, 3, 2, 1)),
        "turn": ((-19, -19.5, -20, -20.5, -21, -22), (2, 2.2, 2.5, 3, 3.5, 4)),
        "wide": ((-20, -20.5, -21, -22, -23), (5, 4, 3, 4, 2)),
        "benefit": (-3, -2.5, -2, -2, -1.5, -1),
        "gap of dmaapx": 6,
        "compared": ((0.5, 1.5), (0.2, 0.4)),
    },
}
"""``benefit``: what DMaaPx adds to the test ELBO by mz; ``compared``: amortization and robustness gap at mz 1 and 8."""


def jitter(*of):
    """A little chance: the same for the same trial, and larger from seed to seed than within a seed."""
    *_, seed = of
    return 0.05 * seed + random.Random(repr(of)).uniform(-0.004, 0.004)


def trials(sweep, seeds, *points):
    """A row for each point, a dictionary of fields and metrics, and seed; metrics get a little chance."""
    rows = []
    for number, (fields, metrics) in enumerate(points):
        for seed in range(seeds):
            noisy = {name: value + jitter(sweep, number, name, seed) for name, value in metrics.items()}
            rows.append({"nc": 256, "mz": 4, "budget": 0, "real_percent": 50, **fields, "seed": seed, **noisy})
    frame = pd.DataFrame(rows).assign(
        dataset="digits", n_train=1000, epochs=100, likelihood="bernoulli", status="completed"
    )
    return frame.assign(trial_id=[f"{sweep}-{i}" for i in range(len(frame))])


def results(last, curves=None, details=None):
    return Results(last, pd.DataFrame() if curves is None else curves, pd.DataFrame() if details is None else details)


def by_method(sweep, seeds, table, columns):
    points = [({"method": method}, dict(zip(columns, values, strict=False))) for method, values in table.items()]
    return trials(sweep, seeds, *points)


def generalization_gaps(world, seeds):
    columns = ("elbo_test", "generalization_gap", "amortization_gap", "robustness_gap")
    last = by_method("gaps", seeds, GENERALIZATION[world], columns)
    curves = [
        {
            **row,
            "effective_epoch": float(epoch),
            "elbo_test": value + jitter("epochs", epoch, row["method"], row["seed"]),
        }
        for row in last.to_dict("records")
        for epoch, value in zip((1, 10, 100), OVER_EPOCHS[world].get(row["method"], ()), strict=False)
    ]
    return results(last, pd.DataFrame(curves))


def representation(world, seeds):
    last = by_method("repr", seeds, DOWNSTREAM[world], ("accuracy", "psnr_test", "fid", "inception_score"))
    details = [
        {
            "trial_id": row["trial_id"],
            "quantity": "accuracy",
            "item": f"{corruption}/{name}",
            "values": [row["accuracy"] - 0.1],
        }
        for row in last.to_dict("records")
        for corruption in CORRUPTIONS
        for name in CLASSIFIERS
    ]
    # Of all corruptions together, the contrary: it must not count.
    details += [
        {
            "trial_id": row["trial_id"],
            "quantity": "accuracy",
            "item": f"overall/{name}",
            "values": [9 - 20 * row["accuracy"]],
        }
        for row in last.to_dict("records")
        for name in CLASSIFIERS
    ]
    details += [{"trial_id": "repr-0", "quantity": "log_q", "item": "pair-0", "values": [1.0, 2.0]}]
    clean = {f"accuracy_{name}": last["accuracy"] for name in CLASSIFIERS}
    return results(last.assign(**clean).drop(columns="accuracy"), details=pd.DataFrame(details))


def synthetic_budget(world, seeds):
    normal = ({"method": "normal"}, {"elbo_test": -20, "generalization_gap": 4})
    limited = [({"method": "dmaapx", "budget": k}, {"elbo_test": elbo}) for k, elbo in BUDGETS[world].items()]
    return results(trials("budget", seeds, normal, *limited))


def more_real_data(world, seeds):
    points = [
        ({"method": method, "budget": k}, {"elbo_test": elbo})
        for method, by_k in MORE_REAL[world].items()
        for k, elbo in by_k.items()
    ]
    return results(trials("real", seeds, *points))


def real_synthetic_mix(world, seeds):
    true, points = world == TRUE, []
    for percent in (0, 20, 40, 60, 80, 100):
        images = {0: "dmaapx", 100: "normal"}.get(percent, "mix")
        augmented = "aug_tuned" if percent == 100 else f"{images}+aug_tuned"
        share = {"real_percent": percent} if images == "mix" else {}
        if true:
            plain, tuned = (-19 - percent / 100, 0.4 + 0.03 * percent), (-19.1 - percent / 500, 0.5 + 0.01 * percent)
        else:
            plain, tuned = (-20 + percent / 100, 4 - 0.03 * percent), (-19.8, 4.5)
            tuned = (plain[0] - 0.5 if percent else -19.8, tuned[1])
        for method, (elbo, gap) in ((images, plain), (augmented, tuned)):
            points.append(({"method": method, **share}, {"elbo_test": elbo, "generalization_gap": gap}))
    return results(trials("mix", seeds, *points))


def diffusion_subsets(world, seeds):
    elbos, accuracies, gap = SUBSETS[world]
    points = [
        ({"method": "normal", "stream": None}, {"elbo_test": -20, "generalization_gap": 4 if world == TRUE else 1})
    ]
    for (percent, elbo), accuracy in zip(elbos.items(), accuracies, strict=True):
        stream = json.dumps({"diffusion": {"n_train": 10 * percent, "dataset": "digits"}})
        metrics = {"elbo_test": elbo, "generalization_gap": gap, "two_sample_accuracy": accuracy}
        points.append(({"method": "dmaapx", "stream": stream}, metrics))
    return results(trials("subsets", seeds, *points))


def axis_points(world):
    """(nc, mz) -> test ELBO, gap and what DMaaPx adds."""
    numbers = AXES[world]
    points = {}
    for mz, elbo, gap, add in zip(MZ, *numbers["turn"], numbers["benefit"], strict=True):
        points[(TURN, mz)] = (elbo, gap, add)
    for mz, name in ((1, "narrow"), (32, "wide")):
        for nc, elbo, gap in zip(NC, *numbers[name], strict=True):
            points.setdefault((nc, mz), (elbo, gap, 0.2 if world == TRUE else -2))
    return points


def complexity_axes(world, seeds):
    amortization, robustness = AXES[world]["compared"]
    points = []
    for (nc, mz), (elbo, gap, add) in axis_points(world).items():
        compared = {}
        if nc == TURN and mz in (1, 8):
            compared = {"amortization_gap": amortization[mz == 8], "robustness_gap": robustness[mz == 8]}
        points.append(
            ({"method": "normal", "nc": nc, "mz": mz}, {"elbo_test": elbo, "generalization_gap": gap, **compared})
        )
        metrics = {"elbo_test": elbo + add, "generalization_gap": AXES[world]["gap of dmaapx"]}
        points.append(({"method": "dmaapx", "nc": nc, "mz": mz}, metrics))
    return results(trials("axes", seeds, *points))


def double_descent(world, seeds):
    path = {(nc, mz): at for (nc, mz), at in axis_points(world).items() if mz == 1 or nc >= TURN}
    points = [
        ({"method": "normal", "nc": nc, "mz": mz}, {"elbo_test": elbo, "generalization_gap": gap})
        for (nc, mz), (elbo, gap, _) in path.items()
    ]
    return results(trials("path", seeds, *points))


@cache
def sweeps(world, seeds=SEEDS):
    """All sweeps of a world."""
    pair = ("elbo_test", "generalization_gap")
    return {
        "generalization_gaps": generalization_gaps(world, seeds),
        "representation": representation(world, seeds),
        "reverse_half_asleep": results(by_method("rha", seeds, ASLEEP[world], pair)),
        "mollification": results(by_method("mollify", seeds, MOLLIFIED[world], pair)),
        "latent_smoothness": results(by_method("smooth", seeds, SMOOTH[world], ("latent_log_q", "latent_variation"))),
        "synthetic_budget": synthetic_budget(world, seeds),
        "more_real_data": more_real_data(world, seeds),
        "real_synthetic_mix": real_synthetic_mix(world, seeds),
        "diffusion_subsets": diffusion_subsets(world, seeds),
        "complexity_axes": complexity_axes(world, seeds),
        "double_descent": double_descent(world, seeds),
    }


def row_of(claim, frames):
    (row,) = report(frames, (claim,))
    return row


def changed(change, world=TRUE, seeds=SEEDS):
    """The sweeps of a world with every frame changed."""
    return {name: Results(*map(change, frames)) for name, frames in sweeps(world, seeds).items()}


def with_last(sweep, change):
    """One sweep of the true world, with its last metrics changed."""
    frames = sweeps(TRUE)[sweep]
    return {sweep: frames._replace(last=change(frames.last))}


def setting(which, **values):
    """A change that sets columns of the rows that a query finds."""

    def change(last):
        last = last.copy()
        last.loc[last.query(which).index, list(values)] = list(values.values())
        return last

    return change


def test_ids_are_unique_and_every_sweep_is_known():
    assert len(BY_ID) == len(CLAIMS)
    assert {claim.sweep for claim in CLAIMS} == set(sweeps(TRUE))


@EACH
def test_a_claim_holds_where_it_is_true(claim):
    row = row_of(claim, sweeps(TRUE))
    assert row.verdict == HOLDS, f"{row.reason}; {row.measured}"
    assert len(row.statistic.values) == SEEDS


@EACH
def test_a_claim_does_not_hold_where_it_is_false(claim):
    row = row_of(claim, sweeps(FALSE))
    assert row.verdict == FAILS, f"{row.reason}; {row.measured}"


@EACH
def test_one_seed_is_not_enough(claim):
    assert row_of(claim, sweeps(TRUE, 1)).verdict == TOO_FEW


@EACH
def test_a_missing_sweep_is_not_enough(claim):
    row = row_of(claim, {name: frames for name, frames in sweeps(TRUE).items() if name != claim.sweep})
    assert (row.verdict, row.reason) == (TOO_FEW, f"no results of the sweep {claim.sweep}")


@EACH
def test_a_sweep_without_completed_trials_is_not_enough(claim):
    for change in (lambda rows: rows.iloc[:0], lambda rows: rows.assign(status="failed")):
        row = row_of(claim, changed(change))
        assert (row.verdict, row.reason) == (TOO_FEW, f"no completed trials of the sweep {claim.sweep}")


READ = ("trial_id", "seed", "method", "nc", "mz", "budget", "real_percent", "stream", "n_train", "effective_epoch")
METRICS = ("elbo_test", "generalization_gap", "amortization_gap", "robustness_gap", "accuracy_knn", "psnr_test", "fid")
METRICS += ("inception_score", "latent_log_q", "latent_variation", "two_sample_accuracy")
DETAILS = ("quantity", "item", "values")


@EACH
def test_without_any_of_its_columns_a_claim_is_judged_or_lacks_runs_but_never_breaks(claim):
    lacking, frames = [], sweeps(TRUE)[claim.sweep]
    for column in {*READ, *METRICS, *DETAILS} & {column for frame in frames for column in frame}:
        less = Results(*(frame.drop(columns=column, errors="ignore") for frame in frames))
        if {row.verdict for row in report({claim.sweep: less}, (claim,))} == {TOO_FEW}:
            lacking.append(column)
    assert "seed" in lacking and set(lacking) & {*METRICS, "values"}
    bare = Results(pd.DataFrame({"status": ["completed"]}), pd.DataFrame(), pd.DataFrame())
    assert row_of(claim, {claim.sweep: bare}).verdict == TOO_FEW


@EACH
def test_values_that_are_no_numbers_are_not_enough(claim):
    frames = sweeps(TRUE)[claim.sweep]
    measured = [name for name in frames.last if name.startswith(("elbo", "latent", "accuracy")) or name in METRICS]
    for value in (np.nan, None, np.inf):
        last, curves = (frame.assign(**dict.fromkeys(measured, value)) for frame in (frames.last, frames.curves))
        details = frames.details.assign(values=[[value]] * len(frames.details))
        assert row_of(claim, {claim.sweep: Results(last, curves, details)}).verdict == TOO_FEW


@pytest.mark.parametrize("world", [TRUE, FALSE])
def test_the_order_of_rows_changes_nothing(world):
    shuffled = report(changed(lambda rows: rows.sample(frac=1, random_state=3), world))
    for row, other in zip(report(sweeps(world)), shuffled, strict=True):
        assert (row.claim.id, row.verdict, row.reason) == (other.claim.id, other.verdict, other.reason)
        assert row.interval == other.interval


def test_seeds_pair():
    """Seeds far apart, methods a little: only paired differences tell."""
    frames = with_last(
        "generalization_gaps", lambda last: last.assign(elbo_test=last["elbo_test"] + 100 * last["seed"])
    )
    row = row_of(BY_ID["generalization_gaps/elbo_test/dmaapx-normal"], frames)
    assert row.verdict == HOLDS
    assert row.interval.mean == pytest.approx(2.0, abs=0.01)


def test_gaps_are_also_shown_apart_with_their_overlap():
    claim = BY_ID["generalization_gaps/generalization_gap/dmaapx-normal"]
    apart, together = (row_of(claim, sweeps(TRUE)).statistic.note, row_of(claim, close()).statistic.note)
    assert apart.startswith("DMaaPx 0.27") and "normal training 4.07" in apart and apart.endswith("do not overlap")
    assert together.endswith("the intervals overlap")


def close():
    """Generalization gaps of normal training just above those of DMaaPx."""
    frames = sweeps(TRUE)["generalization_gaps"]
    dmaapx = frames.last[frames.last["method"] == "dmaapx"]
    moved = dmaapx.assign(method="normal", generalization_gap=dmaapx["generalization_gap"] + 0.01)
    return {"generalization_gaps": frames._replace(last=pd.concat([dmaapx, moved]))}


def test_the_paper_is_quoted_by_data_set():
    assert BY_ID["generalization_gaps/generalization_gap/dmaapx-normal"].paper == (
        "CIFAR-10 841.54 -> 5.44; BinaryMNIST 25.76 -> 0.78; FashionMNIST 1234.5 -> 136.57"
    )
    assert "BinaryMNIST 0.79 -> 0.5" in BY_ID["generalization_gaps/robustness_gap/dmaapx-aug_tuned"].paper


def test_a_margin_is_a_tenth_of_the_gap_of_normal_training():
    row = row_of(BY_ID["synthetic_budget/one"], sweeps(TRUE))
    gap = sweeps(TRUE)["synthetic_budget"].last.query("method == 'normal'")["generalization_gap"].mean()
    assert row.statistic.claimed[:2] == pytest.approx((-gap / 10, gap / 10))
    assert "a tenth of normal training's generalization gap" in row.reason


def test_without_a_gap_above_zero_there_is_no_margin():
    frames = changed(lambda rows: rows.assign(generalization_gap=-1.0))
    row = row_of(BY_ID["synthetic_budget/one"], frames)
    assert row.verdict == TOO_FEW and "not above 0: -1" in row.reason


def test_margins_on_axes_are_from_the_turn_at_the_smallest_mz():
    row = row_of(BY_ID["complexity_axes/u_shape/gone"], sweeps(TRUE))
    assert row.statistic.claimed.high == pytest.approx(0.4, abs=0.02)  # a tenth of 4, the gap at nc 256, mz 1


def test_the_largest_budget_is_endless_where_there_is_one():
    claim = BY_ID["synthetic_budget/plateau"]
    assert row_of(claim, sweeps(TRUE)).statistic.note == "largest: endless"
    finite = with_last("synthetic_budget", lambda last: last.query("method == 'normal' or budget > 0"))
    assert row_of(claim, finite).statistic.note == "largest: k = 50"
    row = row_of(
        claim, with_last("synthetic_budget", lambda last: last.query("method == 'normal' or 0 < budget <= 10"))
    )
    assert (row.verdict, row.reason) == (TOO_FEW, "no budget above k = 10")


def test_the_ends_of_a_mixture_go_by_their_methods_and_not_by_the_neutral_percent():
    found = of_mixtures(sweeps(TRUE)["real_synthetic_mix"].last)
    by_name = {(row.method, row.real_percent): (row.percent, row.augmented) for row in found.itertuples()}
    assert by_name[("dmaapx", 50)] == (0, False) and by_name[("normal", 50)] == (100, False)
    assert by_name[("dmaapx+aug_tuned", 50)] == (0, True) and by_name[("aug_tuned", 50)] == (100, True)
    assert by_name[("mix", 20)] == (20, False) and by_name[("mix+aug_tuned", 80)] == (80, True)


def test_the_part_of_the_data_is_read_from_the_stream():
    found = of_subsets(sweeps(TRUE)["diffusion_subsets"].last)
    assert sorted(found["percent"].unique()) == [10, 30, 50, 70, 90, 100]
    assert of_subsets(found.assign(stream="no JSON"))["percent"].isna().all()
    with pytest.raises(NotEnoughRuns, match="stream"):
        of_subsets(found.drop(columns="stream"))


def test_a_missing_part_of_the_data_is_said():
    fewer = with_last("diffusion_subsets", lambda last: last[~last["stream"].astype(str).str.contains(": 300")])
    row = row_of(BY_ID["diffusion_subsets/elbo_test/30"], fewer)
    assert row.reason == "no diffusion model of 30 % of D_train; there are 10, 50, 70, 90, 100 %"


def test_highest_means_higher_than_each():
    """One mixture above DMaaPx is enough."""
    frames = with_last(
        "real_synthetic_mix", setting("method == 'mix+aug_tuned' and real_percent == 40", elbo_test=-10.0)
    )
    row = row_of(BY_ID["real_synthetic_mix/elbo_test/dmaapx"], frames)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(-9, abs=0.1)


def test_always_means_at_every_mz():
    frames = with_last("complexity_axes", setting("method == 'dmaapx' and mz == 4", generalization_gap=7.0))
    row = row_of(BY_ID["complexity_axes/generalization_gap/always"], frames)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(-4, abs=0.1)


def test_the_path_ends_its_first_stretch_at_the_turn():
    """A width beyond the turn at the smallest mz is not on the path, however good it is."""
    frames = with_last("double_descent", setting("nc == 512 and mz == 1", elbo_test=0.0))
    row = row_of(BY_ID["double_descent/up"], frames)
    assert row.interval.mean == pytest.approx(1.0, abs=0.02)


def test_without_pairs_in_common_real_and_synthetic_data_are_not_compared():
    apart = with_last("more_real_data", lambda last: last.query("method == 'more_real' or budget < 2"))
    row = row_of(BY_ID["more_real_data/elbo_test"], apart)
    assert row.verdict == TOO_FEW and "share no seed and budget" in row.reason


def test_real_and_synthetic_data_are_compared_beyond_the_training_set_alone():
    frames = with_last("more_real_data", lambda last: pd.concat([last, last[last["budget"] == 2].assign(budget=1)]))
    frames["more_real_data"] = frames["more_real_data"]._replace(
        last=frames["more_real_data"].last.drop_duplicates(["method", "budget", "seed"])
    )
    assert row_of(BY_ID["more_real_data/elbo_test"], frames).statistic.note.split(":")[0] == "k = 2"


def test_no_better_also_means_far_worse():
    frames = with_last("reverse_half_asleep", setting("method == 'dmaapx+rha'", elbo_test=-90.0))
    assert row_of(BY_ID["reverse_half_asleep/elbo_test/dmaapx+rha-dmaapx"], frames).verdict == HOLDS


def test_a_gap_far_below_zero_is_not_near_zero():
    frames = with_last("complexity_axes", setting("method == 'dmaapx' and nc == 64", generalization_gap=-3.0))
    row = row_of(BY_ID["complexity_axes/generalization_gap/dmaapx"], frames)
    assert row.verdict == FAILS and row.interval.mean == pytest.approx(3.0)


def test_best_means_better_than_the_best_other_method():
    frames = sweeps(TRUE)["representation"]
    better = frames.last.loc[frames.last["method"] == "aug_tuned", "trial_id"]
    values = [[0.9] if trial in set(better) else at for trial, at in frames.details[["trial_id", "values"]].to_numpy()]
    changed_details = frames._replace(details=frames.details.assign(values=values))
    row = row_of(BY_ID["representation/linear/dmaapx"], {"representation": changed_details})
    assert row.verdict == FAILS and row.interval.mean < -10


def test_the_turn_of_a_full_grid_leaves_a_larger_width():
    grid = pd.DataFrame([(nc, mz) for nc in (4, 8, 16) for mz in (1, 2)], columns=["nc", "mz"])
    rows = grid.assign(method="normal", seed=0, elbo_test=-1.0)
    assert turn_of(rows) == 8
    assert turn_of(rows[rows["nc"] == 16]) == 16
    with pytest.raises(NotEnoughRuns, match="no nc has two values of mz"):
        turn_of(rows[rows["mz"] == 1])
