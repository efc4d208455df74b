"""The figures of the paper, drawn from what a sweep holds now by the functions that draw them when a run ends.

Drawing takes a second or more of a core that may train VAEs, so it goes on behind the page, for figures that somebody
looks at, when there is something new, and with pauses in between.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from vaegen_ray import figures
from vaegen_ray.dashboard import watch
from vaegen_ray.errors import VaegenError
from vaegen_ray.figures.style import to_bytes
from vaegen_ray.reports.figures import load_tables
from vaegen_ray.results.query import Results
from vaegen_ray.results.schema import TrialStatus
from vaegen_ray.results.store import SweepStore

if TYPE_CHECKING:
    from vaegen_ray.dashboard.seen import Seen

PAUSE = 10.0
"""A figure that took 1 s is drawn anew after this many seconds at the earliest: a tenth of a core at most."""
ONE_AT_A_TIME = threading.Lock()
"""Matplotlib draws in one thread at a time."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The figures of a sweep as they were drawn last."""

    version: str
    """Of what they show (``Seen.version``)."""
    pictures: dict[str, bytes]
    """File stem -> PNG."""
    notes: tuple[str, ...]
    """One line a figure that cannot be drawn, and why."""

    @property
    def stamps(self) -> dict[str, str]:
        """File stem -> a word that changes with the picture."""
        return {stem: hashlib.sha256(picture).hexdigest()[:16] for stem, picture in self.pictures.items()}


class PaperFigures:
    """The figures that a sweep declares; may be used by several threads.

    Args:
        store: the files of the sweep.
        seen: gives what is known of it now.
        curves: gives all evaluations of trials.
    """

    def __init__(
        self, store: SweepStore, seen: "Callable[[], Seen]", curves: Callable[[Iterable[str]], pd.DataFrame]
    ) -> None:
        self._store, self._seen, self._curves = store, seen, curves
        self._took = 0.0
        self._kept = watch.CachedRead(self._draw)

    @property
    def last(self) -> Drawn | None:
        """As they were drawn last; None before the first time."""
        return self._kept.last

    def get(self) -> Drawn | None:
        """As they are now, or a little older while they are drawn; None where they are drawn for the first time.

        Raises:
            StorageError: the storage cannot be read.
            DataFormatError: a file was written by a later version of vaegen_ray.
        """
        reading = self._kept.begin(max(watch.EVERY_SECONDS, PAUSE * self._took))
        wait([reading], watch.PATIENCE_SECONDS)
        return self._kept.known(reading)

    def _draw(self) -> Drawn:
        seen, known = self._seen(), self._kept.last
        if known is not None and known.version == seen.version:
            return known
        begun = time.monotonic()
        names = [name for name in seen.declared.figures if name in figures.FIGURES]
        notes = [f"this version has no figure {name!r}" for name in seen.declared.figures if name not in names]
        tables, skipped = self._tables(seen, {read for name in names for read in figures.FIGURES[name].reads})
        pictures: dict[str, bytes] = {}
        for name in names:
            try:
                with ONE_AT_A_TIME:
                    made = figures.draw(name, tables)
                    parts = {stem: part for stem, part in made.items() if not isinstance(part, str)}
                    pictures |= {stem: to_bytes(part, "png") for stem, part in parts.items()}
            except VaegenError as error:
                notes.append(f"figure {name} cannot be drawn: {error}")
        self._took = time.monotonic() - begun
        return Drawn(version=seen.version, pictures=pictures, notes=(*notes, *skipped))

    def _tables(self, seen: "Seen", reads: set[str]) -> tuple[figures.Tables, tuple[str, ...]]:
        """As ``vaegen figure`` has them, of what the page has read already."""
        trials = seen.look.trials
        completed = trials["trial_id"][trials["status"] == TrialStatus.COMPLETED]
        metrics = self._curves(completed) if "curves" in reads else seen.look.last
        return load_tables(self._store, reads, results=Results(trials, metrics, ()))
