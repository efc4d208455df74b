"""Diffusion models that were trained on a part of the training set (Appendices B.8 and D.3)."""

import json
import math
from collections.abc import Callable
from functools import partial

import pandas as pd

from vaegen_ray.analysis.statistics import NEGATIVE, POSITIVE, NotEnoughRuns, by_seed, slope, table
from vaegen_ray.claims.claim import NATS, NATS_ALL, POINTS, Claim, Results, Sides, point_key

CHANCE = 50.0
"""Two-sample accuracy, in percent, where real and synthetic images look alike."""


def select_subsets(rows: pd.DataFrame) -> pd.DataFrame:
    """The DMaaPx trials, with the ``percent`` of D_train that their diffusion model was trained on."""
    if not {"method", "stream", "n_train"} <= set(rows):
        raise NotEnoughRuns("the results have no column method, stream or n_train")
    rows = rows[rows["method"] == "dmaapx"]
    return rows.assign(percent=[_percent(*pair) for pair in zip(rows["stream"], rows["n_train"], strict=True)])


def _percent(stream: object, n_train: float) -> float:
    """Percent of D_train in the training set of a stream's diffusion model; NaN where the stream does not say."""
    try:
        return float(round(100 * json.loads(str(stream))["diffusion"]["n_train"] / n_train))
    except (ValueError, KeyError, TypeError):
        return math.nan


def subset(column: str, percent: int | None) -> Callable[[Results], Sides]:
    """DMaaPx with a diffusion model of this percent of D_train, None for the largest, and normal training."""

    def values(results: Results) -> Sides:
        found = by_seed(select_subsets(results.last), column, "percent").unstack()
        at = found.columns.max() if percent is None else percent
        if at not in found:
            there = ", ".join(f"{p:g}" for p in found)
            raise NotEnoughRuns(f"no diffusion model of {at} % of D_train; there are {there} %")
        return Sides(found[at].dropna(), by_seed(results.last, column, method="normal"), f"{at:g} % of D_train")

    return values


def trend(column: str) -> Callable[[Results], Sides]:
    """Slope over the part of D_train, for all of it."""
    scale = 100 if column.endswith("accuracy") else 1  # accuracies in percent
    return lambda results: Sides(100 * scale * slope(table(select_subsets(results.last), column, "percent")))


def diminishing(results: Results) -> Sides:
    """Rise of the test ELBO for each further percent of D_train, from 30 to 70 % minus from 70 % to the largest."""
    found = table(select_subsets(results.last), "elbo_test", "percent")
    top = found.columns.max()
    if not {30, 70} <= set(found) or top <= 70:
        there = ", ".join(f"{p:g}" for p in found)
        raise NotEnoughRuns(f"30, 70 and more % of D_train are needed; there are {there} %")
    return Sides((found[70] - found[30]) / 40 - (found[top] - found[70]) / (top - 70))


def above_chance(results: Results) -> Sides:
    """The lowest two-sample accuracy over all diffusion models, minus 50 %."""
    found = 100 * by_seed(select_subsets(results.last), "two_sample_accuracy", "percent").unstack().dropna()
    return Sides(found.min(axis=1) - CHANCE)


_claim = partial(Claim, section="B.8, Figure 16", sweep="diffusion_subsets")
DIFFUSION_SUBSETS = (
    _claim(
        id="diffusion_subsets/elbo_test/30",
        statement="With a diffusion model of 30 % of the data, DMaaPx matches normal training on all of it.",
        statistic="test ELBO, DMaaPx with 30 % minus normal training", unit=NATS,
        values=subset("elbo_test", 30), claimed=point_key,
    ),
    _claim(
        id="diffusion_subsets/generalization_gap/30",
        statement="With a diffusion model of 30 % of the data, DMaaPx has the smaller generalization gap.",
        statistic="generalization gap, DMaaPx with 30 % minus normal training", unit=NATS,
        values=subset("generalization_gap", 30), claimed=NEGATIVE,
    ),
    _claim(
        id="diffusion_subsets/elbo_test/trend",
        statement="The more data the diffusion model has seen, the higher the test ELBO.",
        statistic="slope of the test ELBO of DMaaPx over the part of the data", unit=NATS_ALL,
        values=trend("elbo_test"), claimed=POSITIVE,
    ),
    _claim(
        id="diffusion_subsets/elbo_test/largest",
        statement="With the diffusion model of most data, DMaaPx has a higher test ELBO than normal training.",
        statistic="test ELBO, DMaaPx with the largest part minus normal training", unit=NATS,
        values=subset("elbo_test", None), claimed=POSITIVE,
    ),
    _claim(
        id="diffusion_subsets/elbo_test/diminishing",
        statement="More data for the diffusion model has diminishing returns from 70 % on.",
        statistic="rise of the test ELBO from 30 to 70 % minus that from 70 % on, each for a percent of the data",
        unit=NATS, values=diminishing, claimed=POSITIVE,
    ),
    _claim(
        id="diffusion_subsets/two_sample/chance", section="D.3, Figure 18",
        statement="A classifier tells synthetic from real images better than chance, whatever the diffusion model saw.",
        paper="accuracy above 50 %",
        statistic="lowest two-sample accuracy over diffusion models, minus 50 %", unit=POINTS,
        values=above_chance, claimed=POSITIVE,
    ),
    _claim(
        id="diffusion_subsets/two_sample/trend", section="D.3, Figure 18",
        statement="The more data the diffusion model has seen, the harder its samples are to tell from real images.",
        statistic="slope of the two-sample accuracy over the part of the data", unit="points from none to all",
        values=trend("two_sample_accuracy"), claimed=NEGATIVE,
    ),
)  # fmt: skip
"""Appendices B.8 and D.3."""
