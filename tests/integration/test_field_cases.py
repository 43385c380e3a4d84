"""What really happened to people who do this job: each case with an input made here and the value that is right.

All files of large sources are taken in by one run, as a delivery each; what became of it is in the ledger, and its bad rows in quarantine.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import xlsxwriter
import yaml

from ingestion.cast import cast
from ingestion.contract import CONTRACTS, load_contract
from ingestion.ingest import ingest
from ingestion.readers import tabular
from lake.lake import open_reader, open_writer
from tests.conftest import own_platform
from tests.marts_kit import seed_rows
from tests.readers_kit import delivery
from tnmt.settings import Settings

NOW = datetime(2026, 11, 28, 12)
DOSSIER = "Mã hồ sơ,Mã thủ tục,Tên thủ tục,Mã xã (cũ),Mã xã,Ngày tiếp nhận,Ngày hẹn trả,Ngày trả,Trạng thái,Hình thức,Mã thửa"
FACILITY = ["Mã cơ sở", "Tên cơ sở", "Mã xã (cũ)", "Công suất thiết kế (m3/ngày)", "Ngày GPMT"]
STATION = "BP_AAAA_KHIKXQ"
OWN = {"title": "Nguồn thử", "owner": {"unit": "?"}, "terms": "?", "load": "upsert", "files": {"small": True}}


def _facility_headers() -> list[str]:
    columns = load_contract(CONTRACTS / "environment/facility_register.yaml").columns.values()
    return [*FACILITY, *(c.header[0] for c in columns if c.header[0] not in FACILITY)]


def _workbook(path: Path, sheet: str, rows: Sequence[Sequence[Any]], more: Callable[[Any, Any], None] | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    book = xlsxwriter.Workbook(path, options)
    page = book.add_worksheet(sheet)
    day = book.add_format({"num_format": "dd/mm/yyyy"})
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            if isinstance(cell, date):
                page.write_datetime(number, column, datetime.combine(cell, datetime.min.time()), day)
            elif cell is not None:
                page.write(number, column, cell)
    if more:
        more(book, page)
    book.close()


def _facilities(path: Path, capacities: Sequence[Any], more: Callable[[Any, Any], None] | None = None, **options: Any) -> None:
    rows = [[f"CS{n}", f"Cơ sở {n}", "25195", capacity, date(2024, 5, n)] for n, capacity in enumerate(capacities, 1)]
    _workbook(path, "Cơ sở", [_facility_headers(), *rows], more, **options)


def _patch(path: Path, *changes: tuple[str, str]) -> None:
    """The same archive with texts in its XML exchanged."""
    with zipfile.ZipFile(path) as old:
        parts = {n: old.read(n) for n in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in parts.items():
            new.writestr(name, functools.reduce(lambda text, change: text.replace(*(t.encode() for t in change)), changes, data))


def _never_computed(book: Any, page: Any) -> None:
    page.write_formula(2, 3, "=20*24")
    for column, text in enumerate(("CS3", "Cơ sở 3", "25195")):
        page.write_formula(3, column, f'="{text}"')


def _own(lake: Settings, source: str, **contract: Any) -> None:
    (lake.home / "contracts" / f"{source}.yaml").write_text(
        yaml.safe_dump({**OWN, "target": source, **contract}, allow_unicode=True), encoding="utf-8"
    )


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _deliver(inbox: Path) -> None:
    facilities = inbox / "facility_register"
    _facilities(facilities / "co_so_20261101.xlsx", [100, 200, 300], lambda book, page: page.write(1_048_575, 0, "x"))  # 01a
    _facilities(facilities / "co_so_20261107.xlsx", [100], _never_computed)  # 07
    _patch(facilities / "co_so_20261107.xlsx", ("</f><v>0</v>", "</f><v></v>"))
    _facilities(
        facilities / "co_so_20261108.xlsx", [100], lambda book, page: page.write_formula(1, 3, "=20*24", None, 480)
    )  # 07, a value of no program
    _facilities(facilities / "co_so_20261126.xlsx", [None] * 3, lambda book, page: page.merge_range(1, 3, 3, 3, 900))  # 26
    _facilities(facilities / "co_so_20261127.xlsx", [100, 2.345])  # 27, and a number cell with three decimals
    main, relations = (
        "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    )
    strict = "http://purl.oclc.org/ooxml/"
    _patch(facilities / "co_so_20261127.xlsx", (main, strict + "spreadsheetml/main"), (relations, strict + "officeDocument/relationships"))
    indicator = ["Mã chỉ tiêu", "Tên chỉ tiêu", "Đơn vị tính", "Kỳ", "Ngày cuối kỳ", "Mục tiêu", "Thực hiện", "Đơn vị báo cáo", "Ghi chú"]
    rows = [["R901", "x", "%", "Q3", date(2026, 9, 30), 90, None, "VP", None], ["R902", "x", "%", "Q3", date(2026, 9, 30), 90, 91, "VP", None]]
    _workbook(inbox / "programme_indicator" / "chi_tieu_20261128.xlsx", "Chỉ tiêu", [indicator, *rows],
              lambda book, page: page.write(1, 6, 0.92, book.add_format({"num_format": "0%"})))  # fmt: skip  # 08
    lab = ["Mã mẫu", "Mã trạm", "Lúc lấy mẫu", "Thông số", "Kết quả", "Đơn vị", "Giới hạn phát hiện", "Phương pháp", "Phòng thí nghiệm", "Số phiếu"]
    results = [
        ("Coliform", "4,600", "MPN/100mL"), ("Coliform", "11,000", "MPN/100 mL"), ("BOD5", "12.5", "mg/L"), ("P-PO4", 2.345, "mg/l"),
        ("BOD5", 7.125, "mg/L"), ("E. coli", ">2419", "MPN/100mL"), ("NH4", ".21", "Mg/L"), ("As", "<0,05", "µg/L"), ("Chì", "KPH", "mg/L"),
        ("Temp", "-0.5", "°C"), ("Cd", "1.140", "mg/L"), ("Krypton", "1", "mg/L"), ("Cu", "1", "mmol/L"), ("TSS", "vết", "mg/L"),
        ("COD", "-5", "mg/L"), ("NH4+", "0.3", "mg/L"),
    ]  # fmt: skip
    sheet = [[f"M{n}", STATION, "20/11/2026 09:00", p, r, u, 0.01, "", "", ""] for n, (p, r, u) in enumerate(results)]
    _workbook(inbox / "lab_result" / "phieu.xlsx", "Kết quả", [lab, *sheet, ["M99", "BP_LA", *sheet[2][2:]]])  # 09
    _text(inbox / "do_luu_luong" / "thang11.csv", "Điểm;Ngày;Lưu lượng\nD1;01/11/2026;1.250,5\nD1;02/11/2026;0.673\nD1;03/11/2026;12.5\n"
          "D1;04/11/2026;1.2.3\nD1;05/11/2026;12.345.678\nD1;06/11/2026;1_000\n")  # fmt: skip  # 10a
    price = ["Mã giá", "Mã xã", "Đường/khu vực", "Loại đất", "Vị trí", "Giá (nghìn đồng/m2)", "Từ ngày", "Đến ngày"]
    prices = [["G1", "25195", "x", "ONT", 1, 1250, None, None], ["G2", "25195", "x", "ONT", 1, "1.250", None, None]]
    _workbook(inbox / "land_price" / "bang_gia_dat_20261129.xlsx", "Bảng giá", [price, *prices])  # 10b
    scan = "Mã hồ sơ quét,Mã GCN,Mã xã,Loại thành phần,Tên tệp,Đã ký số,Vị trí lưu trữ\n"
    shelves = ["Kho 2 kệ 4", '"Kho 2 kệ 5', "Kho 2 kệ 5", '"Kho 2 kệ 6', "Kho 2 kệ 7"]
    _text(
        inbox / "scan_dossier" / "ho_so_quet_20261129.csv", scan + "".join(f"HQ{n},G{n},25195,Đơn,f{n}.pdf,1,{s}\n" for n, s in enumerate(shelves))
    )  # 11
    good = "{},1.004199,Đăng ký biến động,25195,,24/03/2026,08/04/2026,07/04/2026,Đã trả,Trực tuyến,25195.1.1\n"
    short_years = good.format("B2").replace("2026", "26") + good.format("B3").replace("24/03/2026", "25/03/26")
    _text(inbox / "dossier" / "ho_so_20261112.csv", f"{DOSSIER}\n{good.format('B1')}{short_years}")  # 12
    _text(inbox / "dossier" / "ho_so_20261113.csv", unicodedata.normalize("NFD", f"{DOSSIER}\n{good.format('C1')}{good.format('C2')}"))  # 13
    cut = "".join(good.format(f"D{n}").replace(",25195.1.1", "") for n in range(3, 7))
    _text(inbox / "dossier" / "ho_so_20261125.csv", f"{DOSSIER}\n{good.format('D1')}{good.format('D2')}{cut}")  # 25
    stamps = ["2026-11-20T01:00:00+00:00,21", "2026-11-20T02:00:00Z,22", "2026-11-20T10:00:00+07:00,23"]
    _text(
        inbox / "cam_bien_mo" / "x.csv", "station,parameter,unit,datetime,value,flag\n" + "".join(f"{STATION},PM2.5,µg/m3,{s},00\n" for s in stamps)
    )  # 20
    hours = ("20/11/2026 22:00", "20/11/2026 24:00", "21/11/2026 01:00")
    _text(inbox / "station_hourly" / f"{STATION}_202611_20261121.csv", "Mã trạm;Thông số;Giá trị;Đơn vị;Thời gian;Trạng thái\n"
          + "".join(f"{STATION};PM10;18,5;µg/m3;{h};00\n" for h in hours))  # fmt: skip  # 21
    sentinels = (
        ("PM2.5", "-999", "µg/m3"),
        ("PM10", "-999.00", "µg/m3"),
        ("Temp", "-999", "oC"),
        ("WindDir", "-999", "deg"),
        ("O3", "-9999", "µg/m3"),
    )
    _text(inbox / "station_txt" / f"{STATION}_20261119120000.txt", "".join(f"{p}\t{v}\t{u}\t20261119120000\t00\n" for p, v, u in sentinels))  # 22
    _text(inbox / "cam_bien_bui" / "x.csv", "Time;P1;Temp;Signal\n2026/11/20 00:02:04;19.23;16.50;-61\n2026/11/20 00:04:04;19.40;;;16.40;-61\n"
          "2026/11/20 00:06:04;18.90;16.30;-60;\n")  # fmt: skip  # 28


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with own_platform(tmp_path_factory.mktemp("field")) as s:
        with open_writer(s, "test") as con:
            con.execute(
                f"CREATE TABLE lake.clean.station AS SELECT '{STATION}' AS station_id, 'ambient_air' AS matrix, NULL::VARCHAR AS former_codes"
            )
            con.execute("CREATE TABLE lake.clean.station_channel AS SELECT station_id, unnest(['PM2.5', 'PM10', 'Temp', 'WindDir', 'O3']) AS parameter, "
                        "NULL::VARCHAR AS name_in_file, -20::DECIMAL(18,6) AS range_min, 1000::DECIMAL(18,6) AS range_max FROM lake.clean.station")  # fmt: skip
        _own(s, "do_luu_luong", key=["diem", "ngay"], format={"reader": "csv", "delimiter": ";", "decimal": ",", "thousands": ".", "encoding": "utf-8"}, columns={
            "diem": {"header": "Điểm"}, "ngay": {"header": "Ngày", "type": "date", "format": "%d/%m/%Y"}, "luu_luong": {"header": "Lưu lượng", "type": "decimal(18,3)"},
        })  # fmt: skip
        _own(s, "cam_bien_mo", target="reading", key=["station_id", "parameter", "measured_at"], suite="reading", format={"reader": "csv", "encoding": "utf-8"},
             time={"zone": "+07:00", "span_minutes": 60}, columns={
                 "station_id": {"header": "station"}, "parameter": {"header": "parameter"}, "unit": {"header": "unit"}, "status": {"header": "flag"},
                 "measured_at": {"header": "datetime", "type": "timestamp", "format": "%Y-%m-%dT%H:%M:%S%z"}, "value": {"header": "value", "type": "decimal(18,6)"},
             })  # fmt: skip
        _own(s, "cam_bien_bui", key=["luc"], format={"reader": "csv", "delimiter": ";", "encoding": "utf-8"}, columns={
            "luc": {"header": "Time", "type": "timestamp", "format": "%Y/%m/%d %H:%M:%S", "required": True}, "pm10": {"header": "P1", "type": "decimal(9,2)"},
        })  # fmt: skip
        _deliver(s.inbox)
        report = ingest(s, now=NOW, run_id="field")
        assert not report.errors, report.errors
        yield s


def rows(lake: Settings, statement: str) -> list[tuple[Any, ...]]:
    with open_reader(lake) as con:
        return con.execute(statement).fetchall()


def fate(lake: Settings, name: str) -> tuple[str, str]:
    """Status and reason of the delivery of this name."""
    status, reason = rows(lake, f"SELECT status, coalesce(reason, '') FROM lake.ops.delivery WHERE name = '{name}'")[0]
    return status, reason


def bad(lake: Settings, name: str) -> list[tuple[int, str]]:
    """Line and first reason of each row in quarantine."""
    return rows(lake, "SELECT line, reasons[1] FROM lake.quarantine.row AS q JOIN lake.ops.landed AS l USING (delivery_id) "
                      f"WHERE l.name = '{name}' ORDER BY line")  # fmt: skip


def test_01a_a_stray_cell_in_the_last_row_is_named(lake: Settings) -> None:
    status, reason = fate(lake, "co_so_20261101.xlsx")
    assert status == "blocked" and "A1048576" in reason


def test_07_a_formula_that_was_never_computed(lake: Settings) -> None:
    status, reason = fate(lake, "co_so_20261107.xlsx")
    assert status == "blocked" and "formula_not_computed" in reason and "2 trên 3" in reason
    assert bad(lake, "co_so_20261107.xlsx") == [(3, "formula_not_computed"), (4, "formula_not_computed")]
    assert bad(lake, "co_so_20261108.xlsx") == [(2, "formula_not_computed")], "a library writes results that nobody computed"


def test_08_a_cell_that_shows_92_percent(lake: Settings) -> None:
    assert fate(lake, "chi_tieu_20261128.xlsx")[0] == "blocked"
    assert bad(lake, "chi_tieu_20261128.xlsx") == [(2, "cell_format")]


def test_09_laboratory_figures(lake: Settings) -> None:
    assert bad(lake, "phieu.xlsx") == [
        (2, "value_unreadable"), (3, "value_unreadable"), (12, "value_unreadable"), (13, "unknown_parameter"), (14, "unknown_unit"),
        (15, "value_unreadable"), (16, "result_negative"), (17, "unknown_parameter"), (18, "unknown_station"),
    ]  # fmt: skip
    found = rows(lake, "SELECT sample_id, parameter, qualifier, value, unit, result_text FROM lake.clean.lab_result ORDER BY _line")
    assert found == [
        ("M2", "BOD5", None, Decimal("12.5"), "mg/L", "12.5"), ("M3", "P-PO4", None, Decimal("2.345"), "mg/L", "2.345"),
        ("M4", "BOD5", None, Decimal("7.125"), "mg/L", "7.125"), ("M5", "E.coli", ">", Decimal(2419), "MPN/100mL", ">2419"),
        ("M6", "N-NH4", None, Decimal("0.21"), "mg/L", ".21"), ("M7", "As", "<", Decimal("0.00005"), "mg/L", "<0,05"),
        ("M8", "Pb", None, None, "mg/L", "KPH"), ("M9", "Temp", None, Decimal("-0.5"), "°C", "-0.5"),
    ]  # fmt: skip


def test_10_a_decimal_point_is_no_separator_of_thousands(lake: Settings) -> None:
    assert rows(lake, "SELECT day(ngay), luu_luong FROM lake.clean.do_luu_luong ORDER BY 1") == [(1, Decimal("1250.5")), (5, Decimal(12_345_678))]
    assert bad(lake, "thang11.csv") == [(n, "luu_luong_unreadable") for n in (3, 4, 5, 7)]
    status, reason = fate(lake, "bang_gia_dat_20261129.xlsx")
    assert status == "blocked" and "1250 hoặc 1,250" in reason
    assert bad(lake, "bang_gia_dat_20261129.xlsx") == [(3, "price_vnd_m2_unreadable")]


def test_11_stray_quotes_swallow_no_rows(lake: Settings) -> None:
    status, reason = fate(lake, "ho_so_quet_20261129.csv")
    assert status == "blocked" and "bản ghi thứ 2" in reason


def test_12_two_digit_years(lake: Settings) -> None:
    assert bad(lake, "ho_so_20261112.csv") == [(3, "received_on_unreadable"), (4, "received_on_unreadable")]
    assert "24/03/26" in fate(lake, "ho_so_20261112.csv")[1]
    assert rows(lake, "SELECT count(*) FROM lake.clean.dossier WHERE year(received_on) < 2000") == [(0,)]


def test_13_decomposed_text_is_the_same_text(lake: Settings) -> None:
    assert rows(lake, "SELECT dossier_id, status, procedure_name_vi FROM lake.clean.dossier ORDER BY 1") == [
        ("C1", "finished", "Đăng ký biến động"), ("C2", "finished", "Đăng ký biến động")
    ]  # fmt: skip


def test_20_stamps_with_their_offset(lake: Settings) -> None:
    found = rows(lake, "SELECT hour(measured_at), value_valid::INT FROM lake.clean.reading WHERE _source = 'cam_bien_mo' ORDER BY 1")
    assert found == [(8, 21), (9, 22), (10, 23)]


def test_21_24_00_is_refused_alone(lake: Settings) -> None:
    assert bad(lake, f"{STATION}_202611_20261121.csv") == [(3, "measured_at_unreadable")]


def test_22_sentinels_are_kept_as_sent_and_lie_outside_what_the_marts_let_count(lake: Settings) -> None:
    """The gate keeps them; whether they count is judged in `reading_qc`, by the register's range and the seed's."""
    found = rows(lake, "SELECT parameter, value_reported::INT FROM lake.clean.reading WHERE _source = 'station_txt' ORDER BY 1")
    assert found == [("O3", -9999), ("PM10", -999), ("PM2.5", -999), ("Temp", -999), ("WindDir", -999)]
    bounds = {(r["matrix"], r["parameter"]): r["fail_min"] for r in seed_rows("qc_threshold") if r["test"] == "range" and r["fail_min"]}
    least = rows(lake, "SELECT parameter, range_min::INT FROM lake.clean.station_channel ORDER BY 1")
    for (parameter, value), (_, bottom) in zip(found, least, strict=True):
        assert value < bottom and value < Decimal(bounds.get(("ambient_air", parameter), "0"))


def test_25_a_blocked_delivery_names_reason_and_rows(lake: Settings) -> None:
    status, reason = fate(lake, "ho_so_20261125.csv")
    assert status == "blocked" and "fields_too_few: 4 dòng, dòng 4 (dòng có ít ô hơn tiêu đề" in reason
    assert bad(lake, "ho_so_20261125.csv") == [(n, "fields_too_few") for n in range(4, 8)]


def test_26_a_figure_merged_over_rows_is_not_repeated(lake: Settings) -> None:
    assert fate(lake, "co_so_20261126.xlsx")[0] == "blocked"
    assert bad(lake, "co_so_20261126.xlsx") == [(n, "merged_quantity") for n in (2, 3, 4)]


def test_27_a_strict_workbook_and_a_number_cell(lake: Settings) -> None:
    found = rows(lake, "SELECT facility_id, design_capacity_m3_day, permit_date FROM lake.clean.facility ORDER BY 1")
    assert found == [("CS1", Decimal(100), date(2024, 5, 1)), ("CS2", Decimal("2.3"), date(2024, 5, 2))]


def test_28_a_row_with_more_fields_has_one_reason(lake: Settings) -> None:
    assert rows(lake, "SELECT line, reasons FROM lake.quarantine.row WHERE source = 'cam_bien_bui' ORDER BY 1") == [
        (3, ["fields_too_many"]), (4, ["fields_too_many"])
    ]  # fmt: skip
    assert rows(lake, "SELECT pm10 FROM lake.clean.cam_bien_bui") == [(Decimal("19.23"),)]


def test_every_delivery_balances(lake: Settings) -> None:
    assert rows(lake, "SELECT count(*) FROM lake.ops.delivery WHERE rows_read <> rows_accepted + rows_duplicate + rows_quarantined") == [(0,)]


def test_24_dates_of_1904_written_as_true(tmp_path: Path) -> None:
    path = tmp_path / "co_so_20261201.xlsx"
    _facilities(path, [1, 2], date_1904=True)
    _patch(path, ('date1904="1"', 'date1904="true"'))
    contract = load_contract(CONTRACTS / "environment/facility_register.yaml")
    with duckdb.connect() as con:
        con.execute("CREATE TABLE d AS SELECT delivery_id, TIMESTAMP '2026-12-01' AS as_of, NULL::TIMESTAMP AS received_at, NULL::DATE AS day "
                    f"FROM (SELECT '{delivery(path).delivery_id}' AS delivery_id)")  # fmt: skip
        assert tabular.read(con, contract, [delivery(path)], "cut") == {}
        cast(con, contract, "cut", "d", "typed", "EPSG:9212")
        assert con.execute("SELECT permit_date, _reasons FROM typed ORDER BY _line").fetchall() == [(date(2024, 5, 1), []), (date(2024, 5, 2), [])]


def test_the_exit_code_tells_of_refused_rows_and_files_and_of_a_missing_suite(lake: Settings) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "tnmt"), *arguments]
        return subprocess.run(command, env={**os.environ, "TNMT_HOME": str(lake.home)}, capture_output=True, text=True, check=False)

    _text(lake.inbox / "do_luu_luong" / "thang12.csv", "Điểm;Ngày;Lưu lượng\nD2;01/11/2026;1,5\nD2;02/11/2026;x\n")
    refused = run("run", "do_luu_luong", "--no-marts")
    assert refused.returncode == 3 and "1 of 2 rows, 0.0% are tolerated" in refused.stderr
    assert run("run", "do_luu_luong", "--no-marts").returncode == 0
    _text(lake.inbox / "do_luu_luong" / "thang13.csv", "Điểm;Ngày;Lưu lượng\nD3;01/11/2026;1,5\n")
    (lake.inbox / "do_luu_luong" / "thang14.csv").write_bytes(b"\x00\x01" * 600)
    refused = run("run", "do_luu_luong", "--no-marts")
    assert refused.returncode == 3, refused.stderr
    assert "1 of 2 files, 0.0% are tolerated; see `tnmt quarantine list do_luu_luong`" in refused.stderr
    _own(lake, "khong_bo", key=["a"], format={"reader": "csv"}, columns={"a": {"header": "a"}}, suite="khong_co")
    try:
        missing = run("run", "khong_bo", "dossier", "--no-marts")
        assert missing.returncode == 3 and "khong_co.json" in missing.stderr, missing.stderr
        assert "khong_co.json" in run("doctor").stdout
    finally:
        (lake.home / "contracts" / "khong_bo.yaml").unlink()
