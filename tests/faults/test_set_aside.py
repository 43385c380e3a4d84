"""A delivery that ends or fails its reader is an outcome of that delivery: named, kept, released by a retry; the others go on."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import shapely
from typer.testing import CliRunner

from cli.main import _told as command_told
from cli.main import app
from ingestion import ingest as ingesting
from ingestion import load as loading
from ingestion.ingest import contracts_of, ingest, told
from ingestion.model import Delivery, reader_died
from ingestion.readers import apart, station_txt
from ingestion.requeue import requeue
from lake.lake import create, open_reader, open_writer
from simulator.files import write_csv, write_vector, write_xlsx
from tests.unit.test_readers_scan import pdf, picture
from tnmt.settings import Settings, settings

NOW = datetime(2026, 3, 25, 12)
FACILITY = ["Mã cơ sở", "Tên cơ sở"]
DOSSIER = [
    "Mã hồ sơ",
    "Mã thủ tục",
    "Tên thủ tục",
    "Mã xã (cũ)",
    "Mã xã",
    "Ngày tiếp nhận",
    "Ngày hẹn trả",
    "Ngày trả",
    "Trạng thái",
    "Hình thức",
    "Mã thửa",
]
ONE = ["D1", "DK01", "x", "25195", "25195", "01/03/2026", "09/03/2026", None, "Đang xử lý", "Trực tuyến", None]

# what a broken native library does to its process: it stands in the way of the real one for files that ask for it
POISON = """
import os, sys
if "ingestion.readers.child" in " ".join(sys.orig_argv):
    import pikepdf, python_calamine
    whole = python_calamine.CalamineWorkbook
    class Workbook:
        @staticmethod
        def from_filelike(file):
            if b"poison" in file.read():
                os.abort()
            file.seek(0)
            return whole.from_filelike(file)
    python_calamine.CalamineWorkbook = Workbook
    opens = pikepdf.open
    def open_pdf(file, **options):
        data = file.getvalue()
        if b"poison" in data:
            os.kill(os.getpid(), 11)
        if b"our-fault" in data:
            return None
        return opens(file, **options)
    pikepdf.open = open_pdf
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """One lake for all: each test has sources of its own."""
    home = tmp_path_factory.mktemp("aside")
    (home / "site").mkdir()
    (home / "site" / "sitecustomize.py").write_text(POISON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(home / "site"))
        patch.setenv("TNMT_HOME", str(home / "home"))
        s = settings()
        create(s)
        apart.close()
        yield s
        apart.close()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    apart.close()


def workbook(lake: Settings, day: str, code: str, *, poison: bool = False) -> None:
    path = lake.inbox / "facility_register" / f"co_so_202603{day}.xlsx"
    header = [c.header[0] for c in contracts_of(lake)["facility_register"].columns.values()]
    write_xlsx(path, "Cơ sở", header, [[code, "Tên", *[None] * (len(header) - 2)]])
    if poison:
        with path.open("ab") as file:
            file.write(b"poison")


def asked(lake: Settings, statement: str) -> list[tuple[Any, ...]]:
    with open_reader(lake) as con:
        return con.execute(statement).fetchall()


def test_a_workbook_that_aborts_its_reader(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    workbook(lake, "01", "A")
    ingest(lake, now=NOW, run_id="one", only=["facility_register"])
    workbook(lake, "02", "B", poison=True)
    write_csv(lake.inbox / "dossier" / "ho_so_20260302.csv", DOSSIER, [ONE])
    ran = ingest(lake, now=NOW, run_id="two", only=["facility_register", "dossier"])
    assert not ran.errors
    assert (ran.loaded["facility_register"].set_aside, ran.loaded["dossier"].rows_accepted) == (1, 1)
    name, reason = asked(lake, "SELECT name, reason FROM lake.ops.delivery WHERE status = 'set_aside'")[0]
    assert name == "co_so_20260302.xlsx"
    assert all(word in reason for word in ("SIGABRT", "cần:", "gặp:", "cách xử lý:", "tnmt quarantine retry facility_register"))
    assert asked(lake, "SELECT facility_id FROM lake.clean.facility") == [("A",)], "what was published before stays"
    told = CliRunner().invoke(app, ["status"])
    assert "co_so_20260302.xlsx" in told.output and "tnmt quarantine retry facility_register" in told.output
    assert not ingest(lake, now=NOW, run_id="three", only=["facility_register"]).changed, "it is not tried for ever"
    assert not list((lake.home / "tmp").glob("read-*/rows*")), "nothing is left behind"
    monkeypatch.delenv("PYTHONPATH")  # the library is mended
    apart.close()
    with open_writer(lake, "test") as con:
        assert requeue(con, "facility_register") == 1
    ingest(lake, now=NOW, run_id="four")
    assert asked(lake, "SELECT facility_id FROM lake.clean.facility") == [("B",)]
    assert not asked(lake, "SELECT 1 FROM lake.ops.delivery WHERE status = 'set_aside' AND source = 'facility_register'")


def test_a_reader_whose_folder_was_cleared_away_is_started_anew(lake: Settings) -> None:
    """An idle reader has nothing to write for days; whatever removes its folder meanwhile costs no delivery."""
    apart.close()  # one that has read much retires: here it is a new one
    for day, code in (("21", "X"), ("22", "Y")):
        workbook(lake, day, code)
        ran = ingest(lake, now=NOW, run_id=f"cleared {day}", only=["facility_register"])
        assert (ran.errors, ran.loaded["facility_register"].set_aside, ran.loaded["facility_register"].published) == ({}, 0, 1)
        shutil.rmtree(apart._idle[0].scratch)


def test_a_large_delivery_is_asked_for_alone_wherever_its_bytes_lie() -> None:
    def one(number: int, size: int) -> Delivery:
        return Delivery(str(number), "s", f"{number}.gpkg", "", size, NOW, NOW, NOW.date(), path=Path(f"{number}.gpkg"))

    sizes = [1, 2, apart._BATCH_BYTES, 3, apart._BATCH_BYTES + 1, apart._BATCH_BYTES + 1]
    parts = apart._parts([one(number, size) for number, size in enumerate(sizes)])
    assert [[d.bytes for d in part] for part in parts] == [[1, 2], sizes[2:3], [3], sizes[4:5], sizes[5:6]]


def test_a_scan_that_crashes_its_reader_among_many(lake: Settings) -> None:
    folder = lake.inbox / "scan_file"
    folder.mkdir(parents=True)
    good, small = pdf(1), picture("PNG")
    for number in range(300):
        (folder / f"s{number:03}.png").write_bytes(small + bytes([number % 256]))
    for number in (40, 299):
        (folder / f"s{number:03}.pdf").write_bytes(good + b"poison")
    (folder / "s100.pdf").write_bytes(good + b"our-fault")
    (folder / "s200.pdf").write_bytes(good)
    ran = ingest(lake, now=NOW, run_id="one", only=["scan_file"])
    assert (ran.loaded["scan_file"].set_aside, ran.loaded["scan_file"].rows_accepted) == (3, 301)
    aside = asked(lake, "SELECT name, reason FROM lake.ops.delivery WHERE status = 'set_aside' AND source = 'scan_file' ORDER BY name")
    assert [n for n, _ in aside] == ["s040.pdf", "s100.pdf", "s299.pdf"]
    assert ["SIGSEGV" in r for _, r in aside] == [True, False, True]
    assert "TypeError (scan.py:" in aside[1][1] and "không phải lỗi của đơn vị gửi" in aside[1][1]


def test_limits_of_memory_and_time(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "1")  # as many set it: a library that has no memory left to print it hung until the clock ran out
    began = time.monotonic()
    header = [c.header[0] for c in contracts_of(lake)["land_owner"].columns.values()]
    rows = [[f"C{n}", "x" * 400, *[None] * (len(header) - 2)] for n in range(20_000)]
    write_xlsx(lake.inbox / "land_owner" / "chu_su_dung_20260303.xlsx", _sheet(lake, "land_owner"), header, rows)
    reasons = []
    for limits in ({"reader_memory": "20MB"}, {"reader_seconds": 0.0}):
        ran = ingest(lake.model_copy(update=limits), now=NOW, run_id="limits", only=["land_owner"])
        assert (ran.errors, ran.loaded["land_owner"].set_aside) == ({}, 1)
        reasons += asked(lake, "SELECT reason FROM lake.ops.delivery WHERE status = 'set_aside' AND source = 'land_owner'")
        with open_writer(lake, "test") as con:
            assert requeue(con, "land_owner") == 1
    assert "20MB" in reasons[0][0] and "quá thời gian" in reasons[1][0]
    assert not ingest(lake, now=NOW, run_id="free", only=["land_owner"]).loaded["land_owner"].set_aside
    assert time.monotonic() - began < lake.reader_seconds, "a reader without memory ended by itself"


def _sheet(lake: Settings, source: str) -> str:
    return contracts_of(lake)[source].format.sheet or "Sheet1"


def test_a_station_file_that_fails_its_reader_alone(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lake.inbox / "station_txt"
    folder.mkdir(parents=True, exist_ok=True)
    for minute in range(40):
        (folder / f"BP_AAAA_KHIKXQ_2026032510{minute:02}00.txt").write_text(f"PM2.5\t{minute}\tug/m3\t2026032510{minute:02}00\t00\n")
    whole: Callable[..., Any] = station_txt.read

    def read(con: Any, contract: Any, deliveries: Any, into: str) -> Any:
        if any(d.read_bytes().startswith(b"PM2.5\t17\t") for d in deliveries):
            raise KeyError("17")
        return whole(con, contract, deliveries, into)

    monkeypatch.setattr(station_txt, "read", read)
    ran = ingest(lake, now=NOW, run_id="one", only=["station_txt"])
    loaded = ran.loaded["station_txt"]
    assert (ran.errors, loaded.set_aside, loaded.deliveries, loaded.rows_read) == ({}, 1, 40, 39)
    monkeypatch.setattr(station_txt, "read", whole)
    with open_writer(lake, "test") as con:
        assert (
            requeue(
                con,
                "station_txt",
                delivery_id=asked(lake, "SELECT delivery_id FROM lake.ops.delivery WHERE status = 'set_aside' AND source = 'station_txt'")[0][0],
            )
            == 1
        )
    assert ingest(lake, now=NOW, run_id="two", only=["station_txt"]).loaded["station_txt"].rows_read == 1


def test_what_was_set_aside_is_not_read_again_where_its_batch_fails(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file ends its reader, another fails the batch that is left: each is set aside once, however often the batch is halved."""
    folder = lake.inbox / "station_txt"
    folder.mkdir(parents=True, exist_ok=True)
    for minute in range(16):
        (folder / f"BP_BBBB_KHIKXQ_2026032512{minute:02}00.txt").write_text(f"PM2.5\t{minute}\tug/m3\t2026032512{minute:02}00\t00\n")
    reads, casts = loading.apart.read, loading.cast

    def read(con: Any, s: Any, contract: Any, deliveries: Any, into: str) -> Any:
        died = {d.delivery_id: reader_died("station_txt", "1 s", "SIGSEGV") for d in deliveries if "BBBB_KHIKXQ_202603251203" in d.name}
        return reads(con, s, contract, [d for d in deliveries if d.delivery_id not in died], into) | died

    def cast(con: Any, *rest: Any) -> None:
        if con.execute("SELECT 1 FROM batch_deliveries WHERE contains(name, 'BBBB_KHIKXQ_202603251201')").fetchall():
            raise KeyError("x")
        casts(con, *rest)

    monkeypatch.setattr(loading.apart, "read", read)
    monkeypatch.setattr(loading, "cast", cast)
    loaded = ingest(lake, now=NOW, run_id="halves", only=["station_txt"]).loaded["station_txt"]
    assert (loaded.set_aside, loaded.deliveries, loaded.rows_read) == (2, 16, 14)
    said = asked(lake, "SELECT delivery_id, count(*) FROM lake.ops.outcome WHERE run_id = 'halves' GROUP BY ALL")
    assert len(said) == 16 and {n for _, n in said} == {1}
    assert asked(lake, "SELECT sum(deliveries) FROM lake.ops.gate_result WHERE run_id = 'halves'") == [(16,)]
    monkeypatch.undo()
    with open_writer(lake, "test") as con:
        requeue(con, "station_txt", day=NOW.date(), all_of_day=True)  # of the tests before this one too
    before = asked(lake, "SELECT count(*) FROM lake.ops.landed WHERE source = 'station_txt'")[0][0]
    loaded = ingest(lake, now=NOW, run_id="whole", only=["station_txt"]).loaded["station_txt"]
    assert (loaded.set_aside, loaded.rows_read) == (0, before)


def test_an_error_that_may_quote_a_value_is_told_by_its_type_and_place() -> None:
    found: list[Exception] = []
    for sql in ("SELECT CAST('Nguyễn Văn A' AS INTEGER)", "SELECT strptime('Nguyễn Văn A', '%Y')", "SELECT error('Nguyễn Văn A')"):
        with pytest.raises(duckdb.Error) as caught:
            duckdb.sql(sql).fetchall()
        found.append(caught.value)
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t (n VARCHAR PRIMARY KEY)")
        with pytest.raises(duckdb.Error) as caught:
            con.execute("INSERT INTO t VALUES ('Nguyễn Văn A'), ('Nguyễn Văn A')")
        found.append(caught.value)
    for error in found:
        assert "Nguyễn" in str(error)
        for text in (told(error), command_told(error)):
            assert text is not None and "Nguyễn" not in text and type(error).__name__ in text
    with pytest.raises(duckdb.IOException) as caught:
        duckdb.sql("FROM read_parquet('/no/such/file.parquet')")
    assert "/no/such/file" in told(caught.value)


def test_where_everything_fails_the_source_stops_and_the_others_go_on(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lake.inbox / "station_txt"
    folder.mkdir(parents=True, exist_ok=True)
    for minute in range(30):
        (folder / f"BP_AAAA_KHIKXQ_2026032511{minute:02}00.txt").write_text(f"PM2.5\t{minute}\tug/m3\t2026032510{minute:02}00\t00\n")
    write_csv(lake.inbox / "dossier" / "ho_so_20260303.csv", DOSSIER, [ONE])

    def fails(*_: Any) -> Any:
        raise KeyError("nguyen van a")

    monkeypatch.setattr(station_txt, "read", fails)
    ran = ingest(lake, now=NOW, run_id="one", only=["station_txt", "dossier"])
    assert ran.loaded["dossier"].deliveries == 1
    assert "KeyError at test_set_aside.py" in ran.errors["station_txt"] and "nguyen" not in ran.errors["station_txt"]
    assert asked(lake, "SELECT count(*) FROM lake.ops.delivery WHERE status = 'set_aside' AND source = 'station_txt'") == [(loading.MOST_SET_ASIDE,)]


def test_an_error_of_one_source_that_nobody_foresaw(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(lake.inbox / "dossier" / "ho_so_20260304.csv", DOSSIER, [ONE])
    whole: Callable[..., Any] = ingesting.record

    def record(con: Any, s: Any, contract: Any, *rest: Any, **more: Any) -> Any:
        if contract.source == "land_price":
            raise UnicodeError("x")
        return whole(con, s, contract, *rest, **more)

    monkeypatch.setattr(ingesting, "record", record)
    ran = ingest(lake, now=NOW, run_id="one", only=["land_price", "dossier"])
    assert list(ran.errors) == ["land_price"] and ran.loaded["dossier"].deliveries == 1


def test_names_that_are_no_utf8(lake: Settings) -> None:
    folder = lake.inbox / "scan_file" / os.fsdecode(b"t\xe2n")
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"gi\xe2y.png")).write_bytes(picture("PNG"))
    (folder / os.fsdecode(b"gi\xe3y.png")).write_bytes(picture("PNG") + b"\0")
    csv = lake.inbox / "dossier" / os.fsdecode(b"h\xf4_so.csv")
    write_csv(csv, DOSSIER, [ONE])
    ran = ingest(lake, now=NOW, run_id="one", only=["scan_file", "dossier"])
    assert not ran.errors and ran.loaded["scan_file"].rows_accepted == 2
    assert asked(lake, "SELECT file_name FROM lake.clean.scan_file WHERE file_name LIKE '%gi%' ORDER BY 1") == [
        ("t\ufffde2n/gi\ufffde2y.png",),
        ("t\ufffde2n/gi\ufffde3y.png",),
    ]
    assert "h\ufffdf4_so.csv" in asked(lake, "SELECT reason FROM lake.ops.delivery WHERE source = 'dossier' AND status = 'blocked'")[0][0]
    assert not csv.exists()


def test_a_geopackage_with_its_log_beside_it(lake: Settings) -> None:
    """Both lie in the inbox: neither is taken, the words say what to do, and the file alone, sent again, is read."""
    columns = {"MATHUADAT": ["a"], "MAXA": ["25216"], "SOHIEUTOBANDO": [1], "SOTHUTUTHUA": [1], "MALOAIDAT": ["ONT"], "DIENTICH": [1.0],
               "DIENTICHPHAPLY": [1.0], "DIACHITHUADAT": ["x"], "NGAYDODAC": ["01/01/2024"], "TRANGTHAI": ["x"]}  # fmt: skip
    path = lake.inbox / "parcel" / "thua_dat_688_20260201.gpkg"
    write_vector(path, "DC_THUADAT", columns, [shapely.box(560_000, 1_270_000, 560_010, 1_270_010)])
    Path(f"{path}-journal").write_bytes(b"what was there before")
    whole = path.read_bytes()
    assert ingest(lake, now=NOW, run_id="one", only=["parcel"]).loaded["parcel"].blocked == 2
    reasons = [r for (r,) in asked(lake, "SELECT reason FROM lake.ops.delivery WHERE source = 'parcel'")]
    assert all("QGIS" in r and "thua_dat_688_20260201.gpkg-journal" in r for r in reasons)
    path.write_bytes(whole)
    with open_writer(lake, "test") as con:
        requeue(con, "parcel")
    later = path.with_name("thua_dat_688_20260202.gpkg")
    path.rename(later)
    assert ingest(lake, now=NOW.replace(hour=13), run_id="two", only=["parcel"]).loaded["parcel"].published == 1
