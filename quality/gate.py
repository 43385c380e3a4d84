"""The gate: Great Expectations judges the batch, SQL made from the same suite judges each row."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

import duckdb

from quality.rules import Rule, flags, quoted, rules_of


class GateError(Exception):
    """The suite could not be evaluated: nothing of the batch may be published."""


@dataclass
class Verdict:
    """What the gate says of one batch. `failed` names the reasons whose share of bad rows is above what is tolerated."""

    rows: int
    bad_rows: int
    success: bool
    failed: list[str] = field(default_factory=list)
    blocking: list[str] = field(default_factory=list)
    warnings: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def bad_share(self) -> float:
        """Share of the rows that go to quarantine."""
        return self.bad_rows / self.rows if self.rows else 0.0


def judge_rows(con: duckdb.DuckDBPyConnection, table: str, suite: dict[str, Any] | None) -> list[Rule]:
    """Adds to `table` the reasons that the suite's rules give each row (columns `_reasons`, `_details`); returns the rules.

    One scan for all rules. A row that could not be typed keeps that reason; rules on its NULLs are not repeated.
    """
    rules = rules_of(suite) if suite else []
    row_rules = [r for r in rules if r.bad is not None and r.action == "quarantine"]
    if not row_rules:
        return rules

    # rules on the whole column (unique) see every row; what they find is written to the few rows that break one
    broken = ", ".join(f"coalesce({r.bad}, FALSE) AS b{i}" for i, r in enumerate(row_rules))
    reasons = flags([(f"b{i}", quoted(r.reason)) for i, r in enumerate(row_rules)])
    messages = flags([(f"b{i}", quoted(r.message_vi)) for i, r in enumerate(row_rules)])
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE broken AS
        SELECT row_at, {reasons} AS reasons, {messages} AS details
        FROM (SELECT rowid AS row_at, len(_reasons) = 0 AS is_typed, {broken} FROM {table})
        WHERE is_typed AND ({" OR ".join(f"b{i}" for i in range(len(row_rules)))})
    """)
    con.execute(f"UPDATE {table} SET _reasons = b.reasons, _details = b.details FROM broken AS b WHERE {table}.rowid = b.row_at")
    return rules


_CONTEXT: dict[str, Any] = {}


def _gx() -> Any:
    """One ephemeral GX context a process; its import alone takes seconds, so it is made on first use."""
    if "context" not in _CONTEXT:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
        _CONTEXT.update(context=context, gx=gx)
    return _CONTEXT["gx"], _CONTEXT["context"]


def judge_batch(con: duckdb.DuckDBPyConnection, table: str, suite: dict[str, Any] | None, tolerated: float) -> Verdict:
    """GX's verdict over `table` (in DuckDB's `memory.main`): each rule may be broken by at most the share `tolerated`.

    Raises GateError where an expectation could not be evaluated. No value of the data is kept in the result.
    """
    started = time.perf_counter()
    rows, bad_rows = con.execute(f"SELECT count(*), count(*) FILTER (len(_reasons) > 0) FROM {table}").fetchall()[0]
    verdict = Verdict(rows, bad_rows, success=True)
    if suite and rows:
        gx, context = _gx()
        from quality.gx_duckdb import add_duckdb

        cursor = con.cursor()  # GX leaves a transaction open: never on the connection that publishes
        cursor.execute("USE memory.main")
        try:
            datasource = add_duckdb(context, "batch", cursor)
            # what the path keeps beside the data (lists of reasons) is none of GX's business, and no type that it knows
            cursor.execute(f"CREATE OR REPLACE VIEW memory.main.judged AS SELECT * EXCLUDE (_reasons, _details, _notes) FROM {table}")
            name = "judged"
            batch = datasource.add_table_asset(name, table_name=name).add_batch_definition_whole_table("all").get_batch()
            expectations = [
                {**e, "kwargs": {**e["kwargs"], **({} if e["type"].startswith("expect_table") else {"mostly": 1.0 - tolerated})}}
                for e in suite["expectations"]
            ]
            result = batch.validate(gx.ExpectationSuite(name=suite["name"], expectations=expectations), result_format="BASIC")
            datasource.get_execution_engine()._connection.close()
        except Exception as error:
            raise GateError(f"suite {suite['name']} cannot be evaluated: {type(error).__name__}") from error
        finally:
            context.data_sources.delete("batch")
            cursor.execute("DROP VIEW IF EXISTS memory.main.judged")
            cursor.close()
        for outcome in result.results:
            meta = outcome.expectation_config.meta
            if outcome.exception_info and _raised(outcome.exception_info):
                raise GateError(f"suite {suite['name']}: expectation {meta.get('reason')} could not be evaluated")
            if not outcome.success:
                verdict.failed.append(meta["reason"])
                if meta["action"] == "block":
                    verdict.blocking.append(meta["reason"])
            elif meta["action"] == "warn" and (count := (outcome.result or {}).get("unexpected_count")):
                verdict.warnings[meta["reason"]] = int(count)
    verdict.success = not verdict.failed and verdict.bad_share <= tolerated
    verdict.seconds = time.perf_counter() - started
    return verdict


def _raised(info: dict[str, Any]) -> bool:
    """Whether GX met an exception; it nests them by metric."""
    if "raised_exception" in info:
        return bool(info["raised_exception"])
    return any(_raised(v) for v in info.values() if isinstance(v, dict))
