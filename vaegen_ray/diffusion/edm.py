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

from vaegen_ray.errors import SpecError
from vaegen_ray.seeds import stream_seed

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""D(x; sigma): (x [B, C, H, W], sigma [B]) -> [B, C, H, W], an estimate of the clean image."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise levels of training, and the standard deviation of the data."""

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

    def weight(self, sigma: Tensor) -> Tensor:
        """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, which makes every level weigh alike."""
        return (sigma.square() + self.data_std**2) / (sigma * self.data_std).square()


class Preconditioned(nn.Module):
    """The denoiser made of a raw network (Karras et al. 2022, Eq. 7 and Table 1):

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


def loss(denoiser: Denoiser, y: Tensor, sigma: Tensor, standard_noise: Tensor, noise: Noise) -> Tensor:
    """lambda(sigma) ||D(y + n; sigma) - y||^2, the mean over the dimensions of each image: [B] (Eq. 2 and 8).

    Args:
        denoiser: D.
        y: clean images [B, C, H, W].
        sigma: noise levels [B].
        standard_noise: n / sigma, standard normal [B, C, H, W].
        noise: gives the weight.
    """
    n = sigma.view(-1, 1, 1, 1) * standard_noise
    squares = (denoiser(y + n, sigma) - y).square().flatten(1).mean(1)
    return noise.weight(sigma) * squares


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Settings of the sampler; what a sample is depends on them, on the weights and on its seed alone.

    The defaults are the paper's for CIFAR-10: deterministic, 18 steps, so 35 evaluations of the network an image.

    Raises:
        SpecError: a setting out of range.
    """

    steps: int = 18
    """N, at least 2."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    """How much shorter steps are at low noise."""
    churn: float = 0.0
    """S_churn: noise put back along the way; 0 is deterministic."""
    churn_min: float = 0.0
    """S_tmin: no churn below this noise level."""
    churn_max: float = math.inf
    """S_tmax: no churn above this noise level."""
    churn_noise: float = 1.0
    """S_noise: standard deviation of the noise put back."""

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 2:
            raise SpecError(f"steps of the sampler must be a whole number >= 2; got {self.steps!r}")
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise SpecError(f"noise levels must be 0 < sigma_min < sigma_max; got {self.sigma_min}, {self.sigma_max}")
        for name in ("rho", "churn_noise"):
            if not 0 < getattr(self, name) < math.inf:
                raise SpecError(f"{name} of the sampler must be a number > 0; got {getattr(self, name)!r}")
        if not 0 <= self.churn < math.inf:
            raise SpecError(f"churn of the sampler must be a number >= 0; got {self.churn!r}")

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for an image: two a step, one in the last."""
        return 2 * self.steps - 1

    def levels(self) -> Tensor:
        """t_0 = sigma_max > ... > t_{N-1} = sigma_min > t_N = 0 (Eq. 5); float64 [N + 1]."""
        ramp = torch.linspace(0, 1, self.steps, dtype=torch.float64)
        ends = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return torch.cat([(ends[0] + ramp * (ends[1] - ends[0])) ** self.rho, torch.zeros(1, dtype=torch.float64)])


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

    All randomness of image i comes from seed i, so it is the same image in any batch, up to the rounding of products
    whose order of summation depends on the batch's size.

    Args:
        denoiser: D, trained on images in [-1, 1].
        seeds: a seed for each image.
        shape: channels, height, width.
        settings: steps, noise levels, churn.
        device: where the denoiser is; noise is drawn on the CPU, so it does not depend on it.

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

    levels = settings.levels().tolist()
    x = standard_normal() * levels[0]
    for i, (t, t_next) in enumerate(pairwise(levels)):
        if settings.churn and settings.churn_min <= t <= settings.churn_max:
            higher = t * (1 + min(settings.churn / settings.steps, math.sqrt(2) - 1))
            x = x + math.sqrt(higher**2 - t**2) * settings.churn_noise * standard_normal()
            t = higher
        d = slope(x, t)
        step = t_next - t
        if i < settings.steps - 1:  # the mean of the slopes at both ends; at noise level 0 there is none
            d = (d + slope(x + step * d, t_next)) / 2
        x = x + step * d
    return x.float()
