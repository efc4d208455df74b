"""EDM: preconditioning, training loss and samplers of Karras et al. (2022), "Elucidating the Design Space of
Diffusion-Based Generative Models".

Letters: y a clean image, n ~ N(0, sigma^2 I) noise, x = y + n, D(x; sigma) the denoiser, F the raw network, B batch.
Images are float in [-1, 1], [B, C, H, W]; sigma is the noise's standard deviation in the same unit, [B].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.diffusion import Sampler

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""D(x; sigma): (x [B, C, H, W], sigma [B]) -> [B, C, H, W], an estimate of the clean image."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The distribution of noise levels in training, and the standard deviation of the data."""

    data_std: float = 0.5
    """sigma_data."""
    log_mean: float = -1.2
    """Mean of ln sigma."""
    log_std: float = 1.2
    """Standard deviation of ln sigma."""

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Noise levels for a training batch: ln sigma ~ N(log_mean, log_std^2); [count]."""
        normal = torch.randn(count, generator=generator, device=device)
        return (self.log_mean + self.log_std * normal).exp()

    def compute_weight(self, sigma: Tensor) -> Tensor:
        """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: all levels weigh the same in the loss."""
        return (sigma.square() + self.data_std**2) / (sigma * self.data_std).square()


class Preconditioned(nn.Module):
    """The denoiser that wraps a raw network (Karras et al. 2022, Eq. 7 and Table 1):

        D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)

    with coefficients that keep the inputs and targets of F at unit variance.

    Args:
        network: F, (x [B, C, H, W], c_noise [B]) -> [B, C, H, W].
        noise: gives sigma_data.
    """

    def __init__(self, network: nn.Module, noise: Noise) -> None:
        super().__init__()
        self.network = network
        self.noise = noise

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; sigma); x [B, C, H, W], sigma [B]."""
        s = sigma.view(-1, *[1] * (x.ndim - 1))
        total = s.square() + self.noise.data_std**2
        skip, out = self.noise.data_std**2 / total, s * self.noise.data_std / total.sqrt()
        return skip * x + out * self.network(x / total.sqrt(), sigma.log() / 4)


def compute_loss(denoiser: Denoiser, y: Tensor, sigma: Tensor, standard_noise: Tensor, noise: Noise) -> Tensor:
    """lambda(sigma) ||D(y + n; sigma) - y||^2, averaged over the dimensions of each image (Eq. 2 and 8): [B].

    Args:
        denoiser: D.
        y: clean images [B, C, H, W].
        sigma: noise levels [B].
        standard_noise: n / sigma, standard normal [B, C, H, W].
        noise: gives the weight.
    """
    n = sigma.view(-1, 1, 1, 1) * standard_noise
    squares = (denoiser(y + n, sigma) - y).square().flatten(1).mean(1)
    return noise.compute_weight(sigma) * squares


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    seeds: range | list[int],
    shape: tuple[int, int, int],
    settings: Sampler,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """One image for each seed, by Heun's second-order method (Algorithm 1; Algorithm 2 with churn).

    All random numbers of image i come from seed i, so it is the same image in any batch, up to rounding: the order of
    summation in matrix products depends on the batch size.

    Args:
        denoiser: D, trained on images in [-1, 1].
        seeds: a seed for each image.
        shape: channels, height, width.
        settings: steps, noise levels, churn.
        device: of the denoiser; noise is drawn on the CPU, so it does not depend on the device.

    Returns:
        float32 [len(seeds), C, H, W], about in [-1, 1].
    """
    generators = [torch.Generator().manual_seed(stream_seed(seed, "sample")) for seed in seeds]

    def standard_normal() -> Tensor:
        return torch.stack([torch.randn(shape, generator=each) for each in generators]).double().to(device)

    def slope(x: Tensor, t: float) -> Tensor:
        """dx/dt = (x - D(x; t)) / t, the probability flow (Eq. 3)."""
        sigma = torch.full((len(x),), t, device=x.device)
        return (x - denoiser(x.float(), sigma).double()) / t

    levels = settings.levels()
    x = standard_normal() * levels[0]
    for i, (t, t_next) in enumerate(pairwise(levels)):
        if settings.churns_at(t):
            higher = t * (1 + min(settings.churn / settings.steps, math.sqrt(2) - 1))
            x = x + math.sqrt(higher**2 - t**2) * settings.churn_noise * standard_normal()
            t = higher
        d = slope(x, t)
        step = t_next - t
        if i < settings.steps - 1:  # the mean of the slopes at both ends; at noise level 0 there is none
            d = (d + slope(x + step * d, t_next)) / 2
        x = x + step * d
    return x.float()
