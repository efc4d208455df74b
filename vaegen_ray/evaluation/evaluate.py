"""Everything that a trial declares to be measured beside its ELBO, in one place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vaegen_ray.errors import DataFormatError, DataMissingError
from vaegen_ray.evaluation.amortization import amortization_gap
from vaegen_ray.evaluation.encoder_training import inference
from vaegen_ray.evaluation.information import information
from vaegen_ray.evaluation.neighbours import neighbours
from vaegen_ray.evaluation.reconstruction import reconstruction
from vaegen_ray.evaluation.representation import representation
from vaegen_ray.evaluation.result import EvaluationResult
from vaegen_ray.evaluation.robustness import robustness_gap
from vaegen_ray.evaluation.sample_quality import inception, sample_quality
from vaegen_ray.evaluation.smoothness import smoothness
from vaegen_ray.evaluation.two_sample import two_sample
from vaegen_ray.models.vae import VAE
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.training.sources import Source


@dataclass(frozen=True, kw_only=True)
class Data:
    """The images that evaluations look at, on the members' device where nothing else is said."""

    train: Tensor
    """D_train, uint8 [N, C, H, W]."""
    test: Tensor
    """D_test, uint8 [N', C, H, W]."""
    labels: np.ndarray | None = None
    """Classes of the test images, int64 [N']."""
    corrupted: Mapping[str, np.ndarray]
    """Corrupted versions of the test images, by name, uint8 [N', C, H, W]; they are used once and stay on the host."""


def measure(
    vae: VAE,
    specs: list[TrialSpec],
    data: Data,
    epoch: int,
    sources: Sequence[Source],
    note: Callable[[str], None],
) -> list[EvaluationResult]:
    """What the members' ``measures`` ask for at an effective epoch: a result for each member, which may be empty.

    Args:
        vae: the M members.
        specs: their specifications, with the same ``measures``.
        data: the images.
        epoch: complete effective epochs; at the last one everything is measured.
        sources: what the members are trained on.
        note: is told, in a line, what could not be measured.
    """
    wanted, last = specs[0].measures, epoch == specs[0].epochs
    parts: list[list[EvaluationResult]] = [[EvaluationResult({}, []) for _ in specs]]
    if wanted is None:
        return parts[0]
    if last or epoch in wanted.gaps_at:
        if wanted.amortization is not None:
            parts.append(_rows(amortization_gap(vae, specs, data.test, wanted.amortization)))
        if wanted.robustness is not None:
            parts.append(_rows(robustness_gap(vae, specs, data.test, wanted.robustness)))
        if wanted.inference is not None:
            parts.append(_rows(inference(vae, specs, data.train, data.test, wanted.inference)))
    if last:
        parts += _at_the_end(vae, specs, data, sources, note)
    return [
        EvaluationResult(
            {name: value for part in parts for name, value in part[member].row.items()},
            [detail for part in parts for detail in part[member].details],
        )
        for member in range(len(specs))
    ]


def _at_the_end(
    vae: VAE, specs: list[TrialSpec], data: Data, sources: Sequence[Source], note: Callable[[str], None]
) -> list[list[EvaluationResult]]:
    wanted, parts = specs[0].measures, []
    assert wanted is not None
    if wanted.reconstruction is not None:
        parts.append(reconstruction(vae, specs, data.test, wanted.reconstruction))
    if wanted.information is not None:
        parts.append(_rows(information(vae, specs, data.train, data.test, wanted.information)))
    if wanted.neighbours is not None:
        parts.append(neighbours(vae, specs, data.train, data.test, wanted.neighbours))
    if wanted.smoothness is not None:
        parts.append(smoothness(vae, specs, data.test, wanted.smoothness))
    if wanted.representation is not None:
        assert data.labels is not None, "representations need classes"
        parts.append(representation(vae, specs, data.test, data.labels, wanted.representation, data.corrupted))
    if wanted.sample_quality is not None:
        try:
            features = inception().to(data.test.device)
        except (DataMissingError, DataFormatError) as error:
            note(f"FID and Inception Score are left out: {error}")
        else:
            parts.append(sample_quality(vae, specs, data.test, wanted.sample_quality, features))
    if wanted.two_sample is not None:
        count = len(data.train) + len(data.test)
        fake = sources[0].held_out(count)
        assert fake is not None
        parts.append(
            two_sample(
                specs,
                data.train,
                data.test,
                fake[: len(data.train)],
                fake[len(data.train) :],
                wanted.two_sample,
                levels=specs[0].levels,
                device=data.test.device,
            )
        )
    return parts


def _rows(rows: list[dict[str, float]]) -> list[EvaluationResult]:
    return [EvaluationResult(row, []) for row in rows]
