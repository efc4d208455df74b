"""How well images come back from their codes (xiao2024, Table 11 and Figure 9).

    PSNR(x) = 10 log10(1 / MSE(x)),  MSE(x) = mean over pixels of (x - x')^2                            in decibels

with x in [0, 1] and x' = E[x | z] the decoder's mean image at z = E_q[z|x], the posterior's mean: nothing is random.
Letters: M members, N images, B of them at once.
"""

import numpy as np
import torch
from torch import Tensor

from vaegen_ray.evaluation.elbo import CHUNK_BYTES, NOISE_BLOCK
from vaegen_ray.evaluation.result import Detail, EvaluationResult
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Reconstruction
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic

MIN_MSE = 1e-10
"""Smaller errors count as this one, so that an image that comes back perfectly has 100 dB and a mean stays finite."""
DIGITS = 3
"""Decimals of the intensities that are kept to look at."""


def images_at_once(vae: VAE) -> int:
    """How many images all members compute together, so that memory stays bounded."""
    return max(1, min(NOISE_BLOCK, CHUNK_BYTES // (vae.members * activation_bytes(vae.spec))))


def intensities(vae: VAE, pixels: Tensor) -> Tensor:
    """Pixel values 0 .. L - 1 as intensities in [0, 1]."""
    return pixels.float() / (vae.spec.levels - 1)


def reconstructed(vae: VAE, pixels: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> the decoder's mean images at the posteriors' means, intensities [M, B, C, H, W]."""
    x = vae.likelihood.scale(pixels)
    return vae.likelihood.mean(vae.decode(vae.encode(x.expand(vae.members, *x.shape)).mean))


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of intensities, decibels, float64: [..., C, H, W] twice -> [...]."""
    mse = (images.double() - others.double()).square().flatten(-3).mean(-1)
    return -10 * mse.clamp_min(MIN_MSE).log10()


@torch.no_grad()
def reconstruction(vae: VAE, specs: list[TrialSpec], test: Tensor, settings: Reconstruction) -> list[EvaluationResult]:
    """``psnr_test``, the mean PSNR of the test images, and some of them to look at, for every member.

    The details ``original`` and ``reconstruction`` of an item ``image-i`` are the intensities of the i-th image that is
    shown, C, H, W flattened; those shown are spread evenly over the test set, the same for all trials.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications.
        test: uint8 [N, C, H, W], on the members' device.
        settings: how many images are shown; all where there are fewer.
    """
    vae.eval()
    total = torch.zeros(len(specs), dtype=torch.float64, device=test.device)
    shown = np.linspace(0, len(test) - 1, min(settings.shown, len(test))).round().astype(int).tolist()
    originals = [_kept(intensities(vae, test[i])) for i in shown]
    with arithmetic("float32", test.device):
        for pixels in test.split(images_at_once(vae)):
            total += psnr(reconstructed(vae, pixels), intensities(vae, pixels)).sum(-1)
        again = [reconstructed(vae, test[i : i + 1])[:, 0] for i in shown]
    details: list[list[Detail]] = [[] for _ in specs]
    for rank, original in enumerate(originals):
        for member, kept in enumerate(details):
            kept.append(Detail("original", f"image-{rank}", original))
            kept.append(Detail("reconstruction", f"image-{rank}", _kept(again[rank][member])))
    means = (total / len(test)).tolist()
    return [EvaluationResult({"psnr_test": mean}, kept) for mean, kept in zip(means, details, strict=True)]


def _kept(image: Tensor) -> list[float]:
    return [round(value, DIGITS) for value in image.flatten().tolist()]
