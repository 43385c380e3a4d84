"""Vietnamese text of before Unicode, and coordinates: against the C library's tables and pyproj."""

from __future__ import annotations

import contextlib
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS

from ingestion import crs
from ingestion.encodings import cp1258_to_unicode, decode, tcvn3_to_unicode, unicode_to_cp1258, unicode_to_tcvn3
from tests.readers_kit import duck
from tests.support import need

LOWER = "aàảãáạăằẳẵắặâầẩẫấậbcdđeèẻẽéẹêềểễếệghiìỉĩíịklmnoòỏõóọôồổỗốộơờởỡớợpqrstuùủũúụưừửữứựvxyỳỷỹýỵ"
LETTERS = st.text(alphabet=LOWER + LOWER.upper() + " .,-–0123456789")


def test_tcvn3_agrees_with_the_c_library() -> None:
    found = subprocess.run(["iconv", "-f", "TCVN5712-1", "-t", "UTF-8"], input=bytes(range(0xA0, 0x100)), capture_output=True, check=False)
    need("iconv", found.returncode == 0, "the C library has no table TCVN5712-1")
    oracle = dict(zip(range(0xA0, 0x100), found.stdout.decode(), strict=True))
    mine = {}
    for byte in oracle:
        with contextlib.suppress(UnicodeDecodeError):
            mine[byte] = decode(bytes([byte]), "tcvn3")
    assert mine == {byte: oracle[byte] for byte in mine}
    assert len(mine) == 75  # 74 letters, and the space that does not break


@given(LETTERS)
def test_tcvn3_keeps_small_letters_and_the_seven_capitals(text: str) -> None:
    known = "".join(c if c.isascii() or c in "ĂÂÊÔƠƯĐ" else c.lower() for c in text)
    assert tcvn3_to_unicode(unicode_to_tcvn3(text)) == known
    assert tcvn3_to_unicode(unicode_to_tcvn3(text).decode("latin-1")) == known


@given(LETTERS)
def test_windows_1258_there_and_back(text: str) -> None:
    coded = unicode_to_cp1258(text)
    assert cp1258_to_unicode(coded) == text
    assert cp1258_to_unicode(coded.decode("latin-1")) == text
    assert unicodedata.is_normalized("NFC", cp1258_to_unicode(coded))


def test_bytes_that_are_no_letter_are_refused() -> None:
    for encoding in ("tcvn3", "windows-1258"):
        with pytest.raises(UnicodeDecodeError):
            decode(b"a\x9d", encoding)
    with pytest.raises(UnicodeEncodeError):
        unicode_to_tcvn3("漢")


# --- coordinates -------------------------------------------------------------------------------------------------


def test_the_reference_point_of_dong_xoai() -> None:
    lon, lat = crs.to_wgs84(np.array([569668.25]), np.array([1275697.70]))
    assert (round(lon[0], 6), round(lat[0], 6)) == (106.8905, 11.5349)
    east, north = crs.transform(np.array([106.8905]), np.array([11.5349]), "EPSG:4326", "EPSG:9212")
    assert (round(east[0], 2), round(north[0], 2)) == (569668.25, 1275697.70)


def test_geohash_of_the_published_points() -> None:
    found = crs.geohash12(np.array([106.8905, 10.40744]), np.array([11.5349, 57.64911]))
    assert found[0] == "w6h187g79jjw"
    assert found[1][:11] == "u4pruydqqvj"
    assert list(crs.geohash12(np.array([-180.0, 180.0]), np.array([-90.0, 90.0]))) == ["0" * 12, "z" * 12]
    with pytest.raises(ValueError, match="degrees"):
        crs.geohash12(np.array([569668.25]), np.array([1275697.7]))


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_geohash_by_halving(lon: float, lat: float) -> None:
    """The definition of GeoHash, one bit after the other, is the oracle."""
    sides, bits = [[-180.0, 180.0], [-90.0, 90.0]], ""
    for i in range(60):
        low, high = sides[i % 2]
        middle, value = (low + high) / 2, (lon, lat)[i % 2]
        bits += "1" if value >= middle else "0"
        sides[i % 2] = [middle, high] if value >= middle else [low, middle]
    expected = "".join("0123456789bcdefghjkmnpqrstuvwxyz"[int(bits[i : i + 5], 2)] for i in range(0, 60, 5))
    found = str(crs.geohash12(np.array([lon]), np.array([lat]))[0])
    assert found == expected or abs((lon + 180) % 360 * 2**30 / 360 % 1 - 0.5) > 0.4999 or abs((lat + 90) * 2**30 / 180 % 1 - 0.5) > 0.4999


def test_duckdb_transforms_as_pyproj_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(520_000, 625_000, 10_000), rng.uniform(1_250_000, 1_360_000, 10_000)
    con = duck(tmp_path)
    con.execute("CREATE TABLE p AS SELECT unnest(?) AS x, unnest(?) AS y", [x.tolist(), y.tolist()])
    found = con.execute("""
        SELECT ST_X(p) AS lon, ST_Y(p) AS lat
        FROM (SELECT ST_Transform(ST_Point(x, y), 'EPSG:9212', 'EPSG:4326', always_xy := true) AS p FROM p)""").fetchnumpy()
    lon, lat = crs.to_wgs84(x, y)
    metres = 111_320 * max(np.abs(found["lon"] - lon).max(), np.abs(found["lat"] - lat).max())
    assert metres < 0.01


HAND_MADE = (
    'PROJCS["VN_2000_TM3_106_15",GEOGCS["GCS_VN_2000",DATUM["D_Vietnam_2000",SPHEROID["WGS_1984",6378137.0,298.257223563]],'
    'PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["False_Easting",500000.0],'
    'PARAMETER["False_Northing",0.0],PARAMETER["Central_Meridian",106.25],PARAMETER["Scale_Factor",0.9999],'
    'PARAMETER["Latitude_Of_Origin",0.0],UNIT["Meter",1.0]]'
)


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ("EPSG:9212", "EPSG:9212", True),
        (CRS.from_epsg(9212).to_wkt("WKT1_ESRI"), "EPSG:9212", True),
        (HAND_MADE, "EPSG:9212", True),
        (HAND_MADE.replace("106.25", "107.75"), "EPSG:9212", False),
        (HAND_MADE.replace("106.25", "107.75"), "EPSG:5899", True),
        (HAND_MADE.replace("0.9999", "0.9996"), "EPSG:9212", False),
        (HAND_MADE.replace("D_Vietnam_2000", "D_WGS_1984").replace("GCS_VN_2000", "GCS_WGS_1984"), "EPSG:9212", False),
        ("OGC:CRS84", "EPSG:4326", True),
        ("EPSG:4756", "EPSG:4326", False),
        ("EPSG:4326", "EPSG:9212", False),
        ("EPSG:5899", "EPSG:9212", False),
        ("no CRS at all", "EPSG:9212", False),
    ],
)
def test_sameness_of_systems(found: str, expected: str, same: bool) -> None:
    assert crs.same(found, expected) is same


def test_bounds_refuse_degrees_swapped_axes_and_the_neighbouring_zone() -> None:
    x0, y0, x1, y1 = crs.plausible("EPSG:9212") or (0, 0, 0, 0)
    assert x0 < 569_668 < x1 and y0 < 1_275_697 < y1
    assert not x0 < 106.9 < x1
    assert not x0 < 1_275_697 < x1
    east, _ = crs.transform(np.array([106.8905]), np.array([11.5349]), "EPSG:4326", "EPSG:5899")
    assert not x0 < east[0] < x1
    assert crs.plausible("EPSG:4326") == (-180, -90, 180, 90)
