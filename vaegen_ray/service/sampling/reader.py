"""Reads a stream of samples in a worker: by number, ahead of time, from the object store or from files.

read(start, stop) -> shards, fetched by threads and a few ahead -> coordinator -> object store   (zero copy on a node)
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
from ray.exceptions import RayError

from vaegen_ray.errors import StorageError, VaegenError
from vaegen_ray.service.cluster.connect import describe_error
from vaegen_ray.service.sampling.actors import Connection
from vaegen_ray.service.sampling.sampler import build_shard_store, read_shard

AHEAD = 2
"""Shards that are fetched before they are needed."""
HELD = 8
"""Shards that stay in memory after they were read, for the other members of a bundle."""
POLL_SECONDS = 5.0
"""How long the coordinator waits for a shard; then the reader looks for its file, and asks again."""
ANSWER_SECONDS = 30.0
"""Longest wait for the coordinator's answer beyond that, and for an object."""
PATIENCE_SECONDS = 900.0
"""A pool that made nothing for so long is an error."""
PAUSE_SECONDS = 0.5
"""Pause before a coordinator that did not answer is called again."""

CLOSED = "the reader of samples was closed"

Needed = dict[int, "Future[np.ndarray]"]
"""The shards that a call waits for, in rising order."""


class SampleReader:
    """The samples of a stream, for the source of one bundle (``training.sources.Samples``).

    Args:
        connection: the pool.
        name: of the reader, which no other reader has.
        samples: how many will be read at most, counted from 0.

    Attributes:
        digest: names the samples.
        waited_seconds: time that ``read`` and ``take`` have waited for shards.
        notes: lines for the user.
    """

    def __init__(self, connection: Connection, name: str, samples: int) -> None:
        self.digest = connection.digest
        self._connection = connection
        self._store = build_shard_store(connection.storage, connection.stream, connection.digest)
        self._name, self._evaluation_name = name, f"{name} evaluation"
        self._size = connection.stream.shard_size
        self._last = connection.stream.shards(samples) - 1
        self._shards: OrderedDict[int, Future[np.ndarray]] = OrderedDict()
        self._held = HELD
        self._threads = ThreadPoolExecutor(AHEAD + 2, thread_name_prefix="samples")
        self._closed = threading.Event()
        self._coordinator: Any = None
        self._reported_seconds = 0.0
        self.waited_seconds = 0.0
        self.notes: list[str] = []

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples start .. stop - 1: uint8 [stop - start, C, H, W].

        Raises:
            VaegenError: a shard cannot be had; says why.
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
            parts.append(self._wait_for(future)[max(start - offset, 0) : stop - offset])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Samples by number, in that order: uint8 [len(numbers), C, H, W]; all shards that hold them stay in memory."""
        shards, rows = np.divmod(numbers, self._size)
        self._held = max(self._held, int(shards.max(initial=0)) + 1)
        needed: Needed = {}
        for number in np.unique(shards).tolist():
            needed[number] = self._begin(number, needed)
        out = np.empty((len(numbers), *self._connection.stream.diffusion.image_shape), np.uint8)
        for number, future in needed.items():
            mask = shards == number
            out[mask] = self._wait_for(future)[rows[mask]]
        return out

    def close(self) -> None:
        """Ends the reader, and drops what it fetches."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._coordinator is not None:
            with suppress(RayError):
                names = [self._name, self._evaluation_name]
                self._coordinator.forget.remote(names, self.waited_seconds - self._reported_seconds)

    def _begin(self, number: int, needed: Needed) -> Future[np.ndarray]:
        """A shard, which is fetched where it is not held; the shard that was not used for longest is dropped."""
        if self._closed.is_set():
            raise VaegenError(CLOSED)
        held = self._shards.get(number)
        if held is None or (held.done() and held.exception() is not None):
            self._shards[number] = self._threads.submit(self._fetch, number, needed)
        self._shards.move_to_end(number)
        while len(self._shards) > self._held + AHEAD:
            self._shards.popitem(last=False)
        return self._shards[number]

    def _wait_for(self, future: Future[np.ndarray]) -> np.ndarray:
        started = time.monotonic()
        try:
            return future.result()
        finally:
            self.waited_seconds += time.monotonic() - started

    def _fetch(self, number: int, needed: Needed) -> np.ndarray:
        """A shard from the object store or its file; asks until it is there."""
        end = time.monotonic() + PATIENCE_SECONDS
        lost, reason, progress = False, "the sampler pool makes nothing", None
        while not self._closed.is_set():
            kind, value = self._ask(number, _find_position(needed, number), lost)
            if kind == "later" and value != progress:
                end, progress = time.monotonic() + PATIENCE_SECONDS, value
            if kind == "object":
                try:
                    images: np.ndarray | None = ray.get(value[0], timeout=ANSWER_SECONDS)
                    if images is not None:
                        return images
                    lost, reason = True, "its file is missing or damaged"
                except RayError as error:
                    lost, reason = True, describe_error(error)
            stored, notes = read_shard(self._store, number)
            self.notes += notes
            if stored is not None:
                return stored
            if kind == "refused":
                refusal = StorageError(value)
                refusal.final = True
                raise refusal
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
        """The coordinator's answer, or ("silence", why there is none)."""
        is_training = position <= self._last
        name, last = (self._name, self._last) if is_training else (self._evaluation_name, position)
        waited, self._reported_seconds = self.waited_seconds - self._reported_seconds, self.waited_seconds
        try:
            if self._coordinator is None:
                self._coordinator = self._connection.find_coordinator()
            answer: tuple[str, Any] = ray.get(
                self._coordinator.shard.remote(name, number, position, last, POLL_SECONDS, waited=waited, lost=lost),
                timeout=POLL_SECONDS + ANSWER_SECONDS,
            )
            return answer
        except (RayError, ValueError) as error:
            self._coordinator = None
            self._reported_seconds -= waited
            return "silence", describe_error(error)


def _find_position(needed: Needed, number: int) -> int:
    """The first of the needed shards that is not fetched; the last one when all are; ``number`` when none is noted."""
    futures = list(needed.items())
    missing = [each for each, future in futures if not future.done()]
    return min(missing, default=futures[-1][0] if futures else number)
