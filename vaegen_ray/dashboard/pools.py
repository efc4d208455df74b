"""The sampler pools of a storage in words: how many samples lie ready, how fast they are made, who waits."""

from collections import defaultdict
from typing import Any

from vaegen_ray.dashboard.pages import moment
from vaegen_ray.dashboard.watch import CachedRead
from vaegen_ray.errors import VaegenError
from vaegen_ray.results.heartbeat import Heartbeat, HeartbeatMonitor, read_number, read_text
from vaegen_ray.results.shards import open_stream, streams
from vaegen_ray.results.storage import Storage

HEADS = ["samples", "of", "state", "images kept", "ready ahead", "images/s", "samplers", "readers", "waited"]


class Pools:
    """The streams of samples of a storage, read again and again; may be used by several threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._monitors: defaultdict[str, HeartbeatMonitor] = defaultdict(HeartbeatMonitor)
        self._kept = CachedRead(self._read)

    def lines(self, only: tuple[str, ...] | None = None) -> list[list[str]]:
        """A row of words a stream of samples: ``HEADS``.

        Args:
            only: the digests of the streams that are wanted; all when None.

        Raises:
            StorageError: the storage cannot be read.
        """
        return [line for digest, line in self._kept.get().items() if only is None or digest in only]

    def _read(self) -> dict[str, list[str]]:
        return {digest: self._line(digest) for digest in streams(self._storage)}

    def _line(self, digest: str) -> list[str]:
        try:
            store, stream = open_stream(self._storage, digest)
            read = store.read_status()
            status: dict[str, Any] = read if isinstance(read, dict) else {}
            heard = read_number(status, "time")
            alive = self._monitors[digest].is_alive(Heartbeat(time=heard))
            told = (
                read_number(status, "shards") if alive else None
            )  # a listing of many shards takes an object store long
            shards = len(store.numbers()) if told is None else int(told)
        except VaegenError:
            return [digest[:8], "damaged", *["–"] * (len(HEADS) - 2)]
        waited = f"{read_number(status, 'waited_seconds') or 0:,.1f} s"
        kept = f"{shards * stream.shard_size:,}"
        of = f"{stream.diffusion.n_train:,} images of {stream.diffusion.dataset}"
        if not alive:
            state = "never ran" if heard is None else f"ended {moment(heard)}"
            return [digest[:8], of, state, kept, "–", "–", "0", "0", waited]
        making, waited_for = (_count(status, name) for name in ("making", "shards_waited_for"))
        state = f"makes {_shards(making)}" if making else "rests"
        if fault := read_text(status, "fault"):
            state = f"at fault: {fault}"
        depth, rate = read_number(status, "depth"), (read_number(status, "images_per_second") or 0) if making else 0
        return [
            digest[:8],
            of,
            state,
            kept,
            "–" if depth is None else f"{depth * stream.shard_size:,.0f} images",
            f"{rate:,.0f}",
            *(f"{read_number(status, name) or 0:.0f}" for name in ("samplers", "readers")),
            waited + (f", now for {_shards(waited_for)}" if waited_for else ""),
        ]


def _count(status: dict[str, Any], name: str) -> int:
    value = status.get(name)
    return len(value) if isinstance(value, list) else 0


def _shards(count: int) -> str:
    return f"{count} shard{'s' * (count != 1)}"
