"""The training step alone: how much fusing gains, up to which size, and the values of the cost model.

    python benchmarks/bundle_step.py [--quick] [--device cpu|cuda] [--network NAME]

Times the real loop (``Trainer.train``: drawing of order and noise, forward, backward, Adam) on random images, on one
CPU core or one GPU, for bundles of M members. No Ray. FLOPs are three times those of the forward pass, products with
weights alone. The limit is the best rate of large matrix products in the same arithmetic, measured in the same run.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any

import numpy as np
import torch
from machine import describe
from scipy.optimize import nnls

from vaegen_ray.bundle.cost import CPU_CORE, H200, OPTIMISER_BYTES, numbers_per_image
from vaegen_ray.models.layout import flops_per_image, layers, member_bytes, params_total, state_bytes
from vaegen_ray.spec.trial import PRECISIONS, TrialSpec
from vaegen_ray.training.numerics import arithmetic
from vaegen_ray.training.trainer import Trainer

REPEATS = 5
MEMORY_SHARE = 0.7
"""Part of the device's memory that a bundle may be expected to take; larger ones are left out."""
CPU_MEMORY = 4 * 2**30

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp-8": {"n_train": 500},
    "mlp-8-b500": {"n_train": 500, "batch_size": 500},
    "mlp-32": {"image_shape": (1, 32, 32), "latent_per_mz": 16, "batch_size": 100},
    "residual-8": {"architecture": "residual", "latent_per_mz": 4, "learning_rate": 1e-4},
    "residual-32": {
        "architecture": "residual",
        "image_shape": (3, 32, 32),
        "levels": 256,
        "likelihood": "logistic_mixture",
        "latent_per_mz": 64,
        "batch_size": 100,
        "learning_rate": 1e-4,
    },
}
"""Fields of the trials: both networks on images of 8x8 (as the embedded digits) and 32x32 (as CIFAR-10). The large
batch tells the cost of products from that of the optimiser, which both grow with the parameters."""

Sizes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]

CPU_SIZES: Sizes = {
    "mlp-8": ((1, 8, 32, 64, 128, 256, 512), (1, 32), (1, 3, 12, 48)),
    "mlp-8-b500": ((32, 128, 512), (1,), (1, 3, 12)),
    "mlp-32": ((512,), (1,), (1, 3, 12)),
    "residual-8": ((8, 32, 64), (1,), (1, 3, 12)),
    "residual-32": ((8, 32), (1,), (1, 3, 12)),
}
"""nc, mz and M by network; only the second largest nc is tried with an mz above 1."""
CUDA_SIZES: Sizes = {
    "mlp-8": ((8, 32, 128, 512), (1, 32), (1, 12, 60, 240)),
    "mlp-8-b500": ((32, 128, 512), (1,), (1, 12, 60)),
    "mlp-32": ((128, 512), (1, 64), (1, 12, 60, 240)),
    "residual-8": ((8, 32, 128), (1,), (1, 12, 60)),
    "residual-32": ((8, 32, 128, 512), (1, 64), (1, 4, 16, 64)),
}
QUICK_SIZES: Sizes = {
    "mlp-8": ((8, 128), (1,), (1, 12)),
    "mlp-8-b500": ((128,), (1,), (1, 12)),
    "mlp-32": ((512,), (1,), (1, 3)),
    "residual-8": ((8,), (1,), (1, 6)),
    "residual-32": ((8,), (1,), (1, 3)),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table: a bundle on a device."""

    network: str
    spec: TrialSpec
    members: int
    loop: bool = False
    """Convolutions member by member instead of grouped."""

    @property
    def shape(self) -> tuple:
        """What has one line at M = 1, to compare the others with."""
        return self.network, self.spec.precision, self.spec.nc, self.spec.mz


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What was measured for a case."""

    case: Case
    seconds: tuple[float, ...]
    """Seconds a step, one for each repeat."""

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def members_per_second(self) -> float:
        """Steps of one member a second, of the best repeat."""
        return self.case.members / self.best

    @property
    def flops_per_second(self) -> float:
        spec = self.case.spec
        return 3 * flops_per_image(spec) * spec.batch_size * self.members_per_second


def spec_of(network: str, nc: int, mz: int, precision: str, steps: int = 4) -> TrialSpec:
    """A trial of about ``steps`` optimiser steps, in whole epochs."""
    fields: dict[str, Any] = {"batch_size": 50, **NETWORKS[network]}
    n_train = fields.setdefault("n_train", 2 * fields["batch_size"])
    epochs = max(1, math.ceil(steps * fields["batch_size"] / n_train))
    return TrialSpec(**fields, nc=nc, mz=mz, precision=precision, epochs=epochs, evaluate_at=(epochs,))


def cases(sizes: Sizes, networks: Iterable[str], precisions: Iterable[str], memory: float) -> Iterator[Case]:
    """All lines of the table whose bundles fit into ``memory`` bytes, those of one shape together."""
    for network in networks:
        widths, multipliers, bundles = sizes[network]
        second = sorted(widths)[-2:][0]
        points = [(nc, multipliers[0]) for nc in widths] + [(second, mz) for mz in multipliers[1:]]
        for precision in precisions:
            for nc, mz in points:
                spec = spec_of(network, nc, mz, precision)
                for members in bundles:
                    if members > 1 and members * member_bytes(spec) > memory:
                        continue
                    loops = (False, True) if spec.architecture == "residual" and members > 1 else (False,)
                    yield from (Case(network=network, spec=spec, members=members, loop=loop) for loop in loops)


def measure(case: Case, device: torch.device, *, seconds: float, repeats: int = REPEATS) -> Timing:
    """Times ``repeats`` trainings of about ``seconds`` each, after a warm-up that also finds how many steps that is."""
    _train(case, case.spec, device)
    steps = case.spec.steps
    took = _train(case, case.spec, device)
    spec = spec_of(case.network, case.spec.nc, case.spec.mz, case.spec.precision, round(seconds / took * steps))
    return Timing(case=case, seconds=tuple(_train(case, spec, device) / spec.steps for _ in range(repeats)))


def _train(case: Case, spec: TrialSpec, device: torch.device) -> float:
    """Seconds of a whole training of ``spec``, without the building of the networks."""
    members = [TrialSpec.from_dict({**spec.as_dict(), "seed": seed}) for seed in range(case.members)]
    pixels = torch.Generator().manual_seed(0)
    images = torch.randint(spec.levels, (spec.n_train, *spec.image_shape), generator=pixels, dtype=torch.uint8)
    trainer = Trainer(members, images.to(device), device=device, loop_over_members=case.loop)
    _synchronise(device)
    started = time.perf_counter()
    trainer.train(spec.steps)
    _synchronise(device)
    return time.perf_counter() - started


def device_limit(device: torch.device, precision: str, *, seconds: float = 0.3) -> float:
    """The device's best rate of square matrix products in ``precision``, FLOP/s."""
    best = 0.0
    for n in (4096, 8192, 16384) if device.type == "cuda" else (512, 1024, 2048):
        a, b = torch.rand(2, n, n, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        with arithmetic(precision, device):
            (a @ b).sum().item()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                started = time.perf_counter()
                a @ b
                _synchronise(device)
                best = max(best, 2 * n**3 / (time.perf_counter() - started))
    return best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The cost model's values, with the names of ``sweep.cost``, a layer; infinite where no cost was seen."""

    launch_seconds: float
    member_seconds: float
    flops_per_second: float
    bytes_per_second: float
    error: float
    """Median relative distance between model and measurement."""


def fit(timings: list[Timing], number_seconds: float) -> Fit:
    """Least squares of relative distances, with no value below zero: all steps count alike, long and short.

    Args:
        number_seconds: of the device (``sweep.cost``), for the numbers of the likelihood: all steps on one data set
            have as many, so their cost cannot be told from that of a member.
    """
    rows, seconds = [], []
    for timing in timings:
        spec, members = timing.case.spec, timing.case.members
        flops = 3 * flops_per_image(spec) * spec.batch_size
        count = len(layers(spec))
        rows.append([count, count * members, members * flops, members * OPTIMISER_BYTES * params_total(spec)])
        known = members * numbers_per_image(spec) * spec.batch_size * number_seconds
        seconds.append(max(timing.best - known, 0.1 * timing.best))
    relative = np.array(rows) / np.array(seconds)[:, None]
    scale = relative.max(axis=0)  # the columns differ by ten orders of magnitude
    solved, _ = nnls(relative / scale, np.ones(len(rows)))
    launch, member, flop, byte = (float(value) for value in solved / scale)
    error = float(np.median(np.abs(relative @ (solved / scale) - 1)))
    return Fit(
        launch_seconds=launch,
        member_seconds=member,
        flops_per_second=1 / flop if flop else math.inf,
        bytes_per_second=1 / byte if byte else math.inf,
        error=error,
    )


HEADER = (
    f"{'network':<12} {'arithm.':<8} {'nc':>4} {'mz':>3} {'M':>4} {'conv':<7} {'ms/step':>9} {'spread':>7} "
    f"{'members/s':>10} {'gain':>6} {'TFLOP/s':>8} {'limit':>6}"
)


def line(timing: Timing, alone: Timing, limit: float) -> str:
    """One line of the table; ``alone`` is the same shape at M = 1, ``limit`` the device's FLOP/s."""
    case, spec = timing.case, timing.case.spec
    conv = "" if spec.architecture != "residual" or case.members == 1 else "loop" if case.loop else "grouped"
    return (
        f"{case.network:<12} {spec.precision:<8} {spec.nc:>4} {spec.mz:>3} {case.members:>4} {conv:<7} "
        f"{timing.best * 1e3:>9.3f} {100 * (median(timing.seconds) / timing.best - 1):>6.0f}% "
        f"{timing.members_per_second:>10.0f} {timing.members_per_second / alone.members_per_second:>6.2f} "
        f"{timing.flops_per_second / 1e12:>8.3f} {100 * timing.flops_per_second / limit:>5.1f}%"
    )


def where_fusing_stops(timings: list[Timing]) -> Iterator[str]:
    """For each shape the bundle with the most members a second, and the optimiser state that it holds."""
    for shape, group in groupby(timings, key=lambda timing: timing.case.shape):
        tried = list(group)
        best = max(tried, key=lambda timing: timing.members_per_second)
        gain = best.members_per_second / tried[0].members_per_second
        state = best.case.members * state_bytes(best.case.spec) / 2**20
        network, precision, nc, mz = shape
        most = max(timing.case.members for timing in tried)
        how = " (loop)" if best.case.loop else ""
        yield (
            f"{network:<12} {precision:<8} nc {nc:>3} mz {mz:>2}: best M = {best.case.members}{how} of up to {most}, "
            f"{gain:.2f} times M = 1, {state:,.1f} MiB of weights, gradients and moments"
        )


def fits(timings: list[Timing], number_seconds: float) -> Iterator[str]:
    """The cost model fitted to each architecture and arithmetic, with the faster convolution."""
    for precision in dict.fromkeys(timing.case.spec.precision for timing in timings):
        of_precision = [timing for timing in timings if timing.case.spec.precision == precision]
        fastest: dict[tuple, Timing] = {}
        for timing in of_precision:
            key = (*timing.case.shape, timing.case.members)
            fastest[key] = min(fastest.get(key, timing), timing, key=lambda each: each.best)
        for kind in dict.fromkeys(timing.case.spec.architecture for timing in of_precision):
            chosen = [timing for timing in fastest.values() if kind == timing.case.spec.architecture]
            if len(chosen) < 6:  # the model has four values
                continue
            values = fit(chosen, number_seconds)
            yield (
                f"{kind:<16} {precision:<8} launch_seconds={values.launch_seconds:.2g}, "
                f"member_seconds={values.member_seconds:.2g}, flops_per_second={values.flops_per_second:.2g}, "
                f"bytes_per_second={values.bytes_per_second:.2g}   (median error {100 * values.error:.0f}%)"
            )


def run(chosen: list[Case], device: torch.device, *, seconds: float, repeats: int = REPEATS) -> list[Timing]:
    """Measures all cases and prints the table as it grows, then the conclusions."""
    limits = {precision: device_limit(device, precision) for precision in {c.spec.precision for c in chosen}}
    for precision, limit in limits.items():
        print(f"limit in {precision}: {limit / 1e12:.3f} TFLOP/s in matrix products")
    print(f"best of {repeats} repeats of about {seconds:g} s each; spread: how far the median is above it\n\n{HEADER}")
    timings: list[Timing] = []
    alone: dict[tuple, Timing] = {}
    for case in chosen:
        timing = measure(case, device, seconds=seconds, repeats=repeats)
        timings.append(timing)
        print(line(timing, alone.setdefault(case.shape, timing), limits[case.spec.precision]), flush=True)
    print("\nwhere fusing stops paying")
    print(*where_fusing_stops(timings), sep="\n")
    print("\nthe cost model, least squares of relative distances (the faster convolution); values for bundle/cost.py")
    print(*fits(timings, (H200 if device.type == "cuda" else CPU_CORE).number_seconds), sep="\n")
    return timings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few sizes, about a minute [default: several minutes]")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="[default: cuda where there is one]")
    parser.add_argument("--network", choices=NETWORKS, action="append", help="[default: all; may come several times]")
    options = parser.parse_args()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.set_num_threads(1)
    print(describe("torch"))
    if device.type == "cuda":
        print(torch.cuda.get_device_name(device))
        sizes, precisions = CUDA_SIZES, list(PRECISIONS)
        memory = MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory
    else:
        print("one core of the CPU (1 thread)")
        sizes, precisions, memory = CPU_SIZES, ["float32"], MEMORY_SHARE * CPU_MEMORY
    sizes = QUICK_SIZES if options.quick else sizes
    chosen = list(cases(sizes, options.network or NETWORKS, precisions, memory))
    run(chosen, device, seconds=0.1 if options.quick else 0.4, repeats=3 if options.quick else REPEATS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
