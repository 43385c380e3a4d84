"""JSON: a list of records, each an object whose members are the columns; members of objects within it by dotted names (`chu.loai`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa

from ingestion.cast import figure
from ingestion.contract import Contract
from ingestion.model import Delivery, Problem
from ingestion.readers.rows import ROWS, Unreadable, places_of, stream_of

_DEEPEST = 20
_SEPARATOR = ";"
"""Stands between the members of a list of values."""


class _Number(str):
    """A number as it is written, which no float has rounded."""


class _TwiceThere(ValueError):
    """An object with one member twice: which one is meant nobody can say."""


def json_tables(contract: Contract, delivery: Delivery) -> Iterator[dict[str, pa.Array]]:
    """Tables of the records of a file. `_line` is the number of the record. A member that only some records have is empty in the others.

    Raises Unreadable: empty_file, wrong_encoding (JSON is UTF-8: RFC 8259, 8.1), damaged_file (with line and column of the first fault; a
    member twice in one object; no list of records), and what `match_headers` says of the members.
    """
    records = _records(contract, _parsed(delivery))
    rows = [_flat(contract, record, number) for number, record in enumerate(records, 1)]
    found = list(dict.fromkeys(name for row in rows for name in row))
    if not rows:
        return
    places = places_of(contract, found)
    sign = contract.format.decimal_sign
    for start in range(0, len(rows), ROWS):
        block = rows[start : start + ROWS]
        table = {
            "_line": pa.array(range(start + 1, start + len(block) + 1), pa.int32()),
            "_raw": pa.array([json.dumps(row, ensure_ascii=False) for row in block], pa.large_string()),
        }
        for name, place in places.items():
            table[name] = pa.array([_text(row.get(found[place]), sign) for row in block], pa.large_string())
        yield table


def _parsed(delivery: Delivery) -> Any:
    with stream_of(delivery) as file:
        data = file.read()
    if not data.strip():
        raise Unreadable(Problem("empty_file", "Tệp rỗng", "tệp JSON", f"{delivery.bytes} byte", "Xuất lại tệp rồi gửi lại"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else f"byte 0x{data[error.start]:02x} ở vị trí {error.start}"
        raise Unreadable(Problem("wrong_encoding", "Sai bảng mã", "tệp JSON, bảng mã UTF-8", found, "Xuất lại tệp với bảng mã UTF-8")) from None
    try:
        return json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_not_json, object_pairs_hook=_members)
    except json.JSONDecodeError as error:
        raise Unreadable(_damaged(f"lỗi ở dòng {error.lineno}, cột {error.colno}")) from None
    except RecursionError:
        raise Unreadable(_damaged("các đối tượng lồng nhau quá sâu")) from None
    except ValueError as error:
        raise Unreadable(_damaged(str(error))) from None


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} không phải giá trị của JSON")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceThere(f"trường {next(n for n in names if names.count(n) > 1)!r} có hai lần trong một đối tượng")
    return made


def _damaged(found: str) -> Problem:
    return Problem("damaged_file", "Tệp JSON không đọc được", "một danh sách các đối tượng JSON", found, "Xuất lại tệp rồi gửi lại")


def _records(contract: Contract, whole: Any) -> list[Any]:
    """The list that `format.records` names; without it the list that the file is, or the only one that its object has."""
    if contract.format.records:
        for name in contract.format.records.split("."):
            whole = whole.get(name) if isinstance(whole, dict) else None
    elif isinstance(whole, dict) and len(lists := [v for v in whole.values() if isinstance(v, list)]) == 1:
        (whole,) = lists
    if not isinstance(whole, list):
        wanted = f"danh sách ở {contract.format.records}" if contract.format.records else "danh sách các đối tượng"
        what = f"Gửi tệp có danh sách bản ghi, hoặc sửa format.records trong {contract.source}.yaml"
        raise Unreadable(Problem("damaged_file", "Không có danh sách bản ghi", wanted, "tệp không có danh sách đó", what))
    return whole


def _flat(contract: Contract, record: Any, number: int) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise Unreadable(_damaged(f"bản ghi {number} không phải đối tượng"))
    found: dict[str, Any] = {}

    def walk(members: Mapping[str, Any], above: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise Unreadable(_damaged(f"bản ghi {number} lồng nhau quá {_DEEPEST} cấp"))
        for name, value in members.items():
            if isinstance(value, dict):
                walk(value, f"{above}{name}.", depth + 1)
            elif f"{above}{name}" in found:  # {"a.b": 1, "a": {"b": 2}}
                raise Unreadable(_damaged(f"trường {above + name!r} có hai lần trong bản ghi {number}"))
            else:
                found[f"{above}{name}"] = value

    walk(record, "", 1)
    return found


def _text(value: Any, sign: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _Number):
        return _figure(value).replace(".", sign)
    if isinstance(value, list):
        plain = [_text(v, sign) for v in value if not isinstance(v, dict | list)]
        if len(plain) < len(value):
            return json.dumps(value, ensure_ascii=False)
        return _SEPARATOR.join(v for v in plain if v) or None
    return str(value) or None


def _figure(number: str) -> str:
    """As every reader spells a figure; one with an exponent that no column holds stays as it is written."""
    value = Decimal(number)
    return figure(value) if abs(value.adjusted()) <= 40 else number
