"""From the storage's rows to the storage's pictures and tables."""

import logging
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from vaegen_ray import figures
from vaegen_ray.errors import DataFormatError, StorageError, VaegenError
from vaegen_ray.results.groups import Conditions, none_selected, selected
from vaegen_ray.results.store import SweepStore

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from vaegen_ray.results import query


def load_tables(
    store: SweepStore,
    reads: Iterable[str],
    ids: Collection[str] | None = None,
    results: "query.Results | None" = None,
    where: Conditions = (),
) -> tuple[figures.Tables, tuple[str, ...]]:
    """The results of the trials that a sweep declares, and a line for everything that is left out.

    Args:
        store: the files of the sweep.
        reads: the fields of ``Tables`` that are needed; without ``details``, which may be large, these are empty.
        ids: the declared trials; None: those that ``sweep.json`` declares, or all where it is damaged.
        results: of the sweep, where they are known already.
        where: only trials that fulfil these conditions (``groups.selected``).

    A folder may also hold trials of other declarations, with other sizes; they are left out.
    """
    from vaegen_ray.results import query
    from vaegen_ray.results.schema import TrialStatus

    results = results or query.load(store.storage, store.name)
    trials = results.trials if "details" in reads else results.trials[:0]
    details, skipped = query.load_details(store.storage, trials, store.name)
    frames = [results.last(), results.curves(), details, results.last(TrialStatus.PRUNED)]
    if where:
        chosen = set(selected(results.trials, where)["trial_id"])
        frames = [frame[frame["trial_id"].isin(chosen)].reset_index(drop=True) for frame in frames]
    notes = [*results.notes, *skipped]
    try:
        ids = declared(store) if ids is None else ids
    except (DataFormatError, StorageError) as error:
        notes.append(f"{error}; all trials of the folder are used, until the command of the sweep is rerun")
    if ids is not None:
        frames = [frame[frame["trial_id"].isin(ids)].reset_index(drop=True) for frame in frames]
        notes += differences(ids, results.trials["trial_id"])
    return figures.Tables(*frames), tuple(notes)


def declared(store: SweepStore) -> set[str] | None:
    """The ids of the trials that a sweep declares; None where it does not say.

    Raises:
        StorageError, DataFormatError: ``sweep.json`` is not what we write.
    """
    declaration = store.read_declaration()
    return None if declaration is None else set(declaration.check().trial_ids)


def differences(ids: Collection[str], there: Iterable[str]) -> list[str]:
    """Lines about declared trials without rows, and about rows of trials that are not declared."""
    there = set(there)
    absent, others = len(set(ids) - there), len(there - set(ids))
    lines = []
    if absent:
        lines.append(f"{absent} of {len(set(ids))} declared trials have no rows")
    if others:
        lines.append(f"trials of other declarations in the folder, which are left out: {others}")
    return lines


def draw_figures(
    store: SweepStore,
    names: tuple[str, ...],
    ids: Collection[str] | None = None,
    *,
    where: Conditions = (),
    strict: bool = False,
) -> list[str]:
    """Draws figures from the Parquet files alone, as PNG and PDF, tables as Markdown; says and returns where they
    are. One that cannot be drawn is said too.

    Args:
        ids: as for ``load_tables``.
        where: only trials that fulfil these conditions (``groups.selected``) are drawn, into files that name them.
        strict: raise the error of one that cannot be drawn.

    Raises:
        VaegenError: one cannot be drawn, and ``strict`` asks for all.
    """
    if not names:
        return []
    from vaegen_ray.figures.style import to_bytes

    tables, notes = load_tables(
        store, {read for name in names for read in figures.FIGURES[name].reads}, ids, where=where
    )
    if where and tables.last.empty:
        raise none_selected(where, store.name)
    chosen = re.sub(r"[^A-Za-z0-9_.-]+", "_", "".join(f".{name}-{value}" for name, value in where))
    for note in notes:
        logger.info(note)
    written = []
    for name in names:
        try:
            made = figures.draw(name, tables)
        except VaegenError as error:
            if strict:
                raise
            logger.info(f"figure {name} was not drawn: {error}")
            continue
        for plain_stem, part in made.items():
            stem = plain_stem + chosen
            if isinstance(part, str):
                written.append(store.write_figure(f"{stem}.md", part.encode()))
                logger.info(f"table {written[-1]}")
                continue
            for kind in ("png", "pdf"):
                written.append(store.write_figure(f"{stem}.{kind}", to_bytes(part, kind)))
            logger.info(f"figure {written[-2]}")
    return written
