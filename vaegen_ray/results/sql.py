"""SQL over the results of a sweep, through DuckDB (extra ``sql``).

    trials    a row a finished trial (``schema.read_schema``)
    metrics   a row a trial and evaluation (``schema.METRICS``)
    details   series of numbers (``schema.DETAILS``)
    results   the evaluations of completed trials: the columns of ``trials``, then those of ``metrics``

The tables hold the rows that ``results.query`` gives, not the files. A query only reads: the database is in memory, and
can reach neither files nor the network nor its own settings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pandas as pd
import pyarrow as pa

from vaegen_ray.allotment import allotted
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.results.export import BATCH_ROWS, Rows
from vaegen_ray.results.query import Results
from vaegen_ray.results.schema import DETAILS, METRICS, TrialStatus, read_schema

MOST_MEMORY = 4 * 10**9
"""Bytes that a query may take beside its tables, unless the user says otherwise; half of what a small job has."""
CLOSED: dict[str, Any] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
"""No files, no network, no extensions, no variables of this process, no spilling to a disk."""

JOINED = f"""
    CREATE VIEW results AS
    SELECT trials.*, metrics.* EXCLUDE (trial_id, bundle_id, elbo_samples),
           metrics.elbo_samples AS elbo_samples_metrics
    FROM trials JOIN metrics ON trials.trial_id = metrics.trial_id
    WHERE status = '{TrialStatus.COMPLETED}'
"""


@contextmanager
def asked(query: str, results: Results, details: pd.DataFrame, memory: str | None = None) -> Iterator[Rows]:
    """The rows that a query gives, as they are computed; of columns of one name the later ones get a number, ``nc``,
    ``nc_1``.

    Args:
        query: one statement that reads: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW.
        memory: how much of it the query may take beside the tables, such as ``4GB``; by ``MOST_MEMORY`` when None.
        results: as ``results.query.load`` gives them.
        details: as ``load_details`` gives them.

    Raises:
        VaegenError: DuckDB is not installed.
        SpecError: the query is not one such statement, needs more memory, or DuckDB refuses it; also while rows are
            read.
    """
    try:
        import duckdb
    except ImportError:
        raise VaegenError("--sql needs DuckDB; get it with: pip install 'vaegen-ray[sql]'") from None
    memory = memory or f"{min(MOST_MEMORY, allotted().memory // 2) / 10**9:.3g}GB"
    tables = {
        "trials": _table(results.trials, read_schema()),
        "metrics": _table(results.metrics, METRICS),
        "details": _table(details, DETAILS),
    }
    with duckdb.connect(":memory:", config=CLOSED) as database:
        for name, table in tables.items():
            database.register(name, table)
        database.execute(JOINED)
        database.execute("SET TimeZone = 'UTC'")
        try:
            database.execute(f"SET memory_limit = '{memory}'")
            database.execute("SET lock_configuration = true")
            _check([each.type for each in database.extract_statements(query)], duckdb.StatementType.SELECT)
            found = database.sql(query)
            newer = hasattr(found, "to_arrow_reader")  # the other name is deprecated
            reader = found.to_arrow_reader(BATCH_ROWS) if newer else found.fetch_arrow_reader(BATCH_ROWS)
            schema = _named_once(reader.schema)
            yield Rows(schema, _batches(reader, schema, memory))
        except duckdb.Error as error:
            raise _refused(error, memory) from None


def _check(kinds: list[Any], select: Any) -> None:
    if kinds != [select]:
        got = ", ".join(kind.name for kind in kinds) or "none"
        raise SpecError(f"--sql must be one statement that reads, such as SELECT or DESCRIBE; got {got}")


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame with the types of the files; a NaN is null again."""
    return pa.Table.from_pandas(frame, schema=schema.remove_metadata(), preserve_index=False)


def _batches(reader: pa.RecordBatchReader, schema: pa.Schema, memory: str) -> Iterator[pa.RecordBatch]:
    """The batches of a query, under other names; what DuckDB says meanwhile comes as an error of Arrow."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:
            raise _refused(error, memory) from None
        yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _named_once(schema: pa.Schema) -> pa.Schema:
    names: list[str] = []
    for name in schema.names:
        free = name if name not in names else next(f"{name}_{n}" for n in count(1) if f"{name}_{n}" not in names)
        names.append(free)
    return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])


def _refused(error: Exception, memory: str) -> SpecError:
    message = _one_line(error)
    if "Out of Memory" in message:
        return SpecError(
            f"--sql: the query needs more than {memory} of memory; ask for fewer rows or columns at once, or give it "
            f"more with --sql-memory"
        )
    return SpecError(f"--sql: {message}")


def _one_line(error: Exception) -> str:
    """DuckDB's message without the picture of the place in the query, which needs lines of its own."""
    message = str(error).split("\n\nLINE ")[0]
    return " ".join(message.split())
