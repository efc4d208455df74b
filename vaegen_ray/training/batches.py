"""The batches of a training: images and noise of every member, step by step.

Letters: M members, B batch, Z latent dimensions. Both are gathered in blocks of steps; the noise of a block comes from
a random stream of its own (seed, name, block), so a training can stop and resume at any step.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.sources import Source

BLOCK_NOISE = 2**20
"""Most numbers of noise that a member draws at once."""
BLOCK_PIXELS = 2**22
"""Most pixels that a member gathers at once."""
BLOCK_IMAGES = 2**12
"""Most images that a member gathers at once, so that one that waits for samples can begin with few."""


def steps_per_block(spec: TrialSpec) -> int:
    """Steps whose noise is drawn together; depends on nothing that members of a bundle may differ in."""
    noise = BLOCK_NOISE // (spec.batch_size * spec.latent_dim)
    pixels = BLOCK_PIXELS // (spec.batch_size * spec.pixels)
    return max(1, min(noise, pixels))


class Batches:
    """The batches of M members.

    Args:
        specs: the members, all of one ``shape_key``.
        sources: the images of each member.
        device: where noise is drawn.
    """

    def __init__(self, specs: Sequence[TrialSpec], sources: Sequence[Source], device: torch.device) -> None:
        self._specs = specs
        self._sources = sources
        self._device = device
        self._spec = specs[0]
        noise_steps = steps_per_block(self._spec)
        self._noise = _Blocks(noise_steps, self._spec.steps)
        self._images = _Blocks(max(1, min(noise_steps, BLOCK_IMAGES // self._spec.batch_size)), self._spec.steps)

    def read(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images uint8 [M, B, C, H, W] and noise [M, B, Z] of the steps ``start .. stop - 1``."""
        for step in range(start, stop):
            if self._images.begin(step):
                self._images.hold(torch.stack([source.images(*self._positions()) for source in self._sources]))
            if self._noise.begin(step):
                self._noise.hold(torch.stack([self._draw_noise(spec) for spec in self._specs]))
            yield self._images.batch(step, self._spec.batch_size), self._noise.batch(step, self._spec.batch_size)

    def _positions(self) -> tuple[int, int]:
        return self._images.first * self._spec.batch_size, self._images.last * self._spec.batch_size

    def _draw_noise(self, spec: TrialSpec) -> Tensor:
        seed = stream_seed(spec.seed, "noise", self._noise.number)
        generator = torch.Generator(self._device).manual_seed(seed)
        count = (self._noise.last - self._noise.first) * spec.batch_size
        return torch.randn(count, spec.latent_dim, generator=generator, device=self._device)


class _Blocks:
    """A tensor [M, steps*B, ...] for the block of steps that is in use.

    Args:
        steps: steps of a block.
        end: steps of the training.
    """

    def __init__(self, steps: int, end: int) -> None:
        self._steps = steps
        self._end = end
        self.number = -1

    @property
    def first(self) -> int:
        """The first step of the block."""
        return self.number * self._steps

    @property
    def last(self) -> int:
        """The step behind the block."""
        return min(self.first + self._steps, self._end)

    def begin(self, step: int) -> bool:
        """Whether a step is in another block than the one before, which is then in use."""
        before, self.number = self.number, step // self._steps
        return before != self.number

    def hold(self, tensor: Tensor) -> None:
        """Keeps the tensor of the block."""
        self._tensor = tensor

    def batch(self, step: int, size: int) -> Tensor:
        """The part of a step: [M, size, ...]."""
        at = (step - self.first) * size
        return self._tensor[:, at : at + size]
