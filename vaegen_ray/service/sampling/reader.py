"""Reading a stream of samples from a worker: by number, ahead of time, from wherever a shard is to be had.

read(start, stop) -> shards, fetched by threads and a few ahead -> directory -> object store   (zero copy on a node)
                                                               \\-> file, where Ray has no answer
"""

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayError

from vaegen_ray.errors import StorageError, VaegenError
from vaegen_ray.service.cluster.connect import describe_error
from vaegen_ray.service.sampling.coordinator import Connection
from vaegen_ray.service.sampling.sampler import read_shard, shard_store

AHEAD = 2
"""Shards that are fetched before they are asked for."""
HELD = 8
"""Shards that stay in memory after they were read, for the other members of a bundle."""
POLL_SECONDS = 5.0
"""Time that the directory is given to have a shard; then the storage is looked at, and the directory asked again."""
ANSWER_SECONDS = 30.0
"""Longest wait for the directory's answer beyond that, and for an object."""
PATIENCE_SECONDS = 900.0
"""A pool that made nothing for so long is an error."""
PAUSE_SECONDS = 0.5
"""Rest before a directory is called again that did not answer."""

CLOSED = "the reader of samples was closed"

Needed = dict[int, "Future[np.ndarray]"]
"""The shards that a call waits for, in rising order."""


class SampleReader:
    """The samples of a stream, for the source of one bundle (``training.sources.Samples``).

    Args:
        connection: the pool.
        name: of the reader; no other has it.
        samples: how many will be read at most, counted from 0.

    Attributes:
        digest: names the samples.
        waited_seconds: time that ``read`` and ``take`` spent waiting for shards.
        notes: lines for the user.
    """

    def __init__(self, connection: Connection, name: str, samples: int) -> None:
        self.digest = connection.digest
        self._connection = connection
        self._store = shard_store(connection.storage, connection.stream, connection.digest)
        self._name, self._evaluation_name = name, f"{name} evaluation"
        self._size = connection.stream.shard_size
        self._last = connection.stream.shards(samples) - 1
        self._shards: OrderedDict[int, Future[np.ndarray]] = OrderedDict()
        self._held = HELD
        self._threads = ThreadPoolExecutor(AHEAD + 2, thread_name_prefix="samples")
        self._closed = threading.Event()
        self._directory: Any = None
        self._told_seconds = 0.0
        self.waited_seconds = 0.0
        self.notes: list[str] = []

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples start .. stop - 1: uint8 [stop - start, C, H, W].

        Raises:
            VaegenError: they cannot be had; says why.
        """
        first, end = start // self._size, (stop - 1) // self._size + 1
        needed: Needed = {}
        for number in range(first, end):
            needed[number] = self._begin(number, needed)
        for number in range(end, min(end + AHEAD, self._last + 1)):
            self._begin(number, needed)
        parts = []
        for number, future in needed.items():
            offset = number * self._size
            parts.append(self._images(future)[max(start - offset, 0) : stop - offset])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Samples by number, in that order: uint8 [len(numbers), C, H, W]; all shards that hold them stay in memory."""
        owners, rows = np.divmod(numbers, self._size)
        self._held = max(self._held, int(owners.max(initial=0)) + 1)
        needed: Needed = {}
        for number in np.unique(owners).tolist():
            needed[number] = self._begin(number, needed)
        out = np.empty((len(numbers), *self._connection.stream.diffusion.image_shape), np.uint8)
        for number, future in needed.items():
            mine = owners == number
            out[mine] = self._images(future)[rows[mine]]
        return out

    def close(self) -> None:
        """Ends the reader; what is under way is dropped."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._directory is not None:
            with suppress(RayError):
                names = [self._name, self._evaluation_name]
                self._directory.forget.remote(names, self.waited_seconds - self._told_seconds)

    def _begin(self, number: int, needed: Needed) -> Future[np.ndarray]:
        """A shard that is here or under way, while ``needed`` are waited for; the one not used for longest leaves."""
        if self._closed.is_set():
            raise VaegenError(CLOSED)
        known = self._shards.get(number)
        if known is None or (known.done() and known.exception() is not None):
            self._shards[number] = self._threads.submit(self._fetch, number, needed)
        self._shards.move_to_end(number)
        while len(self._shards) > self._held + AHEAD:
            self._shards.popitem(last=False)
        return self._shards[number]

    def _images(self, future: Future[np.ndarray]) -> np.ndarray:
        started = time.monotonic()
        try:
            return future.result()
        finally:
            self.waited_seconds += time.monotonic() - started

    def _fetch(self, number: int, needed: Needed) -> np.ndarray:
        """A shard, from the object store or its file; asks until it is there."""
        end = time.monotonic() + PATIENCE_SECONDS
        lost, reason, progress = False, "the sampler pool makes nothing", None
        while not self._closed.is_set():
            kind, value = self._ask(number, _position(needed, number), lost)
            if kind == "later" and value != progress:
                end, progress = time.monotonic() + PATIENCE_SECONDS, value
            if kind == "object":
                try:
                    images: np.ndarray = ray.get(value[0], timeout=ANSWER_SECONDS)
                    return images
                except RayError as error:
                    lost, reason = True, describe_error(error)
            found, notes = read_shard(self._store, number)
            self.notes += notes
            if found is not None:
                return found
            if kind == "refused":
                refused = StorageError(value)
                refused.final = True
                raise refused
            if kind == "fault":
                raise VaegenError(f"no samples to train on: {value}")
            if kind == "silence":
                reason = str(value)
                self._closed.wait(PAUSE_SECONDS)
            if time.monotonic() > end:
                where = self._store.where(number)
                raise VaegenError(f"{where} was not made within {PATIENCE_SECONDS:.0f} s: {reason}")
        raise VaegenError(CLOSED)

    def _ask(self, number: int, position: int, lost: bool) -> tuple[str, Any]:
        """The directory's answer, or ("silence", why)."""
        own = position <= self._last
        name, last = (self._name, self._last) if own else (self._evaluation_name, position)
        waited, self._told_seconds = self.waited_seconds - self._told_seconds, self.waited_seconds
        try:
            if self._directory is None:
                self._directory = self._connection.directory()
            answer: tuple[str, Any] = ray.get(
                self._directory.shard.remote(name, number, position, last, POLL_SECONDS, waited=waited, lost=lost),
                timeout=POLL_SECONDS + ANSWER_SECONDS,
            )
            return answer
        except (RayError, GetTimeoutError, ValueError) as error:
            self._directory = None
            self._told_seconds -= waited
            return "silence", describe_error(error)


def _position(needed: Needed, number: int) -> int:
    """The first of the needed shards that is not here; the last one when all are. (``number`` before any is noted.)"""
    known = list(needed.items())
    waited_for = [each for each, future in known if not future.done()]
    return min(waited_for, default=known[-1][0] if known else number)
