"""The options that say which diffusion model, and where it is trained or asked for samples."""

import argparse

from vaegen_ray.cli.completers import dataset_names
from vaegen_ray.cli.parts import add_data_dir, completes
from vaegen_ray.data.catalog import info
from vaegen_ray.errors import SpecError
from vaegen_ray.launch.options import add_address, at_least, fraction
from vaegen_ray.spec.diffusion import MOST_IMAGES, MOST_SEED, PRECISIONS, StreamSpec
from vaegen_ray.sweep.defaults import base_stream
from vaegen_ray.sweep.sweep import PRESETS


def add_model(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Which diffusion model."""
    dataset = parser.add_argument(
        "--dataset", metavar="NAME", required=required, help="data set, see `vaegen datasets`"
    )
    completes(dataset, dataset_names)
    parser.add_argument(
        "--preset", choices=PRESETS, default="laptop", help="size of the model and its training [default: %(default)s]"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--n-train", type=at_least(1), metavar="N", help="training images [default: all]")
    size.add_argument("--fraction", type=fraction, metavar="F", help="part of the training set, 0.1 to 1 [default: 1]")
    parser.add_argument(
        "--images", type=at_least(1, MOST_IMAGES), metavar="N", help="images to see [default: by data set]"
    )
    parser.add_argument(
        "--seed", type=at_least(0, MOST_SEED), default=0, metavar="N", help="of the training [default: 0]"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="of training and sampling [default: by preset]")
    parser.add_argument("--weights", default="", metavar="SHA256", help="imported weights [default: trained here]")


def add_service(parser: argparse.ArgumentParser) -> None:
    """Where it is done."""
    add_address(parser)
    add_data_dir(parser)
    parser.add_argument(
        "--checkpoint-seconds",
        type=at_least(1),
        default=10,
        metavar="S",
        help="seconds between two checkpoints of a training [default: %(default)s]",
    )


def stream_of(options: argparse.Namespace) -> StreamSpec:
    """The stream that the options name."""
    if options.dataset is None:
        raise SpecError("--generate needs --dataset, the data set of the diffusion model (see --help)")
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
