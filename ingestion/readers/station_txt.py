"""Station files: one parameter a line, as data loggers send them (TT 10/2021/TT-BTNMT; reference `txt_line_layouts`).

The layout is what the contract says of the station (L1 unless named), never guessed from the text. All files of a
batch are cut in one pass: their bytes lie end to end, one Arrow column points at the lines, DuckDB splits them.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from ingestion.contract import Contract
from ingestion.lines import arrow_lines
from ingestion.model import Delivery, Problem
from ingestion.names import station_of

# Beyond L1 names may hold blanks and the separator is any white space, so the fields are found from both ends.
_PATTERNS = {
    "L2": r"^(?P<t>\d{14})\s+(?P<n>.+?)\s+(?P<v>\S+)\s+(?P<u>\S*)\s*$",
    "L3": r"^(?P<t>\d{14})\s+(?P<n>.+?)\s+(?P<v>\S+)\s*$",
    "L4": r"^(?P<n>.+?)\s+(?P<v>\S+)\s+(?P<t>\d{14})(?:\s+(?P<s>\S+))?\s*$",
}
_BOM = b"\xef\xbb\xbf"


def _file_problem(content: bytes) -> Problem | None:
    """Why the bytes are no station file at all, or None."""
    if not content.strip():
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
    """Cuts station files into (parameter, value, unit, measured_at, status) as text; see `ingestion.readers`.

    Blank lines are no rows. A line that does not have its layout's fields carries `_problem` = `line_malformed`.
    """
    problems: dict[str, Problem] = {}
    good: list[Delivery] = []
    contents: list[bytes] = []
    for delivery in deliveries:
        content = delivery.read_bytes()
        # cheap tests of every file; the costly reason only for a bad one
        suspect = not content or b"\0" in content or content.isspace() or not _is_utf8(content)
        if suspect and (problem := _file_problem(content)):
            problems[delivery.delivery_id] = problem
            continue
        good.append(delivery)
        contents.append(content[3:] if content.startswith(_BOM) else content)
    text, file, line = arrow_lines(contents)
    layouts = contract.format.layouts_by_station
    index = pa.table(
        {
            "file": pa.array(np.arange(len(good), dtype=np.int32)),
            "_delivery_id": pa.array([d.delivery_id for d in good], pa.string()),
            "layout": pa.array([layouts.get(station_of(contract, d.name) or "", contract.format.layout) for d in good], pa.string()),
        }
    )
    lines = pa.table({"file": pa.array(file), "_line": pa.array(line), "text": text})
    con.register("station_lines", lines)
    con.register("station_files", index)
    others = sorted(set(index["layout"].unique().to_pylist()) - {"L1"})
    status = "CASE WHEN len(f) = 5 THEN f[5] END"
    selects = [
        f"""
        SELECT _delivery_id, _line, raw AS _raw,
               CASE WHEN len(f) NOT IN (4, 5) THEN 'line_malformed' END AS _problem,
               trim(f[1]) AS parameter, trim(f[2]) AS value, trim(f[3]) AS unit, trim(f[4]) AS measured_at, trim({status}) AS status
        FROM (SELECT *, string_split(raw, chr(9)) AS f FROM cut WHERE layout = 'L1')"""
    ]
    selects += [
        f"""
        SELECT _delivery_id, _line, raw AS _raw, CASE WHEN NOT regexp_matches(raw, '{_PATTERNS[name]}') THEN 'line_malformed' END AS _problem,
               {
            ", ".join(
                _group(name, g) + " AS " + c for g, c in (("n", "parameter"), ("v", "value"), ("u", "unit"), ("t", "measured_at"), ("s", "status"))
            )
        }
        FROM cut WHERE layout = '{name}'"""
        for name in others
    ]
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE {into} AS
        WITH cut AS (
            SELECT s._delivery_id, l._line, s.layout, rtrim(l.text, chr(10) || chr(13)) AS raw
            FROM station_lines AS l JOIN station_files AS s USING (file)
            WHERE length(l.text) > 2 OR trim(l.text, chr(10) || chr(13) || ' ' || chr(9)) <> ''
        )
        {" UNION ALL ".join(selects)}
    """)
    con.unregister("station_lines")
    con.unregister("station_files")
    return problems


def _is_utf8(content: bytes) -> bool:
    if content.isascii():
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _group(layout: str, group: str) -> str:
    """SQL for the named group of a layout's pattern, or NULL where the layout has no such field."""
    pattern = _PATTERNS[layout]
    names = [part.split(">")[0] for part in pattern.split("(?P<")[1:]]
    if group not in names:
        return "NULL"
    return (
        f"nullif(regexp_extract(raw, '{pattern}', {names.index(group) + 1}), '')"
        if group == "s"
        else (f"regexp_extract(raw, '{pattern}', {names.index(group) + 1})")
    )
