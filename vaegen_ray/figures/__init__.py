"""Figures: rows in, picture out. No training, no ray, no storage.

``FIGURES`` names every figure; ``draw`` loads the one that is asked for, and matplotlib with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from vaegen_ray.errors import SpecError, allowed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FIGURES: dict[str, str] = {
    "double_descent": "vaegen_ray.figures.double_descent:draw",
    "synthetic_budget": "vaegen_ray.figures.synthetic_budget:draw",
}
"""Name of a figure -> ``module:function`` that draws it."""


def draw(name: str, rows: "pd.DataFrame") -> "dict[str, Figure]":
    """Draw the figure ``name`` from ``rows``; returns file stem -> picture, for a figure may have several parts.

    Raises:
        SpecError: no figure has this name, or the rows are not what it needs.
        VaegenError: the rows hold nothing to draw yet.
    """
    if name not in FIGURES:
        raise SpecError(allowed("figure", name, sorted(FIGURES)))
    module, function = FIGURES[name].split(":")
    pictures: dict[str, Figure] = getattr(import_module(module), function)(rows)
    return pictures
