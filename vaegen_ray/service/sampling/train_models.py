"""Trains the diffusion models that are missing: one Ray actor a model, watched by the driver.

A model that two drivers of one cluster need is trained once, since the actor has a name. A lost actor is started again
and resumes from its checkpoint.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from vaegen_ray.errors import DataFormatError, StorageError, VaegenError
from vaegen_ray.exit import in_background
from vaegen_ray.results.diffusions import WEIGHTS, DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import resources
from vaegen_ray.service.cluster.connect import describe_error
from vaegen_ray.service.sampling.actors import start_diffusion_actor
from vaegen_ray.spec.diffusion import DiffusionSpec
from vaegen_ray.text import clock

TRIES = 4
"""A training is started so many times before it fails."""
REPORT_SECONDS = 2.0
"""Training time between two reports."""
SILENCE_SECONDS = 600.0
"""A worker that does not answer for so long is lost."""
STUCK_SECONDS = 3600.0
"""A worker that answers but has completed no step for so long is lost."""
LINE_SECONDS = 10.0
"""Time between two lines about the progress."""
WAITING_LINE_SECONDS = 60.0
"""Time between two lines about the wait for a device."""

Say = Callable[[str], None]

_DRAWING = Lock()
"""One thread draws at a time, since matplotlib has state."""


def find_committed(storage: Storage, spec: DiffusionSpec, say: Say) -> str | None:
    """The digest of a model's weights, or None where it is not trained; damaged weights are moved to ``set-aside/``."""
    store = DiffusionStore(storage, spec.diffusion_id)
    try:
        mark = store.committed()
        if mark is None:
            return None
        store.read_weights()
    except DataFormatError as error:
        say(store.set_aside(WEIGHTS, str(error)))
        return None
    return str(mark["digest"])


def train_missing(
    storage: Storage,
    specs: Iterable[DiffusionSpec],
    load_images: Callable[[DiffusionSpec], np.ndarray],
    say: Say,
    *,
    checkpoint_seconds: float,
) -> dict[DiffusionSpec, str]:
    """Trains the models that are not in the storage, as many at a time as there are devices for.

    Args:
        storage: where models are and go.
        specs: the models.
        load_images: loads the training set of a model, uint8 [N, C, H, W].
        say: prints a line.
        checkpoint_seconds: time between two checkpoints.

    Returns:
        The digest of each model's weights.

    Raises:
        VaegenError: a training failed; or imported weights are damaged.
    """
    digests = {spec: find_committed(storage, spec, say) for spec in specs}
    missing = [spec for spec, digest in digests.items() if digest is None]
    for spec in missing:
        if spec.weights:
            raise VaegenError(f"imported weights {spec.weights} are damaged; take them again: vaegen diffusion import")
    if missing:
        device, _ = resources.find_devices(resources.SAMPLER)
        resources.check_precision((spec.precision for spec in missing), device)
        run_all([partial(_train, storage, spec, load_images(spec), say, checkpoint_seconds) for spec in missing])
    trained = {spec: digest or find_committed(storage, spec, say) for spec, digest in digests.items()}
    assert None not in trained.values(), trained
    return {spec: str(digest) for spec, digest in trained.items()}


def run_all(jobs: Iterable[Callable[[], None]]) -> None:
    """Runs jobs that mostly wait, each in its own thread, and raises the first error once all have ended. Ctrl-C leaves
    them behind."""
    futures = [in_background(job) for job in jobs]
    for error in [future.exception() for future in futures]:
        if error is not None:
            raise error


def _train(storage: Storage, spec: DiffusionSpec, images: np.ndarray, say: Say, checkpoint_seconds: float) -> None:
    started = time.monotonic()
    store = DiffusionStore(storage, spec.diffusion_id)
    resumed = ", resumed from its checkpoint" if store.is_started() else ""
    name = f"{spec.n_train:,} images of {spec.dataset}"
    say(f"training a diffusion model (EDM, {spec.network}) on {name}: {spec.images:,} images to see{resumed}")
    use_gpu = resources.find_devices(resources.SAMPLER)[0].kind == "cuda"
    reserved = resources.build_diffusion_options(use_gpu, one_core=spec.network == "mlp")
    device, held = "cuda" if use_gpu else "cpu", ray.put(images)
    for attempt in range(1, TRIES + 1):
        actor = start_diffusion_actor(
            storage, spec, held, reserved, device=device, checkpoint_seconds=checkpoint_seconds
        )
        try:
            preview = None
            if _await_start(actor, storage, spec, reserved, say):
                preview = _follow(actor, f"diffusion model ({name})", say)
            if preview is not None:
                from vaegen_ray.reports.samples import write_preview

                with _DRAWING:
                    write_preview(store, spec, preview)
            losses = (store.committed() or {}).get("losses")
            loss = f"loss {losses[-1][1]:.3f}, " if losses else ""
            took = clock(time.monotonic() - started)
            say(f"the diffusion model is trained ({name}): {loss}{took}; {store.where()}")
            return
        except (RayTaskError, StorageError) as error:
            reason = describe_error(error)
            cause = error.cause if isinstance(error, RayTaskError) else error
            if not isinstance(cause, StorageError):
                raise VaegenError(f"the training of diffusion model {spec.diffusion_id} failed: {reason}") from None
            if cause.final:
                raise StorageError(reason) from None
            say(f"the worker of the diffusion model met an error ({reason}); start {attempt} of {TRIES}")
        except RayError as error:
            reason = "it died" if isinstance(error, ActorDiedError) else describe_error(error)
            say(f"the worker of the diffusion model was lost ({reason}); start {attempt} of {TRIES}")
        finally:
            ray.kill(actor)
    raise VaegenError(f"the training of diffusion model {spec.diffusion_id} failed in {TRIES} starts")


def _await_start(actor: Any, storage: Storage, spec: DiffusionSpec, reserved: dict[str, Any], say: Say) -> bool:
    """Waits until the worker has a device and its data; False when another driver has trained the model meanwhile."""
    answer = actor.state.remote()
    started = last_line = time.monotonic()
    has_waited = False
    while not ray.wait([answer], timeout=LINE_SECONDS)[0]:
        if find_committed(storage, spec, say) is not None:
            return False
        if time.monotonic() - last_line >= WAITING_LINE_SECONDS:
            last_line, has_waited = time.monotonic(), True
            counts = {name: count for name, count in reserved.items() if name != "resources"}
            counts |= reserved.get("resources", {})
            wanted = ", ".join(f"{count} {name.removeprefix('num_')}" for name, count in counts.items())
            say(f"the training of the diffusion model waits for {wanted}, {clock(time.monotonic() - started)} so far")
    ray.get(answer)
    if has_waited:
        say(f"the training of the diffusion model has begun, after {clock(time.monotonic() - started)}")
    return True


def _follow(actor: Any, name: str, say: Say) -> np.ndarray | None:
    """Trains until the model is committed, and prints the progress, also while a block of steps runs.

    Returns:
        The first samples of the model, where it has no picture of them.

    Raises:
        RayError: the worker was lost, does not answer, or has completed no step for ``STUCK_SECONDS``.
    """
    progress = TrainingProgress(name, say)
    while True:
        answer = actor.advance.remote(REPORT_SECONDS)
        while not ray.wait([answer], timeout=LINE_SECONDS)[0]:
            progress.update(ray.get(actor.state.remote(), timeout=SILENCE_SECONDS))
        state = ray.get(answer)
        for note in state["notes"]:
            say(note)
        if state["finished"]:
            preview: np.ndarray | None = state["preview"]
            return preview
        progress.update(state)


class TrainingProgress:
    """Prints the progress of a training, a line every ``LINE_SECONDS``.

    Args:
        name: what is trained.
        say: prints a line.
    """

    def __init__(self, name: str, say: Say) -> None:
        self._name, self._say = name, say
        self._start: tuple[float, float] | None = None
        """Time and fraction of the first report, from which the speed is computed."""
        self._fraction = -1.0
        self._moved_at = self._last_line = time.monotonic()

    def update(self, state: dict[str, Any]) -> None:
        """Takes a report of the worker.

        Raises:
            RayError: the worker has completed no step for ``STUCK_SECONDS``.
        """
        now, fraction = time.monotonic(), state["fraction"]
        self._start = self._start or (now, fraction)
        if fraction > self._fraction:
            self._fraction, self._moved_at = fraction, now
        if now - self._moved_at >= STUCK_SECONDS:
            raise GetTimeoutError(f"it has completed no step for {clock(now - self._moved_at)}")
        if now - self._last_line < LINE_SECONDS:
            return
        self._last_line = now
        started, first = self._start
        loss = "" if state["loss"] is None else f", loss {state['loss']:.3f}"
        left = ""
        if first < fraction < 1:
            left = f", about {clock((now - started) * (1 - fraction) / (fraction - first))} left"
        self._say(f"{self._name}: {100 * fraction:.0f} %{loss}{left}")
