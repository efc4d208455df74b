from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vaegen_ray.errors import DataFormatError, SpecError, StorageError
from vaegen_ray.results import schema
from vaegen_ray.results.parquet import encode
from vaegen_ray.results.query import load
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec

DATA = Path(__file__).parent / "data"


def name(seed: int) -> str:
    return TrialSpec(seed=seed).trial_id


@pytest.fixture
def store(storage: Storage) -> SweepStore:
    return SweepStore(storage, "s")


def test_rows_come_sorted_whatever_the_packing(storage: Storage, trial, metric):
    seeds, epochs = range(6), (1, 2, 10)
    for sweep, bundles in (("s", [[3, 1], [0, 5, 4], [2]]), ("other", [[0, 1, 2, 3, 4, 5]])):
        store = SweepStore(storage, sweep)
        for i, members in enumerate(bundles):
            for e in epochs:
                store.write_metrics(f"b{i}", e, e, [metric(s, e, step=10 * e, elbo_test=-s - 1 / e) for s in members])
            store.commit_trials(f"b{i}", [trial(s, f"b{i}") | {"sweep": sweep} for s in members])
    one, other = load(storage, "s"), load(storage, "other")
    assert one.trials["trial_id"].tolist() == sorted(map(name, seeds))
    assert list(zip(one.metrics["trial_id"], one.metrics["effective_epoch"], strict=True)) == [
        (t, e) for t in sorted(map(name, seeds)) for e in epochs
    ]
    seed_of = {name(s): s for s in seeds}
    expected = [
        -seed_of[t] - 1 / e for t, e in zip(one.metrics["trial_id"], one.metrics["effective_epoch"], strict=True)
    ]
    assert one.metrics["elbo_test"].tolist() == expected
    assert one.metrics["elbo_train"].isna().all()
    assert one.trials.drop(columns=["sweep", "bundle_id"]).equals(other.trials.drop(columns=["sweep", "bundle_id"]))
    assert one.metrics.drop(columns="bundle_id").equals(other.metrics.drop(columns="bundle_id"))
    assert one.notes == ()


def test_the_columns_are_those_of_the_schema(store: SweepStore, trial, metric):
    store.write_metrics("b0", 1, 1, [metric(0, 1)])
    store.commit_trials("b0", [trial(0)])
    results = load(store.storage, "s")
    assert results.trials.columns.tolist() == schema.read_schema().names
    assert results.metrics.columns.tolist() == schema.METRICS.names
    results.metrics.loc[0, "elbo_test"] = 1.0  # the frames may be changed
    results.trials.loc[0, "beta"] = 2.0


def test_a_row_comes_once_and_the_bundle_that_committed_wins(store: SweepStore, trial, metric):
    for bundle, elbo in (("a", -1.0), ("m", -2.0), ("z", -3.0)):
        store.write_metrics(bundle, 1, 2, [metric(0, e, elbo_test=elbo) for e in (1, 2)])
    store.write_metrics("m", 2, 2, [metric(0, 2, elbo_test=-2.0)])  # a resumed bundle repeats an epoch
    store.commit_trials("m", [trial(0, "m")])
    metrics = load(store.storage, "s").metrics
    assert metrics["bundle_id"].tolist() == ["m", "m"]
    assert metrics["elbo_test"].tolist() == [-2.0, -2.0]
    assert metrics["effective_epoch"].tolist() == [1.0, 2.0]


def test_a_completed_trial_wins_over_its_failure(store: SweepStore, trial, metric):
    store.write_metrics("z", 1, 1, [metric(0, 1, elbo_test=-9.0)])
    store.commit_trials("z", [trial(0, "z", status="failed")])
    assert load(store.storage, "s").trials["status"].tolist() == ["failed"]
    assert len(load(store.storage, "s").last()) == 0
    store.write_metrics("a", 1, 1, [metric(0, 1, elbo_test=-1.0)])
    store.commit_trials("a", [trial(0, "a")])
    results = load(store.storage, "s")
    assert results.trials[["bundle_id", "status"]].values.tolist() == [["a", "completed"]]
    assert results.metrics["elbo_test"].tolist() == [-1.0]


def test_last_is_a_row_a_completed_trial(store: SweepStore, trial, metric):
    store.write_metrics(
        "b0", 1, 20, [metric(s, e, elbo_test=-s - e, elbo_samples=8) for s in (0, 1, 2) for e in (1, 20)]
    )
    rows = [trial(0, epochs=20), trial(1, status="failed"), trial(2, epochs=20), trial(3, epochs=20)]
    store.commit_trials("b0", rows)
    last = load(store.storage, "s").last().set_index("seed").sort_index()
    assert last.index.tolist() == [0, 2, 3]
    assert last["effective_epoch"].tolist()[:2] == [20.0, 20.0] and last["elbo_test"].tolist()[:2] == [-20.0, -22.0]
    assert np.isnan(last.loc[3, "elbo_test"])
    assert last["elbo_samples"].tolist() == [1, 1, 1] and last.loc[0, "elbo_samples_metrics"] == 8
    assert last["params_total"].tolist() == [42, 42, 42]


def test_the_status_stopped_of_earlier_versions_is_pruned(store: SweepStore, trial, metric):
    store.write_metrics("b0", 1, 1, [metric(0, 1)])
    store.commit_trials("b0", [{**trial(0), "status": "stopped"}])  # as a version before wrote it
    results = load(store.storage, "s")
    assert results.trials["status"].tolist() == ["pruned"]
    assert results.last().empty and len(results.last("pruned")) == 1
    assert store.committed() == {name(0)}


def test_committed_only_leaves_out_running_trials(store: SweepStore, trial, metric):
    store.write_metrics("b0", 1, 1, [metric(0, 1)])
    store.write_metrics("b1", 1, 1, [metric(1, 1)])
    store.commit_trials("b0", [trial(0)])
    assert set(load(store.storage, "s").metrics["trial_id"]) == {name(0), name(1)}
    metrics = load(store.storage, "s", committed_only=True).metrics
    assert metrics["trial_id"].tolist() == [name(0)]
    assert metrics["trial_id"].cat.categories.tolist() == [name(0)]


def test_a_run_that_has_just_begun_is_empty(store: SweepStore, trial, metric):
    store.write_sweep_json({})
    results = load(store.storage, "s")
    assert len(results.trials) == len(results.metrics) == len(results.last()) == 0
    assert results.metrics.columns.tolist() == schema.METRICS.names
    store.write_metrics("b0", 1, 1, [metric(0, 1)])
    assert len(load(store.storage, "s").metrics) == 1
    assert len(load(store.storage, "s").last()) == 0


def test_a_corrupt_file_is_skipped_reported_and_left_alone(store: SweepStore, trial, metric):
    store.write_metrics("b0", 1, 1, [metric(0, 1)])
    store.commit_trials("b0", [trial(0)])
    store.storage.write("s/trials/bad.parquet", b"PAR1")
    store.storage.write(
        "s/metrics/bad-000001-000001.parquet", store.storage.read("s/metrics/b0-000001-000001.parquet")[:-9]
    )
    results = load(store.storage, "s")
    assert len(results.trials) == len(results.metrics) == 1
    assert len(results.notes) == 2
    assert store.storage.where("s/trials/bad.parquet") in results.notes[0]
    assert store.storage.where("s/metrics/bad-000001-000001.parquet") in results.notes[1]
    assert store.storage.exists("s/trials/bad.parquet")


def test_a_path_without_results_is_told(tmp_path: Path):
    with pytest.raises(StorageError, match="no results of a sweep in") as caught:
        load(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert not (tmp_path / "nowhere").exists()
    SweepStore(Storage.open(tmp_path), "first").write_sweep_json({})
    with pytest.raises(StorageError, match="sweeps in .*: first"):
        load(tmp_path)
    with pytest.raises(StorageError, match="second; sweeps in .*: first"):
        load(tmp_path, "second")
    with pytest.raises(SpecError, match="must be relative"):
        load(tmp_path, "../first")
    assert len(load(tmp_path, "first").trials) == len(load(tmp_path / "first").trials) == 0


def test_files_of_schema_version_1_stay_readable(tmp_path: Path):
    """The files were written by version 1 and must never be written again."""
    storage = Storage.open(tmp_path)
    storage.write("old/trials/4f9ae0d2c1b35e77.parquet", (DATA / "trials_v1.parquet").read_bytes())
    storage.write("old/metrics/4f9ae0d2c1b35e77-000001-000020.parquet", (DATA / "metrics_v1.parquet").read_bytes())
    results = load(storage, "old")
    assert results.notes == ()
    completed, failed = (results.trials[results.trials["status"] == s].iloc[0] for s in ("completed", "failed"))
    assert completed["sweep"] == failed["sweep"] == "kept"
    assert completed["dataset"] == "digits" and completed["nc"] == 16 and completed["beta"] == 0.5
    assert completed["evaluate_at"] == "[1, 20]" and completed["params_total"] == 3000
    assert completed["finished_at"].isoformat() == "2026-01-02T03:04:05+00:00"
    assert failed["error"] == "the loss is not finite" and failed["failed_epoch"] == 7 and failed["seed"] == 1
    assert sorted(results.metrics["effective_epoch"]) == [1.0, 1.0, 20.0]
    last = results.last()
    assert len(last) == 1
    assert last.loc[0, "elbo_test"] == -21.5 and last.loc[0, "bits_per_dim_test"] == 0.4375
    assert np.isnan(last.loc[0, "robustness_gap"])


def test_a_column_that_a_file_lacks_is_null_and_one_that_nobody_knows_is_dropped(store: SweepStore, trial, metric):
    fewer = pa.schema([f for f in schema.METRICS if f.name != "elbo_source"], metadata=schema.METRICS.metadata)
    more = schema.METRICS.append(pa.field("later_gap", pa.float64()))
    rows = [metric(0, 1, elbo_test=-1.0, bundle_id="a")]
    store.storage.write("s/metrics/a-000001-000001.parquet", encode(rows, fewer, key=("trial_id",)))
    rows = [metric(1, 1, elbo_test=-1.0, elbo_source=-3.0, bundle_id="b", later_gap=1.0)]
    store.storage.write("s/metrics/b-000001-000001.parquet", encode(rows, more, key=("trial_id",)))
    metrics = load(store.storage, "s").metrics.set_index("trial_id")
    assert metrics["elbo_test"].tolist() == [-1.0, -1.0]
    assert np.isnan(metrics.loc[name(0), "elbo_source"]) and metrics.loc[name(1), "elbo_source"] == -3.0
    assert "later_gap" not in metrics


def test_a_later_version_is_refused(store: SweepStore, metric):
    later = schema.METRICS.with_metadata({schema.VERSION_KEY: "3"})
    store.storage.write(
        "s/metrics/a-000001-000001.parquet", encode([metric(0, 1, bundle_id="a")], later, key=("trial_id",))
    )
    with pytest.raises(
        DataFormatError, match="has schema version 3; this vaegen_ray reads up to 2: install a later one"
    ):
        load(store.storage, "s")


def test_a_parquet_file_of_others_is_skipped(store: SweepStore, tmp_path: Path):
    store.write_sweep_json({})
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    store.storage.write("s/trials/x.parquet", (tmp_path / "x.parquet").read_bytes())
    (note,) = load(store.storage, "s").notes
    assert schema.VERSION_KEY in note
