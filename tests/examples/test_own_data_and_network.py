"""The example of a data set and a network of your own, as a user runs it: rows, figures, resume, and what travels."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from vaegen_ray.results import query

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_data_and_network.py"
NOTEBOOK = ROOT / "docs" / "notebooks" / "results.ipynb"
VAEGEN = "import sys; from vaegen_ray.cli import main; sys.exit(main())"
VARIES = ["wall_seconds", "evaluation_seconds", "finished_at", "code_version"]
NAME = "own_data_and_network"


def run(*arguments: object, cwd: Path = ROOT) -> str:
    """What a command says; it must end well."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """The package of this checkout, also from other folders."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def rows(storage: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and metrics exactly as they lie in the files, sorted; nothing removed but times and the code's version."""
    trials = pd.concat([pd.read_parquet(path) for path in (storage / NAME / "trials").glob("*.parquet")])
    metrics = pd.concat([pd.read_parquet(path) for path in (storage / NAME / "metrics").glob("*.parquet")])
    return (
        trials.drop(columns=VARIES).sort_values("trial_id").reset_index(drop=True),
        metrics.sort_values(["trial_id", "effective_epoch"]).reset_index(drop=True),
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage after the smallest preset."""
    storage = tmp_path_factory.mktemp("storage")
    said = run(EXAMPLE, "--preset", "smoke", "--storage", storage)
    assert "8/8 VAEs of own_data_and_network" in said and "was not drawn" not in said
    return storage


def test_rows_of_both_networks_on_the_own_images(swept: Path) -> None:
    last = query.load(swept, NAME).last()
    assert set(last["status"]) == {"completed"} and len(last) == 8
    assert set(zip(last["architecture"], last["network_version"], strict=True)) == {
        ("fully_connected", 0),
        ("gated", 1),
    }
    assert set(last["dataset"]) == {"patches"} and last["data_digest"].nunique() == 1
    assert last["data_digest"].str.fullmatch("[0-9a-f]{20}").all()
    assert np.isfinite(last[["elbo_train", "elbo_test", "generalization_gap"]].to_numpy(float)).all()
    gated = last[last["architecture"] == "gated"].iloc[0]
    z, nc = gated["latent_dim"], gated["nc"]
    affine = [(64, nc), (nc, nc), (z, nc), (nc, nc)]
    assert gated["params_total"] == 2 * sum(a * b + b for a, b in affine) + (nc + 1) * 2 * z + (nc + 1) * 128


def test_the_figures_are_drawn(swept: Path) -> None:
    drawn = {path.name for path in (swept / NAME / "figures").glob("*.png")}
    assert drawn == {"rate_distortion.png", "rate_distortion_by_network.png"}


def test_results_and_figures_need_neither_the_data_nor_the_network(swept: Path, tmp_path: Path) -> None:
    """Nothing is registered in these processes."""
    said = run("-c", VAEGEN, "results", NAME, "--storage", swept, cwd=tmp_path)
    assert said.count("gated") == 2 and said.count("fully_connected") == 2
    assert "rate_distortion.png" in run("-c", VAEGEN, "figure", "rate_distortion", "--sweep", NAME, "--storage", swept)
    assert "patches" not in run("-c", VAEGEN, "datasets", cwd=tmp_path)


def test_the_notebook_of_the_pages_reads_them(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares pandas with SQL itself; its outputs are kept, and say nothing of the machine that made them."""
    monkeypatch.setenv("VAEGEN_STORAGE", str(swept))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert all(kept) and str(Path.home()) not in NOTEBOOK.read_text() and "/tmp" not in NOTEBOOK.read_text()
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    first = next(cell for cell in notebook.cells if cell.cell_type == "code").outputs[0]
    assert first.data["text/plain"] == "(8, 32, ())"


def test_one_network_alone_can_be_asked_for(tmp_path: Path) -> None:
    said = run(EXAMPLE, "--preset", "smoke", "--architecture", "gated", "--dry-run", "--storage", tmp_path)
    assert "4 declared, 4 to train" in said and "gated" in said and "fully_connected" not in said


def test_again_there_is_nothing_to_train(swept: Path) -> None:
    assert "nothing to train: all 8 VAEs" in run(EXAMPLE, "--preset", "smoke", "--storage", swept)


@pytest.mark.slow
def test_alone_or_in_a_bundle_a_vae_is_the_same(swept: Path, tmp_path: Path) -> None:
    run(EXAMPLE, "--preset", "smoke", "--storage", tmp_path, "--bundle-size", "1")
    (trials, metrics), (alone, metrics_alone) = rows(swept), rows(tmp_path)
    assert list(trials["trial_id"]) == list(alone["trial_id"])
    assert set(trials["bundle_members"]) == {4} and set(alone["bundle_members"]) == {1}
    numbers = [name for name in metrics if metrics[name].dtype == float and metrics[name].notna().any()]
    assert {"elbo_train", "elbo_test", "rate_test", "distortion_test"} <= set(numbers)
    pd.testing.assert_frame_equal(
        metrics[numbers], metrics_alone[numbers], rtol=1e-4, atol=0.03
    )  # a gap is a difference


def test_a_sweep_of_the_package_takes_both_from_the_file(tmp_path: Path) -> None:
    """Also from a copy elsewhere with a module beside it, which workers cannot import by its name."""
    text = EXAMPLE.read_text().replace("(h).tanh() *", "(h).multiply(beside.half()) *")
    assert "beside" in text
    (tmp_path / "mine.py").write_text(text.replace("import argparse", "import argparse\nimport beside"))
    (tmp_path / "beside.py").write_text("def half():\n    return 0.5\n")
    said = run(
        *(ROOT / "sweeps" / "double_descent.py", "--import", tmp_path / "mine.py", "--dataset", "patches"),
        *("--architecture", "gated", "--preset", "smoke", "--n-train", "100", "--storage", tmp_path / "results"),
        cwd=tmp_path / "..",
    )
    assert "double_descent.png" in said
    last = query.load(tmp_path / "results", "double_descent").last()
    assert set(last["architecture"]) == {"gated"} and set(last["dataset"]) == {"patches"}


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_rows_of_an_undisturbed_run(tmp_path: Path) -> None:
    options = ["--preset", "smoke", "--epochs", "1500", "--checkpoint-seconds", "1"]
    run(EXAMPLE, *options, "--storage", tmp_path / "undisturbed")
    command = [sys.executable, str(EXAMPLE), *options, "--storage", str(tmp_path / "killed")]
    driver = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "killed" / NAME / "checkpoints"
    deadline = time.monotonic() + 600
    while not (checkpoints.is_dir() and any(checkpoints.glob("*.safetensors"))) and driver.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.05)
    assert driver.poll() is None, "the sweep ended before it could be killed"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    run(EXAMPLE, *options, "--storage", tmp_path / "killed")
    for got, wanted in zip(rows(tmp_path / "killed"), rows(tmp_path / "undisturbed"), strict=True):
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)
