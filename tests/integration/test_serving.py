"""The serving file under readers: a swap disturbs nobody, and new connections see new data at once."""

from __future__ import annotations

import threading
from datetime import date, datetime

import duckdb

from lake.lake import open_writer
from lake.serving import current, publish_serving


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
