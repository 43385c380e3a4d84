"""Quality control of readings: the flags of random series against the definitions of the QARTOD manuals in plain Python, and the edges by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from tests.marts_kit import SEEDS, compiled, database, records, seed_rows

AS_OF = datetime(2024, 3, 2)
START = datetime(2024, 2, 28, 23)
"""An hour before the day before a leap day."""
GAP = 180
STATION = "station_id VARCHAR, matrix VARCHAR, lon DOUBLE, lat DOUBLE"
READING = (
    "station_id VARCHAR, parameter VARCHAR, measured_at TIMESTAMP, span_minutes SMALLINT, value_reported DECIMAL(18,6), value_valid DECIMAL(18,6), "
)
READING += "status VARCHAR, reason VARCHAR, conflict BOOLEAN, _received_at TIMESTAMP"
STATIONS = [
    ("W", "wastewater", 106.9, 11.5),
    *((f"A{n}", "ambient_air", 106.9 + n / 100, 11.5) for n in range(3)),
    ("FAR", "ambient_air", 108.9, 11.5),
]


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("qc"), ["reading_qc"], AS_OF.isoformat(sep=" "))["reading_qc"].replace("qc_flag >= 3", "qc_flag >= 1")


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    con = database({"staging.stg_reading": (READING, []), "marts_core.dim_station": (STATION, STATIONS)}, ["qc_threshold"])
    for bound in ("suspect_min", "suspect_max", "fail_min", "fail_max"):
        con.execute(f"ALTER TABLE lake.reference.qc_threshold ALTER {bound} TYPE DECIMAL(18,6)")
    return con


def reading(at: datetime, value: str | None, parameter: str = "pH", station: str = "W", **other: Any) -> tuple[Any, ...]:
    number = None if value is None else Decimal(value)
    row = {"span_minutes": 5, "reported": number, "valid": number, "status": "00", "reason": None, "conflict": False, "received": at} | other
    return (station, parameter, at, *row.values())


def flags(con: duckdb.DuckDBPyConnection, sql: str, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    con.execute("DELETE FROM lake.staging.stg_reading")
    con.executemany(f"INSERT INTO lake.staging.stg_reading VALUES ({', '.join('?' * 10)})", rows)
    return records(con, f"SELECT * FROM ({sql}) AS found ORDER BY station_id, parameter, measured_at")


def bound(parameter: str, test: str, name: str, matrix: str = "wastewater") -> Decimal:
    (row,) = (r for r in seed_rows("qc_threshold") if (r["matrix"], r["parameter"], r["test"]) == (matrix, parameter, test))
    return Decimal(row[name])


series = st.lists(
    st.tuples(st.sampled_from([5, 5, 5, 60, 175, 180, 181, 185]), st.sampled_from(["7", "7", "7", "7.5", "8.01", "9", "10.5", "14.1", None])),
    min_size=1,
    max_size=40,
)


@examples(60)
@given(steps=series)
def test_flags_of_a_series_are_those_of_the_manual(con: duckdb.DuckDBPyConnection, sql: str, steps: list[tuple[int, str | None]]) -> None:
    at, rows = START, []
    for minutes, value in steps:
        at += timedelta(minutes=minutes)
        rows.append(reading(at, value))
    found = flags(con, sql, [r for r in rows if r[2] <= AS_OF])
    seen = [(r[2], r[5]) for r in rows if r[5] is not None and r[2] <= AS_OF]
    spike, rate = bound("pH", "spike", "suspect_max"), bound("pH", "rate_of_change", "suspect_max")
    by_time = {f["measured_at"]: f for f in found}
    for n, (t, v) in enumerate(seen):
        before = seen[n - 1] if n and t - seen[n - 1][0] <= timedelta(minutes=GAP) else None
        after = seen[n + 1] if n + 1 < len(seen) and seen[n + 1][0] - t <= timedelta(minutes=GAP) else None
        row = by_time[t]
        if before and after:
            assert row["flag_spike"] == (3 if abs(v - (before[1] + after[1]) / 2) > spike else 1)
        else:
            assert row["flag_spike"] == 2
        if before:
            hours = Decimal(int((t - before[0]).total_seconds())) / 3600
            assert row["flag_rate_of_change"] == (3 if abs(v - before[1]) > rate * hours else 1)
        else:
            assert row["flag_rate_of_change"] == 2
        k = n
        while k and seen[k - 1][1] == v and seen[k][0] - seen[k - 1][0] <= timedelta(minutes=GAP):
            k -= 1
        flat = min((t - seen[k][0]) // timedelta(minutes=1), 1440)
        assert row["flat_minutes"] == flat
        assert row["flag_flat_line"] == (4 if flat >= 1200 else 3 if flat >= 180 else 1)
        assert row["flag_range"] == (4 if v > 14 else 1)
        tests = [row[c] for c in row if c.startswith("flag_")]
        assert row["qc_flag"] == (4 if 4 in tests else 3 if 3 in tests else 1)
        assert row["value_reported"] == v and row["value_valid"] == (None if 4 in tests else v)
    missing = [r for r in rows if r[5] is None and r[2] <= AS_OF]
    assert all(by_time[r[2]]["qc_flag"] == by_time[r[2]]["flag_status"] == 9 for r in missing) and len(found) == len(seen) + len(missing)


def test_a_flat_line_goes_on_over_the_midnight_of_a_leap_day(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    rows = [reading(datetime(2024, 2, 29, 4) + timedelta(minutes=5 * k), "7.1") for k in range(12 * 21)]
    found = flags(con, sql, rows)
    first = next(f for f in found if f["flag_flat_line"] == 4)
    assert first["measured_at"] == datetime(2024, 3, 1) and str(first["day"]) == "2024-02-29" and first["is_withdrawn"]
    assert [f["qc_flag"] for f in found].count(4) == 12


def test_values_of_eighteen_digits_are_judged(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    values = ["999999999999", "-999999999999", "999999999999"]
    found = flags(con, sql, [reading(START + timedelta(minutes=5 * k), v) for k, v in enumerate(values)])
    assert [f["flag_spike"] for f in found] == [2, 3, 2] and [f["flag_rate_of_change"] for f in found] == [2, 3, 3]


def test_what_stands_still_for_more_than_a_day_is_not_told_apart(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """An incremental build sees one day before what it judges."""
    found = flags(con, sql, [reading(START + timedelta(hours=k), "7") for k in range(27)])
    assert [f["flat_minutes"] for f in found] == [min(60 * k, 1440) for k in range(27)]


def test_zero_flow_is_natural(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    found = flags(con, sql, [reading(START + timedelta(minutes=5 * k), "0", "Flow_out") for k in range(12 * 22)])
    assert {f["flag_flat_line"] for f in found} == {2}


def test_what_the_gate_refused_is_no_neighbour(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    at = [START + timedelta(minutes=5 * k) for k in range(3)]
    found = flags(con, sql, [reading(at[0], "7"), reading(at[1], "12", valid=None, status="01", reason="status_calibrating"), reading(at[2], "7")])
    assert [f["flag_status"] for f in found] == [1, 4, 1]
    assert [f["flag_rate_of_change"] for f in found] == [2, 2, 1]
    assert not found[1]["is_withdrawn"]


def test_clocks(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    at = START
    rows = [
        reading(at, "7", received=at - timedelta(minutes=2)),
        reading(at + timedelta(minutes=5), "7.1", received=at + timedelta(minutes=2)),
        reading(at + timedelta(minutes=7), "7.2"),
        reading(at + timedelta(minutes=10), "7.3", conflict=True),
    ]
    found = flags(con, sql, rows)
    assert [f["flag_time_slip"] for f in found] == [1, 3, 3, 1]
    assert [f["flag_stuck_clock"] for f in found] == [1, 1, 1, 3]


def test_consistency(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    def of(station: str, **values: str) -> dict[str, int]:
        rows = [reading(START, v, {"PM25": "PM2.5"}.get(p, p), station) for p, v in values.items()]
        return {f["parameter"]: f["flag_consistency"] for f in flags(con, sql, rows)}

    assert of("A0", PM25="55", PM10="50") == {"PM2.5": 1, "PM10": 1}
    assert of("A0", PM25="55.1", PM10="50") == {"PM2.5": 3, "PM10": 3}
    assert of("A0", PM25="55.1") == {"PM2.5": 2}
    assert set(of("A0", NO="10", NO2="20", NOx="30").values()) == {1}
    assert set(of("A0", NO="10", NO2="20", NOx="35.33").values()) == {1}
    assert set(of("A0", NO="10", NO2="20", NOx="23.9").values()) == {3}
    assert set(of("A0", NO="10", NO2="20", NOx="42.5").values()) == {3}
    assert set(of("W", Flow_in="10", Flow_out="12").values()) == {1}
    assert set(of("W", Flow_in="10", Flow_out="12.1").values()) == {3}


def test_flow_is_weighed_over_the_last_24_hours(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """A tank that empties in an hour what came in over the day before is consistent."""
    rows = [reading(START + timedelta(hours=h), v, p) for h in range(24) for p, v in (("Flow_in", "10"), ("Flow_out", "200" if h == 23 else "0"))]
    assert {f["flag_consistency"] for f in flags(con, sql, rows)} == {1}


def test_neighbours(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    limit = bound("PM2.5", "neighbours", "suspect_max", "ambient_air")
    found = flags(con, sql, [reading(START, v, "PM2.5", s) for s, v in (("A0", str(30 + limit + 1)), ("A1", "30"), ("A2", "30"), ("FAR", "500"))])
    assert {f["station_id"]: f["flag_neighbours"] for f in found} == {"A0": 3, "A1": 1, "A2": 1, "FAR": 2}


def test_a_logger_that_repeats_its_record(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    rows = [reading(START + timedelta(minutes=5 * k), "7.1", p) for k in range(8) for p in ("pH", "COD", "TSS")]
    assert [f["flag_repeated_record"] for f in flags(con, sql, rows) if f["parameter"] == "pH"] == [1] * 6 + [3] * 2
    rows[-1] = reading(rows[-1][2], "7.2", "TSS")
    assert [f["flag_repeated_record"] for f in flags(con, sql, rows) if f["parameter"] == "pH"] == [1] * 6 + [3, 1]


def test_every_parameter_has_a_range_and_a_reason() -> None:
    ranges = {(r["matrix"], r["parameter"]) for r in seed_rows("qc_threshold") if r["test"] == "range"}
    assert ranges == {(p["matrix"], p["parameter"]) for p in seed_rows("parameter")}


def test_the_docs_show_the_thresholds_of_the_seed() -> None:
    page = (SEEDS.parents[2] / "docs/qc/thresholds.md").read_text(encoding="utf-8")
    rows = seed_rows("qc_threshold")
    shown = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert shown == ["| " + " | ".join(v for k, v in r.items()) + " |" for r in rows]
