"""The numbers of sweeps over beta, read from where the paper draws its curves (bozkurt2021, Figures 3 to 8).

A curve is a table: a row a seed, a column a beta, for one network and one place. The dense split is the random one with
the most training images, the sparse split the one closest to a fifth of them; where a data set has one size alone it is
small, as in Figure 7, and counts as sparse. Every function takes ``Results.last``.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from vaegen_ray.analysis.statistics import NotEnoughRuns, Range, best, by_seed, minus, table
from vaegen_ray.claims.claim import MARGIN, NATS, Claim, Sides

SWEEP = "rate_distortion"
AXES = ("split", "n_train", "epochs", "architecture", "hidden_layers", "nc", "regulariser", "beta")
"""What the trials of one experiment differ in: they share a data set."""
STANDARD = {"architecture": "fully_connected", "regulariser": "rate", "method": "normal"}
"""What curves are of, unless said."""
FEW, MANY = 1, 3
"""Hidden layers of the paper's networks of low and of high capacity."""
LAYERS = {FEW: "1 layer", MANY: "3 layers"}
FIFTH = 0.2
"""Images of the sparse split for each of the dense one, about."""
VAE = 1.0
"""The beta of a standard VAE."""


def along_beta(
    values: Callable[[pd.DataFrame], Sides], name: str, claimed: Range | Callable[[pd.DataFrame], Range],
    unit: str = NATS, **said: Any,
) -> Claim:  # fmt: skip
    """A claim about a sweep over beta; ``said`` are further fields of it."""
    return Claim(
        sweep=SWEEP, axes=AXES, statistic=name, unit=unit, claimed=claimed,
        values=lambda results: values(results.last), **said,
    )  # fmt: skip


# Places


class Place(NamedTuple):
    """A split and its training images."""

    split: str
    n_train: float

    def __str__(self) -> str:
        return f"{self.split.replace('_', ' ')} split with {self.n_train:,.0f} images"


def places(rows: pd.DataFrame, split: str) -> list[Place]:
    """The places of a split, by rising number of images."""
    found = by_seed(rows, "distortion_test", "n_train", "hidden_layers", "beta", split=split, **STANDARD)
    return [Place(split, n) for n in sorted(found.index.get_level_values("n_train").unique())]


def sparse(rows: pd.DataFrame) -> Place:
    """The random split with about a fifth of the images of the dense one, as 16k are of 82k."""
    *smaller, most = places(rows, "random")
    return min(smaller, key=lambda place: abs(math.log(place.n_train / (FIFTH * most.n_train))), default=most)


def dense(rows: pd.DataFrame) -> Place:
    """The random split with the most images."""
    return two_sizes(rows, "random")[1]


def checkerboard(rows: pd.DataFrame) -> Place:
    """The checkerboard split."""
    return places(rows, "checkerboard")[-1]


def two_sizes(rows: pd.DataFrame, split: str) -> tuple[Place, Place]:
    """The places of a split with the fewest and with the most images."""
    low, *more = places(rows, split)
    if not more:
        raise NotEnoughRuns(f"two sizes of the {split.replace('_', ' ')} split are needed; there is one, {low}")
    return low, more[-1]


def same_size(rows: pd.DataFrame) -> tuple[Place, Place]:
    """Constant density and constant volume (random), at the smallest size that both have."""
    by_size = {place.n_train: place for place in places(rows, "random")}
    crops = places(rows, "constant_density")
    for crop in crops:
        if crop.n_train in by_size:
            return crop, by_size[crop.n_train]
    there = ", ".join(f"{n:,.0f}" for n in by_size)
    raise NotEnoughRuns(f"no random split has as many images as the {crops[0]}; there are {there}")


# Curves


def curve(rows: pd.DataFrame, column: str, place: Place, layers: int, **network: object) -> pd.DataFrame:
    """The values of a column, a row a seed and a column a beta; ``network`` says what is not ``STANDARD``."""
    return table(rows, column, "beta", **{**place._asdict(), **STANDARD, "hidden_layers": layers, **network})


def value(rows: pd.DataFrame, column: str, place: Place, layers: int, **network: object) -> pd.Series:
    """By seed, the value of a column; ``network`` says what is not ``STANDARD``, and beta."""
    return by_seed(rows, column, **{**place._asdict(), **STANDARD, "hidden_layers": layers, **network})


def gap(rows: pd.DataFrame, place: Place, layers: int, **network: object) -> pd.DataFrame:
    """Distortion, test minus training."""
    test, train = (curve(rows, f"distortion_{part}", place, layers, **network) for part in ("test", "train"))
    return minus(test, train)


def likelihood_gap(rows: pd.DataFrame, place: Place, layers: int) -> pd.DataFrame:
    """log p(x), training minus test."""
    train, test = (curve(rows, f"log_likelihood_{part}", place, layers) for part in ("train", "test"))
    return minus(train, test)


def discrepancy(rows: pd.DataFrame, place: Place) -> pd.Series:
    """By seed, how far apart the test distortions of 1 and 3 layers are, mean over beta."""
    few, many = (curve(rows, "distortion_test", place, layers) for layers in (FEW, MANY))
    return minus(few, many).abs().mean(axis=1)


def distances(rows: pd.DataFrame, place: Place) -> pd.Series:
    """By seed, how far test images are from the nearest training image, mean over all VAEs of the place."""
    found = by_seed(
        rows, "neighbour_distance", "beta", "hidden_layers", "architecture", "regulariser", "method", **place._asdict()
    )
    return found.groupby("seed").mean()


# What a curve says


def at(values: pd.DataFrame, beta: float) -> pd.Series:
    """By seed, the value at one beta.

    Raises:
        NotEnoughRuns: the curve does not have it.
    """
    if beta not in values:
        raise NotEnoughRuns(f"beta {beta:g} is needed; there are {', '.join(f'{b:g}' for b in values)}")
    return values[beta]


def below_one(values: pd.DataFrame) -> pd.DataFrame:
    """The part of a curve with beta < 1.

    Raises:
        NotEnoughRuns: there is none.
    """
    return _part(values, [beta for beta in values if beta < VAE], "< 1")


def from_one(values: pd.DataFrame) -> pd.DataFrame:
    """The part of a curve with beta >= 1.

    Raises:
        NotEnoughRuns: there is none.
    """
    return _part(values, [beta for beta in values if beta >= VAE], ">= 1")


def _part(values: pd.DataFrame, betas: list[float], said: str) -> pd.DataFrame:
    if not betas:
        raise NotEnoughRuns(f"a beta {said} is needed; there are {', '.join(f'{b:g}' for b in values)}")
    return values[betas]


def smallest(values: pd.DataFrame) -> pd.Series:
    """By seed, the value at the smallest beta, which must be < 1."""
    return below_one(values).iloc[:, 0]


def largest(values: pd.DataFrame) -> pd.Series:
    """By seed, the value at the largest beta, which must be > 1."""
    beta = values.columns.max()
    if beta <= VAE:
        raise NotEnoughRuns(f"a beta > 1 is needed; the largest is {beta:g}")
    return values[beta]


def lowest(values: pd.DataFrame) -> pd.Series:
    """By seed, the value where the mean of the other seeds is lowest."""
    return -best(-values)


def ends(values: pd.DataFrame) -> str:
    """The ends of a curve and where its mean is lowest, in words."""
    low, high = values.columns.min(), values.columns.max()
    return f"beta {low:g} to {high:g}, lowest mean at {values.mean().idxmin():g}"


# Margins


def memorisation(rows: pd.DataFrame) -> float:
    """``MARGIN`` of the gap that memorisation makes: in the sparse split at beta 1, with 3 layers.

    Raises:
        NotEnoughRuns: its mean is not above zero, so that there is no margin.
    """
    mean = float(at(gap(rows, sparse(rows), MANY), VAE).mean())
    if mean <= 0:
        raise NotEnoughRuns(f"the margin is a tenth of the sparse split's gap in distortion, not above 0: {mean:.4g}")
    return MARGIN * mean


OF_GAP = "a tenth of the gap in distortion in the sparse split, at beta 1 with 3 layers"


def similar(rows: pd.DataFrame) -> Range:
    """Within the margin on either side."""
    margin = memorisation(rows)
    return Range(-margin, margin, OF_GAP)


def hardly(rows: pd.DataFrame) -> Range:
    """Below the margin, however far."""
    return Range(-math.inf, memorisation(rows), OF_GAP)


def no_lower(rows: pd.DataFrame) -> Range:
    """Above the margin with a minus sign, however far."""
    return Range(-memorisation(rows), math.inf, OF_GAP)
