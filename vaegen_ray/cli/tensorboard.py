"""``vaegen tensorboard``."""

import argparse
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vaegen_ray.cli.parts import Commands, command
from vaegen_ray.errors import StorageError
from vaegen_ray.launch.options import add_storage, local_folder
from vaegen_ray.launch.sidecar import check_folder

if TYPE_CHECKING:
    from vaegen_ray.dashboard.events import EventFiles

EVERY = 2.0
"""Seconds between two looks at the storage."""


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "tensorboard", run, "event files of a sweep for TensorBoard")
    parser.add_argument("sweep", metavar="SWEEP", help="name of the sweep")
    parser.add_argument(
        "folder", type=local_folder, metavar="DIR", help="where event files go; then: tensorboard --logdir DIR"
    )
    add_storage(parser, "where the sweep is")
    parser.add_argument("--follow", action="store_true", help="go on with what a running sweep adds [default: off]")
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Writes the event files; with ``--follow`` until Ctrl-C, with ``--with-parent`` until standard input ends, which
    it does with the parent.

    Raises:
        SpecError: the folder cannot be written.
        StorageError: there is no such sweep, or the storage cannot be used.
    """
    folder = Path(options.folder)
    check_folder(options.folder)
    from vaegen_ray.dashboard.events import EventFiles
    from vaegen_ray.dashboard.sweeps import Sweeps
    from vaegen_ray.results.storage import Storage

    storage = Storage.open(options.storage, create=False)
    if not options.with_parent:
        Sweeps(storage)[options.sweep]  # beside a sweep that begins there may be none yet
    try:
        events = EventFiles(storage, options.sweep, folder)
        print(f"event files go to {folder / options.sweep}; look with: tensorboard --logdir {folder}", flush=True)
        if options.with_parent or options.follow:
            _follow(events, with_parent=options.with_parent)
        notes = events.catch_up()
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"event files cannot be written in {folder}: {error}") from error
    for note in notes:
        print(note, file=sys.stderr)
    print(f"event files hold {events.written:,} evaluations")
    return 0


def _follow(events: "EventFiles", *, with_parent: bool) -> None:
    """Writes what a running sweep adds, until Ctrl-C or the end of the parent. A storage that does not answer now may
    do so later."""
    ended = threading.Event()
    if with_parent:  # which holds the other end of standard input; it closes however the parent ends
        threading.Thread(target=_wait_for_the_end, args=(ended,), daemon=True).start()
    told: set[str] = set()
    with suppress(KeyboardInterrupt):
        while not ended.wait(EVERY):
            try:
                notes = events.catch_up()
            except StorageError as error:
                notes = (f"event files wait for the storage: {error}",)
            for note in set(notes) - told:
                told.add(note)
                print(note, file=sys.stderr, flush=True)


def _wait_for_the_end(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()
