"""One PostgreSQL catalog and several homes, writers, builds and upkeep: the locks span hosts, and only a home that belongs to the lake may write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import psycopg
import pytest

from lake.identity import LakeError
from lake.lake import attach_writer, build_lock, create, lock, lock_holder, open_reader, open_writer, upkeep_lock
from lake.lock import LakeLocked
from lake.upkeep.maintain import maintain
from tests.postgres_kit import Server
from tests.support import command
from tnmt.settings import ROOT, Settings

LATER = datetime.now() + timedelta(days=40)  # noqa: DTZ005  # DuckLake stamps snapshots with the machine's clock
NewSite = Callable[..., Settings]


@pytest.fixture
def site(postgres: Server, tmp_path: Path, request: pytest.FixtureRequest) -> NewSite:
    """Makes homes that name one catalog of the test's own; `data` is shared unless said."""
    database = f"sites_{abs(hash(request.node.name)) % 10**9}"
    postgres.execute(f"CREATE DATABASE {database}")

    def make(name: str, *, data: Path | None = None, **more: object) -> Settings:
        return Settings(
            home=tmp_path / name, catalog=f"postgres:{postgres.dsn(database)}", data=str(data or tmp_path / "data"), lock_timeout=0.5, **more
        )  # type: ignore[arg-type]

    return make


def _share(first: Settings, second: Settings) -> None:
    """The second home gets the first one's key and landing folder, as the docs say."""
    second.token_key_file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(first.token_key_file, second.token_key_file)
    shutil.rmtree(second.landing, ignore_errors=True)
    second.landing.symlink_to(first.landing)


def test_a_second_home_is_refused_until_it_shares_what_it_must_and_joins(site: NewSite, tmp_path: Path) -> None:
    first, second = site("a"), site("b")
    create(first)
    with pytest.raises(LakeError, match=r"token\.key is missing"):
        _wrapped(second)
    second.make_token_key()
    with pytest.raises(LakeError, match="not the key of this lake"):
        create(site("b"))
    _share(first, second)
    with pytest.raises(LakeError, match="init --join"):
        create(site("b"))
    with pytest.raises(LakeError, match="init --join"), open_writer(site("b"), "test"):
        pass
    create(site("b"), join=True)
    with open_writer(site("b"), "test") as con:
        con.execute("CREATE TABLE lake.clean.n AS SELECT 1 AS n")
    with open_writer(first, "test") as con:
        assert con.execute("FROM lake.clean.n").fetchall() == [(1,)]
        assert len(con.execute("FROM lake.ops.home").fetchall()) == 2


def _wrapped(settings: Settings) -> None:
    from tnmt.settings import SettingsError

    try:
        create(settings)
    except SettingsError as error:
        raise LakeError(str(error)) from None


def test_a_second_home_with_data_or_landing_of_its_own_is_refused(site: NewSite, tmp_path: Path) -> None:
    first = site("a")
    create(first)
    other = site("b", data=tmp_path / "elsewhere")
    with pytest.raises(LakeError, match="set TNMT_DATA="):
        create(other)
    alone = site("c")
    alone.token_key_file.parent.mkdir(parents=True)
    shutil.copy(first.token_key_file, alone.token_key_file)
    with pytest.raises(LakeError, match="not the landing folder"):
        create(alone, join=True)


def test_a_copy_of_a_home_is_no_second_home_and_a_moved_one_says_so(site: NewSite, tmp_path: Path) -> None:
    first = site("a")
    create(first)
    with open_writer(first, "test") as con:
        con.execute("CREATE TABLE lake.clean.n AS SELECT 1 AS n")
    shutil.copytree(first.home, tmp_path / "copy", symlinks=True)
    with pytest.raises(LakeError, match="init --moved"):
        create(site("copy"))
    create(site("copy"), moved=True)
    with pytest.raises(LakeError, match="init --moved"):
        create(site("a"))
    shutil.move(tmp_path / "data", tmp_path / "moved-data")
    there = site("copy", data=tmp_path / "moved-data")
    with pytest.raises(LakeError, match="init --moved"):
        open_reader(there)
    create(there, moved=True)
    with open_reader(there) as con:
        assert con.execute("FROM lake.clean.n").fetchall() == [(1,)]


def test_a_home_that_did_not_move_is_told_what_differs(site: NewSite, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site("a")
    create(first)
    numbered = first.landing / "landing.json"
    number = numbered.read_text()
    numbered.write_text('{"landing": "another"}')
    with pytest.raises(LakeError, match=r"landing folder: expected \w+, found another\)\. Mount or link"):
        create(site("a"))
    numbered.write_text(number)
    with open_writer(first, "test") as con:
        con.execute("INSERT INTO lake.ops.landed (delivery_id, stored) VALUES ('d1', 'landing')")
    numbered.unlink()
    for moved in (False, True):
        with pytest.raises(LakeError, match=rf"no such file.* Mount or link the folder of \S+:{first.home} there"):
            create(site("a"), moved=moved)
    assert not numbered.exists()


def test_a_catalog_that_was_emptied_is_not_made_anew(site: NewSite, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site("a")
    create(first)
    with open_writer(first, "test") as con:
        con.execute("CREATE TABLE lake.clean.n AS SELECT 1 AS n")
    dsn = first.catalog.partition(":")[2]
    with psycopg.connect(dsn, autocommit=True) as con:
        con.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")  # type: ignore[arg-type]
    for name, value in (("TNMT_HOME", str(first.home)), ("TNMT_CATALOG", first.catalog), ("TNMT_DATA", str(first.data))):
        monkeypatch.setenv(name, value)
    for arguments in (("status",), ("init",), ("maintain",)):
        code, said = command(*arguments)
        assert code == 1 and "put the catalog back from its backup" in said and "mat-khau" not in said, (arguments, said)
    assert list(Path(str(first.data)).rglob("*.parquet"))


def test_the_lock_spans_homes_and_dies_with_its_owner(site: NewSite) -> None:
    first, second = site("a"), site("b")
    create(first)
    _share(first, second)
    create(second, join=True)
    hold = (
        "import sys, time; from pathlib import Path; from tnmt.settings import Settings; from lake.lake import lock\n"
        f"s = Settings(home=Path({str(second.home)!r}), catalog={second.catalog!r})\n"
        "with lock(s, 'ingest of the other site'):\n    print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(LakeLocked, match=rf"process {other.pid}@\S+ \(ingest of the other site, since 20"), lock(first, "mine"):
            pass
        assert (lock_holder(first) or {})["purpose"] == "ingest of the other site"
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    _until(lambda: lock_holder(first) is None)
    with lock(first, "mine"):
        pass


def _until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_increments_go_on_beside_a_build_and_upkeep_and_other_builds_do_not(site: NewSite) -> None:
    s = site("a")
    create(s)
    with build_lock(s, "dbt build 7"):
        with open_writer(s, "increment"):
            pass
        with pytest.raises(LakeLocked, match="dbt build 7"), upkeep_lock(s, "maintenance"):
            pass
        with pytest.raises(LakeLocked, match="dbt build 7"), build_lock(s, "dbt build 8"):
            pass
        with pytest.raises(LakeLocked, match="dbt build 7"):
            maintain(s, LATER)
    with upkeep_lock(s, "maintenance"):
        with pytest.raises(LakeLocked), build_lock(s, "dbt build 9"):
            pass
        with pytest.raises(LakeLocked), lock(s, "increment"):
            pass


def test_maintenance_in_a_loop_beside_a_build_that_rewrites_its_tables(site: NewSite) -> None:
    """DuckLake lets a compaction and a DELETE+INSERT of one table both commit on PostgreSQL: rows come back, keys stand twice."""
    s = site("a").model_copy(update={"lock_timeout": 120.0})
    create(s)
    with open_writer(s, "test") as con:
        con.execute("CREATE TABLE lake.clean.k (k INTEGER, v INTEGER)")
        for n in range(4):
            con.execute(f"INSERT INTO lake.clean.k SELECT range + {n * 50}, 0 FROM range(50)")
    failed: list[BaseException] = []

    def rewrite() -> None:
        try:
            with attach_writer(s, spatial=False) as con:
                for v in range(1, 16):
                    with build_lock(s, f"build {v}"):
                        con.execute("BEGIN")
                        con.execute("DELETE FROM lake.clean.k WHERE k % 3 = ?", [v % 3])
                        con.execute("INSERT INTO lake.clean.k SELECT range, ? FROM range(200) WHERE range % 3 = ?", [v, v % 3])
                        con.execute("COMMIT")
        except (duckdb.Error, LakeLocked, ConnectionError) as error:
            failed.append(error)

    writer = threading.Thread(target=rewrite)
    writer.start()
    rounds = 0
    while writer.is_alive() or rounds < 2:
        assert maintain(s, LATER).problems == ()
        rounds += 1
    writer.join()
    assert not failed, failed
    with open_reader(s) as con:
        assert con.execute("SELECT count(*), count(DISTINCT k), sum(v) FROM lake.clean.k").fetchall() == [
            (200, 200, sum({0: 15, 1: 13, 2: 14}[k % 3] for k in range(200)))
        ]
        assert con.execute("SELECT count(*) FROM (SELECT * FROM lake.clean.k)").fetchall() == [(200,)]
