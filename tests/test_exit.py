"""How commands end: one exit code for each cause, one line for each end, signals in the main thread alone."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from vaegen_ray import exit
from vaegen_ray.errors import SpecError
from vaegen_ray.signals import SIGNALS

ROOT = Path(__file__).parents[1]
SWEEP = [sys.executable, str(ROOT / "sweeps" / "double_descent.py"), "--dry-run"]
VAEGEN = [sys.executable, "-m", "vaegen_ray.cli", "datasets"]
COMMANDS = pytest.mark.parametrize("command", [SWEEP, VAEGEN], ids=["sweep", "vaegen"])


def shell(command: list[str], redirection: str, **options: object) -> subprocess.CompletedProcess[str]:
    words = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload]


def test_the_documentation_has_the_table_of_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs" / "ends.md").read_text(), re.MULTILINE)
    assert [(int(code), cause) for code, cause in rows] == [(int(code), cause) for code, cause in exit.CAUSES.items()]
    assert set(exit.CAUSES) == set(exit.Exit)


def raises(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (lambda: 0, 0, ""),
        (lambda: 1, 1, ""),
        (raises(SpecError("nc must be\n>= 1")), 2, "error: nc must be >= 1\n"),
        (raises(KeyboardInterrupt()), 130, "stopped by Ctrl-C; rerun the command to resume\n"),
        (raises(BrokenPipeError()), 141, ""),
        *(
            (partial(signal.raise_signal, each), 128 + each, f"stopped by {name}; rerun the command to resume\n")
            for each, name in SIGNALS.items()
        ),
    ],
)
def test_every_cause_has_its_exit_code_and_at_most_one_line(
    command: Callable[[], int], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit.run(command) == code
    assert capsys.readouterr().err == said


def test_a_fault_of_ours_has_a_traceback_and_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit.run(raises(KeyError("x"))) == 70
    assert "Traceback" in capsys.readouterr().err


def handlers() -> list[object]:
    return [signal.getsignal(each) for each in SIGNALS]


def test_handlers_are_restored_and_other_threads_leave_them_alone() -> None:
    before = handlers()
    with exit.stopping():
        assert all(now is not earlier for now, earlier in zip(handlers(), before, strict=True))
    assert handlers() == before
    seen: list[list[object]] = []

    def elsewhere() -> None:
        with exit.stopping():
            seen.append(handlers())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_an_ignored_signal_stays_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        assert exit.run(lambda: signal.raise_signal(signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_is_asked_may_end_in_order_and_a_repeated_sigterm_does_not_disturb() -> None:
    asked: list[str] = []
    with pytest.raises(exit.Stopped) as stopped, exit.stopping():
        try:
            with exit.stopping(lambda: asked.append("once") or True):
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGTERM)
                asked.append("saved")
        finally:
            signal.raise_signal(signal.SIGTERM)
            asked.append("tidied")
    assert asked == ["once", "saved", "tidied"]
    assert stopped.value.signum == signal.SIGTERM


def test_a_second_ctrl_c_does_not_wait() -> None:
    done: list[str] = []
    with pytest.raises(exit.Stopped), exit.stopping(lambda: True):
        signal.raise_signal(signal.SIGINT)
        done.append("asked")
        signal.raise_signal(signal.SIGINT)
        done.append("never")
    assert done == ["asked"]


def test_processes_that_are_started_while_signals_are_held_back_do_not_get_them() -> None:
    script = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with exit.stopping():
        mine = handlers()
        with exit.held_back():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Ray sets one of its own
            said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert handlers() == mine
    assert "SIGTERM" in said and "SIGHUP" in said
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


AT_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Finder())
"""
"""A ``sitecustomize`` that sends a signal in the middle of the import of a module."""


@COMMANDS
@pytest.mark.parametrize("module", ["argparse", "numpy"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_is_one_line(command: list[str], module: str, signum: int, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "AT": module, "SIGNAL": str(int(signum))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stdout) == (128 + signum, "")
    assert done.stderr == f"stopped by {SIGNALS[signum]}; rerun the command to resume\n"


@COMMANDS
@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        (">&-", "error: standard output is closed; redirect it to a file or to /dev/null\n"),
        (
            "> /dev/full",
            "error: cannot write to standard output: No space left on device; redirect it to a file or to /dev/null\n",
        ),
        ("> /dev/full 2>&1", ""),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(command: list[str], redirection: str, said: str) -> None:
    done = shell(command, redirection)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@COMMANDS
def test_a_deleted_working_directory_is_one_line(command: list[str], tmp_path: Path) -> None:
    (gone := tmp_path / "gone").mkdir()
    words = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=gone, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the working directory was deleted; change to one that exists, such as: cd ~\n"
