"""How long a diffusion model is trained, and its samples are made: FLOPs of the networks in ``diffusion.network``."""

import math
from dataclasses import dataclass

from vaegen_ray.bundle.cost import FORWARD_PART, Device
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """What one evaluation of a network costs for an image."""

    flops: int
    """Two for each multiplication with a weight or of attention."""
    layers: int
    """Affine maps, each with a launch of its own."""


def network_cost(model: DiffusionSpec) -> NetworkCost:
    """Counts the layers of a network; as torch's ``FlopCounterMode`` does, without torch."""
    maps = _mlp(model) if model.network == "mlp" else _unet(model)
    return NetworkCost(flops=2 * sum(maps), layers=len(maps))


def diffusion_seconds(model: DiffusionSpec, device: Device, devices: int) -> float:
    """Expected duration of the training of a model: on a GPU, an MLP on one core, a U-Net on all cores."""
    cost, layer = network_cost(model), device.linear if model.network == "mlp" else device.conv
    cores = devices if device.kind == "cpu" and model.network == "unet" else 1
    arithmetic = 3 * cost.flops * model.images / (layer.flops_per_second * cores)
    return arithmetic + model.steps * cost.layers * layer.launch_seconds


def sampling_seconds(stream: StreamSpec, samples: int, device: Device) -> float:
    """Expected duration of the making of samples on one device, in whole shards."""
    model = stream.diffusion
    cost, layer = network_cost(model), device.linear if model.network == "mlp" else device.conv
    made = stream.shards(samples) * stream.shard_size
    launches = made / stream.batch_size * cost.layers * layer.launch_seconds * FORWARD_PART
    return stream.sampler.evaluations * (made * cost.flops / layer.flops_per_second + launches)


def _mlp(model: DiffusionSpec) -> list[int]:
    """Multiplications of each layer for one image."""
    pixels, width = math.prod(model.image_shape), model.channels
    block = [2 * width**2, width**2, width**2]
    return [64 * width, width**2, pixels * width, *block * model.blocks, width * pixels]


def _unet(model: DiffusionSpec) -> list[int]:
    colours, height, width = model.image_shape
    channels = model.channels
    embedding = 4 * channels
    widths = [channels * each for each in model.multipliers]
    cells = [(height >> level) * (width >> level) for level in range(len(widths))]
    attends = [height >> level in model.attention for level in range(len(widths))]

    def block(inputs: int, outputs: int, level: int, attention: bool, resized: bool = False) -> list[int]:
        at = cells[level]
        maps = [9 * inputs * outputs * at, embedding * outputs, 9 * outputs**2 * at]
        maps += [inputs * outputs * at] * (inputs != outputs or resized)
        return maps + [3 * outputs**2 * at, 2 * at**2 * outputs, outputs**2 * at] * attention

    maps = [channels * embedding, embedding**2, 9 * colours * channels * cells[0]]
    skips, now = [channels], channels
    for level, outputs in enumerate(widths):
        if level:
            maps += block(now, now, level, attention=False, resized=True)
            skips.append(now)
        for _ in range(model.blocks):
            maps += block(now, outputs, level, attends[level])
            now = outputs
            skips.append(now)
    for level, outputs in reversed(list(enumerate(widths))):
        if level == len(widths) - 1:
            maps += block(now, now, level, attention=True) + block(now, now, level, attention=False)
        else:
            maps += block(now, now, level, attention=False, resized=True)
        for i in range(model.blocks + 1):
            maps += block(now + skips.pop(), outputs, level, attends[level] and i == model.blocks)
            now = outputs
    return [*maps, 9 * now * colours * cells[0]]
