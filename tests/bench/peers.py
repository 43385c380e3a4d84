"""The peers, as their manuals would have it. Runs in the environment of the peers: nothing of the platform is imported."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

from tests.bench.measure import Clock, files_below, main

NAMES = ("parameter", "value", "unit", "measured_at", "status")
RULES = ("range", "spike", "rate_of_change", "flat_line")
BOUNDS = ("suspect_min", "suspect_max", "fail_min", "fail_max")
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

    os.makedirs(out, exist_ok=True)
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
    return tuple(r[f"suspect_{end}"] if r[f"suspect_{end}"] is not None else r[f"fail_{end}"] for end in ("min", "max"))  # type: ignore[return-value]


def _answer(row: tuple[Any, ...]) -> dict[str, Any]:
    rows, total, low, high, stations = row
    return {"rows": rows, "sum": total, "low": str(low), "high": str(high), "stations": stations}


if __name__ == "__main__":
    main({"read_csv": read_csv, "polars": polars, "pandas": pandas, "dlt": dlt, "ioos_qc": ioos_qc, "saqc": saqc})
