"""From landed to published: read, type, resolve, judge, and commit rows, quarantine and ledger as one transaction."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import structlog

from ingestion.cast import cast, literal
from ingestion.contract import Contract
from ingestion.landing import TOO_LARGE, stored_path
from ingestion.merge import TargetMismatch
from ingestion.model import Delivery, Problem, reader_failed, unfinished_geopackage
from ingestion.names import claiming, format_of, groups, moment, on_disk
from ingestion.publish import Gating, Loaded, keep_waiting, one_row_a_key, publish, whole_keys
from ingestion.readers import apart
from ingestion.targets import resolve
from ingestion.units import UnitError
from lake.faults import reach
from lake.lake import LakeError, next_publish, transaction
from quality.gate import GateError, Verdict, judge_batch, judge_rows
from quality.rules import SuiteError, load_suite, quoted_name, rules_of
from tnmt.settings import Settings

log = structlog.get_logger()
BATCH_FILES = 60_000
"""Files of one gate: a day of all stations. A backlog of months is worked off in several, each committed by itself."""


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
    contract and lake, or contract and suite, do not fit: nothing was published then. Each format is gated by itself, and where one fails as a whole
    the others are gated all the same before its error is raised.
    """
    todo = list(deliveries) if deliveries is not None else pending(con, settings, contract, fresh)
    report = Loaded(contract.source, tolerated=contract.tolerated_bad_share)
    if not todo:
        return report
    done: set[str] = set()
    failed: dict[str, Exception] = {}
    while todo:
        for own, part in by_format(contract, todo):
            gating = Gating(con, settings, own, run_id, now, report, only_waiting=False, whole=contract, aside_before=report.set_aside)
            try:
                _load_format(gating, part)
            except Exception as error:
                if not contract.formats:
                    raise
                log.error("format failed", source=contract.source, pattern=own.files.pattern, error=type(error).__name__)
                failed.setdefault(own.files.pattern, error)
        done |= {d.delivery_id for d in todo}
        # a snapshot that was refused gives its scopes back to older deliveries, which are gated again
        given_back = deliveries is None and contract.load == "snapshot"
        todo = [d for d in pending(con, settings, contract) if d.delivery_id not in done] if given_back else []
    if failed:
        raise next(iter(failed.values()))
    return report


def by_format(contract: Contract, deliveries: Sequence[Delivery]) -> list[tuple[Contract, list[Delivery]]]:
    """The deliveries by their format, each with the contract narrowed to it, in the order of the contract.

    What fits no format, or more than one, goes with the first, whose reader never sees it: the gate refuses it by its name.
    """
    if not contract.formats:
        return [(contract, list(deliveries))]
    parts: dict[str, list[Delivery]] = {own.files.pattern: [] for own in contract.each}
    for delivery in deliveries:
        parts[(format_of(contract, delivery.name) or contract.each[0]).files.pattern].append(delivery)
    return [(own, part) for own in contract.each if (part := parts[own.files.pattern])]


def _load_format(gating: Gating, deliveries: list[Delivery]) -> None:
    size = BATCH_FILES if gating.contract.files.small else 1
    for only_waiting in (False, True):
        part = [d for d in deliveries if d.only_waiting is only_waiting]
        for start in range(0, len(part), size):
            _load_apart(replace(gating, only_waiting=only_waiting, aside=set()), part[start : start + size])


SYSTEM_FAULTS = (OSError, SuiteError, TargetMismatch, UnitError, LakeError, *(
    duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.ConnectionException, duckdb.TransactionException, duckdb.HTTPException,
))  # fmt: skip
"""What no delivery is guilty of: the disk, the catalog, contract and suite. They stop the source; it is tried again by the next run."""
LATEST_NAME = timedelta(days=400)
"""How far after its arrival the time in a file's name may lie: a price list of next year is sent this year, one of 2035 is a slip of the pen."""
MOST_SET_ASIDE = 20
"""Deliveries of a source's format that one run sets aside for an error; where more fail, the error is likely ours, and the format stops instead."""


def _load_apart(gating: Gating, deliveries: list[Delivery]) -> None:
    """Gates a batch; where an error that nobody foresaw ends that, its halves by themselves, until the one delivery is found on which it hangs.

    That one is set aside. A batch of halves ends as the whole would: the result does not depend on how deliveries are batched.
    """
    try:
        _load_batch(gating, deliveries)
        return
    except SYSTEM_FAULTS:
        raise
    except Exception as error:
        if gating.report.set_aside - gating.aside_before >= MOST_SET_ASIDE:
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
    for part in (deliveries[:middle], deliveries[middle:]):
        _load_apart(gating, part)


def _set_aside(gating: Gating, problems: dict[str, Problem], deliveries: Sequence[Delivery]) -> None:
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


def _load_batch(gating: Gating, deliveries: list[Delivery]) -> None:
    con, settings, contract, run_id = gating.con, gating.settings, gating.contract, gating.run_id
    only_waiting = gating.only_waiting
    log.debug("gate", source=contract.source, deliveries=len(deliveries), run_id=run_id)
    if contract.files.small and not contract.files.in_place:
        _fetch_content(con, contract, deliveries)
    problems: dict[str, Problem] = {}
    logs = _logs_beside(con, contract, deliveries)
    for delivery in deliveries:
        if problem := _name_problem(gating.whole, delivery) or logs.get(delivery.delivery_id):
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
        keep_waiting(con, contract)
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
        whole_keys(con, contract)
    if contract.load == "snapshot" and contract.key:
        one_row_a_key(con, contract)
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
    publish(gating, deliveries, problems, block, verdict)


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
    existing = {row[0] for row in con.execute(f"DESCRIBE {table}").fetchall()}
    made = {wide.parameter, wide.value, wide.unit, wide.status}
    keep = [n for n in contract.file_columns if n in existing and n not in made] + [quoted_name(h) for h in contract.helpers if h in existing]
    parts = []
    for header, parameter in wide.columns.items():
        if header in existing:
            flag = parameter.status_header
            status = quoted_name(flag) if flag is not None and flag in existing else "NULL::VARCHAR"
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
    own, found = format_of(contract, delivery.name), groups(contract, delivery.name)
    reads_maps = any(c.format.reader == "vector" for c in contract.each)
    if found is None and reads_maps and delivery.name.lower().endswith(tuple(f".gpkg{log}" for log in _LOGS)):
        return unfinished_geopackage(delivery.name)
    if own is None and (fitting := claiming(contract, delivery.name)):
        return Problem(
            "wrong_name",
            "Tên tệp khớp với nhiều định dạng của nguồn: không rõ phải đọc theo định dạng nào",
            "đúng một trong: " + "; ".join(c.files.pattern for c in fitting),
            delivery.name,
            f"Sửa các `pattern` trong {contract.source}.yaml để không trùng nhau, hoặc đổi tên tệp rồi gửi lại",
        )
    if own is None or found is None:
        expected = "; ".join(c.files.pattern for c in contract.each)
        return Problem("wrong_name", "Tên tệp không đúng quy ước", expected, delivery.name, "Đổi tên tệp theo quy ước rồi gửi lại")
    if contract.as_of.origin == "file_name" and moment(found["as_of"] or "", own.files.as_of_format) is None:
        return Problem(
            "wrong_name",
            "Thời gian trong tên tệp không đọc được",
            own.files.as_of_format,
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
