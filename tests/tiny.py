"""A small province by the command line, run in processes of their own: what kills, catalogs and Dagster are compared by."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from lake.lake import open_reader
from simulator.size import Size
from tnmt.settings import Settings

END = date(2026, 3, 24)
AS_OF = datetime(2026, 3, 25, 0, 10)
TINY = Size("tiny", 1, 0, 0, 1, 1, 1, 120, 6, 40)
FEW = ("--no-marts", "station_txt", "parcel", "dossier")
TNMT = str(Path(sys.executable).parent / "tnmt")


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing killed: its inbox, its platform, and what it left after the ingest and after the build."""

    inbox: Path
    home: Path
    ingested: dict
    whole: dict


def tnmt(home: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TNMT, *arguments], env={**os.environ, "TNMT_HOME": str(home), **extra}, capture_output=True, text=True, check=False)


@functools.cache
def _empty() -> Path:
    """An empty lake, made once a process: `tnmt init` takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _init(folder / "home")
    return folder / "home"


def _init(home: Path, **extra: str) -> None:
    # each platform has a key of its own: with the same one, tokens can be compared too
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "token.key").write_text("0" * 64)
    made = tnmt(home, "init", **extra)
    assert made.returncode == 0, made.stderr


def prepare(home: Path, inbox: Path, **extra: str) -> None:
    """An empty lake with the inbox; the files arrive at the sample's own time in every run, as `ops` alone may tell runs apart."""
    if extra:
        _init(home, **extra)
    else:
        shutil.copytree(_empty(), home, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(inbox, home / "inbox", dirs_exist_ok=True)
    (home / "sample.json").write_text(f'{{"size": "tiny", "seed": 1, "end": "{END}", "as_of": "{AS_OF.isoformat()}"}}')


def state(settings: Settings, *, operations: bool = False) -> dict:
    """Everything that a run leaves but its own ledger, and of the ledger what the marts are computed from. `operations`: the marts on it too."""
    with open_reader(settings) as con:
        con.execute("LOAD spatial")
        schemas = [r[0] for r in con.execute("SELECT schema_name FROM information_schema.schemata WHERE catalog_name = 'lake' ORDER BY 1").fetchall()]
        wanted = [s for s in schemas if s in ("clean", "quarantine") or (s.startswith("marts_") and (operations or s != "marts_operations"))]
        affected = con.execute("SELECT DISTINCT source, target, unit, day FROM lake.ops.affected ORDER BY ALL").fetchall()
        return {schema: table_rows(con, schema) for schema in wanted} | {"ops": {"affected": affected}}


def compare(found: dict, expected: dict, what: str) -> None:
    assert sorted(found) == sorted(expected)
    for schema, tables in expected.items():
        for name, rows in tables.items():
            assert found[schema][name] == rows, (what, schema, name)


def table_rows(con: duckdb.DuckDBPyConnection, schema: str) -> dict[str, list[tuple]]:
    """All rows of a schema's tables, ordered, geometry as text; for comparing two lakes."""
    found: dict[str, list[tuple]] = {}
    for (name,) in con.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'lake' AND table_schema = ? AND table_type = 'BASE TABLE' ORDER BY 1",
        [schema],
    ).fetchall():
        columns = con.execute(f"DESCRIBE lake.{schema}.{name}").fetchall()
        picked = ", ".join(f"ST_AsText({c[0]})" if str(c[1]).startswith("GEOMETRY") else c[0] for c in columns)
        found[name] = con.execute(f"SELECT {picked} FROM lake.{schema}.{name} ORDER BY ALL").fetchall()
    return found
