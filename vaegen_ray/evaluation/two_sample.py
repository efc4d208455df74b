"""The classifier two-sample test: can a network tell samples of a diffusion model from real images?

A ResNet-18 (He et al. 2016) learns to tell real images (label 1) from as many samples (label 0). On held-out images,

    two_sample_accuracy = fraction that it puts on the right side     (xiao2024, Appendix D.3 and Figure 18)

where half are real: 0.5 is chance, samples cannot be told from real images; 1 is a perfect distinction.

The paper does not print how an image goes into the network. Here pixels go to [-1, 1], grey is repeated to three
channels, nothing is augmented, and the network is torchvision's, whose first layers halve an image twice. Images keep
their size: enlarging 8x8 digits to 16x16 tells 2 to 7 more of a hundred from noisy ones, and takes 1.8 times as long.

The initial weights and the order of the images are the stream ``classifiers`` of a member's seed, drawn on a CPU: index
0 is the weights, index e the order of epoch e. The VAE plays no part, so members of one seed share a classifier.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaegen_ray.errors import SpecError
from vaegen_ray.evaluation.result import EvaluationResult
from vaegen_ray.seeds import stream_seed
from vaegen_ray.spec.evaluation import TwoSample
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.numerics import arithmetic


def two_sample(
    specs: list[TrialSpec],
    real_train: Tensor,
    real_test: Tensor,
    fake_train: Tensor,
    fake_test: Tensor,
    settings: TwoSample,
    *,
    levels: int,
    device: torch.device,
) -> list[EvaluationResult]:
    """``two_sample_accuracy`` of every member; not a number where a classifier did not stay finite.

    Of real images and samples the first are taken, as many as there are of the rarer. On a CPU the same call gives the
    same numbers. The global random generators are left as they were.

    Args:
        specs: the members, which all have the stream that the samples are of.
        real_train, real_test: images of the data set, uint8 [N, C, H, W], C 1 or 3.
        fake_train, fake_test: samples, as images of the data set; no sample is in both.
        settings: how the classifier is trained.
        levels: grey levels; pixel values are 0 .. levels - 1.
        device: where the classifiers are trained.

    Raises:
        SpecError: there are no real images, or no samples, or torchvision is not installed.
    """
    assert len({spec.stream for spec in specs}) == 1, "samples are of one stream"
    train, test = (
        _labelled(real, fake, name, device)
        for real, fake, name in ((real_train, fake_train, "training"), (real_test, fake_test, "test"))
    )
    accuracies = {}
    with arithmetic("float32", device):
        for seed in {spec.seed for spec in specs}:
            classifier = _trained(seed, *train, settings, levels)
            accuracies[seed] = _accuracy(classifier, *test, settings.batch_size, levels)
    return [EvaluationResult({"two_sample_accuracy": accuracies[spec.seed]}, []) for spec in specs]


def _labelled(real: Tensor, fake: Tensor, name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Equally many real images and samples with their labels: uint8 [2 N, C, H, W] and float32 [2 N]."""
    each = min(len(real), len(fake))
    if each == 0:
        raise SpecError(f"two-sample {name} needs real images and samples; got {len(real)} and {len(fake)}")
    images = torch.cat((real[:each].to(device), fake[:each].to(device)))
    return images, torch.arange(2 * each, device=device).lt(each).float()


def _trained(seed: int, images: Tensor, labels: Tensor, settings: TwoSample, levels: int) -> nn.Module:
    """A classifier that has learnt the labels, by stochastic gradient descent on the cross-entropy."""
    classifier = _resnet18(stream_seed(seed, "classifiers"))
    _cut_idle_weights(classifier, *images.shape[2:])
    classifier.to(images.device).train()
    optimiser = torch.optim.SGD(
        classifier.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    with torch.enable_grad():
        for epoch in range(1, settings.epochs + 1):
            generator = torch.Generator().manual_seed(stream_seed(seed, "classifiers", epoch))
            order = torch.randperm(len(images), generator=generator).to(images.device)
            for batch in _batches(order, settings.batch_size):
                logits = classifier(_network_input(images[batch], levels)).squeeze(1)
                optimiser.zero_grad()
                F.binary_cross_entropy_with_logits(logits, labels[batch]).backward()
                optimiser.step()
    return classifier


def _resnet18(seed: int) -> nn.Module:
    """An untrained ResNet-18 with one output. torchvision draws weights from the global generator of the CPU, which is
    lent to it; ``torch.manual_seed`` would seed those of all GPUs too."""
    try:
        from torchvision.models import resnet18  # type: ignore[import-untyped]
    except ImportError as error:
        raise SpecError(
            f"two_sample needs the optional package torchvision ({error}); get it with: "
            "pip install 'vaegen-ray[torchvision]'"
        ) from None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return resnet18(weights=None, num_classes=1)


def _cut_idle_weights(network: nn.Module, height: int, width: int) -> None:
    """Cuts 3x3 kernels to their centre where the feature maps are a single pixel, as the last ones of small images are.

    The other eight weights multiply padding alone: they have no part in the output and get no gradient. So the network
    computes the same as before, on 8x8 images almost three times as fast.
    """
    idle: list[nn.Conv2d] = []

    def look(convolution: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(convolution, nn.Conv2d)
        if convolution.kernel_size == (3, 3) and inputs[0].shape[-2:] == (1, 1):
            idle.append(convolution)

    hooks = [part.register_forward_pre_hook(look) for part in network.modules() if isinstance(part, nn.Conv2d)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    for convolution in idle:
        convolution.weight = nn.Parameter(convolution.weight[:, :, 1:2, 1:2].detach().clone())
        convolution.kernel_size, convolution.padding = (1, 1), (0, 0)


def _batches(order: Tensor, size: int) -> Iterator[Tensor]:
    """``order`` in pieces of ``size``, the rest as the last. A rest of one joins the piece before it, since BatchNorm
    has no variance of one image."""
    whole = len(order) - 1 if len(order) % size == 1 else len(order)
    starts = range(0, whole, size)
    return (order[start : None if start == starts[-1] else start + size] for start in starts)


@torch.no_grad()
def _accuracy(classifier: nn.Module, images: Tensor, labels: Tensor, batch_size: int, levels: int) -> float:
    """Fraction of images on the right side, real where the output is above 0."""
    classifier.eval()
    logits = torch.cat([classifier(_network_input(part, levels)) for part in images.split(batch_size)]).squeeze(1)
    if not logits.isfinite().all():
        return float("nan")
    return (logits > 0).eq(labels > 0.5).double().mean().item()


def _network_input(images: Tensor, levels: int) -> Tensor:
    """uint8 [B, C, H, W] -> float32 [B, 3, H, W] in [-1, 1]."""
    return (images.float() * (2 / (levels - 1)) - 1).expand(-1, 3, -1, -1)
