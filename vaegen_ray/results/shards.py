"""The files of one endless, numbered sequence of samples, in blocks of S that are called shards.

    <storage>/samples/<digest>/
        shard-NNNNNN.arrow      shard j holds the samples j*S .. (j+1)*S - 1
        stream.json             what made the samples
        status.json             how fast they are made, and how long readers waited
        set-aside/              damaged files, kept for a look, read by nothing

The digest names what the samples follow from, so a shard made twice is the same and a lost one is made again. Any
process on any machine may write or read any shard at any time: a file is whole or not there (``storage.py``).

A shard is an Arrow IPC file of one record batch that any Arrow tool reads: ``index`` (int64, number of the sample) and
``image`` (C*H*W bytes). The metadata of its schema, each key under ``vaegen_ray.``:

    stream, shard, shape, levels    whose it is: the digest, j, "S,C,H,W" and the number of grey levels
    made_by.*                       what the writer says about device and versions
    sha256                          of the bytes of all images
    frame_sha256                    of all other bytes of the file, where its own digits count as ``BLANK``

So no byte can change unnoticed. Letters: S samples of a shard, C colours, H and W pixels.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from vaegen_ray.errors import DataFormatError, SpecError, StorageError
from vaegen_ray.results.parquet import SAFE_NAME
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import safe_name
from vaegen_ray.spec.diffusion import MOST_SHARDS, StreamSpec

FOLDER, SUFFIX = "samples", ".arrow"
NAME = re.compile(r"shard-([0-9]{6})\.arrow")

PREFIX = "vaegen_ray."
BLANK = b"sha256 of all bytes of the file but the images and these digits:"
"""Stands in the place of ``frame_sha256`` while that is computed; as long as a digest."""


def streams(storage: Storage) -> list[str]:
    """The digests of all sequences in a storage, sorted."""
    return [name for name in storage.folders(FOLDER) if SAFE_NAME.fullmatch(name)]


class ShardStore:
    """Reads and writes the shards of one sequence. Methods raise ``StorageError`` where the storage refuses."""

    def __init__(self, storage: Storage, digest: str, *, shape: tuple[int, int, int, int], levels: int) -> None:
        """
        Args:
            digest: of what the samples follow from; the name of their folder.
            shape: (S, C, H, W) of every shard.
            levels: grey levels, 2..256; pixels are 0..levels - 1.

        Raises:
            SpecError: one of them cannot be.
        """
        if len(shape) != 4 or min(shape) < 1:
            raise SpecError(f"the shape of a shard must be (S, C, H, W), each at least 1; got {shape}")
        if not 2 <= levels <= 256:
            raise SpecError(f"the grey levels of a shard must be 2..256; got {levels}")
        self.storage = storage
        self.digest = safe_name("the digest of a sequence of samples", digest)
        self.shape = shape
        self.levels = levels
        self._columns = pa.schema(
            [
                pa.field("index", pa.int64(), nullable=False),
                pa.field("image", pa.binary(math.prod(shape[1:])), nullable=False),
            ]
        )

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Keeps what made the samples, for people and for tools; nothing is written where the same is there already."""
        path = self._path("stream.json")
        data = (json.dumps(facts, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
        if self.storage.read_optional(path) != data:
            self.storage.write(path, data)

    def read_facts(self) -> dict[str, Any] | None:
        """What ``write_facts`` kept, or None."""
        return self.storage.read_json_optional(self._path("stream.json"))

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replaces the numbers about the making of the shards."""
        self.storage.write_json(self._path("status.json"), status)

    def read_status(self) -> dict[str, Any] | None:
        """What ``write_status`` kept, or None."""
        return self.storage.read_json_optional(self._path("status.json"))

    def write(self, number: int, images: np.ndarray, made_by: Mapping[str, str]) -> None:
        """Writes shard ``number``, in place of the same one.

        Args:
            images: uint8 [S, C, H, W], each below ``levels``.
            made_by: device, versions. The same maker must give the same: no times, process ids or host names. Then
                the same images make the same file, byte for byte, under the same version of pyarrow.

        Raises:
            ValueError: the images are of another type or shape, or have a pixel that is no grey level.
        """
        if images.dtype != np.uint8 or images.shape != self.shape:
            got = f"{images.dtype} of shape {images.shape}"
            raise ValueError(f"the images of a shard must be uint8 of shape {self.shape}; got {got}")
        if images.max() >= self.levels:
            raise ValueError(f"the pixels of a shard must be 0..{self.levels - 1}; got {images.max()}")
        self.storage.write(self.path(number), self._encode(number, np.ascontiguousarray(images), made_by))

    def read(self, number: int) -> np.ndarray | None:
        """The images of shard ``number``, read-only uint8 [S, C, H, W], or None where there is no such file.

        In a local storage they are the pages of the file, mapped and not copied: all processes of a machine share them,
        and they stay as they are when the file is deleted or replaced (on NFS: from this machine; a file that another
        machine takes away there is lost to its readers, too).

        Raises:
            DataFormatError: the file is damaged, or is that of another shard; names the file and what was found.
        """
        data = self._bytes(self.path(number))
        return None if data is None else self._decode(number, data)

    def set_aside(self, number: int, reason: str) -> str:
        """Moves a damaged file to ``set-aside/``; fine when another process has done so already.

        Args:
            reason: the text of the ``DataFormatError``.

        Returns:
            One line for the user: the full path of the file and the reason.
        """
        path, where = self.path(number), self.where(number)
        try:
            self.storage.move(path, self._path("set-aside", path.rpartition("/")[2]))
        except StorageError:
            if self.storage.exists(path):
                raise
        return f"{where} was set aside: {' '.join(reason.removeprefix(f'{where}: ').split())}"

    def numbers(self) -> list[int]:
        """Numbers of the shards that are there, sorted. They may be damaged: only ``read`` knows."""
        return sorted(self._sizes())

    def disk_bytes(self) -> int:
        """Bytes of all shards that are there."""
        return sum(self._sizes().values())

    def delete(self, number: int) -> None:
        """Removes a shard; nothing happens where it is not there."""
        self.storage.delete(self.path(number))

    def path(self, number: int) -> str:
        """The path of shard ``number`` in the storage.

        Raises:
            SpecError: no shard can have this number.
        """
        if not 0 <= number < MOST_SHARDS:
            raise SpecError(f"the number of a shard must be 0..{MOST_SHARDS - 1}; got {number}")
        return self._path(f"shard-{number:06d}{SUFFIX}")

    def where(self, number: int) -> str:
        """The full path or URI of shard ``number``, for messages."""
        return self.storage.where(self.path(number))

    def _path(self, *parts: str) -> str:
        return "/".join([FOLDER, self.digest, *parts])

    def _sizes(self) -> dict[int, int]:
        """Bytes of each shard by its number; other files in the folder are nobody's business."""
        sizes = self.storage.sizes(self._path(), SUFFIX)
        return {int(match[1]): size for name, size in sizes.items() if (match := NAME.fullmatch(name))}

    def _identity(self, number: int) -> dict[str, str]:
        shape = ",".join(map(str, self.shape))
        return {"stream": self.digest, "shard": str(number), "shape": shape, "levels": str(self.levels)}

    def _bytes(self, path: str) -> pa.Buffer | None:
        if self.storage.is_local:  # what cannot be mapped, for whatever reason, is read or explained below
            with suppress(OSError), pa.memory_map(self.storage.where(path)) as file:
                return file.read_buffer()
        data = self.storage.read_optional(path)
        return None if data is None else pa.py_buffer(data)

    def _encode(self, number: int, images: np.ndarray, made_by: Mapping[str, str]) -> bytes:
        pixels, count = pa.py_buffer(images), self.shape[0]
        facts = self._identity(number) | {f"made_by.{name}": made_by[name] for name in sorted(made_by)}
        facts |= {"sha256": hashlib.sha256(pixels).hexdigest(), "frame_sha256": BLANK.decode()}
        schema = self._columns.with_metadata({PREFIX + name: value for name, value in facts.items()})
        index = pa.array(np.arange(number * count, (number + 1) * count, dtype=np.int64))
        image = pa.Array.from_buffers(schema.field("image").type, count, [None, pixels])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch([index, image], schema=schema))
        _, head, written, tail = _parts(sink.getvalue())
        digits = _frame_digest(head, tail, BLANK).encode()
        return b"".join([head.replace(BLANK, digits), written, tail.replace(BLANK, digits)])

    def _decode(self, number: int, data: pa.Buffer) -> np.ndarray:
        where = self.where(number)
        try:
            facts, head, pixels, tail = _parts(data)
        except (pa.ArrowException, OSError, ValueError, LookupError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise DataFormatError(f"{where}: it is not a whole shard ({data.size} bytes): {reason}") from None
        digits = facts.get("frame_sha256", "")
        found = hashlib.sha256(pixels).hexdigest(), _frame_digest(head, tail, digits.encode())
        if found != (facts.get("sha256"), digits):
            raise DataFormatError(f"{where}: it is damaged: its SHA-256 is not the one that it was written with")
        for name, value in self._identity(number).items():
            if facts.get(name) != value:
                raise DataFormatError(f"{where}: it is another shard: {name} must be {value}; got {facts.get(name)}")
        return np.frombuffer(pixels, np.uint8).reshape(self.shape)


def _parts(data: pa.Buffer) -> tuple[dict[str, str], bytes, pa.Buffer, bytes]:
    """The metadata of a shard file, what comes before the pixels, the pixels (not copied), and what comes after."""
    batch = pa.ipc.open_file(data).get_batch(0)
    facts = {key.decode().removeprefix(PREFIX): value.decode() for key, value in (batch.schema.metadata or {}).items()}
    pixels = batch.column("image").buffers()[1]
    start, view = pixels.address - data.address, memoryview(data)
    return facts, bytes(view[:start]), pixels, bytes(view[start + pixels.size :])


def _frame_digest(head: bytes, tail: bytes, digits: bytes) -> str:
    """SHA-256 of a file without its pixels, in which ``digits`` count as ``BLANK``."""
    return hashlib.sha256((head + tail).replace(digits, BLANK)).hexdigest()


def open_stream(storage: Storage, digest: str) -> tuple[ShardStore, StreamSpec]:
    """The shards and the declaration of a stream that is in the storage.

    Raises:
        DataFormatError: the folder does not say what it holds.
    """
    probe = ShardStore(storage, digest, shape=(1, 1, 1, 1), levels=2)
    facts = probe.read_facts()
    try:
        stream = StreamSpec.from_dict((facts or {})["stream"])
    except (LookupError, TypeError, AttributeError, SpecError) as error:
        raise DataFormatError(f"{storage.where('samples')}/{digest} does not say what it holds: {error}") from None
    return ShardStore(storage, digest, shape=stream.shard_shape, levels=stream.diffusion.levels), stream
