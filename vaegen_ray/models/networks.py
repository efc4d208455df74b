"""Encoders and decoders of M members as one module.

Letters: M members, B batch, C channels (or features), H and W pixels, Z latent dimensions, K likelihood channels.

Every weight has a leading member dimension. Fully-connected layers are batched matrix products. Convolutions run in a
loop over the members, so that a member is computed alone and among others in the same way, to the bit on a CPU; or,
for speed, as one grouped convolution over stacked channels [B, M*C, H, W], which rounds differently: after 50 steps a
third of the members of nc 16 are off by more than 1e-4. ``benchmarks/bundle_step.py`` measures both. A BatchNorm over
stacked channels keeps its statistics for each member by construction.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaegen_ray.models import registry
from vaegen_ray.models.layer import Layer
from vaegen_ray.models.layout import decoder_layers, encoder_layers, latent_grid
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.trial import TrialSpec


class MemberLayer(nn.Module):
    """One ``Layer`` for M members: an affine map, then BatchNorm where the layer has one.

    ``member`` selects one member: the input then has that member's channels alone.
    """

    def __init__(self, layer: Layer, members: int) -> None:
        super().__init__()
        self.layer = layer
        self.running_mean: Tensor
        self.running_var: Tensor
        self.weight = nn.Parameter(torch.empty(members, *layer.weight_shape))
        if layer.bias:
            shape = (members, 1, layer.n_out) if layer.kind == "linear" else (members, layer.n_out)
            self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(shape))
        else:
            self.bias = None
        if layer.norm:
            self.scale = nn.Parameter(torch.ones(members, layer.n_out))
            self.shift = nn.Parameter(torch.zeros(members, layer.n_out))
            self.register_buffer("running_mean", torch.zeros(members, layer.n_out))
            self.register_buffer("running_var", torch.ones(members, layer.n_out))

    def initialise(self, member: int, generator: torch.Generator) -> None:
        """Draws a member's weights and bias uniformly in +-1/sqrt(fan_in), PyTorch's default for these layers."""
        weight = self.weight.detach()[member]
        fan_in = self.layer.n_in if self.layer.kind == "linear" else math.prod(weight.shape[1:])
        bound = 1 / math.sqrt(fan_in)
        for target in (weight,) if self.bias is None else (weight, self.bias.detach()[member]):
            target.copy_(torch.empty(target.shape).uniform_(-bound, bound, generator=generator))

    def forward(self, x: Tensor, member: int | None = None) -> Tensor:
        """[M, B, in] -> [M, B, out] for linear layers, [B, M*in, H, W] -> [B, M*out, H', W'] for convolutions."""
        if self.layer.kind == "linear":
            assert self.bias is not None
            return torch.baddbmm(self.bias, x, self.weight)
        pick = slice(None) if member is None else slice(member, member + 1)
        weight = self.weight[pick].flatten(0, 1)
        bias = None if self.bias is None else self.bias[pick].flatten()
        groups = weight.shape[0] // self.layer.weight_shape[0]
        if self.layer.kind == "transposed":
            x = F.conv_transpose2d(x, weight, bias, stride=self.layer.stride, padding=1, groups=groups)
        else:
            padding = (self.layer.kernel - 1) // 2
            x = F.conv2d(x, weight, bias, stride=self.layer.stride, padding=padding, groups=groups)
        if not self.layer.norm:
            return x
        return F.batch_norm(
            x,
            self.running_mean[pick].view(-1),
            self.running_var[pick].view(-1),
            self.scale[pick].flatten(),
            self.shift[pick].flatten(),
            training=self.training,
        )


class Network(nn.Module):
    """What both architectures share: layers by name, initialised member by member."""

    def __init__(self, layers: tuple[Layer, ...], members: int) -> None:
        super().__init__()
        self.members = members
        self.layers = nn.ModuleDict({layer.name: MemberLayer(layer, members) for layer in layers})

    def initialise(self, member: int, generator: torch.Generator) -> None:
        for layer in self.layers.values():
            assert isinstance(layer, MemberLayer)
            layer.initialise(member, generator)

    def chain(self, h: Tensor) -> Tensor:
        """One layer after another, with ReLU between them."""
        *hidden, last = self.layers.values()
        for layer in hidden:
            h = layer(h).relu_()
        return last(h)


class NetworkPart(Network):
    """The base of an encoder or decoder that is registered outside of the package (``registry``).

    A subclass says its layers, from which it is built and its parameters and FLOPs are counted, and how an input goes
    through them: ``self.layers[name](h)`` is one layer of all members. With ``ConvolutionalNetwork`` as a second base
    it says ``apply_layers`` instead, the way of one member. Attributes: ``spec``, the specification of the members.
    """

    def __init__(self, spec: TrialSpec, members: int) -> None:
        super().__init__(type(self).build_layers(spec), members)
        self.spec = spec

    @staticmethod
    def build_layers(spec: TrialSpec) -> tuple[Layer, ...]:
        """The layers in order of use; all weights belong to one of them."""
        raise AssertionError("every network of your own says its layers")


class FullyConnectedEncoder(Network):
    """pixels - nc - ... - nc - 2Z with ReLU (xiao2024, Appendix B.1; bozkurt2021, Section 4.3)."""

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, C, H, W] -> [M, B, 2Z]."""
        return self.chain(x.flatten(2))


class FullyConnectedDecoder(Network):
    """Z - nc - ... - nc - K*H*W with ReLU (xiao2024, Appendix B.1; bozkurt2021, Section 4.3)."""

    def __init__(self, layers: tuple[Layer, ...], members: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(layers, members)
        self.size = image_shape[1:]

    def forward(self, z: Tensor) -> Tensor:
        """[M, B, Z] -> [M, B, K, H, W]."""
        return self.chain(z).unflatten(2, (-1, *self.size))


class ConvolutionalNetwork(Network):
    """Runs ``apply_layers`` once over stacked channels, or member by member."""

    loop_over_members = True

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, C, H, W] -> [M, B, C', H', W']."""
        members = x.shape[0]
        if self.loop_over_members or members == 1:
            return torch.stack([self.apply_layers(x[m], m) for m in range(members)])
        stacked = x.transpose(0, 1).flatten(1, 2)
        return self.apply_layers(stacked, None).unflatten(1, (members, -1)).transpose(0, 1)

    def apply_layers(self, h: Tensor, member: int | None) -> Tensor:
        raise AssertionError("every convolutional network has its own layers")

    def block(self, name: str, h: Tensor, member: int | None) -> Tensor:
        """Residual block (xiao2024, Table 6): h + BN(conv(ReLU(BN(conv(ReLU(h))))))."""
        inner = self.layers[f"{name}_first"](h.relu(), member)
        return h + self.layers[f"{name}_second"](inner.relu_(), member)


class ResidualEncoder(ConvolutionalNetwork):
    """xiao2024, Table 4: two stride-2 convolutions, two residual blocks, a 1x1 convolution to 2*mz channels."""

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, C, H, W] -> [M, B, 2Z] with Z = mz * (H/4) * (W/4)."""
        return super().forward(x).flatten(2)

    def apply_layers(self, h: Tensor, member: int | None) -> Tensor:
        h = self.layers["down1"](h, member).relu_()
        h = self.layers["down2"](h, member)
        for name in ("block1", "block2"):
            h = self.block(name, h, member)
        return self.layers["posterior"](h, member)


class ResidualDecoder(ConvolutionalNetwork):
    """xiao2024, Table 5, with two transposed convolutions: mz channels on the latent grid to K on the image."""

    def __init__(self, layers: tuple[Layer, ...], members: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(layers, members)
        self.grid = (image_shape[1] // 4, image_shape[2] // 4)

    def forward(self, z: Tensor) -> Tensor:
        """[M, B, Z] -> [M, B, K, H, W]."""
        return super().forward(z.unflatten(2, (-1, *self.grid)))

    def apply_layers(self, h: Tensor, member: int | None) -> Tensor:
        h = self.layers["latent"](h, member)
        for name in ("block1", "block2"):
            h = self.block(name, h, member)
        for name in ("up1", "up2"):
            h = self.layers[name](h, member).relu_()
        return self.layers["out"](h, member)


class StridedEncoder(ConvolutionalNetwork):
    """Convolutions of kernel 4 and stride 2 with ReLU, then an affine map to 2Z (bozkurt2021, Section 4.3)."""

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, C, H, W] -> [M, B, 2Z]."""
        return self.layers["posterior"](super().forward(x).flatten(2))

    def apply_layers(self, h: Tensor, member: int | None) -> Tensor:
        for name, layer in self.layers.items():
            if name != "posterior":
                h = layer(h, member).relu_()
        return h


class StridedDecoder(ConvolutionalNetwork):
    """An affine map of z with ReLU, then transposed convolutions of kernel 4 and stride 2, ReLU between them
    (bozkurt2021, Section 4.3)."""

    def __init__(self, layers: tuple[Layer, ...], members: int, grid: tuple[int, int]) -> None:
        super().__init__(layers, members)
        self.grid = grid

    def forward(self, z: Tensor) -> Tensor:
        """[M, B, Z] -> [M, B, K, H, W]."""
        return super().forward(self.layers["latent"](z).relu_().unflatten(2, (-1, *self.grid)))

    def apply_layers(self, h: Tensor, member: int | None) -> Tensor:
        _, *hidden, last = self.layers.values()
        for layer in hidden:
            h = layer(h, member).relu_()
        return last(h, member)


def build_networks(specs: list[TrialSpec]) -> tuple[Network, Network]:
    """Encoder and decoder for the members ``specs`` (of one shape), each initialised from its own seed."""
    spec, members = specs[0], len(specs)
    encoder: Network
    decoder: Network
    if spec.network_version:
        network = registry.find_network(spec)
        parts = network.encoder(spec, members), network.decoder(spec, members)
        encoder, decoder = cast("tuple[Network, Network]", parts)  # conformance checks it
    elif spec.architecture == "fully_connected":
        encoder = FullyConnectedEncoder(encoder_layers(spec), members)
        decoder = FullyConnectedDecoder(decoder_layers(spec), members, spec.image_shape)
    elif spec.architecture == "convolutional":
        encoder = StridedEncoder(encoder_layers(spec), members)
        decoder = StridedDecoder(decoder_layers(spec), members, latent_grid(spec))
    else:
        encoder = ResidualEncoder(encoder_layers(spec), members)
        decoder = ResidualDecoder(decoder_layers(spec), members, spec.image_shape)
    for member, each in enumerate(specs):
        generator = torch.Generator().manual_seed(stream_seed(each.seed, "init"))
        encoder.initialise(member, generator)
        decoder.initialise(member, generator)
    return encoder, decoder
