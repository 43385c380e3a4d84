"""What the platform needs, checked one by one; each failure says what to do."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from ingestion.contract import ContractError
from ingestion.ingest import contracts_of
from ingestion.ledger import newest_arrival
from ingestion.load import suite_of
from intake.accounts import path_of, read
from intake.drop import heartbeat, is_running
from lake.extensions import NAMES, ExtensionMissing, link_extensions
from lake.lake import CLOSED_SCHEMAS, LakeError, duck, exists, latest_snapshot, no_lake, open_reader
from lake.serving import as_of, current
from lake.spark.read import LAYER, problems
from lake.upkeep.verify import damage, data_files, keys_twice, without_delivery
from orchestration.run import SET_BACK
from quality.rules import SuiteError
from tnmt.clock import now
from tnmt.settings import ROOT, Settings

FREE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    todo: str = ""


def examine(settings: Settings, *, deep: bool = False) -> list[Check]:
    """All checks, in the order in which a failure would be met; `deep` ones read every file's footer and every key (minutes on a large lake)."""
    return [_guard(name, check, settings) for name, check in (CHECKS | (DEEP if deep else {})).items()]


def _guard(name: str, check: Callable[[Settings], Check], settings: Settings) -> Check:
    try:
        return check(settings)
    except (LakeError, ContractError, SuiteError, ExtensionMissing, duckdb.Error, OSError) as error:
        text = " ".join(str(error).split()) if isinstance(error, ContractError) else str(error).splitlines()[0]
        return Check(name, False, text, "see the message")


def _python(settings: Settings) -> Check:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Check("python", version in ("3.11", "3.12"), version, "install Python 3.11 or 3.12 and run `make clean run`")


def _disk(settings: Settings) -> Check:
    folder = settings.home if settings.home.exists() else settings.home.parent
    free = shutil.disk_usage(folder).free
    return Check("disk", free > FREE_BYTES, f"{free / 2**30:.1f} GiB free at {folder}", "free some space: 2 GiB are the least")


def _extensions(settings: Settings) -> Check:
    link_extensions(settings.extensions)
    with duck(settings) as con:
        for name in NAMES:
            con.execute(f"LOAD {name}")
    return Check("duckdb extensions", True, f"DuckDB {duckdb.__version__}: {', '.join(NAMES)}")


def _contracts(settings: Settings) -> Check:
    contracts = contracts_of(settings)
    for contract in contracts.values():
        suite_of(contract, settings)
    return Check("contracts", True, f"{len(contracts)} sources, their suites compile")


def _lake(settings: Settings) -> Check:
    if not exists(settings):
        return Check("lake", False, str(no_lake(settings)), "see the message")
    with open_reader(settings) as con:
        return Check("lake", True, f"{'SQLite' if settings.is_sqlite else 'PostgreSQL'} catalog, snapshot {latest_snapshot(con)}")


def _clock(settings: Settings) -> Check:
    if not exists(settings):
        return Check("clock", True, f"{now():%Y-%m-%d %H:%M}")
    with open_reader(settings) as con:
        newest = newest_arrival(con)
    if newest is None or newest <= now() + SET_BACK:
        return Check("clock", True, f"{now():%Y-%m-%d %H:%M}, no delivery is of a time to come")
    return Check(
        "clock",
        False,
        f"{now():%Y-%m-%d %H:%M} (GMT+7), and the ledger holds a delivery that arrived at {newest:%Y-%m-%d %H:%M}",
        "set this machine's clock; where it was wrong then and is right now, that source's deliveries count as arrived after that time, and as late until then",
    )


def _closed(settings: Settings) -> Check:
    folders = [settings.lake_dir, settings.landing / "closed", settings.home / "secrets"]
    if "://" not in settings.data_path:
        folders += [Path(settings.data_path) / name for name in CLOSED_SCHEMAS]
    open_ones = [str(f) for f in folders if f.exists() and stat.S_IMODE(f.stat().st_mode) & 0o077]
    return Check(
        "personal data",
        not open_ones,
        "closed folders are readable by their owner only" if not open_ones else f"open to others: {', '.join(open_ones)}",
        "chmod 700 these folders",
    )


def _serving(settings: Settings) -> Check:
    path = current(settings)
    if path is None:
        return Check("serving file", False, "none yet", "run `tnmt run`")
    return Check("serving file", True, f"{path.name}, as of {as_of(path)}")


def _superset(settings: Settings) -> Check:
    installed = (ROOT / ".superset" / "bin" / "python").exists()
    return Check("superset", installed, "environment is there" if installed else "environment is missing", "run `make superset`")


def _intake(settings: Settings) -> Check:
    known = [a for a in read(settings).values() if a.enabled]
    beat = heartbeat(settings)
    if not known:
        return Check("intake", beat is None, "no account", "make accounts with `tnmt accounts OUT`")
    if stat.S_IMODE(path_of(settings).stat().st_mode) & 0o077:
        return Check("intake", False, f"{path_of(settings).name} can be read by others", f"chmod 600 {path_of(settings)}")
    if beat is None:
        if is_running(settings):
            return Check("intake", False, "running, but silent for a minute", f"is the disk full? see the log of `tnmt intake`, and {settings.home}")
        return Check("intake", True, f"{len(known)} accounts; not running")
    if ended := [name.upper() for name, serves in beat.get("serving", {}).items() if not serves]:
        return Check("intake", False, f"{' and '.join(ended)} ended by itself", "see the log of `tnmt intake`, and start it again")
    files = sum(a["files"] for a in beat["accounts"].values())
    refused = sum((Counter(a["refused"]) for a in beat["accounts"].values()), Counter())
    return Check(
        "intake", True, f"{len(known)} accounts; running, {files} files, refused: {', '.join(f'{n} {r}' for r, n in refused.items()) or 'none'}"
    )


def _spark(settings: Settings) -> Check:
    found = problems()
    if not LAYER.exists():
        return Check("spark", True, f"not set up, and only needed past one machine; missing: {', '.join(sorted({p.split(':')[0] for p in found}))}")
    return Check("spark", not found, "; ".join(found) or "Java, packages and jars are there", "see the message; docs/scale-out.md")


def _telemetry(settings: Settings) -> Check:
    loud = [
        n
        for n, off in (("DBT_SEND_ANONYMOUS_USAGE_STATS", ("false", "False", "0")), ("DAGSTER_DISABLE_TELEMETRY", ("1", "true")))
        if os.environ.get(n) is not None and os.environ[n] not in off
    ]
    return Check("telemetry", not loud, "off" if not loud else f"switched on by {', '.join(loud)}", "unset these variables")


def _files(settings: Settings) -> Check:
    with open_reader(settings) as con:
        files = data_files(con, settings)
        bad = list(damage(con, settings, files))
    named = "; ".join(map(str, bad[:5])) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
    return Check("data files", not bad, named or f"{len(files)} files are there, whole, with the rows that the catalog names", RESTORE)


def _keys(settings: Settings) -> Check:
    keys = {c.target: c.key for c in contracts_of(settings).values() if c.key and c.load in ("upsert", "incremental")}
    with open_reader(settings) as con:
        twice = {t: n for t, key in keys.items() if (n := keys_twice(con, f"clean.{t}", key))}
    named = ", ".join(f"clean.{t}: {n} keys" for t, n in twice.items())
    return Check("keys", not twice, f"twice: {named}" if twice else f"no key stands twice in {len(keys)} tables", "stop what writes; " + RESTORE)


def _deliveries(settings: Settings) -> Check:
    with open_reader(settings) as con:
        found = without_delivery(con)
    named = ", ".join(f"{t}: {n} rows" for t, n in found.items())
    return Check(
        "deliveries",
        not found,
        f"without a delivery in the ledger: {named}" if found else "every row names a delivery of the ledger",
        "another program wrote into these tables, or the ledger is of another time: " + RESTORE,
    )


RESTORE = "put the lake back from the backup (docs/production.md)"
DEEP: dict[str, Callable[[Settings], Check]] = {"data files": _files, "keys": _keys, "deliveries": _deliveries}

CHECKS: dict[str, Callable[[Settings], Check]] = {
    "python": _python,
    "disk": _disk,
    "duckdb extensions": _extensions,
    "contracts": _contracts,
    "lake": _lake,
    "clock": _clock,
    "personal data": _closed,
    "serving file": _serving,
    "superset": _superset,
    "intake": _intake,
    "spark": _spark,
    "telemetry": _telemetry,
}
