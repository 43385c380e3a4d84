"""The command line. Thin: it reads options, calls the rooms, prints what they return.

Exit codes: 0 done; 1 an error that the message explains; 2 wrong usage; 3 done, but a source failed, a delivery is
blocked, a mart is held back, or more rows or files of a source were refused than its contract tolerates; 4 the lake is being written by another process; 5 `doctor`
found something missing.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog
import typer

from cli import decisions, handover, pipeline, platform, quarantine, questions, stations
from cli.common import err
from tnmt.settings import SettingsError, settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Kho dữ liệu dùng chung ngành tài nguyên và môi trường."
)
for group in (platform, pipeline, decisions, questions, handover, stations):
    app.add_typer(group.app)
app.add_typer(quarantine.app, name="quarantine")


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


def main() -> None:
    """Entry point of `tnmt`: an error that a person can do something about is one line and exit code 1, no traceback."""
    _logs()
    os.umask(0o027)
    try:
        app()
    except Exception as error:
        if (message := _told(error)) is None or os.environ.get("TNMT_LOG", "").upper() == "DEBUG":
            raise
        err.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
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
