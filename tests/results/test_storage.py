import errno
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import vaegen_ray
from vaegen_ray.errors import SpecError, StorageError
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.storage_errors import explained


def test_what_is_written_is_read(storage: Storage):
    for data in (b"", b"one", bytes(range(256)) * 5000):
        storage.write("a/b/file.gz", data)  # the suffix must not make anybody compress it
        assert storage.read("a/b/file.gz") == data
    storage.write_json("x.json", {"a": [1, None]})
    assert storage.read_json("x.json") == {"a": [1, None]}


def test_a_missing_file_is_told_apart(storage: Storage):
    assert not storage.exists("a/b")
    assert storage.read_optional("a/b") is None
    storage.delete("a/b")
    with pytest.raises(StorageError, match="no such file") as caught:
        storage.read("a/b")
    assert storage.where("a/b") in str(caught.value)
    with pytest.raises(StorageError, match="cannot move"):
        storage.move("a/b", "c")


def test_list_shows_files_sorted_and_folders_apart(storage: Storage):
    assert storage.list("a") == storage.list() == storage.folders("a") == []
    for name in ("z.txt", "b.json", ".hidden", "sub/c.txt"):
        storage.write(f"a/{name}", b"1")
    assert storage.list("a") == ["b.json", "z.txt"]
    assert storage.list("a", ".txt") == ["z.txt"]
    assert storage.folders("a") == ["sub"]
    assert storage.folders() == ["a"]


def test_sizes_are_those_of_the_listed_files(storage: Storage):
    assert storage.sizes("a") == storage.sizes() == {}
    for name, length in {"z.txt": 7, "b.json": 70_000, "c.txt": 0, ".hidden": 3, "sub/d.txt": 5}.items():
        storage.write(f"a/{name}", b"1" * length)
    assert storage.sizes("a") == {"b.json": 70_000, "c.txt": 0, "z.txt": 7}
    assert list(storage.sizes("a")) == storage.list("a")
    assert storage.sizes("a", ".txt") == {"c.txt": 0, "z.txt": 7}
    assert storage.sizes() == {}


def test_delete_and_move(storage: Storage):
    storage.write("a/x", b"1")
    storage.write("b/c/y", b"old")
    storage.move("a/x", "b/c/y")
    assert not storage.exists("a/x")
    assert storage.read("b/c/y") == b"1"
    storage.delete("b/c/y")
    assert not storage.exists("b/c/y")


def test_move_folder_moves_everything(storage: Storage):
    for name in ("old/trials/a", "old/metrics/b", "old/c", "older/d"):
        storage.write(name, name.encode())
    storage.move_folder("old", "new", first="trials")
    assert not storage.exists("old")
    assert [storage.read(f"new/{n}") for n in ("trials/a", "metrics/b", "c")] == [
        b"old/trials/a",
        b"old/metrics/b",
        b"old/c",
    ]
    assert storage.read("older/d") == b"older/d"


@pytest.mark.parametrize("path", ["", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "./a", "a\\b", "a\0b"])
def test_a_path_cannot_leave_the_storage(storage: Storage, path: str):
    storage.write("inside", b"1")
    for call in (
        lambda: storage.write(path, b"x"),
        lambda: storage.read(path),
        lambda: storage.exists(path),
        lambda: storage.delete(path),
        lambda: storage.move("inside", path),
        lambda: storage.move(path, "inside"),
        lambda: storage.list(path or ".."),
    ):
        with pytest.raises(SpecError, match="must be relative"):
            call()
    assert storage.read("inside") == b"1"


def test_json_is_strict(storage: Storage):
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json("x.json", {"loss": float("nan")})
    assert not storage.exists("x.json")
    storage.write("y.json", b'{"half": ')
    with pytest.raises(StorageError, match=r"y\.json: it is not JSON"):
        storage.read_json("y.json")


def test_probe_leaves_nothing(storage: Storage):
    storage.write("kept", b"1")
    storage.probe()
    assert storage.list() == ["kept"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch, broken: str):
    storage = Storage.open(tmp_path)
    storage.write("a/x", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, full)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            storage.write("a/x", b"new")
        assert str(tmp_path / "a/x") in str(caught.value)
    assert storage.read("a/x") == b"old"
    assert os.listdir(tmp_path / "a") == ["x"]


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path):
    storage = Storage.open(tmp_path)
    storage.write("x.parquet", b"old")
    script = (
        "import os, signal, sys; from vaegen_ray.results.storage import Storage\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Storage.open(sys.argv[1]).write('x.parquet', b'new')"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=package_env(), timeout=300)
    assert ended.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2  # the temporary file is still there ...
    assert storage.list() == ["x.parquet"]  # ... and nobody sees it,
    assert [p.name for p in tmp_path.glob("*.parquet")] == ["x.parquet"]  # nor do other tools
    assert storage.read("x.parquet") == b"old"
    storage.write("x.parquet", b"new")
    assert storage.read("x.parquet") == b"new"


def test_readers_see_whole_files_while_many_write(tmp_path: Path):
    storage = Storage.open(tmp_path)
    storage.write("x", b"0" * 100_000)

    def write(digit: int) -> None:
        for _ in range(10):
            storage.write("x", str(digit).encode() * 100_000)

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, digit) for digit in (1, 2)]
        while not all(writer.done() for writer in writers):
            data = storage.read("x")
            assert len(data) == 100_000 and len(set(data)) == 1
        for writer in writers:
            writer.result()
    assert storage.list() == ["x"]
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_keeps_what_was_written(tmp_path: Path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs the right to mount")
    try:
        storage = Storage.open(tmp_path)
        storage.write("kept", b"1" * 40_000)
        for name in ("kept", "another"):
            with pytest.raises(StorageError, match="No space left on device") as caught:
                storage.write(name, b"2" * 1_000_000)
            assert str(tmp_path / name) in str(caught.value)
        assert storage.read("kept") == b"1" * 40_000
        assert os.listdir(tmp_path) == ["kept"]
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        with pytest.raises(StorageError, match="Read-only file system"):
            storage.probe()
        assert storage.read("kept") == b"1" * 40_000
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(StorageError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def number(code: int) -> Callable[..., None]:
    def raises(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    return raises


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EDQUOT, "Disk quota exceeded; delete files or ask for a larger quota"),
        (errno.ESTALE, "Stale file handle; the file server has lost sight of this folder: mount it again"),
        (errno.EACCES, "Permission denied; give this user the right to write there"),
        (errno.EIO, "Input/output error; look after the disk or the file server"),
    ],
)
def test_what_a_file_server_refuses_is_told(tmp_path: Path, monkeypatch, code: int, said: str):
    storage = Storage.open(tmp_path)
    storage.write("a/x", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", number(code))
        text = refused(lambda: storage.write("a/x", b"new"))
    assert text.startswith(f"cannot write {tmp_path}/a/x: {said}")
    assert storage.read("a/x") == b"old" and os.listdir(tmp_path / "a") == ["x"]


def test_a_stale_handle_is_opened_again(tmp_path: Path, monkeypatch):
    storage = Storage.open(tmp_path)
    storage.write("x", b"here")
    read, stale = Path.read_bytes, iter([number(errno.ESTALE)] * 2)
    monkeypatch.setattr(Path, "read_bytes", lambda path: next(stale, read)(path))
    assert storage.read("x") == b"here"
    monkeypatch.setattr(Path, "read_bytes", number(errno.ESTALE))
    assert "mount it again" in refused(lambda: storage.read("x"))


def test_a_folder_mounted_for_reading_alone(tmp_path: Path):
    Storage.open(tmp_path / "runs").write("x", b"1")
    (tmp_path / "seen").mkdir()
    mounted = subprocess.run(["mount", "--bind", tmp_path / "runs", tmp_path / "seen"], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a folder for reading alone needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path / "seen"], check=True)
        storage = Storage.open(tmp_path / "seen")
        assert storage.read("x") == b"1"
        text = refused(storage.probe)
        assert "Read-only file system; mount it for writing, or choose another --storage" in text
    finally:
        subprocess.run(["umount", "-l", tmp_path / "seen"], check=True)


def test_open_makes_a_local_directory_and_takes_a_uri(tmp_path: Path):
    Storage.open(tmp_path / "new folder/deep").write("x", b"1")
    again = Storage.open((tmp_path / "new folder/deep").as_uri())
    assert again.read("x") == b"1"
    assert again.is_local and again.name == str(tmp_path / "new folder/deep")
    assert not Storage.open(tmp_path / "absent", create=False).exists("x")
    assert not (tmp_path / "absent").exists()


def test_a_storage_that_cannot_be_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(StorageError, match="is a file, not a directory") as caught:
            Storage.open(place)
        assert str(place) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="cannot create storage /proc/nowhere/here: "):
        Storage.open("/proc/nowhere/here")
    with pytest.raises(SpecError, match="one of file, s3, gs; got 'ftp'"):
        Storage.open("ftp://host/runs")
    with pytest.raises(SpecError, match="needs a bucket"):
        Storage.open("s3://")


def test_a_storage_can_be_sent_to_another_process(tmp_path: Path):
    storage = Storage.open(tmp_path)
    pickle.loads(pickle.dumps(storage)).write("x", b"1")
    assert storage.read("x") == b"1"


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path):
    storage = Storage.open(tmp_path)
    storage.write("a", b"1")
    with pytest.raises(StorageError, match=r"cannot write .*a/b: .*not a directory"):
        storage.write("a/b", b"1")
    assert storage.read("a") == b"1"


def test_the_name_of_a_storage_hides_its_credentials():
    storage = Storage.open("s3://user:secret@bucket/runs/?region=eu-west-1")
    assert storage.name == "s3://bucket/runs" and storage.where("a/b") == "s3://bucket/runs/a/b"
    with pytest.raises(StorageError, match=r"cannot open storage s3://\*\*\*@bucket/runs") as caught:
        Storage.open("s3://user:secret@bucket/runs?nonsense=1")
    assert "secret" not in str(caught.value)


def test_results_come_without_torch_and_ray():
    script = (
        "import sys, vaegen_ray.results.query, vaegen_ray.results.store; print({'torch', 'ray'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=package_env(), capture_output=True, text=True, timeout=600
    )
    assert ended.stdout.strip() == "set()", ended.stderr


def package_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(vaegen_ray.__file__).parents[1])}


@pytest.mark.parametrize(
    ("error", "final"),
    [
        *((OSError(code, os.strerror(code)), True) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)),
        *((OSError(code, os.strerror(code)), True) for code in (errno.EPERM, errno.ENOTDIR, errno.EISDIR)),
        *((OSError(code, os.strerror(code)), False) for code in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)),
        (OSError("When writing: AWS Error ACCESS_DENIED (HTTP status 403) during PutObject operation: no"), True),
        (
            OSError("When writing: AWS Error UNKNOWN (HTTP status 507) during PutObject operation: XMinioStorageFull"),
            True,
        ),
        (OSError("When writing: AWS Error SLOW_DOWN (HTTP status 503) during PutObject operation: no"), False),
        (OSError("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 28, Timeout was reached"), False),
    ],
)
def test_an_error_that_waiting_does_not_mend_is_final(error: OSError, final: bool) -> None:
    with pytest.raises(StorageError) as caught, explained("write", "a/x"):
        raise error
    again = pickle.loads(pickle.dumps(caught.value))  # as it travels from a worker
    assert (caught.value.final, again.final, str(again)) == (final, final, str(caught.value))
