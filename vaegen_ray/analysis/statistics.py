"""The numbers that claims are judged by: values of seeds, 95 % intervals of their mean, and the verdict.

A claim says that the mean of a statistic over seeds lies in a range: above 0, below 0, or within a margin. The verdict
goes by the 95 % interval of that mean (Student's t):

    inside the range                 holds
    partly or wholly outside of it   does not hold (undecided, opposite)
    fewer than two seeds             not enough runs

Where both sides of a difference have the same seeds, it is taken seed by seed (paired): equal seeds share the start of
the weights and the order of the images. Otherwise it is Welch's interval of two samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # type: ignore[import-untyped]

from vaegen_ray.results.groups import find_values, mixed

LEVEL = 0.95
"""Probability that an interval covers the mean, if values of seeds are normal."""
LEAST_SEEDS = 2

HOLDS, FAILS, TOO_FEW = "holds", "does not hold", "not enough runs"
VERDICTS = (HOLDS, FAILS, TOO_FEW)


class NotEnoughRuns(Exception):
    """The results do not say enough to judge a claim; the message says what is missing."""


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """Whether they share a number."""
        return self.low <= other.high and other.low <= self.high


class Range(NamedTuple):
    """Where a claim says that a mean lies: between ``low`` and ``high``, ends excluded."""

    low: float
    high: float
    of: str = ""
    """What the ends are taken from, for a margin."""

    def __str__(self) -> str:
        if math.isinf(self.high):
            words = f"> {self.low:.4g}"
        elif math.isinf(self.low):
            words = f"< {self.high:.4g}"
        else:
            words = f"from {self.low:.4g} to {self.high:.4g}"
        return f"{words} ({self.of})" if self.of else words


POSITIVE, NEGATIVE = Range(0.0, math.inf), Range(-math.inf, 0.0)


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """What a claim is about, by seed, and where the claim says that its mean lies."""

    name: str
    unit: str
    values: Mapping[int, float]
    """Seed -> number; paired differences where both sides have the seed."""
    against: Mapping[int, float] | None = None
    """Seed -> number of the other side, where seeds do not pair: the statistic is the difference of the two means."""
    claimed: Range
    note: str = ""
    """What else there is to say about the numbers."""

    @property
    def seeds(self) -> str:
        """How many seeds there are, in words."""
        if self.against is None:
            return f"{len(self.values)} seeds"
        return f"{len(self.values)} and {len(self.against)} seeds, not paired"


class Judgement(NamedTuple):
    """What became of a claim."""

    verdict: str
    """One of ``VERDICTS``."""
    reason: str
    interval: Interval


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean and interval of the mean: m +- t(n - 1) s / sqrt(n).

    Raises:
        NotEnoughRuns: fewer than two values.
    """
    x = _enough(values)
    return _interval(float(x.mean()), float(x.var(ddof=1)) / len(x), len(x) - 1)


def half_width(variances: pd.Series, counts: pd.Series) -> pd.Series:
    """Half of the interval of the mean of each of many groups of seeds; NaN for fewer than two.

    Args:
        variances: of the values of a group, divided by their number - 1.
        counts: how many values there are.
    """
    known = counts >= LEAST_SEEDS
    quantiles = stdtrit(counts.where(known, np.nan) - 1, (1 + LEVEL) / 2)
    return quantiles * np.sqrt(variances / counts)


def difference_interval(values: Sequence[float], against: Sequence[float]) -> Interval:
    """Mean of ``values`` minus mean of ``against``, of unequal variances (Welch 1947).

    Raises:
        NotEnoughRuns: fewer than two values on a side.
    """
    x, y = _enough(values), _enough(against)
    of_x, of_y = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    both = of_x + of_y
    freedom = both**2 / (of_x**2 / (len(x) - 1) + of_y**2 / (len(y) - 1)) if both > 0 else 1.0
    return _interval(float(x.mean() - y.mean()), both, freedom)


def compute_interval(statistic: Statistic) -> Interval:
    """The interval of a statistic: of the mean over seeds, or of the difference of two means.

    Raises:
        NotEnoughRuns: fewer than two seeds.
    """
    values = list(statistic.values.values())
    if statistic.against is None:
        return mean_interval(values)
    return difference_interval(values, list(statistic.against.values()))


def judge(statistic: Statistic) -> Judgement:
    """The verdict on a claim.

    Raises:
        NotEnoughRuns: fewer than two seeds.
    """
    interval, claimed = compute_interval(statistic), statistic.claimed
    if claimed.low < interval.low and interval.high < claimed.high:
        return Judgement(HOLDS, f"the whole interval is {claimed}", interval)
    crossed = [end for end in (claimed.low, claimed.high) if interval.low <= end <= interval.high]
    if crossed:
        return Judgement(FAILS, f"undecided: the interval includes {crossed[0]:.4g}; claimed is {claimed}", interval)
    return Judgement(FAILS, f"opposite: the whole interval is outside of what is claimed, {claimed}", interval)


def by_seed(rows: pd.DataFrame, column: str, *axes: str, **where: object) -> pd.Series:
    """The finite values of a column by seed, and by further ``axes``, sorted by them.

    Args:
        rows: one row a trial, or a trial and what ``axes`` tell apart.
        column: what is read.
        axes: columns beside the seed that tell rows apart.
        where: column = value that rows must have.

    Raises:
        NotEnoughRuns: a column is missing, there is no finite value, or rows that ``axes`` do not tell apart differ in
            another setting than the seed (``results.groups``).
    """
    said = ", ".join(f"{name} {value}" for name, value in where.items()) or "any trial"
    missing = [name for name in (column, "seed", *axes, *where) if name not in rows]
    if missing:
        raise NotEnoughRuns(f"the results have no column {', '.join(missing)}")
    wanted = np.ones(len(rows), dtype=bool)
    for name, value in where.items():
        wanted &= (rows[name] == value).to_numpy(dtype=bool, na_value=False)
    if not wanted.any():
        raise NotEnoughRuns(f"no completed trial with {said}")
    keys = ["seed", *axes]
    numbers = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    wanted &= np.isfinite(numbers) & rows[keys].notna().to_numpy().all(axis=1)
    if not wanted.any():
        raise NotEnoughRuns(f"no finite {column} of {said}")
    places = rows.loc[wanted, keys]
    if fields := mixed(rows[wanted], axes):
        differ = " and ".join(f"{name} ({find_values(rows[wanted], name)})" for name in fields)
        raise NotEnoughRuns(f"trials with {said} differ in {differ}, and no telling which are meant (see --where)")
    if places.duplicated().any():
        raise NotEnoughRuns(f"several trials of one seed with {said}, and no telling which is meant")
    values: pd.Series = places.assign(**{column: numbers[wanted]}).set_index(keys)[column].sort_index()
    return values


def table(rows: pd.DataFrame, column: str, axis: str, **where: object) -> pd.DataFrame:
    """The values of a column, a row a seed and a column a value of ``axis``, rising; seeds that lack one are left out.

    Raises:
        NotEnoughRuns: as for ``by_seed``, or fewer than two values of ``axis``, or no seed has them all.
    """
    wide = by_seed(rows, column, axis, **where).unstack()
    if wide.shape[1] < 2:
        raise NotEnoughRuns(f"{column} is there for one {axis} alone, {wide.columns[0]}; at least two are needed")
    whole = wide.dropna()
    if whole.empty:
        raise NotEnoughRuns(f"no seed has {column} for every {axis}")
    return whole


def minus(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """``ours - theirs``, two tables, in the columns and seeds that both have.

    Raises:
        NotEnoughRuns: fewer than two columns that both have.
    """
    both = ours.columns.intersection(theirs.columns).sort_values()
    if len(both) < 2:
        raise NotEnoughRuns(f"two values of {ours.columns.name} that both sides have are needed; there are {len(both)}")
    return (ours[both] - theirs[both]).dropna()


def difference(name: str, unit: str, ours: pd.Series, theirs: pd.Series, claimed: Range, note: str = "") -> Statistic:
    """``ours`` minus ``theirs``, series by seed: paired if they share at least two seeds, else of two samples."""
    common = ours.index.intersection(theirs.index).sort_values()
    if len(common) >= LEAST_SEEDS:
        return Statistic(
            name=name, unit=unit, values=(ours[common] - theirs[common]).to_dict(), claimed=claimed, note=note
        )
    return Statistic(name=name, unit=unit, values=ours.to_dict(), against=theirs.to_dict(), claimed=claimed, note=note)


def best_places(values: pd.DataFrame) -> pd.Series:
    """By seed, the place with the highest mean of the OTHER seeds.

    A seed does not choose for itself, so that noise alone gives differences from the best place around 0 or below, and
    not the rise that any maximum has over its neighbours.

    Args:
        values: a row a seed, a column a place.

    Raises:
        NotEnoughRuns: fewer than two seeds.
    """
    if len(values) < LEAST_SEEDS:
        raise NotEnoughRuns(f"{len(values)} seed with all {values.columns.name}; at least {LEAST_SEEDS} are needed")
    return pd.Series({seed: values.drop(index=seed).mean().idxmax() for seed in values.index})


def at_places(values: pd.DataFrame, places: pd.Series) -> pd.Series:
    """By seed, the value at a place of its own."""
    return pd.Series({seed: values.loc[seed, place] for seed, place in places.items()})


def best(values: pd.DataFrame) -> pd.Series:
    """By seed, the value at the best of ``best_places``."""
    return at_places(values, best_places(values))


def best_minus(values: pd.DataFrame, at: object) -> pd.Series:
    """By seed, the value at the best of ``best_places`` minus the value at ``at``, one of the columns."""
    return best(values) - values[at]


def largest_rise(values: pd.DataFrame) -> pd.Series:
    """By seed, how far the values rise at most from a column to a later one: 0 or less only where they always fall.

    Every seed counts with its worst case, so noise leans against a claim that values fall.
    """
    falls = values.cummin(axis=1).shift(axis=1)
    return (values - falls).max(axis=1)


def slope(values: pd.DataFrame, at: Sequence[float] | None = None) -> pd.Series:
    """By seed, the slope of the straight line of least squares through the values.

    A slope says how much, and seeds hardly ever agree on it to the digit; rank correlations of a few places do, and
    would give intervals without any width.

    Args:
        values: a row a seed, a column a place.
        at: where the columns stand, if not at the numbers that name them.

    Raises:
        NotEnoughRuns: fewer than three columns.
    """
    if values.shape[1] < 3:
        raise NotEnoughRuns(f"{values.shape[1]} values of {values.columns.name}; at least three are needed for a trend")
    x = np.asarray(values.columns if at is None else at, dtype=float)
    x = x - x.mean()
    return pd.Series(values.to_numpy(dtype=float) @ x / (x @ x), index=values.index)


def _enough(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if len(x) < LEAST_SEEDS:
        raise NotEnoughRuns(f"{len(x)} seed{'s' * (len(x) != 1)}; an interval needs at least {LEAST_SEEDS}")
    return x


def _interval(mean: float, variance: float, freedom: float) -> Interval:
    """The interval of a mean whose own variance is estimated with so many degrees of freedom."""
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)
