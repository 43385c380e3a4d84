"""Assets of the path: raw/<source> is landing, clean/<target> is gate and publish, serving/serving_file is what Superset sees."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg

from ingestion.blocked import STOPPED, blocked_now
from ingestion.contract import Contract, by_target, domains
from ingestion.ingest import Ingested, contracts_of, take_in
from ingestion.model import Arrival
from ingestion.publish import Loaded
from ingestion.requeue import requeue
from ingestion.takeover import take_over
from lake.lake import open_writer
from marts.build import build, serve_marts, served_tables, told_held
from orchestration.defs.resources import WRITER_POOL, Platform
from orchestration.run import arrival_on
from tnmt.settings import settings

DAYS = dg.DailyPartitionsDefinition(start_date="2021-01-01", timezone="Asia/Ho_Chi_Minh")


def _freshness(contracts: list[Contract]) -> dg.FreshnessPolicy | None:
    """The tightest promise among the sources of a target: cadence plus allowed lateness, doubled before it fails."""
    windows = [c.cadence[-1].minutes + c.lateness_minutes for c in contracts if c.cadence]
    if not windows:
        return None
    due = timedelta(minutes=max(10, min(windows)))
    return dg.FreshnessPolicy.time_window(fail_window=2 * due, warn_window=due)


def _metadata(reports: list[Loaded]) -> dict[str, Any]:
    fields = ("deliveries", "published", "quarantined", "blocked", "set_aside", "rows_read", "rows_accepted", "rows_duplicate", "rows_quarantined")
    return {f: sum(getattr(r, f) for r in reports) for f in fields}


def _none_failed(done: Ingested) -> None:
    """Fails the step where a source failed, or its files stay in the inbox; the others were taken in."""
    if failed := done.errors | done.not_cleared:
        raise dg.Failure("; ".join(f"{source}: {text}" for source, text in failed.items()))


def _target_assets(target: str, contracts: list[Contract], targets_of: dict[str, str], domain: str) -> dg.AssetsDefinition:
    """One step: it lands and gates all sources of a clean table. A source is `raw/<source>`, the table `clean/<target>`."""
    raw = [dg.AssetKey(["raw", c.source]) for c in contracts]
    others = sorted({targets_of[d] for c in contracts for d in c.depends_on} - {target})

    @dg.multi_asset(
        name=f"take_in_{target}",
        pool=WRITER_POOL,
        specs=[
            *(
                dg.AssetSpec(
                    key,
                    skippable=True,  # told where something came
                    group_name=domain,
                    kinds={*sorted({one.format.reader for one in contract.each})[:3]},  # Dagster takes no more
                    description=f"{contract.title}. {contract.description}",
                    metadata={"owner": contract.owner.unit, "contact": contract.owner.contact},
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
                metadata={"sources": [c.source for c in contracts], "owner": contracts[0].owner.unit},
                freshness_policy=_freshness(contracts),
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                # a blocked delivery stops nothing: marts are made of what is published
                "gate",
                asset=["clean", target],
                description="Great Expectations và quy tắc từng dòng; đỏ khi còn lần nộp đang bị chặn",
            )
        ],
    )
    def take(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
        s = platform.settings()
        sources = [c.source for c in contracts]
        with open_writer(s, f"dagster clean/{target}") as con:
            done = take_in(con, s, contracts_of(s), sources, now=arrival_on(s), run_id=context.run_id[:12])
            stopped = {status: [f"{b.source} {b.name}: {b.reason}" for b in blocked_now(con, sources, status)] for status in STOPPED}
        _none_failed(done)
        for source in sources:
            if (loaded := done.loaded.get(source)) and loaded.deliveries:
                yield dg.MaterializeResult(["raw", source], metadata=_metadata([loaded]))
        reports = list(done.loaded.values())
        failed = sorted({f for r in reports for f in r.failed})
        yield dg.MaterializeResult(
            ["clean", target],
            metadata=_metadata(reports),
            check_results=[
                dg.AssetCheckResult(
                    check_name="gate",
                    asset_key=["clean", target],
                    passed=not any(stopped.values()) and not failed,
                    # bad rows above what is tolerated, and deliveries that nobody could read yet, raise an alert; a delivery that is blocked is an
                    # error until it is not any more
                    severity=dg.AssetCheckSeverity.ERROR if stopped["blocked"] else dg.AssetCheckSeverity.WARN,
                    metadata={"blocked": stopped["blocked"], "set_aside": stopped["set_aside"], "rules_above_tolerance": failed},
                )
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


def _served_keys() -> list[dg.AssetKey]:
    return [dg.AssetKey(t.split(".")) for t in served_tables(settings())]


@dg.asset(
    key=["serving", "serving_file"],
    group_name="serving",
    kinds={"duckdb"},
    pool=WRITER_POOL,
    deps=_served_keys(),
    description="Tệp DuckDB chỉ đọc mà Superset nhìn thấy; thay bằng một bước",
)
def serving_file(platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster refuses the parametrised form
    """Builds the serving file of the newest marts and swaps it in."""
    s = platform.settings()
    served = serve_marts(s, platform.as_of())
    return dg.MaterializeResult(metadata={"file": served.path.name, "snapshot_id": served.snapshot_id, "tables": served.tables, "rows": served.rows})


@dg.asset(
    key=["ops", "replayed_day"],
    group_name="ops",
    partitions_def=DAYS,
    pool=WRITER_POOL,
    backfill_policy=dg.BackfillPolicy.multi_run(1),
    description="Kiểm tra lại mọi tệp của một ngày từ dữ liệu gốc, rồi tính lại các bảng phân tích bị ảnh hưởng",
)
def replayed_day(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    """Gates a day again from raw, and builds what that changed."""
    s = platform.settings()
    day = date.fromisoformat(context.partition_key)
    contracts = contracts_of(s)
    with open_writer(s, f"replay {day}") as con:
        take_over(con, contracts.values(), Arrival.of(arrival_on(s)).at)
        waiting = sum(requeue(con, name, day=day, all_of_day=True) for name in contracts)
        done = take_in(con, s, contracts, contracts, now=arrival_on(s), run_id=context.run_id[:12])
    _none_failed(done)
    built = build(s, platform.as_of(), context.run_id[:12], platform.arrival())
    serve_marts(s, platform.as_of())
    if built.held:
        raise dg.Failure(told_held(built.held), allow_retries=False)
    yield dg.MaterializeResult(metadata={"requeued": waiting, **_metadata(list(done.loaded.values()))})
