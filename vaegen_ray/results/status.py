"""How far sweeps are, from their files alone: what is declared, what is committed, and the driver's heartbeat."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from vaegen_ray.errors import DataFormatError, StorageError, nearest
from vaegen_ray.results.declaration import declared_ids
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


HEARTBEAT_SECONDS = 5.0
"""Time between two writes of status.json."""
SILENT_SECONDS, PREPARING_SECONDS = 6 * HEARTBEAT_SECONDS, 24 * HEARTBEAT_SECONDS
"""A driver whose last heartbeat is older has stopped, or was killed. While it prepares it speaks less often."""
LARGEST = 1e11
"""Seconds since 1970 until the year 5138."""
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


def load_status(storage: Storage, name: str) -> SweepStatus:
    """The status of one sweep.

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
    facts, beat = read_facts(store, notes), read_beat(store, notes)
    whole = _read(lambda: whole_trials(storage, name, tuple(SCHEMAS)), notes)
    notes += whole.notes if whole else ()
    committed: dict[str, str] = {}
    for table in whole.tables.values() if whole else ():
        for trial, status in zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True):
            if committed.get(trial) != TrialStatus.COMPLETED:
                committed[trial] = status
    heard = number(beat, "time")
    alive = heard is not None and abs(time.time() - heard) < silence(beat)
    figures = storage.list(f"{name}/figures")
    return status_from(store, facts, committed, beat, alive=alive, figures=figures, notes=notes)


def status_from(
    store: SweepStore,
    facts: Mapping[str, Any] | None,
    committed: Mapping[str, str],
    beat: Mapping[str, Any],
    *,
    alive: bool,
    figures: Iterable[str],
    notes: Iterable[str],
) -> SweepStatus:
    """The status that follows from what was read.

    Args:
        store: of the sweep.
        facts: what ``sweep.json`` says (``read_facts``).
        committed: trial id -> its status.
        beat: the driver's last heartbeat (``read_beat``).
        alive: the heartbeat is young (``silence``).
        figures: files in ``figures/``.
        notes: one line a file that could not be read.
    """
    said = list(notes)
    ids = (
        None if facts is None else _read(lambda: declared_ids(facts, store.storage.where(_path(store, "sweep"))), said)
    )
    facts = facts or {}
    if ids is not None:
        mine, known = [committed[trial] for trial in dict.fromkeys(ids) if trial in committed], len(set(ids))
        declared = max(known, int(number(facts, "planned") or 0))
    else:
        mine, declared = list(committed.values()), None
    counts = {status: mine.count(status) for status in TrialStatus}
    doing = text(beat, "preparing")
    working = alive and not beat.get("ended") and declared != len(mine)
    running = working and not doing
    heard, seconds_left = number(beat, "time"), number(beat, "seconds_left") if running else None
    if working:
        state = SweepState.RUNNING if running else SweepState.PREPARING
    else:
        state = SweepState.FINISHED if declared is not None and declared == len(mine) else SweepState.STOPPED
    return SweepStatus(
        sweep=store.name,
        where=store.storage.where(store.name),
        state=state,
        doing=doing if working else None,
        declared=declared,
        done=counts[TrialStatus.COMPLETED],
        failed=counts[TrialStatus.FAILED],
        pruned=counts[TrialStatus.PRUNED],
        others=len(committed) - len(mine),
        bundles_running=int(number(beat, "bundles_running") or 0) if running else 0,
        vaes_running=int(number(beat, "vaes_running") or 0) if running else 0,
        vaes_per_minute=number(beat, "vaes_per_minute"),
        seconds_left=seconds_left,
        expected_end=heard + seconds_left if heard is not None and seconds_left is not None else None,
        heartbeat=heard,
        machine=text(part(facts, "machine"), "node"),
        code_version=text(facts, "code_version"),
        pools={digest: _pool(part(part(beat, "pools"), digest)) for digest in part(beat, "pools")},
        figures=tuple(figures),
        notes=tuple(dict.fromkeys(said)),
    )


def statuses(storage: Storage) -> list[SweepStatus]:
    """The status of every sweep, without those that were put aside."""
    return [load_status(storage, name) for name in sweep_names(storage) if is_sweep(storage, name)]


def read_facts(store: SweepStore, notes: list[str]) -> dict[str, Any] | None:
    """What ``sweep.json`` says, or None where there is none; of a damaged one a note."""
    return _json(store, "sweep", notes)


def read_beat(store: SweepStore, notes: list[str]) -> dict[str, Any]:
    """The last heartbeat, which may be empty; of a damaged one a note."""
    return _json(store, "status", notes) or {}


def silence(beat: Mapping[str, Any]) -> float:
    """Seconds after which a heartbeat is not followed by another one because nobody works any more."""
    return PREPARING_SECONDS if text(beat, "preparing") else SILENT_SECONDS


def part(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside of one of JSON; an empty one where there is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def number(value: Mapping[str, Any], name: str) -> float | None:
    """A number that can be one of ours: finite, and times are the largest."""
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return found if abs(found) < LARGEST else None


def text(value: Mapping[str, Any], name: str) -> str | None:
    """A text inside of an object of JSON."""
    found = value.get(name)
    return found if isinstance(found, str) else None


def _read(read: Any, notes: list[str]) -> Any:
    """What ``read`` gives, or None and a note where the file is not what we write."""
    try:
        return read()
    except (DataFormatError, StorageError) as error:
        notes.append(str(error))
        return None


def _path(store: SweepStore, name: str) -> str:
    return f"{store.name}/{name}.json"


def _json(store: SweepStore, name: str, notes: list[str]) -> dict[str, Any] | None:
    value = _read({"sweep": store.read_sweep_json, "status": store.read_status}[name], notes)
    if value is not None and not isinstance(value, dict):
        notes.append(f"{store.storage.where(_path(store, name))} must hold an object; got {type(value).__name__}")
        return None
    return value


def _pool(state: dict[str, Any]) -> dict[str, Any]:
    waited_for = state.get("shards_waited_for")
    numbers = {name: number(state, name) for name in POOL_NUMBERS}
    return {
        **numbers,
        "waited_for": len(waited_for) if isinstance(waited_for, list) else None,
        "fault": text(state, "fault"),
    }
