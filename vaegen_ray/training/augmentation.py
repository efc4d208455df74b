"""Data augmentation as xiao2024 compares with (Appendix E, Tables 8-10), after Karras et al. 2020 (StyleGAN2-ADA).

All that moves pixels is one affine map of an image, and all that changes colours is one affine map of its channels:

    y(p) = C x(A^-1 p) + c,    A = stretching . rotation . scaling . translation . flips,    p from the image's centre

Where the tables leave something open we read them as follows. Each transform is applied to an image with probability
b, independently of the others.

- Flips: one that is applied flips half of the images, as there. So Table 10's flip "with probability 1" flips half.
- Translation: whole pixels, x and y each uniform in -t .. t. The tables are for sides of 28 and 32; t shrinks with the
  side.
- "2^sigma with sigma in [0, s]": 2^g with g ~ N(0, s^2), for scaling, stretching, contrast and saturation.
- Rotation and hue: uniform in both directions, up to the end of the range.
- Anisotropic scaling stretches one axis by 2^g and the other by 2^-g. The axes are those of the image, or, with the
  probability of the anisotropic rotation, turned by a uniform angle.
- Brightness: N(0, s^2) is added, and contrast multiplies, where black is -1 and white 1, as there.
- Hue turns colours around the grey axis and saturation multiplies their distance from it; grey images have neither.
- Outside of the image, grey images are black and colour images are mirrored. Sampling is bilinear.

Letters: n images, B images of a block, C channels, H height, W width.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.seeds import stream_seed

if TYPE_CHECKING:
    from vaegen_ray.training.sources import Source

BLOCK = 1000
"""Positions whose random numbers are drawn together."""
FRESH = 2**40
"""First of the blocks that no position of a training reaches; ``Augmented.held_out`` draws there."""
TABLE_SIDE = 32
"""Side of an image in pixels for which the tables state translations; for 28 they come out the same."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The transforms and how far they go, a row of a table each. What is 0 or False is left out."""

    horizontal_flip: bool = False
    always_flip: bool = False
    """The horizontal flip is applied with probability 1 in place of b."""
    vertical_flip: bool = False
    translation: int = 0
    """Pixels at most, in x and in y."""
    scaling: float = 0.0
    """Standard deviation of log2 of the factor."""
    rotation: float = 0.0
    """Degrees at most, in both directions."""
    anisotropic_scaling: float = 0.0
    """Standard deviation of log2 of the factor."""
    anisotropic_rotation: float = 0.0
    """Probability that an anisotropic scaling has turned axes."""
    brightness: float = 0.0
    """Standard deviation; black to white is 2."""
    contrast: float = 0.0
    """Standard deviation of log2 of the factor."""
    hue: float = 0.0
    """Radians at most, in both directions."""
    saturation: float = 0.0
    """Standard deviation of log2 of the factor."""


NAIVE = Augmentation(
    horizontal_flip=True,
    translation=3,
    scaling=0.2,
    rotation=10,
    anisotropic_scaling=0.2,
    anisotropic_rotation=0.5,
    brightness=0.2,
    contrast=0.25,
    hue=0.25 * math.pi,
    saturation=0.5,
)
"""Aug.Naive (Table 8)."""
TUNED_GREY = Augmentation(translation=3, scaling=0.15, rotation=10, anisotropic_scaling=0.15, anisotropic_rotation=0.4)
"""Aug.Tuned for BinaryMNIST and FashionMNIST (Table 9)."""
TUNED_COLOUR = Augmentation(
    horizontal_flip=True,
    always_flip=True,
    vertical_flip=True,
    scaling=0.2,
    rotation=360,
    anisotropic_scaling=0.2,
    anisotropic_rotation=0.5,
)
"""Aug.Tuned for CIFAR-10 (Table 10)."""


def build_augmentation(kind: str, image_shape: tuple[int, int, int]) -> Augmentation:
    """The augmentation ``kind``, "naive" or "tuned", for images of a shape (C, H, W).

    Raises:
        SpecError: there is no such kind.
    """
    channels, height, width = image_shape
    kinds = {"naive": NAIVE, "tuned": TUNED_GREY if channels == 1 else TUNED_COLOUR}
    if kind not in kinds:
        raise SpecError(not_one_of("augmentation", kind, kinds))
    table = kinds[kind]
    return replace(table, translation=round(table.translation * min(height, width) / TABLE_SIDE))


def stronger(augmentation: Augmentation, strength: float) -> Augmentation:
    """The augmentation with every range and standard deviation times ``strength``; flips and probabilities stay.

    Translation is rounded to whole pixels. Angles go to half a turn at most, beyond which they would only repeat.
    """
    if strength == 1:
        return augmentation
    ranges = ("scaling", "anisotropic_scaling", "brightness", "contrast", "saturation")
    farther = {name: getattr(augmentation, name) * strength for name in ranges}
    return replace(
        augmentation,
        translation=round(augmentation.translation * strength),
        rotation=min(augmentation.rotation * strength, max(augmentation.rotation, 180.0)),
        hue=min(augmentation.hue * strength, math.pi),
        **farther,
    )


@dataclass(frozen=True, kw_only=True)
class Transforms:
    """What is done to each of n images: float64 [n] each, in the order in which it is done."""

    flip_x: Tensor
    """-1 where an image is flipped horizontally, 1 where not."""
    flip_y: Tensor
    shift_x: Tensor
    """Pixels to the right."""
    shift_y: Tensor
    """Pixels down."""
    scale: Tensor
    angle: Tensor
    """Radians, from x to y: clockwise on the screen."""
    stretch: Tensor
    """Factor along the first axis of the anisotropic scaling; the second gets its inverse."""
    stretch_axis: Tensor
    """Angle of that axis, radians from x to y."""
    brightness: Tensor
    contrast: Tensor
    hue: Tensor
    """Radians, from red to green."""
    saturation: Tensor

    def maps(self, height: int, width: int) -> Tensor:
        """A^-1: where in the image the value of a point of the result stands: float64 [n, 2, 3].

        Points are (x, y), -1 to 1 from edge to edge, as in ``torch.nn.functional.grid_sample``.
        """
        flips = torch.stack([self.flip_x, self.flip_y], dim=1)  # [n, 2]
        shift = torch.stack([self.shift_x, self.shift_y], dim=1)
        squeeze = torch.diag_embed(torch.stack([1 / self.stretch, self.stretch], dim=1))
        squeeze = _rotation(self.stretch_axis) @ squeeze @ _rotation(-self.stretch_axis)
        linear = flips[:, :, None] / self.scale[:, None, None] * (_rotation(-self.angle) @ squeeze)
        unit = torch.tensor([2 / width, 2 / height], dtype=torch.float64)  # of a pixel
        return torch.cat([linear * unit[:, None] / unit, (-flips * shift * unit)[:, :, None]], dim=2)

    def colours(self, channels: int, levels: int) -> Tensor:
        """C and c, for images whose values are 0 .. levels - 1: float64 [n, C, C + 1].

        Hue is Rodrigues' rotation around the grey axis. Neither it nor saturation moves grey, the mean of the channels.
        """
        one = torch.eye(channels, dtype=torch.float64)
        off_grey = one - 1 / channels  # projects onto the plane at right angles to the grey axis; 0 for one channel
        turn = torch.zeros(channels, channels, dtype=torch.float64)
        if channels == 3:
            turn = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
        along = (self.saturation * self.hue.cos() - 1)[:, None, None] * off_grey
        across = (self.saturation * self.hue.sin())[:, None, None] * turn
        linear = self.contrast[:, None, None] * (one + along + across)
        offset = (levels - 1) / 2 * (1 + self.contrast * (self.brightness - 1))
        return torch.cat([linear, offset[:, None, None].expand(-1, channels, 1)], dim=2)


def _rotation(angle: Tensor) -> Tensor:
    """Rotations by angles [n]: [n, 2, 2]."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)


def draw(augmentation: Augmentation, probability: float, n: int, generator: torch.Generator) -> Transforms:
    """Random transforms of n images, each applied with ``probability``."""
    applied = (torch.rand(10, n, generator=generator) < probability).double()
    uniform = torch.rand(8, n, generator=generator).double()  # in [0, 1)
    normal = torch.randn(5, n, generator=generator).double()
    if augmentation.always_flip:
        applied[0] = 1

    def flip(wanted: bool, on: Tensor, at: Tensor) -> Tensor:
        return 1 - 2 * wanted * on * (at < 0.5)

    def steps(reach: int, on: Tensor, at: Tensor) -> Tensor:
        return on * (((2 * reach + 1) * at).floor() - reach)

    def turn(reach: float, on: Tensor, at: Tensor) -> Tensor:
        return on * reach * (2 * at - 1)

    def factor(deviation: float, on: Tensor, at: Tensor) -> Tensor:
        return (on * deviation * at).exp2()

    turned = applied[5] * (uniform[5] < augmentation.anisotropic_rotation)
    return Transforms(
        flip_x=flip(augmentation.horizontal_flip, applied[0], uniform[0]),
        flip_y=flip(augmentation.vertical_flip, applied[1], uniform[1]),
        shift_x=steps(augmentation.translation, applied[2], uniform[2]),
        shift_y=steps(augmentation.translation, applied[2], uniform[3]),
        scale=factor(augmentation.scaling, applied[3], normal[0]),
        angle=turn(math.radians(augmentation.rotation), applied[4], uniform[4]),
        stretch=factor(augmentation.anisotropic_scaling, applied[5], normal[1]),
        stretch_axis=turn(math.pi, turned, uniform[6]),
        brightness=applied[6] * augmentation.brightness * normal[2],
        contrast=factor(augmentation.contrast, applied[7], normal[3]),
        hue=turn(augmentation.hue, applied[8], uniform[7]),
        saturation=factor(augmentation.saturation, applied[9], normal[4]),
    )


def transformed(images: Tensor, maps: Tensor, colours: Tensor, levels: int) -> Tensor:
    """Images uint8 [n, C, H, W] under maps [n, 2, 3] and colours [n, C, C + 1], both on the CPU.

    Values are clipped to 0 .. levels - 1 and rounded, halves upwards. Images that nothing is done to stay as they are.
    """
    moved = (maps != torch.eye(2, 3)).flatten(1).any(1)
    recoloured = (colours != torch.eye(images.shape[1], images.shape[1] + 1)).flatten(1).any(1)
    rows = (moved | recoloured).nonzero().flatten()
    at = rows.to(images.device)
    values = images[at].float()
    for change, some, function in ((maps, moved, _moved), (colours, recoloured, _recoloured)):
        if some.any():
            inside = some[rows].nonzero().flatten().to(images.device)
            values[inside] = function(values[inside], change[some].to(images.device))
    result = images.clone()
    result[at] = values.clamp_(0, levels - 1).add_(0.5).to(torch.uint8)
    return result


# No matrix products below: they would be in the lower precision of the training that asks for the images.


def _moved(values: Tensor, maps: Tensor) -> Tensor:
    _, channels, height, width = values.shape
    x = torch.arange(1 - width, width, 2, device=values.device) / width  # centres of pixels
    y = torch.arange(1 - height, height, 2, device=values.device) / height
    along_x, along_y, shift = maps[:, None, None].unbind(-1)  # [n, 1, 1, 2]
    grid = along_x * x[:, None] + along_y * y[:, None, None] + shift  # [n, H, W, 2]
    outside = "zeros" if channels == 1 else "reflection"
    return functional.grid_sample(values, grid, padding_mode=outside, align_corners=False)


def _recoloured(values: Tensor, colours: Tensor) -> Tensor:
    *linear, offset = colours[..., None, None].unbind(2)  # [n, C, 1, 1] each
    return sum((column * values[:, i, None] for i, column in enumerate(linear)), start=offset)


class Augmented:
    """A source whose images are those of another one under random transforms.

    The transforms at a position are a pure function of (seed, position), whatever the device. Two devices may round a
    pixel differently where it lies halfway between two levels.

    Args:
        base: the source.
        augmentation: the transforms.
        probability: b, with which each transform is applied to an image.
        levels: grey levels of the images.
        seed: seed of the trial.

    Raises:
        SpecError: the probability is no number from above 0 to 1.
    """

    def __init__(
        self, base: "Source", augmentation: Augmentation, *, probability: float, levels: int, seed: int
    ) -> None:
        if not 0 < probability <= 1:
            raise SpecError(f"the probability of an augmentation must be > 0 and <= 1; got {probability!r}")
        self._base = base
        self._augmentation = augmentation
        self._probability = probability
        self._levels = levels
        self._seed = seed
        self._last: tuple[int, Tensor, Tensor] | None = None

    def images(self, start: int, stop: int) -> Tensor:
        return self._augmented(self._base.images(start, stop), start)

    def held_out(self, count: int) -> Tensor:
        """Images that no training is trained on where the base has any, or else its first ones, under transforms that
        no position of a training gets; the same at every call."""
        images = self._base.held_out(count)
        return self._augmented(self._base.images(0, count) if images is None else images, FRESH * BLOCK)

    def _augmented(self, images: Tensor, start: int) -> Tensor:
        """Images of the positions from ``start`` on, block by block."""
        parts = []
        stop = start + len(images)
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            low, high = max(start, block * BLOCK), min(stop, (block + 1) * BLOCK)
            some = images[low - start : high - start]
            maps, colours = self._changes(block, some)
            rows = slice(low - block * BLOCK, high - block * BLOCK)
            parts.append(transformed(some, maps[rows], colours[rows], self._levels))
        return torch.cat(parts)

    def _changes(self, block: int, images: Tensor) -> tuple[Tensor, Tensor]:
        """The maps and colours of all positions of a block, for images such as these: float32 on the CPU."""
        if self._last is None or self._last[0] != block:  # ranges end within a block
            generator = torch.Generator().manual_seed(stream_seed(self._seed, "augmentation", block))
            transforms = draw(self._augmentation, self._probability, BLOCK, generator)
            maps = transforms.maps(*images.shape[2:]).float()
            self._last = block, maps, transforms.colours(images.shape[1], self._levels).float()
        return self._last[1:]
