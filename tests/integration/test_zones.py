"""Moments mean the same on a machine of any zone: the lake's sessions are GMT+7, and snapshots expire when they are due."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
import yaml

from lake.lake import ZONE, duck, latest_snapshot, open_reader, open_writer
from lake.upkeep.maintain import maintain
from tests.marts_kit import PROJECT
from tnmt.settings import ROOT, Settings

GMT7 = timezone(timedelta(hours=7))


@pytest.fixture(params=["UTC", "Asia/Ho_Chi_Minh", "America/Los_Angeles"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The machine's zone, of this process and what it starts."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.delenv("TZ")
    os.environ.pop("TZ", None)
    time.tzset()


def test_a_session_reads_moments_as_gmt7(zone: str, home: Settings) -> None:
    with duck(home) as con:
        assert con.execute("SELECT TIMESTAMPTZ '2026-01-01 00:00:00+00'::TIMESTAMP").fetchall() == [(datetime(2026, 1, 1, 7),)]
        assert con.execute("SELECT '2026-01-01 09:30:00Z'::TIMESTAMPTZ::TIMESTAMP::VARCHAR").fetchall() == [("2026-01-01 16:30:00",)]
        assert con.cursor().execute("SELECT current_setting('TimeZone')").fetchall() == [(ZONE,)]
    with open_reader(home) as con:
        assert con.execute("SELECT current_setting('TimeZone')").fetchall() == [(ZONE,)]


def test_snapshots_expire_by_the_hour_on_a_machine_of_any_zone(zone: str, home: Settings) -> None:
    with open_writer(home, "test") as con:
        con.execute("CREATE TABLE lake.clean.figure (n INTEGER)")
        mine = latest_snapshot(con)
        con.execute("INSERT INTO lake.clean.figure VALUES (1)")
    now = datetime.now(GMT7).replace(tzinfo=None)  # DuckLake stamps snapshots with the machine's clock
    for hours, there in ((-1, True), (1, False)):
        maintain(home, now + timedelta(days=30, hours=hours))
        with open_reader(home) as con:
            assert (mine in {r[0] for r in con.execute("SELECT snapshot_id FROM ducklake_snapshots('lake')").fetchall()}) is there


def test_every_build_has_the_zone_of_the_lake() -> None:
    profile = yaml.safe_load((PROJECT / "profiles.yml").read_text(encoding="utf-8"))
    assert {o["settings"]["TimeZone"] for o in profile["tnmt"]["outputs"].values()} == {ZONE}


@pytest.mark.parametrize("machine", ["UTC", "Asia/Ho_Chi_Minh", "America/St_Johns"])
def test_the_same_whatever_the_machines_zone(machine: str) -> None:
    """Types and tables of files again, in a process of its own under another TZ."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_cast.py", "tests/unit/test_readers_tabular.py", "-k", "stamp or bounds or two_row_header or date"],
        cwd=ROOT, env={**os.environ, "TZ": machine}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
