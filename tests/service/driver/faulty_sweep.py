"""A small sweep in which a process is struck at a chosen point, once. Run by ``test_faults.py``, and on clusters by
``tests/cluster/faulty_cluster.py``.

    python faulty_sweep.py POINT COUNT VICTIM MARKERS [options of a sweep]

POINT is where a strike may come, of the driver or of a worker:

    sweep_json, described   the driver, before and after it writes sweep.json
    status, told            the driver, before and after it writes status.json
    setup                   a worker, before it takes on its first bundle
    members, named          before and after it writes which trials a checkpoint holds
    step, stepped           before and after a report
    details, detailed       before and after a file of details
    metrics, written        before and after a file of metrics
    checkpoint, saved       before and after a checkpoint
    model, kept             before and after weights
    commit, committed       before and after a commit mark
    delete, deleted         before and after the checkpoint of a committed bundle goes

At the COUNT-th time that any process comes to POINT, it strikes VICTIM: ``worker`` (itself) or ``driver`` get SIGKILL,
``raylet`` (the node of the worker) and ``agent`` (of that raylet) too, ``frozen`` is that raylet with SIGSTOP, and
``nobody`` is struck here, or ``cluster`` by another process. The other processes then wait for the file MARKERS/go; the
worker of a frozen raylet trains its bundle to the end, unasked. With ``nobody``, ``--checkpoint-seconds`` counts.
With ``full`` the storage refuses what is written there from then on, as a full disk does; with ``away`` once, as a file
server does that is away for a moment. ``hungry`` is every worker that comes to POINT with more than COUNT members, as
out of memory: it gets SIGKILL.

MARKERS is a folder for the counters ``POINT-1``, ``POINT-2`` ..., and for the files ``on-NODE-BUNDLE``, which say which
Ray node committed what. POINT ``none`` strikes nobody; ``all`` neither, and counts the arrivals at every point.
"""

import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import ray

from vaegen_ray.data.images import Split
from vaegen_ray.launch.main import main
from vaegen_ray.results.storage_errors import explained
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.driver import session, tune
from vaegen_ray.service.worker.trainable import BundleTrainable, Plan
from vaegen_ray.spec.evaluation import EvaluationSettings, Reconstruction
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.sweep.sweep import Sweep

POINT, COUNT, VICTIM, MARKERS = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]).absolute()
DRIVER = os.getpid()
REFUSED = {"full": errno.ENOSPC, "away": errno.EIO}
GO_SECONDS = 600.0
"""Longest wait for the word to go on."""
OF_DRIVER = {"write_sweep_json": ("sweep_json", "described"), "write_status": ("status", "told")}
OF_WORKER = {
    "write_checkpoint_members": ("members", "named"),
    "write_details": ("details", "detailed"),
    "write_metrics": ("metrics", "written"),
    "write_checkpoint": ("checkpoint", "saved"),
    "write_model": ("model", "kept"),
    "commit_trials": ("commit", "committed"),
    "delete_checkpoint": ("delete", "deleted"),
}
"""Methods of the store, and the points before and after them."""


def reach(point: str, members: int = 0) -> bool:
    """Counts an arrival at a point; at the right one, strikes. Each count is a file that one process alone can make.

    Returns:
        Whether the raylet was frozen here.
    """
    if POINT not in (point, "all"):
        return False
    if VICTIM == "hungry":
        if members > COUNT:
            _count(point)
            os.kill(os.getpid(), signal.SIGKILL)
        return False
    number = _count(point)
    if VICTIM in REFUSED:
        if number == COUNT or (number > COUNT and VICTIM == "full"):
            with explained("write", point):
                raise OSError(REFUSED[VICTIM], os.strerror(REFUSED[VICTIM]))
        return False
    return number == COUNT and point == POINT and strike()


def _count(point: str) -> int:
    number = 1
    while True:
        try:
            os.close(os.open(MARKERS / f"{point}-{number}", os.O_CREAT | os.O_EXCL))
            return number
        except FileExistsError:
            number += 1


def strike() -> bool:
    raylet = os.getppid()
    if VICTIM in ("raylet", "frozen"):
        assert "raylet" in Path(f"/proc/{raylet}/comm").read_text(), "a worker's parent is its raylet"
    if VICTIM == "frozen":
        os.kill(raylet, signal.SIGSTOP)
    elif VICTIM == "agent":
        agents = [child for child in psutil.Process(raylet).children() if "ray::DashboardAgent" in child.cmdline()[0]]
        agents[0].kill()
    elif VICTIM not in ("nobody", "cluster"):
        os.kill({"worker": os.getpid(), "driver": DRIVER, "raylet": raylet}[VICTIM], signal.SIGKILL)
        signal.pause()  # until the node takes its workers along; the driver's death takes them too
    (MARKERS / "struck").touch()
    end = time.monotonic() + GO_SECONDS
    while not (MARKERS / "go").exists():
        assert time.monotonic() < end, "nobody said go"
        time.sleep(0.05)
    return VICTIM == "frozen"


class FaultyTrainable(BundleTrainable):
    """The real trainable, with short reports, many checkpoints and the fault."""

    report_seconds = 0.01

    def setup(self, config: dict[str, Any], plan: Plan, images: dict[str, Split]) -> None:
        self._unasked = False
        reach("setup")
        super().setup(config, plan, images)
        if VICTIM != "nobody":
            self._worker._checkpoint_seconds = 0.0
        store = self._worker._store
        for name, (before, after) in OF_WORKER.items():
            setattr(store, name, self._between(getattr(store, name), before, after))

    def _between(self, method: Any, before: str, after: str) -> Any:
        def wrapped(*args: Any, **more: Any) -> Any:
            self._reach(before)
            told = method(*args, **more)
            self._reach(after)
            if after == "committed":
                node = ray.get_runtime_context().get_node_id()
                (MARKERS / f"on-{node}-{args[0]}").touch()
            return told

        return wrapped

    def _reach(self, point: str) -> None:
        run = self._worker._run
        self._unasked |= reach(point, len(run.specs) if run else 0)

    def step(self) -> dict[str, Any]:
        self._reach("step")
        told = super().step()
        while self._unasked and not self._worker.finished:
            told = super().step()
        if not self._worker.finished:
            self._reach("stepped")
        if self._unasked:
            (MARKERS / "unasked").touch()
        return told


def between(method: Any, before: str, after: str) -> Any:
    def wrapped(*args: Any, **more: Any) -> Any:
        reach(before)
        told = method(*args, **more)
        reach(after)
        return told

    return wrapped


def declare(options: Any) -> Sweep:
    base = base_spec("digits", n_train=100, epochs=12)
    measures = EvaluationSettings(reconstruction=Reconstruction(shown=1))
    trials = tuple(
        TrialSpec(**base, nc=nc, seed=seed, evaluate_at=(1, 3, 6, 12), measures=measures)
        for nc in (4, 8, 12)
        for seed in range(options.seeds or 2)
    )
    return Sweep(name="faulty", trials=trials)


class FaultyStore(SweepStore):
    """The driver's store; workers open their own."""


if __name__ == "__main__":
    tune.BundleTrainable = FaultyTrainable  # type: ignore[misc]
    for name, points in OF_DRIVER.items():
        setattr(FaultyStore, name, between(getattr(SweepStore, name), *points))
    session.SweepStore = FaultyStore  # type: ignore[misc]
    sys.exit(main(declare, "A sweep with a fault.", argv=sys.argv[5:]))
