"""Leases: which drivers work on a sweep now, and which trials are theirs.

    <storage>/<sweep>/leases/<run>.json     who the driver is, and the trials that it trains
    <storage>/<sweep>/leases/<run>.beat     a number that it raises every ``BEAT_SECONDS``

A driver lives when its process does, where that can be seen from here (same machine, same process namespace); elsewhere
when its beat changes while it is watched, so that clocks do not matter. A driver that ends deletes its lease; that of
one that was killed is deleted by the next driver. A lease is no lock: two drivers that start at the same moment may
train the same trials, which costs time and nothing else, since both write the same files.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vaegen_ray.errors import StorageError
from vaegen_ray.results.parquet import SAFE_NAME
from vaegen_ray.results.storage import Storage

BEAT_SECONDS = 3.0
WATCH_SECONDS = 20.0
"""A driver elsewhere whose beat does not change for so long is taken for dead."""
DAMAGED = "damaged"
"""The kind of a lease that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What a driver says of itself."""

    run: str
    """Names the run."""
    kind: str
    """``sweep`` or ``search``."""
    node: str
    pid: int
    started: str
    """When the process started, in the words of its kernel; with ``pid`` it names one process for ever."""
    namespace: str
    """Names the machine since its last start, and the process namespace; empty where the system does not say."""
    trial_ids: tuple[str, ...] = ()
    """The trials that it trains."""

    @property
    def who(self) -> str:
        """The driver, for messages."""
        return f"run {self.run[:8]} on {self.node} (process {self.pid})"


class LeaseHolder:
    """Keeps the lease of this process until it is released; the beat comes from a thread.

    Args:
        storage: where the sweep is.
        sweep: its name.
        kind: ``sweep`` or ``search``.
    """

    def __init__(self, storage: Storage, sweep: str, kind: str) -> None:
        self._storage, self._folder = storage, f"{sweep}/leases"
        pid = os.getpid()
        self.lease = Lease(
            run=uuid.uuid4().hex,
            kind=kind,
            node=platform.node(),
            pid=pid,
            started=_started(pid) or "",
            namespace=_namespace(),
        )
        self._released = threading.Event()
        self._beats = 0
        self._write()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")
        self._thread.start()

    def hold(self, trial_ids: Iterable[str]) -> None:
        """From now on these trials are those of this driver.

        Raises:
            StorageError: the storage cannot be written.
        """
        self.lease = replace(self.lease, trial_ids=tuple(sorted(trial_ids)))
        self._write()

    def release(self) -> None:
        """Ends the lease."""
        self._released.set()
        self._thread.join()
        with suppress(StorageError):
            delete_lease(self._storage, self._folder, self.lease.run)

    def _write(self) -> None:
        self._storage.write(f"{self._folder}/{self.lease.run}.beat", str(self._beats).encode())
        self._storage.write_json(f"{self._folder}/{self.lease.run}.json", asdict(self.lease))

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            self._beats += 1
            with suppress(StorageError):  # the next beat comes soon
                self._storage.write(f"{self._folder}/{self.lease.run}.beat", str(self._beats).encode())


def live_leases(
    storage: Storage, sweep: str, *, say: Callable[[str], None] = lambda line: None, clean: bool = True
) -> list[Lease]:
    """The leases of the drivers that work on a sweep now. Watches those of other machines for up to ``WATCH_SECONDS``.

    Args:
        say: is told whom this waits for.
        clean: delete the leases of dead drivers.

    Raises:
        StorageError: the storage cannot be read, or the lease of a live driver is damaged.
    """
    folder = f"{sweep}/leases"
    runs = {name.partition(".")[0] for name in storage.list(folder) if SAFE_NAME.fullmatch(name)}
    found = {run: _read(storage, folder, run) for run in sorted(runs)}
    leases = [lease for lease in found.values() if lease is not None]
    alive = {lease.run: _is_alive(lease) for lease in leases}
    unknown = [lease for lease in leases if alive[lease.run] is None]
    beats = {lease.run: _read_beat(storage, folder, lease.run) for lease in unknown}
    if unknown:
        say(f"{unknown[0].who} may be at work on {sweep}; its heartbeat is watched for up to {WATCH_SECONDS:.0f} s")
    until = time.monotonic() + WATCH_SECONDS
    while unknown and time.monotonic() < until:
        time.sleep(0.25)
        for lease in unknown:
            if _read_beat(storage, folder, lease.run) != beats[lease.run]:
                alive[lease.run] = True
        unknown = [lease for lease in unknown if not alive[lease.run]]
    for run in found if clean else ():
        if not alive.get(run):  # a lease of a dead driver, or the beat that is left of one
            delete_lease(storage, folder, run)
    for lease in leases:
        if lease.kind == DAMAGED and alive[lease.run]:
            raise StorageError(
                f"{storage.where(f'{folder}/{lease.run}.json')} is damaged, and its driver runs; stop that driver first"
            )
    return [lease for lease in leases if alive[lease.run]]


def delete_lease(storage: Storage, folder: str, run: str) -> None:
    """Removes the two files of a lease."""
    for suffix in (".json", ".beat"):
        storage.delete(f"{folder}/{run}{suffix}")


def _read(storage: Storage, folder: str, run: str) -> Lease | None:
    """A lease; None where it is gone. Of a damaged one only the run is known, so its heartbeat decides."""
    data = storage.read_optional(f"{folder}/{run}.json")
    if data is None:
        return None
    try:
        value = json.loads(data)
        lease = Lease(**{**value, "trial_ids": tuple(value["trial_ids"])})
        if lease.run == run and isinstance(lease.pid, int):
            return lease
    except (LookupError, RecursionError, TypeError, ValueError):
        pass
    return Lease(run=run, kind=DAMAGED, node="an unknown machine", pid=0, started="", namespace="")


def _read_beat(storage: Storage, folder: str, run: str) -> bytes | None:
    return storage.read_optional(f"{folder}/{run}.beat")


def _is_alive(lease: Lease) -> bool | None:
    """Whether the process of a lease runs; None where that cannot be seen from here."""
    if not lease.namespace or lease.namespace != _namespace() or not lease.started:
        return None
    return _started(lease.pid) == lease.started


def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Ticks from the start of the machine to that of a process; None where there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
