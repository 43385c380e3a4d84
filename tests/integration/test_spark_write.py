"""Rows of Spark come into the lake by one commit or not at all, and nothing of the way stays behind."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from lake.faults import SPARK_COMMIT
from lake.lake import LakeError, create, latest_snapshot, open_reader, open_writer
from lake.spark.read import read
from lake.spark.write import SparkFailed, stage, staging, staging_root, sweep, write
from tests.parity import difference
from tnmt.settings import ROOT, Settings
from tnmt.settings import settings as platform_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SOURCE = """
CREATE TABLE lake.clean.source AS
SELECT n::INTEGER AS id, (n * 37 % 1000)::DECIMAL(18, 6) / 7 AS x, CASE n % 5 WHEN 0 THEN 'nan'::DOUBLE WHEN 1 THEN NULL ELSE n / 3 END AS y,
    'Trạm ' || n AS name, TIMESTAMP '2024-02-28 23:59:59.999999' + n * INTERVAL 7 MINUTE AS at_time, DATE '2024-02-28' + (n % 9)::INTEGER AS day,
    n % 2 = 0 AS yes, CASE n % 3 WHEN 0 THEN NULL ELSE ST_MakeEnvelope(n, n, n + 1, n + 2) END AS shape
FROM range(500) AS s(n)
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", str(tmp_path_factory.mktemp("write") / "kho dữ liệu"))
        s = platform_settings()
        create(s)
        with open_writer(s, "test") as con:
            con.execute(SOURCE)
            con.execute("CREATE TABLE lake.clean.copy AS FROM lake.clean.source WHERE false")
            con.execute("ALTER TABLE lake.clean.copy SET PARTITIONED BY (month(day))")
        yield s


def _snapshot(s: Settings) -> int:
    with open_reader(s) as con:
        return latest_snapshot(con)


def _staged(s: Settings) -> list[Path]:
    root = Path(staging_root(s))
    return list(root.iterdir()) if root.is_dir() else []


def test_what_spark_read_it_writes(lake: Settings, spark: SparkSession) -> None:
    before = _snapshot(lake)
    assert write(spark, lake, read(spark, lake, "clean.source"), "clean.copy") == before + 1
    write(spark, lake, read(spark, lake, "clean.source").where("id < 100"), "clean.copy")
    with open_reader(lake) as con:
        con.execute("LOAD spatial")
        twice = "(FROM lake.clean.source UNION ALL FROM lake.clean.source WHERE id < 100)"
        assert difference(con, "lake.clean.copy", twice) is None
    write(spark, lake, read(spark, lake, "clean.source").where("id >= 400"), "clean.copy", replace=True)
    with open_reader(lake) as con:
        con.execute("LOAD spatial")
        assert difference(con, "lake.clean.copy", "(FROM lake.clean.source WHERE id >= 400)") is None
    assert read(spark, lake, "clean.copy").count() == 100
    assert _staged(lake) == []


def test_columns_may_stand_in_any_order_and_none_may_be_missing(lake: Settings, spark: SparkSession) -> None:
    df = read(spark, lake, "clean.source")
    before = _snapshot(lake)
    with pytest.raises(SparkFailed, match=r"expected the columns id, x, .*: name stand on one side only"):
        write(spark, lake, df.drop("name"), "clean.copy")
    with pytest.raises(SparkFailed, match=r"id INTEGER \(Spark: string\).*a cast would hide it|a cast would hide it: id INTEGER \(Spark: string\)"):
        write(spark, lake, df.withColumn("id", df.id.cast("string")), "clean.copy")
    with pytest.raises(SparkFailed, match=r"x DECIMAL\(18,6\)|x DOUBLE"):
        write(spark, lake, df.withColumn("x", df.name), "clean.copy")
    with pytest.raises(LakeError, match=r"there is no table clean.nothing to write to; make it with DuckDB"):
        write(spark, lake, df, "clean.nothing")
    assert _snapshot(lake) == before
    write(spark, lake, df.select(*reversed(df.columns)), "clean.copy", replace=True)
    with open_reader(lake) as con:
        con.execute("LOAD spatial")
        assert difference(con, "lake.clean.copy", "lake.clean.source") is None
    assert _staged(lake) == []


def test_a_row_that_the_table_refuses_leaves_the_lake_as_it_was(lake: Settings, spark: SparkSession) -> None:
    with open_writer(lake, "test") as con:
        con.execute("CREATE TABLE lake.clean.strict (id INTEGER NOT NULL, x DECIMAL(4, 1))")
    before = _snapshot(lake)
    with pytest.raises(duckdb.ConstraintException):
        write(spark, lake, spark.sql("SELECT explode(array(1, NULL)) AS id, CAST(1 AS DECIMAL(4, 1)) AS x"), "clean.strict")
    with pytest.raises(duckdb.ConversionException):  # too wide for the table
        write(spark, lake, spark.sql("SELECT 1 AS id, CAST(123456 AS DECIMAL(9, 1)) AS x"), "clean.strict")
    with pytest.raises(SparkFailed, match="DIVIDE_BY_ZERO"):
        write(spark, lake, spark.sql("SELECT 1 DIV (id - id) AS id, CAST(1 AS DECIMAL(4, 1)) AS x FROM range(3)"), "clean.strict")
    assert _snapshot(lake) == before
    assert _staged(lake) == []


def test_no_rows_and_values_at_the_edges(lake: Settings, spark: SparkSession) -> None:
    with open_writer(lake, "test") as con:
        con.execute("CREATE TABLE lake.clean.edge (big BIGINT, wide DECIMAL(38, 6), at_time TIMESTAMP, moment TIMESTAMPTZ, nothing INTEGER)")
    query = """
        SELECT 9223372036854775807 AS big, CAST('99999999999999999999999999999999.999999' AS DECIMAL(38, 6)) AS wide,
            TIMESTAMP_NTZ '2024-03-01 00:00:00.000001' AS at_time, TIMESTAMP_LTZ '2024-03-01 07:00:00+07:00' AS moment, NULL AS nothing"""
    write(spark, lake, spark.sql(query), "clean.edge")
    write(spark, lake, spark.sql(f"SELECT * FROM ({query}) WHERE big < 0"), "clean.edge")
    with open_reader(lake) as con:
        found = con.execute("SELECT big, wide, at_time, epoch_us(moment), nothing FROM lake.clean.edge").fetchall()
    moment = 1709251200000000
    assert found == [(2**63 - 1, Decimal("9" * 32 + ".999999"), datetime(2024, 3, 1, 0, 0, 0, 1), moment, None)]


def test_a_file_that_goes_while_it_is_read(lake: Settings, spark: SparkSession) -> None:
    with open_writer(lake, "test") as con:
        con.execute("CREATE TABLE lake.clean.gone AS SELECT n AS id FROM range(1000) AS s(n)")
    df = read(spark, lake, "clean.gone")
    files = list((Path(lake.data_path) / "clean" / "gone").rglob("*.parquet"))
    assert files
    for file in files:
        file.unlink()
    before = _snapshot(lake)
    with (
        staging(spark, lake) as place,
        pytest.raises(SparkFailed, match=r"a data file was removed while it was read .*run again, or pin the snapshot"),
    ):
        stage(df, place, {"id": "BIGINT"})
    assert _snapshot(lake) == before
    assert _staged(lake) == []


CHILD = """
from lake.spark.read import session
from lake.spark.write import SparkFailed, write
from tnmt.settings import settings
s = settings()
spark = session(s, conf={"spark.driver.memory": "1g", "spark.sql.shuffle.partitions": "1", "spark.executor.heartbeatInterval": "3600s", "spark.network.timeout": "7200s"})
try:
    write(spark, s, spark.sql("SELECT CAST(id AS INT) AS id, sha2(CAST(id AS STRING), 512) AS text FROM range(40000)"), "clean.child")
except SparkFailed as error:
    print("FAILED", error)
"""


def _child(s: Settings, **extra: str) -> subprocess.CompletedProcess[str]:
    def small() -> None:
        if "full" in extra:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    environment = {**os.environ, "TNMT_HOME": str(s.home), **{k: v for k, v in extra.items() if k.isupper()}}
    return subprocess.run([sys.executable, "-c", CHILD], cwd=ROOT, env=environment, preexec_fn=small, capture_output=True, text=True, check=False)


def test_a_driver_killed_between_staging_and_commit(lake: Settings, spark: SparkSession) -> None:
    with open_writer(lake, "test") as con:
        con.execute("CREATE TABLE lake.clean.child (id INTEGER, text VARCHAR)")
    before = _snapshot(lake)
    assert _child(lake, TNMT_KILL_AT=SPARK_COMMIT).returncode == -9
    assert _snapshot(lake) == before
    left = _staged(lake)
    assert len(left) == 1
    assert list(left[0].rglob("*.parquet"))
    with staging(spark, lake) as place:  # what lives is left alone, by any process
        assert _staged(lake) == [Path(place)]
        assert sweep(lake) == []
        assert Path(place).is_dir()
    assert _staged(lake) == []


def test_a_full_disk_in_staging(lake: Settings) -> None:
    """A limit on the size of files stands for a full disk: every write beyond it fails."""
    with open_writer(lake, "test") as con:
        con.execute("CREATE TABLE IF NOT EXISTS lake.clean.child (id INTEGER, text VARCHAR)")
    before = _snapshot(lake)
    done = _child(lake, full="yes")
    assert "FAILED the disk of the staged rows is full" in done.stdout, done.stdout + done.stderr[-3000:]
    assert "TNMT_SPARK_STAGING" in done.stdout
    assert _snapshot(lake) == before
    assert _staged(lake) == []


def test_a_catalog_that_does_not_answer(lake: Settings, spark: SparkSession) -> None:
    away = lake.model_copy(update={"catalog": "postgres:host=127.0.0.1 port=1 dbname=lake user=x password=bi-mat connect_timeout=2"})
    with pytest.raises(LakeError, match="the catalog of the lake cannot be opened") as refused:
        write(spark, away, spark.range(1), "clean.child")
    assert "bi-mat" not in str(refused.value)
