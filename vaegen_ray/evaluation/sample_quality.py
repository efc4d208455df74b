"""FID and Inception Score of samples of the VAE (xiao2024, Table 11).

    FID = |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))                      (Heusel et al. 2017), smaller is better
    IS  = exp E_x [KL(p(y|x) || p(y))], p(y) = E_x p(y|x)                (Salimans et al. 2016), larger is better

m and C are the mean and covariance of features of samples, m' and C' of test images; p(y|x) is a classifier's answer.
Features and classifier are the Inception network of 2015 in torch-fidelity, the two sums are torchmetrics'; IS is the
mean over 10 groups of samples, as usual. A sample is the decoder's mean image at z from the prior, in bytes, as usual
for VAEs: noise that is independent from pixel to pixel would be most of what the network sees. The paper does not say.

Letters: M members, N images, B of them at once, Z latent dimensions, F features, Y classes.
"""

import functools
import pickle
import warnings
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from vaegen_ray.errors import DataFormatError, DataMissingError
from vaegen_ray.evaluation.elbo import NOISE_BLOCK
from vaegen_ray.evaluation.reconstruction import images_at_once, intensities
from vaegen_ray.evaluation.result import EvaluationResult
from vaegen_ray.models.vae import VAE
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.evaluation import SampleQuality
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic

BATCH = 50
"""Images that the Inception network sees at once, enlarged to 299x299."""
SHUFFLE = 2**20
"""Index in the stream "generation" of the order in which samples form the groups of IS; block b of samples is b."""


def sample_quality(
    vae: VAE, specs: list[TrialSpec], test: Tensor, settings: SampleQuality, features: nn.Module | None = None
) -> list[EvaluationResult]:
    """``fid`` and ``inception_score`` of every member, not a number where its samples are not finite.

    Args:
        vae: the M members; BatchNorm uses its running statistics.
        specs: their specifications, for the seeds.
        test: uint8 [N, C, H, W], on the members' device.
        settings: number of samples, and of test images, the first of them.
        features: uint8 [B, 3, H, W] -> features [B, F] and logits of classes [B, Y]; ``inception()`` when None.

    Raises:
        DataMissingError, DataFormatError: as ``inception``.
    """
    network = (inception() if features is None else features).to(test.device).eval()
    from torchmetrics.image import FrechetInceptionDistance, InceptionScore

    samples, finite = prior_means(vae, specs, settings.images, test.device)
    real, _ = _seen(network, _bytes(intensities(vae, test[: settings.images])), test.device)
    given = _Given(real.shape[1])
    distance = FrechetInceptionDistance(given, reset_real_features=False)
    distance.update(real, real=True)
    measured = []
    for spec, images, is_finite in zip(specs, samples, finite, strict=True):
        if not is_finite:
            measured.append(EvaluationResult({"fid": float("nan"), "inception_score": float("nan")}, []))
            continue
        seen, logits = _seen(network, images, test.device)
        distance.reset()
        distance.update(seen, real=False)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # that it keeps what it was given
            torch.default_generator.manual_seed(stream_seed(spec.seed, "generation", SHUFFLE))
            score = InceptionScore(given)
            score.update(logits)
            row = {"fid": distance.compute().item(), "inception_score": score.compute()[0].item()}
        measured.append(EvaluationResult(row, []))
    return measured


@torch.no_grad()
def prior_means(vae: VAE, specs: list[TrialSpec], count: int, device: torch.device) -> tuple[Tensor, list[bool]]:
    """The decoder's mean images at ``count`` draws from the prior, each member's from its own stream.

    Returns:
        uint8 [M, count, C, H, W] from 0 to 255 whatever the data's grey levels, in the memory of the host; and whether
        all images of a member are finite.
    """
    vae.eval()
    parts = []
    finite = torch.ones(len(specs), dtype=torch.bool, device=device)
    with arithmetic("float32", device):
        for block in range(-(-count // NOISE_BLOCK)):
            size = min(NOISE_BLOCK, count - block * NOISE_BLOCK)
            noise = torch.stack([_noise(spec, block, size, device) for spec in specs])
            for z in noise.split(images_at_once(vae), dim=1):
                images = vae.likelihood.mean(vae.decode(z))
                finite &= images.isfinite().flatten(1).all(1)
                parts.append(_bytes(images.nan_to_num()).cpu())
    return torch.cat(parts, dim=1), finite.tolist()


def inception_weights() -> Path:
    """The file with the weights of the Inception network, found without opening it.

    Raises:
        DataMissingError: the packages or the file are absent; says how to get them. Nothing is downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(_torch_fidelity().URL_INCEPTION_V3).name
    if not path.is_file():
        raise DataMissingError(
            f"FID and Inception Score need the weights of the Inception network: no {path.name} in {path.parent}; "
            f"download {_torch_fidelity().URL_INCEPTION_V3} into that folder, on every machine that trains"
        )
    return path


@functools.cache
def inception() -> nn.Module:
    """The Inception network that FID and IS are defined with, loaded once a process.

    uint8 [B, 3, H, W] -> features [B, 2048] and logits [B, 1008].

    Raises:
        DataMissingError: as ``inception_weights``.
        DataFormatError: the file of the weights is not what it should be.
    """
    path = inception_weights()
    try:
        torch.load(path, weights_only=True)  # torch-fidelity would run code that is in the file; this refuses it
        return _torch_fidelity().FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, EOFError, OSError) as error:
        raise DataFormatError(f"{path} must hold the weights of the Inception network; download it again") from error


class _Given(nn.Identity):
    """Makes torchmetrics work on features: so the network sees an image once for both metrics."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def _torch_fidelity() -> ModuleType:
    try:
        import torchmetrics.image  # noqa: F401
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as error:
        raise DataMissingError(
            f"FID and Inception Score need torch-fidelity and torchmetrics ({error}); "
            "run `pip install 'vaegen-ray[fid]'`"
        ) from error
    return feature_extractor_inceptionv3


@torch.no_grad()
def _seen(network: nn.Module, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the network makes of bytes [N, C, H, W]: features [N, F] and logits [N, Y], float64, on the host."""
    with arithmetic("float32", device):
        parts = [network(part.to(device).expand(-1, 3, -1, -1)) for part in images.split(BATCH)]
    features, logits = (torch.cat(kind).double().cpu() for kind in zip(*parts, strict=True))
    return features, logits


def _bytes(intensity: Tensor) -> Tensor:
    return (intensity * 255).round().to(torch.uint8)


def _noise(spec: TrialSpec, block: int, images: int, device: torch.device) -> Tensor:
    """Standard normal [images, Z]."""
    generator = torch.Generator(device).manual_seed(stream_seed(spec.seed, "generation", block))
    return torch.randn(images, spec.latent_dim, generator=generator, device=device)
