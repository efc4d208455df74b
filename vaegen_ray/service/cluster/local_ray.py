"""The Ray that we start on this machine: where its files go, how it starts, and what happens when it dies or ends.

Its processes do not get the SIGTERM that a batch system or container sends to all processes of a job: they are needed
until the bundles that run have saved their checkpoints. Where Ray itself dies, the driver ends with one line.
"""

import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from vaegen_ray import exit, scratch
from vaegen_ray.errors import VaegenError
from vaegen_ray.service.cluster import authentication

ATTEMPTS = 5
"""Starts of Ray before it is given up. Ray gives up a start itself after half a minute, which a busy machine takes."""
LOOK_SECONDS = 0.2
"""Longest time between two looks at whether Ray lives."""
AGENTS = 2
"""Agents that a raylet has here, and cannot do without."""
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Bytes of the longest path of a socket (``AF_UNIX``)."""
SESSION = "session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""What Ray puts behind its folder in the path of a socket."""

_running = ExitStack()
"""What is to be ended of the Ray that runs."""


def start(**settings: Any) -> None:
    """Starts Ray, as a cluster of this machine alone.

    Args:
        settings: of ``ray.init``.

    Raises:
        VaegenError: it does not start, or its folder cannot be used.
    """
    import ray

    with ExitStack() as stack:
        folder = _folder(stack)
        for attempt in range(1, ATTEMPTS + 1):
            before = _children(os.getpid())
            try:
                with exit.held_back():
                    ray.init("local", include_dashboard=False, _temp_dir=folder, **settings)
                break
            except Exception as error:
                ray.shutdown()
                _kill(_children(os.getpid()) - before)
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
                if attempt == ATTEMPTS:
                    raise VaegenError(
                        f"Ray did not start on this machine in {ATTEMPTS} attempts: {reason}; rerun the command when "
                        f"the machine is less busy"
                    ) from None
                exit.say(f"Ray did not start, attempt {attempt} of {ATTEMPTS}: {reason}")
        node = ray._private.worker._global_node
        stack.callback(_end, node)
        ended = threading.Event()
        stack.callback(ended.set)
        started = _children(os.getpid()) - before
        threading.Thread(target=_watch, args=(node, started, ended), daemon=True).start()
        _running.push(stack.pop_all())


def end() -> None:
    """Ends the Ray that ``start`` started, if it runs."""
    _running.close()


def _end(node: Any) -> None:
    """Ray asks its processes to end by SIGTERM, which they do not get, and waits a second for each of them. So they are
    killed, and then those that only their parent would have ended."""
    import ray

    def kill_all_processes(**settings: Any) -> None:
        type(node).kill_all_processes(node, **{**settings, "allow_graceful": False})

    processes = set().union(*(_children(infos[0].process.pid) for infos in node.all_processes.values()))
    node.kill_all_processes = kill_all_processes
    ray.shutdown()
    _kill(processes)


def _watch(node: Any, processes: set[Any], ended: threading.Event) -> None:
    """Ends the driver when a process of Ray dies that it cannot do without. Left alone, Ray ends the driver with no
    word for the user, seconds later or a minute.

    Args:
        node: of Ray.
        processes: all of Ray's that run.
        ended: whether Ray is being ended.
    """
    servers = {name: node.all_processes[name][0].process for name in ("gcs_server", "raylet")}
    agents: dict[str, Any] = {}
    deaths = _Deaths(server.pid for server in servers.values())
    while not ended.is_set():
        if len(agents) < AGENTS:  # they get their names a while after they have started
            found = {_name(child): child for child in _children(servers["raylet"].pid)}
            new = {name: child for name, child in found.items() if name.endswith("Agent") and name not in agents}
            agents |= new
            deaths.add(child.pid for child in new.values())
        deaths.wait(LOOK_SECONDS)
        codes = {name: server.poll() for name, server in servers.items()}
        dead = {name: _how(code) for name, code in codes.items() if code is not None}
        dead |= {name: "its raylet ends with it" for name, process in agents.items() if not _is_alive(process)}
        if dead and not ended.is_set():
            name, how = next(iter(dead.items()))
            exit.say(
                f"error: Ray's {name} ended during the run ({how}); finished VAEs and checkpoints are kept: rerun the "
                f"command to resume"
            )
            _kill(processes)
            exit.leave(exit.Exit.LEFT)


class _Deaths:
    """Waits for the death of processes, which Linux tells at once (``pidfd``): Ray ends a driver without a word less
    than a tenth of a second after the death of an agent. Other systems are asked again and again.

    Args:
        pids: of processes that live.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._poll = select.poll() if hasattr(os, "pidfd_open") else None
        self.add(pids)

    def add(self, pids: Iterable[int]) -> None:
        """Waits for these too."""
        if self._poll is None:
            return
        for pid in pids:
            with suppress(OSError):  # it has ended, which the next look sees
                self._poll.register(os.pidfd_open(pid), select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Returns when one has ended, at the latest after ``seconds``."""
        if self._poll is None:
            time.sleep(seconds)
        else:
            self._poll.poll(1000 * seconds)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _name(process: Any) -> str:
    """What a process calls itself, such as ``DashboardAgent``."""
    import psutil

    with suppress(psutil.Error, LookupError):
        return str(process.cmdline()[0].rpartition(":")[2])
    return ""


def _is_alive(process: Any) -> bool:
    import psutil

    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _children(pid: int) -> set[Any]:
    """The processes that descend from one."""
    import psutil  # Ray brings it

    with suppress(psutil.Error):
        return set(psutil.Process(pid).children(recursive=True))
    return set()


def _kill(processes: set[Any]) -> None:
    import psutil

    for process in processes:
        with suppress(psutil.Error):  # it has ended
            process.kill()
    psutil.wait_procs(processes, timeout=LOOK_SECONDS)


def _folder(stack: ExitStack) -> str | None:
    """Where Ray keeps its sockets, logs and spilled objects: a folder of its own in the private one, or what
    ``RAY_TMPDIR`` says (None), under a short name where that is too long for sockets.

    Raises:
        VaegenError: it cannot be used.
    """
    given = os.environ.get(authentication.FOLDER)
    if given:
        folder = Path(given).absolute() / "ray"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise VaegenError(
                f"{authentication.FOLDER} must be a folder that can be written; got {given!r}: {error.strerror}"
            ) from None
        if len(os.fsencode(folder / SESSION)) <= SOCKET_BYTES:
            return None
    private = authentication.private_folder()
    own = stack.enter_context(scratch.folder(private, "run-")) / "ray"
    if given:
        own.symlink_to(folder)
    return str(own)
