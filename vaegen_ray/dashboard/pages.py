"""What the page is made of: summaries in, elements of the page out. Text is text everywhere, never markup."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pandas as pd
from dash import dcc, html

from vaegen_ray.dashboard.columns import column_words, is_number, label
from vaegen_ray.dashboard.sweeps import FINISHED, PREPARING, RUNNING, STOPPED, Declared, Summary
from vaegen_ray.service.progress import clock

MARKS = {RUNNING: "▶", PREPARING: "…", FINISHED: "✓", STOPPED: "■"}
"""A state is told by its word and its mark, never by colour alone."""
VIEWS = {"": "Figure", "curves": "Curves", "table": "Table", "failed": "Failed"}
"""The views of a sweep: the last part of the address and the words of the link."""
GRAPH: Any = {
    "displaylogo": False,
    "responsive": True,
    "plotlyServerURL": "",
    "modeBarButtons": [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
}
"""No button that would send a figure to anybody."""
ROWS_A_PAGE = 30


def aria(**words: str) -> dict[str, Any]:
    """Attributes for those who do not see the page."""
    return {f"aria-{name}": value for name, value in words.items()}


def path(sweep: str, view: str = "") -> str:
    """The address of a view of a sweep."""
    return f"/sweep/{quote(sweep)}" + (f"/{view}" if view else "")


def frame(storage: str, refresh_seconds: float) -> html.Div:
    """What all pages share; the page itself comes into ``main``."""
    return html.Div(
        [
            html.A("Skip to the content", href="#main", className="skip"),
            dcc.Location(id="url"),
            dcc.Interval(id="tick", interval=round(1000 * refresh_seconds)),
            dcc.Store(id="chosen", storage_type="session", data=[]),
            html.Header(
                [
                    dcc.Link("vaegen_ray", href="/", className="brand"),
                    html.Nav(
                        [dcc.Link("All sweeps", href="/"), dcc.Link("Sampler pools", href="/samples")],
                        **aria(label="pages"),
                    ),
                    html.Span(storage, className="storage", title=f"the storage, {storage}"),
                ]
            ),
            html.P(id="problem", className="problem", role="alert"),
            html.Main(id="main", tabIndex=-1),
        ]
    )


def overview() -> list[Any]:
    """All sweeps."""
    return [html.H1("All sweeps"), html.Ul(id="sweeps", className="cards")]


def card(summary: Summary) -> html.Li:
    """One sweep among all."""
    title = html.H2(dcc.Link(summary.name, href=path(summary.name)))
    facts = [f"{summary.failed} failed"] if summary.failed else []
    if summary.state == RUNNING and summary.seconds_left is not None:
        facts.append(f"about {clock(summary.seconds_left)} left")
    if summary.heard:
        facts.append(f"last heartbeat {moment(summary.heard)}")
    return html.Li([html.Div([title, badge(summary)], className="line"), bar(summary), html.P(" · ".join(facts))])


def badge(summary: Summary) -> html.Span:
    """The state of a sweep, as a mark and a word."""
    return html.Span(
        [html.Span(MARKS[summary.state], **aria(hidden="true")), f" {summary.state}"],
        className=f"badge {summary.state}",
    )


def bar(summary: Summary) -> html.Div:
    """How much is done."""
    total = max(summary.declared or summary.done + summary.failed, 1)
    ended = summary.done + summary.failed
    said = f"{summary.done:,} of {summary.declared:,} VAEs done" if summary.declared else f"{summary.done:,} VAEs done"
    value = aria(valuenow=str(ended), valuemin="0", valuemax=str(total), label=said)
    parts = [(summary.done, "done"), (summary.failed, "lost"), (min(summary.running, summary.left), "busy")]
    strips = [html.Div(className=name, style={"width": f"{100 * n / total:.3f}%"}) for n, name in parts if n]
    track = html.Div(strips, className="bar", role="progressbar", **value)
    return html.Div([track, html.Span(said, className="said")], className="progress")


def sweep(name: str, view: str, version: str, head: list[Any], content: Sequence[Any]) -> list[Any]:
    """A page about one sweep."""
    links = []
    for each, words in VIEWS.items():
        links.append(dcc.Link(words, href=path(name, each), className="current" if each == view else ""))
    return [
        html.H1([name, html.Span(f": {VIEWS[view].lower()}", className="hidden")]),
        html.Div(head, id="state"),
        html.Nav(links, className="views", **aria(label=f"views of {name}")),
        dcc.Store(id="version", data=version),
        *content,
    ]


def state(summary: Summary, declared: Declared) -> list[Any]:
    """The head of a sweep: what is done, what runs, when it ends."""
    running = f"{summary.running:,}" if summary.running else f"{summary.bundles_running:,}"
    unit = "VAEs training" if summary.running or not summary.bundles_running else "bundles training"
    end, when = "–", "expected end"
    if summary.state == RUNNING and summary.seconds_left is not None:
        end, when = moment(time.time() + summary.seconds_left), f"expected end, in {clock(summary.seconds_left)}"
    if summary.state == FINISHED and summary.heard:
        end, when = moment(summary.heard), "ended"
    tiles = [
        (f"{summary.done:,}" + (f" / {summary.declared:,}" if summary.declared else ""), "VAEs done"),
        (running if summary.state == RUNNING else "0", unit),
        (f"{summary.failed:,}", "failed"),
        ("–" if summary.vaes_per_hour is None else f"{summary.vaes_per_hour:,.0f}", "VAEs an hour"),
        (end, when),
    ]
    told = []
    if summary.heard:
        told.append(f"last heartbeat {moment(summary.heard)}")
    told += [f"{key} {value}" for key, value in declared.facts.items()]
    note: list[Any] = []
    if summary.state == STOPPED and summary.declared:
        left = f"{summary.left:,} VAEs are" if summary.left != 1 else "1 VAE is"
        note = [html.P(f"Nobody works on it; {left} left. The same command goes on from here.", className="note")]
    if summary.state == PREPARING:
        note = [html.P(f"The driver prepares: {summary.doing}", className="note")]
    return [
        html.Div([badge(summary), html.Span(" · ".join(told), className="told")], className="line", role="status"),
        bar(summary),
        html.Dl([html.Div([html.Dt(what), html.Dd(value)]) for value, what in tiles], className="tiles"),
        *note,
    ]


def figure_view(axes: tuple[list[str], list[str], tuple[str, str, str]], measured: list[str], name: str) -> list[Any]:
    """The live figure, and those that the driver draws."""
    x, colours, usual = axes
    live = html.Figure(
        [
            dcc.Graph(id="figure", config=GRAPH, className="graph"),
            html.Figcaption(
                [
                    html.Span(id="figure-caption"),
                    " ",
                    dcc.Link("The same numbers as a table.", href=path(name, "table")),
                    html.Span(id="picked", role="status"),
                ]
            ),
        ]
    )
    return [
        html.Div(
            [
                choice("x", "Horizontal axis", x, usual[0]),
                choice("y", "Vertical axis", measured, usual[1]),
                choice("colour", "Colour", colours, usual[2]),
            ],
            className="choices",
        ),
        html.Div([live, html.Div(id="pictures")], className="both"),
    ]


def choice(name: str, words: str, options: list[str], value: str | None) -> html.Div:
    """A menu of columns under a label."""
    menu = dcc.Dropdown(
        id=name,
        options=[{"label": label(option), "value": option} for option in options],
        value=value,
        clearable=False,
        searchable=False,
    )
    return html.Div([html.Label(words, htmlFor=name), menu], className="choice")


def pictures(name: str, files: dict[str, str]) -> list[Any]:
    """The figures of the paper, as the driver has drawn them."""
    if not files:
        return []
    shown = []
    for file, stamp in files.items():
        stem = file.removesuffix(".png").replace("_", " ")
        source = f"/figures/{quote(name)}/{quote(file)}?{stamp}"
        alt = f"figure {stem} of {name}, drawn from the results"
        shown.append(html.A(html.Img(src=source, alt=alt), href=source, target="_blank"))
    return [html.H2("As in the paper, drawn when a run ends"), html.Div(shown, className="pictures")]


def filter_box(view: str, words: str) -> html.Div:
    """A line to type conditions into."""
    hint = "such as  nc>=64 method=dmaapx seed=0  or words; status=completed, failed or under_way"
    name = f"{view}-filter"
    box = dcc.Input(id=name, type="text", value="", debounce=0.4, autoComplete="off", placeholder="nc>=64 seed=0")
    return html.Div(
        [html.Label(words, htmlFor=name), box, html.Small(hint), html.P(id=f"{view}-found", role="status")],
        className="filter",
    )


def table_view() -> list[Any]:
    """The table of trials."""
    return [
        filter_box("table", "Filter"),
        dcc.Store(id="sort", data=["", False]),
        dcc.Store(id="page", data=0),
        html.Div(
            [
                html.Button("Download as CSV", id="download", className="primary"),
                html.Span(
                    [html.Button("‹ Before", id="before"), html.Span(id="pages"), html.Button("Next ›", id="next")],
                    className="pager",
                ),
            ],
            className="buttons",
        ),
        dcc.Download(id="file"),
        html.Div(id="table", className="scroll", tabIndex=0, role="region", **aria(label="table of trials")),
    ]


def table(rows: pd.DataFrame, columns: list[str], sort: tuple[str, bool], chosen: list[str]) -> html.Table:
    """Trials as a table with heads that sort, and a button a row that chooses its learning curves."""
    heads = [html.Th("curves", scope="col")]
    for name in columns:
        by_this = name == sort[0]
        order = ("descending" if sort[1] else "ascending") if by_this else "none"
        mark = html.Span(" ▼" if sort[1] else " ▲", **aria(hidden="true")) if by_this else ""
        head = html.Button([label(name), mark], id={"type": "sort", "column": name})
        side = "number" if is_number(rows[name]) else ""
        heads.append(html.Th(head, scope="col", className=side, **aria(sort=order)))
    numeric = {name for name in columns if is_number(rows[name])}
    lines = []
    texts = {name: column_words(rows[name]) for name in columns}
    for i, trial in enumerate(rows["trial_id"]):
        pressed = trial in chosen
        button = html.Button(
            "✓" if pressed else "+",
            id={"type": "choose", "trial": trial},
            **aria(label=f"learning curves of trial {trial[:8]}", pressed=str(pressed).lower()),
        )
        cells = [
            html.Td(
                trial[:8] if name == "trial_id" else texts[name][i],
                title=trial if name == "trial_id" else None,
                className="number" if name in numeric else "",
            )
            for name in columns
        ]
        lines.append(html.Tr([html.Td(button), *cells], key=trial))
    return html.Table([html.Thead(html.Tr(heads)), html.Tbody(lines)])


def curves_view(quantities: list[str]) -> list[Any]:
    """Learning curves."""
    return [
        filter_box("curves", "Trials whose curves are drawn"),
        html.Div(
            [
                choice("quantity", "Vertical axis", quantities, quantities[0]),
                html.Button("Forget the chosen", id="forget"),
            ],
            className="choices",
        ),
        html.Figure([dcc.Graph(id="curves", config=GRAPH, className="graph"), html.Figcaption(id="curves-caption")]),
    ]


def plain_table(heads: list[str], lines: list[list[str]], empty: str) -> Any:
    """A small table of words, or a line where there is nothing."""
    if not lines:
        return html.P(empty, className="note")
    body = [html.Tr([html.Td(cell) for cell in line]) for line in lines]
    table = html.Table([html.Thead(html.Tr([html.Th(head, scope="col") for head in heads])), html.Tbody(body)])
    return html.Div(table, className="scroll", tabIndex=0, role="region", **aria(label="table"))


def moment(at: float) -> str:
    """A time as the clock of the server's machine shows it, with the day where it is not today."""
    then, now = datetime.fromtimestamp(at).astimezone(), datetime.now().astimezone()
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d %H:%M")
