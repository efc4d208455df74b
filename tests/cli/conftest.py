"""Small sweeps, written as workers write them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from vaegen_ray.cli import main
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.spec.trial import TrialSpec, bundle_id

EPOCHS = (100, 300)
Value = Callable[[TrialSpec, int], float]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """The folder of a storage."""
    return tmp_path / "runs"


@pytest.fixture
def write(storage: Path) -> Callable[..., SweepStore]:
    """Writes a sweep: every trial has an evaluation at epochs 100 and 300."""

    def make(
        name: str,
        specs: Iterable[TrialSpec],
        value: Value,
        *,
        folder: Path | None = None,
        size: int = 2,
        epochs: tuple[int, ...] = EPOCHS,
        details: bool = False,
        series: tuple[float, ...] = (),
        failed: Iterable[TrialSpec] = (),
        stopped: Iterable[TrialSpec] = (),
        more: dict[str, Any] | None = None,
    ) -> SweepStore:
        store = SweepStore(Storage.open(folder or storage), name)
        specs, failed, stopped = list(specs), list(failed), list(stopped)
        for start in range(0, len(specs), size):
            bundle = specs[start : start + size]
            label = bundle_id(bundle)
            rows = [
                {
                    "trial_id": spec.trial_id,
                    "effective_epoch": epoch,
                    "elbo_test": value(spec, epoch),
                    "generalization_gap": 1.0 + spec.seed,
                    **(more or {}),
                }
                for spec in bundle
                for epoch in epochs
            ]
            store.write_metrics(label, epochs[0], epochs[-1], rows)
            if details:
                quantity = {"quantity": "log_q", "item": "0"}
                lines = [
                    {**{key: row[key] for key in ("trial_id", "effective_epoch")}, **quantity}
                    | {"values": list(series) or [row["elbo_test"], 1.0]}
                    for row in rows
                ]
                store.write_details(label, epochs[0], epochs[-1], lines)
            counts: dict[str, Any] = {"sweep": name, "bundle_id": label, "params_z": 10, "params_rest": 990}
            done = [
                trial_row(spec, status="failed", error="the loss is not finite", failed_epoch=7, **counts)
                if spec in failed
                else trial_row(
                    spec, status="pruned" if spec in stopped else "completed", wall_seconds=float(size), **counts
                )
                for spec in bundle
            ]
            store.commit_trials(label, done)
        store.write_sweep_json({"sweep": name, "trials": [spec.as_dict() for spec in specs], "figures": []})
        return store

    return make


@pytest.fixture
def vaegen(storage: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command on the storage; returns its exit code, and what it printed and complained about."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*words, *([] if "--storage" in words else ["--storage", str(storage)])])
        return code, *capsys.readouterr()

    return run
