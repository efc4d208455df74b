"""Result files as bytes: rows to Parquet and back, every page under a checksum, every file with its schema version.

Files are small (a bundle's rows), so each is read in one go: what is parsed is one moment of the file, whatever another
process does to it meanwhile.
"""

import io
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vaegen_ray.errors import DataFormatError
from vaegen_ray.results.schema import SCHEMA_VERSION, VERSION_KEY, rows_to_table
from vaegen_ray.results.storage import Storage

SUFFIX = ".parquet"
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""Names of files and folders that can be ours; others in our folders are nobody's business."""
IDS = ["trial_id", "bundle_id"]
"""Columns of few, long values that repeat; kept as dictionaries in the files and on reading metrics."""

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
    pq.write_table(table, sink, use_dictionary=IDS, write_page_checksum=True)
    return sink.getvalue()


def decode(data: bytes, schema: pa.Schema, where: str, *, dictionaries: bool = False) -> pa.Table:
    """The table in a Parquet file of this or an older schema version; columns it lacks are null, others are dropped.

    Args:
        where: the file, for messages.
        dictionaries: give the ``IDS`` as dictionary arrays, which is fast where they repeat.

    Raises:
        CorruptFileError: damaged, cut short or not one of our files.
        DataFormatError: written by a later version of vaegen_ray.
    """
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
        table = file.read(use_threads=False)
        table.validate(full=True)  # the text in strings, for one, is not looked at before
        wanted = decoded_schema(schema, dictionaries=dictionaries)
        if table.schema.equals(wanted):  # the usual case, and much faster than column by column
            return table
        return pa.table([_conform(table, field) for field in wanted], schema=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptFileError(_reason(error)) from error


def decoded_schema(schema: pa.Schema, *, dictionaries: bool = False) -> pa.Schema:
    """The schema of the tables that ``decode`` gives for ``schema``."""
    if not dictionaries:
        return schema.remove_metadata()
    repeated = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([field.with_type(repeated) if field.name in IDS else field for field in schema])


def result_files(storage: Storage, folder: str) -> list[str]:
    """Sorted names of the result files in ``folder``."""
    return [name for name in storage.list(folder, SUFFIX) if SAFE_NAME.fullmatch(name)]


def read_folder(
    storage: Storage, folder: str, schema: pa.Schema, *, dictionaries: bool = False
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """All result files in ``folder``; see ``read_files``. Files that by their names are none of ours are left out."""
    return read_files(storage, folder, result_files(storage, folder), schema, dictionaries=dictionaries)


def read_files(
    storage: Storage, folder: str, names: list[str], schema: pa.Schema, *, dictionaries: bool = False
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """The result files ``names`` in ``folder``, read in parallel. Files that vanish meanwhile are left out.

    Returns:
        The tables by file name, and for each file that cannot be used its name and the reason; both in the order of
        ``names``.

    Raises:
        StorageError: the storage refuses to read.
        DataFormatError: a file was written by a later version of vaegen_ray.
    """

    def read(name: str) -> pa.Table | CorruptFileError | None:
        path = f"{folder}/{name}" if folder else name
        data = storage.read_optional(path)
        if data is None:
            return None
        try:
            return decode(data, schema, storage.where(path), dictionaries=dictionaries)
        except CorruptFileError as error:
            return error

    with ThreadPoolExecutor(LOCAL_READERS if storage.is_local else REMOTE_READERS) as pool:
        results = dict(zip(names, pool.map(read, names), strict=True))
    tables = {name: result for name, result in results.items() if isinstance(result, pa.Table)}
    corrupt = {name: str(result) for name, result in results.items() if isinstance(result, CorruptFileError)}
    return tables, corrupt


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
