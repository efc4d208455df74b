"""One live display of a sweep: a line that changes in a terminal, plain lines now and then in a log."""

import sys
import time
from typing import TextIO

from vaegen_ray.text import clock


class Progress:
    """Counts what is done and says it.

    Args:
        total: VAEs to train in this run.
        weights: expected seconds of each bundle, for the expected end.
        members: VAEs of each bundle.
        stream: where to write.
        every: seconds between two plain lines.
    """

    def __init__(
        self, total: int, weights: list[float], members: list[int], *, stream: TextIO | None = None, every: float = 10.0
    ) -> None:
        self.total = total
        self._weights = weights
        self._members = members
        self._stream = stream or sys.stdout
        self._every = every
        self._live = self._stream.isatty()
        self._work = sum(weights)
        self._reports: dict[int, tuple[float, int]] = {}
        """The last of each bundle; their sums are kept up to date, since the state is shown at every event."""
        self._work_done = self._work_before = self._equivalent = 0.0
        self.done = 0
        """VAEs committed in this run."""
        self._started = time.monotonic()
        self._last_line = self._started
        self.running = 0
        self.samples_per_second = 0.0

    def update(self, bundle: int, fraction: float, finished_members: int, resumed: float = 0.0) -> None:
        """A bundle reports: the part of it that is done, the members that are committed, and the part that was done
        when it was started. What an earlier run did says nothing about the speed of this one."""
        if bundle not in self._reports:
            self._reports[bundle] = resumed, 0
            self._work_done += self._weights[bundle] * resumed
            self._work_before += self._weights[bundle] * resumed
        fraction_before, finished_before = self._reports[bundle]
        self._reports[bundle] = fraction, finished_members
        self._work_done += self._weights[bundle] * (fraction - fraction_before)
        self._equivalent += self._members[bundle] * (fraction - fraction_before)
        self.done += finished_members - finished_before

    @property
    def fraction(self) -> float:
        """Part of the expected work that is done, 0 to 1."""
        return min(1.0, self._work_done / self._work) if self._work else 1.0

    @property
    def vaes_per_minute(self) -> float:
        """Finished VAEs, those under way counted in part, a minute of this run."""
        return 60 * self._equivalent / max(time.monotonic() - self._started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Expected seconds until the end; None while nothing is known."""
        mine = self.fraction - self._work_before / self._work if self._work else 1.0
        elapsed = time.monotonic() - self._started
        return None if mine < 0.01 else elapsed * (1 - self.fraction) / mine

    def line(self) -> str:
        """The state in one line."""
        left = "" if self.seconds_left is None else f" · about {clock(self.seconds_left)} left"
        samples = f" · {self.samples_per_second:,.0f} samples/s" if self.samples_per_second else ""
        return (
            f"{self.done}/{self.total} VAEs · {100 * self.fraction:.0f} % · running bundles: {self.running} · "
            f"{self.vaes_per_minute:.0f} VAEs/min{samples}{left}"
        )

    def show(self, *, now: bool = False) -> None:
        """Shows the state: at every call in a terminal, every few seconds in a log; ``now`` in any case."""
        elapsed = time.monotonic()
        if self._live:
            self._stream.write(f"\r\x1b[2K{self.line()}")
        elif now or elapsed - self._last_line >= self._every:
            self._last_line = elapsed
            self._stream.write(f"{self.line()}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leaves the last state standing."""
        if self._live:
            self._stream.write(f"\r\x1b[2K{self.line()}\n")
            self._stream.flush()
