"""Does the rate help VAEs of low and of high capacity to generalise (bozkurt2021, Section 4.4, Figures 3, 6 and 7)?

How numbers are read from the curves over beta is in ``rate_distortion``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from vaegen_ray.analysis.statistics import NEGATIVE, POSITIVE, best, best_minus, largest_rise, minus
from vaegen_ray.claims.claim import Claim, Sides
from vaegen_ray.claims.rate_distortion import (
    FEW,
    LAYERS,
    MANY,
    VAE,
    along_beta,
    at,
    below_one,
    curve,
    dense,
    ends,
    from_one,
    gap,
    hardly,
    largest,
    likelihood_gap,
    lowest,
    sparse,
)

CONVOLUTIONAL = {"architecture": "convolutional"}
STOPPED = {"method": "early_stopping"}
GAPS = {"distortion": gap, "log_likelihood": likelihood_gap}
GAP_NAMES = {"distortion": "gap in distortion", "log_likelihood": "gap in log p(x)"}


def up_again(rows: pd.DataFrame, layers: int, **network: object) -> pd.Series:
    """By seed, by how much the test distortion of the sparse split rises again after its minimum, as beta falls."""
    values = curve(rows, "distortion_test", sparse(rows), layers, **network)
    return best_minus(-values, below_one(values).columns.min())


def against_falling_beta(rows: pd.DataFrame, column: str, layers: int, **network: object) -> Sides:
    """How far a distortion of the sparse split rises at most from a beta to a smaller one."""
    values = curve(rows, column, sparse(rows), layers, **network)
    return Sides(largest_rise(values[values.columns[::-1]]), note=ends(values))


def smaller_beta(rows: pd.DataFrame, place: Callable[..., Any], layers: int) -> Sides:
    """Test distortion at beta 1 minus that at the best beta below it."""
    values = curve(rows, "distortion_test", place(rows), layers)
    return Sides(at(values, VAE) - lowest(below_one(values)), note=ends(values))


def highest_below_one(column: str, name: str, **said: Any) -> Claim:
    """Sparse split, 3 layers: a column is highest at a beta below 1."""

    def values(rows: pd.DataFrame) -> Sides:
        found = curve(rows, column, sparse(rows), MANY)
        note = f"highest mean at beta {found.mean().idxmax():g}"
        return Sides(best(below_one(found)) - best(from_one(found)), note=note)

    return along_beta(
        values, f"{name}, sparse, 3 layers, best beta < 1 minus best beta >= 1", POSITIVE,
        id=f"rate_distortion/sparse/{column}/below_one", section="4.4, Figure 3", paper="beta = 0.1", **said,
    )  # fmt: skip


def no_memorisation(layers: int) -> Claim:
    """Dense split: no gap in distortion at any beta."""

    def values(rows: pd.DataFrame) -> Sides:
        found = gap(rows, dense(rows), layers)
        return Sides(found.max(axis=1), note=f"largest mean at beta {found.mean().idxmax():g}")

    return along_beta(
        values, f"gap in distortion, dense, {LAYERS[layers]}, at the beta where it is largest", hardly,
        id=f"rate_distortion/dense/memorisation/{layers}", section="4.4, Figure 3",
        statement=f"On a dense split, VAEs with {LAYERS[layers]} do not memorise: hardly any gap at any beta.",
    )  # fmt: skip


def more_layers(column: str, everywhere: bool) -> Claim:
    """Dense split: 3 layers have less distortion, or rate, than 1; in the mean over beta or everywhere."""

    def values(rows: pd.DataFrame) -> Sides:
        many, few = (curve(rows, f"{column}_test", dense(rows), layers) for layers in (MANY, FEW))
        found = minus(many, few)
        if not everywhere:
            return Sides(found.mean(axis=1))
        return Sides(found.max(axis=1), note=f"largest mean at beta {found.mean().idxmax():g}")

    where = "at the beta where that is largest" if everywhere else "mean over beta"
    return along_beta(
        values, f"test {column}, dense, 3 layers minus 1, {where}", NEGATIVE,
        id=f"rate_distortion/dense/layers/{column}" + "/uniform" * everywhere, section="4.4, Figure 3",
        statement=f"On a dense split, more layers lower the test {column}{', at every beta' * everywhere}.",
    )  # fmt: skip


def helps(name: str, place: Callable[..., Any], layers: int) -> Claim:
    """A beta below 1 has less test distortion than a standard VAE."""
    return along_beta(
        lambda rows: smaller_beta(rows, place, layers),
        f"test distortion, {name}, {LAYERS[layers]}, beta 1 minus the best beta < 1", POSITIVE,
        id=f"rate_distortion/{name}/smaller_beta/{layers}", section="4.4, Figure 3",
        statement=f"On a {name} split, a beta below 1 lowers the test distortion of VAEs with {LAYERS[layers]}.",
    )  # fmt: skip


def larger_gap(layers: int) -> Claim:
    """A standard VAE has a larger gap on the sparse split."""

    def values(rows: pd.DataFrame) -> Sides:
        low, high = sparse(rows), dense(rows)
        return Sides(at(gap(rows, low, layers), VAE), at(gap(rows, high, layers), VAE), f"{low} and {high}")

    return along_beta(
        values, f"gap in distortion at beta 1, {LAYERS[layers]}, sparse minus dense", POSITIVE,
        id=f"rate_distortion/sparse/gap/{layers}", section="4.4, Figures 3 and 7",
        statement=f"The gap grows with the difficulty: it is larger on a sparse split ({LAYERS[layers]}).",
    )  # fmt: skip


def gap_below_one(of: str) -> Claim:
    """Sparse split, 3 layers: the gap is smallest at a beta below 1."""

    def values(rows: pd.DataFrame) -> Sides:
        found = GAPS[of](rows, sparse(rows), MANY)
        return Sides(lowest(from_one(found)) - lowest(below_one(found)), note=ends(found))

    return along_beta(
        values, f"{GAP_NAMES[of]}, sparse, 3 layers, smallest with beta >= 1 minus smallest with beta < 1", POSITIVE,
        id=f"rate_distortion/sparse/gap/{of}/below_one", section="4.4, Figure 3", paper="beta = 0.1",
        statement=f"On a sparse split, the {GAP_NAMES[of]} of VAEs with 3 layers is smallest at a beta below 1.",
    )  # fmt: skip


def gap_at_tenth(of: str) -> Claim:
    """Sparse split, 3 layers: the gap is smaller at beta 0.1 than at 1."""

    def values(rows: pd.DataFrame) -> Sides:
        found = GAPS[of](rows, sparse(rows), MANY)
        return Sides(at(found, 0.1) - at(found, VAE))

    return along_beta(
        values, f"{GAP_NAMES[of]}, sparse, 3 layers, beta 0.1 minus beta 1", NEGATIVE,
        id=f"rate_distortion/sparse/gap/{of}/tenth", section="4.4, Figure 3",
        statement=f"On a sparse split, the {GAP_NAMES[of]} of VAEs with 3 layers is smaller at beta 0.1 than at 1.",
    )  # fmt: skip


_sparse = partial(along_beta, section="4.4, Figure 3")
DENSE = (
    *map(no_memorisation, LAYERS),
    *(more_layers(column, everywhere) for column in ("distortion", "rate") for everywhere in (False, True)),
    *(helps("dense", dense, layers) for layers in LAYERS),
)
"""Figure 3, top."""

SPARSE = (
    *map(larger_gap, LAYERS),
    _sparse(
        lambda rows: Sides(*(at(gap(rows, sparse(rows), layers), VAE) for layers in (MANY, FEW))),
        "gap in distortion at beta 1, sparse, 3 layers minus 1", POSITIVE,
        id="rate_distortion/sparse/memorisation",
        statement="On a sparse split, VAEs with 3 layers memorise: their gap is larger than that of 1 layer.",
    ),
    _sparse(
        lambda rows: against_falling_beta(rows, "distortion_train", FEW),
        "training distortion, sparse, 1 layer, largest rise from a beta to a smaller one", hardly,
        id="rate_distortion/sparse/train/1",
        statement="With 1 layer, the training distortion on a sparse split only falls as beta falls.",
    ),
    _sparse(
        lambda rows: Sides(
            largest(curve(rows, "distortion_test", sparse(rows), FEW))
            - lowest(curve(rows, "distortion_test", sparse(rows), FEW))
        ),
        "test distortion, sparse, 1 layer, largest beta minus best beta", POSITIVE,
        id="rate_distortion/sparse/u_shape/fall",
        statement="With 1 layer, the test distortion on a sparse split first falls as beta falls,",
    ),
    _sparse(
        lambda rows: Sides(up_again(rows, FEW)),
        "test distortion, sparse, 1 layer, smallest beta minus best beta", POSITIVE,
        id="rate_distortion/sparse/u_shape/rise", section="4.4, Figures 3 and 7",
        statement="and then rises again: a trade-off of bias and variance.",
    ),
    _sparse(
        lambda rows: against_falling_beta(rows, "distortion_test", FEW, **STOPPED),
        "test distortion, sparse, 1 layer, early stopping, largest rise from a beta to a smaller one", hardly,
        id="rate_distortion/sparse/early_stopping",
        statement="With early stopping, the test distortion of 1 layer only falls as beta falls.",
    ),
    helps("sparse", sparse, MANY),
    highest_below_one(
        "elbo_test", "test ELBO", statement="On a sparse split, the test ELBO (with beta 1) of VAEs with 3 layers has "
        "its maximum at a beta below 1.",
    ),
    highest_below_one(
        "log_likelihood_test", "log p(x) of test images",
        statement="So has the log marginal likelihood of test images.",
    ),
    *map(gap_below_one, GAPS),
    *map(gap_at_tenth, GAPS),
    _sparse(
        lambda rows: Sides(up_again(rows, FEW) - up_again(rows, MANY)),
        "test distortion, sparse, smallest beta minus best beta, 1 layer minus 3", POSITIVE,
        id="rate_distortion/sparse/u_shape/layers", section="4.4, Figure 7",
        paper="on all data sets but 3dShapes",
        statement="On a sparse split, the curve of 3 layers is closer to a monotonic one than that of 1 layer.",
    ),
)  # fmt: skip
"""Figure 3, bottom; Figure 7 has the same curves of other data sets."""

NETWORKS = (
    along_beta(
        lambda rows: against_falling_beta(rows, "distortion_test", MANY, **CONVOLUTIONAL),
        "test distortion, sparse, 3 convolutions, largest rise from a beta to a smaller one", hardly,
        id="rate_distortion/convolutional/3", section="4.4, Figure 6",
        statement="With 3 convolutions, the test distortion on a sparse split only falls as beta falls.",
    ),
    along_beta(
        lambda rows: Sides(up_again(rows, FEW), up_again(rows, FEW, **CONVOLUTIONAL)),
        "test distortion, sparse, smallest beta minus best beta, 1 layer minus 1 convolution", POSITIVE,
        id="rate_distortion/convolutional/1", section="4.4, Figure 6",
        statement="With 1 convolution, the test distortion rises again by less than with 1 fully-connected layer.",
    ),
)  # fmt: skip
"""Figure 6."""
