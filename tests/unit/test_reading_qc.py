"""Quality control of readings: the flags of random series against the definitions of the QARTOD manuals in plain Python, and the edges by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta
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
STATION = "station_id VARCHAR, matrix VARCHAR, lon DOUBLE, lat DOUBLE, in_use_from DATE, in_use_to DATE"
CHANNEL = "station_id VARCHAR, parameter VARCHAR, valid_from TIMESTAMP, valid_to TIMESTAMP, range_min DECIMAL(18,6), range_max DECIMAL(18,6), "
CHANNEL += "_source VARCHAR, _line INTEGER"
OWN = "station_id VARCHAR, parameter VARCHAR, test VARCHAR, valid_from DATE, valid_to DATE, suspect_min DECIMAL(18,6), suspect_max DECIMAL(18,6)"
READING = (
    "station_id VARCHAR, parameter VARCHAR, measured_at TIMESTAMP, span_minutes SMALLINT, value_reported DECIMAL(18,6), value_valid DECIMAL(18,6), "
)
READING += "status VARCHAR, reason VARCHAR, conflict BOOLEAN, _received_at TIMESTAMP"
STATIONS = [
    ("W", "wastewater", 106.9, 11.5, date(2024, 1, 1), None),
    *((f"A{n}", "ambient_air", 106.9 + n / 100, 11.5, None, None) for n in range(3)),
    ("FAR", "ambient_air", 108.9, 11.5, None, None),
    ("R", "surface_water", 106.9, 11.5, date(2024, 1, 1), date(2024, 2, 29)),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("qc"), ["int_qc_bound", "reading_qc"], AS_OF.isoformat(sep=" "), qc_keep_from="1")


@pytest.fixture(scope="module")
def sql(models: dict[str, str]) -> str:
    return models["reading_qc"]


def qc_lake(models: dict[str, str], stations: list[tuple[Any, ...]]) -> duckdb.DuckDBPyConnection:
    """An in-memory lake with what quality control reads: these stations, no readings, the common thresholds; `int_qc_bound` is a view of its own SQL."""
    con = database(
        {
            "staging.stg_reading": (READING, []),
            "marts_core.dim_station": (STATION, stations),
            "staging.stg_station": (STATION, stations),
            "staging.stg_station_channel": (CHANNEL, []),
            "staging.stg_station_qc_threshold": (OWN, []),
        },
        ["qc_threshold", "qc_dependence"],
    )
    for bound in ("suspect_min", "suspect_max", "fail_min", "fail_max"):
        con.execute(f"ALTER TABLE lake.reference.qc_threshold ALTER {bound} TYPE DECIMAL(18,6)")
    con.execute(f"CREATE SCHEMA lake.intermediate; CREATE VIEW lake.intermediate.int_qc_bound AS {models['int_qc_bound']}")
    return con


@pytest.fixture(scope="module")
def con(models: dict[str, str]) -> duckdb.DuckDBPyConnection:
    return qc_lake(models, STATIONS)


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
        flat = min((t - seen[k][0]) // timedelta(minutes=1), 1440 - GAP)
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
    assert [f["flat_minutes"] for f in found] == [min(60 * k, 1440 - GAP) for k in range(27)]


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


def test_the_register_s_range_is_judged_whenever_it_comes_and_by_its_dates(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    rows = [reading(START + timedelta(minutes=5 * k), "9", "COD", status=None, reason="status_missing") for k in range(3)]
    assert [f["is_withdrawn"] for f in flags(con, sql, rows)] == [False] * 3
    middle = START + timedelta(minutes=7)
    con.execute("INSERT INTO lake.staging.stg_station_channel VALUES ('W', 'COD', ?, NULL, 0, 8, 's', 1)", [middle])
    try:
        found = flags(con, sql, rows)
    finally:
        con.execute("DELETE FROM lake.staging.stg_station_channel")
    assert [(f["flag_range"], f["withdrawn_reason"], f["value_valid"]) for f in found] == [(1, None, 9), (1, None, 9), (4, "out_of_range", None)]
    # what the register refuses is no neighbour of the others
    assert [f["flag_rate_of_change"] for f in found] == [2, 1, 2]


def test_a_reading_outside_the_station_s_time_in_use_counts_nowhere(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """The last stamp of the last day is its midnight; a clock that says the year 2000 is no figure of a station of 2024."""
    times = [datetime(2000, 5, 1, 8), datetime(2024, 1, 1), datetime(2024, 1, 1, 0, 5), datetime(2024, 3, 1), datetime(2024, 3, 1, 0, 5)]
    found = flags(con, sql, [reading(t, "7", "pH", "R", span_minutes=5) for t in times])
    assert [(f["withdrawn_reason"], f["flag_time_slip"]) for f in found] == [
        ("not_in_use", 4),
        ("not_in_use", 4),
        (None, 1),
        (None, 1),
        ("not_in_use", 4),
    ]


def test_zero_noise_stays_and_a_zero_that_drifted_does_not(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    low = bound("NO2", "range", "fail_min", "ambient_air")
    values = ["-0.13", str(low), str(low - Decimal("0.000001"))]
    found = flags(con, sql, [reading(START + timedelta(minutes=5 * k), v, "NO2", "A0") for k, v in enumerate(values)])
    assert [f["value_valid"] for f in found] == [Decimal("-0.13"), low, None] and [f["flag_range"] for f in found] == [1, 1, 4]


def test_a_layout_without_status_makes_nothing_suspect(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    rows = [reading(START + timedelta(minutes=5 * k), "7", status=s, reason=r) for k, (s, r) in enumerate([(None, "status_missing"), ("00", None)])]
    rows.append(reading(START + timedelta(minutes=10), "7", status="07", valid=None, reason="status_unknown"))
    assert [(f["flag_status"], f["qc_flag"]) for f in flags(con, sql, rows)] == [(2, 1), (1, 1), (3, 3)]


@pytest.fixture
def own(con: duckdb.DuckDBPyConnection) -> Any:
    """Thresholds of station R: spikes of EC from 2,000 on, a daily level of its depth, and a flat line of half an hour."""
    con.execute(
        "INSERT INTO lake.staging.stg_station_qc_threshold VALUES ('R', 'EC', 'spike', '2024-02-29', NULL, NULL, 2000), "
        "('R', 'Depth', 'level', '2024-01-01', '2024-02-29', 1, 2), ('R', 'Turbidity', 'flat_line', '2024-01-01', NULL, NULL, 30), "
        "('NOBODY', 'EC', 'spike', '2024-01-01', NULL, NULL, 1)"
    )
    yield
    con.execute("DELETE FROM lake.staging.stg_station_qc_threshold")


def test_thresholds_of_a_station_go_before_those_of_its_kind(con: duckdb.DuckDBPyConnection, sql: str, own: None) -> None:
    def spike(day: int) -> int:
        rows = [reading(datetime(2024, 2, day, 12, 5 * k), v, "EC", "R") for k, v in enumerate(["100", "1000", "100"])]
        return int(flags(con, sql, rows)[1]["flag_spike"])

    assert (spike(28), spike(29)) == (3, 1)
    # its other tests stay those of its kind, and a bound that its row leaves empty is none: zero is judged here
    rows = [reading(datetime(2024, 2, 28, 12) + timedelta(minutes=5 * k), "0", "Turbidity", "R") for k in range(8)]
    assert [f["flag_flat_line"] for f in flags(con, sql, rows)] == [1] * 6 + [3] * 2
    assert {f["flag_range"] for f in flags(con, sql, rows)} == {1}
    # a row without a bound takes the test off the channel
    con.execute("INSERT INTO lake.staging.stg_station_qc_threshold VALUES ('R', 'TSS', 'flat_line', '2024-01-01', NULL, NULL, NULL)")
    rows = [reading(datetime(2024, 2, 27) + timedelta(minutes=15 * k), "7", "TSS", "R", span_minutes=15) for k in range(4 * 22)]
    assert {f["flag_flat_line"] for f in flags(con, sql, rows)} == {2}


def test_a_sonde_that_hangs_elsewhere_makes_its_record_suspect(con: duckdb.DuckDBPyConnection, sql: str, own: None) -> None:
    """The mean of the day that ends with a value, exactly; nothing is said before half a day."""
    rows = []
    for k in range(30):
        at = datetime(2024, 2, 28) + timedelta(hours=k + 1)
        depth = Decimal("1.9") if k % 2 else Decimal("2.3")
        rows += [reading(at, str(depth), "Depth", "R"), reading(at, str(20 + k % 7), "Temp", "R")]
    found = {(f["parameter"], f["measured_at"]): f for f in flags(con, sql, rows)}
    series = sorted((r[2], r[4]) for r in rows if r[1] == "Depth")
    for at, _ in series:
        day = [v for t, v in series if at - timedelta(minutes=1439) <= t <= at]
        first = min(t for t, _ in series if at - timedelta(minutes=1439) <= t)
        expected = 2 if at - first < timedelta(hours=12) else 3 if not 1 <= sum(day) / len(day) <= 2 else 1
        assert found[("Depth", at)]["flag_level"] == expected, at
        # the temperature is of another water then
        assert found[("Temp", at)]["flag_dependence"] == (3 if expected == 3 else 1)
    assert {f["flag_level"] for f in found.values()} == {1, 2, 3} or {f["flag_level"] for f in found.values()} == {2, 3}
    assert not any(f["is_withdrawn"] for f in found.values())


def test_every_parameter_has_a_range_and_a_reason() -> None:
    ranges = {(r["matrix"], r["parameter"]) for r in seed_rows("qc_threshold") if r["test"] == "range"}
    assert ranges == {(p["matrix"], p["parameter"]) for p in seed_rows("parameter")}


def test_the_docs_show_the_thresholds_of_the_seed() -> None:
    page = (SEEDS.parents[2] / "docs/qc/thresholds.md").read_text(encoding="utf-8")
    rows = seed_rows("qc_threshold")
    shown = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert shown == ["| " + " | ".join(v for k, v in r.items()) + " |" for r in rows]
