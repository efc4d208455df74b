"""What a sampler pool knows: which shards are there, being made, wanted, and how many samplers that takes. No Ray here.

    readers want shards  ->  windows of ``ahead`` shards from where each stands  ->  the lowest missing one is leased

So the pool stays a few shards ahead of its readers and then rests. All times are seconds of one clock, given by the
caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

READER_SECONDS = 120.0
"""A reader that was not heard of for so long has ended."""
GROW_SECONDS = 1.0
"""A reader waits this long before one more sampler starts, and the next one no sooner than this later."""
SHRINK_SECONDS = 10.0
"""When nobody waited for so long, one sampler goes, down to the least."""
REST_SECONDS = 60.0
"""When there was nothing to make for so long, all go."""


@dataclass
class Reader:
    """Where a reader stands."""

    next: int
    """The shard that it wants, or would want next."""
    last: int
    """The last shard that it will read."""
    heard: float
    waits_since: float | None = None
    """Since when it waits for ``next``; None when it does not."""


@dataclass
class Client:
    """A sweep that uses the pool."""

    low: int
    high: int
    heard: float
    notes_told: int = 0


@dataclass
class LeaseTable:
    """Shards by number. ``stored`` are the files that are there."""

    stored: set[int]
    ahead: int
    """Shards to be made beyond the one that a reader wants."""
    leases: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Shards being made: by whom, and since when."""
    readers: dict[str, Reader] = field(default_factory=dict)
    goals: dict[str, Sequence[int]] = field(default_factory=dict)
    """Shards that each sweep wants made before anybody reads."""
    last_waited: float = -1e9
    last_work: float = -1e9
    last_change: float = -1e9

    def want(self, reader: str, number: int, last: int, now: float) -> None:
        """A reader wants shard ``number`` now, and will read on to ``last``."""
        known = self.readers.get(reader)
        since = known.waits_since if known and known.next == number else None
        there = number in self.stored
        waits_since = None if there else (now if since is None else since)
        self.readers[reader] = Reader(next=number, last=max(number, last), heard=now, waits_since=waits_since)

    def forget(self, reader: str) -> None:
        """A reader has ended."""
        self.readers.pop(reader, None)

    def due(self, now: float) -> int | None:
        """The shard to be made next, or None when there is nothing to do."""
        for name in [name for name, reader in self.readers.items() if now - reader.heard > READER_SECONDS]:
            self.forget(name)
        missing = {
            number
            for reader in self.readers.values()
            for number in range(reader.next, min(reader.next + self.ahead, reader.last) + 1)
        }
        missing -= self.stored
        missing -= self.leases.keys()
        waited_for = [
            (now if reader.waits_since is None else reader.waits_since, reader.next)
            for reader in self.readers.values()
            if reader.next in missing
        ]
        if waited_for:
            found: int | None = min(waited_for)[1]  # who has waited for longest
        else:
            ahead = [number for goal in self.goals.values() if (number := self._missing_of(goal)) is not None]
            found = min([*missing, *ahead], default=None)
        if found is not None or self.leases:
            self.last_work = now
        return found

    def _missing_of(self, goal: Sequence[int]) -> int | None:
        return next((n for n in goal if n not in self.stored and n not in self.leases), None)

    def lease(self, number: int, sampler: str, now: float) -> None:
        """A sampler begins with a shard."""
        assert number not in self.leases, number
        self.leases[number] = (sampler, now)

    def give_up(self, number: int) -> None:
        """A lease ends without a shard; it is to be made again."""
        self.leases.pop(number, None)

    def done(self, number: int) -> None:
        """A shard was written."""
        self.leases.pop(number, None)
        self.stored.add(number)
        for reader in self.readers.values():
            if reader.next == number:
                reader.waits_since = None

    def lost(self, number: int) -> None:
        """The file of a shard is not there any more, or damaged."""
        self.stored.discard(number)

    def waiting(self) -> list[int]:
        """Shards that readers wait for."""
        return sorted({reader.next for reader in self.readers.values() if reader.waits_since is not None})

    def depth(self) -> int | None:
        """Shards that lie ready for the reader that has the fewest, before it must wait; None without readers."""
        ready = []
        for reader in self.readers.values():
            missing = (n for n in range(reader.next, reader.last + 1) if n not in self.stored)
            ready.append(next(missing, reader.last + 1) - reader.next)
        return min(ready, default=None)

    def samplers(self, now: float, count: int, low: int, high: int) -> int:
        """How many samplers there should be.

        Args:
            count: how many there are.
            low, high: bounds. While there is something to make there is at least one; after a long rest there is none.
        """
        more = self.due(now) is not None
        work = more or bool(self.leases)
        waits = [reader.waits_since for reader in self.readers.values() if reader.waits_since is not None]
        if waits:
            self.last_waited = now
        least = max(1, low) if work else low
        wanted = count
        if count > high:
            wanted = high
        elif work and count < least:
            wanted = least
        elif not work and now - self.last_work >= REST_SECONDS:
            wanted = 0
        elif more and waits and count < high and len(self.leases) >= count and self._settled(now):
            wanted = count + (now - min(waits) >= GROW_SECONDS)
        elif count > least and now - max(self.last_waited, self.last_change) >= SHRINK_SECONDS:
            wanted = count - 1
        if wanted != count:
            self.last_change = now
        return wanted

    def _settled(self, now: float) -> bool:
        return now - self.last_change >= GROW_SECONDS
