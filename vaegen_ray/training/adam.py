"""Adam (Kingma & Ba, 2015) over all members at once: one fused kernel a step.

The arithmetic is to the bit that of ``torch.optim.Adam(fused=True)``, without its bookkeeping in Python (0.3 ms a step,
as long as the rest of a small bundle's step) and without the compiler that its constructor imports (1 s a process).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Adam:
    """Minimises a sum of losses; every member's weights see the gradient of its own loss alone.

    Args:
        parameters: (name, parameter) pairs, as ``named_parameters`` gives them.
        learning_rate: the step size.
        by_member: hand every member's part of a parameter to the kernel by itself. The kernel rounds an element by
            where it lies, so only then is a member's step the same to the bit alone and among others.

    Attributes:
        learning_rate: the step size, which may change between steps.
        moments: for each parameter its running means of the gradient and of its square.
    """

    BETAS = (0.9, 0.999)
    EPS = 1e-8

    def __init__(
        self, parameters: Iterable[tuple[str, nn.Parameter]], learning_rate: float, *, by_member: bool = False
    ) -> None:
        self._parameters = dict(parameters)
        self._by_member = by_member
        self.learning_rate = learning_rate
        self.moments = {
            name: (torch.zeros_like(parameter), torch.zeros_like(parameter))
            for name, parameter in self._parameters.items()
        }
        device = next(iter(self._parameters.values())).device
        self._steps = torch.zeros((), device=device)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter by its gradient; those that require none stay."""
        moving = {name: parameter for name, parameter in self._parameters.items() if parameter.requires_grad}
        parameters: list[Tensor] = list(moving.values())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        assert len(gradients) == len(parameters), "every parameter takes part in the loss"
        means, squares = zip(*(self.moments[name] for name in moving), strict=True)
        self._steps += 1
        parts = self._parts(parameters)
        torch._fused_adam_(
            parts,
            self._parts(gradients),
            self._parts(means),
            self._parts(squares),
            [],
            [self._steps] * len(parts),
            lr=self.learning_rate,
            beta1=self.BETAS[0],
            beta2=self.BETAS[1],
            weight_decay=0.0,
            eps=self.EPS,
            amsgrad=False,
            maximize=False,
        )

    def _parts(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        if not self._by_member:
            return list(tensors)
        return [part for tensor in tensors for part in tensor.unbind(0)]

    def state(self) -> dict[str, Tensor]:
        """The moments and the number of steps, by name."""
        named = {"steps": self._steps}
        for name, (mean, square) in self.moments.items():
            named |= {f"mean.{name}": mean, f"square.{name}": square}
        return named

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
