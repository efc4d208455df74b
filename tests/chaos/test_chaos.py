"""A short play of chaos: several rounds of the harness have no fault. `make chaos` plays longer."""

import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).with_name("chaos.py")
UNSHARE = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "true"]


def may_unshare() -> bool:
    try:
        return subprocess.run(UNSHARE, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not may_unshare(), reason="needs the right to make namespaces (root on Linux)")
def test_disturbed_sweeps_and_searches_end_as_undisturbed_ones(tmp_path: Path) -> None:
    command = [sys.executable, str(CHAOS), "--minutes", "1.5", "--seed", "1", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "disturbances in" in done.stdout
