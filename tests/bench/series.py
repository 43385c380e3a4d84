"""Our side of the figures on series: the models' own SQL, as dbt compiles it, on the Parquet files that the peers read.

`prepare` writes them: the simulator's sample through ingest and dbt, then the inputs of the models as `<schema>.<model>.parquet` and
their SQL as `<model>.sql`. The other jobs know DuckDB alone, so that their memory is that of the calculation.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from tests.bench.measure import MEMORY_GB, Clock, main

END = date(2026, 3, 31)
AS_OF = datetime(2026, 4, 1)
AGGREGATES = ("reading_hourly", "reading_8h", "reading_daily")
REGISTERS = ("marts_core.dim_station", "intermediate.int_channel_period", "staging.stg_approval", "staging.stg_adjustment")

RANGED = """
    SELECT r.* REPLACE (
        CASE WHEN coalesce(r.value_reported < b.register_min OR r.value_reported > b.register_max, FALSE) THEN NULL ELSE r.value_valid END AS value_valid,
        CASE WHEN r.value_reported < b.register_min OR r.value_reported > b.register_max THEN 'out_of_range' ELSE r.reason END AS reason)
    FROM lake.staging.stg_reading AS r
    LEFT JOIN lake.intermediate.int_qc_bound AS b
      ON r.station_id = b.station_id AND r.parameter = b.parameter AND r.measured_at > b.span_from AND r.measured_at <= b.span_to"""
"""Readings with the register's ranges, of which the libraries know nothing, already told."""
DAMAGED_BOUND = """
    SELECT * REPLACE (station_id || '-D' AS station_id, NULL::DECIMAL(18, 6) AS register_min, NULL::DECIMAL(18, 6) AS register_max)
    FROM lake.intermediate.int_qc_bound"""
DAMAGED = """
    UNION ALL BY NAME
    SELECT * EXCLUDE (place, stuck) REPLACE (
        station_id || '-D' AS station_id,
        CASE
            WHEN place % 389 = 5 THEN NULL WHEN stuck IS NOT NULL THEN stuck WHEN place % 211 = 7 THEN value_reported * 12 WHEN place % 503 = 11 THEN -value_reported - 5
            ELSE value_reported
        END AS value_reported,
        CASE
            WHEN value_valid IS NULL OR place % 389 = 5 OR place % 97 = 3 THEN NULL WHEN stuck IS NOT NULL THEN stuck
            WHEN place % 211 = 7 THEN value_valid * 12 WHEN place % 503 = 11 THEN -value_valid - 5
            ELSE value_valid
        END AS value_valid,
        CASE WHEN place % 97 = 3 THEN '01' ELSE status END AS status
    )
    FROM (
        SELECT *, CASE WHEN place BETWEEN 600 AND 870 OR place BETWEEN 1150 AND 1310 OR place BETWEEN 1480 AND 1560 THEN first_value(value_valid) OVER later END AS stuck
        FROM (
            SELECT *, row_number() OVER (PARTITION BY station_id, parameter ORDER BY measured_at) AS place
            FROM lake.staging.stg_reading
            WHERE station_id IN (SELECT station_id FROM lake.staging.stg_station QUALIFY row_number() OVER (ORDER BY station_id) % 4 = 0)
        ) AS placed
        WINDOW later AS (PARTITION BY station_id, parameter, place >= 600, place >= 1150, place >= 1480 ORDER BY measured_at)
    ) AS damaged
    WHERE place NOT BETWEEN 1200 AND 1260 AND NOT (place BETWEEN 1500 AND 1540 AND place % 2 = 0)
"""
"""A quarter of the stations once more, with what the sample has too little of: spikes, values below zero, values withdrawn or missing, a
sensor that is stuck for 22 hours, one that is stuck on both sides of a hole of five, and one that is stuck while every other reading is lost."""


def database(folder: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory `lake` whose tables are the Parquet files `<schema>.<table>.parquet` of a folder."""
    threads = int(os.environ["TNMT_THREADS"])
    con = duckdb.connect(config={"threads": threads, "memory_limit": f"{MEMORY_GB}GB", "preserve_insertion_order": "false"})
    con.execute("ATTACH ':memory:' AS lake; CREATE SCHEMA lake.marts_environment")
    for path in sorted(folder.glob("*.parquet")):
        schema, table = path.stem.split(".")
        con.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{schema}; CREATE VIEW lake.{schema}.{table} AS FROM read_parquet('{path}')")
    return con


TABLES = {
    # the bounds are in int_qc_bound for us, and in qc_threshold for the libraries
    "qc": ("staging.stg_reading", "marts_core.dim_station", "intermediate.int_qc_bound", "reference.qc_dependence", "reference.qc_threshold"),
    "aggregates": ("intermediate.int_reading", *REGISTERS, "marts_core.dim_parameter"),
}
"""What every contestant of a part is given."""


def prepare(folder: str, stations: dict[str, int], days: int, copies: int) -> dict[str, Any]:
    """Writes `<folder>/qc` and `<folder>/aggregates`; the second holds every station `copies` times. Returns rows and series of each."""
    from ingestion.ingest import ingest
    from lake.lake import create, open_reader
    from simulator import telemetry
    from simulator.manifest import Manifest
    from simulator.province import build, write_registers
    from simulator.size import Size
    from tests.marts_kit import dbt
    from tnmt.settings import settings

    s = settings()
    create(s)
    size = Size("bench", **stations, hourly_days=0, file_days=days, parcels=0, scans=0, dossiers=0)
    province = build(s.reference, 1, size)
    write_registers(s.inbox, province, END, size)
    telemetry.write(s.inbox, province, 1, END, size, Manifest(1, END.isoformat(), size.name))
    sources = ["station_register", "station_channel_register", "station_txt"]
    done = ingest(s, now=datetime(2026, 4, 1, 0, 10), run_id="bench", only=sources)
    assert not done.errors, done.errors
    arguments = ("--select", "+reading_daily", "--exclude-resource-type", "test", "unit_test")
    built = dbt(s, s.home / "build", "build", *arguments, as_of=AS_OF.isoformat(sep=" "), qc_keep_from=1)
    sql = {r.node.name: r.node.compiled_code for r in built.result.results if r.node.resource_type == "model"}
    out = Path(folder)
    answer: dict[str, Any] = {}
    with open_reader(s) as con:
        for part, models in (("qc", ["reading_qc"]), ("aggregates", AGGREGATES)):
            tables = TABLES[part]
            (out / part).mkdir(parents=True)
            for model in models:
                (out / part / f"{model}.sql").write_text(sql[model], encoding="utf-8")
            for table in tables:
                has_station = con.execute(f"DESCRIBE lake.{table}").fetchall()[0][0] == "station_id"
                source = f"SELECT * FROM lake.{table}"
                if table == "staging.stg_reading":
                    source = RANGED + DAMAGED
                if table == "marts_core.dim_station" and part == "qc":
                    source += " UNION ALL BY NAME SELECT * REPLACE (station_id || '-D' AS station_id) FROM lake.marts_core.dim_station"
                if table == "intermediate.int_qc_bound":
                    source += f" UNION ALL BY NAME {DAMAGED_BOUND}"
                if part == "aggregates" and has_station:
                    source = f"SELECT t.* REPLACE (t.station_id || '-' || n AS station_id) FROM lake.{table} AS t, range({copies}) AS copy(n)"
                order = " ORDER BY station_id, parameter, measured_at" if table.endswith("_reading") else ""
                con.execute(f"COPY ({source}{order}) TO '{out / part / table}.parquet'")
            reading = next(t for t in tables if t.endswith("_reading"))
            rows, series = con.execute(f"SELECT count(*), count(DISTINCT (station_id, parameter)) FROM '{out / part / reading}.parquet'").fetchall()[
                0
            ]
            answer[part] = {"rows": rows, "series": series}
    return answer


def run_models(folder: str, models: list[str], out: str) -> dict[str, Any]:
    """The SQL of each model, in order, into tables in memory; then, not timed, `<out>/<model>.parquet`."""
    home = Path(folder)
    sql = {m: (home / f"{m}.sql").read_text(encoding="utf-8") for m in models}
    con = database(home)
    clock = Clock()
    for model in models:
        con.execute(f"CREATE TABLE lake.marts_environment.{model} AS {sql[model]}")
    used = clock.stop()
    Path(out).mkdir(parents=True, exist_ok=True)
    rows = 0
    for model in models:
        rows += con.execute(f"SELECT count(*) FROM lake.marts_environment.{model}").fetchall()[0][0]
        con.execute(f"COPY lake.marts_environment.{model} TO '{out}/{model}.parquet'")
    return {**used, "rows": rows}


SAME = {
    "reading_hourly": (("station_id", "parameter", "hour_end"), ("expected", "valid"), ("mean_valid", "min_valid", "max_valid")),
    "reading_8h": (("station_id", "parameter", "hour_end"), ("hours", "is_valid"), ("mean_8h",)),
    "reading_daily": (
        ("station_id", "parameter", "day"),
        ("expected", "valid", "hours", "is_complete"),
        ("mean_valid", "min_valid", "max_valid", "max_1h", "max_8h"),
    ),
}
"""Of each model: its key, what must be equal, and what must be within `TOLERANCE`."""
TOLERANCE = 1e-9
"""Of a figure, absolute up to 1 and relative above: doubles of a flow of 65,000 hold no more."""


def same(ours: str, theirs: str) -> dict[str, Any]:
    """Rows of each model that differ between two folders of Parquet files, by column, and the greatest deviation of a figure."""
    con = duckdb.connect()
    different: dict[str, int] = {}
    greatest = 0.0
    for model, (key, equal, near) in SAME.items():
        found, deviation = differing(con, f"{ours}/{model}.parquet", f"{theirs}/{model}.parquet", model, key, equal, near, TOLERANCE)
        different |= found
        greatest = max(greatest, deviation)
    return {"different": different, "deviation": greatest}


def differing(
    con: duckdb.DuckDBPyConnection,
    left: str,
    right: str,
    name: str,
    key: Sequence[str],
    equal: Sequence[str],
    near: Sequence[str],
    tolerance: float,
    floor: float = 1.0,
) -> tuple[dict[str, int], float]:
    """Rows of two Parquet files that differ, paired by `key`: by column of `equal` and of `near`, and the greatest deviation of the latter.

    A deviation counts above `tolerance`, relative to the left, or to `floor` where that is greater. A row that one file lacks, or holds twice, is a difference.
    """
    kept = ", ".join(["day::DATE AS day" if k == "day" else k for k in key] + [*equal, *(f"{c}::DOUBLE AS {c}" for c in near)])
    deviation = {c: f"abs(o.{c} - p.{c}) / greatest({floor}, abs(o.{c}))" for c in near}
    tests = {f"{name}: rows": f"o.{key[0]} IS NULL OR p.{key[0]} IS NULL"}
    tests |= {f"{name}.{c}": f"o.{c} IS DISTINCT FROM p.{c}" for c in equal}
    tests |= {f"{name}.{c}": f"(o.{c} IS NULL) <> (p.{c} IS NULL) OR {deviation[c]} > {tolerance}" for c in near}
    counts = ", ".join(f"count(*) FILTER ({t})" for t in tests.values())
    found = con.execute(f"""
        SELECT {counts}{"".join(f", max({d})" for d in deviation.values())}
        FROM (SELECT {kept} FROM '{left}') AS o FULL JOIN (SELECT {kept} FROM '{right}') AS p ON {" AND ".join(f"o.{k} = p.{k}" for k in key)}""").fetchall()[
        0
    ]
    different = {test: n for test, n in zip(tests, found[: len(tests)]) if n}
    for side in (left, right):
        if twice := con.execute(f"SELECT count(*) - count(DISTINCT ({', '.join(key)})) FROM '{side}'").fetchall()[0][0]:
            different[f"{name}: rows twice"] = twice
    return different, max((d for d in found[len(tests) :] if d), default=0.0)


if __name__ == "__main__":
    main({"prepare": prepare, "run_models": run_models, "same": same})
