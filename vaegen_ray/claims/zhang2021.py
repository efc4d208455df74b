"""The claims of zhang2021 (Zhang, Hayes, Barber, 2021), each as a number that results can bear out or not.

All are judged by the sweep ``inference_gap``, for binary and for grey images apart. The paper's BPD is -ELBO / (D ln
2), with D pixels; here the ELBO itself is measured, in nats an image, which falls where the BPD rises. Epochs are those
at which all that is compared was measured; the best epoch of a seed is chosen by the other seeds
(``statistics.best_places``).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from vaegen_ray.analysis.statistics import (
    NEGATIVE,
    POSITIVE,
    NotEnoughRuns,
    at_places,
    best_minus,
    best_places,
    by_seed,
    largest_rise,
    minus,
    table,
)
from vaegen_ray.claims.claim import MARGIN, NATS, Claim, Results, Sides, no_more

HALF = 0.5
"""A cause of less than this part of a fall does not dominate it."""
AMORTIZED, OPTIMAL = "elbo_test", "elbo_optimal_inference"
SELF_CONSISTENT = "elbo_self_consistent_50"
NAMES = {
    AMORTIZED: "amortized inference",
    OPTIMAL: "optimal inference",
    SELF_CONSISTENT: "self-consistent training",
    "elbo_self_consistent_0": "self-consistent training with alpha = 0",
    "elbo_self_consistent_100": "self-consistent training with alpha = 1",
}


def over_epochs(results: Results, *columns: str) -> list[pd.DataFrame]:
    """The values of normal training, a row a seed and a column an epoch, at the epochs at which all columns are."""
    missing = [name for name in columns if name not in results.curves]
    if missing:
        raise NotEnoughRuns(f"the results have no column {', '.join(missing)}")
    numbers = results.curves[list(columns)].apply(pd.to_numeric, errors="coerce").astype(float)
    rows = results.curves[np.isfinite(numbers).all(axis=1)]
    return [table(rows, name, "effective_epoch", method="normal") for name in columns]


def decline(values: pd.DataFrame) -> pd.Series:
    """By seed, the value at the best epoch minus that at the last one."""
    return best_minus(values, values.columns.max())


def train_while_test_falls(results: Results) -> Sides:
    """Training ELBO at the last epoch minus that at the epoch where the test ELBO is best."""
    train, test = over_epochs(results, "elbo_train", AMORTIZED)
    return Sides(train[train.columns.max()] - at_places(train, best_places(test)))


def decline_of_optimal(results: Results, part: float) -> Sides:
    """Fall of the test ELBO after its best epoch: with optimal inference, minus a part of that with amortized."""
    optimal, amortized = over_epochs(results, OPTIMAL, AMORTIZED)
    ours, theirs = decline(optimal), decline(amortized)
    return Sides(ours - part * theirs, note=f"means {ours.mean():.4g} and {theirs.mean():.4g}")


def build_claim(values: Callable[[Results], Sides], name: str, claimed: Any = POSITIVE, **said: Any) -> Claim:
    """A claim of this paper; ``said`` are further fields of it."""
    return Claim(sweep="inference_gap", statistic=name, unit=NATS, values=values, claimed=claimed, **said)


def at_end(ours: str, theirs: str, **said: Any) -> Claim:
    """One way to infer has a higher test ELBO than another at the end."""
    return build_claim(
        lambda results: Sides(*(by_seed(results.last, column, method="normal") for column in (ours, theirs))),
        f"test ELBO at the last epoch, {NAMES[ours]} minus {NAMES[theirs]}", **said,
    )  # fmt: skip


def always(ours: str, theirs: str, **said: Any) -> Claim:
    """One way to infer has a higher test ELBO than another at every epoch."""
    return build_claim(
        lambda results: Sides(minus(*over_epochs(results, ours, theirs)).min(axis=1)),
        f"test ELBO, {NAMES[ours]} minus {NAMES[theirs]}, at the epoch where that is least", **said,
    )  # fmt: skip


OVERFITTING = (
    build_claim(
        lambda results: Sides(largest_rise(-over_epochs(results, "elbo_train")[0])),
        "training ELBO, largest fall from an epoch to a later one", no_more,
        id="inference_gap/train/throughout", section="2.2, Figure 1a",
        statement="The training BPD falls throughout the training,",
    ),
    build_claim(
        train_while_test_falls, "training ELBO, last epoch minus the epoch with the best test ELBO",
        id="inference_gap/train/late", section="2.2, Figure 1a",
        statement="also after the epoch with the best test BPD.",
    ),
    build_claim(
        lambda results: Sides(decline(over_epochs(results, AMORTIZED)[0])),
        "test ELBO, amortized inference, best epoch minus last epoch",
        id="inference_gap/amortized/overfits", section="2.2, Figure 1a",
        statement="With amortized inference the test BPD rises again: the VAE overfits.",
    ),
    at_end(
        OPTIMAL, AMORTIZED, id="inference_gap/optimal/end", section="2.2, Figure 1b",
        statement="Optimal inference has a lower test BPD than amortized inference at the end,",
    ),
    always(
        OPTIMAL, AMORTIZED, id="inference_gap/optimal/always", section="2.2, Figure 1b",
        statement="and at every epoch.",
    ),
    build_claim(
        lambda results: decline_of_optimal(results, MARGIN),
        "test ELBO, best epoch minus last epoch, optimal inference minus a tenth of amortized inference", NEGATIVE,
        id="inference_gap/optimal/stable", section="2.2, Figure 1b",
        statement="With optimal inference the test BPD is stable: overfitting of the model itself is negligible.",
    ),
    build_claim(
        lambda results: decline_of_optimal(results, HALF),
        "test ELBO, best epoch minus last epoch, optimal inference minus half of amortized inference", NEGATIVE,
        id="inference_gap/optimal/dominates", section="2.2, 5",
        statement="Most of the overfitting is that of the inference network.",
    ),
)  # fmt: skip
"""Section 2.2."""

SELF_CONSISTENCY = (
    at_end(
        SELF_CONSISTENT, AMORTIZED, id="inference_gap/self_consistent/end", section="3, Figure 2",
        statement="Self-consistent training of the encoder (alpha = 0.5) lowers the test BPD at the end,",
    ),
    always(
        SELF_CONSISTENT, AMORTIZED, id="inference_gap/self_consistent/always", section="3, Figure 2",
        statement="and consistently, from every epoch on which it starts.",
    ),
    at_end(
        OPTIMAL, SELF_CONSISTENT, id="inference_gap/self_consistent/gap", section="3, Figure 2",
        statement="A gap to optimal inference remains.",
    ),
    at_end(
        SELF_CONSISTENT, "elbo_self_consistent_0", id="inference_gap/alpha/data", section="3",
        statement="Half of the VAE's samples (alpha = 0.5) do better than training data alone.",
    ),
    at_end(
        SELF_CONSISTENT, "elbo_self_consistent_100", id="inference_gap/alpha/samples", section="3",
        statement="Half of the VAE's samples (alpha = 0.5) do better than samples alone.",
    ),
)  # fmt: skip
"""Section 3."""

CLAIMS: tuple[Claim, ...] = (*OVERFITTING, *SELF_CONSISTENCY)
"""The claims in the paper's order."""
