"""The two-sample test where its answer is known: nothing to tell apart, everything to tell apart."""

import copy
import math
import sys

import pytest
import torch

from vaegen_ray.data import catalog
from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation import two_sample as module
from vaegen_ray.evaluation.two_sample import two_sample
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.evaluation import TwoSample
from vaegen_ray.spec.trial import TrialSpec

pytest.importorskip("torchvision")

CPU = torch.device("cpu")
QUICK = TwoSample(epochs=4, batch_size=20, learning_rate=0.01)
LONGER = TwoSample(epochs=12, batch_size=40, learning_rate=0.01)
"""Steps enough for the running statistics of BatchNorm: what is easy is learnt from every seed."""
SPEC = TrialSpec(levels=17)


def pictures(n: int, seed: int, *, low: int = 0, high: int = 17, channels: int = 1) -> torch.Tensor:
    """Images of independent greys low .. high - 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)


def accuracy(*images: torch.Tensor, spec: TrialSpec = SPEC, settings: TwoSample = QUICK, levels: int = 17) -> float:
    (measured,) = two_sample([spec], *images, settings, levels=levels, device=CPU)
    assert list(measured.row) == ["two_sample_accuracy"] and measured.details == []
    return measured.row["two_sample_accuracy"]


def alike() -> list[torch.Tensor]:
    """Training and test images, and samples of very much the same kind: an accuracy between chance and one."""
    return [*(pictures(n, seed) for n, seed in ((40, 1), (200, 2))), *(pictures(n, n, low=3) for n in (40, 200))]


def test_images_of_one_distribution_are_told_apart_by_chance_even_where_they_are_learnt_by_heart():
    """Chance: four standard errors of 800 images."""
    images = [pictures(n, seed) for seed, n in enumerate((20, 400, 20, 400))]
    settings = TwoSample(epochs=40, batch_size=40, learning_rate=0.01)
    assert accuracy(images[0], images[0], images[2], images[2], settings=settings) > 0.9  # over six seeds 1.0 each
    assert abs(accuracy(*images, settings=settings) - 0.5) < 4 * math.sqrt(0.25 / 800)


@pytest.mark.parametrize("fake_is_bright", [True, False])
def test_bright_and_dark_are_told_apart(fake_is_bright):
    dark, bright = ([pictures(n, n, low=low, high=low + 9) for n in (40, 100)] for low in (0, 8))
    real, fake = (dark, bright) if fake_is_bright else (bright, dark)
    assert accuracy(*real, *fake, settings=LONGER) > 0.95


def test_it_is_a_function_of_its_arguments_and_leaves_the_random_state_alone():
    torch.manual_seed(1)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first = accuracy(*alike())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    with torch.no_grad():
        assert accuracy(*alike()) == first
    assert 0.5 < first < 1


def test_members_of_one_seed_share_a_classifier_and_each_gets_what_it_gets_alone(monkeypatch):
    trained, train = [], module._trained
    monkeypatch.setattr(module, "_trained", lambda seed, *rest: trained.append(seed) or train(seed, *rest))
    specs = [TrialSpec(levels=17, seed=seed, nc=8, beta=beta) for seed, beta in ((4, 1), (7, 1), (4, 2))]
    together = [each.row for each in two_sample(specs, *alike(), QUICK, levels=17, device=CPU)]
    assert sorted(trained) == [4, 7]
    assert together[0] == together[2] != together[1]
    for spec, row in zip(specs[:2], together[:2], strict=True):
        assert accuracy(*alike(), spec=spec) == row["two_sample_accuracy"]


def test_members_of_two_streams_are_no_question_for_one_set_of_samples():
    model = DiffusionSpec(levels=17)
    streams = [StreamSpec(diffusion=model, shard_size=size) for size in (500, 1000)]
    specs = [TrialSpec(levels=17, method="dmaapx", stream=stream) for stream in streams]
    with pytest.raises(AssertionError, match="samples are of one stream"):
        two_sample(specs, *alike(), QUICK, levels=17, device=CPU)


def test_as_many_real_images_as_samples_are_taken():
    """Of more real images than samples, or the other way round, the first are used."""
    real, real_test, fake, fake_test = alike()
    expected = accuracy(real, real_test, fake, fake_test)
    assert 0.5 < expected < 1
    more, more_test = pictures(30, 5), pictures(150, 6)
    assert accuracy(torch.cat((real, more)), real_test, fake, torch.cat((fake_test, more_test))) == expected
    assert accuracy(real, torch.cat((real_test, more_test)), torch.cat((fake, more)), fake_test) == expected


def test_grey_is_the_colour_image_of_three_equal_channels():
    grey = pictures(3, 0)
    assert torch.equal(module._network_input(grey, 17), module._network_input(grey.repeat(1, 3, 1, 1), 17))


def test_colours_are_told_apart():
    """Equally bright, but the one is red and the other green."""
    shade = torch.tensor([1, 0, 0], dtype=torch.uint8)[:, None, None]
    red = [pictures(n, n, low=8, channels=3) * shade for n in (40, 100)]
    green = [each.roll(1, dims=1) for each in red]
    assert accuracy(*red, *green, settings=LONGER) > 0.95


def test_levels_go_to_one_range():
    coarse = [each // 2 for each in alike()]
    expected = accuracy(*coarse, levels=9)
    assert 0.5 < expected < 1
    assert accuracy(*(2 * each for each in coarse), levels=17) == expected
    scaled = module._network_input(torch.tensor([0, 8, 16], dtype=torch.uint8).reshape(1, 1, 1, 3), 17)
    assert scaled.shape == (1, 3, 1, 3)
    assert scaled[0, 2, 0].tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    "changed",
    [{"epochs": 2}, {"batch_size": 5}, {"learning_rate": 0.02}, {"momentum": 0.5}, {"weight_decay": 0.1}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_its_part_in_the_training(changed):
    base = {"epochs": 1, "batch_size": 4, "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0}
    images, labels = pictures(12, 0), torch.arange(12).lt(6).float()
    one, other = (
        module._trained(0, images, labels, TwoSample(**settings), 17) for settings in (base, {**base, **changed})
    )
    assert not torch.equal(one.fc.weight, other.fc.weight)


def test_every_epoch_has_its_own_order(monkeypatch):
    orders, batches = [], module._batches
    monkeypatch.setattr(module, "_batches", lambda order, size: orders.append(order) or batches(order, size))
    module._trained(3, pictures(12, 0), torch.arange(12).lt(6).float(), TwoSample(epochs=2, batch_size=12), 17)
    generators = [torch.Generator().manual_seed(stream_seed(3, "classifiers", epoch)) for epoch in (1, 2)]
    assert torch.equal(torch.stack(orders), torch.stack([torch.randperm(12, generator=each) for each in generators]))
    assert not torch.equal(*orders)


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [(8, 4, [4, 4]), (8, 3, [3, 3, 2]), (8, 7, [8]), (10, 3, [3, 3, 4]), (2, 256, [2]), (3, 2, [3])],
)
def test_no_batch_is_of_one_image(n, size, sizes):
    order = torch.arange(n)
    batches = list(module._batches(order, size))
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat(batches), order)


def test_a_rest_of_one_image_is_trained_on():
    real, real_test, fake, fake_test = alike()
    settings = TwoSample(epochs=1, batch_size=5)
    assert 0 <= accuracy(real[:8], real_test, fake[:8], fake_test, settings=settings) <= 1


@pytest.mark.parametrize(("height", "width", "weights"), [(8, 8, 1_608_769), (8, 16, 2_264_129), (64, 64, 11_177_025)])
def test_a_network_without_idle_weights_learns_the_same(height, width, weights):
    """Cut are eleven kernels of 8x8 images, seven of 8x16 and none of 64x64, where no feature map is one pixel."""
    whole = module._resnet18(0).double()
    cut = copy.deepcopy(whole)
    module._cut_idle_weights(cut.float(), height, width)
    cut.double()
    assert sum(weight.numel() for weight in cut.parameters()) == weights
    x = torch.randn(4, 3, height, width, generator=torch.Generator().manual_seed(0)).double()
    outputs = []
    for network in (whole, cut):
        optimiser = torch.optim.SGD(network.train().parameters(), lr=0.01, weight_decay=0.1)
        network(x).square().sum().backward()
        optimiser.step()
        outputs.append(network.eval()(x).detach())
    torch.testing.assert_close(*outputs, rtol=1e-8, atol=1e-8)


def test_batch_norm_learns_its_running_statistics():
    """The mean that goes into the first ReLU moves from 0, where it began, towards that of the images."""
    images, labels = pictures(12, 0, low=12), torch.arange(12).lt(6).float()
    classifier = module._trained(0, images, labels, TwoSample(epochs=1, batch_size=12), 17)
    with torch.no_grad():
        start = module._resnet18(stream_seed(0, "classifiers"))
        means = start.conv1(module._network_input(images, 17)).mean((0, 2, 3))
    torch.testing.assert_close(classifier.bn1.running_mean, 0.1 * means)


def test_a_classifier_that_does_not_stay_finite_has_no_accuracy():
    settings = TwoSample(epochs=2, batch_size=20, learning_rate=1e30)
    assert math.isnan(accuracy(*alike(), settings=settings))


def test_what_cannot_be_is_said(monkeypatch):
    real, real_test, fake, fake_test = alike()
    with pytest.raises(SpecError, match="two-sample training needs real images and samples; got 40 and 0"):
        accuracy(real, real_test, fake[:0], fake_test)
    with pytest.raises(SpecError, match="two-sample test needs real images and samples; got 0 and 200"):
        accuracy(real, real_test[:0], fake, fake_test)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(SpecError, match="needs the optional package torchvision .*pip install 'vaegen-ray"):
        accuracy(real, real_test, fake, fake_test)


@pytest.mark.slow
def test_digits_are_told_from_noisy_digits_but_not_from_digits():
    """The paper's settings on 1,000 digits: noise of a quarter of the range is seen, another half of the digits not."""
    split = catalog.load("digits", native=True)
    train, test = (torch.as_tensor(part.images) for part in (split.train, split.test))
    generator = torch.Generator().manual_seed(1)
    noisy = [
        (images + 4 * torch.randn(images.shape, generator=generator)).round().clamp(0, 16).to(torch.uint8)
        for images in (train, test)
    ]
    assert accuracy(train, test, *noisy, settings=TwoSample()) > 0.85
    halves = train[:500], test[:398], train[500:], test[398:796]
    assert abs(accuracy(*halves, settings=TwoSample()) - 0.5) < 4 * math.sqrt(0.25 / 796)
