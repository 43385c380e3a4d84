"""One read-only statement on the lake for people; closed schemas only with a reason, which is recorded."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import duckdb

from lake.lake import CLOSED_SCHEMAS, open_reader, open_writer, transaction
from tnmt.settings import Settings


class QueryRefused(Exception):
    """A statement that may not run here, or that DuckDB refuses; the text says why."""


def query(
    settings: Settings, statement: str, values: Sequence[Any] = (), *, now: datetime, closed_reason: str | None = None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one SELECT. Raises QueryRefused for anything else, and for closed schemas without a reason."""
    con = open_reader(settings)
    try:
        try:
            parsed = con.extract_statements(statement)
        except duckdb.Error as error:
            raise QueryRefused(f"cannot be read as SQL: {str(error).splitlines()[0]}") from None
        if len(parsed) != 1 or parsed[0].type != duckdb.StatementType.SELECT:
            raise QueryRefused("expected one SELECT statement; this command only reads")
        touched = {s for s in CLOSED_SCHEMAS if s in statement}
        if touched and not closed_reason:
            raise QueryRefused(f"{', '.join(sorted(touched))} hold personal data: name the reason with --closed REASON; it is recorded")
        if _reads_files(con, statement):
            # the files behind a closed schema could be read by path as well
            raise QueryRefused("only tables of the lake may be queried here: no functions that read files, no PRAGMA")
        if touched:
            with open_writer(settings, "closed access") as writer, transaction(writer):
                writer.execute("INSERT INTO lake.ops.closed_access VALUES (?, ?, ?, ?)", [now, getpass.getuser(), closed_reason, statement])
        try:
            con.execute("USE lake")
            result = con.execute(statement, list(values)) if values else con.execute(statement)
            return [d[0] for d in result.description], result.fetchall()
        except duckdb.Error as error:
            raise QueryRefused(str(error).strip()) from None
    finally:
        con.close()


def _reads_files(con: duckdb.DuckDBPyConnection, statement: str) -> bool:
    """Whether a table function, or a file named as a table, stands in the statement."""
    tree = con.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchall()[0][0].lower()

    if json.loads(tree).get("error"):
        return True  # PRAGMA and the like: no query that could be looked through

    def walk(node: Any) -> bool:
        if isinstance(node, dict):
            if node.get("type") == "table_function":
                name = str(node.get("function", {}).get("function_name", ""))
                return name not in ("range", "generate_series", "unnest")
            if node.get("type") == "base_table" and any(c in str(node.get("table_name", "")) for c in "/.*"):
                return True
            if str(node.get("function_name", "")).startswith(("getvariable", "getenv", "read_", "query")):
                return True
            return any(walk(v) for v in node.values())
        return isinstance(node, list) and any(walk(v) for v in node)

    return walk(json.loads(tree))
