"""The driver of an adaptive search.

    rows of the storage -> what was tried -> the next point -> Ray Tune (a Tune trial a point, its seeds one bundle)
             ^                                                        |
             +--------------------------- rows -----------------------+

As in ``runner``, the rows are all that counts: the same command goes on after any crash, with the history of the study.
"""

import argparse
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vaegen_ray.analysis.pareto import front, importances, points_of, searched
from vaegen_ray.analysis.statistics import mean_interval
from vaegen_ray.bundle.cost import Device, bundle_bytes, check_memory, largest
from vaegen_ray.bundle.evaluation_cost import bundle_seconds
from vaegen_ray.bundle.plan import hours
from vaegen_ray.code_version import code_version
from vaegen_ray.data.images import Split
from vaegen_ray.errors import SpecError
from vaegen_ray.reports.figures import draw_figures
from vaegen_ray.results import leftovers, query
from vaegen_ray.results.changes import changes
from vaegen_ray.results.search_history import History, declared_trials, history
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.search.search import BEGUN, COMPLETE, FAILED, STOPPED, Search, Tried
from vaegen_ray.search.space import point_text
from vaegen_ray.search.suggest import check_optuna, suggest
from vaegen_ray.service.cluster import resources
from vaegen_ray.service.driver.dry_run import as_fast_as_here, planned_devices
from vaegen_ray.service.driver.progress import Progress
from vaegen_ray.service.driver.session import SEARCH, Session, open_session
from vaegen_ray.service.driver.sweep import TRIES, check_networks, described, is_present, ray_and_images
from vaegen_ray.spec.trial import bundle_id
from vaegen_ray.text import clock

if TYPE_CHECKING:
    import pandas as pd

NEXT = 5
"""Points that a dry run names."""
TYPICAL = 100
"""Points at random whose expected time stands for all of them."""


def run(search: Search, options: argparse.Namespace) -> int:
    """Tries points until there are as many as the budget says; returns the exit code (0: it is used up)."""
    started = time.monotonic()
    check_optuna()
    check_networks(search.sweep)
    if options.bundle_size is not None:
        raise SpecError(
            f"--bundle-size is not for a search, where a point's seeds are one bundle; got {options.bundle_size}"
        )
    if options.dry_run:
        print(plan(search, options))
        return 0
    dataset = search.fields["dataset"]
    absent = not is_present(dataset, options.data_dir)
    storage = Storage.open(options.storage)
    storage.probe()
    leftovers.sweep(storage, search.name)
    with open_session(storage, search.name, SEARCH, options) as session:
        return _run(search, session, options, absent=absent, started=started)


def _run(search: Search, session: Session, options: argparse.Namespace, *, absent: bool, started: float) -> int:
    store, where = session.store, session.store.storage.where(search.name)
    for note in changes(search.sweep, store):
        print(note)
    known = history(store, search)
    session.prune({bundle_id(known.todo(search, tried.point)) for tried in known.begun})
    if len(known.done) >= search.points:
        print(f"nothing to try: {_counted(known)} of {search.name} are in {where}")
        _describe(search, store, known, options)
        _conclude(search, store, known)
        return 0
    corners = [search.specs(corner)[0] for corner in search.space.corners]
    with ray_and_images(search.sweep, options, corners, search.seeds, absent=absent) as images:
        complete = _search(search, store, known, options, images)
    known = history(store, search)
    took = clock(time.monotonic() - started)
    print(f"{search.name}: {_counted(known)} of a budget of {search.points:,} in {where} after {took}")
    _conclude(search, store, known)
    if left := search.points - len(known.done):
        print(f"{_points(left)} left; the same command goes on from here")
    return 0 if complete and not left else 1


def _search(
    search: Search,
    store: SweepStore,
    known: History,
    options: argparse.Namespace,
    images: Callable[[], dict[str, Split]],
) -> bool:
    """Tries what is left of the budget; True when no point was given up."""
    from vaegen_ray.service.driver.search_state import Course
    from vaegen_ray.service.driver.searcher import queue_of, rule_of
    from vaegen_ray.service.driver.tune import fit
    from vaegen_ray.service.worker import code_shipping

    networks = code_shipping.pack(search.sweep.networks)
    code_shipping.check_on_cluster(networks, options.address)
    device, count = resources.find_devices()
    resources.check_precision((spec.precision for spec in search.sweep.trials), device)
    course = Course(
        search,
        store,
        rule_of(search.scheduler, len(search.fields["evaluate_at"])),
        described(search.sweep, store, options, device, count),
        code_version(),
    )
    concurrent = min(count, options.concurrent or count)
    queue = queue_of(course, count, options.concurrent)
    earlier = f" ({_counted(known)} before)" if known.done else ""
    print(
        f"{search.name}: {_points(course.left)} of {search.seeds} VAEs to try{earlier}, {concurrent} at a time; "
        f"results in {store.storage.where(search.name)}"
    )
    store.write_status({"time": time.time(), "preparing": "images are loaded"})
    splits = images()
    progress = Progress(sum(queue.members), [1.0] * len(queue.members), queue.members)
    try:
        return fit(
            store,
            [],
            splits,
            device=device,
            progress=progress,
            checkpoint_seconds=options.checkpoint_seconds,
            save_every=options.save_every,
            tries=TRIES,
            pools={},
            networks=networks,
            queue=queue,
        )
    finally:
        progress.close()


def _describe(search: Search, store: SweepStore, known: History, options: argparse.Namespace) -> None:
    """Makes ``sweep.json``, which says what is drawn, that of this search, where another one in the folder came last,
    or where it is damaged."""
    mine = search.listed(known.tried)
    if {spec.trial_id for spec in declared_trials(store)} != set(mine["trial_ids"]):
        store.write_sweep_json({**described(search.sweep, store, options, *resources.find_local_devices()), **mine})


def _counted(known: History) -> str:
    counts = [(status, sum(tried.status == status for tried in known.done)) for status in (COMPLETE, STOPPED, FAILED)]
    words = ", ".join(f"{number} {status}" for status, number in counts if number)
    return f"{_points(len(known.done))} ({words})" if words else "no points"


def _points(number: int) -> str:
    return f"{number:,} point{'s' * (number != 1)}"


def _conclude(search: Search, store: SweepStore, known: History) -> None:
    """Says which points are the best, and draws."""
    complete = [tried for tried in known.done if tried.status == COMPLETE]
    if not complete:
        return
    last = query.load(store.storage, store.name).last().set_index("trial_id")
    rows = last.loc[[spec.trial_id for tried in complete for spec in search.specs(tried.point)]]
    points = points_of(rows)
    best = max(complete, key=lambda tried: tried.value or 0.0)
    print(f"best point     {point_text(best.point)}: {search.parameters(best.point):,} parameters")
    mine = rows.loc[[spec.trial_id for spec in search.specs(best.point)]]
    print(f"validation     {_interval(mine['elbo_validation'])}, of {len(points)} points the best by this number")
    print(f"test           {_interval(mine['elbo_test'])}, which nothing was chosen by")
    if weights := importances(points):
        print("mattered       " + ", ".join(f"{name} {100 * part:.0f} %" for name, part in weights.items()))
    if search.several:
        for point in points[front(points)].sort_values("params_total").to_dict("records"):
            named = ", ".join(f"{name} {point[name]}" for name in searched(points))
            print(f"front          {point['params_total']:,} parameters, {point['elbo_validation']:.2f}: {named}")
    draw_figures(store, search.figures)


def _interval(elbos: "pd.Series") -> str:
    """Mean and 95 % interval over seeds."""
    mean = f"{elbos.mean():.2f} nats an image"
    if len(elbos) < 2:
        return f"{mean} (1 VAE)"
    _, low, high = mean_interval(list(elbos))
    return f"{mean} (95 % interval over {len(elbos)} VAEs {low:.2f} to {high:.2f})"


def plan(search: Search, options: argparse.Namespace) -> str:
    """What a search would do, in several lines; nothing is started or written."""
    store = SweepStore(Storage.open(options.storage, create=False), search.name)
    known = History() if options.fresh else history(store, search, retry_failed=options.retry_failed)
    corners = [search.specs(corner)[0] for corner in search.space.corners]
    device, count = planned_devices(options, bundle_bytes(largest(corners), search.seeds))
    check_memory(corners, device, search.seeds)
    concurrent = min(count, options.concurrent or count)
    fields, left = search.fields, max(0, search.points - len(known.done))
    lines = [
        f"sweep          {search.name}: {fields['dataset']} ({fields['n_train']:,} training images, of which "
        f"{fields['validation']:,} for validation), {fields['architecture']}, {fields['likelihood']}",
        f"objectives     {search.objectives} (elbo: on the validation part, mean of {search.seeds} VAEs)",
        f"sampler        {search.sampler}, {_points(concurrent)} at a time; early stopping: {search.scheduler}",
        *(f"{'space' if not i else '':14} {each}" for i, each in enumerate(search.space.dimensions)),
        f"               {search.space.size:,} points",
        f"budget         {search.points:,} points of {search.seeds} VAEs of {fields['epochs']:,} epochs, "
        f"{left:,} to try; done: {_counted(known)}; begun: {len(known.begun)}",
    ]
    if not left:
        return "\n".join([*lines, "nothing to try"])
    device = as_fast_as_here(device)
    seconds = _typical_seconds(search, device)
    unit = "GPU" if device.kind == "cuda" else "CPU core"
    lines.append(
        f"expected       {hours(left * seconds / concurrent)} on {concurrent} {unit}{'s' * (concurrent > 1)}, "
        f"{seconds:.3g} s a point at random ({'measured' if device.measured else 'assumed'} costs); early stopping "
        f"and Ray's start not counted"
    )
    lines += [f"next           {point_text(tried.point)}" for tried in _next(search, known, min(NEXT, left))]
    return "\n".join(lines)


def _next(search: Search, known: History, count: int) -> list[Tried]:
    """The points that come first: those that were begun, then what is suggested while these are under way."""
    coming = list(known.begun[:count])
    while len(coming) < count:
        coming.append(Tried(point=suggest(search, [*known.done, *coming]), status=BEGUN))
    return coming


def _typical_seconds(search: Search, device: Device) -> float:
    """Expected seconds of a point at random."""
    generator = random.Random(0)
    points = [search.space.at_random(generator) for _ in range(TYPICAL)]
    return sum(bundle_seconds(search.specs(point), device) for point in points) / TYPICAL
