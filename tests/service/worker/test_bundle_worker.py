"""A worker without Ray: commits, checkpoints, damaged checkpoints, out of memory."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vaegen_ray.bundle import run as run_module
from vaegen_ray.bundle.run import BundleRun
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.errors import StorageError
from vaegen_ray.models.vae import VAE
from vaegen_ray.results import query
from vaegen_ray.results.store import Storage, SweepStore
from vaegen_ray.serialization import unpack
from vaegen_ray.service.worker import bundle_worker as worker_module
from vaegen_ray.service.worker.bundle_worker import Worker
from vaegen_ray.spec.trial import TrialSpec, bundle_id
from vaegen_ray.training.trainer import Trainer

BUNDLE = tuple(
    TrialSpec(nc=4, n_train=60, batch_size=20, epochs=6, evaluate_at=(1, 3, 6), seed=seed) for seed in range(4)
)
VARIES = ["wall_seconds", "evaluation_seconds", "finished_at"]


def find_split(spec: TrialSpec) -> Split:
    draw = np.random.default_rng(0)
    sets = [ImageSet(images=draw.integers(0, 2, (n, 1, 8, 8), dtype=np.uint8), levels=2) for n in (60, 40)]
    return Split(train=sets[0], test=sets[1])


def worker_at(folder: Path) -> Worker:
    store = SweepStore(Storage.open(folder), "s")
    return Worker(store, find_split, device=torch.device("cpu"), code_version="test", checkpoint_seconds=1e9)


def work(worker: Worker, seconds: float = 60.0) -> Worker:
    worker.start(BUNDLE)
    while not worker.finished:
        worker.advance(seconds)
    return worker


def frames(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = query.load(folder, "s")
    return found.trials.drop(columns=VARIES), found.metrics


def assert_equal_rows(folder: Path, other: Path) -> None:
    for got, wanted in zip(frames(folder), frames(other), strict=True):
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    work(worker_at(folder))
    return folder


def test_a_bundle_ends_committed(undisturbed: Path) -> None:
    trials, metrics = frames(undisturbed)
    assert sorted(trials["seed"]) == [0, 1, 2, 3]
    assert set(trials["status"]) == {"completed"}
    assert set(trials["params_total"]) == {trials["params_z"][0] + trials["params_rest"][0]}
    assert len(metrics) == 4 * 3
    store = SweepStore(Storage.open(undisturbed), "s")
    assert store.read_model(bundle_id(BUNDLE)) is not None
    assert store.checkpoints() == [] and store.started_bundles() == {}


def test_weights_are_kept_at_the_evaluations_that_are_asked_for(tmp_path: Path, undisturbed: Path) -> None:
    """Killed and resumed on the way, the same files: those of epoch 6 are those of the end."""
    store = SweepStore(Storage.open(tmp_path), "s")
    make = lambda: Worker(  # noqa: E731
        store, find_split, device=torch.device("cpu"), code_version="test", checkpoint_seconds=1e-9, save_every=3
    )
    first = make()
    first.start(BUNDLE)
    while store.read_model(bundle_id(BUNDLE), 3) is None:
        first.advance(1e-9)
    at_three = store.read_model(bundle_id(BUNDLE), 3)
    work(make())  # from the checkpoint of the worker that was dropped
    assert store.read_model(bundle_id(BUNDLE), 1) is None
    assert_same_weights(store.read_model(bundle_id(BUNDLE), 3), at_three)
    assert_same_weights(store.read_model(bundle_id(BUNDLE), 6), store.read_model(bundle_id(BUNDLE)))
    with pytest.raises(AssertionError):
        assert_same_weights(at_three, store.read_model(bundle_id(BUNDLE)))
    assert_equal_rows(tmp_path, undisturbed)


def assert_same_weights(one: bytes | None, other: bytes | None) -> None:
    assert one is not None and other is not None
    (ours, values), (theirs, others) = (unpack(data, "weights") for data in (one, other))
    assert values == others and ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_progress_counts_members(tmp_path: Path) -> None:
    worker = worker_at(tmp_path)
    worker.start(BUNDLE)
    assert worker.progress == {"finished_members": 0, "fraction": 0.0, "resumed": 0.0, "whole": False, "validation": []}
    while not worker.finished:
        worker.advance(60.0)
    assert worker.progress == {"finished_members": 4, "fraction": 1.0, "resumed": 0.0, "whole": False, "validation": []}


def test_progress_tells_what_an_earlier_worker_did(tmp_path: Path) -> None:
    first, second = worker_at(tmp_path), worker_at(tmp_path)
    first.start(BUNDLE)
    first.advance(0.0)
    first.save_checkpoint()
    done = first.progress["fraction"]
    second.start(BUNDLE)
    second.advance(0.0)
    assert 0.0 < done < 1.0 and second.progress["resumed"] == pytest.approx(done)
    assert second.progress["fraction"] > done


@pytest.mark.parametrize("slices", [1, 3, 6])
def test_an_interrupted_worker_loses_nothing(slices: int, undisturbed: Path, tmp_path: Path) -> None:
    first = worker_at(tmp_path)
    first.start(BUNDLE)
    for _ in range(slices):
        first.advance(0.0)
    first.save_checkpoint()
    assert SweepStore(Storage.open(tmp_path), "s").started_bundles() == {
        bundle_id(BUNDLE): [spec.trial_id for spec in BUNDLE]
    }
    work(worker_at(tmp_path))
    assert_equal_rows(tmp_path, undisturbed)


def test_a_damaged_checkpoint_is_set_aside_and_the_bundle_starts_anew(undisturbed: Path, tmp_path: Path) -> None:
    first = worker_at(tmp_path)
    first.start(BUNDLE)
    first.advance(0.0)
    first.save_checkpoint()
    path = tmp_path / "s" / "checkpoints" / f"{bundle_id(BUNDLE)}.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    second = work(worker_at(tmp_path))
    assert any("damaged" in note for note in second.notes)
    assert list((tmp_path / "s" / "set-aside").iterdir())
    assert_equal_rows(tmp_path, undisturbed)


def test_metrics_that_are_lost_while_a_bundle_waits_are_written_again(undisturbed: Path, tmp_path: Path) -> None:
    """Its checkpoint has the rows: a deleted file and a damaged one come back, and that is said."""
    first = worker_at(tmp_path)
    first.start(BUNDLE)
    metrics = tmp_path / "s" / "metrics"
    while not metrics.exists() or len(list(metrics.iterdir())) < 2:
        first.advance(0.0)
    first.save_checkpoint()
    deleted, damaged = sorted(metrics.iterdir())
    deleted.unlink()
    damaged.write_bytes(b"damaged")
    second = work(worker_at(tmp_path))
    (note,) = second.notes
    assert "were not there or damaged and are written again (2 files)" in note
    assert_equal_rows(tmp_path, undisturbed)


def test_metrics_that_are_lost_while_a_bundle_trains_are_written_before_it_commits(
    undisturbed: Path, tmp_path: Path
) -> None:
    worker = worker_at(tmp_path)
    worker.start(BUNDLE)
    metrics = tmp_path / "s" / "metrics"
    while not metrics.exists():
        worker.advance(0.0)
    for path in metrics.iterdir():
        path.unlink()
    while not worker.finished:
        worker.advance(60.0)
    assert "are written again" in worker.notes[0]
    assert_equal_rows(tmp_path, undisturbed)


def test_a_bundle_whose_kept_weights_are_lost_starts_anew(undisturbed: Path, tmp_path: Path) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    make = lambda: Worker(  # noqa: E731
        store, find_split, device=torch.device("cpu"), code_version="test", checkpoint_seconds=1e-9, save_every=3
    )
    first, model = make(), tmp_path / "s" / "models" / f"{bundle_id(BUNDLE)}-e000003.safetensors"
    first.start(BUNDLE)
    while not model.exists():
        first.advance(0.0)
    kept = model.read_bytes()
    model.unlink()
    second = work(make())
    assert "the bundle starts anew" in second.notes[0]
    assert model.read_bytes() == kept  # written again, the same file
    assert_equal_rows(tmp_path, undisturbed)


def limit_memory(monkeypatch: pytest.MonkeyPatch, members: int) -> None:
    """More than so many members run out of memory."""
    advance = BundleRun.advance

    def limited(run: BundleRun, seconds: float) -> None:
        if len(run.specs) > members:
            raise torch.OutOfMemoryError(f"tried to allocate for {len(run.specs)} members")
        advance(run, seconds)

    monkeypatch.setattr(worker_module.BundleRun, "advance", limited)


def test_out_of_memory_halves_the_bundle(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 2)
    worker = work(worker_at(tmp_path))
    assert any("halved" in note for note in worker.notes)
    got, wanted = frames(tmp_path), frames(undisturbed)
    assert list(got[0]["trial_id"]) == list(wanted[0]["trial_id"])
    assert set(got[0]["bundle_members"]) == {2}
    files = [pd.read_parquet(path) for path in (tmp_path / "s" / "metrics").iterdir()]
    assert not pd.concat(files).duplicated(["trial_id", "effective_epoch"]).any()
    numbers = ["elbo_train", "elbo_test", "rate_test", "distortion_test"]
    np.testing.assert_allclose(got[1][numbers], wanted[1][numbers], rtol=1e-4)


def test_an_evaluation_out_of_memory_costs_no_training(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The halves go on from where the training was; the steps of all halves together are those of the whole."""
    steps: list[int] = []
    measure, train = run_module.measure, Trainer.train

    def limited(vae: VAE, specs: list[TrialSpec], data: object, epoch: int, *more: object) -> object:
        if len(specs) > 2 and epoch == 6:
            raise torch.OutOfMemoryError("tried to allocate for an evaluation")
        return measure(vae, specs, data, epoch, *more)

    def counted(trainer: Trainer, until: int) -> None:
        steps.append(until - trainer.step)
        train(trainer, until)

    monkeypatch.setattr(run_module, "measure", limited)
    monkeypatch.setattr(Trainer, "train", counted)
    worker = work(worker_at(tmp_path))
    assert any("halved" in note for note in worker.notes)
    assert sum(steps) == BUNDLE[0].steps
    got, wanted = frames(tmp_path), frames(undisturbed)
    assert list(got[0]["trial_id"]) == list(wanted[0]["trial_id"]) and set(got[0]["bundle_members"]) == {2}
    assert list(got[1]["effective_epoch"]) == list(wanted[1]["effective_epoch"])
    np.testing.assert_allclose(got[1]["elbo_test"], wanted[1]["elbo_test"], rtol=1e-4)
    assert list((tmp_path / "s" / "checkpoints").iterdir()) == []


def test_halving_leaves_no_checkpoint_of_the_whole_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = worker_at(tmp_path)
    worker.start(BUNDLE)
    worker.advance(0.0)
    worker.save_checkpoint()
    limit_memory(monkeypatch, 2)
    while not worker.finished:
        worker.advance(60.0)
    checkpoints = tmp_path / "s" / "checkpoints"
    assert list(checkpoints.iterdir()) == []


def test_memory_errors_without_a_word_are_halved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wordless(run: BundleRun, seconds: float) -> None:
        raise MemoryError

    monkeypatch.setattr(worker_module.BundleRun, "advance", wordless)
    work(worker_at(tmp_path))
    trials, _ = frames(tmp_path)
    assert all(error.endswith("MemoryError") for error in trials["error"])


def test_metrics_that_could_not_be_written_are_not_lost(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_at(tmp_path)
    worker.start(BUNDLE)

    def full(*args: object, **options: object) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(SweepStore, "write_metrics", full)
        with pytest.raises(StorageError):
            while True:
                worker.advance(0.0)
    worker.save_checkpoint()
    work(worker_at(tmp_path))
    assert_equal_rows(tmp_path, undisturbed)


def test_a_trial_too_large_alone_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 0)
    work(worker_at(tmp_path))
    trials, metrics = frames(tmp_path)
    assert list(trials["status"]) == ["failed"] * 4
    assert all("out of memory on cpu even alone" in error for error in trials["error"])
    assert metrics.empty


def test_other_errors_are_not_taken_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: BundleRun, seconds: float) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(worker_module.BundleRun, "advance", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        work(worker_at(tmp_path))


def test_committing_twice_leaves_one_set_of_rows(undisturbed: Path, tmp_path: Path) -> None:
    work(worker_at(tmp_path))
    names = sorted(path.name for path in (tmp_path / "s").rglob("*.parquet"))
    work(worker_at(tmp_path))
    assert sorted(path.name for path in (tmp_path / "s").rglob("*.parquet")) == names
    assert_equal_rows(tmp_path, undisturbed)
