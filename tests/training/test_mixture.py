"""Mixtures of real images and samples, more real images, and noise that fades: which image stands at which position."""

import math

import pytest
import torch

from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.build_sources import build_source
from vaegen_ray.training.mollification import Mollified
from vaegen_ray.training.sources import Mixture, ShuffledEpochs

N = 20


class Numbers:
    """A source that counts: position p holds p, from ``first`` on; images of two bytes."""

    def __init__(self, first: int) -> None:
        self.first = first

    def images(self, start: int, stop: int) -> torch.Tensor:
        numbers = torch.arange(start, stop) + self.first
        return torch.stack((numbers // 256, numbers % 256), -1).to(torch.uint8).view(-1, 1, 1, 2)

    def held_out(self, count: int) -> torch.Tensor:
        return self.images(10_000, 10_000 + count)


REAL, SYNTHETIC = 0, 30_000


def numbers(images: torch.Tensor) -> list[int]:
    high, low = images.long().view(-1, 2).unbind(-1)
    return (256 * high + low).tolist()


def mixture(percent: int) -> Mixture:
    return Mixture(Numbers(REAL), Numbers(SYNTHETIC), percent)


@pytest.mark.parametrize("percent", [1, 20, 50, 67, 99])
def test_each_kind_comes_in_its_own_order_and_in_its_share(percent):
    mixed = numbers(mixture(percent).images(0, 1000))
    real = [number for number in mixed if number < SYNTHETIC]
    synthetic = [number - SYNTHETIC for number in mixed if number >= SYNTHETIC]
    assert real == list(range(10 * percent)) and synthetic == list(range(1000 - 10 * percent))
    for start in range(0, 1000, 50):
        count = sum(number < SYNTHETIC for number in mixed[start : start + 50])
        assert abs(count - percent / 2) < 1


@pytest.mark.parametrize("size", [1, 3, 50, 333])
def test_it_does_not_matter_how_the_range_is_cut(size):
    whole = numbers(mixture(40).images(0, 1000))
    parts = [mixture(40).images(start, min(start + size, 1000)) for start in range(0, 1000, size)]
    assert numbers(torch.cat(parts)) == whole


def test_fresh_images_are_a_mixture_of_real_ones_and_samples_nobody_trains_on():
    got = numbers(mixture(25).held_out(40))
    assert sorted(got) == list(range(10)) + list(range(SYNTHETIC + 10_000, SYNTHETIC + 10_030))
    assert sorted(numbers(mixture(1).held_out(40))) == list(range(SYNTHETIC + 10_000, SYNTHETIC + 10_040))


def numbered(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 8, 8).contiguous()


def first_pixels(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_more_real_images_are_repeated_as_a_whole():
    spec = TrialSpec(method="more_real", budget=3, n_train=N, batch_size=5, levels=256)
    source = build_source(spec, numbered(3 * N))
    assert sorted(first_pixels(source.images(0, 3 * N))) == list(range(3 * N))
    assert first_pixels(source.images(0, N)) != list(range(N))


def test_the_validation_part_is_not_trained_on():
    spec = TrialSpec(method="early_stopping", validation_percent=20, n_train=N, batch_size=5, levels=256)
    assert set(first_pixels(build_source(spec, numbered(N)).images(0, 10 * N))) == set(range(16))


def test_a_trial_opens_what_its_method_names():
    stream = StreamSpec(diffusion=DiffusionSpec(levels=256))

    class Bright:
        def read(self, start, stop):
            return torch.full((stop - start, 1, 8, 8), 200, dtype=torch.uint8).numpy()

    spec = TrialSpec(method="mix+mollify", stream=stream, real_percent=50, n_train=N, batch_size=5, levels=256)
    source = build_source(spec, numbered(N), lambda asked: Bright())
    assert isinstance(source, Mollified)
    late = first_pixels(source.images(spec.steps * 5 // 2, spec.steps * 5 // 2 + 20))  # the noise is gone
    assert late.count(200) == 10 and len({value for value in late if value != 200}) >= 5


LENGTH, STD, LEVELS = 8000, 0.3, 256


def mollified(levels: int = LEVELS, seed: int = 4, std: float = STD) -> Mollified:
    grey = torch.full((10, 1, 8, 8), levels // 2, dtype=torch.uint8)
    return Mollified(ShuffledEpochs(grey, 0), levels=levels, std=std, positions=LENGTH, seed=seed)


def test_the_variance_falls_evenly_to_zero_at_half_of_the_training():
    images = mollified().images(0, LENGTH).double() / (LEVELS - 1)
    assert torch.equal(images[LENGTH // 2 :], torch.full_like(images[LENGTH // 2 :], 128 / 255))
    for start in range(0, LENGTH // 2, 500):
        part = images[start : start + 500] - 128 / 255
        expected = STD**2 * (1 - (start + 250) / (LENGTH / 2))
        assert abs(part.mean()) < 0.01
        if expected < 0.05:  # where the ends of the range cut little
            assert part.square().mean() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("size", [1, 7, 1000, 1500, 3999])
def test_the_noise_does_not_depend_on_how_the_range_is_cut(size):
    whole = mollified().images(0, 5000)
    spots = [(start, min(start + size, 5000)) for start in range(0, 5000, size)]
    for start, stop in spots if len(spots) < 20 else spots[3990:4010] + spots[:5]:
        assert torch.equal(mollified().images(start, stop), whole[start:stop])


def test_seeds_and_positions_have_noise_of_their_own():
    assert not torch.equal(mollified(seed=4).images(0, 5), mollified(seed=5).images(0, 5))
    images = mollified().images(0, 3000)
    assert len({tuple(image.flatten().tolist()) for image in images}) == 3000


def test_binary_images_are_flipped_at_random_as_often_as_the_noise_crosses_the_middle():
    ones = torch.ones(10, 1, 8, 8, dtype=torch.uint8)
    source = Mollified(ShuffledEpochs(ones, 0), levels=2, std=0.5, positions=10**9, seed=0)
    images = source.images(0, 3000)
    assert set(images.flatten().tolist()) == {0, 1}
    assert images.double().mean() == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=0.003)


def test_noise_leaves_the_training_set_alone():
    train = numbered(10)
    Mollified(ShuffledEpochs(train, 0), levels=256, std=1.0, positions=100, seed=0).images(0, 10)
    assert torch.equal(train, numbered(10))
