"""Forecasts: the function on series whose nature is known, and the SQL that trains, backtests, chooses, bounds and warns."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from marts.forecast_methods import each_method, level, paths, phase_mean
from marts.forecast_names import BASELINES, LEARNT, METHODS
from marts.forecasting import register
from tests.marts_kit import Compiled, compiled, database, records

AS_OF = datetime(2026, 3, 24, 6, 20)
TODAY = AS_OF.date()
STATION = (
    "station_id VARCHAR, station_name VARCHAR, matrix VARCHAR, matrix_vi VARCHAR, facility_name VARCHAR, commune_code VARCHAR, commune_name VARCHAR"
)
HOUR = "station_id VARCHAR, parameter VARCHAR, day DATE, hour_end TIMESTAMP, mean_valid DOUBLE, coverage_share DOUBLE"
DAY = "station_id VARCHAR, parameter VARCHAR, matrix VARCHAR, day DATE, mean_valid DOUBLE, is_complete BOOLEAN"
LIMIT = "station_id VARCHAR, parameter VARCHAR, day DATE, mean_valid DOUBLE, effective_min DOUBLE, effective_max DOUBLE, limit_confidence VARCHAR"
MODELS = ["int_forecast_series", "int_forecast", "int_forecast_shown", "forecast_skill", "forecast"]


def cycle(hours: int, noise: float = 1.0, seed: int = 1) -> list[float | None]:
    """A strong daily cycle."""
    rng = random.Random(seed)
    return [30 + 15 * math.sin(2 * math.pi * (h % 24) / 24) + rng.gauss(0, noise) for h in range(hours)]


def walk(steps: int, seed: int = 1) -> list[float | None]:
    """A random walk: nothing beats its last value."""
    rng, value, values = random.Random(seed), 100.0, []
    for _ in range(steps):
        value += rng.gauss(0, 1)
        values.append(value)
    return list(values)


HOURS = {"season": 24, "steps": 24, "length": 336, "stride": 6, "patience": 24, "least": 96}
DAYS = {"season": 7, "steps": 2, "length": 28, "stride": 1, "patience": 7, "least": 14}
SMALL = {"season": 4, "steps": 4, "length": 16, "stride": 2, "patience": 4, "least": 8}


def rows(*series: list[float | None]) -> np.ndarray:
    return np.array(series, dtype=np.float64)


def test_smoothing_is_that_of_the_library() -> None:
    """ETS(A,N,N), and ETS(A,N,A) with gamma = 0, from the same first states and parameters."""
    plain, seasonal = rows(walk(60)), rows(cycle(336, noise=3))
    theirs = ETSModel(plain[0], error="add", initialization_method="known", initial_level=plain[0, 0]).smooth([0.4])
    assert level(plain, 0.4)[0] == pytest.approx(theirs.forecast(1)[0], rel=1e-9)
    pattern = phase_mean(seasonal, 24)[0]
    first = seasonal[0, 0] - pattern[0]
    known = {"initialization_method": "known", "initial_level": first, "initial_seasonal": pattern}
    theirs = ETSModel(seasonal[0], error="add", seasonal="add", seasonal_periods=24, **known).smooth([0.4, 0.0])
    assert each_method(seasonal, 24, 24, 24, 96)["ets_season_fast"][0] == pytest.approx(theirs.forecast(24), rel=1e-9)


def test_gaps_are_bridged_and_the_phase_kept() -> None:
    whole = cycle(336, noise=0.2)
    holes: list[float | None] = [None if 100 <= i < 105 or i in (7, 200) else v for i, v in enumerate(whole)]
    late: list[float | None] = [*whole[:-6], *[None] * 6]
    exact = [30 + 15 * math.sin(2 * math.pi * (h % 24) / 24) for h in range(336, 360)]
    found = each_method(rows(whole, holes, late, [None, None, *whole[2:]]), 24, 24, 24, 96)
    for method in ("seasonal_naive", "climatology", "recent_climatology", "ets_season_slow", "ets_season_fast", "anomaly"):
        assert found[method] == pytest.approx(np.tile(exact, (4, 1)), abs=1.5), method


@pytest.mark.parametrize(
    "series", [walk(13), [None] * 20 + walk(8), [v if i % 3 else None for i, v in enumerate(walk(28))], [*walk(20), *[None] * 8]]
)
def test_what_is_too_short_or_too_full_of_gaps_has_baselines_only(series: list[float | None]) -> None:
    found = paths(rows([*[None] * (28 - len(series)), *series]), **DAYS)
    assert all(np.isnan(found[m][0, -1]).all() for m in (*LEARNT, "combination"))
    assert not any(np.isnan(found[m][0, -1]).any() for m in ("climatology", "mean"))
    assert all(np.isnan(v).all() for v in paths(rows([None] * 60), **DAYS).values())


def test_a_constant_series_stays() -> None:
    assert all((v == 7.0).all() for v in paths(rows([7.0] * 60), **DAYS).values())


VALUE = st.one_of(st.none(), st.floats(-50, 1e4, allow_nan=False))


@settings(max_examples=25, deadline=None)
@given(st.lists(VALUE, min_size=40, max_size=40), st.lists(VALUE, min_size=40, max_size=40), st.integers(1, 11))
def test_no_method_sees_what_lies_after_its_origin(series: list[float | None], other: list[float | None], late: int) -> None:
    """Whatever the future, an origin says the same; and what it says of one series hangs on no other."""
    one, two = paths(rows(series), **SMALL), paths(rows([*series[: 40 - 2 * late], *other[40 - 2 * late :]], other), **SMALL)
    for method in METHODS:
        assert np.array_equal(one[method][0, :-late], two[method][0, :-late], equal_nan=True), method


@settings(max_examples=25, deadline=None)
@given(st.lists(VALUE, min_size=60, max_size=60))
def test_a_combination_lies_within_its_methods(series: list[float | None]) -> None:
    found = paths(rows(series), **SMALL)
    parts = np.stack([found[m] for m in (*BASELINES, *LEARNT)])
    there = ~np.isnan(found["combination"])
    assert (found["combination"][there] >= parts.min(axis=0)[there] - 2e-6).all()
    assert (found["combination"][there] <= parts.max(axis=0)[there] + 2e-6).all()


@pytest.mark.parametrize("missing", [lambda i: i % 7 == 0, lambda i: i % 7 == 0 and i < 40, lambda i: i > 55, lambda i: i % 3 == 0])
def test_a_combination_says_nothing_where_one_of_its_methods_does(missing: Callable[[int], bool]) -> None:
    """A phase without any value, as a station that is off on Sundays has it, among them. The test `int_forecast_rows` asks the same of every row."""
    found = paths(rows([None if missing(i) else v for i, v in enumerate(walk(70))]), **DAYS)
    silent = np.isnan(np.stack([found[m] for m in ("persistence", "seasonal_naive", "recent_mean")])).any(axis=0)
    there = ~np.isnan(found["mean"])
    assert np.array_equal(np.isnan(found["combination"])[there], silent[there])


def test_a_combination_beats_its_methods_where_each_knows_a_part() -> None:
    """A daily cycle, and a level that wanders back: the last value is right for the next hours, the cycle for the later ones."""
    rng, drift, series = random.Random(3), 0.0, []
    for hour in range(74 * 24):
        drift = 0.9 * drift + rng.gauss(0, 3)
        series.append(40 + 8 * math.sin(2 * math.pi * hour / 24) + drift)
    found = paths(rows(series), **HOURS)
    ends = np.arange(len(series), 335, -6)[::-1]
    late = [at for at, end in enumerate(ends) if at >= 60 and end + 24 <= len(series)]
    error = {m: np.mean([(found[m][0, at] - series[ends[at] : ends[at] + 24]) ** 2 for at in late], axis=0) for m in METHODS}
    for first, last in ((0, 6), (6, 12), (12, 24)):
        parts = {m: error[m][first:last].mean() for m in METHODS}
        assert parts["combination"] < 1.03 * min(parts.values())
    assert error["combination"].mean() < min(error[m].mean() for m in (*BASELINES, *LEARNT))


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compiled(tmp_path_factory.mktemp("forecast"), MODELS, AS_OF.isoformat(sep=" "))


def province(
    sql: Compiled, hours: dict[str, list[float | None]], days: dict[str, list[float | None]], limits: list[tuple[Any, ...]] = (), threads: int = 2
) -> duckdb.DuckDBPyConnection:  # type: ignore[assignment]
    """Air stations with hourly PM2.5 up to 06:00 of AS_OF, wastewater stations with daily COD up to yesterday, newest last."""
    stations = [(s, f"Trạm {s}", "ambient_air", "Không khí", None, "1", "Xã A") for s in hours]
    stations += [(s, f"Trạm {s}", "wastewater", "Nước thải", "Công ty", "1", "Xã A") for s in days]
    end = AS_OF.replace(minute=0)
    by_hour = [
        (s, "PM2.5", (end - timedelta(hours=i, seconds=1)).date(), end - timedelta(hours=i), v, 1.0 if v is not None else 0.0)
        for s, values in hours.items()
        for i, v in enumerate(reversed(values))
    ]
    by_day = [
        (s, "COD", "wastewater", TODAY - timedelta(days=i), v, v is not None) for s, values in days.items() for i, v in enumerate(reversed(values), 1)
    ]
    con = database(
        {
            "marts_core.dim_station": (STATION, stations),
            "marts_core.dim_parameter": (
                "matrix VARCHAR, parameter VARCHAR, parameter_name_vi VARCHAR, unit VARCHAR",
                [("ambient_air", "PM2.5", "Bụi PM2.5", "µg/m3"), ("wastewater", "COD", "COD", "mg/L")],
            ),
            "marts_environment.reading_hourly": (HOUR, []),
            "marts_environment.aqi_hourly": ("station_id VARCHAR, day DATE, hour_end TIMESTAMP, aqi INTEGER", []),
            "marts_environment.reading_daily": (DAY, []),
            "marts_environment.compliance_daily": (LIMIT, list(limits)),
        }
    )
    for table, found in (("reading_hourly", by_hour), ("reading_daily", by_day)):  # row by row it takes longer than the forecast
        if found:
            con.register("found", pa.table([list(column) for column in zip(*found, strict=True)], [f"c{i}" for i in range(len(found[0]))]))
            con.execute(f"INSERT INTO lake.marts_environment.{table} FROM found")
    con.execute(f"SET threads = {threads}")
    con.execute("CREATE SCHEMA lake.intermediate")
    register(con)
    for model in MODELS:
        schema = "intermediate" if model.startswith("int_") else "marts_environment"
        con.execute(f"CREATE TABLE lake.{schema}.{model} AS {sql[model]}")
    return con


def wandering(hours: int, seed: int) -> list[float | None]:
    """A daily cycle, and a level that wanders back, with gaps: what a station of the air measures."""
    rng, drift, values = random.Random(seed), 0.0, []
    for hour in range(hours):
        drift = 0.9 * drift + rng.gauss(0, 3)
        values.append(None if rng.random() < 0.03 else max(40 + 8 * math.sin(2 * math.pi * hour / 24) + drift, 0))
    return list(values)


def shown_of(con: duckdb.DuckDBPyConnection, where: str = "true") -> list[tuple[Any, ...]]:
    columns = "station_id, kind, origin_number, step, value, lower_bound, upper_bound, method, is_chosen, backtest_origins, skill"
    return con.execute(f"SELECT {columns} FROM lake.intermediate.int_forecast_shown WHERE {where} ORDER BY ALL").fetchall()


@pytest.fixture(scope="module")
def wide(sql: Compiled) -> duckdb.DuckDBPyConnection:
    """Six stations of 74 days, and days of a walk, of noise around a level, and of a newcomer."""
    noise: list[float | None] = [60 + random.Random(n).gauss(0, 10) for n in range(88)]
    air = {f"AIR{n}": wandering(74 * 24 + 6, n) for n in range(6)}
    return province(sql, air, {"WALK": walk(88), "NOISE": noise, "NEW": [5.0, 6.0, 7.0]})


def test_every_method_has_a_name_and_a_column(sql: Compiled, wide: duckdb.DuckDBPyConnection) -> None:
    columns = [r["column_name"] for r in records(wide, "DESCRIBE lake.intermediate.int_forecast")]
    assert [c for c in columns if c in METHODS] == list(METHODS)
    names = dict(wide.execute("SELECT DISTINCT method, method_vi FROM lake.marts_environment.forecast_skill WHERE kind = 'hour'").fetchall())
    assert set(names) == {*METHODS, "shown"}
    assert all(names.values())


def test_what_is_shown_erred_least_before(wide: duckdb.DuckDBPyConnection) -> None:
    """The choice in plain Python: least squared error at origins that were over, the simplest of equals."""
    table = records(wide, "FROM lake.intermediate.int_forecast WHERE station_id IN ('AIR0', 'WALK')")
    found = {r[:4]: r[7] for r in shown_of(wide, "station_id IN ('AIR0', 'WALK') AND is_chosen")}
    assert len(set(found.values())) > 1
    for station, kind, gap, groups in (("AIR0", "hour", 4, [range(1, 7), range(7, 13), range(13, 25)]), ("WALK", "day", 2, [[1], [2]])):
        for number in (0, 7, 30):
            for group in groups:
                pairs = [
                    r
                    for r in table
                    if r["station_id"] == station
                    and r["origin_number"] >= number + gap
                    and r["step"] in group
                    and all(r[m] is not None for m in (*METHODS, "observed"))
                ]
                error = {m: sum((r[m] - r["observed"]) ** 2 for r in pairs) for m in METHODS}
                assert found[station, kind, number, group[0]] == min(METHODS, key=lambda m: error[m])


def test_nothing_better_than_a_baseline_shows_the_baseline_by_name(wide: duckdb.DuckDBPyConnection) -> None:
    shown = {(r["station_id"], r["target_at"].date()): r for r in records(wide, "FROM lake.marts_environment.forecast WHERE kind = 'day'")}
    walked, new = shown["WALK", TODAY], shown["NEW", TODAY]
    assert (walked["method"], walked["method_vi"]) == ("persistence", "Giữ nguyên giá trị cuối")
    assert (walked["reason_vi"], walked["skill"]) == ("Không mô hình nào tốt hơn cách đơn giản này", 0)
    assert walked["lower_bound"] < walked["value"] < walked["upper_bound"]
    assert (new["value"], new["method"], new["reason_vi"], new["skill"], new["lower_bound"]) == (
        7.0,
        "persistence",
        "Chưa đủ lịch sử để lập mô hình",
        None,
        None,
    )
    noise = shown["NOISE", TODAY]
    assert noise["method"] != "persistence"
    for row in shown.values():
        assert (row["reason_vi"] is None) == (row["method"] not in BASELINES)
        assert row["reason_vi"] or row["skill"] > 0


def test_intervals_hold_what_they_promise(wide: duckdb.DuckDBPyConnection) -> None:
    """80 % intervals of what was shown, each from errors before it."""
    skill = records(wide, "FROM lake.marts_environment.forecast_skill WHERE method = 'shown' AND kind = 'hour'")
    assert len(skill) == 6 * 4
    assert all(r["origins"] >= 180 for r in skill)
    for horizon in ("1-6h", "7-12h", "13-24h", "all"):
        some = [r for r in skill if r["horizon"] == horizon]
        assert 0.75 <= sum(r["interval_coverage_share"] for r in some) / len(some) <= 0.85
        assert sum(r["skill"] for r in some) / len(some) > (0.05 if horizon == "1-6h" else -0.02)
    assert all(r["shown_vi"] and r["best_baseline_vi"] for r in skill)


def test_nothing_shown_sees_the_future(sql: Compiled) -> None:
    """Method, weights, value and interval of an origin are the same whatever comes after it."""
    before = wandering(40 * 24 + 6, 1)
    after: list[float | None] = [*before[:-48], *[999.0] * 40, *[None] * 8]
    days: list[float | None] = [60 + random.Random(n).gauss(0, 10) for n in range(70)]
    changed: list[float | None] = [*days[:-8], *[1e5] * 8]
    where = "origin_number >= 8"  # 48 hours, 8 days
    one = province(sql, {"A": before}, {"D": days})
    two = province(sql, {"A": after}, {"D": changed})
    assert shown_of(one, where) == shown_of(two, where)
    assert len(shown_of(one, f"{where} AND is_chosen AND lower_bound IS NOT NULL")) > 24 * 40
    assert shown_of(one, "origin_number = 0") != shown_of(two, "origin_number = 0")


def test_threads_change_nothing(sql: Compiled) -> None:
    """To the bit, with other series beside it too."""
    air = {f"AIR{n}": wandering(30 * 24 + 6, n) for n in range(3)}
    days = {f"D{n}": walk(60 + n % 5, n) for n in range(60)}
    tables = []
    for threads, hours in ((1, air), (4, air), (3, {"AIR0": air["AIR0"]})):
        con = province(sql, hours, days, threads=threads)
        tables.append(
            [
                con.execute(f"FROM lake.{t} WHERE station_id IN ('AIR0', 'D7') ORDER BY ALL").fetchall()
                for t in (
                    "intermediate.int_forecast",
                    "intermediate.int_forecast_shown",
                    "marts_environment.forecast",
                    "marts_environment.forecast_skill",
                )
            ]
        )
    assert tables[0] == tables[1] == tables[2]
    assert all(tables[0])


def test_skill_is_what_plain_python_finds(wide: duckdb.DuckDBPyConnection) -> None:
    pairs = records(
        wide,
        "SELECT f.*, s.value AS shown, s.is_chosen, s.lower_bound, s.upper_bound FROM lake.intermediate.int_forecast AS f "
        "LEFT JOIN lake.intermediate.int_forecast_shown AS s USING (station_id, parameter, kind, origin_number, step) "
        "WHERE f.station_id = 'AIR1' AND f.origin_number > 0 AND f.observed IS NOT NULL",
    )
    for method in (*METHODS, "shown"):
        (row,) = records(wide, f"FROM lake.marts_environment.forecast_skill WHERE station_id = 'AIR1' AND horizon = 'all' AND method = '{method}'")
        some = [p for p in pairs if all(p[m] is not None for m in (*BASELINES, method)) and (method != "shown" or p["is_chosen"])]
        squares = {m: sum((p[m] - p["observed"]) ** 2 for p in some) for m in {*BASELINES, method}}
        best = min(BASELINES, key=lambda m: squares[m])
        assert row["forecasts"] == len(some)
        assert row["root_mean_square_error"] == pytest.approx(math.sqrt(squares[method] / len(some)), rel=1e-5)
        assert (row["best_baseline"], row["skill"]) == (best, pytest.approx(1 - squares[method] / squares[best], abs=1e-5))
        assert row["skill_persistence"] == pytest.approx(1 - squares[method] / squares["persistence"], abs=1e-5)
        assert row["skill_climatology"] == pytest.approx(1 - squares[method] / squares["climatology"], abs=1e-5)
        if method == "shown":
            bounded = [p for p in some if p["lower_bound"] is not None]
            inside = sum(p["lower_bound"] <= p["observed"] <= p["upper_bound"] for p in bounded)
            assert row["interval_coverage_share"] == pytest.approx(inside / len(bounded))


def test_the_running_day_warns(sql: Compiled) -> None:
    """What was measured up to 06:20 weighs 6 h 20 min, the forecast the rest; the limit is that of the day."""
    limits = [
        ("HIGH", "COD", TODAY, 200.0, None, 74.25, "verified"),
        ("EDGE", "COD", TODAY, 60.0, None, 74.25, "verified"),
        ("FINE", "COD", TODAY, 60.0, None, 74.25, "verified"),
        ("MUTE", "COD", TODAY, None, None, 74.25, "verified"),
        ("AIR", "PM2.5", TODAY, 60.0, None, 45.0, "verified"),
        ("NIL", "COD", TODAY, -0.3, None, 74.25, "verified"),
    ]
    noisy = [60.0 + random.Random(n).gauss(0, 15) for n in range(75)]
    steady = [60.0 + random.Random(n).gauss(0, 1) for n in range(75)]
    con = province(
        sql,
        {"AIR": [50.0 + (h % 24) / 100 for h in range(21 * 24 + 6)]},
        {"HIGH": list(steady), "EDGE": list(noisy), "FINE": list(steady), "MUTE": list(steady), "NIL": [0.0] * 75},
        limits,
    )
    today = {r["station_id"]: r for r in records(con, f"FROM lake.marts_environment.forecast WHERE kind = 'day' AND target_at = TIMESTAMP '{TODAY}'")}
    assert {s: r["warning"] for s, r in today.items()} == {
        "HIGH": "will_exceed",
        "EDGE": "may_exceed",
        "FINE": None,
        "MUTE": None,
        "AIR": "will_exceed",
        "NIL": None,
    }
    # a channel at zero reads a little below it; no forecast does
    assert all(v is None or v >= 0 for r in today.values() for v in (r["value"], r["lower_bound"], r["upper_bound"])) and today["NIL"]["value"] == 0
    elapsed = (6 * 60 + 20) / 1440
    guess = records(con, "SELECT value FROM lake.intermediate.int_forecast_shown WHERE station_id = 'HIGH' AND origin_number = 0 AND step = 1")[0][
        "value"
    ]
    assert today["HIGH"]["value"] == pytest.approx(200 * elapsed + guess * (1 - elapsed), abs=1e-3)
    assert today["MUTE"]["value"] == pytest.approx(guess, abs=1e-3)
    hours = [50.0 + (h % 24) / 100 for h in range(21 * 24, 21 * 24 + 6)]
    assert today["AIR"]["value"] == pytest.approx((sum(hours) + sum(50 + (h % 24) / 100 for h in range(6, 24))) / 24, abs=0.2)
    assert {r["warning_vi"] for r in today.values()} == {"Dự báo vượt giới hạn", "Có thể vượt giới hạn", "Không"}
    later = records(con, "SELECT DISTINCT target_at FROM lake.marts_environment.forecast WHERE kind = 'day' AND matrix = 'wastewater' ORDER BY 1")
    assert [r["target_at"].date() for r in later] == [TODAY, date(2026, 3, 25)]
