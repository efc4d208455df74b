"""SmallNORB and 3dShapes on small files in their real formats, whole and damaged, and their downloads from a folder."""

import gzip
import hashlib
import struct
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from vaegen_ray.data import published
from vaegen_ray.data.images import ImageSet
from vaegen_ray.data.published import shapes3d, smallnorb
from vaegen_ray.data.splits import fixed_order
from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError

PAIRS, SHAPES, SHAPES_TEST = 12, 60, 10
TRAIN, TEST = published.NORB_FILES
LABELS = published.NORB_LABELS
KINDS = np.arange(PAIRS, dtype="<i4") % 5


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Files with few images are whole."""
    monkeypatch.setattr(published, "NORB_PAIRS", PAIRS)
    monkeypatch.setattr(published, "SHAPES_SHAPE", (SHAPES, 64, 64, 3))
    monkeypatch.setattr(published, "SHAPES_TEST", SHAPES_TEST)


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def matrix(array, magic=0x1E3D4C55):
    """The bytes of a binary matrix; of fewer than three dimensions the sizes are filled up with ones."""
    sizes = (*array.shape, 1, 1)[: max(3, array.ndim)]
    return struct.pack(f"<{2 + len(sizes)}I", magic, array.ndim, *sizes) + array.tobytes()


def write_norb(root, gz=False, labels=True):
    """Both sets of pairs, uint8 [N, 2, 96, 96], after writing them."""
    train, test = (random_images(PAIRS, 2, 96, 96, seed=seed) for seed in (1, 2))
    contents = {TRAIN: matrix(train), TEST: matrix(test)} | ({LABELS: matrix(KINDS, 0x1E3D4C54)} if labels else {})
    (root / "smallnorb").mkdir(parents=True)
    for file, content in contents.items():
        (root / f"{file}.gz").write_bytes(gzip.compress(content)) if gz else (root / file).write_bytes(content)
    return train, test


def means(images, side):
    """Mean over squares of pixels, in real numbers: [..., H, W] -> [..., H / side, W / side]."""
    height, width = (size // side for size in images.shape[-2:])
    out = np.zeros((*images.shape[:-2], height, width))
    for row in range(height):
        for column in range(width):
            square = images[..., row * side : (row + 1) * side, column * side : (column + 1) * side]
            out[..., row, column] = square.mean(axis=(-2, -1))
    return out


def rounded(values):
    """To the nearest byte, halves up."""
    return np.floor(values + 0.5).astype(np.uint8)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("gz", [False, True])
def test_the_first_camera_of_smallnorb_is_read_shuffled_and_averaged(tmp_path, gz):
    train, test = write_norb(tmp_path, gz)
    arrays = smallnorb(tmp_path, False, None, 32)
    np.testing.assert_array_equal(arrays.test[:, 0], rounded(means(test[:, 0], 3)))
    np.testing.assert_array_equal(arrays.train[:, 0], rounded(means(train[fixed_order(PAIRS), 0], 3)))
    assert arrays.test_labels.tolist() == KINDS.tolist() and arrays.test_labels.dtype == np.int64
    assert all(ImageSet(images, 256).shape == (1, 32, 32) for images in arrays[:2])


@pytest.mark.parametrize(("size", "side"), [(48, 2), (96, 1)])
def test_smallnorb_in_other_sizes(tmp_path, size, side):
    _, test = write_norb(tmp_path)
    arrays = smallnorb(tmp_path, False, 5, size)
    assert arrays.train.shape == (5, 1, size, size)
    np.testing.assert_array_equal(arrays.test[:, 0], rounded(means(test[:, 0], side)))
    assert ImageSet(arrays.test, 256).digest()


def test_means_of_bytes_are_rounded_and_never_overflow():
    squares = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [255, 255, 255, 254], [255] * 4], dtype=np.uint8)
    assert published._averaged(squares.reshape(4, 1, 2, 2), 1).ravel().tolist() == [0, 1, 255, 255]
    full = np.full((1, 1, 96, 96), 255, dtype=np.uint8)
    assert (published._averaged(full, 32) == 255).all()


def test_smallnorb_without_labels_has_images(tmp_path):
    write_norb(tmp_path, labels=False)
    arrays = smallnorb(tmp_path, False, None, 32)
    assert arrays.test_labels is None and len(arrays.test) == PAIRS


def test_smaller_training_sets_are_the_beginning_of_larger_ones(tmp_path):
    write_norb(tmp_path)
    write_shapes(tmp_path)
    for loader in (smallnorb, shapes3d):
        whole, part = (loader(tmp_path, False, n_train, 32) for n_train in (None, 4))
        np.testing.assert_array_equal(part.train, whole.train[:4])
        np.testing.assert_array_equal(part.test, whole.test)
        np.testing.assert_array_equal(part.test_labels, whole.test_labels)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c[:-1], r"takes 221208 bytes; got 221207"),
        (lambda c: c + b"\0", "got more than 221208"),
        (lambda c: b"", "begin with the number 0x1e3d4c55; got 0x0"),
        (lambda c: c[:10], "4 dimensions, .*got 4, .12, 0, 0, 0"),
        (lambda c: c[::-1], "begin with the number 0x1e3d4c55"),
        (lambda c: struct.pack(">I", 0x1E3D4C55) + c[4:], "got 0x554c3d1e"),
        (
            lambda c: struct.pack("<I", 0x1E3D4C54) + c[4:],
            "type u1 must begin with the number 0x1e3d4c55; got 0x1e3d4c54",
        ),
        (lambda c: c[:4] + struct.pack("<I", 3) + c[8:], "4 dimensions, .*got 3"),
        (lambda c: c[:4] + struct.pack("<I", 2**32 - 1) + c[8:], "got 4294967295"),
        (lambda c: matrix(random_images(PAIRS - 1, 2, 96, 96)), r"\(12, 2, 96, 96\); got 4, \(11, 2, 96, 96\)"),
        (lambda c: matrix(random_images(PAIRS, 2, 96, 48)), r"got 4, \(12, 2, 96, 48\)"),
    ],
)
@pytest.mark.parametrize("file", [TRAIN, TEST])
def test_a_damaged_matrix_is_one_line(tmp_path, file, damage, said):
    write_norb(tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    assert len(content) == 24 + PAIRS * 2 * 96 * 96
    path.write_bytes(damage(content))
    with pytest.raises(DataFormatError, match=said) as error:
        smallnorb(tmp_path, False, None, 32)
    assert str(path) in one_line(error)


@pytest.mark.parametrize("damage", [lambda c: c[:-100], lambda c: b"not gzip", lambda c: c[:40] + b"\xff" * 64])
def test_a_damaged_gzip_file_is_one_line(tmp_path, damage):
    write_norb(tmp_path, gz=True)
    path = tmp_path / f"{TEST}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataFormatError, match="cannot be read") as error:
        smallnorb(tmp_path, False, None, 32)
    assert str(path) in one_line(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (matrix(KINDS), "type <i4 must begin with the number 0x1e3d4c54; got 0x1e3d4c55"),
        (matrix(KINDS[:-1], 0x1E3D4C54), r"1 dimensions, \(12,\); got 1, \(11"),
        (matrix(KINDS, 0x1E3D4C54)[:-4], "takes 68 bytes; got 64"),
        (matrix(KINDS + 1, 0x1E3D4C54), "0 to 4; got numbers from 1 to 5"),
        (matrix(KINDS - 1, 0x1E3D4C54), "0 to 4; got numbers from -1 to 3"),
    ],
)
def test_damaged_labels_are_one_line(tmp_path, content, said):
    write_norb(tmp_path)
    (tmp_path / LABELS).write_bytes(content)
    with pytest.raises(DataFormatError, match=said) as error:
        smallnorb(tmp_path, False, None, 32)
    assert str(tmp_path / LABELS) in one_line(error)


def shapes_labels():
    labels = np.random.default_rng(3).random((SHAPES, 6))
    labels[:, 4] = np.arange(SHAPES) % 4
    return labels


def write_shapes(root, chunks=None, **changes):
    """The images, uint8 [N, 64, 64, 3], after writing them and their labels; ``changes`` are written in their stead."""
    h5py = pytest.importorskip("h5py")
    path = root / "3dshapes" / "3dshapes.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    images = random_images(SHAPES, 64, 64, 3)
    with h5py.File(path, "w") as file:
        for name, values in ({"images": images, "labels": shapes_labels()} | changes).items():
            if isinstance(values, str):
                file.create_group(name)
            elif values is not None:
                options = {"chunks": chunks, "compression": "gzip"} if chunks and name == "images" else {}
                file.create_dataset(name, data=values, **options)
    return images


@pytest.mark.parametrize("chunks", [None, (1, 64, 64, 3), (7, 16, 16, 1), (SHAPES, 8, 8, 3)])
@pytest.mark.parametrize(("size", "side"), [(32, 2), (64, 1)])
def test_shapes_are_read_in_the_fixed_order_however_they_lie(tmp_path, monkeypatch, chunks, size, side):
    images = np.moveaxis(write_shapes(tmp_path, chunks), -1, 1)
    order = fixed_order(SHAPES)
    for block in (2**26, 64 * 64 * 3 * 8, 1):
        monkeypatch.setattr(published, "BLOCK_BYTES", block)
        arrays = shapes3d(tmp_path, False, 20, size)
        np.testing.assert_array_equal(arrays.train, rounded(means(images[order[:20]], side)))
        np.testing.assert_array_equal(arrays.test, rounded(means(images[order[-SHAPES_TEST:]], side)))
        assert arrays.test_labels.tolist() == (order[-SHAPES_TEST:] % 4).tolist()
    assert ImageSet(arrays.train, 256).shape == (3, size, size)


def test_all_shapes_but_the_test_set_can_be_trained_on(tmp_path):
    images = np.moveaxis(write_shapes(tmp_path), -1, 1)
    order = fixed_order(SHAPES)
    for n_train in (None, SHAPES):
        arrays = shapes3d(tmp_path, False, n_train, 64)
        np.testing.assert_array_equal(np.concatenate(arrays[:2]), images[order])
        assert len(arrays.test) == SHAPES_TEST


class Counting:
    """An HDF5 data set that notes which rows are read of it."""

    def __init__(self, images, rows):
        self.images, self.shape = images, images.shape
        self.chunks, self.read = (rows, 4, 4, 1), []

    def __getitem__(self, rows):
        self.read.append((rows.start, rows.stop))
        return self.images[rows]


@pytest.mark.parametrize(
    ("rows", "most", "read"),
    [
        (1, 100, [(2, 3), (9, 12), (30, 31)]),
        (1, 2, [(2, 3), (9, 11), (11, 12), (30, 31)]),
        (5, 100, [(2, 12), (30, 31)]),
        (5, 10, [(2, 10), (10, 12), (30, 31)]),
        (5, 1, [(2, 3), (9, 10), (10, 12), (30, 31)]),
        (20, 1, [(2, 12), (30, 31)]),
    ],
)
def test_only_what_is_wanted_is_read_and_no_chunk_twice(monkeypatch, rows, most, read):
    """Chunks without a wanted row are never touched, and no two reads share a chunk."""
    images = random_images(40, 4, 4, 1)
    monkeypatch.setattr(published, "BLOCK_BYTES", most * 16)
    counting = Counting(images, rows)
    wanted = np.array([30, 2, 11, 9, 10])
    np.testing.assert_array_equal(published._read_images(counting, wanted, 4)[:, 0], images[wanted, ..., 0])
    assert counting.read == read
    chunks = [chunk for start, stop in read for chunk in range(start // rows, (stop - 1) // rows + 1)]
    assert sorted(chunks) == sorted({row // rows for row in wanted.tolist()})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": None}, r"images must be uint8 \(60, 64, 64, 3\); got nothing"),
        ({"images": "group"}, "images must be .*; got a group"),
        ({"images": np.zeros((SHAPES, 64, 64, 3), dtype=np.float32)}, "images must be .*; got float32"),
        ({"images": np.zeros((SHAPES, 3, 64, 64), dtype=np.uint8)}, r"got uint8 \(60, 3, 64, 64\)"),
        ({"images": np.zeros((SHAPES - 1, 64, 64, 3), dtype=np.uint8)}, r"got uint8 \(59, 64, 64, 3\)"),
        ({"labels": None}, r"labels must be float64 \(60, 6\); got nothing"),
        ({"labels": np.zeros((SHAPES, 5))}, r"got float64 \(60, 5\)"),
        ({"labels": shapes_labels() + 1}, "shapes are 0 to 3; got numbers from 1.0 to 4.0"),
        ({"labels": shapes_labels() + 0.5}, "shapes are 0 to 3; got numbers from 0.5 to 3.5"),
        ({"labels": shapes_labels() * np.nan}, "got numbers from nan to nan"),
    ],
)
def test_damaged_shapes_are_one_line(tmp_path, changes, said):
    write_shapes(tmp_path, **changes)
    with pytest.raises(DataFormatError, match=said) as error:
        shapes3d(tmp_path, False, None, 32)
    assert str(tmp_path / "3dshapes" / "3dshapes.h5") in one_line(error)


def cut(content):
    return content[: len(content) // 2]


def spoilt(content):
    return content[: len(content) // 2] + bytes(1000) + content[len(content) // 2 + 1000 :]


@pytest.mark.parametrize("damage", [cut, spoilt, lambda c: b"", lambda c: b"no HDF5"])
def test_a_file_that_hdf5_cannot_read_is_one_line(tmp_path, damage):
    write_shapes(tmp_path, chunks=(SHAPES, 64, 64, 3))
    path = tmp_path / "3dshapes" / "3dshapes.h5"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataFormatError, match="cannot be read") as error:
        shapes3d(tmp_path, False, None, 32)
    assert str(path) in one_line(error)


def test_a_gzipped_hdf5_file_is_to_be_unpacked(tmp_path):
    write_shapes(tmp_path)
    path = tmp_path / "3dshapes" / "3dshapes.h5"
    path.rename(path.with_name("3dshapes.h5.gz"))
    with pytest.raises(DataFormatError, match=r"3dshapes.h5.gz: .*gunzip it") as error:
        shapes3d(tmp_path, False, None, 32)
    assert "delete" not in one_line(error)


def test_the_absence_of_h5py_is_one_line_before_anything_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataMissingError, match=r"h5py.*pip install 'vaegen-ray\[shapes\]'") as error:
        shapes3d(tmp_path / "data", True, None, 32)
    one_line(error)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("loader", "size", "said"), [(smallnorb, 64, "32, 48, 96; got 64"), (shapes3d, 48, "32, 64; got 48")]
)
def test_other_image_sizes_are_refused(tmp_path, loader, size, said):
    with pytest.raises(SpecError, match=f"image_size of {loader.__name__} must be one of {said}") as error:
        loader(tmp_path, False, None, size)
    one_line(error)


@pytest.mark.parametrize(("loader", "folder"), [(smallnorb, "smallnorb"), (shapes3d, "3dshapes")])
def test_absent_files_name_the_folder_and_the_command(tmp_path, loader, folder):
    pytest.importorskip("h5py")
    with pytest.raises(DataMissingError, match="no download was allowed") as error:
        loader(tmp_path, False, None, 32)
    assert f"`vaegen datasets --get {loader.__name__}`" in one_line(error)
    assert f"copy its folder {folder} to {tmp_path / folder}" in one_line(error)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that has read enough closes the connection; that is no news."""


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A folder, and the address at which a server on this machine offers its files."""
    pytest.importorskip("torchvision")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "mirror"
    with QuietServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_smallnorb_is_downloaded_with_its_labels_and_checked(monkeypatch, capfd, tmp_path, mirror):
    folder, address = mirror
    _, test = write_norb(folder, gz=True)
    monkeypatch.setattr(published, "NORB_ADDRESS", f"{address}/smallnorb")
    with pytest.raises(DataMissingError, match="download failed .*corrupted") as error:
        smallnorb(tmp_path / "data", True, None, 32)
    assert one_line(error) and list((tmp_path / "data").iterdir()) == []
    sums = {file: md5(folder / f"{file}.gz") for file in published.NORB_MD5}
    monkeypatch.setattr(published, "NORB_MD5", sums)
    arrays = smallnorb(tmp_path / "data", True, None, 96)
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(arrays.test[:, 0], test[:, 0])
    assert arrays.test_labels.tolist() == KINDS.tolist()
    assert len(list((tmp_path / "data" / "smallnorb").iterdir())) == 3


def test_shapes_are_downloaded_and_checked(monkeypatch, capfd, tmp_path, mirror):
    folder, address = mirror
    images = write_shapes(folder)
    monkeypatch.setattr(published, "SHAPES_ADDRESS", f"{address}/3dshapes/3dshapes.h5")
    with pytest.raises(DataMissingError, match="download failed .*corrupted") as error:
        shapes3d(tmp_path / "data", True, None, 32)
    assert one_line(error) and list((tmp_path / "data").iterdir()) == []
    monkeypatch.setattr(published, "SHAPES_MD5", md5(folder / "3dshapes" / "3dshapes.h5"))
    arrays = shapes3d(tmp_path / "data", True, 1, 64)
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(arrays.train[0], images[fixed_order(SHAPES)[0]].transpose(2, 0, 1))


def test_the_published_files_are_described_as_they_are():
    """Of which ``small`` changes nothing: names, and sums of as many files as a download brings."""
    assert published.NORB_MD5.keys() == {TRAIN, TEST, LABELS}
    assert all(len(bytes.fromhex(md5)) == 16 for md5 in (*published.NORB_MD5.values(), published.SHAPES_MD5))
