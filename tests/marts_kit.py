"""A mart's SQL on hand-made rows: compiled by dbt, run on an in-memory database that holds nothing but its inputs."""

from __future__ import annotations

import atexit
import csv
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
from dbt.cli.main import dbtRunner

from lake.lake import create
from marts.build import dbt_environment
from marts.parsed import describe, parsed
from tnmt.settings import ROOT, Settings

PROJECT = ROOT / "dbt_project"
SEEDS = PROJECT / "seeds/reference"


class Compiled(dict[str, str]):
    """Model -> SQL; its text stays out of the report of a failed test."""

    def __repr__(self) -> str:
        return f"Compiled({', '.join(self)})"


def dbt(settings: Settings, home: Path, *arguments: str, manifest: Any = None, **variables: str | int | None) -> Any:
    """Runs dbt in this process on the lake of `settings`; target and logs go below `home`. Returns what dbt returns; fails where dbt does.

    `manifest` is the result of an earlier `parse`, with what runs have compiled since.
    """
    before = dict(os.environ)
    os.environ.update(dbt_environment(settings))
    common = ["--quiet", "--target-path", str(home / "target"), "--log-path", str(home / "logs")]
    try:
        if manifest is None and arguments[0] != "parse":
            manifest = parsed(settings)
        if manifest is not None:
            describe(manifest)
            manifest.build_flat_graph()
        done = dbtRunner(manifest=manifest).invoke([*arguments, *common, "--vars", json.dumps(variables)])
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert done.success, done.exception or [(r.node.name, r.message) for r in done.result.results if r.status not in ("success", "pass", "no-op")]  # type: ignore[union-attr]
    return done


@functools.cache
def _empty() -> tuple[Settings, Any]:
    """A lake that nothing is ever written into, one a process, and the project as it was parsed on it: compiling asks the lake what it holds."""
    folder = Path(tempfile.mkdtemp(prefix="compile-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = Settings(home=folder)
    create(settings)
    before = dict(os.environ)
    os.environ.update(dbt_environment(settings))
    try:
        return settings, parsed(settings)
    finally:
        os.environ.clear()
        os.environ.update(before)


def compiled(home: Path, models: Iterable[str], as_of: str, **variables: str) -> Compiled:
    """The SQL of a full build of each model, as dbt would run it. `home` is an empty folder."""
    settings, manifest = _empty()
    done = dbt(settings, home, "compile", "--select", *models, manifest=manifest, as_of=as_of, **variables)
    return Compiled({r.node.name: r.node.compiled_code for r in done.result.results if r.node.resource_type == "model"})


def database(tables: Mapping[str, tuple[str, list[tuple[Any, ...]]]], seeds: Iterable[str] = ()) -> duckdb.DuckDBPyConnection:
    """An in-memory `lake` with the tables {schema.name: (columns as SQL, rows)} and seeds as their CSV files have them."""
    con = duckdb.connect(config={"threads": 2})
    con.execute("ATTACH ':memory:' AS lake")
    for name in [*tables, *(f"reference.{s}" for s in seeds), "marts_environment.x"]:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS lake.{name.split('.')[0]}")
    for name, (columns, rows) in tables.items():
        con.execute(f"CREATE TABLE lake.{name} ({columns})")
        if rows:
            con.executemany(f"INSERT INTO lake.{name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    for seed in seeds:
        con.execute(f"CREATE TABLE lake.reference.{seed} AS SELECT * FROM read_csv('{SEEDS / seed}.csv', header = true, nullstr = '')")
    return con


def seed_rows(name: str) -> list[dict[str, str]]:
    """A seed as Python reads it."""
    with (SEEDS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def records(con: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """What a query finds, a dictionary a row."""
    cursor = con.execute(query)
    names = [c[0] for c in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
