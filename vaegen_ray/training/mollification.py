"""Aug.Mollify: noise that fades."""

import torch
from torch import Tensor

from vaegen_ray.seeds import stream_seed
from vaegen_ray.training.sources import Source


class Mollified:
    """Aug.Mollify (Tran et al. 2023; xiao2024, Appendix B.6): Gaussian noise whose variance falls evenly from
    ``std``^2 to zero over the first half of the training; then the images as they are.

    The noisy intensities are rounded to the grey levels of the images and cut at black and white, so that a discrete
    likelihood stays one; the pixels of binary images are thereby flipped at random.

    Args:
        base: the images.
        levels: their grey levels.
        std: standard deviation at the start, in units of the intensity range [0, 1].
        positions: length of the training.
        seed: seed of the trial, from which the noise is drawn, block by block.
    """

    BLOCK = 1000
    """Positions whose noise is drawn together."""

    def __init__(self, base: Source, *, levels: int, std: float, positions: int, seed: int) -> None:
        self._base = base
        self._levels = levels
        self._std = std
        self._half = positions / 2
        self._seed = seed

    def images(self, start: int, stop: int) -> Tensor:
        images = self._base.images(start, stop)
        if start >= self._half:
            return images
        noisy = images.clone()
        for block in range(start // self.BLOCK, (stop - 1) // self.BLOCK + 1):
            first = block * self.BLOCK
            if first >= self._half:
                break
            a, b = max(start, first), min(stop, first + self.BLOCK)
            generator = torch.Generator(images.device)
            generator.manual_seed(stream_seed(self._seed, "mollification", block))
            noise = torch.randn(self.BLOCK, *images.shape[1:], generator=generator, device=images.device)
            std = self.std_at(torch.arange(a, b, device=images.device))
            pixels = (
                images[a - start : b - start]
                + (self._levels - 1) * std.view(-1, 1, 1, 1) * noise[a - first : b - first]
            )
            noisy[a - start : b - start] = pixels.round_().clamp_(0, self._levels - 1).to(torch.uint8)
        return noisy

    def std_at(self, positions: Tensor) -> Tensor:
        """Standard deviation of the noise at positions."""
        return self._std * (1 - positions / self._half).clamp_min(0).sqrt()

    def held_out(self, count: int) -> Tensor | None:
        """Images without noise, as they are in the second half."""
        return self._base.held_out(count)
