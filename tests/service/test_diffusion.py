"""Which models count as trained: damaged ones do not; what the storage refuses to show is not taken for damage."""

from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from vaegen_ray.diffusion.network import denoiser_of
from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.results.diffusions import MARK, WEIGHTS, DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.service import diffusion
from vaegen_ray.service.diffusion_worker import commit, import_weights
from vaegen_ray.stream import DiffusionSpec

SPEC = DiffusionSpec(channels=8, blocks=1)


def weights() -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in denoiser_of(SPEC).named_parameters()}


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Storage, str]:
    storage = Storage.open(tmp_path)
    return storage, commit(DiffusionStore(storage, SPEC.diffusion_id), SPEC, weights(), losses=[])


def file(storage: Storage, name: str) -> Path:
    return Path(storage.where(f"diffusion/{SPEC.diffusion_id}/{name}"))


def test_a_trained_model_is_known_by_its_weights(trained: tuple[Storage, str]) -> None:
    storage, digest = trained
    said: list[str] = []
    assert diffusion.committed(storage, SPEC, said.append) == digest
    assert diffusion.committed(storage, DiffusionSpec(), said.append) is None
    assert said == []


@pytest.mark.parametrize("name", [MARK, WEIGHTS])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: b"[]", None])
def test_a_damaged_model_is_set_aside_and_to_be_trained_again(
    name: str, damage: Any, trained: tuple[Storage, str]
) -> None:
    storage, _ = trained
    path = file(storage, name)
    if damage is None:
        if name == MARK:
            return  # without its mark a model is unfinished, not damaged
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    said: list[str] = []
    assert diffusion.committed(storage, SPEC, said.append) is None
    assert len(said) == 1 and str(path) in said[0] and "set aside" in said[0]
    assert not file(storage, MARK).exists()
    assert diffusion.committed(storage, SPEC, said.append) is None and len(said) == 1


def test_a_storage_that_does_not_answer_costs_no_weights(
    trained: tuple[Storage, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, digest = trained

    def refuse(self: Storage, path: str) -> bytes:
        raise StorageError(f"cannot read {path}: the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "read_optional", refuse)
        with pytest.raises(StorageError, match="the network is down"):
            diffusion.committed(storage, SPEC, print)
    assert diffusion.committed(storage, SPEC, print) == digest


def test_weights_that_are_not_finite_are_not_imported() -> None:
    import safetensors.torch

    given = weights()
    given["network.first.weight"][3, 3] = torch.nan
    with pytest.raises(DataFormatError, match=r"not finite: network\.first\.weight"):
        import_weights(SPEC, safetensors.torch.save(given), "w.safetensors")


def test_models_are_trained_side_by_side() -> None:
    """Each job waits until the other has begun; one after another they would wait for ever."""
    both = Barrier(2, timeout=600)
    diffusion._at_once([lambda: both.wait() and None, lambda: both.wait() and None])


def test_one_failed_training_is_told_when_the_others_have_ended() -> None:
    done = []

    def fail() -> None:
        raise DataFormatError("broken")

    with pytest.raises(DataFormatError, match="broken"):
        diffusion._at_once([fail, lambda: done.append(1), lambda: done.append(2)])
    assert sorted(done) == [1, 2]
    diffusion._at_once([])
