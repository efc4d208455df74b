"""``--dashboard`` and ``--tensorboard``: processes of their own beside a sweep, which end with the driver in any case.

Such a process reads the other end of a pipe that the driver alone holds: it closes when the driver ends, also when that
is killed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from vaegen_ray.errors import SpecError, VaegenError

PACKAGES = ("dash", "waitress")
"""What the page is made with."""


@contextmanager
def run_sidecars(sweep: str, options: argparse.Namespace) -> Iterator[None]:
    """Starts what the options ask for beside a sweep; each says where to look. A dry run has none.

    Args:
        sweep: its name.

    Raises:
        VaegenError: an extra is not installed, or the folder of ``--tensorboard`` cannot be written.
    """
    wanted = []
    if options.dashboard and not options.dry_run:
        require_extra()
        wanted.append(["dashboard"])
    if options.tensorboard and not options.dry_run:
        check_folder(options.tensorboard)
        wanted.append(["tensorboard", sweep, options.tensorboard])
    with ExitStack() as stack:
        for command in wanted:
            stack.enter_context(_process(command, options.storage))
        yield


def check_folder(folder: str) -> None:
    """Makes a folder for event files and tries to write into it.

    Raises:
        SpecError: that is not possible.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror
        raise SpecError(f"event files need a folder that can be written; got {folder!r}: {reason}") from None


@contextmanager
def _process(command: list[str], storage: str) -> Iterator[None]:
    # A session of its own: Ctrl-C ends the driver, which may still have something to show. The storage goes through the
    # environment, since a URI may hold keys and all users see command lines.
    process = subprocess.Popen(
        [sys.executable, "-m", "vaegen_ray.cli", *command, "--with-parent"],
        stdin=subprocess.PIPE,
        env={**os.environ, "VAEGEN_STORAGE": storage},
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
