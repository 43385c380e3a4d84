"""Opening and creating the lake. Nothing outside this package knows that storage is DuckLake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb

from lake.extensions import OBJECT_STORAGE, link_extensions
from lake.lock import writer_lock
from tnmt.settings import Settings

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


class LakeError(Exception):
    """The lake cannot be opened or made; the text says what to do."""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def duck(settings: Settings) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that takes its extensions from the wheels, without the lake."""
    spill = settings.home / "tmp"
    spill.mkdir(parents=True, exist_ok=True)
    return duckdb.connect(
        config={
            "threads": settings.threads,
            "memory_limit": settings.memory_limit,
            "temp_directory": str(spill),
            "extension_directory": str(settings.extensions),
            "autoinstall_known_extensions": "false",
            "preserve_insertion_order": "false",
        }
    )


def _object_storage(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Lets the connection into the bucket of the lake. The secret lives as long as the connection, and is written nowhere."""
    if settings.s3_key_id is None or settings.s3_secret is None:
        raise LakeError(f"the lake lies in {settings.data_path}: expected TNMT_S3_KEY_ID and TNMT_S3_SECRET, found one or both unset; set them")
    link_extensions(settings.extensions, OBJECT_STORAGE)
    con.execute("LOAD httpfs")
    options = {
        "KEY_ID": _quoted(settings.s3_key_id.get_secret_value()),
        "SECRET": _quoted(settings.s3_secret.get_secret_value()),
        "REGION": _quoted(settings.s3_region),
        "SCOPE": _quoted("/".join(settings.data_path.split("/")[:3])),
    }
    if settings.s3_endpoint:
        scheme, _, address = settings.s3_endpoint.partition("://")
        options |= {"ENDPOINT": _quoted(address), "URL_STYLE": "'path'", "USE_SSL": str(scheme == "https").lower()}
    try:
        con.execute(f"CREATE OR REPLACE TEMPORARY SECRET lake_data (TYPE s3, {', '.join(f'{k} {v}' for k, v in options.items())})")
    except duckdb.Error:  # its text may quote the statement
        raise LakeError("DuckDB refused the settings TNMT_S3_…; check the address, the region and the keys") from None


def _attach(con: duckdb.DuckDBPyConnection, settings: Settings, *, read_only: bool, snapshot: int | None = None) -> None:
    options = [f"DATA_PATH {_quoted(settings.data_path)}", "DATA_INLINING_ROW_LIMIT 0"]
    if settings.is_sqlite:
        # WAL is what lets readers go on beside the writer; see docs/decisions.md
        options += ["META_JOURNAL_MODE 'WAL'", "META_BUSY_TIMEOUT 30000"]
    if read_only:
        options.append("READ_ONLY")
    if snapshot is not None:
        options.append(f"SNAPSHOT_VERSION {int(snapshot)}")
    if settings.on_s3:
        _object_storage(con, settings)
    try:
        con.execute(f"ATTACH {_quoted(settings.attach)} AS lake ({', '.join(options)})")
    except duckdb.Error as error:
        if not exists(settings):
            raise LakeError(f"there is no lake under {settings.home}; make one with `tnmt init`") from error
        text = str(error).replace(settings.catalog.partition(":")[2] or "\0", "…")
        raise LakeError(f"the catalog of the lake cannot be opened: {text.splitlines()[0]}. Check TNMT_CATALOG and that its server answers") from None


def exists(settings: Settings) -> bool:
    """Whether an embedded lake was made (a PostgreSQL catalog answers for itself at attach)."""
    return not settings.is_sqlite or (settings.lake_dir / "catalog.sqlite").exists()


def open_reader(settings: Settings, *, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that reads the lake, as of `snapshot` where one is named. Attached as `lake`."""
    if not exists(settings):
        raise LakeError(f"there is no lake under {settings.home}; make one with `tnmt init`")
    con = duck(settings)
    _attach(con, settings, read_only=True, snapshot=snapshot)
    return con


@contextmanager
def open_writer(settings: Settings, purpose: str, *, spatial: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """The one writing connection of this process, under the writer lock. Attached as `lake`.

    `spatial` loads the functions on geometry, which takes 0.15 s; columns of that type need none.
    """
    if not exists(settings):
        raise LakeError(f"there is no lake under {settings.home}; make one with `tnmt init`")
    with lock(settings, purpose):
        con = duck(settings)
        try:
            if spatial:
                con.execute("LOAD spatial")
            con.execute("SET ducklake_max_retry_count = 100")
            _attach(con, settings, read_only=False)
            yield con
        finally:
            con.close()


def lock(settings: Settings, purpose: str) -> AbstractContextManager[None]:
    """The writer lock of this lake, for a step that writes through another program (a dbt child)."""
    return writer_lock(settings.lake_dir / "writer.lock", purpose, settings.lock_timeout)


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


def create(settings: Settings) -> None:
    """Makes the lake where it is missing: folders, options, schemas and the tables of `schema.sql`. Idempotent."""
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
    link_extensions(settings.extensions)
    settings.token_key  # noqa: B018  # made now, while only this process runs
    with lock(settings, "init"):
        con = duck(settings)
        try:
            con.execute("LOAD spatial")
            _attach(con, settings, read_only=False)
            present = {row[0] for row in con.execute("SELECT schema_name FROM information_schema.schemata WHERE catalog_name = 'lake'").fetchall()}
            if "ops" not in present:
                for name, value in OPTIONS.items():
                    con.execute(f"CALL lake.set_option('{name}', {value})")
            for schema in (*SCHEMAS, *CLOSED_SCHEMAS):
                if schema not in present:
                    con.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{schema}")
            con.execute((Path(__file__).parent / "schema.sql").read_text(encoding="utf-8"))
            tables = {
                f"{s}.{t}"
                for s, t in con.execute("SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'lake'").fetchall()
            }
            for table, statements in LAYOUT.items():
                if table in tables and not con.execute("SELECT 1 FROM lake.ops.layout_done WHERE table_name = ?", [table]).fetchall():
                    for statement in statements:
                        con.execute(f"ALTER TABLE lake.{table} {statement}")
                    con.execute("INSERT INTO lake.ops.layout_done VALUES (?)", [table])
        finally:
            con.close()


LAYOUT = {
    "raw.file": ("SET PARTITIONED BY (day)",),
    "raw_closed.file": ("SET PARTITIONED BY (day)",),
    "ops.landed": ("SET PARTITIONED BY (day)",),
    "ops.outcome": ("SET PARTITIONED BY (day)",),
    "ops.built": ("SET PARTITIONED BY (part)",),
}
"""How the tables that grow with the telemetry are laid out; a partition prunes the duplicate check to its days."""


def has_table(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether the lake has the table `schema.name`. Asks for it alone: listing all of them takes 0.05 s."""
    try:
        con.execute(f"SELECT 1 FROM lake.{name} LIMIT 0")
    except duckdb.CatalogException:
        return False
    return True


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
