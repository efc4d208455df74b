"""A small sweep in which the worker that comes COUNT-th to a commit pauses there. Run by ``test_drill.py``.

    python pausing_sweep.py COUNT MARKERS [options of a sweep]

That worker writes the name of its host into MARKERS/paused, and goes on when MARKERS/go is there. Every start and every
end of a bundle makes a file, MARKERS/BUNDLE-began-on-HOST and MARKERS/BUNDLE-committed-on-HOST. With 0 nobody pauses.
"""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from vaegen_ray.bundle.packing import Bundle
from vaegen_ray.data.images import Split
from vaegen_ray.launch.main import main
from vaegen_ray.service.driver import tune
from vaegen_ray.service.worker.trainable import BundleTrainable, Plan
from vaegen_ray.spec.trial import TrialSpec, bundle_id
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.sweep.sweep import Sweep

COUNT, MARKERS = int(sys.argv[1]), Path(sys.argv[2])
PAUSE_SECONDS = 600.0


def arrival() -> int:
    """The number of this arrival at a commit, over all workers; each is a file that one process alone can make."""
    number = 1
    while True:
        try:
            os.close(os.open(MARKERS / f"arrival-{number}", os.O_CREAT | os.O_EXCL))
            return number
        except FileExistsError:
            number += 1


def pause() -> None:
    """Says where, and waits for the word to go on."""
    written = MARKERS / "paused.part"
    written.write_text(platform.node())
    written.rename(MARKERS / "paused")
    end = time.monotonic() + PAUSE_SECONDS
    while not (MARKERS / "go").exists():
        assert time.monotonic() < end, "no file go"
        time.sleep(0.05)


class PausingTrainable(BundleTrainable):
    """The real trainable, with short reports, many checkpoints, the pause and the files."""

    report_seconds = 0.01

    def setup(self, config: dict[str, Any], plan: Plan, images: dict[str, Split]) -> None:
        super().setup(config, plan, images)
        self._worker._checkpoint_seconds = 0.0
        store = self._worker._store
        commit = store.commit_trials

        def commit_trials(bundle: str, rows: Any) -> None:
            if arrival() == COUNT:
                pause()
            commit(bundle, rows)
            (MARKERS / f"{bundle}-committed-on-{platform.node()}").touch()

        store.commit_trials = commit_trials  # type: ignore[method-assign]

    def _start(self, config: dict[str, Any]) -> None:
        super()._start(config)
        bundle: Bundle = self._plan.bundles[config["bundle"]]
        (MARKERS / f"{bundle_id(bundle)}-began-on-{platform.node()}").touch()


def declare(options: Any) -> Sweep:
    base = base_spec("digits", n_train=100, epochs=12)
    trials = tuple(
        TrialSpec(**base, nc=nc, seed=seed, evaluate_at=(1, 3, 6, 12))
        for nc in (4, 8, 12, 16)
        for seed in range(options.seeds or 2)
    )
    return Sweep(name="pausing", trials=trials)


if __name__ == "__main__":
    tune.BundleTrainable = PausingTrainable  # type: ignore[misc]
    sys.exit(main(declare, "A sweep that pauses.", argv=sys.argv[3:]))
