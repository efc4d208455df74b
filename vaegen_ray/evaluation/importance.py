"""log p(x) by importance sampling, with the posterior as the proposal (Burda et al. 2016, IWAE):

    log p(x) >= E log 1/K sum_k p(x, z_k) / q(z_k|x),     z_k ~ q(z|x), nats an image, larger is better

At K = 1 the right side is the ELBO; it rises with K and tends to log p(x). bozkurt2021 (Section 2, and 4.4 on) compares
log p(x) of training and test images. For grey images under a Bernoulli likelihood p(x|z) is no normalised density, and
what is estimated is the logarithm of its mean over the prior.

With z = mean + std * noise, the 2 pi of prior and posterior cancel:

    log p(z) - log q(z|x) = sum_d [(noise_d^2 - z_d^2) / 2 + log std_d]

Letters: M members, N images, K samples, Z latent dimensions.
"""

import math

import torch
from torch import Tensor

from vaegen_ray.evaluation.elbo import CHUNK_BYTES
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.vae import VAE, Posterior
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic

LIKELIHOOD_TRAIN, LIKELIHOOD_TEST = 1, 2
"""Where the noise of a data set begins in the trial's stream ``information``; block b has the number 2 b + this."""
NOISE_BLOCK = 500
"""Images whose noise is drawn together, at most."""
NOISE_NUMBERS = 2**20
"""Numbers of noise that a member draws at once, at most, unless one image has more latent dimensions."""


@torch.no_grad()
def log_likelihood(vae: VAE, specs: list[TrialSpec], images: Tensor, samples: int, *, stream_index: int) -> Tensor:
    """The bound above in the mean over the images, nats an image: float64 [M].

    One sample at a time of as many images as memory allows; the sum over samples runs along as a log-sum-exp, so memory
    depends neither on K nor on N.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications, for the seeds.
        images: uint8 [N, C, H, W], on the members' device.
        samples: K.
        stream_index: ``LIKELIHOOD_TRAIN`` or ``LIKELIHOOD_TEST``; gives every data set its own noise.
    """
    vae.eval()
    spec, device = specs[0], images.device
    total = torch.zeros(len(specs), dtype=torch.float64, device=device)
    with arithmetic("float32", device):
        for block, pixels in enumerate(images.split(max(1, min(NOISE_BLOCK, NOISE_NUMBERS // spec.latent_dim)))):
            seeds = [stream_seed(each.seed, "information", 2 * block + stream_index) for each in specs]
            generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
            total += _bounds(vae, vae.likelihood.scale(pixels), samples, generators).sum(1)
    return total / len(images)


def _bounds(vae: VAE, x: Tensor, samples: int, generators: list[torch.Generator]) -> Tensor:
    """The bound of every image: [N, C, H, W] -> float64 [M, N]. Members draw from generators of their own."""
    members, count, device = len(generators), len(x), x.device
    size = max(1, CHUNK_BYTES // (members * activation_bytes(vae.spec)))
    chunks = [slice(start, start + size) for start in range(0, count, size)]
    x = x.expand(members, *x.shape)
    encoded = [vae.encode(x[:, chunk]) for chunk in chunks]
    posterior = Posterior(*(torch.cat(part, dim=1) for part in zip(*encoded, strict=True)))
    log_std = posterior.std.double().log().sum(-1)  # [M, N]
    total = torch.full_like(log_std, -math.inf)
    for _ in range(samples):
        drawn = [torch.randn(posterior.mean.shape[1:], generator=each, device=device) for each in generators]
        noise = torch.stack(drawn)
        z = posterior.sample(noise)
        parts = [vae.likelihood.log_prob(vae.decode(z[:, chunk]), x[:, chunk]) for chunk in chunks]
        prior_to_posterior = 0.5 * (noise.double().square() - z.double().square()).sum(-1) + log_std
        total = torch.logaddexp(total, torch.cat(parts, dim=1).double() + prior_to_posterior)
    return total - math.log(samples)
