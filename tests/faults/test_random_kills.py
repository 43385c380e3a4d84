"""kill -9 at any moment of whatever a platform does – run, live increment, upkeep, intake, extract – and again until it ends: the state of a calm platform.

Moments are drawn from a seed over the time that the step took when nothing disturbed it. KILLS says how many on each catalog (`make faults`: 100).
"""

from __future__ import annotations

import ftplib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from intake import accounts
from lake.lake import open_reader
from lake.serving import current
from tests.postgres_kit import Server
from tests.tiny import AS_OF, Undisturbed, compare, prepare, state
from tnmt.settings import ROOT, Settings

KILLS = int(os.environ.get("KILLS", "0"))
FEWEST = {"sqlite": 5, "postgres": 4}
"""Kills where KILLS says nothing: about one of each step."""

SEED = int(os.environ.get("SEED", "12"))

LIVE = "import sys; from datetime import datetime; from orchestration.live import Live; from tnmt.settings import settings; Live(settings()).increment(datetime.fromisoformat(sys.argv[1]))"
"""One increment of the live worker at a fixed moment: what it writes can be compared."""


@dataclass(frozen=True)
class Step:
    """One thing that the platform does: what is sent before it – by the stations themselves to the intake, where the step is that –, and the command."""

    name: str
    command: tuple[str, ...]
    part: int | None = None


STEPS = (
    Step("run", ("tnmt", "run"), part=0),
    Step("live", ("python", "-c", LIVE, AS_OF.isoformat()), part=1),
    Step("maintain", ("tnmt", "maintain", "--keep-days", "1")),
    Step("intake", ("tnmt", "intake"), part=2),
    Step("run again", ("tnmt", "run")),
    Step("extract", ("tnmt", "extract", "ioc", "--by", "thử")),
)


def _parts(inbox: Path) -> list[list[Path]]:
    """The sample in three parts: all but some station files; some of these; the others and what is sent again."""
    files = sorted(p.relative_to(inbox) for p in inbox.rglob("*") if p.is_file())
    station = [f for f in files if f.parts[0] == "station_txt"]
    return [[f for f in files if f.parts[0] != "station_txt"] + station[: len(station) // 2], station[len(station) // 2 : -60], station[-60:]]


def _send(inbox: Path, home: Path, part: list[Path]) -> None:
    for name in part:
        target = home / "inbox" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(target.name + ".part")
        shutil.copy2(inbox / name, half)
        half.rename(target)


def _start(step: Step, environment: dict[str, str]) -> subprocess.Popen[str]:
    program, *arguments = step.command
    command = [sys.executable if program == "python" else str(Path(sys.executable).parent / program), *arguments]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def _whole(step: Step, environment: dict[str, str]) -> float:
    """Runs the step to its end; returns the seconds that it took."""
    started = time.monotonic()
    done = _start(step, environment)
    said, _ = done.communicate()
    assert done.returncode in (0, 3), (step.name, done.returncode, said[-3000:])
    return time.monotonic() - started


def _killed(step: Step, environment: dict[str, str], after: float) -> bool:
    """Starts the step and kills it, children and all, after so many seconds; whether it was still running."""
    process = _start(step, environment)
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def _connected(port: int, station: str, password: str) -> ftplib.FTP:
    client = ftplib.FTP()
    client.encoding = "utf-8"
    client.connect("127.0.0.1", port, timeout=30)
    client.login(station, password)
    return client


def _upload(inbox: Path, settings: Settings, environment: dict[str, str], names: list[Path], after: float | None) -> bool:
    """Stations send files to an intake that is killed after so many seconds, and again what was not confirmed; whether it was running.

    What was confirmed has to be in the inbox, byte for byte. A file that the intake refuses by its name is put there as the others are.
    """
    step = next(s for s in STEPS if s.name == "intake")
    ports = {"TNMT_INTAKE_FTP_PORT": "0", "TNMT_INTAKE_SFTP_PORT": "0", "TNMT_INTAKE_PLAIN_FTP": "1"}
    stations = {n: n.name.rpartition("_")[0] for n in names}
    passwords = accounts.issue(settings, {s: (s,) for s in stations.values()})
    rest, refused, killed = list(names), list[Path](), False
    while rest:
        process = _start(step, environment | ports)
        assert process.stdout is not None
        timer = threading.Timer(after, os.killpg, (process.pid, signal.SIGKILL)) if after is not None else None
        if timer:
            timer.start()
        line = ""
        while process.poll() is None and not (said := re.search(r":(\d+), SFTP", line)):
            line = process.stdout.readline()
        try:
            for station in sorted({stations[n] for n in rest}) if process.poll() is None and said else ():
                client = _connected(int(said[1]), station, passwords[station])
                for name in [n for n in rest if stations[n] == station]:
                    try:
                        with (inbox / name).open("rb") as file:
                            client.storbinary(f"STOR {name.name}", file)
                    except ftplib.error_perm:
                        refused.append(name)
                    rest.remove(name)
                client.quit()
        except (OSError, EOFError, ftplib.Error):
            assert after is not None, "the intake fell out though nothing disturbed it"
        if timer:
            timer.cancel()
        after = None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
        killed |= process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), process.returncode
    there = {(p.name, p.read_bytes()) for p in (settings.inbox / "station_txt").rglob("*") if p.is_file()}
    lost = [n for n in names if n not in refused and (n.name, (inbox / n).read_bytes()) not in there]
    assert not lost, f"confirmed by the intake and not in the inbox: {lost}"
    _send(inbox, settings.home, refused)
    return killed


def _story(inbox: Path, settings: Settings, environment: dict[str, str], moment: Callable[[Step], float | None], took: dict[str, float]) -> int:
    """All steps in turn, each killed once at its `moment` where there is one, and then done whole. Returns the kills, notes what a step took."""
    kills = 0
    parts = _parts(inbox)
    for step in STEPS:
        after, started = moment(step), time.monotonic()
        if step.name == "intake" and step.part is not None:
            kills += _upload(inbox, settings, environment, parts[step.part], after)
            took[step.name] = time.monotonic() - started
            continue
        if step.part is not None:
            _send(inbox, settings.home, parts[step.part])
        if after is not None:
            kills += _killed(step, environment, after)
        took[step.name] = _whole(step, environment)
    return kills


def _platform(home: Path, inbox: Path, catalog: str) -> tuple[Settings, dict[str, str]]:
    extra = {"TNMT_CATALOG": catalog} if catalog else {}
    empty = home.parent / f"{home.name}-empty"
    empty.mkdir()
    prepare(home, empty, **extra)
    return Settings(home=home, **({"catalog": catalog} if catalog else {})), {**os.environ, "TNMT_HOME": str(home), **extra}


def _left(settings: Settings) -> dict[str, Any]:
    """What readers, receivers and the next run find: tables, the balance of the ledger, the serving file, packages."""
    held = state(settings)
    with open_reader(settings) as con:
        unbalanced = con.execute("""
            SELECT name FROM lake.ops.delivery
            WHERE status = 'landed' OR (status <> 'blocked' AND rows_read <> rows_accepted + rows_duplicate + rows_quarantined)""").fetchall()
        twice = con.execute("SELECT delivery_id FROM lake.ops.landed GROUP BY ALL HAVING count(*) > 1").fetchall()
        handed = con.execute("SELECT agreement, product, files, sha256 FROM lake.ops.handover WHERE status = 'handed_over'").fetchall()
    assert not unbalanced and not twice, (unbalanced, twice)
    packages = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (settings.home / "extracts").rglob("*") if p.is_file()}
    assert handed and all(sha in packages for _, _, _, hashes in handed for sha in hashes), "a package that was handed over is there, byte for byte"
    waiting = [p for p in settings.inbox.rglob("*") if p.is_file() and "scan_file" not in p.parts]
    assert not waiting, waiting[:5]
    path = current(settings)
    assert path is not None
    with duckdb.connect(str(path), read_only=True) as con:
        names = [r[0] for r in con.execute("SELECT name FROM served_table ORDER BY 1").fetchall()]
        held["served"] = {n: con.execute(f"SELECT count(*) FROM {n}").fetchall() for n in names}
    return held


@pytest.fixture(scope="module")
def calm(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, float]]:
    """What is left where nothing was killed, and how long each step took."""
    home = tmp_path_factory.mktemp("calm") / "home"
    settings, environment = _platform(home, undisturbed.inbox, "")
    took: dict[str, float] = {}
    assert _story(undisturbed.inbox, settings, environment, lambda _: None, took) == 0
    return _left(settings), took


@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("catalog", ["sqlite", "postgres"])
def test_kills_at_any_moment_leave_what_a_calm_platform_leaves(
    catalog: str, calm: tuple[dict[str, Any], dict[str, float]], undisturbed: Undisturbed, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted, expected = KILLS or FEWEST[catalog], calm[0]
    draw, made, story = random.Random(SEED), 0, 0
    while made < wanted:
        address = ""
        if catalog == "postgres":
            server: Server = request.getfixturevalue("postgres")
            server.execute(f"CREATE DATABASE kills_{story}")
            address = f"postgres:{server.dsn(f'kills_{story}')}"
        home = tmp_path / str(story)
        settings, environment = _platform(home, undisturbed.inbox, address)
        told: list[str] = []

        def moment(step: Step, told: list[str] = told) -> float:
            after = draw.uniform(0.3, max(0.6, calm[1][step.name]))
            told.append(f"{step.name} after {after:.2f} s")
            return after

        try:
            made += _story(undisturbed.inbox, settings, environment, moment, {})
            found = _left(settings)
            served = found.pop("served")
            compare(found, {k: v for k, v in expected.items() if k != "served"}, "killed")
            assert served == expected["served"]
        except AssertionError as error:
            raise AssertionError(f"seed {SEED}, story {story} on {catalog}, killed: {told}") from error
        shutil.rmtree(home)
        story += 1
    print(json.dumps({"catalog": catalog, "kills": made, "stories": story, "seed": SEED}))
