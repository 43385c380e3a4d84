"""CSV: every value as text in the contract's own spelling.

Cut with numpy: separators and quotes are found over a block of bytes, fields are Arrow columns that point into it, no
Python loop over rows. Only a file with quotes that RFC 4180 does not know is read record by record.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.contract import Contract
from ingestion.encodings import decode
from ingestion.model import Delivery, Problem
from ingestion.readers.rows import ROWS, Unreadable, no_header, places_of, stream_of

_BLOCK = 8 << 20
_LONGEST_RECORD = 64 << 20
_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"


def _text_blocks(contract: Contract, delivery: Delivery, unended: list[str]) -> Iterator[bytes]:
    """The file as UTF-8, line ends as LF, in blocks that end with a line; raises Unreadable for what is no text.

    A file whose last line has no end is named in `unended` before its last block comes; the line gets an end.
    """
    one_byte = not contract.format.encoding.startswith("utf-8")
    rest, position, seen_letters, seen_text = b"", 0, False, False
    with stream_of(delivery) as file:
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


class StrayQuote(Exception):
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
                raise StrayQuote
            follow = closing[closing + 1 < len(a)] + 1
            if not np.all(separator[follow] | mark[follow]):
                raise StrayQuote
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


def csv_tables(contract: Contract, delivery: Delivery) -> Iterator[dict[str, pa.Array]]:
    """Tables of a file, a block each. Raises Unreadable, and StrayQuote where `loose_csv_tables` has to read it."""
    width, places, unended = 0, dict[str, int](), list[str]()
    held: dict[str, pa.Array] | None = None
    for before, cut in _records(contract, delivery, unended):
        if before == 0:
            header = cut.record(0)
            width, places = len(header), places_of(contract, header)
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
        raise Unreadable(no_header(contract))
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


def loose_csv_tables(contract: Contract, delivery: Delivery) -> Iterator[dict[str, pa.Array]]:
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
            width, places = len(fields or ()), places_of(contract, fields or [])
        elif fields is None or any(fields):
            records.append((number + contract.format.header_row, raw, fields))
        if len(records) > ROWS:
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
