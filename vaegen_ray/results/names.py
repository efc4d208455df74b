"""The names of sweeps in a storage."""

import re

from vaegen_ray.errors import SpecError
from vaegen_ray.results.parquet import SAFE_NAME
from vaegen_ray.results.storage import Storage

RESERVED = ("diffusion", "samples")
"""Folders of a storage that belong to no sweep."""
PUT_ASIDE = re.compile(r"\.old-\d+$")
"""How the names end that ``archive`` gives."""


def safe_name(what: str, name: str) -> str:
    """``name``, when it can be the name of a folder or file anywhere.

    Raises:
        SpecError: it is empty, starts with a dot, or has a character that may not be.
    """
    if not SAFE_NAME.fullmatch(name):
        raise SpecError(f"{what} must be letters, digits, '_', '-' and '.', and not start with a dot; got {name!r}")
    return name


def sweep_names(storage: Storage) -> list[str]:
    """The folders of a storage that can be sweeps, sorted; without those that were put aside (``archive``)."""
    names = [name for name in storage.folders() if SAFE_NAME.fullmatch(name) and name not in RESERVED]
    return [name for name in names if not PUT_ASIDE.search(name)]


def is_sweep(storage: Storage, name: str) -> bool:
    """Whether a folder of a storage holds a sweep."""
    return "sweep.json" in storage.list(name) or "trials" in storage.folders(name)
