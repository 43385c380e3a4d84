"""Deliveries to gate again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import duckdb

from ingestion.blocked import settle
from ingestion.cast import literal
from lake.lake import transaction


def requeue(
    con: duckdb.DuckDBPyConnection,
    source: str,
    *,
    reasons: Sequence[str] = (),
    delivery_id: str | None = None,
    day: date | None = None,
    all_of_day: bool = False,
    only_waiting: bool = False,
) -> int:
    """Puts deliveries back to be gated again from raw: those with quarantined rows, a block or set aside, or all of a day.

    `only_waiting`: of each only the rows that stand in quarantine (see `rows_can_wait`).

    Returns how many. Used after a fix of contract, register or suite, and by a backfill of a day. Deliveries whose raw
    bytes were erased are passed over; raises LookupError where `delivery_id` names one of them, or none of the source.
    """
    if delivery_id:
        found = con.execute("SELECT stored, name FROM lake.ops.landed WHERE source = ? AND delivery_id = ?", [source, delivery_id]).fetchall()
        if not found:
            raise LookupError(f"{source} has no delivery {delivery_id}; `tnmt quarantine list` names those with bad rows")
        if found[0][0] in ("erasing", "erased"):
            raise LookupError(
                f"the raw bytes of {found[0][1]} ({delivery_id}) were erased when the retention of contract {source} had passed: "
                "expected bytes to gate again, found none; ask the sender for the file and put it into the inbox under another name"
            )
    conditions: list[str] = ["o.source = ?"]
    values: list[Any] = [source]
    if delivery_id:
        conditions.append("o.delivery_id = ?")
        values.append(delivery_id)
    else:
        settle(con, source)
        conditions.append("o.status <> 'closed'")  # what is settled stays so: by a person, or by the next of its name
    if day:
        conditions.append("o.day = ?")
        values.append(str(day))
    if not all_of_day and not delivery_id:
        named = f"AND list_has_any(q.reasons, [{', '.join(literal(r) for r in reasons)}])" if reasons else ""
        conditions.append(
            f"(o.status IN ('blocked', 'set_aside') OR o.delivery_id IN (SELECT q.delivery_id FROM lake.quarantine.row AS q WHERE q.source = o.source {named}))"
            if not reasons
            else f"o.delivery_id IN (SELECT q.delivery_id FROM lake.quarantine.row AS q WHERE q.source = o.source {named})"
        )
    chosen = f"""
        SELECT DISTINCT o.delivery_id, o.source, o.day, o.status FROM lake.ops.delivery AS o
        WHERE {" AND ".join(conditions)} AND o.status <> 'landed' AND o.stored NOT IN ('erasing', 'erased')"""
    with transaction(con):
        con.execute(f"CREATE OR REPLACE TEMP TABLE chosen AS {chosen}", values)
        if not only_waiting:
            con.execute("DELETE FROM lake.ops.pending WHERE only_waiting AND delivery_id IN (SELECT delivery_id FROM chosen)")
        # of a delivery that was refused as a whole every row waits, seen or not
        con.execute(
            "INSERT INTO lake.ops.pending SELECT delivery_id, source, day, $1 AND status = 'published' FROM chosen "
            "WHERE delivery_id NOT IN (SELECT delivery_id FROM lake.ops.pending)",
            [only_waiting],
        )
        count = con.execute("SELECT count(*) FROM lake.ops.pending WHERE source = ?", [source]).fetchall()[0][0]
    return int(count)
