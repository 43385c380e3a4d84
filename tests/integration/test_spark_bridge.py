"""Spark reads what DuckDB reads, at every snapshot of any history, or says by name why it does not."""

from __future__ import annotations

import functools
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import hypothesis
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from lake.lake import create, latest_snapshot, open_reader, open_writer
from lake.spark.plan import SPARK_TYPES, Column, DataFile, DeleteFile, Plan, Reason, Refused, plan
from lake.spark.read import READS, SparkMissing, frame, read
from tests.examples import examples
from tests.postgres_kit import Server
from tnmt.settings import Settings
from tnmt.settings import settings as platform_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One lake for the module; each test has tables of its own name in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", str(tmp_path_factory.mktemp("bridge") / "kho dữ liệu"))  # a path as people make them
        s = platform_settings()
        create(s)
    return s


@pytest.fixture(scope="module", autouse=True)
def zone() -> Iterator[None]:
    """The machine's own zone is that of Viet Nam."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Ho_Chi_Minh"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def _write(s: Settings, *statements: str) -> int:
    """Runs the statements, each a commit, and returns the newest snapshot."""
    with open_writer(s, "test") as con:
        for statement in statements:
            con.execute(statement)
        return latest_snapshot(con)


def _duck(lake: Settings | duckdb.DuckDBPyConnection, statement: str) -> tuple[list[str], list[tuple]]:
    if isinstance(lake, Settings):
        with open_reader(lake) as con:
            con.execute("LOAD spatial")
            return _duck(con, statement)
    result = lake.execute(statement)
    return [d[0] for d in result.description], result.fetchall()


def _sorted(rows: list[tuple]) -> list[tuple]:
    """Rows in an order that NULL and NaN have a place in; NaN becomes equal to itself."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and math.isnan(value):
            return "NaN"
        return bytes(value) if isinstance(value, bytearray) else value

    return sorted((tuple(plain(v) for v in row) for row in rows), key=repr)


def _same(df: DataFrame, lake: Settings | duckdb.DuckDBPyConnection, statement: str) -> int:
    """Asserts the same column names, rows, count and sum of ids; returns the number of rows."""
    names, rows = _duck(lake, statement)
    assert df.columns == names
    assert _sorted([tuple(r) for r in df.collect()]) == _sorted(rows)
    if "id" in names:
        ids = [r[names.index("id")] for r in rows if r[names.index("id")] is not None]
        # other columns are pruned here: another way through the reader
        counted = df.selectExpr("count(*)", "count(id)", "sum(id)").collect()[0]
        assert tuple(counted) == (len(rows), len(ids), sum(ids) if ids else None)
    return len(rows)


# histories

KINDS = {
    "INTEGER": "'7'",
    "BIGINT": "'8'",
    "VARCHAR": "'it''s'",
    "DOUBLE": "'0.1'",
    "DECIMAL(9,2)": "'1.50'",
    "DATE": "'2025-02-28'",
    "TIMESTAMP": "'2025-02-28 23:59:59.5'",
}
"""Types of columns, and the default that an added one may have (DuckLake takes literals only)."""

VALUE = {
    "INTEGER": "(r * 7 % 100)::INTEGER",
    "BIGINT": "r * 10000000000",
    "VARCHAR": "'Trạm ' || r",
    "DOUBLE": "CASE WHEN r % 11 = 0 THEN 'nan'::DOUBLE ELSE r / 3 END",
    "DECIMAL(9,2)": "(r / 8)::DECIMAL(9,2)",
    "DATE": "DATE '1999-12-31' + r::INTEGER",
    "TIMESTAMP": "TIMESTAMP '2025-01-01' + r * INTERVAL 17 MINUTE",
}

STEP = st.one_of(
    st.tuples(st.just("insert"), st.integers(1, 40)),
    st.tuples(st.just("insert"), st.integers(1, 5)),
    st.tuples(st.just("update"), st.integers(2, 9)),
    st.tuples(st.just("delete"), st.integers(2, 9)),
    st.tuples(st.just("merge"), st.integers(1, 30)),
    st.tuples(st.just("add"), st.sampled_from(sorted(KINDS)), st.booleans()),
    st.tuples(st.just("rename"), st.integers(0, 9)),
    st.tuples(st.just("drop"), st.integers(0, 9)),
    st.tuples(st.just("widen")),
    st.tuples(st.just("rewrite")),
    st.tuples(st.just("compact")),
)


@dataclass
class History:
    """A table and what is done to it; `columns` are those besides `id`, by name with their types."""

    con: duckdb.DuckDBPyConnection
    table: str
    columns: dict[str, str] = field(default_factory=lambda: {"k": "INTEGER", "v": "DOUBLE"})
    next_id: int = 0
    next_name: int = 0
    partitioned: bool = False

    @property
    def _name(self) -> str:
        return f"lake.clean.{self.table}"

    def _run(self, statements: list[str]) -> list[int]:
        """Runs the statements and returns the snapshot after each."""
        made = []
        for statement in statements:
            self.con.execute(statement)
            made.append(latest_snapshot(self.con))
        return made

    def begin(self, *, partitioned: bool, inlining: bool) -> list[int]:
        statements = [f"CREATE TABLE {self._name} (id BIGINT, {', '.join(f'{c} {t}' for c, t in self.columns.items())})"]
        self.partitioned = partitioned
        if partitioned:
            statements.append(f"ALTER TABLE {self._name} SET PARTITIONED BY (k)")
            self.columns.pop("k")  # a partition column stays as it is: DuckLake refuses to drop it
        if inlining:
            statements.append(f"CALL lake.set_option('data_inlining_row_limit', 6, schema => 'clean', table_name => '{self.table}')")
        return self._run(statements)

    def _select(self, first: int, rows: int, *, every: int = 1) -> str:
        chosen = ", ".join(f"CASE WHEN r % 5 = 3 THEN NULL ELSE {VALUE[t]} END AS {c}" for c, t in self.columns.items())
        key = ", (r % 3)::INTEGER AS k" if self.partitioned else ""
        return f"SELECT r AS id{key}{', ' if chosen else ''}{chosen} FROM range({first}, {first + rows * every}, {every}) AS t(r)"

    def step(self, kind: str, *what: Any) -> list[int]:
        statements = []
        names = list(self.columns)
        if kind == "insert":
            statements.append(f"INSERT INTO {self._name} BY NAME {self._select(self.next_id, what[0])}")
            self.next_id += what[0]
        elif kind == "update" and names:
            column = names[what[0] % len(names)]
            statements.append(
                f"UPDATE {self._name} AS t SET {column} = u.{column} FROM ({self._select(1, self.next_id + 1)}) AS u WHERE t.id + 1 = u.id AND t.id % {what[0]} = 1"
            )
        elif kind == "delete":
            statements.append(f"DELETE FROM {self._name} WHERE id % {what[0]} = 0")
        elif kind == "merge":
            statements.append(
                f"MERGE INTO {self._name} AS t USING ({self._select(max(self.next_id - 10, 0), what[0])}) AS u ON t.id = u.id "
                "WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME"
            )
            self.next_id = max(self.next_id, max(self.next_id - 10, 0) + what[0])
        elif kind == "add":
            column = f"Cột mới {self.next_name}" if what[1] else f"c{self.next_name}"
            self.next_name += 1
            column = f'"{column}"'
            self.columns[column] = what[0]
            statements.append(f"ALTER TABLE {self._name} ADD COLUMN {column} {what[0]}{' DEFAULT ' + KINDS[what[0]] if what[1] else ''}")
        elif kind == "rename" and names:
            old, new = names[what[0] % len(names)], f"r{self.next_name}"
            self.next_name += 1
            self.columns = {new if c == old else c: t for c, t in self.columns.items()}
            statements.append(f"ALTER TABLE {self._name} RENAME COLUMN {old} TO {new}")
        elif kind == "drop" and len(names) > 1:
            old = names[what[0] % len(names)]
            del self.columns[old]
            statements.append(f"ALTER TABLE {self._name} DROP COLUMN {old}")
        elif kind == "widen" and "INTEGER" in self.columns.values():
            old = next(c for c, t in self.columns.items() if t == "INTEGER")
            self.columns[old] = "BIGINT"
            statements.append(f"ALTER TABLE {self._name} ALTER COLUMN {old} SET DATA TYPE BIGINT")
        elif kind == "rewrite":
            statements.append(f"CALL ducklake_rewrite_data_files('lake', '{self.table}', schema => 'clean', delete_threshold => 0)")
        elif kind == "compact":  # small files of several snapshots become one
            for _ in range(2):
                statements.append(f"INSERT INTO {self._name} BY NAME {self._select(self.next_id, 9)}")
                self.next_id += 9
            statements.append(f"CALL ducklake_merge_adjacent_files('lake', '{self.table}', schema => 'clean')")
        return self._run(statements)


def _snapshots(spark: SparkSession, lake: Settings, table: str, steps: list[tuple], *, partitioned: bool, inlining: bool = False) -> Counter[str]:
    """Makes a history and compares every snapshot of it: how many were read, how many of those tried what, and how many were refused why."""
    tally: Counter[str] = Counter()
    with open_writer(lake, "test") as con:
        # DuckLake of DuckDB 1.5.5 cannot flush an inlined DOUBLE on SQLite (isnan(VARCHAR)), nor inlined rows older than a column
        history = History(con, table, {"k": "INTEGER", "v": "DECIMAL(9,2)" if inlining else "DOUBLE"})
        snapshots = {*history.begin(partitioned=partitioned, inlining=inlining), *history.step("insert", 30)}
        for step in steps:
            snapshots.update(history.step(*step))
    with open_reader(lake) as con:
        for n in sorted(snapshots):
            try:
                planned = plan(lake, f"clean.{table}", snapshot=n)
            except Refused as refused:
                tally[refused.reason] += 1
                continue
            _same(frame(spark, planned), con, f"FROM lake.clean.{table} AT (VERSION => {n})")
            tally["read"] += 1
            tally["lacking a column"] += any(f.lacks for f in planned.files)
            tally["later rows"] += any(f.later for f in planned.files)
            tally["later deletes"] += any(f.deletes and f.deletes.later for f in planned.files)
    return tally


STEPS = st.builds(
    lambda steps, kind, at, then: [*steps[:at], ("add", kind, True), *steps[at : at + then], ("compact",), *steps[at + then :]],
    st.lists(STEP, min_size=3, max_size=7),
    st.sampled_from(sorted(KINDS)),
    st.integers(0, 3),
    st.integers(0, 3),
)
"""Somewhere in every history a column with a default is added, and later small files are merged."""


def test_every_snapshot_of_any_history_is_read_as_duckdb_reads_it(spark: SparkSession, lake: Settings) -> None:
    """Of what the lake writes, which never inlines, nothing is refused."""
    tally: Counter[str] = Counter()
    tables = iter(range(10**6))

    @hypothesis.settings(examples(7), phases=[Phase.generate])  # shrinking would run hundreds of histories; the failing one is printed whole
    @given(STEPS, st.booleans())
    def equal(steps: list[tuple], partitioned: bool) -> None:
        table = f"history_{next(tables)}"
        tally.update(_snapshots(spark, lake, table, steps, partitioned=partitioned))
        pruned = read(spark, lake, f"clean.{table}", where=[("id", ">=", 12), ("id", "<", 33)])
        _same(pruned, lake, f"FROM lake.clean.{table} WHERE id >= 12 AND id < 33")

    equal()
    print(dict(tally))
    assert set(tally) == {"read", "lacking a column", "later rows", "later deletes"}, tally
    assert min(tally.values()) > 0, f"not tried at all: {tally}"


def test_what_another_writer_inlined_is_refused_or_right_and_readable_once_flushed(spark: SparkSession, lake: Settings) -> None:
    tally: Counter[str] = Counter()
    tables = iter(range(10**6))

    @hypothesis.settings(examples(3), phases=[Phase.generate])
    @given(
        STEPS.map(lambda steps: [("delete", 7), ("insert", 4), *(s for s in steps if s[0] not in ("add", "rename", "drop", "widen"))]), st.booleans()
    )
    def equal(steps: list[tuple], partitioned: bool) -> None:
        table = f"inlined_{next(tables)}"
        tally.update(_snapshots(spark, lake, table, steps, partitioned=partitioned, inlining=True))
        _write(lake, f"CALL ducklake_flush_inlined_data('lake', schema_name => 'clean', table_name => '{table}')")
        _same(read(spark, lake, f"clean.{table}"), lake, f"FROM lake.clean.{table}")

    equal()
    print(dict(tally))
    assert set(tally) <= {"read", "lacking a column", "later rows", "later deletes", Reason.INLINED_ROWS, Reason.INLINED_DELETES}, tally
    assert tally[Reason.INLINED_ROWS] and tally[Reason.INLINED_DELETES] and tally["read"], tally


def test_merged_files_are_read_as_of_their_snapshots(spark: SparkSession, lake: Settings) -> None:
    t = "lake.clean.merged"
    snapshots = [_write(lake, f"CREATE TABLE {t} (id INTEGER)")]
    snapshots += [_write(lake, f"INSERT INTO {t} FROM range({n * 10}, {n * 10 + 10})") for n in range(4)]
    snapshots += [_write(lake, f"DELETE FROM {t} WHERE id % 10 = {n}") for n in range(3)]
    snapshots.append(_write(lake, "CALL ducklake_rewrite_data_files('lake', 'merged', schema => 'clean', delete_threshold => 0)"))
    snapshots += [_write(lake, f"INSERT INTO {t} FROM range({n * 10}, {n * 10 + 10})") for n in (4, 5)]
    snapshots.append(_write(lake, "CALL ducklake_merge_adjacent_files('lake', 'merged', schema => 'clean')"))
    planned = [plan(lake, "clean.merged", snapshot=n) for n in snapshots]
    assert any(f.later for p in planned for f in p.files), "no merged file at an old snapshot: nothing was tried"
    assert any(f.deletes and f.deletes.later for p in planned for f in p.files), "no merged delete file at an old snapshot: nothing was tried"
    counts = [_same(frame(spark, p), lake, f"FROM lake.clean.merged AT (VERSION => {p.snapshot})") for p in planned]
    assert counts == [0, 10, 20, 30, 40, 36, 32, 28, 28, 38, 48, 48]


def test_files_whose_names_hash_alike_keep_their_own_deletes(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.sql import functions as F

    alike = spark.range(400_000).selectExpr("concat('ducklake-', id, '.parquet') AS name").selectExpr("name", "hash(name) AS h")
    names = alike.groupBy("h").agg(F.collect_list("name").alias("names")).where("size(names) = 2").first()["names"]
    with duckdb.connect() as con:
        for i, name in enumerate(names):
            con.execute(f"COPY (SELECT i AS id FROM range({i * 10}, {i * 10 + 10}) AS r(i)) TO '{tmp_path / name}' (FIELD_IDS {{id: 1}})")
            con.execute(f"COPY (SELECT '{name}' AS file_path, {i + 3}::BIGINT AS pos) TO '{tmp_path / f'{i}-delete.parquet'}'")
    files = tuple(
        DataFile(str(tmp_path / name), 10, False, DeleteFile(str(tmp_path / f"{i}-delete.parquet"), 1, False), ()) for i, name in enumerate(names)
    )
    planned = Plan("clean.alike", 1, (Column(1, "id", "int64", None),), ("id",), (), files, 2)
    assert sorted(r.id for r in frame(spark, planned).collect()) == [i for i in range(20) if i not in (3, 14)]


# types and times


TYPED: dict[str, tuple[str, str]] = {
    "boolean": ("BOOLEAN", "true"),
    "int8": ("TINYINT", "-128"),
    "int16": ("SMALLINT", "-32768"),
    "int32": ("INTEGER", "-2147483648"),
    "int64": ("BIGINT", "-9223372036854775808"),
    "uint8": ("UTINYINT", "255"),
    "uint16": ("USMALLINT", "65535"),
    "uint32": ("UINTEGER", "4294967295"),
    "float32": ("FLOAT", "0.1"),
    "float64": ("DOUBLE", "'nan'"),
    "varchar": ("VARCHAR", "'Trạm quan trắc''\n'"),
    "json": ("JSON", "'{\"a\": 1}'"),
    "blob": ("BLOB", "'\\x00\\xFF'"),
    "date": ("DATE", "'1500-02-28'"),
    "timestamp": ("TIMESTAMP", "'1890-01-01 00:00:00.000001'"),
    "decimal(9,2)": ("DECIMAL(9,2)", "-1234567.89"),
    "decimal(18,6)": ("DECIMAL(18,6)", "123456789012.345678"),
    "decimal(38,10)": ("DECIMAL(38,10)", "1234567890123456789012345678.0123456789"),
}


def test_every_type_comes_as_it_is(spark: SparkSession, lake: Settings) -> None:
    assert {*TYPED, "timestamptz", "geometry"} >= set(SPARK_TYPES), "a type is mapped that no test reads"
    columns = ", ".join(f"c{i} {kind}" for i, (kind, _) in enumerate(TYPED.values()))
    nulls = ", ".join("NULL" for _ in TYPED)
    _write(
        lake,
        f"CREATE TABLE lake.clean.typed ({columns})",
        f"INSERT INTO lake.clean.typed VALUES ({', '.join(v for _, v in TYPED.values())}), ({nulls})",
    )
    df = read(spark, lake, "clean.typed")
    _same(df, lake, "FROM lake.clean.typed")
    assert {c.type for c in plan(lake, "clean.typed").columns} == set(TYPED)
    assert [k for _, k in df.dtypes] == [SPARK_TYPES.get(k, k) for k in TYPED]


def test_predicates_of_every_kind_keep_the_rows_that_duckdb_keeps(spark: SparkSession, lake: Settings) -> None:
    _write(
        lake,
        "CREATE TABLE lake.clean.compared (id INTEGER, x DOUBLE, f FLOAT, n DECIMAL(9,2), s VARCHAR, d DATE, t TIMESTAMP)",
        *[
            f"INSERT INTO lake.clean.compared SELECT r, CASE WHEN r % 4 = 0 THEN 'nan'::DOUBLE ELSE r / 10 END, r / 10, r / 4, repeat('x', 254 + r % 4) || r, "
            f"DATE '2025-01-01' + r::INTEGER, TIMESTAMP '2025-01-01' + r * INTERVAL 1 HOUR FROM range({n}, {n + 6}) AS t(r)"
            for n in range(0, 24, 6)
        ],
        "INSERT INTO lake.clean.compared (id) VALUES (99)",
    )
    for column, value, literal in (
        ("id", 7, "7"),
        ("x", 0.7, "0.7::DOUBLE"),
        ("f", 0.7, "0.7::DOUBLE"),
        ("n", Decimal("1.75"), "1.75"),
        ("s", "x" * 255 + "7", f"'{'x' * 255}7'"),
        ("d", date(2025, 1, 8), "DATE '2025-01-08'"),
        ("t", datetime(2025, 1, 1, 7), "TIMESTAMP '2025-01-01 07:00:00'"),
    ):
        ops = ("=", "<", "<=", ">", ">=")
        kept = [read(spark, lake, "clean.compared", columns=["id"], where=[(column, op, value)]).selectExpr(f"'{op}' AS op", "id") for op in ops]
        ours = " UNION ALL ".join(f"SELECT '{op}' AS op, id FROM lake.clean.compared WHERE {column} {op} {literal}" for op in ops)
        _same(functools.reduce(lambda a, b: a.unionAll(b), kept), lake, ours)


def test_times_have_no_zone_and_instants_keep_theirs(spark: SparkSession, lake: Settings) -> None:
    """The machine's zone (here that of Viet Nam) has no part in it, nor has the calendar of before 1582."""
    _write(
        lake,
        "CREATE TABLE lake.clean.times (id INTEGER, wall TIMESTAMP, day DATE, instant TIMESTAMPTZ)",
        "INSERT INTO lake.clean.times VALUES (1, '2025-06-30 23:45:00', '2025-06-30', '2025-06-30 23:45:00+07'::VARCHAR::TIMESTAMPTZ), "
        "(2, '1582-10-04 00:00:01', '1582-10-04', '1582-10-04 00:00:01+00'::VARCHAR::TIMESTAMPTZ), (3, '1943-01-01 00:00:00', '0001-01-01', NULL)",
    )
    found = (
        read(spark, lake, "clean.times")
        .selectExpr("id", "cast(wall as string)", "hour(wall)", "cast(day as string)", "unix_micros(instant)")
        .orderBy("id")
    )
    _, rows = _duck(lake, "SELECT id, wall::VARCHAR, hour(wall), day::VARCHAR, epoch_us(instant) FROM lake.clean.times ORDER BY id")
    assert [tuple(r) for r in found.collect()] == rows
    assert rows[0][4] == 1751301900000000  # 16:45 UTC


def test_geometry_is_the_same_shape(spark: SparkSession, lake: Settings) -> None:
    _write(
        lake,
        "CREATE TABLE lake.clean.parcel (id INTEGER, shape GEOMETRY, area DOUBLE)",
        "INSERT INTO lake.clean.parcel SELECT r, ST_Buffer(ST_Point(550000 + r * 13.7, 1280000 + r), 10 + r / 7), NULL FROM range(200) AS t(r)",
        "INSERT INTO lake.clean.parcel VALUES (500, NULL, NULL), (501, ST_GeomFromText('POLYGON EMPTY'), NULL), "
        "(502, ST_GeomFromText('MULTIPOLYGON(((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 2,1 1)),((9 9,10 9,10 10,9 9)))'), NULL)",
        "ALTER TABLE lake.clean.parcel RENAME COLUMN shape TO geom",
        "DELETE FROM lake.clean.parcel WHERE id % 10 = 0 AND id < 500",
    )
    df = read(spark, lake, "clean.parcel")
    _same(
        df.selectExpr("id", "ST_AsBinary(geom) AS wkb", "ST_Area(geom) AS area", "ST_IsValid(geom) AS valid"),
        lake,
        "SELECT id, ST_AsWKB(geom) AS wkb, ST_Area(geom) AS area, ST_IsValid(geom) AS valid FROM lake.clean.parcel",
    )
    df.createOrReplaceTempView("parcel")
    joined = spark.sql(
        "SELECT count(*), sum(ST_Area(ST_Intersection(a.geom, b.geom))) FROM parcel a JOIN parcel b ON ST_Intersects(a.geom, b.geom) AND a.id < b.id"
    ).collect()[0]
    ours = _duck(
        lake,
        "SELECT count(*), sum(ST_Area(ST_Intersection(a.geom, b.geom))) FROM lake.clean.parcel a JOIN lake.clean.parcel b ON ST_Intersects(a.geom, b.geom) AND a.id < b.id",
    )[1][0]
    assert joined[0] == ours[0] > 100 and joined[1] == pytest.approx(ours[1], rel=1e-9)


# what may not be read


def test_a_file_that_goes_between_plan_and_read_is_named(spark: SparkSession, lake: Settings) -> None:
    _write(lake, "CREATE TABLE lake.clean.gone (id INTEGER)", "INSERT INTO lake.clean.gone FROM range(10)")
    planned = plan(lake, "clean.gone")
    Path(planned.files[0].path).unlink()
    with pytest.raises(Refused, match="a file of the plan is gone") as refused:
        frame(spark, planned)
    assert refused.value.reason is Reason.FILE_MISSING


def test_a_session_that_would_misread_is_refused(spark: SparkSession, lake: Settings) -> None:
    _write(lake, "CREATE TABLE lake.clean.session (id INTEGER)", "INSERT INTO lake.clean.session FROM range(10)")
    key = "spark.sql.parquet.fieldId.read.enabled"
    spark.conf.set(key, "false")
    try:
        with pytest.raises(SparkMissing, match=rf"{key}.* lake.spark.read.session"):
            read(spark, lake, "clean.session")
    finally:
        spark.conf.set(key, READS[key])
    assert read(spark, lake, "clean.session").count() == 10


# the other catalog


def test_postgres_catalog_is_read_alike(spark: SparkSession, postgres: Server, tmp_path: Path) -> None:
    postgres.execute("CREATE DATABASE bridge_catalog")
    s = Settings(home=tmp_path / "home", catalog=f"postgres:{postgres.dsn('bridge_catalog')}")
    create(s)
    with open_writer(s, "test") as con:
        history = History(con, "t")
        snapshots = set(history.begin(partitioned=True, inlining=False))
        for step in (
            ("insert", 30),
            ("insert", 10),
            ("delete", 3),
            ("add", "VARCHAR", True),
            ("rename", 0),
            ("delete", 4),
            ("merge", 20),
            ("compact",),
            ("insert", 5),
        ):
            snapshots.update(history.step(*step))
    for n in sorted(snapshots):
        _same(read(spark, s, "clean.t", snapshot=n), s, f"FROM lake.clean.t AT (VERSION => {n})")
    pruned = plan(s, "clean.t", where=[("id", ">", 48)])
    assert len(pruned.files) < pruned.total
    _same(frame(spark, pruned), s, "FROM lake.clean.t WHERE id > 48")
    with pytest.raises(Refused, match="no table"):
        plan(s, "clean.nothing")
