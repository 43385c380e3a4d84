"""XLSX: what a workbook shows, cell by cell, as text in the contract's own spelling; what it does not show as it holds it is refused."""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

import pyarrow as pa
import python_calamine

from ingestion.cast import figure
from ingestion.contract import Column, Contract
from ingestion.model import Delivery, Problem
from ingestion.readers import fold, guard
from ingestion.readers.rows import ROWS, Unreadable, no_header, places_of, stream_of
from ingestion.readers.sheet_xml import Cell, NotReadable, Written, as_code, look

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


def xlsx_tables(contract: Contract, delivery: Delivery) -> Iterator[dict[str, pa.Array]]:
    """Tables of the sheet that the contract means. Raises Unreadable."""
    with stream_of(delivery) as file:
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
            places = places_of(contract, header)
            merged.refuse_figures(p for name, p in places.items() if _refuses_merged(contract, name))
        elif row >= header_row and not blank:
            records.append((row + 1, cells))
        if len(records) == ROWS:
            yield _xlsx_table(contract, header, places, records)
            records = []
    if not header:
        raise Unreadable(no_header(contract))
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
