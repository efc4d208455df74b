"""The points of an adaptive search as the rows of its storage tell them: what was tried, in which order, how good.

The rows are the only memory of a search. A trial belongs to it when its specification is the one that the search makes
of a point of its space; others in the folder (of another space, other epochs) are left alone.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.results import query
from vaegen_ray.results.parquet import read_folder
from vaegen_ray.results.schema import TrialStatus, trials_schema
from vaegen_ray.results.store import SweepStore
from vaegen_ray.search.search import PointKey, PointRecord, PointStatus, Search, mean_curve, point_key
from vaegen_ray.search.space import Point
from vaegen_ray.spec.trial import TrialSpec


@dataclass(kw_only=True)
class History:
    """What is known of a search."""

    done: list[PointRecord] = field(default_factory=list)
    """Points all of whose seeds are committed, in the order in which the last of them was."""
    begun: list[PointRecord] = field(default_factory=list)
    """Points that have seeds to train, in the order in which they were suggested."""
    elbos: dict[str, dict[int, float]] = field(default_factory=dict)
    """The ELBO on validation of trials, by id and effective epoch."""
    statuses: dict[str, str] = field(default_factory=dict)
    """Of the trials of all these points that are committed, by id."""
    order: list[PointKey] = field(default_factory=list)
    """The points in the order in which they were suggested (``same``)."""

    def sorted(self, *more: PointRecord) -> list[PointRecord]:
        """The points that are done, and ``more``, in the order in which they were suggested."""
        places = {key: place for place, key in enumerate(self.order)}
        return sorted([*self.done, *more], key=lambda tried: places.get(point_key(tried.point), len(places)))

    @property
    def tried(self) -> list[PointRecord]:
        """All points, in the order in which they were suggested."""
        return self.sorted(*self.begun)

    def todo(self, search: Search, point: Point) -> tuple[TrialSpec, ...]:
        """The seeds of a point that are to be trained."""
        return tuple(spec for spec in search.specs(point) if spec.trial_id not in self.statuses)


def history(store: SweepStore, search: Search, *, retry_failed: bool = False) -> History:
    """What the storage knows of a search; nothing, where it has not begun.

    Args:
        retry_failed: failed trials do not count, so they are to do again.

    Raises:
        StorageError: the storage cannot be read.
    """
    known = History()
    if not (store.storage.exists(f"{store.name}/sweep.json") or "trials" in store.storage.folders(store.name)):
        return known
    results = query.load(store.storage, store.name)
    points: dict[tuple, Point] = {}
    """In the order in which the last trial of each was committed."""
    for row in results.trials.sort_values("finished_at").to_dict("records"):
        spec = _spec(row["spec_json"])
        point = search.find_point(spec) if spec and spec.trial_id == row["trial_id"] else None
        if point is not None and not (retry_failed and row["status"] == TrialStatus.FAILED):
            known.statuses[row["trial_id"]] = row["status"]
            points.pop(point_key(point), None)
            points[point_key(point)] = point
    known.elbos = _elbos(results.metrics)
    begun = {}
    for key, point in points.items():
        tried = judged(search, point, known)
        if tried.status == PointStatus.BEGUN:
            begun[key] = tried
        else:
            known.done.append(tried)
    finished = {point_key(tried.point) for tried in known.done}
    suggested = [point for spec in suggested_trials(store) if (point := search.find_point(spec)) is not None]
    order = {point_key(point): PointRecord(point=point) for point in suggested if point_key(point) not in finished}
    known.begun = list((order | begun).values())
    known.order = list(
        dict.fromkeys([*map(point_key, suggested), *(point_key(tried.point) for tried in known.done), *begun])
    )
    return known


def judged(search: Search, point: Point, known: History) -> PointRecord:
    """How a point stands by the rows of its trials."""
    ids = [spec.trial_id for spec in search.specs(point)]
    found = {known.statuses.get(trial_id, PointStatus.BEGUN) for trial_id in ids}
    curve = mean_curve(ids, known.elbos)
    if PointStatus.BEGUN in found:
        status = PointStatus.BEGUN
    elif TrialStatus.FAILED in found or not curve:
        status = PointStatus.FAILED
    else:
        status = PointStatus.COMPLETE if found == {TrialStatus.COMPLETED} else PointStatus.PRUNED
    return PointRecord(point=point, status=status, curve=curve)


def _elbos(metrics: pd.DataFrame) -> dict[str, dict[int, float]]:
    mine = metrics[metrics["elbo_validation"].notna()]
    found: dict[str, dict[int, float]] = {}
    for trial_id, epoch, elbo in mine[["trial_id", "effective_epoch", "elbo_validation"]].itertuples(index=False):
        found.setdefault(str(trial_id), {})[int(epoch)] = float(elbo)
    return found


def suggested_trials(store: SweepStore) -> list[TrialSpec]:
    """A trial of every point that searches in this folder have suggested, in the order of the suggestions.

    They are in ``suggestions.json``. Where that is damaged, or is of an earlier version, ``sweep.json`` declares the
    points of the search that was started last, and the commit rows that were set aside have those to do again.
    """
    reads = (store.read_suggestions, lambda: _read_declared(store), lambda: _read_set_aside(store))
    return [spec for read in reads for spec in _read_trials(read)]


def note_suggestions(store: SweepStore, trials: Sequence[TrialSpec]) -> None:
    """Adds trials to ``suggestions.json``, behind those of other searches.

    Raises:
        StorageError: the storage cannot be written.
    """
    ids = {spec.trial_id for spec in trials}
    others = [spec for spec in _read_trials(store.read_suggestions) if spec.trial_id not in ids]
    store.write_suggestions([spec.as_dict() for spec in (*others, *trials)])


def _read_declared(store: SweepStore) -> Sequence[dict[str, Any]]:
    declaration = store.read_declaration()
    return declaration.trials if declaration else ()


def _read_set_aside(store: SweepStore) -> list[dict[str, Any]]:
    """The specifications in commit rows that were set aside, since a file that they name is damaged."""
    tables, _ = read_folder(store.storage, f"{store.name}/set-aside", trials_schema())
    rows = [json.loads(text) for table in tables.values() for text in table["spec_json"].to_pylist()]
    return [{name: value for name, value in row.items() if name in TrialSpec.__dataclass_fields__} for row in rows]


def _read_trials(read: Callable[[], Sequence[dict[str, Any]]]) -> list[TrialSpec]:
    """The trials in a file; none where it is damaged."""
    try:
        return [TrialSpec.from_dict(each) for each in read()]
    except (DataFormatError, StorageError, LookupError, TypeError, AttributeError, ValueError):
        return []


def _spec(spec_json: str) -> TrialSpec | None:
    """The trial of a row, versions of the numerics left out; None where there can be no such trial."""
    try:
        values = json.loads(spec_json).items()
        return TrialSpec.from_dict({name: part for name, part in values if name in TrialSpec.__dataclass_fields__})
    except (TypeError, AttributeError, ValueError):
        return None
