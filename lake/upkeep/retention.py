"""Retention: raw bytes go when the time that their contract gives them has passed, from the lake, the landing folder and old snapshots."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from lake.faults import reach
from lake.identity import META
from lake.lake import transaction
from tnmt.settings import Settings


def with_erased_persons(con: duckdb.DuckDBPyConnection, snapshots: Iterable[int]) -> list[int]:
    """Those of the snapshots that still hold the bytes of personal deliveries that have been erased since."""
    return [snapshot for snapshot in snapshots if _holds_erased_persons(con, snapshot)]


def _holds_erased_persons(con: duckdb.DuckDBPyConnection, snapshot: int) -> bool:
    try:
        return bool(
            con.execute(
                f"""
                SELECT 1 FROM (SELECT * FROM lake.ops.landed AT (VERSION => {int(snapshot)})) AS held JOIN lake.ops.landed AS l USING (delivery_id)
                JOIN lake.ops.source AS s ON l.source = s.source
                WHERE s.sensitivity = 'personal' AND l.stored IN ('erasing', 'erased') AND held.stored NOT IN ('erasing', 'erased') LIMIT 1"""
            ).fetchall()
        )
    except duckdb.CatalogException:  # of a time before there was a ledger
        return False


def erase_raw(con: duckdb.DuckDBPyConnection, settings: Settings, now: datetime, problems: list[str]) -> int:
    """Erases the bytes of deliveries received longer ago than their contract keeps them; returns how many deliveries.

    The ledger keeps their rows, with `stored` = 'erasing' until the last snapshot and file that held the bytes is gone, then
    'erased'; so does quarantine, without the closed text. What waits to be gated stays, and so do scans, which are not ours.
    An erasure that was cut is taken up again: files under the landing folder go at each call until they are gone, and so do those of an
    erased delivery that its sender sent once more. What cannot be removed is a problem.
    """
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE aged AS
        SELECT l.delivery_id, l.source, l.day, l.sha256, l.stored
        FROM lake.ops.landed AS l JOIN lake.ops.source AS s USING (source)
        WHERE l.stored IN ('raw.file', 'landing') AND l.received_at < ? - s.retention_days * INTERVAL 1 DAY
            AND l.delivery_id NOT IN (SELECT delivery_id FROM lake.ops.pending)""",
        [now],
    )
    days = [f"DATE '{r[0]}'" for r in con.execute("SELECT DISTINCT day FROM aged ORDER BY day").fetchall()]
    if days:
        of_these = f"day IN ({', '.join(days)}) AND delivery_id IN (SELECT delivery_id FROM aged)"
        with transaction(con):
            for schema in ("raw", "raw_closed"):
                con.execute(f"DELETE FROM lake.{schema}.file WHERE {of_these}")
            con.execute(f"UPDATE lake.quarantine_closed.row SET raw_text = NULL WHERE {of_these} AND raw_text IS NOT NULL")
            con.execute(f"UPDATE lake.ops.landed SET stored = 'erasing' WHERE {of_these}")
    reach("erase.recorded")
    _erase_landing(con, settings, problems)
    return int(con.execute("SELECT count(*) FROM aged").fetchall()[0][0])


def _lying(settings: Settings) -> dict[str, list[Path]]:
    """{sha256: folders} of what is kept under the landing folder, closed or not."""
    found: dict[str, list[Path]] = {}
    for root in (settings.landing, settings.landing / "closed"):
        for folder in root.glob("??/*"):
            found.setdefault(folder.name, []).append(folder)
    return found


def _erase_landing(con: duckdb.DuckDBPyConnection, settings: Settings, problems: list[str]) -> None:
    """Removes the folders of deliveries that are being erased or were; the same bytes may have come under another name that is still kept."""
    lying = _lying(settings)
    for (sha256,) in con.execute(
        """
        SELECT DISTINCT sha256 FROM lake.ops.landed WHERE stored IN ('erasing', 'erased') AND list_contains(?, sha256)
            AND sha256 NOT IN (SELECT sha256 FROM lake.ops.landed WHERE stored = 'landing')
        ORDER BY sha256""",
        [list(lying)],
    ).fetchall():
        for folder in lying[sha256]:
            if why := _remove(folder):
                problems.append(
                    f"{folder} holds bytes whose retention has passed and could not be removed ({why}): "
                    "remove it, or give this user the right to; the deliveries do not count as erased until it is gone"
                )


def _remove(folder: Path) -> str:
    """Removes a folder with what it holds; returns why that cannot be, or nothing."""
    why: list[str] = []

    def note(_: object, path: str, error: Any) -> None:
        why.append(f"{path}: {error[1]}")

    shutil.rmtree(folder, onerror=note)
    return why[0] if why and folder.exists() else ""


def erasing_at_the_oldest(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Deliveries whose bytes no snapshot that is left can show any more."""
    if not con.execute("SELECT 1 FROM lake.ops.landed WHERE stored = 'erasing' LIMIT 1").fetchall():
        return []
    oldest = con.execute("SELECT min(snapshot_id) FROM ducklake_snapshots('lake')").fetchall()[0][0]
    try:
        then = con.execute(f"SELECT delivery_id FROM lake.ops.landed AT (VERSION => {int(oldest)}) WHERE stored = 'erasing'").fetchall()
    except duckdb.Error:  # the lake had no ledger yet
        return []
    return [r[0] for r in then]


def record_erased(con: duckdb.DuckDBPyConnection, settings: Settings, deliveries: list[str], started: datetime) -> None:
    """Notes as 'erased' what no snapshot showed when this maintenance began, once the files that held it are gone from the disk too: those of
    the lake, and the folder under `landing`, also where another delivery keeps the same bytes there."""
    held = con.execute(
        f"SELECT count(*) FROM {META}.ducklake_files_scheduled_for_deletion WHERE schedule_start::TIMESTAMPTZ < ? "
        "AND regexp_matches(path, '(^|/)(raw|raw_closed|quarantine_closed)/')",
        [started],
    ).fetchall()[0][0]
    if held or not deliveries:
        return
    con.execute("CREATE OR REPLACE TEMP TABLE gone AS SELECT unnest(?::VARCHAR[]) AS delivery_id", [deliveries])
    with transaction(con):
        con.execute(
            "UPDATE lake.ops.landed SET stored = 'erased' WHERE stored = 'erasing' AND delivery_id IN (SELECT delivery_id FROM gone) "
            "AND NOT list_contains(?, sha256)",
            [list(_lying(settings))],
        )
