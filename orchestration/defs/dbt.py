"""The dbt project as assets, a step a part: key = schema / table, the same in lake, dbt, docs and Superset."""

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from dictionary.words import Dictionary, dictionary
from lake.serving import ServingRefused
from marts.build import BuildFailed, build, building, by_part, manifest, part_of, plan, serve_marts, target_dir, told_held
from orchestration.defs.graph import downstream
from orchestration.defs.resources import ENGINE_TAG, WRITER_POOL, Platform
from orchestration.defs.serving import SERVING_FILE
from tnmt.settings import Settings, settings


class Translator(DagsterDbtTranslator):
    """Asset keys by lake schema, groups by domain, columns with the words of the dictionary."""

    def __init__(self, words: Dictionary) -> None:
        """`words` of the columns."""
        super().__init__()
        self._words = words

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """schema / name, for models, seeds and sources alike."""
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The domain: that of the part that a node is built with; of what dbt only reads, its schema."""
        schema = str(dbt_resource_props["schema"])
        if dbt_resource_props["resource_type"] not in ("model", "seed"):
            return schema
        return part_of(schema, dbt_resource_props["fqn"]).removeprefix("staging_")

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """dbt's, in which no model describes its columns."""
        table, columns = dbt_resource_props["name"], dbt_resource_props.get("columns", {})
        told = {name: column | {"description": word.description} for name, column in columns.items() if (word := self._words.word(table, name))}
        return super().get_metadata({**dbt_resource_props, "columns": {**columns, **told}})


def marts_assets() -> list[dg.AssetsDefinition]:
    """All seeds, models and tests, a step a part of the project: a domain waits for what it reads, and for no other."""
    s = settings()
    translator = Translator(dictionary(s.contract_dirs))
    nodes = json.loads(manifest(s).read_text(encoding="utf-8"))["nodes"].values()
    parts = by_part((n["schema"], n["fqn"], n["name"]) for n in nodes if n["resource_type"] in ("model", "seed"))
    return [_part_assets(s, part, names, translator) for part, names in parts.items()]


def _part_assets(s: Settings, part: str, names: list[str], translator: Translator) -> dg.AssetsDefinition:
    project = DbtProject(project_dir=s.dbt_project, profiles_dir=s.dbt_project, target_path=target_dir(s))

    @dbt_assets(
        manifest=manifest(s),
        project=project,
        select=" ".join(names),
        dagster_dbt_translator=translator,
        name=f"dbt_{part}",
        pool=WRITER_POOL,
    )
    def marts(context: dg.AssetExecutionContext, dbt: DbtCliResource, platform: Platform) -> Iterator[Any]:
        where = platform.settings()
        where = where.model_copy(update={"engine": context.run.tags.get(ENGINE_TAG, where.engine)})
        as_of, build_id = platform.as_of(context), context.run_id[:12]
        asked = {".".join(key.path) for key in context.selected_asset_keys}
        told: set[str] = set()

        def run(arguments: list[str], select: Collection[str]) -> Iterator[Any]:
            # the assets of the step, which Dagster selects by itself
            child = dbt.cli(arguments, context=context, target_path=target_dir(where), raise_on_error=False)
            try:
                for event in child.stream():
                    # what met another writer is made again with the whole step, of which most was told
                    name = " ".join(str(getattr(event, of, None)) for of in ("output_name", "check_name", "asset_key"))
                    if name not in told:
                        told.add(name)
                        yield event
            finally:  # the lock of the build goes with the step, and nothing may write after it
                if child.process.poll() is None:
                    child.process.terminate()
                    child.process.wait()
            if not child.is_successful():
                raise BuildFailed(str(child.get_error()))

        if context.is_subset and not plan(where, as_of).same_project:
            context.log.info("models or reference data are of another version than those of the last build: all is built first")
            build(where, as_of, build_id, platform.arrival())
        only = asked if context.is_subset else None
        try:
            built = yield from building(where, as_of, build_id, platform.arrival(), run, part=part, only=only)
        except BuildFailed as error:
            raise dg.Failure(str(error)) from error
        if not built.done:  # the tables are up to date, and so are those who wait for this step
            in_order = context.job_def.asset_layer.asset_graph.toposorted_asset_keys
            yield from (dg.MaterializeResult(key) for key in in_order if key in context.selected_asset_keys)
        if held := [h for h in built.held if h.table in asked]:
            try:
                yield from _make_the_rest(context, where, as_of, platform)
            except (BuildFailed, ServingRefused) as error:
                raise dg.Failure(f"{told_held(held)}; and the rest of the run was not made: {error}", allow_retries=False) from error
            raise dg.Failure(told_held(held), allow_retries=False)

    return marts


def _make_the_rest(context: dg.AssetExecutionContext, where: Settings, as_of: datetime, platform: Platform) -> Iterator[Any]:
    """Makes and serves what the run was asked for, as far as it does not hang on what is held back.

    Dagster skips all steps behind a failed one, also those of which only a part hangs on it; steps beside it find their tables up to date.
    """
    steps = [{*step.assets_def.keys} for step in context.job_def.asset_layer.data]  # of the job: what was asked for
    of_run = {".".join(key.path) for step in steps for key in step if key.path[0] not in OTHERS}
    behind = _behind(context, steps)
    built = build(where, as_of, context.run_id[:12], platform.arrival(), only=of_run)
    left = {h.table for h in built.held}
    yield from (dg.AssetMaterialization(key) for key in sorted(behind) if (table := ".".join(key.path)) in of_run and table not in left)
    if SERVING_FILE in behind:
        served = serve_marts(where, as_of)
        metadata: dict[str, Any] = {"file": served.path.name, "snapshot_id": served.snapshot_id, "held_back": sorted(left)}
        yield dg.AssetMaterialization(SERVING_FILE, metadata=metadata)  # what is only logged is lost with the failure
        yield from (dg.AssetMaterialization(key, metadata={"file": served.path.name}) for key in sorted(behind) if key.path[0] == "superset")


OTHERS = ("raw", "clean", "ops", "quarantine", "serving", "superset")
"""First words of keys that are no node of dbt."""


def _behind(context: dg.AssetExecutionContext, steps: list[set[dg.AssetKey]]) -> set[dg.AssetKey]:
    """What is made in steps behind this one; Dagster skips a step whole."""
    own = {*context.selected_asset_keys}
    return downstream(context.job_def.asset_layer.asset_graph, own, lambda key: {k for step in steps if key in step for k in step}) - own
