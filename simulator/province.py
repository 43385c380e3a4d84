"""Communes, facilities, stations and their registers: the part of the province that the other parts refer to."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer

from simulator.files import write_vector, write_xlsx
from simulator.registers import write_channel_register, write_period_register, write_station_register
from simulator.size import Size

MATRICES = {"wastewater": "Nước thải", "emission": "Khí thải", "surface_water": "Nước mặt", "ambient_air": "Không khí xung quanh"}
TYPE_POINT = {"wastewater": "NUOTHA", "emission": "KHIONG", "surface_water": "NUOMAT", "ambient_air": "KHIKXQ"}
PARAMETERS = {
    "wastewater": ("Flow_in", "Flow_out", "pH", "Temp", "COD", "TSS", "NH4", "Color"),
    "emission": ("PM", "SO2", "NOx", "CO", "O2", "Temp", "P", "Flow"),
    "surface_water": ("Temp", "pH", "DO", "EC", "Turbidity", "TSS", "NH4", "N-NO3"),
    "ambient_air": ("Temp", "RH", "WindSpeed", "WindDir", "SolarRad", "TSP", "PM10", "PM2.5", "PM1", "NO", "NO2", "NOx", "SO2", "CO", "O3"),
}
RANGES = {
    "pH": (0, 14),
    "Temp": (-10, 400),
    "RH": (0, 100),
    "WindDir": (0, 360),
    "SolarRad": (0, 1500),
    "WindSpeed": (0, 60),
    "O2": (0, 25),
    "DO": (0, 25),
    "PM2.5": (0, 1000),
    "PM10": (0, 2000),
    "COD": (0, 5000),
    "TSS": (0, 5000),
}
SECTORS = (
    "Chế biến cao su",
    "Chế biến hạt điều",
    "Tinh bột sắn",
    "Dệt nhuộm",
    "Chăn nuôi heo tập trung",
    "Khu công nghiệp",
    "Xi măng",
    "Sản xuất gỗ",
    "Giấy và bao bì",
    "Xử lý chất thải",
)
_WORDS = (
    "Bình Minh",
    "Phú Lợi",
    "Hưng Thịnh",
    "Tân Tiến",
    "Đại Lộc",
    "Thành Công",
    "Sông Bé",
    "Minh Hưng",
    "An Khang",
    "Việt Phát",
    "Hòa Bình",
    "Trường Sơn",
    "Đông Á",
    "Nam Sơn",
    "Lộc An",
    "Phước Thịnh",
    "Quang Minh",
    "Thái Dương",
    "Hoàng Gia",
    "Tín Nghĩa",
)


@dataclass(frozen=True)
class Commune:
    """An old commune with its new one and its illustrative polygon (EPSG:9212)."""

    code: str
    name: str
    district: str
    new_code: str
    lon: float
    lat: float
    polygon: shapely.Polygon


@dataclass(frozen=True)
class Facility:
    """An invented facility."""

    facility_id: str
    name: str
    sector: str
    commune: Commune
    lon: float
    lat: float
    capacity: float
    duties: dict[str, Any]
    """What decides whether a station must be installed: header of the register -> cell."""


@dataclass(frozen=True)
class Station:
    """A station and how its logger writes: spelling of names and units, decimal sign, line end, BOM."""

    code: str
    name: str
    matrix: str
    commune: Commune
    lon: float
    lat: float
    facility: Facility | None
    index: int
    names: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    comma: bool = False
    line_end: str = "\r\n"
    bom: bool = False
    standard: str = ""
    standard_class: str | None = None


@dataclass(frozen=True)
class Province:
    """Everything that other parts of the sample refer to."""

    communes: list[Commune]
    facilities: list[Facility]
    stations: list[Station]
    units: dict[tuple[str, str], str]
    land_use: list[str]


def read_seed(reference: Path, name: str) -> list[dict[str, str]]:
    """Rows of one reference table."""
    with (reference / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _places(old: list[dict[str, str]], new: list[dict[str, str]]) -> list[tuple[float, float]]:
    """Longitude and latitude of each old commune; where none is known, the point of the new commune that kept its code."""
    later = {r["unit_code"]: r for r in new}
    return [(float(r["lon"]), float(r["lat"])) for r in (r if r["lon"] else later[r["unit_code"]] for r in old)]


def _communes(reference: Path) -> list[Commune]:
    successor = {r["old_commune_code"]: r["new_commune_code"] for r in read_seed(reference, "commune_successor")}
    units = [r for r in read_seed(reference, "administrative_unit") if r["level"] == "commune"]
    rows = [r for r in units if r["valid_to"] == "2025-06-30"]
    places = _places(rows, [r for r in units if r["valid_from"] == "2025-07-01"])
    to_metres = Transformer.from_crs("EPSG:4326", "EPSG:9212", always_xy=True)
    x, y = to_metres.transform([lon for lon, _ in places], [lat for _, lat in places])
    points = shapely.points(x, y)
    # no official polygons may be redistributed: cells around the points, inside a plausible outline
    outline = shapely.buffer(shapely.concave_hull(shapely.multipoints(points), ratio=0.25), 6_000).simplify(500)
    cells = shapely.get_parts(shapely.voronoi_polygons(shapely.multipoints(points), extend_to=outline))
    tree = shapely.STRtree(cells)
    inside = shapely.set_precision(shapely.intersection(cells[[int(tree.query(p, predicate="within")[0]) for p in points]], outline), 0.001)
    return [
        Commune(r["unit_code"], r["unit_name"], r["parent_code"], successor[r["unit_code"]], *place, polygon)
        for r, place, polygon in zip(rows, places, inside, strict=True)
    ]


def build(reference: Path, seed: int, size: Size) -> Province:
    """The province of (seed, size), from the reference tables in `reference`."""
    rng = random.Random(seed)
    communes = _communes(reference)
    units = {(r["matrix"], r["parameter"]): r["unit"] for r in read_seed(reference, "parameter")}
    spellings: dict[str, list[str]] = {}
    for row in read_seed(reference, "parameter_alias"):
        spellings.setdefault(row["parameter"], []).append(row["name_in_file"])
    same_unit: dict[str, list[str]] = {}
    for row in read_seed(reference, "unit_alias"):
        if row["factor"] == "1" and row["offset"] == "0" and row["parameter"] == "" and row["unit_text"]:
            same_unit.setdefault(row["unit"], []).append(row["unit_text"])
    facilities = []
    for i in range(max(3, round(size.wastewater * 0.85))):
        commune = rng.choice(communes)
        lon, lat = commune.lon + rng.uniform(-0.02, 0.02), commune.lat + rng.uniform(-0.02, 0.02)
        sector = SECTORS[i % len(SECTORS)]
        facilities.append(
            Facility(
                f"CS{i + 1:04d}",
                f"Công ty {rng.choice(_WORDS)} {rng.choice(_WORDS)} ({sector.lower()} {i + 1})",
                sector,
                commune,
                lon,
                lat,
                float(rng.choice((200, 350, 500, 800, 1000, 1500, 2500, 5000, 10_000))),
                _duties(seed, i, commune.name),
            )
        )
    stations: list[Station] = []
    for matrix, count in (
        ("wastewater", size.wastewater),
        ("emission", size.emission),
        ("surface_water", size.surface_water),
        ("ambient_air", size.ambient_air),
    ):
        for i in range(count):
            facility = facilities[i % len(facilities)] if matrix in ("wastewater", "emission") else None
            commune = facility.commune if facility else communes[(i * 17 + 3) % len(communes)]
            lon = facility.lon + 0.001 * (i // len(facilities)) if facility else commune.lon
            lat = facility.lat + (0.0008 if matrix == "emission" else 0) if facility else commune.lat
            letters = "".join(chr(65 + (i // 26**k) % 26) for k in (2, 1, 0))
            code = f"BP_{matrix[0].upper()}{letters}_{TYPE_POINT[matrix]}"
            names, texts = {}, {}
            for parameter in PARAMETERS[matrix]:
                unit = units[matrix, parameter]
                odd = rng.random() < 0.25
                names[parameter] = rng.choice([s for s in spellings.get(parameter, []) if s != "Flow"] or [parameter]) if odd else parameter
                texts[parameter] = (
                    "" if parameter == "pH" and rng.random() < 0.5 else rng.choice(same_unit.get(unit, [unit])) if rng.random() < 0.3 else unit
                )
            standard, class_ = {
                "wastewater": ("QCVN 40:2011/BTNMT", rng.choice("AB")),
                "emission": ("QCVN 19:2009/BTNMT", "B"),
                "surface_water": ("QCVN 08:2023/BTNMT", "B"),
                "ambient_air": ("QCVN 05:2023/BTNMT", None),
            }[matrix]
            label = (
                f"{'Trạm nước thải' if matrix == 'wastewater' else 'Trạm khí thải'} {facility.name}"
                if facility
                else (f"{'Trạm nước mặt' if matrix == 'surface_water' else 'Trạm không khí'} {commune.name}")
            )
            stations.append(
                Station(
                    code,
                    label,
                    matrix,
                    commune,
                    lon,
                    lat,
                    facility,
                    len(stations),
                    names,
                    texts,
                    comma=rng.random() < 0.12,
                    line_end="\n" if rng.random() < 0.2 else "\r\n",
                    bom=rng.random() < 0.08,
                    standard=standard,
                    standard_class=class_,
                )
            )
    facilities += _without_station(seed, communes, len(facilities))
    land_use = [r["land_use_code"] for r in read_seed(reference, "land_use_code")]
    return Province(communes, facilities, stations, units, land_use)


def _duties(seed: int, index: int, commune: str) -> dict[str, Any]:
    """A facility's answers to the questions of the obligation classes (QĐ 355/QĐ-STNMT II.1.3)."""
    rng = random.Random(f"{seed}-duties-{index}")

    def yes(share: float) -> str:
        return "Có" if rng.random() < share else "Không"

    return {
        "Lưu vực": rng.choice(("Sông Bé", "Sông Sài Gòn", "Sông Đồng Nai")),
        "Khu, cụm công nghiệp": yes(0.1),
        "Đấu nối xử lý tập trung": yes(0.15),
        "Nguy cơ ô nhiễm": yes(0.5),
        "Xử lý chất thải": yes(0.06),
        "Lò đốt chất thải": yes(0.05),
        "Dùng phế liệu nhập khẩu": yes(0.05),
        "Thuộc đối tượng ĐTM": yes(0.6),
        "Khí thải lưu lượng lớn": yes(0.2),
        "Số lần phạt nước thải": rng.choice((0, 0, 0, 0, 1, 2)),
        "Số lần phạt khí thải": rng.choice((0, 0, 0, 0, 0, 1, 3)),
        "Địa chỉ": f"{rng.randint(1, 300)} đường ĐT {rng.choice((741, 755, 757))}, {commune}",
    }


def _without_station(seed: int, communes: list[Commune], known: int) -> list[Facility]:
    """Facilities that no station reports on yet: one for eight that have some."""
    rng = random.Random(f"{seed}-without-station")
    found = []
    for i in range(known, known + max(2, known // 8)):
        commune, sector = rng.choice(communes), SECTORS[i % len(SECTORS)]
        name = f"Công ty {rng.choice(_WORDS)} {rng.choice(_WORDS)} ({sector.lower()} {i + 1})"
        capacity = float(rng.choice((350, 500, 1000, 2500)))
        found.append(Facility(f"CS{i + 1:04d}", name, sector, commune, commune.lon, commune.lat, capacity, _duties(seed, i, commune.name)))
    return found


def write_registers(out: Path, province: Province, end: date, size: Size) -> None:
    """Station, channel and facility registers and the commune boundaries, as their keepers would hand them over."""
    stamp = f"{end:%Y%m%d}"
    start = end - timedelta(days=size.hourly_days + size.file_days - 1)
    switch = datetime.combine(end - timedelta(days=size.file_days - 1), datetime.min.time())
    write_xlsx(
        out / "facility_register" / f"co_so_{stamp}.xlsx",
        "Cơ sở",
        [
            "Mã cơ sở",
            "Tên cơ sở",
            "Ngành nghề",
            "Mã xã (cũ)",
            "Mã xã (mới)",
            "Kinh độ",
            "Vĩ độ",
            "Công suất thiết kế (m3/ngày)",
            "Số GPMT",
            "Ngày GPMT",
            *province.facilities[0].duties,
        ],
        (
            [
                f.facility_id,
                f.name,
                f.sector,
                f.commune.code,
                f.commune.new_code,
                round(f.lon, 6),
                round(f.lat, 6),
                f.capacity,
                f"{100 + i}/GPMT-UBND",
                date(2023, 1 + i % 12, 1 + i % 28),
                *f.duties.values(),
            ]
            for i, f in enumerate(province.facilities)
        ),
    )
    factors = {"wastewater": {"kq": 0.9, "kf": 1.1}, "emission": {"kp": 1.0, "kv": 1.0}}
    write_station_register(
        out / "station_register" / f"tram_{stamp}.xlsx",
        (
            {
                "station_id": s.code,
                "station_name": s.name,
                "facility_id": s.facility.facility_id if s.facility else None,
                "matrix": MATRICES[s.matrix],
                "old_commune": s.commune.code,
                "commune": s.commune.new_code,
                "lon": round(s.lon, 6),
                "lat": round(s.lat, 6),
                "standard": s.standard,
                "standard_class": s.standard_class,
                **factors.get(s.matrix, {}),
                "in_use_from": date(2022, 1, 1),
                "contact": "Phòng Quan trắc",
                "permit": f"{100 + s.index}/GPMT-UBND" if s.facility else None,
                "calibrated_on": end - timedelta(days=20 + s.index % 60),
                # a few are past their date, so that the list of what wants attention has a story
                "verified_until": end - timedelta(days=10) if s.index % 7 == 3 else end + timedelta(days=30 + s.index * 5),
            }
            for s in province.stations
        ),
    )
    older = {"valid_from": "01/01/2022", "valid_to": f"{end - timedelta(days=1):%d/%m/%Y}"}
    # every third wastewater station discharged more under the permit before; emission permits name the oxygen of the stack
    periods = [
        {
            "station_id": s.code,
            "standard": s.standard,
            "standard_class": s.standard_class,
            "kq": "0.9",
            "kf": "1.0",
            "permit": f"{s.index}/GP-STNMT",
            **older,
        }
        for s in province.stations
        if s.matrix == "wastewater" and s.index % 3 == 1
    ] + [
        {
            "station_id": s.code,
            "standard": s.standard,
            "standard_class": s.standard_class,
            "kp": "1.0",
            "kv": "1.0",
            "reference_oxygen": "7",
            "permit": f"{100 + s.index}/GPMT-UBND",
            "valid_from": "01/01/2022",
        }
        for s in province.stations
        if s.matrix == "emission" and s.index % 2 == 0
    ]
    write_period_register(out / "station_period_register" / f"thoi_ky_{stamp}.csv", periods)
    rows = []
    for s in province.stations:
        for parameter in PARAMETERS[s.matrix]:
            low, high = RANGES.get(parameter, (0, 1_000_000))
            if s.matrix == "emission" and parameter == "Temp":
                low, high = 0, 600
            name = s.names[parameter] if s.names[parameter] != parameter else None
            spans = [(60, datetime.combine(start, datetime.min.time()), switch), (5, switch, None)] if size.hourly_days else [(5, switch, None)]
            rows += [
                {
                    "station_id": s.code,
                    "parameter": parameter,
                    "unit": province.units[s.matrix, parameter],
                    "minutes": minutes,
                    "valid_from": f"{since:%d/%m/%Y %H:%M}",
                    "valid_to": f"{until:%d/%m/%Y %H:%M}" if until else "",
                    "name_in_file": name,
                    "range_min": low,
                    "range_max": high,
                }
                for minutes, since, until in spans
            ]
    write_channel_register(out / "station_channel_register" / f"thong_so_{stamp}.csv", rows)
    write_vector(
        out / "commune_boundary" / f"ranh_gioi_xa_{stamp}.gpkg",
        "ranh_gioi_xa",
        {
            "MAXA": [c.code for c in province.communes],
            "TENXA": [c.name for c in province.communes],
            "MINHHOA": np.ones(len(province.communes), dtype=np.int32),
        },
        [c.polygon for c in province.communes],
    )
