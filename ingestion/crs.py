"""Coordinate reference systems: sameness, and whether coordinates can be of the system that they are said to be of."""

from __future__ import annotations

import functools

from pyproj import CRS
from pyproj.exceptions import CRSError


@functools.cache
def parse(text: str) -> CRS | None:
    """The CRS of an EPSG code, WKT or PROJJSON, or None where there is none."""
    try:
        return CRS.from_user_input(text)
    except CRSError:
        return None


def label(text: str) -> str:
    """`EPSG:9212` where the system has a code, else its name."""
    crs = parse(text)
    if crs is None:
        return text[:60]
    authority = crs.to_authority(min_confidence=70)
    return f"{authority[0]}:{authority[1]}" if authority else crs.name


@functools.cache
def same(a: str, b: str) -> bool:
    """Whether two texts name the same system; the order of axes does not count, as files give x before y."""
    first, second = parse(a), parse(b)
    if first is None or second is None:
        return False
    if first.equals(second, ignore_axis_order=True):
        return True
    return label(a) == label(b) or {label(a), label(b)} == {"EPSG:4326", "OGC:CRS84"}


@functools.cache
def plausible(text: str) -> tuple[float, float, float, float] | None:
    """Bounds (x0, y0, x1, y1) that coordinates of the system can have, a degree beyond its area of use; None if unknown.

    For VN-2000 / TM-3 this refuses degrees written as metres and exchanged axes.
    """
    crs = parse(text)
    if crs is None or crs.area_of_use is None:
        return None
    west, south, east, north = crs.area_of_use.bounds
    if crs.is_geographic:
        return west - 1, south - 1, east + 1, north + 1
    from pyproj import Transformer

    transform = Transformer.from_crs(crs.geodetic_crs or "EPSG:4326", crs, always_xy=True)
    return transform.transform_bounds(west - 1, south - 1, east + 1, north + 1, densify_pts=9)
