"""Parcels laid over communes and over each other, and the change of their use, on shapes whose areas are worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from lake.extensions import link_extensions
from tests.marts_kit import compiled, database, records

AS_OF = "2026-03-12 10:00:00"
PARCEL = "parcel_uid VARCHAR, parcel_id VARCHAR, commune_code VARCHAR, old_commune_code VARCHAR, sheet_number INTEGER, parcel_number INTEGER, land_use_code VARCHAR, area_m2 DECIMAL(14,1)"
VERSION = "parcel_uid VARCHAR, commune_code VARCHAR, old_commune_code VARCHAR, land_use_code VARCHAR, declared_area_m2 DECIMAL(14,1), valid_from TIMESTAMP, valid_to TIMESTAMP"
BOUNDARY = "old_commune_code VARCHAR, is_illustrative BOOLEAN, crs VARCHAR, geometry GEOMETRY"
COMMUNE = "old_commune_code VARCHAR, old_commune_name VARCHAR, commune_code VARCHAR, commune_name VARCHAR"
BOW_TIE = "POLYGON((0 0, 10 10, 10 0, 0 10, 0 0))"
CRS = "EPSG:9212"


def box(x: float, y: float, width: float, height: float) -> str:
    """A rectangle as WKT."""
    return f"POLYGON(({x} {y}, {x + width} {y}, {x + width} {y + height}, {x} {y + height}, {x} {y}))"


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("land"), ["parcel_overlay", "parcel_overlap", "land_use_change"], AS_OF)


@pytest.fixture
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """Communes 1 and 2 side by side, 100 m each; the boundary of 3 is in another CRS, that of 4 was never sent."""
    con = database(
        {
            "marts_land.parcel_version": (VERSION, []),
            "intermediate.int_new_commune": ("commune_code VARCHAR, commune_name VARCHAR", [("9", "Xã Chín")]),
            "intermediate.int_commune": (COMMUNE, [(c, f"Xã {c}", "9", "Xã Chín") for c in "1234"]),
            "intermediate.int_land_use": (
                "code_in_record VARCHAR, land_use_code VARCHAR, land_use_name_vi VARCHAR",
                [("CLN", "CLN", "Cây lâu năm"), ("HNK", "HNK", "Cây hằng năm"), ("BHK", "HNK", "Cây hằng năm"), ("ONT", "ONT", "Đất ở")],
            ),
        }
    )
    con.execute(f"SET extension_directory = '{link_extensions(tmp_path_factory.mktemp('extensions'))}'")
    con.execute("LOAD spatial")
    con.execute("CREATE SCHEMA lake.staging")
    con.execute(f"CREATE TABLE lake.intermediate.int_parcel ({PARCEL}, crs VARCHAR, geometry GEOMETRY)")
    con.execute(f"CREATE TABLE lake.staging.stg_commune_boundary ({BOUNDARY})")
    for code, crs, x in (("1", CRS, 0), ("2", CRS, 100), ("3", "EPSG:9210", 200)):
        con.execute(f"INSERT INTO lake.staging.stg_commune_boundary VALUES ('{code}', true, '{crs}', ST_GeomFromText('{box(x, 0, 100, 100)}'))")
    return con


def parcel(con: duckdb.DuckDBPyConnection, name: str, commune: str, shape: str, sheet: int | None = 1, crs: str = CRS) -> None:
    con.execute(
        "INSERT INTO lake.intermediate.int_parcel VALUES (?, ?, '9', ?, ?, 1, 'CLN', 1, ?, ST_GeomFromText(?))",
        [f"{name}/{commune}", name, commune, sheet, crs, shape],
    )


def rows(con: duckdb.DuckDBPyConnection, sql: dict[str, str], mart: str) -> list[dict[str, Any]]:
    return records(con, f"SELECT * FROM ({sql[mart]}) ORDER BY ALL")


def test_a_parcel_is_found_where_it_lies(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    parcel(con, "inside", "1", box(10, 10, 20, 20))
    parcel(con, "astride", "1", box(80, 10, 30, 20))  # 20 x 20 in commune 1, 10 x 20 in 2
    parcel(con, "moved", "1", box(110, 10, 20, 20))
    parcel(con, "nowhere", "1", box(900, 900, 5, 5))
    parcel(con, "half out", "1", box(-10, 0, 20, 10))  # 10 x 10 in no commune at all
    parcel(con, "sliver", "1", box(90, 50, 10.05, 10))  # 0.5 m2 over the border is drawing
    parcel(con, "just over", "1", box(90, 70, 10.11, 10))  # 1.1 m2 is not
    parcel(con, "tiny", "1", box(50, 50, 0.5, 0.5))  # smaller than a sliver as a whole
    got = [
        (
            r["parcel_id"],
            r["placement"],
            r["boundary_commune_code"],
            r["area_m2"] and round(r["area_m2"], 9),
            round(r["parcel_share"], 6) if r["parcel_share"] is not None else None,
        )
        for r in rows(con, sql, "parcel_overlay")
    ]
    assert got == [
        ("astride", "astride", "1", 400, 0.666667),
        ("astride", "astride", "2", 200, 0.333333),
        ("half out", "astride", "1", 100, 0.5),
        ("inside", "inside", "1", 400, 1.0),
        ("just over", "astride", "1", 100, round(100 / 101.1, 6)),
        ("just over", "astride", "2", 1.1, round(1.1 / 101.1, 6)),
        ("moved", "outside", "2", 400, 1.0),
        ("nowhere", "outside", None, None, None),
        ("sliver", "inside", "1", 100, round(100 / 100.5, 6)),
        ("tiny", "inside", "1", 0.25, 1.0),
    ]
    declared = {(r["parcel_id"], r["boundary_commune_code"]): (r["is_declared"], r["is_illustrative"]) for r in rows(con, sql, "parcel_overlay")}
    assert declared["astride", "1"] == (True, True) and declared["astride", "2"] == declared["moved", "2"] == (False, True)


def test_what_cannot_be_compared_says_why(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Every parcel has a row: a bow-tie, another CRS, and a commune whose boundary nobody sent are no findings about the parcel."""
    parcel(con, "bow-tie", "1", BOW_TIE)
    parcel(con, "crs", "3", box(210, 10, 10, 10))
    parcel(con, "unknown", "4", box(10, 10, 10, 10))
    parcel(con, "crs of the parcel", "1", box(10, 10, 10, 10), crs="EPSG:9210")
    got = {r["parcel_id"]: (r["placement"], r["boundary_commune_code"], r["parcel_area_m2"]) for r in rows(con, sql, "parcel_overlay")}
    assert got == {
        "bow-tie": ("invalid_geometry", None, None),
        "crs": ("other_crs", None, 100),
        "crs of the parcel": ("other_crs", None, 100),
        "unknown": ("no_boundary", "1", 100),
    }


def test_neighbours_that_overlap_are_a_pair_once(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    parcel(con, "a", "1", box(0, 0, 10, 10))
    parcel(con, "b", "1", box(8, 0, 10, 20), sheet=2)  # 2 x 10 of a, a tenth of its own 200
    parcel(con, "c", "2", box(18, 0, 10, 10))  # touches b, no more
    parcel(con, "d", "2", box(27.95, 0, 10, 10))  # 0.5 m2 of c are drawing
    parcel(con, "e", "2", box(30, 2, 2, 2))  # lies in d, on the same sheet
    parcel(con, "f", "2", BOW_TIE)
    parcel(con, "g", "2", box(0, 0, 5, 5), crs="EPSG:9210")
    parcel(con, "a", "2", box(0, 4, 1, 10), sheet=None)  # the number of another commune's parcel: 1 x 6 of it
    got = [
        (
            r["parcel_id"],
            r["other_parcel_id"],
            round(r["overlap_m2"], 9),
            round(r["parcel_share"], 6),
            round(r["other_parcel_share"], 6),
            r["is_same_commune"],
            r["is_same_sheet"],
        )
        for r in rows(con, sql, "parcel_overlap")
    ]
    assert got == [
        ("a", "a", 6, 0.06, 0.6, False, False),
        ("a", "b", 20, 0.2, 0.1, True, False),
        ("d", "e", 4, 0.04, 1.0, True, True),
    ]


def test_areas_are_not_rounded_and_judged_alike_whatever_corner_comes_first(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Shapes of whole centimetres have areas of whole halves of 1e-4 m2: rounded to four digits they fall either way, by the noise of an engine."""
    con.execute(
        f"INSERT INTO lake.staging.stg_commune_boundary VALUES ('9', true, '{CRS}', ST_GeomFromText('{box(1_200_000, 560_000, 1000, 1000)}'))"
    )
    corners = [(1_200_100.0, 560_100.0), (1_200_110.01, 560_100.0), (1_200_110.01, 560_120.0), (1_200_099.99, 560_120.01)]
    area = 200.35005  # by hand, from the corners relative to the first
    for first in range(4):
        turned = [*corners[first:], *corners[:first]]
        parcel(con, f"turned {first}", "9", "POLYGON((" + ", ".join(f"{x} {y}" for x, y in [*turned, turned[0]]) + "))")
    # 100 m along the border and 1 cm over it: 1 m2 to the last digit, of which the engines find a little more or less
    parcel(con, "at the sliver", "9", box(1_200_990.01, 560_300, 10, 100))
    got = rows(con, sql, "parcel_overlay")
    assert [r["area_m2"] for r in got if r["parcel_id"].startswith("turned")] == [pytest.approx(area, rel=1e-9)] * 4
    assert {r["placement"] for r in got} == {"inside"}
    assert all(r["area_m2"] <= r["parcel_area_m2"] and r["parcel_share"] <= 1 for r in got)


@pytest.mark.parametrize("mart", ["parcel_overlay", "parcel_overlap"])
def test_parcels_are_found_by_a_spatial_join(con: duckdb.DuckDBPyConnection, sql: dict[str, str], mart: str) -> None:
    """An inequality or equality beside the spatial condition would make DuckDB compare all with all."""
    (plan,) = json.loads(con.execute(f"EXPLAIN (FORMAT json) {sql[mart]}").fetchall()[0][1])
    operators = list(_operators(plan))
    assert [name for name, _ in operators].count("SPATIAL_JOIN") == 1
    assert not {name for name, _ in operators} & {"NESTED_LOOP_JOIN", "BLOCKWISE_NL_JOIN", "CROSS_PRODUCT", "PIECEWISE_MERGE_JOIN", "IE_JOIN"}
    # a filter on the area would compute the intersection once more
    assert not [info for name, info in operators if name == "FILTER" and "ST_Intersection" in info]


def _operators(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and details of every operator of a plan."""
    yield str(node["name"]).strip(), json.dumps(node.get("extra_info"))
    for child in node["children"]:
        yield from _operators(child)


def test_change_of_land_use_by_hand(con: duckdb.DuckDBPyConnection, sql: dict[str, str]) -> None:
    """Commune 1 was sent in 2024, in December 2025 and in February; commune 2 never before February."""

    def version(valid_from: str, valid_to: str | None, *parcels: tuple[str, str, str | None, str]) -> None:
        for name, commune, use, area in parcels:
            con.execute("INSERT INTO lake.marts_land.parcel_version VALUES (?, '9', ?, ?, ?, ?, ?)", [name, commune, use, area, valid_from, valid_to])

    version("2024-12-31", "2025-12-15", ("p1", "1", "ONT", "99"), ("older", "1", "ONT", "99"))
    version(
        "2025-12-15",
        "2026-02-01",
        ("p1", "1", "CLN", "100.1"),
        ("p2", "1", "CLN", "200.2"),
        ("p3", "1", "BHK", "50"),
        ("p4", "1", None, "10"),
        ("p5", "1", "CLN", "70"),
        ("p7", "1", "ONT", "1"),
    )
    now = [
        ("p1", "1", "ONT", "100.1"),
        ("p2", "1", "ONT", "190.0"),
        ("p3", "1", "HNK", "50"),  # the code of 2024 for the same use
        ("p4", "1", None, "10"),
        ("p6", "1", "ONT", "5"),
        ("p7", "1", "XXX", "1"),
        ("q1", "2", "CLN", "1000"),
    ]
    version("2026-02-01", None, *now)
    for name, commune, use, area in now:
        con.execute("INSERT INTO lake.intermediate.int_parcel VALUES (?, ?, '9', ?, 1, 1, ?, ?, ?, NULL)", [name, name, commune, use, area, CRS])
    found = rows(con, sql, "land_use_change")
    assert {str(r["compared_from"]) for r in found} == {"2026-01-01 00:00:00"}
    got = {
        (r["old_commune_code"], r["land_use_name_from_vi"], r["land_use_name_to_vi"]): (
            r["change"],
            r["parcels"],
            r["area_before_m2"],
            r["area_after_m2"],
        )
        for r in found
    }
    assert got == {
        ("1", "Cây lâu năm", "Đất ở"): ("changed", 2, Decimal("300.3"), Decimal("290.1")),
        ("1", "Cây hằng năm", "Cây hằng năm"): ("unchanged", 1, Decimal(50), Decimal(50)),
        ("1", "Thiếu mã loại đất", "Thiếu mã loại đất"): ("unchanged", 1, Decimal(10), Decimal(10)),
        ("1", "Đất ở", "Mã không có trong danh mục"): ("changed", 1, Decimal(1), Decimal(1)),
        ("1", "Cây lâu năm", "Không còn thửa"): ("vanished", 1, Decimal(70), None),
        ("1", "Chưa có thửa", "Đất ở"): ("new", 1, None, Decimal(5)),
        ("2", "Chưa có số liệu", "Cây lâu năm"): ("not_known_before", 1, None, Decimal(1000)),
    }
    assert len(found) == len(got)


def test_the_day_of_comparison_can_be_named(con: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory) -> None:
    sql = compiled(tmp_path_factory.mktemp("named"), ["land_use_change"], AS_OF, land_use_change_from="2024-12-31 00:00:00")
    con.execute("INSERT INTO lake.marts_land.parcel_version VALUES ('p/1', '9', '1', 'ONT', 1, '2024-12-31', '2025-01-01')")
    con.execute("INSERT INTO lake.marts_land.parcel_version VALUES ('p/1', '9', '1', 'CLN', 1, '2025-01-01', NULL)")
    parcel(con, "p", "1", box(0, 0, 1, 1))
    (row,) = rows(con, sql, "land_use_change")
    assert (row["land_use_code_from"], row["land_use_code_to"], row["change"]) == ("ONT", "CLN", "changed")
