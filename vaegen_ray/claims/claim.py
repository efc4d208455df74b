"""A claim: a statement, the statistic that tells, and the range where its mean over seeds must lie.

Words such as "matches" or "does not help" need a margin to mean something: it is ``MARGIN``, a tenth, of the
generalization gap of normal training in the same setting, or of the quantity that the claim names. ``same``,
``no_more`` and ``no_less`` make ranges of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from vaegen_ray.analysis.statistics import NotEnoughRuns, Range, Statistic, by_seed, difference

MARGIN = 0.1
"""What counts as no difference: this part of the number that a margin is taken from."""


class Quantity(NamedTuple):
    """A column of the metrics, in words."""

    name: str
    unit: str


NATS = "nats an image"
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
GAPS = ("generalization_gap", "amortization_gap", "robustness_gap")


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
    """What else there is to say about them."""


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
    axes: tuple[str, ...] = ()
    """Fields out of ``report.EXPERIMENT`` in which the trials of one experiment differ."""
    statistic: str
    """What is measured, in words."""
    unit: str
    values: Callable[[Results], Sides]
    """Raises ``NotEnoughRuns`` where the results do not say."""
    claimed: Range | Callable[[pd.DataFrame], Range]
    """Where the mean over seeds must lie: a range, or how ``Results.last`` gives it."""

    def measure(self, results: Results) -> Statistic:
        """The statistic of this claim in the results of one experiment.

        Raises:
            NotEnoughRuns: the results do not say enough; the message says what is missing.
        """
        ours, theirs, note = self.values(results)
        claimed = self.claimed if isinstance(self.claimed, Range) else self.claimed(results.last)
        if theirs is not None:
            return difference(self.statistic, self.unit, ours, theirs, claimed, note)
        values = ours.sort_index().to_dict()
        return Statistic(name=self.statistic, unit=self.unit, values=values, claimed=claimed, note=note)


def compute_margin(rows: pd.DataFrame, column: str = "generalization_gap", **where: object) -> float:
    """``MARGIN`` of the mean of normal training, of the trials with ``where``: column = value.

    Raises:
        NotEnoughRuns: that mean is not above zero, so that there is no margin.
    """
    mean = float(by_seed(rows, column, **{"method": "normal", **where}).mean())
    if mean <= 0:
        raise NotEnoughRuns(f"the margin is a tenth of normal training's {column}, which is not above 0: {mean:.4g}")
    return MARGIN * mean


def point_key(rows: pd.DataFrame, column: str = "generalization_gap", **where: object) -> Range:
    """Within the margin on either side."""
    margin = compute_margin(rows, column, **where)
    return Range(-margin, margin, f"a tenth of normal training's {QUANTITIES[column].name}")


def no_more(rows: pd.DataFrame, **where: Any) -> Range:
    """Below the margin, however far."""
    return point_key(rows, **where)._replace(low=-math.inf)


def no_less(rows: pd.DataFrame, **where: Any) -> Range:
    """Above the margin with a minus sign, however far."""
    return point_key(rows, **where)._replace(high=math.inf)
