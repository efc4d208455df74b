"""Kill anything at any point, run the same command again: the rows of an undisturbed run, none lost, none double.

Every case starts Ray on this machine in a process of its own.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest

from vaegen_ray.exit import Exit
from vaegen_ray.results import query
from vaegen_ray.signals import SIGNALS

SWEEP = Path(__file__).with_name("faulty_sweep.py")
VARIES = ["wall_seconds", "evaluation_seconds", "node", "finished_at", "code_version"]


def start(
    storage: Path, *options: str, point: str = "none", count: int = 1, victim: str = "worker"
) -> subprocess.Popen:
    markers = storage / "markers"
    markers.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(SWEEP), point, str(count), victim, str(markers), "--storage", str(storage)]
    command += ["--bundle-size", "2", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    out, err = process.communicate(timeout=900)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out


def rows(storage: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and metrics as they lie in the files, sorted; nothing removed but times and the code version."""
    folder = storage / "faulty"
    trials = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("trials/*.parquet"))])
    metrics = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("metrics/*.parquet"))])
    return (
        trials.drop(columns=VARIES).sort_values("trial_id").reset_index(drop=True),
        metrics.sort_values(["trial_id", "effective_epoch"]).reset_index(drop=True),
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed")
    code, out = finish(start(storage))
    assert code == 0, out
    return storage


def assert_same_rows(storage: Path, expected: Path) -> None:
    for got, wanted in zip(rows(storage), rows(expected), strict=True):
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)


FIRST_AND_LAST = {
    "sweep_json": (1,),
    "described": (1,),
    "status": (1, 2),
    "told": (1, 2),
    "setup": (1,),
    "members": (1, 3),
    "named": (1, 3),
    "details": (1, 3),
    "detailed": (1, 3),
    "metrics": (1, 12),
    "written": (1, 12),
    "checkpoint": (1, 5),
    "saved": (1, 5),
    "model": (1, 3),
    "kept": (1, 3),
    "commit": (1, 3),
    "committed": (1, 3),
    "delete": (1, 3),
    "deleted": (1, 3),
}
"""What is written in the life of a sweep of 3 bundles with 4 evaluations each, the last of which has details, in order,
and which arrivals are the first and the last. Of checkpoints and of status.json there are more when there is more time;
these always come."""

CASES = [
    pytest.param("driver", "checkpoint", 3),
    pytest.param("worker", "step", 4),
    pytest.param("driver", "step", 1, marks=pytest.mark.slow),
    *(
        pytest.param("driver", point, count, marks=pytest.mark.slow)
        for point, counts in FIRST_AND_LAST.items()
        for count in counts
    ),
    pytest.param("worker", "setup", 1, marks=pytest.mark.slow),
    pytest.param("worker", "metrics", 3, marks=pytest.mark.slow),
    pytest.param("worker", "checkpoint", 2, marks=pytest.mark.slow),
    pytest.param("worker", "commit", 2, marks=pytest.mark.slow),
    pytest.param("worker", "committed", 1, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("victim", "point", "count"), CASES)
def test_a_kill_changes_no_row(victim: str, point: str, count: int, undisturbed: Path, tmp_path: Path) -> None:
    code, out = finish(start(tmp_path, point=point, count=count, victim=victim))
    assert (tmp_path / "markers" / f"{point}-{count}").exists(), "the fault was never reached"
    if victim == "driver":
        assert code == -signal.SIGKILL
        before = (
            set(query.load(tmp_path, "faulty").trials["trial_id"]) if (tmp_path / "faulty/trials").exists() else set()
        )
        code, out = finish(start(tmp_path))
        if before:  # a worker that outlives its driver for a moment may have committed more
            done = re.search(r"\((\d) more are done\)|nothing to train: all (\d) VAEs", out)
            assert done and int(done[1] or done[2]) >= len(before), (before, out)
    else:
        assert "a worker with 2 VAEs was lost" in out
    assert code == 0, out
    assert_same_rows(tmp_path, undisturbed)


def test_a_finished_sweep_trains_nothing_and_an_extended_one_the_new_seed_only(
    undisturbed: Path, tmp_path: Path
) -> None:
    storage = tmp_path / "finished"
    shutil.copytree(undisturbed, storage)
    files = {path: path.stat().st_mtime_ns for path in storage.glob("faulty/trials/*")}
    code, out = finish(start(storage))
    assert code == 0
    assert "nothing to train" in out
    code, out = finish(start(storage, "--seeds", "3"))
    assert code == 0
    assert "3 VAEs to train (6 more are done)" in out
    assert {path: path.stat().st_mtime_ns for path in files} == files, "finished trials were written again"
    assert sorted(rows(storage)[0]["seed"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.slow
def test_bundles_whose_workers_are_killed_for_their_memory_go_on_as_halves(undisturbed: Path, tmp_path: Path) -> None:
    """SIGKILL to every worker of more than one member before its first checkpoint, as from a kernel out of memory."""
    code, out = finish(start(tmp_path, point="checkpoint", count=1, victim="hungry"))
    assert code == 0, out
    assert "2 workers with 2 members were lost, which are halved now" in out
    got, wanted = rows(tmp_path), rows(undisturbed)
    assert set(got[0]["bundle_members"]) == {1}
    for one, other, keys in zip(got, wanted, (["trial_id"], ["trial_id", "effective_epoch"]), strict=True):
        pd.testing.assert_frame_equal(one[keys], other[keys])
    numbers = ["elbo_train", "elbo_test", "rate_test", "distortion_test"]
    pd.testing.assert_frame_equal(got[1][numbers], wanted[1][numbers], rtol=1e-4)


@pytest.mark.parametrize(
    ("signum", "everybody"),
    [
        (signal.SIGTERM, True),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_what_runs_and_the_next_run_goes_on(
    signum: signal.Signals, everybody: bool, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the driver alone, and to all processes of a job, as batch systems and containers do."""
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = start(tmp_path, "--checkpoint-seconds", "100000", point="stepped", victim="nobody")
    marker = tmp_path / "markers" / "struck"
    while not marker.exists() and process.poll() is None:
        os.sched_yield()
    job = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert len(job) > 5, "Ray runs"
    for each in job if everybody else job[:1]:
        each.send_signal(signum)
    (tmp_path / "markers" / "go").touch()
    _, err = process.communicate(timeout=900)
    assert err.splitlines() == [f"stopped by {SIGNALS[signum]}; rerun the command to resume"]
    assert process.returncode == 128 + signum
    assert list(tmp_path.glob("faulty/checkpoints/*.safetensors")), "what ran was saved"
    _, alive = psutil.wait_procs(job[1:], timeout=60)
    assert not alive and not list(temporary.iterdir()), (alive, list(temporary.iterdir()))
    code, out = finish(start(tmp_path))
    assert code == 0, out
    assert_same_rows(tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("metrics", 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("members", 1), ("checkpoint", 2), ("commit", 2))),
        pytest.param("status", 2, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_ends_the_run_with_one_line_and_nothing_is_lost(
    point: str, count: int, undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, point=point, count=count, victim="full")
    out, err = process.communicate(timeout=900)
    assert (process.returncode, err) == (
        2,
        f"error: cannot write {point}: No space left on device; make room, then start the same command again\n",
    )
    assert "was lost" not in out and "given up" not in out and "refuses" not in out
    code, out = finish(start(tmp_path))
    assert code == 0, out
    assert_same_rows(tmp_path, undisturbed)
    assert not list(tmp_path.glob("faulty/checkpoints/*"))


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), [("metrics", 3), ("checkpoint", 2), ("commit", 1), ("status", 3)])
def test_a_storage_that_refuses_once_ends_no_run(point: str, count: int, undisturbed: Path, tmp_path: Path) -> None:
    code, out = finish(start(tmp_path, point=point, count=count, victim="away"))
    assert code == 0, out
    assert f"cannot write {point}: Input/output error" in out and "was lost" not in out
    assert_same_rows(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "name"), [("raylet", "raylet"), ("agent", "DashboardAgent")])
def test_the_death_of_ray_is_one_line_and_the_next_run_goes_on(
    victim: str, name: str, undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, point="stepped", victim=victim)
    _, err = process.communicate(timeout=900)
    assert process.returncode == Exit.LEFT
    assert len(err.splitlines()) == 1 and err.startswith(f"error: Ray's {name} ended during the run ("), err
    code, out = finish(start(tmp_path))
    assert code == 0, out
    assert_same_rows(tmp_path, undisturbed)
