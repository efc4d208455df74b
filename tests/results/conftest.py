"""The storages that the contract tests run on, an S3 server with faults, and small sweeps to put into them."""

import http.client
import json
import socket
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.fs as pafs
import pytest

from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.spec.trial import TrialSpec

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A fault: the server does nothing, and answers this."""

    status: int
    code: str
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class Cut:
    """A fault: the connection is lost when the server has half of what was sent to it."""


class S3:
    """An S3 server (moto) behind a proxy that counts requests and has faults.

    ``fault`` is called before every request with its method and path; it may do anything, and may return a fault.
    """

    Answer, Cut = Answer, Cut

    def __init__(self, server: str) -> None:
        self.server = server
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], Answer | Cut | None] = lambda method, path: None
        self.proxy = _Proxy(("127.0.0.1", 0), _Handler)
        self.proxy.s3 = self
        self.endpoint = f"127.0.0.1:{self.proxy.server_port}"
        threading.Thread(target=self.proxy.serve_forever, args=(0.05,), daemon=True).start()

    def bucket(self) -> str:
        """Makes a bucket; returns its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.ask("PUT", f"/{name}")
        return name

    def uri(self, bucket: str, folder: str = "runs", login: str = "key:Sesame99@", **options: str) -> str:
        """The URI of a folder of a bucket in this server."""
        given = {"scheme": "http", "endpoint_override": self.endpoint, "region": "us-east-1", **options}
        return f"s3://{login}{bucket}/{folder}?" + "&".join(f"{name}={value}" for name, value in given.items())

    def ask(self, method: str, path: str, data: bytes | None = None) -> bytes:
        """Asks the server itself, past the proxy and without credentials."""
        kind = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"http://{self.server}{path}", data=data, headers=kind, method=method)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.read()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    s3: S3

    def handle_error(self, *about: Any) -> None:
        """A client that was killed is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *about: Any) -> None:
        """The log is ``S3.requests``."""

    def forward(self) -> None:
        s3 = self.server.s3
        body = self.body()
        s3.requests.append((self.command, self.path))
        fault = s3.fault(self.command, self.path)
        if isinstance(fault, Answer):
            text = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>".encode()
            return self.answer(fault.status, {"Content-Type": "application/xml", **fault.headers}, text)
        server = http.client.HTTPConnection(s3.server, timeout=600)
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            server.putheader(name, value)
        server.endheaders(body[: len(body) // 2] if isinstance(fault, Cut) else body)
        if isinstance(fault, Cut):
            server.sock.shutdown(socket.SHUT_RDWR)
            server.close()
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        reply = server.getresponse()
        self.answer(reply.status, dict(reply.getheaders()), reply.read())
        server.close()

    def body(self) -> bytes:
        """What was sent, as it came: in one piece, or in chunks with their lengths."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        raw, length = [], 1
        while length:
            raw.append(self.rfile.readline())
            length = int(raw[-1].split(b";")[0], 16)
            raw.append(self.rfile.read(length + 2) if length else self.rfile.readline())
        return b"".join(raw)

    def answer(self, status: int, headers: dict[str, str], text: bytes) -> None:
        self.send_response_only(status)
        head = {name: value for name, value in headers.items() if name.lower() not in ("connection", "content-length")}
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(text))
        for name, value in {**head, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    moto = pytest.importorskip("moto.moto_server.threaded_moto_server", reason="the S3 server is moto[server]")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An S3 server without faults, until a test sets one. pyarrow looks for credentials nowhere else."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    made = S3(s3_server)
    yield made
    made.proxy.shutdown()
    made.proxy.server_close()


@pytest.fixture
def iam(s3: S3) -> Iterator[Callable[[list[str]], str]]:
    """Makes a user who may do some actions, and returns ``key:secret`` as in a URI. The server checks who asks."""
    import boto3

    client = boto3.client(
        "iam",
        endpoint_url=f"http://{s3.server}",
        region_name="us-east-1",
        aws_access_key_id="root",
        aws_secret_access_key="root",
    )

    def make(actions: list[str]) -> str:
        user = f"user-{uuid.uuid4().hex[:8]}"
        client.create_user(UserName=user)
        rule = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        client.put_user_policy(UserName=user, PolicyName="some", PolicyDocument=policy)
        key = client.create_access_key(UserName=user)["AccessKey"]
        s3.ask("POST", "/moto-api/reset-auth", b"0")
        return f"{key['AccessKeyId']}:{quote(key['SecretAccessKey'], safe='')}"

    yield make
    s3.ask("POST", "/moto-api/reset-auth", b"inf")


@pytest.fixture(params=["local", "memory", "subtree", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A local directory, a file system in memory, one behind another, which takes the path of object stores, and S3."""
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")
        return Storage.open(s3.uri(s3.bucket()))
    if request.param == "local":
        return Storage.open(tmp_path / "runs")
    if request.param == "memory":
        filesystem = pafs._MockFileSystem()
        filesystem.create_dir("bucket/runs", recursive=True)
        return Storage(filesystem, "bucket/runs", "memory://bucket/runs")
    (tmp_path / "runs").mkdir()
    return Storage(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "runs", "subtree://runs")


@pytest.fixture
def trial() -> Callable[..., Row]:
    """Makes the row of the trial with a seed, whose last epoch is ``epochs``."""

    def make(seed: int, bundle: str = "b0", status: str = "completed", epochs: int = 300, **more: Any) -> Row:
        values: Row = {"finished_at": datetime(2026, 1, 2, tzinfo=UTC), "params_z": 10, "params_rest": 32}
        if status == "failed":
            values |= {"error": "the loss is not finite", "failed_epoch": 7}
        row = trial_row(TrialSpec(seed=seed), sweep="s", bundle_id=bundle, status=status, **(values | more))
        return row | {"epochs": epochs}

    return make


@pytest.fixture
def metric() -> Callable[..., Row]:
    """Makes the row of an evaluation of the trial with a seed."""

    def make(seed: int, epoch: float, **more: Any) -> Row:
        return {"trial_id": TrialSpec(seed=seed).trial_id, "effective_epoch": epoch, **more}

    return make
