"""The two clocks of a dossier: days worked out by hand from the calendar of the holidays, against the marts' SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from tests.marts_kit import compiled, database, records, seed_rows

AS_OF = "2026-03-12 10:00:00"
MODELS = ("dim_date", "int_dossier", "dossier_queue")
DOSSIER = "dossier_id VARCHAR, procedure_code VARCHAR, procedure_name_vi VARCHAR, old_commune_code VARCHAR, commune_code VARCHAR, received_on DATE, due_on DATE, finished_on DATE, status VARCHAR"
STEP = "dossier_id VARCHAR, step_number INTEGER, step_name_vi VARCHAR, unit_vi VARCHAR, step_kind VARCHAR, started_at TIMESTAMP, due_at TIMESTAMP, finished_at TIMESTAMP"
TERM = "procedure_code VARCHAR, term_days INTEGER, authority_vi VARCHAR, valid_from DATE"


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("dossier"), MODELS, AS_OF)


def built(sql: dict[str, str], dossiers: list[Any], steps: list[Any], terms: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
    con = database(
        {"staging.stg_dossier": (DOSSIER, dossiers), "staging.stg_dossier_step": (STEP, steps), "staging.stg_procedure_term": (TERM, list(terms))}
    )
    for schema in ("reference", "marts_core", "intermediate"):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{schema}")
    exceptions = [(r["date_day"], r["is_working_day"], r["name_vi"]) for r in seed_rows("calendar_exception")]
    con.execute("CREATE TABLE lake.reference.calendar_exception (date_day DATE, is_working_day BOOLEAN, name_vi VARCHAR)")
    con.executemany("INSERT INTO lake.reference.calendar_exception VALUES (?, ?, ?)", exceptions)
    con.execute(f"CREATE TABLE lake.marts_core.dim_date AS {sql['dim_date']}")
    con.execute(f"CREATE TABLE lake.intermediate.int_dossier AS {sql['int_dossier']}")
    return con


def row(
    number: str, received: date, due: date | None = None, finished: date | None = None, status: str = "open", procedure: str = "P"
) -> tuple[Any, ...]:
    return (number, procedure, "Thủ tục", "1", "9", received, due, finished, status)


def at(day: date, hour: int = 8) -> datetime:
    return datetime.combine(day, datetime.min.time()) + timedelta(hours=hour)


def test_working_days_are_those_of_the_decrees(sql: dict[str, str]) -> None:
    """2 January 2026 is off and Saturday the 10th is worked (CV 12729/VPCP-KGVX), which the library of holidays has the other way round."""
    con = built(sql, [], [])
    days = dict(
        con.execute("SELECT date_day, is_working_day FROM lake.marts_core.dim_date WHERE date_day BETWEEN '2026-01-01' AND '2026-01-11'").fetchall()
    )
    assert [d.day for d, worked in sorted(days.items()) if worked] == [5, 6, 7, 8, 9, 10]
    provisional = con.execute("SELECT DISTINCT year FROM lake.marts_core.dim_date WHERE NOT is_provisional ORDER BY 1").fetchall()
    assert provisional == [(2025,), (2026,)]
    oracle = {r["date_day"]: r["is_working_day"] == "true" for r in seed_rows("calendar_exception")}
    number = 0
    for day, worked, found in con.execute("SELECT date_day, is_working_day, working_day_number FROM lake.marts_core.dim_date ORDER BY 1").fetchall():
        expected = oracle.get(day.isoformat(), day.weekday() < 5)
        number += expected
        assert (worked, found) == (expected, number), day


def test_the_two_clocks(sql: dict[str, str]) -> None:
    term = [("P", 5, "Chi nhánh", date(2025, 7, 1)), ("P", 3, "Chi nhánh", date(2026, 3, 5))]
    # Monday 2 March 2026 to Monday 9 March: five working days after the day of receipt
    dossiers = [
        row("in time", date(2026, 3, 2), date(2026, 3, 9), date(2026, 3, 9), "finished"),
        row("over the term, promised later", date(2026, 3, 2), date(2026, 3, 20), date(2026, 3, 10), "finished"),
        row("late on paper, it waited", date(2026, 3, 2), date(2026, 3, 9), date(2026, 3, 11), "finished"),
        row("the new term", date(2026, 3, 5), date(2026, 3, 20), date(2026, 3, 11), "finished"),
        row("over the new year of the moon", date(2026, 2, 13), date(2026, 2, 20), date(2026, 2, 27), "finished"),
        row("open and over", date(2026, 3, 2), date(2026, 3, 9)),
        row("open and paused", date(2026, 3, 2), date(2026, 3, 20)),
        row("no register", date(2026, 3, 2), date(2026, 3, 10), None, "open", "Q"),
        row("no day at all", date(2026, 3, 2), None, None, "open", "Q"),
        row("returned", date(2026, 3, 2), date(2026, 3, 3), None, "returned"),
        row("finished on no day", date(2026, 3, 2), date(2026, 3, 3), None, "finished"),
        row("before any term", date(2025, 6, 2), date(2025, 6, 9), date(2025, 6, 9), "finished"),
    ]
    steps = [
        # two steps wait at once, one of them from before the receipt to after the end: their days count once
        ("late on paper, it waited", 1, "Chờ", "Chi nhánh", "waiting_citizen", at(date(2026, 3, 4)), None, at(date(2026, 3, 6))),
        ("late on paper, it waited", 2, "Chờ thuế", "Thuế", "waiting_tax", at(date(2026, 3, 5)), None, at(date(2026, 3, 6))),
        ("in time", 1, "Chờ", "Chi nhánh", "waiting_citizen", at(date(2026, 2, 27)), None, at(date(2026, 3, 3))),
        ("open and paused", 1, "Thẩm định", "Chi nhánh", "work", at(date(2026, 3, 2)), None, at(date(2026, 3, 3))),
        ("open and paused", 2, "Chờ thuế", "Thuế", "waiting_tax", at(date(2026, 3, 3)), None, None),
    ]
    con = built(sql, dossiers, steps, term)
    found = {r["dossier_id"]: r for r in records(con, "SELECT * FROM lake.intermediate.int_dossier")}
    told = {k: (r["working_days_used"], r["paused_days"], r["term_days"], r["late_days_system"], r["timeliness"]) for k, r in found.items()}
    assert told == {
        "in time": (4, 1, 5, 0, "on_time"),
        "over the term, promised later": (6, 0, 5, 0, "late"),
        "late on paper, it waited": (5, 2, 5, 2, "late_by_system_only"),
        "the new term": (4, 0, 3, 0, "late"),
        # 16 to 20 February are off: five working days from the 13th are the 23rd to the 27th
        "over the new year of the moon": (5, 0, 5, 5, "late_by_system_only"),
        "open and over": (8, 0, 5, 3, "late"),
        "open and paused": (1, 7, 5, 0, "on_time"),
        "no register": (8, 0, None, 2, "late"),
        "no day at all": (8, 0, None, None, "no_deadline"),
        "returned": (None, 0, 5, None, "returned"),
        "finished on no day": (None, 0, 5, None, "unknown"),
        "before any term": (5, 0, None, 0, "on_time"),
    }
    assert found["open and paused"]["current_step_vi"] == "Chờ thuế" and found["open and paused"]["office_vi"] == "Thuế"
    assert found["late on paper, it waited"]["times_returned"] == 1


def test_what_will_be_late_is_told_from_what_was(sql: dict[str, str]) -> None:
    """Ten dossiers took four working days from the second step on: an open one there with three left is expected to be late, one with four is not."""
    term = [("P", 8, "Chi nhánh", date(2025, 7, 1))]
    dossiers, steps = [], []
    for n in range(10):
        dossiers.append(row(f"done {n}", date(2026, 2, 23), date(2026, 3, 6), date(2026, 3, 3), "finished"))
        steps += [
            (f"done {n}", 1, "Tiếp nhận", "Một cửa", "work", at(date(2026, 2, 23)), None, at(date(2026, 2, 25))),
            (f"done {n}", 2, "Thẩm định", "Chi nhánh", "work", at(date(2026, 2, 25)), None, at(date(2026, 3, 3))),
        ]
    for number, received in (("three left", date(2026, 3, 5)), ("four left", date(2026, 3, 6)), ("over", date(2026, 2, 27))):
        dossiers.append(row(number, received, date(2026, 3, 20)))
        steps += [
            (number, 1, "Tiếp nhận", "Một cửa", "work", at(received), None, at(received, 9)),
            (number, 2, "Thẩm định", "Chi nhánh", "work", at(received, 9), None, None),
        ]
    dossiers.append(row("nowhere", date(2026, 3, 11), date(2026, 3, 20)))
    con = built(sql, dossiers, steps, term)
    (unplaced, queue) = sorted(records(con, sql["dossier_queue"]), key=lambda r: r["open_dossiers"])
    # Thursday 12 March 2026: one working day is left of the week after today
    assert {k: queue[k] for k in ("office_vi", "open_dossiers", "overdue", "expected_late", "due_this_week", "oldest_days")} == {
        "office_vi": "Chi nhánh", "open_dossiers": 3, "overdue": 1, "expected_late": 1, "due_this_week": 0, "oldest_days": 13,
    }  # fmt: skip
    assert unplaced["step_name_vi"] == "Chưa có bước xử lý" and unplaced["expected_late"] == 0
