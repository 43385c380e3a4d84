"""kill -9 between any two stages, then a second run: the lake is what it would have been without the kill."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from lake.faults import STAGES
from lake.lake import open_writer
from lake.serving import current
from marts.build import plan
from tests.tiny import AS_OF, FEW, Undisturbed, compare, prepare, state, tnmt
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


def test_what_a_killed_build_made_is_judged_by_the_next_one(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Killed after dbt, before it was noted what broke its tests: nothing is out of date then, and it is built and tested all the same."""
    home = tmp_path / "home"
    shutil.copytree(undisturbed.home, home, symlinks=True)
    s = Settings(home=home)
    with open_writer(s, "test") as con:
        con.execute("DELETE FROM lake.ops.built WHERE model = 'marts_programme.indicator_progress'")
    killed = tnmt(home, "run", TNMT_KILL_AT="build.after")
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    cut = plan(s, AS_OF)
    assert cut.done and cut.stale == () and cut.reference
    assert plan(s, AS_OF, part="programme").done
    again = tnmt(home, "run")
    assert again.returncode in (0, 3), again.stderr
    assert not plan(s, AS_OF).done and not plan(s, AS_OF, part="programme").done
