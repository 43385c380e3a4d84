"""What the ledger says to people: how each source stands, what was refused and why. Reads only."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import duckdb

from lake.lake import has_table, rules
from lake.query import query
from tnmt.settings import Settings

Rows = tuple[list[str], list[tuple[Any, ...]]]
"""Names of columns, and rows."""


def standing(con: duckdb.DuckDBPyConnection, moment: datetime) -> list[dict[str, Any]]:
    """Each source at a moment: fresh, late or never, and how many of its deliveries and rows wait, are blocked, were refused or differ."""
    # not in a lake that no run of this version has written into
    differing = (
        "SELECT source, sum(rows)::BIGINT AS rows FROM lake.ops.conflict GROUP BY source"
        if has_table(con, "ops.conflict")
        else "SELECT NULL AS source, 0 AS rows"
    )
    rule = rules(con)
    rows = con.execute(
        f"""
        WITH ledger AS (
            SELECT source, {rule}.last_published(status, received_at, $1::TIMESTAMP) AS last_received_at, count(*) AS deliveries, count(*) FILTER (status = 'landed') AS waiting,
                   count(*) FILTER (status = 'blocked') AS blocked, count(*) FILTER (status = 'set_aside') AS set_aside,
                   count(*) FILTER (status = 'quarantined') AS quarantined_files,
                   sum(rows_quarantined)::BIGINT AS quarantined_rows
            FROM lake.ops.delivery GROUP BY source
        ),
        differing AS ({differing})
        SELECT s.source, s.title_vi, l.last_received_at, coalesce(l.deliveries, 0) AS deliveries, coalesce(l.waiting, 0) AS waiting,
               coalesce(l.blocked, 0) AS blocked, coalesce(l.set_aside, 0) AS set_aside, coalesce(l.quarantined_files, 0) AS quarantined_files, coalesce(l.quarantined_rows, 0) AS quarantined_rows,
               coalesce(d.rows, 0) AS conflicting_rows,
               {rule}.standing(l.last_received_at, s.cadence_minutes, s.lateness_minutes, $1::TIMESTAMP).state AS state
        FROM lake.ops.source AS s LEFT JOIN ledger AS l ON l.source = s.source LEFT JOIN differing AS d ON d.source = s.source
        ORDER BY s.source""",
        [moment],
    ).fetchall()
    return [dict(zip((d[0] for d in con.description), row, strict=True)) for row in rows]


def left_unclaimed(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int]]:
    """Files of the inboxes that no contract claims: (folder, name, bytes)."""
    if not has_table(con, "ops.unclaimed"):
        return []
    return con.execute("SELECT folder, name, bytes FROM lake.ops.unclaimed ORDER BY folder, name").fetchall()


def refused(settings: Settings, source: str | None, now: datetime) -> Rows:
    """Quarantined rows by source and reason, each with its newest example, and deliveries that are blocked, set aside or refused whole."""
    where = "WHERE source = ? AND" if source else "WHERE"
    statement = f"""
        WITH refused AS (
            SELECT source, array_to_string(reasons, ', ') AS reasons, count(*) AS rows, count(DISTINCT delivery_id) AS deliveries, max(day) AS last_day,
                   arg_max({{'delivery_id': delivery_id, 'line': line, 'details': details}},
                           {{'at': received_at, 'id': delivery_id, 'first': -coalesce(line, 2147483647)}}) AS newest
            FROM lake.quarantine.row {where}
                (delivery_id IS NULL OR delivery_id NOT IN (SELECT delivery_id FROM lake.ops.delivery WHERE status = 'closed')) GROUP BY ALL
        )
        SELECT refused.source, reasons, rows, deliveries, last_day, newest.delivery_id AS delivery_id, l.name AS file, newest.line AS line, newest.details AS example
        FROM refused LEFT JOIN lake.ops.landed AS l ON l.delivery_id = newest.delivery_id
        UNION ALL
        -- a refused file stands above with its lines; here only where it has none that could be shown
        SELECT source, status, rows_quarantined, 1, day, delivery_id, name, NULL, reason FROM lake.ops.delivery {where}
        status IN ('quarantined', 'blocked', 'set_aside') AND (status <> 'quarantined' OR delivery_id NOT IN (SELECT delivery_id FROM lake.quarantine.row {where} delivery_id IS NOT NULL))
        ORDER BY source, rows DESC NULLS FIRST, delivery_id"""
    return query(settings, statement, [source] * 3 if source else [], now=now)


def sent_anything(settings: Settings, source: str, now: datetime) -> bool:
    """Whether the ledger has a delivery of a source, which may have been withdrawn since."""
    return bool(query(settings, "SELECT 1 FROM lake.ops.landed WHERE source = ? LIMIT 1", [source], now=now)[1])


def delivery(settings: Settings, delivery_id: str, now: datetime) -> Rows:
    """The ledger's row of a delivery; no row where there is none."""
    return query(settings, "SELECT * FROM lake.ops.delivery WHERE delivery_id = ?", [delivery_id], now=now)


def refused_lines(settings: Settings, delivery_id: str, now: datetime) -> Rows:
    """Its quarantined rows in the order of its lines."""
    statement = "SELECT line, reasons, details, raw_text FROM lake.quarantine.row WHERE delivery_id = ? ORDER BY line"
    return query(settings, statement, [delivery_id], now=now)


def why_refused(con: duckdb.DuckDBPyConnection, source: str, name: str) -> list[str]:
    """What quarantine says of the rows of a source's file, a text a row."""
    found = con.execute(
        "SELECT q.details FROM lake.quarantine.row AS q JOIN lake.ops.landed AS d USING (delivery_id) WHERE d.source = ? AND ends_with(d.name, ?)",
        [source, name],
    )
    return [details for (details,) in found.fetchall()]


def came_of(con: duckdb.DuckDBPyConnection, source: str, name: str) -> tuple[str | None, int]:
    """Status of a source's newest delivery of that name, and how many of its rows stand in quarantine; (None, 0) where none was landed."""
    found = con.execute(
        "SELECT status, coalesce(rows_quarantined, 0) FROM lake.ops.delivery WHERE source = ? AND name = ? ORDER BY received_at DESC LIMIT 1",
        [source, name],
    ).fetchall()
    return (found[0][0], int(found[0][1])) if found else (None, 0)


def last_gates(con: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, int, int, list[str] | None, str]]:
    """What the last run that gated each source did of it: its last seq, deliveries, rows read, suites' rules above what is tolerated, run."""
    rows = con.execute(
        """
        WITH last_run AS (SELECT source, arg_max(run_id, seq) AS run_id FROM lake.ops.gate_result WHERE source IS NOT NULL GROUP BY source)
        SELECT g.source, max(g.seq), sum(g.deliveries)::BIGINT, sum(g.rows_read)::BIGINT,
               list_sort(list_distinct(flatten(list(coalesce(g.failed, []))))), g.run_id
        FROM lake.ops.gate_result AS g JOIN last_run USING (source, run_id) GROUP BY ALL"""
    ).fetchall()
    return {row[0]: (row[1], row[2], row[3], row[4], row[5]) for row in rows}


def pending_sources(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Sources of which something is landed and was not gated."""
    return {source for (source,) in con.execute("SELECT DISTINCT source FROM lake.ops.pending").fetchall()}


def newest_arrival(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """When the newest delivery arrived (GMT+7); None where none did."""
    moment: datetime | None = con.execute("SELECT max(arrived_at) FROM lake.ops.arrival").fetchall()[0][0]
    return moment


def stations_in_use(con: duckdb.DuckDBPyConnection, today: date) -> list[tuple[str, str | None]]:
    """Stations of the register that are in use, with the codes that they had before (one text, `;` between); none where there is no register."""
    if not has_table(con, "clean.station"):
        return []
    return con.execute(
        "SELECT station_id, former_codes FROM lake.clean.station WHERE in_use_to IS NULL OR in_use_to >= ? ORDER BY 1", [today]
    ).fetchall()
