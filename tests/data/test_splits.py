"""Splits of generated data: their sizes, who is whose neighbour, and that they share the memory of one set."""

import itertools
import pickle

import numpy as np
import pytest

from vaegen_ray.data import catalog
from vaegen_ray.data.images import ImageSet
from vaegen_ray.data.splits import check_split, fixed_order, split_indices
from vaegen_ray.data.tetrominoes import Bins, factors, generate
from vaegen_ray.errors import SpecError
from vaegen_ray.spec.trial import SPLITS

PAPER = Bins()
N = PAPER.images
SMALL = Bins(angle=4, hue=4, scale=5, x=4, y=2)
SIZES = {5: 8_192, 10: 16_384, 15: 24_576, 20: 32_768, 25: 40_960, 30: 49_152, 35: 57_344, 40: 65_536, 50: 81_920}
"""Training images of bozkurt2021's small splits (8k to 65k) and of its halves (82k), by percent of all images."""


def small_of(percent):
    return SMALL.images * percent // 100


@pytest.fixture(scope="module")
def paper_factors():
    return factors(PAPER)


@pytest.mark.parametrize("split", ["random", "constant_density"])
@pytest.mark.parametrize(("percent", "n_train"), SIZES.items())
def test_the_sizes_are_the_paper_s(split, percent, n_train):
    train, test = split_indices(split, n_train, PAPER)
    assert n_train == N * percent // 100
    assert len(train) == n_train
    assert len(test) == (N - n_train if split == "random" else n_train)
    both = np.concatenate([train, test])
    assert len(np.unique(both)) == len(both)
    assert both.min() >= 0
    assert both.max() < N


def test_the_checkerboard_has_two_halves():
    train, test = split_indices("checkerboard", N // 2, PAPER)
    assert len(train) == len(test) == 81_920
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(N))


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_the_same_each_time_and_shuffled(split):
    first, again = (split_indices(split, small_of(50), SMALL) for _ in range(2))
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
        assert abs(np.corrcoef(np.arange(len(part)), part)[0, 1]) < 0.2


def test_smaller_random_training_sets_are_subsets_of_larger_ones():
    half, _ = split_indices("random", small_of(50), SMALL)
    for percent in SIZES:
        train, _ = split_indices("random", small_of(percent), SMALL)
        np.testing.assert_array_equal(train, half[: small_of(percent)])
    np.testing.assert_array_equal(half, fixed_order(SMALL.images)[: small_of(50)])


def cells_of(indices, bins):
    return [tuple(cell) for cell in (2 * bins.numbers()[indices] // np.array(bins.counts)).tolist()]


def test_a_cell_trains_as_a_whole_and_its_neighbours_along_each_axis_do_the_opposite():
    train, test = (set(cells_of(part, PAPER)) for part in split_indices("checkerboard", N // 2, PAPER))
    assert train.isdisjoint(test)
    assert train | test == set(itertools.product((0, 1), repeat=5))
    for cell in test:
        neighbours = {tuple(c ^ (axis == i) for i, c in enumerate(cell)) for axis in range(5)}
        assert len(neighbours) == 5
        assert neighbours <= train


def test_checkerboard_marginals_are_those_of_all_images():
    for part in split_indices("checkerboard", N // 2, PAPER):
        for axis, count in enumerate(PAPER.counts):
            np.testing.assert_array_equal(np.bincount(PAPER.numbers()[part, axis]), N // 2 // count)


@pytest.mark.parametrize("percent", [p for p in SIZES if p < 50])
def test_constant_density_is_a_smaller_hypercube(paper_factors, percent):
    n_train = SIZES[percent]
    train, test = split_indices("constant_density", n_train, PAPER)
    reach = paper_factors.max(axis=1)
    inside = np.concatenate([train, test])
    outside = np.setdiff1d(np.arange(N), inside)
    side = reach[inside].max()
    assert side < reach[outside].min()
    assert side == pytest.approx((2 * n_train / N) ** 0.2, rel=0.01)
    # As many training images a volume as in the random split in halves, in each half of the hypercube too.
    assert n_train / side**5 == pytest.approx(N / 2, rel=0.05)
    for axis in range(5):
        near = (paper_factors[:, axis] < side / 2).nonzero()[0]
        assert np.isin(train, near).sum() / np.isin(test, near).sum() == pytest.approx(1, abs=0.1)


def test_constant_density_of_all_images_is_the_random_split():
    for part, same in zip(
        split_indices("constant_density", small_of(50), SMALL),
        split_indices("random", small_of(50), SMALL),
        strict=True,
    ):
        np.testing.assert_array_equal(part, same)


def test_constant_density_follows_the_seed_of_the_images():
    parts = [np.concatenate(split_indices("constant_density", small_of(20), SMALL, seed)) for seed in (0, 1)]
    assert set(parts[0]) != set(parts[1])
    for seed, part in enumerate(parts):
        reach = factors(SMALL, seed).max(axis=1)
        assert reach[part].max() < np.delete(reach, part).min()


@pytest.mark.parametrize(
    ("split", "n_train", "said"),
    [
        ("random", 0, "from 1 to 639; got 0"),
        ("random", 640, "from 1 to 639; got 640"),
        ("random", -1, "from 1 to 639; got -1"),
        ("constant_density", 321, "from 1 to 320; got 321"),
        ("constant_density", 0, "from 1 to 320; got 0"),
        ("checkerboard", 319, "320; got 319"),
        ("checkerboard", 0, "320; got 0"),
        ("random", 9.5, "got 9.5"),
        ("random", "9", "got '9'"),
        ("random", True, "got True"),
        ("halves", 320, "split must be one of random, checkerboard, constant_density; got 'halves'"),
    ],
)
def test_impossible_splits_are_one_line(split, n_train, said):
    for function in (
        lambda: check_split(split, n_train, SMALL.images),
        lambda: split_indices(split, n_train, SMALL),
    ):
        with pytest.raises(SpecError) as error:
            function()
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_a_board_without_equal_halves_is_refused():
    odd = Bins(angle=3, hue=3, scale=1, x=1, y=1)
    with pytest.raises(SpecError, match="even number of bins") as error:
        split_indices("checkerboard", 4, odd)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("n_train", [None, 512])
def test_a_split_is_loaded(tmp_path, split, n_train):
    entry = catalog.info("tetrominoes1k")
    loaded = catalog.load("tetrominoes1k", n_train=n_train, split=split, data_dir=tmp_path)
    every = generate(entry.bins, 16)
    for part, indices in zip((loaded.train, loaded.test), split_indices(split, 512, entry.bins), strict=True):
        np.testing.assert_array_equal(part.images, every[indices])
        assert len(part) == 512
        assert part.shape == entry.image_shape == (3, 16, 16)
        assert part.levels == 256
    assert loaded.test_labels is None


def test_a_set_is_loaded_in_another_size_and_with_fewer_images(tmp_path):
    loaded = catalog.load("tetrominoes1k", n_train=100, image_size=24, data_dir=tmp_path, native=True)
    assert (len(loaded.train), len(loaded.test)) == (100, 924)
    every = generate(catalog.info("tetrominoes1k").bins, 24)
    np.testing.assert_array_equal(loaded.test.images, every[fixed_order(1024)[100:]])
    with pytest.raises(SpecError, match="image_size must be a whole number >= 16; got 8"):
        catalog.load("tetrominoes1k", image_size=8, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "n_train", "said"),
    [
        ("tetrominoes1k", "checkerboard", 500, "512; got 500"),
        ("tetrominoes1k", "constant_density", 513, "from 1 to 512; got 513"),
        ("tetrominoes1k", "random", 1024, "from 1 to 1023; got 1024"),
        ("tetrominoes1k", "halves", None, "got 'halves'"),
        ("digits", "checkerboard", None, "got 'checkerboard'"),
        ("digits", "constant_density", 100, "got 'constant_density'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path, name, split, n_train, said):
    for function in (
        lambda: catalog.check(name, None, n_train, split),
        lambda: catalog.load(name, n_train=n_train, split=split, data_dir=tmp_path),
    ):
        with pytest.raises(SpecError) as error:
            function()
        assert said in str(error.value)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_splits_share_one_array_also_when_they_are_sent_together(tmp_path):
    splits = {
        (split, n): catalog.load("tetrominoes1k", n_train=n, split=split, data_dir=tmp_path)
        for split, n in (("random", 512), ("random", 50), ("checkerboard", 512), ("constant_density", 100))
    }
    size = generate(catalog.info("tetrominoes1k").bins, 16).nbytes
    sent = pickle.dumps(splits, protocol=5)
    assert size < len(sent) < 1.1 * size
    received = pickle.loads(sent)
    assert len({id(part.base) for split in received.values() for part in (split.train, split.test)}) == 1
    for key, split in splits.items():
        assert received[key].train.digest() == split.train.digest()
        assert received[key].test.digest() == split.test.digest()


def test_a_part_of_a_set_that_is_owned_can_be_written_to_alone(tmp_path):
    loaded = catalog.load("tetrominoes1k", data_dir=tmp_path)
    for part in (loaded.train, loaded.test):
        owned, before = part.owned(), part.images
        assert isinstance(owned, ImageSet)
        assert owned.digest() == part.digest() == ImageSet(before, 256).digest()
        owned.images[:] = 7
        np.testing.assert_array_equal(part.images, before)
