"""What computes the models that opted in: named by option, setting or tag, DuckDB unless named."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from marts.build import dbt_vars
from orchestration import run as pipeline
from tnmt.settings import Settings

NOW = datetime(2026, 3, 25, 0, 10)


def test_dbt_is_told_where_it_is_not_duckdb() -> None:
    assert "engine" not in json.loads(dbt_vars(NOW, 1))
    assert json.loads(dbt_vars(NOW, 1, "spark"))["engine"] == "spark"


def test_only_two_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = CliRunner().invoke(app, ["run", "--engine", "flink"])
    assert refused.exit_code == 2
    assert "duckdb" in refused.output
    assert "spark" in refused.output
    monkeypatch.setenv("TNMT_ENGINE", "flink")
    with pytest.raises(ValueError, match="duckdb"):
        Settings()


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [([], None, "duckdb"), ([], "spark", "spark"), (["--engine", "duckdb"], "spark", "duckdb"), (["--engine", "spark"], None, "spark")],
)
def test_the_option_wins_over_the_setting(
    option: list[str], environment: str | None, expected: str, home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment:
        monkeypatch.setenv("TNMT_ENGINE", environment)
    seen: list[str] = []

    def ran(s: Settings, **_: Any) -> pipeline.Ran:
        seen.append(s.engine)
        raise KeyError("stop here")

    monkeypatch.setattr(pipeline, "run", ran)
    CliRunner().invoke(app, ["run", *option])
    assert seen == [expected]
