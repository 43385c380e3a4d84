"""What the readers of tables share: columns of a contract, lines, damage."""

from __future__ import annotations

import io
from typing import BinaryIO

from ingestion.contract import Contract
from ingestion.model import Delivery, Problem
from ingestion.readers import match_headers

ROWS = 50_000
LINE_COLUMNS = {"_delivery_id": "VARCHAR", "_line": "INTEGER", "_raw": "VARCHAR", "_problem": "VARCHAR"}


class Unreadable(Exception):
    """A file that cannot be read as a whole; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        """Its text is the problem's."""
        super().__init__(str(problem))
        self.problem = problem


def columns_of(contract: Contract) -> list[str]:
    """Names of the columns that a reader of this contract brings, geometry left out.

    Of a wide export these are its parameter columns, under their headers: turning them into rows comes after reading.
    """
    if contract.unpivot is None:
        names = [name for name, column in contract.file_columns.items() if column.type != "geometry" and not column.join]
        return [*names, *contract.helpers]
    wide = contract.unpivot
    made = {wide.parameter, wide.value, wide.unit, wide.status}
    names = [name for name, column in contract.file_columns.items() if name not in made and column.type != "geometry" and not column.join]
    names += contract.helpers
    for header, parameter in wide.columns.items():
        names += [header, *([parameter.status_header] if parameter.status_header else [])]
    return list(dict.fromkeys(names))


def stream_of(delivery: Delivery) -> BinaryIO:
    """The bytes of a delivery, to be read once and closed."""
    if delivery.content is not None or delivery.path is None:
        return io.BytesIO(delivery.read_bytes())
    return delivery.path.open("rb")


def places_of(contract: Contract, found: list[str]) -> dict[str, int]:
    """Contract column -> position in the file."""
    found = [h.strip() for h in found]
    matched = match_headers(contract, found)
    if isinstance(matched, Problem):
        raise Unreadable(matched)
    return {name: found.index(header) for name, header in matched.items()}


def no_header(contract: Contract) -> Problem:
    """A file that ends before its header."""
    return Problem(
        "header_missing",
        "Không có dòng tiêu đề",
        f"tiêu đề ở dòng {contract.format.header_row}",
        "tệp ngắn hơn",
        f"Gửi tệp đầy đủ, hoặc sửa format.header_row trong {contract.source}.yaml",
    )
