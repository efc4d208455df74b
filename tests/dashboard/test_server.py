"""Who is let in, what is served, how the page starts and ends."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from vaegen_ray.cli import main
from vaegen_ray.dashboard.server import MOST_ASKED, Server, is_loopback
from vaegen_ray.results.storage import Storage

from .conftest import SWEEP

WAIT = 120.0
DRIVER = """
import sys, time
from types import SimpleNamespace
from vaegen_ray.service.main import main
sweep = SimpleNamespace(name="s")
main(lambda options: sweep, "a sweep", argv=sys.argv[1:], run=lambda sweep, options: time.sleep(600))
"""


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_the_page_asks_for_nothing_from_elsewhere(serve: Callable[..., str], trained: Path) -> None:
    code, headers, page = get(serve(trained))
    assert code == 200
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.decode())
    assert sources and all(source.startswith("/") and not source.startswith("//") for source in sources)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]


@pytest.mark.parametrize(
    ("host", "code"), [("evil.example", 403), ("localhost", 200), ("[::1]:1", 200), ("evil:80", 403)]
)
def test_a_name_that_somebody_else_gave_this_machine_lets_nobody_in(
    serve: Callable[..., str], trained: Path, host: str, code: int
) -> None:
    assert get(serve(trained), Host=host)[0] == code


def test_pictures_are_those_of_sweeps_alone(serve: Callable[..., str], trained: Path, tmp_path: Path) -> None:
    (trained / SWEEP / "figures").mkdir(exist_ok=True)
    (trained / SWEEP / "figures" / "a.png").write_bytes(b"picture")
    address = serve(trained)
    code, headers, data = get(f"{address}/figures/{SWEEP}/a.png?1")
    assert (code, headers["Content-Type"], data) == (200, "image/png", b"picture")
    for path in (f"{SWEEP}/b.png", f"{SWEEP}/sweep.json", f"{SWEEP}/.png", "../a.png", "absent/a.png"):
        assert get(f"{address}/figures/{path}")[0] == 404, path
    for path in (f"{SWEEP}/..%2fsweep.json", f"{SWEEP}/..%2ffigures%2fa.png"):  # no picture's address: the page itself
        assert get(f"{address}/figures/{path}")[2].startswith(b"<!DOCTYPE html>"), path
    (trained / SWEEP / "figures" / "a.png").unlink()


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.7", False), ("here", False)],
)
def test_loopback(host: str, alone: bool) -> None:
    assert is_loopback(host) == alone


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("localhost", "localhost")])
def test_the_address_that_is_printed_is_one_to_type(tmp_path: Path, host: str, shown: str) -> None:
    server = Server(Storage.open(tmp_path), host, 0)
    with suppress(OSError):
        server._server.close()
    assert re.fullmatch(rf"http://{re.escape(shown)}:[1-9][0-9]*", server.address)


def test_a_question_as_long_as_no_page_asks_is_refused(serve: Callable[..., str], trained: Path) -> None:
    request = urllib.request.Request(f"{serve(trained)}/_dash-update-component", b" " * (MOST_ASKED + 1))
    with pytest.raises((urllib.error.HTTPError, ConnectionError, urllib.error.URLError)) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert getattr(caught.value, "code", 413) == 413


def test_a_page_can_ask_whether_its_server_lives(serve: Callable[..., str], trained: Path) -> None:
    assert get(f"{serve(trained)}/alive")[0] == 204


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["dashboard", "--storage", str(tmp_path), "--port", port]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and port in said
    assert main(["dashboard", "--port", "70000"]) == 2
    assert "65535" in capsys.readouterr().err


def test_without_the_extra_a_line_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaegen_ray.service import beside

    monkeypatch.setattr(beside, "find_spec", lambda name: None)
    assert main(["dashboard", "--storage", str(tmp_path)]) == 2
    assert "pip install 'vaegen-ray[dashboard]'" in capsys.readouterr().err


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_beside_a_sweep_the_page_ends_with_the_driver(tmp_path: Path, end: int) -> None:
    command = [sys.executable, "-c", DRIVER, "--storage", str(tmp_path), "--dashboard"]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert driver.stdout is not None
    address = driver.stdout.readline().removeprefix("dashboard ").strip()
    assert get(address)[0] == 200
    os.kill(driver.pid, end)
    driver.wait(WAIT)
    give_up = time.monotonic() + WAIT
    while True:
        try:
            get(address)
        except (urllib.error.URLError, ConnectionError):
            break
        assert time.monotonic() < give_up, "the page is still there"
    driver.stdout.close()


def test_ctrl_c_ends_a_server_that_is_reading(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / SWEEP, tmp_path / SWEEP)
    os.mkfifo(tmp_path / SWEEP / "status.json")  # nobody ever writes: a reading that does not end
    command = [sys.executable, "-m", "vaegen_ray.cli", "dashboard", "--storage", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        try:
            assert get(address)[0] == 200
            server.send_signal(signal.SIGINT)
            assert server.wait(WAIT) == 0
        finally:
            server.kill()
