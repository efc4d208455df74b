"""Samples and means of likelihoods, held against their own log-probabilities."""

import math

import pytest
import torch

from vaegen_ray.models.likelihoods import (
    Bernoulli,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    Gaussian,
)

LEVELS, DRAWN = 4, 200_000


def uniform(likelihood, colours: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(DRAWN, likelihood.draws(colours), 1, 1, generator=generator).clamp_min(2.0**-25)


def parameters(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers).view(1, -1, 1, 1)


GREY = (0.5, -0.5, -0.6, 0.7, -1.5, -0.8)
COLOUR = (
    *(0.8, -0.2),  # logits of two components
    *(-0.6, 0.1, 0.4, 0.7, -0.3, 0.0),  # means of red, green, blue
    *(-1.2, -1.0, -0.9, -0.7, -1.4, -1.1),  # log-scales
    *(0.9, -0.8, 0.5, -1.2, 0.3, 0.6),  # coefficients
)
CASES = {
    "bernoulli": (Bernoulli(levels=2), 1, parameters(0.7)),
    "logistic": (DiscretisedLogistic(levels=LEVELS), 1, parameters(0.2, -1.0)),
    "sharp logistic": (DiscretisedLogistic(levels=LEVELS), 1, parameters(0.9, -3.0)),
    "mixture, grey": (DiscretisedLogisticMixture(levels=LEVELS, components=2), 1, parameters(*GREY)),
    "mixture, colour": (DiscretisedLogisticMixture(levels=3, components=2), 3, parameters(*COLOUR)),
}


@pytest.mark.parametrize("name", CASES)
def test_samples_come_as_often_as_their_probability_says(name):
    """Every image of one pixel: its share among many samples against exp log p."""
    likelihood, colours, params = CASES[name]
    samples = likelihood.sample(params.expand(DRAWN, -1, -1, -1), uniform(likelihood, colours))
    assert samples.shape == (DRAWN, colours, 1, 1) and samples.dtype == torch.uint8
    values = [torch.arange(likelihood.levels)] * colours
    images = torch.cartesian_prod(*values).view(-1, colours)
    codes = likelihood.levels ** torch.arange(colours)
    counts = torch.bincount((samples.flatten(1).long() * codes).sum(1), minlength=likelihood.levels**colours)
    expected = likelihood.log_prob(
        params.expand(len(images), -1, -1, -1), likelihood.scale(images.view(-1, colours, 1, 1))
    ).exp()
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    got = counts[(images * codes).sum(1)] / DRAWN
    assert (got - expected).abs().max() < 5 * 0.5 / math.sqrt(DRAWN)


def test_samples_of_the_gaussian_are_rounded_to_the_nearest_level():
    likelihood = Gaussian(levels=256, sigma=0.1)
    samples = likelihood.sample(torch.full((DRAWN, 1, 1, 1), 0.4), uniform(likelihood, 1)).double() / 255
    assert samples.mean() == pytest.approx(0.4, abs=0.002) and samples.std() == pytest.approx(0.1, rel=0.01)
    cut = likelihood.sample(torch.full((DRAWN, 1, 1, 1), 1.0), uniform(likelihood, 1))
    assert (cut == 255).double().mean() == pytest.approx(0.5 + 0.008, abs=0.005)  # above 1 - half a level


@pytest.mark.parametrize("name", ["bernoulli", "logistic", "mixture, grey", "mixture, colour"])
def test_the_mean_is_that_of_samples_where_nothing_is_cut(name):
    """With narrow scales and many levels, cutting and rounding move the mean by less than the tolerance."""
    likelihood, colours, params = CASES[name]
    if name != "bernoulli":
        likelihood = type(likelihood)(**{**vars(likelihood), "levels": 256})
        params = params.clone()
        n = getattr(likelihood, "components", 1)
        scales = slice(1, 2) if name == "logistic" else slice(n + n * colours, n + 2 * n * colours)
        params[:, scales] -= 3.0
        means = slice(0, 1) if name == "logistic" else slice(n, n + n * colours)
        params[:, means] *= 0.4
    samples = likelihood.sample(params.expand(DRAWN, -1, -1, -1), uniform(likelihood, colours))
    mean = likelihood.mean(params)
    assert mean.shape == (1, colours, 1, 1)
    assert (samples.double().mean(0) / (likelihood.levels - 1) - mean[0]).abs().max() < 0.004


@pytest.mark.parametrize("name", CASES)
def test_intensities_are_scaled_as_pixels_are(name):
    likelihood, _, _ = CASES[name]
    pixels = torch.arange(likelihood.levels, dtype=torch.uint8)
    torch.testing.assert_close(likelihood.from_unit(pixels / (likelihood.levels - 1)), likelihood.scale(pixels))


def test_a_whole_image_is_sampled_pixel_by_pixel():
    """Members, images and pixels have their own numbers: a logit a pixel decides each of them."""
    logits = torch.where(torch.rand(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.5, -40.0, 40.0)
    middle = torch.full_like(logits, 0.5)
    assert torch.equal(Bernoulli(levels=2).sample(logits, middle), (logits > 0).to(torch.uint8))
