"""The next point of a search: a pure function of the points so far, in the order in which they were suggested.

    what was tried -> an Optuna study, made anew -> ask -> a point that nobody has tried

There is no state beside the rows of the storage, so a search that was killed goes on as if it had not been: with one
device it tries the same points. The random numbers of a suggestion are a stream of their own, by its number. A point
that is known already is not asked for again: its value stands in the study, and the study is asked anew.
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
"""Points at random before the Parzen estimators begin (at most a third of the budget)."""
POPULATION = 10
"""Points of a generation of NSGA-II."""
ATTEMPTS = 20
"""Times that a study is asked for a point that is new, before one is taken at random."""


def check_optuna() -> None:
    """Whether Optuna is there.

    Raises:
        VaegenError: it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise VaegenError("a search needs Optuna; get it with: pip install 'vaegen-ray[search]'") from None


def suggest(search: Search, tried: Sequence[PointRecord]) -> Point:
    """The next point.

    Args:
        search: what is searched.
        tried: all points so far, in the order in which they were suggested.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = {point_key(each.point) for each in tried}
    assert len(known) < search.space.size, "every point of the space was tried"
    study = _study(search, tried)
    for attempt in range(ATTEMPTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.sampler = _sampler(search, _seed(search, len(tried), attempt))
            asked = study.ask()
            point = _asked(search.space, asked)
        if point_key(point) not in known:
            return point
        study.tell(asked, state=optuna.trial.TrialState.FAIL)  # it says nothing that is not known
    return _unknown(search, known, random.Random(_seed(search, len(tried), ATTEMPTS)))


def _seed(search: Search, number: int, attempt: int) -> int:
    """32 bits, as numpy wants them, for an attempt at the point of this number."""
    return stream_seed(search.search_seed, "search", number * (ATTEMPTS + 1) + attempt) >> 31


def _study(search: Search, tried: Sequence[PointRecord]) -> "Study":
    import optuna

    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(directions=[up, down] if search.several else [up])
    for number, each in enumerate(tried):
        study.add_trial(_build_trial(search, each, number))
    return study


def _build_trial(search: Search, tried: PointRecord, number: int) -> "FrozenTrial":
    """A point as Optuna knows it. One that was stopped is a pruned trial, ranked by how far it came and its value
    there; one that failed is a pruned trial without values, which is worse than all others."""
    import optuna
    from optuna.trial import TrialState

    active = search.space.active(tried.point)
    made: dict[str, Any] = {
        "params": {each.name: _place(each, tried.point[each.name]) for each in active},
        "distributions": {each.name: _distribution(each) for each in active},
    }
    if tried.status == PointStatus.BEGUN:
        trial = optuna.create_trial(state=TrialState.RUNNING, **made)
    elif tried.status == PointStatus.COMPLETE:
        assert tried.value is not None
        values = [tried.value, float(search.parameters(tried.point))] if search.several else [tried.value]
        generation = {optuna.samplers.NSGAIISampler._get_generation_key(): number // POPULATION}
        attributes = generation if search.sampler == "nsga2" else {}
        trial = optuna.create_trial(state=TrialState.COMPLETE, values=values, system_attrs=attributes, **made)
    else:
        steps = tried.curve if tried.status == PointStatus.PRUNED else {}
        trial = optuna.create_trial(state=TrialState.PRUNED, intermediate_values=dict(steps), **made)
    return trial


def _sampler(search: Search, seed: int) -> "BaseSampler":
    from optuna import samplers

    if search.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if search.sampler == "nsga2":
        return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    startup = max(1, min(STARTUP, search.points // 3))
    return samplers.TPESampler(n_startup_trials=startup, multivariate=True, group=True, constant_liar=True, seed=seed)


def _asked(space: Space, trial: "Trial") -> Point:
    """The point that a study suggests; the augmentation first, since others depend on it."""
    kind = {each.name: _suggested(each, trial) for each in space.dimensions if not each.ordered}
    return {each.name: kind[each.name] if each.name in kind else _suggested(each, trial) for each in space.active(kind)}


def _suggested(dimension: Dimension, trial: "Trial") -> Any:
    if not dimension.ordered:
        return trial.suggest_categorical(dimension.name, dimension.values)
    return dimension.values[trial.suggest_int(dimension.name, 0, len(dimension.values) - 1)]


def _distribution(dimension: Dimension) -> "BaseDistribution":
    """The places in the row of values, which is even where the values are; or the values where they have no order."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    last = len(dimension.values) - 1
    return IntDistribution(0, last) if dimension.ordered else CategoricalDistribution(dimension.values)


def _place(dimension: Dimension, value: Any) -> Any:
    return dimension.values.index(value) if dimension.ordered else value


def _unknown(search: Search, known: set, generator: random.Random) -> Point:
    """A point at random out of those that are not known."""
    while True:
        point = search.space.at_random(generator)
        if point_key(point) not in known:
            return point
