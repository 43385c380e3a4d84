"""From a figure back to the bytes: the readings behind a station's day or hour, their files, and the rule that judged it."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta
from typing import Any

import duckdb

from lake.lake import open_reader
from tnmt.settings import Settings


class NothingToTrace(LookupError):
    """No reading and no mart row stands there; the text says what is known."""


def trace(settings: Settings, station_id: str, parameter: str, day: date, hour: int | None = None) -> dict[str, Any]:
    """What is behind the mean of an environment day (00:00, 24:00], or of its hour that ends at `hour` (1 … 24).

    Keys: `span` (from, to; GMT+7), `marts` (the rows of that span by mart), `limit` (the row of dim_limit that judged the day),
    `recomputed` (readings, valid, mean of the valid ones), `readings` (in order of time, the superseded ones flagged, with `quality` where its flags are no plain pass, and of the current ones
    `value_adjusted`, the value that counts), `decisions` (adjustments and approvals that speak of the span, replaced versions too), `files` (name,
    sha256, whether the bytes kept still have it, and the lines used), `quarantined` (rows of the station's files of that day).
    Raises NothingToTrace where there is nothing.
    """
    start = datetime.combine(day, datetime.min.time()) + timedelta(hours=(hour - 1) if hour else 0)
    end = start + timedelta(hours=1 if hour else 24)
    with open_reader(settings) as con:
        readings = _rows(
            con,
            """
            SELECT measured_at, value_reported, value_valid, status, reason, conflict, FALSE AS superseded, _delivery_id AS delivery_id, _line AS line
            FROM lake.clean.reading WHERE station_id = $1 AND parameter = $2 AND measured_at > $3 AND measured_at <= $4
            UNION ALL
            SELECT measured_at, value_reported, value_valid, status, reason, conflict, TRUE, _delivery_id, _line
            FROM lake.clean.reading_history WHERE station_id = $1 AND parameter = $2 AND measured_at > $3 AND measured_at <= $4
            ORDER BY measured_at, superseded""",
            [station_id, parameter, start, end],
        )
        for flags in _quality(con, station_id, parameter, start, end):
            for reading in readings:
                if reading["measured_at"] == flags["measured_at"] and not reading["superseded"]:
                    reading["quality"] = {k: v for k, v in flags.items() if k != "measured_at"}
        final = {row["measured_at"]: row for row in _final(con, station_id, parameter, start, end)}
        for reading in readings:
            if not reading["superseded"]:
                reading.update(final.get(reading["measured_at"], {"value_adjusted": reading["value_valid"]}))
        marts = _marts(con, station_id, parameter, day, end if hour else None)
        if not readings and not set(marts) - {"aqi_daily", "aqi_hourly"}:
            known = [
                r["parameter"]
                for r in _rows(con, "SELECT DISTINCT parameter FROM lake.marts_environment.reading_daily WHERE station_id = $1", [station_id])
            ]
            raise NothingToTrace(
                f"nothing of {station_id}, {parameter} in ({start}, {end}]; "
                + (f"this station has {', '.join(sorted(known))}" if known else f"there is no station {station_id}")
            )
        key = marts.get("compliance_daily", {}).get("limit_key")
        limit = _rows(con, "SELECT * FROM lake.marts_core.dim_limit WHERE limit_key = $1", [key]) if key else []
        current = [r for r in readings if not r["superseded"]]
        valid = [r["value_adjusted"] for r in current if r["value_adjusted"] is not None]
        return {
            "span": {"from": start, "to": end},
            "marts": marts,
            "limit": limit[0] if limit else None,
            "recomputed": {"readings": len(current), "valid": len(valid), "mean": float(sum(valid)) / len(valid) if valid else None},
            "readings": readings,
            "decisions": (decisions := _decisions(con, station_id, parameter, start, end)),
            "files": _files(con, settings, [*readings, *decisions]),
            "quarantined": _rows(
                con,
                """
                SELECT d.name, q.line, q.raw_text, q.reasons, q.details FROM lake.quarantine.row AS q JOIN lake.ops.landed AS d USING (delivery_id)
                WHERE q.target = 'reading' AND d.day = $1 AND contains(d.name, $2) ORDER BY d.name, q.line""",
                [day, station_id],
            ),
        }


def _final(con: duckdb.DuckDBPyConnection, station_id: str, parameter: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """What quality control and people made of the current readings; none before the first build."""
    try:
        return _rows(
            con,
            """
            SELECT measured_at, value_valid, value_adjusted, reason, adjustment_id, action FROM lake.intermediate.int_reading
            WHERE station_id = $1 AND parameter = $2 AND measured_at > $3 AND measured_at <= $4""",
            [station_id, parameter, start, end],
        )
    except duckdb.CatalogException:
        return []


def _decisions(con: duckdb.DuckDBPyConnection, station_id: str, parameter: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Adjustments and approvals that speak of the span, in the order in which they were recorded."""
    columns = "reason_vi, decided_by, document, _received_at AS recorded_at, _delivery_id AS delivery_id, _line AS line"
    parts = [
        f"""
        SELECT '{kind}' AS kind, {key} AS decision_id, parameter, CAST({first} AS TIMESTAMP) AS applies_from, CAST({last} AS TIMESTAMP) AS applies_to,
            {what} AS decision, {number} AS number, {columns}, {superseded} AS superseded
        FROM lake.clean.{kind}{suffix}
        WHERE station_id = $1 AND coalesce(parameter, $2) = $2 AND CAST({first} AS TIMESTAMP) < $4 AND CAST({last} AS TIMESTAMP) > $3"""
        for kind, key, first, last, what, number in (
            ("adjustment", "adjustment_id", "applies_from", "applies_to", "action", "number"),
            ("approval", "approval_id", "first_day", "last_day + 1", "grade", "NULL"),
        )
        for suffix, superseded in (("", "FALSE"), ("_history", "TRUE"))
    ]
    return _rows(con, " UNION ALL ".join(parts) + " ORDER BY recorded_at, decision_id", [station_id, parameter, start, end])


def _quality(con: duckdb.DuckDBPyConnection, station_id: str, parameter: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Flags of quality control that are not plain passes; none where that mart was not built yet."""
    try:
        return _rows(
            con,
            """
            SELECT * EXCLUDE (station_id, parameter, day, value_reported, value_valid) FROM lake.marts_environment.reading_qc
            WHERE station_id = $1 AND parameter = $2 AND measured_at > $3 AND measured_at <= $4""",
            [station_id, parameter, start, end],
        )
    except duckdb.CatalogException:
        return []


def _marts(con: duckdb.DuckDBPyConnection, station_id: str, parameter: str, day: date, hour_end: datetime | None) -> dict[str, dict[str, Any]]:
    """Rows of the span, by mart; a mart that does not exist yet, or says nothing, is left out."""
    wanted: dict[str, tuple[str, list[Any]]]
    if hour_end:
        wanted = {
            "reading_hourly": ("station_id = $1 AND parameter = $2 AND hour_end = $3", [station_id, parameter, hour_end]),
            "aqi_hourly": ("station_id = $1 AND hour_end = $2", [station_id, hour_end]),
        }
    else:
        by_day = ("station_id = $1 AND parameter = $2 AND day = $3", [station_id, parameter, day])
        wanted = dict.fromkeys(("reading_daily", "compliance_daily", "availability_daily"), by_day)
        wanted["aqi_daily"] = ("station_id = $1 AND day = $2", [station_id, day])
    found = {}
    for mart, (condition, values) in wanted.items():
        try:
            rows = _rows(con, f"SELECT * FROM lake.marts_environment.{mart} WHERE {condition}", values)
        except duckdb.CatalogException:
            continue
        if rows:
            found[mart] = rows[0]
    return found


def _files(con: duckdb.DuckDBPyConnection, settings: Settings, readings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The deliveries behind the readings, with the lines used as they stand in the bytes that are kept."""
    lines: dict[str, list[int]] = {}
    for reading in readings:
        lines.setdefault(reading["delivery_id"], []).append(reading["line"])
    files = []
    for delivery_id, numbers in lines.items():
        ledger = _rows(
            con,
            "SELECT delivery_id, source, name, sha256, bytes, received_at, as_of, status, run_id, stored, day FROM lake.ops.delivery WHERE delivery_id = $1",
            [delivery_id],
        )[0]
        content: bytes | None = None
        if ledger["stored"] == "raw.file":
            kept = con.execute("SELECT content FROM lake.raw.file WHERE day = $1 AND delivery_id = $2", [ledger["day"], delivery_id]).fetchall()
            content = bytes(kept[0][0]) if kept else None
        elif ledger["stored"] == "landing":
            paths = list((settings.landing / ledger["sha256"][:2] / ledger["sha256"]).glob("*"))
            content = paths[0].read_bytes() if paths else None
        text = content.split(b"\n") if content is not None and b"\0" not in content else []
        del ledger["day"]
        files.append(
            ledger
            | {
                "sha256_matches": hashlib.sha256(content).hexdigest() == ledger["sha256"] if content is not None else None,
                # of a file whose quoted fields hold line ends, later lines are shifted; a workbook has no lines
                "lines": {n: text[n - 1].decode("utf-8", "backslashreplace").rstrip("\r") for n in sorted(set(numbers)) if n <= len(text)},
            }
        )
    return files


def _rows(con: duckdb.DuckDBPyConnection, statement: str, values: list[Any]) -> list[dict[str, Any]]:
    cursor = con.execute(statement, values)
    names = [d[0] for d in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
