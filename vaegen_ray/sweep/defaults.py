"""What a data set is usually trained with: the part of a trial that does not vary along a sweep."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from vaegen_ray.data.catalog import DatasetInfo, check, info
from vaegen_ray.errors import SpecError, VaegenWarning, not_one_of
from vaegen_ray.models import registry
from vaegen_ray.spec.diffusion import DiffusionSpec, Sampler, StreamSpec
from vaegen_ray.spec.evaluation import KINDS, Attack, EvaluationSettings
from vaegen_ray.spec.method import recipe
from vaegen_ray.spec.trial import TrialSpec

FULLY_CONNECTED_LATENT = {8: 2, 32: 16}
"""Latent dimensions for each unit of mz, by side of the image: 16 as in xiao2024's fully-connected network on 32x32
images, 2 on 8x8 images, which have a sixteenth of the pixels."""

SMALL_UNET: dict[str, Any] = {"network": "unet", "channels": 32, "multipliers": (1, 2, 2), "blocks": 1, "dropout": 0.1}
DDPMPP: dict[str, Any] = {
    **{"network": "unet", "channels": 128, "multipliers": (2, 2, 2), "blocks": 4, "attention": (16,), "dropout": 0.13},
    **{"batch_size": 512, "learning_rate": 1e-3, "warmup_images": 10_000_000, "decay": "constant"},
}
"""The network and training of Karras et al. (2022, Table 7) for CIFAR-10."""
SMOKE_IMAGES = 200
"""Training images, and test images of data sets that have more than a thousand, with the preset ``smoke``."""
EDM_EPOCHS = 4000
"""Passes over the training set at the paper's scale: 200 M images of CIFAR-10."""

PAPER_MODELS = {
    "residual": {"nc": 256, "mz": 1},
    "fully_connected": {"nc": 512, "mz": 1},
    "convolutional": {"nc": 64, "mz": 1},
}
"""Sizes of the networks of xiao2024 (Section 5.1 and Appendix B.1) and bozkurt2021 (Section 4.3)."""
ATTACK_ON_CIFAR = Attack(images=20, steps=100, radius=0.05)
"""Table 2 for CIFAR-10; the defaults of ``Attack`` are those of the two other data sets."""
SMALLER: dict[str, dict[str, Any]] = {
    "laptop": {
        "amortization": {"images": 300, "steps": 500},
        "information": {"likelihood_images": 200, "importance_samples": 50},
        "inference": {"epochs": 40},
    },
    "smoke": {
        "amortization": {"images": 20, "steps": 20, "check_every": 10, "check_samples": 2},
        "robustness": {"images": 4, "restarts": 2, "steps": 3},
        "representation": {"images": 80},
        "reconstruction": {"shown": 3},
        "smoothness": {"pairs": 3, "points": 5},
        "two_sample": {"epochs": 1},
        "sample_quality": {"images": 20},
        "information": {"images": 100, "minibatch": 32, "likelihood_images": 10, "importance_samples": 5},
        "inference": {"epochs": 1, "optimal_epochs": 2},
        "neighbours": {"images": 50},
    },
}
"""What is measured on less than the whole, by preset."""


def base_measures(dataset: str, preset: str, names: Iterable[str]) -> EvaluationSettings | None:
    """The settings of evaluations for a data set; None without names.

    Args:
        dataset: name in the catalog.
        preset: ``smoke``, ``laptop`` or ``paper``.
        names: fields of ``EvaluationSettings``; ``corruptions`` for representations of corrupted images too.
    """
    names = set(names)
    smaller = SMALLER.get(preset, {})
    made: dict[str, Any] = {}
    for name in names - {"corruptions"}:
        usual = ATTACK_ON_CIFAR if name == "robustness" and dataset == "cifar10" else KINDS[name]()
        made[name] = replace(usual, **smaller.get(name, {}))
    if "corruptions" in names:
        made["representation"] = replace(made["representation"], corruptions=True)
    return EvaluationSettings(**made) if made else None


def base_spec(
    dataset: str,
    *,
    architecture: str | None = None,
    levels: int | None = None,
    held_out: Callable[[int], int] | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Fields of a ``TrialSpec`` for a data set: images, network, likelihood and optimiser.

    The fully-connected network is trained with Adam at 1e-3, and batches of 50 (embedded data) or 100; the residual
    network, default for photographs in colour, with Adam at 1e-4 and batches of 100. The paper gives no optimiser;
    these are the values of related code. With fewer training images than a batch, a batch is all of them
    (``fitting_batch``).

    Args:
        dataset: name in the catalog.
        architecture: a network of the package, or one of your own that is registered; None for the usual one.
        levels: grey levels; None for the usual ones.
        held_out: from the number of training images to how many of them are kept for validation; None for none.
        training: further fields, which override: ``n_train``, ``epochs`` and so on.

    Raises:
        SpecError: no such data set, or it does not come with these levels or so many images.
    """
    entry = info(dataset)
    check(dataset, levels, training.get("n_train"), training.get("split"))
    levels = levels or entry.default_levels
    architecture = architecture or ("residual" if entry.likelihood == "logistic_mixture" else "fully_connected")
    _, height, width = entry.image_shape
    grid = (height // 4) * (width // 4)
    residual = architecture == "residual"
    n_train = training.get("n_train", entry.n_train)
    images = n_train - (held_out(n_train) if held_out else 0)
    return {
        "dataset": dataset,
        "data_digest": entry.digest,
        "levels": levels,
        "n_train": entry.n_train,
        "image_shape": entry.image_shape,
        "architecture": architecture,
        "network_version": registry.find_version(architecture),
        "latent_per_mz": grid if residual else FULLY_CONNECTED_LATENT.get(height, 16),
        "likelihood": training.get("likelihood") or _likelihood(entry, levels),
        "learning_rate": 1e-4 if residual else 1e-3,
        "batch_size": training.get("batch_size") or fitting_batch(50 if height <= 8 else 100, images),
        **training,
    }


def fitting_batch(usual: int, images: int) -> int:
    """The usual batch size, or the number of images to train on where there are fewer, with a ``VaegenWarning``."""
    if not 0 < images < usual:
        return usual
    warnings.warn(
        f"the batch size is {images}, because there are {images} images to train on and {usual} is usual "
        f"(--batch-size sets it)",
        VaegenWarning,
        stacklevel=2,
    )
    return images


def held_out_by(methods: Iterable[str]) -> Callable[[int], int]:
    """For ``base_spec``: the images that are kept for validation where one of the methods is stopped early."""
    early = any(recipe(method).early_stopping for method in methods)
    return lambda n_train: max(1, n_train * TrialSpec.validation_percent // 100) if early else 0


def smoke_training(dataset: str) -> dict[str, Any]:
    """Fields of a ``TrialSpec`` with which a test on any data set takes seconds: few training and test images.

    Raises:
        SpecError: no such data set.
    """
    entry = info(dataset)
    limits = {"n_train": min(SMOKE_IMAGES, entry.n_train)}
    return limits | ({"n_test": SMOKE_IMAGES} if entry.n_test > 1000 else {})


def base_stream(
    dataset: str, preset: str, *, n_train: int | None = None, precision: str | None = None, **training: Any
) -> StreamSpec:
    """The diffusion model of a data set, and its samples.

    Images of 8x8 get a residual MLP, which takes half a minute on a CPU core; larger ones a U-Net: at the scale of a
    laptop a small one, for the paper DDPM++ with bf16 and 18 steps as Karras et al. (2022) have it.

    Args:
        dataset: name in the catalog.
        preset: ``smoke``, ``laptop`` or ``paper``.
        n_train: training images, the first of the fixed order; all when None.
        precision: arithmetic of training and sampling; None for the usual one.
        training: further fields of the ``DiffusionSpec``, which override.

    Raises:
        SpecError: no such data set or preset, or it does not have so many images.
    """
    entry = info(dataset)
    check(dataset, None, n_train)
    if preset not in ("smoke", "laptop", "paper"):
        raise SpecError(not_one_of("preset", preset, ("smoke", "laptop", "paper")))
    n = n_train or entry.n_train
    fields: dict[str, Any] = {
        "dataset": dataset,
        "data_digest": entry.digest,
        "levels": entry.native_levels,
        "n_train": n,
        "image_shape": entry.image_shape,
        "precision": precision or "float32",
    }
    if entry.image_shape[1] <= 8:
        sampler, shard_size, batch_size = Sampler(steps=10), 2000, 500
    elif preset == "paper":
        fields |= {**DDPMPP, "images": EDM_EPOCHS * n, "precision": precision or "bf16"}
        sampler, shard_size, batch_size = Sampler(), 2048, 1024
    else:
        fields |= SMALL_UNET
        sampler, shard_size, batch_size = Sampler(steps=12), 500, 100
    if preset == "smoke":
        fields |= {"channels": 32, "blocks": 1, "images": 20_000, "warmup_images": 2_000}
        sampler, shard_size, batch_size = Sampler(steps=4), 200, 100
        if entry.image_shape[1] > 8:
            fields |= {"channels": 8, "images": 1_000, "warmup_images": 100, "batch_size": 50}
    return StreamSpec(
        diffusion=DiffusionSpec(**{**fields, **training}),
        sampler=sampler,
        shard_size=shard_size,
        batch_size=batch_size,
        precision=str(fields["precision"]),
    )


def _likelihood(entry: DatasetInfo, levels: int) -> str:
    """Binarised images are Bernoulli; grey levels of a usually binarised data set get a discretised logistic."""
    if levels == 2:
        return "bernoulli"
    return "logistic" if entry.default_levels == 2 else entry.likelihood


def rising_epochs(last: int, count: int = 12) -> tuple[int, ...]:
    """About ``count`` effective epochs from 1 to ``last``, evenly spaced in the logarithm, where curves bend."""
    if last < 1:
        raise SpecError(f"epochs must be a whole number >= 1; got {last!r}")
    if count < 2:
        return (last,)
    return tuple(sorted({max(1, round(last ** (i / (count - 1)))) for i in range(count)} | {last}))
