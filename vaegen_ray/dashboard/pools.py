"""The sampler pools of a storage in words: how many samples lie ready, how fast they are made, who waits."""

import time
from typing import Any

from vaegen_ray.dashboard.pages import moment
from vaegen_ray.errors import DataFormatError, StorageError
from vaegen_ray.results.shards import streams
from vaegen_ray.results.storage import Storage
from vaegen_ray.service.commands import open_stream

HEADS = ["samples", "of", "state", "images kept", "ready ahead", "images/s", "samplers", "readers", "waited"]
SILENT_SECONDS = 30.0
"""A pool that has written no status for so long has ended."""


def lines(storage: Storage, only: tuple[str, ...] = ()) -> list[list[str]]:
    """A row of words a stream of samples: ``HEADS``.

    Args:
        only: the digests of the streams that are wanted; all when empty.
    """
    return [_line(storage, digest) for digest in streams(storage) if not only or digest in only]


def _line(storage: Storage, digest: str) -> list[str]:
    try:
        store, stream = open_stream(storage, digest)
        status = store.read_status() or {}
        shards = len(store.numbers())
    except (DataFormatError, StorageError):
        return [digest[:8], "damaged", *["–"] * (len(HEADS) - 2)]
    alive = time.time() - float(status.get("time") or 0) < SILENT_SECONDS
    waited_for = status.get("shards_waited_for") or []
    waiting = f", now for {len(waited_for)} shards" if alive and waited_for else ""
    depth = status.get("depth")
    return [
        digest[:8],
        f"{stream.diffusion.n_train:,} images of {stream.diffusion.dataset}",
        _state(status, alive),
        f"{shards * stream.shard_size:,}",
        f"{depth * stream.shard_size:,} images" if alive and depth is not None else "–",
        f"{status.get('images_per_second', 0):,.0f}",
        str(status.get("samplers", 0)) if alive else "0",
        str(status.get("readers", 0)) if alive else "0",
        f"{status.get('waited_seconds', 0):,.1f} s{waiting}",
    ]


def _state(status: dict[str, Any], alive: bool) -> str:
    if alive and status.get("fault"):
        return f"at fault: {status['fault']}"
    if alive:
        return f"makes {len(status['making'])} shards" if status.get("making") else "rests"
    return f"ended {moment(float(status['time']))}" if status.get("time") else "never ran"
