"""Upkeep of the lake: retention of raw bytes, compaction, expiry that leaves pinned snapshots, removal of files that nothing refers to.

A table at a time, each under the lock and in transactions of its own, so that writers get in between, and one damaged file
stops nothing but its table. Before anything is removed the data must prove to be those of the catalog (`lake.identity`), and
files that the catalog does not name are looked at a second time: a catalog that was lost or restored knows too few.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import duckdb

from lake.faults import reach
from lake.identity import META, LakeError, files_known, lake_id, mark, marked, other_catalog, same_lake
from lake.lake import attach_writer, exists, may_write, no_lake, upkeep_lock
from lake.lock import LakeLocked
from lake.upkeep.leftovers import remove_leftovers
from lake.upkeep.pins import pins_in_force
from lake.upkeep.retention import erase_raw, erasing_at_the_oldest, record_erased, with_erased_persons
from lake.upkeep.verify import damage, data_files
from tnmt.settings import Settings

KEEP_DAYS = 30
LEAST_KEEP_DAYS = 1
"""Snapshots of the last day are never expired: a build that runs may still read them."""
ORPHAN_SHARE = 0.05
FEW_ORPHANS = 20
"""Files that nothing refers to are removed without a person where they are at most so many, or at most this share of what the catalog names."""
TRIES = 3
T = TypeVar("T")


@dataclass(frozen=True)
class Maintained:
    """What upkeep did.

    Data files before and after, snapshots expired, snapshots that stay because somebody pinned them, deliveries whose bytes
    were erased, files that nothing referred to, leftovers of killed processes; `problems` are what a person must look at.
    """

    files_before: int
    files_after: int
    expired: int
    pinned: int
    erased: int
    orphans: int = 0
    leftovers: int = 0
    problems: tuple[str, ...] = ()


def maintain(settings: Settings, now: datetime, keep_days: int = KEEP_DAYS, *, orphans: int | None = None) -> Maintained:
    """Erases raw bytes past their retention, compacts, expires snapshots older than `keep_days` by their numbers, and cleans up.

    Never `expire_older_than`: it drops pinned snapshots too. `orphans` is the number of files that nothing refers to, as a
    person saw it: where it is right they are removed, however many. Raises LakeError where the data are not the catalog's.
    """
    if keep_days < LEAST_KEEP_DAYS:
        raise LakeError(f"expected to keep snapshots of at least {LEAST_KEEP_DAYS} day, found {keep_days}: a build that runs may still read them")
    if not exists(settings):
        raise no_lake(settings)
    problems: list[str] = []
    con = attach_writer(settings)
    try:
        with upkeep_lock(settings, "maintenance: looks"):
            may_write(con, settings)
            _prove(con, settings)
            before = _count(con)
            gone_before = erasing_at_the_oldest(con)
            started = con.execute("SELECT max(snapshot_time) FROM ducklake_snapshots('lake')").fetchall()[0][0]
            erased = erase_raw(con, settings, now, problems)
        for table in _worn(con):
            _step(settings, table, partial(_compact, con, settings, table, problems), problems)
        expired, pinned = _step(settings, "expiry", lambda: _expire(con, now, keep_days, problems), problems) or (0, 0)

        def clean_up() -> tuple[int, int]:
            # what readers of the last day may still have open stays; `now` is GMT+7, DuckLake's stamps have a zone
            least = f"TIMESTAMPTZ '{now - timedelta(days=LEAST_KEEP_DAYS)}+07'"
            _guarded("clean-up of old files", lambda: con.execute(f"CALL ducklake_cleanup_old_files('lake', older_than => {least})"), problems)
            record_erased(con, settings, gone_before, started)
            return _remove_orphans(con, settings, orphans, problems), remove_leftovers(settings)

        removed, leftovers = _step(settings, "clean-up", clean_up, problems) or (0, 0)
        return Maintained(before, _count(con), expired, pinned, erased, removed, leftovers, tuple(problems))
    finally:
        con.close()


def _step(settings: Settings, what: str, do: Callable[[], T], problems: list[str]) -> T | None:
    """What a step under the lock returns; None with a problem noted where somebody else held the lake too long, so that the other steps go on."""
    try:
        with upkeep_lock(settings, f"maintenance: {what}"):
            return do()
    except LakeLocked as error:
        problems.append(f"{what} was left out: {error}. The next maintenance does it")
        return None


def _count(con: duckdb.DuckDBPyConnection) -> int:
    return int(con.execute("SELECT coalesce(sum(file_count), 0) FROM ducklake_table_info('lake')").fetchall()[0][0])


def _prove(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Refuses to go on where the data under the data path are not the catalog's; writes the marker where an older version left none."""
    named, present, strangers = files_known(con, settings)
    if not same_lake(con, settings):
        raise LakeError(
            f"nothing was removed: the files in {settings.data_path} are not those of this catalog (it names {named} files, {present} of them lie there, "
            f"{strangers} others do; marker {marked(con, settings) or 'none'}, expected {lake_id(con)}). Put the catalog back that belongs to them "
            "(docs/production.md, Backup)"
        )
    if other := other_catalog(con, settings):
        raise LakeError(
            f"nothing was removed: {settings.data_path} serves the catalog {other} too, of which this one is a copy; each would take the other's files for garbage. "
            "Give the copy data of its own (copy the folder, set TNMT_DATA), or remove the catalog that is of no use any more"
        )
    mark(con, settings)


def _guarded(what: str, do: Callable[[], object], problems: list[str]) -> bool:
    """Runs a step and tries again where another writer was faster; False with a problem noted where it cannot be done."""
    for attempt in range(1, TRIES + 1):
        try:
            do()
            return True
        except duckdb.TransactionException as error:
            if attempt == TRIES:
                problems.append(
                    f"{what}: given up after {TRIES} tries beside other writers ({str(error).splitlines()[0]}); the next maintenance does it"
                )
            time.sleep(0.2 * attempt)
        except duckdb.Error as error:
            problems.append(f"{what}: {str(error).splitlines()[0]}")
            return False
    return False


def _worn(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Tables with something to merge or to write out, as `schema.name`; the others need no lock."""
    return [
        r[0]
        for r in con.execute(
            f"""
            SELECT s.schema_name || '.' || i.table_name FROM ducklake_table_info('lake') AS i
            JOIN {META}.ducklake_schema AS s ON i.schema_id = s.schema_id AND s.end_snapshot IS NULL
            WHERE i.file_count > 1 OR i.delete_file_count > 0 ORDER BY 1"""
        ).fetchall()
    ]


def _compact(con: duckdb.DuckDBPyConnection, settings: Settings, table: str, problems: list[str]) -> None:
    """Writes deletes out of the files of one table, since merging passes over files with deletes, and merges small ones. Under the lock."""
    schema, _, name = table.partition(".")

    def work() -> None:
        con.execute("CALL ducklake_rewrite_data_files('lake', ?, schema => ?, delete_threshold => 0)", [name, schema])
        con.execute("CALL ducklake_merge_adjacent_files('lake', ?, schema => ?)", [name, schema])

    reach("maintain.table")
    found: list[str] = []
    if _guarded(f"{table} was not compacted", work, found):
        return
    bad = list(damage(con, settings, [f for f in data_files(con, settings, table) if f.current]))
    todo = "put the file back from the backup (docs/production.md), then run `tnmt doctor --deep`"
    problems.extend([f"damaged file of {d}; {todo}" for d in bad] or found)


def _expire(con: duckdb.DuckDBPyConnection, now: datetime, keep_days: int, problems: list[str]) -> tuple[int, int]:
    """Expires what is old and not pinned; returns (expired, pinned and kept)."""
    old = {
        int(r[0])
        for r in con.execute(
            # `now` is GMT+7 without a zone, DuckLake's stamps have one
            "SELECT snapshot_id FROM ducklake_snapshots('lake') WHERE snapshot_time AT TIME ZONE 'Etc/GMT-7' < ?::TIMESTAMP "
            "AND snapshot_id < (SELECT max(snapshot_id) FROM ducklake_snapshots('lake'))",
            [now - timedelta(days=keep_days)],
        ).fetchall()
    }
    pinned = {snapshot: purposes for snapshot, purposes in pins_in_force(con, now).items() if snapshot in old}
    for snapshot in with_erased_persons(con, pinned):
        problems.append(
            f"snapshot {snapshot}, pinned for {pinned.pop(snapshot)}, was expired: it holds personal data whose retention has passed, which wins over a pin"
        )
    expire = sorted(old - set(pinned))
    if expire and not _guarded(
        "expiry", lambda: con.execute(f"CALL ducklake_expire_snapshots('lake', versions => [{', '.join(map(str, expire))}])"), problems
    ):
        return 0, len(pinned)
    return len(expire), len(pinned)


def _remove_orphans(con: duckdb.DuckDBPyConnection, settings: Settings, seen: int | None, problems: list[str]) -> int:
    """Removes files that nothing refers to and that are older than a day; returns how many.

    They are listed first. More than a small share of what the catalog names is no debris of killed writers but the mark of a
    catalog that knows too little: then only a person who names their number has them removed.
    """
    candidates = [str(r[0]) for r in con.execute("CALL ducklake_delete_orphaned_files('lake', dry_run => true, cleanup_all => false)").fetchall()]
    named, _, _ = files_known(con, settings)
    if not candidates:
        return 0
    if seen is not None and seen != len(candidates):
        problems.append(f"{len(candidates)} files that nothing refers to were not removed: --orphans says {seen}; look again and name the number")
        return 0
    if seen is None and len(candidates) > max(FEW_ORPHANS, int(ORPHAN_SHARE * named)):
        problems.append(
            f"{len(candidates)} files in {settings.data_path} are named by nothing (for instance {min(candidates)}), beside {named} that the catalog names: too many "
            "to be what killed writers leave, so none was removed. If the catalog was restored, an older one may be in place: put the right one back. "
            f"If they are of no use, `tnmt maintain --orphans {len(candidates)}` removes them"
        )
        return 0
    done = _guarded(
        "removal of files that nothing refers to", lambda: con.execute("CALL ducklake_delete_orphaned_files('lake', cleanup_all => false)"), problems
    )
    return len(candidates) if done else 0
