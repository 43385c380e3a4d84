"""What a delivery's name says: the named groups of its contract's `files.pattern`."""

from __future__ import annotations

import functools
import re
from datetime import datetime

from ingestion.contract import Contract


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


@functools.lru_cache(maxsize=200_000)
def _groups(pattern: str, base: str) -> dict[str, str] | None:
    match = _pattern(pattern).search(base)
    return match.groupdict() if match else None


def groups(contract: Contract, name: str) -> dict[str, str] | None:
    """Named groups of the base name, or None where the name does not fit the contract."""
    return _groups(contract.files.pattern, name.rsplit("/", 1)[-1])


def station_of(contract: Contract, name: str) -> str | None:
    """The station code in a station file's name, or None."""
    return (groups(contract, name) or {}).get("station_code")


@functools.lru_cache(maxsize=4096)
def moment(text: str, form: str) -> datetime | None:
    """A time stamp in a file name, or None where it is none."""
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None
