"""The files of one sweep, and which trials are done.

    <storage>/<sweep>/
        trials/<bundle>.parquet                     a row a finished trial: the commit mark
        metrics/<bundle>-<first>-<last>.parquet     a row a trial and evaluation, of the effective epochs first..last
        details/<bundle>-<first>-<last>.parquet     series of numbers of these evaluations, where there are any
        checkpoints/<bundle>.safetensors, .json     of an unfinished bundle, and which trials it holds
        models/<bundle>.safetensors                 final weights
        given-up/<bundle>.json                      why a run gave a bundle up
        figures/  sweep.json  status.json
        starts/<bundle>.json                        how often a bundle was started in vain (``service.starts``)
        set-aside/                                  corrupt files, kept for a look, read by nothing

File names follow from the bundle and the epochs, so work done twice writes the same files twice. A bundle's metrics
must be written before its trials are committed: then a committed trial has all its metrics.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from vaegen_ray.errors import SpecError, StorageError
from vaegen_ray.results.parquet import SAFE_NAME, SUFFIX, encode, read_folder, result_files
from vaegen_ray.results.schema import DETAILS, FAILED, METRICS, trials_schema
from vaegen_ray.results.storage import Storage

__all__ = ["Storage", "SweepStore", "bundle_of", "is_sweep", "safe_name", "sweep_names"]

WEIGHTS = ".safetensors"
RESERVED = ("diffusion", "samples")
"""Folders of a storage that belong to no sweep."""
PUT_ASIDE = re.compile(r"\.old-\d+$")
"""How the names end that ``archive`` gives."""
TRIALS_KEY = ("trial_id",)
METRICS_KEY = ("effective_epoch", "trial_id")
DETAILS_KEY = (*METRICS_KEY, "quantity", "item")
EVALUATIONS = {"metrics": (METRICS, METRICS_KEY), "details": (DETAILS, DETAILS_KEY)}
"""Folders of what was evaluated, in files named by bundle and epochs, with their columns and keys."""


def safe_name(what: str, name: str) -> str:
    """``name``, when it can be the name of a folder or file anywhere.

    Raises:
        SpecError: it is empty, starts with a dot, or has a character that may not be.
    """
    if not SAFE_NAME.fullmatch(name):
        raise SpecError(f"{what} must be letters, digits, '_', '-' and '.', and not start with a dot; got {name!r}")
    return name


def bundle_of(filename: str) -> str:
    """The bundle that the metrics file ``<bundle>-<first>-<last>.parquet`` belongs to."""
    return filename.removesuffix(SUFFIX).rsplit("-", 2)[0]


def sweep_names(storage: Storage) -> list[str]:
    """The folders of a storage that can be sweeps, sorted; without those that were put aside (``archive``)."""
    names = [name for name in storage.folders() if SAFE_NAME.fullmatch(name) and name not in RESERVED]
    return [name for name in names if not PUT_ASIDE.search(name)]


def is_sweep(storage: Storage, name: str) -> bool:
    """Whether a folder of a storage holds a sweep."""
    return "sweep.json" in storage.list(name) or "trials" in storage.folders(name)


class SweepStore:
    """Reads and writes the files of the sweep ``name``. Methods raise ``StorageError`` where the storage refuses."""

    def __init__(self, storage: Storage, name: str) -> None:
        if name in RESERVED:
            raise SpecError(f"the name of a sweep must not be one of {', '.join(RESERVED)}; got {name!r}")
        self.storage = storage
        self.name = safe_name("the name of a sweep", name)
        self.set_aside_notes: list[str] = []
        """One line a corrupt file that this store has set aside: the file and the reason."""

    def commit_trials(self, bundle_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the rows of all trials of a bundle (``schema.trial_row``); they are done when this returns.

        Raises:
            ValueError: a row does not fit the schema, names another sweep or bundle, or a trial comes twice.
        """
        filled = self._fill(rows, sweep=self.name, bundle_id=bundle_id)
        data = encode(filled, trials_schema(), key=TRIALS_KEY)
        self.storage.write(self._path("trials", bundle_id + SUFFIX), data)

    def write_metrics(
        self, bundle_id: str, first_epoch: int, last_epoch: int, rows: Iterable[Mapping[str, Any]]
    ) -> None:
        """Writes the evaluations of a bundle at the effective epochs ``first_epoch .. last_epoch``.

        Raises:
            ValueError: a row does not fit the schema or names another bundle, or an evaluation comes twice.
        """
        self._write_evaluations("metrics", bundle_id, first_epoch, last_epoch, rows)

    def write_details(
        self, bundle_id: str, first_epoch: int, last_epoch: int, rows: Iterable[Mapping[str, Any]]
    ) -> None:
        """Writes the series of numbers that belong to these evaluations (``schema.DETAILS``).

        Raises:
            ValueError: a row does not fit the schema or names another bundle, or a series comes twice.
        """
        self._write_evaluations("details", bundle_id, first_epoch, last_epoch, rows)

    def _write_evaluations(
        self, folder: str, bundle_id: str, first_epoch: int, last_epoch: int, rows: Iterable[Mapping[str, Any]]
    ) -> None:
        assert 0 <= first_epoch <= last_epoch, (first_epoch, last_epoch)
        schema, key = EVALUATIONS[folder]
        data = encode(self._fill(rows, bundle_id=bundle_id), schema, key=key)
        self.storage.write(self._path(folder, f"{bundle_id}-{first_epoch:06d}-{last_epoch:06d}{SUFFIX}"), data)

    def committed(self, retry_failed: bool = False) -> set[str]:
        """Ids of the trials that are done. A corrupt file is set aside, so its trials are to do again.

        Args:
            retry_failed: failed trials do not count, so they are to do again.
        """
        tables, corrupt = read_folder(self.storage, self._path("trials"), trials_schema())
        for name, reason in corrupt.items():
            self._set_aside("trials", name, reason)
        done: set[str] = set()
        for table in tables.values():
            pairs = zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True)
            done.update(trial for trial, status in pairs if status != FAILED or not retry_failed)
        return done

    def forget(self, trial_ids: set[str]) -> None:
        """Takes the rows of trials out of all files, so that they are to do again; metrics first, commit marks last."""
        for folder, (schema, key) in {**EVALUATIONS, "trials": (trials_schema(), TRIALS_KEY)}.items():
            tables, _ = read_folder(self.storage, self._path(folder), schema)
            for name, table in tables.items():
                rows = table.to_pylist()
                kept = [row for row in rows if row["trial_id"] not in trial_ids]
                if not kept:
                    self.storage.delete(self._path(folder, name))
                elif len(kept) < len(rows):
                    self.storage.write(self._path(folder, name), encode(kept, schema, key=key))

    def check_metrics(self) -> set[str]:
        """Reads every file of metrics and details; a corrupt one is set aside with the commit mark of its bundle, whose
        trials are then to do again. For the start of a run, before ``committed``.

        Returns:
            The bundles that lost a file.
        """
        lost = set()
        for folder, (schema, _) in EVALUATIONS.items():
            _, corrupt = read_folder(self.storage, self._path(folder), schema, dictionaries=True)
            for name, reason in corrupt.items():
                self._set_aside(folder, name, reason)
                mark = bundle_of(name) + SUFFIX
                if self.storage.exists(self._path("trials", mark)):
                    self._set_aside("trials", mark, f"its {folder} {name} were set aside")
                lost.add(bundle_of(name))
        return lost

    def prune_metrics(self, keep_bundles: set[str]) -> list[str]:
        """Deletes metrics and details that an abandoned packing left: of bundles neither committed nor in
        ``keep_bundles``. So a trial that moves to another bundle never has its metrics in the files of two.

        Returns:
            The names of the deleted files.
        """
        committed = {name.removesuffix(SUFFIX) for name in result_files(self.storage, self._path("trials"))}
        return self._delete_evaluations(lambda bundle: bundle not in committed | keep_bundles)

    def delete_metrics(self, bundle_id: str) -> None:
        """Deletes the metrics and details of a bundle that is given up in favour of others with the same trials."""
        self._delete_evaluations(lambda bundle: bundle == bundle_id)

    def _delete_evaluations(self, of: Callable[[str], bool]) -> list[str]:
        deleted = []
        for folder in EVALUATIONS:
            names = [name for name in result_files(self.storage, self._path(folder)) if of(bundle_of(name))]
            for name in names:
                self.storage.delete(self._path(folder, name))
            deleted += names
        return deleted

    def write_checkpoint(self, bundle_id: str, data: bytes) -> None:
        """Keeps the state of an unfinished bundle, in place of its last checkpoint."""
        self.storage.write(self._path("checkpoints", bundle_id + WEIGHTS), data)

    def read_checkpoint(self, bundle_id: str) -> bytes | None:
        """The checkpoint of a bundle, or None."""
        return self.storage.read_optional(self._path("checkpoints", bundle_id + WEIGHTS))

    def delete_checkpoint(self, bundle_id: str) -> None:
        """Removes the checkpoint of a bundle, if it has one."""
        for suffix in (WEIGHTS, ".json"):
            self.storage.delete(self._path("checkpoints", bundle_id + suffix))

    def set_aside_checkpoint(self, bundle_id: str, reason: str) -> None:
        """Moves a damaged checkpoint out of the way; its bundle starts anew."""
        self._set_aside("checkpoints", bundle_id + WEIGHTS, reason)

    def write_checkpoint_members(self, bundle_id: str, trial_ids: list[str]) -> None:
        """Says which trials the checkpoint of a bundle holds; written before the first checkpoint."""
        self.storage.write_json(self._path("checkpoints", bundle_id + ".json"), {"trial_ids": trial_ids})

    def started_bundles(self) -> dict[str, list[str]]:
        """The trial ids of every bundle with a checkpoint, in the order of its members. A damaged list is set aside."""
        return self._members(self.checkpoints())

    def prune_checkpoints(self) -> None:
        """Deletes what is left of the checkpoints of bundles that are committed: their worker died before it could."""
        names = self.storage.list(self._path("checkpoints"), ".json")
        begun = self._members(name.removesuffix(".json") for name in names if SAFE_NAME.fullmatch(name))
        done = self.committed() if begun else set()
        for bundle, members in begun.items():
            if done.issuperset(members):
                self.delete_checkpoint(bundle)

    def _members(self, bundles: Iterable[str]) -> dict[str, list[str]]:
        found = {}
        for bundle in bundles:
            name = f"{bundle}.json"
            data = self.storage.read_optional(self._path("checkpoints", name))
            if data is None:
                continue
            try:
                members = json.loads(data)["trial_ids"]
                if not (isinstance(members, list) and all(isinstance(member, str) for member in members)):
                    raise TypeError("its trial_ids are no list of words")
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                self._set_aside("checkpoints", name, f"it does not say which trials a checkpoint holds: {error}")
            else:
                found[bundle] = members
        return found

    def checkpoints(self) -> list[str]:
        """The bundles that have a checkpoint, sorted."""
        names = self.storage.list(self._path("checkpoints"), WEIGHTS)
        return [name.removesuffix(WEIGHTS) for name in names if SAFE_NAME.fullmatch(name)]

    def write_model(self, bundle_id: str, data: bytes, epoch: int | None = None) -> None:
        """Keeps the final weights of a bundle, or those at an effective epoch."""
        self.storage.write(self._path("models", _model_name(bundle_id, epoch)), data)

    def read_model(self, bundle_id: str, epoch: int | None = None) -> bytes | None:
        """The final weights of a bundle, or those at an effective epoch; None where they are not kept."""
        return self.storage.read_optional(self._path("models", _model_name(bundle_id, epoch)))

    def write_sweep_json(self, value: Any) -> None:
        """Keeps the resolved sweep: its specification, versions, commit and machine."""
        self.storage.write_json(self._path("sweep.json"), value)

    def read_sweep_json(self) -> Any | None:
        """What ``write_sweep_json`` kept, or None."""
        return self._read_json("sweep.json")

    def write_status(self, value: Any) -> None:
        """Replaces the heartbeat of the run."""
        self.storage.write_json(self._path("status.json"), value)

    def read_status(self) -> Any | None:
        """The last heartbeat, or None."""
        return self._read_json("status.json")

    def write_given_up(self, bundle_id: str, trial_ids: list[str], reason: str, tries: int) -> None:
        """Notes that a run gave a bundle up, in place of an earlier note about it. What a later run commits counts."""
        note = {"trial_ids": trial_ids, "reason": reason, "tries": tries, "time": time.time()}
        self.storage.write_json(self._path("given-up", bundle_id + ".json"), note)

    def given_up(self) -> list[dict[str, Any]]:
        """The notes of ``write_given_up``, each with its ``bundle_id``; damaged ones are left out."""
        found = []
        for name in self.storage.list(self._path("given-up"), ".json"):
            with suppress(StorageError, ValueError, LookupError, TypeError):
                note = self.storage.read_json(self._path("given-up", name))
                trials, reason = [str(trial) for trial in note["trial_ids"]], str(note["reason"])
                numbers = {"tries": int(note["tries"]), "time": float(note["time"])}
                found.append({"bundle_id": name[: -len(".json")], "trial_ids": trials, "reason": reason, **numbers})
        return found

    def write_figure(self, filename: str, data: bytes) -> str:
        """Writes a file into ``figures/`` and returns its full path."""
        path = self._path("figures", filename)
        self.storage.write(path, data)
        return self.storage.where(path)

    def archive(self) -> str | None:
        """Moves the whole sweep aside, to the first free ``<name>.old-<n>``, so that it starts afresh.

        In an object store the commit marks go first: when the move is cut short, what stays behind is to do again.

        Returns:
            The new name, or None where there was nothing.
        """
        if not (self.storage.folders(self.name) or self.storage.list(self.name)):
            return None
        n = 1
        while self.storage.exists(f"{self.name}.old-{n}"):
            n += 1
        self.storage.move_folder(self.name, f"{self.name}.old-{n}", first="trials")
        return f"{self.name}.old-{n}"

    def _path(self, *parts: str) -> str:
        return "/".join([self.name, *(safe_name("the name of a file of a sweep", part) for part in parts)])

    def _read_json(self, name: str) -> Any | None:
        return self.storage.read_json_optional(self._path(name))

    def _set_aside(self, folder: str, name: str, reason: str) -> None:
        path = self._path(folder, name)
        self.storage.move(path, self._path("set-aside", name))
        self.set_aside_notes.append(f"{self.storage.where(path)} was set aside: {reason}")

    @staticmethod
    def _fill(rows: Iterable[Mapping[str, Any]], **same: str) -> list[dict[str, Any]]:
        """Rows with the columns that are the same for a whole file filled in, and checked where they were given."""
        filled = [{**same, **row} for row in rows]
        for row in filled:
            for name, value in same.items():
                if row[name] != value:
                    raise ValueError(f"column {name} of a row in this file must be {value!r}; got {row[name]!r}")
        return filled


def _model_name(bundle_id: str, epoch: int | None) -> str:
    return bundle_id + ("" if epoch is None else f"-e{epoch:06d}") + WEIGHTS
