"""Rows and deliveries that could not be placed."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer

from cli.common import By, Json, Reason, fail, print_rows
from tnmt.clock import now
from tnmt.settings import settings

app = typer.Typer(no_args_is_help=True, help="Rows and deliveries that could not be placed.")


@app.command("list")
def quarantine_list(source: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """Quarantined rows by source and reason, each with its newest example, and deliveries that are blocked or set aside."""
    from ingestion.ingest import contracts_of
    from ingestion.ledger import refused, sent_anything

    # of a source that was withdrawn the rows stay
    if source and source not in (known := contracts_of(settings())) and not sent_anything(settings(), source, now()):
        fail(f"there is no source {source}; there are {', '.join(known)}", 2)
    names, rows = refused(settings(), source, now())
    print_rows(names, rows, as_json)


@app.command("show")
def quarantine_show(delivery_id: str, as_json: Json = False) -> None:
    """A delivery and its quarantined rows: line, reasons, text."""
    from ingestion.ledger import delivery, refused_lines

    names, rows = delivery(settings(), delivery_id, now())
    if not rows:
        fail(f"there is no delivery {delivery_id}; `tnmt quarantine list` names those with bad rows", 2)
    print_rows(names, rows, as_json)
    print_rows(*refused_lines(settings(), delivery_id, now()), as_json)


@app.command("retry")
def quarantine_retry(source: str, delivery_id: Annotated[str | None, typer.Option(help="Only this delivery.")] = None) -> None:
    """Gate again from raw, after a fix of contract, register or suite."""
    from ingestion.ingest import contracts_of
    from ingestion.requeue import requeue
    from ingestion.takeover import take_over
    from lake.lake import open_writer

    s = settings()
    contracts = contracts_of(s)
    if source not in contracts:
        fail(f"there is no source {source}; there are {', '.join(contracts)}", 2)
    with open_writer(s, f"retry {source}") as con:
        take_over(con, contracts.values(), now())
        try:
            count = requeue(con, source, delivery_id=delivery_id)
        except LookupError as error:
            fail(str(error.args[0]), 2)
    print(f"{count} deliveries of {source} wait to be gated again; `tnmt run {source}` does it")


@app.command("close")
def quarantine_close(
    source: str,
    delivery_id: Annotated[str, typer.Option(help="The delivery; `tnmt status` names it.")],
    reason: Reason,
    by: By,
) -> None:
    """Settle a blocked delivery that was sent again under another name, or for which nobody waits. One sent again under its name settles itself."""
    from ingestion.blocked import close
    from ingestion.ingest import contracts_of
    from ingestion.takeover import take_over
    from lake.lake import open_writer

    with open_writer(settings(), f"close {source}") as con:
        take_over(con, contracts_of(settings()).values(), now())
        try:
            close(con, source, delivery_id, f"{reason} ({by})", now=now(), run_id=uuid.uuid4().hex[:12])
        except LookupError as error:
            fail(str(error.args[0]), 2)
    print(f"delivery {delivery_id} of {source} is closed; its bytes stay")
