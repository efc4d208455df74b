"""Two drivers in one storage: nobody trains or deletes what another one has."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vaegen_ray.errors import VaegenError
from vaegen_ray.reports.figures import load_tables
from vaegen_ray.results import query
from vaegen_ray.results.declaration import Declaration
from vaegen_ray.results.leases import LeaseHolder
from vaegen_ray.results.schema import trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore
from vaegen_ray.service.config import RunConfig, RunReport
from vaegen_ray.service.driver import sweep
from vaegen_ray.service.driver.session import SEARCH, SWEEP, open_session
from vaegen_ray.spec.trial import TrialSpec
from vaegen_ray.sweep.defaults import base_spec
from vaegen_ray.sweep.sweep import Sweep

FIELDS = base_spec("digits", n_train=100, epochs=2, nc=2, mz=1, evaluate_at=(2,))
TRIALS = tuple(TrialSpec(**{**FIELDS, "seed": seed}) for seed in range(3))


@pytest.fixture
def store(tmp_path: Path) -> SweepStore:
    return SweepStore(Storage.open(tmp_path), "s")


@pytest.fixture
def other(store: SweepStore) -> Iterator[LeaseHolder]:
    """Another live driver, which trains the first trial."""
    holder = LeaseHolder(store.storage, "s", SWEEP)
    holder.hold([TRIALS[0].trial_id])
    yield holder
    holder.release()


def config_of(store: SweepStore, **fields: Any) -> RunConfig:
    return RunConfig(storage=store.storage.root, **fields)


def commit(store: SweepStore, spec: TrialSpec, status: str = "completed") -> None:
    bundle = f"b{spec.seed}"
    error = "the loss is not finite" if status == "failed" else None
    store.write_metrics(bundle, 2, 2, [{"trial_id": spec.trial_id, "effective_epoch": 2.0, "elbo_test": -1.0}])
    row = trial_row(spec, sweep="s", bundle_id=bundle, status=status, error=error)
    store.commit_trials(bundle, [row], store.written(bundle))


def run(store: SweepStore, *trials: TrialSpec) -> RunReport:
    return sweep.run(Sweep(name="s", trials=trials), config_of(store))


def test_the_same_command_typed_twice_is_told_who_trains(
    store: SweepStore, other: LeaseHolder, capsys: pytest.CaptureFixture
) -> None:
    report = run(store, TRIALS[0])
    assert not report.complete and (report.total, report.left) == (1, 1)
    assert f"1 of 1 VAEs of s are trained by {other.lease.who}, and are left to it" in capsys.readouterr().out
    assert store.storage.list("s/leases") == [f"{other.lease.run}.beat", f"{other.lease.run}.json"]


def test_fresh_and_a_second_search_are_refused(store: SweepStore, other: LeaseHolder) -> None:
    for fields, kind, message in (({"fresh": True}, SWEEP, "--fresh would move"), ({}, SEARCH, "one driver at a time")):
        with (
            pytest.raises(VaegenError, match=message),
            open_session(Sweep(name="s", trials=TRIALS), config_of(store, **fields), kind),
        ):
            pass
    assert store.storage.exists("s/leases")


def test_failed_trials_of_a_live_driver_are_not_forgotten(store: SweepStore, other: LeaseHolder) -> None:
    for spec in TRIALS[:2]:
        commit(store, spec, "failed")
    with open_session(Sweep(name="s", trials=TRIALS), config_of(store, retry_failed=True)) as session:
        assert session.store.committed() == {TRIALS[0].trial_id}


def test_the_lease_is_released_at_an_error(store: SweepStore) -> None:
    with pytest.raises(KeyboardInterrupt), open_session(Sweep(name="s", trials=TRIALS), config_of(store)):
        raise KeyboardInterrupt
    assert store.storage.list("s/leases") == []


def test_a_damaged_declaration_is_written_again_though_nothing_is_to_train(
    store: SweepStore, capsys: pytest.CaptureFixture
) -> None:
    commit(store, TRIALS[0])
    for text in ("{", "[]", '{"trials": []}'):
        store.storage.write("s/sweep.json", text.encode())
        assert run(store, TRIALS[0]).complete
        assert store.read_sweep_json()["trial_ids"] == [TRIALS[0].trial_id]
    store.write_declaration(Declaration().with_trials(TRIALS[1:]))  # another declaration came last
    assert run(store, TRIALS[0]).complete
    assert store.read_sweep_json()["trial_ids"] == [TRIALS[0].trial_id]


def test_a_flipped_digit_in_the_declaration_drops_no_trial_from_a_figure(store: SweepStore) -> None:
    for spec in TRIALS[:2]:
        commit(store, spec)
    store.write_declaration(Declaration().with_trials(TRIALS[:2]))
    text = store.storage.read("s/sweep.json").decode()
    flipped = text.replace(TRIALS[1].trial_id, TRIALS[1].trial_id[:-1] + "x")
    assert flipped != text
    store.storage.write("s/sweep.json", flipped.encode())
    tables, notes = load_tables(store, ("last",))
    assert len(tables.last) == 2
    assert "SHA-256" in notes[0] and "all trials of the folder are used" in notes[0]


def test_ids_without_rows_and_rows_without_ids_are_said(store: SweepStore) -> None:
    for spec in TRIALS[:2]:
        commit(store, spec)
    store.write_declaration(Declaration().with_trials(TRIALS[1:]))
    tables, notes = load_tables(store, ("last",))
    assert list(tables.last["trial_id"]) == [TRIALS[1].trial_id]
    assert notes == (
        "1 of 2 declared trials have no rows",
        "trials of other declarations in the folder, which are left out: 1",
    )


def test_a_driver_does_not_touch_the_unfinished_bundles_of_another_declaration(store: SweepStore) -> None:
    """As when one is stopped with Ctrl-C, another one runs, and the first goes on."""
    store.write_checkpoint_members("theirs", [TRIALS[1].trial_id, TRIALS[2].trial_id])
    store.write_checkpoint("theirs", b"state")
    rows = [{"trial_id": spec.trial_id, "effective_epoch": 1.0} for spec in TRIALS[1:]]
    store.write_metrics("theirs", 1, 1, rows)
    commit(store, TRIALS[0])
    assert run(store, TRIALS[0]).complete
    assert store.storage.list("s/metrics") == ["b0-000002-000002.parquet", "theirs-000001-000001.parquet"]
    assert store.started_bundles() == {"theirs": [TRIALS[1].trial_id, TRIALS[2].trial_id]}


def test_last_is_the_declared_last_epoch_or_nothing(store: SweepStore) -> None:
    spec = replace(TRIALS[0], epochs=5, evaluate_at=(2, 5))
    commit(store, spec)  # evaluated at 2 alone
    last = query.load(store.storage, "s").last()
    assert len(last) == 1 and last["elbo_test"].isna().all()
