"""What commands share: options, and how they say things."""

import argparse
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import Any

from vaegen_ray.cli.completers import metric_names
from vaegen_ray.errors import SpecError
from vaegen_ray.launch.options import add_import, add_storage, local_folder

Commands = Any
"""What ``ArgumentParser.add_subparsers`` returns; argparse has no public name for it."""


def command(commands: Commands, name: str, run: Callable[..., int] | None, summary: str) -> argparse.ArgumentParser:
    """Adds a command; ``run`` takes the parsed options and returns the exit code."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    made.set_defaults(command=run)
    return made


def completes(action: argparse.Action, completer: Callable[..., Iterable[str]]) -> None:
    """Tells shells what an argument can be (``completion``)."""
    action.completer = completer  # type: ignore[attr-defined]


def add_results_storage(parser: argparse.ArgumentParser) -> None:
    """Adds ``--storage``."""
    add_storage(parser, "where results are")


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data-dir`` and ``--import``."""
    parser.add_argument(
        "--data-dir",
        type=local_folder,
        metavar="DIR",
        help="folder of the data sets [default: $VAEGEN_DATA or ~/.cache/vaegen_ray/data]",
    )
    add_import(parser)


def add_columns(parser: argparse.ArgumentParser, option: str, completer: Callable[..., list[str]], help: str) -> None:
    """Adds an option that takes comma-separated columns; nothing given is the empty tuple."""
    completes(parser.add_argument(option, type=names, default=(), metavar="COLUMN,...", help=help), completer)


def add_metrics(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds ``--metrics``; the default is ``over_seeds.METRICS``."""
    add_columns(parser, "--metrics", metric_names, f"{what} [default: elbo_test,generalization_gap]")


def add_where(parser: argparse.ArgumentParser) -> None:
    """Adds ``--where``."""
    parser.add_argument(
        "--where",
        type=_condition,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only trials with this value of a field, such as learning_rate=0.001; may be given several times, and "
        "then all fields must match, each with one of its values",
    )


def _condition(text: str) -> tuple[str, str]:
    """A type for a field and its value."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"must be a field and its value, such as learning_rate=0.001; got {text!r}")
    return name, value


def check_columns(option: str, given: Iterable[str], there: Collection[str], what: str, else_see: str) -> None:
    """Refuses names that are none of ``what`` is there.

    Args:
        else_see: what to do where no name is like the one that was given.

    Raises:
        SpecError: one is not there.
    """
    for name in given:
        if name not in there:
            near = ", ".join(get_close_matches(name, there)) or else_see
            raise SpecError(f"{option} must be {what}, such as {near}; got {name!r}")


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


def names(text: str) -> tuple[str, ...]:
    """A type for comma-separated names, each once."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"must be names with commas between, such as nc,mz, each once; got {text!r}")
    return found
