"""Packing: every trial once, one shape a bundle, the longest first, no idle device, the same after a crash."""

import itertools
from dataclasses import replace

import pytest

from vaegen_ray.bundle.cost import CPU_CORE, H200, Device, bundle_bytes
from vaegen_ray.bundle.packing import Bundle, compute_seconds, last_end, pack, remaining, smaller_bundles
from vaegen_ray.errors import SpecError
from vaegen_ray.models.layout import member_bytes
from vaegen_ray.spec.trial import TrialSpec

TRIALS = tuple(TrialSpec(nc=nc, seed=seed) for nc in (4, 32, 256, 512) for seed in range(7))


def makespan(bundles: list[Bundle], device: Device, devices: int) -> float:
    """Expected seconds until the last device is done."""
    return last_end([compute_seconds(bundle, device) for bundle in bundles], devices)


def ids(bundles: list) -> list[str]:
    return [spec.trial_id for bundle in bundles for spec in bundle]


@pytest.mark.parametrize(
    ("device", "devices", "size"), list(itertools.product((CPU_CORE, H200), (1, 2, 16), (None, 1, 3, 100)))
)
def test_every_trial_once_with_its_own_shape_longest_first(device: Device, devices: int, size: int | None) -> None:
    bundles = pack(TRIALS, device, devices, size)
    assert sorted(ids(bundles)) == sorted(spec.trial_id for spec in TRIALS)
    assert all(len({spec.shape_key for spec in bundle}) == 1 for bundle in bundles)
    seconds = [compute_seconds(bundle, device) for bundle in bundles]
    assert seconds == sorted(seconds, reverse=True)
    if size is not None:
        assert max(map(len, bundles)) <= size


def test_a_given_size_is_kept() -> None:
    one_shape = TRIALS[:7]
    assert [len(bundle) for bundle in pack(one_shape, CPU_CORE, 1, 7)] == [7]
    assert sorted(len(bundle) for bundle in pack(one_shape, CPU_CORE, 1, 3)) == [2, 2, 3]


def test_a_sweep_declared_anew_is_packed_the_same_way() -> None:
    again = tuple(TrialSpec.from_dict(spec.as_dict()) for spec in TRIALS)
    assert pack(again, CPU_CORE, 16) == pack(TRIALS, CPU_CORE, 16)


def test_many_devices_share_one_shape() -> None:
    trials = tuple(TrialSpec(nc=64, seed=seed) for seed in range(16))
    alone, shared = pack(trials, CPU_CORE, 1), pack(trials, CPU_CORE, 4)
    assert len(alone) == 1
    assert len(shared) >= 4
    assert makespan(shared, CPU_CORE, 4) < makespan(alone, CPU_CORE, 4)


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8, 20])
@pytest.mark.parametrize("members", [1, 3, 8, 9, 16])
@pytest.mark.parametrize("device", [CPU_CORE, H200])
def test_no_even_split_of_one_shape_would_end_earlier(device: Device, members: int, devices: int) -> None:
    trials = tuple(TrialSpec(nc=4, seed=seed) for seed in range(members))
    splits = [pack(trials, device, devices, size) for size in range(1, members + 1)]
    best = min(makespan(split, device, devices) for split in splits)
    assert makespan(pack(trials, device, devices), device, devices) <= 1.01 * best


def test_shapes_that_take_equally_long_are_split_together() -> None:
    pair = tuple(TrialSpec(nc=64, n_train=n, seed=seed) for n in (500, 1000) for seed in range(8))
    pair = tuple(replace(spec, epochs=600_000 // spec.n_train, evaluate_at=(600_000 // spec.n_train,)) for spec in pair)
    bundles = pack(pair, CPU_CORE, 4)
    assert len({spec.steps for spec in pair}) == 1
    assert [len(bundle) for bundle in bundles] == [4, 4, 4, 4]


def test_bundles_fit_memory_and_cache() -> None:
    spec = TRIALS[-1]
    small = Device(
        kind="cpu",
        linear=CPU_CORE.linear,
        conv=CPU_CORE.conv,
        bytes_per_second=1e10,
        memory_bytes=bundle_bytes(spec, 2),
    )
    assert small.most_members(spec) == 2
    assert max(len(bundle) for bundle in pack(TRIALS[-7:], small, 1)) == 2
    cached = Device(**{**vars(small), "memory_bytes": 2**40, "cache_bytes": 3 * member_bytes(spec)})
    assert cached.most_members(spec) == 3
    tiny = Device(**{**vars(small), "memory_bytes": 1})
    assert tiny.most_members(spec) == 1


def test_what_remains_is_packed_as_before_and_started_bundles_go_first() -> None:
    bundles = pack(TRIALS, CPU_CORE, 2)
    done = {spec.trial_id for bundle in bundles[:2] for spec in bundle}
    todo = {spec.trial_id for spec in TRIALS} - done
    assert remaining(bundles, todo) == bundles[2:]
    started = bundles[-1]
    assert remaining(bundles, todo, [started]) == [started, *bundles[2:-1]]


def test_a_started_bundle_keeps_its_members_whatever_the_packing_says() -> None:
    bundles = pack(TRIALS, CPU_CORE, 2, 7)
    todo = {spec.trial_id for spec in TRIALS}
    started = (TRIALS[3], TRIALS[1])
    left = remaining(bundles, todo, [started])
    assert left[0] == started
    assert sorted(ids(left)) == sorted(todo)
    committed_in_part = todo - {TRIALS[1].trial_id}
    assert started not in remaining(bundles, committed_in_part, [started])
    assert sorted(ids(remaining(bundles, committed_in_part, [started]))) == sorted(committed_in_part)


@pytest.mark.parametrize(("size", "devices"), [(0, 2), (None, 0)])
def test_impossible_numbers(size: int | None, devices: int) -> None:
    with pytest.raises(SpecError, match="got 0"):
        pack(TRIALS, CPU_CORE, devices, size)


def test_a_given_size_that_memory_does_not_hold_is_made_smaller_and_said() -> None:
    spec = TRIALS[-1]
    room = replace(CPU_CORE, memory_bytes=bundle_bytes(spec, 3))
    assert sorted(len(bundle) for bundle in pack(TRIALS[-7:], room, 1, 7)) == [2, 2, 3]
    assert [len(bundle) for bundle in pack(TRIALS[-7:], CPU_CORE, 1, 7)] == [7]
    said = smaller_bundles(TRIALS, room, 7)
    assert said.startswith("bundles hold at most 3 VAEs") and "not 7" in said
    assert smaller_bundles(TRIALS, room, 3) == smaller_bundles(TRIALS, room, None) == ""
