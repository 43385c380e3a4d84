"""A zoo of odd deliveries: names, bytes, encodings, sizes, numbers, dates, formats and folders that people really send.

Each animal says where it is put, what it holds and what must come of it. `taken`: all of its rows are accepted; `refused`:
none of them is, and the reason says what to do; `partly`: some rows are accepted, the others refused; `left`: no source takes
it (unfinished, hidden, or claimed by nobody), it stays where it is; `removed`: a folder that has long been empty. Nothing here
depends on a clock or a random number.
"""

from __future__ import annotations

import io
import os
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pikepdf
import shapely
import xlsxwriter
from PIL import Image

from simulator.files import write_vector

AIR, WATER = "BP_AAAA_KHIKXQ", "BP_WAAA_NUOTHA"
"""Stations of the tiny province (tests/tiny.py)."""

Fate = Literal["taken", "refused", "partly", "left", "removed"]


@dataclass(frozen=True)
class Animal:
    """One odd delivery: `put` writes it to its path below the inbox."""

    source: str
    name: bytes
    fate: Fate
    put: Callable[[Path], None]

    @property
    def label(self) -> str:
        """Its name for a test's report."""
        return f"{self.source}/{self.name.decode('utf-8', 'backslashreplace')}"


def place(animals: list[Animal], inbox: Path) -> None:
    """Writes the animals into the inbox, oldest first, all of them long ago, so that none counts as still being written."""
    for number, animal in enumerate(animals):
        path = Path(os.fsdecode(os.fsencode(inbox / animal.source) + b"/" + animal.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        animal.put(path)
        if not path.is_symlink():
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))


def zoo() -> list[Animal]:
    """All animals; their order is that of this file."""
    clock = _clock()
    return [
        *_station_names(clock),
        *_station_bytes(clock),
        *_station_lines(clock),
        *_hourly(),
        *_dossiers(),
        *_workbooks(),
        *_maps(),
        *_scans(),
        *_folders(),
    ]


def _bytes(content: bytes) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        path.write_bytes(content)

    return put


def _station(moment: str, station: str = AIR) -> bytes:
    return f"{station}_{moment}.txt".encode()


def _clock() -> Iterator[str]:
    """Stamps five minutes apart, one a file, so that no two animals speak of the same moment."""
    for number in range(2_000):
        minutes = 5 * number
        yield f"202602{1 + minutes // 1440:02d}{minutes % 1440 // 60:02d}{minutes % 60:02d}00"


def _line(moment: str, value: str = "21.4", unit: str = "ug/m3", status: str = "00", parameter: str = "PM2.5") -> bytes:
    return f"{parameter}\t{value}\t{unit}\t{moment}\t{status}\r\n".encode()


def _station_names(clock: Iterator[str]) -> Iterator[Animal]:
    good = [
        "{m}", "thu muc/{m}", "2026/02/01/{m}", "có dấu/{m}", unicodedata.normalize("NFD", "có dấu nfd/") + "{m}", "nháy'đơn/{m}", 'nháy"kép/{m}',
        "chấm;phẩy/{m}", "phần%trăm/{m}", "gạch\\chéo/{m}", "-dấu trừ/{m}", "🌧/{m}", "a\u200bb/{m}", "tab\there/{m}", "dòng\nmới/{m}", "*?[x]/{m}",
        "$(touch x)/{m}", "; DROP TABLE x/{m}", "{{x}}/{m}", "a" * 200 + "/{m}", "đuôi .txt/{m}", "CON/{m}", " khoảng/{m}", "~/{m}",
    ]  # fmt: skip
    for form in good:
        moment = next(clock)
        yield Animal("station_txt", form.replace("{m}", f"{AIR}_{moment}.txt").encode(), "taken", _bytes(_line(moment)))
    for raw in (b"kh\xe3o s\xe1t/", b"\xff\xfe/", b"\xc3\x28/"):
        moment = next(clock)
        yield Animal("station_txt", raw + _station(moment), "taken", _bytes(_line(moment)))
    bad = [
        "{s}_{m}.TXT", "{s}_{m}.txt.txt", "{s}_{m}", "{s}_{m}.csv", "{s}-{m}.txt", "{l}_{m}.txt", "{s}_{m} (1).txt", "Copy of {s}_{m}.txt", "{s}_{d}.txt",
        "{s}_20261331000000.txt", "{s}_20260230000000.txt", "{s}_20260201250000.txt", "{s}_{m}.txt ", " {s}_{m}.txt", "{s}_{m}\u200b.txt", "số liệu.txt",
        "'; DROP TABLE lake.clean.reading; --.txt", "%s%n.txt", "{s}_{m}.zip", "a" * 240 + ".txt", "x\n.txt", "{s}__{m}.txt",
    ]  # fmt: skip
    for form in bad:
        moment = next(clock)
        name = form.replace("{s}", AIR).replace("{l}", AIR.lower()).replace("{m}", moment).replace("{d}", moment[:8])
        yield Animal("station_txt", name.encode(), "refused", _bytes(_line(moment)))
    moment = next(clock)
    yield Animal("station_txt", b"\xe9\xe8" + _station(moment), "refused", _bytes(_line(moment)))
    for name in (
        ".an.txt",
        ".DS_Store",
        "x.part",
        "x.txt.tmp",
        "x.filepart",
        "x.PART",
        "x.crdownload",
        "x.uploading",
        "._" + AIR + "_20260201000000.txt",
        "...x/" + AIR + "_20260201000000.txt",
    ):
        yield Animal("station_txt", name.encode(), "left", _bytes(_line("20260201000000")))


def _station_bytes(clock: Iterator[str]) -> Iterator[Animal]:
    def one(fate: Fate, make: Callable[[bytes], bytes]) -> Animal:
        moment = next(clock)
        return Animal("station_txt", _station(moment), fate, _bytes(make(_line(moment))))

    bom = b"\xef\xbb\xbf"
    taken: list[Callable[[bytes], bytes]] = [
        lambda x: x, lambda x: bom + x, lambda x: bom + bom + x, lambda x: x.replace(b"\r\n", b"\n"), lambda x: b"\r\n\r\n" + x, lambda x: x + b"\r\n   \r\n\t\r\n",
        lambda x: x.replace(b"\t", b" \t "), lambda x: x + x, lambda x: x * 50, lambda x: b"\n" * 5000 + x, lambda x: x + b"\t\t\t\t\r\n",
    ]  # fmt: skip
    for make in taken:
        yield one("taken", make)
    refused: list[Callable[[bytes], bytes]] = [
        lambda x: b"", lambda x: bom, lambda x: b"   \r\n", lambda x: x[:20], lambda x: x[:5], lambda x: b"\0" * 100, lambda x: x + b"\0",
        lambda x: x.decode().encode("utf-16"), lambda x: x.decode().encode("utf-16-be"), lambda x: x.replace(b"PM2.5", b"Nhi\xeat"), lambda x: b"\xff" + x,
        lambda x: x.replace(b"\t", b","), lambda x: x.replace(b"\t", b";"), lambda x: x.replace(b"\t", b"    "), lambda x: x.replace(b"\t", b"\t\t"),
        lambda x: b"<html><body>504</body></html>", zlib.compress, lambda x: b"PK\x03\x04" + x, lambda x: b"%PDF-1.4\n", lambda x: b"MZ\x90\0",
        lambda x: b"{\"PM2.5\": 21.4}", lambda x: b"x" * (3 << 20), lambda x: b"x\t" * (1 << 20), lambda x: b"\x1b[31m" + b"x" * 99, lambda x: b"\xf4\x90\x80\x80",
    ]  # fmt: skip
    for make in refused:
        yield one("refused", make)
    partly: list[Callable[[bytes], bytes]] = [
        lambda x: x + b"khong phai so lieu\r\n", lambda x: x + b"y" * (2 << 20) + b"\r\n", lambda x: x + x[:12],
        lambda x: x + x.replace(b"PM2.5", b"PM2.5 "[::-1]), lambda x: x + b"\xc2\xa0\xc2\xa0\r\n" + b"a\tb\r\n", lambda x: x + b"'; DROP TABLE x; --\t1\tug/m3\t1\t00\r\n",
    ]  # fmt: skip
    for make in partly:
        yield one("partly", make)


def _station_lines(clock: Iterator[str]) -> Iterator[Animal]:
    """One line with a field that is not as the layout has it: the row is kept without a value, or refused; a second, good line is accepted."""

    def two(fate: Fate, **field: str) -> Animal:
        moment = next(clock)
        odd = _line(field.pop("moment", moment), **{"parameter": "PM10", **field})
        return Animal("station_txt", _station(moment), fate, _bytes(_line(moment) + odd))

    # no figure, but station, parameter and time are known: the row is kept, without a valid value
    for value in ("---", "", "NULL", "nan", "NaN", "inf", "-inf", "1_000", "0x1F", "1e400", "٣", "２１", "21,4,4", "21.4.4", "1 000", "+-5", "--5", "abc",
                  "9" * 40, "-999", "-9999", "1E", "21.4ug", "=1+1", "1/2", "½", "²", "∞", "21·4", "−5", "12,345.6", "12.345,6", "\u200b21", "21\u00a0"):  # fmt: skip
        yield two("taken", value=value)
    for status in ("01", "02", "03", "", "0", "000", "OK", "٠٠", "99", "ff", "00 "):
        yield two("taken", status=status)
    for unit in ("mg/m3", "µg/m³", "μg/m3", "ug/Nm3"):
        yield two("taken", unit=unit)
    for unit in ("stone/acre", "UG/M3", "kg/m2", "☃", "ug/m3; DROP", "%%"):
        yield two("partly", unit=unit)
    yield two("taken", parameter="\u202ePM10")
    for parameter in ("Kryptonite", "PM2..5", "", "PM 2.5 x", "<script>", "pm" * 200):
        yield two("partly", parameter=parameter)
    for moment in ("20261331000000", "2026023", "00000000000000", "20260230000000", "20260201246000", "99991231235959", "19000101000000", "20350101000000",
                   "2026-02-01 00:00", "202602010000", "26020100000000", "20260201000000+07", "", "now", "٢٠٢٦٠٢٠١٠٠٠٠٠٠"):  # fmt: skip
        yield two("partly", moment=moment)


def _hourly() -> Iterator[Animal]:
    header = "Mã trạm;Thông số;Giá trị;Đơn vị;Thời gian;Trạng thái"
    day = iter(range(1, 400))

    def one(fate: Fate, text: str | bytes, head: str = header) -> Animal:
        number = next(day)
        stamp = f"{2020 + (number - 1) // 336}{(number - 1) % 336 // 28 + 1:02d}{(number - 1) % 28 + 1:02d}"
        content = text if isinstance(text, bytes) else f"{head}\r\n{text}".replace("{d}", f"{number % 28 + 1:02d}/01/2026").encode()
        return Animal("station_hourly", f"{AIR}_202601_{stamp}.csv".encode(), fate, _bytes(content))

    good = f"{AIR};PM2.5;21,4;ug/m3;{{d}} {{h}}:00;00\r\n"
    hours = iter(range(10**6))

    def row(**change: str) -> str:
        line = good.replace("{h}", f"{next(hours) % 23:02d}")
        fields = line.rstrip("\r\n").split(";")
        for name, value in change.items():
            fields[("station", "parameter", "value", "unit", "time", "status").index(name)] = value
        return ";".join(fields) + "\r\n"

    yield one("taken", row())
    yield one("taken", row() + row())
    yield one("taken", row(), head="\ufeff" + header)
    yield one("taken", row(), head=unicodedata.normalize("NFD", header))
    yield one("taken", row(), head=header.upper())
    yield one("taken", row(), head=header.replace(";", " ; "))
    yield one("taken", row(value='"21,4"'))
    yield one("taken", row() + "\r\n\r\n")
    yield one("taken", ";".join(reversed(row().rstrip().split(";"))) + "\r\n", head=";".join(reversed(header.split(";"))))
    yield one("taken", row().replace("\r\n", "\n"))
    yield one("taken", row().rstrip() + ";x\r\n", head=header + ";Ghi chú")
    for fate, text in (
        ("partly", row() + f"{AIR};PM10\r\n"),
        ("partly", row() + row().rstrip() + ";thừa;thừa\r\n"),
        ("partly", row() + row(station="BP_ZZZZ_KHIKXQ")),
        ("partly", row() + row(parameter="Kryptonite")),
        ("partly", row() + row(unit="stone/acre")),
        ("partly", row() + row(time="31/02/2026 01:00")),
        ("partly", row() + row(time="2026-01-01 01:00")),
        ("partly", row() + row(time="01/01/26 01:00")),
        ("partly", row() + row(time="01/01/20266 01:00")),
        ("partly", row() + row(station="")),
        ("partly", row() + row(parameter="")),
    ):
        yield one(fate, text)  # type: ignore[arg-type]
    for value in ("", "---", "1_000", "21.4.1", "abc", "1e400"):
        yield one("taken", row(value=value))
    for head in ("", "a;b;c", header.replace(";", ","), header.replace("Giá trị", "Giá tri"), header + ";Giá trị", header.replace("Thời gian;", "")):
        yield one("refused", row(), head=head)
    for content in (
        b"", b"\xef\xbb\xbf", b"\r\n\r\n", b"\0\0\0", header.encode("utf-16"), (header + "\r\n" + row()).encode("utf-16-le"), header.encode("cp1258", "replace"),
        b"PK\x03\x04", b"<html>", (header + '\r\n"' + row() * 20).encode(), b"\xff" * 1000, b"a" * (2 << 20),
    ):  # fmt: skip
        yield one("refused", content)


def _dossiers() -> Iterator[Animal]:
    header = "Mã hồ sơ,Mã thủ tục,Tên thủ tục,Mã xã (cũ),Mã xã,Ngày tiếp nhận,Ngày hẹn trả,Ngày trả,Trạng thái,Hình thức,Mã thửa"
    number = iter(range(1, 300))

    def one(fate: Fate, *rows: str, head: str = header, content: bytes | None = None, nfd: bool = False) -> Animal:
        n = next(number)
        text = head + "\r\n" + "".join(r.replace("{n}", f"{n:03d}") + "\r\n" for r in rows)
        data = content if content is not None else (unicodedata.normalize("NFD", text) if nfd else text).encode()
        return Animal("dossier", f"ho_so_{2019 + n // 300}{(n - 1) // 28 % 12 + 1:02d}{(n - 1) % 28 + 1:02d}.csv".encode(), fate, _bytes(data))

    def row(
        key: str = "Z{n}-1", received: str = "01/03/2026", status: str = "Đã trả", name: str = "Cấp đổi", channel: str = "Trực tuyến", tail: str = ","
    ) -> str:
        return f"{key},DK01,{name},25195,25195,{received},09/03/2026,05/03/2026,{status},{channel}{tail}"

    yield one("taken", row())
    yield one("taken", row(), nfd=True)
    yield one("taken", row(name='"Cấp, đổi"'))
    yield one("taken", row(name='"Cấp ""đổi"""'))
    yield one("taken", row(name='"Cấp\nđổi"'))
    yield one("taken", row(), "")
    yield one("taken", row(status=" Đã trả "))
    yield one("taken", row(status="Đã  trả"))
    yield one("taken", row(status="Đã\u00a0trả"))
    yield one("taken", row(name="x" * 100_000))
    yield one("taken", row(name="=HYPERLINK(x)"))
    yield one("taken", row(name="'; DROP TABLE lake.clean.dossier; --"))
    yield one("taken", *(row(key=f"Z{{n}}-{i}") for i in range(500)))
    for received in (
        "31/02/2026",
        "2026-03-01",
        "03/24/2026",
        "01/03/26",
        "01/03/20266",
        "00/01/1900",
        "1.3.2026",
        "44986",
        "",
        "01/03/1026",
        "01/13/2026",
    ):
        yield one("refused", row(received=received))
    for status in ("Đang", "x", "Da tra", "ĐÃ TRẢ!"):
        yield one("refused", row(status=status))
    yield one("refused", row(key=""))
    yield one("refused", row(tail=""))
    yield one("refused", row(tail=",,,"))
    yield one("refused", row(name='"Cấp'), row(key="Z{n}-2"))
    yield one("taken", row(name='Cấp "đổi" "x'), row(key="Z{n}-2"), row(key="Z{n}-3", name='đổi"'))
    yield one("refused", row(name='"Cấp" đổi'), row(key="Z{n}-2"))
    for head in (header.replace(",", ";"), header.replace("Mã hồ sơ", "Ma ho so"), "", header.replace("Ngày trả,", "")):
        yield one("refused", row(), head=head)
    for content in (b"", b"\0", header.encode() + b"\r\n\xff\xfe\r\n", (header + "\r\n" + row()).encode("utf-16"), header.encode("cp1258", "replace") + b"\r\nx", b"PK\x03\x04zz",
                    (header + "\r\n" + row()).encode()[:-9] + b'"'):  # fmt: skip
        yield one("refused", content=content)
    for name in (
        "ho_so.csv",
        "ho_so_2026.csv",
        "ho_so_20261341.csv",
        "HO_SO_20260101.csv",
        "ho_so_20260101.CSV",
        "ho_so_20260101.xlsx",
        "hồ sơ.csv",
        "x" * 200 + ".csv",
    ):
        yield Animal("dossier", name.encode(), "refused", _bytes((header + "\r\n" + row(key=f"N-{name[:20]}") + "\r\n").encode()))


def _book(build: Callable[[Any, Any], None], sheet: str = "Bảng giá", **options: Any) -> bytes:
    """A workbook whose first sheet is filled by `build(book, page)`."""
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True, **options})
    book.set_properties({"created": datetime(2026, 1, 1)})
    build(book, book.add_worksheet(sheet))
    book.close()
    return out.getvalue()


PRICE = ["Mã giá", "Mã xã", "Đường/khu vực", "Loại đất", "Vị trí", "Giá (nghìn đồng/m2)", "Từ ngày", "Đến ngày"]


def _workbooks() -> Iterator[Animal]:
    number = iter(range(1, 300))

    def one(fate: Fate, content: bytes) -> Animal:
        n = next(number)
        return Animal(
            "land_price", f"bang_gia_dat_{2015 + n // 336}{(n - 1) // 28 % 12 + 1:02d}{(n - 1) % 28 + 1:02d}.xlsx".encode(), fate, _bytes(content)
        )

    def price(
        *rows: list[Any], head: list[str] = PRICE, sheet: str = "Bảng giá", after: Callable[[Any, Any], None] | None = None, **options: Any
    ) -> bytes:
        def build(book: Any, page: Any) -> None:
            page.write_row(0, 0, head)
            for at, cells in enumerate(rows, 1):
                page.write_row(at, 0, ["" if c is None else c for c in cells])
            if after:
                after(book, page)

        return _book(build, sheet, **options)

    good = ["Z1", "25195", "x", "ONT", 1, 900, None, None]

    def change(**cells: Any) -> list[Any]:
        names = ("id", "commune", "street", "use", "position", "price", "since", "until")
        return [cells.get(n, v) for n, v in zip(names, good, strict=True)]

    yield one("taken", price(good))
    yield one("taken", price(change(price="900")))
    yield one("taken", price(change(price=900.5)))
    yield one("taken", price(good, [None] * 8, change(id="Z2")))
    yield one("taken", price(good, head=[h.upper() for h in PRICE]))
    yield one("taken", price(good, head=[unicodedata.normalize("NFD", h) for h in PRICE]))
    yield one("taken", price([*good, "thừa"], head=[*PRICE, "Ghi chú"]))
    yield one("taken", price(change(street="x" * 30_000)))
    yield one("taken", price(good, after=lambda b, p: b.add_worksheet("Trang khác").write(0, 0, "x")))
    yield one("taken", price(good, after=lambda b, p: p.write_comment(0, 0, "ghi chú")))
    yield one("taken", price(good, after=lambda b, p: p.freeze_panes(1, 0)))
    yield one("taken", price(*(change(id=f"Z{i}") for i in range(300))))
    for price_cell in (-5, 0, "abc", "", "1_000", "9 nghìn", True, "1e400", 1e300, "１０", "=1+1", "12.345.678,9,1"):
        yield one("refused", price(change(price=price_cell)))
    for position in ("một", 1.5, "1_0", 1e12):
        yield one("refused", price(change(position=position)))
    yield one("refused", price(change(id=None)))
    yield one("refused", price(good, good))
    yield one("refused", price(good, sheet="Sheet1"))
    yield one("refused", price(good, head=PRICE[:-3]))
    yield one("refused", price(good, head=[*PRICE, "Mã giá"]))
    yield one("refused", _book(lambda b, p: None))
    yield one("refused", price(good, after=lambda b, p: p.write_formula(1, 5, "=1/0", None, "#DIV/0!")))
    yield one("refused", price(good, after=lambda b, p: p.write(1_048_575, 16_383, "x")))
    yield one("refused", price(good, after=lambda b, p: p.write(1_048_575, 0, "x")))
    whole = price(good)
    for content in (b"", b"x", whole[:100], whole[: len(whole) // 2], whole[:-30], b"\0" * 4096, _xls(), _zip({"a.txt": b"x"}), _zip({}), _bomb(),
                    _zip({"xl/workbook.xml": b"<"}), _renamed(whole, "xl/worksheets/sheet1.xml"), _html()):  # fmt: skip
        yield one("refused", content)
    for name in (
        "bang_gia_dat_2026.xlsx",
        "bảng giá.xlsx",
        "bang_gia_dat_20261399.xlsx",
        "bang_gia_dat_20260101.xls",
        "bang_gia_dat_20260101.csv",
    ):
        yield Animal("land_price", name.encode(), "refused", _bytes(whole))


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _renamed(book: bytes, without: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        return _zip({n: archive.read(n) for n in archive.namelist() if n != without})


def _bomb() -> bytes:
    """A workbook whose only sheet is 300 MB of blanks."""
    with zipfile.ZipFile(io.BytesIO(_book(lambda b, p: p.write(0, 0, "x")))) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members["xl/worksheets/sheet1.xml"] = members["xl/worksheets/sheet1.xml"].replace(b"<sheetData>", b"<sheetData>" + b" " * (300 << 20))
    return _zip(members)


def _xls() -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 1000


def _html() -> bytes:
    return "<html><table><tr><td>Mã giá</td></tr></table></html>".encode()


MAP = {
    "MATHUADAT": ["25195.1.1"], "MAXA": ["25195"], "SOHIEUTOBANDO": [1], "SOTHUTUTHUA": [1], "MALOAIDAT": ["ONT"], "DIENTICH": [100.0],
    "DIENTICHPHAPLY": [100.0], "DIACHITHUADAT": ["x"], "NGAYDODAC": ["01/01/2024"], "TRANGTHAI": ["x"],
}  # fmt: skip


def _maps() -> Iterator[Animal]:
    number = iter(range(1, 300))

    def one(fate: Fate, put: Callable[[Path], None], suffix: str = ".gpkg") -> Animal:
        n = next(number)
        return Animal("parcel", f"thua_dat_688_{2016 + n // 336}{(n - 1) // 28 % 12 + 1:02d}{(n - 1) % 28 + 1:02d}{suffix}".encode(), fate, put)

    def map_of(shapes: list[Any], crs: str = "EPSG:9212", layer: str = "DC_THUADAT", **columns: list[Any]) -> Callable[[Path], None]:
        def put(path: Path) -> None:
            n = len(shapes)
            values = (
                {k: [*v] * n for k, v in MAP.items()} | {"MATHUADAT": [f"25195.1.{i}" for i in range(n)], "SOTHUTUTHUA": list(range(n))} | columns
            )
            write_vector(path, layer, values, shapes, crs=crs)

        return put

    def box(x: float = 560_000, y: float = 1_270_000, size: float = 10) -> Any:
        return shapely.box(x, y, x + size, y + size)

    yield one("taken", map_of([box()]))
    yield one("taken", map_of([box(), box(560_100)]))
    yield one("taken", map_of([shapely.multipolygons([box(), box(560_100)])]))
    yield one("taken", map_of([box(size=0.5)]))
    yield one("taken", map_of([shapely.Polygon(box().exterior, [shapely.box(560_002, 1_270_002, 560_004, 1_270_004).exterior])]))
    yield one("refused", map_of([box(106.9, 11.5, 0.001)]))
    yield one("refused", map_of([box(1e9, 1e9)]))
    yield one("refused", map_of([box(1_270_000, 560_000)]))
    yield one("refused", map_of([box()], crs="EPSG:4326"))
    yield one("refused", map_of([box()], crs="EPSG:3405"))
    yield one("refused", map_of([box()], layer="LOP_KHAC"))
    yield one("refused", map_of([box()], MALOAIDAT=["XYZ"]))
    yield one("refused", map_of([box()], NGAYDODAC=["31/02/2024"]))
    yield one("refused", map_of([box()], MATHUADAT=[""]))
    for content in (b"", b"SQLite format 3\0", b"SQLite format 3\0" + b"\0" * 8192, b"x" * 5000, _zip({"a.shp": b"x"}), b"%PDF-1.7"):
        yield one("refused", _bytes(content))

    def cut(path: Path) -> None:
        map_of([box()])(path)
        path.write_bytes(path.read_bytes()[:-40_000])

    yield one("refused", cut)
    for name, members in {
        "thua_dat_690_20200101.shp.zip": {},
        "thua_dat_690_20200102.shp.zip": {"a.shp": b"x", "a.dbf": b"x", "a.shx": b"x"},
        "thua_dat_690_20200103.shp.zip": {"../../a.shp": b"x"},
        "thua_dat_690_20200104.shp.zip": {"/etc/a.shp": b"x"},
        "thua_dat_690_20200105.shp.zip": {"a.txt": b"x" * 10},
        "thua_dat_690_20200106.shp.zip": {"a.zip": b"PK"},
    }.items():
        yield Animal("parcel", name.encode(), "refused", _bytes(_zip(members)))
    yield Animal("parcel", b"thua_dat_690_20200107.shp.zip", "refused", _bytes(b"not a zip"))
    yield Animal("parcel", b"thua_dat_690.shp", "refused", _bytes(b"x"))
    yield Animal("parcel", b"thua_dat_695_20200101.gdb.zip", "refused", _bytes(_zip({"a.gdb/a00000001.gdbtable": b"x"})))
    yield Animal("parcel", b"thua_dat_695_20200102.gdb.zip", "refused", _bytes(b"PK\x03\x04"))


def _scans() -> Iterator[Animal]:
    """Scans stay where they are; each is one row, sound or damaged."""

    def image(form: str, **options: Any) -> bytes:
        out = io.BytesIO()
        Image.new("L", (64, 64), 200).save(out, form, **options)
        return out.getvalue()

    def pdf(pages: int = 1) -> bytes:
        document, out = pikepdf.new(), io.BytesIO()
        for _ in range(pages):
            document.add_blank_page(page_size=(595, 842))
        document.save(out, deterministic_id=True)
        return out.getvalue()

    tiff = image("TIFF", dpi=(300, 300))
    contents = {
        "a.pdf": pdf(), "b.pdf": pdf(3), "dem.pdf": pdf() + b"\0" * 2048, "dau.pdf": b"\r\n" * 8 + pdf(), "cut.pdf": pdf()[:-200], "rong.pdf": b"", "html.pdf": b"<html>",
        "a.png": image("PNG"), "sau.png": image("PNG") + b"x" * 50, "cut.png": image("PNG")[:-20], "a.jpg": image("JPEG"), "sau.jpg": image("JPEG") + b"\0" * 90,
        "cut.jpg": image("JPEG")[:-20], "a.tif": tiff, "cut.tif": tiff[: len(tiff) // 2], "vong.tif": tiff[:4] + struct.pack("<I", 4) + tiff[8:],
        "rac.tiff": b"II*\0" + b"\xff" * 64, "doi.jpeg": image("PNG"), "x.PDF": pdf(), "có dấu.pdf": pdf(), "nháy'.pdf": pdf(), "0.jpg": b"\xff\xd8\xff\xd9",
        "to.png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + b"\x08\0\0\0\0" + b"\0" * 4,
    }  # fmt: skip
    for name, content in contents.items():
        yield Animal("scan_file", f"kho/{name}".encode(), "taken", _bytes(content))


def _folders() -> Iterator[Animal]:
    def link(path: Path) -> None:
        path.symlink_to("/etc/hostname")

    def unfinished(path: Path) -> None:
        path.mkdir()
        (path / "x.txt.part").write_bytes(b"x")

    yield Animal("station_txt", b"lien_ket.txt", "left", link)
    yield Animal("station_txt", b"ong.txt", "left", os.mkfifo)
    yield Animal("station_txt", b"thu_muc.txt", "removed", lambda path: path.mkdir())
    yield Animal("station_txt", b"thu_muc_dang_chep.txt", "left", unfinished)
    yield Animal("land_price", b"~$bang_gia_dat_20260101.xlsx", "left", _bytes(b"khoa cua Excel"))
    yield Animal("nguon_khong_ai_nhan", b"x.txt", "left", _bytes(b"x"))
