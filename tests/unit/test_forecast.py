"""Forecasts: the function on series whose nature is known, and the SQL that trains, backtests, chooses and warns."""

from __future__ import annotations

import math
import random
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from orchestration.forecasting import ets_forecast, register
from tests.marts_kit import Compiled, compiled, database, records

AS_OF = datetime(2026, 3, 24, 6, 20)
TODAY = AS_OF.date()
STATION = (
    "station_id VARCHAR, station_name VARCHAR, matrix VARCHAR, matrix_vi VARCHAR, facility_name VARCHAR, commune_code VARCHAR, commune_name VARCHAR"
)
HOUR = "station_id VARCHAR, parameter VARCHAR, day DATE, hour_end TIMESTAMP, mean_valid DOUBLE, coverage_share DOUBLE"
DAY = "station_id VARCHAR, parameter VARCHAR, matrix VARCHAR, day DATE, mean_valid DOUBLE, is_complete BOOLEAN"
LIMIT = "station_id VARCHAR, parameter VARCHAR, day DATE, mean_valid DOUBLE, effective_min DOUBLE, effective_max DOUBLE, limit_confidence VARCHAR"
MODELS = ["int_forecast_series", "int_forecast", "forecast_skill", "forecast"]


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


@pytest.mark.parametrize(("series", "season"), [(cycle(336), 24), (walk(60), 1)])
def test_mean_and_deviation_are_those_of_the_library(series: list[float | None], season: int) -> None:
    found = ets_forecast(series, season, 30)
    shape: dict[str, Any] = {"seasonal": "add", "seasonal_periods": season} if season > 1 else {}
    fit = ETSModel(pd.Series(np.array(series, dtype=float)), error="add", initialization_method="heuristic", **shape).fit(disp=False)
    there = fit.get_prediction(start=len(series), end=len(series) + 29)
    assert [f["mean"] for f in found] == pytest.approx(list(there.predicted_mean))
    assert [f["deviation"] for f in found] == pytest.approx(list(np.sqrt(there.forecast_variance)), rel=1e-9)


def test_gaps_are_bridged_and_the_phase_kept() -> None:
    whole = cycle(336, noise=0.2)
    holes: list[float | None] = [None if 100 <= i < 105 or i in (7, 200) else v for i, v in enumerate(whole)]
    late: list[float | None] = [*whole[:-6], *[None] * 6]
    exact = [30 + 15 * math.sin(2 * math.pi * (h % 24) / 24) for h in range(336, 360)]
    for series in (whole, holes, late, [None, None, *whole[2:]]):
        assert [f["mean"] for f in ets_forecast(series, 24, 24)] == pytest.approx(exact, abs=1.5)
    assert ets_forecast(whole, 24, 24) == ets_forecast(whole, 24, 24)


@pytest.mark.parametrize(
    ("series", "season"),
    [([], 1), ([None] * 60, 1), (walk(13), 1), (cycle(95), 24), ([v if i % 3 else None for i, v in enumerate(walk(60))], 1)],
)
def test_what_is_too_short_or_too_full_of_gaps_is_not_forecast(series: list[float | None], season: int) -> None:
    assert ets_forecast(series, season, 2) == [{"mean": None, "deviation": None}] * 2


def test_a_constant_series_stays() -> None:
    assert ets_forecast([7.0] * 20, 1, 2) == [{"mean": 7.0, "deviation": 0.0}] * 2


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compiled(tmp_path_factory.mktemp("forecast"), MODELS, AS_OF.isoformat(sep=" "))


def province(
    sql: Compiled, hours: dict[str, list[float | None]], days: dict[str, list[float | None]], limits: list[tuple[Any, ...]] = ()
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
            "marts_environment.reading_hourly": (HOUR, by_hour),
            "marts_environment.aqi_hourly": ("station_id VARCHAR, day DATE, hour_end TIMESTAMP, aqi INTEGER", []),
            "marts_environment.reading_daily": (DAY, by_day),
            "marts_environment.compliance_daily": (LIMIT, list(limits)),
        }
    )
    con.execute("CREATE SCHEMA lake.intermediate")
    register(con)
    for model in MODELS:
        schema = "intermediate" if model.startswith("int_") else "marts_environment"
        con.execute(f"CREATE TABLE lake.{schema}.{model} AS {sql[model]}")
    return con


def test_a_daily_cycle_is_forecast_and_a_walk_is_not(sql: Compiled) -> None:
    con = province(sql, {"CYC": cycle(21 * 24 + 6)}, {"WALK": walk(80), "NEW": [5.0, 6.0, 7.0]})
    skill = {(r["station_id"], r["method"]): r for r in records(con, "FROM lake.marts_environment.forecast_skill WHERE horizon = 'all'")}
    assert skill["CYC", "ets"]["skill_persistence"] > 0.9
    assert skill["CYC", "ets"]["origins"] == 7
    assert skill["CYC", "ets"]["forecasts"] == 7 * 24
    assert 0.6 < skill["CYC", "ets"]["interval_coverage_share"] <= 0.95
    assert skill["CYC", "persistence"]["skill_persistence"] == 0
    assert skill["WALK", "ets"]["skill_persistence"] < 0.2
    shown = records(con, "FROM lake.marts_environment.forecast ORDER BY ALL")
    assert {(r["station_id"], r["kind"], r["method"]) for r in shown} >= {("CYC", "hour", "ets"), ("NEW", "day", "persistence")}
    hours = [r for r in shown if r["station_id"] == "CYC" and r["kind"] == "hour"]
    assert [r["target_at"] for r in hours] == [datetime(2026, 3, 24, 6) + timedelta(hours=n) for n in range(1, 25)]
    assert all(r["lower_bound"] <= r["value"] <= r["upper_bound"] for r in hours)
    new = [r for r in shown if r["station_id"] == "NEW"]
    assert [(r["value"], r["reason_vi"], r["skill"]) for r in new] == [(7.0, "Chưa đủ lịch sử để lập mô hình", None)] * 2


def test_no_skill_says_so_and_shows_the_last_value(sql: Compiled) -> None:
    """A level that jumps each few days: smoothing lags behind, the last value does not."""
    jumps = [float(50 + 40 * ((n // 6) % 2)) + 0.01 * n for n in range(80)]
    con = province(sql, {}, {"W": list(jumps)})
    ets = records(con, "FROM lake.marts_environment.forecast_skill WHERE horizon = 'all' AND method = 'ets'")[0]
    shown = records(con, "FROM lake.marts_environment.forecast ORDER BY target_at")
    assert ets["skill_persistence"] <= 0
    assert [(r["value"], r["method"], r["reason_vi"]) for r in shown] == [
        (pytest.approx(jumps[-1]), "persistence", "Mô hình không tốt hơn giữ nguyên giá trị cuối")
    ] * 2
    assert shown[0]["lower_bound"] < shown[0]["value"] < shown[0]["upper_bound"]


def test_the_backtest_sees_nothing_after_its_origin(sql: Compiled) -> None:
    """Other values after an origin change what was observed, never what was forecast from it."""
    before, after = cycle(21 * 24 + 6), cycle(21 * 24 + 6)
    for i in range(len(after) - 48, len(after)):
        after[i] = 999.0
    columns = "origin_number, step, ets, ets_lower, ets_upper, persistence, climatology"
    query = f"SELECT {columns} FROM lake.intermediate.int_forecast WHERE origin_number >= 2 ORDER BY ALL"
    one, two = (province(sql, {"A": series}, {}).execute(query).fetchall() for series in (before, after))
    assert one == two
    assert len(one) == 6 * 24
    observed = "SELECT max(observed) FROM lake.intermediate.int_forecast"
    assert province(sql, {"A": after}, {}).execute(observed).fetchall() == [(999.0,)]


def test_skill_is_what_plain_python_finds(sql: Compiled) -> None:
    series = [v + 3 * math.sin(i / 40) if v is not None and i % 97 else None for i, v in enumerate(cycle(21 * 24 + 6, noise=4))]
    con = province(sql, {"A": series}, {})
    end = len(series) - 1
    squares: dict[str, list[float]] = {"ets": [], "persistence": [], "climatology": []}
    inside = []
    for origin in range(1, 8):
        last = end - 24 * origin
        history = series[last - 335 : last + 1]
        known = [v for v in history[-24:] if v is not None][-1]
        for step, guess in enumerate(ets_forecast(history, 24, 24), 1):
            actual = series[last + step]
            same = [v for i, v in enumerate(history) if (len(history) - 1 - i + step) % 24 == 0 and v is not None]
            assert guess["mean"] is not None and guess["deviation"] is not None
            if actual is None:
                continue
            squares["ets"].append((max(guess["mean"], 0) - actual) ** 2)
            squares["persistence"].append((known - actual) ** 2)
            squares["climatology"].append((sum(same) / len(same) - actual) ** 2)
            inside.append(abs(guess["mean"] - actual) <= 1.2816 * guess["deviation"])
    for method, found in squares.items():
        (row,) = records(con, f"FROM lake.marts_environment.forecast_skill WHERE horizon = 'all' AND method = '{method}'")
        assert row["forecasts"] == len(found)
        assert row["root_mean_square_error"] == pytest.approx(math.sqrt(sum(found) / len(found)), rel=1e-5)
        assert row["skill_persistence"] == pytest.approx(1 - sum(found) / sum(squares["persistence"]), abs=1e-5)
        assert row["skill_climatology"] == pytest.approx(1 - sum(found) / sum(squares["climatology"]), abs=1e-5)
        if method == "ets":
            assert row["interval_coverage_share"] == pytest.approx(sum(inside) / len(inside))


def test_the_running_day_warns(sql: Compiled) -> None:
    """What was measured up to 06:20 weighs 6 h 20 min, the forecast the rest; the limit is that of the day."""
    limits = [
        ("HIGH", "COD", TODAY, 200.0, None, 74.25, "verified"),
        ("EDGE", "COD", TODAY, 60.0, None, 74.25, "verified"),
        ("FINE", "COD", TODAY, 60.0, None, 74.25, "verified"),
        ("MUTE", "COD", TODAY, None, None, 74.25, "verified"),
        ("AIR", "PM2.5", TODAY, 60.0, None, 45.0, "verified"),
    ]
    noisy = [60.0 + random.Random(n).gauss(0, 15) for n in range(75)]
    steady = [60.0 + random.Random(n).gauss(0, 1) for n in range(75)]
    con = province(
        sql,
        {"AIR": [50.0 + (h % 24) / 100 for h in range(21 * 24 + 6)]},
        {"HIGH": list(steady), "EDGE": list(noisy), "FINE": list(steady), "MUTE": list(steady)},
        limits,
    )
    today = {r["station_id"]: r for r in records(con, f"FROM lake.marts_environment.forecast WHERE kind = 'day' AND target_at = TIMESTAMP '{TODAY}'")}
    assert {s: r["warning"] for s, r in today.items()} == {
        "HIGH": "will_exceed",
        "EDGE": "may_exceed",
        "FINE": None,
        "MUTE": None,
        "AIR": "will_exceed",
    }
    elapsed = (6 * 60 + 20) / 1440
    ahead = records(con, "SELECT ets, persistence FROM lake.intermediate.int_forecast WHERE station_id = 'HIGH' AND origin_number = 0 AND step = 1")[
        0
    ]
    guess = ahead["ets"] if today["HIGH"]["method"] == "ets" else ahead["persistence"]
    assert today["HIGH"]["value"] == pytest.approx(200 * elapsed + guess * (1 - elapsed), abs=1e-3)
    assert today["MUTE"]["value"] == pytest.approx(guess, abs=1e-3)
    hours = [50.0 + (h % 24) / 100 for h in range(21 * 24, 21 * 24 + 6)]
    assert today["AIR"]["value"] == pytest.approx((sum(hours) + sum(50 + (h % 24) / 100 for h in range(6, 24))) / 24, abs=0.2)
    assert {r["warning_vi"] for r in today.values()} == {"Dự báo vượt giới hạn", "Có thể vượt giới hạn", None}
    later = records(con, "SELECT DISTINCT target_at FROM lake.marts_environment.forecast WHERE kind = 'day' AND matrix = 'wastewater' ORDER BY 1")
    assert [r["target_at"].date() for r in later] == [TODAY, date(2026, 3, 25)]
