"""The dbt build as a child process, and the serving file after it. No Dagster here: CLI and assets call the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import duckdb

from dictionary.words import Dictionary, DictionaryError, dictionary
from lake.faults import reach
from lake.lake import RULES_SQL, build_lock, create, has_table, open_reader, open_writer, transaction, writer_in_build
from lake.serving import HeldBack, InForce, Served, ServingRefused, publish_serving
from tnmt.settings import Settings


class BuildFailed(Exception):
    """dbt could not go on, or a command of it failed; what was served stays served."""


@dataclass(frozen=True)
class Held:
    """A table that a build left as it was: it failed, or a test of it did (`cause` is then itself), or what it reads (`cause`) was held back."""

    table: str
    cause: str
    reason: str
    since: datetime
    """As of which build it has been held back, without a good one since."""
    is_built: bool
    """Whether the lake's table is newer than what is served: its rows were made, and broke a test."""


@dataclass(frozen=True)
class Built:
    """What a build covers: publishes up to `affected_to`; `done` is False where there was nothing to do."""

    affected_to: int
    done: bool
    anew: bool = False
    """Whether all marts are made anew, whatever their own rows of ops.built say."""
    same_project: bool = True
    """Whether models and reference data are those of the last build of the whole, or of the part."""
    reference: bool = False
    """Whether reference data are loaded and unit tests run."""
    log: str = ""
    stale: tuple[str, ...] = ()
    """Tables (schema.name) that are not up to it."""
    needed: tuple[str, ...] | None = None
    """The tables and views that a build of all has to make: what is stale, what was held back, and what hangs on either; None: all there are."""
    held: tuple[Held, ...] = ()
    """What the build held back."""


DBT = str(Path(sys.executable).parent / "tnmt-dbt")
"""dbt without a parse of the project where none is due (marts/parsed.py)."""


LOCKED = "TNMT_DBT_LOCKED"
"""Set for dbt as a step of a process that holds what locks it needs."""


def dbt_environment(settings: Settings) -> dict[str, str]:
    """Environment of every dbt child: the lake's address, extensions from the wheels, no telemetry."""
    return {
        **os.environ,
        "TNMT_LAKE_ATTACH": settings.attach,
        "TNMT_LAKE_DATA": settings.data_path,
        "TNMT_DUCKDB_EXTENSIONS": str(settings.extensions),
        "TNMT_MEMORY_LIMIT": settings.memory_limit,
        LOCKED: "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        "DBT_PROJECT_DIR": str(settings.dbt_project),
        "DBT_PROFILES_DIR": str(settings.dbt_project),
        "DBT_TARGET_PATH": str(target_dir(settings)),
        "DBT_LOG_PATH": str(settings.home / "logs"),
        # a line of `debug` asks the disk whether the log is full; 20,000 of them a build were a sixth of its time
        "DBT_LOG_LEVEL_FILE": os.environ.get("DBT_LOG_LEVEL_FILE", "info"),
    }


def target_dir(settings: Settings) -> Path:
    """Where dbt writes its manifest and run results."""
    return settings.home / "dbt"


def project_hash(settings: Settings) -> str:
    """Hash of all that decides how marts are computed."""
    digest = hashlib.sha256(forecasts_hash().encode() + RULES_SQL.read_bytes())
    for path in sorted(p for p in settings.dbt_project.rglob("*") if p.suffix in (".sql", ".yml", ".csv") and "target" not in p.parts):
        digest.update(path.relative_to(settings.dbt_project).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def forecasts_hash() -> str:
    """Hash of the code behind the SQL function `forecasts`, the one part of the models that is not SQL."""
    modules = sorted(Path(__file__).parent.glob("forecast*.py"))
    return hashlib.sha256(b"\0".join(module.read_bytes() for module in modules)).hexdigest()[:16]


def manifest(settings: Settings) -> Path:
    """dbt's manifest of the project as it is now; made by `dbt parse` where no build has left one, or an older version of the project did."""
    path = target_dir(settings) / "manifest.json"
    if not path.exists() or _project_of_manifest(settings) != project_hash(settings):
        run_dbt([DBT, "parse", "--no-use-colors"], settings)
    return path


def _project_of_manifest(settings: Settings) -> str | None:
    """Hash of the project that the manifest was made from, or None where that was not noted."""
    try:
        return (target_dir(settings) / "manifest.project").read_text(encoding="utf-8")
    except OSError:
        return None


def dbt_vars(as_of: datetime, affected_to: int | None = None, engine: str = "duckdb", *, anew: bool = False) -> str:
    """The variables of a build as dbt wants them; `engine` computes the models that opted in (meta.scale_out).

    Without `affected_to` the build covers the newest publish; `anew` computes everything, whatever was built.
    """
    variables: dict[str, str | int] = {"as_of": f"{as_of:%Y-%m-%d %H:%M:%S}"}
    if affected_to is not None:
        variables["affected_to"] = affected_to
    if anew:
        variables["affected_from"] = -1
    return json.dumps(variables | ({"engine": engine} if engine != "duckdb" else {}))


def build_arguments(built: Built, as_of: datetime, engine: str) -> list[str]:
    """`dbt build` of what a plan covers. Reference data are loaded, and unit tests judge the SQL, where either may have changed."""
    unchanged = () if built.reference else ("seed", "unit_test")
    excluded = [word for kind in unchanged for word in ("--exclude-resource-type", kind)]
    return ["build", *excluded, "--vars", dbt_vars(as_of, built.affected_to, engine, anew=built.anew)]


def part_of(schema: str, folders: Sequence[str]) -> str:
    """The part of the project that a node is built with: its domain; the staging views of a domain by themselves, and reference data.

    `folders` is dbt's `fqn`. Marts of `core` read staging views of other domains, whose marts read those of `core`: without parts of
    their own the domains would wait for each other in a circle.
    """
    if schema == "reference":
        return schema
    layer, domain = folders[1], folders[2]
    return f"staging_{domain}" if layer == "staging" else domain


def by_part(nodes: Iterable[tuple[str, Sequence[str], str]]) -> dict[str, list[str]]:
    """The nodes of each part: of (schema, folders, name) the names, in order."""
    found: dict[str, list[str]] = {}
    for schema, folders, name in nodes:
        found.setdefault(part_of(schema, folders), []).append(name)
    return {part: sorted(names) for part, names in sorted(found.items())}


def decided_path(settings: Settings) -> Path:
    """Where a parse of the project notes what `plan` needs of it (marts.parsed.describe)."""
    return target_dir(settings) / f"decided-{project_hash(settings)}.json"


def _decided(settings: Settings) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]] | None:
    """{table: what follows from the graph, with the `hash` that ops.built should have} and {part: its tables and views}.

    None where the project was not parsed as it is.
    """
    try:
        kept = json.loads(decided_path(settings).read_text(encoding="utf-8"))
        values, parts = kept["vars"], dict(kept["parts"])
    except (OSError, ValueError, KeyError):
        return None
    for node in kept["nodes"].values():
        node["hash"] = hashlib.md5("|".join([node["code"], *(f"{n}={values.get(n)}" for n in node["vars"])]).encode()).hexdigest()
    return {node["table"]: node for node in kept["nodes"].values()}, parts


def _stale(con: duckdb.DuckDBPyConnection, decided: Mapping[str, Mapping[str, Any]], newest: int, as_of: datetime) -> list[str]:
    """Tables and views that are not what a build as of now would make: another hash, another moment, or a publish that they read and have not seen."""
    rows = {r[0]: r[1:] for r in con.execute("SELECT model, affected_to, as_of, hash FROM lake.ops.built").fetchall()}
    least = min((r[0] for t, r in rows.items() if t in decided), default=newest)
    published = con.execute("SELECT target, max(seq) FROM lake.ops.affected WHERE seq > ? AND seq <= ? GROUP BY ALL", [least, newest]).fetchall()
    stale = []
    for table, node in decided.items():
        affected_to, built_as_of, built_hash = rows.get(table, (-1, None, ""))
        unseen = affected_to < newest and (node["open"] or any(seq > affected_to for target, seq in published if target in node["targets"]))
        if built_hash != node["hash"] or unseen or (node["timed"] and built_as_of != as_of):
            stale.append(table)
    return sorted(stale)


def built_until(con: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, datetime | None]]:
    """Of every table that was built: the newest publish that it covers, and the moment that it speaks for."""
    return {model: (seq, moment) for model, seq, moment in con.execute("SELECT model, affected_to, as_of FROM lake.ops.built").fetchall()}


def held_back(con: duckdb.DuckDBPyConnection) -> tuple[Held, ...]:
    """What the last builds held back."""
    if not has_table(con, "ops.held"):
        return ()
    return tuple(Held(*r) for r in con.execute("SELECT model, cause, reason, since, is_built FROM lake.ops.held ORDER BY model").fetchall())


def plan(settings: Settings, as_of: datetime, *, full: bool = False, part: str | None = None, only: Collection[str] | None = None) -> Built:
    """What a build would cover now, of the whole, of one part of the project (`part_of`), or of the tables `only` (schema.name).

    Each model decides by its own row of ops.built what it computes; here it is asked whether any has to.
    """
    try:
        return _plan(settings, as_of, full, part, only)
    except duckdb.Error as error:
        if not isinstance(error, (duckdb.CatalogException, duckdb.BinderException)):
            raise
        create(settings)  # a lake of an earlier version has no such tables, or not all of their columns
        return _plan(settings, as_of, full, part, only)


def _plan(settings: Settings, as_of: datetime, full: bool, part: str | None, only: Collection[str] | None) -> Built:
    decided, parts = _decided(settings) or (None, {})
    with open_reader(settings) as con:
        newest = int(con.execute("SELECT coalesce(max(seq), 0) FROM lake.ops.gate_result").fetchall()[0][0])
        noted = con.execute(
            "SELECT part, project_hash FROM lake.ops.build QUALIFY row_number() OVER (PARTITION BY part ORDER BY rowid DESC) = 1 ORDER BY rowid"
        ).fetchall()
        stale = None if decided is None else _stale(con, decided, newest, as_of)
        held = held_back(con)
        cut = con.execute("SELECT tables FROM lake.ops.building").fetchall()
    # a part was built last by itself, or with the whole
    last = {p: next((made_from for of, made_from in reversed(noted) if of in (None, p)), None) for p in ([part] if part and only is None else parts)}
    same = stale is not None and {*last.values()} == {project_hash(settings)}
    seeds = {table for table, node in (decided or {}).items() if node["seed"]}
    mine = {*only} if only is not None else {*parts.get(part, [])} if part else None
    todo = [table for table in stale or () if mine is None or table in mine]
    waits = tuple(h for h in held if mine is None or h.table in mine)
    # a build that was killed may have made tables that break a test
    unjudged = any(mine is None or tables is None or not mine.isdisjoint(tables) for (tables,) in cut)
    if not full and same and not todo and not waits and not unjudged:
        return Built(newest, done=False, held=held)
    reference = full or not same or unjudged or bool(waits) or not seeds.isdisjoint(stale or ())
    needed = None if full or not same or unjudged else tuple(sorted(_with_what_hangs_on({*todo, *(h.table for h in waits)}, decided or {})))
    return Built(newest, done=True, anew=full, same_project=same, reference=reference, stale=tuple(stale or ()), needed=needed, held=held)


def _with_what_hangs_on(tables: set[str], decided: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """These tables and views, and all that read them."""
    reads = {table: {key.rpartition(".")[2] for key in (*node["upstream"], *node.get("views", ()))} for table, node in decided.items()}
    found, new = set(tables), set(tables)
    while new:
        names = {table.partition(".")[2] for table in new}
        new = {table for table, above in reads.items() if table not in found and not above.isdisjoint(names)}
        found |= new
    return found


def record(
    settings: Settings, built: Built, as_of: datetime, build_id: str, now: datetime, *, part: str | None = None, asked: Collection[str] | None = None
) -> tuple[Held, ...]:
    """Notes a build of all marts, or of a part (whose tables are `asked`), and what of it was held back; returns the state of all tables.

    Where a build of newer publishes was noted meanwhile, that one's word on what is held back stands.
    """
    with open_writer(settings, "record build") as con, transaction(con):
        newer = con.execute(
            "SELECT count(*) FROM lake.ops.build WHERE affected_to > ? AND (part IS NULL OR part IS NOT DISTINCT FROM ?)", [built.affected_to, part]
        ).fetchall()[0][0]
        con.execute(
            "INSERT INTO lake.ops.build (build_id, affected_to, as_of, project_hash, finished_at, part) VALUES (?, ?, ?, ?, ?, ?)",
            [build_id, built.affected_to, as_of, project_hash(settings), now, part],
        )
        _note_end(con, build_id, asked)
        return held_back(con) if newer else _note_held(con, built.held, asked)


def note_held(settings: Settings, held: Iterable[Held], asked: Collection[str], build_id: str) -> tuple[Held, ...]:
    """Notes what a build of the tables `asked` held back of them; returns the state of all tables."""
    with open_writer(settings, "record build") as con, transaction(con):
        _note_end(con, build_id, asked)
        return _note_held(con, held, asked)


def _note_begin(settings: Settings, build_id: str, asked: Collection[str] | None, now: datetime) -> None:
    with writer_in_build(settings, "begin build") as con, transaction(con):
        con.execute("INSERT INTO lake.ops.building VALUES (?, ?, ?)", [build_id, None if asked is None else sorted(asked), now])


def _note_end(con: duckdb.DuckDBPyConnection, build_id: str, asked: Collection[str] | None) -> None:
    """A build has ended; of those that were cut before it, it has judged what it was asked for."""
    if asked is None:
        con.execute("DELETE FROM lake.ops.building")
        return
    con.execute("DELETE FROM lake.ops.building WHERE build_id = ?", [build_id])
    for other, tables in con.execute("SELECT build_id, tables FROM lake.ops.building WHERE tables IS NOT NULL").fetchall():
        left = sorted({*tables} - {*asked})
        con.execute("DELETE FROM lake.ops.building WHERE build_id = ?", [other])
        if left:
            con.execute("INSERT INTO lake.ops.building VALUES (?, ?, NULL)", [other, left])


def _note_held(con: duckdb.DuckDBPyConnection, held: Iterable[Held], asked: Collection[str] | None) -> tuple[Held, ...]:
    """What was not asked for stays as it stands now: another build may have noted something meanwhile."""
    noted = held_back(con)
    rows = sorted([*held, *(h for h in noted if asked is not None and h.table not in asked)], key=lambda h: h.table)
    if list(noted) != rows:
        con.execute("DELETE FROM lake.ops.held")
        for h in rows:
            con.execute("INSERT INTO lake.ops.held VALUES (?, ?, ?, ?, ?)", [h.table, h.cause, h.reason, h.since, h.is_built])
    return tuple(rows)


def waiting_for_others(held: Iterable[Held], asked: Collection[str]) -> tuple[Held, ...]:
    """Of the tables `asked` those that are held back by one that is not asked for, and is held back still: what they read is not good."""
    held = tuple(held)
    outside = {h.table.partition(".")[2] for h in held if h.table not in asked}
    return tuple(h for h in held if h.table in asked and h.cause in outside)


def read_held(settings: Settings, as_of: datetime, before: Iterable[Held] = ()) -> tuple[Held, ...]:
    """What dbt's last invocation held back, from its run results and manifest: what failed, what a failed test judged, and what hangs on either.

    `before` was held back before: it stays so since then.
    """
    folder = target_dir(settings)
    nodes = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    everything = nodes["nodes"] | nodes["unit_tests"]
    # exposures and hooks have results too: nothing is made of them
    results = [
        r
        for r in json.loads((folder / "run_results.json").read_text(encoding="utf-8"))["results"]
        if r["unique_id"] in everything and everything[r["unique_id"]]["resource_type"] != "operation"
    ]
    reasons: dict[str, tuple[str, bool]] = {}
    for result in results:
        if result["status"] in ("error", "fail", "runtime error"):
            node = everything[result["unique_id"]]
            message = " ".join(str(result["message"] or result["status"]).split())[:500]
            is_test = node["resource_type"] in ("test", "unit_test")
            judged = (
                node.get("attached_node") or next((k for k in node["depends_on"]["nodes"] if k in everything), None)
                if is_test
                else result["unique_id"]
            )
            if judged:
                reasons.setdefault(judged, (f"{node['name']}: {message}", node["resource_type"] == "test"))
    skipped = {r["unique_id"] for r in results if r["status"] == "skipped" and everything[r["unique_id"]]["resource_type"] in ("model", "seed")}
    since = {h.table: h.since for h in before}

    def held(key: str, cause: str) -> Held:
        table = f"{everything[key]['schema']}.{everything[key]['name']}"
        reason, is_built = reasons.get(key, ("", False))
        return Held(table, everything[cause]["name"], reason or reasons[cause][0], since.get(table, as_of), is_built)

    above = {k: _all_above(everything, k) for k in skipped}
    found = [held(k, k) for k in reasons] + [held(k, cause) for k in sorted(skipped - set(reasons)) for cause in sorted(above[k] & set(reasons))[:1]]
    return tuple(sorted(found, key=lambda h: h.table))


def told_held(held: Iterable[Held]) -> str:
    """For the person at the terminal: which model failed, why, and what is held back with it."""
    by_cause: dict[str, list[Held]] = {}
    for h in held:
        by_cause.setdefault(h.cause, []).append(h)
    return "\n".join(
        f"held back: {', '.join(h.table for h in group)} (since {min(h.since for h in group)}); {cause} failed: {group[0].reason}"
        for cause, group in sorted(by_cause.items())
    )


def _all_above(nodes: Mapping[str, Any], key: str) -> set[str]:
    found, waiting = set[str](), [key]
    while waiting:
        new = set(nodes.get(waiting.pop(), {"depends_on": {"nodes": []}})["depends_on"].get("nodes", [])) - found
        found |= new
        waiting += new
    return found


CONFLICT = "Transaction conflict"
"""What DuckLake says where another build or increment wrote the same model meanwhile (PostgreSQL): the rest of the build is made again."""
TRIES = 5
T = TypeVar("T", covariant=True)


class Run(Protocol[T]):
    """How dbt is started: it gives what its caller wants to see of the run, and raises BuildFailed where dbt ends with an error."""

    def __call__(self, arguments: list[str], select: Collection[str]) -> Iterator[T]:
        """Runs dbt with these arguments on the nodes of `select` (dbt's words; none: all that its caller makes)."""


def build(
    settings: Settings,
    as_of: datetime,
    build_id: str,
    now: datetime,
    *,
    full: bool = False,
    only: Collection[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Built:
    """Runs `dbt build` for what changed, on the engine of the settings: `building`, with the lines of dbt's log for `say`."""
    lines: list[str] = []

    def run(arguments: list[str], select: Collection[str]) -> Iterator[str]:
        lines.clear()
        return dbt_lines([DBT, *arguments, "--no-use-colors", *(["--select", *select] if select else [])], settings)

    with closing(building(settings, as_of, build_id, now, run, full=full, only=only)) as made:
        while True:
            try:
                line = next(made)
            except StopIteration as end:
                done: Built = end.value
                return replace(done, log="".join(lines))
            lines.append(line)
            if say:
                say(line.rstrip())


def building(
    settings: Settings,
    as_of: datetime,
    build_id: str,
    now: datetime,
    run: Run[T],
    *,
    full: bool = False,
    part: str | None = None,
    only: Collection[str] | None = None,
) -> Generator[T, None, Built]:
    """The one build: of all marts, of a part of the project, or of the tables `only` (schema.name), which notes no build.

    Yields what `run` does; returns the outcome, whose `held` is the state of all tables after it. A model that fails holds back what hangs on
    it; the rest is built, and what was held back is in ops.held. What is held back by a table that is not asked for stays so, and is not made
    of what that one has. Raises BuildFailed with dbt's own words where dbt could not go on. On SQLite the writer lock spans the build; on PostgreSQL live increments go on beside it, other builds and
    upkeep do not.
    """
    built = plan(settings, as_of, full=full, part=part, only=only)
    if not built.done:
        return built
    if only is not None and any(table.startswith("reference.") for table in only):
        built = replace(built, reference=True)
    reach("build.before")
    with build_lock(settings, f"dbt build {build_id}"):
        parts = (_decided(settings) or ({}, {}))[1]
        asked = {*only} if only is not None else {*parts.get(part, [])} if part else None
        with open_reader(settings) as con:
            before = held_back(con)
        kept = waiting_for_others(before, asked) if asked is not None else ()
        arguments = build_arguments(built, as_of, settings.engine)
        if kept:
            arguments += ["--exclude", " ".join(sorted(h.table.partition(".")[2] for h in kept))]
        _note_begin(settings, build_id, asked, now)
        select = sorted(table.partition(".")[2] for table in (only if only is not None else built.needed or ()))
        held = yield from _build_and_hold(arguments, settings, as_of, before, run, select, whole=only is None)
    reach("build.after")
    if asked is not None:
        held = (*kept, *(h for h in held if h.table in asked and h not in kept))
    built = replace(built, done=True, held=held)
    state = (
        record(settings, built, as_of, build_id, now, part=part, asked=asked) if only is None else note_held(settings, held, asked or (), build_id)
    )
    return replace(built, held=state)


def _build_and_hold(
    arguments: list[str], settings: Settings, as_of: datetime, before: Iterable[Held], run: Run[T], select: list[str], *, whole: bool
) -> Generator[T, None, tuple[Held, ...]]:
    """What dbt held back; models that met another writer are made again, in a build of the whole with what hangs on them alone."""
    results = target_dir(settings) / "run_results.json"
    held: tuple[Held, ...] = ()
    for _ in range(TRIES):
        results.unlink(missing_ok=True)  # what stands there after it is of this build
        try:
            yield from run(arguments, select)
            return ()
        except BuildFailed:
            held = read_held(settings, as_of, before) if results.exists() else ()
            if not held:
                raise
        again = met_another_writer(held)
        if not again:
            break
        select = [f"{model}+" for model in again] if whole else select
    return held


def met_another_writer(held: Iterable[Held]) -> list[str]:
    """Models that failed because another build or increment wrote them meanwhile, where nothing failed for another reason: to be made again."""
    causes = {h.cause: CONFLICT in h.reason for h in held}
    return sorted(causes) if causes and all(causes.values()) else []


def run_dbt(command: list[str], settings: Settings, **environment: str) -> str:
    """Runs a dbt command as a child process and returns its log; raises BuildFailed where it fails."""
    return "".join(dbt_lines(command, settings, **environment))


def dbt_lines(command: list[str], settings: Settings, **environment: str) -> Iterator[str]:
    """Runs a dbt command as a child process and gives the lines of its log as they come; raises BuildFailed where it fails."""
    lines: list[str] = []
    made_from = project_hash(settings)
    with subprocess.Popen(command, env=dbt_environment(settings) | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line)
            yield line
    if child.returncode:
        failed = [line for line in lines if any(word in line for word in ("ERROR", "FAIL ", "Error", "Failure"))]
        raise BuildFailed(
            f"dbt {command[1]} ended with {child.returncode}. First errors:\n{''.join(failed[:12]) or ''.join(lines)[-2000:]}"
            f"Whole log: {settings.home / 'logs' / 'dbt.log'}"
        )
    note_project(settings, made_from)


def note_project(settings: Settings, made_from: str) -> None:
    """Notes of which project (its hash) the manifest is that dbt has just written."""
    if target_dir(settings).is_dir():
        (target_dir(settings) / "manifest.project").write_text(made_from, encoding="utf-8")


def _served_models(settings: Settings) -> dict[str, dict[str, Any]]:
    """dbt's nodes of the models whose meta says `serve: true`, by table."""
    nodes = json.loads(manifest(settings).read_text(encoding="utf-8"))["nodes"].values()
    models = {f"{n['schema']}.{n['name']}": n for n in nodes if n["resource_type"] == "model" and n["config"].get("meta", {}).get("serve")}
    return dict(sorted(models.items()))


def refuse_persons(models: Mapping[str, Mapping[str, Any]], words: Dictionary) -> None:
    """Raises ServingRefused where a served model has a column that tells about a person, or that nobody described: the mark is in the contracts."""
    personal = [f"{table}.{c} (contract {words.personal[c]})" for table, node in models.items() for c in node["columns"] if words.is_personal(c)]
    unknown = [f"{table}.{c}" for table, node in models.items() for c in node["columns"] if words.is_personal(c) is None]
    if personal or unknown:
        why = [f"{', '.join(personal)}: tells about a person by that contract (`personal`)"] if personal else []
        why += [f"{', '.join(unknown)}: not in dictionary/columns.yaml, so nobody said that it does not tell about a person"] if unknown else []
        raise ServingRefused(
            f"the serving file in force stays, and nothing new is served. Found {'; '.join(why)}. Take the column out of the model, correct the contract, or describe it"
        )


def served_tables(settings: Settings) -> dict[str, int | None]:
    """Models that go into the serving file, those whose meta says `serve: true`; with how many last days of it SQL Lab gets, if not all."""
    return {table: node["config"]["meta"].get("sqllab_days") for table, node in _served_models(settings).items()}


def serve_marts(settings: Settings, as_of: datetime) -> Served:
    """Publishes the serving file of the newest marts; what the last build held back stays as it is served, and the file says so."""
    models = _served_models(settings)
    try:
        refuse_persons(models, dictionary(settings.contract_dirs))
    except DictionaryError as error:
        raise ServingRefused(f"the words of the columns cannot be read: {error}") from error
    with open_reader(settings) as con:
        held = [h for h in held_back(con) if h.table in models]
        good = {h.table for h in held if not h.is_built and has_table(con, h.table)}
    titles = _titles_vi(settings) if held else {}
    notes = [
        HeldBack(
            h.table,
            str(models[h.table]["description"]).partition(".")[0],
            h.since,
            _reason_vi(h, titles),
            {} if h.table in good else {c["name"]: c["data_type"] for c in models[h.table]["columns"].values()},
        )
        for h in held
    ]
    days = {name: n for name, n in served_tables(settings).items() if n is not None}
    return publish_serving(settings, list(models), as_of, days, notes)


def _titles_vi(settings: Settings) -> dict[str, str]:
    """What each model and seed holds, in words: the first sentence of its description."""
    nodes = json.loads(manifest(settings).read_text(encoding="utf-8"))["nodes"].values()
    return {n["name"]: str(n["description"]).partition(".")[0] for n in nodes if n["resource_type"] in ("model", "seed")}


def _reason_vi(held: Held, titles: Mapping[str, str]) -> str:
    """Why a table is not of the last build, for those who read the dashboards: by the words for tables, not by their names."""
    own = held.table.partition(".")[2]
    if held.cause != own:
        title = titles.get(held.cause)
        return f"Chờ bảng {f'«{title}»' if title else 'mà nó đọc'} được sửa; số liệu giữ như lần tính đạt gần nhất"
    what = "Số liệu mới không qua bước kiểm tra" if held.is_built else "Lần tính mới bị lỗi"
    return f"{what}; số liệu giữ như lần tính đạt gần nhất, bộ phận kỹ thuật đã được báo"


def first_day_to_serve(con: duckdb.DuckDBPyConnection, served: InForce) -> date | None:
    """Rows of earlier days in the file in force are those that the lake, read over `con`, has now; None where any day may have changed.

    The day of the moment that the file speaks for was still running then, and the last slots of the day before it may not have been late.
    """
    if served.affected_to is None or served.as_of is None:
        return None
    others, touched = con.execute(
        "SELECT count(*) FILTER (target <> 'reading'), min(day) FROM lake.ops.affected WHERE seq > ?", [served.affected_to]
    ).fetchall()[0]
    return None if others else min(served.as_of.date() - timedelta(days=2), touched or date.max)
