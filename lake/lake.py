"""Opening and creating the lake. Nothing outside this package knows that storage is DuckLake."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import duckdb

from lake.extensions import OBJECT_STORAGE, link_extensions
from lake.identity import MARKER, META, LakeError, check_home, data_found, lake_id, lost, mark, marked, quoted, same_lake
from lake.lock import BUILD, UPKEEP, WRITER, advisory_holder, advisory_lock, holder, writer_lock
from tnmt.settings import Settings

__all__ = ["LakeError", "quoted"]

SCHEMA_SQL = Path(__file__).parent / "schema.sql"
"""The tables that the path itself needs; to be run any number of times."""

RULES_SQL = SCHEMA_SQL.with_name("rules.sql")
"""Macros `lake.ops.…` of rules that Python and dbt both ask; to be run any number of times."""

SCHEMAS = (
    "raw",
    "clean",
    "quarantine",
    "ops",
    "reference",
    "staging",
    "intermediate",
    "marts_core",
    "marts_environment",
    "marts_land",
    "marts_scans",
    "marts_procedures",
    "marts_programme",
    "marts_operations",
)
CLOSED_SCHEMAS = ("raw_closed", "typed_closed", "quarantine_closed")
"""Personal data: their folders are readable by the pipeline's user alone."""

OPTIONS = {
    # set before any view exists: set_option after that crashes DuckDB 1.5.5
    "parquet_compression": "'zstd'",
    "data_inlining_row_limit": "0",  # inlined increments are 25 x slower, and invisible to Spark
    "sort_on_insert": "false",  # compaction sorts; sorting at insert costs 10 x
    "rewrite_delete_threshold": "0.0",  # else files with few deletes are never compacted
    "delete_older_than": "'1 day'",  # expire_older_than stays unset: it would drop pinned snapshots
}


ZONE = "Etc/GMT-7"
"""The zone of every session: GMT+7 (POSIX counts the other way round). Stamps with a zone are read and shown in it, on whichever machine."""

_KNOWN: set[tuple[str, str]] = set()
"""(home, catalog) whose right to write this process has checked."""


def duck(settings: Settings) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that takes its extensions from the wheels, without the lake."""
    spill = settings.home / "tmp"
    try:
        spill.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LakeError(
            f"{settings.home} cannot be used as home of a platform: {error}. Check TNMT_HOME, and that its user may write there"
        ) from None
    con = duckdb.connect(
        config={
            "threads": settings.threads,
            "memory_limit": settings.memory_limit,
            "temp_directory": str(spill),
            "extension_directory": str(settings.extensions),
            "autoinstall_known_extensions": "false",
            "preserve_insertion_order": "false",
        }
    )
    con.execute(f"SET GLOBAL TimeZone = '{ZONE}'")  # a cursor of it too
    return con


def _object_storage(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Lets the connection into the bucket of the lake. The secret lives as long as the connection, and is written nowhere."""
    if settings.s3_key_id is None or settings.s3_secret is None:
        raise LakeError(f"the lake lies in {settings.data_path}: expected TNMT_S3_KEY_ID and TNMT_S3_SECRET, found one or both unset; set them")
    link_extensions(settings.extensions, OBJECT_STORAGE)
    con.execute("LOAD httpfs")
    options = {
        "KEY_ID": quoted(settings.s3_key_id.get_secret_value()),
        "SECRET": quoted(settings.s3_secret.get_secret_value()),
        "REGION": quoted(settings.s3_region),
        "SCOPE": quoted("/".join(settings.data_path.split("/")[:3])),
    }
    if settings.s3_endpoint:
        scheme, _, address = settings.s3_endpoint.partition("://")
        options |= {"ENDPOINT": quoted(address), "URL_STYLE": "'path'", "USE_SSL": str(scheme == "https").lower()}
    try:
        con.execute(f"CREATE OR REPLACE TEMPORARY SECRET lake_data (TYPE s3, {', '.join(f'{k} {v}' for k, v in options.items())})")
    except duckdb.Error:  # its text may quote the statement
        raise LakeError("DuckDB refused the settings TNMT_S3_…; check the address, the region and the keys") from None


def _attach(
    con: duckdb.DuckDBPyConnection, settings: Settings, *, read_only: bool, snapshot: int | None = None, make: bool = False, moved: bool = False
) -> None:
    """Attaches the lake as `lake`. Only `make` makes a catalog where there is none, and never beside data that it would not know."""
    if settings.on_s3:
        _object_storage(con, settings)
    statement = _attach_statement(settings, read_only=read_only, snapshot=snapshot)
    try:
        if _has_catalog(settings):
            con.execute(statement)
            return
    except duckdb.Error as error:
        text = str(error)
        if "does not match existing data path" in text:
            _relocate(con, settings, moved=moved)
            con.execute(statement)
            return
        if "creating a new DuckLake is explicitly disabled" not in text:
            message = text.replace(_dsn(settings) or "\0", "…").splitlines()[0]
            todo = "Put it back from its backup (docs/production.md)" if settings.is_sqlite else "Check TNMT_CATALOG and that its server answers"
            raise LakeError(f"the catalog of the lake cannot be opened: {message}. {todo}") from None
    found = data_found(con, settings)
    if found.files:
        raise lost(settings, found)
    if not make:
        raise LakeError(f"there is no lake under {settings.home}; make one with `tnmt init`")
    con.execute(_attach_statement(settings, read_only=False, make=True))


def _attach_statement(settings: Settings, *, read_only: bool, snapshot: int | None = None, make: bool = False, elsewhere: bool = False) -> str:
    options = [f"DATA_PATH {quoted(settings.data_path)}", "DATA_INLINING_ROW_LIMIT 0"]
    if settings.is_sqlite:
        # WAL is what lets readers go on beside the writer; see docs/decisions.md
        options += ["META_JOURNAL_MODE 'WAL'", "META_BUSY_TIMEOUT 30000"]
    if not make:
        options.append("CREATE_IF_NOT_EXISTS false")
    if elsewhere:
        options.append("OVERRIDE_DATA_PATH true")
    if read_only:
        options.append("READ_ONLY")
    if snapshot is not None:
        options.append(f"SNAPSHOT_VERSION {int(snapshot)}")
    return f"ATTACH {quoted(settings.attach)} AS lake ({', '.join(options)})"


def _relocate(con: duckdb.DuckDBPyConnection, settings: Settings, *, moved: bool) -> None:
    """Writes the new data path into a catalog that was moved together with its data; raises LakeError where they are not its own.

    A catalog on a server is moved by `tnmt init --moved` only: the home that it belongs to may still be at work.
    """
    con.execute(_attach_statement(settings, read_only=not (moved or settings.is_sqlite), elsewhere=True))
    try:
        old = con.execute(f"SELECT value FROM {META}.ducklake_metadata WHERE key = 'data_path' AND scope IS NULL").fetchall()[0][0]
        if not (moved or settings.is_sqlite):
            raise LakeError(
                f"the data of this lake lie in {old}, but this home looks for them in {settings.data_path}: set TNMT_DATA={old}, or, if the folder was moved "
                f"for good, stop what writes and run `tnmt init --moved`"
            )
        if not same_lake(con, settings):
            raise LakeError(
                f"the catalog was made for data in {old}, and what lies in {settings.data_path} is not of the same lake ({MARKER} beside the data: "
                f"{marked(con, settings) or 'none'}, expected {lake_id(con)}). Move the data there too, or set TNMT_DATA to where they are"
            )
        _set_data_path(con, settings)
    finally:
        con.execute("DETACH lake")


def _set_data_path(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    con.execute(f"UPDATE {META}.ducklake_metadata SET value = ? WHERE key = 'data_path' AND scope IS NULL", [settings.data_path])


def _has_catalog(settings: Settings) -> bool:
    path = settings.lake_dir / "catalog.sqlite"
    return not settings.is_sqlite or (path.exists() and path.stat().st_size > 0)


def no_lake(settings: Settings) -> LakeError:
    """The words where there is no lake: to make one, or, where data lie without their catalog, to put that back."""
    if settings.home.exists():
        with duck(settings) as con:
            if settings.on_s3:
                _object_storage(con, settings)
            if (found := data_found(con, settings)).files:
                return lost(settings, found)
    return LakeError(f"there is no lake under {settings.home}; make one with `tnmt init`")


def exists(settings: Settings) -> bool:
    """Whether an embedded lake was made (a PostgreSQL catalog answers for itself at attach)."""
    return _has_catalog(settings)


def open_reader(settings: Settings, *, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that reads the lake, as of `snapshot` where one is named. Attached as `lake`."""
    if not exists(settings):
        raise no_lake(settings)
    con = duck(settings)
    try:
        _attach(con, settings, read_only=True, snapshot=snapshot)
    except BaseException:
        con.close()
        raise
    return con


@contextmanager
def open_writer(settings: Settings, purpose: str, *, spatial: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """The one writing connection of this process, under the writer lock. Attached as `lake`.

    `spatial` loads the functions on geometry, which takes 0.15 s; columns of that type need none.
    """
    if not exists(settings):
        raise no_lake(settings)
    with lock(settings, purpose):
        con = attach_writer(settings, spatial=spatial)
        try:
            may_write(con, settings)
            yield con
        finally:
            con.close()


def attach_writer(settings: Settings, *, spatial: bool = True) -> duckdb.DuckDBPyConnection:
    """A connection that can write, attached as `lake`: for upkeep, which takes the lock for one table at a time."""
    con = duck(settings)
    try:
        if spatial:
            con.execute("LOAD spatial")
        con.execute("SET ducklake_max_retry_count = 100")
        _attach(con, settings, read_only=False)
    except BaseException:
        con.close()
        raise
    return con


def may_write(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Once in a process, under the lock: whether this home and its key are those of the catalog; an older lake gets the tables it lacks."""
    if (pair := (str(settings.home), settings.catalog)) not in _KNOWN:
        _bring_up(con)
        check_home(con, settings)
        _KNOWN.add(pair)


@contextmanager
def lock(settings: Settings, purpose: str) -> Iterator[None]:
    """The writer lock of this lake, for a step that writes through another program: on a PostgreSQL catalog it spans hosts."""
    with writer_lock(settings.lake_dir / "writer.lock", purpose, settings.lock_timeout):
        if settings.is_sqlite:
            yield
        else:
            with advisory_lock(_dsn(settings), WRITER, purpose, settings.lock_timeout):
                yield


@contextmanager
def build_lock(settings: Settings, purpose: str) -> Iterator[None]:
    """Held by a dbt build. On SQLite it is the writer lock; on PostgreSQL increments go on beside it, another build and upkeep do not.

    dbt opens the lake for itself: one of an older version gets here what this version's models ask of it.
    """
    if exists(settings):
        with open_reader(settings) as con:
            older = not _is_brought_up(con)
        if older:
            create(settings)
    if settings.is_sqlite:
        with lock(settings, purpose):
            yield
    else:
        with (
            advisory_lock(_dsn(settings), BUILD, purpose, settings.lock_timeout),
            advisory_lock(_dsn(settings), UPKEEP, purpose, settings.lock_timeout, shared=True),
        ):
            yield


@contextmanager
def writer_in_build(settings: Settings, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """`open_writer` for who holds the `build_lock`: on SQLite that is the writer lock already. To be closed before dbt starts."""
    with nullcontext() if settings.is_sqlite else lock(settings, purpose):
        con = attach_writer(settings, spatial=False)
        try:
            may_write(con, settings)
            yield con
        finally:
            con.close()


@contextmanager
def upkeep_lock(settings: Settings, purpose: str) -> Iterator[None]:
    """Held by maintenance while it works on one table: nobody else writes."""
    if settings.is_sqlite:
        with lock(settings, purpose):
            yield
    else:
        with advisory_lock(_dsn(settings), UPKEEP, purpose, settings.lock_timeout), lock(settings, purpose):
            yield


def lock_holder(settings: Settings) -> dict[str, str] | None:
    """Who writes (pid, purpose, since), on this host or another, or None where nobody does."""
    if (found := holder(settings.lake_dir / "writer.lock")) or settings.is_sqlite:
        return found
    import psycopg

    with suppress(psycopg.Error), psycopg.connect(_dsn(settings), autocommit=True, connect_timeout=10) as con:
        return advisory_holder(con, WRITER) or advisory_holder(con, BUILD) or advisory_holder(con, UPKEEP)
    return None


def _dsn(settings: Settings) -> str:
    return settings.catalog.partition(":")[2]


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One lake transaction: commits at the end of the block, rolls back on any error."""
    con.execute("BEGIN")
    try:
        yield
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


def create(settings: Settings, *, join: bool = False, moved: bool = False) -> None:
    """Makes the lake where it is missing: folders, options, schemas and the tables of `schema.sql`. Idempotent.

    Raises LakeError where data lie without a catalog that knows them. `join` and `moved` are of a catalog that another home
    has written into (`lake.identity.check_home`).
    """
    try:
        _folders(settings)
    except OSError as error:
        raise LakeError(
            f"{settings.home} cannot be used as home of a platform: {error}. Check TNMT_HOME, and that its user may write there"
        ) from None
    link_extensions(settings.extensions)
    with lock(settings, "init"):
        con = duck(settings)
        try:
            con.execute("LOAD spatial")
            _attach(con, settings, read_only=False, make=True, moved=moved)
            present = {row[0] for row in con.execute("SELECT schema_name FROM information_schema.schemata WHERE catalog_name = 'lake'").fetchall()}
            if "ops" not in present:
                for name, value in OPTIONS.items():
                    con.execute(f"CALL lake.set_option('{name}', {value})")
            for schema in (*SCHEMAS, *CLOSED_SCHEMAS):
                if schema not in present:
                    con.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{schema}")
            _bring_up(con)
            _lay_out(con)
            check_home(con, settings, join=join, moved=moved)
            _mark(con, settings)
        finally:
            con.close()


def _bring_up(con: duckdb.DuckDBPyConnection) -> None:
    """Makes what the lake lacks of `schema.sql` and `rules.sql`, once for each text of them: a lake of an older version needs no command."""
    if not _is_brought_up(con):
        con.execute(SCHEMA_SQL.read_text(encoding="utf-8"))
        con.execute(RULES_SQL.read_text(encoding="utf-8"))
        con.execute("INSERT INTO lake.ops.layout_done VALUES (?)", [_layout()])


def _layout() -> str:
    texts = b"".join(path.read_bytes() for path in (SCHEMA_SQL, RULES_SQL))
    return f"schema.sql {hashlib.sha256(texts).hexdigest()[:12]}"


def _is_brought_up(con: duckdb.DuckDBPyConnection) -> bool:
    try:
        return bool(con.execute("SELECT 1 FROM lake.ops.layout_done WHERE table_name = ?", [_layout()]).fetchall())
    except duckdb.CatalogException:
        return False


def rules(con: duckdb.DuckDBPyConnection) -> str:
    """Where a statement on this connection finds the macros of `rules.sql`: in `lake.ops`.

    A lake that no run of this version has written into has none, or older ones: then the connection gets them for itself.
    """
    if _is_brought_up(con):
        return "lake.ops"
    con.execute(RULES_SQL.read_text(encoding="utf-8").replace("MACRO lake.ops.", "MACRO memory.main."))
    return "memory.main"


def _folders(settings: Settings) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    for folder in (settings.inbox, settings.landing, settings.serving, settings.home / "contracts", settings.home / "suites"):
        folder.mkdir(parents=True, exist_ok=True)
    closed_folders = [settings.landing / "closed", settings.lake_dir]
    if "://" not in settings.data_path:
        closed_folders += [Path(settings.data_path) / name for name in CLOSED_SCHEMAS]
    for folder in closed_folders:
        # the catalog keeps the least and greatest value of every column, personal ones too: it is closed as a whole
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)


def _lay_out(con: duckdb.DuckDBPyConnection) -> None:
    """Partitions the tables that have a layout, each once."""
    tables = {
        f"{s}.{t}" for s, t in con.execute("SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'lake'").fetchall()
    }
    for table, statements in LAYOUT.items():
        if table in tables and not con.execute("SELECT 1 FROM lake.ops.layout_done WHERE table_name = ?", [table]).fetchall():
            for statement in statements:
                con.execute(f"ALTER TABLE lake.{table} {statement}")
            con.execute("INSERT INTO lake.ops.layout_done VALUES (?)", [table])


def _mark(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Puts the lake's marker beside its data, where none lies; raises LakeError where the data are not its own."""
    if (found := marked(con, settings)) == lake_id(con):
        return
    if data_found(con, settings).files and not (found is None and same_lake(con, settings)):
        raise LakeError(
            f"the files in {settings.data_path} are not those of this catalog ({MARKER} beside them: {found or 'none'}, expected {lake_id(con)}): "
            "put the catalog back that belongs to them (docs/production.md, Backup), or set TNMT_DATA to the lake's own folder"
        )
    mark(con, settings)


LAYOUT = {
    "raw.file": ("SET PARTITIONED BY (day)",),
    "raw_closed.file": ("SET PARTITIONED BY (day)",),
    "ops.landed": ("SET PARTITIONED BY (day)",),
    "ops.outcome": ("SET PARTITIONED BY (day)",),
    "ops.built": ("SET PARTITIONED BY (part)",),
}
"""How the tables that grow with the telemetry are laid out; a partition prunes the duplicate check to its days."""


def has_table(con: duckdb.DuckDBPyConnection, name: str, catalog: str = "lake") -> bool:
    """Whether the lake, or another attached catalog, has the table `schema.name`.

    Asks for it alone: to list the tables of any catalog DuckDB looks at all tables of the lake, 0.05 to 0.5 s.
    """
    try:
        con.execute(f"SELECT 1 FROM {catalog}.{name} LIMIT 0")
    except duckdb.CatalogException:
        return False
    return True


def next_publish(con: duckdb.DuckDBPyConnection) -> int:
    """The number (`seq`) of what is published next. `con` is the writing connection, in the transaction that publishes."""
    return int(con.execute("SELECT coalesce(max(seq), 0) + 1 FROM lake.ops.gate_result").fetchall()[0][0])


def columns_of(con: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> dict[str, dict[str, str]]:
    """{`schema.name`: {column: DuckDB type}} of those tables and views that the lake has, columns in their order."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in con.execute(
        "SELECT schema_name || '.' || table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = 'lake' AND list_contains(?, schema_name || '.' || table_name) ORDER BY column_index",
        [sorted(tables)],
    ).fetchall():
        found.setdefault(table, {})[column] = kind
    return found


def latest_snapshot(con: duckdb.DuckDBPyConnection) -> int:
    """Number of the newest snapshot."""
    return int(con.execute("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')").fetchall()[0][0])
