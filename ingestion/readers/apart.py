"""Reading foreign formats (workbooks, maps, scans) in a process of its own, with limits of memory, time and file size.

Native libraries abort, crash, or take all memory on a hostile file, and no `except` helps against that. One resident child serves
many deliveries; it is started anew after a crash. A delivery that ends its reader is tried a second time by a fresh one, alone; after that it
is set aside (`Problem.sets_aside`), and the others go on. Rows come back as Parquet, so that they are nowhere whole in memory.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import structlog

from ingestion.cast import literal
from ingestion.contract import Contract
from ingestion.model import Delivery, Problem, reader_died, reader_failed
from ingestion.readers import reader_of
from tnmt.settings import Settings, bytes_of

log = structlog.get_logger()

APART = frozenset({"xlsx", "json", "vector", "scan"})
"""Readers that hand a sender's bytes to a native library, or hold a file as a whole."""
TRIES = 2
_BATCH_FILES = 256
_BATCH_BYTES = 32 << 20
_START_SECONDS = 120.0
_WALL = 4
"""Seconds of the clock that a second of the processor may take on a machine with other work."""
_SECONDS_EACH_MB = 2
_TWO_FROM = 2_000
"""Files from which on a second child pays: it costs a second of imports, a scan a millisecond."""


def read(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Fills the TEMP table `into` as `ingestion.readers` says, foreign formats by way of a child.

    Adds to the readers' problems: `reader_died`, `reader_failed`. Raises OSError where no child can be started.
    """
    if contract.format.reader not in APART:
        return reader_of(contract)(con, contract, deliveries, into)
    folder = _own_folder(settings)
    try:
        work = _Work(settings, contract, folder)
        parts = list(_parts(deliveries)) or [[]]
        if len(deliveries) > _TWO_FROM:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(work.do, parts))
        else:
            for part in parts:
                work.do(part)
        if not work.rows:
            work.do([])
        names = ", ".join(literal(str(p)) for p in work.rows)
        con.execute(f"CREATE OR REPLACE TEMP TABLE {into} AS SELECT * FROM read_parquet([{names}], union_by_name = true)")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return work.problems


def _own_folder(settings: Settings) -> Path:
    """A new folder that this user alone can read; those that processes of this machine left when they were killed go first."""
    home, host = settings.home / "tmp", socket.gethostname()
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"read-{host}-*-*"):
        if not Path(f"/proc/{left.name.split('-')[-2]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"read-{host}-{os.getpid()}-", dir=home))


def _parts(deliveries: Sequence[Delivery]) -> list[list[Delivery]]:
    """The deliveries in requests: a large one alone, wherever its bytes lie, small ones together."""
    parts: list[list[Delivery]] = []
    size = 0
    for delivery in deliveries:
        if not parts or len(parts[-1]) >= _BATCH_FILES or size + delivery.bytes > _BATCH_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(delivery)
        size += delivery.bytes
    return parts


class _Work:
    """One call of `read`: what its requests brought."""

    def __init__(self, settings: Settings, contract: Contract, folder: Path) -> None:
        self._settings, self._contract, self._folder = settings, contract, folder
        self.rows: list[Path] = []
        self.problems: dict[str, Problem] = {}

    def do(self, deliveries: list[Delivery]) -> None:
        """Reads them all; one that ends its child is tried again alone, and those beside it without it."""
        rest, tries = [deliveries], {d.delivery_id: 0 for d in deliveries}
        while rest:
            part = rest.pop()
            answer = _ask(self._settings, self._contract, part, self._folder)
            if answer.rows is not None:
                self.rows.append(answer.rows)
                self.problems |= answer.problems
                continue
            if answer.at is None or not part:
                raise OSError(
                    f"the process that reads {self._contract.format.reader} files cannot be started or fails before it opens one: {answer.why}"
                )
            guilty = part[answer.at]
            tries[guilty.delivery_id] += 1
            others = [p for p in (part[: answer.at], part[answer.at + 1 :]) if p]
            rest += others
            log.error(
                "reader failed", source=self._contract.source, delivery_id=guilty.delivery_id, name=guilty.name, error=answer.why, died=answer.died
            )
            log.debug("reader failed", delivery_id=guilty.delivery_id, at=answer.trace)
            if not answer.died:
                self.problems[guilty.delivery_id] = reader_failed(self._contract.source, answer.why)
            elif tries[guilty.delivery_id] >= TRIES:
                limits = f"{self._settings.reader_memory} bộ nhớ và {_seconds(self._settings, guilty)} giây xử lý"
                self.problems[guilty.delivery_id] = reader_died(self._contract.source, limits, answer.why)
            else:
                rest.append([guilty])


def _seconds(settings: Settings, delivery: Delivery) -> int:
    """Seconds of the processor that a delivery may take."""
    return int(settings.reader_seconds + _SECONDS_EACH_MB * (delivery.bytes >> 20))


@dataclass
class _Answer:
    """What came of a request: rows and problems, or why there are none and at which delivery that was."""

    rows: Path | None = None
    problems: dict[str, Problem] = field(default_factory=dict)
    at: int | None = None
    why: str = ""
    died: bool = False
    trace: str = ""


class _Child:
    """One process, started at its first request."""

    def __init__(self, settings: Settings) -> None:
        self.limits = (settings.reader_memory, str(settings.home))
        self.scratch = _own_folder(settings)
        self._errors = (self.scratch / "stderr").open("w+b")  # closed by `end`
        # it needs nothing that is secret here: neither log-ins of servers nor keys
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TNMT_")} | {
            "TMPDIR": str(self.scratch),
            "PYTHONUNBUFFERED": "1",
            # a Rust library that panics for want of memory waits for ever on itself where it wants memory to print its backtrace
            "RUST_BACKTRACE": "0",
        }
        memory = bytes_of(settings.reader_memory)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ingestion.readers.child", str(memory), str(8 * memory), str(self.scratch), str(settings.extensions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=Path(__file__).resolve().parent.parent.parent,
            env=environment,
            start_new_session=True,  # an interrupt at the keyboard is for the parent, which ends its child in order
        )

    def ask(self, settings: Settings, contract: Contract, deliveries: list[Delivery]) -> tuple[_Answer, bool]:
        """The answer, and whether the process can be asked again."""
        assert self._process.stdin is not None and self._process.stdout is not None
        at: int | None = None
        allowed = {d.delivery_id: _seconds(settings, d) for d in deliveries}
        try:
            pickle.dump((contract, deliveries, allowed), self._process.stdin)
            self._process.stdin.flush()
            ends = time.monotonic() + _START_SECONDS
            with selectors.DefaultSelector() as ready:
                ready.register(self._process.stdout, selectors.EVENT_READ)
                buffer = b""
                while True:
                    if not ready.select(max(0.0, ends - time.monotonic())):
                        return _Answer(at=at, why="quá thời gian", died=True), False
                    got = os.read(self._process.stdout.fileno(), 1 << 20)
                    if not got:
                        return _Answer(at=at, why=self._end(), died=True), False
                    *lines, buffer = (buffer + got).split(b"\n")
                    for line in lines:
                        said = json.loads(line)
                        if "at" in said:
                            at = int(said["at"])
                            ends = time.monotonic() + _WALL * allowed[deliveries[at].delivery_id]
                        elif "failed" in said:
                            return _Answer(at=at, why=said["failed"], died=said["limit"], trace=said["trace"]), False
                        else:
                            problems = {i: Problem(*parts) for i, parts in said["problems"].items()}
                            return _Answer(rows=Path(said["rows"]), problems=problems), not said["retires"]
        except (BrokenPipeError, ValueError):
            return _Answer(at=at, why=self._end(), died=True), False

    def _end(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return "?"
        if code >= 0:
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
            log.debug("reader ended", code=code, said=self._errors.read().decode(errors="replace"))
            return f"exit {code}"
        if -code == signal.SIGXCPU:
            return "quá thời gian"
        return signal.Signals(-code).name

    def end(self) -> None:
        """Ends the process and takes away what it left."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()
        self._errors.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


_idle: list[_Child] = []
_guard = threading.Lock()


def _ask(settings: Settings, contract: Contract, deliveries: list[Delivery], folder: Path) -> _Answer:
    """Asks an idle child, or a new one, and keeps it for the next request where it is sound. The rows are put into `folder`."""
    with _guard:
        child = next((c for c in _idle if c.limits == (settings.reader_memory, str(settings.home))), None)
        # one platform at a time is read: the children of another, and those with other limits, are done; so is one whose folder was cleared away
        if child is not None and not child.scratch.is_dir():
            child = None
        others = [] if child is not None else list(_idle)
        for taken in [*others, *([child] if child is not None else [])]:
            _idle.remove(taken)
    for other in others:
        other.end()
    child = child or _Child(settings)
    kept = False
    try:
        answer, kept = child.ask(settings, contract, deliveries)
        if answer.rows is not None:
            answer.rows = answer.rows.rename(folder / f"{child.scratch.name}-{answer.rows.name}")
        return answer
    finally:
        if kept:
            with _guard:
                _idle.append(child)
        else:
            child.end()


# a forked process leaves the children to its parent
os.register_at_fork(after_in_child=_idle.clear)


@atexit.register
def close() -> None:
    """Ends the idle children; the next request starts a new one."""
    with _guard:
        ending = list(_idle)
        _idle.clear()
    for child in ending:
        child.end()
