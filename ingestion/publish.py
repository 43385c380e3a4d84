"""What the gate let through into the lake: rows, quarantine and ledger in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime

import duckdb
import pyarrow as pa

from ingestion.cast import literal
from ingestion.contract import Contract
from ingestion.merge import MERGES, ensure_table, has_conflict
from ingestion.model import Delivery, Problem
from ingestion.persons import publish_tokens
from ingestion.targets import clean_columns
from lake.faults import reach
from lake.lake import next_publish, transaction
from quality.gate import Verdict
from tnmt.settings import Settings

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


@dataclass(frozen=True)
class Gating:
    """One format of a source in one run: what its batches share. `only_waiting`: of the deliveries only the rows that wait for a register."""

    con: duckdb.DuckDBPyConnection
    settings: Settings
    contract: Contract
    run_id: str
    now: datetime
    report: Loaded
    only_waiting: bool
    whole: Contract
    """The contract with all its formats; `contract` is narrowed to the one that is gated."""
    aside_before: int = 0
    """How many deliveries of other formats were set aside by then."""
    aside: set[str] = field(default_factory=set)
    """Deliveries that were set aside: of a batch that fails afterwards they are no part any more."""


def keep_waiting(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Leaves in `cut` the rows that stand in quarantine."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE waits AS SELECT DISTINCT delivery_id, line FROM lake.quarantine.row "
        "WHERE source = ? AND delivery_id IN (SELECT delivery_id FROM batch_deliveries)",
        [contract.source],
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE cut AS SELECT c.* FROM cut AS c SEMI JOIN waits AS w ON w.delivery_id = c._delivery_id AND w.line = c._line"
    )


def whole_keys(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """A row without a whole key cannot be told from another: it is not placed, whether or not the contract says `required`."""
    lacking = f"len(_reasons) = 0 AND ({' OR '.join(f'{k} IS NULL' for k in contract.key)})"
    if con.execute(f"SELECT 1 FROM memory.main.batch WHERE {lacking} LIMIT 1").fetchall():
        con.execute(f"""
            UPDATE memory.main.batch SET _reasons = ['key_missing'], _details = ['khóa {", ".join(contract.key)} phải có đủ giá trị, gặp ô trống']
            WHERE {lacking}""")


def one_row_a_key(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """In a snapshot a key stands once: which of two rows is right cannot be told, so the later line is not placed."""
    con.execute(f"""
        CREATE OR REPLACE TABLE memory.main.batch AS
        SELECT * EXCLUDE (_nth) REPLACE (
            CASE WHEN _nth > 1 AND len(_reasons) = 0 THEN ['key_twice'] ELSE _reasons END AS _reasons,
            CASE WHEN _nth > 1 AND len(_reasons) = 0 THEN ['khóa {", ".join(contract.key)} đã có ở dòng trước'] ELSE _details END AS _details)
        FROM (SELECT *, row_number() OVER (PARTITION BY _delivery_id, len(_reasons) > 0, {", ".join(contract.key)} ORDER BY _line) AS _nth
              FROM memory.main.batch)""")


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


def publish(gating: Gating, deliveries: list[Delivery], problems: dict[str, Problem], block: Problem | None, verdict: Verdict | None) -> None:
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
                publish_tokens(con, settings, contract, table, columns)
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
    # the text of a row holds what the contract drops from its columns: the columns are shown instead
    if contract.personal or any(c.normalise == "path" for c in contract.columns.values()):
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
