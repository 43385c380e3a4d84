"""What no run of Dagster made, as Dagster shows it: increments of the live worker, and what the command line took in, built and served.

`python -m orchestration.defs.increments HOME ALL|NEW [TARGETS] [-- COMMAND ...]` reports the state of the platform of TNMT_HOME to the
Dagster of HOME and becomes COMMAND, which is its web server: before it, runs that no process goes on with are ended. ALL reports the marts of the last build, NEW only assets that Dagster has never heard of; TARGETS is a
JSON object of the clean tables that a run took something in for, or failed to: {name: why it failed, or nothing}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ingestion.contract import by_target
from ingestion.ingest import contracts_of
from ingestion.ledger import last_gates
from ingestion.merge import has_history
from lake.lake import open_reader
from lake.serving import current
from marts.build import built_until, held_back, manifest, target_dir
from orchestration.defs.assets import TAKEN_IN, gate_state, ledger_assets, stopped_now
from orchestration.defs.serving import dashboards
from tnmt.settings import Settings, settings


def report(home: Path, sources: list[str], tables: list[str], metadata: Mapping[str, Any]) -> None:
    """Reports a materialisation of these sources, of readings, of these tables (schema.name) and of the serving file to the Dagster of `home`."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for key in (*(["raw", s] for s in sources), ["clean", "reading"], *(t.split(".") for t in tables), ["serving", "serving_file"]):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset_key=key, metadata=dict(metadata)))


Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


def report_state(home: Path, here: Settings, *, everything: bool, targets: Mapping[str, str] | None = None) -> int:
    """Reports what the platform holds to the Dagster of `home`, one event an asset and check; returns how many.

    With `everything`, of all marts and of `targets` (by clean table why it could not be taken in, or nothing); else of assets that Dagster
    holds no event of.
    """
    targets = targets or {}
    wanted, reported = {dg.AssetKey(["clean", t]) for t in targets}, 0
    wanted |= {dg.AssetKey(["raw", c.source]) for c in contracts_of(here).values() if c.target in targets}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for key, events in _state(here, targets):
            new = (everything and key.path[0] not in ("raw", "clean")) or key in wanted or instance.get_latest_materialization_event(key) is None
            for event in events if new else ():
                instance.report_runless_asset_event(event)
                reported += 1
    return reported


def _state(here: Settings, targets: Mapping[str, str]) -> Iterator[tuple[dg.AssetKey, list[Event]]]:
    """Each asset that there is, in the order of the path, with its materialisation and its checks."""
    yield from _clean(here, targets)
    for spec in ledger_assets():
        yield spec.key, [dg.AssetMaterialization(asset_key=spec.key)]
    yield from _marts(here)
    if (serving := current(here)) is not None:
        key = dg.AssetKey(["serving", "serving_file"])
        for shown in (key, *(page.key for page in dashboards())):
            yield shown, [dg.AssetMaterialization(asset_key=shown, metadata={"file": serving.name})]


def _clean(here: Settings, targets: Mapping[str, str]) -> Iterator[tuple[dg.AssetKey, list[Event]]]:
    contracts_in_order = contracts_of(here)  # each after those that it depends on
    tables = by_target(contracts_in_order.values())
    with open_reader(here) as con:
        gates = last_gates(con)
        stopped = {target: stopped_now(con, [c.source for c in contracts]) for target, contracts in tables.items()}
    for target in dict.fromkeys(c.target for c in contracts_in_order.values()):
        contracts = tables[target]
        sources = [c.source for c in contracts]
        gated = [gates[s] for s in sources if s in gates]
        if not gated and target not in targets:
            continue
        for source in sources:
            if source in gates:
                seen: dict[str, Any] = {"deliveries": gates[source][1], "rows_read": gates[source][2], "run": gates[source][4]}
                yield (raw := dg.AssetKey(["raw", source])), [dg.AssetMaterialization(asset_key=raw, metadata=seen)]
        key = dg.AssetKey(["clean", target])
        metadata: dict[str, Any] = {
            "deliveries": sum(g[1] for g in gated),
            "rows_read": sum(g[2] for g in gated),
            "run": max(gated)[4] if gated else "",
            "sources": sources,
        }
        failed = sorted({f for g in gated for f in g[3] or []})
        events: list[Event] = []
        if gated:
            events = [
                dg.AssetMaterialization(asset_key=key, metadata=metadata),
                dg.AssetCheckEvaluation(asset_key=key, check_name="gate", **gate_state(stopped[target], failed)),
            ]
        if target in targets:
            why = targets[target]
            told = {"failed": dg.MetadataValue.json([why] if why else [])}
            events.append(dg.AssetCheckEvaluation(asset_key=key, check_name=TAKEN_IN, passed=not why, metadata=told))
        yield key, events
        if gated and any(has_history(c) for c in contracts):
            past = dg.AssetKey(["clean", f"{target}_history"])
            yield past, [dg.AssetMaterialization(asset_key=past)]


def _marts(here: Settings) -> Iterator[tuple[dg.AssetKey, list[Event]]]:
    """Seeds and models that the last build left good, with the results of its tests."""
    nodes = json.loads(manifest(here).read_text(encoding="utf-8"))["nodes"]
    try:
        results = json.loads((target_dir(here) / "run_results.json").read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError):
        results = []
    tests: dict[str, list[Event]] = {}
    for result in results:
        node = nodes.get(result["unique_id"], {})
        if node.get("resource_type") == "test" and result["status"] in ("pass", "warn", "fail") and (judged := nodes.get(node.get("attached_node"))):
            severity = dg.AssetCheckSeverity.WARN if node["config"]["severity"].lower() == "warn" else dg.AssetCheckSeverity.ERROR
            key = dg.AssetKey([judged["schema"], judged["name"]])
            done = dg.AssetCheckEvaluation(asset_key=key, check_name=node["name"], passed=result["status"] == "pass", severity=severity)
            tests.setdefault(node["attached_node"], []).append(done)
    with open_reader(here) as con:
        built = built_until(con)
        held = {h.table for h in held_back(con)}
    depth: dict[str, int] = {}

    def deep(key: str) -> int:
        if key not in depth:
            depth[key] = 1 + max((deep(above) for above in nodes.get(key, {}).get("depends_on", {}).get("nodes", [])), default=0)
        return depth[key]

    for unique_id, node in sorted(nodes.items(), key=lambda named: deep(named[0])):  # what is read before what reads it
        table = f"{node['schema']}.{node['name']}"
        is_view = node["resource_type"] == "model" and node["config"]["materialized"] == "view"
        if node["resource_type"] not in ("model", "seed") or table in held or not (table in built or (is_view and built)):
            continue
        key = dg.AssetKey([node["schema"], node["name"]])
        affected_to, as_of = built.get(table, (None, None))
        metadata = {k: v for k, v in (("affected_to", affected_to), ("as_of", str(as_of) if as_of else None)) if v is not None}
        yield key, [dg.AssetMaterialization(asset_key=key, metadata=metadata), *tests.get(unique_id, [])]


def end_dead_runs(home: Path) -> int:
    """Ends the runs that a Dagster left as going on when all of it was killed; returns how many.

    Their place in the pool, of which there is one, would be taken for ever. Before the servers of a platform start, none of its runs goes on.
    """
    going = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        dead = instance.get_runs(dg.RunsFilter(statuses=going))
        for run in dead:
            instance.report_run_failed(
                run, "its process is gone: Dagster was killed, or the machine stopped. What it had not committed is as if not begun"
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        return len(dead)


def main() -> None:
    """See the head of this module. Whatever goes wrong is told and stops nothing."""
    arguments, command = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
    try:
        if command and (dead := end_dead_runs(Path(arguments[0]))):
            sys.stdout.write(f"{dead} runs ended that no process goes on with\n")
        targets = json.loads(arguments[2]) if arguments[2:] else {}
        reported = report_state(Path(arguments[0]), settings(), everything=arguments[1] == "ALL", targets=targets)
        sys.stdout.write(f"{reported} events reported\n")
    except Exception as error:  # noqa: BLE001  # a page of Dagster that says less is better than no Dagster
        sys.stderr.write(f"the state of the platform was not reported to Dagster: {type(error).__name__}: {error}\n")
    sys.stdout.flush()
    if command:
        os.execv(command[0], command)


if __name__ == "__main__":
    main()
