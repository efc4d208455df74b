"""How much of overfitting is the encoder's: other encoders with the same decoder (zhang2021, Figures 1 and 2).

Test images cost BPD = -ELBO / (D ln 2) bits a dimension, D numbers an image; lower is better. Amortized inference is
the VAE as it was trained. Optimal inference trains the encoder on the test set itself (Eq. 12), self-consistent
training on a part alpha of the VAE's samples and a part 1 - alpha of training images (Eq. 16); the decoder stays as it
is.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.figures import style
from vaegen_ray.figures.by_method import find_column
from vaegen_ray.figures.over_beta import filled
from vaegen_ray.figures.over_epochs import draw_line, mean_line, outside, show_late
from vaegen_ray.figures.rows import footnote, require_alike, usable

KIND = ("dataset", "likelihood", "levels")
"""What makes images of another kind, such as binary and grey ones: a panel each."""
ONE_KIND = (
    *("method", "split", "n_train", "architecture", "hidden_layers", "nc", "mz"),
    *("beta", "regulariser", "epochs", "image_shape"),
)
"""What all trials of a kind must share."""


class Inference(NamedTuple):
    """How codes are found, and how it is drawn."""

    name: str
    colour: str
    dashes: Any = "-"


AMORTIZED, OPTIMAL = "elbo_test", "elbo_optimal_inference"
INFERENCES = {
    AMORTIZED: Inference("amortized inference", style.OKABE_ITO["purple"]),
    OPTIMAL: Inference("optimal inference", style.OKABE_ITO["green"]),
    "elbo_self_consistent_0": Inference("self-consistent, α = 0", style.OKABE_ITO["orange"], (0, (1, 1.5))),
    "elbo_self_consistent_50": Inference("self-consistent, α = 0.5", style.OKABE_ITO["blue"], (0, (4, 2))),
    "elbo_self_consistent_100": Inference("self-consistent, α = 1", style.OKABE_ITO["sky_blue"], (0, (5, 1.5, 1, 1.5))),
}
"""By column, in the order of the papers."""
TRAIN = Inference("training set", style.OKABE_ITO["vermillion"], (0, (3, 1.5)))
BPD = {name: f"bpd_{name}" for name in ("elbo_train", *INFERENCES)}
"""Columns of nats -> columns of bits a dimension."""

GAP = "inference\ngeneralization\ngap"
PANEL_HEIGHT = 2.7


def draw(last: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Figure | str]:
    """Figure 1 as ``overfitting`` and Figure 2 as ``inference_gap``, a row or panel a kind of images, and what they end
    with as ``inference_gap_table``.

    Args:
        last: a row a trial at its last evaluation, with ``trial_id, seed, status, elbo_train``, ``KIND``, ``ONE_KIND``
            and, where they were measured, ``INFERENCES``; nats an image.
        curves: a row a trial and evaluation, with the same columns and ``effective_epoch``.

    Raises:
        VaegenError: no completed trial with a finite ELBO, or nobody measured another inference than the VAE's own.
        SpecError: a column is missing, or the trials of a kind are not of one experiment.
    """
    kept, left_out = usable(last, ("elbo_test", "elbo_train"), ("trial_id", "seed", *KIND, *ONE_KIND))
    needed = ("trial_id", "effective_epoch", "epochs", "method", "image_shape", "elbo_test", "elbo_train")
    if not set(needed) <= set(curves.columns):
        raise SpecError(f"curves of this figure must have the columns {', '.join(needed)}; got {', '.join(curves)}")
    kinds = {}
    for kind, rows in kept.groupby(list(KIND)):
        known = filled(rows)
        require_alike(known, KIND, (), ONE_KIND)
        mine = curves[curves["trial_id"].isin(rows["trial_id"])]
        if any(np.isfinite(find_column(mine, name)).any() for name in INFERENCES if name != AMORTIZED):
            kinds[kind] = (_in_bits(known), _in_bits(mine))
    if not kinds:
        raise VaegenError(
            f"this figure needs trials with another inference measured; got {len(kept)} trials without it"
        )
    return {
        "overfitting": _overfitting(list(kinds.values()), left_out),
        "inference_gap": _inference_gap(list(kinds.values()), left_out),
        "inference_gap_table": _table([rows for rows, _ in kinds.values()], left_out),
    }


def _in_bits(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with the columns of ``BPD``, NaN where an ELBO was not measured."""
    dimensions = np.array([math.prod(json.loads(shape)) for shape in rows["image_shape"]])
    return rows.assign(**{bpd: -find_column(rows, elbo) / (dimensions * math.log(2)) for elbo, bpd in BPD.items()})


def _overfitting(kinds: Sequence[tuple[pd.DataFrame, pd.DataFrame]], left_out: str) -> Figure:
    """Figure 1: (a) training and test set by amortized inference, (b) the test set by amortized and optimal inference,
    their distance at the end named."""
    figure, panels = style.new_figure(height=1.1 + PANEL_HEIGHT * len(kinds), panels=2, rows=len(kinds))
    cut = False
    for i, (rows, curves) in enumerate(kinds):
        left, right = panels[2 * i : 2 * i + 2]
        cut |= _draw(left, curves, {"elbo_train": TRAIN, AMORTIZED: INFERENCES[AMORTIZED]})
        cut |= _draw(right, curves, {name: INFERENCES[name] for name in (AMORTIZED, OPTIMAL)})
        _name_gap(right, curves)
        style.name_axes(left, "Effective epoch" if i == len(kinds) - 1 else "", "Bits a dimension")
        style.name_axes(right, "Effective epoch" if i == len(kinds) - 1 else "", "")
        for axes, what in ((left, "overfitting"), (right, "optimal inference")):
            axes.set_title(f"{kind_name(rows)}: {what}", **style.words(style.TICK_SIZE))
    amortized, optimal = (INFERENCES[name] for name in (AMORTIZED, OPTIMAL))
    handles = [
        style.handle(TRAIN.name, TRAIN.colour, linestyle=TRAIN.dashes),
        style.handle(f"test set, {amortized.name}", amortized.colour),
        style.handle(f"test set, {optimal.name}", optimal.colour),
    ]
    _close(figure, kinds, "Overfitting, and the part of it that is the encoder's", handles, cut, left_out)
    return figure


def _inference_gap(kinds: Sequence[tuple[pd.DataFrame, pd.DataFrame]], left_out: str) -> Figure:
    """Figure 2: a panel a kind of images, the test set by each inference."""
    columns = min(2, len(kinds))
    lines = -(-len(kinds) // columns)
    figure, panels = style.new_figure(height=1.2 + PANEL_HEIGHT * lines, panels=columns, rows=lines)
    cut, measured = False, set[str]()
    for i, (axes, (rows, curves)) in enumerate(zip(panels, kinds, strict=False)):
        found = {name: look for name, look in INFERENCES.items() if np.isfinite(curves[BPD[name]]).any()}
        cut |= _draw(axes, curves, found)
        measured |= set(found)
        last_row = i + columns >= len(kinds)
        style.name_axes(
            axes, "Effective epoch" if last_row else "", "" if i % columns else "Test set, bits a dimension"
        )
        axes.set_title(kind_name(rows), **style.words(style.TICK_SIZE))
    for axes in panels[len(kinds) :]:
        figure.delaxes(axes)
    handles = [
        style.handle(look.name, look.colour, linestyle=look.dashes)
        for name, look in INFERENCES.items()
        if name in measured
    ]
    _close(figure, kinds, "Test images by inference, with the same decoder", handles, cut, left_out)
    return figure


def _draw(axes: Axes, curves: pd.DataFrame, lines: dict[str, Inference]) -> bool:
    """A line a column that was measured; returns whether something early lies outside of the panel."""
    for name, look in lines.items():
        points = mean_line(curves, BPD[name])
        if not points.empty:
            draw_line(axes, points, look.colour, look.dashes, name)
    epochs = int(curves["epochs"].iloc[0])
    axes.set_xlim(-0.02 * epochs, 1.04 * epochs)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return show_late(axes, curves, [BPD[name] for name in lines])


def _name_gap(axes: Axes, curves: pd.DataFrame) -> None:
    """An arrow from optimal to amortized inference at the last epoch that has both, named."""
    amortized, optimal = (
        mean_line(curves, BPD[name]).set_index("effective_epoch")["mean"] for name in (AMORTIZED, OPTIMAL)
    )
    both = amortized.index.intersection(optimal.index)
    if both.empty:
        return
    at = both.max()
    ends = (optimal[at], amortized[at])
    axes.annotate(
        "",
        (at, ends[1]),
        (at, ends[0]),
        arrowprops={"arrowstyle": "<->", "color": style.INK, "shrinkA": 0, "shrinkB": 0},
    ).set_gid("gap")
    where: dict[str, Any] = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
    axes.annotate(GAP, (at, sum(ends) / 2), **where, **style.words(style.SMALL_SIZE))


def _close(figure: Figure, kinds: Sequence[Any], title: str, handles: Sequence[Any], cut: bool, left_out: str) -> None:
    """Heading, legend and footnote; fixes the layout."""
    seeds = {len(rows) for rows, _ in kinds}
    span = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    spread = "1 seed" if seeds == {1} else f"mean of {span} seeds, shades and bars from lowest to highest"
    style.head(figure, title, f"{_sizes(rows for rows, _ in kinds)}; {spread}")
    style.legend_below_head(figure, handles)
    late = outside(pd.concat([curves for _, curves in kinds])) if cut else ""
    style.foot(figure, footnote(late, left_out))
    style.settle(figure)


def _sizes(kinds: Iterable[pd.DataFrame]) -> str:
    """Data sets, training images and epochs of all ``kinds``."""
    facts = [
        f"{first['dataset']}, {first['n_train']:,} training images, {first['epochs']:,} epochs"
        for first in (rows.iloc[0] for rows in kinds)
    ]
    return "; ".join(dict.fromkeys(facts))


def kind_name(rows: pd.DataFrame) -> str:
    """``mnist, 256 grey levels, logistic``."""
    first = rows.iloc[0]
    levels = "binary" if first["levels"] == 2 else f"{first['levels']} grey levels"
    return f"{first['dataset']}, {levels}, {first['likelihood'].replace('_', ' ')}"


def _table(kinds: Sequence[pd.DataFrame], left_out: str) -> str:
    """A row a kind of images and inference: bits a dimension and nats, and the distance to optimal inference."""
    lines = []
    for rows in kinds:
        for name, look in {"elbo_train": TRAIN, **INFERENCES}.items():
            nats = pd.Series(find_column(rows, name))
            if np.isfinite(nats).any():
                gap = (
                    ""
                    if name in ("elbo_train", OPTIMAL)
                    else style.plus_minus(pd.Series(find_column(rows, OPTIMAL)) - nats)
                )
                bits = style.plus_minus(rows[BPD[name]], 4)
                lines.append(
                    [kind_name(rows), look.name, bits, style.plus_minus(nats), gap, str(np.isfinite(nats).sum())]
                )
    heading = ["Images", "Inference", "Bits a dimension", "ELBO", "Below optimal inference", "Seeds"]
    notes = [
        _sizes(kinds),
        "All lines but those of the training set: the test set",
        "ELBOs and their distances in nats an image; mean ± standard deviation over the seeds",
        left_out,
    ]
    return f"{style.markdown(heading, lines)}\n{'. '.join(filter(None, notes))}.\n"
