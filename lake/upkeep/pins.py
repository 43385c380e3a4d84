"""Pins: snapshots that an extract, a report or a backup names, and until when they stay."""

from __future__ import annotations

from datetime import datetime, timedelta

import duckdb

from lake.lake import open_writer, transaction
from tnmt.settings import Settings

PIN_DAYS = 1825
"""How long a pin holds that names no end: as long as raw bytes are kept unless their contract says otherwise."""


def pin(settings: Settings, snapshot_id: int, purpose: str, now: datetime, until: datetime | None = None) -> None:
    """Keeps a snapshot that an extract, a report or a backup names, until the day that the pin names (PIN_DAYS unless said)."""
    with open_writer(settings, "pin") as con, transaction(con):
        add_pin(con, snapshot_id, purpose, now, until)


def add_pin(con: duckdb.DuckDBPyConnection, snapshot_id: int, purpose: str, now: datetime, until: datetime | None = None) -> None:
    """`pin` within a transaction of the caller's."""
    con.execute(
        "INSERT INTO lake.ops.pin (snapshot_id, purpose, pinned_at, until) VALUES (?, ?, ?, ?)",
        [snapshot_id, purpose, now, until or now + timedelta(days=PIN_DAYS)],
    )


def pins_in_force(con: duckdb.DuckDBPyConnection, now: datetime) -> dict[int, str]:
    """Snapshots that stay for now, each with what it is kept for."""
    rows = con.execute(
        "SELECT snapshot_id, string_agg(purpose, ', ' ORDER BY purpose) FROM lake.ops.pin WHERE coalesce(until, pinned_at + to_days(?)) >= ? GROUP BY snapshot_id",
        [PIN_DAYS, now],
    ).fetchall()
    return {int(snapshot): str(purposes) for snapshot, purposes in rows}
