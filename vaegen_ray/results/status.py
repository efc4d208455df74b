"""How far sweeps are, from their files alone: what is declared, what is committed, and the driver's heartbeat."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from vaegen_ray.errors import DataFormatError, StorageError, nearest
from vaegen_ray.results.declaration import Declaration
from vaegen_ray.results.heartbeat import Heartbeat, HeartbeatMonitor, read_number, read_text
from vaegen_ray.results.integrity import SCHEMAS, whole_trials
from vaegen_ray.results.schema import TrialStatus
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore, is_sweep, sweep_names


class SweepState(StrEnum):
    """The state of a sweep."""

    FINISHED = "finished"
    """Every declared trial is committed."""
    RUNNING = "running"
    """Some are not, and the driver runs."""
    PREPARING = "preparing"
    """The same, while the driver loads images or trains a diffusion model."""
    STOPPED = "stopped"
    """Some are not, and no driver runs."""


T = TypeVar("T")

POOL_NUMBERS = ("samplers", "shards", "readers", "images_per_second", "waited_seconds")


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """A sweep in numbers. Trials are those that it declares; without ``sweep.json``, all that are committed."""

    sweep: str
    where: str
    """Its folder."""
    state: SweepState
    doing: str | None
    """What the driver prepares, in its words."""
    declared: int | None
    """None where ``sweep.json`` does not say. Of a search: its whole budget."""
    done: int
    """Committed as completed."""
    failed: int
    """Committed as failed."""
    pruned: int
    """Committed as pruned by a search."""
    others: int
    """Committed trials of an earlier declaration."""
    bundles_running: int
    """In training now."""
    vaes_running: int
    """Their VAEs."""
    vaes_per_minute: float | None
    """Of the last run, those under way counted in part."""
    seconds_left: float | None
    """Expected from the heartbeat on; None unless it is running."""
    expected_end: float | None
    """Seconds since 1970, by the clock of the driver; None unless it is running."""
    heartbeat: float | None
    """Seconds since 1970, by the clock of the driver."""
    machine: str | None
    """Where the driver ran last."""
    code_version: str | None
    pools: dict[str, dict[str, Any]]
    """Digest of a stream of samples -> ``POOL_NUMBERS``, how many shards are ``waited_for``, and the ``fault``."""
    figures: tuple[str, ...]
    """Files in ``figures/``."""
    notes: tuple[str, ...]
    """One line a file that could not be read."""

    @property
    def left(self) -> int | None:
        """Declared trials that are not committed."""
        return None if self.declared is None else self.declared - self.done - self.failed - self.pruned

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return asdict(self) | {"left": self.left}


def load_status(storage: Storage, name: str, monitor: HeartbeatMonitor | None = None) -> SweepStatus:
    """The status of one sweep.

    Args:
        monitor: of the heartbeats that were seen before.

    Raises:
        SpecError: it cannot be the name of a sweep.
        StorageError: there is no such sweep, or the storage cannot be read.
    """
    store = SweepStore(storage, name)
    if not is_sweep(storage, name):
        there = [each for each in sweep_names(storage) if is_sweep(storage, each)]
        near = nearest(name, there)
        raise StorageError(f"no sweep {name!r} in {storage.where()}{near}; sweeps there: {', '.join(there) or 'none'}")
    notes: list[str] = []
    declaration, beat = read_declaration(store, notes), read_heartbeat(store, notes)
    whole = _read(lambda: whole_trials(storage, name, tuple(SCHEMAS)), notes)
    notes += whole.notes if whole else ()
    committed: dict[str, str] = {}
    for table in whole.tables.values() if whole else ():
        for trial, status in zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True):
            if committed.get(trial) != TrialStatus.COMPLETED:
                committed[trial] = status
    alive = (monitor or HeartbeatMonitor()).is_alive(beat)
    figures = storage.list(f"{name}/figures")
    return status_from(store, declaration, committed, beat, alive=alive, figures=figures, notes=notes)


def status_from(
    store: SweepStore,
    declaration: Declaration | None,
    committed: Mapping[str, str],
    beat: Heartbeat,
    *,
    alive: bool,
    figures: Iterable[str],
    notes: Iterable[str],
) -> SweepStatus:
    """The status that follows from what was read.

    Args:
        store: of the sweep.
        declaration: of the sweep (``read_declaration``).
        committed: trial id -> its status.
        beat: the driver's last heartbeat (``read_heartbeat``).
        alive: the driver is (``HeartbeatMonitor``).
        figures: files in ``figures/``.
        notes: one line a file that could not be read.
    """
    notes = [*notes, *([declaration.fault] if declaration and declaration.fault else [])]
    if declaration and not declaration.fault:
        ids = dict.fromkeys(declaration.trial_ids)
        mine = [committed[trial] for trial in ids if trial in committed]
        declared = max(len(ids), declaration.planned)
    else:
        mine, declared = list(committed.values()), None
    facts = declaration or Declaration()
    counts = {status: mine.count(status) for status in TrialStatus}
    working = alive and not beat.ended and declared != len(mine)
    running = working and not beat.preparing
    heard, seconds_left = beat.time, beat.seconds_left if running else None
    if working:
        state = SweepState.RUNNING if running else SweepState.PREPARING
    else:
        state = SweepState.FINISHED if declared is not None and declared == len(mine) else SweepState.STOPPED
    return SweepStatus(
        sweep=store.name,
        where=store.storage.where(store.name),
        state=state,
        doing=beat.preparing if working else None,
        declared=declared,
        done=counts[TrialStatus.COMPLETED],
        failed=counts[TrialStatus.FAILED],
        pruned=counts[TrialStatus.PRUNED],
        others=len(committed) - len(mine),
        bundles_running=int(beat.bundles_running or 0) if running else 0,
        vaes_running=int(beat.vaes_running or 0) if running else 0,
        vaes_per_minute=beat.vaes_per_minute,
        seconds_left=seconds_left,
        expected_end=heard + seconds_left if heard is not None and seconds_left is not None else None,
        heartbeat=heard,
        machine=read_text(facts.machine, "node"),
        code_version=facts.code_version,
        pools={digest: _pool(state) for digest, state in beat.pools.items()},
        figures=tuple(figures),
        notes=tuple(dict.fromkeys(notes)),
    )


def read_declaration(store: SweepStore, notes: list[str]) -> Declaration | None:
    """The declaration of a sweep, or None where there is none; a damaged one becomes a note."""
    return _read(store.read_declaration, notes)


def read_heartbeat(store: SweepStore, notes: list[str]) -> Heartbeat:
    """The last heartbeat, which may be empty; a damaged one becomes a note."""
    value = _read(store.read_status, notes)
    if value is not None and not isinstance(value, dict):
        where = store.storage.where(f"{store.name}/status.json")
        notes.append(f"{where} must hold an object; got {type(value).__name__}")
    return Heartbeat.decode(value)


def _read(read: Callable[[], T], notes: list[str]) -> T | None:
    """What ``read`` returns, or None and a note where the file is damaged."""
    try:
        return read()
    except (DataFormatError, StorageError) as error:
        notes.append(str(error))
        return None


def _pool(state: dict[str, Any]) -> dict[str, Any]:
    waited_for = state.get("shards_waited_for")
    numbers = {name: read_number(state, name) for name in POOL_NUMBERS}
    return {
        **numbers,
        "waited_for": len(waited_for) if isinstance(waited_for, list) else None,
        "fault": read_text(state, "fault"),
    }


def list_sweeps(storage: Storage) -> list[str]:
    """The names of all sweeps, without archived ones."""
    return [name for name in sweep_names(storage) if is_sweep(storage, name)]
