"""Rows as text or as a file for other tools."""

import json
import math
import os
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vaegen_ray.errors import SpecError
from vaegen_ray.results.storage import Storage

ENDINGS = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".md": "markdown", ".txt": "table"}
"""Ending of a file -> the format that it is written in."""


def format_of(file: str) -> str:
    """The format that the ending of a file stands for.

    Raises:
        SpecError: it stands for none.
    """
    ending = os.path.splitext(file)[1].lower()
    if ending not in ENDINGS:
        raise SpecError(f"--output must end with one of {', '.join(ENDINGS)}, or needs --format; got {file!r}")
    return ENDINGS[ending]


def as_csv(rows: pa.Table) -> str:
    """Comma-separated, with a head and all digits; a null is empty, a list is JSON."""
    return str(_exact(rows).to_csv(index=False))


def as_json(rows: pa.Table) -> str:
    """A list of objects, one a row; what is not finite is null, a time is ISO 8601."""
    return json.dumps([{name: _plain(value) for name, value in row.items()} for row in rows.to_pylist()], indent=1)


def as_parquet(rows: pa.Table) -> bytes:
    """A Parquet file.

    Raises:
        SpecError: Parquet has no type for a column, such as an interval of SQL.
    """
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(rows, sink)
    except pa.ArrowException as error:
        raise SpecError(f"columns of a Parquet file must have a type that it knows (use CAST); got {error}") from None
    return bytes(sink.getvalue().to_pybytes())


def as_table(rows: pd.DataFrame) -> pa.Table:
    """The rows of a frame."""
    return pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)


def write(file: str, data: bytes, *, replace: bool) -> str:
    """Writes a file, whole or not at all; returns its full path.

    Args:
        file: a path or a URI of an object store.
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
    storage.write(name, data)
    return where


def _exact(rows: pa.Table) -> pd.DataFrame:
    """A frame in which whole numbers stay whole beside nulls."""
    for i, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            words = [None if value is None else json.dumps(_plain(value)) for value in rows[i].to_pylist()]
            rows = rows.set_column(i, field.name, pa.array(words, pa.string()))
    frame: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


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
