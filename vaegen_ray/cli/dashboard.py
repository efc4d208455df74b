"""``vaegen dashboard``. The server is imported when it starts."""

import argparse
import os
import re
import sys
import threading

from vaegen_ray.cli.parts import Commands, command
from vaegen_ray.launch.options import add_storage, whole_port
from vaegen_ray.launch.sidecar import require_extra

PREFIX = re.compile(r"(/[\w.~-]+)*", re.ASCII)


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "dashboard", run, "a live web page over the sweeps of a storage")
    add_storage(parser, "what is shown")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDR", help="address to listen on [default: 127.0.0.1, this machine]"
    )
    parser.add_argument("--port", type=whole_port, metavar="N", help="port [default: the first free one from 8050 on]")
    parser.add_argument(
        "--url-prefix",
        type=url_prefix,
        default="",
        metavar="PATH",
        help="path under which a proxy shows the page, such as /vaegen [default: none]",
    )
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)


def url_prefix(text: str) -> str:
    """The type of ``--url-prefix``; a slash at its end is taken off."""
    prefix = text.rstrip("/")
    if not PREFIX.fullmatch(prefix):
        raise argparse.ArgumentTypeError(f"must be a path such as /vaegen, of letters, digits and ._~-; got {text!r}")
    return prefix


def run(options: argparse.Namespace) -> int:
    """Serves until Ctrl-C; with ``--with-parent`` until standard input ends, which it does with the parent.

    Raises:
        VaegenError: the extra is not installed, or the storage, address or port cannot be used.
    """
    require_extra()
    from vaegen_ray.dashboard.server import Server, is_loopback
    from vaegen_ray.results.storage import Storage

    server = Server(Storage.open(options.storage, create=False), options.host, options.port, options.url_prefix)
    if options.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    print(f"dashboard {server.address}" + ("" if options.with_parent else " (Ctrl-C ends it)"), flush=True)
    if not is_loopback(options.host):
        print(f"everybody who reaches {options.host} can read the results: the page asks for no password", flush=True)
    server.run()
    sys.stdout.flush()
    os._exit(0)  # nothing is written here, and a reading of a slow storage would hold up the end


def _end_with_parent() -> None:
    """The parent holds the other end of standard input, which closes however the parent ends."""
    sys.stdin.buffer.read()
    os._exit(0)
