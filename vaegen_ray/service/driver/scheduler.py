"""Ray Tune with thousands of bundles: what it asks the cluster for, which bundle is next, what it keeps of those done.

Left alone, Tune asks for as many as 200 placement groups ahead and gives one back for every bundle that takes over a
worker, looks at all trials at every event, and keeps statistics of every number that a trial has reported.
``benchmarks/scale.py`` measures what a trial costs.
"""

from typing import Any

from ray.tune.schedulers import FIFOScheduler


class InOrder(FIFOScheduler):
    """Starts the first bundle in the order of the plan, out of those that are not finished.

    A bundle that was waiting before has been given a worker that is starting. Tune would end that worker and give the
    bundle one that has become free; where starts take longer than bundles, no further node would ever come to work. So
    a free worker takes a bundle that has just begun to wait, if there is one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: set[str] = set()
        """The trials that waited when the last one was chosen: Tune then asked for a worker for each of them."""

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The trial that is to be started next, or None."""
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status in ("PENDING", "PAUSED")]
        new = [trial for trial in waiting if trial.trial_id not in self._waiting]
        self._waiting = {trial.trial_id for trial in waiting}
        return min(new or waiting, key=lambda trial: trial.config["bundle"], default=None)


def forget(trial: Any) -> None:
    """Drops the statistics of what a finished trial has reported; nothing reads them."""
    trial.run_metadata.metric_analysis = {}
    trial.run_metadata.metric_n_steps = {}
