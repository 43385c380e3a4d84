"""Which deliveries are blocked now: the last word of the ledger on each, not the last run's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
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


@dataclass(frozen=True)
class _Stopped(Blocked):
    day: date
    seq: int
    said_at: datetime
    received_at: datetime
    as_of: datetime


def once_stopped(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Sources of which a delivery was ever blocked or set aside: only of them anything can be settled."""
    return {s for (s,) in con.execute(f"SELECT DISTINCT source FROM lake.ops.outcome WHERE status IN ({_words(STOPPED)})").fetchall()}


def blocked_now(con: duckdb.DuckDBPyConnection, sources: Iterable[str] | None = None, status: Stopped = "blocked") -> list[Blocked]:
    """Blocked deliveries (or those that are set aside) of these sources (of all, unless said), by source and name."""
    return sorted(
        (Blocked(s.source, s.delivery_id, s.name, s.reason) for s in _stopped(con, (status,), sources)),
        key=lambda b: (b.source, b.name, b.delivery_id),
    )


def close(con: duckdb.DuckDBPyConnection, source: str, delivery_id: str, why: str, *, now: datetime, run_id: str) -> None:
    """Settles a delivery that is blocked or set aside; `why` is kept as its reason. `con` is the writing connection.

    Nothing of its bytes or of the tables changes. `quarantine retry` with its id gates it again.
    Raises LookupError where it is not blocked or set aside now.
    """
    if delivery_id not in {b.delivery_id for b in _stopped(con, STOPPED, [source])}:
        raise LookupError(f"{source} has no blocked or set aside delivery {delivery_id}; `tnmt status` names them")
    _close(con, [_Closing(source, delivery_id, why, now, run_id)])


def settle(con: duckdb.DuckDBPyConnection, source: str) -> None:
    """Closes what is blocked or set aside where another delivery of its name has come since and is published: what was meant is there.

    The other is of the same state in time, or its source sends all each time; it was gated for the first time after this one was stopped, or
    arrived once more after it; and it has rows. What waits to be gated again is left alone. So the ledger itself says it, to whoever reads it;
    the same whenever it is asked. `con` is the writing connection. Reads the days of what is stopped alone, but all of a source that sends all.
    """
    waiting = {d for (d,) in con.execute("SELECT delivery_id FROM lake.ops.pending WHERE source = ?", [source]).fetchall()}
    stopped = [s for s in _stopped(con, STOPPED, [source]) if s.delivery_id not in waiting]
    if not stopped:
        return
    whole = con.execute("SELECT 1 FROM lake.ops.source WHERE source = ? AND load = 'snapshot'", [source]).fetchall()
    landed = con.execute(
        f"""
        SELECT delivery_id, name, day, received_at, as_of FROM lake.ops.landed
        WHERE source = ? AND name IN (SELECT unnest(?)) {"" if whole else f"AND day IN ({_days(s.day for s in stopped)})"}""",
        [source, [s.name for s in stopped]],
    ).fetchall()
    later = [(s, *other) for s in stopped for other in landed if other[1] == s.name and other[0] != s.delivery_id and (whole or other[4] == s.as_of)]
    if not later:
        return
    ids = sorted({d for _, d, *_ in later})
    gated = {
        d: rest
        for d, *rest in con.execute(
            f"""
            SELECT delivery_id, min(seq), arg_max(published_at, seq), arg_max(run_id, seq) FROM lake.ops.outcome
            WHERE day IN ({_days(day for _, _, _, day, *_ in later)}) AND delivery_id IN (SELECT unnest(?)) GROUP BY delivery_id
            HAVING arg_max(status, seq) = 'published' AND arg_max(rows_accepted + rows_duplicate, seq) > 0""",
            [ids],
        ).fetchall()
    }
    arrived = dict(
        con.execute(
            "SELECT delivery_id, max(arrived_at) FROM lake.ops.arrival WHERE source = ? AND delivery_id IN (SELECT unnest(?)) GROUP BY ALL",
            [source, ids],
        ).fetchall()
    )
    closing: dict[str, _Closing] = {}
    for stop, other, _, _, received_at, _ in sorted(later, key=lambda x: (x[0].delivery_id, gated.get(x[1], [0])[0], x[1])):
        if other not in gated or stop.delivery_id in closing:
            continue
        first, published_at, run_id = gated[other]
        came = arrived.get(other, received_at)
        # by the order of the ledger, as a clock may stand still; by the clock where bytes that were there before came once more
        if (first > stop.seq and received_at >= stop.received_at) or came > stop.said_at:
            why = f"đã được gửi lại: lần nộp {other} cùng tên, nhận lúc {came:%d/%m/%Y %H:%M}, đã công bố"
            closing[stop.delivery_id] = _Closing(source, stop.delivery_id, why, max(published_at, came), run_id)
    if closing:
        _close(con, list(closing.values()))


def _words(statuses: Iterable[str]) -> str:
    return ", ".join(map(quoted, statuses))


def _days(days: Iterable[date]) -> str:
    """As literals, by which files of other days are not opened."""
    return ", ".join(f"DATE '{d}'" for d in sorted(set(days)))


def _stopped(con: duckdb.DuckDBPyConnection, statuses: Iterable[Stopped], sources: Iterable[str] | None) -> list[_Stopped]:
    """Deliveries whose last word in the ledger is one of these. Quick over years of small files: few rows say so, and only their days are read."""
    of = "" if sources is None else f"AND source IN ({_words(sources) or 'NULL'})"
    said = con.execute(
        f"SELECT source, delivery_id, day, max(seq), arg_max(reason, seq), arg_max(published_at, seq) FROM lake.ops.outcome "
        f"WHERE status IN ({_words(statuses)}) {of} GROUP BY ALL"
    ).fetchall()
    if not said:
        return []
    days, ids = _days(r[2] for r in said), [r[1] for r in said]
    last = dict(
        con.execute(
            f"SELECT delivery_id, max(seq) FROM lake.ops.outcome WHERE day IN ({days}) AND delivery_id IN (SELECT unnest(?)) GROUP BY ALL", [ids]
        ).fetchall()
    )
    landed = {
        d: rest
        for d, *rest in con.execute(
            f"SELECT delivery_id, name, received_at, as_of FROM lake.ops.landed WHERE day IN ({days}) AND delivery_id IN (SELECT unnest(?))", [ids]
        ).fetchall()
    }
    return [
        _Stopped(source, delivery_id, landed[delivery_id][0], reason, day, seq, said_at, *landed[delivery_id][1:])
        for source, delivery_id, day, seq, reason, said_at in said
        if last[delivery_id] == seq
    ]


@dataclass(frozen=True)
class _Closing:
    source: str
    delivery_id: str
    why: str
    at: datetime
    run_id: str


def _close(con: duckdb.DuckDBPyConnection, closing: list[_Closing]) -> None:
    """Writes it into the ledger, under a number of its own, so that what is made of the ledger is made anew; as a gate of no source, as none was."""
    with transaction(con):
        seq = next_publish(con)
        for c in closing:
            con.execute(
                "INSERT INTO lake.ops.outcome SELECT delivery_id, source, day, ?, ?, NULL, NULL, NULL, NULL, ?, ?, ? FROM lake.ops.landed "
                "WHERE source = ? AND delivery_id = ?",
                [CLOSED, c.why, c.at, c.run_id, seq, c.source, c.delivery_id],
            )
            con.execute("DELETE FROM lake.ops.pending WHERE source = ? AND delivery_id = ?", [c.source, c.delivery_id])
        con.execute(
            "INSERT INTO lake.ops.gate_result SELECT ?, NULL, ?, 0, 0, TRUE, NULL, CAST([] AS VARCHAR[]), 0.0, ?",
            [closing[-1].run_id, seq, closing[-1].at],
        )
