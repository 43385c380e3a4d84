"""The writer lock: one writer at a time on a SQLite catalog, and a name for who holds it.

On SQLite a long transaction never commits beside a live writer ("database is locked", 24 of 24 tries), so the
lock spans a whole dbt build there. On PostgreSQL it is held for the moment of a publish only, which keeps
the order of `ops.affected` equal to the order of commits.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path


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
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    who = holder(path) or {}
                    raise LakeLocked(
                        f"the lake is being written by process {who.get('pid', '?')} ({who.get('purpose', '?')}, since "
                        f"{who.get('since', '?')}); waited {timeout:.0f} s. Wait for it to end, or raise TNMT_LOCK_TIMEOUT"
                    ) from None
                time.sleep(0.05)
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
