"""What killed writers left in a storage goes at the next start; what a living one writes stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

from vaegen_ray import scratch
from vaegen_ray.results import leftovers
from vaegen_ray.results.storage import Storage

WRITES = """
import os, signal, sys
from vaegen_ray.results import storage

def stop(*_):
    print("writing", flush=True)
    sys.stdin.read()

storage.os.replace = stop
storage.Storage.open(sys.argv[1]).write("sweep/metrics/a.parquet", b"rows")
"""
"""A writer that has written its temporary file, and stops before it is renamed."""


def temporary(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob(".*"))


def test_the_file_of_a_writer_stays_until_the_writer_is_dead(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    command = [sys.executable, "-c", WRITES, str(tmp_path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    assert leftovers.sweep(storage, "sweep") == []
    (name,) = temporary(tmp_path)
    assert name.startswith(".a.parquet.") and name.endswith(".tmp")
    writer.kill()
    writer.communicate()
    assert leftovers.sweep(storage, "other") == [], "only the folders that are named are looked at"
    assert leftovers.sweep(storage, "sweep") == [str(tmp_path / "sweep/metrics" / name)]
    assert temporary(tmp_path) == []


def test_files_of_other_machines_go_when_they_are_old(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    folder = tmp_path / "sweep" / "trials"
    folder.mkdir(parents=True)
    other = "0" * 8 if scratch.BOOT != "0" * 8 else "1" * 8
    old = [
        tmp_path / f".probe-{'a' * 32}",
        folder / f".x.parquet.{other}-{'b' * 12}.tmp",
        folder / f".y.{'c' * 12}.tmp",
    ]
    young = [folder / f".z.parquet.{other}-{'d' * 12}.tmp", tmp_path / f".probe-{'e' * 32}"]
    not_ours = [folder / ".hidden", folder / "x.tmp", tmp_path / ".gitignore", folder / "a.parquet"]
    before = time.time() - 2 * leftovers.DAY
    for path in (*old, *young, *not_ours):
        path.write_bytes(b"x")
        if path not in young:
            os.utime(path, (before, before))
    assert sorted(leftovers.sweep(storage, "sweep")) == sorted(map(str, old))
    assert all(path.exists() for path in (*young, *not_ours))


def test_a_storage_that_is_not_there_has_no_leftovers(tmp_path: Path) -> None:
    assert leftovers.sweep(Storage.open(tmp_path / "none", create=False), "sweep") == []
