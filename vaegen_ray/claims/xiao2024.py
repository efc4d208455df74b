"""The claims of xiao2024 (Xiao, Zenn, Bamler, TMLR 2024), each as a number that results can bear out or not.

``CLAIMS`` lists them in the paper's order, then two statements of our own. Words such as "matches" or "does not help"
need a margin to mean something: it is ``MARGIN``, a tenth, of the generalization gap of normal training in the same
setting, or of the quantity that the claim names. Where a claim says "always" or "highest", every seed counts with its
WORST case; the best width or epoch of a seed is chosen by the other seeds (``statistics.best_minus``). Both lean
against the claim.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vaegen_ray.claims.statistics import (
    NEGATIVE,
    POSITIVE,
    NotEnoughRuns,
    Range,
    Statistic,
    best_minus,
    by_seed,
    difference,
    mean_interval,
    slope,
    table,
)

MARGIN = 0.1
"""What counts as no difference: this part of the number that a margin is taken from."""
CLASSIFIERS = ("logistic_regression", "svm_linear", "svm_rbf", "knn")
LINEAR = CLASSIFIERS[:2]
OVERALL = "overall"
"""Stands where a corruption does in the details, but is a mixture of them all."""
ENDLESS = 0
"""The budget of samples that never come twice."""
CHANCE = 50.0
"""Two-sample accuracy, in percent, where real and synthetic images look alike."""


class Results(NamedTuple):
    """What claims are judged by: the frames of one sweep."""

    last: pd.DataFrame
    """A row a completed trial: its columns and its last metrics."""
    curves: pd.DataFrame
    """A row a completed trial and evaluation."""
    details: pd.DataFrame
    """Series of numbers: ``trial_id, quantity, item, values``."""


class Sides(NamedTuple):
    """Numbers by seed: a statistic itself, or the two sides of a difference."""

    ours: pd.Series
    theirs: pd.Series | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement, the statistic that tells, and where it must lie."""

    id: str
    section: str
    """Where the paper says it, or ``ours``."""
    statement: str
    """In our words."""
    paper: str = ""
    """The paper's numbers, where it has some."""
    sweep: str
    """The sweep whose results it is judged by."""
    axes: bool = False
    """Its trials differ in nc and mz; otherwise each pair of them is an experiment of its own."""
    statistic: str
    """What is measured, in words."""
    unit: str
    values: Callable[[Results], Sides]
    """Raises ``NotEnoughRuns`` where the results do not say."""
    claimed: Range | Callable[..., Range]
    """Where the mean over seeds must lie: a range, or how rows, and the place that a margin is from, give it."""

    def measure(self, results: Results) -> Statistic:
        """The statistic of this claim in the results of one experiment.

        Raises:
            NotEnoughRuns: the results do not say enough; the message says what is missing.
        """
        ours, theirs, note = self.values(results)
        where = baseline_of(results.last) if self.axes and not isinstance(self.claimed, Range) else {}
        claimed = self.claimed if isinstance(self.claimed, Range) else self.claimed(results.last, **where)
        if theirs is not None:
            return difference(self.statistic, self.unit, ours, theirs, claimed, note)
        values = ours.sort_index().to_dict()
        return Statistic(name=self.statistic, unit=self.unit, values=values, claimed=claimed, note=note)


class Quantity(NamedTuple):
    """A column of the metrics, in words."""

    name: str
    unit: str


NATS = "nats an image"
NATS_DOUBLING = "nats an image a doubling"
NATS_ALL = "nats an image from none to all"
POINTS = "percentage points"
QUANTITIES = {
    "elbo_test": Quantity("test ELBO", NATS),
    "generalization_gap": Quantity("generalization gap", NATS),
    "amortization_gap": Quantity("amortization gap", NATS),
    "robustness_gap": Quantity("robustness gap", "of MS-SSIM"),
    "latent_log_q": Quantity("log q between two codes", "nats"),
    "latent_variation": Quantity("variation of log q between two codes", "nats"),
    "psnr_test": Quantity("PSNR of reconstructed test images", "dB"),
    "fid": Quantity("FID of the VAE's samples", ""),
    "inception_score": Quantity("Inception Score of the VAE's samples", ""),
}
NAMES = {
    "normal": "normal training",
    "dmaapx": "DMaaPx",
    "aug_naive": "Aug.Naive",
    "aug_tuned": "Aug.Tuned",
    "rha": "normal training + RHA",
    "dmaapx+rha": "DMaaPx + RHA",
    "mollify": "Aug.Mollify",
    "dmaapx+mollify": "DMaaPx + Aug.Mollify",
    "early_stopping": "early stopping",
}
AUGMENTATIONS = ("aug_naive", "aug_tuned")
GAPS = ("generalization_gap", "amortization_gap", "robustness_gap")
SHOWN_APART = GAPS[:2]
"""Quantities whose intervals are also given for each method, with whether they overlap."""

TABLE_7 = {
    "CIFAR-10": {
        "normal": (841.54, 835.86, 0.41),
        "dmaapx": (5.44, 288.82, 0.30),
        "aug_tuned": (94.28, 328.08, 0.35),
        "aug_naive": (228.05, 390.25, 0.35),
    },
    "BinaryMNIST": {
        "normal": (25.76, 20.32, 0.49),
        "dmaapx": (0.78, 7.01, 0.50),
        "aug_tuned": (8.16, 9.34, 0.79),
        "aug_naive": (6.38, 8.16, 0.74),
    },
    "FashionMNIST": {
        "normal": (1234.50, 1135.89, 0.39),
        "dmaapx": (136.57, 593.39, 0.31),
        "aug_tuned": (614.93, 815.52, 0.21),
        "aug_naive": (500.33, 729.83, 0.11),
    },
}
"""The paper's gaps by data set and method, in the order of ``GAPS``."""


# Margins


def margin_of(rows: pd.DataFrame, column: str = "generalization_gap", **where: object) -> float:
    """``MARGIN`` of the mean of normal training.

    Raises:
        NotEnoughRuns: that mean is not above zero, so that there is no margin.
    """
    mean = float(by_seed(rows, column, **{"method": "normal", **where}).mean())
    if mean <= 0:
        raise NotEnoughRuns(f"the margin is a tenth of normal training's {column}, which is not above 0: {mean:.4g}")
    return MARGIN * mean


def same(rows: pd.DataFrame, column: str = "generalization_gap", **where: object) -> Range:
    """Within the margin on either side."""
    margin = margin_of(rows, column, **where)
    return Range(-margin, margin, f"a tenth of normal training's {QUANTITIES[column].name}")


def no_more(rows: pd.DataFrame, **where: Any) -> Range:
    """Below the margin, however far."""
    return same(rows, **where)._replace(low=-math.inf)


def no_less(rows: pd.DataFrame, **where: Any) -> Range:
    """Above the margin with a minus sign, however far."""
    return same(rows, **where)._replace(high=math.inf)


# One method against another


def versus(
    column: str, method: str, baseline: str, claimed: Range | Callable[..., Range], sweep: str, **said: Any
) -> Claim:
    """A claim about the difference of two methods."""
    quantity = QUANTITIES[column]

    def values(results: Results) -> Sides:
        ours, theirs = (by_seed(results.last, column, method=name) for name in (method, baseline))
        shown = {NAMES[method]: ours, NAMES[baseline]: theirs} if column in SHOWN_APART else {}
        return Sides(ours, theirs, intervals(shown))

    said.setdefault("id", f"{sweep}/{column}/{method}-{baseline}")
    name = f"{quantity.name}, {NAMES[method]} minus {NAMES[baseline]}"
    return Claim(statistic=name, unit=quantity.unit, values=values, claimed=claimed, sweep=sweep, **said)


def intervals(sides: dict[str, pd.Series]) -> str:
    """The interval of each of two sides, and whether they overlap; nothing where a side has too few seeds."""
    if not sides or min(map(len, sides.values())) < 2:
        return ""
    made = {name: mean_interval(values.tolist()) for name, values in sides.items()}
    words = [f"{name} {i.mean:.4g} ({i.low:.4g} to {i.high:.4g})" for name, i in made.items()]
    first, second = made.values()
    return f"{'; '.join(words)}; the intervals {'overlap' if first.overlaps(second) else 'do not overlap'}"


def better_in(column: str, method: str, baseline: str) -> Claim:
    """Section 5.2: a method has the higher test ELBO, or the smaller gap."""
    more = column == "elbo_test"
    paper = ""
    if not more:
        of = [(name, [by[m][GAPS.index(column)] for m in (baseline, method)]) for name, by in TABLE_7.items()]
        paper = "; ".join(f"{name} {before:g} -> {after:g}" for name, (before, after) in of)
    what = f"a {'higher' if more else 'smaller'} {QUANTITIES[column].name}"
    statement = f"{NAMES[method]} has {what} than {NAMES[baseline]}."
    section = "5.2, Figure 2" if more else "5.2, Table 7"
    claimed = POSITIVE if more else NEGATIVE
    return versus(
        column, method, baseline, claimed, "generalization_gaps", section=section, statement=statement, paper=paper
    )


def decline_over_epochs(method: str) -> Callable[[Results], Sides]:
    """Test ELBO at its best epoch minus that at the last one."""

    def values(results: Results) -> Sides:
        found = table(results.curves, "elbo_test", "effective_epoch", method=method)
        return Sides(best_minus(found, found.columns.max()))

    return values


# Representations


def on_corrupted(results: Results, method: str, classifiers: tuple[str, ...] = CLASSIFIERS) -> pd.Series:
    """Accuracy in percent by seed, averaged over the corruptions and classifiers."""
    details, last = results.details, results.last
    if not {"trial_id", "quantity", "item", "values"} <= set(details) or "trial_id" not in last:
        raise NotEnoughRuns("the results have no details of accuracies")
    rows = details.loc[details["quantity"] == "accuracy", ["trial_id", "item", "values"]]
    parts = rows["item"].astype(str).str.rsplit("/", n=1)
    rows = rows[parts.str[-1].isin(classifiers) & (parts.str[0] != OVERALL)]
    if rows.empty:
        raise NotEnoughRuns("the results have no accuracies on corrupted test sets")
    rows = rows.assign(accuracy=[_only(values) for values in rows["values"]]).drop(columns="values")
    return 100 * table(last.merge(rows, on="trial_id"), "accuracy", "item", method=method).mean(axis=1)


def _only(values: object) -> object:
    """The value of a series of one; NaN for anything else."""
    numbers = list(values) if isinstance(values, Iterable) else []
    return numbers[0] if len(numbers) == 1 else math.nan


def on_clean(results: Results, method: str) -> pd.Series:
    """Accuracy in percent by seed, averaged over the classifiers."""
    found = {name: by_seed(results.last, f"accuracy_{name}", method=method) for name in CLASSIFIERS}
    return 100 * pd.DataFrame(found).dropna().mean(axis=1)


def linear_on_corrupted(results: Results) -> Sides:
    """DMaaPx minus the best other method."""
    found = {name: on_corrupted(results, name, LINEAR) for name in ("normal", "dmaapx", *AUGMENTATIONS)}
    seeds = pd.DataFrame(found).dropna()
    return Sides(seeds.pop("dmaapx") - seeds.max(axis=1))


def accuracy(of: Callable[[Results, str], pd.Series], test_set: str, method: str, claimed: Range, **said: Any) -> Claim:
    """A claim about the accuracy of a method minus that of normal training."""
    name = f"accuracy on {test_set}, mean of classifiers, {NAMES[method]} minus normal training"
    return Claim(
        sweep="representation", statistic=name, unit=POINTS, claimed=claimed,
        values=lambda results: Sides(of(results, method), of(results, "normal")), **said,
    )  # fmt: skip


# More data


def plateau(k: int, results: Results) -> Sides:
    """Test ELBO of DMaaPx with the largest budget, and with budget k."""
    rows = results.last
    budgets = by_seed(rows, "elbo_test", "budget", method="dmaapx").index.get_level_values("budget")
    largest = ENDLESS if ENDLESS in budgets else max(budgets)
    if k < max(budgets) or largest == ENDLESS:
        ours, theirs = (by_seed(rows, "elbo_test", method="dmaapx", budget=budget) for budget in (largest, k))
        return Sides(ours, theirs, f"largest: {'endless' if largest == ENDLESS else f'k = {largest:g}'}")
    raise NotEnoughRuns(f"no budget above k = {k}")


def budget_one(results: Results) -> Sides:
    """Test ELBO of DMaaPx with as many samples as real images, and of normal training."""
    rows = results.last
    return Sides(by_seed(rows, "elbo_test", method="dmaapx", budget=1), by_seed(rows, "elbo_test", method="normal"))


def real_minus_synthetic(results: Results) -> Sides:
    """Test ELBO of k times more real images minus that of k times more synthetic ones, averaged over common k > 1."""
    real, synthetic = (by_seed(results.last, "elbo_test", "budget", method=of) for of in ("more_real", "dmaapx"))
    both = (real - synthetic).dropna().unstack()
    both = both[[k for k in both if k > 1]].dropna()
    if both.empty:
        raise NotEnoughRuns("more real and more synthetic data share no seed and budget k > 1")
    return Sides(both.mean(axis=1), note=", ".join(f"k = {k:g}: {both[k].mean():+.3g}" for k in both))


REAL = {"dmaapx": (0, False), "normal": (100, False), "dmaapx+aug_tuned": (0, True), "aug_tuned": (100, True)}
"""Methods at the ends of a mixture: percent of real data, and whether it is augmented."""
MIXED = {"mix": False, "mix+aug_tuned": True}
"""Methods between them."""


def of_mixtures(rows: pd.DataFrame) -> pd.DataFrame:
    """The trials of mixtures, with ``percent`` of real data and ``augmented``."""
    if not {"method", "real_percent"} <= set(rows):
        raise NotEnoughRuns("the results have no column method or real_percent")
    rows = rows[rows["method"].isin([*REAL, *MIXED])]
    ends = [REAL.get(method, (None, MIXED.get(method))) for method in rows["method"]]
    percent = [between if at is None else at for (at, _), between in zip(ends, rows["real_percent"], strict=True)]
    return rows.assign(percent=percent, augmented=[augmented for _, augmented in ends])


def mixture_trend(column: str) -> Callable[[Results], Sides]:
    """Slope over the part of real data, for all of it, without augmentation."""
    return lambda results: Sides(100 * slope(table(of_mixtures(results.last), column, "percent", augmented=False)))


def augmentation_of_mixtures(column: str) -> Callable[[Results], Sides]:
    """With augmentation minus without, averaged over the percents that both have."""

    def values(results: Results) -> Sides:
        rows = of_mixtures(results.last)
        with_it, without = (table(rows, column, "percent", augmented=augmented) for augmented in (True, False))
        return Sides(common(with_it, without).mean(axis=1))

    return values


def lead_of_dmaapx(column: str, sign: int) -> Callable[[Results], Sides]:
    """By how much DMaaPx alone is better than the best of all other mixtures; ``sign`` 1 where more is better."""

    def values(results: Results) -> Sides:
        found = sign * by_seed(of_mixtures(results.last), column, "augmented", "percent")
        wide = found.unstack(["augmented", "percent"]).dropna()
        if (False, 0) not in wide or wide.shape[1] < 2:
            raise NotEnoughRuns(f"{column} is needed of DMaaPx and of a mixture")
        own = wide[(False, 0)]
        return Sides(own - wide.drop(columns=[(False, 0)]).max(axis=1))

    return values


# Diffusion models of a part of the training set


def of_subsets(rows: pd.DataFrame) -> pd.DataFrame:
    """The DMaaPx trials, with the ``percent`` of D_train that their diffusion model was trained on."""
    if not {"method", "stream", "n_train"} <= set(rows):
        raise NotEnoughRuns("the results have no column method, stream or n_train")
    rows = rows[rows["method"] == "dmaapx"]
    return rows.assign(percent=[_percent(*pair) for pair in zip(rows["stream"], rows["n_train"], strict=True)])


def _percent(stream: object, n_train: float) -> float:
    """Percent of D_train in the training set of a stream's diffusion model; NaN where the stream does not say."""
    try:
        return float(round(100 * json.loads(str(stream))["diffusion"]["n_train"] / n_train))
    except (ValueError, KeyError, TypeError):
        return math.nan


def subset(column: str, percent: int | None) -> Callable[[Results], Sides]:
    """DMaaPx with a diffusion model of this percent of D_train, None for the largest, and normal training."""

    def values(results: Results) -> Sides:
        found = by_seed(of_subsets(results.last), column, "percent").unstack()
        at = found.columns.max() if percent is None else percent
        if at not in found:
            there = ", ".join(f"{p:g}" for p in found)
            raise NotEnoughRuns(f"no diffusion model of {at} % of D_train; there are {there} %")
        return Sides(found[at].dropna(), by_seed(results.last, column, method="normal"), f"{at:g} % of D_train")

    return values


def subset_trend(column: str) -> Callable[[Results], Sides]:
    """Slope over the part of D_train, for all of it."""
    scale = 100 if column.endswith("accuracy") else 1  # accuracies in percent
    return lambda results: Sides(100 * scale * slope(table(of_subsets(results.last), column, "percent")))


def diminishing(results: Results) -> Sides:
    """Rise of the test ELBO for each further percent of D_train, from 30 to 70 % minus from 70 % to the largest."""
    found = table(of_subsets(results.last), "elbo_test", "percent")
    top = found.columns.max()
    if not {30, 70} <= set(found) or top <= 70:
        raise NotEnoughRuns(
            f"30, 70 and more % of D_train are needed; there are {', '.join(f'{p:g}' for p in found)} %"
        )
    return Sides((found[70] - found[30]) / 40 - (found[top] - found[70]) / (top - 70))


def above_chance(results: Results) -> Sides:
    """The lowest two-sample accuracy over all diffusion models, minus 50 %."""
    found = 100 * by_seed(of_subsets(results.last), "two_sample_accuracy", "percent").unstack().dropna()
    return Sides(found.min(axis=1) - CHANCE)


# Complexity axes


def points_of(rows: pd.DataFrame, column: str, method: str) -> pd.DataFrame:
    """The pairs (nc, mz) at which a method has the column."""
    found = by_seed(rows, column, "nc", "mz", method=method)
    return found.index.to_frame(index=False)[["nc", "mz"]].drop_duplicates()


def turn_of(rows: pd.DataFrame) -> float:
    """The nc at which mz grows: the one with the most mz; among equals the largest that leaves a larger nc."""
    heights = points_of(rows, "elbo_test", "normal").groupby("nc").size()
    if heights.max() < 2:
        raise NotEnoughRuns("no nc has two values of mz")
    turns = heights.index[heights == heights.max()]
    return float(max(turns[turns < heights.index.max()], default=turns.max()))


def baseline_of(rows: pd.DataFrame) -> dict[str, object]:
    """Where margins of the axes are from: the turn at the smallest mz (nc = 256, mz = 1 in the paper)."""
    return {"nc": turn_of(rows), "mz": over_mz(rows, "elbo_test").columns.min()}


def over_mz(rows: pd.DataFrame, column: str, method: str = "normal") -> pd.DataFrame:
    """The values of a method at the turn, a row a seed and a column an mz."""
    return table(rows, column, "mz", method=method, nc=turn_of(rows))


def over_nc(rows: pd.DataFrame, column: str, method: str = "normal", *, widest: bool = False) -> pd.DataFrame:
    """The values of a method at the smallest mz, or the largest (``widest``), that has two nc; a column an nc."""
    widths = points_of(rows, column, method).groupby("mz").size()
    with_two = widths.index[widths >= 2]
    if with_two.empty or (widest and len(with_two) < 2):
        raise NotEnoughRuns(f"two values of nc are needed at {'a larger and ' * widest}a small mz of {method}")
    return table(rows, column, "nc", method=method, mz=with_two.max() if widest else with_two.min())


def rise(values: pd.DataFrame) -> Sides:
    """The last column and the first."""
    axis, first, last = values.columns.name, values.columns.min(), values.columns.max()
    return Sides(values[last], values[first], f"{axis} {last:g} and {axis} {first:g}")


def fall(values: pd.DataFrame) -> Sides:
    """The first column and the last."""
    last, first, note = rise(values)
    assert first is not None
    return Sides(first, last, note)


def common(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """``ours - theirs`` in the columns and seeds that both have."""
    both = ours.columns.intersection(theirs.columns).sort_values()
    if len(both) < 2:
        raise NotEnoughRuns(f"two values of {ours.columns.name} that both sides have are needed; there are {len(both)}")
    return (ours[both] - theirs[both]).dropna()


def benefit(rows: pd.DataFrame, column: str = "elbo_test") -> pd.DataFrame:
    """DMaaPx minus normal training at the turn, a row a seed and a column an mz."""
    return common(over_mz(rows, column, "dmaapx"), over_mz(rows, column))


def at_largest_mz(rows: pd.DataFrame) -> Sides:
    """DMaaPx minus normal training at the largest mz that both have."""
    values = benefit(rows)
    largest = values.columns.max()
    return Sides(values[largest], note=f"mz {largest:g}")


def benefit_everywhere(rows: pd.DataFrame) -> Sides:
    """Test ELBO of DMaaPx minus normal training, averaged over all (nc, mz) that both have."""
    ours, theirs = (by_seed(rows, "elbo_test", "nc", "mz", method=method) for method in ("dmaapx", "normal"))
    return Sides((ours - theirs).dropna().unstack(["nc", "mz"]).dropna().mean(axis=1))


def saturated(rows: pd.DataFrame) -> Sides:
    """Normal training at the largest mz, and at mz 16."""
    values = over_mz(rows, "elbo_test")
    if 16 not in values or values.columns.max() <= 16:
        raise NotEnoughRuns(f"mz 16 and a larger one are needed; there are {', '.join(f'{m:g}' for m in values)}")
    return rise(values[[m for m in values if m >= 16]])


def both_axes(rows: pd.DataFrame) -> Sides:
    """The largest nc and mz minus the better of: only the largest nc, only the largest mz."""
    low, high = over_nc(rows, "elbo_test"), over_nc(rows, "elbo_test", widest=True)
    wide, narrow = high.columns.max(), high.columns.min()
    if wide not in low:
        raise NotEnoughRuns(f"nc {wide:g} is missing at the smallest mz")
    return Sides((high[wide] - pd.concat([low[wide], high[narrow]], axis=1).max(axis=1, skipna=False)).dropna())


def largest_gap(rows: pd.DataFrame) -> Sides:
    """DMaaPx's generalization gap, without its sign, at the nc where it is largest."""
    return Sides(over_nc(rows, "generalization_gap", "dmaapx").abs().max(axis=1))


def below_largest_gap(rows: pd.DataFrame, **where: object) -> Range:
    """Below ``MARGIN`` of normal training's gap at the nc where it is largest."""
    gap = float(over_nc(rows, "generalization_gap").mean().max())
    return Range(-math.inf, MARGIN * gap, "a tenth of normal training's largest gap on this axis")


def first_stretch(rows: pd.DataFrame) -> pd.DataFrame:
    """Test ELBO along the first stretch of Figure 8's path: nc up to the turn, at the smallest mz."""
    turn = turn_of(rows)
    return over_nc(rows[rows["nc"] <= turn], "elbo_test")


def a_doubling(values: pd.DataFrame) -> Sides:
    """The slope over the logarithm of the columns."""
    return Sides(slope(values, np.log2(values.columns.to_numpy(dtype=float)).tolist()))


def best_minus_first(values: pd.DataFrame) -> Sides:
    return Sides(best_minus(values, values.columns.min()))


def best_minus_last(values: pd.DataFrame) -> Sides:
    return Sides(best_minus(values, values.columns.max()))


def along(
    values: Callable[[pd.DataFrame], Sides], name: str, claimed: Range | Callable[..., Range], unit: str = NATS,
    sweep: str = "complexity_axes", **said: Any,
) -> Claim:  # fmt: skip
    """A claim about a sweep over nc and mz."""
    return Claim(
        sweep=sweep, axes=True, statistic=name, unit=unit, claimed=claimed,
        values=lambda results: values(results.last), **said,
    )  # fmt: skip


def larger_mz(column: str) -> Claim:
    """Section 5.5: a larger mz gives normal training a higher test ELBO, or a smaller gap."""
    more, quantity = column == "elbo_test", QUANTITIES[column]
    paper = {
        "elbo_test": "",
        "generalization_gap": "Figure 6 has two falls, 885 -> 50 and 857 -> 361, of this gap and the amortization gap",
        "amortization_gap": "Figure 6 has two falls, 885 -> 50 and 857 -> 361, of this gap and the generalization gap",
        "robustness_gap": "0.32 -> 0.04",
    }
    return along(
        lambda rows: rise(over_mz(rows, column)),
        f"{quantity.name} of normal training, largest mz minus smallest mz",
        POSITIVE if more else NEGATIVE,
        quantity.unit,
        id=f"complexity_axes/{column}/mz",
        section="5.5, Figure 6",
        statement=f"With a larger mz, normal training has a {'higher' if more else 'smaller'} {quantity.name}.",
        paper=paper[column],
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="generalization_gaps/decline/normal", section="1, Figure 2", sweep="generalization_gaps",
        statement="Normal training overfits: its test ELBO falls after its best epoch.",
        statistic="test ELBO of normal training, best epoch minus last epoch", unit=NATS,
        values=decline_over_epochs("normal"), claimed=POSITIVE,
    ),
    Claim(
        id="generalization_gaps/decline/dmaapx", section="5.2, Figure 2", sweep="generalization_gaps",
        statement="DMaaPx does not overfit: its test ELBO does not fall after its best epoch.",
        statistic="test ELBO of DMaaPx, best epoch minus last epoch", unit=NATS,
        values=decline_over_epochs("dmaapx"), claimed=no_more,
    ),
    *(better_in(column, "dmaapx", "normal") for column in ("elbo_test", *GAPS)),
    *(better_in(column, "dmaapx", aug) for column in ("elbo_test", *GAPS) for aug in AUGMENTATIONS),
    *(better_in(column, aug, "normal") for column in ("elbo_test", *GAPS) for aug in AUGMENTATIONS),
    accuracy(
        on_corrupted, "corrupted test sets", "dmaapx", POSITIVE,
        id="representation/corrupted/dmaapx", section="5.2, Figure 4 left",
        statement="Codes of DMaaPx are classified better than those of normal training on corrupted test sets.",
    ),
    *(
        accuracy(
            on_corrupted, "corrupted test sets", aug, NEGATIVE,
            id=f"representation/corrupted/{aug}", section="5.2, Figure 4 left",
            statement=f"{NAMES[aug]} hurts the classification of codes on corrupted test sets.",
        )
        for aug in AUGMENTATIONS
    ),
    versus(
        "elbo_test", "dmaapx", "rha", POSITIVE, "reverse_half_asleep", section="5.2, Figure 5",
        statement="DMaaPx has a higher test ELBO than Reverse Half Asleep.",
    ),
    versus(
        "elbo_test", "rha", "normal", POSITIVE, "reverse_half_asleep", section="5.2, Figure 5",
        statement="Reverse Half Asleep improves the test ELBO of normal training.",
    ),
    versus(
        "elbo_test", "dmaapx+rha", "dmaapx", no_more, "reverse_half_asleep", section="5.2, Figure 5",
        statement="Reverse Half Asleep on top of DMaaPx does not improve the test ELBO.",
    ),
    versus(
        "latent_log_q", "dmaapx", "normal", POSITIVE, "latent_smoothness", section="5.3, Figure 3",
        statement="Between the codes of two images, log q is higher for DMaaPx.",
    ),
    versus(
        "latent_variation", "dmaapx", "normal", NEGATIVE, "latent_smoothness", section="5.3, Figure 3",
        statement="Between the codes of two images, log q is smoother for DMaaPx.",
    ),
    Claim(
        id="synthetic_budget/one", section="5.4, Figure 4 right", sweep="synthetic_budget",
        statement="As many synthetic as real images (k = 1) match normal training in test ELBO.",
        statistic="test ELBO, DMaaPx with k = 1 minus normal training", unit=NATS, values=budget_one, claimed=same,
    ),
    Claim(
        id="synthetic_budget/more", section="5.4, Figure 4 right", sweep="synthetic_budget",
        statement="More synthetic images than real ones help: the test ELBO rises from k = 1 to the largest k.",
        statistic="test ELBO of DMaaPx, largest k minus k = 1", unit=NATS,
        values=lambda results: plateau(1, results), claimed=POSITIVE,
    ),
    Claim(
        id="synthetic_budget/plateau", section="5.4, Figure 4 right", sweep="synthetic_budget",
        statement="Ten times as many synthetic as real images suffice: from k = 10 on the test ELBO is on a plateau.",
        paper="k of about 10 suffices",
        statistic="test ELBO of DMaaPx, largest k minus k = 10", unit=NATS,
        values=lambda results: plateau(10, results), claimed=same,
    ),
    *(larger_mz(column) for column in ("elbo_test", *GAPS)),
    along(
        saturated, "test ELBO of normal training, largest mz minus mz 16", same,
        id="complexity_axes/elbo_test/saturated", section="5.5, Figure 7a",
        statement="From mz = 16 on the test ELBO of normal training stays at the same level.",
    ),
    along(
        lambda rows: fall(benefit(rows)),
        "test ELBO, DMaaPx minus normal training, smallest mz minus largest mz", POSITIVE,
        id="complexity_axes/benefit/shrinks", section="5.5, Figure 7a",
        statement="What DMaaPx adds to the test ELBO shrinks as mz grows.",
    ),
    along(
        at_largest_mz, "test ELBO at the largest mz, DMaaPx minus normal training", same,
        id="complexity_axes/benefit/gone", section="5.5, Figure 7a", paper="from mz = 16 on similar",
        statement="At the largest mz, DMaaPx and normal training have the same test ELBO.",
    ),
    along(
        lambda rows: Sides(-benefit(rows, "generalization_gap").max(axis=1)),
        "generalization gap, normal training minus DMaaPx, at the mz where that is least", POSITIVE,
        id="complexity_axes/generalization_gap/always", section="5.5, Figure 7b",
        statement="At every mz, DMaaPx has a smaller generalization gap than normal training.",
    ),
    along(
        lambda rows: best_minus_first(over_nc(rows, "elbo_test")),
        "test ELBO of normal training at the smallest mz, best nc minus smallest nc", POSITIVE,
        id="complexity_axes/u_shape/rise", section="5.6, Figure 7c",
        statement="At the smallest mz, the test ELBO of normal training first grows with nc.",
    ),
    along(
        lambda rows: best_minus_last(over_nc(rows, "elbo_test")),
        "test ELBO of normal training at the smallest mz, best nc minus largest nc", POSITIVE,
        id="complexity_axes/u_shape/fall", section="5.6, Figure 7c",
        statement="At the smallest mz, the test ELBO of normal training then falls with nc: the classical U-shape.",
    ),
    along(
        lambda rows: best_minus_last(over_nc(rows, "elbo_test", widest=True)),
        "test ELBO of normal training at the largest mz, best nc minus largest nc", no_more,
        id="complexity_axes/u_shape/gone", section="5.6, Figure 7c",
        statement="At the largest mz, the test ELBO of normal training does not fall at large nc.",
    ),
    along(
        lambda rows: a_doubling(over_nc(rows, "elbo_test", widest=True)),
        "slope of the test ELBO of normal training over log2 nc, at the largest mz", POSITIVE, NATS_DOUBLING,
        id="complexity_axes/elbo_test/nc", section="5.6, Figure 7c",
        statement="At the largest mz, the test ELBO of normal training grows with nc.",
    ),
    along(
        both_axes, "test ELBO of normal training, largest nc and mz minus the better of only one of them", POSITIVE,
        id="complexity_axes/elbo_test/both", section="5.6, Figure 7c",
        statement="Growing both nc and mz gives a higher test ELBO than growing either.",
    ),
    along(
        lambda rows: a_doubling(over_nc(rows, "generalization_gap")),
        "slope of the generalization gap of normal training over log2 nc, at the smallest mz", POSITIVE, NATS_DOUBLING,
        id="complexity_axes/generalization_gap/nc", section="5.6, Figure 7d",
        statement="The generalization gap of normal training grows with nc.",
    ),
    along(
        largest_gap, "generalization gap of DMaaPx at the smallest mz and its worst nc", below_largest_gap,
        id="complexity_axes/generalization_gap/dmaapx", section="5.6, Figure 7d",
        statement="The generalization gap of DMaaPx is near zero at every nc.",
    ),
    along(
        benefit_everywhere, "test ELBO, DMaaPx minus normal training, mean over nc and mz", no_less,
        id="complexity_axes/benefit/everywhere", section="5.6, Figure 7c",
        statement="Synthetic data on top of more parameters does not hurt the test ELBO.",
    ),
    along(
        lambda rows: best_minus_first(first_stretch(rows)),
        "test ELBO along the first stretch (nc grows), best nc minus smallest nc", POSITIVE, sweep="double_descent",
        id="double_descent/down", section="5.7, Figure 8",
        statement="Along the path of Figure 8 the negative test ELBO first goes down, as nc grows;",
    ),
    along(
        lambda rows: best_minus_last(first_stretch(rows)),
        "test ELBO along the first stretch (nc grows), best nc minus largest nc", POSITIVE, sweep="double_descent",
        id="double_descent/up", section="5.7, Figure 8", statement="then it goes up, as nc grows further;",
    ),
    along(
        lambda rows: rise(over_mz(rows, "elbo_test")),
        "test ELBO along the second stretch (mz grows), largest mz minus smallest mz", POSITIVE, sweep="double_descent",
        id="double_descent/down_again", section="5.7, Figure 8", statement="and then down again, as mz grows.",
    ),
    versus(
        "elbo_test", "mollify", "normal", same, "mollification", section="B.6, Figure 14",
        statement="Aug.Mollify has a test ELBO like that of normal training.",
        id="mollification/elbo_test/same",
    ),
    versus(
        "elbo_test", "mollify", "normal", no_more, "mollification", section="B.6, Figure 14",
        statement="Aug.Mollify does not improve the test ELBO of normal training.",
    ),
    versus(
        "generalization_gap", "mollify", "normal", NEGATIVE, "mollification", section="B.6, Figure 14",
        statement="Aug.Mollify has a smaller generalization gap than normal training.",
    ),
    versus(
        "generalization_gap", "mollify", "dmaapx", same, "mollification", section="B.6, Figure 14",
        statement="Aug.Mollify and DMaaPx have similarly small generalization gaps.",
    ),
    versus(
        "elbo_test", "dmaapx+mollify", "dmaapx", no_more, "mollification", section="B.6, Figure 14",
        statement="Aug.Mollify on top of DMaaPx does not improve the test ELBO.",
    ),
    Claim(
        id="real_synthetic_mix/elbo_test/trend", section="B.7, Figure 15", sweep="real_synthetic_mix",
        statement="The test ELBO falls as the real part of a mixture grows.",
        statistic="slope of the test ELBO over the part of real data, no augmentation", unit=NATS_ALL,
        values=mixture_trend("elbo_test"), claimed=NEGATIVE,
    ),
    Claim(
        id="real_synthetic_mix/generalization_gap/trend", section="B.7, Figure 15", sweep="real_synthetic_mix",
        statement="The generalization gap grows with the real part of a mixture.",
        statistic="slope of the generalization gap over the part of real data, no augmentation", unit=NATS_ALL,
        values=mixture_trend("generalization_gap"), claimed=POSITIVE,
    ),
    Claim(
        id="real_synthetic_mix/elbo_test/augmentation", section="B.7, Figure 15", sweep="real_synthetic_mix",
        statement="Augmentation improves the test ELBO of mixtures.",
        statistic="test ELBO, with Aug.Tuned minus without, mean over percents", unit=NATS,
        values=augmentation_of_mixtures("elbo_test"), claimed=POSITIVE,
    ),
    Claim(
        id="real_synthetic_mix/generalization_gap/augmentation", section="B.7, Figure 15", sweep="real_synthetic_mix",
        statement="Augmentation makes the generalization gap of mixtures smaller.",
        statistic="generalization gap, with Aug.Tuned minus without, mean over percents", unit=NATS,
        values=augmentation_of_mixtures("generalization_gap"), claimed=NEGATIVE,
    ),
    Claim(
        id="real_synthetic_mix/elbo_test/dmaapx", section="B.7, Figure 15", sweep="real_synthetic_mix",
        statement="DMaaPx alone has the highest test ELBO of all mixtures, with and without augmentation.",
        statistic="test ELBO, DMaaPx minus the best other mixture", unit=NATS,
        values=lead_of_dmaapx("elbo_test", 1), claimed=POSITIVE,
    ),
    Claim(
        id="real_synthetic_mix/generalization_gap/dmaapx", section="B.7, Figure 15", sweep="real_synthetic_mix",
        statement="DMaaPx alone has the smallest generalization gap of all mixtures, with and without augmentation.",
        statistic="generalization gap, the smallest of other mixtures minus DMaaPx", unit=NATS,
        values=lead_of_dmaapx("generalization_gap", -1), claimed=POSITIVE,
    ),
    Claim(
        id="diffusion_subsets/elbo_test/30", section="B.8, Figure 16", sweep="diffusion_subsets",
        statement="With a diffusion model of 30 % of the data, DMaaPx matches normal training on all of it.",
        statistic="test ELBO, DMaaPx with 30 % minus normal training", unit=NATS,
        values=subset("elbo_test", 30), claimed=same,
    ),
    Claim(
        id="diffusion_subsets/generalization_gap/30", section="B.8, Figure 16", sweep="diffusion_subsets",
        statement="With a diffusion model of 30 % of the data, DMaaPx has the smaller generalization gap.",
        statistic="generalization gap, DMaaPx with 30 % minus normal training", unit=NATS,
        values=subset("generalization_gap", 30), claimed=NEGATIVE,
    ),
    Claim(
        id="diffusion_subsets/elbo_test/trend", section="B.8, Figure 16", sweep="diffusion_subsets",
        statement="The more data the diffusion model has seen, the higher the test ELBO.",
        statistic="slope of the test ELBO of DMaaPx over the part of the data", unit=NATS_ALL,
        values=subset_trend("elbo_test"), claimed=POSITIVE,
    ),
    Claim(
        id="diffusion_subsets/elbo_test/largest", section="B.8, Figure 16", sweep="diffusion_subsets",
        statement="With the diffusion model of most data, DMaaPx has a higher test ELBO than normal training.",
        statistic="test ELBO, DMaaPx with the largest part minus normal training", unit=NATS,
        values=subset("elbo_test", None), claimed=POSITIVE,
    ),
    Claim(
        id="diffusion_subsets/elbo_test/diminishing", section="B.8, Figure 16", sweep="diffusion_subsets",
        statement="More data for the diffusion model has diminishing returns from 70 % on.",
        statistic="rise of the test ELBO from 30 to 70 % minus that from 70 % on, each for a percent of the data",
        unit=NATS,
        values=diminishing, claimed=POSITIVE,
    ),
    Claim(
        id="diffusion_subsets/two_sample/chance", section="D.3, Figure 18", sweep="diffusion_subsets",
        statement="A classifier tells synthetic from real images better than chance, whatever the diffusion model saw.",
        paper="accuracy above 50 %",
        statistic="lowest two-sample accuracy over diffusion models, minus 50 %", unit=POINTS,
        values=above_chance, claimed=POSITIVE,
    ),
    Claim(
        id="diffusion_subsets/two_sample/trend", section="D.3, Figure 18", sweep="diffusion_subsets",
        statement="The more data the diffusion model has seen, the harder its samples are to tell from real images.",
        statistic="slope of the two-sample accuracy over the part of the data", unit="points from none to all",
        values=subset_trend("two_sample_accuracy"), claimed=NEGATIVE,
    ),
    accuracy(
        on_clean, "the test set", "dmaapx", POSITIVE, id="representation/clean/dmaapx", section="F, Table 11",
        statement="Codes of DMaaPx are classified better than those of normal training.",
        paper="mean of the four classifiers 37.2 % -> 38.2 %, with overlapping standard deviations",
    ),
    *(
        accuracy(
            on_clean, "the test set", aug, NEGATIVE, id=f"representation/clean/{aug}", section="F, Table 11",
            statement=f"{NAMES[aug]} hurts the classification of codes.",
            paper="mean of the four classifiers 37.2 % -> " + {"aug_naive": "36.1 %", "aug_tuned": "36.2 %"}[aug],
        )
        for aug in AUGMENTATIONS
    ),
    versus(
        "psnr_test", "dmaapx", "normal", POSITIVE, "representation", section="F, Table 11",
        statement="DMaaPx reconstructs test images better than normal training.",
        paper="16.087 -> 16.370 dB, with overlapping standard deviations",
    ),
    versus(
        "fid", "dmaapx", "normal", partial(same, column="fid"), "representation", section="F, Table 11",
        statement="DMaaPx and normal training have samples of the same quality, measured by FID.",
        paper="219.256 -> 219.081",
    ),
    *(
        versus(
            "fid", aug, "normal", POSITIVE, "representation", section="F, Table 11",
            statement=f"{NAMES[aug]} has worse samples (a higher FID) than normal training.",
            paper="219.256 -> " + {"aug_naive": "237.238", "aug_tuned": "240.898"}[aug],
        )
        for aug in AUGMENTATIONS
    ),
    versus(
        "inception_score", "dmaapx", "normal", NEGATIVE, "representation", section="F, Table 11",
        statement="Measured by the Inception Score, normal training has the better samples.", paper="1.818 -> 1.614",
    ),
    Claim(
        id="representation/linear/dmaapx", section="G, Figure 19", sweep="representation",
        statement="On corrupted test sets, linear classifiers do best with the codes of DMaaPx.",
        statistic="accuracy of linear classifiers on corrupted test sets, DMaaPx minus the best other method",
        unit=POINTS, values=linear_on_corrupted, claimed=POSITIVE,
    ),
    versus(
        "elbo_test", "dmaapx", "early_stopping", POSITIVE, "generalization_gaps", section="ours",
        statement="DMaaPx has a higher test ELBO than normal training that is stopped early.",
    ),
    Claim(
        id="more_real_data/elbo_test", section="ours", sweep="more_real_data",
        statement="k times more real data helps more than k times more synthetic data.",
        statistic="test ELBO, k times more real data minus k times more synthetic data, mean over k > 1", unit=NATS,
        values=real_minus_synthetic, claimed=POSITIVE,
    ),
)  # fmt: skip
"""The claims, in the paper's order."""
