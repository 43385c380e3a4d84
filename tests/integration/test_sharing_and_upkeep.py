"""The first extract, and the upkeep of the lake that leaves what it pinned."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ingestion.ingest import contracts_of, ingest
from ingestion.requeue import requeue
from lake.lake import latest_snapshot, open_reader, open_writer
from lake.upkeep.maintain import maintain
from lake.upkeep.pins import pin
from lake.upkeep.retention import erase_raw
from sharing.agreement import AGREEMENTS
from sharing.extract import ExtractRefused, make_extract
from simulator.sample import generate
from simulator.size import Size
from tests.conftest import Platform
from tests.tiny import AS_OF
from tnmt.settings import Settings


def test_package_holds_what_the_agreement_names_and_no_more(platform: Platform) -> None:
    made = make_extract(platform.settings, "ioc", requested_by="kiểm tra", now=AS_OF, as_of=AS_OF)
    package = json.loads((made.path / "datapackage.json").read_text())
    assert len(package["resources"]) == 4
    for resource in package["resources"]:
        data = (made.path / resource["path"]).read_bytes()
        assert resource["hash"] == "sha256:" + hashlib.sha256(data).hexdigest()
        assert resource["bytes" if resource["format"] == "csv" else "size"] == len(data)
        names = [f["name"] for f in resource["schema"]["fields"]]
        if resource["format"] == "csv":
            rows = list(csv.reader(data.decode().splitlines()))
            assert rows[0] == names and len(rows) - 1 == resource["rows"]
        else:
            assert [c[0] for c in duckdb.execute(f"DESCRIBE SELECT * FROM '{made.path / resource['path']}'").fetchall()] == names
    daily = next(r for r in package["resources"] if r["name"] == "reading_daily-parquet")
    assert daily["rows"] > 0 and all(f["description"] for f in daily["schema"]["fields"])
    handed = platform.rows(
        "SELECT receiver, product, requested_by, handed_over_at, status, rows FROM lake.ops.handover WHERE package LIKE 'ioc/%' ORDER BY product"
    )
    assert [h[1] for h in handed] == ["marts_environment.reading_daily", "marts_land.land_use_area"]
    assert handed[0][2:5] == ("kiểm tra", AS_OF, "handed_over") and handed[0][5] == daily["rows"]


@pytest.mark.parametrize("change, word", [
    ("expires_on: 2026-12-31|expires_on: 2026-03-01", "renew"), ("columns: [commune_code|columns: [no_such_column", "no columns"),
    ("marts_land.land_use_area|marts_land.no_such_mart", "no mart"), ("receiver:|reciever:", "receiver"),
    ("period_column: day|period_column: \"day BETWEEN '2000-01-01' AND '2100-01-01' OR 1=1) UNION SELECT owner_name FROM lake.typed_closed.land_owner --\"", "no columns"),
    ("period_column: day|period_column: station_id", "date or a time"), ("group_size_column: parcels|group_size_column: land_use_code", "must count"),
    ("group_size_column: parcels|group_size_column: \"1 OR parcels\"", "no columns"), ("[commune_code|[\"commune_code, (SELECT 1)\"", "no columns"),
])  # fmt: skip
def test_agreements_that_are_refused(platform: Platform, change: str, word: str) -> None:
    old, new = change.split("|")
    folder = platform.settings.home / "agreements"
    folder.mkdir(exist_ok=True)
    (folder / "bad.yaml").write_text((AGREEMENTS / "ioc.yaml").read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ExtractRefused, match=word):
        make_extract(platform.settings, "bad", requested_by="", now=AS_OF, as_of=AS_OF)
    assert not (platform.settings.home / "extracts" / "bad").exists() or not list((platform.settings.home / "extracts" / "bad").iterdir())


def test_a_package_is_valid_for_the_tool_of_its_receiver(platform: Platform) -> None:
    """Field case 23: `frictionless validate` of a receiver, over both formats, with a date-time and a yes/no column."""
    import frictionless

    folder = platform.settings.home / "agreements"
    folder.mkdir(exist_ok=True)
    text = (AGREEMENTS / "ioc.yaml").read_text(encoding="utf-8")
    more = "  - table: marts_environment.reading_hourly\n    columns: [station_id, parameter, hour_end, day, expected, received, valid, mean_valid]\n"
    (folder / "validated.yaml").write_text(text + more, encoding="utf-8")
    made = make_extract(platform.settings, "validated", requested_by="", now=AS_OF, as_of=AS_OF)
    report = frictionless.validate(str(made.path / "datapackage.json"))
    assert report.valid, report.flatten(["name", "type", "message"])
    assert len(report.tasks) == 6
    assert json.loads((made.path / "datapackage.json").read_text())["created"] == f"{AS_OF.isoformat()}+07:00"


def test_an_earlier_package_is_never_touched(platform: Platform) -> None:
    first = make_extract(platform.settings, "ioc", requested_by="", now=AS_OF, as_of=AS_OF)
    held = {p: p.read_bytes() for p in first.path.iterdir()}
    second = make_extract(platform.settings, "ioc", requested_by="", now=AS_OF, as_of=AS_OF)
    assert second.path != first.path and second.path.parent == first.path.parent
    assert {p: p.read_bytes() for p in first.path.iterdir()} == held


@pytest.mark.parametrize("stage, state", [("extract.logged", "abandoned"), ("extract.placed", "handed_over")])
def test_a_hand_over_that_was_cut_is_settled_by_the_next(platform: Platform, monkeypatch: pytest.MonkeyPatch, stage: str, state: str) -> None:
    """The log has the row before the package is at its place; a crash on either side of that leaves no doubt."""

    class Cut(BaseException):
        pass

    def cut(at: str) -> None:
        if at == stage:
            raise Cut

    before = set((platform.settings.home / "extracts" / "ioc").glob("2*"))
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr("sharing.extract.reach", cut)
        make_extract(platform.settings, "ioc", requested_by=stage, now=AS_OF, as_of=AS_OF)
    log = f"SELECT DISTINCT status, package FROM lake.ops.handover WHERE requested_by = '{stage}'"
    ((found, package),) = platform.rows(log)
    assert found == "preparing"
    there = set((platform.settings.home / "extracts" / "ioc").glob("2*")) - before
    assert [f"ioc/{p.name}" for p in there] == ([package] if state == "handed_over" else [])
    after = make_extract(platform.settings, "ioc", requested_by="", now=AS_OF, as_of=AS_OF)
    assert platform.rows(log) == [(state, package)]
    assert f"ioc/{after.path.name}" != package or state == "abandoned"


@pytest.mark.parametrize("words, said", [("day: {description: x}", r"station_id.*not in the dictionary"), (None, "are personal data")])
def test_what_is_not_described_or_tells_about_a_person_is_not_handed_out(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str | None, said: str
) -> None:
    import sharing.extract as room
    from dictionary.words import Dictionary, dictionary

    known = dictionary()
    if words is None:  # a contract says that the name of a station leads to a person
        contract = known.contracts["station_register"]
        marked = contract.columns | {"station_id": contract.columns["station_id"].model_copy(update={"personal": "linked"})}
        known = Dictionary({"station_register": contract.model_copy(update={"columns": marked})})
    else:
        (tmp_path / "columns.yaml").write_text(words, encoding="utf-8")
        known = Dictionary({}, tmp_path / "columns.yaml")
    monkeypatch.setattr(room, "dictionary", lambda folders: known)
    with pytest.raises(ExtractRefused, match=said):
        make_extract(platform.settings, "ioc", requested_by="", now=AS_OF, as_of=AS_OF)


def test_an_apostrophe_in_the_way_to_the_home_hurts_nothing(platform: Platform, tmp_path: Path) -> None:
    """Serving file and extract of a platform that was moved, too (field case 30)."""
    from marts.build import serve_marts

    moved = Settings(home=tmp_path / "Sở TN&MT's kho")
    shutil.copytree(platform.settings.home, moved.home, symlinks=True)
    for path in moved.serving.iterdir():
        path.unlink()
    served = serve_marts(moved, AS_OF)
    assert served.tables > 20 and served.rows > 0
    made = make_extract(moved, "ioc", requested_by="", now=AS_OF, as_of=AS_OF)
    assert made.rows > 0 and made.path.is_relative_to(moved.home)


def test_an_erasure_that_was_cut_is_finished_and_erased_means_gone(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """'erased' stands in the ledger only when no file and no snapshot holds the bytes; a pin does not outlive the retention of persons."""
    received = datetime(2026, 1, 10, 8)
    sha = "ab" + "0" * 62
    kept = home.landing / "closed" / sha[:2] / sha / "owners.xlsx"
    kept.parent.mkdir(parents=True)
    kept.write_text("Nguyễn Văn A")
    with open_writer(home, "test") as con:
        con.execute(
            "INSERT INTO lake.ops.source (source, sensitivity, retention_days) VALUES ('land_owner', 'personal', 30), ('station_txt', 'internal', 30)"
        )
        con.execute(
            "INSERT INTO lake.ops.landed VALUES ('d1', 'land_owner', 'owners.xlsx', ?, 12, ?, ?, DATE '2026-01-10', 'landing')",
            [sha, received, received],
        )
        con.execute(
            "INSERT INTO lake.ops.landed VALUES ('d2', 'station_txt', 'a.txt', 'ff', 3, ?, ?, DATE '2026-01-10', 'raw.file')", [received, received]
        )
        con.execute("INSERT INTO lake.raw.file VALUES ('d2', 'station_txt', DATE '2026-01-10', 'abc'::BLOB)")
        pinned = latest_snapshot(con)
    now = datetime.now()  # noqa: DTZ005  # DuckLake stamps snapshots with the machine's clock
    pin(home, pinned, "extract 1", now, now + timedelta(days=3650))

    class Cut(BaseException):
        pass

    def cut(at: str) -> None:
        if at == "erase.recorded":
            raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr("lake.upkeep.retention.reach", cut)
        maintain(home, now)
    state = "SELECT DISTINCT stored FROM lake.ops.landed"
    assert kept.exists() and _asked(home, state) == [("erasing",)]
    assert maintain(home, now).erased == 0
    assert not kept.exists() and _asked(home, state) == [("erasing",)], "snapshots still show the bytes in the lake"
    later = now + timedelta(days=31)
    done = maintain(home, later)
    assert done.pinned == 0 and any("extract 1" in p and "personal data" in p for p in done.problems), done
    raw = Path(home.data_path) / "raw" / "file"
    for _ in range(3):
        old = set(raw.rglob("*.parquet"))
        maintain(home, later)
    assert not old and _asked(home, state) == [("erased",)]
    # its sender sends the same file once more: an arrival more in the ledger, and bytes that nobody may keep
    kept.parent.mkdir(parents=True)
    kept.write_text("Nguyễn Văn A")
    assert maintain(home, later).problems == () and not kept.parent.exists() and _asked(home, state) == [("erased",)]


def test_bytes_that_cannot_be_removed_are_no_erased_ones(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    received = datetime(2026, 1, 10, 8)
    folder = home.landing / "closed" / "ab" / ("ab" + "0" * 62)
    folder.mkdir(parents=True)
    (folder / "owners.xlsx").write_text("Nguyễn Văn A")
    with open_writer(home, "test") as con:
        con.execute(
            "INSERT INTO lake.ops.landed VALUES ('d1', 'land_owner', 'owners.xlsx', ?, 12, ?, ?, DATE '2026-01-10', 'erasing')",
            [folder.name, received, received],
        )
    unlink = os.unlink

    def refused(path: str, **more: Any) -> None:
        if str(path).endswith("owners.xlsx"):
            raise PermissionError(13, "Permission denied")
        unlink(path, **more)

    later = datetime.now() + timedelta(days=31)  # noqa: DTZ005  # DuckLake stamps snapshots with the machine's clock
    with monkeypatch.context() as patch:
        patch.setattr("os.unlink", refused)
        for _ in range(3):
            done = maintain(home, later)
            assert [str(folder) in p and "Permission denied" in p for p in done.problems] == [True], done
    assert _asked(home, "SELECT stored FROM lake.ops.landed") == [("erasing",)]
    assert maintain(home, later).problems == () and not folder.exists()
    assert _asked(home, "SELECT stored FROM lake.ops.landed") == [("erased",)]


def _asked(settings: Settings, statement: str) -> list[tuple]:
    with open_reader(settings) as con:
        return con.execute(statement).fetchall()


def test_a_pin_ends(home: Settings) -> None:
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.clean.figure (n INTEGER)")
        first = latest_snapshot(con)
        con.execute("INSERT INTO lake.clean.figure VALUES (1)")
        second = latest_snapshot(con)
        con.execute("INSERT INTO lake.clean.figure VALUES (2)")
    now = datetime.now()  # noqa: DTZ005  # DuckLake stamps snapshots with the machine's clock
    pin(home, first, "report", now, now + timedelta(days=35))
    pin(home, second, "report", now, now + timedelta(days=50))
    assert maintain(home, now + timedelta(days=40)).pinned == 1
    with open_reader(home, snapshot=second) as con:
        assert con.execute("SELECT count(*) FROM lake.clean.figure").fetchall() == [(1,)]
    assert first not in {r[0] for r in _asked(home, "SELECT snapshot_id FROM ducklake_snapshots('lake')")}


def test_raw_bytes_go_when_their_retention_has_passed(home: Settings) -> None:
    """The ledger stays, what waits stays, and gating an erased delivery again says why it cannot."""
    received = datetime(2026, 1, 10, 8)
    generate(home.inbox, home.reference, 1, date(2026, 1, 10), Size("tiny", 1, 0, 0, 1, 0, 1, 60, 3, 10))
    done = ingest(home, now=received, run_id="r1")
    assert not done.errors, done.errors
    kept = {c.source: c.retention.raw_days for c in contracts_of(home).values()}
    problems: list[str] = []
    with open_writer(home, "test") as con:
        stored = dict(con.execute("SELECT source, any_value(stored) FROM lake.ops.landed GROUP BY source").fetchall())
        owner, sha = con.execute("SELECT delivery_id, sha256 FROM lake.ops.landed WHERE source = 'land_owner'").fetchall()[0]
        assert list(home.landing.glob(f"closed/*/{sha}/*"))
        assert erase_raw(con, home, received + timedelta(days=kept["land_owner"]), problems) == 0, "not before the last day has passed"
        con.execute(
            "INSERT INTO lake.ops.pending (delivery_id, source, day) SELECT delivery_id, source, day FROM lake.ops.landed WHERE source = 'land_certificate'"
        )
        after = received + timedelta(days=max(kept.values()) + 1)
        count = erase_raw(con, home, after, problems)
        assert not problems
        assert count == con.execute("SELECT count(*) FROM lake.ops.landed WHERE stored = 'erasing'").fetchall()[0][0] > 100
        now_stored = dict(con.execute("SELECT source, any_value(stored) FROM lake.ops.landed GROUP BY source").fetchall())
        assert {s for s, how in now_stored.items() if how != "erasing"} == {s for s, how in stored.items() if how == "in_place"} | {
            "land_certificate"
        }
        assert con.execute("SELECT count(*) FROM lake.raw.file").fetchall() == [(0,)]
        assert not list(home.landing.glob(f"closed/*/{sha}/*"))
        waiting = con.execute("SELECT sha256 FROM lake.ops.landed WHERE source = 'land_certificate'").fetchall()[0][0]
        assert list(home.landing.glob(f"**/{waiting}/*")), "the certificates wait to be gated: their bytes stay"
        with pytest.raises(LookupError, match="erased when the retention"):
            requeue(con, "land_owner", delivery_id=owner)
        assert requeue(con, "station_txt", all_of_day=True) == 0
        assert con.execute("SELECT count(*) FROM lake.clean.land_owner").fetchall()[0][0] > 0


def test_maintenance_compacts_and_keeps_pinned_snapshots(home) -> None:
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.clean.figure (n INTEGER)")
    for n in range(6):
        with open_writer(home, "test") as con:
            con.execute(f"INSERT INTO lake.clean.figure SELECT {n} FROM range(1000)")
            if n == 2:
                kept = latest_snapshot(con)
    pin(home, kept, "extract", datetime(2026, 1, 1))
    later = datetime.now() + timedelta(days=40)  # noqa: DTZ005  # DuckLake stamps snapshots with the machine's clock
    done = maintain(home, later, keep_days=30)
    assert done.pinned == 1 and done.expired > 5 and done.files_after < done.files_before
    with open_reader(home, snapshot=kept) as con:
        assert con.execute("SELECT count(*), max(n) FROM lake.clean.figure").fetchall() == [(3000, 2)]
    with open_reader(home) as con:
        assert con.execute("SELECT count(*), sum(n) FROM lake.clean.figure").fetchall() == [(6000, 15000)]
        assert {r[0] for r in con.execute("SELECT snapshot_id FROM ducklake_snapshots('lake')").fetchall()} >= {kept}
