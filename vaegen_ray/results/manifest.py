"""Which files belong to a committed bundle: their sizes and digests, as its commit row names them.

    {"metrics/<bundle>-000001-000010.parquet": [<bytes>, "<SHA-256>"], "models/<bundle>.safetensors": [...], ...}

The paths are relative to the folder of the sweep. Every row of a bundle holds the same manifest, in the column
``files``; rows that were written before schema version 2 have none.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from vaegen_ray.results.storage import Storage

Manifest = dict[str, "FileFact"]
"""Facts by path."""


@dataclass(frozen=True)
class FileFact:
    """What is known of the bytes of a file."""

    size: int
    """Bytes."""
    sha256: str
    """64 hexadecimal digits."""

    @classmethod
    def of(cls, data: bytes) -> "FileFact":
        """The facts of these bytes."""
        return cls(len(data), hashlib.sha256(data).hexdigest())

    def difference(self, data: bytes) -> str:
        """Why ``data`` is not the file that was committed; empty where it is."""
        if len(data) != self.size:
            return differs_in_size(self, len(data))
        return "" if FileFact.of(data) == self else "its SHA-256 is not the one that the commit row names"


def differs_in_size(fact: FileFact, size: int | None) -> str:
    """Why a file of ``size`` bytes (None: there is none) is not the one that was committed; empty where it can be."""
    if size is None:
        return "it is missing"
    return "" if size == fact.size else f"it has {size:,} bytes, and the commit row names {fact.size:,}"


def encode_manifest(files: Mapping[str, FileFact]) -> str:
    """The text of the column ``files``; the same files in any order give the same text."""
    return json.dumps({path: [files[path].size, files[path].sha256] for path in sorted(files)}, separators=(",", ":"))


def read_manifest(table: pa.Table) -> Manifest | None:
    """The manifest of the bundle whose rows ``table`` holds (``schema.trials_schema``); None where there is none."""
    text = table["files"][0].as_py() if len(table) else None
    if text is None:
        return None
    return {path: FileFact(size, sha256) for path, (size, sha256) in json.loads(text).items()}


def within(manifest: Manifest, folder: str) -> Manifest:
    """The files of a manifest in one folder of the sweep, by their names in it."""
    return {path.removeprefix(f"{folder}/"): fact for path, fact in manifest.items() if path.startswith(f"{folder}/")}


def vanished(storage: Storage, sweep: str, files: Mapping[str, FileFact]) -> dict[str, str]:
    """Those of the files that are not in the folder of the sweep in their sizes, with the reasons."""
    sizes = storage.list_sizes([f"{sweep}/{path}" for path in files])
    reasons = {path: differs_in_size(files[path], size) for path, size in zip(files, sizes, strict=True)}
    return {path: reason for path, reason in reasons.items() if reason}
