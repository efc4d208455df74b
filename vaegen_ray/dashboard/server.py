"""The server of the page: who is let in, what the page may load, and where it listens."""

import threading
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import waitress
from flask import Flask, Response, abort, request

from vaegen_ray.dashboard import app
from vaegen_ray.dashboard.sweeps import Sweeps
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.results.storage import Storage

PORTS = range(8050, 8070)
"""Tried in this order where no port is asked for."""
POLICY = (
    "default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads from its server alone."""
FOREIGN = (
    "This page answers under the names of its own machine alone (127.0.0.1, localhost), so that no web site can read "
    "it through a name of its own; it was asked for as {asked!r}. Open it as http://127.0.0.1:PORT (from another "
    "machine through ssh -L), let a proxy send 'Host: 127.0.0.1', or start it with --host ADDR, which opens it to "
    "everybody who reaches that address.\n"
)
THREADS = 8
MOST_ASKED = 2**20
"""Bytes of a question: what the page asks is some hundred of them long."""


class Server:
    """The page over a storage, served by a few threads.

    Args:
        storage: what is shown.
        host: the address to listen on.
        port: the port; 0 for any that is free, None for the first free one of ``PORTS``.
        prefix: the path under which a proxy shows the page, such as ``/vaegen``; also the proxy may take it off.

    Raises:
        SpecError: the address or port cannot be used.
    """

    def __init__(self, storage: Storage, host: str = "127.0.0.1", port: int | None = None, prefix: str = "") -> None:
        self.host, self._prefix = host, prefix
        self._sweeps = Sweeps(replace(storage, confined=True))
        dash = app.make(self._sweeps, prefix)
        _guard(dash.server, POLICY.format(hashes=" ".join(dash.csp_hashes())), host)
        self._server = _listen(dash.server, host, port, prefix)

    @property
    def address(self) -> str:
        """What to type into a browser on this machine."""
        address, host = _ip(self.host), self.host
        if address is not None and address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
        several = getattr(self._server, "effective_listen", None)  # a name with an address of each kind
        port = several[0][1] if several else self._server.effective_port
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{self._prefix}"

    def run(self) -> None:
        """Serves until Ctrl-C. All sweeps are read meanwhile, so that the first look at one is quick."""
        threading.Thread(target=self._read_all, daemon=True).start()
        self._server.run()

    def _read_all(self) -> None:
        with suppress(VaegenError):  # the page says it
            self._sweeps.statuses()


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from its own machine alone."""
    address = _ip(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _guard(flask: Flask, policy: str, host: str) -> None:
    """Lets nobody in through a name that somebody else gave to this machine, and nothing out of the page."""

    @flask.before_request
    def check_host() -> None:
        name = request.host.rpartition(":")[0].strip("[]") or request.host
        if is_loopback(host) and not is_loopback(name):
            said = FOREIGN.format(asked=request.headers.get("Host", ""))
            abort(Response(said, 403, mimetype="text/plain"))

    @flask.after_request
    def add_headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _listen(flask: Flask, host: str, port: int | None, prefix: str) -> Any:
    for number in PORTS if port is None else (port,):
        try:
            return waitress.create_server(
                flask,
                host=host,
                port=number,
                url_prefix=prefix,
                threads=THREADS,
                ident=None,
                max_request_body_size=MOST_ASKED,
            )
        except (OSError, ValueError) as error:
            reason = error
    where = f"port {port}" if port is not None else f"any port from {PORTS.start} to {PORTS.stop - 1}"
    raise SpecError(f"the page cannot listen on {host}, {where}: {reason}; choose with --host and --port")
