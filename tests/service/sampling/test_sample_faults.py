"""Kill anything of the sampler pool at any point: the rows and the shards are those of an undisturbed run.

Every case starts Ray on this machine in a process of its own.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

SWEEP = Path(__file__).with_name("faulty_samples.py")


def run(storage: Path, *options: str, point: str = "none", count: int = 1) -> tuple[int, str]:
    markers = storage / "markers"
    markers.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(SWEEP), point, str(count), str(markers), "--storage", str(storage), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    output = done.stdout + done.stderr
    assert "Traceback" not in output, output
    return done.returncode, output


def shards(storage: Path) -> dict[str, str]:
    """SHA-256 of every shard by its path."""
    paths = sorted(storage.glob("samples/*/*.arrow"))
    return {str(path.relative_to(storage)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def assert_same(assert_same_rows: Callable[[Path, Path], None], undisturbed: Path) -> Callable[[Path], None]:
    """A function that compares rows and shards with those of the undisturbed run."""

    def compare(storage: Path) -> None:
        assert_same_rows(storage / "faulty", undisturbed / "faulty")
        found, expected = shards(storage), shards(undisturbed)
        common = found.keys() & expected.keys()
        assert len(common) >= 6, "the first shards, which every trial reads"
        assert {path: found[path] for path in common} == {path: expected[path] for path in common}

    return compare


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed")
    code, output = run(storage, "--samplers", "1:1")
    assert code == 0, output
    trials = pd.concat([pd.read_parquet(path) for path in storage.glob("faulty/trials/*.parquet")])
    assert len(trials) == 8 and trials["samples_digest"].nunique() == 1
    return storage


slow = pytest.mark.slow
CASES = [
    pytest.param("made", 2, id="sampler-before-its-file"),
    pytest.param("asked", 3, id="coordinator", marks=slow),
    pytest.param("written", 1, id="sampler-after-its-file", marks=slow),
    pytest.param("made", 1, id="sampler-at-once", marks=slow),
    pytest.param("asked", 1, id="coordinator-at-once", marks=slow),
    pytest.param("asked", 12, id="coordinator-late", marks=slow),
    pytest.param("got", 2, id="reader", marks=slow),
    pytest.param("got", 9, id="reader-late", marks=slow),
    pytest.param("begun", 1, id="diffusion-worker-at-once", marks=slow),
    pytest.param("trained", 1, id="diffusion-worker-after-a-checkpoint", marks=slow),
]


@pytest.mark.parametrize(("point", "count"), CASES)
def test_a_kill_changes_no_row_and_no_shard(point: str, count: int, assert_same: Any, tmp_path: Path) -> None:
    code, output = run(tmp_path, "--samplers", "1:3", point=point, count=count)
    assert (tmp_path / "markers" / f"{point}-{count}").exists(), f"the fault was never reached\n{output}"
    assert code == 0, output
    assert_same(tmp_path)


@pytest.mark.slow
def test_a_damaged_and_a_deleted_shard_are_made_again(assert_same: Any, tmp_path: Path) -> None:
    code, output = run(tmp_path)
    assert code == 0, output
    before = shards(tmp_path)
    first, second, *_ = sorted(tmp_path / path for path in before)
    first.write_bytes(first.read_bytes()[:-100])
    second.unlink()
    for path in (tmp_path / "faulty").glob("*/*"):
        path.unlink()
    code, output = run(tmp_path)
    assert code == 0, output
    assert f"{first} was set aside" in output
    assert shards(tmp_path) == before
    assert_same(tmp_path)


@pytest.mark.parametrize(("point", "count", "where"), [("full", 3, "/samples/"), ("model", 2, "/diffusion/")])
def test_a_full_disk_ends_the_run_with_one_line_and_nothing_is_lost(
    point: str, count: int, where: str, assert_same: Any, tmp_path: Path
) -> None:
    code, output = run(tmp_path, point=point, count=count)
    assert code == 2, output
    (line,) = [line for line in output.splitlines() if "No space left on device" in line]
    assert line.startswith("error: cannot write ") and where in line
    assert "was lost" not in output and "start 1" not in output
    code, output = run(tmp_path)
    assert code == 0, output
    assert_same(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "count", "line"), [("away", 2, "is to be made again: cannot"), ("model_away", 2, "; start 1 of 4")]
)
def test_a_storage_that_refuses_once_ends_no_run(
    point: str, count: int, line: str, assert_same: Any, tmp_path: Path
) -> None:
    code, output = run(tmp_path, point=point, count=count)
    assert code == 0, output
    assert sum("Input/output error" in each and line in each for each in output.splitlines()) == 1, output
    assert_same(tmp_path)
