"""``vaegen status``."""

import argparse
import json
import sys
import time
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vaegen_ray.cli.completers import sweep_names
from vaegen_ray.cli.parts import Commands, add_results_storage, command, completes
from vaegen_ray.cli.tables import fitted
from vaegen_ray.errors import StorageError, printable
from vaegen_ray.launch.options import at_least
from vaegen_ray.text import clock

if TYPE_CHECKING:
    from vaegen_ray.results.heartbeat import HeartbeatMonitor
    from vaegen_ray.results.status import SweepStatus
    from vaegen_ray.results.storage import Storage

CLEAR = "\x1b[H\x1b[2J"
"""Empties a terminal."""


def add(commands: Commands) -> None:
    """Adds the command."""
    made = command(commands, "status", run, "how far sweeps are, and whether somebody works on them")
    sweep = made.add_argument(
        "sweep", metavar="SWEEP", nargs="?", help="one sweep with all there is to say [default: all]"
    )
    completes(sweep, sweep_names)
    add_results_storage(made)
    made.add_argument("--watch", type=at_least(1), metavar="SECONDS", help="say it again and again, until Ctrl-C")
    made.add_argument("--json", action="store_true", help="for scripts: an object, or a list of them, on one line")


def run(options: argparse.Namespace) -> int:
    """Says how far sweeps are, once or until Ctrl-C."""
    from vaegen_ray.results.heartbeat import HeartbeatMonitor
    from vaegen_ray.results.storage import Storage

    storage = Storage.open(options.storage, create=False)
    monitors: dict[str, HeartbeatMonitor] = defaultdict(HeartbeatMonitor)
    if options.watch is None:
        _show(options, storage, monitors, "")
        return 0
    before = CLEAR if sys.stdout.isatty() else ""
    try:
        _show(options, storage, monitors, before)
        while True:
            time.sleep(options.watch)
            try:
                _show(options, storage, monitors, before)
            except StorageError as error:  # a storage may be away for a while, and a sweep be put aside
                print(printable(str(error)), file=sys.stderr)
    except KeyboardInterrupt:
        return 0


def _show(
    options: argparse.Namespace, storage: "Storage", monitors: "dict[str, HeartbeatMonitor]", before: str
) -> None:
    """Reads the files and says what they say, and below it what could not be read."""
    from vaegen_ray.results.status import list_sweeps, load_status

    names = [options.sweep] if options.sweep else list_sweeps(storage)
    found = [load_status(storage, name, monitors[name]) for name in names]
    print(f"{before}{_said(options, found, storage)}", flush=True)
    for note in (note for each in found for note in each.notes):
        print(printable(note), file=sys.stderr)


def _said(options: argparse.Namespace, found: "list[SweepStatus]", storage: "Storage") -> str:
    if options.json:
        values = [each.as_dict() for each in found]
        return json.dumps(values[0] if options.sweep else values)
    if options.sweep:
        return details(found[0])
    return table(found) if found else f"no sweeps in {storage.where()}"


def table(found: "list[SweepStatus]") -> str:
    """A line a sweep."""
    early = any(each.pruned for each in found)  # searches alone have such trials
    rows = [["sweep", "state", "done", "of", *["early"] * early, "failed", "running", "VAEs/min", "ends", "heard"]]
    for each in found:
        counts = (each.done, each.declared, *[each.pruned] * early, each.failed, each.bundles_running)
        said = (_rate(each.vaes_per_minute), _end(each), _heard(each))
        rows.append([each.sweep, each.state, *map(_count, counts), *said])
    return fitted(rows)


def details(status: "SweepStatus") -> str:
    """All there is to say of a sweep."""
    of = "" if status.declared is None else f" of {status.declared:,}"
    early = f"{status.pruned:,} pruned, " if status.pruned else ""
    vaes = f"{status.done:,}{of} done, {early}{status.failed:,} failed"
    if status.left:
        vaes += f", {status.left:,} left; bundles in training: {status.bundles_running}"
    if status.others:
        vaes += f" (and {status.others:,} of an earlier declaration)"
    ran = "" if status.machine is None else f", on {status.machine}"
    code = "" if status.code_version is None else f", vaegen_ray {status.code_version}"
    lines = [
        ("sweep", f"{status.sweep}, {status.state}, in {status.where}"),
        ("VAEs", vaes),
        ("doing", status.doing or ""),
        ("speed", _speed(status)),
        ("end", f"expected {_end(status)}" if status.expected_end else ""),
        ("driver", f"heard {_heard(status)}{ran}{code}" if status.heartbeat else "never heard"),
    ]
    lines += [("samples", f"{digest}: {_pool(pool, status.state)}") for digest, pool in status.pools.items()]
    where = f"{status.where}/figures"
    pictures = [name for name in status.figures if not name.endswith(".pdf")]
    lines.append(("figures", f"{', '.join(pictures)} in {where}" if pictures else f"none yet in {where}"))
    return "\n".join(f"{name:<8} {printable(text)}" for name, text in lines if text)


def _speed(status: "SweepStatus") -> str:
    if status.vaes_per_minute is None:
        return ""
    return f"{_rate(status.vaes_per_minute)} VAEs/min{'' if status.state == 'running' else ' in the last run'}"


def _pool(pool: "dict[str, Any]", state: str) -> str:
    def number(name: str) -> float:
        return pool[name] or 0

    parts = [f"{number('shards'):,} shards", f"readers waited {clock(number('waited_seconds'))}"]
    if state == "running":
        now = [f"{name} {number(name):,.0f}" for name in ("samplers", "readers")]
        rate = f"{number('images_per_second'):,.0f} samples/s"
        parts = [parts[0], *now, rate, parts[1], f"shards waited for now: {number('waited_for'):,}"]
    return ", ".join(parts) + (f"; fault: {pool['fault']}" if pool["fault"] else "")


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _heard(status: "SweepStatus") -> str:
    """How long ago in the largest unit, such as ``3 h ago``."""
    if status.heartbeat is None:
        return "-"
    number, unit, *_ = clock(max(0.0, time.time() - status.heartbeat)).split()
    return f"{number} {unit} ago"


def _end(status: "SweepStatus") -> str:
    """When it ends, by the clock of this machine."""
    if status.expected_end is None:
        return "-"
    now = datetime.now()
    end = max(now, datetime.fromtimestamp(max(0.0, status.expected_end)))
    day = "" if end.date() == now.date() else f"{end:%d %b} "
    return f"{day}{end:%H:%M}, in {clock((end - now).total_seconds())}"
