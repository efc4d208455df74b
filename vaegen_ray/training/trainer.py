"""The training loop: M VAEs, one optimiser step at a time. There is no other loop.

    for each step:            batch -> objective [M] -> sum -> backward -> Adam      (batches, objectives, adam)
    at each epoch's end:      a member whose loss was not finite fails, the others go on
    after half of the epochs: for Reverse Half Asleep the decoder is frozen, and its samples come into the batches

Letters: M members, B batch, Z latent dimensions. The state of a training is its tensors and the number of its step.
"""

import torch
from torch import Tensor

from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.adam import Adam
from vaegen_ray.training.batches import Batches
from vaegen_ray.training.build_sources import build_source
from vaegen_ray.training.numerics import arithmetic
from vaegen_ray.training.objectives import Objective, build_objective
from vaegen_ray.training.reverse_half_asleep import DecoderSamples
from vaegen_ray.training.sources import OpenStream


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
        failed: for each failed member its reason and the effective epoch at whose end it failed.
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
        self._batches = Batches(specs, self.sources, self.device)
        self._decoder_samples = DecoderSamples(specs, self.device)
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
    def decoder_frozen(self) -> bool:
        """The decoder is not trained any more (Reverse Half Asleep)."""
        return self._freeze_step is not None and self.step >= self._freeze_step

    def train(self, until: int) -> None:
        """Trains to step ``until``, at most ``spec.steps``."""
        assert until <= self.spec.steps, (until, self.spec.steps)
        self._set_modes()
        with arithmetic(self.spec.precision, self.device):
            while self.step < until and self.alive:
                epoch_end = self.spec.steps_until(self.epoch + 1)
                for images, noise in self._batches.read(self.step, min(until, epoch_end)):
                    if self.decoder_frozen:
                        images = self._decoder_samples.replace(self.vae, images, self.step)
                    self._update(images, noise)
                    self.step += 1
                self._set_modes()  # the decoder is frozen at the end of an epoch
                if self.step == epoch_end:
                    self._close_epoch()
        if not self.alive:
            self.step = until

    def _set_modes(self) -> None:
        self.vae.train()
        self.vae.decoder.train(not self.decoder_frozen)
        self.vae.decoder.requires_grad_(not self.decoder_frozen)

    def _update(self, images: Tensor, noise: Tensor) -> None:
        loss = self._objective(self.vae, self.vae.likelihood.scale(images), noise, self._beta)
        if self.failed:
            loss = torch.where(self._alive, loss, 0.0)
        self.adam.zero_grad()
        loss.sum().backward()
        self.adam.step()
        self._loss_sum += loss.detach()

    def _close_epoch(self) -> None:
        finite = torch.isfinite(self._loss_sum).tolist()
        for member in self.alive:
            if not finite[member]:
                self.fail_member(member, "the training loss is not finite")
        self._loss_sum.zero_()

    def fail_member(self, member: int, reason: str) -> None:
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
