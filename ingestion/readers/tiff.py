"""The directories of a TIFF file, walked byte by byte: what a library ends in silence (a chain that leads past the end of the file) is damage here.

TIFF 6.0 (Adobe, 1992) section 2, BigTIFF, and the older JPEG of Technical Note 2's predecessor (tags 513 and 514). Nothing is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WIDTH, LENGTH, STRIPS, STRIP_SIZES, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 256, 257, 273, 279, 282, 283, 296
TILES, TILE_SIZES, JPEG_AT, JPEG_SIZE = 324, 325, 513, 514
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_RATIONAL = {5: "I", 10: "i"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MOST_PAGES = 100_000
_INCH, _CENTIMETRE = 2, 3


class Broken(ValueError):
    """A file that is damaged; `reason` is a code of `damage_reason`."""

    def __init__(self, what: str, reason: str = "truncated") -> None:
        """`what` is for people who look for the fault."""
        super().__init__(what)
        self.reason = reason


@dataclass(frozen=True)
class Page:
    """One directory: width and height in pixels, resolutions in dots per inch as far as they are stated."""

    width: int
    height: int
    dpi: tuple[int, ...]


class _Directory:
    """The entries of one directory, whose values are read when they are asked for."""

    def __init__(self, data: bytes, order: str, big: bool, at: int) -> None:
        self._data, self._order, self._big = data, order, big
        head, entry = ("Q", 20) if big else ("H", 12)
        (count,) = _unpack(data, order + head, at)
        first = at + struct.calcsize(order + head)
        self._entries: dict[int, tuple[int, int, int]] = {}
        for number in range(count):
            place = first + number * entry
            tag, kind, values = _unpack(data, order + ("HHQ" if big else "HHI"), place)
            self._entries.setdefault(tag, (kind, values, place + (12 if big else 8)))
        (self.next,) = _unpack(data, order + ("Q" if big else "I"), first + count * entry)

    def values(self, tag: int) -> tuple[float, ...]:
        """Numbers of a tag, whatever type the writer took for them; none where it is absent or no number."""
        if tag not in self._entries:
            return ()
        kind, count, at = self._entries[tag]
        size = _SIZES.get(kind, 0) * count
        if size > (8 if self._big else 4):
            (at,) = _unpack(self._data, self._order + ("Q" if self._big else "I"), at)
        if at + size > len(self._data):
            raise Broken(f"values of tag {tag} beyond the end of the file")
        if kind in _RATIONAL:
            parts = _unpack(self._data, f"{self._order}{2 * count}{_RATIONAL[kind]}", at)
            return tuple(a / b if b else 0.0 for a, b in zip(parts[::2], parts[1::2], strict=True))
        return _unpack(self._data, f"{self._order}{count}{_FORMATS[kind]}", at) if kind in _FORMATS else ()

    def whole(self, tag: int) -> int | None:
        """The one number of a tag, as a whole one."""
        found = self.values(tag)
        return int(found[0]) if found else None


def _unpack(data: bytes, form: str, at: int) -> tuple[Any, ...]:
    if at < 0 or at + struct.calcsize(form) > len(data):
        raise Broken("a directory beyond the end of the file")
    return struct.unpack_from(form, data, at)


def pages(data: bytes) -> list[Page]:
    """All pages in the order of their chain. Raises Broken for a chain that leaves the file or bites its tail, and for pixels that are not there."""
    order = "<" if data[:2] == b"II" else ">"
    (magic,) = _unpack(data, order + "H", 2)
    big = magic == 43
    (at,) = _unpack(data, order + ("Q" if big else "I"), 8 if big else 4)
    found: list[Page] = []
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) >= _MOST_PAGES:
            raise Broken("the chain of pages is a circle", "unreadable")
        seen.add(int(at))
        directory = _Directory(data, order, big, int(at))
        found.append(_page(directory, len(data)))
        at = directory.next
    if not found:
        raise Broken("no page", "unreadable")
    return found


def _page(directory: _Directory, size: int) -> Page:
    width, height = directory.whole(WIDTH), directory.whole(LENGTH)
    if not width or not height:
        raise Broken("a page without width or height", "unreadable")
    pieces = [
        (starts, directory.values(lengths))
        for place, lengths in ((STRIPS, STRIP_SIZES), (TILES, TILE_SIZES), (JPEG_AT, JPEG_SIZE))
        if (starts := directory.values(place))
    ]
    if not pieces:
        raise Broken("a page without pixels", "unreadable")
    for starts, lengths in pieces:
        # old writers leave the sizes out; then a strip reaches at least to its first byte
        if any(start + length > size for start, length in zip(starts, lengths or (1,) * len(starts), strict=False)):
            raise Broken("pixels beyond the end of the file")
    return Page(width, height, tuple(_dpi(directory)))


def _dpi(directory: _Directory) -> Iterator[int]:
    unit = directory.whole(RESOLUTION_UNIT) or _INCH
    for tag in (X_RESOLUTION, Y_RESOLUTION):
        for value in directory.values(tag)[:1]:
            if 0 < value < 1e6 and unit in (_INCH, _CENTIMETRE):
                yield round(value * (2.54 if unit == _CENTIMETRE else 1))
