"""``vaegen figure``."""

import argparse

from vaegen_ray.cli.completers import figure_names, sweep_names
from vaegen_ray.cli.parts import Commands, add_results_storage, add_where, command, completes
from vaegen_ray.errors import SpecError, not_one_of


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "figure", run, "draw a figure again from the files of a sweep")
    completes(made.add_argument("name", metavar="NAME", help="such as double_descent"), figure_names)
    add_results_storage(made)
    sweep = made.add_argument("--sweep", metavar="SWEEP", help="the sweep that it is drawn from [default: NAME]")
    completes(sweep, sweep_names)
    add_where(made)


def run(options: argparse.Namespace) -> int:
    """Draws a figure from the Parquet files alone."""
    from vaegen_ray.figures import FIGURES

    if options.name not in FIGURES:
        raise SpecError(not_one_of("figure", options.name, sorted(FIGURES)))
    from vaegen_ray.reports.figures import draw_figures
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.results.store import SweepStore

    storage = Storage.open(options.storage, create=False)
    store = SweepStore(storage, options.sweep or options.name)
    draw_figures(store, (options.name,), where=options.where, strict=True)
    return 0
