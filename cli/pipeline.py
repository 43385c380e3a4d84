"""From the inboxes to the serving file, and how it stands."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from cli.common import Json, day_of, err, fail, moment_of, out, progress
from tnmt.clock import default_as_of, now
from tnmt.settings import settings

app = typer.Typer()


class Engine(StrEnum):
    """What computes the models with `meta.scale_out`."""

    DUCKDB = "duckdb"
    SPARK = "spark"


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
    from ingestion.requeue import requeue
    from ingestion.takeover import take_over
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
    moment = now if as_of in (None, "now") and arrival is now else moment_of(as_of, s)
    replayed = day_of("--day", day) if day else None
    try:
        if replayed:
            with open_writer(s, f"replay {replayed}") as con:
                take_over(con, contracts_of(s).values(), now())
                for name in source or contracts_of(s):
                    requeue(con, name, day=replayed, all_of_day=True)
        with progress() as bar:
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
        fail(str(error), 4)
    except (LakeError, ContractError, BuildFailed) as error:
        fail(str(error))
    except UnknownSource as error:
        fail(str(error.args[0]), 2)
    loaded = [r for r in result.ingested.loaded.values() if r.deliveries]
    built = bool(result.built and result.built.done)
    with open_reader(s) as con:  # of earlier runs too
        stopped = {status: blocked_now(con, source or None, status) for status in STOPPED}
    failed = result.ingested.errors | result.ingested.not_cleared
    if loaded or built or failed:
        contracts = contracts_of(s)
        targets = {contracts[r.source].target: "" for r in loaded} | {
            contracts[n].target: f"{n}: {why}" for n, why in failed.items() if n in contracts
        }
        tell_dagster(s, targets, built=built)
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
        fail(str(error))


@app.command()
def status(as_json: Json = False) -> None:
    """What is fresh, late, broken or quarantined, source by source."""
    from ingestion.blocked import STOPPED, blocked_now
    from ingestion.contract import ContractError
    from ingestion.ingest import contracts_of
    from ingestion.landing import told_unclaimed
    from ingestion.ledger import left_unclaimed, standing
    from lake.lake import LakeError, lock_holder, open_reader
    from lake.serving import as_of, current
    from marts.build import held_back, told_held

    s = settings()
    try:
        con = open_reader(s)
    except LakeError as error:
        fail(str(error))
    moment, broken = default_as_of(s), list[str]()
    try:
        contracts_of(s)
    except ContractError as error:
        broken.append(f"broken: nothing is taken in until this is mended: {error}")
    records, unclaimed = standing(con, moment), left_unclaimed(con)
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
