"""Thresholds of a station's channels proposed from its approved history: a person reads, changes and signs them.

What a rule would have called suspect of good values is the choice here, not what it finds: each bound is a quantile of the history and a
margin beyond it, so that about one good value in a thousand stands out. Nothing is proposed from a short history, and nothing is in force
until the rows come back through source `station_qc_threshold` with the name of the post that decided.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import duckdb

LEAST_VALUES, LEAST_DAYS = 2000, 30
"""Of a shorter history no quantile of a thousandth means anything."""
GAP_MINUTES = 180
FLAT_LEAST, FLAT_MOST = 180, 1200
"""Minutes of a flat line that a threshold may name (see seed qc_threshold)."""
LEVEL_PARAMETERS = ("Depth",)
"""Where the level of a day says where the instrument hangs; the level of a water's quality is its own."""

PROPOSE = f"""
    WITH given AS (
        SELECT station_id, parameter, measured_at, CAST(value AS DOUBLE) AS value FROM ({{history}}) WHERE value IS NOT NULL
    ),
    stepped AS (
        SELECT *,
            lag(value) OVER in_time AS before, lead(value) OVER in_time AS after,
            date_diff('second', lag(measured_at) OVER in_time, measured_at) / 60.0 AS minutes,
            date_diff('second', measured_at, lead(measured_at) OVER in_time) / 60.0 AS minutes_to_next,
            avg(value) OVER trailing_day AS level, min(measured_at) OVER trailing_day AS level_from
        FROM given
        WINDOW in_time AS (PARTITION BY station_id, parameter ORDER BY measured_at),
            trailing_day AS (PARTITION BY station_id, parameter ORDER BY measured_at RANGE BETWEEN INTERVAL 1439 MINUTE PRECEDING AND CURRENT ROW)
    ),
    moved AS (
        SELECT *, max(CASE WHEN value <> before OR minutes > {GAP_MINUTES} OR before IS NULL THEN measured_at END) OVER (
            PARTITION BY station_id, parameter ORDER BY measured_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS unchanged_since
        FROM stepped
    ),
    judged AS (
        SELECT station_id, parameter, measured_at, value,
            CASE WHEN minutes <= {GAP_MINUTES} AND minutes_to_next <= {GAP_MINUTES} THEN abs(value - (before + after) / 2) END AS spike,
            CASE WHEN minutes <= {GAP_MINUTES} THEN abs(value - before) / minutes * 60 END AS rate,
            least(1440, date_diff('minute', unchanged_since, measured_at)) AS flat,
            CASE WHEN level_from <= measured_at - INTERVAL 12 HOUR THEN level END AS level
        FROM moved
    ),
    learnt AS (
        SELECT station_id, parameter, min(measured_at)::DATE AS first_day, max(measured_at)::DATE AS last_day, count(*) AS readings,
            quantile_cont(value, [0.0005, 0.005, 0.995, 0.9995]) AS v,
            quantile_cont(spike, 0.999) AS spike, quantile_cont(rate, 0.999) AS rate, quantile_cont(flat, 0.9995) AS flat,
            quantile_cont(level, [0.005, 0.995]) AS l
        FROM judged GROUP BY station_id, parameter
        HAVING count(*) >= {LEAST_VALUES} AND count(DISTINCT measured_at::DATE) >= {LEAST_DAYS}
    ),
    proposed AS (
        SELECT station_id, parameter, first_day, last_day, readings, 1 AS place, 'range' AS test,
            v[1] - 0.05 * (v[3] - v[2]) AS suspect_min, v[4] + 0.05 * (v[3] - v[2]) AS suspect_max FROM learnt
        UNION ALL SELECT station_id, parameter, first_day, last_day, readings, 2, 'spike', NULL, 1.2 * spike FROM learnt WHERE spike > 0
        UNION ALL SELECT station_id, parameter, first_day, last_day, readings, 3, 'rate_of_change', NULL, 1.2 * rate FROM learnt WHERE rate > 0
        -- a channel whose good values stand still for longer than the rule can tell apart is not judged by it
        UNION ALL SELECT station_id, parameter, first_day, last_day, readings, 4, 'flat_line', NULL,
            CASE WHEN 1.5 * flat <= {FLAT_MOST} THEN ceil(greatest({FLAT_LEAST}, 1.5 * flat)) END FROM learnt
        UNION ALL SELECT station_id, parameter, first_day, last_day, readings, 5, 'level', l[1] - 0.1 * (l[2] - l[1]), l[2] + 0.1 * (l[2] - l[1])
            FROM learnt WHERE parameter IN {(*LEVEL_PARAMETERS, "")}
    )
    SELECT station_id, parameter, test, round(suspect_min, 6)::DECIMAL(18, 6) AS suspect_min, round(suspect_max, 6)::DECIMAL(18, 6) AS suspect_max,
        'Đề xuất từ ' || readings || ' giá trị đã duyệt, ' || strftime(first_day, '%d/%m/%Y') || ' đến ' || strftime(last_day, '%d/%m/%Y') AS reason_vi
    FROM proposed ORDER BY station_id, parameter, place"""


def approved(station_id: str, first: date, last: date, parameter: str | None = None) -> str:
    """SQL of a station's valid values on the days that somebody approved."""
    text = station_id.replace("'", "''")
    only = "" if parameter is None else f" AND r.parameter = '{parameter.replace(chr(39), chr(39) * 2)}'"
    return f"""
        SELECT r.station_id, r.parameter, r.measured_at, r.value_valid AS value
        FROM lake.intermediate.int_reading AS r
        JOIN lake.marts_environment.reading_daily AS d
          ON r.station_id = d.station_id AND r.parameter = d.parameter AND d.day = CAST(r.measured_at - INTERVAL 1 MICROSECOND AS DATE)
        WHERE r.station_id = '{text}' AND d.grade = 'approved' AND d.day BETWEEN DATE '{first}' AND DATE '{last}'{only}"""


def propose(con: duckdb.DuckDBPyConnection, history: str) -> list[dict[str, Any]]:
    """Rows (station_id, parameter, test, suspect_min, suspect_max, reason_vi) from `history`: SQL of (station_id, parameter, measured_at, value).

    A channel with less than LEAST_VALUES values or LEAST_DAYS days gets none.
    """
    found = con.execute(PROPOSE.format(history=history))
    names = [c[0] for c in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def as_csv(rows: Iterable[Mapping[str, Any]], headers: Mapping[str, str], valid_from: date) -> str:
    """A file for the inbox of `station_qc_threshold` (column -> header), without who decided: it is refused until a person signs it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headers.values())
    for row in rows:
        filled = {**row, "valid_from": f"{valid_from:%d/%m/%Y}"}
        writer.writerow(["" if filled.get(name) is None else filled[name] for name in headers])
    return out.getvalue()
