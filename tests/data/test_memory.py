"""Images that cannot fit into the memory are refused before they are unpacked."""

import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from vaegen_ray.allotment import Allotment
from vaegen_ray.data import catalog, loaders, memory, stored
from vaegen_ray.errors import DataFormatError, VaegenError

MIB = 2**20


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """64 MiB of memory are free."""
    monkeypatch.setattr(memory, "allotted", lambda: Allotment(cores=1.0, memory=2**30, free=64 * MIB))
    with patch.dict(catalog.CATALOG), patch.object(stored, "_discovered", set()):
        yield


def bomb(path: Path, shape: tuple[int, ...]) -> None:
    """An honest .npz of zeros, written without having them in memory."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for _ in range(shape[0]):
            file.write(bytes(shape[1] * shape[2]))


def peak_of(refused: object) -> int:
    tracemalloc.start()
    try:
        refused()  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_npz_that_unpacks_to_more_than_the_memory(tmp_path: Path) -> None:
    bomb(tmp_path / "a.npz", (30, 1024, 1024))
    assert (tmp_path / "a.npz").stat().st_size < MIB

    def refused() -> None:
        with pytest.raises(VaegenError, match=r"a.npz .*images take 0.03 GB unpacked, and 0.09 GB .*; got 0.07 GB av"):
            stored.add("mine", tmp_path / "a.npz", tmp_path / "data")

    assert peak_of(refused) < 10 * MIB and not (tmp_path / "data").exists()


def test_an_npy_is_mapped_and_not_read_before_it_is_known_to_fit(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (30, 1024, 1024)})
        file.truncate(file.tell() + 30 * MIB)

    def refused() -> None:
        with pytest.raises(VaegenError, match=r"a.npy must fit into the memory"):
            stored.add("mine", tmp_path / "a.npy", tmp_path / "data")

    assert peak_of(refused) < 10 * MIB
    small = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "b.npy", small)
    assert stored.add("mine", tmp_path / "b.npy", tmp_path / "data").n_train == 40


def png(path: Path, side: int) -> None:
    """A grey PNG of zeros."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    packer = zlib.compressobj()
    data = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", data) + part(b"IEND", b""))


def test_pictures_of_huge_dimensions(tmp_path: Path) -> None:
    for name in ("a", "b"):
        png(tmp_path / f"{name}.png", 4000)

    def refused() -> None:
        with pytest.raises(VaegenError, match=r"take 0.03 GB unpacked, and 0.10 GB while they are read; got 0.07 GB"):
            stored.add("mine", tmp_path, tmp_path / "data")

    assert peak_of(refused) < 10 * MIB
    png(tmp_path / "a.png", 10_000)
    with pytest.raises(DataFormatError, match=r"a.png must have at most 89,478,485 pixels, .*100000000 pixels"):
        stored.add("mine", tmp_path, tmp_path / "data")


def test_a_gzipped_idx_file_that_unpacks_to_more_than_the_memory(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(struct.pack(">4I", 2051, 60_000, 28, 28))
    data = head + b"".join(packer.compress(bytes(28 * 28 * 100)) for _ in range(600)) + packer.flush()
    for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (raw / name).write_bytes(data)

    def refused() -> None:
        with pytest.raises(VaegenError, match=r"ubyte.gz must fit into .* take 0.05 GB unpacked, .*; got 0.07 GB"):
            catalog.load("mnist", data_dir=tmp_path, download=False)

    assert peak_of(refused) < 10 * MIB


def test_a_gzipped_file_is_unpacked_no_further_than_what_it_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "records.gz"
    packer = zlib.compressobj(wbits=31)
    path.write_bytes(b"".join(packer.compress(bytes(MIB)) for _ in range(100)) + packer.flush())

    def refused() -> None:
        with pytest.raises(DataFormatError, match="got more than 30730000 bytes"):
            loaders._read_records(path)

    assert peak_of(refused) < 80 * MIB
    assert len(loaders._read(path, 1000)) == 1001
