"""A node with a sampler and objects is lost: the reader gets the same samples."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

DRILL = Path(__file__).with_name("lost_node.py")


@pytest.mark.slow
def test_the_samples_are_the_same_when_a_node_is_lost(tmp_path: Path, namespaces: list[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [*namespaces, sys.executable, str(DRILL), str(tmp_path / "storage")]
    environment = {**os.environ, "HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:  # for the names of sockets
        environment["RAY_TMPDIR"] = short
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert "made on 2 nodes, the far one among them" in done.stdout, done.stdout + done.stderr
    assert "same" in done.stdout.splitlines(), done.stdout + done.stderr
