"""The writer lock: one writer at a time on a SQLite catalog, and a name for who holds it.

On SQLite a long transaction never commits beside a live writer ("database is locked", 24 of 24 tries), so the
lock spans a whole dbt build there: one lock on a file. On PostgreSQL a file spans one host only, so advisory locks in the
catalog's own database stand beside it, which end with the connection of whoever holds them:

* `WRITER`, held alone by each publish, which keeps the order of `ops.affected` equal to the order of commits;
* `BUILD`, held alone by a dbt build, which increments go on beside;
* `UPKEEP`, shared by a build and held alone by maintenance while it works on a table: DuckLake lets a compaction and a
  DELETE+INSERT of the same table both commit on PostgreSQL, and deleted rows come back (findings/traps.md 1).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

WRITER, UPKEEP, BUILD = 1, 2, 3
_OURS = 0x746E6D74
"""First number of our advisory locks: "tnmt"."""
_NAME_BYTES = 63
"""What PostgreSQL keeps of an application's name."""


class LakeLocked(Exception):
    """Another process writes and did not finish in time."""


def holder(path: Path) -> dict[str, str] | None:
    """Who holds the lock at `path` (pid, purpose, since), or None where nobody does."""
    try:
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read()
                return dict(json.loads(text)) if text.strip() else {"pid": "?", "purpose": "?", "since": "?"}
            fcntl.flock(file, fcntl.LOCK_UN)
    except FileNotFoundError:
        pass
    return None


@contextmanager
def writer_lock(path: Path, purpose: str, timeout: float) -> Iterator[None]:
    """Holds the lock for the block; raises LakeLocked after `timeout` seconds, naming the holder.

    The kernel drops the lock with the process, so a killed writer leaves nothing to clean up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    # who waits first holds the turn, without which nobody asks for the lock: a writer that takes step after step lets the others in between
    with path.open("a+") as file, path.with_suffix(".turn").open("a+") as turn:
        wanted = [turn, file]
        while wanted:
            try:
                fcntl.flock(wanted[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
                wanted.pop(0)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    who = holder(path) or {}
                    raise LakeLocked(
                        f"the lake is being written by process {who.get('pid', '?')} ({who.get('purpose', '?')}, since "
                        f"{who.get('since', '?')}); waited {timeout:.0f} s. Wait for it to end, or raise TNMT_LOCK_TIMEOUT"
                    ) from None
                time.sleep(0.05)
        fcntl.flock(turn, fcntl.LOCK_UN)
        file.seek(0)
        file.truncate()
        # the holder's clock, for people only; no logic reads it
        file.write(json.dumps({"pid": str(os.getpid()), "purpose": purpose, "since": datetime.now(UTC).isoformat(timespec="seconds")}))
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def advisory_lock(dsn: str, lock: int, purpose: str, timeout: float, *, shared: bool = False) -> Iterator[None]:
    """Holds one of the advisory locks of the catalog database `dsn` (libpq) for the block; raises LakeLocked after `timeout` seconds.

    The server drops it with the connection, so a killed writer leaves nothing, on whichever host it was.
    """
    import psycopg

    try:
        con = psycopg.connect(dsn, autocommit=True, connect_timeout=10, application_name="tnmt", keepalives_idle=30, keepalives_interval=10)
    except psycopg.Error as error:
        raise ConnectionError(
            f"the catalog database does not answer: {_without(dsn, str(error))}. Check TNMT_CATALOG and that its server runs"
        ) from None
    try:
        deadline = time.monotonic() + timeout
        take = f"SELECT pg_try_advisory_lock{'_shared' if shared else ''}(%s, %s)"
        while not con.execute(take, (_OURS, lock)).fetchall()[0][0]:
            if time.monotonic() >= deadline:
                who = advisory_holder(con, lock) or {}
                raise LakeLocked(
                    f"the lake is being written by process {who.get('pid', '?')} ({who.get('purpose', '?')}, since "
                    f"{who.get('since', '?')}); waited {timeout:.0f} s. Wait for it to end, or raise TNMT_LOCK_TIMEOUT"
                )
            time.sleep(0.05)
        # who holds it, for those that wait: a session's name and the time of its last statement can be read by others
        name = f"tnmt {os.getpid()}@{socket.gethostname()} {purpose}".encode()[:_NAME_BYTES].decode(errors="ignore")
        con.execute("SELECT set_config('application_name', %s, false)", (name,))
        yield
    finally:
        with suppress(psycopg.Error):
            con.close()


def advisory_holder(con: psycopg.Connection[tuple[object, ...]], lock: int = WRITER) -> dict[str, str] | None:
    """Who holds an advisory lock (pid with host, purpose, since), or None where nobody does."""
    rows = con.execute(
        """
        SELECT a.application_name, a.query_start FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.classid = %s AND l.objid = %s AND l.granted
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY a.query_start LIMIT 1""",
        (_OURS, lock),
    ).fetchall()
    if not rows:
        return None
    _, _, rest = str(rows[0][0]).partition(" ")
    pid, _, purpose = rest.partition(" ")
    since = rows[0][1]
    return {
        "pid": pid or "?",
        "purpose": purpose or "?",
        "since": since.astimezone(UTC).isoformat(timespec="seconds") if isinstance(since, datetime) else "?",
    }


def _without(dsn: str, text: str) -> str:
    """The first line of an error without the connection string."""
    return text.replace(dsn, "…").strip().splitlines()[0] if text.strip() else "no reason given"
