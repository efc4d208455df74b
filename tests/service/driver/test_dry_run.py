"""Dry runs: they leave every file as it is, say what a run would do, and end at once whatever is asked for."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaegen_ray.allotment import Allotment
from vaegen_ray.bundle.cost import bundle_bytes, size_text
from vaegen_ray.data.images import ImageSet, Split
from vaegen_ray.data.splits import fixed_order
from vaegen_ray.errors import SpecError
from vaegen_ray.launch import main as entry
from vaegen_ray.launch.options import MOST, MOST_DEVICES
from vaegen_ray.launch.options import parser as parser_of
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service import inputs
from vaegen_ray.service.config import RunConfig
from vaegen_ray.service.driver import dry_run
from vaegen_ray.spec.trial import MOST_EPOCHS, TrialSpec, bundle_id
from vaegen_ray.sweep.sweep import Sweep

TRIALS = tuple(TrialSpec(nc=8, seed=seed, epochs=4, evaluate_at=(2, 4)) for seed in range(4))
SWEEP = Sweep(name="s", trials=TRIALS)


def config_of(storage: Path, *argv: str) -> RunConfig:
    options = parser_of("a sweep").parse_args(["--storage", str(storage), "--dry-run", *argv])
    return RunConfig.from_options(vars(options))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A storage with three trials, of which one has damaged metrics and one a damaged row."""
    store = SweepStore(Storage.open(tmp_path), "s")
    for spec in TRIALS[:3]:
        name = bundle_id([spec])
        rows: list[dict[str, Any]] = [{"trial_id": spec.trial_id, "effective_epoch": epoch} for epoch in (2, 4)]
        store.write_metrics(name, 2, 4, rows)
        store.commit_trials(name, [trial_row(spec, sweep="s", bundle_id=name, status="completed")])
    (tmp_path / "s" / "metrics" / f"{bundle_id(TRIALS[:1])}-000002-000004.parquet").write_bytes(b"damaged")
    (tmp_path / "s" / "trials" / f"{bundle_id(TRIALS[1:2])}.parquet").write_bytes(b"damaged")
    return tmp_path


def test_a_dry_run_leaves_damaged_files_and_counts_their_trials(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(damaged)
    said = dry_run.plan(SWEEP, config_of(damaged))
    assert "4 declared, 3 to train" in said
    assert said.count(" is damaged or missing: ") == 2
    assert files(damaged) == before


def test_a_dry_run_of_a_fresh_start_counts_all_trials(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(damaged)
    assert "4 declared, 4 to train" in dry_run.plan(SWEEP, config_of(damaged, "--fresh"))
    assert files(damaged) == before


def test_a_plan_for_a_small_job_has_small_bundles_or_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    large = tuple(TrialSpec(nc=2048, mz=64, seed=seed) for seed in range(4))
    sweep = Sweep(name="s", trials=large)

    def with_room_for(members: int) -> Allotment:
        job = Allotment(cores=4.0, memory=0, free=0)
        fixed = -dry_run.resources.WORKER_BYTES - bundle_bytes(large[0], members)
        memory = next(m for m in range(2**28, 2**40, 2**20) if replace(job, memory=m).for_workers + fixed >= 0)
        return replace(job, memory=memory)

    monkeypatch.setattr(dry_run.resources, "allotted", lambda: with_room_for(2))
    said = dry_run.plan(sweep, config_of(tmp_path, "--bundle-size", "4"))
    assert "bundles hold at most " in said and "not 4" in said
    assert "to 4 VAEs" not in said and "on 1 CPU core," in said
    tight = replace(with_room_for(1), memory=with_room_for(1).memory - 2**21)
    monkeypatch.setattr(dry_run.resources, "allotted", lambda: tight)
    with pytest.raises(SpecError) as error:
        dry_run.plan(sweep, config_of(tmp_path))
    assert size_text(bundle_bytes(large[0], 1)) in str(error.value)
    assert size_text(tight.for_workers - dry_run.resources.WORKER_BYTES) in str(error.value)


@pytest.mark.parametrize("option", ["--seeds", "--epochs", "--gpus", "--n-train", "--n-test", "--bundle-size"])
def test_a_number_beyond_all_measure_is_one_line(option: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=rf"{option}: must be a whole number <= .*; got '99999999999'"):
        config_of(tmp_path, option, "99999999999")


def test_more_seeds_than_a_sweep_may_have_are_refused_before_they_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    def declare(given: argparse.Namespace) -> Sweep:
        made.append(given.seeds)
        return Sweep(
            name="s", trials=tuple(TrialSpec(nc=nc, seed=s) for nc in range(1, 21) for s in range(given.seeds))
        )

    def ran(*argv: str) -> int:
        return entry.main(declare, "a sweep", argv=["--storage", str(tmp_path), "--dry-run", *argv])

    assert ran("--seeds", "5001") == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "from 1 to 5,000" in said and "20 settings" in said and "5,001" in said
    assert made == [1]
    assert ran("--seeds", "200") == 0
    assert "4,000 declared, 4,000 to train" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv", [("--gpus", str(MOST_DEVICES)), ("--bundle-size", str(MOST)), ("--save-every", str(MOST))]
)
def test_the_largest_numbers_have_a_plan(
    argv: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected" in dry_run.plan(SWEEP, config_of(tmp_path, *argv))


def test_the_longest_training_has_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longest = tuple(replace(spec, epochs=MOST_EPOCHS, evaluate_at=(MOST_EPOCHS,)) for spec in TRIALS)
    assert "expected" in dry_run.plan(Sweep(name="s", trials=longest), config_of(tmp_path))


def test_a_trial_is_tested_on_as_many_images_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the fixed order, with their labels and their corrupted versions; not the first of the file, where
    the images of a class may lie together."""
    pixels = np.arange(797, dtype=np.uint16).reshape(-1, 1, 1, 1)
    images = ImageSet(np.broadcast_to(pixels % 2, (797, 1, 8, 8)).astype(np.uint8), 2)
    labels = np.arange(797)
    whole = Split(train=images, test=images, test_labels=labels, corrupted={"c": images.images})
    monkeypatch.setattr(inputs.catalog, "load", lambda *args, **more: whole)
    few = replace(TRIALS[0], n_test=20)
    splits = inputs.load_images(Sweep(name="s", trials=(TRIALS[0], few)), None)
    all_images, some = (splits[key] for key in sorted(splits, key=len))
    assert len(all_images.test) == 797 and len(some.test) == len(some.corrupted["c"]) == 20
    order = fixed_order(797)[:20]
    assert some.test_labels is not None and list(some.test_labels) == list(order)
    np.testing.assert_array_equal(some.test.images[:, 0, 0, 0], order % 2)
    np.testing.assert_array_equal(some.corrupted["c"], some.test.images)


def test_more_test_images_than_there_are_is_an_error() -> None:
    Sweep(name="s", trials=(replace(TRIALS[0], n_test=797),))
    with pytest.raises(SpecError, match="n_test must be at most 797, the test images of digits; got 798"):
        Sweep(name="s", trials=(replace(TRIALS[0], n_test=798),))
