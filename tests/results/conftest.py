"""The storages that the contract tests run on, and small sweeps to put into them."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.trial import TrialSpec

Row = dict[str, Any]


@pytest.fixture(params=["local", "memory", "subtree"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A local directory, a file system in memory, and one behind another, which takes the path of object stores."""
    if request.param == "local":
        return Storage.open(tmp_path / "runs")
    if request.param == "memory":
        filesystem = pafs._MockFileSystem()
        filesystem.create_dir("bucket/runs", recursive=True)
        return Storage(filesystem, "bucket/runs", "memory://bucket/runs")
    (tmp_path / "runs").mkdir()
    return Storage(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "runs", "subtree://runs")


@pytest.fixture
def trial() -> Callable[..., Row]:
    """Makes the row of the trial with a seed."""

    def make(seed: int, bundle: str = "b0", status: str = "completed", **more: Any) -> Row:
        values: Row = {"finished_at": datetime(2026, 1, 2, tzinfo=UTC), "params_z": 10, "params_rest": 32}
        if status == "failed":
            values |= {"error": "the loss is not finite", "failed_epoch": 7}
        return trial_row(TrialSpec(seed=seed), sweep="s", bundle_id=bundle, status=status, **(values | more))

    return make


@pytest.fixture
def metric() -> Callable[..., Row]:
    """Makes the row of an evaluation of the trial with a seed."""

    def make(seed: int, epoch: float, **more: Any) -> Row:
        return {"trial_id": TrialSpec(seed=seed).trial_id, "effective_epoch": epoch, **more}

    return make
