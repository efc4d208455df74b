"""What signals do to a program of ours while it starts: it ends with one line, also in the middle of an import.

A program calls ``at_once`` before it imports anything else, so this module imports next to nothing. Once it runs, the
signals ask for an orderly end (``exit``).
"""

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SIGNALS: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
"""The signals that stop a run, and their names for users."""


def at_once() -> None:
    """Lets ``SIGNALS`` end this process with one line, wherever ``ends.stopping`` is not in place. Opens /dev/null for
    standard streams that are closed, so that no other file takes their numbers."""
    for each in SIGNALS:
        if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(each, lambda signum, frame: leave(stopped(signum)))
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def stopped(signum: int) -> int:
    """Says which signal has stopped the command; returns the exit code."""
    newline = "\n" if sys.stderr and sys.stderr.isatty() else ""  # the terminal has written ^C
    try:  # noqa: SIM105
        print(f"{newline}stopped by {SIGNALS[signum]}; rerun the command to resume", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # it cannot be written
        pass
    return 128 + signum


def leave(code: int) -> "NoReturn":
    """Ends this process at once, from any thread and at any moment. Files are whole or absent, and Ray's processes and
    temporary folders of a process that is gone are cleaned up, so this is as safe as the end by SIGKILL."""
    try:  # noqa: SIM105
        sys.stdout.flush()
    except (AttributeError, OSError, RuntimeError, ValueError):  # closed, full, or in the middle of a write
        pass
    os._exit(code)
