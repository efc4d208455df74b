"""Which methods, samples and evaluations a trial can combine."""

from typing import Any

from vaegen_ray.errors import SpecError
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.evaluation import EvaluationSettings
from vaegen_ray.spec.method import OF_METHOD


def check_method(spec: Any) -> None:
    """Whether the method of a trial and the fields that go with it can be combined.

    Args:
        spec: a ``TrialSpec`` whose fields have their types.

    Raises:
        SpecError: they cannot.
    """
    made = spec.recipe
    parts = (made.images, *made.modifiers, "augmentation" if made.augmentation else "")
    for name, part in OF_METHOD.items():
        if part not in parts and getattr(spec, name) != type(spec).__dataclass_fields__[name].default:
            raise SpecError(f"{name} is for methods with {part}; got {getattr(spec, name)!r} with {spec.method!r}")
    if made.synthetic:
        _check_stream(spec)
    elif spec.stream is not None:
        raise SpecError(f"a stream is for methods dmaapx and mix; got one with {spec.method!r}")
    if spec.budget and not made.limited:
        raise SpecError(f"budget is for methods dmaapx, mix and more_real; got {spec.budget} with {spec.method!r}")
    if made.images == "more_real" and spec.budget < 2:
        raise SpecError(f"method 'more_real' needs a budget of at least 2 x n_train images; got {spec.budget}")
    if made.reverse_half_asleep and spec.epochs < 2:
        raise SpecError(f"rha needs epochs >= 2, to freeze the decoder half-way; got {spec.epochs}")
    if made.reverse_half_asleep and not 0 < spec.decoder_samples < spec.batch_size:
        raise SpecError(
            f"asleep_percent must give at least one sample and leave at least one image in a batch of "
            f"{spec.batch_size}; got {spec.asleep_percent}"
        )
    if made.early_stopping and not spec.batch_size <= spec.real_images - spec.validation_images < spec.n_train:
        raise SpecError(
            f"early_stopping must leave at least a batch of {spec.batch_size} of {spec.n_train} images, and keep "
            f"one for validation; got validation_percent {spec.validation_percent}"
        )
    if spec.validation and (made.images != "normal" or made.early_stopping):
        raise SpecError(
            f"validation is for methods that train on the training set itself, to its end; got {spec.validation} "
            f"with {spec.method!r}"
        )
    if spec.validation and spec.n_train - spec.validation < spec.batch_size:
        raise SpecError(
            f"validation must leave at least a batch of {spec.batch_size} of {spec.n_train} images; got "
            f"{spec.validation}"
        )


def check_evaluations(spec: Any) -> None:
    """Whether a trial can have its evaluations.

    Args:
        spec: a ``TrialSpec`` whose fields have their types.

    Raises:
        SpecError: it cannot.
    """
    measures = spec.measures
    if measures is None:
        return
    if not isinstance(measures, EvaluationSettings):
        raise SpecError(f"measures of a trial must be EvaluationSettings or None; got {measures!r}")
    if not set(measures.gaps_at) <= set(spec.evaluate_at):
        raise SpecError(f"gaps_at must be out of evaluate_at {spec.evaluate_at}; got {measures.gaps_at}")
    if measures.information is not None and spec.n_train < 2:
        raise SpecError(f"information needs n_train >= 2; got {spec.n_train}")
    if measures.two_sample is not None and (spec.recipe.images != "dmaapx" or spec.recipe.augmentation):
        raise SpecError(f"a two-sample test needs dmaapx without augmentation; got {spec.method!r}")


def _check_stream(spec: Any) -> None:
    if not isinstance(spec.stream, StreamSpec):
        raise SpecError(f"method {spec.method!r} needs a stream of samples; got {spec.stream!r}")
    model = spec.stream.diffusion
    if model.dataset != spec.dataset:
        raise SpecError(f"samples must be of a model of {spec.dataset}, the data set; got one of {model.dataset}")
    if model.data_digest != spec.data_digest:
        raise SpecError(
            f"samples must be of a model of the same images of {spec.dataset}, data_digest {spec.data_digest!r}; "
            f"got {model.data_digest!r}"
        )
    if model.image_shape != spec.image_shape:
        raise SpecError(f"samples must have the shape of the images, {spec.image_shape}; got {model.image_shape}")
    if spec.levels not in (2, model.levels):
        raise SpecError(f"samples of {model.levels} levels give levels {model.levels} or 2; got {spec.levels}")
    if spec.samples > spec.stream.training_samples:
        raise SpecError(
            f"a stream has {spec.stream.training_samples:,} samples to train on; got a trial of {spec.samples:,}"
        )
