"""``vaegen diffusion train``, ``import`` and ``list``, and the options that name a diffusion model."""

import argparse
from typing import TYPE_CHECKING

from vaegen_ray.cli.completers import dataset_names
from vaegen_ray.cli.parts import Commands, add_data_dir, add_results_storage, command, completes
from vaegen_ray.cli.tables import print_rows
from vaegen_ray.data.catalog import info
from vaegen_ray.launch.options import add_address, at_least, fraction
from vaegen_ray.spec.diffusion import MOST_IMAGES, MOST_SEED, PRECISIONS, StreamSpec
from vaegen_ray.sweep.defaults import base_stream
from vaegen_ray.sweep.sweep import PRESETS

if TYPE_CHECKING:
    from vaegen_ray.results.storage import Storage


def add(commands: Commands) -> None:
    """Adds the commands."""
    actions = command(commands, "diffusion", None, "train, import or list diffusion models").add_subparsers(
        required=True, metavar="ACTION"
    )
    training = command(actions, "train", _train, "train a model; a killed training resumes from its checkpoint")
    importing = command(actions, "import", _import, "import weights of the same network from a safetensors file")
    importing.add_argument("file", metavar="FILE", help="safetensors; pickles are not read")
    for parser in (training, importing):
        add_results_storage(parser)
        add_model_options(parser, required=True)
    add_run_options(training)
    add_results_storage(command(actions, "list", _list, "list the models of a storage"))


def add_model_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds the options that ``build_stream`` reads."""
    dataset = parser.add_argument(
        "--dataset", metavar="NAME", required=required, help="data set, see `vaegen datasets`"
    )
    completes(dataset, dataset_names)
    parser.add_argument(
        "--preset", choices=PRESETS, default="laptop", help="size of the model and its training [default: %(default)s]"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--n-train", type=at_least(1), metavar="N", help="training images [default: all]")
    size.add_argument(
        "--fraction", type=fraction, metavar="F", help="fraction of the training set, 0.1 to 1 [default: 1]"
    )
    parser.add_argument(
        "--images", type=at_least(1, MOST_IMAGES), metavar="N", help="images to see [default: by data set]"
    )
    parser.add_argument(
        "--seed", type=at_least(0, MOST_SEED), default=0, metavar="N", help="seed of the training [default: 0]"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="precision of training and sampling [default: by preset]"
    )
    parser.add_argument("--weights", default="", metavar="SHA256", help="imported weights [default: trained here]")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a command that trains or samples."""
    add_address(parser)
    add_data_dir(parser)
    parser.add_argument(
        "--checkpoint-seconds",
        type=at_least(1),
        default=10,
        metavar="S",
        help="seconds between two checkpoints of a training [default: %(default)s]",
    )


def build_stream(options: argparse.Namespace) -> StreamSpec:
    """The stream of the model that the options name."""
    n_train = options.n_train or round((options.fraction or 1.0) * info(options.dataset).n_train)
    images = {} if options.images is None else {"images": options.images}
    return base_stream(
        options.dataset,
        options.preset,
        n_train=n_train,
        precision=options.precision,
        seed=options.seed,
        weights=options.weights,
        **images,
    )


def _train(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service.sampling.generate import train

    train(
        Storage.open(options.storage),
        build_stream(options).diffusion,
        address=options.address,
        data_dir=options.data_dir,
        checkpoint_seconds=options.checkpoint_seconds,
    )
    return 0


def _import(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service.sampling.generate import import_weights

    import_weights(Storage.open(options.storage), build_stream(options).diffusion, options.file)
    return 0


def _list(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage

    storage = Storage.open(options.storage, create=False)
    return print_rows(build_table(storage), f"no diffusion models in {storage.where('diffusion')}")


def build_table(storage: "Storage") -> list[list[str]]:
    """The diffusion models of a storage, a row each, after the head."""
    from vaegen_ray.errors import DataFormatError, StorageError
    from vaegen_ray.results.diffusions import DiffusionStore, models

    rows = [["model", "state", "dataset", "trained on", "network", "images seen", "loss"]]
    for name in models(storage):
        store = DiffusionStore(storage, name)
        try:
            spec, mark = store.read_spec(), store.committed()
            if spec is None:
                continue
            state = "imported" if spec["weights"] else "trained" if mark else "unfinished"
            loss = f"{mark['losses'][-1][1]:.3f}" if mark and mark["losses"] else "-"
            images = "-" if spec["weights"] else f"{spec['images']:,}"
            rows.append([name, state, spec["dataset"], f"{spec['n_train']:,}", spec["network"], images, loss])
        except (DataFormatError, StorageError, LookupError, TypeError, ValueError):
            rows.append([name, "damaged", *["-"] * (len(rows[0]) - 2)])
    return rows
