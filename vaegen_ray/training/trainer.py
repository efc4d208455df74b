"""The training loop: M VAEs, one optimiser step at a time. There is no other loop.

    for each block of steps:   draw the noise and gather the images of every member      (seeds, sources)
        for each step:         scale -> objective [M] -> sum -> backward -> Adam
    half-way, for Reverse Half Asleep: the decoder is frozen, and its samples come into the batches     (asleep)
    at each epoch's end:       a member whose loss was not finite is frozen, the others go on

Letters: M members, B batch, Z latent dimensions. Random numbers are drawn in blocks of ``steps_per_block`` steps, each
from a stream of its own (seed, name, block), so that the state of a training is its tensors and the number of its step.
"""

import torch
from torch import Tensor

from vaegen_ray.models.vae import VAE
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.adam import Adam
from vaegen_ray.training.build_sources import build_source
from vaegen_ray.training.numerics import arithmetic
from vaegen_ray.training.objectives import Objective, build_objective
from vaegen_ray.training.reverse_half_asleep import Asleep
from vaegen_ray.training.sources import OpenStream

BLOCK_NOISE = 2**20
"""Most numbers of noise that a member draws at once."""
BLOCK_PIXELS = 2**22
"""Most pixels that a member gathers at once."""
BLOCK_IMAGES = 2**12
"""Most images that a member gathers at once, so that one that waits for samples can begin with few."""


def steps_per_block(spec: TrialSpec) -> int:
    """Steps whose noise and images are drawn together; depends on nothing that members of a bundle may differ in."""
    noise = BLOCK_NOISE // (spec.batch_size * spec.latent_dim)
    pixels = BLOCK_PIXELS // (spec.batch_size * spec.pixels)
    return max(1, min(noise, pixels))


class Trainer:
    """Trains the members of one bundle.

    Args:
        specs: the members, all of one ``shape_key``.
        train: the real images, D_train first, uint8 [``spec.real_images``, C, H, W], on the device.
        device: where to train.
        open_stream: opens the stream of members that train on samples.
        loop_over_members: run convolutions member by member. One grouped convolution is faster on a CPU at small
            widths, but rounds by who shares the bundle, and training makes that grow (see ``models.networks``).
        objective: what to minimise, [M]; None for what the specification says.

    Attributes:
        step: optimiser steps done.
        failed: for each failed member its reason and the effective epoch at whose end it was frozen.
    """

    def __init__(
        self,
        specs: list[TrialSpec],
        train: Tensor,
        *,
        device: torch.device | str = "cpu",
        open_stream: OpenStream | None = None,
        loop_over_members: bool = True,
        objective: Objective | None = None,
    ) -> None:
        self.specs = specs
        self.spec = specs[0]
        self.device = torch.device(device)
        assert len(train) == self.spec.real_images, (len(train), self.spec.real_images)
        self.vae = VAE(specs, loop_over_members=loop_over_members).to(self.device)
        by_member = self.spec.architecture != "fully_connected"  # those are equal to 1e-8 without it, and faster
        self.adam = Adam(self.vae.named_parameters(), self.spec.learning_rate, by_member=by_member)
        self.step = 0
        self.failed: dict[int, tuple[str, int]] = {}
        self._objective = objective or build_objective(self.spec)
        self.sources = [build_source(spec, train, open_stream) for spec in specs]
        self._beta = torch.tensor([spec.beta for spec in specs], device=self.device)
        self._alive = torch.ones(len(specs), dtype=torch.bool, device=self.device)
        self._loss_sum = torch.zeros(len(specs), device=self.device)
        self._steps_per_block = steps_per_block(self.spec)
        self._steps_per_gather = max(1, min(self._steps_per_block, BLOCK_IMAGES // self.spec.batch_size))
        self._noise_block = self._image_block = -1
        self._asleep = Asleep(specs, self.device)
        self._freeze_step = self.spec.freeze_step

    @property
    def epoch(self) -> int:
        """Complete effective epochs."""
        return self.step * self.spec.batch_size // self.spec.n_train

    @property
    def alive(self) -> list[int]:
        """Members that have not failed."""
        return [m for m in range(len(self.specs)) if m not in self.failed]

    @property
    def frozen(self) -> bool:
        """The decoder is not trained any more (``rha``)."""
        return self._freeze_step is not None and self.step >= self._freeze_step

    def train(self, until: int) -> None:
        """Trains to step ``until``, at most ``spec.steps``."""
        assert until <= self.spec.steps, (until, self.spec.steps)
        self._set_modes()
        with arithmetic(self.spec.precision, self.device):
            while self.step < until and self.alive:
                self._gather(self.step)
                frozen, epoch_end = self.frozen, self.spec.steps_until(self.epoch + 1)
                stop = min(
                    until,
                    epoch_end,  # the decoder is frozen at the end of an epoch
                    *((self.step // steps + 1) * steps for steps in (self._steps_per_block, self._steps_per_gather)),
                )
                for step in range(self.step, stop):
                    pixels = self._images[:, self._rows(step, self._steps_per_gather)]
                    if frozen:
                        pixels = self._asleep.replace(self.vae, pixels, step)
                    self._update(pixels, self._noise[:, self._rows(step, self._steps_per_block)])
                self.step = stop
                if frozen != self.frozen:
                    self._set_modes()
                if stop == epoch_end:
                    self._close_epoch()
        if not self.alive:
            self.step = until

    def _set_modes(self) -> None:
        self.vae.train()
        self.vae.decoder.train(not self.frozen)
        self.vae.decoder.requires_grad_(not self.frozen)

    def _update(self, pixels: Tensor, noise: Tensor) -> None:
        loss = self._objective(self.vae, self.vae.likelihood.scale(pixels), noise, self._beta)
        if self.failed:
            loss = torch.where(self._alive, loss, 0.0)
        self.adam.zero_grad()
        loss.sum().backward()
        self.adam.step()
        self._loss_sum += loss.detach()

    def _rows(self, step: int, steps: int) -> slice:
        """Where the batch of a step lies in a block of ``steps``."""
        first = step % steps * self.spec.batch_size
        return slice(first, first + self.spec.batch_size)

    def _gather(self, step: int) -> None:
        """Makes ready images uint8 [M, steps*B, C, H, W] and noise [M, steps*B, Z] of the blocks that hold ``step``."""
        batch = self.spec.batch_size
        if (number := step // self._steps_per_gather) != self._image_block:
            first, last = (min(n * self._steps_per_gather, self.spec.steps) for n in (number, number + 1))
            self._images = torch.stack([source.images(first * batch, last * batch) for source in self.sources])
            self._image_block = number
        if (number := step // self._steps_per_block) != self._noise_block:
            first, last = (min(n * self._steps_per_block, self.spec.steps) for n in (number, number + 1))
            self._noise = torch.stack([self._draw_noise(spec, number, (last - first) * batch) for spec in self.specs])
            self._noise_block = number

    def _draw_noise(self, spec: TrialSpec, block: int, images: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(stream_seed(spec.seed, "noise", block))
        return torch.randn(images, spec.latent_dim, generator=generator, device=self.device)

    def _close_epoch(self) -> None:
        finite = torch.isfinite(self._loss_sum).tolist()
        for member in self.alive:
            if not finite[member]:
                self.freeze(member, "the training loss is not finite")
        self._loss_sum.zero_()

    def freeze(self, member: int, reason: str) -> None:
        """Ends the training of one member; it is recorded as failed at the present effective epoch.

        Its weights and moments become zero and its loss leaves the sum, so its gradient is zero from now on; the
        others do not notice.
        """
        self.failed[member] = (reason, self.epoch)
        self._alive[member] = False
        with torch.no_grad():
            for name, parameter in self.vae.named_parameters():
                for tensor in (parameter, *self.adam.moments[name]):
                    tensor[member] = 0.0
            for name, buffer in self.vae.named_buffers():
                buffer[member] = 1.0 if name.endswith("running_var") else 0.0

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Everything that the rest of the training depends on: tensors by name, and plain values."""
        tensors = {f"vae.{name}": tensor for name, tensor in self.vae.state_dict().items()}
        tensors |= {f"adam.{name}": tensor for name, tensor in self.adam.state().items()}
        tensors["loss_sum"] = self._loss_sum
        return tensors, {"step": self.step, "failed": {str(m): list(f) for m, f in self.failed.items()}}

    def load_state(self, tensors: dict[str, Tensor], values: dict) -> None:
        """The inverse of ``state``; the training goes on as if it had never stopped."""
        for prefix, load in (("vae.", self.vae.load_state_dict), ("adam.", self.adam.load_state)):
            load({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
        self._loss_sum.copy_(tensors["loss_sum"])
        self.step = int(values["step"])
        self.failed = {int(m): (str(reason), int(epoch)) for m, (reason, epoch) in values["failed"].items()}
        for member in self.failed:
            self._alive[member] = False
