"""What leaves the house."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from cli.common import fail, not_blank
from tnmt.clock import default_as_of, now
from tnmt.settings import settings

app = typer.Typer()


@app.command()
def extract(
    agreement: str,
    by: Annotated[str | None, typer.Option(help="Who asked for it (for the sharing log); the user's name unless said.", callback=not_blank)] = None,
) -> None:
    """Make the data package of an agreement, and note in the lake what was handed over, when and to whom."""
    from sharing.extract import ExtractRefused, make_extract

    try:
        made = make_extract(settings(), agreement, requested_by=by or getpass.getuser(), now=now(), as_of=default_as_of(settings()))
    except ExtractRefused as error:
        fail(str(error))
    print(f"{made.path}: {made.rows} rows in {len(made.files)} files, handed over to {made.receiver}")
