"""Whether committed bundles have the files that their commit rows name.

A bundle is whole when its rows can be read and every file that they name (``results.manifest``) is there. Readers leave
out the rows of a bundle that is not whole and say so; the next run trains its trials again. Names and sizes are looked
at always, digests where the bytes are read anyway, and of all files by ``vaegen check --deep``.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pyarrow as pa

from vaegen_ray.results.manifest import FileFact, Manifest, differs_in_size, read_manifest, within
from vaegen_ray.results.parquet import (
    LOCAL_READERS,
    REMOTE_READERS,
    SUFFIX,
    CorruptFileError,
    check_bundle,
    decode,
    parse_bundle_id,
    read_folder,
    result_files,
)
from vaegen_ray.results.schema import DETAILS, METRICS, trials_schema
from vaegen_ray.results.storage import Storage

SCHEMAS = {"metrics": METRICS, "details": DETAILS}
FOLDERS = (*SCHEMAS, "models")
"""Where the files lie that commit rows name."""


@dataclass(frozen=True)
class Fault:
    """A file that is not as it should be."""

    bundle: str
    folder: str
    name: str
    reason: str
    is_there: bool = True
    """The file exists; False: it is missing."""
    committed: bool = False
    """The file belongs to commit rows, whose trials are to do again."""

    @property
    def path(self) -> str:
        """Of the file, in the folder of the sweep."""
        return f"{self.folder}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class WholeTrials:
    """The commit rows of a sweep that count."""

    tables: dict[str, pa.Table]
    """By file name; columns: ``schema.trials_schema``."""
    manifests: dict[str, Manifest] = field(default_factory=dict)
    """By bundle, of those whose rows have one."""
    left_out: tuple[str, ...] = ()
    """The bundles whose rows do not count, since a file that they name is not there."""
    notes: tuple[str, ...] = ()
    """One line a file that cannot be read, and one a bundle that was left out."""


def whole_trials(storage: Storage, sweep: str, folders: Collection[str] = FOLDERS) -> WholeTrials:
    """The commit rows of the bundles that are whole, by the names and sizes of their files.

    Args:
        sweep: its folder in the storage; empty: the storage is the folder.
        folders: those out of ``FOLDERS`` whose files have to be there.

    Raises:
        StorageError: the storage cannot be read.
        DataFormatError: a file was written by a later version of vaegen_ray.
    """
    base = f"{sweep}/" if sweep else ""
    tables, corrupt = read_folder(storage, f"{base}trials", trials_schema())
    notes = [f"{storage.where(f'{base}trials/{name}')} was skipped: {reason}" for name, reason in corrupt.items()]
    manifests = {name: read_manifest(table) for name, table in tables.items()}
    incomplete = []
    if any(manifests.values()):
        sizes = {f"{folder}/{n}": size for folder in folders for n, size in storage.sizes(f"{base}{folder}").items()}
        for name, manifest in manifests.items():
            lost = missing(manifest or {}, sizes, folders)
            if lost:
                path, reason = next(iter(lost.items()))
                incomplete.append(name.removesuffix(SUFFIX))
                notes.append(left_out(storage.where(f"{base}trials/{name}"), len(tables.pop(name)), path, reason))
    mine = {name.removesuffix(SUFFIX): manifests[name] for name in tables}
    return WholeTrials(
        tables=tables,
        manifests={bundle: manifest for bundle, manifest in mine.items() if manifest is not None},
        left_out=tuple(incomplete),
        notes=tuple(notes),
    )


def missing(manifest: Manifest, sizes: Mapping[str, int], folders: Collection[str]) -> dict[str, str]:
    """The files of a manifest in some folders that are not there as they should be, with the reasons.

    Args:
        sizes: bytes of the files that are there, by path.
    """
    reasons = {
        path: differs_in_size(fact, sizes.get(path))
        for path, fact in manifest.items()
        if path.partition("/")[0] in folders
    }
    return {path: reason for path, reason in reasons.items() if reason}


def left_out(where: str, trials: int, path: str, reason: str) -> str:
    """The line about a bundle that is not whole."""
    vaes = f"{trials} VAE{'s' * (trials != 1)}"
    return f"{where} ({vaes}) was left out: {path}: {reason}; rerun the command of the sweep to train them again"


def find_faults(storage: Storage, sweep: str, *, digests_of: Collection[str] = ()) -> list[Fault]:
    """Everything that is wrong with the results of a sweep. Changes nothing.

    Args:
        digests_of: folders out of ``FOLDERS`` whose files are read and compared with their digests; of the others the
            names and sizes are looked at.

    Raises:
        as ``whole_trials``.
    """
    tables, corrupt = read_folder(storage, f"{sweep}/trials", trials_schema())
    marks = {name.removesuffix(SUFFIX): read_manifest(table) or {} for name, table in tables.items()}
    faults = [Fault(name.removesuffix(SUFFIX), "trials", name, why, committed=True) for name, why in corrupt.items()]
    to_read: list[tuple[Fault, FileFact | None]] = []
    for folder in FOLDERS:
        sizes = storage.sizes(f"{sweep}/{folder}")
        named = {name: (bundle, fact) for bundle in marks for name, fact in within(marks[bundle], folder).items()}
        for name, (bundle, fact) in named.items():
            fault = Fault(bundle, folder, name, differs_in_size(fact, sizes.get(name)), name in sizes, committed=True)
            if fault.reason:
                faults.append(fault)
            elif folder in digests_of:
                to_read.append((fault, fact))
        if folder in digests_of and folder in SCHEMAS:
            others = [name for name in result_files(storage, f"{sweep}/{folder}") if name not in named]
            for name in others:  # of unfinished bundles, and of those whose rows have no manifest
                bundle = parse_bundle_id(name)
                to_read.append((Fault(bundle, folder, name, "", committed=marks.get(bundle) == {}), None))

    def read(fault: Fault, fact: FileFact | None) -> Fault:
        data = storage.read_optional(f"{sweep}/{fault.path}")
        if data is None:  # deleted since it was listed
            return replace(fault, reason="it is missing" if fact else "", is_there=False)
        return replace(fault, reason=fact.difference(data) if fact else why_unusable(data, fault.folder, fault.name))

    with ThreadPoolExecutor(LOCAL_READERS if storage.is_local else REMOTE_READERS) as pool:
        found = pool.map(lambda pair: read(*pair), to_read)
        return faults + [fault for fault in found if fault.reason]


def why_unusable(data: bytes, folder: str, name: str) -> str:
    """Why a file of metrics or details cannot be used; empty where it can."""
    try:
        check_bundle(decode(data, SCHEMAS[folder], name), name)
    except CorruptFileError as error:
        return str(error)
    return ""
