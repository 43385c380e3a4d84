"""How Superset opens DuckDB: one file, read-only, locked, with a time limit.

Whatever address a database in Superset names, the connection goes to the serving file of this platform; that of SQL Lab
to `serving-sqllab.duckdb`, which holds less. The real path is
taken anew for every connection, so that a serving file that was just put in place is read by the next query. The version
of the table is part of the cache key of its charts, so that the next query is not answered from what was there before.
"""

import functools
import os
import threading
from pathlib import Path

import duckdb
from duckdb_engine import ConnectionWrapper

CHART_SECONDS = int(os.environ.get("TNMT_CHART_SECONDS", "90"))
SQLLAB_SECONDS = int(os.environ.get("TNMT_SQLLAB_SECONDS", "60"))
SERVING = Path(os.environ["TNMT_SUPERSET_HOME"]).parent / "serving" / "serving.duckdb"
SQLLAB = SERVING.with_name("serving-sqllab.duckdb")

# Connections of one process to one file must have the same settings: charts and SQL Lab share them.
SETTINGS = {
    "threads": os.environ.get("TNMT_SUPERSET_DUCKDB_THREADS", "2"),
    "memory_limit": os.environ.get("TNMT_SUPERSET_DUCKDB_MEMORY", "1GB"),
    "max_temp_directory_size": "0B",
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}


class TimedConnection(ConnectionWrapper):
    """Is interrupted after `seconds`: Superset's own limit uses signals, which do nothing in a thread."""

    def __init__(self, con, seconds: float) -> None:
        super().__init__(con)
        self._timer = threading.Timer(seconds, con.interrupt)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Closes and stops the clock."""
        self._timer.cancel()
        super().close()


def mutator(uri, params, username, security_manager, source):
    """DB_CONNECTION_MUTATOR: every DuckDB connection, of charts and of SQL Lab, is made here."""
    if uri.get_backend_name() != "duckdb":
        return uri, params
    params.pop("connect_args", None)
    in_lab = getattr(source, "name", "") == "SQL_LAB"
    seconds = SQLLAB_SECONDS if in_lab else CHART_SECONDS

    def connect() -> TimedConnection:
        return TimedConnection(duckdb.connect(os.path.realpath(SQLLAB if in_lab else SERVING), read_only=True, config=SETTINGS), seconds)

    params["creator"] = connect
    return uri, params


def serving_version(table: str | None = None) -> str:
    """Changes whenever another serving file is in force; of a table (schema.name) in it, only when that table is another one."""
    try:
        found = SERVING.stat()
    except OSError:
        return "none"
    path = os.path.realpath(SERVING)
    version = f"{path}:{found.st_ino}:{found.st_mtime_ns}"
    if table is None:
        return version
    snapshot = _snapshots(path, version).get(table)
    return version if snapshot is None else f"{table}@{snapshot}"


@functools.lru_cache(maxsize=4)
def _snapshots(path: str, version: str) -> dict[str, int]:
    """Snapshot of each table of the serving file; nothing of a file that does not say."""
    try:
        with duckdb.connect(path, read_only=True, config=SETTINGS) as con:
            return dict(con.execute("SELECT name, snapshot_id FROM served_table").fetchall())
    except duckdb.Error:
        return {}


def install_cache_key() -> None:
    """Makes the version of the served table part of its charts' cache keys: a publish drops what it changed, and nothing else."""
    from superset.connectors.sqla.models import SqlaTable

    if getattr(SqlaTable, "keyed_by_serving_file", False):
        return
    original = SqlaTable.get_extra_cache_keys

    def keys(self, query_obj):
        # a query of its own may read any table
        table = None if self.sql else f"{self.schema}.{self.table_name}"
        return [*original(self, query_obj), serving_version(table)]

    SqlaTable.get_extra_cache_keys = keys
    SqlaTable.keyed_by_serving_file = True
