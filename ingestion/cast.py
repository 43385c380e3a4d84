"""From text to types, as the contract says; nothing is judged but whether the text can be read at all.

Makes the view `into` with the contract's columns typed, the lineage columns, and for each row `_reasons`
(codes of what cannot be read: the row is quarantined), `_details` (what, expected, found) and `_notes` (columns
that became NULL because the contract tolerates unreadable text there).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

import duckdb

from ingestion.contract import Column, Contract
from ingestion.units import conversion
from quality.rules import flags

LINEAGE = ("_source", "_delivery_id", "_line", "_as_of", "_received_at")
LOCAL_OFFSET_HOURS = 7
"""All times of the lake are GMT+7 (Vietnam has no daylight saving time)."""

ISO_FORMATS = ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S"]
_TEXT = "VARCHAR"
TRIMMING_READERS = ("station_txt",)
"""Readers whose texts come without blanks around them; all others are trimmed here."""
_DEFAULT_FORMATS = {
    "date": "%Y-%m-%d|%d/%m/%Y|%Y-%m-%d %H:%M:%S",
    "timestamp": "%Y-%m-%d %H:%M:%S|%Y-%m-%dT%H:%M:%S|%Y-%m-%d %H:%M|%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M",
}


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


def number_text(text: str, decimal: str, thousands: str) -> str:
    """SQL for the trimmed text of a number with the contract's signs turned into what CAST reads, or NULL where it mixes them."""
    expr = f"replace({text}, {literal(thousands)}, '')" if thousands else text
    if decimal == "any":
        return f"replace({expr}, ',', '.')"
    if decimal == ",":
        return f"CASE WHEN NOT contains({expr}, '.') THEN replace({expr}, ',', '.') END"
    return expr


def _shift(contract: Contract) -> str | None:
    """SQL template that turns a stamp of the sender's zone into GMT+7, or None where it is one already."""
    zone = contract.time.zone
    if match := re.fullmatch(r"([+-])(\d{2}):(\d{2})", zone):
        sign, hours, minutes = match.groups()
        offset = (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1)
        delta = LOCAL_OFFSET_HOURS * 60 - offset
        return f"({{}} + INTERVAL {delta} MINUTE)" if delta else None
    if zone in ("Asia/Ho_Chi_Minh", "Asia/Saigon", "Etc/GMT-7"):
        return None
    return f"timezone('Etc/GMT-{LOCAL_OFFSET_HOURS}', timezone({literal(zone)}, {{}}))"


def _time(contract: Contract, name: str, expr: str) -> str:
    shift = _shift(contract)
    expr = shift.format(expr) if shift else expr
    if contract.time.stamp == "start" and name == "measured_at":
        expr = f"({expr} + INTERVAL {contract.time.span_minutes} MINUTE)"
    return expr


def _value(contract: Contract, name: str, column: Column, source: str, native: str, crs: str) -> str:
    """SQL expression of one column in its type; NULL where the text, which is trimmed, cannot be read."""
    kind = column.type
    is_text = native == _TEXT
    if kind == "geometry":
        geometry = f"ST_Force2D({source if native.startswith('GEOMETRY') else f'ST_GeomFromWKB({source})'})"
        if contract.format.crs and contract.format.crs != crs:
            return f"ST_Transform({geometry}, {literal(contract.format.crs)}, {literal(crs)}, always_xy := true)"
        return geometry
    text = source
    if column.values:
        text = f"coalesce(map({_list(list(column.values))}, {_list(list(column.values.values()))})[CAST({text} AS VARCHAR)], CAST({text} AS VARCHAR))"
        is_text = True
    if kind == "text":
        expr = text if is_text else f"CAST({text} AS VARCHAR)"
        if not is_text and native in ("DOUBLE", "FLOAT"):
            # a code that a workbook keeps as a number: 25195.0 was typed as 25195
            expr = f"regexp_replace({expr}, '\\.0$', '')"
        if not contract.files.small:
            expr = f"nfc_normalize({expr})"
        if column.normalise == "upper":
            expr = f"upper({expr})"
        elif column.normalise == "serial":
            # số phát hành: upper case, without separators, one blank between letters and digits (DOMAIN 3.5)
            expr = f"regexp_replace(regexp_replace(upper({expr}), '[^A-Z0-9]', '', 'g'), '^([A-Z]+)([0-9]+)$', '\\1 \\2')"
        return f"nullif({expr}, '')"
    if kind == "boolean":
        if native == "BOOLEAN":
            return source
        low = f"lower(CAST({text} AS VARCHAR))"
        low = f"regexp_replace({low}, '\\.0$', '')"
        return (
            f"CASE WHEN list_contains({_list(column.true_values)}, {low}) THEN TRUE "
            f"WHEN list_contains({_list(column.false_values)}, {low}) THEN FALSE END"
        )
    if kind in ("date", "timestamp"):
        target = column.sql_type
        if not is_text:
            expr = f"CAST({text} AS {target})"
        else:
            formats = (column.format or _DEFAULT_FORMATS[kind]).split("|")
            if column.format and contract.format.reader == "xlsx":
                formats += ISO_FORMATS  # a cell that Excel knows to be a date comes as ISO text, whatever the others hold
            # one parse for each distinct stamp would need a join; a single format is DuckDB's fast path
            wanted = literal(formats[0]) if len(formats) == 1 else _list(formats)
            expr = f"try_strptime({text}, {wanted})"
            if kind == "date":
                expr = f"CAST({expr} AS DATE)"
        return _time(contract, name, expr) if kind == "timestamp" else expr
    number = number_text(text, contract.format.decimal, contract.format.thousands) if is_text else text
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


def cast(con: duckdb.DuckDBPyConnection, contract: Contract, raw: str, deliveries: str, into: str, crs: str) -> None:
    """Makes the view `into` over the reader's table `raw` and the batch's `deliveries` (delivery_id, as_of, received_at, day, name groups).

    Errors: none for data; whatever cannot be read is named in `_reasons`.
    """
    native = {row[0]: row[1] for row in con.execute(f"DESCRIBE {raw}").fetchall()}
    selects: list[str] = []
    reasons: list[Flag] = []
    notes: list[Flag] = []
    if "_problem" in native:
        reasons += [
            Flag("_problem = 'line_malformed'", "_problem", "'dòng không tách được thành các cột'"),
            Flag("_problem <> 'line_malformed'", "_problem", "'dòng không đọc được: ' || _problem"),
        ]
    for name, column in contract.columns.items():
        label = column.header[0] if column.header else name
        if column.constant is not None:
            selects.append(f"CAST({literal(column.constant)} AS {column.sql_type}) AS {name}")
            continue
        if column.from_name is not None:
            source, kind = f"d.g_{column.from_name}", _TEXT
        elif name in native:
            source, kind = f"r.{name}", native[name]
        else:
            selects.append(f"CAST(NULL AS {column.sql_type}) AS {name}")
            continue
        if kind == _TEXT and not (column.from_name is None and contract.format.reader in TRIMMING_READERS):
            source = f"trim({source})"
        selects.append(f"{_value(contract, name, column, source, kind, crs)} AS {name}")
        missing = f"{name} IS NULL"
        if column.type not in ("text", "geometry"):
            # what was there before it was typed
            found = f"o_{name}"
            selects.append(f"{source} AS {found}")
            filled = f"{found} IS NOT NULL"
            if kind == _TEXT:
                filled += f" AND NOT list_contains({_list(column.null_values)}, {found})"
            unreadable = f"{name} IS NULL AND {filled}"
            missing += f" AND NOT ({filled})"
            if column.unreadable == "null":
                notes.append(Flag(unreadable, f"'{name}_unreadable'"))
            else:
                shown = "'***'" if column.personal else f"'«' || left(CAST({found} AS VARCHAR), 60) || '»'"
                reasons.append(Flag(unreadable, f"'{name}_unreadable'", f"{literal(f'cột «{label}»: cần {column.type}, gặp ')} || {shown}"))
        if column.required:
            reasons.append(Flag(missing, f"'{name}_missing'", literal(f"cột «{label}» bắt buộc nhưng để trống")))
    as_of = contract.as_of.column if contract.as_of.origin == "column" else None
    con.execute(f"""
        CREATE OR REPLACE TEMP VIEW {into} AS
        SELECT {", ".join(contract.columns)}, _source, _delivery_id, _line,
               {f"coalesce(CAST({as_of} AS TIMESTAMP), _delivery_as_of)" if as_of else "_delivery_as_of"} AS _as_of,
               _received_at, _day,
               {flags([(f.when, f.code) for f in reasons])} AS _reasons,
               {flags([(f.when, f.detail) for f in reasons])} AS _details,
               {flags([(f.when, f.code) for f in notes])} AS _notes
        FROM (
            SELECT {literal(contract.source)} AS _source, r._delivery_id, r._line, {"r._problem" if "_problem" in native else "NULL::VARCHAR AS _problem"},
                d.as_of AS _delivery_as_of, d.received_at AS _received_at, d.day AS _day{"".join("," + chr(10) + "                " + s for s in selects)}
            FROM {raw} AS r JOIN {deliveries} AS d ON r._delivery_id = d.delivery_id
        ) AS typed
    """)
