"""Reads the results of a sweep into pandas frames, during the run too.

    results = load("runs/double_descent")
    results.last().groupby("nc")["elbo_test"].mean()

Every row comes once and in an order that does not depend on how trials were packed into bundles. Fields that trials got
later than a file was written have their neutral values there, as in the trials' ids.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vaegen_ray.errors import StorageError, nearest
from vaegen_ray.results.groups import with_versions
from vaegen_ray.results.integrity import SCHEMAS, WholeTrials, left_out, whole_trials
from vaegen_ray.results.manifest import within
from vaegen_ray.results.parquet import SUFFIX, decoded_schema, parse_bundle_id, read_files, read_folder, result_files
from vaegen_ray.results.schema import DETAILS, METRICS, TrialStatus, trials_schema
from vaegen_ray.results.storage import Storage
from vaegen_ray.spec.trial import ADDED


@dataclass(frozen=True)
class Results:
    """The results of one sweep. A null is NaN, so a column of whole numbers that has nulls comes as floats."""

    trials: pd.DataFrame
    """A row a finished trial, sorted by ``trial_id``; columns: ``schema.trials_schema``."""
    metrics: pd.DataFrame
    """A row a trial and evaluation, sorted by ``trial_id`` (a categorical) and ``effective_epoch``; columns:
    ``schema.METRICS``."""
    notes: tuple[str, ...]
    """One line a file that could not be read and was skipped, and one a bundle that was left out because a file that
    its commit rows name is missing or another one."""

    def curves(self) -> pd.DataFrame:
        """One row a completed trial and evaluation: its columns, then its metrics, by rising trial and epoch."""
        completed = self.trials[self.trials["status"] == TrialStatus.COMPLETED]
        metrics = self.metrics.drop(columns="bundle_id")
        metrics = metrics.assign(trial_id=metrics["trial_id"].astype(completed["trial_id"].dtype))
        return completed.merge(metrics, on="trial_id", suffixes=("", "_metrics"))

    def lean(self) -> "Results":
        """The same with the texts of trials as categories, and with columns for versions (``groups.with_versions``): a
        table of a row a trial and evaluation then takes a tenth of the memory."""
        trials = with_versions(self.trials)
        texts = {name: "category" for name in trials if trials[name].dtype == "str" and name != "trial_id"}
        return replace(self, trials=trials.astype(texts))

    def last(self, status: str = TrialStatus.COMPLETED) -> pd.DataFrame:
        """One row a trial with this status: its columns, its metrics at its last effective epoch.

        The last epoch of a completed trial is the one that its specification declares; where there are no metrics of
        this epoch, they are null. ``elbo_samples`` is what the specification asks for; ``elbo_samples_metrics`` is what
        the evaluation took.
        """
        trials = self.trials[self.trials["status"] == status]
        final = self.metrics.drop_duplicates("trial_id", keep="last").drop(columns="bundle_id")
        final = final.assign(trial_id=final["trial_id"].astype(trials["trial_id"].dtype))
        if status == TrialStatus.COMPLETED:
            declared = final["trial_id"].map(trials.set_index("trial_id")["epochs"])
            final = final[final["effective_epoch"] == declared]
        return trials.merge(final, on="trial_id", how="left", suffixes=("", "_metrics"))


def load(path: str | Path | Storage, sweep: str | None = None, *, committed_only: bool = False) -> Results:
    """The results below ``path``.

    Args:
        path: the storage, when ``sweep`` names the sweep in it; otherwise the folder of the sweep itself.
        committed_only: leave out the metrics of trials that have no row in ``trials/`` yet.

    Raises:
        StorageError: there is no sweep, or the storage cannot be read.
        DataFormatError: a file was written by a later version of vaegen_ray.
    """
    storage = path if isinstance(path, Storage) else Storage.open(path, create=False)
    base = f"{sweep}/" if sweep else ""
    _check_is_sweep(storage, sweep or "")
    whole = whole_trials(storage, sweep or "", tuple(SCHEMAS))
    tables, corrupt = _load_metrics(storage, base, whole)
    notes, trial_tables = [*whole.notes], dict(whole.tables)
    for name, reason in corrupt.items():
        mark = parse_bundle_id(name) + SUFFIX
        where = storage.where(f"{base}metrics/{name}")
        if name in within(whole.manifests.get(parse_bundle_id(name), {}), "metrics") and mark in trial_tables:
            rows = len(trial_tables.pop(mark))
            notes.append(left_out(storage.where(f"{base}trials/{mark}"), rows, f"metrics/{name}", reason))
        elif parse_bundle_id(name) not in whole.left_out:
            notes.append(f"{where} was skipped: {reason}")
    trials = unique_trials(joined(trial_tables, trials_schema()))
    metrics = unique_metrics(list(tables.values()), trials)
    if committed_only:
        metrics = metrics[metrics["trial_id"].isin(trials["trial_id"])].reset_index(drop=True)
        metrics = metrics.assign(trial_id=metrics["trial_id"].cat.remove_unused_categories())
    return Results(trials.drop(columns="files"), metrics, tuple(notes))


def _load_metrics(storage: Storage, base: str, whole: WholeTrials) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """The files of metrics that count, as ``read_files`` gives them: those that commit rows name, and all of bundles
    whose rows name none. A file of a committed bundle that is not named was written after the commit."""
    facts = {name: fact for manifest in whole.manifests.values() for name, fact in within(manifest, "metrics").items()}
    names = result_files(storage, f"{base}metrics")
    counted = [name for name in names if name in facts or parse_bundle_id(name) not in whole.manifests]
    return read_files(storage, f"{base}metrics", counted, METRICS, dictionaries=True, facts=facts)


def load_details(
    path: str | Path | Storage, trials: pd.DataFrame, sweep: str | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The series of numbers that evaluations left: columns of ``schema.DETAILS``, sorted by all but the values; and one
    line a file that could not be read and was skipped.

    Args:
        path, sweep: as for ``load``.
        trials: rows of ``Results.trials``; only what their committing bundles wrote is given.

    Raises:
        StorageError: the storage cannot be read.
        DataFormatError: a file was written by a later version of vaegen_ray.
    """
    storage = path if isinstance(path, Storage) else Storage.open(path, create=False)
    folder = f"{sweep}/details" if sweep else "details"
    tables, corrupt = ({}, {}) if trials.empty else read_folder(storage, folder, DETAILS)
    details = joined(tables, DETAILS).to_pandas()
    keys = ["trial_id", "effective_epoch", "quantity", "item"]
    mine = details.merge(trials[["trial_id", "bundle_id"]], on=["trial_id", "bundle_id"])
    notes = tuple(f"{storage.where(f'{folder}/{name}')} was skipped: {reason}" for name, reason in corrupt.items())
    return mine.drop_duplicates(keys).sort_values(keys).reset_index(drop=True), notes


def _check_is_sweep(storage: Storage, folder: str) -> None:
    def is_sweep(place: str) -> bool:
        return bool({"trials", "metrics"} & set(storage.folders(place))) or "sweep.json" in storage.list(place)

    if not is_sweep(folder):
        sweeps = [name for name in storage.folders() if is_sweep(name)]
        there = f"sweeps in {storage.where()}: {', '.join(sweeps)}"
        hint = there if sweeps else "it has no trials/, metrics/ or sweep.json"
        raise StorageError(f"no results of a sweep in {storage.where(folder)}{nearest(folder, sweeps)}; {hint}")


def joined(tables: dict[str, pa.Table], schema: pa.Schema) -> pa.Table:
    """The rows of all tables. Texts are printed and drawn, so a space stands for what could steer a terminal."""
    table = pa.concat_tables([decoded_schema(schema).empty_table(), *tables.values()])
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            values = table[i].combine_chunks().dictionary_encode()  # most values repeat
            cleaned = pc.replace_substring_regex(values.dictionary, r"\pC+", " ")
            table = table.set_column(i, field, cleaned.take(values.indices))
    return table


def unique_trials(table: pa.Table) -> pd.DataFrame:
    """One row a trial, by rising id: a completed one before a failed one, then the one that finished later."""
    for name, neutral in ADDED.items():
        if neutral is not None and table[name].null_count:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(place), pc.fill_null(table[name], neutral))
    frame = table.to_pandas()
    frame["completed"] = frame["status"] == TrialStatus.COMPLETED
    frame = frame.sort_values(["trial_id", "completed", "finished_at", "bundle_id"], na_position="first")
    return frame.drop_duplicates("trial_id", keep="last").drop(columns="completed").reset_index(drop=True)


def unique_metrics(tables: list[pa.Table], trials: pd.DataFrame) -> pd.DataFrame:
    """One row a trial and epoch, by rising id and epoch; rows of the bundle that committed the trial win."""
    empty = decoded_schema(METRICS, dictionaries=True).empty_table()
    table = pa.concat_tables([empty, *tables]).unify_dictionaries()
    trial_names, trial = _sorted_codes(table["trial_id"])
    bundle_names, bundle = _sorted_codes(table["bundle_id"])
    epoch = table["effective_epoch"].to_numpy()
    order = np.lexsort((epoch, trial))
    first = _first_of_run(trial[order], epoch[order])
    if not first.all():
        committer = trials.set_index("trial_id")["bundle_id"].reindex(trial_names)
        committed_by = pd.Index(bundle_names).get_indexer(committer)  # a trial's bundle; -1: not committed
        order = np.lexsort((bundle, committed_by[trial] != bundle, epoch, trial))
        order = order[_first_of_run(trial[order], epoch[order])]
    ids = {
        "trial_id": pd.Categorical.from_codes(trial[order], trial_names),
        "bundle_id": pd.Categorical.from_codes(bundle[order], bundle_names),
    }
    return pd.DataFrame({name: ids[name] if name in ids else table[name].to_numpy()[order] for name in METRICS.names})


def _sorted_codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The distinct values in order, and for every row the place of its value in them."""
    array = column.combine_chunks()
    names = array.dictionary.to_pylist()
    by_name = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    place = np.empty_like(by_name)
    place[by_name] = np.arange(len(names))
    return [names[i] for i in by_name], place[array.indices.to_numpy()]


def _first_of_run(trial: np.ndarray, epoch: np.ndarray) -> np.ndarray:
    """Marks the rows that differ in trial or epoch from the row before."""
    first = np.ones(len(trial), dtype=bool)
    first[1:] = (trial[1:] != trial[:-1]) | (epoch[1:] != epoch[:-1])
    return first
