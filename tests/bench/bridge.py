"""Our side past one machine: reading and writing the lake with Spark beside Spark on files, and the models that opted in on either engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.ingest import ingest
from lake.lake import create, open_reader, open_writer, transaction
from lake.spark.plan import plan
from lake.spark.read import read, session
from lake.spark.write import write
from simulator.sample import generate
from simulator.size import SIZES
from tests.bench import marts
from tests.bench.measure import Clock, cold_and_warm, main
from tests.many_files import fill_catalog
from tests.parity import Marts, newest
from tnmt.settings import settings

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import DataFrame, SparkSession

TABLE = "clean.bench_telemetry"
STATIONS = 24
COLUMNS = "station_id VARCHAR, parameter VARCHAR, measured_at TIMESTAMP, value DECIMAL(18, 6), status TINYINT"
ROWS = """
INSERT INTO lake.{table} BY NAME
SELECT 'ST' || lpad((i % {stations})::VARCHAR, 3, '0') AS station_id, ['PM10', 'SO2', 'NO2', 'CO', 'O3'][1 + i // {stations} % 5] AS parameter,
    TIMESTAMP '2025-01-01' + to_microseconds((i * (365 * 86400000000 // {rows}))::BIGINT) AS measured_at,
    (hash(i) % 100000 / 1000)::DECIMAL(18, 6) AS value, (hash(i, 1) % 3)::TINYINT AS {status}{unit}
FROM range({first}, {last}) AS r(i)
"""
READS = {
    "whole": (),
    "half": (("measured_at", ">=", datetime(2025, 7, 1)),),
    "month": (("measured_at", ">=", datetime(2025, 9, 1)), ("measured_at", "<", datetime(2025, 10, 1))),
}
"""Of the table: all of it; half a year without deletes; a month of it."""
SUMS = "count(*) AS rows, sum(value) AS total, sum(quality) AS quality, max(measured_at) AS last, count(unit) AS units"


def fill(rows: int) -> dict[str, Any]:
    """A year of telemetry by month: eleven months, a column renamed, one added with a default, the last month, and one reading of a hundred of June deleted."""
    s = settings()
    create(s)
    eleven = rows * 11 // 12
    with open_writer(s, "bench") as con:
        con.execute(f"CREATE TABLE lake.{TABLE} ({COLUMNS})")
        con.execute(f"ALTER TABLE lake.{TABLE} SET PARTITIONED BY (year(measured_at), month(measured_at))")
        con.execute(ROWS.format(table=TABLE, stations=STATIONS, rows=rows, first=0, last=eleven, status="status", unit=""))
        con.execute(f"ALTER TABLE lake.{TABLE} RENAME COLUMN status TO quality")
        con.execute(f"ALTER TABLE lake.{TABLE} ADD COLUMN unit VARCHAR DEFAULT 'mg/l'")
        con.execute(ROWS.format(table=TABLE, stations=STATIONS, rows=rows, first=eleven, last=rows, status="quality", unit=", 'µg/m³' AS unit"))
        con.execute(f"DELETE FROM lake.{TABLE} WHERE month(measured_at) = 6 AND hash(station_id, measured_at) % 100 = 0")
    planned = plan(s, TABLE)
    return {"rows": rows, "files": len(planned.files), "deletes": sum(f.deletes.rows for f in planned.files if f.deletes)}


def reads(side: str, warm: int) -> dict[str, Any]:
    """Sums of `READS` by `bridge` (`lake.spark.read.read`), `files` (Spark's Parquet reader on the files of the table, their ids given) or `duckdb`."""
    s = settings()
    clock = Clock()
    spark = None if side == "duckdb" else session(s)
    con = open_reader(s)
    used: dict[str, Any] = {"starting": round(clock.stop()["seconds"], 3)}
    if side == "bridge":
        began = time.perf_counter()
        plan(con, TABLE)
        used["planning"] = round(time.perf_counter() - began, 3)
    for name, where in READS.items():
        if spark is None:
            run = partial(_by_duckdb, con, " AND ".join(f"{c} {op} TIMESTAMP '{v}'" for c, op, v in where) or "true")
        else:
            run = partial(_by_bridge, spark, con, where) if side == "bridge" else _on_files(spark, where)
        figures, row = cold_and_warm(run, [Path(s.data_path)], warm, spark.sparkContext._gateway.proc.pid if spark else None)
        used[name] = {**figures, "answer": [str(v) for v in row]}
    if spark:
        spark.stop()
    return used


def _by_duckdb(con: duckdb.DuckDBPyConnection, where: str) -> Any:
    return con.execute(f"SELECT {SUMS} FROM lake.{TABLE} WHERE {where}").fetchall()[0]


def _by_bridge(spark: SparkSession, con: duckdb.DuckDBPyConnection, where: tuple[Any, ...]) -> Any:
    return _sums(read(spark, con, TABLE, where=where))


def _sums(df: DataFrame) -> Any:
    from pyspark.sql import functions as F

    return df.agg(*[F.expr(e) for e in SUMS.split(", ")]).collect()[0]


def _on_files(spark: SparkSession, where: tuple[tuple[str, str, datetime], ...]) -> Callable[[], Any]:
    from pyspark.sql import functions as F
    from pyspark.sql.types import StructField, StructType, _parse_datatype_string

    planned = plan(settings(), TABLE)
    schema = StructType([StructField(c.name, _parse_datatype_string(c.spark_type), True, {"parquet.field.id": c.id}) for c in planned.columns])
    files = [f"file://{f.path}" for f in planned.files]
    kept = " AND ".join(f"{c} {op} TIMESTAMP_NTZ '{v}'" for c, op, v in where) or "true"
    return lambda: _sums(spark.read.schema(schema).parquet(*files).where(F.expr(kept)))


def plan_files(repeats: int) -> dict[str, Any]:
    """Planning a table of 10,000 files, the median; and how large the catalog is beside a table of as many."""
    s = settings()
    create(s)
    catalog = s.lake_dir / "catalog.sqlite"
    before = catalog.stat().st_size
    fill_catalog(s)
    used, planned = cold_and_warm(lambda: plan(s, "clean.wide"), [s.lake_dir], repeats)
    return {**used, "rows": len(planned.files), "bytes": catalog.stat().st_size - before}


def write_back(side: str, rows: int, warm: int) -> dict[str, Any]:
    """Rows of Spark into a table of the lake, by `bridge` (`lake.spark.write.write`) or `files` (Spark's Parquet writer and `ducklake_add_data_files`)."""
    s = settings()
    create(s)
    with open_writer(s, "bench") as con:
        for n in range(warm + 1):
            con.execute(f"CREATE TABLE lake.clean.back_{n} ({COLUMNS})")
    clock = Clock()
    spark = session(s)
    used: dict[str, Any] = {"starting": round(clock.stop()["seconds"], 3)}
    df = spark.range(0, rows, 1, 8).selectExpr(
        f"concat('ST', lpad(id % {STATIONS}, 3, '0')) AS station_id",
        f"element_at(array('PM10', 'SO2', 'NO2', 'CO', 'O3'), int(1 + id div {STATIONS} % 5)) AS parameter",
        "timestamp_ntz '2025-01-01 00:00:00' + make_dt_interval(0, 0, id * 5 % 525600) AS measured_at",
        "cast(pmod(xxhash64(id), 100000) AS decimal(18, 6)) / 1000 AS value",
        "cast(id % 3 AS tinyint) AS status",
    )
    df = df.withColumn("value", df["value"].cast("decimal(18,6)"))
    written = 0

    def run() -> None:
        nonlocal written
        table = f"back_{written}"
        if side == "bridge":
            write(spark, s, df, f"clean.{table}")
        else:
            folder = Path(s.data_path) / "bench" / table
            df.write.parquet(f"file://{folder}")
            with open_writer(s, "bench") as con, transaction(con):
                con.execute(f"CALL ducklake_add_data_files('lake', '{table}', '{folder}/*.parquet', schema => 'clean')")
        written += 1

    figures, _ = cold_and_warm(run, [], warm, spark.sparkContext._gateway.proc.pid)
    spark.stop()
    with open_reader(s) as con:
        answer = con.execute(
            f"SELECT count(*), sum(value), bit_xor(hash(t)), sum(hash(t)::HUGEINT)::VARCHAR FROM lake.clean.back_{warm} AS t"
        ).fetchall()[0]
        size = con.execute(f"SELECT file_size_bytes FROM ducklake_table_info('lake') WHERE table_name = 'back_{warm}'").fetchall()[0][0]
    return {**used, **figures, "rows": answer[0], "bytes": size, "answer": [str(v) for v in answer]}


def lake_of(of: int | str) -> dict[str, Any]:
    """A lake of so many days of 213 stations, or of the simulator's province of a size, whose models that opted in DuckDB has made once."""
    s = settings()
    if isinstance(of, int):
        marts.fill(of)
    else:
        create(s)
        generate(s.inbox, s.reference, 1, marts.END, SIZES[of])
        assert not ingest(s, now=marts.AS_OF, run_id="first").errors
    made = Marts(s, s.home / "dbt", marts.AS_OF).made
    with open_reader(s) as con:
        rows, size = con.execute(
            "SELECT (SELECT count(*) FROM lake.clean.reading), (SELECT file_size_bytes FROM ducklake_table_info('lake') WHERE table_name = 'reading')"
        ).fetchall()[0]
    return {"rows": rows, "bytes": size, "made": made}


def engine(name: str, made: int) -> dict[str, Any]:
    """All models that opted in, whole, by one engine: seconds of dbt's run and of each model, and what differs from what DuckDB made first."""
    from marts.scale_out import RUNNER

    s = settings()
    province = Marts(s, s.home / f"dbt-{name}", marts.AS_OF, made=made)
    clock = Clock()
    java = RUNNER.spark.sparkContext._gateway.proc.pid if name == "spark" else None
    starting = clock.stop()["seconds"]
    clock = Clock(java)
    different = province.on(name, affected_from=-1)
    used = clock.stop()
    RUNNER.close()
    return {
        **used,
        "seconds": sum(province.seconds.values()),
        "starting": round(starting, 3),
        "models": province.seconds,
        "different": different,
        "newest": newest(s),
    }


if __name__ == "__main__":
    main({"fill": fill, "reads": reads, "plan_files": plan_files, "write_back": write_back, "lake_of": lake_of, "engine": engine})
