"""Dagster sees the same graph as lake and dbt; definitions load, the graph is held by a snapshot, a whole run works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from ingestion.ingest import Ingested
from lake.lake import open_reader
from orchestration.serve import DAGSTER_YAML
from tests.tiny import AS_OF, END, TINY
from tnmt.settings import ROOT, Settings

SCRIPT = """
import json, sys
import dagster as dg
from orchestration.definitions import defs
dg.Definitions.validate_loadable(defs)
graph = defs.resolve_asset_graph()
print("GRAPH", json.dumps({
    "assets": sorted("/".join(k.path) for k in graph.get_all_asset_keys()),
    "checks": sorted(f"{'/'.join(k.asset_key.path)}:{k.name}" for k in graph.asset_check_keys if k.name == "gate"),
    "jobs": sorted(j.name for j in defs.resolve_all_job_defs() if not j.name.startswith("__")),
    "groups": sorted({graph.get(k).group_name for k in graph.get_all_asset_keys()}),
    "schedules": [s.name for s in defs.schedules], "sensors": [s.name for s in defs.sensors]}))
if "run" in sys.argv:
    from dagster import DagsterInstance
    from simulator.files import write_xlsx
    from tnmt.settings import settings
    result = defs.resolve_job_def("pipeline").execute_in_process(instance=DagsterInstance.ephemeral())
    passed = [e for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
    print("RAN", json.dumps({"success": result.success, "materialised": len(result.get_asset_materialization_events()), "checks": len(passed),
                             "failed": [str(e.asset_check_evaluation_data.check_name) for e in passed if not e.asset_check_evaluation_data.passed]}))

    def told(result):
        checks = [e.asset_check_evaluation_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
        return {
            "success": result.success,
            "materialised": sorted("/".join(e.asset_key.path) for e in result.get_asset_materialization_events()),
            "red": sorted("/".join(c.asset_key.path) for c in checks if c.check_name == "gate" and not c.passed),
            "failures": [str(e.event_specific_data.error.message) for e in result.all_events if e.event_type_value == "STEP_FAILURE"],
        }
    write_xlsx(settings().inbox / "programme_indicator" / "chi_tieu_20270101.xlsx", "Chỉ tiêu", ["Cột lạ"], [["1"]])
    stopped = defs.resolve_job_def("pipeline").execute_in_process(instance=DagsterInstance.ephemeral(), raise_on_error=False)
    print("BLOCKED", json.dumps(told(stopped), ensure_ascii=False))
    again = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=DagsterInstance.ephemeral(), asset_selection=[dg.AssetKey(["raw", "programme_indicator"]), dg.AssetKey(["clean", "programme_indicator"])], raise_on_error=False)
    print("AGAIN", json.dumps(told(again), ensure_ascii=False))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict:
    import json

    from simulator.sample import generate
    from tnmt.settings import Settings

    home = tmp_path_factory.mktemp("dagster")
    environment = {**os.environ, "TNMT_HOME": str(home), "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}
    subprocess.run([str(Path(sys.executable).parent / "tnmt"), "init"], env=environment, check=True, capture_output=True)
    generate(home / "inbox", Settings().reference, 1, END, TINY)
    (home / "sample.json").write_text(f'{{"size": "tiny", "seed": 1, "end": "{END}", "as_of": "{AS_OF.isoformat()}"}}')
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    done = subprocess.run([sys.executable, "-c", SCRIPT, "run"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        line.split(" ", 1)[0]: json.loads(line.split(" ", 1)[1])
        for line in done.stdout.splitlines()
        if line.startswith(("GRAPH ", "RAN ", "BLOCKED ", "AGAIN "))
    }


def test_the_graph(answers: dict, snapshot) -> None:
    assert answers["GRAPH"] == snapshot


def test_groups_are_the_domains(answers: dict) -> None:
    """One word for a domain everywhere; beside them reference data, what Dagster only knows of (the ledger), the serving file, the replay."""
    domains = {p.name for p in (ROOT / "ingestion/contracts").iterdir()} | {"operations"}
    assert set(answers["GRAPH"]["groups"]) == domains | {"reference", "default", "serving", "ops"}


def test_nobody_is_greeted_or_counted(tmp_path: Path) -> None:
    """Dagster's pages open without the invitation to its community, and tell nobody that they did."""
    (tmp_path / "dagster.yaml").write_text(DAGSTER_YAML)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.nux_enabled and not instance.telemetry_enabled


def test_asset_keys_are_lake_tables(answers: dict) -> None:
    assert {
        "raw/station_txt",
        "raw/parcel",
        "clean/reading",
        "clean/parcel",
        "marts_environment/reading_daily",
        "reference/parameter",
        "serving/serving_file",
    } <= set(answers["GRAPH"]["assets"])


def test_a_whole_run_in_dagster(answers: dict) -> None:
    assert answers["RAN"]["success"]
    assert answers["RAN"]["failed"] == []
    assert answers["RAN"]["materialised"] > 40 and answers["RAN"]["checks"] > 60


def test_a_blocked_delivery_is_red_and_holds_nothing_up(answers: dict) -> None:
    """Nothing of it was published: the marts of its target are made of what was, as `tnmt run` makes them."""
    stopped = answers["BLOCKED"]
    assert stopped["red"] == ["clean/programme_indicator"] and stopped["failures"] == []
    made = set(stopped["materialised"])
    assert {
        "marts_environment/reading_daily",
        "staging/stg_programme_indicator",
        "marts_programme/indicator_progress",
        "serving/serving_file",
    } <= made


def test_the_check_is_red_while_a_delivery_is_blocked_not_only_when_it_came(answers: dict) -> None:
    assert answers["AGAIN"]["red"] == ["clean/programme_indicator"]


@pytest.mark.parametrize("of", ["clean/adjustment", "ops/replayed_day"])
def test_an_asset_leaves_what_a_run_leaves(home: Settings, monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    """It takes in by the same function: what is never taken is noted, what a refused snapshot gives back is gated, a source that fails stops no other."""
    from orchestration.defs import assets
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
    monkeypatch.setattr("orchestration.defs.assets.build", lambda *given: pytest.fail("a source failed"))
    made = assets.replayed_day if of == "ops/replayed_day" else next(a for a in assets.source_assets() if dg.AssetKey(of.split("/")) in a.keys)
    partition = "2026-03-24" if of == "ops/replayed_day" else None
    done = dg.materialize([made], resources={"platform": Platform()}, partition_key=partition, raise_on_error=False)
    (failure,) = done.get_step_failure_events()
    assert "adjustment: OSError: [Errno 5] Input/output error" in str(failure.step_failure_data.error)
    assert len(asked) == 1 and "adjustment_site" in asked[0].loaded and set(asked[0].errors) == {"adjustment"}
    with open_reader(home) as con:
        assert con.execute("SELECT folder, name FROM lake.ops.unclaimed").fetchall() == [("adjustment", "THANG3.XLSX")]


@pytest.mark.parametrize("ends", ["well", "otherwise", "never"])
def test_a_build_that_met_another_writer_is_run_again(home: Settings, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Of the same moment, so that what was made is up to date; not where a model failed by itself, which fails each time; and not for ever."""
    from datetime import datetime, timedelta

    from marts.build import CONFLICT, TRIES, Held
    from orchestration.defs import dbt as marts
    from orchestration.defs.resources import Platform, resources

    moments: list[str] = []
    asked: list[None] = []

    class Run:
        def stream(self) -> list[object]:
            marts.target_dir(home).joinpath("run_results.json").write_text("{}")
            return [dg.Output(None, "reference__unit_alias")] if self.is_successful() else []

        def is_successful(self) -> bool:
            return ends == "well" and len(moments) == 3

    def cli(_: object, arguments: list[str], **__: object) -> Run:
        moments.append(json.loads(arguments[arguments.index("--vars") + 1])["as_of"])
        return Run()

    def held(*_: object) -> tuple[Held, ...]:
        reason = "no such column" if ends == "otherwise" and len(moments) == 2 else f"{CONFLICT}: changed"
        return (Held("reference.unit_alias", "unit_alias", f"unit_alias: {reason}", datetime(2026, 3, 25), False),)

    def clock(_: Platform) -> datetime:
        asked.append(None)
        return datetime(2026, 3, 25) + timedelta(seconds=len(asked))

    asset, given = marts.marts_assets(), resources()
    monkeypatch.setattr(type(given["dbt"]), "cli", cli)
    monkeypatch.setattr(Platform, "as_of", clock)
    monkeypatch.setattr(marts, "read_held", held)
    monkeypatch.setattr(marts, "serve_marts", lambda *_: pytest.fail("served"))
    done = dg.materialize([asset], selection=[dg.AssetKey(["reference", "unit_alias"])], resources=given, raise_on_error=False)
    told = [e.event_type_value for e in done.all_events if e.event_type_value in ("STEP_UP_FOR_RETRY", "STEP_FAILURE", "STEP_SUCCESS")]
    tries = {"well": 3, "otherwise": 2, "never": TRIES}[ends]
    assert told == ["STEP_UP_FOR_RETRY"] * (tries - 1) + ["STEP_SUCCESS" if ends == "well" else "STEP_FAILURE"]
    assert len(moments) == tries and len(set(moments)) == 1
