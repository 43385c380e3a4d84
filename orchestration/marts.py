"""The dbt build as a child process, and the serving file after it. No Dagster here: CLI and assets call the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb

from lake.faults import reach
from lake.lake import build_lock, open_reader, open_writer, transaction
from lake.serving import Served, publish_serving
from tnmt.settings import Settings


class BuildFailed(Exception):
    """dbt ended with an error or a failed test; the marts of the last good build stay served."""


@dataclass(frozen=True)
class Built:
    """What a build covered: publishes in (affected_from, affected_to]; `done` is False where there was nothing to do."""

    affected_from: int
    affected_to: int
    done: bool
    log: str = ""
    first_day: date | None = None
    """Marts of earlier days stay as they are; None where any day may change."""


DBT = str(Path(sys.executable).parent / "tnmt-dbt")
"""dbt without a parse of the project where none is due (orchestration/parsed.py)."""


def dbt_environment(settings: Settings) -> dict[str, str]:
    """Environment of every dbt child: the lake's address, extensions from the wheels, no telemetry."""
    return {
        **os.environ,
        "TNMT_LAKE_ATTACH": settings.attach,
        "TNMT_LAKE_DATA": settings.data_path,
        "TNMT_DUCKDB_EXTENSIONS": str(settings.extensions),
        "TNMT_MEMORY_LIMIT": settings.memory_limit,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        "DBT_PROJECT_DIR": str(settings.dbt_project),
        "DBT_PROFILES_DIR": str(settings.dbt_project),
        "DBT_TARGET_PATH": str(target_dir(settings)),
        "DBT_LOG_PATH": str(settings.home / "logs"),
    }


def target_dir(settings: Settings) -> Path:
    """Where dbt writes its manifest and run results."""
    return settings.home / "dbt"


def project_hash(settings: Settings) -> str:
    """Hash of all that decides how marts are computed."""
    digest = hashlib.sha256()
    for path in sorted(p for p in settings.dbt_project.rglob("*") if p.suffix in (".sql", ".yml", ".csv") and "target" not in p.parts):
        digest.update(path.relative_to(settings.dbt_project).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def manifest(settings: Settings) -> Path:
    """dbt's manifest; made by `dbt parse` where no build has left one yet."""
    path = target_dir(settings) / "manifest.json"
    if not path.exists():
        run_dbt([DBT, "parse", "--no-use-colors"], settings, None)
    return path


def dbt_vars(as_of: datetime, affected_from: int, affected_to: int, engine: str = "duckdb") -> str:
    """The variables of a build as dbt wants them; `engine` computes the models that opted in (meta.scale_out)."""
    variables = {"as_of": f"{as_of:%Y-%m-%d %H:%M:%S}", "affected_from": affected_from, "affected_to": affected_to}
    return json.dumps(variables | ({"engine": engine} if engine != "duckdb" else {}))


def build_arguments(built: Built, as_of: datetime, engine: str) -> list[str]:
    """`dbt build` of what a plan covers. Reference data are loaded, and unit tests judge the SQL, where either may have changed."""
    unchanged = ("seed", "unit_test") if built.affected_from >= 0 else ()
    excluded = [word for kind in unchanged for word in ("--exclude-resource-type", kind)]
    return ["build", *excluded, "--vars", dbt_vars(as_of, built.affected_from, built.affected_to, engine)]


def _last_build(con: duckdb.DuckDBPyConnection) -> tuple[int, datetime | None, str]:
    row = con.execute("SELECT affected_to, as_of, project_hash FROM lake.ops.build ORDER BY finished_at DESC, affected_to DESC LIMIT 1").fetchall()
    return (int(row[0][0]), row[0][1], row[0][2]) if row else (-1, None, "")


def plan(settings: Settings, as_of: datetime, *, full: bool = False) -> Built:
    """What a build would cover now. After a change of models or reference data everything is computed anew."""
    with open_reader(settings) as con:
        last, last_as_of, last_hash = _last_build(con)
        newest = int(con.execute("SELECT coalesce(max(seq), 0) FROM lake.ops.gate_result").fetchall()[0][0])
        others, touched = con.execute(
            "SELECT count(*) FILTER (target <> 'reading'), min(day) FROM lake.ops.affected WHERE seq > ? AND seq <= ?", [last, newest]
        ).fetchall()[0]
    same_project = last_hash == project_hash(settings)
    if not full and same_project and last == newest and last_as_of == as_of:
        return Built(last, newest, done=False)
    whole = full or not same_project
    # the day of the last build was still running then, and the last slots of the day before it may not have been late
    first_day = None if whole or others or last_as_of is None else min(last_as_of.date() - timedelta(days=2), touched or date.max)
    return Built(-1 if whole else last, newest, done=True, first_day=first_day)


def record(settings: Settings, built: Built, as_of: datetime, build_id: str, now: datetime) -> None:
    """Notes that the marts hold everything up to `built.affected_to`."""
    with open_writer(settings, "record build") as con, transaction(con):
        con.execute("INSERT INTO lake.ops.build VALUES (?, ?, ?, ?, ?)", [build_id, built.affected_to, as_of, project_hash(settings), now])


def build(
    settings: Settings, as_of: datetime, build_id: str, now: datetime, *, full: bool = False, say: Callable[[str], None] | None = None
) -> Built:
    """Runs `dbt build` for what changed, on the engine of the settings; raises BuildFailed with dbt's own words.

    On SQLite the writer lock spans the build; on PostgreSQL live increments go on beside it, other builds and upkeep do not.
    """
    built = plan(settings, as_of, full=full)
    if not built.done:
        return built
    reach("build.before")
    command = [DBT, *build_arguments(built, as_of, settings.engine), "--no-use-colors"]
    with build_lock(settings, f"dbt build {build_id}"):
        log = run_dbt(command, settings, say)
    reach("build.after")
    record(settings, built, as_of, build_id, now)
    return Built(built.affected_from, built.affected_to, done=True, log=log)


def run_dbt(command: list[str], settings: Settings, say: Callable[[str], None] | None = None, **environment: str) -> str:
    """Runs a dbt command as a child process and returns its log; raises BuildFailed where it fails."""
    lines: list[str] = []
    with subprocess.Popen(command, env=dbt_environment(settings) | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line)
            if say:
                say(line.rstrip())
    log = "".join(lines)
    if child.returncode:
        failed = [line for line in lines if any(word in line for word in ("ERROR", "FAIL ", "Error", "Failure"))]
        raise BuildFailed(
            f"dbt {command[1]} ended with {child.returncode}; nothing new is served. First errors:\n{''.join(failed[:12]) or log[-2000:]}"
            f"Whole log: {settings.home / 'logs' / 'dbt.log'}"
        )
    return log


def served_tables(settings: Settings) -> dict[str, int | None]:
    """Models that go into the serving file, those whose meta says `serve: true`; with how many last days of it SQL Lab gets, if not all."""
    nodes = json.loads(manifest(settings).read_text(encoding="utf-8"))["nodes"].values()
    metas = {f"{n['schema']}.{n['name']}": n["config"].get("meta", {}) for n in nodes if n["resource_type"] == "model"}
    return {name: meta.get("sqllab_days") for name, meta in sorted(metas.items()) if meta.get("serve")}


def serve_marts(settings: Settings, as_of: datetime) -> Served:
    """Publishes the serving file of the newest marts."""
    tables = served_tables(settings)
    return publish_serving(settings, list(tables), as_of, {name: days for name, days in tables.items() if days is not None})
