"""A training that is stopped anywhere, packed, unpacked and gone on with is the training that never stopped."""

import pytest
import torch

from vaegen_ray.evaluation.elbo import evaluate_elbo
from vaegen_ray.serialization import pack, unpack
from vaegen_ray.training import batches
from vaegen_ray.training.batches import steps_per_block
from vaegen_ray.training.objectives import negative_beta_elbo
from vaegen_ray.training.trainer import Trainer

STEPS = 40


@pytest.fixture(autouse=True)
def blocks_of_seven_steps(monkeypatch, spec_of):
    monkeypatch.setattr(batches, "BLOCK_NOISE", 7 * 20 * spec_of().latent_dim)
    assert steps_per_block(spec_of()) == 7


@pytest.fixture
def specs(spec_of):
    return [spec_of(seed=0), spec_of(seed=1, beta=3.0), spec_of(seed=2)]


def resumed(trainer: Trainer, train_images: torch.Tensor) -> Trainer:
    """A new trainer in the state of ``trainer``, by way of bytes."""
    tensors, values = unpack(pack(*trainer.state()), "checkpoint")
    fresh = Trainer(trainer.specs, train_images)
    fresh.load_state(tensors, values)
    return fresh


def assert_same(a: Trainer, b: Trainer) -> None:
    tensors, values = a.state()
    others, other_values = b.state()
    assert values == other_values
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name
    assert a.alive == b.alive


# Blocks end at 7, 14, 21, 28, 35; epochs at 5, 9, 14, 18, 23, 27, 32, 36 (4.5 steps each).
@pytest.mark.parametrize("stop", [0, 1, 5, 7, 14, 16, 39, 40])
def test_resume_is_bit_for_bit(specs, train_images, test_images, stop):
    whole = Trainer(specs, train_images)
    whole.train(STEPS)
    first = Trainer(specs, train_images)
    first.train(stop)
    second = resumed(first, train_images)
    assert_same(first, second)
    second.train(STEPS)
    assert_same(whole, second)
    rows = [evaluate_elbo(t.vae, specs, train_images, test_images) for t in (whole, second)]
    assert rows[0] == rows[1]


def test_stopping_and_evaluating_at_every_step_changes_nothing(specs, train_images, test_images):
    whole = Trainer(specs, train_images)
    whole.train(STEPS)
    steps = Trainer(specs, train_images)
    for step in range(1, STEPS + 1):
        steps.train(step)
        assert steps.step == step
        evaluate_elbo(steps.vae, specs, train_images, test_images)
    assert_same(whole, steps)


def test_many_resumes_in_a_row(specs, train_images):
    whole = Trainer(specs, train_images)
    whole.train(STEPS)
    trainer = Trainer(specs, train_images)
    for stop in (3, 4, 11, 12, 30, STEPS):
        trainer.train(stop)
        trainer = resumed(trainer, train_images)
    assert_same(whole, trainer)


@pytest.mark.parametrize("stop", [10, 13, 14, 20, 31])
def test_resume_with_a_failed_member(specs, train_images, poison, stop):
    """Poisoned after step 10, in the third epoch; before its end (step 14) the loss sum carries the news."""
    whole, first = Trainer(specs, train_images), Trainer(specs, train_images)
    for trainer in (whole, first):
        trainer.train(10)
        poison(trainer.vae.encoder, 1)
    whole.train(STEPS)
    first.train(stop)
    second = resumed(first, train_images)
    assert second.failed == first.failed
    second.train(STEPS)
    assert whole.failed == second.failed == {1: ("the training loss is not finite", 3)}
    assert_same(whole, second)


def test_an_infinite_loss_of_a_single_step_is_not_forgotten(specs, train_images):
    """Step 11 of an epoch that ends at 14; the checkpoint lies in between."""

    def objective(vae, x, noise, beta):
        once = torch.tensor([0.0, float("inf") if trainer.step == 10 else 0.0, 0.0])
        return negative_beta_elbo(vae, x, noise, beta) + once

    trainer = Trainer(specs, train_images, objective=objective)
    for step in (10, 11, 12):
        trainer.train(step)
    assert trainer.failed == {}
    trainer = resumed(trainer, train_images)
    trainer.train(14)
    assert trainer.failed == {1: ("the training loss is not finite", 3)}


def test_loading_leaves_the_checkpoint_alone(specs, train_images):
    trainer = Trainer(specs, train_images)
    trainer.train(6)
    tensors, values = unpack(pack(*trainer.state()), "checkpoint")
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    fresh = Trainer(specs, train_images)
    fresh.load_state(tensors, values)
    fresh.train(12)
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors.items())
