"""How a source stands is one rule (lake/rules.sql): `tnmt status` and the mart say the same of every source at every moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from ingestion.ledger import standing
from lake.lake import build_lock, open_reader, open_writer
from tests.marts_kit import Compiled, compiled
from tests.tiny import tnmt
from tnmt.settings import Settings

LAST = datetime(2026, 3, 12, 9)
COMPILED_FOR = "2026-03-12 09:00:00"
SOURCES = {"every_five": (5, 15), "daily": (1440, 60), "unpromised": (None, 30), "never": (60, 0), "refused": (60, 0), "ahead": (60, 0)}
DELIVERIES = [
    ("a", "every_five", LAST, "published"),
    ("b", "every_five", LAST + timedelta(minutes=10), "quarantined"),  # no news
    ("c", "every_five", LAST + timedelta(hours=3), "published"),  # news from then on
    ("d", "daily", LAST, "published"),
    ("e", "unpromised", LAST, "published"),
    ("f", "refused", LAST, "blocked"),
    ("g", "ahead", LAST + timedelta(days=3), "published"),
]
MOMENTS = {
    "at once": (timedelta(0), "fresh", "fresh"),
    "at the limit": (timedelta(minutes=20), "fresh", "fresh"),
    "within the minute after it": (timedelta(minutes=20, seconds=1), "fresh", "fresh"),
    "a second before that minute is over": (timedelta(minutes=20, seconds=59), "fresh", "fresh"),
    "a whole minute more": (timedelta(minutes=21), "late", "fresh"),
    "before what comes later": (timedelta(hours=3, seconds=-1), "late", "fresh"),
    "after it": (timedelta(hours=3), "fresh", "fresh"),
    "a day and an hour": (timedelta(minutes=1500), "late", "fresh"),
    "and a minute": (timedelta(minutes=1501), "late", "late"),
    "before anything": (timedelta(seconds=-1), "never", "never"),
}
"""After LAST: how every_five and daily stand."""


@pytest.fixture(scope="module")
def mart(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compiled(tmp_path_factory.mktemp("standing"), ["source_freshness"], COMPILED_FOR)


@pytest.fixture
def kept(home: Settings) -> Settings:
    """A lake whose ledger holds SOURCES and DELIVERIES."""
    with open_writer(home, "fixture") as con:
        for source, promise in SOURCES.items():
            con.execute(
                "INSERT INTO lake.ops.source (source, title_vi, cadence_minutes, lateness_minutes) VALUES (?, ?, ?, ?)", [source, source, *promise]
            )
        for number, (name, source, at, status) in enumerate(DELIVERIES):
            con.execute(
                "INSERT INTO lake.ops.landed (delivery_id, source, name, received_at, day) VALUES (?, ?, ?, ?, ?)",
                [name, source, name, at, at.date()],
            )
            con.execute(
                "INSERT INTO lake.ops.outcome (delivery_id, source, day, status, seq) VALUES (?, ?, ?, ?, ?)",
                [name, source, at.date(), status, number],
            )
    return home


def by_mart(con: duckdb.DuckDBPyConnection, sql: str, moment: datetime) -> list[tuple[Any, ...]]:
    assert COMPILED_FOR in sql
    return con.execute(f"SELECT source, last_received_at, state FROM ({sql.replace(COMPILED_FOR, str(moment))}) ORDER BY source").fetchall()


def by_status(con: duckdb.DuckDBPyConnection, moment: datetime) -> list[tuple[Any, ...]]:
    return [(r["source"], r["last_received_at"], r["state"]) for r in standing(con, moment)]


def test_status_and_mart_say_the_same_at_any_moment(kept: Settings, mart: Compiled) -> None:
    with open_reader(kept) as con:
        for what, (after, five, daily) in MOMENTS.items():
            said = by_status(con, LAST + after)
            assert said == by_mart(con, mart["source_freshness"], LAST + after), what
            heard = "fresh" if after >= timedelta(0) else "never"  # whatever else: no cadence, no lateness
            states = {source: state for source, _, state in said}
            assert states == {"every_five": five, "daily": daily, "unpromised": heard, "never": "never", "refused": "never", "ahead": "never"}, what


def test_a_later_delivery_is_no_news_yet(kept: Settings) -> None:
    with open_reader(kept) as con:
        last = [{s: at for s, at, _ in by_status(con, LAST + after)}["every_five"] for after in (timedelta(hours=2), timedelta(hours=3))]
    assert last == [LAST, LAST + timedelta(hours=3)]


def older(settings: Settings) -> None:
    """The lake as a version left it that had no such macros."""
    with open_writer(settings, "older version") as con:
        con.execute("DROP MACRO lake.ops.standing")
        con.execute("DROP MACRO lake.ops.last_published")
        con.execute("DELETE FROM lake.ops.layout_done WHERE table_name LIKE 'schema.sql %'")


def test_a_lake_of_an_older_version_is_judged_before_anything_is_written(kept: Settings) -> None:
    with open_reader(kept) as con:
        expected = by_status(con, LAST)
    older(kept)
    with open_reader(kept) as con:
        assert by_status(con, LAST) == expected
    assert tnmt(kept.home, "status").returncode == 0


def test_a_build_finds_the_rules_in_a_lake_of_an_older_version(kept: Settings, mart: Compiled) -> None:
    older(kept)
    with build_lock(kept, "dbt build"), open_reader(kept) as con:
        assert by_mart(con, mart["source_freshness"], LAST)


def test_people_can_ask_the_rule_too(kept: Settings) -> None:
    asked = tnmt(kept.home, "sql", "SELECT ops.standing(TIMESTAMP '2026-03-12 09:00:00', 5, 15, TIMESTAMP '2026-03-12 09:21:00').state AS state")
    assert asked.returncode == 0 and "late" in asked.stdout, asked.stdout + asked.stderr


def test_macros_of_the_lake_read_no_table(kept: Settings) -> None:
    """`tnmt sql` refuses closed tables by the statement that it is given: it does not look into macros."""
    with open_reader(kept) as con:
        found = con.execute("SELECT function_name, function_type, macro_definition FROM duckdb_functions() WHERE database_name = 'lake'").fetchall()
    assert {name for name, *_ in found} == {"standing", "last_published"}
    assert all(kind == "macro" and " from " not in text.lower() for _, kind, text in found), found
