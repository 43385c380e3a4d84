"""Live PostGIS tables. A pull becomes a file, so that it is landed, hashed and replayed like any other delivery.

One pull reads one REPEATABLE READ snapshot and writes a Parquet file ordered by key: an unchanged table gives equal
bytes, hence no new delivery. The SRID travels as a column `_srid`, because DuckDB's PostgreSQL reader drops it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb

from ingestion.cast import literal
from ingestion.contract import Contract
from ingestion.model import Delivery, Problem
from ingestion.readers import match_headers
from lake.extensions import link_extensions

STAMP = "%Y%m%d%H%M%S"


class SourceUnreachable(ConnectionError):
    """The server does not answer, or went away in the middle; nothing was landed. Holds no password."""


def _masked(text: str, dsn: str) -> str:
    text = text.replace(dsn, "…")
    return re.sub(r"(password|passwd)\s*=\s*\S+|//[^@/]*@", "…", text).splitlines()[0][:300]


def snapshot(contract: Contract, dsn: str, folder: Path, now: datetime, extensions: Path | None = None) -> Path:
    """Pulls the contract's table or query into `folder` as <source>_<time>.parquet; raises SourceUnreachable.

    The file appears under its name only when it is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{contract.source}_{now:{STAMP}}.parquet"
    half = target.with_suffix(".parquet.part")
    half.unlink(missing_ok=True)
    con = duckdb.connect(config={"extension_directory": str(link_extensions(extensions or folder.parent.parent / "duckdb-extensions")),
                                 "autoinstall_known_extensions": "false"})
    try:
        con.execute(f"ATTACH {literal(dsn)} AS pg (TYPE postgres, READ_ONLY)")
        con.execute("BEGIN")
        query = contract.format.query or f"SELECT * FROM {contract.format.table}"
        geometry = next((n for n, c in contract.columns.items() if c.type == "geometry"), None)
        inner = query
        if geometry is not None:
            header = (contract.columns[geometry].header or (geometry,))[0]
            inner = f'SELECT q.*, ST_AsBinary(q."{header}") AS _wkb, ST_SRID(q."{header}") AS _srid FROM ({query}) AS q'
        described = con.execute(f"SELECT * FROM postgres_query('pg', {literal(f'SELECT * FROM ({inner}) AS z LIMIT 0')})").description
        names = [d[0] for d in described]
        drop = f'EXCLUDE ("{header}")' if geometry is not None else ""
        keys = match_headers(contract, names)
        order = ""
        if not isinstance(keys, Problem) and all(k in keys for k in contract.key):
            order = "ORDER BY " + ", ".join(f'"{keys[k]}"' for k in contract.key)
        con.execute(f"COPY (SELECT * {drop} FROM postgres_query('pg', {literal(inner)}) {order}) TO {literal(str(half))} (FORMAT parquet, COMPRESSION zstd)")
        con.execute("COMMIT")
    except duckdb.Error as error:
        half.unlink(missing_ok=True)
        raise SourceUnreachable(f"PostGIS source {contract.source} cannot be read: {_masked(str(error), dsn)}. Expected a server that answers for the "
                                "whole pull; nothing was landed, and the next run tries again") from None
    finally:
        con.close()
    os.replace(half, target)
    return target


def read(con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
    """Reads pulled tables into the TEMP table `into`; see `ingestion.readers`."""
    problems: dict[str, Problem] = {}
    first = True
    geometry = next((n for n, c in contract.columns.items() if c.type == "geometry"), None)
    for delivery in deliveries:
        source = f"read_parquet({literal(str(delivery.path))}, file_row_number = true)"
        try:
            names = [r[0] for r in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
        except duckdb.Error as error:
            problems[delivery.delivery_id] = Problem("not_a_pull", "Tệp trích xuất PostGIS bị hỏng", "Parquet nguyên vẹn", type(error).__name__, "Chạy lại việc trích xuất")
            continue
        matched = match_headers(contract, [n for n in names if n not in ("_wkb", "_srid", "file_row_number")])
        if isinstance(matched, Problem):
            problems[delivery.delivery_id] = matched
            continue
        if geometry is not None:
            wanted = int(str(contract.format.crs).split(":")[1])
            other = con.execute(f"SELECT DISTINCT _srid FROM {source} WHERE _wkb IS NOT NULL AND _srid <> {wanted}").fetchall()
            if other:
                problems[delivery.delivery_id] = Problem("crs_other", "Hệ tọa độ khác hợp đồng", f"EPSG:{wanted}", ", ".join(f"EPSG:{r[0]}" for r in other),
                                                         "Sửa SRID của bảng nguồn, hoặc `crs` trong hợp đồng")
                continue
        fields = ", ".join(f'{n} := "{h}"' for n, h in matched.items())
        select = (f"SELECT '{delivery.delivery_id}' AS _delivery_id, CAST(file_row_number + 1 AS INTEGER) AS _line, CAST(to_json(struct_pack({fields})) AS VARCHAR) AS _raw, "
                  "NULL::VARCHAR AS _problem, " + ", ".join(f'"{h}" AS {n}' for n, h in matched.items())
                  + (f", _wkb AS {geometry}" if geometry else "") + f" FROM {source}")
        con.execute(f"CREATE OR REPLACE TEMP TABLE {into} AS {select}" if first else f"INSERT INTO {into} BY NAME {select}")
        first = False
    if first:
        columns = "".join(f", {n} {'BLOB' if c.type == 'geometry' else 'VARCHAR'}" for n, c in contract.file_columns.items())
        con.execute(f"CREATE OR REPLACE TEMP TABLE {into} (_delivery_id VARCHAR, _line INTEGER, _raw VARCHAR, _problem VARCHAR{columns})")
    return problems
