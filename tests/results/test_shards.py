import errno
import hashlib
import os
import pickle
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vaegen_ray.errors import DataFormatError, SpecError, StorageError
from vaegen_ray.results.shards import BLANK, ShardStore, streams
from vaegen_ray.results.storage import Storage

SHAPE = S, C, H, W = 5, 2, 3, 4
LEVELS = 16
MAKER = {"device": "cpu", "torch": "2.11.0"}


def some_images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, LEVELS, SHAPE, dtype=np.uint8)


def make(storage: Storage, digest: str = "abc") -> ShardStore:
    return ShardStore(storage, digest, shape=SHAPE, levels=LEVELS)


@pytest.fixture
def store(storage: Storage) -> ShardStore:
    return make(storage)


@pytest.fixture
def local(tmp_path: Path) -> ShardStore:
    return make(Storage.open(tmp_path))


def test_what_is_written_is_read(store: ShardStore):
    written = {number: some_images(number) for number in (0, 7, 999_999)}
    for number, images in written.items():
        store.write(number, images, MAKER)
    for number, images in written.items():
        found = make(store.storage).read(number)
        assert found is not None and found.dtype == np.uint8
        np.testing.assert_array_equal(found, images)
    assert store.read(1) is None
    assert store.numbers() == [0, 7, 999_999]
    assert store.path(7) == "samples/abc/shard-000007.arrow"
    assert store.where(7) == store.storage.where(store.path(7))


def test_images_of_any_layout_and_all_grey_levels_are_kept(storage: Storage):
    images = np.arange(256, dtype=np.uint8).reshape(16, 16, 1, 1)
    store = ShardStore(storage, "abc", shape=(16, 16, 1, 1), levels=256)
    store.write(0, images.transpose(1, 0, 2, 3), {})
    np.testing.assert_array_equal(store.read(0), images.transpose(1, 0, 2, 3))


def test_what_is_read_is_a_view_that_nobody_can_change(store: ShardStore):
    store.write(0, some_images(), MAKER)
    found = store.read(0)
    assert not found.flags.owndata and not found.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_a_local_shard_is_mapped(local: ShardStore):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list what a process has mapped")
    local.write(0, some_images(), MAKER)
    open_files = len(os.listdir("/proc/self/fd"))
    kept = [local.read(0) for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) == open_files  # many shards may be held at once
    ranges = [line.split()[0].split("-") for line in maps.read_text().splitlines() if local.where(0) in line]
    for found in kept:
        address = found.__array_interface__["data"][0]
        assert any(int(first, 16) <= address < int(end, 16) for first, end in ranges)


@pytest.mark.parametrize("change", ["delete", "replace", "set aside"])
def test_what_was_read_stays_when_the_file_goes(store: ShardStore, change: str):
    store.write(0, some_images(0), MAKER)
    found = store.read(0)
    if change == "delete":
        store.delete(0)
    elif change == "replace":
        store.write(0, some_images(1), MAKER)
    else:
        store.set_aside(0, "a test")
    np.testing.assert_array_equal(found, some_images(0))


def test_the_same_images_make_the_same_bytes(storage: Storage, tmp_path: Path):
    store, elsewhere = make(storage), make(Storage.open(tmp_path / "elsewhere"))
    store.write(3, some_images(), MAKER)
    first = storage.read(store.path(3))
    store.write(3, some_images(), MAKER)
    elsewhere.write(3, np.asfortranarray(some_images()), dict(reversed(MAKER.items())))
    assert storage.read(store.path(3)) == elsewhere.storage.read(elsewhere.path(3)) == first
    store.write(3, some_images(), MAKER | {"device": "another"})
    assert storage.read(store.path(3)) != first


def test_any_arrow_tool_reads_a_shard(store: ShardStore):
    images = some_images()
    store.write(3, images, MAKER)
    reader = pa.ipc.open_file(pa.py_buffer(store.storage.read(store.path(3))))
    assert reader.num_record_batches == 1
    table = reader.read_all()
    table.validate(full=True)
    assert table.schema.types == [pa.int64(), pa.binary(C * H * W)]
    assert table["index"].to_pylist() == list(range(3 * S, 4 * S))
    assert table["image"].to_pylist() == [image.tobytes() for image in images]
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    frame_sha256 = metadata.pop("vaegen_ray.frame_sha256")
    assert len(frame_sha256) == 64 and set(frame_sha256) <= set("0123456789abcdef")
    assert metadata == {
        "vaegen_ray.stream": "abc",
        "vaegen_ray.shard": "3",
        "vaegen_ray.shape": f"{S},{C},{H},{W}",
        "vaegen_ray.levels": str(LEVELS),
        "vaegen_ray.made_by.device": "cpu",
        "vaegen_ray.made_by.torch": "2.11.0",
        "vaegen_ray.sha256": hashlib.sha256(images.tobytes()).hexdigest(),
    }


def test_every_byte_of_a_shard_is_guarded(store: ShardStore):
    store.write(3, some_images(), MAKER)
    whole = store.storage.read(store.path(3))
    missed = []
    full = f"{store.storage.root}/{store.path(3)}"
    step = 1 if store.storage.is_local else 13  # each byte is an upload; what is checked is the same everywhere
    for place in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        with store.storage.filesystem.open_output_stream(full, compression=None) as stream:  # unlike ours: not synced
            stream.write(bytes(damaged))
        try:
            store.read(3)
            missed.append(place)
        except DataFormatError as error:
            assert store.where(3) in str(error) and "\n" not in str(error)
    assert missed == []


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "zeroed", "text", "another Arrow file"])
def test_a_file_that_is_no_whole_shard_is_told(store: ShardStore, damage: str):
    store.write(3, some_images(), MAKER)
    path, whole = store.path(3), store.storage.read(store.path(3))
    if damage == "another Arrow file":
        sink = pa.BufferOutputStream()
        batch = pa.record_batch({"image": pa.array([b"x"])})
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        versions = [sink.getvalue().to_pybytes()]
    else:
        versions = {
            "empty": [b""],
            "cut": [whole[:n] for n in (1, 6, 8, 100, len(whole) // 2, len(whole) - 10, len(whole) - 1)],
            "longer": [whole + b"\0", whole + whole, b"\0" + whole],
            "zeroed": [bytes(len(whole)), whole[:-64] + bytes(64), bytes(512) + whole[512:]],
            "text": [b"not an Arrow file " * 100],
        }[damage]
    for data in versions:
        store.storage.write(path, data)
        with pytest.raises(DataFormatError) as caught:
            store.read(3)
        assert store.where(3) in str(caught.value) and "\n" not in str(caught.value)
    store.storage.write(path, whole)
    np.testing.assert_array_equal(store.read(3), some_images())


def test_a_shard_in_the_place_of_another_is_told(store: ShardStore):
    others = {
        "shard must be 3; got 4": (store, 4),
        "stream must be abc; got other": (make(store.storage, "other"), 3),
        "levels must be 16; got 256": (ShardStore(store.storage, "abc", shape=SHAPE, levels=256), 3),
        f"shape must be {S},{C},{H},{W}; got {S},{C},{W},{H}": (
            ShardStore(store.storage, "abc", shape=(S, C, W, H), levels=LEVELS),
            3,
        ),
    }
    for message, (other, number) in others.items():
        other.write(number, some_images().reshape(other.shape), MAKER)
        store.storage.write(store.path(3), store.storage.read(other.path(number)))
        with pytest.raises(DataFormatError) as caught:
            store.read(3)
        assert str(caught.value) == f"{store.where(3)}: it is another shard: {message}"


def test_images_that_hold_what_marks_the_digest_are_kept(storage: Storage):
    images = np.frombuffer(BLANK * 2, np.uint8).reshape(2, 1, 8, 8)
    store = ShardStore(storage, "abc", shape=(2, 1, 8, 8), levels=256)
    store.write(0, images, {"note": BLANK.decode()})
    np.testing.assert_array_equal(store.read(0), images)


def test_a_damaged_shard_is_set_aside_and_can_be_made_again(store: ShardStore):
    for number in (3, 4):
        store.write(number, some_images(number), MAKER)
    whole = store.storage.read(store.path(3))
    store.storage.write(store.path(3), b"damaged")
    with pytest.raises(DataFormatError) as caught:
        store.read(3)
    note = store.set_aside(3, str(caught.value) + "\n and more")
    assert note.startswith(f"{store.where(3)} was set aside: it is not a whole shard (7 bytes): ")
    assert note.endswith(" and more") and "\n" not in note and note.count(store.where(3)) == 1
    assert store.storage.read("samples/abc/set-aside/shard-000003.arrow") == b"damaged"
    assert store.numbers() == [4] and store.read(3) is None
    assert store.set_aside(3, "damaged") == f"{store.where(3)} was set aside: damaged"  # another process was first
    store.write(3, some_images(3), MAKER)
    assert store.numbers() == [3, 4] and store.storage.read(store.path(3)) == whole


def test_other_files_are_not_shards(store: ShardStore):
    assert store.numbers() == [] and store.disk_bytes() == 0
    names = (
        "shard-1.arrow",
        "shard-0000001.arrow",
        "shard-00000a.arrow",
        "shard-000001.arrow.tmp",
        "xshard-000001.arrow",
    )
    for name in (*names, ".shard-000001.arrow.0123.tmp", "shard-٠٠٠٠٠٢.arrow", "shard-000009.arrow/x", "readme.txt"):
        store.storage.write(f"samples/abc/{name}", b"1")
    store.write_facts({"a": 1})
    store.write(12, some_images(), MAKER)
    make(store.storage, "other").write(5, some_images(), MAKER)
    assert store.numbers() == [12]
    assert store.disk_bytes() == len(store.storage.read(store.path(12)))


def test_disk_bytes_follow_the_shards(store: ShardStore):
    for number in range(3):
        store.write(number, some_images(number), MAKER)
    assert store.disk_bytes() == sum(len(store.storage.read(store.path(number))) for number in range(3))
    store.delete(1)
    store.delete(1)
    assert store.numbers() == [0, 2] and store.read(1) is None
    assert store.disk_bytes() == sum(len(store.storage.read(store.path(number))) for number in (0, 2))


def test_facts_are_kept_and_written_only_when_they_change(store: ShardStore, monkeypatch):
    assert store.read_facts() is None
    written = []
    monkeypatch.setattr(
        Storage, "write", lambda self, path, data, write=Storage.write: (written.append(path), write(self, path, data))
    )
    facts = {"sampler": {"steps": 18, "churn": 0.5}, "shape": (2, 3)}
    for again in (facts, facts, dict(reversed(facts.items()))):
        store.write_facts(again)
        assert written == ["samples/abc/stream.json"]
    assert store.read_facts() == {"sampler": {"steps": 18, "churn": 0.5}, "shape": [2, 3]}
    store.write_facts({"sampler": None})
    assert store.read_facts() == {"sampler": None} and len(written) == 2
    with pytest.raises(ValueError, match="JSON"):
        store.write_facts({"sigma": float("inf")})
    store.storage.write("samples/abc/stream.json", b"{")
    store.write_facts(facts)
    assert store.read_facts()["shape"] == [2, 3]


def test_streams_are_the_folders_of_samples(storage: Storage):
    assert streams(storage) == []
    make(storage, "b2").write(0, some_images(), MAKER)
    make(storage, "a1").write_facts({})
    storage.write("samples/notes.txt", b"1")
    storage.write("sweep/trials/x.parquet", b"1")
    assert streams(storage) == ["a1", "b2"]


@pytest.mark.parametrize("number", [-1, 1_000_000])
def test_a_number_out_of_range_is_refused(store: ShardStore, number: int):
    for call in (
        lambda: store.write(number, some_images(), MAKER),
        lambda: store.read(number),
        lambda: store.delete(number),
        lambda: store.set_aside(number, "a test"),
        lambda: store.path(number),
        lambda: store.where(number),
    ):
        with pytest.raises(SpecError, match=rf"must be 0\.\.999999; got {number}$"):
            call()
    assert store.storage.folders() == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (some_images().astype(np.int64), r"must be uint8 of shape \(5, 2, 3, 4\); got int64 of shape \(5, 2, 3, 4\)"),
        (some_images()[:-1], r"got uint8 of shape \(4, 2, 3, 4\)"),
        (some_images().reshape(S, -1), r"got uint8 of shape \(5, 24\)"),
        (np.full(SHAPE, LEVELS, np.uint8), r"must be 0\.\.15; got 16"),
    ],
)
def test_images_that_do_not_fit_are_refused(store: ShardStore, images: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        store.write(0, images, MAKER)
    assert store.numbers() == []


@pytest.mark.parametrize("digest", ["", "..", ".hidden", "a/b", "a b"])
def test_a_digest_cannot_leave_the_storage(storage: Storage, digest: str):
    with pytest.raises(SpecError, match="must be letters, digits"):
        make(storage, digest)


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2, 3, 4, 5), (0, 1, 2, 3), (1, 1, 1, -1)])
def test_a_shape_that_cannot_be_is_refused(storage: Storage, shape: tuple[int, ...]):
    with pytest.raises(SpecError, match=r"must be \(S, C, H, W\)"):
        ShardStore(storage, "abc", shape=shape, levels=2)


@pytest.mark.parametrize("levels", [1, 257])
def test_levels_that_cannot_be_are_refused(storage: Storage, levels: int):
    with pytest.raises(SpecError, match=rf"must be 2\.\.256; got {levels}"):
        ShardStore(storage, "abc", shape=SHAPE, levels=levels)


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_names_the_path_and_leaves_the_old_shard(local: ShardStore, monkeypatch, broken: str):
    local.write(0, some_images(0), MAKER)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, full)
        for number in (0, 1):
            with pytest.raises(StorageError, match="No space left on device") as caught:
                local.write(number, some_images(1), MAKER)
            assert local.where(number) in str(caught.value)
    assert local.numbers() == [0]
    np.testing.assert_array_equal(local.read(0), some_images(0))


def test_a_full_or_read_only_disk_is_told(tmp_path: Path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs the right to mount")
    try:
        store = ShardStore(Storage.open(tmp_path), "abc", shape=(1, 1, 100, 400), levels=2)
        images = np.ones(store.shape, np.uint8)
        store.write(0, images, MAKER)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            store.write(1, images, MAKER)
        assert store.where(1) in str(caught.value)
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        for call in (
            lambda: store.write(0, images, MAKER),
            lambda: store.delete(0),
            lambda: store.set_aside(0, "a test"),
            lambda: store.write_facts({}),
        ):
            with pytest.raises(StorageError, match="Read-only file system") as caught:
                call()
            assert str(tmp_path / "samples/abc") in str(caught.value)
        np.testing.assert_array_equal(store.read(0), images)
        assert store.numbers() == [0]
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_shard_that_cannot_be_read_is_not_damaged(local: ShardStore):
    """A folder stands for what the file system refuses to open: it must not look like a shard to make again."""
    os.makedirs(local.where(0))
    with pytest.raises(StorageError, match="cannot read") as caught:
        local.read(0)
    assert local.where(0) in str(caught.value)


def test_a_file_system_that_cannot_map_is_read(local: ShardStore, monkeypatch):
    local.write(0, some_images(), MAKER)

    def refuse(*_):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(pa, "memory_map", refuse)
    np.testing.assert_array_equal(local.read(0), some_images())


def test_many_write_and_read_the_same_shards(local: ShardStore):
    def work(worker: int) -> None:
        store = pickle.loads(pickle.dumps(local))  # as it is sent to another process
        for number in range(8):
            found = store.read(number)
            assert found is None or (found == some_images(number)).all()
            store.write(number, some_images(number), MAKER)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert local.numbers() == list(range(8))
    assert all((local.read(number) == some_images(number)).all() for number in range(8))
    assert len(os.listdir(os.path.dirname(local.where(0)))) == 8  # no temporary file is left
