"""Two sweeps side by side: are their rows equal, and how far are the points apart that both measured?

A trial that is in both has the same ``trial_id``, so its rows should be the same wherever it was trained (to the bit on
CPUs of one kind). A point is a specification without the seed; its difference is that of the means over seeds, paired
where seeds are shared (``statistics.difference``).
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from vaegen_ray.analysis.over_seeds import POINT
from vaegen_ray.analysis.statistics import POSITIVE, NotEnoughRuns, by_seed, compute_interval, difference
from vaegen_ray.errors import DataFormatError, SpecError
from vaegen_ray.results.groups import VERSIONS, find_values, mixed, with_versions
from vaegen_ray.spec.trial import ADDED, TrialSpec

OF_TRIAL = ("status", "failed_epoch", "params_z", "params_rest", "samples_digest")
"""Columns of a trial that its specification should determine; times and machines differ from run to run."""
EVALUATION = ("trial_id", "effective_epoch")
SERIES = (*EVALUATION, "quantity", "item")


@dataclass(frozen=True)
class Side:
    """What one of the two sweeps found (``results.query``)."""

    where: str
    trials: pd.DataFrame
    metrics: pd.DataFrame
    details: pd.DataFrame
    last: pd.DataFrame


@dataclass(frozen=True)
class Rows:
    """How the rows of the trials that both have compare."""

    both: tuple[str, ...]
    """Trials that both have; then those of one side."""
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    evaluations: int
    """Evaluations of trials that both have, on either side."""
    differences: pd.DataFrame
    """A row a column with values that differ: ``column``, ``rows`` and ``trials`` that differ, and where the difference
    is largest: ``largest``, ``relative`` to the larger of the two, ``trial_id``, ``effective_epoch``. NaN where a side
    has no number."""

    @property
    def equal(self) -> bool:
        """Whether both hold the same trials with the same rows."""
        return not self.only_a and not self.only_b and self.differences.empty


def compare_rows(a: Side, b: Side, measured: Sequence[str], tolerance: float = 0.0) -> Rows:
    """Compares the rows of trials that both have, value by value; two missing values are equal.

    Args:
        measured: the columns of ``metrics`` to compare.
        tolerance: largest difference that counts as none, relative to the larger of the two numbers.
    """
    ids_a, ids_b = set(a.trials["trial_id"]), set(b.trials["trial_id"])
    both = ids_a & ids_b
    trials = _joined(a.trials, b.trials, ("trial_id",), OF_TRIAL, both).assign(effective_epoch=np.nan)
    measured = [name for name in measured if any(side.metrics[name].notna().any() for side in (a, b))]
    metrics = _joined(a.metrics, b.metrics, EVALUATION, measured, both)
    details = _joined(a.details, b.details, SERIES, ("values",), both)
    found = [_differences(trials, name, name, tolerance) for name in OF_TRIAL]
    found += [_differences(metrics, name, name, tolerance) for name in measured]
    found += [_differences(part, "values", str(name), tolerance) for name, part in details.groupby("quantity")]
    found += [_count_one_side(table, what) for table, what in ((metrics, "evaluation"), (details, "series"))]
    return Rows(
        both=tuple(sorted(both)),
        only_a=tuple(sorted(ids_a - both)),
        only_b=tuple(sorted(ids_b - both)),
        evaluations=len(metrics),
        differences=pd.DataFrame([each for each in found if each]),
    )


def compare_points(
    a: Side, b: Side, metrics: Sequence[str], ignore: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """The difference, B minus A, of the means over seeds at the points that both measured.

    Args:
        metrics: columns of numbers; taken from the last evaluation of each completed trial.
        ignore: fields in which the trials of a point may differ between A and B, beside the seed.

    Returns:
        A row a point, sorted: its specification (JSON where a field has parts); of each metric its mean in A and in B
        (``_a``, ``_b``), ``_difference``, ``_low``, ``_high`` (NaN without an interval), ``_seeds`` in words. And the
        names of the fields of the specification.

    Raises:
        SpecError: the trials of a point on one side differ in more than the seed.
        DataFormatError: a trial does not say what its specification is.
    """
    apart = [field.name for field in fields(TrialSpec) if field.name not in ("seed", *ignore)]
    sides = [_by_point(side, apart) for side in (a, b)]
    for letter, points in zip("AB", sides, strict=True):
        _check_alike(letter, points)
    rows = []
    for point, of_a in sides[0].items():
        if point not in sides[1]:
            continue
        row: dict[str, Any] = dict(zip(apart, point, strict=True))
        for name in metrics:
            row |= _difference(of_a, sides[1][point], name)
        rows.append(row)
    if not rows:
        return pd.DataFrame(), apart
    points = pd.DataFrame(rows)
    varying = [name for name in (*POINT, *apart) if name in apart and points[name].nunique(dropna=False) > 1]
    return points.sort_values(varying, ignore_index=True) if varying else points, apart


def separating(a: Side, b: Side) -> list[str]:
    """The fields in which no completed trial of A is like one of B; both have some."""
    apart = [field.name for field in fields(TrialSpec) if field.name != "seed"]
    of_a, of_b = (list(zip(*_by_point(side, apart), strict=True)) for side in (a, b))
    return [name for name, x, y in zip(apart, of_a, of_b, strict=True) if not set(x) & set(y)]


def _joined(
    a: pd.DataFrame, b: pd.DataFrame, keys: Sequence[str], columns: Sequence[str], trials: set[str]
) -> pd.DataFrame:
    """Columns of the rows of both side by side, ``_a`` and ``_b``, and ``side``, which says where a row is: both,
    left_only (A) or right_only."""
    words = {key: object for key in keys if key != "effective_epoch"}
    kept = [each.loc[each["trial_id"].isin(trials), [*keys, *columns]].astype(words) for each in (a, b)]
    return kept[0].merge(kept[1], on=list(keys), how="outer", suffixes=("_a", "_b"), indicator="side")


def _count_one_side(joined: pd.DataFrame, what: str) -> dict[str, Any] | None:
    """Rows that only one side has."""
    lone = joined[joined["side"] != "both"]
    if lone.empty:
        return None
    sides = " and ".join(side for side, of in (("A", "left_only"), ("B", "right_only")) if (lone["side"] == of).any())
    return _said(f"{what} in {sides} alone", lone, np.full(len(lone), np.nan), np.full(len(lone), np.nan))


def _differences(joined: pd.DataFrame, column: str, name: str, tolerance: float) -> dict[str, Any] | None:
    """The line of a column whose values differ, or None."""
    rows = joined[joined["side"] == "both"]
    a, b = rows[f"{column}_a"], rows[f"{column}_b"]
    if column == "values":
        found = [_compare_series(x, y, tolerance) for x, y in zip(a, b, strict=True)]
        differ = np.array([each is not None for each in found], dtype=bool)
        gaps, sizes = np.array([each or (0.0, 0.0) for each in found], dtype=float).reshape(-1, 2).T
    elif pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
        x, y = a.to_numpy(dtype=float, na_value=np.nan), b.to_numpy(dtype=float, na_value=np.nan)
        differ, gaps, sizes = _unequal(x, y, tolerance)
    else:
        differ = ~((a == b) | (a.isna() & b.isna())).to_numpy(dtype=bool, na_value=False)
        gaps = sizes = np.full(len(rows), np.nan)
    if not differ.any():
        return None
    return _said(name, rows[differ], gaps[differ], sizes[differ])


def _said(name: str, rows: pd.DataFrame, gaps: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    worst = int(np.nanargmax(gaps)) if np.isfinite(gaps).any() else 0
    return {
        "column": name,
        "rows": len(rows),
        "trials": rows["trial_id"].nunique(),
        "largest": gaps[worst],
        "relative": gaps[worst] / sizes[worst] if 0 < sizes[worst] < np.inf else np.nan,
        "trial_id": rows["trial_id"].iloc[worst],
        "effective_epoch": rows["effective_epoch"].iloc[worst],
    }


def _unequal(x: np.ndarray, y: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where two arrays differ, how far, and the larger of the numbers there; NaN where one has no number."""
    with np.errstate(invalid="ignore"):
        gaps, sizes = abs(x - y), np.fmax(abs(x), abs(y))
        same = (x == y) | (np.isnan(x) & np.isnan(y)) | (np.isfinite(gaps) & (gaps <= tolerance * sizes))
    return ~same, gaps, sizes


def _compare_series(a: Any, b: Any, tolerance: float) -> tuple[float, float] | None:
    """The largest difference between the places of two series that differ, and the larger of the numbers there; NaN
    where they cannot be compared, None where no place differs."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(x) != len(y):
        return np.nan, np.nan
    differ, gaps, sizes = _unequal(x, y, tolerance)
    if not differ.any():
        return None
    at = int(np.argmax(gaps[differ]))  # a NaN counts as the largest
    return float(gaps[differ][at]), float(sizes[differ][at])


def _by_point(side: Side, apart: Sequence[str]) -> dict[tuple, pd.DataFrame]:
    """Point -> its rows, in order; from ``spec_json``, in which fields that came later are neutral, not null."""
    points: dict[tuple, list[int]] = {}
    last = with_versions(side.last)
    for place, text in enumerate(last["spec_json"]):
        try:
            spec = {**ADDED, **json.loads(text)}
        except (ValueError, TypeError, RecursionError) as error:
            trial = side.last["trial_id"].iloc[place]
            raise DataFormatError(f"trial {trial} in {side.where} has no specification in JSON: {error}") from None
        values = (spec.get(name) for name in apart)
        point = tuple(json.dumps(part) if isinstance(part, (list, dict)) else part for part in values)
        points.setdefault(point, []).append(place)
    return {point: last.iloc[places] for point, places in points.items()}


def _check_alike(letter: str, points: dict[tuple, pd.DataFrame]) -> None:
    """Refuses points whose trials on one side differ in more than the seed: fields to ignore, or versions."""
    for rows in points.values():
        if fields := mixed(rows, ()):
            differ = " and ".join(f"{name} ({find_values(rows, name)})" for name in fields)
            ignored = [name for name in fields if name not in VERSIONS]
            hint = f"ignore less than {', '.join(ignored)}" if ignored else "no telling which are to be compared"
            raise SpecError(
                f"a mean of {letter} must be over trials that differ in the seed alone; got trials of one point that "
                f"also differ in {differ}: {hint}"
            )


def _difference(a: pd.DataFrame, b: pd.DataFrame, name: str) -> dict[str, Any]:
    found = {f"{name}_{part}": np.nan for part in ("a", "b", "difference", "low", "high")} | {f"{name}_seeds": "-"}
    if not (_measured(a, name) and _measured(b, name)):
        return found
    of_a, of_b = by_seed(a, name), by_seed(b, name)
    statistic = difference(name, "", of_b, of_a, POSITIVE)
    found[f"{name}_seeds"] = f"{len(of_a)} and {len(of_b)} seeds, not paired"
    if statistic.against is None:  # paired: of the seeds that both have
        found[f"{name}_seeds"] = statistic.seeds
        of_a, of_b = of_a[list(statistic.values)], of_b[list(statistic.values)]
    mean_a, mean_b = float(of_a.mean()), float(of_b.mean())
    found |= {f"{name}_a": mean_a, f"{name}_b": mean_b, f"{name}_difference": mean_b - mean_a}
    with suppress(NotEnoughRuns):
        found[f"{name}_difference"], found[f"{name}_low"], found[f"{name}_high"] = compute_interval(statistic)
    return found


def _measured(rows: pd.DataFrame, name: str) -> bool:
    return bool(np.isfinite(rows[name].to_numpy(dtype=float, na_value=np.nan)).any())
