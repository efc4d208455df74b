"""Memory that data may take: data that cannot fit is refused before it is unpacked."""

from pathlib import Path

from vaegen_ray.errors import VaegenError

COPIES = 3
"""Copies of the images that exist at once while they are read, checked and divided."""
MEMINFO = Path("/proc/meminfo")
CONTROL_GROUPS = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Memory that this process may still take, by the machine and by its control group; None where Linux does not say.

    Cached files count as available, in a control group too.
    """
    try:
        fields = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, taken = (int((CONTROL_GROUPS / name).read_text()) for name in (limit, used))
            stat = dict(
                line.split() for line in (CONTROL_GROUPS / limit).with_name("memory.stat").read_text().splitlines()
            )
        except (OSError, ValueError):  # no such file, or "max"
            continue
        free = min(free, max(0, most - taken + int(stat.get(cached, 0))))
    return free


def check_memory(what: object, size: int) -> None:
    """Whether images of ``size`` bytes fit into the memory, told before they are unpacked.

    Raises:
        VaegenError: they do not; names both numbers.
    """
    free = available_bytes()
    if free is not None and COPIES * size > free:
        raise VaegenError(
            f"{what} must fit into the memory: its images take {_gigabytes(size)} unpacked, and "
            f"{_gigabytes(COPIES * size)} while they are read; got {_gigabytes(free)} available"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
