"""What a training step minimises, for each member of a bundle: D + beta R, or D + beta times one of the parts of R.

    R = I_q[x; z] + KL(q(z) || p(z))                                               (bozkurt2021, Eq. 5)

Both parts need q(z) = 1/N sum_n q(z|x_n) over D_train, of which a step sees the B images of its batch. So an image
counts for itself, once in N, and the others of the batch stand for all the rest (Esmaeili et al. 2019):

    q^(z_i) = 1/N q(z_i|x_i) + (N - 1) / (N (B - 1)) sum_{j != i} q(z_i|x_j)
    I^  = mean_i [log q(z_i|x_i) - log q^(z_i)]                                    and
    KL^ = mean_i [log q^(z_i) - log p(z_i)],     with z_i ~ q(z|x_i)

At B = N this q^ is q(z) itself. For less it is right in the mean over batches and its logarithm too small
(Jensen), hence I^ too large in the mean. But I^ <= ln N for any batch and any codes, as for I itself, since

    I^ = ln N - mean_i overlap_i,     overlap_i = ln [1 + (N - 1) / (B - 1) sum_{j != i} q(z_i|x_j) / q(z_i|x_i)] >= 0,

which is how it is computed, so that rounding cannot exceed the bound. (The plain mean over a batch ends at ln B.)

Letters: M members, B batch, R codes, Z latent dimensions, N images of D_train. Everything is in nats.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaegen_ray.models.vae import VAE, Posterior
from vaegen_ray.spec.trial import TrialSpec

Objective = Callable[[VAE, Tensor, Tensor, Tensor], Tensor]
"""(VAE of M members, images [M, B, C, H, W], noise [M, B, Z], beta [M]) -> what is minimised, [M]."""


def negative_beta_elbo(vae: VAE, x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
    """D + beta R in the mean over the batch, nats an image: [M] (bozkurt2021, Eq. 6; at beta = 1 xiao2024, Eq. 7).

    Args:
        vae: the M members.
        x: images [M, B, C, H, W], scaled as the likelihood says.
        noise: standard normal [M, B, Z], one reparameterised sample an image.
        beta: weights of the rate, [M].
    """
    rate, distortion = vae.rate_and_distortion(x, noise)
    return distortion.mean(1) + beta * rate.mean(1)


def build_objective(spec: TrialSpec) -> Objective:
    """What a trial minimises, by its ``regulariser``: D + beta R, D + beta I^ (the marginal KL is removed from the
    rate) or D + beta KL^ (the mutual information is removed), with N = ``n_train`` (bozkurt2021, Section 4.5).

    Distortion and regulariser see the same codes, and gradients go through all of it.
    """
    if spec.regulariser == "rate":
        return negative_beta_elbo
    part = mutual_information if spec.regulariser == "mutual_information" else marginal_kl

    def objective(vae: VAE, x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
        posterior = vae.encode(x)
        z = posterior.sample(noise)
        distortion = -vae.likelihood.log_prob(vae.decode(z), x)
        return distortion.mean(1) + beta * part(z, posterior, spec.n_train).to(distortion.dtype)

    return objective


def mutual_information(z: Tensor, posterior: Posterior, total: int) -> Tensor:
    """I^ of a batch of codes and the posteriors that they are from, [..., B, Z] -> float64 [...]; N is ``total``."""
    return math.log(total) - overlap(log_densities(z, posterior), total).mean(-1)


def marginal_kl(z: Tensor, posterior: Posterior, total: int) -> Tensor:
    """KL^ of a batch of codes and the posteriors that they are from, [..., B, Z] -> float64 [...]; N is ``total``."""
    pairs = log_densities(z, posterior)
    log_q = pairs.diagonal(0, -2, -1) - math.log(total) + overlap(pairs, total)
    log_p = -0.5 * (z.double().square() + math.log(2 * math.pi)).sum(-1)
    return (log_q - log_p).mean(-1)


def log_densities(z: Tensor, posterior: Posterior) -> Tensor:
    """log q(z_i|x_j) of every code under every posterior: [..., R, Z] and [..., B, Z] -> float64 [..., R, B].

    A product of matrices, since log q is linear in (z^2, z). The terms are as large as (z / std)^2 and cancel: at a
    deviation of 1e-3 the rounding of float32 is tenths of a nat, that of float64 below 1e-8.
    """
    z, mean, std = z.double(), posterior.mean.double(), posterior.std.double()
    precision = std.square().reciprocal()
    squares = 0.5 * (mean.square() * precision).sum(-1)
    constant = squares + (std.log() + 0.5 * math.log(2 * math.pi)).sum(-1)  # [..., B]
    codes = torch.cat((-0.5 * z.square(), z), dim=-1)  # [..., R, 2Z]
    return codes @ torch.cat((precision, mean * precision), dim=-1).mT - constant.unsqueeze(-2)


def overlap(pairs: Tensor, total: int, first: int = 0) -> Tensor:
    """ln [N q^(z_i) / q(z_i|x_i)], never negative: 0 where no other image's posterior reaches z_i, ln N where the
    others are as dense there as its own.

    Args:
        pairs: log q(z_i|x_j), [..., R, B], for the batch's B posteriors and for R of its codes.
        total: N, at least B; B is at least 2.
        first: the number of the first of these codes in the batch.
    """
    own = pairs.diagonal(first, -2, -1)  # [..., R]
    others = math.log((total - 1) / (pairs.shape[-1] - 1))
    ratios = pairs - (own - others).unsqueeze(-1)
    return ratios.diagonal_scatter(torch.zeros_like(own), first, -2, -1).logsumexp(-1)
