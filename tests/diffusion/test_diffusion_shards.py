"""From weights to shards: every maker makes the same bytes, and they are the samples that the numbers say."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from vaegen_ray.data import catalog
from vaegen_ray.diffusion import shards as sampling_module
from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.diffusion.shards import ShardMaker, load_weights, one_thread, quantise
from vaegen_ray.diffusion.training import DiffusionTrainer
from vaegen_ray.errors import DataFormatError, VaegenError
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.diffusion import EVALUATION_SHARD, DiffusionSpec, Sampler, StreamSpec

DIGITS = DiffusionSpec(
    n_train=200, channels=32, blocks=2, images=40_000, batch_size=64, warmup_images=2000, learning_rate=4e-3
)
UNET = DiffusionSpec(
    network="unet", channels=8, multipliers=(1, 2), blocks=1, attention=(4,), image_shape=(3, 8, 8), levels=256
)
QUICK = Sampler(steps=4)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return catalog.load("digits", levels=17, n_train=200).train.images


@pytest.fixture(scope="module")
def weights(digits: np.ndarray) -> dict[str, Tensor]:
    """A model of the digits after a short training."""
    trainer = DiffusionTrainer(DIGITS, torch.from_numpy(np.array(digits)))
    trainer.advance(1e9)
    return trainer.averaged()


def initial(spec: DiffusionSpec) -> dict[str, Tensor]:
    """Weights of which none is zero."""
    draw = torch.Generator().manual_seed(3)
    named = build_denoiser(spec).named_parameters()
    return {name: p.detach() + 0.1 * torch.randn(p.shape, generator=draw) for name, p in named}


def open_stream(spec: DiffusionSpec = DIGITS, **changes) -> StreamSpec:
    return StreamSpec(**{"diffusion": spec, "sampler": QUICK, "shard_size": 12, "batch_size": 4, **changes})


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_quantised_images_are_the_nearest_values(levels: int) -> None:
    x = torch.linspace(-1.5, 1.5, 9999, dtype=torch.float64).view(1, 1, 1, -1)
    got = quantise(x.float(), levels)
    assert got.dtype == np.uint8 and got.flags.c_contiguous and got.shape == x.shape
    back = got * (2 / (levels - 1)) - 1
    assert np.abs(back - x.clamp(-1, 1).numpy()).max() <= 1 / (levels - 1) + 1e-6
    assert sorted(set(got.ravel().tolist())) == list(range(levels))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_values_outside_are_cut_and_midpoints_have_a_neighbour_of_theirs(levels: int) -> None:
    outside = torch.tensor([-1.0, -1.001, -50.0, -torch.inf, 1.0, 1.001, 50.0, torch.inf]).view(2, 1, 1, 4)
    assert quantise(outside, levels).ravel().tolist() == [0] * 4 + [levels - 1] * 4
    below = np.arange(levels - 1)
    midpoints = torch.from_numpy((2 * below + 1) / (levels - 1) - 1).float().view(1, 1, 1, -1)
    for offset, allowed in ((0.0, (0, 1)), (-1e-3 / levels, (0,)), (1e-3 / levels, (1,))):
        got = quantise(midpoints + offset, levels).ravel().astype(int)
        assert set((got - below).tolist()) <= set(allowed)


@pytest.mark.parametrize("spec", [DIGITS, UNET], ids=["mlp", "unet"])
def test_every_maker_makes_the_same_bytes_in_any_order(spec: DiffusionSpec) -> None:
    weights = initial(spec)
    first, second = ShardMaker(open_stream(spec), weights), ShardMaker(open_stream(spec), weights)
    forward = [first.shard(number) for number in (0, 1, 7)]
    torch.manual_seed(99)  # neither sampling nor dropout hears of it
    backward = [second.shard(number) for number in (7, 1, 0)][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert a.shape == open_stream(spec).shard_shape and a.dtype == np.uint8
        assert a.max() < spec.levels
        assert a.tobytes() == b.tobytes()
    assert len({shard.tobytes() for shard in forward}) == 3
    assert first.shard(1).tobytes() == forward[1].tobytes()


def test_the_number_of_threads_does_not_matter_and_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The floats before rounding are compared too, since two threads change only their last digits."""
    made: list[tuple[int, Tensor]] = []
    sample = sampling_module.sample

    def overheard(*args, **options) -> Tensor:
        images = sample(*args, **options)
        made.append((torch.get_num_threads(), images))
        return images

    monkeypatch.setattr(sampling_module, "sample", overheard)
    maker = ShardMaker(open_stream(UNET, shard_size=4), initial(UNET))
    alone = maker.shard(0)
    torch.set_num_threads(2)
    try:
        assert maker.shard(0).tobytes() == alone.tobytes()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    (threads, images), (other_threads, other_images) = made
    assert threads == other_threads == 1
    assert torch.equal(images, other_images)


def test_one_thread_is_left_behind_after_errors_too() -> None:
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="ours"), one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError("ours")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("number", [0, 3, EVALUATION_SHARD])
def test_a_shard_is_made_of_the_seeds_that_it_numbers(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    sample = sampling_module.sample

    def overheard(model, seeds, *args, **options) -> Tensor:
        asked.append(list(seeds))
        return sample(model, seeds, *args, **options)

    maker = ShardMaker(open_stream(), initial(DIGITS))
    images = np.concatenate([maker.images(range(12 * number + 4 * i, 12 * number + 4 * i + 4)) for i in range(3)])
    monkeypatch.setattr(sampling_module, "sample", overheard)
    assert maker.shard(number).tobytes() == images.tobytes()
    assert [len(seeds) for seeds in asked] == [4, 4, 4]
    assert [seed for seeds in asked for seed in seeds] == list(range(12 * number, 12 * number + 12))


def test_samples_of_an_untrained_model_are_their_own_noise() -> None:
    """Where D(x) = c_skip x the flow only shrinks the first noise, to sigma_data / sqrt(sigma_data^2 + sigma_max^2) of
    it; so sample i is half of the standard normal image of its own seed."""
    spec = DiffusionSpec(levels=256)
    untrained = {name: parameter.detach() for name, parameter in build_denoiser(spec).named_parameters()}
    maker = ShardMaker(open_stream(spec, sampler=Sampler(steps=100)), untrained)
    got = maker.shard(2)
    for i, image in enumerate(got):
        noise = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(stream_seed(24 + i, "sample")))
        wanted = quantise(0.5 * noise, 256)
        assert np.abs(image.astype(int) - wanted).max() <= 1


def test_shards_may_be_cut_otherwise_and_hold_the_same_samples(weights: dict[str, Tensor]) -> None:
    """Up to rounding, which now and then moves a pixel to the next of its 17 values."""
    large = ShardMaker(open_stream(shard_size=24, batch_size=24), weights).shard(0)
    small = ShardMaker(open_stream(shard_size=6, batch_size=3), weights)
    cut = np.concatenate([small.shard(number) for number in range(4)])
    assert np.abs(large.astype(int) - cut).max() <= 1
    assert (large != cut).mean() < 0.01


def test_a_short_training_already_draws_digits(weights: dict[str, Tensor], digits: np.ndarray) -> None:
    """The mean of the samples is like the mean digit, they differ as digits do, and each seed has its own."""
    maker = ShardMaker(open_stream(sampler=Sampler(), shard_size=100, batch_size=100), weights)
    samples = maker.shard(0)
    assert len({image.tobytes() for image in samples}) == 100
    assert not np.array_equal(samples, maker.shard(1))
    assert np.corrcoef(samples.mean(0).ravel(), digits.mean(0).ravel())[0, 1] > 0.97
    assert samples.mean() == pytest.approx(digits.mean(), rel=0.15)
    assert samples.std(0).mean() == pytest.approx(digits.std(0).mean(), rel=0.2)


def test_bf16_is_near_float32_and_tf32_is_float32_on_a_cpu(weights: dict[str, Tensor]) -> None:
    made = {
        precision: ShardMaker(open_stream(precision=precision, shard_size=100, batch_size=100), weights).shard(0)
        for precision in ("float32", "tf32", "bf16")
    }
    assert np.array_equal(made["float32"], made["tf32"])
    assert not np.array_equal(made["float32"], made["bf16"])
    # Mean distance of a pixel, in its 17 levels: 0.015 between the precisions, 6.9 between samples of two seeds.
    float32, bf16 = made["float32"].astype(int), made["bf16"].astype(int)
    assert np.abs(float32 - bf16).mean() < 0.1
    assert np.abs(float32 - bf16[::-1]).mean() > 3


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_samples_that_are_not_finite_are_an_error_and_no_black_images(value: float) -> None:
    weights = initial(DIGITS)
    weights["network.last.bias"][5] = value
    with pytest.raises(VaegenError, match="not finite"):
        ShardMaker(open_stream(), weights).shard(0)


def test_weights_are_copied() -> None:
    weights = initial(DIGITS)
    denoiser = build_denoiser(DIGITS)
    load_weights(denoiser, weights, "the file")
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    for tensor in weights.values():
        tensor.zero_()
    assert all(torch.equal(parameter, copies[name]) for name, parameter in denoiser.named_parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network.first.bias": None}, "network.first.bias must be (32,); got nothing"),
        ({"network.extra": torch.zeros(2, 3)}, "network.extra must be absent; got (2, 3)"),
        ({"network.last.weight": torch.zeros(1)}, "network.last.weight must be (64, 32); got (1,)"),
        (
            {"network.last.bias": None, "network.first.bias": torch.zeros(31)},
            "network.first.bias must be (32,); got (31,)",
        ),
        ({"a": torch.zeros(()), "network.last.bias": None}, "a must be absent; got ()"),
    ],
)
def test_the_first_difference_of_other_weights_is_named(changes: dict[str, Tensor | None], message: str) -> None:
    weights = {name: tensor for name, tensor in {**initial(DIGITS), **changes}.items() if tensor is not None}
    denoiser = build_denoiser(DIGITS)
    before = {name: parameter.detach().clone() for name, parameter in denoiser.named_parameters()}
    with pytest.raises(DataFormatError) as error:
        load_weights(denoiser, weights, "w.safetensors")
    assert str(error.value) == f"w.safetensors does not fit the declared network: {message}"
    assert all(torch.equal(parameter, before[name]) for name, parameter in denoiser.named_parameters())
    with pytest.raises(DataFormatError, match=re.escape(message)):
        ShardMaker(open_stream(), weights)


def test_churned_samples_are_repeatable_too(weights: dict[str, Tensor]) -> None:
    stream = open_stream(sampler=Sampler(steps=4, churn=2.0))
    shard = ShardMaker(stream, weights).shard(1)
    assert np.array_equal(shard, ShardMaker(stream, weights).shard(1))
    assert not np.array_equal(shard, ShardMaker(open_stream(), weights).shard(1))
