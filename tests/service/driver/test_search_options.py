"""The script of the search: a plan without a start, and one line for what cannot be."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vaegen_ray.launch.main import main
from vaegen_ray.launch.options import parser as parser_of
from vaegen_ray.results.declaration import Declaration
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.driver.search_state import SearchState
from vaegen_ray.spec.trial import bundle_id

SCRIPT = Path(__file__).parents[3] / "sweeps" / "search.py"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("sweep_search", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(*argv: str) -> int:
    return main(script().declare, "a search", script().add_options, list(argv))


def finished(*argv: str, statuses: tuple[str, str] = ("completed", "completed")) -> set[str]:
    """Writes the rows of the points of a search as if they had been tried, ``statuses`` those of the seeds of the last
    one; the ids of all trials."""
    module, parser = script(), parser_of("a search")
    module.add_options(parser)
    options = parser.parse_args(argv)
    search = module.declare(options)
    ids: set[str] = set()
    store = SweepStore(Storage.open(options.storage), search.name)
    course = SearchState(search, store, None, Declaration(figures=search.figures), "test")
    for number in range(course.left):
        bundle = course.begin(str(number))
        name, last = bundle_id(bundle), bundle[0].epochs
        elbos = [{"elbo_validation": -20.0 - spec.nc - spec.seed, "elbo_test": -19.0} for spec in bundle]
        keys = [{"trial_id": spec.trial_id, "effective_epoch": last} for spec in bundle]
        store.write_metrics(name, last, last, [{**key, **elbo} for key, elbo in zip(keys, elbos, strict=True)])
        ends = statuses if course.left == 1 else ("completed", "completed")
        errors = [{"error": "not finite"} if end == "failed" else {} for end in ends]
        store.commit_trials(
            name,
            [
                trial_row(spec, sweep=search.name, bundle_id=name, status=end, params_z=10, params_rest=spec.nc, **why)
                for spec, end, why in zip(bundle, ends, errors, strict=True)
            ],
        )
        course.end(str(number), [])
        ids.update(spec.trial_id for spec in bundle)
    return ids


def test_figures_are_those_of_the_search_that_was_asked_for(capsys, tmp_path: Path) -> None:
    """Another search with other epochs used the same folder since; or the description was damaged."""
    argv = ("--preset", "smoke", "--points", "3", "--storage", str(tmp_path))
    first, second = finished(*argv), finished(*argv, "--epochs", "8")
    assert not first & second
    for damage in (None, b"{"):
        if damage:
            (tmp_path / "search" / "sweep.json").write_bytes(damage)
        assert command(*argv) == 0
        said = capsys.readouterr().out
        assert "nothing to try: 3 points (3 complete)" in said and "was not drawn" not in said
        described = json.loads((tmp_path / "search" / "sweep.json").read_text())
        assert set(described["trial_ids"]) == first and described["planned"] == 6
        assert (tmp_path / "search" / "figures" / "search.png").exists()


def test_a_dry_run_says_what_retry_failed_would_do(capsys, tmp_path: Path) -> None:
    argv = ("--preset", "smoke", "--points", "3", "--storage", str(tmp_path))
    finished(*argv, statuses=("completed", "failed"))
    for more, said in (
        ((), "nothing to try"),
        (("--retry-failed",), "1 to try; done: 2 points (2 complete); begun: 1"),
    ):
        assert command(*argv, "--dry-run", *more) == 0
        assert said in capsys.readouterr().out


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
        (
            ("--validation", "120", "--batch-size", "50"),
            "error: validation must leave at least a batch of 50 of 150 images; got 120",
        ),
        (("--validation", "150"), "error: validation must leave at least a batch of 50 of 150 images; got 150"),
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
