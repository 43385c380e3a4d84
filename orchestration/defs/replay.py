"""ops/replayed_day: a day gated again from raw, as a backfill."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from ingestion.ingest import contracts_of, take_in
from ingestion.model import Arrival
from ingestion.requeue import requeue
from ingestion.takeover import take_over
from lake.lake import open_writer
from marts.build import build, serve_marts, told_held
from orchestration.defs.assets import metadata_of, not_taken
from orchestration.defs.resources import WRITER_POOL, Platform
from orchestration.run import arrival_on

DAYS = dg.DailyPartitionsDefinition(start_date="2021-01-01", timezone="Asia/Ho_Chi_Minh")


@dg.asset(
    key=["ops", "replayed_day"],
    group_name="ops",
    partitions_def=DAYS,
    pool=WRITER_POOL,
    backfill_policy=dg.BackfillPolicy.multi_run(1),
    description="Kiểm tra lại mọi tệp của một ngày từ dữ liệu gốc, rồi tính lại các bảng phân tích bị ảnh hưởng",
)
def replayed_day(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    """Gates a day again from raw, and builds what that changed; fails at its end where a source could not be taken in, or a table was held back."""
    s = platform.settings()
    day = date.fromisoformat(context.partition_key)
    contracts = contracts_of(s)
    with open_writer(s, f"replay {day}") as con:
        take_over(con, contracts.values(), Arrival.of(arrival_on(s)).at)
        waiting = sum(requeue(con, name, day=day, all_of_day=True) for name in contracts)
        done = take_in(con, s, contracts, contracts, now=arrival_on(s), run_id=context.run_id[:12])
    as_of = platform.as_of(context)
    built = build(s, as_of, context.run_id[:12], platform.arrival())
    serve_marts(s, as_of)
    failed = [*not_taken(done), *([told_held(built.held)] if built.held else [])]
    if failed:
        raise dg.Failure("; ".join(failed), allow_retries=False)
    yield dg.MaterializeResult(metadata={"requeued": waiting, **metadata_of(list(done.loaded.values()))})
