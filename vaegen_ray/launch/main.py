"""The entry of every sweep script: from options to a declaration to a run."""

import argparse
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TextIO

from vaegen_ray import exit
from vaegen_ray.data import stored
from vaegen_ray.errors import SpecError, VaegenWarning
from vaegen_ray.exit import Exit
from vaegen_ray.launch import options as shared
from vaegen_ray.launch.output import console
from vaegen_ray.launch.plugins import import_files
from vaegen_ray.launch.sidecar import run_sidecars
from vaegen_ray.search.search import Search
from vaegen_ray.service.config import RunConfig, RunReport
from vaegen_ray.sweep.sweep import Sweep

logger = logging.getLogger(__name__)

MOST_TRIALS = 100_000
"""VAEs that a sweep may declare; all of them are held in memory."""
MANY_SEEDS = 100
"""With more, a sweep is counted before it is declared."""


@console()
def main(
    declare: Callable[[argparse.Namespace], Sweep | Search],
    description: str,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    argv: list[str] | None = None,
) -> int:
    """Runs what ``declare`` returns for the options; returns the exit code (``exit.Exit``).

    Args:
        declare: a sweep or a search, from the parsed options.
        description: the first line of ``--help``.
        add_options: adds the options that this sweep alone has.
        argv: the arguments; those of the process when None.
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
            logger.warning(note)
        with _warnings_as_lines():
            _check_size(declare, options)
            declared = declare(options)
        driver: Any = _find_driver(declared)
        if options.dry_run:
            gpus = options.gpus or (1 if options.preset == "paper" else None)
            logger.info(driver.plan(declared, RunConfig.from_options({**vars(options), "gpus": gpus})))
            return Exit.DONE
        with run_sidecars(declared.name, options):
            report: RunReport = driver.run(declared, RunConfig.from_options(vars(options)))
        return Exit.DONE if report.complete else Exit.LEFT

    return exit.run(declare_and_run)


def _find_driver(declared: Sweep | Search) -> ModuleType:
    """The module with ``plan`` and ``run`` for a sweep or a search."""
    if isinstance(declared, Search):
        from vaegen_ray.service.driver import search

        return search
    from vaegen_ray.service.driver import sweep

    return sweep


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Prints each ``VaegenWarning`` once, as one line; other warnings are shown as usual."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", VaegenWarning)
        show = warnings.showwarning
        shown: set[str] = set()

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
            elif str(message) not in shown:
                shown.add(str(message))
                logger.warning(f"note: {message}")

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
