"""Our side of the spatial figures: the input, DuckDB, Spark with Sedona by the platform's session, PostGIS, and the comparison of answers."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow.parquet as pq

from lake.extensions import link_extensions
from lake.lake import duck
from lake.spark.read import session
from tests.bench.measure import MEMORY_GB, Clock, cold_and_warm, main
from tests.bench.series import differing
from tests.bench.spatial_queries import LAND, POSTGIS_NEAREST, answers, for_duckdb, queries, views
from tnmt.settings import Settings, settings

TOLERANCE = 1e-6
"""Of a figure, relative, as SpatialBench has it."""
FLOOR = {"land": 1.0, "trips": 1e-12}
"""Below this a deviation is absolute: a square metre or a metre of the land questions; degrees of SpatialBench are small."""


def _settings() -> Settings:
    s = settings().model_copy(update={"memory_limit": f"{MEMORY_GB}GB"})
    link_extensions(s.extensions)
    return s


def _duck() -> duckdb.DuckDBPyConnection:
    con = duck(_settings())
    con.execute("LOAD spatial")
    return con


def make(folder: str, parcels: int) -> dict[str, Any]:
    """Writes the tables of the land questions: so many quadrangles in a province of 111 communes with wavy borders, some laid over their neighbour."""
    out = Path(folder)
    out.mkdir(parents=True)
    columns = math.ceil(math.sqrt(2 * parcels))
    width, height = 99.0 * columns / 37, 53.0 * math.ceil(parcels / columns) / 3
    con = _duck()
    con.execute(f"""
        CREATE TABLE corner AS
        SELECT n, 560000.37e0 + n % {columns} * 99e0 + hash(n, 1) % 400 / 10e0 AS x, 1280000.41e0 + n // {columns} * 53e0 + hash(n, 2) % 60 / 10e0 AS y, hash(n) AS h
        FROM range({parcels}) AS r(n)""")
    con.execute(f"""
        CREATE TABLE edge AS
        SELECT i * 3 + j AS n, k, x + {width / 30}::DOUBLE * sin((y - 1280000) / {height}::DOUBLE * 13) AS x, y + {height / 75}::DOUBLE * sin((x - 560000) / {width}::DOUBLE * 9) AS y
        FROM (
            SELECT i, j, k, 559900 + {width * 1.01}::DOUBLE * (i + CASE WHEN k < 20 THEN k / 20e0 WHEN k < 40 THEN 1 WHEN k < 60 THEN (60 - k) / 20e0 ELSE 0 END) AS x,
                1279900 + {height * 1.05}::DOUBLE * (j + CASE WHEN k < 20 THEN 0 WHEN k < 40 THEN (k - 20) / 20e0 WHEN k < 60 THEN 1 ELSE (80 - k) / 20e0 END) AS y
            FROM range(37) AS a(i), range(3) AS b(j), range(80) AS c(k)
        )""")
    made = {
        "parcel": "SELECT n AS parcel_id, ST_GeomFromText(format('POLYGON (({} {}, {} {}, {} {}, {} {}, {} {}))', "
        "x, y, x + 60 + h % 30, y + h % 5, x + 62 + h % 28, y + 30 + h % 15, x + h % 7, y + 32 + h % 11, x, y)) AS geom FROM corner",
        "commune": "SELECT n AS commune_code, ST_MakePolygon(ST_MakeLine(list(ST_Point(x, y) ORDER BY k) || [first(ST_Point(x, y) ORDER BY k)])) AS geom "
        "FROM edge GROUP BY n ORDER BY n",
        "place": "SELECT n AS parcel_id, ST_Point(x + 31.7e0, y + 16.3e0) AS geom FROM corner",
        "office": "SELECT n AS commune_code, ST_Point(avg(x) + n * 1.37e0, avg(y) - n * 0.73e0) AS geom FROM edge GROUP BY n ORDER BY n",
    }
    for table, query in made.items():
        key, _ = LAND[table]
        con.execute(f"COPY (SELECT {key}, ST_AsWKB(geom)::BLOB AS geom FROM ({query})) TO '{out / table}.parquet' (COMPRESSION zstd)")
    invalid = con.execute(f"SELECT count(*) FILTER (NOT ST_IsValid(geom)) FROM ({made['parcel']} UNION ALL {made['commune']})").fetchall()
    assert invalid == [(0,)], invalid
    return {"bytes": sum(f.stat().st_size for f in out.iterdir())}


def duckdb_asked(kind: str, folder: str, questions: list[str], out: str, warm: int) -> dict[str, Any]:
    """Questions by DuckDB; answers go to `<out>/<question>/duckdb.parquet`, not timed."""
    con = _duck()
    for table, view in views(kind).items():
        files = f"read_parquet('{folder}/{table}.parquet')"
        con.execute(f"CREATE VIEW {table} AS {view.format(table=files)}")
    found = {}
    for question in questions:
        statement = f"CREATE OR REPLACE TABLE answer AS {for_duckdb(kind, question)}"
        used, _ = cold_and_warm(partial(con.execute, statement), [Path(folder)], warm)
        con.execute(f"COPY answer TO '{_place(out, question)}/duckdb.parquet'")
        found[question] = {**used, "rows": con.execute("SELECT count(*) FROM answer").fetchall()[0][0]}
    return {"found": found}


def spark_asked(kind: str, folder: str, questions: list[str], out: str, warm: int) -> dict[str, Any]:
    """The same by Spark with Sedona. The start of the session is not in the figures, but told."""
    clock = Clock()
    spark = session(_settings())
    starting = clock.stop()["seconds"]
    for table, view in views(kind).items():
        spark.read.parquet(f"file://{folder}/{table}.parquet").createOrReplaceTempView(f"{table}_file")
        spark.sql(view.format(table=f"{table}_file")).createOrReplaceTempView(table)
    found = {}
    for question in questions:
        sql = queries(kind)[question]
        used, table = cold_and_warm(lambda sql=sql: spark.sql(sql).toArrow(), [Path(folder)], warm, spark.sparkContext._gateway.proc.pid)
        pq.write_table(table, f"{_place(out, question)}/spark.parquet")
        found[question] = {**used, "starting": round(starting, 3), "rows": table.num_rows}
    spark.stop()
    return {"found": found}


def postgis_load(dsn: str, folder: str) -> dict[str, Any]:
    """Copies the tables of the land questions into PostGIS, with an index of each geometry and statistics."""
    clock = Clock()
    with psycopg.connect(dsn, autocommit=True) as con:
        con.execute("CREATE EXTENSION IF NOT EXISTS postgis")
        for table, (key, _) in LAND.items():
            con.execute(f"CREATE UNLOGGED TABLE {table}_wkb ({key} BIGINT, geom BYTEA)")
            with con.cursor() as cursor, cursor.copy(f"COPY {table}_wkb FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int8", "bytea"])
                for batch in pq.ParquetFile(f"{folder}/{table}.parquet").iter_batches():
                    for row in zip(*(column.to_pylist() for column in batch.columns)):
                        copy.write_row(row)
            con.execute(f"CREATE TABLE {table} AS SELECT {key}, ST_GeomFromWKB(geom) AS geom FROM {table}_wkb")
            con.execute(f"DROP TABLE {table}_wkb; CREATE INDEX ON {table} USING gist (geom); CREATE INDEX ON {table} ({key})")
            con.execute(f"VACUUM ANALYZE {table}")
        size = con.execute("SELECT pg_database_size(current_database())").fetchall()[0][0]
    return {**clock.stop(), "bytes": size}


def postgis_asked(dsn: str, questions: list[str], out: str, warm: int) -> dict[str, Any]:
    """Questions of the land by PostGIS; memory is that of the backend, shared buffers that it touched with it."""
    found = {}
    for question in questions:
        statement = POSTGIS_NEAREST if question == "nearest" else queries("land")[question]
        with psycopg.connect(dsn, autocommit=True) as con:
            used, _ = cold_and_warm(partial(_answered, con, statement), [], warm, con.info.backend_pid)
            rows = con.execute("SELECT count(*) FROM answer").fetchall()[0][0]
            csv = _place(out, question) / "postgis.csv"
            with csv.open("wb") as file, con.cursor() as cursor, cursor.copy("COPY answer TO STDOUT (FORMAT csv, HEADER)") as copy:
                for data in copy:
                    file.write(data)
        duckdb.connect().execute(f"COPY (FROM read_csv('{csv}')) TO '{csv.with_suffix('.parquet')}'")
        found[question] = {**used, "rows": rows}
    return {"found": found}


def _answered(con: psycopg.Connection, statement: str) -> None:
    con.execute("DROP TABLE IF EXISTS answer")
    con.execute(f"CREATE TEMP TABLE answer AS {statement}")


def compare(kind: str, query: str, out: str, left: str, right: str) -> dict[str, Any]:
    """Rows and columns in which two answers differ, and the greatest deviation of a figure."""
    a = answers(kind)[query]
    con = duckdb.connect()
    different, greatest = differing(
        con, f"{out}/{query}/{left}.parquet", f"{out}/{query}/{right}.parquet", query, a.key, a.equal, a.near, TOLERANCE, FLOOR[kind]
    )
    return {"different": different, "deviation": greatest}


def _place(out: str, question: str) -> Path:
    place = Path(out) / question
    place.mkdir(parents=True, exist_ok=True)
    return place


if __name__ == "__main__":
    main(
        {
            "make": make,
            "duckdb_asked": duckdb_asked,
            "spark_asked": spark_asked,
            "postgis_load": postgis_load,
            "postgis_asked": postgis_asked,
            "compare": compare,
        }
    )
