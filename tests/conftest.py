"""Platforms that tests share: making one costs seconds, so the read-only tests look at the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from ingestion.ingest import Ingested
from lake.lake import create, open_reader
from orchestration.run import run
from simulator.manifest import Manifest
from simulator.sample import generate
from simulator.size import SIZES
from tests.examples import examples
from tests.tiny import AS_OF, END, FEW, TINY, Undisturbed, prepare, state, tnmt
from tnmt.settings import Settings, settings

hypothesis.settings.register_profile("project", examples(100))
hypothesis.settings.load_profile("project")


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


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The tiny province after one whole run by the command line. Only to be read."""
    base = tmp_path_factory.mktemp("undisturbed")
    generate(base / "sample", Settings().reference, 1, END, TINY)
    prepare(base / "home", base / "sample")
    s = Settings(home=base / "home")
    done = tnmt(s.home, "run", *FEW)
    assert done.returncode == 0, done.stderr
    ingested = state(s)
    done = tnmt(s.home, "run")
    assert done.returncode == 0, done.stderr
    return Undisturbed(base / "sample", s.home, ingested, state(s))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty lake of its own."""
    monkeypatch.setenv("TNMT_HOME", str(tmp_path / "home"))
    s = settings()
    create(s)
    return s
