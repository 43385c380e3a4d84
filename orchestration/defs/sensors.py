"""Sensors: one a source that is sent as files, which looks into its inbox."""

import time
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Any

import dagster as dg

from ingestion.contract import Contract
from ingestion.ingest import contracts_of, shared_folders
from orchestration.defs.assets import owners
from orchestration.defs.graph import downstream
from orchestration.defs.jobs import pipeline
from orchestration.defs.resources import Platform
from orchestration.inboxes import due, recalled, remembered, waiting
from orchestration.live import heartbeat
from tnmt.settings import settings

SOURCE_TAG, TARGET_TAG = "tnmt/source", "tnmt/target"
"""Tags of a run that was started for the files of one source; it takes in all sources of that target."""
UNDER_WAY = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def under_way(instance: dg.DagsterInstance, target: str | None) -> bool:
    """Whether a run waits or goes on that takes in this target: one started for it, or one of the whole path (None asks for that alone)."""
    runs = instance.get_runs(dg.RunsFilter(job_name=pipeline.name, statuses=UNDER_WAY))
    return any(run.tags.get(TARGET_TAG) in (None, target) for run in runs)


def made_of(graph: Any, start: AbstractSet[dg.AssetKey]) -> set[dg.AssetKey]:
    """`start` and what is made of it, and what tells how sources stand.

    Not what reads the ledger beside (of each delivery a little is made in other domains): the hourly run, and the domain's own sources, see to that.
    """
    made = graph.executable_asset_keys
    standing = {key for key in made if graph.get(key).group_name == "operations"}
    # a step that takes in is done whole
    return downstream(graph, {*start, *standing}, lambda key: graph.get(key).execution_set_asset_keys if key in made else ())


def source_sensor(contract: Contract, shared: Collection[str]) -> dg.SensorDefinition:
    """The sensor of a source; `shared` are the folders that several read. It starts what is made of that source: other domains do not wait for it."""
    source = contract.source
    taken_in = dg.AssetSelection.assets(["raw", source], ["clean", contract.target]).required_multi_asset_neighbors()

    @dg.sensor(
        name=f"new_{source}",
        job=pipeline,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Có tệp mới trong hộp nhận: {contract.title}",
        owners=owners(contract),
    )
    def new_files(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
        s = platform.settings()
        files = waiting(s, contract, shared=shared, live=heartbeat(s) is not None)
        if not files:
            return dg.SensorResult(skip_reason="no finished file in the inbox", cursor="{}")
        if under_way(context.instance, contract.target):
            return dg.SkipReason("a run that takes what lies there is under way")
        after = due(files, recalled(context.cursor), time.time())
        if after is None:
            return dg.SkipReason(
                f"{len(files)} files stayed in the inbox after a run; the next one for them starts later. `tnmt status` says what is wrong"
            )
        assert context.repository_def is not None
        graph = context.repository_def.asset_graph
        request = dg.RunRequest(
            asset_selection=sorted(made_of(graph, taken_in.resolve(graph))), tags={SOURCE_TAG: source, TARGET_TAG: contract.target}
        )
        return dg.SensorResult(run_requests=[request], cursor=remembered(after))

    return new_files


def source_sensors() -> list[dg.SensorDefinition]:
    """One for each source that is sent as files; scans and databases are asked by the hour."""
    contracts = contracts_of(settings())
    shared = shared_folders(contracts.values())
    return [source_sensor(c, shared) for c in contracts.values() if c.is_sent]
