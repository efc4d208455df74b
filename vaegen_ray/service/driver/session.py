"""The life of a driver, the same for declared sweeps and for searches.

    open_session -> check inputs -> [archive] -> other drivers -> lease -> quarantine -> todo
        start_workers -> Ray, images in the background -> sweep.json -> fit (tune) -> end of Ray
    release the lease

The todo of a driver is what it declares, minus what is committed, minus what live drivers train. A second driver with
the same declaration therefore has nothing to do, one with more seeds trains these, and one with another declaration
leaves the files of the first alone.
"""

import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from vaegen_ray.bundle.cost import Device
from vaegen_ray.code_version import code_version
from vaegen_ray.errors import DataFormatError, StorageError, VaegenError
from vaegen_ray.results import leftovers
from vaegen_ray.results.cleanup import prune, quarantine
from vaegen_ray.results.declaration import Declaration, find_changes
from vaegen_ray.results.heartbeat import Heartbeat
from vaegen_ray.results.leases import Lease, LeaseHolder, live_leases
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service import inputs
from vaegen_ray.service.cluster import resources
from vaegen_ray.service.config import RunConfig
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.sweep import Sweep

logger = logging.getLogger(__name__)

SWEEP, SEARCH = "sweep", "search"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A driver at the folder of its sweep."""

    sweep: Sweep
    config: RunConfig
    store: SweepStore
    lease: LeaseHolder
    others: tuple[Lease, ...]
    """The leases of other live drivers."""
    needs_download: bool
    """Some images are not on this machine yet."""
    started: float
    """``time.monotonic`` of the start."""

    @property
    def where(self) -> str:
        """The folder of the sweep, for messages."""
        return self.store.storage.where(self.sweep.name)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def held(self) -> set[str]:
        """Ids of the trials that other drivers train."""
        return {trial_id for lease in self.others for trial_id in lease.trial_ids}

    def prune(self, bundle_ids: set[str]) -> None:
        """Deletes what finished and abandoned bundles left; ``bundle_ids`` are those that this driver trains."""
        prune(self.store, mine=bundle_ids, held=self.held)

    def describe(self, device: Device, count: int) -> Declaration:
        """What ``sweep.json`` records beside the trials."""
        return Declaration(
            sweep=self.sweep.name,
            options={**self.config.describe(), "storage": self.store.storage.name},
            code_version=code_version(),
            networks={network.name: [network.version, network.source] for network in self.sweep.networks},
            versions=_find_versions(),
            machine={"node": platform.node(), "platform": platform.platform(), "cpus": os.cpu_count()},
            devices={"kind": device.kind, "count": count},
            figures=self.sweep.figures,
        )

    def restore_declaration(self, trials: Sequence[TrialSpec], *, planned: int = 0) -> None:
        """Writes ``sweep.json`` again if it is damaged or declares other trials; figures and tables follow it.

        Args:
            planned: trials of the whole budget of a search.
        """
        try:
            before = self.store.read_declaration()
        except (StorageError, DataFormatError):
            before = None
        if before is None or set(before.trial_ids) != {spec.trial_id for spec in trials}:
            description = self.describe(*resources.find_local_devices())
            self.store.write_declaration(description.with_trials(trials, planned=planned))

    def note(self, message: str) -> None:
        """Logs a step before the training, also to those who watch the storage."""
        logger.info(message)
        self.write_preparing(message)

    def write_preparing(self, message: str) -> None:
        """Tells those who watch the storage what happens before the training."""
        try:
            self.store.write_status(Heartbeat(time=time.time(), preparing=message).encode())
        except StorageError as error:
            if error.final:
                raise


@contextmanager
def open_session(sweep: Sweep, config: RunConfig, kind: str = SWEEP) -> Iterator[Session]:
    """Checks the inputs of a sweep and holds a lease on it; damaged files are moved aside and named.

    Args:
        kind: ``SWEEP`` or ``SEARCH``; only one driver of a search runs at a time.

    Raises:
        VaegenError: an input is missing, or another live driver would be disturbed.
        StorageError: the storage refuses.
    """
    started = time.monotonic()
    inputs.check_networks(sweep)
    datasets = {spec.dataset for spec in sweep.trials} | {stream.diffusion.dataset for stream in sweep.streams}
    absent = [name for name in sorted(datasets) if not inputs.is_present(name, config.data_dir)]
    storage = Storage.open(config.storage)
    storage.probe()
    leftovers.sweep(storage, sweep.name, "samples", "diffusion")
    for stream in sweep.streams:
        inputs.require_imported(storage, stream.diffusion)
    inputs.check_packages(sweep)
    others = tuple(live_leases(storage, sweep.name, say=logger.info))
    _check_others(sweep.name, others, fresh=config.fresh, kind=kind)
    store = SweepStore(storage, sweep.name)
    if config.fresh and (archive := store.archive()):
        logger.info("earlier results were moved to %s", storage.where(archive))
    lease = LeaseHolder(storage, sweep.name, kind)
    try:
        session = Session(
            sweep=sweep,
            config=config,
            store=store,
            lease=lease,
            others=others,
            needs_download=bool(absent),
            started=started,
        )
        quarantine(store, session.held)
        if config.retry_failed:
            store.forget(store.committed() - store.committed(retry_failed=True) - session.held)
        for note in (*store.set_aside_notes, *_find_changes(store, sweep)):
            logger.info(note)
        yield session
    finally:
        lease.release()


def _find_changes(store: SweepStore, sweep: Sweep) -> list[str]:
    try:
        before = store.read_declaration()
    except (DataFormatError, StorageError):  # damaged; it is written again
        return []
    return find_changes(before, sweep) if before else []


def _check_others(name: str, others: Sequence[Lease], *, fresh: bool, kind: str) -> None:
    if others and fresh:
        raise VaegenError(f"--fresh would move the results of {name} while {others[0].who} trains; stop it first")
    if others and kind == SEARCH:
        raise VaegenError(f"{others[0].who} is at work on {name}; a search has one driver at a time")


def _find_versions(packages: Iterable[str] = ("vaegen-ray", "ray", "torch", "pyarrow", "numpy")) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
