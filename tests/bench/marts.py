"""The environment marts on lakes of growing age: a day through quality control, aggregates, compliance and indices, and a whole rebuild.

The readings are a day that the gate took in, repeated backwards with other values, so that gaps, calibrations and faults are
those of the sample province.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from dbt.cli.main import dbtRunner

from ingestion.ingest import ingest
from lake.lake import create, open_reader, open_writer, transaction
from marts.build import dbt_environment, dbt_vars, plan, record
from marts.parsed import parsed
from simulator.sample import generate
from simulator.size import Size
from tests.bench.measure import Clock, main
from tnmt.settings import Settings, settings

END = date(2026, 3, 24)
AS_OF = datetime(2026, 3, 25, 0, 10)
PROVINCE = Size("marts", 150, 50, 6, 7, 0, 1, 300, 20, 60)
ENVIRONMENT = "fqn:tnmt.marts.environment.*"
SHIFTED = """
INSERT INTO lake.clean.reading
SELECT reading.* REPLACE (
    measured_at + to_days(ago.days) AS measured_at,
    CAST(value_reported * (1 + ((hash(station_id, parameter, measured_at, ago.days) % 400)::INTEGER - 200) / 10000.0) AS DECIMAL(18, 6)) AS value_reported,
    CAST(value_valid * (1 + ((hash(station_id, parameter, measured_at, ago.days) % 400)::INTEGER - 200) / 10000.0) AS DECIMAL(18, 6)) AS value_valid,
    _as_of + to_days(ago.days) AS _as_of, _received_at + to_days(ago.days) AS _received_at
)
FROM template AS reading CROSS JOIN (SELECT unnest(range({first}, {last})) AS days) AS ago
ORDER BY ago.days, station_id, parameter, measured_at
"""


def _affect(con: duckdb.DuckDBPyConnection, seq: int, first: int, last: int) -> None:
    con.execute(
        f"INSERT INTO lake.ops.affected SELECT {seq}, 'station_txt', 'reading', station_id, DATE '{END}' + days::INTEGER "
        f"FROM (SELECT DISTINCT station_id FROM template) CROSS JOIN (SELECT unnest(range({first}, {last})) AS days)"
    )
    con.execute(f"INSERT INTO lake.ops.gate_result VALUES ('fill', 'station_txt', {seq}, 1, 1, TRUE, 0, [], 0.1, TIMESTAMP '{AS_OF}')")


def _template(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        f"CREATE TEMP TABLE template AS FROM lake.clean.reading WHERE measured_at > DATE '{END}' AND measured_at <= DATE '{END + timedelta(days=1)}'"
    )


def fill(days: int, parcels: int = PROVINCE.parcels) -> dict[str, Any]:
    """A lake of so many days of 213 stations, the last of them taken in from files."""
    s = settings()
    create(s)
    generate(s.inbox, s.reference, 1, END, replace(PROVINCE, parcels=parcels))
    assert not ingest(s, now=AS_OF, run_id="first").errors
    clock = Clock()
    with open_writer(s, "fill") as con:
        _template(con)
        for first in range(1 - days, 0, 30):
            with transaction(con):
                con.execute(SHIFTED.format(first=first, last=min(first + 30, 0)))
        with transaction(con):
            seq = con.execute("SELECT max(seq) + 1 FROM lake.ops.gate_result").fetchall()[0][0]
            _affect(con, seq, 1 - days, 0)
        rows = con.execute("SELECT count(*) FROM lake.clean.reading").fetchall()[0][0]
    return {**clock.stop(), "rows": rows, "bytes": sum(f.stat().st_size for f in Path(s.data_path).rglob("*") if f.is_file())}


def add_day(days: int = 1) -> dict[str, Any]:
    """One day more, `days` after the last of the first fill."""
    with open_writer(settings(), "fill") as con:
        _template(con)
        with transaction(con):
            con.execute(SHIFTED.format(first=days, last=days + 1))
            seq = con.execute("SELECT max(seq) + 1 FROM lake.ops.gate_result").fetchall()[0][0]
            _affect(con, seq, days, days + 1)
        rows = con.execute("SELECT count(*) FROM template").fetchall()[0][0]
    return {"rows": rows}


def _dbt(s: Settings, *command: str, variables: str) -> dict[str, float]:
    """Runs dbt in this process; returns seconds by node."""
    os.environ.update(dbt_environment(s))
    done: Any = dbtRunner(manifest=parsed(s)).invoke([*command, "--quiet", "--project-dir", str(s.dbt_project), "--vars", variables])
    failed = [f"{r.node.name}: {r.message}" for r in done.result.results if r.status not in ("success", "pass", "no-op")] if done.result else []
    if not done.success:
        raise SystemExit(f"{command[0]} failed: {failed or done.exception}")
    return {r.node.name: round(r.execution_time, 2) for r in done.result.results if r.status != "no-op"}


def build(days: int = 0, full: bool = False) -> dict[str, Any]:
    """`dbt run` of the environment marts for what changed (or whole), as of `days` after the first fill; then their tests, timed apart."""
    s = settings()
    as_of = AS_OF + timedelta(days=days)
    planned = plan(s, as_of, full=full)
    variables = dbt_vars(as_of, planned.affected_to, anew=full)
    if planned.reference:
        _dbt(s, "seed", variables=variables)
    clock = Clock()
    models = _dbt(s, "run", "--select", f"+{ENVIRONMENT}", variables=variables)
    used = clock.stop()
    record(s, planned, as_of, f"bench-{days}", as_of)
    return {**used, "models": dict(sorted(models.items(), key=lambda m: -m[1])), "whole": planned.reference}


def check(days: int = 0) -> dict[str, Any]:
    """The tests of the environment marts."""
    s = settings()
    clock = Clock()
    tests = _dbt(s, "test", "--select", ENVIRONMENT, variables=dbt_vars(AS_OF + timedelta(days=days)))
    return {**clock.stop(), "tests": len(tests), "slowest": dict(sorted(tests.items(), key=lambda m: -m[1])[:5])}


def digest() -> dict[str, Any]:
    """Rows and a hash of the content of every environment mart; equal for equal marts, whatever the order of their rows."""
    with open_reader(settings()) as con:
        names = [
            r[0]
            for r in con.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'marts_environment' ORDER BY 1"
            ).fetchall()
        ]
        return {
            n: con.execute(f"SELECT count(*), bit_xor(hash(t)), sum(hash(t)::HUGEINT)::VARCHAR FROM lake.marts_environment.{n} AS t").fetchall()[0]
            for n in names
        }


if __name__ == "__main__":
    main({"fill": fill, "add_day": add_day, "build": build, "check": check, "digest": digest})
