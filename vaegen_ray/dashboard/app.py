"""The web application: addresses and events on one side, what the views show on the other.

    tick -> what has changed? -> version -> the view that is open is drawn again

The page is read-only: no address and no event of it writes anything.
"""

import hashlib
import logging
import re
from typing import Any
from urllib.parse import unquote

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update, set_props
from flask import Response, abort, request

from vaegen_ray.dashboard import columns, graphs, pages, pools, views
from vaegen_ray.dashboard.seen import Seen
from vaegen_ray.dashboard.sweeps import Sweeps
from vaegen_ray.errors import SpecError, VaegenError

REFRESH_SECONDS = 2.0
ADDRESS = re.compile(r"/sweep/([^/]+)(?:/(curves|table|failed))?/?")
PICTURE = re.compile(r"[\w-]+\.png")
INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def make(sweeps: Sweeps, prefix: str = "") -> Dash:
    """The application over the sweeps of a storage.

    Args:
        prefix: what stands before all paths of the page in a browser, such as ``/vaegen``.
    """
    app = Dash(
        "vaegen_ray.dashboard",
        title="vaegen_ray",
        update_title="",
        index_string=INDEX,
        requests_pathname_prefix=f"{prefix}/",
        routes_pathname_prefix="/",
        suppress_callback_exceptions=True,
        prevent_initial_callbacks=False,
        enable_mcp=False,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        on_error=_say,
    )
    app.layout = lambda: pages.frame(sweeps.storage.where(), REFRESH_SECONDS)
    streams = pools.Pools(sweeps.storage)
    _pages(app, sweeps, streams)
    _figures(app, sweeps)
    _curves(app, sweeps)
    _tables(app, sweeps)
    _rows(app, sweeps)
    _files(app, sweeps)
    return app


def _say(error: Exception) -> None:
    """What the user can mend stands on the page; a fault of ours, too, and in full in the terminal."""
    said = str(error)
    if not isinstance(error, VaegenError):
        logging.getLogger(__name__).error("the dashboard met a fault of its own", exc_info=error)
        said = f"a fault of the page: {type(error).__name__}: {error}; more is in the terminal that it was started in"
    set_props("problem", {"children": said})


def parse_address(pathname: str | None) -> tuple[str, str]:
    """The sweep and the view of an address; two empty words for all others."""
    match = ADDRESS.fullmatch(_path(pathname))
    return (unquote(match[1]), match[2] or "") if match else ("", "")


def _path(pathname: str | None) -> str:
    """The path that a browser shows, without the prefix of a proxy."""
    return (pathname or "").removeprefix(request.script_root)


def _seen(sweeps: Sweeps, pathname: str) -> Seen:
    return sweeps[parse_address(pathname)[0]].seen()


def _pages(app: Dash, sweeps: Sweeps, streams: pools.Pools) -> None:
    @app.callback(
        Output("main", "children"),
        Output("problem", "children"),
        Input("url", "pathname"),
        State("chosen", "data"),
    )
    def page(pathname: str, chosen: list[str] | None) -> tuple[Any, str]:
        name, view = parse_address(pathname)
        if name:
            watched = sweeps[name]
            seen = watched.seen()
            content = views.content(watched, seen, view, chosen or [])
            return pages.sweep(name, view, seen.version, views.head(seen, streams), views.settings(seen), content), ""
        if _path(pathname) == "/samples":
            return [html.H1("Sampler pools"), html.Div(id="pools")], ""
        if _path(pathname) in ("/", ""):
            return pages.overview(), ""
        return [html.H1("Not here"), html.P(["There is no page ", html.Code(pathname), "."])], ""

    # What a tick cannot read stands in the place of what it would show, until it can.

    @app.callback(Output("sweeps", "children"), Input("tick", "n_intervals"))
    def overview(_: int) -> Any:
        try:
            statuses = sweeps.statuses()
        except VaegenError as error:
            return html.Li(pages.problem(error))
        if not statuses:
            return html.Li(html.P(f"No sweep in {sweeps.storage.where()} yet.", className="note"))
        return [pages.card(name, status) for name, status in statuses.items()]

    @app.callback(Output("pools", "children"), Input("tick", "n_intervals"))
    def all_pools(_: int) -> Any:
        empty = f"No samples of diffusion models in {sweeps.storage.where()}."
        try:
            return pages.plain_table(pools.HEADS, streams.lines(), empty)
        except VaegenError as error:
            return pages.problem(error)

    @app.callback(
        Output("settings", "children"), Input("version", "data"), State("url", "pathname"), prevent_initial_call=True
    )
    def settings(_: str, pathname: str) -> list[Any]:
        return views.settings(_seen(sweeps, pathname))

    @app.callback(
        Output("state", "children"),
        Output("version", "data"),
        Input("tick", "n_intervals"),
        State("url", "pathname"),
        State("version", "data"),
        prevent_initial_call=True,  # the page comes with its head
    )
    def heartbeat(_: int, pathname: str, known: str | None) -> tuple[Any, Any]:
        try:
            seen = _seen(sweeps, pathname)
            return views.head(seen, streams), (no_update if seen.version == known else seen.version)
        except VaegenError as error:
            return pages.problem(error), no_update


def _figures(app: Dash, sweeps: Sweeps) -> None:
    @app.callback(
        Output("figure", "figure"),
        Output("figure-caption", "children"),
        Output("y", "options"),
        Input("version", "data"),
        Input("x", "value"),
        Input("y", "value"),
        Input("colour", "value"),
        State("url", "pathname"),
        prevent_initial_call=True,
    )
    def figure(_: str, x: str, y: str, colour: str, pathname: str) -> tuple[Any, ...]:
        seen = _seen(sweeps, pathname)
        return *views.figure(seen, x, y, colour), graphs.options(columns.measured(seen.rows))

    @app.callback(
        Output("paper", "children"),
        Output("paper-shown", "data"),
        Input("tick", "n_intervals"),
        State("url", "pathname"),
        State("paper-shown", "data"),
    )
    def paper(_: int, pathname: str, shown: str | None) -> tuple[Any, Any]:
        watched = sweeps[parse_address(pathname)[0]]
        try:
            watched.figures.get()
            made = views.paper(watched, watched.seen())
        except VaegenError as error:
            made = [pages.problem(error)]
        version = hashlib.sha256(repr(made).encode()).hexdigest()[:16]
        return (no_update, no_update) if version == shown else (made, version)

    @app.callback(
        Output("chosen", "data"),
        Output("picked", "children"),
        Input("figure", "clickData"),
        State("chosen", "data"),
        prevent_initial_call=True,
    )
    def pick(click: dict[str, Any] | None, chosen: list[str]) -> tuple[Any, str]:
        trial = click["points"][0].get("customdata") if click else None
        if not isinstance(trial, str):
            return no_update, ""
        one_of = list(dict.fromkeys([*chosen, trial]))[-views.CURVES :]
        return one_of, f" Trial {trial[:8]} is among the learning curves."


def _curves(app: Dash, sweeps: Sweeps) -> None:
    @app.callback(
        Output("curves", "figure"),
        Output("curves-caption", "children"),
        Output("curves-found", "children"),
        Input("version", "data"),
        Input("curves-filter", "value"),
        Input("quantity", "value"),
        Input("chosen", "data"),
        State("url", "pathname"),
        prevent_initial_call=True,
    )
    def curves(_: str, text: str | None, quantity: str, chosen: list[str], pathname: str) -> tuple[Any, Any, str]:
        watched = sweeps[parse_address(pathname)[0]]
        try:
            return views.curves(watched, watched.seen(), text or "", quantity, chosen)
        except SpecError as error:
            return no_update, no_update, str(error)

    @app.callback(
        Output("chosen", "data", allow_duplicate=True), Input("forget", "n_clicks"), prevent_initial_call=True
    )
    def forget(clicks: int | None) -> Any:
        return [] if clicks else no_update


def _tables(app: Dash, sweeps: Sweeps) -> None:
    @app.callback(
        Output("table", "children"),
        Output("table-found", "children"),
        Output("pages", "children"),
        Output("before", "disabled"),
        Output("next", "disabled"),
        Input("version", "data"),
        Input("table-filter", "value"),
        Input("sort", "data"),
        Input("page", "data"),
        Input("chosen", "data"),
        State("url", "pathname"),
        prevent_initial_call=True,
    )
    def show(
        _: str, text: str | None, sort: tuple[str, bool], page: int, chosen: list[str], pathname: str
    ) -> tuple[Any, ...]:
        try:
            return views.table(_seen(sweeps, pathname), text or "", (sort[0], sort[1]), page, chosen)
        except SpecError as error:
            return no_update, str(error), no_update, no_update, no_update

    @app.callback(
        Output("sort", "data"),
        Input({"type": "sort", "column": ALL}, "n_clicks"),
        State("sort", "data"),
        prevent_initial_call=True,
    )
    def sort(clicks: list[int | None], now: tuple[str, bool]) -> Any:
        if not any(clicks) or not ctx.triggered_id or not ctx.triggered[0]["value"]:
            return no_update
        column = ctx.triggered_id["column"]
        return [column, column == now[0] and not now[1]]

    @app.callback(
        Output("page", "data"),
        Input("before", "n_clicks"),
        Input("next", "n_clicks"),
        Input("table-filter", "value"),
        Input("sort", "data"),
        State("page", "data"),
        prevent_initial_call=True,
    )
    def turn(before: int, after: int, text: str, order: Any, page: int) -> int:
        return {"before": max(0, page - 1), "next": page + 1}.get(str(ctx.triggered_id), 0)


def _rows(app: Dash, sweeps: Sweeps) -> None:
    @app.callback(
        Output("chosen", "data", allow_duplicate=True),
        Input({"type": "choose", "trial": ALL}, "n_clicks"),
        State("chosen", "data"),
        prevent_initial_call=True,
    )
    def choose(clicks: list[int | None], chosen: list[str]) -> Any:
        if not ctx.triggered_id or not ctx.triggered[0]["value"]:
            return no_update
        trial = ctx.triggered_id["trial"]
        return [one for one in chosen if one != trial] if trial in chosen else [*chosen, trial][-views.CURVES :]

    @app.callback(
        Output("file", "data"),
        Input("download", "n_clicks"),
        State("table-filter", "value"),
        State("sort", "data"),
        State("url", "pathname"),
        prevent_initial_call=True,
    )
    def download(clicks: int | None, text: str | None, sort: tuple[str, bool], pathname: str) -> Any:
        if not clicks:
            return no_update
        data = views.csv(_seen(sweeps, pathname), text or "", (sort[0], sort[1]))
        return (
            no_update if data is None else dcc.send_string(data, f"{parse_address(pathname)[0]}.csv", type="text/csv")
        )

    @app.callback(
        Output("failed", "children"), Input("version", "data"), State("url", "pathname"), prevent_initial_call=True
    )
    def failed(_: str, pathname: str) -> list[Any]:
        return views.failed(_seen(sweeps, pathname))


def _files(app: Dash, sweeps: Sweeps) -> None:
    @app.server.route("/alive")
    def alive() -> Response:
        return Response(status=204)

    @app.server.route("/figures/<sweep>/<file>")
    def picture(sweep: str, file: str) -> Response:
        """A file of the sweep."""
        try:
            if not PICTURE.fullmatch(file):
                abort(404)
            return _png(sweeps.storage.read(f"{sweeps[sweep].store.name}/figures/{file}"))
        except VaegenError:
            abort(404)

    @app.server.route("/drawn/<sweep>/<stem>.png")
    def drawn(sweep: str, stem: str) -> Response:
        """A figure that the page has drawn."""
        try:
            made = sweeps[sweep].figures.last
        except VaegenError:
            abort(404)
        if made is None or stem not in made.pictures:
            abort(404)
        return _png(made.pictures[stem])


def _png(data: bytes) -> Response:
    return Response(data, mimetype="image/png", headers={"Cache-Control": "private, max-age=3600"})
