"""The dbt project as assets: key = schema / table, the same in lake, dbt, docs and Superset."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from lake.lake import build_lock
from orchestration.defs.resources import WRITER_POOL, Platform
from orchestration.marts import build_arguments, manifest, plan, record, target_dir
from tnmt.settings import settings

ENGINE_TAG = "tnmt/engine"
"""Tag of a run that names what computes the models with meta.scale_out: duckdb or spark."""


class Translator(DagsterDbtTranslator):
    """Asset keys and groups by lake schema."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """schema / name, for models, seeds and sources alike."""
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The schema."""
        return str(dbt_resource_props["schema"])


def marts_assets() -> dg.AssetsDefinition:
    """All seeds, models and tests, built in one step."""
    s = settings()
    project = DbtProject(project_dir=s.dbt_project, profiles_dir=s.dbt_project, target_path=target_dir(s))

    @dbt_assets(manifest=manifest(s), project=project, dagster_dbt_translator=Translator(), name="dbt", pool=WRITER_POOL)
    def marts(context: dg.AssetExecutionContext, dbt: DbtCliResource, platform: Platform) -> Iterator[Any]:
        where = platform.settings()
        engine = context.run.tags.get(ENGINE_TAG, where.engine)
        as_of = platform.as_of()
        built = plan(where, as_of)
        # the child writes: on SQLite under the writer lock; on PostgreSQL increments go on beside it, upkeep does not
        with build_lock(where, f"dbt build {context.run_id[:12]}"):
            yield from dbt.cli(build_arguments(built, as_of, engine), context=context, target_path=target_dir(where)).stream()
        record(where, built, as_of, context.run_id[:12], platform.arrival())

    return marts
