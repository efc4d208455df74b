"""What all tests need of the process that runs them."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from vaegen_ray.launch.output import console

os.environ.setdefault("RAY_worker_niceness", "0")
"""Ray gives its workers a niceness of 15. Beside four busy processes on two cores such a worker gets 2 % of a core, and
a test that takes a second takes a minute."""


def pytest_configure() -> None:
    """Lets Ctrl-C interrupt this process and those that tests start, also where a shell has started the tests in the
    background and made them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def messages_on_the_console() -> Iterator[None]:
    """Messages of the package are lines of standard output, as in a command."""
    with console():
        yield


NAMESPACES = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
VARIES = ["wall_seconds", "evaluation_seconds", "samples_wait_seconds", "node", "finished_at", "code_version"]
"""Columns of a trial that differ between two runs of one command."""


@pytest.fixture(scope="session")
def namespaces() -> list[str]:
    """A command that runs another one with processes, mounts and a network of its own, which has a loopback device;
    Ray's nodes find each other by name and listen on all interfaces."""
    command = [*NAMESPACES, "bash", "-c", 'ip link set lo up && exec "$0" "$@"']
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make namespaces (root on Linux)")
    return command


def read_rows(folder: Path) -> dict[str, pd.DataFrame]:
    """The rows of a sweep by kind as they are in the files, sorted, without ``VARIES``."""
    frames = {}
    for kind in ("trials", "metrics", "details"):
        if files := sorted(folder.glob(f"{kind}/*.parquet")):
            rows = pd.concat([pd.read_parquet(path) for path in files]).drop(columns=VARIES, errors="ignore")
            keys = [name for name in ("trial_id", "effective_epoch", "quantity", "item") if name in rows]
            frames[kind] = rows.sort_values(keys).reset_index(drop=True)
    return frames


@pytest.fixture(scope="session")
def assert_same_rows() -> Callable[[Path, Path], None]:
    """A function that compares the rows of two folders of a sweep, value for value."""

    def compare(folder: Path, expected: Path) -> None:
        rows, others = read_rows(folder), read_rows(expected)
        assert rows.keys() == others.keys() and len(rows["trials"])
        for kind, frame in rows.items():
            pd.testing.assert_frame_equal(frame, others[kind], check_exact=True)

    return compare
