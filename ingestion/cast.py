"""From text to types, as the contract says; nothing is judged but whether the text can be read at all.

Makes the table `into` with the contract's columns typed, the lineage columns, and for each row `_reasons`
(codes of what cannot be read: the row is quarantined), `_details` (what, expected, found) and `_notes` (columns
that became NULL because the contract tolerates unreadable text there).
"""

from __future__ import annotations

import re
from decimal import Decimal

import duckdb

from ingestion.contract import Column, Contract
from ingestion.units import conversion

LINEAGE = ("_source", "_delivery_id", "_line", "_as_of", "_received_at")
LOCAL_OFFSET_HOURS = 7
"""All times of the lake are GMT+7 (Vietnam has no daylight saving time)."""

ISO_FORMATS = ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S"]
_TEXT = "VARCHAR"
_DEFAULT_FORMATS = {
    "date": "%Y-%m-%d|%d/%m/%Y|%Y-%m-%d %H:%M:%S",
    "timestamp": "%Y-%m-%d %H:%M:%S|%Y-%m-%dT%H:%M:%S|%Y-%m-%d %H:%M|%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M",
}


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
    """SQL for the text of a number with the contract's signs turned into what CAST reads, or NULL where it mixes them."""
    expr = f"trim({text})"
    if thousands:
        expr = f"replace({expr}, {literal(thousands)}, '')"
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
    """SQL expression of one column in its type; NULL where the text cannot be read."""
    kind = column.type
    is_text = native == _TEXT
    if kind == "geometry":
        geometry = f"ST_Force2D({source if native.startswith('GEOMETRY') else f'ST_GeomFromWKB({source})'})"
        if contract.format.crs and contract.format.crs != crs:
            return f"ST_Transform({geometry}, {literal(contract.format.crs)}, {literal(crs)}, always_xy := true)"
        return geometry
    text = f"trim({source})" if is_text else source
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
    """Makes `into` from the reader's table `raw` and the batch's `deliveries` (delivery_id, as_of, received_at, day, name groups).

    Errors: none for data; whatever cannot be read is named in `_reasons`.
    """
    native = {row[0]: row[1] for row in con.execute(f"DESCRIBE {raw}").fetchall()}
    selects: list[str] = []
    reasons: list[str] = []
    details: list[str] = []
    notes: list[str] = []
    if "_problem" in native:
        reasons.append("r._problem")
        details.append(
            "CASE WHEN r._problem = 'line_malformed' THEN 'dòng không tách được thành các cột' WHEN r._problem IS NOT NULL THEN 'dòng không đọc được: ' || r._problem END"
        )
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
        value = _value(contract, name, column, source, kind, crs)
        selects.append(f"{value} AS {name}")
        filled = f"{source} IS NOT NULL"
        if kind == _TEXT:
            filled = f"(r_{name} IS NOT NULL AND NOT list_contains({_list(column.null_values)}, r_{name}))"
            selects.append(f"trim({source}) AS r_{name}")
        found = "'***'" if column.personal else f"'«' || left(CAST({'r_' + name if kind == _TEXT else source} AS VARCHAR), 60) || '»'"
        if column.type not in ("text", "geometry"):
            bad = f"{name} IS NULL AND {filled if kind == _TEXT else source.replace('r.', 'o_') + ' IS NOT NULL'}"
            if kind != _TEXT:
                selects.append(f"{source} AS o_{name}")
                bad = f"{name} IS NULL AND o_{name} IS NOT NULL"
                found = "'***'" if column.personal else f"'«' || left(CAST(o_{name} AS VARCHAR), 60) || '»'"
            if column.unreadable == "null":
                notes.append(f"CASE WHEN {bad} THEN '{name}_unreadable' END")
            else:
                reasons.append(f"CASE WHEN {bad} THEN '{name}_unreadable' END")
                details.append(f"CASE WHEN {bad} THEN {literal(f'cột «{label}»: cần {column.type}, gặp ')} || {found} END")
            missing = f"{name} IS NULL AND NOT ({filled if kind == _TEXT else f'o_{name} IS NOT NULL'})"
        else:
            missing = f"{name} IS NULL"
        if column.required:
            reasons.append(f"CASE WHEN {missing} THEN '{name}_missing' END")
            details.append(f"CASE WHEN {missing} THEN {literal(f'cột «{label}» bắt buộc nhưng để trống')} END")
    reasons = [r.replace("r._problem", "_problem") for r in reasons]
    details = [d.replace("r._problem", "_problem") for d in details]
    as_of = contract.as_of.column if contract.as_of.origin == "column" else None
    lineage = f"""
        {literal(contract.source)} AS _source, r._delivery_id, r._line, r._raw, {"r._problem" if "_problem" in native else "NULL::VARCHAR AS _problem"},
        d.as_of AS _delivery_as_of, d.received_at AS _received_at, d.day AS _day"""
    typed = list(contract.columns)
    con.execute(f"""
        CREATE OR REPLACE TABLE {into} AS
        WITH typed AS MATERIALIZED (
            SELECT {lineage}{"".join("," + chr(10) + "            " + s for s in selects)}
            FROM {raw} AS r JOIN {deliveries} AS d ON r._delivery_id = d.delivery_id
        )
        SELECT {", ".join(typed)}, _source, _delivery_id, _line,
               {f"coalesce(CAST({as_of} AS TIMESTAMP), _delivery_as_of)" if as_of else "_delivery_as_of"} AS _as_of,
               _received_at, _day, _raw,
               {_flags(reasons)} AS _reasons, {_flags(details)} AS _details, {_flags(notes)} AS _notes
        FROM typed
    """)


def _flags(cases: list[str]) -> str:
    """SQL for the list of the cases that are not NULL; an empty list where none is."""
    if not cases:
        return "CAST([] AS VARCHAR[])"
    return f"list_filter([{', '.join(cases)}], lambda x: x IS NOT NULL)"
