"""One method against another: the gaps of Section 5.2, and what follows the same pattern in other sections.

``versus`` makes a claim about the difference of two methods in one column of the metrics.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from vaegen_ray.analysis.statistics import NEGATIVE, POSITIVE, Range, best_minus, by_seed, mean_interval, table
from vaegen_ray.claims.claim import GAPS, NATS, QUANTITIES, Claim, Results, Sides, no_more, point_key
from vaegen_ray.spec.method import method_name

AUGMENTATIONS = ("aug_naive", "aug_tuned")
SHOWN_APART = ("generalization_gap", "amortization_gap")
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


def versus(
    column: str, method: str, baseline: str, claimed: Range | Callable[..., Range], sweep: str, **said: Any
) -> Claim:
    """A claim about ``method`` minus ``baseline``; ``said`` are further fields of it."""
    quantity = QUANTITIES[column]

    def values(results: Results) -> Sides:
        ours, theirs = (by_seed(results.last, column, method=name) for name in (method, baseline))
        shown = {method_name(method): ours, method_name(baseline): theirs} if column in SHOWN_APART else {}
        return Sides(ours, theirs, intervals(shown))

    said.setdefault("id", f"{sweep}/{column}/{method}-{baseline}")
    name = f"{quantity.name}, {method_name(method)} minus {method_name(baseline)}"
    return Claim(statistic=name, unit=quantity.unit, values=values, claimed=claimed, sweep=sweep, **said)


def intervals(sides: dict[str, pd.Series]) -> str:
    """The interval of each of two sides, and whether they overlap; nothing where a side has too few seeds."""
    if not sides or min(map(len, sides.values())) < 2:
        return ""
    made = {name: mean_interval(values.tolist()) for name, values in sides.items()}
    words = [f"{name} {i.mean:.4g} ({i.low:.4g} to {i.high:.4g})" for name, i in made.items()]
    first, second = made.values()
    return f"{'; '.join(words)}; the intervals {'overlap' if first.overlaps(second) else 'do not overlap'}"


def better(column: str, method: str, baseline: str) -> Claim:
    """Section 5.2: a method has the higher test ELBO, or the smaller gap, of which the paper has numbers."""
    name = QUANTITIES[column].name
    if column == "elbo_test":
        what, section, claimed, paper = f"a higher {name}", "5.2, Figure 2", POSITIVE, ""
    else:
        what, section, claimed = f"a smaller {name}", "5.2, Table 7", NEGATIVE
        gap = GAPS.index(column)
        paper = "; ".join(f"{data} {by[baseline][gap]:g} -> {by[method][gap]:g}" for data, by in TABLE_7.items())
    statement = f"{method_name(method)} has {what} than {method_name(baseline)}."
    return versus(
        column, method, baseline, claimed, "generalization_gaps", section=section, statement=statement, paper=paper
    )


def decline_over_epochs(method: str) -> Callable[[Results], Sides]:
    """Test ELBO at its best epoch minus that at the last one."""

    def values(results: Results) -> Sides:
        found = table(results.curves, "elbo_test", "effective_epoch", method=method)
        return Sides(best_minus(found, found.columns.max()))

    return values


GENERALIZATION_GAPS = (
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
    *(better(column, "dmaapx", "normal") for column in ("elbo_test", *GAPS)),
    *(better(column, "dmaapx", aug) for column in ("elbo_test", *GAPS) for aug in AUGMENTATIONS),
    *(better(column, aug, "normal") for column in ("elbo_test", *GAPS) for aug in AUGMENTATIONS),
)  # fmt: skip
"""Sections 1 and 5.2."""

_asleep = partial(versus, sweep="reverse_half_asleep", section="5.2, Figure 5")
REVERSE_HALF_ASLEEP = (
    _asleep(
        "elbo_test", "dmaapx", "rha", POSITIVE,
        statement="DMaaPx has a higher test ELBO than Reverse Half Asleep.",
    ),
    _asleep(
        "elbo_test", "rha", "normal", POSITIVE,
        statement="Reverse Half Asleep improves the test ELBO of normal training.",
    ),
    _asleep(
        "elbo_test", "dmaapx+rha", "dmaapx", no_more,
        statement="Reverse Half Asleep on top of DMaaPx does not improve the test ELBO.",
    ),
)  # fmt: skip
"""Section 5.2."""

_smooth = partial(versus, sweep="latent_smoothness", section="5.3, Figure 3")
LATENT_SMOOTHNESS = (
    _smooth(
        "latent_log_q", "dmaapx", "normal", POSITIVE,
        statement="Between the codes of two images, log q is higher for DMaaPx.",
    ),
    _smooth(
        "latent_variation", "dmaapx", "normal", NEGATIVE,
        statement="Between the codes of two images, log q is smoother for DMaaPx.",
    ),
)  # fmt: skip
"""Section 5.3."""

_mollified = partial(versus, sweep="mollification", section="B.6, Figure 14")
MOLLIFICATION = (
    _mollified(
        "elbo_test", "mollify", "normal", point_key, id="mollification/elbo_test/same",
        statement="Aug.Mollify has a test ELBO like that of normal training.",
    ),
    _mollified(
        "elbo_test", "mollify", "normal", no_more,
        statement="Aug.Mollify does not improve the test ELBO of normal training.",
    ),
    _mollified(
        "generalization_gap", "mollify", "normal", NEGATIVE,
        statement="Aug.Mollify has a smaller generalization gap than normal training.",
    ),
    _mollified(
        "generalization_gap", "mollify", "dmaapx", point_key,
        statement="Aug.Mollify and DMaaPx have similarly small generalization gaps.",
    ),
    _mollified(
        "elbo_test", "dmaapx+mollify", "dmaapx", no_more,
        statement="Aug.Mollify on top of DMaaPx does not improve the test ELBO.",
    ),
)  # fmt: skip
"""Appendix B.6."""

EARLY_STOPPING = (
    versus(
        "elbo_test", "dmaapx", "early_stopping", POSITIVE, "generalization_gaps", section="ours",
        statement="DMaaPx has a higher test ELBO than normal training that is stopped early.",
    ),
)  # fmt: skip
"""Our own control."""
