"""The script of the search: a plan without a start, and one line for what cannot be."""

import importlib.util
import sys
from pathlib import Path

import pytest

from vaegen_ray.service.main import main
from vaegen_ray.service.search import run

SCRIPT = Path(__file__).parents[2] / "sweeps" / "search.py"


def command(*argv: str) -> int:
    spec = importlib.util.spec_from_file_location("sweep_search", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return main(module.declare, "a search", module.add_options, list(argv), run=run)


@pytest.mark.parametrize("preset", ["smoke", "laptop", "paper"])
def test_a_dry_run_says_space_budget_time_and_the_next_points(preset: str, capsys, tmp_path: Path) -> None:
    storage = tmp_path / "none"
    assert command("--preset", preset, "--dry-run", "--storage", str(storage), "--concurrent", "1") == 0
    said = capsys.readouterr().out
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert {"sweep", "objectives", "sampler", "space", "budget", "expected", "next"} <= set(lines)
    assert said.count("\nnext ") == 5 and "done: no points; begun: 0" in lines["budget"]
    assert not storage.exists()


def test_a_dry_run_of_another_data_set_and_a_smaller_space(capsys, tmp_path: Path) -> None:
    argv = ("--preset", "paper", "--dataset", "binary_mnist", "--space", "augmentation=none,nc=64|128|256,mz=1,beta=1")
    argv = (*argv, "--objectives", "elbo,parameters", "--sampler", "nsga2")
    assert command(*argv, "--dry-run", "--storage", str(tmp_path / "none")) == 0
    said = capsys.readouterr().out
    assert "binary_mnist" in said and "nc 64 to 256 (3 values)" in said and "nsga2" in said
    assert "augment_probability" not in said and "57 points" in said  # 3 widths, 19 learning rates


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--space", "depth=1:2"), "error: a dimension of a space must be one of nc, mz, "),
        (("--space", "nc=8:4"), "error: nc of a space must be LOW:HIGH and LOW < HIGH; got '8:4'"),
        (("--points", "0"), "error: argument --points: must be a whole number >= 1; got '0'"),
        (("--sampler", "cma"), "error: argument --sampler: invalid choice: 'cma'"),
        (("--validation", "120"), "error: validation must leave at least a batch of 50 of 150 images; got 120"),
        (("--objectives", "elbo,parameters", "--scheduler", "asha"), "error: several objectives go without early"),
        (
            ("--bundle-size", "2"),
            "error: --bundle-size is not for a search, where a point's seeds are one bundle; got 2",
        ),
        (("--dataset", "nothing"), "error: dataset must be one of digits, "),
    ],
)
def test_a_wrong_input_is_one_line(argv: tuple[str, ...], message: str, capsys, tmp_path: Path) -> None:
    assert command("--preset", "smoke", "--storage", str(tmp_path / "none"), *argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_without_optuna_it_says_how_to_get_it(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert command("--preset", "smoke", "--dry-run", "--storage", str(tmp_path / "none")) == 2
    assert "a search needs Optuna; get it with: pip install 'vaegen-ray[search]'" in capsys.readouterr().err
