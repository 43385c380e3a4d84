"""Which deliveries are blocked now: the last word of the ledger on each, not the last run's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import duckdb

Stopped = Literal["blocked", "set_aside"]
STOPPED: tuple[Stopped, ...] = ("blocked", "set_aside")
"""What the ledger says of a delivery of which nothing is taken in."""


@dataclass(frozen=True)
class Blocked:
    """A delivery of which nothing is taken in until it, its contract or its suite changes, or somebody has it tried again."""

    source: str
    delivery_id: str
    name: str
    reason: str


def blocked_now(con: duckdb.DuckDBPyConnection, sources: Iterable[str] | None = None, status: Stopped = "blocked") -> list[Blocked]:
    """Blocked deliveries (or those that are set aside) of these sources (of all, unless said), by source and name.

    Reads the few rows that say so, and of those deliveries what was said after, so that it is quick over years of small files.
    """
    wanted = None if sources is None else sorted(sources)
    rows = con.execute(
        """
        WITH said AS (
            SELECT source, delivery_id, day, max(seq) AS seq, arg_max(reason, seq) AS reason
            FROM lake.ops.outcome WHERE status = ? GROUP BY ALL
        ),
        since AS (
            SELECT o.delivery_id FROM lake.ops.outcome AS o JOIN said USING (day, delivery_id) WHERE o.seq > said.seq
        )
        SELECT said.source, said.delivery_id, l.name, said.reason
        FROM said JOIN lake.ops.landed AS l USING (day, delivery_id)
        WHERE said.delivery_id NOT IN (SELECT delivery_id FROM since WHERE delivery_id IS NOT NULL)
        ORDER BY said.source, l.name, said.delivery_id""",
        [status],
    ).fetchall()
    return [Blocked(*r) for r in rows if wanted is None or r[0] in wanted]
