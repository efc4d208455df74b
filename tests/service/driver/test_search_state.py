"""A search driven as Ray Tune drives it, in this process: what is tried, stopped, remembered, and gone on with."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vaegen_ray.data import catalog
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.errors import StorageError
from vaegen_ray.results.declaration import Declaration
from vaegen_ray.results.query import load
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.search_history import history
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.search.search import PointStatus, Search, point_key
from vaegen_ray.search.space import parse_space
from vaegen_ray.service.driver.search_state import SearchState
from vaegen_ray.service.driver.searcher import find_rule
from vaegen_ray.service.worker.bundle_worker import Worker
from vaegen_ray.spec.trial import bundle_id
from vaegen_ray.sweep.defaults import base_spec

SPACE = "nc=2:16:log,learning_rate=1e-4:3e-2:log,augmentation=none|tuned,augment_strength=0.5|1"


def search_of(**fields) -> Search:
    base = base_spec("digits", n_train=100, epochs=6)
    made = {"space": parse_space(SPACE), "points": 6, "seeds": 2, **fields}
    return Search(name="search", fields={**base, "validation": 30, "evaluate_at": (1, 3, 6)}, **made)


@pytest.fixture(scope="module")
def split() -> Split:
    return catalog.load("digits", levels=2, n_train=100)


def store_of(folder: Path) -> SweepStore:
    return SweepStore(Storage.open(folder), "search")


def course_of(search: Search, store: SweepStore) -> SearchState:
    return SearchState(search, store, find_rule(search.scheduler, 3), Declaration(), "test")


def worker_of(store: SweepStore, split: Split, **how: float) -> Worker:
    return Worker(store, lambda _: split, device=torch.device("cpu"), code_version="test", **how)


def drive(search: Search, store: SweepStore, split: Split, points: int = 99, lost: bool = False) -> SearchState:
    """Tries at most so many points; with ``lost``, the last report of every point is lost."""
    course, worker = course_of(search, store), worker_of(store, split)
    for number in range(min(points, course.left)):
        worker.start(course.begin(str(number)))
        while True:
            worker.advance(math.inf)
            told = worker.progress
            if worker.finished or course.report(str(number), told["validation"], whole=told["whole"]):
                break
        course.end(str(number), [] if lost else told["validation"])
    return course


def tried(store: SweepStore, search: Search) -> list[tuple]:
    return [(point_key(each.point), each.status, each.curve) for each in history(store, search).done]


@pytest.mark.parametrize("scheduler", ["none", "asha", "median"])
def test_what_is_remembered_is_what_the_rows_say_and_a_search_goes_on_as_if_it_had_not_stopped(
    scheduler: str, split: Split, tmp_path: Path
) -> None:
    search = search_of(scheduler=scheduler, points=9)
    whole = drive(search, store_of(tmp_path / "whole"), split)
    expected = tried(store_of(tmp_path / "whole"), search)
    assert [(point_key(each.point), each.status, each.curve) for each in whole.known.done] == expected
    assert len(expected) == 9 and {status for _, status, _ in expected} == {
        PointStatus.COMPLETE,
        PointStatus.PRUNED,
    } - ({PointStatus.PRUNED} if scheduler == "none" else set())
    for points in (4, 1, 4):
        drive(search, store_of(tmp_path / "parts"), split, points)
    assert tried(store_of(tmp_path / "parts"), search) == expected
    assert drive(search, store_of(tmp_path / "parts"), split).left == 0


@pytest.mark.parametrize("scheduler", ["none", "asha", "median"])
def test_a_kill_between_an_evaluation_and_its_report_changes_no_point(
    scheduler: str, split: Split, tmp_path: Path
) -> None:
    """Rows and a checkpoint are written, the driver was not told: what is stopped is what would have been."""
    search = search_of(scheduler=scheduler, points=9)
    drive(search, store_of(tmp_path / "whole"), split)
    store, starts = store_of(tmp_path / "killed"), 0
    while (course := course_of(search, store)).left:
        starts += 1
        restored = bool(store.checkpoints())
        worker = worker_of(store, split, checkpoint_seconds=0)
        worker.start(course.begin("0"))
        worker.advance(math.inf)
        told = worker.progress
        if restored and not course.report("0", told["validation"], whole=told["whole"]):
            worker.advance(math.inf)
    assert starts > search.points and store.checkpoints() == []
    assert tried(store, search) == tried(store_of(tmp_path / "whole"), search)


@pytest.mark.parametrize("scheduler", ["none", "asha", "median"])
def test_a_point_that_was_lost_is_judged_as_before(scheduler: str, split: Split, tmp_path: Path) -> None:
    """It is compared with the points before it, also when those after it are done; and suggests the same next ones."""
    search = search_of(scheduler=scheduler, points=9)
    drive(search, store_of(tmp_path / "whole"), split)
    store = store_of(tmp_path / "lost")
    drive(search, store, split, 5)
    for spec in search.specs(history(store, search).tried[0].point):
        assert spec.trial_id in store.committed()
    store.forget({spec.trial_id for spec in search.specs(history(store, search).tried[0].point)})
    drive(search, store, split)
    ordered = sorted(tried(store_of(tmp_path / "whole"), search))
    assert sorted(tried(store, search)) == ordered


@pytest.mark.parametrize("lost", ["row", "row and suggestions.json"])
def test_a_lost_point_of_a_search_is_known_though_another_search_ran_since(
    lost: str, split: Split, tmp_path: Path
) -> None:
    """``sweep.json`` is then the declaration of the other search."""
    search = search_of(points=4)
    drive(search, store_of(tmp_path / "whole"), split)
    store = store_of(tmp_path / "lost")
    drive(search, store, split, 3)
    first = search.specs(history(store, search).tried[0].point)
    drive(replace(search, fields={**search.fields, "epochs": 7, "evaluate_at": (1, 7)}, points=1), store, split)
    store.set_aside("trials", f"{bundle_id(first)}.parquet", "a file that it names is damaged")
    if lost != "row":
        store.storage.write("search/suggestions.json", b"{")
    drive(search, store, split)
    assert sorted(tried(store, search)) == sorted(tried(store_of(tmp_path / "whole"), search))


def test_points_of_another_rule_and_of_none_are_judged_and_gone_on_with(split: Split, tmp_path: Path) -> None:
    """They went on after evaluations at which this rule would have stopped them."""
    store = store_of(tmp_path)
    for scheduler, points in (("none", 7), ("median", 9), ("asha", 11), ("median", 12)):
        drive(search_of(scheduler=scheduler, points=points), store, split)
        assert len(tried(store, search_of(points=12))) == points


def test_the_rule_is_told_what_came_with_the_end(split: Split, tmp_path: Path) -> None:
    """Reports that a restarted driver has not heard come with the last one: the next point is judged by them too."""
    search, seen = search_of(scheduler="asha", points=2), []
    course = SearchState(
        search, store_of(tmp_path), lambda: lambda *asked: bool(seen.append(asked[1:])), Declaration(), "test"
    )
    worker = worker_of(store_of(tmp_path), split)
    worker.start(course.begin("0"))
    while not worker.finished:
        worker.advance(math.inf)
    course.end("0", worker.progress["validation"])
    values = course.known.done[0].curve
    second = course.begin("1")
    course.report("1", [(spec.trial_id, 1, -3.0) for spec in second], whole=True)
    assert seen == [(0, values[1]), (1, values[3]), (0, -3.0)]


def test_points_of_a_network_of_your_own_are_remembered(tmp_path: Path) -> None:
    search, store = search_of(points=2), store_of(tmp_path)
    search = replace(search, fields={**search.fields, "architecture": "mine", "network_version": 3})
    point = {"nc": 4, "learning_rate": 1e-3, "augmentation": "none"}
    specs = search.specs(point)
    name = bundle_id(specs)
    store.write_metrics(
        name,
        6,
        6,
        [{"trial_id": spec.trial_id, "effective_epoch": 6, "elbo_validation": -20.0 - spec.seed} for spec in specs],
    )
    store.commit_trials(name, [trial_row(spec, sweep="search", bundle_id=name, status="completed") for spec in specs])
    assert tried(store, search) == [(point_key(point), PointStatus.COMPLETE, {6: -20.5})]


def test_no_suggestion_looks_at_the_test_images(split: Split, tmp_path: Path) -> None:
    shuffled = np.random.default_rng(0).permuted(split.test.images, axis=0)
    other = replace(split, test=ImageSet(1 - shuffled, 2))
    search = search_of()
    drive(search, store_of(tmp_path / "a"), split)
    drive(search, store_of(tmp_path / "b"), other)
    assert tried(store_of(tmp_path / "a"), search) == tried(store_of(tmp_path / "b"), search)
    first, second = (load(tmp_path / name, "search").last()["elbo_test"] for name in "ab")
    assert (first != second).all()


def test_rows_of_a_stopped_point_are_marked_and_count_as_no_result(split: Split, tmp_path: Path) -> None:
    search, store = search_of(scheduler="asha", points=8), store_of(tmp_path)
    drive(search, store, split)
    results = load(tmp_path, "search")
    stopped = results.trials[results.trials["status"] == "pruned"]
    assert len(stopped) >= 2 and stopped["error"].isna().all() and (stopped["params_total"] > 0).all()
    last = results.metrics.groupby("trial_id", observed=True)["effective_epoch"].max()
    assert set(last[stopped["trial_id"]]) <= {1.0, 3.0}
    assert set(results.last()["status"]) == {"completed"} and set(results.last()["effective_epoch"]) == {6.0}
    assert set(results.last("pruned")["trial_id"]) == set(stopped["trial_id"])
    assert set(stopped["trial_id"]) <= store.committed() & store.committed(retry_failed=True)
    assert store.checkpoints() == []


def test_a_point_whose_report_is_lost_is_read_from_the_rows(split: Split, tmp_path: Path) -> None:
    search = search_of(points=3)
    drive(search, store_of(tmp_path / "a"), split)
    drive(search, store_of(tmp_path / "b"), split, lost=True)
    assert tried(store_of(tmp_path / "a"), search) == tried(store_of(tmp_path / "b"), search)


def test_a_point_that_fails_is_known_and_not_tried_again(split: Split, tmp_path: Path) -> None:
    search = search_of(space=parse_space("nc=2|4,learning_rate=1e-3|1e30"), points=4)
    drive(search, store_of(tmp_path), split)
    assert {dict(point)["learning_rate"]: status for point, status, _ in tried(store_of(tmp_path), search)} == {
        1e-3: PointStatus.COMPLETE,
        1e30: PointStatus.FAILED,
    }


def test_rows_that_cannot_be_read_now_are_read_by_the_next_run(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of a point is lost while the storage is away: the point is neither repeated nor an error."""

    def away(*_: object) -> None:
        raise StorageError("the storage is away")

    search, store = search_of(points=4), store_of(tmp_path)
    course, worker = course_of(search, store), worker_of(store, split)
    points = []
    for number in range(4):
        bundle = course.begin(str(number))
        points.append(point_key(search.find_point(bundle[0])))
        worker.start(bundle)
        while not worker.finished:
            worker.advance(math.inf)
        with monkeypatch.context() as patched:
            patched.setattr("vaegen_ray.service.driver.search_state.history", away)
            course.end(str(number), [] if number == 1 else worker.progress["validation"])
    assert len(set(points)) == 4 and [point for point, *_ in tried(store, search)] == points


def test_begun_points_come_first_and_more_seeds_train_only_what_is_missing(split: Split, tmp_path: Path) -> None:
    search, store = search_of(points=3), store_of(tmp_path)
    course = drive(search, store, split, 2)
    begun = course.begin("killed")
    again = SearchState(search, store, None, Declaration(), "test")
    assert [each.status for each in again.waiting] == [PointStatus.BEGUN] and again.begin("next") == begun
    drive(search, store, split)
    more = SearchState(search_of(points=4, seeds=3), store, None, Declaration(), "test")
    assert more.members == [1, 1, 1, 3] and {spec.seed for spec in more.begin("more")} == {2}
    drive(search_of(points=4, seeds=3), store, split)
    trials = load(tmp_path, "search").trials
    assert len(trials) == 12 and trials["trial_id"].is_unique


def test_other_trials_in_the_folder_and_a_damaged_description_are_left_alone(split: Split, tmp_path: Path) -> None:
    search, store = search_of(points=2), store_of(tmp_path)
    drive(search, store, split)
    store.storage.write("search/sweep.json", b"{")
    assert len(history(store, search).done) == 2 and history(store, search).begun == []
    other = replace(search, fields={**search.fields, "epochs": 5, "evaluate_at": (5,)})
    assert history(store, other).done == [] and history(store_of(tmp_path / "none"), search).tried == []


@pytest.mark.parametrize(
    ("scheduler", "stopped"), [("asha", [False, True, False, True]), ("median", [False] * 3 + [True])]
)
def test_rules_at_the_first_evaluation(scheduler: str, stopped: list[bool]) -> None:
    """ASHA goes on with the best third of those seen; the median rule knows three before it stops one."""
    build = find_rule(scheduler, 3)
    assert build is not None and find_rule("none", 3) is None
    rule = build()
    assert [rule(name, 0, elbo) for name, elbo in (("a", -20.0), ("b", -30.0), ("c", -10.0), ("d", -40.0))] == stopped
