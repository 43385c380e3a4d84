"""The peers, as their manuals would have it. Runs in the environment of the peers: nothing of the platform is imported."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.measure import MEMORY_GB, Clock, files_below, main

NAMES = ("parameter", "value", "unit", "measured_at", "status")
RULES = ("range", "spike", "rate_of_change", "flat_line")
BOUNDS = ("suspect_min", "suspect_max", "fail_min", "fail_max")
MODELS = ("reading_hourly", "reading_8h", "reading_daily")
SHARE = 0.75
"""Of the values due; `completeness_share` of the dbt project."""
NEVER = 10**9
"""Minutes; for a bound that is not set."""


def read_csv(folder: str, threads: int) -> dict[str, Any]:
    """DuckDB alone: one `read_csv` over all files, typed."""
    import duckdb

    con = duckdb.connect(config={"threads": threads, "preserve_insertion_order": "false"})
    clock = Clock()
    con.execute(f"""
        CREATE TABLE batch AS
        SELECT left(parse_filename(filename), 15) AS station_id, parameter, value, unit, strptime(measured_at, '%Y%m%d%H%M%S') AS measured_at, status, filename
        FROM read_csv('{folder}/**/*.txt', auto_detect = false, delim = '\t', header = false, quote = '', escape = '', filename = true,
            columns = {{'parameter': 'VARCHAR', 'value': 'DECIMAL(18,6)', 'unit': 'VARCHAR', 'measured_at': 'VARCHAR', 'status': 'VARCHAR'}})""")
    used = clock.stop()
    return {
        **used,
        **_answer(
            con.execute(
                "SELECT count(*), (sum(value) * 1000)::BIGINT, min(measured_at), max(measured_at), count(DISTINCT station_id) FROM batch"
            ).fetchall()[0]
        ),
    }


def polars(folder: str, threads: int) -> dict[str, Any]:
    """Polars: one `scan_csv` over all files, typed."""
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    clock = Clock()
    frame = (
        pl.scan_csv(
            f"{folder}/**/*.txt",
            separator="\t",
            has_header=False,
            quote_char=None,
            include_file_paths="filename",
            schema={n: pl.Decimal(18, 6) if n == "value" else pl.String for n in NAMES},
        )
        .with_columns(
            pl.col("measured_at").str.to_datetime("%Y%m%d%H%M%S"), pl.col("filename").str.split("/").list.last().str.head(15).alias("station_id")
        )
        .collect()
    )
    used = clock.stop()
    t = frame["measured_at"]
    return {**used, **_answer((frame.height, int(frame["value"].sum() * 1000), t.min(), t.max(), frame["station_id"].n_unique()))}


def pandas(folder: str, threads: int) -> dict[str, Any]:
    """A script as many would write it: the csv module file by file, then one typed pandas frame. One thread."""
    import csv
    from decimal import Decimal

    import pandas as pd

    found = files_below(folder)
    clock = Clock()
    rows = []
    for name, path in found:
        with open(path, encoding="utf-8", newline="") as file:
            rows += [(name[:15], *line) for line in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    frame = pd.DataFrame(rows, columns=["station_id", *NAMES])
    frame["measured_at"] = pd.to_datetime(frame["measured_at"], format="%Y%m%d%H%M%S")
    frame["value"] = frame["value"].map(Decimal)
    used = clock.stop()
    t = frame["measured_at"]
    return {**used, **_answer((len(frame), int(frame["value"].sum() * 1000), t.min(), t.max(), frame["station_id"].nunique()))}


def dlt(folder: str, work: str, threads: int, arrow: bool) -> dict[str, Any]:
    """dlt: its file source, a parsing transformer, its DuckDB destination. Rows as dicts, or Arrow tables a page of files."""
    import datetime
    from decimal import Decimal

    os.environ.update(
        {
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "EXTRACT__WORKERS": str(threads),
            "NORMALIZE__WORKERS": str(threads),
            "LOAD__WORKERS": str(threads),
            "DLT_DATA_DIR": f"{work}/dlt",
            "RUNTIME__LOG_LEVEL": "CRITICAL",
        }
    )
    import dlt
    import duckdb
    import pyarrow as pa
    from dlt.sources.filesystem import filesystem

    def cut(item: Any) -> Iterator[tuple[Any, ...]]:
        name = item["file_name"]
        for number, line in enumerate(item.read_bytes().decode().splitlines(), 1):
            parameter, value, unit, t, status = line.split("\t")
            yield (
                name[:15],
                parameter,
                datetime.datetime(int(t[:4]), int(t[4:6]), int(t[6:8]), int(t[8:10]), int(t[10:12]), int(t[12:])),
                Decimal(value),
                unit,
                status,
                name,
                number,
            )

    columns = ("station_id", "parameter", "measured_at", "value", "unit", "status", "file_name", "line")

    @dlt.transformer(name="reading", columns={"value": {"data_type": "decimal", "precision": 18, "scale": 6}})
    def readings(items: Any) -> Iterator[Any]:
        if arrow:
            cells = list(zip(*(row for item in items for row in cut(item))))
            kinds = {"value": pa.decimal128(18, 6), "measured_at": pa.timestamp("us"), "line": pa.int64()}
            yield pa.table({c: pa.array(v, kinds.get(c, pa.string())) for c, v in zip(columns, cells)})
        else:
            for item in items:
                yield [dict(zip(columns, row)) for row in cut(item)]

    con = duckdb.connect(f"{work}/dlt.duckdb", config={"threads": threads})
    clock = Clock()
    pipeline = dlt.pipeline("bench", pipelines_dir=f"{work}/pipelines", dataset_name="lake", destination=dlt.destinations.duckdb(con))
    source = filesystem(bucket_url=f"file://{folder}", file_glob="**/*.txt", files_per_page=1000)
    pipeline.run(source | readings, **({"loader_file_format": "parquet"} if not arrow else {}))
    used = clock.stop()
    return {
        **used,
        **_answer(
            con.execute(
                "SELECT count(*), (sum(value) FILTER (status <> '02') * 1000)::BIGINT, min(measured_at)::TIMESTAMP, max(measured_at)::TIMESTAMP, "
                "count(DISTINCT station_id) FROM lake.reading"
            ).fetchall()[0]
        ),
    }


def _columns(path: str, numbers: tuple[str, ...], others: tuple[str, ...]) -> Any:
    """Columns of a Parquet file as a pandas frame, its DECIMAL as double: as objects of Python they would cost each peer dearly."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=[*others, *numbers])
    for name in numbers:
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.float64()))
    return table.to_pandas()


def _series(folder: str) -> Iterator[tuple[Any, dict[str, dict[str, float | None]]]]:
    """The readings of each station and parameter in order of time, and the bounds of each rule; a bound that is not set is None."""
    import pandas as pd

    frame = _columns(f"{folder}/staging.stg_reading.parquet", ("value_reported", "value_valid"), ("station_id", "parameter", "measured_at"))
    matrix = pd.read_parquet(f"{folder}/marts_core.dim_station.parquet", columns=["station_id", "matrix"]).set_index("station_id")["matrix"]
    bounds = _columns(f"{folder}/reference.qc_threshold.parquet", BOUNDS, ("matrix", "parameter", "test"))
    rules: dict[tuple[str, str], dict[str, dict[str, float | None]]] = {}
    for row in bounds.itertuples(index=False):
        rules.setdefault((row.matrix, row.parameter), {})[row.test] = {b: None if pd.isna(v := getattr(row, b)) else v for b in BOUNDS}
    for (station, parameter), readings in frame.groupby(["station_id", "parameter"], sort=False):
        yield readings, rules.get((matrix[station], parameter), {})


def _flags(frames: list[Any], out: str) -> int:
    """Writes `<out>/flags.parquet`, not timed; returns its rows."""
    import pandas as pd

    Path(out).mkdir(parents=True, exist_ok=True)
    whole = pd.concat(frames)
    whole.to_parquet(f"{out}/flags.parquet")
    return len(whole)


def ioos_qc(folder: str, out: str, threads: int) -> dict[str, Any]:
    """ioos_qc: the four QARTOD tests of each series in a loop. One thread. A test without a bound in our table is not run: 2."""
    import numpy as np
    from ioos_qc.qartod import flat_line_test, gross_range_test, rate_of_change_test, spike_test

    clock = Clock()
    frames = []
    for readings, rules in _series(folder):
        at, reported, valid = (readings[c].to_numpy() for c in ("measured_at", "value_reported", "value_valid"))
        flags = {rule: np.full(len(readings), 2, dtype="uint8") for rule in RULES}
        if r := rules.get("range"):
            flags["range"] = gross_range_test(reported, _span(r["fail_min"], r["fail_max"]), _span(*_inner(r)))
        if r := rules.get("spike"):
            flags["spike"] = spike_test(valid, r["suspect_max"], r["fail_max"])
        if r := rules.get("rate_of_change"):
            hourly = r["suspect_max"], r["fail_max"]
            flags["rate_of_change"] = rate_of_change_test(valid, at, *(None if b is None else b / 3600 for b in hourly))
        if r := rules.get("flat_line"):
            suspect, fail = ((r[b] or NEVER) * 60 for b in ("suspect_max", "fail_max"))
            flags["flat_line"] = flat_line_test(valid, at, suspect, fail, tolerance=1e-9)  # below, not at, the tolerance
        frames.append(readings[["station_id", "parameter", "measured_at"]].assign(**{k: np.asarray(v) for k, v in flags.items()}))
    used = clock.stop()
    return {**used, "rows": _flags(frames, out)}


def saqc(folder: str, out: str, threads: int) -> dict[str, Any]:
    """SaQC: its own functions on each series in a loop, and `flagGeneric` where it has none. One thread.

    A column a rule, so that no rule masks what another flagged. UNFLAGGED becomes 1, DOUBTFUL 3, BAD 4: SaQC tells neither
    a missing value nor a rule that could not be evaluated from one that passed.
    """
    import pandas as pd
    from saqc import BAD, DOUBTFUL, FILTER_NONE, SaQC

    clock = Clock()
    frames = []
    for readings, rules in _series(folder):
        columns = {rule: readings["value_reported" if rule == "range" else "value_valid"].to_numpy() for rule in RULES}
        qc = SaQC(pd.DataFrame(columns, index=pd.DatetimeIndex(readings["measured_at"])))
        for name, flag in (("suspect", DOUBTFUL), ("fail", BAD)):
            common = {"flag": flag, "dfilter": FILTER_NONE}
            low, high = (rules.get("range", {}).get(f"{name}_{end}") for end in ("min", "max"))
            if (low, high) != (None, None):
                qc = qc.flagRange("range", min=low, max=high, **common)
            if bound := rules.get("spike", {}).get(f"{name}_max"):
                qc = qc.flagOffset("spike", window="11min", thresh=bound, tolerance=bound, **common)
            if bound := rules.get("rate_of_change", {}).get(f"{name}_max"):
                qc = qc.flagGeneric("rate_of_change", func=_rises_above(bound), **common)
            if bound := rules.get("flat_line", {}).get(f"{name}_max"):
                qc = qc.flagConstants("flat_line", window=f"{int(bound) * 60 + 1}s", **common)  # a window is open at its start
        found = {rule: qc.flags[rule].map({DOUBTFUL: 3, BAD: 4}).fillna(1).astype("uint8").to_numpy() for rule in RULES}
        frames.append(readings[["station_id", "parameter", "measured_at"]].assign(**found))
    used = clock.stop()
    return {**used, "rows": _flags(frames, out)}


def _rises_above(bound: float) -> Any:
    return lambda x: x.diff().abs() / x.index.to_series().diff().dt.total_seconds() > bound / 3600


def _span(low: float | None, high: float | None) -> tuple[float, float]:
    return (-math.inf if low is None else low, math.inf if high is None else high)


def _inner(r: dict[str, float | None]) -> tuple[float | None, float | None]:
    """Bounds of suspicion; those of failure where none is set, as ioos_qc wants the one within the other."""
    low, high = (r[f"fail_{end}"] if r[f"suspect_{end}"] is None else r[f"suspect_{end}"] for end in ("min", "max"))
    return low, high


AS_OF = "2026-04-01"
"""End of the last day of the series (`tests.bench.series`)."""
KEY = ["station_id", "parameter"]
READ = ("intermediate.int_reading", "intermediate.int_channel_period", "marts_core.dim_station")


def pandas_aggregates(folder: str, out: str, threads: int) -> dict[str, Any]:
    """Hourly, trailing eight-hour and daily figures in pandas. One thread."""
    import pandas as pd

    reading, period, station = (f"{folder}/{name}.parquet" for name in READ)
    clock = Clock()
    r = _columns(reading, ("value_adjusted",), (*KEY, "measured_at"))
    c = pd.read_parquet(period)
    due = c.assign(
        slot=[
            pd.date_range(a, min(z, pd.Timestamp(AS_OF)), freq=f"{m}min", inclusive="right")
            for a, z, m in zip(c["due_from"], c["due_to"], c["cadence_minutes"])
        ]
    ).explode("slot", ignore_index=True)[[*KEY, "slot"]]
    due["slot"] = due["slot"].astype("datetime64[us]")
    r = r.merge(c[[*KEY, "cadence_minutes"]], on=KEY, how="left")
    step = r["cadence_minutes"].fillna(1).astype("int64") * 60_000_000
    r["slot"] = (-(-r["measured_at"].astype("datetime64[us]").astype("int64") // step) * step).astype("datetime64[us]")
    r["hour_end"] = r["slot"].dt.ceil("h")
    due["hour_end"] = due["slot"].dt.ceil("h")
    valid = r.dropna(subset="value_adjusted")
    hour = [*KEY, "hour_end"]
    expected = due.groupby(hour).size().rename("expected")
    filled = valid.drop_duplicates([*KEY, "slot"]).merge(due[[*KEY, "slot"]], on=[*KEY, "slot"]).groupby(hour).size().rename("valid")
    seen = r.groupby(hour)["value_adjusted"].agg(["sum", "count", "min", "max"])
    hourly = pd.concat([expected, filled, seen], axis=1).reset_index()
    hourly[["expected", "valid", "count"]] = hourly[["expected", "valid", "count"]].fillna(0).astype("int64")
    hourly["mean_valid"] = hourly["sum"] / hourly["count"].where(hourly["count"] > 0)
    hourly["mean_1h"] = hourly["mean_valid"].where(hourly["valid"] >= SHARE * hourly["expected"].where(hourly["expected"] > 0))
    hourly["day"] = (hourly["hour_end"] - pd.Timedelta("1h")).dt.floor("D")
    where = pd.read_parquet(station, columns=["station_id", "matrix"])
    air = hourly[hourly["station_id"].isin(where.loc[where["matrix"] == "ambient_air", "station_id"])].sort_values(hour, ignore_index=True)
    rolling = air.groupby(KEY)[["hour_end", "mean_1h"]].rolling("8h", on="hour_end", min_periods=0)["mean_1h"]
    eight = air[[*hour, "day"]].assign(hours=rolling.count().to_numpy().astype("int64"), mean_8h=rolling.mean().to_numpy())
    eight["is_valid"] = eight["hours"] >= 8 * SHARE
    whole = hourly.groupby([*KEY, "day"]).agg(
        expected=("expected", "sum"), valid=("valid", "sum"), sum=("sum", "sum"), count=("count", "sum"), min_valid=("min", "min"),
        max_valid=("max", "max"), hours=("mean_1h", "count"), max_1h=("mean_1h", "max"),
    )  # fmt: skip
    whole["max_8h"] = eight[eight["is_valid"]].groupby([*KEY, "day"])["mean_8h"].max()
    whole["mean_valid"] = whole["sum"] / whole["count"].where(whole["count"] > 0)
    whole["is_complete"] = (whole["expected"] > 0) & (whole["valid"] >= SHARE * whole["expected"])
    used = clock.stop()
    Path(out).mkdir(parents=True, exist_ok=True)
    hourly.rename(columns={"min": "min_valid", "max": "max_valid"}).to_parquet(f"{out}/reading_hourly.parquet")
    eight.to_parquet(f"{out}/reading_8h.parquet")
    whole.reset_index().to_parquet(f"{out}/reading_daily.parquet")
    return {**used, "rows": len(hourly) + len(eight) + len(whole)}


def polars_aggregates(folder: str, out: str, threads: int) -> dict[str, Any]:
    """The same in Polars, lazily, all three collected at once."""
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    reading, period, station = (f"{folder}/{name}.parquet" for name in READ)
    clock = Clock()
    cadence = pl.duration(minutes=pl.col("cadence_minutes").fill_null(1))
    c = pl.scan_parquet(period).with_columns(pl.col("cadence_minutes").cast(pl.Int64))
    due = (
        c.select(
            *KEY,
            slot=pl.datetime_ranges(
                pl.col("due_from"),
                pl.min_horizontal("due_to", pl.lit(AS_OF).str.to_datetime(time_unit="us")),
                interval="5m",  # an interval is no expression; the sample knows no other
                closed="right",
            ),
        )
        .explode("slot")
        .with_columns(hour_end=_ceil(pl.col("slot"), pl.duration(hours=1)))
    )
    r = (
        pl.scan_parquet(reading)
        .select(*KEY, "measured_at", value=pl.col("value_adjusted").cast(pl.Float64))
        .join(c.select(*KEY, "cadence_minutes"), on=KEY, how="left")
        .with_columns(slot=_ceil(pl.col("measured_at"), cadence))
        .with_columns(hour_end=_ceil(pl.col("slot"), pl.duration(hours=1)))
    )
    hour = [*KEY, "hour_end"]
    filled = r.drop_nulls("value").join(due.select(*KEY, "slot"), on=[*KEY, "slot"], how="semi").group_by(hour).agg(valid=pl.col("slot").n_unique())
    value = pl.col("value")
    seen = r.group_by(hour).agg(sum=value.sum(), count=value.count(), min_valid=value.min(), max_valid=value.max())
    hourly = (
        due.group_by(hour)
        .agg(expected=pl.len())
        .join(seen, on=hour, how="full", coalesce=True)
        .join(filled, on=hour, how="left")
        .with_columns(pl.col("expected", "valid", "count").fill_null(0).cast(pl.Int64))
        .with_columns(
            mean_valid=pl.when(pl.col("count") > 0).then(pl.col("sum") / pl.col("count")),
            day=(pl.col("hour_end") - pl.duration(hours=1)).dt.truncate("1d"),
        )
        .with_columns(mean_1h=pl.when((pl.col("expected") > 0) & (pl.col("valid") >= SHARE * pl.col("expected"))).then(pl.col("mean_valid")))
    )
    air = pl.scan_parquet(station).filter(pl.col("matrix") == "ambient_air")
    mean_1h = pl.col("mean_1h")
    eight = (
        hourly.join(air, on="station_id", how="semi")
        .sort(hour)
        .rolling("hour_end", period="8h", group_by=KEY)
        .agg(pl.col("day").last(), hours=mean_1h.count().cast(pl.Int64), mean_8h=mean_1h.mean())
        .with_columns(is_valid=pl.col("hours") >= 8 * SHARE)
    )
    day = [*KEY, "day"]
    whole = (
        hourly.group_by(day)
        .agg(
            pl.col("expected", "valid", "sum", "count").sum(),
            pl.col("min_valid").min(),
            pl.col("max_valid").max(),
            hours=mean_1h.count().cast(pl.Int64),
            max_1h=mean_1h.max(),
        )
        .join(eight.filter("is_valid").group_by(day).agg(max_8h=pl.col("mean_8h").max()), on=day, how="left")
        .with_columns(
            mean_valid=pl.when(pl.col("count") > 0).then(pl.col("sum") / pl.col("count")),
            is_complete=(pl.col("expected") > 0) & (pl.col("valid") >= SHARE * pl.col("expected")),
        )
    )
    frames = dict(zip(MODELS, pl.collect_all([hourly, eight, whole])))
    used = clock.stop()
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.write_parquet(f"{out}/{name}.parquet")
    return {**used, "rows": sum(f.height for f in frames.values())}


def _ceil(time: Any, step: Any) -> Any:
    """The end of the step that a time lies in, steps counted from midnight of 1970."""
    import polars as pl

    us, size = time.dt.timestamp("us"), step.dt.total_microseconds()
    return ((us + size - 1) // size * size).cast(pl.Datetime("us"))


def spark_aggregates(folder: str, out: str, threads: int) -> dict[str, Any]:
    """The same in Spark SQL on one machine; results come back as Arrow. The start of the session is not in the figure, but told."""
    import time

    from pyspark.sql import SparkSession

    began = time.perf_counter()
    spark = (
        SparkSession.builder.master(f"local[{threads}]")
        .config("spark.driver.memory", f"{MEMORY_GB}g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", str(2 * threads))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.parquet.inferTimestampNTZ.enabled", "false")  # wall times as times of UTC: their seconds can be counted
        .config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    spark.range(1).count()
    started = time.perf_counter() - began
    java = spark.sparkContext._gateway.proc.pid  # its memory and time are not ours until it ends
    clock = Clock(java)
    for name, path in zip(("reading", "period", "station"), READ):
        spark.read.parquet(f"{folder}/{path}.parquet").createOrReplaceTempView(name)
    spark.sql(SPARK_HOURLY).cache().createOrReplaceTempView("reading_hourly")
    spark.sql(SPARK_8H).cache().createOrReplaceTempView("reading_8h")
    tables = {
        "reading_hourly": spark.table("reading_hourly").toArrow(),
        "reading_8h": spark.table("reading_8h").toArrow(),
        "reading_daily": spark.sql(SPARK_DAILY).toArrow(),
    }
    used = clock.stop()
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path(out).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        plain = pa.schema([f.with_type(pa.timestamp("us")) if pa.types.is_timestamp(f.type) else f for f in table.schema])
        pq.write_table(table.cast(plain), f"{out}/{name}.parquet")
    spark.stop()
    return {**used, "starting": round(started, 3), "rows": sum(t.num_rows for t in tables.values())}


SPARK_HOURLY = f"""
WITH due AS (
    SELECT station_id, parameter, slot, to_timestamp(ceil(unix_seconds(slot) / 3600) * 3600) AS hour_end
    FROM (
        SELECT station_id, parameter,
            explode(sequence(due_from + make_interval(0, 0, 0, 0, 0, cadence_minutes), least(due_to, timestamp '{AS_OF}'), make_dt_interval(0, 0, cadence_minutes))) AS slot
        FROM period
    )
),
placed AS (
    SELECT r.station_id, r.parameter, double(value_adjusted) AS value,
        timestamp_seconds(ceil(unix_seconds(measured_at) / (coalesce(cadence_minutes, 1) * 60)) * coalesce(cadence_minutes, 1) * 60) AS slot
    FROM reading AS r LEFT JOIN period AS p ON r.station_id = p.station_id AND r.parameter = p.parameter
),
seen AS (
    SELECT station_id, parameter, timestamp_seconds(ceil(unix_seconds(slot) / 3600) * 3600) AS hour_end,
        sum(value) AS sum, count(value) AS count, min(value) AS min_valid, max(value) AS max_valid
    FROM placed GROUP BY ALL
),
expected AS (
    SELECT d.station_id, d.parameter, d.hour_end, count(*) AS expected, count(v.slot) AS valid
    FROM due AS d LEFT JOIN (SELECT DISTINCT station_id, parameter, slot FROM placed WHERE value IS NOT NULL) AS v
        ON d.station_id = v.station_id AND d.parameter = v.parameter AND d.slot = v.slot
    GROUP BY ALL
)
SELECT *, CASE WHEN expected > 0 AND valid >= {SHARE} * expected THEN mean_valid END AS mean_1h, date_trunc('DAY', hour_end - INTERVAL 1 HOUR) AS day
FROM (
    SELECT station_id, parameter, hour_end, coalesce(expected, 0) AS expected, coalesce(valid, 0) AS valid, sum, coalesce(count, 0) AS count,
        CASE WHEN count > 0 THEN sum / count END AS mean_valid, min_valid, max_valid
    FROM expected FULL JOIN seen USING (station_id, parameter, hour_end)
)
"""
SPARK_8H = f"""
SELECT station_id, parameter, day, hour_end, hours, mean_8h, hours >= 8 * {SHARE} AS is_valid
FROM (
    SELECT station_id, parameter, day, hour_end, count(mean_1h) OVER eight AS hours, avg(mean_1h) OVER eight AS mean_8h
    FROM reading_hourly WHERE station_id IN (SELECT station_id FROM station WHERE matrix = 'ambient_air')
    WINDOW eight AS (PARTITION BY station_id, parameter ORDER BY unix_seconds(hour_end) RANGE BETWEEN 25200 PRECEDING AND CURRENT ROW)
)
"""
SPARK_DAILY = f"""
SELECT d.*, e.max_8h
FROM (
    SELECT station_id, parameter, day, sum(expected) AS expected, sum(valid) AS valid, sum(sum) / nullif(sum(count), 0) AS mean_valid,
        min(min_valid) AS min_valid, max(max_valid) AS max_valid, count(mean_1h) AS hours, max(mean_1h) AS max_1h,
        sum(expected) > 0 AND sum(valid) >= {SHARE} * sum(expected) AS is_complete
    FROM reading_hourly GROUP BY station_id, parameter, day
) AS d
LEFT JOIN (SELECT station_id, parameter, day, max(mean_8h) AS max_8h FROM reading_8h WHERE is_valid GROUP BY ALL) AS e
    ON d.station_id = e.station_id AND d.parameter = e.parameter AND d.day = e.day
"""


def _answer(row: tuple[Any, ...]) -> dict[str, Any]:
    rows, total, low, high, stations = row
    return {"rows": rows, "sum": total, "low": str(low), "high": str(high), "stations": stations}


if __name__ == "__main__":
    main(
        {
            "read_csv": read_csv,
            "polars": polars,
            "pandas": pandas,
            "dlt": dlt,
            "ioos_qc": ioos_qc,
            "saqc": saqc,
            "pandas_aggregates": pandas_aggregates,
            "polars_aggregates": polars_aggregates,
            "spark_aggregates": spark_aggregates,
        }
    )
