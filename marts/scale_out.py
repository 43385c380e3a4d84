"""Models that run on Spark: `spark_select`, the SQL function by which dbt hands one over, and the lint of all that opted in.

A model opts in by `meta.scale_out`, and `--vars '{engine: spark}'` (or TNMT_ENGINE) switches all that did. Only their SELECT moves
(macros/create_table.sql): order, tests, materialisation and commit stay with dbt and DuckDB, and so does every other model.
"""

from __future__ import annotations

import atexit
import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from ingestion.versions import PAST_TYPES

if TYPE_CHECKING:
    from tnmt.settings import Settings


class Plugin(BasePlugin):
    """What dbt-duckdb asks for when it opens its connection. Neither pyspark nor sqlglot is imported before a model is handed over."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Registers `spark_select(VARCHAR) -> VARCHAR`."""
        conn.create_function("spark_select", spark_select, ["VARCHAR"], "VARCHAR", side_effects=True)


class Runner:
    """Runs SELECTs of DuckDB's dialect on Spark, each over the lake at one snapshot."""

    def __init__(self) -> None:
        """Nothing is started before the first model."""
        self.staged = ExitStack()

    @cached_property
    def spark(self) -> Any:
        """One session a process; stopped at its end, before what it staged is removed."""
        from lake.spark.read import session
        from tnmt.settings import settings

        spark = session(settings())
        atexit.register(self.close)
        return spark

    def close(self) -> None:
        """Removes what is staged and ends Spark."""
        self.staged.close()
        if "spark" in self.__dict__:
            self.spark.stop()
            del self.__dict__["spark"]

    def select(self, query: str) -> str:
        """Runs the query on Spark and returns the SELECT by which DuckDB reads its rows, with DuckDB's own names and types of the query.

        Raises Unportable, Refused, SparkMissing or SparkFailed. What an earlier call staged is removed: dbt is done with it.
        """
        from lake.lake import latest_snapshot, open_reader
        from lake.spark.write import explaining, stage, staging
        from tnmt.settings import settings

        s = settings()
        with open_reader(s) as con:
            snapshot = latest_snapshot(con)
        with open_reader(s, snapshot=snapshot) as con:
            con.execute("LOAD spatial")
            types = {r[0]: r[1] for r in con.execute(f"DESCRIBE {query}").fetchall()}
            sql, tables = translated(con, query)
            self.staged.close()
            place = self.staged.enter_context(staging(self.spark, s))
            with explaining(place):
                self._see(con, tables, snapshot)
                return stage(self.spark.sql(sql), place, types)

    def _see(self, con: duckdb.DuckDBPyConnection, tables: dict[str, tuple[str, ...]], snapshot: int) -> None:
        """Makes tables and views of the lake known to Spark; a view by its own SQL, after what it reads."""
        from lake.spark.read import read
        from lake.spark.translate import view_name

        views = views_of(con)
        columns: dict[str, set[str]] = {}
        queries: dict[str, str] = {}

        def collect(below: dict[str, tuple[str, ...]]) -> None:
            for name, used in below.items():
                if name not in views:
                    columns.setdefault(name, set()).update(used)
                elif name not in queries:
                    sql, deeper = translated(con, view_query(views[name]))
                    collect(deeper)
                    queries[name] = sql  # after what it reads

        collect(tables)
        for name, used in columns.items():
            read(self.spark, con, name, snapshot=snapshot, columns=sorted(used)).createOrReplaceTempView(view_name(name))
        for name, sql in queries.items():
            self.spark.sql(sql).createOrReplaceTempView(view_name(name))


RUNNER = Runner()


def spark_select(query: str) -> str:
    """See `Runner.select`; one runner a process."""
    return RUNNER.select(query)


def views_of(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """CREATE VIEW statements of the catalog `lake`, as DuckDB keeps them, by `schema.name`."""
    return dict(con.execute("SELECT schema_name || '.' || view_name, sql FROM duckdb_views() WHERE database_name = 'lake'").fetchall())


def view_query(statement: str) -> str:
    """The SELECT of a CREATE VIEW."""
    from sqlglot import exp, parse_one

    created = parse_one(statement, read="duckdb")
    assert isinstance(created, exp.Create)
    return str(created.expression.sql("duckdb"))


def translated(con: duckdb.DuckDBPyConnection, query: str) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Spark SQL of a query, and the columns that it reads by table or view of the lake. Raises Unportable."""
    from lake.lake import columns_of
    from lake.spark.translate import tables_of, to_spark

    done = to_spark(query, columns_of(con, tables_of(query)))
    return done.sql, done.tables


FORMS: dict[str, dict[str, str]] = {"whole": {}, "incremental": {"known_first_day": "2026-03-20"}}
"""Builds whose SQL differs: of all days, and from a day on."""


def compiled(settings: Settings, variables: dict[str, str], select: str = "+config.meta.scale_out:true") -> dict[str, Any]:
    """dbt's manifest with the SQL of the selected nodes, as of a fixed moment, compiled on the lake of `settings`."""
    from marts.build import DBT, run_dbt, target_dir

    command = [DBT, "compile", "--no-use-colors", "--quiet"]
    run_dbt([*command, "--select", select, "--vars", json.dumps({"as_of": "2026-03-25 00:10:00", **variables})], settings)
    manifest: dict[str, Any] = json.loads((target_dir(settings) / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def empty_lake(con: duckdb.DuckDBPyConnection, manifest: dict[str, Any]) -> None:
    """Makes every table and view that compiled models read, without rows, typed as contracts, seeds and SQL say, in a database `lake` in memory."""
    from tnmt.settings import ROOT

    con.execute("LOAD spatial")
    con.execute("ATTACH ':memory:' AS lake")
    tables: dict[str, dict[str, str]] = {}
    for source in sorted(manifest["sources"].values(), key=lambda s: not s["columns"]):
        columns = {c["name"]: c["data_type"] for c in source["columns"].values()}
        if not columns:  # a history has the columns of its table, and when each version held and was known
            columns = tables[f"{source['schema']}.{source['name'].removesuffix('_history')}"] | PAST_TYPES
        tables[f"{source['schema']}.{source['name']}"] = columns
    nodes = manifest["nodes"].values()
    tables |= {f"{n['schema']}.{n['name']}": n["config"]["column_types"] for n in nodes if n["resource_type"] == "seed"}
    for table, columns in tables.items():
        con.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{table.partition('.')[0]}")
        con.execute(f"CREATE TABLE lake.{table} ({', '.join(f'{chr(34)}{c}{chr(34)} {t}' for c, t in columns.items())})")
    # the ledger's tables that macros read without declaring them: what an incremental build recomputes
    for statement in re.findall(r"CREATE TABLE IF NOT EXISTS lake\.ops\..*?;", (ROOT / "lake" / "schema.sql").read_text(encoding="utf-8"), re.DOTALL):
        con.execute(statement)
    waiting = {n["unique_id"]: n for n in nodes if n["resource_type"] == "model" and n.get("compiled_code")}
    while waiting:
        for key in [k for k, n in waiting.items() if not waiting.keys() & set(n["depends_on"]["nodes"])]:
            node = waiting.pop(key)
            con.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{node['schema']}")
            kind = "VIEW" if node["config"]["materialized"] == "view" else "TABLE"
            con.execute(f"CREATE {kind} lake.{node['schema']}.{node['name']} AS {node['compiled_code']}")


def lint() -> Iterator[str]:
    """Translates every model that opted in, and the views it reads, in the forms of a whole and of an incremental build; yields what is refused.

    Needs no Java and no lake. A model that nobody checked is no model that runs: where none opted in, that is said too.
    """
    from lake.lake import create, duck
    from tnmt.settings import Settings as Fresh

    for form, variables in FORMS.items():
        with TemporaryDirectory() as home:
            settings = Fresh(home=Path(home), catalog="sqlite", data=None)
            create(settings)
            manifest = compiled(settings, variables)
            with duck(settings) as con:
                empty_lake(con, manifest)
                yield from (f"{refusal} ({form})" for refusal in _refused(con, manifest))


def _refused(con: duckdb.DuckDBPyConnection, manifest: dict[str, Any]) -> Iterator[str]:
    from lake.spark.translate import Unportable

    models = {f"{n['schema']}.{n['name']}": n for n in manifest["nodes"].values() if n["resource_type"] == "model" and n.get("compiled_code")}
    waiting = [name for name, n in models.items() if n["config"]["meta"].get("scale_out")]
    if not waiting:
        yield "no model has meta.scale_out"
    views, seen = views_of(con), set[str]()
    while waiting:
        if (name := waiting.pop()) in seen:
            continue
        seen.add(name)
        try:
            _, tables = translated(con, view_query(views[name]) if name in views else models[name]["compiled_code"])
        except Unportable as error:
            yield f"{models[name]['original_file_path']}: {error}"
            continue
        waiting += [t for t in tables if t in views]


if __name__ == "__main__":
    found = list(dict.fromkeys(lint()))
    sys.exit("\n".join(found) if found else 0)
