"""Upkeep beside damage, lost catalogs, moved homes, and writers: nothing is deleted that a catalog does not know."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import lake.upkeep.maintain as upkeep
from ingestion.ingest import contracts_of, register_sources
from ingestion.landing import inbox_of, land
from ingestion.readers import apart
from lake.identity import MARKER, LakeError
from lake.lake import _KNOWN, create, open_reader, open_writer
from lake.lock import LakeLocked
from lake.upkeep import leftovers
from lake.upkeep.leftovers import remove_leftovers
from lake.upkeep.maintain import maintain
from lake.upkeep.pins import pin
from lake.upkeep.verify import damage, data_files
from orchestration.doctor import DEEP, examine
from orchestration.inboxes import waiting_files
from tests.support import all_waiting
from tests.support import command as tnmt
from tnmt.clock import now
from tnmt.settings import Settings

LATER = datetime.now() + timedelta(days=40)  # noqa: DTZ005  # DuckLake stamps snapshots with the machine's clock


def _rows(settings: Settings, statement: str) -> list[tuple]:
    with open_reader(settings) as con:
        return con.execute(statement).fetchall()


def _fill(settings: Settings, name: str = "figure", times: int = 6) -> None:
    with open_writer(settings, "test") as con:
        con.execute(f"CREATE TABLE lake.clean.{name} (n INTEGER)")
        for n in range(times):
            con.execute(f"INSERT INTO lake.clean.{name} SELECT {n} FROM range(1000)")


def _parquet(settings: Settings) -> list[Path]:
    return sorted(Path(settings.data_path).rglob("*.parquet"))


def _age(settings: Settings, days: int = 3) -> None:
    """Files look as old as those of a real platform."""
    for path in _parquet(settings):
        old = path.stat().st_mtime - days * 86400
        os.utime(path, (old, old))


@pytest.fixture
def catalog_gone(home: Settings) -> Iterator[tuple[Settings, list[Path]]]:
    """A lake with data, whose catalog was lost."""
    _fill(home)
    _age(home)
    for path in home.lake_dir.glob("catalog.sqlite*"):
        path.unlink()
    yield home, _parquet(home)


def test_a_lost_catalog_is_to_be_put_back_not_made_anew(catalog_gone: tuple[Settings, list[Path]]) -> None:
    settings, files = catalog_gone
    for command in ("status", "run", "init", "maintain", "doctor"):
        code, said = tnmt(command)
        assert code == (5 if command == "doctor" else 1), (command, said)
        assert "put the catalog back from its backup" in said or command == "doctor", (command, said)
        assert "make one with" not in said, (command, said)
        assert _parquet(settings) == files, command
    (settings.lake_dir / "catalog.sqlite").touch()
    assert "catalog of the lake is gone" in tnmt("init")[1]


def test_maintenance_of_a_catalog_that_does_not_know_the_data_deletes_nothing(home: Settings, tmp_path: Path) -> None:
    """A new catalog got in by force, as an older version's `tnmt init` made it."""
    _fill(home)
    aside = tmp_path / "aside"
    shutil.move(home.data_path, aside)
    for path in home.lake_dir.glob("catalog.sqlite*"):
        path.unlink()
    create(home)
    shutil.copytree(aside, home.data_path, dirs_exist_ok=True)
    _age(home)
    files = _parquet(home)
    with pytest.raises(LakeError, match="nothing was removed"):
        maintain(home, LATER)
    (Path(home.data_path) / MARKER).unlink()  # nor where no marker says so
    _fill(home, "new", 1)
    with pytest.raises(LakeError, match="nothing was removed"):
        maintain(home, LATER)
    assert set(files) <= set(_parquet(home))
    with pytest.raises(LakeError, match="not those of this catalog"):
        create(home)


def test_files_that_nothing_names_are_looked_at_a_second_time(home: Settings) -> None:
    _fill(home, times=2)
    model = next(p for p in _parquet(home) if "figure" in str(p))
    strays = [model.with_name(f"ducklake-{n}.parquet") for n in range(upkeep.FEW_ORPHANS + 5)]
    for stray in strays:
        shutil.copy(model, stray)
    _age(home)
    done = maintain(home, LATER)
    assert done.orphans == 0 and f"--orphans {len(strays)}" in " ".join(done.problems), done
    assert all(s.exists() for s in strays)
    assert maintain(home, LATER, orphans=7).orphans == 0 and all(s.exists() for s in strays)
    code, said = tnmt("maintain")
    assert code == 3 and f"--orphans {len(strays)}" in said
    assert maintain(home, LATER, orphans=len(strays)).orphans == len(strays)
    assert not any(s.exists() for s in strays)
    shutil.copy(model if model.exists() else _parquet(home)[0], strays[0])
    _age(home)
    assert maintain(home, LATER).orphans == 1, "few are what killed writers leave"
    assert _rows(home, "SELECT count(*) FROM lake.clean.figure") == [(2000,)]


@pytest.mark.parametrize("harm", ["cut", "gone", "noise"])
def test_a_damaged_file_is_named_and_stops_no_other_table(home: Settings, harm: str) -> None:
    _fill(home)
    _fill(home, "other")
    victim = next(p for p in _parquet(home) if "/figure/" in str(p))
    content = victim.read_bytes()
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(content[:-20] if harm == "cut" else content[:-8] + b"\0" * 8)
    done = maintain(home, LATER)
    assert [p for p in done.problems if "clean.figure" in p and str(victim) in p], done.problems
    assert not [p for p in done.problems if "clean.other" in p]
    with open_reader(home) as con:
        assert [d.path for d in damage(con, home, data_files(con, home))] == [str(victim)]
        assert con.execute("SELECT file_count FROM ducklake_table_info('lake') WHERE table_name = 'other'").fetchall() == [(1,)]
    code, said = tnmt("maintain")
    assert code == 3 and "damaged file of clean.figure" in said
    bad = next(c for c in examine(home, deep=True) if c.name == "data files")
    assert not bad.ok and "clean.figure" in bad.found
    victim.write_bytes(content)
    assert not [p for p in maintain(home, LATER).problems if "clean.figure" in p]


@pytest.mark.parametrize("name", ["elsewhere", "Sở TN&MT's kho"])
def test_a_lake_opens_where_it_was_moved_to(home: Settings, tmp_path: Path, name: str) -> None:
    _fill(home)
    moved = Settings(home=tmp_path / name)
    shutil.copytree(home.home, moved.home, symlinks=True)
    shutil.rmtree(home.home)
    assert _rows(moved, "SELECT count(*) FROM lake.clean.figure") == [(6000,)]
    _fill(moved, "more")
    create(moved)
    assert maintain(moved, LATER).problems == ()
    assert _rows(moved, "SELECT count(*) FROM lake.clean.figure") == [(6000,)] and not home.home.exists()


def test_data_of_another_lake_are_not_taken_for_its_own(home: Settings, tmp_path: Path) -> None:
    _fill(home)
    other = Settings(home=tmp_path / "other")
    create(other)
    _fill(other, "stranger")
    for source in (other.data_path, str(tmp_path / "nothing")):
        with pytest.raises(LakeError, match="not of the same lake"):
            open_reader(Settings(home=home.home, data=source))


def test_two_catalogs_on_one_data_folder_clean_up_nothing(tmp_path: Path) -> None:
    first = Settings(home=tmp_path / "a", data=str(tmp_path / "data"))
    create(first)
    _fill(first)
    shutil.copytree(first.home, tmp_path / "b", symlinks=True)
    second = Settings(home=tmp_path / "b", data=str(tmp_path / "data"))
    with pytest.raises(LakeError, match="of which this one is a copy"):
        maintain(second, LATER)
    shutil.rmtree(first.home)
    assert maintain(second, LATER).problems == (), "the first was moved, then"


def test_an_inbox_that_leads_elsewhere_is_not_emptied(home: Settings, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "danh_muc.csv").write_text("x")
    contracts = contracts_of(home)
    (home.inbox / "dossier").symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError, match="leads out of the inbox"):
        inbox_of(home, contracts["dossier"])
    assert inbox_of(home, contracts["land_price"]) == home.inbox / "land_price"
    # nor does it hide the others: a run is started for it, seldom, which says what is wrong; the live worker goes on
    (home.inbox / "station_txt").symlink_to(elsewhere)
    (home.inbox / "land_price").mkdir()
    one = all_waiting(home)
    (home.inbox / "land_price" / "gia_dat_20260301.csv").write_text("x")
    os.utime(home.inbox / "land_price" / "gia_dat_20260301.csv", (1, 1))
    assert len(one) == 2 and len({*all_waiting(home)} - {*one}) == 1
    assert waiting_files(home) == (float("inf"), [])


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(home: Settings) -> None:
    dead, alive = 2**22 - 3, os.getpid()
    names = [
        "landing/{}.half",
        "landing/closed/{}.half",
        "serving/.serving-7-{}.duckdb",
        "extracts/ioc/.half-a-{}/x.csv",
        "tmp/{}.gdb.zip",
        f"tmp/read-{socket.gethostname()}-{{}}-_0a9bc/rows-1.parquet",
        "extracts/ioc/.202603250010.{}/y.csv",
    ]
    for pid in (dead, alive):
        for name in names:
            path = home.home / name.format(pid)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    spill = home.home / "tmp" / "duckdb_temp_storage-0.tmp"
    spill.write_text("x")
    assert maintain(home, LATER).leftovers == len(names)
    assert spill.exists(), "a step may still write it"
    for name in names:
        assert not (home.home / name.format(dead)).exists() and (home.home / name.format(alive)).exists(), name
    for path in (spill, *(home.home / name.format(alive) for name in names)):
        os.utime(path, (1, 1))
        os.utime(path.parent, (1, 1))
    assert maintain(home, LATER).leftovers == 1 and not spill.exists()
    assert all((home.home / name.format(alive)).exists() for name in names), "however long its owner has been idle"


def test_a_delivery_keeps_its_bytes_whatever_its_name(home: Settings) -> None:
    """Halves of landing lie beside the folders of deliveries, never in them."""
    kept = home.landing / "ab" / ("ab" + "0" * 62) / "ban_do.half"
    kept.parent.mkdir(parents=True)
    kept.write_text("x")
    os.utime(kept, (1, 1))
    assert remove_leftovers(home) == 0 and kept.exists()


def test_the_names_of_halves_are_those_that_landing_gives(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a landing has in the making names its process, so that it goes as soon as that is gone, and never before."""
    making: set[Path] = set()

    def look(fd: int) -> None:
        making.update(home.landing.rglob("*.half"), (home.home / "tmp").glob("*.gdb.zip"))

    monkeypatch.setattr("ingestion.landing.os.fsync", look)
    for source, name in (("dossier", "ho_so_20260301.csv"), ("land_owner", "chu_20260301.xlsx"), ("parcel", "thua_dat_688_20260324.gdb/a")):
        contract = contracts_of(home)[source]
        path = home.inbox / contract.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        with open_writer(home, "test") as con:
            assert land(con, home, contract, datetime(2026, 3, 25)).new == 1
    making.add(apart._own_folder(home))
    assert len(making) == 4, making
    assert {p: next((int(m[1]) for known in leftovers._PID if (m := known.search(p.name))), None) for p in making} == dict.fromkeys(
        making, os.getpid()
    )


def test_what_a_reader_removes_meanwhile_is_no_error(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home.home / "tmp" / "read-another-7-abc"
    folder.mkdir(parents=True)
    (folder / "rows.parquet").write_text("x")
    lstat = os.lstat

    def gone(path: str | Path) -> os.stat_result:
        if str(path).endswith("rows.parquet"):
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr("os.lstat", gone)
    assert remove_leftovers(home) == 0 and folder.exists()
    assert leftovers._changed(home.home / "tmp" / "nothing") is None


def test_a_lake_that_another_holds_leaves_out_one_step_of_upkeep(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of hours meets one table, or one step, of the night's upkeep: it is told, and all else is done."""
    _fill(home)
    _fill(home, "other")
    whole = upkeep.upkeep_lock

    @contextmanager
    def held(settings: Settings, purpose: str) -> Iterator[None]:
        if purpose in ("maintenance: clean.figure", "maintenance: expiry"):
            raise LakeLocked("the lake is being written by process 7")
        with whole(settings, purpose):
            yield

    monkeypatch.setattr(upkeep, "upkeep_lock", held)
    stray = _parquet(home)[0].with_name("ducklake-stray.parquet")
    shutil.copy(_parquet(home)[0], stray)
    _age(home)
    done = maintain(home, LATER)
    assert [p.partition(" was left out: the lake is being written by process 7")[::2] for p in done.problems] == [
        (what, ". The next maintenance does it") for what in ("clean.figure", "expiry")
    ]
    assert (done.expired, done.orphans) == (0, 1) and not stray.exists()
    assert _rows(home, "SELECT table_name, file_count FROM ducklake_table_info('lake') WHERE table_name IN ('figure', 'other') ORDER BY 1") == [
        ("figure", 6),
        ("other", 1),
    ]


def test_what_was_not_removed_is_not_counted(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(home, times=1)
    stray = _parquet(home)[0].with_name("ducklake-stray.parquet")
    shutil.copy(_parquet(home)[0], stray)
    _age(home)
    whole = upkeep._guarded

    def refused(what: str, do: Callable[[], object], problems: list[str]) -> bool:
        if "nothing refers to" in what:
            problems.append(what)
            return False
        return whole(what, do, problems)

    monkeypatch.setattr(upkeep, "_guarded", refused)
    done = maintain(home, LATER)
    assert done.orphans == 0 and len(done.problems) == 1 and stray.exists()


def test_snapshots_of_the_last_day_stay(home: Settings) -> None:
    with pytest.raises(LakeError, match="at least 1 day"):
        maintain(home, LATER, keep_days=0)


def test_deep_checks_find_keys_twice_and_rows_without_a_delivery(home: Settings) -> None:
    with open_writer(home, "test") as con:
        register_sources(con, contracts_of(home), datetime(2026, 3, 25))
        assert all(c.ok for c in examine(home, deep=True) if c.name in DEEP)
        contract = next(c for c in contracts_of(home).values() if c.target == "dossier")
        (key,) = contract.key
        con.execute(f"INSERT INTO lake.clean.dossier ({key}, _delivery_id) VALUES ('HS1', 'nobody'), ('HS1', NULL)")
    found = {c.name: c for c in examine(home, deep=True) if c.name in DEEP}
    assert found["data files"].ok
    assert not found["keys"].ok and "clean.dossier: 1 keys" in found["keys"].found
    assert not found["deliveries"].ok and "clean.dossier: 2 rows" in found["deliveries"].found


def test_a_delivery_of_a_time_to_come_is_told(home: Settings) -> None:
    """The clock was wrong then, or is now: what arrived then counts as fresh at no moment before."""
    for ahead, ok in ((timedelta(minutes=30), True), (timedelta(days=3000), False)):
        folder = home.inbox / "station_txt"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "BP_CLCK_NUOTHA_20260325000000.txt").write_text(f"COD\t{ahead.days}\tmg/L\t20260325000000\t00\n")
        with open_writer(home, "test") as con:
            land(con, home, contracts_of(home)["station_txt"], now() + ahead)
        found = next(c for c in examine(home) if c.name == "clock")
        assert found.ok is ok and (ok or "set this machine's clock" in found.todo)


def test_the_nightly_job_fails_where_a_file_is_damaged(home: Settings) -> None:
    from orchestration.defs.jobs import maintenance
    from orchestration.defs.resources import Platform

    _fill(home)
    assert maintenance.execute_in_process(resources={"platform": Platform()}).success
    with open_reader(home) as con:  # the small files were merged and wait for their removal
        victim = Path(next(f.path for f in data_files(con, home, "clean.figure") if f.current))
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(Exception, match=r"damaged file of clean\.figure"):
        maintenance.execute_in_process(resources={"platform": Platform()})


def test_a_landing_folder_that_is_not_mounted_is_not_taken_for_an_empty_one(home: Settings) -> None:
    """The ledger names bytes in it: no number is made in the folder below the mount, and nothing is landed there."""
    numbered, aside = home.landing / "landing.json", home.home / "landing.json"
    _KNOWN.clear()
    with open_writer(home, "test"):
        pass
    numbered.unlink()
    _KNOWN.clear()
    with open_writer(home, "test") as con:  # an empty one may be exchanged
        con.execute("INSERT INTO lake.ops.landed (delivery_id, stored) VALUES ('d1', 'landing')")
    number = json.loads(numbered.read_text())["landing"]
    numbered.rename(aside)
    for found in ("no such file", "another"):
        if found == "another":
            numbered.write_text('{"landing": "another"}')
        for moved in (False, True):
            _KNOWN.clear()
            with pytest.raises(LakeError, match=rf"expected number {number} in landing.json, found {found}.* Mount or link the folder"):
                create(home, moved=moved)
            with pytest.raises(LakeError, match="is not the landing folder"), open_writer(home, "test"):
                pass
        assert numbered.exists() == (found == "another")
    aside.replace(numbered)
    with open_writer(home, "test"):
        pass


def test_a_lake_of_an_older_version_gets_what_it_lacks_from_the_first_writer(home: Settings) -> None:
    with open_writer(home, "test") as con:
        con.execute("DROP TABLE lake.ops.home")
        for table, column in (("handover", "package"), ("pin", "until")):
            con.execute(f"ALTER TABLE lake.ops.{table} DROP COLUMN {column}")
        con.execute("DELETE FROM lake.ops.layout_done WHERE table_name LIKE 'schema.sql %'")
    (Path(home.data_path) / MARKER).unlink()
    _KNOWN.clear()
    pin(home, 1, "report", datetime(2026, 3, 25))
    assert _rows(home, "SELECT until::DATE::VARCHAR FROM lake.ops.pin") == [("2031-03-24",)]
    assert _rows(home, "SELECT count(package), (SELECT count(*) FROM lake.ops.home) FROM lake.ops.handover") == [(0, 1)]
    assert maintain(home, LATER).problems == () and (Path(home.data_path) / MARKER).exists()
