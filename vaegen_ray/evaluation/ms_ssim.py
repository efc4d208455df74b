"""MS-SSIM: how alike two images look, at several scales (Wang et al. 2003); 1 for equal images, larger is more alike.

With means mu, variances s^2 and covariance s_xy inside a Gaussian window, at every place where the window fits,

    contrast(x, y)   = (2 s_xy + C2) / (s_x^2 + s_y^2 + C2)                                C1 = 0.01^2, C2 = 0.03^2
    similarity(x, y) = contrast(x, y) * (2 mu_x mu_y + C1) / (mu_x^2 + mu_y^2 + C1)
    MS-SSIM          = prod_{j < J} relu(mean contrast_j)^{w_j} * relu(mean similarity_J)^{w_J}       scales j = 1 .. J

and 2x2 average pooling between scales. Two modes:

- ``kuzina``: as the public code of Kuzina et al. (2022), whose attack xiao2024 follows. A window of 14 pixels; the mean
  runs over pixels and colours; the last factor stands in the product once for every scale but the last: J - 1 times,
  or once where J = 1.
- ``standard``: every factor once. A window of 11 pixels, the product taken for each colour and then averaged:
  ``pytorch_msssim.ms_ssim``, which is called wherever it applies (sides above 160 pixels).

The window shrinks to the shorter side of a scale; one of n pixels is centred at its pixel n // 2, counted from 0, as in
both codes. There are five scales, J = 5, or as many as the shorter side can be halved, rounded down, and still be a
pixel: four for 8x8, with sides 8, 4, 2, 1. The weights of fewer than five are divided by their sum: our reading, since
the papers' images are larger. All in double precision, since a variance is a small difference of squares. Letters: B
images, C colours, H and W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vaegen_ray.spec.evaluation import MS_SSIM_MODES

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""w_j of five scales, the finest first (Wang et al. 2003)."""
WINDOW = {"kuzina": 14, "standard": 11}
"""Pixels across the Gaussian window, at most."""
SIGMA = 1.5
"""Standard deviation of the window, pixels."""
C1, C2 = 0.01**2, 0.03**2
"""Keep the quotients finite, for images in [0, 1]."""


def ms_ssim(x: Tensor, y: Tensor, mode: str = "kuzina") -> Tensor:
    """MS-SSIM of each pair of images: [..., C, H, W] twice, intensities in [0, 1] -> [...] in [0, 1], float64."""
    assert mode in MS_SSIM_MODES, mode
    x, y = torch.broadcast_tensors(x.double(), y.double())
    leading, shape = x.shape[:-3], (-1, *x.shape[-3:])
    x, y = x.reshape(shape), y.reshape(shape)
    if mode == "standard" and min(x.shape[-2:]) > (WINDOW["standard"] - 1) * 2 ** (len(WEIGHTS) - 1):
        from pytorch_msssim import ms_ssim as of_package

        return of_package(x, y, data_range=1, size_average=False).view(leading)
    return _ms_ssim(x, y, mode).view(leading)


def _ms_ssim(x: Tensor, y: Tensor, mode: str) -> Tensor:
    """MS-SSIM for images of any size: [B, C, H, W] twice -> [B]."""
    scales = min(len(WEIGHTS), min(x.shape[-2:]).bit_length())
    weights = x.new_tensor(WEIGHTS[:scales])
    if scales < len(WEIGHTS):
        weights = weights / weights.sum()
    # Averaged at once: pixels and colours [B, 1], or pixels alone [B, C].
    over = (-3, -2, -1) if mode == "kuzina" else (-2, -1)
    contrasts = []
    for scale in range(scales):
        if scale:
            x, y = _halved(x, mode), _halved(y, mode)
        similarity, contrast = _similarity_and_contrast(x, y, WINDOW[mode])
        contrasts.append(contrast.mean(over).relu())
    last = similarity.mean(over).relu() ** weights[-1]
    if mode == "kuzina":
        last = last ** max(1, scales - 1)
    powers = [contrast**weight for contrast, weight in zip(contrasts[:-1], weights[:-1], strict=True)]
    return torch.stack([*powers, last]).prod(0).view(len(x), -1).mean(-1)


def _halved(x: Tensor, mode: str) -> Tensor:
    """2x2 average pooling. An odd side loses its last pixel, or, in the standard mode, gets a border of zeros."""
    padding = [0, 0] if mode == "kuzina" else [side % 2 for side in x.shape[-2:]]
    return F.avg_pool2d(x, 2, padding=padding)


def _similarity_and_contrast(x: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """At each place of the window: [B, C, H, W] twice -> two [B, C, H - n + 1, W - n + 1]."""
    size = min(window, *x.shape[-2:])
    down, across = (_blur(side, size, x) for side in x.shape[-2:])
    mean_x, mean_y, squares, product = (down @ each @ across.mT for each in (x, y, x * x + y * y, x * y))
    mean_squares, mean_product = mean_x.square() + mean_y.square(), mean_x * mean_y
    contrast = (2 * (product - mean_product) + C2) / (squares - mean_squares + C2)
    return contrast * (2 * mean_product + C1) / (mean_squares + C1), contrast


def _blur(side: int, size: int, like: Tensor) -> Tensor:
    """The matrix [side - size + 1, side] that takes a Gaussian mean over ``size`` pixels, at every place it fits."""
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    matrix = torch.zeros(side - size + 1, side, dtype=torch.float64)
    for place, row in enumerate(matrix):
        row[place : place + size] = window / window.sum()
    return matrix.to(like)
