"""The Ray that ``connect`` starts on this machine: where its files go, how it starts and ends.

Its processes do not get the SIGTERM that a batch system or container sends to all processes of a job: they are needed
until the running bundles have saved their checkpoints.
"""

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vaegen_ray import exit, scratch
from vaegen_ray.errors import VaegenError
from vaegen_ray.service.cluster import authentication, ray_private, watch

ATTEMPTS = 5
"""Starts of Ray before an error. Ray itself fails when a start takes half a minute, as on a busy machine."""
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Bytes of the longest path of a socket (``AF_UNIX``)."""
SESSION = "session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""What Ray appends to its folder in the path of a socket."""


def start(memory: int, **settings: Any) -> ExitStack:
    """Starts Ray, as a cluster of this machine alone.

    Args:
        memory: bytes that it has for its workers.
        settings: of ``ray.init``.

    Returns:
        What ends it when it is closed.

    Raises:
        VaegenError: it does not start, or its folder cannot be used.
    """
    import ray

    with ExitStack() as stack:
        settings |= ray_private.build_init_settings(create_folder(stack), max(memory, 1))
        for attempt in range(1, ATTEMPTS + 1):
            before = watch.list_descendants(os.getpid())
            stop_watching = watch.watch_start(before)
            try:
                with exit.held_back():
                    ray.init("local", include_dashboard=False, **settings)
                break
            except Exception as error:
                stop_watching()
                ray.shutdown()
                watch.kill(watch.list_descendants(os.getpid()) - before)
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
                if attempt == ATTEMPTS:
                    raise VaegenError(
                        f"Ray did not start on this machine in {ATTEMPTS} attempts: {reason}; rerun the command when "
                        f"the machine is less busy"
                    ) from None
                exit.say(f"Ray did not start, attempt {attempt} of {ATTEMPTS}: {reason}")
        node = ray_private.find_node()
        stack.callback(_end, node)
        stack.callback(watch.watch_local(node, watch.list_descendants(os.getpid()) - before))
        stop_watching()
        return stack.pop_all()


def _end(node: Any) -> None:
    """Kills Ray's processes, and then those that only their parent would have ended."""
    pids = [process.pid for process in ray_private.list_processes(node).values()]
    descendants = set().union(*map(watch.list_descendants, pids))
    ray_private.shut_down_at_once(node)
    watch.kill(descendants)


def create_folder(stack: ExitStack) -> str | None:
    """Creates the folder of Ray's sockets, logs and spilled objects, until ``stack`` closes: a new one in the private
    folder, or the one that ``RAY_TMPDIR`` names (None), under a short name where that is too long for sockets.

    Raises:
        VaegenError: it cannot be used.
    """
    wanted = os.environ.get(authentication.FOLDER)
    if wanted:
        folder = Path(wanted).absolute() / "ray"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise VaegenError(
                f"{authentication.FOLDER} must be a folder that can be written; got {wanted!r}: {error.strerror}"
            ) from None
        if len(os.fsencode(folder / SESSION)) <= SOCKET_BYTES:
            return None
    private = authentication.find_private_folder()
    short = stack.enter_context(scratch.folder(private, "run-")) / "ray"
    if wanted:
        short.symlink_to(folder)
    return str(short)
