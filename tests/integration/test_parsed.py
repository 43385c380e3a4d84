"""The kept parse of the dbt project: what a parse of today would find, made again when the project changes, and never in the way."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dbt.cli.main import dbtRunner

from marts import parsed as module
from marts.build import DBT, BuildFailed, Built, build_arguments, dbt_environment, dbt_vars
from marts.parsed import parsed
from tests.tiny import AS_OF
from tnmt.settings import ROOT, Settings

CHECKS = ["tnmt.marts.environment.aqi_daily_grain", "tnmt.marts.environment.aqi_daily_rows"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a platform whose dbt project is a copy."""
    copy = tmp_path / "dbt_project"
    shutil.copytree(ROOT / "dbt_project", copy, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(Settings, "dbt_project", property(lambda self: copy))
    here = Settings(home=tmp_path / "home")
    for name, value in dbt_environment(here).items():
        monkeypatch.setenv(name, value)
    return here


def content(manifest: Any) -> dict[str, Any]:
    """All that a parse found, without the moments of finding it."""
    found = manifest.to_dict()
    kept = {kind: found[kind] for kind in ("nodes", "sources", "macros", "exposures", "unit_tests")}
    return json.loads(
        json.dumps(kept, default=str, sort_keys=True), object_pairs_hook=lambda pairs: {k: v for k, v in pairs if k not in ("created_at", "built")}
    )


def test_what_a_parse_finds_does_not_depend_on_the_variables_of_a_build(project: Settings) -> None:
    options = ["--quiet", "--project-dir", str(project.dbt_project), "--vars", dbt_vars(AS_OF, 9, "spark")]
    with_variables = dbtRunner().invoke(["parse", *options])
    assert with_variables.success
    first, again = content(parsed(project)), content(parsed(project))
    assert first == again == content(with_variables.result)
    assert len(first["nodes"]) > 200
    assert first["unit_tests"]


def test_a_kept_parse_is_taken_until_the_project_changes(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed(project)
    (kept,) = (project.dbt_project / "target").glob("parsed-*")
    with monkeypatch.context() as patched:
        patched.setattr(module.dbtRunner, "invoke", lambda *_: pytest.fail("parsed again"))
        parsed(project)
    model = project.dbt_project / "models/marts/environment/aqi_daily.sql"
    model.write_text(model.read_text() + "\n-- changed\n")
    changed = parsed(project).nodes["model.tnmt.aqi_daily"].raw_code
    assert changed.endswith("-- changed")
    (newer,) = (project.dbt_project / "target").glob("parsed-*")
    assert newer != kept


def test_a_project_that_cannot_be_parsed_says_so_and_keeps_nothing(project: Settings) -> None:
    (project.dbt_project / "models/broken.sql").write_text("select * from {{ ref('no_such_model') }}")
    with pytest.raises(BuildFailed, match=r"(?s)cannot be parsed.*no_such_model"):
        parsed(project)
    assert not list((project.dbt_project / "target").glob("parsed-*"))


def test_where_nothing_can_be_kept_each_call_parses(project: Settings) -> None:
    (project.dbt_project / "target").write_text("a file where the folder should be")
    assert parsed(project).nodes


def test_reference_data_and_unit_tests_only_where_the_project_changed() -> None:
    assert "--exclude-resource-type" not in build_arguments(Built(9, done=True, reference=True), AS_OF, "duckdb")
    again = build_arguments(Built(9, done=True), AS_OF, "duckdb")
    assert again[:5] == ["build", "--exclude-resource-type", "seed", "--exclude-resource-type", "unit_test"]


def test_the_command_ends_as_dbt_does(tmp_path: Path) -> None:
    """A wrong option, a list, a run that cannot go on for want of a lake."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        home = {"TNMT_HOME": str(tmp_path / "home")}
        return subprocess.run([DBT, *arguments], cwd=ROOT / "dbt_project", env=os.environ | home, capture_output=True, text=True, check=False)

    usage = run("run", "--no-such-option")
    assert (usage.returncode, "No such option" in usage.stderr) == (2, True), usage
    assert run("list", "--select", "aqi_daily", "--quiet").stdout.split() == ["tnmt.marts.environment.aqi_daily", *CHECKS]
    failed = run("run", "--select", "aqi_daily", "--vars", dbt_vars(AS_OF))
    assert failed.returncode == 2, failed.stdout
    assert "Error" in failed.stdout
