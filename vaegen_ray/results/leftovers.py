"""Temporary files that killed processes left in a storage on a disk.

<folder>/.<file>.<boot>-<random>.tmp    of a file that was being written (``scratch``)
.probe-<random>                         of ``Storage.probe``
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from vaegen_ray import scratch
from vaegen_ray.results.storage import Storage

TEMPORARY = re.compile(r"\..+\.(?:([0-9a-f]{8})-)?[0-9a-f]{12}\.tmp|\.probe-[0-9a-f]{32}")
DAY = 86400.0
"""Seconds after which a file that is written within seconds has no writer."""


def sweep(storage: Storage, *folders: str) -> list[str]:
    """Deletes the temporary files of this user that have no writer any more; returns their paths.

    Writers on this machine hold a lock on their file. Of files that were made elsewhere, or before this machine was
    started, those go that are older than a day. In an object store there are none.

    Args:
        storage: where to look: at its root, and in all of ``folders``.
        folders: folders of the storage.
    """
    if not storage.is_local:
        return []
    mine: list[Path] = []
    others: list[Path] = []
    for path in _temporary(storage, folders):
        found = TEMPORARY.fullmatch(path.name)
        (mine if found and found[1] == scratch.BOOT else others).append(path)
    return [str(path) for path in (*scratch.sweep(mine), *(path for path in others if _is_deleted(path)))]


def _temporary(storage: Storage, folders: Iterable[str]) -> Iterator[Path]:
    root = Path(storage.root)
    walks = (islice(os.walk(root), 1), *(os.walk(root / name) for name in folders))
    for folder, _, files in chain.from_iterable(walks):
        for name in files:
            if TEMPORARY.fullmatch(name):
                yield Path(folder, name)


def _is_deleted(path: Path) -> bool:
    with suppress(OSError):
        facts = path.lstat()
        if facts.st_uid == os.getuid() and time.time() - facts.st_mtime > DAY:
            path.unlink()
            return True
    return False
