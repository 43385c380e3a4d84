"""Eight-hour means and aggregates of month, quarter and year of random hours, against plain Python in exact fractions, over the leap day and the ends of quarters and years."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from tests.marts_kit import compiled, database, records

AS_OF = datetime(2024, 4, 1, 0, 30)
MODELS = ["reading_8h", "reading_daily", "reading_period"]
HOURLY = (
    "station_id VARCHAR, parameter VARCHAR, day DATE, hour_end TIMESTAMP, expected INTEGER, received INTEGER, valid INTEGER, unexpected INTEGER, "
    "mean_valid DOUBLE, min_valid DECIMAL(18,6), max_valid DECIMAL(18,6), sum_valid DECIMAL(38,6), count_valid INTEGER, coverage_share DOUBLE, adjusted INTEGER, last_received_at TIMESTAMP"
)
APPROVAL = "station_id VARCHAR, parameter VARCHAR, first_day DATE, last_day DATE, grade VARCHAR, approval_id VARCHAR, "
APPROVAL += "_as_of TIMESTAMP, _received_at TIMESTAMP, _delivery_id VARCHAR, _line INTEGER"
ADJUSTMENT = "station_id VARCHAR, parameter VARCHAR, applies_from TIMESTAMP, applies_to TIMESTAMP, _received_at TIMESTAMP"
STATION = "station_id VARCHAR, station_name VARCHAR, matrix VARCHAR, matrix_vi VARCHAR, commune_code VARCHAR, commune_name VARCHAR"
SPANS = [datetime(2023, 12, 30), datetime(2024, 2, 27), datetime(2024, 3, 30)]
"""First days of spans of four: over the end of a year, over 29 February, over the end of a quarter (and past the moment of the build)."""

Hours = dict[datetime, list[Decimal]]
"""End of an hour -> its valid values; four are due in each."""


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("aggregates"), MODELS, AS_OF.isoformat(sep=" "))


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    stations = [("A", "Trạm A", "ambient_air", "Không khí", "1", "Xã A"), ("W", "Trạm W", "wastewater", "Nước thải", "1", "Xã A")]
    return database(
        {
            "marts_environment.reading_hourly": (HOURLY, []),
            "staging.stg_approval": (APPROVAL, []),
            "staging.stg_adjustment": (ADJUSTMENT, []),
            "marts_core.dim_station": (STATION, stations),
            "marts_core.dim_parameter": ("matrix VARCHAR, parameter VARCHAR, parameter_name_vi VARCHAR, unit VARCHAR", []),
        }
    )


def day_of(hour_end: datetime) -> date:
    return (hour_end - timedelta(hours=1)).date()


def build(con: duckdb.DuckDBPyConnection, sql: dict[str, str], hours: Hours) -> dict[str, list[dict[str, Any]]]:
    """Rows of each model where both stations have these hours."""
    con.execute("DELETE FROM lake.marts_environment.reading_hourly")
    rows = []
    for at, v in hours.items():
        mean = float(sum(v)) / len(v) if v else None
        known = (mean, min(v), max(v), sum(v)) if v else (None, None, None, None)
        rows += [(s, "CO", day_of(at), at, 4, len(v), len(v), 0, *known, len(v), len(v) / 4, 0, at) for s in "AW"]
    con.executemany(f"INSERT INTO lake.marts_environment.reading_hourly VALUES ({', '.join('?' * 16)})", rows)
    found = {}
    for model in MODELS:
        con.execute(f"CREATE OR REPLACE TABLE lake.marts_environment.{model} AS {sql[model]}")
        found[model] = records(con, f"FROM lake.marts_environment.{model}")
    return found


def mean(values: Iterable[Fraction]) -> Fraction:
    values = list(values)
    return sum(values, Fraction(0)) / len(values)


def counted(values: list[Decimal]) -> Fraction | None:
    """Mean of an hour that counts: three of its four values are there."""
    return mean(map(Fraction, values)) if len(values) >= 3 else None


def eight_hours(hours: Hours, at: datetime) -> list[Fraction]:
    return [m for i in range(8) if (m := counted(hours.get(at - timedelta(hours=i), []))) is not None]


def greatest(values: dict[Any, Fraction | None]) -> tuple[Fraction | None, Any]:
    """(value, first key at which it occurs)."""
    known = {k: v for k, v in values.items() if v is not None}
    return min(((v, k) for k, v in known.items()), key=lambda p: (-p[0], p[1])) if known else (None, None)


def period_of(kind: str, day: date) -> tuple[date, date]:
    """First and last day."""
    first = {"month": day.month, "quarter": (day.month - 1) // 3 * 3 + 1, "year": 1}[kind]
    last = {"month": day.month, "quarter": first + 2, "year": 12}[kind]
    return date(day.year, first, 1), date(day.year, last, monthrange(day.year, last)[1])


def near(found: float | None, wanted: Fraction | None) -> None:
    assert (found is None) == (wanted is None)
    assert wanted is None or abs(Fraction(found) - wanted) < Fraction(1, 10**8)  # type: ignore[arg-type]


VALUES = st.lists(st.integers(-3, 40).map(lambda n: Decimal(n) / 8), max_size=4)


@st.composite
def some_hours(draw: st.DrawFn) -> Hours:
    found: Hours = {}
    for start in SPANS:
        pattern = draw(st.lists(VALUES, min_size=1, max_size=13))
        gaps = draw(st.sets(st.integers(1, 96), max_size=12))
        full = draw(st.booleans())  # else hardly any day would be complete
        for h in range(1, 97):
            at = start + timedelta(hours=h)
            if h not in gaps:
                v = pattern[h % len(pattern)]
                found[at] = (v * 4)[:4] if full and v else v
    return found


@examples(30)
@given(hours=some_hours())
def test_aggregates_are_those_of_plain_python(con: duckdb.DuckDBPyConnection, sql: dict[str, str], hours: Hours) -> None:
    found = build(con, sql, hours)
    over = {at for at in hours if at <= AS_OF}

    eights = {at: eight_hours(hours, at) for at in over}
    assert {r["hour_end"] for r in found["reading_8h"]} == over and {r["station_id"] for r in found["reading_8h"]} == {"A"}
    for r in found["reading_8h"]:
        e = eights[r["hour_end"]]
        assert (r["hours"], r["is_valid"], r["day"]) == (len(e), len(e) >= 6, day_of(r["hour_end"]))
        assert r["expected"] == 4 * sum(r["hour_end"] - timedelta(hours=i) in hours for i in range(8))
        near(r["mean_8h"], mean(e) if e else None)

    days: dict[date, dict[str, Any]] = {}
    for day in {day_of(at) for at in hours}:
        mine = {at: v for at, v in hours.items() if day_of(at) == day}
        values = [x for v in mine.values() for x in v]
        days[day] = {
            "mean": mean(map(Fraction, values)) if values and len(values) * 4 >= 3 * 4 * len(mine) else None,
            "1h": {at: counted(v) for at, v in mine.items()},
            "8h": {at: mean(eights[at]) for at in mine if at in over and len(eights[at]) >= 6},
            "values": {at: v for at, v in mine.items() if v},
            "counts": (4 * len(mine), len(values)),
        }
    for r in found["reading_daily"]:
        d = days[r["day"]]
        value, at = greatest(d["1h"])
        near(r["max_1h"], value)
        assert (r["max_1h_hour_end"], r["hours"], r["is_complete"]) == (at, sum(m is not None for m in d["1h"].values()), d["mean"] is not None)
        value, at = greatest(d["8h"]) if r["station_id"] == "A" else (None, None)
        near(r["max_8h"], value)
        assert (r["max_8h_hour_end"] is None) == (at is None)

    assert len(found["reading_period"]) == 2 * sum(len({period_of(k, d) for d in days}) for k in ("month", "quarter", "year"))
    for r in found["reading_period"]:
        first, last = r["period_start"], r["period_end"]
        mine = {d: v for d, v in days.items() if first <= d <= last}
        assert mine and all(period_of(r["period"], d) == (first, last) for d in mine)
        values = {at: v for d in mine.values() for at, v in d["values"].items()}
        complete = [d["mean"] for d in mine.values() if d["mean"] is not None]
        assert (r["expected"], r["valid"]) == tuple(map(sum, zip(*(d["counts"] for d in mine.values()), strict=True)))
        assert (r["last_day"], r["days_due"], r["days_complete"]) == (max(mine), len(mine), len(complete))
        near(r["mean_of_days"], mean(complete) if complete else None)
        assert (r["max_valid"], r["max_valid_hour_end"]) == greatest({at: max(v) for at, v in values.items()})
        low, at = greatest({at: -min(v) for at, v in values.items()})
        assert (r["min_valid"], r["min_valid_hour_end"]) == (None if low is None else -low, at)
        near(r["max_1h"], greatest({at: m for d in mine.values() for at, m in d["1h"].items()})[0])
        near(r["max_8h"], greatest({at: m for d in mine.values() for at, m in d["8h"].items()})[0] if r["station_id"] == "A" else None)
        near(r["max_24h"], greatest({d: v["mean"] for d, v in mine.items()})[0])
        ended = datetime.combine(last, datetime.min.time()) + timedelta(days=1) <= AS_OF
        assert r["is_complete"] == (ended and len(complete) >= ((last - first).days + 1) * 0.75)


def test_a_whole_quarter_with_its_leap_day(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """91 days, the last of which ends at 00:00 of 1 April; the month of February has 29 of them and is complete with 22, not with 21."""
    start = datetime(2024, 1, 1)
    hours = {start + timedelta(hours=h): [Decimal(h)] * 4 for h in range(1, 91 * 24 + 1)}
    rows = {(r["station_id"], r["period_vi"]): r for r in build(con, sql, hours)["reading_period"]}
    quarter = rows["A", "Quý 1/2024"]
    assert (quarter["days_complete"], quarter["is_complete"], quarter["hours"]) == (91, True, 91 * 24)
    assert (quarter["max_1h"], quarter["max_1h_hour_end"]) == (91 * 24, datetime(2024, 4, 1))
    assert (quarter["max_24h_day"], quarter["mean_of_days"]) == (date(2024, 3, 31), (91 * 24 + 1) / 2)
    assert rows["A", "Tháng 02/2024"]["days_due"] == 29 and not rows["A", "Năm 2024"]["is_complete"]
    for days, complete in ((22, True), (21, False)):
        some = {at: v for at, v in hours.items() if date(2024, 2, 1) <= day_of(at) < date(2024, 2, 1) + timedelta(days)}
        row = next(r for r in build(con, sql, some)["reading_period"] if r["period"] == "month")
        assert (row["days_complete"], row["is_complete"]) == (days, complete)
