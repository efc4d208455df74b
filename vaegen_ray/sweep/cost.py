"""How long a training step takes on a device, and how many members fit: the model behind packing and dry runs.

    seconds of a step of M members = launch + M * (member + FLOPs / rate + optimiser bytes / bandwidth)

The launch is paid once a bundle, which is why small VAEs gain from fusing. On a CPU fusing stops paying when the
weights, gradients and moments of the members leave the cache. ``benchmarks/bundle_step.py`` measures all of it.
"""

from dataclasses import dataclass

from vaegen_ray.models.layout import flops_per_image, member_bytes, params_total, state_bytes
from vaegen_ray.trial import TrialSpec

OPTIMISER_BYTES = 28
"""Bytes that a fused Adam step moves for a parameter: weight, gradient and two moments read, three of them written."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device that trains a bundle at a time."""

    kind: str
    """``cpu`` (one core) or ``cuda`` (one GPU)."""
    launch_seconds: float
    """Fixed cost of a step, seconds."""
    member_seconds: float
    """Fixed cost of a member in a step, seconds."""
    flops_per_second: float
    """Sustained rate of matrix products and convolutions in float32."""
    bytes_per_second: float
    """Sustained rate at which the optimiser moves its state."""
    memory_bytes: int
    """Memory that a bundle may take."""
    cache_bytes: int | None = None
    """Optimiser state of a bundle beyond which fusing stops paying; None where it does not."""
    measured: bool = True
    """False for figures taken from a data sheet."""

    def step_seconds(self, spec: TrialSpec, members: int) -> float:
        """Expected duration of a training step of a bundle."""
        flops = 3 * flops_per_image(spec) * spec.batch_size
        each = flops / self.flops_per_second + OPTIMISER_BYTES * params_total(spec) / self.bytes_per_second
        return self.launch_seconds + members * (self.member_seconds + each)

    def training_seconds(self, spec: TrialSpec, members: int) -> float:
        """Expected duration of the training of a bundle, evaluations not counted."""
        return spec.steps * self.step_seconds(spec, members)

    def most_members(self, spec: TrialSpec) -> int:
        """Members that fit into memory and for which fusing pays; at least one."""
        most = self.memory_bytes // member_bytes(spec)
        if self.cache_bytes is not None:
            most = min(most, self.cache_bytes // state_bytes(spec))
        return max(1, most)


CPU_CORE = Device(
    kind="cpu",
    launch_seconds=5.0e-4,
    member_seconds=5.0e-5,
    flops_per_second=1.1e11,
    bytes_per_second=2.4e10,
    memory_bytes=2 * 2**30,
    cache_bytes=48 * 2**20,
)
"""Measured on one core of a Xeon with AVX-512 (see README, benchmarks)."""

H200 = Device(
    kind="cuda",
    launch_seconds=1.0e-3,
    member_seconds=0.0,
    flops_per_second=2.5e13,
    bytes_per_second=3.0e12,
    memory_bytes=100 * 2**30,
    measured=False,
)
"""Assumed for one GPU: about half of the data sheet's float32 rate and bandwidth of an H200; not measured."""
