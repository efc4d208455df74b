"""What all tests need of the process that runs them."""

import signal


def pytest_configure() -> None:
    """Lets Ctrl-C interrupt this process and those that tests start, also where a shell has started the tests in the
    background and made them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
