"""The variational autoencoder, M members at once: posterior, rate and distortion for each image.

Letters: M members, B batch, C colours, H and W pixels, Z latent dimensions, K likelihood channels.

    ELBO(x) = E_q(z|x) [log p(x|z)] - KL(q(z|x) || p(z)) = -distortion - rate    (xiao2024, Eq. 2; bozkurt2021, Eq. 6)

with a standard normal prior p(z) and a factorised Gaussian q(z|x). Rate and distortion are in nats an image.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaegen_ray.models.likelihoods import build_likelihood
from vaegen_ray.models.networks import ConvolutionalNetwork, build_networks
from vaegen_ray.spec.trial import TrialSpec

MIN_STD = 1e-6
"""Lower clamp of the posterior's standard deviation, far below what training reaches; keeps its logarithm finite."""


class Posterior(NamedTuple):
    """q(z|x) = N(mean, std^2), factorised; both [M, B, Z]."""

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """z = mean + std * noise, the reparameterised sample; noise [M, B, Z] standard normal."""
        return torch.addcmul(self.mean, self.std, noise)

    def rate(self) -> Tensor:
        """KL(q(z|x) || N(0, I)) in closed form, nats: [M, B]."""
        terms = self.mean.square() + self.std.square() - 2 * self.std.log() - 1
        return 0.5 * terms.sum(-1)


class VAE(nn.Module):
    """M VAEs of one shape, each with its own weights, seed and beta.

    Args:
        specs: the members; all of one ``shape_key``.
        loop_over_members: run convolutions member by member, not as one grouped convolution.
    """

    def __init__(self, specs: list[TrialSpec], *, loop_over_members: bool = True) -> None:
        super().__init__()
        assert len({spec.shape_key for spec in specs}) == 1, "members of a bundle have one shape"
        self.spec = specs[0]
        self.members = len(specs)
        self.likelihood = build_likelihood(self.spec)
        self.encoder, self.decoder = build_networks(specs)
        for network in (self.encoder, self.decoder):
            if isinstance(network, ConvolutionalNetwork):
                network.loop_over_members = loop_over_members

    def encode(self, x: Tensor) -> Posterior:
        """[M, B, C, H, W], scaled as the likelihood says -> q(z|x)."""
        return self.posterior(self.encoder(x).float())

    def posterior(self, parameters: Tensor) -> Posterior:
        """What the encoder puts out, [M, B, 2Z] (means, then the numbers that standard deviations are made of), as
        q(z|x)."""
        mean, h = parameters.chunk(2, dim=-1)
        std = F.softplus(h) if self.spec.posterior_scale == "softplus" else h.exp()
        return Posterior(mean, std.clamp_min(MIN_STD))

    def decode(self, z: Tensor) -> Tensor:
        """[M, B, Z] -> parameters of p(x|z), [M, B, K, H, W]."""
        return self.decoder(z).float()

    def rate_and_distortion(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Rate and one-sample distortion -log p(x|z) of each image, nats: two [M, B].

        Args:
            x: images [M, B, C, H, W], scaled as the likelihood says.
            noise: standard normal [M, B, Z].
        """
        posterior = self.encode(x)
        distortion = -self.likelihood.log_prob(self.decode(posterior.sample(noise)), x)
        return posterior.rate(), distortion
