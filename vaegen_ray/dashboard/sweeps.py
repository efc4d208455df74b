"""The sweeps of a storage as the page needs them: what is declared, what is there, and whether somebody works on it.

Everything is read from the storage alone: ``sweep.json`` (what is declared), ``status.json`` (the driver's heartbeat),
``given-up/`` (bundles that were given up, and why) and the Parquet files.
"""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vaegen_ray.dashboard.columns import varying, with_derived
from vaegen_ray.errors import StorageError
from vaegen_ray.models.layout import params_total
from vaegen_ray.results.live import LiveSweep, Look
from vaegen_ray.results.schema import FAILED
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import RESERVED, SweepStore, safe_name
from vaegen_ray.trial import TrialSpec

SILENT_SECONDS, PREPARING_SECONDS = 30.0, 120.0
"""A driver that has written no heartbeat for so long has stopped. It writes one every 5 s; while it prepares, whenever
it has something to say, once a minute at least."""
RUNNING, PREPARING, FINISHED, STOPPED = "running", "preparing", "finished", "stopped"
UNDER_WAY = "under way"
"""The status of a trial that has evaluations and no result yet."""


@dataclass(frozen=True)
class Declared:
    """What ``sweep.json`` says."""

    trials: pd.DataFrame | None = None
    """A row a declared trial: ``trial_id`` and its specification, nested parts as JSON; None where it does not say."""
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The specifications as they are written, by trial."""
    figures: tuple[str, ...] = ()
    planned: int = 0
    """Trials of a search, which names them as they begin; 0 for sweeps, which name them all."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Preset, versions, machine: what else is worth showing."""


@dataclass(frozen=True)
class Summary:
    """A sweep in numbers."""

    name: str
    state: str
    done: int
    """Committed and not failed; a trial that a search stopped is done."""
    failed: int
    declared: int | None
    """None where there is no ``sweep.json``."""
    running: int = 0
    """VAEs in training now."""
    bundles_running: int = 0
    vaes_per_hour: float | None = None
    """Of the last run, those under way counted in part."""
    seconds_left: float | None = None
    heard: float | None = None
    """Seconds since 1970 of the last heartbeat."""
    doing: str = ""
    """What the driver prepares, in its words."""
    pools: tuple[str, ...] = ()
    """Digests of the streams of samples that are read."""

    @property
    def left(self) -> int:
        """Trials without a result."""
        return max(0, (self.declared or 0) - self.done - self.failed)


class WatchedSweep:
    """One sweep of a storage, read again and again; may be used by several threads.

    Args:
        every: seconds within which the results are not looked at again.
    """

    def __init__(self, storage: Storage, name: str, *, every: float = 1.0) -> None:
        self.store = SweepStore(storage, name)
        self._live = LiveSweep(storage, name, every=every)
        self._lock = threading.Lock()
        self._declaration: tuple[Any, Declared] = (None, Declared())
        self._beat: tuple[float | None, float] = (None, -1e9)
        """The last heartbeat that was seen, and when it was seen first on a clock of ours."""
        self._rows: tuple[Any, pd.DataFrame, list[str]] = (None, pd.DataFrame(), [])

    def declared(self) -> Declared:
        """What is declared; read when it has changed."""
        stamp = self._stamps().get("sweep.json")
        with self._lock:
            if stamp != self._declaration[0]:
                self._declaration = stamp, _declared(self.store.read_sweep_json() if stamp else None)
            return self._declaration[1]

    def look(self) -> Look:
        """What is there now."""
        return self._live.look()

    def curves(self, trial_ids: list[str]) -> pd.DataFrame:
        """All evaluations of some trials."""
        return self._live.curves(trial_ids)

    def version(self) -> str:
        """Changes when anything but the heartbeat does."""
        self.declared()
        return f"{self._declaration[0]} {self.look().version}"

    def rows(self) -> tuple[pd.DataFrame, list[str]]:
        """A row a declared trial that has begun, with its last metrics; ``status`` is ``completed``, ``failed``,
        ``stopped`` or ``under way``. And the fields in which the trials of the sweep differ."""
        declared, look = self.declared(), self.look()
        key = (self._declaration[0], look.version)
        with self._lock:
            if key != self._rows[0]:
                rows = with_derived(_rows(declared, look))
                self._rows = key, rows, varying(rows if declared.trials is None else declared.trials)
            return self._rows[1:]

    def summary(self) -> Summary:
        """The sweep in numbers, from the heartbeat and the commit marks."""
        declared, trials = self.declared().trials, self.look().trials
        if declared is not None:
            trials = trials[trials["trial_id"].isin(declared["trial_id"])]
        status = self.store.read_status() or {}
        counts = trials["status"].value_counts()
        made = Summary(
            name=self.store.name,
            state=STOPPED,
            done=len(trials) - int(counts.get(FAILED, 0)),
            failed=int(counts.get(FAILED, 0)),
            declared=None if declared is None else max(len(declared), self.declared().planned),
            vaes_per_hour=_number(status, "vaes_per_minute", 60),
            heard=_number(status, "time"),
            pools=tuple(status.get("pools") or ()),
        )
        alive = self._is_alive(made.heard, PREPARING_SECONDS if "preparing" in status else SILENT_SECONDS)
        if made.declared and not made.left:
            return _with(made, state=FINISHED)
        if not alive or status.get("ended"):
            return made
        if "preparing" in status:
            return _with(made, state=PREPARING, doing=str(status["preparing"]))
        return _with(
            made,
            state=RUNNING,
            running=int(_number(status, "vaes_running") or 0),
            bundles_running=int(_number(status, "bundles_running") or 0),
            seconds_left=_number(status, "seconds_left"),
        )

    def given_up(self) -> list[dict[str, Any]]:
        """The bundles that were given up and have trials without a result, the last first: ``bundle_id, trial_ids,
        reason, tries, time`` and how many are ``left``."""
        done = set(self.look().trials["trial_id"])
        notes = [{**note, "left": len(set(note["trial_ids"]) - done)} for note in self.store.given_up()]
        return sorted((note for note in notes if note["left"]), key=lambda note: -note["time"])

    def pictures(self) -> dict[str, str]:
        """The figures that the driver has drawn: file name -> a word that changes with the file."""
        stamps = self.store.storage.stamps(f"{self.store.name}/figures", ".png")
        return {name: f"{size:x}-{changed:x}" for name, (size, changed) in stamps.items()}

    def _stamps(self) -> dict[str, tuple[int, int]]:
        return self.store.storage.stamps(self.store.name, ".json")

    def _is_alive(self, beat: float | None, silence: float) -> bool:
        """Whether the last heartbeat is young: by the clocks of both machines, or, should they differ, since it was
        seen to change."""
        if beat is None:
            return False
        with self._lock:
            if beat != self._beat[0]:
                self._beat = beat, -1e9 if self._beat[0] is None else time.monotonic()
            return abs(time.time() - beat) < silence or time.monotonic() - self._beat[1] < silence


class Sweeps:
    """The sweeps of a storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._watched: dict[str, WatchedSweep] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """All sweeps, those that were put aside last."""
        found = [name for name in self.storage.folders() if name not in RESERVED and self._is_sweep(name)]
        return sorted(found, key=lambda name: (".old-" in name, name))

    def __getitem__(self, name: str) -> WatchedSweep:
        """The sweep ``name``.

        Raises:
            SpecError: it cannot be the name of a sweep.
            StorageError: there is none.
        """
        with self._lock:
            known = name in self._watched
        if not known and not (safe_name("the name of a sweep", name) not in RESERVED and self._is_sweep(name)):
            raise StorageError(f"no sweep {name!r} in {self.storage.where()}")
        with self._lock:
            return (
                self._watched.setdefault(name, WatchedSweep(self.storage, name)) if not known else self._watched[name]
            )

    def _is_sweep(self, name: str) -> bool:
        return "sweep.json" in self.storage.list(name) or "trials" in self.storage.folders(name)


def _declared(value: Any) -> Declared:
    """What a ``sweep.json`` declares; nothing where it is not one of ours."""
    try:
        specs = value["trials"]
        ids = value.get("trial_ids") or [TrialSpec.from_dict(each).trial_id for each in specs]
        columns = [
            {name: json.dumps(part) if isinstance(part, (list, dict)) else part for name, part in each.items()}
            for each in specs
        ]
        trials = with_derived(pd.DataFrame({"trial_id": ids}).join(pd.DataFrame(columns)))
        named = [name for name in value.get("figures", ()) if isinstance(name, str)]
        planned = int(value.get("planned") or 0)
    except (LookupError, TypeError, AttributeError, ValueError):
        return Declared()
    machine, options, devices = (value.get(key) or {} for key in ("machine", "options", "devices"))
    facts = {
        "preset": options.get("preset"),
        "machine": machine.get("node"),
        "devices": f"{devices['count']} x {devices['kind']}" if devices else None,
        "code": value.get("code_version"),
    }
    return Declared(
        trials,
        dict(zip(ids, specs, strict=True)),
        tuple(named),
        planned,
        {name: fact for name, fact in facts.items() if fact},
    )


def _rows(declared: Declared, look: Look) -> pd.DataFrame:
    finished, last = look.trials, look.last.drop(columns="bundle_id")
    if declared.trials is not None:
        ids = declared.trials["trial_id"]
        finished = finished[finished["trial_id"].isin(ids)]
        begun = last["trial_id"][~last["trial_id"].isin(finished["trial_id"])]
        under_way = declared.trials[ids.isin(begun)].assign(status=UNDER_WAY)
        if not under_way.empty:
            sizes = [_parameters(declared.specs[trial]) for trial in under_way["trial_id"]]
            finished = pd.concat([finished, under_way.assign(params_total=sizes)], ignore_index=True)
    return finished.merge(last, on="trial_id", how="left", suffixes=("", "_metrics"))


def _parameters(spec: dict[str, Any]) -> int | None:
    try:
        return params_total(TrialSpec.from_dict(spec))
    except (TypeError, ValueError):  # declared by another version
        return None


def _number(status: dict[str, Any], name: str, times: float = 1) -> float | None:
    value = status.get(name)
    return value * times if isinstance(value, (int, float)) else None


def _with(summary: Summary, **changes: Any) -> Summary:
    return Summary(**{**summary.__dict__, **changes})
