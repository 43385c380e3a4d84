"""VN_AQI against the decree's own examples, and against the decree written down again in plain Python over random series."""

from __future__ import annotations

import itertools
import math
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from tests.marts_kit import compiled, database, records, seed_rows
from tnmt.settings import ROOT

START = datetime(2024, 2, 28)  # the day after tomorrow is 29 February
AS_OF = datetime(2024, 3, 3, 0, 30)
HOURS = "station_id VARCHAR, parameter VARCHAR, day DATE, hour_end TIMESTAMP, mean_valid DOUBLE, coverage_share DOUBLE, expected INTEGER, unexpected INTEGER"
DAYS = "station_id VARCHAR, matrix VARCHAR, parameter VARCHAR, day DATE, mean_valid DOUBLE, is_complete BOOLEAN, grade VARCHAR, expected INTEGER, unexpected INTEGER"
STATION = "station_id VARCHAR, station_name VARCHAR, commune_code VARCHAR, commune_name VARCHAR, matrix VARCHAR"
GASES = ("O3", "NO2", "SO2", "CO")
PARTICLES = ("PM2.5", "PM10")
COLUMN = {"PM2.5": "aqi_pm2_5", "PM10": "aqi_pm10", "O3": "aqi_o3", "NO2": "aqi_no2", "SO2": "aqi_so2", "CO": "aqi_co"}

Series = dict[str, dict[int, float]]
"""Per parameter: hour (1 is 01:00 of the first day) -> mean of that hour."""


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("aqi"), ["aqi_hourly", "aqi_daily"], AS_OF.isoformat(sep=" "))


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    tables: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
        "marts_environment.reading_hourly": (HOURS, []),
        "marts_environment.reading_daily": (DAYS, []),
        "marts_core.dim_station": (STATION, [("A", "Trạm A", "1", "Xã A", "ambient_air"), ("K", "Ống khói", "1", "Xã A", "emission")]),
    }
    return database(tables, ["vn_aqi_breakpoint", "vn_aqi_band"])


def _end(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def _day(hour: int) -> int:
    return (hour - 1) // 24


def run(con: duckdb.DuckDBPyConnection, query: str, series: Series, days: dict[tuple[str, int], float] | None = None) -> list[dict[str, Any]]:
    """Rows of the mart where station A has these hours; the chimney K measures the same and counts nowhere."""
    con.execute("DELETE FROM lake.marts_environment.reading_hourly; DELETE FROM lake.marts_environment.reading_daily")
    hours = [(s, p, _end(h - 1).date(), _end(h), v, 1.0, 12, 0) for s in "AK" for p, values in series.items() for h, v in values.items()]
    if hours:
        con.executemany("INSERT INTO lake.marts_environment.reading_hourly VALUES (?, ?, ?, ?, ?, ?, ?, ?)", hours)
    touched = {(p, _day(h)) for p, values in series.items() for h in values}
    daily = [("A", "ambient_air", p, (START + timedelta(d)).date(), (days or {}).get((p, d)), (p, d) in (days or {})) for p, d in touched]
    if daily:
        con.executemany("INSERT INTO lake.marts_environment.reading_daily VALUES (?, ?, ?, ?, ?, ?, 'raw', 24, 0)", daily)
    return records(con, query)


@pytest.mark.parametrize("mart", ["aqi_hourly", "aqi_daily"])
def test_a_parameter_that_nobody_registered_is_named(con: duckdb.DuckDBPyConnection, sql: dict[str, str], mart: str) -> None:
    run(con, sql[mart], {"O3": dict.fromkeys(range(1, 25), 50.0)}, {})
    for hour in range(1, 25):
        row = ("A", "PM2.5", START.date(), _end(hour), 30.0, None, 0, 12)
        con.execute("INSERT INTO lake.marts_environment.reading_hourly VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    con.execute("INSERT INTO lake.marts_environment.reading_daily VALUES ('A', 'ambient_air', 'PM2.5', ?, 30, FALSE, 'raw', 0, 288)", [START.date()])
    for found in records(con, sql[mart]):
        assert found["aqi"] is None and found["unregistered_parameters"] == "PM2.5" and "chưa đăng ký: PM2.5" in found["reason_vi"]


# --- the decree again, in exact fractions ------------------------------------------------------------------------


def _table() -> dict[tuple[str, str], list[tuple[Fraction, int]]]:
    found: dict[tuple[str, str], list[tuple[Fraction, int]]] = {}
    for row in sorted(seed_rows("vn_aqi_breakpoint"), key=lambda r: int(r["step"])):
        if row["breakpoint"]:
            for averaging in row["averaging"].split("|"):
                found.setdefault((row["parameter"], averaging), []).append((Fraction(row["breakpoint"]), int(row["aqi"])))
    return found


TABLE = _table()


def index(parameter: str, averaging: str, value: Fraction | float) -> int | None:
    """AQI_x of a concentration; None where the table ends below it (ozone, 8 hours)."""
    value = round(Fraction(value) * 10**6) * Fraction(1, 10**6)
    steps = TABLE[parameter, averaging]
    for (low, i_low), (high, i_high) in itertools.pairwise(steps):
        if value <= high:
            return math.floor((value - low) * (i_high - i_low) / (high - low) + i_low + Fraction(1, 2))
    return 500 if steps[-1][1] == 500 else None


def nowcast(values: dict[int, float], hour: int) -> Fraction | None:
    """NowCast of the hour (mục 2.2.2); missing hours have no weight."""
    c = [Fraction(values[hour - i]) if hour - i in values else None for i in range(12)]
    known = [x for x in c if x is not None]
    if sum(x is not None for x in c[:3]) < 2:
        return None
    w = max(Fraction(1, 2), min(known) / max(known)) if max(known) else Fraction(1)
    weights = [w**i if x is not None else 0 for i, x in enumerate(c)]
    mean = sum(weight * x for weight, x in zip(weights, c, strict=True) if x is not None) / sum(weights)
    return mean if w > Fraction(1, 2) else mean * (1 - Fraction(1, 2) ** 12)


def hourly(series: Series) -> dict[int, dict[str, int]]:
    """Sub-indices of each hour."""
    found: dict[int, dict[str, int]] = {h: {} for values in series.values() for h in values}
    for parameter, values in series.items():
        for hour in found:
            if parameter in GASES and hour in values:
                found[hour][parameter] = index(parameter, "1h", values[hour]) or 0
            elif parameter in PARTICLES and (now := nowcast(values, hour)) is not None:
                found[hour][parameter] = index(parameter, "nowcast", now) or 0
    return found


def daily(series: Series, days: dict[tuple[str, int], float]) -> dict[int, dict[str, int]]:
    """Sub-indices of each day that is over; three quarters of the hours must be there."""
    found: dict[int, dict[str, int]] = {}
    for day in {_day(h) for values in series.values() for h in values}:
        mine = found.setdefault(day, {})
        for parameter, values in series.items():
            today = list(range(day * 24 + 1, day * 24 + 25))
            if parameter in PARTICLES and (parameter, day) in days:
                mine[parameter] = index(parameter, "24h", days[parameter, day]) or 0
            if parameter not in GASES:
                continue
            there = [values[h] for h in today if h in values]
            if len(there) >= 18:
                mine[parameter] = index(parameter, "1h", max(there)) or 0
            if parameter == "O3":
                eights = [[values[h - i] for i in range(8) if h - i in values] for h in today]
                means = [sum(map(Fraction, e)) / len(e) for e in eights if len(e) >= 6]
                if len(means) >= 18 and (eight := index("O3", "8h", max(means))) is not None:
                    mine["O3"] = max(mine.get("O3", 0), eight)
    return found


def assert_same(rows: list[dict[str, Any]], expected: dict[int, dict[str, int]], key: str) -> None:
    by_key = {r[key]: r for r in rows}
    assert all(r["station_id"] == "A" for r in rows)
    assert len(by_key) == len(rows) == len(expected)
    for k, subs in expected.items():
        row = by_key[_end(k) if key == "hour_end" else (START + timedelta(k)).date()]
        assert {p: row[c] for p, c in COLUMN.items() if row[c] is not None} == subs
        aqi = max(subs.values()) if any(p in subs for p in PARTICLES) else None
        assert row["aqi"] == aqi and row["parameters"] == len(subs)
        if aqi is None:
            assert row["reason_vi"] and row["level_vi"] == "Không đủ số liệu" and row["responsible_parameter"] is None
        else:
            assert subs[row["responsible_parameter"]] == aqi and row["reason_vi"] is None
            band = next(b for b in seed_rows("vn_aqi_band") if int(b["aqi_min"]) <= aqi <= int(b["aqi_max"]))
            assert (row["level_vi"], row["colour"]) == (band["level_vi"], band["hex"])


# --- the decree's examples (docs: VN_AQI; vectors of QĐ 1459 mục 2.2.2 and 2.3) -------------------------------------

NOWCAST_EXAMPLE = [26.9, 24.7, 20.5, 23.5, 19.5, 16.5, 19.0, 16.5, 20.3, 22.4, 19.6, 20.6]
OZONE_EXAMPLE = [15.7, 14.2, 17.7, 18.9, 19.3, 15.7, 19.7, 22.6, 27.1, 29.0, 31.9, 25.3, 34.7, 35.2, 41.6, 45.7, 49.2, 55.8, 69.6, 78.3]
OZONE_EXAMPLE += [91.5, 97.7, 81.2, 71.8, 43.5, 34.3, 21.5, 20.5, 19.4, 20.4, 21.3]
OZONE_8H = [
    18.0,
    19.4,
    21.2,
    23.0,
    23.8,
    25.8,
    28.2,
    30.9,
    33.8,
    36.6,
    39.9,
    44.7,
    51.3,
    58.4,
    66.2,
    71.1,
    74.4,
    73.7,
    71.0,
    65.0,
    57.8,
    48.7,
    39.1,
    31.6,
]


def test_the_hour_of_the_decree(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """NowCast 20.3, O3 136.1 -> 43, PM2.5 -> 41; NO2 118.7 -> 59 (59.35; the decision prints 60, and so does its maximum)."""
    rows = run(con, sql["aqi_hourly"], {"PM2.5": {9 + i: v for i, v in enumerate(NOWCAST_EXAMPLE)}, "O3": {20: 136.1}, "NO2": {20: 118.7}})
    row = next(r for r in rows if r["hour_end"] == _end(20))
    assert round(row["nowcast_pm2_5"], 1) == 20.3 and row["nowcast_hours_pm2_5"] == 12
    assert (row["aqi_o3"], row["aqi_no2"], row["aqi_pm2_5"], row["aqi"], row["responsible_parameter"]) == (43, 59, 41, 59, "NO2")


def test_the_day_of_the_decree(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """O3 max 8 h 89.3 -> 45 and max 1 h 114.6 -> 36; NO2 130.8 -> 65; PM2.5 55.7 -> 109.5 -> 110: half up."""
    ozone = dict.fromkeys(range(25, 49), 20.0) | dict.fromkeys(range(33, 41), 0.0)
    ozone |= dict.fromkeys(range(33, 40), (89.3 * 8 - 114.6) / 7) | {40: 114.6}
    series: Series = {"O3": ozone, "NO2": {h: 130.8 if h == 30 else 50.0 for h in range(25, 49)}, "PM2.5": {25: 55.7}}
    row = next(r for r in run(con, sql["aqi_daily"], series, {("PM2.5", 1): 55.7}) if r["day"] == (START + timedelta(1)).date())
    assert (round(row["max_8h_o3"], 4), row["max_1h_o3"]) == (89.3, 114.6)
    assert (row["aqi_o3"], row["aqi_no2"], row["aqi_pm2_5"], row["aqi"], row["responsible_parameter"]) == (45, 65, 110, 110, "PM2.5")
    assert index("O3", "1h", 114.6) == 36


def test_eight_hours_of_the_decree(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """The 24 trailing means of 01:00…00:00, of which 74.4 at 17:00 is the greatest."""
    values = {18 + i: v for i, v in enumerate(OZONE_EXAMPLE)}
    for hour, printed in zip(range(25, 49), OZONE_8H, strict=True):
        eight = [values[hour - i] for i in range(8)]
        assert abs(sum(eight) / 8 - printed) < 0.0626
    row = next(r for r in run(con, sql["aqi_daily"], {"O3": values}) if r["day"] == (START + timedelta(1)).date())
    assert round(row["max_8h_o3"], 1) == 74.4
    assert row["aqi"] is None and row["reason_vi"]  # no PM10, no PM2.5: the decree gives no index


def test_a_running_day_and_a_running_hour_wait(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    last = 24 * 4  # 00:00 of 3 March is over at 00:30, 01:00 is not
    series: Series = {"PM2.5": dict.fromkeys(range(last - 30, last + 2), 10.0)}
    days = {("PM2.5", d): 10.0 for d in range(5)}
    assert max(r["hour_end"] for r in run(con, sql["aqi_hourly"], series)) == _end(last)
    assert max(r["day"] for r in run(con, sql["aqi_daily"], series, days)) == (START + timedelta(3)).date()


def test_the_newest_hour_may_be_missing(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Two of the last three hours are enough (mục 2.2.2), also where the third is the hour itself."""
    rows = run(con, sql["aqi_hourly"], {"PM10": {1: 50.0, 2: 50.0}, "CO": dict.fromkeys((1, 2, 3, 4), 0.0)})
    assert [r["aqi_pm10"] for r in sorted(rows, key=lambda r: r["hour_end"])] == [None, 50, 50, None]


VALUE = st.one_of(st.integers(0, 60), st.integers(0, 1300), st.decimals(0, 600, places=2)).map(float)
SERIES = st.fixed_dictionaries({p: st.dictionaries(st.integers(1, 72), VALUE, max_size=72) for p in PARTICLES + GASES})
DENSE = st.fixed_dictionaries({p: st.lists(VALUE, min_size=72, max_size=72).map(lambda v: dict(enumerate(v, 1))) for p in PARTICLES + GASES})


@examples(40)
@given(series=SERIES | DENSE, gaps=st.sets(st.integers(1, 72), max_size=20))
def test_hours_as_the_decree_in_fractions(con: duckdb.DuckDBPyConnection, sql: dict[str, str], series: Series, gaps: set[int]) -> None:
    series = {p: {h: v for h, v in values.items() if h not in gaps} for p, values in series.items()}
    assert_same(run(con, sql["aqi_hourly"], series), hourly(series), "hour_end")


@examples(40)
@given(
    series=SERIES | DENSE,
    gaps=st.sets(st.integers(1, 72), max_size=20),
    means=st.dictionaries(st.tuples(st.sampled_from(PARTICLES), st.integers(0, 2)), VALUE),
)
def test_days_as_the_decree_in_fractions(
    con: duckdb.DuckDBPyConnection, sql: dict[str, str], series: Series, gaps: set[int], means: dict[tuple[str, int], float]
) -> None:
    series = {p: {h: v for h, v in values.items() if h not in gaps} for p, values in series.items()}
    means = {(p, d): v for (p, d), v in means.items() if any(_day(h) == d for h in series[p])}
    assert_same(run(con, sql["aqi_daily"], series, means), daily(series, means), "day")


def test_the_page_shows_the_seeds() -> None:
    """docs/indices/vn_aqi.md has every breakpoint and band as the seeds have them."""
    page = (ROOT / "docs/indices/vn_aqi.md").read_text(encoding="utf-8")
    steps: dict[tuple[str, str], list[str]] = {}
    for row in sorted(seed_rows("vn_aqi_breakpoint"), key=lambda r: int(r["step"])):
        steps.setdefault((row["parameter"], row["averaging"]), []).append(row["breakpoint"] or "–")
    for (parameter, averaging), values in steps.items():
        assert f"| {parameter} | {averaging.replace('|', ', ')} | µg/m3 | {' | '.join(values)} |" in page
    for band in seed_rows("vn_aqi_band"):
        assert (
            f"| {band['aqi_min']}–{band['aqi_max']} | {band['level_vi']} | {band['colour_vi']} `{band['hex']}` | {band['health_effect_vi_short']} |"
            in page
        )
