"""The driver of a sweep.

    declare -> trials - committed = to do -> bundles -> Ray Tune (a Tune trial a bundle)
                          ^                                        |
                          |                               rows in the storage -> figures
                          +---------------- rerun -----------------+

The to-do is the declared trials minus the committed ones. Start, resume after any crash, extension of a sweep and
repetition of a failed part are all this one subtraction; nothing depends on Tune's own snapshots.
"""

import logging
from collections.abc import Iterable

from vaegen_ray.bundle.evaluation_cost import bundle_seconds
from vaegen_ray.bundle.packing import Bundle, pack, remaining, smaller_bundles
from vaegen_ray.data.images import Split
from vaegen_ray.reports.figures import draw_figures
from vaegen_ray.service.config import RunConfig, RunReport
from vaegen_ray.service.driver.dry_run import plan as plan
from vaegen_ray.service.driver.session import Session, open_session
from vaegen_ray.service.driver.workers import Workers, start_workers
from vaegen_ray.service.inputs import load_diffusion_images
from vaegen_ray.spec.diffusion import StreamSpec
from vaegen_ray.spec.trial import bundle_id
from vaegen_ray.sweep.sweep import Sweep, data_key
from vaegen_ray.text import clock

logger = logging.getLogger(__name__)


def run(sweep: Sweep, config: RunConfig) -> RunReport:
    """Trains the trials of a sweep that are not committed yet, and draws its figures.

    Raises:
        VaegenError: an input is missing or wrong, Ray does not start, or the storage refuses for good.
        Stopped: a signal arrived; running bundles have saved a checkpoint.
    """
    with open_session(sweep, config) as session:
        ids = {spec.trial_id for spec in sweep.trials}
        left = _find_todo(session)
        todo = left - session.held
        session.lease.hold(todo)
        if elsewhere := len(left - todo):
            owner = session.others[0].who
            logger.info(f"{elsewhere} of {len(ids)} VAEs of {sweep.name} are trained by {owner}, and are left to it")
        no_errors = True
        if todo:
            with start_workers(session, sweep.trials) as workers:
                no_errors = _train(session, todo, workers)
            left = _find_todo(session)
            done = len(ids) - len(left)
            logger.info("%d/%d VAEs of %s in %s after %s", done, len(ids), sweep.name, session.where,
                        clock(session.seconds))  # fmt: skip
        else:
            if not left:
                logger.info("nothing to train: all %d VAEs of %s are in %s", len(ids), sweep.name, session.where)
            session.restore_declaration(sweep.trials)
            session.prune(set())
        if not todo or len(left) < len(ids):
            draw_figures(session.store, sweep.figures, ids)
        if todo and left:
            logger.info("%d VAEs are left; rerun the command to resume", len(left))
        return RunReport(
            sweep=sweep.name,
            where=session.where,
            total=len(ids),
            committed=len(ids) - len(left),
            seconds=session.seconds,
            abandoned=not no_errors,
        )


def _find_todo(session: Session) -> set[str]:
    return {spec.trial_id for spec in session.sweep.trials} - session.store.committed()


def _train(session: Session, todo: set[str], workers: Workers) -> bool:
    """Trains what is to do; False when a bundle was given up."""
    from vaegen_ray.service.driver.tune import Queue, fit
    from vaegen_ray.service.sampling.client import open_pools

    sweep, store, config = session.sweep, session.store, session.config
    bundles = _pack(session, todo, workers)
    if note := smaller_bundles(sweep.trials, workers.device, config.bundle_size):
        logger.info(note)
    session.prune({bundle_id(bundle) for bundle in bundles})
    store.write_declaration(session.describe(workers.device, workers.count).with_trials(sweep.trials))
    earlier = len(sweep.trials) - len(todo)
    done = f" ({earlier} more are done)" if earlier else ""
    logger.info(
        f"{sweep.name}: {len(todo)} VAEs to train{done} in {len(bundles)} bundles on {workers}; "
        f"results in {session.where}"
    )
    session.write_preparing("images are loaded")
    images = workers.images()
    streams = [spec.stream for bundle in bundles for spec in bundle if spec.stream is not None]
    pools = open_pools(
        store.storage,
        sweep.name,
        streams,
        config.samplers,
        lambda model: load_diffusion_images(model, config.data_dir),
        session.note,
        checkpoint_seconds=config.checkpoint_seconds,
        evaluated={stream: _count_evaluated_samples(stream, bundles, images) for stream in streams},
    )
    try:
        seconds = [bundle_seconds(bundle, workers.device) for bundle in bundles]
        return fit(session, workers, Queue.from_bundles(bundles), images, seconds=seconds, pools=pools)
    finally:
        for pool in pools.values():
            for note in pool.leave():
                logger.info(note)


def _pack(session: Session, todo: set[str], workers: Workers) -> list[Bundle]:
    """The bundles of what is to do; those with a checkpoint keep their members and come first."""
    trials = {spec.trial_id: spec for spec in session.sweep.trials}
    started = [
        tuple(trials[trial_id] for trial_id in ids)
        for ids in session.store.started_bundles().values()
        if all(trial_id in trials for trial_id in ids)
    ]
    bundles = pack(session.sweep.trials, workers.device, workers.count, session.config.bundle_size)
    return remaining(bundles, todo, started)


def _count_evaluated_samples(stream: StreamSpec, bundles: Iterable[Bundle], images: dict[str, Split]) -> int:
    """Samples of a stream that evaluations read: as many as test images; for a two-sample test, as many as training
    images in addition."""
    counts = []
    for spec in (spec for bundle in bundles for spec in bundle if spec.stream == stream):
        two_sample = spec.measures is not None and spec.measures.two_sample is not None
        counts.append(len(images[data_key(spec)].test) + (spec.n_train if two_sample else 0))
    return max(counts)
