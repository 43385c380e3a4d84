"""kill -9 between any two stages, then a second run: the lake is what it would have been without the kill."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lake.faults import STAGES
from lake.serving import current
from tests.tiny import FEW, Undisturbed, compare, prepare, state, tnmt
from tnmt.settings import Settings

INGEST = tuple(s for s in STAGES if s.split(".")[0] in ("landing", "gate", "publish"))


@pytest.mark.parametrize("stage", INGEST)
def test_second_ingest_mends_a_killed_one(stage: str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepare(home, undisturbed.inbox)
    killed = tnmt(home, "run", *FEW, TNMT_KILL_AT=stage)
    assert killed.returncode == -signal.SIGKILL, f"{stage} was not reached: {killed.stdout}{killed.stderr}"
    again = tnmt(home, "run", *FEW)
    assert again.returncode in (0, 3), again.stderr
    compare(state(Settings(home=home)), undisturbed.ingested, stage)


def test_next_run_mends_kills_at_each_stage_in_turn(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """One platform, killed wherever a run can be: the thirteenth run ends and its marts are those of the undisturbed one."""
    home = tmp_path / "home"
    prepare(home, undisturbed.inbox)
    for stage in STAGES:
        killed = tnmt(home, "run", TNMT_KILL_AT=stage)
        assert killed.returncode == -signal.SIGKILL, f"{stage} was not reached: {killed.stdout}{killed.stderr}"
    again = tnmt(home, "run")
    assert again.returncode in (0, 3), again.stderr
    compare(state(Settings(home=home)), undisturbed.whole, "each")
    assert current(Settings(home=home)) is not None
    assert not list((home / "serving").glob(".serving*"))
