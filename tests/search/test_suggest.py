"""Suggestions are a pure function of what was tried; they find what is good, and never what is known."""

import math
from dataclasses import replace

import pytest

from vaegen_ray.errors import SpecError
from vaegen_ray.search.search import PointRecord, PointStatus, Search, mean_curve, point_key
from vaegen_ray.search.space import Point, parse_space
from vaegen_ray.search.suggest import suggest
from vaegen_ray.sweep.defaults import base_spec

SPACE = (
    "nc=4:64:log,mz=1:8,beta=0.1:4:log,learning_rate=1e-4:1e-1:log,augmentation=none|tuned,"
    "augment_probability=0.1:1:0.1,augment_strength=0.5:2:0.5"
)


def search_of(**fields) -> Search:
    base = base_spec("digits", n_train=200, epochs=9)
    made = {"space": parse_space(SPACE), "points": 30, "seeds": 2, **fields}
    return Search(name="search", fields={**base, "validation": 50, "evaluate_at": (3, 9)}, **made)


def goodness(point: Point) -> float:
    """Best, 0, at nc 32, beta 1, learning rate 3e-3, with strong augmentation."""
    off = [point["nc"] / 32, point["beta"], point["learning_rate"] / 3e-3]
    return -sum(abs(math.log(ratio)) for ratio in off) - (2 - point.get("augment_strength", 0))


def tried(point: Point, status: str = PointStatus.COMPLETE) -> PointRecord:
    return PointRecord(point=point, status=status, curve={3: goodness(point) - 1, 9: goodness(point)})


def searched(search: Search, points: int | None = None) -> list[PointRecord]:
    done: list[PointRecord] = []
    while len(done) < (points or search.points):
        done.append(tried(suggest(search, done)))
    return done


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_it_goes_on_from_any_beginning_as_if_it_had_not_stopped(sampler):
    search = search_of(sampler=sampler)
    done = searched(search)
    assert len({point_key(each.point) for each in done}) == len(done)
    for known in (0, 7, 29):
        again = [
            PointRecord(point=dict(each.point), status=each.status, curve=dict(each.curve)) for each in done[:known]
        ]
        assert suggest(search, again) == done[known].point


def test_seeds_differ_and_what_runs_counts():
    done = searched(search_of(), 12)
    following = suggest(search_of(), done)
    assert suggest(search_of(search_seed=1), done) != following
    assert suggest(search_of(), [*done, PointRecord(point=following, status=PointStatus.BEGUN)]) != following


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_a_small_space_is_tried_to_its_last_point(sampler):
    search = search_of(
        space=parse_space("nc=2|4|8,augmentation=none|tuned,augment_strength=1|2"), points=9, sampler=sampler
    )
    assert search.space.size == 9
    assert len({point_key(each.point) for each in searched_plain(search)}) == 9


def searched_plain(search: Search) -> list[PointRecord]:
    done: list[PointRecord] = []
    while len(done) < search.points:
        point = suggest(search, done)
        done.append(PointRecord(point=point, status=PointStatus.COMPLETE, curve={9: float(point["nc"])}))
    return done


def test_tpe_finds_better_points_than_chance_on_a_plain_function():
    def mean_best(sampler: str) -> float:
        searches = [search_of(sampler=sampler, search_seed=seed) for seed in range(5)]
        return sum(max(each.value for each in searched(search)) for search in searches) / 5

    assert mean_best("tpe") > mean_best("random") + 0.3


def test_points_that_fail_or_are_stopped_keep_tpe_away():
    """Everything with a learning rate above 3e-3 fails, or is stopped: later points are mostly below."""
    for status in (PointStatus.FAILED, PointStatus.PRUNED):
        search = search_of(search_seed=3)
        done: list[PointRecord] = []
        for _ in range(30):
            point = suggest(search, done)
            bad = point["learning_rate"] > 3e-3
            curve = {} if bad and status == PointStatus.FAILED else {3: -50.0} if bad else {3: -11.0, 9: -10.0}
            done.append(PointRecord(point=point, status=status if bad else PointStatus.COMPLETE, curve=curve))
        late = [each.status == status for each in done[15:]]
        assert sum(late) < len(late) / 4, status


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_two_objectives(sampler):
    """Both ends of the front are looked at: small networks though they are worse, large ones though they are large."""
    search = search_of(sampler=sampler, objectives="elbo,parameters", space=parse_space("nc=4:64:log,beta=0.1:4:log"))
    done: list[PointRecord] = []
    for _ in range(30):
        point = suggest(search, done)
        elbo = math.log(point["nc"]) - abs(math.log(point["beta"]))
        done.append(PointRecord(point=point, status=PointStatus.COMPLETE, curve={9: elbo}))
    late = [each.point["nc"] for each in done[10:]]
    assert min(late) <= 6 and max(late) >= 38


def test_a_point_is_a_trial_a_seed_and_back():
    search = search_of()
    point = suggest(search, [])
    specs = search.specs(point)
    assert [spec.seed for spec in specs] == [0, 1] and {spec.shape_key for spec in specs} == {specs[0].shape_key}
    assert all(search.find_point(spec) == point for spec in specs)
    assert search.find_point(replace(specs[0], seed=2)) is None
    assert search.find_point(replace(specs[0], nc=5, epochs=8, evaluate_at=(8,))) is None
    assert search.find_point(replace(specs[0], sigma=0.5)) is None


def test_a_curve_has_the_epochs_that_all_seeds_have():
    assert mean_curve(["a", "b"], {"a": {9: 1.0, 3: 2.0}, "b": {3: 4.0}}) == {3: 3.0}
    assert mean_curve(["a", "c"], {"a": {3: 2.0}}) == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampler": "cma"}, "sampler must be one of tpe, random, nsga2; got 'cma'"),
        ({"scheduler": "pbt"}, "scheduler must be one of asha, median, none; got 'pbt'"),
        ({"objectives": "elbo,parameters", "scheduler": "asha"}, "several objectives go without early stopping .*"),
        ({"points": 10, "space": parse_space("nc=2|4")}, "points must be at most those of the space, 2; got 10"),
        ({"points": 2, "space": parse_space("batch_size=50|300")}, "batch_size must be <= n_train .200.; got 300"),
        (
            {"points": 2, "space": parse_space("augmentation=tuned|none,augment_probability=0.1|5")},
            "augment_probability must be <= 1; got 5.0",
        ),
    ],
)
def test_a_search_that_cannot_be(fields, message):
    with pytest.raises(SpecError, match=f"^{message}"):
        search_of(**fields)
