"""The robustness gap: what a small change of an image, made to mislead the encoder, does to its reconstruction.

    eps = argmax_{|eps|_inf <= delta} SKL[q(.|x_r + eps) || q(.|x_r)]                       (xiao2024, Eq. 10)
    G_r = mean MS-SSIM[x_r, x_a] - MS-SSIM[g(z_r), g(z_a)],   x_a = x_r + eps                (xiao2024, Eq. 5)

over the first n_r test images and n_a random starts for each; SKL[q || p] = KL(q || p) / 2 + KL(p || q) / 2 in nats, as
in Kuzina et al. (2022), z = mean + std * noise with the same noise for both images, and g(z) the mean of p(x|z). A gap
of zero says that reconstructions change as little as the images did; larger is worse.

Random numbers are drawn for blocks of ``NOISE_BLOCK`` attacks from a stream of the trial's seed, the same at every
evaluation; how many attacks are computed at once depends on memory and does not matter, but for rounding. Attack a
starts from image a // n_a. Letters: M members, B attacks, C colours, H and W pixels, Z latent dimensions.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vaegen_ray.evaluation.elbo import CHUNK_BYTES
from vaegen_ray.evaluation.ms_ssim import ms_ssim
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.vae import VAE, Posterior
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.evaluation import Attack
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic

NOISE_BLOCK = 500
"""Attacks whose random numbers are drawn together."""
PATIENCE = 5
"""Steps without a new best after which the step size of an attack is halved. From 2 to 20 hardly matter: on grey digits
the KLs reached in 50 steps differ by 0.1 %."""


@torch.no_grad()
def robustness_gap(vae: VAE, specs: list[TrialSpec], test: Tensor, settings: Attack) -> list[dict[str, float]]:
    """The robustness gap of every member, with the two similarities it is made of and the KL that the attack reached.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications, for the seeds.
        test: uint8 [N, C, H, W], on the members' device.
        settings: the attack.
    """
    vae.eval()
    spec, members, device = specs[0], len(specs), test.device
    images = test[: settings.images].float() / (spec.levels - 1)
    attacks = len(images) * settings.restarts
    chunk = max(1, min(NOISE_BLOCK, CHUNK_BYTES // (members * activation_bytes(spec))))
    totals = torch.zeros(3, members, dtype=torch.float64, device=device)
    with arithmetic("float32", device):
        for block, first in enumerate(range(0, attacks, NOISE_BLOCK)):
            which = torch.arange(first, min(first + NOISE_BLOCK, attacks), device=device) // settings.restarts
            drawn = [_draw(each, block, len(which), device) for each in specs]
            starts, noise = (torch.stack(part) for part in zip(*drawn, strict=True))
            for part in (slice(start, start + chunk) for start in range(0, len(which), chunk)):
                x = images[which[part]].expand(members, -1, -1, -1, -1)
                attacked = attack(vae, x, starts[:, part] * settings.radius, settings)
                measured = _consequences(vae, x, attacked, noise[:, part], settings.ms_ssim)
                totals += torch.stack(measured).double().sum(-1)
    names = ("ms_ssim_input", "ms_ssim_reconstruction", "attack_kl")
    rows = [dict(zip(names, means, strict=True)) for means in (totals / attacks).T.tolist()]
    return [{"robustness_gap": row["ms_ssim_input"] - row["ms_ssim_reconstruction"], **row} for row in rows]


def attack(vae: VAE, x: Tensor, start: Tensor, settings: Attack) -> Tensor:
    """The images that change q(z|x) most (xiao2024, Eq. 10), by projected gradient ascent on each on its own.

    No image leaves [0, 1] or the radius at any step. The step size of an attack is halved when its best is ``PATIENCE``
    steps old; its best image is what it returns. Where a gradient is not finite, the image stays as it is.

    Args:
        vae: the M members.
        x: intensities in [0, 1], [M, B, C, H, W].
        start: the first perturbations, [M, B, C, H, W].
        settings: steps, step size and radius.

    Returns:
        Intensities [M, B, C, H, W].
    """
    low, high = (x - settings.radius).clamp_min(0), (x + settings.radius).clamp_max(1)
    here = best = (x + start).clamp(low, high)
    best_kl = torch.full(x.shape[:2], -torch.inf, device=x.device)
    step, age = torch.full_like(best_kl, settings.step_size), torch.zeros_like(best_kl)
    with _frozen(vae.encoder):
        clean = vae.encode(vae.likelihood.from_unit(x))
        for _ in range(settings.steps):
            kl, gradient = _kl_and_gradient(vae, here, clean)
            better = kl > best_kl
            best, best_kl = torch.where(_wide(better), here, best), torch.where(better, kl, best_kl)
            age = torch.where(better, 0, age + 1)
            step = torch.where((age > 0) & (age % PATIENCE == 0), step / 2, step)
            moved = (here + _wide(step) * gradient).clamp(low, high)
            here = torch.where(_wide(gradient.isfinite().flatten(2).all(-1)), moved, here)
        better = symmetric_kl(vae.encode(vae.likelihood.from_unit(here)), clean) > best_kl
    return torch.where(_wide(better), here, best)


def symmetric_kl(q: Posterior, p: Posterior) -> Tensor:
    """KL(q || p) / 2 + KL(p || q) / 2, nats: [M, B]."""
    ratio, squares = q.std / p.std, (q.mean - p.mean).square()
    terms = (ratio - 1 / ratio).square() + squares * (q.std**-2 + p.std**-2)
    return 0.25 * terms.sum(-1)


def _kl_and_gradient(vae: VAE, x: Tensor, clean: Posterior) -> tuple[Tensor, Tensor]:
    """SKL[q(.|x) || clean], [M, B], and its gradient by x, [M, B, C, H, W]."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        kl = symmetric_kl(vae.encode(vae.likelihood.from_unit(x)), clean)
        (gradient,) = torch.autograd.grad(kl.sum(), x)
    return kl.detach(), gradient


def _consequences(vae: VAE, x: Tensor, attacked: Tensor, noise: Tensor, mode: str) -> tuple[Tensor, Tensor, Tensor]:
    """MS-SSIM of the two images, MS-SSIM of their reconstructions, and the KL of their posteriors: three [M, B]."""
    clean, misled = (vae.encode(vae.likelihood.from_unit(each)) for each in (x, attacked))
    clean_mean, misled_mean = (vae.likelihood.mean(vae.decode(q.sample(noise))) for q in (clean, misled))
    return ms_ssim(x, attacked, mode), ms_ssim(clean_mean, misled_mean, mode), symmetric_kl(misled, clean)


def _draw(spec: TrialSpec, block: int, attacks: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Uniform in [-1, 1), [attacks, C, H, W], and standard normal [attacks, Z]."""
    generator = torch.Generator(device).manual_seed(stream_seed(spec.seed, "attack", block))
    start = torch.rand(attacks, *spec.image_shape, generator=generator, device=device)
    return 2 * start - 1, torch.randn(attacks, spec.latent_dim, generator=generator, device=device)


def _wide(per_image: Tensor) -> Tensor:
    """[M, B] -> [M, B, 1, 1, 1]."""
    return per_image[..., None, None, None]


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Inside, no parameter of ``network`` asks for a gradient; each asks again afterwards where it did."""
    asked = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_()
