import math

import pytest
import torch
import torch.nn.functional as F

from vaegen_ray.models.vae import MIN_STD, VAE, Posterior
from vaegen_ray.spec.trial import TrialSpec


def test_rate_equals_the_divergence_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(2, 5, 7, generator=generator) * 3
    std = torch.rand(2, 5, 7, generator=generator) * 2 + 1e-3
    prior = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(mean, std), prior).sum(-1)
    torch.testing.assert_close(Posterior(mean, std).rate(), expected, rtol=1e-5, atol=1e-5)


def test_rate_is_zero_where_the_posterior_is_the_prior():
    assert Posterior(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)).rate().tolist() == [[0.0, 0.0]]


def test_sample_is_reparameterised():
    mean, std, noise = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[0.5, 3.0]]]), torch.tensor([[[2.0, -1.0]]])
    assert Posterior(mean, std).sample(noise).tolist() == [[[2.0, -5.0]]]


@pytest.mark.parametrize(("scale", "function"), [("softplus", F.softplus), ("log_std", torch.exp)])
def test_posterior_scale(scale, function):
    spec = TrialSpec(nc=8, mz=2, posterior_scale=scale)
    vae = VAE([spec])
    x = torch.rand(1, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    h = vae.encoder(x)
    posterior = vae.encode(x)
    assert torch.equal(posterior.mean, h[..., :4])
    torch.testing.assert_close(posterior.std, function(h[..., 4:]))


@pytest.mark.parametrize("scale", ["softplus", "log_std"])
def test_a_vanishing_standard_deviation_has_a_finite_rate(scale):
    vae = VAE([TrialSpec(nc=8, posterior_scale=scale)])
    with torch.no_grad():
        vae.encoder.layers["posterior"].bias.fill_(-1e4)
    posterior = vae.encode(torch.zeros(1, 2, 1, 8, 8))
    assert (posterior.std == MIN_STD).all()
    assert torch.isfinite(posterior.rate()).all()


def test_rate_and_distortion_put_the_parts_together():
    vae = VAE([TrialSpec(nc=8), TrialSpec(nc=8, seed=1)])
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(2, 3, 1, 8, 8, generator=generator) > 0.5).float()
    noise = torch.randn(2, 3, 2, generator=generator)
    rate, distortion = vae.rate_and_distortion(x, noise)
    posterior = vae.encode(x)
    logits = vae.decode(posterior.mean + posterior.std * noise)
    expected = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((2, 3, 4))
    torch.testing.assert_close(distortion, expected)
    torch.testing.assert_close(rate, posterior.rate())


def test_an_untrained_bernoulli_vae_is_near_a_coin_a_pixel():
    vae = VAE([TrialSpec(nc=8)])
    _, distortion = vae.rate_and_distortion(torch.ones(1, 4, 1, 8, 8), torch.zeros(1, 4, 2))
    assert distortion.mean().item() == pytest.approx(64 * math.log(2), rel=0.1)
