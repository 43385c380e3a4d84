"""The Python side of dbt, without Dagster: builds, the parsed project, marts as known at a moment, trace, forecasts."""
