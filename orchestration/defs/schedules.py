"""Schedules: the whole path each hour, the upkeep each night."""

import dagster as dg

from orchestration.defs.jobs import maintenance, pipeline
from orchestration.defs.sensors import under_way

ZONE = "Asia/Ho_Chi_Minh"


@dg.schedule(
    job=pipeline,
    cron_schedule="0 * * * *",
    execution_timezone=ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Lấy các nguồn không gửi tệp (bản quét, cơ sở dữ liệu) và tính lại những gì đổi theo giờ, như nguồn trễ",
)
def hourly_pipeline(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Pulls what nobody sends, and builds what the hour alone changes: a source that sends nothing is late by the clock, and no file says so."""
    if under_way(context.instance, None):
        return dg.SkipReason("a run of the whole path is under way")
    return dg.RunRequest()


nightly_maintenance = dg.ScheduleDefinition(
    job=maintenance, cron_schedule="30 1 * * *", execution_timezone=ZONE, default_status=dg.DefaultScheduleStatus.RUNNING
)
