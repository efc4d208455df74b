"""Smoothness of log q(z|x) along straight lines between the codes of two test images.

With z_0 and z_1 the means of q(z|x_0) and q(z|x_1),

    z_alpha = alpha z_0 + (1 - alpha) z_1,     alpha from 0 to 1
    x~_alpha = E[x | z_alpha]                                  the reconstruction of z_alpha
    f(alpha) = log q(z_alpha | x~_alpha), in nats             (xiao2024, Section 5.3 and Figure 3)

Where the encoder is smooth, and undoes the decoder, f is high and flat; where it is not, f is low and jagged. How far f
goes up and down is its total variation over the P points of a line,

    V = sum_{i=1}^{P-1} |f(alpha_i) - f(alpha_{i-1})|, in nats a line, 0 where f is constant.

Unlike a slope or a second difference V does not depend on how the line is run through, on the number of points (once f
is smooth between them) or on the unit of z: a latent space that is c times as wide moves f by a constant. So V compares
trials whose codes are nearer together or further apart.

Letters: M members, P points, Z latent dimensions.
"""

import math

import torch
from torch import Tensor

from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation.elbo import CHUNK_BYTES
from vaegen_ray.evaluation.result import Detail, EvaluationResult
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Smoothness
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic


@torch.no_grad()
def smoothness(vae: VAE, specs: list[TrialSpec], test: Tensor, settings: Smoothness) -> list[EvaluationResult]:
    """log q along the lines, of every member: ``latent_log_q``, its mean over lines and points, and
    ``latent_variation``, the mean V of a line. Nothing here is random.

    The details ``log_q`` hold f at ``linspace(0, 1, points)`` for each line: the first number is at the code of test
    image 2 i + 1 (alpha = 0), the last at that of test image 2 i.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications.
        test: uint8 [N, C, H, W], on the members' device. Where they are fewer than two a line, there are fewer lines.
        settings: how many lines and points.

    Raises:
        SpecError: there are fewer than two test images.
    """
    vae.eval()
    pairs = min(settings.pairs, len(test) // 2)
    if pairs == 0:
        raise SpecError(f"smoothness joins the codes of two test images; got {len(test)}")
    chunk = max(1, CHUNK_BYTES // (len(specs) * activation_bytes(specs[0])))
    alpha = torch.linspace(0, 1, settings.points, device=test.device).unsqueeze(-1)  # [P, 1]
    lines = []
    with arithmetic("float32", test.device):
        for pair in range(pairs):
            x = vae.likelihood.scale(test[2 * pair : 2 * pair + 2])
            z_0, z_1 = vae.encode(x.expand(len(specs), *x.shape)).mean.split(1, dim=1)  # [M, 1, Z] each
            z = alpha * z_0 + (1 - alpha) * z_1  # [M, P, Z]
            lines.append(torch.cat([log_q(vae, part) for part in z.split(chunk, dim=1)], dim=1))
    by_member = torch.stack(lines, dim=1)  # [M, pairs, P]
    means = by_member.mean((1, 2)).tolist()
    variations = by_member.diff(dim=-1).abs().sum(-1).mean(-1).tolist()
    return [
        EvaluationResult(
            {"latent_log_q": means[member], "latent_variation": variations[member]},
            [Detail("log_q", f"pair-{pair}", line) for pair, line in enumerate(by_member[member].tolist())],
        )
        for member in range(len(specs))
    ]


def log_q(vae: VAE, z: Tensor) -> Tensor:
    """log q(z | x~) in nats, x~ the reconstruction of z: [M, B, Z] -> float64 [M, B].

    The reconstruction is the likelihood's mean as it is, not rounded to the levels of a pixel: rounding would put steps
    into f that are not the encoder's.
    """
    x = vae.likelihood.from_unit(vae.likelihood.mean(vae.decode(z)))
    posterior = vae.encode(x)
    mean, std = posterior.mean.double(), posterior.std.double()
    return -(0.5 * ((z - mean) / std).square() + std.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
