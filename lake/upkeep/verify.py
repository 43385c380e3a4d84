"""The data files as they lie against what the catalog says of them: there, of the size, readable, with the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from lake.identity import META, quoted
from tnmt.settings import Settings

_AT_ONCE = 200


@dataclass(frozen=True)
class DataFile:
    """A file that the catalog names; `rows` of a delete file are the rows that it deletes."""

    table: str
    path: str
    bytes: int
    rows: int
    current: bool


@dataclass(frozen=True)
class Damage:
    """A file that is not as the catalog says; its text names table and file."""

    table: str
    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.table}: {self.path}: expected {self.expected}, found {self.found}"


def data_files(con: duckdb.DuckDBPyConnection, settings: Settings, table: str | None = None) -> list[DataFile]:
    """Every file that some snapshot refers to, of one table (`schema.name`) or of all, in the order of their names."""
    part = " UNION ALL ".join(
        f"""
        SELECT s.schema_name || '.' || t.table_name AS tbl,
            CASE WHEN NOT f.path_is_relative THEN f.path
                 ELSE CASE WHEN NOT t.path_is_relative THEN '' WHEN NOT s.path_is_relative THEN s.path ELSE $1 || s.path END || t.path || f.path END AS path,
            f.file_size_bytes AS bytes, {rows} AS n, f.end_snapshot IS NULL AS current
        FROM {META}.{kind} AS f
        JOIN {META}.ducklake_table AS t ON f.table_id = t.table_id AND (t.end_snapshot IS NULL OR f.begin_snapshot < t.end_snapshot) AND f.begin_snapshot >= t.begin_snapshot
        JOIN {META}.ducklake_schema AS s ON t.schema_id = s.schema_id"""
        for kind, rows in (("ducklake_data_file", "f.record_count"), ("ducklake_delete_file", "f.delete_count"))
    )
    rows = con.execute(
        f"SELECT DISTINCT ON (path) tbl, path, bytes, n, current FROM ({part}) WHERE $2::VARCHAR IS NULL OR tbl = $2 ORDER BY path",
        [settings.data_path, table],
    ).fetchall()
    return [DataFile(*row) for row in rows]


def damage(con: duckdb.DuckDBPyConnection, settings: Settings, files: Iterable[DataFile]) -> Iterator[Damage]:
    """What is wrong with these files: missing, of another size, a footer that cannot be read, other rows."""
    local = not settings.on_s3
    every = list(files)
    for some in (every[n : n + _AT_ONCE] for n in range(0, len(every), _AT_ONCE)):
        readable: list[DataFile] = []
        for file in some:
            found = _on_disk(file) if local else None
            if found is None:
                readable.append(file)
            else:
                yield Damage(file.table, file.path, f"{file.bytes} bytes", found)
        yield from _footers(con, readable)


def _on_disk(file: DataFile) -> str | None:
    """What is wrong with the size, or None."""
    try:
        size = Path(file.path).stat().st_size
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return str(error)
    return None if size == file.bytes else f"{size} bytes"


def _footers(con: duckdb.DuckDBPyConnection, files: list[DataFile]) -> Iterator[Damage]:
    if not files:
        return
    try:
        names = ", ".join(quoted(f.path) for f in files)
        counted = dict(con.execute(f"SELECT file_name, num_rows FROM parquet_file_metadata([{names}])").fetchall())
    except duckdb.Error as error:
        if len(files) == 1:
            yield Damage(files[0].table, files[0].path, "a Parquet file", str(error).splitlines()[0])
        else:
            for file in files:
                yield from _footers(con, [file])
        return
    for file in files:
        if counted.get(file.path) != file.rows:
            yield Damage(file.table, file.path, f"{file.rows} rows", f"{counted.get(file.path)} rows")


def sample(files: list[DataFile], most: int, night: int) -> list[DataFile]:
    """So many of the files, others each night, so that all of them have their turn."""
    if len(files) <= most:
        return files
    start = night * most % len(files)
    return (files + files)[start : start + most]


def keys_twice(con: duckdb.DuckDBPyConnection, table: str, key: Iterable[str]) -> int:
    """How many keys stand more than once in `schema.table`; 0 where there is no such table."""
    columns = ", ".join(f'"{c}"' for c in key)
    try:
        return int(con.execute(f"SELECT count(*) FROM (SELECT 1 FROM lake.{table} GROUP BY {columns} HAVING count(*) > 1)").fetchall()[0][0])
    except duckdb.CatalogException:
        return 0


def without_delivery(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """{table: rows that name no delivery of the ledger} of the clean and quarantine tables; tables without such rows are left out."""
    found = {}
    for schema, table, column in con.execute(
        "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake' AND "
        "(schema_name = 'clean' AND column_name = '_delivery_id' OR schema_name IN ('quarantine', 'quarantine_closed') AND column_name = 'delivery_id') ORDER BY ALL"
    ).fetchall():
        count = con.execute(
            f'SELECT count(*) FROM lake.{schema}."{table}" AS t WHERE NOT EXISTS (SELECT 1 FROM lake.ops.landed AS l WHERE l.delivery_id = t.{column})'
        ).fetchall()[0][0]
        if count:
            found[f"{schema}.{table}"] = int(count)
    return found
