"""What tests share: asking for things that a machine may lack, and small platforms to work on."""

from __future__ import annotations

import io
import os
import socket
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from ingestion.ingest import contracts_of, shared_folders
from orchestration.inboxes import waiting
from tnmt.settings import Settings


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def need(name: str, available: bool, why: str) -> None:
    """Skips the test where `name` is not on this machine; fails it where the environment's REQUIRE names it."""
    if available:
        return
    if name in os.environ.get("REQUIRE", "").split(","):
        pytest.fail(f"REQUIRE names {name}, but it is missing: {why}")
    pytest.skip(f"{name}: {why}")


def command(*arguments: str) -> tuple[int, str]:
    """The command `tnmt` in this process, on the platform that the environment names: exit code, and all that it said on one line.

    What a person would see as a traceback is raised.
    """
    from cli.main import main

    said, argv = io.StringIO(), sys.argv
    sys.argv = ["tnmt", *arguments]
    code = 0
    try:
        with redirect_stdout(said), redirect_stderr(said):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = argv
    return code, " ".join(said.getvalue().split())


def real_data() -> Path:
    """The folder of real measurements, cadastre and scans (docs/real-data.md), or a skip."""
    text = os.environ.get("TNMT_REAL_DATA", "")
    need("real-data", bool(text) and Path(text).is_dir(), "TNMT_REAL_DATA names no folder; see docs/real-data.md")
    return Path(text)


def all_waiting(settings: Settings, *, live: bool = False) -> list[str]:
    """What the sensors of all sources see in their inboxes."""
    contracts = contracts_of(settings)
    shared = shared_folders(contracts.values())
    return sorted(name for c in contracts.values() for name in waiting(settings, c, shared=shared, live=live))
