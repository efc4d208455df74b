"""Which part of the rate is it: the mutual information, or the marginal KL (bozkurt2021, Section 4.5, Figure 8)?

    R = I_q[x; z] + KL(q(z) || p(z)),   I_q[x; z] <= ln N                                       (Eq. 5)

on the sparse split, N images in the mixture q(z). How numbers are read is in ``rate_distortion``.
"""

import math

import numpy as np
import pandas as pd

from vaegen_ray.analysis.statistics import NEGATIVE, POSITIVE, NotEnoughRuns, Range
from vaegen_ray.claims.claim import MARGIN, Claim, Sides
from vaegen_ray.claims.rate_distortion import (
    LAYERS,
    MANY,
    VAE,
    along_beta,
    at,
    below_one,
    curve,
    largest,
    lowest,
    no_lower,
    smallest,
    sparse,
    value,
)

SATURATED = Range(1 - MARGIN, math.inf, "all but a tenth")


def part_of_maximum(rows: pd.DataFrame, layers: int) -> pd.DataFrame:
    """I_q[x; z] / ln N, over beta."""
    information, images = (
        curve(rows, column, sparse(rows), layers) for column in ("mutual_information", "information_images")
    )
    return (information / np.log(images)).dropna()


def beyond_saturation(rows: pd.DataFrame) -> Sides:
    """Test distortion at the largest beta where the mutual information is saturated minus that at the best beta below.

    Where it is saturated is told by the mean over seeds, which does not look at distortions.
    """
    parts = part_of_maximum(rows, MANY).mean()
    values = below_one(curve(rows, "distortion_test", sparse(rows), MANY))
    betas = [beta for beta in values if parts.get(beta, 0) > SATURATED.low]
    if len(betas) < 2:
        raise NotEnoughRuns(f"two betas < 1 with a saturated mutual information are needed; there are {len(betas)}")
    return Sides(values[betas[-1]] - lowest(values[betas[:-1]]), note=f"saturated from beta {betas[-1]:g} down")


def alone(rows: pd.DataFrame, weighed: str, of_gap: bool = False) -> Sides:
    """Test distortion, or the gap, at beta 1: of a VAE that pays for one part of the rate, and of one that pays all."""
    place = sparse(rows)

    def values(regulariser: str) -> pd.Series:
        network = {"regulariser": regulariser, "beta": VAE}
        test, train = (value(rows, f"distortion_{part}", place, MANY, **network) for part in ("test", "train"))
        return (test - train).dropna() if of_gap else test

    return Sides(values(weighed), values("rate"))


def saturates(layers: int) -> Claim:
    """The mutual information is close to ln N at the smallest beta."""
    return along_beta(
        lambda rows: Sides(smallest(part_of_maximum(rows, layers))),
        f"mutual information at the smallest beta, sparse, {LAYERS[layers]}", SATURATED, "of ln N",
        id=f"rate_distortion/information/saturates/{layers}", section="4.5, Figure 8",
        statement=f"At small beta, the mutual information of VAEs with {LAYERS[layers]} saturates at ln N.",
    )  # fmt: skip


def less_information(layers: int) -> Claim:
    """The mutual information falls as beta grows beyond 1."""

    def values(rows: pd.DataFrame) -> Sides:
        found = curve(rows, "mutual_information", sparse(rows), layers)
        return Sides(largest(found) - at(found, VAE))

    return along_beta(
        values, f"mutual information, sparse, {LAYERS[layers]}, largest beta minus beta 1", NEGATIVE,
        id=f"rate_distortion/information/falls/{layers}", section="4.5, Figure 8",
        statement=f"Beyond beta 1, the mutual information of VAEs with {LAYERS[layers]} falls.",
    )  # fmt: skip


def little_kl(layers: int) -> Claim:
    """The marginal KL is small at large beta: below a tenth of what it is at the smallest one."""

    def values(rows: pd.DataFrame) -> Sides:
        found = curve(rows, "marginal_kl", sparse(rows), layers)
        note = f"means {largest(found).mean():.4g} and {smallest(found).mean():.4g}"
        return Sides(largest(found) - MARGIN * smallest(found), note=note)

    return along_beta(
        values, f"marginal KL, sparse, {LAYERS[layers]}, at the largest beta minus a tenth of that at the smallest",
        NEGATIVE, id=f"rate_distortion/marginal_kl/small/{layers}", section="4.5, Figure 8",
        statement=f"Beyond beta 1, the marginal KL of VAEs with {LAYERS[layers]} is small.",
    )  # fmt: skip


def growing_kl(layers: int) -> Claim:
    """The marginal KL grows as beta falls below 1."""

    def values(rows: pd.DataFrame) -> Sides:
        found = curve(rows, "marginal_kl", sparse(rows), layers)
        return Sides(smallest(found) - at(found, VAE))

    return along_beta(
        values, f"marginal KL, sparse, {LAYERS[layers]}, smallest beta minus beta 1", POSITIVE,
        id=f"rate_distortion/marginal_kl/grows/{layers}", section="4.5, Figure 8",
        statement=f"Below beta 1, the marginal KL of VAEs with {LAYERS[layers]} grows.",
    )  # fmt: skip


def underfits(layers: int) -> Claim:
    """A beta beyond 1 costs training distortion."""

    def values(rows: pd.DataFrame) -> Sides:
        found = curve(rows, "distortion_train", sparse(rows), layers)
        return Sides(largest(found) - at(found, VAE))

    return along_beta(
        values, f"training distortion, sparse, {LAYERS[layers]}, largest beta minus beta 1", POSITIVE,
        id=f"rate_distortion/underfits/{layers}", section="4.5",
        statement=f"With a beta above 1, VAEs with {LAYERS[layers]} underfit.",
    )  # fmt: skip


INFORMATION = (
    *map(saturates, LAYERS),
    *map(less_information, LAYERS),
    *map(little_kl, LAYERS),
    *map(growing_kl, LAYERS),
    *map(underfits, LAYERS),
    along_beta(
        beyond_saturation,
        "test distortion, sparse, 3 layers, where the mutual information saturates minus the best smaller beta",
        POSITIVE, id="rate_distortion/information/beyond", section="abstract, 4.5",
        statement="Generalisation goes on improving after the mutual information is saturated.",
    ),
)  # fmt: skip
"""Figure 8."""

VARIANTS = (
    along_beta(
        lambda rows: alone(rows, "mutual_information"),
        "test distortion at beta 1, sparse, 3 layers, mutual information alone minus the whole rate", NEGATIVE,
        id="rate_distortion/variants/mutual_information/distortion", section="4.5, appendix",
        statement="Without the marginal KL in the objective, the test distortion is lower.",
    ),
    along_beta(
        lambda rows: alone(rows, "mutual_information", of_gap=True),
        "gap in distortion at beta 1, sparse, 3 layers, mutual information alone minus the whole rate", NEGATIVE,
        id="rate_distortion/variants/mutual_information/gap", section="4.5, appendix",
        statement="Without the marginal KL in the objective, the gap in distortion is smaller.",
    ),
    along_beta(
        lambda rows: alone(rows, "marginal_kl"),
        "test distortion at beta 1, sparse, 3 layers, marginal KL alone minus the whole rate", no_lower,
        id="rate_distortion/variants/marginal_kl/distortion", section="4.5, appendix",
        statement="Without the mutual information in the objective, the test distortion is not lower.",
    ),
)  # fmt: skip
"""Section 4.5's last experiment."""
