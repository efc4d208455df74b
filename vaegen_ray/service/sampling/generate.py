"""What ``vaegen diffusion`` and ``vaegen samples`` do."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vaegen_ray.errors import DataFormatError, DataMissingError, SpecError, StorageError
from vaegen_ray.paths import expanded
from vaegen_ray.results import leftovers
from vaegen_ray.results.diffusions import DiffusionStore, models
from vaegen_ray.results.shards import open_stream, streams
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import connect
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.text import clock

Say = Callable[[str], None]

LOOK_SECONDS = 1.0
"""Time between two looks at which shards are there."""
LINE_SECONDS = 5.0
"""Time between two lines about the progress of generating."""
STALL_SECONDS = 900.0
"""Generating that brings no new shard for so long is given up."""


def train(storage: Storage, spec: DiffusionSpec, options: Any, say: Say) -> int:
    """Trains a diffusion model, or says that it is trained; returns the exit code."""
    from vaegen_ray.service.inputs import load_diffusion_images, require_imported
    from vaegen_ray.service.sampling import train_models

    storage.probe()
    leftovers.sweep(storage, "samples", "diffusion")
    require_imported(storage, spec)
    if train_models.committed(storage, spec, say) is None:
        images = load_diffusion_images(spec, options.data_dir)
        connect.connect(options.address)
        try:
            train_models.ensure(storage, [spec], lambda _: images, say, checkpoint_seconds=options.checkpoint_seconds)
        finally:
            connect.disconnect()
    store = DiffusionStore(storage, spec.diffusion_id)
    mark = store.committed()
    assert mark is not None, store.where()
    say(f"model {spec.diffusion_id}, weights {mark['digest'][:16]}..., samples in {store.where('samples.png')}")
    return 0


def import_weights(storage: Storage, spec: DiffusionSpec, file: str, say: Say) -> int:
    """Takes weights for the network of ``spec`` from a safetensors file; returns the exit code.

    Raises:
        DataMissingError: there is no such file.
        DataFormatError: it is no safetensors file, or holds the weights of another network.
    """
    import torch

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
    say(f"model {imported.diffusion_id} in {store.where()}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" or imported.network == "mlp":  # a hundred samples of a U-Net take a CPU many minutes
        say(f"samples in {store.write_picture(worker.picture(imported, weights, device))}")
    say(f"use it with: --diffusion-weights {imported.weights}")
    return 0


def table_of_models(storage: Storage) -> list[list[str]]:
    """A row of words a diffusion model, the head first."""
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


def table_of_streams(storage: Storage) -> list[list[str]]:
    """A row of words a stream, the head first: what is kept, how fast it is made, how long readers waited."""
    rows = [["samples", "model", "dataset", "steps", "shards", "images", "disk MiB", "images/s", "readers waited s"]]
    for digest in streams(storage):
        try:
            store, stream = open_stream(storage, digest)
            status = store.read_status() or {}
        except (DataFormatError, StorageError):
            rows.append([digest, "damaged", *["-"] * (len(rows[0]) - 2)])
            continue
        shards = len(store.numbers())
        rows.append(
            [
                digest,
                stream.diffusion.diffusion_id,
                stream.diffusion.dataset,
                str(stream.sampler.steps),
                f"{shards:,}",
                f"{shards * stream.shard_size:,}",
                f"{store.disk_bytes() / 2**20:.1f}",
                f"{status.get('images_per_second', 0):,.0f}",
                f"{status.get('waited_seconds', 0):.1f}",
            ]
        )
    return rows


def generate(storage: Storage, stream: StreamSpec, samples: int, options: Any, say: Say) -> int:
    """Makes the first ``samples`` samples of a stream where they are missing; returns the exit code.

    Raises:
        SpecError: more than a stream has.
        VaegenError: the pool says what is wrong, or makes nothing.
    """
    from vaegen_ray.service.inputs import load_diffusion_images, require_imported
    from vaegen_ray.service.sampling.client import open_pools

    if samples > stream.training_samples:
        raise SpecError(f"a stream has {stream.training_samples:,} samples to train on; got {samples:,}")
    storage.probe()
    leftovers.sweep(storage, "samples", "diffusion")
    require_imported(storage, stream.diffusion)
    wanted = range(stream.shards(samples))
    connect.connect(options.address)
    try:
        pools = open_pools(
            storage,
            "vaegen-samples",
            [stream],
            options.samplers,
            lambda model: load_diffusion_images(model, options.data_dir),
            say,
            checkpoint_seconds=options.checkpoint_seconds,
            goal=wanted,
        )
        pool = pools[stream]
        try:
            return _watch(pool, set(wanted), say)
        finally:
            pool.leave()
    finally:
        connect.disconnect()


def _watch(pool: Any, wanted: set[int], say: Say) -> int:
    from vaegen_ray.errors import VaegenError
    from vaegen_ray.service.sampling.sampler import shard_store

    connection = pool.connection
    store = shard_store(connection.storage, connection.stream, connection.digest)
    started = last_line = last_news = time.monotonic()
    before = left = len(wanted - set(store.numbers()))
    while left:
        for note in pool.beat():
            say(note)
        if pool.state.get("fault"):
            raise VaegenError(pool.state["fault"])
        time.sleep(LOOK_SECONDS / 4 if left < 20 else LOOK_SECONDS)
        now = time.monotonic()
        missing = len(wanted - set(store.numbers()))
        if missing < left:
            last_news = now
        left = missing
        if now - last_news > STALL_SECONDS:
            raise VaegenError(f"no new shard within {STALL_SECONDS:.0f} s; {left} of {len(wanted)} are missing")
        if now - last_line >= LINE_SECONDS:
            last_line = now
            say(f"{len(wanted) - left}/{len(wanted)} shards · {pool.images_per_second:,.0f} samples/s")
    took = time.monotonic() - started
    size = connection.stream.shard_size
    rate = f", {before * size / took:,.0f} samples/s" if before else ""
    say(
        f"{len(wanted)} shards of {size:,} samples in {connection.storage.where(f'samples/{connection.digest}')}; "
        f"{before} made now in {clock(took)}{rate}"
    )
    return 0
