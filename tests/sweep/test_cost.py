"""The model of a training step: what it must say whatever a device's numbers are."""

import pytest

from vaegen_ray.models.layout import member_bytes, params_total, state_bytes
from vaegen_ray.sweep.cost import CPU_CORE, H200, OPTIMISER_BYTES, Device
from vaegen_ray.trial import TrialSpec

PLAIN = Device(
    kind="cpu",
    launch_seconds=2.0,
    member_seconds=3.0,
    flops_per_second=1.0,
    bytes_per_second=1.0,
    memory_bytes=10**9,
)


def test_a_step_by_hand() -> None:
    spec = TrialSpec(nc=4, batch_size=10)  # 64 -> 4 -> 4 -> 4 and 2 -> 4 -> 4 -> 64
    multiplications = 64 * 4 + 4 * 4 + 4 * 4 + 2 * 4 + 4 * 4 + 4 * 64
    biases = 4 + 4 + 4 + 4 + 4 + 64
    assert params_total(spec) == multiplications + biases
    each = 3 * 2 * multiplications * 10 + OPTIMISER_BYTES * (multiplications + biases)
    assert PLAIN.step_seconds(spec, 1) == 2.0 + 3.0 + each
    assert PLAIN.step_seconds(spec, 7) == 2.0 + 7 * (3.0 + each)
    assert PLAIN.training_seconds(spec, 7) == spec.steps * PLAIN.step_seconds(spec, 7)


@pytest.mark.parametrize("device", [CPU_CORE, H200])
@pytest.mark.parametrize("nc", [1, 32, 512, 4096])
def test_fusing_never_costs_more_than_one_after_another(device: Device, nc: int) -> None:
    spec = TrialSpec(nc=nc)
    seconds = [device.step_seconds(spec, members) for members in (1, 2, 3, 10)]
    assert seconds == sorted(set(seconds))
    assert seconds[-1] < 10 * seconds[0]
    most = device.most_members(spec)
    assert most >= 1
    if most > 1:
        assert most * member_bytes(spec) <= device.memory_bytes
        assert device.cache_bytes is None or most * state_bytes(spec) <= device.cache_bytes
