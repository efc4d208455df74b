"""What figures over beta share: the curves, their panels, and axes that show all of a range.

A curve joins the VAEs of one data set, split, size and network that differ in beta alone.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from vaegen_ray.figures import style
from vaegen_ray.figures.rows import footnote, require_alike, require_one, usable
from vaegen_ray.spec.trial import ADDED

PLACE, NETWORK = ("dataset", "split", "n_train"), ("architecture", "hidden_layers")
CURVE = (*PLACE, *NETWORK, "method", "regulariser")
"""What the trials of a curve share, and curves differ in."""
ONE_CURVE = ("likelihood", "nc", "mz", "epochs", "image_shape")
"""What the trials of a curve must share beside."""

SPLITS = {"random": "CV", "constant_density": "CD", "checkerboard": "Checkerboard"}
SPLIT_NOTES = {
    "random": "CV (constant volume): a random part of all images",
    "constant_density": "CD (constant density): random images of a smaller range of factors",
}
NETWORKS = {"fully_connected": "MLP", "convolutional": "CNN", "residual": "Residual"}
REGULARISERS = {"rate": "the rate", "mutual_information": "$I_q$[x; z] alone", "marginal_kl": "KL(q(z) ‖ p(z)) alone"}
ORDER = {"split": list(SPLITS), "architecture": list(NETWORKS), "regulariser": list(REGULARISERS)}

SOLID, DASHED = "-", (0, (3, 1.5))

DECADE, COLLAPSED = 10.0, 1000.0
"""An axis whose values span more than the former is logarithmic; beyond the latter the smallest are as good as 0, such
as the rate of a VAE that ignores z, and would take the room of all others."""
ROOM = 0.07
"""Free room at both ends of an axis, as a part of it."""
STEPS = (1, 2, 5)
TINY = 1e-300
"""Where the bars of a logarithmic axis end that would go beyond 0."""
COLUMNS = 2
"""Panels side by side, where nothing else decides."""


class Scale(NamedTuple):
    """The range of an axis; values of a logarithmic one have one sign, and where it is minus, their size counts."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: NDArray[np.float64], log: bool = True) -> "Scale":
        """A range with room for the finite ``values``; logarithmic where it may be and they span decades."""
        known = values[np.isfinite(values)]
        low, high = float(known.min()), float(known.max())
        near, far = sorted((abs(low), abs(high)))
        if log and low * high > 0 and DECADE * near < far < COLLAPSED * near:
            room = (far / near) ** ROOM
            near, far = near / room, far * room
            return cls(near, far, True) if low > 0 else cls(-far, -near, True)
        room = ROOM * (high - low) or ROOM * max(far, 1e-3)
        return cls(low - room, high + room, False)

    def ticks(self, steps: Sequence[float] = STEPS) -> list[float]:
        """Round numbers in the range; on a logarithmic axis ``steps`` times powers of ten."""
        if not self.log:
            return [
                float(at)
                for at in MaxNLocator(6, steps=[*STEPS, 10]).tick_values(self.low, self.high)
                if self.low <= at <= self.high
            ]
        near, far = sorted((abs(self.low), abs(self.high)))
        powers = range(math.floor(math.log10(near)), math.ceil(math.log10(far)))
        rising = [step * 10.0**power for power in powers for step in steps if near <= step * 10.0**power <= far]
        return rising if self.low > 0 else [-at for at in reversed(rising)]

    def grid(self, count: int) -> NDArray[np.float64]:
        """``count`` numbers from end to end, evenly as one sees them."""
        made: NDArray[np.float64] = (np.geomspace if self.log else np.linspace)(self.low, self.high, count)
        return made

    def dress(self, axes: Axes, which: str) -> None:
        """Give the ``x`` or the ``y`` axis this range."""
        sign = math.copysign(1, self.low)

        def shown(at: Any) -> Any:
            return sign * np.log(np.maximum(sign * np.asarray(at), TINY))

        def value(seen: Any) -> Any:
            return sign * np.exp(sign * np.asarray(seen))

        if self.log:
            (axes.set_xscale if which == "x" else axes.set_yscale)("function", functions=(shown, value))
        axes.set(**{f"{which}lim": (self.low, self.high)})
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_locator(FixedLocator(self.ticks()))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:,g}".replace("-", "−")))


def comparable(last: pd.DataFrame, values: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """The usable rows, with the nulls of old files filled in, and a footnote that counts the others.

    Raises:
        VaegenError: no completed trial with finite ``values``.
        SpecError: a column is missing, or the trials of a curve differ in more than beta and seed.
    """
    kept, left_out = usable(last, values, ("trial_id", "seed", "beta", *CURVE, *ONE_CURVE))
    rows = filled(kept)
    for _, curve in rows.groupby(list(CURVE)):
        require_one(curve, ONE_CURVE)
    return rows, footnote(require_alike(rows, CURVE, ("beta",)), left_out)


def filled(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with neutral values for the nulls that fields have in files from before them."""
    known = {name: rows[name].fillna(ADDED[name]) for name in ("split", "hidden_layers", "regulariser")}
    return rows.assign(**known).astype({"hidden_layers": int})


def statistics(rows: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """A row a curve and beta, by rising beta: the means of ``values`` over the seeds, their standard deviations as
    ``<value>_std`` (NaN for one seed), the ``epochs``, and how many ``seeds``."""
    groups = rows.groupby([*CURVE, "beta"])
    numbers = groups[list(values)]
    points = numbers.mean().join(numbers.std().add_suffix("_std"))
    return points.assign(epochs=groups["epochs"].first(), seeds=groups.size()).reset_index()


def in_order(frame: pd.DataFrame, by: Sequence[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    """The rows of ``frame`` for each value of the columns ``by``; splits, networks and regularisers as in ``ORDER``,
    those that it does not know at the end, by name."""

    def rank(name: str, part: Any) -> Any:
        known = ORDER.get(name)
        return part if known is None else (known.index(part), "") if part in known else (len(known), part)

    def place(key: tuple[Any, ...]) -> list[Any]:
        return [rank(name, part) for name, part in zip(by, key, strict=True)]

    groups: dict[tuple[Any, ...], pd.DataFrame] = dict(iter(frame.groupby(list(by))))
    return {key: groups[key] for key in sorted(groups, key=place)}


def place_name(split: str, n_train: int) -> str:
    """``CV, 1,024 images``."""
    return f"{SPLITS[split]}, {n_train:,} images"


def network_name(architecture: str, layers: int) -> str:
    """``MLP, 3 layers``; a network of your own by its name."""
    return f"{NETWORKS.get(architecture, architecture)}, {layers} layer{'' if layers == 1 else 's'}"


def panel_name(frame: pd.DataFrame, shared: Sequence[str], gap: str = " · ") -> str:
    """Data set, place and network of a panel, as far as they are among the columns ``shared``."""
    first = frame.iloc[0]
    names = [str(first["dataset"])] if "dataset" in shared else []
    if "split" in shared:
        split, n_train = first["split"], first["n_train"]
        names.append(place_name(split, n_train) if "n_train" in shared else SPLITS[split])
    if "hidden_layers" in shared:
        names.append(network_name(first["architecture"], first["hidden_layers"]))
    return gap.join(names)


def split_note(points: pd.DataFrame) -> str:
    """What the abbreviations of the splits mean."""
    return "; ".join(note for split, note in SPLIT_NOTES.items() if split in set(points["split"]))


def build_panels(
    points: pd.DataFrame, down: Sequence[str], across: Sequence[str], names: tuple[str, str], height: float
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A figure of panels with their points: a row a value of the columns ``down``, a column a value of ``across``.

    Args:
        points: ``statistics``.
        down, across: without ``across``, the panels fill rows of ``COLUMNS``.
        names: of both axes.
        height: of a row, in inches.
    """
    rows = list(in_order(points, down).values())
    columns = list(in_order(points, across)) if across else []
    found = [in_order(row, across).get(column) for row in rows for column in columns] if across else rows
    count = len(columns) or min(COLUMNS, len(rows))
    figure, axes = style.new_figure(
        height=1.1 + height * -(-len(found) // count), panels=count, rows=-(-len(found) // count)
    )
    several = points["dataset"].nunique() > 1
    shared = [name for name in (*down, *across) if name != "dataset" or several]
    panels = []
    for i, panel in enumerate(axes):
        own = found[i] if i < len(found) else None
        if own is None:
            figure.delaxes(panel)
            continue
        panels.append((panel, own))
        lowest = i + count >= len(found) or found[i + count] is None
        style.name_axes(panel, names[0] if lowest else "", names[1] if i % count == 0 else "")
        panel.set_title(panel_name(own, shared, " · " if count < 3 else "\n"), **style.words(style.TICK_SIZE))
    return figure, panels


def draw_means(axes: Axes, points: pd.DataFrame, value: str, colour: str, dashes: Any, gid: str) -> None:
    """A line of means, with a bar of one standard deviation at each; beta is logarithmic, beside 0."""
    known = points[np.isfinite(points[value])]
    axes.plot(known["beta"], known[value], "o", color=colour, linestyle=dashes, linewidth=1.6, markersize=3, gid=gid)
    axes.errorbar(known["beta"], known[value], yerr=known[f"{value}_std"], fmt="none", ecolor=colour, elinewidth=0.9)
    positive = known["beta"][known["beta"] > 0]
    if len(positive) == len(known):
        axes.set_xscale("log")
    elif len(positive):
        axes.set_xscale("symlog", linthresh=positive.min())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))


def finish(figure: Figure, points: pd.DataFrame, title: str, handles: Sequence[Line2D], note: str) -> None:
    """Heading, legend and footnote of a figure of curves; fixes its layout."""
    counts, epochs = sorted(set(points["seeds"])), sorted(set(points["epochs"]))
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"
    spread = "1 seed" if counts == [1] else f"mean of {seeds}, bars ± standard deviation"
    span = f"{epochs[0]:,}" if len(epochs) == 1 else f"{epochs[0]:,} to {epochs[-1]:,}"
    style.head(figure, title, f"{', '.join(sorted(set(points['dataset'])))}; {span} epochs; {spread}")
    style.legend_below_head(figure, handles)
    style.foot(figure, note)
    style.settle(figure)


def with_bars(points: pd.DataFrame, values: Iterable[str]) -> NDArray[np.float64]:
    """All means of ``values``, and the ends of their bars as far as these have the sign of the mean."""
    means = points[list(values)].to_numpy(dtype=float)
    bars = np.nan_to_num(points[[f"{value}_std" for value in values]].to_numpy(dtype=float))
    ends = np.concatenate([means - bars, means + bars])
    everything: NDArray[np.float64] = np.concatenate(
        [means, ends[ends * np.concatenate([means, means]) > 0]], axis=None
    )
    return everything
