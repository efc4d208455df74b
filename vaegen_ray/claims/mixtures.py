"""Mixtures of real and synthetic images, with and without augmentation (Appendix B.7).

The ends of a mixture are methods of their own: DMaaPx has no real images, normal training has nothing else.
"""

from collections.abc import Callable
from functools import partial

import pandas as pd

from vaegen_ray.analysis.statistics import NEGATIVE, POSITIVE, NotEnoughRuns, by_seed, minus, slope, table
from vaegen_ray.claims.claim import NATS, NATS_ALL, Claim, Results, Sides

REAL = {"dmaapx": (0, False), "normal": (100, False), "dmaapx+aug_tuned": (0, True), "aug_tuned": (100, True)}
"""Methods at the ends of a mixture: percent of real data, and whether it is augmented."""
MIXED = {"mix": False, "mix+aug_tuned": True}
"""Methods between them: whether they are augmented."""


def select_mixtures(rows: pd.DataFrame) -> pd.DataFrame:
    """The trials of mixtures, with ``percent`` of real data and ``augmented``."""
    if not {"method", "real_percent"} <= set(rows):
        raise NotEnoughRuns("the results have no column method or real_percent")
    rows = rows[rows["method"].isin([*REAL, *MIXED])]
    ends = [REAL.get(method, (None, MIXED.get(method))) for method in rows["method"]]
    percent = [between if at is None else at for (at, _), between in zip(ends, rows["real_percent"], strict=True)]
    return rows.assign(percent=percent, augmented=[augmented for _, augmented in ends])


def trend(column: str) -> Callable[[Results], Sides]:
    """Slope over the part of real data, for all of it, without augmentation."""
    return lambda results: Sides(100 * slope(table(select_mixtures(results.last), column, "percent", augmented=False)))


def augmentation(column: str) -> Callable[[Results], Sides]:
    """With augmentation minus without, averaged over the percents that both have."""

    def values(results: Results) -> Sides:
        rows = select_mixtures(results.last)
        with_it, without = (table(rows, column, "percent", augmented=augmented) for augmented in (True, False))
        return Sides(minus(with_it, without).mean(axis=1))

    return values


def lead_of_dmaapx(column: str, sign: int) -> Callable[[Results], Sides]:
    """By how much DMaaPx alone is better than the best of all other mixtures; ``sign`` 1 where more is better."""

    def values(results: Results) -> Sides:
        found = sign * by_seed(select_mixtures(results.last), column, "augmented", "percent")
        wide = found.unstack(["augmented", "percent"]).dropna()
        if (False, 0) not in wide or wide.shape[1] < 2:
            raise NotEnoughRuns(f"{column} is needed of DMaaPx and of a mixture")
        own = wide[(False, 0)]
        return Sides(own - wide.drop(columns=[(False, 0)]).max(axis=1))

    return values


_claim = partial(Claim, section="B.7, Figure 15", sweep="real_synthetic_mix")
MIXTURES = (
    _claim(
        id="real_synthetic_mix/elbo_test/trend",
        statement="The test ELBO falls as the real part of a mixture grows.",
        statistic="slope of the test ELBO over the part of real data, no augmentation", unit=NATS_ALL,
        values=trend("elbo_test"), claimed=NEGATIVE,
    ),
    _claim(
        id="real_synthetic_mix/generalization_gap/trend",
        statement="The generalization gap grows with the real part of a mixture.",
        statistic="slope of the generalization gap over the part of real data, no augmentation", unit=NATS_ALL,
        values=trend("generalization_gap"), claimed=POSITIVE,
    ),
    _claim(
        id="real_synthetic_mix/elbo_test/augmentation",
        statement="Augmentation improves the test ELBO of mixtures.",
        statistic="test ELBO, with Aug.Tuned minus without, mean over percents", unit=NATS,
        values=augmentation("elbo_test"), claimed=POSITIVE,
    ),
    _claim(
        id="real_synthetic_mix/generalization_gap/augmentation",
        statement="Augmentation makes the generalization gap of mixtures smaller.",
        statistic="generalization gap, with Aug.Tuned minus without, mean over percents", unit=NATS,
        values=augmentation("generalization_gap"), claimed=NEGATIVE,
    ),
    _claim(
        id="real_synthetic_mix/elbo_test/dmaapx",
        statement="DMaaPx alone has the highest test ELBO of all mixtures, with and without augmentation.",
        statistic="test ELBO, DMaaPx minus the best other mixture", unit=NATS,
        values=lead_of_dmaapx("elbo_test", 1), claimed=POSITIVE,
    ),
    _claim(
        id="real_synthetic_mix/generalization_gap/dmaapx",
        statement="DMaaPx alone has the smallest generalization gap of all mixtures, with and without augmentation.",
        statistic="generalization gap, the smallest of other mixtures minus DMaaPx", unit=NATS,
        values=lead_of_dmaapx("generalization_gap", -1), claimed=POSITIVE,
    ),
)  # fmt: skip
"""Appendix B.7."""
