"""Dagster definitions, one file a kind."""
