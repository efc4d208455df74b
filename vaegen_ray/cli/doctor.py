"""``vaegen doctor``."""

import argparse

from vaegen_ray.cli.completers import dataset_names
from vaegen_ray.cli.parts import Commands, add_data_dir, add_results_storage, command, completes, say


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "doctor", run, "check this machine, or every node of a cluster, before a sweep")
    add_results_storage(made)
    made.add_argument("--address", metavar="ADDR", help="a running Ray cluster, HOST:PORT or auto [default: none]")
    add_data_dir(made)
    dataset = made.add_argument("--dataset", metavar="NAME", help="a data set that must be here [default: none must]")
    completes(dataset, dataset_names)


def run(options: argparse.Namespace) -> int:
    """Checks; the exit code says whether something is wrong."""
    from vaegen_ray.doctor import run as doctor

    return doctor.run(options, say)
