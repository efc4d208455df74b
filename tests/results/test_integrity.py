"""A commit row names its files; what is missing, swapped, overwritten or flipped is seen by every reader."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vaegen_ray.errors import StorageError
from vaegen_ray.results import query
from vaegen_ray.results.cleanup import quarantine
from vaegen_ray.results.integrity import FOLDERS, find_faults
from vaegen_ray.results.live import LiveSweep
from vaegen_ray.results.manifest import FileFact, read_manifest
from vaegen_ray.results.parquet import CorruptFileError, decode
from vaegen_ray.results.schema import METRICS, VERSION_KEY, trials_schema
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec

LAST = "b0-000003-000003.parquet"


def id_of(seed: int) -> str:
    return TrialSpec(seed=seed).trial_id


@pytest.fixture
def store(storage: Storage) -> SweepStore:
    return SweepStore(storage, "s")


@pytest.fixture
def fill(trial: Callable, metric: Callable) -> Callable[[SweepStore], None]:
    """Two committed bundles of one trial each, evaluated at the epochs 2 and 3."""

    def fill(store: SweepStore) -> None:
        for seed in (0, 1):
            bundle = f"b{seed}"
            for epoch in (2, 3):
                store.write_metrics(bundle, epoch, epoch, [metric(seed, epoch, elbo_test=-10.0 * seed - epoch)])
            store.write_model(bundle, b"weights %d" % seed)
            store.commit_trials(bundle, [trial(seed, bundle, epochs=3)], store.written(bundle))

    return fill


def test_the_commit_row_names_all_files_with_their_digests(store: SweepStore, fill: Callable) -> None:
    fill(store)
    table = decode(store.storage.read("s/trials/b0.parquet"), trials_schema(), "b0")
    manifest = read_manifest(table)
    assert manifest == store.list_files("b0")
    assert set(manifest) == {"metrics/b0-000002-000002.parquet", f"metrics/{LAST}", "models/b0.safetensors"}
    for path, fact in manifest.items():
        assert fact == FileFact.of(store.storage.read(f"s/{path}"))
    assert find_faults(store.storage, "s", digests_of=FOLDERS) == []


def test_nothing_is_committed_while_a_file_is_missing(store: SweepStore, trial: Callable, metric: Callable) -> None:
    store.write_metrics("b0", 3, 3, [metric(0, 3)])
    store.storage.delete(f"s/metrics/{LAST}")
    with pytest.raises(StorageError, match=f"cannot commit bundle b0: .*{LAST}: it is missing"):
        store.commit_trials("b0", [trial(0)], store.written("b0"))
    assert store.committed() == set()


def overwrite(store: SweepStore, metric: Callable) -> None:
    """Another worker writes other numbers."""
    SweepStore(store.storage, "s").write_metrics("b0", 3, 3, [metric(0, 3, elbo_test=-3.5)])


def swap(store: SweepStore, metric: Callable) -> None:
    other = store.storage.read("s/metrics/b1-000003-000003.parquet")
    store.storage.write(f"s/metrics/{LAST}", other)


DAMAGES = {
    "missing": lambda store, metric: store.storage.delete(f"s/metrics/{LAST}"),
    "cut": lambda store, metric: store.storage.write(f"s/metrics/{LAST}", store.storage.read(f"s/metrics/{LAST}")[:-9]),
    "swapped": swap,
    "overwritten": overwrite,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_readers_leave_a_bundle_out_that_is_not_whole(
    store: SweepStore, fill: Callable, metric: Callable, damage: str
) -> None:
    """No earlier epoch is taken for the last; the other bundle is read as before."""
    fill(store)
    DAMAGES[damage](store, metric)
    results = query.load(store.storage, "s")
    assert list(results.last()["trial_id"]) == [id_of(1)] and list(results.last()["elbo_test"]) == [-13.0]
    (note,) = results.notes
    assert "trials/b0.parquet (1 VAE) was left out" in note and LAST in note and "\n" not in note


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_start_makes_it_to_do_again(store: SweepStore, fill: Callable, metric: Callable, damage: str) -> None:
    fill(store)
    DAMAGES[damage](store, metric)
    quarantine(store, held=())
    assert store.committed() == {id_of(1)}
    assert all("was set aside" in note for note in store.set_aside_notes) and store.set_aside_notes
    assert store.storage.list("s/metrics") == ["b1-000002-000002.parquet", "b1-000003-000003.parquet"]
    assert find_faults(store.storage, "s", digests_of=FOLDERS) == []


def test_weights_that_are_missing_are_to_do_again(store: SweepStore, fill: Callable) -> None:
    fill(store)
    store.storage.delete("s/models/b0.safetensors")
    assert len(query.load(store.storage, "s").trials) == 2  # the numbers are there
    assert store.committed() == {id_of(1)}
    store.storage.write("s/models/b0.safetensors", b"WEIGHTS 0")  # as many bytes
    assert store.committed() == {id_of(0), id_of(1)}
    (fault,) = find_faults(store.storage, "s", digests_of=FOLDERS)
    assert fault.path == "models/b0.safetensors" and "SHA-256" in fault.reason


def test_a_live_look_leaves_it_out_too(store: SweepStore, fill: Callable) -> None:
    live = LiveSweep(store.storage, "s")
    fill(store)
    assert len(live.look().trials) == 2 and live.look().notes == ()
    store.storage.delete(f"s/metrics/{LAST}")
    look = live.look()
    assert list(look.trials["trial_id"]) == [id_of(1)]
    assert f"metrics/{LAST}: it is missing" in look.notes[0]


def test_files_that_came_after_the_commit_do_not_count(store: SweepStore, fill: Callable, metric: Callable) -> None:
    """As of a worker that a search has stopped a moment late."""
    fill(store)
    store.write_metrics("b0", 4, 4, [metric(0, 4, elbo_test=0.0)])
    assert set(query.load(store.storage, "s").metrics["effective_epoch"]) == {2.0, 3.0}
    live = LiveSweep(store.storage, "s")
    assert sorted(live.look().last["effective_epoch"]) == [3.0, 3.0]


def test_damage_of_an_unfinished_bundle_costs_no_row(store: SweepStore, fill: Callable, metric: Callable) -> None:
    fill(store)
    store.write_metrics("b2", 2, 2, [metric(2, 2)])
    store.storage.write("s/metrics/b2-000002-000002.parquet", b"damaged")
    quarantine(store, held=())
    assert store.committed() == {id_of(0), id_of(1)}
    (note,) = store.set_aside_notes
    assert "b2-000002-000002.parquet was set aside" in note


def test_bundles_of_live_drivers_are_left_alone(store: SweepStore, fill: Callable) -> None:
    fill(store)
    store.write_checkpoint_members("b0", [id_of(0)])
    store.storage.delete(f"s/metrics/{LAST}")
    quarantine(store, held={id_of(0)})
    assert store.set_aside_notes == [] and store.storage.exists("s/trials/b0.parquet")
    quarantine(store, held={id_of(1)})
    assert not store.storage.exists("s/trials/b0.parquet")


@pytest.mark.parametrize("folder", ["metrics", "trials"])
def test_every_flipped_bit_of_a_file_is_seen(tmp_path: Path, trial: Callable, metric: Callable, folder: str) -> None:
    """Parquet has no checksum of the footer, where a flipped bit renames a column."""
    store = SweepStore(Storage.open(tmp_path), "s")
    store.write_metrics("b0", 3, 3, [metric(seed, 3, elbo_test=-1.0) for seed in range(3)])
    store.commit_trials("b0", [trial(seed) for seed in range(3)])
    schema = METRICS if folder == "metrics" else trials_schema()
    data = next((tmp_path / "s" / folder).iterdir()).read_bytes()
    decode(data, schema, "file")
    draw = random.Random(0)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for place in [*draw.sample(range(footer, len(data)), 200), *draw.sample(range(footer), 100)]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << draw.randrange(8)
        with pytest.raises(CorruptFileError):
            decode(bytes(flipped), schema, "file")


def test_files_of_the_first_version_are_read_and_their_column_names_checked(tmp_path: Path) -> None:
    """They have no digest: a column that this version never had is a flipped bit in a name."""
    old = Path(__file__).parent / "data" / "trials_v1.parquet"
    assert len(decode(old.read_bytes(), trials_schema(), "old")) > 0
    table = pq.read_table(old)
    names = ["architectqre" if name == "architecture" else name for name in table.column_names]
    assert names != table.column_names
    flipped = table.rename_columns(names).replace_schema_metadata({VERSION_KEY: "1"})
    pq.write_table(flipped, tmp_path / "flipped.parquet")
    with pytest.raises(CorruptFileError, match="schema version 1 has no column 'architectqre'"):
        decode((tmp_path / "flipped.parquet").read_bytes(), trials_schema(), "flipped")


def test_a_row_whose_id_does_not_follow_from_its_specification_is_damage(tmp_path: Path, trial: Callable) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    store.commit_trials("b0", [{**trial(0), "spec_json": TrialSpec(seed=1).spec_json}])
    with pytest.raises(CorruptFileError, match=f"the row of trial {id_of(0)} has the spec_json of trial {id_of(1)}"):
        decode(store.storage.read("s/trials/b0.parquet"), trials_schema(), "b0")


def test_the_same_rows_are_the_same_bytes(tmp_path: Path, fill: Callable) -> None:
    for folder in ("one", "other"):
        fill(SweepStore(Storage.open(tmp_path / folder), "s"))
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.parquet")]
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    shutil.rmtree(tmp_path / "one")
