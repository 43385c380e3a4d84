"""Decisions of people about data (an adjustment, an approval) as the delivery of one row: the same path as a workbook of them."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from ingestion.cast import figure
from ingestion.contract import Column, Contract
from lake.lake import open_reader
from tnmt.settings import Settings


class DecisionRefused(ValueError):
    """A decision that speaks of nothing the lake knows; the text says what is known."""


def decide(settings: Settings, contract: Contract, values: Mapping[str, Any], now: datetime) -> tuple[Path, str]:
    """Writes the decision (column of the contract -> value) as a CSV file into the contract's inbox, and returns its path and its number.

    An `…_id` that is not given is made from the time. Raises DecisionRefused for an unknown station, parameter or column.
    """
    key = contract.key[0]
    row = {key: f"{now:%Y%m%d%H%M%S}-{uuid.uuid4().hex[:6]}", **{k: v for k, v in values.items() if v is not None}}
    if unknown := set(row) - set(contract.columns):
        raise DecisionRefused(f"{contract.source} has no column {', '.join(sorted(unknown))}; it has {', '.join(contract.columns)}")
    _refuse_unknown(settings, str(row["station_id"]), row.get("parameter"))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([c.header[0] for c in contract.columns.values()])
    writer.writerow([_text(row.get(name), column) for name, column in contract.columns.items()])
    # a number that somebody gave (QĐ-12/2026) is no file name
    path = settings.inbox / contract.folder / f"{now:%Y%m%d%H%M%S%f}-{uuid.uuid4().hex[:6]}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".csv.part")
    temporary.write_text(out.getvalue(), encoding="utf-8")
    temporary.rename(path)
    return path, str(row[key])


def _refuse_unknown(settings: Settings, station_id: str, parameter: Any) -> None:
    with open_reader(settings) as con:
        known = con.execute("SELECT parameter FROM lake.clean.station_channel WHERE station_id = ? ORDER BY 1", [station_id]).fetchall()
        stations = con.execute("SELECT count(*) FROM lake.clean.station WHERE station_id = ?", [station_id]).fetchall()[0][0]
        near = con.execute(
            "SELECT station_id FROM lake.clean.station ORDER BY levenshtein(station_id, ?), station_id LIMIT 3", [station_id]
        ).fetchall()
    if not stations:
        raise DecisionRefused(f"there is no station {station_id}; near to it are {', '.join(n for (n,) in near) or 'none: the register is empty'}")
    if parameter is not None and (parameter,) not in known:
        raise DecisionRefused(f"station {station_id} has no parameter {parameter}; it has {', '.join(sorted({p for (p,) in known}))}")


def _text(value: Any, column: Column) -> str:
    if value is None:
        return ""
    if isinstance(value, date):
        return value.strftime(column.format or "%d/%m/%Y")
    if column.is_figure:
        try:
            return figure(Decimal(str(value)))  # typed at a prompt, where the point is the decimal sign
        except (InvalidOperation, ValueError, OverflowError):
            return str(value)
    # the sender's word for our code, as a person would have written it
    return next((word for word, code in column.values.items() if code == value), str(value))
