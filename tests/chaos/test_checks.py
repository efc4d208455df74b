"""The checks of the chaos harness find what is wrong, and take equal rows for equal."""

import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from . import checks, disturbances


def rows(bundle: str = "b0", elbo: float = -20.0) -> checks.Rows:
    """One VAE with two evaluations, the last of which has a series of numbers."""
    of_trial = {"trial_id": "t0", "bundle_id": bundle}
    metrics = [{**of_trial, "effective_epoch": epoch, "elbo_test": elbo + epoch, "fid": None} for epoch in (1.0, 2.0)]
    details = [{**of_trial, "effective_epoch": 2.0, "quantity": "q", "item": "i", "values": (1.0, elbo)}]
    return {
        "trials": pd.DataFrame([{**of_trial, "bundle_members": 2, "nc": 4}]),
        "metrics": pd.DataFrame(metrics),
        "details": pd.DataFrame(details),
    }


CHANGES: dict[str, tuple[Callable[[checks.Rows], object], str]] = {
    "value": (lambda found: found["metrics"].__setitem__("elbo_test", [-19.0, -18.000001]), "1 values of elbo_test"),
    "null": (lambda found: found["metrics"].__setitem__("elbo_test", [-19.0, None]), "1 values of elbo_test"),
    "series": (lambda found: found["details"].__setitem__("values", [(1.0, -20.1)]), "1 values of values"),
    "lost": (lambda found: found.__setitem__("metrics", found["metrics"][:1]), "1 rows of metrics are missing"),
    "twice": (
        lambda found: found.__setitem__("metrics", pd.concat([found["metrics"]] * 2)),
        "2 rows of metrics are there twice",
    ),
    "more": (
        lambda found: found.__setitem__("metrics", found["metrics"].assign(effective_epoch=[1.0, 3.0])),
        "1 rows of metrics are in no undisturbed run",
    ),
    "column": (lambda found: found["trials"].pop("nc"), "trials has the columns"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_found(change: str) -> None:
    found = rows()
    alter, said = CHANGES[change]
    alter(found)
    assert any(fault.startswith(said) for fault in checks.differences(found, [rows()]))


@pytest.mark.parametrize(
    ("found", "expected", "faults"),
    [
        (rows(), [rows()], 0),
        (rows(), [rows("b1"), rows()], 0),
        (rows("b2", elbo=-20.0 * (1 + 1e-4)), [rows(), rows("b1")], 0),
        (rows("b0", elbo=-20.0 * (1 + 1e-4)), [rows(), rows("b1")], 2),
        (rows("b2", elbo=-21.0), [rows(), rows("b1")], 2),
    ],
)
def test_in_other_company_numbers_may_differ_a_little(
    found: checks.Rows, expected: list[checks.Rows], faults: int
) -> None:
    assert len(checks.differences(found, expected)) == faults


def test_what_is_left_is_found(tmp_path: Path) -> None:
    for path in ("s/trials/b.parquet", "s/checkpoints/b.json", "s/metrics/.b.parquet.x.tmp", "s/leases/r.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    left = {line.split()[0] for line in checks.left_in_storage(tmp_path)}
    assert left == {"s/checkpoints/b.json", "s/metrics/.b.parquet.x.tmp", "s/leases/r.json"}


@pytest.mark.parametrize("how", disturbances.DAMAGES)
def test_damage_changes_a_file(how: str, tmp_path: Path) -> None:
    path = tmp_path / "s" / "x"
    path.parent.mkdir()
    path.write_bytes(b"0123456789")
    assert disturbances.damage(tmp_path, how, random.Random(0)) == f"{how} s/x"
    assert not path.exists() if how == "delete" else path.read_bytes() != b"0123456789"


@pytest.mark.parametrize(
    ("code", "said", "faults"),
    [
        (0, "", 0),
        (1, "2 VAEs are left; the same command goes on from here", 0),
        (1, "8 VAEs to train", 1),
        (2, "error: cannot write", 0),
        (2, "", 1),
        (143, "stopped by SIGTERM", 0),
        (70, "Traceback (most recent call last):\nKeyError", 2),
        (-9, "", 0),
        (-11, "error: ", 1),
    ],
)
def test_an_end_without_a_reason_is_found(code: int, said: str, faults: int) -> None:
    assert len(checks.unexplained(code, said)) == faults
