"""A snapshot that keeps its history: one row for each unbroken run of equal values, so that 1 % changed rows cost 1 %.

Of each scope (a commune) all deliveries that speak for it stand in the order of their rank (_as_of, _received_at, _delivery_id). A row of the table or
of <table>_history is a version: what its key was in a run of neighbouring deliveries, with the lineage of the first of them. It held from its `_as_of`
on, until `_valid_to`, the as-of of the delivery that ended it (`_ended_by`): it said something else, or the key was not in it. `known_from` and
`known_to` say when it counted as current. <table>_sighting says in which line of which delivery a key stood, without its values: with it any delivery
can be put between others, or be taken away, and the versions are cut anew. They are a function of the deliveries, never of the order of gating.

The state on a day is `_as_of <= day AND (_valid_to IS NULL OR _valid_to > day)` over both tables.
"""

from __future__ import annotations

import duckdb

from ingestion.contract import Contract

CURRENT_TYPES = {"_scope": "VARCHAR", "known_from": "TIMESTAMP"}
"""Columns of every version: its scope, as the contract named it when its delivery was gated, and since when it counted as current."""
PAST_TYPES = CURRENT_TYPES | {"_valid_to": "TIMESTAMP", "_ended_by": "VARCHAR", "known_to": "TIMESTAMP"}
"""Columns that a row of the history has beside those of its contract."""

SIGHTING_TYPES = {"_delivery_id": "VARCHAR", "_line": "INTEGER", "_as_of": "TIMESTAMP", "_received_at": "TIMESTAMP"}
"""Columns of a sighting beside its scope and its key: the lineage of a row without its source."""
LINEAGE = ("_source", *SIGHTING_TYPES)


def put(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], scope: str, *, regated: bool) -> bool:
    """Merges the view `incoming` (`columns` and the lineage) into the versions of lake.<table>; `scope` is SQL for the scope of a row.

    Reads the TEMP tables `mine` (scope_key, delivery_id, as_of, received_at: what the batch speaks for), `touched` (scope_key: of that and
    of an earlier gating) and `batch_deliveries`. Makes the TEMP table `entering` (_delivery_id, _line): rows of the batch that begin a version. Returns whether other scopes changed as well.
    """
    keys = list(contract.key)
    con.execute(f"CREATE OR REPLACE TEMP VIEW incoming_version AS SELECT *, {scope} AS _scope FROM incoming AS c")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE told AS
        SELECT DISTINCT scope_key, delivery_id, as_of, received_at FROM lake.ops.scope AS s
        WHERE target = '{contract.target}' AND delivery_id NOT IN (SELECT delivery_id FROM batch_deliveries)""")
    moved = _first_sightings(con, table, keys, scope) or _is_rescoped(con, contract, table, scope)
    if regated:
        con.execute(
            f"INSERT INTO touched SELECT DISTINCT _scope FROM lake.{table}_sighting WHERE _delivery_id IN (SELECT delivery_id FROM batch_deliveries)"
        )
    if moved or regated or _goes_between(con):
        _cut_anew(con, contract, table, columns, scope, everything=moved)
    else:
        _put_on_top(con, table, columns, keys)
    return moved


def upgrade(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], scope: str) -> None:
    """Makes versions of a table of an earlier version of this software, which kept all rows of every delivery.

    Within the caller's transaction, or one of its own. It is done once: afterwards there are sightings.
    """
    if con.execute(f"SELECT 1 FROM lake.{table}_sighting LIMIT 1").fetchall() or not con.execute(f"SELECT 1 FROM lake.{table} LIMIT 1").fetchall():
        return
    nobody = "SELECT scope_key, delivery_id, as_of, received_at FROM lake.ops.scope LIMIT 0"
    con.execute(f"CREATE OR REPLACE TEMP TABLE mine AS {nobody}")
    con.execute("CREATE OR REPLACE TEMP TABLE touched AS SELECT scope_key FROM mine")
    con.execute("CREATE OR REPLACE TEMP TABLE batch_deliveries AS SELECT delivery_id FROM lake.ops.landed LIMIT 0")
    con.execute(f"CREATE OR REPLACE TEMP VIEW incoming AS SELECT {', '.join([*columns, *LINEAGE])} FROM lake.{table} LIMIT 0")
    put(con, contract, table, columns, scope, regated=False)


def _same_key(keys: list[str], left: str, right: str) -> str:
    return " AND ".join(f"{left}.{n} = {right}.{n}" for n in keys)


def _value(columns: list[str], alias: str) -> str:
    """SQL for all values of a row as one."""
    return f"row({', '.join(f'ST_AsWKB({alias}.geometry)' if c == 'geometry' else f'{alias}.{c}' for c in columns)})"


def _names(names: list[str], alias: str) -> str:
    return ", ".join(f"{alias}.{n}" for n in names)


def _first_sightings(con: duckdb.DuckDBPyConnection, table: str, keys: list[str], scope: str) -> bool:
    """Notes the rows of a lake of an earlier version, which kept all rows of every delivery, as sightings; whether there were any."""
    if con.execute(f"SELECT 1 FROM lake.{table}_sighting LIMIT 1").fetchall():
        return False
    rows = 0
    for name in (table, f"{table}_history"):
        con.execute(f"UPDATE lake.{name} AS c SET _scope = {scope}")
        rows += _note_sightings(con, table, keys, f"lake.{name} WHERE _delivery_id IS NOT NULL")
    return rows > 0


def _is_rescoped(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, scope: str) -> bool:
    """Whether versions of this source were gated when its contract named another scope; other sources of the target name theirs."""
    return any(
        con.execute(f"SELECT 1 FROM lake.{name} AS c WHERE _source = '{contract.source}' AND _scope IS DISTINCT FROM {scope} LIMIT 1").fetchall()
        for name in (table, f"{table}_history")
    )


def _goes_between(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether a delivery of the batch is not simply the newest of its scopes."""
    return bool(
        con.execute("""
            SELECT 1 FROM mine AS m JOIN (SELECT * FROM told UNION ALL SELECT * FROM mine) AS t ON t.scope_key = m.scope_key AND t.delivery_id <> m.delivery_id
            WHERE (t.as_of, t.received_at, t.delivery_id) > (m.as_of, m.received_at, m.delivery_id) OR t.received_at > m.received_at LIMIT 1""").fetchall()
    )


def _put_on_top(con: duckdb.DuckDBPyConnection, table: str, columns: list[str], keys: list[str]) -> None:
    """The batch is the newest of its scopes: what it says again stays as it is, the rest ends and begins."""
    names = [*columns, *LINEAGE, "_scope"]
    inside = "c._scope IN (SELECT scope_key FROM touched)"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE again AS
        SELECT c._scope, {_names(keys, "c")} FROM lake.{table} AS c JOIN incoming_version AS a ON a._scope = c._scope AND {_same_key(keys, "a", "c")}
        WHERE {inside} AND {_value(columns, "a")} IS NOT DISTINCT FROM {_value(columns, "c")}""")
    stays = f"EXISTS (SELECT 1 FROM again AS g WHERE g._scope = c._scope AND {_same_key(keys, 'g', 'c')})"
    con.execute(f"""
        INSERT INTO lake.{table}_history ({", ".join(names)}, known_from, _valid_to, _ended_by, known_to)
        SELECT {_names(names, "c")}, c.known_from, m.as_of, m.delivery_id, greatest(c.known_from, m.received_at)
        FROM lake.{table} AS c JOIN mine AS m ON m.scope_key = c._scope WHERE {inside} AND NOT {stays}""")
    con.execute(f"DELETE FROM lake.{table} AS c WHERE {inside} AND NOT {stays}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE entering AS SELECT _delivery_id, _line FROM incoming_version AS c WHERE NOT {stays}")
    con.execute(
        f"INSERT INTO lake.{table} ({', '.join(names)}, known_from) SELECT {', '.join(names)}, _received_at FROM incoming_version AS c WHERE NOT {stays}"
    )
    _note_sightings(con, table, keys, "incoming_version")


def _note_sightings(con: duckdb.DuckDBPyConnection, table: str, keys: list[str], rows: str) -> int:
    """Notes where the keys of these rows (a relation, perhaps with a condition) stood; how many."""
    picked = ", ".join(["_scope", *keys, *SIGHTING_TYPES])
    done = con.execute(f"INSERT INTO lake.{table}_sighting ({picked}) SELECT {picked} FROM {rows} ORDER BY _scope, {', '.join(keys)}")
    return int(done.fetchall()[0][0])


def _cut_anew(con: duckdb.DuckDBPyConnection, contract: Contract, table: str, columns: list[str], scope: str, *, everything: bool) -> None:
    """Cuts the versions of the touched scopes (or of all) from the sightings: a delivery goes between others, is gated again, or scopes moved."""
    keys = list(contract.key)
    values, history, sighting = [*columns, *LINEAGE], f"lake.{table}_history", f"lake.{table}_sighting"
    inside = "TRUE" if everything else "_scope IN (SELECT scope_key FROM touched)"
    key, gated = ", ".join(keys), "_delivery_id IN (SELECT delivery_id FROM batch_deliveries)"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE content AS
        SELECT row_number() OVER () AS ref, *, CASE WHEN _source = '{contract.source}' THEN {scope} ELSE _scope END AS new_scope FROM (
            SELECT {", ".join(values)}, _scope, FALSE AS is_new FROM lake.{table} WHERE {inside}
            UNION ALL SELECT {", ".join(values)}, _scope, FALSE FROM {history} WHERE {inside}
            UNION ALL SELECT {", ".join(values)}, _scope, TRUE FROM incoming_version
        )""")
    # a key was in a delivery what the version said that began in it, or last before it: also where that one is now taken back
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE point AS
        WITH seen AS (SELECT * FROM {sighting} WHERE {inside}),
        ordinal AS (
            SELECT _delivery_id, row_number() OVER (ORDER BY _as_of, _received_at, _delivery_id) AS n
            FROM (SELECT _delivery_id, max(_as_of) AS _as_of, max(_received_at) AS _received_at FROM seen GROUP BY ALL)
        ),
        placed AS (SELECT s.*, o.n FROM seen AS s JOIN ordinal AS o USING (_delivery_id)),
        begun AS (SELECT c.ref, c._scope, {_names(keys, "c")}, o.n FROM content AS c JOIN ordinal AS o USING (_delivery_id) WHERE NOT c.is_new),
        told_of AS (
            SELECT p._scope, {_names(keys, "p")}, p._delivery_id, p._line, p._as_of, p._received_at, b.ref
            FROM placed AS p ASOF JOIN begun AS b ON p._scope = b._scope AND {_same_key(keys, "p", "b")} AND p.n >= b.n
        )
        SELECT t.* REPLACE (c.new_scope AS _scope) FROM told_of AS t JOIN content AS c ON c.ref = t.ref WHERE NOT t.{gated}
        UNION ALL
        SELECT _scope, {key}, _delivery_id, _line, _as_of, _received_at, ref FROM content WHERE is_new""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE speaker AS
        SELECT *, row_number() OVER rank AS n,
            min(received_at) OVER (rank ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS superseded_at,
            lead(as_of) OVER rank AS next_as_of, lead(delivery_id) OVER rank AS next_delivery_id
        FROM (
            SELECT scope_key, delivery_id, max(as_of) AS as_of, max(received_at) AS received_at FROM (
                SELECT * FROM told UNION ALL SELECT * FROM mine
                UNION ALL SELECT DISTINCT _scope, _delivery_id, _as_of, _received_at FROM point
            ) GROUP BY ALL
        ) WINDOW rank AS (PARTITION BY scope_key ORDER BY as_of, received_at, delivery_id)""")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE version AS
        WITH ordered AS (
            SELECT p.*, s.n, lag(s.n) OVER by_key AS n_before, lag(p.ref) OVER by_key AS ref_before
            FROM point AS p JOIN speaker AS s ON s.scope_key = p._scope AND s.delivery_id = p._delivery_id
            WINDOW by_key AS (PARTITION BY p._scope, {_names(keys, "p")} ORDER BY s.n)
        ),
        told_again AS (
            SELECT o._scope, o._delivery_id, o._line FROM ordered AS o
            JOIN content AS a ON a.ref = o.ref JOIN content AS b ON b.ref = o.ref_before
            WHERE o.n_before = o.n - 1 AND (o.ref = o.ref_before OR {_value(columns, "a")} IS NOT DISTINCT FROM {_value(columns, "b")})
        ),
        begins AS (
            SELECT o.*, a._line IS NULL AS is_first FROM ordered AS o
            LEFT JOIN told_again AS a ON a._scope = o._scope AND a._delivery_id = o._delivery_id AND a._line = o._line
        ),
        numbered AS (
            SELECT *, count(*) FILTER (is_first) OVER (PARTITION BY _scope, {key} ORDER BY n) AS run FROM begins
        ),
        cut_out AS (
            SELECT _scope, {key}, run, max(n) AS last_n, min(_received_at) AS known_from, arg_min(ref, n) AS ref, arg_min(_delivery_id, n) AS _delivery_id, arg_min(_line, n) AS _line,
                arg_min(_as_of, n) AS _as_of, arg_min(_received_at, n) AS first_received_at
            FROM numbered GROUP BY ALL
        )
        SELECT v.* RENAME (first_received_at AS _received_at), s.next_as_of AS _valid_to, s.next_delivery_id AS _ended_by,
            greatest(v.known_from, s.superseded_at) AS known_to
        FROM cut_out AS v JOIN speaker AS s ON s.scope_key = v._scope AND s.n = v.last_n""")
    for name in (f"lake.{table}", history):
        con.execute(f"DELETE FROM {name} WHERE {inside}")
    rows = f"""
        SELECT {_names(columns, "c")}, coalesce(l.source, c._source) AS _source, {_names(list(SIGHTING_TYPES), "v")}, v._scope, v.known_from{{more}}
        FROM version AS v JOIN content AS c ON c.ref = v.ref LEFT JOIN lake.ops.landed AS l ON l.delivery_id = v._delivery_id
        WHERE v._ended_by IS {{ended}} NULL"""
    names = ", ".join([*columns, *LINEAGE, *CURRENT_TYPES])
    con.execute(f"INSERT INTO lake.{table} ({names}) {rows.format(more='', ended='')}")
    more = [n for n in PAST_TYPES if n not in CURRENT_TYPES]
    con.execute(f"INSERT INTO {history} ({names}, {', '.join(more)}) {rows.format(more=', ' + _names(more, 'v'), ended='NOT')}")
    if everything:
        con.execute(f"DELETE FROM {sighting}")
        _note_sightings(con, table, keys, "point")
        con.execute(f"""
            INSERT INTO lake.ops.scope
            SELECT l.source, '{contract.target}', s.scope_key, s.delivery_id, s.as_of, s.received_at
            FROM speaker AS s JOIN lake.ops.landed AS l USING (delivery_id)
            WHERE (s.scope_key, s.delivery_id) NOT IN (SELECT (scope_key, delivery_id) FROM told UNION ALL SELECT (scope_key, delivery_id) FROM mine)""")
    else:
        con.execute(f"DELETE FROM {sighting} WHERE {gated}")
        _note_sightings(con, table, keys, "incoming_version")
    con.execute(f"CREATE OR REPLACE TEMP TABLE entering AS SELECT _delivery_id, _line FROM version WHERE {gated}")
