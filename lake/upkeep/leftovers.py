"""What killed processes left behind in the home, removed where their owner is gone. Run under the writer lock."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tnmt.settings import Settings

OLD_SECONDS = 2 * 86_400
"""What names no owner is taken for left behind after two days without a change: no step runs that long."""

_PID = (
    re.compile(r"^\.serving(?:-sqllab)?-\d+-(\d+)\.duckdb(?:\.wal)?$"),
    re.compile(r"^\.serving(?:-sqllab)?\.(\d+)\.link$"),
    re.compile(r"^(\d+)\.half$"),
    re.compile(r"^\.half-.*-(\d+)$"),
    re.compile(r"^\.\d{12}\.(\d+)$"),
    re.compile(r"^(\d+)\.gdb\.zip$"),
    # a number of another machine says nothing here: what it left is judged by its age
    re.compile(rf"^read-{re.escape(socket.gethostname())}-(\d+)-\w+$"),
    re.compile(r"^\.token\.key\.(\d+)$"),
)


def remove_leftovers(settings: Settings) -> int:
    """Removes halves of files, of extracts and of serving files, and what was spilled to `tmp`; returns how many entries are gone."""
    gone = 0
    for path in _suspects(settings):
        if _left_behind(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
            gone += not os.path.lexists(path)
    return gone


def _suspects(settings: Settings) -> Iterator[Path]:
    # halves lie beside the folders of what was landed, never in them: a delivery may have any name
    yield from settings.landing.glob("*.half")
    yield from (settings.landing / "closed").glob("*.half")
    yield from (p for p in (settings.home / "extracts").glob("*/.*"))
    yield from settings.serving.glob(".serving*")
    yield from (settings.home / "secrets").glob(".token.key.*")
    for path in (settings.home / "tmp").glob("*"):
        # Spark keeps its folders and clears them itself; what lies in them is looked at one by one
        yield from path.glob("*") if path.name == "spark" else (path,)


def _left_behind(path: Path) -> bool:
    owner = next((int(m[1]) for p in _PID if (m := p.search(path.name))), None)
    if owner is not None:
        return not _alive(owner)
    newest = _changed(path)
    return newest is not None and newest < time.time() - OLD_SECONDS


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _changed(path: Path) -> float | None:
    """The newest time of a file, or of anything below a folder; None where it is gone. Who works there may remove any of it meanwhile."""
    try:
        newest = path.lstat().st_mtime
    except FileNotFoundError:
        return None
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            with suppress(OSError):
                newest = max(newest, os.lstat(os.path.join(folder, name)).st_mtime)
    return newest
