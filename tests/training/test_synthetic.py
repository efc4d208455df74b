"""Training on samples of a stream: which sample stands at which position, and how it is rounded."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from vaegen_ray.data.images import ImageSet
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training import sources
from vaegen_ray.training.build_sources import build_source
from vaegen_ray.training.sources import ShuffledEpochs, Synthetic, permutation

N = 13
STREAM = StreamSpec(diffusion=DiffusionSpec(levels=256, image_shape=(1, 2, 2)), shard_size=20, batch_size=10)


class Numbered:
    """A stream without end whose sample i says i: four bytes, read-only as those of a file."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []
        self.taken = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        self.reads.append((start, stop))
        return self._images(np.arange(start, stop))

    def take(self, numbers: np.ndarray) -> np.ndarray:
        self.taken += len(numbers)
        return self._images(numbers)

    def _images(self, numbers: np.ndarray) -> np.ndarray:
        images = numbers.astype("<u4").view(np.uint8).reshape(-1, 1, 2, 2)
        images.flags.writeable = False
        return images


def numbers(images: torch.Tensor) -> list[int]:
    """What samples of ``Numbered`` say."""
    assert images.dtype == torch.uint8 and images.shape[1:] == (1, 2, 2)
    return images.numpy().reshape(-1, 4).copy().view("<u4").flatten().tolist()


def synthetic(distinct: int | None, seed: int = 4, samples: Numbered | None = None) -> Synthetic:
    return Synthetic(samples or Numbered(), distinct=distinct, levels=256, wanted_levels=256, seed=seed)


@pytest.fixture(params=["held", "taken"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Views that fit on the device, and views that do not."""
    if request.param == "taken":
        monkeypatch.setattr(sources, "HELD_BYTES", 4 * N - 1)
    return request.param


@pytest.mark.parametrize("distinct", [N, 3 * N, None])
@pytest.mark.parametrize("seed", [0, 4])
def test_the_first_pass_reads_the_samples_in_order_whatever_the_seed(distinct: int | None, seed: int) -> None:
    assert numbers(synthetic(distinct, seed).images(0, N)) == list(range(N))


def test_without_a_budget_no_sample_comes_twice() -> None:
    source = synthetic(None)
    seen = [number for start in range(0, 7000, 70) for number in numbers(source.images(start, start + 70))]
    assert seen == list(range(7000))


def test_later_passes_are_permutations_of_their_own(kind: str) -> None:
    source = synthetic(N)
    passes = [tuple(numbers(source.images(N * i, N * (i + 1)))) for i in range(20)]
    assert all(sorted(each) == list(range(N)) for each in passes)
    assert len(set(passes)) == 20
    assert passes[3] == tuple(permutation(N, 4, 3).tolist())


def test_seeds_have_orders_of_their_own(kind: str) -> None:
    assert len({tuple(numbers(synthetic(N, seed).images(N, 2 * N))) for seed in range(50)}) == 50


@pytest.mark.parametrize("size", [1, 4, 5, N, N + 1, 3 * N])
def test_it_does_not_matter_how_the_range_is_cut(kind: str, size: int) -> None:
    source = synthetic(N)
    whole = numbers(synthetic(N).images(0, 4 * N))
    parts = [source.images(start, min(start + size, 4 * N)) for start in range(0, 4 * N, size)]
    assert numbers(torch.cat(parts)) == whole
    assert [whole.count(number) for number in range(N)] == [4] * N


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (N - 1, N + 1), (N, N + 1), (N + 3, 3 * N + 2), (5 * N, 6 * N)])
def test_a_training_can_go_on_anywhere(kind: str, start: int, stop: int) -> None:
    """A source that never saw what came before says the same; so does one that saw it and goes back."""
    whole = numbers(synthetic(N).images(0, 6 * N))
    source = synthetic(N)
    assert numbers(source.images(start, stop)) == whole[start:stop]
    source.images(5 * N, 6 * N)
    assert numbers(source.images(start, stop)) == whole[start:stop]


def test_views_that_are_held_and_views_that_are_not_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    held, taken = Numbered(), Numbered()
    expected = numbers(synthetic(N, samples=held).images(0, 5 * N))
    monkeypatch.setattr(sources, "HELD_BYTES", 4 * N - 1)
    assert numbers(synthetic(N, samples=taken).images(0, 5 * N)) == expected
    assert held.taken == 0 and taken.taken == 4 * N
    assert held.reads.count((0, N)) == 2  # the first pass, and to keep them


def test_a_view_that_is_held_is_read_once_more_and_then_never() -> None:
    samples = Numbered()
    source = synthetic(N, samples=samples)
    source.images(0, 2 * N)
    before = len(samples.reads)
    source.images(2 * N, 9 * N)
    assert len(samples.reads) == before and samples.taken == 0


def test_a_view_too_large_to_be_held_is_never_read_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "HELD_BYTES", 4 * N - 1)
    samples = Numbered()
    source = synthetic(N, samples=samples)
    for start in range(0, 3 * N, 3):
        source.images(start, start + 3)
    assert max(stop - start for start, stop in samples.reads) == 3


def test_a_view_of_exactly_the_limit_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "HELD_BYTES", 4 * N)
    samples = Numbered()
    synthetic(N, samples=samples).images(0, 3 * N)
    assert samples.taken == 0


class Fixed:
    """A stream of given images."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.images[start:stop]

    def take(self, numbers: np.ndarray) -> np.ndarray:
        return self.images[numbers]


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("held_bytes", [0, 2**31])
@pytest.mark.parametrize("wanted", ["same", "two"])
def test_samples_are_rounded_as_the_images_of_the_data_set(
    levels: int, held_bytes: int, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "HELD_BYTES", held_bytes)
    images = np.random.default_rng(0).permuted(np.arange(8 * 64, dtype=np.int64) % levels).astype(np.uint8)
    images = images.reshape(8, 1, 8, 8)
    assert set(images.flat) == set(range(levels))
    wanted_levels = levels if wanted == "same" else 2
    expected = torch.from_numpy(ImageSet(images, levels).requantised(wanted_levels).images)
    for distinct in (None, 8):
        source = Synthetic(
            Fixed(images), distinct=distinct, levels=levels, wanted_levels=wanted_levels, seed=0, held_out_from=2
        )
        assert torch.equal(source.images(0, 8), expected)
        assert torch.equal(source.held_out(5), expected[2:7])
    assert torch.equal(source.images(8, 16), expected[permutation(8, 0, 1)])
    assert set(images.flat) == set(range(levels))  # the stream is not written to


@pytest.mark.parametrize("distinct", [None, 6])
def test_samples_that_must_not_be_written_are_copied(distinct: int | None) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2)
    images.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of tensors on such memory
        source = Synthetic(Fixed(images), distinct=distinct, levels=256, wanted_levels=256, seed=0)
        source.images(0, 6).zero_()
    assert images.tobytes() == bytes(range(24))


def test_fresh_samples_are_those_after_the_samples_for_training() -> None:
    train = torch.zeros(N, 1, 2, 2, dtype=torch.uint8)
    first = STREAM.training_samples
    for budget in (0, 1):
        spec = TrialSpec(
            method="dmaapx", stream=STREAM, budget=budget, levels=256, image_shape=(1, 2, 2), n_train=N, batch_size=1
        )
        source = build_source(spec, train, lambda stream: Numbered())
        assert numbers(source.held_out(5)) == list(range(first, first + 5))


def test_a_trial_opens_its_own_stream_and_reads_as_much_as_its_budget() -> None:
    opened = []

    def open_stream(stream: StreamSpec) -> Numbered:
        opened.append(stream)
        return Numbered()

    train = torch.zeros(N, 1, 2, 2, dtype=torch.uint8)
    spec = TrialSpec(
        method="dmaapx", stream=STREAM, budget=2, levels=256, image_shape=(1, 2, 2), n_train=N, batch_size=1, seed=4
    )
    budgeted, endless = (
        build_source(spec, train, open_stream),
        build_source(replace(spec, budget=0), train, open_stream),
    )
    assert opened == [STREAM, STREAM]
    assert numbers(budgeted.images(0, 6 * N)) == numbers(synthetic(2 * N).images(0, 6 * N))
    assert numbers(endless.images(0, 6 * N)) == list(range(6 * N))
    assert isinstance(build_source(TrialSpec(), train, open_stream), ShuffledEpochs) and len(opened) == 2


def test_samples_of_more_levels_are_rounded_for_a_trial_of_two() -> None:
    spec = TrialSpec(method="dmaapx", stream=STREAM, levels=2, image_shape=(1, 2, 2))
    images = build_source(spec, torch.zeros(1, 1, 2, 2, dtype=torch.uint8), lambda stream: Numbered()).images(126, 131)
    assert images[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 1]  # the lowest byte of 126 .. 130
