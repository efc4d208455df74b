"""Early stopping: the weights that are best on a validation part of the training set.

The validation objective, -D - beta R in nats an image (the ELBO at beta = 1), is looked at ``LOOKS`` times in a
training, evenly spaced, whenever else the trial is evaluated. Members that stop early are trained to the end like the
others, and at every evaluation their best weights so far stand for them: what a user has who stops with patience
without end. D_train stays what it is for all methods, the validation part included, so about a tenth of the images of
``elbo_train`` was never trained on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec

LOOKS = 50
"""Looks at the validation part in a training, or one an epoch where there are fewer epochs."""


def find_validation_checks(epochs: int) -> tuple[int, ...]:
    """The effective epochs of the validation checks, the last one among them."""
    return tuple(sorted({-(-epochs * (i + 1) // LOOKS) for i in range(LOOKS)}))


class EarlyStopping:
    """The best weights of the members that stop early.

    Args:
        specs: the members of a bundle.
        device: where their weights are.

    Attributes:
        members: those that stop early.
        elbo: for each of them its best validation objective so far, nats an image.
        epoch: and the effective epoch that it belongs to; 0 before the first validation check.
        looked_until: effective epoch of the last validation check.
    """

    def __init__(self, specs: list[TrialSpec], device: torch.device | str = "cpu") -> None:
        self._device = device
        self._looks = find_validation_checks(specs[0].epochs)
        self.looked_until = 0
        self.members = [member for member, spec in enumerate(specs) if spec.recipe.early_stopping]
        self.elbo = dict.fromkeys(self.members, float("-inf"))
        self.epoch = dict.fromkeys(self.members, 0)
        self._weights: dict[str, Tensor] = {}

    @property
    def next_check(self) -> int | None:
        """The effective epoch of the next validation check; None without members or after the last."""
        return next((epoch for epoch in self._looks if epoch > self.looked_until), None) if self.members else None

    def check(self, vae: VAE, elbo: list[float], epoch: int) -> None:
        """Keeps the weights of every member whose validation objective is better than ever.

        Args:
            vae: the members.
            elbo: the validation objective of each member of the bundle.
            epoch: complete effective epochs.
        """
        self.looked_until = epoch
        if self.members and not self._weights:
            self._weights = {name: tensor.detach().clone() for name, tensor in vae.state_dict().items()}
        for member in self.members:
            if elbo[member] > self.elbo[member]:
                self.elbo[member], self.epoch[member] = elbo[member], epoch
                for name, tensor in vae.state_dict().items():
                    self._weights[name][member] = tensor[member]

    @contextmanager
    def best(self, vae: VAE, alive: Sequence[int]) -> Iterator[None]:
        """Inside, the best weights of members out of ``alive`` stand in the VAE; afterwards those of the training."""
        kept = [member for member in self.members if self.epoch[member] and member in alive]
        state = vae.state_dict()
        ours = {name: tensor[kept].clone() for name, tensor in state.items()} if kept else {}
        for name in ours:
            state[name][kept] = self._weights[name][kept]
        try:
            yield
        finally:
            for name, tensor in ours.items():
                state[name][kept] = tensor

    def row(self, member: int) -> dict[str, float]:
        """What a row of metrics says of a member; nothing of one that does not stop early."""
        if member not in self.members:
            return {}
        return {"elbo_validation": self.elbo[member], "best_epoch": self.epoch[member]}

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Tensors by name, and plain values."""
        looks = {str(member): [self.elbo[member], self.epoch[member]] for member in self.members}
        tensors = {f"best.{name}": tensor for name, tensor in self._weights.items()}
        return tensors, {"looks": looks, "looked_until": self.looked_until}

    def load_state(self, tensors: dict[str, Tensor], values: dict) -> None:
        """The inverse of ``state``."""
        self.looked_until = int(values["looked_until"])
        self._weights = {
            name.removeprefix("best."): tensor.to(self._device, copy=True)
            for name, tensor in tensors.items()
            if name.startswith("best.")
        }
        for member, (elbo, epoch) in values["looks"].items():
            self.elbo[int(member)], self.epoch[int(member)] = float(elbo), int(epoch)
