"""Which code made a row: the package's version, and the git commit where it runs from a checkout."""

import subprocess
from functools import cache
from pathlib import Path

import vaegen_ray


@cache
def code_version() -> str:
    """``0.1.0``, or ``0.1.0+abc1234`` in a checkout, with ``.dirty`` when tracked files were changed."""
    root = Path(vaegen_ray.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return vaegen_ray.__version__
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=.dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return vaegen_ray.__version__
    return f"{vaegen_ray.__version__}+{found.stdout.strip()}"
