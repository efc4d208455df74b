"""The next point of a search: a pure function of the points so far, in the order in which they were suggested.

    point records -> a new Optuna study -> ask -> a new point

The rows of the storage are the only state, so a killed search that is rerun suggests the same points on one device.
Each suggestion has its own random stream, derived from its number. When the study suggests a point that it has
already, the suggestion is recorded as failed and the study is asked again.
"""

import random
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vaegen_ray.errors import VaegenError
from vaegen_ray.search.search import PointRecord, PointStatus, Search, point_key
from vaegen_ray.search.space import Dimension, Point, Space
from vaegen_ray.seeds import stream_seed

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

STARTUP = 10
"""Number of random points before the Parzen estimators begin (at most a third of the budget)."""
POPULATION = 10
"""Points of a generation of NSGA-II."""
ATTEMPTS = 20
"""Number of times that a study is asked for a new point before one is drawn at random."""


def check_optuna() -> None:
    """Check that Optuna is installed.

    Raises:
        VaegenError: it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise VaegenError("a search needs Optuna; get it with: pip install 'vaegen-ray[search]'") from None


def suggest(search: Search, records: Sequence[PointRecord]) -> Point:
    """The next point.

    Args:
        search: space, sampler and budget.
        records: all points so far, in the order in which they were suggested.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keys = {point_key(record.point) for record in records}
    assert len(keys) < search.space.size, "the space has no further point"
    study = _build_study(search, records)
    for attempt in range(ATTEMPTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.sampler = _build_sampler(search, _compute_seed(search, len(records), attempt))
            trial = study.ask()
            point = _suggest_point(search.space, trial)
        if point_key(point) not in keys:
            return point
        study.tell(trial, state=optuna.trial.TrialState.FAIL)  # a repeated point adds no information
    return _draw_new_point(search, keys, random.Random(_compute_seed(search, len(records), ATTEMPTS)))


def _compute_seed(search: Search, number: int, attempt: int) -> int:
    """Compute the seed of an attempt at a point: 32 bits, the range that numpy accepts."""
    return stream_seed(search.search_seed, "search", number * (ATTEMPTS + 1) + attempt) >> 31


def _build_study(search: Search, records: Sequence[PointRecord]) -> "Study":
    import optuna

    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(directions=[up, down] if search.several else [up])
    for number, record in enumerate(records):
        study.add_trial(_build_trial(search, record, number))
    return study


def _build_trial(search: Search, record: PointRecord, number: int) -> "FrozenTrial":
    """Build Optuna's trial of a point. Optuna ranks a pruned point by its last step and the value there; a failed point
    becomes a pruned trial without values, which ranks below all others."""
    import optuna
    from optuna.trial import TrialState

    active = search.space.active(record.point)
    parameters: dict[str, Any] = {
        "params": {each.name: _encode(each, record.point[each.name]) for each in active},
        "distributions": {each.name: _build_distribution(each) for each in active},
    }
    if record.status == PointStatus.BEGUN:
        trial = optuna.create_trial(state=TrialState.RUNNING, **parameters)
    elif record.status == PointStatus.COMPLETE:
        assert record.value is not None
        values = [record.value, float(search.parameters(record.point))] if search.several else [record.value]
        generation = {optuna.samplers.NSGAIISampler._get_generation_key(): number // POPULATION}
        attributes = generation if search.sampler == "nsga2" else {}
        trial = optuna.create_trial(state=TrialState.COMPLETE, values=values, system_attrs=attributes, **parameters)
    else:
        steps = record.curve if record.status == PointStatus.PRUNED else {}
        trial = optuna.create_trial(state=TrialState.PRUNED, intermediate_values=dict(steps), **parameters)
    return trial


def _build_sampler(search: Search, seed: int) -> "BaseSampler":
    from optuna import samplers

    if search.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if search.sampler == "nsga2":
        return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    startup = max(1, min(STARTUP, search.points // 3))
    return samplers.TPESampler(n_startup_trials=startup, multivariate=True, group=True, constant_liar=True, seed=seed)


def _suggest_point(space: Space, trial: "Trial") -> Point:
    """Suggest a value for each dimension; the augmentation comes first, since others depend on it."""
    kind = {each.name: _suggest_value(each, trial) for each in space.dimensions if not each.ordered}
    return {
        each.name: kind[each.name] if each.name in kind else _suggest_value(each, trial) for each in space.active(kind)
    }


def _suggest_value(dimension: Dimension, trial: "Trial") -> Any:
    if not dimension.ordered:
        return trial.suggest_categorical(dimension.name, dimension.values)
    return dimension.values[trial.suggest_int(dimension.name, 0, len(dimension.values) - 1)]


def _build_distribution(dimension: Dimension) -> "BaseDistribution":
    """Build a distribution over the indices of ordered values, or over the values where they have no order."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    last = len(dimension.values) - 1
    return IntDistribution(0, last) if dimension.ordered else CategoricalDistribution(dimension.values)


def _encode(dimension: Dimension, value: Any) -> Any:
    return dimension.values.index(value) if dimension.ordered else value


def _draw_new_point(search: Search, keys: set, generator: random.Random) -> Point:
    """Draw a point at random that is not among ``keys``."""
    while True:
        point = search.space.at_random(generator)
        if point_key(point) not in keys:
            return point
