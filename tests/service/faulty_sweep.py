"""A small sweep whose workers kill a process at a chosen point, once. Run by ``test_faults.py``.

    python faulty_sweep.py POINT COUNT VICTIM MARKERS [options of a sweep]

POINT is ``step``, ``metrics``, ``checkpoint``, ``commit`` or ``committed``: before a report, before a metrics file, a
checkpoint or a commit mark is written, or after a commit mark was written. At the COUNT-th time that any worker comes
to POINT, VICTIM (``worker`` or ``driver``) gets SIGKILL. MARKERS is a folder for the counters.
POINT ``none`` kills nobody.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from vaegen_ray.data.images import Split
from vaegen_ray.service import tuning
from vaegen_ray.service.main import main
from vaegen_ray.service.trainable import BundleTrainable, Plan
from vaegen_ray.sweep.base import base_spec
from vaegen_ray.sweep.spec import Sweep
from vaegen_ray.trial import TrialSpec

POINT, COUNT, VICTIM, MARKERS = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
DRIVER = os.getpid()


def reach(point: str) -> None:
    """Counts an arrival at a point; at the right one, kills. Each count is a file that one process alone can make."""
    if point != POINT:
        return
    number = 1
    while True:
        try:
            os.close(os.open(MARKERS / f"{point}-{number}", os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            number += 1
    if number == COUNT:
        os.kill(os.getpid() if VICTIM == "worker" else DRIVER, signal.SIGKILL)


class FaultyTrainable(BundleTrainable):
    """The real trainable, with short reports, many checkpoints and the fault."""

    report_seconds = 0.01

    def setup(self, config: dict[str, Any], plan: Plan, images: dict[str, Split]) -> None:
        super().setup(config, plan, images)
        self._worker._checkpoint_seconds = 0.0
        store = self._worker._store
        for name, before, after in (
            ("write_metrics", "metrics", "written"),
            ("write_checkpoint", "checkpoint", "saved"),
            ("commit_trials", "commit", "committed"),
        ):
            setattr(store, name, self._between(getattr(store, name), before, after))

    @staticmethod
    def _between(method: Any, before: str, after: str) -> Any:
        def wrapped(*args: Any) -> None:
            reach(before)
            method(*args)
            reach(after)

        return wrapped

    def step(self) -> dict[str, Any]:
        reach("step")
        return super().step()


def declare(options: Any) -> Sweep:
    base = base_spec("digits", n_train=100, epochs=12)
    trials = tuple(
        TrialSpec(**base, nc=nc, seed=seed, evaluate_at=(1, 3, 6, 12))
        for nc in (4, 8, 12)
        for seed in range(options.seeds or 2)
    )
    return Sweep(name="faulty", trials=trials)


if __name__ == "__main__":
    tuning.BundleTrainable = FaultyTrainable  # type: ignore[misc]
    sys.exit(main(declare, "A sweep with a fault.", argv=sys.argv[5:]))
