"""From Spark into the lake: rows are staged as Parquet, and one DuckDB transaction takes them in. What was staged is always removed.

DuckDB sorts, partitions, checks NOT NULL and commits, as for every other writer; a process that dies before the commit leaves the lake
as it was, and its staged files to the next `sweep`.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lake.faults import SPARK_COMMIT, reach
from lake.lake import LakeError, columns_of, latest_snapshot, open_reader, open_writer, transaction
from lake.spark.read import _quoted, _uri
from tnmt.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

STALE = timedelta(days=1)
"""Age from which something staged in an object store, where no lock tells whether its process lives, is left over."""


class SparkFailed(LakeError):
    """Spark did not compute or stage the rows; the lake is as it was."""


def staging_root(settings: Settings) -> str:
    """Where rows are staged: a folder of the platform, or a prefix beside the lake's data in an object store. Every node must reach it."""
    if settings.spark_staging:
        return settings.spark_staging.rstrip("/")
    if "://" in settings.data_path:
        return settings.data_path.rstrip("/") + "-staging"
    return str(settings.home / "tmp" / "spark" / "staging")


def sweep(settings: Settings) -> list[str]:
    """Removes what processes of this machine staged in a folder and that are no more; returns its names."""
    removed = []
    root = Path(staging_root(settings))
    for folder in sorted(root.glob("*")) if root.is_dir() else []:
        with (folder / ".lock").open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its process lives
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder.name)
    return removed


@contextmanager
def staging(spark: SparkSession, settings: Settings) -> Iterator[str]:
    """A place of this process for staged rows; gone at the end of the block, whatever ends it. Sweeps what others left."""
    root, name = staging_root(settings), uuid.uuid4().hex
    if "://" in root:
        store = _Store(spark, root)
        store.begin(name)
        try:
            yield f"{root}/{name}"
        finally:
            store.remove(name)
        return
    sweep(settings)
    folder = Path(root) / name
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Store:
    """Staging below a prefix of an object store, by Spark's own client."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        jvm = spark._jvm
        assert jvm is not None
        self.path = jvm.org.apache.hadoop.fs.Path
        self.root = _uri(root)
        self.files = self.path(self.root).getFileSystem(spark._jsc.hadoopConfiguration())

    def begin(self, name: str) -> None:
        """Marks the place with an object, and removes places whose mark is older than this one by STALE: no clock but the store's."""
        made = self._marked(name, make=True)
        for status in self.files.listStatus(self.path(self.root)):
            other = status.getPath().getName()
            if made - self._marked(other) > STALE.total_seconds() * 1000:
                self.remove(other)

    def remove(self, name: str) -> None:
        """Removes a place and all that is in it."""
        self.files.delete(self.path(f"{self.root}/{name}"), True)

    def _marked(self, name: str, *, make: bool = False) -> float:
        """When a place was marked, in milliseconds of the store's clock; infinity where it is just being made or removed."""
        mark = self.path(f"{self.root}/{name}/_begun")
        if make:
            self.files.create(mark).close()
        return float(self.files.getFileStatus(mark).getModificationTime()) if self.files.exists(mark) else float("inf")


def stage(df: DataFrame, place: str, types: Mapping[str, str]) -> str:
    """Writes the rows below `place` and returns the SELECT with which DuckDB reads them, as columns {name: DuckDB type} in that order.

    Raises SparkFailed where the columns are not those, or Spark cannot compute or write them.
    """
    from pyspark.sql import functions as F

    if missing := sorted({n.lower() for n in types} ^ {c.lower() for c in df.columns}):
        raise SparkFailed(
            f"expected the columns {', '.join(types)}, found {', '.join(df.columns)} of Spark: {', '.join(missing)} stand on one side only"
        )
    made = []
    found = {f.name.lower(): f.dataType.simpleString() for f in df.schema.fields}
    if wrong := [f"{c} {t} (Spark: {found[c.lower()]})" for c, t in types.items() if not _fits(found[c.lower()], t)]:
        raise SparkFailed(f"these columns are of another kind in Spark, and a cast would hide it: {', '.join(wrong)}")
    for column, kind in types.items():
        if kind.startswith("GEOMETRY"):
            value = F.expr(f"ST_AsBinary({_quoted(column)})")
        elif kind == "TIMESTAMP":  # Parquet would hold a moment otherwise, which DuckDB shifts by its own zone
            value = F.col(_quoted(column)).cast("timestamp_ntz")
        elif found[column.lower()] == "void":
            value = F.lit(None).cast("string")
        else:
            value = F.col(_quoted(column))
        made.append(value.alias(column))
    path = f"{place}/{uuid.uuid4().hex[:8]}"
    with explaining(place):
        df.select(*made).write.parquet(_uri(path))
    columns = ", ".join(
        f"ST_GeomFromWKB({_identifier(n)}) AS {_identifier(n)}" if t.startswith("GEOMETRY") else f"CAST({_identifier(n)} AS {t}) AS {_identifier(n)}"
        for n, t in types.items()
    )
    text = f"{path}/*.parquet".replace("'", "''")
    return f"SELECT {columns} FROM read_parquet('{text}')"


def write(spark: SparkSession, settings: Settings, df: DataFrame, table: str, *, replace: bool = False) -> int:
    """Inserts the rows of `df` into the table `schema.table` (`replace`: instead of those it has) by column names; returns the snapshot.

    The table and its types are the lake's: make it with DuckDB first. Raises SparkFailed, LakeError or duckdb.Error; then nothing
    was written.
    """
    with staging(spark, settings) as place:
        with open_reader(settings) as con:
            types = columns_of(con, [table]).get(table)
        if not types:
            raise LakeError(f"there is no table {table} to write to; make it with DuckDB: its types are what the rows become")
        rows = stage(df, place, types)  # takes long: no lock is held
        with open_writer(settings, f"spark write {table}") as con:
            with transaction(con):
                if replace:
                    con.execute(f"DELETE FROM lake.{table}")
                con.execute(f"INSERT INTO lake.{table} BY NAME {rows}")
                reach(SPARK_COMMIT)
            return latest_snapshot(con)


_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_KINDS = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER"), _INTEGERS),
    "DOUBLE": ("double",),
    "FLOAT": ("float",),
    "VARCHAR": ("string",),
    "DATE": ("date",),
    "TIMESTAMP": ("timestamp_ntz", "timestamp"),
    "TIMESTAMP WITH TIME ZONE": ("timestamp",),
    "BOOLEAN": ("boolean",),
    "BLOB": ("binary",),
    "GEOMETRY": ("udt", "geometry"),
}


def _fits(spark: str, duck: str) -> bool:
    """Whether a column of Spark holds the kind of values that one of DuckDB does; widths are DuckDB's to check."""
    if spark == "void":
        return True
    if spark.startswith("decimal"):
        return duck.startswith("DECIMAL") or (_KINDS.get(duck) is _INTEGERS and spark.endswith(",0)"))
    if duck.startswith("DECIMAL"):
        return spark in _INTEGERS
    return spark in _KINDS.get(duck.partition("(")[0], ())


@contextmanager
def explaining(place: str) -> Iterator[None]:
    """Makes errors of Spark in the block SparkFailed, with what to do; `place` is where rows are staged."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise SparkFailed(_explained(error, place)) from None


def _explained(error: Exception, place: str) -> str:
    """What went wrong in Spark, in a line or two; its own text is a hundred."""
    text = str(error)
    if "No space left on device" in text or "File too large" in text:
        return f"the disk of the staged rows is full ({place}): free some, or name another place with TNMT_SPARK_STAGING; nothing was written"
    if "FILE_NOT_EXIST" in text or "FileNotFoundException" in text:
        return "a data file was removed while it was read (its snapshot expired in the middle): run again, or pin the snapshot; nothing was written"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by:")]
    said = [line for line in lines if not line.startswith(("at ", "...", "Driver stacktrace", "An error occurred while calling"))]
    return (
        "Spark could not compute or write the rows: "
        + "; ".join(dict.fromkeys([s[:400] for s in (said[:1] + causes[-1:])]))
        + "; nothing was written"
    )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
