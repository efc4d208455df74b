"""The command ``vaegen``: data sets, diffusion models and their samples, what a sweep found, its figures again.

Heavy packages are imported by the command that needs them, so ``vaegen --help`` answers at once. Ray starts only where
something is trained or generated.
"""

import argparse
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from vaegen_ray import __version__
from vaegen_ray.dashboard import command as dashboard
from vaegen_ray.data.catalog import info
from vaegen_ray.errors import SpecError, VaegenError, allowed, printable
from vaegen_ray.service.options import OneLineParser, add_samplers, add_storage, at_least, fraction
from vaegen_ray.stream import PRECISIONS, StreamSpec
from vaegen_ray.sweep.base import base_stream
from vaegen_ray.sweep.spec import PRESETS
from vaegen_ray.trial import TrialSpec

if TYPE_CHECKING:
    import pandas as pd

TEXT_WIDTH = 120
"""Columns that running text takes at most."""
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
        sys.stdout.flush()
        return code
    except VaegenError as error:
        from vaegen_ray.service.runner import fail

        return fail(error)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads has seen enough, as in `vaegen claims | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="vaegen", description="Does this VAE generalise, and what would help more?")
    parser.add_argument("--version", action="version", version=f"vaegen {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    datasets = _command(commands, "datasets", _datasets, "list the data sets, or get one")
    datasets.add_argument("--get", metavar="NAME", help="download this one, or check it where it is here")
    _add_data_dir(datasets)

    figure = _command(commands, "figure", _figure, "draw a figure again from the files of a sweep")
    figure.add_argument("name", metavar="NAME", help="such as double_descent")
    _add_storage(figure)
    figure.add_argument("--sweep", metavar="SWEEP", help="the sweep that it is drawn from [default: NAME]")

    _add_diffusion(_command(commands, "diffusion", None, "train, import or list diffusion models"))

    samples = _command(commands, "samples", _samples, "list the diffusion samples that are kept, or make some ahead")
    _add_storage(samples)
    samples.add_argument("--generate", type=at_least(1), metavar="N", help="make the first N samples of a stream")
    _add_model(samples, required=False)
    add_samplers(samples)
    _add_service(samples)

    claims = _command(commands, "claims", _claims, "what the papers claim, and whether it holds in a storage")
    _add_storage(claims)
    claims.add_argument("--markdown", metavar="FILE", help="write a page [default: print]")
    claims.add_argument("--reasons", metavar="FILE", help="TOML: for claims that do not hold, the likely reason by id")

    results = _command(commands, "results", _results, "the last evaluation of each trial, over the seeds")
    results.add_argument("sweep", metavar="SWEEP", help="such as double_descent")
    _add_storage(results)
    results.add_argument("--csv", action="store_true", help="comma-separated, with all digits [default: a table]")

    dashboard.add_options(_command(commands, "dashboard", dashboard.run, dashboard.SUMMARY))

    doctor = _command(commands, "doctor", _doctor, "check this machine, or every node of a cluster, before a sweep")
    _add_storage(doctor)
    doctor.add_argument("--address", metavar="ADDR", help="a running Ray cluster, HOST:PORT or auto [default: none]")
    _add_data_dir(doctor)
    doctor.add_argument("--dataset", metavar="NAME", help="a data set that must be here [default: none must]")
    return parser


def _command(commands: argparse._SubParsersAction, name: str, run: object, summary: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    made.set_defaults(command=run)
    return made


def _add_diffusion(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="ACTION")
    train = _command(commands, "train", _diffusion_train, "train a model; a killed training goes on where it was")
    take = _command(commands, "import", _diffusion_import, "take weights of the same network from a safetensors file")
    take.add_argument("file", metavar="FILE", help="safetensors; pickles are not read")
    for each in (train, take):
        _add_storage(each)
        _add_model(each, required=True)
    _add_service(train)
    _add_storage(_command(commands, "list", _diffusion_list, "the models of a storage"))


def _add_model(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Which diffusion model."""
    parser.add_argument("--dataset", metavar="NAME", required=required, help="data set, see `vaegen datasets`")
    parser.add_argument(
        "--preset", choices=PRESETS, default="laptop", help="size of the model and its training [default: %(default)s]"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--n-train", type=at_least(1), metavar="N", help="training images [default: all]")
    size.add_argument("--fraction", type=fraction, metavar="F", help="part of the training set, 0.1 to 1 [default: 1]")
    parser.add_argument("--images", type=at_least(1), metavar="N", help="images to see [default: by data set]")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of the training [default: 0]")
    parser.add_argument("--precision", choices=PRECISIONS, help="of training and sampling [default: by preset]")
    parser.add_argument("--weights", default="", metavar="SHA256", help="imported weights [default: trained here]")


def _add_service(parser: argparse.ArgumentParser) -> None:
    """Where it is done."""
    parser.add_argument("--address", metavar="ADDR", help="a running Ray cluster [default: start Ray on this machine]")
    _add_data_dir(parser)
    parser.add_argument(
        "--checkpoint-seconds",
        type=at_least(1),
        default=10,
        metavar="S",
        help="seconds between two checkpoints of a training [default: %(default)s]",
    )


def _stream(options: argparse.Namespace) -> StreamSpec:
    if options.dataset is None:
        raise SpecError("--generate needs --dataset, the data set of the diffusion model (see --help)")
    n_train = options.n_train or round((options.fraction or 1.0) * info(options.dataset).n_train)
    images = {} if options.images is None else {"images": options.images}
    return base_stream(
        options.dataset,
        options.preset,
        n_train=n_train,
        precision=options.precision,
        seed=options.seed,
        weights=options.weights,
        **images,
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _diffusion_train(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service import commands

    spec = _stream(options).diffusion
    return commands.train(Storage.open(options.storage), spec, options, _say)


def _diffusion_import(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service import commands

    spec = _stream(options).diffusion
    return commands.import_weights(Storage.open(options.storage), spec, options.file, _say)


def _diffusion_list(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service import commands

    storage = Storage.open(options.storage, create=False)
    return _table(commands.table_of_models(storage), f"no diffusion models in {storage.where('diffusion')}")


def _samples(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service import commands

    if options.generate:
        stream = _stream(options)
        return commands.generate(Storage.open(options.storage), stream, options.generate, options, _say)
    storage = Storage.open(options.storage, create=False)
    return _table(commands.table_of_streams(storage), f"no samples in {storage.where('samples')}")


def _doctor(options: argparse.Namespace) -> int:
    from vaegen_ray.service import doctor

    return doctor.run(options, _say)


def _table(rows: list[list[str]], empty: str) -> int:
    print(aligned(rows) if len(rows) > 1 else empty)
    return 0


def _add_storage(parser: argparse.ArgumentParser) -> None:
    add_storage(parser, "where results are")


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of the data sets [default: $VAEGEN_DATA or ~/.cache/vaegen_ray/data]"
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


def _claims(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service import verdicts

    if options.reasons and not options.markdown:
        raise SpecError("--reasons are for the page that --markdown writes (see --help)")
    results, notes = verdicts.results_of(Storage.open(options.storage, create=False))
    for note in notes:
        print(note, file=sys.stderr)
    if not options.markdown:
        print(verdicts.text(results, min(TEXT_WIDTH, shutil.get_terminal_size().columns)))
        return 0
    page = verdicts.markdown(results, options.reasons)
    try:
        Path(options.markdown).write_text(page, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"--markdown must be a file that can be written; got {options.markdown}: {error}") from None
    print(f"claims {options.markdown}")
    return 0


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
    """Rows of words as columns, the first row being the head; numbers stand to the right. Words may come from files of
    others.

    Args:
        width: wrap the last column so that lines are no longer than this; None for lines as long as they are.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
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
