"""Platforms that tests share: making one costs seconds, so the read-only tests look at the same. And which modules run side by side."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from ingestion.ingest import Ingested
from lake.lake import create, open_reader
from orchestration.run import run
from simulator.manifest import Manifest
from simulator.sample import generate
from simulator.size import SIZES
from tests.examples import examples
from tests.postgres_kit import Server, new_server, remove
from tests.support import need
from tests.tiny import AS_OF, END, FEW, TINY, Undisturbed, prepare, state, tnmt
from tnmt.settings import Settings, settings

hypothesis.settings.register_profile("project", examples(100))
hypothesis.settings.load_profile("project")

BESIDE = str(Path(__file__).resolve().parents[1] / "var") + os.sep
"""The platform that `make run` puts into the clone. No test takes anything from it: what is there differs from clone to clone."""

os.environ["TNMT_HOME"] = str(Path(__file__).resolve() / "no-home")  # below a file: what forgets to name a home of its own fails on any machine


def _stays_away(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | os.PathLike) and os.fspath(arguments[0]).startswith(BESIDE):
        raise RuntimeError(f"a test opens {arguments[0]}, which belongs to the platform beside it")


sys.addaudithook(_stays_away)


@pytest.fixture(scope="module", autouse=True)
def _leaves_no_trace(request: pytest.FixtureRequest) -> Iterator[None]:
    """The environment decides which platform a process works on: what a module, or the code that it ran, leaves in it would choose for the next one."""

    def of_a_platform() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.startswith(("TNMT_", "DBT_", "DAGSTER_")) or name == "TZ"}

    before = of_a_platform()
    yield
    changed = {name for name, _ in before.items() ^ of_a_platform().items()}
    assert not changed, f"{request.module.__name__} leaves the environment changed: {sorted(changed)}"


TOGETHER = (
    ("test_kill", "test_postgres_catalog", "test_dagster", "test_random_kills"),
    ("test_real_data", "test_real_marts"),
    ("test_spark_bridge", "test_spark_constructs", "test_spark_plan", "test_spark_write"),
    ("test_intake", "test_land_data", "test_path", "test_personal_data", "test_questions", "test_reported", "test_sharing_and_upkeep"),
)
"""Modules that share what is dear to make: one process runs them all. Every other module is taken by whichever process is free."""

LONGEST = (
    *("test_kill", "test_scale_out", "test_dashboard", "test_spark_bridge", "test_intake", "test_real_data", "test_decisions"),
    *(
        "test_increments",
        "test_order",
        "test_spark_cluster",
        "test_live",
        "test_readme",
        "test_unseen_source",
        "test_held_back",
        "test_field_cases",
        "test_dbt_project",
    ),
)
"""Modules that go first, so that no process is left with a long one at the end; the others follow in their own order."""


def _unit(nodeid: str) -> str:
    module = Path(nodeid.partition("::")[0]).stem
    return next((group[0] for group in TOGETHER if module in group), module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands out whole units of modules (with `-n`)."""
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _unit(nodeid)

    config.option.loadscopereorder = False
    return ByUnit(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest units first; within a unit nothing changes."""
    items.sort(key=lambda item: LONGEST.index(unit) if (unit := _unit(item.nodeid)) in LONGEST else len(LONGEST))


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


@contextmanager
def own_platform(home: Path, **extra: str) -> Iterator[Settings]:
    """An empty lake at `home` that is the platform of this process, and of its children, meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TNMT_HOME": str(home), **extra}.items():
            patch.setenv(name, value)
        s = settings()
        create(s)
        yield s


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
    assert done.returncode in (0, 3), done.stderr
    ingested = state(s)
    done = tnmt(s.home, "run")
    assert done.returncode in (0, 3), done.stderr
    return Undisturbed(base / "sample", s.home, ingested, state(s))


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a lake as `create` makes it. Only to be copied: making one takes seconds."""
    home = tmp_path_factory.mktemp("blank") / "home"
    create(Settings(home=home))
    return home


@pytest.fixture
def home(blank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty lake of its own: a copy, which finds its data where it lies now."""
    shutil.copytree(blank, tmp_path / "home", symlinks=True)
    monkeypatch.setenv("TNMT_HOME", str(tmp_path / "home"))
    s = settings()
    with open_reader(s):
        pass
    return s


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[Callable[[], Server]]:
    """Makes servers, for tests that kill theirs; each is gone at the end of the session."""
    made: list[Server] = []

    def make() -> Server:
        try:
            made.append(new_server())
        except FileNotFoundError as missing:
            need("postgresql", False, str(missing))
        return made[-1]

    yield make
    for server in made:
        remove(server)


@pytest.fixture(scope="session")
def postgres(new_postgres: Callable[[], Server]) -> Server:
    """One PostgreSQL for the session. Make databases or schemas of your own in it."""
    return new_postgres()
