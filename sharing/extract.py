"""A checked extract: a Frictionless Data Package of what an agreement names, and the row in the lake that says so."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb

from dictionary.words import Dictionary, DictionaryError, Word, dictionary
from lake.faults import reach
from lake.lake import columns_of, latest_snapshot, open_reader, open_writer, quoted, transaction
from lake.upkeep.pins import add_pin
from sharing.agreement import AGREEMENTS, Agreement, AgreementError, Product, load_agreement
from tnmt.settings import Settings

GMT7 = timezone(timedelta(hours=7))

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
    """Writes a folder of its own, `<home>/extracts/<agreement>/<as-of time>[-n]/`, with Parquet, CSV and datapackage.json; raises ExtractRefused.

    An earlier package is never touched. The row in `ops.handover` stands before the package can be seen at its place, so that
    nothing leaves without a record; what a crash left between the two is settled by the next call. The snapshot is pinned
    while the agreement holds, and the files stay, so that what was handed over can be shown again (NĐ 47/2020 Điều 45).
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
    try:
        words = dictionary(settings.contract_dirs)
    except DictionaryError as error:
        raise ExtractRefused(f"the words of the columns cannot be read: {error}") from error
    folder = settings.home / "extracts" / name
    draft = folder / f".half-{as_of:%Y%m%dT%H%M}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    resources: list[dict[str, Any]] = []
    handed: list[_Handed] = []
    try:
        with open_reader(settings) as probe:
            snapshot = latest_snapshot(probe)
        with open_reader(settings, snapshot=snapshot) as con:
            for product in agreement.products:
                made, rows, period = _write_product(con, agreement, product, columns, words, draft, as_of)
                resources += made
                handed.append(_Handed(product.table, rows, period, [r["path"] for r in made], [r["hash"].removeprefix("sha256:") for r in made]))
        _write_package(draft, name, agreement, resources, snapshot, now, as_of)
        _sync(draft)
        with open_writer(settings, f"extract {name}") as con:
            settle(con, settings)
            target = _free_place(folder, f"{as_of:%Y%m%dT%H%M}")
            package = f"{name}/{target.name}"
            with transaction(con):
                _log(con, agreement, package, handed, snapshot, now, requested_by)
                add_pin(con, snapshot, f"extract {agreement.agreement}", now, datetime.combine(agreement.expires_on, time.max))
            reach("extract.logged")
            draft.rename(target)  # an empty folder may stand there, never a package
            _sync(folder)
            reach("extract.placed")
            settle(con, settings)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Made(target, agreement.receiver, tuple(r["path"] for r in resources), sum(h.rows for h in handed))


@dataclass(frozen=True)
class _Handed:
    """One product of a package: for its row in the log."""

    table: str
    rows: int
    period: tuple[date | None, date | None]
    files: list[str]
    hashes: list[str]


def settle(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Ends what was being prepared (under the writer lock): handed over where the package stands at its place, abandoned where it does not."""
    waiting = [r[0] for r in con.execute("SELECT DISTINCT package FROM lake.ops.handover WHERE status = 'preparing'").fetchall()]
    for package in waiting:
        placed = (settings.home / "extracts" / package / "datapackage.json").is_file()
        with transaction(con):
            con.execute(
                "UPDATE lake.ops.handover SET status = ? WHERE status = 'preparing' AND package = ?",
                ["handed_over" if placed else "abandoned", package],
            )


def _free_place(folder: Path, stem: str) -> Path:
    """Where no package stands yet: the as-of time, or with -2, -3 … behind it."""
    place = folder / stem
    number = 1
    while place.exists():
        number += 1
        place = folder / f"{stem}-{number}"
    return place


def _sync(folder: Path) -> None:
    """Brings a folder and the files in it to the disk."""
    for path in (*(p for p in folder.iterdir() if p.is_file()), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_package(
    folder: Path, name: str, agreement: Agreement, resources: list[dict[str, Any]], snapshot: int, now: datetime, as_of: datetime
) -> None:
    (folder / "datapackage.json").write_text(
        json.dumps(
            {
                "profile": "data-package",
                "name": name.replace("_", "-"),
                "title": f"{agreement.purpose} – {agreement.receiver}",
                "created": now.replace(tzinfo=GMT7).isoformat(timespec="seconds"),
                "version": f"{as_of:%Y.%m.%d}",
                "licenses": [{"name": "agreement", "title": f"{agreement.agreement}: {agreement.legal_basis}"}],
                "sources": [{"title": "Kho dữ liệu dùng chung ngành TN&MT", "snapshot": snapshot}],
                "custom": {
                    "as_of": as_of.replace(tzinfo=GMT7).isoformat(),
                    "expires_on": agreement.expires_on.isoformat(),
                    "contact": agreement.contact,
                },
                "resources": resources,
            },
            ensure_ascii=False,
            indent=1,
        ),
        encoding="utf-8",
    )


def _log(
    con: duckdb.DuckDBPyConnection, agreement: Agreement, package: str, handed: list[_Handed], snapshot: int, now: datetime, requested_by: str
) -> None:
    for h in handed:
        identity = hashlib.sha256(f"{agreement.agreement}{h.table}{package}{now}".encode()).hexdigest()[:16]
        con.execute(
            """
            INSERT INTO lake.ops.handover (handover_id, receiver, agreement, product, snapshot_id, period_from, period_to, rows, files, sha256,
                handed_over_at, expires_on, requested_by, status, package)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'preparing', ?)""",
            [
                identity,
                agreement.receiver,
                agreement.agreement,
                h.table,
                snapshot,
                *h.period,
                h.rows,
                h.files,
                h.hashes,
                now,
                agreement.expires_on,
                requested_by,
                package,
            ],
        )


def _mart_columns(settings: Settings) -> dict[str, list[str]]:
    """Columns of every mart by dbt's manifest: {schema.table: names}."""
    path = settings.home / "dbt" / "manifest.json"
    if not path.exists():
        raise ExtractRefused("the marts were not built yet: run `tnmt run` first")
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"].values()
    return {f"{n['schema']}.{n['name']}": list(n["columns"]) for n in nodes if n["resource_type"] == "model"}


def _write_product(
    con: duckdb.DuckDBPyConnection,
    agreement: Agreement,
    product: Product,
    marts: dict[str, list[str]],
    words: Dictionary,
    folder: Path,
    as_of: datetime,
) -> tuple[list[dict[str, Any]], int, tuple[date | None, date | None]]:
    known = marts.get(product.table)
    if known is None:
        raise ExtractRefused(f"agreement {agreement.agreement} names {product.table}, of which there is no mart")
    types = _checked(con, product, known, words)
    conditions: list[str] = []
    period: tuple[date | None, date | None] = (None, None)
    if product.period_column and product.period_days:
        last = as_of.date() - timedelta(days=1)
        first = last - timedelta(days=product.period_days - 1)
        conditions.append(f"CAST({_name(product.period_column)} AS DATE) BETWEEN DATE '{first}' AND DATE '{last}'")
        period = (first, last)
    if product.group_size_column:
        conditions.append(f"{_name(product.group_size_column)} >= {agreement.min_group_size}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    picked = ", ".join(_name(c) for c in product.columns)
    con.execute(f"CREATE OR REPLACE TEMP TABLE product AS SELECT {picked} FROM lake.{product.table}{where}")
    rows = int(con.execute("SELECT count(*) FROM product").fetchall()[0][0])
    name = product.table.split(".")[1]
    made = []
    for suffix, options in (("parquet", "FORMAT parquet, COMPRESSION zstd"), ("csv", "FORMAT csv, HEADER true")):
        path = folder / f"{name}.{suffix}"
        con.execute(f"COPY (SELECT * FROM product ORDER BY ALL) TO {quoted(str(path))} ({options})")
        fields = [_field(c, types[c], words.word(name, c), suffix) for c in product.columns]
        made.append(
            {
                "name": f"{name}-{suffix}",
                "path": path.name,
                "format": suffix,
                "mediatype": "text/csv" if suffix == "csv" else "application/vnd.apache.parquet",
                **({"encoding": "utf-8"} if suffix == "csv" else {}),
                # validators count the bytes of text only, and call a Parquet file with `bytes` wrong
                "bytes" if suffix == "csv" else "size": path.stat().st_size,
                "profile": "tabular-data-resource" if suffix == "csv" else "data-resource",
                "hash": "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(),
                "rows": rows,
                "schema": {"fields": fields, "missingValues": [""]},
            }
        )
    return made, rows, period


def _name(column: str) -> str:
    """A column as SQL writes it."""
    return '"' + column.replace('"', '""') + '"'


def _checked(con: duckdb.DuckDBPyConnection, product: Product, known: list[str], words: Dictionary) -> dict[str, str]:
    """{column: DuckDB type} of the product's table; raises ExtractRefused for a column that is not there or not marked as open."""
    types = columns_of(con, [product.table]).get(product.table)
    if types is None:
        raise ExtractRefused(f"{product.table} is not in the lake yet: run `tnmt run` first")
    filters = [c for c in (product.period_column, product.group_size_column) if c is not None]
    named = [*product.columns, *filters]
    if unknown := [c for c in named if c not in known or c not in types]:
        raise ExtractRefused(f"{product.table} has no columns {', '.join(unknown)}; it has {', '.join(known)}")
    marks = {c: words.is_personal(c) for c in named}
    if personal := [c for c in named if marks[c]]:
        raise ExtractRefused(f"{product.table}: {', '.join(personal)} are personal data and never leave the house")
    if unmarked := [c for c in named if marks[c] is not False]:
        raise ExtractRefused(
            f"{product.table}: {', '.join(unmarked)} are not in the dictionary; a column leaves only where it is described there (dictionary/columns.yaml)"
        )
    if product.period_column and types[product.period_column] not in ("DATE", "TIMESTAMP"):
        raise ExtractRefused(
            f"{product.table}: period_column must hold a date or a time, found {product.period_column} ({types[product.period_column]})"
        )
    if product.group_size_column and not re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*", types[product.group_size_column]):
        raise ExtractRefused(f"{product.table}: group_size_column must count, found {product.group_size_column} ({types[product.group_size_column]})")
    return types


def _field(column: str, kind: str, word: Word | None, suffix: str) -> dict[str, Any]:
    """A column as Table Schema describes it."""
    field: dict[str, Any] = {
        "name": column,
        "type": "number" if kind.startswith("DECIMAL") else _FRICTIONLESS.get(kind, "any"),
        "title": word.label if word else column,
        "description": word.description if word else "",
    }
    if kind == "TIMESTAMP" and suffix == "csv":
        field["format"] = "%Y-%m-%d %H:%M:%S"
    if kind == "BOOLEAN" and suffix == "csv":
        field |= {"trueValues": ["true"], "falseValues": ["false"]}
    return field | ({"unit": word.unit} if word and word.unit else {})
