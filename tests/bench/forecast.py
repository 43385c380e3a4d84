"""`python -m tests.bench.forecast`: what the platform would have shown, at origins over all seasons, against what was then measured.

Real hourly series (TNMT_REAL_DATA): PM2.5 of ten stations, VN_AQI of the same, and water. At each origin the SQL of the models gets what had been
measured by then and nothing else. Prints docs/benchmarks-forecast.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from marts.forecasting import register
from tests.marts_kit import compiled, database, records

FIRST = datetime(2011, 1, 1, 9)
LAST = datetime(2013, 12, 30)
START = FIRST + timedelta(days=75)
BETWEEN = timedelta(days=10, hours=5)
"""Prime to the day, so that origins fall on all hours."""
AS_OF = "2026-01-01 00:00:00"
MODELS = ["int_forecast", "int_forecast_shown"]
GROUPS = ("1-6h", "7-12h", "13-24h")
GOALS = {"1-6h": 0.30, "7-12h": 0.15, "13-24h": 0.08}
NAIVE = ("persistence", "seasonal_naive", "climatology")
WATER = {"temp": "Temp", "spcond": "EC", "do_mgl": "DO", "ph": "pH", "turb": "TUR", "depth": "depth"}
GOOD = "<0>|<1>|<4>|<5>"
HOUR = "station_id VARCHAR, parameter VARCHAR, day DATE, hour_end TIMESTAMP, mean_valid DOUBLE, coverage_share DOUBLE"
STATION = "station_id VARCHAR, station_name VARCHAR, commune_code VARCHAR, commune_name VARCHAR, matrix VARCHAR"


def series(con: duckdb.DuckDBPyConnection, real: Path, sql: dict[str, str]) -> None:
    """The table `series` (station_id, parameter, target_at, value); hours by their end, as the marts have them."""
    con.execute(
        f"""
        INSERT INTO lake.marts_environment.reading_hourly
        SELECT ems_id, 'PM2.5', CAST(hour_end - INTERVAL 1 MICROSECOND AS DATE), hour_end, avg(value), 1
        FROM (
            SELECT ems_id, time_bucket(INTERVAL 1 HOUR, date_time + INTERVAL 30 MINUTE) AS hour_end, value
            FROM read_csv('{real}/air_bc/bc_pm25_hourly.csv.gz', types = {{'ems_id': 'VARCHAR'}}, nullstr = 'NA')
        ) WHERE value IS NOT NULL GROUP BY ALL;
        INSERT INTO lake.marts_core.dim_station SELECT DISTINCT station_id, station_id, '1', 'A', 'ambient_air' FROM lake.marts_environment.reading_hourly
        """
    )
    water = " UNION ALL ".join(
        f"""
        SELECT 'apacp', '{name}', time_bucket(INTERVAL 1 HOUR, datetimestamp - INTERVAL 1 MINUTE) + INTERVAL 1 HOUR, avg({column})
        FROM read_csv('{real}/water_swmp/apacpwq_15min.csv.gz', nullstr = ['', 'NA'])
        WHERE regexp_matches(f_{column}, '^({GOOD})') AND {column} IS NOT NULL GROUP BY ALL HAVING count(*) >= 3
        """
        for column, name in WATER.items()
    )
    con.execute(
        f"""
        CREATE TABLE series AS
        SELECT station_id, parameter, hour_end AS target_at, mean_valid AS value FROM lake.marts_environment.reading_hourly
        UNION ALL SELECT station_id, 'VN_AQI', hour_end, aqi FROM ({sql["aqi_hourly"]}) WHERE aqi IS NOT NULL
        UNION ALL {water}
        """
    )


def ahead(con: duckdb.DuckDBPyConnection, sql: dict[str, str], as_of: datetime) -> None:
    """Adds to `shown` what the models show at one origin, with what was measured afterwards."""
    con.execute(
        "CREATE OR REPLACE TABLE lake.intermediate.int_forecast_series AS SELECT station_id, parameter, 'hour' AS kind, target_at, value FROM series "
        f"WHERE target_at <= TIMESTAMP '{as_of}' AND target_at > TIMESTAMP '{as_of}' - INTERVAL 75 DAY"
    )
    for model in MODELS:
        con.execute(f"CREATE OR REPLACE TABLE lake.intermediate.{model} AS {sql[model].replace(AS_OF, str(as_of))}")
    con.execute(
        "INSERT INTO shown SELECT s.parameter, s.station_id, s.origin_at, s.step, s.horizon, s.value, s.lower_bound, s.upper_bound, s.method, "
        f"{', '.join(f'f.{name}' for name in (*NAIVE, 'mean', 'combination', 'ets_season_fast'))}, truth.value AS truth "
        "FROM lake.intermediate.int_forecast_shown AS s "
        "INNER JOIN lake.intermediate.int_forecast AS f USING (station_id, parameter, kind, origin_number, step) "
        "INNER JOIN series AS truth ON s.station_id = truth.station_id AND s.parameter = truth.parameter AND s.target_at = truth.target_at "
        "WHERE s.origin_number = 0 AND s.is_chosen AND f.combination IS NOT NULL AND f.seasonal_naive IS NOT NULL"
    )


def skills(con: duckdb.DuckDBPyConnection, by: str) -> list[dict[str, object]]:
    """Skill of what was shown, and of single methods, over the best of the three simple ones, and coverage, by `by` and horizon."""
    errors = ", ".join(f"sum(power({m} - truth, 2)) AS {m}_e" for m in ("value", *NAIVE, "mean", "combination", "ets_season_fast"))
    best = f"least({', '.join(f'{m}_e' for m in NAIVE)})"
    return records(
        con,
        f"""
        WITH e AS (
            SELECT {by}, horizon, count(DISTINCT (station_id, origin_at)) AS origins, count(*) AS forecasts, {errors},
                avg(abs(value - truth)) AS mae, avg(CAST(truth BETWEEN lower_bound AND upper_bound AS INTEGER)) AS coverage,
                avg(upper_bound - lower_bound) AS width, avg(CAST(method IN ('mean', {", ".join(f"'{m}'" for m in NAIVE)}) AS INTEGER)) AS baseline
            FROM (FROM shown UNION ALL BY NAME SELECT * REPLACE ('all' AS horizon) FROM shown) GROUP BY ALL
        )
        SELECT *, 1 - value_e / {best} AS skill, 1 - value_e / least({best}, mean_e) AS skill4, 1 - combination_e / {best} AS combination,
            1 - ets_season_fast_e / {best} AS ets,
            CASE {best} WHEN persistence_e THEN 'last value' WHEN seasonal_naive_e THEN 'seasonal naive' ELSE 'mean of the hour' END AS best
        FROM e ORDER BY {by}, length(horizon), horizon
        """,
    )


def page(con: duckdb.DuckDBPyConnection, seconds: float, origins: int) -> str:
    """The page in Markdown."""
    lines = [
        "# Benchmarks of the forecast",
        "",
        f"Printed by `python -m tests.bench.forecast` on real hourly series ({origins} origins, one in 10 days and 5 hours, 2011 to 2013, so all seasons and "
        f"hours); it took {seconds / 60:.0f} min. Python {platform.python_version()}, duckdb {duckdb.__version__}. At each origin the models' SQL gets "
        "what had been measured by then, 74 days back, and nothing else; nothing of the methods was fitted to these origins but by that SQL itself.",
        "",
        "Skill is 1 − MSE / MSE of the best of last value, seasonal naive and mean of the same hour (14 days), chosen afterwards for the whole of a row, which favours the simple ones. "
        "*with the plain mean*: the mean of all 14 days is a fourth of them. *combination*, *ETS*: that method alone, at the same origins (ETS(A,N,A), α = 0.4). *simple*: share of forecasts where a simple method was shown, by name. "
        "Coverage is that of the 80 % interval. Losses stand as they are.",
    ]
    for title, where, by in (
        ("PM2.5, ten stations", "parameter = 'PM2.5'", "parameter"),
        ("VN_AQI (of PM2.5), the same stations", "parameter = 'VN_AQI'", "parameter"),
        ("Water, by parameter", "station_id = 'apacp'", "parameter"),
        ("PM2.5, station by station", "parameter = 'PM2.5'", "station_id"),
        ("VN_AQI, station by station", "parameter = 'VN_AQI'", "station_id"),
    ):
        view = con.cursor()
        view.execute(f"CREATE OR REPLACE TEMP TABLE shown AS FROM memory.main.shown WHERE {where}")
        lines += [
            "",
            f"## {title}",
            "",
            "| series | horizon | origins | forecasts | skill | with the plain mean | combination | ETS | best simple | MAE | coverage | width | simple |",
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
        for r in skills(view, by):
            goal = GOALS.get(str(r["horizon"])) if title.startswith("PM2.5, ten") else None
            met = "" if goal is None else f" (goal {goal:.2f}: {'met' if r['skill'] >= goal else '**missed**'})"
            lines.append(
                f"| {r[by]} | {r['horizon']} | {r['origins']} | {r['forecasts']} | {r['skill']:.2f}{met} | {r['skill4']:.2f} | {r['combination']:.2f} | {r['ets']:.2f} | {r['best']} "
                f"| {r['mae']:.2f} | {r['coverage']:.0%} | {r['width']:.2f} | {r['baseline']:.0%} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs all origins and prints the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th origin, for a look")
    arguments = parser.parse_args()
    real = Path(os.environ["TNMT_REAL_DATA"])
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        sql = compiled(Path(home), [*MODELS, "aqi_hourly"], AS_OF)
    con = database({"marts_environment.reading_hourly": (HOUR, []), "marts_core.dim_station": (STATION, [])}, ["vn_aqi_breakpoint", "vn_aqi_band"])
    con.execute("CREATE SCHEMA lake.intermediate")
    register(con)
    series(con, real, sql)
    extra = ", ".join(f"{name} DOUBLE" for name in (*NAIVE, "mean", "combination", "ets_season_fast", "truth"))
    con.execute(
        "CREATE TABLE shown (parameter VARCHAR, station_id VARCHAR, origin_at TIMESTAMP, step INTEGER, horizon VARCHAR, value DOUBLE, "
        f"lower_bound DOUBLE, upper_bound DOUBLE, method VARCHAR, {extra})"
    )
    moments = [START + n * BETWEEN for n in range(int((LAST - START) / BETWEEN) + 1)][:: arguments.every]
    for number, as_of in enumerate(moments, 1):
        ahead(con, sql, as_of)
        sys.stderr.write(f"\r{number} of {len(moments)} origins")
    sys.stderr.write("\n")
    print(page(con, time.monotonic() - begun, len(moments)), end="")


if __name__ == "__main__":
    main()
