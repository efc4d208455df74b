"""The start and the end of a driver at the storage of its sweep, the same for declared sweeps and for searches.

    open_session -> [archive] -> who else is at work -> lease -> damaged files aside -> todo -> ... -> release the lease

The todo of a driver is what it declares, less what is committed, less what live drivers train. So a second driver with
the same declaration has nothing to do, one with more seeds trains these, and one with another declaration leaves the
files of the first alone.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vaegen_ray.errors import VaegenError
from vaegen_ray.results.cleanup import prune, quarantine
from vaegen_ray.results.leases import Lease, LeaseHolder, live_leases
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore

SWEEP, SEARCH = "sweep", "search"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A driver that is at work on a sweep."""

    store: SweepStore
    holder: LeaseHolder
    others: tuple[Lease, ...]
    """The other drivers that live."""

    @property
    def held(self) -> set[str]:
        """Ids of the trials that the others train."""
        return {trial_id for lease in self.others for trial_id in lease.trial_ids}

    def prune(self, mine: set[str]) -> None:
        """Deletes what finished and abandoned bundles left; ``mine`` are the bundles that this driver trains."""
        prune(self.store, mine=mine, held=self.held)


@contextmanager
def open_session(storage: Storage, name: str, kind: str, options: argparse.Namespace) -> Iterator[Session]:
    """Holds a lease on a sweep as long as the context lasts; damaged files are set aside, and said, before it begins.

    Args:
        name: of the sweep.
        kind: ``SWEEP`` or ``SEARCH``, of which one at a time can be at work.
        options: ``fresh`` and ``retry_failed`` count.

    Raises:
        VaegenError: another driver is at work, and what is asked for would disturb it.
        StorageError: the storage refuses.
    """
    store = SweepStore(storage, name)
    others = tuple(live_leases(storage, name, say=print))
    if others and options.fresh:
        raise VaegenError(f"--fresh would move the results of {name} while {others[0].who} trains; stop it first")
    if kind == SEARCH and others:
        raise VaegenError(f"{others[0].who} is at work on {name}; a search has one driver at a time")
    if options.fresh and (old := store.archive()):
        print(f"earlier results were put aside as {storage.where(old)}")
    holder = LeaseHolder(storage, name, kind)
    try:
        session = Session(store=store, holder=holder, others=others)
        quarantine(store, session.held)
        if options.retry_failed:
            store.forget(store.committed() - store.committed(retry_failed=True) - session.held)
        for note in store.set_aside_notes:
            print(note)
        yield session
    finally:
        holder.release()
