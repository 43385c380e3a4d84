"""The first extract, and the upkeep of the lake that leaves what it pinned."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import date, datetime, timedelta

import duckdb
import pytest

from ingestion.ingest import contracts_of, ingest
from ingestion.load import requeue
from lake.lake import latest_snapshot, open_reader, open_writer
from lake.maintenance import erase_raw, maintain, pin
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
        assert resource["hash"] == "sha256:" + hashlib.sha256(data).hexdigest() and resource["bytes"] == len(data)
        names = [f["name"] for f in resource["schema"]["fields"]]
        if resource["format"] == "csv":
            rows = list(csv.reader(data.decode().splitlines()))
            assert rows[0] == names and len(rows) - 1 == resource["rows"]
        else:
            assert [c[0] for c in duckdb.execute(f"DESCRIBE SELECT * FROM '{made.path / resource['path']}'").fetchall()] == names
    daily = next(r for r in package["resources"] if r["name"] == "reading_daily-parquet")
    assert daily["rows"] > 0 and all(f["description"] for f in daily["schema"]["fields"])
    handed = platform.rows("SELECT receiver, product, requested_by, handed_over_at, status, rows FROM lake.ops.handover ORDER BY product")
    assert [h[1] for h in handed] == ["marts_environment.reading_daily", "marts_land.land_use_area"]
    assert handed[0][2:5] == ("kiểm tra", AS_OF, "handed_over") and handed[0][5] == daily["rows"]


@pytest.mark.parametrize("change, word", [
    ("expires_on: 2026-12-31|expires_on: 2026-03-01", "renew"), ("columns: [commune_code|columns: [no_such_column", "no columns"),
    ("marts_land.land_use_area|marts_land.no_such_mart", "no mart"), ("receiver:|reciever:", "receiver"),
])  # fmt: skip
def test_agreements_that_are_refused(platform: Platform, change: str, word: str) -> None:
    from sharing.agreement import AGREEMENTS

    old, new = change.split("|")
    folder = platform.settings.home / "agreements"
    folder.mkdir(exist_ok=True)
    (folder / "bad.yaml").write_text((AGREEMENTS / "ioc.yaml").read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ExtractRefused, match=word):
        make_extract(platform.settings, "bad", requested_by="", now=AS_OF, as_of=AS_OF)
    assert not (platform.settings.home / "extracts" / "bad").exists() or not list((platform.settings.home / "extracts" / "bad").iterdir())


def test_raw_bytes_go_when_their_retention_has_passed(home: Settings) -> None:
    """The ledger stays, what waits stays, and gating an erased delivery again says why it cannot."""
    received = datetime(2026, 1, 10, 8)
    generate(home.inbox, home.reference, 1, date(2026, 1, 10), Size("tiny", 1, 0, 0, 1, 0, 1, 60, 3, 10))
    done = ingest(home, now=received, run_id="r1")
    assert not done.errors, done.errors
    kept = {c.source: c.retention.raw_days for c in contracts_of(home).values()}
    with open_writer(home, "test") as con:
        stored = dict(con.execute("SELECT source, any_value(stored) FROM lake.ops.landed GROUP BY source").fetchall())
        owner, sha = con.execute("SELECT delivery_id, sha256 FROM lake.ops.landed WHERE source = 'land_owner'").fetchall()[0]
        assert list(home.landing.glob(f"closed/*/{sha}/*"))
        assert erase_raw(con, home, received + timedelta(days=kept["land_owner"])) == 0, "not before the last day has passed"
        con.execute("INSERT INTO lake.ops.pending SELECT delivery_id, source, day FROM lake.ops.landed WHERE source = 'land_certificate'")
        after = received + timedelta(days=max(kept.values()) + 1)
        count = erase_raw(con, home, after)
        assert count == con.execute("SELECT count(*) FROM lake.ops.landed WHERE stored = 'erased'").fetchall()[0][0] > 100
        now_stored = dict(con.execute("SELECT source, any_value(stored) FROM lake.ops.landed GROUP BY source").fetchall())
        assert {s for s, how in now_stored.items() if how != "erased"} == {s for s, how in stored.items() if how == "in_place"} | {"land_certificate"}
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
