"""What a training step minimises, for each member of a bundle."""

from torch import Tensor

from vaegen_ray.models.vae import VAE


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
