"""Great Expectations on a live DuckDB connection.

GX's SQL datasource closes its SQLAlchemy connection before it fetches, and duckdb-engine then returns no rows
(GX issues 10738 and 11579, closed without a fix). One connection kept open cures it, and our own connection lets
GX see tables that exist nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import duckdb
import sqlalchemy as sa
from duckdb_engine import ConnectionWrapper
from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from sqlalchemy.dialects import postgresql
from sqlalchemy.pool import StaticPool

_CONNECTIONS: dict[str, duckdb.DuckDBPyConnection] = {}


_TYPES: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "VARCHAR": sa.String,
    "BOOLEAN": sa.Boolean,
    "SMALLINT": sa.SmallInteger,
    "INTEGER": sa.Integer,
    "BIGINT": sa.BigInteger,
    "DOUBLE": sa.Double,
    "DECIMAL": sa.Numeric,
    "DATE": sa.Date,
    "TIMESTAMP": sa.DateTime,
}


def _columns(connection: sa.Connection, table_name: str, schema: str | None = None, **_: Any) -> list[dict[str, Any]]:
    """SQLAlchemy's reflection of a table's columns; a type that no expectation can use (geometry, lists) has none."""
    name = f'"{schema}"."{table_name}"' if schema else f'"{table_name}"'
    rows = connection.execute(sa.text(f"DESCRIBE {name}")).fetchall()
    return [
        {
            "name": r[0],
            "type": _TYPES.get(r[1].split("(")[0], sa.types.NullType)(),
            "nullable": r[2] == "YES",
            "default": None,
            "autoincrement": False,
        }
        for r in rows
    ]


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
    """GX's engine with one open connection and PostgreSQL's operators, which DuckDB speaks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments are GX's."""
        super().__init__(*args, **kwargs)
        # GX knows no dialect "duckdb": without this every regex expectation fails as an error
        self.dialect_module = postgresql

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        """The open connection."""
        if self._connection is None:
            self._connection = self.engine.connect()
        yield self._connection


class DuckDBDatasource(SQLDatasource):
    """A datasource over a connection that this process has open already."""

    type: Literal["duckdb"] = "duckdb"  # type: ignore[assignment]  # GX's way to name a new type

    def get_engine(self) -> sa.engine.Engine:
        """Engine over the registered connection."""
        if self._engine is None:
            con = _CONNECTIONS[self.name]
            self._engine = sa.create_engine("duckdb://", poolclass=StaticPool, creator=lambda: ConnectionWrapper(con))
            # the dialect asks PostgreSQL's catalogue, for which DuckDB reads every table of the lake: 0.17 s against 0.001 s
            self._engine.dialect.get_columns = _columns  # type: ignore[method-assign, assignment]
            self._engine.dialect.get_pk_constraint = lambda *_, **__: {"constrained_columns": [], "name": None}  # type: ignore[method-assign, assignment]
        return self._engine

    def get_execution_engine(self) -> DuckDBExecutionEngine:
        """The engine that keeps its connection."""
        if self._execution_engine is None:
            self._execution_engine = DuckDBExecutionEngine(engine=self.get_engine(), create_temp_table=False)
        return self._execution_engine

    def test_connection(self, test_assets: bool = True) -> None:
        """Nothing to test: the connection is open."""
        self.get_engine()


def add_duckdb(context: Any, name: str, con: duckdb.DuckDBPyConnection) -> Any:
    """Adds `con` to a GX context as datasource `name`."""
    _CONNECTIONS[name] = con
    return context.data_sources.add_or_update_duckdb(name=name, connection_string="duckdb://")
