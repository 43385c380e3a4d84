"""The command line. Thin: it reads options, calls the rooms, prints what they return.

Exit codes: 0 done; 1 an error that the message explains; 2 wrong usage; 3 done, but a source failed, a delivery is
blocked, a mart is held back, or more rows or files of a source were refused than its contract tolerates; 4 the lake is being written by another process; 5 `doctor`
found something missing.
"""

from __future__ import annotations

import csv
import getpass
import json
import logging
import os
import sys
import uuid
from dataclasses import asdict
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tnmt.clock import as_local, default_as_of, now
from tnmt.settings import Settings, SettingsError, settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Kho dữ liệu dùng chung ngành tài nguyên và môi trường."
)
quarantine_app = typer.Typer(no_args_is_help=True, help="Rows and deliveries that could not be placed.")
app.add_typer(quarantine_app, name="quarantine")
err = Console(stderr=True, soft_wrap=True)
# a pipe has no width: wide enough there that no table is cut
out = Console() if sys.stdout.isatty() else Console(width=2_000)


class Engine(StrEnum):
    """What computes the models with `meta.scale_out`."""

    DUCKDB = "duckdb"
    SPARK = "spark"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for another program.")]


def _logs() -> None:
    level = os.environ.get("TNMT_LOG", "WARNING").upper()
    production = os.environ.get("TNMT_ENV") == "production"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer() if production else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level, logging.WARNING)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _fail(message: str, code: int = 1) -> NoReturn:
    err.print(message, style="red", markup=False, highlight=False)
    raise typer.Exit(code)


def _moment(text: str | None, s: Settings, option: str = "--as-of") -> datetime:
    if text is None:
        return default_as_of(s)
    if text == "now":
        return now()
    try:
        return as_local(datetime.fromisoformat(text))
    except ValueError:
        _fail(f"{option}: expected a time such as 2026-11-24T23:59 or `now`, found {text!r}", 2)


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        _fail(f"{option}: expected a day such as 2026-11-24, found {text!r}", 2)


def _not_blank(value: str | None) -> str | None:
    """A text that people read later: blanks alone are none."""
    if value is not None and not value.strip():
        raise typer.BadParameter("expected a text, found none")
    return value


Reason = Annotated[str, typer.Option(help="Why; people read it in reports.", callback=_not_blank)]
By = Annotated[str, typer.Option(help="Post and unit that decides (no personal name).", callback=_not_blank)]
Document = Annotated[str | None, typer.Option(help="Number of the paper behind it.", callback=_not_blank)]
Again = Annotated[str | None, typer.Option("--id", help="Number of an earlier decision, to put this one in its place.", callback=_not_blank)]


def _progress() -> Progress:
    return Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err, transient=True)


@app.command()
def init(
    join: Annotated[
        bool, typer.Option(help="A further site on this PostgreSQL catalog, with the same data path, token key and landing folder.")
    ] = False,
    moved: Annotated[bool, typer.Option(help="The home or its data lie here now, for good.")] = False,
) -> None:
    """Make the lake: folders, catalog, schemas, tables of all contracts. Idempotent."""
    from ingestion.ingest import contracts_of, register_sources
    from lake.lake import create, open_writer

    s = settings()
    create(s, join=join, moved=moved)
    contracts = contracts_of(s)
    with open_writer(s, "init") as con:
        register_sources(con, contracts, now())
    for contract in contracts.values():
        (s.inbox / contract.folder).mkdir(parents=True, exist_ok=True)
    print(f"lake ready under {s.home}: {len(contracts)} sources, inboxes in {s.inbox}")


@app.command()
def sample(
    size: Annotated[str, typer.Option(help="XS, S or sample.")] = "sample",
    seed: int = 1,
    end: Annotated[str | None, typer.Option(help="Last day of the sample (YYYY-MM-DD); the last full day unless said.")] = None,
) -> None:
    """Write a sample province into the inboxes. Once: a second call with the same arguments does nothing."""
    from simulator.sample import generate
    from simulator.size import SIZES

    s = settings()
    if size not in SIZES:
        _fail(f"--size: expected one of {', '.join(SIZES)}, found {size!r}", 2)
    marker = s.home / "sample.json"
    if marker.exists():
        held = json.loads(marker.read_text())
        if held["size"] == size and held["seed"] == seed and end in (None, held["end"]):
            print(f"sample {size} (seed {seed}, end {held['end']}) is there already")
            return
        _fail(f"this platform holds sample {held['size']} (seed {held['seed']}, end {held['end']}); another one needs another TNMT_HOME")
    day = _day("--end", end) if end else now().date() - timedelta(days=1)
    with _progress() as bar:
        bar.add_task(f"writing sample {size} up to {day}")
        manifest = generate(s.inbox, s.reference, seed, day, SIZES[size])
    as_of = datetime.combine(day + timedelta(days=1), datetime.min.time()) + timedelta(minutes=10)
    marker.write_text(json.dumps({"size": size, "seed": seed, "end": day.isoformat(), "as_of": as_of.isoformat()}))
    print(f"sample {size}: {sum(manifest.files.values())} files, {sum(manifest.rows.values())} rows in {s.inbox}")


@app.command()
def run(
    source: Annotated[list[str] | None, typer.Argument(help="Only these sources.")] = None,
    day: Annotated[str | None, typer.Option(help="Gate all deliveries of this day again from raw (YYYY-MM-DD).")] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="The 'now' of the marts; `now` for the clock.")] = None,
    full: Annotated[bool, typer.Option(help="Compute all marts anew.")] = False,
    marts: Annotated[bool, typer.Option(help="Build marts and serving file after taking in.")] = True,
    engine: Annotated[Engine | None, typer.Option(help="What computes the models that grow with the data; TNMT_ENGINE unless said.")] = None,
    as_json: Json = False,
) -> None:
    """Take in what lies in the inboxes, build what changed, serve it. Nothing new, nothing done."""
    from ingestion.blocked import STOPPED, blocked_now
    from ingestion.contract import ContractError
    from ingestion.ingest import UnknownSource, contracts_of
    from ingestion.load import requeue
    from lake.lake import LakeError, open_reader, open_writer
    from lake.lock import LakeLocked
    from marts.build import BuildFailed, told_held
    from orchestration.run import arrival_on
    from orchestration.run import run as run_all
    from orchestration.serve import tell_dagster

    s = settings()
    if engine is not None:
        s = s.model_copy(update={"engine": engine.value})
    arrival = arrival_on(s) if as_of is None else now
    moment = now if as_of in (None, "now") and arrival is now else _moment(as_of, s)
    replayed = _day("--day", day) if day else None
    try:
        if replayed:
            with open_writer(s, f"replay {replayed}") as con:
                for name in source or contracts_of(s):
                    requeue(con, name, day=replayed, all_of_day=True)
        with _progress() as bar:
            task = bar.add_task("starting")
            result = run_all(
                s,
                now=arrival,
                as_of=moment,
                run_id=uuid.uuid4().hex[:12],
                only=source or None,
                marts=marts,
                full=full,
                step=lambda what, stage: bar.update(task, description=f"{what}: {stage[:90]}"),
            )
    except LakeLocked as error:
        _fail(str(error), 4)
    except (LakeError, ContractError, BuildFailed) as error:
        _fail(str(error))
    except UnknownSource as error:
        _fail(str(error.args[0]), 2)
    loaded = [r for r in result.ingested.loaded.values() if r.deliveries]
    built = bool(result.built and result.built.done)
    with open_reader(s) as con:  # of earlier runs too
        stopped = {status: blocked_now(con, source or None, status) for status in STOPPED}
    if loaded or built:
        tell_dagster(s, sorted({contracts_of(s)[r.source].target for r in loaded}), built=built)
    if as_json:
        print(
            json.dumps(
                {
                    "run_id": result.ingested.run_id,
                    "sources": [asdict(r) for r in loaded],
                    **{status: [asdict(b) for b in found] for status, found in stopped.items()},
                    "errors": result.ingested.errors,
                    "not_cleared": result.ingested.not_cleared,
                    "built": built,
                    "held_back": [asdict(h) for h in result.built.held] if result.built else [],
                    "serving": str(result.served.path) if result.served else None,
                },
                ensure_ascii=False,
                default=str,
            )
        )
    else:
        table = Table(
            "source", "deliveries", "published", "quarantined", "blocked", "set aside", "rows read", "accepted", "duplicate", "quarantined rows"
        )
        for r in loaded:
            table.add_row(
                r.source,
                *(
                    f"{v:,}"
                    for v in (
                        *(r.deliveries, r.published, r.quarantined, r.blocked, r.set_aside),
                        *(r.rows_read, r.rows_accepted, r.rows_duplicate, r.rows_quarantined),
                    )
                ),
            )
        if loaded:
            out.print(table)
        else:
            print("nothing new in the inboxes")
        for status, found in stopped.items():
            for b in found:
                err.print(f"{status.replace('_', ' ')}: {b.source}: {b.name}: {b.reason}", style="yellow", markup=False, highlight=False)
        for r in loaded:
            if r.failed and not r.blocked:
                err.print(f"alert: {r.source}: more rows than tolerated break {', '.join(r.failed)}", style="yellow", markup=False, highlight=False)
            parts = {"files": (r.quarantined, r.deliveries), "rows": (r.rows_quarantined, r.rows_read)}
            refused = [f"{n:,} of {of:,} {what}" for what, (n, of) in parts.items() if n and (what == "files" or r.refused_too_many)]
            if refused:
                judged = f"{r.tolerated:.1%} are tolerated" if r.refused_too_many else f"which is within the tolerated {r.tolerated:.1%}"
                text = f"refused: {r.source}: {' and '.join(refused)}, {judged}; see `tnmt quarantine list {r.source}`"
                err.print(text, style="yellow", markup=False, highlight=False)
            if r.rows_conflict:
                err.print(
                    f"alert: {r.source}: {r.rows_conflict:,} rows differ from another row of their key in the same delivery; the last line counts, "
                    "both are kept and flagged `conflict`: ask the sender which is meant",
                    style="yellow",
                    markup=False,
                    highlight=False,
                )
        for text in result.ingested.troubles:
            err.print(text, style="yellow" if text.startswith("unclaimed") else "red", markup=False, highlight=False)
        if result.built:
            print(("marts built" if result.built.done else "marts up to date") + (f", serving {result.served.path.name}" if result.served else ""))
    held = result.built.held if result.built else ()
    if held:
        err.print(told_held(held), style="red", markup=False, highlight=False)
    if result.ingested.errors or result.ingested.not_cleared or held or any(stopped.values()) or any(r.refused_too_many for r in loaded):
        raise typer.Exit(3)


@app.command()
def status(as_json: Json = False) -> None:
    """What is fresh, late, broken or quarantined, source by source."""
    from ingestion.blocked import STOPPED, blocked_now
    from ingestion.contract import ContractError
    from ingestion.ingest import contracts_of
    from ingestion.landing import told_unclaimed
    from lake.lake import LakeError, has_table, lock_holder, open_reader
    from lake.serving import as_of, current
    from marts.build import held_back, told_held

    s = settings()
    try:
        con = open_reader(s)
    except LakeError as error:
        _fail(str(error))
    moment, broken = default_as_of(s), list[str]()
    try:
        contracts_of(s)
    except ContractError as error:
        broken.append(f"broken: nothing is taken in until this is mended: {error}")
    noted = has_table(con, "ops.unclaimed")  # not in a lake that no run of this version has written into
    rows = con.execute(
        f"""
        WITH ledger AS (
            SELECT source, max(received_at) FILTER (status = 'published') AS last_received_at, count(*) AS deliveries, count(*) FILTER (status = 'landed') AS waiting,
                   count(*) FILTER (status = 'blocked') AS blocked, count(*) FILTER (status = 'set_aside') AS set_aside,
                   count(*) FILTER (status = 'quarantined') AS quarantined_files,
                   sum(rows_quarantined)::BIGINT AS quarantined_rows
            FROM lake.ops.delivery GROUP BY source
        ),
        differing AS ({"SELECT source, sum(rows)::BIGINT AS rows FROM lake.ops.conflict GROUP BY source" if noted else "SELECT NULL AS source, 0 AS rows"})
        SELECT s.source, s.title_vi, l.last_received_at, coalesce(l.deliveries, 0) AS deliveries, coalesce(l.waiting, 0) AS waiting,
               coalesce(l.blocked, 0) AS blocked, coalesce(l.set_aside, 0) AS set_aside, coalesce(l.quarantined_files, 0) AS quarantined_files, coalesce(l.quarantined_rows, 0) AS quarantined_rows,
               coalesce(d.rows, 0) AS conflicting_rows,
               CASE WHEN l.last_received_at IS NULL THEN 'never'
                    WHEN s.cadence_minutes IS NULL
                         OR date_diff('minute', l.last_received_at, ?::TIMESTAMP) <= s.cadence_minutes + s.lateness_minutes THEN 'fresh'
                    ELSE 'late' END AS state
        FROM lake.ops.source AS s LEFT JOIN ledger AS l ON l.source = s.source LEFT JOIN differing AS d ON d.source = s.source
        ORDER BY s.source""",
        [moment],
    ).fetchall()
    names = [d[0] for d in con.description]
    unclaimed = con.execute("SELECT folder, name, bytes FROM lake.ops.unclaimed ORDER BY folder, name").fetchall() if noted else []
    records = [dict(zip(names, r, strict=True)) for r in rows]
    stopped = {status: blocked_now(con, status=status) for status in STOPPED}
    serving, writer, held = current(s), lock_holder(s), held_back(con)
    if as_json:
        print(
            json.dumps(
                {
                    "as_of": moment,
                    "sources": records,
                    **{status: [asdict(b) for b in found] for status, found in stopped.items()},
                    "unclaimed": [{"folder": folder, "name": name, "bytes": size} for folder, name, size in unclaimed],
                    "serving": serving,
                    "writer": writer,
                    "held_back": [asdict(h) for h in held],
                    "broken": broken,
                },
                default=str,
                ensure_ascii=False,
            )
        )
        return
    table = Table("source", "state", "last received", "deliveries", "waiting", "blocked", "set aside", "bad files", "bad rows", "conflicting rows")
    for r in records:
        table.add_row(
            r["source"],
            r["state"],
            str(r["last_received_at"] or "–"),
            *(f"{r[k]:,}" for k in ("deliveries", "waiting", "blocked", "set_aside", "quarantined_files", "quarantined_rows", "conflicting_rows")),
        )
    out.print(table)
    for status, found in stopped.items():
        for b in found:
            print(f"{status.replace('_', ' ')}: {b.source}: {b.name}: {b.reason}")
            print(f"    after a fix: tnmt quarantine retry {b.source} --delivery-id {b.delivery_id}")
            print(f"    nobody waits for it: tnmt quarantine close {b.source} --delivery-id {b.delivery_id} --reason … --by …")
    for folder, name, size in unclaimed:
        err.print(f"unclaimed: {told_unclaimed(folder, name, size)}", style="yellow", markup=False, highlight=False)
    if held:
        err.print(told_held(held), style="red", markup=False, highlight=False)
    for text in broken:
        err.print(text, style="red", markup=False, highlight=False)
    shown = f"{serving.name}, as of {as_of(serving)}" if serving else "nothing yet"
    print(f"judged at {moment}; serving {shown}; writer {writer['purpose'] if writer else 'none'}")


@app.command()
def trace(
    station: str,
    parameter: str,
    day: str,
    hour: Annotated[int | None, typer.Option(min=1, max=24, help="The hour that ends at this clock time (1 to 24) instead of the whole day.")] = None,
    as_json: Json = False,
) -> None:
    """From a figure back to the bytes: readings, files with their hash, the rule and the limit behind a day or an hour."""
    from lake.lake import LakeError
    from marts.trace import NothingToTrace
    from marts.trace import trace as do

    try:
        found = do(settings(), station, parameter, date.fromisoformat(day), hour)
    except ValueError:
        _fail(f"expected a day as YYYY-MM-DD, found {day}", 2)
    except NothingToTrace as error:
        _fail(str(error), 2)
    except LakeError as error:
        _fail(str(error))
    if as_json:
        print(json.dumps(found, default=str, ensure_ascii=False))
        return
    print(f"{station} {parameter} ({found['span']['from']}, {found['span']['to']}]")
    for name, row in found["marts"].items():
        print(f"{name}: " + ", ".join(f"{k}={v}" for k, v in row.items() if v is not None))
    if found["limit"]:
        print("limit: " + ", ".join(f"{k}={v}" for k, v in found["limit"].items() if v is not None))
    again = found["recomputed"]
    print(f"from the readings: {again['readings']} readings, {again['valid']} valid, mean {again['mean']}")
    table = Table("measured_at", "reported", "valid", "adjusted", "status", "reason", "file", "line", "text in the file")
    files = {f["delivery_id"]: f for f in found["files"]}
    for r in found["readings"]:
        file = files[r["delivery_id"]]
        flag = " (superseded)" if r["superseded"] else " (conflict)" if r["conflict"] else ""
        if quality := r.get("quality"):
            flag += " " + ", ".join(f"{k.removeprefix('flag_')}={v}" for k, v in quality.items() if k.startswith("flag_") and v in (3, 4))
        if r.get("adjustment_id"):
            flag += f" {r['action']} by {r['adjustment_id']}"
        cells = (
            r["measured_at"],
            r["value_reported"],
            r["value_valid"],
            r.get("value_adjusted"),
            r["status"],
            (r["reason"] or "") + flag,
            file["name"],
            r["line"],
            file["lines"].get(r["line"], "–"),
        )
        table.add_row(*("–" if c is None else str(c) for c in cells))
    out.print(table)
    for d in found["decisions"]:
        state = " (replaced)" if d["superseded"] else ""
        print(
            f"{d['kind']} {d['decision_id']}{state}: {d['decision']} {'' if d['number'] is None else d['number']} for ({d['applies_from']}, {d['applies_to']}], "
            f"{d['reason_vi']}; {d['decided_by']}, {d['document'] or 'no paper'}, recorded {d['recorded_at']}"
        )
    for f in found["files"]:
        bytes_now = {True: "bytes kept have it", False: "BYTES KEPT DIFFER", None: f"bytes {f['stored']}"}[f["sha256_matches"]]
        print(f"{f['name']}: {f['bytes']} bytes, sha256 {f['sha256']} ({bytes_now}), received {f['received_at']}, {f['status']} by run {f['run_id']}")
    for q in found["quarantined"]:
        print(f"quarantined: {q['name']} line {q['line']}: {', '.join(q['reasons'])}: {q['raw_text']}")


@app.command()
def sql(
    statement: str,
    fmt: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    closed: Annotated[str | None, typer.Option(help="Reason for reading closed schemas; it is recorded.", callback=_not_blank)] = None,
) -> None:
    """Run one read-only statement on the lake (catalog `lake`); the first line is the header."""
    from lake.lake import LakeError
    from lake.query import QueryRefused, query

    if fmt not in ("table", "csv", "json"):
        _fail(f"--format: expected table, csv or json, found {fmt!r}", 2)
    try:
        names, rows = query(settings(), statement, closed_reason=closed, now=now())
    except (QueryRefused, LakeError) as error:
        _fail(str(error))
    if fmt == "json":
        print(json.dumps([dict(zip(names, r, strict=True)) for r in rows], default=str, ensure_ascii=False))
    elif fmt == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(["" if v is None else v for v in r] for r in rows)
    else:
        table = Table(*names)
        for r in rows:
            table.add_row(*("" if v is None else str(v) for v in r))
        out.print(table)


def _print(names: list[str], rows: list[tuple[Any, ...]], as_json: bool) -> None:
    if as_json:
        print(json.dumps([dict(zip(names, r, strict=True)) for r in rows], default=str, ensure_ascii=False))
        return
    table = Table(*names)
    for r in rows:
        table.add_row(*("" if v is None else str(v) for v in r))
    out.print(table)


@quarantine_app.command("list")
def quarantine_list(source: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """Quarantined rows by source and reason, each with its newest example, and deliveries that are blocked or set aside."""
    from ingestion.ingest import contracts_of
    from lake.query import query

    if source and source not in (known := contracts_of(settings())):
        _, left = query(settings(), "SELECT 1 FROM lake.ops.landed WHERE source = ? LIMIT 1", [source], now=now())
        if not left:  # of a source that was withdrawn the rows stay
            _fail(f"there is no source {source}; there are {', '.join(known)}", 2)
    where = "WHERE source = ?" if source else ""
    names, rows = query(
        settings(),
        f"""
        WITH refused AS (
            SELECT source, array_to_string(reasons, ', ') AS reasons, count(*) AS rows, count(DISTINCT delivery_id) AS deliveries, max(day) AS last_day,
                   arg_max({{'delivery_id': delivery_id, 'line': line, 'details': details}},
                           {{'at': received_at, 'id': delivery_id, 'first': -coalesce(line, 2147483647)}}) AS newest
            FROM lake.quarantine.row {where + " AND" if where else "WHERE"}
                (delivery_id IS NULL OR delivery_id NOT IN (SELECT delivery_id FROM lake.ops.delivery WHERE status = 'closed')) GROUP BY ALL
        )
        SELECT refused.source, reasons, rows, deliveries, last_day, newest.delivery_id AS delivery_id, l.name AS file, newest.line AS line, newest.details AS example
        FROM refused LEFT JOIN lake.ops.landed AS l ON l.delivery_id = newest.delivery_id
        UNION ALL
        -- a refused file stands above with its lines; here only where it has none that could be shown
        SELECT source, status, rows_quarantined, 1, day, delivery_id, name, NULL, reason FROM lake.ops.delivery {where + " AND" if where else "WHERE"}
        status IN ('quarantined', 'blocked', 'set_aside') AND (status <> 'quarantined' OR delivery_id NOT IN (SELECT delivery_id FROM lake.quarantine.row {where + " AND" if where else "WHERE"} delivery_id IS NOT NULL))
        ORDER BY source, rows DESC NULLS FIRST, delivery_id""",
        [source] * 3 if source else [],
        now=now(),
    )
    _print(names, rows, as_json)


@quarantine_app.command("show")
def quarantine_show(delivery_id: str, as_json: Json = False) -> None:
    """A delivery and its quarantined rows: line, reasons, text."""
    from lake.query import query

    names, rows = query(settings(), "SELECT * FROM lake.ops.delivery WHERE delivery_id = ?", [delivery_id], now=now())
    if not rows:
        _fail(f"there is no delivery {delivery_id}; `tnmt quarantine list` names those with bad rows", 2)
    _print(names, rows, as_json)
    _print(
        *query(
            settings(),
            "SELECT line, reasons, details, raw_text FROM lake.quarantine.row WHERE delivery_id = ? ORDER BY line",
            [delivery_id],
            now=now(),
        ),
        as_json,
    )


@quarantine_app.command("retry")
def quarantine_retry(source: str, delivery_id: Annotated[str | None, typer.Option(help="Only this delivery.")] = None) -> None:
    """Gate again from raw, after a fix of contract, register or suite."""
    from ingestion.ingest import contracts_of
    from ingestion.load import requeue
    from lake.lake import open_writer

    s = settings()
    if source not in contracts_of(s):
        _fail(f"there is no source {source}; there are {', '.join(contracts_of(s))}", 2)
    with open_writer(s, f"retry {source}") as con:
        try:
            count = requeue(con, source, delivery_id=delivery_id)
        except LookupError as error:
            _fail(str(error.args[0]), 2)
    print(f"{count} deliveries of {source} wait to be gated again; `tnmt run {source}` does it")


@quarantine_app.command("close")
def quarantine_close(
    source: str,
    delivery_id: Annotated[str, typer.Option(help="The delivery; `tnmt status` names it.")],
    reason: Reason,
    by: By,
) -> None:
    """Settle a blocked delivery that was sent again under another name, or for which nobody waits. One sent again under its name settles itself."""
    from ingestion.blocked import close
    from lake.lake import open_writer

    with open_writer(settings(), f"close {source}") as con:
        try:
            close(con, source, delivery_id, f"{reason} ({by})", now=now(), run_id=uuid.uuid4().hex[:12])
        except LookupError as error:
            _fail(str(error.args[0]), 2)
    print(f"delivery {delivery_id} of {source} is closed; its bytes stay")


@app.command()
def maintain(
    keep_days: int = 30,
    orphans: Annotated[
        int | None, typer.Option(help="Remove this many files that nothing refers to, where an earlier run named that number.")
    ] = None,
) -> None:
    """Erase raw bytes past their retention, compact the lake, expire snapshots that nobody pinned, remove files that nothing refers to."""
    from lake.upkeep.maintain import maintain as do

    done = do(settings(), now(), keep_days, orphans=orphans)
    print(
        f"data files {done.files_before} -> {done.files_after}; {done.expired} snapshots expired, {done.pinned} pinned ones kept; raw bytes of {done.erased} deliveries erased; "
        f"{done.orphans} files without a reference and {done.leftovers} leftovers removed"
    )
    for problem in done.problems:
        err.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    if done.problems:
        raise typer.Exit(3)


@app.command()
def replay(
    real: Path, kind: Annotated[str, typer.Option(help="air_bc or water_swmp.")] = "air_bc", start: str = "2012-10-01", end: str = "2012-10-31"
) -> None:
    """Turn a real series into station files (and their registers) in the inboxes, gaps and flags as they were."""
    from simulator.replay import replay as do

    s = settings()
    if not real.is_dir():
        _fail(f"expected the folder of the real data (docs/real-data.md), found {real}", 2)
    try:
        manifest = do(real, s.inbox, kind, date.fromisoformat(start), date.fromisoformat(end))
    except (KeyError, ValueError, OSError) as error:
        _fail(str(error), 2)
    print(f"{sum(manifest.files.values())} files, {sum(manifest.rows.values())} rows in {s.inbox}")


def _decide(source: str, values: dict[str, Any]) -> None:
    """Leaves the decision in its inbox and takes it in; marts see it at the next `tnmt run`."""
    from ingestion.decide import DecisionRefused, decide
    from ingestion.ingest import contracts_of, ingest
    from lake.lake import LakeError, open_reader
    from lake.lock import LakeLocked

    s = settings()
    moment = now()
    try:
        path, number = decide(s, contracts_of(s)[source], values, moment)
        ingested = ingest(s, now=now, run_id=uuid.uuid4().hex[:12], only=[source])
    except DecisionRefused as error:
        _fail(str(error), 2)
    except LakeLocked as error:
        _fail(f"{error}; the decision waits in the inbox and is taken in by the next run", 4)
    except LakeError as error:
        _fail(str(error))
    if source in ingested.errors:
        _fail(f"not taken yet: {ingested.errors[source]}; the decision was left in the inbox or is landed, and the next run tries again")
    done = ingested.loaded[source]
    if done.rows_quarantined or done.blocked or done.set_aside:
        with open_reader(s) as con:
            told = con.execute(
                "SELECT q.details FROM lake.quarantine.row AS q JOIN lake.ops.landed AS d USING (delivery_id) WHERE d.source = ? AND ends_with(d.name, ?)",
                [source, path.name],
            ).fetchall()
        _fail(f"not taken: {'; '.join(t for (t,) in told) or '; '.join(done.problems + done.aside)}")
    print(f"recorded as {number}; the marts have it after the next `tnmt run`")


@app.command()
def adjust(
    station: str,
    parameter: str,
    action: Annotated[str, typer.Argument(help="reject, accept, offset, scale, replace or withdraw.")],
    since: Annotated[datetime, typer.Option("--from", help="Readings after this moment (GMT+7).")],
    until: Annotated[datetime, typer.Option("--to", help="Up to and with this moment (GMT+7).")],
    reason: Reason,
    by: By,
    number: Annotated[str | None, typer.Option(help="What is added, multiplied by, or put in place.")] = None,
    document: Document = None,
    decision: Again = None,
) -> None:
    """Record a correction of readings. What the station sent stays as it is; marts use the corrected value."""
    row = {"station_id": station, "parameter": parameter, "action": action, "applies_from": since, "applies_to": until, "number": number}
    _decide("adjustment", row | {"reason_vi": reason, "decided_by": by, "document": document, "adjustment_id": decision})


@app.command()
def approve(
    station: str,
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First environment day.")],
    until: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last environment day.")],
    reason: Reason,
    by: By,
    grade: Annotated[str, typer.Option(help="raw, provisional or approved.")] = "approved",
    parameter: Annotated[str | None, typer.Option(help="One parameter; all of the station unless said.")] = None,
    document: Document = None,
    decision: Again = None,
) -> None:
    """Record how far the data of a station's days were checked. What comes later sets an approved day back to provisional."""
    row = {"station_id": station, "parameter": parameter, "first_day": since, "last_day": until, "grade": grade}
    _decide("approval", row | {"reason_vi": reason, "decided_by": by, "document": document, "approval_id": decision})


@app.command()
def propose_qc(
    station: str,
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First approved day to learn from.")],
    until: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last approved day to learn from.")],
    valid_from: Annotated[datetime, typer.Option("--valid-from", formats=["%Y-%m-%d"], help="First day that the thresholds shall hold for.")],
    parameter: Annotated[str | None, typer.Option(help="One parameter; all of the station unless said.")] = None,
) -> None:
    """Propose thresholds of quality control from a station's approved days, as a CSV: sign it and put it into the inbox to put them in force."""
    from ingestion.ingest import contracts_of
    from lake.lake import LakeError, open_reader
    from marts.propose import LEAST_DAYS, LEAST_VALUES, approved, as_csv, propose

    s = settings()
    contract = contracts_of(s)["station_qc_threshold"]
    try:
        with open_reader(s) as con:
            rows = propose(con, approved(station, since.date(), until.date(), parameter))
    except LakeError as error:
        _fail(str(error))
    if not rows:
        _fail(
            f"nothing to propose: expected {LEAST_VALUES} valid values on {LEAST_DAYS} approved days of {station}, found fewer; `tnmt approve` first"
        )
    print(as_csv(rows, {name: column.header[0] for name, column in contract.columns.items()}, valid_from.date()), end="")


@app.command()
def as_known(
    moment: Annotated[str, typer.Argument(metavar="TIME", help="The past moment (GMT+7), such as 2026-11-24T23:59.")],
    out_file: Annotated[Path, typer.Argument(metavar="OUT", help="DuckDB file to write.")],
    since: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First environment day wanted.")],
) -> None:
    """Build the environment marts as they were known at a past moment, into a file of their own."""
    from marts.as_known import build_as_known
    from marts.build import BuildFailed

    s = settings()
    at = _moment(moment, s, "TIME")
    if at > (newest := max(now(), default_as_of(s))):
        _fail(f"TIME: expected a moment up to now ({newest:%Y-%m-%dT%H:%M}), found {at:%Y-%m-%dT%H:%M}: nobody knows yet what will be received", 2)
    if not date(1990, 1, 1) <= since.date() <= at.date():
        _fail(f"--from: expected a day from 1990-01-01 up to the moment asked for ({at:%Y-%m-%d}), found {since.date()}", 2)
    try:
        rows = build_as_known(s, at, since.date(), out_file)
    except (BuildFailed, FileExistsError) as error:
        _fail(str(error))
    for name, count in rows.items():
        print(f"{name}: {count:,} rows")
    print(f"known at {moment}: {out_file}")


@app.command()
def extract(
    agreement: str,
    by: Annotated[str | None, typer.Option(help="Who asked for it (for the sharing log); the user's name unless said.", callback=_not_blank)] = None,
) -> None:
    """Make the data package of an agreement, and note in the lake what was handed over, when and to whom."""
    from sharing.extract import ExtractRefused, make_extract

    try:
        made = make_extract(settings(), agreement, requested_by=by or getpass.getuser(), now=now(), as_of=default_as_of(settings()))
    except ExtractRefused as error:
        _fail(str(error))
    print(f"{made.path}: {made.rows} rows in {len(made.files)} files, handed over to {made.receiver}")


@app.command()
def serve(port: int = 8088, dagster_port: int = 3000, stay: Annotated[bool, typer.Option(help="Stay until interrupted.")] = True) -> None:
    """Start Superset and Dagster on 127.0.0.1 and print addresses and log-in."""
    from orchestration.serve import ServeError
    from orchestration.serve import serve as do

    try:
        do(settings(), port, dagster_port, stay=stay, say=lambda text: print(text, flush=True))
    except ServeError as error:
        _fail(str(error))


@app.command()
def live(
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks into the inboxes.")] = 5.0,
    once: Annotated[bool, typer.Option(help="One increment, then end.")] = False,
) -> None:
    """Stay, and bring station files from the inbox into the serving file within seconds; Dagster shows each increment."""
    import signal
    import threading

    from lake.lake import LakeError
    from marts.build import BuildFailed
    from orchestration.live import GRACE_SECONDS, Increment, Live, abandon

    s = settings()
    stopped: list[int] = []

    def say(what: Increment | str) -> None:
        if isinstance(what, str):
            err.print(what, style="red", markup=False, highlight=False)
        else:
            print(
                f"{now():%H:%M:%S} {what.deliveries} deliveries, {what.rows} rows, in the serving file after {what.latency:.1f} s "
                f"(waited {what.waited}, taken in {what.took_in}, marts {what.built}, served {what.served})",
                flush=True,
            )

    try:
        worker = Live(s)
        if once:
            increment = worker.increment(now(), now)
            for text in worker.troubles:
                say(text)
            if increment:
                worker.report(increment)
                say(increment)
            return

        def stop(number: int, frame: object) -> None:
            if not stopped:
                timer = threading.Timer(GRACE_SECONDS, abandon)
                timer.daemon = True
                timer.start()
            stopped.append(number)

        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, stop)
        print(f"live: looks every {every} s into the inboxes of {s.home}", flush=True)
        worker.stay(now, every, say, lambda: bool(stopped))
    except (LakeError, BuildFailed) as error:
        _fail(str(error))


@app.command()
def accounts(
    passwords: Annotated[Path, typer.Argument(metavar="OUT", help="CSV of the new passwords, to hand out and then to destroy.")],
    reset: Annotated[str | None, typer.Option(help="A station whose account gets a new password.")] = None,
) -> None:
    """Bring the intake accounts to the register of stations. New passwords are written once, here; the platform keeps hashes."""
    from intake.accounts import issue, registered, write_private
    from lake.lake import LakeError

    s = settings()
    if passwords.exists():
        _fail(f"{passwords} is there already; name a new file, so that no password is lost", 2)
    try:
        stations = registered(s, now().date())
        new = issue(s, stations, reset)
    except LakeError as error:
        _fail(str(error))
    except KeyError as error:
        _fail(str(error.args[0]), 2)
    print(f"{len(stations)} accounts in use, {len(new)} with a new password")
    if new:
        write_private(passwords, "".join(f"{name},{password}\n" for name, password in [("tai_khoan", "mat_khau"), *new.items()]))
        print(f"passwords in {passwords} (readable by you alone)")


@app.command()
def intake() -> None:
    """Stay, and take in the files that stations send by FTPS and SFTP; complete ones go into the inbox."""
    import signal
    import threading

    from ingestion.ingest import contracts_of
    from intake.accounts import read
    from intake.drop import AlreadyRunning
    from intake.server import Intake

    s = settings()
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: ended.set())
    try:
        with Intake(s, contracts_of(s)["station_txt"]) as server:
            kind = "FTP and FTPS" if s.intake_plain_ftp else "FTPS"
            print(f"intake: {kind} on {s.intake_host}:{server.ftp.port}, SFTP on {s.intake_host}:{server.sftp.port}", flush=True)
            if not read(s):
                print("no account yet: make them with `tnmt accounts OUT`", flush=True)
            while not ended.wait(1):
                if stopped := [name for name, serves in server.serving().items() if not serves]:
                    _fail(f"the intake ends, as {' and '.join(stopped)} did; see the log above and start it again")
    except AlreadyRunning as error:
        _fail(f"the intake cannot start: {error}")
    except OSError as error:
        _fail(f"the intake cannot start: {error}; see TNMT_INTAKE_HOST, TNMT_INTAKE_FTP_PORT, TNMT_INTAKE_SFTP_PORT in docs/intake.md")


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option(help="Look at every data file, every key and every row's delivery too.")] = False, as_json: Json = False
) -> None:
    """Check everything that the platform needs, and say what to do about what is missing."""
    from orchestration.doctor import examine

    checks = examine(settings(), deep=deep)
    if as_json:
        print(json.dumps([asdict(c) for c in checks], ensure_ascii=False))
    else:
        for c in checks:
            out.print(f"{'[green]ok[/]  ' if c.ok else '[red]bad[/] '} {c.name}: {c.found}" + ("" if c.ok else f" — {c.todo}"), highlight=False)
    if not all(c.ok for c in checks):
        raise typer.Exit(5)


def main() -> None:
    """Entry point of `tnmt`: an error that a person can do something about is one line and exit code 1, no traceback."""
    _logs()
    os.umask(0o027)
    try:
        app()
    except Exception as error:
        if (told := _told(error)) is None or os.environ.get("TNMT_LOG", "").upper() == "DEBUG":
            raise
        err.print(told, style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(4 if type(error).__name__ == "LakeLocked" else 1)


def _told(error: Exception) -> str | None:
    """What a command says of an error that none of its steps expected; None for a fault of the program, whose traceback is wanted."""
    import duckdb

    from ingestion.contract import ContractError
    from lake.extensions import ExtensionMissing
    from lake.lake import LakeError
    from lake.lock import LakeLocked
    from lake.query import QueryRefused
    from quality.rules import SuiteError

    if isinstance(error, (SettingsError, LakeError, LakeLocked, ContractError, SuiteError, ExtensionMissing, QueryRefused, ConnectionError)):
        return str(error)
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, duckdb.OutOfMemoryException):
        return f"DuckDB needs more memory than TNMT_MEMORY_LIMIT={settings().memory_limit} allows: {first}. Raise it, or set TNMT_THREADS=1"
    if isinstance(error, OSError):
        return f"{first}. Check that the disk is not full, and that TNMT_HOME ({os.environ.get('TNMT_HOME', 'the default')}) belongs to the user who runs this"
    if isinstance(error, duckdb.DataError | duckdb.IntegrityError | duckdb.InvalidInputException):
        return (
            f"the lake refused a value ({type(error).__name__}; which one is not said, as it may be a person's): TNMT_LOG=DEBUG shows it, and where"
        )
    if isinstance(error, duckdb.Error):
        return f"the lake refused a step: {first}. `tnmt doctor --deep` looks for damage; TNMT_LOG=DEBUG shows where it happened"
    return None
