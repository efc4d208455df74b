"""A live look at a sweep equals a fresh load at every moment, and reads only the files that are new."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from vaegen_ray.errors import StorageError
from vaegen_ray.results import query
from vaegen_ray.results.live import LiveSweep
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore

Row = dict[str, Any]


class Reads:
    """Counts what is read of a storage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        read = Storage.read_optional

        def counting(storage: Storage, path: str) -> bytes | None:
            self.paths.append(path)
            return read(storage, path)

        monkeypatch.setattr(Storage, "read_optional", counting)

    def taken(self) -> list[str]:
        paths, self.paths = self.paths, []
        return sorted(paths)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def assert_as_loaded(live: LiveSweep, storage: Storage) -> None:
    look, loaded = live.look(), query.load(storage, "s")
    pd.testing.assert_frame_equal(look.trials, loaded.trials.drop(columns="spec_json"))
    got = look.last[look.last["trial_id"].isin(look.trials["trial_id"])].set_index("trial_id")
    wanted = loaded.last()
    assert got.loc[wanted["trial_id"], "elbo_test"].tolist() == wanted["elbo_test"].tolist()


def test_a_look_reads_what_is_new_alone(
    storage: Storage, trial: Callable[..., Row], metric: Callable[..., Row], reads: Reads
) -> None:
    store, live = SweepStore(storage, "s"), LiveSweep(storage, "s")
    assert live.look().trials.empty and live.look().last.empty
    for bundle, seeds in (("b0", (0, 1)), ("b1", (2, 3))):
        store.write_metrics(bundle, 1, 2, [metric(s, e, elbo_test=-9.0 - s) for s in seeds for e in (1, 2)])
        store.write_metrics(bundle, 3, 3, [metric(s, 3, elbo_test=-7.0 - s) for s in seeds])
        store.commit_trials(bundle, [trial(s, bundle, epochs=3) for s in seeds])
    reads.taken()
    first = live.look()
    files = ["metrics/b0-000003-000003", "metrics/b1-000003-000003", "trials/b0", "trials/b1"]
    assert reads.taken() == [f"s/{file}.parquet" for file in files]
    assert live.look() is first and reads.taken() == []
    store.write_metrics("b2", 1, 1, [metric(4, 1, elbo_test=-5.0)])
    second = live.look()
    assert reads.taken() == ["s/metrics/b2-000001-000001.parquet"]
    assert second.version != first.version and len(second.last) == 5 and len(second.trials) == 4
    assert_as_loaded(live, storage)


def test_curves_are_all_evaluations_of_the_trials_that_are_asked_for(
    storage: Storage, trial: Callable[..., Row], metric: Callable[..., Row], reads: Reads
) -> None:
    store, live = SweepStore(storage, "s"), LiveSweep(storage, "s")
    for bundle, seeds in (("b0", (0, 1)), ("b1", (2, 3))):
        for epoch in (1, 2, 3):
            store.write_metrics(bundle, epoch, epoch, [metric(s, epoch, elbo_test=-s - 1.0 / epoch) for s in seeds])
    wanted = metric(2, 0)["trial_id"]
    live.look()
    reads.taken()
    curves = live.curves([wanted])
    assert curves["effective_epoch"].tolist() == [1, 2, 3]
    assert curves["elbo_test"].tolist() == [-3.0, -2.5, -2 - 1 / 3]
    assert all("b1-" in path for path in reads.taken())
    assert live.curves([]).empty


def test_files_that_change_vanish_or_are_damaged(
    storage: Storage, trial: Callable[..., Row], metric: Callable[..., Row]
) -> None:
    store, live = SweepStore(storage, "s"), LiveSweep(storage, "s")
    for seed in (0, 1):
        store.write_metrics(f"b{seed}", 1, 1, [metric(seed, 1, elbo_test=-1.0)])
        status = "failed" if seed else "completed"
        store.commit_trials(f"b{seed}", [trial(seed, f"b{seed}", status, epochs=1)])
    assert live.look().trials["status"].value_counts().to_dict() == {"completed": 1, "failed": 1}
    store.commit_trials("b1", [trial(1, "b1", epochs=1)])
    assert set(live.look().trials["status"]) == {"completed"}
    store.forget({trial(1)["trial_id"]})
    assert len(live.look().trials) == len(live.look().last) == 1
    storage.write("s/trials/b0.parquet", b"damaged")
    look = live.look()
    assert look.trials.empty and len(look.notes) == 1 and "s/trials/b0.parquet was skipped" in look.notes[0]


def test_of_two_bundles_with_a_trial_the_one_that_committed_it_counts(
    storage: Storage, trial: Callable[..., Row], metric: Callable[..., Row]
) -> None:
    store, live = SweepStore(storage, "s"), LiveSweep(storage, "s")
    for bundle, elbo in (("b0", -1.0), ("b1", -2.0), ("b2", -3.0)):
        store.write_metrics(bundle, 1, 1, [metric(0, 1, elbo_test=elbo)])
    store.commit_trials("b1", [trial(0, "b1", epochs=1)])
    assert live.look().last["elbo_test"].tolist() == [-2.0]
    assert_as_loaded(live, storage)


def test_a_trial_that_is_committed_during_a_look_has_its_last_numbers(
    storage: Storage, trial: Callable[..., Row], metric: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, live, stamps = SweepStore(storage, "s"), LiveSweep(storage, "s"), Storage.stamps
    store.write_metrics("b0", 1, 1, [metric(0, 1, elbo_test=-9.0)])
    listed: list[str] = []

    def listing(storage: Storage, *where: str) -> dict[str, tuple[int, int]]:
        found = stamps(storage, *where)
        if not listed:  # between the listings of two folders, whichever comes first, the worker ends
            store.write_metrics("b0", 2, 2, [metric(0, 2, elbo_test=-7.0)])
            store.commit_trials("b0", [trial(0, "b0", epochs=2)])
        listed.append(where[0])
        return found

    monkeypatch.setattr(Storage, "stamps", listing)
    look = live.look()
    assert len(listed) == 2
    committed = look.last[look.last["trial_id"].isin(look.trials["trial_id"])]
    assert set(committed["elbo_test"]) <= {-7.0}
    assert live.look().last["elbo_test"].tolist() == [-7.0] and len(live.look().trials) == 1


@pytest.mark.parametrize("folder", ["s/trials", "s/metrics"])
def test_what_was_read_before_a_storage_refused_counts_at_the_next_look(
    storage: Storage,
    trial: Callable[..., Row],
    metric: Callable[..., Row],
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
) -> None:
    store, live, stamps = SweepStore(storage, "s"), LiveSweep(storage, "s"), Storage.stamps
    store.write_metrics("b0", 1, 1, [metric(0, 1, elbo_test=-9.0)])
    live.look()
    if folder == "s/trials":
        store.write_metrics("b0", 2, 2, [metric(0, 2, elbo_test=-7.0)])
    else:
        store.commit_trials("b0", [trial(0, "b0", epochs=1)])

    def refusing(storage: Storage, *where: str) -> dict[str, tuple[int, int]]:
        if where[0] == folder:
            raise StorageError("the network is gone")
        return stamps(storage, *where)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "stamps", refusing)
        with pytest.raises(StorageError):
            live.look()
    look = live.look()
    assert (look.last["elbo_test"].tolist(), len(look.trials)) == (([-7.0], 0) if folder == "s/trials" else ([-9.0], 1))
