"""FID and Inception Score where they are known, with small networks of features; and the search for the real one."""

import math
import os
import pickle
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from vaegen_ray.errors import DataFormatError, DataMissingError
from vaegen_ray.evaluation import sample_quality as module
from vaegen_ray.evaluation.sample_quality import inception, inception_weights, prior_means, sample_quality
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.evaluation import SampleQuality
from vaegen_ray.spec.trial import TrialSpec

CPU = torch.device("cpu")


class Pixels(nn.Module):
    """Features: four pixels as intensities. Two classes: whether the first pixel is bright, certain or not at all."""

    def __init__(self, certainty: float = 0.0) -> None:
        super().__init__()
        self.certainty, self.seen = certainty, []

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert images.dtype == torch.uint8
        self.seen.append(images)
        features = images[:, 0].flatten(1)[:, [0, 9, 27, 63]].float() / 255
        bright = (features[:, :1] > 0.5).float()
        return features, self.certainty * torch.cat((bright, 1 - bright), dim=1)


class Linear(nn.Module):
    """A decoder whose mean is 0.5 plus a fixed mixture of the code; its weights times a factor for each member."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        weights = torch.randn(4, 64, generator=torch.Generator().manual_seed(5))
        self.weights = 0.05 * weights * torch.tensor(factors).view(-1, 1, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (0.5 + z @ self.weights).unflatten(-1, (1, 8, 8))


def linear(*factors: float, seeds: tuple[int, ...] | None = None) -> tuple[VAE, list[TrialSpec]]:
    seeds = seeds or tuple(range(len(factors)))
    specs = [TrialSpec(nc=2, latent_per_mz=4, levels=256, likelihood="gaussian", seed=seed) for seed in seeds]
    vae = VAE(specs)
    vae.decoder = Linear(*factors)
    return vae, specs


def noise(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)


def closed_form(a: np.ndarray, b: np.ndarray) -> float:
    """FID of two sets of features [N, F]."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


def test_fid_is_that_of_two_gaussians():
    vae, specs = linear(1.0, 2.0)
    test, network = noise(300), Pixels()
    images, finite = prior_means(vae, specs, 300, CPU)
    assert finite == [True, True]
    real = network(test)[0].numpy()
    for member, measured in enumerate(sample_quality(vae, specs, test, SampleQuality(images=300), network)):
        wanted = closed_form(network(images[member])[0].numpy(), real)
        assert measured.row["fid"] == pytest.approx(wanted, rel=1e-4)
        assert measured.details == []


def test_fid_of_the_samples_themselves_and_of_brighter_ones():
    """Equal images: 0. All brighter by 20 of 255: four features that moved by 20/255, with the same covariance."""
    vae, specs = linear(0.5)
    (images,), _ = prior_means(vae, specs, 400, CPU)
    settings = SampleQuality(images=400)
    (same,) = sample_quality(vae, specs, images, settings, Pixels())
    assert same.row["fid"] == pytest.approx(0, abs=1e-6)
    assert int(images.max()) + 20 < 256
    (moved,) = sample_quality(vae, specs, images + 20, settings, Pixels())
    assert moved.row["fid"] == pytest.approx(4 * (20 / 255) ** 2, rel=1e-5)


def test_samples_are_mean_images_at_draws_from_the_prior():
    """Their covariance is W' W, and no pixel has noise of its own."""
    vae, specs = linear(1.0)
    (images,), _ = prior_means(vae, specs, 20_000, CPU)
    x = images.flatten(1).double().numpy() / 255
    weights = vae.decoder.weights[0].double().numpy()
    np.testing.assert_allclose(np.cov(x, rowvar=False), weights.T @ weights, atol=1.5e-3)
    np.testing.assert_allclose(x.mean(0), 0.5, atol=0.01)
    assert np.linalg.matrix_rank(x - x.mean(0), tol=1.0) == 4


def test_inception_score_of_certain_and_clueless_classifiers():
    """Half of the samples in each class: exp(ln 2) = 2 where the class is certain, 1 where every answer is the same."""
    vae, specs = linear(1.0)
    for certainty, score in ((100.0, 2.0), (0.0, 1.0)):
        (measured,) = sample_quality(vae, specs, noise(10), SampleQuality(images=4000), Pixels(certainty))
        assert measured.row["inception_score"] == pytest.approx(score, abs=0.01)


def test_inception_score_by_hand():
    """p(y|x) = (q, 1 - q) for bright pixels, the reverse for dark ones: ln IS = ln 2 - H(q) with even classes."""
    q = 1 / (1 + math.exp(-1.5))
    wanted = 2 * math.exp(q * math.log(q) + (1 - q) * math.log(1 - q))
    (measured,) = sample_quality(*linear(1.0), noise(10), SampleQuality(images=4000), Pixels(1.5))
    assert measured.row["inception_score"] == pytest.approx(wanted, abs=0.005)


def test_the_network_sees_colour_bytes_of_as_many_images():
    spec = TrialSpec(nc=2)  # binary images
    network = Pixels()
    test = noise(60) % 2
    sample_quality(VAE([spec]), [spec], test, SampleQuality(images=40), network)
    seen = torch.cat(network.seen)
    assert seen.shape == (80, 3, 8, 8)
    assert all(torch.equal(seen[:40, colour], 255 * test[:40, 0]) for colour in range(3))
    assert seen[40:].unique().numel() > 2  # mean images are grey
    fewer = Pixels()
    sample_quality(VAE([spec]), [spec], test[:10], SampleQuality(images=40), fewer)
    assert sum(map(len, fewer.seen)) == 10 + 40


def test_every_sample_and_every_seed_draws_for_itself(monkeypatch):
    vae, specs = linear(1.0, 1.0)
    images, _ = prior_means(vae, specs, 1100, CPU)
    assert len({image.numpy().tobytes() for image in images.flatten(0, 1)}) == 2200
    monkeypatch.setattr("vaegen_ray.evaluation.reconstruction.CHUNK_BYTES", 1)
    assert torch.equal(prior_means(vae, specs, 1100, CPU)[0], images)
    assert torch.equal(prior_means(vae, specs, 700, CPU)[0], images[:, :700])


def test_batch_norm_uses_its_running_statistics(monkeypatch):
    spec = TrialSpec(architecture="residual", nc=4, latent_per_mz=4)
    vae = VAE([spec])
    together, _ = prior_means(vae.train(), [spec], 20, CPU)
    monkeypatch.setattr("vaegen_ray.evaluation.reconstruction.CHUNK_BYTES", 1)
    one_by_one, _ = prior_means(vae.train(), [spec], 20, CPU)
    assert (together.int() - one_by_one.int()).abs().max() <= 1


def test_a_member_is_measured_as_it_is_alone_whatever_happened_before():
    settings = SampleQuality(images=200)
    together = sample_quality(*linear(1.0, 2.0, 2.0), noise(100), settings, Pixels(3.0))
    torch.manual_seed(123)
    before = torch.get_rng_state()
    alone = sample_quality(*linear(2.0, seeds=(2,)), noise(100), settings, Pixels(3.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert alone[0].row == pytest.approx(together[2].row, rel=1e-6)
    assert together[1].row["fid"] != together[2].row["fid"]


def test_a_member_that_is_not_finite_is_not_a_number_alone():
    settings = SampleQuality(images=100)
    broken, sound = sample_quality(*linear(float("nan"), 1.0), noise(100), settings, Pixels(1.0))
    assert set(broken.row) == {"fid", "inception_score"}
    assert all(math.isnan(value) for value in broken.row.values())
    assert sound == sample_quality(*linear(1.0, seeds=(1,)), noise(100), settings, Pixels(1.0))[0]


def test_one_sample_that_is_not_finite_is_enough(monkeypatch):
    vae, specs = linear(1.0)
    plain = vae.decoder
    del vae.decoder
    vae.decoder = lambda z: torch.where((z[..., 0] > 2)[..., None, None, None], float("nan"), plain(z))
    monkeypatch.setattr("vaegen_ray.evaluation.reconstruction.CHUNK_BYTES", 1)
    images, finite = prior_means(vae, specs, 600, CPU)
    assert finite == [False]
    assert 0 < (images[0].flatten(1) == 0).all(1).sum() < 50


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty folder for weights; nothing can be downloaded."""

    def no_network(*args, **kwargs):
        raise AssertionError("asked for a download")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    inception.cache_clear()
    yield tmp_path / "hub" / "checkpoints"
    inception.cache_clear()


@pytest.fixture
def weights(hub):
    """The file where the weights should be; its folder is there."""
    pytest.importorskip("torch_fidelity")
    hub.mkdir(parents=True)
    return hub / "weights-inception-2015-12-05-6726825d.pth"


def test_absent_weights_are_one_line_and_no_download(hub):
    pytest.importorskip("torch_fidelity")
    for ask in (inception_weights, inception, lambda: sample_quality(*linear(1.0), noise(4), SampleQuality(images=4))):
        with pytest.raises(DataMissingError, match=f"no weights-inception-.*pth in {hub}; download http") as error:
            ask()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("package", ["torch_fidelity", "torchmetrics.image"])
def test_absent_packages_are_named_with_their_command(monkeypatch, hub, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataMissingError, match="pip install 'vaegen-ray\\[fid\\]'") as error:
        inception_weights()
    assert "\n" not in str(error.value)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_the_file_of_the_weights_is_not_run(weights, tmp_path):
    torch.save({"fc.bias": Trap(tmp_path / "sprung")}, weights)
    with pytest.raises(DataFormatError, match="download it again") as error:
        inception()
    assert str(weights) in str(error.value)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(FileNotFoundError):
        os.rmdir(tmp_path / "sprung")


@pytest.mark.parametrize("content", [b"", b"no weights", pickle.dumps({}, protocol=2), "other"])
def test_damaged_weights_are_one_line(weights, content):
    torch.save(nn.Linear(2, 2).state_dict(), weights) if content == "other" else weights.write_bytes(content)
    with pytest.raises(DataFormatError, match="must hold the weights of the Inception network") as error:
        inception()
    assert "\n" not in str(error.value)


def test_the_real_network_gives_features_and_logits(monkeypatch, weights):
    """Of random weights in a file of the real format; loaded once."""
    source = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with monkeypatch.context() as patch:
        patch.setattr(source, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(source.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        torch.save(source.FeatureExtractorInceptionV3("x", ["2048"]).state_dict(), weights)
    network = inception()
    weights.unlink()
    assert inception() is network
    shapes = []
    monkeypatch.setattr(module, "inception", lambda: nn.Sequential(network, First(3, shapes)))
    (measured,) = sample_quality(*linear(1.0), noise(2), SampleQuality(images=2))
    assert shapes == [(2, 2048), (2, 1008)] * 2
    assert measured.row["fid"] > 0
    assert measured.row["inception_score"] >= 1 - 1e-9


class First(nn.Module):
    """Some of the features and all logits, since a small covariance is quick; notes the shapes of all."""

    def __init__(self, features: int, shapes: list) -> None:
        super().__init__()
        self.features, self.shapes = features, shapes

    def forward(self, seen: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        self.shapes.extend(tuple(part.shape) for part in seen)
        return seen[0][:, : self.features], seen[1]
