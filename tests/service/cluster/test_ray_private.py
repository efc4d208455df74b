"""Ray's private interface still is what ``ray_private`` uses. Each failure says what to do."""

import json
import os
import signal
import subprocess
import sys

import pytest
import ray

from vaegen_ray.service.cluster import ray_private

REPLACE = (
    f"Ray {ray.__version__} has changed a private name: find its successor in Ray's source, use it in ray_private."
)


def test_loopback_and_clusters_can_be_chosen() -> None:
    from ray._private import ray_constants
    from ray._private.services import resolve_ip_for_localhost

    before = ray_constants.ENABLE_RAY_CLUSTER
    try:
        ray_private.set_loopback_only(True)
        assert resolve_ip_for_localhost("127.0.0.1") == "127.0.0.1", (
            f"{REPLACE}set_loopback_only; tests/cluster/test_tokens.py shows where a local Ray listens"
        )
        ray_private.set_loopback_only(False)
        assert ray_constants.ENABLE_RAY_CLUSTER
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@pytest.mark.parametrize(("mode", "expected"), [("token", 1), ("disabled", 0)])
def test_authentication_is_read_again(mode: str, expected: int) -> None:
    code = "import os, sys, ray; from ray._raylet import AuthenticationMode, get_authentication_mode\n"
    code += "from vaegen_ray.service.cluster import ray_private; os.environ['RAY_AUTH_MODE'] = sys.argv[1]\n"
    code += "ray_private.reload_authentication(); print(int(get_authentication_mode() == AuthenticationMode.TOKEN))"
    done = subprocess.run([sys.executable, "-c", code, mode], capture_output=True, text=True)
    assert done.stdout == f"{expected}\n", f"{REPLACE}reload_authentication\n{done.stderr}"


def test_addresses_are_resolved() -> None:
    assert ray_private.resolve_address("192.0.2.1:6379") == "192.0.2.1:6379", f"{REPLACE}resolve_address"
    with pytest.raises(ValueError, match="nonsense"):
        ray_private.resolve_address("nonsense")


def test_a_process_can_ask_whether_a_cluster_accepts_it() -> None:
    from ray._raylet import GcsClient
    from ray.exceptions import AuthenticationError

    assert callable(GcsClient) and issubclass(AuthenticationError, Exception), f"{REPLACE}CONNECT"
    compile(ray_private.CONNECT, "CONNECT", "exec")


LOCAL = """
import json, os, ray
from vaegen_ray.service.cluster import connect, ray_private
connect.connect(None)
node = ray_private.find_node()
processes = ray_private.list_processes(node)
seen = [sorted(processes), os.path.exists(ray_private.find_raylet_socket()), ray.cluster_resources()["memory"]]
connect.disconnect()
print(json.dumps([*seen, [process.poll() for process in processes.values()]]))
"""


def test_the_processes_of_a_local_ray_are_listed_and_killed() -> None:
    environment = {**os.environ, "SLURM_MEM_PER_NODE": "2000"}
    done = subprocess.run([sys.executable, "-c", LOCAL], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, f"{REPLACE}build_init_settings: ray.init refuses its settings\n{done.stderr}"
    names, has_socket, memory, codes = json.loads(done.stdout)
    assert {"gcs_server", "raylet"} <= set(names), f"{REPLACE}list_processes: a driver must notice when these die"
    assert has_socket, f"{REPLACE}find_raylet_socket: in a joined cluster a driver must notice when its raylet dies"
    assert memory < 2000 * 2**20, f"{REPLACE}build_init_settings: _memory bounds the workers"
    assert set(codes) == {-signal.SIGKILL}, f"{REPLACE}shut_down_at_once: a sweep must not wait seconds for Ray's end"
