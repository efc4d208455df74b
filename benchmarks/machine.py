"""What a benchmark ran on: processor, cores, versions, date. Needs neither torch nor Ray."""

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def processor() -> str:
    """The name of the processor; its architecture where the system does not say more."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def versions(*packages: str) -> str:
    """``python 3.13.1, torch 2.11.0``: of Python and of ``packages``."""
    found = [f"python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def describe(*packages: str) -> str:
    """Two lines for the head of a benchmark's output; with the load, since other programs spoil a benchmark."""
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"{processor()}, {os.cpu_count()} cores{load}\n{versions(*packages)}, {date.today().isoformat()}"
