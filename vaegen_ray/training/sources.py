"""Where training batches come from: endless, numbered sequences of images.

A source answers one question: which images stand at positions ``start .. stop - 1``? Step s of a training with batch
size B reads positions s*B .. (s+1)*B - 1, and N positions are one effective epoch. The answer is a pure function of the
source, so training can stop and go on anywhere.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.method import real_before

HELD_BYTES = 2**31
"""A member's view of samples that is read again is kept on the device up to this size."""


class Source(Protocol):
    """An endless sequence of training images."""

    def images(self, start: int, stop: int) -> Tensor:
        """The images at positions start .. stop - 1: uint8 [stop - start, C, H, W], on the device of the training."""

    def held_out(self, count: int) -> Tensor | None:
        """``count`` images of the distribution trained on, which no training reads where that has no end; for
        evaluation. None where it is the training set."""


class ShuffledEpochs:
    """Normal training: the training set again and again, in a new order each pass (xiao2024, Algorithm 1).

    Args:
        images: the training set, uint8 [N, C, H, W].
        seed: seed of the trial, from which the order of each pass is drawn.
    """

    def __init__(self, images: Tensor, seed: int) -> None:
        self._images = images
        self._seed = seed
        self._last_order: tuple[int, Tensor] | None = None

    def order(self, number: int) -> Tensor:
        """The order of the images in pass ``number``: a permutation, int64 [N]."""
        if self._last_order is None or self._last_order[0] != number:  # ranges end within a pass
            self._last_order = number, permutation(len(self._images), self._seed, number)
        return self._last_order[1]

    def images(self, start: int, stop: int) -> Tensor:
        n = len(self._images)
        first, last = start // n, (stop - 1) // n
        order = torch.cat([self.order(number) for number in range(first, last + 1)])
        return self._images[order[start - first * n : stop - first * n].to(self._images.device)]

    def held_out(self, count: int) -> None:
        return None


class Samples(Protocol):
    """A stream of diffusion samples, by number. What is asked for is waited for."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples start .. stop - 1: uint8 [stop - start, C, H, W], in the levels of the diffusion model."""

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Samples by number, in that order: uint8 [len(numbers), C, H, W]."""


OpenStream = Callable[[StreamSpec], Samples]
"""Opens a stream."""


class Synthetic:
    """DMaaPx: samples of a diffusion model in place of the training set (xiao2024, Algorithm 2).

    Position p is sample p as long as samples last; so effective epoch t reads the t-th N of them. When all ``distinct``
    ones were seen they come again, in a new order each pass.

    Args:
        samples: the stream.
        distinct: samples that may be used; None: as many as are asked for, none twice.
        levels: grey levels of the samples.
        wanted_levels: grey levels of the images; the same, or 2 for rounding at half of the full intensity.
        seed: seed of the trial, from which the order of each later pass is drawn.
        held_out_from: number of the first of the samples that no trial is trained on.
        device: where images are wanted.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        distinct: int | None,
        levels: int,
        wanted_levels: int,
        seed: int,
        held_out_from: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._samples = samples
        self._held_out_from = held_out_from
        self._distinct = distinct
        self._threshold = None if wanted_levels == levels else levels // 2
        self._seed = seed
        self._device = torch.device(device)
        self._held: Tensor | None = None
        self._last_order: tuple[int, Tensor] | None = None

    def images(self, start: int, stop: int) -> Tensor:
        if self._distinct is None:
            return self._rounded(self._samples.read(start, stop))
        parts = []
        while start < stop:
            number, first = divmod(start, self._distinct)
            last = min(self._distinct, first + stop - start)
            parts.append(self._read_pass(number, first, last))
            start += last - first
        return torch.cat(parts)

    def held_out(self, count: int) -> Tensor:
        return self._rounded(self._samples.read(self._held_out_from, self._held_out_from + count))

    def _read_pass(self, number: int, first: int, last: int) -> Tensor:
        assert self._distinct is not None
        if number == 0:
            return self._rounded(self._samples.read(first, last))
        if self._last_order is None or self._last_order[0] != number:
            self._last_order = number, permutation(self._distinct, self._seed, number)
        order = self._last_order[1][first:last]
        if self._held is None and self._distinct * self._sample_bytes() <= HELD_BYTES:
            self._held = self._rounded(self._samples.read(0, self._distinct))
        if self._held is None:
            return self._rounded(self._samples.take(order.numpy()))
        return self._held[order.to(self._device)]

    def _sample_bytes(self) -> int:
        return self._samples.read(0, 1).nbytes

    def _rounded(self, samples: np.ndarray) -> Tensor:
        """Samples, which may be read-only memory of others, as images of the data set."""
        images = samples.copy() if self._threshold is None else (samples >= self._threshold).astype(np.uint8)
        return torch.from_numpy(images).to(self._device)


def permutation(n: int, seed: int, number: int) -> Tensor:
    """The order of n images in pass ``number`` under a trial's seed: int64 [n]."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "order", number))
    return torch.randperm(n, generator=generator)


class Mixture:
    """Real images and samples (xiao2024, Appendix B.7), spread evenly: before position p stand p * percent // 100 real
    ones, so every batch has the same share of them but for one image.

    Args:
        real, synthetic: where each kind comes from, in its own order.
        percent: the part of real images.
    """

    def __init__(self, real: Source, synthetic: Source, percent: int) -> None:
        self._real = real
        self._synthetic = synthetic
        self._percent = percent

    def images(self, start: int, stop: int) -> Tensor:
        before = torch.arange(start, stop + 1) * self._percent // 100
        is_real = before.diff() == 1
        first, last = (real_before(position, self._percent) for position in (start, stop))
        parts = []
        for source, begin, end in ((self._real, first, last), (self._synthetic, start - first, stop - last)):
            parts += [source.images(begin, end)] if end > begin else []
        places = torch.cat((is_real.nonzero(), (~is_real).nonzero())).flatten().argsort()
        mixed = torch.cat(parts)
        return mixed[places.to(mixed.device)]

    def held_out(self, count: int) -> Tensor:
        real = real_before(count, self._percent)
        synthetic = self._synthetic.held_out(count - real)
        assert synthetic is not None
        return torch.cat([self._real.images(0, real), synthetic]) if real else synthetic
