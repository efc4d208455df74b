"""The amortization gap of 12 VAEs: one after another in two ways, or as one bundle.

    python benchmarks/amortization.py [--images 1000] [--repeats 5] [--device cpu|cuda]

Both sides evaluate the same trained VAEs on the same embedded digits with the default settings, on one CPU core or one
GPU, and take as many steps. ``bundled`` is one evaluation of a bundle of 12, ``alone`` is 12 evaluations of a bundle of
one, which find the same gaps, and ``ordinary`` is 12 VAEs evaluated as one writes it by hand: torch's Adam on mean and
standard deviation, the ELBO through autograd, weights that take no gradient. The sides take turns. Training is not
timed. No Ray.
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
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Amortization
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.training.trainer import Trainer

MEMBERS = 12
WIDTHS = (8, 16, 32, 64)
LATENT = 8


@dataclass(frozen=True, kw_only=True)
class Timing:
    """All sides at one width, seconds of each repeat, and what they found."""

    nc: int
    alone: tuple[float, ...]
    """All members one after another."""
    ordinary: tuple[float, ...]
    bundled: tuple[float, ...]
    steps: tuple[int, ...]
    """Adam steps of each member."""
    gaps: tuple[tuple[float, ...], ...]
    """Of each member: alone, ordinary, bundled."""

    def ratios(self, side: tuple[float, ...]) -> list[float]:
        """How many times as long a side takes as the bundle, rising."""
        return sorted(other / bundled for other, bundled in zip(side, self.bundled, strict=True))

    def __str__(self) -> str:
        said = [f"nc {self.nc:>3}: bundle of {len(self.steps)} {median(self.bundled):6.2f} s"]
        for name, side in (("alone", self.alone), ("ordinary", self.ordinary)):
            ratios = self.ratios(side)
            said.append(f"{name} {median(side):6.2f} s, {median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        gaps = " ".join(f"{sum(side) / len(side):.3f}" for side in self.gaps)
        return "; ".join([*said, f"gaps {gaps} nats in {min(self.steps)} to {max(self.steps)} steps"])


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


def ordinary(vae: VAE, spec: TrialSpec, images: Tensor, settings: Amortization, steps: int) -> float:
    """The gap of one VAE as one writes it by hand, after a number of steps; nats an image."""
    vae.eval().requires_grad_(False)
    x = vae.likelihood.scale(images).unsqueeze(0)

    def elbo(parameters: Tensor) -> Tensor:
        posterior = vae.posterior(parameters)
        z = posterior.sample(torch.randn_like(posterior.mean))
        return (vae.likelihood.log_prob(vae.decode(z), x) - posterior.rate()).mean()

    start = vae.encoder(x).float()
    q = start.clone().requires_grad_()
    adam = torch.optim.Adam([q], settings.learning_rate)
    for step in range(steps):
        halvings = 0.5 ** (step // settings.check_every)
        adam.param_groups[0]["lr"] = max(settings.learning_rate * halvings, settings.last_learning_rate)
        adam.zero_grad()
        (-elbo(q) * images.shape[0]).backward()
        adam.step()
    with torch.no_grad():
        gains = [elbo(q) - elbo(start) for _ in range(settings.check_samples)]
    return float(torch.stack(gains).mean())


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
    """Times all sides in turn, after a warm-up of each."""
    vae, specs = trained(nc, members, epochs, images.device)
    singles = list(zip([single(vae, specs, member) for member in range(members)], specs, strict=True))
    seconds: dict[str, list[float]] = {"bundled": [], "alone": [], "ordinary": []}
    gaps: dict[str, tuple[float, ...]] = {}
    steps: tuple[int, ...] = ()
    for repeat in range(-1, repeats):
        for side in seconds:
            started = time.perf_counter()
            if side == "bundled":
                rows = amortization_gap(vae, specs, images, settings)
                steps = tuple(int(row["amortization_steps"]) for row in rows)
            elif side == "alone":
                rows = [row for one, spec in singles for row in amortization_gap(one, [spec], images, settings)]
            if side == "ordinary":
                pairs = zip(singles, steps, strict=True)
                gaps[side] = tuple(ordinary(one, spec, images, settings, count) for (one, spec), count in pairs)
            else:
                gaps[side] = tuple(row["amortization_gap"] for row in rows)
            if repeat >= 0:  # the numbers of the rows were read, so a GPU has finished
                seconds[side].append(time.perf_counter() - started)
    return Timing(
        nc=nc,
        **{side: tuple(times) for side, times in seconds.items()},
        steps=steps,
        gaps=tuple(gaps[side] for side in ("alone", "ordinary", "bundled")),
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
