"""Increments of the live worker as Dagster shows them: materialisations that no run of its own made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg


def report(home: Path, tables: list[str], metadata: Mapping[str, Any]) -> None:
    """Reports a materialisation of readings, of these tables (schema.name) and of the serving file to the Dagster of `home`."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for key in (["clean", "reading"], *(t.split(".") for t in tables), ["serving", "serving_file"]):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset_key=key, metadata=dict(metadata)))
