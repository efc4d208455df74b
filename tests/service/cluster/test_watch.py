"""A process of Ray dies: it is noticed at once, and the driver ends with one line, in a joined cluster too."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from vaegen_ray.service.cluster import watch

HEAD = """
import sys, ray
ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=10**8)
raylet = ray._private.worker._global_node.all_processes["raylet"][0].process.pid
print(ray.get_runtime_context().gcs_address, raylet, flush=True)
sys.stdin.read()
"""
DRIVER = """
import sys
from vaegen_ray.service.cluster import connect
connect.connect(sys.argv[1])
print("joined", flush=True)
sys.stdin.read()
"""


def test_a_death_is_reported_at_once() -> None:
    """Ray ends the driver a moment after the death of an agent, so that polling now and then is too late."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        deaths = watch.Deaths([process.pid])
        deaths.wait(0.01)
        assert process.poll() is None
        process.kill()
        deaths.wait(3600)
        assert process.wait() == -signal.SIGKILL
        watch.Deaths([process.pid]).wait(0.01)  # of a process that has ended


def test_a_driver_in_a_joined_cluster_says_that_its_raylet_ended(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir(mode=0o700)
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with tempfile.TemporaryDirectory(prefix="vr-", ignore_cleanup_errors=True) as short:  # for the names of sockets
        environment = {**inherited, "HOME": str(tmp_path), "RAY_TMPDIR": short, "RAY_AUTH_MODE": "token"}
        environment |= {"RAY_USAGE_STATS_ENABLED": "0"}
        with subprocess.Popen([sys.executable, "-c", HEAD], env=environment, **pipes) as head:  # type: ignore[call-overload]
            address, raylet = head.stdout.readline().split()
            command = [sys.executable, "-c", DRIVER, address]
            with subprocess.Popen(command, env=environment, **pipes) as driver:  # type: ignore[call-overload]
                joined = driver.stdout.readline()
                os.kill(int(raylet), signal.SIGKILL)
                driver.wait(timeout=300)
                assert joined == "joined\n", driver.stderr.read()
                error = driver.stderr.read()
            head.kill()
    expected = "error: Ray's raylet ended during the run (on this machine); finished VAEs and checkpoints are kept: "
    assert (driver.returncode, error) == (1, f"{expected}rerun the command to resume\n")
