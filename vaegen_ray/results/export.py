"""Rows as text or as a file for other tools, a batch at a time: memory does not grow with the number of rows."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vaegen_ray.errors import SpecError
from vaegen_ray.results.storage import Storage

ENDINGS = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".md": "markdown", ".txt": "table"}
"""Ending of a file -> the format that it is written in."""
BATCH_ROWS, GROUP_ROWS = 4096, 65_536
"""Rows that are held as text at once; rows of a group of a Parquet file."""


class Rows(NamedTuple):
    """Rows that come in batches and can be read once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def find_format(file: str) -> str:
    """The format that the ending of a file stands for.

    Raises:
        SpecError: it stands for none.
    """
    ending = os.path.splitext(file)[1].lower()
    if ending not in ENDINGS:
        raise SpecError(f"--output must end with one of {', '.join(ENDINGS)}, or needs --format; got {file!r}")
    return ENDINGS[ending]


def stream_frame(frame: pd.DataFrame) -> Rows:
    """The rows of a frame."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    return Rows(table.schema, iter(table.to_batches(BATCH_ROWS)))


def as_csv(rows: Rows) -> Iterator[str]:
    """Comma-separated, with a head and all digits; a null is empty, a list is JSON."""
    nested = [pa.types.is_nested(field.type) for field in rows.schema]
    yield _csv_lines([rows.schema.names])
    for batch in rows.batches:
        columns = [
            [None if value is None else json.dumps(_plain(value)) for value in column.to_pylist()]
            if is_nested
            else column.to_pylist()
            for column, is_nested in zip(batch.columns, nested, strict=True)
        ]
        yield _csv_lines(zip(*columns, strict=True))


def as_json(rows: Rows) -> Iterator[str]:
    """A list of objects, one a row and line; what is not finite is null, a time is ISO 8601."""
    before = "[\n"
    for batch in rows.batches:
        lines = [json.dumps({name: _plain(value) for name, value in row.items()}) for row in batch.to_pylist()]
        if lines:
            yield before + ",\n".join(lines)
            before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def as_parquet(rows: Rows, file: BinaryIO) -> None:
    """Writes a Parquet file.

    Raises:
        SpecError: Parquet has no type for a column, such as an interval of SQL.
    """
    try:
        with pq.ParquetWriter(file, rows.schema) as writer:
            while group := list(islice(rows.batches, GROUP_ROWS // BATCH_ROWS)):
                writer.write_table(pa.Table.from_batches(group))
    except pa.ArrowException as error:
        raise SpecError(f"columns of a Parquet file must have a type that it knows (use CAST); got {error}") from None


def write(file: str, fill: Callable[[BinaryIO], None], *, replace: bool) -> str:
    """Writes a file, whole or not at all; returns its full path.

    Args:
        file: a path or a URI of an object store.
        fill: writes the content.
        replace: whether a file may be there already.

    Raises:
        SpecError: there is one, the name is none of a file, or what has it is none (a folder, a pipe, a device).
        StorageError: it cannot be written.
    """
    folder, name = os.path.split(file)
    if name in ("", ".", ".."):
        raise SpecError(f"--output must end with the name of a file; got {file!r}")
    storage = Storage.open(folder or ".", create=False)
    where = storage.where(name)
    if storage.is_local and os.path.exists(where) and not os.path.isfile(where):
        raise SpecError(f"--output must be a file, no folder, pipe or device; got {where}")
    if not replace and storage.exists(name):
        raise SpecError(f"--output must be a new file, or needs --force to replace it; got {where}")
    storage.write_by(name, fill)
    return where


def _csv_lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """The value as strict JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):  # what SQL makes of a sum of whole numbers, or of 1.5
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list) or type(value) is tuple:  # a tuple is an entry of a map
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, str)) else _word(value)


def _word(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
