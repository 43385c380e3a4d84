"""What passes between the steps of the path: a landed delivery, and what is wrong with one."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

Moment = datetime | Callable[[], datetime]
"""A moment, or a clock."""


@dataclass
class Arrival:
    """When what lies in the inboxes arrives, and is gated: a moment that was given (a sample, a test), or a clock's, which may stand still or be set back."""

    at: datetime
    clocked: bool = False
    stands: bool = False
    """A sample's platform, on which every run is of the same moment: a file that replaces another arrives after it all the same."""

    @classmethod
    def of(cls, now: Moment | Arrival) -> Arrival:
        """Asks the clock, if it is one."""
        if isinstance(now, Arrival):
            return now
        return cls(now(), clocked=True) if callable(now) else cls(now)

    def later_than(self, known: datetime | None) -> None:
        """Of a clock's moment: makes it later than what the ledger knows, for all that this take-in records from now on."""
        if self.clocked and known is not None and known >= self.at:
            self.at = known + timedelta(seconds=1)


@dataclass(slots=True)  # not frozen: that would cost a third of a second for a day of files
class Delivery:
    """One thing that a sender handed over, as recorded at landing.

    `name` is the path below the source's inbox; `path` is where the landed bytes can be read (for small
    files, which live in the lake, `content` holds them instead). Times are GMT+7 without zone.
    `as_of` is the moment that the content describes: it decides which of two deliveries wins.
    `only_waiting` says that of one gated before only the rows in quarantine are gated again: the register that they waited for has changed;
    `is_new` that it landed a moment ago, so that nothing came of it yet.
    """

    delivery_id: str
    source: str
    name: str
    sha256: str
    bytes: int
    received_at: datetime
    as_of: datetime
    day: date
    path: Path | None = None
    content: builtins.bytes | None = None
    only_waiting: bool = False
    is_new: bool = False

    def read_bytes(self) -> builtins.bytes:
        """The landed bytes."""
        if self.content is not None:
            return self.content
        if self.path is None:
            raise ValueError(f"delivery {self.delivery_id} of {self.source} holds neither bytes nor a path")
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a delivery cannot be read as a whole. Texts are Vietnamese: its sender reads them."""

    code: str
    what: str
    expected: str = ""
    found: str = ""
    todo: str = ""

    @property
    def sets_aside(self) -> bool:
        """Whether nobody can say yet what is in the delivery: nothing of it is judged, its bytes wait for `tnmt quarantine retry`."""
        return self.code in ("reader_died", "reader_failed")

    def __str__(self) -> str:
        """What, expected, found and what to do, as one line."""
        parts = [self.what]
        parts += [f"{label}: {text}" for label, text in (("cần", self.expected), ("gặp", self.found), ("cách xử lý", self.todo)) if text]
        return "; ".join(parts)


def reader_died(source: str, limits: str, found: str) -> Problem:
    """A delivery that ended the process that reads it, twice."""
    return Problem(
        "reader_died",
        "Tệp được để riêng: hai lần làm chương trình đọc dừng đột ngột hoặc vượt giới hạn",
        f"đọc xong trong {limits}",
        found,
        "Mở tệp bằng phần mềm gốc, lưu lại và gửi lại dưới tên khác; bản gốc được giữ nguyên. Nếu tệp lành: nâng TNMT_READER_MEMORY, "
        f"TNMT_READER_SECONDS rồi chạy tnmt quarantine retry {source}",
    )


def reader_failed(source: str, found: str) -> Problem:
    """A delivery on which this software failed: its own fault, never said to be the sender's."""
    return Problem(
        "reader_failed",
        "Tệp được để riêng: phần mềm này chưa đọc được tệp; không phải lỗi của đơn vị gửi",
        "đọc được, hoặc từ chối có lý do",
        found,
        f"Bản gốc được giữ nguyên; báo đơn vị vận hành kèm tên tệp; sau khi sửa phần mềm hoặc hợp đồng chạy tnmt quarantine retry {source}",
    )


def unfinished_geopackage(found: str) -> Problem:
    """A GeoPackage that a program had open when it was copied: its last edits are not in it (https://sqlite.org/wal.html)."""
    return Problem(
        "write_ahead_log",
        "Tệp GeoPackage đang mở hoặc chưa ghi xong: phần sửa sau cùng nằm ngoài tệp",
        "một tệp .gpkg đã đóng, không kèm -wal, -journal",
        found,
        "Đóng lớp dữ liệu trong QGIS/ArcGIS (hoặc xuất lại: Export > Save Features As), rồi gửi lại riêng tệp .gpkg",
    )


def delivery_id(source: str, name: str, sha256: str) -> str:
    """24 hexadecimal characters (96 bits) that stand for (source, name, bytes).

    96 bits keep the chance of a collision over ten years of a province's files (2·10⁸) below 10⁻¹²
    and cost half of what a whole SHA-256 would in every row that names its delivery.
    """
    return hashlib.sha256(f"{source}\0{name}\0{sha256}".encode()).hexdigest()[:24]
