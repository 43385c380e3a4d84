"""Where our flags of readings and a library's differ, and why: every difference must fall into a class whose condition is worked out from the readings.

A class names the rule, the pairs of flags (ours, theirs) that it explains, and an SQL condition over `FACTS`; what no class explains
makes the bench fail. Runs in the platform's environment: the libraries' flags come as Parquet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from tests.bench.measure import main
from tests.bench.series import database

RULES = ("range", "spike", "rate_of_change", "flat_line")
NAMES = {"ioos_qc": "ioos_qc", "saqc": "SaQC"}

FACTS = """
WITH bound AS (
    SELECT matrix, parameter,
        max(fail_min) FILTER (test = 'range') AS range_min, max(fail_max) FILTER (test = 'range') AS range_max,
        max(suspect_max) FILTER (test = 'spike') AS spike, max(suspect_max) FILTER (test = 'rate_of_change') AS rate,
        max(suspect_min) FILTER (test = 'flat_line') AS at_rest,
        max(suspect_max) FILTER (test = 'flat_line') AS flat_suspect, max(fail_max) FILTER (test = 'flat_line') AS flat_fail
    FROM lake.reference.qc_threshold GROUP BY ALL
),
placed AS (
    SELECT r.station_id, r.parameter, r.measured_at AS t, r.value_reported, r.value_valid AS v, r.reason, b.* EXCLUDE (matrix, parameter),
        row_number() OVER place AS n, lag(r.value_valid) OVER place AS row_before, lead(r.value_valid) OVER place AS row_after,
        date_diff('second', lag(r.measured_at) OVER place, r.measured_at) AS seconds, max(r.measured_at) OVER series AS series_to
    FROM lake.staging.stg_reading AS r JOIN lake.marts_core.dim_station AS s USING (station_id)
    LEFT JOIN bound AS b ON s.matrix = b.matrix AND r.parameter = b.parameter
    WINDOW place AS (PARTITION BY r.station_id, r.parameter ORDER BY r.measured_at), series AS (PARTITION BY r.station_id, r.parameter)
),
valued AS (
    SELECT *, lag(v) OVER valid AS before, lag(t) OVER valid AS before_at, lag(n) OVER valid AS before_n, lead(v) OVER valid AS after, lead(t) OVER valid AS after_at,
        median(seconds) OVER (PARTITION BY station_id, parameter) AS cadence,
        before IS DISTINCT FROM v AS is_other, is_other OR before_at < t - INTERVAL 180 MINUTE AS is_run
    FROM placed
    WINDOW valid AS (PARTITION BY station_id, parameter, v IS NULL ORDER BY t)
),
run AS (
    SELECT *, count(*) FILTER (is_other) OVER upto AS same, count(*) FILTER (is_run) OVER upto AS unbroken
    FROM valued
    WINDOW upto AS (PARTITION BY station_id, parameter, v IS NULL ORDER BY t ROWS UNBOUNDED PRECEDING)
)
SELECT *,
    before_at >= t - INTERVAL 180 MINUTE AS is_after, after_at <= t + INTERVAL 180 MINUTE AS is_before, date_diff('second', before_at, t) AS seconds_since,
    date_diff('minute', min(t) OVER one, t) AS flat_minutes, date_diff('minute', min(t) OVER one, max(t) OVER one) AS lasts,
    coalesce(max(before_n) FILTER (is_other) OVER equal, 0) AS other_n, max(before_at) FILTER (is_other) OVER equal AS other_at,
    coalesce(max(after_at) FILTER (after IS DISTINCT FROM v) OVER equal, series_to) AS next_other_at
FROM run
WINDOW one AS (PARTITION BY station_id, parameter, v IS NULL, unbroken), equal AS (PARTITION BY station_id, parameter, v IS NULL, same)
"""
"""One row a reading, in the terms of the conditions.

`v` what the gate took; `row_before`, `row_after` the rows beside it, `before`, `after` the nearest values; `n` its place among the rows;
`flat_minutes` how long it has not changed without a hole over 180 minutes, `lasts` how long the whole run does; `other_n`, `other_at` the last
other value before the equal ones, holes or not, `next_other_at` the first after them; `cadence` the median step in seconds.
"""

MISSING = "v IS NULL"
FLAT = "CASE WHEN greatest(ours, theirs) = 4 THEN flat_fail ELSE flat_suspect END"
"""The bound in minutes that one side says is reached."""


@dataclass(frozen=True)
class Class:
    """A difference in definition: of `rule`, with `peers`, for these pairs of flags, where the condition holds."""

    name: str
    rule: str
    peers: tuple[str, ...]
    ours: tuple[int, ...]
    theirs: tuple[int, ...]
    condition: str
    why: str


IOOS, SAQC, BOTH = ("ioos_qc",), ("saqc",), ("ioos_qc", "saqc")
JUDGED = (1, 3, 4)
CLASSES = (
    Class(
        "range of the register",
        "range",
        BOTH,
        (4,),
        (1,),
        "reason = 'out_of_range' AND value_reported BETWEEN range_min AND range_max",
        "the gate already refused the value by the range that the register gives this channel; the libraries know the table of thresholds alone",
    ),
    Class(
        "no value",
        "spike",
        IOOS,
        (2,),
        (9,),
        MISSING,
        "a value that is missing or that the gate refused is `not evaluated` (2) here; ioos_qc calls it missing (9)",
    ),
    Class("no value", "rate_of_change", IOOS, (2,), (9,), MISSING, "as for spike"),
    Class("no value", "flat_line", IOOS, (2,), (9,), MISSING, "as for spike"),
    Class(
        "neighbour without value",
        "spike",
        IOOS,
        JUDGED,
        (2,),
        "row_before IS NULL OR row_after IS NULL",
        "ioos_qc takes the rows beside the reading, and one of them has no value; here the nearest values within 180 minutes stand beside it",
    ),
    Class(
        "hole or end",
        "spike",
        IOOS,
        (2,),
        JUDGED,
        "v IS NOT NULL AND NOT coalesce(is_after AND is_before, FALSE)",
        "ioos_qc compares rows without asking how far apart they are; here nothing is said beside a hole of more than 180 minutes",
    ),
    Class(
        "equal to the bound",
        "spike",
        BOTH,
        (1,),
        (3,),
        "abs(2 * v - before - after) = 2 * spike",
        "the quantity is the bound exactly: in DECIMAL it is not above it, in floating point it comes out a hair above",
    ),
    Class(
        "hole or start",
        "rate_of_change",
        IOOS,
        (2,),
        JUDGED,
        "v IS NOT NULL AND NOT coalesce(is_after, FALSE)",
        "ioos_qc passes the first reading and what follows a row without value, and divides by any span; here nothing is said without a value in the 180 minutes before",
    ),
    Class(
        "hole",
        "rate_of_change",
        SAQC,
        (1,),
        (3, 4),
        "NOT coalesce(is_after, FALSE)",
        "the rule given to SaQC divides by any span; here nothing is said without a value in the 180 minutes before",
    ),
    Class(
        "row before without value",
        "rate_of_change",
        BOTH,
        (3, 4),
        (1,),
        "row_before IS NULL AND is_after",
        "the libraries take the row before, which has no value, and pass; here the last value within 180 minutes stands for it",
    ),
    Class(
        "equal to the bound",
        "rate_of_change",
        BOTH,
        (1,),
        (3,),
        "abs(v - before) * 3600 = rate * seconds_since",
        "as for spike",
    ),
    Class(
        "natural value",
        "flat_line",
        BOTH,
        (1, 2),
        JUDGED,
        "v <= at_rest",
        "a flow, wind or radiation of zero may stay so for hours: not judged here at or below `suspect_min`; the libraries know no such bound",
    ),
    Class(
        "readings, not minutes",
        "flat_line",
        IOOS,
        JUDGED,
        JUDGED,
        f"(flat_minutes >= {FLAT}) = (ours > theirs) AND (n - floor({FLAT} * 60 / cadence) > other_n) = (theirs > ours)",
        "ioos_qc looks back over as many rows as the bound holds at the median step, whatever time they span, and passes over rows without value; "
        "here minutes count, and a hole of more than 180 ends the run",
    ),
    Class(
        "jump and return",
        "spike",
        SAQC,
        (3, 4),
        (1,),
        "abs(v - before) <= spike OR abs(after - before) >= spike",
        "`flagOffset` wants a jump above the bound and a return to within it of the value before; here the distance from the mean of both neighbours counts",
    ),
    Class(
        "mean of both",
        "spike",
        SAQC,
        (1,),
        (3, 4),
        "abs(v - before) > spike AND abs(after - before) < spike AND abs(2 * v - before - after) <= 2 * spike",
        "the value after lies between: the jump is above the bound, the distance from the mean of both neighbours is not",
    ),
    Class(
        "reading lost beside it",
        "spike",
        SAQC,
        (3, 4),
        (1,),
        "after_at - before_at >= INTERVAL 11 MINUTE",
        "`flagOffset` was given 11 minutes from the value before to the return; here the neighbours may be 180 minutes away",
    ),
    Class(
        "from its beginning",
        "flat_line",
        SAQC,
        (1, 3),
        (3, 4),
        f"flat_minutes < {FLAT} AND lasts >= {FLAT}",
        "`flagConstants` flags a plateau from its first value, once it has lasted; here a reading is flagged when it has been flat for so long, as a later one may not change it",
    ),
    Class(
        "few values after a hole",
        "flat_line",
        SAQC,
        (1, 3),
        (3, 4),
        f"lasts < {FLAT} AND date_diff('minute', other_at, next_other_at) > {FLAT}",
        "`flagConstants` takes two equal values in the window for a plateau of the whole window; here the time between the readings themselves counts, and a hole over 180 minutes ends the run",
    ),
)


def judge(con: duckdb.DuckDBPyConnection, ours: str, theirs: str, peer: str) -> list[dict[str, Any]]:
    """Readings by rule and class: `equal`, the name of a class, or `unexplained`, of all readings that either side holds.

    `ours` and `theirs` are relations (station_id, parameter, measured_at, and flag_<rule> or <rule>). SaQC says only whether a reading is flagged, so with
    it 2 and 9 count as 1.
    """
    con.execute(f"CREATE OR REPLACE TEMP TABLE fact AS {FACTS}")
    rows: list[dict[str, Any]] = []
    for rule in RULES:
        known = [c for c in CLASSES if c.rule == rule and peer in c.peers]
        cases = " ".join(f"WHEN ours IN ({_list(c.ours)}) AND theirs IN ({_list(c.theirs)}) AND ({c.condition}) THEN '{c.name}'" for c in known)
        flag = f"CASE WHEN o.flag_{rule} IN (3, 4) THEN o.flag_{rule} ELSE 1 END" if peer == "saqc" else f"o.flag_{rule}"
        cursor = con.execute(f"""
            SELECT CASE WHEN ours = theirs THEN 'equal' {cases} ELSE 'unexplained' END AS class, count(*) AS readings,
                count(*) FILTER (ours IN (3, 4) AND theirs IN (3, 4)) AS flagged_by_both
            FROM (
                SELECT fact.*, {flag} AS ours, p.{rule} AS theirs
                FROM {ours} AS o FULL JOIN {theirs} AS p USING (station_id, parameter, measured_at)
                LEFT JOIN (SELECT *, t AS measured_at FROM fact) AS fact USING (station_id, parameter, measured_at)
            ) AS pair GROUP BY class""")
        found = {name: (n, both) for name, n, both in cursor.fetchall()}
        rows += [
            {"rule": rule, "peer": peer, "class": name, "readings": found.get(name, (0, 0))[0], "flagged_by_both": found.get(name, (0, 0))[1]}
            for name in ("equal", *(c.name for c in known), "unexplained")
        ]
    return rows


def _list(flags: tuple[int, ...]) -> str:
    return ", ".join(map(str, flags))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of `judge` as Markdown: rule, peer, equal, differences, why."""
    lines = ["| rule | peer | readings | equal | flagged by both | difference | readings | why |", "|---|---|---|---|---|---|---|---|"]
    for rule in RULES:
        for peer, title in NAMES.items():
            mine = [r for r in rows if r["rule"] == rule and r["peer"] == peer]
            if not mine:
                continue
            total, equal, both = sum(r["readings"] for r in mine), mine[0]["readings"], sum(r["flagged_by_both"] for r in mine)
            head = f"| `{rule}` | {title} | {total:,} | {equal:,} | {both:,} |"
            for r in mine[1:]:
                if r["class"] == "unexplained" and not r["readings"]:
                    continue
                why = next((c.why for c in CLASSES if (c.rule, c.name) == (rule, r["class"]) and peer in c.peers), "**not explained**")
                lines.append(f"{head} {r['class']} | {r['readings']:,} | {why} |")
                head = "| | | | | |"
    return "\n".join(lines)


def page(rows: list[dict[str, Any]]) -> str:
    """The page docs/qc/peers.md."""
    return f"""# Flags of two libraries on the same readings

`make bench` (`--only qc`) runs the mart `reading_qc`, `ioos_qc` and SaQC on the same series and compares flag by flag. The series are the readings of the
simulator's province of size S, a function of seed and day, and a quarter of its stations once more with planted damage (`DAMAGED` in `tests/bench/series.py`), as
the sample alone has few spikes and stuck sensors. Every difference must fall into one of the classes below, whose conditions are SQL over
the readings (`tests/bench/agreement.py`); one that falls into none makes the bench fail. Of several classes that hold the first counts.

{table(rows)}

How the libraries are called: `range` on the reported value, the others on what the gate took, NaN elsewhere; bounds are those of [thresholds.md](thresholds.md); a test
without bounds is not run. ioos_qc: `gross_range_test`, `spike_test` (method `average`), `rate_of_change_test`, `flat_line_test`. SaQC: `flagRange`, `flagOffset`, `flagConstants`,
and `flagGeneric` for the rate, for which it has no function; DOUBTFUL is our 3, BAD our 4, and 1, 2 and 9 are one, since SaQC tells them not apart.
`ioos_qc` also has `time_gap_test`; gaps are no flag of a reading here but slots of `availability_daily`, so it is not compared. The other six flags of the mart have no counterpart in `ioos_qc`.
"""


def agree(folder: str, ours: str, theirs: str, peer: str) -> dict[str, Any]:
    """The job: `folder` holds the input, `ours` and `theirs` are Parquet files."""
    con = database(Path(folder))
    return {"classes": judge(con, f"'{ours}'", f"'{theirs}'", peer)}


if __name__ == "__main__":
    main({"agree": agree})
