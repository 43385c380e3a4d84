"""Where Superset meets sql_guard: who may see what, refusals as Superset's own errors, limits, exports."""

from __future__ import annotations

import json

import duck_connect
import sql_guard
from flask import g, has_request_context, request
from superset.errors import ErrorLevel, SupersetError, SupersetErrorType
from superset.exceptions import SupersetSecurityException

REFUSALS = {"TABLE_SECURITY_ACCESS_ERROR", "QUERY_SECURITY_ACCESS_ERROR", "DML_NOT_ALLOWED_ERROR"}


class SqlGuardError(SupersetSecurityException):
    """The statement is refused: status 403 with the reason, also where a chart's own SQL is the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(SupersetError(reason, SupersetErrorType.QUERY_SECURITY_ACCESS_ERROR, ErrorLevel.ERROR))


def granted(in_lab: bool) -> sql_guard.Tables | None:
    """Tables of the account that asks: those of its datasets, and in charts those of its dashboards too; None for the whole file.

    The set-up, which has no account, sees the whole file; a request without one sees nothing.
    """
    user = getattr(g, "user", None)
    if user is None:
        return frozenset() if has_request_context() else None
    kept = g.setdefault("tnmt_granted", {})
    if in_lab not in kept:
        kept[in_lab] = _granted(user, in_lab)
    return kept[in_lab]


def _granted(user, in_lab: bool) -> sql_guard.Tables | None:
    from superset import db
    from superset import security_manager as sm
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.core import Database
    from superset.models.dashboard import Dashboard

    if sm.can_access_all_datasources() or all(sm.can_access_database(d) for d in db.session.query(Database)):
        return None
    named = sm.user_view_menu_names("datasource_access") | sm.user_view_menu_names("schema_access")
    roles = set(getattr(user, "roles", []))
    shown = set()
    if not in_lab:
        open_to = [d for d in db.session.query(Dashboard) if d.published and roles & set(d.roles)]
        shown = {chart.datasource_id for d in open_to for chart in d.slices}
    tables: set[tuple[str, str]] = set()
    for dataset in db.session.query(SqlaTable):
        if dataset.id in shown or dataset.perm in named or (dataset.schema_perm and dataset.schema_perm in named):
            tables.add((str(dataset.schema).lower(), dataset.table_name.lower()))
            if dataset.sql and not in_lab:
                tables |= sql_guard.tables_of(dataset.sql)
    return frozenset(tables)


def mutator(sql: str, database=None, **_kwargs) -> str:
    """SQL_QUERY_MUTATOR: the SQL as it is, or an error that says why. (The connection judges it again: not every path comes by here.)"""
    if database is not None and database.backend == "duckdb":
        try:
            duck_connect.check(sql, in_lab=has_request_context() and "/sqllab/" in request.path)
        except sql_guard.Refused as refused:
            raise SqlGuardError(str(refused)) from refused
    return sql


def install(app) -> None:
    """Puts the limits before Superset's parser, the smaller LIMIT in force, and no formula into any export."""
    duck_connect.granted = granted
    app.after_request(_refusals)
    _bound_parsing()
    _keep_limits()
    _neutral_exports()


def _refusals(response):
    """SQL Lab answers 500 in English where a statement is refused: 403, and the reason in Vietnamese."""
    if response.status_code == 500 and request.path.startswith("/api/v1/sqllab/") and response.is_json:
        errors = (response.get_json(silent=True) or {}).get("errors") or []
        if errors and all(error.get("error_type") in REFUSALS for error in errors):
            for error in errors:
                if error["error_type"] == "TABLE_SECURITY_ACCESS_ERROR":
                    tables = ", ".join((error.get("extra") or {}).get("tables", []))
                    error["message"] = f"Không có bảng {tables} trong phần được xem"
            response.status_code = 403
            response.set_data(json.dumps({"errors": errors}, ensure_ascii=False))
    return response


def _bound_parsing() -> None:
    from superset.sql.parse import SQLStatement

    original = SQLStatement._parse.__func__

    def parse(cls, script, engine):
        try:
            sql_guard.bounded(script)
            return original(cls, script, engine)
        except sql_guard.Refused as refused:
            raise SqlGuardError(str(refused)) from refused
        except RecursionError as error:
            raise SqlGuardError("Câu lệnh lồng nhau quá sâu") from error

    SQLStatement._parse = classmethod(parse)


def _keep_limits() -> None:
    """A statement's own LIMIT stays where it is the smaller one; one that is no plain number stays inside."""
    from sqlglot import exp
    from superset.sql.parse import LimitMethod, SQLStatement

    original = SQLStatement.set_limit_value

    def set_limit_value(self, limit, method=LimitMethod.FORCE_LIMIT):
        own = self.get_limit_value()
        if own is not None and own <= limit:
            return
        if own is None and (self._parsed.args.get("limit") or self._parsed.args.get("fetch")):
            self._parsed = exp.select("*").from_(self._parsed.copy().subquery("t"))
        original(self, limit, method)

    SQLStatement.set_limit_value = set_limit_value


def _neutral_exports() -> None:
    from superset.commands.streaming_export.base import BaseStreamingCSVExportCommand as Stream
    from superset.utils import csv, excel

    class Neutral:
        def __init__(self, writer) -> None:
            self.writer = writer

        def writerow(self, row) -> None:
            self.writer.writerow([sql_guard.neutral(cell) for cell in row])

    run = Stream.run

    def run_with_grants(self):
        granted(in_lab=False)  # asked now: the stream itself runs after the request, where the account's roles can no longer be read
        return run(self)

    header, rows, escape, quote = Stream._write_csv_header, Stream._process_rows, csv.escape_value, excel.quote_formulas

    def write_header(self, columns, writer, buffer):
        buffer.write("\ufeff")  # or Excel takes Vietnamese for another code page
        return header(self, columns, Neutral(writer), buffer)

    def process_rows(self, result, writer, buffer, limit):
        return rows(self, result, Neutral(writer), buffer, duck_connect.MAX_ROWS if limit is None else min(limit, duck_connect.MAX_ROWS))

    def escape_value(value):
        value = sql_guard.neutral(value)
        return value if value[:1] == "'" else escape(value)

    def quote_formulas(frame):
        return quote(frame.map(sql_guard.neutral).rename(columns=sql_guard.neutral))

    Stream.run, Stream._write_csv_header, Stream._process_rows = run_with_grants, write_header, process_rows
    csv.escape_value, excel.quote_formulas = escape_value, quote_formulas
