"""Tables: CSV and XLSX. Every value comes as text in the contract's own spelling (its decimal sign, its date format).

CSV is cut with numpy: separators and quotes are found over a block of bytes, fields are Arrow columns that point into
it, no Python loop over rows. Only a file with quotes that RFC 4180 does not know is read record by record.
"""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import functools
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO
from xml.etree import ElementTree

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import python_calamine

from ingestion.contract import Column, Contract
from ingestion.encodings import decode
from ingestion.model import Delivery, Problem
from ingestion.readers import fold, match_headers

_BLOCK = 8 << 20
_FLUSH = 32 << 20
_LONGEST_RECORD = 64 << 20
_ROWS = 50_000
_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"

LINE_COLUMNS = {"_delivery_id": "VARCHAR", "_line": "INTEGER", "_raw": "VARCHAR", "_problem": "VARCHAR"}


Tables = Callable[[Contract, Delivery], Iterator[dict[str, pa.Array]]]


class Unreadable(Exception):
    """A file that cannot be read as a whole; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        """Its text is the problem's."""
        super().__init__(str(problem))
        self.problem = problem


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def columns_of(contract: Contract) -> list[str]:
    """Names of the columns that a reader of this contract brings, geometry left out.

    Of a wide export these are its parameter columns, under their headers: turning them into rows comes after reading.
    """
    if contract.unpivot is None:
        return [name for name, column in contract.file_columns.items() if column.type != "geometry"]
    wide = contract.unpivot
    made = {wide.parameter, wide.value, wide.unit, wide.status}
    names = [name for name, column in contract.file_columns.items() if name not in made and column.type != "geometry"]
    for header, parameter in wide.columns.items():
        names += [header, *([parameter.status_header] if parameter.status_header else [])]
    return list(dict.fromkeys(names))


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Rows of CSV files or workbooks as text; see `ingestion.readers`.

    `_line` is the row of the sheet, or of the file (a quoted field with line ends counts as one), blank ones counted. `_problem` of a row:
    `fields_too_few`, `fields_too_many` (CSV; its columns are NULL), `formula_error` (XLSX; that cell is NULL).
    Problems of a file: empty_file, binary_file, wrong_encoding, quote_unclosed, header_missing, damaged_file,
    encrypted_file, sheet_missing, and those of `match_headers`.
    """
    names = columns_of(contract)
    layout = LINE_COLUMNS | dict.fromkeys(names, "VARCHAR")
    con.execute(f"CREATE OR REPLACE TEMP TABLE {into} ({', '.join(f'{quoted(n)} {t}' for n, t in layout.items())})")
    schema = pa.schema([(n, pa.int32() if t == "INTEGER" else pa.large_string()) for n, t in layout.items()])
    problems: dict[str, Problem] = {}
    waiting: list[pa.Table] = []

    def flush() -> None:
        if waiting:
            con.register("tabular_rows", pa.concat_tables(waiting))
            con.execute(f"INSERT INTO {into} SELECT * FROM tabular_rows")
            con.unregister("tabular_rows")
            waiting.clear()

    def take(delivery: Delivery, tables: Tables) -> None:
        for rows in tables(contract, delivery):
            size = len(rows["_line"])
            rows["_delivery_id"] = pa.repeat(pa.scalar(delivery.delivery_id, pa.large_string()), size)
            waiting.append(pa.table([rows.get(n, pa.nulls(size, pa.large_string())) for n in layout], schema=schema))
            if sum(t.nbytes for t in waiting) > _FLUSH:
                flush()

    def take_back(delivery: Delivery) -> None:
        flush()
        con.execute(f"DELETE FROM {into} WHERE _delivery_id = ?", [delivery.delivery_id])

    for delivery in deliveries:
        try:
            try:
                take(delivery, _csv_tables if contract.format.reader == "csv" else _xlsx_tables)
            except _StrayQuote:
                take_back(delivery)
                take(delivery, _loose_csv_tables)
        except Unreadable as error:
            take_back(delivery)
            problems[delivery.delivery_id] = error.problem
    flush()
    if contract.format.skip_footer:
        # the last records are known only when all are read
        con.execute(f"""
            DELETE FROM {into} WHERE (_delivery_id, _line) IN (
                SELECT _delivery_id, unnest(max(_line, {contract.format.skip_footer})) FROM {into} GROUP BY _delivery_id)""")
    return problems


# --- CSV ---------------------------------------------------------------------------------------------------------


def _open(delivery: Delivery) -> BinaryIO:
    if delivery.content is not None or delivery.path is None:
        return io.BytesIO(delivery.read_bytes())
    return delivery.path.open("rb")


def _text_blocks(contract: Contract, delivery: Delivery) -> Iterator[bytes]:
    """The file as UTF-8, line ends as LF, in blocks that end with a line; raises Unreadable for what is no text."""
    one_byte = not contract.format.encoding.startswith("utf-8")
    rest, position, seen_letters, seen_text = b"", 0, False, False
    with _open(delivery) as file:
        while True:
            block = file.read(_BLOCK)
            last = not block
            if position == 0 and not rest:
                if block.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise Unreadable(_wrong_encoding(contract, "UTF-16"))
                if block.startswith(_BOM):
                    if one_byte:
                        raise Unreadable(_wrong_encoding(contract, "UTF-8 có BOM"))
                    block, position = block[len(_BOM) :], len(_BOM)
            if b"\0" in block:
                raise Unreadable(
                    Problem(
                        "binary_file",
                        "Tệp không phải văn bản (có byte 0)",
                        f"tệp CSV, bảng mã {contract.format.encoding}",
                        f"byte 0 ở vị trí {position + len(rest) + block.index(0)}",
                        "Xuất lại tệp dạng CSV rồi gửi lại",
                    )
                )
            data, rest = rest + block, b""
            if not last:
                cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
                data, rest = data[:cut], data[cut:]
                if len(rest) > _LONGEST_RECORD:
                    raise Unreadable(
                        Problem(
                            "binary_file",
                            "Tệp không có dấu xuống dòng",
                            "tệp CSV, mỗi bản ghi một dòng",
                            f"hơn {_LONGEST_RECORD >> 20} MB liền nhau",
                            "Xuất lại tệp dạng CSV rồi gửi lại",
                        )
                    )
            elif data.strip():
                data += b"\n"
            elif not seen_text:
                raise Unreadable(
                    Problem("empty_file", "Tệp rỗng", "dòng tiêu đề và các dòng số liệu", f"{delivery.bytes} byte", "Xuất lại tệp rồi gửi lại")
                )
            if one_byte and not seen_letters and not data.isascii():
                seen_letters = True
                if _is_utf8(data):  # no Vietnamese text in a one-byte code happens to be valid UTF-8
                    raise Unreadable(_wrong_encoding(contract, "UTF-8"))
            if data:
                seen_text = True
                yield _unicode(contract, data, position)
                position += len(data)
            if last:
                return


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wrong_encoding(contract: Contract, found: str) -> Problem:
    return Problem(
        "wrong_encoding",
        "Sai bảng mã",
        contract.format.encoding,
        found,
        f"Xuất lại tệp với bảng mã {contract.format.encoding}, hoặc sửa format.encoding trong {contract.source}.yaml",
    )


def _unicode(contract: Contract, data: bytes, position: int) -> bytes:
    try:
        text = decode(data, contract.format.encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(_wrong_encoding(contract, f"byte 0x{data[error.start]:02x} ở vị trí {position + error.start}")) from None
    if not contract.format.encoding.startswith("utf-8"):
        data = text.encode()
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


class _StrayQuote(Exception):
    """Quotes inside unquoted fields: where fields end depends on all that came before."""


class _Cut:
    """Whole records at the start of a block, as Arrow arrays that point into it."""

    def __init__(self, block: bytes, delimiter: bytes, quote: bytes) -> None:
        a = np.frombuffer(block, dtype=np.uint8)
        newline = a == _NEWLINE
        separator = newline | (a == delimiter[0])
        quotes = quote and quote in block
        if quotes:
            mark = a == quote[0]
            inside = (np.cumsum(mark, dtype=np.uint8) & 1).astype(bool)
            separator &= ~inside
            newline &= ~inside
            opening, closing = np.flatnonzero(mark & inside), np.flatnonzero(mark & ~inside)
            after_quote = np.zeros(len(a), dtype=bool)
            after_quote[1:] = (mark & ~inside)[:-1]
            if not np.all((opening == 0) | separator[opening - 1] | after_quote[opening]):
                raise _StrayQuote
            follow = closing[closing + 1 < len(a)] + 1
            if not np.all(separator[follow] | mark[follow]):
                raise _StrayQuote
        ends = np.flatnonzero(newline)
        self.size = int(ends[-1]) + 1 if len(ends) else 0
        a, separator, newline = a[: self.size], separator[: self.size], newline[: self.size]
        gone = separator
        if quotes:
            # of a doubled quote the second stays; opening and closing ones go
            gone = separator | (mark & ~(mark & inside & after_quote))[: self.size]
        removed = np.flatnonzero(gone)
        of_separator = np.flatnonzero(separator[removed])
        stops = removed[of_separator] - of_separator
        self._fields = _strings(a[~gone], stops)
        last = np.flatnonzero(newline[removed[of_separator]])
        self._first = np.concatenate(([0], last[:-1] + 1)) if len(last) else last
        self.counts = last - self._first + 1
        starts = np.concatenate(([0], stops))
        self.blank = starts[last + 1] == starts[self._first] if len(last) else np.zeros(0, dtype=bool)
        self.raw = _strings(a[~newline], ends - np.arange(len(ends)))

    def column(self, index: int, rows: npt.NDArray[np.int64], whole: npt.NDArray[np.bool_]) -> pa.Array:
        """Field `index` of the records `rows`; NULL where not `whole`."""
        return self._fields.take(pa.array(np.where(whole, self._first[rows] + index, 0), mask=~whole))

    def record(self, row: int) -> list[str]:
        """All fields of one record."""
        fields: list[str] = self._fields.slice(self._first[row], self.counts[row]).to_pylist()
        return fields


def _strings(data: npt.NDArray[np.uint8], stops: npt.NDArray[np.int64]) -> pa.Array:
    offsets = np.concatenate(([0], stops)).astype(np.int64)
    return pa.Array.from_buffers(pa.large_string(), len(stops), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))])


def _records(contract: Contract, delivery: Delivery) -> Iterator[tuple[int, _Cut]]:
    """Cuts of the file from the header on, with the number of records before each (the header is number 0)."""
    delimiter, quote = contract.format.delimiter.encode(), contract.format.quote.encode()
    skip, rest, before = contract.format.header_row - 1, b"", 0
    for block in _text_blocks(contract, delivery):
        rest += block
        while skip and rest:
            _, _, rest = rest.partition(b"\n")
            skip -= 1
        if not rest:
            continue
        cut = _Cut(rest, delimiter, quote)
        rest = rest[cut.size :]
        if len(rest) > _LONGEST_RECORD:
            break
        if cut.size:
            yield before, cut
            before += len(cut.counts)
    if rest:
        raise Unreadable(_unclosed(before))


def _unclosed(before: int) -> Problem:
    return Problem(
        "quote_unclosed",
        "Dấu nháy mở nhưng không đóng",
        "mỗi ô mở bằng dấu nháy phải đóng bằng dấu nháy",
        f"bản ghi thứ {before} sau tiêu đề kéo dài đến hết tệp",
        "Tệp có thể bị cắt cụt: xuất lại rồi gửi lại",
    )


def _header(contract: Contract, found: list[str]) -> dict[str, int]:
    """Contract column -> position in the file."""
    found = [h.strip() for h in found]
    matched = match_headers(contract, found)
    if isinstance(matched, Problem):
        raise Unreadable(matched)
    return {name: found.index(header) for name, header in matched.items()}


def _no_header(contract: Contract) -> Problem:
    return Problem(
        "header_missing",
        "Không có dòng tiêu đề",
        f"tiêu đề ở dòng {contract.format.header_row}",
        "tệp ngắn hơn",
        f"Gửi tệp đầy đủ, hoặc sửa format.header_row trong {contract.source}.yaml",
    )


def _csv_tables(contract: Contract, delivery: Delivery) -> Iterator[dict[str, pa.Array]]:
    width, places = 0, dict[str, int]()
    for before, cut in _records(contract, delivery):
        if before == 0:
            header = cut.record(0)
            width, places = len(header), _header(contract, header)
        rows = np.flatnonzero(~cut.blank)
        rows = rows[rows + before > 0]
        counts = cut.counts[rows]
        whole = counts == width
        problem = np.where(counts < width, "fields_too_few", "fields_too_many")
        yield {
            "_line": pa.array((rows + before + contract.format.header_row).astype(np.int32)),
            "_raw": cut.raw.take(pa.array(rows)),
            "_problem": pa.nulls(len(rows), pa.large_string()) if whole.all() else pa.array(problem, pa.large_string(), mask=whole),
        } | {name: cut.column(place, rows, whole) for name, place in places.items()}
    if not width:
        raise Unreadable(_no_header(contract))


def _loose_csv_tables(contract: Contract, delivery: Delivery) -> Iterator[dict[str, pa.Array]]:
    """A file with quotes inside unquoted fields, as Python's csv module takes them."""
    text = b"".join(_text_blocks(contract, delivery)).decode()
    lines = io.StringIO(text, newline="\n").readlines()[contract.format.header_row - 1 :]
    reader = csv.reader(lines, delimiter=contract.format.delimiter, quotechar=contract.format.quote)
    places, width, start = dict[str, int](), 0, 0
    records: list[tuple[int, str, list[str]]] = []
    for number, fields in enumerate(reader):
        raw, start = "".join(lines[start : reader.line_num]).rstrip("\n"), reader.line_num
        if "\n" in raw and start == len(lines) and raw.count(contract.format.quote) % 2:
            raise Unreadable(_unclosed(number))
        if number == 0:
            width, places = len(fields), _header(contract, fields)
        elif any(fields):
            records.append((number + contract.format.header_row, raw, fields))
        if len(records) == _ROWS:
            yield _loose_table(records, width, places)
            records = []
    yield _loose_table(records, width, places)


def _loose_table(records: list[tuple[int, str, list[str]]], width: int, places: dict[str, int]) -> dict[str, pa.Array]:
    text = pa.large_string()
    return {
        "_line": pa.array([n for n, _, _ in records], pa.int32()),
        "_raw": pa.array([raw for _, raw, _ in records], text),
        "_problem": pa.array([None if len(f) == width else "fields_too_few" if len(f) < width else "fields_too_many" for _, _, f in records], text),
    } | {name: pa.array([f[place] if len(f) == width else None for _, _, f in records], text) for name, place in places.items()}


# --- XLSX --------------------------------------------------------------------------------------------------------

_ERRORS = frozenset({"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!", "#GETTING_DATA", "#SPILL!", "#CALC!"})
_ERROR_CELL = re.compile(rb'<(?:\w+:)?c\b([^>]*\bt="e"[^>]*)>.*?<(?:\w+:)?v>([^<]*)<', re.DOTALL)
_CELL_NAME = re.compile(rb'\br="([A-Z]+)(\d+)"')
_LONGEST_CELL = 64 << 10
_DATE_FORMATS = {"date": "%Y-%m-%d", "timestamp": "%Y-%m-%d %H:%M:%S"}


def _damaged(error: Exception) -> Problem:
    return Problem(
        "damaged_file",
        "Không mở được sổ tính",
        "tệp XLSX",
        str(error)[:200] or type(error).__name__,
        "Mở tệp bằng Excel, lưu lại dạng .xlsx rồi gửi lại",
    )


def _sheet(contract: Contract, workbook: python_calamine.CalamineWorkbook) -> str:
    visible = [
        s.name
        for s in workbook.sheets_metadata
        if s.typ == python_calamine.SheetTypeEnum.WorkSheet and s.visible == python_calamine.SheetVisibleEnum.Visible
    ]
    wanted = contract.format.sheet
    if wanted is None and visible:
        return visible[0]
    for name in workbook.sheet_names:
        if wanted is not None and fold(name) == fold(wanted):
            return name
    names = [fold(n) for n in workbook.sheet_names]
    near = difflib.get_close_matches(fold(wanted or ""), names, n=1)
    hint = f" (gần giống: «{workbook.sheet_names[names.index(near[0])]}»)" if near else ""
    raise Unreadable(
        Problem(
            "sheet_missing",
            f"Không có trang tính «{wanted}»{hint}" if wanted else "Không có trang tính nào hiển thị",
            wanted or "một trang tính",
            ", ".join(workbook.sheet_names),
            f"Đổi tên trang tính, hoặc sửa format.sheet trong {contract.source}.yaml",
        )
    )


def _error_cells(file: BinaryIO, sheet: str) -> dict[tuple[int, int], str]:
    """Cells of a sheet whose formula failed, by (row, column) from 0: calamine gives them as empty ones."""
    found: dict[tuple[int, int], str] = {}
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            targets = {r.get("Id"): r.get("Target", "") for r in ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))}
            part = next(
                targets[r]
                for s in ElementTree.fromstring(archive.read("xl/workbook.xml")).iter()
                if s.get("name") == sheet
                for k, r in s.items()
                if k.endswith("}id")
            )
            with archive.open(part.lstrip("/") if part.startswith("/") else f"xl/{part}") as xml:
                tail = b""
                while block := xml.read(_BLOCK):
                    block = tail + block
                    for attributes, text in _ERROR_CELL.findall(block) if b't="e"' in block else ():
                        if name := _CELL_NAME.search(attributes):
                            column = functools.reduce(lambda n, c: n * 26 + c - 64, name[1], 0) - 1
                            found[int(name[2]) - 1, column] = text.decode()
                    tail = block[-_LONGEST_CELL:]
    except (zipfile.BadZipFile, KeyError, StopIteration, ElementTree.ParseError):
        pass  # .xls and .ods, which calamine reads as well
    return found


def _spelling(contract: Contract, column: Column | None) -> Callable[[Any], str | None]:
    """How a native cell is written as text of this column."""
    kind = column.type if column else "text"
    form = (column.format if column else None) or _DATE_FORMATS.get(kind, "")
    form = form.split("|")[0]
    comma = contract.format.decimal == "," and kind not in ("text", "date", "timestamp", "boolean")

    def spell(value: Any) -> str | None:
        if isinstance(value, str):
            return None if value in _ERRORS else value or None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            text = str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")
            return text.replace(".", ",") if comma else text
        if isinstance(value, dt.date):
            if isinstance(value, dt.datetime):
                # a day is a fraction in Excel: 10:05 comes as 10:04:59.999997
                value = (value + dt.timedelta(milliseconds=500)).replace(microsecond=0)
            elif kind == "timestamp":
                value = dt.datetime.combine(value, dt.time())
            return value.strftime(form) if form else str(value)
        return str(value)

    return spell


class _Merged:
    """Merged cells hold one value for all their rows; a sheet keeps it in the first one only."""

    def __init__(self, ranges: Sequence[tuple[tuple[int, int], tuple[int, int]]], header_row: int) -> None:
        self._source: dict[int, list[tuple[int, int]]] = {}
        self._parents = {
            c: (top, left) for (top, left), (bottom, right) in ranges if right > left and bottom == header_row - 2 for c in range(left, right + 1)
        }
        for (top, left), (bottom, _) in ranges:
            if top >= header_row or bottom < header_row:
                for row in range(top + 1, bottom + 1):
                    self._source.setdefault(row, []).append((left, top))
        self._tops = {(top, left) for (top, left), _ in ranges}
        self._top_rows = {top for top, _ in self._tops}
        self._values: dict[tuple[int, int], Any] = {}

    def fill(self, row: int, cells: list[Any]) -> None:
        """Puts into the row's cells what the cells merged into it hold."""
        if row in self._top_rows:
            self._values |= {(row, c): v for c, v in enumerate(cells) if (row, c) in self._tops}
        for column, top in self._source.get(row, ()):
            if column < len(cells):
                cells[column] = self._values.get((top, column), "")

    def parent(self, column: int) -> str:
        """Text of the cell merged over this column above the header, or ''."""
        return str(self._values.get(self._parents.get(column, (-1, -1)), ""))


def _xlsx_tables(contract: Contract, delivery: Delivery) -> Iterator[dict[str, pa.Array]]:
    with _open(delivery) as file:
        if not file.read(1):
            raise Unreadable(Problem("empty_file", "Tệp rỗng", "tệp XLSX", "0 byte", "Xuất lại tệp rồi gửi lại"))
        file.seek(0)
        try:
            workbook = python_calamine.CalamineWorkbook.from_filelike(file)
            name = _sheet(contract, workbook)
            sheet = workbook.get_sheet_by_name(name)
        except python_calamine.PasswordError:
            raise Unreadable(
                Problem("encrypted_file", "Sổ tính có mật khẩu", "tệp XLSX không mật khẩu", delivery.name, "Bỏ mật khẩu rồi gửi lại")
            ) from None
        except python_calamine.CalamineError as error:
            raise Unreadable(_damaged(error)) from None
        errors = _error_cells(file, name)
    header_row = contract.format.header_row
    merged = _Merged(sheet.merged_cell_ranges or (), header_row)
    header: list[str] = []
    places: dict[str, int] = {}
    records: list[tuple[int, list[Any]]] = []
    failed: dict[int, list[tuple[int, str]]] = {}
    for (row, column), text in errors.items():
        failed.setdefault(row, []).append((column, text))
    for row, cells in enumerate(sheet.to_python(skip_empty_area=False)):
        for column, text in failed.get(row, ()):
            cells[column] = text
        blank = not any(c != "" for c in cells)
        merged.fill(row, cells)
        if row == header_row - 1:
            header = _headings([str(c).strip() for c in cells], merged)
            places = _header(contract, header)
        elif row >= header_row and not blank:
            records.append((row + 1, cells))
        if len(records) == _ROWS:
            yield _xlsx_table(contract, header, places, records)
            records = []
    if not header:
        raise Unreadable(_no_header(contract))
    yield _xlsx_table(contract, header, places, records)


def _headings(found: list[str], merged: _Merged) -> list[str]:
    """Headers of the header row; where one stands twice, each with the heading merged over it: `Giấy chứng nhận / Số`."""
    times = Counter(fold(h) for h in found)
    return [f"{merged.parent(i)} / {h}" if h and times[fold(h)] > 1 and merged.parent(i) else h for i, h in enumerate(found)]


def _xlsx_table(contract: Contract, header: list[str], places: dict[str, int], records: list[tuple[int, list[Any]]]) -> dict[str, pa.Array]:
    text = pa.large_string()
    rows = [cells for _, cells in records]
    named = [(i, h or f"cột {i + 1}") for i, h in enumerate(header)]
    failed = [any(type(cells[p]) is str and cells[p] in _ERRORS for p in places.values()) for cells in rows]
    table = {
        "_line": pa.array([line for line, _ in records], pa.int32()),
        "_raw": pa.array([json.dumps({h: c[i] for i, h in named if c[i] != ""}, ensure_ascii=False, default=str) for c in rows], text),
        "_problem": pa.array(["formula_error" if f else None for f in failed], text),
    }
    for name, place in places.items():
        spell = _spelling(contract, contract.columns.get(name))
        table[name] = pa.array([spell(cells[place]) for cells in rows], text)
    return table
