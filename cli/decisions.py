"""Decisions of people: corrections, approvals, thresholds."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

import typer

from cli.common import Again, By, Document, Reason, fail
from tnmt.clock import now
from tnmt.settings import settings

app = typer.Typer()


def _decide(source: str, values: dict[str, Any]) -> None:
    """Leaves the decision in its inbox and takes it in; marts see it at the next `tnmt run`."""
    from ingestion.decide import DecisionRefused, decide
    from ingestion.ingest import contracts_of, ingest
    from ingestion.ledger import came_of, why_refused
    from lake.lake import LakeError, open_reader
    from lake.lock import LakeLocked

    s = settings()
    moment = now()
    try:
        path, number = decide(s, contracts_of(s)[source], values, moment)
        ingested = ingest(s, now=now, run_id=uuid.uuid4().hex[:12], only=[source])
    except DecisionRefused as error:
        fail(str(error), 2)
    except LakeLocked as error:
        fail(f"{error}; the decision waits in the inbox and is taken in by the next run", 4)
    except LakeError as error:
        fail(str(error))
    # of its own file alone: workbooks of decisions come into the same inbox, and what is wrong with those is told by `tnmt run`
    with open_reader(s) as con:
        status, refused = came_of(con, source, path.name)
        reasons = why_refused(con, source, path.name)
    if source in ingested.errors and status in (None, "landed"):
        fail(f"not taken yet: {ingested.errors[source]}; the decision was left in the inbox or is landed, and the next run tries again")
    if status != "published" or refused:
        done = ingested.loaded.get(source)  # not there where another format of the same inbox failed
        fail(f"not taken: {'; '.join(reasons or (done.problems + done.aside if done else [])) or status or ingested.errors.get(source, '')}")
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
        fail(str(error))
    if not rows:
        fail(
            f"nothing to propose: expected {LEAST_VALUES} valid values on {LEAST_DAYS} approved days of {station}, found fewer; `tnmt approve` first"
        )
    print(as_csv(rows, {name: column.header[0] for name, column in contract.columns.items()}, valid_from.date()), end="")
