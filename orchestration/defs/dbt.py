"""The dbt project as assets, a step a part: key = schema / table, the same in lake, dbt, docs and Superset."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from dictionary.words import Dictionary, dictionary
from marts.build import BuildFailed, build, building, manifest, part_of, serve_marts, target_dir, told_held
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
    parts: dict[str, list[str]] = {}
    for node in json.loads(manifest(s).read_text(encoding="utf-8"))["nodes"].values():
        if node["resource_type"] in ("model", "seed"):
            parts.setdefault(part_of(node["schema"], node["fqn"]), []).append(node["name"])
    return [_part_assets(s, part, names, translator) for part, names in sorted(parts.items())]


def _part_assets(s: Settings, part: str, names: list[str], translator: Translator) -> dg.AssetsDefinition:
    project = DbtProject(project_dir=s.dbt_project, profiles_dir=s.dbt_project, target_path=target_dir(s))

    @dbt_assets(
        manifest=manifest(s),
        project=project,
        select=" ".join(sorted(names)),
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

        def run(arguments: list[str], again: Collection[str]) -> Iterator[Any]:
            child = dbt.cli(arguments, context=context, target_path=target_dir(where), raise_on_error=False)
            for event in child.stream():
                # what met another writer is made again with the whole step, of which most was told
                name = f"{type(event).__name__} {getattr(event, 'output_name', None) or getattr(event, 'check_name', None)}"
                if name not in told:
                    told.add(name)
                    yield event
            if not child.is_successful():
                raise BuildFailed(str(child.get_error()))

        only = asked if context.is_subset else None
        try:
            built = yield from building(where, as_of, build_id, platform.arrival(), run, part=part, only=only)
        except BuildFailed as error:
            raise dg.Failure(str(error)) from error
        if not built.done:  # the tables are up to date, and so are those who wait for this step
            in_order = context.job_def.asset_layer.asset_graph.toposorted_asset_keys
            yield from (dg.MaterializeResult(key) for key in in_order if key in context.selected_asset_keys)
        held = [h for h in built.held if h.table in asked]
        if not held:
            return
        # Dagster skips all steps behind this one, also those of which only a part hangs on what is held back: the rest is made and served here
        behind = _behind(context)
        if rest := {".".join(key.path) for key in behind if key.path[0] not in ("serving", "superset")}:
            built = build(where, as_of, build_id, platform.arrival(), only=rest | asked)
            held = [h for h in built.held if h.table in rest | asked]
            left = {h.table for h in held}
            yield from (dg.AssetMaterialization(table.split(".")) for table in sorted(rest - left))
        if SERVING_FILE in behind:
            served = serve_marts(where, as_of)
            metadata: dict[str, Any] = {"file": served.path.name, "snapshot_id": served.snapshot_id, "held_back": [h.table for h in held]}
            yield dg.AssetMaterialization(SERVING_FILE, metadata=metadata)  # what is only logged is lost with the failure
            yield from (dg.AssetMaterialization(key, metadata={"file": served.path.name}) for key in sorted(behind) if key.path[0] == "superset")
        raise dg.Failure(told_held(held), allow_retries=False)

    return marts


def _behind(context: dg.AssetExecutionContext) -> set[dg.AssetKey]:
    """What the run was asked for and makes in steps behind this one."""
    layer = context.job_def.asset_layer
    steps = [{*step.assets_def.keys} for step in layer.data]  # of the job: what was asked for
    found: set[dg.AssetKey] = set()
    waiting = [*context.selected_asset_keys]
    while waiting:
        children = layer.asset_graph.get(waiting.pop()).child_keys
        new = {key for step in steps if step & children for key in step} - found  # a step is skipped whole
        found |= new
        waiting += new
    own: set[dg.AssetKey] = {*context.selected_asset_keys}
    return found - own
