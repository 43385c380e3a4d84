"""Refuses SQL whose tables Superset cannot see (SQL_QUERY_MUTATOR). What is not understood is refused.

Superset checks access to tables and applies row-level security to those that sqlglot's traverse_scope() finds. On DuckDB
that misses tables in PIVOT, SUMMARIZE, CALL, EXPLAIN, SET VARIABLE, unnest((SELECT ...)), query('...') and others. So: one
plain SELECT, no functions that read tables or files by name, and every table must be one that traverse_scope() finds too.
"""

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope
from superset.errors import ErrorLevel, SupersetError, SupersetErrorType
from superset.exceptions import SupersetSecurityException

TABLE_FUNCTIONS = {"unnest", "explode", "generate_series", "generateseries", "range"}
DENIED_FUNCTIONS = {
    "query",
    "query_table",
    "getenv",
    "getvariable",
    "current_setting",
    "which_secret",
    "json_execute_serialized_sql",
    "sql_auto_complete",
    "glob",
    "sniff_csv",
    "st_read",
    "st_read_meta",
    "st_drivers",
    "read_csv",
    "read_csv_auto",
    "read_parquet",
    "read_json",
    "read_text",
    "read_blob",
    "parquet_scan",
    "parquet_metadata",
    "parquet_schema",
    "sqlite_scan",
    "postgres_scan",
    "postgres_query",
    "duckdb_settings",
    "duckdb_secrets",
}
DENIED_PREFIXES = ("read_", "duckdb_", "pragma_", "ducklake_", "parquet_", "postgres_", "sqlite_", "iceberg_", "delta_")
DENIED_NODES = tuple(
    getattr(exp, name)
    for name in ("Pivot", "Command", "Into", "Summarize", "Describe", "Show", "Set", "Pragma", "Attach", "Detach", "Copy", "Use", "Kill", "Execute")
    if hasattr(exp, name)
)


class SqlGuardError(SupersetSecurityException):
    """The statement is refused: status 403 with the reason, also where a chart's own SQL is the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(SupersetError(reason, SupersetErrorType.QUERY_SECURITY_ACCESS_ERROR, ErrorLevel.ERROR))


def _function(node: exp.Func) -> str:
    return (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()


def check(sql: str) -> None:
    """Raises SqlGuardError unless `sql` is one plain SELECT whose tables are all in sight."""
    try:
        statements = [s for s in sqlglot.parse(sql, dialect="duckdb") if s is not None]
    except sqlglot.errors.SqlglotError as error:
        raise SqlGuardError("Câu lệnh không đọc được") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Select | exp.SetOperation | exp.Subquery):
        raise SqlGuardError("Chỉ cho phép một câu lệnh SELECT")
    root = statements[0]
    for node in root.walk():
        if isinstance(node, DENIED_NODES):
            raise SqlGuardError(f"Không cho phép {type(node).__name__.upper()}")
        if isinstance(node, exp.Func) and (_function(node) in DENIED_FUNCTIONS or _function(node).startswith(DENIED_PREFIXES)):
            raise SqlGuardError(f"Không cho phép hàm {_function(node)}")
        if isinstance(node, exp.Table):
            if isinstance(node.this, exp.Func):
                if _function(node.this) not in TABLE_FUNCTIONS:
                    raise SqlGuardError(f"Không cho phép hàm bảng {_function(node.this)}")
            elif any(c in node.name for c in "/\\*?:.") or node.name.lower() in ("information_schema", "sqlite_master"):
                raise SqlGuardError("Không cho phép đọc tệp")
    seen = {id(source) for scope in traverse_scope(root) for source in scope.sources.values() if isinstance(source, exp.Table)}
    ctes = {cte.alias_or_name.lower() for cte in root.find_all(exp.CTE)}
    for table in root.find_all(exp.Table):
        if not (isinstance(table.this, exp.Func) or id(table) in seen or (not table.db and table.name.lower() in ctes)):
            raise SqlGuardError(f"Bảng {table.sql()} đứng ở chỗ không được hỗ trợ")


def mutator(sql: str, database=None, **_kwargs) -> str:
    """SQL_QUERY_MUTATOR: the SQL as it is, or an error."""
    if database is not None and database.backend == "duckdb":
        check(sql)
    return sql
