"""How long the evaluations of a bundle take: the FLOPs of each estimator, at the rate of a device.

Most of them are forward passes; a pass back to the input of a network costs as much again. What is no pass through a
VAE has a constant that was measured. The search for the amortization gap ends by itself: of 1,000 steps it takes about
400 (``evaluation.amortization``).
"""

from collections.abc import Callable

from vaegen_ray.bundle.cost import Device, tested_images
from vaegen_ray.bundle.packing import Bundle
from vaegen_ray.models.layout import layers
from vaegen_ray.spec.evaluation import EvaluationSettings
from vaegen_ray.spec.trial import TrialSpec

USUAL_STEPS = 400
"""Steps after which the search for the amortization gap has mostly ended."""
PAIR_SECONDS = 1e-9
"""One latent dimension of the log-density of a code under a posterior, on a CPU core."""
CLASSIFIER_SECONDS = 2e-7
"""The four classifiers of representations, on a CPU core: times the square of the images that they are trained on."""
CORRUPTED_SETS = 7
"""Corrupted test sets that are classified, with the mixture of them."""
INCEPTION_FLOPS = 1.14e10
"""Forward pass of the Inception network at 299x299."""
RESNET_FLOPS = 3.6e9 / 224**2
"""Forward pass of ResNet-18, for each pixel of an image."""
LAUNCHES_BACK = 0.7
"""A pass forward and back without an optimiser, in launches of a training step."""


def evaluation_seconds(bundle: Bundle, device: Device, epoch: int) -> dict[str, float]:
    """Expected seconds of the evaluations at an effective epoch, by name: ``elbo`` and the fields of the settings."""
    spec, members = bundle[0], len(bundle)
    tests = tested_images(spec)
    images = spec.n_train + tests + spec.validation + (tests if any(each.stream for each in bundle) else 0)
    found = {"elbo": members * images * spec.elbo_samples * device.pass_seconds(spec)}
    wanted = spec.measures
    if wanted is None:
        return found
    last = epoch == spec.epochs
    for name, seconds in ESTIMATORS.items():
        at_gaps = name in ("amortization", "robustness", "inference") and epoch in wanted.gaps_at
        if getattr(wanted, name) is not None and (last or at_gaps):
            found[name] = seconds(bundle, device, wanted)
    return found


def all_evaluations(bundle: Bundle, device: Device) -> dict[str, float]:
    """Expected seconds of all evaluations of a bundle, by name."""
    total: dict[str, float] = {}
    for epoch in bundle[0].evaluate_at:
        for name, seconds in evaluation_seconds(bundle, device, epoch).items():
            total[name] = total.get(name, 0.0) + seconds
    return total


def bundle_seconds(bundle: Bundle, device: Device) -> float:
    """Expected seconds of a bundle, evaluations included."""
    return device.training_seconds(bundle[0], len(bundle)) + sum(all_evaluations(bundle, device).values())


def done_seconds(bundle: Bundle, device: Device, step: int, epoch: int) -> float:
    """Expected seconds of the part of a bundle that is done after ``step`` steps and the evaluations to ``epoch``."""
    spec = bundle[0]
    evaluated = [at for at in spec.evaluate_at if at <= epoch]
    evaluations = sum(sum(evaluation_seconds(bundle, device, at).values()) for at in evaluated)
    return step * device.step_seconds(spec, len(bundle)) + evaluations


def _launches(spec: TrialSpec, device: Device, passes: float) -> float:
    return passes * LAUNCHES_BACK * len(layers(spec)) * device.layer_cost(spec).launch_seconds


def _amortization(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    spec, settings = bundle[0], wanted.amortization
    assert settings is not None
    images, steps = min(settings.images, tested_images(spec)), min(settings.steps, USUAL_STEPS)
    looks = 3 + steps / settings.check_every
    passes = steps + 0.5 * looks * settings.check_samples  # a step goes through the decoder, forward and back
    return len(bundle) * images * passes * device.pass_seconds(spec) + _launches(spec, device, steps)


def _robustness(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    spec, settings = bundle[0], wanted.robustness
    assert settings is not None
    attacks = min(settings.images, tested_images(spec)) * settings.restarts
    passes = settings.steps + 4
    return len(bundle) * attacks * passes * device.pass_seconds(spec) + _launches(spec, device, passes)


def _inference(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    spec, settings = bundle[0], wanted.inference
    assert settings is not None
    mixtures = len(settings.self_consistent)
    images = settings.optimal_epochs * tested_images(spec) + settings.epochs * mixtures * spec.n_train
    trained = images / spec.batch_size * device.step_seconds(spec, len(bundle))
    return trained + (1 + mixtures) * len(bundle) * tested_images(spec) * device.pass_seconds(spec)


def _information(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    spec, settings = bundle[0], wanted.information
    assert settings is not None
    count = min(settings.images, spec.n_train)
    pairs = count * (count + min(count, settings.minibatch)) * spec.latent_dim
    likelihood = sum(min(settings.likelihood_images, images) for images in (spec.n_train, tested_images(spec)))
    passes = count + likelihood * (1 + 0.5 * settings.importance_samples)
    pair_seconds = PAIR_SECONDS * (1.0 if device.kind == "cpu" else 0.01)
    return len(bundle) * (pairs * pair_seconds + passes * device.pass_seconds(spec))


def _representation(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    spec, settings = bundle[0], wanted.representation
    assert settings is not None
    images = min(settings.images, tested_images(spec))
    sets = 1 + CORRUPTED_SETS * settings.corruptions
    each = 0.01 + CLASSIFIER_SECONDS * (images / 2) ** 2 + images * device.pass_seconds(spec)
    return len(bundle) * sets * each


def _reconstruction(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    return len(bundle) * tested_images(bundle[0]) * device.pass_seconds(bundle[0])


def _sample_quality(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    settings = wanted.sample_quality
    assert settings is not None
    return (len(bundle) + 1) * settings.images * INCEPTION_FLOPS / device.conv.flops_per_second


def _smoothness(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    settings = wanted.smoothness
    assert settings is not None
    return len(bundle) * settings.pairs * settings.points * device.pass_seconds(bundle[0])


def _two_sample(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    spec, settings = bundle[0], wanted.two_sample
    assert settings is not None
    seeds = len({each.seed for each in bundle})
    passes = 2 * (3 * settings.epochs * min(spec.n_train, spec.real_images) + tested_images(spec))
    pixels = spec.image_shape[1] * spec.image_shape[2]
    return seeds * passes * RESNET_FLOPS * pixels / device.conv.flops_per_second


def _neighbours(bundle: Bundle, device: Device, wanted: EvaluationSettings) -> float:
    spec, settings = bundle[0], wanted.neighbours
    assert settings is not None
    flops = 2 * min(settings.images, tested_images(spec)) * spec.n_train * spec.pixels
    return 2 * flops / device.linear.flops_per_second  # in float64, once for all members


ESTIMATORS: dict[str, Callable[[Bundle, Device, EvaluationSettings], float]] = {
    "amortization": _amortization,
    "robustness": _robustness,
    "representation": _representation,
    "reconstruction": _reconstruction,
    "sample_quality": _sample_quality,
    "smoothness": _smoothness,
    "two_sample": _two_sample,
    "information": _information,
    "inference": _inference,
    "neighbours": _neighbours,
}
"""Expected seconds of every evaluation of ``EvaluationSettings``."""
