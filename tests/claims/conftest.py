"""Worlds of fake sweeps: one in which every claim is true, one in which every claim is false.

A world has numbers as in the paper ("true") or clearly against it ("false"), with a little of chance. Its numbers are
tables by method; the frames around them are as the results have them.
"""

import json
import random
from functools import cache

import pandas as pd
import pytest

from vaegen_ray.claims.claim import Results

SEEDS = 4
TRUE, FALSE = "true", "false"
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
def sweeps_of(world, seeds=SEEDS):
    """Name -> results of every sweep of a world."""
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


@pytest.fixture(scope="session")
def sweeps():
    """Makes the sweeps of a world, by name: ``sweeps(world, seeds=4)``. They are shared: change copies only."""
    return sweeps_of


@pytest.fixture
def with_last(sweeps):
    """Makes one sweep of the true world, with its last metrics changed by a function."""

    def make(sweep, change):
        frames = sweeps(TRUE)[sweep]
        return {sweep: frames._replace(last=change(frames.last))}

    return make
