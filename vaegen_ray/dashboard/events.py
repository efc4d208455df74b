"""TensorBoard event files of a sweep: a run a VAE, its evaluations as scalars, its settings as hyperparameters.

    events = EventFiles(storage, "double_descent", Path("runs"))
    events.catch_up()       # writes what the storage has and no event file says yet

    <folder>/<sweep>/<settings>,<start of the trial id>/events.out.tfevents.*.vaegen

They are made of the storage alone and can be made again at any time: a new ``EventFiles`` deletes those of an earlier
one, and leaves files that others wrote. A file is written once and closed, so thousands of VAEs need no thousands of
open files. Scalars have the names of the columns of ``schema.METRICS``; their step is the effective epoch; their values
are of single precision, as TensorBoard's are.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.api_pb2 import Status
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.summary import hparams

from vaegen_ray.dashboard.columns import varying
from vaegen_ray.dashboard.seen import Declared
from vaegen_ray.dashboard.sweeps import WatchedSweep
from vaegen_ray.results.arriving import SCALARS, Arriving
from vaegen_ray.results.schema import TrialStatus
from vaegen_ray.results.storage import Storage

SUFFIX = ".vaegen"
"""How the names of event files of ours end."""
UNSAFE = re.compile(r"[^A-Za-z0-9_.=,-]+")
LONGEST, OF_THE_ID = 120, 8
"""Characters of the settings and of the trial id in the name of a folder."""


class EventFiles:
    """The event files of one sweep.

    Args:
        storage: where the sweep is, or will be.
        sweep: its name.
        folder: a folder of this machine, which holds a folder a sweep.
    """

    def __init__(self, storage: Storage, sweep: str, folder: Path) -> None:
        self._sweep = WatchedSweep(storage, sweep)
        self._arriving = Arriving(storage, sweep)
        self._folder = folder / sweep
        self._declared = Declared()
        self._settings: dict[str, dict[str, Any]] = {}
        self._begin()

    def _begin(self) -> None:
        self._reached: dict[str, float] = {}
        """The effective epoch of the last evaluation that was written, by trial."""
        self._started: dict[str, Path] = {}
        self._ended: set[str] = set()
        self._files = 0
        self.written = 0
        """Evaluations in the files."""
        for path in self._folder.glob(f"*/events.out.tfevents.*{SUFFIX}"):
            path.unlink()
            with suppress(OSError):  # somebody has files of his own there
                path.parent.rmdir()

    def catch_up(self) -> tuple[str, ...]:
        """Writes what the storage has and no file says yet; returns one line a result file that could not be read.

        Raises:
            StorageError: the storage cannot be read.
            OSError: the folder cannot be written.
        """
        # Commit marks are looked at first: what is committed then has all its evaluations in the files looked at next.
        seen = self._sweep.read()
        arrived = self._arriving.take()
        if self._declared is not seen.declared:
            self._declared, self._settings = seen.declared, _settings(seen.declared)
        if arrived.anew:
            self._begin()
        for moment, rows in arrived.evaluations:
            self._evaluations(moment, rows)
        for trial_id, status, moment in seen.look.trials[["trial_id", "status", "finished_at"]].itertuples(index=False):
            if trial_id not in self._ended:
                self._ended.add(trial_id)
                self._write(trial_id, [_end(status, moment.timestamp())])
        return arrived.notes

    def _evaluations(self, moment: float, rows: pd.DataFrame) -> None:
        for trial_id, mine in rows.sort_values("effective_epoch").groupby("trial_id", sort=False):
            new = mine[mine["effective_epoch"] > self._reached.get(trial_id, -1.0)]
            if new.empty:  # a bundle that went on from a checkpoint has done some twice
                continue
            self._write(trial_id, [_scalars(row, moment) for row in new.to_dict("records")])
            self._reached[trial_id] = float(new["effective_epoch"].iloc[-1])
            self.written += len(new)

    def _write(self, trial_id: str, events: Iterable[Event]) -> None:
        """Writes a further file of a trial, and what sets it apart into its first."""
        events = list(events)
        if trial_id not in self._started:
            settings = self._settings.get(trial_id, {})
            words = UNSAFE.sub("-", ",".join(f"{name}={value}" for name, value in settings.items()))[:LONGEST]
            path = self._folder / ",".join(filter(None, (words, trial_id[:OF_THE_ID])))
            path.mkdir(parents=True, exist_ok=True)
            self._started[trial_id] = path
            _, start, _ = hparams({"trial": trial_id, **settings}, {})
            events.insert(0, Event(wall_time=events[0].wall_time, summary=start))
        self._files += 1
        writer = EventsWriter(str(self._started[trial_id] / "events"), f".{self._files:08d}{SUFFIX}")
        for event in events:
            writer.write_event(event)
        writer.close()


def _settings(declared: Declared) -> dict[str, dict[str, Any]]:
    """By trial, the fields in which the trials of the sweep differ, and the seed."""
    if declared.trials is None:
        return {}
    names = [name for name in (*varying(declared.trials), "seed") if name in declared.trials]
    rows = declared.trials.set_index("trial_id")[names].astype(object).to_dict("index")
    return {
        str(trial): {name: _plain(value) for name, value in row.items() if not pd.isna(value)}
        for trial, row in rows.items()
    }


def _plain(value: Any) -> Any:
    """A number without digits that say nothing, since a column with gaps holds whole numbers as others."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _scalars(row: Mapping[str, Any], moment: float) -> Event:
    """An evaluation; what was not measured is left out."""
    values = [Summary.Value(tag=name, simple_value=row[name]) for name in SCALARS if not pd.isna(row[name])]
    return Event(wall_time=moment, step=round(row["effective_epoch"]), summary=Summary(value=values))


def _end(status: str, moment: float) -> Event:
    """The end of a trial, as the view of hyperparameters knows it."""
    info = SessionEndInfo(
        status=Status.Value("STATUS_FAILURE" if status == TrialStatus.FAILED else "STATUS_SUCCESS"),
        end_time_secs=moment,
    )
    content = HParamsPluginData(session_end_info=info, version=0).SerializeToString()
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="hparams", content=content))
    value = Summary.Value(tag="_hparams_/session_end_info", metadata=metadata)
    return Event(wall_time=moment, summary=Summary(value=[value]))
