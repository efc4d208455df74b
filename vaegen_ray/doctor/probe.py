"""What the checks of a machine and of a cluster share: the report, limits of time, and what looks at a machine."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vaegen_ray import allotment
from vaegen_ray.doctor import facts
from vaegen_ray.doctor.checks import Check
from vaegen_ray.exit import in_background

if TYPE_CHECKING:
    from vaegen_ray.results.storage import Storage

T = TypeVar("T")

Say = Callable[[str], None]

IMPORT_SECONDS = 300.0
"""How long imports may take: seconds, but a hundred where ten times as many processes as cores want to run."""
STORAGE_SECONDS = 60.0
"""How long the storage may take for a small file."""


class Report:
    """Says checks as they come, and counts them."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._verdicts: list[str] = []

    def tell(self, checks: Iterable[Check], where: str = "") -> None:
        """A line each; ``where`` names the nodes that it is about."""
        for check in checks:
            self._verdicts.append(check.verdict)
            self._say(check.line(where))

    def close(self) -> int:
        """The last line; returns the exit code."""
        counts = ", ".join(f"{self._verdicts.count(name)} {name}" for name in ("ok", "warn", "FAIL"))
        self._say(f"{len(self._verdicts)} checks: {counts}")
        return int("FAIL" in self._verdicts)


def source() -> str:
    """What looks at a machine, as text."""
    return "\n\n".join(Path(str(each.__file__)).read_text(encoding="utf-8") for each in (allotment, facts))


@contextmanager
def untouched(storage: "Storage") -> Iterator[None]:
    """Removes folders that were made meanwhile for the root of a local storage, and are empty."""
    root = Path(storage.root)
    absent = [path for path in (root, *root.parents) if not path.exists()] if storage.is_local else []
    try:
        yield
    finally:
        with suppress(OSError):
            for path in absent:
                path.rmdir()


def within(seconds: float, function: Callable[[], T]) -> T:
    """What a function returns, if it does in time; a file system that hangs cannot be interrupted, only left alone.

    Raises:
        TimeoutError: it has not.
    """
    return in_background(function).result(seconds)
