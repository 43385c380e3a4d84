"""kill -9 between any two stages, then a second run: the lake is what it would have been without the kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lake.faults import STAGES
from lake.lake import open_reader
from lake.serving import current
from simulator.sample import generate
from simulator.size import Size
from tests.conftest import AS_OF, END, table_rows
from tnmt.settings import Settings

TINY = Size("tiny", 1, 0, 0, 1, 1, 1, 120, 6, 40)
INGEST = tuple(s for s in STAGES if s.split(".")[0] in ("landing", "gate", "publish"))
FEW = ("--no-marts", "station_txt", "parcel_gpkg", "dossier")
TNMT = str(Path(sys.executable).parent / "tnmt")


def _tnmt(home: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TNMT, *arguments], env={**os.environ, "TNMT_HOME": str(home), **extra}, capture_output=True, text=True, check=False)


def _run(home: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    # the files of the inbox arrive at the sample's own time in every run, as `ops` alone may tell runs apart
    return _tnmt(home, "run", *arguments, **extra)


def _state(home: Path) -> dict:
    """Everything that a run leaves but its own ledger, and of the ledger what the marts are computed from."""
    with open_reader(Settings(home=home)) as con:
        con.execute("LOAD spatial")
        schemas = [r[0] for r in con.execute("SELECT schema_name FROM information_schema.schemata WHERE catalog_name = 'lake' ORDER BY 1").fetchall()]
        wanted = [s for s in schemas if s in ("clean", "quarantine") or (s.startswith("marts_") and s != "marts_operations")]
        affected = con.execute("SELECT DISTINCT source, target, unit, day FROM lake.ops.affected ORDER BY ALL").fetchall()
        return {schema: table_rows(con, schema) for schema in wanted} | {"ops": {"affected": affected}}


def _prepare(home: Path, inbox: Path) -> None:
    assert _tnmt(home, "init").returncode == 0
    # each platform has a key of its own: with the same one, tokens can be compared too
    (home / "secrets" / "token.key").write_text("0" * 64)
    shutil.copytree(inbox, home / "inbox", dirs_exist_ok=True)
    (home / "sample.json").write_text(f'{{"size": "tiny", "seed": 1, "end": "{END}", "as_of": "{AS_OF.isoformat()}"}}')


def _compare(home: Path, expected: dict, stage: str) -> None:
    state = _state(home)
    assert sorted(state) == sorted(expected)
    for schema, tables in expected.items():
        for name, rows in tables.items():
            assert state[schema][name] == rows, (stage, schema, name)


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing killed: its inbox, and what it left after the ingest and after the build."""

    inbox: Path
    ingested: dict
    whole: dict


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    base = tmp_path_factory.mktemp("kill")
    generate(base / "sample", Settings().reference, 1, END, TINY)
    _prepare(base / "home", base / "sample")
    done = _run(base / "home", *FEW)
    assert done.returncode == 0, done.stderr
    ingested = _state(base / "home")
    done = _run(base / "home")
    assert done.returncode == 0, done.stderr
    return Undisturbed(base / "sample", ingested, _state(base / "home"))


@pytest.mark.parametrize("stage", INGEST)
def test_second_ingest_mends_a_killed_one(stage: str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    home = tmp_path / "home"
    _prepare(home, undisturbed.inbox)
    killed = _run(home, *FEW, TNMT_KILL_AT=stage)
    assert killed.returncode == -signal.SIGKILL, f"{stage} was not reached: {killed.stdout}{killed.stderr}"
    again = _run(home, *FEW)
    assert again.returncode == 0, again.stderr
    _compare(home, undisturbed.ingested, stage)


def test_next_run_mends_kills_at_each_stage_in_turn(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """One platform, killed wherever a run can be: the thirteenth run ends and its marts are those of the undisturbed one."""
    home = tmp_path / "home"
    _prepare(home, undisturbed.inbox)
    for stage in STAGES:
        killed = _run(home, TNMT_KILL_AT=stage)
        assert killed.returncode == -signal.SIGKILL, f"{stage} was not reached: {killed.stdout}{killed.stderr}"
    again = _run(home)
    assert again.returncode == 0, again.stderr
    _compare(home, undisturbed.whole, "each")
    assert current(Settings(home=home)) is not None
    assert not list((home / "serving").glob(".serving*"))
