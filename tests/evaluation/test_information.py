"""I_q[x; z] and KL(q(z) || p(z)) where they are known. Encoders are affine: z ~ N(W (x - b), std^2)."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation import elbo
from vaegen_ray.evaluation import information as module
from vaegen_ray.evaluation.elbo import ON_TRAIN, rate_and_distortion
from vaegen_ray.evaluation.importance import LIKELIHOOD_TEST, LIKELIHOOD_TRAIN, log_likelihood
from vaegen_ray.evaluation.information import information, mutual_information
from vaegen_ray.models.layout import activation_bytes
from vaegen_ray.models.vae import VAE, Posterior
from vaegen_ray.results.schema import METRICS
from vaegen_ray.spec.evaluation import Information
from vaegen_ray.spec.trial import TrialSpec

Z = 2
WITHOUT_LIKELIHOOD = {"importance_samples": 0}
ALONE = Information(**WITHOUT_LIKELIHOOD)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def affine(members: int, slope: float, std: float, first_seed: int = 0) -> tuple[VAE, list[TrialSpec]]:
    """Latent dimension d of every member is slope (x_d - 1/2) with the deviation std, for the first Z pixels."""
    shape = {"image_shape": (1, 2, 2), "levels": 256, "hidden_layers": 0, "likelihood": "gaussian", "sigma": 0.2}
    specs = [
        TrialSpec(seed=first_seed + m, latent_per_mz=Z, posterior_scale="log_std", **shape) for m in range(members)
    ]
    vae = VAE(specs)
    layer = vae.encoder.layers["posterior"]
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, :Z, :Z] = slope * torch.eye(Z)
        layer.bias[:, :, :Z] = -slope / 2
        layer.bias[:, :, Z:] = math.log(std)
    return vae, specs


def any_images(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 1, 2, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def normal_images(n: int) -> tuple[Tensor, float]:
    """Pixels that are nearly normal around 1/2, and their deviation as it came out."""
    normal = torch.randn(n, 1, 2, 2, generator=torch.Generator().manual_seed(3))
    pixels = (127.5 + 30 * normal).round().clamp(0, 255).to(torch.uint8)
    return pixels, (pixels[:, 0, 0].double() / 255 - 0.5).square().mean().sqrt().item()


def numbers(row: dict[str, float]) -> tuple[float, ...]:
    return tuple(row.values())


def test_posteriors_that_do_not_look_at_the_image_are_all_marginal():
    vae, specs = affine(1, slope=0.0, std=0.5)
    vae.encoder.layers["posterior"].bias.data[:, :, :Z] = 0.7
    (row,) = information(vae, specs, any_images(50), any_images(5), Information(minibatch=7, **WITHOUT_LIKELIHOOD))
    rate = 0.5 * Z * (0.7**2 + 0.25 - math.log(0.25) - 1)
    for estimate in ("", "_minibatch"):
        assert row[f"mutual_information{estimate}"] == pytest.approx(0, abs=1e-6)
        assert row[f"marginal_kl{estimate}"] == pytest.approx(rate, rel=1e-5)


def test_images_that_codes_tell_apart_hold_the_logarithm_of_their_number():
    """All pairs of 23 pixel values, 11 grey levels apart: neighbours are 20 deviations apart."""
    values = torch.cartesian_prod(torch.arange(23), torch.arange(23)).repeat(1, 2) * 11
    images = values.to(torch.uint8).view(-1, 1, 2, 2)
    vae, specs = affine(1, slope=1.0, std=11 / 255 / 20)
    (row,) = information(vae, specs, images, images, Information(minibatch=64, **WITHOUT_LIKELIHOOD))
    assert row["mutual_information"] == row["mutual_information_minibatch"] == math.log(23**2)
    assert row["information_images"] == 23**2
    twice, n = torch.cat((images, images)), 2 * 23**2
    (row,) = information(vae, specs, twice, images, ALONE)
    assert row["mutual_information"] == pytest.approx(math.log(n / 2), rel=1e-9)  # nobody can tell twins apart


def test_normal_codes_have_the_information_of_a_gaussian_channel():
    """z = slope (x - 1/2) + std noise with x ~ N(1/2, s^2): I = Z/2 ln(1 + (slope s / std)^2), and q(z) is normal."""
    slope, std, n = 6.0, 0.5, 3000
    images, s = normal_images(n)
    vae, specs = affine(8, slope, std)
    rows = information(vae, specs, images, images, ALONE)
    variance = (slope * s) ** 2 + std**2
    expected = Z / 2 * math.log(variance / std**2)
    marginal = Z / 2 * (variance - 1 - math.log(variance))
    found = torch.tensor([[row["mutual_information"], row["marginal_kl"]] for row in rows]).double()
    # The log-ratio of a code has the variance Z (1 - std^2 / variance); the mixture of n is within a term of order 1/n.
    error = math.sqrt(Z * (1 - std**2 / variance) / n)
    assert ((found[:, 0] - expected).abs() < 4 * error).all()
    assert abs(found[:, 0].mean() - expected) < 0.03
    assert abs(found[:, 1].mean() - marginal) < 0.03
    assert found[:, 0].std() > 0.2 * error  # codes of each member's own


def test_two_overlapping_posteriors_against_an_integral():
    """Half of the images are black, half white; means are 0.6 apart in both dimensions, at a deviation of 0.4."""
    n, distance, std = 4000, 0.6, 0.4
    images = torch.zeros(n, 1, 2, 2, dtype=torch.uint8)
    images[::2] = 255
    vae, specs = affine(1, distance, std)
    (row,) = information(vae, specs, images, images, ALONE)
    u = torch.linspace(-4, 4, 100_001, dtype=torch.float64)  # along the line between the means
    a, b = (Normal(sign * distance / math.sqrt(2), std) for sign in (-1.0, 1.0))
    p, q = a.log_prob(u).exp(), b.log_prob(u).exp()
    mixed = 0.5 * (p + q)
    integrand = 0.5 * (torch.special.xlogy(p, p / mixed) + torch.special.xlogy(q, q / mixed))
    integral = torch.trapezoid(integrand, u).item()
    second = 0.5 * (p * (p / mixed).log().square() + q * (q / mixed).log().square())
    error = math.sqrt((torch.trapezoid(second, u).item() - integral**2) / n)
    assert 0.3 < integral < 0.6 and error < 0.01
    assert abs(row["mutual_information"] - integral) < 4 * error


@pytest.mark.parametrize("std", [1e-6, 1e-3, 0.03, 0.3, 3.0])
def test_never_more_than_the_logarithm_of_the_images(std):
    for n in (2, 3, 37, 300):
        vae, specs = affine(3, 1.0, std)
        for row in information(
            vae, specs, any_images(n), any_images(2), Information(minibatch=5, **WITHOUT_LIKELIHOOD)
        ):
            assert row["mutual_information"] <= math.log(n)
            assert row["mutual_information_minibatch"] <= math.log(n)


def test_the_two_parts_are_the_rate():
    vae, specs = affine(2, 2.0, 0.2)
    train, settings = any_images(300), Information(images=200, minibatch=20, **WITHOUT_LIKELIHOOD)
    rate, _ = rate_and_distortion(vae, specs, train[:200], stream=ON_TRAIN)
    for row, expected in zip(information(vae, specs, train, train, settings), rate.tolist(), strict=True):
        assert row["mutual_information"] < row["mutual_information_minibatch"] < math.log(200)
        assert row["mutual_information"] + row["marginal_kl"] == pytest.approx(expected, rel=1e-6)
        assert row["mutual_information_minibatch"] + row["marginal_kl_minibatch"] == pytest.approx(expected, rel=1e-6)


def codes_of(n: int, std: float = 0.3, seed: int = 0) -> tuple[Tensor, Posterior]:
    numbers = torch.randn(3, n, Z, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    posterior = Posterior(numbers[0], std * numbers[1].exp())
    return posterior.sample(numbers[2]), posterior


def written_out(z: Tensor, posterior: Posterior, batches: list[list[int]]) -> float:
    """The weighted estimate, code by code."""
    n, total = len(z), 0.0
    for batch in batches:
        for i in batch:
            density = {j: Normal(posterior.mean[j], posterior.std[j]).log_prob(z[i]).sum().exp().item() for j in batch}
            weight = (n - 1) / (n * (len(batch) - 1))
            total += math.log(density[i] / (density[i] / n + weight * sum(density[j] for j in batch if j != i)))
    return total / n


@pytest.mark.parametrize(
    "n, minibatch, batches",
    [
        (10, None, [range(10)]),
        (10, 10, [range(10)]),
        (10, 64, [range(10)]),
        (10, 5, [range(5), range(5, 10)]),
        (10, 4, [range(4), range(4, 7), range(7, 10)]),
        (10, 9, [range(5), range(5, 10)]),
        (5, 2, [range(3), range(3, 5)]),
        (2, 2, [range(2)]),
    ],
)
def test_batches_are_as_equal_as_can_be_and_weighted(n, minibatch, batches):
    z, posterior = codes_of(n)
    expected = written_out(z, posterior, [list(batch) for batch in batches])
    assert mutual_information(z, posterior, minibatch) == pytest.approx(expected, rel=1e-9)


def test_minibatches_tell_of_more_information_than_there_is_and_less_so_if_they_are_large():
    found = []
    for minibatch in (2, 8, 64, None):
        found.append(sum(mutual_information(*codes_of(256, seed=seed), minibatch) for seed in range(10)) / 10)
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] > 0.5


def test_deviations_of_a_millionth_of_the_codes_are_no_trouble():
    """The information does not change when means and deviations shrink together; nor when both move far off."""
    z, posterior = codes_of(60, std=0.5)
    expected = mutual_information(z, posterior)
    for scale, shift in ((1e-3, 0.0), (1e-3, 3.0), (1e-5, 1.0)):
        moved = Posterior(posterior.mean * scale + shift, posterior.std * scale)
        assert mutual_information(z * scale + shift, moved) == pytest.approx(expected, abs=1e-4)


def test_how_much_is_computed_at_once_does_not_matter(monkeypatch):
    vae, specs = affine(3, 2.0, 0.3)
    train = any_images(101)
    settings = Information(minibatch=20, likelihood_images=30, importance_samples=2)
    whole = information(vae, specs, train, any_images(20), settings)
    shapes, sizes = [], []
    densities, encode = module.log_densities, VAE.encode
    monkeypatch.setattr(module, "log_densities", lambda z, q: shapes.append((len(z), len(q.mean))) or densities(z, q))
    monkeypatch.setattr(VAE, "encode", lambda vae, x: sizes.append(x.shape[1]) or encode(vae, x))
    monkeypatch.setattr(module, "CHUNK_BYTES", 8 * 101 * 10)
    monkeypatch.setattr(elbo, "CHUNK_BYTES", 3 * activation_bytes(specs[0]) * 7)
    parts = information(vae, specs, train, any_images(20), settings)
    assert max(rows * columns for rows, columns in shapes) == 1010
    assert (10, 101) in shapes and (1, 101) in shapes  # ten full chunks and the image that is left
    assert sizes[0] == 7
    for a, b in zip(whole, parts, strict=True):
        assert numbers(a) == pytest.approx(numbers(b), rel=1e-9)


def test_a_member_does_not_depend_on_its_neighbours():
    shape = {"nc": 8, "latent_per_mz": 3, "levels": 2}
    specs = [TrialSpec(seed=seed, **shape) for seed in (4, 5, 6)]
    train = torch.randint(0, 2, (70, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    settings = Information(minibatch=16, likelihood_images=40, importance_samples=3)
    together = information(VAE(specs), specs, train, train[:30], settings)
    (alone,) = information(VAE(specs[1:2]), specs[1:2], train, train[:30], settings)
    assert numbers(together[1]) == pytest.approx(numbers(alone), rel=1e-5, abs=1e-6)
    vae = VAE([specs[0], TrialSpec(seed=4, beta=2.0, **shape)])  # two members of equal weights
    same, other = information(vae, [specs[0], specs[1]], train, train, ALONE)
    assert same["mutual_information"] + same["marginal_kl"] == pytest.approx(
        other["mutual_information"] + other["marginal_kl"], rel=1e-6
    )
    assert same["mutual_information"] != other["mutual_information"]
    assert information(vae, [specs[0], specs[1]], train, train, ALONE) == [same, other]


def test_columns_and_how_many_images():
    vae, specs = affine(2, 2.0, 0.3)
    train, test = any_images(60), any_images(40, 1)
    settings = Information(images=25, minibatch=10, likelihood_images=30, importance_samples=4)
    rows = information(vae, specs, train, test, settings)
    without = information(vae, specs, train, test, Information(images=25, minibatch=10, importance_samples=0))
    expected = [
        log_likelihood(vae, specs, images[:30], 4, stream_index=index).tolist()
        for images, index in ((train, LIKELIHOOD_TRAIN), (test, LIKELIHOOD_TEST))
    ]
    for member, row in enumerate(rows):
        assert set(row) <= set(METRICS.names)
        assert row["information_images"] == 25
        assert row["log_likelihood_train"] == expected[0][member]
        assert row["log_likelihood_test"] == expected[1][member]
        assert without[member] == {name: value for name, value in row.items() if "likelihood" not in name}
    first = information(vae, specs, train[:25], test, Information(minibatch=10, importance_samples=0))
    assert first == without


def test_one_image_is_too_few():
    vae, specs = affine(1, 1.0, 0.1)
    with pytest.raises(SpecError, match="at least 2 training images; got 1"):
        information(vae, specs, any_images(1), any_images(5), ALONE)
