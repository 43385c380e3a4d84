"""The dbt project as assets: key = schema / table, the same in lake, dbt, docs and Superset."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from lake.lake import build_lock
from marts.build import (
    TRIES,
    build_arguments,
    manifest,
    met_another_writer,
    note_held,
    plan,
    read_held,
    record,
    serve_marts,
    target_dir,
    told_held,
)
from orchestration.defs.resources import WRITER_POOL, Platform
from tnmt.settings import settings

AS_OF_TAG = "tnmt/as_of"
"""Tag of a run that says of which moment its first try was; the next ones are of the same, so that what that one made is up to date."""
ENGINE_TAG = "tnmt/engine"
"""Tag of a run that names what computes the models with meta.scale_out: duckdb or spark."""


class Translator(DagsterDbtTranslator):
    """Asset keys by lake schema, groups by domain."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """schema / name, for models, seeds and sources alike."""
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The domain: the folder of a model in its layer, of marts the end of the schema; else the schema (`reference`, `ops`)."""
        schema, folders = str(dbt_resource_props["schema"]), dbt_resource_props.get("fqn", [])
        if schema in ("staging", "intermediate") and len(folders) > 3:
            return str(folders[2])
        return schema.removeprefix("marts_")


def marts_assets() -> dg.AssetsDefinition:
    """All seeds, models and tests, built in one step."""
    s = settings()
    project = DbtProject(project_dir=s.dbt_project, profiles_dir=s.dbt_project, target_path=target_dir(s))

    @dbt_assets(manifest=manifest(s), project=project, dagster_dbt_translator=Translator(), name="dbt", pool=WRITER_POOL)
    def marts(context: dg.AssetExecutionContext, dbt: DbtCliResource, platform: Platform) -> Iterator[Any]:
        where = platform.settings()
        engine = context.run.tags.get(ENGINE_TAG, where.engine)
        as_of = platform.as_of()
        if context.retry_number and (run_now := context.instance.get_run_by_id(context.run_id)):
            as_of = datetime.fromisoformat(run_now.tags.get(AS_OF_TAG, as_of.isoformat()))
        built = plan(where, as_of)
        results = target_dir(where) / "run_results.json"
        # the child writes: on SQLite under the writer lock; on PostgreSQL increments go on beside it, upkeep does not
        with build_lock(where, f"dbt build {context.run_id[:12]}"):
            results.unlink(missing_ok=True)
            run = dbt.cli(build_arguments(built, as_of, engine), context=context, target_path=target_dir(where), raise_on_error=False)
            yield from run.stream()
        good = run.is_successful()
        held = () if good or not results.exists() else read_held(where, as_of, built.held)
        if not good and not held:
            raise dg.Failure(f"dbt could not go on: {run.get_error()}")
        if (met := met_another_writer(held)) and context.retry_number < TRIES - 1:
            context.log.info("another writer made %s meanwhile: the step is run again", ", ".join(met))
            context.instance.add_run_tags(context.run_id, {AS_OF_TAG: as_of.isoformat()})
            raise dg.RetryRequested(max_retries=TRIES - 1)
        # what was not asked for stays as the last build left it: held back, or good
        asked = {".".join(key.path) for key in context.selected_asset_keys}
        held = tuple(h for h in held if h.table in asked)
        state = tuple(sorted((*held, *(h for h in built.held if h.table not in asked)), key=lambda h: h.table))
        if context.is_subset:  # each model has noted for itself what it saw
            note_held(where, state)
        else:
            record(where, replace(built, held=state), as_of, context.run_id[:12], platform.arrival())
        if held:
            # the serving file hangs on every served mart, and Dagster will skip it: the rest is served here
            served = serve_marts(where, as_of)
            metadata: dict[str, Any] = {"file": served.path.name, "snapshot_id": served.snapshot_id, "held_back": [h.table for h in held]}
            yield dg.AssetMaterialization(["serving", "serving_file"], metadata=metadata)  # what is only logged is lost with the failure
            raise dg.Failure(told_held(held), allow_retries=False)

    return marts
