"""A node with a sampler and objects is lost: the reader goes on with the same samples.

Ray's nodes listen on all interfaces and are found by name, so the cluster lives in namespaces of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

DRILL = Path(__file__).with_name("lost_node.py")
UNSHARE = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]


def may_unshare() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not may_unshare(), reason="needs the right to make namespaces (root on Linux)")
def test_the_samples_are_the_same_when_a_node_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = f"ip link set lo up; exec {sys.executable} {DRILL} {tmp_path / 'storage'}"
    environment = {**os.environ, "HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:  # for the names of sockets
        environment["RAY_TMPDIR"] = short
        done = subprocess.run(
            [*UNSHARE, "bash", "-c", command], capture_output=True, text=True, timeout=900, env=environment
        )
    assert "made on 2 nodes, the far one among them" in done.stdout, done.stdout + done.stderr
    assert "same" in done.stdout.splitlines(), done.stdout + done.stderr
