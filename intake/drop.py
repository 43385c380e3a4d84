"""What becomes of an upload, whatever the protocol: checked by name and folder, written aside, moved complete into the inbox.

A file is in the inbox with all its bytes or not at all. Nothing there is ever overwritten: other bytes under a name that still
waits go into a folder beside it. What is refused is refused while the sender can still hear it, and it keeps the file.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import filecmp
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import structlog

from ingestion.contract import Contract
from ingestion.landing import UNFINISHED, inbox_of, tree
from ingestion.names import station_of
from intake.accounts import Account
from tnmt.settings import Settings, give_name

HEARTBEAT = "intake.json"
LAYOUTS = "ftp_folder_layout.csv"
REMEMBERED = 20_000
"""Sizes of so many received files are kept, for senders that ask for it before they delete theirs."""
LOCK = "intake/lock"
PROBE_SECONDS = 1.0
"""Who only asks whether an intake runs (`is_running`) holds its lock for an instant: a start tries so long before it says that another one does."""
STALE_TEMPORARY = 86_400.0
COUNT_AGAIN = 10.0
SPARE_BYTES = 1 << 30
SWALLOWED = 64 << 20
_PARTS = {"{station}": r"[^\W\d]+_\w+", "{yyyy}": r"\d{4}", "{mm}": r"\d{2}", "{dd}": r"\d{2}"}
log = structlog.get_logger("intake")


class AlreadyRunning(OSError):
    """Another process takes in for this platform; two would remove each other's uploads."""


class Refused(Exception):
    """An upload, rename or folder that is not taken: `reason` for the log, the text for the sender (Vietnamese: what, expected, found)."""

    def __init__(self, reason: str, text: str) -> None:
        """Both."""
        super().__init__(text)
        self.reason = reason


def layouts(settings: Settings) -> list[re.Pattern[str]]:
    """The folder layouts that loggers use, each as a pattern of a folder path below the account ('' where files lie flat)."""
    with (settings.reference / LAYOUTS).open(encoding="utf-8", newline="") as file:
        return [_layout(row["pattern"]) for row in csv.DictReader(file)]


def _layout(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_PARTS.get(piece) or re.escape(piece) for piece in re.split(r"(\{\w+\})", pattern)), re.IGNORECASE)


@dataclass
class Tally:
    """What one account sent since the server started."""

    files: int = 0
    bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    last_received: float | None = None


class Upload:
    """One file on its way in, written under a name of its own outside the inbox. File-like, as far as the servers need it."""

    def __init__(self, drop: Drop, account: Account, relative: str) -> None:
        """Opens the file aside."""
        self.account, self.relative, self._drop = account, relative, drop
        self.path = drop.aside / f"{uuid.uuid4().hex}.part"
        self.name, self.size, self.closed = str(self.path), 0, False
        self._file = self.path.open("wb")
        self._trouble: Refused | None = None
        self._swallowed = 0

    @property
    def is_lost(self) -> bool:
        """Whether the sender goes on and on with what is refused already; until then it is heard out, so that it hears why."""
        return self._trouble is not None and self._swallowed > SWALLOWED

    def write(self, data: bytes, offset: int | None = None) -> int:
        """Writes; where that fails or grows too big, `finish` says so."""
        if self._trouble is not None:
            self._swallowed += len(data)
        else:
            try:
                if offset is not None:
                    self._file.seek(offset)
                self._file.write(data)
                self.size = max(self.size, self._file.tell())
            except OSError as error:
                self._trouble = Refused("disk", f"Máy chủ không ghi được tệp ({error.strerror}); hãy giữ tệp và gửi lại sau")
            most = self._drop.settings.intake_file_bytes
            if self.size > most:
                self._trouble = Refused("too_big", f"Tệp lớn hơn {most} byte; tệp 5 phút của một trạm chỉ vài trăm byte")
        return len(data)

    def finish(self) -> None:
        """All bytes came: into the inbox with it, on the disk before the sender hears that it is; raises Refused."""
        try:
            if self._trouble:
                raise self._trouble
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._drop.receive(self)
        except OSError as error:
            raise self._drop.refuse(self.account, self.relative, Refused("disk", f"Máy chủ không ghi được tệp ({error.strerror})")) from error
        except Refused as refused:
            raise self._drop.refuse(self.account, self.relative, refused) from None
        finally:
            self.close()

    def close(self) -> None:
        """Ends it; what was not finished is gone."""
        if not self.closed:
            self.closed = True
            self._drop.open_uploads.discard(self)
            self._file.close()
            self.path.unlink(missing_ok=True)


class Drop:
    """The place where uploads arrive. Shared by the servers of all protocols."""

    def __init__(self, settings: Settings, contract: Contract) -> None:
        """Folders are made; what a killed server left of uploads is removed, as no sender was told that it arrived.

        Raises AlreadyRunning where another process does this already.
        """
        self.settings, self.contract = settings, contract
        self.inbox = inbox_of(settings, contract)
        self.aside = settings.home / "intake" / "uploading"
        self.arriving = self.inbox / ".uploading"
        self._alone = _alone(settings)
        for left in (self.aside, self.arriving):
            shutil.rmtree(left, ignore_errors=True)
        self.aside.mkdir(parents=True)
        self.inbox.mkdir(parents=True, exist_ok=True)
        self.open_uploads: set[Upload] = set()
        self._layouts = layouts(settings)
        self._lock = threading.RLock()
        self._tally: dict[str, Tally] = defaultdict(Tally)
        self._sizes: dict[tuple[str, str], int] = {}
        self._waiting: dict[str, tuple[float, int]] = {}

    def leave(self) -> None:
        """Lets another process take in."""
        self._alone.close()

    def jail(self, account: Account) -> Path:
        """The folder that the account sees: its own folders, and files that it has not renamed yet."""
        folder = self.settings.home / "intake" / "accounts" / account.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def begin(self, account: Account, relative: str) -> Upload:
        """Starts the upload of a file; raises Refused."""
        try:
            self._check_name(account, relative)
            self._check_room(account, relative)
        except Refused as refused:
            raise self.refuse(account, relative, refused) from None
        upload = Upload(self, account, relative)
        self.open_uploads.add(upload)
        return upload

    def receive(self, upload: Upload) -> None:
        """Puts a complete file where it belongs: into the inbox, or into the jail while its name says that it is not finished."""
        if upload.relative.lower().endswith(UNFINISHED):
            target = self.jail(upload.account) / upload.relative
            target.parent.mkdir(parents=True, exist_ok=True)
            upload.path.replace(target)
            return
        self._deliver(upload.account, upload.path, upload.relative)

    def rename(self, account: Account, old: str, new: str) -> None:
        """A file that was sent under an unfinished name gets its own; raises Refused."""
        try:
            self._check_name(account, new)
            source = self.jail(account) / old
            if not source.is_file():
                raise Refused("unknown", f"Không có tệp {old} để đổi tên; hãy gửi lại tệp")
            if new.lower().endswith(UNFINISHED):
                source.replace(self.jail(account) / new)
            else:
                self._deliver(account, source, new)
                source.unlink(missing_ok=True)
        except Refused as refused:
            raise self.refuse(account, new, refused) from None

    def make_folder(self, account: Account, relative: str) -> None:
        """A folder of one of the layouts, or one on the way to it; raises Refused."""
        parts = PurePosixPath(relative).parts
        if not any(_is_on_the_way(p, parts) for p in self._layouts):
            raise self.refuse(account, relative, Refused("folder", f"Thư mục {relative} không thuộc mười kiểu thư mục được nhận (docs/intake.md)"))
        (self.jail(account) / relative).mkdir(parents=True, exist_ok=True)

    def size(self, account: Account, relative: str) -> int | None:
        """Size of a file that this account sent, although it is in the inbox by now; None where it is not known."""
        waiting = self.jail(account) / relative
        with suppress(FileNotFoundError):  # renamed meanwhile, by way of another connection
            if waiting.is_file():
                return waiting.stat().st_size
        return self._sizes.get((account.name, relative))

    def refuse(self, account: Account, relative: str, refused: Refused) -> Refused:
        """Counts and logs a refusal, and returns it to be raised."""
        with self._lock:
            self._tally[account.name].refused[refused.reason] += 1
        log.warning("upload refused", account=account.name, name=relative, reason=refused.reason)
        return refused

    def tend(self, serving: dict[str, bool] | None = None) -> None:
        """Writes the heartbeat, with what of the servers still serves, and removes what no sender will come back for. Raises OSError where the disk refuses."""
        with self._lock:
            beat = {n: {**vars(t), "refused": dict(t.refused)} for n, t in sorted(self._tally.items())}
        temporary = self.settings.home / f".{HEARTBEAT}"
        state = {"pid": os.getpid(), "uploading": len(self.open_uploads), "serving": serving or {}, "accounts": beat}
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(self.settings.home / HEARTBEAT)
        before = time.time() - STALE_TEMPORARY
        accounts = self.settings.home / "intake" / "accounts"
        for folder, _, names in reversed(list(tree(str(accounts)))):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):  # renamed by its sender meanwhile
                    if path.lstat().st_mtime < before:
                        path.unlink()
                        log.warning("unfinished upload removed", path=str(path.relative_to(accounts)))
            is_dated = len(Path(folder).relative_to(accounts).parts) > 1
            with suppress(OSError):  # a file came into it meanwhile
                if is_dated and not os.listdir(folder) and Path(folder).stat().st_mtime < before:
                    os.rmdir(folder)

    def _check_name(self, account: Account, relative: str) -> None:
        path = PurePosixPath(relative)
        name = path.name
        while name.lower().endswith(UNFINISHED):
            name = name[: name.rindex(".")]
        code = station_of(self.contract, name)
        if code is None or any(ord(c) < 32 or c in "/\\%" for c in name):
            raise Refused("name", f"Tên tệp {path.name} không đúng mẫu MãTrạm_yyyyMMddHHmmss.txt (ví dụ BP_XXXX_NUOXXX_20260324000500.txt)")
        if code not in account.stations:
            raise Refused("other_station", f"Tài khoản {account.name} không được gửi tệp của trạm {code}")
        folder = "" if str(path.parent) == "." else str(path.parent)
        if not any(p.fullmatch(folder) for p in self._layouts):
            raise Refused("folder", f"Thư mục {folder} không thuộc mười kiểu thư mục được nhận (docs/intake.md)")

    def _check_room(self, account: Account, relative: str) -> None:
        if shutil.disk_usage(self.inbox).free < SPARE_BYTES:
            raise Refused("disk", "Máy chủ sắp hết chỗ; hãy giữ tệp và gửi lại sau")
        counted, waiting = self._waiting.get(account.name, (0.0, 0))
        if time.monotonic() - counted > COUNT_AGAIN:
            waiting = sum(len(names) for _, _, names in tree(str(self.inbox / account.name)))
            self._waiting[account.name] = (time.monotonic(), waiting)
        if waiting >= self.settings.intake_waiting_files:
            raise Refused(
                "quota", f"Đã có {waiting} tệp của tài khoản chờ xử lý, nhiều nhất là {self.settings.intake_waiting_files}; hãy gửi lại sau"
            )
        most = self.settings.intake_unfinished_files
        # the threads of the other protocols begin and end uploads meanwhile; a tuple is made of the set in one step
        begun = sum(u.account.name == account.name for u in tuple(self.open_uploads))
        if begun >= most:
            raise Refused("quota", f"Tài khoản đang gửi {begun} tệp cùng lúc, nhiều nhất là {most}; hãy gửi lần lượt")
        if relative.lower().endswith(UNFINISHED):
            unfinished = sum(len(names) for _, _, names in tree(str(self.jail(account))))
            if unfinished >= most:
                raise Refused(
                    "quota", f"Đã có {unfinished} tệp chưa được đổi sang tên thật, nhiều nhất là {most}; hãy đổi tên hoặc gửi thẳng tên thật"
                )

    def _deliver(self, account: Account, path: Path, relative: str) -> None:
        """Links a complete file into the inbox under the path that the sender gave it."""
        base = self.inbox / account.name / relative
        size = path.stat().st_size
        for n in range(1, 1000):
            target = base if n == 1 else base.parent / f"lan-{n}" / base.name
            if self._link(path, target):
                break
        else:
            raise Refused("quota", f"Tệp {relative} đã được gửi quá nhiều lần với nội dung khác nhau")
        with self._lock:
            tally = self._tally[account.name]
            tally.files, tally.bytes, tally.last_received = tally.files + 1, tally.bytes + size, time.time()
            counted, waiting = self._waiting.get(account.name, (0.0, 0))
            self._waiting[account.name] = (counted, waiting + 1)
            self._sizes[account.name, relative] = size
            if len(self._sizes) > REMEMBERED:
                del self._sizes[next(iter(self._sizes))]

    def _name(self, path: Path, target: Path) -> None:
        """As `give_name`; into an inbox on another disk the file is copied first, to where landing does not look."""
        try:
            give_name(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self.arriving.mkdir(exist_ok=True)
            copy = self.arriving / f"{uuid.uuid4().hex}.part"
            try:
                with path.open("rb") as source, copy.open("wb") as out:
                    shutil.copyfileobj(source, out)
                    out.flush()
                    os.fsync(out.fileno())
                give_name(copy, target)
            finally:
                copy.unlink(missing_ok=True)

    def _link(self, path: Path, target: Path) -> bool:
        """Makes `target` another name of the file, durably, or finds the same bytes waiting there; False where other bytes do.

        Landing takes files and empty folders out of the inbox at any moment: what is gone is made again.
        """
        while True:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._name(path, target)
                folder = os.open(target.parent, os.O_RDONLY)
            except FileExistsError:
                try:
                    return filecmp.cmp(path, target, shallow=False)
                except FileNotFoundError:
                    continue
            except FileNotFoundError:
                if not path.exists():
                    raise
                continue
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            return True


def _alone(settings: Settings) -> IO[str]:
    """The open file whose lock says that this process takes in; the kernel drops the lock with the process."""
    path = settings.home / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    until = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            file.seek(0)
            holder = file.read() or "?"
            file.close()
            raise AlreadyRunning(f"process {holder} takes in for {settings.home} already; stop it first") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def is_running(settings: Settings) -> bool:
    """Whether a process takes in for this platform, whether or not it still says so in the heartbeat."""
    try:
        with (settings.home / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def heartbeat(settings: Settings, stale: float = 60.0) -> dict[str, Any] | None:
    """What the intake last said of itself, or None where none is running."""
    path = settings.home / HEARTBEAT
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if time.time() - path.stat().st_mtime < stale else None
    except (OSError, ValueError):
        return None


def _is_on_the_way(layout: re.Pattern[str], parts: tuple[str, ...]) -> bool:
    pieces = layout.pattern.split("/")
    return len(parts) <= len(pieces) and all(re.fullmatch(p, part, re.IGNORECASE) for p, part in zip(pieces, parts, strict=False))
