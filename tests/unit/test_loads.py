"""Loads hour by hour in exact decimals, and obligations class by class, against the marts."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from tests.marts_kit import compiled, database, records

AS_OF = datetime(2026, 3, 3, 0, 10)
DAY = date(2026, 3, 1)
HOURS = "station_id VARCHAR, parameter VARCHAR, day DATE, hour_end TIMESTAMP, expected INTEGER, mean_valid DOUBLE, coverage_share DOUBLE"
STATION = (
    "station_id VARCHAR, station_name VARCHAR, facility_id VARCHAR, facility_name VARCHAR, matrix VARCHAR, commune_code VARCHAR, commune_name VARCHAR"
)
PARAMETERS = [("wastewater", "Flow_out", "x", "m3/h"), ("wastewater", "Flow", "x", "m3/h"), ("wastewater", "Flow_in", "x", "m3/h")]
PARAMETERS += [
    ("wastewater", "COD", "COD", "mg/L"),
    ("wastewater", "pH", "pH", "-"),
    ("emission", "Flow", "x", "m3/h"),
    ("emission", "PM", "Bụi", "mg/Nm3"),
]
FLAGS = ("is_industrial_zone", "is_connected_to_zone", "is_pollution_risk", "treats_waste", "has_incinerator", "imports_scrap", "is_subject_to_eia")
FLAGS += ("is_large_emission",)
FACILITY = "facility_id VARCHAR, facility_name VARCHAR, sector_vi VARCHAR, commune_code VARCHAR, commune_name VARCHAR, basin VARCHAR, office_address VARCHAR, "
FACILITY += f"design_capacity_m3_day DECIMAL(12,1), wastewater_fines INTEGER, emission_fines INTEGER, {', '.join(f'{f} BOOLEAN' for f in FLAGS)}"


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    models = ["emission_load_daily", "emission_load_monthly", "station_obligation"]
    return compiled(tmp_path_factory.mktemp("loads"), models, AS_OF.isoformat(sep=" "))


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    stations = [("W", "Trạm W", "CS1", "Công ty 1", "wastewater", "1", "Xã A"), ("E", "Trạm E", "CS1", "Công ty 1", "emission", "1", "Xã A")]
    stations += [("V", "Trạm V", "CS2", "Công ty 2", "wastewater", "1", "Xã A")]
    return database(
        {
            "marts_environment.reading_hourly": (HOURS, []),
            "marts_environment.station_status": ("station_id VARCHAR, last_measured_at TIMESTAMP", []),
            "marts_core.dim_station": (STATION, stations),
            "marts_core.dim_facility": (FACILITY, []),
            "marts_core.dim_parameter": ("matrix VARCHAR, parameter VARCHAR, parameter_name_vi VARCHAR, unit VARCHAR", PARAMETERS),
        },
        ["obligation_class"],
    )


Hourly = dict[str, dict[int, tuple[float, float]]]
"""Parameter -> hour of the day (1 … 24) -> (mean, share of the values that were there)."""


def loads(con: duckdb.DuckDBPyConnection, sql: dict[str, str], station: str, hours: Hourly) -> list[dict[str, Any]]:
    con.execute("DELETE FROM lake.marts_environment.reading_hourly")
    start = datetime.combine(DAY, datetime.min.time())
    given_ = [(station, p, DAY, start + timedelta(hours=h), 12, *value) for p, values in hours.items() for h, value in values.items()]
    if given_:
        marks = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(given_))
        con.execute(f"INSERT INTO lake.marts_environment.reading_hourly VALUES {marks}", [cell for row in given_ for cell in row])
    con.execute(f"CREATE OR REPLACE TABLE lake.marts_environment.emission_load_daily AS {sql['emission_load_daily']}")
    return records(con, "SELECT * FROM lake.marts_environment.emission_load_daily")


def test_a_day_worked_out_by_hand(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """50 m3/h x 80 mg/L is 4 kg an hour. Eighteen of 24 hours make an estimate, seventeen do not; the inlet counts nowhere."""
    hours: Hourly = {"COD": dict.fromkeys(range(1, 25), (80.0, 1.0)), "Flow_in": dict.fromkeys(range(1, 25), (999.0, 1.0))}
    hours["Flow_out"] = dict.fromkeys(range(1, 19), (50.0, 1.0))
    (cod,) = loads(con, sql, "W", hours)
    assert (cod["load_kg"], cod["hours_paired"], cod["hours_due"], cod["volume_m3"]) == (Decimal(72), 18, 24, Decimal(900))
    assert (cod["load_kg_estimated"], cod["load_kg_low"], cod["load_kg_high"]) == (96.0, 96.0, 96.0)  # equal hours: nothing to doubt
    hours["Flow_out"].pop(18)
    (cod,) = loads(con, sql, "W", hours)
    assert (cod["load_kg"], cod["load_kg_estimated"], cod["load_kg_high"]) == (Decimal(68), None, None)


def test_emission_is_in_milligrams_of_a_normal_cubic_metre(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    (dust,) = loads(con, sql, "E", {"PM": dict.fromkeys(range(1, 25), (100.0, 1.0)), "Flow": dict.fromkeys(range(1, 25), (20000.0, 1.0))})
    assert (dust["load_kg"], dust["load_kg_estimated"]) == (Decimal(48), 48.0)


VALUE = st.tuples(st.decimals(0, 500, places=2).map(float), st.sampled_from([1.0, 1.0, 1.0, 0.75, 0.5]))
SERIES = st.dictionaries(st.integers(1, 24), VALUE, max_size=24) | st.lists(VALUE, min_size=24, max_size=24).map(lambda v: dict(enumerate(v, 1)))


@examples(60)
@given(cod=SERIES, out=SERIES, flow=SERIES)
def test_loads_as_plain_python_adds_them(con: duckdb.DuckDBPyConnection, sql: dict[str, str], cod: Any, out: Any, flow: Any) -> None:
    found = loads(con, sql, "W", {"COD": cod, "Flow_out": out, "Flow": flow})

    def at(series: Any, hour: int) -> float | None:
        return series[hour][0] if hour in series and series[hour][1] >= 0.75 else None

    paired = {}
    for hour in cod:
        drain = at(out, hour) if at(out, hour) is not None else at(flow, hour)
        if drain is not None and (concentration := at(cod, hour)) is not None:
            paired[hour] = Decimal(drain * concentration / 1e3).quantize(Decimal("0.000001"), ROUND_HALF_UP)
    if not cod:
        assert found == []
        return
    (row,) = found
    assert (row["hours_due"], row["hours_paired"]) == (len(cod), len(paired))
    total = sum(paired.values())
    assert (row["load_kg"] is None) == (not paired)
    # a product on the half of a milligram may go either way in binary
    assert abs((row["load_kg"] or 0) - total) <= Decimal("0.000001") * len(paired)
    total = row["load_kg"] or Decimal(0)
    if len(paired) < 0.75 * len(cod):
        assert row["load_kg_estimated"] is None
        return
    n, due = len(paired), len(cod)
    assert math.isclose(row["load_kg_estimated"], float(total) / n * due, rel_tol=1e-12, abs_tol=1e-12)
    if n == due:
        assert row["load_kg_low"] == row["load_kg_high"] == row["load_kg_estimated"]
    elif n > 1:
        mean = float(total) / n
        spread = math.sqrt(sum((float(x) - mean) ** 2 for x in paired.values()) / (n - 1))
        width = 1.96 * due * spread / math.sqrt(n) * math.sqrt(1 - n / due)
        assert math.isclose(row["load_kg_high"], row["load_kg_estimated"] + width, rel_tol=1e-4, abs_tol=1e-3)
        assert math.isclose(row["load_kg_low"], max(float(total), row["load_kg_estimated"] - width), rel_tol=1e-4, abs_tol=1e-3)


def test_months_and_ranks(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    con.execute(
        "CREATE OR REPLACE TABLE lake.marts_environment.emission_load_daily AS SELECT * FROM lake.marts_environment.emission_load_daily LIMIT 0"
    )
    days = (
        # facility, station, month, hours due and paired, load: CS1's thin day of March is made up for, and its extra hours of another make up for none;
        # of CS3 one station is too thin; of CS2 one is an inlet; what CS4 lets out is less than a gram
        *(
            ("CS1", "A", 3, 24, 14, 10),
            ("CS1", "A", 3, 10, 20, 20),
            ("CS1", "A", 3, 0, 0, None),
            ("CS2", "B", 3, 24, 24, 70),
            ("CS1", "A", 4, 20, 16, 5),
        ),
        *(
            ("CS3", "C", 4, 24, 24, 2),
            ("CS3", "D", 4, 24, 17, 1),
            ("CS2", "E", 3, 24, 0, None),
            ("CS4", "F", 5, 24, 20, "0.0004"),
            ("CS5", "G", 5, 24, 0, None),
        ),
    )
    for number, (facility, station, month, due, paired, load) in enumerate(days):
        con.execute(
            "INSERT INTO lake.marts_environment.emission_load_daily BY NAME SELECT ? AS facility_id, ? AS station_id, 'wastewater' AS matrix, 'COD' AS parameter, "
            "? AS day, ? AS hours_due, ? AS hours_paired, ?::DECIMAL(18,6) AS load_kg",
            [facility, station, date(2026, month, number + 1), due, paired, load],
        )
    found = records(con, f"SELECT * FROM ({sql['emission_load_monthly']}) ORDER BY month, rank_in_province")
    assert [
        (r["facility_id"], r["month"].month, r["load_kg"], r["load_kg_estimated"], r["rank_in_province"], r["share_of_province"]) for r in found
    ] == [
        ("CS2", 3, 70, 70, 1, 0.7),
        ("CS1", 3, 30, Decimal("38.823529"), 2, 0.3),
        ("CS1", 4, 5, Decimal("6.25"), 1, 0.625),
        ("CS3", 4, 3, None, 2, 0.375),
        ("CS4", 5, Decimal("0.0004"), Decimal("0.00048"), 1, 1.0),
        ("CS5", 5, 0, None, 2, 0.0),
    ]


def obligations(
    con: duckdb.DuckDBPyConnection, sql: dict[str, str], capacity: float = 100, fines: tuple[int, int] = (0, 0), **flags: bool
) -> dict[str, str]:
    """Class -> status of facility CS1 with these answers."""
    con.execute("DELETE FROM lake.marts_core.dim_facility")
    con.execute(
        f"INSERT INTO lake.marts_core.dim_facility VALUES ('CS1', 'Công ty 1', 'Dệt', '1', 'Xã A', 'Sông Bé', '1 đường A', ?, ?, ?{', ?' * len(FLAGS)})",
        [capacity, *fines, *(flags.get(f, False) for f in FLAGS)],
    )
    return {r["class_id"]: r["status"] for r in records(con, sql["station_obligation"])}


@pytest.mark.parametrize(
    ("classes", "given_"),
    [
        ([], {}),
        (["R019"], {"is_industrial_zone": True, "capacity": 5000}),
        (["R020"], {"is_pollution_risk": True, "capacity": 500}),
        ([], {"is_pollution_risk": True, "capacity": 499.9}),
        ([], {"is_pollution_risk": True, "capacity": 5000, "is_connected_to_zone": True}),
        (["R021"], {"treats_waste": True, "is_subject_to_eia": True, "capacity": 5000}),
        ([], {"treats_waste": True}),
        (["R021", "R026"], {"imports_scrap": True, "is_subject_to_eia": True}),
        (["R022"], {"capacity": 1000}),
        ([], {"capacity": 999.9}),
        (["R023", "R027"], {"fines": (2, 3)}),
        ([], {"fines": (1, 1)}),
        (["R024"], {"is_large_emission": True}),
        (["R025"], {"has_incinerator": True}),
    ],
)
def test_who_must_have_a_station(con: duckdb.DuckDBPyConnection, sql: dict[str, str], classes: list[str], given_: dict[str, Any]) -> None:
    assert sorted(obligations(con, sql, **given_)) == classes


def test_who_has_one_that_sends(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    con.execute("DELETE FROM lake.marts_environment.station_status")
    con.execute("INSERT INTO lake.marts_environment.station_status VALUES ('W', ?), ('V', NULL)", [AS_OF - timedelta(days=30)])
    both = {"capacity": 1000, "is_large_emission": True}
    assert obligations(con, sql, **both) == {"R022": "silent", "R024": "missing"}
    con.execute("UPDATE lake.marts_environment.station_status SET last_measured_at = ? WHERE station_id = 'W'", [AS_OF - timedelta(days=29)])
    assert obligations(con, sql, **both) == {"R022": "fulfilled", "R024": "missing"}
    letters = {r["class_id"]: (r["needs_letter"], r["days_overdue"]) for r in records(con, sql["station_obligation"])}
    assert letters == {"R022": (False, None), "R024": (True, (AS_OF.date() - date(2025, 12, 31)).days)}
