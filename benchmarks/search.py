"""TPE against random search at an equal budget: the same problem, points and seeds, several repetitions.

    python benchmarks/search.py                     the problem of ``sweeps/search.py``, preset laptop
    python benchmarks/search.py --repetitions 5 --points 60 --space nc=8:64:log

Both sides use the code of the sweep (``sweep.suggest``, ``sweep.run.BundleRun``), one point at a time, without Ray or
files. Repetitions differ in the seed of the search; the random points at the start of TPE are those of random search. A
point that was trained before is not trained again. Told are the best ELBO on validation that a search found, which is
what it maximises, and the test ELBO of that point: means and 95 % intervals over repetitions.
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sweeps"))
import machine
import search as sweep

from vaegen_ray.analysis.statistics import mean_interval
from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data.images import Split
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.exit import fail
from vaegen_ray.launch.options import at_least, parser
from vaegen_ray.search.search import PointRecord, PointStatus, Search, mean_curve, point_key
from vaegen_ray.search.space import Point, point_text
from vaegen_ray.search.suggest import suggest
from vaegen_ray.service.inputs import load_images
from vaegen_ray.sweep.sweep import data_key

SIDES = ("tpe", "random")


@dataclass(frozen=True)
class Trained:
    """What the training of a point gave: means over its seeds."""

    curve: dict[int, float]
    """ELBO on validation by effective epoch."""
    elbo_test: float


class Problem:
    """Trains points, each once.

    Args:
        search: the search whose points they are.
        split: its images.
    """

    def __init__(self, search: Search, split: Split) -> None:
        self._search = search
        self._split = split
        self._trained: dict[tuple, Trained] = {}
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self._trained)

    def train(self, point: Point) -> Trained:
        """The result of a point."""
        key = point_key(point)
        if key not in self._trained:
            started = time.monotonic()
            specs = self._search.specs(point)
            run, rows = BundleRun(specs, self._split), []
            while not run.finished:
                run.advance(math.inf)
                rows += [row for segment in run.take_segments() for row in segment.rows]
            elbos = {spec.trial_id: {} for spec in specs}
            for row in rows:
                elbos[row["trial_id"]][row["effective_epoch"]] = row["elbo_validation"]
            last = [row["elbo_test"] for row in rows if row["effective_epoch"] == specs[0].epochs]
            self._trained[key] = Trained(mean_curve(elbos, elbos), sum(last) / len(specs))
            self.seconds += time.monotonic() - started
        return self._trained[key]


def searched(problem: Problem, search: Search) -> list[tuple[PointRecord, Trained]]:
    """All points that a search tries, in order."""
    done: list[tuple[PointRecord, Trained]] = []
    while len(done) < search.points:
        point = suggest(search, [tried for tried, _ in done])
        trained = problem.train(point)
        status = PointStatus.COMPLETE if search.fields["epochs"] in trained.curve else PointStatus.FAILED
        done.append((PointRecord(point=point, status=status, curve=trained.curve), trained))
    return done


def find_best(done: list[tuple[PointRecord, Trained]]) -> tuple[PointRecord, Trained] | None:
    """The point that a search gives: the best on validation; None where all failed."""
    complete = (pair for pair in done if pair[0].status == PointStatus.COMPLETE)
    return max(complete, key=lambda pair: pair[0].value, default=None)


def run(search: Search, split: Split, repetitions: range) -> dict[str, list[tuple[float, float]]]:
    """Best ELBO on validation and test ELBO of that point, by side and repetition; prints as it goes."""
    problem = Problem(search, split)
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for repetition in repetitions:
        for side in SIDES:
            done = searched(problem, replace(search, sampler=side, search_seed=repetition))
            best, half = find_best(done), find_best(done[: len(done) // 2])
            if best is None:
                raise VaegenError(f"none of the {len(done)} points of {side} with seed {repetition} could be trained")
            tried, trained = best
            found[side].append((tried.value, trained.elbo_test))
            early = f"{half[0].value:.3f}" if half else "none"
            print(
                f"seed {repetition} {side:6} validation {tried.value:.3f} (after half of the points {early}), test "
                f"{trained.elbo_test:.3f}: {point_text(tried.point)}",
                flush=True,
            )
    print(f"{len(problem)} points trained in {problem.seconds:.0f} s, {problem.seconds / len(problem):.2f} s each")
    for place, what in enumerate(("best ELBO on validation", "test ELBO of that point")):
        sides = {side: [pair[place] for pair in pairs] for side, pairs in found.items()}
        gains = [tpe - by_chance for tpe, by_chance in zip(*sides.values(), strict=True)]
        words = [f"{side} {_interval(values)}" for side, values in (*sides.items(), ("difference", gains))]
        print(f"{what}, nats an image: {', '.join(words)}; TPE better in {sum(g > 0 for g in gains)} of {len(gains)}")
    return found


def _interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def describe_problem(options: argparse.Namespace) -> Search:
    """The search that both sides are given.

    Raises:
        SpecError: an option that this benchmark would ignore.
    """
    search = sweep.declare(options)
    asked = (search.sampler, search.scheduler, search.objectives)
    if asked != (Search.sampler, Search.scheduler, Search.objectives):
        raise SpecError(f"TPE and random search are compared by the ELBO alone, nothing stopped early; got {asked}")
    return search


def main() -> None:
    """The command line."""
    made = parser(__doc__.splitlines()[0])
    sweep.add_options(made)
    made.add_argument("--repetitions", type=at_least(1), default=5, metavar="N", help="[default: %(default)s]")
    options: argparse.Namespace = made.parse_args()
    torch.set_num_threads(1)
    search = describe_problem(options)
    print(machine.describe("torch", "optuna"))
    print(f"{search.points} points of {search.seeds} VAEs, {search.space.size:,} points in the space")
    split = load_images(search.sweep, options.data_dir)[data_key(search.sweep.trials[0])]
    first = options.search_seed
    run(search, split, range(first, first + options.repetitions))


if __name__ == "__main__":
    try:
        main()
    except VaegenError as error:
        sys.exit(fail(error))
