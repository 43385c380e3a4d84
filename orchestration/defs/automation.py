"""Jobs, the sensor that sees new files, and the nightly upkeep."""

import os

import dagster as dg

from ingestion.ingest import contracts_of
from ingestion.landing import UNFINISHED
from lake.lake import open_reader
from lake.maintenance import maintain
from lake.verify import damage, data_files, sample
from orchestration.defs.assets import DAYS
from orchestration.defs.dbt import ENGINE_TAG
from orchestration.defs.resources import WRITER_POOL, Platform
from orchestration.live import heartbeat

pipeline = dg.define_asset_job(
    "pipeline",
    selection=dg.AssetSelection.all() - dg.AssetSelection.keys(["ops", "replayed_day"]),
    description="Nhận, kiểm tra, tính và phục vụ tất cả",
)
marts_on_spark = dg.define_asset_job(
    "marts_on_spark",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("clean", "ops"),
    tags={ENGINE_TAG: "spark"},
    description="Tính và phục vụ các bảng phân tích, phần lớn dần theo dữ liệu chạy trên Spark",
)
replay = dg.define_asset_job(
    "replay_day", selection=dg.AssetSelection.keys(["ops", "replayed_day"]), partitions_def=DAYS, description="Tính lại một ngày từ dữ liệu gốc"
)


def _newest(folder: str) -> float:
    """Time of the newest finished file below `folder`; folders count, since a file that is moved in touches its folder."""
    newest = 0.0
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            newest = max(newest, _newest(entry.path))
        elif not entry.name.lower().endswith(UNFINISHED):
            newest = max(newest, entry.stat().st_mtime)
    return newest


@dg.sensor(job=pipeline, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING, description="Có tệp mới trong hộp nhận")
def new_files(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    """Starts the pipeline where an inbox holds a file that no run was started for."""
    s = platform.settings()
    seen = float(context.cursor or 0)
    live = heartbeat(s) is not None  # small files are the live worker's while there is one
    newest = max(
        (
            _newest(str(s.inbox / c.folder))
            for c in contracts_of(s).values()
            if not c.files.in_place and not (live and c.files.small) and (s.inbox / c.folder).is_dir()
        ),
        default=0.0,
    )
    if newest <= seen:
        return dg.SkipReason("no new file in the inboxes")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"{newest:.6f}")], cursor=str(newest))


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
