"""Corrupted test sets: our own rules on real digits, and small files in the format of CIFAR-10-C."""

import numpy as np
import pytest

from vaegen_ray.data import catalog, corruptions
from vaegen_ray.data.corruptions import CIFAR10_C, OWN, corrupted, load_corrupted
from vaegen_ray.data.images import ImageSet
from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError


def grey(value: float, n: int = 400, side: int = 16) -> ImageSet:
    return ImageSet(np.full((n, 1, side, side), round(255 * value), np.uint8), 256)


def intensities(images: ImageSet) -> np.ndarray:
    return images.images / (images.levels - 1)


def digits(levels: int) -> ImageSet:
    return catalog.load("digits", levels=levels).test


def test_cifar10_c_has_19_corruptions():
    assert len(CIFAR10_C) == len(set(CIFAR10_C)) == 19


@pytest.mark.parametrize("levels", [2, 17])
def test_each_corruption_grows_with_the_severity(levels):
    test = digits(levels)
    sets = [load_corrupted("digits", test, severity=severity, image_size=8) for severity in range(1, 6)]
    for name in OWN:
        changes = [np.abs(each[name].astype(int) - test.images).mean() / (levels - 1) for each in sets]
        assert 0 < changes[0] < changes[1] < changes[2] < changes[3] < changes[4], name


@pytest.mark.parametrize("levels", [2, 17])
def test_shape_levels_and_padding_are_those_of_the_test_set(levels):
    test = catalog.load("digits", levels=levels, image_size=12).test
    for name, images in load_corrupted("digits", test, severity=5, image_size=12).items():
        assert images.dtype == np.uint8
        assert images.shape == test.images.shape
        assert levels // 2 <= images.max() < levels, name
        frame = images.copy()
        frame[:, :, 2:10, 2:10] = 0
        assert not frame.any(), name


def test_binary_images_are_corrupted_in_their_intensities_and_rounded_at_half():
    of_grey, of_bits = (load_corrupted("digits", digits(levels), severity=3, image_size=8) for levels in (17, 2))
    for name in OWN:
        np.testing.assert_array_equal(of_bits[name], of_grey[name] >= 8)


@pytest.mark.parametrize("name", OWN)
def test_an_image_is_corrupted_by_its_index_alone(name):
    test = digits(17)
    whole, part = corrupted(test, name, 4), corrupted(test.first(5), name, 4)
    np.testing.assert_array_equal(whole.images[:5], part.images)
    np.testing.assert_array_equal(whole.images, corrupted(test, name, 4).images)


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "occlusion"])
def test_every_image_and_severity_draws_for_itself(name):
    images = grey(0.5, n=50)
    first, second = (corrupted(images, name, severity).images != images.images for severity in (1, 2))
    assert len({image.tobytes() for image in first}) > 10
    assert not (first <= second).all()  # what severity 1 changes is not a part of what severity 2 does


def test_gaussian_noise_has_its_standard_deviation():
    noise = intensities(corrupted(grey(0.5), "gaussian_noise", 1)) - intensities(grey(0.5))
    assert noise.std() == pytest.approx(0.08, rel=0.02)
    assert abs(noise.mean()) < 0.001


def test_impulse_noise_is_black_and_white_in_equal_parts():
    changed = intensities(corrupted(grey(0.5), "impulse_noise", 5))
    assert (changed == 0).mean() == pytest.approx(0.135, abs=0.005)
    assert (changed == 1).mean() == pytest.approx(0.135, abs=0.005)


def test_contrast_keeps_the_mean_and_white_above_half():
    generator = np.random.default_rng(0)
    images = ImageSet(generator.integers(0, 256, size=(9, 3, 16, 16), dtype=np.uint8), 256)
    before, after = intensities(images), intensities(corrupted(images, "contrast", 5))
    np.testing.assert_allclose(after.mean((2, 3)), before.mean((2, 3)), atol=1e-3)
    np.testing.assert_allclose(after.std((2, 3)), before.std((2, 3)) / 2, rtol=0.01)
    dot = np.zeros((1, 1, 28, 28), np.uint8)
    dot[0, 0, 0, 0] = 255
    np.testing.assert_array_equal(corrupted(ImageSet(dot, 256), "contrast", 5).requantised(2).images, dot // 255)


def test_brightness_adds_and_stops_at_white():
    assert np.unique(intensities(corrupted(grey(0.2), "brightness", 5))).tolist() == pytest.approx([0.5], abs=0.003)
    assert np.unique(corrupted(grey(0.9), "brightness", 5).images).tolist() == [255]


def test_blur_keeps_the_light_within_each_image_and_channel():
    images = np.zeros((2, 3, 16, 16), np.uint8)
    images[0, 1, 8, 8] = 255
    blurred = corrupted(ImageSet(images, 256), "gaussian_blur", 1).images
    assert blurred[0, 1].sum() == pytest.approx(255, abs=10)
    assert blurred[0, 1, 8, 8] < 128
    assert blurred.sum() == blurred[0, 1].sum()


def test_occlusion_hides_one_square_anywhere_inside():
    hidden = corrupted(grey(1.0, side=8), "occlusion", 3).images[:, 0] == 0
    assert (hidden.sum((1, 2)) == 9).all()
    corners = {tuple(np.argwhere(image)[0]) for image in hidden}
    assert corners == {(top, left) for top in range(6) for left in range(6)}
    for image in hidden[:20]:
        (top, left), (bottom, right) = np.argwhere(image)[[0, -1]]
        assert (bottom - top, right - left) == (2, 2)


def test_what_cannot_be_is_one_line():
    test = digits(2)
    with pytest.raises(SpecError, match="corruption must be one of gaussian_noise, .*; got 'rain'"):
        corrupted(test, "rain", 1)
    for severity in (0, 6, 2.5):
        with pytest.raises(SpecError, match=f"severity of a corruption.*got {severity}"):
            corrupted(test, "contrast", severity)
        with pytest.raises(SpecError, match=f"severity of a corruption.*got {severity}"):
            load_corrupted("digits", test, severity=severity, image_size=8)
    with pytest.raises(SpecError, match="whole test set of digits, 797 images; got 5"):
        load_corrupted("digits", test.first(5), severity=1, image_size=8)


@pytest.fixture
def cifar10_c(tmp_path):
    """A data directory with CIFAR-10-C of 4 images; value of a pixel: severity, image, column."""
    folder = tmp_path / corruptions.CIFAR10_C_FOLDER
    folder.mkdir()
    severity, image = np.divmod(np.arange(20), 4)
    array = np.zeros((20, 32, 32, 3), np.uint8) + (50 * severity + image).astype(np.uint8)[:, None, None, None]
    array[:, 0, :, 0] = np.arange(32)
    for name in CIFAR10_C:
        np.save(folder / f"{name}.npy", array)
    return tmp_path


def test_cifar10_c_is_read_at_its_severity_in_the_order_of_the_test_set(cifar10_c):
    test = ImageSet(np.zeros((4, 3, 32, 32), np.uint8), 256)
    sets = load_corrupted("cifar10", test, severity=4, image_size=36, data_dir=cifar10_c)
    assert tuple(sets) == CIFAR10_C
    for images in sets.values():
        assert images.shape == (4, 3, 36, 36)
        assert images[:, 2, 10, 10].tolist() == [150, 151, 152, 153]
        assert images[1, 0, 2, 2:34].tolist() == list(range(32))  # the first row of red


@pytest.mark.parametrize("name", [None, "fog"])
def test_absent_files_are_named_with_where_to_get_them(cifar10_c, name):
    folder = cifar10_c / corruptions.CIFAR10_C_FOLDER
    for path in list(folder.iterdir()):
        if name in (None, path.stem):
            path.unlink()
    with pytest.raises(DataMissingError, match="zenodo") as error:
        load_corrupted("cifar10", grey(0, n=4), severity=1, image_size=32, data_dir=cifar10_c)
    assert f"no {name or 'gaussian_noise'}.npy in {folder};" in str(error.value)
    assert f"unpack it in {cifar10_c}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((19, 32, 32, 3), np.uint8), r"uint8 \(20, 32, 32, 3\); got uint8 \(19, 32, 32, 3\)"),
        (np.zeros((20, 3, 32, 32), np.uint8), r"got uint8 \(20, 3, 32, 32\)"),
        (np.zeros((20, 32, 32, 3), np.float32), "got float32"),
        (np.array([{}]), "array that NumPy wrote; got: "),
        (b"not an array", "array that NumPy wrote; got: "),
        (b"", "array that NumPy wrote; got: "),
    ],
)
def test_damaged_files_are_one_line(cifar10_c, content, said):
    path = cifar10_c / corruptions.CIFAR10_C_FOLDER / "snow.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(DataFormatError, match=said) as error:
        load_corrupted("cifar10", grey(0, n=4), severity=1, image_size=32, data_dir=cifar10_c)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_was_cut_off_is_one_line(cifar10_c):
    path = cifar10_c / corruptions.CIFAR10_C_FOLDER / "snow.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataFormatError, match="snow.npy must be an array"):
        load_corrupted("cifar10", grey(0, n=4), severity=1, image_size=32, data_dir=cifar10_c)
