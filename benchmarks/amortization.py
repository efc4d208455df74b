"""The amortization gap of 12 VAEs: one after another, or as one bundle.

    python benchmarks/amortization.py [--images 1000] [--repeats 5] [--device cpu|cuda]

Both sides evaluate the same trained VAEs on the same embedded digits with the default settings, on one CPU core or one
GPU, and find the same gaps. The ratio is the time of 12 evaluations of a bundle of one by the time of one evaluation of
a bundle of 12; the two sides take turns. Training is not timed. No Ray.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from machine import describe
from torch import Tensor

from vaegen_ray.data import catalog
from vaegen_ray.evaluation.amortization import amortization_gap
from vaegen_ray.measures import Amortization
from vaegen_ray.models.vae import VAE
from vaegen_ray.sweep.base import base_spec
from vaegen_ray.training.trainer import Trainer
from vaegen_ray.trial import TrialSpec

MEMBERS = 12
WIDTHS = (8, 16, 32, 64)
LATENT = 8


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Both sides at one width, seconds of each repeat, and what they found."""

    nc: int
    alone: tuple[float, ...]
    """All members one after another."""
    bundled: tuple[float, ...]
    steps: tuple[int, ...]
    """Adam steps of each member."""
    gaps: tuple[tuple[float, ...], tuple[float, ...]]
    """Of each member, alone and bundled."""

    @property
    def ratios(self) -> list[float]:
        return sorted(alone / bundled for alone, bundled in zip(self.alone, self.bundled, strict=True))

    def __str__(self) -> str:
        ratios = self.ratios
        return (
            f"nc {self.nc:>3}: {len(self.steps)} alone {median(self.alone):6.2f} s, "
            f"bundled {median(self.bundled):6.2f} s, ratio {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
            f"gap {sum(self.gaps[1]) / len(self.steps):.3f} nats in {min(self.steps)} to {max(self.steps)} steps"
        )


def trained(nc: int, members: int, epochs: int, device: torch.device) -> tuple[VAE, list[TrialSpec]]:
    """A bundle of trained VAEs."""
    base = base_spec("digits", levels=2, n_train=500, epochs=epochs)
    mz = LATENT // base["latent_per_mz"]
    specs = [TrialSpec(**base, nc=nc, mz=mz, seed=seed, evaluate_at=(epochs,)) for seed in range(members)]
    split = catalog.load("digits", levels=2, n_train=500)
    trainer = Trainer(specs, torch.from_numpy(split.train.images).to(device), device=device)
    trainer.train(trainer.spec.steps)
    return trainer.vae, specs


def single(vae: VAE, specs: list[TrialSpec], member: int) -> VAE:
    """One member as a VAE of its own."""
    alone = VAE([specs[member]]).to(next(vae.parameters()).device)
    alone.load_state_dict({name: tensor[member : member + 1] for name, tensor in vae.state_dict().items()})
    return alone


def digits(count: int, device: torch.device) -> Tensor:
    """Embedded digits, those of the test set first."""
    split = catalog.load("digits", levels=2, n_train=1000)
    both = [torch.from_numpy(part.images) for part in (split.test, split.train)]
    return torch.cat(both)[:count].to(device)


def measure(
    nc: int,
    images: Tensor,
    settings: Amortization,
    *,
    members: int = MEMBERS,
    epochs: int = 100,
    repeats: int = 5,
) -> Timing:
    """Times both sides in turn, after a warm-up of each."""
    vae, specs = trained(nc, members, epochs, images.device)
    singles = [single(vae, specs, member) for member in range(members)]
    seconds: dict[str, list[float]] = {"alone": [], "bundled": []}
    rows: dict[str, list[dict[str, float]]] = {}
    for repeat in range(-1, repeats):
        for side in seconds:
            started = time.perf_counter()
            if side == "bundled":
                rows[side] = amortization_gap(vae, specs, images, settings)
            else:
                pairs = zip(singles, specs, strict=True)
                rows[side] = [row for one, spec in pairs for row in amortization_gap(one, [spec], images, settings)]
            if repeat >= 0:  # the numbers of the rows were read, so a GPU has finished
                seconds[side].append(time.perf_counter() - started)
    alone, bundled = (tuple(row["amortization_gap"] for row in rows[side]) for side in ("alone", "bundled"))
    return Timing(
        nc=nc,
        alone=tuple(seconds["alone"]),
        bundled=tuple(seconds["bundled"]),
        steps=tuple(int(row["amortization_steps"]) for row in rows["bundled"]),
        gaps=(alone, bundled),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    device = torch.device(options.device)
    images, settings = digits(options.images, device), Amortization(images=options.images)
    print(describe("torch"))
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else "one core of the CPU (1 thread)")
    print(f"{len(images)} images of 8x8, latent {LATENT}; medians of {options.repeats} repeats, {settings}")
    for nc in WIDTHS:
        print(measure(nc, images, settings, repeats=options.repeats), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
