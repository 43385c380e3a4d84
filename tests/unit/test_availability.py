"""Why values are missing: every slot of a small province explained one by one in plain Python, against the marts' bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from tests.marts_kit import compiled, database, records

DAY = datetime(2024, 2, 29)
AS_OF = DAY + timedelta(hours=3, minutes=2)
MODELS = ["int_adjustment", "int_reading", "reading_hourly", "int_station_hour", "availability_daily", "int_station_silence", "interruption"]
# a facility with stations of 5 minutes and of one, one with an hour and a quarter of it, and three alone; X also has a channel of one value an hour
CADENCE = {
    ("X", "pH"): 5,
    ("X", "COD"): 5,
    ("X", "Flow"): 60,
    ("Y", "pH"): 5,
    ("Z", "pH"): 15,
    ("V", "pH"): 60,
    ("W", "pH"): 10,
    ("U", "pH"): 60,
    ("T", "pH"): 15,
}
FACILITY = {"X": "CS1", "Y": "CS1", "Z": "CS2", "V": "CS2", "W": None, "U": None, "T": None}
DUE = {(s, p, m): c for (s, p), c in CADENCE.items() for m in range(c, 181, c)}
"""Slots that are due until the moment of the build: (station, parameter, minute of its end) -> cadence."""

CAUSES = ("not_due", "receiver", "rejected", "facility", "station", "calibration", "channel")
READING = (
    "station_id VARCHAR, parameter VARCHAR, measured_at TIMESTAMP, _received_at TIMESTAMP, value_reported DECIMAL(18,6), value_valid DECIMAL(18,6), "
)
READING += (
    "status VARCHAR, reason VARCHAR, span_minutes SMALLINT, conflict BOOLEAN, _source VARCHAR, _delivery_id VARCHAR, _line INTEGER, _as_of TIMESTAMP"
)
ADJUSTMENT = "adjustment_id VARCHAR, station_id VARCHAR, parameter VARCHAR, applies_from TIMESTAMP, applies_to TIMESTAMP, action VARCHAR, "
ADJUSTMENT += "number DECIMAL(18,6), reason_vi VARCHAR, _as_of TIMESTAMP, _received_at TIMESTAMP, _delivery_id VARCHAR, _line INTEGER"
STATION = (
    "station_id VARCHAR, station_name VARCHAR, facility_id VARCHAR, facility_name VARCHAR, matrix VARCHAR, matrix_vi VARCHAR, commune_code VARCHAR, "
)
STATION += "commune_name VARCHAR"
REASONS = {
    "valid": None,
    "calibrating": "status_calibrating",
    "device_error": "status_device_error",
    "out_of_range": None,
    "unreadable": "value_unreadable",
    "quality": None,
    "rejected": None,
    "blank": "value_missing",
}
"""What the file says of a reading; `blank` is the empty cell of a wide export without a status, which is nothing that came."""


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("availability"), MODELS, AS_OF.isoformat(sep=" "))


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    stations = [(s, f"Trạm {s}", f, f"Cơ sở {f}" if f else None, "wastewater", "Nước thải", "1", "Xã A") for s, f in FACILITY.items()]
    periods = [(s, p, c, DAY, datetime(9999, 12, 31)) for (s, p), c in CADENCE.items()]
    return database(
        {
            "staging.stg_reading": (READING, []),
            "staging.stg_adjustment": (ADJUSTMENT, []),
            "staging.stg_station": ("station_id VARCHAR, contact_unit VARCHAR", [(s, f"Liên hệ {s}") for s in FACILITY]),
            "marts_core.dim_station": (STATION, stations),
            "marts_core.dim_parameter": ("matrix VARCHAR, parameter VARCHAR, parameter_name_vi VARCHAR", []),
            "intermediate.int_station_code": ("station_id VARCHAR, code VARCHAR", [(s[0], s[0]) for s in stations]),
            "intermediate.int_channel_period": (
                "station_id VARCHAR, parameter VARCHAR, cadence_minutes INTEGER, due_from TIMESTAMP, due_to TIMESTAMP",
                periods,
            ),
            "marts_environment.reading_qc": (
                "station_id VARCHAR, parameter VARCHAR, day DATE, measured_at TIMESTAMP, is_withdrawn BOOLEAN, withdrawn_reason VARCHAR",
                [],
            ),
            "quarantine.row": ("delivery_id VARCHAR, target VARCHAR", []),
            "ops.delivery": ("delivery_id VARCHAR, name VARCHAR, as_of TIMESTAMP", []),
            "ops.affected": ("seq BIGINT, target VARCHAR, unit VARCHAR, day DATE", []),
        }
    )


Slot = tuple[str, str, int]


def build(con: duckdb.DuckDBPyConnection, sql: dict[str, str], sent: dict[Slot, str], rejected: Iterable[tuple[str, int]]) -> None:
    """Makes all models where these slots were sent (with what became of them), and these stations' files of a minute were rejected."""
    for table in ("staging.stg_reading", "staging.stg_adjustment", "marts_environment.reading_qc", "quarantine.row", "ops.delivery"):
        con.execute(f"DELETE FROM lake.{table}")
    for (station, parameter, minute), fate in sent.items():
        at = DAY + timedelta(minutes=minute)
        row = (
            station,
            parameter,
            at,
            at,
            None if fate in ("unreadable", "blank") else 1,
            1 if fate in ("valid", "quality", "rejected", "out_of_range") else None,
            {"calibrating": "01", "device_error": "02", "unreadable": None, "blank": " " if minute % 2 else None}.get(fate, "00"),
            REASONS[fate],
        )
        con.execute(
            "INSERT INTO lake.staging.stg_reading BY NAME SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?)) AS r ("
            "station_id, parameter, measured_at, _received_at, value_reported, value_valid, status, reason)",
            row,
        )
        if fate == "rejected":
            one = (f"{station}{parameter}{minute}", station, parameter, at - timedelta(minutes=1), at, "reject", None, "x", at, at, "d", 1)
            con.execute(f"INSERT INTO lake.staging.stg_adjustment VALUES ({', '.join('?' * 12)})", one)
        if fate in ("quality", "out_of_range"):
            con.execute("INSERT INTO lake.marts_environment.reading_qc VALUES (?, ?, ?, ?, TRUE, ?)", [station, parameter, DAY.date(), at, fate])
    for number, (station, minute) in enumerate(rejected):
        at = DAY + timedelta(minutes=minute)
        con.execute("INSERT INTO lake.quarantine.row VALUES (?, 'reading')", [str(number)])
        con.execute("INSERT INTO lake.ops.delivery VALUES (?, ?, ?)", [str(number), f"{station}/{station}_{at:%Y%m%d%H%M%S}.txt", at])
    for model in MODELS:
        schema = "intermediate" if model.startswith("int_") else "marts_environment"
        con.execute(f"CREATE OR REPLACE TABLE lake.{schema}.{model} AS {sql[model]}")


def silent_minutes(station: str, hour: int, sent: dict[Slot, str]) -> set[int]:
    """Minutes of the slots in which the station was silent: without those of a channel that is missing also while others of the station come."""
    due: dict[str, set[int]] = {}
    for s, p, m in DUE:
        if s == station and (m - 1) // 60 == hour:
            due.setdefault(p, set()).add(m)
    got = {m for s, p, m in sent if s == station and (m - 1) // 60 == hour}
    missing = ({m for m in minutes if (station, p, m) not in sent} for p, minutes in due.items())
    return {m for of_channel in missing if not of_channel & got for m in of_channel}


def is_shared(group: set[str], least: int, station: str, minute: int, sent: dict[Slot, str]) -> bool:
    """Whether the station's silence in the slot is one of its group: at least so many were silent then, none of them of itself (docs/availability.md)."""
    hour = (minute - 1) // 60
    through = {m for s, _, m in sent if s in group and (m - 1) // 60 == hour}
    if minute in through:
        return False
    counted = set()
    for one in group:
        silent = silent_minutes(one, hour, sent)
        owed = sorted({m for s, _, m in DUE if s == one and (m - 1) // 60 == hour})
        following = [m for m in owed if m >= minute]
        if not following or following[0] not in silent:
            continue
        met = [m for m in owed if m in through]
        beside = [m for m in met if m < minute][-1:] + [m for m in met if m > minute][:1]
        if not beside or not all(m in silent for m in beside):
            counted.add(one)
    return len(counted) >= least and station in counted and minute in silent_minutes(station, hour, sent)


def cause_of(slot: Slot, sent: dict[Slot, str], rejected: set[tuple[str, int]]) -> str:
    """The one cause of a missing slot, in the order of docs/availability.md."""
    station, _, minute = slot
    if minute > 182 - 15:
        return "not_due"
    if is_shared(set(FACILITY), 3, station, minute, sent):
        return "receiver"
    if any(s == station and m - 4 <= minute <= m for s, m in rejected):
        return "rejected"
    if FACILITY[station] and is_shared({s for s, f in FACILITY.items() if f == FACILITY[station]}, 2, station, minute, sent):
        return "facility"
    if minute in silent_minutes(station, (minute - 1) // 60, sent):
        return "station"
    if any(s == station and m == minute and fate == "calibrating" for (s, _, m), fate in sent.items()):
        return "calibration"
    return "channel"


FATE = st.sampled_from(["valid", "valid", "valid", "calibrating", "device_error", "out_of_range", "unreadable", "quality", "rejected", "blank"])


@st.composite
def province(draw: st.DrawFn) -> tuple[dict[Slot, str], set[tuple[str, int]]]:
    """What was sent: everything but blocks of silence of some channels, stations, the facility or all."""
    silent: set[Slot] = set()
    for _ in range(draw(st.integers(0, 6))):
        who = draw(st.sampled_from([*FACILITY, "CS1", "CS2", "all", *CADENCE]))
        start, length = draw(st.integers(1, 180)), draw(st.integers(1, 70))
        for s, p, m in DUE:
            if start <= m < start + length and (who == "all" or who in (s, FACILITY[s], (s, p))):
                silent.add((s, p, m))
    fates = draw(st.lists(FATE, min_size=7, max_size=7))
    sent = {slot: fates[i % 7] for i, slot in enumerate(DUE) if slot not in silent}
    rejected = draw(st.sets(st.tuples(st.sampled_from(list(FACILITY)), st.integers(1, 36).map(lambda n: n * 5)), max_size=4))
    return sent, rejected


@examples(30)
@given(given_=province())
def test_each_slot_has_the_cause_that_plain_python_finds(
    con: duckdb.DuckDBPyConnection, sql: dict[str, str], given_: tuple[dict[Slot, str], set[tuple[str, int]]]
) -> None:
    sent, rejected = given_
    build(con, sql, sent, rejected)
    sent = {slot: fate for slot, fate in sent.items() if fate != "blank"}
    found = {(r["station_id"], r["parameter"]): r for r in records(con, "SELECT * FROM lake.marts_environment.availability_daily")}
    assert set(found) == set(CADENCE)
    for (station, parameter), row in found.items():
        due = [slot for slot in DUE if slot[:2] == (station, parameter)]
        missing = Counter(cause_of(slot, sent, rejected) for slot in due if slot not in sent)
        fates = Counter(sent[slot] for slot in due if slot in sent)
        assert (row["expected"], row["received"], row["valid"]) == (len(due), sum(fates.values()), fates["valid"])
        assert {c: row[f"missing_{c}"] for c in CAUSES} == {c: missing[c] for c in CAUSES}
        assert {f: row[f"invalid_{f}"] for f in REASONS if f not in ("valid", "blank")} == {
            f: fates[f] for f in REASONS if f not in ("valid", "blank")
        }
        assert row["missing"] == sum(missing.values()) and row["expected"] == row["received"] + row["missing"]
    # the longest runs of slots in which a station was silent
    expected = []
    for station in FACILITY:
        step = min(c for (s, _), c in CADENCE.items() if s == station)
        silent = sorted(m for hour in range(3) for m in silent_minutes(station, hour, sent) if m <= 182 - 15)
        runs: list[list[int]] = []
        for m in silent:
            if runs and runs[-1][-1] == m - step:
                runs[-1].append(m)
            else:
                runs.append([m])
        expected += [(station, r[0] - step, r[-1], r[-1] + step > 182 - 15) for r in runs if r[-1] - r[0] + step > 15]
    told = records(con, "SELECT * FROM lake.marts_environment.interruption")
    seen = [(r["station_id"], *(int((r[c] - DAY).total_seconds() // 60) for c in ("started_at", "ended_at")), r["is_open"]) for r in told]
    assert sorted(seen) == sorted(expected)
    assert all(r["contact_vi"] == f"Liên hệ {r['station_id']}" and r["cause_vi"] and r["duration_vi"] for r in told)


def test_hours_that_count_for_payment(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Nine of twelve values make an hour that was delivered, eight do not; validity is another matter."""
    sent: dict[Slot, str] = {("Y", "pH", m): "device_error" for m in (*range(5, 50, 5), *range(65, 105, 5))}
    build(con, sql, sent, set())
    row = records(con, "SELECT * FROM lake.marts_environment.availability_daily WHERE station_id = 'Y'")[0]
    assert (row["received"], row["valid"], row["hourly_values_due"], row["hourly_values_delivered"]) == (17, 0, 3, 1)


def _causes(con: duckdb.DuckDBPyConnection, sql: dict[str, str], sent: dict[Slot, str]) -> dict[tuple[str, str], dict[str, int]]:
    build(con, sql, sent, set())
    return {
        (r["station_id"], r["parameter"]): {c: r[f"missing_{c}"] for c in CAUSES if r[f"missing_{c}"]}
        for r in records(con, "SELECT * FROM lake.marts_environment.availability_daily")
    }


def test_a_silent_quarter_hour_among_hourly_ones_is_not_our_receiver(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Nothing else was due at 00:15; at 01:00 the hourly stations came and the silent ones did not, however many they are."""
    hourly = {s: "valid" for s, c in DUE.items() if c == 60}
    found = _causes(con, sql, hourly)
    assert found[("T", "pH")] == {"station": 11, "not_due": 1}
    # X's hourly channel came: its others are missing, the station is not
    assert found[("X", "pH")] == {"channel": 33, "not_due": 3}
    assert not [c for causes in found.values() for c in causes if c == "receiver"]
    assert {r["cause"] for r in records(con, "SELECT * FROM lake.marts_environment.interruption")} == {"station"}


def test_an_outage_of_the_receiver_between_hourly_values_is_ours(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """All that was due from 00:10 to 00:40 is missing; the hourly values of 01:00 came, and so did everything else."""
    found = _causes(con, sql, {s: "valid" for s in DUE if not 10 <= s[2] <= 40})
    missing = {key: {c: n for c, n in causes.items() if c != "not_due"} for key, causes in found.items()}
    assert {key: causes for key, causes in missing.items() if causes} == {
        ("X", "pH"): {"receiver": 7},
        ("X", "COD"): {"receiver": 7},
        ("Y", "pH"): {"receiver": 7},
        ("W", "pH"): {"receiver": 4},
        ("Z", "pH"): {"receiver": 2},
        ("T", "pH"): {"receiver": 2},
    }


def test_empty_cells_are_not_received(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    found = _causes(con, sql, {s: "blank" if s[0] == "T" else "valid" for s in DUE})
    assert found[("T", "pH")] == {"station": 11, "not_due": 1}
    row = records(con, "SELECT * FROM lake.marts_environment.availability_daily WHERE station_id = 'T'")[0]
    assert (row["received"], row["invalid_unreadable"], row["received_share"]) == (0, 0, 0.0)
