"""Rules of the cadastre on hand-made parcels: each finds what breaks it and nothing else, and an issue lasts from delivery to delivery."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import shapely
import yaml

from lake.extensions import link_extensions
from tests.marts_kit import compiled, database, records
from tests.unit.test_land import BOW_TIE, CRS, box
from tnmt.settings import ROOT

AS_OF = "2026-03-12 10:00:00"
RULES = yaml.safe_load((ROOT / "dictionary/cadastre_rules.yaml").read_text(encoding="utf-8"))
JUDGED = ("int_cadastre_parcel", "int_cadastre_overlap", "int_cadastre_gap", "int_cadastre_certificate", "int_cadastre_finding")
ORDER = ("int_parcel_drawn", "parcel_overlap", "parcel_gap", *JUDGED, "cadastre_issue", "cadastre_quality")
VERSION = (
    "parcel_uid VARCHAR, parcel_id VARCHAR, parcel_code VARCHAR, unit_code VARCHAR, is_new_unit BOOLEAN, commune_code VARCHAR, old_commune_code VARCHAR, "
    "sheet_number INTEGER, parcel_number INTEGER, land_use_code VARCHAR, declared_area_m2 DECIMAL(14,1), computed_area_m2 DECIMAL(16,1), valid_from TIMESTAMP, "
    "valid_to TIMESTAMP, change_kind VARCHAR, is_boundary_changed BOOLEAN, source_delivery_id VARCHAR, source_line INTEGER"
)
CERTIFICATE = (
    "issue_id VARCHAR, kind VARCHAR, parcel_uid VARCHAR, parcel_id VARCHAR, commune_code VARCHAR, old_commune_code VARCHAR, as_of TIMESTAMP, "
    "source_delivery_id VARCHAR, source_line INTEGER"
)
FIRST, SECOND, THIRD = datetime(2025, 1, 1), datetime(2026, 1, 1), datetime(2026, 3, 1)
X, Y = 550_000, 1_275_000
"""Within the zone of EPSG:9212, so that places and codes on the globe are real ones."""


@pytest.fixture(scope="module")
def sql(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled(tmp_path_factory.mktemp("rules"), ORDER, AS_OF)


class Cadastre:
    """Parcels of one commune, judged by the models as dbt compiled them."""

    def __init__(self, sql: dict[str, str], extensions: Path) -> None:
        self.sql, self.lines = sql, 0
        self.con = database(
            {
                "marts_land.parcel_version": (VERSION, []),
                "marts_land.certificate_issue": (CERTIFICATE, []),
                "marts_land.parcel_overlay": ("parcel_uid VARCHAR, placement VARCHAR", []),
                "intermediate.int_certificate": ("commune_code VARCHAR", [("9",)] * 4),
                "intermediate.int_new_commune": ("commune_code VARCHAR, commune_name VARCHAR", [("9", "Xã Chín")]),
                "intermediate.int_commune": ("old_commune_code VARCHAR, old_commune_name VARCHAR, commune_code VARCHAR", [("1", "Xã Một", "9")]),
                "intermediate.int_land_use": ("code_in_record VARCHAR, is_legacy BOOLEAN", [("CLN", False), ("BHK", True)]),
            },
            ["cadastre_rule"],
        )
        self.con.execute(f"SET extension_directory = '{link_extensions(extensions)}'")
        self.con.execute("LOAD spatial")
        self.con.execute("CREATE SCHEMA lake.staging")
        self.con.execute("CREATE TABLE lake.staging.stg_parcel_version (_delivery_id VARCHAR, _line INTEGER, crs VARCHAR, geometry GEOMETRY)")

    def parcel(self, name: str, shape: str, since: datetime = FIRST, until: datetime | None = None, **given: Any) -> None:
        """A version of a parcel; what is not given is in order."""
        self.lines += 1
        self.con.execute("INSERT INTO lake.staging.stg_parcel_version VALUES ('d', ?, ?, ST_GeomFromText(?))", [self.lines, CRS, shape])
        (area,) = self.con.execute("SELECT ST_Area(ST_GeomFromText(?))", [shape]).fetchall()[0]
        row = {
            **{
                "parcel_uid": name,
                "parcel_id": f"1.1.{self.lines}",
                "parcel_code": None,
                "unit_code": "1",
                "is_new_unit": False,
                "commune_code": "9",
            },
            **{"old_commune_code": "1", "sheet_number": 1, "parcel_number": self.lines, "land_use_code": "CLN", "declared_area_m2": area},
            **{"computed_area_m2": area, "valid_from": since, "valid_to": until, "change_kind": "first", "is_boundary_changed": False},
            **{"source_delivery_id": "d", "source_line": self.lines},
        } | given
        self.con.execute(f"INSERT INTO lake.marts_land.parcel_version VALUES ({', '.join('?' * len(row))})", list(row.values()))

    def judge(self) -> dict[str, set[str]]:
        """Issues by rule: names of parcels, `one/other` of pairs."""
        self.con.execute("""CREATE OR REPLACE VIEW lake.intermediate.int_parcel AS SELECT version.*, sent.geometry, sent.crs, version.declared_area_m2 AS area_m2,
            ST_XMin(sent.geometry) AS xmin, ST_YMin(sent.geometry) AS ymin
            FROM lake.marts_land.parcel_version AS version JOIN lake.staging.stg_parcel_version AS sent ON version.source_line = sent._line
            WHERE version.valid_to IS NULL""")  # fmt: skip
        self.con.execute("CREATE OR REPLACE VIEW lake.marts_land.parcel_current AS FROM lake.marts_land.parcel_version WHERE valid_to IS NULL")
        for name in ORDER:
            schema = "intermediate" if name.startswith("int_") else "marts_land"
            self.con.execute(f"CREATE OR REPLACE TABLE lake.{schema}.{name} AS {self.sql[name]}")
        found: dict[str, set[str]] = {}
        for rule, thing in self.con.execute("SELECT rule_id, object_id FROM lake.intermediate.int_cadastre_finding").fetchall():
            found.setdefault(rule, set()).add(thing)
        return found

    def issues(self) -> list[dict[str, Any]]:
        return records(self.con, "SELECT * FROM lake.marts_land.cadastre_issue ORDER BY rule_id, parcel_uid, found_on")


@pytest.fixture
def cadastre(sql: dict[str, str], tmp_path: Path) -> Iterator[Cadastre]:
    made = Cadastre(sql, tmp_path)
    yield made
    made.con.close()


def at(n: int, width: float = 20, height: float = 20) -> str:
    """A parcel in a place of its own."""
    return box(X + 100 * n, Y, width, height)


def code_of(con: duckdb.DuckDBPyConnection, x: float, y: float) -> str:
    """GeoHash of a point by halving, letter by letter, as its definition says."""
    lon, lat = con.execute(
        "SELECT ST_X(p), ST_Y(p) FROM (SELECT ST_Transform(ST_Point(?, ?), ?, 'EPSG:4326', always_xy := true) AS p)", [x, y, CRS]
    ).fetchall()[0]
    bounds, code = {"lon": [-180.0, 180.0], "lat": [-90.0, 90.0]}, ""
    for letter in range(12):
        number = 0
        for bit in range(5):
            axis, value = ("lon", lon) if (letter * 5 + bit) % 2 == 0 else ("lat", lat)
            middle = sum(bounds[axis]) / 2
            number = number * 2 + (value >= middle)
            bounds[axis][0 if value >= middle else 1] = middle
        code += "0123456789BCDEFGHJKMNPQRSTUVWXYZ"[number]
    return code


def test_a_cadastre_in_order_breaks_no_rule(cadastre: Cadastre) -> None:
    for n in range(4):
        cadastre.parcel(f"p{n}", box(X + 20 * n, Y, 20, 20), parcel_code=code_of(cadastre.con, X + 20 * n + 10, Y + 10))
    assert cadastre.judge() == {}
    rows = records(cadastre.con, "SELECT rule_id, checked, failed FROM lake.marts_land.cadastre_quality")
    assert {r["rule_id"]: (r["checked"], r["failed"]) for r in rows} == dict.fromkeys(RULES, (4, 0))


def test_each_rule_of_a_parcel_finds_what_breaks_it_and_nothing_else(cadastre: Cadastre) -> None:
    con = cadastre.con
    cadastre.parcel("good", at(0), parcel_code=code_of(con, X + 10, Y + 10))
    cadastre.parcel("bow-tie", BOW_TIE)
    cadastre.parcel("no area", at(2), declared_area_m2=None)
    cadastre.parcel("5 % more", at(3), declared_area_m2=420)
    cadastre.parcel("11 % less", at(4), declared_area_m2=356)
    cadastre.parcel("2 % more", at(5), declared_area_m2=408)
    cadastre.parcel("no number", at(6), parcel_number=None)
    cadastre.parcel("sheet 0", at(7), sheet_number=0)
    cadastre.parcel("one", at(8), sheet_number=7, parcel_number=7)
    cadastre.parcel("two", at(9), sheet_number=7, parcel_number=7)
    cadastre.parcel("seven of another commune", at(10), unit_code="2", sheet_number=7, parcel_number=7)
    cadastre.parcel("ended before", at(11), FIRST, SECOND, sheet_number=8, parcel_number=8)
    cadastre.parcel("same number after", at(12), SECOND, sheet_number=8, parcel_number=8)
    cadastre.parcel("eleven letters", at(13), parcel_code="W6H187G79JJ")
    cadastre.parcel("letter that is none", at(14), parcel_code="W6H187G79JJA")
    cadastre.parcel("of a neighbour", at(15), parcel_code=code_of(con, X + 10, Y + 10))
    cadastre.parcel("axes swapped", at(16), parcel_code="ZZZZZZZZZZZZ")
    cadastre.parcel("no use", at(17), land_use_code=None)
    cadastre.parcel("former use", at(18), land_use_code="BHK")
    cadastre.parcel("former use, then", at(19), datetime(2024, 7, 31), SECOND, land_use_code="BHK")
    for name, placement in (("out", "outside"), ("astride", "astride"), ("in", "inside")):
        cadastre.parcel(name, at(20 + len(name)))
        con.execute("INSERT INTO lake.marts_land.parcel_overlay VALUES (?, ?), (?, ?)", [name, placement, name, placement])
    assert cadastre.judge() == {
        "shape_invalid": {"bow-tie"},
        "area_missing": {"no area", "bow-tie"},
        "area_differs": {"5 % more"},
        "area_differs_much": {"11 % less"},
        "number_missing": {"no number", "sheet 0"},
        "number_twice": {"one", "two"},
        "code_malformed": {"eleven letters", "letter that is none"},
        "code_elsewhere": {"of a neighbour", "axes swapped"},
        "land_use_missing": {"no use"},
        "land_use_former": {"former use"},
        "outside_commune": {"out"},
        "astride_boundary": {"astride"},
    }


def test_overlaps_by_kind(cadastre: Cadastre) -> None:
    cadastre.parcel("a", at(0, 100, 20))
    cadastre.parcel("a strip", box(X + 99.9, Y, 30, 20))  # 0.1 m of 20 m: 2 m2
    cadastre.parcel("b", at(2))
    cadastre.parcel("in b", box(X + 205, Y + 5, 5, 5), SECOND)
    cadastre.parcel("c", at(3))
    cadastre.parcel("c again", at(3))
    cadastre.parcel("d", at(4))
    cadastre.parcel("half of d", box(X + 410, Y, 20, 20))
    assert cadastre.judge() == {
        "overlap_sliver": {"a/a strip"},
        "overlap_contained": {"b/in b"},
        "overlap_identical": {"c/c again"},
        "overlap_partial": {"d/half of d"},
    }
    issues = {i["rule_id"]: i for i in cadastre.issues()}
    assert issues["overlap_contained"]["found_on"] == SECOND and issues["overlap_partial"]["found_on"] == FIRST
    assert "200.0 m²" in issues["overlap_partial"]["message_vi"] and issues["overlap_partial"]["is_open"]


def test_an_issue_lasts_from_the_delivery_that_shows_it_to_the_one_that_does_not(cadastre: Cadastre) -> None:
    """Found, still there in the next version, mended, found again: two issues. One of a parcel that ended is closed with it."""
    shape = at(0)
    cadastre.parcel("p", shape, FIRST, SECOND, land_use_code=None)
    cadastre.parcel("p", shape, SECOND, datetime(2026, 2, 1), land_use_code=None, change_kind="attribute", declared_area_m2=401)
    cadastre.parcel("p", shape, datetime(2026, 2, 1), THIRD, change_kind="land_use")
    cadastre.parcel("p", shape, THIRD, land_use_code=None, change_kind="land_use")
    cadastre.parcel("gone", at(1), FIRST, THIRD, land_use_code=None)
    assert cadastre.judge() == {"land_use_missing": {"p", "gone"}}
    assert [(i["parcel_uid"], i["found_on"], i["fixed_on"], i["is_open"], i["lon"] is not None) for i in cadastre.issues()] == [
        ("gone", FIRST, THIRD, False, False),
        ("p", FIRST, datetime(2026, 2, 1), False, True),
        ("p", THIRD, None, True, True),
    ]
    rows = records(cadastre.con, "SELECT * FROM lake.marts_land.cadastre_quality WHERE rule_id = 'land_use_missing'")
    # 30 days before 12 March 2026 is 10 February: "gone" still had it then, "p" had not
    assert [(r["checked"], r["failed"], r["failed_before"], r["fixed_in_30_days"], r["failed_share"]) for r in rows] == [(1, 1, 1, 1, 1.0)]


def test_gaps_by_kind(cadastre: Cadastre) -> None:
    """Nine parcels around and beside each other; the middle one is missing, two strips are left out, one of them open at the edge."""
    for column in range(3):
        for row in range(3):
            if (column, row) == (1, 1):
                continue
            left = 0.4 if (column, row) == (2, 0) else 0  # beside the parcel below the middle, open at the bottom
            bottom = 0.3 if (column, row) == (0, 2) else 0  # closed by nothing on the left: open too
            place = box(X + 20 * column + left, Y + 20 * row + bottom, 20 - left, 20 - bottom)
            cadastre.parcel(f"{column}{row}", place, SECOND if (column, row) == (2, 0) else FIRST, sheet_number=1 + column // 2, unit_code="1")
    assert {rule: len(found) for rule, found in cadastre.judge().items()} == {"gap_sliver": 2, "gap_hole": 1}
    gaps = records(cadastre.con, "SELECT * FROM lake.marts_land.parcel_gap ORDER BY area_m2")
    assert [(g["gap_kind"], g["area_m2"], g["neighbours"], g["is_same_sheet"], g["open_since"]) for g in gaps] == [
        ("open", 6, 3, True, FIRST),  # 20 x 0.3, between two parcels, with the one that closes it
        ("open", 8, 3, False, SECOND),  # 20 x 0.4, with the parcel above it
        ("hole", 400, 6, False, FIRST),  # two of its corners lie beside a strip that no parcel has
    ]
    assert [round(g["width_m"], 2) for g in gaps] == [0.3, 0.39, 10]


@pytest.mark.parametrize("seed", range(5))
def test_gaps_are_those_that_shapely_finds(cadastre: Cadastre, seed: int) -> None:
    """A grid with shifted corners; parcels that are missing, shrunk or moved. Enclosed gaps are the faces of the union's outline that are not in it."""
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(np.arange(9) * 30.0, np.arange(9) * 30.0, indexing="ij"), axis=-1) + rng.uniform(-6, 6, (9, 9, 2)) + (X, Y)
    cells = [shapely.Polygon([corners[i, j], corners[i + 1, j], corners[i + 1, j + 1], corners[i, j + 1]]) for i in range(8) for j in range(8)]
    for n in rng.choice(64, 6, replace=False):
        cells[n] = shapely.buffer(cells[n], -rng.uniform(0.2, 3), join_style="mitre")
    missing = rng.choice(64, 3, replace=False)
    kept = [cell for n, cell in enumerate(cells) if n not in missing]
    for n, cell in enumerate(kept):
        cadastre.parcel(str(n), cell.wkt)
    cadastre.judge()
    whole = shapely.union_all([shapely.from_wkt(cell.wkt) for cell in kept])
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(shapely.node(whole.boundary))))
    holes = [face for face in faces if not whole.contains(face.representative_point())]
    filled = shapely.union_all([whole, *holes])
    grown = shapely.buffer(filled, 0.5, quad_segs=2, join_style="mitre", mitre_limit=10)
    open_ones = shapely.get_parts(shapely.difference(shapely.buffer(grown, -0.5, quad_segs=2, join_style="mitre", mitre_limit=10), filled))
    expected = sorted((kind, round(g.area, 2)) for kind, gaps in ((True, holes), (False, open_ones)) for g in gaps if g.area > 1)
    found = sorted((r["gap_kind"] != "open", r["area_m2"]) for r in records(cadastre.con, "SELECT gap_kind, area_m2 FROM lake.marts_land.parcel_gap"))
    assert len(expected) >= 2
    assert [k for k, _ in found] == [k for k, _ in expected] and [a for _, a in found] == pytest.approx([a for _, a in expected], abs=0.02)


def test_what_is_wrong_with_certificates_is_an_issue_too(cadastre: Cadastre) -> None:
    cadastre.parcel("p", at(0))
    kinds = ("serial_twice", "two_valid_on_parcel", "no_parcel", "parcel_not_unique", "parcel_retired", "date_order")
    for kind in kinds:
        cadastre.con.execute("INSERT INTO lake.marts_land.certificate_issue VALUES (?, ?, NULL, '1.9.9', '9', '1', ?, 'g', 3)", [kind, kind, SECOND])
    found = cadastre.judge()
    assert {k for things in found.values() for k in things} == {*kinds} and sum(map(len, found.values())) == len(kinds)
    assert {i["source_delivery_id"] for i in cadastre.issues()} == {"g"}


def test_every_rule_is_whole() -> None:
    for key, rule in RULES.items():
        assert rule.keys() - {"detail"} == {"judges", "fails", "sentence", "severity", "source", "office"}, key
        assert rule["severity"] in ("error", "warning"), key
