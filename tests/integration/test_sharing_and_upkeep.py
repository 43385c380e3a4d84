"""The first extract, and the upkeep of the lake that leaves what it pinned."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import datetime, timedelta

import duckdb
import pytest

from lake.lake import latest_snapshot, open_reader, open_writer
from lake.maintenance import maintain, pin
from sharing.extract import ExtractRefused, make_extract
from tests.conftest import AS_OF, Platform


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
