"""``--dashboard``: the web page in a process of its own beside a sweep, which ends with the driver in any case.

The page's process reads the other end of a pipe that the driver alone holds: it closes when the driver ends, also when
that is killed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from vaegen_ray.errors import VaegenError

PACKAGES = ("dash", "waitress")
"""What the page is made with."""


@contextmanager
def dashboard_beside(options: argparse.Namespace) -> Iterator[None]:
    """Starts the page where ``--dashboard`` asks for it; it prints its address. A dry run has none.

    Raises:
        VaegenError: the extra is not installed.
    """
    if not options.dashboard or options.dry_run:
        yield
        return
    require_extra()
    # A session of its own: Ctrl-C ends the driver, which may still have something to show. The storage goes through the
    # environment, since a URI may hold keys and all users see command lines.
    process = subprocess.Popen(
        [sys.executable, "-m", "vaegen_ray.dashboard", "--with-parent"],
        stdin=subprocess.PIPE,
        env={**os.environ, "VAEGEN_STORAGE": options.storage},
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.communicate()


def require_extra() -> None:
    """Whether what the page is made with is installed.

    Raises:
        VaegenError: it is not.
    """
    if any(find_spec(name) is None for name in PACKAGES):
        raise VaegenError("the dashboard needs an extra; get it with: pip install 'vaegen-ray[dashboard]'")
