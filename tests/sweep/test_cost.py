"""The model of a training step: what it must say whatever a device's numbers are."""

import pytest

from vaegen_ray.models.layout import flops_per_image, layers, member_bytes, params_total
from vaegen_ray.sweep.base import base_spec
from vaegen_ray.sweep.cost import CPU_CORE, H200, OPTIMISER_BYTES, Device, LayerCost
from vaegen_ray.trial import TrialSpec

PLAIN = Device(
    kind="cpu",
    linear=LayerCost(launch_seconds=2.0, member_seconds=3.0, flops_per_second=1.0),
    conv=LayerCost(launch_seconds=5.0, member_seconds=7.0, flops_per_second=4.0),
    bytes_per_second=1.0,
    memory_bytes=10**9,
)
RESIDUAL = TrialSpec(**base_spec("cifar10", epochs=2), nc=8, evaluate_at=(2,))


def test_a_step_by_hand() -> None:
    spec = TrialSpec(nc=4, batch_size=10)  # six layers: 64 -> 4 -> 4 -> 4 and 2 -> 4 -> 4 -> 64
    multiplications = 64 * 4 + 4 * 4 + 4 * 4 + 2 * 4 + 4 * 4 + 4 * 64
    biases = 4 + 4 + 4 + 4 + 4 + 64
    each = 3 * 2 * multiplications * 10 + OPTIMISER_BYTES * (multiplications + biases)
    assert PLAIN.step_seconds(spec, 1) == 6 * 2.0 + 6 * 3.0 + each
    assert PLAIN.step_seconds(spec, 7) == 6 * 2.0 + 7 * (6 * 3.0 + each)
    assert PLAIN.training_seconds(spec, 7) == spec.steps * PLAIN.step_seconds(spec, 7)


def test_convolutions_have_costs_of_their_own() -> None:
    each = 3 * flops_per_image(RESIDUAL) * RESIDUAL.batch_size / 4.0 + OPTIMISER_BYTES * params_total(RESIDUAL)
    assert PLAIN.step_seconds(RESIDUAL, 2) == len(layers(RESIDUAL)) * 5.0 + 2 * (len(layers(RESIDUAL)) * 7.0 + each)


@pytest.mark.parametrize("device", [CPU_CORE, H200])
@pytest.mark.parametrize("spec", [TrialSpec(nc=1), TrialSpec(nc=32), TrialSpec(nc=4096), RESIDUAL])
def test_a_bundle_takes_longer_than_one_but_not_longer_than_one_after_another(device: Device, spec: TrialSpec) -> None:
    seconds = [device.step_seconds(spec, members) for members in (1, 2, 3, 10)]
    assert seconds == sorted(set(seconds))
    assert seconds[-1] < 10 * seconds[0]


@pytest.mark.parametrize("device", [CPU_CORE, H200])
@pytest.mark.parametrize("nc", [1, 32, 512, 100_000])
def test_as_many_members_as_memory_and_cache_hold_and_at_least_one(device: Device, nc: int) -> None:
    spec = TrialSpec(nc=nc)
    most, room = device.most_members(spec), min(device.memory_bytes, device.cache_bytes or device.memory_bytes)
    assert most == 1 or most * member_bytes(spec) <= room
    assert (most + 1) * member_bytes(spec) > room
