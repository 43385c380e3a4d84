"""Land and load every source, each after those that it depends on. The one way in, for CLI, Dagster and tests."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import os
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import structlog

from ingestion.blocked import once_stopped, settle
from ingestion.contract import Contract, load_contracts
from ingestion.landing import Landed, record, told_unclaimed, unclaimed
from ingestion.load import SYSTEM_FAULTS, load, rows_can_wait, suite_of
from ingestion.merge import TargetMismatch, upgrade
from ingestion.model import Arrival, Moment
from ingestion.publish import Loaded, ensure_target_tables
from ingestion.registers import PLACED_BY, last_gates, requeue_moved
from ingestion.requeue import requeue
from ingestion.takeover import take_over
from ingestion.targets import REPAIRED, REPAIRED_COLUMN
from lake.faults import reach
from lake.lake import open_writer, transaction
from tnmt.settings import Settings

log = structlog.get_logger()
Step = Callable[[str, str], None]
"""Called with (source, stage) as the work goes on; for progress bars."""

REFERENCE_REASONS = ("unknown_station", "unknown_parameter", "unknown_unit")
"""Reasons that a new register can cure: such rows are gated again once the register they wait for has changed."""


class UnknownSource(KeyError):
    """A source that no contract describes; the text names those that there are."""


@dataclass
class Ingested:
    """Outcome of one run over the sources."""

    run_id: str
    landed: dict[str, Landed] = field(default_factory=dict)
    loaded: dict[str, Loaded] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    not_cleared: dict[str, str] = field(default_factory=dict)
    """Of sources that were taken in: why files of theirs still lie in the inbox."""

    unclaimed: list[str] = field(default_factory=list)
    """Files in shared inboxes that no contract claims: they lie there until somebody renames or removes them."""

    at: datetime | None = None
    """When the last of it arrived. Of a clock that was set back it is later than what the clock says."""

    before_errors: int = 0
    """Deliveries that sources published, or set aside, before their error."""

    @property
    def changed(self) -> bool:
        """Whether anything was published, quarantined or blocked."""
        return self.before_errors > 0 or any(r.deliveries for r in self.loaded.values())

    @property
    def troubles(self) -> list[str]:
        """A line of each source that failed, of each whose files could not be taken out of the inbox, and of each file that is never taken."""
        failed = [f"failed: {name}: {text}" for name, text in self.errors.items()]
        not_cleared = [f"not cleared: {name}: {text}" for name, text in self.not_cleared.items()]
        return failed + not_cleared + [f"unclaimed: {text}" for text in self.unclaimed]


def contracts_of(settings: Settings) -> dict[str, Contract]:
    """All contracts that are in force here, in the order of work."""
    return load_contracts([f for f in settings.contract_dirs if f.is_dir()])


def shared_folders(contracts: Iterable[Contract]) -> set[str]:
    """Inbox folders that more than one source reads."""
    return {folder for folder, n in Counter(f for c in contracts for f in c.folders).items() if n > 1}


def register_sources(con: duckdb.DuckDBPyConnection, contracts: dict[str, Contract], now: datetime) -> dict[str, list[str]]:
    """Keeps `ops.source` and `ops.source_column` equal to the contracts, and makes the tables of new ones.

    So marts can be built before every source has delivered. Writes nothing where nothing changed. What earlier versions recorded under former
    names is taken over first (`takeover`). Returns of each source the other ways in which its contract once read the time of a delivery.
    """
    take_over(con, contracts.values(), now)
    before, names = dict[str, list[tuple[Any, ...]]](), dict[str, list[str]]()
    # of columns a lake of an earlier version keeps words too, which are the dictionary's now
    for table, picked in (("source", "*"), ("source_column", "source, column_name, headers, type, is_personal")):
        found = con.execute(f"SELECT {picked} FROM lake.ops.{table} ORDER BY ALL")
        names[table] = [c[0] for c in found.description]
        before[table] = found.fetchall()
    once = {row["source"]: row["datings"] or [] for row in (dict(zip(names["source"], r, strict=True)) for r in before["source"])}
    former = {c.source: [d for d in once.get(c.source, ()) if d not in c.datings] for c in contracts.values()}
    sources = [
        (
            c.source,
            c.title,
            c.description,
            c.owner.unit,
            c.owner.contact,
            c.terms,
            c.target,
            c.load,
            c.sensitivity,
            c.cadence_at(now),
            c.lateness_minutes,
            c.tolerated_bad_share,
            c.retention.raw_days,
            [*former[c.source], *c.datings],
        )
        for c in contracts.values()
    ]
    columns = [
        (c.source, name, list(col.header or col.join), col.type, col.personal is not None)
        for c in contracts.values()
        for name, col in c.columns.items()
    ] + [
        # what the gate adds to a target: an older lake gets the column as it gets one of a contract
        (c.source, name, [], kind.lower(), False)
        for c in contracts.values()
        if c.target in REPAIRED
        for name, kind in REPAIRED_COLUMN.items()
    ]
    for table, rows in (("source", sources), ("source_column", columns)):
        if sorted(map(repr, before[table])) == sorted(repr(tuple(r)) for r in rows):
            continue
        # a contract that gained a column: its table must have it before marts ask for it, whether or not a delivery comes
        for contract in contracts.values():
            with contextlib.suppress(TargetMismatch):  # told where the source is taken in, so that the others go on
                merged, _ = ensure_target_tables(con, contract)
                with transaction(con):
                    upgrade(con, contract, merged)
        arrow = pa.Table.from_pylist([dict(zip(names[table], r, strict=True)) for r in rows])
        con.register("declared", arrow)
        with transaction(con):
            con.execute(f"DELETE FROM lake.ops.{table}")
            listed = ", ".join(names[table])
            con.execute(f"INSERT INTO lake.ops.{table} ({listed}) SELECT {listed} FROM declared")
        con.unregister("declared")
    return former


FAILURES = (*SYSTEM_FAULTS, duckdb.OutOfMemoryException)
"""What stops one source and leaves the others alone: its server is down, its contract does not fit the lake, the disk is full.

Of DuckDB's errors those whose text tells of files and the catalog; the others may quote a value, and a value may be a person's. Any other exception of a source does so too, as a fault of this software: it is named with the place where it was raised.
"""


def told(error: Exception) -> str:
    """An error as `errors` and the log name it: an expected one by its text, a fault of our own by its type and place alone (its text may hold data)."""
    if isinstance(error, FAILURES):
        return f"{type(error).__name__}: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: a fault of this software, not of the source; "
        "nothing of this step was published; run again with TNMT_LOG=DEBUG and report the traceback"
    )


def _take_in_one(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contracts: dict[str, Contract],
    contract: Contract,
    *,
    arrival: Arrival,
    run_id: str,
    shared: Collection[str],
    datings: Collection[str],
    restless: bool,
    most: int | None = None,
) -> tuple[Landed, Loaded, OSError | None]:
    """Lands what lies in one source's inbox and gates all that waits; rows that waited for a register that changed too.

    `restless` says that deliveries of it were blocked or set aside before: what is published now, or was by a run that was killed, may settle them.
    `datings`: see `record`. Returned last is why files that were landed could not be taken out of the inbox.
    """
    suite_of(contract, settings)  # told before the first file comes, not by it
    if "geometry" in contract.columns:
        con.execute("LOAD spatial")
    _pull(con, settings, contract, arrival.at)
    landed, fresh, leave_inbox = record(con, settings, contract, arrival, shared=shared, most=most, datings=datings)
    with ThreadPoolExecutor(1) as pool:
        left = pool.submit(leave_inbox)
        if restless:
            settle(con, contract.source)
        if contract.target in PLACED_BY or contract.depends_on:
            gates = last_gates(con, contracts.values())
            if contract.target in PLACED_BY:
                requeue_moved(con, settings, contract, gates)  # whole; of what only waits the rows in quarantine are enough
            if contract.depends_on and gates.register_changed(contract):
                suite = suite_of(contract, settings)
                requeue(con, contract.source, reasons=REFERENCE_REASONS, only_waiting=rows_can_wait(contract, suite))
        loaded = load(con, settings, contract, run_id, arrival.at, fresh=fresh)
        if restless and loaded.published:
            settle(con, contract.source)
    error = left.exception()
    if error is not None and not isinstance(error, OSError):
        raise error
    reach("landing.cleared")
    return landed, loaded, error


@functools.cache
def _freeze() -> None:
    """What the imports made stays: a day of files would make Python look through it again and again (0.4 s). Once: each call would keep garbage too."""
    gc.freeze()


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Python looks for garbage less often meanwhile: a day of files makes a million objects, nearly all of which are still in use."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _note_unclaimed(
    con: duckdb.DuckDBPyConnection, settings: Settings, contracts: dict[str, Contract], wanted: Iterable[str], now: datetime
) -> list[str]:
    """Keeps `ops.unclaimed` equal to what is never taken; returns a line of each, with the reason.

    Scans that are not `wanted` are not looked at: hundreds of thousands may lie there, on a network share. What was said of them last stays.
    """
    passed = {c.folder for c in contracts.values() if c.files.in_place} - {contracts[name].folder for name in wanted}
    looked_at = [c for c in contracts.values() if c.folder not in passed]
    files = unclaimed(settings, looked_at, {f for c in contracts.values() for f in c.folders})
    if not files and not con.execute("SELECT 1 FROM lake.ops.unclaimed LIMIT 1").fetchall():
        return []
    noted = con.execute("SELECT folder, name, bytes FROM lake.ops.unclaimed ORDER BY folder, name").fetchall()
    files += [n for n in noted if n[0] in passed]
    files.sort(key=lambda f: f[:2])
    if files != noted:
        with transaction(con):
            con.execute("DELETE FROM lake.ops.unclaimed")
            for file in files:
                con.execute("INSERT INTO lake.ops.unclaimed VALUES (?, ?, ?, ?)", [*file, now])
    asked = {f for name in wanted for f in contracts[name].folders}  # of an inbox that fails its source's error tells
    return [told_unclaimed(folder, name, size) for folder, name, size in files if name or folder not in asked]


def take_in(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contracts: dict[str, Contract],
    wanted: Iterable[str],
    *,
    now: Moment | Arrival,
    run_id: str,
    step: Step | None = None,
    most: int | None = None,
) -> Ingested:
    """`ingest` of the wanted sources, over a writing connection. Dagster's assets take in by it too, so that they leave what a run leaves.

    `contracts` are all that are in force: what a refused snapshot gives back may be another source's.
    """
    wanted = set(wanted)
    result = Ingested(run_id)
    shared = shared_folders(contracts.values())
    say = step or (lambda source, stage: None)
    arrival = Arrival.of(now)
    latest = arrival.at
    datings = register_sources(con, contracts, arrival.at)
    restless = once_stopped(con)
    for name, contract in contracts.items():
        if name not in wanted:
            continue
        try:
            say(name, "landing and gate")
            result.landed[name], result.loaded[name], left = _take_in_one(
                con,
                settings,
                contracts,
                contract,
                arrival=(own := replace(arrival)),  # what its ledger makes it later by is no other source's concern
                run_id=run_id,
                shared=shared,
                datings=datings[name],
                restless=name in restless,
                most=most,
            )
            latest = max(latest, own.at)
            if left is not None:
                result.not_cleared[name] = (
                    f"what came was taken in, but files of it could not be removed from the inbox, and every run takes them in once more: {told(left)}; "
                    f"make the user of the pipeline the owner of their folder (chown, chmod), or make room on its disk"
                )
                log.error("files stay in the inbox", source=name, run_id=run_id, error=type(left).__name__)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other sources go on
            result.errors[name] = told(error)
            log.error("source failed", source=name, run_id=run_id, error=type(error).__name__)
            log.debug("source failed", source=name, run_id=run_id, at="".join(traceback.format_tb(error.__traceback__)))
    result.at = latest
    _gate_given_back(con, settings, contracts, result, latest)
    if result.errors:
        failed = ", ".join("?" * len(result.errors))
        gated = f"SELECT coalesce(sum(deliveries), 0) FROM lake.ops.gate_result WHERE run_id = ? AND source IN ({failed})"
        result.before_errors = int(con.execute(gated, [run_id, *result.errors]).fetchall()[0][0])
    result.unclaimed = _note_unclaimed(con, settings, contracts, wanted, arrival.at)
    return result


def ingest(
    settings: Settings, *, now: Moment | Arrival, run_id: str, only: Iterable[str] | None = None, step: Step | None = None, most: int | None = None
) -> Ingested:
    """Takes in what lies in the inboxes and what was landed before and not gated yet; of each source the newest `most` files, if said.

    `now` is when it arrived (GMT+7). A clock is asked while nobody else writes: of two versions of a file that land within a second, or in
    the wrong order of those who waited, the later one counts.

    A source that fails (its server is down, its contract does not fit the lake, an error that nobody foresaw) is named in `errors`; the others go on.
    Raises ContractError where a contract cannot be read, and UnknownSource for one in `only` of which there is none.
    """
    _freeze()
    contracts = contracts_of(settings)
    wanted = set(only) if only is not None else set(contracts)
    if unknown := wanted - set(contracts):
        parts = {name: c.source for c in contracts.values() for name in c.former_names}
        named = ", ".join(f"{name} (it is part of {parts[name]} now)" if name in parts else name for name in sorted(unknown))
        raise UnknownSource(f"there is no source {named}; there are {', '.join(contracts)}")
    with open_writer(settings, f"ingest {run_id}", spatial=False) as con, _seldom_collected():
        return take_in(con, settings, contracts, wanted, now=now, run_id=run_id, step=step, most=most)


def _gate_given_back(con: duckdb.DuckDBPyConnection, settings: Settings, contracts: dict[str, Contract], result: Ingested, now: datetime) -> None:
    """Gates what a refused snapshot gave back to another source of its target, which may have had its turn already."""
    targets = {contracts[name].target for name, loaded in result.loaded.items() if loaded.deliveries and contracts[name].load == "snapshot"}
    for name, contract in contracts.items():
        if contract.target in targets and name not in result.errors:
            try:
                again = load(con, settings, contract, result.run_id, now)
            except Exception as error:  # noqa: BLE001  # as above
                result.errors[name] = told(error)
                continue
            if again.deliveries:
                result.loaded[name] = result.loaded[name].plus(again) if name in result.loaded else again


def _pull(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, now: datetime) -> None:
    """A source with a live connection puts what it holds into its inbox first, and takes the same path from there.

    A pull that brought the very bytes of the last one is dropped: nothing new was said.
    """
    if contract.formats or contract.format.reader != "postgis":
        return
    from ingestion.readers.postgis import snapshot

    since = None
    watermark = next((n for n, c in contract.columns.items() if contract.format.watermark in (*c.header, n)), None)
    if contract.load == "incremental" and watermark is not None:
        since = con.execute(f"SELECT max({watermark}) FROM lake.clean.{contract.target} WHERE _source = ?", [contract.source]).fetchall()[0][0]
    path = snapshot(contract, os.environ[contract.enabled_by or ""], settings.inbox / contract.folder, now, settings.extensions, since)
    last = con.execute(
        "SELECT sha256 FROM lake.ops.landed WHERE source = ? ORDER BY received_at DESC, as_of DESC LIMIT 1", [contract.source]
    ).fetchall()
    with path.open("rb") as file:
        if last and last[0][0] == hashlib.file_digest(file, "sha256").hexdigest():
            path.unlink()
