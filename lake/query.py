"""One read-only statement on the lake for people; closed schemas only with a reason, which is recorded."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterator, Sequence
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
        con.execute("SET python_enable_replacements = false")  # else a name may stand for a variable of this program
        try:
            parsed = con.extract_statements(statement)
        except duckdb.Error as error:
            raise QueryRefused(f"cannot be read as SQL: {str(error).splitlines()[0]}") from None
        if len(parsed) != 1 or parsed[0].type != duckdb.StatementType.SELECT:
            raise QueryRefused("expected one SELECT statement; this command only reads")
        touched = _Look(con).closed(statement)
        if touched and not (closed_reason or "").strip():
            raise QueryRefused(f"{', '.join(sorted(touched))} hold personal data: name the reason with --closed REASON; it is recorded")
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


class _Look:
    """Which tables a statement reads, by its parsed tree. What is no table of the lake is refused, whatever it is.

    Refused so: files by path, functions that read or run something, DuckLake's metadata (it keeps the least and greatest
    values of every column), other databases, variables of the program.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        """Asks the lake for its tables and views."""
        self._con = con
        tables = con.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'lake'").fetchall()
        views = con.execute("SELECT schema_name, view_name, sql FROM duckdb_views() WHERE database_name = 'lake' AND NOT internal").fetchall()
        self._tables = {(str(s).casefold(), str(t).casefold()) for s, t in tables}
        self._views = {(str(s).casefold(), str(v).casefold()): str(sql) for s, v, sql in views}
        self._system = {str(r[0]).casefold() for r in con.execute("SELECT view_name FROM duckdb_views() WHERE internal").fetchall()}

    def closed(self, statement: str) -> set[str]:
        """The closed schemas that the statement reads, through views too; raises QueryRefused for what it may not read."""
        tree = json.loads(self._con.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchall()[0][0])
        if tree.get("error"):
            # PRAGMA and the like: no query that could be looked through
            raise QueryRefused("only tables of the lake may be queried here, by a statement that begins with SELECT, FROM, WITH or VALUES")
        nodes = list(_nodes(tree))
        ctes = {str(entry["key"]).casefold() for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())}
        if hidden := ctes & self._system:
            raise QueryRefused(f"{', '.join(sorted(hidden))} is a name of the database itself: give the WITH another one")
        touched: set[str] = set()
        for node in nodes:
            kind = node.get("type")
            if kind == "BASE_TABLE":
                touched |= self._table(node, ctes)
            elif kind == "TABLE_FUNCTION":
                name = str(node.get("function", {}).get("function_name", "")).casefold()
                if name not in _TABLE_FUNCTIONS:
                    raise QueryRefused(f"only tables of the lake may be queried here, found the function {name}")
            elif (
                kind == "SHOW_REF"
                and not node.get("query")
                and str(node.get("table_name", "")).strip('"') not in ("tables", "__show_tables_expanded")
            ):
                raise QueryRefused("only tables of the lake may be queried here; columns stand in information_schema.columns")
            if str(node.get("function_name", "")).casefold().startswith(_NO_FUNCTIONS):
                raise QueryRefused(f"only tables of the lake may be queried here, found the function {node['function_name']}")
        return touched

    def _table(self, node: dict[str, Any], ctes: set[str]) -> set[str]:
        catalog, schema, table = (str(node.get(k) or "").casefold() for k in ("catalog_name", "schema_name", "table_name"))
        if not schema and not catalog and table in ctes:
            return set()
        if schema == "information_schema" and catalog in ("", "lake", "system") and table in _INFORMATION:
            return set()
        if catalog in ("", "lake"):
            if (schema, table) in self._views:
                below = self.closed(_body(self._views[schema, table]))
                return below | ({schema} & set(CLOSED_SCHEMAS))
            if (schema, table) in self._tables:
                return {schema} & set(CLOSED_SCHEMAS)
        shown = ".".join(p for p in (catalog, schema, table) if p)
        raise QueryRefused(f"only tables of the lake may be queried here, found {shown}; write schema.table (information_schema.tables lists them)")


_TABLE_FUNCTIONS = ("range", "generate_series", "unnest")
_NO_FUNCTIONS = (
    "getvariable",
    "getenv",
    "read_",
    "query",
    "current_setting",
    "ducklake_",
    "which_secret",
    "json_execute",
    "from_substrait",
    "postgres_",
    "sqlite_",
)
"""Beginnings of functions that reach past the rows that are named."""
_INFORMATION = ("tables", "columns", "schemata", "views")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of the tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _body(view: str) -> str:
    """The query of a `CREATE VIEW … AS …`."""
    found = re.search(r"\bAS\b(.*)", view, re.IGNORECASE | re.DOTALL)
    if not found:
        raise QueryRefused("a view that cannot be looked through")
    return found[1].strip().rstrip(";")
