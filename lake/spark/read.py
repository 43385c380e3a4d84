"""The lake in Apache Spark: a session with Sedona, and tables of a pinned snapshot as DataFrames. For what one machine does not hold.

Spark is a layer beside the platform's environment (`make scale-out`): packages and jars in `.spark/`. Nothing here imports it before a
session is asked for, and nothing else may (tests/integration/test_spark_plan.py): Great Expectations imports pyspark wherever it finds one.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake.lake import LakeError
from lake.spark.plan import DataFile, Plan, Predicate, Reason, Refused, plan
from lake.spark.start import is_cluster, own_address, properties, start
from tnmt.settings import ROOT, Settings

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType

LAYER = ROOT / ".spark"
HASHES = ROOT / "infra" / "spark" / "jars.sha256"
S3_HASHES = ROOT / "infra" / "spark" / "jars-s3.sha256"
JAVA = (17, 21)
"""Versions of Java that Spark 4.0 runs on."""

JAVA_OPTIONS = "-Duser.timezone=UTC -Djts.overlay=ng"
"""Of driver and executors: time as the lake stores it, and the overlay of polygons that GEOS has (OverlayNG; JTS's older one is further off)."""

READS = {
    "spark.sql.parquet.fieldId.read.enabled": "true",  # names change, ids do not
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",  # every time of the lake is GMT+7 without zone
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",  # DuckDB counts days before 1582 in the same calendar as after
    "spark.sql.ansi.enabled": "true",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",  # digits that do not fit stop the query instead of being rounded away
}
"""Without these a table would be read, or computed with, and wrongly."""

BROADCAST_DELETES = 2_000_000
"""Deleted positions that every executor can hold (about 100 bytes each); above that they are joined by a shuffle."""

FILE, POSITION = "_tnmt_file", "_tnmt_position"
"""Columns by which deleted rows are told."""

SNAPSHOT_ID_FIELD = 2147483539
"""Field id of the column in which DuckLake keeps the snapshot of each row of a merged file."""


class SparkMissing(LakeError):
    """Java, the packages or the jars are not as `make scale-out` leaves them; the text says what, and what to do."""


def java() -> str | None:
    """The `java` that Spark will start: of JAVA_HOME where it is set, else of PATH."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=str(Path(home) / "bin") if home else None)


def problems(layer: Path = LAYER, hashes: Path = HASHES) -> list[str]:
    """What keeps Spark from starting: for each thing what was expected, what was found, what to do. Reads every jar (0.1 s)."""
    found = []
    where = java()
    wanted = " or ".join(map(str, JAVA))
    if where is None:
        found.append(f"Java: expected {wanted}, found none (JAVA_HOME, PATH); install it (Debian: apt-get install openjdk-17-jre-headless)")
    else:
        output = subprocess.run([where, "-version"], capture_output=True, text=True, check=False).stderr
        version = re.search(r'version "(\d+)', output)
        if version is None or int(version[1]) not in JAVA:
            found.append(
                f"Java: expected {wanted}, found {version[1] if version else output.strip()[:60]} at {where}; install it or name it with JAVA_HOME"
            )
    if not (layer / "packages" / "pyspark").is_dir():
        found.append(f"packages: expected pyspark in {layer / 'packages'}, found none; run `make scale-out`")
    return found + _jar_problems(layer / "jars", hashes)


def _jar_problems(folder: Path, hashes: Path, remedy: str = "remove `.spark/` and run `make scale-out`") -> list[str]:
    expected = {name: digest for digest, name in (line.split() for line in hashes.read_text().splitlines())}
    lying = {p.name: p for p in folder.glob("*.jar")}
    found = [
        f"jars: expected {name} in {folder} with SHA-256 {digest}, found no such file; {remedy}"
        for name, digest in expected.items()
        if name not in lying
    ]
    for name, path in sorted(lying.items()):
        if name not in expected:  # every jar of the folder is on the class path
            found.append(f"jars: expected no {name} in {folder}, found one; remove it")
        elif (digest := hashlib.file_digest(path.open("rb"), "sha256").hexdigest()) != expected[name]:
            found.append(f"jars: expected {name} with SHA-256 {expected[name]}, found {digest} in {folder}; {remedy}")
    return found


def require(layer: Path = LAYER, hashes: Path = HASHES, *, s3: bool = False) -> None:
    """Raises SparkMissing with every problem, one a line; `s3` looks at the jars for object storage too (0.5 s)."""
    found = problems(layer, hashes)
    if s3:
        found += _jar_problems(layer / "jars-s3", S3_HASHES, "remove this folder and run `make scale-out S3=1`")
    if found:
        raise SparkMissing("Spark cannot start:\n" + "\n".join(f"  {p}" for p in found))


def _packages() -> None:
    """Puts the layer behind the platform's own packages: of what both hold, the platform's is taken."""
    if (folder := str(LAYER / "packages")) not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()


def session(settings: Settings, *, master: str | None = None, conf: Mapping[str, str] | None = None) -> SparkSession:
    """Spark with Sedona as the reads need it: on `master`, else on TNMT_SPARK_MASTER, else on `local[TNMT_THREADS]`.

    `conf` are settings of Spark that win over those of TNMT_SPARK_CONF, which win over ours. One a process, about 20 s to start; on a cluster
    the session has run a job when it is handed out. Raises SparkMissing, SparkStartError.
    """
    require(s3=settings.on_s3)
    given = {**(properties(settings.spark_conf) if settings.spark_conf else {}), **(conf or {})}
    master = master or settings.spark_master or given.get("spark.master") or f"local[{settings.threads}]"
    given.pop("spark.master", None)
    _packages()
    scratch = settings.home / "tmp" / "spark"
    scratch.mkdir(parents=True, exist_ok=True)
    host = own_address(master) if is_cluster(master) else "127.0.0.1"
    if host:
        os.environ.setdefault("SPARK_LOCAL_IP", host)
    jars = f"{LAYER / 'jars'}/*" + (f":{LAYER / 'jars-s3'}/*" if settings.on_s3 else "")
    values = {
        # all jars on one class path in front of Spark's own: Parquet needs the JTS that Sedona's jar holds
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.driver.extraJavaOptions": JAVA_OPTIONS,
        "spark.executor.extraJavaOptions": JAVA_OPTIONS,
        "spark.driver.memory": re.sub(r"\s*i?b$", "", settings.memory_limit.lower()),
        **({"spark.driver.host": host} if host else {}),
        **({} if is_cluster(master) else {"spark.driver.bindAddress": "127.0.0.1"}),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
        "spark.kryo.registrator": "org.apache.sedona.core.serde.SedonaKryoRegistrator",
        "spark.sql.extensions": "org.apache.sedona.sql.SedonaSqlExtensions",
        "spark.sql.shuffle.partitions": str(2 * settings.threads),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.local.dir": str(scratch),
        **_object_storage(settings),
        **READS,
        **given,
    }
    spark = start(master, values, settings.spark_start_seconds)
    from sedona.spark import SedonaContext

    return SedonaContext.create(spark)


def _object_storage(settings: Settings) -> dict[str, str]:
    """How Spark comes to the bucket that DuckDB writes to."""
    if not settings.on_s3:
        return {}
    values = {"endpoint.region": settings.s3_region, "path.style.access": str(settings.s3_endpoint is not None).lower()}
    if settings.s3_endpoint:
        values |= {"endpoint": settings.s3_endpoint, "connection.ssl.enabled": str(settings.s3_endpoint.startswith("https://")).lower()}
    if settings.s3_key_id and settings.s3_secret:
        values |= {"access.key": settings.s3_key_id.get_secret_value(), "secret.key": settings.s3_secret.get_secret_value()}
    return {f"spark.hadoop.fs.s3a.{name}": value for name, value in values.items()}


def read(
    spark: SparkSession,
    lake: Settings | duckdb.DuckDBPyConnection,
    table: str,
    *,
    snapshot: int | None = None,
    columns: Sequence[str] | None = None,
    where: Sequence[Predicate] = (),
) -> DataFrame:
    """The table `schema.table` as it was at `snapshot` (the newest unless named): the rows that DuckDB reads there, or Refused.

    `lake` is where it is, or a connection to it for several tables. `where` keeps the rows for which every predicate `(column, one of
    = < <= > >=, value)` holds. Geometry comes as Sedona's.
    """
    return frame(spark, plan(lake, table, snapshot=snapshot, columns=columns, where=where))


def frame(spark: SparkSession, planned: Plan) -> DataFrame:
    """The DataFrame of a plan."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    if wrong := [k for k, v in READS.items() if str(spark.conf.get(k)).lower() != v.lower()]:
        raise SparkMissing(f"this session would misread the lake ({', '.join(wrong)}): make it with lake.spark.read.session")
    alike: dict[tuple[bool, bool, tuple[str, ...]], list[DataFile]] = defaultdict(list)
    for file in planned.files:
        alike[file.deletes is not None, file.later, file.lacks].append(file)
    try:
        parts = [_part(spark, planned, files) for files in alike.values()]
    except AnalysisException as error:
        if error.getCondition() != "PATH_NOT_FOUND":
            raise
        raise Refused(
            Reason.FILE_MISSING,
            f"{planned.table} at snapshot {planned.snapshot}: a file of the plan is gone ({str(error).splitlines()[0]}); plan again",
        ) from None
    if parts:
        df = parts[0]
        for part in parts[1:]:
            df = df.unionAll(part)
    else:
        df = spark.range(0).select(*[F.lit(None).cast(c.spark_type).alias(c.name) for c in planned.columns])
    kinds = {c.name: c.type for c in planned.columns}
    for name, op, value in planned.where:
        df = df.where(_compared(name, op, value, kinds[name]))
    return df.select(*[F.expr(f"ST_GeomFromWKB({_quoted(n)})").alias(n) if kinds[n] == "geometry" else _column(n) for n in planned.wanted])


def _part(spark: SparkSession, planned: Plan, files: Sequence[DataFile]) -> DataFrame:
    """Files that are read alike: all with deletes or none, all with rows of later snapshots or none, lacking the same columns."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import LongType, StructField, StructType

    first = files[0]
    later = "_tnmt_later"
    held = [c for c in planned.columns if c.name not in first.lacks]
    fields = [StructField(c.name, _spark_type(c.spark_type), True, {"parquet.field.id": c.id}) for c in held]
    if first.later:
        fields.append(StructField(later, LongType(), True, {"parquet.field.id": SNAPSHOT_ID_FIELD}))
    df = spark.read.schema(StructType(fields)).parquet(*[_uri(f.path) for f in files])
    if first.deletes:
        key, deleted = _deleted(spark, planned.snapshot, files)
        df = df.select("*", key(F.col("_metadata.file_name")).alias(FILE), F.col("_metadata.row_index").cast("int").alias(POSITION))
        df = df.join(deleted, [FILE, POSITION], "left_anti")
    if first.later:
        df = df.where(_made_by(later, planned.snapshot))
    return df.select(*[F.lit(c.default).cast(c.spark_type).alias(c.name) if c.name in first.lacks else _column(c.name) for c in planned.columns])


@functools.cache
def _spark_type(text: str) -> DataType:
    """A type of Spark by its DDL; the JVM parses it once."""
    from pyspark.sql.types import _parse_datatype_string

    return _parse_datatype_string(text)


def _deleted(spark: SparkSession, snapshot: int, files: Sequence[DataFile]) -> tuple[Callable[[SparkColumn], SparkColumn], DataFrame]:
    """How a row tells its file from the file's name, and (that, position) of every row deleted up to the snapshot.

    A file is told by 32 bits of its name's hash: Spark joins two integers as one number, faster than a text and a number.
    """
    import pyarrow as pa
    from pyspark.sql import functions as F

    # which data file a delete file is of stands in the catalog; the path inside it is of the place where it was written
    pairs = [(_name(f.deletes.path), _name(f.path)) for f in files if f.deletes]
    owners = spark.createDataFrame(pa.table({"_tnmt_delete_file": [p[0] for p in pairs], "_tnmt_name": [p[1] for p in pairs]}))
    told_apart = len({r[0] for r in owners.select(F.hash("_tnmt_name")).collect()}) == len(pairs)
    key: Callable[[SparkColumn], SparkColumn] = F.hash if told_apart else lambda name: name
    found = None
    for later in (False, True):
        paths = [_uri(f.deletes.path) for f in files if f.deletes and f.deletes.later is later]
        if not paths:
            continue
        fields = f"pos BIGINT{', _ducklake_internal_snapshot_id BIGINT' if later else ''}"
        deletes = spark.read.schema(fields).parquet(*paths)
        if later:
            deletes = deletes.where(_made_by("_ducklake_internal_snapshot_id", snapshot))
        deletes = deletes.select(F.col("_metadata.file_name").alias("_tnmt_delete_file"), F.col("pos").cast("int").alias(POSITION))
        found = deletes if found is None else found.unionAll(deletes)
    assert found is not None
    found = found.join(F.broadcast(owners), "_tnmt_delete_file").select(key(F.col("_tnmt_name")).alias(FILE), POSITION)
    return key, F.broadcast(found) if sum(f.deletes.rows for f in files if f.deletes) <= BROADCAST_DELETES else found


def _made_by(column: str, snapshot: int) -> SparkColumn:
    """Whether a row was there at the snapshot; a file that does not say so stops the query."""
    from pyspark.sql import functions as F

    return F.coalesce(F.col(column), F.raise_error(F.lit("a merged file has no snapshot id for a row")).cast("bigint")) <= F.lit(snapshot)


def _compared(name: str, op: str, value: Any, kind: str) -> SparkColumn:
    from pyspark.sql import functions as F

    column, literal = _column(name), F.lit(value.isoformat(sep=" ")).cast("timestamp_ntz") if kind == "timestamp" else F.lit(value)
    return {"=": column == literal, "<": column < literal, "<=": column <= literal, ">": column > literal, ">=": column >= literal}[op]


def _column(name: str) -> SparkColumn:
    from pyspark.sql import functions as F

    return F.col(_quoted(name))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _uri(path: str) -> str:
    return path.replace("s3://", "s3a://", 1) if "://" in path else f"file://{path}"


if __name__ == "__main__":
    try:
        require(s3="--s3" in sys.argv)
    except SparkMissing as error:
        sys.exit(str(error))
