"""serving/serving_file is what Superset sees, superset/<dashboard> are the pages that show it."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg

from marts.build import manifest, serve_marts, served_tables
from orchestration.defs.resources import WRITER_POOL, Platform
from tnmt.settings import settings

SERVING_FILE = dg.AssetKey(["serving", "serving_file"])


def dashboards() -> list[dg.AssetSpec]:
    """A dashboard an asset, below the tables that its charts show: dbt's exposures, which are derived from the files of the dashboards."""
    parsed = json.loads(manifest(settings()).read_text(encoding="utf-8"))
    found = []
    for exposure in parsed["exposures"].values():
        nodes = [parsed["nodes"][key] for key in exposure["depends_on"]["nodes"]]
        found.append(
            dg.AssetSpec(
                ["superset", exposure["name"]],
                deps=[SERVING_FILE, *(dg.AssetKey([n["schema"], n["name"]]) for n in nodes)],
                skippable=True,  # told where the file changed
                group_name="serving",
                kinds={"superset"},
                description=f"{exposure['label']}. {exposure['description']}",
                owners=[exposure["owner"]["email"]],
                metadata={"owner": exposure["owner"]["name"], "path": f"/superset/dashboard/{exposure['name'].replace('_', '-')}/"},
            )
        )
    return found


def serving_assets() -> dg.AssetsDefinition:
    """One step: it serves the newest marts, which every dashboard shows from then on."""
    pages = dashboards()

    @dg.multi_asset(
        name="serve",
        pool=WRITER_POOL,
        specs=[
            dg.AssetSpec(
                SERVING_FILE,
                deps=[dg.AssetKey(t.split(".")) for t in served_tables(settings())],
                group_name="serving",
                kinds={"duckdb"},
                description="Tệp DuckDB chỉ đọc mà Superset nhìn thấy; thay bằng một bước",
            ),
            *pages,
        ],
    )
    def serve(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
        s = platform.settings()
        served = serve_marts(s, platform.as_of(context))
        metadata: dict[str, Any] = {"file": served.path.name, "snapshot_id": served.snapshot_id, "tables": served.tables, "rows": served.rows}
        yield dg.MaterializeResult(SERVING_FILE, metadata=metadata)
        for page in pages:
            yield dg.MaterializeResult(page.key, metadata={"file": served.path.name})

    return serve
