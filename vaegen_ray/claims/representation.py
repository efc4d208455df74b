"""What codes and samples are good for (Section 5.2, Appendices F and G): classification, reconstruction, quality.

Accuracies are read for each classifier, on the clean test set from the metrics, on corrupted ones from the details;
here they are in percent.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pandas as pd

from vaegen_ray.analysis.statistics import NEGATIVE, POSITIVE, NotEnoughRuns, Range, by_seed, table
from vaegen_ray.claims.claim import POINTS, Claim, Results, Sides, point_key
from vaegen_ray.claims.methods import AUGMENTATIONS, versus
from vaegen_ray.spec.method import method_name

CLASSIFIERS = ("logistic_regression", "svm_linear", "svm_rbf", "knn")
LINEAR = CLASSIFIERS[:2]
OVERALL = "overall"
"""Stands where a corruption does in the details, but is a mixture of them all."""


def on_corrupted(results: Results, method: str, classifiers: tuple[str, ...] = CLASSIFIERS) -> pd.Series:
    """Accuracy in percent by seed, averaged over the corruptions and classifiers."""
    details, last = results.details, results.last
    if not {"trial_id", "quantity", "item", "values"} <= set(details) or "trial_id" not in last:
        raise NotEnoughRuns("the results have no details of accuracies")
    rows = details.loc[details["quantity"] == "accuracy", ["trial_id", "item", "values"]]
    parts = rows["item"].astype(str).str.rsplit("/", n=1)
    rows = rows[parts.str[-1].isin(classifiers) & (parts.str[0] != OVERALL)]
    if rows.empty:
        raise NotEnoughRuns("the results have no accuracies on corrupted test sets")
    rows = rows.assign(accuracy=[_only(values) for values in rows["values"]]).drop(columns="values")
    return 100 * table(last.merge(rows, on="trial_id"), "accuracy", "item", method=method).mean(axis=1)


def _only(values: object) -> object:
    """The value of a series of one; NaN for anything else."""
    numbers = list(values) if isinstance(values, Iterable) else []
    return numbers[0] if len(numbers) == 1 else math.nan


def on_clean(results: Results, method: str) -> pd.Series:
    """Accuracy in percent by seed, averaged over the classifiers."""
    found = {name: by_seed(results.last, f"accuracy_{name}", method=method) for name in CLASSIFIERS}
    return 100 * pd.DataFrame(found).dropna().mean(axis=1)


def linear_on_corrupted(results: Results) -> Sides:
    """DMaaPx minus the best other method."""
    found = {name: on_corrupted(results, name, LINEAR) for name in ("normal", "dmaapx", *AUGMENTATIONS)}
    seeds = pd.DataFrame(found).dropna()
    return Sides(seeds.pop("dmaapx") - seeds.max(axis=1))


def accuracy(of: Callable[[Results, str], pd.Series], test_set: str, method: str, claimed: Range, **said: Any) -> Claim:
    """A claim about the accuracy of a method minus that of normal training."""
    name = f"accuracy on {test_set}, mean of classifiers, {method_name(method)} minus normal training"
    return Claim(
        sweep="representation", statistic=name, unit=POINTS, claimed=claimed,
        values=lambda results: Sides(of(results, method), of(results, "normal")), **said,
    )  # fmt: skip


_corrupted = partial(accuracy, on_corrupted, "corrupted test sets", section="5.2, Figure 4 left")
CORRUPTED = (
    _corrupted(
        "dmaapx", POSITIVE, id="representation/corrupted/dmaapx",
        statement="Codes of DMaaPx are classified better than those of normal training on corrupted test sets.",
    ),
    *(
        _corrupted(
            aug, NEGATIVE, id=f"representation/corrupted/{aug}",
            statement=f"{method_name(aug)} hurts the classification of codes on corrupted test sets.",
        )
        for aug in AUGMENTATIONS
    ),
)  # fmt: skip
"""Section 5.2."""

_clean = partial(accuracy, on_clean, "the test set", section="F, Table 11")
_table_11 = partial(versus, sweep="representation", section="F, Table 11")
DOWNSTREAM = (
    _clean(
        "dmaapx", POSITIVE, id="representation/clean/dmaapx",
        statement="Codes of DMaaPx are classified better than those of normal training.",
        paper="mean of the four classifiers 37.2 % -> 38.2 %, with overlapping standard deviations",
    ),
    *(
        _clean(
            aug, NEGATIVE, id=f"representation/clean/{aug}",
            statement=f"{method_name(aug)} hurts the classification of codes.",
            paper=f"mean of the four classifiers 37.2 % -> {percent} %",
        )
        for aug, percent in zip(AUGMENTATIONS, (36.1, 36.2), strict=True)
    ),
    _table_11(
        "psnr_test", "dmaapx", "normal", POSITIVE,
        statement="DMaaPx reconstructs test images better than normal training.",
        paper="16.087 -> 16.370 dB, with overlapping standard deviations",
    ),
    _table_11(
        "fid", "dmaapx", "normal", partial(point_key, column="fid"),
        statement="DMaaPx and normal training have samples of the same quality, measured by FID.",
        paper="219.256 -> 219.081",
    ),
    *(
        _table_11(
            "fid", aug, "normal", POSITIVE,
            statement=f"{method_name(aug)} has worse samples (a higher FID) than normal training.",
            paper=f"219.256 -> {fid}",
        )
        for aug, fid in zip(AUGMENTATIONS, (237.238, 240.898), strict=True)
    ),
    _table_11(
        "inception_score", "dmaapx", "normal", NEGATIVE,
        statement="Measured by the Inception Score, normal training has the better samples.", paper="1.818 -> 1.614",
    ),
    Claim(
        id="representation/linear/dmaapx", section="G, Figure 19", sweep="representation",
        statement="On corrupted test sets, linear classifiers do best with the codes of DMaaPx.",
        statistic="accuracy of linear classifiers on corrupted test sets, DMaaPx minus the best other method",
        unit=POINTS, values=linear_on_corrupted, claimed=POSITIVE,
    ),
)  # fmt: skip
"""Appendices F and G."""
