"""``vaegen results``."""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from vaegen_ray.cli.completers import field_names, sweep_names
from vaegen_ray.cli.parts import (
    Commands,
    add_columns,
    add_metrics,
    add_results_storage,
    add_where,
    check_columns,
    command,
    completes,
)
from vaegen_ray.errors import SpecError, VaegenError

if TYPE_CHECKING:
    import pandas as pd

    from vaegen_ray.cli.shown import Shown
    from vaegen_ray.results.export import Rows
    from vaegen_ray.results.query import Results
    from vaegen_ray.results.storage import Storage

FORMATS = ("table", "csv", "json", "parquet", "markdown")
BEST = "elbo_test"
"""What ``--epoch best`` goes by."""


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "results", run, "what a sweep found, over the seeds, by SQL, or as a file")
    completes(made.add_argument("sweep", metavar="SWEEP", help="such as double_descent"), sweep_names)
    add_results_storage(made)
    add_columns(
        made,
        "--by",
        field_names,
        "a row for each value of these columns [default: dataset, method, nc, mz and what else trials differ in]",
    )
    add_metrics(made, "numbers to average, each with its 95 %% interval over seeds")
    add_where(made)
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
    made.add_argument(
        "--sql-memory",
        type=_memory,
        metavar="SIZE",
        help="memory that a query may take beside the tables, such as 8GB [default: 4GB, or half of the job's]",
    )
    shape = made.add_mutually_exclusive_group()
    shape.add_argument("--format", choices=FORMATS, help="[default: by the ending of --output, else table]")
    shape.add_argument("--csv", dest="format", action="store_const", const="csv", help="the same as --format csv")
    made.add_argument("--output", metavar="FILE", help="write a file, .csv .json .parquet .md or .txt [default: print]")
    made.add_argument("--force", action="store_true", help="replace FILE where there is one [default: refuse]")


def run(options: argparse.Namespace) -> int:
    """Prints or writes the rows that were asked for."""
    from vaegen_ray.results import export
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import safe_name

    kind = _format(options, export.find_format)
    storage = Storage.open(options.storage, create=False)
    sweep = safe_name("the name of a sweep", options.sweep)
    if options.sql is None:
        _put(options, kind, *_show_groups(options, storage, sweep))
        return 0
    from vaegen_ray.cli import shown
    from vaegen_ray.results import sql

    with sql.asked(options.sql, *_tables(storage, sweep), options.sql_memory) as rows:
        _put(options, kind, rows, lambda: shown.show_query(rows))
    return 0


def _tables(storage: "Storage", sweep: str) -> "tuple[Results, pd.DataFrame]":
    """What a query asks."""
    from vaegen_ray.results import query

    results = query.load(storage, sweep)
    details, skipped = query.load_details(storage, results.trials, sweep)
    _say([*results.notes, *skipped])
    return results, details


def _show_groups(options: argparse.Namespace, storage: "Storage", sweep: str) -> "tuple[Rows, Callable[[], Shown]]":
    """The groups of trials, as rows and as they are shown."""
    from vaegen_ray.results import export, query
    from vaegen_ray.results.groups import none_selected, selected
    from vaegen_ray.results.schema import TrialStatus

    results = query.load(storage, sweep)
    if options.where:
        results = replace(results, trials=selected(results.trials, options.where).reset_index(drop=True))
        if results.trials.empty:
            raise none_selected(options.where, sweep)
    counts, notes = results.trials["status"].value_counts(), list(results.notes)
    for status, happened in ((TrialStatus.FAILED, "failed"), (TrialStatus.PRUNED, "were pruned by a search")):
        if number := counts.get(status, 0):
            notes.append(f"{number} of {len(results.trials)} trials {happened} and are left out")
    if not counts.get(TrialStatus.COMPLETED, 0):
        _say(notes)
        raise VaegenError(f"no trial of {sweep} in {storage.where(sweep)} is completed yet")
    frame, words, more = _groups(options, results.lean())
    _say([*notes, *more])
    return export.stream_frame(frame), lambda: words


def _put(options: argparse.Namespace, kind: str, rows: "Rows", words: "Callable[[], Shown]") -> None:
    """Prints the rows, or writes them into a file."""
    from vaegen_ray.results import export

    table = words() if kind in ("table", "markdown") else None
    number = len(table.rows) - 1 if table else 0

    def counted() -> "Iterator[Any]":
        nonlocal number
        for batch in rows.batches:
            number += len(batch)
            yield batch

    counting = export.Rows(rows.schema, counted())
    parts: dict[str, Callable[[], Iterable[str]]] = {
        "table": lambda: [table.text()] if table else [],
        "markdown": lambda: [table.markdown()] if table else [],
        "csv": lambda: export.as_csv(counting),
        "json": lambda: export.as_json(counting),
    }

    def fill(file: BinaryIO) -> None:
        if kind == "parquet":
            export.as_parquet(counting, file)
        else:
            file.writelines(part.encode() for part in parts[kind]())

    if options.output:
        where = export.write(options.output, fill, replace=options.force)
        print(f"{number} rows in {where}")
    else:
        for part in parts[kind]():
            print(part, end="")


def _groups(options: argparse.Namespace, results: "Results") -> "tuple[pd.DataFrame, Any, list[str]]":
    """Rows, how they are shown, and what there is to say of them."""
    from vaegen_ray.analysis import over_seeds
    from vaegen_ray.cli import shown

    rows, notes = _evaluations(results, "last" if options.epoch is None else options.epoch)
    keys = list(options.by or over_seeds.default_keys(rows))
    if options.epoch == "all" and "effective_epoch" not in keys:
        keys.append("effective_epoch")
    _check_columns("--by", keys, rows)
    if not options.by and not options.metrics:
        groups = over_seeds.extremes(rows, keys)
        return groups, shown.show_extremes(groups, keys), notes
    metrics = list(options.metrics or over_seeds.METRICS)
    _check_columns("--metrics", metrics, rows, numbers=True)
    if both := [name for name in metrics if name in keys]:
        raise SpecError(f"--metrics must be other columns than those of --by; got {', '.join(both)} in both")
    groups = over_seeds.intervals(rows, keys, metrics)
    return groups, shown.show_intervals(groups, keys, metrics), notes + shown.build_notes(groups, rows, keys, metrics)


def _evaluations(results: "Results", epoch: str | float) -> "tuple[pd.DataFrame, list[str]]":
    """A row for each completed trial, or evaluation of it, that ``--epoch`` asks for; and who is left out."""
    last = results.last()
    if epoch == "last":
        return last, []
    curves = results.curves()
    if epoch == "all":
        chosen, what = curves, "an evaluation"
    elif epoch == "best":
        best = curves.dropna(subset=BEST).sort_values(BEST, kind="stable").drop_duplicates("trial_id", keep="last")
        chosen, what = best.sort_index(), f"a {BEST}"
    else:
        chosen, what = curves[curves["effective_epoch"] == epoch], f"an evaluation at epoch {epoch:g}"
    if chosen.empty and isinstance(epoch, str):
        raise SpecError(f"--epoch {epoch} needs completed trials that have {what}; there is none (see --epoch last)")
    if chosen.empty:
        there = ", ".join(f"{each:g}" for each in sorted(curves["effective_epoch"].unique()))
        raise SpecError(f"--epoch must be one at which a trial was evaluated, {there or 'none yet'}; got {epoch:g}")
    lacking = len(last) - chosen["trial_id"].nunique()
    return chosen, [f"{lacking} of {len(last)} trials have not {what} and are left out"] if lacking else []


def _check_columns(option: str, columns: list[str], rows: "pd.DataFrame", *, numbers: bool = False) -> None:
    there = [name for name in rows if not numbers or rows[name].dtype.kind in "if"]
    what = "columns of numbers" if numbers else "columns of results"
    check_columns(option, columns, there, what, "see vaegen results SWEEP --sql 'DESCRIBE results'")


def _format(options: argparse.Namespace, of_ending: Any) -> str:
    if options.sql is not None and (options.by or options.metrics or options.where or options.epoch is not None):
        raise SpecError("--sql says itself what is grouped; --by, --metrics, --where and --epoch cannot go with it")
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


def _memory(text: str) -> str:
    """A type for bytes with a unit, as DuckDB reads them."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(MB|GB|TB)", text):
        raise argparse.ArgumentTypeError(f"must be a number with MB, GB or TB, such as 8GB; got {text!r}")
    return text


def _say(notes: list[str]) -> None:
    for note in notes:
        print(note, file=sys.stderr)
