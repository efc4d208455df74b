"""Diffusion models are there, or are trained now: one Ray actor a model, watched by the driver.

A model that two drivers want on one cluster is trained once: the actor has a name. A lost actor is started again and
goes on from its checkpoint.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock, Thread
from typing import Any

import numpy as np
import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from vaegen_ray.errors import DataFormatError, StorageError, VaegenError
from vaegen_ray.results.diffusions import WEIGHTS, DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import connect, resources
from vaegen_ray.spec.diffusion import DiffusionSpec
from vaegen_ray.text import clock

TRIES = 4
"""Times that a training is started before it is given up."""
REPORT_SECONDS = 2.0
"""Training time between two reports."""
SILENCE_SECONDS = 600.0
"""A worker that does not answer for so long is given up."""
STUCK_SECONDS = 3600.0
"""A worker that answers but has completed no step for so long is given up."""
LINE_SECONDS = 10.0
"""Time between two lines about the progress."""
WAITING_LINE_SECONDS = 60.0
"""Time between two lines about the wait for a device."""


class DiffusionActor:
    """``DiffusionWorker`` behind Ray; imported and made where it runs, at the first call: the errors of a call keep
    their kind, and those of a constructor do not. ``state`` answers while ``advance`` trains."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._made_of = args, options
        self._worker: Any = None
        self._making = Lock()

    def ready(self) -> Any:
        """The worker, made when it is needed first."""
        with self._making:
            if self._worker is None:
                from vaegen_ray.service.sampling.diffusion_worker import DiffusionWorker

                args, options = self._made_of
                self._worker = DiffusionWorker(*args, **options)
            return self._worker

    def advance(self, seconds: float) -> dict[str, Any]:
        """See ``DiffusionWorker.advance``."""
        state: dict[str, Any] = self.ready().advance(seconds)
        return state

    @ray.method(concurrency_group="state")
    def state(self) -> dict[str, Any]:
        """See ``DiffusionWorker.state``."""
        state: dict[str, Any] = self.ready().state()
        return state


def committed(storage: Storage, spec: DiffusionSpec, say: Callable[[str], None]) -> str | None:
    """The digest of a model's weights, or None where it is not trained; damaged weights are set aside."""
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


def ensure(
    storage: Storage,
    specs: Iterable[DiffusionSpec],
    images_of: Callable[[DiffusionSpec], np.ndarray],
    say: Callable[[str], None],
    *,
    checkpoint_seconds: float,
) -> dict[DiffusionSpec, str]:
    """Trains the models that are not in the storage, as many at a time as there are devices for.

    Args:
        storage: where models are and go.
        specs: the models.
        images_of: the training set of a model, uint8 [N, C, H, W].
        say: takes lines for the user.
        checkpoint_seconds: time between two checkpoints.

    Returns:
        The digest of each model's weights.

    Raises:
        VaegenError: a training was given up; or the weights of an imported model are not there.
    """
    digests = {spec: committed(storage, spec, say) for spec in specs}
    absent = [spec for spec, digest in digests.items() if digest is None]
    for spec in absent:
        if spec.weights:
            raise VaegenError(f"imported weights {spec.weights} are damaged; take them again: vaegen diffusion import")
    if absent:
        resources.check_precision((spec.precision for spec in absent), resources.find_devices(resources.SAMPLER)[0])
    _at_once([partial(_train, storage, spec, images_of(spec), say, checkpoint_seconds) for spec in absent])
    trained = {spec: digests[spec] or committed(storage, spec, say) for spec in digests}
    assert None not in trained.values(), trained
    return {spec: str(digest) for spec, digest in trained.items()}


def _at_once(jobs: list[Callable[[], None]]) -> None:
    """Does jobs that mostly wait, each in a thread of its own, and raises the first error once all have ended."""
    if len(jobs) == 1:
        return jobs[0]()
    errors: list[Exception] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=run, args=(job,), daemon=True) for job in jobs]  # Ctrl-C leaves them behind
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return None


def _train(
    storage: Storage, spec: DiffusionSpec, images: np.ndarray, say: Callable[[str], None], checkpoint_seconds: float
) -> None:
    started = time.monotonic()
    store = DiffusionStore(storage, spec.diffusion_id)
    resumed = ", going on from its checkpoint" if store.is_started() else ""
    name = f"{spec.n_train:,} images of {spec.dataset}"
    say(f"training a diffusion model (EDM, {spec.network}) on {name}: {spec.images:,} images to see{resumed}")
    device, _ = resources.find_devices(resources.SAMPLER)
    use_gpu = device.kind == "cuda"
    reserved = resources.build_diffusion_options(use_gpu, one_core=spec.network == "mlp")
    held = ray.put(images)
    for attempt in range(1, TRIES + 1):
        options: dict[str, Any] = {
            "name": connect.build_actor_name("diffusion", storage, spec.diffusion_id),
            "namespace": connect.NAMESPACE,
            "get_if_exists": True,
            **reserved,
        }
        actor: Any = (
            ray.remote(concurrency_groups={"state": 1})(DiffusionActor)  # type: ignore[call-overload]
            .options(**options)
            .remote(storage, spec, held, device="cuda" if use_gpu else "cpu", checkpoint_seconds=checkpoint_seconds)
        )
        try:
            if _has_begun(actor, storage, spec, reserved, say):
                _follow(actor, f"diffusion model ({name})", say)
            took = clock(time.monotonic() - started)
            say(f"the diffusion model is trained ({name}): {_loss(store)}{took}; {store.where()}")
            ray.kill(actor)
            return
        except RayTaskError as error:
            ray.kill(actor)
            reason = connect.describe_error(error)
            if isinstance(error.cause, StorageError):
                if error.cause.final:
                    raise StorageError(reason) from None
                say(f"the worker of the diffusion model met an error ({reason}); start {attempt} of {TRIES}")
                continue
            raise VaegenError(f"the training of diffusion model {spec.diffusion_id} failed: {reason}") from None
        except RayError as error:
            reason = "it died" if isinstance(error, ActorDiedError) else connect.describe_error(error)
            say(f"the worker of the diffusion model was lost ({reason}); start {attempt} of {TRIES}")
            ray.kill(actor)
    raise VaegenError(f"the training of diffusion model {spec.diffusion_id} was given up after {TRIES} starts")


def _loss(store: DiffusionStore) -> str:
    """The last loss of a model that is trained, as the beginning of a list."""
    losses = (store.committed() or {}).get("losses")
    return f"loss {losses[-1][1]:.3f}, " if losses else ""


def _has_begun(
    actor: Any, storage: Storage, spec: DiffusionSpec, reserved: dict[str, Any], say: Callable[[str], None]
) -> bool:
    """Waits until the worker has a device and its data; False when another driver has trained the model meanwhile."""
    answer = actor.state.remote()
    started = last_line = time.monotonic()
    waited = False
    while not ray.wait([answer], timeout=LINE_SECONDS)[0]:
        if committed(storage, spec, say) is not None:
            return False
        if time.monotonic() - last_line >= WAITING_LINE_SECONDS:
            last_line, waited = time.monotonic(), True
            counts = {name: count for name, count in reserved.items() if name != "resources"}
            counts |= reserved.get("resources", {})
            wanted = ", ".join(f"{count} {name.removeprefix('num_')}" for name, count in counts.items())
            say(f"the training of the diffusion model waits for {wanted}, {clock(time.monotonic() - started)} so far")
    ray.get(answer)
    if waited:
        say(f"the training of the diffusion model has begun, after {clock(time.monotonic() - started)}")
    return True


def _follow(actor: Any, name: str, say: Callable[[str], None]) -> None:
    """Trains until the model is committed; says every few seconds how far it is, also while a block of steps runs.

    Raises:
        RayError: the worker was lost, does not answer, or has completed no step for ``STUCK_SECONDS``.
    """
    course = _Course(name, say)
    while True:
        answer = actor.advance.remote(REPORT_SECONDS)
        while not ray.wait([answer], timeout=LINE_SECONDS)[0]:
            course.tell(ray.get(actor.state.remote(), timeout=SILENCE_SECONDS))
        state = ray.get(answer)
        for note in state["notes"]:
            say(note)
        if state["finished"]:
            return
        course.tell(state)


class _Course:
    """How far a training is, in a line every ``LINE_SECONDS``."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name, self._say = name, say
        self._begun: tuple[float, float] | None = None
        """The time and the fraction of the first report; the speed is measured from there on."""
        self._fraction = -1.0
        self._moved = self._last_line = time.monotonic()

    def tell(self, state: dict[str, Any]) -> None:
        """Takes a report of the worker.

        Raises:
            RayError: the worker has completed no step for ``STUCK_SECONDS``.
        """
        now, fraction = time.monotonic(), state["fraction"]
        self._begun = self._begun or (now, fraction)
        if fraction > self._fraction:
            self._fraction, self._moved = fraction, now
        if now - self._moved >= STUCK_SECONDS:
            raise GetTimeoutError(f"it has completed no step for {clock(now - self._moved)}")
        if now - self._last_line < LINE_SECONDS:
            return
        self._last_line = now
        since, first = self._begun
        loss = "" if state["loss"] is None else f", loss {state['loss']:.3f}"
        left = ""
        if first < fraction < 1:
            left = f", about {clock((now - since) * (1 - fraction) / (fraction - first))} left"
        self._say(f"{self._name}: {100 * fraction:.0f} %{loss}{left}")
