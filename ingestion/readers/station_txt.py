"""Station files: one parameter a line, as data loggers send them (TT 10/2021/TT-BTNMT; reference `txt_line_layouts`).

The layout is what the contract says of the station (L1 unless named), never guessed from the text. All files of a
batch are cut in one pass: their bytes lie end to end, and lines of the plain form (five fields between tabs, no blanks
around them) go through Arrow's CSV parser; only the others are split by SQL.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as csv

from ingestion.contract import Contract
from ingestion.lines import Lines, lines_of
from ingestion.model import Delivery, Problem
from ingestion.names import station_of

# Beyond L1 names may hold blanks and the separator is any white space, so the fields are found from both ends.
_PATTERNS = {
    "L2": r"^(?P<t>\d{14})\s+(?P<n>.+?)\s+(?P<v>\S+)\s+(?P<u>\S*)\s*$",
    "L3": r"^(?P<t>\d{14})\s+(?P<n>.+?)\s+(?P<v>\S+)\s*$",
    "L4": r"^(?P<n>.+?)\s+(?P<v>\S+)\s+(?P<t>\d{14})(?:\s+(?P<s>\S+))?\s*$",
}
_FIELDS = ("parameter", "value", "unit", "measured_at", "status")
_BOM = b"\xef\xbb\xbf"
_TAB, _LF, _CR, _BLANK = 9, 10, 13, 32
_LONGEST_PLAIN = 64 << 10
"""Bytes of a line that Arrow's parser is given: one that does not fit into its block (1 MiB) would end the whole batch."""


def _file_problem(content: bytes) -> Problem | None:
    """Why the bytes are no station file at all, or None."""
    if not _without_bom(content).strip():
        return Problem("empty_file", "Tệp rỗng", "ít nhất một dòng số liệu", f"{len(content)} byte", "Yêu cầu trạm gửi lại tệp")
    if b"\0" in content:
        return Problem(
            "binary_file",
            "Tệp không phải văn bản (có byte 0)",
            "văn bản UTF-8, các trường cách nhau bằng Tab",
            f"{len(content)} byte nhị phân",
            "Kiểm tra thiết bị truyền rồi gửi lại tệp",
        )
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return Problem(
            "wrong_encoding",
            "Sai bảng mã",
            "UTF-8",
            f"byte 0x{content[error.start]:02x} ở vị trí {error.start}",
            "Cấu hình datalogger ghi tệp UTF-8 rồi gửi lại",
        )
    return None


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Cuts station files into (parameter, value, unit, measured_at, status) as trimmed text; see `ingestion.readers`.

    Blank lines are no rows. A line that does not have its layout's fields carries `_problem` = `line_malformed`. A last line without line
    end is `line_cut` unless its status, in both figures, proves that nothing is missing (or the contract says `last_line: whole`).
    """
    contents = [d.read_bytes() for d in deliveries]
    contents = [_without_bom(c) if c.startswith(_BOM) else c for c in contents]
    lines = lines_of(contents)
    problems: dict[str, Problem] = {}
    lost = np.zeros(len(contents), dtype=bool)
    for number in _suspects(lines, contents):
        if problem := _file_problem(deliveries[number].read_bytes()):
            problems[deliveries[number].delivery_id] = problem
            lost[number] = True
    stated = contract.format.layouts_by_station
    layout = contract.format.layout
    layouts = [stated.get(station_of(contract, d.name) or "", layout) for d in deliveries] if stated else [layout] * len(deliveries)
    plain = _plain(lines) & ~lost[lines.file]
    open_ended = np.zeros(len(lines.file), dtype=bool)
    if contract.format.last_line == "ended" and (loose := [n for n, c in enumerate(contents) if not c.endswith((b"\n", b"\r"))]):
        open_ended[lines.at(lines.file_ends[loose] - 1)] = True
        plain &= ~open_ended
    if set(layouts) != {"L1"}:
        plain &= (np.array(layouts) == "L1")[lines.file]
    slow = ~plain & ~lost[lines.file]
    fast, others = lines.where(plain), lines.where(slow)
    ids = pa.array([d.delivery_id for d in deliveries], pa.string())
    con.register("plain_lines", _with_place(_parse(fast), fast, ids))
    con.register(
        "other_lines",
        _with_place(
            pa.table(
                {
                    "text": others.text(),
                    "layout": pa.array(np.array(layouts, dtype=object)[others.file], pa.string()),
                    "open_ended": pa.array(open_ended[slow]),
                }
            ),
            others,
            ids,
        ),
    )
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE {into} AS
        WITH other AS (
            SELECT _delivery_id, _line, layout, open_ended, rtrim(text, chr(10) || chr(13)) AS raw FROM other_lines
            WHERE trim(text, chr(10) || chr(13) || ' ' || chr(9)) <> ''
        )
        SELECT _delivery_id, _line, concat_ws(chr(9), {", ".join(_FIELDS)}) AS _raw, NULL::VARCHAR AS _problem, {", ".join(_FIELDS)}
        FROM plain_lines
        {"".join("UNION ALL" + _split(name) for name in sorted(set(layouts)))}
    """)
    for name in ("plain_lines", "other_lines"):
        con.unregister(name)
    return problems


def _without_bom(content: bytes) -> bytes:
    while content.startswith(_BOM):
        content = content[len(_BOM) :]
    return content


def _suspects(lines: Lines, contents: Sequence[bytes]) -> list[int]:
    """Numbers of the files that may be no text: those that hold a byte 0, bytes that are no UTF-8, or nothing to read."""
    found = {n for n, c in enumerate(contents) if len(c) < 3 or c.isspace()}
    if b"\0" in lines.buffer:
        found.update(lines.file_at(np.flatnonzero(lines.bytes == 0)).tolist())
    start = 0
    view = memoryview(lines.buffer)
    while start < len(view):
        try:
            codecs.utf_8_decode(view[start:], "strict", True)
            break
        except UnicodeDecodeError as error:
            number = int(lines.file_at(np.array([start + error.start]))[0])
            found.add(number)
            start = int(lines.file_ends[number])
    return sorted(found)


def _plain(lines: Lines) -> npt.NDArray[np.bool_]:
    """Which lines have exactly four tabs and neither a blank beside a tab or a line end, nor a lone carriage return."""
    data = lines.bytes
    breaks = np.flatnonzero((data == _TAB) | (data == _LF))
    at_end = np.flatnonzero(data[breaks] == _LF)
    lengths = np.diff(lines.ends, prepend=0)
    plain: npt.NDArray[np.bool_] = (np.diff(at_end, prepend=-1) == 5) & (lengths > len("\t\t\t\t\r\n")) & (lengths <= _LONGEST_PLAIN)
    blanks = np.flatnonzero(data == _BLANK)
    before = np.where(blanks > 0, data[blanks - 1], _LF)
    beside = np.isin(before, (_TAB, _LF)) | np.isin(data[blanks + 1], (_TAB, _LF, _CR))
    returns = np.flatnonzero(data == _CR)
    lone = returns[data[returns + 1] != _LF]
    plain[lines.at(np.concatenate([blanks[beside], lone]))] = False
    return plain


def _parse(lines: Lines) -> pa.Table:
    """Plain lines as text columns."""
    schema = pa.schema([(f, pa.string()) for f in _FIELDS])
    # the parser drops a mark at the head of its input; here that is the text of a line somewhere in a file
    head = _BOM if lines.buffer.startswith(_BOM) else b""
    table = (
        csv.read_csv(
            pa.BufferReader(head + lines.buffer if head else lines.buffer),
            read_options=csv.ReadOptions(column_names=list(_FIELDS)),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=schema, strings_can_be_null=False, check_utf8=False),
        )
        if len(lines.buffer)
        else schema.empty_table()
    )
    if table.num_rows != len(lines.file):
        raise RuntimeError(f"{len(lines.file)} plain lines became {table.num_rows} rows: the test of plain lines in {__name__} is wrong")
    return table


def _with_place(table: pa.Table, lines: Lines, ids: pa.Array) -> pa.Table:
    """The table of these lines with `_delivery_id` and `_line`."""
    delivery = pa.DictionaryArray.from_arrays(pa.array(lines.file), ids)
    return table.append_column("_delivery_id", delivery).append_column("_line", pa.array(lines.number))


def _split(layout: str) -> str:
    """SQL that splits the lines of CTE `other` that have this layout."""
    if layout == "L1":
        return f"""
        SELECT _delivery_id, _line, raw, {_problem("len(f) NOT IN (4, 5)", "trim(f[5])")},
            trim(f[1]), trim(f[2]), trim(f[3]), trim(f[4]), CASE WHEN len(f) = 5 THEN trim(f[5]) END
        FROM (SELECT *, string_split(raw, chr(9)) AS f FROM other WHERE layout = '{layout}')"""
    fields = ", ".join(_group(layout, g) for g in "nvuts")
    return f"""
        SELECT _delivery_id, _line, raw, {_problem(f"NOT regexp_matches(raw, '{_PATTERNS[layout]}')", _group(layout, "s"))}, {fields}
        FROM other WHERE layout = '{layout}'"""


def _problem(malformed: str, status: str) -> str:
    """SQL for what is wrong with a line: a cut can only take its end, so a whole status (the last field) proves all that stands before it."""
    return f"""CASE WHEN {malformed} THEN 'line_malformed'
            WHEN open_ended AND NOT coalesce(regexp_full_match({status}, '[0-9][0-9]'), FALSE) THEN 'line_cut' END"""


def _group(layout: str, group: str) -> str:
    """SQL for the named group of a layout's pattern, or NULL where the layout has no such field."""
    pattern = _PATTERNS[layout]
    names = [part.split(">")[0] for part in pattern.split("(?P<")[1:]]
    if group not in names:
        return "NULL"
    found = f"regexp_extract(raw, '{pattern}', {names.index(group) + 1})"
    return f"nullif({found}, '')" if group == "s" else found
