"""Training of diffusion models: repeatable to the bit, averaged and paced as documented, and it learns."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vaegen_ray.diffusion import training as training_module
from vaegen_ray.diffusion.edm import compute_loss
from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.diffusion.training import BLOCK_PIXELS, LOSSES, DiffusionTrainer
from vaegen_ray.errors import DataFormatError, SpecError, VaegenError
from vaegen_ray.serialization import pack, unpack
from vaegen_ray.spec.diffusion import DiffusionSpec

FOREVER = 1e9
COMMON: dict[str, Any] = {
    "n_train": 30,
    "image_shape": (1, 4, 4),
    "batch_size": 8,
    "images": 180,
    "warmup_images": 40,
    "dropout": 0.5,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"channels": 8, "blocks": 1},
    "bf16": {"channels": 8, "blocks": 1, "precision": "bf16"},
    "unet": {"network": "unet", "channels": 8, "multipliers": (1, 1), "blocks": 1, "attention": (2,)},
}
IMAGES = torch.randint(0, 17, (30, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=list(NETWORKS))
def spec(request: pytest.FixtureRequest) -> DiffusionSpec:
    return DiffusionSpec(**COMMON, **NETWORKS[request.param])


def small(**changes) -> DiffusionSpec:
    return DiffusionSpec(**{**COMMON, **NETWORKS["mlp"], **changes})


def blocks_of(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "BLOCK_STEPS", steps)


def trained(spec: DiffusionSpec, images: Tensor = IMAGES) -> DiffusionTrainer:
    trainer = DiffusionTrainer(spec, images)
    trainer.advance(FOREVER)
    assert trainer.finished and trainer.step == spec.steps and trainer.fraction == 1
    return trainer


def resumed(trainer: DiffusionTrainer) -> DiffusionTrainer:
    """A new trainer in the state of ``trainer``, by way of bytes."""
    fresh = DiffusionTrainer(trainer.spec, IMAGES)
    fresh.load_state(*unpack(pack(*trainer.state()), "checkpoint"))
    return fresh


def assert_same(a: DiffusionTrainer, b: DiffusionTrainer) -> None:
    (tensors, values), (others, other_values) = a.state(), b.state()
    assert values == other_values
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name
    averaged = b.averaged()
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in a.averaged().items())


# 23 steps; blocks end at 7, 14, 21 and 23.
@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 4])
def test_a_resumed_training_is_the_undisturbed_one_to_the_bit(
    spec: DiffusionSpec, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks_of(7, monkeypatch)
    monkeypatch.setattr(training_module, "LOSSES", 2)  # at 14 and 23, so the sum of losses goes on at 7 and 21
    whole = trained(spec)
    assert [seen for seen, _ in whole.losses] == [14 * 8, 23 * 8]
    first = DiffusionTrainer(spec, IMAGES)
    for _ in range(blocks):
        first.advance(0.0)
    assert first.step == min(7 * blocks, 23)
    second = resumed(first)
    assert_same(first, second)
    torch.manual_seed(123)  # dropout does not hear of it
    second.advance(FOREVER)
    assert_same(whole, second)


def test_the_seed_decides_and_the_global_generator_does_not(spec: DiffusionSpec) -> None:
    torch.manual_seed(1)
    first = trained(spec)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = trained(spec)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(first, second)
    other = trained(replace(spec, seed=1))
    assert other.losses != first.losses
    averaged = other.averaged()
    assert not any(torch.equal(tensor, averaged[name]) for name, tensor in first.averaged().items() if tensor.any())


def test_loading_leaves_the_checkpoint_alone(spec: DiffusionSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(7, monkeypatch)
    first = DiffusionTrainer(spec, IMAGES)
    first.advance(0.0)
    tensors, values = unpack(pack(*first.state()), "checkpoint")
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    second = DiffusionTrainer(spec, IMAGES)
    second.load_state(tensors, values)
    second.advance(FOREVER)
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("changes", [{"blocks": 3}, {"blocks": 1}, {"channels": 12}, NETWORKS["unet"]])
def test_the_state_of_another_network_is_refused(changes: dict) -> None:
    trainer = DiffusionTrainer(small(blocks=2), IMAGES)
    state = DiffusionTrainer(small(**changes), IMAGES).state()
    with pytest.raises(DataFormatError):
        trainer.load_state(*state)


def test_averaged_weights_have_the_documented_half_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """After h more images an old weight counts half; h is a twentieth of the images seen, at most ``ema_images``."""
    blocks_of(1, monkeypatch)
    spec = small(ema_images=20, images=800, decay="constant", learning_rate=0.01)  # a twentieth is 20 at step 50
    trainer = DiffusionTrainer(spec, IMAGES)
    weights = dict(trainer.denoiser.named_parameters())
    expected = {name: weight.detach().double() for name, weight in weights.items()}
    for step in range(1, spec.steps + 1):
        trainer.advance(0.0)
        kept = 0.5 ** (8 / min(20, 8 * step / 20))
        averaged = trainer.averaged()
        assert averaged.keys() == weights.keys()
        for name, now in weights.items():
            expected[name] = kept * expected[name] + (1 - kept) * now.detach().double()
            torch.testing.assert_close(averaged[name].double(), expected[name], rtol=1e-5, atol=1e-6)
    assert spec.steps == 100
    assert max((averaged[name] - weights[name]).abs().max().item() for name in weights) > 0.005


def rates(spec: DiffusionSpec, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The step size of every step, as the optimiser had it."""
    blocks_of(1, monkeypatch)
    trainer = DiffusionTrainer(spec, IMAGES)
    used = []
    while not trainer.finished:
        trainer.advance(0.0)
        used.append(trainer.adam.learning_rate)
    return used


def test_a_constant_step_size_rises_linearly_from_zero_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    used = rates(small(decay="constant", learning_rate=0.01, images=160), monkeypatch)
    assert used == pytest.approx([0.002, 0.004, 0.006, 0.008] + [0.01] * 16)


def test_a_cosine_falls_to_zero_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    used = rates(small(decay="cosine", learning_rate=0.01, images=160), monkeypatch)
    cosine = [0.01 * math.cos(math.pi * step / 40) ** 2 for step in range(20)]
    assert used[10] == pytest.approx(0.005)
    assert used[4:] == pytest.approx(cosine[4:])
    assert [rate / whole for rate, whole in zip(used[:4], cosine[:4], strict=True)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8]
    )
    assert used[-1] < 1e-4


def test_adam_steps_as_far_as_the_step_size_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step of Adam moves a weight by the step size, whatever its gradient (Kingma & Ba 2015, Section 2.1)."""
    blocks_of(1, monkeypatch)
    trainer = DiffusionTrainer(small(learning_rate=0.01), IMAGES)
    trainer.advance(0.0)
    weight = dict(trainer.denoiser.named_parameters())["network.last.bias"]  # starts at zero
    torch.testing.assert_close(weight.detach().abs(), torch.full((16,), 0.002), rtol=1e-3, atol=0)


class Overheard:
    """Stands in for the loss; keeps its arguments and results."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: list[Tensor] = []
        self.sigma: list[Tensor] = []
        self.noise: list[Tensor] = []
        self.results: list[float] = []
        monkeypatch.setattr(training_module, "compute_loss", self)

    def __call__(self, denoiser, y, sigma, standard_noise, noise) -> Tensor:
        self.images.append(y)
        self.sigma.append(sigma)
        self.noise.append(standard_noise)
        losses = compute_loss(denoiser, y, sigma, standard_noise, noise)
        self.results.append(losses.mean().item())
        return losses


def test_images_come_once_a_pass_in_minus_one_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(5, monkeypatch)
    heard = Overheard(monkeypatch)
    trained(small())
    assert {len(images) for images in heard.images} == {8}
    seen = torch.cat(heard.images)
    assert seen.min() == -1 and seen.max() == 1
    bytes_seen = ((seen + 1) * 8).round().to(torch.uint8)
    torch.testing.assert_close(bytes_seen / 8 - 1, seen)
    rows = {tuple(image.flatten().tolist()): i for i, image in enumerate(IMAGES)}
    numbers = [rows[tuple(image.flatten().tolist())] for image in bytes_seen]
    passes = [numbers[start : start + 30] for start in range(0, 180, 30)]
    assert all(sorted(each) == list(range(30)) for each in passes)
    assert len({tuple(each) for each in passes}) == 6


def test_noise_is_new_at_every_step_and_log_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(5, monkeypatch)
    heard = Overheard(monkeypatch)
    trained(small(images=8000, log_mean=0.5, log_std=0.7))
    sigma, noise = torch.cat(heard.sigma), torch.cat(heard.noise)
    assert len(sigma) == 8000
    assert len(sigma.unique()) > 7990 and len(noise[:, 0, 0, 0].unique()) > 7990  # float32 repeats itself now and then
    assert sigma.log().mean().item() == pytest.approx(0.5, abs=5 * 0.7 / math.sqrt(8000))
    assert sigma.log().std().item() == pytest.approx(0.7, rel=0.05)
    assert noise.mean().item() == pytest.approx(0.0, abs=5 / math.sqrt(noise.numel()))
    assert noise.std().item() == pytest.approx(1.0, rel=0.01)


def test_the_loss_curve_is_the_mean_of_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(3, monkeypatch)
    heard = Overheard(monkeypatch)
    spec = small(images=8 * 1000)
    trainer = trained(spec)
    assert 50 < len(trainer.losses) <= LOSSES + 1
    ends = [seen // 8 for seen, _ in trainer.losses]
    assert ends == sorted(set(ends)) and ends[-1] == spec.steps
    for start, end, (_, mean) in zip([0, *ends], ends, trainer.losses, strict=False):
        assert mean == pytest.approx(sum(heard.results[start:end]) / (end - start), rel=1e-5)


def test_advance_does_at_least_a_block_and_nothing_when_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(7, monkeypatch)
    trainer = DiffusionTrainer(small(), IMAGES)
    assert trainer.step == 0 and trainer.fraction == 0 and not trainer.finished
    steps = []
    while not trainer.finished:
        trainer.advance(0.0)
        steps.append(trainer.step)
    assert steps == [7, 14, 21, 23]
    finished = resumed(trainer)
    trainer.advance(0.0)
    assert_same(trainer, finished)


def test_blocks_of_large_images_are_short() -> None:
    cifar: dict[str, Any] = {"image_shape": (3, 32, 32), "n_train": 1, "channels": 4, "blocks": 1}
    for batch_size in (64, 512, 100_000):
        spec = DiffusionSpec(**cifar, batch_size=batch_size)
        steps = DiffusionTrainer(spec, torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).steps_per_block
        assert steps == 1 or steps * batch_size * 3072 <= BLOCK_PIXELS


def test_a_model_of_one_image_knows_it() -> None:
    image = IMAGES[:1]
    spec = small(n_train=1, channels=64, images=64 * 600, batch_size=64, dropout=0.0, learning_rate=5e-3)
    trainer = trained(spec, image)
    denoiser = build_denoiser(spec).eval()
    y = (image.float() / 8 - 1).expand(200, 1, 4, 4)
    draw = torch.Generator().manual_seed(0)
    sigma = denoiser.noise.draw(200, draw)
    noise = torch.randn(y.shape, generator=draw)
    with torch.no_grad():
        untrained = compute_loss(denoiser, y, sigma, noise, denoiser.noise).mean().item()
        for name, parameter in denoiser.named_parameters():
            parameter.copy_(trainer.averaged()[name])
        assert compute_loss(denoiser, y, sigma, noise, denoiser.noise).mean().item() < 0.03 * untrained
        guess = denoiser(y + 0.5 * noise, torch.full((200,), 0.5))
    assert (guess - y).abs().mean().item() < 0.1
    assert trainer.losses[-1][1] < 0.05 * trainer.losses[0][1]


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of(5, monkeypatch)
    trainer = DiffusionTrainer(small(learning_rate=1e30), IMAGES)
    with pytest.raises(VaegenError, match=r"not finite after 5 steps; got (nan|inf)"):
        trainer.advance(FOREVER)
    assert trainer.step == 5


@pytest.mark.parametrize("shape", [(29, 1, 4, 4), (30, 1, 4, 5), (30, 3, 4, 4), (30, 4, 4)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError) as error:
        DiffusionTrainer(small(), torch.zeros(shape, dtype=torch.uint8))
    assert "(30, 1, 4, 4)" in str(error.value) and str(shape) in str(error.value)


def test_the_private_function_of_torch_that_averages_weights() -> None:
    """Where a version of torch has no ``_foreach_lerp_``, ``move_towards`` takes a loop of ``tensor.lerp_``: the same
    numbers, with a launch for each tensor."""
    tensors = [torch.randn(3, 2), torch.randn(5)]
    targets = [torch.randn(3, 2), torch.randn(5)]
    expected = [torch.lerp(a, b, 0.3) for a, b in zip(tensors, targets, strict=True)]
    training_module.move_towards(tensors, targets, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(tensors, expected, strict=True))
