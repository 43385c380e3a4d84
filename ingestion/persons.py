"""Persons: tokens in the place of what says something about one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from ingestion.contract import Contract
from ingestion.merge import has_conflict
from tnmt.settings import Settings


def _tokens(con: duckdb.DuckDBPyConnection, settings: Settings, columns: Sequence[str], table: str) -> None:
    """TEMP table `token_of` (value, token): HMAC-SHA256 of each personal value under the key that lies outside the lake."""
    values = {row[0] for c in columns for row in con.execute(f"SELECT DISTINCT {c} FROM {table} WHERE {c} IS NOT NULL").fetchall()}
    key = settings.token_key.encode()
    pairs = sorted(values)
    tokens = [hmac.new(key, " ".join(v.upper().split()).encode(), hashlib.sha256).hexdigest()[:32] for v in pairs]
    con.register("made", pa.table({"value": pa.array(pairs, pa.string()), "token": pa.array(tokens, pa.string())}))
    con.execute("CREATE OR REPLACE TEMP TABLE token_of AS SELECT * FROM made")
    con.unregister("made")


def publish_tokens(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, table: str, columns: dict[str, str]) -> None:
    """Makes clean.<target> of a personal source anew from its closed twin: tokens stand where persons stood."""
    secret = [n for n, c in contract.columns.items() if c.personal == "token"]
    _tokens(con, settings, secret, f"lake.{table}")
    exprs = {**{n: f"t.{n}" for n in columns}, **{f"{n}_token": f"(SELECT k.token FROM token_of AS k WHERE k.value = t.{n})" for n in secret}}
    lineage = ["_source", "_delivery_id", "_line", "_as_of", "_received_at"]
    if has_conflict(contract):
        lineage.append("conflict")
    con.execute(f"DELETE FROM lake.clean.{contract.target}")
    con.execute(
        f"INSERT INTO lake.clean.{contract.target} ({', '.join([*columns, *lineage])}) "
        f"SELECT {', '.join([exprs[n] for n in columns] + ['t.' + n for n in lineage])} FROM lake.{table} AS t"
    )
