"""Trains a diffusion model whose worker stops at a chosen point until the driver has printed the progress. Run
by ``test_train_models.py``.

    python pausing_diffusion.py POINT FOLDER

POINT is ``block``, in the middle of the first block of steps, or ``commit``, after the weights are committed.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from vaegen_ray.data import catalog
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.cluster import connect
from vaegen_ray.service.sampling import actors, train_models
from vaegen_ray.spec.diffusion import DiffusionSpec

POINT, FOLDER = sys.argv[1], Path(sys.argv[2])
HEARD = FOLDER / "heard"
SPEC = DiffusionSpec(n_train=100, images=640, channels=8, blocks=1, batch_size=64, warmup_images=100)


def pause() -> None:
    """Waits until the driver has printed the progress."""
    parent = os.getppid()
    while not HEARD.exists() and os.getppid() == parent:  # a driver that ends takes its workers with it
        time.sleep(0.01)


class PausingActor(actors.DiffusionActor):
    def find_worker(self) -> Any:
        is_new = self._worker is None
        worker = super().find_worker()
        if is_new:
            finish, update = worker._finish, worker._trainer._update

            def pausing_finish() -> Any:
                if POINT == "commit":
                    pause()
                return finish()

            def pausing_update(*batch: Any) -> None:
                if POINT == "block" and worker._trainer.step == 3:
                    pause()
                update(*batch)

            worker._finish, worker._trainer._update = pausing_finish, pausing_update
        return worker


def say(line: str) -> None:
    print(line, flush=True)
    if " %" in line:
        HEARD.touch()


if __name__ == "__main__":
    actors.DiffusionActor = PausingActor  # type: ignore[misc]
    train_models.LINE_SECONDS = 0.1
    train_models.WAITING_LINE_SECONDS = 0.0 if POINT == "block" else 60.0
    digits = catalog.load("digits", n_train=100, native=True).train.images
    connect.connect(None)
    storage = Storage.open(FOLDER)
    train_models.train_missing(storage, [SPEC], lambda spec: digits, say, checkpoint_seconds=10.0)
    connect.disconnect()
