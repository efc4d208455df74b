"""A worker is killed at everything that it writes, and again and again for its memory: the rows of an undisturbed one.

Without Ray: a kill is an error that nothing in the package catches.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.errors import StorageError
from vaegen_ray.results import query
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.serialization import unpack
from vaegen_ray.service.worker import bundle_worker as worker_module
from vaegen_ray.service.worker.bundle_worker import Worker
from vaegen_ray.spec.evaluation import EvaluationSettings, Reconstruction
from vaegen_ray.spec.trial import TrialSpec

BUNDLE = tuple(
    TrialSpec(
        nc=4,
        n_train=40,
        batch_size=20,
        epochs=3,
        evaluate_at=(1, 2, 3),
        seed=seed,
        measures=EvaluationSettings(reconstruction=Reconstruction(shown=1)),
    )
    for seed in range(4)
)
VARIES = ["wall_seconds", "evaluation_seconds", "finished_at"]
NUMBERS = ["elbo_train", "elbo_test", "rate_test", "distortion_test"]


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


def find_split(spec: TrialSpec) -> Split:
    draw = np.random.default_rng(0)
    sets = [ImageSet(images=draw.integers(0, 2, (n, 1, 8, 8), dtype=np.uint8), levels=2) for n in (40, 20)]
    return Split(train=sets[0], test=sets[1])


def work(folder: Path, run: str = "") -> Worker:
    """A new worker takes on the bundle and trains it to the end, with a checkpoint at every report."""
    worker = Worker(
        SweepStore(Storage.open(folder), "s"),
        find_split,
        device=torch.device("cpu"),
        code_version="test",
        checkpoint_seconds=0.0,
        save_every=2,
        run=run,
    )
    worker.start(BUNDLE)
    while not worker.finished:
        worker.advance(0.0)
    return worker


def raw(folder: Path, kind: str) -> pd.DataFrame:
    """The rows as they lie in the files, sorted; nothing removed but times."""
    rows = pd.concat([pd.read_parquet(path) for path in sorted((folder / "s" / kind).glob("*.parquet"))])
    rows = rows.drop(columns=[name for name in VARIES if name in rows])
    keys = [name for name in ("trial_id", "effective_epoch", "quantity", "item") if name in rows]
    return rows.sort_values(keys).reset_index(drop=True)


def assert_same(folder: Path, expected: Path) -> None:
    for kind in ("trials", "metrics", "details"):
        pd.testing.assert_frame_equal(raw(folder, kind), raw(expected, kind), check_exact=True)
    got, wanted = (
        {path.name: unpack(path.read_bytes(), path.name) for path in (each / "s/models").iterdir()}
        for each in (folder, expected)
    )
    assert got.keys() == wanted.keys()
    for name, (tensors, values) in got.items():
        assert values == wanted[name][1]
        assert all(torch.equal(tensor, wanted[name][0][key]) for key, tensor in tensors.items())
    assert list((folder / "s/checkpoints").iterdir()) == [], "a checkpoint outlives its bundle"


def assert_every_trial_once(folder: Path, members: int) -> None:
    assert sorted(raw(folder, "trials")["seed"]) == [0, 1, 2, 3]
    assert set(raw(folder, "trials")["bundle_members"]) == {members}
    assert not raw(folder, "metrics").duplicated(["trial_id", "effective_epoch"]).any()
    assert list((folder / "s/checkpoints").iterdir()) == []


def changes(monkeypatch: pytest.MonkeyPatch, kill_at: int = -1) -> list[str]:
    """Lists the changes of the storage, in order; the worker is killed in place of the ``kill_at``-th one."""
    made: list[str] = []

    def listed(verb: str, change: Callable[..., None]) -> Callable[..., None]:
        def wrapped(storage: Storage, path: str, *more: Any) -> None:
            made.append(f"{verb} {path.split('/')[1]}")
            if len(made) - 1 == kill_at:
                raise Killed
            change(storage, path, *more)

        return wrapped

    for verb in ("write", "delete"):
        monkeypatch.setattr(Storage, verb, listed(verb, getattr(Storage, verb)))
    return made


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        made = changes(patch)
        work(folder)
    return folder, made


def test_the_order_of_writing_is_what_a_commit_needs(undisturbed: tuple[Path, list[str]]) -> None:
    _, made = undisturbed
    commit = made.index("write trials")
    assert made.count("write trials") == 1
    for kind in ("details", "metrics", "models"):
        assert f"write {kind}" in made[:commit] and f"write {kind}" not in made[commit:]
    assert {"write checkpoints", "write starts"} <= set(made[:commit])
    assert set(made[commit + 1 :]) == {"delete checkpoints", "delete starts"}


FEW_OR_ALL = pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda made: sorted({made.index(change) for change in made}), id="first-of-each-kind"),
        pytest.param(lambda made: range(len(made)), id="all", marks=pytest.mark.slow),
    ],
)
Choose = Callable[[list[str]], Iterable[int]]


@FEW_OR_ALL
def test_a_kill_at_any_write_changes_no_row(
    choose: Choose, undisturbed: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a write is after the one before it."""
    expected, made = undisturbed
    for number in choose(made):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            changes(patch, number)
            work(folder)
        work(folder)
        assert_same(folder, expected)


def kill_above(monkeypatch: pytest.MonkeyPatch, members: int, epoch: int = 0) -> list[int]:
    """Workers with more members are killed, from an effective epoch on. Returns the members of those that were."""
    killed: list[int] = []
    advance = BundleRun.advance

    def hungry(run: BundleRun, seconds: float) -> None:
        if len(run.specs) > members and run.trainer.epoch >= epoch:
            killed.append(len(run.specs))
            raise Killed
        advance(run, seconds)

    monkeypatch.setattr(worker_module.BundleRun, "advance", hungry)
    return killed


def until_it_lives(folder: Path, run: str = "") -> Worker:
    for _ in range(20):
        try:
            return work(folder, run)
        except Killed:
            pass
    raise AssertionError("the bundle is never finished")


def test_workers_that_are_killed_again_and_again_leave_halves(
    undisturbed: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two deaths a size, all parts of a size at once."""
    killed = kill_above(monkeypatch, 1)
    worker = until_it_lives(tmp_path)
    assert killed == [4, 4, 2, 2]
    assert any("2 workers with 2 members were lost" in note for note in worker.notes)
    assert_every_trial_once(tmp_path, 1)
    numbers = [query.load(folder, "s").metrics[NUMBERS] for folder in (tmp_path, undisturbed[0])]
    np.testing.assert_allclose(*numbers, rtol=1e-4)


def test_halves_go_on_from_the_checkpoint_of_the_whole(
    undisturbed: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps are trained once: from the death on the seconds are those of halves."""
    killed = kill_above(monkeypatch, 2, epoch=2)
    begun_at: list[int] = []
    begin = Worker._begin

    def watched(worker: Worker, bundle: tuple[TrialSpec, ...]) -> BundleRun:
        run = begin(worker, bundle)
        begun_at.append(run.trainer.epoch)
        return run

    monkeypatch.setattr(Worker, "_begin", watched)
    until_it_lives(tmp_path)
    assert killed == [4, 4, 4], "the first death came after a checkpoint, so two more are counted"
    assert begun_at[0] == 0 and set(begun_at[1:]) == {2}
    assert_every_trial_once(tmp_path, 2)
    numbers = [query.load(folder, "s").metrics[NUMBERS] for folder in (tmp_path, undisturbed[0])]
    np.testing.assert_allclose(*numbers, rtol=1e-4)


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda made: [made.index("write trials") + 1], id="first-half-committed"),
        pytest.param(lambda made: range(len(made)), id="all", marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_write_of_halves_leaves_every_trial_once(
    choose: Choose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle out of memory, killed on its way as halves; the next worker may have memory for the whole."""

    def work_in_little_memory(folder: Path, kill_at: int = -1) -> list[str]:
        with monkeypatch.context() as patch:
            made = changes(patch, kill_at)
            advance = BundleRun.advance

            def little(run: BundleRun, seconds: float) -> None:
                if len(run.specs) > 2:
                    raise torch.OutOfMemoryError("tried to allocate")
                advance(run, seconds)

            patch.setattr(worker_module.BundleRun, "advance", little)
            work(folder)
        return made

    made = work_in_little_memory(tmp_path / "undisturbed")
    for number in choose(made):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            work_in_little_memory(folder, number)
        work(folder)
        trials = raw(folder, "trials")
        assert sorted(trials["seed"]) == [0, 1, 2, 3], f"killed at {number}, {made[number]}"
        assert not raw(folder, "metrics").duplicated(["trial_id", "effective_epoch"]).any(), made[number]


def test_deaths_in_other_runs_and_errors_do_not_count(
    undisturbed: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stops the command three times has not run out of memory, nor has a full disk."""
    with monkeypatch.context() as patch:
        kill_above(patch, 2)
        for run in ("one", "two", "three"):
            with pytest.raises(Killed):
                work(tmp_path, run)

    def full(*args: object, **options: object) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(SweepStore, "write_metrics", full)
        for _ in range(3):
            with pytest.raises(StorageError):
                work(tmp_path, "four")
    work(tmp_path, "four")
    assert_same(tmp_path, undisturbed[0])
