"""The contract of bundles: a member's numbers do not depend on who shares its bundle."""

import pytest
import torch

from vaegen_ray.evaluation.elbo import evaluate_elbo
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training import batches
from vaegen_ray.training.batches import steps_per_block
from vaegen_ray.training.objectives import negative_beta_elbo
from vaegen_ray.training.sources import ShuffledEpochs
from vaegen_ray.training.trainer import Trainer

MEMBERS = [(7, 1.0), (7, 4.0), (1, 0.0), (2, 0.1), (3, 1.0), (4, 20.0), (5, 1.0), (6, 0.5)]
"""Seed and beta; the first two share a seed.

With beta 0 the residual network is at its most sensitive: the decoder's first BatchNorm takes off whatever is added to
a channel of z, so the bias of the posterior's mean has gradient zero, and Adam divides its rounding errors by their own
size.
"""


class Recorder:
    """The objective, remembering what it was given."""

    def __init__(self) -> None:
        self.images: list[torch.Tensor] = []
        self.noise: list[torch.Tensor] = []

    def __call__(self, vae: VAE, x: torch.Tensor, noise: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        self.images.append(x.clone())
        self.noise.append(noise.clone())
        return negative_beta_elbo(vae, x, noise, beta)


@pytest.fixture(scope="module")
def alone(spec_of, train_images, test_images):
    """Metrics of every member trained for 50 steps on its own."""
    rows = []
    for seed, beta in MEMBERS:
        trainer = Trainer([spec_of(seed=seed, beta=beta)], train_images)
        trainer.train(50)
        rows += evaluate_elbo(trainer.vae, trainer.specs, train_images, test_images)
    return rows


@pytest.mark.parametrize("chosen", [[1], [0, 1, 3], [7, 0, 5, 1, 4, 2, 6, 3]], ids=["1", "3", "8"])
def test_a_member_of_a_bundle_equals_the_member_alone(spec_of, train_images, test_images, alone, chosen):
    specs = [spec_of(seed=MEMBERS[i][0], beta=MEMBERS[i][1]) for i in chosen]
    trainer = Trainer(specs, train_images)
    trainer.train(50)
    rows = evaluate_elbo(trainer.vae, specs, train_images, test_images)
    for i, row in zip(chosen, rows, strict=True):
        size = abs(alone[i]["elbo_test"])
        for name, value in alone[i].items():
            # A gap is a difference of two ELBOs and a rate may vanish, so they are held to 1e-4 of an ELBO.
            assert row[name] == pytest.approx(value, rel=1e-4, abs=1e-4 * size), name
    assert len({row["elbo_test"] for row in rows}) == len(rows)


def test_init_order_and_noise_are_bit_for_bit_those_drawn_alone(spec_of, train_images, monkeypatch):
    monkeypatch.setattr(batches, "BLOCK_NOISE", 7 * 20 * spec_of().latent_dim)  # blocks of 7 steps
    assert steps_per_block(spec_of()) == 7
    specs = [spec_of(seed=seed, beta=beta) for seed, beta in MEMBERS]
    together = Recorder()
    bundle = Trainer(specs, train_images, objective=together)
    starts = [{name: p[m].clone() for name, p in bundle.vae.named_parameters()} for m in range(len(specs))]
    bundle.train(20)
    for member, spec in enumerate(specs):
        single = Recorder()
        trainer = Trainer([spec], train_images, objective=single)
        for name, parameter in trainer.vae.named_parameters():
            assert torch.equal(parameter[0], starts[member][name]), name
        trainer.train(20)
        for step in range(20):
            assert torch.equal(single.images[step][0], together.images[step][member])
            assert torch.equal(single.noise[step][0], together.noise[step][member])
    assert torch.equal(together.noise[0][0], together.noise[0][1])  # equal seeds
    assert not torch.equal(together.noise[0][1], together.noise[0][2])
    assert not torch.equal(together.images[0][1], together.images[0][2])
    assert len({noise.sum().item() for noise in together.noise}) == 20  # no step draws another's noise


def test_an_effective_epoch_shows_every_image_once(spec_of, train_images):
    distinct = torch.arange(90, dtype=torch.uint8).view(90, 1, 1, 1)
    bits = (distinct >> torch.arange(8, dtype=torch.uint8)) & 1  # the image's number, in binary
    images = bits.view(90, 1, 1, 8).repeat(1, 1, 8, 1).contiguous()
    recorder = Recorder()
    trainer = Trainer([spec_of(seed=3)], images, objective=recorder)
    trainer.train(9)  # two effective epochs of 4.5 steps
    assert trainer.epoch == 2
    seen = torch.cat([x[0, :, 0, 0].long() for x in recorder.images]) @ (2 ** torch.arange(8))
    assert sorted(seen[:90].tolist()) == sorted(seen[90:].tolist()) == list(range(90))
    assert seen[:90].tolist() != seen[90:].tolist()


def test_the_loop_equals_a_plain_one(spec_of, train_images):
    """PyTorch's unfused Adam on one VAE, batches from the source, noise as recorded."""
    spec, recorder = spec_of(seed=5, beta=0.3), Recorder()
    trainer = Trainer([spec], train_images, objective=recorder)
    trainer.train(25)
    vae = VAE([spec])
    optimizer = torch.optim.Adam(vae.parameters(), lr=spec.learning_rate, fused=False, foreach=False)
    source = ShuffledEpochs(train_images, 5)
    for step in range(25):
        pixels = source.images(20 * step, 20 * step + 20)
        rate, distortion = vae.rate_and_distortion(pixels.float()[None], recorder.noise[step])
        optimizer.zero_grad()
        (distortion + 0.3 * rate).mean().backward()
        optimizer.step()
    for (name, got), expected in zip(trainer.vae.named_parameters(), vae.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5, msg=name)


def test_training_lowers_the_objective(spec_of, train_images, test_images):
    trainer = Trainer([spec_of(epochs=40, evaluate_at=(40,))], train_images)
    (before,) = evaluate_elbo(trainer.vae, trainer.specs, train_images, test_images)
    trainer.train(trainer.spec.steps)
    (after,) = evaluate_elbo(trainer.vae, trainer.specs, train_images, test_images)
    assert after["elbo_train"] > before["elbo_train"] + 3
    assert after["elbo_test"] > before["elbo_test"] + 3


def test_a_larger_beta_has_a_smaller_rate(spec_of, train_images, test_images):
    specs = [spec_of(beta=beta, epochs=40, evaluate_at=(40,)) for beta in (0.0, 1.0, 50.0)]
    trainer = Trainer(specs, train_images)
    trainer.train(specs[0].steps)
    rates = [row["rate_train"] for row in evaluate_elbo(trainer.vae, specs, train_images, test_images)]
    assert rates[0] > rates[1] > rates[2]


def test_blocks_depend_on_nothing_that_members_differ_in():
    spec = TrialSpec()
    for changes in ({"seed": 9}, {"beta": 0.1}):
        assert steps_per_block(TrialSpec(**changes)) == steps_per_block(spec)
    assert steps_per_block(TrialSpec(n_train=60000, batch_size=60000, image_shape=(1, 32, 32))) == 1
