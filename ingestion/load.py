"""From landed to published: read, type, resolve, judge, and commit rows, quarantine and ledger as one transaction."""

from __future__ import annotations

import hashlib
import hmac
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import structlog

from ingestion.blocked import settle
from ingestion.cast import cast, literal
from ingestion.contract import Contract
from ingestion.landing import TOO_LARGE, stored_path
from ingestion.merge import MERGES, TargetMismatch, ensure_table, has_conflict
from ingestion.model import Delivery, Problem, reader_failed, unfinished_geopackage
from ingestion.names import groups, moment, on_disk
from ingestion.readers import apart
from ingestion.targets import clean_columns, resolve
from ingestion.units import UnitError
from lake.faults import reach
from lake.lake import LakeError, next_publish, transaction
from quality.gate import GateError, Verdict, judge_batch, judge_rows
from quality.rules import SuiteError, load_suite, quoted_name, rules_of
from tnmt.settings import Settings

log = structlog.get_logger()

BATCH_FILES = 60_000
"""Files of one gate: a day of all stations. A backlog of months is worked off in several, each committed by itself."""
RAW_TEXT_LIMIT = 2_000
BLOCKED_ROWS = 10_000
"""Bad rows of a blocked delivery that are kept to be looked at: more than anybody reads, less than a map in the wrong layout has."""


@dataclass
class Loaded:
    """What one load step did, in deliveries and rows. read = accepted + duplicate + quarantined."""

    source: str
    deliveries: int = 0
    published: int = 0
    quarantined: int = 0
    blocked: int = 0
    set_aside: int = 0
    """Deliveries on which a reader failed or died: nobody knows yet what is in them."""
    rows_read: int = 0
    rows_accepted: int = 0
    rows_duplicate: int = 0
    rows_quarantined: int = 0
    tolerated: float = 0.0
    """Share of the rows that the contract lets be refused."""
    rows_conflict: int = 0
    """Rows that lost to a row of another value under the same key in the same delivery: an alert, which value is meant is not said."""
    failed: list[str] = field(default_factory=list)
    """Reasons of rules that more rows broke than the contract tolerates: an alert, not a stop."""
    problems: list[str] = field(default_factory=list)
    """Name and reason of each blocked delivery."""
    aside: list[str] = field(default_factory=list)
    """Name and reason of each one that was set aside: an alert, not a stop."""

    @property
    def refused_too_many(self) -> bool:
        """Whether a larger share of the rows, or of the files, went to quarantine than the contract tolerates."""
        return self.rows_quarantined > self.tolerated * self.rows_read or self.quarantined > self.tolerated * self.deliveries

    def plus(self, other: Loaded) -> Loaded:
        """Both steps as one."""
        added = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name not in ("source", "tolerated")}
        return Loaded(self.source, tolerated=self.tolerated, **added)


def suite_of(contract: Contract, settings: Settings) -> dict[str, Any] | None:
    """The suite of a contract, or None where it needs none; raises SuiteError where it names one that is not there, or that cannot be used."""
    suite = load_suite(contract.suite_name, settings.suite_dirs)
    if suite is None and contract.suite is not None:
        raise SuiteError(
            f"contract {contract.source} names suite {contract.suite!r}; there is no {contract.suite}.json in "
            f"{', '.join(str(f) for f in settings.suite_dirs)}: add it there, or take `suite:` out of the contract"
        )
    if suite is not None:
        rules_of(suite)
    return suite


def pending(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, fresh: Sequence[Delivery] = ()) -> list[Delivery]:
    """Landed deliveries of the source that are not gated yet, in the order of their rank; bytes are not read here.

    Where only those wait that landed a moment ago (`fresh`), it is these, with the bytes that they have.
    """
    count, days = con.execute("SELECT count(*), list(DISTINCT day) FROM lake.ops.pending WHERE source = ?", [contract.source]).fetchall()[0]
    if not count:
        return []
    if count == len(fresh):
        return sorted(fresh, key=lambda d: (d.as_of, d.received_at, d.delivery_id))
    rows = con.execute(
        f"""
        SELECT l.delivery_id, l.name, l.sha256, l.bytes, l.received_at, l.as_of, l.day, l.stored, p.only_waiting
        FROM lake.ops.landed AS l
        JOIN (
            SELECT delivery_id, bool_and(coalesce(only_waiting, FALSE)) AS only_waiting FROM lake.ops.pending WHERE source = $1 GROUP BY delivery_id
        ) AS p ON l.delivery_id = p.delivery_id
        WHERE l.source = $1 AND l.day IN ({", ".join(f"DATE '{d}'" for d in days)})
        ORDER BY l.as_of, l.received_at, l.delivery_id""",
        [contract.source],
    ).fetchall()
    return [
        Delivery(
            i,
            contract.source,
            name,
            sha,
            size,
            received,
            as_of,
            day,
            None
            if stored == "raw.file"
            else settings.inbox / contract.folder / on_disk(name)
            if stored == "in_place"
            else _landed_path(settings, contract, sha, name),
            only_waiting=only_waiting,
        )
        for i, name, sha, size, received, as_of, day, stored, only_waiting in rows
    ]


def _landed_path(settings: Settings, contract: Contract, sha256: str, name: str) -> Path:
    """Where the landed bytes lie: of a geodatabase folder as one archive; a file may be called like such a folder and be none."""
    packed = stored_path(settings, contract, sha256, name + ".zip")
    return packed if name.lower().endswith(".gdb") and packed.exists() else stored_path(settings, contract, sha256, name)


def load(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    run_id: str,
    now: datetime,
    deliveries: Sequence[Delivery] | None = None,
    *,
    fresh: Sequence[Delivery] = (),
) -> Loaded:
    """Gates and publishes what is pending of one source (or `deliveries`). `now` only marks when it was published; `fresh` is for `pending`.

    Bad data never raises: it ends in quarantine, in a blocked delivery, or in one that is set aside. Raises TargetMismatch or SuiteError where
    contract and lake, or contract and suite, do not fit: nothing was published then.
    """
    todo = list(deliveries) if deliveries is not None else pending(con, settings, contract, fresh)
    report = Loaded(contract.source, tolerated=contract.tolerated_bad_share)
    if not todo:
        return report
    size = BATCH_FILES if contract.files.small else 1
    done: set[str] = set()
    while todo:
        for only_waiting in (False, True):
            part = [d for d in todo if d.only_waiting is only_waiting]
            for start in range(0, len(part), size):
                _load_apart(_Gating(con, settings, contract, run_id, now, report, only_waiting), part[start : start + size])
        done |= {d.delivery_id for d in todo}
        # a snapshot that was refused gives its scopes back to older deliveries, which are gated again
        given_back = deliveries is None and contract.load == "snapshot"
        todo = [d for d in pending(con, settings, contract) if d.delivery_id not in done] if given_back else []
    return report


SYSTEM_FAULTS = (OSError, SuiteError, TargetMismatch, UnitError, LakeError, *(
    duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.ConnectionException, duckdb.TransactionException, duckdb.HTTPException,
))  # fmt: skip
"""What no delivery is guilty of: the disk, the catalog, contract and suite. They stop the source; it is tried again by the next run."""
LATEST_NAME = timedelta(days=400)
"""How far after its arrival the time in a file's name may lie: a price list of next year is sent this year, one of 2035 is a slip of the pen."""
MOST_SET_ASIDE = 20
"""Deliveries of a source that one run sets aside for an error; where more fail, the error is likely ours, and the source stops instead."""


@dataclass(frozen=True)
class _Gating:
    """One source in one run: what its batches share. `only_waiting`: of the deliveries only the rows that wait for a register."""

    con: duckdb.DuckDBPyConnection
    settings: Settings
    contract: Contract
    run_id: str
    now: datetime
    report: Loaded
    only_waiting: bool
    aside: set[str] = field(default_factory=set)
    """Deliveries that were set aside: of a batch that fails afterwards they are no part any more."""


def _load_apart(gating: _Gating, deliveries: list[Delivery]) -> None:
    """Gates a batch; where an error that nobody foresaw ends that, its halves by themselves, until the one delivery is found on which it hangs.

    That one is set aside. A batch of halves ends as the whole would: the result does not depend on how deliveries are batched.
    """
    try:
        _load_batch(gating, deliveries)
        return
    except SYSTEM_FAULTS:
        raise
    except Exception as error:
        if gating.report.set_aside >= MOST_SET_ASIDE:
            raise
        deliveries = [d for d in deliveries if d.delivery_id not in gating.aside]
        if len(deliveries) == 1:
            source = gating.contract.source
            frame = traceback.extract_tb(error.__traceback__)[-1]
            found = f"{type(error).__name__} ({Path(frame.filename).name}:{frame.lineno})"
            log.error("delivery failed", source=source, delivery_id=deliveries[0].delivery_id, name=deliveries[0].name, error=found)
            log.debug("delivery failed", at="".join(traceback.format_tb(error.__traceback__)))
            _set_aside(gating, {deliveries[0].delivery_id: reader_failed(source, found)}, deliveries)
            return
    middle = len(deliveries) // 2
    for half in (deliveries[:middle], deliveries[middle:]):
        _load_apart(gating, half)


def _set_aside(gating: _Gating, problems: dict[str, Problem], deliveries: Sequence[Delivery]) -> None:
    """Records deliveries that nobody could read yet; what they published before, if anything, stays. Their rows are not counted anywhere."""
    con, report, source = gating.con, gating.report, gating.contract.source
    aside = [d for d in deliveries if d.delivery_id in problems]
    con.register(
        "set_aside",
        pa.table(
            {
                "delivery_id": pa.array([d.delivery_id for d in aside], pa.string()),
                "day": pa.array([d.day for d in aside], pa.date32()),
                "reason": pa.array([str(problems[d.delivery_id]) for d in aside], pa.string()),
            }
        ),
    )
    with transaction(con):
        seq = next_publish(con)
        con.execute(
            """
            INSERT INTO lake.ops.outcome
            SELECT delivery_id, ?, day, 'set_aside', reason, NULL, NULL, NULL, NULL, ?, ?, ? FROM set_aside ORDER BY day""",
            [source, gating.now, gating.run_id, seq],
        )
        con.execute("DELETE FROM lake.ops.pending WHERE delivery_id IN (SELECT delivery_id FROM set_aside)")
        con.execute(
            "INSERT INTO lake.ops.gate_result SELECT ?, ?, ?, ?, 0, FALSE, NULL, ?, 0.0, ?",
            [gating.run_id, source, seq, len(aside), sorted({problems[d.delivery_id].code for d in aside}), gating.now],
        )
    con.unregister("set_aside")
    gating.aside.update(d.delivery_id for d in aside)
    report.deliveries += len(aside)
    report.set_aside += len(aside)
    report.aside += [f"{d.name}: {problems[d.delivery_id]}" for d in aside]


def _load_batch(gating: _Gating, deliveries: list[Delivery]) -> None:
    con, settings, contract, run_id = gating.con, gating.settings, gating.contract, gating.run_id
    only_waiting = gating.only_waiting
    log.debug("gate", source=contract.source, deliveries=len(deliveries), run_id=run_id)
    if contract.files.small and not contract.files.in_place:
        _fetch_content(con, contract, deliveries)
    problems: dict[str, Problem] = {}
    logs = _logs_beside(con, contract, deliveries)
    for delivery in deliveries:
        if problem := _name_problem(contract, delivery) or logs.get(delivery.delivery_id):
            problems[delivery.delivery_id] = problem
    readable = [d for d in deliveries if d.delivery_id not in problems]
    problems |= apart.read(con, settings, contract, readable, "cut")
    if aside := {i: p for i, p in problems.items() if p.sets_aside}:
        _set_aside(gating, aside, deliveries)
        deliveries = [d for d in deliveries if d.delivery_id not in aside]
        problems = {i: p for i, p in problems.items() if i not in aside}
        if not deliveries:
            return
    _register_deliveries(con, contract, deliveries)
    if only_waiting:
        problems = {}  # the file was read before; only what is known of it has changed
        _keep_waiting(con, contract)
    if contract.unpivot is not None:
        _unpivot(con, contract, "cut")
    reach("gate.read")
    cast(con, contract, "cut", "batch_deliveries", "typed", settings.crs)
    resolve(con, settings, contract, "typed", "memory.main.batch")
    if contract.rows:
        left = con.execute("SELECT (SELECT count(*) FROM cut) - (SELECT count(*) FROM memory.main.batch)").fetchall()[0][0]
        log.info("rows that the contract leaves out", source=contract.source, rows=left, run_id=run_id)
    suite = suite_of(contract, settings)
    judge_rows(con, "memory.main.batch", suite)
    if contract.key:
        _whole_keys(con, contract)
    if contract.load == "snapshot" and contract.key:
        _one_row_a_key(con, contract)
    block: Problem | None = None
    verdict: Verdict | None = None
    try:
        # rows that waited are no batch of their own: what they said of it was said when it was gated whole
        verdict = Verdict(0, 0, success=True) if only_waiting else judge_batch(con, "memory.main.batch", suite, contract.tolerated_bad_share)
    except GateError as error:
        block = Problem(
            "gate_error",
            "Không đánh giá được bộ kiểm tra chất lượng",
            "kết quả của mọi kiểm tra",
            str(error),
            f"Sửa bộ quy tắc {contract.suite_name}.json rồi chạy lại: tnmt quarantine retry {contract.source}",
        )
    if verdict and block is None and not contract.files.small and not verdict.success:
        worst = _worst(con)
        names = ", ".join(verdict.blocking or verdict.failed) or ", ".join(reason for reason, *_ in worst)
        shown = "; ".join(f"{reason}: {count} dòng, dòng {line} ({detail})" for reason, count, line, detail in worst)
        block = Problem(
            "contract_failed",
            f"Không đạt hợp đồng dữ liệu: {names}",
            f"tối đa {contract.tolerated_bad_share:.1%} dòng lỗi",
            f"{verdict.bad_rows} trên {verdict.rows} dòng ({verdict.bad_share:.1%})" + (f": {shown}" if shown else ""),
            "Sửa dữ liệu rồi gửi lại, hoặc nới `tolerated_bad_share` trong hợp đồng nếu đã thống nhất với đơn vị gửi",
        )
    if not contract.files.small and problems:
        block = next(iter(problems.values()))
    reach("gate.judged")
    _publish(gating, deliveries, problems, block, verdict)


def _keep_waiting(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Leaves in `cut` the rows that stand in quarantine."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE waits AS SELECT DISTINCT delivery_id, line FROM lake.quarantine.row "
        "WHERE source = ? AND delivery_id IN (SELECT delivery_id FROM batch_deliveries)",
        [contract.source],
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE cut AS SELECT c.* FROM cut AS c SEMI JOIN waits AS w ON w.delivery_id = c._delivery_id AND w.line = c._line"
    )


def rows_can_wait(contract: Contract, suite: dict[str, Any] | None) -> bool:
    """Whether rows that wait for a register may be gated without the others of their delivery: nothing that judges them looks at these."""
    on_whole_columns = any("unique" in rule.type for rule in rules_of(suite)) if suite else False
    return contract.files.small and contract.load in ("upsert", "incremental") and contract.unpivot is None and not on_whole_columns


def _worst(con: duckdb.DuckDBPyConnection) -> list[tuple[str, int, int, str]]:
    """The three reasons that most rows of the batch have: code, rows, the first line and what is told of it (personal values are masked there)."""
    return con.execute("""
        SELECT reason, count(*), min(_line), left(arg_min(detail, _line), 200)
        FROM (SELECT _line, unnest(_reasons) AS reason, unnest(_details) AS detail FROM memory.main.batch WHERE len(_reasons) > 0)
        GROUP BY reason ORDER BY count(*) DESC, reason LIMIT 3""").fetchall()


def _unpivot(con: duckdb.DuckDBPyConnection, contract: Contract, table: str) -> None:
    """Turns a wide export (a column a parameter) into one row a parameter; a row that cannot be cut stays one row.

    A cell with neither value nor status is nothing that was received: no row. What is read are the cells that say something.
    """
    wide = contract.unpivot
    assert wide is not None
    there = {row[0] for row in con.execute(f"DESCRIBE {table}").fetchall()}
    made = {wide.parameter, wide.value, wide.unit, wide.status}
    keep = [n for n in contract.file_columns if n in there and n not in made] + [quoted_name(h) for h in contract.helpers if h in there]
    parts = []
    for header, parameter in wide.columns.items():
        if header in there:
            flag = parameter.status_header
            status = quoted_name(flag) if flag is not None and flag in there else "NULL::VARCHAR"
            says = " OR ".join(f"trim(coalesce({cell}, '')) <> ''" for cell in (quoted_name(header), status))
            parts.append(
                f"SELECT {{head}}, {literal(parameter.parameter)} AS {wide.parameter}, {quoted_name(header)} AS {wide.value}, "
                f"{literal(parameter.unit)} AS {wide.unit}, {status} AS {wide.status} FROM {table} WHERE _problem IS NULL AND ({says})"
            )
    parts.append(f"SELECT {{head}}, NULL, NULL, NULL, NULL FROM {table} WHERE _problem IS NOT NULL")
    head = ", ".join(["_delivery_id", "_line", "_raw", "_problem", *keep])
    con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS " + " UNION ALL ".join(p.replace("{head}", head) for p in parts))


def _fetch_content(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: list[Delivery]) -> None:
    """Gives the deliveries the bytes that they lack, which live in the lake, or in the landing folder where they are many."""
    wanted = [d for d in deliveries if d.content is None and d.path is None]
    if not wanted:
        return
    days = ", ".join(f"DATE '{d}'" for d in sorted({d.day for d in wanted}))
    con.register("wanted", pa.table({"delivery_id": pa.array([d.delivery_id for d in wanted], pa.string())}))
    rows = con.execute(f"""
        SELECT delivery_id, content FROM lake.{"raw_closed" if contract.personal else "raw"}.file AS f
        SEMI JOIN wanted USING (delivery_id) WHERE f.day IN ({days})""").fetchall()
    con.unregister("wanted")
    content = dict(rows)
    for delivery in wanted:
        delivery.content = content[delivery.delivery_id]


_LOGS = ("-wal", "-journal", "-shm")
"""What SQLite keeps beside a database that is open; with a GeoPackage in the inbox it becomes a delivery of its own."""


def _logs_beside(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery]) -> dict[str, Problem]:
    """Problems of GeoPackages with whose landing a log of theirs came: what they say may not be all. A later landing of the file alone is clean."""
    if contract.format.reader != "vector":
        return {}
    logs = {d.name + suffix: d for d in deliveries if d.name.lower().endswith(".gpkg") for suffix in _LOGS[:2]}
    found = con.execute(
        "SELECT name, received_at FROM lake.ops.landed WHERE source = ? AND bytes > 0 AND list_contains(?, name)", [contract.source, list(logs)]
    ).fetchall()
    return {logs[name].delivery_id: unfinished_geopackage(name) for name, received_at in found if received_at == logs[name].received_at}


def _name_problem(contract: Contract, delivery: Delivery) -> Problem | None:
    if contract.files.small and not contract.files.in_place and delivery.bytes > TOO_LARGE:
        return Problem(
            "file_too_large",
            "Tệp quá lớn đối với hộp nhận tệp nhỏ",
            f"tối đa {TOO_LARGE:,} byte",
            f"{delivery.bytes:,} byte",
            "Chia tệp thành nhiều tệp nhỏ hơn rồi gửi lại",
        )
    found = groups(contract, delivery.name)
    if found is None and contract.format.reader == "vector" and delivery.name.lower().endswith(tuple(f".gpkg{log}" for log in _LOGS)):
        return unfinished_geopackage(delivery.name)
    if found is None:
        return Problem("wrong_name", "Tên tệp không đúng quy ước", contract.files.pattern, delivery.name, "Đổi tên tệp theo quy ước rồi gửi lại")
    if contract.as_of.origin == "file_name" and moment(found["as_of"] or "", contract.files.as_of_format) is None:
        return Problem(
            "wrong_name",
            "Thời gian trong tên tệp không đọc được",
            contract.files.as_of_format,
            found["as_of"] or "không có",
            "Sửa ngày giờ trong tên tệp (hoặc đồng hồ của datalogger) rồi gửi lại",
        )
    if contract.as_of.origin == "file_name" and delivery.as_of > delivery.received_at + LATEST_NAME:
        return Problem(
            "wrong_name",
            "Thời gian trong tên tệp nằm quá xa sau lúc nhận: mọi tệp gửi sau sẽ bị coi là cũ hơn",
            f"không quá {LATEST_NAME.days} ngày sau lúc nhận ({delivery.received_at:%d/%m/%Y})",
            found["as_of"] or "không có",
            "Sửa ngày giờ trong tên tệp (hoặc đồng hồ của datalogger) rồi gửi lại",
        )
    return None


def _register_deliveries(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery]) -> None:
    """TEMP table `batch_deliveries` with a column `g_<group>` for each named group of the file name."""
    wanted = sorted({c.from_name for c in contract.columns.values() if c.from_name})
    columns: dict[str, pa.Array] = {
        "delivery_id": pa.array([d.delivery_id for d in deliveries], pa.string()),
        "name": pa.array([d.name for d in deliveries], pa.string()),
        "as_of": pa.array([d.as_of for d in deliveries], pa.timestamp("us")),
        "received_at": pa.array([d.received_at for d in deliveries], pa.timestamp("us")),
        "day": pa.array([d.day for d in deliveries], pa.date32()),
    }
    if wanted:
        named = [groups(contract, d.name) or {} for d in deliveries]
        columns |= {f"g_{g}": pa.array([n.get(g) for n in named], pa.string()) for g in wanted}
    con.register("arriving", pa.table(columns))
    con.execute("CREATE OR REPLACE TEMP TABLE batch_deliveries AS SELECT * FROM arriving")
    con.unregister("arriving")


def _whole_keys(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """A row without a whole key cannot be told from another: it is not placed, whether or not the contract says `required`."""
    lacking = f"len(_reasons) = 0 AND ({' OR '.join(f'{k} IS NULL' for k in contract.key)})"
    if con.execute(f"SELECT 1 FROM memory.main.batch WHERE {lacking} LIMIT 1").fetchall():
        con.execute(f"""
            UPDATE memory.main.batch SET _reasons = ['key_missing'], _details = ['khóa {", ".join(contract.key)} phải có đủ giá trị, gặp ô trống']
            WHERE {lacking}""")


def _one_row_a_key(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """In a snapshot a key stands once: which of two rows is right cannot be told, so the later line is not placed."""
    con.execute(f"""
        CREATE OR REPLACE TABLE memory.main.batch AS
        SELECT * EXCLUDE (_nth) REPLACE (
            CASE WHEN _nth > 1 AND len(_reasons) = 0 THEN ['key_twice'] ELSE _reasons END AS _reasons,
            CASE WHEN _nth > 1 AND len(_reasons) = 0 THEN ['khóa {", ".join(contract.key)} đã có ở dòng trước'] ELSE _details END AS _details)
        FROM (SELECT *, row_number() OVER (PARTITION BY _delivery_id, len(_reasons) > 0, {", ".join(contract.key)} ORDER BY _line) AS _nth
              FROM memory.main.batch)""")


def _tokens(con: duckdb.DuckDBPyConnection, settings: Settings, columns: Sequence[str], table: str) -> None:
    """TEMP table `token_of` (value, token): HMAC-SHA256 of each personal value under the key that lies outside the lake."""
    values = {row[0] for c in columns for row in con.execute(f"SELECT DISTINCT {c} FROM {table} WHERE {c} IS NOT NULL").fetchall()}
    key = settings.token_key.encode()
    pairs = sorted(values)
    tokens = [hmac.new(key, " ".join(v.upper().split()).encode(), hashlib.sha256).hexdigest()[:32] for v in pairs]
    con.register("made", pa.table({"value": pa.array(pairs, pa.string()), "token": pa.array(tokens, pa.string())}))
    con.execute("CREATE OR REPLACE TEMP TABLE token_of AS SELECT * FROM made")
    con.unregister("made")


def ensure_target_tables(con: duckdb.DuckDBPyConnection, contract: Contract) -> tuple[str, dict[str, str]]:
    """Makes the tables of a contract's target; returns the one that rows are merged into, and its columns.

    Rows of a personal source are merged in the closed schema; clean.<target> is made from there, with tokens.
    """
    columns = clean_columns(contract)
    ensure_table(con, contract, f"clean.{contract.target}", columns)
    if not contract.personal:
        return f"clean.{contract.target}", columns
    full = {name: c.sql_type for name, c in contract.columns.items()}
    ensure_table(con, contract, f"typed_closed.{contract.target}", full)
    return f"typed_closed.{contract.target}", full


def _publish(gating: _Gating, deliveries: list[Delivery], problems: dict[str, Problem], block: Problem | None, verdict: Verdict | None) -> None:
    """Rows, quarantine and ledger in one lake transaction."""
    con, settings, contract, run_id, now = gating.con, gating.settings, gating.contract, gating.run_id, gating.now
    report, only_waiting = gating.report, gating.only_waiting
    personal = contract.personal
    columns = clean_columns(contract)
    table, full = ensure_target_tables(con, contract)
    _register_problems(con, contract, deliveries, problems)
    # of a refused delivery nothing is taken in: gated again, what it brought before goes
    con.execute(f"CREATE OR REPLACE TEMP VIEW batch AS SELECT * FROM memory.main.batch WHERE {block is None}")
    con.execute("CREATE OR REPLACE TEMP VIEW good AS SELECT * FROM batch WHERE len(_reasons) = 0")
    con.execute(f"""
        CREATE OR REPLACE TEMP VIEW speaking AS
        SELECT * FROM batch_deliveries WHERE {block is None} AND delivery_id NOT IN (SELECT delivery_id FROM file_problem)""")
    regated = not all(d.is_new for d in deliveries) and bool(
        con.execute(
            "SELECT 1 FROM lake.ops.outcome WHERE source = ? AND day IN (SELECT day FROM batch_deliveries) "
            "AND delivery_id IN (SELECT delivery_id FROM batch_deliveries) LIMIT 1",
            [contract.source],
        ).fetchall()
    )
    with transaction(con):
        seq = next_publish(con)
        if regated:
            for schema in ("quarantine", "quarantine_closed"):
                con.execute(
                    f"DELETE FROM lake.{schema}.row WHERE source = ? AND delivery_id IN (SELECT delivery_id FROM batch_deliveries)", [contract.source]
                )
        if block is None or regated:
            # rows that waited are new to the table: what their deliveries brought before stays
            MERGES[contract.load](con, contract, table, list(full), regated and not only_waiting)
            if personal:
                _publish_tokens(con, settings, contract, table, columns)
            _affected(con, contract, seq)
        else:
            con.execute("CREATE OR REPLACE TEMP TABLE merged AS SELECT ''::VARCHAR AS _delivery_id, 0 AS _line WHERE FALSE")
        # of a blocked delivery nothing is taken in, and whoever mends it sees which rows are why
        _quarantine(con, contract, most=None if block is None else BLOCKED_ROWS)
        reach("publish.merged")
        _outcomes(con, contract, block, run_id, now, seq)
        if only_waiting:
            _outcomes_of_waiting(con)
        totals = con.execute("""
            SELECT count(*), count(*) FILTER (status = 'published'), count(*) FILTER (status = 'quarantined'), count(*) FILTER (status = 'blocked'),
                   coalesce(sum(rows_read), 0), coalesce(sum(rows_accepted), 0), coalesce(sum(rows_duplicate), 0), coalesce(sum(rows_quarantined), 0)
            FROM outcome""").fetchall()[0]
        con.execute("INSERT INTO lake.ops.outcome SELECT * FROM outcome ORDER BY day")
        conflicts = _conflicts(con, contract, regated, only_waiting, block is None)
        con.execute("DELETE FROM lake.ops.pending WHERE delivery_id IN (SELECT delivery_id FROM batch_deliveries)")
        con.execute(
            "INSERT INTO lake.ops.gate_result SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?",
            [
                run_id,
                contract.source,
                seq,
                len(deliveries),
                verdict.rows if verdict else 0,
                bool(verdict and verdict.success and not block),
                verdict.bad_share if verdict else None,
                verdict.failed if verdict else [],
                verdict.seconds if verdict else 0.0,
                now,
            ],
        )
        reach("publish.before_commit")
    reach("publish.committed")
    # only now: of a batch that failed its halves are counted
    report.rows_conflict += conflicts
    report.failed += [r for r in (verdict.failed if verdict else ()) if r not in report.failed]
    for name, value in zip(
        ("deliveries", "published", "quarantined", "blocked", "rows_read", "rows_accepted", "rows_duplicate", "rows_quarantined"), totals, strict=True
    ):
        setattr(report, name, getattr(report, name) + int(value))
    if block:
        report.problems.append(f"{deliveries[0].name}: {block}")
    con.execute(
        "DROP VIEW IF EXISTS incoming; DROP VIEW speaking; DROP VIEW good; DROP VIEW batch; DROP VIEW typed; DROP TABLE memory.main.batch; DROP TABLE cut"
    )


_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v")) + b"\x7f"


def _is_binary(content: bytes) -> bool:
    """Whether a file that was refused is no text at all (a photo, a workbook): it is one refused file then, and has no lines."""
    head = content[:8192]
    return b"\0" in head or len(head) - len(head.translate(None, _CONTROLS)) > len(head) // 50


def _register_problems(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: list[Delivery], problems: dict[str, Problem]) -> None:
    """TEMP tables `file_problem` (a row a bad file) and `file_line` (its physical lines, as far as they can be shown)."""
    bad = [d for d in deliveries if d.delivery_id in problems]
    con.register(
        "bad_files",
        pa.table(
            {
                "delivery_id": pa.array([d.delivery_id for d in bad], pa.string()),
                "code": pa.array([problems[d.delivery_id].code for d in bad], pa.string()),
                "details": pa.array([str(problems[d.delivery_id]) for d in bad], pa.string()),
            }
        ),
    )
    con.execute("CREATE OR REPLACE TEMP TABLE file_problem AS SELECT * FROM bad_files")
    con.unregister("bad_files")
    lines: list[tuple[str, int, str]] = []
    for delivery in bad:
        if delivery.content is not None and not _is_binary(delivery.content):
            for number, line in enumerate(delivery.content.splitlines(), 1):
                if line.strip():
                    text = line[:RAW_TEXT_LIMIT].decode("utf-8", "backslashreplace").replace("\0", "\\x00")
                    lines.append((delivery.delivery_id, number, text))
    ids, numbers, texts = (list(c) for c in zip(*lines, strict=True)) if lines else ([], [], [])
    con.register(
        "bad_lines",
        pa.table({"delivery_id": pa.array(ids, pa.string()), "line": pa.array(numbers, pa.int32()), "raw_text": pa.array(texts, pa.string())}),
    )
    con.execute("CREATE OR REPLACE TEMP TABLE file_line AS SELECT * FROM bad_lines")
    con.unregister("bad_lines")


def _publish_tokens(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, table: str, columns: dict[str, str]) -> None:
    """Makes clean.<target> of a personal source anew from its closed twin: tokens stand where persons stood."""
    secret = [n for n, c in contract.columns.items() if c.personal == "token"]
    _tokens(con, settings, secret, f"lake.{table}")
    exprs = {**{n: f"t.{n}" for n in columns}, **{f"{n}_token": f"(SELECT k.token FROM token_of AS k WHERE k.value = t.{n})" for n in secret}}
    lineage = ["_source", "_delivery_id", "_line", "_as_of", "_received_at"]
    if has_conflict(contract):
        lineage.append("conflict")
    con.execute(f"DELETE FROM lake.clean.{contract.target}")
    con.execute(
        f"INSERT INTO lake.clean.{contract.target} ({', '.join([*columns, *lineage])}) "
        f"SELECT {', '.join([exprs[n] for n in columns] + ['t.' + n for n in lineage])} FROM lake.{table} AS t"
    )


def _quarantine(con: duckdb.DuckDBPyConnection, contract: Contract, most: int | None = None) -> None:
    """Rows that could not be placed (the first `most` of them), and the lines of files that could not be read."""
    common = f"{literal(contract.source)}, {literal(contract.target)}, d.day"
    rows = f"""
        WITH bad AS (SELECT * FROM memory.main.batch WHERE len(_reasons) > 0{f" ORDER BY _line LIMIT {most}" if most else ""}),
        line_text AS (
            SELECT _delivery_id, _line, any_value(_raw) AS raw_text FROM cut SEMI JOIN bad USING (_delivery_id, _line) GROUP BY ALL
        )
        SELECT b._delivery_id, {common}, b._line, {{text}}, b._reasons, array_to_string(b._details, '; '), d.received_at
        FROM bad AS b JOIN line_text AS t USING (_delivery_id, _line) JOIN batch_deliveries AS d ON b._delivery_id = d.delivery_id
        UNION ALL
        SELECT l.delivery_id, {common}, l.line, {{line}}, [p.code], p.details, d.received_at
        FROM file_line AS l JOIN file_problem AS p USING (delivery_id) JOIN batch_deliveries AS d USING (delivery_id)"""
    text = f"left(t.raw_text, {RAW_TEXT_LIMIT})"
    if contract.personal:
        con.execute("INSERT INTO lake.quarantine_closed.row " + rows.format(text=text, line="l.raw_text"))
        open_columns = [n for n, c in contract.columns.items() if c.personal is None]
        shown = " || '; ' || ".join(f"'{n}=' || coalesce(CAST(b.{n} AS VARCHAR), '')" for n in open_columns)
        text = f"left({shown} || '; ' || {literal('; '.join(f'{n}=***' for n, c in contract.columns.items() if c.personal))}, {RAW_TEXT_LIMIT})"
        con.execute("INSERT INTO lake.quarantine.row " + rows.format(text=text, line="'***'"))
    else:
        con.execute("INSERT INTO lake.quarantine.row " + rows.format(text=text, line="l.raw_text"))


def _affected(con: duckdb.DuckDBPyConnection, contract: Contract, seq: int) -> None:
    """What marts have to recompute: the (unit, day) of every row that came, went or came back; without such columns, the target as a whole."""
    con.execute(f"""
        INSERT INTO lake.ops.affected
        SELECT {seq}, {literal(contract.source)}, {literal(contract.target)}, unit, day FROM (SELECT DISTINCT unit, day FROM changed)""")


def _outcomes(con: duckdb.DuckDBPyConnection, contract: Contract, block: Problem | None, run_id: str, now: datetime, seq: int) -> None:
    """TEMP table `outcome` and the same rows in the ledger: one a delivery."""
    blocked = literal(str(block)) if block else "NULL"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE outcome AS
        WITH judged AS (
            SELECT _delivery_id AS delivery_id, count(*) AS n, count(*) FILTER (len(_reasons) > 0) AS bad FROM memory.main.batch GROUP BY ALL
        ),
        lines AS (SELECT delivery_id, count(*) AS n FROM file_line GROUP BY ALL),
        entered AS (SELECT _delivery_id AS delivery_id, count(*) AS n FROM merged GROUP BY ALL)
        SELECT d.delivery_id, {literal(contract.source)} AS source, d.day,
            CASE WHEN {blocked} IS NOT NULL THEN 'blocked' WHEN p.code IS NOT NULL THEN 'quarantined' ELSE 'published' END AS status,
            coalesce({blocked}, p.details) AS reason,
            -- of a blocked delivery nothing was taken in: its rows are not counted anywhere
            CASE WHEN {blocked} IS NULL THEN coalesce(j.n, l.n, 0) END AS rows_read,
            CASE WHEN {blocked} IS NULL THEN coalesce(e.n, 0) END AS rows_accepted,
            CASE WHEN {blocked} IS NULL THEN coalesce(j.n, 0) - coalesce(j.bad, 0) - coalesce(e.n, 0) END AS rows_duplicate,
            CASE WHEN {blocked} IS NULL THEN coalesce(j.bad, l.n, 0) END AS rows_quarantined,
            {literal(now)}::TIMESTAMP AS published_at, {literal(run_id)} AS run_id, {seq}::BIGINT AS seq
        FROM batch_deliveries AS d
        LEFT JOIN judged AS j USING (delivery_id)
        LEFT JOIN lines AS l USING (delivery_id)
        LEFT JOIN entered AS e USING (delivery_id)
        LEFT JOIN file_problem AS p USING (delivery_id)""")


def _outcomes_of_waiting(con: duckdb.DuckDBPyConnection) -> None:
    """Adds to `outcome` what was settled of the deliveries before: these rows waited, the others stay as they are."""
    con.execute("""
        CREATE OR REPLACE TEMP TABLE outcome AS
        SELECT o.* REPLACE (
            b.rows_read AS rows_read, b.rows_accepted + o.rows_accepted AS rows_accepted,
            b.rows_read - b.rows_accepted - o.rows_accepted - o.rows_quarantined AS rows_duplicate)
        FROM outcome AS o JOIN (
            SELECT delivery_id, rows_read, rows_accepted FROM lake.ops.outcome WHERE day IN (SELECT day FROM batch_deliveries)
            QUALIFY row_number() OVER (PARTITION BY delivery_id ORDER BY seq DESC) = 1
        ) AS b USING (delivery_id)""")


def _conflicts(con: duckdb.DuckDBPyConnection, contract: Contract, regated: bool, only_waiting: bool, published: bool) -> int:
    """Notes the rows that lost to a differing row of their own delivery; returns how many of them this publish brought."""
    if not has_conflict(contract) or not (published or regated):
        return 0
    before = "SELECT c.delivery_id, c.rows FROM lake.ops.conflict AS c JOIN batch_deliveries USING (delivery_id) UNION ALL" if only_waiting else ""
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE conflicts AS SELECT delivery_id, sum(rows) AS rows FROM ({before} FROM differing) GROUP BY delivery_id"
    )
    if regated:
        con.execute("DELETE FROM lake.ops.conflict WHERE delivery_id IN (SELECT delivery_id FROM batch_deliveries)")
    if con.execute("SELECT count(*) FROM conflicts").fetchall()[0][0]:
        con.execute(f"""
            INSERT INTO lake.ops.conflict
            SELECT delivery_id, {literal(contract.source)}, day, rows FROM conflicts JOIN batch_deliveries USING (delivery_id) WHERE rows > 0""")
    return int(con.execute("SELECT coalesce(sum(rows), 0) FROM differing").fetchall()[0][0])


def requeue(
    con: duckdb.DuckDBPyConnection,
    source: str,
    *,
    reasons: Sequence[str] = (),
    delivery_id: str | None = None,
    day: date | None = None,
    all_of_day: bool = False,
    only_waiting: bool = False,
) -> int:
    """Puts deliveries back to be gated again from raw: those with quarantined rows, a block or set aside, or all of a day.

    `only_waiting`: of each only the rows that stand in quarantine (see `rows_can_wait`).

    Returns how many. Used after a fix of contract, register or suite, and by a backfill of a day. Deliveries whose raw
    bytes were erased are passed over; raises LookupError where `delivery_id` names one of them, or none of the source.
    """
    if delivery_id:
        found = con.execute("SELECT stored, name FROM lake.ops.landed WHERE source = ? AND delivery_id = ?", [source, delivery_id]).fetchall()
        if not found:
            raise LookupError(f"{source} has no delivery {delivery_id}; `tnmt quarantine list` names those with bad rows")
        if found[0][0] in ("erasing", "erased"):
            raise LookupError(
                f"the raw bytes of {found[0][1]} ({delivery_id}) were erased when the retention of contract {source} had passed: "
                "expected bytes to gate again, found none; ask the sender for the file and put it into the inbox under another name"
            )
    conditions: list[str] = ["o.source = ?"]
    values: list[Any] = [source]
    if delivery_id:
        conditions.append("o.delivery_id = ?")
        values.append(delivery_id)
    else:
        settle(con, source)
        conditions.append("o.status <> 'closed'")  # what is settled stays so: by a person, or by the next of its name
    if day:
        conditions.append("o.day = ?")
        values.append(str(day))
    if not all_of_day and not delivery_id:
        named = f"AND list_has_any(q.reasons, [{', '.join(literal(r) for r in reasons)}])" if reasons else ""
        conditions.append(
            f"(o.status IN ('blocked', 'set_aside') OR o.delivery_id IN (SELECT q.delivery_id FROM lake.quarantine.row AS q WHERE q.source = o.source {named}))"
            if not reasons
            else f"o.delivery_id IN (SELECT q.delivery_id FROM lake.quarantine.row AS q WHERE q.source = o.source {named})"
        )
    chosen = f"""
        SELECT DISTINCT o.delivery_id, o.source, o.day, o.status FROM lake.ops.delivery AS o
        WHERE {" AND ".join(conditions)} AND o.status <> 'landed' AND o.stored NOT IN ('erasing', 'erased')"""
    with transaction(con):
        con.execute(f"CREATE OR REPLACE TEMP TABLE chosen AS {chosen}", values)
        if not only_waiting:
            con.execute("DELETE FROM lake.ops.pending WHERE only_waiting AND delivery_id IN (SELECT delivery_id FROM chosen)")
        # of a delivery that was refused as a whole every row waits, seen or not
        con.execute(
            "INSERT INTO lake.ops.pending SELECT delivery_id, source, day, $1 AND status = 'published' FROM chosen "
            "WHERE delivery_id NOT IN (SELECT delivery_id FROM lake.ops.pending)",
            [only_waiting],
        )
        count = con.execute("SELECT count(*) FROM lake.ops.pending WHERE source = ?", [source]).fetchall()[0][0]
    return int(count)
