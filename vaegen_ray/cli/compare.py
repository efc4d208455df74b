"""``vaegen compare``."""

import argparse
import math
import sys
from typing import TYPE_CHECKING

from vaegen_ray.cli.completers import field_names, other_sweep_names, sweep_names
from vaegen_ray.cli.parts import (
    Commands,
    add_columns,
    add_metrics,
    add_results_storage,
    check_columns,
    command,
    completes,
)
from vaegen_ray.cli.tables import fitted
from vaegen_ray.errors import VaegenError

if TYPE_CHECKING:
    import pandas as pd

    from vaegen_ray.analysis.compare import Rows, Side

EQUAL, DIFFERENT = 0, 1
"""Exit codes, those of diff; 2 is an error."""


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "compare", run, "two sweeps: are their rows equal, is B better than A (exit code as diff)")
    completes(made.add_argument("a", metavar="A", help="a sweep"), sweep_names)
    completes(made.add_argument("b", metavar="B", help="another, or the same in --storage-b"), other_sweep_names)
    add_results_storage(made)
    made.add_argument("--storage-b", metavar="DIR_OR_URI", help="where B is [default: where A is]")
    add_metrics(made, "numbers whose means are compared")
    add_columns(
        made,
        "--ignore",
        field_names,
        "fields of a trial, beside the seed, in which A and B may differ where their means are compared",
    )
    made.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.0,
        metavar="R",
        help="largest difference that counts as none, relative to the larger number [default: 0, to the bit]",
    )


def run(options: argparse.Namespace) -> int:
    """Compares; the exit code says whether all trials and rows are equal."""
    from vaegen_ray.analysis import over_seeds
    from vaegen_ray.analysis.compare import compare_points, compare_rows, separating
    from vaegen_ray.results.schema import MEASURED
    from vaegen_ray.spec.trial import TrialSpec

    metrics = options.metrics or over_seeds.METRICS
    for option, given, there, what in (
        ("--metrics", metrics, MEASURED, "columns of what is measured"),
        ("--ignore", options.ignore, tuple(TrialSpec.__dataclass_fields__), "fields of a trial"),
    ):
        check_columns(option, given, there, what, ", ".join(there))
    a = _side(options.storage, options.a)
    b = _side(options.storage if options.storage_b is None else options.storage_b, options.b)
    rows = compare_rows(a, b, MEASURED, options.tolerance)
    points, fields = compare_points(a, b, metrics, options.ignore)
    for letter, side in (("A", a), ("B", b)):
        print(f"{letter}       {side.where}: {len(side.trials)} trials, {len(side.metrics)} evaluations")
    print(f"trials  {len(rows.both)} in both, {len(rows.only_a)} in A alone, {len(rows.only_b)} in B alone")
    if rows.both:
        print(_compare_rows(rows, options.tolerance))
    if rows.equal:
        return EQUAL
    if empty := [letter for letter, side in (("A", a), ("B", b)) if side.last.empty]:
        print(f"points  none; no trial of {' and of '.join(empty)} is completed")
    elif points.empty:
        apart = ", ".join(separating(a, b)) or "no field alone"
        print(f"points  none that both have; A and B have nothing in common in {apart} (see --ignore)")
    else:
        print(_compare_points(points, fields, metrics))
    return DIFFERENT


def _side(location: str, name: str) -> "Side":
    from vaegen_ray.analysis.compare import Side
    from vaegen_ray.results import query
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import safe_name

    storage = Storage.open(location, create=False)
    sweep = safe_name("the name of a sweep", name)
    results = query.load(storage, sweep, committed_only=True)
    details, skipped = query.load_details(storage, results.trials, sweep)
    for note in results.notes + skipped:
        print(note, file=sys.stderr)
    if results.trials.empty:
        raise VaegenError(f"no trial of {sweep} in {storage.where(sweep)} is committed yet")
    return Side(storage.where(sweep), results.trials, results.metrics, details, results.last())


def _compare_rows(rows: "Rows", tolerance: float) -> str:
    how = f"within {tolerance:g} of the larger number" if tolerance else "to the bit"
    if rows.differences.empty:
        return f"rows    of the trials in both are equal, {how} ({rows.evaluations} evaluations)"
    lines = [["column", "rows", "trials", "largest difference", "relative", "in trial", "at epoch"]]
    for each in rows.differences.itertuples():
        largest = "not numbers of both" if math.isnan(each.largest) else _number(each.largest)
        numbers = [largest, _number(each.relative)]
        lines.append(
            [each.column, str(each.rows), str(each.trials), *numbers, each.trial_id, _number(each.effective_epoch)]
        )
    return f"rows    of the trials in both differ (compared {how}):\n{fitted(lines)}"


def _compare_points(points: "pd.DataFrame", fields: list[str], metrics: "tuple[str, ...]") -> str:
    """What is apart at the points that both have, and how often B is higher."""
    from vaegen_ray.cli.shown import build_rows, find_columns, plus_minus

    gaps = points[[f"{name}_difference" for name in metrics]].set_axis(list(metrics), axis=1)
    lacking = [name for name in metrics if gaps[name].isna().all()]
    notes = [f"{', '.join(lacking)}: not measured by both at any point"] if lacking else []
    metrics = tuple(name for name in metrics if name not in lacking)
    apart = (gaps.notna() & gaps.ne(0)).any(axis=1)
    if not apart.any():
        means = ", with equal means of the same seeds" if metrics else ""
        return "\n".join([f"points  {len(points)} that both have{means}", *notes])
    said = [f"points  {len(points)} that both have, {int(apart.sum())} with means that differ"]
    specifications = find_columns(points, fields)
    points = points[apart]
    columns = {
        name: [word for word, shown in zip(words, apart, strict=True) if shown]
        for name, words in specifications.items()
        if len(set(words)) > 1
    }
    seeds = {name: [words.replace(" seeds", "") for words in points[f"{name}_seeds"]] for name in metrics}
    alike = all(words == seeds[metrics[0]] for words in seeds.values())
    for name in metrics:
        columns["seeds" if alike else f"{name} seeds"] = seeds[name]
        gaps, low, high = (points[f"{name}_{part}"] for part in ("difference", "low", "high"))
        higher, lower = low > 0, high < 0
        cells = plus_minus(gaps.tolist(), (high - gaps).tolist())
        columns[f"{name} A"] = [_number(mean, 5) for mean in points[f"{name}_a"]]
        columns[f"{name} B - A"] = [
            f"{cell} *" if sure else cell for cell, sure in zip(cells, higher | lower, strict=True)
        ]
        undecided = int(gaps.notna().sum()) - int(higher.sum()) - int(lower.sum())
        said.append(f"{name}: B is higher at {higher.sum()}, lower at {lower.sum()}, undecided at {undecided}")
    said.insert(1, "B - A, mean ± half of its 95 % interval over seeds; *: without 0")
    return "\n".join([*said[:2], fitted(build_rows(columns)), *said[2:], *notes])


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def _tolerance(text: str) -> float:
    """A type for numbers from 0 up to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number >= 0 and < 1, such as 1e-4; got {text!r}")
    return value
