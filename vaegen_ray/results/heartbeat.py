"""The heartbeat of a driver (``status.json``): one encoder, one tolerant decoder, and whether a driver is alive."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

HEARTBEAT_SECONDS = 5.0
"""Time between two heartbeats."""
SILENT_SECONDS, PREPARING_SECONDS = 6 * HEARTBEAT_SECONDS, 24 * HEARTBEAT_SECONDS
"""A driver whose last heartbeat is older is not running. Before the training heartbeats are less frequent."""
LARGEST = 1e11
"""Larger numbers are damage; in seconds since 1970 it is the year 5138."""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a driver reports of itself; None where it does not."""

    time: float | None = None
    """Seconds since 1970, by the clock of the driver."""
    preparing: str | None = None
    """What happens before the training."""
    ended: bool = False
    vaes_to_train: float | None = None
    vaes_done: float | None = None
    fraction: float | None = None
    """Part of the expected work that is done, 0 to 1."""
    bundles: float | None = None
    bundles_running: float | None = None
    vaes_running: float | None = None
    vaes_per_minute: float | None = None
    seconds_left: float | None = None
    pools: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The states of the sampler pools, by digest of the stream."""
    ray_address: str | None = None

    @property
    def silence(self) -> float:
        """Seconds after which another heartbeat must have come."""
        return PREPARING_SECONDS if self.preparing else SILENT_SECONDS

    def encode(self) -> dict[str, Any]:
        """The object of ``status.json``."""
        if self.preparing:
            return {"time": self.time, "preparing": self.preparing}
        return {name: value for name, value in asdict(self).items() if name != "preparing"}

    @classmethod
    def decode(cls, value: Any) -> "Heartbeat":
        """The heartbeat in what ``status.json`` holds; what is damaged is left out."""
        if not isinstance(value, Mapping):
            return cls()
        numbers = {name: read_number(value, name) for name, each in cls.__dataclass_fields__.items()
                   if each.type == (float | None)}  # fmt: skip
        pools = read_object(value, "pools")
        return cls(
            **numbers,
            preparing=read_text(value, "preparing"),
            ended=bool(value.get("ended")),
            pools={digest: read_object(pools, digest) for digest in pools},
            ray_address=read_text(value, "ray_address"),
        )


class HeartbeatMonitor:
    """Decides whether a driver is alive, by the heartbeats that were seen."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._changed_at = -1e9
        """``time.monotonic`` of the last change."""

    def is_alive(self, beat: Heartbeat) -> bool:
        """Whether the last heartbeat is recent: by the clocks of both machines, or, where they differ, since it was
        seen to change."""
        if beat.time is None:
            return False
        if beat.time != self._last:
            self._changed_at = time.monotonic() if self._last is not None else -1e9
            self._last = beat.time
        return abs(time.time() - beat.time) < beat.silence or time.monotonic() - self._changed_at < beat.silence


def read_object(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within an object of JSON; empty where there is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def read_number(value: Mapping[str, Any], name: str) -> float | None:
    """A number within an object of JSON, below ``LARGEST``."""
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return found if abs(found) < LARGEST else None


def read_text(value: Mapping[str, Any], name: str) -> str | None:
    """A text within an object of JSON."""
    found = value.get(name)
    return found if isinstance(found, str) else None
