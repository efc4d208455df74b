import pytest
import torch

from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.build_sources import build_source
from vaegen_ray.training.sources import ShuffledEpochs

N = 13


@pytest.fixture
def numbered():
    return torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1)


def test_every_pass_is_a_permutation(numbered):
    source = ShuffledEpochs(numbered, seed=4)
    passes = [source.images(N * i, N * (i + 1)).flatten().tolist() for i in range(20)]
    assert all(sorted(each) == list(range(N)) for each in passes)
    assert len({tuple(each) for each in passes}) == 20
    assert passes[3] == source.order(3).tolist()


@pytest.mark.parametrize("size", [1, 4, 5, N, N + 1, 3 * N])
def test_it_does_not_matter_how_the_range_is_cut(numbered, size):
    source = ShuffledEpochs(numbered, seed=4)
    whole = source.images(0, 4 * N)
    parts = [source.images(start, min(start + size, 4 * N)) for start in range(0, 4 * N, size)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(ShuffledEpochs(numbered, seed=4).images(17, 31), whole[17:31])


def test_seeds_have_orders_of_their_own(numbered):
    orders = {tuple(ShuffledEpochs(numbered, seed).order(0).tolist()) for seed in range(50)}
    assert len(orders) == 50


def test_images_are_bytes_of_the_training_set(numbered):
    source = build_source(TrialSpec(seed=4), numbered)
    assert isinstance(source, ShuffledEpochs)
    images = source.images(5, 9)
    assert images.dtype == torch.uint8 and images.shape == (4, 1, 1, 1)
    assert torch.equal(images, ShuffledEpochs(numbered, seed=4).images(5, 9))
