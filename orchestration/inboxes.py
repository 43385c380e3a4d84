"""Is there a finished file, and is a run due for it? Asked by the sensor and by the live worker; what is finished landing says."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection

import structlog

from ingestion.contract import Contract
from ingestion.ingest import contracts_of, shared_folders
from ingestion.landing import finished
from ingestion.ledger import pending_sources
from lake.lake import open_reader
from tnmt.settings import Settings

log = structlog.get_logger()

RETRY_SECONDS, LONGEST_SECONDS = 60, 6 * 3600
"""After a run that left a file in its inbox the next one for it waits a minute, then two, four, … up to six hours."""
Tried = dict[str, tuple[int, float]]
"""File -> (runs that were started for it, when the next one may be)."""


def waiting(settings: Settings, contract: Contract, *, shared: Collection[str], live: bool) -> list[str]:
    """A name for each finished file of a source that a run would take, by what it is and not by when; with a live worker small ones are its own.

    An inbox that cannot be read is one thing too, for which a run is started that says so. `shared`: folders that several sources read.
    """
    if not contract.is_sent or (live and contract.files.small):
        return []
    try:
        found = [f"{f.name} {f.identity}" for f in finished(settings, contract, shared=shared)]
    except OSError as error:
        found = [f"{type(error).__name__} {error.errno}"]
    return sorted(hashlib.sha256(f"{contract.source} {what}".encode()).hexdigest()[:12] for what in found)


def due(files: list[str], tried: Tried, clock: float) -> Tried | None:
    """What is remembered after a run that starts now, or None where none is due: each file was tried, and has to wait for its next turn."""
    if all(f in tried and tried[f][1] > clock for f in files):
        return None
    after: Tried = {}
    for file in files:
        runs = tried.get(file, (0, 0.0))[0]
        after[file] = (runs + 1, clock + min(RETRY_SECONDS * 2**runs, LONGEST_SECONDS))
    return after


def remembered(tried: Tried) -> str:
    """The cursor: every file by the turn that it waits for, so that a hundred thousand of them are a megabyte."""
    turns: dict[str, list[str]] = {}
    for file, (runs, at) in tried.items():
        turns.setdefault(f"{runs} {at}", []).append(file)
    return json.dumps({turn: " ".join(files) for turn, files in turns.items()})


def recalled(cursor: str | None) -> Tried:
    """What a cursor remembers; nothing of one that an earlier version wrote."""
    try:
        turns = [(turn.split(), files.split()) for turn, files in json.loads(cursor or "{}").items()]
        return {file: (int(runs), float(at)) for (runs, at), files in turns for file in files}
    except (ValueError, TypeError, AttributeError):
        return {}


def landed_sources(settings: Settings) -> list[str]:
    """Sources of small files of which something was landed and not gated: what a worker that was killed between, or failed at the gate, left."""
    small = {c.source for c in contracts_of(settings).values() if c.files.small and not c.files.in_place}
    with open_reader(settings) as con:
        return sorted(small & pending_sources(con))


@functools.cache
def _tell(source: str, error: str) -> None:
    """Once: the live worker looks every few seconds."""
    log.error("inbox cannot be read", source=source, error=error)


def waiting_files(settings: Settings) -> tuple[float, list[str]]:
    """When the oldest finished small file was put into an inbox (POSIX time; infinity where there is none), and the sources that have some."""
    oldest, sources = float("inf"), []
    contracts = contracts_of(settings)
    shared = shared_folders(contracts.values())
    for contract in contracts.values():
        if contract.files.small and not contract.files.in_place:
            try:
                times = [f.modified for f in finished(settings, contract, shared=shared)]
            except OSError as error:  # the others go on
                _tell(contract.source, str(error))
                continue
            if times:
                oldest = min(oldest, *times)
                sources.append(contract.source)
    return oldest, sources
