"""The command ``vaegen``: which data sets are here, what a sweep found, its figures again from its files.

Heavy packages are imported by the command that needs them, so ``vaegen --help`` answers at once; none starts Ray.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from vaegen_ray import __version__
from vaegen_ray.errors import SpecError, VaegenError, allowed
from vaegen_ray.service.options import OneLineParser
from vaegen_ray.trial import TrialSpec

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 100
"""Columns of text in which the table of data sets fits."""

POINT = ("dataset", "method", "nc", "mz")
"""What ``vaegen results`` always says of a group of trials, beside what else differs between them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. A wrong input is one line and exit code 2.

    Args:
        argv: the arguments; those of the process when None.
    """
    try:
        options = _parser().parse_args(argv)
        code: int = options.command(options)
        return code
    except VaegenError as error:
        from vaegen_ray.service.runner import fail

        return fail(error)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="vaegen", description="Does this VAE generalise, and what would help more?")
    parser.add_argument("--version", action="version", version=f"vaegen {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    datasets = _command(commands, "datasets", _datasets, "list the data sets, or get one")
    datasets.add_argument("--get", metavar="NAME", help="download this one, or check it where it is here")
    datasets.add_argument(
        "--data-dir", metavar="DIR", help="folder of the data sets [default: $VAEGEN_DATA or ~/.cache/vaegen_ray/data]"
    )

    figure = _command(commands, "figure", _figure, "draw a figure again from the files of a sweep")
    figure.add_argument("name", metavar="NAME", help="such as double_descent")
    _add_storage(figure)
    figure.add_argument("--sweep", metavar="SWEEP", help="the sweep that it is drawn from [default: NAME]")

    results = _command(commands, "results", _results, "the last evaluation of each trial, over the seeds")
    results.add_argument("sweep", metavar="SWEEP", help="such as double_descent")
    _add_storage(results)
    results.add_argument("--csv", action="store_true", help="comma-separated, with all digits [default: a table]")
    return parser


def _command(commands: argparse._SubParsersAction, name: str, run: object, summary: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    made.set_defaults(command=run)
    return made


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage",
        metavar="DIR_OR_URI",
        default="results",
        help="where results are: a directory, s3://... or gs://... [default: %(default)s/]",
    )


def _datasets(options: argparse.Namespace) -> int:
    from vaegen_ray.data import catalog

    if options.get:
        split = catalog.load(options.get, data_dir=options.data_dir)
        where = catalog.presence(options.get, options.data_dir).where
        print(f"{options.get}: {len(split.train)} training and {len(split.test)} test images in {where}")
        return 0
    rows = catalog.table(options.data_dir)
    head = ("name", "present", "images", "levels", "likelihood", "title")
    print(aligned([head, *([row[column] for column in head] for row in rows)], WIDTH))
    if absent := [row for row in rows if row["present"] == "no"]:
        print("\nto get the others:")
        print(aligned([[f"  {row['name']}", row["how"]] for row in absent]))
    return 0


def _figure(options: argparse.Namespace) -> int:
    from vaegen_ray.figures import FIGURES

    if options.name not in FIGURES:
        raise SpecError(allowed("figure", options.name, sorted(FIGURES)))
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import SweepStore
    from vaegen_ray.service.pictures import draw_figures

    storage = Storage.open(options.storage, create=False)
    return 0 if draw_figures(SweepStore(storage, options.sweep or options.name), (options.name,)) else 1


def _results(options: argparse.Namespace) -> int:
    from vaegen_ray.results import query
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import safe_name

    storage = Storage.open(options.storage, create=False)
    results = query.load(storage, safe_name("the name of a sweep", options.sweep))
    last = results.last()
    failed = len(results.trials) - len(last)
    for note in results.notes:
        print(note, file=sys.stderr)
    if failed:
        print(f"{failed} of {len(results.trials)} trials failed and are left out", file=sys.stderr)
    if last.empty:
        raise VaegenError(f"no trial of {options.sweep} in {storage.where(options.sweep)} is completed yet")
    groups = over_seeds(last)
    if options.csv:
        print(groups.to_csv(index=False), end="")
    else:
        shown = groups.assign(
            params_total=groups["params_total"].map("{:,.0f}".format),
            **{name: groups[name].map("{:.2f}".format) for name in groups if name.startswith(("elbo_test", "gen"))},
        )
        print(aligned([list(shown), *shown.astype(str).to_numpy().tolist()]))
    return 0


def over_seeds(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Statistics of trials that differ in their seed alone, sorted by ``POINT``.

    Args:
        rows: one row a trial, with its specification and its metrics, nats an image.

    Returns:
        A row a group: ``POINT``, each further field of the specification in which trials of one point differ, then
        ``seeds``, ``params_total``, ``elbo_test`` (mean, ``_min``, ``_max``) and the mean ``generalization_gap``.
    """
    others = [field.name for field in fields(TrialSpec) if field.name not in (*POINT, "seed")]
    differs = rows.groupby(list(POINT), dropna=False)[others].nunique(dropna=False).max() > 1
    keys = [*POINT, *(name for name in others if differs[name])]
    return (
        rows.groupby(keys, dropna=False)
        .agg(
            seeds=("seed", "nunique"),
            params_total=("params_total", "first"),
            elbo_test=("elbo_test", "mean"),
            elbo_test_min=("elbo_test", "min"),
            elbo_test_max=("elbo_test", "max"),
            generalization_gap=("generalization_gap", "mean"),
        )
        .reset_index()
    )


def aligned(rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Rows of words as columns, the first row being the head; numbers stand to the right.

    Args:
        width: wrap the last column so that lines are no longer than this; None for lines as long as they are.
    """
    rows = list(rows)
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_number(cell) for cell in column[1:]) and len(column) > 1 for column in columns]
    indent = sum(widths[:-1]) + 2 * (len(widths) - 1)
    lines = []
    for row in rows:
        *cells, last = (
            cell.rjust(w) if to_right else cell.ljust(w) for cell, w, to_right in zip(row, widths, right, strict=True)
        )
        first, *more = (textwrap.wrap(last, width - indent) if width else None) or [last]
        lines.append("  ".join([*cells, first]).rstrip())
        lines += [" " * indent + part for part in more]
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True
