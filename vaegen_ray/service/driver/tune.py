"""Ray Tune at work on a list of bundles."""

import logging
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, TuneConfig, Tuner
from ray.tune import RunConfig as TuneRunConfig
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter
from ray.tune.stopper import Stopper

from vaegen_ray import exit, scratch
from vaegen_ray.bundle.packing import Bundle
from vaegen_ray.code_version import code_version
from vaegen_ray.data.images import Split
from vaegen_ray.errors import StorageError
from vaegen_ray.results.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.cluster import resources
from vaegen_ray.service.driver.metrics import Metrics
from vaegen_ray.service.driver.progress import Progress
from vaegen_ray.service.driver.scheduler import InOrder, forget
from vaegen_ray.service.driver.session import Session
from vaegen_ray.service.driver.workers import Workers
from vaegen_ray.service.sampling.client import PoolClient
from vaegen_ray.service.worker.bundle_worker import STARTS
from vaegen_ray.service.worker.trainable import BundleTrainable, Plan, find_bundle
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.trial import bundle_id

logger = logging.getLogger(__name__)

ATTEMPTS = 4
"""Starts of a bundle whose worker dies before the bundle is given up; each resumes from the checkpoint. Each time that
the largest bundle can be halved adds ``STARTS``."""


class Refusal(Stopper):
    """Ends the run when the storage refuses what no further try can change (``StorageError.final``).

    Attributes:
        reason: the first such error; empty while there is none.
    """

    def __init__(self) -> None:
        self.reason = ""

    def note(self, reason: str) -> None:
        """The storage refuses something for good; the first reason is kept."""
        self.reason = self.reason or reason

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.note(result.get("refused", ""))
        return bool(self.reason)

    def stop_all(self) -> bool:
        return bool(self.reason)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Where Tune gets bundles from. Its configurations hold ``bundle``, a number in the order of the starts."""

    search: BasicVariantGenerator | ConcurrencyLimiter
    """Says which bundles there are, ``max_concurrent`` at a time."""
    scheduler: InOrder
    space: dict[str, Any]
    """What ``search`` chooses from, where it does not know it."""
    samples: int
    """How often it does."""
    members: list[int]
    """VAEs of every bundle."""
    bundles: list[Bundle] = field(default_factory=list)
    """Those that are known before."""
    at_most: int | None = None
    """Bundles at a time; None: as many as there are devices."""
    refusal: Refusal = field(default_factory=Refusal)
    """Why the storage refuses, if it does."""

    @classmethod
    def from_bundles(cls, bundles: list[Bundle]) -> "Queue":
        """A queue of bundles that are known, one after the other."""
        return cls(
            search=BasicVariantGenerator(max_concurrent=resources.find_devices()[1]),
            scheduler=InOrder(),
            space={"bundle": tune.grid_search(list(range(len(bundles))))},
            samples=1,
            members=[len(bundle) for bundle in bundles],
            bundles=bundles,
        )


def fit(
    session: Session,
    workers: Workers,
    queue: Queue,
    images: dict[str, Split],
    *,
    seconds: list[float],
    pools: dict[StreamSpec, PoolClient] | None = None,
) -> bool:
    """Trains all bundles of a queue, in its order, on as many devices as there are; False when one was given up.

    Args:
        session: where workers write, and when they save checkpoints and weights.
        workers: the device that is reserved for a bundle, and the networks of the user.
        queue: what to train.
        images: training and test images by ``data_key``.
        seconds: expected duration of each bundle.
        pools: of the streams that trials read.

    Raises:
        StorageError: the storage refuses for good (``StorageError.final``); all workers are stopped.
        Stopped: a signal arrived; running bundles have saved a checkpoint.
    """
    store, pools = session.store, pools or {}
    progress = Progress(sum(queue.members), seconds, queue.members)
    plan = _build_plan(session, workers, queue, pools)
    trainable = tune.with_resources(
        tune.with_parameters(BundleTrainable, plan=plan, images=images),
        resources.build_bundle_resources(plan.use_gpu, bool(pools)),
    )
    # Tune logs a traceback for every lost worker, and all trials of a run that is stopped; ``Watcher`` has a line each.
    for name in ("ray.tune.execution.tune_controller", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    attempts = ATTEMPTS + STARTS * (max(queue.members) - 1).bit_length()
    watcher = Watcher(store, progress, queue, list(pools.values()))
    try:
        with scratch.folder(tempfile.gettempdir(), "vaegen-tune-") as folder:  # for Tune's own files
            tuner = _build_tuner(trainable, queue, watcher, store.name, str(folder), attempts)
            with _tunes_signals(), exit.stopping(_ask_tune_to_stop):
                results = tuner.fit()
    finally:
        watcher.heartbeat(ended=True)
        progress.close()
    if queue.refusal.reason:
        raise StorageError(queue.refusal.reason)
    for error in results.errors:
        logger.info(
            f"a bundle was given up after {attempts} attempts: {_reason(error)}; rerun the command to try again"
        )
    return results.num_errors == 0 and results.num_terminated == len(queue.members)


def _build_plan(session: Session, workers: Workers, queue: Queue, pools: dict[StreamSpec, PoolClient]) -> Plan:
    return Plan(
        storage=session.store.storage,
        sweep=session.store.name,
        bundles=queue.bundles,
        code_version=code_version(),
        checkpoint_seconds=session.config.checkpoint_seconds,
        save_every=session.config.save_every,
        use_gpu=workers.device.kind == "cuda",
        run=uuid.uuid4().hex,
        streams={stream: pool.connection for stream, pool in pools.items()},
        networks=workers.networks,
    )


def _build_tuner(trainable: Any, queue: Queue, watcher: "Watcher", name: str, folder: str, attempts: int) -> Tuner:
    return Tuner(
        trainable,
        param_space=queue.space,
        tune_config=TuneConfig(
            reuse_actors=True, num_samples=queue.samples, search_alg=queue.search, scheduler=queue.scheduler
        ),
        run_config=TuneRunConfig(
            name=name,
            storage_path=folder,
            verbose=0,
            callbacks=[watcher],
            stop=queue.refusal,
            failure_config=FailureConfig(max_failures=attempts - 1),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
        ),
    )


@contextmanager
def _tunes_signals() -> Iterator[None]:
    """Takes back the handler of SIGUSR1, which Tune leaves in place."""
    before = signal.getsignal(signal.SIGUSR1) or signal.SIG_DFL
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, before)


def _ask_tune_to_stop() -> bool:
    """Asks Tune to stop all trials, which save their checkpoints; False where it does not run yet.

    While it runs, Tune takes SIGUSR1 for this request. It would take SIGINT too; ``cluster`` tells it not to."""
    handler = signal.getsignal(signal.SIGUSR1)
    if not callable(handler):
        return False
    handler(signal.SIGUSR1, None)
    return True


class Watcher(Callback):
    """Carries Tune's reports to the display, to status.json and to Ray's metrics, keeps the sampler pools alive, and
    lets Tune ask for as many bundles at a time as there are devices, while nodes come and go."""

    def __init__(self, store: SweepStore, progress: Progress, queue: Queue, pools: list[PoolClient]) -> None:
        self._store = store
        self._progress = progress
        self._queue = queue
        self._pools = pools
        self._metrics = Metrics(store.name)
        self._running: dict[str, int] = {}
        """The bundles that run, by the Tune trial."""
        self._last_heartbeat = 0.0
        self._refused = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its callbacks into a file that nothing reads here. The display writes to a stream, and that of a
        notebook cannot be pickled; so an idle callback goes into the file."""
        return Callback, ()

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        done = result["fraction"], result["finished_members"], result["resumed"]
        self._progress.update(trial.config["bundle"], *done)
        for note in result["notes"]:
            logger.info(note)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running[trial.trial_id] = trial.config["bundle"]

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)
        if not self._queue.refusal.reason:  # a bundle that was stopped is not done
            self._progress.update(trial.config["bundle"], 1.0, self._queue.members[trial.config["bundle"]])
        forget(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)
        bundle = find_bundle(trial.config, self._queue.bundles)
        ids = [spec.trial_id for spec in bundle]
        reason = _reason(trial.get_error())
        self._note(lambda: self._store.write_given_up(bundle_id(bundle), ids, reason, trial.num_failures))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)
        members = self._queue.members[trial.config["bundle"]]
        cause = _cause(trial)
        what = f"met an error ({cause})" if isinstance(cause, StorageError) else "was lost"
        logger.info(f"a worker with {members} VAEs {what}; the bundle goes on from its last checkpoint")

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        self._progress.running = len(self._running)
        for pool in self._pools:
            notes = pool.beat()
            if pool.refused:
                self._queue.refusal.note(pool.refused)
            for note in notes if not self._queue.refusal.reason else ():
                logger.info(note)
        self._progress.samples_per_second = sum(pool.images_per_second for pool in self._pools)
        self._progress.show()
        self.heartbeat()

    def heartbeat(self, *, ended: bool = False) -> None:
        """Writes status.json when it is due, and when the run has ended."""
        if not ended and time.monotonic() - self._last_heartbeat < HEARTBEAT_SECONDS:
            return
        self._last_heartbeat = time.monotonic()
        if ray.is_initialized():
            self._queue.search.max_concurrent = min(resources.find_devices()[1], self._queue.at_most or sys.maxsize)
        progress = self._progress
        self._metrics.update(progress, [pool.state for pool in self._pools])
        beat = Heartbeat(
            time=time.time(),
            vaes_to_train=progress.total,
            vaes_done=progress.done,
            fraction=progress.fraction,
            bundles=len(self._queue.members),
            bundles_running=progress.running,
            vaes_running=sum(self._queue.members[bundle] for bundle in self._running.values()),
            vaes_per_minute=progress.vaes_per_minute,
            seconds_left=progress.seconds_left,
            pools={pool.connection.digest: pool.state for pool in self._pools},
            ended=ended,
            ray_address=ray.get_runtime_context().gcs_address if ray.is_initialized() else None,
        )
        self._note(lambda: self._store.write_status(beat.encode()))

    def _note(self, write: Callable[[], None]) -> None:
        """Writes what others may want to know. A storage that refuses it for now is no reason to end the run: what
        workers cannot write, they say themselves."""
        try:
            write()
        except StorageError as error:
            if error.final:
                self._queue.refusal.note(str(error))
            elif not self._refused:
                logger.info(f"the storage refuses notes of the driver: {error}")
            self._refused = True
        else:
            self._refused = False


def _cause(trial: Any) -> Any:
    """What a worker raised last; None where it died. (Tune's own ``get_pickled_error`` looks where it is not yet.)"""
    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return None
    return getattr(cloudpickle.loads(Path(path).read_bytes()), "cause", None)


def _reason(error: Any) -> str:
    """The last line of what a worker said."""
    return (str(error or "").strip().splitlines() or ["no reason was given"])[-1]
