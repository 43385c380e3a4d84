"""What a delivery's name says: which format of its contract it has, and the named groups of the pattern of that."""

from __future__ import annotations

import codecs
import functools
import json
import os
import unicodedata
from datetime import datetime, timedelta, timezone

from ingestion.cast import NOT_AFTER, NOT_BEFORE, figures_touch
from ingestion.contract import Contract, zone_of
from ingestion.expressions import searcher

_NO_LETTER = "\ufffd"
"""What stands for a byte that is no letter; where a name holds it itself, its own three bytes are written the same way."""
_ESCAPED = "".join(f"{_NO_LETTER}{b:02x}" for b in _NO_LETTER.encode()).encode()
_AS_HEX = "tnmt-bytes-as-hex"


def _as_hex(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"{_NO_LETTER}{b:02x}" for b in error.object[error.start : error.end]), error.end


codecs.register_error(_AS_HEX, _as_hex)


@functools.lru_cache(maxsize=200_000)
def _groups(pattern: str, base: str) -> dict[str, str | None] | None:
    # a Mac writes Đ and its like in names as two letters
    return searcher(pattern)(unicodedata.normalize("NFC", base))


def portable(name: str) -> str:
    """A file name as the ledger keeps it. Bytes that are no UTF-8 (of an old Windows or a Mac) stand as \ufffd and two hex digits, see `on_disk`."""
    if name.isascii():
        return name
    raw = os.fsencode(name)
    try:
        if _NO_LETTER not in raw.decode():
            return name
    except UnicodeDecodeError:
        pass
    escaped = raw.replace(_NO_LETTER.encode(), _ESCAPED)
    return escaped.decode("utf-8", _AS_HEX)


def on_disk(name: str) -> str:
    """The file name that `portable` was given."""
    if _NO_LETTER not in name:
        return name
    return os.fsdecode(b"".join(bytes.fromhex(p[:2]) + p[2:].encode() if i else p.encode() for i, p in enumerate(name.split(_NO_LETTER))))


def claiming(contract: Contract, name: str) -> list[Contract]:
    """The contract narrowed to each of its formats that the base name fits."""
    base = name.rsplit("/", 1)[-1]
    return [own for own in contract.each if _groups(own.files.pattern, base) is not None]


def format_of(contract: Contract, name: str) -> Contract | None:
    """The contract with the one format that the name of a file says: itself where it has no other, fits the name or not.

    None where the name fits none of several formats, or more than one: which is meant it does not say.
    """
    if not contract.formats:
        return contract
    fitting = claiming(contract, name)
    return fitting[0] if len(fitting) == 1 else None


def groups(contract: Contract, name: str) -> dict[str, str | None] | None:
    """Named groups of the base name, or None where the name does not fit the contract."""
    own = format_of(contract, name)
    return _groups(own.files.pattern, name.rsplit("/", 1)[-1]) if own is not None else None


_LOCAL_ZONE, _LOCAL = "+07:00", timezone(timedelta(hours=7))


def said_by(contract: Contract, name: str) -> datetime | None:
    """The time in a file's name, in GMT+7; None where it says none."""
    own = format_of(contract, name)
    if own is None or own.as_of.origin != "file_name":
        return None
    return _said(groups(own, name), own.files.as_of_format, own.time.zone)


def _said(found: dict[str, str | None] | None, form: str, zone: str) -> datetime | None:
    stamp = (found or {}).get("as_of")
    said = moment(stamp, form) if stamp else None
    if said is not None and zone != _LOCAL_ZONE:
        # the sender's clock, as its measuring times are read
        said = said.replace(tzinfo=zone_of(zone)).astimezone(_LOCAL).replace(tzinfo=None)
    return said


@functools.lru_cache(maxsize=256)
def _way(dating: str) -> tuple[str, str, str] | None:
    try:
        pattern, form, zone = json.loads(dating)
    except ValueError:
        return None
    return pattern, form, zone


def said_once(dating: str, name: str) -> datetime | None:
    """`said_by` of a contract that was in force once, by one of its `datings`; None too where the arrival told the time."""
    way = _way(dating)
    return _said(_groups(way[0], name.rsplit("/", 1)[-1]), way[1], way[2]) if way else None


def station_of(contract: Contract, name: str) -> str | None:
    """The station code in a station file's name, or None."""
    return (groups(contract, name) or {}).get("station_code")


@functools.lru_cache(maxsize=4096)
def moment(text: str, form: str) -> datetime | None:
    """A time stamp in a file name, or None where it is none: read as a column of that format would be (figures whole, years 1900 to 2099)."""
    try:
        found = datetime.strptime(text, form)
    except ValueError:
        return None
    whole = not figures_touch(form) or found.strftime(form) == text
    return found if whole and NOT_BEFORE <= found.date() <= NOT_AFTER else None
