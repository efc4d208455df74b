"""The loaders on small files in the real formats, whole and damaged, and their downloads from a folder."""

import gzip
import hashlib
import os
import pickle
import struct
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from vaegen_ray.data import catalog, loaders
from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
IDX_FOLDERS = {"binary_mnist": "MNIST", "mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
CIFAR10_BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def random_images(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(n, *shape), dtype=np.uint8)


def idx(images):
    """The bytes of an IDX file of uint8 images [N, H, W], or of labels [N]."""
    return struct.pack(f">{1 + images.ndim}I", 0x800 + images.ndim, *images.shape) + images.tobytes()


def write_idx(root, folder, n_train=20, n_test=7, gz=False):
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    train, test = random_images(n_train, 28, 28, seed=1), random_images(n_test, 28, 28, seed=2)
    for name, images in ((TRAIN, train), (TEST, test)):
        (raw / f"{name}.gz").write_bytes(gzip.compress(idx(images))) if gz else (raw / name).write_bytes(idx(images))
    return train, test


def records(images, label=3):
    """The bytes of a CIFAR-10 batch of images [N, 3, 32, 32]: a label byte, then red, green and blue, row by row."""
    return b"".join(bytes([label]) + image.tobytes() for image in images)


def write_cifar10(root, n=4):
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    batches = [random_images(n, 3, 32, 32, seed=i) for i in range(6)]
    for name, images in zip(CIFAR10_BATCHES, batches, strict=True):
        (folder / name).write_bytes(records(images))
    return np.concatenate(batches[:5]), batches[5]


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("name", IDX_FOLDERS)
def test_idx_files_are_read_shuffled_and_padded(tmp_path, name, gz):
    train, test = write_idx(tmp_path, IDX_FOLDERS[name], gz=gz)
    assert catalog.presence(name, tmp_path).present
    split = catalog.load(name, data_dir=tmp_path, download=False)
    if name == "binary_mnist":
        train, test = (train >= 128).astype(np.uint8), (test >= 128).astype(np.uint8)
    assert split.train.shape == (1, 32, 32)
    assert split.train.levels == (2 if name == "binary_mnist" else 256)
    np.testing.assert_array_equal(split.test.images[:, 0, 2:30, 2:30], test)
    np.testing.assert_array_equal(split.train.images[:, 0, 2:30, 2:30], train[loaders.fixed_order(20)])
    assert split.test.images.sum(dtype=np.int64) == test.sum(dtype=np.int64)


def test_smaller_sets_of_files_are_subsets_and_the_order_is_shuffled(tmp_path):
    train, _ = write_idx(tmp_path, "MNIST")
    whole = catalog.load("mnist", data_dir=tmp_path, download=False)
    part = catalog.load("mnist", data_dir=tmp_path, download=False, n_train=5)
    np.testing.assert_array_equal(part.train.images, whole.train.images[:5])
    assert not np.array_equal(whole.train.images[:, 0, 2:30, 2:30], train)


def test_the_fixed_order_is_a_permutation_that_never_changes():
    assert sorted(loaders.fixed_order(1797)) == list(range(1797))
    assert loaders.fixed_order(10).tolist() == [0, 6, 3, 9, 5, 8, 1, 7, 2, 4]


def test_cifar10_records_are_read(tmp_path):
    train, test = write_cifar10(tmp_path)
    assert catalog.presence("cifar10", tmp_path).present
    split = catalog.load("cifar10", data_dir=tmp_path, download=False)
    assert split.train.shape == (3, 32, 32)
    np.testing.assert_array_equal(split.test.images, test)
    np.testing.assert_array_equal(split.train.images, train[loaders.fixed_order(20)])


def test_more_training_images_than_the_files_hold_are_refused(tmp_path):
    write_idx(tmp_path, "MNIST")
    with pytest.raises(SpecError, match="from 1 to 20, .*got 21") as error:
        catalog.load("mnist", data_dir=tmp_path, download=False, n_train=21)
    assert str(tmp_path) in one_line(error)


def garbled(content):
    return b"\xff" * 64 + content[64:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c[:-1], "20 images of 28x28 take 15696 bytes; got 15695"),
        (lambda c: c + b"\0", "got more than 15696"),
        (lambda c: c[:10], "got 10"),
        (lambda c: b"", "begin with the number 2051; got 0"),
        (garbled, "begin with the number 2051; got 4294967295"),
        (lambda c: idx(random_images(20)), "begin with the number 2051; got 2049"),
        (lambda c: idx(random_images(0, 28, 28)), "0 images"),
        (lambda c: idx(random_images(20, 28, 27)), r"shape \(1, 28, 28\); got \(1, 28, 27\)"),
    ],
)
def test_damaged_idx_files_are_one_line(tmp_path, damage, said):
    write_idx(tmp_path, "MNIST")
    path = tmp_path / "MNIST" / "raw" / TRAIN
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataFormatError, match=said) as error:
        catalog.load("mnist", data_dir=tmp_path)
    assert str(tmp_path) in one_line(error)


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-100], garbled, lambda c: c[:20] + garbled(c[20:]), lambda c: b"not gzip"]
)
def test_damaged_gzip_files_are_one_line(tmp_path, damage):
    write_idx(tmp_path, "FashionMNIST", gz=True)
    path = tmp_path / "FashionMNIST" / "raw" / f"{TEST}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataFormatError, match="cannot be read") as error:
        catalog.load("fashion_mnist", data_dir=tmp_path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c[:-1], "3073 bytes each; got 12291 bytes"),
        (lambda c: b"", "got 0 bytes"),
        (garbled, "labels of CIFAR-10 are 0 to 9; got 255"),
    ],
)
def test_damaged_records_are_one_line(tmp_path, damage, said):
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataFormatError, match=said) as error:
        catalog.load("cifar10", data_dir=tmp_path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("0,1,2\n", "65 columns"),
        ("".join("0," * 64 + "0\n" for _ in range(1000)), "over 1000 rows"),
        ("0,1,300\n", "must be a table of bytes"),
        ("not,a,number\n", "must be a table of bytes"),
        (None, "must be a table of bytes"),
    ],
)
def test_a_damaged_package_is_one_line(monkeypatch, tmp_path, table, said):
    path = tmp_path / loaders.DIGITS_FILES[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not gzip" if table is None else gzip.compress(table.encode()))
    monkeypatch.setattr(loaders, "package_folder", lambda package: tmp_path)
    with pytest.raises(DataFormatError, match=said) as error:
        catalog.load("digits")
    assert str(path) in one_line(error)


@pytest.mark.parametrize(("name", "folder"), [*IDX_FOLDERS.items(), ("cifar10", "cifar-10-batches-bin")])
def test_absent_data_names_the_folder_and_the_command(tmp_path, name, folder):
    with pytest.raises(DataMissingError, match="no download was allowed") as error:
        catalog.load(name, data_dir=tmp_path, download=False)
    line = one_line(error)
    assert f"in {tmp_path}," in line
    assert f"`vaegen datasets --get {name}`" in line
    assert f"copy its folder {folder} to {tmp_path / folder}" in line
    found = catalog.presence(name, tmp_path)
    assert not found.present
    assert found.where.startswith(str(tmp_path / folder))
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_not_the_whole(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    assert not catalog.presence("cifar10", tmp_path).present
    with pytest.raises(DataMissingError, match="no cifar-10-batches-bin/test_batch.bin"):
        catalog.load("cifar10", data_dir=tmp_path, download=False)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_the_pickles_of_cifar10_are_never_opened(tmp_path):
    sprung = tmp_path / "sprung"
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in CIFAR10_BATCHES:
        (folder / name.removesuffix(".bin")).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataMissingError):
        catalog.load("cifar10", data_dir=tmp_path, download=False)
    assert not sprung.exists()
    pickle.loads((folder / "test_batch").read_bytes())
    assert sprung.exists()


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_failed_download_is_one_line_and_leaves_nothing(monkeypatch, capfd, tmp_path, name):
    pytest.importorskip("torchvision")

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(DataMissingError, match="download failed .*no route to host") as error:
        catalog.load(name, data_dir=tmp_path / "data")
    assert f"vaegen datasets --get {name}" in one_line(error)
    assert list((tmp_path / "data").iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataMissingError, match="download failed") as error:
        catalog.load("mnist", data_dir=tmp_path / "file" / "data")
    assert str(tmp_path / "file") in one_line(error)


def test_a_download_without_torchvision_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataMissingError, match="the download needs torchvision") as error:
        catalog.load("mnist", data_dir=tmp_path)
    assert "\n" not in str(error.value)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that has read enough closes the connection; that is no news."""


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A folder, and the address at which a server on this machine offers its files."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "mirror"
    folder.mkdir()
    with QuietServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def mnist_mirror(monkeypatch, mirror):
    """torchvision's MNIST class pointed at small archives with their true MD5 sums; returns their folder."""
    datasets = pytest.importorskip("torchvision.datasets")
    folder, address = mirror
    resources = []
    for part, n in (("train", 20), ("t10k", 7)):
        for kind, content in (("images-idx3", random_images(n, 28, 28)), ("labels-idx1", np.zeros(n, np.uint8))):
            archive = gzip.compress(idx(content))
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(archive)
            resources.append((f"{part}-{kind}-ubyte.gz", hashlib.md5(archive).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    return folder


def test_a_download_is_quiet_and_is_used_afterwards(mnist_mirror, capfd, tmp_path):
    first = catalog.load("mnist", data_dir=tmp_path / "data")
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(first.test.images[:, 0, 2:30, 2:30], random_images(7, 28, 28))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["MNIST"]
    again = catalog.load("mnist", data_dir=tmp_path / "data", download=False)
    assert again.train.digest() == first.train.digest()


def test_a_download_with_a_wrong_md5_is_not_kept(mnist_mirror, tmp_path):
    (mnist_mirror / f"{TEST}.gz").write_bytes(gzip.compress(idx(random_images(7, 28, 28, seed=5))))
    with pytest.raises(DataMissingError, match="download failed .*corrupted") as error:
        catalog.load("mnist", data_dir=tmp_path / "data")
    one_line(error)
    assert list((tmp_path / "data").iterdir()) == []


def test_cifar10_is_downloaded_in_its_binary_version(monkeypatch, mirror, capfd, tmp_path):
    pytest.importorskip("torchvision")
    folder, address = mirror
    train, test = write_cifar10(tmp_path / "original")
    with tarfile.open(folder / "cifar-10-binary.tar.gz", mode="w:gz") as archive:
        archive.add(tmp_path / "original" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    monkeypatch.setattr(loaders, "CIFAR10_ARCHIVE", f"{address}cifar-10-binary.tar.gz")
    with pytest.raises(DataMissingError, match="download failed .*corrupted"):
        catalog.load("cifar10", data_dir=tmp_path / "data")
    md5 = hashlib.md5((folder / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(loaders, "CIFAR10_MD5", md5)
    split = catalog.load("cifar10", data_dir=tmp_path / "data")
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(split.test.images, test)
    np.testing.assert_array_equal(split.train.images, train[loaders.fixed_order(20)])
    assert [found.name for found in (tmp_path / "data").iterdir()] == ["cifar-10-batches-bin"]
