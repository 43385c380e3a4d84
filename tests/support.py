"""What tests share: asking for things that a machine may lack, and small platforms to work on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest


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


def real_data() -> Path:
    """The folder of real measurements, cadastre and scans (docs/real-data.md), or a skip."""
    text = os.environ.get("TNMT_REAL_DATA", "")
    need("real-data", bool(text) and Path(text).is_dir(), "TNMT_REAL_DATA names no folder; see docs/real-data.md")
    return Path(text)
