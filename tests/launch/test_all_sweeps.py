"""Every sweep script runs with the smallest preset, on one Ray and one storage, and leaves what it promises."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vaegen_ray.results import query

from . import smoke_sweeps

SCRIPT = Path(__file__).parent / "smoke_sweeps.py"
PARTS = {
    "complexity_axes": {"complexity_axes.png", "gaps_by_mz.png"},
    "diffusion_subsets": {"diffusion_subsets.png"},
    "generalization_gaps": {"generalization_gaps.png", "elbo_source.png", "gaps.md"},
    "latent_smoothness": {"latent_smoothness.png", "smoothness.md"},
    "mollification": {"training_curves.png", "final_elbos.md"},
    "more_real_data": {"more_real_data.png"},
    "real_synthetic_mix": {"real_synthetic_mix.png"},
    "representation": {"representation.png", "corruptions.png", "reconstructions.png", "downstream.md"},
    "reverse_half_asleep": {"training_curves.png", "final_elbos.md"},
    "search": {"search.png", "search_table.md"},
    "synthetic_budget": {"synthetic_budget.png"},
    "inference_gap": {"overfitting.png", "inference_gap.png", "inference_gap_table.md"},
    "rate_distortion": {
        *("rate_distortion.png", "rate_distortion_by_size.png", "rate_distortion_by_split.png"),
        *("rate_distortion_by_network.png", "rate_distortion_by_dataset.png", "rate_distortion_table.md"),
        *("objective_variants.png", "neighbour_distances.png", "information.png", "log_likelihood.png"),
    },
}
"""Files that a sweep draws, PDFs not counted."""
MEASURED = {
    "complexity_axes": ("amortization_gap", "robustness_gap"),
    "diffusion_subsets": ("two_sample_accuracy",),
    "generalization_gaps": (
        "amortization_gap",
        "elbo_optimal",
        "robustness_gap",
        "ms_ssim_reconstruction",
        "attack_kl",
    ),
    "latent_smoothness": ("latent_log_q", "latent_variation"),
    "inference_gap": ("elbo_optimal_inference", *(f"elbo_self_consistent_{alpha}" for alpha in (0, 50, 100))),
    "rate_distortion": (
        *("mutual_information", "marginal_kl", "mutual_information_minibatch", "marginal_kl_minibatch"),
        *("log_likelihood_train", "log_likelihood_test", "neighbour_distance"),
    ),
    "search": ("elbo_validation",),
    "representation": ("accuracy_logistic_regression", "accuracy_svm_rbf", "psnr_test"),
}
"""Columns that a sweep fills for at least one trial."""


@dataclass(frozen=True)
class Ran:
    """What the sweeps left."""

    storage: Path
    said: dict[str, str]
    codes: dict[str, int]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All sweeps, the last one again: one storage, so that the diffusion model is trained once."""
    storage = tmp_path_factory.mktemp("storage")
    command = [sys.executable, str(SCRIPT), str(storage), *PARTS, "latent_smoothness"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts = re.findall(r"^>>> (\w+)\n(.*?)^<<< \1 (\d+)$", done.stdout, re.MULTILINE | re.DOTALL)
    assert [name for name, _, _ in parts] == [*PARTS, "latent_smoothness"]
    said = {name: text for name, text, _ in parts[:-1]} | {"again": parts[-1][1]}
    return Ran(storage, said, {name: int(code) for name, _, code in parts})


@pytest.mark.parametrize("name", PARTS)
def test_a_sweep_runs_to_its_end(name: str, ran: Ran) -> None:
    assert ran.codes[name] == 0, ran.said[name]
    assert "was not drawn" not in ran.said[name] and "was lost" not in ran.said[name]
    results = query.load(ran.storage, name)
    last = results.last()
    assert set(results.trials["status"]) == {"completed"} and len(last) == len(results.trials)
    drawn = {path.name for path in (ran.storage / name / "figures").iterdir() if path.suffix != ".pdf"}
    assert drawn == PARTS[name]
    assert np.isfinite(last[["elbo_test", "elbo_train", "elbo_source", "generalization_gap"]].to_numpy(float)).all()
    for column in MEASURED.get(name, ()):
        assert np.isfinite(last[column].to_numpy(float)).any(), column
    assert (last["evaluation_seconds"] > 0).all() and (last["evaluation_seconds"] < last["wall_seconds"]).all()


def test_gaps_are_measured_at_the_epochs_that_were_asked_for(ran: Ran) -> None:
    curves = query.load(ran.storage, "generalization_gaps").curves()
    measured = curves[np.isfinite(curves["amortization_gap"].to_numpy(float))]
    assert set(measured["effective_epoch"]) == {2.0, 4.0}
    assert (measured["amortization_gap"] >= 0).all()


def test_details_are_kept_and_belong_to_finished_trials(ran: Ran) -> None:
    trials = query.load(ran.storage, "representation").trials
    details, notes = query.load_details(ran.storage, trials, "representation")
    assert set(details["trial_id"]) == set(trials["trial_id"]) and notes == ()
    accuracies = details[details["quantity"] == "accuracy"]
    corruptions = set(accuracies["item"].str.split("/").str[0])
    assert corruptions == {
        "gaussian_noise",
        "impulse_noise",
        "gaussian_blur",
        "contrast",
        "brightness",
        "occlusion",
        "overall",
    }
    images = details[details["quantity"] == "reconstruction"]
    assert set(images["item"].map(str)) and all(len(values) == 64 for values in images["values"])


def test_again_there_is_nothing_to_train(ran: Ran) -> None:
    assert "nothing to train: all 4 VAEs" in ran.said["again"]


@pytest.mark.parametrize("name", PARTS)
def test_the_paper_preset_has_a_plan(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = smoke_sweeps.run(name, "--preset", "paper", "--dry-run", "--storage", str(tmp_path / "none"))
    plan = capsys.readouterr().out
    assert code == 0
    dataset = {"inference_gap": "binary_mnist", "rate_distortion": "tetrominoes"}.get(name, "cifar10")
    assert plan.startswith(f"sweep          {name}: {dataset} ") and "expected" in plan
    assert not (tmp_path / "none").exists()


def test_a_script_prints_its_plan(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT.parents[2] / "sweeps/double_descent.py"), "--preset", "paper", "--dry-run"]
    done = subprocess.run([*command, "--storage", str(tmp_path / "none")], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sweep          double_descent: cifar10 ")
