"""Watches the processes of Ray that a driver depends on. Where one dies, the driver ends with one line.

Left alone, Ray ends the driver without a message, seconds later or a minute.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from vaegen_ray import exit
from vaegen_ray.service.cluster import ray_private

POLL_SECONDS = 0.2
"""Longest time between two checks whether Ray lives."""
SERVERS = ("gcs_server", "raylet")
AGENTS = 2
"""Agents that a raylet has here, and depends on."""

Stop = Callable[[], None]
"""Stops watching, before Ray is ended."""


def watch_local(node: Any, processes: set[Any]) -> Stop:
    """Watches the Ray that this process has started, from a thread.

    Args:
        node: of Ray (``ray_private.find_node``).
        processes: all processes of Ray, which are killed where one dies.
    """
    servers = ray_private.list_processes(node)
    watched = {name: servers[name] for name in SERVERS}
    agents: dict[str, Any] = {}
    deaths = Deaths(server.pid for server in watched.values())

    def find_death() -> str | None:
        if len(agents) < AGENTS:  # they get their names a while after they have started
            for child in list_descendants(watched["raylet"].pid):
                name = _find_name(child)
                if name.endswith("Agent") and name not in agents:
                    agents[name] = child
                    deaths.add([child.pid])
        deaths.wait(POLL_SECONDS)
        for name, server in watched.items():
            if (code := server.poll()) is not None:
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                return f"{name} ended during the run ({how})"
        dead = [name for name, agent in agents.items() if not _is_alive(agent)]
        return f"{dead[0]} ended during the run (its raylet ends with it)" if dead else None

    return _start(find_death, processes)


def watch_start(before: set[Any]) -> Stop:
    """Watches Ray's servers while this process starts Ray, from a thread. When one dies, Ray may end this process
    without a message, or raise an error, after which another attempt follows; so a death is only reported.

    Args:
        before: the processes that descend from this one and are not part of this start.
    """
    stopped = threading.Event()

    def watch() -> None:
        servers: dict[Any, str] = {}
        deaths = Deaths([])
        while not stopped.is_set():
            if len(servers) < len(SERVERS):
                for child in list_descendants(os.getpid()) - before - servers.keys():
                    with suppress(psutil.Error):
                        if child.name() in SERVERS:
                            servers[child] = child.name()
                            deaths.add([child.pid])
            deaths.wait(POLL_SECONDS if len(servers) == len(SERVERS) else POLL_SECONDS / 10)
            dead = [name for server, name in servers.items() if not _is_alive(server)]
            if dead and not stopped.is_set():
                exit.say(f"error: Ray's {dead[0]} ended while Ray started; rerun the command to resume")
                return

    import psutil

    threading.Thread(target=watch, daemon=True).start()
    return stopped.set


def watch_joined() -> Stop:
    """Watches the raylet of this machine in a cluster that this process has joined, from a thread; nothing where the
    cluster was joined through a proxy (``ray://``), or where this process cannot see it."""
    raylet = _find_raylet()
    if raylet is None:
        return lambda: None
    deaths = Deaths([raylet.pid])

    def find_death() -> str | None:
        deaths.wait(POLL_SECONDS)
        return None if _is_alive(raylet) else "raylet ended during the run (on this machine)"

    return _start(find_death, set())


def _start(find_death: Callable[[], str | None], processes: set[Any]) -> Stop:
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.is_set():
            death = find_death()
            if death and not stopped.is_set():
                rest = "finished VAEs and checkpoints are kept: rerun the command to resume"
                exit.say(f"error: Ray's {death}; {rest}")
                with suppress(OSError):  # messages of Ray about the same would follow
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                kill(processes)
                exit.leave(exit.Exit.LEFT)

    threading.Thread(target=watch, daemon=True).start()
    return stopped.set


class Deaths:
    """Waits for the death of processes. Linux reports it at once (``pidfd``): Ray ends a driver less than a tenth of a
    second after the death of an agent. Other systems are polled.

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
            with suppress(OSError):  # it has ended, which the next poll sees
                self._poll.register(os.pidfd_open(pid), select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Returns when one has ended, at the latest after ``seconds``."""
        if self._poll is None:
            time.sleep(seconds)
        else:
            self._poll.poll(1000 * seconds)


def list_descendants(pid: int) -> set[Any]:
    """The processes that descend from one."""
    import psutil  # a dependency of Ray

    with suppress(psutil.Error):
        return set(psutil.Process(pid).children(recursive=True))
    return set()


def kill(processes: set[Any]) -> None:
    """Kills processes, and waits for their end."""
    import psutil

    for process in processes:
        with suppress(psutil.Error):  # it has ended
            process.kill()
    psutil.wait_procs(processes, timeout=POLL_SECONDS)


def _find_raylet() -> Any:
    import psutil

    socket = ray_private.find_raylet_socket()
    for process in psutil.process_iter() if socket else ():
        with suppress(psutil.Error):
            if f"--raylet_socket_name={socket}" in process.cmdline():
                return process
    return None


def _find_name(process: Any) -> str:
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
