"""A member whose loss is not finite is frozen and recorded; the others do not notice."""

import pytest
import torch

from vaegen_ray.evaluation.elbo import evaluate_elbo
from vaegen_ray.training.trainer import Trainer

REASON = "the training loss is not finite"


def numbers_of(trainer: Trainer, member: int) -> dict[str, torch.Tensor]:
    tensors = {f"vae.{n}": t[member] for n, t in trainer.vae.state_dict().items()}
    for name, _ in trainer.vae.named_parameters():
        for moment, values in zip(("mean", "square"), trainer.adam.moments[name], strict=True):
            tensors[f"{moment}.{name}"] = values[member]
    return tensors


@pytest.mark.parametrize("loop", [False, True], ids=["grouped", "looped"])
@pytest.mark.parametrize(("after", "epoch"), [(0, 1), (3, 1), (5, 2), (12, 3)])
def test_the_others_do_not_notice(spec_of, train_images, test_images, poison, loop, after, epoch):
    specs = [spec_of(seed=seed) for seed in range(3)]
    healthy = Trainer(specs, train_images, loop_over_members=loop)
    healthy.train(30)
    trainer = Trainer(specs, train_images, loop_over_members=loop)
    trainer.train(after)
    poison(trainer.vae.encoder, 1)
    trainer.train(30)
    assert trainer.failed == {1: (REASON, epoch)}
    assert trainer.alive == [0, 2]
    assert trainer.step == 30
    for member in (0, 2):
        expected = numbers_of(healthy, member)
        for name, tensor in numbers_of(trainer, member).items():
            assert torch.equal(tensor, expected[name]), name
    rows = [evaluate_elbo(t.vae, specs, train_images, test_images) for t in (healthy, trainer)]
    assert [rows[0][m] for m in (0, 2)] == [rows[1][m] for m in (0, 2)]


def test_a_frozen_member_is_finite_and_stays_at_zero(spec_of, train_images, poison):
    trainer = Trainer([spec_of(seed=seed) for seed in range(2)], train_images)
    trainer.train(7)
    poison(trainer.vae.encoder, 0)
    trainer.train(40)
    for name, tensor in numbers_of(trainer, 0).items():
        assert torch.isfinite(tensor).all(), name
        if "running" not in name:
            assert not tensor.any(), name


def test_members_that_fail_one_after_another(spec_of, train_images, poison):
    trainer = Trainer([spec_of(seed=seed) for seed in range(3)], train_images)
    trainer.train(5)
    poison(trainer.vae.encoder, 2)
    trainer.train(9)
    assert trainer.failed == {2: (REASON, 2)}
    poison(trainer.vae.encoder, 0)
    trainer.train(trainer.spec.steps)
    assert trainer.failed == {2: (REASON, 2), 0: (REASON, 3)}
    assert trainer.alive == [1]


@pytest.mark.parametrize("members", [1, 3])
def test_all_members_failing_ends_cleanly(spec_of, train_images, test_images, members):
    specs = [spec_of(seed=seed, learning_rate=1e30) for seed in range(members)]
    trainer = Trainer(specs, train_images)
    trainer.train(specs[0].steps)
    assert set(trainer.failed) == set(range(members))
    assert trainer.alive == []
    assert trainer.step == specs[0].steps
    assert all(reason == REASON and epoch <= 2 for reason, epoch in trainer.failed.values())
    assert len(evaluate_elbo(trainer.vae, specs, train_images, test_images)) == members
    tensors, values = trainer.state()
    fresh = Trainer(specs, train_images)
    fresh.load_state(tensors, values)
    assert fresh.alive == [] and fresh.failed == trainer.failed


def test_a_member_can_be_frozen_from_outside(spec_of, train_images):
    trainer = Trainer([spec_of(seed=0), spec_of(seed=1)], train_images)
    trainer.train(9)
    trainer.fail_member(0, "because")
    assert trainer.failed == {0: ("because", 2)}
    trainer.train(20)
    healthy = Trainer([spec_of(seed=0), spec_of(seed=1)], train_images)
    healthy.train(20)
    for name, tensor in numbers_of(trainer, 1).items():
        assert torch.equal(tensor, numbers_of(healthy, 1)[name]), name
