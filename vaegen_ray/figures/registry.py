"""The registry of figures. It loads no matplotlib: the module of a figure is imported when the figure is drawn."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vaegen_ray.errors import SpecError, not_one_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Pictures: TypeAlias = "dict[str, Figure | str]"
"""File stem -> picture, or table as Markdown: a figure may have several parts."""


class Tables(NamedTuple):
    """The results of one sweep, from which figures are drawn."""

    last: "pd.DataFrame"
    """One row per completed trial: its columns and its last metrics (``results.query.Results.last``)."""
    curves: "pd.DataFrame"
    """One row per completed trial and evaluation (``Results.curves``)."""
    details: "pd.DataFrame"
    """Series of numbers of these trials (``results.query.load_details``)."""
    pruned: "pd.DataFrame | None" = None
    """One row per trial that a search pruned, with its last metrics."""


@dataclass(frozen=True, kw_only=True)
class RegisteredFigure:
    """How a figure is drawn."""

    function: str | Callable[..., Pictures]
    """The function, or its place as ``module:function``; it takes the tables in ``reads``, in this order."""
    reads: tuple[str, ...] = ("last",)
    """Fields of ``Tables``."""

    def __post_init__(self) -> None:
        if isinstance(self.function, str) and not re.fullmatch(r"[\w.]+:\w+", self.function):
            raise SpecError(f"the function of a figure must be callable or 'module:function'; got {self.function!r}")
        if not self.reads:
            raise SpecError("a figure must read at least one table; got none")
        for read in self.reads:
            if read not in Tables._fields:
                raise SpecError(not_one_of("table of a figure", read, Tables._fields))

    def load(self) -> Callable[..., Pictures]:
        """The function; imports its module."""
        if not isinstance(self.function, str):
            return self.function
        module, name = self.function.split(":")
        function: Callable[..., Pictures] = getattr(import_module(module), name)
        return function


FIGURES: dict[str, RegisteredFigure] = {}
"""Name of a figure -> how it is drawn. ``register_figure`` fills it."""


def register_figure(name: str, function: str | Callable[..., Pictures], *, reads: tuple[str, ...] = ("last",)) -> None:
    """Make a figure known as ``name``, for ``Sweep.figures`` and ``draw``.

    Args:
        name: letters, digits and underscores.
        function: takes the tables in ``reads``, in this order, and returns file stem -> picture or Markdown. As
            ``module:function``, its module is imported when the figure is first drawn.
        reads: fields of ``Tables``.

    Raises:
        SpecError: the name is no identifier or belongs to another figure, or an argument is not as above.
    """
    if not re.fullmatch(r"\w+", name):
        raise SpecError(f"the name of a figure must consist of letters, digits and underscores; got {name!r}")
    figure = RegisteredFigure(function=function, reads=reads)
    if FIGURES.setdefault(name, figure) != figure:
        raise SpecError(f"the name of a figure must be new; got {name!r}, which is registered already")


def draw(name: str, tables: Tables) -> Pictures:
    """Draw the figure ``name``.

    Raises:
        SpecError: no figure has this name, or the rows are not what it needs.
        VaegenError: the rows hold nothing to draw yet.
    """
    if name not in FIGURES:
        raise SpecError(not_one_of("figure", name, sorted(FIGURES)))
    figure = FIGURES[name]
    return figure.load()(*(getattr(tables, read) for read in figure.reads))
