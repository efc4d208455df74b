"""Reverse Half Asleep: the decoder stands still from half-way on, and the encoder sees its samples."""

from dataclasses import replace

import pytest
import torch

from vaegen_ray.serialization import pack, unpack
from vaegen_ray.training.reverse_half_asleep import DecoderSamples
from vaegen_ray.training.trainer import Trainer


def trained(specs, train_images, until: int) -> Trainer:
    trainer = Trainer(specs, train_images)
    trainer.train(until)
    return trainer


def weights(trainer: Trainer, network: str) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in trainer.vae.state_dict().items() if k.startswith(network)}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(params=["prior", "reconstruction"])
def rha(request, spec_of):
    return spec_of(method="rha", asleep_samples=request.param)


def test_until_half_way_it_is_normal_training(rha, spec_of, train_images):
    half = rha.freeze_step
    assert half == rha.steps_until(6)
    asleep, normal = (trained([spec], train_images, half) for spec in (rha, spec_of()))
    assert equal(weights(asleep, ""), weights(normal, ""))


def test_then_the_decoder_stands_still_and_the_encoder_goes_on(rha, train_images):
    trainer = trained([rha], train_images, rha.freeze_step)
    before = {network: weights(trainer, network) for network in ("encoder", "decoder")}
    trainer.train(rha.steps)
    assert equal(before["decoder"], weights(trainer, "decoder"))  # running statistics of BatchNorm included
    assert not equal(before["encoder"], weights(trainer, "encoder"))


def test_the_share_of_samples_changes_the_encoder(spec_of, train_images):
    shares = [spec_of(method="rha", asleep_percent=percent) for percent in (10, 50, 90)]
    ends = [weights(trained([spec], train_images, spec.steps), "encoder") for spec in shares]
    assert not equal(ends[0], ends[1]) and not equal(ends[1], ends[2])


def test_a_part_of_the_batch_is_replaced_and_the_rest_is_not(rha, train_images):
    trainer = trained([rha], train_images, rha.freeze_step)
    pixels = train_images[:20].unsqueeze(0)
    replaced = DecoderSamples([rha], torch.device("cpu")).replace(trainer.vae, pixels, step=30)
    assert replaced.shape == pixels.shape and replaced.dtype == torch.uint8
    assert torch.equal(replaced[:, 10:], pixels[:, 10:]) and not torch.equal(replaced[:, :10], pixels[:, :10])
    assert set(replaced.flatten().tolist()) <= {0, 1}


def test_making_samples_leaves_no_trace_in_the_vae(rha, train_images):
    """Statistics of BatchNorm above all, which reconstructions would move with half a batch."""
    trainer = trained([rha], train_images, rha.freeze_step)
    before, encoder_trains = weights(trainer, ""), trainer.vae.encoder.training
    DecoderSamples([rha], torch.device("cpu")).replace(trainer.vae, train_images[:20].unsqueeze(0), step=30)
    assert equal(before, weights(trainer, "")) and trainer.vae.encoder.training == encoder_trains


def test_steps_have_samples_of_their_own_whatever_came_before(rha, train_images):
    trainer = trained([rha], train_images, rha.freeze_step)
    pixels = train_images[:20].unsqueeze(0)
    one, other = (DecoderSamples([rha], torch.device("cpu")) for _ in range(2))
    in_order = [one.replace(trainer.vae, pixels, step) for step in (27, 28, 29)]
    assert torch.equal(other.replace(trainer.vae, pixels, 29), in_order[2])
    assert not torch.equal(in_order[0], in_order[1])


def test_samples_follow_the_model(spec_of, train_images):
    """The mean of many samples from the prior is the mean of p(x); one that was not trained says about one half."""
    spec = spec_of(method="rha", batch_size=90, asleep_percent=98, epochs=40, evaluate_at=(40,), learning_rate=3e-3)
    trainer = trained([spec], train_images, spec.freeze_step)
    asleep = DecoderSamples([spec], torch.device("cpu"))
    samples = torch.cat([asleep.replace(trainer.vae, train_images[None], step)[0, :88] for step in range(100)])
    trainer.vae.eval()
    z = torch.randn(1, 9000, spec.latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = trainer.vae.likelihood.mean(trainer.vae.decode(z))[0].mean(0)
    assert (samples.double().mean(0) - mean).abs().max() < 0.05


def test_alone_and_among_others_it_is_the_same(rha, train_images):
    members = [replace(rha, seed=seed) for seed in (0, 3, 5)]
    together = trained(members, train_images, rha.steps)
    for number, spec in enumerate(members):
        alone = trained([spec], train_images, spec.steps)
        for name, tensor in alone.vae.state_dict().items():
            torch.testing.assert_close(together.vae.state_dict()[name][number], tensor[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop", [0, 1, 9])
def test_a_resumed_training_ends_with_the_same_weights(rha, train_images, stop):
    """Stopped just before the decoder is frozen, just after, and later."""
    whole = trained([rha], train_images, rha.steps)
    first = trained([rha], train_images, rha.freeze_step - 1 + stop)
    second = Trainer([rha], train_images)
    second.load_state(*unpack(pack(*first.state()), "checkpoint"))
    second.train(rha.steps)
    assert equal(weights(whole, ""), weights(second, ""))
