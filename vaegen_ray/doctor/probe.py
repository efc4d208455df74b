"""What the checks of a machine and of a cluster share: the report, time limits, and the program that collects facts."""

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

IMPORT_SECONDS = 300.0
"""How long imports may take: seconds, but a hundred where ten times as many processes as cores want to run."""
STORAGE_SECONDS = 60.0
"""How long the storage may take for a small file."""


class Report:
    """Prints the results of checks as they come, and counts them.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._verdicts: list[str] = []

    def add(self, checks: Iterable[Check], where: str = "") -> None:
        """Prints a line for each check; ``where`` names the nodes that it concerns."""
        for check in checks:
            self._verdicts.append(check.verdict)
            self._say(check.line(where))

    def close(self) -> int:
        """Prints the counts; returns the exit code, 1 when a check failed."""
        counts = ", ".join(f"{self._verdicts.count(name)} {name}" for name in ("ok", "warn", "FAIL"))
        self._say(f"{len(self._verdicts)} checks: {counts}")
        return int("FAIL" in self._verdicts)


def read_source() -> str:
    """The text of the program that collects the facts of a machine."""
    return "\n\n".join(Path(str(each.__file__)).read_text(encoding="utf-8") for each in (allotment, facts))


@contextmanager
def leaving_no_folders(storage: "Storage") -> Iterator[None]:
    """Removes, at the end, folders that were created within for the root of a local storage and are empty."""
    root = Path(storage.root)
    absent = [path for path in (root, *root.parents) if not path.exists()] if storage.is_local else []
    try:
        yield
    finally:
        with suppress(OSError):
            for path in absent:
                path.rmdir()


def with_timeout(seconds: float, function: Callable[[], T]) -> T:
    """Returns what ``function`` returns. A file system that hangs cannot be interrupted: the thread is left behind.

    Raises:
        TimeoutError: it did not return within ``seconds``.
    """
    return in_background(function).result(seconds)
