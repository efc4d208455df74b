"""``vaegen samples``."""

import argparse

from vaegen_ray.cli.models import add_model, add_service, stream_of
from vaegen_ray.cli.parts import Commands, add_results_storage, command, say
from vaegen_ray.cli.tables import print_rows
from vaegen_ray.launch.options import add_samplers, at_least


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "samples", run, "list the diffusion samples that are kept, or make some ahead")
    add_results_storage(made)
    made.add_argument("--generate", type=at_least(1), metavar="N", help="make the first N samples of a stream")
    add_model(made, required=False)
    add_samplers(made)
    add_service(made)


def run(options: argparse.Namespace) -> int:
    """Lists the streams, or makes samples."""
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service.sampling import generate as sampling

    if options.generate:
        stream = stream_of(options)
        return sampling.generate(Storage.open(options.storage), stream, options.generate, options, say)
    storage = Storage.open(options.storage, create=False)
    return print_rows(sampling.table_of_streams(storage), f"no samples in {storage.where('samples')}")
