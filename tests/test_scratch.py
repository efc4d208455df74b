"""Temporary folders and files of dead processes are deleted by the next one; those of living ones never are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vaegen_ray import scratch

HOLDS_A_FOLDER = """
import sys
from vaegen_ray import scratch
with scratch.folder(sys.argv[1], "run-") as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""
HOLDS_A_FILE = """
import sys
from vaegen_ray import scratch
with open(sys.argv[1], "xb") as file:
    scratch.hold(file.fileno())
    file.write(b"x")
    file.flush()
    print(file.name, flush=True)
    sys.stdin.read()
"""


def holder(script: str, argument: Path) -> tuple[subprocess.Popen, Path]:
    """A process that holds a folder or file until its stdin ends, and what it holds."""
    command = [sys.executable, "-c", script, str(argument)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_there_while_it_is_used_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch.folder(tmp_path, "run-") as folder:
        assert folder.parent == tmp_path and folder.is_dir()
        (folder / "file").write_text("x")
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "other-folder").mkdir()
    process, held = holder(HOLDS_A_FOLDER, tmp_path)
    with scratch.folder(tmp_path, "run-") as mine:
        assert held.is_dir() and mine.is_dir()
    process.kill()
    process.communicate()
    assert held.is_dir()
    with scratch.folder(tmp_path, "run-") as mine:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["other-folder", mine.name])


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, swept = scratch.hold, []

    def slow_hold(descriptor: int) -> None:
        if not swept:
            swept.extend(scratch.sweep(tmp_path.iterdir()))
        hold(descriptor)

    monkeypatch.setattr(scratch, "hold", slow_hold)
    with scratch.folder(tmp_path, "run-") as folder:
        assert len(swept) == 1 and folder.is_dir() and folder not in swept


def test_a_file_is_swept_when_its_writer_is_dead_and_has_written(tmp_path: Path) -> None:
    process, held = holder(HOLDS_A_FILE, tmp_path / "file")
    (empty := tmp_path / "empty").touch()  # its writer may be about to lock it
    assert scratch.sweep([held, empty, tmp_path / "absent"]) == []
    process.kill()
    process.communicate()
    assert scratch.sweep([held, empty]) == [held]
    assert empty.exists() and not held.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (target := tmp_path / "target").mkdir()
    (target / "file").write_text("x")
    os.symlink(target, tmp_path / "run-link")
    assert scratch.sweep([tmp_path / "run-link"]) == []
    assert (target / "file").exists()
