"""A sampler: makes shards and writes them. A plain class, which ``actors.py`` runs as an actor."""

import os
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np

from vaegen_ray.errors import DataFormatError
from vaegen_ray.results.diffusions import DiffusionStore
from vaegen_ray.results.shards import ShardStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.spec.diffusion import StreamSpec


def build_shard_store(storage: Storage, stream: StreamSpec, digest: str) -> ShardStore:
    """The shard files of a stream."""
    return ShardStore(storage, digest, shape=stream.shard_shape, levels=stream.diffusion.levels)


def read_shard(store: ShardStore, number: int) -> tuple[np.ndarray | None, list[str]]:
    """Reads a shard from its file.

    Returns:
        The images, or None where the file is absent or damaged; and notes for the user about a damaged file, which is
        moved to ``set-aside/``.
    """
    try:
        return store.read(number), []
    except DataFormatError as error:
        return None, [f"{store.set_aside(number, str(error))}; it is made again"]


def read_whole_shard(store: ShardStore, number: int) -> np.ndarray | None:
    """The images of a shard, or None where its file is absent or damaged, which is left where it is."""
    with suppress(DataFormatError):
        return store.read(number)
    return None


class Sampler:
    """Makes the shards of one stream.

    Args:
        storage: where weights are and shards go.
        stream: the samples.
        digest: names the samples; follows from the stream and the weights.
        device: where to compute.
    """

    def __init__(self, storage: Storage, stream: StreamSpec, digest: str, device: str) -> None:
        self._weights = DiffusionStore(storage, stream.diffusion.diffusion_id)
        self._shards = build_shard_store(storage, stream, digest)
        self._stream = stream
        self._device = device
        self._digest = digest
        self._maker: Any = None
        self._making = threading.Lock()

    def make(self, number: int) -> tuple[dict[str, Any], np.ndarray]:
        """Reads shard ``number`` from its file, or makes and writes it where that is absent or damaged.

        Returns:
            ``seconds`` that it took to make, 0 when it was read, and ``notes`` for the user; and the images, uint8
            [S, C, H, W].

        Raises:
            StorageError, DataFormatError: the storage refuses, or the weights are damaged or others.
        """
        images, notes = read_shard(self._shards, number)
        seconds = 0.0
        if images is None:
            with self._making:  # one thread makes a shard while another writes one
                maker = self._find_maker()
                started = time.monotonic()
                images = maker.shard(number)
                seconds = time.monotonic() - started
            self._shards.write(number, images, maker.made_by())
        return {"seconds": seconds, "notes": notes}, images

    def pid(self) -> int:
        """The id of the process that this runs in."""
        return os.getpid()

    def _find_maker(self) -> Any:
        """The model with its weights, which is loaded when it is needed first."""
        if self._maker is None:
            from vaegen_ray.diffusion.shards import ShardMaker
            from vaegen_ray.serialization import digest
            from vaegen_ray.service.sampling.diffusion_worker import read_weights

            where, weights = self._weights.where(), read_weights(self._weights)
            if self._stream.digest(digest(weights)) != self._digest:
                raise DataFormatError(f"{where} holds other weights than those that samples {self._digest} are made of")
            self._maker = ShardMaker(self._stream, weights, device=self._device, where=where)
        return self._maker
