"""How a command ends: one exit code for each cause, one line for each end that is not its result, and what signals do.

SIGTERM (batch systems, containers, spot nodes) and SIGHUP (a terminal that closes) do what Ctrl-C does: what runs is
saved, and the same command resumes it.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from enum import IntEnum
from types import FrameType
from typing import Any, TypeVar

from vaegen_ray.errors import VaegenError, mask_secrets, printable
from vaegen_ray.signals import SIGNALS, leave, stopped

T = TypeVar("T")

LONGEST = 4000
"""Characters of an error line; of a longer one the middle is left out."""


class Exit(IntEnum):
    """Exit codes of the sweeps and of ``vaegen``."""

    DONE = 0
    LEFT = 1
    WRONG = 2
    FAULT = 70
    HANGUP = 128 + signal.SIGHUP
    INTERRUPTED = 128 + signal.SIGINT
    CLOSED_PIPE = 128 + signal.SIGPIPE
    TERMINATED = 128 + signal.SIGTERM


CAUSES = {
    Exit.DONE: "The command did all of its work.",
    Exit.LEFT: "Work is left: rerun the command to resume. Of `vaegen doctor`: a check failed; of `vaegen compare`: "
    "there is a difference.",
    Exit.WRONG: "The user can correct the cause, which one line names: an option, a file, a storage, the environment.",
    Exit.FAULT: "A fault of vaegen_ray, with a traceback.",
    Exit.HANGUP: "The run was stopped by SIGHUP, when its terminal closed.",
    Exit.INTERRUPTED: "The run was stopped by Ctrl-C (SIGINT).",
    Exit.CLOSED_PIPE: "The reader of the output has closed the pipe, as in `vaegen results | head`.",
    Exit.TERMINATED: "The run was stopped by SIGTERM, as by `scancel`, `docker stop` and `kill`.",
}
"""What each exit code means. The documentation has the same table."""


class Stopped(KeyboardInterrupt):
    """A signal has stopped the command.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def run(command: Callable[[], int]) -> int:
    """Runs a command to its end.

    Args:
        command: returns an exit code, or raises.

    Returns:
        The exit code. Where the end is not the result of the command, one line on stderr says why it ended.
    """
    try:
        with stopping():
            _check_surroundings()
            try:
                code = command()
            except SystemExit:  # --help and --version
                sys.stdout.flush()
                raise
            sys.stdout.flush()
            return code
    except VaegenError as error:
        return fail(error)
    except KeyboardInterrupt as error:
        return stopped(error.signum if isinstance(error, Stopped) else signal.SIGINT)
    except BrokenPipeError:
        return Exit.CLOSED_PIPE
    except Exception as error:
        if reason := _fault_of_stdout(error):
            return fail(
                VaegenError(f"cannot write to standard output: {reason}; redirect it to a file or to /dev/null")
            )
        traceback.print_exc()
        return Exit.FAULT
    finally:
        _drop_output_that_cannot_be_written()


def fail(error: Exception) -> int:
    """Says in one line what the user can correct; returns the exit code."""
    line = mask_secrets(" ".join(str(error).split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    say(f"error: {line}")
    return Exit.WRONG


def say(line: str) -> None:
    """Writes a line to stderr, where that can be written."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def stopping(ask: Callable[[], bool] | None = None) -> Iterator[None]:
    """Within the context the signals of ``SIGNALS`` raise ``Stopped`` in the main thread, where it is. In other threads
    the context does nothing, since only the main thread handles signals.

    A signal that the process ignores, as under ``nohup``, stays ignored. After the first signal, repeated ones are
    ignored, since batch systems signal both a process and its group; a repeated Ctrl-C always raises.

    Args:
        ask: asks for an orderly end and returns True, or returns False. When it was asked, ``Stopped`` is raised at the
            end of the context. A nested context takes the place of the outer one.
    """
    main = threading.current_thread() is threading.main_thread()
    before: dict[int, Any] = {each: signal.getsignal(each) for each in SIGNALS} if main else {}
    before = {each: handler for each, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    outer = next((handler for handler in before.values() if isinstance(handler, _Handler)), None)
    handler = _Handler([] if outer is None else outer.received, ask)
    for each in before:
        signal.signal(each, handler)
    try:
        yield
    finally:
        for each, earlier in before.items():
            signal.signal(each, earlier)
    if ask is not None and handler.received:
        raise Stopped(handler.received[0])


class _Handler:
    """Handles the signals within ``stopping``."""

    def __init__(self, received: list[int], ask: Callable[[], bool] | None) -> None:
        self.received = received
        """The signals since the outermost context began."""
        self._ask = ask

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.received.append(signum)
        if len(self.received) > 1 and signum != signal.SIGINT:
            return
        if len(self.received) == 1 and self._ask is not None and self._ask():
            return
        if _imports(frame) and hasattr(sys.modules["__main__"], "__file__"):  # not in a notebook
            leave(stopped(self.received[0]))
        raise Stopped(self.received[0])


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported; an exception there may be swallowed or become another one."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def held_back() -> Iterator[None]:
    """Holds SIGTERM and SIGHUP back from this thread, and for good from the processes that are started within: who
    signals a whole group or container means them too, and they are needed to save what runs. Handlers that are set
    within are dropped."""
    signals = {signal.SIGTERM, signal.SIGHUP}
    main = threading.current_thread() is threading.main_thread()
    handlers = {each: signal.getsignal(each) for each in signals} if main else {}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_background(function: Callable[[], T]) -> Future[T]:
    """What a function returns or raises, from a thread that does not hold up the end of the process."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def _check_surroundings() -> None:
    if sys.stdout is None:
        raise VaegenError("standard output is closed; redirect it to a file or to /dev/null")
    try:
        os.getcwd()
    except FileNotFoundError:
        raise VaegenError("the working directory was deleted; change to one that exists, such as: cd ~") from None


def _fault_of_stdout(error: BaseException) -> str | None:
    """Why stdout cannot be written, if that is what has raised ``error``."""
    if not isinstance(error, OSError):
        return None
    try:
        print(flush=True)
    except OSError as again:
        return again.strerror
    return None


def _drop_output_that_cannot_be_written() -> None:
    """Python writes the rest of the output at its end, and complains in several lines where it cannot."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
