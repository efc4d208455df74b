"""Everything of Ray's private interface that this package uses, one function each.

Where a version of Ray changes it, ``tests/service/cluster/test_ray_private.py`` fails and says what to do.
"""

from collections.abc import Callable
from typing import Any

CONNECT = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1])
except AuthenticationError:
    print("refused")
else:
    print("accepted")
"""
"""Connects with the head of a cluster, in a process of its own: Ray reads ``RAY_AUTH_MODE`` once a process, logs
refusals, and aborts the process where it finds no token."""


def set_loopback_only(is_local: bool) -> None:
    """Makes the Ray that this process starts next listen on 127.0.0.1 alone, as Ray does on Windows and macOS, or makes
    this process able to join a cluster."""
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = not is_local


def reload_authentication() -> None:
    """Makes Ray read ``RAY_AUTH_MODE`` and the token again, which it read when it was imported."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def resolve_address(address: str) -> str:
    """The address ``HOST:PORT`` of the head, also of ``auto``.

    Raises:
        ConnectionError, ValueError, OSError: no cluster is known, or it is no address.
    """
    from ray._private.services import canonicalize_bootstrap_address

    return str(canonicalize_bootstrap_address(address))


def find_node() -> Any:
    """The node of this process, after ``ray.init``."""
    import ray

    return ray._private.worker._global_node


def list_processes(node: Any) -> dict[str, Any]:
    """The processes (``subprocess.Popen``) that ``ray.init`` started for a node, by name; empty where it joined one."""
    return {name: infos[0].process for name, infos in node.all_processes.items()}


def shut_down_at_once(node: Any) -> None:
    """``ray.shutdown``, which kills the processes of the node: otherwise Ray sends them SIGTERM, which those that we
    started do not get, and waits a second for each."""
    import ray

    kill: Callable[..., None] = node.kill_all_processes
    node.kill_all_processes = lambda **settings: kill(**{**settings, "allow_graceful": False})
    ray.shutdown()


def build_init_settings(folder: str | None, memory: int) -> dict[str, Any]:
    """Private settings of ``ray.init``: where Ray keeps its files, and the bytes that it has for tasks."""
    return {"_temp_dir": folder, "_memory": memory}


def find_raylet_socket() -> str | None:
    """The path of the socket of the raylet that this process uses; None where there is none on this machine."""
    return getattr(find_node(), "raylet_socket_name", None)
