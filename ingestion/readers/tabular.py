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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import python_calamine

from ingestion import readers
from ingestion.cast import figure
from ingestion.contract import Column, Contract
from ingestion.encodings import decode
from ingestion.model import Delivery, Problem
from ingestion.readers import fold, guard, match_headers
from ingestion.readers.sheet_xml import Cell, NotReadable, Written, as_code, look
from quality.rules import quoted_name

_BLOCK = 8 << 20
_FLUSH = 32 << 20
_LONGEST_RECORD = 64 << 20
_ROWS = 50_000
_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"

LINE_COLUMNS = {"_delivery_id": "VARCHAR", "_line": "INTEGER", "_raw": "VARCHAR", "_problem": "VARCHAR"}


quoted = quoted_name

Tables = Callable[[Contract, Delivery], Iterator[dict[str, pa.Array]]]


class Unreadable(Exception):
    """A file that cannot be read as a whole; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        """Its text is the problem's."""
        super().__init__(str(problem))
        self.problem = problem


def columns_of(contract: Contract) -> list[str]:
    """Names of the columns that a reader of this contract brings, geometry left out.

    Of a wide export these are its parameter columns, under their headers: turning them into rows comes after reading.
    """
    if contract.unpivot is None:
        names = [name for name, column in contract.file_columns.items() if column.type != "geometry" and not column.join]
        return [*names, *contract.helpers]
    wide = contract.unpivot
    made = {wide.parameter, wide.value, wide.unit, wide.status}
    names = [name for name, column in contract.file_columns.items() if name not in made and column.type != "geometry" and not column.join]
    names += contract.helpers
    for header, parameter in wide.columns.items():
        names += [header, *([parameter.status_header] if parameter.status_header else [])]
    return list(dict.fromkeys(names))


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Rows of CSV files or workbooks as text; see `ingestion.readers`.

    `_line` is the row of the sheet, or of the file (a quoted field with line ends counts as one), blank ones counted. `_problem` of a row
    (its columns are NULL, in a workbook the cells that it is about): CSV `fields_too_few`, `fields_too_many`, `quote_stray` (text after a
    closing quote), `lines_joined` (a record whose lines read as rows of their own), `line_cut`; XLSX `formula_error`, `formula_not_computed`,
    `cell_format` (shown as another number than it holds), `merged_quantity`, `cell_unread`.
    Problems of a file: empty_file, binary_file, wrong_encoding, quote_unclosed, header_missing, damaged_file,
    encrypted_file, sheet_missing, far_cell, and those of `match_headers`.
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
        readers.begin(delivery)
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


def _text_blocks(contract: Contract, delivery: Delivery, unended: list[str]) -> Iterator[bytes]:
    """The file as UTF-8, line ends as LF, in blocks that end with a line; raises Unreadable for what is no text.

    A file whose last line has no end is named in `unended` before its last block comes; the line gets an end.
    """
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
                if not data.endswith((b"\n", b"\r")):
                    unended.append(delivery.delivery_id)
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
        self.line_ends_inside = bool(quotes) and block.count(b"\n", 0, self.size) > len(ends)

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


def _records(contract: Contract, delivery: Delivery, unended: list[str]) -> Iterator[tuple[int, _Cut]]:
    """Cuts of the file from the header on, with the number of records before each (the header is number 0)."""
    delimiter, quote = contract.format.delimiter.encode(), contract.format.quote.encode()
    skip, rest, before = contract.format.header_row - 1, b"", 0
    for block in _text_blocks(contract, delivery, unended):
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
        f"bản ghi thứ {before} sau tiêu đề không đóng dấu nháy",
        "Tệp có thể bị cắt cụt, hoặc dấu nháy là một ký tự của ô: xuất lại (ô có dấu nháy phải đặt trong nháy, nháy bên trong viết hai lần) rồi gửi lại",
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
    width, places, unended = 0, dict[str, int](), list[str]()
    held: dict[str, pa.Array] | None = None
    for before, cut in _records(contract, delivery, unended):
        if before == 0:
            header = cut.record(0)
            width, places = len(header), _header(contract, header)
        rows = np.flatnonzero(~cut.blank)
        rows = rows[rows + before > 0]
        counts = cut.counts[rows]
        whole = counts == width
        problem = np.where(counts < width, "fields_too_few", "fields_too_many").astype(object)
        raw = cut.raw.take(pa.array(rows))
        for index in _of_several_lines(cut, rows):
            if whole[index] and _reads_as_rows(contract, raw[index].as_py(), width):
                whole[index], problem[index] = False, "lines_joined"
        if held is not None:
            yield held
        held = {
            "_line": pa.array((rows + before + contract.format.header_row).astype(np.int32)),
            "_raw": raw,
            "_problem": pa.nulls(len(rows), pa.large_string()) if whole.all() else pa.array(problem, pa.large_string(), mask=whole),
        } | {name: cut.column(place, rows, whole) for name, place in places.items()}
    if not width:
        raise Unreadable(_no_header(contract))
    if held is not None:
        yield _last_row_checked(contract, held, unended, width, places)


def _of_several_lines(cut: _Cut, rows: npt.NDArray[np.int64]) -> list[int]:
    """Which of the rows hold a line end (inside quotes)."""
    if not cut.line_ends_inside:
        return []
    return np.flatnonzero(pc.match_substring(cut.raw.take(pa.array(rows)), "\n").to_numpy(zero_copy_only=False)).tolist()


def _reads_as_rows(contract: Contract, raw: str, width: int) -> bool:
    """Whether each line of a record would be a whole record if its quotes were letters: then quotes joined what are rows."""
    return width > 1 and all(line.count(contract.format.delimiter) == width - 1 for line in raw.split("\n"))


def _last_row_checked(contract: Contract, rows: dict[str, pa.Array], unended: list[str], width: int, places: dict[str, int]) -> dict[str, pa.Array]:
    """Takes the last row back where the file may be cut within it: no line end behind it, and its last field is one that is read.

    A last column that nobody asks for proves that all that is read is whole. A closing quote does not: it may be the first of two that stand for
    one inside the field.
    """
    last = len(rows["_line"]) - 1
    if not unended or contract.format.last_line == "whole" or last < 0 or rows["_problem"][last].is_valid:
        return rows
    if (width - 1) not in places.values():
        return rows
    mask = np.arange(last + 1) == last
    return {
        name: pc.if_else(mask, pa.scalar("line_cut" if name == "_problem" else None, column.type), column)
        if name not in ("_line", "_raw")
        else column
        for name, column in rows.items()
    }


def _loose_csv_tables(contract: Contract, delivery: Delivery) -> Iterator[dict[str, pa.Array]]:
    """A file with quotes that RFC 4180 does not know: each line is a record, never joined with the next.

    A quote inside an unquoted field is a letter. A line that a quote leaves open is no record, and where one ends is then unknown: the file is
    refused. A line with text after a closing quote is refused alone.
    """
    unended: list[str] = []
    text = b"".join(_text_blocks(contract, delivery, unended)).decode()
    lines = io.StringIO(text, newline="\n").readlines()[contract.format.header_row - 1 :]
    quote = contract.format.quote
    places, width = dict[str, int](), 0
    records: list[tuple[int, str, list[str] | None]] = []
    for number, line in enumerate(lines):
        raw = line.rstrip("\n")
        fields: list[str] | None
        try:
            fields = next(csv.reader([raw], delimiter=contract.format.delimiter, quotechar=quote, strict=True), [])
        except csv.Error:
            if raw.count(quote) % 2 or raw.endswith(contract.format.delimiter + quote):
                raise Unreadable(_unclosed(number)) from None
            fields = None
        if number == 0:
            width, places = len(fields or ()), _header(contract, fields or [])
        elif fields is None or any(fields):
            records.append((number + contract.format.header_row, raw, fields))
        if len(records) > _ROWS:
            yield _loose_table(records[:-1], width, places)
            records = records[-1:]
    table = _loose_table(records, width, places)
    yield _last_row_checked(contract, table, unended, width, places)


def _loose_table(records: list[tuple[int, str, list[str] | None]], width: int, places: dict[str, int]) -> dict[str, pa.Array]:
    text = pa.large_string()

    def problem(fields: list[str] | None) -> str | None:
        if fields is None:
            return "quote_stray"
        return None if len(fields) == width else "fields_too_few" if len(fields) < width else "fields_too_many"

    return {
        "_line": pa.array([n for n, _, _ in records], pa.int32()),
        "_raw": pa.array([raw for _, raw, _ in records], text),
        "_problem": pa.array([problem(f) for _, _, f in records], text),
    } | {name: pa.array([f[place] if f is not None and len(f) == width else None for _, _, f in records], text) for name, place in places.items()}


# --- XLSX --------------------------------------------------------------------------------------------------------

_ERRORS = frozenset({"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!", "#GETTING_DATA", "#SPILL!", "#CALC!"})
_BLANK_ROWS = 10_000
_MOST_CELLS = 50_000_000
_DATE_FORMATS = {"date": "%Y-%m-%d", "timestamp": "%Y-%m-%d %H:%M:%S"}


def _damaged(error: Exception) -> Problem:
    return Problem(
        "damaged_file",
        "Không mở được sổ tính",
        "tệp XLSX",
        str(error)[:200] or type(error).__name__,
        "Mở tệp bằng Excel, lưu lại dạng .xlsx rồi gửi lại",
    )


def _locked(file: BinaryIO, delivery: Delivery) -> Problem | None:
    """A workbook under a password is no ZIP archive, but one that calamine knows."""
    file.seek(0)
    try:
        python_calamine.CalamineWorkbook.from_filelike(file)
    except python_calamine.PasswordError:
        return Problem("encrypted_file", "Sổ tính có mật khẩu", "tệp XLSX không mật khẩu", delivery.name, "Bỏ mật khẩu rồi gửi lại")
    except python_calamine.CalamineError:
        return None
    return Problem(
        "damaged_file", "Không phải sổ tính XLSX", "tệp XLSX", "một dạng sổ tính khác", "Mở tệp bằng Excel, lưu lại dạng .xlsx rồi gửi lại"
    )


def _sheets_of(workbook: python_calamine.CalamineWorkbook) -> dict[str, bool]:
    """Names of the sheets, with whether each is a visible sheet of cells."""
    return {
        s.name: s.typ == python_calamine.SheetTypeEnum.WorkSheet and s.visible == python_calamine.SheetVisibleEnum.Visible
        for s in workbook.sheets_metadata
    }


def _sheet(contract: Contract, sheets: dict[str, bool]) -> str:
    """The sheet that the contract names, or the first visible one; raises Unreadable where there is none."""
    visible = [name for name, shown in sheets.items() if shown]
    wanted = contract.format.sheet
    if wanted is None and visible:
        return visible[0]
    for name in sheets:
        if wanted is not None and fold(name) == fold(wanted):
            return name
    names = [fold(n) for n in sheets]
    near = difflib.get_close_matches(fold(wanted or ""), names, n=1)
    hint = f" (gần giống: «{list(sheets)[names.index(near[0])]}»)" if near else ""
    raise Unreadable(
        Problem(
            "sheet_missing",
            f"Không có trang tính «{wanted}»{hint}" if wanted else "Không có trang tính nào hiển thị",
            wanted or "một trang tính",
            ", ".join(sheets),
            f"Đổi tên trang tính, hoặc sửa format.sheet trong {contract.source}.yaml",
        )
    )


class _Odd(str):
    """What a cell holds that is no value of its own: a failed or never computed formula, a number shown as another. `problem` is its code."""

    problem: str

    def __new__(cls, text: str, problem: str) -> _Odd:
        made = super().__new__(cls, text)
        made.problem = problem
        return made


def _spelling(contract: Contract, column: Column | None, form: str | None = None) -> Callable[[Any], str | None]:
    """How a native cell is written as text of this column (of a part of a joined one: in the form `form`)."""
    kind = column.type if column else "text"
    form = form or (column.format if column else None) or _DATE_FORMATS.get(kind, "")
    form = form.split("|")[0]
    counted = column is not None and column.is_figure
    sign = contract.format.decimal_sign

    def spell(value: Any) -> str | None:
        if isinstance(value, _Odd):
            return None
        if isinstance(value, str):
            return None if value in _ERRORS else value or None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            if counted:
                return figure(value).replace(".", sign)
            return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")
        if isinstance(value, dt.date):
            if isinstance(value, dt.datetime):
                # a day is a fraction in Excel: 10:05 comes as 10:04:59.999997
                value = (value + dt.timedelta(milliseconds=500)).replace(microsecond=0)
            elif kind == "timestamp":
                value = dt.datetime.combine(value, dt.time())
            return value.strftime(form) if form else str(value)
        if isinstance(value, dt.time) and form:
            return value.strftime(form)
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
        self._tall = {(top, left) for (top, left), (bottom, _) in ranges if bottom > top}
        self._top_rows = {top for top, _ in self._tops}
        self._values: dict[tuple[int, int], Any] = {}
        self._figures: frozenset[int] = frozenset()

    def refuse_figures(self, columns: Iterable[int]) -> None:
        """Names the columns whose cell over several rows says nothing certain of each: 900 for each, or 900 for all?"""
        self._figures = frozenset(columns)

    def fill(self, row: int, cells: list[Any]) -> None:
        """Puts into the row's cells what the cells merged into it hold."""
        if row in self._top_rows:
            for column, value in enumerate(cells):
                if (row, column) in self._tops:
                    if (row, column) in self._tall and column in self._figures and value != "":
                        cells[column] = _Odd(str(value), "merged_quantity")
                    self._values[row, column] = cells[column]
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
        if problem := guard.workbook(file):
            raise Unreadable(problem)
        try:
            # before calamine lays out the rectangle of all cells: one stray cell at its far corner would take all memory
            written = look(file, functools.partial(_sheet, contract))
            _near_enough(written)
            file.seek(0)
            workbook = python_calamine.CalamineWorkbook.from_filelike(file)
            sheet = workbook.get_sheet_by_name(_sheet(contract, _sheets_of(workbook)))
        except NotReadable as error:
            raise Unreadable(_locked(file, delivery) or _damaged(error)) from None
        except python_calamine.CalamineError as error:
            raise Unreadable(_damaged(error)) from None
    header_row = contract.format.header_row
    merged = _Merged(sheet.merged_cell_ranges or (), header_row)
    header: list[str] = []
    places: dict[str, int] = {}
    records: list[tuple[int, list[Any]]] = []
    for row, cells in enumerate(_all_rows(sheet, written)):
        odd = written.odd.get(row)
        for column, cell in (odd or {}).items():
            if column < len(cells):
                cells[column] = _as_written(contract, places, column, cell, cells[column])
        blank = not any(c != "" for c in cells)
        if blank and row in written.rows and row >= header_row:
            # the sheet has a value here that the reader does not give: a row is never lost
            cells[0] = _Odd("?", "cell_unread")
            blank = False
        merged.fill(row, cells)
        if row == header_row - 1:
            header = _headings([str(c).strip() for c in cells], merged)
            places = _header(contract, header)
            merged.refuse_figures(p for name, p in places.items() if _refuses_merged(contract, name))
        elif row >= header_row and not blank:
            records.append((row + 1, cells))
        if len(records) == _ROWS:
            yield _xlsx_table(contract, header, places, records)
            records = []
    if not header:
        raise Unreadable(_no_header(contract))
    yield _xlsx_table(contract, header, places, records)


def _all_rows(sheet: python_calamine.CalamineSheet, written: Written) -> Iterator[list[Any]]:
    """The rows of the sheet, those at its end too whose cells are all empty to calamine (formulas without result)."""
    rows = sheet.to_python(skip_empty_area=False)
    yield from rows
    width = len(rows[0]) if rows else written.last_column
    yield from ([""] * width for _ in range(len(rows), written.last_row))


def _near_enough(written: Written) -> None:
    """Refuses a sheet with a cell far from all others: it is a slip of the hand, and what lies between would be read as rows."""
    where = None
    if written.gap > _BLANK_ROWS:
        where = f"ô {written.after_gap}, sau {written.gap} dòng trống"
    elif written.last_row * written.last_column > _MOST_CELLS:
        where = f"ô xa nhất ở dòng {written.last_row}, cột {written.last_column}"
    if where:
        raise Unreadable(
            Problem(
                "far_cell",
                "Trang tính có ô lạc ở rất xa các ô khác",
                f"các dòng liền nhau, cách nhau không quá {_BLANK_ROWS} dòng trống",
                where,
                "Xóa ô đó (chọn các dòng, cột thừa rồi Delete), lưu lại và gửi lại",
            )
        )


def _as_written(contract: Contract, places: dict[str, int], column: int, cell: Cell, value: Any) -> Any:
    """What an odd cell says: an error or a formula without result is no value; a number is what is shown of it, or refused where that is unsure."""
    if cell.problem:
        return _Odd(cell.text, cell.problem)
    named = [c for c in (_column_of(contract, n) for n, p in places.items() if p == column) if c is not None]
    figures = [c for c in named if c.is_figure]
    if cell.raised:  # a name is told by its bare letters (P-PO43-), however it is set
        return cell.text if figures else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    worded = cell.worded[0 if value > 0 else 1 if value < 0 else 2]
    if worded and not figures:
        return worded
    if named and (cell.scaled or (worded is not None and (figures or not cell.code))):
        return _Odd(f"{value} ({cell.form})", "cell_format")
    if cell.percent:
        percent = Decimal(repr(value)) * 100
        if figures and all((c.source_unit or c.unit) == "share" for c in figures):
            return value
        if figures and all((c.source_unit or c.unit) == "percent" for c in figures):
            return float(percent)
        shown = f"{percent.normalize():f}%"
        return _Odd(shown, "cell_format") if figures else shown
    if cell.code and not figures and value == int(value):
        return as_code(cell.code, int(value))
    return value


def _column_of(contract: Contract, name: str) -> Column | None:
    """The column that a reader's column feeds: its own, or of a wide export that of the values."""
    if contract.unpivot is not None and name in contract.unpivot.columns:
        return contract.columns.get(contract.unpivot.value)
    return contract.columns.get(name)


def _refuses_merged(contract: Contract, name: str) -> bool:
    column = _column_of(contract, name)
    if column is None:
        return False
    if column.merged is not None:
        return column.merged == "refuse"
    return column.is_figure and name not in (*contract.key, *contract.scope)


def _headings(found: list[str], merged: _Merged) -> list[str]:
    """Headers of the header row; where one stands twice, each with the heading merged over it: `Giấy chứng nhận / Số`."""
    times = Counter(fold(h) for h in found)
    return [f"{merged.parent(i)} / {h}" if h and times[fold(h)] > 1 and merged.parent(i) else h for i, h in enumerate(found)]


def _xlsx_table(contract: Contract, header: list[str], places: dict[str, int], records: list[tuple[int, list[Any]]]) -> dict[str, pa.Array]:
    text = pa.large_string()
    rows = [cells for _, cells in records]
    named = [(i, h or f"cột {i + 1}") for i, h in enumerate(header)]
    wanted = sorted(set(places.values()))

    def problem(cells: list[Any]) -> str | None:
        if isinstance(cells[0], _Odd) and cells[0].problem == "cell_unread":
            return "cell_unread"
        return next(
            (
                c.problem if isinstance(c, _Odd) else "formula_error"
                for c in (cells[p] for p in wanted)
                if isinstance(c, _Odd) or (type(c) is str and c in _ERRORS)
            ),
            None,
        )

    table = {
        "_line": pa.array([line for line, _ in records], pa.int32()),
        "_raw": pa.array([json.dumps({h: c[i] for i, h in named if c[i] != ""}, ensure_ascii=False, default=str) for c in rows], text),
        "_problem": pa.array([problem(c) for c in rows], text),
    }
    forms = {f"= {h}": form for c in contract.columns.values() for h, form in _forms(c)}
    for name, place in places.items():
        spell = _spelling(contract, _column_of(contract, name), forms.get(name))
        table[name] = pa.array([spell(cells[place]) for cells in rows], text)
    return table


def _forms(column: Column) -> list[tuple[str, str]]:
    """How a date or a time stands in each part of a joined column: as in the piece of its format at that place."""
    pieces = (column.format or "").split("|")[0].split(column.join_with)
    return list(zip(column.join, pieces, strict=True)) if column.join and len(pieces) == len(column.join) else []
