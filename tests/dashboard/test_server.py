"""Who is let in, what is served, how the page starts and ends."""

import json
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
from vaegen_ray.spec.trial import bundle_id

from .conftest import BUNDLES, SWEEP
from .test_page import Page

WAIT = 600.0
DRIVER = """
import sys, time
from types import SimpleNamespace
from vaegen_ray.launch.main import main
from vaegen_ray.service.driver import sweep
sweep.run = lambda sweep, config: time.sleep(600)
main(lambda options: SimpleNamespace(name="s"), "a sweep", argv=sys.argv[1:])
"""


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=600) as answer:
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
    found, headers, said = get(serve(trained), Host=host)
    assert found == code
    if code == 403:
        assert headers["Content-Type"].startswith("text/plain") and f"it was asked for as {host!r}" in said.decode()
        assert all(way in said.decode() for way in ("http://127.0.0.1:PORT", "let a proxy send", "--host ADDR"))


@pytest.mark.parametrize("kept", ["/lab/vaegen", ""], ids=["the proxy keeps the prefix", "the proxy takes it off"])
def test_behind_a_proxy_all_addresses_have_the_prefix(serve: Callable[..., str], trained: Path, kept: str) -> None:
    address = serve(trained, prefix="/lab/vaegen")
    assert address.endswith("/lab/vaegen")
    bare = address.removesuffix("/lab/vaegen")
    code, _, page = get(f"{bare}{kept}/sweep/{SWEEP}")
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.decode())
    assert code == 200 and sources and all(source.startswith("/lab/vaegen/") for source in sources)
    for source in sources:
        assert get(bare + kept + source.removeprefix("/lab/vaegen"))[0] == 200, source
    code, _, layout = get(f"{bare}{kept}/_dash-layout")
    links = re.findall(r'"href": "([^"]+)"', json.dumps(json.loads(layout)))
    assert {"/lab/vaegen/", "/lab/vaegen/samples"} <= set(links)
    assert all(link.startswith(("/lab/vaegen/", "#")) for link in links)
    opened = Page(bare + kept).opened(f"/lab/vaegen/sweep/{SWEEP}")
    assert "6 / 6" in opened and f'"/lab/vaegen/sweep/{SWEEP}/curves"' in opened
    assert not re.search(r'"(?:href|src)": "/(?!lab/vaegen/)', opened)
    assert get(f"{bare}{kept}/alive")[0] == 204


def test_a_prefix_that_cannot_be_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("vaegen", "/a b", "//host", "http://host/a", "/a?b"):
        assert main(["dashboard", "--url-prefix", wrong]) == 2
        said = capsys.readouterr().err
        assert "must be a path such as /vaegen" in said and repr(wrong) in said


LINKED = {
    f"{SWEEP}/sweep.json": "sweep.json",
    f"{SWEEP}/trials/{bundle_id(BUNDLES[0])}.parquet": "a file of rows",
    f"{SWEEP}/figures": "a folder",
    f"{SWEEP}/given-up": "a folder",
    f"{SWEEP}/figures/a.png": "a picture",
}


@pytest.mark.parametrize("path", LINKED)
def test_a_link_that_leaves_the_storage_is_not_followed_and_is_said(
    serve: Callable[..., str], trained: Path, tmp_path: Path, path: str
) -> None:
    storage, outside, link = tmp_path / "storage", tmp_path / "outside", tmp_path / "storage" / path
    shutil.copytree(trained / SWEEP, storage / SWEEP)
    (storage / SWEEP / "figures").mkdir(exist_ok=True)
    (storage / SWEEP / "figures" / "a.png").write_bytes(b"secret")
    (storage / SWEEP / "given-up").mkdir(exist_ok=True)
    shutil.move(link, outside)
    link.symlink_to(outside)
    address = serve(storage)
    page = Page(address)
    head = page.opened(f"/sweep/{SWEEP}")
    if link.suffix != ".png":
        assert "VAEs done" in head and f"{path} is behind a symbolic link that leads out of the storage" in head
    if "figures" in path:
        code, _, data = get(f"{address}/figures/{SWEEP}/a.png")
        assert code == 404 and b"secret" not in data


def test_a_sweep_that_is_a_link_out_of_the_storage_hides_no_other(
    serve: Callable[..., str], trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / SWEEP, tmp_path / "storage" / SWEEP)
    (tmp_path / "storage" / "linked").symlink_to(trained / SWEEP)
    (tmp_path / "storage" / "within").symlink_to(SWEEP)  # stays in the storage, and so is followed
    page = Page(serve(tmp_path / "storage"))
    sweeps = page.sweeps()
    assert sweeps.count("6 of 6 VAEs done") >= 2
    assert "linked is behind a symbolic link that leads out of the storage" in sweeps
    assert "6 / 6" in page.opened("/sweep/within")
    said = page.ask("main.children", url="/sweep/linked")["sideUpdate"]["problem"]["children"]
    assert "linked is behind a symbolic link" in said


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
        urllib.request.urlopen(request, timeout=600)
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
    from vaegen_ray.launch import sidecar

    monkeypatch.setattr(sidecar, "find_spec", lambda name: None)
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
