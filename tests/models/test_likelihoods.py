"""A discrete likelihood is a probability: it sums to one over all levels, whatever the decoder says."""

import math

import pytest
import torch

from vaegen_ray.models.likelihoods import (
    MIN_LOG_SCALE,
    Bernoulli,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    Gaussian,
    build_likelihood,
)
from vaegen_ray.spec.trial import TrialSpec

MEANS = (-1e4, -3.0, -1.0, -0.37, 0.0, 0.5, 1.0, 1.01, 40.0)
LOG_SCALES = (-1e4, -30.0, MIN_LOG_SCALE, -3.0, 0.0, 5.0, 30.0, 80.0)


def every_level(levels: int) -> torch.Tensor:
    """All values of one grey pixel as images: uint8 [L, 1, 1, 1]."""
    return torch.arange(levels, dtype=torch.uint8).view(-1, 1, 1, 1)


def every_colour(levels: int) -> torch.Tensor:
    """All triples of one pixel as images: uint8 [L^3, 3, 1, 1]."""
    values = torch.arange(levels, dtype=torch.uint8)
    return torch.cartesian_prod(values, values, values).view(-1, 3, 1, 1)


def mixture_params(n: int, colours: int, *, spread: float, log_scale: float, seed: int) -> torch.Tensor:
    """Random decoder outputs for one pixel, [K, 1, 1]: logits, means, log-scales about ``log_scale``, coefficients."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.randn(count, generator=generator) * spread  # noqa: E731
    parts = [draw(n), draw(n * colours), draw(n * colours) + log_scale]
    if colours == 3:
        parts.append(draw(n * 3))
    return torch.cat(parts).view(-1, 1, 1)


@pytest.mark.parametrize("levels", [3, 17, 256])
def test_logistic_sums_to_one(levels):
    likelihood = DiscretisedLogistic(levels=levels)
    x = likelihood.scale(every_level(levels))
    for mean in MEANS:
        for log_scale in LOG_SCALES:
            log_prob = likelihood.log_prob(torch.tensor([mean, log_scale]).view(2, 1, 1), x)
            assert log_prob.exp().sum().item() == pytest.approx(1, abs=2e-5), (mean, log_scale)
            assert (log_prob <= 1e-6).all()


def test_logistic_equals_the_difference_of_the_distribution_function():
    levels, mean, log_scale = 17, 0.21, -1.3
    likelihood = DiscretisedLogistic(levels=levels)
    ends = (torch.arange(levels + 1, dtype=torch.float64) - 0.5) * 2 / (levels - 1) - 1
    cdf = torch.sigmoid((ends - mean) / math.exp(log_scale))
    cdf[0], cdf[-1] = 0, 1
    got = likelihood.log_prob(torch.tensor([mean, log_scale]).view(2, 1, 1), likelihood.scale(every_level(levels)))
    torch.testing.assert_close(got.double(), cdf.diff().log(), rtol=1e-5, atol=1e-6)


def test_logistic_keeps_its_precision_far_in_the_tail():
    """At a distance d of the mean the log-probability falls as -d / scale; a difference of sigmoids would be log 0."""
    likelihood = DiscretisedLogistic(levels=256)
    x = likelihood.scale(torch.tensor([100, 101], dtype=torch.uint8).view(2, 1, 1, 1))
    low, high = likelihood.log_prob(torch.tensor([50.0, -4.0]).view(2, 1, 1), x).tolist()
    assert high - low == pytest.approx(2 / 255 * math.exp(4), rel=1e-2)
    assert low < -2000


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize(("spread", "log_scale"), [(1.0, -3.0), (1.0, 0.0), (10.0, -3.0), (1.0, -50.0), (3.0, 60.0)])
def test_grey_mixture_sums_to_one(levels, spread, log_scale):
    likelihood = DiscretisedLogisticMixture(levels=levels, components=4)
    x = likelihood.scale(every_level(levels))
    for seed in range(5):
        params = mixture_params(4, 1, spread=spread, log_scale=log_scale, seed=seed)
        assert likelihood.log_prob(params, x).exp().sum().item() == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("levels", [3, 5, 17])
@pytest.mark.parametrize(("spread", "log_scale"), [(1.0, -1.0), (5.0, -2.0), (1.0, -50.0), (3.0, 40.0)])
def test_colour_mixture_sums_to_one_over_all_triples(levels, spread, log_scale):
    likelihood = DiscretisedLogisticMixture(levels=levels, components=3)
    x = likelihood.scale(every_colour(levels))
    for seed in range(5):
        params = mixture_params(3, 3, spread=spread, log_scale=log_scale, seed=seed)
        params = params.expand(len(x), -1, -1, -1)
        assert likelihood.log_prob(params, x).exp().sum().item() == pytest.approx(1, abs=5e-5)


def test_colour_mixture_summed_over_256_blues_is_the_chance_of_red_and_green():
    """Components k: sum_blue p(r, g, b) = sum_k w_k p_k(r) p_k(g | r), taken from the grey likelihood."""
    levels, n, red, green = 256, 4, 90, 200
    params = mixture_params(n, 3, spread=0.5, log_scale=-2.0, seed=1)
    colour = DiscretisedLogisticMixture(levels=levels, components=n)
    pixels = torch.stack([torch.full((256,), red), torch.full((256,), green), torch.arange(256)], 1)
    x = colour.scale(pixels.to(torch.uint8).view(256, 3, 1, 1))
    summed = colour.log_prob(params.expand(256, -1, -1, -1), x).exp().sum().item()

    logits, means, log_scales, coefficients = params.flatten().split([n, 3 * n, 3 * n, 3 * n])
    means, log_scales, coefficients = (part.view(n, 3) for part in (means, log_scales, coefficients))
    grey = DiscretisedLogistic(levels=levels)
    expected = 0.0
    for k, weight in enumerate(logits.softmax(0)):
        r, g = x[0, 0].item(), x[0, 1].item()
        shifted = means[k, 1] + torch.tanh(coefficients[k, 0]) * r
        p = weight
        for value, mean, log_scale in ((r, means[k, 0], log_scales[k, 0]), (g, shifted, log_scales[k, 1])):
            p = p * grey.log_prob(torch.stack((mean, log_scale)).view(2, 1, 1), torch.full((1, 1, 1), value)).exp()
        expected += p.item()
    assert summed == pytest.approx(expected, rel=1e-4)


def test_each_coefficient_of_the_colour_mixture_moves_the_colour_it_belongs_to():
    """c0: red -> green, c1: red -> blue, c2: green -> blue; with black, grey, white the means shift by -c, 0, c."""
    likelihood = DiscretisedLogisticMixture(levels=3, components=1)
    x = likelihood.scale(torch.tensor([2, 0, 2], dtype=torch.uint8).view(3, 1, 1))
    means, log_scales, c = (0.3, -0.2, 0.1), (-0.5, -1.0, -0.3), (0.4, -0.7, 0.9)
    t = [math.tanh(value) for value in c]
    params = torch.tensor([0.0, *means, *log_scales, *c]).view(-1, 1, 1)
    shifted = (means[0], means[1] + t[0] * 1, means[2] + t[1] * 1 + t[2] * -1)
    grey = DiscretisedLogistic(levels=3)
    expected = sum(
        grey.log_prob(torch.tensor([mean, log_scale]).view(2, 1, 1), value.view(1, 1, 1)).item()
        for mean, log_scale, value in zip(shifted, log_scales, x.flatten(), strict=True)
    )
    assert likelihood.log_prob(params, x).item() == pytest.approx(expected, rel=1e-5)


def test_a_mixture_of_one_component_is_the_logistic():
    x = DiscretisedLogistic(levels=17).scale(torch.randint(0, 17, (5, 1, 4, 4), dtype=torch.uint8))
    params = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    mixture = DiscretisedLogisticMixture(levels=17, components=1)
    with_logit = torch.cat((torch.full((5, 1, 4, 4), 3.0), params), dim=1)
    torch.testing.assert_close(
        mixture.log_prob(with_logit, x), DiscretisedLogistic(levels=17).log_prob(params, x), rtol=1e-5, atol=1e-5
    )


def test_bernoulli_sums_to_one():
    likelihood = Bernoulli(levels=2)
    x = likelihood.scale(every_level(2))
    for logit in (-1e4, -30.0, -1.0, 0.0, 0.3, 30.0, 1e4):
        assert likelihood.log_prob(torch.full((1, 1, 1), logit), x).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_bernoulli_equals_torch():
    logits = torch.randn(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 3
    x = (torch.rand(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(Bernoulli(levels=2).log_prob(logits, x), expected)


@pytest.mark.parametrize("sigma", [0.01, 0.03, 1.0, 20.0])
def test_gaussian_equals_torch_constants_included(sigma):
    mean = torch.randn(3, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x = torch.rand(3, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    expected = torch.distributions.Normal(mean.double(), sigma).log_prob(x.double()).sum((-3, -2, -1))
    got = Gaussian(levels=256, sigma=sigma).log_prob(mean, x)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-4)


ALL = [
    pytest.param(Bernoulli(levels=2), 1, 1, id="bernoulli"),
    pytest.param(Gaussian(levels=256, sigma=0.03), 3, 3, id="gaussian"),
    pytest.param(DiscretisedLogistic(levels=256), 1, 2, id="logistic"),
    pytest.param(DiscretisedLogistic(levels=3), 1, 2, id="logistic of 3 levels"),
    pytest.param(DiscretisedLogisticMixture(levels=256, components=2), 1, 6, id="grey mixture"),
    pytest.param(DiscretisedLogisticMixture(levels=256, components=2), 3, 20, id="colour mixture"),
]


@pytest.mark.parametrize(("likelihood", "colours", "channels"), ALL)
def test_value_and_gradient_are_finite_at_extreme_inputs(likelihood, colours, channels):
    pixels = torch.tensor([0, 1, likelihood.levels // 2, likelihood.levels - 1], dtype=torch.uint8)
    x = likelihood.scale(pixels.view(4, 1, 1, 1).expand(4, colours, 1, 1))
    generator = torch.Generator().manual_seed(0)
    for extreme in (0.0, 1e-30, 1.0, 10.0, 80.0):
        signs = torch.randint(-1, 2, (50, 1, channels, 1, 1), generator=generator)
        params = (signs * extreme).float().expand(-1, 4, -1, -1, -1).clone().requires_grad_()
        value = likelihood.log_prob(params, x)
        value.sum().backward()
        assert torch.isfinite(value).all() and torch.isfinite(params.grad).all(), extreme


@pytest.mark.parametrize(("likelihood", "colours", "channels"), ALL)
def test_the_gradient_of_every_parameter_is_that_of_finite_differences(likelihood, colours, channels):
    generator = torch.Generator().manual_seed(0)
    x = likelihood.scale(torch.randint(0, likelihood.levels, (1, colours, 1, 2), generator=generator)).double()
    params = torch.randn(1, channels, 1, 2, generator=generator, dtype=torch.float64)
    params.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: likelihood.log_prob(p, x), (params,), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("likelihood", "colours", "channels"), ALL)
def test_sums_over_pixels_and_keeps_leading_dimensions(likelihood, colours, channels):
    x = likelihood.scale(torch.randint(0, likelihood.levels, (2, 3, colours, 4, 5), dtype=torch.uint8))
    params = torch.randn(2, 3, channels, 4, 5, generator=torch.Generator().manual_seed(0))
    whole = likelihood.log_prob(params, x)
    assert whole.shape == (2, 3)
    by_pixel = sum(
        likelihood.log_prob(params[..., i : i + 1, j : j + 1], x[..., i : i + 1, j : j + 1])
        for i in range(4)
        for j in range(5)
    )
    torch.testing.assert_close(whole, by_pixel, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_scales_span_the_range(levels):
    ends = torch.tensor([0, levels - 1], dtype=torch.uint8)
    for likelihood in (Bernoulli(levels=levels), Gaussian(levels=levels, sigma=1.0)):
        assert likelihood.scale(ends).tolist() == [0, 1]
    assert DiscretisedLogistic(levels=levels).scale(ends).tolist() == [-1, 1]
    assert DiscretisedLogisticMixture(levels=levels, components=1).scale(ends).tolist() == [-1, 1]


def test_the_likelihood_of_a_trial_has_its_options():
    grey = {"levels": 17, "sigma": 0.5, "mixture_components": 3}
    assert build_likelihood(TrialSpec(likelihood="bernoulli", **grey)) == Bernoulli(levels=17)
    assert build_likelihood(TrialSpec(likelihood="gaussian", **grey)) == Gaussian(levels=17, sigma=0.5)
    assert build_likelihood(TrialSpec(likelihood="logistic", **grey)) == DiscretisedLogistic(levels=17)
    mixture = DiscretisedLogisticMixture(levels=17, components=3)
    assert build_likelihood(TrialSpec(likelihood="logistic_mixture", **grey)) == mixture
