"""Coordinate reference systems: sameness, what coordinates a system allows, VN-2000 to WGS 84, GeoHash.

VN-2000 to WGS 84 is the seven-parameter transformation "VN-2000 to WGS 84 (2)" of EPSG, which pyproj and DuckDB's
ST_Transform (always_xy := true) both choose by themselves: over the province they differ by less than a micrometre.
"""

from __future__ import annotations

import functools
import re

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

VN2000_BINH_PHUOC = "EPSG:9212"
"""TM-3 106-15 (zones of 3°, central meridian 106°15')."""
WGS84 = "EPSG:4326"

_MARGIN_DEGREES = 0.25
_TOLERANCE = 1e-6
_BASE32 = np.frombuffer(b"0123456789bcdefghjkmnpqrstuvwxyz", dtype=np.uint8)

Bounds = tuple[float, float, float, float]
Floats = npt.NDArray[np.float64]


@functools.cache
def parse(text: str) -> CRS | None:
    """The CRS of an EPSG code, WKT or PROJJSON, or None where there is none."""
    try:
        return CRS.from_user_input(text)
    except CRSError:
        return None


@functools.cache
def label(text: str) -> str:
    """`EPSG:9212 (VN-2000 / TM-3 106-15)`, or the name alone where the system has no code."""
    system = parse(text)
    if system is None:
        return text[:80]
    authority = system.to_authority(min_confidence=70)
    return f"{authority[0]}:{authority[1]} ({system.name})" if authority else system.name


@functools.cache
def same(found: str, expected: str) -> bool:
    """Whether two texts mean the same coordinates: by definition, or by datum, projection and parameters (hand-made WKT).

    The order of axes does not count, as files give x (east) before y whatever their CRS says.
    """
    one, other = parse(found), parse(expected)
    if one is None or other is None:
        return False
    if one.is_bound and one.source_crs is not None:
        one = one.source_crs  # TOWGS84 beside it says how to leave the system, not what it is
    if one.equals(other, ignore_axis_order=True):
        return True
    code = one.to_authority(min_confidence=70)
    if code is not None and code == other.to_authority():
        return True
    base, wanted = one.geodetic_crs, other.geodetic_crs
    if base is None or wanted is None or base.datum is None or wanted.datum is None:
        return False
    if _plain(base.datum.name) != _plain(wanted.datum.name):
        return False
    if one.is_geographic or other.is_geographic:
        return one.is_geographic and other.is_geographic
    ours, theirs = _projection(one), _projection(other)
    return bool(ours) and ours.keys() == theirs.keys() and all(abs(ours[k] - theirs[k]) <= _TOLERANCE * max(1.0, abs(theirs[k])) for k in ours)


def _plain(name: str) -> str:
    name = re.sub(r"^d_|^gcs_|ensemble$", "", name.lower())
    return re.sub(r"[^a-z0-9]", "", name).replace("vietnam2000", "vn2000").replace("worldgeodeticsystem", "wgs")


def _projection(system: CRS) -> dict[str, float]:
    """Method, parameters in metres and radians, and unit of a projected CRS; empty where it has none."""
    if not system.is_projected or system.coordinate_operation is None:
        return {}
    parameters = {_plain(p.name): float(p.value) * p.unit_conversion_factor for p in system.coordinate_operation.params}
    return parameters | {_plain(system.coordinate_operation.method_name): 0.0, "unit": system.axis_info[0].unit_conversion_factor}


@functools.cache
def plausible(text: str) -> Bounds | None:
    """(x min, y min, x max, y max) that coordinates of the system can have: its area of use and a quarter of a degree.

    For VN-2000 / TM-3 this refuses degrees written as metres, exchanged axes, and the neighbouring zone. None if unknown.
    """
    system = parse(text)
    if system is None:
        return None
    area = system.area_of_use
    if area is None:
        return (-180.0, -90.0, 180.0, 90.0) if system.is_geographic else None
    west, south = max(area.west - _MARGIN_DEGREES, -180.0), max(area.south - _MARGIN_DEGREES, -90.0)
    east, north = min(area.east + _MARGIN_DEGREES, 180.0), min(area.north + _MARGIN_DEGREES, 90.0)
    if system.is_geographic:
        return west, south, east, north
    found = _transformer(WGS84, text).transform_bounds(west, south, east, north)
    return float(found[0]), float(found[1]), float(found[2]), float(found[3])


@functools.cache
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def transform(x: Floats, y: Floats, source: str, target: str) -> tuple[Floats, Floats]:
    """Points from one CRS to another; x is the east coordinate in both. Shapes are kept."""
    east, north = _transformer(source, target).transform(x, y)
    return np.asarray(east, dtype=np.float64), np.asarray(north, dtype=np.float64)


def to_wgs84(x: Floats, y: Floats, source: str = VN2000_BINH_PHUOC) -> tuple[Floats, Floats]:
    """(longitude, latitude) in degrees of WGS 84."""
    return transform(x, y, source, WGS84)


def geohash12(lon: Floats, lat: Floats) -> npt.NDArray[np.str_]:
    """GeoHash of 12 characters (60 bits) of WGS 84 degrees: the parcel code of TT 19/2026/TT-BNNMT, Phụ lục I.

    Raises ValueError for what is not within ±180 and ±90 degrees.
    """
    lon, lat = np.atleast_1d(np.asarray(lon, dtype=np.float64)), np.atleast_1d(np.asarray(lat, dtype=np.float64))
    if not (np.all(np.abs(lon) <= 180.0) and np.all(np.abs(lat) <= 90.0)):
        raise ValueError("geohash12: degrees within ±180 and ±90 were expected; transform projected coordinates first")
    top = 2.0**30 - 1
    even = np.minimum(np.floor((lon + 180.0) / 360.0 * 2.0**30), top).astype(np.uint64)
    odd = np.minimum(np.floor((lat + 90.0) / 180.0 * 2.0**30), top).astype(np.uint64)
    bits = (_spread(even) << np.uint64(1)) | _spread(odd)
    shifts = np.arange(55, -1, -5, dtype=np.uint64)
    letters = _BASE32[((bits[:, None] >> shifts) & np.uint64(31)).astype(np.intp)]
    return np.ascontiguousarray(letters).view("S12").ravel().astype(np.str_)


def _spread(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The low 32 bits of each value with a zero bit between any two."""
    for shift, mask in ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333), (1, 0x5555555555555555)):
        values = (values | (values << np.uint64(shift))) & np.uint64(mask)
    return values
