"""What figures and tables by method share: one trial a method and seed, their details, means over seeds in words.

Tables have a column a method and a row a measure; ``tables`` has them the other way round.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaegen_ray.figures import style
from vaegen_ray.figures.rows import require_alike, require_one_stream, usable
from vaegen_ray.figures.tables import FEWER

ONE_EXPERIMENT = ("dataset", "architecture", "likelihood", "n_train", "epochs", "nc", "mz", "image_shape")
"""What all rows of a figure must share."""


class Measure(NamedTuple):
    """A row of Table 11."""

    name: str
    decimals: int
    up: bool = True
    """Larger is better."""


def comparable(last: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The usable rows of one experiment, one a method and seed, and a footnote that counts the others.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, or the rows mix experiments.
    """
    rows, left_out = usable(last, ("elbo_test",), (*ONE_EXPERIMENT, "trial_id", "method", "seed"))
    require_alike(rows, ("method",), (), ONE_EXPERIMENT)
    require_one_stream(rows)
    return rows, left_out


def select_details(rows: pd.DataFrame, details: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """The ``details`` of ``quantities`` that belong to ``rows``, with the method and the seed of their trial."""
    if details.empty:
        return pd.DataFrame(columns=["trial_id", "method", "seed", "quantity", "item", "values"])
    mine = details[details["quantity"].isin(list(quantities))]
    return mine.merge(rows[["trial_id", "method", "seed"]], on="trial_id")


def number(item: str) -> int:
    """3 of ``pair-3``: by it, not by its letters, an item is sorted."""
    return int(re.findall(r"\d+", item)[-1])


def trained(rows: pd.DataFrame, nc: str = "$n_c$", mz: str = "$m_z$") -> str:
    """Network, data set, training images and epochs: the first words of the line below a title."""
    first = rows.iloc[0]
    size = f"{nc} = {first['nc']}, {mz} = {first['mz']}"
    return f"{size}; {first['dataset']}, {first['n_train']:,} training images, {first['epochs']:,} epochs"


def seeds_in(frame: pd.DataFrame) -> str:
    """``3 seeds``, or ``1 to 3 seeds`` where methods differ."""
    counts = frame.groupby("method")["seed"].nunique()
    low, high = counts.min(), counts.max()
    return f"{high if low == high else f'{low} to {high}'} seed{'s' if high > 1 else ''}"


def first_seeds(frame: pd.DataFrame) -> pd.Series:
    """The seed that stands for each method: the lowest that all have, or else the lowest of each."""
    seeds = frame.groupby("method")["seed"].agg(set)
    shared = set.intersection(*seeds)
    return seeds.map(lambda own: min(shared or own))


def seed_words(seeds: pd.Series) -> str:
    """Says which seeds ``first_seeds`` found."""
    return f"seed {seeds.iloc[0]}" if seeds.nunique() == 1 else "the lowest seed of each method"


def table(rows: pd.DataFrame, measures: dict[str, Measure], left_out: str = "") -> str:
    """A Markdown table: a row a measure, a column a method, the mean and standard deviation over the seeds in a cell.

    The best mean of a row is bold; where nothing was measured there is a dash. Where some seeds lack a number, how many
    have it stands in brackets.
    """
    methods, lines = style.methods_in(rows), []
    for column, measure in measures.items():
        values = [pd.Series(find_column(rows[rows["method"] == method], column)) for method in methods]
        cells = [style.plus_minus(of_method, measure.decimals) + _fewer(of_method) for of_method in values]
        means = np.array([of_method[np.isfinite(of_method)].mean() for of_method in values]).round(measure.decimals)
        if np.isfinite(means).sum() > 1:
            best = np.nanmax(means) if measure.up else np.nanmin(means)
            cells = [f"**{cell}**" if mean == best else cell for cell, mean in zip(cells, means, strict=True)]
        lines.append([f"{measure.name} ({'↑' if measure.up else '↓'})", *cells])
    seeds = seeds_in(rows)
    spread = seeds if seeds == "1 seed" else f"mean ± standard deviation over {seeds}"
    fewer = FEWER if any("(" in cell for line in lines for cell in line[1:]) else ""
    note = ". ".join(filter(None, [f"{trained(rows, nc='nc', mz='mz')}; {spread}", fewer, left_out]))
    return f"{style.markdown(['', *map(style.method_name, methods)], lines)}\n{note}.\n"


def _fewer(values: pd.Series) -> str:
    """How many of ``values`` are known, in brackets, where it is neither all nor none."""
    known = int(np.isfinite(values).sum())
    return f" ({known})" if 0 < known < len(values) else ""


def find_column(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A column as numbers, NaN where it was not measured."""
    if name not in rows:
        return np.full(len(rows), np.nan)
    values: NDArray[np.float64] = rows[name].to_numpy(dtype=float, na_value=np.nan)
    return values
