"""Upkeep of the lake: retention of raw bytes, compaction, expiry that leaves pinned snapshots, removal of files that nothing refers to.

A table at a time, each under the lock and in transactions of its own, so that writers get in between, and one damaged file
stops nothing but its table. Before anything is removed the data must prove to be those of the catalog (`lake.identity`), and
files that the catalog does not name are looked at a second time: a catalog that was lost or restored knows too few.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from lake.faults import reach
from lake.identity import META, LakeError, files_known, lake_id, mark, marked, other_catalog, same_lake
from lake.lake import attach_writer, exists, may_write, no_lake, open_writer, transaction, upkeep_lock
from lake.lock import LakeLocked
from lake.upkeep.leftovers import remove_leftovers
from lake.upkeep.verify import damage, data_files
from tnmt.settings import Settings

KEEP_DAYS = 30
LEAST_KEEP_DAYS = 1
"""Snapshots of the last day are never expired: a build that runs may still read them."""
PIN_DAYS = 1825
"""How long a pin holds that names no end: as long as raw bytes are kept unless their contract says otherwise."""
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
            gone_before = _erasing_at_the_oldest(con)
            started = con.execute("SELECT max(snapshot_time) FROM ducklake_snapshots('lake')").fetchall()[0][0]
            erased = erase_raw(con, settings, now, problems)
        for table in _worn(con):
            _step(settings, table, partial(_compact, con, settings, table, problems), problems)
        expired, pinned = _step(settings, "expiry", lambda: _expire(con, now, keep_days, problems), problems) or (0, 0)

        def clean_up() -> tuple[int, int]:
            # what readers of the last day may still have open stays; `now` is GMT+7, DuckLake's stamps have a zone
            least = f"TIMESTAMPTZ '{now - timedelta(days=LEAST_KEEP_DAYS)}+07'"
            _guarded("clean-up of old files", lambda: con.execute(f"CALL ducklake_cleanup_old_files('lake', older_than => {least})"), problems)
            _record_erased(con, settings, gone_before, started)
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
    named, there, strangers = files_known(con, settings)
    if not same_lake(con, settings):
        raise LakeError(
            f"nothing was removed: the files in {settings.data_path} are not those of this catalog (it names {named} files, {there} of them lie there, "
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
    pins = con.execute(
        "SELECT snapshot_id, string_agg(purpose, ', ' ORDER BY purpose) FROM lake.ops.pin WHERE coalesce(until, pinned_at + to_days(?)) >= ? GROUP BY snapshot_id",
        [PIN_DAYS, now],
    ).fetchall()
    pinned = {int(snapshot): str(purpose) for snapshot, purpose in pins if int(snapshot) in old}
    for snapshot in _with_erased_persons(con, pinned):
        problems.append(
            f"snapshot {snapshot}, pinned for {pinned.pop(snapshot)}, was expired: it holds personal data whose retention has passed, which wins over a pin"
        )
    expire = sorted(old - set(pinned))
    if expire and not _guarded(
        "expiry", lambda: con.execute(f"CALL ducklake_expire_snapshots('lake', versions => [{', '.join(map(str, expire))}])"), problems
    ):
        return 0, len(pinned)
    return len(expire), len(pinned)


def _with_erased_persons(con: duckdb.DuckDBPyConnection, snapshots: Iterable[int]) -> list[int]:
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
        mine = f"day IN ({', '.join(days)}) AND delivery_id IN (SELECT delivery_id FROM aged)"
        with transaction(con):
            for schema in ("raw", "raw_closed"):
                con.execute(f"DELETE FROM lake.{schema}.file WHERE {mine}")
            con.execute(f"UPDATE lake.quarantine_closed.row SET raw_text = NULL WHERE {mine} AND raw_text IS NOT NULL")
            con.execute(f"UPDATE lake.ops.landed SET stored = 'erasing' WHERE {mine}")
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


def _erasing_at_the_oldest(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Deliveries whose bytes no snapshot that is left can show any more."""
    if not con.execute("SELECT 1 FROM lake.ops.landed WHERE stored = 'erasing' LIMIT 1").fetchall():
        return []
    oldest = con.execute("SELECT min(snapshot_id) FROM ducklake_snapshots('lake')").fetchall()[0][0]
    try:
        then = con.execute(f"SELECT delivery_id FROM lake.ops.landed AT (VERSION => {int(oldest)}) WHERE stored = 'erasing'").fetchall()
    except duckdb.Error:  # the lake had no ledger yet
        return []
    return [r[0] for r in then]


def _record_erased(con: duckdb.DuckDBPyConnection, settings: Settings, deliveries: list[str], started: datetime) -> None:
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
