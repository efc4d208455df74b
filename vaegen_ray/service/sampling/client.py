"""The driver's side of the sampler pools: trains missing models, opens pools, keeps them alive and leaves them."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from vaegen_ray.data import catalog
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import connect, resources
from vaegen_ray.service.sampling import train_models
from vaegen_ray.service.sampling.actors import Connection
from vaegen_ray.spec.diffusion import EVALUATION_SHARD, DiffusionSpec, StreamSpec

JOIN_SECONDS = 2.0
"""Time between two calls of a coordinator."""
CALL_SECONDS = 30.0
"""Longest wait for an answer of a coordinator, which answers at once."""
FAILURES = 5
"""After so many failures to answer in a row, the user reads of it."""


def open_pools(
    storage: Storage,
    sweep: str,
    streams: Iterable[StreamSpec],
    samplers: tuple[int, int] | None,
    load_images: Callable[[DiffusionSpec], np.ndarray],
    say: Callable[[str], None],
    *,
    checkpoint_seconds: float,
    goal: Sequence[int] | None = None,
    evaluated: Mapping[StreamSpec, int] | None = None,
) -> "dict[StreamSpec, PoolClient]":
    """Trains the models that are missing and opens the pools of streams.

    Args:
        storage: where models and shards are and go.
        sweep: the name of the client.
        streams: the streams.
        samplers: fewest and most samplers of a stream; from 1 to the number of devices when None.
        load_images: loads the training set of a model, uint8 [N, C, H, W].
        say: prints a line.
        checkpoint_seconds: time between two checkpoints of a training.
        goal: shards to make before anybody reads; those for evaluation, and the first, when None.
        evaluated: how many samples of a stream evaluations read; as many as there are test images when None.

    Raises:
        VaegenError: a model cannot be trained, or no device has the precision of a stream.
    """
    streams = list(dict.fromkeys(streams))
    if not streams:
        return {}
    models = dict.fromkeys(stream.diffusion for stream in streams)
    digests = train_models.train_missing(storage, models, load_images, say, checkpoint_seconds=checkpoint_seconds)
    device, count = resources.find_devices(resources.SAMPLER)
    resources.check_precision((stream.precision for stream in streams), device)
    pools = {}
    for stream in streams:
        connection = Connection(
            storage=storage,
            stream=stream,
            digest=stream.digest(digests[stream.diffusion]),
            use_gpu=device.kind == "cuda",
        )
        test_shards = stream.shards((evaluated or {}).get(stream, catalog.info(stream.diffusion.dataset).n_test))
        first = (0, *range(EVALUATION_SHARD, EVALUATION_SHARD + test_shards))
        pools[stream] = PoolClient(connection, sweep, samplers or (1, count), first if goal is None else goal)
    for pool in pools.values():
        pool.beat()
    return pools


class PoolClient:
    """Keeps the pool of one stream alive for a sweep.

    Args:
        connection: the pool.
        sweep: the name of the sweep.
        samplers: fewest and most samplers.
        goal: shards to make before anybody reads.

    Attributes:
        state: the last state of the pool (``ShardCoordinator.state``); empty before the first answer.
    """

    def __init__(self, connection: Connection, sweep: str, samplers: tuple[int, int], goal: Sequence[int]) -> None:
        self.connection = connection
        self.state: dict[str, Any] = {}
        self._name = f"{sweep}-{uuid.uuid4().hex[:8]}"
        self._samplers, self._goal = samplers, goal
        self._coordinator: Any = None
        self._answer: Any = None
        self._called_at = -1e9
        self._failures = 0

    @property
    def refused(self) -> str:
        """Why the storage refuses the samplers for good; empty where it does not."""
        return str(self.state["fault"]) if self.state.get("fault") and self.state["fault_is_final"] else ""

    @property
    def images_per_second(self) -> float:
        """Samples a second that are being made; 0 while the pool rests."""
        return float(self.state["images_per_second"]) if self.state.get("making") else 0.0

    def beat(self) -> list[str]:
        """Keeps the pool alive, when it is time to; never waits. Returns notes for the user."""
        notes: list[str] = []
        now = time.monotonic()
        try:
            if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
                answer, self._answer = self._answer, None
                self.state = ray.get(answer, timeout=CALL_SECONDS)
                notes = self.state.pop("notes")
                self._failures = 0
            if self._answer is None and now - self._called_at >= JOIN_SECONDS:
                self._called_at = now
                if self._coordinator is None:
                    self._coordinator = self.connection.find_coordinator()
                self._answer = self._coordinator.join.remote(self._name, *self._samplers, self._goal)
            elif now - self._called_at >= CALL_SECONDS:
                self._answer = None
        except (RayError, ValueError) as error:  # Ray starts it again, or another driver has just ended it
            self._coordinator = self._answer = None
            self._failures += 1
            if self._failures % FAILURES == 0:
                reason = connect.describe_error(error)
                notes.append(f"the sampler pool does not answer ({self._failures} times): {reason}")
        return notes

    def leave(self) -> list[str]:
        """Leaves the pool at the end of the sweep; waits for the coordinator, but not for long. Returns the last notes
        for the user, unless the storage refuses, which is an error of its own."""
        notes: list[str] = []
        if self._coordinator is None:
            return notes
        with suppress(RayError):
            answers = [self._answer] if self._answer is not None else []
            for answer in [*answers, self._coordinator.join.remote(self._name, *self._samplers, ())]:
                self.state = ray.get(answer, timeout=CALL_SECONDS)
                notes += self.state.pop("notes")
        with suppress(RayError):
            ray.get(self._coordinator.leave.remote(self._name), timeout=CALL_SECONDS)
        return [] if self.refused else notes
