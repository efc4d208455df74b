"""What the chaos harness does to a run: signals to its processes, a storage that refuses, and damage to its files.

All processes of the harness's namespace but the harness itself belong to its drivers; nothing else is in reach.
"""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

TITLES = {
    "/gcs_server": "gcs",
    "/raylet/raylet": "raylet",
    "ray::ResourceTrainable": "worker",
    "ray::Sampler": "sampler",
    "ray::CoordinatorActor": "coordinator",
    "ray::DiffusionActor": "diffusion worker",
    "ray::DashboardAgent": "agent",
    "ray::RuntimeEnvAgent": "agent",
    "ray::IDLE": "idle worker",
    "log_monitor.py": "log monitor",
    "autoscaler/_private/monitor.py": "autoscaler",
    "/dashboard.py": "dashboard",
}
"""What a command line holds, and what the process then is; the first that fits counts."""
ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM}
SUBSTITUTE = "any process"
REFUSALS = ("read-only", "full")
DAMAGES = ("flip", "truncate", "empty", "delete")
WAIT_SECONDS = 15.0
"""How long a disturbance waits for a process of its kind before another one is stopped in its place."""


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """One thing that happens to a run."""

    action: str
    """Of ``ACTIONS`` or ``REFUSALS``."""
    target: str
    """Kind of process, or ``storage``."""
    after: float
    """Seconds from the moment when there is such a process."""
    seconds: float
    """How long a process is stopped, or the storage refuses."""
    choice: float
    """Which of several processes, 0 to 1."""

    @property
    def name(self) -> str:
        return f"{self.action} {self.target}"


def processes(drivers: set[int]) -> dict[int, str]:
    """What the living processes of this namespace are, by pid, without the harness and the first process."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) in (1, os.getpid()):
            continue
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command:  # a zombie has none
                kind = next((kind for title, kind in TITLES.items() if title in command), "helper")
                found[int(folder.name)] = "driver" if int(folder.name) in drivers else kind
    return found


@dataclass(kw_only=True)
class Disturber:
    """Disturbs the drivers of one run, one disturbance after the other, and undoes what lasts."""

    drivers: list[subprocess.Popen]
    storage: Path
    """A file system of its own."""
    counts: Counter[str]
    log: list[str]
    _undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def go(self, planned: list[Disturbance]) -> None:
        """Disturbs until all is done or no driver lives; returns with everything undone."""
        for disturbance in planned:
            found = self._wait(lambda d=disturbance: bool(self._targets(d.target)), WAIT_SECONDS)
            if found is None or self._wait(lambda: False, disturbance.after) is None:
                break
            if not found:
                disturbance = replace(disturbance, action="stop", target=SUBSTITUTE)
            self._do(disturbance)
        for _, undo in self._undo:
            undo()
        self._undo.clear()

    def _wait(self, until: Callable[[], bool], seconds: float) -> bool | None:
        """Whether something came within a time; None when no driver lives."""
        end = time.monotonic() + seconds
        while not until():
            if all(driver.poll() is not None for driver in self.drivers):
                return None
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
            for due, undo in [each for each in self._undo if each[0] <= time.monotonic()]:
                undo()
                self._undo.remove((due, undo))
        return True

    def _targets(self, kind: str) -> list[int]:
        if kind == "storage":
            return [0]
        alive = {driver.pid for driver in self.drivers if driver.poll() is None}
        return sorted(pid for pid, found in processes(alive).items() if kind in (found, SUBSTITUTE))

    def _do(self, disturbance: Disturbance) -> None:
        targets = self._targets(disturbance.target)
        if not targets:
            return
        target = targets[int(disturbance.choice * len(targets))]
        undo_at = time.monotonic() + disturbance.seconds
        self.log.append(f"{time.strftime('%X')} {disturbance.name} ({target or 'for'} {disturbance.seconds:.1f} s)")
        if disturbance.action in ACTIONS:
            with suppress(ProcessLookupError):
                os.kill(target, ACTIONS[disturbance.action])
                self.counts[disturbance.name] += 1
            if disturbance.action == "stop":
                self._undo.append((undo_at, lambda: _continue(target)))
        elif disturbance.action == "full":
            self.counts[disturbance.name] += 1
            filler = self.storage / ".filler"
            _fill(filler)
            self._undo.append((undo_at, lambda: filler.unlink(missing_ok=True)))
        elif _remount(self.storage, "ro"):
            self.counts[disturbance.name] += 1
            self._undo.append((undo_at, lambda: bool(_remount(self.storage, "rw")) or None))


def _continue(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _fill(path: Path) -> None:
    """Takes all the space that is left on a small file system."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))


def _remount(folder: Path, mode: str) -> bool:
    """Makes a file system read-only or not; it cannot be while a file is open for writing, so it is tried again."""
    for _ in range(100):
        if subprocess.run(["mount", "-o", f"remount,{mode}", folder], capture_output=True).returncode == 0:
            return True
        time.sleep(0.01)
    return False


def damage(storage: Path, how: str, draw: random.Random) -> str | None:
    """Damages one of the files that runs left; says what was done, or nothing where there is no file.

    The folder is drawn before the file, so that many files of one kind do not hide the others.
    """
    files = [path for path in sorted(storage.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    if not files:
        return None
    folder = draw.choice(sorted({path.parent for path in files}))
    path = draw.choice([path for path in files if path.parent == folder])
    data = bytearray(path.read_bytes())
    at = draw.random()
    if how == "delete":
        path.unlink()
    elif how == "empty" or not data:
        path.write_bytes(b"")
    elif how == "truncate":
        path.write_bytes(data[: int(at * len(data))])
    else:
        data[int(at * len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    return f"{how} {path.relative_to(storage)}"
