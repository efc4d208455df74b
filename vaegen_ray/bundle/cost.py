"""How long a training step takes on a device, and how many members fit: the model behind packing and dry runs.

    seconds of a step of M members = sum over layers (launch + M * member)
                                     + M * (FLOPs / rate + numbers * seconds of one + optimiser bytes / bandwidth)

The launches are paid once a bundle, which is why small VAEs gain from fusing. On a CPU fusing stops paying when what
the members touch in a step leaves the cache. ``benchmarks/bundle_step.py`` measures all of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vaegen_ray.data.catalog import CATALOG
from vaegen_ray.errors import SpecError
from vaegen_ray.models.layout import (
    CHUNK_BYTES,
    NOISE_BLOCK,
    activation_bytes,
    flops_per_image,
    layers,
    member_bytes,
    numbers_per_image,
    params_total,
)
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.sweep import test_images

FORWARD_PART = 1 / 3
"""Part of the forward pass in the time of activations, forward and backward."""
OPTIMISER_BYTES = 28
"""Bytes that a fused Adam step moves for a parameter: weight, gradient and two moments read, three of them written."""


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What the layers of one kind cost in a training step, forward and backward."""

    launch_seconds: float
    """Fixed cost of a layer."""
    member_seconds: float
    """Fixed cost of a member in a layer."""
    flops_per_second: float
    """Sustained rate of the products in float32."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device that trains a bundle at a time."""

    kind: str
    """``cpu`` (one core) or ``cuda`` (one GPU)."""
    linear: LayerCost
    """Fully-connected layers."""
    conv: LayerCost
    """Convolutions, with their BatchNorm."""
    bytes_per_second: float
    """Sustained rate at which the optimiser moves its state."""
    memory_bytes: int
    """Memory that a bundle may take."""
    cache_bytes: int | None = None
    """What the members of a bundle may take before fusing stops paying; None where it does not."""
    number_seconds: float = 0.0
    """Forward and backward pass through an activation, for one number."""
    measured: bool = True
    """False for figures taken from a data sheet."""

    def layer_cost(self, spec: TrialSpec) -> LayerCost:
        """The costs of the layers that a trial's network is made of."""
        return self.linear if all(layer.kind == "linear" for layer in layers(spec)) else self.conv

    def step_seconds(self, spec: TrialSpec, members: int) -> float:
        """Expected duration of a training step of a bundle."""
        cost, count = self.layer_cost(spec), len(layers(spec))
        flops = 3 * flops_per_image(spec) * spec.batch_size
        each = flops / cost.flops_per_second + OPTIMISER_BYTES * params_total(spec) / self.bytes_per_second
        each += numbers_per_image(spec) * spec.batch_size * self.number_seconds
        return count * cost.launch_seconds + members * (count * cost.member_seconds + each)

    def pass_seconds(self, spec: TrialSpec) -> float:
        """Expected duration of a forward pass of an image through one member, in large batches."""
        flops = flops_per_image(spec) / self.layer_cost(spec).flops_per_second
        return flops + FORWARD_PART * numbers_per_image(spec) * self.number_seconds

    def faster(self, linear: float, small: float, memory: float) -> "Device":
        """A device of this kind that is by these factors faster: in products, in small operations, and in memory."""

        def cost(of: LayerCost) -> LayerCost:
            return LayerCost(
                launch_seconds=of.launch_seconds / small,
                member_seconds=of.member_seconds / small,
                flops_per_second=of.flops_per_second * linear,
            )

        return replace(
            self,
            linear=cost(self.linear),
            conv=cost(self.conv),
            bytes_per_second=self.bytes_per_second * memory,
            number_seconds=self.number_seconds / linear,
        )

    def training_seconds(self, spec: TrialSpec, members: int) -> float:
        """Expected duration of the training of a bundle, evaluations not counted."""
        return spec.steps * self.step_seconds(spec, members)

    def most_members(self, spec: TrialSpec) -> int:
        """Members that fit into memory and for which fusing pays; at least one."""
        fit = self.fitting_members(spec)
        return max(1, fit if self.cache_bytes is None else min(fit, self.cache_bytes // member_bytes(spec)))

    def fitting_members(self, spec: TrialSpec) -> int:
        """Members of a bundle that memory holds; 0 where it does not hold a bundle of one."""
        room = self.memory_bytes - images_bytes(spec)
        small = room // (member_bytes(spec) + NOISE_BLOCK * activation_bytes(spec))
        return max(0, small, (room - CHUNK_BYTES) // member_bytes(spec))


def tested_images(spec: TrialSpec) -> int:
    """Test images that a trial is evaluated on."""
    entry = CATALOG.get(spec.dataset)
    return spec.n_test or (test_images(entry, spec) if entry else 0)


def images_bytes(spec: TrialSpec) -> int:
    """Bytes of the training and the test images of a trial."""
    return spec.pixels * (spec.real_images + tested_images(spec))


def bundle_bytes(spec: TrialSpec, members: int) -> int:
    """Bytes that a worker needs for a bundle, beside its own: images, members in training, a chunk of an evaluation."""
    chunk = min(CHUNK_BYTES, NOISE_BLOCK * members * activation_bytes(spec))
    return images_bytes(spec) + members * member_bytes(spec) + chunk


def largest(trials: Iterable[TrialSpec]) -> TrialSpec:
    """The trial that needs most memory."""
    shapes = {(spec.shape_key, spec.real_images): spec for spec in trials}
    return max(shapes.values(), key=lambda spec: bundle_bytes(spec, 1))


def check_memory(trials: Iterable[TrialSpec], device: Device, members: int = 1) -> None:
    """Whether bundles of ``members`` fit into the memory of a CPU worker. On a GPU that shows when it is tried.

    Raises:
        SpecError: one does not.
    """
    spec = largest(trials)
    needed = bundle_bytes(spec, members)
    if device.kind == "cpu" and needed > device.memory_bytes:
        raise SpecError(
            f"a bundle must fit into the memory of a worker, which is {size_text(device.memory_bytes)} here; got "
            f"{size_text(needed)} for {members} VAE{'s' * (members > 1)} of nc {spec.nc}, mz {spec.mz}, batch_size "
            f"{spec.batch_size} on {spec.dataset}: give the job more memory, or make the VAEs smaller"
        )


def size_text(count: float) -> str:
    """A number of bytes in words."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


CPU_CORE = Device(
    kind="cpu",
    linear=LayerCost(launch_seconds=7e-5, member_seconds=5e-6, flops_per_second=1.2e11),
    conv=LayerCost(launch_seconds=3e-5, member_seconds=2.9e-4, flops_per_second=6.7e10),
    bytes_per_second=2.8e10,
    memory_bytes=2 * 2**30,
    cache_bytes=48 * 2**20,
    number_seconds=2e-9,
)
"""Measured on one core of a Xeon with AVX-512 (see README, benchmarks)."""

H200 = Device(
    kind="cuda",
    linear=LayerCost(launch_seconds=1.5e-4, member_seconds=0.0, flops_per_second=2.5e13),
    conv=LayerCost(launch_seconds=3e-4, member_seconds=0.0, flops_per_second=2.5e13),
    bytes_per_second=3.0e12,
    memory_bytes=100 * 2**30,
    number_seconds=1.5e-11,
    measured=False,
)
"""Assumed for one GPU: about half of the data sheet's float32 rate and bandwidth of an H200; not measured."""
