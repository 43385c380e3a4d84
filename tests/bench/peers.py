"""The peers, as their manuals would have it. Runs in the environment of the peers: nothing of the platform is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from tests.bench.measure import Clock, files_below, main

NAMES = ("parameter", "value", "unit", "measured_at", "status")


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


def _answer(row: tuple[Any, ...]) -> dict[str, Any]:
    rows, total, low, high, stations = row
    return {"rows": rows, "sum": total, "low": str(low), "high": str(high), "stations": stations}


if __name__ == "__main__":
    main({"read_csv": read_csv, "polars": polars, "pandas": pandas, "dlt": dlt})
