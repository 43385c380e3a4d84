"""From text to types: one grammar of numbers, bounds of dates, offsets, letters that look alike. Oracle: Python's own arithmetic and calendars."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion import names
from ingestion.cast import cast, clean_text
from ingestion.contract import SQL_WORDS, Contract
from tests.examples import examples
from tests.readers_kit import contract

AS_OF = datetime(2026, 11, 28)
REASON = "list_extract(_reasons, 1)"


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute(f"""CREATE TABLE deliveries AS SELECT 'd' AS delivery_id, TIMESTAMP '{AS_OF}' AS as_of, TIMESTAMP '{AS_OF}' AS received_at,
                           DATE '{AS_OF.date()}' AS day""")
        yield opened


def typed(
    con: duckdb.DuckDBPyConnection, spec: Contract, cells: dict[str, list[Any]], columns: str, kinds: dict[str, str] | None = None
) -> list[Any]:
    """Rows of the contract's columns after typing."""
    names = list(cells)
    kinds = kinds or {}
    con.execute("CREATE OR REPLACE TEMP TABLE raw (_delivery_id VARCHAR, _line INTEGER, _raw VARCHAR, _problem VARCHAR, "
                + ", ".join(f'"{n}" {kinds.get(n, "VARCHAR")}' for n in names) + ")")  # fmt: skip
    lines = [("d", line, "", None, *values) for line, values in enumerate(zip(*cells.values(), strict=True), 2)]
    con.execute(
        f"INSERT INTO raw VALUES {', '.join('(' + ', '.join('?' * len(lines[0])) + ')' for _ in lines)}", [v for values in lines for v in values]
    )
    cast(con, spec, "raw", "deliveries", "typed", "EPSG:9212")
    return con.execute(f"SELECT {columns} FROM typed ORDER BY _line").fetchall()


def numbers(con: duckdb.DuckDBPyConnection, texts: Iterable[str], kind: str = "decimal(18,6)", **options: Any) -> dict[str, Any]:
    """What each text is read as; None where its row is refused."""
    texts = list(texts)
    rows = typed(con, contract({"so": {"header": "Số", "type": kind}}, "csv", **options), {"so": texts}, f"so, {REASON}")
    assert all((value is None) == (reason == "so_unreadable") for value, reason in rows), rows
    return {t: value for t, (value, _) in zip(texts, rows, strict=True)}


NEVER = ["1_000", "0x10", "inf", "-inf", "nan", "NaN", "5.", "5,", "1 000", "１２", "٣", "1e", "1e5.5", "--5", "1.2.3", "1,2,3", "1.250,5", "1,250.5", "1'000", "½", "12 %", "1e999"]  # fmt: skip
ALWAYS = {
    "12": "12",
    "-0.5": "-0.5",
    "+5": "5",
    ".21": "0.21",
    "0.673": "0.673",
    "12.5": "12.5",
    "1.2345": "1.2345",
    "1234.567": "1234.567",
    "1.2E+03": "1200",
}


@pytest.mark.parametrize("options", [{}, {"decimal": "any"}, {"decimal": "."}])
@pytest.mark.parametrize("kind", ["decimal(18,6)", "double"])
def test_numbers_that_are_read_alike_whatever_the_contract_says_and_those_that_never_are(
    con: duckdb.DuckDBPyConnection, options: dict[str, Any], kind: str
) -> None:
    assert [t for t, v in numbers(con, NEVER, kind, **options).items() if v is not None] == []
    assert {t: Decimal(str(v)) for t, v in numbers(con, ALWAYS, kind, **options).items()} == {t: Decimal(v) for t, v in ALWAYS.items()}
    assert numbers(con, ["1_000", "1.5", "7"], "integer", **options) == {"1_000": None, "1.5": None, "7": 7}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, {"1.250": None, "1,250": None, "-12.500": None, "999,999": None, "12,5": "12.5", "0,125": "0.125", "1,2345": "1.2345", ",21": "0.21"}),
        ({"decimal": "any"}, {"1.250": "1.250", "1,250": None, "12,5": "12.5", "0,125": "0.125", "1234,567": "1234.567"}),
        ({"decimal": "."}, {"1.250": "1.250", "1,250": None, "12,5": None}),
        ({"decimal": ","}, {"1,250": "1.250", "1.250": None, "12.5": None}),
        ({"decimal": ",", "thousands": "."}, {"1.250,5": "1250.5", "12.345.678": "12345678", "1250,5": "1250.5", "0.673": None, "12.5": None, "1.2.3": None}),
        ({"thousands": ","}, {"1,250.5": "1250.5", "1,250": "1250", "12,5": None, "1.250": "1.250"}),
        ({"thousands": " ", "decimal": ","}, {"1 250,5": "1250.5", "1\u00a0250,5": "1250.5", "1\u202f250": "1250", "1 25": None, "0 250": None}),
    ],
)  # fmt: skip
def test_what_a_sign_means_is_said_by_the_contract_or_the_row_is_refused(
    con: duckdb.DuckDBPyConnection, options: dict[str, Any], found: dict[str, str | None]
) -> None:
    """Field case 10, and 09 for laboratories."""
    assert numbers(con, found, **options) == {t: None if v is None else Decimal(v) for t, v in found.items()}


def test_a_figure_that_could_be_two_is_told_with_both(con: duckdb.DuckDBPyConnection) -> None:
    spec = contract({"so": {"header": "Số", "type": "decimal(18,6)"}}, "csv")
    assert "1250 hoặc 1,250" in typed(con, spec, {"so": ["1.250"]}, "_details[1]")[0][0]


@examples(20)
@given(
    values=st.lists(st.decimals(-(10**9), 10**9, places=3, allow_nan=False), min_size=20, max_size=20),
    sign=st.sampled_from(".,"),
    grouped=st.booleans(),
)
def test_any_number_comes_back_or_is_refused_never_another(con: duckdb.DuckDBPyConnection, values: list[Decimal], sign: str, grouped: bool) -> None:
    other = "," if sign == "." else "."
    texts = {(f"{v:,f}" if grouped else f"{v:f}").replace(",", "T").replace(".", sign).replace("T", other): v for v in values}
    assert numbers(con, texts, decimal=sign, thousands=other) == texts
    assert all(read in (None, texts[t]) for t, read in numbers(con, texts).items())


def test_figures_that_are_none_in_a_native_column(con: duckdb.DuckDBPyConnection) -> None:
    spec = contract({"a": {"type": "double"}, "b": {"type": "decimal(9,2)"}}, "vector")
    found = typed(con, spec, {"a": [float("nan"), 2.5], "b": [float("inf"), 1.25]}, "a, b, _reasons", {"a": "DOUBLE", "b": "DOUBLE"})
    assert found == [(None, None, ["a_unreadable", "b_unreadable"]), (2.5, Decimal("1.25"), [])]


# --- times -------------------------------------------------------------------------------------------------------


def moment(
    con: duckdb.DuckDBPyConnection, text: str, form: str | None = "%d/%m/%Y", kind: str = "date", top: dict[str, Any] | None = None, **more: Any
) -> Any:
    spec = contract({"luc": {"header": "Lúc", "type": kind, "format": form, **more}}, "csv", top=top)
    value, reasons = typed(con, spec, {"luc": [text]}, "luc, _reasons")[0]
    return value if not reasons else reasons[0]


@pytest.mark.parametrize("text", ["24/03/26", "24/03/0026", "24/03/20226", "3/24/2026", "31/12/1899", "01/01/2100", "30/02/2026", "00/01/1900", "24/03/202", "24/03/20"])  # fmt: skip
def test_dates_that_no_sheet_of_ours_can_mean(con: duckdb.DuckDBPyConnection, text: str) -> None:
    """Field case 12; also a year of five figures, Excel's day 0, a month 24."""
    assert moment(con, text) == "luc_unreadable"
    assert moment(con, text, None) == "luc_unreadable"


def test_bounds_are_the_contracts(con: duckdb.DuckDBPyConnection) -> None:
    assert moment(con, "01/01/1900") == date(1900, 1, 1) and moment(con, "31/12/2099") == date(2099, 12, 31)
    assert moment(con, "01/05/1975", not_before=date(1976, 1, 1)) == "luc_unreadable"
    assert moment(con, "01/05/1875", not_before=date(1800, 1, 1)) == date(1875, 5, 1)
    assert moment(con, "29/11/2026", not_after="as_of") == date(2026, 11, 29)
    assert moment(con, "30/11/2026", not_after="as_of") == "luc_unreadable"
    spec = contract({"luc": {"header": "Lúc", "type": "date", "format": "%d/%m/%Y"}}, "csv")
    assert "từ 01/01/1900 đến 31/12/2099, gặp «24/03/26»" in typed(con, spec, {"luc": ["24/03/26"]}, "_details[1]")[0][0]
    loose = contract({"luc": {"header": "Lúc", "type": "date", "format": "%d/%m/%Y", "unreadable": "null"}}, "csv")
    assert typed(con, loose, {"luc": ["24/03/26"]}, "luc, _reasons, _notes") == [(None, [], ["luc_unreadable"])]
    native = typed(con, spec, {"luc": [date(26, 3, 24)]}, "_reasons", {"luc": "DATE"})
    assert native == [(["luc_unreadable"],)]


def test_figures_without_signs_between_them_are_read_whole_only(con: duckdb.DuckDBPyConnection) -> None:
    assert moment(con, "20260325000500", "%Y%m%d%H%M%S", "timestamp") == datetime(2026, 3, 25, 0, 5)
    assert moment(con, "2026032500050", "%Y%m%d%H%M%S", "timestamp") == "luc_unreadable"
    assert moment(con, "20260325000500+0700", "%Y%m%d%H%M%S%z", "timestamp") == datetime(2026, 3, 25, 0, 5)
    assert moment(con, "2026032500050+0700", "%Y%m%d%H%M%S%z", "timestamp") == "luc_unreadable"


@pytest.mark.parametrize("form", ["%Y%m%d", "%Y%m%d|%Y-%m-%d", "%d/%m/%Y|%Y%m%d", "%d%m%Y|%Y%m%d", "%Y%m%d %H:%M|%Y%m%d"])
def test_so_they_are_beside_other_formats(con: duckdb.DuckDBPyConnection, form: str) -> None:
    """2026112 is the 12th of January or the 2nd of November."""
    for text in ("2026112", "2026112 10:00", "202611", "1122026"):
        assert moment(con, text, form) == "luc_unreadable", text
    assert moment(con, "20261102", form) == date(2026, 11, 2)
    assert moment(con, "20261102 10:00", f"{form}|%Y%m%d %H:%M") == date(2026, 11, 2)
    spec = contract({"luc": {"header": "Lúc", "type": "date", "format": form}}, "xlsx")
    found = typed(con, spec, {"luc": ["2026112", "2026-11-02", "20261102"]}, "luc")
    assert [f for (f,) in found] == [None, date(2026, 11, 2), date(2026, 11, 2)]


@pytest.mark.parametrize(
    "text, form, expected",
    [
        ("20261102", "%Y%m%d", datetime(2026, 11, 2)),
        ("2026112", "%Y%m%d", None),
        ("2-11-2026", "%d-%m-%Y", datetime(2026, 11, 2)),
        ("99991231230000", "%Y%m%d%H%M%S", None),
        ("00260325000500", "%Y%m%d%H%M%S", None),
        ("18991231", "%Y%m%d", None),
    ],
)
def test_the_moment_in_a_name_is_read_alike(text: str, form: str, expected: datetime | None) -> None:
    assert names.moment(text, form) == expected


STAMPS = {
    "2026-11-20T01:00:00+00:00": datetime(2026, 11, 20, 8),
    "2026-11-20T02:00:00Z": datetime(2026, 11, 20, 9),
    "2026-11-20T10:00:00+07:00": datetime(2026, 11, 20, 10),
    "2026-11-20T10:00:00-0330": datetime(2026, 11, 20, 20, 30),
}


@pytest.mark.parametrize("zone", ["+07:00", "+00:00", "America/New_York"])
@pytest.mark.parametrize("session", ["UTC", "Asia/Ho_Chi_Minh", "America/New_York"])
def test_a_stamp_with_its_offset_is_that_instant(con: duckdb.DuckDBPyConnection, zone: str, session: str) -> None:
    """Field case 20: neither the contract's zone nor the session's has a say."""
    con.execute(f"SET TimeZone = '{session}'")
    top = {"time": {"zone": zone}}
    form = "%Y-%m-%dT%H:%M:%S%z"
    assert {t: moment(con, t, form, "timestamp", top) for t in STAMPS} == STAMPS
    assert moment(con, "2026-11-20T23:30:00+00:00", form) == date(2026, 11, 21)
    assert moment(con, "2026-11-20T01:00:00", form, "timestamp", top) == "luc_unreadable"
    both = f"{form}|%Y-%m-%d %H:%M:%S"
    assert moment(con, "2026-11-20T02:00:00Z", both, "timestamp", top) == datetime(2026, 11, 20, 9)
    spec = contract({"luc": {"type": "timestamp"}, "ngay": {"type": "date"}}, "vector", top=top)
    instant = datetime(2026, 11, 20, 18, tzinfo=UTC)
    kinds = {"luc": "TIMESTAMPTZ", "ngay": "TIMESTAMPTZ"}
    assert typed(con, spec, {"luc": [instant], "ngay": [instant]}, "luc, ngay", kinds) == [(datetime(2026, 11, 21, 1), date(2026, 11, 21))]


def test_a_zone_east_of_ours_is_read(con: duckdb.DuckDBPyConnection) -> None:
    assert moment(con, "2026-11-20 01:00:00", "%Y-%m-%d %H:%M:%S", "timestamp", {"time": {"zone": "+09:30"}}) == datetime(2026, 11, 19, 22, 30)


def test_columns_may_have_any_name_that_a_contract_allows(con: duckdb.DuckDBPyConnection) -> None:
    """Beside `value` one called as the path's own of it was: the text of the sender, not that of `value`."""
    named = {"value": {"header": "V", "type": "decimal(18,6)"}} | {n: {"header": n} for n in ("o_value", "t_value", "c", "r", "d", "typed")}
    cells = {"value": ["1.5"]} | {n: [f"of {n}"] for n in named if n != "value"}
    for order in (named, dict(reversed(named.items()))):
        assert typed(con, contract(order, "csv"), cells, "value, o_value, t_value, c, r, d, typed, _reasons") == [
            (Decimal("1.5"), "of o_value", "of t_value", "of c", "of r", "of d", "of typed", [])
        ]


def test_the_words_of_sql_are_those_of_this_duckdb(con: duckdb.DuckDBPyConnection) -> None:
    """Those that some statement does not take for a column's name unless they are quoted."""
    fail: set[str] = set()
    for (word,) in con.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall():
        try:
            con.execute(f"CREATE OR REPLACE TEMP TABLE words ({word} INTEGER, other INTEGER)")
            con.execute(f"SELECT {word}, t.{word} FROM words AS t WHERE {word} IS NOT NULL GROUP BY {word} ORDER BY {word}")
            con.execute(f"SELECT other AS {word}, max({word}) OVER (PARTITION BY {word} ORDER BY {word}) FROM words")
            con.execute(f"SELECT a.* EXCLUDE ({word}) FROM words AS a JOIN words AS b USING ({word})")
        except (duckdb.ParserException, duckdb.NotImplementedException):
            fail.add(word)
    assert fail == SQL_WORDS


@pytest.mark.parametrize("name", ["end", "left", "order", "select"])
def test_a_column_is_no_word_of_sql(name: str) -> None:
    with pytest.raises(ValueError, match=rf"columns \['{name}'\] are reserved words of SQL"):
        contract({name: {"header": "X"}}, "csv")
    with pytest.raises(ValueError, match=rf"columns \['{name}'\] are reserved words of SQL"):
        contract({"station": {"header": "X"}}, "csv", top={"unpivot": {"columns": {"COD": {"parameter": "COD", "unit": "mg/L"}}, "parameter": name}})


def test_a_contract_of_readings_has_what_a_reading_needs() -> None:
    with pytest.raises(ValueError, match=r"target reading needs the columns \['measured_at', 'parameter', 'station_id', 'status', 'unit'\]"):
        contract({"value": {"header": "V", "type": "decimal(18,6)"}}, "csv", top={"target": "reading"})


def test_a_stamp_without_offset_is_in_the_contracts_zone(con: duckdb.DuckDBPyConnection) -> None:
    assert moment(con, "2026-11-20 01:00:00", "%Y-%m-%d %H:%M:%S", "timestamp", {"time": {"zone": "+00:00"}}) == datetime(2026, 11, 20, 8)


def test_the_name_of_a_zone_is_no_format() -> None:
    with pytest.raises(ValueError, match="%z"):
        contract({"luc": {"type": "timestamp", "format": "%Y-%m-%d %H:%M:%S %Z"}}, "csv")


# --- texts -------------------------------------------------------------------------------------------------------

ODD = ["Đã trả", unicodedata.normalize("NFD", "Đã trả"), "Đã\u00a0trả", " Đã  trả ", "\ufeffĐã trả", "Đã\u200b trả", "Đã tr\u00adả\t"]


@pytest.mark.parametrize("small", [False, True])
def test_letters_that_look_alike_are_alike(con: duckdb.DuckDBPyConnection, small: bool) -> None:
    """Field case 13: before `values`, booleans and keys are compared, for small files too."""
    columns = {
        "ma": {"header": "Mã"},
        "tt": {"header": "Trạng thái", "values": {unicodedata.normalize("NFD", "Đã trả"): "finished"}},
        "co": {"header": "Có", "type": "boolean"},
        "so": {"header": "Số", "type": "integer"},
        "ghi": {"header": "Ghi chú"},
    }
    spec = contract(columns, "csv", top={"files": {"small": small}, "load": "upsert", "key": ["ma"]})
    keys = ["HĐ  1", unicodedata.normalize("NFD", "HĐ 1"), "HĐ\u00a01", " HĐ 1", "\ufeffHĐ 1", "HĐ\u200b 1", "HĐ 1\u00ad"]
    yes = ["có", unicodedata.normalize("NFD", "Có"), "\u200bcó", "CÓ", "có\u00a0", "x", "1"]
    cells = {"ma": keys, "tt": ODD, "co": yes, "so": ["12\u00a0"] * 7, "ghi": ["---\u00a0"] + ["a  b"] * 6}
    assert typed(con, spec, cells, "ma, tt, co, so, ghi, _reasons") == [
        ("HĐ 1", "finished", True, 12, "---" if i == 0 else "a  b", []) for i in range(7)
    ]


@examples(20)
@given(st.lists(st.text(max_size=12), min_size=10, max_size=10))
def test_a_text_is_cleaned_alike_in_sql_and_in_a_contract(con: duckdb.DuckDBPyConnection, texts: list[str]) -> None:
    texts = [t.replace("\0", "").encode("utf-8", "ignore").decode() for t in texts]
    found = typed(con, contract({"a": {"header": "a"}}, "csv", top={"load": "upsert", "key": ["a"]}), {"a": texts}, "coalesce(a, '')")
    assert [" ".join(f.split()) for (f,) in found] == [clean_text(t) for t in texts]


# --- what a contract can say of a column -------------------------------------------------------------------------


def test_parts_patterns_constants_and_joined_columns(con: duckdb.DuckDBPyConnection) -> None:
    spec = contract(
        {
            "gia_tri": {"header": "Kết quả", "type": "decimal(18,6)", "part": "^[<>]?\\s*(.+)$", "null_values": ["", "KPH"]},
            "dau": {"header": "Kết quả", "part": "^([<>]?)"},
            "don_vi": {"header": "Đơn vị", "otherwise": "mg/L"},
            "loai": {"header": "Loại", "values": {"NM": "surface_water"}, "patterns": {"(?i)nước thải.*": "wastewater"}},
            "luc": {"join": ["Ngày", "Giờ"], "type": "timestamp", "format": "%d/%m/%Y %H:%M"},
        },
        "csv",
        top={"rows": [{"header": "Nhóm", "values": ["Môi trường"]}, {"header": "Mã", "pattern": "QC.*", "exclude": True}]},
    )
    results = ["<0,05", "12.5", "KPH", "vết", "> 2419", "7", "8"]
    cells = {
        "gia_tri": results, "dau": results, "don_vi": ["", "µg/L", None, "mg/l", "", "", ""],
        "loai": ["NM", "Nước thải CN", "nước thải", "NT", "NM", "NM", "NM"],
        "= Ngày": ["24/03/2026"] * 5 + ["", "24/03/2026"], "= Giờ": ["10:05", "09:00", "9:30", "", "10:00", "", "10:00"],
        "= Nhóm": ["Môi trường"] * 5 + ["Môi\u00a0trường", "Khác"], "= Mã": ["A", "B", "C", "D", "QC1", "E", "F"],
    }  # fmt: skip
    assert typed(con, spec, cells, "gia_tri, dau, don_vi, loai, luc, _reasons") == [
        (Decimal("0.05"), "<", "mg/L", "surface_water", datetime(2026, 3, 24, 10, 5), []),
        (Decimal("12.5"), None, "µg/L", "wastewater", datetime(2026, 3, 24, 9), []),
        (None, None, "mg/L", "wastewater", datetime(2026, 3, 24, 9, 30), []),
        (None, None, "mg/l", "NT", None, ["gia_tri_unreadable", "luc_unreadable"]),
        (Decimal(7), None, "mg/L", "surface_water", None, []),
    ]


@pytest.mark.parametrize("column", [{"part": "(a)(b)"}, {"part": "a"}, {"part": "(a"}, {"part": "(?=a)(b)"}, {"patterns": {"(a)\\1": "x"}}])
def test_expressions_are_those_whose_time_is_linear(column: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"group|RE2"):
        contract({"a": {"header": "a", **column}}, "csv")


def test_a_day_after_the_delivery_is_a_day(con: duckdb.DuckDBPyConnection) -> None:
    assert AS_OF + timedelta(days=1) == moment(con, "29/11/2026 00:00", "%d/%m/%Y %H:%M", "timestamp", not_after="as_of")


def test_paths_lose_their_numbers(con: duckdb.DuckDBPyConnection) -> None:
    """What leads to a person or a certificate is gone before a value stands in any table of the lake."""
    spec = contract({"ma": {"header": "ma", "normalise": "path"}}, "json", top={"load": "upsert", "key": ["ma"]})
    texts = ["A.12|CANHAN.77|loai;A.12|GIAY.9_1|HOSOQUET|NOSIGN;A.13|CANHAN.78|loai", "", "A.1|B.2; A.1|C.x3\nB", "NOSIGN"]
    found = typed(con, spec, {"ma": texts}, "ma")
    assert found == [("A|CANHAN|loai;A|GIAY|HOSOQUET|NOSIGN",), (None,), ("A|B;A|C;B",), ("NOSIGN",)]
