"""Where the Ray that we start keeps its files, and what is printed when it does not start. No Ray runs here."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import ray

from vaegen_ray.errors import VaegenError
from vaegen_ray.service.cluster import authentication, connect, local_ray, ray_private

LONG = "a_job_directory_" * 6


@pytest.fixture
def private(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the folder of this user, which runs of others may use."""
    folder = tmp_path_factory.mktemp("p")
    monkeypatch.setattr(authentication, "find_private_folder", lambda: folder)
    return folder


def folder_of(stack: ExitStack, monkeypatch: pytest.MonkeyPatch, given: Path | None) -> str | None:
    if given is None:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
    else:
        monkeypatch.setenv("RAY_TMPDIR", str(given))
    return local_ray.create_folder(stack)


def test_every_run_has_a_folder_of_its_own_that_goes_with_it(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        folders = [folder_of(stack, monkeypatch, None) for _ in range(2)]
        assert len(set(folders)) == 2
        assert all(Path(str(each)).parents[1] == private for each in folders)
    assert not list(private.iterdir())


def test_a_short_tmpdir_is_left_to_ray(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_ray, "SOCKET_BYTES", 1000)  # those of tests are long
    with ExitStack() as stack:
        assert folder_of(stack, monkeypatch, private / "new") is None
    assert os.listdir(private / "new") == ["ray"]


def test_a_tmpdir_that_is_too_long_for_sockets_gets_a_short_name(
    private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / LONG
    with ExitStack() as stack:
        short = Path(str(folder_of(stack, monkeypatch, long)))
        assert short.parents[1] == private and short.samefile(long / "ray")
        (short / "kept").touch()
    assert (long / "ray" / "kept").exists() and not list(private.iterdir())


def test_the_real_private_folder_leaves_room_for_sockets() -> None:
    longest = f"/tmp/vaegen-ray-{2**32 - 2}/run-12345678/ray/{local_ray.SESSION}"
    assert len(longest) <= local_ray.SOCKET_BYTES


@pytest.mark.parametrize("kind", ["file", "in a file"])
def test_a_tmpdir_that_is_no_folder_is_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    given = tmp_path / "file" / "x" if kind == "in a file" else tmp_path / "file"
    with pytest.raises(VaegenError, match="RAY_TMPDIR must be a folder that can be written; got .*: Not a directory"):
        folder_of(ExitStack(), monkeypatch, given)


TIMED_OUT = "The current node timed out during startup. This could happen because some of the raylet failed.\nMore."


@pytest.mark.usefixtures("private")
def test_a_start_that_times_out_is_tried_again_then_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts: list[Any] = []

    def init(*args: Any, **settings: Any) -> None:
        attempts.append(settings["_temp_dir"])
        raise Exception(TIMED_OUT)

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        VaegenError, match="^Ray did not start on this machine in 5 attempts: The current node timed out"
    ):
        local_ray.start(10**9, num_cpus=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"Ray did not start, attempt {n} of 5" for n in (1, 2, 3, 4)]
    assert len(attempts) == 5 and not any(Path(each).parent.exists() for each in attempts)


def test_auto_is_resolved_once_and_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(VaegenError, match="no Ray cluster answers at --address '.+:1': .*refused") as error:
        connect.connect("auto")
    head = str(error.value).split("'")[1]  # of a loopback address Ray makes that of the machine
    assert capsys.readouterr().out == f"--address auto is the Ray cluster at {head}\n"


def test_a_user_without_a_home_has_a_token_in_the_private_folder(
    private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (authentication.MODE, authentication.TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(authentication.TOKEN_PATH, "")
    monkeypatch.setattr(ray_private, "reload_authentication", lambda: None)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # neither $HOME nor an entry in passwd
    monkeypatch.chdir(tmp_path)
    assert authentication.close_to_others() is None
    token = private / "auth_token"
    assert len(token.read_text()) == 64 and token.stat().st_mode & 0o077 == 0
    assert authentication.find_token() == str(token) == os.environ[authentication.TOKEN_PATH]
    assert not list(tmp_path.iterdir()), "no folder is called ~"


def test_a_head_that_accepts_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(VaegenError, match=f"no Ray cluster answers at --address '{address}' within 1 s"):
            connect.connect(address)


def test_joining_that_does_not_return_is_given_up_in_one_line() -> None:
    script = "import threading; from vaegen_ray.service.cluster.connect import _exit_after\n"
    script += "with _exit_after(0.1, 'head:1'): threading.Event().wait()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the Ray cluster at head:1 did not let this process join within 0 s\n"
