"""Station files of layout L1 against a line-by-line reading in plain Python: both ways through the reader give its rows."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.readers import station_txt
from tests.examples import examples
from tests.readers_kit import contract, delivery, duck, rows

FIELDS = ("parameter", "value", "unit", "measured_at", "status")
CONTRACT = contract({f: f for f in FIELDS}, "station_txt")
PLAIN = "pH\t7.12\t-\t20260325000500\t00"
FIELD = st.sampled_from(["pH", "PM 2.5", "", " ", "7,1", "µg/m3", '"', "\r", " x ", "20260325000500", "00", "\ufeff", "\u2028", "\x85"])
LINE = st.one_of(st.just(PLAIN), st.lists(FIELD, min_size=1, max_size=6).map("\t".join))
TEXT = st.tuples(st.lists(st.tuples(LINE, st.sampled_from(["\n", "\r\n", "\n\n"])), max_size=6), LINE | st.just("")).map(
    lambda t: "".join(line + end for line, end in t[0]) + t[1]
)
FILE = st.one_of(
    TEXT.map(str.encode), st.sampled_from([b"", b"\r\n", b"\xef\xbb\xbf" + PLAIN.encode(), b"a\0b", PLAIN.encode() + b"\n\xb5g", b"\xef\xbb\xbf"])
)


def line_by_line(content: bytes) -> list[tuple[object, ...]] | str:
    """The rows of a file, or the code of what is wrong with it as a whole."""
    while content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
    if not content.strip():
        return "empty_file"
    if b"\0" in content:
        return "binary_file"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "wrong_encoding"
    found: list[tuple[object, ...]] = []
    for number, line in enumerate(text.split("\n"), 1):
        raw = line.rstrip("\r\n")
        if not line.strip("\r\n \t"):
            continue
        cut = [f.strip(" ") for f in raw.split("\t")]
        problem = None if len(cut) in (4, 5) else "line_malformed"
        cut = [*cut[:4], *[None] * (4 - len(cut)), cut[4] if len(cut) == 5 else None]
        found.append((number, problem, *cut))
    return found


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return duck(tmp_path_factory.mktemp("extensions"))


@examples(300)
@given(contents=st.lists(FILE, min_size=1, max_size=5))
def test_every_line_as_plain_python_reads_it(con: duckdb.DuckDBPyConnection, contents: list[bytes]) -> None:
    deliveries = [delivery(content, f"{number}.txt") for number, content in enumerate(contents)]
    problems = station_txt.read(con, CONTRACT, deliveries, "cut")
    for one, content in zip(deliveries, contents, strict=True):
        expected = line_by_line(content)
        con.execute(f"CREATE OR REPLACE TEMP VIEW mine AS SELECT * FROM cut WHERE _delivery_id = '{one.delivery_id}'")
        found = rows(con, f"_line, _problem, {', '.join(FIELDS)}", "mine")
        if isinstance(expected, str):
            assert problems[one.delivery_id].code == expected
            assert found == []
        else:
            assert one.delivery_id not in problems
            assert found == expected


def test_a_byte_order_mark_within_a_file_is_text(con: duckdb.DuckDBPyConnection) -> None:
    station_txt.read(con, CONTRACT, [delivery(b"pH\n\xef\xbb\xbf" + PLAIN.encode(), "a.txt")], "cut")
    assert rows(con, "_line, parameter") == [(1, "pH"), (2, "\ufeffpH")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_raw_text_of_a_line_is_kept(con: duckdb.DuckDBPyConnection, end: str) -> None:
    station_txt.read(con, CONTRACT, [delivery((PLAIN + end + " pH\t7\t\t20260325000500\t" + end).encode(), "a.txt")], "cut")
    assert rows(con, "_raw") == [(PLAIN,), (" pH\t7\t\t20260325000500\t",)]
