"""A search as Ray Tune sees it: a searcher that asks for points, a scheduler that stops them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule
from ray.tune.search import ConcurrencyLimiter, Searcher

from vaegen_ray.errors import StorageError
from vaegen_ray.service.driver.scheduler import InOrder
from vaegen_ray.service.driver.search_state import Rule, SearchState
from vaegen_ray.service.driver.tune import Queue, Refusal

REDUCTION = 3
"""ASHA: of the points that come to an evaluation, one in so many goes on; evaluations are as far apart."""
SEEN = 3
"""Median rule: points that must have come as far before one is stopped."""
TRIES = 4
"""Times that the next point is noted in vain, one after another, before the run ends."""


def build_queue(course: SearchState, concurrent: int, at_most: int | None) -> Queue:
    """The bundles that a search asks for, ``concurrent`` at a time, and never more than ``at_most``."""
    refusal = Refusal()
    return Queue(
        search=ConcurrencyLimiter(PointSearcher(course, refusal), min(concurrent, at_most or concurrent)),
        scheduler=StoppingScheduler(course, refusal),
        refusal=refusal,
        space={},
        samples=course.left,
        members=course.members,
        at_most=at_most,
    )


class PointSearcher(Searcher):
    """Hands Tune the bundles of a course. Its state is that of the storage, so nothing is saved with Tune."""

    def __init__(self, course: SearchState, refusal: Refusal) -> None:
        super().__init__()
        self._course = course
        self._refusal = refusal
        self._asked = self._failures = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next bundle; None where the storage refuses it, after which Tune asks again."""
        if self._refusal.reason:
            return None
        try:
            bundle = self._course.begin(trial_id)
        except StorageError as error:
            self._failures += 1
            if error.final or self._failures == TRIES:
                self._refusal.note(str(error))
            return None
        self._asked += 1
        self._failures = 0
        return {"bundle": self._asked - 1, "specs": [spec.as_dict() for spec in bundle]}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        self._course.end(trial_id, None if error or not result else result["validation"])

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class StoppingScheduler(InOrder):
    """Stops what the rule of a course stops."""

    def __init__(self, course: SearchState, refusal: Refusal) -> None:
        super().__init__()
        self._course = course
        self._refusal = refusal

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        try:
            stops = self._course.report(trial.trial_id, result["validation"], whole=result["whole"])
        except StorageError as error:
            if not error.final:
                raise  # Tune takes it for the worker's, and starts the bundle again
            self._refusal.note(str(error))
            stops = True
        return FIFOScheduler.STOP if stops else FIFOScheduler.CONTINUE


@dataclass(frozen=True)
class _Named:
    """What Ray's rules want to know of a Tune trial. Ours are points, since some were tried in an earlier run."""

    trial_id: str


def find_rule(scheduler: str, evaluations: int) -> Callable[[], Rule] | None:
    """What builds the rule ``asha`` or ``median`` for points that are evaluated so often; None for ``none``."""
    return None if scheduler == "none" or evaluations < 2 else partial(_build_rule, scheduler, evaluations)


def _build_rule(scheduler: str, evaluations: int) -> Rule:
    rule: Any  # that it is told of trials of ours, and of no controller, is none of its types' business
    if scheduler == "asha":
        longest = REDUCTION**evaluations
        rule = AsyncHyperBandScheduler("rung", "elbo", "max", max_t=longest, grace_period=1, reduction_factor=REDUCTION)
    else:
        never: Any = math.inf  # it would set trials aside until others come as far
        # Not hard: it is told of points that went on although it would have stopped them (another rule, a division).
        rule = MedianStoppingRule(
            "rung", "elbo", "max", 1, min_samples_required=SEEN, min_time_slice=never, hard_stop=False
        )
    known: set[str] = set()

    def stops(point: str, evaluation: int, elbo: float) -> bool:
        trial = _Named(point)
        if point not in known:
            known.add(point)
            rule.on_trial_add(None, trial)
        seen = {"rung": REDUCTION**evaluation, "elbo": elbo}
        return rule.on_trial_result(None, trial, seen) != FIFOScheduler.CONTINUE

    return stops
