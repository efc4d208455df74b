"""The sampler pool of one stream: samplers under a directory, shards in storage, the object store as a cache.

    driver:     join every few seconds, leave at the end                                                 (pool.py)
    reader:     "shard j?" -> the object, or "later", or what is wrong                                   (reader.py)
    directory:  the lowest shard that is wanted and missing -> lease -> sampler: make it, write the file, return it

Files belong to nobody and are the truth. Objects belong to the directory, so they outlive the sampler that made them
and end with the directory; readers then read files until Ray has started it again. Samplers end with the directory. A
directory that no sweep speaks to ends itself.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from vaegen_ray.errors import StorageError, VaegenError
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import connect, resources
from vaegen_ray.service.sampling.leases import Client, LeaseTable
from vaegen_ray.service.sampling.sampler import Sampler, load_shard, shard_store
from vaegen_ray.service.sampling.stats import Counts
from vaegen_ray.spec.diffusion import StreamSpec

SILENCE_SECONDS = 60.0
"""A sweep that said nothing for so long has ended."""
FIRST_LEASE_SECONDS, LEASE_SECONDS, LEASE_FACTOR = 600.0, 60.0, 20.0
"""A sampler hangs that takes longer for its first shard; for another one, longer than 60 s and 20 times the usual."""
FAULT_SECONDS = 5.0
"""After a fault nothing is made for so long."""
CACHE_PART = 0.3
"""Part of the object store that shards of a stream may take."""
LEASES = 2
"""Shards that a sampler has at a time: it makes one while the file of the other is written."""
MOST_LOSSES = 5
"""So many samplers lost, or shards refused by the storage, one after another are a fault."""
STATUS_SECONDS = 2.0
"""Time between two writes of the pool's status file."""
MANAGER_SECONDS = 0.5
"""Longest rest of a directory."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What it takes to reach a pool from any process of the cluster."""

    storage: Storage
    stream: StreamSpec
    digest: str
    use_gpu: bool

    def directory(self) -> Any:
        """The directory's handle; it is started where there is none."""
        return (
            ray.remote(Directory)
            .options(
                name=connect.build_actor_name("samples", self.storage, self.digest),
                namespace=connect.NAMESPACE,
                get_if_exists=True,
                lifetime="detached",
                max_restarts=-1,
                num_cpus=0,
            )
            .remote(self)
        )


class Directory:
    """Knows where the shards of a stream are, and who makes the next one."""

    sampler_class: type[Sampler] = Sampler
    silence_seconds = SILENCE_SECONDS

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stream = connection.stream
        self._store = shard_store(connection.storage, connection.stream, connection.digest)
        self._ledger = LeaseTable(stored=set(), ahead=2)
        shard_bytes = self._stream.shard_size * self._stream.image_bytes
        store_bytes = ray.cluster_resources().get("object_store_memory", 0)
        self._most_objects = max(4, int(CACHE_PART * store_bytes / shard_bytes))
        self._objects: OrderedDict[int, Any] = OrderedDict()
        self._loading: set[int] = set()
        self._samplers: dict[str, Any] = {}
        self._busy: dict[str, int] = {}
        """Leases of each sampler that has begun to run."""
        self._experienced: set[str] = set()
        """Samplers that have made a shard, so that the next one needs no start."""
        self._started = self._losses = 0
        self._guests: dict[str, Client] = {}
        self._lonely_since = time.monotonic()
        self._notes: list[str] = []
        self._fault: str | None = None
        self._fault_is_final = False
        self._fault_at = self._status_at = 0.0
        self._is_writing_status = self._fault_is_final = False
        self._load_shard: Any = ray.remote(load_shard).options(num_returns=2, num_cpus=0)
        self._counts = Counts()
        self._tasks: set[asyncio.Task] = set()
        self._manager: asyncio.Task | None = None
        self._me = ray.get_runtime_context().current_actor
        try:
            self._look()
        except StorageError as error:  # samplers and readers will meet it themselves, and say so
            self._complain(str(error), final=error.final)

    def _look(self) -> None:
        """What earlier pools have left in the storage."""
        self._ledger.stored = set(self._store.numbers())
        with suppress(StorageError):  # it is for people alone
            self._counts = Counts.from_status(self._store.read_status() or {})
        facts = {"stream": self._stream.as_dict(), "diffusion_id": self._stream.diffusion.diffusion_id}
        self._store.write_facts(facts)

    # -- what others call -------------------------------------------------------------------------------------------

    async def join(self, sweep: str, low: int, high: int, goal: Sequence[int]) -> dict[str, Any]:
        """A sweep uses the pool, and goes on using it.

        Args:
            sweep: its name, which no other sweep has.
            low, high: bounds of the number of samplers.
            goal: shards to make before anybody asks for them.

        Returns:
            The state of the pool, with the ``notes`` that this sweep has not heard.
        """
        self._run()
        known = self._guests.get(sweep)
        told = known.notes_told if known else len(self._notes) * bool(self._guests)
        self._guests[sweep] = Client(low, high, time.monotonic(), len(self._notes))
        self._ledger.goals[sweep] = goal
        self._ledger.ahead = 2 * max(guest.high for guest in self._guests.values()) + 2
        self._wake.set()
        return {**self.state(), "notes": self._notes[told:]}

    async def leave(self, sweep: str) -> None:
        """A sweep has ended; with the last one the pool ends."""
        self._guests.pop(sweep, None)
        self._ledger.goals.pop(sweep, None)
        if not self._guests:
            await self._write_status()
            if not self._guests:  # nobody has come meanwhile
                self._end()

    async def shard(
        self, reader: str, number: int, position: int, last: int, seconds: float, *, waited: float, lost: bool
    ) -> tuple[str, Any]:
        """Asks for a shard.

        Args:
            reader: who asks.
            number: the shard.
            position: the shard that the reader needs first; it lies before ``number`` when that is read ahead.
            last: the last shard that the reader will need.
            seconds: how long to wait for it here.
            waited: seconds that the reader waited since it last asked.
            lost: the object that it got for this shard was lost.

        Returns:
            ("object", [reference to the images]), ("later", numbers that rise while the pool works), ("fault", what
            is wrong), or ("refused", why the storage refuses for good).
        """
        self._run()
        self._counts.waited_seconds += waited
        if lost:
            self._objects.pop(number, None)
        self._ledger.want(reader, position, last, time.monotonic())
        self._wake.set()
        end = time.monotonic() + seconds
        while True:
            if number in self._objects:
                self._objects.move_to_end(number)
                self._counts.handed_out += 1
                return "object", [self._objects[number]]
            if self._fault is not None:
                return "refused" if self._fault_is_final else "fault", self._fault
            if number in self._ledger.stored and number not in self._loading:
                self._loading.add(number)
                self._spawn(self._load(number))
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                return "later", (self._counts.images_made, self._started)

    async def forget(self, readers: list[str], waited: float) -> None:
        """A reader, under all its names, has ended; it waited ``waited`` seconds since it last asked."""
        self._counts.waited_seconds += waited
        for reader in readers:
            self._ledger.forget(reader)

    def state(self) -> dict[str, Any]:
        """Numbers for people."""
        return {
            "time": time.time(),
            "samplers": len(self._samplers),
            "shards": len(self._ledger.stored),
            "making": sorted(self._ledger.leases),
            "readers": len(self._ledger.readers),
            "depth": self._ledger.depth(),
            "shards_waited_for": self._ledger.waiting(),
            "fault": self._fault,
            "fault_is_final": self._fault_is_final,
            **self._counts.as_dict(),
        }

    async def pids(self) -> list[int]:
        """Process ids of the samplers, for those who watch or test them."""
        return list(await asyncio.gather(*(handle.pid.remote() for handle in self._samplers.values())))

    # -- what goes on inside ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Starts the manager; only inside of a call there is an event loop."""
        if self._manager is None:
            self._wake, self._news = asyncio.Event(), asyncio.Event()
            self._manager = asyncio.create_task(self._manage())

    def _spawn(self, work: Coroutine) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _announce(self) -> None:
        """Wakes all that wait for a shard, and the manager."""
        self._news.set()
        self._news = asyncio.Event()
        self._wake.set()

    async def _manage(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._tend(time.monotonic())
            except Exception as error:  # without a manager all readers would wait for ever
                self._complain(f"the sampler pool failed: {connect.describe_error(error)}")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), MANAGER_SECONDS)

    async def _tend(self, now: float) -> None:
        self._dismiss_guests(now)
        if self._fault is not None and now - self._fault_at >= FAULT_SECONDS:
            self._fault = None
        self._scale(now)
        self._hand_out(now)
        if now - self._status_at >= STATUS_SECONDS and not self._is_writing_status:
            self._spawn(self._write_status())

    def _dismiss_guests(self, now: float) -> None:
        for sweep in [name for name, guest in self._guests.items() if now - guest.heard > self.silence_seconds]:
            del self._guests[sweep]
            self._ledger.goals.pop(sweep, None)
        if self._guests:
            self._lonely_since = now
        elif now - self._lonely_since > self.silence_seconds:
            self._end()

    def _scale(self, now: float) -> None:
        guests = self._guests.values() or [Client(0, 1, now)]  # after a restart readers may come before sweeps
        low, high = (max(getattr(guest, end) for guest in guests) for end in ("low", "high"))
        wanted = len(self._samplers)
        if self._fault is None:
            wanted = self._ledger.samplers(now, wanted, low, high)
        while len(self._samplers) < wanted:
            self._started += 1
            name = f"sampler-{self._started}"
            self._samplers[name] = self._new_sampler()
            self._spawn(self._welcome(name, self._samplers[name]))
        idle = [name for name in self._samplers if not self._busy.get(name)]
        while len(self._samplers) > wanted and idle:
            self._dismiss(idle.pop())

    def _new_sampler(self) -> Any:
        device = "cuda" if self._connection.use_gpu else "cpu"
        options = resources.build_sampler_options(self._connection.use_gpu)
        options["max_concurrency"] = LEASES + 1  # one more, to be asked for its process
        made: Any = ray.remote(self.sampler_class).options(**options)
        return made.remote(self._connection.storage, self._stream, self._connection.digest, device)

    async def _welcome(self, name: str, sampler: Any) -> None:
        """A sampler gets leases when it runs; until then it may wait for a device."""
        try:
            await sampler.pid.remote()
        except RayError as error:
            self._lose(name, "at its start", error)
        else:
            if name in self._samplers:
                self._busy[name] = 0
        self._announce()

    def _dismiss(self, name: str) -> None:
        ray.kill(self._samplers.pop(name))
        self._busy.pop(name, None)
        self._experienced.discard(name)

    def _hand_out(self, now: float) -> None:
        """The next shard goes to the sampler with the fewest leases."""
        while self._busy and self._fault is None:
            name = min(self._busy, key=lambda each: self._busy[each])
            if self._busy[name] >= LEASES or (number := self._ledger.due(now)) is None:
                break
            self._busy[name] += 1
            self._ledger.lease(number, name, now)
            self._spawn(self._make(name, self._samplers[name], number))

    async def _make(self, name: str, sampler: Any, number: int) -> None:
        """One lease: from the word to the sampler to the shard, or to the loss of the sampler."""
        try:
            facts, images = sampler.make.options(num_returns=2).remote(number)
            told = await asyncio.wait_for(facts, self._lease_seconds(name))
        except Exception as error:
            self._ledger.give_up(number)
            cause = error.cause if isinstance(error, RayTaskError) else None
            if isinstance(cause, VaegenError):  # the sampler lives
                self._meet(number, cause)
            else:
                self._lose(name, f"at shard {number}, which goes to another one", error)
        else:
            self._losses = 0
            self._notes += told["notes"]
            self._keep(number, images)
            self._ledger.done(number)
            if told["seconds"]:  # otherwise it was read from its file
                self._counts.add(self._stream.shard_size, told["seconds"], time.monotonic())
            self._experienced.add(name)
        if name in self._busy:
            self._busy[name] -= 1
        self._announce()

    def _meet(self, number: int, error: VaegenError) -> None:
        """The storage refuses, or the weights are damaged. What a storage refuses for now is tried again."""
        self._losses += 1
        if isinstance(error, StorageError) and not error.final and self._losses < MOST_LOSSES:
            self._notes.append(f"shard {number} is to be made again: {error}")
        else:
            self._complain(str(error), final=isinstance(error, StorageError) and error.final)

    def _lose(self, name: str, where: str, error: BaseException) -> None:
        """A sampler died, hangs or cannot compute any more; each of its leases ends here."""
        if name not in self._samplers:
            return
        self._losses += 1
        reason = "it hung" if isinstance(error, TimeoutError) else connect.describe_error(error)
        self._notes.append(f"a sampler was lost {where} ({reason})")
        self._dismiss(name)
        if self._losses >= MOST_LOSSES:
            self._complain(f"{self._losses} samplers were lost one after another, the last one {where} ({reason})")

    async def _load(self, number: int) -> None:
        """Brings a shard from its file to the object store."""
        try:
            facts, images = self._load_shard.remote(self._store, number)
            there, notes = await asyncio.wait_for(facts, LEASE_SECONDS)
        except (RayError, TimeoutError):
            pass  # readers read the file themselves
        else:
            self._notes += notes
            if there:
                self._keep(number, images)
            else:
                self._ledger.lost(number)
        self._loading.discard(number)
        self._announce()

    def _keep(self, number: int, images: Any) -> None:
        self._objects[number] = images
        self._objects.move_to_end(number)
        while len(self._objects) > self._most_objects:
            self._objects.popitem(last=False)

    def _complain(self, reason: str, *, final: bool = False) -> None:
        self._fault, self._fault_is_final, self._fault_at, self._losses = reason, final, time.monotonic(), 0
        self._notes.append(reason)

    def _lease_seconds(self, name: str) -> float:
        if name not in self._experienced:
            return FIRST_LEASE_SECONDS
        return max(LEASE_SECONDS, LEASE_FACTOR * self._counts.longest_seconds())

    async def _write_status(self) -> None:
        self._status_at, self._is_writing_status = time.monotonic(), True
        with suppress(StorageError):  # it is for people alone
            await asyncio.to_thread(self._store.write_status, self.state())
        self._is_writing_status = False

    def _end(self) -> None:
        """The samplers end with their owner."""
        ray.kill(self._me, no_restart=True)
