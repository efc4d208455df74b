"""The cores and the memory of this job: what it may use of the machine that it runs on.

    the machine's own >= affinity (taskset, cpusets) >= control groups (containers, systemd, SLURM) >= SLURM's variables

The smallest of them counts. SLURM's variables count by themselves, since not every SLURM confines its jobs. ``vaegen
doctor`` sends the text of this file to nodes (``doctor.probe.read_source``), so it imports the standard library alone.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
WORKER_BYTES = 302 * MIB
"""Memory of a worker with torch, measured; data and bundles come on top."""
DRIVER_BYTES = 683 * MIB
"""Peak memory of the driver of a sweep of 500 trials, measured."""
STORE_BYTES = 256 * MIB
"""Size of the object store of the Ray that we start, where the job has memory enough."""
LEAST_STORE_BYTES = 80 * MIB
"""Ray starts none that is smaller."""
UNLIMITED = 2**62
"""Control groups of version 1 write numbers beyond it where there is no limit."""


@dataclass(frozen=True, kw_only=True)
class Allotment:
    """What a job may use of one machine."""

    cores: float
    """CPU cores; a part of one where a quota says so."""
    memory: int
    """Bytes."""
    free: int
    """Bytes of them that are not in use now; files that are merely cached are free."""

    @property
    def slots(self) -> int:
        """Processes that can compute at a time, one a core."""
        return max(1, int(self.cores))

    @property
    def store_bytes(self) -> int:
        """Size of the object store of the Ray that we start here."""
        return max(LEAST_STORE_BYTES, min(STORE_BYTES, self.memory // 8))

    @property
    def for_workers(self) -> int:
        """Bytes that are left for all workers together."""
        return max(0, self.memory - DRIVER_BYTES - self.store_bytes)

    def workers(self, bundle_bytes: int) -> int:
        """Workers at a time, at least one: one a core, or fewer where more would not have ``bundle_bytes`` each."""
        return max(1, min(self.slots, self.for_workers // (WORKER_BYTES + bundle_bytes)))


def allotted(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> Allotment:
    """The cores and the memory of this process.

    Args:
        root: the folder that holds ``proc`` and what is mounted.
        environment: the variables of the process; of SLURM's, those that are no numbers do not count.
    """
    memory, free = _memory_of_the_machine(root)
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for group in _control_groups(root, "cpu"):
        cores = min([cores, *_quota(group)])
    for group in _control_groups(root, "memory"):
        for limit in _memory_limits(group):
            memory, free = min(memory, limit), min(free, max(0, limit - _used(group)))
    of_slurm = _slurm(environment, "SLURM_CPUS_PER_TASK") or _slurm(environment, "SLURM_CPUS_ON_NODE")
    cores = min(cores, of_slurm or cores)
    each = _slurm(environment, "SLURM_MEM_PER_CPU")
    mebibytes = _slurm(environment, "SLURM_MEM_PER_NODE") or (each and each * (of_slurm or int(cores)))
    if mebibytes:
        memory = min(memory, mebibytes * MIB)
    return Allotment(cores=cores, memory=memory, free=min(free, memory))


def _memory_of_the_machine(root: Path) -> tuple[int, int]:
    """Bytes in all, and bytes that are free; where the system does not say (not Linux), all of them count as free."""
    fields = dict(line.split(":", 1) for line in _lines(root / "proc/meminfo"))
    if {"MemTotal", "MemAvailable"} <= set(fields):
        return 1024 * int(fields["MemTotal"].split()[0]), 1024 * int(fields["MemAvailable"].split()[0])
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total, total


def has_gpus() -> bool:
    """Whether there are NVIDIA GPUs on this machine, told without asking their driver."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the control groups that this process is in and of those around them, of version 1 and 2."""
    own: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)  # version 2 has no controllers here
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        mounted, mount_point = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup2":
            path = own.get("", "/")
        elif kind == "cgroup" and controller in options.split(","):
            path = own.get(controller, "/")
        else:
            continue
        # In a container the path may be that of the host, where only a part of the hierarchy is mounted.
        inside = os.path.relpath(path, mounted)
        folder = root / mount_point.lstrip("/")
        if inside.startswith(".."):
            inside = "."
        parts = Path(inside).parts
        yield from (folder.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _quota(group: Path) -> list[float]:
    """The limit of CPU cores of a control group, if it has one."""
    quota, *period = _lines(group / "cpu.max", [""])[0].split() or [""]
    if not quota:  # of version 1
        quota = _lines(group / "cpu.cfs_quota_us", ["-1"])[0]
        period = _lines(group / "cpu.cfs_period_us", ["100000"])
    return [int(quota) / int(period[0])] if quota.isdigit() and int(quota) > 0 else []


def _memory_limits(group: Path) -> list[int]:
    """The limits of memory of a control group, in bytes."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    found = [_lines(group / name, ["max"])[0].strip() for name in names]
    return [int(limit) for limit in found if limit.isdigit() and int(limit) < UNLIMITED]


def _used(group: Path) -> int:
    """Bytes that a control group uses, without files that are cached and were not read for a while."""
    used = _lines(group / "memory.current") or _lines(group / "memory.usage_in_bytes", ["0"])
    stat = dict(line.split() for line in _lines(group / "memory.stat"))
    return max(0, int(used[0]) - int(stat.get("total_inactive_file", stat.get("inactive_file", 0))))


def _slurm(environment: Mapping[str, str], name: str) -> int | None:
    """A number that SLURM gives to its jobs; None where there is none, or 0, which means no limit."""
    value = environment.get(name, "")
    return int(value) if value.isdigit() and int(value) > 0 else None


def _lines(path: Path, otherwise: list[str] | None = None) -> list[str]:
    """The lines of a file that may be absent, unreadable or empty."""
    try:
        return path.read_text().splitlines() or otherwise or []
    except OSError:
        return otherwise or []
