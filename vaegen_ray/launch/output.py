"""The console of a command. Messages of the package go through ``logging``; here they become plain lines, and the
secrets of URIs are masked in all text, also in tracebacks. Light: every command imports this module."""

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

from vaegen_ray.errors import mask_secrets


class MaskedStream:
    """A text stream that masks secrets; otherwise the stream itself.

    Args:
        stream: where to write.
        name: ``stdout`` or ``stderr``, which is what another process gets in its place.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        """Writes a text, in which a URI is whole; returns the number of its characters."""
        masked = mask_secrets(text)
        try:
            self._stream.write(masked)
        except UnicodeEncodeError:  # a terminal of another encoding, or a path that is no text
            encoding = self._stream.encoding or "ascii"
            self._stream.write(masked.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _standard, (self._name,)


def _standard(name: str) -> TextIO:
    stream: TextIO = getattr(sys, name)
    return stream


class ConsoleHandler(logging.Handler):
    """Writes messages as lines: INFO to standard output, warnings and errors to standard error.

    In a terminal a line first clears the row of the cursor, where the progress of a run may stand.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        if stream is not None:
            clear = "\r\x1b[2K" if stream.isatty() else ""
            print(f"{clear}{record.getMessage()}", file=stream, flush=True)


@contextmanager
def console(level: int = logging.INFO) -> Iterator[None]:
    """Within the context messages of the package go to the console, and no text shows the secrets of URIs."""
    logger = logging.getLogger("vaegen_ray")
    handler, before = ConsoleHandler(), logger.level
    if not any(isinstance(each, ConsoleHandler) for each in logger.handlers):
        logger.addHandler(handler)
    logger.setLevel(level)
    try:
        with _secrets_masked():
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _secrets_masked() -> Iterator[None]:
    """What is printed in this context, and a traceback that ends the process, shows no secrets of URIs."""
    before = sys.stdout, sys.stderr
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        if stream is not None and not isinstance(stream, MaskedStream):
            setattr(sys, name, MaskedStream(stream, name))
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _say_traceback
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _say_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if sys.stderr is not None:
        sys.stderr.write(mask_secrets("".join(traceback.format_exception(kind, error, trace))))
