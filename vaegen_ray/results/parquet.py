"""Result files as bytes: rows to Parquet and back, every file under a SHA-256 and with its schema version.

Files are small (a bundle's rows), so each is read in one go: what is parsed is one moment of the file, whatever another
process does to it meanwhile. Parquet has checksums for pages and none for the footer, where one flipped bit renames a
column; so the metadata of a file hold the SHA-256 of all its bytes (``SEAL_KEY``).
"""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vaegen_ray.errors import DataFormatError
from vaegen_ray.results.manifest import FileFact
from vaegen_ray.results.schema import FILES, FORMER_STATUSES, SCHEMA_VERSION, SEALED_SINCE, VERSION_KEY, rows_to_table
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.storage_errors import LinkError
from vaegen_ray.spec.trial import compute_trial_id

SUFFIX = ".parquet"
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""Names of files and folders that can be ours; others in our folders are nobody's business."""
IDS = ["trial_id", "bundle_id"]
"""Columns of few, long values that repeat; kept as dictionaries in the files and on reading metrics."""

SEAL_KEY = b"vaegen_ray.sha256"
"""Key of the SHA-256 of a file in its own metadata, computed with zeros in the place of its 64 digits."""
_SEAL_DIGITS = 64
_SEAL_HEADER = bytes([0x18, _SEAL_DIGITS])
"""What Parquet (Thrift's compact protocol) puts between a key of the metadata and a value of 64 bytes."""

LOCAL_READERS, REMOTE_READERS = 4, 16
"""Files read at once: enough for the cores of a laptop, and to hide the delay of an object store."""


class CorruptFileError(Exception):
    """Bytes that are not a whole result file; the text is the reason. Callers set the file aside or skip it."""


def encode(rows: Iterable[Mapping[str, Any]], schema: pa.Schema, *, key: tuple[str, ...]) -> bytes:
    """A Parquet file of ``rows`` sorted by ``key``; the same rows in any order give the same bytes.

    Raises:
        ValueError: a row does not fit the schema (``rows_to_table``), or two rows have the same key.
    """
    table = rows_to_table(rows, schema).sort_by([(name, "ascending") for name in key])
    keys = list(zip(*(table[name].to_pylist() for name in key), strict=True))
    twice = next((one for one, other in pairwise(keys) if one == other), None)
    if twice:
        raise ValueError(f"a file holds one row for each {', '.join(key)}; got two for {', '.join(map(str, twice))}")
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        use_dictionary=[name for name in (*IDS, FILES) if name in schema.names],
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({SEAL_KEY.decode(): "0" * _SEAL_DIGITS})
    return _seal(sink.getvalue())


def _seal(data: bytes) -> bytes:
    """The file with its SHA-256 in its metadata."""
    start, end = _seal_place(data)
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[end:]


def _seal_place(data: bytes) -> tuple[int, int]:
    """Where the digits of the SHA-256 begin and end in a file.

    Raises:
        CorruptFileError: the file has no such place.
    """
    start = data.rfind(SEAL_KEY + _SEAL_HEADER) + len(SEAL_KEY + _SEAL_HEADER)
    if start < len(SEAL_KEY + _SEAL_HEADER):
        raise CorruptFileError("it has no SHA-256 in its metadata")
    return start, start + _SEAL_DIGITS


def _check_seal(data: bytes) -> None:
    start, end = _seal_place(data)
    sha = hashlib.sha256(data[:start])
    sha.update(b"0" * _SEAL_DIGITS)
    sha.update(data[end:])
    if sha.hexdigest().encode() != data[start:end]:
        raise CorruptFileError("its SHA-256 is not the one that it was written with")


def decode(
    data: bytes, schema: pa.Schema, where: str, *, dictionaries: bool = False, fact: FileFact | None = None
) -> pa.Table:
    """The table in a Parquet file of this or an older schema version; columns it lacks are null, others are dropped.

    Args:
        where: the file, for messages.
        dictionaries: give the ``IDS`` as dictionary arrays, which is fast where they repeat.
        fact: the size and the digest that the commit row of the file's bundle names, if there is one.

    Raises:
        CorruptFileError: damaged, cut short, not the file that the commit row names, or not one of our files.
        DataFormatError: written by a later version of vaegen_ray.
    """
    if fact is not None:
        if difference := fact.difference(data):
            raise CorruptFileError(difference)
    elif SEAL_KEY in data:
        _check_seal(data)
    try:
        file = pq.ParquetFile(
            pa.BufferReader(data), read_dictionary=IDS if dictionaries else None, page_checksum_verification=True
        )
        version = int((file.schema_arrow.metadata or {})[VERSION_KEY.encode()])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CorruptFileError(_reason(error)) from error
    if version > SCHEMA_VERSION:
        raise DataFormatError(
            f"{where} has schema version {version}; this vaegen_ray reads up to {SCHEMA_VERSION}: install a later one"
        )
    try:
        if version >= SEALED_SINCE and fact is None and SEAL_KEY not in data:
            raise ValueError(f"it has schema version {version} and no SHA-256 in its metadata")
        table = file.read(use_threads=False)
        table.validate(full=True)  # the text in strings, for one, is not looked at before
        if version < SEALED_SINCE and (unknown := set(table.column_names) - set(schema.names)):
            raise ValueError(f"schema version {version} has no column {min(unknown)!r}")
        _check_trial_ids(table)
        table = _update_statuses(table)
        wanted = decoded_schema(schema, dictionaries=dictionaries)
        if table.schema.equals(wanted):  # the usual case, and much faster than column by column
            return table
        return pa.table([_conform(table, field) for field in wanted], schema=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptFileError(_reason(error)) from error


def _update_statuses(table: pa.Table) -> pa.Table:
    """Replaces statuses of trials that earlier versions have written."""
    place = table.schema.get_field_index("status")
    if place < 0:
        return table
    statuses = [FORMER_STATUSES.get(status, status) for status in table["status"].to_pylist()]
    return table.set_column(place, table.schema.field(place), pa.array(statuses, table.schema.field(place).type))


def _check_trial_ids(table: pa.Table) -> None:
    """Whether rows of trials have the ids that follow from their specifications."""
    if "spec_json" not in table.column_names:
        return
    for trial_id, spec_json in zip(table["trial_id"].to_pylist(), table["spec_json"].to_pylist(), strict=True):
        if trial_id != compute_trial_id(spec_json):
            raise ValueError(f"the row of trial {trial_id} has the spec_json of trial {compute_trial_id(spec_json)}")


def decoded_schema(schema: pa.Schema, *, dictionaries: bool = False) -> pa.Schema:
    """The schema of the tables that ``decode`` gives for ``schema``."""
    if not dictionaries:
        return schema.remove_metadata()
    repeated = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([field.with_type(repeated) if field.name in IDS else field for field in schema])


A_DIRECTORY = "it is a directory, not a file"


def result_files(storage: Storage, folder: str) -> list[str]:
    """Sorted names of the result files in ``folder``."""
    return [name for name in storage.list(folder, SUFFIX) if SAFE_NAME.fullmatch(name)]


def read_folder(
    storage: Storage, folder: str, schema: pa.Schema, *, dictionaries: bool = False
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """All result files in ``folder``; see ``read_files``. Files that by their names are none of ours are left out; a
    directory with the name of a result file cannot be used."""
    tables, corrupt = read_files(storage, folder, result_files(storage, folder), schema, dictionaries=dictionaries)
    return tables, corrupt | dict.fromkeys(misplaced(storage, folder, SUFFIX), A_DIRECTORY)


def misplaced(storage: Storage, folder: str, *suffixes: str) -> list[str]:
    """Sorted names of the directories in ``folder`` that stand where files of ours should."""
    return [name for name in storage.folders(folder) if SAFE_NAME.fullmatch(name) and name.endswith(suffixes)]


def read_files(
    storage: Storage,
    folder: str,
    names: list[str],
    schema: pa.Schema,
    *,
    dictionaries: bool = False,
    facts: Mapping[str, FileFact] | None = None,
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """The result files ``names`` in ``folder``, read in parallel. Files that vanish meanwhile are left out.

    Args:
        facts: size and digest by name, of those that a commit row names.

    Returns:
        The tables by file name, and for each file that cannot be used its name and the reason; both in the order of
        ``names``.

    Raises:
        StorageError: the storage refuses to read.
        DataFormatError: a file was written by a later version of vaegen_ray.
    """

    def read(name: str) -> pa.Table | CorruptFileError | None:
        path = f"{folder}/{name}" if folder else name
        try:
            data = storage.read_optional(path)
            if data is None:
                return None
            table = decode(data, schema, storage.where(path), dictionaries=dictionaries, fact=(facts or {}).get(name))
            check_bundle(table, name)
            return table
        except LinkError as error:
            return CorruptFileError(str(error))
        except CorruptFileError as error:
            return error

    with ThreadPoolExecutor(LOCAL_READERS if storage.is_local else REMOTE_READERS) as pool:
        results = dict(zip(names, pool.map(read, names), strict=True))
    tables = {name: result for name, result in results.items() if isinstance(result, pa.Table)}
    corrupt = {name: str(result) for name, result in results.items() if isinstance(result, CorruptFileError)}
    return tables, corrupt


def parse_bundle_id(name: str) -> str:
    """The bundle that the file ``<bundle>-<first>-<last>.parquet`` of metrics or details belongs to."""
    return name.removesuffix(SUFFIX).rsplit("-", 2)[0]


def check_bundle(table: pa.Table, name: str) -> None:
    """Whether the rows belong to the bundle and the epochs that the name of their file says.

    Raises:
        CorruptFileError: they do not; the file was written or moved over another one.
    """
    bundle, epochs = name.removesuffix(SUFFIX), None
    if "effective_epoch" in table.column_names:
        bundle, *epochs = bundle.rsplit("-", 2)
    others = [found for found in pc.unique(table["bundle_id"]).to_pylist() if found != bundle]
    if others:
        raise CorruptFileError(f"it holds rows of bundle {others[0]}")
    if epochs and len(table):
        found = pc.min_max(table["effective_epoch"]).as_py()
        if found["min"] < int(epochs[0]) or found["max"] > int(epochs[1]):
            raise CorruptFileError(f"it holds rows of the epochs {found['min']:g} to {found['max']:g}")


def _conform(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    if field.name in table.column_names:
        return table[field.name].cast(field.type)
    if not field.nullable:
        raise ValueError(f"it has no column {field.name}")
    return pa.nulls(len(table), field.type)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it does not carry {VERSION_KEY}"
    return " ".join(str(error).split())
