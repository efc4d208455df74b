"""The files of diffusion models: what counts as trained, and what damage does."""

import pytest

from vaegen_ray.errors import DataFormatError, SpecError, StorageError
from vaegen_ray.results.diffusions import MARK, TRAINING, WEIGHTS, DiffusionStore, models
from vaegen_ray.results.storage import Storage
from vaegen_ray.spec.diffusion import DiffusionSpec

SPEC = DiffusionSpec()
FOLDER = f"diffusion/{SPEC.diffusion_id}"


@pytest.fixture
def store(storage: Storage) -> DiffusionStore:
    return DiffusionStore(storage, SPEC.diffusion_id)


def test_nothing_is_there_at_first(store: DiffusionStore) -> None:
    assert store.committed() is None and store.read_spec() is None and store.read_training() is None
    assert models(store.storage) == []
    with pytest.raises(StorageError, match=f"no trained weights in .*{SPEC.diffusion_id}"):
        store.read_weights()
    store.delete_training()
    assert store.storage.folders() == []


def test_committed_weights_are_read_again(store: DiffusionStore) -> None:
    store.commit(b"weights", "digest", losses=[[100, 0.5]])
    mark = store.committed()
    assert mark is not None and mark["digest"] == "digest" and mark["losses"] == [[100, 0.5]]
    assert store.read_weights() == b"weights"
    assert store.storage.list(FOLDER) == [MARK, WEIGHTS]
    assert DiffusionStore(store.storage, SPEC.diffusion_id).committed() == mark


def test_weights_without_their_mark_are_not_trained(store: DiffusionStore) -> None:
    store.commit(b"weights", "digest")
    store.storage.delete(f"{FOLDER}/{MARK}")
    assert store.storage.list(FOLDER) == [WEIGHTS]
    assert store.committed() is None
    with pytest.raises(StorageError, match="no trained weights"):
        store.read_weights()


def test_the_mark_is_written_last(store: DiffusionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that is cut short after any of its writes has either no mark or whole weights."""
    left = []
    write = Storage.write

    def overheard(storage: Storage, path: str, data: bytes) -> None:
        write(storage, path, data)
        left.append(storage.list(FOLDER))
        assert MARK not in left[-1] or store.read_weights() == b"weights"

    monkeypatch.setattr(Storage, "write", overheard)
    store.commit(b"weights", "digest")
    assert left == [[WEIGHTS], [MARK, WEIGHTS]]


def test_a_mark_without_weights_is_no_reading(store: DiffusionStore) -> None:
    store.commit(b"weights", "digest")
    store.storage.delete(f"{FOLDER}/{WEIGHTS}")
    with pytest.raises(DataFormatError, match="weights.safetensors is missing"):
        store.read_weights()
    store.set_aside(WEIGHTS, "gone")
    assert store.committed() is None


@pytest.mark.parametrize("damage", [b"", b"weight", b"weightz", b"weights and more"])
def test_damaged_weights_are_noticed_and_set_aside_with_their_mark(store: DiffusionStore, damage: bytes) -> None:
    store.write_spec(SPEC)
    store.commit(b"weights", "digest")
    store.storage.write(f"{FOLDER}/{WEIGHTS}", damage)
    with pytest.raises(DataFormatError, match="damaged") as error:
        store.read_weights()
    assert store.where(WEIGHTS) in str(error.value) and "\n" not in str(error.value)
    note = store.set_aside(WEIGHTS, "its SHA-256 is wrong")
    assert store.where(WEIGHTS) in note and "its SHA-256 is wrong" in note and "\n" not in note
    assert store.committed() is None
    assert store.storage.list(FOLDER) == ["spec.json"]
    assert store.storage.list(f"{FOLDER}/set-aside") == [MARK, WEIGHTS]
    assert store.storage.read(f"{FOLDER}/set-aside/{WEIGHTS}") == damage
    store.commit(b"weights", "digest")
    assert store.read_weights() == b"weights"


def test_setting_weights_aside_takes_the_mark_first(store: DiffusionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit(b"weights", "digest")
    moved = []
    move = Storage.move

    def overheard(storage: Storage, source: str, target: str) -> None:
        move(storage, source, target)
        moved.append(source.rpartition("/")[2])

    monkeypatch.setattr(Storage, "move", overheard)
    store.set_aside(WEIGHTS, "damaged")
    assert moved == [MARK, WEIGHTS]


def test_the_state_of_a_training_is_replaced_and_removed(store: DiffusionStore) -> None:
    store.write_training(b"old")
    store.write_training(b"new")
    assert store.read_training() == b"new"
    assert store.committed() is None
    store.delete_training()
    assert store.read_training() is None
    store.delete_training()
    assert store.storage.list(FOLDER) == []


def test_a_training_is_set_aside_alone(store: DiffusionStore) -> None:
    store.commit(b"weights", "digest")
    store.write_training(b"state")
    note = store.set_aside(TRAINING, "cut short")
    assert store.where(TRAINING) in note and "cut short" in note
    assert store.read_training() is None
    assert store.storage.read(f"{FOLDER}/set-aside/{TRAINING}") == b"state"
    assert store.read_weights() == b"weights"
    store.write_training(b"again")
    store.set_aside(TRAINING, "again")
    assert store.storage.list(f"{FOLDER}/set-aside") == [TRAINING]


def test_the_specification_that_is_kept_makes_the_same_model(store: DiffusionStore) -> None:
    store.write_spec(SPEC)
    kept = store.read_spec()
    assert kept is not None
    assert DiffusionSpec(**kept) == SPEC and DiffusionSpec(**kept).diffusion_id == store.diffusion_id


def test_models_are_listed_by_their_id(storage: Storage) -> None:
    specs = [DiffusionSpec(seed=seed) for seed in range(3)]
    for spec in specs:
        DiffusionStore(storage, spec.diffusion_id).write_spec(spec)
    assert models(storage) == sorted(spec.diffusion_id for spec in specs)
    DiffusionStore(storage, specs[1].diffusion_id).commit(b"weights", "digest")
    trained = [name for name in models(storage) if DiffusionStore(storage, name).committed()]
    assert trained == [specs[1].diffusion_id]


def test_a_picture_is_kept_beside_the_weights(store: DiffusionStore) -> None:
    assert store.write_picture(b"png") == store.storage.where(f"{FOLDER}/samples.png")
    assert store.storage.read(f"{FOLDER}/samples.png") == b"png"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../other", "a b", ".hidden"])
def test_a_name_cannot_leave_the_storage(storage: Storage, name: str) -> None:
    with pytest.raises(SpecError, match="the id of a diffusion model must be letters"):
        DiffusionStore(storage, name)
