"""The results of a sweep that grows, looked at again and again at the price of what is new.

    live = LiveSweep(storage, "double_descent")
    live.look().last        # reads the files that were written since the last look

A file is known by its name, size and time and is read once. Of the evaluations a look reads the last file of each
bundle alone, since the last numbers of its trials are there; ``curves`` reads the others of the trials that are asked
for.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from vaegen_ray.results.integrity import left_out, missing
from vaegen_ray.results.manifest import Manifest, read_manifest, within
from vaegen_ray.results.parquet import SAFE_NAME, SUFFIX, parse_bundle_id, read_files
from vaegen_ray.results.query import joined, unique_metrics, unique_trials
from vaegen_ray.results.schema import FILES, METRICS, TrialStatus, read_schema, trials_schema
from vaegen_ray.results.storage import Storage

Stamp = tuple[int, int]

LONG = "spec_json"
"""A column of trials that is left out: it says what the others say."""
KEPT_BYTES = 2**28
"""Learning curves that are kept in memory beside those that were asked for last."""


@dataclass(frozen=True)
class Look:
    """What a sweep holds at one moment."""

    trials: pd.DataFrame
    """A row a finished trial, whatever its status; as ``query.Results.trials`` without ``spec_json``."""
    last: pd.DataFrame
    """A row a trial with evaluations, finished or not: its last metrics, sorted by ``trial_id``; columns:
    ``schema.METRICS``."""
    notes: tuple[str, ...]
    """One line a file that could not be read."""
    version: int
    """Another number when anything has changed."""


class LiveSweep:
    """Reads one sweep; may be used by several threads.

    Args:
        storage: where the sweep is.
        sweep: its name.
    """

    def __init__(self, storage: Storage, sweep: str) -> None:
        self._storage, self._sweep = storage, sweep
        self._manifests: dict[str, Manifest] = {}
        """Of the bundles whose rows were read and have one."""
        self._trials = _Files(storage, f"{sweep}/trials", trials_schema(), self._take_manifest)
        self._tails = _Files(storage, f"{sweep}/metrics", METRICS, _last_epoch)
        self._curves = _Files(storage, f"{sweep}/metrics", METRICS, lambda table: table)
        self._lock = threading.Lock()
        self._look: Look | None = None
        self._is_old = True
        """A file was read, or has gone, since the last look was made."""

    def look(self) -> Look:
        """What is there now; nothing at all is an empty look.

        Raises:
            StorageError: the storage cannot be read.
            DataFormatError: a file was written by a later version of vaegen_ray.
        """
        with self._lock:
            # Trials are listed first: one whose row is there has all its metrics, so none is finished without numbers.
            # What one folder gave counts at the next look should the storage refuse the other one.
            self._is_old |= self._trials.refresh(lambda names: names)
            self._is_old |= self._tails.refresh(lambda names: _last_of_each_bundle(self._counted(names)))
            if self._look is None or self._is_old:
                self._look = self._made(time.time_ns())
                self._is_old = False
            return self._look

    def curves(self, trial_ids: Iterable[str]) -> pd.DataFrame:
        """All evaluations of trials, as ``query.Results.metrics``: by rising ``trial_id`` and ``effective_epoch``.

        Raises:
            as ``look``.
        """
        look, wanted = self._look or self.look(), set(trial_ids)
        with self._lock:
            bundles = {parse_bundle_id(name) for name in self._tails.tables if wanted & self._tails.trials_in(name)}
            self._curves.refresh(
                lambda names: [name for name in self._counted(names) if parse_bundle_id(name) in bundles], forget=False
            )
            tables = [table for name, table in self._curves.tables.items() if parse_bundle_id(name) in bundles]
            metrics = unique_metrics(tables, look.trials)
        return metrics[metrics["trial_id"].isin(wanted)].reset_index(drop=True)

    def _take_manifest(self, table: pa.Table) -> pa.Table:
        """The rows of a bundle without the long columns; the files that they name are kept here."""
        if len(table):
            self._manifests[table["bundle_id"][0].as_py()] = read_manifest(table) or {}
        return table.drop_columns([LONG, FILES])

    def _counted(self, names: list[str]) -> list[str]:
        """The files of metrics that count; see ``query.load``."""
        marks = {name.removesuffix(SUFFIX) for name in self._trials.tables}
        named = {b: within(manifest, "metrics") for b, manifest in self._manifests.items() if manifest and b in marks}
        return [name for name in names if (bundle := parse_bundle_id(name)) not in named or name in named[bundle]]

    def _made(self, version: int) -> Look:
        schema = read_schema()
        tables, notes = dict(self._trials.tables), []
        sizes = {f"metrics/{name}": size for name, (size, _) in self._tails.stamps.items()}
        for name in self._trials.tables:
            lost = missing(self._manifests.get(name.removesuffix(SUFFIX), {}), sizes, ("metrics",))
            if lost:
                path, reason = next(iter(lost.items()))
                where = self._storage.where(f"{self._sweep}/trials/{name}")
                notes.append(left_out(where, len(tables.pop(name)), path, reason))
        trials = unique_trials(joined(tables, schema.remove(schema.get_field_index(LONG))))
        metrics = unique_metrics(list(self._tails.tables.values()), trials)
        last = metrics.drop_duplicates("trial_id", keep="last").reset_index(drop=True)
        last = last.assign(trial_id=last["trial_id"].astype(trials["trial_id"].dtype))
        completed = trials[trials["status"] == TrialStatus.COMPLETED].set_index("trial_id")["epochs"]
        declared = last["trial_id"].map(completed)
        last = last[declared.isna() | (last["effective_epoch"] == declared)].reset_index(drop=True)
        return Look(trials, last, (*notes, *self._trials.notes(), *self._tails.notes()), version)


class _Files:
    """The tables of some result files of a folder, by name."""

    def __init__(self, storage: Storage, folder: str, schema: pa.Schema, keep: Callable[[pa.Table], pa.Table]) -> None:
        self._storage, self._folder, self._schema, self._keep = storage, folder, schema, keep
        self._stamps: dict[str, Stamp] = {}
        self.stamps: dict[str, Stamp] = {}
        """All files of the folder, read or not."""
        self._corrupt: dict[str, str] = {}
        self._ids: dict[str, set[str]] = {}
        self._bytes: dict[str, int] = {}
        self.tables: dict[str, pa.Table] = {}

    def refresh(self, choose: Callable[[list[str]], list[str]], *, forget: bool = True) -> bool:
        """Reads the files out of the folder that ``choose`` picks and that are new or were written again.

        Args:
            forget: drop those that are there and were not picked.

        Returns:
            Whether anything has changed.
        """
        there = self._storage.stamps(self._folder, SUFFIX)
        others_changed = there.keys() != self.stamps.keys()
        self.stamps = there
        picked = choose([name for name in there if SAFE_NAME.fullmatch(name)])
        new = [name for name in picked if self._stamps.get(name) != there[name]]
        kept = set(picked) if forget or sum(self._bytes.values()) > KEPT_BYTES else set(there)
        gone = [name for name in self._stamps if name not in kept]
        dictionaries = self._schema is METRICS
        tables, corrupt = read_files(self._storage, self._folder, new, self._schema, dictionaries=dictionaries)
        for name in (*gone, *new):
            for known in (self._stamps, self._corrupt, self._ids, self._bytes, self.tables):
                known.pop(name, None)
        self.tables |= {name: self._keep(table) for name, table in tables.items()}
        self._bytes |= {name: self.tables[name].nbytes for name in tables}
        self._corrupt |= corrupt
        self._stamps |= {name: there[name] for name in (*tables, *corrupt)}
        return bool(new or gone or others_changed)

    def trials_in(self, name: str) -> set[str]:
        """The trials that a file of metrics has rows of."""
        if name not in self._ids:
            self._ids[name] = set(self.tables[name]["trial_id"].to_pylist())
        return self._ids[name]

    def notes(self) -> list[str]:
        """One line a file that could not be read."""
        where = self._storage.where(self._folder)
        return [f"{where}/{name} was skipped: {reason}" for name, reason in sorted(self._corrupt.items())]


def _last_of_each_bundle(names: list[str]) -> list[str]:
    """Out of the files ``<bundle>-<first>-<last>.parquet``, sorted, the last of each bundle."""
    return list({parse_bundle_id(name): name for name in names}.values())


def _last_epoch(table: pa.Table) -> pa.Table:
    """The last row of each trial in a file of metrics; a copy, so that the others do not stay in memory."""
    codes = table["trial_id"].combine_chunks().indices.to_numpy()
    _, from_the_end = np.unique(codes[::-1], return_index=True)  # rows are sorted by epoch
    return table.take(np.sort(len(codes) - 1 - from_the_end))
