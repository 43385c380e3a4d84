"""Tests live on homes of their own: a platform in the same clone (`make run`) changes no result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tnmt.settings import settings

VAR = Path(__file__).resolve().parents[2] / "var"


def test_no_test_opens_the_platform_beside_it() -> None:
    """Reading or writing there fails the test that does it."""
    for mode in ("r", "w"):
        with pytest.raises(RuntimeError, match="beside it"):
            (VAR / "catalog.sqlite").open(mode)


def test_a_test_without_a_home_of_its_own_has_none() -> None:
    """`make test` names the clone's platform in TNMT_HOME; the session does not hand it on, to children either."""
    assert not settings().home.is_relative_to(VAR)
    child = subprocess.run([sys.executable, "-c", "import os; print(os.environ['TNMT_HOME'])"], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == os.environ["TNMT_HOME"]
    with pytest.raises(OSError):
        Path(os.environ["TNMT_HOME"]).mkdir(parents=True)
