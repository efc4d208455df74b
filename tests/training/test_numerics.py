import math

import pytest
import torch

from vaegen_ray.evaluation.elbo import evaluate_elbo
from vaegen_ray.models.vae import VAE
from vaegen_ray.training.numerics import arithmetic
from vaegen_ray.training.trainer import Trainer

CPU = torch.device("cpu")


def denormals_survive() -> bool:
    return bool((torch.full((4,), 1e-39) * 0.5).any())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_denormals_are_flushed_inside_and_kept_outside(precision):
    assert denormals_survive()
    with arithmetic(precision, CPU):
        assert not denormals_survive()
    assert denormals_survive()
    with pytest.raises(KeyError), arithmetic(precision, CPU):
        raise KeyError
    assert denormals_survive()


@pytest.mark.parametrize(("precision", "inside"), [("float32", "highest"), ("tf32", "high"), ("bf16", "highest")])
def test_settings_are_put_back(precision, inside):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with arithmetic(precision, CPU):
        assert torch.get_float32_matmul_precision() == inside
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
    assert not torch.is_autocast_enabled("cpu")


def test_products_run_in_bf16_and_the_results_are_float32(spec_of):
    vae = VAE([spec_of()])
    x, noise = torch.ones(1, 3, 1, 8, 8), torch.zeros(1, 3, vae.spec.latent_dim)
    with arithmetic("bf16", CPU):
        assert vae.encoder(x).dtype == torch.bfloat16
        assert vae.decode(noise).dtype == torch.float32
        assert {part.dtype for part in (*vae.encode(x), *vae.rate_and_distortion(x, noise))} == {torch.float32}


def test_bf16_learns_what_float32_learns(spec_of, train_images, test_images):
    elbos = {}
    for precision in ("float32", "bf16"):
        trainer = Trainer([spec_of(precision=precision, epochs=40, evaluate_at=(40,))], train_images)
        (before,) = evaluate_elbo(trainer.vae, trainer.specs, train_images, test_images)
        trainer.train(trainer.spec.steps)
        assert trainer.failed == {}
        assert {tensor.dtype for tensor in trainer.state()[0].values()} == {torch.float32}
        (after,) = evaluate_elbo(trainer.vae, trainer.specs, train_images, test_images)
        elbos[precision] = before["elbo_train"], after["elbo_train"]
    assert elbos["bf16"][0] == elbos["float32"][0]  # before training: evaluation is float32 in both
    gain = elbos["float32"][1] - elbos["float32"][0]
    assert gain > 3
    assert elbos["bf16"][1] == pytest.approx(elbos["float32"][1], abs=0.1 * gain)


def test_bf16_does_not_depend_on_where_the_training_pauses(spec_of, train_images):
    """Autocast would keep the casts of the first step's weights for as long as its block lasts."""
    specs = [spec_of(precision="bf16")]
    whole, pieces = Trainer(specs, train_images), Trainer(specs, train_images)
    whole.train(20)
    for step in range(1, 21):
        pieces.train(step)
    for name, tensor in whole.state()[0].items():
        assert torch.equal(tensor, pieces.state()[0][name]), name


def test_evaluation_is_float32_inside_bf16_too(spec_of, train_images, test_images):
    specs = [spec_of(precision="bf16")]
    trainer = Trainer(specs, train_images)
    trainer.train(10)
    rows = evaluate_elbo(trainer.vae, specs, train_images, test_images)
    plain = VAE([spec_of(precision="float32")])
    plain.load_state_dict(trainer.vae.state_dict())
    assert rows == evaluate_elbo(plain, [plain.spec], train_images, test_images)
    with arithmetic("bf16", CPU):
        assert rows == evaluate_elbo(trainer.vae, specs, train_images, test_images)
    assert all(math.isfinite(value) for value in rows[0].values())
