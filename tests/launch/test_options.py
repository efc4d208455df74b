"""The options that all sweep scripts share: their values, and one line for every wrong one."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vaegen_ray.errors import SpecError
from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import at_least, collect_trial_fields, parser, whole_numbers
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.sweep.sweep import Sweep


def test_without_options_a_sweep_is_the_laptop_preset_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAEGEN_STORAGE", raising=False)
    options = vars(parser("a sweep").parse_args([]))
    given = {name: value for name, value in options.items() if value not in (None, False)}
    assert given == {"preset": "laptop", "storage": "results", "checkpoint_seconds": 10}
    assert not any(options[name] for name in ("dry_run", "fresh", "retry_failed", "bundle_size", "seeds", "address"))


def test_a_place_for_results_is_told_by_an_option_or_else_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEGEN_STORAGE", "s3://bucket/results")
    assert parser("a sweep").parse_args([]).storage == "s3://bucket/results"
    assert parser("a sweep").parse_args(["--storage", "here"]).storage == "here"


def test_every_option_says_its_default() -> None:
    for action in parser("a sweep")._actions:
        assert action.dest == "help" or "[default: " in str(action.help), action.dest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bundle-size", "0"], "must be a whole number >= 1; got '0'"),
        (["--seeds", "1.5"], "must be a whole number >= 1; got '1.5'"),
        (["--preset", "big"], "invalid choice: 'big'"),
        (["--dry"], "unrecognized arguments: --dry"),
        (["--storage"], "expected one argument"),
    ],
)
def test_a_wrong_option_is_one_line(options: list[str], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parser("a sweep").parse_args(options)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_warnings_of_a_declaration_are_one_line_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def declare(options: argparse.Namespace) -> Sweep:
        shared = collect_trial_fields(options)
        specs = [TrialSpec(**base_spec("digits", **shared), seed=seed, evaluate_at=(300,)) for seed in range(3)]
        return Sweep(name="s", trials=tuple(specs))

    argv = ["--dry-run", "--storage", str(tmp_path / "none"), "--n-train", "20"]
    assert main(declare, "a sweep", argv=argv) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "note: the batch size is 20, because there are 20 images to train on and 50 is usual (--batch"
    )
    assert main(declare, "a sweep", argv=[*argv, "--batch-size", "10"]) == 0
    assert capsys.readouterr().err == ""
    assert main(declare, "a sweep", argv=[*argv, "--batch-size", "21"]) == 2
    assert capsys.readouterr().err == "error: batch_size must be <= n_train (20); got 21\n"


def test_whole_numbers() -> None:
    assert whole_numbers("1,8,64") == (1, 8, 64)
    assert at_least(2)("2") == 2
    for text in ("", "1,,2", "0,1", "a", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be whole numbers >= 1"):
            whole_numbers(text)
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number >= 2; got '1'"):
        at_least(2)("1")


@pytest.mark.parametrize(
    ("around", "given", "address"),
    [
        (None, [], None),
        ("10.0.0.1:6379", [], "10.0.0.1:6379"),
        ("10.0.0.1:6379", ["--address", "local"], "local"),
        ("http://127.0.0.1:8265", [], None),
        ("", [], None),
    ],
)
def test_a_job_knows_its_cluster(
    around: str | None, given: list[str], address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if around is not None:
        monkeypatch.setenv("RAY_ADDRESS", around)
    assert parser("a sweep").parse_args(given).address == address


def test_a_plan_that_nobody_reads_to_its_end_ends_quietly() -> None:
    script = Path(__file__).parents[2] / "sweeps" / "double_descent.py"
    command = [sys.executable, str(script), "--dry-run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as plan:
        assert plan.stdout and plan.stderr
        plan.stdout.close()
        assert plan.stderr.read() == ""
    assert plan.returncode == 128 + signal.SIGPIPE
