"""A grammar of statements that mix what an analyst writes with what would show more than was granted, or take all that there is.

Every statement is a function of its number. `WORD` stands in every place that must not be seen: values of tables that are not
granted, the name of a table that nobody names, the folder of the file, a file beside it, the environment.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb

from tnmt.settings import ROOT

WORD = "C4N4RY"
GRANTED = frozenset({("marts_core", "commune"), ("marts_environment", "reading")})


def make_file(folder: Path) -> Path:
    """A serving file of two granted tables and three others, and a CSV, all with WORD where nobody may look."""
    folder = folder / WORD
    folder.mkdir()
    (folder / "beside.csv").write_text(f"a,b\n1,{WORD}\n")
    path = folder / "serving-1.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE SCHEMA marts_core; CREATE SCHEMA marts_environment")
        con.execute("CREATE TABLE marts_core.commune AS SELECT i AS code, 'Xã ' || i AS name, [i, i + 1] AS parts FROM range(3) r(i)")
        con.execute(
            "CREATE TABLE marts_environment.reading AS SELECT i AS code, i * 1.5 AS value, DATE '2026-11-01' + i::INT AS day FROM range(5) r(i)"
        )
        for table in ("marts_core.facility", "marts_environment.secret", f"main.{WORD}_info"):
            con.execute(
                f"CREATE TABLE {table} AS SELECT 1 AS code, '{WORD}' AS name, '{WORD}' AS value, DATE '2026-11-01' AS day, ['{WORD}'] AS parts"
            )
    return path


CONFIG = ROOT / "dashboards/config"


@contextmanager
def judge(folder: Path) -> Iterator[SimpleNamespace]:
    """The modules of dashboards/config over a file of canaries in `folder`, as an account that was granted two tables."""
    file = make_file(folder)
    before = dict(os.environ)
    os.environ.update(TNMT_SUPERSET_HOME=str(file.parents[1] / "superset"), TNMT_CANARY=WORD)
    sys.path.insert(0, str(CONFIG))
    try:
        import duck_connect
        import sql_guard

        duck_connect.granted = lambda _in_lab: GRANTED
        yield SimpleNamespace(file=file, connect=duck_connect, guard=sql_guard, version=duck_connect._File(str(file)))
    finally:
        sys.path.remove(str(CONFIG))
        for name in ("duck_connect", "sql_guard", "sql_size"):
            sys.modules.pop(name, None)
        os.environ.clear()
        os.environ.update(before)


def asked(serving: SimpleNamespace, sql: str, seconds: float = 2) -> list[tuple[Any, ...]]:
    """The rows of a statement, judged as one of SQL Lab."""
    con = serving.connect.TimedConnection(serving.version, seconds, in_lab=True)
    try:
        cursor = con.cursor()
        cursor.execute(sql)
        return cursor.fetchall()
    finally:
        con.close()


class Grammar:
    """Makes one statement."""

    def __init__(self, number: int, file: Path) -> None:
        self.r = random.Random(number)
        self.beside = file.with_name("beside.csv").as_posix().replace(WORD, "*")  # a pattern: the folder's name is not given away
        self.names: list[str] = []

    def statement(self) -> str:
        """Mostly a query, sometimes another command, written in one of many ways."""
        kind = self.r.random()
        text = self.query(3) if kind < 0.8 else self.swollen() if kind < 0.87 else self.command()
        return self.spelt(text)

    def swollen(self) -> str:
        """Short to write; what it makes, or what the planner makes of it, has no end."""
        r, n = self.r, self.r.randint(12, 30)
        chain = range(1, n)
        long = f"repeat('{r.choice('ab')}', 1000)"
        stored = f"name FROM {r.choice(['marts_core.commune', 'serving.marts_core.commune'])}"
        tower = r.choice(["hex", "to_json", "url_encode", "bin", "regexp_escape"])
        doubled = r.choice(
            ["c || c", "concat(c, c)", "[c, c]", "{'a': c, 'b': c}", "replace(c, 'a', 'aaaa')", "json_array(c, c)", "list_value(c, c)::VARCHAR"]
        )
        return r.choice(
            [
                *(f"SELECT length(replace(replace({long}, 'a', {long}), 'a', {long}))", f"SELECT length(repeat(repeat({long}, 1000), 1000))"),
                f"SELECT strftime(DATE '2026-11-01', replace(replace({long}, 'a', {long}), 'a', {long}))",
                f"SELECT max(length(regexp_replace(regexp_replace({long} || name, '', {long}, 'g'), '', {long}, 'g'))) FROM marts_core.commune",
                "SELECT max(length(" + f"{tower}(" * 27 + stored.replace(" FROM", ")" * 27 + ")) FROM"),
                "SELECT 1 AS c0"
                + "".join(f", {r.choice(['c{0} * c{0}', '-c{0} - c{0}', 'greatest(c{0}, c{0})']).format(i - 1)} AS c{i}" for i in chain),
                f"SELECT code AS c0{''.join(f', c{i - 1} * c{i - 1} AS c{i}' for i in chain)} FROM marts_core.commune",
                "WITH t0 AS (SELECT 1 AS c)"
                + "".join(f", t{i} AS (SELECT {r.choice(['*', 'x.*, y.*'])} FROM t{i - 1} x, t{i - 1} y)" for i in chain)
                + f" SELECT count(*) FROM t{n - 1}",
                f"WITH t0 AS (SELECT {stored.replace('name', 'name AS c')})"
                + "".join(f", t{i} AS (SELECT {doubled} AS c FROM t{i - 1})" for i in chain)
                + f" SELECT max(length(c::VARCHAR)) FROM t{n - 1}",
                f"SELECT list_reduce([name, name, {', '.join(['name'] * n)}], lambda a, b: a || a) FROM marts_core.commune",
                f"SELECT len(equi_width_bins(0, 1000000000, {10**n if n < 18 else 1000000}, false)) FROM range(1000)",
                "SELECT 1 FROM marts_core.commune GROUP BY CUBE (" + ", ".join(f"code + {i}" for i in range(n - 9)) + ")",
                f"SELECT {', '.join(['*'] * 3000)} FROM marts_core.commune",
            ]
        )

    def query(self, depth: int) -> str:
        """A SELECT with every clause in turn."""
        r, kept = self.r, list(self.names)
        head = self.ctes(depth) if depth and r.random() < 0.4 else ""
        if r.random() < 0.07:
            body = f"TABLE {self.table()}"
        elif r.random() < 0.05:
            body = f"VALUES ({self.expression(depth - 1)})"
        else:
            columns = r.choice(["*", "t.*", "COLUMNS(*)", f"{self.expression(depth - 1)} AS x, t.*", self.expression(depth - 1), "max(t::VARCHAR)"])
            source = f"FROM {self.source(depth - 1)} AS t"
            body = f"{source} SELECT {columns}" if r.random() < 0.15 else f"SELECT {r.choice(['', 'DISTINCT '])}{columns} {source}"
            if r.random() < 0.2:
                body += f" {r.choice(['JOIN', 'LEFT JOIN', 'POSITIONAL JOIN', 'CROSS JOIN', ',', ', LATERAL'])} {self.lateral(depth - 1)} AS u"
                body += " ON true" if " JOIN " in body and "POSITIONAL" not in body and "CROSS" not in body and " AS u" in body else ""
            if r.random() < 0.3:
                body += f" WHERE {self.condition(depth - 1)}"
            if r.random() < 0.1:
                body += f" QUALIFY row_number() OVER (ORDER BY {self.expression(0)}) < 5"
        if depth and r.random() < 0.15:
            body += f" {r.choice(['UNION ALL', 'UNION', 'EXCEPT', 'INTERSECT', 'UNION ALL BY NAME'])} {self.query(depth - 1)}"
        if r.random() < 0.15:
            body += f" ORDER BY {r.choice(['1', 'ALL', self.expression(0)])}"
        if r.random() < 0.25:
            body += f" LIMIT {r.choice(['3', '3 OFFSET 1', '50%', '(SELECT 2)', '1000000000'])}"
        self.names = kept
        return head + body

    def ctes(self, depth: int) -> str:
        """Some with names of tables, of granted ones, of the system: decoys."""
        parts = []
        recursive = self.r.random() < 0.25
        for _ in range(self.r.randint(1, 3)):
            name = self.r.choice(["a", "b", "z", "commune", "facility", "secret", "reading", "duckdb_tables", "marts_core", '"secret"', "serving"])
            if recursive and self.r.random() < 0.5:
                step = self.r.choice([f"SELECT i + 1 FROM {name}", f"SELECT i + 1 FROM {name} WHERE i < 4", f"SELECT code FROM {self.table()}"])
                parts.append(f"{name}(i) AS (SELECT 1 {self.r.choice(['UNION ALL', 'UNION'])} {step})")
            else:
                how = self.r.choice(["AS", "AS", "AS MATERIALIZED", "AS NOT MATERIALIZED"])
                parts.append(f"{name} {how} ({self.r.choice(['SELECT 1 AS code', self.query(depth - 1)])})")
            self.names.append(name)
        return f"WITH {'RECURSIVE ' if recursive else ''}{', '.join(parts)} "

    def table(self) -> str:
        """A table of every kind."""
        if self.names and self.r.random() < 0.4:
            return self.r.choice(self.names)
        if self.r.random() < 0.7:
            return self.r.choice(
                ["marts_core.commune", "marts_environment.reading", '"marts_core"."commune"', "serving.marts_core.commune", "MARTS_CORE.Commune"]
            )
        return self.r.choice(
            [
                *("marts_core.facility", "marts_environment.secret", '"MARTS_CORE"."Facility"', "serving.marts_core.facility", "facility", "secret"),
                *("information_schema.tables", "information_schema.columns", "pg_catalog.pg_tables", "pg_tables", "pg_catalog.pg_class"),
                *("duckdb_tables", "duckdb_databases", "main.duckdb_tables", "system.main.duckdb_databases", "pragma_database_list"),
                *("sqlite_master", "sqlite_schema", "duckdb_columns", "duckdb_settings", "marts_core.main.facility", "temp.facility"),
                *(f"'{self.beside}'", f'"{self.beside}"', "'/etc/passwd'", "'https://example.vn/a.parquet'", "marts_core/**/.facility"),
            ]
        )

    def source(self, depth: int) -> str:
        """One entry of FROM."""
        if depth <= 0 or self.r.random() < 0.5:
            return self.table()
        return self.r.choice(
            [
                *(f"({self.query(depth)})",) * 3,
                f"(PIVOT {self.table()} ON code IN (1, 2) USING max(name))",
                f"(UNPIVOT {self.table()} ON COLUMNS(* EXCLUDE code) INTO NAME n VALUE v)",
                f"(SUMMARIZE {self.table()})",
                f"(DESCRIBE {self.table()})",
                "(SHOW ALL TABLES)",
                f"query('FROM {self.table().replace(chr(39), chr(39) * 2)}')",
                f"query_table(['{self.table().replace(chr(39), '')}'])",
                f"unnest((SELECT list(x) FROM {self.table()} x))",
                "range(3)",
                f"read_csv('{self.beside}')",
                f"read_text('{self.beside}')",
                f"glob('{self.beside}')",
                "duckdb_databases()",
                "duckdb_tables()",
                "duckdb_settings()",
                "duckdb_columns()",
                "pragma_table_info('marts_core.facility')",
                "pragma_storage_info('marts_core.facility')",
                "json_execute_serialized_sql(json_serialize_sql('FROM marts_core.facility'))",
                "repeat_row(1, num_rows=1000000000)",
                f"(VALUES ({self.expression(depth - 1)}))",
            ]
        )

    def lateral(self, depth: int) -> str:
        """The other side of a join."""
        return self.r.choice([self.table(), f"(SELECT t.code, (SELECT max(s.name) FROM {self.table()} s) AS q)", f"({self.query(max(depth, 0))})"])

    def expression(self, depth: int) -> str:
        """A value."""
        table = self.table()
        harmless = [
            "1",
            "t.code",
            "count(*)",
            "upper('x')",
            "date_trunc('month', DATE '2026-11-01')",
            "[x + 1 FOR x IN [1, 2]]",
            "lpad('1', 5, '0')",
            "{'a': 1}",
        ]
        hostile = [
            *(f"(SELECT max(name) FROM {table})", f"(SELECT list(s) FROM {table} s)", f"EXISTS (FROM {table})", f"ARRAY(SELECT name FROM {table})"),
            *("getenv('TNMT_CANARY')", "current_setting('TNMT_CANARY')", "getvariable('x')", "current_query()", "current_database()", "pg_sleep(1)"),
            *(
                f"count(*) FILTER (EXISTS (FROM {table}))",
                f"max((SELECT name FROM {table})) OVER ()",
                f"CASE WHEN true THEN (SELECT first(name) FROM {table}) END",
            ),
            *(
                "lpad('x', 100000000, 'y')",
                "repeat('x', t.code * 100000000)",
                f"read_text('{self.beside}')",
                "sleep_ms(2000)",
                "write_log('x')",
                "nextval('s')",
            ),
            *(f"list_transform([1], x -> (SELECT max(name) FROM {table}))", f"coalesce(NULL, (SELECT max(s::VARCHAR) FROM {table} s))", "$1", "?"),
            *(
                f"(WITH facility AS (SELECT 1) SELECT max(name) FROM {table})",
                "json_serialize_sql('FROM marts_core.facility')",
                "version()",
                "query('x')",
            ),
        ]
        if depth > 0 and self.r.random() < 0.2:
            return f"({self.query(depth - 1)} LIMIT 1)"
        return self.r.choice(harmless if self.r.random() < 0.75 else hostile)

    def condition(self, depth: int) -> str:
        """A truth value."""
        return self.r.choice(
            [
                "true",
                "code > 0",
                f"code IN (SELECT code FROM {self.table()})",
                f"{self.expression(depth)} IS NOT NULL",
                f"(1, 2) = ANY(SELECT (1, 2) FROM {self.table()})",
            ]
        )

    def command(self) -> str:
        """What is no query, or more than one."""
        table, query = self.table(), self.query(1)
        return self.r.choice(
            [
                *(
                    f"PIVOT {table} ON code USING max(name)",
                    f"UNPIVOT {table} ON name INTO NAME n VALUE v",
                    f"SUMMARIZE {table}",
                    f"DESCRIBE {table}",
                ),
                *("SHOW ALL TABLES", "PRAGMA database_list", "PRAGMA show_tables", "SHOW DATABASES", f"EXPLAIN ANALYZE {query}", f"EXPLAIN {query}"),
                *(
                    f"CALL query('FROM {table.replace(chr(39), '')}')",
                    f"SET VARIABLE x = (SELECT list(s) FROM {table} s)",
                    "SET enable_external_access = true",
                ),
                *(
                    "ATTACH ':memory:' AS other",
                    "DETACH serving",
                    "USE memory",
                    "LOAD httpfs",
                    "INSTALL httpfs",
                    "EXPORT DATABASE 'x'",
                    "CHECKPOINT",
                    "VACUUM",
                ),
                *(
                    f"COPY ({query}) TO '/dev/null'",
                    f"PREPARE p AS {query}",
                    "EXECUTE p",
                    f"CREATE TABLE memory.main.x AS {query}",
                    "CREATE MACRO m() AS 1",
                ),
                *(
                    f"SELECT 1; {query}",
                    f"{query}; {query}",
                    f"CREATE TEMP VIEW v AS {query}",
                    f"INSERT INTO marts_core.commune {query}",
                    "BEGIN",
                    "RESET ALL",
                ),
                *(
                    "SELECT " + "(" * 200 + "1" + ")" * 200,
                    "SELECT " + "NOT " * 3000 + "true",
                    "SELECT " + "1," * 30000 + "1",
                    "SELECT '" + "x" * 50000 + "'",
                ),
                *(
                    " UNION ALL ".join(["SELECT 1"] * 5000),
                    "SELECT 1 WHERE 1 IN (" + "1," * 10000 + "1)",
                    "SELECT sum(a.range) FROM range(100000000) a, range(100000000) b",
                ),
            ]
        )

    def spelt(self, text: str) -> str:
        """The same in other letters, with comments and odd spaces; only where that cannot change a string."""
        r = self.r
        if r.random() < 0.2 and "'" not in text and '"' not in text:
            text = "".join(c.upper() if r.random() < 0.5 else c.lower() for c in text)
        if r.random() < 0.2:
            text = text.replace(
                " ", r.choice(["/**/ ", "\n", " /* FROM marts_core.commune */ ", " --x\n", "\u00a0", "\t", "\u2003"]), r.randint(1, 4)
            )
        return (
            r.choice(["", "", "", " ", ";", "/* ; */ ", "\ufeff"]) + text + r.choice(["", "", "", ";", " -- x", ";;", "\0 FROM marts_core.facility"])
        )


def statements(file: Path, count: int, first: int = 0) -> Iterator[str]:
    """`count` statements from number `first` on."""
    return (Grammar(n, file).statement() for n in range(first, first + count))
