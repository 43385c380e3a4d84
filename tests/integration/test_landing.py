"""What lies in an inbox is taken when it is whole, once, and never lost: not what is written, replaced or too large while landing looks at it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from cli.main import app
from ingestion import landing
from ingestion.contract import CONTRACTS, Contract, load_contracts
from ingestion.ingest import Ingested, contracts_of, ingest, take_in
from ingestion.landing import FOLDER_BYTES, TAKEN, finished, land, record, zip_folder
from ingestion.load import load
from ingestion.model import Arrival
from lake.lake import open_reader, open_writer
from lake.lock import LakeLocked, writer_lock
from orchestration.inboxes import LONGEST_SECONDS, due, recalled, remembered, waiting_files
from orchestration.live import Live
from orchestration.run import arrival_on, as_of_after
from simulator.files import write_csv
from tests.conftest import own_platform
from tests.faults.test_set_aside import DOSSIER
from tests.support import all_waiting
from tnmt.settings import ROOT, Settings

NOW = datetime(2026, 3, 25, 12)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with own_platform(tmp_path_factory.mktemp("landing")) as s:
        yield s


@pytest.fixture
def lake(made: Settings) -> Iterator[tuple[Settings, duckdb.DuckDBPyConnection]]:
    """The lake with empty inboxes, and its writing connection."""
    with open_writer(made, "test") as con:
        yield made, con
        for contract in contracts_of(made).values():
            for found in finished(made, contract):
                os.unlink(found.path)


def of(s: Settings, source: str, **files: Any) -> tuple[Contract, Path]:
    contract = contracts_of(s)[source]
    folder = s.inbox / contract.folder
    folder.mkdir(parents=True, exist_ok=True)
    return contract.model_copy(update={"files": contract.files.model_copy(update=files)}), folder


def landed(con: duckdb.DuckDBPyConnection, source: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, sha in con.execute("SELECT name, sha256 FROM lake.ops.landed WHERE source = ?", [source]).fetchall():
        found.setdefault(name, set()).add(sha)
    return found


def no_links(*_: Any, **__: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("source", ["station_txt", "dossier"])
def test_what_is_replaced_while_landing_looks_is_not_lost(lake: tuple[Settings, duckdb.DuckDBPyConnection], source: str) -> None:
    """A sender replaces files all the time, one by a rename, one by writing again in place; the last version of each is landed."""
    s, con = lake
    contract, folder = of(s, source)
    pattern = "BP_AAAA_NUOTHA_202603250{}0000.txt" if source == "station_txt" else "ho_so_{:03}_20260325.csv"
    last: dict[str, bytes] = {}
    stop = threading.Event()

    def send() -> None:
        number = 0
        while not stop.is_set() and number < 3000:
            name = pattern.format(number % 7)
            last[name] = f"version {number}\n".encode() * (1 + number % 50)
            if number % 2:
                (folder / f".{name}").write_bytes(last[name])
                (folder / f".{name}").rename(folder / name)
            else:
                with (folder / name).open("wb") as file:
                    for at in range(0, len(last[name]), 100):
                        file.write(last[name][at : at + 100])
            number += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(12):
            land(con, s, contract, NOW)
    finally:
        stop.set()
        sender.join()
    land(con, s, contract, NOW)
    assert not list(finished(s, contract)) and not [p for p in folder.rglob("*") if p.is_file()]
    found = landed(con, source)
    for name, content in last.items():
        assert hashlib.sha256(content).hexdigest() in found[name], name


@pytest.mark.parametrize("source", ["station_txt", "dossier"])
def test_what_grows_after_it_was_hashed_stays(lake: tuple[Settings, duckdb.DuckDBPyConnection], source: str) -> None:
    s, con = lake
    contract, folder = of(s, source)
    path = folder / ("BP_BBBB_NUOTHA_20260325000000.txt" if source == "station_txt" else "ho_so_20260301.csv")
    path.write_text("one\n")
    recorded, _, leave = record(con, s, contract, Arrival(NOW))
    assert recorded.new == 1
    with path.open("a") as file:
        file.write("two\n")
    leave()
    assert path.read_text() == "one\ntwo\n"
    assert land(con, s, contract, NOW).new == 1 and not path.exists()
    assert hashlib.sha256(b"one\ntwo\n").hexdigest() in landed(con, source)[path.name]


def test_an_open_file_is_not_finished(lake: tuple[Settings, duckdb.DuckDBPyConnection]) -> None:
    """Whoever still has it open for writing is not done, however long nothing came."""
    s, con = lake
    contract, folder = of(s, "dossier")
    path = folder / "ho_so_20260302.csv"
    with path.open("w") as file:
        file.write("half")
        file.flush()
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert land(con, s, contract, NOW).files == 0
        file.write(" and half")
    assert land(con, s, contract, NOW).new == 1
    assert landed(con, "dossier")[path.name] == {hashlib.sha256(b"half and half").hexdigest()}


def test_the_contract_says_how_long_a_file_lies_quiet(lake: tuple[Settings, duckdb.DuckDBPyConnection], monkeypatch: pytest.MonkeyPatch) -> None:
    s, con = lake
    contract, folder = of(s, "dossier", quiet_seconds=30.0)
    path = folder / "ho_so_20260303.csv"
    path.write_text("x")
    assert land(con, s, contract, NOW).files == 0
    os.utime(path, (time.time() - 31,) * 2)
    assert land(con, s, contract, NOW).new == 1
    # where the kernel does not tell who writes, a file just brought is waited for
    monkeypatch.setattr(landing, "_writer", lambda path: None)
    monkeypatch.setattr(landing, "QUIET_SECONDS", 0.5)
    path.write_text("y")
    contract, _ = of(s, "dossier")
    assert not list(finished(s, contract))
    assert land(con, s, contract, NOW).new == 1


@pytest.mark.parametrize("links", [True, False])
def test_what_a_killed_process_took_aside_comes_back(
    lake: tuple[Settings, duckdb.DuckDBPyConnection], monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """On a file system without hard links too (a share of Windows, a memory card)."""
    s, con = lake
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    contract, folder = of(s, "station_txt")
    (folder / "day" / f"{TAKEN}1").mkdir(parents=True)
    (folder / "day" / f"{TAKEN}1" / "BP_CCCC_NUOTHA_20260325000000.txt").write_text(f"aside {links}")
    (folder / "day" / "BP_CCCC_NUOTHA_20260325000000.txt").write_text(f"came since {links}")
    assert land(con, s, contract, NOW).new == 2
    assert not [p for p in folder.rglob("*") if p.is_file()]


def reading(value: float) -> str:
    return f"COD\t{value}\tmg/L\t20260325000000\t00\n"


@pytest.mark.parametrize("again", [0, 1])
def test_what_a_killed_run_took_aside_is_no_news_beside_its_correction(made: Settings, again: int) -> None:
    """Killed after it took a landed file aside; its sender puts a correction there. Given back beside it, the older one would be a delivery of now."""
    inbox, name = made.inbox / "station_txt", f"BP_TTTT_NUOTHA_2026032500000{again}.txt"
    inbox.mkdir(exist_ok=True)
    (inbox / name).write_text(reading(27 + again))
    with open_writer(made, "test") as con:
        record(con, made, contracts_of(made)["station_txt"], Arrival(NOW))
    aside = inbox / f"{TAKEN}1"
    aside.mkdir()
    (inbox / name).rename(aside / name)
    (inbox / name).write_text(reading(20))
    done = ingest(made, now=NOW + timedelta(hours=1), run_id=f"corrected {again}", only=["station_txt"])
    assert (done.errors, done.landed["station_txt"].new) == ({}, 1) and not aside.exists() and not list(inbox.glob("*.txt"))
    with open_reader(made) as con:
        said = con.execute(
            "SELECT count(*), arg_max(bytes, as_of), count(DISTINCT name) FROM lake.ops.landed WHERE name LIKE ?", [f"%{name}"]
        ).fetchall()
    assert said == [(2, len(reading(20)), 1)]


def test_a_file_given_back_by_a_process_that_was_killed_is_one_file(lake: tuple[Settings, duckdb.DuckDBPyConnection]) -> None:
    """It has both names for a moment: the second killed one gave it back, and could not take the other name away."""
    s, con = lake
    contract, folder = of(s, "station_txt")
    name = "BP_UUUU_NUOTHA_20260325000000.txt"
    aside = folder / f"{TAKEN}1"
    aside.mkdir()
    (aside / name).write_text(reading(1))
    os.link(aside / name, folder / name)
    assert land(con, s, contract, NOW).files == 1 and not aside.exists() and landed(con, "station_txt").keys() >= {name}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_emptied(lake: tuple[Settings, duckdb.DuckDBPyConnection], monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """No folder can be made to put files aside: what is still the landed file goes at once, else no disk of an inbox would ever have room again."""
    s, con = lake
    contract, folder = of(s, "station_txt")
    files = [folder / f"BP_VVVV_NUOTHA_202603250{n}0000.txt" for n in range(3)]
    for n, file in enumerate(files):
        file.write_text(reading(n + error))
    recorded, _, leave = record(con, s, contract, Arrival(NOW))
    files[1].write_text(reading(7.5))

    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        leave()
    assert (recorded.new, [f.exists() for f in files]) == (3, [False, True, False])
    files[0].write_text(reading(8 + error))
    _, _, leave = record(con, s, contract, Arrival(NOW))
    monkeypatch.setattr(os, "rename", full)  # there is a folder to put files aside, and no room in it
    leave()
    assert [f.exists() for f in files] == [False, False, False]


def test_a_file_that_cannot_be_removed_holds_up_no_other_of_its_folder(
    lake: tuple[Settings, duckdb.DuckDBPyConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    s, con = lake
    contract, folder = of(s, "station_txt")
    files = [folder / f"BP_VVWW_NUOTHA_202603250{n}0000.txt" for n in range(3)]
    for n, file in enumerate(files):
        file.write_text(reading(n))
    _, _, leave = record(con, s, contract, Arrival(NOW))
    real = os.rename

    def rename(name: str, *rest: Any, **more: Any) -> None:
        if name == files[0].name:
            raise PermissionError(errno.EPERM, "of another owner, in a folder with the sticky bit", name)
        real(name, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(PermissionError, match="sticky"):
            leave()
    assert [f.exists() for f in files] == [True, False, False]
    land(con, s, contract, NOW)


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_cannot_be_taken_out_of_the_inbox_is_told_and_stops_no_other_folder(made: Settings, tmp_path: Path, what: str) -> None:
    """Rows are published, and the run says so; a link in the place of our own folder is not followed."""
    inbox = made.inbox / "station_txt"
    names = [f"{folder}/BP_WWWW_NUOTHA_2026032500{n:02}00.txt" for n, folder in enumerate(("a", "b"), 10 * (what == "link"))]
    for n, name in enumerate(names):
        (inbox / name).parent.mkdir(parents=True, exist_ok=True)
        (inbox / name).write_text(reading(n))
    (tmp_path / Path(names[0]).name).write_text("of somebody else")
    odd = inbox / "a" / f"{TAKEN}{os.getpid()}"
    odd.write_text("x") if what == "file" else odd.symlink_to(tmp_path)
    done = ingest(made, now=NOW, run_id=f"odd {what}", only=["station_txt"])
    assert done.landed["station_txt"].new == 2 and done.loaded["station_txt"].deliveries >= 2  # and what tests before landed
    assert not done.errors and "could not be removed from the inbox" in done.not_cleared["station_txt"]
    assert done.troubles[0].startswith("not cleared: station_txt: ")
    assert [(inbox / n).exists() for n in names] == [True, False]
    assert (tmp_path / Path(names[0]).name).read_text() == "of somebody else"
    odd.unlink()
    done = ingest(made, now=NOW, run_id=f"well {what}", only=["station_txt"])
    assert (done.troubles, done.landed["station_txt"].again) == ([], 1) and not (inbox / names[0]).exists()


@pytest.mark.parametrize("source", ["station_txt", "dossier"])
def test_a_file_written_again_under_its_old_time_is_not_lost(lake: tuple[Settings, duckdb.DuckDBPyConnection], source: str) -> None:
    """As many bytes, in place, and stamped with the time in its name: only when it was changed, which no sender sets, tells them apart."""
    s, con = lake
    contract, folder = of(s, source)
    file = folder / ("BP_XXXX_NUOTHA_20260325000000.txt" if source == "station_txt" else "ho_so_987_20260325.csv")
    file.write_text(reading(1.5))
    os.utime(file, (1e9, 1e9))
    _, _, leave = record(con, s, contract, Arrival(NOW))
    with file.open("r+") as again:
        again.write(reading(9.5))
    os.utime(file, (1e9, 1e9))
    leave()
    assert file.read_text() == reading(9.5)
    assert land(con, s, contract, NOW).new == 1 and not file.exists()


def test_by_a_clock_what_lands_later_is_later(lake: tuple[Settings, duckdb.DuckDBPyConnection]) -> None:
    """Two runs within a second, and a clock that was set back: which of two versions counts is not left to chance. A moment that is given stands."""
    s, con = lake
    contract, folder = of(s, "station_txt")
    name = "BP_YYYY_NUOTHA_20260325000000.txt"
    came: list[datetime] = []
    for value, now, clocked in ((1, NOW, True), (2, NOW, True), (3, NOW - timedelta(minutes=10), True), (4, NOW - timedelta(minutes=10), False)):
        (folder / name).write_text(reading(value))
        _, fresh, leave = record(con, s, contract, Arrival(now, clocked))
        leave()
        came += [d.received_at for d in fresh if d.name == name]
    assert NOW <= came[0] < came[1] < came[2] and came[3] == NOW - timedelta(minutes=10)
    assert [at for (at,) in con.execute("SELECT received_at FROM lake.ops.landed WHERE name = ? ORDER BY 1", [name]).fetchall()] == sorted(came)


def test_a_clock_that_was_years_ahead_touches_no_other_source_and_no_other_day(made: Settings) -> None:
    """What it recorded stays in the future; of the same file the later version is later still; all else arrives by the clock of now."""
    for source in ("dossier", "station_txt"):
        (made.inbox / source).mkdir(parents=True, exist_ok=True)
    ahead, here = NOW + timedelta(days=3600), NOW + timedelta(days=1)

    def come(run: str, at: datetime, *files: tuple[str, str]) -> dict[str, datetime]:
        for number, (source, name) in enumerate(files):
            (made.inbox / source / name).write_text(f"{run} {number}")
        ingest(made, now=lambda: at, run_id=run, only=["dossier", "station_txt"])
        with open_reader(made) as con:
            return dict(con.execute("SELECT name, max(received_at) FROM lake.ops.landed GROUP BY name").fetchall())

    come("ahead", ahead, ("dossier", "ho_so_20260325.csv"))
    station = "BP_YYZZ_NUOTHA_20260329000000.txt"
    came = come("now", here, ("dossier", "ho_so_20260325.csv"), ("station_txt", station))
    assert came["ho_so_20260325.csv"] == ahead + timedelta(seconds=1) and came[station] == here
    came = come("later", here, ("dossier", "ho_so_20260323.csv"))
    assert came["ho_so_20260323.csv"] == here


def test_a_folder_that_goes_while_it_is_cleared_is_no_trouble(lake: tuple[Settings, duckdb.DuckDBPyConnection], tmp_path: Path) -> None:
    """And what is a link by then is not followed: nothing is made where it leads."""
    s, con = lake
    contract, folder = of(s, "station_txt")
    for what in ("gone", "link"):
        (folder / what).mkdir()
        (folder / what / "BP_WWXX_NUOTHA_20260325000000.txt").write_text(what)
        _, _, leave = record(con, s, contract, Arrival(NOW))
        shutil.rmtree(folder / what)
        if what == "gone":
            leave()
            continue
        (folder / what).symlink_to(tmp_path)
        with pytest.raises(OSError, match=what):
            leave()
        assert not list(tmp_path.iterdir())
        (folder / what).unlink()


def test_on_a_samples_platform_a_correction_counts_too(home: Settings) -> None:
    """Every plain run there is of the sample's moment, before runs by the clock too: what replaces a file is later, what is sent again is not."""
    (home.inbox / "dossier").mkdir(parents=True, exist_ok=True)
    (home.home / "sample.json").write_text(json.dumps({"as_of": NOW.isoformat()}))
    due = []
    for number, (day, now) in enumerate([("05", False), ("20", False), ("05", False), ("11", True), ("12", False)]):
        row = ["D1", "DK01", "x", "25195", "25195", "01/03/2026", f"{day}/04/2026", None, "Đang xử lý", "Trực tuyến", None]
        write_csv(home.inbox / "dossier" / "ho_so_20260302.csv", DOSSIER, [row])
        done = ingest(home, now=(lambda: NOW + timedelta(days=9)) if now else arrival_on(home), run_id=f"run {number}", only=["dossier"])
        assert not done.troubles
        with open_reader(home) as con:
            due += [d.day for (d,) in con.execute("SELECT due_on FROM lake.clean.dossier").fetchall()]
    assert due == [5, 20, 20, 11, 12]
    with open_reader(home) as con:
        came = con.execute("SELECT received_at FROM lake.ops.landed ORDER BY received_at").fetchall()
    assert [(at - NOW).total_seconds() for (at,) in came] == [0, 1, 9 * 86400, 9 * 86400 + 1]


def test_a_clock_that_is_set_back_over_midnight_goes_on(made: Settings) -> None:
    """A file whose name says no time is of the moment when it came, and a version that came again is later than what is published before it."""
    name, first = "gia_dat.csv", datetime(2026, 3, 27, 0, 0, 5)
    contracts = contracts_of(made)
    undated = contracts["dossier"].model_copy(update={"as_of": contracts["dossier"].as_of.model_copy(update={"origin": "received"})})
    clock = [first, first - timedelta(seconds=7), first - timedelta(seconds=5), first - timedelta(seconds=4)]
    for number, at in enumerate(clock):
        (made.inbox / "dossier").mkdir(exist_ok=True)
        (made.inbox / "dossier" / name).write_text(f"version {number % 3}")  # the last is the first once more
        with open_writer(made, "test") as con:
            done = take_in(con, made, contracts | {"dossier": undated}, ["dossier"], now=lambda at=at: at, run_id=f"midnight {number}")
            came = con.execute("SELECT arrived_at FROM lake.ops.arrival WHERE name = ? ORDER BY arrived_at", [name]).fetchall()
            published = con.execute("SELECT max(judged_at) FROM lake.ops.gate_result WHERE run_id = ?", [f"midnight {number}"]).fetchall()[0][0]
        assert came == [(first + timedelta(seconds=n),) for n in range(number + 1)]
        assert done.at == came[-1][0] and published in (came[-1][0], None if number == 3 else published)
        assert number == 3 or published == came[-1][0]


def test_a_clock_is_asked_while_nobody_else_writes(made: Settings) -> None:
    """Who waited for another run arrives after it, whenever its own was started."""
    asked: list[bool] = []

    def clock() -> datetime:
        with pytest.raises(LakeLocked), writer_lock(made.lake_dir / "writer.lock", "second", 0.1):
            pass
        asked.append(True)
        return NOW

    (made.inbox / "station_txt" / "BP_ZZZZ_NUOTHA_20260325000000.txt").write_text(reading(1))
    assert ingest(made, now=clock, run_id="clock", only=["station_txt"]).landed["station_txt"].new == 1
    assert asked == [True]


def test_the_same_file_is_the_same_delivery_though_its_name_means_another_day_now(made: Settings) -> None:
    """A contract's zone is corrected, and a backlog sent once more: the ledger holds it under the day of then."""
    contracts = contracts_of(made)
    other = contracts["station_txt"].model_copy(update={"time": contracts["station_txt"].time.model_copy(update={"zone": "+00:00"})})
    _one_delivery_by_all(made, contracts, "BP_AAZZ_NUOTHA_20260324230000.txt", (contracts["station_txt"], other, contracts["station_txt"]))


def _one_delivery_by_all(made: Settings, contracts: dict[str, Contract], name: str, versions: tuple[Contract, ...]) -> None:
    """The same file, sent once under each version of the contract."""
    (made.inbox / "station_txt").mkdir(parents=True, exist_ok=True)
    for n, contract in enumerate(versions):
        (made.inbox / "station_txt" / name).write_text(reading(3))
        with open_writer(made, "test") as con:
            done = take_in(con, made, contracts | {"station_txt": contract}, ["station_txt"], now=NOW + timedelta(days=n), run_id=f"{name} {n}")
            assert con.execute("SELECT count(*) FROM lake.ops.landed WHERE name = ?", [name]).fetchall() == [(1,)]
        assert (done.errors, done.landed["station_txt"].new) == ({}, int(n == 0))


def test_the_same_file_is_the_same_delivery_though_another_part_of_its_name_tells_the_time(made: Settings) -> None:
    """A contract's pattern is corrected: of two stamps in the names the other one counts."""
    contracts = contracts_of(made)
    pattern = contracts["station_txt"].files.pattern
    assert "(?P<as_of>" in pattern
    # of the same names another day: the one of the arrival, as the pattern of then does not fit
    narrow = contracts["station_txt"].files.model_copy(update={"pattern": pattern.replace("(?P<as_of>", "(?P<as_of>9999")})
    wrong = contracts["station_txt"].model_copy(update={"files": narrow})
    versions = (wrong, contracts["station_txt"], wrong, contracts["station_txt"])
    _one_delivery_by_all(made, contracts, "BP_BBZZ_NUOTHA_20260324230000.txt", versions)


def test_what_has_just_arrived_counts(made: Settings) -> None:
    """By a clock the marts' moment is asked after the inboxes; a clock that was hours ahead once does not lead them."""
    for behind, moment in ((0, NOW), (1, NOW), (3599, NOW), (7200, NOW - timedelta(hours=2)), (-5, NOW + timedelta(seconds=5))):
        assert as_of_after(NOW, lambda behind=behind: NOW - timedelta(seconds=behind)) == moment
    assert as_of_after(NOW, NOW - timedelta(days=1)) == NOW - timedelta(days=1)
    assert as_of_after(None, lambda: NOW) == NOW


def test_a_large_file_in_a_small_inbox_is_kept_apart_or_refused(
    lake: tuple[Settings, duckdb.DuckDBPyConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    s, con = lake
    contract, folder = of(s, "station_txt")
    names = [f"BP_DDDD_NUOTHA_2026032500{n:02}00.txt" for n in range(3)]
    for n, name in enumerate(names):
        (folder / name).write_text("COD\t1\tmg/L\t20260325000000\t00\n" * (n * 10_000 + 1))
    monkeypatch.setattr(landing, "SMALL_BYTES", 100_000)
    monkeypatch.setattr("ingestion.load.TOO_LARGE", 500_000)
    assert land(con, s, contract, NOW).new == 3
    sql = "SELECT name, stored FROM lake.ops.landed WHERE name LIKE 'BP_DDDD%' ORDER BY name"
    assert con.execute(sql).fetchall() == list(zip(names, ["raw.file", "landing", "landing"], strict=True))
    load(con, s, contract, "r", NOW)
    found = con.execute("SELECT name, status, rows_read, reason FROM lake.ops.delivery WHERE name LIKE 'BP_DDDD%' ORDER BY name").fetchall()
    assert [f[:3] for f in found] == [(names[0], "published", 1), (names[1], "published", 10_001), (names[2], "quarantined", 0)]
    assert "500,000 byte" in found[2][3]


def test_a_backlog_is_landed_in_parts(lake: tuple[Settings, duckdb.DuckDBPyConnection], monkeypatch: pytest.MonkeyPatch) -> None:
    s, con = lake
    contract, folder = of(s, "station_txt")
    monkeypatch.setattr(landing, "ROUND_FILES", 4)
    before = con.execute("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')").fetchall()[0][0]
    for n in range(10):
        (folder / f"BP_EEEE_NUOTHA_2026032500{n:02}00.txt").write_text(f"{n}")
    done = land(con, s, contract, NOW)
    assert (done.files, done.new) == (10, 10)
    assert con.execute("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')").fetchall()[0][0] == before + 3


@pytest.mark.parametrize("source, name", [("station_txt", "khong dung mau.txt"), ("scan_file", "kho/a.png"), ("lab_result", "phieu.xlsx")])
def test_a_file_whose_name_says_no_day_is_known_on_another_day(lake: tuple[Settings, duckdb.DuckDBPyConnection], source: str, name: str) -> None:
    """The same bytes under the same name, days later: one delivery, and an arrival more (of scans, which stay where they are, nothing)."""
    s, con = lake
    contract, folder = of(s, source, quiet_seconds=0)
    for day in range(3):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"khong doi")
        done = land(con, s, contract, NOW + timedelta(days=day))
        assert (done.new, done.again) == ((1, 0) if day == 0 else (0, 1))
    assert con.execute("SELECT count(*) FROM lake.ops.landed WHERE source = ? AND name = ?", [source, name]).fetchall() == [(1,)]
    arrivals = con.execute("SELECT count(*) FROM lake.ops.arrival WHERE source = ? AND name = ?", [source, name]).fetchall()
    assert arrivals == [(1 if contract.files.in_place else 3,)]


def test_no_time_in_a_name_stops_its_source(lake: tuple[Settings, duckdb.DuckDBPyConnection]) -> None:
    """The last hour of the year 9999 in a zone west of ours is no moment that a computer knows: the file is refused by its name."""
    s, con = lake
    contract, folder = of(s, "station_txt")
    contract = contract.model_copy(update={"time": contract.time.model_copy(update={"zone": "+00:00"})})
    for stamp in ("99991231230000", "00010101000000", "20260326000000"):
        (folder / f"BP_FFFF_NUOTHA_{stamp}.txt").write_text("COD\t1\tmg/L\t20260326000000\t00\n")
    assert land(con, s, contract, NOW).new == 3
    load(con, s, contract, "r", NOW)
    found = con.execute("SELECT name, status, as_of, reason FROM lake.ops.delivery WHERE name LIKE 'BP_FFFF%' ORDER BY name").fetchall()
    assert [f[1] for f in found] == ["quarantined", "published", "quarantined"]
    assert found[0][2] == found[2][2] == NOW and "Thời gian trong tên tệp" in found[2][3]


def test_a_file_that_is_called_like_a_geodatabase_folder_is_refused_by_its_content(lake: tuple[Settings, duckdb.DuckDBPyConnection]) -> None:
    s, con = lake
    contract, folder = of(s, "parcel", quiet_seconds=0)
    (folder / "thua_dat_688_20260326.gdb").write_text("not a folder")
    assert land(con, s, contract, NOW).new == 1
    load(con, s, contract, "r", NOW)
    found = con.execute("SELECT status, reason FROM lake.ops.delivery WHERE name = 'thua_dat_688_20260326.gdb'").fetchall()
    assert found[0][0] == "blocked" and "không còn" not in found[0][1]


def test_a_geodatabase_folder_is_packed_without_links(tmp_path: Path) -> None:
    folder = tmp_path / "a.gdb"
    folder.mkdir()
    (folder / "a").write_bytes(os.urandom(3_000_000))
    (folder / "b").symlink_to("/etc/hostname")
    for name in ("one", "two"):
        zip_folder(folder, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as archive:
        assert archive.namelist() == ["a.gdb/a"] and archive.read("a.gdb/a") == (folder / "a").read_bytes()


def test_what_nobody_claims_is_told_and_wakes_nobody(made: Settings) -> None:
    """A name in capitals fits no contract of the shared inbox; a dot file is no delivery at all."""
    folder = made.inbox / "adjustment"
    folder.mkdir(parents=True, exist_ok=True)
    shipped = (CONTRACTS / "environment/adjustment.yaml").read_text(encoding="utf-8").replace(", formerly: adjustment_xlsx", "")
    own = made.home / "contracts" / "adjustment_site.yaml"
    own.write_text(shipped.replace("files: {", "files: {folder: adjustment, ").replace("csv$", "txt$").replace("xlsx$", "xlsm$"), encoding="utf-8")
    (folder / "THANG3.XLSX").write_text("x")
    for litter in (".DS_Store", "Thumbs.db", "~$thang3.xlsx", "a.csv.part"):
        (folder / litter).write_text("x")
    assert waiting_files(made)[1] == [] and all_waiting(made) == []
    done = ingest(made, now=NOW, run_id="r", only=[])
    assert done.unclaimed == ["inbox/adjustment/THANG3.XLSX (1 byte) fits no contract of this inbox: rename or remove it"]
    with open_reader(made) as con:
        assert con.execute("SELECT folder, name, bytes FROM lake.ops.unclaimed").fetchall() == [("adjustment", "THANG3.XLSX", 1)]
    own.unlink()
    assert len(all_waiting(made)) == 1 and ingest(made, now=NOW, run_id="r", only=[]).unclaimed == [], "alone, its source takes and refuses it"
    (folder / "THANG3.XLSX").unlink()
    assert ingest(made, now=NOW, run_id="r", only=[]).unclaimed == []


def test_what_lies_beside_all_inboxes_and_links_are_told_and_wake_nobody(made: Settings) -> None:
    """A folder mistyped, a file in no folder, a link, a pipe: nothing takes them, and somebody waits for them. An empty folder is nothing."""
    inbox = made.inbox
    for folder in ("station_text", "leer", "station_txt/2026"):
        (inbox / folder).mkdir(parents=True)
    (inbox / "station_text" / "BP_AAAA_NUOTHA_20260325000000.txt").write_text("x")
    (inbox / "station_text" / "BP_BBBB_NUOTHA_20260325000000.txt").write_text("x")
    (inbox / "so.csv").write_text("x")
    (inbox / "~$so.csv").write_text("x")
    (inbox / "station_txt" / "2026" / "BP_CCCC_NUOTHA_20260325000000.txt").symlink_to("/etc/hostname")
    os.mkfifo(inbox / "station_txt" / "BP_DDDD_NUOTHA_20260325000000.txt")
    assert waiting_files(made)[1] == [] and all_waiting(made) == []
    done = ingest(made, now=NOW, run_id="r", only=["station_txt"])
    assert (done.errors, done.landed["station_txt"].files) == ({}, 0)
    assert [text.split(" ")[0] for text in done.unclaimed] == [
        "inbox/so.csv", "inbox/station_text/", *(f"inbox/station_txt/{n}_NUOTHA_20260325000000.txt@" for n in ("2026/BP_CCCC", "BP_DDDD"))]  # fmt: skip
    assert ["no source's inbox" in text for text in done.unclaimed] == [True, True, False, False]
    for path in ("station_text", "leer", "station_txt/2026"):
        shutil.rmtree(inbox / path)
    for path in ("so.csv", "~$so.csv", "station_txt/BP_DDDD_NUOTHA_20260325000000.txt"):
        (inbox / path).unlink()
    assert ingest(made, now=NOW, run_id="r", only=[]).unclaimed == []


def test_what_is_given_back_beside_others_of_its_name_is_landed_with_them(made: Settings) -> None:
    """A killed run's file goes back where another has come meanwhile, even where somebody calls a file as the folder that is made for it."""
    inbox = made.inbox / "station_txt"
    name = "BP_SSSS_NUOTHA_20260325000000.txt"
    aside = inbox / f"{TAKEN}1"
    aside.mkdir(parents=True)
    shutil.rmtree(inbox / "again-1", ignore_errors=True)  # of the tests before it
    for path, value in ((aside / name, 1), (inbox / name, 2)):
        path.write_text(f"COD\t{value}\tmg/L\t20260325000000\t00\n")
    (inbox / "again-1").write_text("x")
    done = ingest(made, now=NOW, run_id="again", only=["station_txt"])
    assert (done.errors, done.landed["station_txt"].new) == ({}, 3) and not aside.exists()
    with open_reader(made) as con:
        told = con.execute("SELECT name, bytes FROM lake.ops.delivery WHERE run_id = 'again' ORDER BY name").fetchall()
    assert [n for n, _ in told] == [name, "again-1", f"again-2/{name}"]


def test_a_geodatabase_that_is_being_copied_is_no_delivery_yet(made: Settings) -> None:
    """Between two members nobody has anything open: it was taken as it was, empty even, and its folder removed under its sender."""
    contract = contracts_of(made)["parcel"]
    folder = made.inbox / "parcel" / "thua_dat_688_20260327.gdb"
    folder.mkdir(parents=True)
    long_ago = time.time() - 60
    os.utime(folder, (long_ago, long_ago))
    assert not list(finished(made, contract))
    (folder / "a00000001.gdbtable").write_text("x")
    os.utime(folder / "a00000001.gdbtable", (long_ago, long_ago))  # copied with its time
    assert not list(finished(made, contract))
    os.utime(folder, (long_ago, long_ago))
    assert [f.name for f in finished(made, contract)] == [folder.name]
    shutil.rmtree(folder)


def test_a_geodatabase_that_is_too_large_is_told_and_wakes_nobody(made: Settings) -> None:
    folder = made.inbox / "parcel" / "thua_dat_688_20260324.gdb"
    folder.mkdir(parents=True)
    with (folder / "a00000001.gdbtable").open("wb") as file:
        file.truncate(FOLDER_BYTES + 1)  # a sparse file: no such disk is needed
    assert waiting_files(made)[1] == []
    done = ingest(made, now=NOW, run_id="r", only=["parcel"])
    assert [(name.split(" ")[0], "32 GiB" in name) for name in done.unclaimed] == [("inbox/parcel/thua_dat_688_20260324.gdb", True)]
    shutil.rmtree(folder)
    assert ingest(made, now=NOW, run_id="r", only=[]).unclaimed == []


def test_what_may_not_be_read_or_taken_away_is_told_and_stops_nothing(made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another user, a folder that cannot be listed and one out of which nothing can be taken: the files beside them are landed."""
    inbox = made.inbox / "station_txt"
    for name in ("BP_KKKK_NUOTHA_20260325000000.txt", "BP_LLLL_NUOTHA_20260325000000.txt", "shut/BP_MMMM_NUOTHA_20260325000000.txt",
                 "bound/BP_NNNN_NUOTHA_20260325000000.txt"):  # fmt: skip
        (inbox / name).parent.mkdir(parents=True, exist_ok=True)
        (inbox / name).write_text("COD\t1\tmg/L\t20260325000000\t00\n")
    (inbox / "BP_KKKK_NUOTHA_20260325000000.txt").chmod(0o600)
    folder = made.inbox / "parcel" / "thua_dat_688_20260325.gdb"
    (folder / "shut").mkdir(parents=True)
    (made.inbox / "dossier").mkdir(exist_ok=True)
    (made.inbox / "dossier" / "ho_so_20260312.csv").write_text("x")
    shut = [str(inbox / "shut"), str(folder / "shut")]
    closed = {str(inbox / "BP_KKKK_NUOTHA_20260325000000.txt"): os.R_OK, str(inbox / "bound"): os.W_OK} | dict.fromkeys(shut, os.R_OK)
    closed[str(made.inbox / "dossier" / "ho_so_20260312.csv")] = os.R_OK
    real = os.scandir

    def scandir(path: Any = ".") -> Any:  # tests run as root, to whom everything is readable
        if str(path) in shut:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(landing, "_may", lambda path, mode: not mode & closed.get(path, 0))
        patch.setattr(os, "scandir", scandir)
        assert waiting_files(made)[1] == ["station_txt"] and len(all_waiting(made)) == 1
        done = ingest(made, now=NOW, run_id="closed", only=["station_txt", "parcel", "dossier"])
        assert not done.errors and done.landed["station_txt"].new == 1
        names = ["BP_KKKK_NUOTHA_20260325000000.txt", "bound/BP_NNNN_NUOTHA_20260325000000.txt", "shut/"]
        assert [text.split(" ")[0] for text in done.unclaimed] == [
            "inbox/dossier/ho_so_20260312.csv", "inbox/parcel/thua_dat_688_20260325.gdb", *(f"inbox/station_txt/{n}" for n in names)]  # fmt: skip
        assert all("chown" in text for text in done.unclaimed)
        closed[str(inbox)] = os.W_OK
        assert "chown" in ingest(made, now=NOW, run_id="root", only=["station_txt"]).errors["station_txt"]
    shutil.rmtree(folder)
    (made.inbox / "dossier" / "ho_so_20260312.csv").unlink()
    done = ingest(made, now=NOW, run_id="open", only=["station_txt"])
    assert (done.landed["station_txt"].new, done.unclaimed) == (3, [])


@pytest.mark.parametrize(("times", "source"), [(1, "station_txt"), (9, "station_txt"), (9, "parcel")], ids=["once", "always", "in a geodatabase"])
def test_a_folder_that_cannot_be_listed_this_time_is_no_delivery(made: Settings, monkeypatch: pytest.MonkeyPatch, times: int, source: str) -> None:
    """No descriptor left, a share that fails: it was landed as a geodatabase folder with what could be seen of it, refused by its name, and removed."""
    name = {"station_txt": f"2026/BP_RRRR_NUOTHA_2026032500000{times}.txt", "parcel": "thua_dat_688_20260326.gdb/in/a00000001.gdbtable"}[source]
    path = made.inbox / source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("COD\t1\tmg/L\t20260325000000\t00\n")
    failing, real = [str(path.parent)] * times, landing._entries

    def entries(folder: str) -> Any:
        if folder in failing:
            failing.remove(folder)
            raise OSError(24, "Too many open files", folder)
        return real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(landing, "_entries", entries)
        assert "Too many open files" in ingest(made, now=NOW, run_id="failing", only=[source]).errors[source]
    assert path.exists()
    done = ingest(made, now=NOW, run_id="well", only=[source])
    assert (done.errors, done.landed[source].new) == ({}, 1)


def test_folders_of_a_dated_layout_go_when_they_have_been_empty_for_an_hour(made: Settings) -> None:
    """With those around them that this empties; one of a moment ago stays, for its sender may be in it."""
    inbox = made.inbox / "station_txt"
    for name in ("2026/03/25", "2026/04/01", "2027/01"):
        (inbox / name).mkdir(parents=True)
    a_week_ago = time.time() - 7 * 86400
    for name in ("2026/03/25", "2026/03", "2026/04", "2026", "2027"):
        os.utime(inbox / name, (a_week_ago, a_week_ago))
    ingest(made, now=NOW, run_id="folders", only=["station_txt"])
    assert sorted(str(p.relative_to(inbox)) for p in inbox.rglob("*") if str(p.relative_to(inbox)).startswith("20")) == [
        "2026", "2026/04", "2026/04/01", "2027", "2027/01"]  # fmt: skip
    for name in ("2026/04/01", "2026/04", "2026", "2027/01", "2027"):
        os.utime(inbox / name, (a_week_ago, a_week_ago))
    ingest(made, now=NOW, run_id="folders", only=["station_txt"])
    assert inbox.is_dir() and not list(inbox.glob("20*"))


def test_an_inbox_that_is_no_folder_and_one_nested_without_end_stop_nothing(made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in its place, a link to itself, folders deeper than a path may be long: that source fails, or tells what it cannot reach; the others go on."""
    inbox = made.inbox / "station_txt"
    inbox.mkdir(parents=True, exist_ok=True)
    (inbox / "BP_PPPP_NUOTHA_20260325000000.txt").write_text("COD\t1\tmg/L\t20260325000000\t00\n")
    wrong = {"land_price": made.inbox / "land_price", "land_owner": made.inbox / "land_owner"}
    wrong["land_price"].write_text("x")
    wrong["land_owner"].symlink_to(wrong["land_owner"])
    before = Path.cwd()
    try:
        for width, depth in ((1, 1100), (250, 20)):
            os.chdir(inbox)
            for _ in range(depth):
                Path("d" * width).mkdir()
                os.chdir("d" * width)
            Path("BP_QQQQ_NUOTHA_20260325000000.txt").write_text("COD\t1\tmg/L\t20260325000000\t00\n")
        os.chdir(before)
        assert waiting_files(made)[1] == ["station_txt"] and len(all_waiting(made, live=True)) == 2
        done = ingest(made, now=NOW, run_id="odd", only=["station_txt", *wrong])
        assert set(done.errors) == set(wrong) and done.landed["station_txt"].new == 2
        assert [len(text) > 3000 and "too long" in text for text in done.unclaimed] == [True]
        monkeypatch.setattr(landing, "EMPTY_SECONDS", -1.0)
        told = ingest(made, now=NOW, run_id="others", only=["station_txt"]).unclaimed
        assert [text.split(" ")[0] for text in told if "cannot be looked into" in text] == ["inbox/land_owner/", "inbox/land_price/"]
        assert not (inbox / "d").exists()
    finally:
        os.chdir(before)
        for path in wrong.values():
            path.unlink()
        # what shutil.rmtree, and so the next run of the tests, cannot take away
        subprocess.run(["rm", "-rf", inbox / "d", inbox / ("d" * 250)], check=True)


def test_a_name_dated_years_ahead_is_refused_and_one_of_next_year_is_not(made: Settings) -> None:
    """Of two readings, or registers, the later file name wins: one of 2035 made every file after it an older one, in silence."""
    (made.inbox / "station_txt").mkdir(parents=True, exist_ok=True)
    for moment in ("20350101000000", "20270301000000"):
        (made.inbox / "station_txt" / f"BP_RRRR_NUOTHA_{moment}.txt").write_text("COD\t1\tmg/L\t20260325000000\t00\n")
    ingest(made, now=NOW, run_id="ahead", only=["station_txt"])
    with open_reader(made) as con:
        told = dict(con.execute("SELECT name, reason FROM lake.ops.delivery WHERE contains(name, 'BP_RRRR')").fetchall())
    ahead = told["BP_RRRR_NUOTHA_20350101000000.txt"]
    assert "tên tệp" in ahead and "400" in ahead and "20350101000000" in ahead
    assert "400" not in (told["BP_RRRR_NUOTHA_20270301000000.txt"] or "")


def test_the_live_worker_rests_where_nothing_can_be_taken_in(made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that fails keeps its files: it is told once, the lake is left to others between two looks, and nothing is built."""
    looks: list[str] = []

    def failing(*_: Any, run_id: str, **__: Any) -> Ingested:
        looks.append(run_id)
        return Ingested(run_id, errors={"station_txt": "OSError: down"})

    worker = object.__new__(Live)  # without the dbt project: nothing is built here
    worker.settings, worker._unserved, worker._failed, worker.troubles = made, None, set(), []
    monkeypatch.setattr("orchestration.live.waiting_files", lambda s: (time.time(), ["station_txt"]))
    monkeypatch.setattr("orchestration.live.ingest", failing)
    said: list[Any] = []
    until = time.monotonic() + 1.2
    worker.stay(lambda: NOW, 0.5, said.append, lambda: time.monotonic() > until)
    assert 1 <= len(looks) <= 4 and said == ["failed: station_txt: OSError: down"]


@pytest.mark.parametrize("stamp", [1_000_000_000, 2_051_222_400], ids=["2001", "2035"])
def test_the_sensor_sees_a_file_of_any_time(made: Settings, stamp: int) -> None:
    """A file copied with its old time is seen, and one of the year 2035 blinds it for none."""
    _, folder = of(made, "dossier")
    old, new = folder / "ho_so_20260310.csv", folder / "ho_so_20260311.csv"
    old.write_text("x")
    os.utime(old, (stamp, stamp))
    first = all_waiting(made)
    assert len(first) == 1
    tried = due(first, {}, 1000.0)
    assert tried is not None and due(first, tried, 1059.0) is None
    new.write_text("y")
    both = all_waiting(made)
    assert len(both) == 2 and due(both, tried, 1001.0) is not None
    old.unlink()
    new.unlink()


def test_a_file_that_stays_is_tried_ever_more_seldom() -> None:
    """A source whose contract fails keeps its file; a week of it starts a few dozen runs, not ten thousand."""
    tried, runs = {}, 0
    for minute in range(7 * 24 * 60):
        if (after := due(["a"], tried, minute * 60.0)) is not None:
            tried, runs = after, runs + 1
    assert LONGEST_SECONDS / 60 < 7 * 24 * 60 and 20 < runs < 50


def test_however_many_files_stay_each_waits_for_its_turn() -> None:
    """100,000 stuck files start no run a minute, and a new one among them does; the cursor that remembers them stays small."""
    files = [f"{n:012x}" for n in range(100_000)]
    cursor = remembered(due(files, {}, 1000.5) or {})
    assert due(files, recalled(cursor), 1059.0) is None and len(cursor) < 2_000_000
    again = due([*files, "new"], recalled(cursor), 1059.0)
    assert again is not None and recalled(remembered(again)) == again
    for old in (None, "", "1700000000.5", '{"a": [1, 1000.0]}'):
        assert recalled(old) == {}


def test_the_lock_is_given_in_turn(tmp_path: Path) -> None:
    """A writer that takes step after step does not starve the one that waits."""
    stop, steps = threading.Event(), [0]

    def build() -> None:
        while not stop.is_set():
            with writer_lock(tmp_path / "writer.lock", "build", 60):
                steps[0] += 1
                time.sleep(0.3)

    builder = threading.Thread(target=build)
    builder.start()
    try:
        while not steps[0]:
            time.sleep(0.01)
        for _ in range(5):
            before = steps[0]
            with writer_lock(tmp_path / "writer.lock", "live", 60):
                assert steps[0] - before <= 2
    finally:
        stop.set()
        builder.join()


def test_inbox_folders_side_by_side_or_shared_are_taken_and_made(home: Settings) -> None:
    shipped = (ROOT / "ingestion/contracts/procedures/dossier.yaml").read_text(encoding="utf-8")
    for name, folder in {"a": "quan_trac/nuoc", "b": "quan_trac/nuoc", "c": "quan_trac/nuoc thai"}.items():
        text = shipped.replace("files: {", f"files: {{folder: '{folder}', ")
        (home.home / "contracts" / f"{name}.yaml").write_text(text, encoding="utf-8")
    assert {"a", "b", "c"} <= set(load_contracts([home.home / "contracts"]))
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    assert (home.inbox / "quan_trac" / "nuoc thai").is_dir()
