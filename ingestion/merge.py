"""How accepted rows enter their table: append, upsert by key, or a snapshot that replaces its scope.

The result depends on the set of deliveries and their recorded arrivals alone, never on the order or the number of
runs: of several versions of a key the one with the greatest (_as_of, _received_at, _delivery_id, _line) is current,
and every other is kept in <table>_history, equal values too (else a value that returns could not be told from one
that never left); of a snapshot only where its contract asks for it (`history`). A delivery that is gated again is first
taken back as if it had never come, whatever comes of it now.

All functions run inside the caller's transaction. They read the batch's `good` rows, `batch` (all its rows), `batch_deliveries` and
`speaking` (those deliveries that were not refused), and fill the TEMP tables `merged` (_delivery_id, _line), the rows of the batch that are
current now, and `changed` (unit, day), what the batch touched before and after.
"""

from __future__ import annotations

import duckdb

from ingestion import versions
from ingestion.contract import Contract
from lake.lake import has_table

RANK = "_as_of DESC, _received_at DESC, _delivery_id DESC, _line DESC"
LINEAGE_TYPES = {"_source": "VARCHAR"} | versions.SIGHTING_TYPES


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
    if contract.history:
        twins = {
            table: wanted | versions.CURRENT_TYPES,
            f"{table}_history": wanted | versions.PAST_TYPES,
            f"{table}_sighting": {"_scope": "VARCHAR"} | {k: columns[k] for k in contract.key} | versions.SIGHTING_TYPES,
        }
    elif has_history(contract):
        twins[f"{table}_history"] = wanted | {"known_from": "TIMESTAMP", "known_to": "TIMESTAMP"}
    for name, wants in twins.items():
        existing = {row[0]: row[1] for row in con.execute(f"DESCRIBE lake.{name}").fetchall()} if has_table(con, name) else {}
        if not existing:
            body = ", ".join(f"{c} {t}" for c, t in wants.items())
            con.execute(f"CREATE TABLE IF NOT EXISTS lake.{name} ({body})")
            for statement in LAYOUT.get(name, ()):
                con.execute(f"ALTER TABLE lake.{name} {statement}")
            continue
        for column, kind in wants.items():
            if column not in existing:
                con.execute(f"ALTER TABLE lake.{name} ADD COLUMN {column} {kind}")
            elif existing[column] != kind:
                raise TargetMismatch(
                    f"contract {contract.source}: column {column} of target {contract.target} is {existing[column]} in the lake and "
                    f"{kind} in the contract; give it another name, or migrate lake.{name}"
                )


def upgrade(con: duckdb.DuckDBPyConnection, contract: Contract, table: str) -> None:
    """Brings a table of an earlier version of this software to the present one, after `ensure_table`."""
    if not contract.history:
        return
    if "geometry" in contract.columns:  # the only projection that was taken in then
        for name in (table, f"{table}_history"):
            if con.execute(f"SELECT 1 FROM lake.{name} WHERE source_crs IS NULL LIMIT 1").fetchall():
                con.execute(f"UPDATE lake.{name} SET source_crs = crs WHERE source_crs IS NULL")
    added = {*LINEAGE_TYPES, *versions.CURRENT_TYPES}
    columns = [r[0] for r in con.execute(f"DESCRIBE lake.{table}").fetchall() if r[0] not in added]
    versions.upgrade(con, contract, table, columns, scope_of(contract))


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


MINE = "(c._delivery_id IS NOT NULL AND c._delivery_id IN (SELECT delivery_id FROM batch_deliveries))"
"""SQL: a row of alias `c` was brought by a delivery of the batch. A row without a delivery is nobody's, never unknown."""


def unit_and_day(contract: Contract) -> tuple[str, str]:
    """SQL for the unit and the day that a row of alias `c` touches; the day of its delivery where a target has none of its own."""
    if contract.target == "reading":
        # the end of a span belongs to the day before at 00:00: (00:00, 24:00]
        return "c.station_id", "CAST(c.measured_at - INTERVAL 1 MICROSECOND AS DATE)"
    unit, day = contract.affected.get("unit"), contract.affected.get("day")
    of_delivery = "coalesce((SELECT d.day FROM batch_deliveries AS d WHERE d.delivery_id = c._delivery_id), CAST(c._as_of AS DATE))"
    return f"coalesce(CAST(c.{unit} AS VARCHAR), '')" if unit else "''", f"CAST(c.{day} AS DATE)" if day else of_delivery


def touches(contract: Contract, rows: str) -> str:
    """SQL for the distinct (unit, day) of `rows`, a relation with the alias `c` and perhaps a condition."""
    unit, day = unit_and_day(contract)
    return f"SELECT DISTINCT {unit} AS unit, {day} AS day FROM {rows}"


def _incoming(con: duckdb.DuckDBPyConnection, table: str, columns: list[str]) -> list[str]:
    """TEMP view `incoming`: the good rows with every column that the table has; returns those columns without the lineage.

    Several contracts may feed one target, each with columns of its own: a row that is moved keeps what another contract brought.
    """
    added = {*LINEAGE_TYPES, *versions.CURRENT_TYPES, "conflict"}
    existing = {row[0]: row[1] for row in con.execute(f"DESCRIBE lake.{table}").fetchall() if row[0] not in added}
    picked = [name if name in columns else f"CAST(NULL AS {kind}) AS {name}" for name, kind in existing.items()]
    con.execute(f"CREATE OR REPLACE TEMP VIEW incoming AS SELECT {', '.join([*picked, *LINEAGE_TYPES])} FROM good")
    return list(existing)


def append(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], regated: bool) -> None:
    """Every row is new; a delivery that is gated again first takes its own rows back."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE changed AS {touches(contract, 'good AS c')}")
    if regated:
        con.execute(f"INSERT INTO changed {touches(contract, f'lake.{table} AS c WHERE {MINE}')}")
        con.execute(f"DELETE FROM lake.{table} AS c WHERE {MINE}")
    names = ", ".join([*columns, *LINEAGE_TYPES])
    con.execute(f"INSERT INTO lake.{table} ({names}) SELECT {names} FROM good")
    con.execute("CREATE OR REPLACE TEMP TABLE merged AS SELECT _delivery_id, _line FROM good")


def upsert(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], regated: bool) -> None:
    """Rows under keys that nobody has go straight in; for the others all versions are ranked anew.

    Deliveries that are gated again touch the keys of the rows that they hold, current or superseded, and those of the rows that they bring now: of all
    these keys the versions of other deliveries are ranked with the new rows, so that what a withdrawn row had superseded comes back.
    """
    columns = _incoming(con, table, columns)
    keys = contract.key
    key_list = ", ".join(keys)
    names = ", ".join([*columns, *LINEAGE_TYPES])
    history = f"{table}_history"
    touched = "good"
    if regated:
        touched = "touched"
        con.execute(f"""
            CREATE OR REPLACE TEMP TABLE touched AS
            SELECT {key_list} FROM good
            UNION SELECT {key_list} FROM lake.{table} AS c WHERE {MINE}
            UNION SELECT {key_list} FROM lake.{history} AS c WHERE {MINE}""")
    time = next((k for k in keys if contract.columns.get(k) and contract.columns[k].type in ("timestamp", "date")), None)
    ranges = [""]
    if time:
        # a constant range for each month prunes partitions and files; one stray date costs one month, not all between
        ranges = [
            f"AND c.{time} >= '{low}' AND c.{time} <= '{high}'"
            for low, high in con.execute(
                f"SELECT min({time}), max({time}) FROM {touched} WHERE {time} IS NOT NULL GROUP BY date_trunc('month', {time}) ORDER BY 1"
            ).fetchall()
        ]

    def present(name: str) -> str:
        parts = [
            f"SELECT {', '.join(f'c.{n}' for n in [*columns, *LINEAGE_TYPES])} FROM lake.{name} AS c "
            f"SEMI JOIN (SELECT {key_list} FROM {touched} AS c WHERE TRUE {r}) AS g ON {_on(keys, 'c', 'g')} WHERE TRUE {r}"
            for r in ranges
        ]
        return " UNION ALL ".join(parts) if parts else f"SELECT {names} FROM lake.{name} LIMIT 0"

    con.execute(f"CREATE OR REPLACE TEMP TABLE existing AS {present(table)}")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE changed AS
        {touches(contract, "good AS c")} UNION {touches(contract, "existing AS c")}""")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE contested AS "
        + (
            f"SELECT {key_list} FROM touched"
            if regated
            else f"SELECT {key_list} FROM existing UNION SELECT {key_list} FROM good GROUP BY {key_list} HAVING count(*) > 1"
        )
    )
    if not con.execute("SELECT count(*) FROM contested").fetchall()[0][0]:
        con.execute(f"INSERT INTO lake.{table} ({names}, conflict) SELECT {names}, FALSE FROM incoming")
        con.execute("CREATE OR REPLACE TEMP TABLE merged AS SELECT _delivery_id, _line FROM good")
        con.execute("CREATE OR REPLACE TEMP TABLE differing AS SELECT ''::VARCHAR AS delivery_id, 0::BIGINT AS rows WHERE FALSE")
        return
    value = ", ".join(f"{c} := {c}" for c in columns if c not in keys) or "nothing := NULL"
    later = f"OVER (PARTITION BY {key_list} ORDER BY {RANK} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    con.execute(f"CREATE OR REPLACE TEMP TABLE superseded AS {present(history)}")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE ranked AS
        WITH old AS (
            SELECT {names} FROM existing UNION ALL SELECT {names} FROM superseded
        ),
        versions AS (
            SELECT {", ".join(f"g.{n}" for n in [*columns, *LINEAGE_TYPES])}, TRUE AS is_new
            FROM incoming AS g SEMI JOIN contested AS k ON {_on(keys, "g", "k")}
            UNION ALL
            SELECT {names}, FALSE FROM old AS c{f" WHERE NOT {MINE}" if regated else ""}
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
    for name, found in ((table, "existing"), (history, "superseded")):
        for r in ranges if con.execute(f"SELECT 1 FROM {found} LIMIT 1").fetchall() else ():
            con.execute(f"DELETE FROM lake.{name} AS c WHERE EXISTS (SELECT 1 FROM contested AS k WHERE {_on(keys, 'c', 'k')}) {r}")
        if regated:
            con.execute(f"DELETE FROM lake.{name} AS c WHERE {MINE}")
    con.execute(
        f"INSERT INTO lake.{history} ({names}, conflict, known_from, known_to) "
        f"SELECT {names}, conflict, known_from, known_to FROM ranked WHERE NOT is_current"
    )
    con.execute(f"""
        INSERT INTO lake.{table} ({names}, conflict)
        SELECT {names}, conflict FROM ranked WHERE is_current
        UNION ALL
        SELECT {names}, FALSE FROM incoming AS g ANTI JOIN contested AS k ON {_on(keys, "g", "k")}""")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE merged AS
        SELECT _delivery_id, _line FROM ranked WHERE is_new AND is_current
        UNION ALL
        SELECT _delivery_id, _line FROM good AS g ANTI JOIN contested AS k ON {_on(keys, "g", "k")}""")
    _differing(con, key_list, value)


def _differing(con: duckdb.DuckDBPyConnection, key_list: str, value: str) -> None:
    """TEMP table `differing` (delivery_id, rows): rows that lost to a row of another value under the same key in the same delivery.

    Which of the two is meant the delivery does not say. Where only rows that waited were gated, how many there are more (or fewer) than before.
    """
    by_key = f"PARTITION BY _delivery_id, {key_list}"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE differing AS
        WITH twice AS (
            SELECT _delivery_id, {key_list} FROM ranked
            WHERE _delivery_id IN (SELECT delivery_id FROM batch_deliveries) GROUP BY ALL HAVING count(*) > 1
        ),
        own AS (
            SELECT *, struct_pack({value}) AS value_of FROM ranked SEMI JOIN twice USING (_delivery_id, {key_list})
        ),
        judged AS (
            SELECT _delivery_id,
                value_of IS DISTINCT FROM first_value(value_of) OVER ({by_key} ORDER BY {RANK}) AS lost,
                NOT is_new AND value_of IS DISTINCT FROM first_value(value_of) OVER ({by_key}, is_new ORDER BY {RANK}) AS had_lost
            FROM own
        )
        SELECT _delivery_id AS delivery_id, count(*) FILTER (lost) - count(*) FILTER (had_lost) AS rows FROM judged GROUP BY _delivery_id HAVING rows <> 0""")


def scope_of(contract: Contract) -> str:
    """SQL for the scope that a snapshot's row belongs to: its scope columns, or the whole source."""
    if not contract.scope:
        return "_source"
    return " || '/' || ".join(f"coalesce(CAST({c} AS VARCHAR), '')" for c in contract.scope)


def snapshot(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], regated: bool) -> None:
    """Of each scope the newest delivery that speaks for it stands in the table; an older one changes nothing.

    The scopes that a delivery speaks for are those of all its rows, quarantined ones too: a scope whose rows all fail is empty in the lake, as the
    sender's newest word on it cannot be read. Where the contract asks for `history`, see `ingestion.versions`; else a delivery that is gated again
    and speaks no more for a scope gives it back to the next one, which is put back to be gated from raw.
    """
    columns = _incoming(con, table, columns)
    scope = scope_of(contract)
    target = f"target = '{contract.target}'"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE mine AS
        SELECT DISTINCT {scope} AS scope_key, d.delivery_id, d.as_of, d.received_at FROM batch AS b JOIN speaking AS d ON b._delivery_id = d.delivery_id
        {"" if contract.scope else f"UNION SELECT '{contract.source}', delivery_id, as_of, received_at FROM speaking"}""")
    held = f"UNION SELECT {scope}, d.delivery_id, d.as_of, d.received_at FROM lake.{table} AS c JOIN batch_deliveries AS d ON c._delivery_id = d.delivery_id"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE spoke AS
        SELECT s.scope_key, d.delivery_id, d.as_of, d.received_at FROM lake.ops.scope AS s JOIN batch_deliveries AS d USING (delivery_id)
        WHERE s.{target} AND {regated} {held if regated else ""}""")
    con.execute("CREATE OR REPLACE TEMP TABLE touched AS SELECT scope_key FROM mine UNION SELECT scope_key FROM spoke")
    inside = f"({scope}) IN (SELECT scope_key FROM touched)"
    con.execute(f"CREATE OR REPLACE TEMP TABLE changed AS {touches(contract, f'lake.{table} AS c WHERE {inside} OR {MINE}')}")
    if contract.history:
        if versions.put(con, contract, table, columns, scope, regated=regated):
            inside = "TRUE"
        con.execute("CREATE OR REPLACE TEMP TABLE merged AS FROM entering")
    else:
        _replace(con, contract, table, columns, scope, regated=regated)
    if regated:
        con.execute(f"DELETE FROM lake.ops.scope AS c WHERE {target} AND {MINE.replace('_delivery_id', 'delivery_id')}")
    con.execute(f"INSERT INTO lake.ops.scope SELECT '{contract.source}', '{contract.target}', scope_key, delivery_id, as_of, received_at FROM mine")
    con.execute(f"INSERT INTO changed {touches(contract, f'lake.{table} AS c WHERE {inside}')} UNION {touches(contract, 'good AS c')}")


def _replace(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], scope: str, *, regated: bool) -> None:
    """What does not stand goes; makes `merged`, the rows that were not there with the same values."""
    names = ", ".join([*columns, *LINEAGE_TYPES])
    inside = f"({scope}) IN (SELECT scope_key FROM touched)"
    _speakers(con, contract, table, scope, inside)
    plain = [c for c in columns if c != "geometry"] + (["geometry"] if "geometry" in columns else [])
    as_text = ", ".join("ST_AsHEXWKB(geometry)" if c == "geometry" else c for c in plain)
    con.execute(f"CREATE OR REPLACE TEMP TABLE replaced AS SELECT DISTINCT hash({as_text}) AS h FROM lake.{table} AS c WHERE {inside} AND NOT {MINE}")
    if regated:
        con.execute(f"DELETE FROM lake.{table} AS c WHERE {MINE}")
    stands = f"EXISTS (SELECT 1 FROM speaker AS s WHERE s.is_newest AND s.scope_key = ({scope}) AND s.delivery_id = c._delivery_id)"
    con.execute(f"DELETE FROM lake.{table} AS c WHERE {inside} AND NOT {stands}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE entering AS SELECT * FROM incoming AS c WHERE {stands}")
    con.execute(f"INSERT INTO lake.{table} ({names}) SELECT {names} FROM entering")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE merged AS
        SELECT _delivery_id, _line FROM entering WHERE hash({as_text}) NOT IN (SELECT h FROM replaced)""")
    if regated:
        con.execute("""
            INSERT INTO lake.ops.pending (delivery_id, source, day)
            SELECT DISTINCT l.delivery_id, l.source, l.day FROM speaker AS s JOIN lake.ops.landed AS l USING (delivery_id)
            WHERE s.is_newest AND s.returns AND NOT s.has_rows AND l.delivery_id NOT IN (SELECT delivery_id FROM lake.ops.pending)""")


def _speakers(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, scope: str, inside: str) -> None:
    """TEMP table `speaker`: the deliveries that speak for each touched scope after this batch.

    `is_newest`: its rows are to stand; `returns`: a delivery of the batch that stood
    above it spoke for the scope before; `has_rows`: rows of it are in the lake. What returns without rows, and whose raw bytes were erased, is passed over.
    """
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE speaker AS
        WITH holder AS (
            -- who holds rows of a scope speaks for it, though it was gated when the contract named another scope
            SELECT scope_key, _delivery_id AS delivery_id, max(_as_of) AS as_of, max(_received_at) AS received_at
            FROM (SELECT {scope} AS scope_key, _delivery_id, _as_of, _received_at FROM lake.{table} AS c WHERE {inside} AND NOT {MINE})
            WHERE _delivery_id IS NOT NULL GROUP BY ALL
        ),
        told AS (
            SELECT DISTINCT scope_key, delivery_id, as_of, received_at FROM lake.ops.scope AS s
            WHERE target = '{contract.target}' AND scope_key IN (SELECT scope_key FROM touched) AND delivery_id NOT IN (SELECT delivery_id FROM batch_deliveries)
        ),
        one AS (
            SELECT * FROM mine
            UNION ALL SELECT * FROM told
            UNION ALL SELECT * FROM holder AS h WHERE NOT EXISTS (SELECT 1 FROM told AS t WHERE t.scope_key = h.scope_key AND t.delivery_id = h.delivery_id)
        ),
        judged AS (
            SELECT o.*,
                h.delivery_id IS NOT NULL AS has_rows,
                EXISTS (
                    SELECT 1 FROM spoke AS p WHERE p.scope_key = o.scope_key AND (p.as_of, p.received_at, p.delivery_id) > (o.as_of, o.received_at, o.delivery_id)
                ) AND NOT EXISTS (
                    SELECT 1 FROM mine AS m WHERE m.scope_key = o.scope_key AND (m.as_of, m.received_at, m.delivery_id) >= (o.as_of, o.received_at, o.delivery_id)
                ) AS returns,
                l.stored IN ('erasing', 'erased') AS is_erased
            FROM one AS o
            LEFT JOIN holder AS h ON h.scope_key = o.scope_key AND h.delivery_id = o.delivery_id
            LEFT JOIN lake.ops.landed AS l ON l.delivery_id = o.delivery_id
        )
        SELECT *,
            row_number() OVER rank = 1 AS is_newest
        FROM judged WHERE NOT (returns AND NOT has_rows AND coalesce(is_erased, FALSE))
        WINDOW rank AS (PARTITION BY scope_key ORDER BY as_of DESC, received_at DESC, delivery_id DESC)""")


MERGES = {"append": append, "upsert": upsert, "incremental": upsert, "snapshot": snapshot}
