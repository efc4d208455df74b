"""``vaegen diffusion train``, ``import`` and ``list``."""

import argparse

from vaegen_ray.cli.models import add_model, add_service, stream_of
from vaegen_ray.cli.parts import Commands, add_results_storage, command, say
from vaegen_ray.cli.tables import print_rows


def add(commands: Commands) -> None:
    """Adds the commands."""
    actions = command(commands, "diffusion", None, "train, import or list diffusion models").add_subparsers(
        required=True, metavar="ACTION"
    )
    training = command(actions, "train", train, "train a model; a killed training goes on where it was")
    taking = command(actions, "import", take, "take weights of the same network from a safetensors file")
    taking.add_argument("file", metavar="FILE", help="safetensors; pickles are not read")
    for each in (training, taking):
        add_results_storage(each)
        add_model(each, required=True)
    add_service(training)
    add_results_storage(command(actions, "list", show, "the models of a storage"))


def train(options: argparse.Namespace) -> int:
    """Trains a model."""
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service.sampling import generate as sampling

    spec = stream_of(options).diffusion
    return sampling.train(Storage.open(options.storage), spec, options, say)


def take(options: argparse.Namespace) -> int:
    """Takes weights from a file."""
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service.sampling import generate as sampling

    spec = stream_of(options).diffusion
    return sampling.import_weights(Storage.open(options.storage), spec, options.file, say)


def show(options: argparse.Namespace) -> int:
    """Lists the models."""
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service.sampling import generate as sampling

    storage = Storage.open(options.storage, create=False)
    return print_rows(sampling.table_of_models(storage), f"no diffusion models in {storage.where('diffusion')}")
