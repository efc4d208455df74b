"""Temporary folders and files that do not outlive their process for long: the next one sweeps what a killed one left.

Who uses such a folder or file holds a lock on it (``flock``), which the kernel drops when the process ends, in whatever
way. What is locked is never deleted. A lock holds within one machine, in all of its containers; so the names of
temporary files that several machines see say on which boot of which machine they were made.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def _boot() -> str:
    """Eight digits that name this machine from one boot to the next."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        text = platform.node()
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


BOOT = _boot()


@contextmanager
def folder(parent: str | Path, prefix: str) -> Iterator[Path]:
    """A temporary folder, deleted at the end of the context. Those of the same parent, prefix and user whose process
    was killed are deleted before.

    Args:
        parent: where it is made; the folder must be on this machine.
        prefix: what its name begins with.

    Raises:
        OSError: it cannot be made.
    """
    sweep(Path(parent).glob(f"{prefix}*"))
    path, lock = _locked_folder(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _locked_folder(parent: str | Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # another process may sweep it before it is locked
            lock = os.open(path, os.O_RDONLY)
            hold(lock)
            if path.exists():
                return path, lock
            os.close(lock)


def hold(descriptor: int) -> None:
    """Locks an open file or folder until it is closed. A file system without locks, where nothing is swept either, is
    no error."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def file_name(name: str) -> str:
    """A hidden, unique name for a temporary file that is to become ``name``."""
    return f".{name}.{BOOT}-{uuid.uuid4().hex[:12]}.tmp"


def sweep(paths: Iterable[Path]) -> list[Path]:
    """Deletes folders and files of this user that no living process holds, and returns them.

    A file is deleted only if it has content: who has just made one may not have locked it yet.
    """
    return [path for path in paths if _is_swept(path)]


def _is_swept(path: Path) -> bool:
    try:
        is_folder = path.is_dir()
        lock = os.open(path, (os.O_RDONLY if is_folder else os.O_RDWR) | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        facts = os.fstat(lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if facts.st_uid != os.getuid() or not (is_folder or facts.st_size):
            return False
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
