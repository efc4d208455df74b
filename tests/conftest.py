"""What all tests need of the process that runs them."""

import os
import signal
from collections.abc import Iterator

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
