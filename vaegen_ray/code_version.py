"""Which code made a row: the package's version, and the git commit where it runs from a checkout."""

import hashlib
import subprocess
from functools import cache
from pathlib import Path

import vaegen_ray


@cache
def code_version() -> str:
    """``0.1.0+abc1234`` in a checkout, with ``.dirty`` when tracked files were changed; elsewhere, as on the nodes of a
    cluster, ``0.1.0+sources.1f0c33a7``, a digest of the package's modules."""
    root = Path(vaegen_ray.__file__).resolve().parent
    if not (root.parent / ".git").exists():
        return installed_version(root)
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=.dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return installed_version(root)
    return f"{vaegen_ray.__version__}+{found.stdout.strip()}"


def installed_version(root: Path) -> str:
    """The version and a digest of all modules below ``root``, where there is no checkout to ask."""
    digest = hashlib.blake2b(digest_size=4)
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{vaegen_ray.__version__}+sources.{digest.hexdigest()}"
