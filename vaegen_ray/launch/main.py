"""The entry of every sweep script: options, declaration, run; every end has its exit code (``ends``)."""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vaegen_ray import exit
from vaegen_ray.data import stored
from vaegen_ray.errors import SpecError, VaegenWarning
from vaegen_ray.launch import options as shared
from vaegen_ray.launch.output import secrets_masked
from vaegen_ray.launch.plugins import import_files
from vaegen_ray.launch.sidecar import beside
from vaegen_ray.service.driver.sweep import run

MOST_TRIALS = 100_000
"""VAEs that a sweep may declare; all of them are held in memory."""
MANY_SEEDS = 100
"""With more, a sweep is counted before it is declared."""


@secrets_masked()
def main(
    declare: Callable[[argparse.Namespace], Any],
    description: str,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    argv: list[str] | None = None,
    run: Callable[[Any, argparse.Namespace], int] = run,
) -> int:
    """Runs the sweep that ``declare`` makes of the options; returns the exit code.

    Args:
        declare: a sweep from the parsed options, or what else ``run`` takes.
        description: the first thing that ``--help`` says.
        add_options: adds the options that this sweep alone has.
        argv: the arguments; those of the process when None.
        run: what to do with what is declared; a ``Sweep`` is run as it is.
    """

    def declare_and_run() -> int:
        import_files(argv)
        parser = shared.parser(description)
        if add_options is not None:
            add_options(parser)
        options = parser.parse_args(argv)
        if options.gpus is not None and not options.dry_run:
            raise SpecError(f"--gpus goes with --dry-run alone: a run takes all GPUs there are; got {options.gpus}")
        for note in stored.discover(options.data_dir):
            print(note, file=sys.stderr)
        with _warnings_as_lines():
            _check_size(declare, options)
            sweep = declare(options)
        with beside(sweep.name, options):
            return run(sweep, options)

    return exit.run(declare_and_run)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Prints each ``VaegenWarning`` once, as one line; other warnings are shown as usual."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", VaegenWarning)
        show = warnings.showwarning
        said: set[str] = set()

        def show_once(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, VaegenWarning):
                show(message, category, filename, lineno, file, line)
            elif str(message) not in said:
                said.add(str(message))
                print(f"note: {message}", file=sys.stderr)

        warnings.showwarning = show_once
        yield


def _check_size(declare: Callable[[argparse.Namespace], Any], options: argparse.Namespace) -> None:
    """Counts the VAEs of a sweep by what it declares with one seed, before all are made.

    Raises:
        SpecError: they are more than ``MOST_TRIALS``.
    """
    seeds = options.seeds or 1
    if seeds <= MANY_SEEDS:
        return
    one = declare(argparse.Namespace(**{**vars(options), "seeds": 1}))
    settings = len(getattr(one, "trials", (one,)))  # a search makes the seeds of one point at a time
    if settings * seeds > MOST_TRIALS:
        raise SpecError(
            f"--seeds must be a whole number from 1 to {MOST_TRIALS // settings:,} for a sweep of {settings:,} "
            f"settings, which may declare {MOST_TRIALS:,} VAEs; got {seeds:,}"
        )
