"""How far sweeps are, from their files alone: what is declared, what is committed, and the driver's heartbeat."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.results.parquet import read_folder
from vaegen_ray.results.schema import FAILED, trials_schema
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore, sweep_names
from vaegen_ray.service.pictures import declared
from vaegen_ray.service.progress import HEARTBEAT_SECONDS

FINISHED, RUNNING, PREPARING, STOPPED = "finished", "running", "preparing", "stopped"
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
    state: str
    """``finished``: every declared trial is committed. ``running``: some are not, and the driver lives; ``preparing``
    where it loads images or trains a diffusion model first. ``stopped``: some are not, and nobody works on them."""
    doing: str | None
    """What the driver prepares, in its words."""
    declared: int | None
    """None where ``sweep.json`` does not say. A search has a budget, and names its trials as they begin."""
    done: int
    """Committed as completed, or as stopped by a search."""
    failed: int
    """Committed as failed."""
    others: int
    """Committed trials of an earlier declaration."""
    bundles_running: int
    """In training now."""
    vaes_per_minute: float | None
    """Of the last run, those under way counted in part."""
    expected_end: float | None
    """Seconds since 1970; None unless it is running."""
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
        return None if self.declared is None else self.declared - self.done - self.failed

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return asdict(self) | {"left": self.left}


def status_of(storage: Storage, name: str) -> SweepStatus:
    """The status of one sweep.

    Raises:
        SpecError: it cannot be the name of a sweep.
        StorageError: there is no such sweep, or the storage cannot be read.
    """
    store = SweepStore(storage, name)
    if not _is_sweep(storage, name):
        there = ", ".join(each for each in sweep_names(storage) if _is_sweep(storage, each)) or "none"
        raise StorageError(f"no sweep {name!r} in {storage.where()}; sweeps there: {there}")
    notes: list[str] = []
    ids, facts, beat = (
        _read(lambda: declared(store), notes),
        _json(store, "sweep", notes),
        _json(store, "status", notes),
    )
    tables, corrupt = _read(lambda: read_folder(storage, f"{name}/trials", trials_schema()), notes) or ({}, {})
    notes += [f"{storage.where(f'{name}/trials/{file}')} was skipped: {why}" for file, why in corrupt.items()]
    committed: dict[str, bool] = {}
    for table in tables.values():
        for trial, status in zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True):
            committed[trial] = committed.get(trial, False) or status != FAILED
    mine = [ok for trial, ok in committed.items() if ids is None or trial in ids]
    heartbeat, seconds_left = _number(beat, "time"), _number(beat, "seconds_left")
    planned = None if ids is None else max(len(ids), int(_number(facts, "planned") or 0))
    left = None if planned is None else planned - len(mine)
    doing = _text(beat, "preparing")
    silence = PREPARING_SECONDS if doing else SILENT_SECONDS
    alive = heartbeat is not None and abs(time.time() - heartbeat) < silence and not beat.get("ended")
    working = alive and left != 0
    running = working and not doing
    return SweepStatus(
        sweep=name,
        where=storage.where(name),
        state=RUNNING if running else PREPARING if working else FINISHED if left == 0 else STOPPED,
        doing=doing if working else None,
        declared=planned,
        done=sum(mine),
        failed=len(mine) - sum(mine),
        others=len(committed) - len(mine),
        bundles_running=int(_number(beat, "bundles_running") or 0) if running else 0,
        vaes_per_minute=_number(beat, "vaes_per_minute"),
        expected_end=heartbeat + seconds_left if running and heartbeat and seconds_left is not None else None,
        heartbeat=heartbeat,
        machine=_text(_part(facts, "machine"), "node"),
        code_version=_text(facts, "code_version"),
        pools={digest: _pool(_part(_part(beat, "pools"), digest)) for digest in _part(beat, "pools")},
        figures=tuple(storage.list(f"{name}/figures")),
        notes=tuple(dict.fromkeys(notes)),
    )


def statuses(storage: Storage) -> list[SweepStatus]:
    """The status of every sweep, without those that were put aside."""
    return [status_of(storage, name) for name in sweep_names(storage) if _is_sweep(storage, name)]


def _is_sweep(storage: Storage, name: str) -> bool:
    return "sweep.json" in storage.list(name) or "trials" in storage.folders(name)


def _read(read: Any, notes: list[str]) -> Any:
    """What ``read`` gives, or None and a note where the file is not what we write."""
    try:
        return read()
    except (DataFormatError, StorageError) as error:
        notes.append(str(error))
        return None


def _json(store: SweepStore, name: str, notes: list[str]) -> dict[str, Any]:
    value = _read({"sweep": store.read_sweep_json, "status": store.read_status}[name], notes)
    return value if isinstance(value, dict) else {}


def _part(value: dict[str, Any], name: str) -> dict[str, Any]:
    part = value.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: dict[str, Any], name: str) -> float | None:
    """A number that can be one of ours: times are the largest."""
    number = value.get(name)
    return number if isinstance(number, (int, float)) and abs(number) < LARGEST else None


def _text(value: dict[str, Any], name: str) -> str | None:
    text = value.get(name)
    return text if isinstance(text, str) else None


def _pool(state: dict[str, Any]) -> dict[str, Any]:
    waited_for = state.get("shards_waited_for")
    numbers = {name: _number(state, name) for name in POOL_NUMBERS}
    return {
        **numbers,
        "waited_for": len(waited_for) if isinstance(waited_for, list) else None,
        "fault": _text(state, "fault"),
    }
