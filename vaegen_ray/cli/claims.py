"""``vaegen claims``."""

import argparse
import shutil
import sys
from pathlib import Path

from vaegen_ray.cli.parts import Commands, add_results_storage, add_where, command
from vaegen_ray.errors import SpecError

TEXT_WIDTH = 120
"""Columns that running text takes at most."""


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "claims", run, "what the papers claim, and whether it holds in a storage")
    add_results_storage(made)
    add_where(made)
    made.add_argument("--markdown", metavar="FILE", help="write a page [default: print]")
    made.add_argument("--reasons", metavar="FILE", help="TOML: for claims that do not hold, the likely reason by id")


def run(options: argparse.Namespace) -> int:
    """Judges the claims."""
    from vaegen_ray.reports import claims
    from vaegen_ray.results.storage import Storage

    if options.reasons and not options.markdown:
        raise SpecError("--reasons are for the page that --markdown writes (see --help)")
    results, notes = claims.load_results(Storage.open(options.storage, create=False), options.where)
    for note in notes:
        print(note, file=sys.stderr)
    if not options.markdown:
        print(claims.text(results, min(TEXT_WIDTH, shutil.get_terminal_size().columns)))
        return 0
    page = claims.markdown(results, options.reasons)
    try:
        Path(options.markdown).write_text(page, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"--markdown must be a file that can be written; got {options.markdown}: {error}") from None
    print(f"claims {options.markdown}")
    return 0
