"""What is deleted or moved in a storage, by whom, and when. No other code does; a test compares the list with the code.

Nobody deletes what a live driver (``results.leases``) works on, or what a checkpoint stands for, whatever he himself
declared.
"""

from collections.abc import Collection
from itertools import count

from vaegen_ray.errors import StorageError
from vaegen_ray.results.integrity import SCHEMAS, Fault, find_faults
from vaegen_ray.results.parquet import A_DIRECTORY, SUFFIX, misplaced, parse_bundle_id, result_files
from vaegen_ray.results.store import WEIGHTS, SweepStore

REMOVALS = {
    "results.cleanup.quarantine": "A driver at its start, but not for bundles of live drivers: damaged files, and "
    "commit rows that name a damaged or missing file with the other metrics of their bundle, go to set-aside/.",
    "results.cleanup._move_evaluations": "quarantine.",
    "results.cleanup._move_directories": "quarantine: directories that stand where files of the sweep should.",
    "results.cleanup.prune": "A driver at its start, but not for bundles of live drivers: checkpoints of bundles all "
    "of whose trials are committed; metrics of bundles without a checkpoint that it does not train itself.",
    "results.leases.delete_lease": "A driver: its own lease at its end, those of dead drivers at its start.",
    "results.storage.Storage.probe": "The process that wrote the file, at once.",
    "results.store.SweepStore.archive": "A driver with --fresh, where no other driver lives: the sweep is renamed.",
    "results.checkpoints.CheckpointFiles.delete_checkpoint": "The worker that has committed the bundle or trains its "
    "halves; the driver of a search that has pruned the point; prune.",
    "results.store.SweepStore.delete_metrics": "The worker that trains the halves of the bundle in its place; prune.",
    "results.store.SweepStore.forget": "A driver with --retry-failed: commit rows of failed trials that no live driver "
    "trains.",
    "results.cleanup._prune_starts": "prune: notes on bundles all of whose trials are committed.",
    "results.checkpoints.CheckpointFiles.set_aside": "quarantine; a worker or driver that reads a damaged checkpoint.",
    "results.diffusions.DiffusionStore.delete_training": "The worker that has committed the diffusion model.",
    "results.diffusions.DiffusionStore.set_aside": "A process that reads a damaged file of a diffusion model.",
    "results.shards.ShardStore.set_aside": "A process that reads a damaged shard of samples, which is made again.",
    "results.shards.ShardStore.delete": "`vaegen samples --prune`.",
    "service.worker.attempts.Starts.forget": "The worker or the search driver that has committed the bundle; prune.",
    "doctor.cluster": "`vaegen doctor`: the files that it has written itself.",
}
"""Function -> who calls it when."""
FOLDERS_OF_FILES = ("trials", *SCHEMAS, "checkpoints", "models", "starts", "given-up")
"""Folders of a sweep that hold files alone."""


def quarantine(store: SweepStore, held: Collection[str]) -> None:
    """Moves what is damaged to ``set-aside/``, and notes every file and its reason in ``store.set_aside_notes``.

    A bundle whose commit rows name a file that is damaged or missing loses these rows and its other metrics and
    details, so that its trials are to do again; of an unfinished bundle the worker writes the file again from its
    checkpoint. A directory in place of a file is moved too.

    Args:
        held: ids of the trials of live drivers, whose bundles are left alone.
    """
    _move_directories(store)
    busy = _find_bundles(store, held)
    by_bundle: dict[str, list[Fault]] = {}
    for fault in find_faults(store.storage, store.name, digests_of=tuple(SCHEMAS)):
        if fault.bundle not in busy:
            by_bundle.setdefault(fault.bundle, []).append(fault)
    for bundle, faults in by_bundle.items():
        is_committed = any(fault.committed for fault in faults)
        damaged = [fault for fault in faults if fault.is_there]
        if is_committed and not any(fault.folder == "trials" for fault in damaged):
            store.set_aside("trials", bundle + SUFFIX, f"{faults[0].path}: {faults[0].reason}")
        for fault in damaged:
            store.set_aside(fault.folder, fault.name, fault.reason)
        if is_committed:
            _move_evaluations(store, bundle)


def prune(store: SweepStore, *, mine: Collection[str], held: Collection[str]) -> None:
    """Deletes what finished and abandoned bundles left, so that no trial has rows in the files of two bundles.

    Args:
        mine: the bundles that this driver trains.
        held: ids of the trials of live drivers.
    """
    begun, starts = store.begun_bundles(), store.storage.list(f"{store.name}/starts", ".json")
    if not begun and not starts:
        return
    checkpoints, committed, marks, busy = set(store.checkpoints()), store.committed(), store.marks(), set(held)
    for bundle, members in begun.items():
        is_done = committed.issuperset(members)
        is_abandoned = bundle not in checkpoints and bundle not in mine
        if busy.isdisjoint(members) and (is_done or is_abandoned):
            if bundle not in marks:
                store.delete_metrics(bundle)
            store.delete_checkpoint(bundle)  # with the list of members, which goes last
    _prune_starts(store, starts, committed)


def _prune_starts(store: SweepStore, names: Collection[str], committed: Collection[str]) -> None:
    """Deletes the notes on starts (``service.worker.attempts``) of bundles that are done, and damaged ones."""
    for name in names:
        path = f"{store.name}/starts/{name}"
        try:
            trial_ids = store.storage.read_json(path)["trial_ids"]
        except (StorageError, LookupError, TypeError):  # damaged
            trial_ids = []
        if set(committed).issuperset(trial_ids):
            store.storage.delete(path)


def _move_directories(store: SweepStore) -> None:
    """Moves directories that stand in place of files of a sweep to names in ``set-aside/`` that are free."""
    for folder in (store.name, *(f"{store.name}/{name}" for name in FOLDERS_OF_FILES)):
        for name in misplaced(store.storage, folder, SUFFIX, WEIGHTS, ".json"):
            aside = f"{store.name}/set-aside/{name}"
            targets = (f"{aside}.{n}" if n else aside for n in count())
            store.storage.move_folder(
                f"{folder}/{name}", next(path for path in targets if not store.storage.exists(path))
            )
            store.set_aside_notes.append(f"{store.storage.where(f'{folder}/{name}')} was set aside: {A_DIRECTORY}")


def _find_bundles(store: SweepStore, trial_ids: Collection[str]) -> set[str]:
    """The unfinished bundles that one of these trials is in."""
    return {bundle for bundle, members in store.begun_bundles().items() if not set(trial_ids).isdisjoint(members)}


def _move_evaluations(store: SweepStore, bundle: str) -> None:
    """Moves what is left of the metrics and details of a bundle to ``set-aside/``."""
    for folder in SCHEMAS:
        for name in result_files(store.storage, f"{store.name}/{folder}"):
            if parse_bundle_id(name) == bundle:
                store.storage.move(f"{store.name}/{folder}/{name}", f"{store.name}/set-aside/{folder}-{name}")
