"""Resources: which platform, and what time it is. Runs read no clock but this one."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation, DbtCliResource

from ingestion.ledger import newest_arrival
from lake.lake import open_reader
from marts.build import DBT, dbt_environment
from orchestration.run import as_of_after
from tnmt.clock import now, sample_moment
from tnmt.settings import Settings, settings

WRITER_POOL = "lake_writer"
"""One writer at a time; dagster.yaml limits every pool to 1."""
AS_OF_TAG = "tnmt/as_of"
"""Tag of a run that says which moment its marts are of, and of which run that was asked: one that is executed again inherits the tag."""
ENGINE_TAG = "tnmt/engine"
"""Tag of a run that names what computes the models with meta.scale_out: duckdb or spark."""


class Platform(dg.ConfigurableResource[Any]):
    """The platform of TNMT_HOME."""

    def settings(self) -> Settings:
        """Its settings."""
        return settings()

    def as_of(self, context: dg.OpExecutionContext | dg.AssetExecutionContext) -> datetime:
        """The as-of time of a run, the same in all its steps and tries: the end of the sample where the platform holds one, else a moment
        at which all that it took in has arrived, asked by the first step that needs it."""
        run = context.instance.get_run_by_id(context.run_id)
        noted, _, asked_by = (run.tags.get(AS_OF_TAG, "") if run else "").partition(" of ")
        if asked_by == context.run_id:
            return datetime.fromisoformat(noted)
        here = self.settings()
        if (as_of := sample_moment(here)) is None:
            with open_reader(here) as con:
                as_of = as_of_after(newest_arrival(con), now)
        if run:
            context.instance.add_run_tags(context.run_id, {AS_OF_TAG: f"{as_of.isoformat()} of {context.run_id}"})
        return as_of

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

    def _initialize_dbt_core_adapter(self, args: Any) -> Any:
        """No adapter here: it is for metadata of columns and rows that nobody fetches, and loads the project and a connection for each step."""

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
