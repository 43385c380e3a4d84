"""The marts of environment as they were known at a past moment, in a DuckDB file of their own: the same dbt project on the versions of then."""

from __future__ import annotations

import json
import tempfile
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb

from lake.lake import open_reader, quoted
from marts.build import DBT, run_dbt
from tnmt.settings import Settings

MODELS = ("data_decision", "exceedance_episode", "interruption", "aqi_hourly", "aqi_daily")
"""The ends of the graph; dbt builds what stands before them too."""


def build_as_known(settings: Settings, at: datetime, first_day: date, out: Path) -> dict[str, int]:
    """Builds `out` with the marts over environment days from `first_day` on, from what had been received by `at`; rows by table.

    Readings, adjustments and approvals are those of then; the registers are today's (their rows carry dates of validity), and so
    are limits and rules. Aggregates that look back over the first day (NowCast, episodes, flat lines) see two days more.
    Raises FileExistsError where `out` is there, and BuildFailed with dbt's own words.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already: name a new file, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    variables = {
        "as_of": f"{at:%Y-%m-%d %H:%M:%S}",
        "known_at": at.isoformat(sep=" "),
        "known_first_day": (first_day - timedelta(days=2)).isoformat(),
    }
    options = ["--no-use-colors", "--target", "known", "--vars", json.dumps(variables)]
    with tempfile.TemporaryDirectory(prefix=".known-", dir=out.parent) as folder:
        temporary = Path(folder) / "known.duckdb"
        _copy_reference(settings, temporary)
        command = [DBT, "run", "--select", *(f"+{m}" for m in MODELS), *options]
        run_dbt(command, settings, TNMT_DBT_SCRATCH=str(temporary), DBT_TARGET_PATH=str(settings.home / "dbt-known"))
        with duckdb.connect(str(temporary)) as con:
            names = [
                r[0] for r in con.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'marts_environment'").fetchall()
            ]
            for name in names:
                columns = {r[0] for r in con.execute(f"DESCRIBE marts_environment.{name}").fetchall()}
                if "day" in columns:
                    con.execute(f"DELETE FROM marts_environment.{name} WHERE day < ?", [first_day])
            rows = {n: int(con.execute(f"SELECT count(*) FROM marts_environment.{n}").fetchall()[0][0]) for n in sorted(names)}
            # views on the lake mean nothing without it
            for schema in ("staging", "intermediate"):
                con.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        temporary.replace(out)
        return rows


def _copy_reference(settings: Settings, path: Path) -> None:
    """Reference data as the lake has it."""
    with open_reader(settings) as con:
        con.execute(f"ATTACH {quoted(str(path))} AS known")
        con.execute("CREATE SCHEMA known.reference")
        for (name,) in con.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'lake' AND table_schema = 'reference'"
        ).fetchall():
            con.execute(f"CREATE TABLE known.reference.{name} AS FROM lake.reference.{name}")
