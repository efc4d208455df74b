"""``vaegen status``: counts from the files, the driver's heartbeat, JSON, --watch."""

import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from vaegen_ray.results.heartbeat import PREPARING_SECONDS, SILENT_SECONDS
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
VAEGEN = [sys.executable, "-m", "vaegen_ray.cli"]


def specs(n: int) -> list[TrialSpec]:
    return [TrialSpec(nc=8, seed=seed, evaluate_at=(100, 300)) for seed in range(n)]


def beat(**more: Any) -> dict[str, Any]:
    usual = {"fraction": 0.5, "bundles_running": 2, "vaes_per_minute": 30.0, "seconds_left": 90.0, "pools": {}}
    return {"time": time.time(), **usual, **more}


@pytest.fixture
def half(write: Callable) -> SweepStore:
    """Of six declared trials three are committed, one of them as failed; and two of an earlier declaration."""
    write("s", [TrialSpec(nc=4, seed=seed, evaluate_at=(100, 300)) for seed in range(2)], lambda *_: -1.0)
    store: SweepStore = write("s", specs(3), lambda *_: -1.0, failed=specs(1))
    store.write_sweep_json({"trials": [spec.as_dict() for spec in specs(6)], "machine": {"node": "here"}})
    return store


def of(vaegen: Run, *words: str) -> Any:
    code, out, _ = vaegen("status", *words, "--json")
    assert code == 0 and len(out.splitlines()) == 1
    return json.loads(out)


def test_counts_are_those_of_declared_trials(half: SweepStore, vaegen: Run) -> None:
    got = of(vaegen, "s")
    assert [got[name] for name in ("declared", "done", "failed", "left", "others")] == [6, 2, 1, 3, 2]
    assert (got["state"], got["heartbeat"]) == ("stopped", None)
    assert "2 of 6 done, 1 failed, 3 left" in vaegen("status", "s")[1]


@pytest.mark.parametrize(
    ("ago", "status", "state"),
    [
        (0, beat(), "running"),
        (SILENT_SECONDS + 1, beat(), "stopped"),
        (-SILENT_SECONDS - 60, beat(), "stopped"),
        (0, beat(ended=True), "stopped"),
        (SILENT_SECONDS + 1, {"preparing": "a diffusion model"}, "preparing"),
        (PREPARING_SECONDS + 1, {"preparing": "a diffusion model"}, "stopped"),
        (None, {}, "stopped"),
        (None, {"time": "now"}, "stopped"),
        (None, {"time": 1e300, "pools": 7, "bundles_running": []}, "stopped"),
        (None, [], "stopped"),
    ],
)
def test_whether_the_driver_lives(half: SweepStore, vaegen: Run, ago: float | None, status: Any, state: str) -> None:
    if ago is not None:
        status = {**status, "time": time.time() - ago}
    half.write_status(status)
    got = of(vaegen, "s")
    assert got["state"] == state
    assert (got["bundles_running"], got["expected_end"]) == (
        (2, pytest.approx(status["time"] + 90)) if state == "running" else (0, None)
    )
    assert vaegen("status")[1].splitlines()[1].split()[1] == state
    assert ("a diffusion model" in vaegen("status", "s")[1]) == (state == "preparing")


def test_what_a_search_stopped_has_not_failed_and_is_not_left(half: SweepStore, vaegen: Run) -> None:
    row = {"sweep": "s", "bundle_id": "b", "status": "pruned", "params_z": 10, "params_rest": 990}
    half.commit_trials("b", [trial_row(spec, **row) for spec in specs(5)[3:]])
    got = of(vaegen, "s")
    assert [got[name] for name in ("declared", "done", "failed", "pruned", "left")] == [6, 2, 1, 2, 1]
    assert "2 of 6 done, 2 pruned, 1 failed, 1 left" in vaegen("status", "s")[1]
    head, row_of_s = (line.split() for line in vaegen("status")[1].splitlines())
    assert dict(zip(head, row_of_s, strict=False))["early"] == "2"


def test_a_search_is_finished_when_its_budget_is_used_up(write: Callable, vaegen: Run) -> None:
    store = write("s", specs(2), lambda *_: -1.0)
    said = store.read_sweep_json()
    for budget, state in ((4, "stopped"), (2, "finished"), ("many", "finished")):
        store.write_sweep_json({**said, "planned": budget})
        got = of(vaegen, "s")
        assert (got["state"], got["left"]) == (state, 2 if state == "stopped" else 0)


def test_trials_are_those_that_were_declared_then_whatever_their_ids_would_be_now(write: Callable, vaegen: Run) -> None:
    store = write("s", specs(2), lambda *_: -1.0)
    said = store.read_sweep_json()
    ids = [spec.trial_id for spec in specs(2)]
    old = [{**spec.as_dict(), "field_of_another_version": 1} for spec in specs(2)]
    store.write_sweep_json({**said, "trials": old, "trial_ids": ids})
    assert of(vaegen, "s")["state"] == "finished"
    for damaged in (ids[:1], "ids", [1, 2], 7):
        store.write_sweep_json({**said, "trial_ids": damaged})
        code, out, err = vaegen("status", "s", "--json")
        assert code == 0 and json.loads(out)["declared"] is None and "sweep.json does not say" in err


def test_a_sweep_with_all_trials_is_finished_whatever_was_heard(write: Callable, vaegen: Run) -> None:
    store = write("s", specs(2), lambda *_: -1.0)
    for ago in (0, SILENT_SECONDS + 1):
        store.write_status(beat(time=time.time() - ago))
        assert of(vaegen, "s")["state"] == "finished"


def test_what_a_search_stopped_is_not_left_and_its_budget_is_what_is_declared(write: Callable, vaegen: Run) -> None:
    store = write("s", specs(4), lambda *_: -1.0, failed=specs(1), stopped=specs(3)[1:])
    got = of(vaegen, "s")
    assert [got[name] for name in ("state", "declared", "done", "pruned", "failed", "left")] == [
        "finished",
        4,
        1,
        2,
        1,
        0,
    ]
    store.write_sweep_json({"trials": [spec.as_dict() for spec in specs(4)], "planned": 10})
    got = of(vaegen, "s")
    assert [got[name] for name in ("state", "declared", "done", "pruned", "failed", "left")] == [
        "stopped",
        10,
        1,
        2,
        1,
        6,
    ]


def test_all_there_is_to_say(half: SweepStore, vaegen: Run) -> None:
    pool = {"samplers": 2, "shards": 61, "readers": 3, "images_per_second": 1234.5, "waited_seconds": 61.0}
    half.write_status(
        beat(seconds_left=5430.0, pools={"f66b": {**pool, "shards_waited_for": [7], "fault": "a \x1b[2J fault"}})
    )
    half.write_figure("gaps.png", b"picture")
    said = dict(line.split(maxsplit=1) for line in vaegen("status", "s")[1].splitlines())
    assert said["sweep"] == f"s, running, in {half.storage.where('s')}"
    assert said["speed"] == "30.0 VAEs/min" and said["end"].endswith("in 1 h 30 min")
    assert re.search(r"heard \d+ s ago, on here", said["driver"])
    assert said["samples"].startswith(
        "f66b: 61 shards, samplers 2, readers 3, 1,234 samples/s, readers waited 1 min 1 s"
    )
    assert said["samples"].endswith("waited for now: 1; fault: a \ufffd[2J fault")
    assert said["figures"] == f"gaps.png in {half.storage.where('s/figures')}"


@pytest.mark.parametrize("seconds_left", [-9e10, -1.0, 0.0, 9e10])
def test_an_end_that_cannot_be_is_no_traceback(half: SweepStore, vaegen: Run, seconds_left: float) -> None:
    half.write_status(beat(seconds_left=seconds_left))
    for words in ((), ("s",)):
        code, out, _ = vaegen("status", *words)
        assert code == 0 and ("in 0 s" in out) == (seconds_left <= 0)


def test_all_sweeps_and_nothing_else(half: SweepStore, write: Callable, vaegen: Run, storage: Path) -> None:
    write("t", specs(2), lambda *_: -1.0)
    write("old", specs(2), lambda *_: -1.0).archive()
    for name in ("diffusion", "samples", "notes"):
        (storage / name).mkdir()
    assert [each["sweep"] for each in of(vaegen)] == ["s", "t"]
    _, out, _ = vaegen("status")
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["sweep", "state", "done"],
        ["s", "stopped", "2"],
        ["t", "finished", "2"],
    ]


@pytest.mark.parametrize("file", ["status.json", "sweep.json"])
def test_a_damaged_file_is_said_and_the_rest_shown(
    half: SweepStore, write: Callable, vaegen: Run, storage: Path, file: str
) -> None:
    write("t", specs(2), lambda *_: -1.0)
    (storage / "s" / file).write_text('{"trials": 7')
    code, out, err = vaegen("status")
    assert code == 0 and file in err and len(out.splitlines()) == 3


def test_wrong_inputs_are_one_line(half: SweepStore, vaegen: Run, storage: Path) -> None:
    for words, said in (
        (["absent"], "no sweep 'absent'"),
        (["samples"], "must not be one of"),
        (["../x"], "the name of a sweep"),
        (["--watch", "0"], "'0'"),
        (["--storage", "ftp://host/x"], "ftp"),
    ):
        code, out, err = vaegen("status", *words)
        assert (code, out) == (2, "") and len(err.splitlines()) == 1 and said in err, words


def test_no_sweeps_are_said(vaegen: Run, storage: Path) -> None:
    assert vaegen("status") == (0, f"no sweeps in {storage}\n", "")


def lines_of(process: subprocess.Popen, number: int, seconds: float = 600.0) -> list[str]:
    """The next lines that a process prints."""
    return [line_of(process.stdout, seconds) for _ in range(number)]


def line_of(stream: IO[bytes] | None, seconds: float = 600.0) -> str:
    """The next line of a pipe without a buffer."""
    assert stream is not None
    assert select.select([stream], [], [], seconds)[0], f"no line within {seconds} s"
    line = stream.readline().decode()
    assert line, "the process has ended"
    return line


def test_watch_says_it_again_until_it_is_stopped(half: SweepStore, storage: Path) -> None:
    command = [*VAEGEN, "status", "s", "--json", "--watch", "1", "--storage", str(storage)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert json.loads(lines_of(process, 1)[0])["left"] == 3
        state = None
        while state != "running":  # it reads the files anew
            half.write_status(beat())
            state = json.loads(lines_of(process, 1)[0])["state"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, b"")


def test_watch_outlives_a_storage_that_is_away_for_a_while(half: SweepStore, storage: Path) -> None:
    command = [*VAEGEN, "status", "s", "--json", "--watch", "1", "--storage", str(storage)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        lines_of(process, 1)
        (storage / "s").rename(storage / "away")
        while "no sweep 's'" not in line_of(process.stderr):
            pass  # a look that was under way may say what it could not read
        (storage / "away").rename(storage / "s")
        assert json.loads(lines_of(process, 2)[1])["left"] == 3, "a line may still be from before"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_real_sweep_is_seen_running_and_finished(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "sweeps" / "double_descent.py"), "--preset", "smoke", "--epochs", "200"]
    sweep = subprocess.Popen([*script, "--storage", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seen: set[str] = set()
    command = [*VAEGEN, "status", "--json", "--watch", "1", "--storage", str(tmp_path)]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as watcher:
            while "finished" not in seen and (sweep.poll() in (None, 0)):
                seen |= {each["state"] for each in json.loads(lines_of(watcher, 1)[0])}
            watcher.send_signal(signal.SIGINT)
        _, err = sweep.communicate(timeout=300)
    finally:
        sweep.kill()
    assert sweep.returncode == 0, err.decode()
    assert {"running", "finished"} <= seen
