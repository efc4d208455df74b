"""``vaegen doctor``: checks an installation, or every node of a cluster, before a sweep.

    facts of this machine (node_facts) -> verdicts (doctor_checks) -> a line each
    --address: the same on every node, by a task that is bound to it, and what only several machines can have wrong

Without an address no Ray starts. Everything that can hang has a limit of time.
"""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from vaegen_ray import allotment
from vaegen_ray.data import catalog
from vaegen_ray.doctor import facts as node_facts
from vaegen_ray.doctor.checks import FREE_BYTES, GIB, Check, Place, Verdict, machine_checks
from vaegen_ray.doctor.probe import IMPORT_SECONDS, STORAGE_SECONDS, Report, Say, source, untouched, within
from vaegen_ray.errors import SpecError, StorageError, VaegenError

if TYPE_CHECKING:
    pass


def run(options: argparse.Namespace, say: Say) -> int:
    """Prints a line a check; returns the exit code: 1 when one failed.

    Args:
        options: ``storage``, ``address``, ``data_dir``, ``dataset``.
        say: what prints a line.

    Raises:
        SpecError: an option that cannot be.
    """
    _check_options(options)
    report = Report(say)
    facts = node_facts.ask(source(), {}, IMPORT_SECONDS)
    gpus = facts.get("driver", {}).get("gpus", 0)
    job = allotment.allotted()
    here = Place(facts=facts, slots=gpus or job.workers(0), store=job.store_bytes)
    report.tell(machine_checks(here, here))
    report.tell(data_checks(options.dataset, options.data_dir))
    is_usable = True
    for check in storage_checks(options.storage):
        is_usable &= check.verdict != "FAIL"
        report.tell([check])
    if options.address:
        from vaegen_ray.doctor import cluster

        cluster.check_cluster(options.address, here, options.storage if is_usable else None, report)
    return report.close()


def _check_options(options: argparse.Namespace) -> None:
    if options.dataset:
        catalog.info(options.dataset)
    host, _, port = (options.address or "auto:0").removeprefix("ray://").rpartition(":")
    if options.address not in (None, "auto") and not (host and port.isdigit()):
        raise SpecError(f"--address must be HOST:PORT or auto; got {options.address!r}")
    with suppress(StorageError, ImportError):  # what is wrong with a place, or with pyarrow, is for a check to say
        from vaegen_ray.results.storage import Storage

        Storage.open(options.storage, create=False)


def storage_checks(location: str) -> Iterator[Check]:
    """Writes, reads and deletes a file in the storage; free space where it is a folder."""
    name = "storage"

    def probe() -> tuple[str, int | None]:
        from vaegen_ray.results.storage import Storage

        storage = Storage.open(location, create=False)
        with untouched(storage):
            storage.probe()
            return storage.where(), shutil.disk_usage(storage.root).free if storage.is_local else None

    try:
        where, free = within(STORAGE_SECONDS, probe)
    except TimeoutError:
        said = f"{location} does not answer within {STORAGE_SECONDS:.0f} s"
        yield Check(name, "FAIL", said, f"see that it is mounted and reached: ls {location}")
    except (VaegenError, ImportError) as error:
        yield Check(name, "FAIL", str(error), "give a place that can be written: --storage DIR_OR_URI")
    else:
        yield Check(name, "ok", f"{where}: written, read, deleted")
        if free is not None:
            verdict: Verdict = "ok" if free >= FREE_BYTES else "warn"
            advice = "" if free >= FREE_BYTES else f"all laptop sweeps write 0.4 GiB; make room: du -sh {where}/*"
            yield Check("free space", verdict, f"{free / GIB:.1f} GiB in {where}", advice)


def data_checks(name: str | None, folder: str | None) -> Iterator[Check]:
    """Which data sets are on this machine, the only one that reads them; ``name`` is opened too."""
    rows = catalog.table(folder)
    here, absent = ([row["name"] for row in rows if row["present"] == said] for said in ("yes", "no"))
    more = f"; not {', '.join(absent)} (to get one: vaegen datasets)" if absent else ""
    yield Check("data sets", "ok", f"{', '.join(here)}{more}")
    if name is None:
        return
    check = f"data set {name}"
    entry, found = catalog.info(name), catalog.presence(name, folder)
    if not found.present:
        yield Check(check, "FAIL", f"not in {found.where}", f"get it with: {found.how}")
    elif entry.bins is not None:
        yield Check(check, "ok", "is generated when it is needed")
    else:
        try:
            split = catalog.load(name, data_dir=folder, download=False)
            yield Check(check, "ok", f"{len(split.train)} training and {len(split.test)} test images in {found.where}")
        except VaegenError as error:
            yield Check(check, "FAIL", str(error), f"remove it, and get it with: {found.how}")
