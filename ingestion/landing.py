"""Landing: every delivery is recorded, with its bytes, before anything reads it.

The same name and bytes again are one more arrival of the same delivery and nothing else. A file leaves the inbox
only after its landing is committed, so a process killed at any moment lands it again or finds it landed; and only if
it is still the file that was hashed: what was replaced or has grown meanwhile stays, for the next look.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import heapq
import operator
import os
import shutil
import signal
import stat
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from ingestion.contract import Contract
from ingestion.model import Arrival, Delivery, delivery_id
from ingestion.names import claiming, format_of, portable, said_by, said_once
from lake.faults import reach
from lake.lake import quoted, transaction
from tnmt.settings import Settings, give_name

UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", ".uploading")
_CHUNK = 1 << 20
LITTER = ("thumbs.db", "desktop.ini")
"""What operating systems leave in folders that people open."""
TAKEN = ".taken-"
"""Folder beside a landed file into which it goes before it is removed; what a killed process left there is put back."""
YOUNG_SECONDS = 5.0
"""Of a small file that was written less long ago it is asked whether somebody still writes it; the others are too many."""
QUIET_SECONDS = 3.0
"""How long a file that is not small has to lie unchanged, where nobody can say whether it is still open for writing."""
EMPTY_SECONDS = 3600.0
"""How long a folder below an inbox has to be empty before it is removed."""
SMALL_BYTES = 16 << 20
"""A larger file of a small-file inbox is kept by hash in the landing folder, as a large one."""
TOO_LARGE = 256 << 20
"""Bytes above which a file of a small-file inbox is refused at the gate: those are read into memory as a batch."""
ROUND_FILES, ROUND_BYTES = 60_000, 256 << 20
"""What one commit lands at most: memory is bounded by it, however long the backlog."""
FOLDER_BYTES = 32 << 30
"""A geodatabase folder that holds more is not taken."""
Identity = tuple[int, int, int, int]
"""Device, inode, size and time of a file (ns): while all four stay, it is the same file."""
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


@dataclass(slots=True)  # not frozen, and nothing reckoned twice: a day is 57,600 of them
class Found:
    """A finished file in an inbox: its name below the folder, its path, and what it was at the look. `is_dir`: a geodatabase folder."""

    name: str
    path: str
    is_dir: bool
    identity: tuple[Identity, ...]
    """Of the file, or of all files of the folder in their order."""

    bytes: int
    """Size of the file, or of all that the folder holds."""

    modified: float
    """When its content was written last (POSIX time), by the file's own stamp."""

    changed: int = 0
    """When anything of the file changed last (ns), which no sender can set back; 0 of a folder."""

    mode: int = 0
    """Type and rights of the file; 0 of a folder."""


def inbox_of(settings: Settings, contract: Contract, named: str | None = None) -> Path:
    """The folder that senders of the source write to, or the one of its `folders` that is `named`.

    Raises NotADirectoryError for one that leads out of the inbox, and whose files would go. Scans are only read, so their folder may lie elsewhere.
    """
    folder = settings.inbox / (named or contract.folder)
    leads = os.path.realpath(folder)  # Path.resolve fails on a link to itself in a way of its own
    if not contract.files.in_place and not Path(leads).is_relative_to(os.path.realpath(settings.inbox)):
        raise NotADirectoryError(f"{folder} leads out of the inbox, to {leads}: put a folder there, or mount one")
    return folder


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _identities(path: str, is_dir: bool, within: int | None = None) -> tuple[Identity, ...]:
    """What a file is now, named from the open folder `within` if one is given; of a folder what each of its files is, links left out.

    Raises FileNotFoundError where it is gone.
    """
    if not is_dir:
        # lstat is the quicker of the two
        return (_identity(os.lstat(path) if within is None else os.stat(path, dir_fd=within, follow_symlinks=False)),)
    return tuple(_identity(p.lstat()) for p in _members(Path(path)))


def _members(folder: Path) -> list[Path]:
    return sorted(p for parent, _, files in tree(str(folder)) for f in files if (p := Path(parent, f)).is_file() and not p.is_symlink())


_ALL_READ = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_EFFECTIVE = os.access in os.supports_effective_ids


def _may(path: str, mode: int) -> bool:
    """Whether the user of this process may do it (`os.R_OK` and its like)."""
    return os.access(path, mode, effective_ids=_EFFECTIVE)


def _look(name: str, path: str, is_dir: bool) -> Found:
    """What lies at the path now. Raises FileNotFoundError where nothing does any more."""
    if not is_dir:
        now_is = os.lstat(path)
        return Found(name, path, is_dir, (_identity(now_is),), now_is.st_size, now_is.st_mtime_ns / 1e9, now_is.st_ctime_ns, now_is.st_mode)
    identity = _identities(path, is_dir)
    return Found(name, path, is_dir, identity, sum(i[2] for i in identity), max((i[3] for i in identity), default=0) / 1e9)


def _may_take(path: str, is_dir: bool, in_place: bool, parents: dict[str, bool] | None = None, mode: int = 0) -> bool:
    """Whether this user may read a file (of a folder: all that it holds) and, unless it stays where it is, take it away.

    `parents` keeps what one look found of the folders around: thousands of files lie in each. Of a file whose `mode` lets everybody read it,
    nobody is asked.
    """
    if not in_place:
        parents = {} if parents is None else parents
        parent = path.rpartition("/")[0]
        if parent not in parents:
            parents[parent] = _may(parent, os.W_OK | os.X_OK)
        if not parents[parent]:
            return False
    if not is_dir:
        return mode & _ALL_READ == _ALL_READ or _may(path, os.R_OK)
    whole = os.R_OK | os.X_OK | (0 if in_place else os.W_OK)
    return all(_may(parent, whole) and all(_may(f"{parent}/{f}", os.R_OK) for f in files) for parent, _, files in _everything(path))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name. Raises OSError where it cannot be listed."""
    with os.scandir(folder) as found:
        return sorted(found, key=lambda e: e.name)


_CLOSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""Why a folder is left alone and told: it stays so. Any other error (a share that fails, no descriptor left) says nothing about what is in it."""


def tree(folder: str, closed: list[str] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, its folders, its other files), the outer before the inner, as os.walk, and as deep as senders nest them, where that one fails.

    What this user may not list is passed over, and named in `closed`, if given; what went meanwhile is not. Folders taken out of a list are not
    entered. Raises OSError where a folder cannot be listed for another reason.
    """
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        try:
            entries = _entries(parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            if closed is not None:
                closed.append(parent)
            continue
        folders = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        yield parent, folders, [e.name for e in entries if not e.is_dir(follow_symlinks=False)]
        waiting += [f"{parent}/{name}" for name in reversed(folders)]


def _everything(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """`tree`, with the folders too that cannot be listed."""
    closed: list[str] = []
    yield from tree(folder, closed)
    for parent in closed:
        yield parent, [], []


def _passed_over(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of an inbox is no delivery and nobody's concern: hidden, still being written, or litter."""
    low = entry.name.lower()
    return low.startswith((".", "~$")) or low.endswith(UNFINISHED) or low in LITTER


@dataclass(frozen=True)
class _Left:
    """What a look at an inbox found beside the files: folders into which a process took files that it did not remove, and empty ones."""

    taken: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def _walk(folder: Path, odd: bool = False, left: _Left | None = None) -> Iterator[tuple[str, str, bool]]:
    """(name below the inbox, path, whether it is a geodatabase folder) of every file not named as unfinished, in any folder layout, in name order.

    With `odd`, what this user may not list comes as a folder whose name ends in `/`, and what is neither file nor folder (a link, a pipe) as a file
    whose name ends in `@`. `left` is filled on the way. Raises OSError where the inbox itself is no folder, and where one below it fails.
    """
    try:
        waiting = [(entry, "") for entry in reversed(_entries(str(folder)))]
    except FileNotFoundError:
        return
    except PermissionError:
        if odd:
            yield "", str(folder), True
        return
    while waiting:  # as deep as senders nest their folders
        entry, prefix = waiting.pop()
        if _passed_over(entry):
            if left is not None and entry.name.startswith(TAKEN) and entry.is_dir(follow_symlinks=False):
                left.taken.append(entry.path)
            continue
        is_dir = entry.is_dir(follow_symlinks=False)
        if is_dir and not entry.name.lower().endswith(".gdb"):
            prefix = f"{prefix}{portable(entry.name)}/"
            try:
                inside = _entries(entry.path)
                waiting += [(e, prefix) for e in reversed(inside)]
                if left is not None and not inside:
                    left.empty.append(entry.path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in _CLOSED:
                    raise
                if odd:
                    yield prefix, entry.path, True
        elif is_dir or entry.is_file(follow_symlinks=False):
            yield prefix + portable(entry.name), entry.path, is_dir
        elif odd:
            yield f"{prefix}{portable(entry.name)}@", entry.path, False


def _mine(contract: Contract, shared: bool, name: str) -> bool:
    """Whether a file in a shared inbox folder belongs to this source; alone, every file does."""
    return not shared or bool(claiming(contract, name))


def _writer(path: str) -> bool | None:
    """Whether a process of this machine has the file open for writing; None where the kernel does not say (another owner, a network share)."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        # who opens the file for writing meanwhile is let through by the close; its signal would end this process unless it is one that is ignored
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


def _age(found: Found) -> float:
    """Seconds since the file was written, by the machine's clock: it decides when a file is taken, never what becomes of it. A time to come counts alike."""
    return abs(time.time() - found.modified)


def _ages_of_folders(path: str) -> list[float]:
    """Seconds since something came into a folder or one below it, or left it."""
    ages = [0.0]
    with contextlib.suppress(FileNotFoundError):
        ages = [abs(time.time() - Path(parent).stat().st_mtime) for parent, _, _ in tree(path)]
    return ages


def _quiet_in(contract: Contract, found: Found) -> float:
    """Seconds until a file may be taken: none where nobody writes it; where that cannot be known, until a file that is not small has lain long enough."""
    age = min(_age(found), *_ages_of_folders(found.path)) if found.is_dir else _age(found)
    if contract.files.quiet_seconds is not None and age < contract.files.quiet_seconds:
        return contract.files.quiet_seconds - age
    if contract.files.small and age > YOUNG_SECONDS:
        return 0.0
    asked = {_writer(p) for p in ([str(m) for m in _members(Path(found.path))] if found.is_dir else [found.path])}
    if True in asked:
        return float("inf")
    # of a folder nobody knows whether its sender is between two members
    unsure = found.is_dir or (None in asked and not contract.files.small and contract.files.quiet_seconds is None)
    return max(0.0, QUIET_SECONDS - age) if unsure else 0.0


def finished(settings: Settings, contract: Contract, *, shared: Collection[str] = ()) -> Iterator[Found]:
    """The files in the source's inbox folders that landing would take now, in name order. The one answer for landing, sensor and live worker.

    Of the folders in `shared`, which other contracts read too, only files whose name fits.
    """
    for named in contract.folders:
        yield from _finished_in(named, settings, contract, shared=named in shared)


def _finished_in(
    named: str, settings: Settings, contract: Contract, *, shared: bool, patient: bool = False, left: _Left | None = None
) -> Iterator[Found]:
    """`finished`, of one of its folders.

    `patient` waits out the quiet period of a file of which nobody knows whether it is whole, so that what was just brought is taken at once.
    """
    parents: dict[str, bool] = {}
    # of most files their age alone says that nobody writes them any more
    by_age = contract.files.small and contract.files.quiet_seconds is None
    in_place = contract.files.in_place
    for name, path, is_dir in _walk(inbox_of(settings, contract, named), left=left):
        if not _mine(contract, shared, name):
            continue
        try:
            found = _look(name, path, is_dir)
            mode = found.mode if by_age and found.bytes <= SMALL_BYTES else 0  # what such a one refuses after all is passed over when it is read
        except FileNotFoundError:
            continue  # replaced or taken back in this moment
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                continue  # out of reach: `unclaimed` tells it
            raise
        if (is_dir and (not found.identity or found.bytes > FOLDER_BYTES)) or not _may_take(path, is_dir, in_place, parents, mode):
            continue  # `unclaimed` tells it
        if by_age and not is_dir and abs(time.time() - found.modified) > YOUNG_SECONDS:
            yield found
            continue
        if (wait := _quiet_in(contract, found)) and wait <= QUIET_SECONDS and patient:
            time.sleep(wait)
            wait = 0.0  # whether it changed meanwhile is seen when it is read
        if not wait:
            yield found


def unclaimed(settings: Settings, contracts: Iterable[Contract], folders: Collection[str]) -> list[tuple[str, str, int | None]]:
    """(folder, name, bytes) of what is never taken, a silence that somebody has to hear of: files in shared inboxes that no contract claims,
    geodatabase folders that are too large, and (bytes None) what this user may not read or take away, links, an inbox that cannot be looked
    into (name ''), and what lies beside the `folders` of all sources (folder '')."""
    by_folder: dict[str, list[Contract]] = {}
    for contract in contracts:
        for named in contract.folders:
            by_folder.setdefault(named, []).append(contract)
    found: list[tuple[str, str, int | None]] = _beside(settings.inbox, {f.partition("/")[0] for f in folders})
    for folder, readers in by_folder.items():
        in_place = all(c.files.in_place for c in readers)
        try:
            lying = list(_walk(inbox_of(settings, readers[0], folder), odd=True))
        except OSError:
            found.append((folder, "", None))
            continue
        for name, path, is_dir in lying:
            try:
                no_file = not is_dir and not stat.S_ISREG(os.lstat(path).st_mode)
                closed = no_file or name[-1:] in ("", "/") or not _may_take(path, is_dir, in_place)
                nobodys = not no_file and len(readers) > 1 and not any(claiming(c, name) for c in readers)
                if nobodys or is_dir or closed:
                    size = None if closed else sum(i[2] for i in _identities(path, is_dir))
                    if nobodys or size is None or size > FOLDER_BYTES:
                        found.append((folder, name, size))
            except FileNotFoundError:
                continue
            except OSError:  # out of reach, or its disk fails, which its source says too
                found.append((folder, name, None))
    return sorted(found, key=lambda f: f[:2])


def _beside(inbox: Path, folders: Collection[str]) -> list[tuple[str, str, int | None]]:
    """What lies in the inbox itself and in folders of it that are no source's, if anything does: a name mistyped, a source renamed or withdrawn."""
    try:
        entries = _entries(str(inbox))
    except OSError:
        return []  # each source says so
    found: list[tuple[str, str, int | None]] = []
    for entry in entries:
        if entry.name in folders or _passed_over(entry):
            continue
        if not entry.is_dir(follow_symlinks=False):
            found.append(("", portable(entry.name), None))
            continue
        with contextlib.suppress(OSError):
            if next(_walk(Path(entry.path), odd=True), None):
                found.append(("", f"{portable(entry.name)}/", None))
    return found


_LONGEST_NAME = 3_000
"""Bytes of a path below an inbox, from which on the system may not reach it (4,096 bytes in all)."""


def told_unclaimed(folder: str, name: str, size: int | None) -> str:
    """A file of `unclaimed`: where it lies, its bytes where they are known, why it is not taken and what to do."""
    where = f"inbox/{folder}/{name}" if folder else f"inbox/{name}"
    bytes_of = "" if size is None else " (1 byte)" if size == 1 else f" ({size:,} bytes)"
    return f"{where}{bytes_of} {_why_unclaimed(folder, name, size)}"


def _why_unclaimed(folder: str, name: str, size: int | None) -> str:
    if not folder:
        rename = ", or rename the folder to that" if name.endswith("/") else ""
        return f"lies in no source's inbox: move it into the folder of its source (`tnmt status` names them){rename}"
    if not name:
        return "cannot be looked into: it has to be a folder, no file and no link out of the inbox, that the user of the pipeline may list (chown, chmod)"
    if size is None and name.endswith("@"):
        return "is a link or another thing that is no file, and is not followed: put the file itself there"
    if size is None:
        if len(name.encode()) > _LONGEST_NAME:
            return "lies in folders whose names together are too long: move it to the top of the inbox"
        return "may not be read, or not be taken out of its folder, by the user of the pipeline: give it to that user (chown, chmod), with its folder"
    if name.lower().endswith(".gdb") and size > FOLDER_BYTES:
        return f"is larger than the {FOLDER_BYTES >> 30} GiB that a geodatabase folder may have: divide it by commune and send the parts"
    return "fits no contract of this inbox: rename or remove it"


def zip_folder(folder: Path, into: Path) -> None:
    """Writes a geodatabase folder as one file with fixed member times, so that equal content has equal bytes. Links are left out."""
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _members(folder):
            info = zipfile.ZipInfo(f"{portable(folder.name)}/{portable(path.relative_to(folder).as_posix())}", (1980, 1, 1, 0, 0, 0))
            info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, path.stat().st_size
            with path.open("rb") as source, archive.open(info, "w") as out:
                shutil.copyfileobj(source, out, _CHUNK)


def _as_of(contract: Contract, name: str, received_at: datetime) -> datetime:
    """The state in time of a delivery: what its name says, else when it came."""
    return said_by(contract, name) or received_at


def _closed_or_open(settings: Settings, contract: Contract) -> Path:
    return settings.landing / "closed" if contract.personal else settings.landing


def stored_path(settings: Settings, contract: Contract, sha256: str, name: str) -> Path:
    """Where a large file is kept: by hash, closed where the source is personal."""
    return _closed_or_open(settings, contract) / sha256[:2] / sha256 / Path(name).name.removesuffix("/")


def _keep(settings: Settings, contract: Contract, found: Found, path: str, name: str) -> tuple[str, int] | None:
    """Copies a large file to its place by hash, hashed as it is copied; returns hash and bytes, or None where it changed meanwhile.

    Under another name first, so that no half file is ever found at that place.
    """
    root = _closed_or_open(settings, contract)
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f"{os.getpid()}.half"
    digest, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as source, temporary.open("wb") as out:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
                size += len(chunk)
            out.flush()
            os.fsync(out.fileno())
            now_is = (_identity(os.fstat(source.fileno())),)
        if not found.is_dir and (now_is != found.identity or size != found.bytes):
            return None
        target = stored_path(settings, contract, digest.hexdigest(), name)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(target)
        return digest.hexdigest(), size
    except FileNotFoundError:
        return None
    finally:
        temporary.unlink(missing_ok=True)


def _keep_folder(settings: Settings, contract: Contract, found: Found) -> tuple[str, int] | None:
    """Keeps a geodatabase folder as one file; None where it changed meanwhile."""
    packed = settings.home / "tmp" / f"{os.getpid()}.gdb.zip"
    packed.parent.mkdir(parents=True, exist_ok=True)
    try:
        zip_folder(Path(found.path), packed)
        if _identities(found.path, is_dir=True) != found.identity:
            return None
        return _keep(settings, contract, found, str(packed), found.name + ".zip")
    except FileNotFoundError:
        return None
    finally:
        packed.unlink(missing_ok=True)


def _hash(found: Found) -> tuple[str, int] | None:
    """Hash and bytes of a file that stays where it is; None where it changed meanwhile."""
    try:
        with open(found.path, "rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
            return (sha, found.bytes) if (_identity(os.fstat(file.fileno())),) == found.identity else None
    except FileNotFoundError:
        return None


def _read_small(found: Found) -> bytes | None:
    """The bytes of a small file; None where it changed meanwhile."""
    try:
        fd = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES):
            return None  # gone, replaced or closed in this moment
        raise
    try:
        content = os.read(fd, found.bytes + 1)  # one byte more would say that it has grown
        while len(content) < found.bytes and (part := os.read(fd, found.bytes + 1 - len(content))):
            content += part  # a share may give less than it was asked for
        return content if len(content) == found.bytes and (_identity(os.fstat(fd)),) == found.identity else None
    finally:
        os.close(fd)


def land(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, now: datetime, *, shared: Collection[str] = ()) -> Landed:
    """Records what lies in the source's inbox, then takes it out of there. `con` is the writing connection; `now` the arrival (GMT+7).

    `shared` are the folders that other contracts read too, so that only files whose name fits are taken there.
    """
    landed, _, leave = record(con, settings, contract, Arrival(now), shared=shared)
    leave()
    return landed


def record(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    arrival: Arrival,
    *,
    shared: Collection[str] = (),
    most: int | None = None,
    datings: Collection[str] = (),
) -> tuple[Landed, list[Delivery], Callable[[], None]]:
    """The landing without its last step, which is returned last: to take the recorded files out of the inbox.

    That step needs no connection, so it can go on in a thread beside the gate: a day of files takes a second to remove. Returned too are the
    new deliveries with their bytes, so that the gate need not read them again; none where they are too many for one commit, or kept by hash.
    Where more than `most` files lie there, the newest by the time in their names are taken and the others wait for the next call,
    so that a logger that drains weeks at once delays no other station. A file that changes while it is read waits too.

    `arrival` is made later than what the ledger holds, if it is a clock's. `datings` are the other ways in which the contract once read the time
    of a delivery, under whose days what is known may be recorded.
    """
    lying = {named: _waiting_in(con, named, settings, contract, named in shared) for named in contract.folders}
    if most is not None and sum(map(len, lying.values())) > most:
        newest = heapq.nlargest(most, ((f, n) for n, found in lying.items() for f in found), key=lambda f: _as_of(contract, f[0].name, arrival.at))
        lying = {named: [f for f, n in newest if n == named] for named in lying}
    # never two folders in a round: the same file may lie in both, and is one delivery
    rounds = [(named, part) for named, found in lying.items() for part in _rounds(found)]
    landed, taken, fresh = Landed(0, 0, 0), list[Found](), list[Delivery]()
    for number, (named, part) in enumerate(rounds):
        kept, done, new = _record_round(con, settings, contract, arrival, part, datings, named)
        landed = Landed(landed.files + done.files, landed.new + done.new, landed.again + done.again)
        taken += kept
        fresh = new if number == 0 else []
    if not taken or contract.files.in_place:
        return landed, fresh, _nothing
    return landed, fresh, functools.partial(_clear, taken, contract.files.small)


def _waiting_in(con: duckdb.DuckDBPyConnection, named: str, settings: Settings, contract: Contract, shared: bool) -> list[Found]:
    """The finished files of one of the source's folders, after what a killed process left there was put right. Raises PermissionError."""
    folder = inbox_of(settings, contract, named)
    if folder.is_dir() and not _may(str(folder), os.R_OK | os.X_OK | (0 if contract.files.in_place else os.W_OK)):
        raise PermissionError(
            errno.EACCES, "the user of the pipeline may not read this inbox and take files out of it: chown or chmod it", str(folder)
        )
    left = _Left()
    found = list(_finished_in(named, settings, contract, shared=shared, patient=True, left=left))
    if not contract.files.in_place:
        if left.taken:
            _put_back(con, folder, left.taken, None if shared else contract.source)
            found = list(_finished_in(named, settings, contract, shared=shared, patient=True))
        _remove(left.empty, str(folder))
    return found


def _recorded_as(contract: Contract, name: str, folder: str) -> str:
    """The source that identifies a delivery: of a name that says no format, what the folder was the inbox of."""
    own = format_of(contract, name)
    if own is not None:
        return own.recorded_as
    return folder if folder in contract.former_names else contract.source


def _rounds(found: list[Found]) -> Iterator[list[Found]]:
    """Parts of what one commit lands."""
    part: list[Found] = []
    size = 0
    for one in found:
        if part and (len(part) >= ROUND_FILES or size + one.bytes > ROUND_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += one.bytes
    if part:
        yield part


def _record_round(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    arrival: Arrival,
    found: list[Found],
    datings: Collection[str],
    folder: str,
) -> tuple[list[Found], Landed, list[Delivery]]:
    """Records the files, all of one folder, in one transaction; returns those that it recorded, and the new deliveries where it holds the bytes of all of them."""
    kept: list[Found] = []
    rows: list[tuple[str, str, str, int, datetime | None, str]] = []
    contents: list[bytes | None] = []
    undated: list[str] = []
    days_once: set[date] = set()
    for one in found:
        content: bytes | None = None
        stored = "in_place" if contract.files.in_place else "landing"
        known: tuple[str, int] | None
        if one.is_dir:
            known = _keep_folder(settings, contract, one)
        elif contract.files.in_place:
            known = _hash(one)
        elif contract.files.small and one.bytes <= SMALL_BYTES:
            stored, content = "raw.file", _read_small(one)
            known = None if content is None else (hashlib.sha256(content).hexdigest(), len(content))
        else:
            known = _keep(settings, contract, one, one.path, one.name)
        if known is None:
            continue  # still written, or replaced: the next look takes it
        kept.append(one)
        contents.append(content)
        number, said = delivery_id(_recorded_as(contract, one.name, folder), one.name, known[0]), said_by(contract, one.name)
        once = [said_once(dating, one.name) for dating in datings]
        if said is None or None in once:
            undated.append(number)
        days_once |= {o.date() for o in once if o is not None}
        rows.append((number, one.name, *known, said, stored))
    if not rows:
        return [], Landed(0, 0, 0), []
    ids, names, hashes, sizes, dates, places = (list(column) for column in zip(*rows, strict=True))
    in_names = days_once | {d.date() for d in dates if d is not None}
    if arrival.clocked:
        # under the day of their arrival stand those whose names say none
        arrival.later_than(_last_arrival(con, contract, in_names, arrival.at.date() if None in dates else date.max))
    now = arrival.at
    came = [now] * len(ids)
    if arrival.stands:
        before = _replaced(con, contract, names, ids, in_names, now.date())
        came = [b + timedelta(seconds=1) if (b := before.get(name)) is not None and b >= now else now for name in names]
    known_before = _recorded(con, contract, ids, in_names | {now.date()}, undated)
    as_ofs = [d or at for d, at in zip(dates, came, strict=True)]
    days = [a.date() for a in as_ofs]
    batch = pa.table([ids, [contract.source] * len(ids), names, hashes, sizes, came, as_ofs, days, places], schema=_LANDED)
    small = "raw.file" in places
    if small:
        batch = batch.append_column("content", pa.array(contents, pa.large_binary()))
    newcomers = batch.filter(pa.array([i not in known_before for i in ids])) if known_before else batch
    new = newcomers.num_rows
    if contract.files.in_place and not new:
        return kept, Landed(len(ids), 0, len(ids)), []  # scans stay where they are: seeing them again is no arrival
    con.register("inbox_batch", batch)
    con.register("newcomers", newcomers)
    places_of = list(zip(days, names, strict=True))
    in_order = "" if all(map(operator.le, places_of, places_of[1:])) else "ORDER BY day, name"  # as files lie in their folders
    with transaction(con):
        if new:
            if small:
                raw = "raw_closed" if contract.personal else "raw"
                con.execute(
                    f"INSERT INTO lake.{raw}.file SELECT delivery_id, source, day, content FROM newcomers WHERE stored = 'raw.file' {in_order}"
                )
            con.execute(f"""
                INSERT INTO lake.ops.landed
                SELECT delivery_id, source, name, sha256, bytes, received_at, as_of, day, stored
                FROM newcomers {in_order}""")
            con.execute("INSERT INTO lake.ops.pending (delivery_id, source, day) SELECT delivery_id, source, day FROM newcomers")
        con.execute("INSERT INTO lake.ops.arrival SELECT delivery_id, source, name, day, received_at FROM inbox_batch")
        reach("landing.before_commit")
    reach("landing.committed")
    for name in ("newcomers", "inbox_batch"):
        con.unregister(name)
    deliveries = [
        Delivery(i, contract.source, name, sha, size, at, as_of, day, None, content, is_new=True)
        for i, name, sha, size, at, as_of, day, content in zip(ids, names, hashes, sizes, came, as_ofs, days, contents, strict=True)
        if content is not None and i not in known_before
    ]
    return kept, Landed(len(ids), new, len(ids) - new), deliveries if len(deliveries) == new else []


def _day_list(days: set[date]) -> str:
    """Days as SQL lists them; the ledger is read for those in the names of files only."""
    return ", ".join(f"DATE '{d}'" for d in sorted(days)) or "NULL"


def _last_arrival(con: duckdb.DuckDBPyConnection, contract: Contract, days: set[date], today: date) -> datetime | None:
    """When the latest of the source's deliveries of these days arrived, or of `today` and later ones."""
    where = f"source = {quoted(contract.source)} AND (day IN ({_day_list(days)}) OR day >= DATE '{today}')"
    asked = f"SELECT max(arrived_at) FROM lake.ops.arrival WHERE {where}"
    latest: datetime | None = con.execute(asked).fetchall()[0][0]
    return latest


def _replaced(
    con: duckdb.DuckDBPyConnection, contract: Contract, names: list[str], ids: list[str], days: set[date], today: date
) -> dict[str, datetime]:
    """Of each of these names when the latest delivery of other bytes arrived, if any did, of these days or of today and later ones."""
    return dict(
        con.execute(
            f"SELECT name, max(received_at) FROM lake.ops.landed WHERE source = ? AND (day IN ({_day_list(days)}) OR day >= ?) "
            "AND name IN (SELECT unnest(?)) AND delivery_id NOT IN (SELECT unnest(?)) GROUP BY name",
            [contract.source, today, names, ids],
        ).fetchall()
    )


def _recorded(con: duckdb.DuckDBPyConnection, contract: Contract, ids: list[str], days: set[date], undated: list[str]) -> set[str]:
    """Which of these deliveries the ledger holds.

    The ledger is read for the days in the file names only: 0.03 s against 1.15 s for a year of files. One whose name says no day (`undated`)
    was recorded under the day on which it came first, whichever that was.
    """
    con.register("asked", pa.table({"delivery_id": pa.array(ids, pa.string())}))
    anywhere = " OR delivery_id IN (SELECT unnest($1))" if undated else ""
    found = con.execute(
        f"""
        SELECT DISTINCT delivery_id FROM lake.ops.landed
        WHERE source = {quoted(contract.source)} AND (day IN ({_day_list(days)}){anywhere}) AND delivery_id IN (SELECT delivery_id FROM asked)""",
        [undated] if undated else [],
    ).fetchall()
    con.unregister("asked")
    return {delivery for (delivery,) in found}


def _nothing() -> None:
    """Nothing is to be taken out of the inbox."""


def _clear(taken: list[Found], small: bool) -> None:
    """Takes landed files out of the inbox, each aside first: what is no longer the file that was landed goes back, for the next look.

    Where nothing can be put aside (the disk is full, which only removing cures) a file that is still the landed one goes at once. Raises the
    first OSError after all other folders have been seen to. Folders are seen to side by side: the disk, or a share, is what is waited for.
    """
    by_parent: dict[str, list[Found]] = {}
    for one in taken:
        by_parent.setdefault(one.path.rpartition("/")[0], []).append(one)

    def cleared(parent: str) -> OSError | None:
        try:
            _clear_folder(parent, by_parent[parent], small)
        except OSError as error:
            return error
        return None

    with ThreadPoolExecutor(_HANDS) as hands:
        failed = next(filter(None, list(hands.map(cleared, by_parent))), None)
    if failed is not None:
        raise failed


_HANDS = 4
"""Folders that are cleared at once: a day of files goes in 2.0 s rather than 4.4 on a disk with a journal; 8 were no quicker."""


def _clear_folder(parent: str, files: list[Found], small: bool) -> None:
    name = f"{TAKEN}{os.getpid()}"
    failed: OSError | None = None
    with contextlib.ExitStack() as opened:
        try:
            here, away, full = opened.enter_context(_opened(parent)), -1, None
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
                away = opened.enter_context(_opened(name, here))
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                full = error
        except FileNotFoundError:
            return  # its sender took the whole folder back
        # by their names in the two folders: whole paths take twice as long, a second for a day of files
        for one in files:
            try:
                if full is None:
                    _clear_one(one, small, f"{parent}/{name}", here, away)
                else:
                    _clear_where_it_lies(one, full)
            except FileNotFoundError:
                pass  # its sender took it back
            except OSError as error:
                failed = failed or error  # of this file: the others go
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=here)
    if failed is not None:
        raise failed


def _clear_one(one: Found, small: bool, aside: str, here: int, away: int) -> None:
    """Takes one file out of the open folder `here`, by way of the folder `aside`, open as `away`. Raises FileNotFoundError where it is gone."""
    name = one.path.rpartition("/")[2]
    if not one.is_dir and not _is_still(one, os.stat(name, dir_fd=here, follow_symlinks=False)):
        return  # the next look takes what it is now
    try:
        os.rename(name, name, src_dir_fd=here, dst_dir_fd=away)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _clear_where_it_lies(one, error)
        return
    moved = f"{aside}/{name}"
    asked = not one.is_dir and (not small or _age(one) < YOUNG_SECONDS)
    # who writes it is asked before what it is: what was written till then shows, and nobody finds it here to open it again
    if (asked and _writer(moved)) or _identities(moved if one.is_dir else name, one.is_dir, away) != one.identity:
        _give_back(moved, one.path)
    elif one.is_dir:
        shutil.rmtree(moved)
    else:
        os.unlink(name, dir_fd=away)


_FULL = (errno.ENOSPC, errno.EDQUOT)


def _clear_where_it_lies(one: Found, full: OSError) -> None:
    """On a full disk: removes a file of which nothing has changed, without putting it aside. Raises `full` for a folder, of which nobody can say that."""
    if one.is_dir:
        raise full
    with contextlib.suppress(FileNotFoundError):
        # what it is comes last: between that and its end there is no other look
        if not _writer(one.path) and _is_still(one, os.lstat(one.path)):
            os.unlink(one.path)


def _is_still(one: Found, now_is: os.stat_result) -> bool:
    """Whether nothing of a file has changed since the look. To put it aside is a change too, so that this is asked before."""
    return _identity(now_is) == one.identity[0] and now_is.st_ctime_ns == one.changed


@contextlib.contextmanager
def _opened(folder: str, within: int | None = None) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield fd
    finally:
        os.close(fd)


def _give_back(moved: str, path: str) -> None:
    """Puts a file back under its name; where another has come there meanwhile, into a folder beside it, so that both are landed."""
    parent, _, name = path.rpartition("/")
    for number in range(1, 1000):
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.lstat(moved), os.lstat(path)):  # given back before, by a process that was killed before it took this name away
                os.unlink(moved)
                return
        try:
            # of a folder there is no second name: it is renamed, as a file is where the file system has none either
            give_name(Path(moved), Path(path))
            Path(moved).unlink(missing_ok=True)
            return
        except FileExistsError:
            with contextlib.suppress(FileExistsError):  # a file of that name: the next number
                Path(f"{parent}/again-{number}").mkdir(exist_ok=True)
                path = f"{parent}/again-{number}/{name}"


def _put_back(con: duckdb.DuckDBPyConnection, inbox: Path, taken: Iterable[str], source: str | None) -> None:
    """What a process that was killed had taken aside and not removed yet goes back into the inbox, and is landed or found landed.

    Where its sender has put another file in its place meanwhile, it goes if it was landed: beside the newer one it would pass for news.
    """
    for aside in taken:
        parent = aside.rpartition("/")[0]
        for name in os.listdir(aside):
            moved, path = f"{aside}/{name}", f"{parent}/{name}"
            if os.path.lexists(path) and not os.path.isdir(moved) and _is_landed(con, inbox, moved, path, source):
                os.unlink(moved)
            else:
                _give_back(moved, path)
        with contextlib.suppress(OSError):
            os.rmdir(aside)


def _is_landed(con: duckdb.DuckDBPyConnection, inbox: Path, moved: str, path: str, source: str | None) -> bool:
    """Whether the bytes at `moved` are in the ledger under the name that `path` has below the inbox: the source's, or of a shared one anybody's."""
    try:
        with open(moved, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return False
    name = "/".join(portable(part) for part in path.removeprefix(f"{inbox}/").split("/"))
    found = con.execute(
        "SELECT 1 FROM lake.ops.landed WHERE name = ? AND sha256 = ? AND source = coalesce(?, source) LIMIT 1", [name, sha256, source]
    )
    return bool(found.fetchall())


def _remove(empty: Iterable[str], inbox: str) -> None:
    """Folders of a dated layout go when they have been empty for EMPTY_SECONDS: a sender may have made one a moment ago, or still be in it.

    The outer ones that this empties go too, when their time has come.
    """
    for innermost in empty:
        folder = innermost
        with contextlib.suppress(OSError):
            changed = Path(folder).stat().st_mtime
            while folder != inbox and time.time() - changed > EMPTY_SECONDS:
                outer = folder.rpartition("/")[0]
                changed = Path(outer).stat().st_mtime  # before: to take the inner one out changes it
                os.rmdir(folder)
                folder = outer
