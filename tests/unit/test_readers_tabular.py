"""CSV and XLSX: every row with its line and text, every way in which a file can be unreadable. Oracle: Python's csv."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from ingestion.encodings import unicode_to_cp1258, unicode_to_tcvn3
from ingestion.model import Problem
from ingestion.names import groups
from ingestion.readers import csv as csv_reader
from ingestion.readers import tabular, xlsx
from tests.examples import examples
from tests.readers_kit import contract, delivery, duck, rows

COLUMNS = {"ma": "Mã", "so": "Số"}
HEADER = "Mã;Số;Ghi chú\n"


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return duck(tmp_path_factory.mktemp("ext"))


def read_csv(con: duckdb.DuckDBPyConnection, data: bytes | str, **options: Any) -> dict[str, Problem]:
    options = {"delimiter": ";"} | options
    columns = options.pop("columns", COLUMNS)
    top = options.pop("top", None)
    return tabular.read(con, contract(columns, "csv", top=top, **options), [delivery(data.encode() if isinstance(data, str) else data)], "cut")


def problem(found: dict[str, Problem]) -> Problem:
    assert len(found) == 1
    only = next(iter(found.values()))
    assert only.what and only.expected and only.found and only.todo
    return only


def test_rows_with_lines_and_text(con: duckdb.DuckDBPyConnection) -> None:
    text = HEADER + 'a;1;x\r\n\n"b ""hai""\ndòng";2;\n;;\nít;1\nnhiều;1;2;3\ncuối;"";z'
    assert read_csv(con, text) == {}
    assert rows(con, "_line, _problem, ma, so, _raw") == [
        (2, None, "a", "1", "a;1;x"),
        (4, None, 'b "hai"\ndòng', "2", '"b ""hai""\ndòng";2;'),
        (6, "fields_too_few", None, None, "ít;1"),
        (7, "fields_too_many", None, None, "nhiều;1;2;3"),
        (8, None, "cuối", "", 'cuối;"";z'),
    ]


def test_quotes_inside_unquoted_fields_are_letters(con: duckdb.DuckDBPyConnection) -> None:
    assert read_csv(con, HEADER + 'ống 5";1;x\n"b";2;y\n') == {}
    assert rows(con, "_line, ma, so, _raw") == [(2, 'ống 5"', "1", 'ống 5";1;x'), (3, "b", "2", '"b";2;y')]


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", HEADER.encode() + "Đồng Xoài;1;x\n".encode()),
        ("utf-8-sig", b"\xef\xbb\xbf" + HEADER.encode() + "Đồng Xoài;1;x\n".encode()),
        ("windows-1258", unicode_to_cp1258(HEADER + "Đồng Xoài;1;x\n")),
        ("tcvn3", unicode_to_tcvn3(HEADER + "Đồng Xoài;1;x\n")),
    ],
)
def test_encodings(con: duckdb.DuckDBPyConnection, encoding: str, data: bytes) -> None:
    assert read_csv(con, data, encoding=encoding) == {}
    assert rows(con, "ma, so") == [("Đồng Xoài", "1")]


def test_header_row_footer_delimiter_and_old_line_ends(con: duckdb.DuckDBPyConnection) -> None:
    text = 'BẢNG "KÊ\nNgày 1/1\n' + HEADER.replace(";", "\t") + "a\t1\t\nb\t2\t\nc\t3\t\n\nCộng\t6\t\nNgười lập\t\tA\n"
    assert read_csv(con, text.replace("\n", "\r"), header_row=3, skip_footer=2, delimiter="\t") == {}
    assert rows(con, "_line, ma, so") == [(4, "a", "1"), (5, "b", "2"), (6, "c", "3")]


def test_columns_that_may_be_absent_are_null(con: duckdb.DuckDBPyConnection) -> None:
    assert read_csv(con, "Mã\na\n", top={"missing_columns": "null"}) == {}
    assert rows(con) == [(2, None, "a", None)]


@pytest.mark.parametrize(
    "reader, more", [("vector", {"crs": "EPSG:9212"}), ("station_txt", {}), ("postgis", {"table": "t", "crs": "EPSG:9212"}), ("scan", {})]
)
def test_a_wide_export_is_a_table(reader: str, more: dict[str, str]) -> None:
    wide = {"columns": {"COD": {"parameter": "COD"}}}
    assert contract(COLUMNS, "csv", top={"unpivot": wide}).unpivot is not None
    with pytest.raises(ValueError, match="unpivot"):
        contract(COLUMNS, reader, top={"unpivot": wide}, **more)


def test_a_short_file_is_not_an_empty_one(con: duckdb.DuckDBPyConnection) -> None:
    assert read_csv(con, "ab\n", columns={"ab": "ab"}) == {}
    assert rows(con) == []


def test_a_wide_export_keeps_its_parameter_columns(con: duckdb.DuckDBPyConnection) -> None:
    wide = {"columns": {"PM2.5": {"parameter": "PM2.5", "unit": "µg/m3", "status_header": "f_pm25"}}}
    assert read_csv(con, "Giờ;PM2.5;f_pm25\n1;7,5;00\n", top={"unpivot": wide}, columns={"gio": "Giờ", "value": {"type": "double"}}) == {}
    assert rows(con, 'gio, "PM2.5", f_pm25') == [("1", "7,5", "00")]


@pytest.mark.parametrize(
    ("data", "options", "code", "found"),
    [
        (b"", {}, "empty_file", "0 byte"),
        (b"\xef\xbb\xbf", {}, "empty_file", "3 byte"),
        (b"\n\n", {"header_row": 9}, "header_missing", "ngắn hơn"),
        (HEADER.encode() + b"a\0;1;2\n", {}, "binary_file", "vị trí 19"),
        (HEADER.encode("utf-16"), {}, "wrong_encoding", "UTF-16"),
        (unicode_to_cp1258(HEADER), {}, "wrong_encoding", "0xde ở vị trí 2"),
        (HEADER.encode(), {"encoding": "windows-1258"}, "wrong_encoding", "UTF-8"),
        (b"\xef\xbb\xbf" + HEADER.encode(), {"encoding": "tcvn3"}, "wrong_encoding", "BOM"),
        (b"M\xb7;S\x81\n", {"encoding": "tcvn3"}, "wrong_encoding", "0x81"),
        ((HEADER + 'a;1;x\n"b;2;y\nc;3;z\n').encode(), {}, "quote_unclosed", "thứ 2"),
        ((HEADER + 'ống 5";1;x\n"b;2;y\nc;3;z\n').encode(), {}, "quote_unclosed", "thứ 2"),
        ("Mã;Số lượng;Ghi chú\na;1;2\n".encode(), {}, "column_missing", "Số lượng"),
        ("Mã;Số;số\na;1;2\n".encode(), {}, "column_twice", "Số"),
        (HEADER.encode(), {"top": {"unknown_columns": "reject"}}, "column_unknown", "Ghi chú"),
    ],
)
def test_unreadable_files(con: duckdb.DuckDBPyConnection, data: bytes, options: dict[str, Any], code: str, found: str) -> None:
    seen = problem(read_csv(con, data, **options))
    assert (seen.code, found in seen.found) == (code, True), seen
    assert rows(con) == []


def test_a_bad_file_takes_nothing_from_the_others(con: duckdb.DuckDBPyConnection) -> None:
    good, other = delivery((HEADER + "a;1;x\n").encode(), "1.csv"), delivery((HEADER + "b;2;y\n").encode(), "3.csv")
    bad = delivery((HEADER + 'c;3;z\n"d;4;w\n').encode(), "2.csv")
    assert set(tabular.read(con, contract(COLUMNS, "csv", delimiter=";"), [good, bad, other], "cut")) == {bad.delivery_id}
    assert con.execute("SELECT _delivery_id, ma FROM cut ORDER BY ma").fetchall() == [(good.delivery_id, "a"), (other.delivery_id, "b")]


FIELD = st.text(alphabet='ab đ";\n,', max_size=6)


@examples(200)
@given(st.lists(st.lists(FIELD, min_size=1, max_size=4), max_size=12), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.integers(1, 64))
def test_any_table_as_the_csv_module_writes_it(con: duckdb.DuckDBPyConnection, table: list[list[str]], quoting: Any, block: int) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", quoting=quoting, lineterminator="\n")
    writer.writerow(["Mã", "Số"])
    writer.writerows(table)

    def read_as(record: list[str]) -> tuple[str | None, ...]:
        one = io.StringIO()
        csv.writer(one, delimiter=";", quoting=quoting, lineterminator="\n").writerow(record)
        lines = one.getvalue()[:-1].split("\n")
        as_rows = len(lines) > 1 and all(line.count(";") == 1 for line in lines)
        return tuple(record) if len(record) == 2 and not as_rows else (None, None)

    expected = [(n, *read_as(record)) for n, record in enumerate(table, 2) if any(record)]
    whole, csv_reader._BLOCK = csv_reader._BLOCK, block  # cuts fall anywhere
    try:
        assert read_csv(con, out.getvalue()) == {}
    finally:
        csv_reader._BLOCK = whole
    assert rows(con, "_line, ma, so") == expected


def test_a_million_rows_keep_their_lines(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    con.execute(f"""COPY (SELECT 'xã ' || i AS "Mã", i AS "Số" FROM range(300_000) AS t(i)) TO '{path}' (DELIMITER ';', FORCE_QUOTE ("Mã"))""")
    assert tabular.read(con, contract(COLUMNS, "csv", delimiter=";"), [delivery(path)], "cut") == {}
    assert con.execute("SELECT count(*), bool_and(ma = 'xã ' || (_line - 2) AND so::INT = _line - 2) FROM cut").fetchall() == [(300_000, True)]


# --- XLSX --------------------------------------------------------------------------------------------------------


def workbook(path: Path, write: Callable[[xlsxwriter.Workbook], None]) -> Path:
    book = xlsxwriter.Workbook(path)
    write(book)
    book.close()
    return path


def test_a_workbook_with_a_two_row_header(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    def write(book: xlsxwriter.Workbook) -> None:
        book.add_worksheet("Ẩn").write(0, 0, "Mã")
        day = book.add_format({"num_format": "dd/mm/yyyy hh:mm"})
        sheet = book.add_worksheet("Giá đất")
        sheet.activate()
        sheet.set_first_sheet()
        book.worksheets()[0].hide()
        sheet.merge_range("B2:E2", "BẢNG GIÁ")
        sheet.merge_range("B3:B4", "Mã")
        sheet.merge_range("C3:D3", "Thửa")
        sheet.write_row("C4", ["Số", "Diện tích"])
        sheet.merge_range("E3:E4", "Ngày")
        sheet.merge_range("F3:G3", "GCN")
        sheet.write_row("F4", ["Số", "Còn hạn"])
        sheet.merge_range("B5:B6", "xã A")
        sheet.write_row("C5", [12, 2.5])
        sheet.write_datetime("E5", datetime(2024, 1, 2), day)
        sheet.write("F5", "AB 1")
        sheet.write_row("C6", ["007", "1.234,5"])
        sheet.write_datetime("E6", datetime(2024, 1, 2, 10, 5), day)
        sheet.write_boolean("G6", True)
        sheet.write("B8", "xã B")
        sheet.write_formula("D8", "=NA()", None, "#N/A")
        sheet.write("B9", "xã C")
        sheet.write_formula("I9", "=1/0", None, "#DIV/0!")

    columns = {
        "xa": "Mã",
        "thua": "Thửa / Số",
        "dien_tich": {"header": "Diện tích", "type": "decimal(10,1)"},
        "ngay": {"header": "Ngày", "type": "timestamp", "format": "%d/%m/%Y %H:%M"},
        "gcn": "GCN / Số",
        "han": "Còn hạn",
    }
    spec = contract(columns, "xlsx", header_row=4, decimal=",", thousands=".")
    assert tabular.read(con, spec, [delivery(workbook(tmp_path / "gia.xlsx", write))], "cut") == {}
    assert rows(con) == [
        (5, None, "xã A", "12", "2,5", "02/01/2024 00:00", "AB 1", None),
        (6, None, "xã A", "007", "1.234,5", "02/01/2024 10:05", None, "true"),
        (8, "formula_error", "xã B", None, None, None, None, None),
        (9, None, "xã C", None, None, None, None, None),
    ]
    raw = [row[0] for row in rows(con, "_raw")]
    assert '"Diện tích": "#N/A"' in raw[2] and '"#DIV/0!"' in raw[3] and '"Thửa / Số": 12.0' in raw[0]


def test_unreadable_workbooks(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    good = workbook(tmp_path / "a.xlsx", lambda book: book.add_worksheet("Bảng giá").write_row(0, 0, ["Mã", "Số lương"]))
    cases = {
        "empty_file": (b"", None),
        "damaged_file": (good.read_bytes()[:-200], None),
        "sheet_missing": (good.read_bytes(), "Bảng gia"),
        "column_missing": (good.read_bytes(), None),
    }
    for code, (data, sheet) in cases.items():
        seen = problem(tabular.read(con, contract({"ma": "Mã", "so": "Số lượng"}, "xlsx", sheet=sheet), [delivery(data)], "cut"))
        assert seen.code == code
        assert rows(con) == []
        if code == "sheet_missing":
            assert "gần giống: «Bảng giá»" in seen.what
        if code == "column_missing":
            assert "gần giống: «Số lương»" in seen.what and "Số lượng" in seen.expected
    short = contract({"ma": "Mã"}, "xlsx", header_row=5)
    assert problem(tabular.read(con, short, [delivery(good)], "cut")).code == "header_missing"
    locked = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)
    assert problem(tabular.read(con, short, [delivery(locked)], "cut")).code in ("damaged_file", "encrypted_file")


def test_footer_and_default_sheet(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    def write(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        for i, record in enumerate([["Mã", "Số"], ["a", 1], ["b", 2.25], [], ["Cộng", 3.25]]):
            sheet.write_row(i, 0, record)

    path = workbook(tmp_path / "a.xlsx", write)
    assert tabular.read(con, contract(COLUMNS, "xlsx", skip_footer=1), [delivery(path.read_bytes())], "cut") == {}
    assert rows(con) == [(2, None, "a", "1"), (3, None, "b", "2.25")]


# --- what the sheet says beside its values -----------------------------------------------------------------------

FIGURES = {"ma": "Mã", "so": {"header": "Số", "type": "decimal(12,3)"}, "ghi": "Ghi chú"}


def odd(con: duckdb.DuckDBPyConnection, tmp_path: Path, write: Callable[[xlsxwriter.Workbook, Any], None], columns: Any = None) -> list[tuple]:
    def both(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Mã", "Số", "Ghi chú"])
        write(book, sheet)

    path = workbook(tmp_path / "a.xlsx", both)
    assert tabular.read(con, contract(columns or FIGURES, "xlsx"), [delivery(path)], "cut") == {}
    return rows(con, "_line, _problem, ma, so, ghi")


def test_numbers_shown_as_other_numbers(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Percent, thousands cut off, codes filled with zeros: a figure is refused, a text is what is seen."""

    def write(book: xlsxwriter.Workbook, sheet: Any) -> None:
        forms = ["0%", "0.0 %", "#,##0,", "0.00", '0" %"', "[$-42A]#,##0", "0000"]
        for row, form in enumerate(forms, 1):
            sheet.write(row, 0, 7, book.add_format({"num_format": "00000"}))
            sheet.write(row, 1, 0.925, book.add_format({"num_format": form}))
            sheet.write(row, 2, 0.925, book.add_format({"num_format": form}))

    found = odd(con, tmp_path, write)
    assert [r[:2] + r[3:] for r in found] == [
        (2, "cell_format", None, "92.5%"), (3, "cell_format", None, "92.5%"), (4, "cell_format", None, None),
        (5, None, "0.9250", "0.925"), (6, None, "0.9250", "0.925"), (7, None, "0.9250", "0.925"), (8, None, "0.9250", "0.925"),
    ]  # fmt: skip
    assert {r[2] for r in found} == {"00007"}
    for unit, value in (("percent", "92.5"), ("share", "0.9250")):
        shared = odd(con, tmp_path, write, {**FIGURES, "so": {"header": "Số", "type": "decimal(12,3)", "unit": unit}})
        assert shared[0][:4] == (2, None, "00007", value)


def test_numbers_that_their_format_shows_as_other_texts(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """A laboratory's "<5.0" and "KPH" that are formats of 5 and 3 were read as 5 and 3; units and signs of a format leave the number as it is."""
    forms = {
        r"\<0.0": (5, True), '"<"0.00': (0.5, True), '"KPH"': (3, True), '[<1]"KPH";0.0': (0.3, True), '0"00"': (5, True), '"1"0': (5, True),
        "<0.0": (5, True), ">0": (5, True), "~0.0": (5, True), "[$<]0.0": (5, True), "[$KPH]": (3, True), r"0\.0": (25, True), '0"."0': (25, True),
        '"-"0.0': (5, True), "-0.0": (5, True), '0.0"x10³"': (5, True), '0.0" × 10^3"': (5, True), '0" nghìn"': (5, True), '0" tr.đ"': (5, True),
        '0" tỷ đồng"': (5, True), '"dưới "0': (5, True), '0.00;"âm"': (-5, True), '0;-0;"KPH"': (0, True), '#,##0".000"': (5, True), '0",5"': (5, True),
        '0" 000"': (5, True), '0" (1000đ)"': (5, True), '0"E3"': (5, True), '0" trđ"': (5, True), '0" tỷđ"': (5, True), '0" vạn"': (5, True), '0"M"': (5, True), '0" m"': (5, False),
        '0.0" mg/L"': (5, False), '#,##0" m2"': (5, False), '0" mg/m^3"': (5, False), '0" MPN/100mL"': (5, False), '0;-0;"âm"': (5, False),
        '_(* #,##0_);_(* \\(#,##0\\);_(* "-"??_);_(@_)': (-5, False), '_-* #,##0\\ _₫_-;-* #,##0\\ _₫_-;_-* "-"??\\ _₫_-;_-@_-': (0, False),
        "[Red]0.0;[Blue]-0.0": (-5, False), "General": (5, False), "0.00E+00": (5, False), "@": (5, False), '0.0;"âm"': (5, False), "# ?/?": (5, False),
        "#\\ ##0.0": (5, False), "[$₫-42A]#,##0": (5, False), '#,##0\\ "đ"': (5, False), "+0.0;-0.0": (5, False), "[>5]0.0;0.00": (5, False),
        '0;-0;"-"': (0, False), '_(* #,##0_);_(* \\(#,##0\\);_(* "-"_);_(@_)': (0, False), '_-* #,##0\\ "₫"_-;\\-* #,##0\\ "₫"_-;_-* "-"\\ "₫"_-;_-@_-': (0, False),
        '0" ha (m2)"': (5, False), '0"."': (5, False),
    }  # fmt: skip

    def write(book: xlsxwriter.Workbook, sheet: Any) -> None:
        for row, (form, (value, _)) in enumerate(forms.items(), 1):
            sheet.write(row, 0, "a")
            sheet.write(row, 1, value, book.add_format({"num_format": form}))

    found = {list(forms)[line - 2]: problem == "cell_format" for line, problem, *_ in odd(con, tmp_path, write)}
    assert found == {form: refused for form, (_, refused) in forms.items()}


def test_a_text_is_what_the_format_of_its_number_shows(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    def write(book: xlsxwriter.Workbook, sheet: Any) -> None:
        for row, (form, (number, _)) in enumerate(forms.items(), 1):
            sheet.write(row, 0, "a")
            sheet.write(row, 2, number, book.add_format({"num_format": form}))

    forms = {
        '"KPH"': (3, "KPH"), r"\<0.0": (3, None), '"<"0': (3, "<3"), '0" mg/L"': (3, "3 mg/L"), "0#########": (912345678, "0912345678"),
        "0000 000 000": (912345678, "0912 345 678"), "0000\\ 000\\ 000": (912345678, "0912 345 678"), '0"/QĐ-UBND"': (12, "12/QĐ-UBND"),
        '000"/TB"': (12, "012/TB"), "00000;@": (7, "00007"), "000;-000": (-7, "-007"), "00": (12345, "12345"), "#,##0": (1234, "1234"), "0.0": (1.5, "1.5"),
    }  # fmt: skip
    found = [r[1:2] + r[4:] for r in odd(con, tmp_path, write)]
    assert found == [("cell_format" if shown is None else None, shown) for _, shown in forms.values()]


def test_percent_formats_that_show_another_text(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    forms = {r"\<0%": 0.05, '0%;0%;"KPH"': 0, '"KPH"%': 0.05, '0".5"%': 0.05, '[>0.5]"cao";0%': 0.9, '0%"00"': 0.05, "0,%": 5}

    def write(book: xlsxwriter.Workbook, sheet: Any) -> None:
        for row, (form, number) in enumerate(forms.items(), 1):
            sheet.write(row, 0, "a")
            sheet.write(row, 1, number, book.add_format({"num_format": form}))

    for unit in ("percent", "share"):
        found = odd(con, tmp_path, write, {**FIGURES, "so": {"header": "Số", "type": "decimal(12,3)", "unit": unit}})
        assert [r[1] for r in found] == ["cell_format"] * len(forms)


def test_what_stands_in_a_column_that_nobody_reads_refuses_no_row(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    def write(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["STT", "Mã", "Số", "Ghi chú"])
        sheet.write(1, 0, 1, book.add_format({"num_format": '"số "0'}))
        sheet.write_formula(2, 0, "=A2+1")
        sheet.write_formula(3, 0, "=NA()", None, "#N/A")
        for row in (1, 2, 3):
            sheet.write_row(row, 1, ["a", row])

    path = workbook(tmp_path / "a.xlsx", write)
    assert tabular.read(con, contract(FIGURES, "xlsx"), [delivery(path)], "cut") == {}
    assert rows(con, "_line, _problem, so") == [(2, None, "1"), (3, None, "2"), (4, None, "3")]


@pytest.mark.parametrize("where", ["shared", "inline"])
def test_a_raised_digit_is_no_digit_of_the_number_before_it(con: duckdb.DuckDBPyConnection, tmp_path: Path, where: str) -> None:
    """10³ of a laboratory was read as 103; the 2 of m² and of SO₂ stands behind a letter and changes no figure."""

    def write(book: xlsxwriter.Workbook, sheet: Any) -> None:
        up, down = book.add_format({"font_script": 1}), book.add_format({"font_script": 2})
        sheet.write_row(1, 0, ["a", 5])
        sheet.write_rich_string(2, 0, "lô 1", up, "2")
        sheet.write_rich_string(2, 1, "2,4×10", up, "-3", " <x>")
        sheet.write_rich_string(2, 2, "mg SO", down, "2", "/m", up, "3")
        sheet.write_rich_string(3, 1, "10\u200b", up, "-", up, "\ufeff3")
        sheet.write_rich_string(3, 2, "P-PO", down, "4", up, "3-")

    def both(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Mã", "Số", "Ghi chú"])
        write(book, sheet)

    path = workbook(tmp_path / "a.xlsx", both)
    if where == "inline":
        path = rewritten(path, inline=True)
    assert tabular.read(con, contract(FIGURES, "xlsx"), [delivery(path)], "cut") == {}
    assert rows(con, "_line, _problem, ma, so, ghi") == [
        (2, None, "a", "5", None), (3, None, "lô 12", "2,4×10⁻³ <x>", "mg SO2/m3"), (4, None, None, "10⁻³", "P-PO43-")
    ]  # fmt: skip


def rewritten(path: Path, inline: bool = False, **changes: str) -> Path:
    """A workbook with its sheet's XML changed, or with its shared texts put into the cells."""
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name).decode() for name in book.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    if inline:
        texts = re.findall(r"<si>(.*?)</si>", parts["xl/sharedStrings.xml"])
        parts[sheet] = re.sub(r' t="s"><v>(\d+)</v>', lambda m: f' t="inlineStr"><is>{texts[int(m[1])]}</is>', parts[sheet])
    for old, new in changes.items():
        parts[sheet] = parts[sheet].replace(f'<row r="{old[1:]}"', f'<row r="{new}"')
    with zipfile.ZipFile(path.with_name("changed.xlsx"), "w") as book:
        for name, text in parts.items():
            book.writestr(name, text)
    return path.with_name("changed.xlsx")


@pytest.mark.parametrize("changes", [{"r3": "2"}, {"r4": "1"}], ids=["twice", "backwards"])
def test_two_rows_of_one_number_are_no_sheet(con: duckdb.DuckDBPyConnection, tmp_path: Path, changes: dict[str, str]) -> None:
    """To a reader of cells by their place the later one is all there is: the other was lost in silence."""
    path = workbook(tmp_path / "a.xlsx", lambda book: book.add_worksheet().write_column("A1", ["Mã", "a", "b", "c"]))
    seen = problem(tabular.read(con, contract({"ma": "Mã"}, "xlsx"), [delivery(rewritten(path, **changes))], "cut"))
    assert seen.code == "damaged_file" and rows(con) == []


def test_figures_of_merged_cells(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    def write(book: xlsxwriter.Workbook, sheet: Any) -> None:
        sheet.merge_range("A2:A3", "xã A")
        sheet.merge_range("B2:B3", 900)
        sheet.write_row(1, 2, ["x"])
        sheet.write_row(2, 2, ["y"])
        sheet.write_row(3, 0, ["xã B", 1, "z"])

    assert odd(con, tmp_path, write) == [
        (2, "merged_quantity", "xã A", None, "x"), (3, "merged_quantity", "xã A", None, "y"), (4, None, "xã B", "1", "z")
    ]  # fmt: skip
    said = {**FIGURES, "so": {"header": "Số", "type": "decimal(12,3)", "merged": "repeat"}}
    assert [r[3] for r in odd(con, tmp_path, write, said)] == ["900", "900", "1"]


def test_what_calamine_does_not_give_is_no_blank_row(con: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of the sheet's XML stands beside the reader's: a row that holds a number is read, or it is a problem of its own."""
    monkeypatch.setattr(xlsx, "_all_rows", lambda sheet, written: iter([["Mã", "Số", "Ghi chú"], ["a", 1.0, ""], ["", "", ""]]))
    found = odd(con, tmp_path, lambda book, sheet: (sheet.write_row(1, 0, ["a", 1]), sheet.write_row(2, 0, ["b", 2])))
    assert found == [(2, None, "a", "1", None), (3, "cell_unread", None, None, None)]


def test_a_workbook_cut_anywhere_gives_no_row(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", lambda book: book.add_worksheet().write_column("A1", ["Mã", "a"]))
    data = path.read_bytes()
    cuts = [delivery(data[:n], f"{n}.xlsx") for n in range(0, len(data), 97)]
    assert len(tabular.read(con, contract(COLUMNS, "xlsx"), cuts, "cut")) == len(cuts) and rows(con) == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("stray", ["", 'ống 5";;\n'])
def test_a_csv_cut_at_any_byte_gives_no_row_that_was_not_sent(con: duckdb.DuckDBPyConnection, end: str, stray: str) -> None:
    text = ("Mã;Số;Trạng thái\n" + stray + 'a;12,5;00\n"b";1234;"01"\nc;3;"ống ""5"" mm"\nđ;7;02\n').replace("\n", end)
    spec = contract({"ma": "Mã", "so": "Số", "tt": "Trạng thái"}, "csv", delimiter=";")
    data = text.encode()

    def read(cuts: list[bytes], spec: Any = spec) -> dict[str, list[tuple]]:
        deliveries = [delivery(c, f"{n}.csv") for n, c in enumerate(cuts)]
        tabular.read(con, spec, deliveries, "cut")
        found: dict[str, list[tuple]] = {d.name: [] for d in deliveries}
        names = {d.delivery_id: d.name for d in deliveries}
        for row in con.execute("SELECT _delivery_id, _line, ma, so, tt FROM cut WHERE _problem IS NULL ORDER BY ALL").fetchall():
            found[names[row[0]]].append(row[1:])
        return found

    whole = read([data])["0.csv"]
    assert len(whole) == 4 + bool(stray)
    for cut in read([data[:n] for n in range(len(data))]).values():
        assert set(cut) <= set(whole)
    assert read([data.rstrip()])["0.csv"] == whole[:-1], "no line end: nothing proves that the last status is whole"
    loose = contract({"ma": "Mã", "so": "Số", "tt": "Trạng thái"}, "csv", delimiter=";", last_line="whole")
    assert read([data.rstrip()], loose)["0.csv"] == whole


def test_quotes_never_join_rows(con: duckdb.DuckDBPyConnection) -> None:
    """Lines that read as rows of their own are not one field, though RFC 4180 would have it so; a note of two lines is."""
    assert read_csv(con, HEADER + 'a;1;"kho 5\nb;2;kho 6\nc;3;kệ 5"\nd;4;"hai\ndòng"\n') == {}
    assert rows(con, "_line, _problem, ma") == [(2, "lines_joined", None), (3, None, "d")]
    assert read_csv(con, HEADER + 'a;1;"kho" 5\nb;2;x\n') == {}
    assert rows(con, "_line, _problem, ma") == [(2, "quote_stray", None), (3, None, "b")]


def test_number_cells_are_in_no_doubt_in_a_wide_export_either(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """2.345 typed as text may be 2345; as a number cell it is itself, whichever sign the contract has."""

    def write(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        for row, cells in enumerate([["Giờ", "PM2.5"], ["01", 2.345], ["02", "2.345"], ["03", 12], ["04", 0.1 + 0.2]]):
            sheet.write_row(row, 0, cells)

    wide = {"columns": {"PM2.5": {"parameter": "PM2.5", "unit": "µg/m3"}}}
    path = workbook(tmp_path / "a.xlsx", write)
    for decimal, expected in ((None, "2.3450"), (",", "2,3450")):
        spec = contract(
            {"gio": "Giờ", "value": {"type": "decimal(18,6)"}}, "xlsx", top={"unpivot": wide}, **({"decimal": decimal} if decimal else {})
        )
        assert tabular.read(con, spec, [delivery(path)], "cut") == {}
        assert [v for (v,) in rows(con, '"PM2.5"')][:3] == [expected, "2.345", "12"]


def test_a_date_and_an_hour_in_two_columns(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    def write(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Mã", "Ngày", "Giờ"])
        sheet.write(1, 0, "a")
        sheet.write_datetime(1, 1, datetime(2026, 3, 24), book.add_format({"num_format": "dd/mm/yyyy"}))
        sheet.write_datetime(1, 2, datetime(1899, 12, 31, 9, 5), book.add_format({"num_format": "hh:mm"}))
        sheet.write_row(2, 0, ["b", "25/03/2026", "10:15"])

    joined = {"ma": "Mã", "luc": {"join": ["Ngày", "Giờ"], "type": "timestamp", "format": "%d/%m/%Y %H:%M"}}
    path = workbook(tmp_path / "a.xlsx", write)
    assert tabular.read(con, contract(joined, "xlsx"), [delivery(path)], "cut") == {}
    assert rows(con, 'ma, "= Ngày", "= Giờ"') == [("a", "24/03/2026", "09:05"), ("b", "25/03/2026", "10:15")]


def test_headers_are_compared_without_what_no_screen_shows(con: duckdb.DuckDBPyConnection) -> None:
    header = unicodedata.normalize("NFD", "\u200bMÃ") + ";Số\u00a0;Ghi\u00ad chú\n"
    assert read_csv(con, header + "a;1;x\n", columns=COLUMNS | {"ghi": "Ghi chú"}) == {}
    assert rows(con, "ma, so, ghi") == [("a", "1", "x")]


def test_a_name_in_decomposed_letters_fits_its_pattern() -> None:
    spec = contract(COLUMNS, "csv", top={"files": {"pattern": "^(?P<station_code>[A-ZĐ]{2}_1)\\.csv$"}})
    assert groups(spec, unicodedata.normalize("NFD", "ĐN_1.csv")) == groups(spec, "ĐN_1.csv") == {"station_code": "ĐN_1"}
