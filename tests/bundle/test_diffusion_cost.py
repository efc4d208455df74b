"""The cost of diffusion models: the layers of the networks are counted as torch counts them."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vaegen_ray.bundle.cost import CPU_CORE
from vaegen_ray.bundle.diffusion_cost import diffusion_seconds, network_cost, sampling_seconds
from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.spec.diffusion import DiffusionSpec
from vaegen_ray.sweep.defaults import base_stream

SMALL = base_stream("mnist", "laptop").diffusion


@pytest.mark.parametrize(
    "model",
    [
        DiffusionSpec(),
        base_stream("digits", "smoke").diffusion,
        SMALL,
        replace(SMALL, attention=(8, 16), blocks=2, channels=16),
        replace(SMALL, multipliers=(2, 2), image_shape=(3, 16, 8)),
        replace(base_stream("cifar10", "paper").diffusion, channels=16),
    ],
    ids=["mlp", "smoke", "small", "attention", "colours", "ddpm++"],
)
def test_flops_are_those_that_torch_counts(model: DiffusionSpec) -> None:
    # Attention, which the layer counts as two products, is one that torch counts on some devices alone.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        denoiser = build_denoiser(model).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            denoiser(torch.zeros(1, *model.image_shape), torch.ones(1))
        assert network_cost(model).flops == counter.get_total_flops()


def test_a_training_is_as_long_as_its_images_and_a_sampling_as_its_shards() -> None:
    stream = base_stream("digits", "laptop")
    model = stream.diffusion
    once = diffusion_seconds(model, CPU_CORE, 1)
    assert diffusion_seconds(replace(model, images=2 * model.images), CPU_CORE, 1) == pytest.approx(2 * once, rel=1e-3)
    assert diffusion_seconds(model, CPU_CORE, 8) == once  # an MLP has one core
    assert diffusion_seconds(SMALL, CPU_CORE, 8) < 0.2 * diffusion_seconds(SMALL, CPU_CORE, 1)
    shard = sampling_seconds(stream, 1, CPU_CORE)
    assert sampling_seconds(stream, stream.shard_size, CPU_CORE) == shard
    assert sampling_seconds(stream, stream.shard_size + 1, CPU_CORE) == 2 * shard
    assert sampling_seconds(stream, 1, CPU_CORE.faster(2.0, 2.0, 2.0)) == pytest.approx(shard / 2)
