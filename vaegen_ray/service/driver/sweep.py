"""The driver of a sweep.

    declare -> trials - committed = to do -> bundles -> Ray Tune (a Tune trial a bundle)
                          ^                                        |
                          |                               rows in the storage -> figures
                          +------ same command after a crash ------+

The to-do is the declared trials minus the committed ones. Start, resume after any crash, extension of a sweep and
repetition of a failed part are all this one subtraction; nothing depends on Tune's own snapshots.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from vaegen_ray.allotment import has_gpus
from vaegen_ray.bundle.cost import Device, bundle_bytes, check_memory, largest
from vaegen_ray.bundle.evaluation_cost import bundle_seconds
from vaegen_ray.bundle.packing import Bundle, pack, remaining, smaller_bundles
from vaegen_ray.code_version import code_version
from vaegen_ray.data.images import Split
from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.exit import in_background
from vaegen_ray.reports.figures import declared, draw_figures
from vaegen_ray.results import leftovers
from vaegen_ray.results.changes import changes
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.cluster import connect, resources
from vaegen_ray.service.driver.dry_run import dry_run
from vaegen_ray.service.driver.progress import Progress
from vaegen_ray.service.driver.session import SWEEP, Session, open_session
from vaegen_ray.service.inputs import (
    check_networks,
    check_packages,
    is_present,
    load_diffusion_images,
    load_images,
    require_imported,
)
from vaegen_ray.spec.diffusion import DiffusionSpec, StreamSpec
from vaegen_ray.spec.trial import TrialSpec, bundle_id
from vaegen_ray.sweep.sweep import Sweep, data_key, listed
from vaegen_ray.text import clock

TRIES = 4
"""Times that Tune starts a bundle whose worker died before it gives up; each goes on from the checkpoint."""


def run(sweep: Sweep, options: argparse.Namespace) -> int:
    """Runs what is left of a sweep; returns the exit code (0: all trials are committed)."""
    started = time.monotonic()
    check_networks(sweep)
    if options.dry_run:
        dry_run(sweep, options)
        return 0
    needed = {spec.dataset for spec in sweep.trials} | {stream.diffusion.dataset for stream in sweep.streams}
    absent = [name for name in sorted(needed) if not is_present(name, options.data_dir)]
    storage = Storage.open(options.storage)
    storage.probe()
    leftovers.sweep(storage, sweep.name, "samples", "diffusion")
    for stream in sweep.streams:
        require_imported(storage, stream.diffusion)
    check_packages(sweep)
    with open_session(storage, sweep.name, SWEEP, options) as session:
        return _run(sweep, session, options, absent=bool(absent), started=started)


def _run(sweep: Sweep, session: Session, options: argparse.Namespace, *, absent: bool, started: float) -> int:
    store, name, total = session.store, sweep.name, len(sweep.trials)
    where = store.storage.where(name)
    mine = {spec.trial_id for spec in sweep.trials}
    for note in changes(sweep, store):
        print(note)
    left = _todo(sweep, store)
    todo = left - session.held
    session.holder.hold(todo)
    if elsewhere := len(left - todo):
        print(f"{elsewhere} of {total} VAEs of {name} are trained by {session.others[0].who}, and are left to it")
    if not todo:
        if not left:
            print(f"nothing to train: all {total} VAEs of {name} are in {where}")
        _describe(sweep, store, options)
        session.prune(set())
        draw_figures(store, sweep.figures, mine)
        return 1 if left else 0
    with ray_and_images(sweep, options, sweep.trials, absent=absent) as images:
        complete = _train(sweep, session, todo, options, images)
    left = _todo(sweep, store)
    print(f"{total - len(left)}/{total} VAEs of {name} in {where} after {clock(time.monotonic() - started)}")
    if len(left) < total:
        draw_figures(store, sweep.figures, mine)
    if left:
        print(f"{len(left)} VAEs are left; the same command goes on from here")
    return 0 if complete and not left else 1


def _describe(sweep: Sweep, store: SweepStore, options: argparse.Namespace) -> None:
    """Writes ``sweep.json`` where it is not that of this declaration: another one came last, or it is damaged."""
    try:
        is_mine = declared(store) == {spec.trial_id for spec in sweep.trials}
    except (StorageError, DataFormatError):
        is_mine = False
    if not is_mine:
        description = described(sweep, store, options, *resources.find_local_devices())
        store.write_sweep_json({**description, **listed(sweep.trials)})


@contextmanager
def ray_and_images(
    sweep: Sweep, options: argparse.Namespace, trials: Sequence[TrialSpec], members: int = 1, *, absent: bool
) -> Iterator[Callable[[], dict[str, Split]]]:
    """Ray, as long as the context lasts, and what gives the images, by ``data_key``.

    Args:
        trials: what is to be trained, for the memory of a worker: ``members`` of the largest must fit.
        absent: some images are not on this machine; they are got before Ray starts, and else while it does.

    Raises:
        SpecError: the memory is too small.
    """
    needed = bundle_bytes(largest(trials), members)
    if options.address in (None, "local") and not has_gpus():  # Ray counts the GPUs
        check_memory(trials, resources.find_local_devices(needed)[0], members)
    images = in_background(partial(load_images, sweep, options.data_dir))
    if absent:
        images.result()
    connect.connect(options.address, needed)
    try:
        check_memory(trials, resources.find_devices()[0], members)
        yield images.result
    finally:
        connect.disconnect()


def _todo(sweep: Sweep, store: SweepStore, *, retry_failed: bool = False) -> set[str]:
    return {spec.trial_id for spec in sweep.trials} - store.committed(retry_failed)


def _train(
    sweep: Sweep,
    session: Session,
    todo: set[str],
    options: argparse.Namespace,
    images: Callable[[], dict[str, Split]],
) -> bool:
    """Trains what is to do; True when no bundle was given up."""
    from vaegen_ray.service.driver.tune import fit
    from vaegen_ray.service.sampling.client import open_pools
    from vaegen_ray.service.worker import code_shipping

    store = session.store

    def images_of(model: DiffusionSpec) -> np.ndarray:
        return load_diffusion_images(model, options.data_dir)

    networks = code_shipping.pack(sweep.networks)
    code_shipping.check_on_cluster(networks, options.address)
    device, count = resources.find_devices()
    resources.check_precision((spec.precision for spec in sweep.trials), device)
    bundles = _bundles(sweep, store, todo, device, count, options.bundle_size)
    if note := smaller_bundles(sweep.trials, device, options.bundle_size):
        print(note)
    session.prune({bundle_id(bundle) for bundle in bundles})
    store.write_sweep_json({**described(sweep, store, options, device, count), **listed(sweep.trials)})
    earlier = len(sweep.trials) - len(todo)
    kept = f" ({earlier} more are done)" if earlier else ""
    print(
        f"{sweep.name}: {len(todo)} VAEs to train{kept} in {len(bundles)} bundles on {count} "
        f"{'GPUs' if device.kind == 'cuda' else 'CPU cores'}; results in {store.storage.where(sweep.name)}"
    )
    say = partial(_say_and_note, store)
    store.write_status({"time": time.time(), "preparing": "images are loaded"})
    splits = images()  # what is missing is told before anything is trained
    streams = [spec.stream for bundle in bundles for spec in bundle if spec.stream is not None]
    pools = open_pools(
        store.storage,
        sweep.name,
        streams,
        getattr(options, "samplers", None),
        images_of,
        say,
        checkpoint_seconds=options.checkpoint_seconds,
        evaluated={stream: _evaluated_on(stream, bundles, splits) for stream in streams},
    )
    progress = Progress(
        len(todo), [bundle_seconds(bundle, device) for bundle in bundles], [len(bundle) for bundle in bundles]
    )
    try:
        return fit(
            store,
            bundles,
            splits,
            device=device,
            progress=progress,
            checkpoint_seconds=options.checkpoint_seconds,
            save_every=options.save_every,
            tries=TRIES,
            pools=pools,
            networks=networks,
        )
    finally:
        for pool in pools.values():
            for note in pool.leave():
                progress.say(note)
        progress.close()


def _say_and_note(store: SweepStore, line: str) -> None:
    """Says what is done before VAEs are trained, also to those who watch the storage."""
    print(line, flush=True)
    try:
        store.write_status({"time": time.time(), "preparing": line})
    except StorageError as error:
        if error.final:
            raise


def described(
    sweep: Sweep, store: SweepStore, options: argparse.Namespace, device: Device, count: int
) -> dict[str, Any]:
    """What ``sweep.json`` says, the trials left out."""
    settings = {k: v for k, v in vars(options).items() if not k.startswith("_")}
    settings["storage"] = store.storage.name  # without the keys that a URI may hold
    return {
        "sweep": sweep.name,
        "options": settings,
        "code_version": code_version(),
        "networks": {network.name: [network.version, network.source] for network in sweep.networks},
        "versions": _versions(),
        "machine": {"node": platform.node(), "platform": platform.platform(), "cpus": os.cpu_count()},
        "devices": {"kind": device.kind, "count": count},
        "figures": sweep.figures,
    }


def _evaluated_on(stream: StreamSpec, bundles: list[Bundle], splits: dict[str, Split]) -> int:
    """Samples of a stream that evaluations read: as many as there are test images; a two-sample test as many again as
    there are training images."""
    numbers = []
    for spec in (spec for bundle in bundles for spec in bundle if spec.stream == stream):
        two_sample = spec.measures is not None and spec.measures.two_sample is not None
        numbers.append(len(splits[data_key(spec)].test) + (spec.n_train if two_sample else 0))
    return max(numbers)


def _bundles(
    sweep: Sweep, store: SweepStore, todo: set[str], device: Device, count: int, bundle_size: int | None
) -> list[Bundle]:
    by_id = {spec.trial_id: spec for spec in sweep.trials}
    started = []
    for ids in store.started_bundles().values():
        if all(trial_id in by_id for trial_id in ids):
            started.append(tuple(by_id[trial_id] for trial_id in ids))
    return remaining(pack(sweep.trials, device, count, bundle_size), todo, started)


def _versions() -> dict[str, str]:
    found: dict[str, str] = {"python": platform.python_version()}
    for name in ("vaegen-ray", "ray", "torch", "pyarrow", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
