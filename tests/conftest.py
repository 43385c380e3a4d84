"""Platforms that tests share: making one costs seconds, so the read-only tests look at the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb
import hypothesis
import pytest

from ingestion.ingest import Ingested
from lake.lake import create, open_reader
from orchestration.run import run
from simulator.manifest import Manifest
from simulator.sample import generate
from simulator.size import SIZES
from tests.examples import examples
from tnmt.settings import Settings, settings

hypothesis.settings.register_profile("project", examples(100))
hypothesis.settings.load_profile("project")

END = date(2026, 3, 24)
AS_OF = datetime(2026, 3, 25, 0, 10)


@dataclass(frozen=True)
class Platform:
    """A platform that has run once, and what its sample promised."""

    settings: Settings
    manifest: Manifest
    ingested: Ingested

    def rows(self, statement: str) -> list[tuple]:
        """Rows of a query on the lake."""
        with open_reader(self.settings) as con:
            con.execute("LOAD spatial")
            return con.execute(statement).fetchall()


def new_platform(home: Path, **extra: str) -> Settings:
    """Settings of an empty lake at `home`; the environment is changed for child processes too."""
    os.environ["TNMT_HOME"] = str(home)
    for name, value in extra.items():
        os.environ[name] = value
    s = settings()
    create(s)
    return s


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The sample of size XS after one whole run. Only to be read."""
    home = tmp_path_factory.mktemp("platform")
    before = dict(os.environ)
    s = new_platform(home)
    manifest = generate(s.inbox, s.reference, 1, END, SIZES["XS"])
    ran = run(s, now=AS_OF, as_of=AS_OF, run_id="first")
    assert not ran.ingested.errors
    os.environ.clear()
    os.environ.update(before)
    yield Platform(s, manifest, ran.ingested)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty lake of its own."""
    monkeypatch.setenv("TNMT_HOME", str(tmp_path / "home"))
    s = settings()
    create(s)
    return s


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
