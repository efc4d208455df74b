"""A layer as data, and what a part of a network must say of its layers. Needs no torch."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from vaegen_ray.spec.trial import TrialSpec

Kind = Literal["linear", "conv", "transposed"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One affine map of one member, with or without a BatchNorm behind it."""

    name: str
    kind: Kind
    n_in: int
    """Input features or channels."""
    n_out: int
    """Output features or channels."""
    kernel: int = 1
    """Side of the kernel, pixels."""
    stride: int = 1
    cells: int = 1
    """Positions at which the kernel is applied for one image: output pixels, or input pixels of a transposed one."""
    bias: bool = True
    norm: bool = False
    """A BatchNorm with scale and shift follows."""
    in_theta_z: bool = False
    """Belongs to Theta_z: the last layer of the encoder or the first of the decoder (xiao2024, section 4.2)."""

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Linear: [in, out]. Convolution: [out, in, k, k]; transposed: [in, out, k, k]."""
        if self.kind == "linear":
            return (self.n_in, self.n_out)
        ends = (self.n_in, self.n_out) if self.kind == "transposed" else (self.n_out, self.n_in)
        return (*ends, self.kernel, self.kernel)

    @property
    def params(self) -> int:
        """Trainable numbers, the scale and shift of a BatchNorm included."""
        return self.affine_params + 2 * self.n_out * self.norm

    @property
    def affine_params(self) -> int:
        """Trainable numbers of the affine map alone."""
        return math.prod(self.weight_shape) + self.n_out * self.bias

    @property
    def outputs(self) -> int:
        """Numbers that the layer puts out for one image."""
        return self.n_out * self.cells * (self.stride**2 if self.kind == "transposed" else 1)


class Part(Protocol):
    """An encoder or a decoder (``networks.NetworkPart``)."""

    def __init__(self, spec: TrialSpec, members: int) -> None:
        """Builds the module for ``members`` trials of one shape."""

    @staticmethod
    def build_layers(spec: TrialSpec) -> tuple[Layer, ...]:
        """The layers in order of use."""


PartType = type[Part]
"""The class of an encoder or a decoder."""
