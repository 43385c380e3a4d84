"""Sources of which an earlier version had one a format, taken over by the source that reads all of them now (`formerly` in its contract).

Deliveries keep their ids, bytes and rows; what changes is the source that ledger, quarantine and clean tables name. One transaction: a process
that is killed leaves the old names or the new ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import duckdb
import structlog

from ingestion.contract import Contract
from lake.faults import reach
from lake.lake import has_table, next_publish, quoted, transaction

log = structlog.get_logger()

RECORDED = (
    "raw.file", "raw_closed.file", "ops.landed", "ops.arrival", "ops.outcome", "ops.pending", "ops.conflict", "ops.affected", "ops.gate_result",
    "ops.scope", "ops.resolution", "quarantine.row", "quarantine_closed.row",
)  # fmt: skip
"""Tables whose column `source` says which source a row is of; `ops.source` and `ops.source_column` follow the contracts (`register_sources`)."""
RUN = "take-over"
"""Run id of the publish that the change counts as, so that what is made of the ledger is made anew."""


def take_over(con: duckdb.DuckDBPyConnection, contracts: Iterable[Contract], now: datetime) -> list[str]:
    """Gives what is recorded of former sources to the contracts that name them; returns those sources. `con` is the writing connection.

    Reads two small tables where nothing is left to take over. The ledger is looked through once for each former name of each source, and a former
    source that `ops.source` names is one that was in force in the meantime (a site's own contract, an older version beside this one).
    """
    heirs = {name: c for c in contracts for name in c.former_names}
    if not heirs:
        return []
    looked_for = {f"{name} taken over by {c.source}": name for name, c in heirs.items()}
    done = {mark for (mark,) in con.execute(f"SELECT table_name FROM lake.ops.layout_done WHERE table_name IN ({_listed(looked_for)})").fetchall()}
    found = {s for (s,) in con.execute(f"SELECT source FROM lake.ops.source WHERE source IN ({_listed(heirs)})").fetchall()}
    if new := {name for mark, name in looked_for.items() if mark not in done}:
        found |= {s for (s,) in con.execute(f"SELECT DISTINCT source FROM lake.ops.landed WHERE source IN ({_listed(new)})").fetchall()}
    if not found and not new:
        return []
    if found:
        log.info("sources are taken over; their rows are written anew, which takes about as long as taking them in", former=sorted(found))
    with transaction(con):
        for contract in {c.source: c for name, c in heirs.items() if name in found}.values():
            _take_over(con, contract)
        if found:
            con.execute(
                "INSERT INTO lake.ops.gate_result SELECT ?, NULL, ?, 0, 0, TRUE, NULL, CAST([] AS VARCHAR[]), 0.0, ?", [RUN, next_publish(con), now]
            )
        for mark in sorted(looked_for.keys() - done):
            con.execute("INSERT INTO lake.ops.layout_done VALUES (?)", [mark])
        reach("takeover.before_commit")
    if found:
        log.info("sources taken over", former=sorted(found), by=sorted({heirs[name].source for name in found}))
    return sorted(found)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(quoted(n) for n in sorted(names))


def _take_over(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    heir, former = quoted(contract.source), _listed(contract.former_names)
    targets = {t for (t,) in con.execute(f"SELECT DISTINCT target FROM lake.ops.affected WHERE source IN ({former})").fetchall()} | {contract.target}
    _oldest_look(con, heir, former)
    for table in RECORDED:
        con.execute(f"UPDATE lake.{table} SET source = {heir} WHERE source IN ({former})")
    con.execute("LOAD spatial")  # rows of a map are written anew
    for table in (f"{schema}.{target}{suffix}" for schema in ("clean", "typed_closed") for target in sorted(targets) for suffix in ("", "_history")):
        if has_table(con, table):
            con.execute(f"UPDATE lake.{table} SET _source = {heir} WHERE _source IN ({former})")
    # the ways in which they read the time of a delivery, the one in force last
    datings = con.execute(f"""
        SELECT list(dating ORDER BY turn, place) FROM (
            SELECT dating, min(source = {heir}) AS turn, min(place) AS place
            FROM (SELECT source, unnest(datings) AS dating, generate_subscripts(datings, 1) AS place
                  FROM lake.ops.source WHERE source IN ({heir}, {former}))
            GROUP BY dating)""").fetchall()[0][0]
    if datings is not None:  # else neither is in force, or was before times were kept: `register_sources` writes what is
        if not con.execute(f"SELECT 1 FROM lake.ops.source WHERE source = {heir}").fetchall():
            con.execute(
                f"UPDATE lake.ops.source SET source = {heir} WHERE source = (SELECT min(source) FROM lake.ops.source WHERE source IN ({former}))"
            )
        con.execute(f"UPDATE lake.ops.source SET datings = ? WHERE source = {heir}", [datings])
    for table in ("source", "source_column"):
        con.execute(f"DELETE FROM lake.ops.{table} WHERE source IN ({former})")


def _oldest_look(con: duckdb.DuckDBPyConnection, heir: str, former: str) -> None:
    """Of what the registers said to each of them only the oldest word stays: it re-gates all that has changed since for any of them."""
    con.execute(f"""
        DELETE FROM lake.ops.resolution WHERE source IN ({heir}, {former}) AND source <> (
            SELECT source FROM lake.ops.resolution WHERE source IN ({heir}, {former}) GROUP BY source ORDER BY max(seq), source LIMIT 1)""")
