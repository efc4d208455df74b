"""Commands and sweep scripts as a user types them: what they print, their exit codes, one line for every error."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vaegen_ray.cli import main
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.store import Storage, SweepStore
from vaegen_ray.spec.trial import TrialSpec, bundle_id

ROOT = Path(__file__).parents[1]


def double_descent(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "sweeps" / "double_descent.py"), *options],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--presett", "smoke"], "--presett"),
        (["--preset", "huge"], "huge"),
        (["--dataset", "imagenet"], "dataset must be one of digits, mnist5k"),
        (["--nc", "0"], "'0'"),
        (["--nc", "8,x"], "'8,x'"),
        (["--mz", "-2"], "-2"),
        (["--turn", "7"], "7"),
        (["--seeds", "none"], "'none'"),
        (["--bundle-size", "0"], "'0'"),
        (["--storage", "/proc/nowhere"], "/proc/nowhere"),
        (["--storage", "ftp://host/x"], "ftp"),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_code_2(options: list[str], said: str) -> None:
    done = double_descent("--preset", "smoke", *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ") and said in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-c", "import sys; from vaegen_ray.cli import main; sys.exit(main())", "datasets"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_address_where_nothing_listens_is_one_line(tmp_path: Path) -> None:
    done = double_descent("--preset", "smoke", "--storage", str(tmp_path), "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "'127.0.0.1:1'" in done.stderr, done.stderr


def test_absent_data_is_said_before_ray_starts(tmp_path: Path) -> None:
    done = double_descent("--dataset", "cifar10", "--storage", str(tmp_path / "r"), VAEGEN_DATA=str(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path) in done.stderr and "vaegen datasets --get cifar10" in done.stderr


def test_a_dry_run_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    done = double_descent("--preset", "paper", "--dry-run", "--storage", str(tmp_path / "none"))
    assert done.returncode == 0, done.stderr
    for word in ("trials", "bundles", "parameters", "FLOPs", "memory", "expected"):
        assert word in done.stdout
    assert "cifar10" in done.stdout and "residual" in done.stdout
    assert not (tmp_path / "none").exists()


def test_the_smoke_preset_from_nothing_to_the_picture(tmp_path: Path) -> None:
    done = double_descent("--preset", "smoke", "--storage", str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "double_descent"
    trials = pd.concat(map(pd.read_parquet, folder.glob("trials/*.parquet")))
    assert len(trials) == trials["trial_id"].nunique() == 12
    for name in ("double_descent.png", "double_descent.pdf", "complexity_axes.png", "complexity_axes.pdf"):
        assert (folder / "figures" / name).stat().st_size > 1000
    again = (folder / "figures" / "double_descent.png").read_bytes()
    (folder / "figures" / "double_descent.png").unlink()
    assert main(["figure", "double_descent", "--storage", str(tmp_path)]) == 0
    assert (folder / "figures" / "double_descent.png").read_bytes() == again


def test_datasets_lists_all_with_what_is_present(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["datasets", "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    present = {line.split()[0]: line.split()[1] for line in out.splitlines() if line and not line.startswith(" ")}
    assert (present["digits"], present["cifar10"]) == ("yes", "no")
    assert "vaegen datasets --get cifar10" in out
    assert main(["datasets", "--get", "digits"]) == 0
    assert "1000 training and 797 test images" in capsys.readouterr().out


def test_results_average_over_seeds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    specs = [TrialSpec(nc=8, seed=seed) for seed in (0, 1)]
    name = bundle_id(specs)
    keys = {"effective_epoch": 300, "step": 3000}
    store.write_metrics(
        name,
        300,
        300,
        [
            {"trial_id": spec.trial_id, **keys, "elbo_test": elbo, "generalization_gap": 1.0}
            for spec, elbo in zip(specs, (-20.0, -22.0), strict=True)
        ],
    )
    counts: dict[str, Any] = {"params_z": 10, "params_rest": 90}
    store.commit_trials(name, [trial_row(s, sweep="s", bundle_id=name, status="completed", **counts) for s in specs])
    assert main(["results", "s", "--storage", str(tmp_path), "--csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    got = dict(zip(header.split(","), row.split(","), strict=True))
    assert (got["seeds"], float(got["elbo_test"]), float(got["elbo_test_min"])) == ("2", -21.0, -22.0)
    assert float(got["params_total"]) == 100


def test_results_keep_apart_what_differs_in_more_than_the_seed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = SweepStore(Storage.open(tmp_path), "s")
    specs = [TrialSpec(n_train=n, seed=seed) for n in (200, 500) for seed in (0, 1)]
    name = bundle_id(specs)
    rows = [
        {"trial_id": s.trial_id, "effective_epoch": 300, "elbo_test": -2.0 * s.n_train, "generalization_gap": 0.125}
        for s in specs[:3]
    ]
    store.write_metrics(name, 300, 300, rows)
    keys: dict[str, Any] = {"sweep": "s", "bundle_id": name, "params_z": 1000, "params_rest": 234}
    done = [trial_row(spec, status="completed", **keys) for spec in specs[:3]]
    store.commit_trials(name, [*done, trial_row(specs[3], status="failed", error="not finite", **keys)])
    assert main(["results", "s", "--storage", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    words = [line.split() for line in out.splitlines()]
    assert words[0][:7] == ["dataset", "method", "nc", "mz", "n_train", "seeds", "params_total"]
    assert words[1] == ["digits", "normal", "256", "1", "200", "2", "1,234", "-400.00", "-400.00", "-400.00", "0.12"]
    assert words[2] == ["digits", "normal", "256", "1", "500", "1", "1,234", "-1000.00", "-1000.00", "-1000.00", "0.12"]
    assert len({len(line) for line in out.splitlines()}) == 1
    assert err == "1 of 4 trials failed and are left out\n"


def test_the_table_of_data_sets_fits_100_columns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["datasets", "--data-dir", str(tmp_path)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


@pytest.mark.parametrize(
    "command",
    [[], ["fly"], ["figure", "nothing"], ["results", "../x"], ["results", "absent"], ["datasets", "--get", "imagenet"]],
)
def test_a_wrong_command_is_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
