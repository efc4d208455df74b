"""Series of numbers beside the metrics: kept, read, and taken back together with them."""

import numpy as np
import pytest

from vaegen_ray.results import query
from vaegen_ray.results.cleanup import quarantine
from vaegen_ray.results.store import Storage, SweepStore
from vaegen_ray.spec.trial import TrialSpec


@pytest.fixture
def store(storage: Storage) -> SweepStore:
    return SweepStore(storage, "s")


def line(seed: int, item: str = "pair-0", epoch: float = 10.0, **more: object) -> dict:
    values = [0.5, -1.0 / 3, float(seed)]
    row = {"trial_id": TrialSpec(seed=seed).trial_id, "effective_epoch": epoch, "quantity": "log_q", "item": item}
    return {**row, "values": values, **more}


def fill(store: SweepStore, trial, metric, bundle: str = "b0", seeds: tuple[int, ...] = (0, 1)) -> None:
    store.write_details(bundle, 1, 10, [line(seed, f"pair-{i}") for seed in seeds for i in (0, 1)])
    store.write_metrics(bundle, 1, 10, [metric(seed, 10) for seed in seeds])
    store.commit_trials(bundle, [trial(seed, bundle) for seed in seeds])


def details_of(store: SweepStore):
    return query.load_details(store.storage, query.load(store.storage, "s").trials, "s")


def test_what_was_written_is_read(store: SweepStore, trial, metric):
    fill(store, trial, metric)
    details, notes = details_of(store)
    assert notes == () and len(details) == 4
    assert list(zip(details["trial_id"], details["item"], strict=True)) == sorted(
        zip(details["trial_id"], details["item"], strict=True)
    )
    (one,) = details[(details["trial_id"] == TrialSpec(seed=1).trial_id) & (details["item"] == "pair-0")]["values"]
    np.testing.assert_array_equal(one, [0.5, -1.0 / 3, 1.0])


def test_a_sweep_without_details_has_none(store: SweepStore, trial, metric):
    store.write_metrics("b0", 1, 1, [metric(0, 1)])
    store.commit_trials("b0", [trial(0)])
    details, _ = details_of(store)
    assert details.empty and list(details) == ["trial_id", "bundle_id", "effective_epoch", "quantity", "item", "values"]


def test_only_what_the_committing_bundle_wrote_counts(store: SweepStore, trial, metric):
    store.write_details("b9", 1, 10, [line(0, values=[9.0])])
    fill(store, trial, metric)
    details, _ = details_of(store)
    assert 9.0 not in np.concatenate(list(details["values"])) and len(details) == 4


def test_an_evaluation_in_two_files_counts_once(store: SweepStore, trial, metric):
    fill(store, trial, metric)
    store.write_details("b0", 10, 10, [line(0, f"pair-{i}") for i in (0, 1)])
    details, _ = details_of(store)
    assert len(details) == 4 and not details.duplicated(["trial_id", "effective_epoch", "quantity", "item"]).any()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"values": None}, "column values needs a value in every row"),
        ({"values": [1.0, "a"]}, "column values holds list"),
        ({"values": 3.0}, "column values holds list"),
        ({"bundle_id": "b1"}, "column bundle_id of a row in this file must be 'b0'; got 'b1'"),
        ({"colour": 1}, "unknown columns of a result: colour"),
    ],
)
def test_rows_that_do_not_fit_are_refused(store: SweepStore, row, message):
    with pytest.raises(ValueError, match=message):
        store.write_details("b0", 1, 10, [line(0, **row)])


def test_a_series_comes_once(store: SweepStore):
    with pytest.raises(ValueError, match="a file holds one row for each effective_epoch, trial_id, quantity, item"):
        store.write_details("b0", 1, 10, [line(0), line(0)])


def test_they_go_with_the_metrics_of_their_bundle(store: SweepStore, trial, metric):
    fill(store, trial, metric)
    fill(store, trial, metric, "b1", (2,))
    store.delete_metrics("b1")
    assert store.storage.list("s/details") == store.storage.list("s/metrics") == ["b0-000001-000010.parquet"]
    store.forget({TrialSpec(seed=0).trial_id})
    details, _ = details_of(store)
    assert set(details["trial_id"]) == {TrialSpec(seed=1).trial_id}


def test_damaged_details_are_set_aside_with_the_commit_mark(store: SweepStore, trial, metric):
    fill(store, trial, metric)
    fill(store, trial, metric, "b1", (2,))
    path = "s/details/b0-000001-000010.parquet"
    store.storage.write(path, store.storage.read(path)[:-20])
    details, _ = details_of(store)
    assert set(details["trial_id"]) == {TrialSpec(seed=2).trial_id}
    assert "details/b0-000001-000010.parquet: it has" in query.load(store.storage, "s").notes[0]
    quarantine(store, held=())
    assert store.committed() == {TrialSpec(seed=2).trial_id}
    assert len(store.set_aside_notes) == 2
    assert "trials/b0.parquet was set aside: details/b0-000001-000010.parquet: it has" in store.set_aside_notes[0]
    assert store.storage.list("s/metrics") == ["b1-000001-000010.parquet"]


def test_curves_have_a_row_an_evaluation_of_completed_trials(store: SweepStore, trial, metric):
    store.write_metrics(
        "b0", 1, 10, [metric(seed, epoch, elbo_test=-float(epoch)) for seed in (0, 1) for epoch in (1, 10)]
    )
    store.commit_trials("b0", [trial(0), trial(1, status="failed")])
    curves = query.load(store.storage, "s").curves()
    assert list(curves["effective_epoch"]) == [1.0, 10.0] and list(curves["elbo_test"]) == [-1.0, -10.0]
    assert set(curves["trial_id"]) == {TrialSpec(seed=0).trial_id} and set(curves["seed"]) == {0}
