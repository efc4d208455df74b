"""``vaegen doctor``: checks an installation, or every node of a cluster, before a sweep.

    facts of this machine (facts) -> verdicts (checks) -> a line each
    --address: the same on every node, by a task that is bound to it, and what only several machines can have wrong

Without an address no Ray starts. Everything that can hang has a time limit.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress

from vaegen_ray import allotment
from vaegen_ray.data import catalog
from vaegen_ray.doctor import facts
from vaegen_ray.doctor.checks import FREE_BYTES, GIB, Check, NodeFacts, check_machine
from vaegen_ray.doctor.probe import (
    IMPORT_SECONDS,
    STORAGE_SECONDS,
    Report,
    leaving_no_folders,
    read_source,
    with_timeout,
)
from vaegen_ray.errors import SpecError, StorageError, VaegenError


def run(
    storage: str, say: Callable[[str], None], *, address: str | None, data_dir: str | None, dataset: str | None
) -> int:
    """Prints a line for each check; returns the exit code, 1 when a check failed.

    Args:
        storage: where results are to go.
        say: prints a line.
        address: of a Ray cluster to check too.
        data_dir: folder of the data sets.
        dataset: a data set that must be there.

    Raises:
        SpecError: an address, a data set or a storage that cannot be.
    """
    _check_arguments(storage, address, dataset)
    report = Report(say)
    parts = facts.collect(read_source(), {}, IMPORT_SECONDS)
    job = allotment.allotted()
    slots = parts.get("driver", {}).get("gpus", 0) or job.workers(0)
    driver = NodeFacts(facts=parts, slots=slots, store=job.store_bytes)
    report.add(check_machine(driver, driver))
    report.add(check_data(dataset, data_dir))
    is_usable = True
    for check in check_storage(storage):
        is_usable &= check.verdict != "FAIL"
        report.add([check])
    if address:
        from vaegen_ray.doctor.cluster import check_cluster

        check_cluster(address, driver, storage if is_usable else None, report)
    return report.close()


def _check_arguments(storage: str, address: str | None, dataset: str | None) -> None:
    if dataset:
        catalog.info(dataset)
    host, _, port = (address or "auto:0").removeprefix("ray://").rpartition(":")
    if address not in (None, "auto") and not (host and port.isdigit()):
        raise SpecError(f"--address must be HOST:PORT or auto; got {address!r}")
    with suppress(StorageError, ImportError):  # a check reports what is wrong with a storage, or with pyarrow
        from vaegen_ray.results.storage import Storage

        Storage.open(storage, create=False)


def check_storage(location: str) -> Iterator[Check]:
    """Writes, reads and deletes a file in the storage; checks the free space where it is a folder."""

    def probe() -> tuple[str, int | None]:
        from vaegen_ray.results.storage import Storage

        storage = Storage.open(location, create=False)
        with leaving_no_folders(storage):
            storage.probe()
            return storage.where(), shutil.disk_usage(storage.root).free if storage.is_local else None

    try:
        where, free = with_timeout(STORAGE_SECONDS, probe)
    except TimeoutError:
        value = f"{location} does not answer within {STORAGE_SECONDS:.0f} s"
        yield Check("storage", "FAIL", value, f"check that it is mounted and answers: ls {location}")
        return
    except (VaegenError, ImportError) as error:
        yield Check("storage", "FAIL", str(error), "name a place that can be written: --storage DIR_OR_URI")
        return
    yield Check("storage", "ok", f"{where}: written, read, deleted")
    if free is not None:
        is_enough = free >= FREE_BYTES
        advice = "" if is_enough else f"all laptop sweeps write 0.4 GiB; make room: du -sh {where}/*"
        yield Check("free space", "ok" if is_enough else "warn", f"{free / GIB:.1f} GiB in {where}", advice)


def check_data(name: str | None, folder: str | None) -> Iterator[Check]:
    """Lists the data sets of this machine, the only one that reads them; opens the data set ``name``."""
    rows = catalog.table(folder)
    present, absent = ([row["name"] for row in rows if row["present"] == answer] for answer in ("yes", "no"))
    more = f"; not {', '.join(absent)} (to get one: vaegen datasets)" if absent else ""
    yield Check("data sets", "ok", f"{', '.join(present)}{more}")
    if name is None:
        return
    check = f"data set {name}"
    entry, presence = catalog.info(name), catalog.presence(name, folder)
    if not presence.present:
        yield Check(check, "FAIL", f"not in {presence.where}", f"get it with: {presence.how}")
    elif entry.bins is not None:
        yield Check(check, "ok", "is generated when it is needed")
    else:
        try:
            split = catalog.load(name, data_dir=folder, download=False)
            sizes = f"{len(split.train)} training and {len(split.test)} test images"
            yield Check(check, "ok", f"{sizes} in {presence.where}")
        except VaegenError as error:
            yield Check(check, "FAIL", str(error), f"remove it, and get it with: {presence.how}")
