"""Upkeep of the lake: compaction, expiry that leaves pinned snapshots, removal of files that nothing refers to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lake.lake import open_writer, transaction
from tnmt.settings import Settings

KEEP_DAYS = 30


@dataclass(frozen=True)
class Maintained:
    """Data files before and after, snapshots expired, snapshots that stay because somebody pinned them."""

    files_before: int
    files_after: int
    expired: int
    pinned: int


def pin(settings: Settings, snapshot_id: int, purpose: str, now: datetime) -> None:
    """Keeps a snapshot that an extract, a report or a backup names."""
    with open_writer(settings, "pin") as con, transaction(con):
        con.execute("INSERT INTO lake.ops.pin VALUES (?, ?, ?)", [snapshot_id, purpose, now])


def maintain(settings: Settings, now: datetime, keep_days: int = KEEP_DAYS) -> Maintained:
    """Compacts, expires snapshots older than `keep_days` by their numbers, and cleans up.

    Never `expire_older_than`: it drops pinned snapshots too. Deletes are first written out of the files, since merging
    passes over files with deletes.
    """
    with open_writer(settings, "maintenance") as con:

        def files() -> int:
            return int(con.execute("SELECT coalesce(sum(file_count), 0) FROM ducklake_table_info('lake')").fetchall()[0][0])

        before = files()
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
        return Maintained(before, files(), len(expire), len(pinned & set(old)))
