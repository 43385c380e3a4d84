"""The resident worker: from a station's file in the inbox to a fresh status in the serving file, without a full build.

One process keeps what a new one pays each time (imports, the parsed dbt project: 15 s). An increment lands, gates and
publishes the small files, runs the models tagged `live` (tables that the next full build makes again), and replaces those
tables in a copy of the serving file. Days, backfills and upkeep stay with Dagster, which sees each increment as a
materialisation. On a SQLite catalog an increment waits while a build holds the lake; the wait is measured and told.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from ingestion.contract import ContractError
from ingestion.ingest import ingest
from ingestion.ingest import told as in_short
from ingestion.merge import TargetMismatch
from lake.lake import LakeError, exists, lock, no_lake
from lake.lock import LakeLocked
from lake.serving import current, refresh_serving
from marts.build import (
    BuildFailed,
    build,
    first_day_to_serve,
    plan,
    serve_marts,
)
from marts.live_models import LiveModels
from orchestration.inboxes import landed_sources, waiting_files
from orchestration.run import as_of_after
from quality.rules import SuiteError
from tnmt.settings import Settings

GRACE_SECONDS = 5.0
"""How long a worker that is told to end goes on with its increment, or with its wait for the lake."""

HEARTBEAT = "live.json"
STALE_SECONDS = 120.0
"""A heartbeat older than this is that of a worker that is gone."""

ROUND = 20_000
"""Files that one increment takes of a source, the newest: a backlog of weeks comes after what is new, round by round."""

FAILURES = (BuildFailed, LakeError, LakeLocked, ContractError, SuiteError, TargetMismatch, OSError, duckdb.Error)
"""What ends an increment and not the worker."""


@dataclass(frozen=True)
class Increment:
    """What one increment did, and how long each part took (s); `waited` is the wait for another writer."""

    deliveries: int
    rows: int
    sources: list[str]
    tables: list[str]
    oldest_file: float
    waited: float
    took_in: float
    built: float
    served: float
    whole_build: bool

    @property
    def latency(self) -> float:
        """Seconds from the oldest file's arrival in the inbox to the serving file that shows it."""
        return time.time() - self.oldest_file


def heartbeat(settings: Settings) -> dict[str, Any] | None:
    """What the live worker last said of itself, or None where none is running."""
    path = settings.home / HEARTBEAT
    try:
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            return None
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


class Live:
    """The worker of one platform."""

    def __init__(self, settings: Settings) -> None:
        """Parses the dbt project; raises LakeError where there is no lake, and BuildFailed where the project cannot be parsed."""
        self.settings = settings
        self._unserved: float | None = None
        self.troubles: list[str] = []
        """What the last increment could not take in, a line each."""
        self._failed: set[str] = set()
        """Sources that failed in it: what they had landed by then is gated as soon as that goes."""
        if not exists(settings):
            raise no_lake(settings)
        if (settings.home / HEARTBEAT).exists():
            self._unserved = time.time()  # a worker before this one did not end: what it took in may not be served yet
        self.models = LiveModels(settings)

    def increment(self, now: datetime, clock: Callable[[], datetime] | None = None) -> Increment | None:
        """Takes in what waits and refreshes what it changed; None where nothing waits, or nothing of it could be taken in (`troubles` says why).

        `now` is the as-of time, and the arrival, where no clock is given.

        Where no build was made yet, or the models or reference data are others than those of the last build, that build is made first.
        """
        oldest, sources = waiting_files(self.settings)
        if self._unserved is not None:
            oldest = min(oldest, self._unserved)
            sources = sorted({*sources, *landed_sources(self.settings)})
        elif self._failed:
            sources = sorted({*sources, *(self._failed & {*landed_sources(self.settings)})})
        if self._unserved is None and not sources:
            return None
        run_id = f"live-{uuid.uuid4().hex[:8]}"
        started = time.monotonic()
        with lock(self.settings, "live increment waits"):
            waited = time.monotonic() - started
        done = ingest(self.settings, now=clock or now, run_id=run_id, only=sources, most=ROUND)
        self.troubles, self._failed = done.troubles, set(done.errors)
        if not done.changed and self._unserved is None:
            return None
        self._unserved = oldest  # until the serving file has it, the next look goes on with it
        now = as_of_after(done.at, clock or now)
        took_in = time.monotonic()
        planned = plan(self.settings, now)
        whole = not planned.same_project or current(self.settings) is None
        if whole:
            build(self.settings, now, run_id, now)
            built = time.monotonic()
            serve_marts(self.settings, now)
        else:
            self.models.run(now, planned)
            built = time.monotonic()
            held = {h.table for h in planned.held}  # a table whose test failed stays as it is served until a whole build is good
            refresh_serving(self.settings, [t for t in self.models.tables if t not in held], now, self.models.lab_days, first_day_to_serve)
        served = time.monotonic()
        self._unserved = None
        return Increment(
            deliveries=sum(r.deliveries for r in done.loaded.values()),
            rows=sum(r.rows_accepted for r in done.loaded.values()),
            sources=sorted(done.loaded),
            tables=self.models.tables,
            oldest_file=oldest,
            waited=round(waited, 3),
            took_in=round(took_in - started - waited, 3),
            built=round(built - took_in, 3),
            served=round(served - built, 3),
            whole_build=whole,
        )

    def report(self, increment: Increment) -> None:
        """Tells Dagster of the tables that the increment made, where this platform has a Dagster home."""
        home = self.settings.home / "dagster"
        if not (home / "dagster.yaml").exists():
            return
        from orchestration.defs.increments import report

        metadata = {k: v for k, v in asdict(increment).items() if k not in ("sources", "tables", "oldest_file")} | {"latency": increment.latency}
        report(home, increment.sources, increment.tables, metadata)

    def stay(self, clock: Callable[[], datetime], seconds: float, say: Callable[[Increment | str], None], stop: Callable[[], bool]) -> None:
        """Looks every `seconds` until `stop`, and at once again after an increment that took something in.

        An increment that fails is told and tried again at the next look, nothing of it is lost. A source that fails, or a file that is never
        taken, is told when that is new.
        """
        said: list[str] = []
        while not stop():
            _write(self.settings.home / HEARTBEAT, {"pid": os.getpid(), "since_clock": clock().isoformat()})
            try:
                increment = self.increment(clock(), clock)
                for text in self.troubles:
                    if text not in said:
                        say(text)
                said = self.troubles
                if increment:
                    self.report(increment)
                    say(increment)
                    if increment.deliveries:
                        continue
            except FAILURES as error:
                say(in_short(error) if isinstance(error, duckdb.Error) else f"{type(error).__name__}: {error}")
            until = time.monotonic() + seconds
            while not stop() and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, 0.2))
        (self.settings.home / HEARTBEAT).unlink(missing_ok=True)


def abandon() -> None:
    """Ends this process in the middle of whatever it does, and the children that work for it.

    What it had not committed is as if it had not begun; the heartbeat stays, so that the next worker serves what this one took in.
    """
    for task in Path("/proc/self/task").glob("*/children"):
        for child in task.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
    os._exit(0)


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)
