"""Where training batches come from: endless, numbered sequences of images.

A source answers one question: which images stand at positions ``start .. stop - 1``? Step s of a training with batch
size B reads positions s*B .. (s+1)*B - 1, and N positions are one effective epoch. The answer is a pure function of the
source, so training can stop and go on anywhere.
"""

from typing import Protocol

import torch
from torch import Tensor

from vaegen_ray.seeds import stream_seed
from vaegen_ray.trial import TrialSpec


class Source(Protocol):
    """An endless sequence of training images."""

    def images(self, start: int, stop: int) -> Tensor:
        """The images at positions start .. stop - 1: uint8 [stop - start, C, H, W], on the device of the training."""


class Repetitions:
    """Normal training: the training set again and again, in a new order each pass (xiao2024, Algorithm 1).

    Args:
        images: the training set, uint8 [N, C, H, W].
        seed: seed of the trial, from which the order of each pass is drawn.
    """

    def __init__(self, images: Tensor, seed: int) -> None:
        self._images = images
        self._seed = seed

    def order(self, number: int) -> Tensor:
        """The order of the images in pass ``number``: a permutation, int64 [N]."""
        generator = torch.Generator().manual_seed(stream_seed(self._seed, "order", number))
        return torch.randperm(len(self._images), generator=generator)

    def images(self, start: int, stop: int) -> Tensor:
        n = len(self._images)
        first, last = start // n, (stop - 1) // n
        order = torch.cat([self.order(number) for number in range(first, last + 1)])
        return self._images[order[start - first * n : stop - first * n].to(self._images.device)]


def source_of(spec: TrialSpec, train: Tensor) -> Source:
    """The source that a trial names with ``method``."""
    assert spec.method == "normal", spec.method
    return Repetitions(train, spec.seed)
