"""Classes of differences between our flags and a library's (`tests/bench/agreement.py`): each takes what it explains and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.bench.agreement import CLASSES, NAMES, judge
from tests.bench.series import AGGREGATES, same
from tests.marts_kit import database
from tnmt.settings import ROOT

START = datetime(2024, 2, 29)
READING = "station_id VARCHAR, parameter VARCHAR, measured_at TIMESTAMP, value_reported DECIMAL(18,6), value_valid DECIMAL(18,6), reason VARCHAR"
FLAGS = "station_id VARCHAR, parameter VARCHAR, measured_at TIMESTAMP"
BOUNDS = {"range": (None, None, 0, 14), "spike": (None, 1, None, None), "rate_of_change": (None, 3, None, None), "flat_line": (0, 180, None, 1200)}


def found(steps: list[tuple[int, str | None]], place: int, rule: str, ours: int, theirs: int, peer: str, reason: str | None = None) -> str:
    """The class of the reading at `place` where the flags of `rule` are these; steps are (minutes since the one before, value)."""
    con = database(
        {
            "staging.stg_reading": (READING, []),
            "marts_core.dim_station": ("station_id VARCHAR, matrix VARCHAR", [("W", "wastewater")]),
            "reference.qc_threshold": (
                "matrix VARCHAR, parameter VARCHAR, test VARCHAR, suspect_min DECIMAL(18,6), suspect_max DECIMAL(18,6), fail_min DECIMAL(18,6), fail_max DECIMAL(18,6)",
                [("wastewater", "pH", test, *bounds) for test, bounds in BOUNDS.items()],
            ),
        }
    )
    at, times = START, []
    for n, (minutes, value) in enumerate(steps):
        at += timedelta(minutes=minutes)
        times.append(at)
        number = None if value is None else Decimal(value)
        con.execute("INSERT INTO lake.staging.stg_reading VALUES ('W', 'pH', ?, ?, ?, ?)", [at, number, number, reason if n == place else None])
    rules = ("range", "spike", "rate_of_change", "flat_line")
    for name, prefix, flag in (("ours", "flag_", ours), ("theirs", "", theirs)):
        con.execute(f"CREATE TABLE {name} ({FLAGS}, {', '.join(f'{prefix}{r} UTINYINT' for r in rules)})")
        con.executemany(
            f"INSERT INTO {name} VALUES ('W', 'pH', ?, ?, ?, ?, ?)",
            [[t, *(flag if (n, r) == (place, rule) else 1 for r in rules)] for n, t in enumerate(times)],
        )
    rows = [r for r in judge(con, "ours", "theirs", peer) if r["class"] != "equal" and r["readings"]]
    assert sum(r["readings"] for r in rows) <= 1
    return str(rows[0]["class"]) if rows else "equal"


EVEN = [(5, "7"), (5, "8"), (5, "7.5"), (5, "7"), (5, "8")]
STUCK = [(5, "7"), *[(5, "8")] * 60, (5, "7")]
Steps = list[tuple[int, str | None]]
CASES: list[tuple[str, Steps, int, str, int, int, str, str | None]] = [
    ("range of the register", EVEN, 2, "range", 4, 1, "saqc", "out_of_range"),
    ("unexplained", EVEN, 2, "range", 4, 1, "saqc", None),
    ("unexplained", [*EVEN, (5, "15")], 5, "range", 4, 1, "ioos_qc", "out_of_range"),
    ("no value", [(5, "7"), (5, None), (5, "7")], 1, "spike", 2, 9, "ioos_qc", None),
    ("unexplained", EVEN, 2, "spike", 2, 9, "ioos_qc", None),
    ("neighbour without value", [(5, "7"), (5, None), (5, "9"), (5, "7")], 2, "spike", 3, 2, "ioos_qc", None),
    ("unexplained", EVEN, 2, "spike", 3, 2, "ioos_qc", None),
    ("hole or end", [(5, "7"), (181, "8"), (5, "7")], 1, "spike", 2, 1, "ioos_qc", None),
    ("unexplained", [(5, "7"), (180, "8"), (5, "7")], 1, "spike", 2, 1, "ioos_qc", None),
    ("equal to the bound", [(5, "7"), (5, "8"), (5, "7")], 1, "spike", 1, 3, "ioos_qc", None),
    ("unexplained", [(5, "7"), (5, "8.000001"), (5, "7")], 1, "spike", 1, 3, "ioos_qc", None),
    ("hole or start", EVEN, 0, "rate_of_change", 2, 1, "ioos_qc", None),
    ("unexplained", EVEN, 1, "rate_of_change", 2, 1, "ioos_qc", None),
    ("hole", [(5, "7"), (181, "17")], 1, "rate_of_change", 1, 3, "saqc", None),
    ("unexplained", [(5, "7"), (180, "16.1")], 1, "rate_of_change", 1, 3, "saqc", None),
    ("row before without value", [(5, "7"), (5, None), (5, "9")], 2, "rate_of_change", 3, 1, "saqc", None),
    ("unexplained", EVEN, 1, "rate_of_change", 3, 1, "saqc", None),
    ("equal to the bound", [(5, "7"), (5, "7.25")], 1, "rate_of_change", 1, 3, "ioos_qc", None),
    ("unexplained", [(5, "7"), (5, "7.24")], 1, "rate_of_change", 1, 3, "ioos_qc", None),
    ("natural value", [(5, "0")] * 40, 39, "flat_line", 2, 3, "ioos_qc", None),
    ("unexplained", [(5, "1")] * 40, 39, "flat_line", 2, 3, "ioos_qc", None),
    ("readings, not minutes", [*[(5, "8")] * 30, (181, "8"), *[(5, "8")] * 10], 38, "flat_line", 1, 3, "ioos_qc", None),
    ("unexplained", [(5, "7"), *[(5, "8")] * 36], 36, "flat_line", 1, 3, "ioos_qc", None),
    ("unexplained", STUCK, 50, "flat_line", 3, 1, "ioos_qc", None),
    ("jump and return", [(5, "7"), (5, "9"), (5, "5")], 1, "spike", 3, 1, "saqc", None),
    ("unexplained", [(5, "7"), (5, "9"), (5, "7")], 1, "spike", 3, 1, "saqc", None),
    ("mean of both", [(5, "7"), (5, "8.1"), (5, "7.9")], 1, "spike", 1, 3, "saqc", None),
    ("unexplained", [(5, "7"), (5, "7.1"), (5, "7.2")], 1, "spike", 1, 3, "saqc", None),
    ("reading lost beside it", [(5, "7"), (10, "9"), (5, "7")], 1, "spike", 3, 1, "saqc", None),
    ("from its beginning", STUCK, 3, "flat_line", 1, 3, "saqc", None),
    ("unexplained", [(5, "7"), *[(5, "8")] * 30, (5, "7")], 3, "flat_line", 1, 3, "saqc", None),
    ("few values after a hole", [(5, "7"), (240, "8"), (5, "8"), (5, "7")], 1, "flat_line", 1, 3, "saqc", None),
]


@pytest.mark.parametrize(("name", "steps", "place", "rule", "ours", "theirs", "peer", "reason"), CASES)
def test_class_of_a_difference(name: str, steps: Steps, place: int, rule: str, ours: int, theirs: int, peer: str, reason: str | None) -> None:
    assert found(steps, place, rule, ours, theirs, peer, reason) == name


def test_every_class_has_a_case_and_stands_on_the_page() -> None:
    assert {c.name for c in CLASSES} == {c[0] for c in CASES} - {"unexplained"}
    page = (ROOT / "docs/qc/peers.md").read_text(encoding="utf-8")
    assert all(f"| {c.name} | " in page and c.why in page for c in CLASSES)
    assert all(title in page for title in NAMES.values()) and "not explained" not in page


def test_a_reading_that_one_side_lacks_is_not_explained() -> None:
    con = database(
        {
            "staging.stg_reading": (READING, [("W", "pH", START, Decimal(7), Decimal(7), None)]),
            "marts_core.dim_station": ("station_id VARCHAR, matrix VARCHAR", [("W", "wastewater")]),
        },
        ["qc_threshold"],
    )
    flags = dict.fromkeys(("range", "spike", "rate_of_change", "flat_line"), 1)
    con.execute(
        f"CREATE TABLE ours AS SELECT 'W' AS station_id, 'pH' AS parameter, TIMESTAMP '{START}' AS measured_at, {', '.join(f'1 AS flag_{r}' for r in flags)}"
    )
    con.execute(
        f"CREATE TABLE theirs AS SELECT 'X' AS station_id, 'pH' AS parameter, TIMESTAMP '{START}' AS measured_at, {', '.join(f'1 AS {r}' for r in flags)}"
    )
    rows = judge(con, "ours", "theirs", "ioos_qc")
    assert all(r["readings"] == (2 if r["class"] == "unexplained" else 0) for r in rows)


@pytest.mark.parametrize(
    ("change", "different"),
    [
        ({}, {}),
        ({"mean_valid": 70_000 * (1 + 5e-10)}, {}),
        ({"mean_valid": 70_000.01}, {"reading_hourly.mean_valid": 1}),
        ({"mean_valid": None}, {"reading_hourly.mean_valid": 1}),
        ({"valid": 8}, {"reading_hourly.valid": 1}),
    ],
)
def test_aggregates_that_differ_are_told(tmp_path: Path, change: dict[str, Any], different: dict[str, int]) -> None:
    key = {"station_id": "'A'", "parameter": "'CO'"}
    rows: dict[str, dict[str, Any]] = {
        "reading_hourly": {
            "hour_end": "TIMESTAMP '2024-03-01 01:00'",
            "expected": 12,
            "valid": 9,
            "mean_valid": 70_000,
            "min_valid": 1,
            "max_valid": 9,
        },
        "reading_8h": {"hour_end": "TIMESTAMP '2024-03-01 01:00'", "hours": 1, "is_valid": False, "mean_8h": 7},
        "reading_daily": {"day": "DATE '2024-02-29'", "expected": 12, "valid": 9, "hours": 1, "is_complete": True, "mean_valid": 7}
        | dict.fromkeys(("min_valid", "max_valid", "max_1h", "max_8h"), 7),
    }
    for side in ("ours", "theirs"):
        (tmp_path / side).mkdir()
        for model in AGGREGATES:
            columns = key | rows[model] | (change if side == "theirs" and model == "reading_hourly" else {})
            texts = ", ".join(f"{'NULL' if v is None else v} AS {k}" for k, v in columns.items())
            duckdb.connect().execute(f"COPY (SELECT {texts}) TO '{tmp_path / side / model}.parquet'")
    assert same(str(tmp_path / "ours"), str(tmp_path / "theirs"))["different"] == different
