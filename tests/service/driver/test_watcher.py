"""What the driver notes for those who watch the storage: its heartbeat, and bundles that were given up."""

import io
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune import Callback
from ray.tune.search import BasicVariantGenerator

from vaegen_ray.errors import StorageError
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.driver.progress import Progress
from vaegen_ray.service.driver.scheduler import InOrder
from vaegen_ray.service.driver.tune import Queue, Watcher
from vaegen_ray.spec.trial import TrialSpec, bundle_id

BUNDLES = [tuple(TrialSpec(nc=nc, seed=seed) for seed in range(3)) for nc in (1, 2)]


def tune_trial(bundle: int, error: str | None = None) -> Any:
    """A Tune trial as callbacks see it."""
    return SimpleNamespace(
        trial_id=f"t{bundle}",
        config={"bundle": bundle},
        num_failures=4,
        get_error=lambda: error and Exception(error),
        pickled_error_file=None,
        run_metadata=SimpleNamespace(),
    )


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    store = SweepStore(Storage.open(tmp_path), "s")
    queue = Queue(
        search=BasicVariantGenerator(), scheduler=InOrder(), space={}, samples=1, members=[3, 3], bundles=BUNDLES
    )
    return Watcher(store, Progress(6, [1.0, 1.0], [3, 3]), queue, [])


def test_the_heartbeat_counts_the_vaes_in_training_and_says_when_the_run_has_ended(
    watcher: Watcher, tmp_path: Path
) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    watcher.on_trial_start(1, [], tune_trial(0))
    watcher.on_trial_start(1, [], tune_trial(1))
    watcher.heartbeat()
    assert [store.read_status()[key] for key in ("vaes_running", "vaes_to_train", "ended")] == [6, 6, False]
    watcher.on_trial_recover(2, [], tune_trial(1))
    watcher.heartbeat(ended=True)
    assert [store.read_status()[key] for key in ("vaes_running", "ended")] == [3, True]


def test_a_bundle_that_is_given_up_leaves_a_note_with_the_last_line_of_its_error(
    watcher: Watcher, tmp_path: Path
) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    watcher.on_trial_start(1, [], tune_trial(1))
    for error in ("Traceback\n  line\nStorageError: the disk is full\n", None):
        watcher.on_trial_error(1, [], tune_trial(1, error))
        (note,) = store.given_up()
        assert note["bundle_id"] == bundle_id(BUNDLES[1]) and note["tries"] == 4
        assert note["trial_ids"] == [spec.trial_id for spec in BUNDLES[1]]
        assert note["reason"] == ("StorageError: the disk is full" if error else "no reason was given")


def test_the_speed_of_a_run_is_without_what_an_earlier_one_did(watcher: Watcher, tmp_path: Path) -> None:
    result = {"fraction": 0.5, "finished_members": 0, "resumed": 0.5, "notes": []}
    watcher.on_trial_result(1, [], tune_trial(0), result)
    watcher.heartbeat()
    status = SweepStore(Storage.open(tmp_path), "s").read_status()
    assert (status["fraction"], status["vaes_per_minute"], status["seconds_left"]) == (0.25, 0.0, None)


def test_a_storage_that_refuses_notes_ends_no_run_and_is_told_once(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def refuse(*_: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(SweepStore, "write_status", refuse)
    monkeypatch.setattr(SweepStore, "write_given_up", refuse)
    watcher.on_trial_start(1, [], tune_trial(0))
    for _ in range(2):
        watcher.on_trial_error(1, [], tune_trial(0, "OSError"))
        watcher.heartbeat(ended=True)
    (message,) = caplog.messages
    assert "the disk is full" in message


def test_a_storage_that_refuses_for_good_ends_the_run_and_what_was_stopped_is_not_done(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = watcher._queue.refusal

    def refuse(*_: Any) -> None:
        error = StorageError("the disk is full")
        error.final = True
        raise error

    assert not refusal.stop_all()
    assert not refusal("t0", {"refused": "", "fraction": 0.5})
    watcher.on_trial_complete(1, [], tune_trial(0))
    monkeypatch.setattr(SweepStore, "write_status", refuse)
    watcher.heartbeat(ended=True)
    assert refusal.stop_all() and refusal.reason == "the disk is full" and caplog.messages == []
    assert refusal("t1", {"refused": "another reason"}) and refusal.reason == "the disk is full", "the first counts"
    watcher.on_trial_complete(2, [], tune_trial(1))
    assert watcher._progress.done == 3


def test_what_ends_a_bundle_for_now_is_told(watcher: Watcher, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    error = tmp_path / "error.pkl"
    for file in (error, None, tmp_path / "absent"):
        error.write_bytes(pickle.dumps(RayTaskError("step", "", StorageError("cannot write x: Input/output error"))))
        trial = tune_trial(0)
        trial.pickled_error_file = file and str(file)
        watcher.on_trial_recover(1, [], trial)
    first, *others = caplog.messages
    assert len(others) == 2 and "met an error (cannot write x: Input/output error)" in first
    assert all("was lost" in line for line in others)


def test_tune_can_pickle_the_callback_whatever_the_display_writes_to(watcher: Watcher) -> None:
    class Stream(io.StringIO):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("cannot pickle the stream of a notebook")

    watcher._progress._stream = Stream()
    assert type(cloudpickle.loads(cloudpickle.dumps(watcher))) is Callback
