"""Ray with and without tokens in a world of its own, and those who try to get in. Run by ``test_tokens.py`` in network,
process and mount namespaces, where every socket is Ray's.

    python token_world.py local|head FOLDER

Prints one JSON object of what was seen. ``head`` needs ``RAY_AUTH_MODE``; clients find their own environment.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ADDRESS = "127.0.0.2"
TOKEN, WRONG = "0123456789abcdef" * 4, "fedcba9876543210" * 4
SWEEP = Path(__file__).parents[2] / "sweeps" / "double_descent.py"
CLIENT_SECONDS = 300
JOIN = """
import ray, sys
from vaegen_ray.errors import VaegenError
from vaegen_ray.exit import fail
from vaegen_ray.service.cluster import connect
try:
    connect.connect(sys.argv[1])
except VaegenError as error:
    sys.exit(fail(error))
print(ray.get(ray.remote(lambda: 6 * 7).remote(), timeout=600))
"""
STRANGER = """
import sys
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).cluster_id)
"""
"""The first thing that ``ray.init`` does; that would ask again for 20 seconds."""
METHODS = ("NodeInfoGcsService/GetClusterId", "NodeManagerService/GetNodeStats", "ObjectManagerService/Pull")
METHODS += ("CoreWorkerService/GetCoreWorkerStats", "LogService/ListLogs")
"""A method of each of Ray's servers that changes nothing."""
METRICS = "metrics"
"""The answer of a server that shows anybody numbers for Prometheus."""
UNIMPLEMENTED = 12
"""The status code of gRPC for a method that a server does not have."""


def client(home: Path, *command: str, **environment: str) -> subprocess.Popen:
    """A process of somebody with this home."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    home.mkdir(exist_ok=True)
    environment = {**inherited, "HOME": str(home), **environment}
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> dict[str, Any]:
    started = time.monotonic()
    out, err = process.communicate(timeout=CLIENT_SECONDS)
    return {"code": process.returncode, "out": out, "err": err, "seconds": round(time.monotonic() - started, 1)}


def listening() -> list[tuple[str, int]]:
    """Address and port of every listening socket of this world."""
    found = []
    for table, size in (("/proc/net/tcp", 8), ("/proc/net/tcp6", 32)):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                words = re.findall("." * 8, local[:size])
                packed = b"".join(bytes.fromhex(word)[::-1] for word in words)
                family = socket.AF_INET if size == 8 else socket.AF_INET6
                name = socket.inet_ntop(family, packed).removeprefix("::ffff:")
                found.append((name, int(local[size + 1 :], 16)))
    return sorted(set(found))


def call(host: str, port: int, method: str, token: str | None = None) -> int | None:
    """The status that a gRPC server answers an empty request with; None when it speaks another protocol."""

    def frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
        return len(data).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + data

    fields = {":method": "POST", ":scheme": "http", ":path": f"/ray.rpc.{method}", ":authority": "ray"}
    fields |= {"content-type": "application/grpc", "te": "trailers"}
    fields |= {"authorization": f"Bearer {token}"} if token else {}
    texts = [text.encode() for pair in fields.items() for text in pair]
    block = b"".join((b"\0" if i % 2 == 0 else b"") + bytes([len(text)]) + text for i, text in enumerate(texts))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(preface + frame(1, 4, 1, block) + frame(0, 1, 1, bytes(5)))
        got = b""
        while not (status := re.search(rb"grpc-status.([0-9]+)", got, re.DOTALL)):
            data = connection.recv(65536)
            got += data
            if not data or got.startswith(b"HTTP/1"):
                return None
    return int(status[1])


def http_code(host: str, port: int, token: str | None = None) -> int | str:
    """The status that an HTTP server answers with; METRICS from one that shows nothing but these."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        request = urllib.request.Request(f"http://{host}:{port}/", headers=headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
            numbers = all(re.match(r"# (HELP|TYPE) |\w+({.*})? [-+.\w]+$", line) for line in lines)
            return METRICS if lines and numbers else answer.status
    except urllib.error.HTTPError as error:
        return error.code


def knock(sockets: list[tuple[str, int]], token: str) -> dict[str, dict[str, list[int | str]]]:
    """What each server answers without a token, with a wrong one and with the right one."""
    answers = {}
    for name, port in sockets:
        host = "127.0.0.1" if name in ("0.0.0.0", "::") else name
        methods = [method for method in METHODS if call(host, port, method) not in (None, UNIMPLEMENTED)]
        answers[f"{name}:{port}"] = {
            kind: [call(host, port, method, shown) for method in methods] or [http_code(host, port, shown)]
            for kind, shown in (("none", None), ("wrong", WRONG), ("right", token))
        }
    return answers


def local(folder: Path) -> dict[str, Any]:
    """A sweep in local mode on a machine with a network, and what can be reached of it while it runs."""
    os.chmod(folder, 0o755)
    home = folder / "user"
    hold = folder / "hold.py"
    hold.write_text(
        "import ray, sys\nfrom vaegen_ray.service.cluster import connect\nconnect.connect(None)\n"
        "worker = ray.remote(lambda: 42)\nassert ray.get(worker.remote(), timeout=600) == 42\n"
        "print(ray.get_runtime_context().gcs_address, flush=True)\nsys.stdin.read()\n"
    )
    held = client(home, str(hold))
    try:
        address = held.stdout.readline().strip()
        token_file = home / ".ray" / "auth_token"
        token = token_file.read_text()
        sockets = listening()
        stranger = client(folder / "stranger", "-c", STRANGER, address, RAY_AUTH_MODE="disabled")
        return {
            "network": socket.if_nameindex()[-1][1],
            "address": address,
            "sockets": sockets,
            "answers": knock(sockets, token),
            "stranger": ended(stranger),
            "modes": [oct(each.stat().st_mode & 0o777) for each in (token_file.parent, token_file)],
            "token_characters": len(token),
            "token_in": holders(token, folder),
        }
    finally:
        held.kill()


def holders(secret: str, folder: Path) -> list[str]:
    """Files below a folder and command lines that a secret stands in."""
    files = [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    lines = [path for path in Path("/proc").glob("[0-9]*/cmdline") if secret.encode() in path.read_bytes()]
    return [str(path) for path in (*files, *lines)]


def head(folder: Path) -> dict[str, Any]:
    """A head in the mode that the environment says, and clients with all kinds of environments."""
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "memory": 10**9, "object_store_memory": 10**8, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={"node_ip_address": ADDRESS, **small})
    sweep = (str(SWEEP), "--preset", "smoke", "--address", nodes.address, "--storage", str(folder / "results"))
    join = ("-c", JOIN, nodes.address)
    stored = folder / "stored"
    (stored / ".ray").mkdir(parents=True)
    (stored / ".ray" / "auth_token").write_text(TOKEN)
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    rounds = [
        {
            "nothing": client(folder / "a", *join),
            "token but no mode": client(stored, *join),
            "mode but no token": client(folder / "b", *join, RAY_AUTH_MODE="token"),
            "no such file": client(folder / "c", *join, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH="/no/such/file"),
        },
        {
            "wrong": client(folder / "d", *sweep, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=WRONG),
            "disabled": client(folder / "e", *join, RAY_AUTH_MODE="disabled"),
            "right": client(folder / "f", *join, **given),
        },
    ]
    seen = {name: ended(process) for each in rounds for name, process in each.items()}
    if os.environ.get("WITH_SWEEP"):
        seen["sweep"] = ended(client(folder / "g", *sweep, **given))
        init = "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR')"
        seen["plain"] = ended(client(folder / "h", "-c", init, nodes.address, RAY_AUTH_MODE="disabled"))
    seen["token_in"] = holders(TOKEN, folder)
    nodes.shutdown()
    return seen


if __name__ == "__main__":
    print(json.dumps({"local": local, "head": head}[sys.argv[1]](Path(sys.argv[2]))))
