"""Early stopping: the weights that are best on a validation part of the training set.

Members that stop early are trained to the end like the others, and at every evaluation their best weights so far stand
for them; that is what a user has who stops when the validation ELBO does not rise any more, with all the patience there
is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from vaegen_ray.models.vae import VAE
from vaegen_ray.trial import TrialSpec


class EarlyStopping:
    """The best weights of the members that stop early.

    Args:
        specs: the members of a bundle.

    Attributes:
        members: those that stop early.
        elbo: for each of them its best validation ELBO so far, nats an image.
        epoch: and the effective epoch that it belongs to; 0 before the first look.
    """

    def __init__(self, specs: list[TrialSpec]) -> None:
        self.members = [member for member, spec in enumerate(specs) if spec.recipe.early_stopping]
        self.elbo = dict.fromkeys(self.members, float("-inf"))
        self.epoch = dict.fromkeys(self.members, 0)
        self._weights: dict[str, Tensor] = {}

    def look(self, vae: VAE, elbo: list[float], epoch: int) -> None:
        """Keeps the weights of every member whose validation ELBO is better than ever.

        Args:
            vae: the members.
            elbo: the validation ELBO of each member of the bundle.
            epoch: complete effective epochs.
        """
        if self.members and not self._weights:
            self._weights = {name: tensor.detach().clone() for name, tensor in vae.state_dict().items()}
        for member in self.members:
            if elbo[member] > self.elbo[member]:
                self.elbo[member], self.epoch[member] = elbo[member], epoch
                for name, tensor in vae.state_dict().items():
                    self._weights[name][member] = tensor[member]

    @contextmanager
    def best(self, vae: VAE) -> Iterator[None]:
        """Inside, the best weights stand in the VAE; afterwards those of the training again."""
        kept = [member for member in self.members if self.epoch[member]]
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
        return {f"best.{name}": tensor for name, tensor in self._weights.items()}, {"looks": looks}

    def load_state(self, tensors: dict[str, Tensor], values: dict) -> None:
        """The inverse of ``state``."""
        self._weights = {n.removeprefix("best."): t.clone() for n, t in tensors.items() if n.startswith("best.")}
        for member, (elbo, epoch) in values["looks"].items():
            self.elbo[int(member)], self.epoch[int(member)] = float(elbo), int(epoch)
