"""From the name of a method to its source."""

import torch
from torch import Tensor

from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.augmentation import Augmented, build_augmentation, stronger
from vaegen_ray.training.mollification import Mollified
from vaegen_ray.training.sources import Mixture, OpenStream, ShuffledEpochs, Source, Synthetic


def build_source(spec: TrialSpec, train: Tensor, open_stream: OpenStream | None = None) -> Source:
    """The source that a trial names with ``method``.

    Args:
        spec: the trial.
        train: its real images, D_train first, uint8 [``spec.real_images``, C, H, W], on the device of the training.
        open_stream: opens the stream of a trial that has one.
    """
    made = spec.recipe
    source: Source = ShuffledEpochs(train[: len(train) - spec.validation_images], spec.seed)
    if made.synthetic:
        synthetic = _synthetic(spec, train.device, open_stream)
        source = Mixture(source, synthetic, spec.real_percent) if made.images == "mix" else synthetic
    if made.augmentation:
        augmentation = stronger(build_augmentation(made.augmentation, spec.image_shape), spec.augment_strength)
        source = Augmented(
            source, augmentation, probability=spec.augment_probability, levels=spec.levels, seed=spec.seed
        )
    if made.mollify:
        positions = spec.steps * spec.batch_size
        source = Mollified(source, levels=spec.levels, std=spec.mollify_std, positions=positions, seed=spec.seed)
    return source


def _synthetic(spec: TrialSpec, device: torch.device, open_stream: OpenStream | None) -> Synthetic:
    assert spec.stream is not None and open_stream is not None, f"trial {spec.trial_id} needs a stream of samples"
    return Synthetic(
        open_stream(spec.stream),
        distinct=spec.budget * spec.n_train if spec.budget else None,
        levels=spec.stream.diffusion.levels,
        wanted_levels=spec.levels,
        seed=spec.seed,
        held_out_from=spec.stream.training_samples,
        device=device,
    )
