"""The numbers of sweeps over nc and mz, read from where the paper draws its lines.

The trials lie on a path: nc grows at the smallest mz, then mz grows at one nc, the turn (256 in the paper). Further
trials may lie beside it, such as those over nc at the largest mz. Every function takes ``Results.last``.
"""

import math

import numpy as np
import pandas as pd

from vaegen_ray.analysis.statistics import NotEnoughRuns, Range, best_minus, by_seed, minus, slope, table
from vaegen_ray.claims.claim import MARGIN, Sides

# Places


def find_points(rows: pd.DataFrame, column: str, method: str) -> pd.DataFrame:
    """The pairs (nc, mz) at which a method has the column."""
    found = by_seed(rows, column, "nc", "mz", method=method)
    return found.index.to_frame(index=False)[["nc", "mz"]].drop_duplicates()


def find_turn(rows: pd.DataFrame) -> float:
    """The nc at which mz grows: the one with the most mz; among equals the largest that leaves a larger nc."""
    heights = find_points(rows, "elbo_test", "normal").groupby("nc").size()
    if heights.max() < 2:
        raise NotEnoughRuns("no nc has two values of mz")
    turns = heights.index[heights == heights.max()]
    return float(max(turns[turns < heights.index.max()], default=turns.max()))


def find_baseline(rows: pd.DataFrame) -> dict[str, object]:
    """Where margins of the axes are from: the turn at the smallest mz (nc = 256, mz = 1 in the paper)."""
    return {"nc": find_turn(rows), "mz": over_mz(rows, "elbo_test").columns.min()}


# Tables: a row a seed, a column a place


def over_mz(rows: pd.DataFrame, column: str, method: str = "normal") -> pd.DataFrame:
    """The values of a method at the turn, a column an mz."""
    return table(rows, column, "mz", method=method, nc=find_turn(rows))


def over_nc(rows: pd.DataFrame, column: str, method: str = "normal", *, widest: bool = False) -> pd.DataFrame:
    """The values of a method at the smallest mz, or the largest (``widest``), that has two nc; a column an nc."""
    widths = find_points(rows, column, method).groupby("mz").size()
    with_two = widths.index[widths >= 2]
    if with_two.empty or (widest and len(with_two) < 2):
        raise NotEnoughRuns(f"two values of nc are needed at {'a larger and ' * widest}a small mz of {method}")
    return table(rows, column, "nc", method=method, mz=with_two.max() if widest else with_two.min())


def first_stretch(rows: pd.DataFrame) -> pd.DataFrame:
    """Test ELBO along the first stretch of Figure 8's path: nc up to the turn, at the smallest mz."""
    turn = find_turn(rows)
    return over_nc(rows[rows["nc"] <= turn], "elbo_test")


def benefit(rows: pd.DataFrame, column: str = "elbo_test") -> pd.DataFrame:
    """DMaaPx minus normal training at the turn, a column an mz."""
    return minus(over_mz(rows, column, "dmaapx"), over_mz(rows, column))


# What a table says


def rise(values: pd.DataFrame) -> Sides:
    """The last column and the first."""
    first, last, note = _ends(values)
    return Sides(last, first, note)


def fall(values: pd.DataFrame) -> Sides:
    """The first column and the last."""
    first, last, note = _ends(values)
    return Sides(first, last, note)


def _ends(values: pd.DataFrame) -> tuple[pd.Series, pd.Series, str]:
    axis, first, last = values.columns.name, values.columns.min(), values.columns.max()
    return values[first], values[last], f"{axis} {last:g} and {axis} {first:g}"


def a_doubling(values: pd.DataFrame) -> Sides:
    """The slope over the logarithm of the columns."""
    return Sides(slope(values, np.log2(values.columns.to_numpy(dtype=float)).tolist()))


def best_minus_first(values: pd.DataFrame) -> Sides:
    """By how much the values rise before they fall."""
    return Sides(best_minus(values, values.columns.min()))


def best_minus_last(values: pd.DataFrame) -> Sides:
    """By how much the values fall after they rise."""
    return Sides(best_minus(values, values.columns.max()))


# Numbers of one claim


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
    """Below ``MARGIN`` of normal training's gap at the nc where it is largest, wherever other margins are from."""
    gap = float(over_nc(rows, "generalization_gap").mean().max())
    return Range(-math.inf, MARGIN * gap, "a tenth of normal training's largest gap on this axis")
