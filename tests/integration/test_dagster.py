"""Dagster sees the same graph as lake and dbt, and its runs leave what those of the command line leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from python_calamine import CalamineWorkbook

from ingestion.ingest import Ingested
from lake.lake import open_reader, open_writer
from lake.serving import as_of, current
from marts.build import CONFLICT, TRIES, Built, Held, build, held_back, plan
from orchestration.defs.resources import AS_OF_TAG
from orchestration.serve import DAGSTER_YAML
from simulator.files import write_csv, write_xlsx
from tests.faults.test_set_aside import DOSSIER
from tests.tiny import AS_OF, TNMT, Undisturbed, compare, prepare, state
from tnmt.settings import ROOT, Settings, settings

TAKING_IN_THE_PROGRAMME = [dg.AssetKey([layer, name]) for layer, name in (
    ("raw", "programme_indicator"), ("clean", "programme_indicator"), ("clean", "programme_indicator_history"),
)]  # fmt: skip


@dataclass
class Dagster:
    """The definitions of a platform, and a Dagster of its own that remembers runs."""

    settings: Settings
    defs: dg.Definitions
    instance: dg.DagsterInstance

    def run(self, selection: list[dg.AssetKey] | None = None, job: str = "pipeline", **tags: str) -> Ran:
        done = self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, asset_selection=selection, raise_on_error=False, tags=tags or None
        )
        checks = [e.asset_check_evaluation_data for e in done.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
        return Ran(
            done.success,
            ["/".join(e.asset_key.path) for e in done.get_asset_materialization_events() if e.asset_key],
            sorted(f"{'/'.join(c.asset_key.path)}:{c.check_name}" for c in checks if not c.passed),
            len(checks),
            [str(e.event_specific_data.error) for e in done.all_events if e.event_type_value == "STEP_FAILURE"],
            {e.step_key for e in done.all_events if e.event_type_value == "STEP_START" and e.step_key},
        )

    def look(self, source: str, cursor: str | None = None) -> tuple[Any, Any]:
        """What the sensor of a source says (its result), and the assets that it asks for."""
        sensor = next(s for s in self.defs.sensors or () if s.name == f"new_{source}")
        context = dg.build_sensor_context(
            instance=self.instance, cursor=cursor, repository_def=self.defs.get_repository_def(), resources=self.defs.resources
        )
        said = sensor(context)
        asked = said.run_requests[0].asset_selection if isinstance(said, dg.SensorResult) and said.run_requests else None
        return said, asked


@dataclass(frozen=True)
class Ran:
    """A run in Dagster: the assets that it made, in order; red checks, how many checks there were, why steps failed, and which began."""

    success: bool
    made: list[str]
    red: list[str]
    checks: int
    failures: list[str]
    steps: set[str]

    def domains(self) -> set[str]:
        return {m.partition("/")[0].removeprefix("marts_") for m in self.made if m.startswith("marts_")}


def dagster_of(home: Path) -> Dagster:
    """The Dagster of the platform that TNMT_HOME names."""
    from orchestration import definitions

    (home / "dagster.yaml").write_text(DAGSTER_YAML)
    return Dagster(settings(), definitions.build(), dg.DagsterInstance.from_config(str(home)))


@pytest.fixture(scope="module")
def province(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dagster, Ran]]:
    """The tiny province after one run of the whole pipeline in Dagster, and what that run said. Its tests go on from one another."""
    base = tmp_path_factory.mktemp("dagster")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TNMT_HOME": str(base / "home"), "DAGSTER_HOME": str(base), "DAGSTER_DISABLE_TELEMETRY": "1"}.items():
            patch.setenv(name, value)
        prepare(base / "home", undisturbed.inbox)
        dagster = dagster_of(base)
        yield dagster, dagster.run()


def test_the_graph(province: tuple[Dagster, Ran], snapshot) -> None:
    """Assets, checks, jobs, sensors and schedules by name: a change of the graph is seen in a diff."""
    defs = province[0].defs
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    assert {
        "assets": sorted("/".join(k.path) for k in graph.get_all_asset_keys()),
        "checks": sorted(f"{'/'.join(k.asset_key.path)}:{k.name}" for k in graph.asset_check_keys if k.name in ("gate", "taken_in")),
        "groups": sorted({graph.get(k).group_name for k in graph.get_all_asset_keys()}),
        "jobs": sorted(j.name for j in defs.resolve_all_job_defs() if not j.name.startswith("__")),
        "schedules": [s.name for s in defs.schedules or ()],
        "sensors": [s.name for s in defs.sensors or ()],
        "steps": sorted(node.name for node in defs.resolve_job_def("pipeline").nodes),
    } == snapshot


def test_dg_finds_the_definitions(province: tuple[Dagster, Ran]) -> None:
    done = subprocess.run([str(Path(sys.executable).parent / "dg"), "check", "defs"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "All definitions loaded successfully" in done.stdout, done.stdout + done.stderr


def test_groups_are_the_domains(province: tuple[Dagster, Ran]) -> None:
    """One word for a domain everywhere; beside them reference data, what Dagster only knows of (the ledger), the serving file, the replay."""
    graph = province[0].defs.resolve_asset_graph()
    domains = {p.name for p in (ROOT / "ingestion/contracts").iterdir()} | {"operations"}
    assert {graph.get(k).group_name for k in graph.get_all_asset_keys()} == domains | {"reference", "serving", "ops"}


def test_sources_and_pages_have_owners(province: tuple[Dagster, Ran]) -> None:
    graph = province[0].defs.resolve_asset_graph()
    nobodys = [
        k.to_user_string()
        for k in graph.get_all_asset_keys()
        if k.path[0] in ("raw", "clean", "superset") and graph.has(k) and not graph.get(k).owners
    ]
    assert nobodys == []
    assert graph.get(dg.AssetKey(["raw", "station_txt"])).owners == ["team:Chi cục Bảo vệ môi trường"]


def test_from_the_sender_to_the_screen(province: tuple[Dagster, Ran]) -> None:
    """The page hangs on the tables that its charts show, on the serving file, and through both on what the stations send."""
    graph = province[0].defs.resolve_asset_graph()
    page = dg.AssetKey(["superset", "toan_canh"])
    above = dg.AssetSelection.assets(page).upstream().resolve(graph)
    assert {dg.AssetKey(["serving", "serving_file"]), dg.AssetKey(["marts_environment", "station_map"])} <= graph.get(page).parent_keys
    assert {dg.AssetKey(["raw", "station_txt"]), dg.AssetKey(["clean", "reading"])} <= above


def test_nobody_is_greeted_or_counted(tmp_path: Path) -> None:
    """Dagster's pages open without the invitation to its community, and tell nobody that they did."""
    (tmp_path / "dagster.yaml").write_text(DAGSTER_YAML)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.nux_enabled and not instance.telemetry_enabled


def test_a_whole_run_leaves_what_the_command_line_leaves(province: tuple[Dagster, Ran], undisturbed: Undisturbed) -> None:
    dagster, ran = province
    assert ran.success and ran.red == [] and ran.checks > 60
    assert len(ran.made) == len({*ran.made}) > 100  # one event an asset
    assert {"raw/station_txt", "clean/reading", "reference/parameter", "serving/serving_file", "superset/toan_canh"} <= {*ran.made}
    compare(state(dagster.settings), undisturbed.whole, "Dagster")
    assert not plan(dagster.settings, AS_OF).done, "the parts were noted: nothing is left for the command line"


def test_what_takes_in_goes_before_what_is_made_of_it(province: tuple[Dagster, Ran]) -> None:
    """Steps of one domain do not wait for another, but all marts of a run are of one moment, at which all has arrived."""
    made = province[1].made
    last_clean = max(i for i, m in enumerate(made) if m.startswith("clean/"))
    assert all(i > last_clean for i, m in enumerate(made) if m.startswith(("reference/", "staging/", "marts_")))


def test_a_second_run_starts_no_dbt(province: tuple[Dagster, Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    dagster, _ = province
    monkeypatch.setattr("orchestration.defs.resources.OfflineDbt.cli", lambda *_, **__: pytest.fail("dbt was started"))
    ran = dagster.run()
    assert ran.success and "marts_environment/reading_daily" in ran.made


def test_a_delivery_builds_its_domain_and_a_blocked_one_holds_no_other_up(province: tuple[Dagster, Ran]) -> None:
    """The sensor of its source asks for what is made of it; the check of a blocked one is red while it is blocked, not only when it came."""
    dagster, _ = province
    s = dagster.settings
    write_xlsx(s.inbox / "programme_indicator" / "chi_tieu_20270101.xlsx", "Chỉ tiêu", ["Cột lạ"], [["1"]])
    _settled(s.inbox / "programme_indicator")
    said, asked = dagster.look("programme_indicator")
    assert {dg.AssetKey(["clean", "programme_indicator"]), dg.AssetKey(["marts_programme", "indicator_progress"])} <= {*asked}
    assert said.run_requests[0].tags["tnmt/source"] == "programme_indicator"
    stopped = dagster.run(asked)
    assert stopped.success and stopped.red == ["clean/programme_indicator:gate"]
    assert {"serving/serving_file", "superset/toan_canh"} <= {*stopped.made} and stopped.domains() == {"programme", "operations"}

    _hand_in_a_dossier(s, "HS-MOI", date(2026, 3, 26))
    said, asked = dagster.look("dossier")
    ran = dagster.run(asked)
    # of land what asks how long a change took from the receipt of its dossier
    assert ran.success and ran.red == [] and ran.domains() == {"procedures", "land", "operations"}
    assert {m for m in ran.made if m.startswith("marts_land/")} == {"marts_land/transaction_month"}
    with open_reader(s) as con:
        assert con.execute("SELECT count(*) FROM lake.clean.dossier WHERE dossier_id = 'HS-MOI'").fetchall() == [(1,)]
        both = "SELECT (SELECT sum(received) FROM lake.marts_procedures.dossier_overdue) = (SELECT count(*) FROM lake.clean.dossier)"
        assert con.execute(both).fetchall() == [(True,)]
    assert dagster.run(TAKING_IN_THE_PROGRAMME).red == ["clean/programme_indicator:gate"]


def test_a_source_that_fails_is_red_and_holds_nothing_up(province: tuple[Dagster, Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line does: the others are taken in, marts are made of what was published, and the state stands at the check of the table."""
    dagster, _ = province

    def fails(con: object, settings: object, contract: Any, now: object) -> None:
        if contract.target == "adjustment":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("ingestion.ingest._pull", fails)
    ran = dagster.run()
    assert ran.success and "clean/adjustment:taken_in" in ran.red and "clean/reading:taken_in" not in ran.red
    assert {"marts_environment/reading_daily", "serving/serving_file"} <= {*ran.made}
    monkeypatch.undo()
    assert (
        dagster.run(
            [dg.AssetKey([layer, name]) for layer, name in (("raw", "adjustment"), ("clean", "adjustment"), ("clean", "adjustment_history"))]
        ).red
        == []
    )


def test_the_sensor_sees_files_of_any_time_and_late_ones_count(province: tuple[Dagster, Ran]) -> None:
    """Whatever their time stamps: a logger that drains what it held back, a sender whose clock is wrong. Marts of then are as a build anew makes them."""
    dagster, _ = province
    s = dagster.settings
    station, cursor, paths = _a_station(s), None, []
    (s.inbox / "station_txt").mkdir(exist_ok=True)
    for stamp, hours in ((datetime(1980, 1, 1), 15), (datetime(2099, 12, 31), 17)):
        at = f"{(AS_OF - timedelta(hours=hours)):%Y%m%d%H}3700"
        paths.append(s.inbox / "station_txt" / f"{station}_{at}.txt")
        paths[-1].write_text(f"pH\t7.77\t-\t{at}\t00\n")
        os.utime(paths[-1], (stamp.timestamp(), stamp.timestamp()))
        said, asked = dagster.look("station_txt", cursor)
        assert asked and {dg.AssetKey(["raw", "station_txt"]), dg.AssetKey(["raw", "station_hourly"]), dg.AssetKey(["clean", "reading"])} <= {*asked}
        cursor = said.cursor
        assert dagster.look("station_txt", cursor)[1] is None, "a run for it was just asked for"
    ran = dagster.run(asked)
    assert ran.success and not any(p.exists() for p in paths) and ran.domains() <= {"environment", "core", "operations"}
    with open_reader(s) as con:
        found = con.execute("SELECT count(*) FROM lake.clean.reading WHERE station_id = ? AND parameter = 'pH' AND value_reported = 7.77", [station])
        assert found.fetchall() == [(2,)]
    assert dagster.look("station_txt", cursor)[0].cursor == "{}"


def test_rows_that_waited_for_a_register_are_gated_when_it_comes(province: tuple[Dagster, Ran], undisturbed: Undisturbed) -> None:
    """A file of a station that nobody registered is quarantined; the run for the register gates it again, and builds what that changes."""
    dagster, _ = province
    s = dagster.settings
    at = f"{AS_OF - timedelta(hours=1):%Y%m%d%H%M}00"
    (s.inbox / "station_txt").mkdir(exist_ok=True)
    (s.inbox / "station_txt" / f"BP_MOII_NUOTHA_{at}.txt").write_text(f"pH\t7.1\t-\t{at}\t00\n")
    dagster.run([k for k in dagster.look("station_txt")[1] if k.path[0] in ("raw", "clean")])
    here = "SELECT count(*) FROM lake.clean.reading WHERE station_id = 'BP_MOII_NUOTHA'"
    with open_reader(s) as con:
        assert con.execute(here).fetchall() == [(0,)]
        assert con.execute("SELECT count(*) FROM lake.quarantine.row WHERE list_contains(reasons, 'unknown_station')").fetchall()[0][0] >= 1
    book = CalamineWorkbook.from_path(str(next((undisturbed.inbox / "station_register").glob("*.xlsx"))))
    header, *stations = book.get_sheet_by_index(0).to_python()
    new = dict(zip(header, stations[0], strict=True)) | {"Mã trạm": "BP_MOII_NUOTHA", "Tên trạm": "Trạm mới"}
    write_xlsx(s.inbox / "station_register" / "tram_20260326.xlsx", "Trạm", header, [*stations, list(new.values())])
    _settled(s.inbox / "station_register")
    ran = dagster.run(dagster.look("station_register")[1])
    assert ran.success, ran.failures
    with open_reader(s) as con:
        assert con.execute(here).fetchall() == [(1,)]


def test_the_hour_makes_a_silent_source_late(province: tuple[Dagster, Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    """No file says that none came: the schedule builds what the clock changes, and serves it."""
    dagster, _ = province
    schedule = next(s for s in dagster.defs.schedules or () if s.name == "hourly_pipeline")
    context = dg.build_schedule_context(instance=dagster.instance)
    assert isinstance(schedule(context), dg.RunRequest)

    def late() -> int:
        with duckdb.connect(str(current(dagster.settings)), read_only=True) as con:
            return int(con.execute("SELECT count(*) FROM marts_operations.source_freshness WHERE state = 'late'").fetchall()[0][0])

    before = late()
    monkeypatch.setattr("orchestration.defs.resources.sample_moment", lambda _: AS_OF + timedelta(days=3))
    ran = dagster.run()
    assert ran.success and late() > before
    served = current(dagster.settings)
    assert served is not None and as_of(served) == AS_OF + timedelta(days=3)
    under_way = dagster.instance.create_run_for_job(dagster.defs.resolve_job_def("pipeline"), status=dg.DagsterRunStatus.STARTED)
    assert isinstance(schedule(context), dg.SkipReason)
    (dagster.settings.inbox / "land_price").mkdir(exist_ok=True)
    (dagster.settings.inbox / "land_price" / "gia_dat_20260301.csv").write_text("x")
    _settled(dagster.settings.inbox / "land_price")
    said, _ = dagster.look("land_price")
    assert isinstance(said, dg.SkipReason) and "under way" in str(said.skip_message)
    (dagster.settings.inbox / "land_price" / "gia_dat_20260301.csv").unlink()
    dagster.instance.delete_run(under_way.run_id)


def test_a_failed_model_holds_back_what_hangs_on_it_and_nothing_else(province: tuple[Dagster, Ran]) -> None:
    """Dagster skips every step behind one that failed: what of them does not hang on the failed model is made and served all the same."""
    dagster, _ = province
    s = dagster.settings
    with open_writer(s, "test") as con:
        con.execute("ALTER TABLE lake.clean.facility RENAME TO facility_away")
        con.execute("DELETE FROM lake.ops.built WHERE model IN ('staging.stg_facility', 'marts_core.dim_facility', 'marts_land.land_use_area')")
    _hand_in_a_dossier(s, "HS-THU-HAI", date(2026, 3, 27))
    served, before = current(s), _dossiers_shown(s)
    ran = dagster.run()
    assert not ran.success and ran.steps.isdisjoint({"dbt_core", "dbt_land", "serve"})
    assert "stg_facility" in ran.failures[0] and "held back" in ran.failures[0]
    assert {"marts_land/land_use_area", "marts_programme/indicator_progress", "serving/serving_file", "superset/toan_canh"} <= {*ran.made}
    assert "marts_core/dim_facility" not in ran.made and current(s) != served
    # of a step beside the failed one too, whichever came first
    assert _dossiers_shown(s) == before + 1
    held = _held(s)
    assert "marts_core.dim_facility" in held and not [h for h in held if "land" in h]

    # a selection that leaves out the cause neither makes nor serves what waits for it
    path = s.inbox / "station_txt" / f"{_a_station(s)}_{AS_OF - timedelta(hours=2, minutes=3):%Y%m%d%H%M}00.txt"
    path.write_text(f"pH\t7.66\t-\t{path.stem[-14:]}\t00\n")
    _, asked = dagster.look("station_txt")
    assert dg.AssetKey(["marts_core", "dim_facility"]) not in {*asked}
    of_one_source = dagster.run(asked)
    assert not of_one_source.success and "marts_environment/reading_daily" not in of_one_source.made and _held(s) == held

    with open_writer(s, "test") as con:
        con.execute("ALTER TABLE lake.clean.facility_away RENAME TO facility")


def _held(s: Settings) -> set[str]:
    with open_reader(s) as con:
        return {h.table for h in held_back(con)}


def _dossiers_shown(s: Settings) -> int:
    with duckdb.connect(str(current(s)), read_only=True) as con:
        return int(con.execute("SELECT sum(received) FROM marts_procedures.dossier_overdue").fetchall()[0][0])


def _hand_in_a_dossier(s: Settings, number: str, day: date) -> None:
    row = [number, "1.004227", "Thủ tục", "25195", "", "20/03/2026", "22/03/2026", "", "Đang xử lý", "Trực tiếp", ""]
    write_csv(s.inbox / "dossier" / f"ho_so_{day:%Y%m%d}.csv", DOSSIER, [row])
    _settled(s.inbox / "dossier")


def test_a_run_that_is_executed_again_asks_for_its_own_moment(province: tuple[Dagster, Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster gives it the tags of the run before: what arrived since is not of that moment."""
    dagster, _ = province
    monkeypatch.setattr("orchestration.defs.resources.sample_moment", lambda _: AS_OF + timedelta(hours=1))
    ran = dagster.run([dg.AssetKey(["marts_operations", "source_freshness"])], **{AS_OF_TAG: f"{AS_OF.isoformat()} of another-run"})
    assert ran.success
    with open_reader(dagster.settings) as con:
        assert con.execute("SELECT DISTINCT as_of FROM lake.marts_operations.source_freshness").fetchall() == [(AS_OF + timedelta(hours=1),)]


def test_two_publishers_make_what_was_held_back(province: tuple[Dagster, Ran]) -> None:
    """A run in Dagster and one of the command line at once: one after the other writes, the newest is served, no half file is left."""
    dagster, _ = province
    s = dagster.settings
    assert "marts_environment.reading_daily" in _held(s), "by the model that failed, whose table is there again"
    other = subprocess.Popen([TNMT, "run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ran = dagster.run()
    told, _ = other.communicate(timeout=300)
    assert ran.success, ran.failures
    assert other.returncode in (0, 3), told
    assert _held(s) == set()
    served = current(s)
    assert served is not None and not list(served.parent.glob(".serving*"))
    assert served == max(served.parent.glob("serving-[0-9]*.duckdb"), key=lambda f: int(f.stem.partition("-")[2]))


def test_all_that_stands_is_what_a_build_anew_makes(province: tuple[Dagster, Ran]) -> None:
    """After all of the above: deliveries of one domain, late files, a register, a model held back, two publishers."""
    s = province[0].settings
    found = state(s)
    build(s, AS_OF, "anew", AS_OF, full=True)
    compare(found, state(s), "a build anew")


def test_a_killed_erasure_is_taken_up_by_the_next_night(province: tuple[Dagster, Ran]) -> None:
    """The nightly job, killed as the ledger says that raw bytes go and the files are still there: the next one removes them."""
    dagster, _ = province
    s = dagster.settings
    night = (
        "import dagster as dg; from datetime import datetime; from orchestration.defs.jobs import maintenance; from orchestration.defs.resources import Platform\n"
        "Platform.arrival = lambda self: datetime(2045, 1, 1)\n"
        "maintenance.execute_in_process(resources={'platform': Platform()})"
    )

    def files() -> set[Path]:
        return {p for p in s.landing.rglob("*") if p.is_file() and p.name != "landing.json"}

    before = files()
    killed = subprocess.run(
        [sys.executable, "-c", night], env={**os.environ, "TNMT_KILL_AT": "erase.recorded"}, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert files() == before and before
    again = subprocess.run([sys.executable, "-c", night], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert not files() & before


def _settled(folder: Path) -> None:
    """Its files were written some time ago."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - 60, time.time() - 60))


def _a_station(s: Settings) -> str:
    """A station that sends pH in station files."""
    with open_reader(s) as con:
        (row,) = con.execute("SELECT min(station_id) FROM lake.clean.reading WHERE parameter = 'pH' AND value_reported IS NOT NULL").fetchall()
    return str(row[0])


def test_an_asset_leaves_what_a_run_leaves(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes in by the same function: what is never taken is noted, what a refused snapshot gives back is gated, a source that fails stops no other."""
    from orchestration.defs import assets, replay
    from orchestration.defs.resources import Platform

    shipped = (ROOT / "ingestion/contracts/environment/adjustment.yaml").read_text(encoding="utf-8")
    own = shipped.replace("files: {", "files: {folder: adjustment, ").replace("csv$", "txt$").replace("xlsx$", "xlsm$")
    (home.home / "contracts" / "adjustment_site.yaml").write_text(own.replace(", formerly: adjustment_xlsx", ""), encoding="utf-8")
    path = home.inbox / "adjustment" / "THANG3.XLSX"
    path.parent.mkdir()
    path.write_text("x")
    asked: list[Ingested] = []

    def given_back(con: object, settings: object, contracts: object, result: Ingested, now: object) -> None:
        asked.append(result)

    def fails(source: str) -> None:
        if source == "adjustment":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("ingestion.ingest._gate_given_back", given_back)
    monkeypatch.setattr("ingestion.ingest._pull", lambda con, settings, contract, now: fails(contract.source))
    monkeypatch.setattr("orchestration.defs.replay.build", lambda *given: Built(0, done=False))
    monkeypatch.setattr("orchestration.defs.replay.serve_marts", lambda *given: None)
    target = next(a for a in assets.source_assets() if dg.AssetKey(["clean", "adjustment"]) in a.keys)
    for made, partition in ((target, None), (replay.replayed_day, "2026-03-24")):
        done = dg.materialize([made], resources={"platform": Platform()}, partition_key=partition, raise_on_error=False)
        if partition:  # a day that was not taken in again as a whole is no day that was replayed
            (failure,) = done.get_step_failure_events()
            told = str(failure.step_failure_data.error)
        else:
            (check,) = (c for c in done.get_asset_check_evaluations() if c.check_name == "taken_in")
            told = str(check.metadata["failed"].value)
            assert done.success and not check.passed
        assert "adjustment: OSError: [Errno 5] Input/output error" in told
        assert set(asked.pop().errors) == {"adjustment"}
        with open_reader(home) as con:
            assert con.execute("SELECT folder, name FROM lake.ops.unclaimed").fetchall() == [("adjustment", "THANG3.XLSX")]


@pytest.mark.parametrize("ends", ["well", "otherwise", "never"])
def test_a_build_that_met_another_writer_is_run_again(home: Settings, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """In the same step, of the same moment; not where a model failed by itself, which fails each time; and not for ever."""
    from marts import build as marts
    from orchestration.defs import dbt as assets
    from orchestration.defs.resources import resources

    moments: list[str] = []
    alias = dg.AssetKey(["reference", "unit_alias"])

    class Ended:
        def poll(self) -> int:
            return 0

    class Run:
        process = Ended()

        def stream(self) -> list[object]:
            marts.target_dir(home).joinpath("run_results.json").write_text("{}")
            # what an earlier try made is told again
            return [dg.Output(None, "reference__administrative_unit")] + ([dg.Output(None, "reference__unit_alias")] if self.is_successful() else [])

        def is_successful(self) -> bool:
            return ends == "well" and len(moments) == 3

        def get_error(self) -> Exception:
            return RuntimeError("dbt failed")

    def cli(_: object, arguments: list[str], **__: object) -> Run:
        moments.append(json.loads(arguments[arguments.index("--vars") + 1])["as_of"])
        return Run()

    def held(*_: object) -> tuple[Held, ...]:
        reason = "no such column" if ends == "otherwise" and len(moments) == 2 else f"{CONFLICT}: changed"
        return (Held("reference.unit_alias", "unit_alias", f"unit_alias: {reason}", datetime(2026, 3, 25), False),)

    given = resources()
    (reference,) = (a for a in assets.marts_assets() if alias in a.keys)
    other = dg.AssetKey(["reference", "administrative_unit"])
    monkeypatch.setattr(type(given["dbt"]), "cli", cli)
    monkeypatch.setattr("orchestration.defs.resources.now", lambda: datetime(2026, 3, 25) + timedelta(seconds=len(moments)))
    monkeypatch.setattr(marts, "read_held", held)
    monkeypatch.setattr(assets, "plan", lambda *_: Built(0, done=True))  # as after a whole build, which a selection would make first
    monkeypatch.setattr(assets, "serve_marts", lambda *_: pytest.fail("served"))
    done = dg.materialize([reference], selection=[alias, other], resources=given, raise_on_error=False)
    assert done.success == (ends == "well")
    tries = {"well": 3, "otherwise": 2, "never": TRIES}[ends]
    assert len(moments) == tries and len(set(moments)) == 1
