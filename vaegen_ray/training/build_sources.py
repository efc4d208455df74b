"""From the name of a method to its source."""

import torch
from torch import Tensor

from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.augmentation import Augmented, augmentation_of, stronger
from vaegen_ray.training.mollification import Mollified
from vaegen_ray.training.sources import Mixture, Repetitions, Source, StreamOf, Synthetic


def source_of(spec: TrialSpec, train: Tensor, stream_of: StreamOf | None = None) -> Source:
    """The source that a trial names with ``method``.

    Args:
        spec: the trial.
        train: its real images, D_train first, uint8 [``spec.real_images``, C, H, W], on the device of the training.
        stream_of: opens the stream of a trial that has one.
    """
    made = spec.recipe
    source: Source = Repetitions(train[: len(train) - spec.validation_images], spec.seed)
    if made.synthetic:
        synthetic = _synthetic(spec, train.device, stream_of)
        source = Mixture(source, synthetic, spec.real_percent) if made.images == "mix" else synthetic
    if made.augmentation:
        augmentation = stronger(augmentation_of(made.augmentation, spec.image_shape), spec.augment_strength)
        source = Augmented(
            source, augmentation, probability=spec.augment_probability, levels=spec.levels, seed=spec.seed
        )
    if made.mollify:
        positions = spec.steps * spec.batch_size
        source = Mollified(source, levels=spec.levels, std=spec.mollify_std, positions=positions, seed=spec.seed)
    return source


def _synthetic(spec: TrialSpec, device: torch.device, stream_of: StreamOf | None) -> Synthetic:
    assert spec.stream is not None and stream_of is not None, f"trial {spec.trial_id} needs a stream of samples"
    return Synthetic(
        stream_of(spec.stream),
        distinct=spec.budget * spec.n_train if spec.budget else None,
        levels=spec.stream.diffusion.levels,
        wanted_levels=spec.levels,
        seed=spec.seed,
        fresh_from=spec.stream.training_samples,
        device=device,
    )
