"""``vaegen results``: groups, intervals over seeds, epochs, formats, files."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vaegen_ray.sweep.base import base_stream
from vaegen_ray.trial import TrialSpec

Run = Callable[..., tuple[int, str, str]]
NOISE = {0: 0.0, 1: -2.0, 2: -1.0}


def spec(nc: int = 8, seed: int = 0, **fields: Any) -> TrialSpec:
    return TrialSpec(nc=nc, seed=seed, evaluate_at=(100, 300), **fields)


def elbo(trial: TrialSpec, epoch: int) -> float:
    """Higher at epoch 100 than at 300 for nc 16 alone."""
    late = -10.0 if trial.nc == 16 and epoch == 300 else 0.0
    return -20.0 + NOISE[trial.seed] + late + epoch / 1000


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def written(write: Callable) -> None:
    write("s", [spec(nc, seed) for nc in (8, 16) for seed in range(3)], elbo)


def test_what_a_search_stopped_is_no_result(write: Callable, vaegen: Run) -> None:
    trials = [spec(8, seed) for seed in range(3)]
    write("s", trials, elbo, failed=trials[:1], stopped=trials[1:2])
    code, out, err = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test", "--csv")
    assert code == 0 and [row["trials"] for row in rows(out)] == ["1"]
    assert "1 of 3 trials failed and are left out" in err
    assert "1 of 3 trials were stopped by a search and are left out" in err
    write("t", trials[1:2], elbo, stopped=trials)
    code, out, err = vaegen("results", "t")
    assert (code, out) == (2, "") and "no trial of t in" in err and "Traceback" not in err


def test_intervals_are_those_of_student(written: None, vaegen: Run) -> None:
    code, out, err = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test", "--csv")
    assert code == 0 and "95 % interval" in err
    values = [elbo(spec(8, seed), 300) for seed in range(3)]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    (row,) = (row for row in rows(out) if row["nc"] == "8")
    got = [float(row[name]) for name in ("elbo_test", "elbo_test_low", "elbo_test_high")]
    assert got == pytest.approx([np.mean(values), low, high], rel=1e-12)
    assert (row["trials"], row["seeds"], row["elbo_test_seeds"]) == ("3", "3", "3")


def test_a_table_says_mean_and_half_of_the_interval(written: None, vaegen: Run) -> None:
    _, out, _ = vaegen("results", "s", "--metrics", "elbo_test")
    lines = out.splitlines()
    assert lines[0] == "dataset digits, method normal, mz 1"
    assert [line.split() for line in lines[1:]] == [
        ["nc", "seeds", "elbo_test"],
        ["8", "3", "-20.7", "±", "2.5"],
        ["16", "3", "-30.7", "±", "2.5"],
    ]


def test_one_seed_has_no_interval_and_that_is_said(write: Callable, vaegen: Run) -> None:
    write("s", [spec(8, 0), spec(16, 0), spec(16, 1)], elbo)
    _, out, err = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test", "--csv")
    lone, other = rows(out)
    assert (lone["elbo_test_low"], lone["elbo_test_high"], lone["elbo_test_seeds"]) == ("", "", "1")
    assert other["elbo_test_low"] != "" and "1 of 2 groups have one seed, and no interval" in err
    _, out, _ = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test")
    assert "±" not in out.splitlines()[1] and "±" in out.splitlines()[2]


def test_a_seed_counts_once_however_many_trials_it_has(write: Callable, vaegen: Run) -> None:
    write("s", [spec(8, 0, mz=1), spec(8, 0, mz=2), spec(8, 1)], lambda trial, _: -10.0 * trial.mz - 100 * trial.seed)
    _, out, err = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test", "--csv")
    (row,) = rows(out)
    assert float(row["elbo_test"]) == ((-10 - 20) / 2 - 110) / 2
    assert (row["trials"], row["seeds"]) == ("3", "2")
    assert "trials of one group differ in mz; those of one seed are averaged first" in err


def test_what_is_not_finite_is_left_out_and_counted(write: Callable, vaegen: Run) -> None:
    write("s", [spec(8, seed) for seed in range(3)], lambda trial, _: float("inf") if trial.seed == 2 else -trial.seed)
    _, out, err = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test,generalization_gap,fid", "--csv")
    (row,) = rows(out)
    assert (row["elbo_test"], row["elbo_test_seeds"], row["generalization_gap_seeds"]) == ("-0.5", "2", "3")
    assert (row["fid"], row["fid_seeds"]) == ("", "0") and "no trial has fid here" in err
    _, out, _ = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test,generalization_gap")
    assert out.splitlines()[1].split()[2:6] == ["-0.5", "±", "6.4", "(2)"]


def test_epochs(written: None, vaegen: Run) -> None:
    def means(epoch: str) -> list[float]:
        _, out, _ = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test", "--epoch", epoch, "--csv")
        return [round(float(row["elbo_test"]), 6) for row in rows(out)]

    assert means("last") == means("300") == [-20.7, -30.7]
    assert means("100") == [-20.9, -20.9]
    assert means("best") == [-20.7, -20.9], "of each trial the evaluation with the highest test ELBO"
    assert means("all") == [-20.9, -20.7, -20.9, -30.7]


def test_trials_without_that_epoch_are_said(write: Callable, vaegen: Run) -> None:
    write("s", [spec(8, seed) for seed in range(2)], elbo)
    write("s", [spec(16, seed) for seed in range(2)], elbo, epochs=(300,))
    code, out, err = vaegen("results", "s", "--by", "nc", "--epoch", "100", "--csv")
    assert code == 0 and [row["nc"] for row in rows(out)] == ["8"]
    assert "2 of 4 trials have not an evaluation at epoch 100 and are left out" in err
    code, out, err = vaegen("results", "s", "--epoch", "7")
    assert (code, out) == (2, "") and "one at which a trial was evaluated, 100, 300; got 7" in err


def test_all_formats_say_the_same(written: None, vaegen: Run, tmp_path: Path) -> None:
    ask = ("results", "s", "--by", "nc,seed", "--metrics", "elbo_test")
    of_csv = rows(vaegen(*ask, "--format", "csv")[1])
    of_json = json.loads(vaegen(*ask, "--format", "json")[1])
    assert vaegen(*ask, "--output", str(tmp_path / "x.parquet"))[0] == 0
    of_parquet = pd.read_parquet(tmp_path / "x.parquet")
    values = [float(row["elbo_test"]) for row in of_csv]
    assert values == [row["elbo_test"] for row in of_json] == of_parquet["elbo_test"].tolist()
    assert values == [elbo(spec(nc, seed), 300) for nc in (8, 16) for seed in range(3)], "all digits"
    assert {row["elbo_test_low"] for row in of_json} == {None} and of_parquet["elbo_test_low"].isna().all()
    head, line, *body = vaegen(*ask, "--format", "markdown")[1].splitlines()
    assert (head, line) == ("| nc | seed | seeds | elbo_test |", "| --- | --- | --- | --- |") and len(body) == 6


def test_a_file_is_not_replaced_unless_it_is_said(written: None, vaegen: Run, tmp_path: Path) -> None:
    file = tmp_path / "out" / "x.csv"
    code, out, _ = vaegen("results", "s", "--output", str(file))
    assert (code, out) == (0, f"2 rows in {file}\n")
    assert file.read_text() == vaegen("results", "s", "--csv")[1]
    file.write_text("mine")
    code, out, err = vaegen("results", "s", "--output", str(file))
    assert (code, out) == (2, "") and "--force" in err and file.read_text() == "mine"
    assert vaegen("results", "s", "--output", str(file), "--force")[0] == 0
    assert file.read_text() != "mine" and list(file.parent.iterdir()) == [file]


def test_of_a_stream_the_parts_that_differ_are_shown(write: Callable, vaegen: Run) -> None:
    streams = [base_stream("digits", "smoke", n_train=n) for n in (100, 200)]
    specs = [spec(seed=seed, method="dmaapx", stream=stream) for stream in streams for seed in range(2)]
    write("s", [*specs, spec(seed=0), spec(seed=1)], elbo)
    for options in ((), ("--metrics", "elbo_test")):
        code, out, _ = vaegen("results", "s", *options)
        (head,) = (line.split() for line in out.splitlines() if line.startswith(("dataset  method", "method")))
        at = head.index("stream.n_train")
        assert code == 0 and {line.split()[at] for line in out.splitlines()[-3:]} == {"100", "200", "-"}


def test_failed_trials_alone_are_an_error(write: Callable, vaegen: Run) -> None:
    write("s", [spec()], elbo, failed=[spec()])
    code, out, err = vaegen("results", "s")
    assert (code, out) == (2, "") and "is completed yet" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--by", "ncc"], "such as nc; got 'ncc'"),
        (["--by", "nc,,mz"], "'nc,,mz'"),
        (["--by", "nc,nc"], "each once"),
        (["--metrics", "elbo_tset"], "such as elbo_test"),
        (["--metrics", "dataset"], "columns of numbers"),
        (["--by", "nc", "--metrics", "nc"], "nc in both"),
        (["--epoch", "soon"], "last, best, all or an effective epoch >= 0; got 'soon'"),
        (["--epoch", "-1"], "'-1'"),
        (["--epoch", "0"], "100, 300; got 0"),
        (["--format", "xml"], "'xml'"),
        (["--format", "json", "--csv"], "not allowed with"),
        (["--format", "parquet"], "--output"),
        (["--output", "x.xlsx"], ".csv, .json, .parquet, .md, .txt"),
        (["--output", "/proc/nowhere/x.csv"], "/proc/nowhere"),
        (["--force"], "--output"),
        (["--sql", "SELECT 1", "--by", "nc"], "--sql"),
        (["--sql", "SELECT 1", "--epoch", "0"], "--sql"),
        (["--sql", "SELEC 1"], 'syntax error at or near "SELEC"'),
        (["--sql", "DELETE FROM trials"], "got DELETE"),
    ],
)
def test_a_wrong_input_is_one_line(written: None, vaegen: Run, options: list[str], said: str) -> None:
    code, out, err = vaegen("results", "s", *options)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and said in err


def test_sql_in_any_format(written: None, vaegen: Run, tmp_path: Path) -> None:
    query = (
        "SELECT nc, count(*) AS seeds, avg(elbo_test) AS elbo FROM results WHERE effective_epoch = epochs GROUP BY nc"
    )
    _, out, _ = vaegen("results", "s", "--sql", f"{query} ORDER BY nc", "--format", "json")
    assert json.loads(out) == [
        {"nc": 8, "seeds": 3, "elbo": pytest.approx(-20.7)},
        {"nc": 16, "seeds": 3, "elbo": pytest.approx(-30.7)},
    ]
    _, out, _ = vaegen("results", "s", "--sql", f"{query} ORDER BY nc")
    assert [line.split() for line in out.splitlines()] == [
        ["nc", "seeds", "elbo"],
        ["8", "3", "-20.7"],
        ["16", "3", "-30.7"],
    ]
    _, out, _ = vaegen("results", "s", "--sql", "SELECT failed_epoch, nc FROM trials LIMIT 1", "--csv")
    assert out.splitlines()[0] == "failed_epoch,nc" and out.splitlines()[1] in (",8", ",16")


def test_series_and_what_is_not_finite_in_text_formats(write: Callable, vaegen: Run) -> None:
    write("s", [spec(seed=0)], lambda *_: float("inf"), details=True)
    ask = ("results", "s", "--sql", "SELECT effective_epoch AS e, values FROM details ORDER BY e")
    assert vaegen(*ask, "--csv")[1].splitlines() == ["e,values", '100.0,"[null, 1.0]"', '300.0,"[null, 1.0]"']
    assert json.loads(vaegen(*ask, "--format", "json")[1])[0] == {"e": 100.0, "values": [None, 1.0]}


def test_text_of_others_cannot_break_a_page(write: Callable, vaegen: Run) -> None:
    write("s", [spec()], elbo)
    ask = ("results", "s", "--sql", "SELECT 'a|b' || chr(10) || chr(27) || '[2J' AS \"x|y\"", "--format", "markdown")
    assert vaegen(*ask)[1].splitlines() == ["| x\\|y |", "| --- |", "| a\\|b\ufffd\ufffd[2J |"]
