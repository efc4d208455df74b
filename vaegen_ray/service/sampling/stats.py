"""Statistics of a stream of samples, over all pools that it ever had."""

from dataclasses import dataclass, field
from typing import Any

RECENT_SHARDS = 10
"""The rate is computed over so many last shards."""
STORED = ("images_made", "making_seconds", "waited_seconds", "handed_out", "images_per_second")


@dataclass
class SamplingStats:
    """Sums over the life of a stream, as its status file stores them."""

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
    """Start and end of the last shards, in seconds."""

    @classmethod
    def from_status(cls, status: dict[str, Any]) -> "SamplingStats":
        """Continues the sums of a status file, which another version may have written."""
        return cls(**{name: status[name] for name in STORED if name in status})

    def as_dict(self) -> dict[str, Any]:
        """The sums by name."""
        return {name: getattr(self, name) for name in STORED}

    def add(self, images: int, seconds: float, now: float) -> None:
        """Adds a shard of ``images`` that took ``seconds`` and was finished at ``now``."""
        self.images_made += images
        self.making_seconds += seconds
        self.recent = [*self.recent, (now - seconds, now)][-RECENT_SHARDS:]
        self.images_per_second = len(self.recent) * images / (now - min(start for start, _ in self.recent))

    def compute_longest_seconds(self) -> float:
        """The longest time that one of the last shards took."""
        return max((end - start for start, end in self.recent), default=0.0)
