"""Figures and tables: rows in, picture or text out. No training, no ray, no storage.

``FIGURES`` names every figure; ``draw`` loads the one that is asked for, and matplotlib with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from vaegen_ray.errors import SpecError, not_one_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Tables(NamedTuple):
    """What figures are drawn from: the results of one sweep."""

    last: "pd.DataFrame"
    """A row a completed trial: its columns and its last metrics (``results.query.Results.last``)."""
    curves: "pd.DataFrame"
    """A row a completed trial and evaluation (``Results.curves``)."""
    details: "pd.DataFrame"
    """Series of numbers of these trials (``results.query.load_details``)."""
    pruned: "pd.DataFrame | None" = None
    """A row a trial that a search pruned, and its last metrics."""


class Drawing(NamedTuple):
    """How a figure is drawn."""

    function: str
    """``module:function``; takes the tables that it reads, in this order."""
    reads: tuple[str, ...] = ("last",)
    """Out of the fields of ``Tables``."""


FIGURES: dict[str, Drawing] = {
    "double_descent": Drawing("vaegen_ray.figures.double_descent:draw"),
    "complexity_axes": Drawing("vaegen_ray.figures.complexity:draw"),
    "synthetic_budget": Drawing("vaegen_ray.figures.synthetic_budget:draw"),
    "generalization_gaps": Drawing("vaegen_ray.figures.gaps:draw", ("last", "curves")),
    "gaps_by_mz": Drawing("vaegen_ray.figures.gaps:draw_by_mz", ("last", "curves")),
    "training_curves": Drawing("vaegen_ray.figures.training_curves:draw", ("last", "curves")),
    "real_synthetic_mix": Drawing("vaegen_ray.figures.mixture:draw_mix"),
    "diffusion_subsets": Drawing("vaegen_ray.figures.mixture:draw_subsets"),
    "more_real_data": Drawing("vaegen_ray.figures.mixture:draw_more_real"),
    "representation": Drawing("vaegen_ray.figures.downstream:draw", ("last", "details")),
    "latent_smoothness": Drawing("vaegen_ray.figures.lines:draw", ("last", "details")),
    "rate_distortion": Drawing("vaegen_ray.figures.rate_distortion:draw", ("last", "details")),
    "information": Drawing("vaegen_ray.figures.information:draw"),
    "inference_gap": Drawing("vaegen_ray.figures.inference_gap:draw", ("last", "curves")),
    "search": Drawing("vaegen_ray.figures.search:draw", ("last", "pruned")),
}
"""Name of a figure -> how it is drawn."""


def draw(name: str, tables: Tables) -> "dict[str, Figure | str]":
    """Draw the figure ``name``; returns file stem -> picture, or a table as Markdown: a figure may have several parts.

    Raises:
        SpecError: no figure has this name, or the rows are not what it needs.
        VaegenError: the rows hold nothing to draw yet.
    """
    if name not in FIGURES:
        raise SpecError(not_one_of("figure", name, sorted(FIGURES)))
    module, function = FIGURES[name].function.split(":")
    made: dict[str, Figure | str] = getattr(import_module(module), function)(
        *(getattr(tables, read) for read in FIGURES[name].reads)
    )
    return made
