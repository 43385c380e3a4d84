"""The serving file: what Superset may see, built aside and put in place in one step.

A process that holds the old file open goes on reading the old data even when the path is replaced (measured), so each
version has its own name and `serving.duckdb` is a symlink: readers open its real path for every connection.
What changes every few minutes is replaced in a copy of the file in force (`refresh_serving`); `served_table` says from
which snapshot each table is, so that a cache drops what changed and nothing else.
SQL Lab has a file of its own, `serving-sqllab.duckdb`, made in the same step: what may run for long, or look at what no
chart shows, does so there, and of the tables that grow with the telemetry it holds the last days only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from lake.faults import reach
from lake.lake import latest_snapshot, open_reader, quoted
from tnmt.settings import Settings

KEPT_VERSIONS = 2
NAME = "serving"
LAB = "serving-sqllab"


@dataclass(frozen=True)
class Served:
    """What was put in place: path, snapshot, tables and rows; `fresh` is False where the file in force was already of this snapshot."""

    path: Path
    snapshot_id: int
    tables: int
    rows: int
    fresh: bool


def current(settings: Settings, name: str = NAME) -> Path | None:
    """Real path of the serving file (or of SQL Lab's) in force, or None before the first publish."""
    link = settings.serving / f"{name}.duckdb"
    return link.resolve() if link.exists() else None


def publish_serving(settings: Settings, tables: list[str], as_of: datetime, lab_days: Mapping[str, int] | None = None) -> Served:
    """Builds `serving-<snapshot>.duckdb` from `tables` (schema.table in the lake) at the newest snapshot and swaps it in.

    `lab_days` names the tables of which SQL Lab's file holds only so many last days (by their column `day`).
    The lake is only read, so that writers are not held up. Nothing is seen of a build that fails: the old file stays.
    """
    settings.serving.mkdir(parents=True, exist_ok=True)
    with open_reader(settings) as probe:
        snapshot_id = latest_snapshot(probe)
    path = settings.serving / f"{NAME}-{snapshot_id}.duckdb"
    if current(settings) == path.resolve() and current(settings, LAB) and _same(path, tables, as_of):
        _drop_old(settings, snapshot_id)
        return Served(path, snapshot_id, len(tables), 0, fresh=False)
    return _make(settings, tables, as_of, lab_days or {}, snapshot_id, _halves(settings, snapshot_id))


def refresh_serving(
    settings: Settings, tables: list[str], as_of: datetime, lab_days: Mapping[str, int] | None = None, first_day: date | None = None
) -> Served:
    """Puts files in force that have `tables` of the newest snapshot, and all else as the files in force have it.

    `first_day` says that rows of earlier days (column `day`) are still those of the files in force. Raises FileNotFoundError
    before the first `publish_serving`.
    """
    with open_reader(settings) as probe:
        snapshot_id = latest_snapshot(probe)
    halves = _halves(settings, snapshot_id)
    for name, half in halves.items():
        now = current(settings, name)
        if now is None:
            raise FileNotFoundError(f"there is no {name}.duckdb to refresh under {settings.serving}; `tnmt run` makes the first")
        shutil.copyfile(now, half)
    return _make(settings, tables, as_of, lab_days or {}, snapshot_id, halves, first_day)


def _halves(settings: Settings, snapshot_id: int) -> dict[str, Path]:
    """Where this process makes the two files, SQL Lab's first, so that the one that charts read is the last to be put in force."""
    halves = {name: settings.serving / f".{name}-{snapshot_id}-{os.getpid()}.duckdb" for name in (LAB, NAME)}
    for half in halves.values():
        half.unlink(missing_ok=True)
    return halves


def _make(
    settings: Settings,
    tables: list[str],
    as_of: datetime,
    lab_days: Mapping[str, int],
    snapshot_id: int,
    halves: Mapping[str, Path],
    first_day: date | None = None,
) -> Served:
    """Fills both files with `tables` of the snapshot, swaps them in, and removes versions that nobody needs."""
    con = open_reader(settings, snapshot=snapshot_id)
    try:
        last = {t: f"WHERE day > DATE '{as_of.date()}' - {int(days)}" for t, days in lab_days.items()}
        rows = _fill(con, halves[NAME], "served", {t: f"lake.{t}" for t in tables}, as_of, snapshot_id, first_day)
        _fill(con, halves[LAB], "lab", {t: f"served.{t} {last.get(t, '')}" for t in tables}, as_of, snapshot_id, first_day)
    finally:
        con.close()
    reach("serving.built")
    for name, half in halves.items():
        made = half.replace(settings.serving / f"{name}-{snapshot_id}.duckdb")
        swap(settings, made, name)
    reach("serving.swapped")
    _drop_old(settings, snapshot_id)
    return Served(settings.serving / f"{NAME}-{snapshot_id}.duckdb", snapshot_id, len(tables), rows, fresh=True)


def _fill(
    con: duckdb.DuckDBPyConnection, path: Path, name: str, tables: Mapping[str, str], as_of: datetime, snapshot_id: int, first_day: date | None = None
) -> int:
    """Makes these tables (table -> FROM clause) in the database file `path`, attached as `name`; returns the rows written."""
    con.execute(f"ATTACH {quoted(str(path))} AS {name}")
    for schema in sorted({t.split(".")[0] for t in tables}):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {name}.{schema}")
    rows = 0
    con.execute(f"CREATE TABLE IF NOT EXISTS {name}.main.served_table (name VARCHAR PRIMARY KEY, snapshot_id BIGINT)")
    for table, source in sorted(tables.items()):
        since = f"day >= DATE '{first_day}'" if first_day and _has_day(con, f"{name}.{table}") else None
        if since:
            con.execute(f"DELETE FROM {name}.{table} WHERE {since}")
            written = con.execute(f"INSERT INTO {name}.{table} SELECT * FROM {source} {'AND' if 'WHERE' in source else 'WHERE'} {since}")
        else:
            written = con.execute(f"CREATE OR REPLACE TABLE {name}.{table} AS SELECT * FROM {source}")
        rows += int(written.fetchall()[0][0])
        con.execute(f"INSERT OR REPLACE INTO {name}.main.served_table VALUES (?, ?)", [table, snapshot_id])
    con.execute(f"""
        CREATE OR REPLACE TABLE {name}.main.serving_info AS
        SELECT TIMESTAMP '{as_of}' AS as_of, {snapshot_id}::BIGINT AS snapshot_id, list(name ORDER BY name) AS tables FROM {name}.main.served_table""")
    con.execute(f"CHECKPOINT {name}")
    return rows


def _has_day(con: duckdb.DuckDBPyConnection, table: str) -> bool:
    return any(name == "day" for name, *_ in con.execute(f"DESCRIBE {table}").fetchall())


def swap(settings: Settings, path: Path, name: str = NAME) -> None:
    """Points `<name>.duckdb` at `path`, atomically."""
    link = settings.serving / f"{name}.duckdb"
    new = settings.serving / f".{name}.{os.getpid()}.link"
    new.unlink(missing_ok=True)
    new.symlink_to(path.name)
    new.replace(link)


def _same(path: Path, tables: list[str], as_of: datetime) -> bool:
    try:
        with duckdb.connect(str(path), read_only=True) as con:
            row = con.execute("SELECT as_of, tables FROM serving_info").fetchall()
    except duckdb.Error:
        return False
    return bool(row) and row[0][0] == as_of and list(row[0][1]) == sorted(tables)


def _drop_old(settings: Settings, keep: int) -> None:
    """Removes all but the newest versions, and what killed builds left; open connections keep their file until they close."""
    for name in (LAB, NAME):
        versions = sorted(settings.serving.glob(f"{name}-[0-9]*.duckdb"), key=lambda p: int(p.stem.rsplit("-", 1)[1]), reverse=True)
        for old in [p for p in versions if p.name != f"{name}-{keep}.duckdb"][KEPT_VERSIONS - 1 :]:
            old.unlink(missing_ok=True)
        for half in settings.serving.glob(f".{name}-*"):
            half.unlink(missing_ok=True)
