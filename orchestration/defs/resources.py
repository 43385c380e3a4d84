"""Resources: which platform, and what time it is. Runs read no clock but this one."""

import os
from datetime import datetime
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource

from orchestration.marts import DBT, dbt_environment
from tnmt.clock import default_as_of, now
from tnmt.settings import Settings, settings

WRITER_POOL = "lake_writer"
"""One writer at a time; dagster.yaml limits every pool to 1."""


class Platform(dg.ConfigurableResource[Any]):
    """The platform of TNMT_HOME."""

    def settings(self) -> Settings:
        """Its settings."""
        return settings()

    def as_of(self) -> datetime:
        """The as-of time of a run: the end of the sample where the platform holds one, else now."""
        return default_as_of(self.settings())

    def arrival(self) -> datetime:
        """The arrival time of files that a run finds."""
        return now()


class OfflineDbt(DbtCliResource):
    """`dbt --version` costs two seconds a step and asks the package index for the newest release: answered locally."""

    @property
    def _cli_version(self) -> Any:
        from importlib.metadata import version

        from packaging.version import parse

        return parse(version("dbt-core"))


def resources() -> dict[str, Any]:
    """Resources by name."""
    s = settings()
    os.environ.update(dbt_environment(s))
    return {
        "platform": Platform(),
        "dbt": OfflineDbt(
            project_dir=str(s.dbt_project),
            profiles_dir=str(s.dbt_project),
            dbt_executable=DBT,
        ),
    }
