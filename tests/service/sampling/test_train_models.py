"""Which models count as trained: damaged ones do not; what the storage refuses to show is not taken for damage."""

import re
import subprocess
import sys
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from ray.exceptions import GetTimeoutError

from vaegen_ray.diffusion.network import build_denoiser
from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.results.diffusions import MARK, WEIGHTS, DiffusionStore
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.sampling import train_models
from vaegen_ray.service.sampling.diffusion_worker import commit, import_weights
from vaegen_ray.spec.diffusion import DiffusionSpec

SPEC = DiffusionSpec(channels=8, blocks=1)


def weights() -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in build_denoiser(SPEC).named_parameters()}


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Storage, str]:
    storage = Storage.open(tmp_path)
    return storage, commit(DiffusionStore(storage, SPEC.diffusion_id), SPEC, weights(), losses=[])


def file(storage: Storage, name: str) -> Path:
    return Path(storage.where(f"diffusion/{SPEC.diffusion_id}/{name}"))


def test_a_trained_model_is_known_by_its_weights(trained: tuple[Storage, str]) -> None:
    storage, digest = trained
    lines: list[str] = []
    assert train_models.find_committed(storage, SPEC, lines.append) == digest
    assert train_models.find_committed(storage, DiffusionSpec(), lines.append) is None
    assert lines == []


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
    lines: list[str] = []
    assert train_models.find_committed(storage, SPEC, lines.append) is None
    assert len(lines) == 1 and str(path) in lines[0] and "set aside" in lines[0]
    assert not file(storage, MARK).exists()
    assert train_models.find_committed(storage, SPEC, lines.append) is None and len(lines) == 1


def test_a_storage_that_does_not_answer_costs_no_weights(
    trained: tuple[Storage, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, digest = trained

    def refuse(self: Storage, path: str) -> bytes:
        raise StorageError(f"cannot read {path}: the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "read_optional", refuse)
        with pytest.raises(StorageError, match="the network is down"):
            train_models.find_committed(storage, SPEC, print)
    assert train_models.find_committed(storage, SPEC, print) == digest


def test_weights_that_are_not_finite_are_not_imported() -> None:
    import safetensors.torch

    given = weights()
    given["network.first.weight"][3, 3] = torch.nan
    with pytest.raises(DataFormatError, match=r"not finite: network\.first\.weight"):
        import_weights(SPEC, safetensors.torch.save(given), "w.safetensors")


def test_models_are_trained_side_by_side() -> None:
    """Each job waits until the other has begun; one after another they would wait for ever."""
    both = Barrier(2, timeout=600)
    train_models.run_all([lambda: both.wait() and None, lambda: both.wait() and None])


def test_one_failed_training_is_told_when_the_others_have_ended() -> None:
    done = []

    def fail() -> None:
        raise DataFormatError("broken")

    with pytest.raises(DataFormatError, match="broken"):
        train_models.run_all([fail, lambda: done.append(1), lambda: done.append(2)])
    assert sorted(done) == [1, 2]
    train_models.run_all([])


PAUSING = Path(__file__).with_name("pausing_diffusion.py")


@pytest.mark.parametrize(
    ("point", "percent"),
    [pytest.param("block", "30", id="in-a-block"), pytest.param("commit", "100", id="at-the-end")],
)
def test_a_training_says_how_far_it_is_at_any_point_and_that_it_has_ended(
    point: str, percent: str, tmp_path: Path
) -> None:
    """The worker continues when the driver has printed the progress, so a driver that prints nothing would wait for
    ever; one that takes the commit mark for that of another driver would end without the last line."""
    command = [sys.executable, str(PAUSING), point, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    first, *middle, last = done.stdout.splitlines()
    assert first.startswith("training a diffusion model")
    progress = [
        number for number, line in enumerate(middle) if line.startswith("diffusion model (100 images of digits)")
    ]
    assert re.match(rf".*: {percent} %", middle[progress[0]]), done.stdout
    where = re.escape(f"{tmp_path}/diffusion/")
    assert re.fullmatch(rf"the diffusion model is trained \(100 images of digits\): loss .*; {where}.*", last)
    assert not any("waits for" in line for line in middle[progress[0] :])


def test_the_course_of_a_training_says_what_is_left_and_notices_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(train_models.time, "monotonic", lambda: now[0])
    lines: list[str] = []
    progress = train_models.TrainingProgress("model", lines.append)
    for seconds, fraction in ((1, 0.5), (11, 0.6), (15, 0.62), (21, 0.7)):
        now[0] = 100.0 + seconds
        progress.update({"fraction": fraction, "loss": 0.25})
    assert lines == ["model: 60 %, loss 0.250, about 40 s left", "model: 70 %, loss 0.250, about 30 s left"]
    now[0] += train_models.STUCK_SECONDS
    with pytest.raises(GetTimeoutError, match="it has completed no step for 1 h 0 min"):
        progress.update({"fraction": 0.7, "loss": 0.25})
