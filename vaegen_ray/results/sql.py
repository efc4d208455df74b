"""SQL over the results of a sweep, through DuckDB (extra ``sql``).

    trials    a row a finished trial (``schema.read_schema``)
    metrics   a row a trial and evaluation (``schema.METRICS``)
    details   series of numbers (``schema.DETAILS``)
    results   the evaluations of completed trials: the columns of ``trials``, then those of ``metrics``

The tables hold the rows that ``results.query`` gives, not the files. A query only reads: the database is in memory, and
can reach neither files nor the network nor its own settings.
"""

from itertools import count
from typing import Any

import pandas as pd
import pyarrow as pa

from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.results.query import Results
from vaegen_ray.results.schema import COMPLETED, DETAILS, METRICS, read_schema

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
    WHERE status = '{COMPLETED}'
"""


def run(query: str, results: Results, details: pd.DataFrame) -> pa.Table:
    """The rows that a query gives; of columns of one name the later ones get a number, ``nc``, ``nc_1``.

    Args:
        query: one statement that reads: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW.
        results: as ``results.query.load`` gives them.
        details: as ``load_details`` gives them.

    Raises:
        VaegenError: DuckDB is not installed.
        SpecError: the query is not one such statement, or DuckDB refuses it.
    """
    try:
        import duckdb
    except ImportError:
        raise VaegenError("--sql needs DuckDB; get it with: pip install 'vaegen-ray[sql]'") from None
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
        database.execute("SET lock_configuration = true")
        try:
            _check([each.type for each in database.extract_statements(query)], duckdb.StatementType.SELECT)
            return _named_once(database.sql(query).to_arrow_table())
        except duckdb.Error as error:
            raise SpecError(f"--sql: {_one_line(error)}") from None


def _check(kinds: list[Any], select: Any) -> None:
    if kinds != [select]:
        got = ", ".join(kind.name for kind in kinds) or "none"
        raise SpecError(f"--sql must be one statement that reads, such as SELECT or DESCRIBE; got {got}")


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame with the types of the files; a NaN is null again."""
    return pa.Table.from_pandas(frame, schema=schema.remove_metadata(), preserve_index=False)


def _named_once(table: pa.Table) -> pa.Table:
    names: list[str] = []
    for name in table.column_names:
        free = name if name not in names else next(f"{name}_{n}" for n in count(1) if f"{name}_{n}" not in names)
        names.append(free)
    return table.rename_columns(names)


def _one_line(error: Exception) -> str:
    """DuckDB's message without the picture of the place in the query, which needs lines of its own."""
    message = str(error).split("\n\nLINE ")[0]
    return " ".join(message.split())
