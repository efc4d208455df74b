"""What commands share: options, and how they say things."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from vaegen_ray.service.options import add_storage

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
    """Adds ``--data-dir``."""
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of the data sets [default: $VAEGEN_DATA or ~/.cache/vaegen_ray/data]"
    )


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


def names(text: str) -> tuple[str, ...]:
    """A type for comma-separated names, each once."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"must be names with commas between, such as nc,mz, each once; got {text!r}")
    return found
