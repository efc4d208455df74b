"""Reading again and again what may be slow to read, and telling whether somebody still writes it.

A browser takes an answer only when it comes before its next question, so a page over a slow storage must be answered
from what is known, while the next reading goes on behind it.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

EVERY_SECONDS = 1.0
"""What was read so short a time ago is not read again."""
PATIENCE_SECONDS: float | None = 1.0
"""An answer waits so long for a reading that is under way; then it is made of the last one. None: to its end."""
QUIET_SECONDS = 10.0
"""In the list of all sweeps of an object store (requests cost money), one that nobody works on is read so often."""
READERS = threading.BoundedSemaphore(8)
"""So many things are read at once."""

T = TypeVar("T")


class CachedRead(Generic[T]):
    """What ``read`` gave last; may be used by several threads, of which one reads at a time."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._ended = -1e9
        self._known: list[T] = []
        """The last value, where there is one."""
        self._reading: Future[T] | None = None

    def begin(self, every: float | None = None) -> "Future[T]":
        """The last reading; a new one where that has ended more than ``every`` seconds ago (``EVERY_SECONDS``)."""
        with self._lock:
            age = time.monotonic() - self._ended
            is_old = age >= (EVERY_SECONDS if every is None else every)
            if self._reading is None or (self._reading.done() and is_old):
                self._reading = Future()
                # No daemon: Arrow waits for ever for a thread that the end of the interpreter has cut off.
                threading.Thread(target=self._run, args=(self._reading,)).start()
            return self._reading

    def get(self) -> T:
        """The value, which is a little old where reading is slow; the first time it is waited for.

        Raises:
            what ``read`` raised, when it did last.
        """
        reading = self.begin()
        known = self._known
        wait([reading], PATIENCE_SECONDS if known else None)
        return reading.result() if reading.done() else known[0]

    @property
    def last(self) -> T | None:
        """The last value; None where there is none."""
        return self._known[0] if self._known else None

    def known(self, reading: "Future[T]") -> T | None:
        """What a reading gave, where it has ended; else the last value; None where there is none.

        Raises:
            what ``read`` raised, when it did in this reading.
        """
        if reading.done():
            return reading.result()
        return self.last

    def _run(self, reading: "Future[T]") -> None:
        with READERS:
            try:
                self._known = [self._read()]
            except Exception as error:
                self._ended = time.monotonic()
                reading.set_exception(error)
            else:
                self._ended = time.monotonic()
                reading.set_result(self._known[0])
