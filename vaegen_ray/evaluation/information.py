"""What codes hold of their images, and how far all codes together are from the prior.

    q(z) = 1/N sum_n q(z|x_n)                                 over training images x_1 .. x_N
    I_q[x; z] = mean_i [log q(z_i|x_i) - log q(z_i)],         z_i ~ q(z|x_i), one an image
    KL(q(z) || p(z)) = R - I_q[x; z],                         R the rate in closed form (bozkurt2021, Eq. 5)

in nats. The mixture is exact: all N posteriors are evaluated at all N codes, so I_q[x; z] <= ln N holds for every draw
of the codes. Beside it stands the estimate from minibatches that the paper draws (Section 4.5, Figure 8), weighted by
the size of the data set, in the same mean over all codes: see ``training.objectives``, which has the formula of both.
With one code an image, a part of the rate that is nothing may come out a little below zero.

Letters: M members, N images, Z latent dimensions.
"""

import math

import torch
from torch import Tensor

from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation import elbo
from vaegen_ray.evaluation.importance import LIKELIHOOD_TEST, LIKELIHOOD_TRAIN, log_likelihood
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.vae import VAE, Posterior
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.evaluation import Information
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic
from vaegen_ray.training.objectives import log_densities, overlap

CODES = 0
"""The number of the codes' noise in the trial's stream ``information``; log p(x) has the others."""
CHUNK_BYTES = 2**24
"""Memory of the log-densities of a chunk of codes under all posteriors; a few times that is in use."""


@torch.no_grad()
def information(
    vae: VAE, specs: list[TrialSpec], train: Tensor, test: Tensor, settings: Information
) -> list[dict[str, float]]:
    """I_q[x; z] and KL(q(z) || p(z)), by the exact mixture and from minibatches, and log p(x): a row a member.

    ``information_images`` is N. ``log_likelihood_train`` and ``log_likelihood_test`` are left out where there are no
    importance samples. A member whose posteriors are not finite has numbers that are not finite either.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications, for the seeds.
        train, test: uint8 [N, C, H, W], on the members' device.
        settings: how many images, and how large a minibatch.

    Raises:
        SpecError: there are fewer than two training images.
    """
    vae.eval()
    images = train[: settings.images]
    if len(images) < 2:
        raise SpecError(f"information needs at least 2 training images; got {len(images)}")
    with arithmetic("float32", train.device):
        posterior = _encode(vae, len(specs), images)
        rows = []
        for member, spec in enumerate(specs):
            own = Posterior(posterior.mean[member].double(), posterior.std[member].double())
            generator = torch.Generator(train.device).manual_seed(stream_seed(spec.seed, "information", CODES))
            noise = torch.randn(own.mean.shape, generator=generator, device=train.device)
            z, rate = own.sample(noise.double()), own.rate().mean().item()
            exact = mutual_information(z, own)
            minibatch = mutual_information(z, own, settings.minibatch)
            rows.append(
                {
                    "mutual_information": exact,
                    "marginal_kl": rate - exact,
                    "mutual_information_minibatch": minibatch,
                    "marginal_kl_minibatch": rate - minibatch,
                    "information_images": len(images),
                }
            )
    if settings.importance_samples:
        for name, data, index in (("train", train, LIKELIHOOD_TRAIN), ("test", test, LIKELIHOOD_TEST)):
            some = data[: settings.likelihood_images]
            values = log_likelihood(vae, specs, some, settings.importance_samples, stream_index=index)
            for row, value in zip(rows, values.tolist(), strict=True):
                row[f"log_likelihood_{name}"] = value
    return rows


def mutual_information(z: Tensor, posterior: Posterior, minibatch: int | None = None) -> float:
    """I_q[x; z] of one member, nats, from codes z [N, Z] of the posteriors of N images, in their order; at most ln N.

    Without ``minibatch`` q(z) is the exact mixture. With it the images are cut, in their order (that of D_train is
    shuffled), into batches of at most so many, and a code sees the posteriors of its own batch alone. Batches are
    equally large up to one image, and none has less than two.

    The exact mixture of 16,384 images in 10 dimensions took 2.3 to 2.9 s of one Xeon core at a deviation of 0.5, and
    6.8 s at 0.001; memory rose by 134 to 181 MiB at its peak (torch 2.14). All pairs at once would be 2 GiB.
    """
    count = len(z)
    batches = 1 if minibatch is None else min(-(-count // minibatch), count // 2)
    parts = (each.tensor_split(batches) for each in (z, posterior.mean, posterior.std))
    total = 0.0
    for codes, mean, std in zip(*parts, strict=True):
        rows = max(1, CHUNK_BYTES // (8 * len(codes)))
        for first in range(0, len(codes), rows):
            pairs = log_densities(codes[first : first + rows], Posterior(mean, std))
            total += overlap(pairs, count, first).sum().item()
    return math.log(count) - total / count


def _encode(vae: VAE, members: int, images: Tensor) -> Posterior:
    """q(z|x) of every image: [N, C, H, W] -> [M, N, Z]."""
    size = max(1, elbo.CHUNK_BYTES // (members * activation_bytes(vae.spec)))
    parts = (vae.likelihood.scale(pixels) for pixels in images.split(size))
    encoded = [vae.encode(x.expand(members, *x.shape)) for x in parts]
    return Posterior(*(torch.cat(each, dim=1) for each in zip(*encoded, strict=True)))
