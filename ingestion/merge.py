"""How accepted rows enter their table: append, upsert by key, or a snapshot that replaces its scope.

The result depends on the set of deliveries and their recorded arrivals alone, never on the order or the number of
runs: of several versions of a key the one with the greatest (_as_of, _received_at, _delivery_id, _line) is current,
and every other is kept in <table>_history, equal values too (else a value that returns could not be told from one
that never left); of a snapshot only where its contract asks for it (`history`). All functions run inside the caller's transaction and fill the TEMP table `merged`
(_delivery_id, _line): the rows of the batch that became current now.
"""

from __future__ import annotations

import duckdb

from ingestion.contract import Contract
from lake.lake import has_table

RANK = "_as_of DESC, _received_at DESC, _delivery_id DESC, _line DESC"
LINEAGE_TYPES = {
    "_source": "VARCHAR",
    "_delivery_id": "VARCHAR",
    "_line": "INTEGER",
    "_as_of": "TIMESTAMP",
    "_received_at": "TIMESTAMP",
}


class TargetMismatch(Exception):
    """A contract whose columns do not fit the table that its target has."""


def has_history(contract: Contract) -> bool:
    """Whether the target keeps superseded versions beside it."""
    return has_conflict(contract) or contract.history


def has_conflict(contract: Contract) -> bool:
    """Whether the target says of each row if deliveries differ about its key."""
    return contract.load in ("upsert", "incremental")


def ensure_table(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: dict[str, str]) -> None:
    """Makes `lake.<table>` (and its history) from the contract; adds new columns; raises TargetMismatch on a changed type."""
    wanted = columns | ({"conflict": "BOOLEAN"} if has_conflict(contract) else {}) | LINEAGE_TYPES
    twins = {table: wanted}
    if has_history(contract):
        twins[f"{table}_history"] = wanted | {"known_from": "TIMESTAMP", "known_to": "TIMESTAMP"}
    for name, wants in twins.items():
        there = {row[0]: row[1] for row in con.execute(f"DESCRIBE lake.{name}").fetchall()} if has_table(con, name) else {}
        if not there:
            body = ", ".join(f"{c} {t}" for c, t in wants.items())
            con.execute(f"CREATE TABLE IF NOT EXISTS lake.{name} ({body})")
            for statement in LAYOUT.get(name, ()):
                con.execute(f"ALTER TABLE lake.{name} {statement}")
            continue
        for column, kind in wants.items():
            if column not in there:
                con.execute(f"ALTER TABLE lake.{name} ADD COLUMN {column} {kind}")
            elif there[column] != kind:
                raise TargetMismatch(
                    f"contract {contract.source}: column {column} of target {contract.target} is {there[column]} in the lake and "
                    f"{kind} in the contract; give it another name, or migrate lake.{name}"
                )


LAYOUT = {
    # a month is the unit of compaction; sorted by day first, so that the look for existing keys reads a day of it
    "clean.reading": (
        "SET PARTITIONED BY (year(measured_at), month(measured_at))",
        "SET SORTED BY (date_trunc('day', measured_at), station_id, parameter, measured_at)",
    ),
    "clean.reading_history": ("SET PARTITIONED BY (year(measured_at), month(measured_at))",),
}
"""How the tables that grow with the telemetry are laid out."""


def _on(names: tuple[str, ...], left: str, right: str) -> str:
    return " AND ".join(f"{left}.{n} = {right}.{n}" for n in names)


def append(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], regated: bool) -> None:
    """Every row is new; a delivery that is gated again first takes its own rows back."""
    if regated:
        con.execute(f"DELETE FROM lake.{table} WHERE _delivery_id IN (SELECT delivery_id FROM batch_deliveries)")
    names = ", ".join([*columns, *LINEAGE_TYPES])
    con.execute(f"INSERT INTO lake.{table} ({names}) SELECT {names} FROM good")
    con.execute("CREATE OR REPLACE TEMP TABLE merged AS SELECT _delivery_id, _line FROM good")


def upsert(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], regated: bool) -> None:
    """Rows under keys that nobody has go straight in; for the others all versions are ranked anew."""
    keys = contract.key
    key_list = ", ".join(keys)
    names = ", ".join([*columns, *LINEAGE_TYPES])
    history = f"{table}_history"
    time = next((k for k in keys if contract.columns.get(k) and contract.columns[k].type in ("timestamp", "date")), None)
    ranges = [""]
    if time:
        # a constant range for each month prunes partitions and files; one stray date costs one month, not all between
        ranges = [
            f"AND c.{time} >= '{low}' AND c.{time} <= '{high}'"
            for low, high in con.execute(f"SELECT min({time}), max({time}) FROM good GROUP BY date_trunc('month', {time}) ORDER BY 1").fetchall()
        ]
    mine = "c._delivery_id IN (SELECT delivery_id FROM batch_deliveries)"

    def present(name: str) -> str:
        parts = [
            f"SELECT {', '.join(f'c.{n}' for n in [*columns, *LINEAGE_TYPES])} FROM lake.{name} AS c SEMI JOIN good AS g "
            f"ON {_on(keys, 'c', 'g')} WHERE TRUE {r}"
            for r in ranges
        ]
        if regated:
            parts.append(f"SELECT {', '.join(f'c.{n}' for n in [*columns, *LINEAGE_TYPES])} FROM lake.{name} AS c WHERE {mine}")
        return " UNION ".join(parts) if regated else " UNION ALL ".join(parts)

    con.execute(
        f"CREATE OR REPLACE TEMP TABLE existing AS {present(table)}"
        if ranges
        else f"CREATE OR REPLACE TEMP TABLE existing AS SELECT {names} FROM lake.{table} LIMIT 0"
    )
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE contested AS
        SELECT {key_list} FROM existing
        UNION
        SELECT {key_list} FROM good GROUP BY {key_list} HAVING count(*) > 1""")
    if not con.execute("SELECT count(*) FROM contested").fetchall()[0][0]:
        con.execute(f"INSERT INTO lake.{table} ({names}, conflict) SELECT {names}, FALSE FROM good")
        con.execute("CREATE OR REPLACE TEMP TABLE merged AS SELECT _delivery_id, _line FROM good")
        return
    value = ", ".join(f"{c} := {c}" for c in columns if c not in keys)
    later = f"OVER (PARTITION BY {key_list} ORDER BY {RANK} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    before = f"SELECT {names} FROM ({present(history)})" if ranges else f"SELECT {names} FROM lake.{history} LIMIT 0"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE ranked AS
        WITH old AS (
            SELECT * FROM existing UNION ALL {before}
        ),
        versions AS (
            SELECT {", ".join(f"g.{n}" for n in [*columns, *LINEAGE_TYPES])}, TRUE AS is_new FROM good AS g SEMI JOIN contested AS k ON {_on(keys, "g", "k")}
            UNION ALL
            SELECT {names}, FALSE FROM old AS c WHERE NOT ({mine})
        ),
        valued AS (
            SELECT *, struct_pack({value}) AS value_of FROM versions
        ),
        ordered AS (
            SELECT *,
                row_number() OVER (PARTITION BY {key_list} ORDER BY {RANK}) AS place,
                first_value(value_of) OVER (PARTITION BY {key_list} ORDER BY {RANK}) AS last_value_of,
                min(_received_at) {later} AS superseded_at
            FROM valued
        ),
        runs AS (
            SELECT *,
                -- places of the newest run of equal values: its oldest row is the one that brought the value
                coalesce(min(place) FILTER (WHERE value_of IS DISTINCT FROM last_value_of) OVER (PARTITION BY {key_list}), 9223372036854775807) AS run_end,
                bool_or(value_of IS DISTINCT FROM last_value_of) OVER (PARTITION BY {key_list}) AS conflict
            FROM ordered
        )
        SELECT {names}, is_new, conflict, place = max(place) FILTER (WHERE place < run_end) OVER (PARTITION BY {key_list}) AS is_current,
            _received_at AS known_from, greatest(_received_at, superseded_at) AS known_to
        FROM runs""")
    had_current = "SELECT _delivery_id, _line FROM existing"
    for name in (table, history):
        for r in ranges or [""]:
            con.execute(f"DELETE FROM lake.{name} AS c WHERE EXISTS (SELECT 1 FROM contested AS k WHERE {_on(keys, 'c', 'k')}) {r}")
        if regated:
            con.execute(f"DELETE FROM lake.{name} AS c WHERE {mine}")
    con.execute(
        f"INSERT INTO lake.{history} ({names}, conflict, known_from, known_to) "
        f"SELECT {names}, conflict, known_from, known_to FROM ranked WHERE NOT is_current"
    )
    con.execute(f"""
        INSERT INTO lake.{table} ({names}, conflict)
        SELECT {names}, conflict FROM ranked WHERE is_current
        UNION ALL
        SELECT {names}, FALSE FROM good AS g ANTI JOIN contested AS k ON {_on(keys, "g", "k")}""")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE merged AS
        SELECT _delivery_id, _line FROM ranked WHERE is_new AND is_current AND (_delivery_id, _line) NOT IN ({had_current})
        UNION ALL
        SELECT _delivery_id, _line FROM good AS g ANTI JOIN contested AS k ON {_on(keys, "g", "k")}""")


def scope_of(contract: Contract) -> str:
    """SQL for the scope that a snapshot's row belongs to: its scope columns, or the whole source."""
    if not contract.scope:
        return f"'{contract.source}'"
    return " || '/' || ".join(f"coalesce(CAST({c} AS VARCHAR), '')" for c in contract.scope)


def snapshot(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], regated: bool) -> None:
    """A delivery replaces what its scopes held, where it is newer than what is there; an older one changes nothing.

    `batch` holds one delivery. The scopes that it covers are those of all its rows, quarantined ones too: a scope whose
    rows all fail is empty in the lake, as the sender's newest word on it cannot be read. Where the contract asks for
    `history`, what a scope held before, and what came too late to hold it, is kept there.
    """
    names = ", ".join([*columns, *LINEAGE_TYPES])
    scope = scope_of(contract)
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE mine AS
        SELECT DISTINCT {scope} AS scope_key, d.delivery_id, d.as_of, d.received_at FROM batch AS b
        JOIN batch_deliveries AS d ON b._delivery_id = d.delivery_id
        {"" if contract.scope else "UNION SELECT '" + contract.source + "', delivery_id, as_of, received_at FROM batch_deliveries"}""")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE won AS
        SELECT m.* FROM mine AS m
        WHERE NOT EXISTS (
            SELECT 1 FROM lake.ops.scope AS s
            WHERE s.target = '{contract.target}' AND s.scope_key = m.scope_key
              AND (s.as_of, s.received_at, s.delivery_id) > (m.as_of, m.received_at, m.delivery_id))""")
    con.execute(f"CREATE OR REPLACE TEMP TABLE entering AS SELECT * FROM good WHERE {scope} IN (SELECT scope_key FROM won)")
    inside = f"({scope}) IN (SELECT scope_key FROM won)" if contract.scope else (f"_source = '{contract.source}' AND EXISTS (SELECT 1 FROM won)")
    plain = [c for c in columns if c not in ("geometry",)] + (["geometry"] if "geometry" in columns else [])
    as_text = ", ".join("ST_AsHEXWKB(geometry)" if c == "geometry" else c for c in plain)
    con.execute(f"CREATE OR REPLACE TEMP TABLE replaced AS SELECT DISTINCT hash({as_text}) AS h FROM lake.{table} WHERE {inside}")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE merged AS
        SELECT _delivery_id, _line FROM entering WHERE hash({as_text}) NOT IN (SELECT h FROM replaced)""")
    if contract.history:
        _superseded(con, contract, table, names, regated)
    con.execute(f"DELETE FROM lake.{table} WHERE {inside}")
    con.execute(f"INSERT INTO lake.{table} ({names}) SELECT {names} FROM entering")
    con.execute(f"INSERT INTO lake.ops.scope SELECT '{contract.source}', '{contract.target}', scope_key, delivery_id, as_of, received_at FROM mine")


def _superseded(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, names: str, regated: bool) -> None:
    """Moves to the history what the delivery supersedes, or the delivery's own rows where a newer one speaks for their scope.

    known_to is when the first delivery that ranks higher in the scope was received, as in `upsert`.
    """
    history, scope = f"lake.{table}_history", scope_of(contract) if contract.scope else "_source"
    if regated:
        con.execute(f"DELETE FROM {history} WHERE _delivery_id IN (SELECT delivery_id FROM batch_deliveries)")
    # arrivals need not be gated in their order: what ranks below may have been superseded earlier than thought
    con.execute(f"""
        UPDATE {history} AS h SET known_to = greatest(h._received_at, m.received_at) FROM mine AS m
        WHERE ({scope}) = m.scope_key AND h.known_to > greatest(h._received_at, m.received_at)
          AND (h._as_of, h._received_at, h._delivery_id) < (m.as_of, m.received_at, m.delivery_id)""")
    con.execute(f"""
        INSERT INTO {history} ({names}, known_from, known_to)
        SELECT {names}, _received_at, greatest(_received_at, won.received_at)
        FROM lake.{table} AS c JOIN won ON ({scope}) = won.scope_key WHERE c._delivery_id <> won.delivery_id""")
    con.execute(f"""
        INSERT INTO {history} ({names}, known_from, known_to)
        SELECT {names}, _received_at, greatest(_received_at, superseded_at)
        FROM good JOIN (
            SELECT m.scope_key, min(s.received_at) AS superseded_at
            FROM mine AS m JOIN lake.ops.scope AS s
              ON s.target = '{contract.target}' AND s.scope_key = m.scope_key
              AND (s.as_of, s.received_at, s.delivery_id) > (m.as_of, m.received_at, m.delivery_id)
            GROUP BY m.scope_key
        ) AS later ON ({scope}) = later.scope_key""")


MERGES = {"append": append, "upsert": upsert, "incremental": upsert, "snapshot": snapshot}
