"""Which images of a generated data set are trained on, and which are tested on (bozkurt2021, Section 4.2).

    random            any n_train of N images; with few of them the paper's constant volume (CV): far neighbours
    checkerboard      every second cell of the hypercube of factors, two cells an axis: unseen combinations
    constant_density  2 n_train images of a smaller hypercube, half of them trained on: few images, near neighbours

In the last one a hypercube holds as many test images as training images, so the density of training images is that of
the random split in two halves, whatever n_train is. The paper does not say where its test images lie; inside of the
hypercube is our reading, since it calls this the easier problem, with near neighbours, and its sizes end just below
half of all images. The training images of a split, and the test images, are in one fixed shuffled order.
"""

from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from vaegen_ray.data.tetrominoes import Bins, factors
from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.trial import SPLITS

Indices = NDArray[np.int64]


def fixed_order(n: int) -> Indices:
    """The one shuffled order of ``n`` images that all experiments share: a permutation of 0 .. n - 1."""
    return np.random.Generator(np.random.PCG64(stream_seed(0, "split"))).permutation(n)


def check_split(split: str, n_train: int, images: int) -> None:
    """Whether a data set of so many images can be split so.

    Raises:
        SpecError: there is no such split, or not with so many training images.
    """
    if split not in SPLITS:
        raise SpecError(not_one_of("split", split, SPLITS))
    half = images // 2
    if split == "checkerboard" and n_train != half:
        raise SpecError(f"a checkerboard split trains on half of {images:,} images, n_train {half}; got {n_train!r}")
    most = half if split == "constant_density" else images - 1
    if type(n_train) is not int or not 1 <= n_train <= most:
        raise SpecError(
            f"n_train of a {split} split of {images:,} images must be a whole number from 1 to {most}; got {n_train!r}"
        )


def split_indices(split: str, n_train: int, bins: Bins, seed: int = 0) -> tuple[Indices, Indices]:
    """Training and test images of a set of Tetrominoes, as their numbers.

    Args:
        split: one of ``SPLITS``.
        n_train: training images.
        bins, seed: of the set.

    Raises:
        SpecError: see ``check_split``; or no factor has an even number of bins, so a checkerboard has no equal halves.
    """
    check_split(split, n_train, bins.images)
    order = fixed_order(bins.images)
    if split == "checkerboard":
        cells = 2 * bins.numbers() // np.array(astuple(bins))
        trained = cells.sum(axis=1)[order] % 2 == 0
        if trained.sum() != n_train:
            raise SpecError(f"a checkerboard split needs a factor with an even number of bins; got {bins}")
        return order[trained], order[~trained]
    if split == "constant_density":
        reach = factors(bins, seed).max(axis=1)  # the side of the smallest hypercube at 0 that holds the image
        inside = np.zeros(bins.images, dtype=bool)
        inside[np.argsort(reach, kind="stable")[: 2 * n_train]] = True
        order = order[inside[order]]
    return order[:n_train], order[n_train:]
