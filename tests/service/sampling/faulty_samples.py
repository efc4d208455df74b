"""A small sweep on diffusion samples in which a process of the sampler pool is killed at a chosen point, once. Run by
``test_sample_faults.py``.

    python faulty_samples.py POINT COUNT MARKERS [options of a sweep]

POINT is where SIGKILL strikes the process that comes there for the COUNT-th time:

    made        a sampler, before it writes a shard          written     a sampler, after it wrote it
    asked       the coordinator, when a reader asks            got         a reader, when it has fetched a shard
    begun       the worker of the diffusion model, before it trains
    trained     the worker of the diffusion model, after it trained a little and wrote a checkpoint
    full        no kill: the storage refuses every shard from then on, as a full disk does
    away        no kill: the storage refuses this shard once, as a file server does that is away for a moment
    model       no kill: the storage refuses what the training of the diffusion model writes, as a full disk does
    model_away  no kill: it does so once, as a file server does that is away for a moment
    none        nothing

MARKERS is a folder for the counters.
"""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import add_stream_options
from vaegen_ray.results.diffusions import DiffusionStore
from vaegen_ray.results.storage_errors import explained
from vaegen_ray.service.sampling import actors
from vaegen_ray.service.worker import trainable
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec, base_stream
from vaegen_ray.sweep.sweep import Sweep

POINT, COUNT, MARKERS = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


def arrivals(point: str) -> int:
    """Counts an arrival at a point, over all processes: each count is a file that one process alone can make."""
    number = 1
    while True:
        try:
            os.close(os.open(MARKERS / f"{point}-{number}", os.O_CREAT | os.O_EXCL))
            return number
        except FileExistsError:
            number += 1


def reach(point: str) -> None:
    if point == POINT and arrivals(point) == COUNT:
        os.kill(os.getpid(), signal.SIGKILL)


def refuse(path: str, *, full: str, away: str) -> None:
    """Raises what a storage raises, where one of these points is reached."""
    if POINT in (full, away):
        number = arrivals(POINT)
        if number == COUNT or (number > COUNT and full == POINT):
            code = errno.ENOSPC if full == POINT else errno.EIO
            with explained("write", path):
                raise OSError(code, os.strerror(code))


class FaultySampler(actors.Sampler):
    def make(self, number: int) -> Any:
        write = type(self._shards).write

        def faulty_write(*args: Any) -> None:
            refuse(self._shards.where(number), full="full", away="away")
            reach("made")
            write(self._shards, *args)
            reach("written")

        self._shards.write = faulty_write  # type: ignore[method-assign]
        return super().make(number)


class FaultyCoordinator(actors.CoordinatorActor):
    sampler_class = FaultySampler

    async def shard(self, *args: Any, **more: Any) -> tuple[str, Any]:
        reach("asked")
        return await super().shard(*args, **more)


class FaultyReader(trainable.SampleReader):
    def _fetch(self, number: int, needed: Any) -> Any:
        found = super()._fetch(number, needed)
        reach("got")
        return found


class FaultyDiffusionActor(actors.DiffusionActor):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "checkpoint_seconds": 0.0})

    def advance(self, seconds: float) -> dict[str, Any]:
        reach("begun")
        refuse(DiffusionStore(self._storage, self._spec.diffusion_id).where(), full="model", away="model_away")
        told = super().advance(0.01)
        reach("trained")
        return told


class FaultyTrainable(trainable.BundleTrainable):
    report_seconds = 0.01

    def _open_reader(self, stream: Any, samples: int) -> Any:
        return FaultyReader(self._plan.streams[stream], self.trial_id, samples)


def declare(options: Any) -> Sweep:
    stream = base_stream("digits", "smoke", n_train=100)
    base = base_spec("digits", n_train=100, epochs=12)
    sources = [{"budget": 3}, {"budget": 0}]
    trials = tuple(
        TrialSpec(**base, **source, nc=nc, seed=seed, evaluate_at=(1, 6, 12), method="dmaapx", stream=stream)
        for nc in (4, 8)
        for source in sources
        for seed in range(2)
    )
    return Sweep(name="faulty", trials=trials)


if __name__ == "__main__":
    from vaegen_ray.service.driver import tune

    actors.CoordinatorActor = FaultyCoordinator  # type: ignore[misc]
    actors.DiffusionActor = FaultyDiffusionActor  # type: ignore[misc]
    tune.BundleTrainable = FaultyTrainable  # type: ignore[misc]
    sys.exit(main(declare, "A sweep with a fault.", add_stream_options, argv=sys.argv[4:]))
