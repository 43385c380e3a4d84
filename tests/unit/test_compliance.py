"""Compliance of daily means and episodes, on days worked out by hand."""

from __future__ import annotations

import itertools
import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from tests.marts_kit import PROJECT, compiled, database, records

AS_OF = datetime(2026, 1, 6, 8)
DAYS = "station_id VARCHAR, station_name VARCHAR, matrix VARCHAR, matrix_vi VARCHAR, commune_code VARCHAR, commune_name VARCHAR, parameter VARCHAR, "
DAYS += "parameter_name_vi VARCHAR, unit VARCHAR, day DATE, expected INTEGER, valid INTEGER, coverage_share DOUBLE, mean_valid DOUBLE, is_complete BOOLEAN, "
DAYS += "grade VARCHAR, grade_vi VARCHAR, unexpected INTEGER"
HOURS = "station_id VARCHAR, parameter VARCHAR, day DATE, hour_end TIMESTAMP, mean_valid DOUBLE, coverage_share DOUBLE, count_valid INTEGER"
PERIOD = "station_id VARCHAR, valid_from DATE, valid_to DATE, standard VARCHAR, standard_class VARCHAR, kq DECIMAL(4,2), kf DECIMAL(4,2), "
PERIOD += "kp DECIMAL(4,2), kv DECIMAL(4,2), reference_oxygen DECIMAL(4,1), permit VARCHAR"
STATION = (
    "station_id VARCHAR, station_name VARCHAR, facility_name VARCHAR, matrix VARCHAR, matrix_vi VARCHAR, commune_code VARCHAR, commune_name VARCHAR, "
)
STATION += "standard VARCHAR, standard_class VARCHAR, kq DECIMAL(4,2), kf DECIMAL(4,2), kp DECIMAL(4,2), kv DECIMAL(4,2)"
PLACE = ("1", "Xã A")
STATIONS = [
    ("W", "Nước thải", "Công ty", "wastewater", "Nước thải", *PLACE, "QCVN 40:2011/BTNMT", "A", Decimal("0.9"), Decimal("1.1"), None, None),
    ("V", "Thiếu hệ số", "Công ty", "wastewater", "Nước thải", *PLACE, "QCVN 40:2011/BTNMT", "A", Decimal("0.9"), None, None, None),
    ("E", "Khí thải", "Công ty", "emission", "Khí thải", *PLACE, "QCVN 19:2009/BTNMT", "B", None, None, Decimal("0.8"), Decimal("0.6")),
    ("R", "Nước mặt", None, "surface_water", "Nước mặt", *PLACE, "QCVN 08:2023/BTNMT", "B", None, None, None, None),
    ("A", "Không khí", None, "ambient_air", "Không khí", *PLACE, "QCVN 05:2023/BTNMT", None, None, None, None, None),
]
UNITS = {"COD": "mg/L", "pH": "-", "PM": "mg/Nm3", "PM2.5": "µg/m3", "SO2": "µg/m3", "Flow": "m3/h", "DO": "mg/L", "TN": "mg/L"}


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(
        tmp_path_factory.mktemp("compliance"),
        [
            *("dim_limit", "int_station_standard", "int_limit_in_force"),
            *("compliance_daily", "exceedance_episode", "compliance_monthly", "unregistered_channel"),
        ],
        AS_OF.isoformat(sep=" "),
    )


@pytest.fixture
def con(sql: dict[str, str]) -> duckdb.DuckDBPyConnection:
    con = database(
        {
            "marts_environment.reading_daily": (DAYS, []),
            "marts_environment.reading_hourly": (HOURS, []),
            "marts_core.dim_station": (STATION, STATIONS),
            "staging.stg_station_period": (PERIOD, []),
            "marts_core.dim_parameter": ("matrix VARCHAR, parameter VARCHAR, parameter_name_vi VARCHAR, unit VARCHAR", []),
        },
        ["qcvn_limit", "qcvn_standard"],
    )
    # the types that the seeds have in the lake
    con.execute(
        "ALTER TABLE lake.reference.qcvn_limit ALTER limit_max TYPE DECIMAL(18,6); ALTER TABLE lake.reference.qcvn_limit ALTER limit_min TYPE DECIMAL(18,6)"
    )
    con.execute("ALTER TABLE lake.reference.qcvn_limit ALTER reference_oxygen TYPE DECIMAL(4,1)")
    con.execute(f"CREATE TABLE lake.marts_core.dim_limit AS {sql['dim_limit']}")
    con.execute("CREATE VIEW lake.staging.stg_station AS SELECT *, NULL::VARCHAR AS permit FROM lake.marts_core.dim_station")
    con.execute("CREATE SCHEMA lake.intermediate")
    for name in ("int_station_standard", "int_limit_in_force"):
        con.execute(f"CREATE VIEW lake.intermediate.{name} AS {sql[name]}")
    return con


def days(
    con: duckdb.DuckDBPyConnection, sql: dict[str, str], *given: tuple[str, str, date, float | None], complete: bool = True
) -> list[dict[str, Any]]:
    """compliance_daily where these stations have these daily means."""
    matrix = {s[0]: s[3] for s in STATIONS}
    for station, parameter, day, mean in given:
        row = (
            station,
            "",
            matrix[station],
            "",
            *PLACE,
            parameter,
            "",
            UNITS[parameter],
            day,
            288,
            288,
            1.0,
            mean,
            complete and mean is not None,
            "raw",
            "Gốc",
            0,
        )
        con.execute(f"INSERT INTO lake.marts_environment.reading_daily VALUES ({', '.join('?' * len(row))})", row)
    con.execute(f"CREATE OR REPLACE TABLE lake.marts_environment.compliance_daily AS {sql['compliance_daily']}")
    return records(con, "SELECT * FROM lake.marts_environment.compliance_daily ORDER BY day, station_id, parameter")


D = date(2026, 1, 1)


def test_the_worked_example_of_the_standard(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """QCVN 40:2011, column A, COD, Kq 0.9, Kf 1.1: 75 x 0.9 x 1.1 = 74.25 mg/L; the limit itself is kept to, a hair more is not."""
    first, second = days(con, sql, ("W", "COD", D, 74.25), ("W", "COD", D + timedelta(1), 74.250001))
    assert (first["effective_max"], first["limit_max"], first["factor"]) == (Decimal("74.25"), Decimal(75), Decimal("0.99"))
    assert (first["status"], first["status_vi"], second["status"], second["status_vi"]) == ("compliant", "Đạt", "exceeded", "Vượt giới hạn")
    words = duckdb.connect().execute(
        f"SELECT confidence, {re.findall(r'case judged.limit_confidence.*? end', sql['compliance_daily'], re.S | re.I)[0]} FROM "
        "(SELECT DISTINCT confidence, confidence AS limit_confidence FROM read_csv(?)) AS judged",
        [str(PROJECT / "seeds/reference/qcvn_limit.csv")],
    )
    said = dict(words.fetchall())
    assert len(said) > 2 and all(word and word != code for code, word in said.items())  # no word of the list of limits is without one for the reader
    assert first["limit_confidence_vi"] == said[first["limit_confidence"]]


def test_factors_of_emission_and_limits_without_factor(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    dust, acid, good = days(con, sql, ("E", "PM", D, 96.5), ("W", "pH", D, 5.9), ("W", "pH", D + timedelta(1), 6.0))
    assert (dust["effective_max"], dust["status"]) == (Decimal("96"), "exceeded")  # 200 x 0.8 x 0.6
    assert (acid["effective_min"], acid["effective_max"], acid["factor"], acid["status"]) == (Decimal(6), Decimal(9), 1, "exceeded")
    assert good["status"] == "compliant"


def test_the_limit_of_fine_dust_changes_with_the_year(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """50 µg/m3 to 31 December 2025, 45 from 1 January 2026."""
    old, new = days(con, sql, ("A", "PM2.5", date(2025, 12, 31), 47.0), ("A", "PM2.5", D, 47.0))
    assert (old["effective_max"], old["status"], new["effective_max"], new["status"]) == (Decimal(50), "compliant", Decimal(45), "exceeded")


def test_what_is_not_judged_says_why(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    rows = days(
        con,
        sql,
        ("W", "Flow", D, 9.0),
        ("V", "COD", D, 9.0),
        ("A", "PM2.5", AS_OF.date(), 99.0),
        ("W", "COD", D, None),
        ("A", "SO2", date(2023, 9, 11), 1.0),
    )
    why = {(r["station_id"], r["parameter"]): r["not_judged"] for r in rows}
    assert why == {
        ("W", "Flow"): "no_limit",
        ("V", "COD"): "no_factor",
        ("A", "PM2.5"): "running",
        ("W", "COD"): "incomplete",
        ("A", "SO2"): "no_limit",  # QCVN 05:2023 came into force on 12 September 2023
    }
    assert all(r["status"] == "not_judged" and r["not_judged_vi"] for r in rows)


def test_episodes(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Neighbouring days and hours are one episode; a day that is not judged ends it."""
    means = [80.0, 90.0, None, 100.0, 60.0]
    days(
        con,
        sql,
        *(("W", "COD", D + timedelta(i), m) for i, m in enumerate(means)),
        ("W", "pH", D + timedelta(3), 4.0),
        ("W", "pH", D + timedelta(4), 3.0),
        ("A", "SO2", D, None),
    )
    con.execute("UPDATE lake.marts_environment.reading_daily SET grade = 'approved' WHERE parameter = 'COD'")
    con.execute("UPDATE lake.marts_environment.reading_daily SET grade = 'provisional' WHERE parameter = 'COD' AND day = DATE '2026-01-02'")
    con.execute(f"CREATE OR REPLACE TABLE lake.marts_environment.compliance_daily AS {sql['compliance_daily']}")
    for hour, mean in enumerate([349.0, 351.0, 700.0, 350.0, 351.0], 1):
        con.execute("INSERT INTO lake.marts_environment.reading_hourly VALUES ('A', 'SO2', ?, ?, ?, 1.0, 12)", [D, datetime(2026, 1, 1, hour), mean])
    con.execute("INSERT INTO lake.marts_environment.reading_hourly VALUES ('A', 'SO2', ?, ?, 900, 0.5, 6)", [D, datetime(2026, 1, 1, 6)])
    rows = records(con, f"SELECT * FROM ({sql['exceedance_episode']}) ORDER BY station_id, parameter, started_at")
    seen = [
        (r["station_id"], r["parameter"], r["started_at"], r["hours"], r["periods"], r["peak"], round(r["peak_factor"], 4), r["is_open"])
        for r in rows
    ]
    assert seen == [
        ("A", "SO2", datetime(2026, 1, 1, 1), 2, 2, 700.0, 2.0, False),
        ("A", "SO2", datetime(2026, 1, 1, 4), 1, 1, 351.0, 1.0029, True),
        ("W", "COD", datetime(2026, 1, 1), 48, 2, 90.0, 1.2121, False),
        ("W", "COD", datetime(2026, 1, 4), 24, 1, 100.0, 1.3468, False),
        ("W", "pH", datetime(2026, 1, 4), 48, 2, 3.0, 2.0, True),
    ]
    assert rows[-1]["limit_at_peak"] == Decimal(6) and rows[0]["peak_at"] == datetime(2026, 1, 1, 3)
    assert [r["grade"] for r in rows] == ["raw", "raw", "provisional", "approved", "raw"]  # the lowest of its days


def oxygen(con: duckdb.DuckDBPyConnection, *hours: tuple[int, float, float | None, int], day: date = D) -> None:
    """Hours of station E of a day: (hour, dust, oxygen or None, values)."""
    for hour, dust, o2, count in hours:
        end = datetime.combine(day, datetime.min.time()) + timedelta(hours=hour)
        for parameter, mean in (("PM", dust), ("O2", o2)):
            if mean is not None:
                con.execute("INSERT INTO lake.marts_environment.reading_hourly VALUES ('E', ?, ?, ?, ?, 1, ?)", [parameter, day, end, mean, count])


def test_what_the_next_standard_would_say(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """The strictest limit of QCVN 19:2024 that was entered; QCVN 40:2025, whose table was not, gives no verdict."""
    least = con.execute("SELECT min(limit_max) FROM lake.marts_core.dim_limit WHERE standard = 'QCVN 19:2024/BTNMT' AND parameter = 'PM'").fetchall()[
        0
    ][0]
    # its limits are stated at 15 % oxygen; on the third day nobody measured it
    oxygen(con, (1, 96.0, 15.0, 288))
    oxygen(con, (1, float(least), 15.0, 288), day=D + timedelta(1))
    dusts = [("E", "PM", D + timedelta(n), mean) for n, mean in enumerate([96.0, float(least), 1.0])]
    rows = days(con, sql, *dusts, ("W", "COD", D, 9.0), ("A", "PM2.5", D, 9.0))
    air, dust, water, clean, unknown = rows  # by day and station
    assert (unknown["status"], unknown["next_status"]) == ("compliant", "not_judged")
    assert (dust["status"], dust["next_standard"], dust["next_limit_max"], dust["next_status"]) == (
        "compliant",
        "QCVN 19:2024/BTNMT",
        least,
        "exceeded",
    )
    assert clean["next_status"] == "compliant" and clean["next_limit_confidence"]
    assert (water["status"], water["next_standard"], water["next_limit_max"], water["next_status"]) == (
        "compliant",
        "QCVN 40:2025/BTNMT",
        None,
        "not_judged",
    )
    assert (air["next_standard"], air["next_status"]) == (None, None)


def period(con: duckdb.DuckDBPyConnection, station: str, first: date, last: date | None, **what: Any) -> None:
    row = {"standard": None, "standard_class": None, "kq": None, "kf": None, "kp": None, "kv": None, "reference_oxygen": None, "permit": None, **what}
    con.execute(f"INSERT INTO lake.staging.stg_station_period VALUES ({', '.join('?' * (3 + len(row)))})", [station, first, last, *row.values()])


def test_standards_and_factors_are_those_of_the_day(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """A permit of before, one that began inside it, and days that no period holds, which the register of stations judges."""
    wastewater = {"standard": "QCVN 40:2011/BTNMT", "standard_class": "B", "kq": Decimal(1), "kf": Decimal(1)}
    period(con, "W", date(2026, 1, 1), date(2026, 1, 4), **wastewater)
    period(con, "W", date(2026, 1, 3), date(2026, 1, 3), **wastewater | {"kq": Decimal("0.6")})
    rows = days(con, sql, *(("W", "COD", date(2025, 12, 31) + timedelta(n), 100.0) for n in range(6)))
    assert [(r["day"].day, r["standard_class"], r["effective_max"]) for r in rows] == [
        (31, "A", Decimal("74.25")),
        (1, "B", Decimal(150)),
        (2, "B", Decimal(150)),
        (3, "B", Decimal(90)),
        (4, "A", Decimal("74.25")),
        (5, "A", Decimal("74.25")),
    ]


def test_periods_cover_every_day_once(con: duckdb.DuckDBPyConnection) -> None:
    period(con, "W", date(2026, 1, 1), None, standard="X")
    period(con, "V", date(2020, 1, 1), date(2026, 2, 1), standard="X")
    period(con, "V", date(2026, 1, 1), date(2026, 1, 1), standard="Y")
    spans = con.execute("SELECT station_id, valid_from, valid_to FROM lake.intermediate.int_station_standard ORDER BY ALL").fetchall()
    for station in STATIONS:
        mine = [s[1:] for s in spans if s[0] == station[0]]
        assert mine[0][0] == date(1, 1, 1)
        assert mine[-1][1] == date(9999, 12, 31)
        assert all(after[0] == before[1] + timedelta(1) for before, after in itertools.pairwise(mine))
    assert len([s for s in spans if s[0] == "V"]) == 4


def test_one_limit_is_in_force_on_a_day(con: duckdb.DuckDBPyConnection) -> None:
    """Permits that change and limits that do: the rows of a (station, parameter, mean) follow each other without overlap."""
    period(con, "A", date(2024, 5, 1), date(2026, 2, 1), standard="QCVN 05:2023/BTNMT")
    period(con, "W", date(2026, 1, 1), date(2026, 1, 4), standard="QCVN 40:2011/BTNMT", standard_class="B", kq=Decimal("0.6"), kf=Decimal(1))
    rows = records(con, "SELECT * FROM lake.intermediate.int_limit_in_force ORDER BY station_id, parameter, compared_mean, valid_from")
    for _, group in itertools.groupby(rows, lambda r: (r["station_id"], r["parameter"], r["compared_mean"])):
        spans = [(r["valid_from"], r["valid_to"]) for r in group]
        assert all(first <= last for first, last in spans)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
    assert [
        (r["valid_from"], r["valid_to"], r["effective_max"])
        for r in rows
        if (r["station_id"], r["parameter"], r["compared_mean"]) == ("A", "PM2.5", "24h")
    ] == [
        (date(2023, 9, 12), date(2024, 4, 30), Decimal(50)),
        (date(2024, 5, 1), date(2025, 12, 31), Decimal(50)),
        (date(2026, 1, 1), date(2026, 2, 1), Decimal(45)),
        (date(2026, 2, 2), date(9999, 12, 31), Decimal(45)),
    ]
    assert {(r["valid_from"], r["factor"], r["effective_max"]) for r in rows if (r["station_id"], r["parameter"]) == ("W", "COD")} >= {
        (date(2026, 1, 1), Decimal("0.6"), Decimal(90)),
        (date(2026, 1, 5), Decimal("0.99"), Decimal("74.25")),
    }
    assert all(r["factor"] is None and r["effective_max"] is None for r in rows if r["station_id"] == "V" and r["factor_applies"])


def test_a_class_that_the_standard_does_not_have_is_no_limit_for_day_and_hour_alike(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """QCVN 05 has no classes: a register that names one is told so (`no_limit`), and hours are not judged by what the day is not."""
    con.execute(
        "INSERT INTO lake.marts_environment.reading_hourly VALUES ('A', 'SO2', DATE '2026-01-01', TIMESTAMP '2026-01-01 01:00:00', 9999, 1.0, 60)"
    )
    (row,) = days(con, sql, ("A", "SO2", D, 9999.0))
    episodes = records(con, sql["exceedance_episode"])
    assert row["status"] == "exceeded" and {e["compared_mean"] for e in episodes} == {"1h", "24h"}
    con.execute("DELETE FROM lake.marts_environment.reading_daily")
    period(con, "A", D, None, standard="QCVN 05:2023/BTNMT", standard_class="A")
    (row,) = days(con, sql, ("A", "SO2", D, 9999.0))
    assert row["not_judged"] == "no_limit" and not records(con, sql["exceedance_episode"])


def test_what_is_in_force_is_looked_up_once() -> None:
    """The join of a station's standard with dated limits stands in int_limit_in_force; other models ask that one."""
    models = {p.stem: p.read_text(encoding="utf-8") for p in (PROJECT / "models").rglob("*.sql")}
    asking = {name for name, text in models.items() if "ref('int_station_standard')" in text and "ref('dim_limit')" in text}
    # compliance_daily shows the standard of days without a limit too, and takes the limits of the next standard from dim_limit
    assert asking == {"int_limit_in_force", "compliance_daily"}
    assert [name for name, text in models.items() if "compared_mean = '1h'" in text] == ["exceedance_episode"]
    assert "replaced_by = limit_row.standard" in models["compliance_daily"] and models["compliance_daily"].count("ref('dim_limit')") == 1


def test_emission_at_reference_oxygen(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """100 mg/Nm3 at 13 % is 100 x (20.9 - 7) / (20.9 - 13) = 175.9 at 7 %; hours weigh as many values as they have."""
    period(con, "E", D, None, standard="QCVN 19:2009/BTNMT", standard_class="B", kp=Decimal(1), kv=Decimal(1), reference_oxygen=Decimal(7))
    oxygen(con, (1, 100.0, 13.0, 216), (2, 50.0, 7.0, 72))
    (row,) = days(con, sql, ("E", "PM", D, 87.5))
    assert row["mean_compared"] == pytest.approx((216 * 100 * 13.9 / 7.9 + 72 * 50) / 288, abs=1e-6)
    assert (row["mean_valid"], row["reference_oxygen"], row["status"]) == (87.5, Decimal(7), "compliant")
    assert row["limit_share"] == pytest.approx(row["mean_compared"] / 200)
    con.execute("DELETE FROM lake.marts_environment.reading_daily")
    con.execute("UPDATE lake.marts_environment.reading_hourly SET mean_valid = 150 WHERE parameter = 'PM' AND mean_valid = 100")
    (row,) = days(con, sql, ("E", "PM", D, 110.0))
    assert row["status"] == "exceeded"  # although 110 < 200


@pytest.mark.parametrize(("o2", "why"), [(None, "no_oxygen"), (20.5, "no_oxygen"), (7.0, None)])
def test_without_oxygen_emission_is_not_judged(con: duckdb.DuckDBPyConnection, sql: dict[str, str], o2: float | None, why: str | None) -> None:
    """Three of ten values without a usable oxygen are more than completeness allows; at 20 % and more the stack holds air."""
    period(con, "E", D, None, standard="QCVN 19:2009/BTNMT", standard_class="B", kp=Decimal(1), kv=Decimal(1), reference_oxygen=Decimal(7))
    oxygen(con, (1, 100.0, 7.0, 202), (2, 100.0, o2, 86))
    (row,) = days(con, sql, ("E", "PM", D, 100.0))
    assert row["not_judged"] == why
    assert (row["not_judged_vi"] is None) == (why is None)


def test_a_lower_limit_has_its_share_too(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Limit / mean below a lower limit, mean / limit above an upper one, the greater where there are both; no oxygen at all is 1,000 times."""
    acid, alkaline, middle = days(con, sql, *(("W", "pH", D + timedelta(k), v) for k, v in enumerate([4.0, 9.9, 7.0])))
    assert (acid["limit_share"], acid["limit_side"], acid["status"]) == (1.5, "min", "exceeded")
    assert (alkaline["limit_share"], alkaline["limit_side"]) == (pytest.approx(1.1), "max")
    assert (middle["limit_share"], middle["limit_side"], middle["status"]) == (6 / 7, "min", "compliant")
    con.execute("DELETE FROM lake.marts_environment.reading_daily")
    rows = days(con, sql, *(("R", "DO", date(2026, 1, 1) + timedelta(k), v) for k, v in enumerate([10.0, 4.0, 0.0])))
    low = float(rows[0]["effective_min"])
    assert [r["limit_share"] for r in rows] == [low / 10, low / 4, 1000] and {r["limit_side"] for r in rows} == {"min"}


def test_days_outside_and_the_worst_of_a_month(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    found = days(con, sql, *(("W", "pH", D + timedelta(k), v) for k, v in enumerate([7.0, 4.0, 9.9, 4.0])))
    (row,) = records(con, sql["compliance_monthly"])
    assert (row["days_judged"], row["days_outside"], row["days_below_min"], row["days_above_max"], row["outside_share"]) == (4, 3, 2, 1, 0.75)
    assert (row["worst_day"], row["worst_mean"], row["worst_limit"], row["worst_limit_share"], row["worst_limit_side"]) == (
        D + timedelta(1),
        4.0,
        Decimal(6),
        max(r["limit_share"] for r in found),
        "min",
    )


def test_a_parameter_that_nobody_registered_is_a_finding_by_name(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """It is averaged, judged by nobody, and would break its limit nearly four times over."""
    con.execute("CREATE OR REPLACE VIEW lake.staging.stg_station_channel AS SELECT 'W' AS station_id, 'pH' AS parameter")
    days(con, sql, ("W", "COD", D, 10.0), ("W", "COD", D + timedelta(1), 293.0), ("W", "pH", D, 7.0), ("E", "SO2", D, 1.0))
    con.execute(
        "UPDATE lake.marts_environment.reading_daily SET expected = 0, unexpected = 288, coverage_share = NULL, is_complete = FALSE WHERE parameter = 'COD'"
    )
    con.execute(f"CREATE OR REPLACE TABLE lake.marts_environment.compliance_daily AS {sql['compliance_daily']}")
    judged = records(con, "SELECT not_judged, not_judged_vi FROM lake.marts_environment.compliance_daily WHERE parameter = 'COD'")
    assert {r["not_judged"] for r in judged} == {"no_channel"} and all("chưa đăng ký" in r["not_judged_vi"] for r in judged)
    con.execute("CREATE TABLE IF NOT EXISTS lake.reference.vn_wqi_breakpoint (parameter VARCHAR)")
    (row,) = records(con, sql["unregistered_channel"])
    assert (row["station_id"], row["parameter"], row["first_day"], row["last_day"], row["days"], row["readings"]) == (
        "W",
        "COD",
        D,
        D + timedelta(1),
        2,
        576,
    )
    assert (row["would_exceed"], row["worst_day"], row["worst_limit_share"]) == (True, D + timedelta(1), pytest.approx(293 / 74.25))
    assert "quy chuẩn" in row["missing_from_vi"] and row["reason_vi"].startswith("Danh mục thông số không có")
