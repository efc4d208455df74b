"""SQL over results: the rows that ``query`` gives, and nothing else in reach."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vaegen_ray.cli import main
from vaegen_ray.errors import SpecError, VaegenError
from vaegen_ray.results import query, sql
from vaegen_ray.results.export import BATCH_ROWS
from vaegen_ray.results.schema import DETAILS, METRICS, read_schema
from vaegen_ray.results.storage import Storage
from vaegen_ray.results.store import SweepStore

Ask = Callable[..., pa.Table]


@pytest.fixture
def store(tmp_path: Path, trial: Callable, metric: Callable) -> SweepStore:
    """Two completed trials, a failed one, one under way, one that two bundles evaluated, and a damaged file."""
    made = SweepStore(Storage.open(tmp_path), "s")
    made.write_metrics(
        "b0", 1, 2, [metric(seed, epoch, elbo_test=-seed - epoch) for seed in range(3) for epoch in (1, 2)]
    )
    made.write_metrics("b9", 1, 1, [metric(0, 1, elbo_test=99.0), metric(9, 1, elbo_test=5.0)])
    series = {"quantity": "log_q", "item": "0", "values": [1.0, 2.5]}
    made.write_details("b0", 1, 2, [{**metric(0, 2), **series}])
    made.commit_trials("b0", [trial(0), trial(1), trial(2, status="failed")])
    (tmp_path / "s" / "trials" / "b7.parquet").write_bytes(b"junk")
    return made


@pytest.fixture
def ask(store: SweepStore) -> Ask:
    results = query.load(store.storage, "s")
    details, _ = query.load_details(store.storage, results.trials, "s")

    def rows(text: str, memory: str | None = None) -> pa.Table:
        with sql.asked(text, results, details, memory) as found:
            return pa.Table.from_batches(found.batches, found.schema)

    return rows


def test_tables_are_what_query_loads(ask: Ask, store: SweepStore) -> None:
    results = query.load(store.storage, "s")
    for name, frame, schema in (("trials", results.trials, read_schema()), ("metrics", results.metrics, METRICS)):
        got = ask(f"SELECT * FROM {name}")
        assert got.column_names == schema.names and len(got) == len(frame)
        assert got["trial_id"].to_pylist() == frame["trial_id"].tolist()
    got = ask("SELECT elbo_test FROM metrics ORDER BY trial_id, effective_epoch")["elbo_test"].to_pylist()
    assert got == results.metrics["elbo_test"].tolist() and 99.0 not in got
    assert ask("SELECT * FROM details").column_names == DETAILS.names
    assert ask("SELECT values[2] AS x FROM details")["x"].to_pylist() == [2.5]


def test_results_are_the_curves_of_completed_trials(ask: Ask, store: SweepStore) -> None:
    curves = query.load(store.storage, "s").curves()
    got = ask("SELECT * FROM results ORDER BY trial_id, effective_epoch")
    assert set(got.column_names) == set(curves.columns) and len(got) == len(curves) == 4
    np.testing.assert_array_equal(got["elbo_test"].to_numpy(), curves["elbo_test"])
    assert got["elbo_samples"].to_pylist() == [1] * 4, "what the specification says"


def test_nulls_are_nulls_and_whole_numbers_stay_whole(ask: Ask) -> None:
    (row,) = ask("SELECT count(*) AS n, count(fid) AS fid, avg(elbo_test) AS elbo, max(failed_epoch) AS e "
                 "FROM metrics JOIN trials USING (trial_id)").to_pylist()  # fmt: skip
    assert row == {"n": 6, "fid": 0, "elbo": pytest.approx(-2.5), "e": 7}
    assert ask("SELECT failed_epoch FROM trials").schema.field("failed_epoch").type == pa.int64()
    assert str(ask("SELECT finished_at FROM trials").schema.field("finished_at").type) == "timestamp[us, tz=UTC]"


@pytest.mark.parametrize("text", ["FROM trials", "WITH x AS (SELECT 1) FROM x", "DESCRIBE results", "SUMMARIZE trials"])
def test_what_reads_may_be_asked(ask: Ask, text: str) -> None:
    assert len(ask(text)) > 0


secret = pa.table({"x": [1]})


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_parquet('https://example.org/x.parquet')",
        "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
        "SELECT * FROM secret",
        "SELECT getenv('HOME')",
        "COPY trials TO '{folder}/x.csv'",
        "EXPORT DATABASE '{folder}/x'",
        "ATTACH '{folder}/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "CREATE TABLE x AS SELECT 1",
        "DELETE FROM metrics",
        "DROP VIEW results",
        "SELECT 1; COPY trials TO '{folder}/x.csv'",
        "SELECT nothing FROM trials",
        "SELECT",
        "",
    ],
)
def test_nothing_else_is_in_reach_and_the_reason_is_one_line(ask: Ask, text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,b\n1,2\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SpecError, match=r"^--sql[^\n]+$"):
        ask(text.format(file=file, folder=tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_without_duckdb_the_line_says_how_to_get_it(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(VaegenError, match=r"pip install 'vaegen-ray\[sql\]'"):
        ask("SELECT 1")


LARGE = "FROM range(3000000) AS many(i)"


def test_rows_come_in_batches_and_are_not_computed_before(store: SweepStore) -> None:
    results = query.load(store.storage, "s")
    details, _ = query.load_details(store.storage, results.trials, "s")
    with sql.asked("SELECT i, 'word ' || i AS word FROM range(1000000000000) AS many(i)", results, details) as rows:
        first = next(rows.batches)
        assert 0 < len(first) <= BATCH_ROWS and first["i"][0].as_py() == 0


def test_a_query_that_needs_more_memory_than_it_may_take_is_one_line(ask: Ask) -> None:
    heavy = f"SELECT list(i || ' and a long word that takes room') AS x {LARGE} GROUP BY i % 7"
    with pytest.raises(SpecError, match=r"^--sql: the query needs more than 32MB of memory; [^\n]+--sql-memory$"):
        ask(heavy, "32MB")
    assert ask(f"SELECT sum(i) AS x {LARGE}", "32MB")["x"].to_pylist() == [3000000 * 2999999 // 2]


def test_what_fails_while_rows_are_written_leaves_the_file_as_it_was(
    store: SweepStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.csv"
    target.write_text("before")
    ask = ("results", "s", "--storage", str(tmp_path), "--output", str(target), "--force", "--sql")
    late = "SELECT CASE WHEN i < 2900000 THEN 1 ELSE error('too late') END AS x"
    assert main([*ask, f"{late} {LARGE}"]) == 2
    assert "too late" in capsys.readouterr().err and target.read_text() == "before"
    assert not list(tmp_path.glob(".out*")), "no part of the file is left"
    assert main([*ask, "SELECT trial_id FROM trials"]) == 0 and target.read_text().startswith("trial_id\n")
