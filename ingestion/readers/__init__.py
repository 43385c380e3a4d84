"""Readers: one module a format. A reader types nothing and judges nothing; it says only what stands where.

Each has `read(con, contract, deliveries, into) -> dict[delivery_id, Problem]` and creates the TEMP table
`into` with `_delivery_id VARCHAR, _line INTEGER, _raw VARCHAR, _problem VARCHAR` and the contract's columns that
come from the file (text, or the native type of the format; geometry as WKB in the source's CRS).
`_problem` is the reason code of a row that cannot be cut into its columns, else NULL.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Protocol, cast

import duckdb

from ingestion.cast import clean_text
from ingestion.contract import Contract
from ingestion.model import Delivery, Problem

_MODULES = {
    "station_txt": "station_txt",
    "csv": "tabular",
    "xlsx": "tabular",
    "json": "tabular",
    "vector": "vector",
    "postgis": "postgis",
    "scan": "scan",
}


def begin(delivery: Delivery) -> None:
    """Readers call this before they open a delivery. The process that reads foreign formats puts its own in place, to know which one ended it."""


class Reader(Protocol):
    """What every reader module offers as `read`."""

    def __call__(self, con: duckdb.DuckDBPyConnection, contract: Contract, deliveries: Sequence[Delivery], into: str) -> dict[str, Problem]:
        """Fills the TEMP table `into`; returns what cannot be read as a whole, by delivery_id."""
        ...


def reader_of(contract: Contract) -> Reader:
    """The `read` function for the contract's format; its module is imported on first use."""
    module = importlib.import_module(f"ingestion.readers.{_MODULES[contract.format.reader]}")
    return cast(Reader, module.read)


def fold(header: str) -> str:
    """A header as it is compared: NFC, one space between words, no invisible letters, case ignored."""
    return clean_text(header).casefold()


def match_headers(contract: Contract, found: Sequence[str]) -> dict[str, str] | Problem:
    """Contract column -> header in the file, or the Problem that names what is missing, twice there, or unknown.

    Only named spellings count: a close spelling is proposed in the message, never taken.
    """
    by_fold: dict[str, list[str]] = {}
    for header in found:
        by_fold.setdefault(fold(header), []).append(header)
    wanted = {name: column.header or (name,) for name, column in contract.file_columns.items() if column.type != "geometry" and not column.join}
    wanted |= {name: (header,) for name, header in contract.helpers.items()}
    if contract.unpivot is not None:
        made = {getattr(contract.unpivot, part) for part in ("parameter", "value", "unit", "status")}
        wanted = {name: headers for name, headers in wanted.items() if name not in made}
        for header, wide in contract.unpivot.columns.items():
            wanted[header] = (header,)
            if wide.status_header:
                wanted[wide.status_header] = (wide.status_header,)
    matched: dict[str, str] = {}
    missing: list[str] = []
    for name, spellings in wanted.items():
        hits = [h for s in spellings for h in by_fold.get(fold(s), [])]
        if len(hits) > 1:
            return Problem(
                "column_twice",
                f"Cột «{spellings[0]}» có nhiều hơn một lần",
                f"một cột trong: {', '.join(spellings)}",
                ", ".join(hits),
                "Bỏ cột thừa rồi gửi lại tệp",
            )
        if hits:
            matched[name] = hits[0]
        elif (column := contract.columns.get(name)) and (column.optional or (column.otherwise is not None and contract.missing_columns == "null")):
            continue
        elif contract.missing_columns == "reject" or name in contract.helpers or (column and column.required):
            near = difflib.get_close_matches(fold(spellings[0]), by_fold, n=1)
            hint = f" (gần giống: «{by_fold[near[0]][0]}»)" if near else ""
            missing.append(f"«{' / '.join(spellings)}»{hint}")
    if missing:
        return Problem(
            "column_missing",
            f"Thiếu cột {', '.join(missing)}",
            ", ".join(s[0] for s in wanted.values()),
            ", ".join(h for h in found if h)[:1000] or "dòng tiêu đề trống",
            f"Sửa tiêu đề cột trong tệp, hoặc thêm cách viết mới vào hợp đồng dữ liệu {contract.source}.yaml",
        )
    if contract.unknown_columns == "reject":
        taken = set(matched.values())
        if extra := [h for h in found if h and h not in taken]:
            return Problem(
                "column_unknown",
                f"Cột không có trong hợp đồng dữ liệu: {', '.join(extra)}",
                ", ".join(s[0] for s in wanted.values()),
                ", ".join(h for h in found if h)[:1000] or "dòng tiêu đề trống",
                f"Bỏ cột thừa, hoặc khai báo cột trong {contract.source}.yaml",
            )
    return matched
