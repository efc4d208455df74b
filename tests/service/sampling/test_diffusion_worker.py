"""A worker that trains a diffusion model, without Ray: kills, damaged checkpoints, what it leaves, imported weights."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from vaegen_ray.data import catalog
from vaegen_ray.diffusion import training as training_module
from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.diffusion.shards import ShardMaker
from vaegen_ray.diffusion.training import DiffusionTrainer
from vaegen_ray.errors import DataFormatError
from vaegen_ray.results.diffusions import TRAINING, WEIGHTS, DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.serialization import digest, pack, unpack
from vaegen_ray.service.sampling.diffusion_worker import DiffusionWorker, commit, import_weights, read_weights
from vaegen_ray.spec.diffusion import DiffusionSpec, Sampler, StreamSpec

SPEC = DiffusionSpec(n_train=100, images=4000, channels=16, blocks=1, batch_size=64, warmup_images=500)
FOREVER = 1e9
FINISHED = ["spec.json", "weights.json", "weights.safetensors"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def blocks_of_twenty_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "BLOCK_STEPS", 20)  # the training has 63: four blocks


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return catalog.load("digits", levels=17, n_train=100).train.images


def store_in(folder: Path, spec: DiffusionSpec = SPEC) -> DiffusionStore:
    return DiffusionStore(Storage.open(folder), spec.diffusion_id)


def worker_in(
    folder: Path, images: np.ndarray, *, every: float = FOREVER, spec: DiffusionSpec = SPEC
) -> DiffusionWorker:
    return DiffusionWorker(Storage.open(folder), spec, images, device="cpu", checkpoint_seconds=every)


def work(worker: DiffusionWorker) -> list[str]:
    """Trains to the end; returns the notes. The first samples come with the last report alone."""
    notes: list[str] = []
    while True:
        state = worker.advance(0.0)
        notes += state["notes"]
        assert (state["preview"] is not None) == state["finished"]
        if state["finished"]:
            return notes


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "diffusion" / SPEC.diffusion_id).iterdir())


def digest_in(folder: Path) -> str:
    mark = store_in(folder).committed()
    assert mark is not None
    assert mark["digest"] == digest(read_weights(store_in(folder)))
    return mark["digest"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, digits: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_module, "BLOCK_STEPS", 20)
        assert work(worker_in(folder, digits)) == []
    return folder


def test_a_finished_worker_leaves_weights_and_no_checkpoint(undisturbed: Path, digits: np.ndarray) -> None:
    assert files(undisturbed) == FINISHED
    store = store_in(undisturbed)
    assert DiffusionSpec(**(store.read_spec() or {})) == SPEC
    trainer = DiffusionTrainer(SPEC, torch.from_numpy(np.array(digits)))
    trainer.advance(FOREVER)
    assert digest_in(undisturbed) == digest(trainer.averaged())
    mark = store.committed() or {}
    assert [tuple(pair) for pair in mark["losses"]] == trainer.losses
    assert mark["losses"][-1][0] == 4032  # images seen: 63 batches


def test_a_worker_reports_its_progress(tmp_path: Path, digits: np.ndarray) -> None:
    worker, states = worker_in(tmp_path, digits, every=0.0), []
    for _ in range(4):
        assert store_in(tmp_path).committed() is None, "nothing is committed before the end"
        states.append(worker.advance(0.0))
    assert [state["fraction"] for state in states] == [20 / 63, 40 / 63, 60 / 63, 1.0]
    assert [state["finished"] for state in states] == [False, False, False, True]
    assert all(state["loss"] > 0 and state["notes"] == [] for state in states)
    assert store_in(tmp_path).committed() is not None


def test_a_worker_reports_its_progress_within_a_block(
    tmp_path: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread asks at every step of the first block, which ends after 20."""
    worker = worker_in(tmp_path, digits)
    assert worker.state() == {"fraction": 0.0, "loss": None}
    update, fractions = worker._trainer._update, []

    def asked(*batch: Tensor) -> None:
        update(*batch)
        with ThreadPoolExecutor(1) as other:
            fractions.append(other.submit(worker.state).result()["fraction"])

    monkeypatch.setattr(worker._trainer, "_update", asked)
    worker.advance(0.0)
    assert fractions == [step / 63 for step in range(1, 21)]


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_a_killed_worker_is_gone_on_with_to_the_same_weights(
    blocks: int, undisturbed: Path, tmp_path: Path, digits: np.ndarray
) -> None:
    first = worker_in(tmp_path, digits, every=0.0)
    for _ in range(blocks):
        first.advance(0.0)
    torch.manual_seed(5)
    second = worker_in(tmp_path, digits)
    assert second.advance(0.0)["fraction"] == min(1.0, 20 * (blocks + 1) / 63)
    assert work(second) == []
    assert digest_in(tmp_path) == digest_in(undisturbed)
    assert files(tmp_path) == FINISHED


def test_a_worker_of_an_mlp_computes_on_one_thread(undisturbed: Path, tmp_path: Path, digits: np.ndarray) -> None:
    torch.set_num_threads(2)
    try:
        worker = worker_in(tmp_path, digits)
        assert torch.get_num_threads() == 1
        work(worker)
    finally:
        torch.set_num_threads(1)
    assert digest_in(tmp_path) == digest_in(undisturbed)


def test_work_after_the_last_checkpoint_is_done_again(undisturbed: Path, tmp_path: Path, digits: np.ndarray) -> None:
    first = worker_in(tmp_path, digits)
    first.advance(0.0)
    first.save_checkpoint()
    first.advance(0.0)
    second = worker_in(tmp_path, digits)
    assert second.advance(0.0)["fraction"] == 40 / 63
    work(second)
    assert digest_in(tmp_path) == digest_in(undisturbed)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-100],
    "foreign": lambda data: safetensors.torch.save({"a": torch.zeros(3)}),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_checkpoint_is_set_aside_and_the_training_starts_anew(
    damage: str, undisturbed: Path, tmp_path: Path, digits: np.ndarray
) -> None:
    first = worker_in(tmp_path, digits, every=0.0)
    first.advance(0.0)
    store = store_in(tmp_path)
    damaged = DAMAGE[damage](store.read_training() or b"")
    store.write_training(damaged)
    second = worker_in(tmp_path, digits)
    state = second.advance(0.0)
    assert state["fraction"] == 20 / 63
    (note,) = state["notes"]
    assert store.where(TRAINING) in note and "set aside" in note and "starts anew" in note and "\n" not in note
    assert work(second) == []  # said once
    assert store.storage.read(f"diffusion/{SPEC.diffusion_id}/set-aside/{TRAINING}") == damaged
    assert digest_in(tmp_path) == digest_in(undisturbed)
    assert files(tmp_path) == sorted([*FINISHED, "set-aside"])


@pytest.mark.parametrize("changes", [{"blocks": 2}, {"image_shape": (1, 4, 4)}])
def test_a_checkpoint_of_another_network_is_set_aside_and_leaves_no_trace(
    changes: dict, undisturbed: Path, tmp_path: Path, digits: np.ndarray
) -> None:
    """Whole and undamaged, but from elsewhere: some of its tensors fit, and must not stay in the new training."""
    other = replace(SPEC, **changes)
    trainer = DiffusionTrainer(other, torch.zeros(100, *other.image_shape, dtype=torch.uint8))
    trainer.advance(0.0)
    store_in(tmp_path).write_training(pack(*trainer.state()))
    (note,) = work(worker_in(tmp_path, digits))
    assert "set aside" in note and "starts anew" in note and "\n" not in note
    assert digest_in(tmp_path) == digest_in(undisturbed)


@pytest.mark.parametrize("part", ["averaged.network.last.bias", "loss_sum"])
def test_a_checkpoint_that_lacks_a_part_leaves_no_trace(
    part: str, undisturbed: Path, tmp_path: Path, digits: np.ndarray
) -> None:
    first = worker_in(tmp_path, digits, every=0.0)
    first.advance(0.0)
    store = store_in(tmp_path)
    tensors, values = unpack(store.read_training() or b"", "checkpoint")
    del tensors[part]
    store.write_training(pack(tensors, values))
    (note,) = work(worker_in(tmp_path, digits))
    assert "set aside" in note and part in note
    assert digest_in(tmp_path) == digest_in(undisturbed)


def test_damaged_weights_are_trained_again_to_the_same(undisturbed: Path, tmp_path: Path, digits: np.ndarray) -> None:
    work(worker_in(tmp_path, digits))
    store = store_in(tmp_path)
    store.storage.write(f"diffusion/{SPEC.diffusion_id}/{WEIGHTS}", b"damaged")
    with pytest.raises(DataFormatError, match="damaged"):
        read_weights(store)
    store.set_aside(WEIGHTS, "damaged")
    work(worker_in(tmp_path, digits))
    assert digest_in(tmp_path) == digest_in(undisturbed)


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("last_words", ["commit", "has_picture", "delete_training"])
def test_a_worker_killed_while_it_commits_leaves_nothing_undone(
    last_words: str, undisturbed: Path, tmp_path: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*args: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionStore, last_words, kill)
        with pytest.raises(Killed):
            work(worker_in(tmp_path, digits, every=0.0))
    work(worker_in(tmp_path, digits))
    assert digest_in(tmp_path) == digest_in(undisturbed)
    assert files(tmp_path) == FINISHED


def test_a_trained_model_is_not_trained_again(
    tmp_path: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose last answer was lost is started again, and its weights are there."""
    work(worker_in(tmp_path, digits))
    before = store_in(tmp_path).committed()

    def again(*args: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(DiffusionTrainer, "advance", again)
    state = worker_in(tmp_path, digits).advance(0.0)
    assert state["finished"] and state["fraction"] == 1.0 and state["loss"] > 0
    assert store_in(tmp_path).committed() == before


def test_read_only_images_are_taken(tmp_path: Path, digits: np.ndarray) -> None:
    """As the object store hands them out."""
    locked = digits.copy()
    locked.flags.writeable = False
    worker_in(tmp_path, locked).advance(0.0)
    assert np.array_equal(locked, digits)


def weights_of(spec: DiffusionSpec) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in build_denoiser(spec).named_parameters()}


def test_a_safetensors_file_of_the_same_network_is_imported() -> None:
    weights = weights_of(SPEC)
    got = import_weights(SPEC, safetensors.torch.save(weights, {"from": "elsewhere"}), "w.safetensors")
    assert digest(got) == digest(weights)


def test_other_precisions_are_imported_as_float32() -> None:
    half = {name: tensor.half() for name, tensor in weights_of(SPEC).items()}
    got = import_weights(SPEC, safetensors.torch.save(half), "w.safetensors")
    assert {tensor.dtype for tensor in got.values()} == {torch.float32}
    assert all(torch.equal(got[name], tensor.float()) for name, tensor in half.items())


def test_committed_weights_can_be_imported_elsewhere_and_sampled(undisturbed: Path, tmp_path: Path) -> None:
    weights = import_weights(SPEC, store_in(undisturbed).read_weights(), "weights.safetensors")
    name = digest(weights)
    assert name == digest_in(undisturbed)
    imported = replace(SPEC, weights=name)
    assert imported.diffusion_id != SPEC.diffusion_id
    store = store_in(tmp_path, imported)
    assert commit(store, imported, weights, losses=[]) == name == (store.committed() or {})["digest"]
    stream = StreamSpec(diffusion=imported, sampler=Sampler(steps=3), shard_size=10, batch_size=5)
    made = ShardMaker(stream, read_weights(store)).shard(0)
    trained = StreamSpec(diffusion=SPEC, sampler=Sampler(steps=3), shard_size=10, batch_size=5)
    assert np.array_equal(made, ShardMaker(trained, read_weights(store_in(undisturbed))).shard(0))
    assert stream.digest(name) == trained.digest(name) and stream.stream_id != trained.stream_id


def test_weights_of_another_network_are_refused() -> None:
    other = safetensors.torch.save(weights_of(replace(SPEC, channels=32)))
    with pytest.raises(DataFormatError, match=r"^w.safetensors does not fit .*bias must be \(16,\); got \(32,\)$"):
        import_weights(SPEC, other, "w.safetensors")


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_file_is_not_imported(damage: str) -> None:
    data = DAMAGE[damage](safetensors.torch.save(weights_of(SPEC)))
    with pytest.raises(DataFormatError, match="w.safetensors") as error:
        import_weights(SPEC, data, "w.safetensors")
    assert "\n" not in str(error.value)
