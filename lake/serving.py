"""The serving file: what Superset may see, built aside and put in place in one step.

A process that holds the old file open goes on reading the old data even when the path is replaced (measured), so each
version has its own name and `serving.duckdb` is a symlink: readers open its real path for every connection.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from lake.faults import reach
from lake.lake import latest_snapshot, open_reader
from tnmt.settings import Settings

KEPT_VERSIONS = 2
NAME = "serving"


@dataclass(frozen=True)
class Served:
    """What was put in place: path, snapshot, tables and rows; `fresh` is False where the file in force was already of this snapshot."""

    path: Path
    snapshot_id: int
    tables: int
    rows: int
    fresh: bool


def current(settings: Settings) -> Path | None:
    """Real path of the serving file in force, or None before the first publish."""
    link = settings.serving / f"{NAME}.duckdb"
    return link.resolve() if link.exists() else None


def publish_serving(settings: Settings, tables: list[str], as_of: datetime) -> Served:
    """Builds `serving-<snapshot>.duckdb` from `tables` (schema.table in the lake) at the newest snapshot and swaps it in.

    The lake is only read, so that writers are not held up. Nothing is seen of a build that fails: the old file stays.
    """
    settings.serving.mkdir(parents=True, exist_ok=True)
    with open_reader(settings) as probe:
        snapshot_id = latest_snapshot(probe)
    path = settings.serving / f"{NAME}-{snapshot_id}.duckdb"
    if current(settings) == path.resolve() and _same(path, tables, as_of):
        return Served(path, snapshot_id, len(tables), 0, fresh=False)
    half = settings.serving / f".{NAME}-{snapshot_id}-{os.getpid()}.duckdb"
    half.unlink(missing_ok=True)
    rows = 0
    con = open_reader(settings, snapshot=snapshot_id)
    try:
        con.execute(f"ATTACH '{half}' AS served")
        for schema in sorted({t.split(".")[0] for t in tables}):
            con.execute(f"CREATE SCHEMA IF NOT EXISTS served.{schema}")
        for table in sorted(tables):
            con.execute(f"CREATE TABLE served.{table} AS SELECT * FROM lake.{table}")
            rows += int(con.execute(f"SELECT count(*) FROM served.{table}").fetchall()[0][0])
        con.execute("CREATE TABLE served.main.serving_info (as_of TIMESTAMP, snapshot_id BIGINT, tables VARCHAR[])")
        con.execute("INSERT INTO served.main.serving_info VALUES (?, ?, ?)", [as_of, snapshot_id, sorted(tables)])
        con.execute("CHECKPOINT served")
        con.execute("DETACH served")
    finally:
        con.close()
    reach("serving.built")
    half.replace(path)
    swap(settings, path)
    reach("serving.swapped")
    _drop_old(settings, path)
    return Served(path, snapshot_id, len(tables), rows, fresh=True)


def swap(settings: Settings, path: Path) -> None:
    """Points `serving.duckdb` at `path`, atomically."""
    link = settings.serving / f"{NAME}.duckdb"
    new = settings.serving / f".{NAME}.{os.getpid()}.link"
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


def _drop_old(settings: Settings, keep: Path) -> None:
    """Removes all but the newest versions, and what a killed build left; open connections keep their file until they close."""
    versions = sorted(settings.serving.glob(f"{NAME}-[0-9]*.duckdb"), key=lambda p: int(p.stem.rsplit("-", 1)[1]), reverse=True)
    for old in [p for p in versions if p != keep][KEPT_VERSIONS - 1 :]:
        old.unlink(missing_ok=True)
    for half in settings.serving.glob(f".{NAME}-*"):
        half.unlink(missing_ok=True)
