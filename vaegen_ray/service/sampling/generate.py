"""What ``vaegen diffusion`` and ``vaegen samples`` do: train or import a diffusion model, make samples ahead."""

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vaegen_ray.errors import DataMissingError, SpecError, VaegenError
from vaegen_ray.paths import expanded
from vaegen_ray.results import leftovers
from vaegen_ray.results.diffusions import DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import connect
from vaegen_ray.service.inputs import load_diffusion_images, require_imported
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.text import clock

if TYPE_CHECKING:
    from vaegen_ray.service.sampling.client import PoolClient

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Longest time between two looks for shard files."""
LINE_SECONDS = 5.0
"""Time between two lines about the progress of generating."""
STALL_SECONDS = 900.0
"""Generating fails when there was no new shard for so long."""


def train(
    storage: Storage,
    spec: DiffusionSpec,
    *,
    address: str | None,
    data_dir: str | None,
    checkpoint_seconds: float,
) -> None:
    """Trains a diffusion model that is not trained yet.

    Args:
        storage: where the model goes.
        spec: the model.
        address: of a Ray cluster; Ray starts on this machine when None.
        data_dir: folder of the data sets.
        checkpoint_seconds: time between two checkpoints.

    Raises:
        VaegenError: the data set is not there, or the training failed.
    """
    from vaegen_ray.service.sampling import train_models

    _prepare(storage, spec)
    if train_models.find_committed(storage, spec, logger.info) is None:
        images = load_diffusion_images(spec, data_dir)
        connect.connect(address)
        try:
            train_models.train_missing(
                storage, [spec], lambda _: images, logger.info, checkpoint_seconds=checkpoint_seconds
            )
        finally:
            connect.disconnect()
    store = DiffusionStore(storage, spec.diffusion_id)
    mark = store.committed()
    assert mark is not None, store.where()
    logger.info(f"model {spec.diffusion_id}, weights {mark['digest'][:16]}..., samples in {store.where('samples.png')}")


def import_weights(storage: Storage, spec: DiffusionSpec, file: str) -> None:
    """Imports weights for the network of ``spec`` from a safetensors file.

    Raises:
        DataMissingError: there is no such file.
        DataFormatError: it is no safetensors file, or holds the weights of another network.
    """
    import torch

    from vaegen_ray.reports.samples import write_preview
    from vaegen_ray.serialization import digest
    from vaegen_ray.service.sampling import diffusion_worker as worker

    path = expanded(file)
    if not path.is_file():
        raise DataMissingError(f"the weights to import must be a safetensors file; there is no file {path}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataMissingError(f"cannot read {path}: {error.strerror}") from None
    weights = worker.import_weights(spec, data, str(path))
    imported = replace(spec, weights=digest(weights))
    store = DiffusionStore(storage, imported.diffusion_id)
    worker.commit(store, imported, weights, losses=[], imported_from=path.name)
    logger.info(f"model {imported.diffusion_id} in {store.where()}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" or imported.network == "mlp":  # a hundred samples of a U-Net take a CPU many minutes
        logger.info(f"samples in {write_preview(store, imported, worker.make_preview(imported, weights, device))}")
    logger.info(f"use it with: --diffusion-weights {imported.weights}")


def generate(
    storage: Storage,
    stream: StreamSpec,
    samples: int,
    *,
    samplers: tuple[int, int] | None,
    address: str | None,
    data_dir: str | None,
    checkpoint_seconds: float,
) -> None:
    """Makes the first ``samples`` samples of a stream where they are missing.

    Args:
        storage: where shards go.
        stream: the stream; its model is trained where it is not.
        samples: how many.
        samplers: fewest and most samplers; from 1 to the number of devices when None.
        address, data_dir, checkpoint_seconds: as for ``train``.

    Raises:
        SpecError: more samples than a stream has.
        VaegenError: the pool has a fault, or makes nothing.
    """
    from vaegen_ray.service.sampling.client import open_pools

    if samples > stream.training_samples:
        raise SpecError(f"a stream has {stream.training_samples:,} samples to train on; got {samples:,}")
    _prepare(storage, stream.diffusion)
    shards = range(stream.shards(samples))
    connect.connect(address)
    try:
        pools = open_pools(
            storage,
            "vaegen-samples",
            [stream],
            samplers,
            lambda model: load_diffusion_images(model, data_dir),
            logger.info,
            checkpoint_seconds=checkpoint_seconds,
            goal=shards,
        )
        pool = pools[stream]
        try:
            _watch(pool, set(shards))
        finally:
            pool.leave()
    finally:
        connect.disconnect()


def _prepare(storage: Storage, spec: DiffusionSpec) -> None:
    storage.probe()
    leftovers.sweep(storage, "samples", "diffusion")
    require_imported(storage, spec)


def _watch(pool: "PoolClient", shards: set[int]) -> None:
    """Keeps a pool alive until all shards are there."""
    from vaegen_ray.service.sampling.sampler import build_shard_store

    connection = pool.connection
    store = build_shard_store(connection.storage, connection.stream, connection.digest)
    started = last_line = last_shard = time.monotonic()
    missing = left = len(shards - set(store.numbers()))
    while left:
        for note in pool.beat():
            logger.info(note)
        if pool.state.get("fault"):
            raise VaegenError(pool.state["fault"])
        time.sleep(POLL_SECONDS / 4 if left < 20 else POLL_SECONDS)
        now = time.monotonic()
        before, left = left, len(shards - set(store.numbers()))
        if left < before:
            last_shard = now
        if now - last_shard > STALL_SECONDS:
            raise VaegenError(f"no new shard within {STALL_SECONDS:.0f} s; {left} of {len(shards)} are missing")
        if now - last_line >= LINE_SECONDS:
            last_line = now
            logger.info(f"{len(shards) - left}/{len(shards)} shards · {pool.images_per_second:,.0f} samples/s")
    seconds = time.monotonic() - started
    size = connection.stream.shard_size
    rate = f", {missing * size / seconds:,.0f} samples/s" if missing else ""
    logger.info(
        f"{len(shards)} shards of {size:,} samples in {connection.storage.where(f'samples/{connection.digest}')}; "
        f"{missing} made now in {clock(seconds)}{rate}"
    )
