"""The serving file: what Superset may see, built aside and put in place in one step.

A process that holds the old file open goes on reading the old data even when the path is replaced (measured), so each
version has its own name and `serving.duckdb` is a symlink: readers open its real path for every connection.
What changes every few minutes is replaced in a copy of the file in force (`refresh_serving`); `served_table` says from
which snapshot each table is, so that a cache drops what changed and nothing else.
SQL Lab has a file of its own, `serving-sqllab.duckdb`, made in the same step: what may run for long, or look at what no
chart shows, does so there, and of the tables that grow with the telemetry it holds the last days only.
One process publishes at a time (a lock on the folder that dies with its process), no snapshot takes the place of a newer one, and
no file with fewer tables than it should have is put in force. What a build held back is taken from the file in force, and told
in `held_back`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from lake.faults import reach
from lake.lake import LakeError, has_table, latest_snapshot, open_reader, quoted
from lake.lock import writer_lock
from tnmt.settings import Settings

KEPT_VERSIONS = 2
NAME = "serving"
LAB = "serving-sqllab"
TOLD = "marts_operations.held_back"
"""The mart that dashboards read; it has the rows of `held_back`."""


class ServingRefused(LakeError):
    """The file that was made is not put in force; the text says why and what to do."""


@dataclass(frozen=True)
class Served:
    """What was put in place: path, snapshot, tables and rows; `fresh` is False where the file in force was already of this snapshot."""

    path: Path
    snapshot_id: int
    tables: int
    rows: int
    fresh: bool


@dataclass(frozen=True)
class HeldBack:
    """A table that is served as it was: since when, and why, for those who read the dashboards."""

    table: str
    title_vi: str
    since: datetime
    reason_vi: str
    columns: Mapping[str, str]
    """Column -> DuckDB type: a table that never was good is served without rows. Empty where the lake has its last good rows."""


@dataclass(frozen=True)
class InForce:
    """What the file in force speaks for: the newest publish that its tables have seen, and the moment; None where a version before this one made it."""

    affected_to: int | None
    as_of: datetime | None


FirstDay = Callable[[duckdb.DuckDBPyConnection, InForce], date | None]


def current(settings: Settings, name: str = NAME) -> Path | None:
    """Real path of the serving file (or of SQL Lab's) in force, or None before the first publish."""
    link = settings.serving / f"{name}.duckdb"
    return link.resolve() if link.exists() else None


def as_of(version: Path) -> datetime:
    """The moment of a serving file, as its dashboards show it. Raises duckdb.Error where the file is none."""
    with duckdb.connect(str(version), read_only=True) as con:
        moment: datetime = con.execute("SELECT as_of FROM serving_info").fetchall()[0][0]
    return moment


def in_force(settings: Settings) -> InForce:
    """What the file in force speaks for."""
    path = current(settings)
    try:
        if path is None:
            return InForce(None, None)
        with duckdb.connect(str(path), read_only=True) as con:
            return InForce(*con.execute("SELECT affected_to, built_as_of FROM serving_info").fetchall()[0])
    except duckdb.Error:
        return InForce(None, None)


def publish_serving(
    settings: Settings, tables: list[str], as_of: datetime, lab_days: Mapping[str, int] | None = None, held: Iterable[HeldBack] = ()
) -> Served:
    """Builds `serving-<snapshot>.duckdb` from `tables` (schema.table in the lake) at the newest snapshot and swaps it in.

    `lab_days` names the tables of which SQL Lab's file holds only so many last days (by their column `day`). `held` stay as the file in force
    has them. The lake is only read, so that writers are not held up. Nothing is seen of a build that fails: the old file stays.
    """
    kept = {h.table: h for h in held if h.table in tables}
    with _publishing(settings):
        snapshot_id, _ = _newest(settings)
        path = settings.serving / f"{NAME}-{snapshot_id}.duckdb"
        if current(settings) == path.resolve() and current(settings, LAB) and _same(path, tables, as_of):
            _drop_old(settings, snapshot_id)
            return Served(path, snapshot_id, len(tables), 0, fresh=False)
        return _make(settings, tables, tables, as_of, lab_days or {}, snapshot_id, _drafts(settings, snapshot_id), held=kept)


def refresh_serving(
    settings: Settings,
    tables: list[str],
    as_of: datetime,
    lab_days: Mapping[str, int] | None = None,
    first_day: FirstDay | None = None,
) -> Served:
    """Puts files in force that have `tables` of the newest snapshot, and all else as the files in force have it.

    `first_day`, asked over a reader of the lake, says the day from which on rows (column `day`) are not those of the files in force any more;
    None where any may not be. Raises FileNotFoundError before the first `publish_serving`.
    """
    with _publishing(settings):
        snapshot_id, since = _newest(settings, first_day)
        drafts = _drafts(settings, snapshot_id)
        existing: list[str] = []
        for name, draft in drafts.items():
            now = current(settings, name)
            if now is None:
                raise FileNotFoundError(f"there is no {name}.duckdb to refresh under {settings.serving}; `tnmt run` makes the first")
            shutil.copyfile(now, draft)
            with duckdb.connect(str(draft), read_only=True) as con:
                existing = [r[0] for r in con.execute("SELECT name FROM served_table").fetchall()]
        return _make(settings, tables, sorted({*existing, *tables}), as_of, lab_days or {}, snapshot_id, drafts, since)


def _publishing(settings: Settings) -> AbstractContextManager[None]:
    """The one publisher of this platform."""
    settings.serving.mkdir(parents=True, exist_ok=True)
    return writer_lock(settings.serving / ".lock", "publish the serving file", settings.lock_timeout)


def _newest(settings: Settings, first_day: FirstDay | None = None) -> tuple[int, date | None]:
    """The lake's newest snapshot, and what `first_day` says; raises ServingRefused where the file in force is of a newer one."""
    with open_reader(settings) as probe:
        snapshot_id = latest_snapshot(probe)
        # asked after the snapshot: what it knows is in it, or comes with the next one and makes the day earlier
        since = first_day(probe, in_force(settings)) if first_day else None
    now = current(settings)
    if now is not None and (served := _number(now)) > snapshot_id:
        raise ServingRefused(
            f"{now.name} is of snapshot {served}, and the newest of the lake is {snapshot_id}: expected a lake that is not older than what it serves. "
            f"Where it was restored from a backup, remove {settings.serving} and run `tnmt run`"
        )
    return snapshot_id, since


def _number(version: Path) -> int:
    return int(version.stem.rsplit("-", 1)[1])


def _drafts(settings: Settings, snapshot_id: int) -> dict[str, Path]:
    """Where this process makes the two files, SQL Lab's first, so that the one that charts read is the last to be put in force."""
    drafts = {name: settings.serving / f".{name}-{snapshot_id}-{os.getpid()}.duckdb" for name in (LAB, NAME)}
    for draft in drafts.values():
        draft.unlink(missing_ok=True)
    return drafts


def _make(
    settings: Settings,
    tables: list[str],
    expected: list[str],
    as_of: datetime,
    lab_days: Mapping[str, int],
    snapshot_id: int,
    drafts: Mapping[str, Path],
    first_day: date | None = None,
    held: Mapping[str, HeldBack] | None = None,
) -> Served:
    """Fills both files with `tables` of the snapshot, swaps them in, and removes versions that nobody needs.

    Raises ServingRefused where one of them lacks a table of `expected`.
    """
    con = open_reader(settings, snapshot=snapshot_id)
    try:
        last = {t: f"WHERE day > DATE '{as_of.date()}' - {int(days)}" for t, days in lab_days.items()}
        sources = {t: f"lake.{t}" for t in tables} | _kept(con, current(settings), held or {})
        built = _built(con, held or {})
        rows = _fill(con, drafts[NAME], "served", sources, as_of, snapshot_id, first_day, built)
        _tell_held(con, "served", None if held is None else list(held.values()))
        _fill(con, drafts[LAB], "lab", {t: f"served.{t} {last.get(t, '')}" for t in tables}, as_of, snapshot_id, first_day, built)
        _tell_held(con, "lab", None if held is None else list(held.values()))
        for name in ("served", "lab"):
            if missing := sorted(t for t in set(expected) if not has_table(con, t, name)):
                raise ServingRefused(f"the new serving file lacks {', '.join(missing)}; the one in force stays. Run `tnmt run` again")
            con.execute(f"CHECKPOINT {name}")
    finally:
        con.close()
    reach("serving.built")
    for name, draft in drafts.items():
        made = draft.replace(settings.serving / f"{name}-{snapshot_id}.duckdb")
        swap(settings, made, name)
    reach("serving.swapped")
    _drop_old(settings, snapshot_id)
    return Served(settings.serving / f"{NAME}-{snapshot_id}.duckdb", snapshot_id, len(tables), rows, fresh=True)


def _kept(con: duckdb.DuckDBPyConnection, before: Path | None, held: Mapping[str, HeldBack]) -> dict[str, str]:
    """FROM clauses of what is held back: the file in force, the lake where it has none, else no rows."""
    if not held:
        return {}
    if before is not None:
        con.execute(f"ATTACH {quoted(str(before))} AS before (READ_ONLY)")
    found = {}
    for table, what in held.items():
        if before is not None and has_table(con, table, "before"):
            found[table] = f"before.{table}"
        elif what.columns:
            empty = ", ".join(f'CAST(NULL AS {kind}) AS "{column}"' for column, kind in what.columns.items())
            found[table] = f"(SELECT {empty} WHERE FALSE)"
    return found


def _tell_held(con: duckdb.DuckDBPyConnection, name: str, held: list[HeldBack] | None) -> None:
    """Table `held_back` of the file: a row a table that is not of this build. A refresh leaves it as it is."""
    columns = "table_name VARCHAR, title_vi VARCHAR, since TIMESTAMP, reason_vi VARCHAR"
    con.execute(f"CREATE TABLE IF NOT EXISTS {name}.main.held_back ({columns})")
    for what in held or []:
        con.execute(f"INSERT INTO {name}.main.held_back VALUES (?, ?, ?, ?)", [what.table, what.title_vi, what.since, what.reason_vi])
    if has_table(con, TOLD, name):
        con.execute(f"CREATE OR REPLACE TABLE {name}.{TOLD} AS SELECT * FROM {name}.main.held_back")


@dataclass(frozen=True)
class _Built:
    """What a table of the lake is made of, by ops.built; `held`: the file holds an earlier state of it."""

    affected_to: int
    as_of: datetime | None
    hash: str | None
    held: bool


def _built(con: duckdb.DuckDBPyConnection, held: Collection[str]) -> dict[str, _Built]:
    """That of every table, and of no view; of an older lake nothing is known."""
    try:
        # a view stays as it was made until its text changes: what it says of publishes is as old
        rows = con.execute(
            "SELECT model, affected_to, as_of, hash FROM lake.ops.built WHERE model NOT IN "
            "(SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE database_name = 'lake')"
        ).fetchall()
    except duckdb.CatalogException:
        return {}
    return {model: _Built(affected_to, as_of, made_by, model in held) for model, affected_to, as_of, made_by in rows}


def _fill(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    name: str,
    tables: Mapping[str, str],
    as_of: datetime,
    snapshot_id: int,
    first_day: date | None,
    built: Mapping[str, _Built],
) -> int:
    """Makes these tables (table -> FROM clause) in the database file `path`, attached as `name`; returns the rows written."""
    con.execute(f"ATTACH {quoted(str(path))} AS {name}")
    for schema in sorted({t.split(".")[0] for t in tables}):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {name}.{schema}")
    rows = 0
    con.execute(f"CREATE TABLE IF NOT EXISTS {name}.main.served_table (name VARCHAR PRIMARY KEY, snapshot_id BIGINT)")
    con.execute(f"ALTER TABLE {name}.main.served_table ADD COLUMN IF NOT EXISTS hash VARCHAR")
    before = dict(con.execute(f"SELECT name, hash FROM {name}.main.served_table").fetchall())
    for table, source in sorted(tables.items()):
        of_now = built[table].hash if table in built and not built[table].held else None
        # rows of earlier days stay where the same SQL made them
        since = f"day >= DATE '{first_day}'" if first_day and of_now and before.get(table) == of_now and _has_day(con, f"{name}.{table}") else None
        if since:
            con.execute(f"DELETE FROM {name}.{table} WHERE {since}")
            written = con.execute(f"INSERT INTO {name}.{table} SELECT * FROM {source} {'AND' if 'WHERE' in source else 'WHERE'} {since}")
        else:
            written = con.execute(f"CREATE OR REPLACE TABLE {name}.{table} AS SELECT * FROM {source}")
        rows += int(written.fetchall()[0][0])
        con.execute(f"INSERT OR REPLACE INTO {name}.main.served_table VALUES (?, ?, ?)", [table, snapshot_id, of_now])
    of_these = [b for t, b in built.items() if t in tables]
    seen = min((b.affected_to for b in of_these), default=None)
    spoke = min((b.as_of for b in of_these if b.as_of is not None), default=None)
    con.execute(
        f"""
        CREATE OR REPLACE TABLE {name}.main.serving_info AS
        SELECT ?::TIMESTAMP AS as_of, ?::BIGINT AS snapshot_id, ?::BIGINT AS affected_to, ?::TIMESTAMP AS built_as_of,
               list(name ORDER BY name) AS tables
        FROM {name}.main.served_table""",
        [as_of, snapshot_id, seen, spoke],
    )
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
    """Removes all but the newest versions, and what killed builds left (a living one would hold the lock); open connections keep their file."""
    for name in (LAB, NAME):
        versions = sorted(settings.serving.glob(f"{name}-[0-9]*.duckdb"), key=_number, reverse=True)
        for old in [p for p in versions if p.name != f"{name}-{keep}.duckdb"][KEPT_VERSIONS - 1 :]:
            old.unlink(missing_ok=True)
        for draft in settings.serving.glob(f".{name}-*"):
            draft.unlink(missing_ok=True)
