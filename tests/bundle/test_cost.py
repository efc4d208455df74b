"""The model of a training step: what it must say whatever a device's numbers are."""

from dataclasses import replace

import pytest

from vaegen_ray.bundle.cost import (
    CPU_CORE,
    H200,
    OPTIMISER_BYTES,
    Device,
    LayerCost,
    bundle_bytes,
    check_memory,
    size_text,
)
from vaegen_ray.errors import SpecError
from vaegen_ray.models.layout import flops_per_image, layers, member_bytes, params_total
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec

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
    most, cache = device.most_members(spec), device.cache_bytes or device.memory_bytes

    def fits(members: int) -> bool:
        return bundle_bytes(spec, members) <= device.memory_bytes and members * member_bytes(spec) <= cache

    assert most == 1 or fits(most)
    assert not fits(most + 1)


@pytest.mark.parametrize("nc", [1, 32, 512])
def test_members_fit_as_long_as_a_bundle_of_them_does(nc: int) -> None:
    spec = TrialSpec(nc=nc)
    for members in (1, 2, 7, 500):
        needed = bundle_bytes(spec, members)
        assert replace(PLAIN, memory_bytes=needed).fitting_members(spec) == members
        assert replace(PLAIN, memory_bytes=needed - 1).fitting_members(spec) == members - 1


def test_a_trial_that_does_not_fit_alone_is_refused_with_both_numbers() -> None:
    small, large = TrialSpec(nc=8), TrialSpec(nc=512, mz=16)
    needed = bundle_bytes(large, 1)
    check_memory([small, large], replace(PLAIN, memory_bytes=needed))
    with pytest.raises(SpecError) as error:
        check_memory([small, large], replace(PLAIN, memory_bytes=needed - 1))
    for said in (size_text(needed), size_text(needed - 1), "nc 512, mz 16", "1 VAE "):
        assert said in str(error.value)
    check_memory([large], replace(H200, memory_bytes=1))  # a GPU says so itself, and bundles are halved then
