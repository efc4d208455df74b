"""Lines over the effective epochs: the mean over the seeds, shaded from the lowest to the highest.

The first epochs are so much worse than the others that they would flatten all that follows. A panel therefore shows
the range of what was measured from a fifth of the epochs on, and the figure says so where something lies outside.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vaegen_ray.errors import SpecError
from vaegen_ray.figures import style
from vaegen_ray.figures.rows import facts, footnote, require_alike, require_one_stream, usable
from vaegen_ray.spec.method import recipe

ELBOS = ("elbo_test", "elbo_train", "generalization_gap")
"""What every trial must have, in nats an image."""
ONE_EXPERIMENT = ("dataset", "architecture", "likelihood", "n_train", "epochs", "nc")
"""What all rows of a figure must share, beside mz or the method."""

EARLY = 1 / 5
"""This part of the epochs does not decide about the vertical range."""
NOISY = 1 / 2
"""With fading noise it is the part in which there is noise."""
ROOM = 0.07
"""Free room above and below, as a part of the range."""
FEW = 12
"""Up to so many evaluations each is marked."""


def comparable(
    last: pd.DataFrame, curves: pd.DataFrame, by: str, values: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """What a figure with a line for each value of ``by`` may use of both tables, and a footnote that counts the rest.

    Args:
        last: a row a trial at its last evaluation.
        curves: a row a trial and evaluation.
        by: ``method`` or ``mz``; the other must be the same for all.
        values: columns that are read beside the ``ELBOS``; they may be NaN.

    Raises:
        VaegenError: no completed trial with a finite ELBO.
        SpecError: a column is missing, or the rows mix experiments.
    """
    kept, left_out = usable(last, ELBOS, ("trial_id", "method", "mz", *ONE_EXPERIMENT, *values))
    needed = ("trial_id", "method", "mz", "epochs", "effective_epoch", *ELBOS, *values)
    if not set(needed) <= set(curves.columns):
        raise SpecError(f"curves of this figure must have the columns {', '.join(needed)}; got {', '.join(curves)}")
    note = require_alike(kept, (by,), (), (*ONE_EXPERIMENT, "method" if by == "mz" else "mz"))
    require_one_stream(kept)
    return kept, curves[curves["trial_id"].isin(kept["trial_id"])], footnote(note, left_out)


def setting(rows: pd.DataFrame, by: str) -> str:
    """Size of the network, data and seeds of ``rows``: the line below a title."""
    first = rows.iloc[0]
    size = f"$n_c$ = {first['nc']}" + (f", $m_z$ = {first['mz']}" if by == "method" else "")
    return f"{size}; {facts(rows, rows.groupby(by).size()).replace('bars', 'shades and bars')}"


def mean_line(curves: pd.DataFrame, value: str) -> pd.DataFrame:
    """Statistics of ``value`` over the seeds at each epoch where it was measured (``style.mean_and_spread``)."""
    measured = curves[np.isfinite(curves[value].to_numpy(dtype=float, na_value=np.nan))]
    return style.mean_and_spread(measured, "effective_epoch", value)


def draw_line(axes: Axes, points: pd.DataFrame, colour: str, dashes: Any, gid: str) -> None:
    """Draw rows of ``mean_line``; a single one as a point with a bar."""
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(points) <= FEW else {}
    x = points["effective_epoch"]
    axes.plot(x, points["mean"], color=colour, linestyle=dashes, linewidth=1.6, **marker, gid=gid)
    if len(points) == 1:
        axes.vlines(x, points["min"], points["max"], color=colour, linewidth=1, gid="spread")
    else:
        axes.fill_between(x, points["min"], points["max"], color=colour, alpha=0.13, linewidth=0, gid="spread")


def show_late(axes: Axes, curves: pd.DataFrame, values: Iterable[str]) -> bool:
    """Limit the vertical axis to the range of the ``values`` late in training; returns whether some lie outside."""
    late = curves["effective_epoch"] >= curves["epochs"] * curves["method"].map(_early)
    names = list(values)
    everything = curves[names].to_numpy(dtype=float, na_value=np.nan)
    shown = everything[late] if np.isfinite(everything[late]).any() else everything
    low, high = np.nanmin(shown), np.nanmax(shown)
    room = ROOM * (high - low) or ROOM * max(abs(high), 1e-3)
    axes.set_ylim(low - room, high + room)
    return bool(np.nanmin(everything) < low - room or np.nanmax(everything) > high + room)


def outside(curves: pd.DataFrame) -> str:
    """The footnote of a figure in which something lies outside of the range of a panel."""
    epochs = curves["epochs"].iloc[0]
    noisy = f" (with fading noise from {NOISY * epochs:g} on)" if curves["method"].map(_early).max() > EARLY else ""
    return (
        f"Vertical ranges: what was measured from epoch {EARLY * epochs:g} on{noisy}; earlier values lie partly outside"
    )


def _early(method: str) -> float:
    return NOISY if recipe(method).mollify else EARLY
