"""log p(x) where it is known: the linear-Gaussian model p(z) = N(0, I), p(x|z) = N(Wz + b, sigma^2 I), which has

    p(x) = N(b, W W^T + sigma^2 I).

Networks without hidden layers are affine maps. The columns of W are orthogonal, so that the exact posterior is
factorised and can be the encoder's answer: then every weight p(x, z) / q(z|x) is p(x) itself.
"""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vaegen_ray.evaluation import importance
from vaegen_ray.evaluation.elbo import ON_TRAIN, rate_and_distortion
from vaegen_ray.evaluation.importance import LIKELIHOOD_TEST, LIKELIHOOD_TRAIN, log_likelihood
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec

D, Z, SIGMA = 6, 2, 0.4
W = torch.tensor([[0.6, 0.1], [0.6, -0.1], [-0.3, 0.2], [-0.3, -0.2], [0.0, 0.5], [0.0, -0.5]], dtype=torch.float64)
B = torch.tensor([0.5, 0.3, 0.4, 0.6, 0.1, 0.9], dtype=torch.float64)
S = torch.linalg.inv(torch.eye(Z, dtype=torch.float64) + W.T @ W / SIGMA**2)
A = S @ W.T / SIGMA**2
EXACT = (A, S.diagonal().sqrt())
WRONG = (0.5 * A + 0.1, torch.tensor([0.9, 0.4], dtype=torch.float64))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def linear_vae(encoders: list[tuple[Tensor, Tensor]], **changes: object) -> tuple[VAE, list[TrialSpec]]:
    """Members that decode with W and b, and encode with mean M (x - b) and a deviation, one pair of these each."""
    shape = {"image_shape": (1, 2, 3), "levels": 256, "hidden_layers": 0, "posterior_scale": "log_std"}
    options = {"likelihood": "gaussian", "sigma": SIGMA, "latent_per_mz": Z, **shape, **changes}
    specs = [TrialSpec(seed=seed, **options) for seed in range(len(encoders))]
    vae = VAE(specs)
    with torch.no_grad():
        for member, (matrix, std) in enumerate(encoders):
            encoder, decoder = vae.encoder.layers["posterior"], vae.decoder.layers["out"]
            encoder.weight[member] = torch.cat((matrix, torch.zeros_like(matrix))).T
            encoder.bias[member] = torch.cat((-matrix @ B, std.log()))
            decoder.weight[member] = W.T
            decoder.bias[member] = B
    return vae, specs


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 1, 2, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def evidence(pixels: Tensor, sigma: float = SIGMA) -> Tensor:
    """log p(x) of every image, [N]."""
    covariance = W @ W.T + sigma**2 * torch.eye(D, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(B, covariance).log_prob(pixels.flatten(1).double() / 255)


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_with_the_exact_posterior_any_number_of_samples_gives_the_likelihood(samples):
    vae, specs = linear_vae([EXACT, EXACT])
    data = images(40)
    found = log_likelihood(vae, specs, data, samples, stream_index=LIKELIHOOD_TRAIN)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, evidence(data).mean().expand(2), rtol=0, atol=1e-4)


def test_it_rises_with_the_samples_from_the_elbo_to_the_likelihood():
    """200 members with the same wrong posterior and noise of their own."""
    vae, specs = linear_vae([WRONG] * 200)
    data = images(20)
    means, errors = [], []
    for samples in (1, 4, 16, 256):
        found = log_likelihood(vae, specs, data, samples, stream_index=LIKELIHOOD_TEST)
        means.append(found.mean().item())
        errors.append(found.std().item() / math.sqrt(len(specs)))
    rate, distortion = rate_and_distortion(vae, specs, data, stream=ON_TRAIN)
    elbos = -rate - distortion
    exact = evidence(data).mean().item()
    assert abs(means[0] - elbos.mean().item()) < 4 * math.hypot(errors[0], elbos.std().item() / math.sqrt(len(specs)))
    for i in range(3):
        assert means[i + 1] - means[i] > 4 * math.hypot(errors[i], errors[i + 1])
    assert exact - means[0] > 1
    assert means[-1] < exact + 4 * errors[-1]
    assert means[-1] == pytest.approx(exact, abs=0.02)


def test_likelihoods_far_below_the_smallest_number_are_summed():
    """At sigma = 0.002 p(x) is about exp(-1e4) for every image; the exact posterior gives all weights that value."""
    sigma = 0.002
    covariance = torch.linalg.inv(torch.eye(Z, dtype=torch.float64) + W.T @ W / sigma**2)
    vae, specs = linear_vae([(covariance @ W.T / sigma**2, covariance.diagonal().sqrt())], sigma=sigma)
    data = images(10)
    exact = evidence(data, sigma).mean()
    assert exact < -1e4
    for samples in (1, 50):
        found = log_likelihood(vae, specs, data, samples, stream_index=LIKELIHOOD_TRAIN)
        torch.testing.assert_close(found, exact.view(1), rtol=1e-4, atol=0)


def test_how_many_images_are_computed_at_once_does_not_matter(monkeypatch):
    vae, specs = linear_vae([EXACT, WRONG])
    data = images(61)
    whole = log_likelihood(vae, specs, data, 5, stream_index=LIKELIHOOD_TRAIN)
    sizes = []
    decode = VAE.decode
    monkeypatch.setattr(VAE, "decode", lambda vae, z: sizes.append(z.shape[1]) or decode(vae, z))
    monkeypatch.setattr(importance, "CHUNK_BYTES", 2 * activation_bytes(specs[0]) * 20)
    parts = log_likelihood(vae, specs, data, 5, stream_index=LIKELIHOOD_TRAIN)
    assert sizes == [20, 20, 20, 1] * 5
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=0)


def test_images_beyond_a_block_have_noise_of_their_own(monkeypatch):
    """Equal images in two blocks: at equal noise they would agree, and the mean would be that of one block."""
    vae, specs = linear_vae([WRONG])
    data = images(8)
    one = log_likelihood(vae, specs, data, 2, stream_index=LIKELIHOOD_TRAIN)
    monkeypatch.setattr(importance, "NOISE_BLOCK", 8)
    two = log_likelihood(vae, specs, torch.cat((data, data)), 2, stream_index=LIKELIHOOD_TRAIN)
    assert (one - two).abs() > 1e-4
    monkeypatch.setattr(importance, "NOISE_NUMBERS", 4 * Z)
    assert (log_likelihood(vae, specs, data, 2, stream_index=LIKELIHOOD_TRAIN) - one).abs() > 1e-4


def test_noise_is_that_of_the_seed_and_of_the_data_set():
    vae, specs = linear_vae([WRONG, WRONG])
    data = images(30)
    train = log_likelihood(vae, specs, data, 3, stream_index=LIKELIHOOD_TRAIN)
    assert torch.equal(train, log_likelihood(vae, specs, data, 3, stream_index=LIKELIHOOD_TRAIN))
    assert train[0] != train[1]
    assert not (train == log_likelihood(vae, specs, data, 3, stream_index=LIKELIHOOD_TEST)).any()
    alone = VAE(specs[1:])
    alone.load_state_dict({name: tensor[1:] for name, tensor in vae.state_dict().items()})
    found = log_likelihood(alone, specs[1:], data, 3, stream_index=LIKELIHOOD_TRAIN)
    torch.testing.assert_close(found, train[1:], rtol=1e-6, atol=0)
