"""Vector files of three formats: what is in them comes out, what is wrong with them is named. Oracle: shapely."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyogrio.raw
import pytest
import shapely

from ingestion.cast import cast
from ingestion.encodings import unicode_to_cp1258, unicode_to_tcvn3
from ingestion.model import Problem
from ingestion.readers import vector
from tests.readers_kit import contract, delivery, duck, rows
from tests.support import real_data

COLUMNS = {"ten": "TEN", "dien_tich": {"header": "dientich", "type": "decimal(14,1)"}, "geometry": {"type": "geometry"}}
COUNT = 5_000
SUFFIX = {"GPKG": "dat.gpkg", "OpenFileGDB": "dat.gdb", "ESRI Shapefile": "shp/dat.shp"}


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return duck(tmp_path_factory.mktemp("ext"))


def parcels(count: int = COUNT) -> Any:
    x, y = 550_000 + (np.arange(count) % 100) * 50.0, 1_270_000 + (np.arange(count) // 100) * 50.0
    return shapely.box(x, y, x + 40, y + 40)


def write(
    path: Path,
    driver: str,
    shapes: Any = None,
    *,
    crs: str | None = "EPSG:9212",
    layer: str = "thua",
    names: list[str] | None = None,
    fields: tuple[str, str] = ("TEN", "DIENTICH"),
    **options: Any,
) -> Path:
    shapes = parcels() if shapes is None else shapes
    wkb = np.array([s if s is None or isinstance(s, bytes) else shapely.to_wkb(s) for s in shapes], dtype=object)
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = np.array(names or [f"Tân Phú {i}" for i in range(len(wkb))], dtype=object)
    options = {"geometry_type": "Polygon"} | options
    pyogrio.raw.write(
        path,
        wkb,
        [texts, np.arange(len(wkb)) / 2],
        list(fields),
        crs=crs,
        driver=driver,
        layer=None if driver == "ESRI Shapefile" else layer,
        **options,
    )
    return path


def zipped(path: Path, target: Path) -> Path:
    root = path if path.is_dir() else path.parent
    files = sorted(p for p in root.rglob("*") if p.is_file())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"{root.name}/{file.relative_to(root)}")
    return target


def read(con: duckdb.DuckDBPyConnection, path: Path, **options: Any) -> dict[str, Problem]:
    columns, top = options.pop("columns", COLUMNS), options.pop("top", None)
    return vector.read(con, contract(columns, "vector", top=top, **({"crs": "EPSG:9212"} | options)), [delivery(path)], "cut")


def problem(found: dict[str, Problem]) -> Problem:
    assert len(found) == 1
    only = next(iter(found.values()))
    assert only.what and only.expected and only.found and only.todo
    return only


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("driver", SUFFIX)
def test_every_feature_in_order(con: duckdb.DuckDBPyConnection, tmp_path: Path, driver: str, pack: bool) -> None:
    path = write(tmp_path / SUFFIX[driver], driver)
    if pack:
        path = zipped(path, tmp_path / "gui.zip")
    assert read(con, path, layer=None if driver == "ESRI Shapefile" else "THUA") == {}
    found = rows(con, "_line, _problem, ten, dien_tich, geometry")
    assert [r[:4] for r in found] == [(i + 1, None, f"Tân Phú {i}", i / 2) for i in range(COUNT)]
    assert shapely.equals(shapely.from_wkb([bytes(r[4]) for r in found]), parcels()).all()
    assert con.execute("SELECT _raw FROM cut WHERE _line = 2").fetchall() == [('{"TEN":"Tân Phú 1","DIENTICH":0.5}',)]


def test_a_geodatabase_zipped_without_its_folder(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "dat.gdb"), "zip", write(tmp_path / "dat.gdb", "OpenFileGDB"))
    assert read(con, tmp_path / "dat.gdb.zip") == {}
    assert len(rows(con)) == COUNT


@pytest.mark.parametrize(("text", "encode"), [("tcvn3", unicode_to_tcvn3), ("windows-1258", unicode_to_cp1258), ("unicode", str.encode)])
def test_vietnamese_in_shapefiles(con: duckdb.DuckDBPyConnection, tmp_path: Path, text: str, encode: Any) -> None:
    names = ["xã Tân Phú", "Đồng Xoài", "ấp 3", "thửa đất ở – cũ"]
    path = write(
        tmp_path / "s" / "dat.shp",
        "ESRI Shapefile",
        parcels(4),
        names=[encode(n).decode("latin-1") for n in names],
        fields=(encode("tên ấp").decode("latin-1"), "DIENTICH"),
        encoding="ISO-8859-1",
    )
    for left in path.parent.glob("*.cpg"):
        left.unlink()
    assert read(con, zipped(path, tmp_path / "gui.zip"), text=text, columns={"ten": "Tên ấp", "geometry": {"type": "geometry"}}) == {}
    assert [r[0] for r in rows(con, "ten")] == names


def test_rows_without_a_usable_geometry(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    good = list(parcels(4))
    path = write(
        tmp_path / "dat.gpkg",
        "GPKG",
        [
            *good,
            None,
            shapely.Polygon(),
            shapely.box(106.8, 11.5, 106.9, 11.6),
            shapely.Polygon([(550_000, 1_270_000), (np.nan, np.nan), (550_010, 1_270_010)]),
        ],
        geometry_type="Unknown",
    )
    assert read(con, path) == {}
    assert [(r[0], r[1]) for r in rows(con, "_line, _problem, geometry") if r[1]] == [
        (5, "geometry_missing"),
        (6, "geometry_missing"),
        (7, "coordinates_outside"),
        (8, "coordinates_outside"),
    ]


def test_a_field_of_another_type_than_agreed_is_a_matter_of_its_rows(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """A day as a number and a number as a day: nothing that could stop the statement which types all rows."""
    wkb = np.array([shapely.to_wkb(s) for s in parcels(2)], dtype=object)
    fields = [np.array([20240315, 20240316]), np.array(["2024-03-15", "2024-03-16"], dtype="datetime64[D]"), np.array([True, False])]
    pyogrio.raw.write(
        tmp_path / "dat.gpkg", wkb, fields, ["NGAY", "DIENTICH", "SO"], driver="GPKG", layer="thua", crs="EPSG:9212", geometry_type="Polygon"
    )
    columns = {"ngay": {"header": "NGAY", "type": "date", "format": "%d/%m/%Y"}, "dien_tich": {"header": "DIENTICH", "type": "decimal(14,1)"},
               "so": {"header": "SO", "type": "integer"}, "geometry": {"type": "geometry"}}  # fmt: skip
    made = contract(columns, "vector", crs="EPSG:9212")
    file = delivery(tmp_path / "dat.gpkg")
    assert vector.read(con, made, [file], "cut") == {}
    con.execute(f"""CREATE OR REPLACE TEMP TABLE given AS
        SELECT '{file.delivery_id}' AS delivery_id, now()::TIMESTAMP AS as_of, now()::TIMESTAMP AS received_at, current_date AS day""")
    cast(con, made, "cut", "given", "typed", "EPSG:9212")
    assert con.execute("SELECT ngay, dien_tich, so, _reasons FROM typed ORDER BY _line").fetchall() == [
        (None, None, number, ["ngay_unreadable", "dien_tich_unreadable"]) for number in (1, 0)
    ]


def circle() -> bytes:
    """A full circle of radius 10 as CURVEPOLYGON, ISO WKB."""
    points = [(550_000.0, 1_270_000.0), (550_010.0, 1_270_010.0), (550_020.0, 1_270_000.0), (550_010.0, 1_269_990.0), (550_000.0, 1_270_000.0)]
    arc = b"\1" + struct.pack("<II", 8, len(points)) + b"".join(struct.pack("<dd", *p) for p in points)
    return b"\1" + struct.pack("<II", 10, 1) + arc


@pytest.mark.parametrize(("driver", "kind"), [("GPKG", "Unknown"), ("OpenFileGDB", "MultiPolygon")])
def test_arcs_become_chords_and_heights_go(con: duckdb.DuckDBPyConnection, tmp_path: Path, driver: str, kind: str) -> None:
    high = shapely.to_wkb(shapely.force_3d(parcels(1)[0], 120.0), flavor="iso", output_dimension=3)
    path = write(tmp_path / SUFFIX[driver], driver, [circle(), parcels(1)[0], *([high] if driver == "GPKG" else [])], geometry_type=kind)
    assert read(con, path) == {}
    found = shapely.from_wkb([bytes(r[0]) for r in rows(con, "geometry")])
    assert abs(found[0].area - np.pi * 100) < 0.5
    assert not shapely.has_z(found).any()
    assert all(shape.area == 1600 for shape in found[1:])


def test_files_of_another_type_share_a_table(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    one = write(tmp_path / "1.gpkg", "GPKG", parcels(2))
    two = tmp_path / "2.gpkg"
    pyogrio.raw.write(
        two,
        shapely.to_wkb(parcels(1)),
        [np.array(["x"], dtype=object), np.array(["12,5"], dtype=object)],
        ["TEN", "DIENTICH"],
        crs="EPSG:9212",
        driver="GPKG",
        geometry_type="Polygon",
    )
    spec = contract(COLUMNS, "vector", crs="EPSG:9212")
    assert vector.read(con, spec, [delivery(one), delivery(two)], "cut") == {}
    assert con.execute("SELECT dien_tich FROM cut ORDER BY ALL").fetchall() == [("0.0",), ("0.5",), ("12,5",)]


def test_a_layer_read_for_its_attributes_needs_no_crs(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = write(tmp_path / "dat.gpkg", "GPKG", crs=None)
    assert read(con, path, columns={"ten": "TEN"}, crs=None) == {}
    assert len(rows(con)) == COUNT


# --- files that cannot be read -----------------------------------------------------------------------------------


def degrees(swap: bool = False) -> Any:
    shapes = shapely.box(106.8 + np.arange(50) / 1000, 11.5, 106.8005 + np.arange(50) / 1000, 11.6)
    return shapely.transform(shapes, lambda c: c[:, ::-1]) if swap else shapes


def swapped() -> Any:
    return shapely.transform(parcels(50), lambda c: c[:, ::-1])


@pytest.mark.parametrize(
    ("shapes", "crs", "code", "found"),
    [
        (None, None, "crs_missing", "không có"),
        (None, "EPSG:5899", "crs_other", "EPSG:5899"),
        (degrees(), "EPSG:4326", "crs_other", "EPSG:4326"),
        (degrees(), "EPSG:9212", "crs_impossible", "kinh độ, vĩ độ"),
        (swapped(), "EPSG:9212", "crs_impossible", "đổi chỗ"),
    ],
)
@pytest.mark.parametrize("driver", SUFFIX)
def test_wrong_crs(con: duckdb.DuckDBPyConnection, tmp_path: Path, driver: str, shapes: Any, crs: str | None, code: str, found: str) -> None:
    path = write(tmp_path / SUFFIX[driver], driver, shapes, crs=crs)
    seen = problem(read(con, path))
    assert (seen.code, found in seen.found, "9212" in seen.expected) == (code, True, True), seen
    assert rows(con) == []


def test_layers_that_are_missing_or_not_told_apart(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = write(tmp_path / "dat.gpkg", "GPKG")
    write(path, "GPKG", layer="ranh", append=True)
    seen = problem(read(con, path, layer="DC_THUADAT"))
    assert (seen.code, seen.found) == ("layer_missing", "thua, ranh")
    assert problem(read(con, path)).code == "layer_ambiguous"
    assert read(con, path, layer="ranh") == {}
    table = tmp_path / "bang.gpkg"
    pyogrio.raw.write(table, None, [np.array(["x"], dtype=object)], ["TEN"], driver="GPKG", layer="bang")
    assert problem(read(con, table, columns={"ten": "TEN", "geometry": {"type": "geometry"}})).code == "geometry_missing"


def test_missing_column_names_the_nearest(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    seen = problem(read(con, write(tmp_path / "dat.gpkg", "GPKG", fields=("TENN", "DIENTICH"))))
    assert (seen.code, "gần giống: «TENN»" in seen.what) == ("column_missing", True)


def test_no_feature(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    assert problem(read(con, write(tmp_path / "dat.gpkg", "GPKG", []))).code == "empty_file"


def test_text_that_is_not_what_the_contract_says(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = write(tmp_path / "s" / "dat.shp", "ESRI Shapefile", parcels(1), names=["\xb8"], encoding="ISO-8859-1")
    assert problem(read(con, path.parent)).code == "wrong_encoding"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("name", ["dat.gpkg", "gdb.zip", "shp.zip"])
def test_truncated_files(con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if name == "dat.gpkg":
        write(path, "GPKG")
    else:
        zipped(
            write(
                tmp_path / SUFFIX["OpenFileGDB" if name == "gdb.zip" else "ESRI Shapefile"], "OpenFileGDB" if name == "gdb.zip" else "ESRI Shapefile"
            ),
            path,
        )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert problem(read(con, path)).code in ("damaged_file", "not_a_vector_file")
    assert rows(con) == []


def test_damage_that_gdal_does_not_mention(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """GDAL reads each of these without an error, and gives fewer or empty features."""
    base = write(tmp_path / "dat.gpkg", "GPKG")
    data = bytearray(base.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 5000] = b"\xff" * 5000
    base.write_bytes(data)
    assert problem(read(con, base)).code == "damaged_file"
    gdb = write(tmp_path / "dat.gdb", "OpenFileGDB")
    table = max(gdb.glob("*.gdbtable"), key=lambda p: p.stat().st_size)
    table.write_bytes(table.read_bytes()[: table.stat().st_size // 2])
    assert problem(read(con, gdb)).code == "damaged_file"
    for suffix in (".shp", ".dbf", ".shx"):
        shp = write(tmp_path / suffix / "dat.shp", "ESRI Shapefile")
        part = shp.with_suffix(suffix)
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
        assert problem(read(con, shp.parent)).code == "damaged_file", suffix
        part.unlink()
        assert problem(read(con, shp.parent)).code in ("damaged_file", "not_a_vector_file"), suffix


def test_what_is_no_vector_file(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    cases = {"a.gpkg": b"<html>504</html>", "b.gpkg": b"SQLite format 3\0" + bytes(2000), "c.zip": b"PK\3\4 no zip", "d.gpkg": b""}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        seen = problem(read(con, tmp_path / name))
        assert seen.code in ("not_a_vector_file", "damaged_file"), name
        assert str(tmp_path) not in str(seen)
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("../../doc.txt", "x")
    assert problem(read(con, tmp_path / "e.zip")).code == "not_a_vector_file"
    assert not (tmp_path.parent.parent / "doc.txt").exists()
    assert problem(read(con, tmp_path / "gone.gpkg")).code == "not_a_vector_file"


def test_a_bad_file_takes_nothing_from_the_others(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    good, other = write(tmp_path / "1.gpkg", "GPKG", parcels(2)), write(tmp_path / "3.gpkg", "GPKG", parcels(3))
    bad = delivery(write(tmp_path / "2.gpkg", "GPKG", degrees()))
    spec = contract(COLUMNS, "vector", crs="EPSG:9212")
    assert set(vector.read(con, spec, [delivery(good), bad, delivery(other)], "cut")) == {bad.delivery_id}
    assert con.execute("SELECT count(*) FROM cut").fetchall() == [(5,)]


def test_the_cadastre_of_washington(con: duckdb.DuckDBPyConnection) -> None:
    path = real_data() / "parcels_dc" / "dc_cadastre_2016.gpkg"
    total = 0
    for layer, _ in pyogrio.list_layers(path):
        assert read(con, path, layer=str(layer), crs="EPSG:4326", columns={"geometry": {"type": "geometry"}}) == {}
        _, _, expected, _ = pyogrio.raw.read(path, layer=layer, columns=[])
        found = rows(con, "_line, _problem, geometry")
        assert [r[0] for r in found] == list(range(1, len(expected) + 1))
        assert [r[1] for r in found] == [None] * len(expected)
        assert shapely.equals_exact(shapely.from_wkb([bytes(r[2]) for r in found]), shapely.from_wkb(expected)).all()
        total += len(found)
    assert total == 12_281
    assert problem(read(con, path, layer="parcel_lots", columns={"geometry": {"type": "geometry"}})).code == "crs_other"
