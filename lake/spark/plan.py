"""What Spark has to read for one table at one snapshot: asked of the lake's catalog, without Java.

The plan names data files, delete files, and the columns as they were. What Spark could not read to the very rows that DuckDB
reads is refused with a reason (`Reason`); nothing is left out silently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import duckdb

from lake.lake import LakeError, open_reader
from tnmt.settings import Settings

CATALOG = "__ducklake_metadata_lake"
"""Name under which DuckLake attaches the catalog of `lake`, SQLite or PostgreSQL."""


class Reason(StrEnum):
    """Why a table is not read."""

    NO_TABLE = "no_table"
    SNAPSHOT_UNKNOWN = "snapshot_unknown"
    SNAPSHOT_EXPIRED = "snapshot_expired"
    INLINED_ROWS = "inlined_rows"
    INLINED_DELETES = "inlined_deletes"
    ENCRYPTED_FILE = "encrypted_file"
    FILE_FORMAT = "file_format"
    ADDED_FILE = "added_file"
    FILE_NAME = "file_name"
    FILE_MISSING = "file_missing"
    COLUMN_TYPE = "column_type"
    INFINITE_TIME = "infinite_time"


class Refused(LakeError):
    """The table cannot be read rightly by Spark; `reason` names why, the text says what to do."""

    def __init__(self, reason: Reason, text: str) -> None:
        """`text` says what is refused and what to do."""
        super().__init__(f"{text} [{reason}]")
        self.reason = reason


SPARK_TYPES = {
    "boolean": "boolean",
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "uint8": "smallint",
    "uint16": "int",
    "uint32": "bigint",
    "float32": "float",
    "float64": "double",
    "varchar": "string",
    "json": "string",
    "blob": "binary",
    "date": "date",
    "timestamp": "timestamp_ntz",
    "timestamptz": "timestamp_ltz",  # "timestamp" would be the one without zone, by the session's setting
    "geometry": "binary",
}
"""Spark's type for DuckLake's; `decimal(p,s)` is the same in both. What is not here (nested, uuid, time, hugeint …) is refused:
DuckDB writes it in a form that Spark reads otherwise or not at all."""

_TIMES = ("date", "timestamp", "timestamptz")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
_FLOATS = ("float32", "float64")
_LITERALS: dict[str, tuple[str, tuple[type, ...]]] = {
    **dict.fromkeys(_INTEGERS, ("BIGINT", (int,))),
    "float32": ("FLOAT", (float,)),
    "float64": ("DOUBLE", (float,)),
    "decimal": ("DECIMAL", (Decimal, int)),
    "varchar": ("VARCHAR", (str,)),
    "date": ("DATE", (date,)),
    "timestamp": ("TIMESTAMP", (datetime,)),
}
"""What a predicate may compare: type of the column, SQL type of its bounds, and the Python types that compare exactly with it."""

_LONG_TEXT = 250
"""Bytes from which a text bound may have been cut: DuckLake keeps 256, and a cut upper bound lies below the true one."""

_EXCLUDES = {"=": "{lo} > ? OR {hi} < ?", "<": "{lo} >= ?", "<=": "{lo} > ?", ">": "{hi} <= ?", ">=": "{hi} < ?"}
"""When no row of a file with bounds lo and hi can satisfy `column OP ?`."""

Predicate = tuple[str, str, Any]
"""Column, one of = < <= > >=, and a value of the column's own kind."""


@dataclass(frozen=True)
class Column:
    """A column as it was at the snapshot. `id` is its Parquet field id, `default` what files older than the column hold for it, as text."""

    id: int
    name: str
    type: str
    default: str | None

    @property
    def spark_type(self) -> str:
        """Its type in Spark's DDL; geometry is still WKB."""
        return self.type if self.type.startswith("decimal(") else SPARK_TYPES[self.type]


@dataclass(frozen=True)
class DeleteFile:
    """Positions deleted from one data file. `later`: it also holds deletes made after the snapshot, told apart by their row's snapshot id."""

    path: str
    rows: int
    later: bool


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of the table. `later`: compaction put rows of later snapshots into it; `lacks`: columns it is older than, that have a default."""

    path: str
    rows: int
    later: bool
    deletes: DeleteFile | None
    lacks: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All that Spark needs. `columns` are those asked for, then those that only `where` needs; `total` counts the files before pruning."""

    table: str
    snapshot: int
    columns: tuple[Column, ...]
    wanted: tuple[str, ...]
    where: tuple[Predicate, ...]
    files: tuple[DataFile, ...]
    total: int


def plan(
    lake: Settings | duckdb.DuckDBPyConnection,
    table: str,
    *,
    snapshot: int | None = None,
    columns: Sequence[str] | None = None,
    where: Sequence[Predicate] = (),
) -> Plan:
    """Plans the read of `schema.table` at `snapshot` (the newest unless named).

    `lake` is where the lake is, or a connection of `open_reader`: opening one takes 0.3 s, a plan of a few files 0.05 s.
    `columns` picks columns (all unless named). `where` are predicates that all must hold; files whose statistics exclude one are left
    out, and the reader still applies them to rows. Raises Refused, or ValueError for a wrong column, operator or kind of value.
    """
    with open_reader(lake) if isinstance(lake, Settings) else lake.cursor() as con:
        con.execute("BEGIN")  # one catalog transaction: every question below is answered from the same state
        return Planner(con, table, snapshot).plan(columns, where)


def _int(value: int | None) -> int:
    return int(value or 0)


class Planner:
    """One table at one snapshot over an open connection, in six questions to the catalog however many files there are."""

    def __init__(self, con: duckdb.DuckDBPyConnection, table: str, snapshot: int | None) -> None:
        """Finds `schema.table` at the snapshot, the newest where none is named."""
        self.con = con
        self.table = table
        self.snapshot = self._snapshot(snapshot)
        self.id, self.folder, self.schema_folder, self.root = self._find()

    def plan(self, columns: Sequence[str] | None, where: Sequence[Predicate]) -> Plan:
        """See the function `plan`."""
        known = self._columns()
        wanted = tuple(columns) if columns is not None else tuple(known)
        needed = tuple(dict.fromkeys((*wanted, *(p[0] for p in where))))
        if unknown := [n for n in needed if n not in known]:
            raise ValueError(f"{self.table} has no column {', '.join(unknown)} at snapshot {self.snapshot}; it has {', '.join(known)}")
        if not wanted:
            raise ValueError("at least one column must be read")
        picked = tuple(known[n] for n in needed)
        for c in picked:
            if c.type not in SPARK_TYPES and not c.type.startswith("decimal("):
                raise Refused(
                    Reason.COLUMN_TYPE,
                    f"{self.table}.{c.name} is of type {c.type}, which Spark would not read as DuckDB does; name the columns to read without it",
                )
        self._nothing_inlined()
        files, total = self._files(picked, where)
        return Plan(self.table, self.snapshot, picked, wanted, tuple(where), files, total)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.con.execute(statement, list(values)).fetchall()

    def _live(self, alias: str) -> str:
        n = self.snapshot
        return f"{alias}.begin_snapshot <= {n} AND ({alias}.end_snapshot IS NULL OR {alias}.end_snapshot > {n})"

    def _snapshot(self, asked: int | None) -> int:
        newest, kept = self._rows(f"SELECT max(snapshot_id), count(*) FILTER (snapshot_id = ?) FROM {CATALOG}.ducklake_snapshot", [asked])[0]
        if asked is None:
            return int(newest)
        if asked < 0 or asked > newest:
            raise Refused(Reason.SNAPSHOT_UNKNOWN, f"the lake has no snapshot {asked}; the newest is {newest}")
        if not kept:
            raise Refused(
                Reason.SNAPSHOT_EXPIRED,
                f"snapshot {asked} has expired and its files may be gone; read a snapshot that is kept, and pin what must stay",
            )
        return asked

    def _find(self) -> tuple[int, tuple[str, bool], tuple[str, bool], str]:
        schema, _, name = self.table.partition(".")
        found = self._rows(
            f"""
            SELECT t.table_id, t.path, CAST(t.path_is_relative AS BOOLEAN), s.path, CAST(s.path_is_relative AS BOOLEAN),
                (SELECT value FROM {CATALOG}.ducklake_metadata WHERE key = 'data_path' AND scope IS NULL)
            FROM {CATALOG}.ducklake_table AS t JOIN {CATALOG}.ducklake_schema AS s ON t.schema_id = s.schema_id
            WHERE s.schema_name = ? AND t.table_name = ? AND {self._live("t")} AND {self._live("s")}""",
            [schema, name],
        )
        if not found:
            raise Refused(Reason.NO_TABLE, f"there is no table {self.table} at snapshot {self.snapshot} (a view is read by the tables below it)")
        table_id, path, relative, schema_path, schema_relative, root = found[0]
        return int(table_id), (path, relative), (schema_path, schema_relative), root

    def _columns(self) -> dict[str, Column]:
        return {
            name: Column(int(i), name, kind.lower(), default)
            for i, name, kind, default in self._rows(
                f"""
                SELECT column_id, column_name, column_type, initial_default FROM {CATALOG}.ducklake_column AS c
                WHERE table_id = {self.id} AND parent_column IS NULL AND {self._live("c")} ORDER BY column_order"""
            )
        }

    def _nothing_inlined(self) -> None:
        """Rows and deletes that stand in the catalog itself are in no file."""
        n = self.snapshot
        asked = {
            f"{CATALOG}.{name} AS i WHERE {self._live('i')}": (Reason.INLINED_ROWS, "rows")
            for (name,) in self._rows(f"SELECT table_name FROM {CATALOG}.ducklake_inlined_data_tables WHERE table_id = {self.id}")
        }
        asked[f"{CATALOG}.ducklake_inlined_delete_{self.id} WHERE begin_snapshot <= {n}"] = (Reason.INLINED_DELETES, "deletes")
        for source, (reason, what) in asked.items():
            try:
                count = self._rows(f"SELECT count(*) FROM {source}")[0][0]
            except duckdb.CatalogException:
                if reason is Reason.INLINED_DELETES:  # DuckLake makes this table with the first such delete, and lists it nowhere
                    continue
                raise
            if count:
                raise Refused(
                    reason,
                    f"{self.table} has {count} {what} inlined in the catalog at snapshot {n}; "
                    "CALL ducklake_flush_inlined_data('lake') writes them to files, readable from that snapshot on",
                )

    def _path(self, path: str, relative: bool) -> str:
        """The full path of a file of this table."""
        for part, is_relative in (self.folder, self.schema_folder, (self.root, False)):
            if not relative:
                break
            path, relative = part.rstrip("/") + "/" + path, is_relative
        if re.search(r"[][{}*?\\]", path) or not re.fullmatch(r"[\w.-]+", path.rsplit("/", 1)[-1]):
            raise Refused(Reason.FILE_NAME, f"{path}: Spark would take this name for a pattern; keep the lake under a path without []{{}}*?\\")
        return path

    def _files(self, columns: Sequence[Column], where: Sequence[Predicate]) -> tuple[tuple[DataFile, ...], int]:
        by_name = {c.name: c for c in columns}
        defaults = {c.id: c.name for c in columns if c.default is not None}
        times = [c.id for c in columns if c.type in _TIMES]
        excluded, values = ["false"], []
        for name, op, value in where:
            condition, count = _excludes(by_name[name], op, value)
            excluded.append(condition)
            values += [value] * count
        rows = self._rows(
            f"""
            WITH s AS (
                SELECT data_file_id,
                    list(column_id) FILTER ({_among(defaults)}) AS present,
                    coalesce(bool_or({_among(times)} AND (min_value = '-infinity' OR max_value = 'infinity')), false) AS infinite,
                    coalesce(bool_or({" OR ".join(excluded)}), false) AS excluded
                FROM {CATALOG}.ducklake_file_column_stats WHERE table_id = {self.id} AND {_among([c.id for c in columns])}
                GROUP BY data_file_id
            )
            SELECT f.data_file_id, f.path, CAST(f.path_is_relative AS BOOLEAN), f.record_count, f.partial_max, f.file_format, f.encryption_key, f.mapping_id,
                d.path, CAST(d.path_is_relative AS BOOLEAN), d.delete_count, d.partial_max, d.format, d.encryption_key,
                s.present, s.infinite, s.excluded
            FROM (FROM {CATALOG}.ducklake_data_file AS f WHERE f.table_id = {self.id} AND {self._live("f")}) AS f
            LEFT JOIN (FROM {CATALOG}.ducklake_delete_file AS d WHERE d.table_id = {self.id} AND {self._live("d")}) AS d ON f.data_file_id = d.data_file_id
            LEFT JOIN s ON f.data_file_id = s.data_file_id
            ORDER BY f.data_file_id""",
            values,
        )
        files, names = [], set()
        for _id, path, relative, count, partial, kind, key, mapping, *deleted, present, infinite, out in rows:
            if out:
                continue
            file = self._path(path, relative)
            if kind != "parquet" or (deleted[0] is not None and deleted[4] != "parquet"):
                raise Refused(Reason.FILE_FORMAT, f"{file} is {kind}, its deletes are {deleted[4]}: only Parquet is read")
            if key or deleted[5]:
                raise Refused(Reason.ENCRYPTED_FILE, f"{file} is encrypted, and Spark has no key of DuckLake's; read the table with DuckDB")
            if mapping is not None:
                raise Refused(
                    Reason.ADDED_FILE,
                    f"{file} was written elsewhere and added by its column names, without field ids; copy its rows into a table",
                )
            if infinite:
                raise Refused(
                    Reason.INFINITE_TIME,
                    f"{file} holds 'infinity' in a column of dates or times, which Spark has not; name the columns to read without it",
                )
            delete = DeleteFile(self._path(deleted[0], deleted[1]), _int(deleted[2]), _int(deleted[3]) > self.snapshot) if deleted[0] else None
            lacks = tuple(name for i, name in defaults.items() if i not in (present or ()))
            files.append(DataFile(file, _int(count), _int(partial) > self.snapshot, delete, lacks))
            names |= {file.rsplit("/", 1)[-1], *([delete.path.rsplit("/", 1)[-1]] if delete else [])}
        if len(names) != len(files) + sum(f.deletes is not None for f in files):
            raise Refused(Reason.FILE_NAME, f"{self.table}: two files of the table have the same name, or a file has two delete files")
        return tuple(files), len({r[0] for r in rows})


def _among(ids: Sequence[int] | dict[int, str]) -> str:
    return f"column_id IN ({', '.join(map(str, ids))})" if ids else "false"


def _excludes(column: Column, op: str, value: Any) -> tuple[str, int]:
    """Condition on a row of statistics under which its file holds no row with `column op value`, and how often the value is bound in it."""
    if op not in _EXCLUDES:
        raise ValueError(f"a predicate compares with one of {', '.join(_EXCLUDES)}, not {op}")
    kind = column.type.partition("(")[0]
    if kind not in _LITERALS:
        raise ValueError(f"{column.name} is of type {column.type}, which predicates do not compare; filter the rows instead")
    sql_type, fits = _LITERALS[kind]
    if type(value) not in fits or (isinstance(value, datetime) and value.tzinfo is not None):
        raise ValueError(
            f"{column.name} is of type {column.type}: it compares with {' or '.join(t.__name__ for t in fits)} without zone, not with {value!r}"
        )
    if kind == "decimal":
        sql_type = column.type
    hi = f"TRY_CAST(max_value AS {sql_type})"
    if kind in _FLOATS:
        # NaN is the greatest value to both engines, and is not part of the bounds
        hi = f"CASE WHEN CAST(contains_nan AS BOOLEAN) IS FALSE THEN {hi} END"
    if kind == "varchar":
        hi = f"CASE WHEN strlen(max_value) < {_LONG_TEXT} THEN max_value END"
    condition = _EXCLUDES[op].format(lo=f"TRY_CAST(min_value AS {sql_type})", hi=hi)
    return f"(column_id = {column.id} AND coalesce({condition}, false))", condition.count("?")
