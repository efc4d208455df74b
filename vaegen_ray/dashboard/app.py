"""The web application: addresses and events on one side, the storage's rows on the other.

    tick -> what has changed? -> version -> the view that is open is drawn again

The page is read-only: no address and no event of it writes anything.
"""

import re
from typing import Any
from urllib.parse import unquote

import pandas as pd
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update, set_props
from flask import Response, abort

from vaegen_ray.dashboard import columns, pages, plots, pools, table
from vaegen_ray.dashboard.sweeps import RUNNING, Sweeps, WatchedSweep
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.results.schema import FAILED

REFRESH_SECONDS = 2.0
CURVES = 6
"""Learning curves drawn at a time: as many as there are colours that everybody tells apart."""
ADDRESS = re.compile(r"/sweep/([^/]+)(?:/(curves|table|failed))?/?")
PICTURE = re.compile(r"[\w-]+\.png")
INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def make(sweeps: Sweeps) -> Dash:
    """The application over the sweeps of a storage."""
    app = Dash(
        "vaegen_ray.dashboard",
        title="vaegen_ray",
        update_title="",
        index_string=INDEX,
        suppress_callback_exceptions=True,
        prevent_initial_callbacks=False,
        enable_mcp=False,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        on_error=_say,
    )
    app.layout = pages.frame(sweeps.storage.where(), REFRESH_SECONDS)
    _pages(app, sweeps)
    _figures(app, sweeps)
    _tables(app, sweeps)
    _pictures(app, sweeps)
    return app


def _say(error: Exception) -> None:
    """What the user can mend stands on the page; a fault of ours goes to the terminal, too."""
    if not isinstance(error, VaegenError):
        raise error
    set_props("problem", {"children": str(error)})


def of_address(pathname: str | None) -> tuple[str, str]:
    """The sweep and the view of an address; two empty words for all others."""
    match = ADDRESS.fullmatch(pathname or "")
    return (unquote(match[1]), match[2] or "") if match else ("", "")


def _sweep(sweeps: Sweeps, pathname: str) -> WatchedSweep:
    name, _ = of_address(pathname)
    return sweeps[name]


def _pages(app: Dash, sweeps: Sweeps) -> None:
    @app.callback(Output("main", "children"), Output("problem", "children"), Input("url", "pathname"))
    def page(pathname: str) -> tuple[Any, str]:
        name, view = of_address(pathname)
        if name:
            watched = sweeps[name]
            return pages.sweep(name, view, watched.version(), _head(watched), _content(watched, view)), ""
        if pathname == "/samples":
            return [html.H1("Sampler pools"), html.Div(id="pools")], ""
        if pathname in ("/", "", None):
            return pages.overview(), ""
        return [html.H1("Not here"), html.P(["There is no page ", html.Code(pathname), "."])], ""

    @app.callback(Output("sweeps", "children"), Input("tick", "n_intervals"))
    def overview(_: int) -> Any:
        names = sweeps.names()
        if not names:
            return html.Li(html.P(f"No sweep in {sweeps.storage.where()} yet.", className="note"))
        return [pages.card(sweeps[name].summary()) for name in names]

    @app.callback(Output("pools", "children"), Input("tick", "n_intervals"))
    def all_pools(_: int) -> Any:
        empty = f"No samples of diffusion models in {sweeps.storage.where()}."
        return pages.plain_table(pools.HEADS, pools.lines(sweeps.storage), empty)

    @app.callback(
        Output("state", "children"),
        Output("version", "data"),
        Input("tick", "n_intervals"),
        State("url", "pathname"),
        State("version", "data"),
        prevent_initial_call=True,  # the page comes with its head
    )
    def heartbeat(_: int, pathname: str, known: str | None) -> tuple[Any, Any]:
        watched = _sweep(sweeps, pathname)
        version = watched.version()
        return _head(watched), (no_update if version == known else version)


def _head(watched: WatchedSweep) -> list[Any]:
    """The state of a sweep, files that could not be read, and the pools that it reads from."""
    summary = watched.summary()
    parts = pages.state(summary, watched.declared())
    parts += [html.P(note, className="note") for note in watched.look().notes]
    if summary.pools and summary.state == RUNNING:
        parts.append(pages.plain_table(pools.HEADS, pools.lines(watched.store.storage, summary.pools), ""))
    return parts


def _content(watched: WatchedSweep, view: str) -> list[Any]:
    rows, varied = watched.rows()
    if view == "table":
        return pages.table_view()
    if view == "curves":
        names = columns.measured(rows)
        paired = [name[: -len("_test")] for name in names if name.endswith("_test") and f"{name[:-5]}_train" in names]
        single = [n for n in names if n not in ("neg_elbo_test", "wall_seconds") and n.rpartition("_")[0] not in paired]
        return pages.curves_view([*paired, *single] or ["elbo"])
    if view == "failed":
        return [html.Div(id="failed")]
    return pages.figure_view(columns.axes(watched.store.name, varied, rows), columns.measured(rows), watched.store.name)


def _figures(app: Dash, sweeps: Sweeps) -> None:
    @app.callback(
        Output("figure", "figure"),
        Output("figure-caption", "children"),
        Output("y", "options"),
        Output("pictures", "children"),
        Input("version", "data"),
        Input("x", "value"),
        Input("y", "value"),
        Input("colour", "value"),
        State("url", "pathname"),
    )
    def figure(_: str, x: str, y: str, colour: str, pathname: str) -> tuple[Any, str, Any, Any]:
        watched = _sweep(sweeps, pathname)
        rows, varied = watched.rows()
        drawn, said = plots.over_axis(rows, varied, x, y, colour)
        options = [{"label": columns.label(name), "value": name} for name in columns.measured(rows)]
        return drawn, said, options, pages.pictures(watched.store.name, watched.pictures())

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
        return list(dict.fromkeys([*chosen, trial]))[-CURVES:], f" Trial {trial[:8]} is among the learning curves."

    @app.callback(
        Output("curves", "figure"),
        Output("curves-caption", "children"),
        Output("curves-found", "children"),
        Input("version", "data"),
        Input("curves-filter", "value"),
        Input("quantity", "value"),
        Input("chosen", "data"),
        State("url", "pathname"),
    )
    def curves(_: str, text: str | None, quantity: str, chosen: list[str], pathname: str) -> tuple[Any, Any, str]:
        watched = _sweep(sweeps, pathname)
        rows, varied = watched.rows()
        rows = rows[rows["effective_epoch"].notna()]
        try:
            picked, said = _picked(rows, text or "", chosen)
        except SpecError as error:
            return no_update, no_update, str(error)
        names = dict(zip(picked["trial_id"], columns.settings(picked, varied), strict=True))
        drawn, caption = plots.curves(watched.curves(list(names)), names, quantity)
        return drawn, caption, said

    @app.callback(
        Output("chosen", "data", allow_duplicate=True), Input("forget", "n_clicks"), prevent_initial_call=True
    )
    def forget(clicks: int | None) -> Any:
        return [] if clicks else no_update


def _picked(rows: pd.DataFrame, text: str, chosen: list[str]) -> tuple[pd.DataFrame, str]:
    """The trials whose curves are drawn: what is typed, else what was chosen in the table or the figure, else some."""
    if text.strip():
        found = table.filtered(rows, text)
        return found[:CURVES], f"{len(found):,} VAEs, {min(CURVES, len(found))} of them drawn"
    if not (mine := rows[rows["trial_id"].isin(chosen)]).empty:
        return mine, f"{len(mine)} VAEs chosen in the table or the figure"
    first = rows[rows["seed"] == rows["seed"].min()] if len(rows) else rows
    step = max(1, -(-len(first) // CURVES))
    return first.sort_values(["params_total", "trial_id"])[::step], "some VAEs; type, or choose in the table or figure"


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
    )
    def show(
        _: str, text: str | None, sort: tuple[str, bool], page: int, chosen: list[str], pathname: str
    ) -> tuple[Any, ...]:
        rows, varied = _sweep(sweeps, pathname).rows()
        try:
            found = table.ordered(table.filtered(rows, text or ""), *sort)
        except SpecError as error:
            return no_update, str(error), no_update, no_update, no_update
        last = max(0, (len(found) - 1) // pages.ROWS_A_PAGE)
        page = min(page, last)
        shown = found[page * pages.ROWS_A_PAGE : (page + 1) * pages.ROWS_A_PAGE]
        made = pages.table(shown, columns.shown(varied, rows), (sort[0], sort[1]), chosen)
        said = f"{len(found):,} of {len(rows):,} VAEs"
        return made, said, f"page {page + 1} of {last + 1}", page == 0, page == last

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
        return [one for one in chosen if one != trial] if trial in chosen else [*chosen, trial][-CURVES:]

    @app.callback(
        Output("file", "data"),
        Input("download", "n_clicks"),
        State("table-filter", "value"),
        State("sort", "data"),
        State("url", "pathname"),
        prevent_initial_call=True,
    )
    def download(_: int, text: str | None, sort: tuple[str, bool], pathname: str) -> Any:
        watched = _sweep(sweeps, pathname)
        try:
            found = table.ordered(table.filtered(watched.rows()[0], text or ""), *sort)
        except SpecError:
            return no_update
        return dcc.send_string(found.to_csv(index=False), f"{watched.store.name}.csv", type="text/csv")

    @app.callback(Output("failed", "children"), Input("version", "data"), State("url", "pathname"))
    def failed(_: str, pathname: str) -> list[Any]:
        watched = _sweep(sweeps, pathname)
        rows, varied = watched.rows()
        lost = rows[rows["status"] == FAILED]
        lines = [
            [trial[:8], words, columns.plain(epoch), str(reason)]
            for trial, words, epoch, reason in zip(
                lost["trial_id"], columns.settings(lost, varied), lost["failed_epoch"], lost["error"], strict=True
            )
        ]
        given_up = [
            [note["bundle_id"][:8], str(note["left"]), str(note["tries"]), pages.moment(note["time"]), note["reason"]]
            for note in watched.given_up()
        ]
        heads = ["trial", "settings", "epoch", "reason"]
        parts: list[Any] = [html.H2("Failed trials"), pages.plain_table(heads, lines, "No trial has failed.")]
        parts.append(html.P("A failed trial is not trained again unless the sweep runs with --retry-failed."))
        heads = ["bundle", "VAEs left", "tries", "when", "reason"]
        parts.append(html.H2("Bundles that were given up"))
        parts.append(pages.plain_table(heads, given_up, "No bundle was given up."))
        return [*parts, html.P("The same command tries a bundle again.")]


def _pictures(app: Dash, sweeps: Sweeps) -> None:
    @app.server.route("/figures/<sweep>/<file>")
    def picture(sweep: str, file: str) -> Response:
        try:
            if not PICTURE.fullmatch(file):
                abort(404)
            data = sweeps.storage.read(f"{sweeps[sweep].store.name}/figures/{file}")
        except VaegenError:
            abort(404)
        return Response(data, mimetype="image/png", headers={"Cache-Control": "private, max-age=3600"})
