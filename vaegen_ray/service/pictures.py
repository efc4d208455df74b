"""From the storage's rows to the storage's pictures and tables."""

from collections.abc import Iterable
from typing import Any

from vaegen_ray import figures
from vaegen_ray.errors import DataFormatError, VaegenError
from vaegen_ray.results.store import SweepStore
from vaegen_ray.trial import TrialSpec


def tables_of(store: SweepStore, reads: Iterable[str]) -> tuple[figures.Tables, tuple[str, ...]]:
    """The results of the trials that a sweep declares, and a line for each file that could not be read.

    Args:
        store: the files of the sweep.
        reads: the fields of ``Tables`` that are needed; without ``details``, which may be large, these are empty.

    A folder may also hold trials of an earlier declaration, with other sizes; they are left out.
    """
    from vaegen_ray.results import query
    from vaegen_ray.results.schema import STOPPED

    results = query.load(store.storage, store.name)
    trials = results.trials if "details" in reads else results.trials[:0]
    details, skipped = query.load_details(store.storage, trials, store.name)
    frames = [results.last(), results.curves(), details, results.last(STOPPED)]
    if (ids := declared(store)) is not None:
        frames = [frame[frame["trial_id"].isin(ids)].reset_index(drop=True) for frame in frames]
    return figures.Tables(*frames), results.notes + skipped


def declared(store: SweepStore) -> set[str] | None:
    """The ids of the trials that a sweep declares; None where it does not say.

    Raises:
        DataFormatError: ``sweep.json`` is not what we write.
    """
    value = store.read_sweep_json()
    return None if value is None else set(declared_ids(value, store.storage.where(f"{store.name}/sweep.json")))


def declared_ids(value: Any, where: str) -> list[str]:
    """The ids of the trials that a ``sweep.json`` declares, as they were when it was written: under other numerics the
    same specifications have other ids, and the rows beside it have these.

    Raises:
        DataFormatError: ``value`` is not what we write; ``where`` names the file.
    """
    try:
        trials, ids = value["trials"], value.get("trial_ids")
        if ids is None:  # written before there were any
            return [TrialSpec.from_dict(each).trial_id for each in trials]
        if len(ids) != len(trials) or not all(isinstance(trial, str) for trial in ids):
            raise TypeError("its trial_ids are no list of a word for each of its trials")
        return list(ids)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DataFormatError(f"{where} does not say which trials a sweep declares: {error}") from None


def draw_figures(store: SweepStore, names: tuple[str, ...]) -> list[str]:
    """Draws figures from the Parquet files alone, as PNG and PDF, tables as Markdown; says and returns where they
    are."""
    if not names:
        return []
    from vaegen_ray.figures.style import to_bytes

    tables, notes = tables_of(store, {read for name in names for read in figures.FIGURES[name].reads})
    for note in notes:
        print(note)
    written = []
    for name in names:
        try:
            made = figures.draw(name, tables)
        except VaegenError as error:
            print(f"figure {name} was not drawn: {error}")
            continue
        for stem, part in made.items():
            if isinstance(part, str):
                written.append(store.write_figure(f"{stem}.md", part.encode()))
                print(f"table {written[-1]}")
                continue
            for kind in ("png", "pdf"):
                written.append(store.write_figure(f"{stem}.{kind}", to_bytes(part, kind)))
            print(f"figure {written[-2]}")
    return written
