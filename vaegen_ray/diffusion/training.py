"""Training of a diffusion model (Karras et al. 2022, Table 1 and Appendix F).

    for each block of steps:  draw images, noise levels, noise; seed dropout     (sources, seeds)
        for each step:        loss -> backward -> Adam -> averaged weights

Random numbers come from streams of the specification's seed, one for each block, so the state of a training is its
tensors and its step. A training stops between blocks alone, which makes dropout repeatable too.
"""

import math
import time

import torch
from torch import Tensor

from vaegen_ray.diffusion.edm import compute_loss
from vaegen_ray.diffusion.network import build_denoiser, check_shapes
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.diffusion import DiffusionSpec
from vaegen_ray.training.adam import Adam
from vaegen_ray.training.numerics import arithmetic
from vaegen_ray.training.sources import ShuffledEpochs

BLOCK_STEPS = 50
BLOCK_PIXELS = 2**24
"""Most steps, and most pixels, of a block."""
EMA_RAMP = 0.05
"""The half-life of the averaged weights is at most this fraction of the images seen."""
LOSSES = 100
"""Points of the stored loss curve."""


class DiffusionTrainer:
    """Trains one diffusion model.

    Args:
        spec: the model.
        images: the training set, uint8 [N, C, H, W] with N = ``spec.n_train``, on the device.
        device: where to train.

    Attributes:
        step: optimiser steps done.
        losses: pairs (images seen, mean loss since the last pair), at most ``LOSSES + 1``.
    """

    def __init__(self, spec: DiffusionSpec, images: Tensor, *, device: torch.device | str = "cpu") -> None:
        if tuple(images.shape) != (spec.n_train, *spec.image_shape):
            raise SpecError(
                f"training images must have the shape {(spec.n_train, *spec.image_shape)}; got {tuple(images.shape)}"
            )
        self.spec = spec
        self.device = torch.device(device)
        self.denoiser = build_denoiser(spec, self.device)
        if self.device.type == "cuda":
            self.denoiser.to(memory_format=torch.channels_last)
        self.adam = Adam(self.denoiser.named_parameters(), spec.learning_rate)
        self.step = 0
        self.losses: list[tuple[int, float]] = []
        self._averaged = {name: p.detach().clone() for name, p in self.denoiser.named_parameters()}
        self._order = ShuffledEpochs(images, spec.seed)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._loss_steps = 0

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.spec.steps

    @property
    def fraction(self) -> float:
        """Fraction of the steps that are done."""
        return self.step / self.spec.steps

    @property
    def steps_per_block(self) -> int:
        """Steps between two points at which the training can stop."""
        return max(1, min(BLOCK_STEPS, BLOCK_PIXELS // (self.spec.batch_size * math.prod(self.spec.image_shape))))

    def advance(self, seconds: float) -> None:
        """Trains for about ``seconds``, at least one block of steps.

        Raises:
            VaegenError: the loss is not finite.
        """
        end = time.monotonic() + seconds
        self.denoiser.train()
        devices = [self.device] if self.device.type == "cuda" else []
        with arithmetic(self.spec.precision, self.device), torch.random.fork_rng(devices=devices):
            while not self.finished:
                self._block(self.step // self.steps_per_block)
                if time.monotonic() >= end:
                    break

    def _block(self, number: int) -> None:
        first = number * self.steps_per_block
        last = min(first + self.steps_per_block, self.spec.steps)
        assert self.step == first, (self.step, first)
        batch = self.spec.batch_size
        count = (last - first) * batch
        generator = torch.Generator(self.device).manual_seed(stream_seed(self.spec.seed, "noise", number))
        sigma = self.denoiser.noise.draw(count, generator, self.device)
        noise = torch.randn(count, *self.spec.image_shape, generator=generator, device=self.device)
        pixels = self._order.images(first * batch, last * batch)
        torch.manual_seed(stream_seed(self.spec.seed, "dropout", number))
        for i in range(last - first):
            part = slice(i * batch, (i + 1) * batch)
            self._update(pixels[part].float() * (2 / (self.spec.levels - 1)) - 1, sigma[part], noise[part])
        self._record_loss()

    def _update(self, images: Tensor, sigma: Tensor, noise: Tensor) -> None:
        mean = compute_loss(self.denoiser, images, sigma, noise, self.denoiser.noise).mean()
        self.adam.zero_grad()
        mean.backward()
        self.adam.learning_rate = self.learning_rate
        self.adam.step()
        self.step += 1
        self._average()
        self._loss_sum += mean.detach()
        self._loss_steps += 1

    @property
    def learning_rate(self) -> float:
        """The step size of the next step."""
        seen = (self.step + 1) * self.spec.batch_size
        rate = self.spec.learning_rate * min(1.0, seen / self.spec.warmup_images)
        if self.spec.decay == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * self.fraction))
        return rate

    @torch.no_grad()
    def _average(self) -> None:
        half_life = min(self.spec.ema_images, EMA_RAMP * self.step * self.spec.batch_size)
        new = 1 - 0.5 ** (self.spec.batch_size / half_life)
        move_towards(list(self._averaged.values()), list(self.denoiser.parameters()), new)

    def _record_loss(self) -> None:
        due = (len(self.losses) + 1) * self.spec.steps // LOSSES
        if self.step < due and not self.finished:
            return
        mean = float(self._loss_sum) / self._loss_steps
        if not math.isfinite(mean):
            raise VaegenError(f"the loss of the diffusion model is not finite after {self.step} steps; got {mean}")
        self.losses.append((self.step * self.spec.batch_size, mean))
        self._loss_sum.zero_()
        self._loss_steps = 0

    def averaged(self) -> dict[str, Tensor]:
        """A copy of the averaged weights by name, on the CPU; those that samples are made with."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self._averaged.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """What the rest of the training depends on: tensors by name, and plain values."""
        tensors = {f"weights.{name}": p.detach() for name, p in self.denoiser.named_parameters()}
        tensors |= {f"averaged.{name}": tensor for name, tensor in self._averaged.items()}
        tensors |= {f"adam.{name}": tensor for name, tensor in self.adam.state().items()}
        tensors["loss_sum"] = self._loss_sum
        return tensors, {"step": self.step, "losses": self.losses, "loss_steps": self._loss_steps}

    def load_state(self, tensors: dict[str, Tensor], values: dict) -> None:
        """The inverse of ``state``.

        Raises:
            DataFormatError, KeyError: the state is that of another network; nothing is changed then.
        """
        check_shapes(tensors, self.state()[0], "the checkpoint")
        step, loss_steps = int(values["step"]), int(values["loss_steps"])
        losses = [(int(seen), float(mean)) for seen, mean in values["losses"]]
        with torch.no_grad():
            for name, parameter in self.denoiser.named_parameters():
                parameter.copy_(tensors[f"weights.{name}"])
                self._averaged[name].copy_(tensors[f"averaged.{name}"])
        self.adam.load_state({n.removeprefix("adam."): t for n, t in tensors.items() if n.startswith("adam.")})
        self._loss_sum.copy_(tensors["loss_sum"])
        self.step, self._loss_steps, self.losses = step, loss_steps, losses


def move_towards(tensors: list[Tensor], targets: list[Tensor], fraction: float) -> None:
    """tensor += fraction (target - tensor), for all tensors in one launch (a private function of torch)."""
    torch._foreach_lerp_(tensors, targets, fraction)
