"""A search that is killed and started again ends with the points and rows of an undisturbed one, none trained twice.

One point at a time, so that the order in which points end is the order in which they begin; every case starts Ray.
"""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).with_name("faulty_search.py")
VARIES = ["wall_seconds", "evaluation_seconds", "node", "finished_at", "code_version"]
POINTS = 5


def run(
    storage: Path, scheduler: str, *options: str, point: str = "none", count: int = 1, victim: str = "driver"
) -> tuple[int, str]:
    markers = storage / "markers"
    markers.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(SCRIPT), point, str(count), victim, str(markers), "--storage", str(storage)]
    command += ["--preset", "smoke", "--concurrent", "1", "--points", str(POINTS), "--scheduler", scheduler]
    command += ["--space", "augmentation=none|tuned,nc=4:16:log"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode, done.stdout


def rows(storage: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and metrics as they lie in the files, sorted; nothing removed but times and the code version."""
    folder = storage / "search"
    trials = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("trials/*.parquet"))])
    metrics = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("metrics/*.parquet"))])
    return (
        trials.drop(columns=VARIES).sort_values("trial_id").reset_index(drop=True),
        metrics.sort_values(["trial_id", "effective_epoch"]).reset_index(drop=True),
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Storages of finished searches, by scheduler; each is made when it is first asked for."""

    class Made(dict):
        def __missing__(self, scheduler: str) -> Path:
            self[scheduler] = tmp_path_factory.mktemp(scheduler)
            code, out = run(self[scheduler], scheduler)
            assert code == 0, out
            return self[scheduler]

    return Made()


CASES = [
    pytest.param("none", "driver", "commit", 3),
    *(
        pytest.param("none", victim, point, count, marks=pytest.mark.slow)
        for victim, point, count in (
            *(("driver", "sweep_json", 1), ("driver", "described", 1), ("driver", "described", 4)),
            *(
                ("driver", "members", 2),
                ("driver", "checkpoint", 3),
                ("driver", "metrics", 4),
                ("driver", "written", 9),
            ),
            *(
                ("driver", "committed", 1),
                ("driver", "deleted", 5),
                ("worker", "commit", 2),
                ("worker", "committed", 3),
            ),
        )
    ),
    *(
        pytest.param("asha", "driver", point, count, marks=pytest.mark.slow)
        for point, count in (
            *(("mark", 1), ("marked", 1), ("metrics", 6), ("committed", 2)),
            *(("saved", 1), ("saved", 3), ("saved", 5)),  # evaluated and saved, and the driver has not heard of it
        )
    ),
    *(
        pytest.param("asha", "worker", point, count, marks=pytest.mark.slow)
        for point, count in (("written", 3), ("saved", 4))
    ),
]


@pytest.mark.parametrize(("scheduler", "victim", "point", "count"), CASES)
def test_a_kill_changes_no_point_and_no_row(
    scheduler: str, victim: str, point: str, count: int, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    code, out = run(tmp_path, scheduler, point=point, count=count, victim=victim)
    assert (tmp_path / "markers" / f"{point}-{count}").exists(), "the fault was never reached"
    if victim == "driver":
        assert code == -signal.SIGKILL
        done = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("search/trials/*.parquet")}
        code, out = run(tmp_path, scheduler)
        assert f"search: {POINTS - len(done)} point" in out or len(done) == POINTS
        assert all((tmp_path / "search/trials" / name).stat().st_mtime_ns == then for name, then in done.items())
    assert code == 0, out
    for got, wanted in zip(rows(tmp_path), rows(undisturbed[scheduler]), strict=True):
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)
    assert not list(tmp_path.glob("search/checkpoints/*"))


@pytest.mark.slow
def test_asha_stops_points_and_says_so(undisturbed: dict[str, Path]) -> None:
    trials, metrics = rows(undisturbed["asha"])
    assert len(trials) == 2 * POINTS and set(trials["status"]) == {"completed", "pruned"}
    last = metrics.groupby("trial_id")["effective_epoch"].max()
    assert {status: set(last[frame["trial_id"]]) for status, frame in trials.groupby("status")}["completed"] == {9.0}
    assert last[trials.loc[trials["status"] == "pruned", "trial_id"]].max() < 9


@pytest.mark.slow
def test_a_larger_budget_and_more_seeds_go_on_from_what_is_there(undisturbed: dict[str, Path]) -> None:
    storage = undisturbed["none"]
    before = set(rows(storage)[0]["trial_id"])
    code, out = run(storage, "none", "--points", str(POINTS + 1))
    assert code == 0 and "1 point of 2 VAEs to try (5 points (5 complete) before)" in out
    code, out = run(storage, "none", "--points", str(POINTS + 1), "--seeds", "3")
    assert code == 0, out
    trials, _ = rows(storage)
    assert before < set(trials["trial_id"]) and len(trials) == 3 * (POINTS + 1)
    assert trials.groupby("seed")["bundle_members"].unique().map(list).to_dict() == {0: [2], 1: [2], 2: [1]}
    code, out = run(storage, "none", "--points", str(POINTS + 1), "--seeds", "3")
    assert code == 0 and re.search(r"nothing to try: 6 points \(6 complete\)", out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "point", "count"), [("none", "metrics", 4), ("none", "sweep_json", 2), ("asha", "mark", 1)]
)
def test_a_full_disk_ends_the_search_with_one_line_and_nothing_is_lost(
    scheduler: str, point: str, count: int, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    code, out = run(tmp_path, scheduler, point=point, count=count, victim="full")
    assert code == 2 and "was lost" not in out and "given up" not in out, out
    code, out = run(tmp_path, scheduler)
    assert code == 0, out
    for got, wanted in zip(rows(tmp_path), rows(undisturbed[scheduler]), strict=True):
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "point", "count"), [("none", "sweep_json", 2), ("asha", "mark", 1)])
def test_a_storage_that_refuses_once_ends_no_search(
    scheduler: str, point: str, count: int, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    code, out = run(tmp_path, scheduler, point=point, count=count, victim="away")
    assert code == 0, out
    for got, wanted in zip(rows(tmp_path), rows(undisturbed[scheduler]), strict=True):
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)
