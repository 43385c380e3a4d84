"""What a sheet of an XLSX says beside its values, read from its XML before and apart from calamine (ECMA-376, part 1, 18.3 and 18.8).

Which rows hold something at all (a count that the reader's rows must agree with), where the last cell lies, which formulas failed or were never
computed, and which numbers are shown as another figure than they hold (92 % is stored as 0.92; the 3 of 10³ is a 3 with a style). Rows are looked into only where something odd may be.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, BinaryIO
from xml.etree import ElementTree

from ingestion.cast import INVISIBLE, as_python

_BLOCK = 1 << 20
_LONGEST_ROW = 64 << 20
_MOST_STYLES = 64 << 20
_SHEET = re.compile(rb"<(\w+:)?sheetData\b")
_ROW_NUMBER = re.compile(rb'<(?:\w+:)?row\b[^>]*?\br="(\d+)"')
_CELL_NAME = re.compile(rb'\b([A-Z]+)\d+(?=")')
_CELL = re.compile(rb"<(?:\w+:)?c\b((?:[^>\"]|\"[^\"]*\")*?)(?:/>|>(.*?)</(?:\w+:)?c>)", re.DOTALL)
_VALUE = re.compile(rb"<(?:\w+:)?v\b[^>]*>([^<]+)<")
_FIGURE = re.compile(rb'<(?:\w+:)?c\b(?![^>]*\bt="(?:s|str|inlineStr)")[^>]*[^>/]>\s*(?:<(?:\w+:)?f\b.*?)?<(?:\w+:)?v>[^<]')
"""A cell with a number (a text may be an empty one, which is nothing)."""
_FORMULA = re.compile(rb"<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>([^<]*)<)")
_ATTRIBUTE = re.compile(rb'\b([\w:]+)="([^"]*)"')
_QUOTED = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_SCALED = re.compile(r"[0#?],+(?![0#?,])")
_SECTIONS = re.compile(r'(?:^|(?<=;))((?:"[^"]*"|\\.|[^;"\\])*)')
_CONDITION = re.compile(r"\[[<>=]")
_TOKEN = re.compile(r'"([^"]*)"|\\(.)|\[\$([^\]-]*)[^\]]*\]|\[[^\]]*\]|[_*].|([0#?.,@%]|general|e[+-])|(.)', re.IGNORECASE | re.DOTALL)
_DATE = re.compile(r"[ymdhs]", re.IGNORECASE)
_CURRENCY = re.compile(r"[$€£¥₫]|đ|vnđ|vnd|usd|đồng", re.IGNORECASE)
_OTHER = re.compile(
    r"^[\s(]*[.,']?\s*\d|^e[+-]?\d|[<>≤≥≈~]|trăm|ngh[iì]n|ng[aà]n|ngđ|nđ|tri[eệ]u|\btr\b|trđ|\bt[yỷỉ]\b|t[yỷỉ]đ|vạn|chục|(?-i:^\s*M\s*$)"
    r"|hundred|thousand|million|billion|\bk\b|[x×*·]\s*10|10\s*[\^⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]",
    re.IGNORECASE,
)
"""What makes another figure of the number before it: figures that go on, words, bounds."""
_DASHES = re.compile(r"[-–—\s]*")
_CODE = re.compile(r"[0#?]+")
_BUILT_IN = {9: "0%", 10: "0.00%"}
_RUN = re.compile(rb"<(?:\w+:)?r(?:\s[^>]*)?>(.*?)</(?:\w+:)?r>", re.DOTALL)
_RUN_TEXT = re.compile(rb"<(?:\w+:)?t(?:\s[^>]*)?>([^<]*)<")
_RAISED = re.compile(rb'<(?:\w+:)?vertAlign\b[^>]*"(superscript|subscript)"')
_EXPONENT = re.compile(r"[+\-−]?\d+")
_INVISIBLE = re.compile(as_python(INVISIBLE))
_UP, _DOWN = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻"), str.maketrans("0123456789+-−", "₀₁₂₃₄₅₆₇₈₉₊₋₋")


class NotReadable(Exception):
    """No workbook of Open XML, or one that is damaged."""


Worded = tuple[str | None, str | None, str | None]


@dataclass(frozen=True)
class Cell:
    """An odd cell. `problem` where it holds no value; else how its number is shown."""

    text: str = ""
    problem: str | None = None
    percent: bool = False
    scaled: bool = False
    code: tuple[str, ...] = ()
    """The pieces of an integer format of a code (`0"/QĐ-UBND"`, `0000 000 000`): runs of placeholders, and what stands between."""
    worded: Worded = (None, None, None)
    """What is shown of a number above, below and at zero where that is no writing of it: the text (`KPH` of `"KPH"`), or '' where it hangs on the
    number (`<5.0` of `\\<0.0`, `500` of `0"00"`, `5 nghìn`). None: the number, with a unit or without."""
    form: str = ""
    raised: bool = False
    """`text` has digits that stand above or below a digit, as the letters for that; its bare text reads 10³ as 103."""


@dataclass
class Written:
    """Rows count from 0; `rows` hold something that is no text. `gap` is the longest run of rows without a value between two that hold one, `after_gap` the first cell behind it."""

    rows: set[int] = field(default_factory=set)
    odd: dict[int, dict[int, Cell]] = field(default_factory=dict)
    last_row: int = 0
    last_column: int = 0
    gap: int = 0
    after_gap: str = ""


def column_number(letters: bytes) -> int:
    """Number from 0 of the column `A`, `XFD`."""
    return functools.reduce(lambda n, c: n * 26 + c - 64, letters, 0) - 1


def look(file: BinaryIO, choose: Callable[[dict[str, bool]], str]) -> Written:
    """Reads the sheet that `choose` picks among {name: is a visible sheet of cells}. Raises NotReadable; memory is that of one row."""
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            workbook = ElementTree.fromstring(archive.read("xl/workbook.xml"))
            relations = {r.get("Id"): r for r in ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))}
            sheets, parts = {}, {}
            for sheet in workbook.iter():
                if sheet.tag.rpartition("}")[2] == "sheet":
                    relation = relations[next(v for k, v in sheet.items() if k.endswith("}id"))]
                    name = sheet.get("name", "")
                    sheets[name] = relation.get("Type", "").endswith("/worksheet") and sheet.get("state", "visible") == "visible"
                    parts[name] = relation.get("Target", "")
            part = parts[choose(sheets)]
            untrusted = any(
                e.tag.rpartition("}")[2] == "calcPr" and e.get("fullCalcOnLoad", "0") in ("1", "true") and not _computed_by_excel(archive)
                for e in workbook.iter()
            )
            with archive.open(part.lstrip("/") if part.startswith("/") else f"xl/{part}") as xml:
                return _scan(xml, _shown(archive), _raised_texts(archive), untrusted)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, StopIteration, ElementTree.ParseError, NotImplementedError, RuntimeError) as error:
        raise NotReadable(str(error) or type(error).__name__) from error


def _computed_by_excel(archive: zipfile.ZipFile) -> bool:
    """A chain of calculation is written by programs that computed the sheet; libraries that only write formulas leave none."""
    return "xl/calcChain.xml" in archive.namelist()


def _shown(archive: zipfile.ZipFile) -> dict[bytes, Cell]:
    """Styles (numbers of cellXfs) that show a number as another: percent, thousands cut off, codes filled with zeros."""
    try:
        if archive.getinfo("xl/styles.xml").file_size > _MOST_STYLES:
            raise NotReadable("xl/styles.xml is larger than any sheet needs")
        styles = ElementTree.fromstring(archive.read("xl/styles.xml"))
    except KeyError:
        return {}
    own: dict[int, str] = {}
    odd: dict[bytes, Cell] = {}
    for element in styles.iter():
        tag = element.tag.rpartition("}")[2]
        if tag == "numFmt" and element.get("numFmtId", "").isdigit():
            own[int(element.get("numFmtId", "0"))] = element.get("formatCode", "")
        elif tag == "cellXfs":
            for number, style in enumerate(element):
                code = int(style.get("numFmtId") or 0)
                form = own.get(code, _BUILT_IN.get(code, ""))
                bare = _QUOTED.sub("", form)
                cell = Cell(form=form, percent="%" in bare, scaled=bool(_SCALED.search(bare)), code=_code(form), worded=_worded(form))
                if cell.percent or cell.scaled or cell.code or any(w is not None for w in cell.worded):
                    odd[str(number).encode()] = cell
    return odd


def _raised_texts(archive: zipfile.ZipFile) -> dict[bytes, Cell]:
    """The shared texts, by number, in which a digit stands above or below a digit."""
    odd: dict[bytes, Cell] = {}
    try:
        file = archive.open("xl/sharedStrings.xml")
    except KeyError:
        return odd
    with file:
        rest, number = b"", 0
        while block := file.read(_BLOCK):
            *texts, rest = re.split(rb"</(?:\w+:)?si>|<(?:\w+:)?si\s*/>", rest + block)
            if len(rest) > _LONGEST_ROW:
                raise NotReadable(f"a text of more than {_LONGEST_ROW >> 20} MB")
            for at, text in enumerate(texts, number):
                if b"vertAlign" in text and (shown := _raised(text)):
                    odd[b"%d" % at] = Cell(shown, raised=True)
            number += len(texts)
    return odd


def _raised(text: bytes) -> str | None:
    """A text of several runs with the figures of runs above or below the line as such letters, where they follow a figure; None where none does."""
    runs: list[tuple[bytes, str]] = []
    for run in _RUN.findall(text):
        style = _RAISED.search(run)
        placed, part = (
            style[1] if style else b"",
            _INVISIBLE.sub("", html.unescape("".join(t.decode("utf-8", "replace") for t in _RUN_TEXT.findall(run)))),
        )
        if runs and runs[-1][0] == placed:  # a writer may cut a text anywhere
            part = runs.pop()[1] + part
        runs.append((placed, part))
    shown, found = "", False
    for placed, part in runs:
        if placed and shown[-1:].isdigit() and _EXPONENT.match(part):
            found = True
            shown += part.translate(_UP if placed == b"superscript" else _DOWN)
        else:
            shown += part
    return shown if found else None


def _code(form: str) -> tuple[str, ...]:
    """`Cell.code` of a number format: none where it only writes an integer."""
    pieces: list[str] = []
    sections = _SECTIONS.findall(form)
    for quoted, escaped, currency, placeholder, bare in _TOKEN.findall(sections[0] if sections else ""):
        if placeholder and not _CODE.fullmatch(placeholder):
            return ()
        if not placeholder and bare and _DATE.match(bare):
            return ()
        text = placeholder or quoted or escaped or currency or bare
        if pieces and bool(_CODE.fullmatch(pieces[-1])) == bool(placeholder):
            pieces[-1] += text
        elif text:
            pieces.append(text)
    runs = [p for p in pieces if _CODE.fullmatch(p)]
    return tuple(pieces) if runs and (len(pieces) > 1 or (len(runs[0]) > 1 and "0" in runs[0])) else ()


def as_code(code: tuple[str, ...], value: int) -> str:
    """An integer as the format of a code shows it: its digits fill the placeholders from the right, those that are left stand at the first."""
    digits, shown, waiting = str(abs(value)), "", sum(len(p) for p in code if _CODE.fullmatch(p))
    for piece in reversed(code):
        if not _CODE.fullmatch(piece):
            shown = piece + shown
            continue
        for placeholder in reversed(piece):
            waiting -= 1
            if digits:
                taken = digits if not waiting else digits[-1]
                digits = digits[: len(digits) - len(taken)]
                shown = taken + shown
            elif placeholder == "0":
                shown = "0" + shown
    return ("-" if value < 0 else "") + shown.strip()


def _worded(form: str) -> Worded:
    """`Cell.worded` of a number format. Literals that only name a unit (`0.0" mg/L"`, `#,##0" m2"`) leave the number as it is.

    Sections by sign as ECMA-376 part 1, 18.8.31 has them; where they have conditions of their own, each counts for every number.
    """
    sections = _SECTIONS.findall(form)[:3] if form else []
    if not sections:
        return (None, None, None)
    said = [_shown_as(section, at) for at, section in enumerate(sections)]
    if _CONDITION.search(form):
        any_number = None if set(said) == {None} else ""
        return any_number, any_number, any_number
    positive, negative, zero = (said + [said[0]] * 3)[:3]
    return positive, negative, zero


_SIGNS = (("", "+"), ("", "+", "-"), ("", "+", "-"))
"""What may stand before a number above, below and at zero (a dash for nothing, as accountants write it) without making it another."""


def _shown_as(section: str, at: int) -> str | None:
    """A section of a number format: None where it writes the number, else the text that it shows, or '' where that hangs on the number."""
    literals, figures = [""], False
    for quoted, escaped, currency, placeholder, bare in _TOKEN.findall(section):
        if placeholder:
            if not figures or literals[-1]:
                literals.append("")
            figures = True
        elif bare and _DATE.match(bare):
            return None  # a moment: it is read as one
        else:
            literals[-1] += quoted or escaped or currency or bare
    before, *between, after = (unicodedata.normalize("NFC", text).strip() for text in (*literals, "")[: max(2, len(literals))])
    if not figures:
        return None if at == 2 and _DASHES.fullmatch(_CURRENCY.sub("", before)) else before or None  # a dash for nothing
    sign = _CURRENCY.sub("", before).replace("(", "").strip()
    one_number = sign in _SIGNS[at] and all(text in ("", "/") for text in between) and not _OTHER.search(after)
    return None if one_number and not literals[-1][:1].isdigit() else ""


def _pieces(xml: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Whole rows of the sheet, a block at a time, with the prefix of its elements (`x:` or none)."""
    rest, prefix = b"", None
    while block := xml.read(_BLOCK):
        rest += block
        if prefix is None:
            if not (head := _SHEET.search(rest)):
                continue
            prefix = head[1] or b""
        end = b"</" + prefix + b"row>"
        cut = rest.rfind(end)
        if cut >= 0:
            cut += len(end)
            yield rest[:cut], prefix
            rest = rest[cut:]
        elif len(rest) > _LONGEST_ROW:
            raise NotReadable(f"a row of more than {_LONGEST_ROW >> 20} MB")


def _scan(xml: IO[bytes], shown: dict[bytes, Cell], raised: dict[bytes, Cell], untrusted: bool) -> Written:
    """`untrusted`: results of formulas were put there by a program that does not compute."""
    found = Written()
    styles = [b"vertAlign", *(b's="' + style + b'"' for style in shown), *([b't="s"'] if raised else [])]
    number, before = -1, -1
    for block, prefix in _pieces(xml):
        start, formula = b"<" + prefix + b"row", b"<" + prefix + b"f"
        marks = (b"<" + prefix + b"v", b"<" + prefix + b"is", formula)
        # most blocks have nothing odd, and searching for plain bytes costs next to nothing
        looked_into = [m for m in (b't="e"', formula, *styles) if m in block]
        for text in block.split(b"</" + prefix + b"row>")[:-1]:
            at = text.rfind(start)
            named = _ROW_NUMBER.match(text, at, at + 500)
            # rows that are empty close themselves, and count where none says its number
            after = int(named[1]) - 1 if named else number + text.count(start)
            if after <= number:  # to a reader the later of two rows 2 is the only one
                raise NotReadable(f"row {after + 1} stands after row {number + 1}")
            number = after
            if not any(m in text for m in marks):
                continue
            odd = _odd_cells(text, shown, raised, untrusted) if any(m in text for m in looked_into) else {}
            figure = bool(odd or _FIGURE.search(text))
            if not (figure or marks[1] in text or _VALUE.search(text)):
                continue  # values that are empty
            if odd:
                found.odd[number] = odd
            if figure:
                found.rows.add(number)
            if before >= 0 and number - before - 1 > found.gap:
                first = _CELL_NAME.search(text)
                found.gap, found.after_gap = number - before - 1, first[0].decode() if first else f"dòng {number + 1}"
            found.last_row, before = number + 1, number
            last = _CELL_NAME.search(text, text.rfind(b"<" + prefix + b"c "))
            found.last_column = max(found.last_column, column_number(last[1]) + 1 if last else 0)
    return found


def _odd_cells(row: bytes, shown: dict[bytes, Cell], raised: dict[bytes, Cell], untrusted: bool) -> dict[int, Cell]:
    odd: dict[int, Cell] = {}
    place = -1
    for attributes, content in _CELL.findall(row):
        said = dict(_ATTRIBUTE.findall(attributes))
        letters = said.get(b"r", b"").rstrip(b"0123456789")
        place = column_number(letters) if letters else place + 1
        value, formula = _VALUE.search(content), _FORMULA.search(content)
        if said.get(b"t") == b"e":
            odd[place] = Cell(value[1].decode() if value else "#?", "formula_error")
        elif formula and ((value is None and said.get(b"t") != b"str") or untrusted):
            odd[place] = Cell("=" + (formula[1] or b"").decode("utf-8", "replace"), "formula_not_computed")
        elif value and said.get(b"t", b"n") == b"n" and said.get(b"s") in shown:
            odd[place] = shown[said[b"s"]]
        elif value and said.get(b"t") == b"s" and value[1] in raised:
            odd[place] = raised[value[1]]
        elif said.get(b"t") == b"inlineStr" and b"vertAlign" in content and (text := _raised(content)):
            odd[place] = Cell(text, raised=True)
    return odd
