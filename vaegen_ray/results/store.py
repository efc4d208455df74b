"""The files of one sweep, and which trials are done.

    <storage>/<sweep>/
        trials/<bundle>.parquet                     a row a finished trial: the commit mark
        metrics/<bundle>-<first>-<last>.parquet     a row a trial and evaluation, of the effective epochs first..last
        details/<bundle>-<first>-<last>.parquet     series of numbers of these evaluations, where there are any
        checkpoints/<bundle>.safetensors, .json     of an unfinished bundle, and which trials it holds
        models/<bundle>.safetensors                 final weights
        given-up/<bundle>.json                      why a run gave a bundle up
        figures/  sweep.json  status.json
        suggestions.json                            the points of searches, in the order of their suggestions
        starts/<bundle>.json                        how often a bundle was started in vain (``service.worker.attempts``)
        leases/<run>.json, .beat                    of a driver that runs, and what it trains (``results.leases``)
        set-aside/                                  corrupt files, kept for a look, read by nothing

File names follow from the bundle and the epochs, so work done twice writes the same files twice. A bundle's metrics
are on the disk before its trials are committed, and every commit row names them with their digests: then a committed
trial has all its metrics, and a reader sees when one is missing or another one (``results.integrity``). What is deleted
or moved, when and by whom, is listed in ``results.cleanup``.
"""

import re
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from vaegen_ray.errors import SpecError, StorageError
from vaegen_ray.results.checkpoints import WEIGHTS, CheckpointFiles
from vaegen_ray.results.declaration import Declaration, sealed, unsealed
from vaegen_ray.results.integrity import whole_trials
from vaegen_ray.results.manifest import FileFact, Manifest, encode_manifest, vanished
from vaegen_ray.results.names import RESERVED, is_sweep, safe_name, sweep_names
from vaegen_ray.results.parquet import SUFFIX, encode, parse_bundle_id, read_folder, result_files
from vaegen_ray.results.schema import DETAILS, METRICS, TrialStatus, trials_schema
from vaegen_ray.results.storage import Storage

__all__ = ["Storage", "SweepStore", "is_sweep", "parse_bundle_id", "safe_name", "sweep_names"]

MODEL_EPOCH = re.compile(r"-e\d{6}(?=\.safetensors$)")
TRIALS_KEY = ("trial_id",)
METRICS_KEY = ("effective_epoch", "trial_id")
DETAILS_KEY = (*METRICS_KEY, "quantity", "item")
EVALUATIONS = {"metrics": (METRICS, METRICS_KEY), "details": (DETAILS, DETAILS_KEY)}
"""Folders of what was evaluated, in files named by bundle and epochs, with their columns and keys."""


class SweepStore(CheckpointFiles):
    """Reads and writes the files of the sweep ``name``. Methods raise ``StorageError`` where the storage refuses."""

    def __init__(self, storage: Storage, name: str) -> None:
        if name in RESERVED:
            raise SpecError(f"the name of a sweep must not be one of {', '.join(RESERVED)}; got {name!r}")
        self.storage = storage
        self.name = safe_name("the name of a sweep", name)
        self.set_aside_notes: list[str] = []
        """One line a corrupt file that this store has set aside: the file and the reason."""
        self._written: dict[str, Manifest] = {}

    def commit_trials(
        self, bundle_id: str, rows: Iterable[Mapping[str, Any]], files: Mapping[str, FileFact] | None = None
    ) -> None:
        """Writes the rows of all trials of a bundle (``schema.trial_row``); they are done when this returns.

        Args:
            files: the other files of the bundle, which the rows name; None: all that there are.

        Raises:
            ValueError: a row does not fit the schema, names another sweep or bundle, or a trial comes twice.
            StorageError: one of the files is not there.
        """
        if files is None:
            files = self.list_files(bundle_id)
        elif lost := vanished(self.storage, self.name, files):
            path, reason = next(iter(lost.items()))
            raise StorageError(
                f"cannot commit bundle {bundle_id}: {self.storage.where(f'{self.name}/{path}')}: {reason}"
            )
        filled = self._fill(rows, sweep=self.name, bundle_id=bundle_id, files=encode_manifest(files))
        data = encode(filled, trials_schema(), key=TRIALS_KEY)
        self.storage.write(self._path("trials", bundle_id + SUFFIX), data)

    def list_files(self, bundle_id: str) -> Manifest:
        """What the storage holds of the metrics, details and weights of a bundle; reads all of it."""
        names = {folder: self.storage.list(self._path(folder), SUFFIX) for folder in EVALUATIONS}
        paths = [f"{folder}/{name}" for folder in names for name in names[folder] if parse_bundle_id(name) == bundle_id]
        models = self.storage.list(self._path("models"), WEIGHTS)
        paths += [f"models/{name}" for name in models if MODEL_EPOCH.sub("", name) == bundle_id + WEIGHTS]
        return {path: FileFact.of(self.storage.read(f"{self.name}/{path}")) for path in paths}

    def written(self, bundle_id: str) -> Manifest:
        """What this store has written of the metrics, details and weights of a bundle."""
        return dict(self._written.get(bundle_id, {}))

    def write_metrics(
        self,
        bundle_id: str,
        first_epoch: int,
        last_epoch: int,
        rows: Iterable[Mapping[str, Any]],
        *,
        again: bool = False,
    ) -> bool:
        """Writes the evaluations of a bundle at the effective epochs ``first_epoch .. last_epoch``.

        Args:
            again: an earlier worker wrote them; they are written where they are not there as they should be.

        Returns:
            Whether they were written.

        Raises:
            ValueError: a row does not fit the schema or names another bundle, or an evaluation comes twice.
        """
        return self._write_evaluations("metrics", bundle_id, first_epoch, last_epoch, rows, again=again)

    def write_details(
        self,
        bundle_id: str,
        first_epoch: int,
        last_epoch: int,
        rows: Iterable[Mapping[str, Any]],
        *,
        again: bool = False,
    ) -> bool:
        """Writes the series of numbers that belong to these evaluations (``schema.DETAILS``), as ``write_metrics``.

        Raises:
            ValueError: a row does not fit the schema or names another bundle, or a series comes twice.
        """
        return self._write_evaluations("details", bundle_id, first_epoch, last_epoch, rows, again=again)

    def _write_evaluations(
        self,
        folder: str,
        bundle_id: str,
        first_epoch: int,
        last_epoch: int,
        rows: Iterable[Mapping[str, Any]],
        *,
        again: bool,
    ) -> bool:
        assert 0 <= first_epoch <= last_epoch, (first_epoch, last_epoch)
        schema, key = EVALUATIONS[folder]
        data = encode(self._fill(rows, bundle_id=bundle_id), schema, key=key)
        name = f"{bundle_id}-{first_epoch:06d}-{last_epoch:06d}{SUFFIX}"
        is_there = again and self.storage.read_optional(self._path(folder, name)) == data
        self._write_file(folder, bundle_id, name, data, write=not is_there)
        return not is_there

    def _write_file(self, folder: str, bundle_id: str, name: str, data: bytes, *, write: bool = True) -> None:
        """Writes one of the files that the commit rows of a bundle name."""
        if write:
            self.storage.write(self._path(folder, name), data)
        self._written.setdefault(bundle_id, {})[f"{folder}/{name}"] = FileFact.of(data)

    def committed(self, retry_failed: bool = False, without: Collection[str] = ()) -> set[str]:
        """Ids of the trials that are done: a whole file holds their rows, and the files that it names are there.

        Args:
            retry_failed: failed trials do not count, so they are to do again.
            without: bundles that do not count either.
        """
        done: set[str] = set()
        for name, table in whole_trials(self.storage, self.name).tables.items():
            if name.removesuffix(SUFFIX) in without:
                continue
            pairs = zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True)
            done.update(trial for trial, status in pairs if status != TrialStatus.FAILED or not retry_failed)
        return done

    def forget(self, trial_ids: set[str]) -> None:
        """Takes the commit rows of trials away, so that they are to do again; the metrics of a bundle go with its last
        row, before it."""
        tables, _ = read_folder(self.storage, self._path("trials"), trials_schema())
        for name, table in tables.items():
            rows = table.to_pylist()
            kept = [row for row in rows if row["trial_id"] not in trial_ids]
            if not kept:
                self.delete_metrics(name.removesuffix(SUFFIX))
                self.storage.delete(self._path("trials", name))
            elif len(kept) < len(rows):
                self.storage.write(self._path("trials", name), encode(kept, trials_schema(), key=TRIALS_KEY))

    def marks(self) -> set[str]:
        """The bundles that have commit rows."""
        return {name.removesuffix(SUFFIX) for name in result_files(self.storage, self._path("trials"))}

    def delete_metrics(self, bundle_id: str) -> None:
        """Deletes the metrics and details of a bundle that is abandoned in favour of others with the same trials."""
        for folder in EVALUATIONS:
            for name in result_files(self.storage, self._path(folder)):
                if parse_bundle_id(name) == bundle_id:
                    self.storage.delete(self._path(folder, name))
        self._written.pop(bundle_id, None)

    def write_model(self, bundle_id: str, data: bytes, epoch: int | None = None) -> None:
        """Keeps the final weights of a bundle, or those at an effective epoch."""
        self._write_file("models", bundle_id, _model_name(bundle_id, epoch), data)

    def read_model(self, bundle_id: str, epoch: int | None = None) -> bytes | None:
        """The final weights of a bundle, or those at an effective epoch; None where they are not kept."""
        return self.storage.read_optional(self._path("models", _model_name(bundle_id, epoch)))

    def model_facts(self, bundle_id: str, epochs: Iterable[int]) -> Manifest:
        """The weights of a bundle at effective epochs, those that are there; reads what others have written."""
        facts = {}
        for path in (f"models/{_model_name(bundle_id, epoch)}" for epoch in epochs):
            known = self._written.get(bundle_id, {}).get(path)
            if known is None and (data := self.storage.read_optional(f"{self.name}/{path}")) is not None:
                known = FileFact.of(data)
            if known is not None:
                facts[path] = known
        return facts

    def has_models(self, bundle_id: str, epochs: Iterable[int]) -> bool:
        """Whether the weights of a bundle at all of these effective epochs are there."""
        paths = [self._path("models", _model_name(bundle_id, epoch)) for epoch in epochs]
        return None not in self.storage.list_sizes(paths)

    def write_sweep_json(self, value: Mapping[str, Any]) -> None:
        """Keeps the resolved sweep: its specification, versions, commit and machine."""
        self.storage.write_json(self._path("sweep.json"), sealed(value))

    def write_declaration(self, declaration: Declaration) -> None:
        """Replaces ``sweep.json``."""
        self.write_sweep_json(declaration.encode())

    def read_declaration(self) -> Declaration | None:
        """The declaration, or None where there is none.

        Raises:
            StorageError: the file is not JSON.
            DataFormatError: it is damaged otherwise.
        """
        value = self.read_sweep_json()
        return None if value is None else Declaration.decode(value, self.storage.where(self._path("sweep.json")))

    def read_sweep_json(self) -> Any | None:
        """What ``write_sweep_json`` kept, or None where there is nothing.

        Raises:
            StorageError: it is not JSON.
            DataFormatError: it is damaged otherwise: its digest is another one.
        """
        path = self._path("sweep.json")
        return unsealed(self.storage.read_json_optional(path), self.storage.where(path))

    def write_suggestions(self, trials: list[dict[str, Any]]) -> None:
        """Replaces ``suggestions.json``: a trial of every point that searches have suggested, in their order."""
        self.storage.write_json(self._path("suggestions.json"), sealed({"trials": trials}))

    def read_suggestions(self) -> list[dict[str, Any]]:
        """What ``write_suggestions`` wrote; empty where there is nothing.

        Raises:
            StorageError: the file is not JSON.
            DataFormatError: it is damaged otherwise.
        """
        path = self._path("suggestions.json")
        value = unsealed(self.storage.read_json_optional(path), self.storage.where(path))
        return list(value["trials"]) if isinstance(value, dict) else []

    def write_status(self, value: Any) -> None:
        """Replaces the heartbeat of the run."""
        self.storage.write_json(self._path("status.json"), value)

    def read_status(self) -> Any | None:
        """The last heartbeat, or None."""
        return self.storage.read_json_optional(self._path("status.json"))

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
