"""What settles a delivery that is blocked or set aside, event by event, and what that leaves as it was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import pytest

from ingestion.blocked import STOPPED, blocked_now, close, settle
from ingestion.contract import Contract
from ingestion.ingest import contracts_of
from ingestion.registers import last_gates
from ingestion.requeue import requeue
from lake.lake import open_writer
from tnmt.settings import Settings

T0 = datetime(2026, 3, 24, 12)
SNAPSHOT, UPSERT = "station_register", "programme_indicator"


@dataclass
class Event:
    """At hour `hour` the delivery arrives (`status` is empty), or the gate says so of it."""

    delivery: str
    hour: int
    status: str = ""
    name: str = "a.xlsx"
    as_of: int = 0
    rows: int = 1


def _tell(con: duckdb.DuckDBPyConnection, source: str, events: list[Event]) -> None:
    for e in events:
        at, as_of = T0 + timedelta(hours=e.hour), T0 + timedelta(days=e.as_of)
        seq = con.execute("SELECT coalesce(max(seq), 0) + 1 FROM lake.ops.gate_result").fetchall()[0][0]
        if e.status:
            con.execute(
                "INSERT INTO lake.ops.outcome SELECT delivery_id, source, day, ?, 'vì sao', ?, ?, 0, 0, ?, 'r', ? FROM lake.ops.landed WHERE delivery_id = ?",
                [e.status, e.rows, e.rows, at, seq, e.delivery],
            )
            con.execute("INSERT INTO lake.ops.gate_result SELECT 'r', ?, ?, 1, 1, TRUE, NULL, CAST([] AS VARCHAR[]), 0.0, ?", [source, seq, at])
            continue
        if not con.execute("SELECT 1 FROM lake.ops.landed WHERE delivery_id = ?", [e.delivery]).fetchall():
            con.execute(
                "INSERT INTO lake.ops.landed VALUES (?, ?, ?, 'x', 1, ?, ?, ?, 'landing')", [e.delivery, source, e.name, at, as_of, as_of.date()]
            )
        con.execute("INSERT INTO lake.ops.arrival VALUES (?, ?, ?, ?, ?)", [e.delivery, source, e.name, as_of.date(), at])


def _declare(con: duckdb.DuckDBPyConnection, contracts: dict[str, Contract]) -> None:
    """What of `register_sources` is asked for here: making the tables of all targets would take seconds."""
    rows = ", ".join(f"('{c.source}', '{c.target}', '{c.load}')" for c in contracts.values())
    con.execute(f"INSERT INTO lake.ops.source (source, target, load) VALUES {rows}")


def _stopped(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [b.delivery_id for status in STOPPED for b in blocked_now(con, None, status)]


SENT_AGAIN = [Event("X", 0), Event("X", 0, "blocked"), Event("Y", 1), Event("Y", 1, "published")]


@pytest.mark.parametrize(
    ("source", "events", "left"),
    [
        pytest.param(UPSERT, SENT_AGAIN, [], id="sent again"),
        pytest.param(UPSERT, [Event("X", 0), Event("X", 0, "set_aside"), *SENT_AGAIN[2:]], [], id="set aside and sent again"),
        pytest.param(UPSERT, SENT_AGAIN[:3], ["X"], id="not gated yet"),
        pytest.param(UPSERT, [*SENT_AGAIN[:3], Event("Y", 1, "quarantined")], ["X"], id="refused as well"),
        pytest.param(UPSERT, [*SENT_AGAIN[:3], Event("Y", 1, "published", rows=0)], ["X"], id="without one row"),
        pytest.param(UPSERT, [*SENT_AGAIN, Event("Y", 2, "blocked")], ["X", "Y"], id="and blocked when gated again"),
        pytest.param(UPSERT, [*SENT_AGAIN[:2], Event("Y", 1, name="b.xlsx"), Event("Y", 1, "published")], ["X"], id="another name"),
        pytest.param(UPSERT, [*SENT_AGAIN[:2], Event("Y", 1, as_of=31), Event("Y", 1, "published")], ["X"], id="another month"),
        pytest.param(SNAPSHOT, [*SENT_AGAIN[:2], Event("Y", 1, as_of=31), Event("Y", 1, "published")], [], id="another day of a list of all"),
        pytest.param(UPSERT, [Event("X", 0), Event("X", 0, "blocked"), Event("Y", 0), Event("Y", 0, "published")], [], id="a clock that stands"),
        pytest.param(
            UPSERT, [Event("P", 0), Event("P", 0, "published"), Event("X", 0), Event("X", 0, "blocked"), Event("P", 0, "published")], ["X"],
            id="the earlier one gated again",
        ),
        pytest.param(
            UPSERT, [Event("P", 0), Event("P", 0, "published"), Event("X", 1), Event("X", 1, "blocked"), Event("P", 2)], [],
            id="the version before it came once more",
        ),
        pytest.param(
            UPSERT, [Event("X", 0), Event("X", 0, "blocked"), Event("Z", 1), Event("Z", 1, "blocked"), Event("Y", 2), Event("Y", 2, "published")], [],
            id="two of one name",
        ),
        pytest.param(UPSERT, [*SENT_AGAIN, Event("X", 3, "blocked")], ["X"], id="gated again after it and blocked again"),
    ],
)  # fmt: skip
def test_what_settles_a_blocked_delivery(home: Settings, source: str, events: list[Event], left: list[str]) -> None:
    with open_writer(home, "test") as con:
        _declare(con, contracts_of(home))
        _tell(con, source, events)
        _tell(con, "lab_result", [Event("L", 0), Event("L", 0, "blocked")])  # of the same name, and nobody's concern
        settle(con, source)
        assert _stopped(con) == sorted(["L", *left])
        ledger = con.execute("SELECT * FROM lake.ops.outcome ORDER BY ALL").fetchall()
        settle(con, source)
        assert con.execute("SELECT * FROM lake.ops.outcome ORDER BY ALL").fetchall() == ledger


def test_to_settle_is_no_gate_of_its_source(home: Settings) -> None:
    """Else what waits for a register would be gated again though it did not change, and would not be though it did."""
    contracts = contracts_of(home)
    dependent: Contract = contracts["station_txt"]

    with open_writer(home, "test") as con:
        _declare(con, contracts)
        _tell(con, SNAPSHOT, SENT_AGAIN)
        _tell(con, "station_txt", [Event("t", 2, name="t.txt"), Event("t", 2, "set_aside")])
        gates = last_gates(con, contracts.values())
        assert not gates.register_changed(dependent)
        settle(con, SNAPSHOT)
        assert _stopped(con) == ["t"] and last_gates(con, contracts.values()) == gates
        _tell(con, SNAPSHOT, [Event("W", 3, name="w.xlsx"), Event("W", 3, "published")])
        assert last_gates(con, contracts.values()).register_changed(dependent)
        close(con, "station_txt", "t", "không ai chờ (VP)", now=T0, run_id="c")
        assert _stopped(con) == [] and last_gates(con, contracts.values()).register_changed(dependent)


def test_what_somebody_wants_gated_again_is_not_settled_and_what_is_closed_does_not_wait(home: Settings) -> None:
    with open_writer(home, "test") as con:
        _declare(con, contracts_of(home))
        _tell(con, UPSERT, SENT_AGAIN)
        con.execute("INSERT INTO lake.ops.pending (delivery_id, source, day) VALUES ('X', ?, DATE '2026-03-24')", [UPSERT])
        settle(con, UPSERT)
        assert _stopped(con) == ["X"]
        close(con, UPSERT, "X", "không ai chờ (VP)", now=T0, run_id="c")
        assert _stopped(con) == [] and con.execute("SELECT * FROM lake.ops.pending").fetchall() == []


def test_a_retry_of_all_passes_over_what_is_settled_though_nobody_has_said_so_yet(home: Settings) -> None:
    """A run that was killed between the two left it to the next one; gated again, it would be blocked for ever."""
    with open_writer(home, "test") as con:
        _declare(con, contracts_of(home))
        _tell(con, UPSERT, SENT_AGAIN)
        assert requeue(con, UPSERT) == 0 and _stopped(con) == []
        assert blocked_now(con, []) == []
