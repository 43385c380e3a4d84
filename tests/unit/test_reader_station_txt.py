"""Station files of layout L1 against a line-by-line reading in plain Python: both ways through the reader give its rows."""

from __future__ import annotations

import re
from collections.abc import Iterable

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
        if problem is None and number == text.count("\n") + 1 and not text.endswith("\r") and not re.fullmatch("[0-9]{2}", "".join(cut[4:])):
            problem = "line_cut"
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


LAYOUTS = {
    "L1": ("pH\t7.125\t-\t20260325000500\t00", "PM 2.5\t12,5\tµg/m3\t20260325000500\t00"),
    "L2": ("20260325000500 TSS 21.5 mg/L", "20260325000500 PM 2.5 12.5 µg/m3"),
    "L3": ("20260325000500 TSS 21.5", "20260325000500 PM 2.5 12.5"),
    "L4": ("TSS 21.5 20260325000500 00", "PM 2.5 12.5 20260325000500 01"),
}


def _read(con: duckdb.DuckDBPyConnection, layout: str, contents: Iterable[bytes], **options: str) -> dict[int, list[tuple]]:
    """Rows of each content that carry no problem: (line, parameter, value, unit, time, status)."""
    deliveries = [delivery(c, f"{n}.txt") for n, c in enumerate(contents)]
    problems = station_txt.read(con, contract({f: f for f in FIELDS}, "station_txt", layout=layout, **options), deliveries, "cut")
    found: dict[str, list[tuple]] = {d.delivery_id: [] for d in deliveries}
    for row in con.execute(f"SELECT _delivery_id, _line, {', '.join(FIELDS)} FROM cut WHERE _problem IS NULL ORDER BY ALL").fetchall():
        found[row[0]].append(row[1:])
    assert not any(found[d] for d in problems)
    return {n: found[d.delivery_id] for n, d in enumerate(deliveries)}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_cut_at_any_byte_gives_no_line_that_was_not_sent(con: duckdb.DuckDBPyConnection, layout: str, end: str, which: int) -> None:
    """Every cut of every layout: a row is one of the whole file's, to the letter, or it carries a problem."""
    line = LAYOUTS[layout][which]
    whole = (line.replace("7.1", "6.1") + end + line + end).encode()
    whole_rows = _read(con, layout, [whole])[0]
    assert len(whole_rows) == 2
    for cut, rows_of_cut in _read(con, layout, [whole[:n] for n in range(len(whole))]).items():
        assert set(rows_of_cut) <= set(whole_rows), (cut, rows_of_cut)
    # a logger that leaves out the last line end: whole where the status proves it, else where the contract says so
    assert _read(con, layout, [whole.rstrip()])[0] == (whole_rows if layout in ("L1", "L4") else whole_rows[:1])
    assert _read(con, layout, [whole.rstrip()], last_line="whole")[0] == whole_rows


def test_a_line_without_status_needs_its_end(con: duckdb.DuckDBPyConnection) -> None:
    short = "pH\t7.12\t-\t20260325000500"
    assert _read(con, "L1", [f"{short}\n".encode(), short.encode(), f"{short}\t".encode(), f"{short}\t0".encode()]) == {
        0: [(1, "pH", "7.12", "-", "20260325000500", None)], 1: [], 2: [], 3: []
    }  # fmt: skip
