"""Sets of images as bytes: small enough to live on the device, exact enough to be named by a digest.

Letters: N images, C channels, H height, W width.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vaegen_ray.errors import DataFormatError, SpecError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one shape, checked on creation. Two sets are the same when their ``digest()`` is.

    Raises:
        DataFormatError: the array is not what the fields below say.
    """

    images: np.ndarray
    """uint8 [N, C, H, W], C-contiguous, N >= 1; values are 0 .. levels - 1."""
    levels: int
    """Grey levels of a pixel, from 2 to 256."""

    def __post_init__(self) -> None:
        images = self.images
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
            got = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
            raise DataFormatError(f"images must be a uint8 array; got {got}")
        if images.ndim != 4 or 0 in images.shape:
            raise DataFormatError(f"images must have the shape [N, C, H, W] with no zero in it; got {images.shape}")
        if not images.flags.c_contiguous:
            raise DataFormatError(f"images must be C-contiguous; got strides {images.strides} for {images.shape}")
        if not 2 <= self.levels <= 256:
            raise DataFormatError(f"levels must be from 2 to 256; got {self.levels!r}")
        if (largest := int(images.max())) >= self.levels:
            raise DataFormatError(f"pixel values must be 0 .. {self.levels - 1}; got {largest}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def take(self, indices: Sequence[int] | np.ndarray) -> "ImageSet":
        """The images at ``indices``, in that order, as a copy."""
        return ImageSet(self.images[np.asarray(indices)], self.levels)

    def owned(self) -> "ImageSet":
        """A copy, which can be written to."""
        return ImageSet(self.images.copy(), self.levels)

    def first(self, n: int) -> "ImageSet":
        """The first ``n`` images, as a copy, so that the memory of the others can be freed."""
        if not 1 <= n <= len(self):
            raise SpecError(f"the number of images must be from 1 to {len(self)}; got {n!r}")
        return ImageSet(self.images[:n].copy(), self.levels)

    def padded(self, size: int) -> "ImageSet":
        """The images in the centre of size x size, zeros around: 28 -> 32 adds 2 pixels on each side.

        An odd difference puts the extra pixel below and to the right.
        """
        _, height, width = self.shape
        if size < max(height, width):
            raise SpecError(f"image_size must be >= {max(height, width)}, the side of the images; got {size!r}")
        sides = [((size - side) // 2, size - side - (size - side) // 2) for side in (height, width)]
        return ImageSet(np.pad(self.images, [(0, 0), (0, 0), *sides]), self.levels)

    def requantised(self, levels: int) -> "ImageSet":
        """The images in ``levels`` grey levels: the same number, or 2 by rounding at half of the full intensity.

        256 -> 2 is x >= 128, 17 -> 2 is x >= 8: the fixed binarisation that makes every run see the same bits.
        """
        if levels == self.levels:
            return self
        if levels != 2:
            raise SpecError(f"levels can stay {self.levels} or become 2; got {levels!r}")
        return ImageSet((self.images >= self.levels // 2).astype(np.uint8), 2)

    def digest(self) -> str:
        """SHA-256 of shape, levels and bytes, in hexadecimal."""
        digest = hashlib.sha256(f"{self.images.shape}/{self.levels}/".encode())
        digest.update(self.images.data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a set, in an order of their own. Subsets of one set share its memory, on their way too."""

    base: ImageSet
    indices: np.ndarray
    """int64 [n]: which images."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def levels(self) -> int:
        """Grey levels of a pixel."""
        return self.base.levels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.base.shape

    @property
    def images(self) -> np.ndarray:
        """uint8 [n, C, H, W], a new array each time."""
        return self.base.images[self.indices]

    def owned(self) -> ImageSet:
        """The images as a set of their own."""
        return ImageSet(self.images, self.levels)

    def digest(self) -> str:
        """That of ``owned``."""
        return self.owned().digest()


@dataclass(frozen=True, eq=False)
class Split:
    """A training set and the test set that goes with it; no image is in both."""

    train: ImageSet | Subset
    """What models are trained on, in the fixed shuffled order."""
    test: ImageSet | Subset
    """What generalisation is measured on."""
    test_labels: np.ndarray | None = None
    """Classes of the test images from 0 on, int64 [N_test]; None when they are not on this machine."""
    corrupted: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Corrupted versions of the test images by name, uint8 [N_test, C, H, W]; empty where none were asked for."""

    def tested_on(self, n: int, order: np.ndarray) -> "Split":
        """The same with ``n`` test images, the first of ``order`` (int64 [N_test])."""
        chosen = order[:n]
        return replace(
            self,
            test=ImageSet(self.test.images[chosen], self.test.levels),
            test_labels=None if self.test_labels is None else self.test_labels[chosen],
            corrupted={name: images[chosen] for name, images in self.corrupted.items()},
        )
