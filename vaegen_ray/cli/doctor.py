"""``vaegen doctor``."""

import argparse

from vaegen_ray.cli.completers import dataset_names
from vaegen_ray.cli.parts import Commands, add_data_dir, add_results_storage, command, completes, say


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "doctor", _run, "check this machine, or every node of a cluster, before a sweep")
    add_results_storage(parser)
    parser.add_argument("--address", metavar="ADDR", help="a running Ray cluster, HOST:PORT or auto [default: none]")
    add_data_dir(parser)
    dataset = parser.add_argument("--dataset", metavar="NAME", help="a data set that must be here [default: none]")
    completes(dataset, dataset_names)


def _run(options: argparse.Namespace) -> int:
    from vaegen_ray.doctor.run import run

    return run(options.storage, say, address=options.address, data_dir=options.data_dir, dataset=options.dataset)
