"""The sampler pool against a plain loop, what readers wait, and on a GPU what the network reaches.

    python benchmarks/sampler.py [--shards N] [--repeats N]          a CPU, with Ray
    python benchmarks/sampler.py --gpu [--batch N] [--shards N]      a GPU, without Ray

CPU: the diffusion model of digits with random weights (its speed is that of a trained one). The plain loop makes shards
one after another in 1 or 2 processes, writes nothing and knows no Ray; the pool makes as many with 1 or 2 samplers, and
writes them. Starts, imports and the uneven end are not counted on either side. Then VAEs are trained on shards that are
there, against the same VAEs on the training set: what reading costs a trainer, and how long it waited.

GPU: DDPM++ for CIFAR-10 with random weights in float32, tf32 and bf16, one launch a kernel and replayed as a CUDA
graph; images/s, TFLOP/s, share of the peak, and how far samples are from those of float32 with equal seeds.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import describe

from vaegen_ray.bundle.diffusion_cost import network_cost
from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data import catalog
from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.diffusion.shards import ShardMaker
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec, base_stream

PEAK_TFLOPS = {"float32": 67.0, "tf32": 494.7, "bf16": 989.5}
"""Dense peak of an H100 or H200 (SXM) by its data sheet."""


def random_weights(stream: StreamSpec) -> dict[str, torch.Tensor]:
    """Initial weights, where the layers that start at zero are random too, so that no product is trivial."""
    generator = torch.Generator().manual_seed(0)
    named = build_denoiser(stream.diffusion).named_parameters()
    return {n: p.detach() if p.any() else 0.02 * torch.randn(p.shape, generator=generator) for n, p in named}


def plain(stream: StreamSpec, first: int, shards: int, barrier: Any, seconds: Any) -> None:
    """One process of the plain loop."""
    torch.set_num_threads(1)
    maker = ShardMaker(stream, random_weights(stream))
    maker.images(range(stream.batch_size))
    barrier.wait()
    started = time.monotonic()
    for number in range(first, first + shards):
        maker.shard(number)
    seconds.put(time.monotonic() - started)


def plain_rate(stream: StreamSpec, processes: int, shards: int) -> float:
    """Images a second of the plain loop, all processes at work."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(processes), context.Queue()
    share = shards // processes
    workers = [
        context.Process(target=plain, args=(stream, i * share, share, barrier, seconds)) for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    took = max(seconds.get(timeout=600) for _ in workers)
    for worker in workers:
        worker.join()
    return processes * share * stream.shard_size / took


def pool_rate(connection: Any, samplers: int, shards: int) -> float:
    """Images a second of a pool that has made its first shards, from when every sampler has written another one to when
    each has one left."""
    from vaegen_ray.service.sampling.client import PoolClient
    from vaegen_ray.service.sampling.sampler import build_shard_store

    store = build_shard_store(connection.storage, connection.stream, connection.digest)
    for number in store.numbers():
        store.delete(number)
    pool = PoolClient(connection, "benchmark", (samplers, samplers), tuple(range(2 * samplers)))
    _until(pool, store, 2 * samplers)
    more = PoolClient(connection, "more", (samplers, samplers), range(2 * samplers + shards))
    _until(more, store, 2 * samplers + shards)
    pool.leave()
    more.leave()
    new = range(2 * samplers, 2 * samplers + shards)
    written = sorted(Path(store.where(number)).stat().st_mtime for number in new)
    middle = written[samplers - 1 : shards - samplers]
    return (len(middle) - 1) * connection.stream.shard_size / (middle[-1] - middle[0])


def _until(pool: Any, store: Any, shards: int) -> None:
    while len(store.numbers()) < shards:
        for note in pool.beat():
            print(note)
        time.sleep(0.1)


def training_seconds(connection: Any | None, epochs: int) -> tuple[float, float]:
    """Seconds of the training of three VAEs of nc 256, on samples that are there or on the training set; and of these
    the seconds that it waited for samples."""
    from vaegen_ray.service.sampling.reader import SampleReader

    base = base_spec("digits", n_train=1000, epochs=epochs)
    source = {} if connection is None else {"method": "dmaapx", "stream": connection.stream}
    specs = tuple(TrialSpec(**base, **source, nc=256, mz=4, seed=s, evaluate_at=(epochs,)) for s in range(3))
    split = catalog.load("digits", levels=2, n_train=1000)
    readers: list[SampleReader] = []

    def open_stream(stream: StreamSpec) -> SampleReader:
        if not readers:
            readers.append(SampleReader(connection, "benchmark", specs[0].samples))
        return readers[0]

    torch.set_num_threads(1)
    started = time.monotonic()
    run = BundleRun(specs, split, open_stream=open_stream)
    while not run.finished:
        run.advance(60)
    took = time.monotonic() - started
    waited = sum(reader.waited_seconds for reader in readers)
    for reader in readers:
        reader.close()
    return took, waited


def on_cpu(shards: int, repeats: int) -> None:
    """Prints the comparison on this machine."""
    from vaegen_ray.results.diffusions import DiffusionStore
    from vaegen_ray.results.storage import Storage
    from vaegen_ray.service.cluster import connect
    from vaegen_ray.service.sampling.actors import Connection
    from vaegen_ray.service.sampling.client import PoolClient
    from vaegen_ray.service.sampling.diffusion_worker import commit
    from vaegen_ray.service.sampling.sampler import build_shard_store

    print(describe("torch", "ray", "pyarrow"))
    stream = base_stream("digits", "laptop")
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.open(folder)
        store = DiffusionStore(storage, stream.diffusion.diffusion_id)
        weights = commit(store, stream.diffusion, random_weights(stream), losses=[])
        connection = Connection(storage=storage, stream=stream, digest=stream.digest(weights), use_gpu=False)
        connect.connect(None)
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(repeats):
            for count in (1, 2):
                rates.setdefault(("plain", count), []).append(plain_rate(stream, count, shards))
                rates.setdefault(("pool", count), []).append(pool_rate(connection, count, shards))
        for count in (1, 2):
            loop, pool = (median(rates[side, count]) for side in ("plain", "pool"))
            ratios = [p / q for p, q in zip(rates["pool", count], rates["plain", count], strict=True)]
            print(
                f"{count} process(es): plain loop {loop:,.0f} images/s, pool {pool:,.0f} images/s, "
                f"ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            )
        epochs = 60
        reader_pool = PoolClient(connection, "benchmark", (1, 2), tuple(range(stream.shards(1000 * epochs))))
        files = build_shard_store(storage, stream, connection.digest)
        while len(files.numbers()) < stream.shards(1000 * epochs):
            reader_pool.beat()
            time.sleep(0.1)
        pairs = [(training_seconds(None, epochs)[0], *training_seconds(connection, epochs)) for _ in range(repeats)]
        reader_pool.leave()
        normal, dmaapx, waited = (median(column) for column in zip(*pairs, strict=True))
        print(
            f"3 VAEs, {epochs} epochs: on the training set {normal:.2f} s, on shards that are there {dmaapx:.2f} s "
            f"(ratio {dmaapx / normal:.3f}), of these waiting {1000 * waited:.0f} ms"
        )
        connect.disconnect()


def on_gpu(batch: int, shards: int) -> None:
    """Prints what the network of CIFAR-10 reaches on this GPU."""
    stream = base_stream("cifar10", "paper")
    flops = network_cost(stream.diffusion).flops * stream.sampler.evaluations
    print(f"{torch.cuda.get_device_name()}\n{describe('torch')}")
    print(f"{flops / 1e12:.2f} TFLOP an image, {stream.sampler.evaluations} evaluations, batches of {batch}")
    weights = random_weights(stream)
    exact = None
    for precision in ("float32", "tf32", "bf16"):
        for graph in (False, True):
            spec = StreamSpec(
                diffusion=stream.diffusion,
                sampler=stream.sampler,
                shard_size=batch,
                batch_size=batch,
                precision=precision,
            )
            maker = ShardMaker(spec, weights, device="cuda", graph=graph)
            images = torch.from_numpy(maker.shard(0)).float()
            exact = images if exact is None else exact
            count = 1 if precision == "float32" else shards
            torch.cuda.synchronize()
            started = time.monotonic()
            for number in range(1, 1 + count):
                maker.shard(number)
            rate = count * batch / (time.monotonic() - started)
            off = (images - exact).abs()
            reached = rate * flops / 1e12
            print(
                f"{precision:8} {'graph' if graph else 'eager':6} {rate:7.1f} images/s {reached:7.1f} TFLOP/s, "
                f"{100 * reached / PEAK_TFLOPS[precision]:4.1f} % of peak; from float32: mean {off.mean():.4f} of 255, "
                f"{100 * (off > 1).float().mean():.3f} % of values off by more than 1",
                flush=True,
            )
            del maker
            torch.cuda.empty_cache()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument(
        "--shards", type=int, default=40, help="shards of each measurement; on a GPU, of one batch each"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(argv)
    if options.gpu:
        if not torch.cuda.is_available():
            print("no GPU here", file=sys.stderr)
            return 2
        on_gpu(options.batch, min(options.shards, 4))
    else:
        on_cpu(options.shards, options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
