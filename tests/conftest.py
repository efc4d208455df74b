"""What all tests need of the process that runs them."""

import os
import signal

os.environ.setdefault("RAY_worker_niceness", "0")
"""Ray gives its workers a niceness of 15. Beside four busy processes on two cores such a worker gets 2 % of a core, and
a test that takes a second takes a minute."""


def pytest_configure() -> None:
    """Lets Ctrl-C interrupt this process and those that tests start, also where a shell has started the tests in the
    background and made them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
