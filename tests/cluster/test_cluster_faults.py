"""A cluster loses and gains nodes while a sweep runs on it: the rows of an undisturbed run, none lost, none double.

Ray's nodes listen on all interfaces and are found by name, so every cluster lives in namespaces of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

CLUSTER = Path(__file__).with_name("faulty_cluster.py")
SWEEP = CLUSTER.parents[1] / "service" / "driver" / "faulty_sweep.py"
UNSHARE = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
VARIES = ["wall_seconds", "evaluation_seconds", "node", "finished_at", "code_version"]


def may_unshare() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    )


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not may_unshare(), reason="needs the right to make namespaces (root on Linux)"),
]


def meet(fault: str, folder: Path, health: str = "short") -> dict[str, Any]:
    """What was seen while a cluster of its own met the fault."""
    (folder / "home").mkdir()
    command = f"ip link set lo up; exec {sys.executable} {CLUSTER} {fault} {health} {folder / 'storage'}"
    environment = {**os.environ, "HOME": str(folder / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:  # for the names of sockets
        environment |= {"RAY_TMPDIR": short, "RAY_AUTH_MODE": "disabled"}
        done = subprocess.run(
            [*UNSHARE, "bash", "-c", command], capture_output=True, text=True, timeout=1800, env=environment
        )
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "Traceback" not in "".join(seen["said"]), seen["said"]
    print({name: value for name, value in seen.items() if name != "said"})
    return seen


def rows(storage: Path) -> tuple[pd.DataFrame, ...]:
    """Trials, metrics and details as they lie in the files, sorted; nothing removed but times and the code version."""
    found = []
    for kind in ("trials", "metrics", "details"):
        frame = pd.concat([pd.read_parquet(path) for path in sorted((storage / "faulty" / kind).glob("*.parquet"))])
        keys = [name for name in ("trial_id", "effective_epoch", "quantity", "item") if name in frame]
        frame = frame.drop(columns=[name for name in VARIES if name in frame])
        found.append(frame.sort_values(keys).reset_index(drop=True))
    return tuple(found)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, str(SWEEP), "none", "1", "nobody", str(storage)]
    command += ["--storage", str(storage), "--bundle-size", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows(storage)[0]) == 6
    return storage


def assert_same_rows(storage: Path, expected: Path) -> None:
    for got, wanted in zip(rows(storage), rows(expected), strict=True):
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)


@pytest.mark.parametrize("health", ["short", "usual"])
def test_a_trainer_is_lost_in_the_middle_of_a_bundle(health: str, undisturbed: Path, tmp_path: Path) -> None:
    seen = meet("node-lost", tmp_path, health)
    assert seen["codes"] == [0], seen
    assert "a worker with 2 VAEs was lost; the bundle goes on from its last checkpoint" in seen["said"][0]
    assert_same_rows(tmp_path / "storage", undisturbed)


@pytest.mark.parametrize("health", ["short", "usual"])
def test_a_frozen_trainer_trains_its_bundle_beside_its_copy(health: str, undisturbed: Path, tmp_path: Path) -> None:
    seen = meet("node-frozen", tmp_path, health)
    assert seen["codes"] == [0], seen
    assert (tmp_path / "storage/markers/unasked").exists()
    assert_same_rows(tmp_path / "storage", undisturbed)


def test_a_trainer_that_comes_during_the_run_gets_bundles(undisturbed: Path, tmp_path: Path) -> None:
    seen = meet("node-added", tmp_path)
    assert seen["codes"] == [0], seen
    assert sum(seen["bundles_of_nodes"]) == 3 and min(seen["bundles_of_nodes"]) >= 1
    assert_same_rows(tmp_path / "storage", undisturbed)


@pytest.mark.parametrize("health", ["short", "usual"])
def test_a_head_is_lost_and_the_same_command_goes_on(health: str, undisturbed: Path, tmp_path: Path) -> None:
    seen = meet("head-lost", tmp_path, health)
    assert seen["codes"][0] != 0 and seen["codes"][1] == 0, seen
    assert_same_rows(tmp_path / "storage", undisturbed)


def test_a_head_that_keeps_its_state_comes_back_and_the_sweep_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    seen = meet("head-restarted", tmp_path, "usual")
    assert seen["codes"] == [0], seen
    assert_same_rows(tmp_path / "storage", undisturbed)
