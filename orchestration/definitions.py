"""Entry point for Dagster: `dagster-webserver -m orchestration.definitions`."""

from __future__ import annotations

import dagster as dg

from orchestration.defs import assets, dbt, jobs, replay, resources, schedules, sensors, serving


def build() -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors of the platform that the environment names."""
    return dg.Definitions(
        assets=[*assets.source_assets(), *assets.ledger_assets(), *dbt.marts_assets(), serving.serving_assets(), replay.replayed_day],
        jobs=[jobs.pipeline, jobs.marts_on_spark, jobs.replay_day],
        schedules=[schedules.hourly_pipeline, schedules.nightly_maintenance],
        sensors=sensors.source_sensors(),
        resources=resources.resources(),
        executor=dg.in_process_executor,
    )


defs = build()
