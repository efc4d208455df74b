"""The raw networks F(x; c_noise) of diffusion models.

``MLP`` is for images of a few pixels, where convolutions do not pay. ``UNet`` is DDPM++ as Karras et al.
(2022, Table 7) train it on CIFAR-10: 55.7 M parameters with 128 channels, multipliers (2, 2, 2), 4 blocks a resolution
and attention at 16x16.

Letters: B batch, C channels, H height, W width, E size of the embedding of the noise level. All take x [B, C, H, W] and
c_noise [B] and return [B, C, H, W]; the last layer starts at zero, so that an untrained model predicts c_skip x.
"""

import math
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegen_ray.diffusion.edm import Noise, Preconditioned
from vaegen_ray.errors import DataFormatError
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.diffusion import DiffusionSpec

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

HALF = math.sqrt(0.5)
"""Factor that keeps the variance of a sum of two branches."""


def build_denoiser(spec: DiffusionSpec, device: torch.device | str = "cpu") -> Preconditioned:
    """Builds the model that a specification declares, with its initial weights.

    Weights are drawn on the CPU from the seed of the specification, so they do not depend on the device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(spec.seed, "init"))
        network = MLP(spec) if spec.network == "mlp" else UNet(spec)
    noise = Noise(data_std=spec.data_std, log_mean=spec.log_mean, log_std=spec.log_std)
    return Preconditioned(network, noise).to(device)


def check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Checks that tensors have the names and shapes of others.

    Args:
        tensors: by name.
        expected: tensors of the declared network by name.
        where: where ``tensors`` are from, for the message.

    Raises:
        DataFormatError: they differ; names the first difference.
    """
    got, want = ({name: tuple(tensor.shape) for name, tensor in part.items()} for part in (tensors, expected))
    for name in sorted({*want, *got}):
        if want.get(name) != got.get(name):
            raise DataFormatError(
                f"{where} does not fit the declared network: {name} must be {want.get(name, 'absent')}; "
                f"got {got.get(name, 'nothing')}"
            )


def init_zero(layer: Layer) -> Layer:
    """Sets weights and biases of a layer to zero; returns it."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class NoiseEmbedding(nn.Module):
    """Sines and cosines of c_noise at ``size / 2`` frequencies from 1 down towards 1e-4 (Vaswani et al. 2017), then two
    layers; [B] -> [B, E]."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self._size = size
        self.first = nn.Linear(size, out)
        self.second = nn.Linear(out, out)

    def forward(self, c_noise: Tensor) -> Tensor:
        ramp = torch.arange(self._size // 2, device=c_noise.device) / (self._size // 2)
        angle = c_noise[:, None] * 1e-4**ramp
        waves = torch.cat([angle.cos(), angle.sin()], dim=1)
        return F.silu(self.second(F.silu(self.first(waves))))


class MLP(nn.Module):
    """A residual network of fully connected layers; the noise level scales and shifts each block."""

    def __init__(self, spec: DiffusionSpec) -> None:
        super().__init__()
        pixels, width = math.prod(spec.image_shape), spec.channels
        self.embedding = NoiseEmbedding(64, width)
        self.first = nn.Linear(pixels, width)
        self.blocks = nn.ModuleList(DenseBlock(width, spec.dropout) for _ in range(spec.blocks))
        self.last = init_zero(nn.Linear(width, pixels))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        e = self.embedding(4 * c_noise)  # ln sigma
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = block(h, e)
        return self.last(F.silu(h)).view_as(x)


class DenseBlock(nn.Module):
    """h + second(dropout(silu(first(silu(norm(h) (1 + scale) + shift)))))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.first = nn.Linear(width, width)
        self.second = init_zero(nn.Linear(width, width))
        self._dropout = dropout

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulation(e).chunk(2, dim=1)
        inner = F.silu(torch.addcmul(shift, self.norm(h), scale + 1))
        inner = F.dropout(F.silu(self.first(inner)), self._dropout, self.training)
        return h + self.second(inner)


class UNet(nn.Module):
    """DDPM++ (Song et al. 2021) as EDM uses it: residual blocks that the noise level shifts, attention with one head at
    some resolutions, skip connections from the way down to the way up."""

    def __init__(self, spec: DiffusionSpec) -> None:
        super().__init__()
        c, e = spec.channels, 4 * spec.channels
        colours, height, _ = spec.image_shape
        widths = [c * m for m in spec.multipliers]
        heights = [height >> level for level in range(len(widths))]
        self.embedding = NoiseEmbedding(c, e)

        def block(inputs: int, outputs: int, level: int, *, attention: bool | None = None, resize: str = "") -> Block:
            attends = heights[level] in spec.attention if attention is None else attention
            return Block(inputs, outputs, e, dropout=spec.dropout, attention=attends, resize=resize)

        self.down = nn.ModuleList([nn.Conv2d(colours, c, 3, padding=1)])
        skips, now = [c], c
        for level, width in enumerate(widths):
            if level:
                self.down.append(block(now, now, level, attention=False, resize="down"))
                skips.append(now)
            for _ in range(spec.blocks):
                self.down.append(block(now, width, level))
                now = width
                skips.append(now)
        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            if level == len(widths) - 1:
                self.up += [block(now, now, level, attention=True), block(now, now, level, attention=False)]
            else:
                self.up.append(block(now, now, level, attention=False, resize="up"))
            for i in range(spec.blocks + 1):
                last = i == spec.blocks
                attends = last and heights[level] in spec.attention
                self.up.append(block(now + skips.pop(), width, level, attention=attends))
                now = width
        assert not skips
        self._before_skips = [2 if level == 0 else 1 for level in range(len(widths))]
        self._blocks = spec.blocks
        self.norm = build_group_norm(now)
        self.last = init_zero(nn.Conv2d(now, colours, 3, padding=1))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        e = self.embedding(c_noise)
        first, *rest = self.down
        h = first(x)
        skips = [h]
        for block in rest:
            h = block(h, e)
            skips.append(h)
        blocks = iter(self.up)
        for plain in self._before_skips:
            for _ in range(plain):
                h = next(blocks)(h, e)
            for _ in range(self._blocks + 1):
                h = next(blocks)(torch.cat([h, skips.pop()], dim=1), e)
        return self.last(F.silu(self.norm(h)))


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, between which the noise level shifts the channels; then attention.

    Args:
        inputs, outputs: channels.
        embedding: E.
        dropout: probability of a zero before the second convolution while training.
        attention: append self-attention with one head over the pixels.
        resize: ``down`` halves and ``up`` doubles height and width before the convolutions.
    """

    def __init__(
        self, inputs: int, outputs: int, embedding: int, *, dropout: float, attention: bool, resize: str
    ) -> None:
        super().__init__()
        self._dropout, self._resize = dropout, resize
        self.norm = build_group_norm(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.shift = nn.Linear(embedding, outputs)
        self.second_norm = build_group_norm(outputs)
        self.second = init_zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs or resize else None
        self.attention = Attention(outputs) if attention else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h, x = self._resized(F.silu(self.norm(x))), self._resized(x)
        h = F.silu(self.second_norm(self.first(h) + self.shift(e)[:, :, None, None]))
        h = self.second(F.dropout(h, self._dropout, self.training))
        h = (h + (x if self.skip is None else self.skip(x))) * HALF
        return h if self.attention is None else self.attention(h)

    def _resized(self, x: Tensor) -> Tensor:
        if self._resize == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0) if self._resize == "up" else x


class Attention(nn.Module):
    """(x + out(softmax(q k / sqrt(C)) v)) / sqrt(2), over the pixels of each image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = build_group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = init_zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)  # [B, H*W, C]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).unflatten(2, x.shape[2:])
        return (x + self.out(mixed)) * HALF


def build_group_norm(channels: int) -> nn.GroupNorm:
    """Groups of at least 4 channels, at most 32 groups."""
    groups = next(n for n in range(min(32, channels // 4), 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)
