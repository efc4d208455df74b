"""``vaegen results``: groups, intervals over seeds, epochs, formats, files."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from vaegen_ray.results.schema import VERSION_KEY
from vaegen_ray.spec import trial
from vaegen_ray.spec.trial import TrialSpec, bundle_id
from vaegen_ray.sweep.defaults import base_stream

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
    assert "1 of 3 trials were pruned by a search and are left out" in err
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
    head, line = out.splitlines()
    assert line.split()[2:6] == ["-0.5", "±", "6.4", "(2)"]
    assert head.index("elbo_test") + len("elbo_test") == line.index("(2)") + 3, "numbers stand to the right"


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


@pytest.mark.parametrize("what", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_replaced(written: None, vaegen: Run, tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    {"folder": place.mkdir, "pipe": lambda: os.mkfifo(place), "device": lambda: place.symlink_to("/dev/null")}[what]()
    before = place.lstat()
    for options in ((), ("--force",)):
        code, out, err = vaegen("results", "s", "--format", "csv", "--output", str(place), *options)
        assert (code, out) == (2, "") and "no folder, pipe or device" in err
        after = place.lstat()  # without the time of the last access, which reading a link changes
        assert (after.st_mode, after.st_ino, after.st_mtime_ns) == (before.st_mode, before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("file", ["new/", "..", "."])
def test_a_file_needs_a_name(written: None, vaegen: Run, file: str) -> None:
    code, out, err = vaegen("results", "s", "--format", "csv", "--output", file)
    assert (code, out) == (2, "") and "--output must end with the name of a file" in err


def test_of_a_stream_the_parts_that_differ_are_shown(write: Callable, vaegen: Run) -> None:
    streams = [base_stream("digits", "smoke", n_train=n) for n in (100, 200)]
    specs = [spec(seed=seed, method="dmaapx", stream=stream) for stream in streams for seed in range(2)]
    write("s", [*specs, spec(seed=0), spec(seed=1)], elbo)
    for options in ((), ("--metrics", "elbo_test")):
        code, out, _ = vaegen("results", "s", *options)
        (head,) = (line.split() for line in out.splitlines() if line.startswith(("dataset  method", "method")))
        at = head.index("stream.n_train")
        assert code == 0 and {line.split()[at] for line in out.splitlines()[-3:]} == {"100", "200", "-"}


def test_trials_of_one_group_that_differ_are_said_whatever_their_seeds(write: Callable, vaegen: Run) -> None:
    """Seed 0 has one size and seed 1 another: the interval is over sizes as much as over seeds."""
    write("s", [spec(8, 0, mz=1), spec(8, 1, mz=2)], lambda trial, _: -10.0 * trial.mz)
    _, _, err = vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test")
    assert "trials of one group differ in mz\n" in err and "in 1 of 1 groups seeds differ in them too" in err


def test_seeds_with_other_trials_are_said(write: Callable, vaegen: Run) -> None:
    """As in a sweep under way, where the last seed lacks the large sizes yet."""
    grid = [spec(nc, seed, mz=mz) for nc in (8, 16) for seed in range(3) for mz in (1, 2)]
    write("s", grid, elbo)
    ask = ("results", "s", "--by", "nc", "--metrics", "elbo_test")
    assert "seeds differ" not in vaegen(*ask)[2]
    write("t", grid[:-1], elbo)
    assert (
        "in 1 of 2 groups seeds differ in them too: not all have the same trials" in vaegen("results", "t", *ask[2:])[2]
    )


def test_trials_of_two_numerics_are_not_averaged(write: Callable, vaegen: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write("s", [spec(8, seed) for seed in range(2)], lambda *_: -10.0)
    monkeypatch.setattr(trial, "NUMERICS_VERSION", trial.NUMERICS_VERSION + 1)
    write("s", [spec(8, seed) for seed in range(2)], lambda *_: -30.0)
    found = rows(vaegen("results", "s", "--csv")[1])
    versions = [str(trial.NUMERICS_VERSION - 1), str(trial.NUMERICS_VERSION)]
    assert [(row["numerics_version"], row["elbo_test"]) for row in found] == list(
        zip(versions, ["-10.0", "-30.0"], strict=True)
    )
    assert "differ in numerics_version" in vaegen("results", "s", "--by", "nc", "--metrics", "elbo_test")[2]


def test_stopped_trials_are_left_out_and_said(write: Callable, vaegen: Run) -> None:
    write("s", [spec(nc) for nc in (8, 16, 32)], elbo, stopped=[spec(16)], failed=[spec(32)])
    code, out, err = vaegen("results", "s", "--csv")
    assert code == 0 and [row["nc"] for row in rows(out)] == ["8"]
    assert err.splitlines() == [
        "1 of 3 trials failed and are left out",
        "1 of 3 trials were pruned by a search and are left out",
    ]
    write("t", [spec(8), spec(16)], elbo, stopped=[spec(8)], failed=[spec(16)])
    code, out, err = vaegen("results", "t")
    assert (code, out) == (2, "") and "is completed yet" in err.splitlines()[-1]


def test_the_best_epoch_of_no_number_is_one_line(write: Callable, vaegen: Run) -> None:
    write("s", [spec()], lambda *_: float("nan"))
    code, out, err = vaegen("results", "s", "--epoch", "best")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and "have a elbo_test" in err
    assert vaegen("results", "s")[1].splitlines()[1].split()[-4:] == ["-", "-", "-", "1.00"]


def _rewrite_as_version_1(path: Path, *without: str) -> None:
    """As earlier versions wrote the rows of trials: without a digest, and without the names of their files."""
    table = pq.read_table(path).drop_columns(["files", *without])
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: "1"}), path)


def test_trials_without_any_evaluation_are_said(write: Callable, vaegen: Run, storage: Path) -> None:
    write("s", [spec(8), spec(16)], elbo, size=1)
    name = bundle_id([spec(16)])
    (storage / "s" / "metrics" / f"{name}-000100-000300.parquet").unlink()
    _rewrite_as_version_1(storage / "s" / "trials" / f"{name}.parquet")
    for epoch in ("best", "all", "100"):
        _, out, err = vaegen("results", "s", "--csv", "--epoch", epoch)
        assert {row["nc"] for row in rows(out)} == {"8"} and "1 of 2 trials have not" in err


def test_old_files_have_the_neutral_values_of_later_fields(write: Callable, vaegen: Run, storage: Path) -> None:
    """Else a sweep that was begun by an old version and extended by a new one falls apart into two."""
    specs = [spec(8, seed) for seed in range(4)]
    write("s", specs, lambda *_: -20.0)
    path = storage / "s" / "trials" / f"{bundle_id(specs[:2])}.parquet"
    _rewrite_as_version_1(path, "split", "hidden_layers", "augment_strength")
    query = "SELECT split, hidden_layers, augment_strength, count(*) AS n FROM results GROUP BY ALL"
    expected = [{"split": "random", "hidden_layers": 2, "augment_strength": 1.0, "n": 8}]
    assert json.loads(vaegen("results", "s", "--sql", query, "--format", "json")[1]) == expected
    (row,) = rows(vaegen("results", "s", "--by", "split,hidden_layers", "--metrics", "elbo_test", "--csv")[1])
    assert (row["split"], row["hidden_layers"], row["seeds"]) == ("random", "2", "4")


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


def test_sums_are_numbers(written: None, vaegen: Run) -> None:
    query = "SELECT sum(seed) AS sum, 1.5 AS half, 12345678901234567890123::HUGEINT AS huge FROM trials"
    assert json.loads(vaegen("results", "s", "--sql", query, "--format", "json")[1]) == [
        {"sum": 6, "half": 1.5, "huge": 12345678901234567890123}
    ]


def test_what_parquet_cannot_hold_is_one_line(written: None, vaegen: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    code, out, err = vaegen("results", "s", "--sql", "SELECT INTERVAL 1 MONTH AS i", "--output", str(file))
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and "interval" in err and not file.exists()


@pytest.mark.parametrize("kind", ["table", "csv", "json", "markdown"])
def test_columns_of_one_name_are_all_shown(written: None, vaegen: Run, kind: str) -> None:
    query = "SELECT nc, nc + 1 AS nc, 7 AS nc_1 FROM trials LIMIT 1"
    code, out, _ = vaegen("results", "s", "--sql", query, "--format", kind)
    assert code == 0 and all(name in out for name in ("nc", "nc_1", "nc_1_1"))
    code, out, _ = vaegen("results", "s", "--sql", "FROM trials JOIN metrics USING (trial_id)", "--format", kind)
    assert code == 0 and "bundle_id_1" in out


def test_series_and_what_is_not_finite_in_text_formats(write: Callable, vaegen: Run) -> None:
    write("s", [spec(seed=0)], lambda *_: float("inf"), details=True)
    ask = ("results", "s", "--sql", "SELECT effective_epoch AS e, values FROM details ORDER BY e")
    assert vaegen(*ask, "--csv")[1].splitlines() == ["e,values", '100.0,"[null, 1.0]"', '300.0,"[null, 1.0]"']
    assert json.loads(vaegen(*ask, "--format", "json")[1])[0] == {"e": 100.0, "values": [None, 1.0]}


def test_text_of_others_cannot_break_a_page(write: Callable, vaegen: Run) -> None:
    write("s", [spec()], elbo)
    tag = ("results", "s", "--sql", "SELECT '<script>' AS \"<b>\", 1 < 2 AS c", "--format", "markdown")
    assert vaegen(*tag)[1].splitlines()[::2] == ["| &lt;b> | c |", "| &lt;script> | True |"]
    ask = ("results", "s", "--sql", "SELECT 'a|b' || chr(10) || chr(27) || '[2J' AS \"x|y\"", "--format", "markdown")
    assert vaegen(*ask)[1].splitlines() == ["| x\\|y |", "| --- |", "| a\\|b\ufffd\ufffd[2J |"]


RATES = (0.001, 0.003)


def unlike() -> list[TrialSpec]:
    return [spec(nc, seed, learning_rate=rate) for nc in (8, 16) for rate in RATES for seed in range(2)]


def test_where_selects_trials(write: Callable, vaegen: Run) -> None:
    write("s", unlike(), lambda trial, _: -1000 * trial.learning_rate - trial.seed)
    _, out, _ = vaegen("results", "s", "--csv")
    assert {(row["nc"], row["learning_rate"], row["seeds"]) for row in rows(out)} == {
        (nc, str(rate), "2") for nc in ("8", "16") for rate in RATES
    }
    ask = ("results", "s", "--by", "nc", "--metrics", "elbo_test", "--csv")
    _, out, err = vaegen(*ask, "--where", "learning_rate=3e-3", "--where", "nc=8")
    assert [(row["nc"], float(row["elbo_test"]), row["seeds"]) for row in rows(out)] == [("8", -3.5, "2")]
    assert "differ in learning_rate" not in err
    _, out, err = vaegen(*ask, "--where", "learning_rate=0.001", "--where", "learning_rate=0.003")
    assert [row["trials"] for row in rows(out)] == ["4", "4"] and "differ in learning_rate" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("results", "s", "--where", "learning_rate=7"), "got learning_rate=7, which none has"),
        (("figure", "complexity_axes", "--sweep", "s", "--where", "nc=7"), "got nc=7, which none has"),
        (("results", "s", "--where", "learning_rat=7"), "such as learning_rate; got 'learning_rat'"),
        (("results", "s", "--where", "wall_seconds=2"), "a field of a trial"),
        (("results", "s", "--sql", "FROM trials", "--where", "nc=8"), "--where and --epoch cannot go with it"),
    ],
)
def test_what_no_trial_has_is_one_line(write: Callable, vaegen: Run, words: tuple[str, ...], said: str) -> None:
    write("s", unlike(), elbo)
    code, _, err = vaegen(*words)
    assert code == 2 and said in err and len(err.splitlines()) == 1


def test_a_figure_of_unlike_trials_is_drawn_of_those_that_are_chosen(
    write: Callable, vaegen: Run, storage: Path
) -> None:
    write("s", unlike(), elbo)
    draw = ("figure", "complexity_axes", "--sweep", "s")
    code, _, err = vaegen(*draw)
    assert code == 2 and "differ in learning_rate (0.001, 0.003)" in err and "--where learning_rate=0.001" in err
    assert not (storage / "s" / "figures").exists()
    assert vaegen(*draw, "--where", "learning_rate=0.001")[0] == 0
    names = {path.name for path in (storage / "s" / "figures").iterdir()}
    assert names == {f"complexity_axes.learning_rate-0.001.{kind}" for kind in ("png", "pdf")}


def test_claims_are_judged_for_the_trials_that_are_chosen(write: Callable, vaegen: Run) -> None:
    write("double_descent", unlike(), elbo)
    _, out, _ = vaegen("claims")
    assert "learning_rate 0.001" in out and "learning_rate 0.003" in out, "an experiment each"
    _, out, _ = vaegen("claims", "--where", "learning_rate=0.001")
    assert "0.003" not in out and "nc 8 to 16" in out
    code, _, err = vaegen("claims", "--where", "learning_rate=7")
    assert code == 2 and "got learning_rate=7, which none has" in err
