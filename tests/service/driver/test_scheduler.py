"""Which bundle Tune starts next, and on which worker."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune import CheckpointConfig, RunConfig, TuneConfig, Tuner
from ray.tune.search import BasicVariantGenerator

from vaegen_ray.allotment import Allotment
from vaegen_ray.service.cluster import connect
from vaegen_ray.service.driver.scheduler import InOrder

BUNDLES, SLOW = 6, 1


def waiting(*bundles: int) -> Any:
    """What a scheduler sees of Tune, with these bundles waiting."""
    trials = [SimpleNamespace(trial_id=f"t{bundle}", status="PENDING", config={"bundle": bundle}) for bundle in bundles]
    return SimpleNamespace(get_live_trials=lambda: trials)


def test_bundles_start_in_the_order_of_the_plan_those_that_have_no_worker_yet_before_others() -> None:
    scheduler = InOrder()
    chosen = []
    for bundles in ((2, 0, 1), (1, 2), (1, 2, 4, 3), (1, 2), (2,), (2, 0), ()):  # at last 0 waits again: it was lost
        trial = scheduler.choose_trial_to_run(waiting(*bundles))
        chosen.append(trial and trial.config["bundle"])
    assert chosen == [0, 1, 3, 1, 2, 0, None]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    job = Allotment(cores=2.0, memory=4 * 2**30, free=4 * 2**30)
    monkeypatch.setattr(connect, "allotted", lambda: job)
    connect.connect(None)
    yield
    connect.disconnect()


def test_a_worker_that_is_starting_keeps_its_bundle(two_cores: None, tmp_path: Path) -> None:
    """Where a worker takes longer to start than a bundle to train, every node comes to work all the same."""

    class Noting(tune.Trainable):
        """Notes the process that trained a bundle, and the one that was started for it. The worker of ``SLOW`` starts
        when half of the others are trained, and the last bundle ends after it."""

        def setup(self, config: dict[str, Any]) -> None:
            (Path(config["folder"]) / "started" / str(config["bundle"])).write_text(str(os.getpid()))
            trained = Path(config["folder"]) / "trained"
            while config["bundle"] == SLOW and len(list(trained.iterdir())) < BUNDLES // 2:
                time.sleep(0.01)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

        def step(self) -> dict[str, Any]:
            trained, bundle = Path(self.config["folder"]) / "trained", self.config["bundle"]
            while bundle == BUNDLES - 1 and not (trained / str(SLOW)).exists():
                time.sleep(0.01)
            (trained / str(bundle)).write_text(str(os.getpid()))
            return {"done": True}

    started, trained = tmp_path / "started", tmp_path / "trained"
    for folder in (started, trained):
        folder.mkdir()
    tuner = Tuner(
        Noting,
        param_space={"bundle": tune.grid_search(list(range(BUNDLES))), "folder": str(tmp_path)},
        tune_config=TuneConfig(
            reuse_actors=True, search_alg=BasicVariantGenerator(max_concurrent=2), scheduler=InOrder()
        ),
        run_config=RunConfig(
            storage_path=str(tmp_path / "tune"),
            verbose=0,
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
        ),
    )
    assert tuner.fit().num_errors == 0
    assert len(list(trained.iterdir())) == BUNDLES
    assert (trained / str(SLOW)).read_text() == (started / str(SLOW)).read_text(), "a free worker took the bundle over"
