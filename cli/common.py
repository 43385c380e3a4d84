"""What the commands share: how they print, fail and read options."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tnmt.clock import as_local, default_as_of, now
from tnmt.settings import Settings

err = Console(stderr=True, soft_wrap=True)
# a pipe has no width: wide enough there that no table is cut
out = Console() if sys.stdout.isatty() else Console(width=2_000)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for another program.")]


def fail(message: str, code: int = 1) -> NoReturn:
    """Ends the command with an error: 1 is one that the message explains, 2 wrong usage (cli/main.py lists the codes)."""
    err.print(message, style="red", markup=False, highlight=False)
    raise typer.Exit(code)


def moment_of(text: str | None, s: Settings, option: str = "--as-of") -> datetime:
    """The moment of an option: the platform's own where none is given, the clock for `now`."""
    if text is None:
        return default_as_of(s)
    if text == "now":
        return now()
    try:
        return as_local(datetime.fromisoformat(text))
    except ValueError:
        fail(f"{option}: expected a time such as 2026-11-24T23:59 or `now`, found {text!r}", 2)


def day_of(option: str, text: str) -> date:
    """The day of an option."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        fail(f"{option}: expected a day such as 2026-11-24, found {text!r}", 2)


def not_blank(value: str | None) -> str | None:
    """A text that people read later: blanks alone are none."""
    if value is not None and not value.strip():
        raise typer.BadParameter("expected a text, found none")
    return value


def progress() -> Progress:
    """A spinner on the terminal, gone when it ends."""
    return Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err, transient=True)


def print_rows(names: list[str], rows: list[tuple[Any, ...]], as_json: bool) -> None:
    """Rows as a table, or as JSON."""
    if as_json:
        print(json.dumps([dict(zip(names, r, strict=True)) for r in rows], default=str, ensure_ascii=False))
        return
    table = Table(*names)
    for r in rows:
        table.add_row(*("" if v is None else str(v) for v in r))
    out.print(table)


Reason = Annotated[str, typer.Option(help="Why; people read it in reports.", callback=not_blank)]
By = Annotated[str, typer.Option(help="Post and unit that decides (no personal name).", callback=not_blank)]
Document = Annotated[str | None, typer.Option(help="Number of the paper behind it.", callback=not_blank)]
Again = Annotated[str | None, typer.Option("--id", help="Number of an earlier decision, to put this one in its place.", callback=not_blank)]
