"""The resident worker: an increment is served within seconds, waits for a build, loses nothing, and a full build makes the same."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from lake.lake import lock, open_reader
from lake.serving import current
from marts.build import served_tables
from orchestration.live import GRACE_SECONDS, HEARTBEAT, Increment, Live, heartbeat
from orchestration.run import run
from orchestration.serve import DAGSTER_YAML
from simulator.registers import write_channel_register, write_station_register
from tests.conftest import new_platform
from tests.tiny import TNMT
from tnmt.settings import Settings

DAY = date(2026, 3, 10)
START = datetime(2026, 3, 10, 8)
STATIONS = [f"BP_{c * 4}_NUOTHA" for c in "ABC"]


def send(s: Settings, at: datetime, value: str, stations: list[str] = STATIONS) -> None:
    """A file of each station for the slot that ends at `at`."""
    for station in stations:
        path = s.inbox / "station_txt" / f"{station}_{at:%Y%m%d%H%M%S}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_text(f"pH\t{value}\t-\t{at:%Y%m%d%H%M%S}\t00\n")
        path.with_suffix(".part").rename(path)


def served(s: Settings, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(current(s)), read_only=True) as con:
        return con.execute(sql).fetchall()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNMT_HOME", "")
        s = new_platform(tmp_path_factory.mktemp("live") / "home")
        common = {"matrix": "Nước thải", "old_commune": "25195", "lon": 106.9, "lat": 11.5, "in_use_from": DAY}
        write_station_register(
            s.inbox / "station_register" / "tram_20260310.xlsx", [{"station_id": c, "station_name": f"Trạm {c[3]}", **common} for c in STATIONS]
        )
        write_channel_register(
            s.inbox / "station_channel_register" / "thong_so_20260310.csv",
            [{"station_id": c, "parameter": "pH", "unit": "-", "minutes": 5, "valid_from": "10/03/2026 07:00"} for c in STATIONS],
        )
        (s.home / "dagster").mkdir()
        (s.home / "dagster/dagster.yaml").write_text(DAGSTER_YAML)
        send(s, START, "7.0")
        run(s, now=START, as_of=START, run_id="first")
        before = dict(os.environ)
        yield Live(s)
        os.environ.clear()
        os.environ.update(before)


LIVE = ("station_status", "reading_hourly", "reading_8h", "reading_daily", "aqi_hourly")
"""Models that an increment makes; with them goes what is served on top of them."""


def test_an_increment_is_served_without_a_full_build_and_dagster_sees_it(live: Live) -> None:
    s, now = live.settings, START + timedelta(minutes=5)
    assert live.increment(now) is None  # nothing waits
    before = dict(served(s, "SELECT name, snapshot_id FROM served_table"))
    send(s, now, "7.5", STATIONS[:2])
    done = live.increment(now)
    assert done is not None and (done.deliveries, done.rows, done.whole_build) == (2, 2, False)
    assert served(s, "SELECT station_id, last_measured_at, minutes_silent, as_of FROM marts_environment.station_status ORDER BY 1") == [
        (STATIONS[0], now, 0, now),
        (STATIONS[1], now, 0, now),
        (STATIONS[2], START, 5, now),
    ]
    after = dict(served(s, "SELECT name, snapshot_id FROM served_table"))
    assert after.keys() == before.keys()
    assert (
        {t for t in after if after[t] != before[t]}
        == set(live.models.tables)
        == {f"marts_environment.{t}" for t in (*LIVE, "station_map", "coverage_daily", "air_daily", "aqi_latest")}
    )
    assert served(s, "SELECT as_of FROM serving_info") == [(now,)]
    print(f"latency {done.latency:.2f} s: {done}")
    assert done.latency < 60  # the goal of 20 s is held by the bench, on a machine that does nothing else
    live.report(done)
    with dg.DagsterInstance.from_config(str(s.home / "dagster")) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["marts_environment", "station_status"]))
        assert event is not None and event.asset_materialization is not None
        assert event.asset_materialization.metadata["rows"].value == 2


def test_an_increment_waits_for_a_writer_and_says_so(live: Live) -> None:
    s, now = live.settings, START + timedelta(minutes=10)
    send(s, now, "7.7")
    held = threading.Event()

    def hold() -> None:
        with lock(s, "a long build"):
            held.set()
            time.sleep(1.5)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    done = live.increment(now)
    other.join()
    assert done is not None and done.waited > 0.5 and done.rows == 3


def test_what_failed_is_made_up_for_at_the_next_look(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are landed and gone from the inbox when the disk is full for the serving file; the next look serves them."""
    s, now = live.settings, START + timedelta(minutes=15)
    send(s, now, "7.8")
    said: list[Increment | str] = []

    def full_disk(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("orchestration.live.refresh_serving", full_disk)
        live.stay(lambda: now, 0.01, said.append, lambda: len(said) > 0)
    assert said == ["OSError: [Errno 28] No space left on device"]
    assert served(s, "SELECT max(last_measured_at) FROM marts_environment.station_status") == [(now - timedelta(minutes=5),)]
    live.stay(lambda: now, 0.01, said.append, lambda: len(said) > 1)
    assert isinstance(said[1], Increment) and said[1].latency > 0
    assert served(s, "SELECT min(last_measured_at) FROM marts_environment.station_status") == [(now,)]


def test_what_was_landed_and_not_gated_is_gated_at_the_next_look(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate fails after the files are landed and gone from the inbox, once by an error of its source, once as if the worker were killed."""
    s = live.settings

    def full_disk(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    for minutes, killed in ((20, False), (25, True)):
        now = START + timedelta(minutes=minutes)
        send(s, now, "7.9")
        with monkeypatch.context() as patch:
            patch.setattr("ingestion.ingest.load", full_disk)
            assert live.increment(now) is None and any("No space left" in text for text in live.troubles)
        if killed:
            live._failed, live._unserved = set(), 0.0  # what a worker finds that comes after one which did not end
        increment = live.increment(now)
        assert increment and increment.deliveries == len(STATIONS)
        assert served(s, "SELECT min(last_measured_at) FROM marts_environment.station_status") == [(now,)]


def test_the_heartbeat_is_there_while_it_works(live: Live) -> None:
    s = live.settings
    seen: list[object] = []
    live.stay(lambda: START, 0.01, seen.append, lambda: seen.append(heartbeat(s)) or len(seen) > 1)
    assert seen[1] is not None and heartbeat(s) is None and not (s.home / HEARTBEAT).exists()


def test_a_full_build_makes_the_same_tables(live: Live) -> None:
    s, now = live.settings, START + timedelta(minutes=20)
    send(s, now, "7.9")
    send(s, START - timedelta(minutes=30), "7.3")
    assert live.increment(now)

    def tables() -> dict[str, list[str]]:
        with open_reader(s) as con:
            return {t: [repr(r) for r in con.execute(f"SELECT * FROM lake.{t} ORDER BY ALL").fetchall()] for t in live.models.tables}

    incremental = tables()
    in_file = {t: [repr(r) for r in served(s, f"SELECT * FROM {t} ORDER BY ALL")] for t in live.models.tables}
    assert in_file == incremental  # late files of an earlier day too
    run(s, now=now, as_of=now, run_id="full", full=True)
    assert tables() == incremental


def test_other_models_are_built_as_a_whole_first(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    s: Settings = live.settings
    calls: list[str] = []
    monkeypatch.setattr("marts.build.project_hash", lambda settings: "changed")
    monkeypatch.setattr("orchestration.live.build", lambda *given, **named: calls.append("build"))
    monkeypatch.setattr("orchestration.live.serve_marts", lambda *given: calls.append("serve"))
    now = START + timedelta(minutes=25)
    send(s, now, "8.0")
    done = live.increment(now)
    assert done is not None and done.whole_build and calls == ["build", "serve"]


def test_no_lake_no_worker(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="there is no lake"):
        Live(Settings(home=tmp_path / "nothing"))


def test_it_ends_within_seconds_whatever_it_waits_for(live: Live) -> None:
    """A build holds the lake and a file waits: the worker is told to end, and does; the next one serves what this one may have taken in."""
    s = live.settings
    with lock(s, "a long build"):
        send(s, START + timedelta(minutes=40), "7.4")
        with subprocess.Popen([TNMT, "live", "--every", "0.5"], env={**os.environ, "TNMT_HOME": str(s.home)}, stdout=subprocess.PIPE) as worker:
            try:
                until = time.monotonic() + 300
                while not (s.home / HEARTBEAT).exists() and time.monotonic() < until:
                    time.sleep(0.1)
                time.sleep(1)
                told = time.monotonic()
                worker.terminate()
                worker.wait(60)
                assert time.monotonic() - told < GRACE_SECONDS + 10
            finally:
                worker.kill()
    assert (s.home / HEARTBEAT).exists()
    done = Live(s).increment(START + timedelta(minutes=40))
    assert done is not None and done.rows == 3
    (s.home / HEARTBEAT).unlink()


def test_another_project_is_parsed_anew(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade comes while the worker stays: it does not go on with the models of before."""
    s, now = live.settings, START + timedelta(minutes=45)
    manifest = live.models._manifest
    monkeypatch.setattr("marts.live_models.project_hash", lambda settings: "another")
    send(s, now, "7.6")
    assert live.increment(now) and live.models._manifest is not manifest
    (s.home / "dbt" / "manifest.project").write_text("of before")
    calls: list[Any] = []
    monkeypatch.setattr("marts.build.run_dbt", lambda *given: calls.append(given[0][1]))
    served_tables(s)
    assert calls == ["parse"]
