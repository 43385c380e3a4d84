"""`tnmt sql` decides on the parsed statement what it reads: closed schemas only with a reason, everything that is no table of the lake never."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from itertools import product

import duckdb
import pytest

from lake.lake import create, open_reader, open_writer
from lake.query import QueryRefused, _Look, query
from tnmt.settings import Settings

NOW = datetime(2026, 3, 25)
OPEN = [
    "lake.clean.t",
    "clean.t",
    "CLEAN.T",
    '"clean"."t"',
    "Lake.Clean.t",
    "lake.staging.v",
    "information_schema.tables",
    "clean.t AT (VERSION => {snapshot})",
]
CLOSED = [
    "lake.typed_closed.p", "typed_closed.p", "Typed_Closed.p", "TYPED_CLOSED.P", '"TYPED_CLOSED".p', '"typed_closed"."P"', 'lake."Typed_Closed".p',
    "LAKE.tYpEd_ClOsEd.p", "lake . typed_closed . p", "lake./* x */typed_closed.p", "raw_closed.file", "Quarantine_Closed.row", "lake.staging.leak", "STAGING.Leak",
    "typed_closed.p AT (VERSION => {snapshot})", "staging.leak_of_leak",
]  # fmt: skip
NEVER = [
    "__ducklake_metadata_lake.ducklake_file_column_stats", '"__DUCKLAKE_METADATA_LAKE".ducklake_table_column_stats', "__ducklake_metadata_lake.main.ducklake_data_file",
    "ducklake_list_files('lake', 'p', schema => 'typed_closed')", "ducklake_table_info('lake')", "ducklake_table_changes('lake', 'typed_closed', 'p', 0, 9)",
    "ducklake_snapshots('lake')", "ducklake_table_insertions('lake', 'typed_closed', 'p', 0, 9)", "read_parquet('{data}/typed_closed/p/*.parquet')",
    "'{data}/typed_closed/p/x.parquet'", '"{data}/x.parquet"', "read_text('/etc/passwd')", "glob('/*')", "sqlite_scan('{home}/lake/catalog.sqlite', 'ducklake_table')",
    "query('FROM typed_closed.p')", "query_table('typed_closed.p')", "duckdb_columns()", "duckdb_settings()", "duckdb_secrets()", "pragma_storage_info('p')",
    "sqlite_master", "duckdb_tables", "pg_catalog.pg_class", "system.main.duckdb_columns", "memory.main.x", "temp.main.x", "lake.main.nothing", "p", "t", "lake.p",
    "hidden", "raw_closed", "parquet_metadata('{data}/x.parquet')", "sniff_csv('/etc/passwd')", "json_execute_serialized_sql('x')", "which_secret('x', 's3')",
    "postgres_query('x', 'SELECT 1')", "st_read('/etc/passwd')", "read_blob('/etc/passwd')", "pragma_table_info('typed_closed.p')", "test_all_types()",
]  # fmt: skip
SHAPES = [
    "SELECT * FROM {t}", "FROM {t}", "WITH a AS (SELECT * FROM {t}) SELECT * FROM a", "WITH t AS (SELECT 1 AS n), z AS (SELECT * FROM {t}) SELECT * FROM z",
    "SELECT (SELECT count(*) FROM {t})", "SELECT 1 WHERE EXISTS (FROM {t})", "SELECT * FROM lake.clean.t AS o, LATERAL (SELECT count(*) FROM {t}) AS i",
    "SELECT n FROM lake.clean.t UNION ALL SELECT count(*) FROM {t}", "SELECT * FROM (SELECT * FROM (SELECT * FROM {t}))", "SELECT [x FOR x IN (SELECT list(n) FROM lake.clean.t)], (SELECT count(*) FROM {t})",
    "SELECT CASE WHEN (SELECT count(*) FROM {t}) > 0 THEN 1 END", "SELECT count(*) FILTER (n IN (SELECT count(*) FROM {t})) FROM lake.clean.t",
    "SELECT n, row_number() OVER (ORDER BY (SELECT count(*) FROM {t})) FROM lake.clean.t", "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r, (SELECT count(*) FROM {t}) WHERE i < 2) FROM r",
    "SELECT * FROM lake.clean.t ORDER BY (SELECT count(*) FROM {t})", "SELECT * FROM lake.clean.t LIMIT (SELECT count(*) FROM {t})", "VALUES ((SELECT count(*) FROM {t}))",
    "SELECT n FROM lake.clean.t GROUP BY ALL HAVING n >= (SELECT 0 * count(*) FROM {t})", "SELECT * FROM lake.clean.t POSITIONAL JOIN (SELECT 1 FROM {t})",
]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("closed") / "home")
    create(settings)
    with open_writer(settings, "test") as con:
        con.execute("CREATE TABLE lake.clean.t AS SELECT 1 AS n")
        con.execute("CREATE TABLE lake.typed_closed.p AS SELECT 1 AS n, 'Nguyễn Văn A' AS owner_name")
        con.execute("CREATE VIEW lake.staging.v AS SELECT * FROM lake.clean.t")
        con.execute("CREATE VIEW lake.staging.leak AS SELECT n FROM lake.typed_closed.p")
        con.execute("CREATE VIEW lake.staging.leak_of_leak AS SELECT n FROM lake.staging.leak")
    return settings


@pytest.fixture(scope="module")
def reader(small: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_reader(small) as con:
        con.execute("USE lake")
        yield con


def _statements(targets: list[str], small: Settings, snapshot: int, most: int) -> list[str]:
    values = {"snapshot": snapshot, "data": small.data_path.rstrip("/"), "home": small.home}
    # each target in each shape, of which as many as named, the same in every run
    made = [shape.format(t=target.format(**values)) for target, shape in product(targets, SHAPES)]
    return random.Random(14).sample(made, min(most, len(made)))


def test_hundreds_of_statements_are_judged_by_what_they_read(small: Settings, reader: duckdb.DuckDBPyConnection) -> None:
    snapshot = reader.execute("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')").fetchall()[0][0]
    look = _Look(reader)
    count = 0
    for statement in _statements(OPEN, small, snapshot, 100):
        assert look.closed(statement) == set(), statement
        reader.execute(statement).fetchall()
        count += 1
    for statement in _statements(CLOSED, small, snapshot, 220):
        assert look.closed(statement) & {"typed_closed", "raw_closed", "quarantine_closed"}, statement
        count += 1
    for statement in _statements(NEVER, small, snapshot, 250):
        with pytest.raises(QueryRefused):
            look.closed(statement)
            pytest.fail(f"let through: {statement}")
        count += 1
    assert count > 500


@pytest.mark.parametrize("statement", [
    "SUMMARIZE typed_closed.p", "DESCRIBE Typed_Closed.p", "SELECT * FROM (SUMMARIZE typed_closed.p)", "PIVOT typed_closed.p ON n", "SHOW typed_closed.p", "SUMMARIZE lake.typed_closed.p",
    "EXPLAIN ANALYZE SELECT * FROM typed_closed.p", "WITH duckdb_columns AS (SELECT 1) SELECT * FROM clean.t", "SELECT current_setting('s3_secret_access_key')",
    "SELECT getenv('HOME')", "SELECT read_text('/etc/passwd')", "SELECT 1; FROM typed_closed.p", "FROM typed_closed.p; SELECT 1", "USE typed_closed", "SET search_path = 'typed_closed'",
    "CREATE TABLE lake.clean.x AS FROM typed_closed.p", "CALL ducklake_table_info('lake')", "COPY typed_closed.p TO 'x'", "EXECUTE x", "UNPIVOT typed_closed.p ON n", "", ";",
])  # fmt: skip
def test_other_ways_in_are_refused(small: Settings, statement: str) -> None:
    with pytest.raises(QueryRefused):
        query(small, statement, now=NOW)


def test_a_reason_opens_the_closed_schemas_and_is_recorded_and_opens_nothing_else(small: Settings) -> None:
    assert query(small, 'SELECT owner_name FROM "Typed_Closed".P', now=NOW, closed_reason="kiểm tra")[1] == [("Nguyễn Văn A",)]
    assert query(small, "SELECT reason FROM ops.closed_access", now=NOW)[1] == [("kiểm tra",)]
    with pytest.raises(QueryRefused):
        query(small, "FROM __ducklake_metadata_lake.ducklake_file_column_stats", now=NOW, closed_reason="kiểm tra")
    with pytest.raises(QueryRefused, match="--closed"):
        query(small, "FROM staging.leak", now=NOW)


def test_a_variable_of_the_program_is_no_table(small: Settings) -> None:
    hidden = duckdb.sql("SELECT 1 AS secret")
    with pytest.raises(QueryRefused):
        query(small, "SELECT * FROM hidden", now=NOW)
    assert hidden is not None
