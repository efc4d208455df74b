"""More parameters: claims about sweeps over nc and mz (Sections 5.5 to 5.7).

How numbers are read from such a sweep is in ``axes``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from vaegen_ray.analysis.statistics import NEGATIVE, POSITIVE, Range
from vaegen_ray.claims.axes import (
    a_doubling,
    at_largest_mz,
    below_largest_gap,
    benefit,
    benefit_everywhere,
    best_minus_first,
    best_minus_last,
    both_axes,
    fall,
    find_baseline,
    first_stretch,
    largest_gap,
    over_mz,
    over_nc,
    rise,
    saturated,
)
from vaegen_ray.claims.claim import NATS, QUANTITIES, Claim, Sides, no_less, no_more, point_key

NATS_DOUBLING = "nats an image a doubling"


def along(
    values: Callable[[pd.DataFrame], Sides], name: str, claimed: Range | Callable[..., Range], unit: str = NATS,
    sweep: str = "complexity_axes", **said: Any,
) -> Claim:  # fmt: skip
    """A claim about a sweep over nc and mz, whose margin is taken at ``find_baseline``; ``said`` are further fields."""
    return Claim(
        sweep=sweep, axes=("nc", "mz"), statistic=name, unit=unit, values=lambda results: values(results.last),
        claimed=claimed if isinstance(claimed, Range) else lambda rows: claimed(rows, **find_baseline(rows)), **said,
    )  # fmt: skip


def larger_mz(column: str, paper: str = "") -> Claim:
    """Section 5.5: a larger mz gives normal training a higher test ELBO, or a smaller gap."""
    more, quantity = column == "elbo_test", QUANTITIES[column]
    return along(
        lambda rows: rise(over_mz(rows, column)),
        f"{quantity.name} of normal training, largest mz minus smallest mz", POSITIVE if more else NEGATIVE,
        quantity.unit, id=f"complexity_axes/{column}/mz", section="5.5, Figure 6", paper=paper,
        statement=f"With a larger mz, normal training has a {'higher' if more else 'smaller'} {quantity.name}.",
    )  # fmt: skip


FALLS = "Figure 6 has two falls, 885 -> 50 and 857 -> 361, of this gap and the "
COMPLEXITY_AXES = (
    larger_mz("elbo_test"),
    larger_mz("generalization_gap", FALLS + "amortization gap"),
    larger_mz("amortization_gap", FALLS + "generalization gap"),
    larger_mz("robustness_gap", "0.32 -> 0.04"),
    along(
        saturated, "test ELBO of normal training, largest mz minus mz 16", point_key,
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
        at_largest_mz, "test ELBO at the largest mz, DMaaPx minus normal training", point_key,
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
)  # fmt: skip
"""Sections 5.5 and 5.6."""

_path = partial(along, sweep="double_descent", section="5.7, Figure 8")
DOUBLE_DESCENT = (
    _path(
        lambda rows: best_minus_first(first_stretch(rows)),
        "test ELBO along the first stretch (nc grows), best nc minus smallest nc", POSITIVE,
        id="double_descent/down",
        statement="Along the path of Figure 8 the negative test ELBO first goes down, as nc grows;",
    ),
    _path(
        lambda rows: best_minus_last(first_stretch(rows)),
        "test ELBO along the first stretch (nc grows), best nc minus largest nc", POSITIVE,
        id="double_descent/up", statement="then it goes up, as nc grows further;",
    ),
    _path(
        lambda rows: rise(over_mz(rows, "elbo_test")),
        "test ELBO along the second stretch (mz grows), largest mz minus smallest mz", POSITIVE,
        id="double_descent/down_again", statement="and then down again, as mz grows.",
    ),
)  # fmt: skip
"""Section 5.7."""
