"""What has to hold after a round: the rows of an undisturbed run, and nothing left behind."""

import signal
from pathlib import Path

import numpy as np
import pandas as pd

KEYS = {
    "trials": ["trial_id"],
    "metrics": ["trial_id", "effective_epoch"],
    "details": ["trial_id", "effective_epoch", "quantity", "item"],
}
VARIES = ["wall_seconds", "evaluation_seconds", "samples_wait_seconds", "node", "finished_at", "code_version", "files"]
"""Columns that differ between two undisturbed runs: times, the machine, and how metrics are divided into files."""
OF_BUNDLE = ["bundle_id", "bundle_members"]
"""Columns that say in which company a VAE was trained."""
TOLERANCE = 1e-2
"""Largest relative difference between a VAE's numbers in one bundle and in another, as after the halving of a bundle
whose workers were killed. Bundles promise 1e-4 after 50 steps; rounding grows in the thousands of steps here."""

EXPLAINED = {1: ("error: ", " left"), 2: ("error: ",), 143: ("SIGTERM",)}
"""Exit codes that a disturbed driver may have beside 0, and of what one must stand in its output. The signals that the
harness sends are the only others."""
SENT = (-signal.SIGKILL, -signal.SIGTERM)

Rows = dict[str, pd.DataFrame]


def read(folder: Path) -> Rows:
    """Trials, metrics and details of a sweep exactly as they lie in the files; nothing removed but ``VARIES``."""
    rows = {}
    for kind, keys in KEYS.items():
        frames = [pd.read_parquet(path) for path in sorted((folder / kind).glob("*.parquet"))]
        frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*keys, "bundle_id"])
        if "values" in frame:
            frame["values"] = frame["values"].map(tuple)
        rows[kind] = frame.drop(columns=[name for name in VARIES if name in frame]).sort_values(keys)
    return rows


def missing(rows: Rows, expected: Rows) -> list[str]:
    """What a run that ended as complete has not written."""
    faults = []
    for kind, keys in KEYS.items():
        lost = _keys(expected[kind], keys) - _keys(rows[kind], keys)
        if lost:
            faults.append(f"{len(lost)} of {len(expected[kind])} rows of {kind} are missing, such as {min(lost)}")
    return faults


def differences(rows: Rows, expected: list[Rows]) -> list[str]:
    """How the rows of a sweep differ from those of undisturbed runs of its commands, together.

    A VAE that was trained in the bundle in which an undisturbed run has it must have the same values; in other company
    the same up to ``TOLERANCE``.
    """
    faults = []
    for kind, keys in KEYS.items():
        found = rows[kind]
        wanted = pd.concat([each[kind] for each in expected], ignore_index=True)
        wanted = wanted.drop_duplicates([*keys, "bundle_id"])
        if double := int(found.duplicated(keys).sum()):
            faults.append(f"{double} rows of {kind} are there twice")
        lost, more = _keys(wanted, keys) - _keys(found, keys), _keys(found, keys) - _keys(wanted, keys)
        if lost:
            faults.append(f"{len(lost)} rows of {kind} are missing, such as {min(lost)}")
        if more:
            faults.append(f"{len(more)} rows of {kind} are in no undisturbed run, such as {min(more)}")
        if list(found.columns) != list(wanted.columns) and len(found):
            faults.append(f"{kind} has the columns {list(found.columns)} in place of {list(wanted.columns)}")
            continue
        faults += _value_differences(kind, keys, found.drop_duplicates(keys), wanted)
    return faults


def _keys(frame: pd.DataFrame, keys: list[str]) -> set[tuple]:
    return set(frame[keys].itertuples(index=False, name=None))


def _value_differences(kind: str, keys: list[str], found: pd.DataFrame, wanted: pd.DataFrame) -> list[str]:
    faults = []
    same = found.merge(wanted[[*keys, "bundle_id"]], on=[*keys, "bundle_id"])
    elsewhere = found[~found.set_index([*keys, "bundle_id"]).index.isin(same.set_index([*keys, "bundle_id"]).index)]
    for got, on, tolerance in ((same, [*keys, "bundle_id"], 0.0), (elsewhere, keys, TOLERANCE)):
        pair = got.merge(wanted.drop_duplicates(on), on=on, suffixes=("", "_wanted"))
        for name in found.columns.difference([*on, *OF_BUNDLE]):
            unequal = ~_equal(pair[name], pair[f"{name}_wanted"], tolerance)
            if unequal.any():
                row = pair[unequal].iloc[0]
                faults.append(
                    f"{int(unequal.sum())} values of {name} in {kind} differ: {row[name]!r} in place of "
                    f"{row[f'{name}_wanted']!r} for {[row[key] for key in keys]} in bundle {row['bundle_id']}"
                )
    return faults


def _equal(one: pd.Series, other: pd.Series, tolerance: float) -> np.ndarray:
    """Elementwise, where two missing values are equal. Numbers of a series, such as pixels from 0 to 1, may also differ
    by the tolerance absolutely."""
    if tolerance and one.map(lambda value: isinstance(value, tuple)).any():
        return np.array([np.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(one, other, strict=True)])
    if tolerance and pd.api.types.is_float_dtype(one):
        return np.isclose(one, other, rtol=tolerance, equal_nan=True)
    return ((one == other) | (one.isna() & other.isna())).to_numpy(bool)


def left_in_storage(storage: Path) -> list[str]:
    """Checkpoints, half-written files and leases that a finished storage still has."""
    kept = [*storage.glob("*/checkpoints/*"), *storage.glob("diffusion/*/checkpoint*")]
    hidden = [path for path in storage.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]
    leases = storage.glob("*/leases/*")
    return [f"{path.relative_to(storage)} is left" for path in (*kept, *hidden, *leases)]


def left_in_temporary(folder: Path, before: set[str]) -> list[str]:
    """Temporary folders of drivers and sessions of Ray."""
    there = [path for path in folder.iterdir() if path.name not in before]
    return [f"{path} is left" for path in (*there, *folder.glob("vaegen-ray-*/run-*"))]


def unexplained(code: int, said: str) -> list[str]:
    """What a driver that has ended did not explain: a traceback, an end without a reason.

    Args:
        code: its exit code; negative where a signal ended it.
        said: its stdout and stderr.
    """
    faults = []
    if "Traceback" in said:
        faults.append(f"showed a traceback: {said.strip().splitlines()[-1]}")
    if code not in (0, *SENT) and not any(reason in said for reason in EXPLAINED.get(code, ())):
        faults.append(f"ended with {code} and did not say why: {(said.strip().splitlines() or ['nothing'])[-1]}")
    return faults
