"""What the page is made of: summaries in, elements of the page out. Text is text everywhere, never markup."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pandas as pd
from dash import dcc, html

from vaegen_ray.dashboard.columns import column_words, is_number, label
from vaegen_ray.errors import VaegenError
from vaegen_ray.service.progress import clock
from vaegen_ray.service.status import FINISHED, PREPARING, RUNNING, STOPPED, SweepStatus

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
            html.P(id="gone", className="problem", role="alert", hidden=True),
            html.P(id="problem", className="problem", role="alert"),
            html.Main(id="main", tabIndex=-1),
        ]
    )


def overview() -> list[Any]:
    """All sweeps."""
    return [html.H1("All sweeps"), html.Ul(id="sweeps", className="cards")]


def card(name: str, status: SweepStatus | VaegenError | None) -> html.Li:
    """One sweep among all: its status, or why it cannot be read, or None while it is read for the first time."""
    title = html.H2(dcc.Link(name, href=path(name)))
    if not isinstance(status, SweepStatus):
        return html.Li([title, html.P("it is being read" if status is None else str(status), className="note")])
    facts = [f"{status.failed:,} failed"] if status.failed else []
    if status.stopped_early:
        facts.append(f"{status.stopped_early:,} stopped early")
    if status.seconds_left is not None:
        facts.append(f"about {clock(status.seconds_left)} left")
    if status.heartbeat is not None:
        facts.append(f"last heartbeat {moment(status.heartbeat)}")
    return html.Li([html.Div([title, badge(status)], className="line"), bar(status), html.P(" · ".join(facts))])


def badge(status: SweepStatus) -> html.Span:
    """The state of a sweep, as a mark and a word."""
    return html.Span(
        [html.Span(MARKS[status.state], **aria(hidden="true")), f" {status.state}"], className=f"badge {status.state}"
    )


def bar(status: SweepStatus) -> html.Div:
    """How much is done."""
    ended = status.done + status.failed + status.stopped_early
    total = max(status.declared or ended, 1)
    said = f"{status.done:,} of {status.declared:,} VAEs done" if status.declared else f"{status.done:,} VAEs done"
    value = aria(valuenow=str(ended), valuemin="0", valuemax=str(total), label=said)
    busy = min(status.vaes_running, status.left or 0)
    parts = [(status.done, "done"), (status.stopped_early, "early"), (status.failed, "lost"), (busy, "busy")]
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


def state(status: SweepStatus, facts: dict[str, str]) -> list[Any]:
    """The head of a sweep: what is done, what runs, when it ends.

    Args:
        facts: what else is worth showing.
    """
    bundles = status.bundles_running and not status.vaes_running  # as drivers of earlier versions say it
    running = (status.bundles_running, "bundles training") if bundles else (status.vaes_running, "VAEs training")
    end, when = "–", "expected end"
    if status.seconds_left is not None:
        end, when = moment(time.time() + status.seconds_left), f"expected end, in {clock(status.seconds_left)}"
    if status.state == FINISHED and status.heartbeat is not None:
        end, when = moment(status.heartbeat), "ended"
    rate = status.vaes_per_minute
    tiles = [
        (f"{status.done:,}" + (f" / {status.declared:,}" if status.declared else ""), "VAEs done"),
        (f"{running[0]:,}", running[1]),
        (f"{status.failed:,}", "failed"),
        ("–" if rate is None else f"{60 * rate:,.0f}", "VAEs an hour"),
        (end, when),
    ]
    told = [f"{status.stopped_early:,} VAEs stopped early by the search"] if status.stopped_early else []
    if status.heartbeat is not None:
        told.append(f"last heartbeat {moment(status.heartbeat)}")
    told += [f"{key} {value}" for key, value in facts.items()]
    note: list[Any] = []
    if status.state == STOPPED and status.left:
        left = f"{status.left:,} VAEs are" if status.left != 1 else "1 VAE is"
        note = [html.P(f"Nobody works on it; {left} left. The same command goes on from here.", className="note")]
    if status.state == PREPARING:
        note = [html.P(f"The driver prepares: {status.doing}", className="note")]
    said = html.Span(badge(status), role="status")
    return [
        html.Div([said, html.Span(" · ".join(told), className="told")], className="line"),
        bar(status),
        html.Dl([html.Div([html.Dt(what), html.Dd(value)]) for value, what in tiles], className="tiles"),
        *note,
    ]


def given_up_note(sweep: str, notes: list[dict[str, Any]]) -> html.P:
    """That bundles were given up, and the last reason."""
    many = "A bundle was" if len(notes) == 1 else f"{len(notes):,} bundles were"
    link = dcc.Link("all reasons", href=path(sweep, "failed"))
    return html.P([f"{many} given up, the last one because of: {notes[0]['reason']} (", link, ")"], className="note")


def figure_view(
    axes: tuple[list[str], list[str], tuple[str, str, str]],
    measured: list[str],
    name: str,
    drawn: Any,
    caption: str,
    files: list[Any],
) -> list[Any]:
    """The live figure with its menus, and the figures that the driver has drawn."""
    x, colours, usual = axes
    live = html.Figure(
        [
            dcc.Graph(id="figure", figure=drawn, config=GRAPH, className="graph"),
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
        html.Div(
            [
                choice("x", "Horizontal axis", x, usual[0]),
                choice("y", "Vertical axis", measured, usual[1]),
                choice("colour", "Colour", colours, usual[2]),
            ],
            className="choices",
        ),
        html.Div([live, html.Div(files, id="pictures")], className="both"),
    ]


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


def filter_box(view: str, words: str, found: str) -> html.Div:
    """A line to type conditions into."""
    hint = "such as  nc>=64 method=dmaapx seed=0  or words; status=completed, failed, stopped or under_way"
    name = f"{view}-filter"
    box = dcc.Input(id=name, type="text", value="", debounce=0.4, autoComplete="off", placeholder="nc>=64 seed=0")
    return html.Div(
        [html.Label(words, htmlFor=name), box, html.Small(hint), html.P(found, id=f"{view}-found", role="status")],
        className="filter",
    )


def table_view(shown: Any, found: str, page: str, is_first: bool, is_last: bool) -> list[Any]:
    """The table of trials."""
    before = html.Button("‹ Before", id="before", disabled=is_first)
    after = html.Button("Next ›", id="next", disabled=is_last)
    return [
        filter_box("table", "Filter", found),
        dcc.Store(id="sort", data=["", False]),
        dcc.Store(id="page", data=0),
        html.Div(
            [
                html.Button("Download as CSV", id="download", className="primary"),
                html.Span([before, html.Span(page, id="pages"), after], className="pager"),
            ],
            className="buttons",
        ),
        dcc.Download(id="file"),
        html.Div(shown, id="table", className="scroll", tabIndex=0, role="region", **aria(label="table of trials")),
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


def curves_view(quantities: list[str], drawn: Any, caption: str, found: str) -> list[Any]:
    """Learning curves."""
    graph = dcc.Graph(id="curves", figure=drawn, config=GRAPH, className="graph")
    return [
        filter_box("curves", "Trials whose curves are drawn", found),
        html.Div(
            [
                choice("quantity", "Vertical axis", quantities, quantities[0]),
                html.Button("Forget the chosen", id="forget"),
            ],
            className="choices",
        ),
        html.Figure([graph, html.Figcaption(caption, id="curves-caption")]),
    ]


def plain_table(heads: list[str], lines: list[list[str]], empty: str) -> Any:
    """A small table of words, or a line where there is nothing."""
    if not lines:
        return html.P(empty, className="note")
    body = [html.Tr([html.Td(cell) for cell in line]) for line in lines]
    table = html.Table([html.Thead(html.Tr([html.Th(head, scope="col") for head in heads])), html.Tbody(body)])
    return html.Div(table, className="scroll", tabIndex=0, role="region", **aria(label="table"))


def problem(error: VaegenError) -> html.P:
    """What the user can mend."""
    return html.P(str(error), className="problem", role="alert")


def moment(at: float | None) -> str:
    """A time as the clock of the server's machine shows it, with the day where it is not today."""
    if at is None:
        return "–"
    try:
        then, now = datetime.fromtimestamp(at).astimezone(), datetime.now().astimezone()
    except (ValueError, OSError, OverflowError):  # a number in a file that is no time
        return "–"
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d %H:%M")
