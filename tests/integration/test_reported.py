"""What the command line did is told to Dagster: assets and checks of its own definitions, one event each, and nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg

from orchestration.defs.increments import end_dead_runs
from orchestration.serve import DAGSTER_YAML, reporter
from tests.conftest import Platform
from tnmt.settings import Settings

KEYS = """
import json
from orchestration.definitions import defs
graph = defs.resolve_asset_graph()
print(json.dumps({"assets": ["/".join(k.path) for k in graph.get_all_asset_keys()],
                  "checks": ["/".join(k.asset_key.path) + ":" + k.name for k in graph.asset_check_keys]}))
"""


def test_what_the_command_line_did_is_in_dagster(platform: Platform, tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(DAGSTER_YAML)
    environment = {**os.environ, "TNMT_HOME": str(platform.settings.home), "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}
    command = [part if part != str(platform.settings.home / "dagster") else str(home) for part in reporter(platform.settings, "NEW")]

    def tell(*more: str) -> str:
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=True)
        assert "not reported" not in done.stderr, done.stderr
        return done.stdout

    assert tell("--", sys.executable, "-c", "print('and then the server')").endswith("and then the server\n")
    assert tell().startswith("0 events")
    known = json.loads(
        subprocess.run([sys.executable, "-c", KEYS], env=environment, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    with dg.DagsterInstance.from_config(str(home)) as instance:
        told = {"/".join(k.path) for k in instance.all_asset_keys()}
        assert told <= set(known["assets"])
        assert {"clean/reading", "reference/parameter", "staging/stg_reading", "marts_environment/reading_daily", "serving/serving_file"} <= told
        checks = [
            record.event_log_entry.asset_check_evaluation
            for record in instance.get_event_records(dg.EventRecordsFilter(event_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION))
        ]
        names = {"/".join(c.asset_key.path) + ":" + c.check_name for c in checks if c}
        assert len(names) == len(checks) > 60 and names <= set(known["checks"])
        assert all(c.passed or c.check_name == "gate" for c in checks if c)


def test_a_report_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    command = [*reporter(Settings(home=tmp_path), "ALL", {"reading": ""}), "--", sys.executable, "-c", "print('the server')"]
    done = subprocess.run(command, env={**os.environ, "TNMT_HOME": str(tmp_path / "nowhere")}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "the server\n")
    assert "was not reported to Dagster" in done.stderr


def test_a_run_whose_process_is_gone_holds_no_place_in_the_pool(tmp_path: Path) -> None:
    """All of Dagster was killed: the next one, which starts with no run of its own, ends what the ledger of runs has as going on."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(DAGSTER_YAML)

    @dg.op(pool="lake_writer")
    def write() -> None: ...

    @dg.job
    def takes_the_pool() -> None:
        write()

    with dg.DagsterInstance.from_config(str(home)) as instance:
        dead = instance.create_run_for_job(takes_the_pool, status=dg.DagsterRunStatus.STARTED)
        instance.event_log_storage.initialize_concurrency_limit_to_default("lake_writer")
        assert instance.event_log_storage.claim_concurrency_slot("lake_writer", dead.run_id, "write").is_claimed
        next_one = instance.create_run_for_job(takes_the_pool)
        assert not instance.event_log_storage.claim_concurrency_slot("lake_writer", next_one.run_id, "write").is_claimed
    assert end_dead_runs(home) == 1 and end_dead_runs(home) == 0
    with dg.DagsterInstance.from_config(str(home)) as instance:
        ended = instance.get_run_by_id(dead.run_id)
        assert ended and ended.status == dg.DagsterRunStatus.FAILURE
        assert instance.event_log_storage.claim_concurrency_slot("lake_writer", next_one.run_id, "write").is_claimed
