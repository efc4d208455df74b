"""Event files as TensorBoard reads them: every evaluation once, the settings, the end."""

import argparse
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaegen_ray.cli import main
from vaegen_ray.dashboard.events import EventFiles
from vaegen_ray.launch.sidecar import run_sidecars
from vaegen_ray.results import query
from vaegen_ray.results.arriving import SCALARS
from vaegen_ray.results.schema import TrialStatus, trial_row
from vaegen_ray.results.storage import Storage
from vaegen_ray.spec.trial import bundle_id

from .conftest import BUNDLES, SPECS, SWEEP

reading = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="event files are read as TensorBoard does"
)
hparams = pytest.importorskip("tensorboard.plugins.hparams.metadata")


def runs(folder: Path) -> dict[str, Any]:
    """What TensorBoard reads of each run, by the trial that its settings name."""
    found = {}
    for path in sorted((folder / SWEEP).iterdir()):
        events = reading.EventAccumulator(str(path), size_guidance={reading.SCALARS: 0}, purge_orphaned_data=False)
        found[describe_settings(events.Reload())["trial"]] = events
    return found


def describe_settings(events: Any) -> dict[str, Any]:
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = hparams.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


def status_of(events: Any) -> str | None:
    if "_hparams_/session_end_info" not in events.summary_metadata:
        return None
    content = events.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    info = hparams.parse_session_end_info_plugin_data(content)
    return info.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[info.status].name


def scalars(folder: Path) -> list[tuple[str, str, int, float]]:
    """Every number in the files: trial, column, epoch, value."""
    return sorted(
        (trial, tag, event.step, event.value)
        for trial, events in runs(folder).items()
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    )


def evaluations(storage: Storage) -> list[tuple[str, str, int, float]]:
    """The same from the results, in the precision of TensorBoard."""
    rows = query.load(storage, SWEEP).metrics.to_dict("records")
    return sorted(
        (row["trial_id"], name, int(row["effective_epoch"]), float(np.float32(row[name])))
        for row in rows
        for name in SCALARS
        if not math.isnan(row[name])
    )


def test_every_evaluation_is_there_once_and_settings_are_hyperparameters(trained: Path, tmp_path: Path) -> None:
    storage = Storage.open(trained)
    EventFiles(storage, SWEEP, tmp_path).catch_up()
    assert scalars(tmp_path) == evaluations(storage)
    found = runs(tmp_path)
    assert set(found) == {spec.trial_id for spec in SPECS}
    for spec in SPECS:
        expected = {"trial": spec.trial_id, "nc": spec.nc, "seed": spec.seed}
        assert describe_settings(found[spec.trial_id]) == expected
        assert status_of(found[spec.trial_id]) == "STATUS_SUCCESS"
        assert (tmp_path / SWEEP / f"nc={spec.nc},seed={spec.seed},{spec.trial_id[:8]}").is_dir()


def test_files_follow_a_sweep_that_grows(growing: Any, tmp_path: Path) -> None:
    store, add = growing
    events = EventFiles(store.storage, SWEEP, tmp_path / "runs")
    events.catch_up()
    for number in range(len(BUNDLES)):
        add(number, ("metrics",))
        events.catch_up()
        assert [status_of(runs(tmp_path / "runs")[spec.trial_id]) for spec in BUNDLES[number]] == [None, None]
        add(number, ("trials",))
        events.catch_up()
        events.catch_up()
        assert scalars(tmp_path / "runs") == evaluations(store.storage)
        assert [status_of(runs(tmp_path / "runs")[spec.trial_id]) for spec in BUNDLES[number]] == ["STATUS_SUCCESS"] * 2
    assert events.written == 3 * len(SPECS)


def test_a_failed_trial_ends_so(growing: Any, tmp_path: Path) -> None:
    store, _ = growing
    failed = [
        trial_row(
            spec, sweep=SWEEP, bundle_id=bundle_id(BUNDLES[0]), status=TrialStatus.FAILED, error="NaN", failed_epoch=1
        )
        for spec in BUNDLES[0]
    ]
    store.commit_trials(bundle_id(BUNDLES[0]), failed)
    EventFiles(store.storage, SWEEP, tmp_path / "runs").catch_up()
    assert [status_of(run) for run in runs(tmp_path / "runs").values()] == ["STATUS_FAILURE"] * 2


def test_evaluations_that_were_done_twice_are_there_once(trained: Path, tmp_path: Path) -> None:
    """A worker that goes on from a checkpoint writes a file whose epochs overlap with those of one before."""
    shutil.copytree(trained / SWEEP, tmp_path / SWEEP)
    storage = Storage.open(tmp_path)
    rows = query.load(storage, SWEEP).metrics
    bundle = bundle_id(BUNDLES[0])
    for path in (tmp_path / SWEEP / "metrics").glob(f"{bundle}*"):
        path.unlink()
    mine = rows[rows["bundle_id"] == bundle].astype(object).where(rows.notna(), None)
    from vaegen_ray.results.store import SweepStore

    for first, last in ((1, 3), (3, 6)):
        part = mine[(mine["effective_epoch"] >= first) & (mine["effective_epoch"] <= last)]
        SweepStore(storage, SWEEP).write_metrics(bundle, first, last, part.to_dict("records"))
    EventFiles(storage, SWEEP, tmp_path / "runs").catch_up()
    assert scalars(tmp_path / "runs") == evaluations(storage)


def test_who_begins_makes_them_anew_and_leaves_what_is_not_ours(trained: Path, tmp_path: Path) -> None:
    storage = Storage.open(trained)
    EventFiles(storage, SWEEP, tmp_path).catch_up()
    run = next((tmp_path / SWEEP).iterdir())
    foreign = [run / "events.out.tfevents.1.host", tmp_path / SWEEP / "notes" / "mine.txt"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("kept")
    old = set((tmp_path / SWEEP).glob("*/*.vaegen"))
    again = EventFiles(storage, SWEEP, tmp_path)
    assert not any(path.exists() for path in old) and all(path.read_text() == "kept" for path in foreign)
    assert run.is_dir() and len(list((tmp_path / SWEEP).iterdir())) == 2  # empty folders went
    foreign[0].unlink()
    shutil.rmtree(foreign[1].parent)
    again.catch_up()
    assert scalars(tmp_path) == evaluations(storage)


def test_a_sweep_that_begins_afresh_is_written_afresh(growing: Any, tmp_path: Path) -> None:
    """``--fresh`` puts the results aside and trains the same trials again."""
    store, add = growing
    add(0)
    events = EventFiles(store.storage, SWEEP, tmp_path / "runs")
    events.catch_up()
    declared = store.read_sweep_json()
    store.archive()
    store.write_sweep_json(declared)
    events.catch_up()
    assert not list((tmp_path / "runs").rglob("*.vaegen"))
    add(0)
    add(1)
    events.catch_up()
    assert scalars(tmp_path / "runs") == evaluations(store.storage) != []


def test_a_search_declares_its_points_one_by_one(growing: Any, tmp_path: Path) -> None:
    store, add = growing
    declared = store.read_sweep_json()
    events = EventFiles(store.storage, SWEEP, tmp_path / "runs")
    for count in (2, 4):
        first = {key: declared[key][:count] for key in ("trials", "trial_ids")}
        store.write_sweep_json({**declared, **first})
        add(count // 2 - 1)
        events.catch_up()
    found = runs(tmp_path / "runs")
    assert scalars(tmp_path / "runs") == evaluations(store.storage)
    assert [describe_settings(found[spec.trial_id]).get("nc") for spec in SPECS[:4]] == [None, None, 2, 2]


def test_names_of_folders_hold_nothing_that_leads_elsewhere(growing: Any, tmp_path: Path) -> None:
    store, add = growing
    declared = store.read_sweep_json()
    for number, trial in enumerate(declared["trials"]):
        trial["dataset"] = f"../../x{number}"
    store.write_sweep_json(json.loads(json.dumps(declared)))
    add(0)
    EventFiles(store.storage, SWEEP, tmp_path / "runs").catch_up()
    assert {path.parent.parent for path in (tmp_path / "runs").rglob("*.vaegen")} == {tmp_path / "runs" / SWEEP}
    assert len(runs(tmp_path / "runs")) == 2


def test_they_are_written_beside_a_sweep_to_its_last_evaluation(
    growing: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store, add = growing
    folder = tmp_path / "runs"
    options = argparse.Namespace(dashboard=False, tensorboard=str(folder), dry_run=False, storage=str(tmp_path))
    with run_sidecars(SWEEP, options):
        add(0)
        add(1)  # whoever is beside may see this only after the end
    assert scalars(folder) == evaluations(store.storage) != []
    assert "event files hold 12 evaluations" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "runs"], "no sweep 'nothing' in"),
        (["../small", "runs"], "the name of a sweep must be"),
        ([SWEEP, "s3://bucket/runs"], "must be a folder of this machine; got 's3://bucket/runs'"),
        ([SWEEP, "file"], "event files need a folder that can be written; got 'file'"),
    ],
)
def test_what_cannot_be_is_one_line(
    trained: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["tensorboard", *arguments, "--storage", str(trained)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_command_says_what_it_wrote(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tensorboard", SWEEP, str(tmp_path), "--storage", str(trained)]) == 0
    assert f"{3 * len(SPECS)} evaluations" in capsys.readouterr().out
    assert len(list(itertools.chain(tmp_path.rglob("*.vaegen")))) > 0
