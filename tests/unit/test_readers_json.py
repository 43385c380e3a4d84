"""JSON: every record with its number and text, every way in which a file can be unreadable."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.readers import tabular
from tests.examples import examples
from tests.readers_kit import contract, delivery, duck, rows

COLUMNS: dict[str, Any] = {"ma": "xaId", "so": "soThua", "chu": "chu.loai"}


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return duck(tmp_path_factory.mktemp("ext"))


def read(con: duckdb.DuckDBPyConnection, data: str | bytes, columns: dict[str, Any] = COLUMNS, **options: Any) -> dict[str, Any]:
    return tabular.read(con, contract(columns, "json", **options), [delivery(data.encode() if isinstance(data, str) else data)], "cut")


def test_records_members_and_figures(con: duckdb.DuckDBPyConnection) -> None:
    """Members of objects by dotted names; a member that a record lacks is empty; figures are those of the file, beyond what a float holds."""
    text = """{"tongSo": 3, "danhSach": [
        {"xaId": 25195, "soThua": 1.250, "chu": {"loai": "Ông", "khac": null}},
        {"soThua": 12345678901234567890, "chu": {"loai": ["a", "b"]}, "xaId": "25196"},
        {"xaId": true, "soThua": -1e-3}]}"""
    assert read(con, text) == {}
    assert rows(con, "_line, _problem, ma, so, chu") == [
        (1, None, "25195", "1.2500", "Ông"),
        (2, None, "25196", "12345678901234567890", "a;b"),
        (3, None, "true", "-0.0010", None),
    ]
    assert json.loads(rows(con, "_raw")[0][0])["chu.loai"] == "Ông"
    assert read(con, "﻿" + text, records="danhSach") == {}


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        ("", "empty_file", "0 byte"),
        ('[{"xaId": 1,}]', "damaged_file", "dòng 1, cột"),
        ('[{"xaId": 1', "damaged_file", "dòng 1"),
        ('[{"xaId": 1, "xaId": 2}]', "damaged_file", "'xaId' có hai lần"),
        ('[{"chu": {"loai": 1}, "chu.loai": 2}]', "damaged_file", "'chu.loai' có hai lần"),
        ('[{"xaId": NaN}]', "damaged_file", "NaN"),
        ("[1, 2]", "damaged_file", "bản ghi 1"),
        ('{"a": [], "b": []}', "damaged_file", "danh sách"),
        ("3", "damaged_file", "danh sách"),
        ("[" * 100_000, "damaged_file", ""),
        ('[{"a":' + '{"a":' * 30 + "1" + "}" * 31 + "]", "damaged_file", "cấp"),
        ('[{"xaId": "Đ"}]'.encode("utf-16"), "wrong_encoding", "UTF-16"),
        (b'[{"xaId": "\xd0"}]', "wrong_encoding", "0xd0"),
        ('[{"xaId": 1}]', "column_missing", "soThua"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(con: duckdb.DuckDBPyConnection, data: str | bytes, code: str, said: str) -> None:
    (problem,) = read(con, data).values()
    assert problem.code == code and said in str(problem), problem
    assert problem.todo and rows(con) == []


@examples(100)
@given(st.lists(st.dictionaries(st.sampled_from(["xaId", "soThua"]), st.text() | st.integers() | st.booleans() | st.none(), min_size=2), max_size=5))
def test_any_json_of_python_is_read(con: duckdb.DuckDBPyConnection, records: list[dict[str, Any]]) -> None:
    """Oracle: what went in."""
    columns = {"ma": "xaId", "so": "soThua"}
    assert read(con, json.dumps(records), columns) == {}

    def text(value: Any) -> str | None:
        return None if value is None else str(value).lower() if isinstance(value, bool) else str(value) or None

    assert rows(con, "ma, so") == [(text(r["xaId"]), text(r["soThua"])) for r in records]
