"""What the tests of the readers share: contracts and deliveries without a platform, and a DuckDB as the readers get it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from ingestion.contract import Contract
from ingestion.model import Delivery, delivery_id
from lake.extensions import link_extensions

RECEIVED = datetime(2025, 1, 1, 8, 0)


def duck(extensions: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB with the settings of the lake's writer that bear on reading, spatial loaded."""
    con = duckdb.connect(
        config={
            "extension_directory": str(link_extensions(extensions)),
            "autoinstall_known_extensions": "false",
            "threads": 2,
            "preserve_insertion_order": "false",
        }
    )
    con.execute("LOAD spatial")
    return con


def contract(columns: Mapping[str, Any], reader: str, *, top: Mapping[str, Any] | None = None, **options: Any) -> Contract:
    """A contract with these columns; `options` go to its format, `top` beside it."""
    return Contract(
        **{  # type: ignore[arg-type]  # one mapping holds every type of the model
            "source": "mau",
            "title": "Nguồn mẫu",
            "owner": {"unit": "Phòng thử"},
            "terms": "Dùng thử",
            "target": "mau",
            "load": "append",
            "columns": {n: {"header": c} if isinstance(c, str | list) else c for n, c in columns.items()},
            "format": {"reader": reader} | options,
            **(top or {}),
        }
    )


def delivery(source: Path | bytes, name: str | None = None) -> Delivery:
    """A landed delivery: a path stays a path, bytes are its content."""
    content = source if isinstance(source, bytes) else None
    data = content if content is not None else source.read_bytes() if isinstance(source, Path) and source.is_file() else b""
    name = name or (source.name if isinstance(source, Path) else "tep.csv")
    sha = hashlib.sha256(data).hexdigest()
    return Delivery(
        delivery_id("mau", name, sha),
        "mau",
        name,
        sha,
        len(data),
        RECEIVED,
        RECEIVED,
        RECEIVED.date(),
        source if isinstance(source, Path) else None,
        content,
    )


def rows(con: duckdb.DuckDBPyConnection, columns: str = "* EXCLUDE (_delivery_id, _raw)", table: str = "cut") -> list[tuple[Any, ...]]:
    """Rows of what a reader made, in the order of their lines."""
    return con.execute(f"SELECT {columns} FROM {table} ORDER BY _line").fetchall()
