"""``vaegen samples``."""

import argparse
from typing import TYPE_CHECKING

from vaegen_ray.cli.diffusion import add_model_options, add_run_options, build_stream
from vaegen_ray.cli.parts import Commands, add_results_storage, command
from vaegen_ray.cli.tables import print_rows
from vaegen_ray.errors import SpecError
from vaegen_ray.launch.options import add_samplers, at_least

if TYPE_CHECKING:
    from vaegen_ray.results.storage import Storage


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "samples", _run, "list the diffusion samples of a storage, or make some ahead")
    add_results_storage(parser)
    parser.add_argument("--generate", type=at_least(1), metavar="N", help="make the first N samples of a stream")
    add_model_options(parser, required=False)
    add_samplers(parser)
    add_run_options(parser)


def _run(options: argparse.Namespace) -> int:
    from vaegen_ray.results.storage import Storage

    if not options.generate:
        storage, of = Storage.open(options.storage, create=False), f" of {options.dataset}" if options.dataset else ""
        return print_rows(build_table(storage, options.dataset), f"no samples{of} in {storage.where('samples')}")
    if options.dataset is None:
        raise SpecError("--generate needs --dataset, the data set of the diffusion model (see --help)")
    from vaegen_ray.service.sampling.generate import generate

    generate(
        Storage.open(options.storage),
        build_stream(options),
        options.generate,
        samplers=options.samplers,
        address=options.address,
        data_dir=options.data_dir,
        checkpoint_seconds=options.checkpoint_seconds,
    )
    return 0


def build_table(storage: "Storage", dataset: str | None = None) -> list[list[str]]:
    """The streams of a storage, a row each, after the head; with ``dataset`` those of this data set."""
    from vaegen_ray.data.catalog import info
    from vaegen_ray.errors import DataFormatError, StorageError
    from vaegen_ray.results.shards import open_stream, streams

    if dataset is not None:
        info(dataset)
    rows = [["samples", "model", "dataset", "steps", "shards", "images", "disk MiB", "images/s", "readers waited s"]]
    for digest in streams(storage):
        try:
            store, stream = open_stream(storage, digest)
            status = store.read_status() or {}
        except (DataFormatError, StorageError):
            if dataset is None:
                rows.append([digest, "damaged", *["-"] * (len(rows[0]) - 2)])
            continue
        if dataset not in (None, stream.diffusion.dataset):
            continue
        shards = len(store.numbers())
        row = [digest, stream.diffusion.diffusion_id, stream.diffusion.dataset, str(stream.sampler.steps)]
        row += [f"{shards:,}", f"{shards * stream.shard_size:,}", f"{store.disk_bytes() / 2**20:.1f}"]
        row += [f"{status.get('images_per_second', 0):,.0f}", f"{status.get('waited_seconds', 0):.1f}"]
        rows.append(row)
    return rows
