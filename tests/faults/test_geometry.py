"""Geometry of every kind of oddness: mended, or named with its row at the gate; and no mart throws on what an older lake may hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyogrio.raw
import pytest
import shapely

from ingestion.ingest import contracts_of, ingest
from lake.extensions import link_extensions
from lake.lake import open_reader
from tests.conftest import own_platform
from tests.marts_kit import compiled, database, records
from tnmt.settings import Settings

NOW = datetime(2026, 3, 25, 12)
X, Y = 560_000.0, 1_270_000.0


def at(*points: tuple[float, float]) -> shapely.Polygon:
    return shapely.Polygon([(X + x, Y + y) for x, y in points])


ZOO: dict[str, tuple[Any, str]] = {
    "whole": (at((0, 0), (100, 0), (100, 100), (0, 100)), "kept"),
    "doubled points": (at((0, 0), (0, 0), (100, 0), (100, 0), (100, 100), (0, 100)), "kept"),
    "with height": (shapely.force_3d(at((0, 0), (100, 0), (100, 100)), 7), "kept"),
    "hole that touches": (
        shapely.Polygon(at((0, 0), (100, 0), (100, 100), (0, 100)).exterior, [[(X, Y + 50), (X + 30, Y + 40), (X + 30, Y + 60)]]), "kept"),
    "spike": (at((0, 0), (100, 0), (100, 100), (100, 200), (100, 100), (0, 100)), "repaired"),
    "parts side by side": (shapely.MultiPolygon([at((0, 0), (50, 0), (50, 50), (0, 50)), at((50, 0), (100, 0), (100, 50), (50, 50))]), "repaired"),
    "hair over itself": (at((0, 0), (100, 0), (100, 100), (0, 100), (0, 50), (-0.5, 50.2), (0, 50.4)), "repaired"),
    "self-crossing": (at((0, 0), (100, 100), (100, 0), (0, 100)), "geometry_invalid"),
    "no area": (at((0, 0), (100, 0), (50, 0)), "geometry_invalid"),
    "one point": (at((0, 0), (0, 0), (0, 0)), "geometry_invalid"),
    "line": (shapely.LineString([(X, Y), (X + 100, Y)]), "geometry_invalid"),
    "point": (shapely.Point(X, Y), "geometry_invalid"),
    "empty": (shapely.Polygon(), "geometry_missing"),
    "nothing": (None, "geometry_missing"),
    "not a number": (shapely.Polygon([(X, Y), (math.nan, Y), (X + 1, Y + 1)]), "coordinates_outside"),
    "infinite": (shapely.Polygon([(X, Y), (math.inf, Y), (X + 1, Y + 1)]), "coordinates_outside"),
    "huge": (shapely.Polygon([(0, 0), (1e300, 0), (1e300, 1e300)]), "coordinates_outside"),
    "axes exchanged": (shapely.Polygon([(Y, X), (Y + 100, X), (Y + 100, X + 100)]), "coordinates_outside"),
}  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with own_platform(tmp_path_factory.mktemp("geometry")) as s:
        # as it is shipped one bad row stops the plan; here each row is looked at
        text = (s.contract_dirs[0] / "land/land_plan.yaml").read_text(encoding="utf-8")
        (s.home / "contracts" / "land_plan.yaml").write_text(text + "tolerated_bad_share: 1.0\n", encoding="utf-8")
        yield s


def _write(path: Path, layer: str, columns: dict[str, list[Any]], shapes: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wkb = np.array([None if s is None else shapely.to_wkb(s, output_dimension=2 + s.has_z) for s in shapes], dtype=object)
    values = [np.array(v, dtype=object if isinstance(v[0], str) else None) for v in columns.values()]
    pyogrio.raw.write(path, wkb, values, list(columns), layer=layer, driver="GPKG", geometry_type="Unknown", crs="EPSG:9212")


def test_the_zoo_at_the_gate(lake: Settings) -> None:
    names = list(ZOO)
    columns = {"MAQH": names, "TENQH": names, "KYQH": ["2021-2030"] * len(names), "MALOAIDAT": ["ONT"] * len(names), "MAXA": ["25195"] * len(names),
               "DIENTICH_HA": [1.0] * len(names)}  # fmt: skip
    _write(lake.inbox / "land_plan" / "quy_hoach_20260301.gpkg", "QH_MDSD", columns, [g for g, _ in ZOO.values()])
    ran = ingest(lake, now=NOW, run_id="zoo", only=["land_plan"])
    assert not ran.errors and not ran.loaded["land_plan"].blocked, ran
    with open_reader(lake) as con:
        con.execute("LOAD spatial")
        kept = con.execute("""
            SELECT plan_id, geometry_repaired, ST_IsValid(geometry), ST_GeometryType(geometry), geometry_area_m2 FROM lake.clean.land_plan""").fetchall()
        refused = dict(con.execute("SELECT line, (reasons, details) FROM lake.quarantine.row WHERE source = 'land_plan'").fetchall())
    found = {plan: "repaired" if repaired else "kept" for plan, repaired, *_ in kept}
    found |= {names[line - 1]: reasons[-1] for line, (reasons, _) in refused.items()}
    assert found == {name: right for name, (_, right) in ZOO.items()}
    assert all(valid and "POLYGON" in str(kind) for _, _, valid, kind, _ in kept)
    assert {plan: float(area) for plan, *_, area in kept}["spike"] == 10_000.0
    details = next(d for r, d in refused.values() if r == ["geometry_invalid"])
    assert "cần: đa giác không tự cắt" in details and "cách xử lý" in details


def test_a_boundary_that_crosses_itself_is_refused_and_the_old_ones_stay(lake: Settings) -> None:
    whole, crossing = ZOO["whole"][0], ZOO["self-crossing"][0]
    for day, shapes in (("01", [whole, whole]), ("02", [whole, crossing])):
        columns = {"MAXA": ["25195", "25198"], "TENXA": ["a", "b"], "MINHHOA": [1, 1]}
        _write(lake.inbox / "commune_boundary" / f"ranh_gioi_xa_202603{day}.gpkg", "ranh_gioi_xa", columns, shapes)
        ran = ingest(lake, now=NOW, run_id=day, only=["commune_boundary"])
        assert not ran.errors
    assert ran.loaded["commune_boundary"].blocked == 1
    with open_reader(lake) as con:
        assert con.execute("SELECT count(*), count(DISTINCT _delivery_id) FROM lake.clean.commune_boundary").fetchall() == [(2, 1)]


def test_parcels_are_not_mended() -> None:
    parcel = {c.target for c in contracts_of(Settings()).values() if "geometry" in c.columns} - {"commune_boundary", "land_plan"}
    assert parcel == {"parcel"}, "decide for a new target whether others are laid over it (ingestion.targets.REPAIRED)"


def test_no_mart_throws_on_a_geometry_of_an_older_lake(tmp_path: Path) -> None:
    """Straight into the tables, as before there was a gate for them: each mart is built, and what cannot be drawn is left out."""
    models = ["commune_map", "parcel_overlay", "parcel_overlap", "land_use_area"]
    sql = compiled(tmp_path, models, "2026-03-12 10:00:00")
    codes = [f"{n:05}" for n in range(len(ZOO))]
    con: duckdb.DuckDBPyConnection = database(
        {
            "intermediate.int_commune": (
                "old_commune_code VARCHAR, old_commune_name VARCHAR, commune_code VARCHAR, commune_name VARCHAR",
                [(c, c, "together" if n in (0, 7) else f"new{c}", "x") for n, c in enumerate(codes)],
            ),
            "intermediate.int_new_commune": ("commune_code VARCHAR, commune_name VARCHAR", [("x", "x")]),
            "intermediate.int_land_use": (
                "code_in_record VARCHAR, land_use_code VARCHAR, land_use_name_vi VARCHAR, land_use_group_vi VARCHAR", [("CLN", "CLN", "x", "y")]),
            "staging.x": ("x INTEGER", []),
            "marts_core.dim_station": ("station_id VARCHAR, commune_code VARCHAR", []),
        }
    )  # fmt: skip
    con.execute(f"SET extension_directory = '{link_extensions(tmp_path / 'extensions')}'")
    con.execute("LOAD spatial")
    con.execute("CREATE TABLE lake.staging.stg_commune_boundary (old_commune_code VARCHAR, is_illustrative BOOLEAN, crs VARCHAR, geometry GEOMETRY)")
    con.execute("""CREATE TABLE lake.intermediate.int_parcel (parcel_uid VARCHAR, parcel_id VARCHAR, commune_code VARCHAR, old_commune_code VARCHAR,
        sheet_number INTEGER, parcel_number INTEGER, land_use_code VARCHAR, area_m2 DECIMAL(14,1), geometry_area_m2 DECIMAL(16,1), crs VARCHAR,
        geometry GEOMETRY)""")
    con.execute("CREATE TABLE lake.staging.stg_parcel (old_commune_code VARCHAR, commune_code VARCHAR, commune_valid_from DATE)")
    for code, (shape, _) in zip(codes, ZOO.values(), strict=True):
        wkb = None if shape is None else shapely.to_wkb(shape, output_dimension=2)
        con.execute("INSERT INTO lake.staging.stg_commune_boundary VALUES (?, true, 'EPSG:9212', ST_GeomFromWKB(?))", [code, wkb])
        con.execute(
            "INSERT INTO lake.intermediate.int_parcel VALUES (?, ?, 'x', ?, 1, 1, 'CLN', 1, 1, 'EPSG:9212', ST_GeomFromWKB(?))",
            [code, code, code, wkb],
        )
        con.execute("INSERT INTO lake.staging.stg_parcel VALUES (?, NULL, NULL)", [code])
    drawn = {r["commune_code"] for r in records(con, sql["commune_map"])}
    names = dict(zip((f"new{c}" for c in codes), ZOO, strict=True))
    assert "together" not in drawn, "an outline that lacks a part would be a wrong one"
    # where a shape lies is for the gate to judge; here nothing may throw, and nothing that is not valid be drawn
    assert {names[d] for d in drawn} - {"huge", "axes exchanged"} == {"doubled points", "with height", "hole that touches"}
    for model in models[1:]:
        assert records(con, f"SELECT count(*) AS n FROM ({sql[model]})")[0]["n"] >= 0
