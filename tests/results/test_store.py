from pathlib import Path

import pytest

from vaegen_ray.errors import DataFormatError, SpecError, StorageError
from vaegen_ray.results import query, schema
from vaegen_ray.results.cleanup import quarantine
from vaegen_ray.results.store import Storage, SweepStore
from vaegen_ray.spec.trial import TrialSpec


def ids(*seeds: int) -> set[str]:
    return {TrialSpec(seed=seed).trial_id for seed in seeds}


@pytest.fixture
def store(storage: Storage) -> SweepStore:
    return SweepStore(storage, "s")


def test_a_trial_is_done_when_its_row_is_there(store: SweepStore, trial):
    assert store.committed() == set()
    store.commit_trials("b0", [trial(0), trial(1, status="failed")])
    store.commit_trials("b1", [trial(2, "b1")])
    assert store.committed() == ids(0, 1, 2)
    assert store.committed(retry_failed=True) == ids(0, 2)
    store.commit_trials("b2", [trial(1, "b2")])
    assert store.committed(retry_failed=True) == ids(0, 1, 2)


def test_forgotten_trials_are_to_do_and_leave_no_row(store: SweepStore, trial, metric):
    """The metrics of the others stay as their commit rows name them."""
    store.write_metrics("b0", 1, 10, [metric(seed, epoch) for seed in (0, 1) for epoch in (1, 10)])
    store.commit_trials("b0", [trial(0), trial(1, status="failed")])
    store.write_metrics("b1", 1, 1, [metric(2, 1)])
    store.commit_trials("b1", [trial(2, "b1", status="failed")])
    store.forget(ids(1, 2))
    assert store.committed() == ids(0)
    found = query.load(store.storage, "s", committed_only=True)
    assert set(found.metrics["trial_id"]) == ids(0) and len(found.metrics) == 2 and found.notes == ()
    assert store.storage.list("s/trials") == ["b0.parquet"]
    assert store.storage.list("s/metrics") == ["b0-000001-000010.parquet"]


def test_writing_again_writes_the_same_bytes(store: SweepStore, trial, metric):
    def files() -> dict[str, bytes]:
        return {
            f"{d}/{n}": store.storage.read(f"s/{d}/{n}")
            for d in ("trials", "metrics")
            for n in store.storage.list(f"s/{d}")
        }

    trials = [trial(0), trial(1)]
    metrics = [metric(seed, epoch, elbo_test=-1.0 / 3) for seed in (0, 1) for epoch in (1, 10)]
    store.write_metrics("b0", 1, 10, metrics)
    store.commit_trials("b0", trials)
    before = files()
    store.write_metrics("b0", 1, 10, metrics[::-1])
    store.commit_trials("b0", trials[::-1])
    assert files() == before
    assert set(before) == {"trials/b0.parquet", "metrics/b0-000001-000010.parquet"}


def test_rows_of_another_file_are_refused(store: SweepStore, trial, metric):
    with pytest.raises(ValueError, match="bundle_id of a row in this file must be 'b1'; got 'b0'"):
        store.commit_trials("b1", [trial(0, "b0")])
    with pytest.raises(ValueError, match="sweep of a row"):
        SweepStore(store.storage, "other").commit_trials("b0", [trial(0)])
    with pytest.raises(ValueError, match="two for"):
        store.commit_trials("b0", [trial(0), trial(0)])
    with pytest.raises(ValueError, match="two for"):
        store.write_metrics("b0", 1, 1, [metric(0, 1), metric(0, 1)])
    with pytest.raises(ValueError, match="trial_id needs a value"):
        store.write_metrics("b0", 1, 1, [{"effective_epoch": 1.0}])
    assert store.storage.folders() == []


def test_corrupt_trials_are_set_aside_and_to_do_again(store: SweepStore, trial):
    store.commit_trials("b0", [trial(0)])
    for bundle, damage in (
        ("empty", lambda data: b""),
        ("foreign", lambda data: b"not parquet, but long enough for a footer"),
        ("cut", lambda data: data[:-20]),
        ("zeroed", lambda data: data[:200] + bytes(100) + data[300:]),
    ):
        store.commit_trials(bundle, [trial(1, bundle)])
        path = f"s/trials/{bundle}.parquet"
        damaged = damage(store.storage.read(path))
        store.storage.write(path, damaged)
        store.set_aside_notes.clear()
        assert store.committed() == ids(0) and store.storage.exists(path), bundle
        quarantine(store, held=())
        (note,) = store.set_aside_notes
        assert store.storage.where(path) in note and "\n" not in note
        assert store.storage.read(f"s/set-aside/{bundle}.parquet") == damaged
        assert store.storage.list("s/trials") == ["b0.parquet"]
    store.commit_trials("cut", [trial(1, "cut")])
    assert store.committed() == ids(0, 1)


def test_a_file_of_a_later_version_is_refused_not_set_aside(store: SweepStore, trial, monkeypatch):
    later = schema.trials_schema().with_metadata({schema.VERSION_KEY: str(schema.SCHEMA_VERSION + 1)})
    with monkeypatch.context() as patch:
        patch.setattr("vaegen_ray.results.store.trials_schema", lambda: later)
        store.commit_trials("b0", [trial(0)])
    with pytest.raises(DataFormatError, match=r"b0\.parquet has schema version 3; this vaegen_ray reads up to 2"):
        store.committed()
    assert store.storage.list("s/trials") == ["b0.parquet"]


def test_checkpoints_and_models(store: SweepStore):
    assert store.checkpoints() == [] and store.read_checkpoint("b0") is None and store.read_model("b0") is None
    store.write_checkpoint("b1", b"1")
    store.write_checkpoint("b0", b"old")
    store.write_checkpoint("b0", b"new")
    store.write_model("b0", b"weights")
    assert store.checkpoints() == ["b0", "b1"]
    store.delete_checkpoint("b1")
    store.delete_checkpoint("b1")
    assert store.checkpoints() == ["b0"]
    assert store.read_checkpoint("b0") == b"new" and store.read_model("b0") == b"weights"


def test_sweep_status_and_figures(store: SweepStore):
    assert store.read_sweep_json() is None and store.read_status() is None
    store.write_sweep_json({"preset": "smoke"})
    store.write_status({"done": 1})
    store.write_status({"done": 2})
    assert store.read_sweep_json() == {"preset": "smoke"} and store.read_status() == {"done": 2}
    store.write_sweep_json({"storage": "s3://key:secret@bucket/x"})
    assert store.read_sweep_json() == {"storage": "s3://***@bucket/x"}
    assert store.write_figure("curve.svg", b"<svg/>") == store.storage.where("s/figures/curve.svg")
    assert store.storage.list("s/figures") == ["curve.svg"]


def test_archive_moves_everything_to_a_free_name(store: SweepStore, trial):
    assert store.archive() is None
    for n in (1, 2):
        store.commit_trials("b0", [trial(n)])
        store.write_checkpoint("b1", b"half")
        store.write_status({})
        assert store.archive() == f"s.old-{n}"
        assert store.committed() == set() and store.checkpoints() == [] and store.read_status() is None
        assert store.archive() is None
    for n in (1, 2):
        old = SweepStore(store.storage, f"s.old-{n}")
        assert old.committed() == ids(n)
        assert old.read_checkpoint("b1") == b"half" and old.read_status() == {}


def test_an_archive_cut_short_leaves_no_commit_mark_without_its_metrics(storage: Storage, trial, metric, monkeypatch):
    if storage.is_local:
        pytest.skip("one rename on a disk cannot be cut short")
    store = SweepStore(storage, "s")
    store.write_metrics("b0", 1, 1, [metric(0, 1)])
    store.commit_trials("b0", [trial(0)])

    class Failing:
        """The file system, which does something a few times and then fails."""

        def __init__(self, what, times):
            self.what, self.left = what, times

        def __getattr__(self, name):
            real = getattr(storage.filesystem, name)
            if name != self.what:
                return real

            def counted(*arguments):
                self.left -= 1
                if self.left < 0:
                    raise OSError("the network is gone")
                return real(*arguments)

            return counted

    for what, times, committed in (("copy_file", 1, ids(0)), ("delete_dir", 1, set())):
        with pytest.raises(StorageError, match="the network is gone"):
            SweepStore(Storage(Failing(what, times), storage.root, storage.name), "s").archive()
        assert store.committed() == committed
        assert storage.list("s/metrics") == ["b0-000001-000001.parquet"]
    assert SweepStore(storage, "s.old-2").committed() == ids(0)
    assert storage.list("s.old-2/metrics") == ["b0-000001-000001.parquet"]


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../s", "a b", "ä", "a\n"])
def test_a_name_cannot_leave_the_storage(store: SweepStore, name: str):
    for call in (
        lambda: SweepStore(store.storage, name),
        lambda: store.write_checkpoint(f"{name}/x" if name in ("", "..", ".") else name, b"1"),
        lambda: store.write_figure(name, b"1"),
    ):
        with pytest.raises(SpecError, match="must be letters, digits"):
            call()
    assert store.storage.folders() == []


@pytest.mark.parametrize("name", ["samples", "diffusion"])
def test_folders_that_belong_to_no_sweep_are_no_names(storage, name):
    with pytest.raises(SpecError, match=name):
        SweepStore(storage, name)


@pytest.mark.parametrize(
    "path",
    [
        "sweep.json",
        "status.json",
        "trials/b0.parquet",
        "metrics/b0-000001-000001.parquet",
        "details/b0-000001-000001.parquet",
        "checkpoints/b0.safetensors",
        "checkpoints/b0.json",
        "models/b0.safetensors",
        "starts/b0.json",
        "given-up/b0.json",
    ],
)
def test_a_directory_in_place_of_a_file_is_set_aside_with_what_it_holds(
    tmp_path: Path, trial, metric, path: str
) -> None:
    storage = Storage.open(tmp_path)

    def run() -> SweepStore:
        """The start of a run, and all that it writes."""
        store = SweepStore(storage, "s")
        quarantine(store, ())
        store.write_sweep_json({})
        store.write_status({})
        store.write_checkpoint_members("b0", ["t"])
        store.write_checkpoint("b0", b"c")
        store.write_metrics("b0", 1, 1, [metric(0, 1)])
        store.write_details("b0", 1, 1, [{**metric(0, 1), "quantity": "q", "item": "0", "values": [1.0]}])
        store.write_model("b0", b"m")
        storage.write("s/starts/b0.json", b"{}")
        store.write_given_up("b0", ["t"], "why", 1)
        store.commit_trials("b0", [trial(0)])
        return store

    for number in range(3):  # the names in set-aside/ are free
        (tmp_path / "s" / path).unlink(missing_ok=True)
        (tmp_path / "s" / path / "inside").mkdir(parents=True)
        (tmp_path / "s" / path / "inside" / "file").write_text(str(number))
        store = run()
        (note,) = [note for note in store.set_aside_notes if "it is a directory, not a file" in note]
        assert note.startswith(f"{tmp_path}/s/{path} was set aside: ")
        assert (tmp_path / "s" / path).is_file()
    kept = (tmp_path / "s" / "set-aside").glob("*/inside/file")
    assert sorted(file.read_text() for file in kept) == ["0", "1", "2"]
    assert SweepStore(storage, "s").committed() == ids(0)


def test_who_reads_says_that_a_directory_was_skipped(tmp_path: Path, trial, metric) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    store.write_metrics("b0", 1, 1, [metric(0, 1)])
    store.commit_trials("b0", [trial(0)])
    (tmp_path / "s" / "trials" / "b1.parquet").mkdir()
    results = query.load(store.storage, "s")
    assert len(results.trials) == 1 and any("b1.parquet" in note and "directory" in note for note in results.notes)
