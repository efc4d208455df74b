"""Likelihoods p(x|z) of images, every normalising constant kept; log-probabilities are in nats an image.

Letters: ... any leading dimensions (members, batch), C colours, K channels of the decoder, H and W pixels, L grey
levels.
A likelihood has two parts: ``scale`` turns pixel values 0 .. L-1 into the numbers that the encoder reads and that
``log_prob`` expects, and ``log_prob`` sums over all pixels of an image.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vaegen_ray.trial import TrialSpec


@dataclass(frozen=True, kw_only=True)
class Bernoulli:
    """x in [0, 1]; the decoder gives logits. For binary x a probability; for grey x in between, the cross-entropy that
    bozkurt2021 trains with (not a normalised density)."""

    levels: int

    def scale(self, pixels: Tensor) -> Tensor:
        return pixels.float() / (self.levels - 1)

    def log_prob(self, logits: Tensor, x: Tensor) -> Tensor:
        """sum_d x_d log p_d + (1 - x_d) log(1 - p_d): [..., C, H, W] twice -> [...]."""
        return (x * logits - F.softplus(logits)).flatten(-3).sum(-1)


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """x in [0, 1]; the decoder gives the mean, the standard deviation ``sigma`` is fixed. A density."""

    levels: int
    sigma: float

    def scale(self, pixels: Tensor) -> Tensor:
        return pixels.float() / (self.levels - 1)

    def log_prob(self, mean: Tensor, x: Tensor) -> Tensor:
        """sum_d log N(x_d; mean_d, sigma^2): [..., C, H, W] twice -> [...]."""
        constant = math.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        squares = ((x - mean) / self.sigma).square().flatten(-3)
        return -0.5 * squares.sum(-1) - squares.shape[-1] * constant


MIN_LOG_SCALE = -7.0
"""Lower clamp of the log-scales of logistics (Salimans et al. 2017)."""


def discretised_logistic(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log of the mass that a logistic distribution puts on the bin of x; element by element.

    x lies on the ``levels`` values from -1 to 1; bins are 2/(L-1) wide, and the first and last take the tails
    (Salimans et al. 2017, section 2.1). With a and b the bin's ends in units of the scale,
    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which has no cancellation.
    """
    half_bin = 1 / (levels - 1)
    precision = torch.exp(-log_scale.clamp_min(MIN_LOG_SCALE))
    a = precision * (x - mean + half_bin)
    b = precision * (x - mean - half_bin)
    below_top = (x < 1 - half_bin).to(a.dtype)
    above_bottom = (x > -1 + half_bin).to(a.dtype)
    width = torch.log(-torch.expm1(-2 * half_bin * precision))
    return below_top * F.logsigmoid(a) + above_bottom * F.logsigmoid(-b) + below_top * above_bottom * width


def _scale_to_unit_ball(pixels: Tensor, levels: int) -> Tensor:
    return pixels.float() * (2 / (levels - 1)) - 1


@dataclass(frozen=True, kw_only=True)
class DiscretisedLogistic:
    """Grey images, x in [-1, 1]; the decoder gives a mean and a log-scale for each pixel (zhang2021). Probabilities."""

    levels: int

    def scale(self, pixels: Tensor) -> Tensor:
        return _scale_to_unit_ball(pixels, self.levels)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """params [..., 2, H, W] (mean, log-scale), x [..., 1, H, W] -> [...]."""
        mean, log_scale = params.chunk(2, dim=-3)
        return discretised_logistic(x, mean, log_scale, self.levels).flatten(-3).sum(-1)


@dataclass(frozen=True, kw_only=True)
class DiscretisedLogisticMixture:
    """Discretised mixture of logistics (Salimans et al. 2017, section 2), x in [-1, 1]. Probabilities.

    One mixture component is chosen for a whole pixel; green's mean is shifted by red, and blue's by red and green, with
    coefficients in (-1, 1). Grey images have no coefficients.
    """

    levels: int
    components: int

    def scale(self, pixels: Tensor) -> Tensor:
        return _scale_to_unit_ball(pixels, self.levels)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """params [..., K, H, W], x [..., C, H, W] -> [...]; K = components * (1 + 2C [+ 3 for colour])."""
        n, colours = self.components, x.shape[-3]
        sizes = [n, n * colours, n * colours] + ([n * 3] if colours == 3 else [])
        logits, *rest = params.split(sizes, dim=-3)
        means, log_scales, *coefficients = (part.unflatten(-3, (n, -1)) for part in rest)  # [..., n, C, H, W]
        x = x.unsqueeze(-4)  # [..., 1, C, H, W]
        if colours == 3:
            c = torch.tanh(coefficients[0])
            red, green = x[..., 0, :, :], x[..., 1, :, :]
            means = torch.stack(
                (
                    means[..., 0, :, :],
                    means[..., 1, :, :] + c[..., 0, :, :] * red,
                    means[..., 2, :, :] + c[..., 1, :, :] * red + c[..., 2, :, :] * green,
                ),
                dim=-3,
            )
        by_component = discretised_logistic(x, means, log_scales, self.levels).sum(-3)  # [..., n, H, W]
        mixed = torch.logsumexp(by_component + F.log_softmax(logits, dim=-3), dim=-3)
        return mixed.flatten(-2).sum(-1)


Likelihood = Bernoulli | Gaussian | DiscretisedLogistic | DiscretisedLogisticMixture


def likelihood_of(spec: TrialSpec) -> Likelihood:
    """The likelihood that a trial names, with its options."""
    if spec.likelihood == "bernoulli":
        return Bernoulli(levels=spec.levels)
    if spec.likelihood == "gaussian":
        return Gaussian(levels=spec.levels, sigma=spec.sigma)
    if spec.likelihood == "logistic":
        return DiscretisedLogistic(levels=spec.levels)
    return DiscretisedLogisticMixture(levels=spec.levels, components=spec.mixture_components)
