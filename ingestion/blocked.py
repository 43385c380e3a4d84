"""Which deliveries are blocked now: the last word of the ledger on each, not the last run's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import duckdb

from lake.lake import next_publish, quoted, transaction

Stopped = Literal["blocked", "set_aside"]
STOPPED: tuple[Stopped, ...] = ("blocked", "set_aside")
"""What the ledger says of a delivery of which nothing is taken in."""


CLOSED = "closed"
"""What it says of one that is settled: it was sent again, or nobody waits for it."""


@dataclass(frozen=True)
class Blocked:
    """A delivery of which nothing is taken in until its contract, its suite or the reader changes and it is gated again, or it is closed:
    by a later one of its name (`settle`) or by a person (`close`)."""

    source: str
    delivery_id: str
    name: str
    reason: str


def blocked_now(con: duckdb.DuckDBPyConnection, sources: Iterable[str] | None = None, status: Stopped = "blocked") -> list[Blocked]:
    """Blocked deliveries (or those that are set aside) of these sources (of all, unless said), by source and name.

    Reads the few rows that say so, and of those deliveries what was said after, so that it is quick over years of small files.
    """
    wanted = None if sources is None else sorted(sources)
    rows = con.execute(f"WITH {_stopped(status)} SELECT source, delivery_id, name, reason FROM stopped ORDER BY source, name, delivery_id").fetchall()
    return [Blocked(*r) for r in rows if wanted is None or r[0] in wanted]


def close(con: duckdb.DuckDBPyConnection, source: str, delivery_id: str, why: str, *, now: datetime, run_id: str) -> None:
    """Settles a delivery that is blocked or set aside; `why` is kept as its reason. `con` is the writing connection.

    Nothing of its bytes or of the tables changes. Only `quarantine retry` with its id gates it again.
    Raises LookupError where it is not blocked or set aside now.
    """
    if delivery_id not in {b.delivery_id for status in STOPPED for b in blocked_now(con, [source], status)}:
        raise LookupError(f"{source} has no blocked or set aside delivery {delivery_id}; `tnmt status` names them")
    _close(con, [(source, delivery_id, why)], now, run_id)


def settle(con: duckdb.DuckDBPyConnection, *, now: datetime, run_id: str) -> None:
    """Closes what is blocked or set aside where a later delivery of its name was published that is of the same state in time, or whose source sends
    all each time: what was meant is there. `con` is the writing connection. So the ledger itself says it, to whoever reads it."""
    found = con.execute(
        f"""
        WITH {_stopped(*STOPPED)},
        sent_again AS (
            SELECT stopped.source, stopped.delivery_id, stopped.seq, later.delivery_id AS later, later.day
            FROM stopped JOIN lake.ops.landed AS later USING (source, name) LEFT JOIN lake.ops.source AS s USING (source)
            WHERE later.delivery_id <> stopped.delivery_id AND later.received_at >= stopped.received_at
                AND (later.as_of = stopped.as_of OR s.load = 'snapshot')
        ),
        published AS (
            SELECT sent_again.source, sent_again.delivery_id, sent_again.later, max(o.seq) AS seq
            FROM sent_again JOIN lake.ops.outcome AS o ON o.day = sent_again.day AND o.delivery_id = sent_again.later
            GROUP BY sent_again.source, sent_again.delivery_id, sent_again.seq, sent_again.later
            -- gated after it: a clock may stand still or go back
            HAVING arg_max(o.status, o.seq) = 'published' AND max(o.seq) > sent_again.seq
        )
        SELECT source, delivery_id, arg_min(later, {{'seq': seq, 'id': later}}) FROM published GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    if found:
        _close(
            con, [(source, delivery_id, f"đã được gửi lại: lần nộp {later} cùng tên đã công bố") for source, delivery_id, later in found], now, run_id
        )


def _stopped(*statuses: Stopped) -> str:
    """CTEs of which the last, `stopped`, holds the deliveries whose last word in the ledger is one of these."""
    return f"""
    said AS (
        SELECT source, delivery_id, day, max(seq) AS seq, arg_max(reason, seq) AS reason
        FROM lake.ops.outcome WHERE status IN ({", ".join(map(quoted, statuses))}) GROUP BY ALL
    ),
    since AS (
        SELECT o.delivery_id FROM lake.ops.outcome AS o JOIN said USING (day, delivery_id) WHERE o.seq > said.seq
    ),
    stopped AS (
        SELECT said.source, said.delivery_id, l.name, said.reason, l.received_at, l.as_of, said.seq
        FROM said JOIN lake.ops.landed AS l USING (day, delivery_id)
        WHERE said.delivery_id NOT IN (SELECT delivery_id FROM since WHERE delivery_id IS NOT NULL)
    )"""


def _close(con: duckdb.DuckDBPyConnection, closed: list[tuple[str, str, str]], now: datetime, run_id: str) -> None:
    """Writes (source, delivery, reason) into the ledger, as a publish of each source that changes no table: what is made of the ledger is made anew."""
    with transaction(con):
        seq = next_publish(con)
        for source in sorted({s for s, _, _ in closed}):
            for _, delivery_id, why in (c for c in closed if c[0] == source):
                con.execute(
                    "INSERT INTO lake.ops.outcome SELECT delivery_id, source, day, ?, ?, NULL, NULL, NULL, NULL, ?, ?, ? FROM lake.ops.landed "
                    "WHERE source = ? AND delivery_id = ?",
                    [CLOSED, why, now, run_id, seq, source, delivery_id],
                )
            con.execute(
                "INSERT INTO lake.ops.gate_result SELECT ?, ?, ?, 0, 0, TRUE, NULL, CAST([] AS VARCHAR[]), 0.0, ?", [run_id, source, seq, now]
            )
            seq += 1
