"""What a delivery's name says: the named groups of its contract's `files.pattern`."""

from __future__ import annotations

import codecs
import functools
import os
import unicodedata
from datetime import datetime

from ingestion.cast import NOT_AFTER, NOT_BEFORE, figures_touch
from ingestion.contract import Contract
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


def groups(contract: Contract, name: str) -> dict[str, str | None] | None:
    """Named groups of the base name, or None where the name does not fit the contract."""
    return _groups(contract.files.pattern, name.rsplit("/", 1)[-1])


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
