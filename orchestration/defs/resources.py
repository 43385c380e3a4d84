"""Resources: which platform, and what time it is. Runs read no clock but this one."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation, DbtCliResource

from marts.build import DBT, dbt_environment
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


@contextmanager
def _lent(environment: Mapping[str, str]) -> Iterator[None]:
    """The environment of this process, for as long as it takes to start a child; what was changed for it is put back, and nothing else touched."""
    changed = {name: os.environ.get(name) for name, value in environment.items() if os.environ.get(name) != value}
    os.environ.update({name: environment[name] for name in changed})
    try:
        yield
    finally:
        for name, value in changed.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class OfflineDbt(DbtCliResource):
    """dbt on the lake of TNMT_HOME. `dbt --version` costs two seconds a step and asks the package index for the newest release: answered locally."""

    def cli(self, *args: Any, **options: Any) -> DbtCliInvocation:
        """Starts dbt with the environment of the lake; DbtCliResource gives its child that of the process and takes no other."""
        with _lent(dbt_environment(settings())):
            return super().cli(*args, **options)

    @property
    def _cli_version(self) -> Any:
        from importlib.metadata import version

        from packaging.version import parse

        return parse(version("dbt-core"))


def resources() -> dict[str, Any]:
    """Resources by name."""
    s = settings()
    return {
        "platform": Platform(),
        "dbt": OfflineDbt(
            project_dir=str(s.dbt_project),
            profiles_dir=str(s.dbt_project),
            dbt_executable=DBT,
        ),
    }
