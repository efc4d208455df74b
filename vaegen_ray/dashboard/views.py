"""What the views of a sweep show, made of what is seen of it: for a page that opens, and again when something changes.

A page comes with its contents: a figure that asked for its numbers would do so only after the library that draws it was
loaded.
"""

from typing import Any

import pandas as pd
from dash import html

from vaegen_ray.dashboard import columns, graphs, pages, plots, pools
from vaegen_ray.dashboard import table as tables
from vaegen_ray.dashboard.seen import Seen
from vaegen_ray.dashboard.sweeps import WatchedSweep
from vaegen_ray.errors import SpecError
from vaegen_ray.results.schema import TrialStatus
from vaegen_ray.results.status import SweepState

CURVES = 6
"""Learning curves drawn at a time: as many as there are colours that everybody tells apart."""
MOST_LINES = 200
"""Rows of a table without pages."""
UNSORTED = ("", False)


def head(seen: Seen, streams: pools.Pools) -> list[Any]:
    """The state of a sweep, what could not be read, and the pools that it reads from."""
    status = seen.status
    parts = pages.state(status)
    if seen.given_up:
        parts.append(pages.given_up_note(status.sweep, seen.given_up))
    parts += [html.P(note, className="note") for note in status.notes]
    if status.pools and status.state == SweepState.RUNNING:
        parts.append(pages.plain_table(pools.HEADS, streams.lines(tuple(status.pools)), "Its samples are not there."))
    return parts


def content(watched: WatchedSweep, seen: Seen, view: str, chosen: list[str]) -> list[Any]:
    """A view as it opens."""
    rows, name = seen.rows, watched.store.name
    if view == "table":
        return pages.table_view(*table(seen, "", UNSORTED, 0, chosen))
    if view == "curves":
        quantities = columns.curved(rows)
        return graphs.curves_view(quantities, *curves(watched, seen, "", quantities[0], chosen))
    if view == "failed":
        return [html.Div(failed(seen), id="failed")]
    axes = columns.axes(name, seen.varied, rows)
    return graphs.figure_view(axes, columns.measured(rows), name, paper(watched, seen), *figure(seen, *axes[2]))


def figure(seen: Seen, x: str, y: str, colour: str) -> tuple[Any, str]:
    """Any two columns of the trials, as a figure and in a sentence."""
    return plots.over_axis(seen.rows, seen.varied, x, y, colour)


def paper(watched: WatchedSweep, seen: Seen) -> list[Any]:
    """The figures of the paper as they were drawn last from the rows; then those that are files of the sweep alone."""
    drawn = watched.figures.last
    if drawn is None and seen.declared.figures:  # which of the files are drawn anew is not known yet
        return graphs.paper(seen.status.sweep, {}, {}, ["The figures are being drawn."])
    stamps, notes = (drawn.stamps, drawn.notes) if drawn else ({}, ())
    files = {file: stamp for file, stamp in seen.pictures.items() if file.removesuffix(".png") not in stamps}
    return graphs.paper(seen.status.sweep, stamps, files, notes)


def settings(seen: Seen) -> list[Any]:
    """Data set, settings and dates of a sweep."""
    trials = seen.rows if seen.declared.trials is None else seen.declared.trials
    dates = seen.look.trials["finished_at"].dropna()
    moments = {"first result": dates.min().timestamp(), "last result": dates.max().timestamp()} if len(dates) else {}
    return pages.settings(columns.summary(trials), seen.declared.facts, moments)


def curves(watched: WatchedSweep, seen: Seen, text: str, quantity: str, chosen: list[str]) -> tuple[Any, str, str]:
    """Learning curves, in a sentence, and whose they are.

    Raises:
        SpecError: the filter ``text`` cannot be.
    """
    picked, said = _picked(seen.rows[seen.rows["effective_epoch"].notna()], text, chosen)
    names = dict(zip(picked["trial_id"], columns.settings(picked, seen.varied), strict=True))
    methods = dict(zip(picked["trial_id"], picked["method"], strict=True))
    return *plots.curves(watched.curves(list(names)), names, quantity, methods), said


def _picked(rows: pd.DataFrame, text: str, chosen: list[str]) -> tuple[pd.DataFrame, str]:
    """The trials whose curves are drawn: what is typed, else what was chosen in the table or the figure, else some."""
    if text.strip():
        found = tables.filtered(rows, text)
        return found[:CURVES], f"{len(found):,} VAEs, {min(CURVES, len(found))} of them drawn"
    if not (mine := rows[rows["trial_id"].isin(chosen)]).empty:
        return mine[:CURVES], f"{len(mine)} VAEs chosen in the table or the figure"
    first = rows[rows["seed"] == rows["seed"].min()] if len(rows) else rows
    step = max(1, -(-len(first) // CURVES))
    return first.sort_values(["params_total", "trial_id"])[::step], "some VAEs; type, or choose in the table or figure"


def table(
    seen: Seen, text: str, sort: tuple[str, bool], page: int, chosen: list[str]
) -> tuple[Any, str, str, bool, bool]:
    """A page of the table, how many trials there are, which page it is, and whether it is the first or the last.

    Raises:
        SpecError: the filter ``text`` cannot be.
    """
    found = tables.ordered(tables.filtered(seen.rows, text), *sort)
    last = max(0, (len(found) - 1) // pages.ROWS_A_PAGE)
    page = min(page, last)
    shown = found[page * pages.ROWS_A_PAGE : (page + 1) * pages.ROWS_A_PAGE]
    made = pages.table(shown, columns.shown(seen.varied, seen.rows), sort, chosen)
    said = f"{len(found):,} of {len(seen.rows):,} VAEs"
    return made, said, f"page {page + 1} of {last + 1}", page == 0, page == last


def csv(seen: Seen, text: str, sort: tuple[str, bool]) -> str | None:
    """The rows of the table with all their columns; None where the filter cannot be, which stands below it."""
    try:
        return tables.ordered(tables.filtered(seen.rows, text), *sort).to_csv(index=False)
    except SpecError:
        return None


def failed(seen: Seen) -> list[Any]:
    """Failed trials and given-up bundles, with their reasons."""
    lost = seen.rows[seen.rows["status"] == TrialStatus.FAILED]
    first = lost[:MOST_LINES]
    lines = [
        [trial[:8], words, columns.plain(epoch), columns.plain(reason)]
        for trial, words, epoch, reason in zip(
            first["trial_id"], columns.settings(first, seen.varied), first["failed_epoch"], first["error"], strict=True
        )
    ]
    bundles = [
        [note["bundle_id"][:8], str(note["left"]), str(note["tries"]), pages.moment(note["time"]), note["reason"]]
        for note in seen.given_up[:MOST_LINES]
    ]
    trials = pages.plain_table(["trial", "settings", "epoch", "reason"], lines, "No trial has failed.")
    given_up = pages.plain_table(["bundle", "VAEs left", "tries", "when", "reason"], bundles, "No bundle was given up.")
    return [
        html.H2("Failed trials"),
        trials,
        *_more(len(lost), "; the table shows all of them: filter by status=failed"),
        html.P("A failed trial is not trained again unless the sweep runs with --retry-failed."),
        html.H2("Bundles that were given up"),
        given_up,
        *_more(len(seen.given_up), ""),
        html.P("The same command tries a bundle again."),
    ]


def _more(count: int, where: str) -> list[Any]:
    return [html.P(f"The first {MOST_LINES} of {count:,}{where}.", className="note")] if count > MOST_LINES else []
