"""Jobs, the sensor that sees new files, and the nightly upkeep."""

import time

import dagster as dg

from lake.lake import open_reader
from lake.upkeep.maintain import maintain
from lake.upkeep.verify import damage, data_files, sample
from orchestration.defs.assets import DAYS
from orchestration.defs.dbt import ENGINE_TAG
from orchestration.defs.resources import WRITER_POOL, Platform
from orchestration.inboxes import due, recalled, remembered, waiting
from orchestration.live import heartbeat

pipeline = dg.define_asset_job(
    "pipeline",
    selection=dg.AssetSelection.all() - dg.AssetSelection.keys(["ops", "replayed_day"]),
    description="Nhận, kiểm tra, tính và phục vụ tất cả",
)
marts_on_spark = dg.define_asset_job(
    "marts_on_spark",
    selection=dg.AssetSelection.all() - dg.AssetSelection.key_prefixes("raw", "clean", "ops"),
    tags={ENGINE_TAG: "spark"},
    description="Tính và phục vụ các bảng phân tích, phần lớn dần theo dữ liệu chạy trên Spark",
)
replay = dg.define_asset_job(
    "replay_day", selection=dg.AssetSelection.keys(["ops", "replayed_day"]), partitions_def=DAYS, description="Tính lại một ngày từ dữ liệu gốc"
)


UNDER_WAY = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


@dg.sensor(job=pipeline, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING, description="Có tệp mới trong hộp nhận")
def new_files(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    """Starts the pipeline where an inbox holds a finished file, whatever its time stamp; for one that a run did not take, ever more seldom."""
    s = platform.settings()
    files = waiting(s, live=heartbeat(s) is not None)
    if not files:
        return dg.SensorResult(skip_reason="no finished file in the inboxes", cursor="{}")
    if context.instance.get_runs_count(dg.RunsFilter(job_name=pipeline.name, statuses=UNDER_WAY)):
        return dg.SkipReason("a run that takes what lies there is under way")
    after = due(files, recalled(context.cursor), time.time())
    if after is None:
        return dg.SkipReason(
            f"{len(files)} files stayed in the inboxes after a run; the next one for them starts later. `tnmt status` says what is wrong"
        )
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=remembered(after))


NIGHTLY_FILES = 2_000
"""Data files that are looked at each night (a few seconds on local disks)."""


@dg.op(pool=WRITER_POOL)
def maintain_lake(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Compaction, expiry and clean-up; then a part of the data files is compared with the catalog, another one each night."""
    s, now = platform.settings(), platform.arrival()
    done = maintain(s, now)
    context.log.info(str(done))
    with open_reader(s) as con:
        found = [str(d) for d in damage(con, s, sample(data_files(con, s), NIGHTLY_FILES, now.toordinal()))]
    if problems := [*done.problems, *(f"damaged file of {d}" for d in found)]:
        raise dg.Failure("; ".join(problems), allow_retries=False)


@dg.job(description="Gom tệp, bỏ phiên bản hết hạn, dọn tệp thừa")
def maintenance() -> None:
    """The nightly upkeep of the lake."""
    maintain_lake()


nightly_maintenance = dg.ScheduleDefinition(
    job=maintenance, cron_schedule="30 1 * * *", execution_timezone="Asia/Ho_Chi_Minh", default_status=dg.DefaultScheduleStatus.RUNNING
)
