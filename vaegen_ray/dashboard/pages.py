"""What the page is made of: summaries in, elements of the page out. Text is text everywhere, never markup."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pandas as pd
from dash import dcc, html
from flask import has_request_context, request

from vaegen_ray.dashboard.columns import column_words, is_number, label
from vaegen_ray.errors import VaegenError
from vaegen_ray.results.status import SweepState, SweepStatus
from vaegen_ray.text import clock

MARKS = {SweepState.RUNNING: "▶", SweepState.PREPARING: "…", SweepState.FINISHED: "✓", SweepState.STOPPED: "■"}
"""A state is told by its word and its mark, never by colour alone."""
VIEWS = {"": "Figure", "curves": "Curves", "table": "Table", "failed": "Failed"}
"""The views of a sweep: the last part of the address and the words of the link."""
ROWS_A_PAGE = 30
MINUTE = "%Y-%m-%d %H:%M"


def aria(**words: str) -> dict[str, Any]:
    """Attributes for those who do not see the page."""
    return {f"aria-{name}": value for name, value in words.items()}


def path(sweep: str, view: str = "") -> str:
    """The address of a view of a sweep."""
    return address(f"/sweep/{quote(sweep)}" + (f"/{view}" if view else ""))


def address(path: str) -> str:
    """A path of this page as the browser asks for it: behind the prefix of a proxy, where there is one."""
    return f"{request.script_root if has_request_context() else ''}{path}"


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
                    dcc.Link("vaegen_ray", href=address("/"), className="brand"),
                    html.Nav(
                        [
                            dcc.Link("All sweeps", href=address("/")),
                            dcc.Link("Sampler pools", href=address("/samples")),
                        ],
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
    if status.pruned:
        facts.append(f"{status.pruned:,} pruned")
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
    ended = status.done + status.failed + status.pruned
    total = max(status.declared or ended, 1)
    said = f"{status.done:,} of {status.declared:,} VAEs done" if status.declared else f"{status.done:,} VAEs done"
    value = aria(valuenow=str(ended), valuemin="0", valuemax=str(total), label=said)
    busy = min(status.vaes_running, status.left or 0)
    parts = [(status.done, "done"), (status.pruned, "early"), (status.failed, "lost"), (busy, "busy")]
    strips = [html.Div(className=name, style={"width": f"{100 * n / total:.3f}%"}) for n, name in parts if n]
    track = html.Div(strips, className="bar", role="progressbar", **value)
    return html.Div([track, html.Span(said, className="said")], className="progress")


def sweep(
    name: str, view: str, version: str, head: list[Any], settings: list[Any], content: Sequence[Any]
) -> list[Any]:
    """A page about one sweep."""
    links = []
    for each, words in VIEWS.items():
        links.append(dcc.Link(words, href=path(name, each), className="current" if each == view else ""))
    return [
        html.H1([name, html.Span(f": {VIEWS[view].lower()}", className="hidden")]),
        html.Div(head, id="state"),
        html.Details(settings, id="settings"),
        html.Nav(links, className="views", **aria(label=f"views of {name}")),
        dcc.Store(id="version", data=version),
        *content,
    ]


def settings(trials: list[tuple[str, str]], facts: dict[str, str], moments: dict[str, float]) -> list[Any]:
    """What a sweep trains on what and when: the most important in a line, all of it where that is opened.

    Args:
        trials: fields of the specifications and their values, in words.
        facts: what else is known.
        moments: seconds since 1970.
    """
    known = dict(trials)
    counted = {"training images": known.get(label("n_train"), "values"), "epochs": known.get("epochs", "values")}
    numbers = [f"{value} {what}" for what, value in counted.items() if "values" not in value]
    preset = f"preset {facts['preset']}" if "preset" in facts else ""
    dates = {what: date(at) for what, at in moments.items()}
    first = [known.get("dataset", ""), *numbers, preset, *(f"{what} {words}" for what, words in dates.items())]
    rows = [html.Div([html.Dt(what), html.Dd(words)]) for what, words in (*trials, *dates.items(), *facts.items())]
    return [html.Summary(" · ".join(["Settings", *filter(None, first)])), html.Dl(rows, className="settings")]


def state(status: SweepStatus) -> list[Any]:
    """The head of a sweep: what is done, what runs, when it ends."""
    bundles = status.bundles_running and not status.vaes_running  # as drivers of earlier versions say it
    running = (status.bundles_running, "bundles training") if bundles else (status.vaes_running, "VAEs training")
    end, when = "–", "expected end"
    if status.seconds_left is not None:
        end, when = moment(time.time() + status.seconds_left), f"expected end, in {clock(status.seconds_left)}"
    if status.state == SweepState.FINISHED and status.heartbeat is not None:
        end, when = moment(status.heartbeat), "ended"
    rate = status.vaes_per_minute
    tiles = [
        (f"{status.done:,}" + (f" / {status.declared:,}" if status.declared else ""), "VAEs done"),
        (f"{running[0]:,}", running[1]),
        (f"{status.failed:,}", "failed"),
        ("–" if rate is None else f"{60 * rate:,.0f}", "VAEs an hour"),
        (end, when),
    ]
    told = [f"{status.pruned:,} VAEs pruned by the search"] if status.pruned else []
    if status.heartbeat is not None:
        told.append(f"last heartbeat {moment(status.heartbeat)}")
    note: list[Any] = []
    if status.state == SweepState.STOPPED and status.left:
        left = f"{status.left:,} VAEs are" if status.left != 1 else "1 VAE is"
        note = [html.P(f"Nobody works on it; {left} left. The same command goes on from here.", className="note")]
    if status.state == SweepState.PREPARING:
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


def filter_box(view: str, words: str, found: str) -> html.Div:
    """A line to type conditions into."""
    hint = "such as  nc>=64 method=dmaapx seed=0  or words; status=completed, failed, pruned or under_way"
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
    then = _local(at)
    return "–" if then is None else then.strftime("%H:%M:%S" if then.date() == datetime.now().date() else MINUTE)


def date(at: float) -> str:
    """A time with its day."""
    then = _local(at)
    return "–" if then is None else then.strftime(MINUTE)


def _local(at: float | None) -> datetime | None:
    try:
        return None if at is None else datetime.fromtimestamp(at).astimezone()
    except (ValueError, OSError, OverflowError):  # a number in a file that is no time
        return None
