import numpy as np
import pytest

from vaegen_ray.data.images import ImageSet
from vaegen_ray.errors import DataFormatError, SpecError


def image_set(n=6, shape=(1, 4, 4), levels=256, seed=0):
    images = np.random.default_rng(seed).integers(0, levels, size=(n, *shape), dtype=np.uint8)
    return ImageSet(images, levels)


@pytest.mark.parametrize(
    ("images", "levels", "got"),
    [
        (np.zeros((2, 1, 4, 4), np.float32), 2, "float32"),
        ([[[[0]]]], 2, "list"),
        (np.zeros((2, 4, 4), np.uint8), 2, r"\(2, 4, 4\)"),
        (np.zeros((0, 1, 4, 4), np.uint8), 2, r"\(0, 1, 4, 4\)"),
        (np.zeros((2, 4, 4, 1), np.uint8).transpose(0, 3, 2, 1), 2, "strides"),
        (np.full((1, 1, 2, 2), 17, np.uint8), 17, "0 .. 16; got 17"),
        (np.zeros((1, 1, 2, 2), np.uint8), 257, "257"),
        (np.zeros((1, 1, 2, 2), np.uint8), 1, "got 1"),
    ],
)
def test_refuses_what_it_does_not_promise(images, levels, got):
    with pytest.raises(DataFormatError, match=got) as error:
        ImageSet(images, levels)
    assert "\n" not in str(error.value)


def test_length_and_shape():
    images = image_set(5, (3, 4, 6))
    assert len(images) == 5
    assert images.shape == (3, 4, 6)


def test_take_and_first_are_copies_in_the_order_asked_for():
    images = image_set()
    before = images.images.copy()
    taken, first = images.take([4, 0, 4]), images.first(2)
    np.testing.assert_array_equal(taken.images, before[[4, 0, 4]])
    np.testing.assert_array_equal(first.images, before[:2])
    taken.images[:] = 0
    first.images[:] = 0
    np.testing.assert_array_equal(images.images, before)


@pytest.mark.parametrize("n", [0, 7, -1])
def test_first_refuses_more_than_there_is(n):
    with pytest.raises(SpecError, match=f"from 1 to 6; got {n}"):
        image_set(6).first(n)


def test_padding_keeps_the_sum_and_centres():
    images = image_set(3, (1, 28, 28))
    padded = images.padded(32)
    assert padded.shape == (1, 32, 32)
    assert padded.images.sum(dtype=np.int64) == images.images.sum(dtype=np.int64)
    np.testing.assert_array_equal(padded.images[:, :, 2:30, 2:30], images.images)


def test_odd_padding_is_larger_below_and_to_the_right():
    padded = ImageSet(np.ones((1, 1, 2, 3), np.uint8), 2).padded(5)
    np.testing.assert_array_equal(padded.images[0, 0].sum(axis=1), [0, 3, 3, 0, 0])
    np.testing.assert_array_equal(padded.images[0, 0].sum(axis=0), [0, 2, 2, 2, 0])


def test_padding_cannot_shrink():
    with pytest.raises(SpecError, match="image_size must be >= 6.*got 5"):
        image_set(shape=(1, 4, 6)).padded(5)


@pytest.mark.parametrize(("levels", "threshold"), [(256, 128), (17, 8)])
def test_binarisation_is_at_half_intensity(levels, threshold):
    values = np.arange(levels, dtype=np.uint8)
    bits = ImageSet(values.reshape(1, 1, 1, -1), levels).requantised(2)
    assert bits.levels == 2
    np.testing.assert_array_equal(bits.images.ravel(), [int(v >= threshold) for v in range(levels)])


def test_requantised_to_the_same_levels_changes_nothing():
    for levels in (2, 17, 256):
        images = image_set(levels=levels)
        assert images.requantised(levels).digest() == images.digest()


@pytest.mark.parametrize("levels", [17, 4, 1])
def test_other_levels_are_refused(levels):
    with pytest.raises(SpecError, match=f"stay 256 or become 2; got {levels}"):
        image_set(levels=256).requantised(levels)


def test_digest_depends_on_content_levels_and_shape_only():
    images = image_set(levels=2)
    assert images.digest() == ImageSet(images.images.copy(), 2).digest()
    assert len(images.digest()) == 64
    changed = images.images.copy()
    changed[0, 0, 0, 0] ^= 1
    others = {
        ImageSet(changed, 2).digest(),
        ImageSet(images.images, 17).digest(),
        ImageSet(images.images.reshape(6, 1, 2, 8), 2).digest(),
    }
    assert len(others | {images.digest()}) == 4
