"""A cluster loses and gains nodes while a sweep runs on it: the rows of an undisturbed run, none lost, none double.

Ray's nodes listen on all interfaces and are found by name, so every cluster lives in namespaces of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

CLUSTER = Path(__file__).with_name("faulty_cluster.py")
SWEEP = CLUSTER.parents[1] / "service" / "driver" / "faulty_sweep.py"
pytestmark = pytest.mark.slow


def meet(namespaces: list[str], fault: str, folder: Path, health: str = "short") -> dict[str, Any]:
    """What was seen while a cluster of its own met the fault."""
    (folder / "home").mkdir()
    command = [*namespaces, sys.executable, str(CLUSTER), fault, health, str(folder / "storage")]
    environment = {**os.environ, "HOME": str(folder / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:  # for the names of sockets
        environment |= {"RAY_TMPDIR": short, "RAY_AUTH_MODE": "disabled"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "Traceback" not in "".join(seen["output"]), seen["output"]
    print({name: value for name, value in seen.items() if name != "output"})
    return seen


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, str(SWEEP), "none", "1", "nobody", str(storage)]
    command += ["--storage", str(storage), "--bundle-size", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return storage / "faulty"


def check_codes(seen: dict[str, Any], fault: str) -> None:
    *first, last = seen["codes"]
    assert last == 0 and len(first) == (fault == "head-lost") and 0 not in first, seen


@pytest.mark.parametrize(
    ("fault", "health"),
    [
        *(("node-lost", health) for health in ("short", "usual")),
        *(("node-frozen", health) for health in ("short", "usual")),
        ("node-added", "short"),
        *(("head-lost", health) for health in ("short", "usual")),
        ("head-restarted", "usual"),
    ],
)
def test_nodes_come_and_go_and_no_row_changes(
    fault: str, health: str, undisturbed: Path, tmp_path: Path, namespaces: list[str], assert_same_rows: Any
) -> None:
    seen = meet(namespaces, fault, tmp_path, health)
    check_codes(seen, fault)
    if fault == "node-lost":
        assert "a worker with 2 VAEs was lost; the bundle goes on from its last checkpoint" in seen["output"][0]
    if fault == "node-frozen":
        assert (tmp_path / "storage/markers/unasked").exists(), "it trained its bundle beside the copy"
    if fault == "node-added":
        assert sum(seen["bundles_of_nodes"]) == 3 and min(seen["bundles_of_nodes"]) >= 1
    assert_same_rows(tmp_path / "storage" / "faulty", undisturbed)
