"""From text to types, as the contract says; nothing is judged but whether the text can be read at all.

Makes the view `into` with the contract's columns typed, the lineage columns, and for each row `_reasons`
(codes of what cannot be read: the row is quarantined), `_details` (what, expected, found) and `_notes` (columns
that became NULL because the contract tolerates unreadable text there).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import duckdb

from ingestion import crs as systems
from ingestion.contract import Column, Contract
from ingestion.units import conversion
from quality.rules import flags

LINEAGE = ("_source", "_delivery_id", "_line", "_as_of", "_received_at")
LOCAL_OFFSET_HOURS = 7
"""All times of the lake are GMT+7 (Vietnam has no daylight saving time)."""

ISO_FORMATS = ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S"]
_TEXT = "VARCHAR"
TRIMMING_READERS = ("station_txt",)
"""Readers whose texts come without blanks around them, millions a day: of those only letters beyond ASCII are looked at."""
NOT_BEFORE, NOT_AFTER = date(1900, 1, 1), date(2099, 12, 31)
"""Bounds of every date and timestamp for which its contract states none: 0026 and 20226 are slips of the pen."""
SPELLED = ("parameter", "unit")
"""Texts of readings that are cleaned where their few spellings are resolved (reading.sql), not row by row."""
_DEFAULT_FORMATS = {
    "date": "%Y-%m-%d|%d/%m/%Y|%Y-%m-%d %H:%M:%S",
    "timestamp": "%Y-%m-%d %H:%M:%S|%Y-%m-%dT%H:%M:%S|%Y-%m-%d %H:%M|%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M",
}


PROBLEMS = {
    "line_malformed": "dòng không tách được thành các cột",
    "line_cut": "dòng cuối không có dấu xuống dòng, có thể bị cắt cụt: gửi lại tệp đầy đủ",
    "fields_too_few": "dòng có ít ô hơn tiêu đề (thiếu dấu phân cách): thêm cho đủ dấu phân cách, kể cả ô trống ở cuối dòng",
    "fields_too_many": "dòng có nhiều ô hơn tiêu đề (thừa dấu phân cách)",
    "quote_stray": "có chữ sau dấu nháy đóng: đặt cả ô trong nháy, nháy bên trong viết hai lần",
    "lines_joined": "dấu nháy nối nhiều dòng thành một ô, mỗi dòng lại đủ cột như một bản ghi: bỏ dấu nháy thừa",
    "formula_error": "ô có công thức bị lỗi",
    "formula_not_computed": "ô có công thức chưa được tính: mở tệp bằng Excel, lưu lại rồi gửi",
    "cell_format": "ô hiển thị khác với số được lưu (phần trăm, bỏ bớt hàng nghìn, chữ hoặc dấu <, > của định dạng): nhập số và đơn vị rõ ràng",
    "merged_quantity": "số nằm trong ô gộp nhiều dòng: tách ô, ghi số của từng dòng",
    "cell_unread": "dòng có dữ liệu mà không đọc được",
}
"""What a reader says of a row, in the sender's words."""


@dataclass(frozen=True)
class Flag:
    """What may be wrong with a row, as SQL over its typed columns: when, its code, and what to tell the sender."""

    when: str
    code: str
    detail: str = "NULL"


def literal(value: object) -> str:
    """A Python value as an SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float | Decimal):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _list(values: tuple[str, ...] | list[str]) -> str:
    return "[" + ", ".join(literal(v) for v in values) + "]"


def number_pattern(decimal: str | None, thousands: str) -> str:
    """Regular expression (RE2, the whole text) of the numbers that are read; the one grammar, whatever the format of the file.

    A sign, digits 0 to 9, at most one decimal sign with digits behind it (before it there may be none: `.21`), an exponent (`1.2E+03`).
    Separators of thousands stand where the contract names them, in groups of three. Where it names no decimal sign, `1.250` and `1,250`
    could be either figure and are not read. Never: `1_000`, `0x10`, `inf`, `nan`, `5.`, full-width digits.
    """
    if thousands or decimal in (".", ","):
        sign = decimal if decimal in (".", ",") else {".": ",", ",": "."}.get(thousands, ".,")
        whole = f"([0-9]+|[1-9][0-9]{{0,2}}([{thousands}][0-9]{{3}})+)" if thousands else "[0-9]+"
        number = f"({whole}([{sign}][0-9]+)?|[{sign}][0-9]+)"
    else:
        either = "," if decimal == "any" else ".,"
        point = "[0-9]*[.][0-9]+|" if decimal == "any" else ""
        number = f"([0-9]+|{point}(0[0-9]*|[0-9]{{4,}})?[{either}][0-9]+|[0-9]{{1,3}}[{either}]([0-9]{{1,2}}|[0-9]{{4,}}))"
    return f"[+-]?{number}([eE][+-]?[0-9]{{1,2}})?"


def figure(value: int | float | Decimal) -> str:
    """A number as a text that `number_pattern` reads as itself whatever the contract says of thousands: 2.345 with a fourth decimal."""
    text = str(int(value)) if value == int(value) else format(Decimal(repr(value)) if isinstance(value, float) else value, "f")
    return text + "0" if re.fullmatch(r"-?\d{1,3}\.\d{3}", text) else text


def number_text(text: str, decimal: str | None, thousands: str) -> str:
    """SQL for the trimmed text of a number as CAST reads it, or NULL where it is none by `number_pattern`."""
    plain = f"replace({text}, {literal(thousands)}, '')" if thousands else text
    if decimal != "." and thousands != ",":
        plain = f"replace({plain}, ',', '.')"
    return f"CASE WHEN regexp_full_match({text}, {literal(number_pattern(decimal, thousands))}) THEN {plain} END"


INVISIBLE = "[\\x{00AD}\\x{180E}\\x{200B}-\\x{200F}\\x{202A}-\\x{202E}\\x{2060}-\\x{2064}\\x{FEFF}]"
"""Letters that no screen shows: soft hyphen, joiners, marks of direction, byte order mark."""
BLANKS = "[\\x{0085}\\x{00A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}]"
_EDGES = "' ' || chr(9) || chr(10) || chr(13)"
CLEAN_TEXT = f"""CREATE OR REPLACE TEMP MACRO clean_text(t) AS CASE
    WHEN strlen(t) <> length(t) THEN
        trim(nfc_normalize(regexp_replace(regexp_replace(t, '{INVISIBLE}', '', 'g'), '{BLANKS}', ' ', 'g')), {_EDGES})
    -- most texts are ASCII on one line, for which little is needed
    WHEN contains(t, chr(9)) OR contains(t, chr(10)) OR contains(t, chr(13)) THEN trim(t, {_EDGES})
    ELSE trim(t) END"""


def as_python(letters: str) -> str:
    """A class of letters as Python's `re` writes it."""
    return re.sub(r"\\x\{(\w+)\}", r"\\u\1", letters)


def clean_text(text: str) -> str:
    """A text of a contract in the form in which texts are compared: NFC, one blank between words, no invisible letters."""
    for letters, instead in ((INVISIBLE, ""), (BLANKS, " ")):
        text = re.sub(as_python(letters), instead, text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def _shift(contract: Contract) -> str | None:
    """SQL template that turns a stamp of the sender's zone into GMT+7, or None where it is one already."""
    zone = contract.time.zone
    if match := re.fullmatch(r"([+-])(\d{2}):(\d{2})", zone):
        sign, hours, minutes = match.groups()
        offset = (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1)
        delta = LOCAL_OFFSET_HOURS * 60 - offset
        return f"({{}} + INTERVAL ({delta}) MINUTE)" if delta else None
    if zone in ("Asia/Ho_Chi_Minh", "Asia/Saigon", "Etc/GMT-7"):
        return None
    return f"timezone('Etc/GMT-{LOCAL_OFFSET_HOURS}', timezone({literal(zone)}, {{}}))"


def _shifted(contract: Contract, kind: str, expr: str) -> str:
    """A stamp without an offset in GMT+7; a date alone has no zone."""
    shift = _shift(contract) if kind == "timestamp" else None
    return shift.format(expr) if shift else expr


def _here(instant: str) -> str:
    """SQL for an instant as GMT+7, whatever the zone of session and machine."""
    return f"make_timestamp(epoch_us({instant}) + {LOCAL_OFFSET_HOURS * 3_600_000_000})"


def _at_end(contract: Contract, name: str, expr: str) -> str:
    if contract.time.stamp == "start" and name == "measured_at":
        return f"({expr} + INTERVAL {contract.time.span_minutes} MINUTE)"
    return expr


_FIGURES = re.compile(r"(?:%[YymdHMS])+")


def figures_touch(form: str) -> bool:
    """Whether figures of a format stand without a sign between them: they are told apart by their places then, and one less is another moment."""
    return any(len(run) > 2 for run in _FIGURES.findall(form))


def _whole(text: str, form: str) -> str | None:
    """SQL condition that figures which touch are all there; None where none do."""
    if not figures_touch(form):
        return None
    if _FIGURES.fullmatch(form):
        return f"strlen({text}) = {_places(form)}"
    pieces = re.split(rf"({_FIGURES.pattern}|%.)", form)
    # figures alone, and what else is read there, may be of any length
    pattern = "".join(
        (f"[0-9]{{{_places(piece)}}}" if len(piece) > 2 else ".*") if piece.startswith("%") else re.escape(piece) for piece in pieces if piece
    )
    return f"regexp_full_match({text}, {literal(pattern)})"


def _places(run: str) -> int:
    return 2 * run.count("%") + 2 * run.count("%Y")


def _parsed(text: str, formats: list[str]) -> str:
    """SQL for a text as a moment by the first of the formats that reads it."""
    # one parse for each distinct stamp would need a join; a single format is DuckDB's fast path
    found, open_ones = [], list[str]()
    for form in [*formats, None]:
        whole = _whole(text, form) if form is not None else None
        if form is not None and whole is None:
            open_ones.append(form)
            continue
        if open_ones:
            found.append(f"try_strptime({text}, {_one_or_list(open_ones)})")
            open_ones = []
        if form is not None:
            found.append(f"CASE WHEN {whole} THEN try_strptime({text}, {literal(form)}) END")
    return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"


def _moment(contract: Contract, column: Column, text: str) -> str:
    """SQL for a text as TIMESTAMP in GMT+7: by its own offset where the format has one (%z), else by the contract's zone."""
    formats = (column.format or _DEFAULT_FORMATS[column.type]).split("|")
    zoned = [f for f in formats if "%z" in f]
    plain = [f for f in formats if "%z" not in f]
    if column.format and contract.format.reader == "xlsx":
        plain += ISO_FORMATS  # a cell that Excel knows to be a date comes as ISO text, whatever the others hold
    found = []
    if zoned:
        offset = f"regexp_replace({text}, '[zZ]$', '+00:00')"
        found.append(_here(_parsed(offset, zoned)))
    if plain:
        found.append(_shifted(contract, column.type, _parsed(text, plain)))
    return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"


def _one_or_list(formats: list[str]) -> str:
    return literal(formats[0]) if len(formats) == 1 else _list(formats)


def _our_code(column: Column, text: str) -> str:
    """SQL for the code that `values` or `patterns` give a text, or the text itself."""
    once = f"CASE WHEN contains({text}, '  ') THEN regexp_replace({text}, ' +', ' ', 'g') ELSE {text} END"
    codes = {clean_text(theirs): ours for theirs, ours in column.values.items()}
    found = [f"map({_list(list(codes))}, {_list(list(codes.values()))})[{once}]"] if codes else []
    found += [f"CASE WHEN regexp_full_match({text}, {literal(p)}) THEN {literal(ours)} END" for p, ours in column.patterns.items()]
    return f"coalesce({', '.join([*found, text])})"


def _as_sent(source: str, native: str) -> str:
    """SQL for a geometry in the coordinates of its file."""
    return f"ST_Force2D({source if native.startswith('GEOMETRY') else f'ST_GeomFromWKB({source})'})"


def has_own_area(contract: Contract, crs: str) -> bool:
    """Whether shapes come in another projection than the lake's, `crs`: an area there is another one (up to 4 m² a hectare between zones)."""
    system = systems.parse(contract.format.crs) if contract.format.crs and "geometry" in contract.columns else None
    return system is not None and system.is_projected and contract.format.crs != crs


def _value(contract: Contract, name: str, column: Column, source: str, native: str, crs: str) -> str:
    """SQL expression of one column in its type; NULL where the text, which is trimmed, cannot be read."""
    kind = column.type
    is_text = native == _TEXT
    if kind == "geometry":
        geometry = _as_sent(source, native)
        if contract.format.crs and contract.format.crs != crs:
            return f"ST_Transform({geometry}, {literal(contract.format.crs)}, {literal(crs)}, always_xy := true)"
        return geometry
    text = source
    if column.values or column.patterns:
        text = _our_code(column, f"CAST({text} AS VARCHAR)")
        is_text = True
    if kind == "text":
        expr = text if is_text else f"CAST({text} AS VARCHAR)"
        if not is_text and native in ("DOUBLE", "FLOAT"):
            # a code that a workbook keeps as a number: 25195.0 was typed as 25195
            expr = f"regexp_replace({expr}, '\\.0$', '')"
        if name in contract.key:
            expr = f"CASE WHEN contains({expr}, '  ') THEN regexp_replace({expr}, ' +', ' ', 'g') ELSE {expr} END"
        if column.normalise == "upper":
            expr = f"upper({expr})"
        elif column.normalise == "serial":
            # số phát hành: upper case, without separators, one blank between letters and digits (DOMAIN 3.5)
            expr = f"regexp_replace(regexp_replace(upper({expr}), '[^A-Z0-9]', '', 'g'), '^([A-Z]+)([0-9]+)$', '\\1 \\2')"
        elif column.normalise == "path":
            # a list of paths, each without its numbers, once, in order
            paths = f"list_transform(regexp_split_to_array({expr}, '[;\\n]'), lambda p: trim(regexp_replace(p, '[.][^|]*', '', 'g')))"
            expr = f"array_to_string(list_sort(list_distinct(list_filter({paths}, lambda p: p <> ''))), ';')"
        return f"nullif({expr}, '')"
    if kind == "boolean":
        if native == "BOOLEAN":
            return source
        low = f"lower(CAST({text} AS VARCHAR))"
        low = f"regexp_replace({low}, '\\.0$', '')"
        return (
            f"CASE WHEN list_contains({_list([clean_text(v) for v in column.true_values])}, {low}) THEN TRUE "
            f"WHEN list_contains({_list([clean_text(v) for v in column.false_values])}, {low}) THEN FALSE END"
        )
    if kind in ("date", "timestamp"):
        if not is_text and native == "TIMESTAMP WITH TIME ZONE":
            moment = _here(text)
        elif not is_text:
            moment = _shifted(contract, kind, f"CAST({text} AS TIMESTAMP)")
        else:
            moment = _moment(contract, column, text)
        return f"CAST({moment} AS DATE)" if kind == "date" else _at_end(contract, name, moment)
    number = number_text(text, contract.format.decimal, contract.format.thousands) if is_text else text
    if native in ("DOUBLE", "FLOAT") and not is_text:
        number = f"CASE WHEN isfinite({number}) THEN {number} END"
    if kind in ("integer", "bigint"):
        exact = f"TRY_CAST({number} AS DECIMAL(28,6))"
        return f"CASE WHEN {exact} = floor({exact}) THEN TRY_CAST({exact} AS {column.sql_type}) END"
    expr = f"TRY_CAST({number} AS {column.sql_type})"
    if column.source_unit and column.unit and (factor := conversion(column.source_unit, column.unit)) != 1:
        # 12 digits before the point times any known factor stays within 38: garbage becomes NULL, never an overflow
        digits = factor.normalize().as_tuple()
        scale = max(0, -int(digits.exponent))
        expr = f"TRY_CAST(TRY_CAST({number} AS DECIMAL(22,10)) * {factor:f}::DECIMAL({10 + scale if factor >= 1 else scale + 1},{scale}) AS {column.sql_type})"
        if kind == "double":
            expr = f"TRY_CAST({number} AS DOUBLE) * {factor:f}"
    return expr


def _bounds(column: Column) -> tuple[str, str]:
    """SQL of the least and greatest value of a date or timestamp, both included."""
    least = f"TIMESTAMP '{column.not_before or NOT_BEFORE}'"
    if column.not_after == "as_of":
        return least, "_delivery_as_of + INTERVAL 1 DAY"
    # a stamp at the very end of the last day ends it
    return least, f"TIMESTAMP '{column.not_after or NOT_AFTER}' + INTERVAL {1 if column.type == 'timestamp' else 0} DAY"


def _both_readings(contract: Contract, column: Column, found: str) -> str:
    """SQL that tells the two figures that a text such as 1.250 may be, where the contract does not say which."""
    if not column.is_figure or contract.format.thousands or contract.format.decimal in (".", ","):
        return ""
    return (
        f" || CASE WHEN regexp_full_match(CAST({found} AS VARCHAR), '[+-]?[1-9][0-9]{{0,2}}[.,][0-9]{{3}}') "
        f"THEN ' (có thể là ' || regexp_replace(CAST({found} AS VARCHAR), '[.,]', '') || ' hoặc ' || replace(CAST({found} AS VARCHAR), '.', ',') "
        "|| ': viết lại cho rõ, hoặc khai format.decimal trong hợp đồng)' ELSE '' END"
    )


def _part_of(header: str) -> str:
    return f"nullif(clean_text(r.\"= {header.replace(chr(34), chr(34) * 2)}\"), '')"


def _belongs(contract: Contract, has_problems: bool) -> str:
    """SQL condition of the rows that belong to the source; what could not be cut is none of the filter's business."""
    takes = []
    for rule in contract.rows:
        cell = f"coalesce(clean_text(r.\"= {rule.header.replace(chr(34), chr(34) * 2)}\"), '')"
        fits = (
            f"regexp_full_match({cell}, {literal(rule.pattern)})"
            if rule.pattern
            else f"list_contains({_list([clean_text(v) for v in rule.values])}, {cell})"
        )
        takes.append(f"NOT {fits}" if rule.exclude else fits)
    if not takes:
        return ""
    return f" WHERE {'r._problem IS NOT NULL OR ' if has_problems else ''}({' AND '.join(takes)})"


def cast(con: duckdb.DuckDBPyConnection, contract: Contract, raw: str, deliveries: str, into: str, crs: str) -> None:
    """Makes the view `into` over the reader's table `raw` and the batch's `deliveries` (delivery_id, as_of, received_at, day, name groups).

    Errors: none for data; whatever cannot be read is named in `_reasons`.
    """
    native = {row[0]: row[1] for row in con.execute(f"DESCRIBE {raw}").fetchall()}
    # the texts as they come, cleaned, each once: of the file's name a file, of the others a row; then their types, then what is wrong with them
    names: list[str] = []
    cells: list[str] = []
    selects: list[str] = []
    reasons: list[Flag] = []
    notes: list[Flag] = []
    if "_problem" in native:
        said = " ".join(f"WHEN {literal(code)} THEN {literal(text)}" for code, text in PROBLEMS.items())
        reasons.append(Flag("_problem IS NOT NULL", "_problem", f"CASE _problem {said} ELSE 'dòng không đọc được: ' || _problem END"))
    con.execute(CLEAN_TEXT)
    checked: dict[str, str] = {}
    own_area = has_own_area(contract, crs)
    for name, column in contract.columns.items():
        label = " + ".join(column.join) or (column.header[0] if column.header else name)
        if column.constant is not None:
            selects.append(f"CAST({literal(column.constant)} AS {column.sql_type}) AS {name}")
            continue
        if column.from_name is not None:
            source, kind = f"g_{column.from_name}", _TEXT
        elif column.join:
            source, kind = f"nullif(concat_ws({literal(column.join_with)}, {', '.join(_part_of(h) for h in column.join)}), '')", _TEXT
        elif name in native:
            source, kind = f"r.{name}", native[name]
        elif column.otherwise is not None:
            source, kind = "NULL::VARCHAR", _TEXT
        else:
            selects.append(f"CAST(NULL AS {column.sql_type}) AS {name}")
            continue
        if kind == _TEXT and not (contract.target == "reading" and name in SPELLED):
            cleaned = f"clean_text({source})"
            trimmed = contract.format.reader in TRIMMING_READERS and column.from_name is None
            source = f"CASE WHEN strlen({source}) = length({source}) THEN {source} ELSE {cleaned} END" if trimmed else cleaned
        if column.from_name is not None:
            names.append(f"{source} AS _t_{name}")
            source = f"d._t_{name}"
        cells.append(f"{source} AS _t_{name}")
        source = f"c._t_{name}"
        nothing = _list(column.null_values)
        if column.otherwise is not None:
            source = f"CASE WHEN {source} IS NULL OR list_contains({nothing}, CAST({source} AS VARCHAR)) THEN {literal(column.otherwise)} ELSE CAST({source} AS VARCHAR) END"
            kind = _TEXT
        found_text = taken = source
        if column.part is not None:
            whole, pattern = f"CAST({source} AS VARCHAR)", literal(column.part)
            taken, kind = f"CASE WHEN NOT list_contains({nothing}, {whole}) THEN nullif(trim(regexp_extract({whole}, {pattern}, 1)), '') END", _TEXT
            # where the part is empty there is nothing to read; where the pattern finds nothing, the text is what cannot be read
            found_text = f"CASE WHEN regexp_matches({whole}, {pattern}) THEN {taken} ELSE {whole} END"
        selects.append(f"{_value(contract, name, column, taken, kind, crs)} AS {name}")
        if column.type == "geometry" and own_area:
            selects.append(f"ST_Area({_as_sent(taken, kind)}) AS _own_area")
        missing = f"{name} IS NULL"
        if column.type != "geometry" and (column.type != "text" or column.part is not None):
            # what was there before it was typed
            found = f"_o_{name}"
            selects.append(f"{found_text} AS {found}")
            filled = f"{found} IS NOT NULL"
            if kind == _TEXT:
                filled += f" AND NOT list_contains({nothing}, {found})"
            unreadable = f"{name} IS NULL AND {filled}"
            missing += f" AND NOT ({filled})"
            wanted = column.type
            if column.type in ("date", "timestamp"):
                bounds = _bounds(column)
                unreadable = f"({unreadable}) OR NOT ({name} BETWEEN {bounds[0]} AND {bounds[1]})"
                latest = "ngày của tệp" if column.not_after == "as_of" else f"{column.not_after or NOT_AFTER:%d/%m/%Y}"
                wanted += f" từ {column.not_before or NOT_BEFORE:%d/%m/%Y} đến {latest}"
                if column.unreadable == "null":
                    checked[name] = f"CASE WHEN {name} BETWEEN {bounds[0]} AND {bounds[1]} THEN {name} END AS {name}"
            if column.unreadable == "null":
                notes.append(Flag(unreadable, f"'{name}_unreadable'"))
            else:
                shown = "'***'" if column.personal else f"'«' || left(CAST({found} AS VARCHAR), 60) || '»'" + _both_readings(contract, column, found)
                reasons.append(Flag(unreadable, f"'{name}_unreadable'", f"{literal(f'cột «{label}»: cần {wanted}, gặp ')} || {shown}"))
        if column.required:
            # of a line that could not be cut nothing is known to be empty
            whole_row = "_problem IS NULL AND " if "_problem" in native else ""
            reasons.append(Flag(whole_row + missing, f"'{name}_missing'", literal(f"cột «{label}» bắt buộc nhưng để trống")))
    comma = "," + chr(10) + "                "
    as_of = contract.as_of.column if contract.as_of.origin == "column" else None
    con.execute(f"""
        CREATE OR REPLACE TEMP VIEW {into} AS
        SELECT {", ".join(checked.get(name, name) for name in contract.columns)}, _source, _delivery_id, _line,{" _own_area," if own_area else ""}
               {f"coalesce(CAST({as_of} AS TIMESTAMP), _delivery_as_of)" if as_of else "_delivery_as_of"} AS _as_of,
               _received_at, _day,
               {flags([(f.when, f.code) for f in reasons])} AS _reasons,
               {flags([(f.when, f.detail) for f in reasons])} AS _details,
               {flags([(f.when, f.code) for f in notes])} AS _notes
        FROM (
            SELECT {literal(contract.source)} AS _source, _delivery_id, _line, _problem, _delivery_as_of, _received_at, _day{"".join(comma + s for s in selects)}
            FROM (
                SELECT r._delivery_id, r._line, {"r._problem" if "_problem" in native else "NULL::VARCHAR AS _problem"},
                    d.as_of AS _delivery_as_of, d.received_at AS _received_at, d.day AS _day{"".join(comma + s for s in cells)}
                FROM {raw} AS r
                JOIN (SELECT delivery_id, as_of, received_at, day{"".join(comma + s for s in names)} FROM {deliveries}) AS d ON r._delivery_id = d.delivery_id
                {_belongs(contract, "_problem" in native)}
            ) AS c
        ) AS typed
    """)
