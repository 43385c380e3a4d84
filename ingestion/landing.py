"""Landing: every delivery is recorded, with its bytes, before anything reads it.

The same name and bytes again are one more arrival of the same delivery and nothing else. A file leaves the inbox
only after its landing is committed, so a process killed at any moment lands it again or finds it landed.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pyarrow as pa

from ingestion.contract import Contract
from ingestion.model import delivery_id
from ingestion.names import groups, moment, portable
from lake.faults import reach
from lake.lake import transaction
from tnmt.settings import Settings

UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", ".uploading")
LOCAL_ZONE = "+07:00"
LOCAL = timezone(timedelta(hours=7))
_CHUNK = 1 << 20
_LANDED = pa.schema(
    [
        ("delivery_id", pa.string()),
        ("source", pa.string()),
        ("name", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("received_at", pa.timestamp("us")),
        ("as_of", pa.timestamp("us")),
        ("day", pa.date32()),
        ("stored", pa.string()),
    ]
)


@dataclass(frozen=True)
class Landed:
    """What one landing step did: files seen, new deliveries, and arrivals of known ones."""

    files: int
    new: int
    again: int


def inbox_of(settings: Settings, contract: Contract) -> Path:
    """The folder that senders of the source write to. Raises NotADirectoryError for one that leads out of the inbox, and whose files would go.

    Scans are only read, so their folder may lie elsewhere.
    """
    folder = settings.inbox / contract.folder
    if not contract.files.in_place and not folder.resolve().is_relative_to(settings.inbox.resolve()):
        raise NotADirectoryError(f"{folder} leads out of the inbox, to {folder.resolve()}: put a folder there, or mount one")
    return folder


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, str, bool]]:
    """(name below the inbox, path, whether it is a geodatabase folder) of every finished file, in any folder layout, in name order."""
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower().endswith(UNFINISHED):
            continue
        is_dir = entry.is_dir(follow_symlinks=False)
        if is_dir and not entry.name.lower().endswith(".gdb"):
            yield from _walk(Path(entry.path), f"{prefix}{portable(entry.name)}/")
        elif is_dir or entry.is_file(follow_symlinks=False):
            yield prefix + portable(entry.name), entry.path, is_dir


def _mine(contract: Contract, shared: bool, name: str) -> bool:
    """Whether a file in a shared inbox folder belongs to this source; alone, every file does."""
    return not shared or groups(contract, name) is not None


def zip_folder(folder: Path, target: Path) -> None:
    """Writes a geodatabase folder as one file with fixed member times, so that equal content has equal bytes; never a member as a whole in memory."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(f"{portable(folder.name)}/{portable(path.relative_to(folder).as_posix())}", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.file_size = path.stat().st_size
            with path.open("rb") as member, archive.open(info, "w") as out:
                shutil.copyfileobj(member, out, _CHUNK)


def _as_of(contract: Contract, name: str, received_at: datetime) -> datetime:
    if contract.as_of.origin == "file_name":
        stamp = (groups(contract, name) or {}).get("as_of")
        said = moment(stamp, contract.files.as_of_format) if stamp else None
        if said is not None and contract.time.zone != LOCAL_ZONE:
            # the sender's clock, as its measuring times are read
            said = said.replace(tzinfo=contract.time.tzinfo).astimezone(LOCAL).replace(tzinfo=None)
        return said or received_at
    return received_at


def _keep(path: Path, target: Path) -> None:
    """Copies a large file to its place by hash: under another name first, so that no half file is ever found there."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(target.name + f".{os.getpid()}.half")
    with path.open("rb") as source, half.open("wb") as out:
        shutil.copyfileobj(source, out, _CHUNK)
        out.flush()
        os.fsync(out.fileno())
    half.rename(target)


def stored_path(settings: Settings, contract: Contract, sha256: str, name: str) -> Path:
    """Where a large file is kept: by hash, closed where the source is personal."""
    root = settings.landing / "closed" if contract.personal else settings.landing
    return root / sha256[:2] / sha256 / Path(name).name.removesuffix("/")


def land(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, now: datetime, *, shared: bool = False) -> Landed:
    """Records what lies in the source's inbox, then takes it out of there. `con` is the writing connection; `now` the arrival (GMT+7).

    `shared` says that other contracts read the same folder, so that only files whose name fits are taken.
    """
    landed, leave = record(con, settings, contract, now, shared=shared)
    leave()
    return landed


def record(
    con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, now: datetime, *, shared: bool = False, most: int | None = None
) -> tuple[Landed, Callable[[], None]]:
    """The landing without its last step, which is returned: to take the recorded files out of the inbox.

    That step needs no connection, so it can go on in a thread beside the gate: a day of files takes a second to remove.
    Where more than `most` files lie there, the newest by the time in their names are taken and the others wait for the next call,
    so that a logger that drains weeks at once delays no other station.
    """
    folder = inbox_of(settings, contract)
    found = [f for f in _walk(folder) if _mine(contract, shared, f[0])]
    if most is not None and len(found) > most:
        found = heapq.nlargest(most, found, key=lambda f: _as_of(contract, f[0], now))
    if not found:
        return Landed(0, 0, 0), _nothing
    ids: list[str] = []
    rows: list[tuple[str, str, int, datetime]] = []
    contents: list[bytes] = []
    temporary: list[Path] = []
    for name, path, is_dir in found:
        if is_dir:
            packed = settings.home / "tmp" / f"{os.getpid()}-{len(temporary)}.gdb.zip"
            zip_folder(Path(path), packed)
            temporary.append(packed)
            with packed.open("rb") as file:
                sha = hashlib.file_digest(file, "sha256").hexdigest()
            size = packed.stat().st_size
            _keep(packed, stored_path(settings, contract, sha, name + ".zip"))
        elif contract.files.small and not contract.files.in_place:
            fd = os.open(path, os.O_RDONLY)
            try:
                content = os.read(fd, _CHUNK)
                while len(content) >= _CHUNK and (more := os.read(fd, _CHUNK)):
                    content += more
            finally:
                os.close(fd)
            contents.append(content)
            sha, size = hashlib.sha256(content).hexdigest(), len(content)
        else:
            with open(path, "rb") as file:
                sha = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.path.getsize(path)
            if not contract.files.in_place:
                _keep(Path(path), stored_path(settings, contract, sha, name))
        ids.append(delivery_id(contract.source, name, sha))
        rows.append((name, sha, size, _as_of(contract, name, now)))
    small = contract.files.small and not contract.files.in_place
    stored = "raw.file" if small else "in_place" if contract.files.in_place else "landing"
    names, hashes, sizes, as_ofs = (list(column) for column in zip(*rows, strict=True))
    days = [a.date() for a in as_ofs]
    batch = pa.table(
        [ids, [contract.source] * len(ids), names, hashes, sizes, [now] * len(ids), as_ofs, days, [stored] * len(ids)],
        schema=_LANDED,
    )
    if small:
        batch = batch.append_column("content", pa.array(contents, pa.large_binary()))
    con.register("inbox_batch", batch)
    day_list = ", ".join(f"DATE '{d}'" for d in sorted(set(days)))
    # the ledger is read for the days in the file names only: 0.03 s against 1.15 s for a year of files
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE newcomers AS
        SELECT * FROM inbox_batch
        WHERE delivery_id NOT IN (SELECT delivery_id FROM lake.ops.landed WHERE day IN ({day_list}) AND source = ?)
    """,
        [contract.source],
    )
    new = con.execute("SELECT count(*) FROM newcomers").fetchall()[0][0]
    if contract.files.in_place and not new:
        con.unregister("inbox_batch")
        return Landed(len(ids), 0, len(ids)), _nothing  # scans stay where they are: seeing them again is no arrival
    with transaction(con):
        if new:
            if small:
                raw = "raw_closed" if contract.personal else "raw"
                con.execute(f"INSERT INTO lake.{raw}.file SELECT delivery_id, source, day, content FROM newcomers ORDER BY day, name")
            con.execute("""
                INSERT INTO lake.ops.landed
                SELECT delivery_id, source, name, sha256, bytes, received_at, as_of, day, stored
                FROM newcomers ORDER BY day, name""")
            con.execute("INSERT INTO lake.ops.pending SELECT delivery_id, source, day FROM newcomers")
        con.execute("INSERT INTO lake.ops.arrival SELECT delivery_id, source, name, day, received_at FROM inbox_batch")
        reach("landing.before_commit")
    reach("landing.committed")
    con.unregister("inbox_batch")
    for packed_file in temporary:
        packed_file.unlink()
    paths = [(path, is_dir) for _, path, is_dir in found]
    return Landed(len(ids), new, len(ids) - new), _nothing if contract.files.in_place else functools.partial(_clear, str(folder), paths)


def _nothing() -> None:
    """Nothing is to be taken out of the inbox."""


def _clear(folder: str, paths: list[tuple[str, bool]]) -> None:
    """Takes landed files out of the inbox; folders of a dated layout go when they are empty."""
    for name, is_dir in paths:
        if is_dir:
            shutil.rmtree(name)
        else:
            os.unlink(name)
    parents = {name.rpartition("/")[0] for name, _ in paths}
    for parent in sorted(parents, key=len, reverse=True):
        empty = parent
        while empty != folder:
            try:
                os.rmdir(empty)
            except OSError:
                break
            empty = empty.rpartition("/")[0]
