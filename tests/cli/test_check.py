"""``vaegen check`` says what is damaged or missing, and changes nothing."""

from pathlib import Path

import pytest

from vaegen_ray.cli import main
from vaegen_ray.results.declaration import Declaration
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep of one committed trial."""
    store, spec = SweepStore(Storage.open(tmp_path), "s"), TrialSpec(seed=0)
    store.write_metrics("b0", 300, 300, [{"trial_id": spec.trial_id, "effective_epoch": 300.0}])
    store.write_model("b0", b"weights")
    store.commit_trials("b0", [trial_row(spec, sweep="s", bundle_id="b0", status="completed")], store.written("b0"))
    store.write_declaration(Declaration().with_trials([spec]))
    return tmp_path


def check(folder: Path, *arguments: str) -> int:
    return main(["check", "--storage", str(folder), *arguments])


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_storage(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert check(folder) == check(folder, "--deep") == check(folder, "s") == 0
    assert capsys.readouterr().out.count(": 0 faults\n") == 3


@pytest.mark.parametrize("path", ["metrics/b0-000300-000300.parquet", "models/b0.safetensors", "trials/b0.parquet"])
def test_a_flipped_bit_is_found_by_the_digest(folder: Path, path: str, capsys: pytest.CaptureFixture) -> None:
    data = bytearray((folder / "s" / path).read_bytes())
    data[-5] ^= 1
    (folder / "s" / path).write_bytes(data)
    before = files(folder)
    assert check(folder, "--deep") == 1
    line, summary = capsys.readouterr().out.splitlines()
    assert (
        path in line
        and "SHA-256" in line
        and "rerun the command of the sweep" in line
        and ("delete the file" in line) == ("models" in path)
    )
    assert "1 fault" in summary
    assert files(folder) == before


def test_a_missing_file_is_found_by_its_name(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "s" / "models" / "b0.safetensors").unlink()
    assert check(folder) == 1
    assert "models/b0.safetensors: it is missing" in capsys.readouterr().out


def test_a_changed_declaration_is_found(folder: Path, capsys: pytest.CaptureFixture) -> None:
    path = folder / "s" / "sweep.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert check(folder) == 1
    assert "sweep.json is damaged: its SHA-256" in capsys.readouterr().out


def test_damaged_checkpoints_and_shards_are_found(folder: Path, capsys: pytest.CaptureFixture) -> None:
    SweepStore(Storage.open(folder), "s").write_checkpoint("b1", b"damaged")
    (folder / "samples" / "x").mkdir(parents=True)
    (folder / "samples" / "x" / "stream.json").write_text("{}")
    assert check(folder, "--deep") == 1
    said = capsys.readouterr().out
    assert "b1.safetensors is not a whole checkpoint" in said and "samples/x" in said and "2 faults" in said


def test_a_sweep_that_is_not_there_is_one_line(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert check(folder, "other") == 2
    assert "no sweep 'other'" in capsys.readouterr().err
