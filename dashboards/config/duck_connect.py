"""How Superset opens DuckDB: one file, read-only, locked, judged, with a limit of time and of rows.

Whatever address a database in Superset names, the connection goes to the serving file of this platform; that of SQL Lab
to `serving-sqllab.duckdb`, which holds less. The real path is
taken anew for every connection, so that a serving file that was just put in place is read by the next query. It is attached
as `serving`, so that names in saved queries do not change with its version. The version
of the table is part of the cache key of its charts, so that the next query is not answered from what was there before.

Every statement goes through `GuardedCursor`: charts, SQL Lab, previews, exports and streams have no other way to the file,
and there it is judged by sql_guard against what the account may see. The lists of schemas, tables and columns that Superset
itself asks for are answered by `ServingDialect` on a way of their own.
"""

import contextlib
import functools
import logging
import os
import re
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import sql_guard
import sql_size
from duckdb_engine import ConnectionWrapper, CursorWrapper, Dialect
from sqlalchemy.dialects import registry

log = logging.getLogger(__name__)

CHART_SECONDS = int(os.environ.get("TNMT_CHART_SECONDS", "90"))
SQLLAB_SECONDS = int(os.environ.get("TNMT_SQLLAB_SECONDS", "60"))
DEAF_SECONDS = 15
"""After the interrupt of a statement: what still runs then does not hear it."""
MAX_ROWS = 50_000
MAX_TEXT = 100_000_000  # characters of a whole result
SERVING = Path(os.environ["TNMT_SUPERSET_HOME"]).parent / "serving" / "serving.duckdb"
SQLLAB = SERVING.with_name("serving-sqllab.duckdb")

SETTINGS = {
    "threads": os.environ.get("TNMT_SUPERSET_DUCKDB_THREADS", "2"),
    "memory_limit": os.environ.get("TNMT_SUPERSET_DUCKDB_MEMORY", "1GB"),
    "max_temp_directory_size": "0B",
}

PROCESS_MEMORY = int(float(os.environ.get("TNMT_SUPERSET_PROCESS_GB", "6")) * 2**30)


def bound_process() -> None:
    """This process may not hold more than PROCESS_MEMORY bytes.

    DuckDB's own limit leaves out the texts and lists of the rows in work, and how long stored ones are no tree of a statement says. Past this
    bound it answers with an error of memory, and the machine goes on.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    bound = PROCESS_MEMORY if most == resource.RLIM_INFINITY else min(PROCESS_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, most))


def _stays() -> None:
    """Outside gunicorn nothing would take the place of the process."""


spent: Callable[[], None] = _stays
"""Called after a statement that took this process to its bound of memory (what was freed may not serve others), or does not end. gunicorn puts a new one
in its place."""


def _replaced(seconds: float) -> None:
    """One function over one long value, or a plan, hears no interrupt: the process that works on it is given up, with its threads."""
    log.error("a statement did not end within %.0f s, past its interrupt: this process is replaced", seconds)
    spent()


def _near_bound() -> bool:
    bound, _ = resource.getrlimit(resource.RLIMIT_DATA)
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:"))
    return bound != resource.RLIM_INFINITY and int(held.split()[1]) * 1024 > 0.8 * bound


@contextlib.contextmanager
def _told(seconds: float) -> Iterator[None]:
    """Errors of the engine that a user meets, in words that say what to do."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise duckdb.InterruptException(f"Câu lệnh bị ngắt (interrupted): chạy quá {seconds} giây") from error
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        if _near_bound():
            spent()
        raise duckdb.OutOfMemoryException("Câu lệnh cần nhiều bộ nhớ hơn mức cho phép (memory): hãy lọc, tổng hợp hoặc bớt cột trước") from error


granted: Callable[[bool], sql_guard.Tables | None] = lambda _in_lab: frozenset()  # noqa: E731
"""Tables of the account that asks now (in SQL Lab, or in a chart), None for all; nothing until superset_config names who knows."""


class _File:
    """One version of a serving file in one locked DuckDB, shared by the connections of this process."""

    def __init__(self, path: str) -> None:
        self.con = duckdb.connect(":memory:", config=SETTINGS)
        self.con.execute(f"ATTACH '{path.replace(chr(39), chr(39) * 2)}' AS {sql_guard.ALIAS} (READ_ONLY)")
        self.con.execute("SET GLOBAL TimeZone = 'Etc/GMT-7'")  # "today" is the province's, on a machine of any zone
        for name, value in sql_guard.LOCKED.items():
            self.con.execute(f"SET {name} = {value}")
        self.columns = sql_guard.columns_of(self.con, sql_guard.ALIAS)
        self.judge = functools.lru_cache(maxsize=16)(functools.partial(sql_guard.Judge, self.columns, watched=_judged))

    def cursor(self) -> duckdb.DuckDBPyConnection:
        con = self.con.cursor()
        con.execute(f"USE {sql_guard.ALIAS}")
        return con


_open = threading.Lock()
_files: dict[Path, tuple[str, _File]] = {}


def _file(link: Path) -> _File:
    """The file behind `link` now. An older version goes when its last connection does."""
    with _open:
        try:
            path, version = os.path.realpath(link), _version(link)
        except OSError as error:
            raise sql_guard.Refused("Chưa có tệp phục vụ: cần chạy `tnmt run` trước") from error
        if _files.get(link, ("", None))[0] != version:
            _files[link] = (version, _File(path))
        return _files[link][1]


def _version(link: Path) -> str:
    found = link.stat()
    return f"{os.path.realpath(link)}:{found.st_ino}:{found.st_mtime_ns}"


def _is_short(kind: str) -> bool:
    """Whether every value of this type of a column is."""
    return re.sub(r"\(\d+,\d+\)$", "", kind) in sql_size.FIXED_TYPES


def _characters(cell) -> int:
    if isinstance(cell, (str, bytes)):
        return len(cell)
    if isinstance(cell, dict):
        return sum(_characters(k) + _characters(v) for k, v in cell.items())
    return sum(map(_characters, cell)) if isinstance(cell, (list, tuple)) else 8


class _Clock:
    """One thread for all calls in work: a process at its bound of memory may start none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: dict[object, list[tuple[float, Callable[[], None]]]] = {}
        threading.Thread(target=self._watch, name="statement clock", daemon=True).start()

    @contextlib.contextmanager
    def watched(self, seconds: float, interrupt: Callable[[], None], deaf: Callable[[], None]) -> Iterator[None]:
        """Calls `interrupt` when the block lasts longer, and `deaf` when it goes on for DEAF_SECONDS after that."""
        call, until = object(), time.monotonic() + seconds
        with self._changed:
            self._calls[call] = [(until, interrupt), (until + DEAF_SECONDS, deaf)]
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._calls[call]

    def _watch(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                for due in self._calls.values():
                    while due and due[0][0] <= now:
                        try:
                            due.pop(0)[1]()
                        except Exception:  # the other calls are watched on
                            log.exception("a statement could not be ended")
                first = min((due[0][0] for due in self._calls.values() if due), default=None)
                self._changed.wait(None if first is None else max(first - time.monotonic(), 0.0))


@functools.cache
def _clock_of(process: int) -> _Clock:
    return _Clock()


def _clock() -> _Clock:
    """Of this process: a fork has no threads of its parent."""
    return _clock_of(os.getpid())


def _judged(seconds: float, interrupt: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """The clock of a statement that is judged: where no interrupt is heard, that costs the process too."""
    return _clock().watched(seconds, interrupt, functools.partial(_replaced, seconds + DEAF_SECONDS))


class GuardedCursor(CursorWrapper):
    """Runs what the judge lets pass, and hands out no more rows than the platform allows."""

    def __init__(self, con: duckdb.DuckDBPyConnection, connection: "TimedConnection") -> None:
        super().__init__(con, connection)
        self._connection, self._rows, self._text = connection, 0, 0

    def execute(self, statement, parameters=None, context=None) -> None:
        """Raises sql_guard.Refused before DuckDB sees the statement."""
        if statement.strip().lower() != "commit":
            self._connection.check(statement)
        self._rows = self._text = 0
        with _told(self._connection.seconds), self._connection.clocked(anew=True):
            super().execute(statement, parameters or None, context)

    def executemany(self, statement, parameters=None, context=None) -> None:
        """Nothing is written here."""
        raise sql_guard.Refused("Chỉ cho phép một câu lệnh SELECT")

    def fetchmany(self, size=None) -> list:
        """Raises sql_guard.Refused past the limit of rows: a result that was cut in silence would look whole."""
        with _told(self._connection.seconds), self._connection.clocked():
            return self._fetch(1 if size is None else size)

    def _fetch(self, wanted: int) -> list:
        rows, step = [], 1
        long = [i for i, column in enumerate(self.description or ()) if not _is_short(str(column[1]))]
        while len(rows) < wanted and (part := super().fetchmany(min(step, wanted - len(rows)))):
            text = sum(_characters(row[i]) for row in part for i in long)
            self._text += text
            if self._text > MAX_TEXT:  # DuckDB holds a long text once, Python once a row
                raise sql_guard.Refused(f"Kết quả có hơn {MAX_TEXT} ký tự: hãy lọc, tổng hợp hoặc bớt cột trước")
            rows += part
            step = max(1, min(4 * step, 1024, 4_000_000 * len(part) // max(text, 1)))
        self._rows += len(rows)
        if self._rows > MAX_ROWS + 1:  # Superset asks for one more than it shows
            raise sql_guard.Refused(f"Kết quả có hơn {MAX_ROWS} dòng: hãy lọc hoặc tổng hợp trước")
        return rows

    def fetchall(self) -> list:
        """Like fetchmany."""
        return self.fetchmany(MAX_ROWS + 2)

    def fetchone(self):
        """Like fetchmany."""
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def __getattr__(self, name):
        """Only what a cursor needs of the connection beneath: its other methods would get past the judge."""
        if name in ("description", "rowcount", "arraysize"):
            return super().__getattr__(name)
        raise AttributeError(name)


class TimedConnection(ConnectionWrapper):
    """Interrupts what works for more than `seconds` on one statement: Superset's own limit uses signals, which do nothing in a thread.

    While nobody asks it for anything, as between the parts of a download, no clock runs.
    """

    def __init__(self, file: _File, seconds: float, in_lab: bool) -> None:
        self._con = file.cursor()
        super().__init__(self._con)
        self._file, self._in_lab, self.seconds, self._worked = file, in_lab, seconds, 0.0
        _clock()

    @contextlib.contextmanager
    def clocked(self, anew: bool = False) -> Iterator[None]:
        """For the time of one call; `anew` where a statement begins. What hears no interrupt for DEAF_SECONDS costs its process."""
        self._worked = 0.0 if anew else self._worked
        started = time.monotonic()
        try:
            with _clock().watched(
                max(self.seconds - self._worked, 0.0), self._con.interrupt, functools.partial(_replaced, self.seconds + DEAF_SECONDS)
            ):
                yield
        finally:
            self._worked += time.monotonic() - started

    def cursor(self) -> GuardedCursor:
        """The only way to run a statement."""
        return GuardedCursor(self._con, self)

    def check(self, statement: str) -> None:
        """Raises sql_guard.Refused unless the account that asks now may run it."""
        self._file.judge(granted(self._in_lab)).check(statement)

    @property
    def columns(self) -> list[tuple[str, str, str, str]]:
        """(schema, table, column, type) of the whole file; Superset shows an account its own part of them."""
        return self._file.columns


class ServingDialect(Dialect):
    """DuckDB whose lists name the tables of the serving file, by schema and without the version of the file."""

    supports_statement_cache = False

    def _columns(self, connection, schema=None, table=None) -> list[tuple[str, str, str, str]]:
        raw = connection.connection
        columns = getattr(raw, "dbapi_connection", raw).columns
        return [c for c in columns if schema in (None, c[0]) and table in (None, c[1])]

    def get_schema_names(self, connection, **_kw) -> list[str]:
        """Those with tables of the marts."""
        return sorted({schema for schema, *_ in self._columns(connection)} - {"main"})

    def get_table_names(self, connection, schema=None, **_kw) -> list[str]:
        """Of one schema, or of all."""
        return sorted({table for _, table, *_ in self._columns(connection, schema)})

    def _get_default_schema_name(self, _connection) -> str:
        """Nothing lies there: a table is named with its schema."""
        return "main"

    def get_view_names(self, *_args, **_kw) -> list[str]:
        """The file has none."""
        return []

    def has_table(self, connection, table_name, schema=None, **_kw) -> bool:
        """Whether the file has it."""
        return bool(self._columns(connection, schema, table_name))

    def get_columns(self, connection, table_name, schema=None, **_kw) -> list[dict]:
        """Names and types in the order of the file."""
        return [
            {"name": name, "type": self._type(kind), "nullable": True, "default": None, "autoincrement": False, "comment": None}
            for _, _, name, kind in self._columns(connection, schema, table_name)
        ]

    def _type(self, declared: str):
        """SQLAlchemy's type for DuckDB's name of one."""
        from sqlalchemy import types

        base = declared.split("(")[0].lower()
        if base == "decimal" and "(" in declared:
            return types.Numeric(*(int(n) for n in declared[8:-1].split(",")))
        return self.ischema_names.get(base, types.String)()

    def get_pk_constraint(self, *_args, **_kw) -> dict:
        """None."""
        return {"constrained_columns": [], "name": None}

    def _nothing(self, *_args, **_kw) -> list:
        return []

    get_foreign_keys = get_indexes = get_unique_constraints = get_check_constraints = _nothing

    def get_table_comment(self, *_args, **_kw) -> dict:
        """None: the dictionary is elsewhere."""
        return {"text": None}


def install_dialect() -> None:
    """Superset's address `duckdb:` means this dialect from now on."""
    registry.register("duckdb", __name__, "ServingDialect")


def mutator(uri, params, username, security_manager, source):
    """DB_CONNECTION_MUTATOR: every DuckDB connection, of charts and of SQL Lab, is made here."""
    if uri.get_backend_name() != "duckdb":
        return uri, params
    params.pop("connect_args", None)
    in_lab = getattr(source, "name", "") == "SQL_LAB"

    def connect() -> TimedConnection:
        return TimedConnection(_file(SQLLAB if in_lab else SERVING), SQLLAB_SECONDS if in_lab else CHART_SECONDS, in_lab)

    params["creator"] = connect
    return uri, params


def check(sql: str, in_lab: bool = False) -> None:
    """Raises sql_guard.Refused unless the account that asks now may run `sql`."""
    _file(SQLLAB if in_lab else SERVING).judge(granted(in_lab)).check(sql)


def serving_version(table: str | None = None) -> str:
    """Changes whenever another serving file is in force; of a table (schema.name) in it, only when that table is another one."""
    try:
        version = _version(SERVING)
    except OSError:
        return "none"
    if table is None:
        return version
    snapshot = _snapshots(os.path.realpath(SERVING), version).get(table)
    return version if snapshot is None else f"{table}@{snapshot}"


@functools.lru_cache(maxsize=4)
def _snapshots(path: str, version: str) -> dict[str, int]:
    """Snapshot of each table of the serving file; nothing of a file that does not say."""
    try:
        return dict(_file(SERVING).cursor().execute(f"SELECT name, snapshot_id FROM {sql_guard.ALIAS}.main.served_table").fetchall())
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
