"""What was done for a stream of samples, by all pools that it ever had."""

from dataclasses import dataclass, field
from typing import Any

RECENT_SHARDS = 10
"""Shards over which the rate is taken."""
COUNTED = ("images_made", "making_seconds", "waited_seconds", "handed_out", "images_per_second")


@dataclass
class Counts:
    """Sums over the life of a stream; they go into its status file."""

    images_made: int = 0
    making_seconds: float = 0.0
    """Summed over samplers."""
    waited_seconds: float = 0.0
    """Summed over readers."""
    handed_out: int = 0
    """Shards that readers got from the object store."""
    images_per_second: float = 0.0
    """Of the whole pool, over its last shards."""
    recent: list[tuple[float, float]] = field(default_factory=list)
    """When the making of the last shards began and ended."""

    @classmethod
    def from_status(cls, status: dict[str, Any]) -> "Counts":
        """Goes on from a status file, which may be of another version."""
        return cls(**{name: status[name] for name in COUNTED if name in status})

    def as_dict(self) -> dict[str, Any]:
        """The sums by name."""
        return {name: getattr(self, name) for name in COUNTED}

    def add(self, images: int, seconds: float, now: float) -> None:
        """A shard of ``images`` was made in ``seconds``, until ``now``."""
        self.images_made += images
        self.making_seconds += seconds
        self.recent = [*self.recent, (now - seconds, now)][-RECENT_SHARDS:]
        self.images_per_second = len(self.recent) * images / (now - min(start for start, _ in self.recent))

    def longest_seconds(self) -> float:
        """The longest that one of the last shards took."""
        return max((end - start for start, end in self.recent), default=0.0)
