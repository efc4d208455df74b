"""An adaptive search: what it declares, and how a point becomes trials.

A point is a dict of hyperparameters; its seeds are trials that make one bundle. The value of a point is the mean over
its seeds of ``elbo_validation``, the ELBO on the last images of the training set, which its trials are not trained on.
The test set is measured like everywhere, and never used to choose.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vaegen_ray.errors import SpecError, not_one_of
from vaegen_ray.models.layout import params_total
from vaegen_ray.search.space import OF_AUGMENTATION, Point, Space
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.sweep import Sweep

SAMPLERS = ("tpe", "random", "nsga2")
SCHEDULERS = ("asha", "median", "none")
OBJECTIVES = ("elbo", "elbo,parameters")


class PointStatus(StrEnum):
    """The state of a point."""

    COMPLETE = "complete"
    """All seeds are trained to the end."""
    PRUNED = "pruned"
    """It was stopped early."""
    FAILED = "failed"
    """A seed failed."""
    BEGUN = "begun"
    """Seeds are left to train."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search script declares.

    Raises:
        SpecError: a setting that cannot be.
    """

    name: str
    """Folder of the results in the storage."""
    fields: Mapping[str, Any]
    """Fields of every trial; those of the space are left out."""
    space: Space
    points: int
    """The budget: the number of points in all, including those of earlier runs."""
    seeds: int
    """VAEs a point, with the seeds 0 .. seeds - 1."""
    sampler: str = "tpe"
    scheduler: str = "none"
    objectives: str = "elbo"
    search_seed: int = 0
    """Root of the random numbers of the search itself."""
    figures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, choices in (("sampler", SAMPLERS), ("scheduler", SCHEDULERS), ("objectives", OBJECTIVES)):
            if getattr(self, name) not in choices:
                raise SpecError(not_one_of(name, getattr(self, name), choices))
        if self.several and self.scheduler != "none":
            raise SpecError(f"several objectives go without early stopping (--scheduler none); got {self.scheduler!r}")
        if self.points > self.space.size:
            raise SpecError(f"points must be at most those of the space, {self.space.size:,}; got {self.points:,}")
        if not self.fields.get("validation"):
            raise SpecError(f"a search needs images for validation; got {self.fields.get('validation')!r}")
        for corner in self.space.corners:
            self.specs(corner)

    @property
    def several(self) -> bool:
        """More than one objective."""
        return "," in self.objectives

    def specs(self, point: Point) -> tuple[TrialSpec, ...]:
        """The trials of a point, one a seed."""
        own = {name: value for name, value in point.items() if name != "augmentation"}
        kind = point.get("augmentation", "none")
        method = "normal" if kind == "none" else f"aug_{kind}"
        return tuple(TrialSpec(**{**self.fields, **own, "method": method, "seed": seed}) for seed in range(self.seeds))

    def find_point(self, spec: TrialSpec) -> Point | None:
        """The point that a trial is of; None for a trial of another search."""
        augmentation = spec.recipe.augmentation or "none"
        point: Point = {}
        for dimension in self.space.dimensions:
            if augmentation != "none" or dimension.name not in OF_AUGMENTATION:
                named = dimension.name == "augmentation"
                point[dimension.name] = augmentation if named else getattr(spec, dimension.name)
        if not self.space.holds(point) or spec.seed >= self.seeds:
            return None
        return point if self.specs(point)[spec.seed].trial_id == spec.trial_id else None

    def parameters(self, point: Point) -> int:
        """Parameters of a VAE at a point."""
        return params_total(self.specs(point)[0])

    def list_trials(self, points: Iterable["PointRecord"]) -> list[TrialSpec]:
        """The trials of points."""
        return [spec for each in points for spec in self.specs(each.point)]

    @property
    def planned(self) -> int:
        """Trials of the whole budget."""
        return self.points * self.seeds

    @property
    def sweep(self) -> Sweep:
        """The trials of one point, for what is the same at all of them: images, packages."""
        return Sweep(name=self.name, trials=self.specs(self.space.corners[0]), figures=self.figures)


PointKey = tuple[tuple[str, Any], ...]


def point_key(point: Point) -> PointKey:
    """A point as a key."""
    return tuple(sorted(point.items()))


@dataclass(kw_only=True)
class PointRecord:
    """A point, and what is known of it."""

    point: Point
    status: str = PointStatus.BEGUN
    curve: dict[int, float] = field(default_factory=dict)
    """The mean ELBO on validation over all seeds, by effective epoch; rising."""

    @property
    def value(self) -> float | None:
        """The last of it."""
        return next(reversed(self.curve.values()), None)


def mean_curve(trial_ids: Iterable[str], elbos: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """The means over trials of their ELBOs on validation, at the effective epochs that all of them have, rising.

    Args:
        trial_ids: the trials of a point.
        elbos: the ELBO of trials, by id and epoch.
    """
    each = [elbos.get(trial_id, {}) for trial_id in trial_ids]
    epochs = sorted(set.intersection(*(set(one) for one in each)))
    return {epoch: sum(one[epoch] for one in each) / len(each) for epoch in epochs}
