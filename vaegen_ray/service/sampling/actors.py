"""The Ray actors and tasks of sampling: thin shells around classes that know no Ray.

    CoordinatorActor    one a stream, detached and named: ``ShardCoordinator``, and the actors of its samplers
    DiffusionActor      one a diffusion model that is trained: ``DiffusionWorker``

Objects belong to the coordinator, so they outlive the sampler that made them, and samplers end with it. A coordinator
that no client joins ends itself.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from vaegen_ray.errors import StorageError
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import connect, resources
from vaegen_ray.service.sampling.coordinator import LEASES, SILENCE_SECONDS, ShardCoordinator
from vaegen_ray.service.sampling.sampler import Sampler, build_shard_store, read_whole_shard
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec

CACHE_FRACTION = 0.3
"""Fraction of the object store that the shards of a stream may take."""
STATUS_SECONDS = 2.0
"""Time between two writes of the pool's status file."""
TICK_SECONDS = 0.5
"""Longest time between two ticks of a coordinator."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What any process of the cluster needs to reach the pool of a stream."""

    storage: Storage
    stream: StreamSpec
    digest: str
    """Names the samples."""
    use_gpu: bool

    def find_coordinator(self) -> Any:
        """The handle of the coordinator's actor, which is started where there is none."""
        options: dict[str, Any] = {
            "name": connect.build_actor_name("samples", self.storage, self.digest),
            "namespace": connect.NAMESPACE,
            "get_if_exists": True,
            "lifetime": "detached",
            "max_restarts": -1,
            "num_cpus": 0,
        }
        return ray.remote(CoordinatorActor).options(**options).remote(self)


class CoordinatorActor:
    """``ShardCoordinator`` as an actor.

    Args:
        connection: the stream and its storage.
    """

    sampler_class: type[Sampler] = Sampler
    silence_seconds = SILENCE_SECONDS

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        stream = connection.stream
        self._store = build_shard_store(connection.storage, stream, connection.digest)
        load_shard: Any = ray.remote(num_cpus=0)(read_whole_shard)
        object_store_bytes = ray.cluster_resources().get("object_store_memory", 0)
        self._samplers: dict[str, Any] = {}
        self._tasks: set[asyncio.Task] = set()
        self._manager: asyncio.Task | None = None
        self._status_at = 0.0
        self._is_writing_status = False
        self._coordinator = ShardCoordinator(
            stream.shard_size,
            clock=time.monotonic,
            spawn=self._spawn_sampler,
            kill=lambda name: ray.kill(self._samplers.pop(name)),
            load=lambda number: load_shard.remote(self._store, number),
            max_objects=max(4, int(CACHE_FRACTION * object_store_bytes / (stream.shard_size * stream.image_bytes))),
            silence_seconds=self.silence_seconds,
        )
        try:
            self._coordinator.restore(self._store.numbers(), self._read_status())
            self._store.write_facts({"stream": stream.as_dict(), "diffusion_id": stream.diffusion.diffusion_id})
        except StorageError as error:  # samplers and readers meet it themselves
            self._coordinator.report_fault(error)

    async def join(self, client: str, low: int, high: int, goal: Sequence[int]) -> dict[str, Any]:
        """See ``ShardCoordinator.join``; the state has the ``time`` too."""
        self._start_manager()
        state = self._coordinator.join(client, low, high, goal)
        self._wake.set()
        return {"time": time.time(), **state}

    async def leave(self, client: str) -> None:
        """Removes a client; the actor ends with the last one."""
        self._coordinator.leave(client)
        if not self._coordinator.has_clients:
            await self._write_status()
            if not self._coordinator.has_clients:  # nobody has joined meanwhile
                self._end()

    async def shard(
        self, reader: str, number: int, position: int, last: int, seconds: float, *, waited: float, lost: bool
    ) -> tuple[str, Any]:
        """Asks for a shard.

        Args:
            reader: who asks.
            number: the shard.
            position, last, waited: as for ``ShardCoordinator.want``; ``number`` may be after ``position``.
            seconds: how long to wait for the shard here.
            lost: the reader got neither the object nor the file of this shard.

        Returns:
            As ``ShardCoordinator.find``, or ("later", numbers that rise while the pool works).
        """
        self._start_manager()
        if lost:
            self._coordinator.drop(number)
        self._coordinator.want(reader, position, last, waited=waited)
        self._wake.set()
        end = time.monotonic() + seconds
        while True:
            if (answer := self._coordinator.find(number)) is not None:
                return answer
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                return "later", self._coordinator.progress

    async def forget(self, readers: list[str], waited: float) -> None:
        """See ``ShardCoordinator.forget``."""
        self._coordinator.forget(readers, waited)

    async def pids(self) -> list[int]:
        """Process ids of the samplers, for tests."""
        return list(await asyncio.gather(*(sampler.pid.remote() for sampler in self._samplers.values())))

    def _start_manager(self) -> None:
        """Starts the manager; only within a call there is an event loop."""
        if self._manager is None:
            self._wake, self._news = asyncio.Event(), asyncio.Event()
            self._manager = asyncio.create_task(self._manage())

    async def _manage(self) -> None:
        while True:
            self._wake.clear()
            try:
                for name, number in self._coordinator.tick():
                    self._run(self._make(name, number))
            except Exception as error:  # without a manager all readers would wait for ever
                self._coordinator.report_fault(f"the sampler pool failed: {connect.describe_error(error)}")
            if self._coordinator.is_abandoned:
                self._end()
            if time.monotonic() - self._status_at >= STATUS_SECONDS and not self._is_writing_status:
                self._run(self._write_status())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)

    def _spawn_sampler(self, name: str) -> None:
        use_gpu = self._connection.use_gpu
        options = resources.build_sampler_options(use_gpu)
        options["max_concurrency"] = LEASES + 1  # one more, to be asked for its process
        actor: Any = ray.remote(self.sampler_class).options(**options)
        storage, stream, digest = self._connection.storage, self._connection.stream, self._connection.digest
        self._samplers[name] = actor.remote(storage, stream, digest, "cuda" if use_gpu else "cpu")
        self._run(self._await_start(name, self._samplers[name]))

    async def _await_start(self, name: str, sampler: Any) -> None:
        try:
            await sampler.pid.remote()
        except RayError as error:
            self._coordinator.lose(name, error)
        else:
            self._coordinator.start(name)
        self._announce()

    async def _make(self, name: str, number: int) -> None:
        """One lease, from the call of the sampler to its result."""
        try:
            facts, images = self._samplers[name].make.options(num_returns=2).remote(number)
            result = await facts
        except Exception as error:
            self._coordinator.fail(name, number, error.cause if isinstance(error, RayTaskError) else error)
        else:
            self._coordinator.complete(name, number, images, result["seconds"], result["notes"])
        self._announce()

    def _read_status(self) -> dict[str, Any]:
        try:
            return self._store.read_status() or {}
        except StorageError:  # it is for people alone
            return {}

    async def _write_status(self) -> None:
        self._status_at, self._is_writing_status = time.monotonic(), True
        with suppress(StorageError):  # it is for people alone
            state = {"time": time.time(), **self._coordinator.state()}
            await asyncio.to_thread(self._store.write_status, state)
        self._is_writing_status = False

    def _run(self, work: Coroutine) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _announce(self) -> None:
        """Wakes the manager and all calls that wait for a shard."""
        self._news.set()
        self._news = asyncio.Event()
        self._wake.set()

    def _end(self) -> None:
        """Ends this actor, and the samplers with their owner."""
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


class DiffusionActor:
    """``DiffusionWorker`` as an actor. The worker is created at the first call: the errors of a call keep their kind,
    and those of a constructor do not. ``state`` answers while ``advance`` trains."""

    def __init__(self, storage: Storage, spec: DiffusionSpec, *args: Any, **options: Any) -> None:
        self._storage, self._spec = storage, spec
        self._arguments = args, options
        self._worker: Any = None
        self._lock = Lock()

    def find_worker(self) -> Any:
        """The worker, which is created when it is needed first."""
        with self._lock:
            if self._worker is None:
                from vaegen_ray.service.sampling.diffusion_worker import DiffusionWorker

                args, options = self._arguments
                self._worker = DiffusionWorker(self._storage, self._spec, *args, **options)
            return self._worker

    def advance(self, seconds: float) -> dict[str, Any]:
        """See ``DiffusionWorker.advance``."""
        state: dict[str, Any] = self.find_worker().advance(seconds)
        return state

    @ray.method(concurrency_group="state")
    def state(self) -> dict[str, Any]:
        """See ``DiffusionWorker.state``."""
        state: dict[str, Any] = self.find_worker().state()
        return state


def start_diffusion_actor(
    storage: Storage, spec: DiffusionSpec, images: Any, reserved: dict[str, Any], **options: Any
) -> Any:
    """The handle of the actor that trains a model, which is started where there is none.

    Args:
        storage: where the model goes.
        spec: the model.
        images: a reference to its training set.
        reserved: what it reserves of a node, as options of an actor.
        options: further arguments of ``DiffusionWorker``.
    """
    named: dict[str, Any] = {
        "name": connect.build_actor_name("diffusion", storage, spec.diffusion_id),
        "namespace": connect.NAMESPACE,
        "get_if_exists": True,
    }
    actor: Any = ray.remote(concurrency_groups={"state": 1})(DiffusionActor)  # type: ignore[call-overload]
    return actor.options(**named, **reserved).remote(storage, spec, images, **options)
