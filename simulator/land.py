"""The land database: parcels that tile the communes, owners, certificates, changes, prices, plans, statistics.

Geometry is illustrative (cells around a point for each commune); names of people are put together at random.
Parcels come as one file an old district: GeoPackage, two districts as File Geodatabase, one as a TCVN3 Shapefile.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import affinity

from ingestion.encodings import unicode_to_cp1258, unicode_to_tcvn3
from simulator import data_groups
from simulator.files import write_csv, write_vector, write_xlsx
from simulator.manifest import Manifest
from simulator.province import Commune, Province
from simulator.renumbering import BEFORE, COMMUNE, LEAST, renumbered, write_table
from simulator.size import Size

_FAMILY = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Phan", "Vũ", "Đặng", "Bùi", "Đỗ", "Điểu", "Thị", "Lâm", "Hồ")
_MIDDLE = ("Văn", "Thị", "Hữu", "Đức", "Minh", "Ngọc", "Thanh", "Quốc")
_GIVEN = (
    "An",
    "Bình",
    "Cường",
    "Dũng",
    "Giang",
    "Hà",
    "Hùng",
    "Khánh",
    "Lan",
    "Mai",
    "Nam",
    "Oanh",
    "Phúc",
    "Quân",
    "Sơn",
    "Thảo",
    "Tú",
    "Vinh",
    "Yến",
)
_USES = ("CLN", "HNK", "ONT", "ODT", "LUK", "RSX", "NTS", "SKC", "TMD", "DGT", "NTD", "DGD", "SON", "BHK")
_SHARE = (0.46, 0.12, 0.14, 0.06, 0.04, 0.06, 0.02, 0.02, 0.02, 0.02, 0.005, 0.005, 0.01, 0.02)
FGDB_DISTRICTS = ("696", "695")
SHAPEFILE_DISTRICT = "690"


def tile(commune: Commune, count: int, rng: np.random.Generator) -> list[shapely.Polygon]:
    """About `count` parcels that tile the commune without a gap: a grid with shared, shifted corners, cut by its border."""
    x0, y0, x1, y1 = commune.polygon.bounds
    fill = commune.polygon.area / ((x1 - x0) * (y1 - y0))
    # the border cuts cells in two, so that fill n² becomes about fill n² + 1.75 n parcels; a grid of 2 is the smallest
    n = max(2, round(((1.75**2 + 4 * fill * count) ** 0.5 - 1.75) / (2 * fill)))
    gx, gy = np.meshgrid(np.linspace(x0 - 1, x1 + 1, n + 1), np.linspace(y0 - 1, y1 + 1, n + 1))
    shift = 0.28 * np.array([(x1 - x0) / n, (y1 - y0) / n])
    gx[1:-1, 1:-1] += rng.uniform(-shift[0], shift[0], (n - 1, n - 1))
    gy[1:-1, 1:-1] += rng.uniform(-shift[1], shift[1], (n - 1, n - 1))
    corners = np.stack([gx, gy], axis=-1).round(2)
    rings = np.stack([corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1], corners[:-1, :-1]], axis=2).reshape(-1, 5, 2)
    cells = shapely.polygons(rings)
    shapely.prepare(commune.polygon)
    within = shapely.contains_properly(commune.polygon, cells)
    edge = cells[~within & shapely.intersects(commune.polygon, cells)]
    pieces = shapely.get_parts(shapely.intersection(edge, commune.polygon))
    pieces = pieces[shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON]
    return [*cells[within], *pieces[shapely.area(pieces) > 0.06]]


def _person(rng: np.random.Generator) -> str:
    return f"{_FAMILY[rng.integers(len(_FAMILY))]} {_MIDDLE[rng.integers(len(_MIDDLE))]} {_GIVEN[rng.integers(len(_GIVEN))]}"


def write(out: Path, province: Province, seed: int, end: date, size: Size, manifest: Manifest) -> list[dict[str, Any]]:
    """Writes every land source; returns the certificates (for the scans) as dicts."""
    rng = np.random.default_rng([seed, 11])
    stamp = f"{end:%Y%m%d}"
    areas = np.array([c.polygon.area for c in province.communes])
    weight = np.sqrt(areas) / np.sqrt(areas).sum()
    parcels: list[dict[str, Any]] = []
    for commune, share in zip(province.communes, weight, strict=True):
        shapes = tile(commune, max(1, round(size.parcels * share)), rng)
        uses = rng.choice(len(_USES), len(shapes), p=np.array(_SHARE) / sum(_SHARE))
        for number, (shape, use) in enumerate(zip(shapes, uses, strict=True)):
            area = round(shape.area, 1)
            parcels.append(
                {
                    "commune": commune,
                    "sheet": number // 200 + 1,
                    "number": number % 200 + 1,
                    "use": _USES[use],
                    "area": area,
                    "legal": area if rng.random() < 0.9 else round(area * rng.uniform(0.97, 1.03), 1),
                    "shape": shape,
                    "surveyed": date(2021, 1, 1) + timedelta(days=int(rng.integers(0, 1500))),
                }
            )
    for parcel in parcels:
        parcel["id"] = f"{parcel['commune'].code}.{parcel['sheet']}.{parcel['number']}"
    merged = [p for p in parcels if p["commune"].new_code == COMMUNE]
    if len(merged) < LEAST or end <= date(2025, 12, 31):
        merged = []
    by_district = [p for p in parcels if not merged or p["commune"].new_code != COMMUNE]
    earlier = _a_year_before(by_district)
    _plant_defects(by_district, province, manifest)
    parcels = [*by_district, *merged]
    _write_parcels(out, earlier, f"{end.year - 1}1215", manifest)
    _write_parcels(out, by_district, stamp, manifest)
    if merged:
        _write_parcels(out, merged, f"{BEFORE:%Y%m%d}", manifest)
        now, pairs = renumbered(merged, manifest)
        write_vector(out / "parcel_commune" / f"thua_dat_{COMMUNE}_{stamp}.gpkg", "DC_THUADAT", _columns(now), [p["shape"] for p in now])
        manifest.add("parcel_commune", 1, len(now))
        write_table(out, pairs, stamp, manifest)
        data_groups.write(out, COMMUNE, now, np.random.default_rng([seed, 23]), end, manifest)
    # rows that say again what the earlier file said, but for those that no row can be placed with
    said = {(p["id"], p["use"], p["area"], p["shape"]) for p in earlier}
    again = sum((p["id"], p["use"], p["area"], p["shape"]) in said for p in parcels if p["use"] != "XYZ")
    manifest.duplicates["parcel"] += again
    certificates = _write_rights(out, parcels, rng, stamp, end, manifest)
    _write_changes(out, parcels, certificates, rng, stamp, end, size, manifest)
    _write_plans(out, province, parcels, stamp, end, manifest)
    return certificates


def _largest(parcels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parcels of the old district that has most of them, among those that come as GeoPackage."""
    by_district: dict[str, list[dict[str, Any]]] = {}
    for parcel in parcels:
        by_district.setdefault(parcel["commune"].district, []).append(parcel)
    return max((p for d, p in by_district.items() if d not in (*FGDB_DISTRICTS, SHAPEFILE_DISTRICT)), key=len)


def _a_year_before(parcels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One district as it was: every 12th parcel grew crops then, and every 20th had another number."""
    before = [dict(p) for p in _largest(parcels)]
    for parcel in before[1::12]:
        parcel["use"] = "HNK" if parcel["use"] == "CLN" else "CLN"
    for parcel in before[2::20]:
        parcel["number"] += 1000
        parcel["id"] = f"{parcel['commune'].code}.{parcel['sheet']}.{parcel['number']}"
    return before


def _plant_defects(parcels: list[dict[str, Any]], province: Province, manifest: Manifest) -> None:
    """Named, deliberate defects: first those that a parcel keeps (for the marts to find), then those that no row can be placed with."""
    mine = _largest(parcels)
    source = "parcel"
    # the last piece of the last commune lies at its border; the other goes into the middle of a commune that is not its own
    astride, outside, host = mine[-1], mine[2], next(p for p in mine[::-1] if p["commune"].code != mine[2]["commune"].code)["commune"]
    astride["shape"] = shapely.buffer(astride["shape"], 5.0, join_style="mitre")
    manifest.trap(source, "parcel across the border of its commune", astride["id"])
    middle, own = host.polygon.representative_point(), outside["shape"].centroid
    outside["shape"] = affinity.translate(outside["shape"], round(middle.x - own.x, 2), round(middle.y - own.y, 2))
    manifest.trap(source, "parcel outside its commune", outside["id"])
    a, b, c, d, e, f, g, h = mine[3:11]
    a["shape"] = shapely.buffer(a["shape"], 2.0, join_style="mitre")
    manifest.trap(source, "overlap with its neighbours", a["id"])
    b["shape"] = shapely.buffer(b["shape"], -0.4, join_style="mitre")
    manifest.trap(source, "gap around it", b["id"])
    x0, y0, x1, y1 = c["shape"].bounds
    c["shape"] = shapely.polygons([(x0, y0), (x1, y1), (x1, y0), (x0, y1), (x0, y0)])
    manifest.trap(source, "bow-tie", c["id"])
    d["area"] = round(d["area"] * 1.6, 1)
    manifest.trap(source, "area attribute is not the area of the geometry", d["id"])
    g["use"] = "BHK"
    manifest.trap(source, "land-use code of before 2024", g["id"])
    h["use"] = None
    manifest.trap(source, "land-use code missing", h["id"])
    e["use"] = "XYZ"
    manifest.trap(source, "land-use code nobody knows", e["id"], rows=1, reason="unknown_land_use")
    f["id_twice"] = True
    parcels.append({**f, "shape": shapely.transform(f["shape"], lambda xy: xy + 0.5)})
    manifest.trap(source, "the same parcel twice", f["id"], rows=1, reason="key_twice")


def _columns(parcels: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "MAXA": [p["commune"].code for p in parcels],
        "SOHIEUTOBANDO": np.array([p["sheet"] for p in parcels], np.int32),
        "SOTHUTUTHUA": np.array([p["number"] for p in parcels], np.int32),
        "MALOAIDAT": [p["use"] for p in parcels],
        "DIENTICH": [p["area"] for p in parcels],
        "DIENTICHPHAPLY": [p["legal"] for p in parcels],
        "DIACHITHUADAT": [f"Ấp {p['sheet']}, {p['commune'].name}" for p in parcels],
        "NGAYDODAC": [f"{p['surveyed']:%d/%m/%Y}" for p in parcels],
        "TRANGTHAI": ["Đang sử dụng"] * len(parcels),
        "MATHUADAT": [p["id"] for p in parcels],
    }


def _zip(source: Path, target: Path) -> None:
    """Packs a folder with fixed times and removes it."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            archive.writestr(
                zipfile.ZipInfo(f"{source.name}/{path.relative_to(source).as_posix()}", (1980, 1, 1, 0, 0, 0)),
                path.read_bytes(),
                zipfile.ZIP_DEFLATED,
            )
    shutil.rmtree(source)


def _write_parcels(out: Path, parcels: list[dict[str, Any]], stamp: str, manifest: Manifest) -> None:
    districts = sorted({p["commune"].district for p in parcels})
    for district in districts:
        own = [p for p in parcels if p["commune"].district == district]
        columns, shapes = _columns(own), [p["shape"] for p in own]
        if district in FGDB_DISTRICTS:
            folder = out / "parcel" / f"thua_dat_{district}_{stamp}.gdb"
            write_vector(
                folder,
                "DC_THUADAT",
                columns,
                [s if s.geom_type == "MultiPolygon" else shapely.multipolygons([s]) for s in shapes],
                driver="OpenFileGDB",
            )
            _zip(folder, folder.with_name(folder.name + ".zip"))
            manifest.add("parcel", 1, len(own))
        elif district == SHAPEFILE_DISTRICT:
            folder = out / "parcel" / f"thua_dat_{district}_{stamp}.shp"
            folder.mkdir(parents=True)
            # Shapefile names have ten letters; the text is TCVN3, as the district's own software writes it
            short = {
                "MAXA": "MAXA",
                "SOHIEUTOBANDO": "SHBANDO",
                "SOTHUTUTHUA": "SHTHUA",
                "MALOAIDAT": "MALOAIDAT",
                "DIENTICH": "DIENTICH",
                "DIENTICHPHAPLY": "DTPHAPLY",
                "DIACHITHUADAT": "DIACHI",
                "NGAYDODAC": "NGAYDO",
                "TRANGTHAI": "TRANGTHAI",
                "MATHUADAT": "MATHUADAT",
            }
            coded = {short[k]: [unicode_to_tcvn3(x).decode("latin-1") if isinstance(x, str) else x for x in v] for k, v in columns.items()}
            write_vector(folder / "thua_dat.shp", "thua_dat", coded, shapes, driver="ESRI Shapefile", encoding="ISO-8859-1")
            (folder / "thua_dat.cpg").unlink(missing_ok=True)
            _zip(folder, folder.with_name(folder.name + ".zip"))
            manifest.add("parcel", 1, len(own))
        else:
            write_vector(out / "parcel" / f"thua_dat_{district}_{stamp}.gpkg", "DC_THUADAT", columns, shapes)
            manifest.add("parcel", 1, len(own))


def _write_rights(
    out: Path, parcels: list[dict[str, Any]], rng: np.random.Generator, stamp: str, end: date, manifest: Manifest
) -> list[dict[str, Any]]:
    """Owners (a workbook with personal data) and certificates (Windows-1258, as the old registry exports them)."""
    owners: list[list[Any]] = []
    for i in range(max(10, int(len(parcels) * 0.6))):
        code = 1 if rng.random() < 0.94 else 2
        name = _person(rng) if code == 1 else f"Công ty TNHH {_GIVEN[rng.integers(len(_GIVEN))]} {_GIVEN[rng.integers(len(_GIVEN))]}"
        owners.append(
            [
                f"CSD{i + 1:06d}",
                code,
                name,
                int(rng.integers(1945, 2005)) if code == 1 else None,
                f"070{rng.integers(0, 10**9):09d}" if rng.random() < 0.97 else None,
                f"Ấp {rng.integers(1, 12)}",
                f"09{rng.integers(0, 10**8):08d}",
            ]
        )
    owners[4][1] = 99
    manifest.trap("land_owner", "party type nobody knows", owners[4][0], rows=1, reason="unknown_party_type")
    write_xlsx(
        out / "land_owner" / f"chu_su_dung_{stamp}.xlsx",
        "Chủ sử dụng",
        ["Mã chủ", "Loại chủ", "Họ tên", "Năm sinh", "Số giấy tờ", "Địa chỉ", "Điện thoại"],
        owners,
    )
    manifest.add("land_owner", 1, len(owners))
    certificates: list[dict[str, Any]] = []
    for i, parcel in enumerate(p for p in parcels if not p.get("id_twice")):
        if rng.random() < 0.82:
            serial = f"{'ABCDGHK'[rng.integers(7)]}{'ABDEKLM'[rng.integers(7)]} {rng.integers(0, 10**6):06d}"
            certificates.append(
                {
                    "id": f"GCN{i + 1:07d}",
                    "serial": serial,
                    "book": f"CS{rng.integers(0, 10**5):05d}",
                    "parcel": parcel["id"],
                    "owner": owners[int(rng.integers(len(owners)))][0],
                    "type": int(rng.choice([1, 2, 3])),
                    "issued": max(parcel["surveyed"], date(2021, 3, 1)),
                    "status": "Đang hiệu lực" if rng.random() < 0.97 else "Đã thu hồi",
                    "commune": parcel["commune"].code,
                    "new_code": parcel["commune"].new_code,
                }
            )
    written = _with_defects(certificates, end, manifest)
    odd = ("{}", "{}", "{}", "N/A-{}", "{}.", " {} ")
    write_csv(
        out / "land_certificate" / f"gcn_{stamp}.csv",
        ["Mã GCN", "Số phát hành", "Số vào sổ", "Mã thửa", "Mã chủ", "Loại GCN", "Ngày cấp", "Trạng thái", "Mã xã"],
        (
            [
                c["id"],
                odd[0 if c["serial"][0] != "K" else i % 6].format(c["serial"]).replace("N/A-", ""),
                c["book"],
                c["parcel"],
                c["owner"],
                c["type"],
                f"{c['issued']:%d/%m/%Y}",
                c["status"],
                c["commune"],
            ]
            for i, c in enumerate(written)
        ),
        delimiter=";",
        encode=unicode_to_cp1258,
    )
    manifest.add("land_certificate", 1, len(written))
    return certificates


def _with_defects(certificates: list[dict[str, Any]], end: date, manifest: Manifest) -> list[dict[str, Any]]:
    """The certificates as the old registry exports them: one of each defect that marts_land.certificate_issue looks for in them alone."""
    written = [dict(c) for c in certificates]
    plain = [c for c in written if c["serial"][0] != "K" and c["status"] == "Đang hiệu lực"]
    plain[1]["serial"] = plain[0]["serial"]
    manifest.trap("land_certificate", "serial_twice", f"{plain[0]['parcel']} {plain[1]['parcel']}")
    written.append(plain[2] | {"id": "GCN9000001", "serial": "ZZ 000001"})
    manifest.trap("land_certificate", "two_valid_on_parcel", plain[2]["parcel"])
    plain[3]["parcel"] = f"{plain[3]['commune']}.999.999"
    manifest.trap("land_certificate", "no_parcel", plain[3]["parcel"])
    plain[4]["issued"] = end + timedelta(days=10)
    manifest.trap("land_certificate", "date_order", plain[4]["parcel"])
    filled = next((c for c in plain[5:] if c["new_code"] == COMMUNE), plain[5])
    filled["book"] = "--\\--"
    manifest.trap("land_certificate", "placeholder", filled["parcel"])
    return written


def _write_changes(
    out: Path,
    parcels: list[dict[str, Any]],
    certificates: list[dict[str, Any]],
    rng: np.random.Generator,
    stamp: str,
    end: date,
    size: Size,
    manifest: Manifest,
) -> None:
    codes = ("CN", "TA", "TK", "TC", "XC", "CM", "TN", "CL", "GH", "SN")
    rows = []
    for i in range(max(20, size.parcels // 12)):
        certificate = certificates[int(rng.integers(len(certificates)))]
        on = end - timedelta(days=int(rng.integers(1, 700)))
        rows.append([f"BD{i + 1:07d}", certificate["parcel"], codes[int(rng.integers(len(codes)))], on, certificate["id"], None, f"{on} 16:30:00"])
    write_csv(
        out / "land_change" / f"bien_dong_{stamp}.csv",
        ["Mã biến động", "Mã thửa", "Loại biến động", "Ngày biến động", "Mã GCN", "Mã hồ sơ", "Cập nhật lúc"],
        ([*r[:3], f"{r[3]:%d/%m/%Y}", *r[4:]] for r in rows),
    )
    manifest.add("land_change", 1, len(rows))
    live = out.parent / "postgis"
    live.mkdir(parents=True, exist_ok=True)
    lines = [
        "CREATE EXTENSION IF NOT EXISTS postgis;",
        "CREATE SCHEMA IF NOT EXISTS vbdlis;",
        "CREATE TABLE IF NOT EXISTS vbdlis.bien_dong (ma_bien_dong text PRIMARY KEY, ma_thua text, loai text, ngay date, ma_gcn text, ma_ho_so text,"
        " cap_nhat timestamp, vi_tri geometry(Point, 9212));",
    ]
    place = {p["id"]: p["shape"].representative_point() for p in parcels}
    for r in rows[: len(rows) // 2]:
        point = place[r[1]]
        lines.append(
            f"INSERT INTO vbdlis.bien_dong VALUES ('L{r[0]}', '{r[1]}', '{r[2]}', '{r[3]}', '{r[4]}', NULL, '{r[6]}', "
            f"ST_SetSRID(ST_MakePoint({point.x:.2f}, {point.y:.2f}), 9212)) ON CONFLICT DO NOTHING;"
        )
    (live / "land_change.sql").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_plans(out: Path, province: Province, parcels: list[dict[str, Any]], stamp: str, end: date, manifest: Manifest) -> None:
    """Prices, plan zones and last year's statistics."""
    prices: list[list[Any]] = []
    for i, commune in enumerate(province.communes):
        for use, base in (("ONT", 900), ("CLN", 90), ("HNK", 70)):
            for position in (1, 2, 3):
                prices.append(
                    [
                        f"GD{len(prices) + 1:05d}",
                        commune.code,
                        f"Khu vực {position}, {commune.name}",
                        use,
                        position,
                        round(base * (1 + (i % 9) / 6) / position),
                        date(2025, 1, 1),
                        None,
                    ]
                )
    write_xlsx(
        out / "land_price" / f"bang_gia_dat_{stamp}.xlsx",
        "Bảng giá",
        ["Mã giá", "Mã xã", "Đường/khu vực", "Loại đất", "Vị trí", "Giá (nghìn đồng/m2)", "Từ ngày", "Đến ngày"],
        prices,
    )
    manifest.add("land_price", 1, len(prices))
    zones: list[list[Any]] = []
    shapes: list[shapely.Polygon] = []
    for commune in province.communes:
        x0, y0, x1, y1 = commune.polygon.bounds
        for k, use in enumerate(("SKK", "ODT", "CLN")):
            box = shapely.box(x0 + (x1 - x0) * k / 3, y0, x0 + (x1 - x0) * (k + 1) / 3, y1)
            shape = shapely.intersection(box, commune.polygon)
            for part in shapely.get_parts(shape):
                if part.geom_type == "Polygon" and part.area > 1:
                    zones.append(
                        [f"QH{len(zones) + 1:05d}", "Quy hoạch sử dụng đất 2021–2030", "2021-2030", use, commune.code, round(part.area / 10_000, 2)]
                    )
                    shapes.append(part)
    columns = {name: [z[i] for z in zones] for i, name in enumerate(["MAQH", "TENQH", "KYQH", "MALOAIDAT", "MAXA", "DIENTICH_HA"])}
    write_vector(out / "land_plan" / f"quy_hoach_{stamp}.gpkg", "QH_MDSD", columns, shapes)
    manifest.add("land_plan", 1, len(zones))
    totals: dict[tuple[str, str], float] = {}
    for parcel in parcels:
        if parcel["use"] not in ("XYZ", None):
            key = (parcel["commune"].code, "HNK" if parcel["use"] == "BHK" else parcel["use"])
            totals[key] = totals.get(key, 0.0) + parcel["area"]
    rows = [[end.year - 1, commune, use, round(area / 10_000, 4)] for (commune, use), area in sorted(totals.items())]
    write_xlsx(out / "land_statistic" / f"thong_ke_{stamp}.xlsx", "Biểu 01", ["Năm", "Mã xã", "Loại đất", "Diện tích (ha)"], rows)
    manifest.add("land_statistic", 1, len(rows))
