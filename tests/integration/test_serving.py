"""The serving file under readers: a swap disturbs nobody, and new connections see new data at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from datetime import date, datetime

import duckdb
import pytest

from lake import serving
from lake.lake import open_writer
from lake.serving import HeldBack, ServingRefused, current, publish_serving, refresh_serving


def test_swap_while_eight_threads_query(home) -> None:
    tables = ["marts_core.figure"]

    def write(n: int) -> None:
        with open_writer(home, "test") as con:
            con.execute(f"CREATE OR REPLACE TABLE lake.marts_core.figure AS SELECT {n} AS n, i FROM range(50000) AS t(i)")

    write(0)
    publish_serving(home, tables, datetime(2026, 1, 1))
    published, errors, seen, stop = [0], [], [set() for _ in range(8)], threading.Event()

    def look(k: int) -> None:
        while not stop.is_set():
            floor = published[0]
            try:
                with duckdb.connect(str(current(home)), read_only=True) as con:
                    n, rows, least = con.execute("SELECT max(n), count(*), min(n) FROM marts_core.figure").fetchall()[0]
                if n < floor or n != least or rows != 50000:
                    errors.append(f"saw {n} ({least}, {rows} rows) after {floor} was published")
                seen[k].add(n)
            except Exception as error:
                errors.append(repr(error))

    threads = [threading.Thread(target=look, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for n in range(1, 6):
        write(n)
        publish_serving(home, tables, datetime(2026, 1, 1, n))
        published[0] = n
    stop.set()
    for t in threads:
        t.join()
    assert errors == []
    assert all(max(s) >= 4 for s in seen)
    assert len(list(home.serving.glob("serving-[0-9]*.duckdb"))) == len(list(home.serving.glob("serving-sqllab-*.duckdb"))) == 2


def test_sql_lab_gets_a_smaller_file(home) -> None:
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.marts_core.hourly AS SELECT DATE '2026-01-01' + i::INTEGER AS day FROM range(100) AS t(i)")
        con.execute("CREATE TABLE lake.marts_core.figure AS SELECT 1 AS n")
    tables, as_of = ["marts_core.figure", "marts_core.hourly"], datetime(2026, 4, 10, 8)
    publish_serving(home, tables, as_of, {"marts_core.hourly": 30})
    for name, first, rows in (("serving", date(2026, 1, 1), 100), ("serving-sqllab", date(2026, 3, 12), 30)):
        with duckdb.connect(str(current(home, name)), read_only=True) as con:
            assert con.execute("SELECT min(day), count(*) FROM marts_core.hourly").fetchall() == [(first, rows)]
            assert con.execute("SELECT as_of, tables FROM serving_info").fetchall() == [(as_of, tables)]
            assert con.execute("SELECT n FROM marts_core.figure").fetchall() == [(1,)]


def test_a_build_that_fails_leaves_the_old_file(home) -> None:
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.marts_core.figure AS SELECT 1 AS n")
    first = publish_serving(home, ["marts_core.figure"], datetime(2026, 1, 1))
    with open_writer(home, "test") as con:
        con.execute("INSERT INTO lake.marts_core.figure VALUES (2)")
    try:
        publish_serving(home, ["marts_core.figure", "marts_core.missing"], datetime(2026, 1, 2))
    except duckdb.Error:
        pass
    else:
        raise AssertionError("a missing mart was served")
    assert current(home) == first.path.resolve()
    third = publish_serving(home, ["marts_core.figure"], datetime(2026, 1, 2))
    assert third.rows == 2
    assert not list(home.serving.glob(".serving*"))


TABLES = [f"marts_core.t{n}" for n in range(6)]
AT = datetime(2026, 1, 1)


def _write(home, n: int, tables: list[str] = TABLES) -> None:
    with open_writer(home, "test", spatial=False) as con:
        for table in tables:
            con.execute(f"CREATE OR REPLACE TABLE lake.{table} AS SELECT {n} AS n")


def test_two_publishers_never_lose_a_table_nor_go_back(home) -> None:
    """One makes whole files, one refreshes a table of the file in force, while the lake goes on; every file that a reader finds is whole and no older."""
    _write(home, 0)
    publish_serving(home, TABLES, AT)
    errors, stop = [], threading.Event()

    def guarded(work) -> None:
        try:
            while not stop.is_set():
                work()
        except Exception as error:
            errors.append(repr(error))

    last = [-1]

    def look() -> None:
        path = current(home)
        try:
            with duckdb.connect(str(path), read_only=True) as con:
                tables, snapshot = con.execute("SELECT len(tables), snapshot_id FROM serving_info").fetchall()[0]
                there = con.execute("SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'marts_core'").fetchall()[0][0]
        except duckdb.IOException:  # more than one version older than what is in force, and gone
            assert current(home) != path
            return
        assert (tables, there) == (6, 6)
        assert snapshot >= last[0]
        last[0] = snapshot

    works = (lambda: publish_serving(home, TABLES, AT), lambda: refresh_serving(home, TABLES[:1], AT), look)
    threads = [threading.Thread(target=guarded, args=(w,)) for w in works]
    for t in threads:
        t.start()
    for n in range(1, 6):
        _write(home, n, TABLES[: 1 + n % 6])
    stop.set()
    for t in threads:
        t.join()
    assert errors == []


def test_what_a_killed_publisher_held_is_free_and_its_half_goes(home) -> None:
    _write(home, 0)
    first = publish_serving(home, TABLES, AT)
    _write(home, 1)
    script = f"from lake.serving import publish_serving; from tnmt.settings import settings; import datetime; publish_serving(settings(), {TABLES}, datetime.datetime(2026, 1, 1))"
    environment = {**os.environ, "TNMT_HOME": str(home.home), "TNMT_KILL_AT": "serving.built"}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == -9
    assert current(home) == first.path.resolve()
    assert list(home.serving.glob(".serving-*"))
    publish_serving(home, TABLES, AT)
    assert not list(home.serving.glob(".serving-*"))
    with duckdb.connect(str(current(home)), read_only=True) as con:
        assert con.execute("SELECT n FROM marts_core.t5").fetchall() == [(1,)]


def test_an_older_snapshot_never_takes_the_place_of_a_newer_one(home) -> None:
    _write(home, 0)
    served = publish_serving(home, TABLES, AT)
    newer = home.serving / "serving-999999.duckdb"
    shutil.copyfile(served.path, newer)
    serving.swap(home, newer)
    for again in (lambda: publish_serving(home, TABLES, AT), lambda: refresh_serving(home, TABLES[:1], AT)):
        with pytest.raises(ServingRefused, match=r"(?s)serving-999999.*not older than what it serves.*tnmt run"):
            again()
    assert current(home) == newer.resolve()


def test_a_file_with_fewer_tables_is_not_put_in_force(home, monkeypatch) -> None:
    """As where another process takes the half away between copy and attach: a new, empty one is attached in its place."""
    _write(home, 0)
    first = publish_serving(home, TABLES, AT)
    _write(home, 1)
    fill = serving._fill

    def robbed(con, path, *given, **named) -> int:
        path.unlink(missing_ok=True)
        return fill(con, path, *given, **named)

    monkeypatch.setattr(serving, "_fill", robbed)
    with pytest.raises(ServingRefused, match=r"lacks marts_core\.t1, marts_core\.t2.*stays"):
        refresh_serving(home, TABLES[:1], AT)
    assert current(home) == first.path.resolve()


def test_what_is_held_back_stays_as_it_was_and_is_told(home) -> None:
    _write(home, 0)
    publish_serving(home, TABLES, AT)
    _write(home, 1)
    held = [
        HeldBack(TABLES[2], "Bảng", datetime(2026, 1, 2), "Số liệu mới không qua bước kiểm tra", {"n": "INTEGER"}),
        HeldBack("marts_core.never", "Bảng", datetime(2026, 1, 2), "Lần tính mới bị lỗi", {"n": "INTEGER", "day": "DATE"}),
    ]
    publish_serving(home, [*TABLES, "marts_core.never"], datetime(2026, 1, 2), held=held)
    for name in ("serving", "serving-sqllab"):
        with duckdb.connect(str(current(home, name)), read_only=True) as con:
            assert con.execute("SELECT (SELECT n FROM marts_core.t1), (SELECT n FROM marts_core.t2)").fetchall() == [(1, 0)]
            assert con.execute("SELECT count(n), count(day) FROM marts_core.never").fetchall() == [(0, 0)]
            told = con.execute("SELECT table_name, since, reason_vi FROM held_back ORDER BY table_name DESC").fetchall()
            assert told == [(h.table, h.since, h.reason_vi) for h in held]
    refresh_serving(home, TABLES[:1], datetime(2026, 1, 3))
    with duckdb.connect(str(current(home)), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM held_back").fetchall() == [(2,)]
    publish_serving(home, TABLES, datetime(2026, 1, 4))
    with duckdb.connect(str(current(home)), read_only=True) as con:
        assert con.execute("SELECT (SELECT n FROM marts_core.t2), (SELECT count(*) FROM held_back)").fetchall() == [(1, 0)]


def test_what_a_view_saw_when_it_was_made_is_not_what_the_file_speaks_for(home) -> None:
    """Models that are served as views stay as they were made: a refresh goes on from the tables, and copies a view whole, its last day too."""
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.marts_core.daily AS SELECT DATE '2026-01-01' + i::INTEGER AS day, i AS n FROM range(3) AS t(i)")
        con.execute("CREATE VIEW lake.marts_core.latest AS SELECT * FROM lake.marts_core.daily ORDER BY day DESC LIMIT 1")
        for model, seq in (("daily", 7), ("latest", 1)):
            con.execute(
                f"INSERT INTO lake.ops.built (model, affected_to, as_of, hash) VALUES ('marts_core.{model}', {seq}, TIMESTAMP '2026-01-03', 'x')"
            )
    publish_serving(home, ["marts_core.daily", "marts_core.latest"], datetime(2026, 1, 3))
    assert serving.in_force(home).affected_to == 7
    with open_writer(home, "test") as con:
        con.execute("INSERT INTO lake.marts_core.daily VALUES (DATE '2026-01-04', 3)")

    def first(_: object, served: serving.InForce) -> date | None:
        return date(2026, 1, 4) if served.affected_to == 7 else None

    refresh_serving(home, ["marts_core.daily", "marts_core.latest"], datetime(2026, 1, 4), first_day=first)
    with duckdb.connect(str(current(home)), read_only=True) as con:
        assert con.execute("SELECT n FROM marts_core.latest").fetchall() == [(3,)]
        assert con.execute("SELECT count(*) FROM marts_core.daily").fetchall() == [(4,)]
