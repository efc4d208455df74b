"""The sweeps of a storage as the page needs them: what is declared, what is there, and whether somebody works on it.

Everything is read from the storage alone: ``sweep.json`` (what is declared), ``status.json`` (the driver's heartbeat),
``given-up/`` (bundles that were given up, and why), ``figures/`` and the Parquet files.
"""

import hashlib
import json
import threading
from collections.abc import Iterable
from concurrent.futures import wait
from typing import Any

import pandas as pd

from vaegen_ray.dashboard import watch
from vaegen_ray.dashboard.columns import varying, with_derived
from vaegen_ray.dashboard.drawn import PaperFigures
from vaegen_ray.dashboard.seen import Declared, Seen
from vaegen_ray.dashboard.watch import CachedRead
from vaegen_ray.errors import StorageError, VaegenError, nearest
from vaegen_ray.models.layout import params_total
from vaegen_ray.results import status
from vaegen_ray.results.declaration import Declaration
from vaegen_ray.results.heartbeat import HeartbeatMonitor, read_number
from vaegen_ray.results.live import LiveSweep, Look
from vaegen_ray.results.parquet import SAFE_NAME
from vaegen_ray.results.status import SweepState, SweepStatus
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.storage_errors import LinkError
from vaegen_ray.results.store import RESERVED, SweepStore, is_sweep, safe_name, sweep_names
from vaegen_ray.spec.trial import ADDED, TrialSpec

UNDER_WAY = "under way"
"""The status of a trial that has evaluations and no result yet."""


class WatchedSweep:
    """One sweep of a storage, read again and again; may be used by several threads."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.store = SweepStore(storage, name)
        self._live = LiveSweep(storage, name)
        self._monitor = HeartbeatMonitor()
        self._declaration: tuple[Any, Declaration | None, Declared, list[str]] = (None, None, Declared(), [])
        self._rows: tuple[Any, pd.DataFrame, list[str]] = (None, pd.DataFrame(), [])
        self._notes: tuple[Any, list[dict[str, Any]]] = (None, [])
        self.kept = CachedRead(self._read)
        self.figures = PaperFigures(self.store, self.seen, self.curves)

    def seen(self) -> Seen:
        """What is there now, or a moment ago.

        Raises:
            StorageError: the storage cannot be read.
            DataFormatError: a file was written by a later version of vaegen_ray.
        """
        return self.kept.get()

    def read(self) -> Seen:
        """What is there now, however long that takes.

        Raises:
            as ``seen``.
        """
        return self.kept.begin(every=0).result()

    def curves(self, trial_ids: Iterable[str]) -> pd.DataFrame:
        """All evaluations of some trials."""
        return self._live.curves(trial_ids)

    def _read(self) -> Seen:
        """One thread at a time."""
        storage, name = self.store.storage, self.store.name
        notes: list[str] = []
        stamp = storage.stamps(name, ".json").get("sweep.json")
        if stamp != self._declaration[0]:
            said: list[str] = []
            declaration = status.read_declaration(self.store, said) if stamp else None
            self._declaration = (
                (None if said else stamp),
                declaration,
                _declared(declaration),
                said,
            )  # a failure is tried again
        read, declaration, declared, said = self._declaration
        look = self._live.look()
        beat = status.read_heartbeat(self.store, notes)
        drawn = self._stamps("figures", "", notes)
        pictures = {file: f"{size:x}-{changed:x}" for file, (size, changed) in drawn.items() if file.endswith(".png")}
        given_up = self._given_up(declared, look, notes)
        trials = zip(look.trials["trial_id"].tolist(), look.trials["status"].tolist(), strict=True)
        now = status.status_from(
            self.store,
            declaration,
            dict(trials),
            beat,
            alive=self._monitor.is_alive(beat),
            figures=drawn,
            notes=[*said, *notes, *look.notes],
        )
        key = (read, look.version)
        if key != self._rows[0]:
            rows = with_derived(_rows(declared, look))
            self._rows = key, rows, varying(rows if declared.trials is None else declared.trials)
        version = hashlib.sha256(repr((key, pictures, given_up)).encode()).hexdigest()[:16]
        return Seen(now, declared, look, *self._rows[1:], given_up, pictures, version)

    def _stamps(self, folder: str, suffix: str, notes: list[str]) -> dict[str, tuple[int, int]]:
        """Of the files in a folder of the sweep; a link that leads out of the storage becomes a note."""
        try:
            return self.store.storage.stamps(f"{self.store.name}/{folder}", suffix)
        except LinkError as error:
            notes.append(str(error))
            return {}

    def _given_up(self, declared: Declared, look: Look, notes: list[str]) -> list[dict[str, Any]]:
        stamps = self._stamps("given-up", ".json", notes)
        if stamps != self._notes[0]:
            self._notes = stamps, self.store.given_up() if stamps else []
        if not self._notes[1]:
            return []
        done, left_over = set(look.trials["trial_id"]), []
        for note in self._notes[1]:
            left = {trial for trial in note["trial_ids"] if declared.trials is None or trial in declared.specs} - done
            if left:
                left_over.append({**note, "time": read_number(note, "time"), "left": len(left)})
        return sorted(left_over, key=lambda note: -(note["time"] or 0))


class Sweeps:
    """The sweeps of a storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._watched: dict[str, WatchedSweep] = {}
        self._lock = threading.Lock()
        self._names = CachedRead(self._list)

    def names(self) -> list[str]:
        """All sweeps, those that were put aside last."""
        return self._names.get()

    def statuses(self) -> dict[str, SweepStatus | VaegenError | None]:
        """The status of every sweep, or why it cannot be read, or None where it is being read for the first time."""
        kept = {name: self._of(name).kept for name in self.names()}
        readings = {name: each.begin(self._every(each.last)) for name, each in kept.items()}
        wait(readings.values(), watch.PATIENCE_SECONDS)
        found: dict[str, SweepStatus | VaegenError | None] = {}
        for name, each in kept.items():
            try:
                seen = each.known(readings[name])
                found[name] = seen.status if seen is not None else None
            except VaegenError as error:
                found[name] = error
        return found

    def __getitem__(self, name: str) -> WatchedSweep:
        """The sweep ``name``.

        Raises:
            SpecError: it cannot be the name of a sweep.
            StorageError: there is none.
        """
        safe_name("the name of a sweep", name)
        if name not in self._watched and (name in RESERVED or not is_sweep(self.storage, name)):
            near = nearest(name, sweep_names(self.storage))
            raise StorageError(f"no sweep {name!r} in {self.storage.where()}{near}")
        return self._of(name)

    def _every(self, last: Seen | None) -> float | None:
        quiet = last is not None and last.status.state in (SweepState.FINISHED, SweepState.STOPPED)
        return watch.QUIET_SECONDS if quiet and not self.storage.is_local else None

    def _list(self) -> list[str]:
        names = [name for name in self.storage.folders() if SAFE_NAME.fullmatch(name) and name not in RESERVED]
        found = [name for name in names if name in self._watched or self._is_sweep(name)]
        return sorted(found, key=lambda name: (".old-" in name, name))

    def _is_sweep(self, name: str) -> bool:
        try:
            return is_sweep(self.storage, name)
        except LinkError:  # its card says so
            return True

    def _of(self, name: str) -> WatchedSweep:
        with self._lock:
            if name not in self._watched:
                self._watched[name] = WatchedSweep(self.storage, name)
            return self._watched[name]


def _declared(declaration: Declaration | None) -> Declared:
    """What the page shows of a declaration."""
    if declaration is None:
        return Declared()
    devices = declaration.devices
    words = {
        "preset": declaration.options.get("preset"),
        "machine": declaration.machine.get("node"),
        "devices": f"{devices.get('count')} x {devices.get('kind')}" if devices else None,
        "code": declaration.code_version,
    }
    facts = {name: str(word) for name, word in words.items() if word}
    if declaration.fault:
        return Declared(facts=facts, figures=declaration.figures)
    columns = [
        {name: json.dumps(each) if isinstance(each, (list, dict)) else each for name, each in {**ADDED, **spec}.items()}
        for spec in declaration.trials
    ]
    trials = with_derived(pd.DataFrame({"trial_id": list(declaration.trial_ids)}).join(pd.DataFrame(columns)))
    specs = dict(zip(declaration.trial_ids, declaration.trials, strict=True))
    return Declared(trials, specs, facts, declaration.figures)


def _rows(declared: Declared, look: Look) -> pd.DataFrame:
    finished, last = look.trials, look.last.drop(columns="bundle_id")
    if declared.trials is not None:
        ids = declared.trials["trial_id"]
        finished = finished[finished["trial_id"].isin(ids)]
        begun = last["trial_id"][~last["trial_id"].isin(finished["trial_id"])]
        under_way = declared.trials[ids.isin(begun)].assign(status=UNDER_WAY)
        if not under_way.empty:
            sizes = [_parameters(declared.specs[trial]) for trial in under_way["trial_id"]]
            under_way = under_way.assign(params_total=sizes).dropna(axis=1, how="all")  # a column of None has no type
            finished = pd.concat([finished, under_way], ignore_index=True)
    return finished.merge(last, on="trial_id", how="left", suffixes=("", "_metrics"))


def _parameters(spec: dict[str, Any]) -> int | None:
    try:
        return params_total(TrialSpec.from_dict(spec))
    except (LookupError, TypeError, AttributeError, ValueError):  # declared by another version
        return None
