"""Assets of the path: raw/<source> is landing, clean/<target> is gate and publish."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
import duckdb

from ingestion.blocked import STOPPED, blocked_now
from ingestion.contract import Contract, by_target, domains
from ingestion.ingest import Ingested, contracts_of, take_in
from ingestion.merge import has_history
from ingestion.publish import Loaded
from lake.lake import open_writer
from marts.build import manifest
from orchestration.defs.resources import WRITER_POOL, Platform
from orchestration.run import arrival_on
from tnmt.settings import settings

TAKEN_IN = "taken_in"
FIRST = {"dagster/priority": "1"}
"""Tag of the steps that take in: they go before those that make something of it, so that all of a run's marts see all that it took in."""


def owners(contract: Contract) -> list[str]:
    """The unit that answers for a source, as Dagster names a team."""
    return [f"team:{contract.owner.unit}"]


def _freshness(contracts: list[Contract]) -> dg.FreshnessPolicy | None:
    """The tightest promise among the sources of a target, doubled before it fails."""
    windows = [c.allowed_minutes for c in contracts if c.allowed_minutes is not None]
    if not windows:
        return None
    due = timedelta(minutes=max(10, min(windows)))
    return dg.FreshnessPolicy.time_window(fail_window=2 * due, warn_window=due)


def metadata_of(reports: list[Loaded]) -> dict[str, Any]:
    """Deliveries and rows by outcome, of all these sources together."""
    fields = ("deliveries", "published", "quarantined", "blocked", "set_aside", "rows_read", "rows_accepted", "rows_duplicate", "rows_quarantined")
    return {f: sum(getattr(r, f) for r in reports) for f in fields}


def not_taken(done: Ingested) -> list[str]:
    """Sources that failed, or whose files stay in the inbox, and why; the others were taken in."""
    return [f"{source}: {text}" for source, text in (done.errors | done.not_cleared).items()]


def stopped_now(con: duckdb.DuckDBPyConnection, sources: list[str]) -> dict[str, list[str]]:
    """Deliveries of these sources that are stopped, by status: source, name and reason of each."""
    return {status: [f"{b.source} {b.name}: {b.reason}" for b in blocked_now(con, sources, status)] for status in STOPPED}


def gate_state(stopped: Mapping[str, list[str]], failed: list[str]) -> dict[str, Any]:
    """What the check `gate` of a table says: the state of the table, whatever a run has just taken in.

    Bad rows above what is tolerated (`failed` names the rules), and deliveries that nobody could read yet, raise an alert; a delivery that is
    blocked is an error until it is not any more.
    """
    reasons = [reason for told in stopped.values() for reason in told] + [f"above what is tolerated: {rule}" for rule in failed]
    return {
        "passed": not reasons,
        "description": "\n".join(reasons) or None,
        "severity": dg.AssetCheckSeverity.ERROR if stopped["blocked"] else dg.AssetCheckSeverity.WARN,
        "metadata": {name: dg.MetadataValue.json(told) for name, told in {**stopped, "rules_above_tolerance": failed}.items()},
    }


def _target_assets(target: str, contracts: list[Contract], targets_of: dict[str, str], domain: str) -> dg.AssetsDefinition:
    """One step: it lands and gates all sources of a clean table. A source is `raw/<source>`, the table `clean/<target>`."""
    raw = [dg.AssetKey(["raw", c.source]) for c in contracts]
    past = [dg.AssetKey(["clean", f"{target}_history"])] if any(has_history(c) for c in contracts) else []
    tags = {"tnmt/sensitivity": "personal" if any(c.personal for c in contracts) else contracts[0].sensitivity}
    others = sorted({targets_of[d] for c in contracts for d in c.depends_on} - {target})

    @dg.multi_asset(
        name=f"take_in_{target}",
        pool=WRITER_POOL,
        op_tags=FIRST,
        specs=[
            *(
                dg.AssetSpec(
                    key,
                    skippable=True,  # told where something came
                    group_name=domain,
                    kinds={*sorted({one.format.reader for one in contract.each})[:3]},  # Dagster takes no more
                    description=f"{contract.title}. {contract.description}",
                    owners=owners(contract),
                    metadata={"contact": contract.owner.contact},
                    tags={"tnmt/sensitivity": contract.sensitivity},
                    freshness_policy=_freshness([contract]),
                )
                for key, contract in zip(raw, contracts, strict=True)
            ),
            dg.AssetSpec(
                ["clean", target],
                deps=[*raw, *(dg.AssetKey(["clean", d]) for d in others)],
                group_name=domain,
                kinds={"ducklake"},
                description=next((c.table for c in contracts if c.table), "; ".join(c.title for c in contracts)),
                owners=sorted({o for c in contracts for o in owners(c)}),
                metadata={"sources": [c.source for c in contracts]},
                tags=tags,
                freshness_policy=_freshness(contracts),
            ),
            *(
                dg.AssetSpec(
                    key,
                    deps=raw,
                    group_name=domain,
                    kinds={"ducklake"},
                    description="Các dòng của những lần nộp trước, đã bị thay",
                    owners=sorted({o for c in contracts for o in owners(c)}),
                    tags=tags,
                )
                for key in past
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                # a blocked delivery stops nothing: marts are made of what is published
                "gate",
                asset=["clean", target],
                description="Great Expectations và quy tắc từng dòng; đỏ khi còn lần nộp đang bị chặn",
            ),
            dg.AssetCheckSpec(
                # nor does a source that fails: the others, and what was published of it, go on
                TAKEN_IN,
                asset=["clean", target],
                description="Nhận tệp; đỏ khi lần nhận gần nhất có nguồn bị lỗi hoặc tệp không rời được hộp nhận",
            ),
        ],
    )
    def take(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
        s = platform.settings()
        sources = [c.source for c in contracts]
        with open_writer(s, f"dagster clean/{target}") as con:
            done = take_in(con, s, contracts_of(s), sources, now=arrival_on(s), run_id=context.run_id[:12])
            stopped = stopped_now(con, sources)
        failing = not_taken(done)
        for source in sources:
            if (loaded := done.loaded.get(source)) and loaded.deliveries:
                yield dg.MaterializeResult(["raw", source], metadata=metadata_of([loaded]))
        yield from (dg.MaterializeResult(key) for key in past)
        reports = list(done.loaded.values())
        failed = sorted({f for r in reports for f in r.failed})
        yield dg.MaterializeResult(
            ["clean", target],
            metadata=metadata_of(reports),
            check_results=[
                dg.AssetCheckResult(check_name="gate", asset_key=["clean", target], **gate_state(stopped, failed)),
                dg.AssetCheckResult(
                    check_name=TAKEN_IN,
                    asset_key=["clean", target],
                    passed=not failing,
                    severity=dg.AssetCheckSeverity.ERROR,
                    metadata={"failed": failing},
                ),
            ],
        )

    return take


def source_assets() -> list[dg.AssetsDefinition]:
    """One step a target; it lands and gates all sources that feed the target. Groups are domains, as everywhere."""
    here = settings()
    contracts = contracts_of(here)
    domain = domains([f for f in here.contract_dirs if f.is_dir()])
    targets_of = {c.source: c.target for c in contracts.values()}
    return [_target_assets(target, feeding, targets_of, domain[feeding[0].source]) for target, feeding in by_target(contracts.values()).items()]


def ledger_assets() -> list[dg.AssetSpec]:
    """What dbt reads of the ledger: every step that takes in writes it, so that what is made of it is behind all of them."""
    sources = json.loads(manifest(settings()).read_text(encoding="utf-8"))["sources"].values()
    clean = [dg.AssetKey(["clean", target]) for target in by_target(contracts_of(settings()).values())]
    return [
        dg.AssetSpec([s["schema"], s["name"]], deps=clean, group_name="operations", kinds={"ducklake"}, description=s["description"])
        for s in sources
        if s["schema"] not in ("clean", "history")
    ]
