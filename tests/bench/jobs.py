"""Our side of each figure; every job runs in a process of its own, and its clock starts after the imports."""

from __future__ import annotations

import gc
import hashlib
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import great_expectations  # noqa: F401  # an import, not part of the figure

import ingestion.readers.tabular  # noqa: F401
import quality.gx_duckdb  # noqa: F401
from ingestion.cast import cast
from ingestion.ingest import contracts_of, ingest
from ingestion.load import _register_deliveries
from ingestion.model import Delivery
from ingestion.readers import station_txt
from lake.lake import create, duck, open_reader, open_writer, transaction
from tests.bench import day
from tests.bench.measure import Clock, files_below, main
from tnmt.settings import settings


def make(stations: int) -> dict[str, Any]:
    """A lake with its registers, before anything is timed."""
    s = settings()
    create(s)
    day.write_registers(s.inbox, stations)
    done = ingest(s, now=datetime(2025, 1, 2), run_id="registers", only=["station_register", "station_channel_register"])
    assert not done.errors, done.errors
    assert all(r.published == 1 for r in done.loaded.values()), done.loaded
    return {}


def publish(now: str) -> dict[str, Any]:
    """Inbox to published rows, ledger and quarantine; then what is in the lake."""
    s = settings()
    clock = Clock()
    done = ingest(s, now=datetime.fromisoformat(now), run_id="bench", only=[day.SOURCE])
    used = clock.stop()
    assert not done.errors, done.errors
    result = done.loaded[day.SOURCE]
    return {
        **used,
        "read": result.rows_read,
        "accepted": result.rows_accepted,
        "duplicate": result.rows_duplicate,
        "quarantined": result.rows_quarantined,
    }


def look() -> dict[str, Any]:
    """What the published lake says, in the terms of `day.Expected`."""
    with open_reader(settings()) as con:

        def one(sql: str) -> tuple[Any, ...]:
            return con.execute(sql).fetchall()[0]

        files, read, accepted, duplicate, quarantined, bad_files = one(
            "SELECT count(*), sum(rows_read)::BIGINT, sum(rows_accepted)::BIGINT, sum(rows_duplicate)::BIGINT, sum(rows_quarantined)::BIGINT, "
            f"count(*) FILTER (status = 'quarantined') FROM lake.ops.delivery WHERE source = '{day.SOURCE}'"
        )
        lines = con.execute(
            "SELECT l.name, q.line, q.reasons FROM lake.quarantine.row AS q JOIN lake.ops.landed AS l USING (delivery_id) "
            f"WHERE q.source = '{day.SOURCE}'"
        ).fetchall()
        rows, reported, reported_sum, valid, valid_sum = one(
            "SELECT count(*), count(value_reported), coalesce(sum(value_reported * 1000), 0)::BIGINT, count(value_valid), "
            "coalesce(sum(value_valid * 1000), 0)::BIGINT FROM lake.clean.reading"
        )
        assert rows == accepted, f"{rows} rows in clean.reading, {accepted} accepted in the ledger"
        assert quarantined == len(lines), f"{len(lines)} rows in quarantine, {quarantined} in the ledger"
    digest = hashlib.sha256(repr(sorted((n, i, ",".join(r)) for n, i, r in lines)).encode()).hexdigest()
    return {
        "files": files,
        "read": read,
        "accepted": accepted,
        "duplicate": duplicate,
        "quarantined": quarantined,
        "quarantine_lines": digest,
        "quarantined_files": bad_files,
        "reported": reported,
        "reported_sum": reported_sum,
        "valid": valid,
        "valid_sum": valid_sum,
    }


def read_only(folder: str) -> dict[str, Any]:
    """Opening and reading the files, no more: the floor. One process, the same calls as the landing makes, and Python's own."""
    found = files_below(folder)
    clock = Clock()
    size = 0
    for _, path in found:
        fd = os.open(path, os.O_RDONLY)
        size += len(os.read(fd, 1 << 20))
        os.close(fd)
    used = clock.stop()
    started = time.perf_counter()
    for _, path in found:
        with open(path, "rb") as file:
            size += len(file.read())
    return {**used, "with_open_seconds": time.perf_counter() - started, "files": len(found), "bytes": size // 2}


def parse(folder: str) -> dict[str, Any]:
    """Read, cut and type the files, in memory: `station_txt.read` and `cast`."""
    s = settings()
    contract = contracts_of(s)[day.SOURCE]
    found = files_below(folder)
    at = day.NOW
    con = duck(s)
    con.execute("SELECT 1")
    gc.freeze()  # as `ingest` does
    clock, started = Clock(), time.perf_counter()
    deliveries = []
    for number, (name, path) in enumerate(found):
        fd = os.open(path, os.O_RDONLY)
        content = os.read(fd, 1 << 20)
        os.close(fd)
        deliveries.append(Delivery(f"{number:024x}", day.SOURCE, name, "", len(content), at, at, at.date(), None, content))
    opened = time.perf_counter()
    _register_deliveries(con, contract, deliveries)
    registered = time.perf_counter()
    station_txt.read(con, contract, deliveries, "cut")
    cut = time.perf_counter()
    cast(con, contract, "cut", "batch_deliveries", "typed", s.crs)
    con.execute("CREATE TABLE memory.main.batch AS SELECT * FROM typed")
    used, ended = clock.stop(), time.perf_counter()
    rows, total, low, high, stations = con.execute(
        "SELECT count(*), (sum(value) * 1000)::BIGINT, min(measured_at), max(measured_at), count(DISTINCT station_id) FROM memory.main.batch "
        "WHERE len(_reasons) = 0"
    ).fetchall()[0]
    return {
        **used,
        "opening": opened - started,
        "names": registered - opened,
        "cutting": cut - registered,
        "typing": ended - cut,
        "rows": rows,
        "sum": total,
        "low": str(low),
        "high": str(high),
        "stations": stations,
    }


FILL = """
INSERT INTO lake.clean.reading (station_id, parameter, measured_at, span_minutes, value_reported, value_valid, status, reason, conflict,
    _source, _delivery_id, _line, _as_of, _received_at)
SELECT s.code, p.parameter, t, 5, v, v, '00', NULL, FALSE, 'station_txt', left(md5(s.code || i // 2304 || i % 288), 24), p.line, t, t + INTERVAL 2 MINUTE
FROM (
    SELECT i, i // (288 * 8) % {stations} AS s, i // 288 % 8 AS p, (i % 977 / 8)::DECIMAL(18,6) AS v,
        TIMESTAMP '{first}' + INTERVAL 1 DAY * (i // (288 * 8 * {stations})) + INTERVAL 5 MINUTE * (i % 288 + 1) AS t
    FROM range({rows}) AS r(i)
) AS g
JOIN bench_station AS s ON g.s = s.number JOIN bench_parameter AS p ON g.s % 2 = p.odd AND g.p = p.line - 1
"""
LEDGER = (
    "INSERT INTO lake.ops.landed SELECT id, 'station_txt', name, id || id || left(id, 16), 370, t, t, t::DATE, 'raw.file' FROM bench_file",
    "INSERT INTO lake.ops.arrival SELECT id, 'station_txt', name, t::DATE, t FROM bench_file",
    "INSERT INTO lake.ops.outcome SELECT id, 'station_txt', t::DATE, 'published', NULL, 8, 8, 0, 0, t, 'fill', epoch(t)::BIGINT // 300 - 5000000 FROM bench_file",
    "INSERT INTO lake.ops.affected SELECT DISTINCT epoch(t)::BIGINT // 300 - 5000000, 'station_txt', 'reading', code, t::DATE FROM bench_file",
    "INSERT INTO lake.ops.gate_result SELECT DISTINCT 'fill', 'station_txt', epoch(t)::BIGINT // 300 - 5000000, 200, 1600, TRUE, 0, []::VARCHAR[], 0.1, t FROM bench_file",
)
RAW = "INSERT INTO lake.raw.file SELECT id, 'station_txt', t::DATE, encode(id || repeat('0', 340)) FROM bench_file"


def fill(months: list[tuple[str, int]], stations: int) -> dict[str, Any]:
    """Fills `clean.reading`, raw and the ledger with (first day, days) by SQL, laid out as the nightly compaction leaves them."""
    clock = Clock()
    rows = 0
    with open_writer(settings(), "fill") as con:
        con.execute("CREATE TEMP TABLE bench_station (number INTEGER, code VARCHAR)")
        con.executemany("INSERT INTO bench_station VALUES (?, ?)", [[n, day.station(n)[0]] for n in range(stations)])
        con.execute("CREATE TEMP TABLE bench_parameter (odd INTEGER, line INTEGER, parameter VARCHAR)")
        con.executemany(
            "INSERT INTO bench_parameter VALUES (?, ?, ?)",
            [[int(m == "ambient_air"), i, p] for m, names in day.PARAMETERS.items() for i, (p, _) in enumerate(names[:8], 1)],
        )
        con.execute("SET preserve_insertion_order = true")
        for first, days in months:
            count = days * stations * 8 * 288
            rows += count
            con.execute(f"""
                CREATE OR REPLACE TEMP TABLE bench_file AS
                SELECT code, t, left(md5(code || t), 24) AS id, code || '/' || code || strftime(t, '_%Y%m%d%H%M%S.txt') AS name
                FROM (SELECT code, TIMESTAMP '{first}' + INTERVAL 5 MINUTE * (k + 1) - INTERVAL 1 SECOND AS t
                      FROM range({days * 288}) AS r(k), bench_station)""")
            with transaction(con):
                con.execute(FILL.format(stations=stations, first=first, rows=count))
                for statement in LEDGER:
                    con.execute(statement)
                if first == months[-1][0]:
                    con.execute(RAW)  # bytes of other days are pruned by partition: one month of them is enough
    used = clock.stop()
    data = sum(f.stat().st_size for f in Path(settings().data_path).rglob("*") if f.is_file())
    return {**used, "rows": rows, "bytes": data}


def count() -> dict[str, Any]:
    """Rows of the day under increments and in all."""
    with open_reader(settings()) as con:
        day_rows, total, bad = con.execute(
            f"SELECT count(*) FILTER (measured_at > DATE '{day.DAY}'), count(*), (SELECT count(*) FROM lake.quarantine.row WHERE source = '{day.SOURCE}') "
            "FROM lake.clean.reading"
        ).fetchall()[0]
    return {"day_rows": day_rows, "rows": total, "quarantined": bad}


if __name__ == "__main__":
    main({"make": make, "publish": publish, "look": look, "read_only": read_only, "parse": parse, "fill": fill, "count": count})
