"""Likelihoods p(x|z) of images, every normalising constant kept; log-probabilities are in nats an image.

Letters: ... any leading dimensions (members, batch), C colours, K channels of the decoder, H and W pixels, L grey
levels.
A likelihood has these parts: ``scale`` turns pixel values 0 .. L-1 into the numbers that the encoder reads and that
``log_prob`` expects, ``from_unit`` turns intensities in [0, 1] into the same; ``log_prob`` sums over all pixels of an
image; ``mean`` is the expected image in [0, 1]; ``sample`` draws pixel values from uniform numbers, ``draws`` of them a
pixel.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vaegen_ray.spec.trial import TrialSpec


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

    def from_unit(self, x: Tensor) -> Tensor:
        return x

    def mean(self, logits: Tensor) -> Tensor:
        """E[x] in [0, 1]: [..., C, H, W] -> [..., C, H, W]."""
        return torch.sigmoid(logits)

    def draws(self, colours: int) -> int:
        """Uniform numbers that ``sample`` needs for a pixel."""
        return colours

    def sample(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Pixel values, 0 or L - 1, uint8 [..., C, H, W]; uniform [..., C, H, W] in (0, 1)."""
        return (uniform < torch.sigmoid(logits)).to(torch.uint8) * (self.levels - 1)


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

    def from_unit(self, x: Tensor) -> Tensor:
        return x

    def mean(self, mean: Tensor) -> Tensor:
        """The mean, cut to [0, 1]: [..., C, H, W] -> [..., C, H, W]."""
        return mean.clamp(0, 1)

    def draws(self, colours: int) -> int:
        """Uniform numbers that ``sample`` needs for a pixel."""
        return colours

    def sample(self, mean: Tensor, uniform: Tensor) -> Tensor:
        """Pixel values nearest to the real numbers drawn, uint8 [..., C, H, W]; uniform [..., C, H, W] in (0, 1)."""
        normal = math.sqrt(2) * torch.erfinv(2 * uniform - 1)
        return _nearest(mean + self.sigma * normal, self.levels)


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


def _nearest(x: Tensor, levels: int) -> Tensor:
    """The pixel values nearest to intensities in [0, 1]; what lies outside is cut."""
    return (x.clamp(0, 1) * (levels - 1)).round_().to(torch.uint8)


def _logistic(mean: Tensor, log_scale: Tensor, uniform: Tensor) -> Tensor:
    """A logistic random number, by the inverse of its distribution function."""
    return mean + log_scale.clamp_min(MIN_LOG_SCALE).exp() * torch.logit(uniform)


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

    def from_unit(self, x: Tensor) -> Tensor:
        return 2 * x - 1

    def mean(self, params: Tensor) -> Tensor:
        """The mean of the logistic, cut to [0, 1]: [..., 2, H, W] -> [..., 1, H, W]."""
        return (0.5 + 0.5 * params.chunk(2, dim=-3)[0]).clamp(0, 1)

    def draws(self, colours: int) -> int:
        """Uniform numbers that ``sample`` needs for a pixel."""
        return colours

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Pixel values, uint8 [..., 1, H, W]; params [..., 2, H, W], uniform [..., 1, H, W] in (0, 1)."""
        mean, log_scale = params.chunk(2, dim=-3)
        return _nearest(0.5 + 0.5 * _logistic(mean, log_scale, uniform), self.levels)


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
        logits, means, log_scales, coefficients = self._parts(params, x.shape[-3])
        x = x.unsqueeze(-4)  # [..., 1, C, H, W]
        if coefficients is not None:
            means = self._given(means, coefficients, x[..., 0, :, :], x[..., 1, :, :])
        by_component = discretised_logistic(x, means, log_scales, self.levels).sum(-3)  # [..., n, H, W]
        mixed = torch.logsumexp(by_component + F.log_softmax(logits, dim=-3), dim=-3)
        return mixed.flatten(-2).sum(-1)

    def from_unit(self, x: Tensor) -> Tensor:
        return 2 * x - 1

    def mean(self, params: Tensor) -> Tensor:
        """The mean of the logistics before they are cut at black and white: [..., K, H, W] -> [..., C, H, W].

        Within a component E[green] is its mean plus c times E[red], and so on, since the shift is linear.
        """
        colours = 3 if params.shape[-3] == self.components * 10 else 1
        logits, means, _, coefficients = self._parts(params, colours)
        if coefficients is not None:
            red = means[..., 0, :, :]
            green = means[..., 1, :, :] + coefficients[..., 0, :, :] * red
            means = self._given(means, coefficients, red, green)
        weights = torch.softmax(logits, dim=-3).unsqueeze(-3)
        return (0.5 + 0.5 * (weights * means).sum(-4)).clamp(0, 1)

    def draws(self, colours: int) -> int:
        """Uniform numbers that ``sample`` needs for a pixel: one a component to choose one, one a colour."""
        return self.components + colours

    def sample(self, params: Tensor, uniform: Tensor) -> Tensor:
        """Pixel values, uint8 [..., C, H, W]; params [..., K, H, W], uniform [..., components + C, H, W] in (0, 1).

        The component by the largest logit plus Gumbel noise, then red, green given red, blue given both.
        """
        colours = uniform.shape[-3] - self.components
        logits, means, log_scales, coefficients = self._parts(params, colours)
        choose, draw = uniform.split([self.components, colours], dim=-3)
        gumbel = -torch.log(-torch.log(choose))
        chosen = (logits + gumbel).argmax(-3, keepdim=True).unsqueeze(-3)  # [..., 1, 1, H, W]

        def select_chosen(values: Tensor) -> Tensor:
            shape = (*values.shape[:-4], 1, *values.shape[-3:])
            return values.gather(-4, chosen.expand(shape)).squeeze(-4)  # [..., C, H, W]

        means, log_scales = select_chosen(means), select_chosen(log_scales)
        pixels: list[Tensor] = []
        for colour in range(colours):
            mean = means[..., colour, :, :]
            if coefficients is not None:
                c = select_chosen(coefficients)
                before = [_scale_to_unit_ball(pixel, self.levels) for pixel in pixels]
                mean = mean + sum(c[..., (colour - 1) * colour // 2 + i, :, :] * x for i, x in enumerate(before))
            x = _logistic(mean, log_scales[..., colour, :, :], draw[..., colour, :, :])
            pixels.append(_nearest(0.5 + 0.5 * x, self.levels))
        return torch.stack(pixels, dim=-3)

    def _parts(self, params: Tensor, colours: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Logits [..., n, H, W], means and log-scales [..., n, C, H, W], and coefficients [..., n, 3, H, W]."""
        n = self.components
        sizes = [n, n * colours, n * colours] + ([n * 3] if colours == 3 else [])
        logits, *rest = params.split(sizes, dim=-3)
        means, log_scales, *coefficients = (part.unflatten(-3, (n, -1)) for part in rest)
        return logits, means, log_scales, torch.tanh(coefficients[0]) if coefficients else None

    @staticmethod
    def _given(means: Tensor, coefficients: Tensor, red: Tensor, green: Tensor) -> Tensor:
        """Means [..., n, 3, H, W] shifted by red and green: green by red, blue by both."""
        shifted = (
            means[..., 0, :, :],
            means[..., 1, :, :] + coefficients[..., 0, :, :] * red,
            means[..., 2, :, :] + coefficients[..., 1, :, :] * red + coefficients[..., 2, :, :] * green,
        )
        return torch.stack(shifted, dim=-3)


Likelihood = Bernoulli | Gaussian | DiscretisedLogistic | DiscretisedLogisticMixture


def build_likelihood(spec: TrialSpec) -> Likelihood:
    """The likelihood that a trial names, with its options."""
    if spec.likelihood == "bernoulli":
        return Bernoulli(levels=spec.levels)
    if spec.likelihood == "gaussian":
        return Gaussian(levels=spec.levels, sigma=spec.sigma)
    if spec.likelihood == "logistic":
        return DiscretisedLogistic(levels=spec.levels)
    return DiscretisedLogisticMixture(levels=spec.levels, components=spec.mixture_components)
