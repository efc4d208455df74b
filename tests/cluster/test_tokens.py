"""Who gets into the Ray that we start or join, in worlds of their own (``token_world.py``)."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WORLD = Path(__file__).with_name("token_world.py")
UNSHARE = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
NETWORK = "ip link set lo up; ip link add here type veth peer name there; ip addr add 10.9.9.9/24 dev here; "
NETWORK += "ip link set here up; ip link set there up; ip route add default via 10.9.9.1"
"""A machine with an address that others could reach it by, which is where Ray listens unless it is told not to."""
TOKEN, WRONG = "0123456789abcdef" * 4, "fedcba9876543210" * 4
UNAUTHENTICATED = 16
"""The status code of gRPC."""


def may_make_networks() -> bool:
    try:
        return subprocess.run([*UNSHARE, "bash", "-c", NETWORK], capture_output=True, timeout=600).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


needs_networks = pytest.mark.skipif(not may_make_networks(), reason="needs the right to make networks (root on Linux)")


@contextmanager
def world(kind: str, **environment: str) -> Iterator[dict[str, Any]]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="vr-", ignore_cleanup_errors=True) as short:
        (home := Path(short, "home")).mkdir()
        environment = {
            **inherited,
            "HOME": str(home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        environment["RAY_TMPDIR"] = short
        network = NETWORK if kind == "local" else "ip link set lo up"
        command = f"{network}; exec {sys.executable} {WORLD} {kind} {short}"
        done = subprocess.run(
            [*UNSHARE, "bash", "-c", command], capture_output=True, text=True, timeout=900, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def alone() -> Iterator[dict[str, Any]]:
    with world("local") as seen:
        yield seen


@pytest.fixture(scope="module")
def guarded() -> Iterator[dict[str, Any]]:
    with world("head", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as seen:
        yield seen


@needs_networks
def test_local_mode_listens_on_loopback_alone(alone: dict[str, Any]) -> None:
    assert alone["network"] == "here", "there is a network to listen on"
    assert len(alone["sockets"]) >= 5
    assert {host for host, _ in alone["sockets"]} == {"127.0.0.1"}


@needs_networks
def test_every_server_of_local_mode_refuses_who_has_not_its_token(alone: dict[str, Any]) -> None:
    for where, codes in alone["answers"].items():
        if codes["none"] == ["metrics"]:  # numbers for Prometheus, for which Ray asks no token
            continue
        assert set(codes["none"]) <= {UNAUTHENTICATED, 401}, where
        assert set(codes["wrong"]) <= {UNAUTHENTICATED, 403}, where
        assert not set(codes["right"]) & {UNAUTHENTICATED, 401, 403}, where
    assert sum(UNAUTHENTICATED in codes["none"] for codes in alone["answers"].values()) >= 5
    assert alone["stranger"]["code"] == 1 and "AuthenticationError" in alone["stranger"]["err"]


@needs_networks
def test_the_token_of_local_mode_is_long_and_its_owners_alone(alone: dict[str, Any]) -> None:
    assert alone["token_characters"] == 64
    assert alone["modes"] == ["0o700", "0o600"]
    assert [Path(path).name for path in alone["token_in"]] == ["auth_token"], "no log and no command line has it"


ERRORS = {
    "nothing": "wants a token: set RAY_AUTH_MODE=token; put the cluster's token into",
    "token but no mode": "wants a token: set RAY_AUTH_MODE=token; the one in",
    "mode but no token": "RAY_AUTH_MODE=token is set, but there is no token: put the cluster's token into",
    "no such file": "RAY_AUTH_TOKEN_PATH must be a file with a token; got /no/such/file: there is no such file",
    "wrong": "does not take the token in RAY_AUTH_TOKEN: put the cluster's token into",
    "disabled": "wants a token: set RAY_AUTH_MODE=token; put the cluster's token into",
}


@needs_networks
@pytest.mark.slow
@pytest.mark.parametrize("who", ERRORS)
def test_a_cluster_with_a_token_refuses_in_one_line(who: str, guarded: dict[str, Any]) -> None:
    seen = guarded[who]
    assert seen["code"] == 2
    assert seen["out"] == ""
    assert seen["err"].startswith("error: ") and seen["err"].count("\n") == 1, seen["err"]
    assert ERRORS[who] in seen["err"]
    assert TOKEN not in seen["err"] and WRONG not in seen["err"]


@needs_networks
@pytest.mark.slow
def test_who_has_the_token_works_in_the_cluster(guarded: dict[str, Any]) -> None:
    assert guarded["right"] | {"seconds": 0} == {"code": 0, "out": "42\n", "err": "", "seconds": 0}
    assert [Path(path).name for path in guarded["token_in"]] == ["auth_token"], "no log and no command line has it"


@pytest.mark.slow
@needs_networks
def test_a_sweep_with_the_token_leaves_no_token_behind() -> None:
    with world("head", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, WITH_SWEEP="1") as seen:
        assert seen["sweep"]["code"] == 0, seen["sweep"]
        assert "12/12 VAEs" in seen["sweep"]["out"]
        assert [Path(path).name for path in seen["token_in"]] == ["auth_token"]
        assert seen["plain"]["code"] == 1 and "Failed to connect" in seen["plain"]["err"], "Ray itself lets nobody in"


@pytest.mark.slow
@needs_networks
def test_a_cluster_without_a_token_is_told() -> None:
    with world("head", RAY_AUTH_MODE="disabled") as seen:
        assert seen["nothing"]["code"] == 0 and seen["nothing"]["out"] == "42\n"
        assert "asks for no token: anyone who reaches it can run code there" in seen["nothing"]["err"]
        assert seen["disabled"] | {"seconds": 0} == {"code": 0, "out": "42\n", "err": "", "seconds": 0}
        for who in ("wrong", "right"):
            assert seen[who]["code"] == 2, seen[who]
            assert "asks for no token, though RAY_AUTH_MODE=token is set here" in seen[who]["err"]
