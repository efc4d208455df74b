"""The two views of a sweep that draw: its figures, and learning curves."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from dash import dcc, html

from vaegen_ray.dashboard.columns import label
from vaegen_ray.dashboard.pages import address, filter_box, path

GRAPH: Any = {
    "displaylogo": False,
    "plotlyServerURL": "",
    "modeBarButtons": [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
}
"""No button that would send a figure to anybody."""


def figure_view(
    axes: tuple[list[str], list[str], tuple[str, str, str]],
    measured: list[str],
    name: str,
    papers: list[Any],
    drawn: Any,
    caption: str,
) -> list[Any]:
    """The figures of the paper, and any columns over others with its menus."""
    x, colours, usual = axes
    live = html.Figure(
        [
            graph("figure", drawn),
            html.Figcaption(
                [
                    html.Span(caption, id="figure-caption"),
                    " ",
                    dcc.Link("The same numbers as a table.", href=path(name, "table")),
                    html.Span(id="picked", role="status"),
                ]
            ),
        ]
    )
    return [
        html.Div(papers, id="paper"),
        dcc.Store(id="paper-shown", data=""),
        html.H2("All VAEs, by any two columns"),
        html.Div(
            [
                choice("x", "Horizontal axis", x, usual[0]),
                choice("y", "Vertical axis", measured, usual[1]),
                choice("colour", "Colour", colours, usual[2]),
            ],
            className="choices",
        ),
        live,
    ]


def graph(name: str, drawn: Any) -> dcc.Graph:
    """A figure of plotly that is drawn anew when its box gets another size, whatever the reason."""
    return dcc.Graph(id=name, figure=drawn, config=GRAPH, className="graph", responsive=True)


def options(names: list[str]) -> list[dict[str, str]]:
    """What a menu of columns offers."""
    return [{"label": label(name), "value": name} for name in names]


def choice(name: str, words: str, names: list[str], value: str | None) -> html.Div:
    """A menu of columns under a label."""
    menu = dcc.Dropdown(
        id=name,
        options=options(names),
        value=value,
        clearable=False,
        searchable=False,
    )
    return html.Div([html.Label(words, htmlFor=name), menu], className="choice")


def paper(name: str, stamps: dict[str, str], files: dict[str, str], notes: Sequence[str]) -> list[Any]:
    """The figures of the paper.

    Args:
        name: of the sweep.
        stamps: those that the page has drawn: file stem -> a word that changes with the picture.
        files: those that are files of the sweep alone: name -> such a word.
        notes: why there are no others.
    """
    shown = [_picture(name, f"/drawn/{quote(name)}/{quote(stem)}.png?{stamp}", stem) for stem, stamp in stamps.items()]
    for file, stamp in files.items():
        shown.append(_picture(name, f"/figures/{quote(name)}/{quote(file)}?{stamp}", file.removesuffix(".png")))
    return [
        *(html.P(note, className="note") for note in notes),
        *([html.Div(shown, className="pictures")] if shown else []),
    ]


def _picture(name: str, source: str, stem: str) -> html.A:
    alt = f"figure {stem.replace('_', ' ')} of {name}, drawn from the results"
    return html.A(html.Img(src=address(source), alt=alt), href=address(source), target="_blank")


def curves_view(quantities: list[str], drawn: Any, caption: str, found: str) -> list[Any]:
    """Learning curves."""
    return [
        filter_box("curves", "Trials whose curves are drawn", found),
        html.Div(
            [
                choice("quantity", "Vertical axis", quantities, quantities[0]),
                html.Button("Forget the chosen", id="forget"),
            ],
            className="choices",
        ),
        html.Figure([graph("curves", drawn), html.Figcaption(caption, id="curves-caption")]),
    ]
