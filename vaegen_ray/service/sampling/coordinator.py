"""The coordinator of the sampler pool of one stream: leases, goals, the number of samplers, faults. No Ray here.

    client:    joins every few seconds and says which shards it wants, leaves at the end
    reader:    wants a shard -> the object that holds it, or a fault, or nothing yet
    sampler:   gets leases from ``tick``; ``complete`` and ``fail`` end them

``actors.CoordinatorActor`` runs it. Shard files belong to nobody and are the truth. Objects are a cache that ends with
the coordinator's process; readers then read files until Ray has started it again.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vaegen_ray.errors import StorageError, VaegenError
from vaegen_ray.service.cluster.connect import describe_error
from vaegen_ray.service.sampling.leases import LeaseTable
from vaegen_ray.service.sampling.stats import SamplingStats

SILENCE_SECONDS = 60.0
"""A client that did not join for so long has ended."""
FIRST_LEASE_SECONDS, LEASE_SECONDS, LEASE_FACTOR = 600.0, 60.0, 20.0
"""A sampler hangs that takes longer for its first shard; for a later one, longer than 60 s and 20 times the longest of
the last shards."""
FAULT_SECONDS = 5.0
"""After a fault nothing is made for so long."""
LEASES = 2
"""Shards that a sampler has at a time: it makes one while it writes the file of the other."""
MAX_LOSSES = 5
"""So many samplers lost, or shards refused by the storage, one after another are a fault."""


@dataclass
class Client:
    """A sweep that uses the pool."""

    low: int
    """Fewest samplers."""
    high: int
    """Most samplers."""
    joined_at: float
    notes_read: int = 0
    """Notes that it got."""


@dataclass
class SamplerState:
    """A sampler of the pool."""

    is_running: bool = False
    """Whether its process has started; before that it may wait for a device."""
    leases: int = 0
    is_experienced: bool = False
    """Whether it has completed a shard, so that the next one takes no start."""


class ShardCoordinator:
    """Decides which sampler makes which shard, and how many samplers there are.

    Args:
        shard_size: samples of a shard.
        clock: gives seconds that only rise.
        spawn: starts the sampler of this name; ``start`` or ``lose`` follows.
        kill: ends the sampler of this name.
        load: starts to read the file of this shard; returns a reference to its images, or to None where it is absent
            or damaged.
        max_objects: objects to keep.
        silence_seconds: a client that did not join for so long has ended.

    Attributes:
        is_abandoned: no client has joined for ``silence_seconds``.
    """

    def __init__(
        self,
        shard_size: int,
        *,
        clock: Callable[[], float],
        spawn: Callable[[str], None],
        kill: Callable[[str], None],
        load: Callable[[int], Any],
        max_objects: int,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._clock, self._spawn, self._kill, self._load = clock, spawn, kill, load
        self._shard_size = shard_size
        self._max_objects = max_objects
        self._silence_seconds = silence_seconds
        self._leases = LeaseTable(stored=set(), ahead=2)
        self._objects: OrderedDict[int, Any] = OrderedDict()
        self._samplers: dict[str, SamplerState] = {}
        self._spawned = self._losses = 0
        self._clients: dict[str, Client] = {}
        self._last_joined = clock()
        self._notes: list[str] = []
        self._fault: str | None = None
        self._fault_is_final = False
        self._fault_at = 0.0
        self._stats = SamplingStats()
        self.is_abandoned = False

    def restore(self, numbers: Iterable[int], status: dict[str, Any]) -> None:
        """Takes over what earlier pools left: the numbers of the shard files, and the status file."""
        self._leases.stored = set(numbers)
        self._stats = SamplingStats.from_status(status)

    # -- clients ----------------------------------------------------------------------------------------------------

    def join(self, client: str, low: int, high: int, goal: Sequence[int]) -> dict[str, Any]:
        """Adds a client, or keeps it alive.

        Args:
            client: its name, which no other client has.
            low, high: bounds of the number of samplers.
            goal: shards to make before anybody reads.

        Returns:
            ``state()`` and the ``notes`` that this client has not read. A client that comes after others reads no
            notes from before.
        """
        before = self._clients.get(client)
        first = before.notes_read if before else len(self._notes) * bool(self._clients)
        self._clients[client] = Client(low, high, self._clock(), len(self._notes))
        self._leases.goals[client] = goal
        self._leases.ahead = 2 * max(each.high for each in self._clients.values()) + 2
        return {**self.state(), "notes": self._notes[first:]}

    def leave(self, client: str) -> None:
        """Removes a client."""
        self._clients.pop(client, None)
        self._leases.goals.pop(client, None)

    @property
    def has_clients(self) -> bool:
        """Whether a client uses the pool."""
        return bool(self._clients)

    def state(self) -> dict[str, Any]:
        """The state of the pool, for people."""
        return {
            "samplers": len(self._samplers),
            "shards": len(self._leases.stored),
            "making": sorted(self._leases.leases),
            "readers": len(self._leases.readers),
            "depth": self._leases.compute_depth(),
            "shards_waited_for": self._leases.list_waited_for(),
            "fault": self._fault,
            "fault_is_final": self._fault_is_final,
            **self._stats.as_dict(),
        }

    # -- readers ----------------------------------------------------------------------------------------------------

    def want(self, reader: str, position: int, last: int, *, waited: float) -> None:
        """Notes what a reader needs.

        Args:
            reader: its name.
            position: the shard that it needs next.
            last: the last shard that it will need.
            waited: seconds that it has waited since its last call.
        """
        self._stats.waited_seconds += waited
        self._leases.want(reader, position, last, self._clock())

    def find(self, number: int) -> tuple[str, Any] | None:
        """("object", [reference to the images]) of a shard, ("fault", reason), ("refused", why the storage refuses for
        good), or None while it is not there."""
        if number in self._leases.stored and number not in self._objects and self._fault is None:
            self._keep(number, self._load(number))
        if number in self._objects:
            self._objects.move_to_end(number)
            self._stats.handed_out += 1
            return "object", [self._objects[number]]
        if self._fault is not None:
            return "refused" if self._fault_is_final else "fault", self._fault
        return None

    def drop(self, number: int) -> None:
        """Drops a shard of which a reader got neither the object nor the file; it is made again."""
        self._objects.pop(number, None)
        self._leases.discard(number)

    def forget(self, readers: Sequence[str], waited: float) -> None:
        """Removes a reader, which has several names; it waited ``waited`` seconds since its last call."""
        self._stats.waited_seconds += waited
        for reader in readers:
            self._leases.forget(reader)

    @property
    def progress(self) -> tuple[int, int]:
        """Numbers that rise while the pool works."""
        return self._stats.images_made, self._spawned

    # -- samplers ---------------------------------------------------------------------------------------------------

    def tick(self) -> list[tuple[str, int]]:
        """Ends what has timed out, changes the number of samplers, and returns new leases: sampler and shard."""
        now = self._clock()
        self._drop_silent_clients(now)
        if self._fault is not None and now - self._fault_at >= FAULT_SECONDS:
            self._fault = None
        for number, lease in list(self._leases.leases.items()):
            if now > lease.deadline:
                self._lose(lease.sampler, f"at shard {number}, which goes to another one", "it hung")
        self._scale(now)
        return self._lease_shards(now)

    def start(self, sampler: str) -> None:
        """Notes that the process of a sampler runs; it gets leases from now on."""
        if sampler in self._samplers:
            self._samplers[sampler].is_running = True

    def lose(self, sampler: str, error: BaseException) -> None:
        """Removes a sampler that did not start."""
        self._lose(sampler, "at its start", describe_error(error))

    def complete(self, sampler: str, number: int, images: Any, seconds: float, notes: Sequence[str] = ()) -> None:
        """Ends a lease with a shard.

        Args:
            sampler: the sampler.
            number: the shard, whose file is written.
            images: a reference to its images.
            seconds: how long it took; 0 when it was read from its file.
            notes: lines for the user.
        """
        self._losses = 0
        self._notes += notes
        self._keep(number, images)
        self._leases.complete(number)
        if seconds:
            self._stats.add(self._shard_size, seconds, self._clock())
        if state := self._samplers.get(sampler):
            state.is_experienced = True
            state.leases -= 1

    def fail(self, sampler: str, number: int, error: BaseException) -> None:
        """Ends a lease with an error. A sampler that raised a ``VaegenError`` lives, any other error is its loss. What
        the storage refuses for now is tried again."""
        if not isinstance(error, VaegenError):
            self._lose(sampler, f"at shard {number}, which goes to another one", describe_error(error))
            return
        self._leases.release(sampler, number)
        if state := self._samplers.get(sampler):
            state.leases -= 1
        self._losses += 1
        if isinstance(error, StorageError) and not error.final and self._losses < MAX_LOSSES:
            self._notes.append(f"shard {number} is to be made again: {error}")
        else:
            self.report_fault(error)

    def report_fault(self, error: VaegenError | str) -> None:
        """Stops making shards for ``FAULT_SECONDS``; readers that wait get the reason."""
        self._fault, self._fault_at, self._losses = str(error), self._clock(), 0
        self._fault_is_final = isinstance(error, StorageError) and error.final
        self._notes.append(self._fault)

    # -- internals --------------------------------------------------------------------------------------------------

    def _drop_silent_clients(self, now: float) -> None:
        for name, client in list(self._clients.items()):
            if now - client.joined_at > self._silence_seconds:
                self.leave(name)
        if self._clients:
            self._last_joined = now
        self.is_abandoned = now - self._last_joined > self._silence_seconds

    def _scale(self, now: float) -> None:
        clients = self._clients.values() or [Client(0, 1, now)]  # after a restart readers may come before clients
        low, high = max(client.low for client in clients), max(client.high for client in clients)
        size = len(self._samplers)
        if self._fault is None:
            size = self._leases.compute_pool_size(now, size, low, high)
        while len(self._samplers) < size:
            self._spawned += 1
            name = f"sampler-{self._spawned}"
            self._spawn(name)
            self._samplers[name] = SamplerState()
        idle = [name for name, state in self._samplers.items() if not state.leases]
        while len(self._samplers) > size and idle:
            self._end(idle.pop())

    def _lease_shards(self, now: float) -> list[tuple[str, int]]:
        """Gives due shards to the samplers with the fewest leases."""
        leases: list[tuple[str, int]] = []
        running = {name: state for name, state in self._samplers.items() if state.is_running}
        while running and self._fault is None:
            name = min(running, key=lambda each: running[each].leases)
            if running[name].leases >= LEASES or (number := self._leases.find_due(now)) is None:
                break
            running[name].leases += 1
            seconds = FIRST_LEASE_SECONDS
            if running[name].is_experienced:
                seconds = max(LEASE_SECONDS, LEASE_FACTOR * self._stats.compute_longest_seconds())
            self._leases.lease(number, name, now + seconds)
            leases.append((name, number))
        return leases

    def _lose(self, sampler: str, where: str, reason: str) -> None:
        """Removes a sampler that died, hangs or cannot compute any more; its shards are due again."""
        if sampler not in self._samplers:
            return
        self._losses += 1
        self._notes.append(f"a sampler was lost {where} ({reason})")
        self._end(sampler)
        if self._losses >= MAX_LOSSES:
            self.report_fault(f"{self._losses} samplers were lost one after another, the last one {where} ({reason})")

    def _end(self, sampler: str) -> None:
        del self._samplers[sampler]
        self._leases.release(sampler)
        self._kill(sampler)

    def _keep(self, number: int, images: Any) -> None:
        self._objects[number] = images
        self._objects.move_to_end(number)
        while len(self._objects) > self._max_objects:
            self._objects.popitem(last=False)
