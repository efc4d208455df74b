"""The driver of an adaptive search.

    rows of the storage -> what was tried -> the next point -> Ray Tune (a Tune trial a point, its seeds one bundle)
             ^                                                        |
             +--------------------------- rows -----------------------+

As in ``sweep``, the rows are all that counts: rerun the command to resume a search after any crash.
"""

import logging
import random
from typing import TYPE_CHECKING

from vaegen_ray.analysis.pareto import compute_importances, find_pareto_front, find_points, find_searched_columns
from vaegen_ray.analysis.statistics import mean_interval
from vaegen_ray.bundle.cost import Device, bundle_bytes, check_memory, largest
from vaegen_ray.bundle.evaluation_cost import bundle_seconds
from vaegen_ray.bundle.plan import hours
from vaegen_ray.code_version import code_version
from vaegen_ray.errors import SpecError
from vaegen_ray.reports.figures import draw_figures
from vaegen_ray.results import query
from vaegen_ray.results.search_history import History, history
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.search.search import PointRecord, PointStatus, Search
from vaegen_ray.search.space import point_text
from vaegen_ray.search.suggest import check_optuna, suggest
from vaegen_ray.service.config import RunConfig, RunReport
from vaegen_ray.service.driver.dry_run import as_fast_as_here, planned_devices
from vaegen_ray.service.driver.session import SEARCH, Session, open_session
from vaegen_ray.service.driver.workers import Workers, start_workers
from vaegen_ray.service.inputs import check_networks
from vaegen_ray.spec.trial import bundle_id
from vaegen_ray.text import clock

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

NEXT = 5
"""Points that a dry run names."""
TYPICAL = 100
"""Points at random whose expected time stands for all of them."""


def run(search: Search, config: RunConfig) -> RunReport:
    """Evaluates points until there are as many as the budget says, and draws the figures.

    Raises:
        VaegenError: an input is missing or wrong, another driver runs, or the storage refuses for good.
        Stopped: a signal arrived; running bundles have saved a checkpoint.
    """
    check_optuna()
    check_config(config)
    with open_session(search.sweep, config, SEARCH) as session:
        known = history(session.store, search)
        session.prune({bundle_id(known.todo(search, tried.point)) for tried in known.begun})
        no_errors = True
        if len(known.done) < search.points:
            corners = [search.specs(corner)[0] for corner in search.space.corners]
            with start_workers(session, corners, search.seeds) as workers:
                no_errors = _search(search, session, known, workers)
            known = history(session.store, search)
            budget = f"{_counted(known)} of a budget of {search.points:,}"
            logger.info(f"{search.name}: {budget} in {session.where} after {clock(session.seconds)}")
        else:
            logger.info(f"nothing to try: {_counted(known)} of {search.name} are in {session.where}")
            session.restore_declaration(search.list_trials(known.tried), planned=search.planned)
        _report_best(search, session.store, known)
        report = RunReport(
            sweep=search.name,
            where=session.where,
            total=search.points,
            committed=min(len(known.done), search.points),
            seconds=session.seconds,
            abandoned=not no_errors,
        )
        if report.left:
            logger.info(f"{_points(report.left)} left; rerun the command to resume")
        return report


def check_config(config: RunConfig) -> None:
    """Whether a search can be run in this way.

    Raises:
        SpecError: it cannot.
    """
    if config.bundle_size is not None:
        raise SpecError(
            f"--bundle-size is not for a search, where a point's seeds are one bundle; got {config.bundle_size}"
        )


def _search(search: Search, session: Session, known: History, workers: Workers) -> bool:
    """Evaluates the rest of the budget; False when a point was given up."""
    from vaegen_ray.service.driver.search_state import SearchState
    from vaegen_ray.service.driver.searcher import build_queue, find_rule
    from vaegen_ray.service.driver.tune import fit

    concurrent = session.config.concurrent
    course = SearchState(
        search,
        session.store,
        find_rule(search.scheduler, len(search.fields["evaluate_at"])),
        session.describe(workers.device, workers.count),
        code_version(),
    )
    queue = build_queue(course, workers.count, concurrent)
    earlier = f" ({_counted(known)} before)" if known.done else ""
    logger.info(
        f"{search.name}: {_points(course.left)} of {search.seeds} VAEs to try{earlier}, "
        f"{min(workers.count, concurrent or workers.count)} at a time; results in {session.where}"
    )
    session.write_preparing("images are loaded")
    images = workers.images()
    return fit(session, workers, queue, images, seconds=[1.0] * len(queue.members))


def _counted(known: History) -> str:
    counts = [
        (status, sum(tried.status == status for tried in known.done))
        for status in (PointStatus.COMPLETE, PointStatus.PRUNED, PointStatus.FAILED)
    ]
    words = ", ".join(f"{number} {status}" for status, number in counts if number)
    return f"{_points(len(known.done))} ({words})" if words else "no points"


def _points(number: int) -> str:
    return f"{number:,} point{'s' * (number != 1)}"


def _report_best(search: Search, store: SweepStore, known: History) -> None:
    """Says which points are the best, and draws."""
    complete = [tried for tried in known.done if tried.status == PointStatus.COMPLETE]
    if not complete:
        return
    last = query.load(store.storage, store.name).last().set_index("trial_id")
    rows = last.loc[[spec.trial_id for tried in complete for spec in search.specs(tried.point)]]
    points = find_points(rows)
    best = max(complete, key=lambda tried: tried.value or 0.0)
    logger.info(f"best point     {point_text(best.point)}: {search.parameters(best.point):,} parameters")
    mine = rows.loc[[spec.trial_id for spec in search.specs(best.point)]]
    logger.info(f"validation     {_interval(mine['elbo_validation'])}, of {len(points)} points the best by this number")
    logger.info(f"test           {_interval(mine['elbo_test'])}, which nothing was chosen by")
    if weights := compute_importances(points):
        logger.info("mattered       " + ", ".join(f"{name} {100 * part:.0f} %" for name, part in weights.items()))
    if search.several:
        for point in points[find_pareto_front(points)].sort_values("params_total").to_dict("records"):
            named = ", ".join(f"{name} {point[name]}" for name in find_searched_columns(points))
            logger.info(f"front          {point['params_total']:,} parameters, {point['elbo_validation']:.2f}: {named}")
    draw_figures(store, search.figures)


def _interval(elbos: "pd.Series") -> str:
    """Mean and 95 % interval over seeds."""
    mean = f"{elbos.mean():.2f} nats an image"
    if len(elbos) < 2:
        return f"{mean} (1 VAE)"
    _, low, high = mean_interval(list(elbos))
    return f"{mean} (95 % interval over {len(elbos)} VAEs {low:.2f} to {high:.2f})"


def plan(search: Search, config: RunConfig) -> str:
    """What a search would do, in several lines; nothing is started or written."""
    check_optuna()
    check_config(config)
    check_networks(search.sweep)
    store = SweepStore(Storage.open(config.storage, create=False), search.name)
    known = History() if config.fresh else history(store, search, retry_failed=config.retry_failed)
    corners = [search.specs(corner)[0] for corner in search.space.corners]
    device, count = planned_devices(config, bundle_bytes(largest(corners), search.seeds))
    check_memory(corners, device, search.seeds)
    concurrent = min(count, config.concurrent or count)
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


def _next(search: Search, known: History, count: int) -> list[PointRecord]:
    """The points that come first: those that were begun, then what is suggested while these are under way."""
    coming = list(known.begun[:count])
    while len(coming) < count:
        coming.append(PointRecord(point=suggest(search, [*known.done, *coming]), status=PointStatus.BEGUN))
    return coming


def _typical_seconds(search: Search, device: Device) -> float:
    """Expected seconds of a point at random."""
    generator = random.Random(0)
    points = [search.space.at_random(generator) for _ in range(TYPICAL)]
    return sum(bundle_seconds(search.specs(point), device) for point in points) / TYPICAL
