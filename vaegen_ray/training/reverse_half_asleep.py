"""Reverse Half Asleep (Zhang et al. 2022; xiao2024, Figure 5): the encoder learns from samples of its own decoder.

Half-way the decoder is frozen, as it computes in evaluation. From then on a fixed part of every batch is replaced by
samples x ~ p(x|z), with z from the prior or from q(z|x) of the images that they replace, and the encoder alone is
trained on the mixture.
"""

import torch
from torch import Tensor

from vaegen_ray.models.vae import VAE
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.trial import TrialSpec

BLOCK_NUMBERS = 2**22
"""Most random numbers that a member draws at once."""
SMALLEST = 2.0**-25
"""Uniform random numbers are at least this, so that their logarithms are finite."""


class DecoderSamples:
    """The samples of M VAEs in their batches.

    What stands in a batch depends on the weights, on the step and on the member's seed alone.

    Args:
        specs: the members.
        device: where they are trained.
    """

    def __init__(self, specs: list[TrialSpec], device: torch.device) -> None:
        spec = specs[0]
        self._specs = specs
        self._device = device
        self._count = spec.decoder_samples
        _, height, width = spec.image_shape
        self._grid = (height, width)
        self._block = -1

    def replace(self, vae: VAE, pixels: Tensor, step: int) -> Tensor:
        """A batch uint8 [M, B, C, H, W] whose first images are samples of the members.

        Args:
            vae: the members; the decoder computes as in evaluation.
            pixels: what the batch would be otherwise.
            step: the optimiser step.
        """
        normal, uniform = self._numbers(vae, step)
        with torch.no_grad():
            if self._specs[0].asleep_samples == "prior":
                z = normal
            else:
                vae.encoder.eval()  # making samples leaves no trace in the statistics of BatchNorm
                z = vae.encode(vae.likelihood.scale(pixels[:, : self._count])).sample(normal)
                vae.encoder.train()
            samples = vae.likelihood.sample(vae.decode(z), uniform)
        return torch.cat((samples, pixels[:, self._count :]), dim=1)

    def _numbers(self, vae: VAE, step: int) -> tuple[Tensor, Tensor]:
        """Standard normal [M, n, Z] and uniform [M, n, draws, H, W] of a step; drawn in blocks of steps."""
        spec, n = self._specs[0], self._count
        shape = (vae.likelihood.draws(spec.image_shape[0]), *self._grid)
        steps = max(1, BLOCK_NUMBERS // (n * (shape[0] * shape[1] * shape[2] + spec.latent_dim)))
        if (block := step // steps) != self._block:
            drawn = [self._draw(each, block, steps * n, shape) for each in self._specs]
            self._normal, self._uniform = (torch.stack(part) for part in zip(*drawn, strict=True))
            self._block = block
        first = step % steps * n
        return self._normal[:, first : first + n], self._uniform[:, first : first + n]

    def _draw(self, spec: TrialSpec, block: int, images: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        generator = torch.Generator(self._device).manual_seed(stream_seed(spec.seed, "asleep", block))
        normal = torch.randn(images, spec.latent_dim, generator=generator, device=self._device)
        uniform = torch.rand(images, *shape, generator=generator, device=self._device)
        return normal, uniform.clamp_min_(SMALLEST)
