"""Fewer images, or images further apart (bozkurt2021, Section 4.4, Figures 4 and 5)?

Constant volume (CV) takes fewer images of the whole hypercube of factors, constant density (CD) as many of a smaller
one, and the checkerboard half of its cells. How numbers are read is in ``rate_distortion``.
"""

import math
from functools import partial

import pandas as pd

from vaegen_ray.analysis.statistics import NEGATIVE, POSITIVE, NotEnoughRuns, Range, best_minus, minus
from vaegen_ray.claims.claim import MARGIN, Claim, Sides
from vaegen_ray.claims.rate_distortion import (
    FEW,
    LAYERS,
    MANY,
    Place,
    along_beta,
    below_one,
    checkerboard,
    curve,
    dense,
    discrepancy,
    distances,
    ends,
    same_size,
    similar,
    sparse,
    two_sizes,
)

UNIT_OF_DISTANCE = "of intensity (l2)"


def apart(rows: pd.DataFrame, one: Place, other: Place, layers: int) -> pd.Series:
    """By seed, test distortion at one place minus that at the other, mean over beta."""
    return minus(*(curve(rows, "distortion_test", place, layers) for place in (one, other))).mean(axis=1)


def growth(rows: pd.DataFrame, split: str, low: float, high: float) -> pd.Series:
    """By seed, how far apart the test distortions of 1 layer with two numbers of images are, mean over beta."""
    few, many = (curve(rows, "distortion_test", Place(split, n), FEW) for n in (low, high))
    return minus(few, many).abs().mean(axis=1)


def weaker_with_size(rows: pd.DataFrame) -> Sides:
    """``growth`` from the fewest to the most images of constant density, and of constant volume at the same sizes."""
    low, high = (place.n_train for place in two_sizes(rows, "constant_density"))
    return Sides(*(growth(rows, split, low, high) for split in ("constant_density", "random")))


def smaller_minus_larger(rows: pd.DataFrame, layers: int) -> Sides:
    """Test distortion with constant density, fewest images minus most images, mean over beta."""
    low, high = two_sizes(rows, "constant_density")
    return Sides(apart(rows, low, high, layers), note=f"{low} and {high}")


def minimum_in_crop(rows: pd.DataFrame) -> Sides:
    """Test distortion of 1 layer with constant density, smallest beta minus best beta."""
    values = curve(rows, "distortion_test", same_size(rows)[0], FEW)
    return Sides(best_minus(-values, below_one(values).columns.min()), note=ends(values))


def less_discrepancy(rows: pd.DataFrame) -> Sides:
    """``discrepancy`` of constant density and of constant volume, with as many images."""
    crop, whole = same_size(rows)
    return Sides(discrepancy(rows, crop), discrepancy(rows, whole), f"{crop} and {whole}")


def more_discrepancy(rows: pd.DataFrame) -> Sides:
    """``discrepancy`` of the fewest images and of the most."""
    low, high = two_sizes(rows, "random")
    return Sides(discrepancy(rows, low), discrepancy(rows, high), f"{low} and {high}")


def nearer(rows: pd.DataFrame) -> Sides:
    """Distance to the nearest training image, with constant density and with constant volume."""
    crop, whole = same_size(rows)
    return Sides(distances(rows, crop), distances(rows, whole), f"{crop} and {whole}")


def closer_to_sparse(to_dense: pd.Series, to_sparse: pd.Series) -> Sides:
    """How far the checkerboard is from the dense split, and how far from the sparse one; either sign."""
    return Sides((to_dense.abs() - to_sparse.abs()).dropna(), note=f"{_mean(to_dense)}, {_mean(to_sparse, 'sparse')}")


def _mean(values: pd.Series, of: str = "dense") -> str:
    if values.empty:
        raise NotEnoughRuns(f"no seed has both the checkerboard and the {of} split")
    return f"minus {of}: {values.mean():+.4g}"


def similar_distance(rows: pd.DataFrame) -> Range:
    """Within a tenth of the distance in the sparse split."""
    margin = MARGIN * float(distances(rows, sparse(rows)).mean())
    if not 0 < margin < math.inf:
        raise NotEnoughRuns(f"the margin is a tenth of the sparse split's distance, which is not above 0: {margin:.4g}")
    return Range(-margin, margin, "a tenth of the distance in the sparse split")


def easier(layers: int) -> Claim:
    """Constant density has less test distortion than constant volume."""
    return along_beta(
        lambda rows: Sides(apart(rows, *same_size(rows), layers)),
        f"test distortion, {LAYERS[layers]}, mean over beta, constant density minus constant volume", NEGATIVE,
        id=f"rate_distortion/density/distortion/{layers}", section="4.4, Figure 4",
        statement=f"At constant density as many images generalise better than at constant volume ({LAYERS[layers]}).",
    )  # fmt: skip


def like_sparse(layers: int) -> Claim:
    """The checkerboard has the test distortion of the sparse split."""
    return along_beta(
        lambda rows: Sides(apart(rows, checkerboard(rows), sparse(rows), layers)),
        f"test distortion, {LAYERS[layers]}, mean over beta, checkerboard minus sparse", similar,
        id=f"rate_distortion/checkerboard/similar/{layers}", section="4.4, Figure 5",
        statement=f"The checkerboard generalises like the sparse split ({LAYERS[layers]}).",
    )  # fmt: skip


def unlike_dense(layers: int) -> Claim:
    """The checkerboard is closer to the sparse split than to the dense one, which has its size."""

    def values(rows: pd.DataFrame) -> Sides:
        place = checkerboard(rows)
        return closer_to_sparse(apart(rows, place, dense(rows), layers), apart(rows, place, sparse(rows), layers))

    return along_beta(
        values, f"test distortion, {LAYERS[layers]}, mean over beta, how far the checkerboard is from the dense split "
        "minus how far from the sparse one", POSITIVE,
        id=f"rate_distortion/checkerboard/closer/{layers}", section="4.4, Figure 5",
        statement="The checkerboard is closer to the sparse split than to the dense one, which has as many images "
        f"({LAYERS[layers]}).",
    )  # fmt: skip


def neighbours_unlike_dense(rows: pd.DataFrame) -> Sides:
    """``closer_to_sparse`` in the distance to the nearest training image."""
    of_checkerboard = distances(rows, checkerboard(rows))
    to_dense, to_sparse = ((of_checkerboard - distances(rows, at(rows))).dropna() for at in (dense, sparse))
    return closer_to_sparse(to_dense, to_sparse)


_size = partial(along_beta, section="4.4, Figure 4")
DENSITY = (
    _size(
        more_discrepancy, "difference in test distortion of 1 and 3 layers, mean over beta, sparse minus dense",
        POSITIVE, id="rate_distortion/volume/discrepancy",
        statement="At constant volume, 1 and 3 layers differ more when there are fewer images.",
    ),
    _size(
        less_discrepancy,
        "difference in test distortion of 1 and 3 layers, mean over beta, constant density minus constant volume",
        NEGATIVE, id="rate_distortion/density/discrepancy",
        statement="At constant density, 1 and 3 layers differ less than with as many images at constant volume.",
    ),
    *map(easier, LAYERS),
    _size(
        nearer, "distance to the nearest training image, constant density minus constant volume", NEGATIVE,
        UNIT_OF_DISTANCE, id="rate_distortion/density/neighbours",
        statement="At constant density, test images are closer to their nearest training image.",
    ),
    _size(
        minimum_in_crop, "test distortion, constant density, 1 layer, smallest beta minus best beta", POSITIVE,
        id="rate_distortion/density/u_shape",
        statement="At constant density, the test distortion of 1 layer still has a minimum over beta.",
    ),
    _size(
        lambda rows: smaller_minus_larger(rows, MANY),
        "test distortion, constant density, 3 layers, mean over beta, fewest minus most images", similar,
        id="rate_distortion/density/size/3",
        statement="At constant density, the test distortion of 3 layers does not depend on the number of images.",
    ),
    _size(
        weaker_with_size,
        "difference in test distortion of fewest and most images, 1 layer, mean over beta, constant density minus "
        "constant volume", NEGATIVE, id="rate_distortion/density/size/1",
        statement="At constant density, the test distortion of 1 layer depends less on the number of images.",
    ),
    _size(
        lambda rows: smaller_minus_larger(rows, FEW),
        "test distortion, constant density, 1 layer, mean over beta, fewest minus most images", NEGATIVE,
        id="rate_distortion/density/size/improves",
        statement="At constant density, VAEs with 1 layer generalise a little better with fewer images.",
    ),
)  # fmt: skip
"""Figure 4."""

CHECKERBOARD = (
    *map(like_sparse, LAYERS),
    *map(unlike_dense, LAYERS),
    along_beta(
        lambda rows: Sides(distances(rows, checkerboard(rows)), distances(rows, sparse(rows))),
        "distance to the nearest training image, checkerboard minus sparse", similar_distance, UNIT_OF_DISTANCE,
        id="rate_distortion/checkerboard/neighbours/similar", section="4.4, Figure 5",
        statement="Test images of the checkerboard are as far from training images as those of the sparse split.",
    ),
    along_beta(
        neighbours_unlike_dense, "distance to the nearest training image, how far the checkerboard is from the dense "
        "split minus how far from the sparse one", POSITIVE, UNIT_OF_DISTANCE,
        id="rate_distortion/checkerboard/neighbours/closer", section="4.4, Figure 5",
        statement="In this distance too, the checkerboard is closer to the sparse split than to the dense one.",
    ),
)  # fmt: skip
"""Figure 5."""
