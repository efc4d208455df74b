"""The lease table of a sampler pool: which shards are stored, leased and wanted, and how many samplers they need.

    readers want shards  ->  windows of ``ahead`` shards from where each stands  ->  the lowest missing one is leased

So the pool stays a few shards ahead of its readers and then rests. All times are seconds of one clock that the caller
reads. No Ray here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

READER_SECONDS = 120.0
"""A reader that asked for nothing for so long has ended."""
GROW_SECONDS = 1.0
"""One more sampler starts when a reader has waited for so long, and when the last change was so long ago."""
SHRINK_SECONDS = 10.0
"""One sampler ends when no reader has waited for so long, down to the lower bound."""
REST_SECONDS = 60.0
"""All samplers end when there was nothing to make for so long."""


@dataclass
class Reader:
    """The position of a reader in the stream."""

    next: int
    """The shard that it needs next."""
    last: int
    """The last shard that it will read."""
    asked_at: float
    waits_since: float | None = None
    """Since when it waits for ``next``; None when it does not wait."""


@dataclass(frozen=True)
class Lease:
    """A shard that a sampler makes."""

    sampler: str
    deadline: float
    """When the sampler counts as hung."""


@dataclass
class LeaseTable:
    """Shards by number."""

    stored: set[int]
    """Shards whose files exist."""
    ahead: int
    """Shards to make beyond the one that a reader needs next."""
    leases: dict[int, Lease] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)
    goals: dict[str, Sequence[int]] = field(default_factory=dict)
    """Shards that each client wants before anybody reads, in this order."""
    last_waited: float = -1e9
    last_work: float = -1e9
    last_change: float = -1e9

    def want(self, reader: str, number: int, last: int, now: float) -> None:
        """Notes that a reader needs shard ``number`` now and will read on to ``last``."""
        before = self.readers.get(reader)
        since = before.waits_since if before and before.next == number else None
        waits_since = None if number in self.stored else (now if since is None else since)
        self.readers[reader] = Reader(number, max(number, last), now, waits_since)

    def forget(self, reader: str) -> None:
        """Removes a reader that has ended."""
        self.readers.pop(reader, None)

    def find_due(self, now: float) -> int | None:
        """The shard to make next, or None when there is nothing to make: first what a reader has waited for longest,
        then the lowest of what readers will need and of each goal's first missing shard."""
        for name in [name for name, reader in self.readers.items() if now - reader.asked_at > READER_SECONDS]:
            self.forget(name)
        done = self.stored | self.leases.keys()
        windows = [range(r.next, min(r.next + self.ahead, r.last) + 1) for r in self.readers.values()]
        missing = {number for window in windows for number in window} - done
        waiting = [
            (now if reader.waits_since is None else reader.waits_since, reader.next)
            for reader in self.readers.values()
            if reader.next in missing
        ]
        if waiting:
            due: int | None = min(waiting)[1]
        else:
            goals = [next((number for number in goal if number not in done), None) for goal in self.goals.values()]
            due = min([*missing, *(number for number in goals if number is not None)], default=None)
        if due is not None or self.leases:
            self.last_work = now
        return due

    def lease(self, number: int, sampler: str, deadline: float) -> None:
        """Gives a shard to a sampler until ``deadline``."""
        assert number not in self.leases, number
        self.leases[number] = Lease(sampler, deadline)

    def release(self, sampler: str, number: int | None = None) -> None:
        """Ends one or all leases of a sampler without a shard; the shards are due again."""
        for each, lease in list(self.leases.items()):
            if lease.sampler == sampler and number in (None, each):
                del self.leases[each]

    def complete(self, number: int) -> None:
        """Ends the lease of a shard that was written."""
        self.leases.pop(number, None)
        self.stored.add(number)
        for reader in self.readers.values():
            if reader.next == number:
                reader.waits_since = None

    def discard(self, number: int) -> None:
        """Notes that the file of a shard is missing or damaged."""
        self.stored.discard(number)

    def list_waited_for(self) -> list[int]:
        """Shards that readers wait for."""
        return sorted({reader.next for reader in self.readers.values() if reader.waits_since is not None})

    def compute_depth(self) -> int | None:
        """How many shards the reader with the fewest can read before it must wait; None without readers."""
        depths = []
        for reader in self.readers.values():
            missing = (n for n in range(reader.next, reader.last + 1) if n not in self.stored)
            depths.append(next(missing, reader.last + 1) - reader.next)
        return min(depths, default=None)

    def compute_pool_size(self, now: float, count: int, low: int, high: int) -> int:
        """How many samplers there should be.

        Args:
            now: the time.
            count: how many there are.
            low, high: bounds. While there is something to make there is at least one; after a long rest there is none.
        """
        has_more = self.find_due(now) is not None
        has_work = has_more or bool(self.leases)
        waits = [reader.waits_since for reader in self.readers.values() if reader.waits_since is not None]
        if waits:
            self.last_waited = now
        lowest = max(1, low) if has_work else low
        size = count
        if count > high:
            size = high
        elif has_work and count < lowest:
            size = lowest
        elif not has_work and now - self.last_work >= REST_SECONDS:
            size = 0
        elif has_more and waits and count < high and len(self.leases) >= count and self._is_settled(now):
            size = count + (now - min(waits) >= GROW_SECONDS)
        elif count > lowest and now - max(self.last_waited, self.last_change) >= SHRINK_SECONDS:
            size = count - 1
        if size != count:
            self.last_change = now
        return size

    def _is_settled(self, now: float) -> bool:
        return now - self.last_change >= GROW_SECONDS
