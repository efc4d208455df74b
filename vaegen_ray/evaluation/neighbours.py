"""How far test images are from their nearest training images, and what becomes of one that is far (bozkurt2021, Figure
3 and Section 4.4).

    d(x) = min over x' in D_train of |x - x'|,    |x - x'|^2 = |x|^2 + |x'|^2 - 2 x.x'

with |.| the Euclidean norm of intensities in [0, 1]: the unit is one number that goes from 0 to 1. The squares are
computed of the pixel values themselves, in float64: every product and every sum is a whole number far below 2^53, so
nothing is rounded, whatever the order, the device or the size of a chunk, and equal images have a distance of zero.
Letters: N training images, n test images, D = C H W numbers an image, M members.
"""

import math

import torch
from torch import Tensor

from vaegen_ray.evaluation.elbo import CHUNK_BYTES
from vaegen_ray.evaluation.reconstruction import DIGITS, intensities, reconstructed
from vaegen_ray.evaluation.result import Detail, EvaluationResult
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import Neighbours
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic


@torch.no_grad()
def nearest(train: Tensor, test: Tensor, *, levels: int) -> tuple[Tensor, Tensor]:
    """The distance of every test image to its nearest training image, float64 [n], and which that is, int64 [n].

    Of training images that are equally near, the first is taken.

    Args:
        train: uint8 [N, C, H, W], N >= 1.
        test: uint8 [n, C, H, W], on the same device.
        levels: L, the grey levels; pixel values are 0 .. L - 1.
    """
    squares, indices = [], []
    rows = _rows_at_once(test[0].numel())
    for queries in test.flatten(1).split(rows):
        x = queries.double()
        best = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        where = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for block, candidates in enumerate(train.flatten(1).split(rows)):
            y = candidates.double()
            least, index = torch.addmm(y.square().sum(1), x, y.T, alpha=-2).min(1)  # the first where several are least
            closer = least < best
            best, where = torch.where(closer, least, best), torch.where(closer, index + block * rows, where)
        squares.append(best + x.square().sum(1))
        indices.append(where)
    return torch.cat(squares).sqrt() / (levels - 1), torch.cat(indices)


def _rows_at_once(numbers: int) -> int:
    """r, such that r test and r training images of ``numbers`` numbers, their squares and the [r, r] products fit into
    ``CHUNK_BYTES`` as float64: r^2 + 3 r D = CHUNK_BYTES / 8."""
    return max(1, int(math.sqrt((1.5 * numbers) ** 2 + CHUNK_BYTES / 8) - 1.5 * numbers))


@torch.no_grad()
def neighbours(
    vae: VAE, specs: list[TrialSpec], train: Tensor, test: Tensor, settings: Neighbours
) -> list[EvaluationResult]:
    """``neighbour_distance``, the mean distance d of the test images, and one that is hard, for every member.

    The distances depend on the images alone and are the same for all members. Details, images as intensities, C, H, W
    flattened: ``neighbour_distance`` has the percentiles 0 to 100 of d, each the distance of the image of the nearest
    rank; ``hard_original`` the test image at ``settings.percentile``; ``hard_neighbour`` its nearest training image;
    ``hard_reconstruction`` what the member makes of it.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications.
        train: D_train, uint8 [N, C, H, W], on the members' device.
        test: D_test, uint8 [n, C, H, W], likewise.
        settings: how many test images, the first of them, and which percentile is shown.
    """
    vae.eval()
    test = test[: settings.images]
    distances, indices = nearest(train, test, levels=specs[0].levels)
    order = distances.argsort(stable=True)
    ranks = [round(percent * (len(test) - 1) / 100) for percent in range(101)]
    hard = order[ranks[settings.percentile]]
    common = [
        Detail("neighbour_distance", "percentiles", distances[order[ranks]].tolist()),
        Detail("hard_original", "test", _kept(intensities(vae, test[hard]))),
        Detail("hard_neighbour", "train", _kept(intensities(vae, train[indices[hard]]))),
    ]
    with arithmetic("float32", test.device):
        again = reconstructed(vae, test[hard].unsqueeze(0))[:, 0]
    row = {"neighbour_distance": distances.mean().item()}
    return [
        EvaluationResult(dict(row), [*common, Detail("hard_reconstruction", "test", _kept(image))]) for image in again
    ]


def _kept(image: Tensor) -> list[float]:
    return [round(value, DIGITS) for value in image.flatten().tolist()]
