"""What is looked at before a library opens an archive or a workbook: how much is in it. A few kilobytes can unpack to gigabytes."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ingestion.model import Problem

MOST_MEMBERS = 10_000
MOST_BYTES_OF_A_WORKBOOK = 4 << 30
SMALL = 256 << 20
"""Unpacked bytes up to which nobody asks how well they were packed."""
MOST_RATIO = 200
"""Unpacked bytes for one packed: sheets and maps come to 5 to 50; only what is made for it comes to 1,000."""
FREE_TO_LEAVE = 1 << 30
_CHUNK = 4 << 20
_LITTER = ("__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db")
BAD_ARCHIVE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, UnicodeDecodeError)
"""What zipfile raises for an archive that is damaged, under a password, or packed in a way that it does not know."""


def too_large(expected: str, found: str) -> Problem:
    """A file that unpacks to more than can be sound."""
    return Problem(
        "unpacked_too_large",
        "Tệp phình quá lớn khi giải nén",
        expected,
        found,
        "Mở tệp bằng phần mềm gốc, kiểm tra và lưu lại; nếu dữ liệu lớn thật, chia thành nhiều tệp rồi gửi lại",
    )


def is_litter(name: str) -> bool:
    """Whether a path belongs to what systems leave beside data (`__MACOSX`, `.DS_Store`, Thumbs.db, `~$book.xlsx`), not to the data."""
    return any(part.startswith((".", "~$")) or part.casefold() in _LITTER for part in PurePosixPath(name.replace("\\", "/")).parts)


def sizes(archive: zipfile.ZipFile, packed: int, most: int) -> Problem | None:
    """The Problem of an archive that says of itself that it is too much. What it says is held against its bytes when they are read (CRC, size)."""
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        return too_large(f"tối đa {MOST_MEMBERS} tệp con", f"{len(members)} tệp con")
    total = sum(m.file_size for m in members)
    if total > most:
        return too_large(f"tối đa {most >> 20} MB sau khi giải nén", f"{total >> 20} MB")
    if total > SMALL and total > MOST_RATIO * max(packed, 1):
        return too_large(f"tối đa {MOST_RATIO} lần kích thước tệp nén", f"{packed} byte nén thành {total} byte")
    return None


def unpack(path: Path, into: Path) -> Problem | None:
    """Unpacks what may be data of an archive into a folder; the Problem of one that is too much. Raises BAD_ARCHIVE."""
    into.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path) as archive:
        if problem := sizes(archive, path.stat().st_size, max(0, shutil.disk_usage(into).free - FREE_TO_LEAVE)):
            return problem
        for member in archive.infolist():
            if not is_litter(member.filename):
                archive.extract(member, into)  # checks size and CRC, and stays below `into`
    return None


def workbook(file: BinaryIO) -> Problem | None:
    """The Problem of a workbook that unpacks to too much. What is no zip (.xls) is left to its library."""
    file.seek(0)
    try:
        if not zipfile.is_zipfile(file):
            return None
        with zipfile.ZipFile(file) as archive:
            if problem := sizes(archive, _length(file), MOST_BYTES_OF_A_WORKBOOK):
                return problem
            for member in archive.infolist():
                if member.file_size > SMALL or member.compress_size * MOST_RATIO < member.file_size:
                    # a library unpacks until the packed bytes end, whatever the head says: here the size and the CRC must be true
                    with archive.open(member) as packed:
                        while packed.read(_CHUNK):
                            pass
    except BAD_ARCHIVE:
        return None  # its library says what is wrong with it
    finally:
        file.seek(0)
    return None


def _length(file: BinaryIO) -> int:
    at = file.tell()
    size = file.seek(0, 2)
    file.seek(at)
    return size
