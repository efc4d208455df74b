"""The ELBO on whole data sets, and what follows from it.

    ELBO(x) = -distortion(x) - rate(x)                       (xiao2024, Eq. 2), nats an image, larger is better
    G_g = mean ELBO on D_train - mean ELBO on D_test         (xiao2024, Eq. 3), not sign-definite
    bits per dimension = -ELBO / (D ln 2)

The noise of the evaluation is its own stream of the trial's seed, the same at every evaluation, so that two epochs of a
trial differ by their weights alone. It is drawn for blocks of ``NOISE_BLOCK`` images; how many images are computed at
once depends on memory and does not matter. Letters: M members, N images, S samples, Z latent dimensions.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vaegen_ray.models.layout import CHUNK_BYTES, NOISE_BLOCK, activation_bytes
from vaegen_ray.models.vae import VAE
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic

ON_TRAIN, ON_TEST, ON_SAMPLES, ON_VALIDATION = 0, 1, 2**20, 2**20 + 1
"""Where the noise of a data set begins in the trial's stream; block b has the number 2 b + this."""


@torch.no_grad()
def rate_and_distortion(vae: VAE, specs: list[TrialSpec], images: Tensor, *, stream: int) -> tuple[Tensor, Tensor]:
    """Mean rate and distortion of every member on a data set, nats an image: two float64 [M].

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications, for the seeds and ``elbo_samples`` S.
        images: uint8 [N, C, H, W], or [M, N, C, H, W] where members have images of their own, on the members' device.
        stream: ``ON_TRAIN`` and so on; gives every data set its own noise.
    """
    vae.eval()
    spec, members, device = specs[0], len(specs), images.device
    totals = torch.zeros(2, members, dtype=torch.float64, device=device)
    chunk = max(1, min(NOISE_BLOCK, CHUNK_BYTES // (members * activation_bytes(spec))))
    with arithmetic("float32", device):
        for block in range(-(-images.shape[-4] // NOISE_BLOCK)):
            pixels = images[..., block * NOISE_BLOCK : (block + 1) * NOISE_BLOCK, :, :, :]
            count = pixels.shape[-4]
            noise = torch.stack([_noise(each, 2 * block + stream, count, device) for each in specs])
            for start in range(0, count, chunk):
                x = vae.likelihood.scale(pixels[..., start : start + chunk, :, :, :])
                x = x.expand(members, *x.shape[-4:])
                for sample in range(spec.elbo_samples):
                    rate, distortion = vae.rate_and_distortion(x, noise[:, sample, start : start + chunk])
                    totals += torch.stack((rate, distortion)).double().sum(-1)
    means = totals / (images.shape[-4] * spec.elbo_samples)
    return means[0], means[1]


def _noise(spec: TrialSpec, index: int, images: int, device: torch.device) -> Tensor:
    """Standard normal [S, images, Z]."""
    generator = torch.Generator(device).manual_seed(stream_seed(spec.seed, "evaluation", index))
    return torch.randn(spec.elbo_samples, images, spec.latent_dim, generator=generator, device=device)


def evaluate_elbo(
    vae: VAE,
    specs: list[TrialSpec],
    train: Tensor,
    test: Tensor,
    fresh: Sequence[Tensor | None] | None = None,
) -> list[dict[str, float]]:
    """ELBO, rate and distortion on D_train and D_test, generalization gap and bits per dimension: a row a member.

    ``elbo_source`` is the ELBO on the distribution trained on (xiao2024, Figure 13): on D_train for normal training, on
    samples that no trial trains on for DMaaPx, on newly augmented images for augmentation. It belongs to another
    distribution than D_test, so no gap is made of it (xiao2024, Appendix B.5).

    Args:
        vae: the M members.
        specs: their specifications.
        train, test: uint8 [N, C, H, W], on the members' device.
        fresh: for each member images of the distribution that it is trained on, equally many, uint8 [N, C, H, W]; None
            where that is D_train.
    """
    (rate_train, distortion_train), (rate_test, distortion_test) = (
        [part.tolist() for part in rate_and_distortion(vae, specs, images, stream=i)]
        for i, images in ((ON_TRAIN, train), (ON_TEST, test))
    )
    fresh = fresh or [None] * len(specs)
    elbo_source = _elbo_on(vae, specs, fresh)
    rows = []
    for member, spec in enumerate(specs):
        elbo_train = -rate_train[member] - distortion_train[member]
        elbo_test = -rate_test[member] - distortion_test[member]
        rows.append(
            {
                "elbo_train": elbo_train,
                "elbo_test": elbo_test,
                "elbo_source": elbo_train if fresh[member] is None else elbo_source[member],
                "rate_train": rate_train[member],
                "rate_test": rate_test[member],
                "distortion_train": distortion_train[member],
                "distortion_test": distortion_test[member],
                "generalization_gap": elbo_train - elbo_test,
                "bits_per_dim_test": -elbo_test / (spec.pixels * math.log(2)),
                "elbo_samples": spec.elbo_samples,
            }
        )
    return rows


def _elbo_on(vae: VAE, specs: list[TrialSpec], fresh: Sequence[Tensor | None]) -> list[float]:
    """The ELBO of each member on its own images; of those that have none it says nothing."""
    there = [images for images in fresh if images is not None]
    if not there:
        return []
    shared = all(images is there[0] for images in there)
    images = there[0] if shared else torch.stack([there[0] if images is None else images for images in fresh])
    rate, distortion = rate_and_distortion(vae, specs, images, stream=ON_SAMPLES)
    return (-rate - distortion).tolist()
