"""Upkeep of the lake: retention of raw bytes, compaction, expiry that leaves pinned snapshots, removal of files that nothing refers to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from lake.lake import open_writer, transaction
from tnmt.settings import Settings

KEEP_DAYS = 30


@dataclass(frozen=True)
class Maintained:
    """Data files before and after, snapshots expired, snapshots that stay because somebody pinned them, deliveries whose bytes were erased."""

    files_before: int
    files_after: int
    expired: int
    pinned: int
    erased: int


def pin(settings: Settings, snapshot_id: int, purpose: str, now: datetime) -> None:
    """Keeps a snapshot that an extract, a report or a backup names."""
    with open_writer(settings, "pin") as con, transaction(con):
        con.execute("INSERT INTO lake.ops.pin VALUES (?, ?, ?)", [snapshot_id, purpose, now])


def maintain(settings: Settings, now: datetime, keep_days: int = KEEP_DAYS) -> Maintained:
    """Erases raw bytes past their retention, compacts, expires snapshots older than `keep_days` by their numbers, and cleans up.

    Never `expire_older_than`: it drops pinned snapshots too. Deletes are first written out of the files, since merging
    passes over files with deletes.
    """
    with open_writer(settings, "maintenance") as con:

        def files() -> int:
            return int(con.execute("SELECT coalesce(sum(file_count), 0) FROM ducklake_table_info('lake')").fetchall()[0][0])

        before = files()
        erased = erase_raw(con, settings, now)
        con.execute("CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)")
        con.execute("CALL ducklake_merge_adjacent_files('lake')")
        pinned = {int(r[0]) for r in con.execute("SELECT DISTINCT snapshot_id FROM lake.ops.pin").fetchall()}
        old = [
            int(r[0])
            for r in con.execute(
                "SELECT snapshot_id FROM ducklake_snapshots('lake') WHERE snapshot_time < ? "
                "AND snapshot_id < (SELECT max(snapshot_id) FROM ducklake_snapshots('lake'))",
                [now - timedelta(days=keep_days)],
            ).fetchall()
        ]
        expire = [s for s in old if s not in pinned]
        if expire:
            con.execute(f"CALL ducklake_expire_snapshots('lake', versions => [{', '.join(map(str, expire))}])")
        con.execute("CALL ducklake_cleanup_old_files('lake', cleanup_all => false)")
        con.execute("CALL ducklake_delete_orphaned_files('lake', cleanup_all => false)")
        return Maintained(before, files(), len(expire), len(pinned & set(old)), erased)


def erase_raw(con: duckdb.DuckDBPyConnection, settings: Settings, now: datetime) -> int:
    """Erases the bytes of deliveries received longer ago than their contract keeps them; returns how many deliveries.

    The ledger keeps their rows, with `stored` = 'erased'; so does quarantine, without the closed text. What waits to be
    gated stays, and so do scans, which are not ours. Old snapshots hold the bytes until they expire.
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
    if not days:
        return 0
    # the same bytes may have come under another name that is still kept
    folders = con.execute("""
        SELECT DISTINCT sha256 FROM aged
        WHERE stored = 'landing' AND sha256 NOT IN (
            SELECT l.sha256 FROM lake.ops.landed AS l ANTI JOIN aged AS a ON l.delivery_id = a.delivery_id WHERE l.stored = 'landing')""").fetchall()
    mine = f"day IN ({', '.join(days)}) AND delivery_id IN (SELECT delivery_id FROM aged)"
    with transaction(con):
        for schema in ("raw", "raw_closed"):
            con.execute(f"DELETE FROM lake.{schema}.file WHERE {mine}")
        con.execute(f"UPDATE lake.quarantine_closed.row SET raw_text = NULL WHERE {mine} AND raw_text IS NOT NULL")
        con.execute(f"UPDATE lake.ops.landed SET stored = 'erased' WHERE {mine}")
    for (sha256,) in folders:
        for root in (settings.landing, settings.landing / "closed"):
            shutil.rmtree(root / sha256[:2] / sha256, ignore_errors=True)
    return int(con.execute("SELECT count(*) FROM aged").fetchall()[0][0])
