"""A checked extract: a Frictionless Data Package of what an agreement names, and the row in the lake that says so."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from lake.lake import latest_snapshot, open_reader, open_writer, transaction
from sharing.agreement import AGREEMENTS, Agreement, AgreementError, Product, load_agreement
from tnmt.settings import Settings

_FRICTIONLESS = {
    "VARCHAR": "string",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "HUGEINT": "integer",
    "SMALLINT": "integer",
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "datetime",
}


class ExtractRefused(Exception):
    """The agreement does not allow the extract, or does not fit the marts; nothing was handed over."""


@dataclass(frozen=True)
class Made:
    """A package that was handed over."""

    path: Path
    receiver: str
    files: tuple[str, ...]
    rows: int


def make_extract(settings: Settings, name: str, *, requested_by: str, now: datetime, as_of: datetime) -> Made:
    """Writes `<home>/extracts/<agreement>/<as-of day>/` with Parquet, CSV and datapackage.json; raises ExtractRefused.

    The snapshot is pinned and the files stay, so that what was handed over can be shown again (NĐ 47/2020 Điều 45).
    """
    try:
        agreement = load_agreement(name, (settings.home / "agreements", AGREEMENTS))
    except AgreementError as error:
        raise ExtractRefused(str(error)) from None
    if not agreement.valid_from <= as_of.date() <= agreement.expires_on:
        raise ExtractRefused(
            f"agreement {agreement.agreement} with {agreement.receiver} holds from {agreement.valid_from} to {agreement.expires_on}; "
            f"asked for {as_of.date()}: renew the agreement first"
        )
    columns = _mart_columns(settings)
    half = settings.home / "extracts" / name / f".{as_of:%Y%m%d%H%M}.{os.getpid()}"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    resources: list[dict[str, Any]] = []
    handed: list[tuple[Any, ...]] = []
    total = 0
    try:
        with open_reader(settings) as probe:
            snapshot = latest_snapshot(probe)
        with open_reader(settings, snapshot=snapshot) as con:
            for product in agreement.products:
                made, rows, period = _write_product(con, agreement, product, columns, half, as_of)
                resources += made
                total += rows
                handed.append((product.table, rows, period, [r["path"] for r in made], [r["hash"].removeprefix("sha256:") for r in made]))
        (half / "datapackage.json").write_text(
            json.dumps(
                {
                    "profile": "data-package",
                    "name": name.replace("_", "-"),
                    "title": f"{agreement.purpose} – {agreement.receiver}",
                    "created": now.isoformat(),
                    "version": f"{as_of:%Y.%m.%d}",
                    "licenses": [{"name": "agreement", "title": f"{agreement.agreement}: {agreement.legal_basis}"}],
                    "sources": [{"title": "Kho dữ liệu dùng chung ngành TN&MT", "snapshot": snapshot}],
                    "custom": {"as_of": as_of.isoformat(), "expires_on": agreement.expires_on.isoformat(), "contact": agreement.contact},
                    "resources": resources,
                },
                ensure_ascii=False,
                indent=1,
            ),
            encoding="utf-8",
        )
        target = half.with_name(f"{as_of:%Y%m%dT%H%M}")
        shutil.rmtree(target, ignore_errors=True)
        half.rename(target)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    with open_writer(settings, f"extract {name}") as con, transaction(con):
        for table, rows, period, files, hashes in handed:
            identity = hashlib.sha256(f"{agreement.agreement}{table}{now}".encode()).hexdigest()[:16]
            con.execute(
                "INSERT INTO lake.ops.handover VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    identity,
                    agreement.receiver,
                    agreement.agreement,
                    table,
                    snapshot,
                    *period,
                    rows,
                    files,
                    hashes,
                    now,
                    agreement.expires_on,
                    requested_by,
                    "handed_over",
                ],
            )
        con.execute("INSERT INTO lake.ops.pin VALUES (?, ?, ?)", [snapshot, f"extract {agreement.agreement}", now])
    return Made(target, agreement.receiver, tuple(r["path"] for r in resources), total)


def _mart_columns(settings: Settings) -> dict[str, dict[str, Any]]:
    """Columns of every mart from dbt's manifest: {schema.table: {column: {description, meta, data_type}}}."""
    path = settings.home / "dbt" / "manifest.json"
    if not path.exists():
        raise ExtractRefused("the marts were not built yet: run `tnmt run` first")
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"].values()
    return {f"{n['schema']}.{n['name']}": n["columns"] for n in nodes if n["resource_type"] == "model"}


def _meta(column: dict[str, Any]) -> dict[str, Any]:
    return {**(column.get("config") or {}).get("meta", {}), **(column.get("meta") or {})}


def _write_product(
    con: duckdb.DuckDBPyConnection, agreement: Agreement, product: Product, marts: dict[str, dict[str, Any]], folder: Path, as_of: datetime
) -> tuple[list[dict[str, Any]], int, tuple[date | None, date | None]]:
    known = marts.get(product.table)
    if known is None:
        raise ExtractRefused(f"agreement {agreement.agreement} names {product.table}, of which there is no mart")
    if unknown := [c for c in product.columns if c not in known]:
        raise ExtractRefused(f"{product.table} has no columns {', '.join(unknown)}; it has {', '.join(known)}")
    if personal := [c for c in product.columns if _meta(known[c]).get("is_personal")]:
        raise ExtractRefused(f"{product.table}: {', '.join(personal)} are personal data and never leave the house")
    conditions: list[str] = []
    period: tuple[date | None, date | None] = (None, None)
    if product.period_column and product.period_days:
        last = as_of.date() - timedelta(days=1)
        first = last - timedelta(days=product.period_days - 1)
        conditions.append(f"{product.period_column} BETWEEN DATE '{first}' AND DATE '{last}'")
        period = (first, last)
    if product.group_size_column:
        conditions.append(f"{product.group_size_column} >= {agreement.min_group_size}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    con.execute(f"CREATE OR REPLACE TEMP TABLE product AS SELECT {', '.join(product.columns)} FROM lake.{product.table}{where}")
    types = {r[0]: str(r[1]) for r in con.execute("DESCRIBE product").fetchall()}
    rows = int(con.execute("SELECT count(*) FROM product").fetchall()[0][0])
    fields = [
        {
            "name": c,
            "type": "number" if types[c].startswith("DECIMAL") else _FRICTIONLESS.get(types[c], "any"),
            "description": known[c].get("description", ""),
            **({"unit": u} if (u := _meta(known[c]).get("unit")) else {}),
        }
        for c in product.columns
    ]
    name = product.table.split(".")[1]
    made = []
    for suffix, options in (("parquet", "FORMAT parquet, COMPRESSION zstd"), ("csv", "FORMAT csv, HEADER true")):
        path = folder / f"{name}.{suffix}"
        con.execute(f"COPY (SELECT * FROM product ORDER BY ALL) TO '{path}' ({options})")
        made.append(
            {
                "name": f"{name}-{suffix}",
                "path": path.name,
                "format": suffix,
                "bytes": path.stat().st_size,
                "profile": "tabular-data-resource" if suffix == "csv" else "data-resource",
                "hash": "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(),
                "rows": rows,
                "schema": {"fields": fields, "missingValues": [""]},
            }
        )
    return made, rows, period
