"""Whether two tables hold the same rows: everything equal, DOUBLE within 1e-9 relative, geometry by area and equality."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from lake.lake import latest_snapshot, open_reader
from marts.build import DBT, run_dbt
from tests.marts_kit import dbt
from tnmt.settings import Settings

TOLERANCE = 1e-9


def difference(con: duckdb.DuckDBPyConnection, left: str, right: str) -> str | None:
    """What differs between two tables or subqueries of `con`, with the first rows of it; None where they are the same.

    Rows are paired in the order of all columns that are compared exactly, then of the rounded ones.
    """
    columns = [{r[0]: r[1] for r in con.execute(f"DESCRIBE SELECT * FROM {side}").fetchall()} for side in (left, right)]
    if list(columns[0].items()) != list(columns[1].items()):
        return f"columns differ: {sorted(set(columns[0].items()) ^ set(columns[1].items()))}"
    counts = [con.execute(f"SELECT count(*) FROM {side}").fetchall()[0][0] for side in (left, right)]
    if counts[0] != counts[1]:
        return f"{counts[0]} rows on the left, {counts[1]} on the right"
    floats = [c for c, kind in columns[0].items() if kind in ("DOUBLE", "FLOAT")]
    shapes = [c for c, kind in columns[0].items() if kind.startswith("GEOMETRY")]
    exact = [c for c in columns[0] if c not in floats and c not in shapes]
    order = ", ".join([f'"{c}"' for c in exact] + [f'round("{c}", 6)' for c in floats] + [f'round(ST_Area("{c}"), 3)' for c in shapes]) or "1"
    unequal = [f'_l."{c}" IS DISTINCT FROM _r."{c}"' for c in exact]
    unequal += [
        f'(_l."{c}" IS NULL) <> (_r."{c}" IS NULL) OR '
        f'NOT coalesce(_l."{c}" = _r."{c}" OR abs(_l."{c}" - _r."{c}") <= {TOLERANCE} * greatest(abs(_l."{c}"), abs(_r."{c}")), true)'
        for c in floats
    ]
    unequal += [f'NOT coalesce(ST_Equals(_l."{c}", _r."{c}"), _l."{c}" IS NULL AND _r."{c}" IS NULL)' for c in shapes]
    wrong = con.execute(
        f"""
        WITH _l AS (SELECT *, row_number() OVER (ORDER BY {order}) AS _row FROM {left}),
        _r AS (SELECT *, row_number() OVER (ORDER BY {order}) AS _row FROM {right})
        SELECT _l, _r FROM _l JOIN _r USING (_row) WHERE {" OR ".join(f"({u})" for u in unequal)} LIMIT 3"""
    ).fetchall()
    if not wrong:
        return None
    told = [{k: (a[k], b[k]) for k in a if a[k] != b[k]} for a, b in wrong]
    return f"rows differ, first columns (left, right): {told}"


def tables_of(manifest: dict[str, Any]) -> list[str]:
    """Tables `schema.name` of the models with `meta.scale_out`."""
    nodes = manifest["nodes"].values()
    return sorted(f"{n['schema']}.{n['name']}" for n in nodes if n["resource_type"] == "model" and n["config"]["meta"].get("scale_out"))


def changed(settings: Settings, tables: list[str], before: int, after: int) -> dict[str, str]:
    """What differs in each table between two snapshots."""
    with open_reader(settings) as con:
        con.execute("LOAD spatial")
        told = {t: difference(con, *(f"(SELECT * FROM lake.{t} AT (VERSION => {n}))" for n in (before, after))) for t in tables}
    return {t: difference for t, difference in told.items() if difference is not None}


def newest(settings: Settings) -> int:
    """The newest snapshot."""
    with open_reader(settings) as con:
        return latest_snapshot(con)


class Marts:
    """A filled lake whose marts that opted in are made by either engine, in this process."""

    def __init__(self, settings: Settings, work: Path, as_of: datetime, made: int | None = None) -> None:
        """`work` takes dbt's target and logs. Seeds and models that opted in, and what they read, are made by DuckDB; they were, at the snapshot `made`."""
        self.settings, self.work, self.variables = settings, work, {"as_of": f"{as_of:%Y-%m-%d %H:%M:%S}"}
        self.manifest = dbt(settings, work, "parse").result
        self.seconds: dict[str, float] = {}
        """Of each model that `on` made last, by dbt."""
        if made is None:
            dbt(settings, work, "seed", **self.variables)
            dbt(settings, work, "run", "--select", "+config.meta.scale_out:true", manifest=self.manifest, **self.variables)
        self.tables = tables_of(self.manifest.to_dict())
        self.made = newest(settings) if made is None else made

    def by_child(self, **environment: str) -> tuple[dict[str, str], str]:
        """Makes the models that opted in anew on Spark, by `dbt` in a process of its own, as `tnmt run` does; what differs, and dbt's log."""
        command = [DBT, "run", "--no-use-colors"]
        variables = json.dumps(self.variables | {"engine": "spark", "affected_from": -1})
        log = run_dbt(
            [*command, "--select", "config.meta.scale_out:true", "--vars", variables], self.settings, TNMT_HOME=str(self.settings.home), **environment
        )
        return changed(self.settings, self.tables, self.made, newest(self.settings)), log

    def on(self, engine: str, *names: str, **variables: str | int) -> dict[str, str]:
        """Makes the models (those named, all that opted in otherwise) by `engine`; returns what differs from what DuckDB made first."""
        done = dbt(
            self.settings,
            self.work,
            "run",
            "--select",
            *(names or ["config.meta.scale_out:true"]),
            manifest=self.manifest,
            **self.variables,
            engine=engine,
            **variables,
        )
        self.seconds = {r.node.name: r.execution_time for r in done.result.results if r.node.resource_type == "model"}
        return changed(self.settings, [t for t in self.tables if not names or t.partition(".")[2] in names], self.made, newest(self.settings))
