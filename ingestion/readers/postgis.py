"""Live PostgreSQL and PostGIS tables. A pull becomes a file, so that it is landed, hashed and replayed like any delivery.

One pull reads one REPEATABLE READ snapshot and writes Parquet ordered by key: an unchanged table gives equal bytes.
Geometry is made plain on the server (WKB, two dimensions, chords for arcs); its CRS travels as column `_crs`, because
DuckDB's PostgreSQL reader drops the SRID.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import unquote

import duckdb
import structlog

from ingestion import crs as systems
from ingestion.cast import LOCAL_OFFSET_HOURS, literal
from ingestion.contract import Contract
from ingestion.model import Delivery, Problem
from ingestion.readers import fold, match_headers
from ingestion.readers.rows import Unreadable, columns_of
from ingestion.readers.tabular import quoted
from ingestion.readers.vector import append, create_empty, geometry_of, impossible, shape_columns
from lake.extensions import link_extensions

log = structlog.get_logger()

STAMP = "%Y%m%d%H%M%S"
OVERLAP = timedelta(hours=1)
"""How far an incremental pull reaches behind its watermark: a long transaction commits stamps older than those seen."""

_CONNECT_SECONDS = 10
_NATIVE = re.compile(r"VARCHAR|SMALLINT|INTEGER|BIGINT|BOOLEAN|DATE|TIMESTAMP|DECIMAL\(.*\)")


class SourceUnreachable(ConnectionError):
    """A server that does not answer, went away in the middle, or refuses the query; nothing was landed. Holds no password."""

    def __init__(self, problem: Problem) -> None:
        """Its text is the problem's."""
        super().__init__(str(problem))
        self.problem = problem


def snapshot(contract: Contract, dsn: str, folder: Path, now: datetime, extensions: Path | None = None, since: datetime | None = None) -> Path:
    """Pulls the contract's table or query into `folder` as `<source>_<time>.parquet` and returns that path.

    `now` and `since` are GMT+7; with `since` only rows whose `watermark` is not older than that, less OVERLAP, are
    read. The file appears under its name only when it is whole. It holds the columns that the contract names, under
    the server's names, and no others; where the table does not fit the contract it holds their names alone, and the
    reader says what is missing. Raises SourceUnreachable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(f"{contract.source}_*.parquet.part"):
        left_over.unlink()
    target = folder / f"{contract.source}_{now:{STAMP}}.parquet"
    temporary = target.with_suffix(".parquet.part")
    con = duckdb.connect(
        config={
            "extension_directory": str(link_extensions(extensions or folder.parent.parent / "duckdb-extensions")),
            "autoinstall_known_extensions": "false",
        }
    )
    attached = False
    try:
        con.execute("LOAD postgres_scanner")
        con.execute(f"ATTACH {literal(_patient(dsn))} AS pg (TYPE postgres, READ_ONLY)")
        attached = True
        con.execute("BEGIN")
        query, order = _query(con, contract, since)
        rows = con.execute(
            f"COPY (SELECT * FROM postgres_query('pg', {literal(query)}) ORDER BY {order}) TO {literal(str(temporary))} (FORMAT parquet, COMPRESSION zstd)"
        ).fetchall()[0][0]
        clock = con.execute("SELECT * FROM postgres_query('pg', 'SELECT now()::text AS clock')").fetchall()[0][0]
        con.execute("COMMIT")
    except duckdb.Error as error:
        temporary.unlink(missing_ok=True)
        with suppress(duckdb.Error):
            # left to close(), the rollback on a dead connection ends the whole process (duckdb 1.5.5: abort)
            con.execute("ROLLBACK")
        raise SourceUnreachable(_problem(contract, dsn, _masked(str(error), dsn), attached)) from None
    finally:
        con.close()
    temporary.replace(target)
    log.info("pulled", source=contract.source, rows=rows, server_time=clock, since=since and str(since))
    return target


def _patient(dsn: str) -> str:
    """The DSN with a limit on waiting for an answer, where it sets none."""
    if "connect_timeout" in dsn:
        return dsn
    if "://" in dsn:
        return f"{dsn}{'&' if '?' in dsn else '?'}connect_timeout={_CONNECT_SECONDS}"
    return f"{dsn} connect_timeout={_CONNECT_SECONDS}"


def _masked(text: str, dsn: str) -> str:
    """The first line of an error without the DSN and without the password, however it is written."""
    secrets = [dsn, _patient(dsn)]
    for found in re.findall(r"password\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s&]+))|://[^:/@]*:([^@/]*)@", dsn):
        secrets += [s for part in found if part for s in (part, unquote(part))]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return " ".join(re.sub(r"(password|passwd)\s*=\s*\S+|//[^@/\s]*@", "…", text).splitlines()[:2])[:300]


def _problem(contract: Contract, dsn: str, found: str, attached: bool) -> Problem:
    where = re.search(r"host\s*=\s*(\S+)|@([^/:?]+)", dsn)
    server = next((g for g in where.groups() if g), "") if where else ""
    if not attached:
        return Problem(
            "database_unreachable",
            f"Không kết nối được máy chủ PostgreSQL {server}".rstrip(),
            "máy chủ trả lời",
            found,
            "Kiểm tra máy chủ, mạng và chuỗi kết nối; lần chạy sau sẽ tự thử lại, dữ liệu đã công bố giữ nguyên",
        )
    return Problem(
        "database_interrupted",
        f"Không đọc trọn được {contract.format.table or 'truy vấn'} của nguồn {contract.source}",
        "bảng hoặc truy vấn đọc được trọn vẹn trong một giao dịch",
        found,
        "Kiểm tra máy chủ, tên bảng và quyền đọc; không có gì được tiếp nhận, lần chạy sau sẽ tự thử lại",
    )


def _query(con: duckdb.DuckDBPyConnection, contract: Contract, since: datetime | None) -> tuple[str, str]:
    """SQL for the server, and the order of the rows."""
    source = f"({contract.format.query or f'SELECT * FROM {contract.format.table}'}) AS q"
    kinds = {
        row[0]: row[1] for row in con.execute(f"DESCRIBE SELECT * FROM postgres_query('pg', {literal(f'SELECT * FROM {source} LIMIT 0')})").fetchall()
    }
    shape = geometry_of(contract)
    named = shape and next((n for n in kinds for h in contract.columns[shape].header or (shape,) if fold(n) == fold(h)), None)
    matched = match_headers(contract, [n for n in kinds if n != named])
    if isinstance(matched, Problem) or (shape and named is None):
        # the names alone: the reader will say the same, and the ledger keep it
        return f"SELECT {', '.join(f'{quoted(n)}::text' for n in kinds)} FROM {source} LIMIT 0", "ALL"
    parts = [f"{_plain(contract, f'q.{quoted(h)}', kinds[h])} AS {quoted(h)}" for h in dict.fromkeys(matched.values())]
    if named:
        g = f"q.{quoted(named)}"
        parts += [
            f"ST_AsBinary(ST_Force2D(ST_CurveToLine({g})), 'NDR') AS _wkb",
            # PostGIS 3.3 does not list EPSG:9212, and servers use the number all the same
            f"""CASE WHEN ST_SRID({g}) = 0 THEN '' WHEN s.srid IS NOT NULL AND s.auth_name IS DISTINCT FROM 'EPSG' THEN s.srtext
                       ELSE 'EPSG:' || coalesce(s.auth_srid, ST_SRID({g})) END AS _crs""",
        ]
        source += f" LEFT JOIN spatial_ref_sys AS s ON s.srid = ST_SRID({g})"
    query = f"SELECT {', '.join(parts)} FROM {source}"
    if since is not None and contract.format.watermark:
        local = since.replace(tzinfo=timezone(timedelta(hours=LOCAL_OFFSET_HOURS))) - OVERLAP
        mark = quoted(contract.format.watermark)
        limit = (
            f"TIMESTAMPTZ '{local.isoformat()}'"
            if "ZONE" in kinds.get(contract.format.watermark, "")
            else f"TIMESTAMP '{local.astimezone(contract.time.tzinfo).replace(tzinfo=None).isoformat(sep=' ')}'"
        )
        query += f" WHERE q.{mark} >= {limit}"
    keys = [matched[k] for k in contract.key if k in matched]
    return query, ", ".join(map(quoted, keys)) if keys else "ALL"


def _plain(contract: Contract, column: str, kind: str) -> str:
    """A column so that nothing is lost on the way: DuckDB reads NUMERIC without a scale as DOUBLE."""
    if kind == "TIMESTAMP WITH TIME ZONE":
        zone = contract.time.zone
        return f"({column} AT TIME ZONE {f'INTERVAL {literal(zone)}' if zone[0] in '+-' else literal(zone)})"
    return column if _NATIVE.fullmatch(kind) else f"{column}::text"


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Rows of pulled tables in their native types, geometry as WKB in the contract's CRS; see `ingestion.readers`.

    `_problem` of a row as for vector files. Problems of a pull: not_a_pull, geometry_missing, crs_missing, crs_other,
    crs_impossible, and those of `match_headers`.
    """
    create_empty(con, contract, into)
    problems: dict[str, Problem] = {}
    for delivery in deliveries:
        try:
            _fill(con, contract, delivery, into)
        except Unreadable as error:
            con.execute(f"DELETE FROM {into} WHERE _delivery_id = ?", [delivery.delivery_id])
            problems[delivery.delivery_id] = error.problem
    return problems


def _fill(con: duckdb.DuckDBPyConnection, contract: Contract, delivery: Delivery, into: str) -> None:
    source = f"read_parquet({literal(str(delivery.path))}, file_row_number = true)"
    shape = geometry_of(contract)
    try:
        names = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    except duckdb.Error as error:
        raise Unreadable(
            Problem(
                "not_a_pull",
                "Tệp trích xuất từ PostgreSQL bị hỏng",
                "tệp Parquet do hệ thống trích xuất",
                type(error).__name__,
                "Chạy lại việc trích xuất",
            )
        ) from None
    matched = match_headers(contract, [n for n in names if n not in ("_wkb", "_crs", "file_row_number")])
    if isinstance(matched, Problem):
        raise Unreadable(matched)
    if shape:
        _check_crs(con, contract, source, names)
    columns = dict.fromkeys(columns_of(contract), "NULL::VARCHAR") | {n: quoted(h) for n, h in matched.items()}
    raw = ", ".join(f"{literal(h)}, {quoted(h)}" for h in dict.fromkeys(matched.values()))
    parsed, problem, kept = shape_columns(contract, "_wkb") if shape else ("NULL", "NULL::VARCHAR", "")
    if shape:
        columns[shape] = kept
    append(
        con,
        into,
        f"""
        SELECT {literal(delivery.delivery_id)} AS _delivery_id, CAST(file_row_number + 1 AS INTEGER) AS _line,
               CAST(json_object({raw}) AS VARCHAR) AS _raw, {problem} AS _problem,
               {", ".join(f"{v} AS {quoted(n)}" for n, v in columns.items())}
        FROM (SELECT *, {parsed} AS g FROM {source})""",
    )
    if shape and (found := impossible(con, contract, delivery.delivery_id, into, shape)):
        raise Unreadable(found)


def _check_crs(con: duckdb.DuckDBPyConnection, contract: Contract, source: str, names: list[str]) -> None:
    expected = str(contract.format.crs)
    if "_wkb" not in names:
        raise Unreadable(
            Problem(
                "geometry_missing",
                "Bảng nguồn không có cột hình học của hợp đồng",
                "một cột geometry",
                ", ".join(names)[:500],
                f"Sửa tên cột hình học trong {contract.source}.yaml",
            )
        )
    found = [row[0] for row in con.execute(f"SELECT DISTINCT _crs FROM {source} WHERE _wkb IS NOT NULL ORDER BY 1").fetchall()]
    if "" in found:
        raise Unreadable(
            Problem(
                "crs_missing",
                "Bảng nguồn có hình học không khai báo hệ tọa độ (SRID 0)",
                systems.label(expected),
                "SRID 0",
                "Gán SRID cho cột hình học (UpdateGeometrySRID) rồi trích xuất lại",
            )
        )
    if other := [text for text in found if not systems.same(text, expected)]:
        raise Unreadable(
            Problem(
                "crs_other",
                "Hệ tọa độ khác hợp đồng",
                systems.label(expected),
                ", ".join(map(systems.label, other)),
                "Sửa SRID của bảng nguồn, hoặc format.crs trong hợp đồng",
            )
        )
