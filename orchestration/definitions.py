"""Entry point for Dagster: `dagster-webserver -m orchestration.definitions`."""

from __future__ import annotations

import dagster as dg

from orchestration.defs import assets, automation, dbt, resources


def build() -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors of the platform that the environment names."""
    return dg.Definitions(
        assets=[*assets.source_assets(), dbt.marts_assets(), assets.serving_file, assets.replayed_day],
        jobs=[automation.pipeline, automation.marts_on_spark, automation.replay],
        schedules=[automation.nightly_maintenance],
        sensors=[automation.new_files],
        resources=resources.resources(),
        executor=dg.in_process_executor,
    )


defs = build()
