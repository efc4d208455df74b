"""``vaegen results``."""

import argparse
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from vaegen_ray.cli.completion import field_names, metric_names, sweep_names
from vaegen_ray.cli.parts import Commands, add_results_storage, command, completes, names
from vaegen_ray.errors import SpecError, VaegenError

if TYPE_CHECKING:
    import pandas as pd

    from vaegen_ray.results.query import Results

FORMATS = ("table", "csv", "json", "parquet", "markdown")
BEST = "elbo_test"
"""What ``--epoch best`` goes by."""


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "results", run, "what a sweep found, over the seeds, by SQL, or as a file")
    completes(made.add_argument("sweep", metavar="SWEEP", help="such as double_descent"), sweep_names)
    add_results_storage(made)
    by = made.add_argument(
        "--by",
        type=names,
        metavar="COLUMN,...",
        help="a row for each value of these columns [default: dataset, method, nc, mz and what else trials differ in]",
    )
    completes(by, field_names)
    metrics = made.add_argument(
        "--metrics",
        type=names,
        metavar="COLUMN,...",
        help="numbers to average, each with its 95 %% interval over seeds [default: elbo_test,generalization_gap]",
    )
    completes(metrics, metric_names)
    made.add_argument(
        "--epoch",
        type=_epoch,
        metavar="last|best|N|all",
        help=f"evaluation of each trial: the last, that of the highest {BEST}, the one at effective epoch N, or all, "
        "a row each [default: last]",
    )
    made.add_argument(
        "--sql",
        metavar="QUERY",
        help="ask DuckDB: tables trials, metrics, details, and results, which joins trials and metrics",
    )
    shape = made.add_mutually_exclusive_group()
    shape.add_argument("--format", choices=FORMATS, help="[default: by the ending of --output, else table]")
    shape.add_argument("--csv", dest="format", action="store_const", const="csv", help="the same as --format csv")
    made.add_argument("--output", metavar="FILE", help="write a file, .csv .json .parquet .md or .txt [default: print]")
    made.add_argument("--force", action="store_true", help="replace FILE where there is one [default: refuse]")


def run(options: argparse.Namespace) -> int:
    """Prints or writes the rows that were asked for."""
    from vaegen_ray.cli import shown
    from vaegen_ray.results import export, query
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import safe_name

    kind = _format(options, export.format_of)
    storage = Storage.open(options.storage, create=False)
    sweep = safe_name("the name of a sweep", options.sweep)
    results = query.load(storage, sweep)
    notes = list(results.notes)
    if options.sql is not None:
        from vaegen_ray.results import sql

        details, skipped = query.load_details(storage, results.trials, sweep)
        notes += skipped
        rows = sql.run(options.sql, results, details)
        words = shown.of_query(rows)
    else:
        counts = results.trials["status"].value_counts()
        for status, ended in (("failed", "failed"), ("stopped", "were stopped by a search")):
            if status in counts:
                notes.append(f"{counts[status]} of {len(results.trials)} trials {ended} and are left out")
        if "completed" not in counts:
            _say(notes)
            raise VaegenError(f"no trial of {sweep} in {storage.where(sweep)} is completed yet")
        frame, words, more = _groups(options, results)
        notes += more
        rows = export.as_table(frame)
    _say(notes)
    data = {
        "table": lambda: words.text().encode(),
        "markdown": lambda: words.markdown().encode(),
        "csv": lambda: export.as_csv(rows).encode(),
        "json": lambda: (export.as_json(rows) + "\n").encode(),
        "parquet": lambda: export.as_parquet(rows),
    }[kind]()
    if options.output:
        print(f"{len(rows)} rows in {export.write(options.output, data, replace=options.force)}")
    else:
        print(data.decode(), end="")
    return 0


def _groups(options: argparse.Namespace, results: "Results") -> "tuple[pd.DataFrame, Any, list[str]]":
    """Rows, how they are shown, and what there is to say of them."""
    from vaegen_ray.claims import over_seeds
    from vaegen_ray.cli import shown

    rows, notes = _evaluations(results, "last" if options.epoch is None else options.epoch)
    rows = over_seeds.filled(rows)
    keys = list(options.by or over_seeds.differing(rows))
    if options.epoch == "all" and "effective_epoch" not in keys:
        keys.append("effective_epoch")
    _check_columns("--by", keys, rows)
    if not options.by and not options.metrics:
        groups = over_seeds.extremes(rows, keys)
        return groups, shown.of_extremes(groups, keys), notes
    metrics = list(options.metrics or over_seeds.METRICS)
    _check_columns("--metrics", metrics, rows, numbers=True)
    if both := [name for name in metrics if name in keys]:
        raise SpecError(f"--metrics must be other columns than those of --by; got {', '.join(both)} in both")
    groups = over_seeds.intervals(rows, keys, metrics)
    return groups, shown.of_intervals(groups, keys, metrics), notes + shown.notes_of(groups, rows, keys, metrics)


def _evaluations(results: "Results", epoch: str | float) -> "tuple[pd.DataFrame, list[str]]":
    """A row for each completed trial, or evaluation of it, that ``--epoch`` asks for; and who is left out."""
    if epoch == "last":
        return results.last(), []
    curves = results.curves()
    if epoch == "all":
        return curves, []
    if epoch == "best":
        best = curves.dropna(subset=BEST).sort_values(BEST, kind="stable").drop_duplicates("trial_id", keep="last")
        chosen, what = best.sort_index(), f"a {BEST}"
    else:
        chosen, what = curves[curves["effective_epoch"] == epoch], f"an evaluation at epoch {epoch:g}"
    if chosen.empty:
        there = ", ".join(f"{each:g}" for each in sorted(curves["effective_epoch"].unique()))
        raise SpecError(f"--epoch must be one at which a trial was evaluated, {there or 'none yet'}; got {epoch:g}")
    trials = curves["trial_id"].nunique()
    lacking = trials - chosen["trial_id"].nunique()
    return chosen, [f"{lacking} of {trials} trials have not {what} and are left out"] if lacking else []


def _check_columns(option: str, columns: list[str], rows: "pd.DataFrame", *, numbers: bool = False) -> None:
    there = [name for name in rows if not numbers or rows[name].dtype.kind in "if"]
    for name in columns:
        if name not in there:
            near = ", ".join(get_close_matches(name, there)) or "see vaegen results SWEEP --sql 'DESCRIBE results'"
            kind = "columns of numbers" if numbers else "columns of results"
            raise SpecError(f"{option} must be {kind}, such as {near}; got {name!r}")


def _format(options: argparse.Namespace, of_ending: Any) -> str:
    if options.sql is not None and (options.by or options.metrics or options.epoch is not None):
        raise SpecError("--sql says itself what is grouped; --by, --metrics and --epoch cannot go with it")
    if options.force and not options.output:
        raise SpecError("--force replaces the file of --output; there is none (see --help)")
    kind: str = options.format or (of_ending(options.output) if options.output else "table")
    if kind == "parquet" and not options.output:
        raise SpecError("--format parquet is not for a terminal; name a file with --output")
    return kind


def _epoch(text: str) -> str | float:
    """A type for ``last``, ``best``, ``all`` or an effective epoch."""
    if text in ("last", "best", "all"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be last, best, all or an effective epoch >= 0; got {text!r}")
    return value


def _say(notes: list[str]) -> None:
    for note in notes:
        print(note, file=sys.stderr)
