"""What a statement of an analyst or a chart may read, judged on the engine itself: no server needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from tests.hostile_sql import CONFIG, asked, judge


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with judge(tmp_path_factory.mktemp("serving")) as found:
        yield found


@pytest.mark.parametrize(
    "sql",
    [
        "WITH facility AS (SELECT 1), z AS (SELECT name FROM marts_core.facility) SELECT * FROM z",
        "WITH z AS (SELECT * FROM duckdb_databases), duckdb_databases AS (SELECT 1) SELECT * FROM z",
        "WITH duckdb_databases AS (SELECT * FROM duckdb_databases) SELECT * FROM duckdb_databases",
        "WITH RECURSIVE duckdb_tables AS (SELECT 1 UNION ALL SELECT 1 FROM duckdb_tables) SELECT * FROM duckdb_tables",
        "WITH commune AS (SELECT 1), z AS (SELECT * FROM marts_core.commune) SELECT * FROM z",  # granted, but row rules would not see it
        "SELECT * FROM serving.main.C4N4RY_info",
        "SELECT max(name) FROM marts_core.commune WHERE EXISTS (FROM marts_core.facility)",
        "SELECT * FROM marts_core.commune AT (VERSION => 1)",
        "SELECT getenv('HOME')",
        "FROM query('FROM marts_core.commune')",
        "SELECT 1; SELECT 2",
        "SELECT $1",
        "",
        "-- nothing",
    ],
)
def test_is_refused(serving: SimpleNamespace, sql: str) -> None:
    with pytest.raises(serving.guard.Refused):
        asked(serving, sql)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("WITH commune AS (SELECT 7 AS code) SELECT * FROM commune", [(7,)]),
        ("FROM marts_core.commune SELECT count(*)", [(3,)]),
        ("SELECT name FROM serving.marts_core.commune ORDER BY code LIMIT 1", [("Xã 0",)]),
        ("WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT sum(i) FROM r", [(6,)]),
        (
            "SELECT c.code, lpad(c.code::VARCHAR, 3, '0') FROM marts_core.commune c JOIN marts_environment.reading r USING (code) WHERE r.day = DATE '2026-11-02'",
            [(1, "001")],
        ),
        ("SELECT x FROM marts_core.commune, unnest(parts) u(x) WHERE code = 2 QUALIFY row_number() OVER (ORDER BY x) = 1", [(2,)]),
        ("SELECT count(*) FROM range(10)", [(10,)]),
        ("SELECT list_transform([1, 2], lambda x: x + 1), [x FOR x IN [1, 2] IF x > 1]", [([2, 3], [2])]),
    ],
)
def test_an_analysts_work_is_answered(serving: SimpleNamespace, sql: str, rows: list[tuple[Any, ...]]) -> None:
    assert asked(serving, sql) == rows


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "1," * 60_000 + "1",
        "SELECT 1 WHERE 1 IN (" + "1," * 100_000 + "1)",
        " UNION ALL ".join(["SELECT 1"] * 5_000),
        "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
        "SELECT " + "NOT " * 1_900 + "true",
        "SELECT " + "CASE WHEN true THEN " * 900 + "1" + " END" * 900,
        "SELECT " + "- " * 1_900 + "1",
    ],
)
def test_a_statement_too_large_to_read_is_refused_at_once(serving: SimpleNamespace, sql: str) -> None:
    """Superset's parser took 42 to 99 seconds for such; the limits are looked at before anything reads the text."""
    started = time.process_time()
    with pytest.raises(serving.guard.Refused, match=r"tối đa|lồng nhau"):
        serving.guard.bounded(sql)
    assert time.process_time() - started < 2


def _doubling(first: str, step: str, last: str, links: int = 14) -> str:
    return f"WITH t0 AS ({first})" + "".join(f", t{i} AS ({step.format(i - 1)})" for i in range(1, links)) + last.format(links - 1)


A_THOUSAND = "repeat('a', 1000)"
SWOLLEN = {
    "replace": f"SELECT length(replace(replace({A_THOUSAND}, 'a', {A_THOUSAND}), 'a', {A_THOUSAND}))",
    "a format is computed while it is bound": f"SELECT strftime(DATE '2026-11-01', replace(replace({A_THOUSAND}, 'a', {A_THOUSAND}), 'a', {A_THOUSAND}))",
    "repeat": f"SELECT length(repeat(repeat({A_THOUSAND}, 1000), 1000))",
    "regexp_replace": f"SELECT regexp_replace(name, '', {A_THOUSAND} || {A_THOUSAND}, 'g') FROM marts_core.commune",
    "towers": "SELECT length(" + "hex(" * 20 + "name" + ")" * 21 + " FROM marts_core.commune",
    "list_reduce": "SELECT list_reduce([name, name], lambda a, b: a || a) FROM marts_core.commune",
    "list_reduce from a start": "SELECT length(list_reduce(['b'], lambda a, b: replace(a, 'a', a), repeat(repeat('a', 60), 1000)))",
    "list_filter": "SELECT len(list_filter([repeat(repeat('a', 18), 1000) || code], lambda x: length(replace(x, 'a', x)) > 0)) FROM marts_core.commune",
    "lists that are added": "WITH RECURSIVE t AS (SELECT list(code) AS c FROM marts_core.commune UNION ALL SELECT c + c FROM t) SELECT len(c) FROM t",
    "list_select": f"SELECT list_select([{A_THOUSAND}], [{'1, ' * 1000}1])",
    "list_transform": "SELECT length(list_transform([repeat('a', 400)], lambda x: replace(replace(x, 'a', x), 'a', x))[1])",
    "list_transform with an arrow": "SELECT list_transform(list(name), x -> replace(replace(x, 'a', x), 'a', x)) FROM marts_core.commune",
    "a comprehension": "SELECT [replace(replace(x, 'a', x), 'a', x) for x in [repeat('a', 400)]]",
    "lambdas in lambdas": "SELECT " + "list_transform([name], lambda x: " * 12 + "x || x" + ")" * 12 + " FROM marts_core.commune",
    "a recursion that doubles": "WITH RECURSIVE t AS (SELECT name AS c FROM marts_core.commune UNION ALL SELECT c || c FROM t WHERE length(c) < 400000000) "
    "SELECT max(length(c)) FROM t",
    "a recursion that doubles a letter": "WITH RECURSIVE t AS (SELECT 'a' AS c UNION ALL SELECT c || c FROM t WHERE length(c) < 1000000000) SELECT max(length(c)) FROM t",
    "recursions in recursions": "WITH RECURSIVE a AS (SELECT 'a' AS c UNION ALL (WITH RECURSIVE b AS (SELECT c FROM a UNION ALL SELECT c || c FROM b) SELECT c FROM b)) "
    "SELECT c FROM a",
    "bins": "SELECT equi_width_bins(0, 1000000000, 1000000, false)",
    "stars": _doubling("SELECT 1 AS c", "SELECT * FROM t{0} x, t{0} y", " SELECT count(*) FROM t{0}", 18),
    "stars in a row": f"SELECT {'*, ' * 1500}* FROM marts_core.commune",
    "texts": _doubling("SELECT name AS c FROM marts_core.commune", "SELECT c || c AS c FROM t{0}", " SELECT length(c) FROM t{0}"),
    "rows as structs": _doubling("SELECT 1 AS c", "SELECT {{'a': t{0}, 'b': t{0}}} AS c FROM t{0}", " SELECT c FROM t{0}"),
    "aliases": "SELECT code AS c0" + "".join(f", c{i - 1} * c{i - 1} AS c{i}" for i in range(1, 16)) + " FROM marts_core.commune",
    "aliases of constants": "SELECT 1 AS c0" + "".join(f", c{i - 1} + c{i - 1} AS c{i}" for i in range(1, 16)),
    "sub-queries": "SELECT c || c || c || c AS c FROM (" * 8 + "SELECT name AS c FROM marts_core.commune" + ")" * 8,
    "each column": "SELECT COLUMNS(*)" + " * 2" * 30 + " FROM (SELECT *, * , *, * FROM marts_environment.reading)",
    "groups": "SELECT 1 FROM marts_core.commune GROUP BY CUBE (" + ", ".join(f"code + {i}" for i in range(13)) + ")",
}


@pytest.mark.parametrize("words", ["AS NOT MATERIALIZED", "as not/* */ materialized ", "AS\nNOT --x\nMATERIALIZED"])
def test_a_step_that_is_planned_at_each_of_its_names_is_refused(serving: SimpleNamespace, words: str) -> None:
    """Joined with itself in a chain of sixteen it takes seven seconds of planning, and DuckDB's tree does not say the words."""
    with pytest.raises(serving.guard.Refused, match="NOT MATERIALIZED"):
        serving.guard.tables_of(f"WITH t {words} (SELECT 1 AS c) SELECT * FROM t x, t y")
    serving.guard.tables_of("WITH t AS MATERIALIZED (SELECT NOT true AS materialized) SELECT * FROM t WHERE NOT materialized")


@pytest.mark.parametrize("sql", SWOLLEN.values(), ids=SWOLLEN)
def test_what_swells_is_refused_before_duckdb_plans_it(serving: SimpleNamespace, sql: str) -> None:
    """A few hundred characters took gigabytes and minutes of a plan that hears no interrupt; the tree says it without running anything."""
    started = time.process_time()
    with pytest.raises(serving.guard.Refused, match=r"tối đa|độ dài"):
        serving.guard.tables_of(sql)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name || ' (' || code || ')', replace(name, 'Xã ', ''), upper(trim(name)) FROM marts_core.commune",
        "SELECT string_agg(name, ', ' ORDER BY name), array_to_string(list_sort(list(DISTINCT name)), '; ') FROM marts_core.commune GROUP BY code",
        "SELECT regexp_replace(name, '[0-9]+', '#', 'g'), strftime(now(), '%d/%m/%Y'), json_extract_string('{}', '$.a') FROM marts_core.commune",
        "SELECT list_transform(parts, lambda x: x * 2 + 1), list_reduce(parts, lambda a, b: greatest(a, b)) FROM marts_core.commune",
        _doubling("SELECT *, 1 AS d FROM marts_environment.reading", "SELECT *, value * {0} AS v{0} FROM t{0}", " SELECT * FROM t{0}", 20),
        "SELECT array_to_string(list(strftime(now(), '%d/%m/%Y %H:%M') || ' ' || name || ' ' || code), chr(10)) FROM marts_core.commune",
        "SELECT " + ", ".join(["(" + " + ".join(["code"] * 24) + ") / 24"] * 8) + " FROM marts_core.commune",
        "WITH RECURSIVE t(d) AS (SELECT TIMESTAMP '2026-01-01' UNION ALL SELECT d + INTERVAL 1 HOUR FROM t WHERE d < DATE '2026-01-02') SELECT count(*) FROM t",
        "SELECT list_filter(list_transform(list(code), lambda x: x + 1), lambda x: x > 3) FROM marts_core.commune",
        "SELECT list_transform(string_split(name, ' '), lambda x: upper(x[1]) || lower(x[2:]) || '.') FROM marts_core.commune",
        "WITH RECURSIVE t AS (SELECT 'x' AS path, 1 AS n UNION ALL SELECT name, n + 1 FROM t, marts_core.commune WHERE n < 4) SELECT path || n FROM t",
        _doubling("SELECT name AS c FROM marts_core.commune", "SELECT x.c FROM t{0} x, t{0} y WHERE x.c = ''", " SELECT count(*) FROM t{0}", 14),
        "SELECT word, count(*) FROM (SELECT unnest(string_split(name, ' ')) AS word FROM marts_core.commune) GROUP BY 1",
        "SELECT name, unnest(regexp_extract_all(name, '[a-z]+')), unnest(list(code)) FROM marts_core.commune GROUP BY name",
        "SELECT code AS a, a + 1 AS b, a + b AS c, (c - a) / nullif(b, 0) AS d FROM marts_core.commune",
        f"SELECT {' + '.join(['code'] * 50)} FROM marts_core.commune",
        "SELECT code, sum(code) OVER (PARTITION BY name ORDER BY code) FROM marts_core.commune GROUP BY CUBE (code, name)",
    ],
)
def test_an_analysts_texts_and_steps_are_not_too_large(serving: SimpleNamespace, sql: str) -> None:
    asked(serving, sql)


def test_a_result_is_bounded_in_characters(serving: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB holds a text once that stands in 40,000 rows; what Superset was handed held it as many times."""
    monkeypatch.setattr(serving.connect, "MAX_TEXT", 5_000_000)
    long = "SELECT s FROM (SELECT string_agg(repeat('a', 1000), '') AS s FROM range(1000)), range({})"
    assert len(asked(serving, long.format(4))) == 4
    with pytest.raises(serving.guard.Refused, match="ký tự"):
        asked(serving, long.format(60))


def test_what_no_tree_says_ends_at_the_bound_of_the_process(tmp_path: Path) -> None:
    """Stored texts may be as long as they are: DuckDB answers with an error of memory, and the process goes on."""
    path = tmp_path / "serving-1.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE SCHEMA m; CREATE TABLE m.t AS SELECT repeat('a', 1000000) AS x FROM range(20)")
    code = f"""
import duck_connect, duckdb
duck_connect.granted = lambda _in_lab: None
duck_connect.spent = lambda: print("spent")
duck_connect.bound_process()
con = duck_connect.TimedConnection(duck_connect._File({str(path)!r}), 30, True)
for sql in (
    "SELECT max(length(replace(x, 'a', '{"b" * 200}'))) FROM m.t",
    "SELECT s FROM (SELECT string_agg(repeat('a', 1000), '') AS s FROM range(1000)), range(40000)",
):
    try:
        cursor = con.cursor()
        cursor.execute(sql)
        cursor.fetchall()
    except duckdb.OutOfMemoryException as error:
        print("memory", "nhiều bộ nhớ" in str(error))
cursor = con.cursor()
cursor.execute("SELECT count(*) FROM m.t")
print(cursor.fetchall())
con.close()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(CONFIG), "TNMT_SUPERSET_HOME": str(tmp_path / "superset"), "TNMT_SUPERSET_PROCESS_GB": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = ended.stdout.split("\n")
    assert said.count("memory True") == 2 and "spent" in said and "[(20,)]" in said, ended.stdout + ended.stderr


def test_a_statement_that_hears_no_interrupt_costs_its_process(serving: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """`a LIKE '%x_%x_%'`, distances of long texts, plans: one call of a function looks at nothing meanwhile."""
    told: list[str] = []
    monkeypatch.setattr(serving.connect, "DEAF_SECONDS", 0.2)
    monkeypatch.setattr(serving.connect, "spent", lambda: told.append("spent"))
    deaf = "SELECT levenshtein(a, a || 'b') FROM (SELECT string_agg(repeat('a', 1000), '') a FROM range(36))"
    asked(serving, "SELECT count(*) FROM marts_core.commune", seconds=0.2)
    time.sleep(0.5)
    assert told == []
    with pytest.raises((duckdb.Error, serving.guard.Refused)):
        asked(serving, deaf, seconds=0.1)
    assert told == ["spent"]


def test_the_judge_computes_nothing_and_keeps_no_verdict_of_haste(serving: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is constant was computed there, for minutes that heard no interrupt; a statement asked once under load stayed refused until the next file."""
    monkeypatch.setattr(serving.connect, "granted", lambda _in_lab: None)
    judge = serving.version.judge(None)
    slow = "SELECT list_transform([1, 2, 3, 4], lambda i: levenshtein(repeat(repeat('a', 20), 1000) || i, repeat(repeat('b', 20), 1000)))"
    started = time.monotonic()
    judge.check(slow)
    assert time.monotonic() - started < 4
    asked = "SELECT code FROM marts_core.commune WHERE code > 3"

    def in_haste(_sql: str) -> None:
        raise serving.guard.Unjudged("5 giây")

    with monkeypatch.context() as patch, pytest.raises(serving.guard.Unjudged):
        patch.setattr(judge, "_bind", in_haste)
        judge.check(asked)
    judge.check(asked)


def test_the_clock_stands_while_nobody_asks(serving: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes its download slowly: the process was given up for it. What comes after the pause is bounded as before it."""
    told: list[str] = []
    monkeypatch.setattr(serving.connect, "DEAF_SECONDS", 0.1)
    monkeypatch.setattr(serving.connect, "spent", lambda: told.append("spent"))
    con = serving.connect.TimedConnection(serving.version, 0.5, in_lab=True)
    cursor = con.cursor()
    cursor.execute("SELECT * FROM range(2000)")
    assert len(cursor.fetchmany(1000)) == 1000
    time.sleep(1)
    assert len(cursor.fetchmany(2000)) == 1000 and told == []
    with pytest.raises(duckdb.InterruptException):
        cursor.execute("SELECT sum(a.range + b.range) FROM range(10000000) a, range(10000000) b")
        cursor.fetchall()
    con.close()


@pytest.mark.parametrize("call", ["lpad('x', 2000000000, 'y')", "rpad('x', code, 'y')", "repeat('x', 1001)", "repeat('x', (SELECT 5))"])
def test_a_text_as_long_as_one_likes_is_refused(serving: SimpleNamespace, call: str) -> None:
    with pytest.raises(serving.guard.Refused, match="độ dài"):
        asked(serving, f"SELECT {call} FROM marts_core.commune")


def test_rows_and_time_are_limited(serving: SimpleNamespace) -> None:
    """Past the limit of rows nothing is cut in silence; past that of time DuckDB is interrupted."""
    assert len(asked(serving, "SELECT * FROM range(50001)")) == 50_001
    with pytest.raises(serving.guard.Refused, match="50000 dòng"):
        asked(serving, "SELECT * FROM range(50002)")
    started = time.monotonic()
    with pytest.raises(duckdb.InterruptException):
        asked(serving, "SELECT sum(a.range + b.range) FROM range(10000000) a, range(10000000) b", seconds=1)
    assert time.monotonic() - started < 20


def test_a_day_is_the_provinces_on_a_machine_of_any_zone(serving: SimpleNamespace) -> None:
    assert asked(serving, "SELECT CAST(TIMESTAMPTZ '2026-01-01 20:00:00+00' AS DATE)") == [(date(2026, 1, 2),)]


def test_a_cursor_has_no_way_past_the_judge(serving: SimpleNamespace) -> None:
    """No method of DuckDB's own connection is to be had from what Superset holds."""
    con = serving.connect.TimedConnection(serving.version, 5, in_lab=True)
    cursor = con.cursor()
    for name in ("sql", "query", "read_csv", "table", "from_query", "execute_many", "register"):
        with pytest.raises(AttributeError):
            getattr(cursor, name)
    with pytest.raises(serving.guard.Refused):
        cursor.executemany("SELECT 1", [])
    con.close()


def test_an_account_without_grants_reads_nothing(serving: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.connect, "granted", lambda _in_lab: frozenset())
    with pytest.raises(serving.guard.Refused):
        asked(serving, "SELECT * FROM marts_core.commune")
    assert asked(serving, "SELECT 1") == [(1,)]


def test_names_do_not_hold_the_version_of_the_file(serving: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a swap the same statement reads the new file, by the same name; the list of tables is without system ones."""
    link = tmp_path / "serving.duckdb"
    for number in (1, 2):
        path = tmp_path / f"serving-{number}.duckdb"
        with duckdb.connect(str(path)) as con:
            con.execute(
                f"CREATE SCHEMA marts_core; CREATE TABLE marts_core.commune AS SELECT {number} AS code; CREATE TABLE main.serving_info AS SELECT 1 AS x"
            )
        (tmp_path / "new").symlink_to(path.name)
        (tmp_path / "new").replace(link)
        con = serving.connect.TimedConnection(serving.connect._file(link), 5, in_lab=True)
        cursor = con.cursor()
        cursor.execute("SELECT code FROM serving.marts_core.commune")
        assert cursor.fetchall() == [(number,)]
        dialect = serving.connect.ServingDialect()
        held = SimpleNamespace(connection=con)
        assert dialect.get_schema_names(held) == ["marts_core"]
        assert dialect.get_table_names(held, "marts_core") == ["commune"]
        assert [c["name"] for c in dialect.get_columns(held, "commune", "marts_core")] == ["code"]
        con.close()


def test_every_allowed_function_is_one(serving: SimpleNamespace) -> None:
    """The list names nothing that this DuckDB lacks, and nothing that reads, waits, writes or tells of the server."""
    grammar = {"!", "->", "<", "<=", "<>", "=", ">", ">=", "coalesce", "current_timestamp", "grouping", "grouping_id", "ifnull"}
    rows = duckdb.connect().execute("SELECT function_name, function_type FROM duckdb_functions()").fetchall()
    allowed = serving.guard.ALLOWED_FUNCTIONS
    assert allowed - grammar <= {name.lower() for name, kind in rows if kind in ("scalar", "aggregate", "macro", "table")}
    tabular = {name.lower() for name, kind in rows if kind in ("table", "pragma", "table_macro")}
    assert allowed & tabular <= {"unnest", "histogram"}
    assert not [
        name for name in allowed if name.startswith(("read_", "duckdb_", "pragma_", "pg_", "current_set", "getenv", "query", "sleep", "write"))
    ]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-cmd|x", "@SUM(1)", "\t=1", "\r=1", "\n=1", "|x", "%x", " =1", "\u00a0@x", "\uff1d1", '=HYPERLINK("x")']
)
def test_no_formula_leaves(serving: SimpleNamespace, text: str) -> None:
    assert serving.guard.neutral(text) == f"'{text}".replace("\r", "\n")
    assert serving.guard.neutral("a\r=1") == "a\n=1"


@pytest.mark.parametrize("value", ["-1.5", "-1,5", "+3", "Đất ở", "", "a=b", None, 5, -2.5])
def test_what_is_no_formula_stays(serving: SimpleNamespace, value: Any) -> None:
    assert serving.guard.neutral(value) == value


def test_before_the_first_publish_the_reason_is_said(serving: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(serving.guard.Refused, match="tnmt run"):
        serving.connect._file(tmp_path / "serving.duckdb")
